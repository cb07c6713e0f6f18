//! Whoever can write to the keyring, but has nobody's keys: what they put there is refused, with exit code 3 and a message
//! that says what is wrong, and never opened, resealed or built upon.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["attacks":
    one_damaged_secret_does_not_stop_the_others,
    a_machine_remembers_the_log_that_it_joined,
];

const ADDRESS: &str = "nginx@fra1/tls.key";
const FILE: &str = "sealed/fra1/nginx/tls.key.pgp";
const VALUE: &str = "only nginx at fra1 reads this";

/// A fleet with a secret at [`ADDRESS`].
fn sealed(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal(ADDRESS, VALUE);
    fleet
}

/// A bad file costs the secret that was in it, until somebody puts it right, and nothing else.
fn one_damaged_secret_does_not_stop_the_others(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    fleet.seal("nginx@fra1/other.key", "another value");
    std::fs::write(fleet.keyring(FILE), b"damaged").unwrap();
    let why = format!("not resealed: {ADDRESS}: {FILE} is damaged: it is not the version that the log has");
    fleet.keys("alice", &["rotate", "nginx@fra1", "--yes"]).ok();
    for who in ["fra1", "alice", "fra1"] {
        fleet.keys(who, &["sync"]);
    }
    // Whoever could reseal it says that it was not, and why.
    let synced = fleet.keys("fra1", &["sync", "--json"]);
    synced.refuses(3, &why);
    assert_eq!(synced.json()["stuck"][0]["address"], ADDRESS);
    assert_eq!(fleet.keys("alice", &["reseal", "--dry-run"]).exits(3), format!("{why}\n"));
    assert_eq!(fleet.keys("alice", &["reseal", "--yes"]).exits(3), format!("{why}\n"));
    let drifted = |address: &str| fleet.keys("alice", &["who", address, "--json"]).json()["drifted"].clone();
    assert_eq!((drifted(ADDRESS), drifted("nginx@fra1/other.key")), (true.into(), false.into()));
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/other.key"]).ok(), "another value");
    fleet.keys("fra1", &["open", ADDRESS]).refuses(3, &format!("{FILE} is damaged"));
    fleet.seal(ADDRESS, VALUE);
    fleet.settle(&["fra1"]);
    fleet.keys("fra1", &["log", "verify"]).ok();
}

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
