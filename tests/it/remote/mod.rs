//! A keyring that is kept elsewhere: pulling it, serving it, handing in.

mod beginning;
mod broken;
mod confined;
mod ending;
mod key_server;
mod outbox;
mod pulling;
mod refused;
mod serving;
mod static_tree;
mod table;
pub(crate) mod tls;

use crate::support::{Sandbox, Test, TestFleet};

pub(crate) fn tests() -> Vec<Test> {
    [
        beginning::tests(),
        broken::tests(),
        confined::tests(),
        ending::tests(),
        key_server::tests(),
        outbox::tests(),
        pulling::tests(),
        refused::tests(),
        serving::tests(),
        static_tree::tests(),
        table::tests(),
        tls::tests(),
    ]
    .concat()
}

/// A fleet with a PoP, its service and two secrets, in `fleet/`.
fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "one");
    fleet.settle(&["fra1"]);
    fleet
}

/// The fleet's id, as somebody tells it to a new machine.
fn id(fleet: &TestFleet<'_>) -> String {
    fleet.keys("alice", &["status", "--json"]).json()["id"].as_str().unwrap().to_owned()
}

/// Files by their path.
type Files = std::collections::BTreeMap<String, Vec<u8>>;

/// Every file below a directory with its content, without what says that somebody writes.
fn files(sandbox: &Sandbox, directory: &str) -> Files {
    let root = sandbox.path(directory);
    let mut found = Files::new();
    let mut todo = vec![root.clone()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => todo.push(path),
                false => {
                    let name = path.strip_prefix(&root).unwrap().display().to_string();
                    found.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

/// Compares two keyrings file by file; names those that differ.
fn assert_same(one: &Files, other: &Files, what: &str) {
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let wrong: Vec<&&String> = names.iter().filter(|name| one.get(**name) != other.get(**name)).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:?}");
}
