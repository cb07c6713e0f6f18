//! Beginning with a snapshot instead of the first entry: what comes of it is the same, and nothing false is begun with.

use std::sync::Arc;

use keys::digest::Digest;
use keys::fleet::{Fleet, FleetError, Known, Placed, Severity, View};
use keys::name::Slot;
use keys::ops;
use keys::state::{Replay, State};
use keys::statement::{Act, Snapshot};
use keys::store::{Target, append, certificate_path, object_path, read_checkpoint, root_at, staged_path};
use keys::time::Span;

use crate::snapshots::rich;
use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, tests};

tests!["beginnings":
    a_new_machine_begins_with_a_snapshot,
    whoever_begins_anywhere_arrives_at_the_same,
    what_is_no_snapshot_of_this_log_is_refused_and_named,
    a_snapshot_that_is_false_is_not_signed,
    a_false_snapshot_is_named_by_every_verification,
    without_a_rule_there_are_no_snapshots,
    a_smaller_snapshot_is_void,
    a_machine_that_began_late_still_notices_rollback_and_fork,
    a_machine_that_began_late_finishes_what_others_began_before,
];

/// A fleet with some entries.
pub(crate) fn some(sandbox: &Sandbox) -> Stage {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &[]);
    stage.settle(&["fra1", "bob"]);
    for value in ["one", "two", "three", "four"] {
        stage.seal("alice", "fra1/token", value);
    }
    stage
}

/// The states after each entry, from the first on.
pub(crate) fn past(stage: &Stage) -> Vec<State> {
    let mut replay = Replay::new("cdn.example/keys/1".into(), stage.keyring.clone());
    let entries = stage.entries();
    let states = entries.iter().map(|entry| {
        replay.apply(entry).unwrap();
        replay.state().unwrap().clone()
    });
    states.collect()
}

/// What a snapshot at `size` says, and its object, which is put into the keyring.
pub(crate) fn true_snapshot(stage: &Stage, state: &State) -> Snapshot {
    let (digest, _) = stage.keyring.stage(&state.to_bytes()).unwrap();
    let (_, checkpoint) = read_checkpoint(&stage.keyring).unwrap();
    let root = root_at(&stage.keyring, state.size, checkpoint.size).unwrap();
    Snapshot { root, size: state.size, state: digest }
}

/// Logs these snapshots, signed by these, whatever they say: as a quorum could that does not look.
pub(crate) fn record(stage: &mut Stage, snapshots: &[Snapshot], signers: &[&str]) {
    let fleet = stage.prepared("alice");
    let sequencer = ops::sequencer(&stage.homes[&member("alice")], &fleet).unwrap().unwrap();
    let replay = stage.replay();
    let entry = |snapshot: &Snapshot| {
        let statement = stage.statement(&replay, signers[0], Act::Snapshot(snapshot.clone()));
        let lines = signers.iter().map(|who| stage.line(&replay, who, &statement)).collect();
        Stage::entry(&statement, lines)
    };
    let entries = snapshots.iter().map(entry).collect();
    append(&stage.keyring, fleet.head(), fleet.log(), entries, &sequencer, Target::Published).unwrap();
    fleet.done();
}

fn begin(stage: &Stage, hash: &Digest) -> Result<Fleet, FleetError> {
    let known = Known { snapshot: Some(*hash), ..Known::default() };
    Fleet::open(stage.keyring.clone(), &known, stage.now, &mut |_, _| {})
}

