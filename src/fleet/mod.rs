//! A fleet, opened: keyring read, log replayed, every signature and rule checked, ready for questions and changes.
//!
//! Reading needs no key and no lock. Changing goes one way: a [`Draft`] is signed, previewed, and then either
//! committed (its quorum is met, and this machine has the log's key) or left as a proposal. The caller holds the
//! keyring's lock from before it reads the state its draft is made from.

mod acks;
mod ahead;
mod apart;
mod arrive;
mod change;
mod commit;
mod commits;
mod emergency;
mod error;
mod evidence;
mod heads;
mod inspect;
mod kept;
mod open;
mod passed;
mod proposals;
mod published;
mod signing;
mod snapshot;
mod submitted;
mod tree;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::digest::Digest;
use crate::home::Pin;
use crate::limits::{CHECKPOINT_BYTES_MAX, FUTURE_SECONDS_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::note::VerifierKey;
use crate::name::{MemberName, Slot};
use crate::openpgp::Certificate;
use crate::state::{AppliedHere, Prepared, Replay, State, Unlocked, Verdict, Void};
use crate::statement::Act;
use crate::store::{Head, LogReader, RESTORED, Store, StoreError, read_checkpoint, read_newest};
use crate::time::{Span, Time};

#[cfg(feature = "net")]
pub(crate) use evidence::fork;

pub use acks::{AckProblem, ack_path};
pub use arrive::SealedHere;
pub use change::{Absorbed, Draft, Placed, Sequencer};
pub use error::FleetError;
pub use inspect::{Problem, Report, Severity};
pub use kept::{Going, Keep};
pub use proposals::{Proposal, Standing};
pub use published::{Published, View};
pub use signing::Signer;
pub use submitted::{Refusal, Taken};

/// What is known before a keyring is read.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The id of the fleet that is trusted; none accepts any, and the caller has to show its id.
    pub pin: Option<Digest>,
    /// The hash of a state that is trusted, from which the replay may begin: a snapshot.
    pub snapshot: Option<Digest>,
    /// What this machine has kept of its last replay ([`Fleet::keep`]). Where it does not serve, everything is replayed.
    pub kept: Option<Vec<u8>>,
    /// The newest checkpoint that was accepted before, as published.
    pub seen: Option<Vec<u8>>,
    /// The newest head that was accepted before it was published.
    pub seen_head: Option<Vec<u8>>,
    /// Emergencies that were applied on this machine, which count here before the log has them.
    pub applied: Vec<AppliedHere>,
    /// Of sealed files only those are here that one of these can read; none: all are.
    pub own: Option<BTreeSet<MemberName>>,
}

/// How far an opening has come: entries done, entries in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// An opened fleet.
pub struct Fleet {
    store: Store,
    replay: Replay<Store>,
    head: Option<Head>,
    published: Option<Published>,
    opened_at: View,
    /// The snapshot that was begun with, at any time, and how many entries were not replayed for it.
    began: Option<(Digest, u64)>,
    /// How many entries were not replayed when this was opened, for that or another reason.
    resumed: u64,
    log: String,
    now: Time,
    /// Verdicts with void parts, and the subjects of the newest entries, whose views may have to be made again.
    void: Vec<Verdict>,
    recent: views::Recent,
    /// Time locks that have ended, each with the entry by which it did.
    unlocked: Vec<(u64, Unlocked)>,
    /// The state at the present, where that is not what the newest entry left: a time lock has ended since.
    view: Option<State>,
}

impl Fleet {
    /// A fleet whose log has no entry yet, for its founding.
    pub fn empty(store: Store, log: String, now: Time) -> Self {
        let replay = Replay::new(log.clone(), store.clone());
        let recent = views::Recent::default();
        Self {
            store,
            replay,
            head: None,
            published: None,
            opened_at: View::Newest,
            began: None,
            resumed: 0,
            log,
            now,
            void: Vec::new(),
            recent,
            unlocked: Vec::new(),
            view: None,
        }
    }

