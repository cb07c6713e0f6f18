//! Changing a fleet. Effects in order, and what a crash after each leaves:
//!
//! 1. attachments under `objects/` — unreferenced files, which the next writer removes.
//! 2. the commit (see `crate::store::append`) — the change has happened; whoever writes next finishes the rest.
//! 3. tiles, checkpoint — it is published; with cosigners it waits, and step 4 with it (see `published`).
//! 4. views: certificates, sealed files at their addresses — readers find the right bytes among the objects meanwhile.
//! 5. the proposals that were committed are removed — they would be refused as done.

use std::collections::BTreeMap;

use super::proposals::{Proposal, standing_of};
use super::views::MARK;
use super::{Fleet, FleetError, Signer, Standing};
use crate::digest::Digest;
use crate::disk::Created;
use crate::log::note::{SignerKey, VerifierKey};
use crate::name::MemberName;
use crate::state::{Verdict, Void};
use crate::statement::{Act, Entry, ObjectKind};
use crate::store::{object_path, pending, staged_path};
use crate::time::Time;

/// A change with its attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What.
    pub act: Act,
    /// Why; recorded.
    pub reason: String,
    /// What it refers to.
    pub objects: Vec<Vec<u8>>,
    /// The statement is dated at the present, but not before this: what it refers to may be dated a little ahead.
    pub not_before: Time,
    /// Who has to be among those who sign, and so signs first.
    pub author: Option<MemberName>,
    /// What it does, for people; not recorded.
    pub told: Vec<String>,
}

impl Draft {
    /// A change without attachments.
    pub fn bare(act: Act, reason: &str) -> Self {
        Self::with(act, reason, Vec::new())
    }

    /// A change with attachments.
    pub fn with(act: Act, reason: &str, objects: Vec<Vec<u8>>) -> Self {
        Self { act, reason: reason.to_owned(), objects, not_before: Time::default(), author: None, told: Vec::new() }
    }
}

/// The log's private key, on the machine of an authority, and the one that may follow it.
#[derive(Debug)]
pub struct Sequencer {
    key: SignerKey,
    next: Option<SignerKey>,
}

impl From<SignerKey> for Sequencer {
    fn from(key: SignerKey) -> Self {
        Self { key, next: None }
    }
}

impl std::ops::Deref for Sequencer {
    type Target = SignerKey;
    fn deref(&self) -> &SignerKey {
        &self.key
    }
}

impl Sequencer {
    /// With the standby of the same authority, which signs too in the entry by which it becomes the log's key.
    pub fn with_next(self, next: Option<SignerKey>) -> Self {
        Self { next, ..self }
    }

    /// Those of the keys that sign a head, `accepted` for it first: one before and one after the log's key has changed are
    /// both there, so that whoever knows only the old one can follow.
    pub(super) fn of_head(&self, accepted: &[VerifierKey]) -> Vec<&SignerKey> {
        let own = [Some(&self.key), self.next.as_ref()];
        let is_accepted = |key: &&SignerKey| accepted.contains(&key.verifier());
        if is_accepted(&&self.key) {
            return vec![&self.key];
        }
        let next = own.into_iter().flatten().find(is_accepted);
        next.map_or_else(Vec::new, |next| vec![next, &self.key])
    }
}

/// Where a change ended up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// In the log, in force.
    Logged {
        /// The statement's id.
        id: Digest,
        /// What became of it.
        verdict: Verdict,
    },
    /// Among the proposals, with all signatures it needs: whoever has the log's key takes it in with the next change.
    HandedIn {
        /// The statement's id.
        id: Digest,
    },
    /// Among the proposals, lacking signatures.
    Proposed {
        /// The statement's id.
        id: Digest,
        /// What it waits for.
        missing: String,
    },
}

/// What became of the proposals that were waiting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Absorbed {
    /// Those that were taken in.
    pub placed: Vec<Placed>,
    /// Those that will never have an effect, and why. They are gone.
    pub dropped: Vec<(Proposal, Void)>,
}

