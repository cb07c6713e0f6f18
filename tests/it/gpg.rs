//! What the program makes, in the hands of stock gpg: secrets, certificates, statements, the web of trust; and an operator
//! whose keys never leave her gpg-agent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use keys::openpgp::Sealed;

use crate::support::{GpgHome, Ran, Sandbox, TestFleet, fingerprints, tests, user_id};

tests!["gpg":
    a_service_opens_its_secrets_before_and_after_a_rotation needs [Gpg, GpgConf],
    gpg_encrypts_to_the_active_subkey_alone needs [Gpg, GpgConf],
    what_one_command_seals_opens_one_by_one needs [Gpg],
    gpg_verifies_statements_across_a_rotation_of_the_signing_keys needs [Gpg, GpgConf],
    an_operator_in_gpg_agent_founds_a_fleet needs [Gpg, GpgConf],
    an_operator_in_gpg_agent_admits_seals_and_opens needs [Gpg, GpgConf],
    approving_costs_the_agent_one_signature_each needs [Gpg, GpgConf],
];

const VALUE: &str = "-----BEGIN TEST KEY-----\nonly nginx at fra1 reads this\n-----END TEST KEY-----\n";
const SECRET: &str = "sealed/fra1/nginx/tls.key.pgp";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Opens the file with the keys in `gpg`; gives what gpg said, and the key that opened it.
fn decrypt(gpg: &GpgHome, file: &Path) -> (Ran, String) {
    let ran = gpg.run(&["--decrypt", text(file)]);
    assert_eq!(ran.stdout(), VALUE, "{}", ran.stderr());
    assert!(ran.stderr().contains("[GNUPG:] DECRYPTION_OKAY"), "{}", ran.stderr());
    let key = GpgHome::status(&ran, "DECRYPTION_KEY")[0][0].clone();
    (ran, key)
}

/// The key ids that a message is encrypted to, in order.
fn recipients(message: &[u8]) -> Vec<String> {
    Sealed::parse(message).unwrap().recipients.iter().map(|(handle, _)| handle.to_string()).collect()
}

/// A v4 fingerprint's key id.
fn key_id(fingerprint: &str) -> String {
    fingerprint[24..].to_owned()
}

fn a_service_opens_its_secrets_before_and_after_a_rotation(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", VALUE);
    let (sealed, own_key) = (fleet.keyring(SECRET), sandbox.path("fra1/members/nginx@fra1/openpgp.tsk"));
    let gpg = GpgHome::new(sandbox, "g");
    gpg.import(&own_key);

    // Whose it is gpg cannot tell before it has the author's certificate, and says so with exit code 2.
    let (ran, _) = decrypt(&gpg, &sealed);
    ran.exits(2);
    assert_eq!(GpgHome::status(&ran, "NO_PUBKEY").len(), 1);
    gpg.import(&fleet.export_ring("ring", &[]).0);
    let (author, _) = fleet.active_and_standby("alice", "sign");
    let signed_by = |ran: &Ran| {
        ran.ok();
        assert_eq!(GpgHome::status(ran, "GOODSIG").len(), 1);
        GpgHome::status(ran, "VALIDSIG")[0][0].clone()
    };
    let (active, standby) = fleet.active_and_standby("nginx@fra1", "openpgp");
    let (ran, key) = decrypt(&gpg, &sealed);
    assert_eq!(signed_by(&ran), author);
    assert!([&active, &standby].contains(&&key));

    // The promoted standby opens it at once: the machine has the private half since it joined.
    let before = std::fs::read(&sealed).unwrap();
    fleet.keys("alice", &["rotate", "nginx@fra1", "--yes"]).ok();
    let (ran, key) = decrypt(&gpg, &sealed);
    assert_eq!((signed_by(&ran), key), (author.clone(), standby.clone()));

    // Caught up: another standby, the old key destroyed, the same body around which the recipients changed.
    fleet.settle(&["fra1"]);
    let after = std::fs::read(&sealed).unwrap();
    let (now_active, now_standby) = fleet.active_and_standby("nginx@fra1", "openpgp");
    assert_eq!(now_active, standby);
    assert!(recipients(&after).contains(&key_id(&now_standby)) && !recipients(&after).contains(&key_id(&active)));
    assert_eq!(Sealed::parse(&after).unwrap().body, Sealed::parse(&before).unwrap().body);
    gpg.import(&own_key);
    assert_eq!(signed_by(&decrypt(&gpg, &sealed).0), author);
    let fresh = GpgHome::new(sandbox, "h");
    fresh.import(&own_key);
    assert!([&now_active, &now_standby].contains(&&decrypt(&fresh, &sealed).1));
    let old = sandbox.write("old.pgp", before);
    assert_eq!(decrypt(&fresh, &old).1, now_active, "what was sealed to the standby before it was promoted");
}

