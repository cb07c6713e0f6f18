//! Taking SSH certificates back, and revocation lists as files: written, checked, compared.

use std::path::PathBuf;

use crate::support::{Ran, Sandbox, TestFleet, Tool, tests};

tests!["ssh_revoke":
    one_certificate_is_taken_back_and_no_other needs [SshKeygen],
    a_key_takes_all_its_certificates_along needs [SshKeygen],
    what_was_never_issued_is_not_revoked,
    a_host_without_a_certificate_is_named,
    it_takes_the_quorum needs [SshKeygen],
    a_list_is_checked_against_the_log needs [SshKeygen],
    a_broken_list_is_refused,
    without_a_keyring_only_the_file_is_checked,
    lists_are_compared_in_words,
    a_list_that_would_be_too_large_is_not_written needs [SshKeygen],
];

/// Makes a key, has it certified `times` times, gives the serials.
fn certified(fleet: &TestFleet<'_>, name: &str, times: usize) -> Vec<u64> {
    let path = fleet.sandbox.path(name);
    Ran::of(Tool::SshKeygen.command().args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&path)).ok();
    let public = path.with_extension("pub").display().to_string();
    let sign = || {
        let ran = fleet.keys("alice", &["ssh", "sign", "user", "alice", "--key", &public, "--again", "--json"]);
        ran.ok();
        ran.json()["certificates"][0]["serial"].as_u64().unwrap()
    };
    (0..times).map(|_| sign()).collect()
}

/// Writes the users' list, and gives the serials that ssh-keygen sees in it.
fn listed(fleet: &TestFleet<'_>) -> Vec<String> {
    let file = built(fleet, "revoked.krl", &[]);
    let shown = Ran::of(Tool::SshKeygen.command().args(["-Q", "-l", "-f"]).arg(file)).ok();
    shown.lines().filter_map(|line| line.strip_prefix("serial: ")).map(str::to_owned).collect()
}

fn built(fleet: &TestFleet<'_>, name: &str, flags: &[&str]) -> PathBuf {
    let file = fleet.sandbox.path(name);
    fleet.keys("alice", &[&["ssh", "krl", "build", "--out", file.to_str().unwrap()], flags].concat()).ok();
    file
}

fn check(fleet: &TestFleet<'_>, file: &str) -> Ran {
    fleet.keys("alice", &["ssh", "krl", "check", file])
}

