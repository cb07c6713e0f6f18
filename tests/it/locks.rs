//! Time locks: a change that waits in the log, is seen there, can be stopped, and is judged again when its time has come.

use keys::digest::Digest;
use keys::fleet::{Draft, Fleet, Placed};
use keys::name::Slot;
use keys::openpgp::Fingerprint;
use keys::state::{Objects as _, State, Unlocked, Void};
use keys::statement::{Act, Objection, PolicyUpdate, Retire, RetireReason};
use keys::time::Span;

use crate::support::stage::{Stage, id_of, member};
use crate::support::written::operator;
use crate::support::{Sandbox, TestFleet, tests};

tests!["locks":
    a_locked_policy_waits_and_then_holds,
    an_objection_stops_it_while_it_waits,
    a_shorter_lock_does_not_shorten_itself,
    backdating_does_not_help,
    a_void_entry_unlocks_nothing,
    a_robbed_signer_no_longer_counts_when_the_time_has_come,
    what_is_stale_by_then_is_void_and_reported,
    a_new_operator_has_to_wait,
    the_state_is_written_with_what_waits,
    people_see_what_waits,
];

const DAY: Span = Span::days(1);
const HOUR: Span = Span(3600);

/// Three operators, two of whom decide, with a day's lock on the policy and on people.
fn three(sandbox: &Sandbox) -> Stage {
    let mut stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    let locks = "[time-lock]\npolicy.update = \"1d\"\nmember.enroll = \"1d\"\n\n[proposals]";
    let placed = stage.carry(|fleet, _| Stage::policy(fleet, "fleet.toml", |t| t.replacen("[proposals]", locks, 1)));
    assert!(matches!(&placed[..], [Placed::Logged { verdict, .. }] if verdict.locked.is_none()), "{placed:?}");
    stage
}

/// A policy with another lifetime of proposals.
pub(crate) fn lifetime(fleet: &Fleet, days: u32) -> Vec<Draft> {
    let current = fleet.state().policy.policy.fleet.proposal_lifetime;
    let (from, to) = (format!("lifetime = \"{current}\""), format!("lifetime = \"{days}d\""));
    Stage::policy(fleet, "fleet.toml", |t| {
        assert!(t.contains(&from));
        t.replacen(&from, &to, 1)
    })
}

fn locked(placed: &[Placed]) -> Digest {
    match placed {
        [Placed::Logged { id, verdict }] if verdict.locked.is_some() => *id,
        other => panic!("not locked: {other:?}"),
    }
}

/// Something that has an effect at the present.
pub(crate) fn tick(stage: &mut Stage) -> Vec<Placed> {
    let id = Digest::of(stage.now.to_string().as_bytes());
    stage.act("alice", |_, _| vec![Draft::bare(Act::Object(vec![Objection { statement: id }]), "a tick")])
}

fn days(state: &State) -> Span {
    state.policy.policy.fleet.proposal_lifetime
}

fn a_locked_policy_waits_and_then_holds(sandbox: &Sandbox) {
    let mut stage = three(sandbox);
    let placed = stage.carry(|fleet, _| lifetime(fleet, 5));
    let id = locked(&placed);
    let due = stage.open().state().locked[&id].due;
    assert_eq!(due, stage.now.plus(DAY));
    stage.later(Span(DAY.0 - 1));
    tick(&mut stage);
    let fleet = stage.open();
    assert_eq!((days(fleet.state()), fleet.state().locked.len()), (Span::days(7), 1));
    // At its time it holds for whoever looks, before there is any entry; what the log itself has come to is as before.
    stage.later(Span(1));
    let fleet = stage.open();
    assert_eq!((days(fleet.state()), fleet.state().policy.version), (Span::days(5), 3));
    assert_eq!((days(fleet.logged_state()), fleet.logged_state().locked.len()), (Span::days(7), 1));
    // The next entry is made under it, and by it the log has come to the same.
    let Placed::Logged { verdict, .. } = &tick(&mut stage)[0] else { panic!("not logged") };
    assert!(matches!(&verdict.unlocked[..], [Unlocked { void, .. }] if void.is_empty()), "{verdict:?}");
    let after = stage.open();
    assert_eq!((days(after.logged_state()), after.logged_state().policy.version), (Span::days(5), 3));
    assert!(after.logged_state().locked.is_empty());
    assert_eq!(after.unlocked().len(), 1);
    // Replayed in a year it is the same: no clock had a say.
    let state = after.logged_state().clone();
    stage.later(Span::days(365));
    assert_eq!(*stage.open().logged_state(), state);
    stage.is_sound();
}