/// All of them have one ephemeral point, and a session key each; gpg knows nothing of that.
fn what_one_command_seals_opens_one_by_one(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let values: String = (0..90).map(|n| format!("VALUE_{n}=the value of {n}\n")).collect();
    sandbox.write("many.env", values);
    fleet.keys("alice", &["import", "env", "many.env", "--to", "nginx@fra1", "--yes"]).ok();
    let gpg = GpgHome::new(sandbox, "g");
    gpg.import(&sandbox.path("fra1/members/nginx@fra1/openpgp.tsk"));
    gpg.import(&fleet.export_ring("ring", &[]).0);
    let (mut points, mut session_keys) = (BTreeSet::new(), BTreeSet::new());
    for n in [0, 1, 45, 79, 80, 89] {
        let path = fleet.keyring(&format!("sealed/fra1/nginx/value_{n}.pgp"));
        let ran = gpg.run(&["--show-session-key", "--decrypt", text(&path)]);
        assert_eq!(ran.ok(), format!("the value of {n}"));
        assert_eq!(GpgHome::status(&ran, "GOODSIG").len(), 1);
        session_keys.insert(GpgHome::status(&ran, "SESSION_KEY")[0][0].clone());
        let file = std::fs::read(&path).unwrap();
        let sealed = Sealed::parse(&file).unwrap();
        assert_eq!(sealed.recipients.len(), 4);
        // Version 3, key id, algorithm; then the point: its length in bits, and 33 bytes.
        points.extend(sealed.recipients.iter().map(|(_, packet)| packet[12..47].to_vec()));
    }
    assert_eq!((points.len(), session_keys.len()), (1, 6));
    // Another command makes another one.
    fleet.seal("nginx@fra1/tls.key", VALUE);
    let file = std::fs::read(fleet.keyring(SECRET)).unwrap();
    assert!(Sealed::parse(&file).unwrap().recipients.iter().all(|(_, packet)| !points.contains(&packet[12..47])));
}

