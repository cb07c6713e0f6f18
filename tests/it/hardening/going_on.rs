//! The fleet goes on: through departures, changes of policy, second thoughts, crashes, and clocks that are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keys::disk::Disk;
use keys::fleet::{Placed, Standing};
use keys::name::Slot;
use keys::ops;
use keys::store::Store;
use keys::time::Span;

use crate::support::faulty::Faulty;
use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, files_below, tests};

tests!["hardening::going_on":
    without_the_first_authority_another_goes_on,
    a_new_policy_does_not_strand_whoever_had_handed_something_in,
    who_withdraws_a_complete_proposal_does_not_log_it,
    who_has_a_new_key_signs_anew,
    a_proposal_that_was_not_written_to_its_end_is_none,
    a_clock_behind_goes_on_reading needs [Faketime],
    a_clock_that_was_ahead_stands_in_nobodys_way_later,
    a_policy_that_would_break_the_mesh_is_refused,
    one_draft_that_is_refused_keeps_no_other_from_being_made,
];

fn without_the_first_authority_another_goes_on(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.keys("casc2", &["enroll", "casc2", "--authority"]).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    fleet.join("fra1", "");
    // The home that holds the log's key retires the authority whose key it is.
    fleet.keys("alice", &["revoke", "casc1", "--reason", "retired", "--yes"]).ok();
    for home in ["alice", "casc2", "fra1"] {
        fleet.keys(home, &["status"]).ok();
        fleet.keys(home, &["log", "verify"]).ok();
    }
    let size = || fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64().unwrap();
    // Whom casc1 vouched for casc2 now does.
    let before = size();
    fleet.keys("casc2", &["sync"]).ok();
    assert!(size() > before);
    let before = size();
    fleet.keys_with("alice", &["seal", "fra1/token"], b"value").exits(4);
    assert_eq!(size(), before, "here is nobody any more who could log it");
    fleet.keys("casc2", &["sync"]).ok();
    assert!(size() > before);
    assert_eq!(fleet.keys("fra1", &["open", "fra1/token"]).ok(), "value");
    fleet.keys("fra1", &["log", "verify"]).ok();
}

fn a_new_policy_does_not_strand_whoever_had_handed_something_in(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &[]);
    stage.settle(&["fra1"]);
    stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::SshHost));
    let comment = |old: String| format!("{old}\n# a comment\n");
    let id = Stage::proposed(&stage.act("alice", |fleet, _| Stage::policy(fleet, "ssh.toml", comment)));
    stage.later(Span(60));
    // While the policy waits for bob, fra1 hands in its new standby, for the policy of now.
    stage.sync("fra1");
    stage.approve("bob", &id).unwrap();
    stage.prepared("alice").done();
    assert_eq!(stage.open().state().policy.version, 2);
    assert!(!stage.has_standbys("fra1"), "what was handed in was for the policy of before");
    stage.sync("fra1");
    stage.prepared("alice").done();
    assert!(stage.has_standbys("fra1"));
    assert!(stage.open().proposals().unwrap().is_empty());
}

fn who_withdraws_a_complete_proposal_does_not_log_it(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "");
    fleet.keys("alice", &["rotate", "fra1", "--slot", "ssh-host", "--yes"]).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    let id = fleet.keys("alice", &["approve", "--json"]).json()["waiting"][0]["id"].as_str().unwrap().to_owned();
    let before = fleet.active_and_standby("fra1", "ssh-host");
    fleet.keys("bob", &["withdraw", &id, "--yes"]).refuses(1, "only its author alice takes a proposal back");
    fleet.keys("alice", &["withdraw", &id, "--yes"]).ok();
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(fleet.active_and_standby("fra1", "ssh-host"), before);
    assert_eq!(fleet.keys("alice", &["approve", "--json"]).json()["waiting"].as_array().map(Vec::len), Some(0));
}

