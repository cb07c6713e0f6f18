//! Snapshots: checked by whoever signs one, compared by every verification, and started from by who is given its hash.
//!
//! Who starts from a snapshot trusts the hash, as she trusts the fleet's id: it fixes members, keys and policy. From there
//! on she checks everything by herself, and besides that the hash is on record: an entry of the published log says it, with
//! the quorum of the policy in force, and names the root that the tree has at that size. So a false hash that was given to
//! one machine would have to be a false entry in everybody's log, which every verification from the first entry names.

use std::collections::{BTreeMap, BTreeSet};

use super::inspect::Report;
use super::kept::{Compared, Keep, Kept, written};
use super::views::Recent;
use super::{Fleet, FleetError, Known};
use crate::digest::Digest;
use crate::limits::STATE_BYTES_MAX;
use crate::log::checkpoint::Checkpoint;
use crate::log::merkle;
use crate::log::tile::{Edge, TILE_WIDTH};
use crate::state::{ObjectError, Prepared, Replay, State, Unlocked, Verdict, Void, Watch};
use crate::statement::{Act, Entry, ObjectKind, Snapshot};
use crate::store::{LogReader, SignedHead, Store, StoreError, consistency_proof, edge_at, root_at};

/// What the entry of a snapshot begins with: its fields are in order, and this is the first.
const BEGINNING: &[u8] = b"{\"act\":\"snapshot\",";

/// The snapshot that an entry brings, if it is one.
pub(super) fn brings(entry: &[u8]) -> Option<Snapshot> {
    let entry = entry.starts_with(BEGINNING).then(|| Entry::parse(entry).ok()).flatten()?;
    match entry.signed.statement.act {
        Act::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    }
}

/// Where a replay begins that does not begin with the first entry, beside its state: the tree's edge there.
pub(super) struct Base {
    pub edge: Edge,
    pub bundle: Vec<Vec<u8>>,
    /// The hash that has to be on record, and the entry by which it is, or why what was found is no such entry.
    record: Option<(Digest, Option<Result<u64, String>>)>,
}

fn refused(hash: &Digest, problem: impl ToString) -> FleetError {
    FleetError::Snapshot { state: *hash, problem: crate::text::shown(&problem.to_string()).to_string() }
}

impl Base {
    /// Where this home has been before.
    pub(super) fn kept(edge: Edge, bundle: Vec<Vec<u8>>) -> Self {
        Self { edge, bundle, record: None }
    }

    /// The state with this hash, from among the keyring's objects.
    pub(super) fn of_snapshot(
        store: &Store,
        hash: Digest,
        origin: &str,
        published: Option<&SignedHead>,
    ) -> Result<(Self, State), FleetError> {
        let bytes = store.object_within(&hash, STATE_BYTES_MAX).map_err(|e| match e {
            ObjectError::Missing(_) => refused(&hash, "the keyring has no such state"),
            ObjectError::Changed(_) => refused(&hash, "the state in the keyring was changed"),
            ObjectError::Unreadable(..) => FleetError::Object(e),
        })?;
        let state = State::parse(&bytes, store).map_err(|e| refused(&hash, e))?;
        if state.log != origin {
            return Err(refused(&hash, format!("it is of the log {}", state.log)));
        }
        let there = published.map_or(0, |(_, checkpoint)| checkpoint.size);
        if state.size >= there {
            return Err(refused(&hash, format!("it is of {} entries, and {there} are published", state.size)));
        }
        let (edge, bundle) = edge_at(store, state.size, there)?;
        Ok((Self { edge, bundle, record: Some((hash, None)) }, state))
    }

    /// Looks whether what an entry says, which has just been taken, has this snapshot on record.
    pub(super) fn look(&mut self, said: &Snapshot, verdict: &Verdict) {
        let Some((hash, record)) = &mut self.record else { return };
        if said.state != *hash || matches!(record, Some(Ok(_))) {
            return;
        }
        let index = verdict.index;
        let void = verdict.void.first().map(|(_, void)| format!("entry {index} says it, and is void: {void}"));
        let other = |what| format!("entry {index} says it with another {what} than the log has");
        *record = Some(match void {
            Some(problem) => Err(problem),
            None if said.size != self.edge.size() => Err(other("size")),
            None if said.root != self.edge.root() => Err(other("root")),
            None => Ok(index),
        });
    }

