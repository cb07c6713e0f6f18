//! What grows old is renewed before it matters, by whoever can; what is said to be due is what is then done.

use keys::name::Slot;
use keys::openpgp::Profile;
use keys::ops;
use keys::ssh::SshPrivateKey;
use keys::time::Span;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::support::stage::{Stage, member};
use crate::support::{GpgHome, Ran, Sandbox, TestFleet, files_below, tests};

tests!["hardening::renewal":
    certificates_are_renewed_at_half_their_life,
    certificates_are_renewed_after_they_expired,
    a_dry_run_says_something_exactly_when_there_is_something,
    a_certificate_does_not_grow_with_every_rotation,
    a_certificate_of_large_keys_stays_within_limits,
    host_certificates_follow_the_host_keys,
    a_host_trusts_the_ca_of_before,
    whose_primary_key_is_offline_goes_on_and_says_so needs [Gpg, GpgConf, Faketime],
];

const EVERYBODY: [&str; 4] = ["alice", "casc1", "fra1", "nginx@fra1"];

fn one(sandbox: &Sandbox) -> Stage {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    stage.settle(&["fra1"]);
    stage
}

fn expiries(stage: &Stage) -> Vec<keys::time::Time> {
    let fleet = stage.open();
    EVERYBODY.iter().map(|name| fleet.state().members[&member(name)].cert_expires.unwrap()).collect()
}

#[track_caller]
fn all_is_well(stage: &mut Stage, value: &str) {
    for name in EVERYBODY {
        stage.open().check_vouched(&member(name)).unwrap();
    }
    stage.seal("alice", "nginx@fra1/tls.key", value);
    assert_eq!(stage.opens("fra1", "nginx@fra1/tls.key"), value);
    stage.is_sound();
}

fn certificates_are_renewed_at_half_their_life(sandbox: &Sandbox) {
    let mut stage = one(sandbox);
    let before = expiries(&stage);
    // An operator's lives three years, the others' one.
    stage.later(Span::days(200));
    stage.settle(&["fra1"]);
    let after = expiries(&stage);
    assert_eq!(after[0], before[0]);
    assert!(after[1..].iter().all(|e| *e == stage.now.plus(Span::days(365))), "{after:?}");
    stage.later(Span::days(360));
    stage.settle(&["fra1"]);
    assert!(expiries(&stage)[0] > before[0], "the operator's, too");
    all_is_well(&mut stage, "value");
}

fn certificates_are_renewed_after_they_expired(sandbox: &Sandbox) {
    let mut stage = one(sandbox);
    for (days, value) in [(400, "after a year"), (1_100, "after the operator's own")] {
        stage.later(Span::days(days));
        assert!(stage.open().check_vouched(&member("fra1")).is_err());
        stage.settle(&["fra1"]);
        all_is_well(&mut stage, value);
    }
}

fn a_dry_run_says_something_exactly_when_there_is_something(sandbox: &Sandbox) {
    let mut stage = one(sandbox);
    let mut told = 0;
    for days in [0, 1, 20, 100, 200, 400] {
        stage.later(Span::days(days));
        for who in ["fra1", "alice", "fra1", "alice"] {
            let home = stage.homes[&member(who)].clone();
            let files = files_below(&sandbox.path(&format!("home-{who}")));
            let todo = ops::sync_todo(&home, &mut stage.prepared(who), &mut stage.rng).unwrap();
            assert_eq!(files_below(&sandbox.path(&format!("home-{who}"))), files, "asking makes nothing");
            let before = (stage.entries().len(), stage.open().proposals().unwrap().len());
            stage.sync(who);
            let after = (stage.entries().len(), stage.open().proposals().unwrap().len());
            assert_eq!(todo.is_empty(), before == after, "after {days} days {who} was told {todo:?}");
            told += todo.len();
        }
    }
    assert!(told > 6, "{told}");
}

fn size_of(stage: &Stage, who: &str) -> usize {
    stage.open().certificate(&member(who)).unwrap().bytes().len()
}

/// Rotates all that alice has, and lets her catch up.
fn rotate(stage: &mut Stage) {
    for slot in [Slot::Openpgp, Slot::Sign] {
        stage.carry(|fleet, _| Stage::rotation(fleet, "alice", slot));
    }
    stage.settle(&[]);
    assert!(stage.has_standbys("alice"));
}

fn a_certificate_does_not_grow_with_every_rotation(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    let mut sizes = Vec::new();
    for _ in 0..12 {
        rotate(&mut stage);
        sizes.push(size_of(&stage, "alice"));
    }
    // What an operator decrypted with stays, bare; of the signing keys the newest do, so that gpg can still verify.
    let grown: Vec<usize> = sizes.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(grown[..3].iter().all(|g| *g > 600) && grown[5..].iter().all(|g| *g < 400), "{grown:?}");
    stage.is_sound();
}

