//! Emergencies: what a quorum has signed into a file counts on a machine that reaches nobody, from the moment it is applied, and
//! comes into the log later; what no quorum has signed counts nowhere.

use std::path::Path;

use keys::fleet::{Fleet, FleetError, Known, Placed, Proposal};
use keys::home::HeldEmergency;
use keys::ops::{self, Fate, OpsError};
use keys::state::{AppliedHere, State, Void};
use keys::statement::{Act, Entry, Objection, Retire, RetireReason, Signed, Snapshot, Statement, Stop, StopReason};
use keys::time::Span;

use crate::support::stage::{Stage, member};
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["emergency":
    a_machine_that_is_cut_off_applies_it_and_hands_it_in,
    below_its_quorum_it_counts_nowhere,
    what_is_no_emergency_of_this_fleet_is_refused,
    what_is_expired_logged_or_objected_to_is_not_applied,
    the_log_takes_it_under_another_policy_and_late_but_not_for_ever,
    what_is_applied_here_is_no_part_of_the_log,
    who_is_stopped_here_signs_nothing_here,
    it_counts_until_what_is_published_has_it,
    an_emergency_that_nobody_logs_is_said_aloud needs [Faketime],
    a_damaged_one_in_the_home_is_named,
    without_a_rule_nobody_declares_one,
    auditors_see_the_lag,
];

fn stops(names: &[&str]) -> Vec<Stop> {
    names.iter().map(|name| Stop { member: member(name), why: StopReason::Compromised }).collect()
}

/// Runs the program for the home of `who` on a copy of the fleet.
fn at(sandbox: &Sandbox, copy: &str, who: &str, args: &[&str]) -> Ran {
    sandbox.keys(&[&["--fleet", copy, "--home", who], args].concat())
}

fn text_below(directory: &Path) -> String {
    let files = crate::support::files_below(directory);
    files.iter().map(|f| String::from_utf8_lossy(&std::fs::read(f).unwrap()).into_owned()).collect()
}

/// What is declared by alice in `file`, and signed by bob.
fn declared(fleet: &TestFleet<'_>, who: &str, file: &str) {
    let words =
        ["emergency", "declare", who, "--why", "compromised", "--reason", "seen elsewhere", "--out", file, "--yes"];
    let ran = fleet.keys("alice", &words);
    assert!(ran.exits(4).contains("still needs 1 more of root"), "{}", ran.stdout());
    fleet.keys("bob", &["emergency", "approve", file, "--yes"]).ok();
}