impl Fleet {
    /// Prepares for writing, under the lock: makes durable what an interrupted writer has left and finishes it, if this
    /// machine has the log's key, and makes the views right.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn prepare(&mut self, sequencer: Option<&Sequencer>) -> Result<(), FleetError> {
        if let Some(backup) = self.restored()? {
            return Err(FleetError::Restored { size: backup.size });
        }
        let clean = self.store.disk().mark(MARK)?;
        if !clean {
            self.store.disk().settle("")?;
        }
        if self.store.disk().has_lock() {
            // Who hands in a request leaves no mark.
            self.store.disk().remove_temporaries("proposals/requests")?;
        }
        let finished = sequencer.map(|key| self.catch_up(key)).transpose()?.flatten();
        if self.is_founded() && !clean {
            self.tidy()?;
        }
        // Whoever was interrupted is not always who wrote before us; and a pull may have brought any number of entries.
        match finished {
            _ if !self.is_founded() => {}
            _ if !clean => self.refresh_all_views()?,
            Some(from) => self.refresh_views(from)?,
            None => return Ok(()),
        }
        // Who was interrupted while publishing has left the views of what is published behind.
        if let Some(then) = self.then()? {
            if clean { then.refresh_views(0)? } else { then.refresh_all_views()? }
        }
        Ok(())
    }

    /// Cleans up after a change that was refused, so that nobody has to look for what it may have left. What this machine
    /// cannot clean up, or somebody still has to finish, the next writer looks after.
    pub fn give_up(&self) {
        let disk = self.store.disk();
        if !disk.has_lock() {
            return;
        }
        let finished = matches!(pending(&self.store, self.head.as_ref(), &self.commit_keys()), Ok(None));
        if finished && disk.settle("").is_ok() && self.tidy().is_ok() && self.refresh_views(0).is_ok() {
            self.done();
        }
    }

    /// Says that writing is over: without this the next writer looks for what this one may have left.
    pub fn done(&self) {
        self.store.disk().unmark(MARK);
    }

    /// Takes in every proposal that is complete, and removes those that are dead. Gives what was taken in; nothing where
    /// the clock is behind the log. The caller holds the lock and has called [`Fleet::prepare`].
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn absorb(&mut self, sequencer: &Sequencer) -> Result<Absorbed, FleetError> {
        let mut absorbed = Absorbed::default();
        if self.check_clock().is_err() {
            return Ok(absorbed);
        }
        self.drop_unreadable_proposals()?;
        loop {
            let before = self.replay.state().cloned();
            let mut entries = Vec::new();
            let (mut gone, mut dead) = (Vec::new(), Vec::new());
            let mut proposals = self.proposals()?;
            // What stops something comes before what it stops, however late it was made.
            proposals.sort_by_key(|p| precedence(&p.signed.statement.act));
            for proposal in proposals {
                if !self.may_write(sequencer, &proposal.signed.statement.act) {
                    continue;
                }
                match self.standing(&proposal)? {
                    Standing::Dead(void) if is_final(&void) => {
                        dead.push(proposal.signed.id);
                        absorbed.dropped.push((proposal, void));
                    }
                    Standing::Lacks(_) | Standing::Dead(_) => {}
                    Standing::Complete => {
                        let bytes = Entry { signed: proposal.signed.clone(), signatures: proposal.signatures.clone() }
                            .to_bytes()?;
                        entries.push((bytes.clone(), self.offer(&bytes)?));
                        gone.push(proposal.signed.id);
                        // With this the log's key may have left: what follows is for another authority.
                        if !self.is_log_key(sequencer) {
                            break;
                        }
                    }
                }
            }
            let progressed = !entries.is_empty() && self.is_log_key(sequencer);
            let verdicts = self.commit(before, entries, sequencer)?;
            let logged = gone.iter().zip(verdicts).map(|(id, verdict)| Placed::Logged { id: *id, verdict });
            absorbed.placed.extend(logged);
            gone.iter().try_for_each(|id| self.remove_proposal(id))?;
            dead.iter().try_for_each(|id| self.drop_proposal(id))?;
            // What was complete but waited for one of these comes in the next round.
            if !progressed {
                return Ok(absorbed);
            }
        }
    }

    /// Signs and places changes, in order. A change that would have no effect is refused, and with it all of them; one
    /// that lacks signatures becomes a proposal. The caller holds the lock and has called [`Fleet::prepare`].
    ///
    /// # Errors
    /// [`FleetError`]; nothing has then happened, unless it is [`FleetError::Unfinished`].
    pub fn change(
        &mut self,
        drafts: Vec<Draft>,
        signers: &mut [Signer],
        sequencer: Option<&Sequencer>,
    ) -> Result<Vec<Placed>, FleetError> {
        self.check_clock()?;
        let mut staged = Vec::new();
        let result = self.place(drafts, signers, sequencer, &mut staged);
        // Without a lock somebody else may be about to name the same bytes.
        if result.is_err() && self.store.disk().has_lock() {
            for path in staged {
                let _ = self.store.disk().remove(&path);
                self.store.disk().prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
            }
        }
        result
    }

    /// Writes a draft's attachments; adds the paths of those that were not there.
    fn stage(&self, draft: &Draft, staged: &mut Vec<String>) -> Result<(), FleetError> {
        let kinds: BTreeMap<Digest, ObjectKind> = draft.act.objects().into_iter().collect();
        for object in &draft.objects {
            let digest = Digest::of(object);
            let path = match kinds.get(&digest) {
                Some(ObjectKind::Sealed) => staged_path(&digest),
                _ => object_path(&digest),
            };
            if self.store.disk().create(&path, object)? == Created::New {
                staged.push(path);
            }
        }
        Ok(())
    }

    fn place(
        &mut self,
        drafts: Vec<Draft>,
        signers: &mut [Signer],
        sequencer: Option<&Sequencer>,
        staged: &mut Vec<String>,
    ) -> Result<Vec<Placed>, FleetError> {
        let before = self.replay.state().cloned();
        let mut placed = Vec::new();
        let mut entries = Vec::new();
        let mut proposals = Vec::new();
        for draft in drafts {
            self.stage(&draft, staged)?;
            let (entry, verdict) = self.sign(draft.act, draft.reason, draft.not_before, signers)?;
            let id = entry.signed.id;
            // With the draft before, the log's key may have left.
            let writes = |key: &&Sequencer| {
                if entries.is_empty() { self.may_write(key, &entry.signed.statement.act) } else { self.is_log_key(key) }
            };
            match (standing_of(&verdict), sequencer.filter(writes)) {
                (Standing::Dead(void), _) => return Err(FleetError::Refused(void)),
                (Standing::Complete, Some(_)) => {
                    let bytes = entry.to_bytes()?;
                    let verdict = self.offer(&bytes)?;
                    entries.push((bytes, verdict.clone()));
                    placed.push(Placed::Logged { id, verdict });
                }
                (Standing::Complete, None) => {
                    proposals.push(Proposal { signed: entry.signed, signatures: entry.signatures });
                    placed.push(Placed::HandedIn { id });
                }
                (Standing::Lacks(missing), _) => {
                    proposals.push(Proposal { signed: entry.signed, signatures: entry.signatures });
                    placed.push(Placed::Proposed { id, missing });
                }
            }
        }
        // From here on the attachments are referred to, also by a proposal that is written in part. If that fails, the next
        // writer tidies.
        staged.clear();
        for proposal in &proposals {
            self.write_proposal(proposal)?;
        }
        if let Some(key) = sequencer {
            let verdicts = self.commit(before, entries, key)?;
            let logged = placed
                .iter_mut()
                .filter_map(|p| if let Placed::Logged { verdict, .. } = p { Some(verdict) } else { None });
            logged.zip(verdicts).for_each(|(placed, logged)| *placed = logged);
        }
        Ok(placed)
    }

    /// Adds this machine's signatures to a proposal. Gives where it stands then; a complete one is logged if this machine
    /// has the log's key.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn approve(
        &mut self,
        proposal: &Proposal,
        signers: &mut [Signer],
        sequencer: Option<&Sequencer>,
    ) -> Result<Placed, FleetError> {
        self.check_clock()?;
        let id = proposal.signed.id;
        let (signed, standing) = self.countersign(proposal, signers)?;
        let writes = |key: &&Sequencer| self.may_write(key, &signed.signed.statement.act);
        match (standing, sequencer.filter(writes)) {
            (Standing::Dead(void), _) => Err(FleetError::Refused(void)),
            (Standing::Complete, Some(key)) => {
                let bytes = Entry { signed: signed.signed.clone(), signatures: signed.signatures }.to_bytes()?;
                let before = self.replay.state().cloned();
                let verdict = self.offer(&bytes)?;
                let verdict = self.commit(before, vec![(bytes, verdict.clone())], key)?.pop().unwrap_or(verdict);
                self.remove_proposal(&id)?;
                Ok(Placed::Logged { id, verdict })
            }
            (Standing::Complete, None) => {
                self.write_proposal(&signed)?;
                Ok(Placed::HandedIn { id })
            }
            (Standing::Lacks(missing), _) => {
                self.write_proposal(&signed)?;
                Ok(Placed::Proposed { id, missing })
            }
        }
    }

    /// Withdraws a proposal from the waiting ones.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn withdraw(&mut self, proposal: &Proposal) -> Result<(), FleetError> {
        self.drop_proposal(&proposal.signed.id)
    }
}

/// Objections come first, then emergencies.
fn precedence(act: &Act) -> u8 {
    match act {
        Act::Object(_) => 0,
        Act::Emergency(_) => 1,
        _ => 2,
    }
}

/// Whether a statement that is void for this reason will be void for ever: what it was made for has passed.
pub(super) fn is_final(void: &Void) -> bool {
    if let Void::Admission { admission, .. } = void {
        return !admission.may_change();
    }
    matches!(
        void,
        Void::Stale { .. }
            | Void::Done
            | Void::Objected(_)
            | Void::Patient { .. }
            | Void::Expired(_)
            | Void::Genesis
            | Void::NoRule { .. }
            | Void::Policy { .. }
            | Void::NameTaken(_)
            | Void::KeyReused { .. }
            | Void::Transition { .. }
    )
}
