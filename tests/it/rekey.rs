//! The log's key changes: by root, in one entry, without a gap; what the old key signs from then on is nothing.

use keys::fleet::{Draft, Fleet, FleetError, Known, Placed};
use keys::log::note::{SignerKey, VerifierKey};
use keys::name::Slot;
use keys::ops;
use keys::state::{KeyState, Void};
use keys::statement::{Act, Activate, Objection, RetireReason};
use keys::store::{Target, append, read_checkpoint};
use keys::time::Span;

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, tests};

tests!["rekey":
    the_log_goes_on_with_the_new_key,
    what_the_old_key_signs_afterwards_is_refused,
    a_lost_key_is_replaced_by_its_standby,
    an_interrupted_change_is_finished,
    it_takes_root_and_a_standby,
    it_waits_where_the_policy_says_so,
    the_command_changes_it,
];

fn rekey(fleet: &Fleet, why: RetireReason) -> Vec<Draft> {
    vec![Draft::bare(Act::Rekey(ops::plan_rekey(None, why, fleet.state()).unwrap()), "another key")]
}

/// An entry that anybody may make.
fn tick(stage: &mut Stage, word: &str) -> Vec<Placed> {
    let statement = keys::digest::Digest::of(word.as_bytes());
    stage.act("alice", |_, _| vec![Draft::bare(Act::Object(vec![Objection { statement }]), "a tick")])
}

/// Which of the log's keys, old and new, have signed the head that is published.
fn signed_by(stage: &Stage, keys: &[String]) -> Vec<bool> {
    let (note, _) = read_checkpoint(&stage.keyring).unwrap();
    keys.iter().map(|k| note.is_signed_by(&VerifierKey::parse(k).unwrap())).collect()
}

/// The active and the standby log key of casc1.
fn both(stage: &Stage) -> Vec<String> {
    let fleet = stage.open();
    let keys = fleet.state().members[&member("casc1")].slot(Slot::Log).unwrap();
    keys.usable().map(|k| k.key.clone()).collect()
}

fn private(stage: &Stage, public: &str) -> SignerKey {
    let text = stage.homes[&member("alice")].key(&member("casc1"), Slot::Log, public).unwrap();
    SignerKey::from_private_text(&text).unwrap()
}

fn the_log_goes_on_with_the_new_key(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    let keys = both(&stage);
    assert_eq!(signed_by(&stage, &keys), [true, false]);
    let before = read_checkpoint(&stage.keyring).unwrap().0;
    let placed = stage.carry(|fleet, _| rekey(fleet, RetireReason::Retired));
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    // Whoever knows only the old key can follow to here, and learns the new one from the entry.
    assert_eq!(signed_by(&stage, &keys), [true, true]);
    let known = Known { seen: Some(before.to_bytes()), ..Known::default() };
    Fleet::open(stage.keyring.clone(), &known, stage.now, &mut |_, _| {}).unwrap();
    assert!(matches!(tick(&mut stage, "one")[..], [Placed::Logged { .. }]));
    assert_eq!(signed_by(&stage, &keys), [false, true]);
    assert!(before.is_signed_by(&VerifierKey::parse(&keys[0]).unwrap()), "what was signed stays signed");
    // The next standby comes by itself, the old key goes, and all of it verifies.
    stage.sync("alice");
    let slot = stage.open().state().members[&member("casc1")].slot(Slot::Log).unwrap().clone();
    let states: Vec<KeyState> = slot.keys.iter().map(|k| k.state).collect();
    assert_eq!(states, [KeyState::Destroyed, KeyState::Active, KeyState::PreActive]);
    assert!(stage.homes[&member("alice")].key(&member("casc1"), Slot::Log, &keys[0]).is_err());
    stage.is_sound();
    // And once more, with the key that was made since.
    stage.carry(|fleet, _| rekey(fleet, RetireReason::Retired));
    tick(&mut stage, "two");
    stage.is_sound();
}