fn a_machine_that_is_cut_off_applies_it_and_hands_it_in(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    for pop in ["fra1", "ams1"] {
        fleet.join(pop, "");
    }
    fleet.seal("fra1/one", "value");
    fleet.settle(&["bob", "fra1", "ams1"]);
    sandbox.copy("fleet", "away");
    let file = sandbox.path("fra1.emergency").display().to_string();
    let words = ["emergency", "declare", "fra1", "--why", "lost", "--reason", "gone", "--out", &file];
    let shown = fleet.keys("alice", &[&words[..], &["--dry-run"]].concat());
    shown.exits(9);
    for effect in
        ["- fra1 is no member any more (lost)", "- fra1 is out of the mesh", "fra1 could read what has to be replaced"]
    {
        assert!(shown.stderr().contains(effect), "{}", shown.stderr());
    }
    assert!(!Path::new(&file).exists());
    declared(&fleet, "fra1", &file);
    let peer = |copy: &str, out: &str| {
        at(sandbox, copy, "ams1", &["wg", "render", "--node", "ams1", "--out", out]).ok();
        text_below(&sandbox.path(out)).contains("198.51.100.")
    };
    assert!(peer("away", "wg1"), "fra1 is a peer before");
    let size = std::fs::read(sandbox.path("away/keyring/log/checkpoint")).unwrap();
    let applied = at(sandbox, "away", "ams1", &["emergency", "apply", &file, "--yes"]);
    applied.ok();
    assert!(applied.stderr().contains("- fra1 is no member any more (compromised)"), "{}", applied.stderr());
    assert!(at(sandbox, "away", "ams1", &["emergency", "apply", &file, "--yes"]).ok().contains("already"));
    assert!(!peer("away", "wg2"), "ams1 drops its peer");
    let status = at(sandbox, "away", "ams1", &["status"]).ok();
    assert!(status.contains("(fra1 compromised) was applied here") && status.contains("not handed in yet"), "{status}");
    assert!(status.contains("1 PoP,"), "{status}");
    assert!(status.contains("burned     fra1/one: fra1 could read it"), "{status}");
    assert_eq!(std::fs::read(sandbox.path("away/keyring/log/checkpoint")).unwrap(), size);
    at(sandbox, "away", "ams1", &["log", "verify"]).ok();
    assert!(fleet.keys("ams1", &["sync", "--dry-run"]).exits(9).contains("hand it in"));
    // Where it was not applied, nothing has changed; what ams1 hands in is complete, and the authority logs it.
    assert!(fleet.keys("bob", &["status"]).ok().contains("2 PoPs"));
    let handed = fleet.keys("ams1", &["sync"]);
    assert!(handed.stderr().contains("applied here, is handed in"), "{}", handed.stderr());
    assert!(fleet.keys("ams1", &["status"]).ok().contains("and waits for the log"));
    let taken = fleet.keys("alice", &["sync"]);
    assert!(taken.stderr().contains("taken in: entry"), "{}", taken.stderr());
    assert!(fleet.keys("bob", &["status"]).ok().contains("1 PoP,"));
    let log = fleet.keys("bob", &["log", "show", "--verbose", "--about", "fra1 leaves: compromised"]).ok();
    assert!(
        log.contains("emergency by alice") && log.contains("; applied on ams1 20") && log.contains("; logged 20"),
        "{log}"
    );
    // The machine forgets it, and goes by the log.
    assert!(sandbox.path("ams1/emergencies").exists());
    let ended = fleet.keys("ams1", &["sync"]);
    assert!(ended.stderr().contains("of the log, "), "{}", ended.stderr());
    assert!(!sandbox.path("ams1/emergencies").exists());
    assert!(!fleet.keys("ams1", &["status"]).ok().contains("EMERGENCY"));
    assert!(!peer("fleet", "wg3"));
    fleet.keys("ams1", &["emergency", "apply", &file, "--yes"]).refuses(1, "it is in the log already");
    fleet.keys("ams1", &["log", "verify"]).ok();
}

/// An emergency as `signers` have signed it.
fn signed_by(stage: &Stage, statement: &Statement, signers: &[&str]) -> Proposal {
    let replay = stage.replay();
    let signatures = signers.iter().map(|who| stage.line(&replay, who, statement)).collect();
    Proposal { signed: Signed::of(statement.clone()).unwrap(), signatures }
}

fn emergency(stage: &Stage, names: &[&str]) -> Statement {
    let mut statement = stage.statement(&stage.replay(), "alice", Act::Emergency(stops(names)));
    statement.expires = statement.at.plus(Span::days(30));
    statement
}

fn apply(stage: &Stage, who: &str, proposal: &Proposal) -> Result<Option<HeldEmergency>, OpsError> {
    ops::apply_emergency(proposal, &stage.homes[&member(who)], &mut stage.open())
}

/// The fleet as a machine sees it, with what was applied there.
fn seen(stage: &Stage, who: &str) -> Fleet {
    let held = stage.homes[&member(who)].emergencies().unwrap().into_iter();
    let applied = held.map(|h| AppliedHere { signed: h.entry.signed, since: h.applied }).collect();
    Fleet::open(stage.keyring.clone(), &Known { applied, ..Known::default() }, stage.now, &mut |_, _| {}).unwrap()
}

fn is_out(state: &State, who: &str) -> bool {
    !state.members[&member(who)].is_active()
}