fn a_new_machine_begins_with_a_snapshot(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "the value");
    fleet.settle(&["fra1", "bob"]);
    let dry = fleet.keys("alice", &["log", "snapshot", "--dry-run"]);
    dry.exits(9);
    let made = fleet.keys("alice", &["log", "snapshot", "--yes", "--json"]);
    made.exits(4);
    let made = made.json();
    let hash = made["state"].as_str().unwrap();
    let size = made["size"].as_u64().unwrap();
    let proposal = made["placed"][0]["id"].as_str().unwrap();
    // Nobody begins with what is only proposed.
    fleet.seal("nginx@fra1/tls.key", "another value");
    let early = fleet.keys("ams1", &["enroll", "ams1", "--endpoint", "198.51.100.9", "--snapshot", hash]);
    early.exits(3);
    assert!(early.stderr().contains("no entry of the log says it"), "{}", early.stderr());
    std::fs::remove_dir_all(sandbox.path("ams1")).unwrap();

    let shown = fleet.keys("bob", &["approve", proposal, "--yes"]);
    shown.exits(4);
    assert!(shown.stderr().contains(&format!("the state after {size} entries")), "{}", shown.stderr());
    fleet.keys("alice", &["sync"]).ok();
    let status = fleet.keys("bob", &["status", "--json"]).json();
    assert_eq!((status["snapshot"]["state"].as_str(), status["snapshot"]["size"].as_u64()), (Some(hash), Some(size)));
    assert_eq!(status["began"], 0);

    let id = status["id"].as_str().unwrap();
    let args = ["enroll", "ams1", "--endpoint", "198.51.100.9", "--pin", id, "--snapshot", hash];
    fleet.keys("ams1", &args).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    fleet.keys_with("alice", &["seal", "ams1/token"], b"of ams1").ok();
    fleet.settle(&["fra1", "bob", "ams1"]);
    // It goes on beginning there, changes something as any other, and says so.
    let began = fleet.keys("ams1", &["status", "--json"]).json();
    assert_eq!(began["began"].as_u64(), Some(size));
    assert_eq!(fleet.keys("ams1", &["open", "ams1/token"]).stdout(), "of ams1");
    let text = fleet.keys("ams1", &["status"]).stdout();
    assert!(text.contains(&format!("began    after {size} entries")), "{text}");
    let (mut began, mut whole) = (began, fleet.keys("fra1", &["status", "--json"]).json());
    began["began"] = 0.into();
    whole["began"] = 0.into();
    assert_eq!(began, whole);
    fleet.keys("ams1", &["log", "verify"]).ok();
    // A spelling that is none is a mistake, not a state that is missing.
    fleet.keys("ams1", &["status", "--snapshot", "12ab"]).exits(2);
}

fn whoever_begins_anywhere_arrives_at_the_same(sandbox: &Sandbox) {
    let mut stage = rich(sandbox);
    let states = past(&stage);
    let snapshots: Vec<Snapshot> = states.iter().map(|state| true_snapshot(&stage, state)).collect();
    record(&mut stage, &snapshots, &["alice", "bob"]);
    stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::Wireguard));
    let mut whole = stage.open();
    assert_eq!(whole.state().snapshot.as_ref().unwrap().snapshot, *snapshots.last().unwrap());
    assert_eq!((whole.began(), whole.void().len()), (0, 2));
    let trust = whole.trust();
    for snapshot in &snapshots {
        let mut begun = begin(&stage, &snapshot.state).unwrap();
        assert_eq!(begun.began(), snapshot.size);
        assert_eq!(begun.state(), whole.state(), "from {}", snapshot.size);
        assert_eq!(begun.state().digest(), whole.state().digest());
        let (a, b) = (begun.head().unwrap(), whole.head().unwrap());
        assert_eq!((&a.checkpoint, &a.edge, &a.bundle), (&b.checkpoint, &b.edge, &b.bundle));
        let void: Vec<_> = whole.void().iter().filter(|v| v.index >= snapshot.size).cloned().collect();
        assert_eq!(begun.void(), void);
        assert_eq!(begun.trust(), trust);
    }
    stage.is_sound();
}

