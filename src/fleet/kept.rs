//! What a home keeps of a replay, so that the next command goes on from there and need not begin with the first entry.
//!
//! ```text
//! keys/replayed/v1 3f9a…(64)
//! {"began":null,"program":"0.1.0","root":"urZg…","size":300,"unlocked":[],"void":[…]}
//! {"done":{…},…}
//! ```
//! The SHA-256 of what follows; what there is beside the state; the state as its hash is taken of.
//!
//! It is believed from the own home alone, and never more than a replay would be: it goes on only if the tiles have the
//! tree to which it belongs at its size, and what grows from it has the root that the log's key has signed. Whatever is the
//! matter with it (another version, another fleet, a log that is shorter or has another past), everything is replayed, so
//! that what is said then is what is said without it.

use serde::{Deserialize, Serialize};

use super::snapshot::Base;
use super::{Fleet, Known};
use crate::digest::Digest;
use crate::json;
use crate::name::MemberName;
use crate::state::{Locked, State, Unlocked, Verdict, Void};
use crate::store::{SignedHead, Store, edge_at};
use crate::time::Time;

const TITLE: &str = "keys/replayed/v1 ";
/// Another program may make something else of the same entries.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// What there is beside the state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Aside {
    /// The snapshot that was begun with: its state's hash, and how many entries were not replayed.
    began: Option<(Digest, u64)>,
    program: String,
    root: Digest,
    size: u64,
    unlocked: Vec<(u64, KeptUnlocked)>,
    void: Vec<KeptVerdict>,
}

/// Reasons are kept as they are told.
type Reasons = Vec<(usize, String)>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptUnlocked {
    id: Digest,
    locked: Locked,
    void: Reasons,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptVerdict {
    applied: usize,
    id: Option<Digest>,
    index: u64,
    locked: Option<Time>,
    signers: Vec<MemberName>,
    time: Time,
    unlocked: Vec<KeptUnlocked>,
    void: Reasons,
}

fn told(void: &[(usize, Void)]) -> Reasons {
    void.iter().map(|(change, why)| (*change, why.to_string())).collect()
}

fn retold(void: Reasons) -> Vec<(usize, Void)> {
    void.into_iter().map(|(change, why)| (change, Void::Told(why))).collect()
}

impl From<&Unlocked> for KeptUnlocked {
    fn from(from: &Unlocked) -> Self {
        Self { id: from.id, locked: from.locked.clone(), void: told(&from.void) }
    }
}

impl From<KeptUnlocked> for Unlocked {
    fn from(from: KeptUnlocked) -> Self {
        Self { id: from.id, locked: from.locked, void: retold(from.void) }
    }
}

impl From<&Verdict> for KeptVerdict {
    fn from(from: &Verdict) -> Self {
        Self {
            applied: from.applied,
            id: from.id,
            index: from.index,
            locked: from.locked,
            signers: from.signers.iter().cloned().collect(),
            time: from.time,
            unlocked: from.unlocked.iter().map(Into::into).collect(),
            void: told(&from.void),
        }
    }
}

impl From<KeptVerdict> for Verdict {
    fn from(from: KeptVerdict) -> Self {
        Self {
            index: from.index,
            id: from.id,
            signers: from.signers.into_iter().collect(),
            time: from.time,
            applied: from.applied,
            locked: from.locked,
            unlocked: from.unlocked.into_iter().map(Into::into).collect(),
            void: retold(from.void),
        }
    }
}

/// What was kept, read: a state and all that a fleet knows besides.
pub(super) struct Kept {
    pub state: State,
    pub base: Base,
    pub began: Option<(Digest, u64)>,
    pub void: Vec<Verdict>,
    pub unlocked: Vec<(u64, Unlocked)>,
}

impl Kept {
    /// Reads what a home has kept; `None` if it cannot be gone on from, for whatever reason.
    pub(super) fn read(store: &Store, known: &Known, origin: &str, published: Option<&SignedHead>) -> Option<Self> {
        let rest = known.kept.as_deref()?.strip_prefix(TITLE.as_bytes())?;
        let (digest, rest) = rest.split_at_checked(64)?;
        let rest = rest.strip_prefix(b"\n")?;
        if Digest::parse(std::str::from_utf8(digest).ok()?)? != Digest::of(rest) {
            return None;
        }
        let end = rest.iter().position(|b| *b == b'\n')?;
        let (aside, state) = rest.split_at_checked(end)?;
        let aside: Aside = json::parse_as(aside).ok()?;
        let began = aside.began.map(|(hash, _)| hash);
        if aside.program != PROGRAM || began != known.snapshot || aside.size > published?.1.size {
            return None;
        }
        let state = State::parse(state.strip_prefix(b"\n")?, store).ok()?;
        if state.log != origin || state.size != aside.size || known.pin != Some(state.id) {
            return None;
        }
        let (edge, bundle) = edge_at(store, aside.size).ok()?;
        if edge.root() != aside.root {
            return None;
        }
        Some(Self {
            state,
            base: Base::kept(edge, bundle),
            began: aside.began,
            void: aside.void.into_iter().map(Into::into).collect(),
            unlocked: aside.unlocked.into_iter().map(|(by, unlocked)| (by, unlocked.into())).collect(),
        })
    }
}

impl Fleet {
    /// How many entries were replayed when this was opened.
    pub fn replayed(&self) -> u64 {
        self.replay.size().saturating_sub(self.resumed)
    }

    /// What a home may keep, so that the next opening goes on from here; see [`Known::kept`]. Nothing where the newest head
    /// is not what is published.
    pub fn keep(&self) -> Option<Vec<u8>> {
        let (head, published) = (&self.head.as_ref()?.checkpoint, self.published.as_ref()?);
        let state = self.replay.state().filter(|s| s.size == head.size)?;
        if !published.is_signed || published.lacks().is_some() || published.checkpoint != *head {
            return None;
        }
        let aside = Aside {
            began: self.began,
            program: PROGRAM.to_owned(),
            root: head.root,
            size: head.size,
            unlocked: self.unlocked.iter().map(|(by, unlocked)| (*by, unlocked.into())).collect(),
            void: self.void.iter().map(Into::into).collect(),
        };
        let mut rest = json::to_canonical(&aside).into_bytes();
        rest.push(b'\n');
        rest.extend(state.to_bytes());
        let mut bytes = format!("{TITLE}{}\n", Digest::of(&rest)).into_bytes();
        bytes.extend(rest);
        Some(bytes)
    }
}