    /// Refuses if no entry of the published log has it on record.
    pub(super) fn check(&self, published: Option<&Checkpoint>) -> Result<(), FleetError> {
        let Some((hash, record)) = &self.record else { return Ok(()) };
        let there = published.map_or(0, |p| p.size);
        match record {
            Some(Ok(index)) if *index < there => Ok(()),
            Some(Ok(index)) => Err(refused(hash, format!("entry {index}, which says it, is not published yet"))),
            Some(Err(problem)) => Err(refused(hash, problem)),
            None => Err(refused(hash, "no entry of the log says it")),
        }
    }

    /// The root of the tree at a smaller size, from the tiles, proven against the tree at this one.
    pub(super) fn root_before(&self, store: &Store, size: u64) -> Result<Digest, FleetError> {
        let own = self.edge.size();
        let root = root_at(store, size, own)?;
        let proof = consistency_proof(store, size, own)?;
        if merkle::verify_consistency(size, &root, own, &self.edge.root(), &proof) {
            return Ok(root);
        }
        let problem = "its hashes contradict each other; 'keys log verify' names the file".to_owned();
        Err(StoreError::Damaged { path: "log/tile".to_owned(), problem }.into())
    }
}

impl Fleet {
    /// How many entries this machine never replayed: those before the snapshot with which it began.
    pub fn began(&self) -> u64 {
        self.began.map_or(0, |(_, size)| size)
    }

    /// Begins where something known lets it: with what the home has kept, or with a snapshot; `None` if with the first entry.
    pub(super) fn begin(&mut self, known: &Known, published: Option<&SignedHead>) -> Result<Option<Base>, FleetError> {
        let store = self.store.clone();
        if known.kept.is_some() {
            let kept = Kept::read(&store, known, &self.log, published).ok_or(FleetError::Useless)?;
            return Ok(Some(self.begin_kept(kept, published)));
        }
        let Some(hash) = known.snapshot else { return Ok(None) };
        let (base, state) = Base::of_snapshot(&store, hash, &self.log, published)?;
        self.began = Some((hash, state.size));
        self.begin_at(state, published);
        Ok(Some(base))
    }

    /// Begins with what was kept.
    pub(super) fn begin_kept(&mut self, kept: Kept, published: Option<&SignedHead>) -> Base {
        (self.began, self.void, self.unlocked) = (kept.began, kept.void, kept.unlocked);
        self.begin_at(kept.state, published);
        kept.base
    }

    fn begin_at(&mut self, state: State, published: Option<&SignedHead>) {
        self.resumed = state.size;
        self.recent = Recent::after(state.size);
        self.replay = Replay::resume(state, self.store.clone());
        if let Some(own) = published.filter(|(_, p)| p.size == self.resumed) {
            self.published = Some(self.judge(own));
        }
    }

    /// What a statement says about the log's past has to be what this machine finds there, or it is not signed.
    pub(super) fn check_past(&self, act: &Act) -> Result<(), FleetError> {
        let Act::Snapshot(said) = act else { return Ok(()) };
        let bad = |problem: String| FleetError::Refused(Void::Snapshot { size: said.size, problem });
        let Some((root, state)) = self.past(said.size)? else {
            return Err(bad("there are not so many".to_owned()));
        };
        if root != said.root {
            return Err(bad(format!("it says the root {}, and here it is {root}", said.root)));
        }
        if state != said.state {
            return Err(bad(format!("it says the state {}, and replaying gives {state}", said.state)));
        }
        Ok(())
    }

    /// The root of the first `size` entries, and the hash of the state that replaying them from the first one gives.
    fn past(&self, size: u64) -> Result<Option<(Digest, Digest)>, FleetError> {
        let Some(head) = self.head.as_ref().filter(|h| (1..=h.checkpoint.size).contains(&size)) else {
            return Ok(None);
        };
        if self.resumed == 0 && self.replay.size() == size && head.checkpoint.size == size {
            return Ok(Some((head.checkpoint.root, self.logged_state().digest())));
        }
        let mut replay = Replay::new(self.log.clone(), self.store.clone());
        let mut reader = LogReader::new(&self.store, head.checkpoint.size);
        let (mut edge, mut found) = (Edge::default(), None);
        while let Some((_, entries)) = reader.next_bundle()? {
            for entry in entries.iter().take(usize::try_from(size - edge.size()).unwrap_or(usize::MAX)) {
                replay.apply(entry)?;
                edge.push(merkle::leaf(entry));
                if edge.size() == size {
                    found = replay.state().map(|state| (edge.root(), state.digest()));
                }
            }
        }
        // What was folded is what the head stands for.
        reader.finish(head.note.clone(), head.checkpoint.clone())?;
        Ok(found)
    }
}

