//! What the documents say, tried: the README's walk-through is run, and what README and docs/ name of commands, exit
//! codes, policy keys, modules and tests is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keys::cli::Exit;

use crate::support::{Sandbox, tests};

tests!["documents":
    the_walk_through_does_what_it_shows,
    a_person_gets_an_ssh_certificate_as_shown needs [SshKeygen],
    drill_audit needs [Gpg, GpgConf, Openssl],
    drill_compromised_pop,
    drill_damaged_keyring,
    drill_emergency,
    drill_join,
    drill_lint needs [SshKeygen],
    drill_log_key,
    drill_lost_operator_key,
    drill_mesh,
    drill_operator_leaves,
    drill_pop_cut_off,
    drill_rotate_due_keys,
    drill_second_operator,
    drill_ssh needs [SshKeygen],
    every_drill_is_run,
    commands_that_are_named_exist,
    every_command_is_in_the_readme,
    every_exit_code_is_in_the_readme,
    every_policy_key_is_documented,
    examples_in_help_are_understood,
    links_lead_somewhere,
    tests_that_are_named_exist,
    the_map_is_that_of_the_code,
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// README, SECURITY and everything under docs/: path from the root, and text.
fn documents() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo: Vec<PathBuf> = ["README.md", "SECURITY.md", "docs"].map(|n| root().join(n)).to_vec();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "md") {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    assert!(found.len() > 20, "the documents were found: {:?}", found.keys());
    found
}

// --- Sessions ---------------------------------------------------------------------------------------------------------

/// A line of a session: what is typed, the exit code it should end with, and lines of what it then prints.
struct Step {
    line: String,
    exit: i32,
    shows: Vec<String>,
}

/// The sessions below a heading of a document: the lines of its `console` blocks. `$ ` begins what is typed; `# exit N`
/// at its end names an exit code other than 0.
fn session(document: &str, heading: &str) -> Vec<Step> {
    let text = read(document);
    let section = text.lines().skip_while(|l| *l != heading).skip(1);
    let mut steps: Vec<Step> = Vec::new();
    let (mut fenced, mut console) = (false, false);
    for line in section {
        if let Some(language) = line.strip_prefix("```") {
            fenced = !fenced;
            console = fenced && language == "console";
        } else if !fenced && line.starts_with('#') {
            // The next heading, a deeper one, too: its session is one of its own.
            break;
        } else if let (true, Some(typed)) = (console, line.strip_prefix("$ ")) {
            let (line, exit) = match typed.split_once("  # exit ") {
                Some((line, code)) => (line, code.parse().unwrap()),
                None => (typed, 0),
            };
            steps.push(Step { line: line.to_owned(), exit, shows: Vec::new() });
        } else if console {
            let step = steps.last_mut().unwrap_or_else(|| panic!("{document}: '{line}' before anything was typed"));
            step.shows.push(line.to_owned());
        }
    }
    assert!(!steps.is_empty(), "{document} has a session under '{heading}'");
    steps
}

/// Types a session in a sandbox, line by line, with the program on PATH. `export` holds for the lines after it.
fn run_session(sandbox: &Sandbox, document: &str, steps: &[Step]) {
    let program = Path::new(env!("CARGO_BIN_EXE_keys"));
    let mut exports = String::new();
    for step in steps {
        if step.line.starts_with("export ") {
            exports.push_str(&step.line);
            exports.push('\n');
            continue;
        }
        let output = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("exec 2>&1\n{exports}{}", step.line))
            .env_clear()
            .env("HOME", sandbox.root())
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display()))
            .current_dir(sandbox.root())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(step.exit), "{document}: {}\n{said}", step.line);
        let mut lines = said.lines();
        for shown in &step.shows {
            assert!(
                lines.any(|line| shows(shown, line)),
                "{document}: {}\nshould show, in this order: {shown}\n--- it says\n{said}",
                step.line
            );
        }
    }
}

/// Whether a line is what the document shows, where `…` stands for anything but nothing, and any white space for any other.
fn shows(shown: &str, line: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    fits(&plain(shown), &plain(line))
}

fn fits(shown: &str, line: &str) -> bool {
    match shown.split_once('…') {
        None => shown == line,
        Some((head, tail)) => line.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(i, c)| i + c.len_utf8()).any(|i| fits(tail, rest.get(i..).unwrap_or_default()))
        }),
    }
}