fn below_its_quorum_it_counts_nowhere(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    stage.join(sandbox, "fra1", &[]);
    stage.join(sandbox, "ams1", &[]);
    let statement = emergency(&stage, &["fra1"]);
    for signers in [&["alice"][..], &["alice", "casc1"], &["alice", "ams1", "fra1"]] {
        let proposal = signed_by(&stage, &statement, signers);
        let refused = apply(&stage, "ams1", &proposal);
        assert!(matches!(refused, Err(OpsError::Fleet(FleetError::Undecided { .. }))), "{signers:?}: {refused:?}");
    }
    // Alice twice, and bob's name over alice's signature, are one person.
    let mut twice = signed_by(&stage, &statement, &["alice", "alice"]);
    twice.signatures[1].name = "cdn.example/bob".to_owned();
    assert!(apply(&stage, "ams1", &twice).is_err());
    // Another statement than the one that was signed.
    let mut other = signed_by(&stage, &statement, &["alice", "bob"]);
    other.signed = Signed::of(emergency(&stage, &["ams1"])).unwrap();
    assert!(apply(&stage, "ams1", &other).is_err());
    // Who is out by what this machine knows.
    let statement = emergency(&stage, &["fra1"]);
    let with_carol = signed_by(&stage, &statement, &["alice", "carol"]);
    stage.carry(|_, _| {
        let gone = Retire { cert: None, member: member("carol"), why: RetireReason::Lost };
        vec![keys::fleet::Draft::bare(Act::Retire(vec![gone]), "lost")]
    });
    assert!(apply(&stage, "ams1", &with_carol).is_err());
    assert!(stage.homes[&member("ams1")].emergencies().unwrap().is_empty());
    assert!(!is_out(seen(&stage, "ams1").state(), "fra1"));
    assert!(apply(&stage, "ams1", &signed_by(&stage, &statement, &["alice", "bob"])).unwrap().is_some());
    assert!(is_out(seen(&stage, "ams1").state(), "fra1"));
}

fn what_is_no_emergency_of_this_fleet_is_refused(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &[]);
    let read = |bytes: &[u8]| stage.open().read_emergency(bytes);
    let bytes = |statement: &Statement| Stage::entry(statement, vec![stage.line(&stage.replay(), "alice", statement)]);
    let good = emergency(&stage, &["fra1"]);
    assert_eq!(read(&bytes(&good)).unwrap().signatures.len(), 1);
    let retire = Act::Retire(vec![Retire { cert: None, member: member("fra1"), why: RetireReason::Lost }]);
    let retire = Statement { act: retire, ..good.clone() };
    assert!(matches!(read(&bytes(&retire)), Err(FleetError::NoEmergency(what)) if what.contains("member.retire")));
    let foreign = Statement { log: "cdm.example/keys/1".to_owned(), ..good.clone() };
    assert!(matches!(read(&bytes(&foreign)), Err(FleetError::Refused(Void::OtherLog(_)))));
    for garbage in [&b""[..], b"\n\n", b"{}\n\n\xe2\x80\x94 a AAAAAA==\n", &bytes(&good)[..200]] {
        assert!(matches!(read(garbage), Err(FleetError::NoEmergency(_))));
    }
    // A fleet of the same name that somebody else has founded.
    let place = Sandbox::new("other");
    let theirs = Stage::found(&place, &["alice"]);
    let line = theirs.line(&theirs.replay(), "alice", &good);
    assert!(read(&Stage::entry(&good, vec![line])).unwrap().signatures.is_empty());
    place.finish(true);
    // What was signed beside it by others stays out, so that nobody is kept from signing by a line in her name.
    let mut forged = stage.line(&stage.replay(), "alice", &good);
    *forged.signature.last_mut().unwrap() ^= 1;
    assert!(read(&Stage::entry(&good, vec![forged])).unwrap().signatures.is_empty());
}

fn what_is_expired_logged_or_objected_to_is_not_applied(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    for pop in ["fra1", "ams1", "waw1"] {
        stage.join(sandbox, pop, &[]);
    }
    let refused = |stage: &Stage, proposal: &Proposal| match apply(stage, "ams1", proposal) {
        Err(OpsError::Fleet(FleetError::Refused(void))) => void,
        other => panic!("{other:?}"),
    };
    let proposal = signed_by(&stage, &emergency(&stage, &["fra1"]), &["alice", "bob"]);
    // From the future: by more than clocks differ.
    let now = stage.now;
    stage.now = now.plus(Span(301));
    let early = signed_by(&stage, &emergency(&stage, &["fra1"]), &["alice", "bob"]);
    stage.now = now;
    assert!(matches!(apply(&stage, "ams1", &early), Err(OpsError::Fleet(FleetError::Undecided { .. }))));
    // Longer than the rules allow.
    let mut long = emergency(&stage, &["fra1"]);
    long.expires = long.expires.plus(Span(1));
    assert!(matches!(refused(&stage, &signed_by(&stage, &long, &["alice", "bob"])), Void::Patient { .. }));
    // The last day.
    stage.now = now.plus(Span::days(30)).plus(Span(1));
    assert!(matches!(refused(&stage, &proposal), Void::Expired(_)));
    stage.now = now;
    // Logged.
    let entry = Entry { signed: proposal.signed.clone(), signatures: proposal.signatures.clone() };
    stage.open().hand_in(&entry).unwrap();
    stage.sync("alice");
    assert!(is_out(stage.open().state(), "fra1"));
    assert_eq!(refused(&stage, &proposal), Void::Done);
    // Objected to.
    let stopped = signed_by(&stage, &emergency(&stage, &["waw1"]), &["alice", "bob"]);
    let statement = stopped.signed.id;
    stage.act("alice", |_, _| vec![keys::fleet::Draft::bare(Act::Object(vec![Objection { statement }]), "a mistake")]);
    assert!(matches!(refused(&stage, &stopped), Void::Objected(_)));
    // Nobody left to stop.
    let again = Statement { reason: "again".to_owned(), ..emergency(&stage, &["fra1"]) };
    assert_eq!(refused(&stage, &signed_by(&stage, &again, &["alice", "bob"])), Void::NoMember(member("fra1")));
    assert!(stage.homes[&member("ams1")].emergencies().unwrap().is_empty());
}

