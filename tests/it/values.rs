//! Values in use: given to programs, put into templates, edited, copied, moved, compared. They come to no disk, and nothing
//! is lost when something fails.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["values":
    a_program_gets_values_as_variables,
    a_program_gets_values_as_files_in_memory,
    a_program_gets_one_value_on_stdin,
    nothing_runs_unless_all_can_be_opened,
    names_of_variables_are_nobodys_weapon,
    a_template_is_filled,
    an_edited_value_is_sealed,
    an_editor_that_fails_or_changes_nothing_changes_nothing,
    what_was_written_is_kept_if_it_cannot_be_sealed,
    a_copy_is_sealed_to_its_own_readers,
    a_move_takes_the_old_one_away,
    values_are_compared,
];

const TOKEN: &str = "nginx@fra1/api-token";

fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal(TOKEN, "the token");
    fleet.seal("nginx@fra1/db-password", "it's \"secret\"\n");
    fleet
}

fn exec(fleet: &TestFleet<'_>, args: &[&str]) -> Ran {
    fleet.keys("fra1", &[&["exec"], args].concat())
}

fn a_program_gets_values_as_variables(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let ran = exec(
        &fleet,
        &["nginx@fra1/*", "--", "/bin/sh", "-c", "printf '%s|%s' \"$API_TOKEN\" \"$DB_PASSWORD\"; exit 42"],
    );
    assert_eq!(ran.exits(42), "the token|it's \"secret\"\n");
    // Under a name of its own; the rest of the environment stays.
    let script = "printf %s \"$T:$API_TOKEN:${HOME:+home}\"; tr '\\0' ' ' < /proc/$$/cmdline | grep -c '[t]he token'";
    assert_eq!(exec(&fleet, &[&format!("T={TOKEN}"), "--", "/bin/sh", "-c", script]).exits(1), "the token::home0\n");
    // The program is in our place: nobody stands between it and signals.
    let ran = exec(&fleet, &[TOKEN, "--", "/bin/sh", "-c", "kill -TERM $$"]);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ran.output.status), Some(15));
}

fn a_program_gets_values_as_files_in_memory(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let script =
        "echo more >> $API_TOKEN_FILE; cat $API_TOKEN_FILE $DB_PASSWORD_FILE $API_TOKEN_FILE; readlink $API_TOKEN_FILE";
    let said = exec(&fleet, &["--files", "nginx@fra1/*", "--", "/bin/sh", "-c", script]).ok();
    assert!(said.starts_with("the tokenit's \"secret\"\nthe token/memfd:API_TOKEN"), "{said}");
    fleet.keys_with("alice", &["seal", TOKEN], b"a\0b").ok();
    exec(&fleet, &[TOKEN, "--", "/bin/true"]).refuses(1, "holds a NUL byte");
    assert_eq!(exec(&fleet, &["--files", TOKEN, "--", "/bin/sh", "-c", "cat $API_TOKEN_FILE"]).ok(), "a\0b");
}

fn a_program_gets_one_value_on_stdin(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    assert_eq!(exec(&fleet, &["--stdin", TOKEN, "--", "/bin/sh", "-c", "cat; echo :$API_TOKEN"]).ok(), "the token:\n");
    exec(&fleet, &["--stdin", "nginx@fra1/*", "--", "/bin/cat"]).refuses(2, "--stdin gives one value, and these are 2");
}

fn nothing_runs_unless_all_can_be_opened(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.join("ams1", "nginx");
    fleet.seal("nginx@ams1/other", "elsewhere");
    let touch = ["--", "/bin/sh", "-c", "echo ran > ran"];
    for (secrets, code, part) in [
        (vec!["nginx@*/*"], 3, "nginx@ams1/other"),
        (vec![TOKEN, "nginx@fra1/none"], 5, "there is no secret nginx@fra1/none"),
        (vec!["dns@*/*"], 5, "no secret matches 'dns@*/*'"),
        (vec!["X=nginx@fra1/*"], 2, "X= names one secret, and 'nginx@fra1/*' are 2"),
    ] {
        exec(&fleet, &[&secrets[..], &touch].concat()).refuses(code, part);
    }
    assert!(!sandbox.path("ran").exists());
    exec(&fleet, &[&[TOKEN], &touch[..]].concat()).ok();
    assert!(sandbox.path("ran").exists());
    exec(&fleet, &[TOKEN, "--", "/no/such/program"]).refuses(5, "cannot run /no/such/program");
}