fn the_walk_through_does_what_it_shows(sandbox: &Sandbox) {
    let steps = session("README.md", "## Walk-through");
    for verb in
        ["init", "enroll", "approve", "seal", "open", "rotate", "revoke", "wg render", "ssh render", "log verify"]
    {
        assert!(steps.iter().any(|s| s.line.contains(verb)), "the walk-through shows {verb}");
    }
    run_session(sandbox, "README.md", &steps);
}

fn a_person_gets_an_ssh_certificate_as_shown(sandbox: &Sandbox) {
    let all = session("README.md", "## Walk-through");
    let joined = all.iter().position(|s| s.line.starts_with("keys approve --all")).unwrap();
    let mut steps: Vec<Step> = all.into_iter().take(joined + 1).collect();
    steps.extend(session("README.md", "### An SSH certificate for a person"));
    run_session(sandbox, "README.md", &steps);
}

/// Carries out the section `## Drill` of a runbook.
fn drill(sandbox: &Sandbox, runbook: &str) {
    let document = format!("docs/runbooks/{runbook}.md");
    run_session(sandbox, &document, &session(&document, "## Drill"));
}

fn drill_audit(sandbox: &Sandbox) {
    drill(sandbox, "audit");
}

fn drill_compromised_pop(sandbox: &Sandbox) {
    drill(sandbox, "compromised-pop");
}

fn drill_damaged_keyring(sandbox: &Sandbox) {
    drill(sandbox, "damaged-keyring");
}

fn drill_emergency(sandbox: &Sandbox) {
    drill(sandbox, "emergency");
}

fn drill_join(sandbox: &Sandbox) {
    drill(sandbox, "join");
}

fn drill_lint(sandbox: &Sandbox) {
    drill(sandbox, "lint");
}

fn drill_log_key(sandbox: &Sandbox) {
    drill(sandbox, "log-key");
}

fn drill_lost_operator_key(sandbox: &Sandbox) {
    drill(sandbox, "lost-operator-key");
}

fn drill_mesh(sandbox: &Sandbox) {
    drill(sandbox, "mesh");
}

fn drill_operator_leaves(sandbox: &Sandbox) {
    drill(sandbox, "operator-leaves");
}

fn drill_pop_cut_off(sandbox: &Sandbox) {
    drill(sandbox, "pop-cut-off");
}

fn drill_rotate_due_keys(sandbox: &Sandbox) {
    drill(sandbox, "rotate-due-keys");
}

fn drill_second_operator(sandbox: &Sandbox) {
    drill(sandbox, "second-operator");
}

fn drill_ssh(sandbox: &Sandbox) {
    drill(sandbox, "ssh");
}

fn every_drill_is_run(_: &Sandbox) {
    let written: BTreeSet<String> = documents()
        .into_iter()
        .filter(|(_, text)| text.contains("\n## Drill\n"))
        .map(|(name, _)| name.trim_start_matches("docs/runbooks/").trim_end_matches(".md").replace('-', "_"))
        .collect();
    let run: BTreeSet<String> =
        tests().iter().filter_map(|t| t.name.strip_prefix("documents::drill_")).map(str::to_owned).collect();
    assert_eq!(written, run);
}

// --- Commands -----------------------------------------------------------------------------------------------------------

/// Every command with its help, by its words: `wg render`. Groups are in it, too.
fn commands(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![Vec::<String>::new()];
    while let Some(words) = todo.pop() {
        let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = sandbox.keys(&args).ok();
        let listed = help.split("\nCommands:\n").nth(1).and_then(|t| t.split("\n\n").next()).unwrap_or_default();
        for line in listed.lines().filter(|l| l.starts_with("  ") && !l.starts_with("   ")) {
            let word = line.split_whitespace().next().unwrap();
            if word != "help" {
                todo.push(words.iter().cloned().chain([word.to_owned()]).collect());
            }
        }
        found.insert(words.join(" "), help);
    }
    assert!(found.len() > 35 && found.contains_key("ssh sign host"), "{:?}", found.keys());
    found
}

fn is_group(help: &str) -> bool {
    help.contains("\nCommands:\n")
}

