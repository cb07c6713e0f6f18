//! A verification that was interrupted goes on where it was, and says what it says when it is not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Fleet, Going, Known, Report};
use keys::ops;
use keys::statement::Snapshot;
use keys::store::{Store, Target, append};

use crate::beginnings::{past, record, some, true_snapshot};
use crate::kept::{long, richer, said};
use crate::support::growing::Growing;
use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, tests};

tests!["going":
    it_goes_on_from_wherever_it_was,
    a_false_snapshot_is_named_wherever_it_goes_on,
    what_does_not_serve_is_not_gone_on_from,
    the_command_goes_on_and_says_so,
    it_bears_a_log_that_grows_at_any_moment,
];

/// Adds entries without effect, as only somebody with the log's key can make them.
fn lengthen(stage: &Stage, count: usize) {
    let fleet = stage.prepared("alice");
    let sequencer = ops::sequencer(&stage.homes[&member("alice")], &fleet).unwrap().unwrap();
    let nothing = (0..count).map(|i| format!("no entry {i}").into_bytes()).collect();
    append(&stage.keyring, fleet.head(), fleet.log(), nothing, &sequencer, Target::Published).unwrap();
    fleet.done();
}

/// What a verification says, and all that it keeps on the way.
struct Verified {
    report: Report,
    said: BTreeMap<&'static str, String>,
    kept: Vec<Vec<u8>>,
}

fn verify(stage: &Stage, known: &Known, left: Option<Vec<u8>>) -> Verified {
    let mut kept = Vec::new();
    let mut keep = |make: &dyn Fn() -> Option<Vec<u8>>| kept.extend(make());
    let going = Going { left, keep: &mut keep };
    let (report, fleet) = Fleet::verify_on(&stage.keyring, known, stage.now, &mut |_, _| {}, Some(going)).unwrap();
    Verified { report, said: said(&mut fleet.unwrap()), kept }
}

fn pinned(stage: &Stage) -> Known {
    Known { pin: Some(stage.open().pin().id), ..Known::default() }
}

fn it_goes_on_from_wherever_it_was(sandbox: &Sandbox) {
    let stage = richer(sandbox);
    lengthen(&stage, 500);
    lengthen(&stage, 200);
    let known = pinned(&stage);
    let whole = verify(&stage, &known, None);
    assert!(whole.report.is_sound() && whole.report.earlier == 0, "{:?}", whole.report.problems);
    assert_eq!(whole.kept.len(), 2);
    for (n, left) in whole.kept.iter().enumerate() {
        let again = verify(&stage, &known, Some(left.clone()));
        assert_eq!(again.report.earlier, (n as u64 + 1) * 256);
        assert_eq!(Report { earlier: 0, ..again.report }, whole.report);
        assert_eq!(again.said, whole.said);
        assert!(again.kept == whole.kept[n + 1..], "what it keeps in its turn is the same");
    }
    // The files are all looked at, whatever was replayed.
    let path = "log/tile/entries/000";
    let mut bytes = stage.keyring.disk().read(path, 1 << 20).unwrap().unwrap();
    bytes[400] ^= 1;
    stage.keyring.disk().replace(path, &bytes).unwrap();
    let going = Going { left: Some(whole.kept[1].clone()), keep: &mut |_| {} };
    let (report, _) = Fleet::verify_on(&stage.keyring, &known, stage.now, &mut |_, _| {}, Some(going)).unwrap();
    assert!(!report.is_sound() && report.problems[0].path == path, "{:?}", report.problems);
}

fn a_false_snapshot_is_named_wherever_it_goes_on(sandbox: &Sandbox) {
    let mut stage = some(sandbox);
    let states = past(&stage);
    let mut false_state = states[4].clone();
    false_state.members.remove(&member("bob"));
    let (state, _) = stage.keyring.stage(&false_state.to_bytes()).unwrap();
    let truth = true_snapshot(&stage, &states[4]);
    record(&mut stage, &[Snapshot { state, ..truth }], &["alice", "bob"]);
    lengthen(&stage, 300);
    let known = pinned(&stage);
    let whole = verify(&stage, &known, None);
    assert!(!whole.report.is_sound());
    let again = verify(&stage, &known, Some(whole.kept[0].clone()));
    assert_eq!((again.report.earlier, again.report.problems), (256, whole.report.problems));
}

