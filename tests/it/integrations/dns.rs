//! Records for DNS, beside those that OpenSSH and GnuPG make of the same keys.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;

use crate::support::{GpgHome, Ran, Sandbox, TestFleet, Tool, tests};

tests!["integrations":
    ssh_keygen_has_the_same_fingerprints_for_dns needs [SshKeygen],
    gpg_has_the_same_certificates_for_dns needs [Gpg, GpgConf],
    dns_has_nobody_who_is_not_a_member_or_not_vouched_for,
];

/// The lines without comments.
fn records(fleet: &TestFleet<'_>, words: &[&str]) -> Vec<String> {
    let said = fleet.keys("alice", &[&["dns", "records"], words].concat()).ok();
    said.lines().filter(|l| !l.starts_with(';')).map(str::to_owned).collect()
}

fn ssh_keygen_has_the_same_fingerprints_for_dns(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "");
    let (active, standby) = fleet.active_and_standby("fra1", "ssh-host");
    let mut theirs = BTreeSet::new();
    for (name, key) in [("active", &active), ("standby", &standby)] {
        let file = sandbox.write(&format!("{name}.pub"), format!("{key}\n"));
        let mut command = Tool::SshKeygen.command();
        let said = Ran::of(command.args(["-r", "fra1.cdn.example.", "-f"]).arg(file)).ok();
        theirs.extend(said.lines().filter(|l| l.contains("SSHFP 4 2 ")).map(str::to_owned));
    }
    assert_eq!(theirs.len(), 2);
    let ours: BTreeSet<String> = records(&fleet, &["fra1"]).into_iter().filter(|l| l.contains(" SSHFP ")).collect();
    assert_eq!(ours, theirs);
    // Two keys of each host, and the same ones after the standby was promoted, until there is a new one.
    assert_eq!(records(&fleet, &["--type", "sshfp"]).len(), 4);
    fleet.keys("alice", &["rotate", "fra1", "--slot", "ssh-host", "--soon", "--yes"]).ok();
    let after: BTreeSet<String> = records(&fleet, &["fra1", "--type", "sshfp"]).into_iter().collect();
    let digest = theirs.iter().find(|l| after.contains(*l)).expect("the standby is active now");
    assert!(after.len() == 1 && digest.starts_with("fra1.cdn.example. IN SSHFP 4 2 "), "{after:?}");
    fleet.keys("alice", &["dns", "records", "sin1"]).refuses(5, "sin1");
}

fn gpg_has_the_same_certificates_for_dns(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.settle(&["fra1"]);
    let (ring, _) = fleet.export_ring("ring", &[]);
    let gpg = GpgHome::new(sandbox, "g");
    gpg.import(&ring);
    let options = ["--export-options", "export-dane,export-minimal", "--export"];
    let said = gpg.run(&options).ok();
    let mut theirs = BTreeMap::new();
    let (mut origin, mut owner) = (String::new(), String::new());
    for line in said.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("$ORIGIN ") {
            origin = name.to_owned();
        } else if let Some((name, _)) = line.split_once(" TYPE61 ") {
            owner = format!("{name}.{origin}");
            theirs.insert(owner.clone(), String::new());
        } else if line.bytes().next().is_some_and(|b| b.is_ascii_hexdigit()) {
            theirs.get_mut(&owner).unwrap().push_str(line);
        }
    }
    let ran = fleet.keys("alice", &["dns", "records", "--type", "openpgpkey", "--json"]);
    ran.ok();
    let bytes =
        |r: &serde_json::Value| base64::engine::general_purpose::STANDARD.decode(r["data"].as_str().unwrap()).unwrap();
    let rows = ran.json()["records"].as_array().unwrap().clone();
    let ours: BTreeMap<String, Vec<u8>> =
        rows.iter().map(|r| (r["name"].as_str().unwrap().to_owned(), bytes(r))).collect();
    assert!(ours.len() == 4, "alice, casc1, fra1 and its nginx: {:?}", ours.keys());
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{said}");
    // Packet by packet: lengths of packets may be written in several ways.
    for (name, bytes) in &ours {
        assert_eq!(packets(bytes), packets(&unhex(&theirs[name])), "{name}");
    }
    // And what the zone file says is what is said in JSON.
    let zone = fleet.keys("alice", &["dns", "records", "--type", "openpgpkey"]).ok();
    let joined = zone.lines().filter(|l| !l.starts_with(';')).map(str::trim).collect::<String>();
    for row in &rows {
        let (name, data) = (row["name"].as_str().unwrap(), row["data"].as_str().unwrap());
        assert!(joined.contains(&format!("{name} IN OPENPGPKEY ({data} )")), "{name}\n{zone}");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// A certificate's packets.
fn packets(bytes: &[u8]) -> Vec<sequoia_openpgp::Packet> {
    use sequoia_openpgp::parse::Parse as _;
    let pile = sequoia_openpgp::PacketPile::from_bytes(bytes).unwrap();
    pile.into_children().collect()
}

fn dns_has_nobody_who_is_not_a_member_or_not_vouched_for(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let names = |words: &[&str]| {
        let ran = fleet.keys("alice", &[&["dns", "records", "--json"], words].concat());
        ran.ok();
        let rows = ran.json()["records"].as_array().unwrap().clone();
        rows.iter().map(|r| format!("{} {}", r["member"].as_str().unwrap(), r["type"].as_str().unwrap())).collect()
    };
    let before: BTreeSet<String> = names(&[]);
    for row in ["alice OPENPGPKEY", "fra1 SSHFP", "fra1 OPENPGPKEY", "nginx@fra1 OPENPGPKEY"] {
        assert!(before.contains(row), "{before:?}");
    }
    assert!(!before.contains("nginx@fra1 SSHFP"));
    let some: BTreeSet<String> = names(&["nginx@*", "fra1", "--type", "openpgpkey"]);
    assert_eq!(some.into_iter().collect::<Vec<_>>(), ["fra1 OPENPGPKEY", "nginx@fra1 OPENPGPKEY"]);
    fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
    let after: BTreeSet<String> = names(&[]);
    assert!(after.iter().all(|row| !row.contains("fra1")), "{after:?}");
}
