//! Resealing many secrets: in parts that are logged one by one, so that whoever is killed goes on where it was; the bodies stay;
//! and only what has drifted is touched.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use keys::digest::Digest;
use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Draft, Fleet, Known};
use keys::home::Home;
use keys::name::Address;
use keys::openpgp::Sealed;
use keys::ops;
use keys::statement::Act;
use keys::store::{Store, read_checkpoint};

use crate::support::{Sandbox, TestFleet, now, tests};

tests!["resealing":
    a_reseal_that_is_killed_goes_on_where_it_was,
    only_what_has_drifted_is_touched,
    three_machines_offer_to_reseal_what_all_share,
];

/// Three parts of a reseal: 128, 128 and 44.
const SECRETS: usize = 300;
const PART: usize = 128;

fn store(fleet: &TestFleet<'_>) -> Store {
    Store::new(Disk::new(RealFiles::open(&fleet.keyring(""), Access::Public).unwrap()))
}

fn open(fleet: &TestFleet<'_>) -> Fleet {
    Fleet::open(store(fleet), &Known::default(), now(), &mut |_, _| {}).unwrap()
}

fn address(i: usize) -> Address {
    format!("fra1/key-{i:03}").parse().unwrap()
}

fn value(i: usize) -> Vec<u8> {
    format!("the value of {i}").into_bytes()
}

/// A fleet with that many secrets of fra1, in a handful of entries.
fn sealed(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let home = Home::open(&sandbox.path("alice")).unwrap();
    let mut opened = open(&fleet);
    opened.prepare(ops::sequencer(&home, &opened).unwrap().as_ref()).unwrap();
    let all: Vec<usize> = (0..SECRETS).collect();
    for part in all.chunks(100) {
        let (mut changes, mut objects) = (Vec::new(), Vec::new());
        for i in part {
            let plan = ops::plan_seal(&address(*i), &mut opened).unwrap();
            let draft = ops::seal(&plan, &value(*i), "sealed", None, &home, &mut opened).unwrap();
            let Act::Seal(list) = draft.act else { panic!("no seal") };
            changes.extend(list);
            objects.extend(draft.objects);
        }
        let draft = Draft::with(Act::Seal(changes), "sealed", objects);
        ops::carry_out(&home, &mut opened, vec![draft], None).unwrap();
    }
    opened.done();
    fleet
}

/// Takes alice from the readers of all secrets that match, which nobody has resealed yet.
fn take_alice_out(sandbox: &Sandbox, fleet: &TestFleet<'_>, pattern: &str) {
    let path = sandbox.path("fleet/policy/secrets.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[[secret]]\nmatch = \"{pattern}\"\nwrite_only = true\n")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
}

fn files(fleet: &TestFleet<'_>) -> BTreeMap<usize, Vec<u8>> {
    let read = |i: usize| std::fs::read(fleet.keyring(&address(i).path())).unwrap();
    (0..SECRETS).map(|i| (i, read(i))).collect()
}

fn recipients(file: &[u8]) -> usize {
    Sealed::parse(file).unwrap().recipients.len()
}

fn body(file: &[u8]) -> Digest {
    Sealed::parse(file).unwrap().body_digest()
}