fn what_is_no_snapshot_of_this_log_is_refused_and_named(sandbox: &Sandbox) {
    let mut stage = some(sandbox);
    let states = past(&stage);
    let [a, b, d, e] = [1, 2, 4, 5].map(|at| true_snapshot(&stage, &states[at]));
    let refused = |stage: &Stage, hash: &Digest| match begin(stage, hash) {
        Err(FleetError::Snapshot { state, problem }) => {
            assert_eq!(state, *hash);
            problem
        }
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("nothing was refused"),
    };
    // Nobody says it.
    assert_eq!(refused(&stage, &a.state), "no entry of the log says it");
    let unknown = Digest::of(b"no state");
    assert_eq!(refused(&stage, &unknown), "the keyring has no such state");
    // Said with too few signatures, of another size, with another root.
    let (size, index) = (states.len() as u64, |n: u64| states.len() as u64 + n);
    record(&mut stage, std::slice::from_ref(&a), &["alice"]);
    let problem = refused(&stage, &a.state);
    assert!(problem.starts_with(&format!("entry {} says it, and is void: snapshot lacks", index(0))), "{problem}");
    record(&mut stage, &[Snapshot { size: b.size + 1, ..b.clone() }], &["alice", "bob"]);
    assert_eq!(refused(&stage, &b.state), format!("entry {} says it with another size than the log has", index(1)));
    record(&mut stage, &[Snapshot { root: Digest::of(b"another"), ..d.clone() }], &["alice", "bob"]);
    assert_eq!(refused(&stage, &d.state), format!("entry {} says it with another root than the log has", index(2)));
    // As it should be, and then changed, cut short, or gone.
    record(&mut stage, std::slice::from_ref(&e), &["alice", "bob"]);
    assert_eq!(begin(&stage, &e.state).unwrap().began(), e.size);
    let disk = stage.keyring.disk();
    let path = object_path(&e.state);
    let bytes = disk.read(&path, usize::MAX >> 1).unwrap().unwrap();
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        disk.replace(&path, &changed).unwrap();
        assert_eq!(refused(&stage, &e.state), "the state in the keyring was changed");
        assert!(stage.damaged().contains(&path));
    }
    disk.remove(&path).unwrap();
    assert_eq!(refused(&stage, &e.state), "the keyring has no such state");
    assert!(!stage.damaged().contains(&path), "whoever has the log can make it again");
    disk.replace(&path, &bytes).unwrap();
    // Something else under the right hash.
    let policy = states[0].policy.files["fleet.toml"];
    assert!(refused(&stage, &policy).starts_with("the state "), "{}", refused(&stage, &policy));
    // Of more entries than there are, and of another fleet.
    let mut later = states[5].clone();
    later.size = size + 100;
    let (later, _) = stage.keyring.stage(&later.to_bytes()).unwrap();
    let published = size + 4;
    assert_eq!(refused(&stage, &later), format!("it is of {} entries, and {published} are published", size + 100));
    let mut other = states[5].clone();
    other.log = "other.example/keys/1".into();
    let (other, _) = stage.keyring.stage(&other.to_bytes()).unwrap();
    assert_eq!(refused(&stage, &other), "it is of the log other.example/keys/1");
    // Who is pinned to another fleet does not begin here either.
    let known = Known { snapshot: Some(e.state), pin: Some(unknown), ..Known::default() };
    let pinned = Fleet::open(stage.keyring.clone(), &known, stage.now, &mut |_, _| {}).err().unwrap();
    assert!(matches!(pinned, FleetError::Pin { .. }), "{pinned}");
}

fn a_snapshot_that_is_false_is_not_signed(sandbox: &Sandbox) {
    let mut stage = some(sandbox);
    let states = past(&stage);
    // As if bob had never been there.
    let mut false_state = states[4].clone();
    false_state.members.remove(&member("bob"));
    let truth = true_snapshot(&stage, &states[4]);
    let (state, _) = stage.keyring.stage(&false_state.to_bytes()).unwrap();
    for (lie, part) in [
        (Snapshot { state, ..truth.clone() }, "and replaying gives"),
        (Snapshot { root: state, ..truth.clone() }, "it says the root"),
        (Snapshot { size: 10_000, ..truth.clone() }, "10000 entries"),
    ] {
        let replay = stage.replay();
        let statement = stage.statement(&replay, "alice", Act::Snapshot(lie));
        let id = stage.hand_in_as("alice", &statement);
        let refused = stage.approve("bob", &id).unwrap_err();
        assert!(matches!(refused, FleetError::Refused(_)) && refused.to_string().contains(part), "{refused}");
    }
    let before = stage.entries().len();
    let replay = stage.replay();
    let statement = stage.statement(&replay, "alice", Act::Snapshot(truth.clone()));
    let id = stage.hand_in_as("alice", &statement);
    // Its state is an object, and has to be there before it is taken in.
    stage.keyring.disk().remove(&object_path(&truth.state)).unwrap();
    assert!(matches!(stage.approve("bob", &id).unwrap(), Placed::Proposed { .. }));
    stage.prepared("alice").done();
    assert_eq!(stage.entries().len(), before);
    stage.keyring.stage(&states[4].to_bytes()).unwrap();
    stage.prepared("alice").done();
    assert_eq!(stage.newest_act(), "snapshot");
    assert_eq!(begin(&stage, &truth.state).unwrap().state(), stage.open().state());
    // Also one's own are looked at: a program that computes another state than the log's is refused by itself.
    let false_draft = |fleet: &mut Fleet, _: &keys::home::Home| {
        let (_, draft) = ops::plan_snapshot("false", fleet).unwrap();
        let Act::Snapshot(own) = draft.act.clone() else { panic!("no snapshot") };
        vec![keys::fleet::Draft { act: Act::Snapshot(Snapshot { state, ..own }), ..draft }]
    };
    let refused = stage.try_act("alice", |fleet, home| Ok(false_draft(fleet, home))).unwrap_err();
    assert!(refused.to_string().contains("and replaying gives"), "{refused}");
}

