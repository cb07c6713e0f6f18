//! Opening: the heads are read, the log is replayed up to the newest, and what was seen before is compared. It begins with
//! the first entry, with a snapshot that is trusted, or with what was kept of an earlier replay.

use std::collections::{BTreeMap, BTreeSet};

use super::ahead::Ahead;
use super::kept::Kept;
use super::published::Heads;
use super::snapshot::brings;
use super::{Fleet, FleetError, Known, Progress, View};
use crate::digest::Digest;
use crate::log::merkle;
use crate::state::Watch;
use crate::store::{LogReader, Store, StoreError};
use crate::time::Time;

impl Fleet {
    /// Opens the fleet of a keyring: reads the checkpoint, replays all entries it commits to, or those after the snapshot
    /// that is trusted, and checks that they hash to its root, that the log's key signed it, that it is the pinned fleet and
    /// that it has only grown.
    ///
    /// `now` is the clock; it only ever bounds the future. What the log says is judged by the log's own time.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn open(store: Store, known: &Known, now: Time, progress: Progress<'_>) -> Result<Self, FleetError> {
        Self::open_view(store, known, now, progress, View::Newest)
    }

    /// The same at the head of the caller's choice. Opened as published it has to have its cosigners.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn open_view(
        store: Store,
        known: &Known,
        now: Time,
        progress: Progress<'_>,
        view: View,
    ) -> Result<Self, FleetError> {
        let strict = matches!(view, View::Published);
        let fleet = Self::opened(store, known, now, progress, view)?;
        match fleet.published.as_ref().filter(|_| strict).and_then(|p| Some((p.lacks()?, p.checkpoint.size))) {
            Some((missing, size)) => Err(FleetError::Unpublished { missing, size }),
            None => Ok(fleet),
        }
    }

    /// The same, always from the first entry, with somebody looking on.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn open_watched(
        store: Store,
        known: &Known,
        now: Time,
        progress: Progress<'_>,
        watch: Option<&mut dyn Watch>,
    ) -> Result<Self, FleetError> {
        Self::replayed_from(store, known, now, progress, watch, View::Newest, None)
    }

    /// Goes on from what was kept, if it serves.
    fn opened(store: Store, known: &Known, now: Time, progress: Progress<'_>, view: View) -> Result<Self, FleetError> {
        if known.kept.is_some()
            && !matches!(view, View::At(_))
            && let Ok(fleet) = Self::replayed_from(store.clone(), known, now, progress, None, view.clone(), None)
        {
            return Ok(fleet);
        }
        let known = Known { kept: None, ..known.clone() };
        Self::replayed_from(store, &known, now, progress, None, view, None)
    }

    /// Replays, with somebody looking on from the first entry or from where what is `left` came to.
    pub(super) fn replayed_from(
        store: Store,
        known: &Known,
        now: Time,
        progress: Progress<'_>,
        mut watch: Option<&mut dyn Watch>,
        view: View,
        left: Option<Kept>,
    ) -> Result<Self, FleetError> {
        let heads = Heads::read(&store, view.clone())?;
        let seen = heads.seen(known, &view)?;
        let Heads { head: (note, checkpoint), published } = heads;
        let mut fleet = Self::empty(store, checkpoint.origin.clone(), now);
        fleet.opened_at = view;
        let store = fleet.store.clone();
        let mut base = match left {
            Some(left) => Some(fleet.begin_kept(left, published.as_ref())),
            None if watch.is_none() => fleet.begin(known, published.as_ref())?,
            None => None,
        };
        let mut reader = match &base {
            Some(base) => LogReader::after(&store, base.edge.clone(), base.bundle.clone(), checkpoint.size),
            None => LogReader::new(&store, checkpoint.size),
        };
        // The roots at the sizes that were seen, and at the one that is published.
        let marked: BTreeSet<u64> = seen.iter().map(|s| s.size).chain(published.iter().map(|(_, p)| p.size)).collect();
        let mut roots: BTreeMap<u64, Digest> = BTreeMap::new();
        for (base, size) in
            base.iter().flat_map(|base| marked.range(..=base.edge.size()).map(move |size| (base, *size)))
        {
            roots.insert(size, base.root_before(&store, size)?);
        }
        let mut read = || {
            let mut edge = reader.edge().clone();
            let Some((first, entries)) = reader.next_bundle()? else { return Ok(None) };
            if marked.range(first..=first + entries.len() as u64).next().is_some() {
                for entry in &entries {
                    edge.push(merkle::leaf(entry));
                    if marked.contains(&edge.size()) {
                        roots.insert(edge.size(), edge.root());
                    }
                }
            }
            Ok(Some(entries))
        };
        std::thread::scope(|scope| {
            let mut ahead =
                Ahead::start(scope, &checkpoint.origin, checkpoint.size.saturating_sub(fleet.replay.size()));
            while let Some(entries) = ahead.next(&fleet.replay.certificates_met(), &mut read)? {
                for prepared in entries {
                    if let Some(watch) = watch.as_deref_mut() {
                        watch.before(fleet.replay.state(), &prepared);
                    }
                    let said = base.as_ref().and_then(|_| brings(prepared.bytes()));
                    let verdict = fleet.take(prepared)?;
                    base.iter_mut().zip(said).for_each(|(base, said)| base.look(&said, &verdict));
                    if let (Some(watch), Some(state)) = (watch.as_deref_mut(), fleet.replay.state()) {
                        watch.after(&verdict, state);
                    }
                    if let Some(own) = published.as_ref().filter(|(_, p)| p.size == fleet.replay.size()) {
                        fleet.published = Some(fleet.judge(own));
                    }
                }
                progress(fleet.replay.size(), checkpoint.size);
            }
            Ok::<(), FleetError>(())
        })?;
        if let Some(forked) = seen.iter().find(|s| roots.get(&s.size).is_some_and(|root| *root != s.root)) {
            return Err(FleetError::Fork { size: forked.size });
        }
        if let Some(found) =
            fleet.published.as_ref().filter(|p| roots.get(&p.checkpoint.size) != Some(&p.checkpoint.root))
            && found.checkpoint.size < checkpoint.size
        {
            let size = found.checkpoint.size;
            return Err(if found.is_signed { FleetError::Split { size } } else { FleetError::Unsigned });
        }
        fleet.head = Some(reader.finish(note, checkpoint)?);
        if !fleet.is_founded() {
            let problem = "it shows a log without entries".to_owned();
            return Err(StoreError::Damaged { path: "log/checkpoint".to_owned(), problem }.into());
        }
        fleet.check(known)?;
        base.iter().try_for_each(|base| base.check(fleet.published().map(|p| &p.checkpoint)))?;
        fleet.replay.set_applied(known.applied.clone());
        fleet.look();
        Ok(fleet)
    }

    /// Whether it is the pinned fleet, and its head signed with a key that it has.
    pub(super) fn check(&self, known: &Known) -> Result<(), FleetError> {
        let (Some(state), Some(head)) = (self.replay.state(), &self.head) else { return Ok(()) };
        if let Some(pinned) = known.pin.filter(|pin| *pin != state.id) {
            return Err(FleetError::Pin { found: state.id, pinned });
        }
        if !self.log_keys().iter().any(|key| head.note.is_signed_by(key)) {
            return Err(FleetError::Unsigned);
        }
        Ok(())
    }
}