fn a_reseal_that_is_killed_goes_on_where_it_was(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    take_alice_out(sandbox, &fleet, "fra1/*");
    let before = files(&fleet);
    assert!(before.values().all(|f| recipients(f) == 4));
    let size = || read_checkpoint(&store(&fleet)).unwrap().1.size;
    let first = size();

    // Killed as soon as there is a part of it; where we were so late that all of them were there, it is tried again.
    sandbox.copy("fleet", "fleet-before");
    sandbox.copy("alice", "alice-before");
    let killed = (0..20).any(|_| {
        sandbox.copy("fleet-before", "fleet");
        sandbox.copy("alice-before", "alice");
        let mut child = sandbox.start(&["--fleet", "fleet", "--home", "alice", "reseal", "--yes"]);
        while size() == first && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        child.wait().unwrap().signal() == Some(9) && size() < first + SECRETS.div_ceil(PART) as u64
    });
    assert!(killed, "it was still at work when it was killed");

    // What is logged is a part or two, whole; each file is the old or the new one, and every value opens.
    let done = usize::try_from(size() - first).unwrap();
    assert!((1..=2).contains(&done), "{done}");
    let home = Home::open(&sandbox.path("fra1")).unwrap();
    let mut opened = open(&fleet);
    let drifted = |opened: &Fleet| {
        let state = opened.state();
        state.live_secrets().filter(|(a, s)| state.drift(a, s).is_some()).count()
    };
    assert_eq!(drifted(&opened), SECRETS - done * PART);
    for (i, file) in files(&fleet) {
        assert!(file == before[&i] || (recipients(&file) == 2 && body(&file) == body(&before[&i])), "{i}");
        assert_eq!(*ops::open(&address(i), None, &home, &mut opened).unwrap().value, value(i));
    }
    drop(opened);

    // The next run does the rest, and the one after it nothing.
    let again = fleet.keys("alice", &["reseal", "--yes", "--json"]);
    again.ok();
    let resealed = again.json()["plan"]["reseal"].as_array().unwrap().len();
    assert!(resealed == SECRETS - done * PART || resealed == SECRETS - (done + 1) * PART, "{resealed}, {done}");
    let mut opened = open(&fleet);
    assert_eq!(drifted(&opened), 0);
    for (i, file) in files(&fleet) {
        assert_eq!((recipients(&file), body(&file)), (2, body(&before[&i])), "{i}");
        assert_eq!(*ops::open(&address(i), None, &home, &mut opened).unwrap().value, value(i));
    }
    fleet.keys("alice", &["reseal", "--yes"]).ok();
    assert_eq!(fleet.keys("alice", &["reseal", "--yes", "--json"]).json()["plan"]["reseal"], serde_json::json!([]));
    fleet.keys("stranger", &["log", "verify"]).ok();
}

fn only_what_has_drifted_is_touched(sandbox: &Sandbox) {
    let fleet = sealed(sandbox);
    take_alice_out(sandbox, &fleet, "fra1/key-01*");
    let before = files(&fleet);
    let planned = fleet.keys("alice", &["reseal", "--dry-run", "--json"]);
    planned.exits(9);
    let addresses = |ran: &crate::support::Ran| ran.json()["plan"]["reseal"].as_array().unwrap().len();
    assert_eq!(addresses(&planned), 10);
    assert_eq!(files(&fleet), before, "a dry run touches nothing");
    let one = fleet.keys("alice", &["reseal", "fra1/key-010", "--yes", "--json"]);
    one.ok();
    assert_eq!(addresses(&one), 1);
    let rest = fleet.keys("alice", &["reseal", "--yes", "--json"]);
    rest.ok();
    assert_eq!((addresses(&rest), rest.json()["placed"].as_array().unwrap().len()), (9, 1));
    let touched: Vec<usize> = files(&fleet).into_iter().filter(|(i, f)| *f != before[i]).map(|(i, _)| i).collect();
    assert_eq!(touched, (10..20).collect::<Vec<_>>());
}

fn three_machines_offer_to_reseal_what_all_share(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let names: Vec<String> = (1..=6).map(|n| format!("pop{n}")).collect();
    for name in &names {
        fleet.keys(name, &["enroll", name, "--endpoint", &format!("{name}.cdn.example")]).ok();
    }
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    // Alice cannot open it: if it is to be resealed, a machine has to do it, and she has to agree.
    let path = sandbox.path("fleet/policy/secrets.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let rule = "[[secret]]\nmatch = \"*/token\"\nshared = true\nwrite_only = true\n";
    std::fs::write(&path, format!("{text}\n{rule}")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.seal("*/token", "for all");
    fleet.keys("alice", &["sync"]).ok();
    fleet.keys("alice", &["revoke", "pop6", "--reason", "compromised", "--yes"]);
    let offered = || {
        let proposals = std::fs::read_dir(fleet.keyring("proposals")).map(Iterator::count).unwrap_or_default();
        (proposals, fleet.keys("alice", &["who", "*/token"]).ok().lines().any(|l| l.starts_with("pop6")))
    };
    assert_eq!(offered(), (0, true));
    // Each would go on five times over, and all of them again whenever they catch up.
    for _ in 0..2 {
        for name in &names[..5] {
            fleet.keys(name, &["sync"]);
        }
    }
    assert_eq!(offered(), (3, true));
    fleet.keys("alice", &["approve", "--all", "--yes"]);
    assert!(!offered().1, "one of them was enough");
    assert_eq!(fleet.keys("pop1", &["open", "*/token"]).ok(), "for all");
    fleet.keys("alice", &["log", "verify"]).ok();
}
