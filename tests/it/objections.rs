//! Stopping a statement: one objection is enough, for good, whoever signs and whenever it arrives.

use keys::digest::Digest;
use keys::fleet::{Draft, Placed};
use keys::state::Void;
use keys::statement::{Act, Objection, Retire, RetireReason};

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, tests};

tests!["objections":
    an_objection_stops_a_proposal_for_good,
    the_same_can_be_proposed_anew_in_the_same_second,
    an_objection_that_arrives_with_what_it_stops_comes_first,
    nobody_objects_to_their_own_removal,
    only_who_decides_objects,
    withdrawing_says_what_it_does_not_do,
];

/// A fleet of two in which alice has proposed another policy, and the proposal's id.
fn proposed(sandbox: &Sandbox) -> (TestFleet<'_>, String) {
    let fleet = TestFleet::of_two(sandbox);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("lifetime = \"7d\"", "lifetime = \"5d\"", 1)).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).exits(4);
    let id = fleet.keys("bob", &["approve", "--json"]).json()["waiting"][0]["id"].as_str().unwrap().to_owned();
    (fleet, id)
}

fn an_objection_stops_a_proposal_for_good(sandbox: &Sandbox) {
    let (fleet, id) = proposed(sandbox);
    let directory = format!("fleet/keyring/proposals/{id}");
    sandbox.copy(&directory, "kept");
    fleet.keys("bob", &["object", &id[..8], "--yes"]).exits(2);
    fleet.keys("bob", &["object", &id[..8], "--reason", "not agreed", "--dry-run"]).exits(9);
    fleet.keys("bob", &["object", &id[..8], "--reason", "not agreed", "--yes"]).exits(4);
    let taken_in = fleet.keys("alice", &["sync"]);
    taken_in.ok();
    assert!(taken_in.stderr().contains("bob objected to it, so it can never take effect"), "{}", taken_in.stderr());
    assert!(!sandbox.path(&directory).exists());
    // Whoever kept a copy hands it in again, with bob's own signature even: it is dead.
    sandbox.copy("kept", &directory);
    fleet.keys("bob", &["approve", &id, "--yes"]).refuses(1, "bob objected to it");
    let shown = fleet.keys("alice", &["log", "show", "-n", "1", "--verbose"]).ok();
    assert!(shown.contains("proposal.object by bob") && shown.contains("not agreed"), "{shown}");
    // The change itself can be proposed anew.
    fleet.keys("alice", &["policy", "propose", "--yes"]).exits(4);
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn the_same_can_be_proposed_anew_in_the_same_second(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    let propose = |stage: &mut Stage| {
        Stage::proposed(&stage.act("alice", |fleet, _| {
            Stage::policy(fleet, "fleet.toml", |t| t.replacen("lifetime = \"7d\"", "lifetime = \"5d\"", 1))
        }))
    };
    let mut stopped: Vec<Digest> = Vec::new();
    for _ in 0..3 {
        let id = propose(&mut stage);
        assert!(!stopped.contains(&id));
        stage.act("bob", |_, _| vec![Draft::bare(Act::Object(vec![Objection { statement: id }]), "no")]);
        stage.sync("alice");
        assert!(stage.open().state().objected.contains_key(&id));
        stopped.push(id);
    }
    stage.is_sound();
}

fn an_objection_that_arrives_with_what_it_stops_comes_first(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    let placed = stage.act("bob", |fleet, _| {
        Stage::policy(fleet, "fleet.toml", |t| t.replacen("lifetime = \"7d\"", "lifetime = \"5d\"", 1))
    });
    let id = Stage::proposed(&placed);
    // carol completes it on a machine without the log's key, and then bob thinks better of it: both wait side by side.
    assert!(matches!(stage.approve("carol", &id).unwrap(), Placed::HandedIn { .. }));
    stage.later(keys::time::Span(5));
    let objection = Act::Object(vec![Objection { statement: id }]);
    let placed = stage.act("bob", |_, _| vec![Draft::bare(objection, "a mistake")]);
    assert!(matches!(placed[..], [Placed::HandedIn { .. }]), "{placed:?}");
    stage.sync("alice");
    let fleet = stage.open();
    assert_eq!(fleet.state().policy.version, 1);
    assert_eq!(fleet.state().objected[&id], [member("bob")].into());
    stage.is_sound();
}

/// A thief with an operator's key must not be able to stay by objecting; against anything else it is worth as much as any.
fn nobody_objects_to_their_own_removal(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    let mut replay = stage.replay();
    let retire = |who: &str| Act::Retire(vec![Retire { cert: None, member: member(who), why: RetireReason::Lost }]);
    for (objector, leaves, holds) in [("carol", "carol", false), ("carol", "bob", true), ("bob", "carol", true)] {
        let statement = stage.statement(&replay, "alice", retire(leaves));
        let entry = Stage::entry(&statement, ["alice", "bob"].map(|who| stage.line(&replay, who, &statement)).to_vec());
        let id = crate::support::stage::id_of(&entry);
        let objection = stage.statement(&replay, objector, Act::Object(vec![Objection { statement: id }]));
        let line = stage.line(&replay, objector, &objection);
        let mut objected = stage.replay();
        assert_eq!(objected.apply(&Stage::entry(&objection, vec![line])).unwrap().applied, 1);
        let verdict = objected.preview(&entry).unwrap();
        let stopped = matches!(&verdict.void[..], [(0, Void::Objected(_))]);
        assert_eq!(stopped, holds, "{objector} about {leaves}: {verdict:?}");
        assert_eq!(replay.preview(&entry).unwrap().applied, 1);
    }
}

fn only_who_decides_objects(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &[]);
    let mut replay = stage.replay();
    let objection = Act::Object(vec![Objection { statement: keys::digest::Digest::of(b"any") }]);
    for (who, applied) in [("alice", 1), ("casc1", 1), ("fra1", 0)] {
        assert_eq!(stage.judge(&mut replay, objection.clone(), &[who]).applied, applied, "{who}");
    }
    // What has taken effect cannot be stopped any more, and an objection cannot be objected to.
    let done = crate::support::stage::id_of(stage.entries().last().unwrap());
    let late = stage.judge(&mut replay, Act::Object(vec![Objection { statement: done }]), &["alice"]);
    assert!(matches!(&late.void[..], [(0, Void::Done)]), "{late:?}");
    let first = stage.statement(&replay, "alice", objection);
    let entry = Stage::entry(&first, vec![stage.line(&replay, "alice", &first)]);
    let about = Act::Object(vec![Objection { statement: crate::support::stage::id_of(&entry) }]);
    let second = stage.statement(&replay, "bob", about);
    replay.apply(&Stage::entry(&second, vec![stage.line(&replay, "bob", &second)])).unwrap();
    assert_eq!(replay.preview(&entry).unwrap().applied, 1);
}

fn withdrawing_says_what_it_does_not_do(sandbox: &Sandbox) {
    let (fleet, id) = proposed(sandbox);
    fleet.keys("bob", &["withdraw", &id, "--yes"]).refuses(1, &format!("'keys object {} --reason TEXT'", &id[..12]));
    let withdrawn = fleet.keys("alice", &["withdraw", &id, "--yes"]);
    withdrawn.ok();
    assert!(withdrawn.stderr().contains("whoever kept a copy can hand it in"), "{}", withdrawn.stderr());
    // It can still be objected to, by all of its id.
    fleet.keys("alice", &["object", &id, "--reason", "for good", "--yes"]).ok();
    fleet.keys("alice", &["object", &id, "--reason", "for good", "--yes"]).refuses(1, "it is in the log already");
}