fn the_log_takes_it_under_another_policy_and_late_but_not_for_ever(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &[]);
    let proposal = signed_by(&stage, &emergency(&stage, &["fra1"]), &["alice", "bob"]);
    let bytes = Stage::entry(&proposal.signed.statement, proposal.signatures.clone());
    let retire = Act::Retire(vec![Retire { cert: None, member: member("fra1"), why: RetireReason::Lost }]);
    let retire = stage.statement(&stage.replay(), "alice", retire);
    let retire = Stage::entry(&retire, vec![stage.line(&stage.replay(), "alice", &retire)]);
    stage.carry(|fleet, _| {
        Stage::policy(fleet, "fleet.toml", |t| t.replacen("lifetime = \"7d\"", "lifetime = \"9d\"", 1))
    });
    let mut replay = stage.replay();
    assert!(matches!(replay.preview(&retire).unwrap().void[..], [(0, Void::Policy { .. })]));
    assert_eq!(replay.preview(&bytes).unwrap().applied, 1);
    // The log's time is that of whoever writes: after 30 days it is too late.
    let tick = |stage: &Stage, replay: &keys::state::Replay<keys::store::Store>| {
        let statement = keys::digest::Digest::of(b"any");
        let tick = stage.statement(replay, "alice", Act::Object(vec![Objection { statement }]));
        Stage::entry(&tick, vec![stage.line(replay, "alice", &tick)])
    };
    for (days, applied) in [(29, 1), (31, 0)] {
        let mut replay = stage.replay();
        let now = stage.now;
        stage.now = now.plus(Span::days(days));
        assert_eq!(replay.apply(&tick(&stage, &replay)).unwrap().applied, 1);
        stage.now = now;
        assert_eq!(replay.preview(&bytes).unwrap().applied, applied, "{days}");
    }
}