fn names_of_variables_are_nobodys_weapon(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    for name in ["ld_preload", "path", "bash_env", "pythonpath", "git_ssh", "1st", "api.token"] {
        fleet.seal(&format!("nginx@fra1/{name}"), "x");
    }
    let refused = |secrets: &[&str], part: &str| {
        exec(&fleet, &[secrets, &["--", "/bin/true"]].concat()).refuses(2, part);
    };
    for name in ["ld_preload", "path", "bash_env", "pythonpath", "git_ssh"] {
        refused(&[&format!("nginx@fra1/{name}")], "that variable changes what programs run");
    }
    refused(&["nginx@fra1/1st"], "no variable can be called so");
    refused(&["nginx@fra1/api*token"], "would both be $API_TOKEN");
    refused(&["nginx@fra1/?"], "has '?' at position");
    refused(&["A B=nginx@fra1/1st"], "cannot be a variable's name");
    let said = exec(&fleet, &["PYTHONPATH=nginx@fra1/pythonpath", "--", "/bin/sh", "-c", "echo $PYTHONPATH"]).ok();
    assert_eq!(said, "x\n", "whoever says so wants it");
    exec(&fleet, &["--files", "nginx@fra1/ld_preload", "--", "/bin/sh", "-c", "test -n $LD_PRELOAD_FILE"]).ok();
}

fn a_template_is_filled(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    sandbox.write(
        "app.in",
        format!("token = {{{{ {TOKEN} }}}}\npassword = {{{{ nginx@fra1/db-password | trim | json }}}}\n"),
    );
    let filled = "token = the token\npassword = \"it's \\\"secret\\\"\"\n";
    assert_eq!(fleet.keys("fra1", &["template", "app.in"]).ok(), filled);
    sandbox.write("out/app", "old");
    fleet.keys("fra1", &["template", "app.in", "--out", "out/app"]).ok();
    assert_eq!(std::fs::read_to_string(sandbox.path("out/app")).unwrap(), filled);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(sandbox.path("out/app")).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o600);
    // Whatever is wrong: what was there stays.
    for (template, code, part) in [
        ("\n{{ nginx@fra1/none }}", 5, "there is no secret nginx@fra1/none"),
        ("a\n{{ nope }}", 1, "app.in: line 2: 'nope' is no address"),
        ("{{ nginx@fra1/api-token | upper }}", 1, "line 1: "),
    ] {
        sandbox.write("app.in", template);
        fleet.keys("fra1", &["template", "app.in", "--out", "out/app"]).refuses(code, part);
    }
    assert_eq!(std::fs::read_to_string(sandbox.path("out/app")).unwrap(), filled);
    assert_eq!(fleet.keys_with("fra1", &["template", "-"], b"\\{{ plain }}").ok(), "{{ plain }}");
}

/// A program that edits the file that it is given by this shell script.
fn editor(sandbox: &Sandbox, script: &str) -> String {
    let path = sandbox.write("editor", format!("#!/bin/sh\nset -e\nfile=$1\n{script}\n"));
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn edit(fleet: &TestFleet<'_>, script: &str, args: &[&str]) -> Ran {
    let editor = editor(fleet.sandbox, script);
    fleet.keys("alice", &[&["edit", "--editor", &editor], args].concat())
}

/// What editing has left in memory.
fn left(fleet: &TestFleet<'_>) -> bool {
    let place = std::fs::read_to_string(fleet.sandbox.path("place")).unwrap();
    Path::new(place.trim()).exists()
}

fn an_edited_value_is_sealed(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let place = sandbox.path("place").display().to_string();
    let script = format!(
        "echo $file > {place}; stat -c %a $file $(dirname $file) > modes; mv modes {place}.modes; sed s/token/word/ $file > new; mv new $file"
    );
    let said = edit(&fleet, &script, &[TOKEN]).ok();
    assert!(said.contains("nginx@fra1/api-token version 2 to alice, nginx@fra1"), "{said}");
    assert_eq!(fleet.keys("fra1", &["open", TOKEN]).ok(), "the word");
    assert!(std::fs::read_to_string(&place).unwrap().starts_with("/dev/shm/keys-edit-"));
    assert_eq!(std::fs::read_to_string(sandbox.path("place.modes")).unwrap(), "600\n700\n");
    assert!(!left(&fleet));
    edit(&fleet, "echo x > $file", &["nginx@fra1/fresh"]).refuses(5, "keys edit --new nginx@fra1/fresh");
    edit(&fleet, "echo x > $file", &["--new", TOKEN]).refuses(2, "is there already");
    edit(&fleet, "test ! -s $file; echo x > $file", &["--new", "nginx@fra1/fresh"]).ok();
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/fresh"]).ok(), "x\n");
    edit(&fleet, "exit 1", &[TOKEN, "--dry-run"]).exits(9);
}

fn an_editor_that_fails_or_changes_nothing_changes_nothing(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let place = format!("echo $file > {}", sandbox.path("place").display());
    let size = || fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].clone();
    let before = size();
    edit(&fleet, &format!("{place}; echo other > $file; exit 3"), &[TOKEN]).refuses(1, "nothing was changed");
    assert!(!left(&fleet));
    let ran = edit(&fleet, &place, &[TOKEN]);
    ran.ok();
    assert!(ran.stderr().contains("is the same as before"), "{}", ran.stderr());
    edit(&fleet, &format!("{place}; : > $file"), &[TOKEN]).refuses(1, "the file is empty");
    edit(&fleet, &format!("{place}; rm $file"), &[TOKEN]).refuses(1, "cannot read back");
    edit(&fleet, &format!("{place}; rm $file; ln -s /etc/passwd $file"), &[TOKEN]).refuses(1, "cannot read back");
    assert!(!left(&fleet));
    fleet.keys("alice", &["edit", "--editor", "/no/such/editor", TOKEN]).refuses(1, "/no/such/editor");
    assert_eq!(size(), before);
    // Who cannot read it cannot edit it.
    fleet.join("ams1", "");
    fleet.keys("ams1", &["edit", "--editor", "true", TOKEN]).exits(3);
}