fn an_objection_stops_it_while_it_waits(sandbox: &Sandbox) {
    let mut stage = three(sandbox);
    let placed = stage.carry(|fleet, _| lifetime(fleet, 5));
    let id = locked(&placed);
    stage.later(HOUR);
    let objection = Act::Object(vec![Objection { statement: id }]);
    stage.act("carol", |_, _| vec![Draft::bare(objection, "I did not agree")]);
    stage.sync("alice");
    assert!(stage.open().state().locked.is_empty());
    stage.later(DAY);
    tick(&mut stage);
    let fleet = stage.open();
    assert_eq!((days(fleet.state()), fleet.unlocked().len()), (Span::days(7), 0));
    // Too late it stops nothing.
    let placed = stage.carry(|fleet, _| lifetime(fleet, 6));
    let id = locked(&placed);
    stage.later(DAY);
    tick(&mut stage);
    let late = stage
        .try_act("alice", |_, _| Ok(vec![Draft::bare(Act::Object(vec![Objection { statement: id }]), "too late")]));
    assert!(late.is_err_and(|e| e.to_string().contains("it is in the log already")));
    assert_eq!(days(stage.open().state()), Span::days(6));
}

fn a_shorter_lock_does_not_shorten_itself(sandbox: &Sandbox) {
    let mut stage = three(sandbox);
    let placed = stage.carry(|fleet, _| {
        Stage::policy(fleet, "fleet.toml", |t| t.replacen("policy.update = \"1d\"", "policy.update = \"1m\"", 1))
    });
    let id = locked(&placed);
    assert_eq!(stage.open().state().locked[&id].due, stage.now.plus(DAY));
    stage.later(HOUR);
    tick(&mut stage);
    assert!(stage.open().state().locked.contains_key(&id));
    // What comes meanwhile waits as long: the old lock is in force until then.
    let placed = stage.carry(|fleet, _| lifetime(fleet, 5));
    assert_eq!(stage.open().state().locked[&locked(&placed)].due, stage.now.plus(DAY));
}

/// The lock is counted from when it was logged. Whoever has enough keys can date the statement, not the log before it.
fn backdating_does_not_help(sandbox: &Sandbox) {
    let mut stage = three(sandbox);
    stage.later(DAY);
    tick(&mut stage);
    let mut replay = stage.replay();
    let policy = replay.state().unwrap().policy.clone();
    let text = String::from_utf8(stage.keyring.object(&policy.files["fleet.toml"]).unwrap()).unwrap();
    let (digest, _) = stage.keyring.stage(text.replacen("\"7d\"", "\"5d\"", 1).as_bytes()).unwrap();
    let mut files = policy.files.clone();
    files.insert("fleet.toml".into(), digest);
    let act = Act::PolicyUpdate(PolicyUpdate { generation: policy.version + 1, policy: files, prev: policy.prev });
    let mut statement = stage.statement(&replay, "alice", act);
    (statement.at, statement.expires) = (stage.now.minus(DAY), stage.now.plus(DAY));
    let at = statement.at;
    let lines = ["alice", "bob"].map(|who| {
        let key = replay.state().unwrap().members[&member(who)].active(Slot::Sign).unwrap().key.clone();
        assert!(Fingerprint::from_hex(&key).is_ok());
        stage.line_by(who, &key, &statement, at)
    });
    let verdict = replay.apply(&Stage::entry(&statement, lines.to_vec())).unwrap();
    assert_eq!(verdict.locked, Some(stage.now.plus(DAY)), "{verdict:?}");
}