fn what_is_applied_here_is_no_part_of_the_log(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    for pop in ["fra1", "ams1"] {
        stage.join(sandbox, pop, &["nginx"]);
    }
    stage.settle(&["fra1", "ams1"]);
    stage.carry(|fleet, _| {
        Stage::policy(fleet, "secrets.toml", |t| t + "\n[[secret]]\nmatch = \"*/shared\"\nshared = true\n")
    });
    stage.seal("alice", "*/shared", "first");
    let before = stage.open().logged_state().digest();
    let proposal = signed_by(&stage, &emergency(&stage, &["fra1"]), &["alice"]);
    apply(&stage, "ams1", &proposal).unwrap().unwrap();
    let mut fleet = seen(&stage, "ams1");
    assert!(is_out(fleet.state(), "fra1") && is_out(fleet.state(), "nginx@fra1"), "with its services");
    assert_eq!(fleet.logged_state().digest(), before, "auditors and checkpoints see the log alone");
    assert_eq!(fleet.applied().len(), 1);
    assert!(fleet.check_vouched(&member("fra1")).is_err() && fleet.check_vouched(&member("ams1")).is_ok());
    let readers = fleet.state().readers(&"*/shared".parse().unwrap()).unwrap();
    assert!(!readers.contains(&member("fra1")) && readers.contains(&member("ams1")), "{readers:?}");
    let mesh = ops::mesh(fleet.state()).unwrap();
    let nodes: Vec<_> = mesh.nodes().iter().map(|node| node.name.clone()).collect();
    assert_eq!(nodes, [member("ams1")]);
    // So it is on a machine that has not replayed the log from its beginning.
    let state = fleet.logged_state().clone();
    let (hash, _) = stage.keyring.stage(&state.to_bytes()).unwrap();
    let (_, checkpoint) = keys::store::read_checkpoint(&stage.keyring).unwrap();
    let snapshot = Snapshot { root: checkpoint.root, size: state.size, state: hash };
    stage.act("alice", |_, _| vec![keys::fleet::Draft::bare(Act::Snapshot(snapshot), "a place to begin")]);
    let known = Known { snapshot: Some(hash), applied: fleet.applied(), ..Known::default() };
    let late = Fleet::open(stage.keyring.clone(), &known, stage.now, &mut |_, _| {}).unwrap();
    assert!(is_out(late.state(), "fra1") && !is_out(late.logged_state(), "fra1"));
    // What is written meanwhile is judged by the log: a value for fewer readers is good under both.
    stage
        .homes
        .get(&member("alice"))
        .unwrap()
        .hold_emergency(&stage.homes[&member("ams1")].emergencies().unwrap()[0])
        .unwrap();
    let home = stage.homes[&member("alice")].clone();
    let mut fleet = seen(&stage, "alice");
    let plan = ops::plan_seal(&"*/shared".parse().unwrap(), &mut fleet).unwrap();
    let draft = ops::seal(&plan, b"second", "replaced", None, &home, &mut fleet).unwrap();
    let sequencer = ops::sequencer(&home, &fleet).unwrap();
    fleet.prepare(sequencer.as_ref()).unwrap();
    let placed = ops::carry_out(&home, &mut fleet, vec![draft], None).unwrap();
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    fleet.done();
    assert_eq!(stage.opens("ams1", "*/shared"), "second");
    assert!(
        !stage.open().state().secrets[&"*/shared".parse().unwrap()]
            .live
            .as_ref()
            .unwrap()
            .readers
            .contains_key(&member("fra1"))
    );
    stage.is_sound();
    // Once the log has it, it is the same state for everybody, and a state that was written comes back.
    let mut fleet = seen(&stage, "alice");
    fleet.prepare(ops::sequencer(&home, &fleet).unwrap().as_ref()).unwrap();
    let fates = ops::hand_in_emergencies(&home, &mut fleet).unwrap();
    assert!(matches!(fates[..], [(id, Fate::HandedIn(true))] if id == proposal.signed.id), "{fates:?}");
    fleet.done();
    stage.sync("alice");
    let fleet = seen(&stage, "ams1");
    assert_eq!((fleet.applied().len(), fleet.state()), (0, fleet.logged_state()));
    let logged = &fleet.logged_state().emergencies[&proposal.signed.id];
    assert_eq!((logged.declared, logged.index + 1), (proposal.signed.statement.at, fleet.logged_state().size));
    let bytes = fleet.logged_state().to_bytes();
    assert_eq!(&State::parse(&bytes, fleet.store()).unwrap(), fleet.logged_state());
    stage.is_sound();
}

/// An operator who is stopped here is no word for a second emergency, for sealing or for anything that is read here.
fn who_is_stopped_here_signs_nothing_here(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    for pop in ["fra1", "ams1"] {
        stage.join(sandbox, pop, &[]);
    }
    let first = signed_by(&stage, &emergency(&stage, &["carol"]), &["alice", "bob"]);
    apply(&stage, "ams1", &first).unwrap().unwrap();
    let second = signed_by(&stage, &emergency(&stage, &["fra1"]), &["alice", "carol"]);
    let mut fleet = seen(&stage, "ams1");
    let held = ops::apply_emergency(&second, &stage.homes[&member("ams1")], &mut fleet);
    assert!(matches!(held, Err(OpsError::Fleet(FleetError::Undecided { .. }))), "{held:?}");
    assert!(
        fleet.read_emergency(&Stage::entry(&second.signed.statement, second.signatures)).unwrap().signatures.len() == 1
    );
    // She cannot object herself back in, either.
    let objection = Act::Object(vec![Objection { statement: first.signed.id }]);
    let placed = stage.act("carol", |_, _| vec![keys::fleet::Draft::bare(objection, "no")]);
    assert!(matches!(placed[..], [Placed::HandedIn { .. }]), "{placed:?}");
    stage.sync("alice");
    assert!(stage.open().state().objected.contains_key(&first.signed.id));
    assert!(is_out(seen(&stage, "ams1").state(), "carol"));
    // Somebody who stays can.
    stage.act("alice", |_, _| {
        let statement = first.signed.id;
        vec![keys::fleet::Draft::bare(Act::Object(vec![Objection { statement }]), "a mistake")]
    });
    assert!(!is_out(seen(&stage, "ams1").state(), "carol"));
    let mut fleet = seen(&stage, "ams1");
    let fates = ops::hand_in_emergencies(&stage.homes[&member("ams1")], &mut fleet).unwrap();
    assert!(matches!(fates[..], [(_, Fate::Settled(Void::Objected(_)))]), "{fates:?}");
    assert!(stage.homes[&member("ams1")].emergencies().unwrap().is_empty());
}

