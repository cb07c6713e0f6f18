//! The targets for the fold: an entry of anybody's, offered to the example fleet; and the fold's state as bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use keys::digest::Digest;
use keys::state::{ObjectError, Objects, Replay, State};

use crate::example;

/// Attachments in memory.
struct Memory(BTreeMap<Digest, Vec<u8>>);

impl Objects for Memory {
    fn object(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError> {
        self.0.get(digest).cloned().ok_or(ObjectError::Missing(*digest))
    }
}

fn objects() -> Memory {
    Memory(example::files("keyring/objects").into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect())
}

fn example_fleet() -> Replay<Memory> {
    let mut replay = Replay::new(example::checkpoint().origin, objects());
    for entry in example::entries() {
        let verdict = replay.apply(&entry).expect("the example replays");
        assert!(verdict.is_whole(), "{verdict:?}");
    }
    replay
}

thread_local! {
    static FLEET: RefCell<Replay<Memory>> = RefCell::new(example_fleet());
}

/// Whatever is offered: nobody's signature is at hand, and what is in the log already is spent, so no change is applied;
/// and looking at an entry leaves the state as it was.
pub fn replay(data: &[u8]) {
    FLEET.with_borrow_mut(|fleet| {
        let before = fleet.state().cloned();
        if let Ok(verdict) = fleet.preview(data) {
            assert_eq!(verdict.applied, 0, "{verdict:?}");
            verdict.void.iter().for_each(|(_, void)| drop(void.to_string()));
        }
        assert!(fleet.state() == before.as_ref(), "a preview changed the state");
    });
}

/// A state has one spelling, and what is read can be asked.
pub fn state(data: &[u8]) {
    FLEET.with_borrow(|fleet| {
        if let Ok(state) = State::parse(data, fleet.objects()) {
            assert_eq!(state.to_bytes(), data, "another spelling");
            drop(state.rotations().collect::<Vec<_>>());
            state.live_secrets().for_each(|(address, secret)| drop(state.drift(address, secret)));
            drop(state.trusted_cas(keys::name::Slot::SshHostCa, state.time));
        }
    });
}

/// What to begin with.
pub mod seeds {
    use keys::state::{Replay, State};

    use crate::example;

    /// Of [`super::state`]: the example's state after its founding.
    pub fn state() -> Vec<Vec<u8>> {
        let mut replay = Replay::new(example::checkpoint().origin, super::objects());
        for entry in example::entries().iter().take(1) {
            replay.apply(entry).expect("the example replays");
        }
        replay.state().map(State::to_bytes).into_iter().collect()
    }

    /// Of [`super::replay`]: entries of the example, the last of each act.
    pub fn replay() -> Vec<Vec<u8>> {
        let acts = example::entries().into_iter().map(|entry| {
            let parsed = keys::statement::Entry::parse(&entry).expect("an entry");
            (parsed.signed.statement.act.name().to_string(), entry)
        });
        acts.collect::<std::collections::BTreeMap<_, _>>().into_values().collect()
    }
}