/// What the snapshots of a log say, compared with what replaying it gives; and what its entries refer to, since it sees
/// them all.
pub(super) struct Comparison<'a> {
    store: &'a Store,
    said: BTreeMap<u64, Snapshot>,
    sizes: BTreeSet<u64>,
    found: Compared,
    /// What the entries refer to.
    pub objects: BTreeSet<(Digest, ObjectKind)>,
    /// What has become of the entries so far, for whoever goes on if this is interrupted.
    void: Vec<Verdict>,
    unlocked: Vec<(u64, Unlocked)>,
    keep: Option<Keep<'a>>,
}

impl<'a> Comparison<'a> {
    /// Of the snapshots that the entries say. It goes on where `left` came to.
    pub(super) fn of(
        store: &'a Store,
        said: BTreeMap<u64, Snapshot>,
        left: Option<&Kept>,
        keep: Option<Keep<'a>>,
    ) -> Result<Self, FleetError> {
        let mut objects = BTreeSet::new();
        // What it will not see any more.
        let mut reader = LogReader::new(store, left.map_or(0, |left| left.state.size));
        while let Some((_, entries)) = reader.next_bundle()? {
            for entry in entries {
                objects.extend(Entry::parse(&entry).into_iter().flat_map(|e| e.signed.statement.act.objects()));
            }
        }
        let sizes = said.values().map(|s| s.size).collect();
        let found = left.and_then(|left| left.compared.clone()).unwrap_or_default();
        let (void, unlocked) = left.map(|left| (left.void.clone(), left.unlocked.clone())).unwrap_or_default();
        Ok(Self { store, said, sizes, found, objects, void, unlocked, keep })
    }

    /// Names every snapshot that is not what the log comes to.
    pub(super) fn report(&self, store: &Store, size: u64, report: &mut Report) -> Result<(), FleetError> {
        for (index, signers) in &self.found.signers {
            let Some(said) = self.said.get(index) else { continue };
            let names = signers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let says = format!("entry {index}, signed by {names}, is a false snapshot of {} entries", said.size);
            let root = root_at(store, said.size, size)?;
            if root != said.root {
                report.damage("log/", format!("{says}: it says the root {}, and it is {root}", said.root));
            }
            match self.found.states.get(&said.size) {
                Some(state) if *state == said.state => {}
                Some(state) => {
                    report.damage("log/", format!("{says}: it says the state {}, and it is {state}", said.state));
                }
                None => report.damage("log/", format!("{says}: there was no state then")),
            }
        }
        Ok(())
    }
}

impl Watch for Comparison<'_> {
    fn before(&mut self, _: Option<&State>, entry: &Prepared) {
        self.objects.extend(entry.entry().into_iter().flat_map(|e| e.signed.statement.act.objects()));
    }

    fn after(&mut self, verdict: &Verdict, state: &State) {
        if self.sizes.contains(&state.size) {
            self.found.states.insert(state.size, state.digest());
        }
        if verdict.applied > 0 && self.said.contains_key(&verdict.index) {
            self.found.signers.insert(verdict.index, verdict.signers.clone());
        }
        let Some(keep) = &mut self.keep else { return };
        if !verdict.is_whole() {
            self.void.push(verdict.clone());
        }
        self.unlocked.extend(verdict.unlocked.iter().map(|u| (verdict.index, u.clone())));
        // Here the tree's edge is full tiles, which stay.
        if state.size.is_multiple_of(TILE_WIDTH) {
            let (found, void, unlocked) = (&self.found, &self.void, &self.unlocked);
            let root = || edge_at(self.store, state.size, state.size).ok().map(|(edge, _)| edge.root());
            keep(&|| Some(written(state, root()?, None, Some(found.clone()), void, unlocked)));
        }
    }
}
