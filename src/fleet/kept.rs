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
//!
//! A verification keeps the same of itself, under another name, until it comes to its end, and what it has found out about
//! snapshots besides ([`Going`]).

use std::collections::{BTreeMap, BTreeSet};

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
    program: String,
    root: Digest,
    size: u64,
    unlocked: Vec<(u64, KeptUnlocked)>,
    void: Vec<KeptVerdict>,
}

/// What a verification has found out about snapshots: the hashes of the states at their sizes, and who signed those that
/// are not void.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compared {
    pub signers: BTreeMap<u64, BTreeSet<MemberName>>,
    pub states: BTreeMap<u64, Digest>,
}

/// Where a verification goes on, and where it keeps how far it has come.
pub struct Going<'a> {
    /// What an earlier one has kept that did not come to its end.
    pub left: Option<Vec<u8>>,
    /// Called now and then with what makes that which is to be kept.
    pub keep: Keep<'a>,
}

/// What is to be kept, where it can be made: it costs something, and is not wanted each time.
type Make<'a> = &'a dyn Fn() -> Option<Vec<u8>>;
/// Keeps, where it is time to, what it is given the making of.
pub type Keep<'a> = &'a mut dyn FnMut(Make<'_>);

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
    pub compared: Option<Compared>,
}

impl Kept {
    /// Reads what a home has kept; `None` if it cannot be gone on from, for whatever reason.
    pub(super) fn read(store: &Store, known: &Known, origin: &str, published: Option<&SignedHead>) -> Option<Self> {
        let kept = Self::parse(known.kept.as_deref()?, store, known, origin, published?.1.size)?;
        (kept.compared.is_none() && kept.began.map(|(hash, _)| hash) == known.snapshot).then_some(kept)
    }

    /// Reads what a verification has kept that did not come to its end, of a log that has at least `size` entries now.
    pub(super) fn left(bytes: &[u8], store: &Store, known: &Known, origin: &str, size: u64) -> Option<Self> {
        Self::parse(bytes, store, known, origin, size).filter(|kept| kept.compared.is_some() && kept.began.is_none())
    }

    fn parse(bytes: &[u8], store: &Store, known: &Known, origin: &str, size: u64) -> Option<Self> {
        let rest = bytes.strip_prefix(TITLE.as_bytes())?;
        let (digest, rest) = rest.split_at_checked(64)?;
        let rest = rest.strip_prefix(b"\n")?;
        if Digest::parse(std::str::from_utf8(digest).ok()?)? != Digest::of(rest) {
            return None;
        }
        let end = rest.iter().position(|b| *b == b'\n')?;
        let (aside, state) = rest.split_at_checked(end)?;
        let aside: Aside = json::parse_as(aside).ok()?;
        if aside.program != PROGRAM || aside.size > size {
            return None;
        }
        // By this program, and as it was: see the digest above.
        let state = State::parse_own(state.strip_prefix(b"\n")?, store).ok()?;
        if state.log != origin || state.size != aside.size || known.pin != Some(state.id) {
            return None;
        }
        let (edge, bundle) = edge_at(store, aside.size, size).ok()?;
        if edge.root() != aside.root {
            return None;
        }
        Some(Self {
            state,
            base: Base::kept(edge, bundle),
            began: aside.began,
            void: aside.void.into_iter().map(Into::into).collect(),
            unlocked: aside.unlocked.into_iter().map(|(by, unlocked)| (by, unlocked.into())).collect(),
            compared: aside.compared,
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
        Some(written(state, head.root, self.began, None, &self.void, &self.unlocked))
    }
}

/// What is kept, as bytes.
pub(super) fn written(
    state: &State,
    root: Digest,
    began: Option<(Digest, u64)>,
    compared: Option<Compared>,
    void: &[Verdict],
    unlocked: &[(u64, Unlocked)],
) -> Vec<u8> {
    let aside = Aside {
        began,
        compared,
        program: PROGRAM.to_owned(),
        root,
        size: state.size,
        unlocked: unlocked.iter().map(|(by, unlocked)| (*by, unlocked.into())).collect(),
        void: void.iter().map(Into::into).collect(),
    };
    // Once only: a state may be large.
    let title = |digest: Digest| format!("{TITLE}{digest}\n").into_bytes();
    let mut bytes = title(Digest::of(b""));
    let begin = bytes.len();
    json::append_canonical(&mut bytes, &aside);
    bytes.push(b'\n');
    state.append_to(&mut bytes);
    let digest = Digest::of(&bytes[begin..]);
    bytes[..begin].copy_from_slice(&title(digest));
    bytes
}