fn it_counts_until_what_is_published_has_it(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    for pop in ["fra1", "ams1"] {
        fleet.join(pop, "");
    }
    fleet.settle(&["fra1", "ams1"]);
    let witness = crate::witness::Cosigner::init(sandbox, "w1", false);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let more = format!(
        "\n[[cosigner]]\nvkey = \"{}\"\nkind = \"witness\"\n\n[publish]\nneed = {{ witness = 1 }}\n",
        witness.vkey
    );
    std::fs::write(&path, text + &more).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    witness.watch();
    let cosign = || {
        sandbox.keys(&["--home", "w1", "--fleet", "fleet", "log", "witness", "sign"]).ok();
        fleet.keys("alice", &["log", "publish"]).ok();
    };
    cosign();
    let file = sandbox.path("fra1.emergency").display().to_string();
    let words = ["emergency", "declare", "fra1", "--why", "lost", "--reason", "gone", "--out", &file, "--yes"];
    fleet.keys("alice", &words).ok();
    fleet.keys("ams1", &["emergency", "apply", &file, "--yes"]).ok();
    fleet.keys("ams1", &["sync"]).ok();
    fleet.keys("alice", &["sync"]).ok();
    // The log has it; what a machine goes by does not yet.
    fleet.keys("ams1", &["sync"]).ok();
    let peer = |out: &str| {
        fleet.keys("ams1", &["wg", "render", "--node", "ams1", "--out", out]).ok();
        text_below(&sandbox.path(out)).contains("198.51.100.")
    };
    assert!(!peer("wg1") && sandbox.path("ams1/emergencies").exists());
    cosign();
    fleet.keys("ams1", &["sync"]).ok();
    assert!(!peer("wg2") && !sandbox.path("ams1/emergencies").exists());
}

fn an_emergency_that_nobody_logs_is_said_aloud(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    for pop in ["fra1", "ams1"] {
        fleet.join(pop, "");
    }
    fleet.settle(&["bob", "fra1", "ams1"]);
    let file = sandbox.path("fra1.emergency").display().to_string();
    declared(&fleet, "fra1", &file);
    fleet.keys("ams1", &["emergency", "apply", &file, "--yes"]).ok();
    sandbox.set_days_later(3);
    // Cut off for days is no fault of anybody's; from the day on which it was handed in somebody owes an answer.
    let status = fleet.keys("ams1", &["status"]).ok();
    assert!(status.contains("not handed in yet") && !status.contains("LATE"), "{status}");
    fleet.keys("ams1", &["sync"]).ok();
    assert!(!fleet.keys("ams1", &["status"]).ok().contains("LATE"));
    sandbox.set_days_later(5);
    let status = fleet.keys("ams1", &["status"]).ok();
    assert!(status.contains("EMERGENCY  LATE: ") && status.contains("is not in the log: whoever has"), "{status}");
    fleet.keys("ams1", &["status", "--check"]).exits(9);
    sandbox.set_days_later(40);
    let status = fleet.keys("ams1", &["status"]).ok();
    assert!(status.contains("EMERGENCY  LATE: ") && status.contains("expired 10d ago"), "{status}");
    assert!(status.contains("1 PoP,"), "it goes on counting here: {status}");
}

