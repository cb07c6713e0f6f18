//! Go's own transparency-log packages (`golang.org/x/mod/sumdb`), driven by `docs/verify/check-log.go`, over a whole log.

use std::path::{Path, PathBuf};

use super::{MadeUp, own, signer};
use crate::support::{Ran, Sandbox, TestFleet, Tool, tests};

tests!["strangers::go":
    go_checks_the_log_of_a_fleet_and_a_proof needs [Go, GoMod],
    go_checks_a_log_of_many_tiles_and_refuses_every_change needs [Go, GoMod],
];

/// Builds the program; Go keeps what it compiled beside what cargo did.
fn build(sandbox: &Sandbox) -> PathBuf {
    let program = sandbox.path("check-log");
    let mut go = Tool::Go.command();
    go.env("HOME", sandbox.root())
        .env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go-cache"))
        .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", ""), ("GOPROXY", "off")])
        .args(["build", "-o"])
        .arg(&program)
        .arg(own("docs/verify/check-log.go"));
    Ran::of(&mut go).ok();
    program
}

fn check(sandbox: &Sandbox, program: &Path, args: &[&str]) -> Ran {
    Ran::of(std::process::Command::new(program).args(args).env_clear().current_dir(sandbox.root()))
}

fn go_checks_the_log_of_a_fleet_and_a_proof(sandbox: &Sandbox) {
    let (program, fleet) = (build(sandbox), TestFleet::of_one(sandbox));
    fleet.join("fra1", "nginx");
    fleet.seal("fra1/token", "a value");
    let vkey = fleet.keys("alice", &["log", "vkey"]).ok().trim_end().to_owned();
    fleet.keys("alice", &["log", "prove", "fra1", "--out", "proof", "--entry", "entry"]).ok();
    let args = ["fleet/keyring/log", &vkey, "proof", "entry"];
    assert_eq!(check(sandbox, &program, &args).ok(), "checked: 3 entries of cdn.example/keys/1\n");
    for (file, from, to) in [("proof", "index 1", "index 2"), ("entry", "fra1", "ams1"), ("proof", "=\n\n", "=\n=\n\n")]
    {
        let right = std::fs::read_to_string(sandbox.path(file)).unwrap();
        assert!(right.contains(from), "{right}");
        sandbox.write(file, right.replacen(from, to, 1));
        check(sandbox, &program, &args).refuses(1, "NOT right: ");
        sandbox.write(file, right);
    }
    check(sandbox, &program, &args).ok();
}

fn go_checks_a_log_of_many_tiles_and_refuses_every_change(sandbox: &Sandbox) {
    let (program, log) = (build(sandbox), MadeUp::new(sandbox, 600));
    let vkey = log.vkey().to_string();
    let args = ["made-up/log", vkey.as_str()];
    check(sandbox, &program, &args).ok();
    let files = [
        "checkpoint",
        "tile/0/000",
        "tile/0/001",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
        "tile/entries/000",
        "tile/entries/002.p/88",
    ];
    for file in files {
        let path = sandbox.path("made-up/log").join(file);
        let right = std::fs::read(&path).unwrap();
        for at in [0, right.len() / 3, right.len() / 2, right.len() - 2] {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            std::fs::write(&path, &wrong).unwrap();
            check(sandbox, &program, &args).refuses(1, "NOT right: ");
        }
        std::fs::remove_file(&path).unwrap();
        check(sandbox, &program, &args).refuses(1, "NOT right: ");
        std::fs::write(&path, &right).unwrap();
    }
    let other = signer(1).verifier().to_string();
    check(sandbox, &program, &["made-up/log", &other]).refuses(1, "NOT right: ");
    check(sandbox, &program, &args).ok();
}
