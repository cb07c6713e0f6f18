//! What people and programs type that makes no sense, or is meant to do harm: each refused with a message that names the
//! thing and the way out, with the right exit code, without repeating a control character, and with nothing written.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["bad_input":
    names_that_are_none_are_refused,
    words_that_are_none_are_refused_with_the_ones_that_are,
    texts_that_could_forge_a_terminal_are_refused_or_shown_safely,
    an_argument_that_is_not_utf8_is_refused,
    a_mistake_in_the_policy_is_shown_where_it_stands,
    a_request_that_is_damaged_is_refused,
    a_secret_that_is_too_large_is_refused,
    an_endpoint_that_is_none_is_refused,
];

fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("fra1/token", "value");
    fleet.keys("alice", &["sync"]).ok();
    fleet
}

/// Every file below the sandbox, with what it holds.
fn files(sandbox: &Sandbox) -> BTreeMap<String, Vec<u8>> {
    fn walk(path: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        found.insert(format!("{}/", path.display()), Vec::new());
        for entry in std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                walk(&entry, found);
            } else {
                found.insert(entry.display().to_string(), std::fs::read(&entry).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(sandbox.root(), &mut found);
    found
}

/// Checks a refusal: exit code, what it says, that it says nothing that a terminal would obey, and that all is as it was.
#[track_caller]
fn refused(sandbox: &Sandbox, who: &str, args: &[&str], code: i32, parts: &[&str]) {
    let before = files(sandbox);
    let fleet = TestFleet { sandbox };
    let ran = fleet.keys_with(who, args, b"a value");
    says(&ran, code, parts);
    assert!(before == files(sandbox), "{args:?} wrote something");
}

#[track_caller]
fn says(ran: &Ran, code: i32, parts: &[&str]) {
    for part in parts {
        ran.refuses(code, part);
    }
    let said = ran.stderr();
    for text in [&said, &ran.stdout()] {
        let hidden = text.chars().find(|c| *c != '\n' && keys::text::is_hidden(*c));
        assert_eq!(hidden, None, "{:?} of\n{text}", ran.line);
    }
    let errors = said.lines().filter(|l| l.starts_with("keys: ") || l.starts_with("error: "));
    assert_eq!(errors.count(), 1, "one line says what is wrong:\n{said}");
    assert!(said.lines().all(|l| l.chars().count() < 500), "a line without end:\n{said}");
}

/// Names that are none: the text, and what is said of it whatever it should have named.
const NOT_NAMES: [(&str, &str); 14] = [
    ("..", "'.' at position 1"),
    (".", "'.' at position 1"),
    ("a b", "a space at position 2"),
    ("fra\n1", "a control character (U+000A) at position 4"),
    ("fra\u{1b}[2J", "a control character (U+001B) at position 4"),
    ("fra\u{7f}", "a control character (U+007F)"),
    ("fra\u{202e}1", "an invisible character (U+202E) at position 4"),
    ("fra\u{2066}1", "an invisible character (U+2066)"),
    ("fra\u{200b}1", "an invisible character (U+200B)"),
    ("fr\u{430}1", "'\u{430}' at position 3"),
    ("Fra1", "names are lower case: 'fra1'"),
    ("", "is empty"),
    ("-fra1", "begins or ends with a hyphen"),
    ("fra$(id)", "'$' at position 4"),
];

fn names_that_are_none_are_refused(sandbox: &Sandbox) {
    fleet(sandbox);
    let long = "a".repeat(64);
    let names = || NOT_NAMES.iter().copied().chain([(long.as_str(), "has 64 characters; at most 63")]);
    for (text, problem) in names().chain([("../../etc", "'.' at position 1"), ("fra/1", "'/' at position 4")]) {
        // With `--`, so that a hyphen is no flag.
        refused(sandbox, "new", &["enroll", "--", text], 2, &["a member name", problem]);
        refused(sandbox, "alice", &["reach", "--", text], 2, &["a member name", problem]);
        refused(sandbox, "alice", &["revoke", "--reason", "lost", "--yes", "--", text], 2, &["a member name", problem]);
        refused(sandbox, "new", &["enroll", "ams1", &format!("--service={text}")], 2, &["a name", problem]);
        refused(sandbox, "new", &["enroll", "ams1", &format!("--region={text}")], 2, &["a name", problem]);
    }
    for (text, problem) in names() {
        let service = format!("nginx@{text}/tls.key");
        refused(sandbox, "alice", &["seal", &service], 2, &["a PoP name", problem]);
        // Of a secret's own name: upper case and marks are other cases there.
        if !matches!(text, ".." | "." | "-fra1") && text != long {
            refused(sandbox, "alice", &["seal", &format!("fra1/{text}")], 2, &["a secret's name", problem]);
        }
        if !matches!(text, ".." | "." | "-fra1") && text != long {
            refused(sandbox, "alice", &["rotate", "--yes", "--", text], 2, &["a pattern", problem]);
            refused(sandbox, "alice", &["ls", "--", text], 2, &["a pattern", problem]);
        }
    }
    for (address, problem) in [
        ("token", "write OWNER/NAME, for example 'nginx@fra1/tls.key'"),
        ("fra1/../token", "'/' at position 3"),
        ("fra1/..", "begins with a mark"),
        ("fra1/.token", "begins with a mark"),
        ("fra1/token.", "ends with a dot"),
        ("/token", "a member name is empty"),
        ("fra1/", "a secret's name is empty"),
        ("../fra1/token", "'/' at position 5"),
        ("nginx@@fra1/token", "'@' at position 1"),
    ] {
        for command in ["seal", "open", "who"] {
            refused(sandbox, "alice", &[command, address], 2, &[problem]);
        }
    }
    let operator = ["--operator", "Alice <alice@ops.example>"];
    for (domain, problem) in [
        ("cdn", "give one of at least two labels, for example 'cdn.example'"),
        ("cdn..example", "an empty label"),
        ("../cdn.example", "'/' at position 3"),
        ("CDN.example", "names are lower case: 'cdn.example'"),
        ("cdn.exa\u{202e}mple", "an invisible character (U+202E)"),
        ("", "a fleet name is empty"),
        (&format!("{}.example", "a".repeat(120)), "at most 120"),
    ] {
        let ran = sandbox.keys(&["--fleet", "elsewhere", "--home", "new", "init", domain, operator[0], operator[1]]);
        says(&ran, 2, &["a fleet name", problem]);
        assert!(!sandbox.path("elsewhere").exists() && !sandbox.path("new").exists());
    }
}

fn words_that_are_none_are_refused_with_the_ones_that_are(sandbox: &Sandbox) {
    fleet(sandbox);
    let slots = "known are openpgp, sign, wireguard, ssh-host, ssh-user-ca, ssh-host-ca, log";
    refused(sandbox, "alice", &["rotate", "--slot", "wiregaurd"], 2, &[slots, "did you mean 'wireguard'?"]);
    refused(sandbox, "alice", &["rotate", "--slot", "WireGuard"], 2, &[slots, "did you mean 'wireguard'?"]);
    refused(sandbox, "alice", &["rotate", "--slot", "\u{1b}c"], 2, &[slots]);
    refused(sandbox, "alice", &["rotate", "--slot", ""], 2, &[slots]);
    refused(sandbox, "alice", &["revoke", "fra1", "--reason", "stolen"], 2, &["known are compromised, retired, lost"]);
    refused(sandbox, "alice", &["staus"], 2, &["unrecognized subcommand 'staus'", "'status'"]);
    refused(sandbox, "alice", &["sta\u{1b}[2Jtus"], 2, &["unrecognized subcommand", "\\u{1b}"]);
    refused(sandbox, "alice", &["status", "--\u{1b}[2J"], 2, &["unexpected argument", "\\u{1b}"]);
    refused(sandbox, "alice", &["status", "--\u{202e}"], 2, &["unexpected argument", "\\u{202e}"]);
    refused(sandbox, "alice", &["rotate"], 2, &["nothing is selected", "--due, or --all"]);
    refused(sandbox, "alice", &["--pin", "abc", "status"], 2, &["64 lower-case hexadecimal digits"]);
    refused(sandbox, "alice", &["reach", "ams1"], 5, &["ams1 is not a member", "'keys status'"]);
    refused(sandbox, "alice", &["open", "fra1/other"], 5, &["fra1/other", "'keys ls'"]);
    refused(sandbox, "alice", &["approve", "0123abcd"], 5, &["there is no proposal 0123abcd"]);
    refused(sandbox, "alice", &["log", "show", "999"], 5, &["there is no entry 999"]);
    refused(sandbox, "alice", &["explain", "77"], 5, &["'keys explain' lists all of them"]);
    refused(sandbox, "new", &["enroll", "redis@ams1"], 2, &["'keys enroll ams1 --service redis'"]);
}

fn texts_that_could_forge_a_terminal_are_refused_or_shown_safely(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    for user_id in ["Bob\u{1b}[2J <bob@ops.example>", "Bob\u{202e} <bob@ops.example>", "Bob", "Bob <bob", "<><>"] {
        let args = ["enroll", "bob", "--operator", user_id];
        refused(sandbox, "new", &args, 2, &["is not a user id like 'Alice <alice@ops.example>'"]);
    }
    let long = format!("Bob {} <bob@ops.example>", "x".repeat(300));
    refused(sandbox, "new", &["enroll", "bob", "--operator", &long], 2, &["is not a user id"]);
    for name in ["no\u{1b}]0;file\u{7}", "no\u{202e}file", "no\nfile"] {
        let shown = keys::text::shown(name).to_string();
        refused(sandbox, "alice", &["approve", name], 5, &[&format!("cannot read {shown}")]);
        refused(sandbox, "alice", &["seal", "fra1/token", "--in", name], 5, &[&format!("cannot read {shown}")]);
        refused(sandbox, "alice", &["withdraw", name], 5, &[&format!("there is no proposal {shown}")]);
        let ran = sandbox.keys(&["--fleet", name, "--home", "alice", "status"]);
        says(&ran, 5, &[&format!("there is no {shown}/keyring"), "--fleet"]);
        let ran = sandbox.keys(&["--fleet", "fleet", "--home", name, "rotate", "--all", "--yes"]);
        says(&ran, 5, &[&format!("there is no home at {shown}")]);
    }
    // What is recorded and shown to others for years.
    for reason in ["a\u{1b}[2Jb", "a\u{202e}b", &"x".repeat(501)] {
        let before = files(sandbox);
        let ran = fleet.keys("alice", &["rotate", "fra1", "--yes", "--reason", reason]);
        assert_eq!(ran.code(), 1, "{}", ran.stderr());
        says(&ran, 1, &["reason"]);
        fleet.keys("alice", &["sync"]).ok();
        assert!(before == files(sandbox), "a reason that is refused is written nowhere");
    }
}

fn an_argument_that_is_not_utf8_is_refused(sandbox: &Sandbox) {
    fleet(sandbox);
    let before = files(sandbox);
    for args in [["reach", "fra\u{0}"], ["rotate", "\u{0}"], ["seal", "fra1/\u{0}"]] {
        let mut command = sandbox.command();
        command.args(["--fleet", "fleet", "--home", "alice"]);
        // A byte that is in no UTF-8 text, where the table has a zero.
        command.args(args.map(|a| {
            OsStr::from_bytes(&a.bytes().map(|b| if b == 0 { 0xff } else { b }).collect::<Vec<_>>()).to_owned()
        }));
        let ran = Ran::of(&mut command);
        says(&ran, 2, &["invalid UTF-8"]);
    }
    // A path may be anything that the system takes for one.
    let mut command = sandbox.command();
    command.args(["--home", "alice", "status", "--fleet"]).arg(OsStr::from_bytes(b"no\xffwhere"));
    says(&Ran::of(&mut command), 5, &["there is no no"]);
    assert!(before == files(sandbox));
}

fn a_mistake_in_the_policy_is_shown_where_it_stands(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let lines = good.lines().count();
    let key = good.lines().find(|l| l.contains(" = ") && !l.starts_with('#')).unwrap();
    for (mistake, parts) in [
        // An unknown key, a key twice, a table twice, no TOML, another type.
        ("[tpyo]\nx = 1", &["unknown field `tpyo`", "^^^^"][..]),
        ("[roles]\n[roles]", &["duplicate", "^"]),
        ("x = [1,", &["^"]),
        ("\u{1b}[2J", &["^"]),
    ] {
        std::fs::write(&path, format!("{good}{mistake}\n")).unwrap();
        let ran = fleet.keys("alice", &["policy", "check"]);
        says(&ran, 1, parts);
        says(&ran, 1, &["policy/fleet.toml", &format!("{}", lines + 1)]);
        let ran = fleet.keys("alice", &["policy", "propose", "--yes"]);
        says(&ran, 1, parts);
    }
    std::fs::write(&path, good.replacen(key, &format!("{key}\n{key}"), 1)).unwrap();
    says(&fleet.keys("alice", &["policy", "check"]), 1, &["duplicate key", "fleet.toml", "^"]);
    std::fs::write(&path, [good.as_bytes(), b"# \xff\n"].concat()).unwrap();
    says(&fleet.keys("alice", &["policy", "check"]), 1, &["policy/fleet.toml is not UTF-8"]);
    std::fs::write(&path, "# ".to_owned() + &"x".repeat(1 << 20)).unwrap();
    says(&fleet.keys("alice", &["policy", "check"]), 7, &["fleet.toml", "more than 1048576 bytes"]);
    std::fs::write(&path, good).unwrap();
    fleet.keys("alice", &["policy", "check"]).ok();
    fleet.keys("alice", &["policy", "diff"]).ok();
}

fn a_request_that_is_damaged_is_refused(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.keys("ams1", &["enroll", "ams1", "--out", "ams1.request"]).ok();
    let good = std::fs::read(sandbox.path("ams1.request")).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 3] ^= 1;
    let cases: [(&str, Vec<u8>); 7] = [
        ("cut.request", good[..good.len() / 2].to_vec()),
        ("last.request", good[..good.len() - 1].to_vec()),
        ("longer.request", [good.as_slice(), b"\n"].concat()),
        ("flipped.request", flipped),
        ("empty.request", Vec::new()),
        ("binary.request", vec![0xff; 1000]),
        ("escape.request", b"\x1b[2J\x1b]0;x\x07\n".to_vec()),
    ];
    for (name, bytes) in &cases {
        sandbox.write(name, bytes);
    }
    sandbox.write("large.request", vec![b'a'; (4 << 20) + 1]);
    for (name, _) in &cases {
        let before = files(sandbox);
        says(&fleet.keys("alice", &["approve", name, "--yes"]), 1, &["request"]);
        // A change that failed leaves the writers' mark, which the next one takes away.
        fleet.keys("alice", &["sync"]).ok();
        assert!(before == files(sandbox), "{name} left something");
    }
    refused(
        sandbox,
        "alice",
        &["approve", "large.request", "--yes"],
        1,
        &["large.request has more than 4194304 bytes"],
    );
    fleet.keys("alice", &["approve", "ams1.request", "--yes"]).ok();
    // The same once more is no error: whoever was interrupted tries again.
    let again = fleet.keys("alice", &["approve", "ams1.request", "--yes"]);
    again.ok();
    assert!(again.stderr().contains("has been granted already"), "{}", again.stderr());
}

/// One byte more than is allowed, from stdin, from a file, and without end.
fn a_secret_that_is_too_large_is_refused(sandbox: &Sandbox) {
    fleet(sandbox);
    // A file of that size on paper: it is refused before it is read.
    let file = std::fs::File::create(sandbox.path("large")).unwrap();
    file.set_len(keys::limits::LARGE_BYTES_MAX + 1).unwrap();
    let seal = |input: Stdio, args: &[&str]| {
        let mut command = sandbox.command();
        command.args(["--fleet", "fleet", "--home", "alice", "seal", "fra1/token"]).args(args).stdin(input);
        Ran { line: "seal".to_owned(), output: command.output().unwrap() }
    };
    let files = || files_of(&sandbox.path("fleet"));
    let before = files();
    let message = "the value has more than 4 GiB; nothing was sealed";
    says(&seal(std::fs::File::open(sandbox.path("large")).unwrap().into(), &[]), 1, &[message, "a key of its own"]);
    says(&seal(Stdio::null(), &["--in", "large"]), 1, &[message, "a key of its own"]);
    assert_eq!(before, files(), "nothing was written");
    // What has to be held in memory may have less, and whoever has no end is found out there.
    let diff =
        |input: &str| sandbox.keys(&["--fleet", "fleet", "--home", "alice", "diff", "fra1/token", "--in", input]);
    sandbox.keys_with(&["--fleet", "fleet", "--home", "alice", "seal", "fra1/token"], b"value").ok();
    let before = files();
    for input in ["large", "/dev/zero"] {
        says(&diff(input), 1, &["the value has more than 64 MiB, too many to be held in memory"]);
    }
    says(&seal(Stdio::null(), &["--in", "fleet"]), 7, &["cannot read the value"]);
    assert_eq!(before, files(), "nothing was written");
}

/// How many files there are, and how large they are.
fn files_of(directory: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(|e| e.unwrap()) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_of(&path));
        } else {
            found.insert(path.display().to_string(), entry.metadata().unwrap().len());
        }
    }
    found
}

fn an_endpoint_that_is_none_is_refused(sandbox: &Sandbox) {
    fleet(sandbox);
    for endpoint in [
        "",
        "..",
        "../x",
        "a b",
        "FRA1.example",
        "fra1.example:51820",
        "fra1\u{1b}[2J.example",
        "fra1\u{202e}.example",
        "256.1.1.1",
        "-fra1.example",
        &format!("{}.example", "a".repeat(64)),
        &"a.".repeat(200),
    ] {
        let problem = match endpoint {
            "fra1.example:51820" => "has a port; give the host alone",
            _ => "is neither an IP address nor a DNS name in lower case",
        };
        let parts = ["--endpoint <HOST>", problem];
        refused(sandbox, "new", &["enroll", "ams1", &format!("--endpoint={endpoint}")], 2, &parts);
    }
}