/// Every `keys …` in backquotes, and every line of a `console` or `sh` block that begins with it, names a command.
fn commands_that_are_named_exist(sandbox: &Sandbox) {
    let commands = commands(sandbox);
    let mut count = 0;
    let mut wrong = Vec::new();
    for (document, text) in documents() {
        let mut mentions: Vec<String> = Vec::new();
        let mut fenced = false;
        for line in text.lines() {
            if line.starts_with("```") {
                fenced = !fenced;
            } else if fenced {
                // Also behind a pipe: `printf … | keys seal …`.
                let typed = line.trim_start_matches("$ ");
                let parts = typed.split(" | ").map(str::trim);
                mentions.extend(parts.filter(|p| p.starts_with("keys ")).map(str::to_owned));
            } else {
                let quoted = line.split('`').skip(1).step_by(2);
                mentions.extend(quoted.filter(|q| q.starts_with("keys ")).map(str::to_owned));
            }
        }
        for mention in mentions {
            let mut words = mention.split_whitespace().skip(1).peekable();
            // Common options may stand in front.
            while let Some(option) = words.next_if(|w| w.starts_with('-')) {
                if matches!(option, "--fleet" | "--home" | "--pin" | "--color") {
                    words.next();
                }
            }
            let (mut path, mut rest) = (String::new(), None);
            for word in words {
                let longer = if path.is_empty() { word.to_owned() } else { format!("{path} {word}") };
                if !commands.contains_key(&longer) {
                    rest = Some(word);
                    break;
                }
                path = longer;
            }
            count += 1;
            // A word after a group (`wg`, `keys` itself) that is none of its commands is a mistake.
            let plain =
                rest.is_some_and(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !w.starts_with('-'));
            if plain && commands.get(&path).is_some_and(|help| is_group(help)) {
                wrong.push(format!("{document}: {mention}"));
            }
        }
    }
    assert!(count > 100, "{count} mentions were found");
    assert!(wrong.is_empty(), "no such command:\n{}", wrong.join("\n"));
}

fn every_command_is_in_the_readme(sandbox: &Sandbox) {
    let readme = read("README.md");
    let table: String = readme.lines().filter(|l| l.starts_with("| `keys ")).collect();
    for (command, _) in commands(sandbox).iter().filter(|(c, help)| !c.is_empty() && !is_group(help)) {
        assert!(table.contains(&format!("`keys {command}`")), "the README's table lacks 'keys {command}'");
    }
    assert!(readme.lines().count() <= 200, "the README is read to its end");
}

