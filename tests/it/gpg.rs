//! What the program makes, in the hands of stock gpg: secrets, certificates, statements, the web of trust; and an operator
//! whose keys never leave her gpg-agent.

use std::path::Path;

use crate::support::{GpgHome, Ran, Sandbox, TestFleet, tests};

tests!["gpg":
    an_operator_in_gpg_agent_founds_a_fleet needs [Gpg, GpgConf],
];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A gpg home with a key of alice's, and its fingerprint.
fn alice_in_agent(sandbox: &Sandbox) -> (GpgHome, String) {
    let gpg = GpgHome::new(sandbox, "g");
    let parameters = "Key-Type: eddsa\nKey-Curve: ed25519\nKey-Usage: sign\nSubkey-Type: ecdh\nSubkey-Curve: cv25519\n\
                      Name-Real: Alice\nName-Email: alice@ops.example\nExpire-Date: 0\n%no-protection\n%commit\n";
    let file = sandbox.write("parameters", parameters);
    gpg.run(&["--pinentry-mode", "loopback", "--generate-key", text(&file)]).ok();
    let listed = gpg.run(&["--with-colons", "--list-keys"]).ok();
    let fingerprint = listed.lines().find(|l| l.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_owned();
    (gpg, fingerprint)
}

/// Founds a fleet whose operator's keys gpg-agent has.
fn found_with_agent(sandbox: &Sandbox, gpg: &GpgHome, fingerprint: &str, more: &[&str]) {
    let operator = format!("gpg:{fingerprint}");
    let mut command = sandbox.command();
    command.env("GNUPGHOME", gpg.path()).args(["--fleet", "fleet", "--home", "alice", "init", "cdn.example"]);
    Ran::of(command.args(["--operator", &operator]).args(more)).ok();
}

fn an_operator_in_gpg_agent_founds_a_fleet(sandbox: &Sandbox) {
    let (gpg, fingerprint) = alice_in_agent(sandbox);
    found_with_agent(sandbox, &gpg, &fingerprint, &[]);
    TestFleet { sandbox }.keys("alice", &["log", "verify"]).ok();
}