fn a_false_snapshot_is_named_by_every_verification(sandbox: &Sandbox) {
    let mut stage = some(sandbox);
    let states = past(&stage);
    let mut false_state = states[3].clone();
    false_state.members.get_mut(&member("fra1")).into_iter().for_each(|m| Arc::make_mut(m).generation += 1);
    false_state.revoked_serials.insert(7);
    let truth = true_snapshot(&stage, &states[3]);
    let (state, _) = stage.keyring.stage(&false_state.to_bytes()).unwrap();
    record(&mut stage, std::slice::from_ref(&truth), &["alice", "bob"]);
    stage.is_sound();
    let later = true_snapshot(&stage, &states[4]);
    record(&mut stage, &[Snapshot { state, ..later.clone() }], &["alice", "bob"]);
    let newest = true_snapshot(&stage, &states[5]);
    record(&mut stage, &[Snapshot { root: state, ..newest }], &["alice", "bob"]);
    let (report, _) = Fleet::verify(&stage.keyring, &Known::default(), stage.now, &mut |_, _| {}).unwrap();
    let damage: Vec<_> = report.problems.iter().filter(|p| p.severity == Severity::Damage).collect();
    let index = stage.entries().len() - 2;
    assert_eq!(damage.len(), 2, "{damage:?}");
    let [of_state, of_root] = [index, index + 1].map(|index| {
        let named = format!("entry {index}, signed by alice, bob, is a false snapshot");
        damage.iter().find(|p| p.problem.starts_with(&named)).unwrap_or_else(|| panic!("{named}: {damage:?}"))
    });
    assert!(of_state.problem.ends_with(&format!("it says the state {state}, and it is {}", later.state)));
    assert!(of_root.problem.contains("it says the root"), "{of_root:?}");
}

fn without_a_rule_there_are_no_snapshots(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    let rule = "[[quorum]]\nact = \"snapshot\"\nneed = { operator = 2 }\n";
    stage.carry(|fleet, _| {
        Stage::policy(fleet, "fleet.toml", |text| {
            assert!(text.contains(rule), "{text}");
            text.replace(rule, "")
        })
    });
    let snapshot = true_snapshot(&stage, past(&stage).last().unwrap());
    let verdict = stage.judge(&mut stage.replay(), Act::Snapshot(snapshot), &["alice", "bob"]);
    assert!(verdict.void[0].1.to_string().contains("the policy has no rule that allows snapshot"), "{verdict:?}");
}

fn a_smaller_snapshot_is_void(sandbox: &Sandbox) {
    let mut stage = some(sandbox);
    let states = past(&stage);
    let [first, second] = [1, 2].map(|at| true_snapshot(&stage, &states[at]));
    record(&mut stage, std::slice::from_ref(&second), &["alice", "bob"]);
    stage.later(Span::hours(1));
    for (snapshot, part) in [
        (first.clone(), "there is one of 3 already"),
        (second, "there is one of 3 already"),
        (Snapshot { size: 0, ..first.clone() }, "entries come before it"),
        (Snapshot { size: states.len() as u64 + 2, ..first }, "entries come before it"),
    ] {
        let verdict = stage.judge(&mut stage.replay(), Act::Snapshot(snapshot), &["alice", "bob"]);
        assert!(verdict.void[0].1.to_string().contains(part), "{verdict:?}");
    }
}

