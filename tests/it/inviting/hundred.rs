//! One token, a hundred machines: whatever the order in which the log has them, one joins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keys::digest::Digest;
use keys::fleet::Fleet;
use keys::ops::{self, Inviting};
use keys::state::{Admission, Asked, ObjectError, Objects, Preparer, Replay, Void};
use keys::statement::{Approval, Token};
use keys::store::Store;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::{asks, invite, signed_again};
use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, Tool, files_below};

/// How often the hundred machines are let in, each time in another order.
fn rounds() -> usize {
    let asked = std::env::var("KEYS_TEST_ROUNDS").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or(if Tool::Long.path().is_some() { 1_000 } else { 250 })
}

/// All objects of a keyring, in memory.
#[derive(Clone)]
struct InMemory(Arc<BTreeMap<Digest, Vec<u8>>>);

impl Objects for InMemory {
    fn object(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError> {
        self.0.get(digest).cloned().ok_or(ObjectError::Missing(*digest))
    }
}

/// An entry by which an authority enrols who asks so.
fn enrolment(stage: &mut Stage, replay: &Replay<Store>, fleet: &mut Fleet, request: &[u8]) -> Vec<u8> {
    let home = stage.homes[&member("alice")].clone();
    let draft = ops::admit(request, "", &home, fleet, &mut stage.rng).unwrap();
    for object in &draft.objects {
        stage.keyring.disk().create(&keys::store::object_path(&Digest::of(object)), object).unwrap();
    }
    let statement = stage.statement(replay, "casc1", draft.act);
    Stage::entry(&statement, vec![stage.line(replay, "casc1", &statement)])
}

pub(super) fn of_a_hundred_machines_with_one_token_one_joins(sandbox: &Sandbox) {
    const MACHINES: usize = 100;
    let mut stage = Stage::found(sandbox, &["alice"]);
    let token = invite(&mut stage, "fra1", &Inviting::default(), Approval::Auto);
    let mut requests: Vec<Vec<u8>> =
        (0..MACHINES).map(|i| asks(&mut stage, sandbox, &format!("machine{i}"), "fra1", &token)).collect();
    // And a few whose requests the token has not signed: wherever they come, the first *valid* one joins.
    let other = Token::generate(&mut stage.rng);
    for i in 0..5 {
        let request = Asked::parse(&requests[i]).unwrap().request;
        requests.push(signed_again(&stage.homes[&member(&format!("machine{i}"))], request, "fra1", &other));
    }
    let mut fleet = stage.prepared("alice");
    let replay = stage.replay();
    let entries: Vec<Vec<u8>> =
        requests.iter().map(|request| enrolment(&mut stage, &replay, &mut fleet, request)).collect();
    fleet.done();

    // What is the same in each round is done once: reading the entries, verifying the authority's signatures.
    let objects = files_below(&sandbox.path("keyring/objects")).into_iter().map(|path| std::fs::read(path).unwrap());
    let objects = InMemory(Arc::new(objects.map(|bytes| (Digest::of(&bytes), bytes)).collect()));
    let mut replay = Replay::new("cdn.example/keys/1".into(), objects.clone());
    stage.entries().iter().for_each(|entry| drop(replay.apply(entry).unwrap()));
    let mut preparer = Preparer::new("cdn.example/keys/1").unwrap();
    replay.certificates_met().iter().for_each(|certificate| preparer.learn(certificate));
    let (entries, founded) = (preparer.prepare(&entries), replay.state().unwrap().clone());
    let used: Vec<Digest> = requests.iter().map(|request| Asked::parse(request).unwrap().digest()).collect();

    let (next, winners) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    let round = |replay: &mut Replay<InMemory>, number: usize| {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(number as u64));
        replay.rewind(Some(founded.clone()));
        let first = order.iter().copied().find(|i| *i < MACHINES).unwrap();
        for i in order {
            let verdict = replay.apply_prepared(entries[i].clone()).unwrap();
            let expected = match i {
                _ if i == first => None,
                _ if i >= MACHINES => Some(Admission::BadSignature),
                _ => Some(Admission::TokenReused),
            };
            let told = match &verdict.void[..] {
                [] => None,
                [(0, Void::Admission { admission, .. })] => Some(*admission),
                other => panic!("round {number}: {other:?}"),
            };
            assert_eq!((told, verdict.applied), (expected, usize::from(i == first)), "round {number}, machine {i}");
        }
        let state = replay.state().unwrap();
        assert_eq!(state.invitations[&member("fra1")].used, Some(used[first]), "round {number}");
        assert_eq!(state.members.len(), founded.members.len() + 1);
        winners.lock().unwrap().insert(first);
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut replay = Replay::resume(founded.clone(), objects.clone());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rounds() {
                        return;
                    }
                    round(&mut replay, number);
                }
            });
        }
    });
    let winners = winners.into_inner().unwrap().len();
    eprintln!("inviting: {} rounds of {MACHINES} machines, {winners} different winners", rounds());
    assert!(winners > 1 || rounds() < 2);
}
