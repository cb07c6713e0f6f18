//! A log that is verified on several threads: what the fold says of it is what it says alone, entry by entry, also of
//! signatures that do not verify, that were made over something else, or whose keys change on the way.

use keys::fleet::{Fleet, Known};
use keys::home::Home;
use keys::log::commit::Commit;
use keys::log::note::{SignatureLine, SignerKey};
use keys::name::Slot;
use keys::ops;
use keys::state::{Preparer, Replay, Verdict};
use keys::statement::{Act, Rekey, Remove, RetireReason};
use keys::store::{Store, Target, append};
use keys::time::Time;
use rand::SeedableRng as _;

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, tests};

tests!["ahead":
    threads_change_nothing_of_what_the_fold_says,
    a_signature_that_does_not_verify_is_not_known_to,
    commits_are_read_on_all_cores_and_only_the_logs_keys_sign_them,
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
    let selection =
        ops::Selection { members: Some("alice".parse().unwrap()), slot: Some(Slot::Sign), due: false, soon: true };
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

/// What a verification names.
fn named(stage: &Stage) -> Vec<(String, String)> {
    let (report, _) = Fleet::verify(&stage.keyring, &Known::default(), stage.now, &mut |_, _| {}).unwrap();
    report.problems.into_iter().map(|p| (p.path, p.problem)).collect()
}

fn commits_are_read_on_all_cores_and_only_the_logs_keys_sign_them(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice", "bob"]);
    let stranger = SignerKey::generate("cdn.example/keys/1", &mut rand::rngs::StdRng::from_seed([9; 32]));
    // An entry without effect names the stranger's key as the log's.
    let replay = stage.replay();
    let plan = ops::plan_rekey(None, RetireReason::Retired, replay.state().unwrap()).unwrap();
    let statement =
        stage.statement(&replay, "alice", Act::Rekey(Rekey { key: stranger.verifier().to_string(), ..plan }));
    let claims = Stage::entry(&statement, vec![stage.line(&replay, "alice", &statement)]);
    for entry in entries(&stage, 100).into_iter().chain([claims]) {
        publish(&stage, vec![entry]);
    }
    assert_eq!(named(&stage), []);

    let disk = stage.keyring.disk();
    let path = |number: u64| format!("log/{}", Commit::path(number));
    let read = |number: u64| disk.read(&path(number), 1 << 20).unwrap().unwrap();
    for number in [30, 90] {
        let (commit, _) = Commit::parse(&read(number)).unwrap();
        disk.replace(&path(number), &commit.to_bytes(&stranger)).unwrap();
    }
    let unsigned = "it is not signed by the log's key".to_owned();
    assert_eq!(named(&stage), [(path(30), unsigned.clone()), (path(90), unsigned)]);

    for number in [20, 80] {
        disk.replace(&path(number), &read(number)[1..]).unwrap();
    }
    disk.replace(&path(60), &read(61)).unwrap();
    disk.remove(&path(70)).unwrap();
    let wrong = "it is not the commit that its name says".to_owned();
    let missing = "it is missing".to_owned();
    let found = [(path(20), wrong.clone()), (path(60), wrong.clone()), (path(70), missing), (path(80), wrong)];
    assert_eq!(named(&stage), found);
}