    /// Takes one entry into the state.
    fn take(&mut self, mut prepared: Prepared) -> Result<Verdict, FleetError> {
        let entry = prepared.take_bytes();
        let verdict = self.replay.apply_prepared(prepared)?;
        if !verdict.is_whole() {
            self.void.push(verdict.clone());
        }
        self.note(&verdict, entry);
        Ok(verdict)
    }

    /// Takes one entry only if it has an effect.
    pub(super) fn offer(&mut self, entry: &[u8]) -> Result<Verdict, FleetError> {
        let verdict = self.replay.offer(entry)?;
        self.note(&verdict, entry.to_vec());
        self.look();
        Ok(verdict)
    }

    /// Remembers what an entry was about, for the views of it.
    fn note(&mut self, verdict: &Verdict, entry: Vec<u8>) {
        self.recent.note(verdict.index, entry, &verdict.unlocked);
        self.unlocked.extend(verdict.unlocked.iter().map(|u| (verdict.index, u.clone())));
    }

    /// Works out the state at the present.
    fn look(&mut self) {
        let now = self.now();
        self.view = self.replay.state_at(now);
    }

    /// The keys that may sign what is published now: the log key of every authority, also of one that has left with the
    /// newest entry, for somebody had to publish that. It publishes nothing after it.
    pub(super) fn log_keys(&self) -> Vec<VerifierKey> {
        self.replay.state().map(State::log_keys).unwrap_or_default()
    }

    /// Whether this is the log key of an authority that has not left.
    pub(super) fn is_log_key(&self, key: &Sequencer) -> bool {
        let own = key.verifier().to_string();
        let mut members = self.replay.state().into_iter().flat_map(|s| s.members.values());
        members.any(|m| m.is_active() && m.active(Slot::Log).is_some_and(|k| k.key == own))
    }

    /// Whether this key may write an entry with such an act as the next one: it is the log's key, is so by now (a time lock
    /// has ended), founds the log, or becomes the log's key with it.
    pub(super) fn may_write(&self, key: &Sequencer, act: &Act) -> bool {
        let own = key.verifier().to_string();
        let by_now =
            |s: &State| s.members.values().any(|m| m.is_active() && m.active(Slot::Log).is_some_and(|k| k.key == own));
        let becomes = matches!(act, Act::Rekey(change) if change.key == own);
        becomes || !self.is_founded() || self.is_log_key(key) || by_now(self.state())
    }

    /// The keys that may have signed a commit beyond the head: the log's keys, and the standbys that one of its entries may
    /// have put in their place.
    pub fn commit_keys(&self) -> Vec<VerifierKey> {
        self.replay.state().map(State::commit_keys).unwrap_or_default()
    }

    /// Every log key there ever was: for what was signed long ago.
    pub fn every_log_key(&self) -> Vec<VerifierKey> {
        let members = self.replay.state().into_iter().flat_map(|s| s.members.values());
        let keys = members.filter_map(|m| m.slot(Slot::Log)).flat_map(|s| &s.keys);
        keys.filter_map(|k| VerifierKey::parse(&k.key).ok()).collect()
    }

    /// Whether this machine's clock is behind what the log has seen: by how much nothing can be dated.
    ///
    /// # Errors
    /// [`FleetError::Future`], for whoever is about to change something. Reading goes on: judged by the log's time.
    pub fn check_clock(&self) -> Result<(), FleetError> {
        match self.replay.state() {
            Some(state) if state.time > self.now.plus(Span(FUTURE_SECONDS_MAX)) => {
                Err(FleetError::Future { claimed: state.time, now: self.now })
            }
            _ => match self.published.as_ref().and_then(Published::time) {
                Some(cosigned) if cosigned > self.now.plus(Span(FUTURE_SECONDS_MAX)) => {
                    Err(FleetError::Behind { cosigned, now: self.now })
                }
                _ => Ok(()),
            },
        }
    }

    /// The state.
    ///
    /// # Panics
    /// Before the founding; [`Fleet::open`] gives none such.
    pub fn state(&self) -> &State {
        self.view.as_ref().unwrap_or_else(|| self.logged_state())
    }