fn a_certificate_of_large_keys_stays_within_limits(sandbox: &Sandbox) {
    let mut stage = Stage::found_as(sandbox, &["alice"], Profile::Modern);
    for _ in 0..4 {
        rotate(&mut stage);
    }
    assert!(size_of(&stage, "alice") > 64 << 10, "larger than it was once allowed to be");
    stage.is_sound();
}

fn host_certificates_follow_the_host_keys(sandbox: &Sandbox) {
    let mut stage = one(sandbox);
    for _ in 0..2 {
        stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::SshHost));
        stage.settle(&["fra1"]);
        let fleet = stage.open();
        assert_eq!(ops::uncertified_hosts(fleet.state(), stage.now), []);
        let host = fleet.state().members[&member("fra1")].slot(Slot::SshHost).unwrap().clone();
        for key in host.usable() {
            let issued = fleet.state().issued.values().any(|i| i.certificate.fields().subject.to_string() == key.key);
            assert!(issued, "{key:?}");
        }
    }
}

fn a_host_trusts_the_ca_of_before(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let own = SshPrivateKey::generate(&mut StdRng::from_seed(*b"a public seed, for tests alone!!"));
    let own = sandbox.write("alice.pub", format!("{}\n", own.public())).display().to_string();
    fleet.keys("alice", &["ssh", "sign", "user", "alice", "--key", &own]).ok();
    fleet.settle(&["fra1"]);
    // Certificates of the CA of before, alice's and fra1's, are good until they expire.
    for (slot, file) in [("ssh-user-ca", "user_ca.pub"), ("ssh-host-ca", "known_hosts")] {
        let (old, new) = fleet.active_and_standby("casc1", slot);
        fleet.keys("alice", &["rotate", "casc1", "--slot", slot, "--yes"]).ok();
        fleet.settle(&["fra1"]);
        fleet.keys("alice", &["ssh", "render", "--node", "fra1", "--out", slot]).ok();
        let trusted = std::fs::read_to_string(sandbox.path(slot).join(file)).unwrap();
        assert!(trusted.contains(&old) && trusted.contains(&new), "{slot}: {trusted}");
    }
}

/// As gpg's own users are told to do: the primary key is not on the machine, its subkeys are.
fn whose_primary_key_is_offline_goes_on_and_says_so(sandbox: &Sandbox) {
    let gpg = GpgHome::new(sandbox, "g");
    let quick = ["--pinentry-mode", "loopback", "--passphrase", ""];
    let run = |args: &[&str]| gpg.run(&[&quick[..], args].concat()).ok();
    run(&["--quick-generate-key", "Alice <alice@ops.example>", "ed25519", "cert", "never"]);
    let listed = gpg.run(&["--with-colons", "--with-keygrip", "--list-keys"]).ok();
    let field =
        |kind: &str| listed.lines().find(|l| l.starts_with(kind)).unwrap().split(':').nth(9).unwrap().to_owned();
    let (fingerprint, grip) = (field("fpr:"), field("grp:"));
    run(&["--quick-add-key", &fingerprint, "ed25519", "sign", "never"]);
    run(&["--quick-add-key", &fingerprint, "cv25519", "encr", "never"]);
    let keys = |args: &[&str]| {
        let mut command = sandbox.command();
        command.env("GNUPGHOME", gpg.path()).args(["--fleet", "fleet", "--home", "alice"]).args(args);
        Ran::of(&mut command)
    };
    keys(&["init", "cdn.example", "--operator", &format!("gpg:{fingerprint}")]).ok();
    let fleet = TestFleet { sandbox };
    fleet.keys("fra1", &["enroll", "fra1"]).ok();
    keys(&["approve", "--all", "--yes"]).ok();
    keys(&["sync"]).ok();
    std::fs::remove_file(gpg.path().join(format!("private-keys-v1.d/{grip}.key"))).unwrap();
    // Past half the life of what alice said of casc1: that she cannot say anew without her primary key.
    sandbox.set_days_later(95);
    let synced = keys(&["sync", "--json"]);
    let answer = synced.json();
    assert_eq!(synced.code(), 3, "{}", synced.stderr());
    let troubles = answer["troubles"].as_array().unwrap();
    assert!(
        matches!(&troubles[..], [t] if t.as_str().unwrap().starts_with("alice does not vouch for casc1 anew: ")),
        "{answer}"
    );
    // The authority in the same home has done its own work.
    let done = answer["done"].to_string();
    assert!(done.contains("casc1 vouches for fra1 anew"), "{done}");
    keys(&["log", "verify"]).ok();
}