fn a_damaged_one_in_the_home_is_named(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.join("ams1", "");
    let file = sandbox.path("fra1.emergency").display().to_string();
    fleet
        .keys("alice", &["emergency", "declare", "fra1", "--why", "lost", "--reason", "gone", "--out", &file, "--yes"])
        .ok();
    fleet.keys("ams1", &["emergency", "apply", &file, "--yes"]).ok();
    let held = crate::support::files_below(&sandbox.path("ams1/emergencies")).pop().unwrap();
    let good = std::fs::read(&held).unwrap();
    let other = String::from_utf8(good.clone()).unwrap().replace("fra1", "fra2").into_bytes();
    for bad in [&good[..good.len() / 2], b"", &other] {
        std::fs::write(&held, bad).unwrap();
        fleet.keys("ams1", &["status"]).refuses(3, "remove it, and apply the emergency's file again");
    }
    std::fs::remove_file(&held).unwrap();
    fleet.keys("ams1", &["emergency", "apply", &file, "--yes"]).ok();
    assert!(fleet.keys("ams1", &["status"]).ok().contains("EMERGENCY"));
}

/// A policy from before there were emergencies, or one that wants none: it is refused before anybody signs, by name.
fn without_a_rule_nobody_declares_one(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let file = sandbox.path("fra1.emergency").display().to_string();
    let words = ["emergency", "declare", "fra1", "--why", "lost", "--reason", "gone", "--out", &file, "--yes"];
    fleet.keys("alice", &words).ok();
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let without = |text: &str, act: &str| {
        let rule = format!("[[quorum]]\nact = \"{act}\"\nneed = {{ root = 1 }}\n");
        assert!(text.contains(&rule), "{text}");
        text.replacen(&rule, "", 1)
    };
    std::fs::write(&path, without(&without(&text, "emergency"), "log.rekey")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let no_rule = |act: &str| {
        format!("the policy has no rule that allows {act}: there is no [[quorum]] for it in policy/fleet.toml")
    };
    std::fs::remove_file(&file).unwrap();
    fleet.keys("alice", &words).refuses(1, &no_rule("emergency"));
    assert!(!Path::new(&file).exists());
    let refused = fleet.keys("alice", &["log", "rekey", "--yes"]);
    refused.refuses(1, &no_rule("log.rekey"));
    assert!(refused.stderr().contains("'keys policy propose'"), "{}", refused.stderr());
    assert!(fleet.keys("alice", &["approve"]).stderr().contains("nothing waits"), "it has become no proposal");
}

fn auditors_see_the_lag(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    for pop in ["fra1", "ams1", "waw1"] {
        stage.join(sandbox, pop, &[]);
    }
    let lag = |stage: &mut Stage, who: &str, hours: u64| {
        let proposal = signed_by(stage, &emergency(stage, &[who]), &["alice"]);
        stage.later(Span::hours(1));
        let held = apply(stage, "ams1", &proposal).unwrap().unwrap();
        let applied = stage.now;
        stage.later(Span::hours(hours - 1));
        stage.act("alice", |_, _| {
            let statement = keys::digest::Digest::of(who.as_bytes());
            vec![keys::fleet::Draft::bare(Act::Object(vec![Objection { statement }]), "a tick")]
        });
        stage.open().hand_in(&held.entry).unwrap();
        stage.sync("alice");
        applied
    };
    let (first, second) = (lag(&mut stage, "fra1", 2), lag(&mut stage, "waw1", 30));
    let mut collector = keys::audit::Collector::new(stage.keyring.clone(), None, None);
    let fleet =
        Fleet::open_watched(stage.keyring.clone(), &Known::default(), stage.now, &mut |_, _| {}, Some(&mut collector))
            .unwrap();
    let head = &fleet.head().unwrap().checkpoint;
    let head =
        keys::audit::Head { size: head.size, root: head.root, signed_by: Vec::new(), published: None, now: stage.now };
    let report = collector.finish(&head, fleet.state()).unwrap();
    let rows: Vec<_> = report.emergencies.iter().map(|e| (e.lag, e.applied.get(&member("ams1")).copied())).collect();
    assert_eq!(rows, [(2 * 3600, Some(first)), (30 * 3600, Some(second))]);
    let late: Vec<_> = report.findings.iter().filter(|f| f.section == keys::audit::Section::Emergencies).collect();
    assert_eq!(late.len(), 1, "{late:?}");
    assert_eq!(
        (late[0].entry, late[0].severity),
        (Some(report.emergencies[1].entry), keys::audit::Severity::Exception)
    );
}