fn who_has_a_new_key_signs_anew(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &[]);
    stage.settle(&["fra1", "bob"]);
    let id = Stage::proposed(&stage.act("alice", |fleet, _| Stage::rotation(fleet, "fra1", Slot::Wireguard)));
    stage.carry(|fleet, _| Stage::rotation(fleet, "alice", Slot::Sign));
    let mut fleet = stage.open();
    let proposal = fleet.proposal(&id).unwrap().unwrap();
    let hers = proposal.signatures.iter().filter(|l| l.name == "cdn.example/alice").count();
    assert_eq!(hers, 0, "the replaced key's signature does not count");
    assert!(matches!(fleet.standing(&proposal).unwrap(), Standing::Lacks(_)));
    stage.approve("bob", &id).unwrap();
    let placed = stage.approve("alice", &id).unwrap();
    assert!(matches!(placed, Placed::Logged { .. }), "{placed:?}");
}

/// The disk is full, or the machine loses its power, at each step of handing something in.
fn a_proposal_that_was_not_written_to_its_end_is_none(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &[]);
    stage.settle(&["fra1"]);
    let left = Arc::new(AtomicUsize::new(0));
    let (mut steps, sound) = (0, stage.keyring.clone());
    loop {
        stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::Openpgp));
        assert!(!stage.has_standbys("fra1"));
        left.store(steps, Ordering::Relaxed);
        stage.keyring = Store::new(Disk::new(Faulty::new(&sandbox.path("keyring"), &left)));
        let done = hand_in(&mut stage);
        stage.keyring = sound.clone();
        for proposal in stage.open().proposals().unwrap() {
            let standing = stage.open().standing(&proposal).unwrap();
            assert_eq!(standing, Standing::Complete, "step {steps}: what there is of it is whole");
        }
        // And who comes next makes it anew, or takes it in.
        stage.sync("fra1");
        stage.sync("alice");
        assert!(stage.has_standbys("fra1"), "step {steps}");
        stage.is_sound();
        if done {
            break;
        }
        steps += 1;
    }
    assert!(steps > 8, "{steps} steps: mark, two attachments, signature, body, each by a temporary file");
    let waiting =
        files_below(&sandbox.path("keyring")).into_iter().filter(|p| p.to_str().unwrap().contains("proposals"));
    assert_eq!(waiting.count(), 0);
}

/// fra1 hands in whatever it has to; whether all of it worked.
fn hand_in(stage: &mut Stage) -> bool {
    let home = stage.homes[&member("fra1")].clone();
    let mut fleet = stage.open();
    if fleet.prepare(None).is_err() {
        return false;
    }
    let Ok(plan) = ops::plan_sync(&home, &mut fleet, &mut stage.rng) else { return false };
    assert!(!plan.drafts.is_empty());
    let done = ops::carry_out(&home, &mut fleet, plan.drafts, None).is_ok();
    if done {
        fleet.done();
    }
    done
}

/// A PoP that boots without a clock goes on serving what it has, by the log's time, and changes nothing.
fn a_clock_behind_goes_on_reading(sandbox: &Sandbox) {
    sandbox.set_days_later(400);
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "value");
    sandbox.set_days_later(0);
    let opened = fleet.keys("fra1", &["open", "nginx@fra1/tls.key"]);
    assert_eq!(opened.ok(), "value");
    assert!(opened.stderr().contains("is the clock right?; going by the log's time"), "{}", opened.stderr());
    fleet.keys("fra1", &["wg", "render", "--out", "wg"]).ok();
    fleet.keys("fra1", &["status"]).ok();
    fleet.keys("fra1", &["log", "verify"]).ok();
    let files = || {
        let all = files_below(&sandbox.path("fleet")).into_iter().filter(|p| !p.ends_with(".writing"));
        all.map(|p| (p.clone(), std::fs::read(p).unwrap())).collect::<Vec<_>>()
    };
    let before = files();
    for (who, line) in
        [("alice", "seal nginx@fra1/tls.key"), ("alice", "rotate fra1 --yes"), ("alice", "rm nginx@fra1/tls.key --yes")]
    {
        let ran = fleet.keys_with(who, &line.split(' ').collect::<Vec<_>>(), b"another");
        ran.refuses(7, "is the clock right?");
    }
    assert!(files() == before);
}

