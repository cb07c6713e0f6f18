//! A machine that was away and is shown a log that cannot be right: it keeps what it has, and keeps what shows it.

use std::path::PathBuf;

use super::{Cosigner, Served};
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["witness::evidence":
    a_rollback_is_kept_and_checked_elsewhere,
    a_fork_is_kept_and_checked_elsewhere,
    a_published_head_that_goes_back_is_a_rollback,
    two_signed_heads_in_one_keyring_are_a_fork,
    a_freeze_is_told_and_kept_and_stops_nothing needs [Faketime],
    evidence_is_checked_strictly,
];

/// The files of evidence in a home.
fn kept(sandbox: &Sandbox, home: &str) -> Vec<PathBuf> {
    let found = std::fs::read_dir(sandbox.path(home).join("evidence")).into_iter().flatten();
    found.map(|e| e.unwrap().path()).collect()
}

/// A third person with the file, the log's key and nothing else.
fn checked(sandbox: &Sandbox, file: &PathBuf, vkey: &str) -> Ran {
    let elsewhere = sandbox.write("elsewhere/evidence", std::fs::read(file).unwrap());
    let mut command = sandbox.command();
    command.current_dir(sandbox.path("elsewhere")).env("HOME", "/nowhere");
    command.args(["log", "evidence", elsewhere.to_str().unwrap(), "--vkey", vkey]);
    Ran::of(&mut command)
}

fn vkey(fleet: &TestFleet<'_>) -> String {
    fleet.keys("alice", &["log", "vkey"]).ok().lines().next().unwrap().to_owned()
}

/// A fleet that fra1 has seen, a copy from before, and alice's home from then.
fn with_past(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.seal("fra1/one", "first");
    fleet.settle(&["fra1"]);
    sandbox.copy("fleet", "old");
    sandbox.copy("alice", "alice-then");
    fleet.seal("fra1/one", "second");
    assert_eq!(fleet.keys("fra1", &["open", "fra1/one"]).ok(), "second");
    fleet
}

fn a_rollback_is_kept_and_checked_elsewhere(sandbox: &Sandbox) {
    let fleet = with_past(sandbox);
    let key = vkey(&fleet);
    fleet.keys("fra1", &["wg", "render", "--out", "wg"]).ok();
    sandbox.copy("old", "fleet");
    let rendered = || -> Vec<(PathBuf, Vec<u8>)> {
        crate::support::files_below(&sandbox.path("wg"))
            .into_iter()
            .map(|p| (p.clone(), std::fs::read(p).unwrap()))
            .collect()
    };
    let before = rendered();
    for command in
        [&["open", "fra1/one"][..], &["status"], &["sync"], &["wg", "render", "--out", "wg"], &["log", "verify"]]
    {
        fleet.keys("fra1", command).refuses(3, "ROLLBACK");
    }
    assert_eq!(rendered(), before, "what it has is not touched");
    let files = kept(sandbox, "fra1");
    assert_eq!(files.len(), 1, "one a case, not one a run: {files:?}");
    let said = checked(sandbox, &files[0], &key).ok();
    assert!(said.contains("proven: the log's key has signed"), "{said}");
    assert!(said.contains("not proven: intent: a mirror that is behind looks the same"), "{said}");
}

fn a_fork_is_kept_and_checked_elsewhere(sandbox: &Sandbox) {
    let fleet = with_past(sandbox);
    let key = vkey(&fleet);
    sandbox.copy("old", "fleet");
    // The same authority goes on from the old copy: as long as what fra1 has seen, then longer.
    fleet.keys_with("alice-then", &["seal", "fra1/one"], b"other").ok();
    fleet.keys("fra1", &["open", "fra1/one"]).refuses(3, "FORK");
    fleet.keys_with("alice-then", &["seal", "fra1/two"], b"more").ok();
    fleet.keys("fra1", &["sync"]).refuses(3, "kept in the home as evidence/fork-");
    let files = kept(sandbox, "fra1");
    assert_eq!(files.len(), 2, "two heads were shown");
    for file in &files {
        let said = checked(sandbox, file, &key).ok();
        assert!(said.contains("proven: the log's key has signed two pasts"), "{said}");
    }
    assert!(files.iter().any(|f| std::fs::read_to_string(f).unwrap().contains("\nproof ")));
    // With another log's key it shows nothing.
    let stranger = super::ForeignLog::new(3).vkey;
    checked(sandbox, &files[0], &stranger).refuses(3, "not signed by the log's key");
}

