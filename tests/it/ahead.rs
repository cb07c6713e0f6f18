//! A log that is verified on several threads: what the fold says of it is what it says alone, entry by entry, also of
//! signatures that do not verify, that were made over something else, or whose keys change on the way.

use keys::home::Home;
use keys::log::note::SignatureLine;
use keys::name::Slot;
use keys::ops;
use keys::state::{Preparer, Replay, Verdict};
use keys::statement::{Act, Remove};
use keys::store::{Store, Target, append};
use keys::time::Time;

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, tests};

tests!["ahead":
    threads_change_nothing_of_what_the_fold_says,
    a_signature_that_does_not_verify_is_not_known_to,
];

/// Entries that each name a secret that is not there: without effect, but their signatures are counted and reported.
/// Every seventh has a signature over another body, every eleventh one that is damaged.
fn entries(stage: &Stage, count: u64) -> Vec<Vec<u8>> {
    let replay = stage.replay();
    let about = |n: u64| {
        let change = Remove {
            address: "fra1/nothing".parse().unwrap(),
            generation: n + 1,
            prev: keys::digest::Digest::of(&n.to_be_bytes()),
        };
        stage.statement(&replay, "alice", Act::Remove(vec![change]))
    };
    let entry = |n: u64| {
        let statement = about(n);
        let mut lines: Vec<SignatureLine> =
            ["alice", "bob"].iter().map(|who| stage.line(&replay, who, &statement)).collect();
        if n.is_multiple_of(7) {
            lines[1] = stage.line(&replay, "bob", &about(n + 1_000));
        }
        if n.is_multiple_of(11) {
            let last = lines[1].signature.len() - 1;
            lines[1].signature[last] ^= 1;
        }
        Stage::entry(&statement, lines)
    };
    (0..count).map(entry).collect()
}

fn publish(stage: &Stage, entries: Vec<Vec<u8>>) {
    let fleet = stage.open();
    let home: &Home = &stage.homes[&member("alice")];
    let key = ops::sequencer(home, &fleet).unwrap().unwrap();
    append(&stage.keyring, fleet.head(), fleet.log(), entries, &key, Target::Published).unwrap();
}

/// What the fold says of every entry, alone.
fn alone(stage: &Stage) -> Vec<Verdict> {
    let mut replay = Replay::new("cdn.example/keys/1".into(), stage.keyring.clone());
    stage.entries().iter().map(|entry| replay.apply(entry).unwrap()).collect()
}

fn threads_change_nothing_of_what_the_fold_says(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    publish(&stage, entries(&stage, 150));
    // Another signing key for alice in the middle of it, so that what was learnt before is not all there is.
    stage.now = Time(stage.now.0 + 60);
    let selection = ops::Selection { members: Some("alice".parse().unwrap()), slot: Some(Slot::Sign), due: false };
    stage.carry(|fleet, _| ops::plan_rotate(&selection, fleet.state(), fleet.now()).unwrap().drafts("drill"));
    stage.sync("alice");
    publish(&stage, entries(&stage, 300));

    let verdicts = alone(&stage);
    let mut fleet = stage.open();
    let void: Vec<Verdict> = verdicts.iter().filter(|v| !v.is_whole()).cloned().collect();
    assert_eq!(fleet.void(), void);
    assert_eq!(fleet.state(), &last_state(&stage));
    let by = |n: usize| void.iter().filter(|v| v.signers.len() == n).count();
    let wrong = |count: usize| (0..count).filter(|n| n % 7 == 0 || n % 11 == 0).count();
    assert_eq!((by(1), by(2)), (wrong(150) + wrong(300), 450 - wrong(150) - wrong(300)), "as they were made");
    assert!(fleet.check_vouched(&member("casc1")).is_ok());
}

fn last_state(stage: &Stage) -> keys::state::State {
    stage.replay().into_state().unwrap()
}

fn a_signature_that_does_not_verify_is_not_known_to(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice", "bob"]);
    let mut replay: Replay<Store> = stage.replay();
    // Enough of them for their makers to be well known in the end.
    let made = entries(&stage, 150);
    let mut preparer = Preparer::new("cdn.example/keys/1").unwrap();
    replay.certificates_met().iter().for_each(|certificate| preparer.learn(certificate));
    let mut own = stage.replay();
    let prepared = made.chunks(32).flat_map(|chunk| preparer.prepare(chunk)).collect::<Vec<_>>();
    for (n, (entry, prepared)) in made.iter().zip(prepared).enumerate() {
        let said = own.apply(entry).unwrap();
        assert_eq!(replay.apply_prepared(prepared).unwrap(), said);
        assert_eq!(said.signers.contains(&member("bob")), n % 7 != 0 && n % 11 != 0, "entry {n}");
    }
}