fn a_machine_that_began_late_still_notices_rollback_and_fork(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    let seen = stage.keyring.disk().read("log/checkpoint", 1 << 16).unwrap();
    stage.join(sandbox, "fra1", &[]);
    // More than a tile, so that what was seen lies in one that is full.
    let fleet = stage.prepared("alice");
    let sequencer = ops::sequencer(&stage.homes[&member("alice")], &fleet).unwrap().unwrap();
    let nothing = (0..300).map(|i| format!("no entry {i}").into_bytes()).collect();
    append(&stage.keyring, fleet.head(), fleet.log(), nothing, &sequencer, Target::Published).unwrap();
    fleet.done();
    let snapshot = true_snapshot(&stage, past(&stage).last().unwrap());
    record(&mut stage, std::slice::from_ref(&snapshot), &["alice", "bob"]);
    stage.later(Span::hours(1));
    let open = |seen: Option<Vec<u8>>, view| {
        let known = Known { snapshot: Some(snapshot.state), seen, ..Known::default() };
        Fleet::open_view(stage.keyring.clone(), &known, stage.now, &mut |_, _| {}, view)
    };
    // What it saw lies before where it begins: it is proven from the tiles.
    assert_eq!(open(seen.clone(), View::Newest).unwrap().began(), snapshot.size);
    assert_eq!(open(seen.clone(), View::Published).unwrap().began(), snapshot.size);
    let text = String::from_utf8(seen.clone().unwrap()).unwrap();
    let root = text.lines().nth(2).unwrap();
    let other = text.replace(root, "urZg8LfJo6GnufhEDmidharB29pnexsx4oUacnvNa6Y=");
    let fork = open(Some(other.into_bytes()), View::Newest).err().unwrap();
    assert!(matches!(fork, FleetError::Fork { .. }), "{fork}");
    let size = text.lines().nth(1).unwrap();
    let longer = text.replacen(&format!("\n{size}\n"), "\n99999\n", 1);
    let rollback = open(Some(longer.into_bytes()), View::Newest).err().unwrap();
    assert!(matches!(rollback, FleetError::Rollback { .. }), "{rollback}");
    // A tile that was changed does not prove anything.
    let tile = "log/tile/0/000";
    let mut bytes = stage.keyring.disk().read(tile, 1 << 16).unwrap().unwrap();
    bytes[0] ^= 1;
    stage.keyring.disk().replace(tile, &bytes).unwrap();
    let damaged = open(seen, View::Newest).err().unwrap();
    assert!(damaged.to_string().contains("is damaged"), "{damaged}");
}

fn a_machine_that_began_late_finishes_what_others_began_before(sandbox: &Sandbox) {
    let mut stage = some(sandbox);
    let snapshot = true_snapshot(&stage, past(&stage).last().unwrap());
    record(&mut stage, std::slice::from_ref(&snapshot), &["alice", "bob"]);
    let disk = stage.keyring.disk().clone();
    let (fleet, secret) = (stage.open(), "sealed/fra1/token.pgp");
    let fra1 = &fleet.state().members[&member("fra1")];
    let certificate = certificate_path(&fra1.fingerprint);
    // As a writer leaves it that dies before the views of what it has published.
    let (cert, sealed) = [certificate.as_str(), secret].map(|path| disk.read(path, 1 << 20).unwrap().unwrap()).into();
    disk.remove(&certificate).unwrap();
    disk.rename(secret, &staged_path(&Digest::of(&sealed))).unwrap();
    disk.replace(".writing", b"").unwrap();
    let mut late = begin(&stage, &snapshot.state).unwrap();
    late.prepare(None).unwrap();
    late.done();
    assert!(disk.read(&certificate, 1 << 20).unwrap() == Some(cert), "the certificate is in its place");
    assert!(disk.read(secret, 1 << 20).unwrap() == Some(sealed), "the sealed file is at its address");
    stage.is_sound();
}