/// A policy with one witness that is asked over HTTP.
fn witnessed<'a>(sandbox: &'a Sandbox, witness: &Cosigner<'_>, served: &Served) -> TestFleet<'a> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.seal("fra1/one", "first");
    fleet.settle(&["fra1"]);
    witness.watch();
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let tables = format!(
        "\n[[cosigner]]\nvkey = \"{}\"\nkind = \"witness\"\nurl = \"http://{}\"\n[publish]\nneed = {{ witness = 1 }}\n",
        witness.vkey, served.address
    );
    std::fs::write(&path, text + &tables).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet
}

fn a_published_head_that_goes_back_is_a_rollback(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let served = witness.serve();
    let fleet = witnessed(sandbox, &witness, &served);
    let old = std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    fleet.seal("fra1/one", "second");
    assert_eq!(fleet.keys("fra1", &["open", "fra1/one"]).ok(), "second");
    // Nothing but the published head is an old one; the log's tiles are all there.
    std::fs::write(fleet.keyring("log/checkpoint"), old).unwrap();
    fleet.keys("fra1", &["open", "fra1/one"]).refuses(3, "ROLLBACK");
    assert_eq!(kept(sandbox, "fra1").len(), 1);
}

fn two_signed_heads_in_one_keyring_are_a_fork(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let served = witness.serve();
    let fleet = witnessed(sandbox, &witness, &served);
    let key = vkey(&fleet);
    drop(served);
    sandbox.copy("fleet", "old");
    sandbox.copy("alice", "alice-then");
    // One past is cosigned by file, the other waits.
    fleet.seal("fra1/one", "second");
    sandbox.keys(&["--home", "w1", "--fleet", "fleet", "log", "witness", "sign"]).ok();
    fleet.keys("alice", &["log", "publish"]).ok();
    let published = std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    sandbox.copy("old", "fleet");
    fleet.keys_with("alice-then", &["seal", "fra1/one"], b"other").ok();
    fleet.keys_with("alice-then", &["seal", "fra1/two"], b"more").ok();
    std::fs::write(fleet.keyring("log/checkpoint"), published).unwrap();
    fleet.keys("alice-then", &["status"]).refuses(3, "FORK: log/checkpoint and log/head");
    let files = kept(sandbox, "alice-then");
    assert_eq!(files.len(), 1);
    checked(sandbox, &files[0], &key).ok();
}

fn a_freeze_is_told_and_kept_and_stops_nothing(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let served = witness.serve();
    let fleet = witnessed(sandbox, &witness, &served);
    let key = vkey(&fleet);
    assert_eq!(fleet.keys("fra1", &["open", "fra1/one"]).ok(), "first");
    assert!(kept(sandbox, "fra1").is_empty());
    drop(served);
    for days in [8, 9] {
        sandbox.set_days_later(days);
        let ran = fleet.keys("fra1", &["open", "fra1/one"]);
        assert_eq!(ran.ok(), "first", "reading goes on");
        assert!(ran.stderr().contains("FREEZE?") && ran.stderr().contains("evidence/freeze-"), "{}", ran.stderr());
    }
    let files = kept(sandbox, "fra1");
    assert_eq!(files.len(), 1);
    let said = checked(sandbox, &files[0], &key).ok();
    assert!(said.contains("not proven: that nothing newer was to be had"), "{said}");
    fleet.keys("fra1", &["status", "--check"]).exits(9);
}

fn evidence_is_checked_strictly(sandbox: &Sandbox) {
    let log = super::ForeignLog::new(1).vkey;
    let check = |text: &str| {
        let file = sandbox.write("file", text);
        sandbox.keys(&["log", "evidence", file.to_str().unwrap(), "--vkey", &log])
    };
    check("").refuses(3, "shows nothing");
    check("keys/evidence/v1\ncase fork\n").refuses(3, "it names no time");
    check("keys/evidence/v1\ncase frok\nnoted 2026-11-21T07:00:00Z\n").refuses(3, "it names no case");
    check(&"x".repeat(300_000)).refuses(1, "has more than");
    sandbox.keys(&["log", "evidence", "none", "--vkey", &log]).refuses(5, "cannot read");
    let file = sandbox.write("file", "x");
    sandbox.keys(&["log", "evidence", file.to_str().unwrap(), "--vkey", "nonsense"]).refuses(2, "--vkey");
}