/// Somebody with the log's key could log what is void, dated as she likes.
fn a_void_entry_unlocks_nothing(sandbox: &Sandbox) {
    let mut stage = three(sandbox);
    stage.carry(|fleet, _| lifetime(fleet, 5));
    let mut replay = stage.replay();
    let before = replay.state().unwrap().clone();
    let remove = Act::Remove(vec![keys::statement::Remove {
        address: "fra1/x".parse().unwrap(),
        generation: 2,
        prev: id_of(&stage.entries()[0]),
    }]);
    stage.later(Span::days(3));
    let statement = stage.statement(&replay, "alice", remove);
    for lines in [vec![stage.line(&replay, "alice", &statement)], vec![stage.line(&replay, "bob", &statement)]] {
        let verdict = replay.apply(&Stage::entry(&statement, lines)).unwrap();
        assert_eq!((verdict.applied, verdict.unlocked.len()), (0, 0), "{verdict:?}");
    }
    let mut after = replay.state().unwrap().clone();
    after.size = before.size;
    assert_eq!(after, before);
}

fn a_robbed_signer_no_longer_counts_when_the_time_has_come(_: &Sandbox) {
    for (why, holds) in [(RetireReason::Compromised, false), (RetireReason::Lost, false), (RetireReason::Retired, true)]
    {
        let place = Sandbox::new("robbed");
        let mut stage = three(&place);
        stage.join_from(&place, "home-dave", &operator("dave"));
        stage.later(DAY);
        tick(&mut stage);
        stage.sync("dave");
        // bob and carol agree; then it turns out what became of carol's keys.
        let placed = stage.act("bob", |fleet, _| {
            Stage::policy(fleet, "fleet.toml", |t| {
                t.replacen("lifetime = \"7d\"", "lifetime = \"5d\"", 1).replacen(
                    "root = [\"alice\", \"bob\", \"carol\"]",
                    "root = [\"alice\", \"bob\", \"dave\"]",
                    1,
                )
            })
        });
        let id = Stage::proposed(&placed);
        stage.approve("carol", &id).unwrap();
        // Under the new policy carol has no say: dave agrees in her place.
        let proposal = stage.open().proposal(&id).unwrap().unwrap();
        assert_eq!(proposal.signatures.len(), 2);
        stage.approve("dave", &id).unwrap();
        stage.sync("alice");
        assert_eq!(stage.open().state().locked.len(), 1, "{why}");
        stage.later(HOUR);
        stage.homes.remove(&member("carol"));
        stage.carry(|_, _| {
            vec![Draft::bare(Act::Retire(vec![Retire { cert: None, member: member("carol"), why }]), "gone")]
        });
        stage.later(DAY);
        tick(&mut stage);
        let fleet = stage.open();
        assert_eq!(days(fleet.logged_state()) == Span::days(5), holds, "{why}");
        let void = &fleet.unlocked().last().unwrap().1.void;
        let refused = matches!(&void[..], [(0, Void::Quorum { missing, .. })] if missing == "1 more of root");
        assert_eq!((void.is_empty(), refused), (holds, !holds), "{why}: {void:?}");
        place.finish(true);
    }
}

fn what_is_stale_by_then_is_void_and_reported(sandbox: &Sandbox) {
    let mut stage = three(sandbox);
    let first = locked(&stage.carry(|fleet, _| lifetime(fleet, 5)));
    stage.later(HOUR);
    let second = locked(&stage.carry(|fleet, _| lifetime(fleet, 6)));
    stage.later(Span::days(2));
    tick(&mut stage);
    let fleet = stage.open();
    assert_eq!(days(fleet.state()), Span::days(5), "the first of two");
    let ended: Vec<(Digest, bool)> = fleet.unlocked().iter().map(|(_, u)| (u.id, u.void.is_empty())).collect();
    assert_eq!(ended, [(first, true), (second, false)]);
    assert!(matches!(fleet.unlocked()[1].1.void[..], [(0, Void::Stale { .. })]));
    // A root that has lost a member meanwhile cannot be set any more either.
    let placed = stage.carry(|fleet, _| lifetime(fleet, 4));
    locked(&placed);
    stage.homes.remove(&member("carol"));
    stage.carry(|_, _| {
        let retire = Retire { cert: None, member: member("carol"), why: RetireReason::Retired };
        vec![Draft::bare(Act::Retire(vec![retire]), "moves on")]
    });
    stage.later(DAY);
    tick(&mut stage);
    let fleet = stage.open();
    let (_, last) = fleet.unlocked().last().unwrap();
    assert!(matches!(&last.void[..], [(0, Void::BadPolicy(why))] if why.contains("carol")), "{last:?}");
}

