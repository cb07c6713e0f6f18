//! Who is not let in: certificates that have expired, that are revoked, that belong elsewhere or to somebody else already.
//! Each refusal says which certificate and why, and leaves fleet and home as they were.

use keys::name::{Kind, Slot};
use keys::openpgp::{Certificate, merge_revocation};
use keys::time::Span;
use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse as _;

use crate::support::{Forged, GpgHome, Ran, Sandbox, TestFleet, files_below, now, tests};

tests!["admission":
    certificates_that_are_no_good_are_refused,
    somebody_elses_keys_are_refused,
    one_bad_request_does_not_stop_the_others,
    founders_with_certificates_that_are_no_good_are_refused,
    keys_of_gpg_that_are_no_good_are_refused needs [Gpg, GpgConf],
];

/// Every file of the fleet with its bytes, but for the mark that a writer leaves who did not end well.
fn files(fleet: &TestFleet<'_>) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let paths = files_below(&fleet.sandbox.path("fleet"));
    let paths = paths.into_iter().filter(|path| !path.ends_with("keyring/.writing"));
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn certificates_that_are_no_good_are_refused(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let month = Span::days(30);
    let pop = |fleet: &str, name: &str| Forged::new(fleet, name, Kind::Pop, now(), month);
    let good = pop("cdn.example", "fra2");

    let expired = Forged::new("cdn.example", "fra2", Kind::Pop, now().minus(Span::days(40)), month);
    let early = Forged::new("cdn.example", "fra2", Kind::Pop, now().plus(Span::days(1)), month);
    let mut revoked = pop("cdn.example", "fra2");
    revoked.certificate = merge_revocation(&revoked.certificate, &revoked.fresh.revocation).unwrap();
    let foreign = pop("other.example", "fra2");
    let mut smuggled = pop("other.example", "fra2");
    (smuggled.fleet, smuggled.log) = (good.fleet.clone(), good.log.clone());
    let mut renamed = pop("cdn.example", "fra3");
    renamed.fresh.member = "fra2".parse().unwrap();
    let taken = pop("cdn.example", "fra1");
    let mut changed = good.signed();
    let at = changed.windows(14).position(|w| w == b"198.51.100.250").unwrap();
    changed[at + 13] = b'1';
    let before = files(&fleet);
    for (name, request, why) in [
        ("expired", expired.signed(), "the certificate of fra2 is not valid at 20"),
        ("expired", expired.signed(), "The primary key is not live: Expired on 20"),
        ("early", early.signed(), "the request of fra2: it is not signed by fra2"),
        ("revoked", revoked.signed(), ": it is revoked"),
        ("foreign", foreign.signed(), "the request is for the log 'other.example/keys/1', not for cdn.example/keys/1"),
        (
            "smuggled",
            smuggled.signed(),
            "has the user id 'PoP fra2 <pop@fra2.other.example>' where 'PoP fra2 <pop@fra2",
        ),
        ("renamed", renamed.signed(), "has the user id 'PoP fra3 <pop@fra3.cdn.example>' where 'PoP fra2 <pop@fra2"),
        ("taken", taken.signed(), "fra1 is a member already"),
        ("changed", changed, "the request of fra2: it is not signed by fra2"),
    ] {
        let file = sandbox.write(&format!("{name}.request"), request).display().to_string();
        fleet.keys("alice", &["approve", &file, "--yes"]).refuses(1, why);
        assert!(files(&fleet) == before, "{name}: nothing was changed");
    }
    // The measure itself: as it is made it is admitted, once.
    let file = sandbox.write("good.request", good.signed()).display().to_string();
    fleet.keys("alice", &["approve", &file, "--yes"]).ok();
    let again = fleet.keys("alice", &["approve", &file, "--yes"]);
    again.ok();
    assert!(again.stderr().contains("has been granted already"), "{}", again.stderr());
}

fn somebody_elses_keys_are_refused(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.keys("bob", &["enroll", "bob", "--operator", "Bob <bob@ops.example>"]).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    let refused = |name: &str, request: Vec<u8>, why: &str| {
        let file = sandbox.write(&format!("{name}.request"), request).display().to_string();
        fleet.keys("alice", &["approve", &file, "--yes"]).refuses(1, why);
    };
    // A copied host key.
    let copied = host_key(sandbox, "fra1");
    let image = Forged::new("cdn.example", "fra2", Kind::Pop, now(), Span::days(30));
    refused("image", image.with_key(Slot::SshHost, &copied).signed(), "is used by fra1 already");

    // Bob as a second operator, with the certificate that he has as the first.
    let own = Cert::from_file(sandbox.path("bob/members/bob/openpgp.tsk")).unwrap();
    let mut twice = Forged::new("cdn.example", "carol", Kind::Operator, now(), Span::days(30));
    twice.certificate = Certificate::of(&own).unwrap();
    twice.fresh.cert = own;
    let key = |slot| fleet.active_and_standby("bob", slot);
    let (openpgp, sign) = (key("openpgp"), key("sign"));
    for requested in &mut twice.fresh.keys {
        let (active, standby) = if requested.slot == Slot::Sign { &sign } else { &openpgp };
        requested.key = if requested.active { active.clone() } else { standby.clone() };
    }
    refused("twice", twice.signed(), "is used by bob already");
}

/// A public host key from a PoP's home.
fn host_key(sandbox: &Sandbox, pop: &str) -> String {
    let file = files_below(&sandbox.path(pop).join("members").join(pop).join("ssh-host")).remove(0);
    let key = keys::ssh::SshPrivateKey::from_openssh(&std::fs::read_to_string(file).unwrap()).unwrap();
    key.public().to_string()
}

fn one_bad_request_does_not_stop_the_others(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.keys("fra1", &["enroll", "fra1"]).ok();
    fleet.keys("sin1", &["enroll", "sin1"]).ok();
    let expired = Forged::new("cdn.example", "fra2", Kind::Pop, now().minus(Span::days(40)), Span::days(30)).signed();
    let id = keys::digest::Digest::of(&expired).to_string();
    let waiting = files_below(&fleet.keyring("proposals"));
    let there = waiting[0].file_name().unwrap().to_str().unwrap();
    let own = keys::digest::Digest::of(&std::fs::read(&waiting[0]).unwrap()).to_string();
    assert!(there.contains(&own));
    std::fs::write(waiting[0].with_file_name(there.replace(&own, &id)), expired).unwrap();
    let junk = keys::digest::Digest::of(b"junk\n").to_string();
    sandbox.write(&format!("fleet/keyring/proposals/requests/{junk}.request"), "junk\n");
    fleet.keys("alice", &["approve"]).ok();
    let ran = fleet.keys("alice", &["approve", "--all", "--yes", "--json"]);
    ran.refuses(1, "the certificate of fra2 is not valid at ");
    let answer = ran.json();
    assert_eq!(answer["placed"].as_array().map(Vec::len), Some(2), "{answer}");
    let refused: Vec<&str> = answer["refused"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert!(refused.len() == 2 && refused.contains(&id.as_str()) && refused.contains(&junk.as_str()), "{answer}");
    assert_eq!(fleet.keys("alice", &["status", "--json"]).json()["members"]["pop"], 2);
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn founders_with_certificates_that_are_no_good_are_refused(sandbox: &Sandbox) {
    let month = Span::days(30);
    let bob = |fleet: &str, made| Forged::new(fleet, "bob", Kind::Operator, made, month);
    let mut revoked = bob("cdn.example", now());
    revoked.certificate = merge_revocation(&revoked.certificate, &revoked.fresh.revocation).unwrap();
    let good = sandbox.write("good.request", bob("cdn.example", now()).signed()).display().to_string();
    let fleet = TestFleet { sandbox };
    let init = ["init", "cdn.example", "--operator", "Alice <alice@ops.example>", "--operator"];
    for (name, request, why) in [
        ("expired", bob("cdn.example", now().minus(Span::days(40))).signed(), "The primary key is not live: Expired"),
        ("revoked", revoked.signed(), ": it is revoked"),
        ("foreign", bob("other.example", now()).signed(), "is not an operator's of the log cdn.example/keys/1"),
        ("pop", Forged::new("cdn.example", "bob", Kind::Pop, now(), month).signed(), "is not an operator's"),
    ] {
        let file = sandbox.write(&format!("{name}.request"), request).display().to_string();
        fleet.keys("alice", &[&init[..], &[&file]].concat()).refuses(1, why);
        assert_eq!(files_below(&sandbox.path("fleet")), Vec::<std::path::PathBuf>::new(), "{name}: nothing was begun");
        assert_eq!(files_below(&sandbox.path("alice")), Vec::<std::path::PathBuf>::new(), "{name}: no key was made");
    }
    fleet.keys("alice", &[&init[..], &[&good, "--operator", &good]].concat()).refuses(1, "bob is named twice");
    fleet.keys("alice", &[&init[..], &["Mallory <alice@ops.example>"]].concat()).refuses(2, "one home, one person");
    // The measure itself, and that nothing of all this is in the way.
    fleet.keys("alice", &[&init[..], &[&good]].concat()).exits(4);
}

fn keys_of_gpg_that_are_no_good_are_refused(sandbox: &Sandbox) {
    let gpg = GpgHome::new(sandbox, "g");
    let fingerprint = |email: &str| {
        let listed = gpg.run(&["--with-colons", "--list-keys", email]).ok();
        listed.lines().find(|l| l.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_owned()
    };
    for (name, usage, made) in
        [("expired", "default", "20250101T000000"), ("signonly", "sign", "-"), ("revoked", "default", "-")]
    {
        let id = format!("Alice <{name}@ops.example>");
        let clock = format!("{made}!");
        let at: &[&str] = if made == "-" { &[] } else { &["--faked-system-time", &clock] };
        let generate =
            ["--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", &id, "default", usage, "30d"];
        gpg.run(&[at, &generate[..]].concat()).ok();
    }
    let revoked = fingerprint("revoked@ops.example");
    let file = gpg.path().join(format!("openpgp-revocs.d/{revoked}.rev"));
    let text = std::fs::read_to_string(&file).unwrap().replace(":-----BEGIN", "-----BEGIN");
    gpg.import(&sandbox.write("revocation", text));
    for (name, why) in [
        ("expired", "the certificate of expired is not valid at "),
        ("expired", "The primary key is not live: Expired on 2025-01-31"),
        ("signonly", "the certificate of signonly has no key that may encrypt"),
        ("revoked", ": it is revoked"),
    ] {
        let operator = format!("gpg:{}", fingerprint(&format!("{name}@ops.example")));
        let mut command = sandbox.command();
        command.env("GNUPGHOME", gpg.path()).args(["--fleet", "fleet", "--home", name, "init", "cdn.example"]);
        Ran::of(command.args(["--operator", &operator])).refuses(1, why);
        assert!(!sandbox.path(name).join("members").exists(), "{name}: nothing was begun");
    }
}