fn what_does_not_serve_is_not_gone_on_from(sandbox: &Sandbox) {
    let stage = some(sandbox);
    lengthen(&stage, 300);
    let known = pinned(&stage);
    let whole = verify(&stage, &known, None);
    let mut wrong = whole.kept[0].clone();
    let last = wrong.len() - 2;
    wrong[last] ^= 1;
    let half = whole.kept[0][..whole.kept[0].len() / 2].to_vec();
    // What a home keeps of a replay says nothing of snapshots.
    let replayed = stage.open().keep().unwrap();
    for (what, known, left) in [
        ("changed", &known, wrong),
        ("cut", &known, half),
        ("empty", &known, Vec::new()),
        ("of a replay", &known, replayed),
        ("without a pin", &Known::default(), whole.kept[0].clone()),
    ] {
        let again = verify(&stage, known, Some(left));
        assert_eq!(again.report, whole.report, "{what}");
        assert_eq!(again.said, whole.said, "{what}");
    }
}

fn the_command_goes_on_and_says_so(sandbox: &Sandbox) {
    let fleet = long(sandbox);
    let store = Store::new(Disk::new(RealFiles::open(&fleet.keyring(""), Access::Public).unwrap()));
    let opened = Fleet::open(store.clone(), &Known::default(), crate::support::now(), &mut |_, _| {}).unwrap();
    let known = Known { pin: Some(opened.pin().id), ..Known::default() };
    let mut kept = Vec::new();
    let going = Going { left: None, keep: &mut |make| kept.extend(make()) };
    Fleet::verify_on(&store, &known, crate::support::now(), &mut |_, _| {}, Some(going)).unwrap();
    let file = sandbox.path("alice").join("verifying");
    let earlier = |flags: &[&str]| {
        std::fs::write(&file, &kept[0]).unwrap();
        let said = fleet.keys("alice", &[&["log", "verify", "--json"], flags].concat()).json();
        assert!(!file.exists(), "it came to its end");
        said["earlier"].as_u64().unwrap()
    };
    assert_eq!((earlier(&[]), earlier(&["--from-start"])), (256, 0));
    std::fs::write(&file, &kept[0]).unwrap();
    let said = fleet.keys("alice", &["log", "verify"]).ok();
    assert!(said.contains("256 of the entries were replayed by a verification that was interrupted"), "{said}");
    let said = fleet.keys("alice", &["log", "verify"]).ok();
    assert!(!said.contains("interrupted"), "{said}");
}

fn it_bears_a_log_that_grows_at_any_moment(sandbox: &Sandbox) {
    let stage = some(sandbox);
    let (known, now) = (pinned(&stage), stage.now);
    // Full tiles alone: none of them is replaced by a wider one.
    lengthen(&stage, 256 - usize::try_from(stage.open().state().size).unwrap());
    let whole = verify(&stage, &known, None).report;
    let stage = Arc::new(Mutex::new(stage));
    let (mut tried, mut moment, mut unsound, mut larger) = (0, 0, 0, 0);
    loop {
        sandbox.copy("keyring", "grown");
        let disk = RealFiles::open(&sandbox.path("grown"), Access::Public).unwrap();
        stage.lock().unwrap().keyring = Store::new(Disk::new(disk));
        let (left, writer) = (Arc::new(AtomicUsize::new(moment)), Arc::clone(&stage));
        let grow = move || lengthen(&writer.lock().unwrap(), 1);
        let store = Store::new(Disk::new(Growing::new(&sandbox.path("grown"), &left, grow)));
        let (report, opened) = Fleet::verify_on(&store, &known, now, &mut |_, _| {}, None).unwrap();
        if left.load(Ordering::Relaxed) < usize::MAX {
            break;
        }
        assert!(report.earlier == 0 && (report.entries >= whole.entries || !report.is_sound()), "{report:?}");
        larger += u32::from(opened.is_some_and(|o| o.replayed() > report.entries));
        // Some files are the writer's to replace: whoever finds one wrong looks again while nobody writes.
        if !report.is_sound() {
            unsound += 1;
            assert!(verify(&stage.lock().unwrap(), &known, None).report.is_sound());
        }
        (tried, moment) = (tried + 1, moment + 4);
    }
    eprintln!(
        "going: a log grew at {tried} of {moment} moments: looked damaged {unsound} times, larger {larger} times"
    );
    assert!(larger > 0);
}