fn a_new_operator_has_to_wait(sandbox: &Sandbox) {
    let mut stage = three(sandbox);
    stage.join_from(sandbox, "home-dave", &operator("dave"));
    assert!(!stage.open().state().members.contains_key(&member("dave")));
    // Machines do not.
    stage.join(sandbox, "fra1", &[]);
    assert!(stage.open().state().members[&member("fra1")].is_active());
    stage.later(DAY);
    assert!(stage.open().state().members[&member("dave")].is_active(), "for whoever looks now");
    stage.is_sound();
    tick(&mut stage);
    assert!(stage.open().logged_state().members[&member("dave")].is_active());
    stage.sync("dave");
    stage.is_sound();
}

fn the_state_is_written_with_what_waits(sandbox: &Sandbox) {
    let mut stage = three(sandbox);
    stage.carry(|fleet, _| lifetime(fleet, 5));
    let id = Digest::of(b"another");
    stage.act("bob", |_, _| vec![Draft::bare(Act::Object(vec![Objection { statement: id }]), "no")]);
    stage.sync("alice");
    let fleet = stage.open();
    let bytes = fleet.logged_state().to_bytes();
    let read = State::parse(&bytes, &stage.keyring).unwrap();
    assert_eq!((read.locked.len(), read.objected.len()), (1, 1));
    assert_eq!(&read, fleet.logged_state());
}

fn people_see_what_waits(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    for (wrong, part) in [
        ("policy.update = \"5s\"", "[time-lock] policy.update: is shorter than a minute"),
        ("policy.update = \"31d\"", "[time-lock] policy.update: is longer than 30d"),
        ("key.activate = \"1d\"", "unknown field `key`"),
    ] {
        std::fs::write(&path, text.replacen("[proposals]", &format!("[time-lock]\n{wrong}\n[proposals]"), 1)).unwrap();
        fleet.keys("alice", &["policy", "check"]).refuses(1, part);
    }
    let both = |expected: &str| {
        fleet.keys("alice", &["policy", "propose", "--yes"]).exits(4);
        fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
        let taken_in = fleet.keys("alice", &["sync"]);
        taken_in.ok();
        assert!(taken_in.stderr().contains(expected), "{}", taken_in.stderr());
    };
    let locked = text.replacen("[proposals]", "[time-lock]\npolicy.update = \"24h\"\n[proposals]", 1);
    std::fs::write(&path, &locked).unwrap();
    both("taken in: entry");
    std::fs::write(&path, locked.replacen("policy.update = \"24h\"", "policy.update = \"1h\"", 1)).unwrap();
    let shown = fleet.keys("alice", &["policy", "propose", "--dry-run"]).exits(9);
    assert!(shown.contains("! WEAKER: [time-lock] policy.update = 1h instead of 1d"), "{shown}");
    both("unless somebody objects");
    // A day less a second reads as 23 hours, and within the first second as a day.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let listed = fleet.keys("bob", &["approve"]).ok();
    assert!(listed.contains("takes effect in 23h") && listed.contains("1 rules get WEAKER"), "{listed}");
    assert!(fleet.keys("bob", &["status"]).ok().contains("takes effect in 23h"));
    let shown = fleet.keys("bob", &["log", "show", "-n", "1", "--verbose"]).ok();
    assert!(shown.contains("takes effect in 23h"), "{shown}");
    let id = fleet.keys("bob", &["approve", "--json"]).json()["locked"][0]["id"].as_str().unwrap().to_owned();
    fleet.keys("bob", &["object", &id[..6], "--reason", "too short", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(fleet.keys("bob", &["approve", "--json"]).json()["locked"], serde_json::json!([]));
    assert_eq!(fleet.keys("bob", &["status", "--json"]).json()["policy"]["version"], 2);
}