/// What fra1 made while its clock was three weeks ahead is dated so; put right again, it starts from what is of today.
fn a_clock_that_was_ahead_stands_in_nobodys_way_later(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    stage.settle(&["fra1"]);
    for slot in [Slot::Openpgp, Slot::Sign] {
        stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", slot));
    }
    let now = stage.now;
    stage.now = now.plus(Span::days(20));
    stage.sync("fra1");
    assert!(!stage.open().proposals().unwrap().is_empty());
    let kept = |stage: &Stage| {
        let cert = stage.homes[&member("fra1")].secret_certificate(&member("fra1")).unwrap().unwrap();
        cert.keys().secret().map(|k| k.key().fingerprint()).collect::<Vec<_>>()
    };
    let made = kept(&stage);
    stage.now = now;
    stage.sync("fra1");
    let still = kept(&stage);
    assert!(made.iter().all(|key| still.contains(key)), "no key is lost: the log may yet have it");
    stage.settle(&["fra1"]);
    assert!(stage.has_standbys("fra1"));
    let waiting = stage.open().proposals().unwrap().len();
    stage.sync("fra1");
    assert_eq!(stage.open().proposals().unwrap().len(), waiting, "it has nothing more to say");
    // The keys that it made then come to no harm, and whatever is sealed to those of now can be read, now and then.
    stage.seal("alice", "fra1/token", "value");
    assert_eq!(stage.opens("fra1", "fra1/token"), "value");
    stage.later(Span::days(21));
    stage.settle(&["fra1"]);
    assert!(stage.open().proposals().unwrap().is_empty() && stage.has_standbys("fra1"));
    stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::Openpgp));
    stage.settle(&["fra1"]);
    stage.seal("alice", "fra1/token", "another");
    assert_eq!(stage.opens("fra1", "fra1/token"), "another");
    stage.is_sound();
}

fn a_policy_that_would_break_the_mesh_is_refused(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let file = sandbox.path("fleet/policy/wireguard.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let other = text.replace("region = \"default\"", "region = \"eu\"");
    assert_ne!(other, text);
    std::fs::write(&file, other).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).refuses(3, "the mesh has faults");
    fleet.keys("alice", &["wg", "render", "--out", "wg"]).ok();
    std::fs::write(&file, format!("{text}\n# a comment\n")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.keys("alice", &["wg", "render", "--out", "wg2"]).ok();
}

/// fra1's home was copied together with a key of ams1's that is in use there: fra1 cannot have it, and does all the rest.
fn one_draft_that_is_refused_keeps_no_other_from_being_made(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("ams1", "");
    fleet.join("fra1", "nginx");
    fleet.settle(&["ams1", "fra1"]);
    for args in
        [["rotate", "fra1", "--slot", "ssh-host", "--yes"], ["rotate", "nginx@fra1", "--slot", "openpgp", "--yes"]]
    {
        fleet.keys("alice", &args).ok();
    }
    for path in files_below(&sandbox.path("ams1/members/ams1/ssh-host")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        std::fs::copy(&path, sandbox.path("fra1/members/fra1/ssh-host").join(name)).unwrap();
    }
    let synced = fleet.keys("fra1", &["sync", "--json"]);
    synced.refuses(3, "is used by ams1 already");
    let answer = synced.json();
    assert_eq!(answer["troubles"].as_array().map(Vec::len), Some(1), "{answer}");
    let done: Vec<&str> = answer["done"].as_array().unwrap().iter().filter_map(serde_json::Value::as_str).collect();
    assert!(done.iter().any(|d| d.starts_with("nginx@fra1: new openpgp standby")), "{done:?}");
    assert!(
        !done.iter().any(|d| d.starts_with("fra1: new ssh-host standby")),
        "what was refused is not done: {done:?}"
    );
    fleet.keys("alice", &["sync"]).ok();
    let standby = |member: &str, slot: &str| {
        let ran = fleet.keys("alice", &["rotate", member, "--slot", slot, "--dry-run", "--json"]);
        ran.json()["plan"]["rotations"].as_array().map(Vec::len)
    };
    assert_eq!((standby("nginx@fra1", "openpgp"), standby("fra1", "ssh-host")), (Some(1), Some(0)));
}