fn every_exit_code_is_in_the_readme(_: &Sandbox) {
    let readme = read("README.md");
    let rows: BTreeMap<&str, &str> =
        readme.lines().filter_map(|l| l.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")).collect();
    for (exit, meaning) in Exit::ALL {
        let row = rows.get(exit.code().to_string().as_str()).copied();
        let row = row.unwrap_or_else(|| panic!("the README's table lacks exit code {}", exit.code()));
        // The README may say more, and marks code.
        let (row, meaning) = (row.replace('`', ""), meaning.replace('\'', ""));
        assert!(row.starts_with(meaning.split(" (").next().unwrap()), "{}: '{row}', not '{meaning}'", exit.code());
    }
}

/// The examples at the end of a help are lines that the program takes: in a place without a fleet everything but a mistake
/// in the arguments ends otherwise than with 2.
fn examples_in_help_are_understood(sandbox: &Sandbox) {
    let mut count = 0;
    for (command, help) in commands(sandbox) {
        for example in help.lines().filter_map(|l| l.strip_prefix("  keys ")) {
            let example = example.split("   ").next().unwrap().split(" < ").next().unwrap();
            let args = words(example);
            // A placeholder stands for a fingerprint that nobody has.
            if example.contains('…') {
                continue;
            }
            let args: Vec<&str> =
                ["--fleet", "nowhere", "--home", "nobody"].into_iter().chain(args.iter().map(String::as_str)).collect();
            // What would serve until it is ended is given an address that no machine has, and understood all the same.
            let args: Vec<String> = args.iter().map(|arg| arg.replace("127.0.0.1:", "192.0.2.1:")).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let ran = sandbox.keys(&args);
            assert_ne!(ran.code(), 2, "keys {command}: the example 'keys {example}' is refused:\n{}", ran.stderr());
            count += 1;
        }
    }
    assert!(count >= 20, "{count} examples were found");
}

/// A line's words, with single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

// --- What else is named -------------------------------------------------------------------------------------------------

/// Tables and keys as the reader itself lists them: for each table an unknown key is put in, and the reader says which it
/// expects.
fn every_policy_key_is_documented(_: &Sandbox) {
    let document = read("docs/formats/policy.md");
    let mut keys = BTreeSet::new();
    for file in keys::policy::FILES {
        let text = read(&format!("policy/{file}"));
        let lines: Vec<&str> = text.lines().collect();
        for (i, _) in lines.iter().enumerate().filter(|(i, l)| *i == 0 || l.starts_with('[')) {
            let mut with = lines.clone();
            // In front of the first table stand the names of the tables themselves.
            with.insert(if i == 0 { 0 } else { i + 1 }, "no-such-key = 1");
            let texts = keys::policy::FILES
                .map(|f| (f.to_owned(), if f == file { with.join("\n") } else { read(&format!("policy/{f}")) }))
                .into();
            let error = keys::policy::Policy::parse(&texts).expect_err("an unknown key").to_string();
            // In [accounts] the names are free, and it is the value that is wrong.
            if lines[i] == "[accounts]" && error.contains("invalid type") {
                continue;
            }
            // "… expected one of `a`, `b`", "… known are a, b".
            let list = error.split("expected ").nth(1).or_else(|| error.split("known are ").nth(1));
            let list = list.unwrap_or_else(|| panic!("{file}: {error}")).lines().next().unwrap();
            let names = list.trim_start_matches("one of ").split(", ").flat_map(|n| n.split(" or "));
            keys.extend(names.map(|n| (file, n.trim_matches('`').to_owned())));
        }
    }
    assert!(keys.len() > 45, "{keys:?}");
    for (file, key) in keys {
        let section = document.split("\n## ").find(|s| s.starts_with(file));
        let section = section.unwrap_or_else(|| panic!("docs/formats/policy.md has no section on {file}"));
        let forms = [format!("`{key}`"), format!("[{key}]"), format!("[{key}."), format!(".{key}]")];
        assert!(forms.iter().any(|f| section.contains(f)), "{file}: `{key}` is not documented");
    }
}

/// Every relative link is to a file.
fn links_lead_somewhere(_: &Sandbox) {
    let mut count = 0;
    for (document, text) in documents() {
        let directory = root().join(&document).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = target.split('#').next().unwrap();
            assert!(directory.join(path).exists(), "{document} links to {target}, which is not there");
            count += 1;
        }
    }
    assert!(count > 40, "{count} links were found");
}

/// A test that a document names, as `module::name` in backquotes, is a function of that module, in src/ or in tests/it.
fn tests_that_are_named_exist(_: &Sandbox) {
    let mut functions: BTreeSet<(String, String)> = BTreeSet::new();
    for directory in ["src", "tests/it"].map(|d| root().join(d)) {
        let mut todo = vec![directory.clone()];
        while let Some(path) = todo.pop() {
            if path.is_dir() {
                todo.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                continue;
            }
            let module = path.strip_prefix(&directory).unwrap().iter().next().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|t| t.split(['(', '<']).next());
            functions.extend(names.map(|n| (module.trim_end_matches(".rs").to_owned(), n.to_owned())));
        }
    }
    let is_word = |w: &str| w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let (mut count, mut wrong) = (0, Vec::new());
    for (document, text) in documents() {
        for quoted in text.split('`').skip(1).step_by(2) {
            let Some((module, name)) =
                quoted.split_once("::").filter(|(m, n)| is_word(m) && is_word(n) && n.contains('_'))
            else {
                continue;
            };
            count += 1;
            if !functions.contains(&(module.to_owned(), name.to_owned())) {
                wrong.push(format!("{document}: {quoted}"));
            }
        }
    }
    assert!(count > 40, "{count} tests are named");
    assert!(wrong.is_empty(), "no such test:\n{}", wrong.join("\n"));
}

fn the_map_is_that_of_the_code(_: &Sandbox) {
    let code = read("src/lib.rs");
    let map: Vec<String> = code
        .lines()
        .filter_map(|l| l.strip_prefix("//! ").filter(|l| l.starts_with('|')))
        .map(|l| l.replace("[`", "`").replace("`]", "`"))
        .collect();
    assert!(map.len() > 20, "{map:?}");
    assert!(
        read("docs/architecture.md").contains(&map.join("\n")),
        "docs/architecture.md shows another map than src/lib.rs"
    );
}