fn what_was_written_is_kept_if_it_cannot_be_sealed(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let program = env!("CARGO_BIN_EXE_keys");
    // Somebody else seals meanwhile.
    let root = sandbox.root().display();
    let script =
        format!("echo mine > $file; echo theirs | {program} --fleet {root}/fleet --home {root}/alice seal {TOKEN}");
    let ran = edit(&fleet, &script, &[TOKEN]);
    ran.refuses(6, "somebody sealed another value");
    let said = ran.stderr();
    let kept = said.split("--in ").nth(1).and_then(|rest| rest.split(';').next()).map(PathBuf::from);
    let kept = kept.unwrap_or_else(|| panic!("{said}"));
    assert!(kept.starts_with("/dev/shm") && said.contains("kept in memory"), "{said}");
    // Another edit does not take it for a dead one's.
    edit(&fleet, "exit 1", &[TOKEN]).exits(1);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "mine\n");
    assert_eq!(fleet.keys("fra1", &["open", TOKEN]).ok(), "theirs\n");
    fleet.keys("alice", &["seal", TOKEN, "--in", kept.to_str().unwrap()]).ok();
    assert_eq!(fleet.keys("fra1", &["open", TOKEN]).ok(), "mine\n");
    std::fs::remove_dir_all(kept.parent().unwrap()).unwrap();
}

fn a_copy_is_sealed_to_its_own_readers(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.join("ams1", "nginx");
    let copy = |args: &[&str]| fleet.keys("alice", &[&["cp", TOKEN, "nginx@ams1/api-token"], args].concat());
    let ran = copy(&["--dry-run", "--json"]);
    ran.exits(9);
    assert_eq!(ran.json()["plan"]["gain"], json!(["nginx@ams1"]));
    copy(&[]).refuses(9, "nothing was changed");
    assert!(copy(&["--yes"]).ok().contains("! who can read this value that could not: nginx@ams1"));
    assert_eq!(fleet.keys("ams1", &["open", "nginx@ams1/api-token"]).ok(), "the token");
    fleet.keys("fra1", &["open", "nginx@ams1/api-token"]).exits(3);
    assert_eq!(fleet.keys("fra1", &["open", TOKEN]).ok(), "the token");
    copy(&["--yes"]).refuses(1, "is there already");
    fleet.seal(TOKEN, "newer");
    copy(&["--yes", "--force"]).ok();
    assert_eq!(fleet.keys("ams1", &["open", "nginx@ams1/api-token"]).ok(), "newer");
    fleet.keys("alice", &["cp", TOKEN, TOKEN, "--yes"]).refuses(2, "is where it is");
    fleet.keys("alice", &["cp", "nginx@fra1/none", TOKEN, "--yes"]).refuses(5, "there is no secret nginx@fra1/none");
    // Somebody who cannot read it cannot hand it on.
    fleet.keys("ams1", &["cp", TOKEN, "nginx@ams1/stolen", "--yes"]).exits(3);
}

fn a_move_takes_the_old_one_away(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let said = fleet.keys("alice", &["mv", TOKEN, "nginx@fra1/renamed", "--yes"]).ok();
    assert!(said.contains(&format!("removes {TOKEN}")), "{said}");
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/renamed"]).ok(), "the token");
    fleet.keys("fra1", &["open", TOKEN]).refuses(5, "there is no secret");
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn values_are_compared(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.seal("nginx@fra1/a", "one\ntwo\n");
    fleet.seal("nginx@fra1/b", "one\nthree\n");
    let diff = |args: &[&str]| fleet.keys_with("fra1", &[&["diff", "nginx@fra1/a"], args].concat(), b"one\ntwo\n");
    let said = diff(&["nginx@fra1/b"]).exits(9);
    assert_eq!(said, "--- nginx@fra1/a\n+++ nginx@fra1/b\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n");
    assert_eq!(diff(&["nginx@fra1/b", "--quiet"]).exits(9), "");
    assert_eq!(diff(&["--in", "-"]).ok(), "");
    assert_eq!(diff(&["--in", "-", "--json"]).json()["same"], json!(true));
    sandbox.write("file", b"\xff");
    assert_eq!(
        diff(&["--in", "file"]).exits(9),
        "nginx@fra1/a (8 bytes) and file (1 bytes) differ, and are not both text\n"
    );
    diff(&[]).exits(2);
}