    /// The state as the newest entry left it: what views and checkpoints go by. A time lock that has ended since is not in
    /// it before there is another entry.
    ///
    /// # Panics
    /// Before the founding.
    pub fn logged_state(&self) -> &State {
        self.replay.state().expect("an opened fleet has been founded")
    }

    /// Time locks that have ended, each with the entry by which it did.
    pub fn unlocked(&self) -> &[(u64, Unlocked)] {
        &self.unlocked
    }

    /// Whether it has been founded.
    pub fn is_founded(&self) -> bool {
        self.replay.state().is_some()
    }

    /// The checkpoint of the backup that this keyring came out of, until that is confirmed.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn restored(&self) -> Result<Option<Checkpoint>, FleetError> {
        let Some(bytes) = self.store.read(RESTORED, CHECKPOINT_BYTES_MAX)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let damaged = || StoreError::Damaged { path: RESTORED.to_owned(), problem: "it is no checkpoint".to_owned() };
        Ok(Some(Checkpoint::parse(&text).ok_or_else(damaged)?))
    }

    /// The root of the first `size` entries; `None` if there are not so many.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn root_at(&self, size: u64) -> Result<Option<Digest>, FleetError> {
        if self.head.as_ref().is_none_or(|h| h.checkpoint.size < size) {
            return Ok(None);
        }
        let mut reader = LogReader::new(&self.store, size);
        while reader.next_bundle()?.is_some() {}
        Ok(Some(reader.edge().root()))
    }

    /// The present: the clock, but never before what the log has seen. Whatever is made now is dated so.
    pub fn now(&self) -> Time {
        self.replay.state().map_or(self.now, |s| s.time.max(self.now))
    }

    /// Whether the keyring shows another log by now than the one that was read.
    pub fn has_moved_on(&self) -> bool {
        let read = self.head.as_ref().map(|h| h.checkpoint.size);
        let there = match self.opened_at {
            View::Newest => read_newest(&self.store).map(|(_, head)| head),
            View::Published | View::At(_) => read_checkpoint(&self.store),
        };
        there.ok().map(|(_, checkpoint)| checkpoint.size) != read
    }

    /// Goes on at a later time: for whoever keeps a fleet open.
    pub fn set_now(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.look();
    }

    /// The keyring.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The log's name.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// The head that was replayed to; none before the founding.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// What identifies this fleet.
    pub fn pin(&self) -> Pin {
        let state = self.state();
        Pin { fleet: state.fleet.clone(), id: state.id, log: self.log.clone() }
    }

    /// Entries that are void, wholly or in part.
    pub fn void(&self) -> &[Verdict] {
        &self.void
    }

    /// The certificate of a member, as of now.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn certificate(&mut self, member: &MemberName) -> Result<Arc<Certificate>, FleetError> {
        let now = self.now();
        Ok(self.replay.at(now, |replay| replay.current_certificate(member))?)
    }

    /// The version of a certificate that has this signing subkey, whosever it was; `None` if nobody's.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn signing_certificate(&mut self, key: &str) -> Result<Option<Arc<Certificate>>, FleetError> {
        Ok(self.replay.signing_certificate(key)?)
    }

    /// Checks that enough operators vouch for a member now, and that its certificate is alive.
    ///
    /// # Errors
    /// [`Void`], saying why not.
    pub fn check_vouched(&mut self, member: &MemberName) -> Result<(), Void> {
        let now = self.now();
        self.replay.at(now, |replay| replay.check_vouched(member, now))
    }

    /// How many operators vouch for each member that needs it, and how many have to.
    pub fn trust(&mut self) -> BTreeMap<MemberName, Result<(), Void>> {
        let names: BTreeSet<MemberName> =
            self.state().members.iter().filter(|(_, m)| m.is_active()).map(|(n, _)| n.clone()).collect();
        names.into_iter().map(|name| (name.clone(), self.check_vouched(&name))).collect()
    }
}
