//! Whoever can write to the keyring, but has nobody's keys: what they put there is refused, with exit code 3 and a message
//! that says what is wrong, and never opened, resealed or built upon.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["attacks":
    a_machine_remembers_the_log_that_it_joined,
];

fn copy(from: &Path, to: &Path) {
    Ran::of(Command::new("/bin/cp").arg("-a").arg(from).arg(to)).ok();
}

/// Puts another directory in the fleet's place; gives where the fleet is now.
fn swap(sandbox: &Sandbox, other: &str) -> PathBuf {
    let aside = sandbox.path(&format!("aside-of-{other}"));
    std::fs::rename(sandbox.path("fleet"), &aside).unwrap();
    std::fs::rename(sandbox.path(other), sandbox.path("fleet")).unwrap();
    aside
}

fn a_machine_remembers_the_log_that_it_joined(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    copy(&sandbox.path("fleet"), &sandbox.path("old"));
    fleet.join("ams1", "");
    fleet.keys("fra1", &["enroll", "fra1", "--out", "fra1.request"]).ok();
    swap(sandbox, "old");
    fleet.keys("fra1", &["status"]).refuses(3, "ROLLBACK: the log has 1 entries; this machine has seen 2");
}