fn what_the_old_key_signs_afterwards_is_refused(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    let keys = both(&stage);
    let thief = private(&stage, &keys[0]);
    stage.carry(|fleet, _| rekey(fleet, RetireReason::Compromised));
    let fleet = stage.open();
    let state = fleet.state().members[&member("casc1")].slot(Slot::Log).unwrap().find(&keys[0]).unwrap().state;
    assert_eq!(state, KeyState::Compromised);
    // The thief publishes something that has its quorum even.
    let replay = stage.replay();
    let statement =
        stage.statement(&replay, "alice", Act::Object(vec![Objection { statement: keys::digest::Digest::of(b"any") }]));
    let entry = Stage::entry(&statement, vec![stage.line(&replay, "alice", &statement)]);
    append(&stage.keyring, fleet.head(), fleet.log(), vec![entry], &thief, Target::Published).unwrap();
    let opened = Fleet::open(stage.keyring.clone(), &Known::default(), stage.now, &mut |_, _| {});
    assert!(matches!(opened, Err(FleetError::Unsigned)), "{:?}", opened.err());
}

fn a_lost_key_is_replaced_by_its_standby(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    let keys = both(&stage);
    assert!(stage.homes[&member("alice")].destroy_key(&member("casc1"), Slot::Log, &keys[0]).unwrap());
    // The standby alone writes nothing: what is complete is handed in.
    assert!(matches!(tick(&mut stage, "one")[..], [Placed::HandedIn { .. }]));
    let placed = stage.act("bob", |fleet, _| rekey(fleet, RetireReason::Lost));
    let id = Stage::proposed(&placed);
    assert!(matches!(stage.approve("alice", &id).unwrap(), Placed::Logged { .. }));
    assert_eq!(signed_by(&stage, &keys), [false, true]);
    // What waited is taken in now.
    stage.sync("alice");
    assert!(stage.open().state().objected.len() == 1);
    stage.is_sound();
}

/// Power is lost after the commit and before the head: the next command of whoever has one of the keys finishes it.
fn an_interrupted_change_is_finished(sandbox: &Sandbox) {
    for why in [RetireReason::Retired, RetireReason::Lost] {
        let place = Sandbox::new("interrupted");
        let mut stage = Stage::found(&place, &["alice", "bob"]);
        let keys = both(&stage);
        if why == RetireReason::Lost {
            stage.homes[&member("alice")].destroy_key(&member("casc1"), Slot::Log, &keys[0]).unwrap();
        }
        let head = std::fs::read(place.path("keyring/log/checkpoint")).unwrap();
        stage.carry(|fleet, _| rekey(fleet, why));
        let after = std::fs::read(place.path("keyring/log/checkpoint")).unwrap();
        std::fs::write(place.path("keyring/log/checkpoint"), &head).unwrap();
        assert_eq!(both(&stage), keys, "readers see the old head");
        stage.prepared("alice").done();
        assert_eq!(std::fs::read(place.path("keyring/log/checkpoint")).unwrap(), after, "{why}");
        assert_eq!(signed_by(&stage, &keys), [why == RetireReason::Retired, true], "{why}");
        stage.sync("alice");
        stage.is_sound();
        place.finish(true);
    }
    assert!(sandbox.root().exists());
}

fn it_takes_root_and_a_standby(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice", "bob"]);
    let keys = both(&stage);
    let mut replay = stage.replay();
    let plan = ops::plan_rekey(None, RetireReason::Retired, replay.state().unwrap()).unwrap();
    for signers in [&["alice"][..], &["alice", "casc1"], &["casc1"]] {
        let verdict = stage.judge(&mut replay, Act::Rekey(plan.clone()), signers);
        assert!(matches!(&verdict.void[..], [(0, Void::Quorum { .. })]), "{signers:?}: {verdict:?}");
    }
    assert_eq!(stage.judge(&mut replay, Act::Rekey(plan.clone()), &["alice", "bob"]).applied, 1);
    for key in [keys[0].clone(), keys[1].replacen("cdn", "cdm", 1)] {
        let verdict =
            stage.judge(&mut replay, Act::Rekey(keys::statement::Rekey { key, ..plan.clone() }), &["alice", "bob"]);
        assert!(matches!(&verdict.void[..], [(0, Void::Transition { .. })]), "{verdict:?}");
    }
    // Not by the way in which other keys rotate.
    let activate = Activate {
        generation: plan.generation,
        key: plan.key.clone(),
        member: member("casc1"),
        prev: plan.prev,
        slot: Slot::Log,
    };
    let verdict = stage.judge(&mut replay, Act::Activate(vec![activate]), &["alice", "bob"]);
    assert_eq!(verdict.applied, 0, "{verdict:?}");
}