fn one_certificate_is_taken_back_and_no_other(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let serials = certified(&fleet, "id", 3);
    let middle = serials[1].to_string();
    fleet.keys("alice", &["ssh", "revoke", &middle]).refuses(9, "pass --yes");
    assert_eq!(listed(&fleet), [""; 0]);
    let plan = fleet.keys("alice", &["ssh", "revoke", &middle, "--dry-run"]).exits(9);
    assert!(plan.starts_with(&format!("serial {middle}: user certificate 'user alice', good until 20")), "{plan}");
    let ran = fleet.keys("alice", &["ssh", "revoke", &middle, "--reason", "lost", "--yes", "--json"]);
    ran.ok();
    assert_eq!(ran.json()["plan"]["serials"], serde_json::json!([serials[1]]));
    assert_eq!(listed(&fleet), [middle.as_str()]);
    let entry = ran.json()["placed"][0]["index"].to_string();
    let shown = fleet.keys("alice", &["log", "show", &entry]).ok();
    assert!(shown.contains(&format!("SSH certificates are revoked: {middle}")) && shown.contains("lost"), "{shown}");
    // Once more is no change; nobody signs what is there already.
    let again = fleet.keys("alice", &["ssh", "revoke", &middle, "--yes"]).ok();
    assert!(again.contains("nothing to take back"), "{again}");
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn a_key_takes_all_its_certificates_along(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let (lost, other) = (certified(&fleet, "lost", 2), certified(&fleet, "other", 1));
    let certificate = sandbox.path("lost-cert.pub").display().to_string();
    fleet.keys("alice", &["ssh", "revoke", "--key", &certificate, "--yes"]).ok();
    assert_eq!(listed(&fleet), [format!("{}-{}", lost[0], lost[1])]);
    let public = sandbox.path("other.pub").display().to_string();
    fleet.keys("alice", &["ssh", "revoke", "--key", &public, "--yes"]).ok();
    assert_eq!(listed(&fleet), [format!("{}-{}", lost[0], other[0])], "one run");
    // Asked again she is not told that a revoked one is good for a while.
    let ran = fleet.keys("alice", &["ssh", "sign", "user", "alice", "--key", &public, "--json"]);
    ran.ok();
    assert!(ran.json()["certificates"][0]["serial"].as_u64().unwrap() > other[0]);
}

fn what_was_never_issued_is_not_revoked(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let ran = fleet.keys("alice", &["ssh", "revoke", "1000", "--yes"]);
    ran.refuses(5, "no SSH certificate with the serial 1000 was ever issued");
    assert!(ran.stderr().contains("keys ssh inspect"), "{}", ran.stderr());
    fleet.keys("alice", &["ssh", "revoke", "0", "--yes"]).refuses(5, "the serial 0 was ever");
    fleet.keys("alice", &["ssh", "revoke", "--yes"]).exits(2);
    let junk = sandbox.write("junk.pub", "ssh-ed25519 AAAA\n").display().to_string();
    fleet.keys("alice", &["ssh", "revoke", "--key", &junk, "--yes"]).refuses(1, "junk.pub: is not an SSH key");
}

fn a_host_without_a_certificate_is_named(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.keys("alice", &["ssh", "sign", "host"]).ok();
    // Whichever of them is for the active key: with all that there are it has none.
    let every: Vec<String> = (1..20)
        .map(|n: u64| n.to_string())
        .filter(|n| fleet.keys("alice", &["ssh", "revoke", n, "--dry-run"]).code() == 9)
        .collect();
    assert!(every.len() >= 2, "for the active and the standby key: {every:?}");
    let every: Vec<&str> = every.iter().map(String::as_str).collect();
    let said = fleet.keys("alice", &[&["ssh", "revoke"], &every[..], &["--yes"]].concat()).ok();
    assert!(said.contains("fra1 is left without a certificate for its host key; 'keys ssh sign host fra1'"), "{said}");
    let out = sandbox.path("ssh").display().to_string();
    fleet.keys("alice", &["ssh", "render", "--node", "fra1", "--out", &out]).refuses(1, "keys ssh sign host fra1");
    fleet.keys("alice", &["ssh", "sign", "host", "fra1"]).ok();
    fleet.keys("alice", &["ssh", "render", "--node", "fra1", "--out", &out]).ok();
    let list = sandbox.path("ssh/revoked_hosts.krl").display().to_string();
    fleet.keys("alice", &["ssh", "krl", "check", "--hosts", &list]).ok();
}

fn it_takes_the_quorum(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let serial = certified(&fleet, "id", 1)[0].to_string();
    fleet.join("fra1", "");
    // A machine alone is no operator.
    fleet.keys("fra1", &["ssh", "revoke", &serial, "--yes"]).exits(4);
    assert_eq!(listed(&fleet), [""; 0]);
    let told = fleet.keys("alice", &["approve"]).ok();
    assert!(told.contains("- 1 SSH certificates are revoked") || told.contains(&serial), "{told}");
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    assert_eq!(listed(&fleet), [serial]);
}

fn a_list_is_checked_against_the_log(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let serials = certified(&fleet, "id", 2);
    let old = built(&fleet, "old.krl", &[]).display().to_string();
    assert!(check(&fleet, &old).ok().contains("0 entries, 44 bytes"));
    assert!(check(&fleet, &old).stderr().contains("as the log has it"));
    certified(&fleet, "other", 1);
    assert!(check(&fleet, &old).stderr().contains("nothing was revoked since"));
    check(&fleet, &old).ok();
    fleet.keys("alice", &["ssh", "revoke", &serials[0].to_string(), "--yes"]).ok();
    let ran = check(&fleet, &old);
    ran.refuses(3, "older than the log");
    let said = ran.stdout();
    assert!(said.contains(&format!("lets in, against the log: serial {} of the CA SHA256:", serials[0])), "{said}");
    assert!(said.contains(&format!("  serial {}: user certificate 'user alice', good until", serials[0])), "{said}");
    let json = fleet.keys("alice", &["ssh", "krl", "check", &old, "--json"]).json();
    assert_eq!((json["age"].as_str(), json["lacks"].as_array().map(Vec::len)), (Some("older"), Some(1)), "{json}");
    let new = built(&fleet, "new.krl", &[]).display().to_string();
    check(&fleet, &new).ok();
    // One that somebody made by hand keeps out who should come in.
    let spec = sandbox.write("spec", "serial: 1-99\n").display().to_string();
    let by_hand = sandbox.path("hand.krl").display().to_string();
    Ran::of(Tool::SshKeygen.command().args(["-q", "-k", "-f", &by_hand, "-s", "none", "-z", "1", &spec])).ok();
    let ran = check(&fleet, &by_hand);
    ran.exits(3);
    assert!(ran.stdout().contains("keeps out, against the log: serials 1 to 99 of any CA"), "{}", ran.stdout());
    assert!(ran.stdout().contains(&format!("  serial {}: user", serials[1])), "{}", ran.stdout());
    assert!(!ran.stdout().contains("lets in"), "any CA is this one, too: {}", ran.stdout());
    // Made from a longer log than the copy at hand.
    sandbox.copy("fleet", "before");
    certified(&fleet, "third", 1);
    fleet.keys("alice", &["ssh", "revoke", &serials[1].to_string(), "--yes"]).ok();
    let newest = built(&fleet, "newest.krl", &[]).display().to_string();
    let ran = sandbox.keys(&["--fleet", "before", "--home", "nobody", "ssh", "krl", "check", &newest]);
    ran.refuses(3, "newer than this copy of the log");
}

fn a_broken_list_is_refused(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let good = std::fs::read(built(&fleet, "good.krl", &[])).unwrap();
    let extension = [&good[..], &[255, 0, 0, 0, 0]].concat();
    for (bytes, why) in [
        (&b""[..], "is broken: the file is empty, which sshd takes for a list that revokes nothing"),
        (&good[..43], "is broken: it ends early"),
        (b"ssh-ed25519 AAAA", "is broken: it does not begin as a KRL"),
        (&extension, "is a KRL that OpenSSH 9.2 refuses: it has a section of type 255"),
    ] {
        let file = sandbox.write("bad.krl", bytes).display().to_string();
        let ran = check(&fleet, &file);
        ran.refuses(3, why);
        assert!(ran.stderr().contains("'keys ssh krl build --out FILE' writes a good one"), "{}", ran.stderr());
        let good = sandbox.path("good.krl").display().to_string();
        fleet.keys("alice", &["ssh", "krl", "diff", &good, &file]).refuses(3, why);
    }
    check(&fleet, "nowhere.krl").refuses(5, "sshd refuses every login by key until it is there");
}

fn without_a_keyring_only_the_file_is_checked(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let file = built(&fleet, "good.krl", &[]).display().to_string();
    let ran = sandbox.keys(&["ssh", "krl", "check", &file]);
    assert!(ran.ok().contains("0 entries"), "{}", ran.stdout());
    assert!(ran.stderr().contains("only the file itself was checked"), "{}", ran.stderr());
    assert_eq!(sandbox.keys(&["ssh", "krl", "check", &file, "--json"]).json()["compared"], false);
    sandbox.keys(&["--fleet", "nowhere", "ssh", "krl", "check", &file]).exits(5);
}

fn lists_are_compared_in_words(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let before = built(&fleet, "before.krl", &["--hosts"]).display().to_string();
    fleet.keys("alice", &["ssh", "sign", "host"]).ok();
    fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
    let after = built(&fleet, "after.krl", &["--hosts"]).display().to_string();
    let diff = |a: &str, b: &str| fleet.keys("alice", &["ssh", "krl", "diff", a, b]);
    diff(&after, &after).ok();
    let more = diff(&before, &after).exits(9);
    assert!(more.lines().all(|l| l.starts_with("+ ")), "{more}");
    assert!(more.contains("+ serial") && more.contains("+ the key SHA256:"), "{more}");
    let less = diff(&after, &before).exits(9);
    assert_eq!(less, more.replace("+ ", "- "));
    let json = fleet.keys("alice", &["ssh", "krl", "diff", &before, &after, "--json"]).json();
    assert_eq!(json["more"].as_array().map(Vec::len), Some(more.lines().count()));
}

fn a_list_that_would_be_too_large_is_not_written(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let serials = certified(&fleet, "id", 1);
    let path = sandbox.path("fleet/policy/ssh.toml");
    let policy = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, policy.replace("krl_bytes_max = 65536", "krl_bytes_max = 44")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let file = built(&fleet, "revoked.krl", &[]);
    let before = std::fs::read(&file).unwrap();
    fleet.keys("alice", &["ssh", "revoke", &serials[0].to_string(), "--yes"]).ok();
    let ran = fleet.keys("alice", &["ssh", "krl", "build", "--out", file.to_str().unwrap()]);
    ran.refuses(1, "at most 44 are allowed");
    assert!(ran.stderr().contains("Raise revocation.krl_bytes_max in policy/ssh.toml"), "{}", ran.stderr());
    assert_eq!(std::fs::read(&file).unwrap(), before, "the list that was there still is");
}