fn gpg_encrypts_to_the_active_subkey_alone(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let gpg = GpgHome::new(sandbox, "g");
    let (ring, _) = fleet.export_ring("ring", &[]);
    gpg.import(&ring);
    let service = fingerprints(&ring)[&user_id("nginx@fra1")].clone();
    let plain = sandbox.write("plain", VALUE);
    let encrypt = || {
        let ran = gpg.run(&["--trust-model", "always", "-r", &service, "-o", "-", "--encrypt", text(&plain)]);
        ran.ok();
        ran.output.stdout
    };
    let (active, standby) = fleet.active_and_standby("nginx@fra1", "openpgp");
    assert_eq!(recipients(&encrypt()), [key_id(&active)]);

    fleet.keys("alice", &["rotate", "nginx@fra1", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    gpg.import(&fleet.export_ring("ring2", &[]).0);
    let message = encrypt();
    assert_eq!(recipients(&message), [key_id(&standby)], "after a merge gpg follows the promotion");
    let message = sandbox.write("message.pgp", message);
    gpg.import(&sandbox.path("fra1/members/nginx@fra1/openpgp.tsk"));
    assert_eq!(decrypt(&gpg, &message).1, standby);
}

fn gpg_verifies_statements_across_a_rotation_of_the_signing_keys(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let (old_ring, _) = fleet.export_ring("ring", &[]);
    let (before, _) = fleet.active_and_standby("alice", "sign");
    fleet.keys("alice", &["rotate", "--slot", "sign", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    let (after, _) = fleet.active_and_standby("alice", "sign");
    fleet.join("ams1", "");
    fleet.keys("fra1", &["sync"]).ok();

    // One reader has followed, another one comes when it is all over.
    let (follower, newcomer) = (GpgHome::new(sandbox, "g"), GpgHome::new(sandbox, "h"));
    let (ring, _) = fleet.export_ring("ring2", &[]);
    follower.import(&old_ring);
    follower.import(&ring);
    newcomer.import(&ring);
    let size = fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64().unwrap();
    let mut signed: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for index in 0..size {
        let shown = fleet.keys("alice", &["log", "show", &index.to_string(), "--raw", "raw", "--json"]);
        shown.ok();
        let body = sandbox.path(shown.json()["body"].as_str().unwrap());
        for signature in shown.json()["signatures"].as_array().unwrap() {
            let signature = sandbox.path(signature.as_str().unwrap());
            for gpg in [&follower, &newcomer] {
                let ran = gpg.run(&["--verify", text(&signature), text(&body)]);
                ran.ok();
                assert_eq!(GpgHome::status(&ran, "GOODSIG").len(), 1, "{}", ran.stderr());
                let issuer = GpgHome::status(&ran, "VALIDSIG")[0][0].clone();
                signed.entry(issuer).or_default().push(index);
            }
            let mut changed = std::fs::read(&body).unwrap();
            *changed.last_mut().unwrap() ^= 1;
            let changed = sandbox.write("changed.body", changed);
            let ran = newcomer.run(&["--verify", text(&signature), text(&changed)]);
            ran.exits(1);
            assert_eq!(GpgHome::status(&ran, "BADSIG").len(), 1, "{}", ran.stderr());
        }
    }
    assert!(signed[&before].first() == Some(&0) && signed[&before].last() < signed[&after].first(), "{signed:?}");
    assert!(signed.len() > 4, "alice twice, casc1 and fra1 signed, some of them with two keys: {signed:?}");
}

/// A gpg home with a key of alice's, and its fingerprint.
fn alice_in_agent(sandbox: &Sandbox) -> (GpgHome, String) {
    let gpg = GpgHome::new(sandbox, "g");
    let log = gpg.path().join("agent.log");
    std::fs::write(gpg.path().join("gpg-agent.conf"), format!("log-file {}\ndebug ipc\n", text(&log))).unwrap();
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

fn an_operator_in_gpg_agent_admits_seals_and_opens(sandbox: &Sandbox) {
    let (gpg, fingerprint) = alice_in_agent(sandbox);
    let socket = gpg.path().join("S.gpg-agent");
    found_with_agent(sandbox, &gpg, &fingerprint, &["--agent-socket", text(&socket)]);
    let fleet = TestFleet { sandbox };
    assert!(!sandbox.path("alice/members/alice/openpgp.tsk").exists(), "her private keys stay in the agent");
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", VALUE);
    for reader in ["alice", "fra1"] {
        assert_eq!(fleet.keys(reader, &["open", "nginx@fra1/tls.key"]).ok(), VALUE);
    }
    // The agent also reseals for her, after a rotation, and gpg itself opens what she did.
    fleet.keys("alice", &["rotate", "--slot", "openpgp", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/tls.key"]).ok(), VALUE);
    decrypt(&gpg, &fleet.keyring(SECRET)).0.ok();
    fleet.keys("alice", &["log", "verify"]).ok();

    drop(gpg);
    fleet.keys("alice", &["open", "nginx@fra1/tls.key"]).refuses(1, "gpg-agent");
    fleet.keys_with("alice", &["seal", "nginx@fra1/tls.key"], b"another value").refuses(1, "gpg-agent");
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/tls.key"]).ok(), VALUE);
}

/// How often the agent was asked to sign, by its own log.
fn signatures_asked(gpg: &GpgHome) -> usize {
    let log = std::fs::read(gpg.path().join("agent.log")).unwrap();
    String::from_utf8_lossy(&log).lines().filter(|line| line.contains("<- PKSIGN")).count()
}

/// A card asks its owner for each signature. Approving asks for one a proposal, and for none that cannot help.
fn approving_costs_the_agent_one_signature_each(sandbox: &Sandbox) {
    let (gpg, fingerprint) = alice_in_agent(sandbox);
    let fleet = TestFleet { sandbox };
    let request = sandbox.path("bob.request").display().to_string();
    let words =
        ["enroll", "bob", "--operator", "Bob <bob@ops.example>", "--founding", "cdn.example", "--out", &request];
    fleet.keys("bob", &words).ok();
    let operator = format!("gpg:{fingerprint}");
    let socket = gpg.path().join("S.gpg-agent");
    let mut command = sandbox.command();
    command.env("GNUPGHOME", gpg.path()).args(["--fleet", "fleet", "--home", "alice", "init", "cdn.example"]);
    Ran::of(command.args(["--operator", &operator, "--agent-socket", text(&socket), "--operator", &request])).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    fleet.keys("bob", &["sync"]).ok();
    fleet.keys("alice", &["sync"]).ok();
    fleet.join("fra1", "");
    fleet.settle(&["bob", "fra1"]);
    let proposed = |who: &str, slot: &str| {
        let ran = fleet.keys(who, &["rotate", "fra1", "--soon", "--slot", slot, "--yes", "--json"]);
        ran.exits(4);
        ran.json()["placed"][0]["id"].as_str().unwrap().to_owned()
    };
    let costs = |args: &[&str], exit: i32| {
        let before = signatures_asked(&gpg);
        fleet.keys("alice", args).exits(exit);
        signatures_asked(&gpg) - before
    };
    assert!(signatures_asked(&gpg) > 0, "the agent's log has what was asked of it");
    let first = proposed("bob", "wireguard");
    // Looking, nobody to ask, and what is not there: none.
    assert_eq!(costs(&["approve"], 0), 0);
    assert_eq!(costs(&["approve", &first, "--dry-run"], 9), 0);
    assert_eq!(costs(&["approve", &first], 9), 0);
    assert_eq!(costs(&["approve", "abcdef", "--yes"], 5), 0);
    assert_eq!(costs(&["approve", &first, "--yes"], 0), 1);
    // Several at once: one each.
    proposed("bob", "ssh-host");
    proposed("bob", "openpgp");
    assert_eq!(costs(&["approve", "--all", "--yes"], 0), 2);
    // What she has signed already, and what can have no effect any more: none.
    fleet.settle(&["bob", "fra1"]);
    let own = proposed("alice", "wireguard");
    assert_eq!(costs(&["approve", &own, "--yes"], 4), 0);
    let other = proposed("bob", "ssh-host");
    fleet.keys("bob", &["object", &other, "--reason", "a mistake", "--yes"]).exits(4);
    let proposal = format!("fleet/keyring/proposals/{other}");
    sandbox.copy(&proposal, "kept");
    fleet.keys("alice", &["sync"]).ok();
    sandbox.copy("kept", &proposal);
    assert_eq!(costs(&["approve", &other, "--yes"], 1), 0);
    // An emergency in a file costs one, and a second look at it none.
    let file = sandbox.path("fra1.emergency").display().to_string();
    let words = ["emergency", "declare", "fra1", "--why", "lost", "--reason", "gone", "--out", &file, "--yes"];
    fleet.keys("bob", &words).exits(4);
    assert_eq!(costs(&["emergency", "approve", &file, "--dry-run"], 9), 0);
    assert_eq!(costs(&["emergency", "approve", &file, "--yes"], 0), 1);
    assert_eq!(costs(&["emergency", "approve", &file, "--yes"], 0), 0);
    assert_eq!(costs(&["emergency", "apply", &file, "--yes"], 0), 0);
}
