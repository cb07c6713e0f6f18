//! Whoever can write to the keyring, but has nobody's keys: what they put there is refused, with exit code 3 and a message
//! that says what is wrong, and never opened, resealed or built upon.

use std::path::{Path, PathBuf};

use keys::digest::Digest;
use keys::name::{FleetName, Kind};
use keys::openpgp::{Envelope, Profile, Sealed, generate, open_raw, reseal, seal};
use keys::time::Span;
use sequoia_openpgp::crypto::{Decryptor, KeyPair};
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::{Cert, Fingerprint};

use crate::support::{Sandbox, TestFleet, files_below, now, tests};

tests!["attacks":
    an_older_version_is_refused,
    another_secrets_file_is_refused,
    a_file_sealed_by_an_outsider_is_refused,
    an_injected_recipient_is_neither_opened_to_nor_carried_on,
    a_file_cut_short_is_refused,
    one_damaged_secret_does_not_stop_the_others,
    the_keyring_of_an_hour_ago_is_refused_by_who_saw_the_newer_one,
    a_machine_remembers_the_log_that_it_joined,
    a_forked_keyring_is_refused_by_who_saw_the_other_branch,
    another_fleets_keyring_is_refused,
    a_swapped_file_is_named,
    who_was_taken_out_reads_no_later_value,
    a_quorum_lowered_in_a_file_counts_for_nothing,
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

/// Puts `planted` in the place of the secret's file: every reader refuses it, the file is named as damaged, a reseal
/// does not build on it; and with the right file everything is as it was.
#[track_caller]
fn is_refused(fleet: &TestFleet<'_>, planted: &[u8]) {
    let path = fleet.keyring(FILE);
    let right = std::fs::read(&path).unwrap();
    let log = || std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    let before = log();
    std::fs::write(&path, planted).unwrap();
    for reader in ["alice", "fra1"] {
        let opened = fleet.keys(reader, &["open", ADDRESS]);
        opened.refuses(3, &format!("{FILE} is damaged: it is not the version that the log has"));
        assert_eq!(opened.stdout(), "");
    }
    let verified = fleet.keys("fra1", &["log", "verify"]);
    assert!(verified.exits(3).contains(&format!("DAMAGED: {FILE}: it is not the version that the log has")));
    fleet.keys("alice", &["reseal", "--yes"]);
    assert_eq!(std::fs::read(&path).unwrap(), planted, "nothing was made of it");
    assert_eq!(log(), before);
    std::fs::write(&path, right).unwrap();
    assert_eq!(fleet.keys("fra1", &["open", ADDRESS]).ok(), VALUE);
    fleet.keys("fra1", &["log", "verify"]).ok();
}

fn an_older_version_is_refused(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    fleet.seal(ADDRESS, "a value of yesterday");
    let old = std::fs::read(fleet.keyring(FILE)).unwrap();
    fleet.seal(ADDRESS, VALUE);
    is_refused(&fleet, &old);
}

fn another_secrets_file_is_refused(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    fleet.seal("nginx@fra1/other.key", "another value for the same readers");
    let other = std::fs::read(fleet.keyring("sealed/fra1/nginx/other.key.pgp")).unwrap();
    is_refused(&fleet, &other);
}

/// A stranger's signing key, and the encryption keys of nginx@fra1 that everybody can read.
fn outsider(fleet: &TestFleet<'_>) -> (KeyPair, Cert) {
    let (name, now): (FleetName, _) = ("cdn.example".parse().unwrap(), now());
    let made = generate(Kind::Operator, "M <m@m.example>", &name, Profile::Compat, Span::days(9), now).unwrap();
    let signer = made.cert.keys().secret().map(|k| k.key().clone()).find(|k| k.pk_algo().for_signing()).unwrap();
    let (ring, _) = fleet.export_ring("ring", &[]);
    let certs = sequoia_openpgp::cert::CertParser::from_file(ring).unwrap().map(Result::unwrap);
    let service = |c: &Cert| c.userids().any(|u| u.userid().value().starts_with(b"nginx@fra1 "));
    (signer.into_keypair().unwrap(), certs.into_iter().find(service).unwrap())
}

fn a_file_sealed_by_an_outsider_is_refused(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    let (signer, service) = outsider(&fleet);
    let keys: Vec<_> = service.keys().subkeys().map(|k| k.key().role_as_unspecified()).collect();
    let envelope = Envelope {
        fleet: "cdn.example".parse().unwrap(),
        origin: "cdn.example/keys/1".to_owned(),
        address: ADDRESS.to_owned(),
        version: 1,
        readers: Digest::of(b"whoever"),
    };
    let forged = seal(b"a value of mallory's", &envelope, &keys, signer, Profile::Compat, now()).unwrap();
    is_refused(&fleet, &forged);
}

/// The keys of a member that decrypt, out of its home.
fn secrets_of(sandbox: &Sandbox, home: &str, member: &str) -> Vec<(Fingerprint, Box<dyn Decryptor>)> {
    let cert = Cert::from_file(sandbox.path(&format!("{home}/members/{member}/openpgp.tsk"))).unwrap();
    let keys = cert.keys().subkeys().secret().map(|k| k.key().clone());
    keys.map(|k| (k.fingerprint(), Box::new(k.into_keypair().unwrap()) as Box<dyn Decryptor>)).collect()
}

/// The way into sops and others: whoever may edit the file adds a recipient, and the next rotation serves it, too.
fn an_injected_recipient_is_neither_opened_to_nor_carried_on(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    // The strongest form: made by somebody who can read it, so that the new recipient could really open it.
    let made =
        generate(Kind::Service, "m@fra1", &"cdn.example".parse().unwrap(), Profile::Compat, Span::days(9), now());
    let stranger = made.unwrap().cert;
    let mut own = secrets_of(sandbox, "fra1", "nginx@fra1");
    let right = std::fs::read(fleet.keyring(FILE)).unwrap();
    let injected: Vec<_> = stranger.keys().subkeys().map(|k| k.key().role_as_unspecified()).collect();
    let to_stranger = reseal(&right, &mut own, &injected).unwrap();
    let body = Sealed::parse(&right).unwrap().body.len();
    let planted = [&to_stranger[..to_stranger.len() - body], &right].concat();
    let recipients = |bytes: &[u8]| Sealed::parse(bytes).unwrap().recipients.len();
    assert_eq!(recipients(&planted), recipients(&right) + 2);
    is_refused(&fleet, &planted);

    // With the file still in place a rotation is logged; nobody reseals to the stranger, and the readers say why.
    std::fs::write(fleet.keyring(FILE), &planted).unwrap();
    fleet.keys("alice", &["rotate", "nginx@fra1", "--yes"]);
    for who in ["fra1", "alice", "fra1"] {
        fleet.keys(who, &["sync"]);
    }
    fleet.keys("fra1", &["open", ADDRESS]).refuses(3, "is not the version that the log has");
    fleet.keys("fra1", &["log", "verify"]).exits(3);
    let who = fleet.keys("alice", &["who", ADDRESS, "--json"]).json()["readers"].clone();
    assert_eq!(who.as_object().unwrap().keys().collect::<Vec<_>>(), ["alice", "nginx@fra1"]);
    std::fs::write(fleet.keyring(FILE), &right).unwrap();
    fleet.settle(&["fra1"]);
    let after = std::fs::read(fleet.keyring(FILE)).unwrap();
    assert_eq!((recipients(&after), after != right), (recipients(&right), true));
    assert_eq!(fleet.keys("fra1", &["open", ADDRESS]).ok(), VALUE);
    fleet.keys("fra1", &["log", "verify"]).ok();
}

fn a_file_cut_short_is_refused(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    let right = std::fs::read(fleet.keyring(FILE)).unwrap();
    for length in [0, 1, right.len() / 2, right.len() - 1] {
        is_refused(&fleet, &right[..length]);
    }
    is_refused(&fleet, &[&right[..], b"\n"].concat());
    let mut flipped = right;
    *flipped.last_mut().unwrap() ^= 1;
    is_refused(&fleet, &flipped);
    // Not there at all.
    std::fs::remove_file(fleet.keyring(FILE)).unwrap();
    fleet.keys("fra1", &["open", ADDRESS]).refuses(3, &format!("{FILE} is missing"));
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

/// Puts another directory in the fleet's place; gives where the fleet is now.
fn swap(sandbox: &Sandbox, other: &str) -> PathBuf {
    let aside = sandbox.path(&format!("aside-of-{other}"));
    std::fs::rename(sandbox.path("fleet"), &aside).unwrap();
    std::fs::rename(sandbox.path(other), sandbox.path("fleet")).unwrap();
    aside
}

/// Every kind of command refuses, again and again, and neither the keyring nor what the home remembers is touched.
#[track_caller]
fn all_refuse(fleet: &TestFleet<'_>, home: &str, part: &str) {
    let files = |directory: &str| {
        files_below(&fleet.sandbox.path(directory))
            .into_iter()
            // What shows it to others is kept.
            .filter(|path| path.parent().is_none_or(|p| !p.ends_with("evidence")))
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect::<Vec<_>>()
    };
    let before = (files("fleet"), files(home));
    let lines = [
        "status",
        "ls",
        "log verify",
        "log show",
        "rotate --all --yes",
        "sync",
        "seal nginx@fra1/tls.key",
        "open nginx@fra1/tls.key",
        "reseal --yes",
        "ring export --out ring",
        "wg render --out wg",
        "status",
    ];
    for line in lines {
        let ran = fleet.keys_with(home, &line.split(' ').collect::<Vec<_>>(), b"another value");
        ran.refuses(3, part);
        assert_eq!(ran.stdout(), "", "{line}");
    }
    assert!((files("fleet"), files(home)) == before, "nothing was changed");
}

fn the_keyring_of_an_hour_ago_is_refused_by_who_saw_the_newer_one(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    sandbox.copy("fleet", "old");
    fleet.seal(ADDRESS, "the value after a theft");
    fleet.keys("fra1", &["status"]).ok();
    let newer = swap(sandbox, "old");
    for home in ["alice", "fra1"] {
        all_refuse(&fleet, home, "ROLLBACK: the log has 3 entries; this machine has seen 4");
    }
    // Whoever has not seen the newer one cannot know; that is what witnesses are for.
    let stranger = fleet.keys("stranger", &["log", "verify"]);
    stranger.ok();
    std::fs::rename(sandbox.path("fleet"), sandbox.path("old")).unwrap();
    std::fs::rename(newer, sandbox.path("fleet")).unwrap();
    assert_eq!(fleet.keys("fra1", &["open", ADDRESS]).ok(), "the value after a theft");
}

fn a_machine_remembers_the_log_that_it_joined(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    sandbox.copy("fleet", "old");
    fleet.join("ams1", "");
    fleet.keys("fra1", &["enroll", "fra1", "--out", "fra1.request"]).ok();
    swap(sandbox, "old");
    fleet.keys("fra1", &["status"]).refuses(3, "ROLLBACK: the log has 1 entries; this machine has seen 2");
}

fn a_forked_keyring_is_refused_by_who_saw_the_other_branch(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    // Somebody with the log's key shows fra1 another log than the rest of the world.
    sandbox.copy("fleet", "fork");
    sandbox.copy("alice", "twin");
    fleet.seal(ADDRESS, VALUE);
    fleet.keys("fra1", &["status"]).ok();
    swap(sandbox, "fork");
    fleet.keys_with("twin", &["seal", ADDRESS], b"the value of the other branch").ok();
    all_refuse(&fleet, "fra1", "FORK: the log's first 4 entries are not those that this machine has seen");
    // Nor does it help to be longer.
    fleet.keys_with("twin", &["seal", ADDRESS], b"and another one").ok();
    for home in ["alice", "fra1"] {
        all_refuse(&fleet, home, "FORK: the log's first 4 entries are not those that this machine has seen");
    }
    // Whoever has seen only what both have in common follows the branch that is there.
    fleet.keys("twin", &["log", "verify"]).ok();
}

fn another_fleets_keyring_is_refused(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    fleet.keys("fra1", &["status"]).ok();
    let init = ["--fleet", "other", "--home", "mallory", "init", "cdn.example", "--operator"];
    sandbox.keys(&[&init[..], &["Alice <alice@ops.example>"]].concat()).ok();
    swap(sandbox, "other");
    for home in ["alice", "fra1"] {
        // Of the same name, and shorter than what was seen. Without that memory its id gives it away.
        fleet.keys(home, &["status"]).refuses(3, "ROLLBACK");
        std::fs::remove_file(sandbox.path(home).join("seen")).unwrap();
        all_refuse(&fleet, home, "this is not the pinned fleet");
    }
}

/// Every file of the keyring in the place of another one of its kind: a certificate, a policy, a request, a recipient set,
/// a secret, an SSH certificate, a tile.
fn a_swapped_file_is_named(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    fleet.join("ams1", "");
    fleet.seal("ams1/registry-token", "another value");
    fleet.keys("alice", &["ssh", "sign", "host"]).ok();
    fleet.keys("alice", &["log", "verify"]).ok();
    let keyring = fleet.keyring("");
    let paths: Vec<PathBuf> = files_below(&keyring).into_iter().filter(|p| !p.ends_with("log/checkpoint")).collect();
    assert!(paths.len() > 20, "{paths:?}");
    let read = |path: &Path| std::fs::read(path).unwrap();
    let all = || files_below(&keyring).iter().map(|p| (p.clone(), read(p))).collect::<Vec<_>>();
    let before = all();
    for (one, other) in paths.iter().zip(paths.iter().skip(1)) {
        let (first, second) = (read(one), read(other));
        if first == second {
            continue;
        }
        std::fs::write(one, &second).unwrap();
        std::fs::write(other, &first).unwrap();
        let swapped = all();
        let said = fleet.keys("fra1", &["log", "verify"]);
        said.exits(3);
        let said = said.stdout() + &said.stderr();
        let names = [one, other].map(|path| path.strip_prefix(&keyring).unwrap().to_str().unwrap());
        let named = names.iter().filter(|name| said.contains(**name)).count();
        // What the replay itself cannot do without ends it: then one of the two is all that can be known.
        let needed = names.iter().any(|name| name.starts_with("log/") || name.starts_with("objects/"));
        assert!(named == 2 || (named == 1 && needed), "{names:?}: {said}");
        assert!(all() == swapped, "a verification changes nothing");
        std::fs::write(one, first).unwrap();
        std::fs::write(other, second).unwrap();
    }
    assert!(all() == before);
    fleet.keys("fra1", &["log", "verify"]).ok();
}

/// Keeping one's copy of a session key is of no use once there is another value: a new value has a new one.
fn who_was_taken_out_reads_no_later_value(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "nginx");
    let path = sandbox.path("fleet/policy/secrets.toml");
    let policy = std::fs::read_to_string(&path).unwrap();
    let rule = format!("{policy}\n[[secret]]\nmatch = \"{ADDRESS}\"\nshared = true\n");
    std::fs::write(&path, format!("{rule}readers = [\"nginx@ams1\"]\n")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.seal(ADDRESS, "a value for both");
    let shared = std::fs::read(fleet.keyring(FILE)).unwrap();
    let mut own = secrets_of(sandbox, "ams1", "nginx@ams1");
    assert!(open_raw(&shared, &mut own).is_ok(), "while it is a reader");
    std::fs::write(&path, rule).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.keys("alice", &["reseal", "--yes"]).ok();
    fleet.seal(ADDRESS, VALUE);

    // The old recipients in front of the new body.
    let new = std::fs::read(fleet.keyring(FILE)).unwrap();
    let body = |file: &[u8]| Sealed::parse(file).unwrap().body.len();
    let pasted = [&shared[..shared.len() - body(&shared)], &new[new.len() - body(&new)..]].concat();
    assert!(Sealed::parse(&pasted).is_ok());
    for mut own in [own, secrets_of(sandbox, "fra1", "nginx@fra1")] {
        assert!(open_raw(&pasted, &mut own).is_err(), "another session key opens nothing");
    }
    is_refused(&fleet, &pasted);
}

/// What lies under policy/ is a draft, and what is in force has a digest in the log.
fn a_quorum_lowered_in_a_file_counts_for_nothing(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let lowered = text.replace("operator = 2", "operator = 1").replace("root = 2", "root = 1");
    assert_ne!(text, lowered);
    std::fs::write(&path, &lowered).unwrap();
    // Two are still needed for what reaches far, and for the new policy itself.
    for line in ["rotate --all --yes", "policy propose --yes"] {
        let ran = fleet.keys("alice", &line.split(' ').collect::<Vec<_>>());
        ran.exits(4);
        assert!(ran.stderr().contains("still needs"), "{}", ran.stderr());
    }
    // Nor can the file that is in force be exchanged.
    let objects = files_below(&fleet.keyring("objects"));
    let in_force: Vec<&PathBuf> = objects.iter().filter(|p| std::fs::read(p).unwrap() == text.as_bytes()).collect();
    assert_eq!(in_force.len(), 1);
    std::fs::write(in_force[0], &lowered).unwrap();
    for who in ["alice", "bob", "stranger"] {
        fleet.keys(who, &["status"]).refuses(3, "entry 0: ");
    }
}