fn it_waits_where_the_policy_says_so(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.carry(|fleet, _| {
        Stage::policy(fleet, "fleet.toml", |t| {
            t.replacen("[proposals]", "[time-lock]\nlog.rekey = \"1d\"\n\n[proposals]", 1)
        })
    });
    let keys = both(&stage);
    stage.carry(|fleet, _| rekey(fleet, RetireReason::Retired));
    assert_eq!((signed_by(&stage, &keys), stage.open().state().locked.len()), (vec![true, false], 1));
    tick(&mut stage, "one");
    assert_eq!(signed_by(&stage, &keys), [true, false]);
    stage.later(Span::days(1));
    // The head that is there was signed before, and stays good until somebody writes.
    stage.is_sound();
    assert!(matches!(tick(&mut stage, "two")[..], [Placed::Logged { .. }]));
    assert_eq!(signed_by(&stage, &keys), [true, true]);
    tick(&mut stage, "three");
    assert_eq!(signed_by(&stage, &keys), [false, true]);
    // A key that is stolen is replaced at once.
    stage.sync("alice");
    let keys = both(&stage);
    stage.carry(|fleet, _| rekey(fleet, RetireReason::Compromised));
    assert_eq!(signed_by(&stage, &keys), [true, true]);
    stage.is_sound();
}

/// With the program alone, by two operators on two machines, while a third machine that was away follows.
fn the_command_changes_it(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "");
    fleet.seal("fra1/one", "value");
    fleet.settle(&["bob", "fra1"]);
    assert_eq!(fleet.keys("fra1", &["open", "fra1/one"]).ok(), "value");
    let vkey = || fleet.keys("alice", &["log", "vkey"]).ok().trim().to_owned();
    let old = vkey();
    let before = std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    let plan = fleet.keys("bob", &["log", "rekey", "--dry-run"]);
    plan.exits(9);
    assert!(plan.stdout().contains("the log's key of casc1 is"), "{}", plan.stdout());
    let ran =
        fleet.keys("bob", &["log", "rekey", "casc1", "--why", "compromised", "--reason", "a disk is gone", "--yes"]);
    ran.exits(4);
    assert_eq!((vkey(), std::fs::read(fleet.keyring("log/checkpoint")).unwrap()), (old.clone(), before));
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    let shown = fleet.keys("alice", &["log", "show", "-n", "1"]).ok();
    assert!(shown.contains("log.rekey") && shown.contains("a disk is gone"), "{shown}");
    let new = vkey();
    assert_ne!(new, old);
    let all = fleet.keys("alice", &["log", "vkey", "--all"]).ok();
    let line = |key: &str| all.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("{all}")).to_owned();
    assert!(line(&old).contains("casc1 compromised 20") && line(&new).contains("casc1 active 20"), "{all}");
    let rows = fleet.keys("alice", &["log", "vkey", "--all", "--json"]).json()["vkeys"].clone();
    let row = rows.as_array().unwrap().iter().find(|r| r["vkey"] == old.as_str()).unwrap().clone();
    assert!(row["state"] == "compromised" && row["until"].as_str().is_some(), "{row}");
    // A third machine, which knew the log only by its old key, goes on; the next standby comes by itself.
    assert_eq!(fleet.keys("fra1", &["open", "fra1/one"]).ok(), "value");
    fleet.settle(&["bob", "fra1"]);
    assert_eq!(fleet.keys("fra1", &["open", "fra1/one"]).ok(), "value");
    assert_eq!(fleet.keys("alice", &["log", "vkey", "--all"]).ok().lines().count(), 3);
    let verified = fleet.keys("fra1", &["log", "verify"]).ok();
    assert!(!verified.contains("note:"), "{verified}");
    fleet.keys("bob", &["log", "rekey", "nobody"]).refuses(5, "nobody");
}
