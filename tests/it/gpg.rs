//! What the program makes, in the hands of stock gpg: secrets, certificates, statements, the web of trust; and an operator
//! whose keys never leave her gpg-agent.

use std::collections::BTreeMap;
use std::path::Path;

use keys::name::{FleetName, Kind};
use keys::openpgp::{Certificate, Grant, Profile, Sealed, Web, certify, generate};
use keys::time::{Span, Time};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::parse::Parse as _;

use crate::support::{GpgHome, Ran, Sandbox, TestFleet, fingerprints, tests, user_id};

tests!["gpg":
    a_service_opens_its_secrets_before_and_after_a_rotation needs [Gpg, GpgConf],
    gpg_encrypts_to_the_active_subkey_alone needs [Gpg, GpgConf],
    gpg_verifies_statements_across_a_rotation_of_the_signing_keys needs [Gpg, GpgConf],
    for_one_operator_gpg_authenticates_what_we_do needs [Gpg, GpgConf],
    gpg_honours_the_scope_of_a_certification needs [Gpg, GpgConf],
    for_two_operators_the_flattened_ring_has_our_verdict needs [Gpg, GpgConf],
    an_operator_in_gpg_agent_founds_a_fleet needs [Gpg, GpgConf],
    an_operator_in_gpg_agent_admits_seals_and_opens needs [Gpg, GpgConf],
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

/// The members of a ring that gpg takes for authenticated: those whose user id is fully or ultimately valid.
fn valid_in(gpg: &GpgHome, members: &[&str]) -> Vec<String> {
    let validities = gpg.validities();
    let valid = |m: &&&str| matches!(validities[&user_id(m)].as_str(), "f" | "u");
    members.iter().filter(valid).map(|m| (*m).to_owned()).collect()
}

fn for_one_operator_gpg_authenticates_what_we_do(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    for pop in ["fra1", "ams1", "sin1"] {
        fleet.join(pop, "nginx");
    }
    let all = ["alice", "ams1", "casc1", "fra1", "nginx@ams1", "nginx@fra1", "nginx@sin1", "sin1"];
    let check = |name: &str| {
        let (ring, mut ours) = fleet.export_ring(name, &[]);
        let gpg = GpgHome::new(sandbox, &format!("g-{name}"));
        gpg.import(&ring);
        gpg.trust_ultimately(&fingerprints(&ring)[&user_id("alice")]);
        ours.sort();
        assert_eq!(valid_in(&gpg, &all), ours, "{name}: {:?}", gpg.validities());
        ours
    };
    assert_eq!(check("r1"), all);
    // One is stolen, one retires; their services go with them.
    fleet.keys("alice", &["revoke", "ams1", "--reason", "compromised", "--yes"]).ok();
    fleet.keys("alice", &["revoke", "sin1", "--reason", "retired", "--yes"]).ok();
    assert_eq!(check("r2"), ["alice", "casc1", "fra1", "nginx@fra1"]);
}

/// What the thief of `certifier`'s keys could make: a certificate for `user_id`, vouched for with `grant`.
fn vouched_by(certifier: &Path, user_id: &str, kind: Kind, grant: &Grant) -> Certificate {
    let (fleet, now): (FleetName, _) =
        ("cdn.example".parse().unwrap(), Time::from_system(std::time::SystemTime::now()));
    let own = generate(kind, user_id, &fleet, Profile::Compat, Span::days(30), now).unwrap();
    let stolen = Cert::from_file(certifier).unwrap();
    let mut signer = stolen.primary_key().key().clone().parts_into_secret().and_then(|k| k.into_keypair()).unwrap();
    certify(&Certificate::of(&own.cert).unwrap(), grant, &mut signer, Span::days(30), now).unwrap()
}

fn gpg_honours_the_scope_of_a_certification(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let (ring, _) = fleet.export_ring("ring", &[]);
    let pop = sandbox.path("fra1/members/fra1/openpgp.tsk");
    let casc = sandbox.path("alice/members/casc1/openpgp.tsk");
    let (name, zone) = ("cdn.example".parse().unwrap(), "ams1".parse().unwrap());
    let abroad = Grant::Pop { fleet: name, pop: zone };
    let own = vouched_by(&pop, "dns@fra1 <dns@fra1.cdn.example>", Kind::Service, &Grant::Service);
    let forged = [
        vouched_by(&pop, "nginx@ams1 <nginx@ams1.cdn.example>", Kind::Service, &Grant::Service),
        vouched_by(&pop, "nginx@fra1 <nginx@xfra1.cdn.example>", Kind::Service, &Grant::Service),
        vouched_by(&pop, "PoP ams1 <pop@ams1.cdn.example>", Kind::Pop, &abroad),
        vouched_by(&casc, "PoP ams1 <pop@ams1.other.example>", Kind::Pop, &abroad),
    ];
    let gpg = GpgHome::new(sandbox, "g");
    gpg.import(&ring);
    for (i, certificate) in forged.iter().chain([&own]).enumerate() {
        gpg.import(&sandbox.write(&format!("{i}.pgp"), certificate.bytes()));
    }
    gpg.trust_ultimately(&fingerprints(&ring)[&user_id("alice")]);

    let members: Vec<Certificate> =
        CertParser::from_file(&ring).unwrap().map(|c| Certificate::of(&c.unwrap()).unwrap()).collect();
    let validities = gpg.validities();
    let roots = [keys::openpgp::Fingerprint::from_hex(&fingerprints(&ring)[&user_id("alice")]).unwrap()];
    for (certificate, expected) in forged.iter().map(|c| (c, false)).chain([(&own, true)]) {
        let certificates: Vec<&Certificate> = members.iter().chain([certificate]).collect();
        let web = Web { roots: &roots, certificates: &certificates };
        let now = Time::from_system(std::time::SystemTime::now());
        let user_id = certificate.user_id();
        assert_eq!(
            web.endorsers(&user_id, &certificate.fingerprint(), now).unwrap(),
            usize::from(expected),
            "{user_id}"
        );
        assert_eq!(validities[&user_id] == "f", expected, "{user_id}: {validities:?}");
    }
}

fn for_two_operators_the_flattened_ring_has_our_verdict(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    for pop in ["fra1", "ams1"] {
        fleet.join(pop, "nginx");
    }
    fleet.keys("alice", &["revoke", "ams1", "--reason", "retired", "--yes"]).ok();
    // Both admit casc2, but so far alice alone vouches for its certificate.
    fleet.keys("casc2", &["enroll", "casc2", "--authority"]).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    let all = ["alice", "ams1", "bob", "casc1", "casc2", "fra1", "nginx@ams1", "nginx@fra1"];
    let flattened = |name: &str| {
        let (ring, mut ours) = fleet.export_ring(name, &["--gpg"]);
        let gpg = GpgHome::new(sandbox, &format!("g-{name}"));
        gpg.import(&ring);
        gpg.run(&["--import-ownertrust", text(&ring.with_file_name("ownertrust.txt"))]).ok();
        ours.sort();
        assert_eq!(valid_in(&gpg, &all), ours, "{name}: {:?}", gpg.validities());
        ours
    };
    assert_eq!(flattened("r1"), ["alice", "bob", "casc1", "fra1", "nginx@fra1"]);
    let attention = fleet.keys("alice", &["status", "--json"]).json()["attention"].to_string();
    assert!(attention.contains("1 of 2 operators vouch for the certificate of casc2"), "{attention}");

    // This is how gpg must not be used where k of n operators have to vouch: it knows no k. One ultimately trusted
    // operator's signature is full validity to it whatever amount the signature names, so it takes casc2, for which one
    // of two vouches, like casc1. (And the PoPs of a sound fleet it takes for marginal, since amount 60 makes the
    // authority a marginal introducer.) With all operators ultimate it would be 1 of n, with all marginal 3 of n by
    // default; hence the flattening.
    let (ring, _) = fleet.export_ring("plain", &[]);
    let naive = GpgHome::new(sandbox, "g-naive");
    naive.import(&ring);
    naive.trust_ultimately(&fingerprints(&ring)[&user_id("alice")]);
    assert_eq!(valid_in(&naive, &all), ["alice", "casc1", "casc2"]);

    fleet.settle(&["bob"]);
    assert_eq!(flattened("r2"), ["alice", "bob", "casc1", "casc2", "fra1", "nginx@fra1"]);
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
