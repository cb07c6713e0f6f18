//! SSH certificates for many people at once.

use crate::support::{Ran, Sandbox, TestFleet, Tool, tests};

tests!["ssh_batch":
    a_list_of_keys_is_certified_at_once needs [SshKeygen],
];

/// A list of people's keys in one go; who has a good certificate keeps it.
fn a_list_of_keys_is_certified_at_once(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let make = |name: &str| {
        let path = sandbox.path(name);
        Ran::of(Tool::SshKeygen.command().args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&path)).ok();
    };
    ["one", "two", "three"].into_iter().for_each(make);
    let path = sandbox.write("list", "# who\nalice one.pub\n\nalice two.pub\n").display().to_string();
    let batch = ["ssh", "sign-batch", &path];
    fleet.keys("alice", &[&batch[..], &["--dry-run"]].concat()).exits(9);
    fleet.keys("alice", &batch).ok();
    let serial = |name: &str| {
        let certificate = sandbox.path(&format!("{name}-cert.pub")).display().to_string();
        fleet.keys("alice", &["ssh", "inspect", &certificate, "--json"]).json()["serial"].as_u64().unwrap()
    };
    let first = [serial("one"), serial("two")];
    assert_eq!(first[1], first[0] + 1);
    // Once more, with one key more: only that is decided; and a certificate that was lost is there again.
    sandbox.write("list", "alice one.pub\nalice two.pub\nalice three.pub\n");
    std::fs::remove_file(sandbox.path("two-cert.pub")).unwrap();
    fleet.keys("alice", &batch).ok();
    assert_eq!([serial("one"), serial("two"), serial("three")], [first[0], first[1], first[1] + 1]);
    for (list, part) in [
        ("alice one.pub\nalice\n", "line 2: a line is a member and the file of a public key"),
        ("alice one.pub\nalice one.pub\n", "line 2: the key stands in the list twice"),
        ("alice one\n", "line 1:"),
        ("# nobody\n", "names nobody"),
        ("Alice one.pub\n", "line 1:"),
    ] {
        sandbox.write("list", list);
        fleet.keys("alice", &batch).refuses(1, part);
    }
    sandbox.write("list", "alice missing.pub\n");
    fleet.keys("alice", &batch).refuses(5, "line 1: cannot read");
}
