//! Taking what others hand in: a request waits to be approved, a statement and its signatures wait among the proposals.
//! Nothing is taken that the policy would never take: what is for another log, what no member has signed, what would have no
//! effect. How much may wait is bounded, so whoever can hand in cannot fill a disk.

use std::collections::BTreeMap;

use super::acks::AckProblem;
use super::change::is_final;
use super::proposals::{Proposal, Standing};
use super::views::MARK;
use super::{Fleet, FleetError};
use crate::digest::Digest;
use crate::disk::{Disk, EntryKind};
use crate::limits::{
    PROPOSAL_LINES_MAX, PROPOSALS_OF_ONE_MAX, REQUESTS_WAITING_BYTES_MAX, REQUESTS_WAITING_MAX, STATE_BYTES_MAX,
};
use crate::log::note::SignatureLine;
use crate::name::MemberName;
use crate::state::{Admission, Agreed, Asked, Void};
use crate::statement::{Entry, Handed, ObjectKind, Request, Submission, principal};
use crate::store::{Store, object_path, request_path, staged_path};

/// Why something was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is for another log.
    #[error("it is for the log '{0}', which is not this one")]
    OtherLog(String),
    /// Its author has not signed it, or is no member.
    #[error("its author {0} has not signed it with a key that is a member's here")]
    Unsigned(MemberName),
    /// A signature that counts for nothing.
    #[error("the signature of {0} is not one that counts: not a member's, not by its key, or not over this")]
    Signature(String),
    /// It could have no effect.
    #[error("it can have no effect: {0}")]
    Dead(Void),
    /// Something that it refers to is neither here nor with it.
    #[error("it refers to {0}, which is neither here nor with it")]
    Missing(String),
    /// Something is with it that it does not refer to.
    #[error("an object of {0} bytes is with it, to which it does not refer")]
    Stray(usize),
    /// A sealed file is not what the statement says.
    #[error("a sealed file or exchange is not what it says of it")]
    OtherSealed,
    /// The request asks for nothing that can be granted.
    #[error("the request cannot be granted: {0}")]
    Request(String),
    /// It asks by an invitation by which somebody has joined: by the same token, or with the same keys.
    #[error("the request cannot be granted ({0}): {1}")]
    Invited(Admission, String),
    /// An acknowledgement that counts for nothing.
    #[error("the acknowledgement counts for nothing: {0}")]
    Ack(AckProblem),
    /// Too much waits.
    #[error("{what}: at most {max} wait at one time")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many may wait.
        max: usize,
    },
    /// It could not be found out.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl From<crate::disk::DiskError> for Refusal {
    fn from(e: crate::disk::DiskError) -> Self {
        Self::Fleet(e.into())
    }
}

/// What became of something that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It waits now.
    New,
    /// It waited already, or is in the log.
    Known,
}

impl Fleet {
    /// Adds files of proposals and requests to a keyring, in this order, as somebody else who keeps it has them. The caller holds
    /// the lock. What they are worth is judged by whoever reads them.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn add_waiting(keyring: &Store, files: &[(String, Vec<u8>)]) -> Result<(), FleetError> {
        let disk = keyring.disk();
        let clean = disk.mark(MARK)?;
        for (path, bytes) in files {
            disk.create(path, bytes)?;
        }
        if clean {
            disk.unmark(MARK);
        }
        Ok(())
    }

    /// Takes away proposals that can never have an effect any more, the log having them among others, and requests that were
    /// granted. Gives the proposals that will never be in the log, and why. The caller holds the lock.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn forget_settled(&mut self) -> Result<Vec<(Digest, Void)>, FleetError> {
        let mut dropped = Vec::new();
        for proposal in self.proposals()? {
            if let Standing::Dead(void) = self.standing(&proposal)?
                && is_final(&void)
            {
                self.drop_proposal(&proposal.signed.id)?;
                dropped.extend((void != Void::Done).then_some((proposal.signed.id, void)));
            }
        }
        for (name, _) in self.store.disk().list("proposals/requests")? {
            let granted = |digest: Digest| self.state().members.values().any(|m| m.request == digest);
            if name.strip_suffix(".request").and_then(Digest::parse).is_some_and(granted) {
                self.store.disk().remove(&format!("proposals/requests/{name}"))?;
                self.store.disk().prune("proposals/requests");
            }
        }
        Ok(dropped)
    }

    /// Takes what was handed in. The fleet was opened over `keyring` with the empty disk `aside` on top, on which what is with
    /// it is looked at before any of it comes into the keyring. The caller holds the keyring's lock.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing was taken.
    pub fn take_submission(
        &mut self,
        submission: &Submission,
        aside: &Disk,
        keyring: &Store,
    ) -> Result<Taken, Refusal> {
        let result = match &submission.handed {
            Handed::Entry(entry) => self.take_entry(entry, &submission.objects, aside, keyring),
            Handed::Request(request, bytes) => match submission.objects.first() {
                Some(object) => Err(Refusal::Stray(object.len())),
                None => self.take_request(request, bytes, aside, keyring),
            },
        };
        for (path, _) in aside.walk("")? {
            aside.remove(&path)?;
        }
        result
    }

    fn take_entry(
        &mut self,
        entry: &Entry,
        objects: &[Vec<u8>],
        aside: &Disk,
        keyring: &Store,
    ) -> Result<Taken, Refusal> {
        let (signed, statement) = (&entry.signed, &entry.signed.statement);
        if statement.log != self.log() {
            return Err(Refusal::OtherLog(crate::text::shown(&statement.log).to_string()));
        }
        let paths = self.lay_aside(entry, objects, aside)?;
        let there = self.statement(&signed.id)?.is_some();
        let mut lines = if there { self.lines(&signed.id)? } else { Vec::new() };
        let before = lines.len();
        lines.extend(entry.signatures.iter().filter(|line| !lines.contains(line)).cloned().collect::<Vec<_>>());
        let new = lines.len() - before;
        let countable = self.countable_lines(entry, &lines)?;
        let author = principal(&self.state().fleet, &statement.by);
        if !countable.iter().any(|line| line.name == author) {
            return Err(Refusal::Unsigned(statement.by.clone()));
        }
        let proposal = Proposal { signed: signed.clone(), signatures: countable };
        match self.standing(&proposal)? {
            Standing::Dead(Void::Done) => return Ok(Taken::Known),
            Standing::Dead(void) => return Err(Refusal::Dead(void)),
            Standing::Lacks(_) | Standing::Complete => {}
        }
        self.check_attached(entry)?;
        if there && new == 0 {
            return Ok(Taken::Known);
        }
        if !there {
            let own = self.statements()?.iter().filter(|s| s.statement.by == statement.by).count();
            if own >= PROPOSALS_OF_ONE_MAX {
                return Err(Refusal::TooMany { what: "proposals of one member", max: PROPOSALS_OF_ONE_MAX });
            }
        }
        if lines.len() > PROPOSAL_LINES_MAX {
            return Err(Refusal::TooMany { what: "signatures of one proposal", max: PROPOSAL_LINES_MAX });
        }
        self.keep_proposal(keyring, &Proposal { signatures: entry.signatures.clone(), ..proposal }, &paths, aside)?;
        Ok(Taken::New)
    }

    /// Puts what is with a statement on the disk that lies over the keyring; gives the paths.
    fn lay_aside(&self, entry: &Entry, objects: &[Vec<u8>], aside: &Disk) -> Result<Vec<String>, Refusal> {
        let named: BTreeMap<Digest, ObjectKind> = entry.signed.statement.act.objects().into_iter().collect();
        let mut paths = Vec::new();
        for object in objects {
            let digest = Digest::of(object);
            let path = match named.get(&digest) {
                None => return Err(Refusal::Stray(object.len())),
                Some(ObjectKind::Sealed) => staged_path(&digest),
                Some(_) => object_path(&digest),
            };
            aside.replace(&path, object)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Those of the lines that count, one a member; each that the entry brings has to be a member's.
    fn countable_lines(&mut self, entry: &Entry, lines: &[SignatureLine]) -> Result<Vec<SignatureLine>, Refusal> {
        let (now, present) = (self.now, self.now());
        let signed = &entry.signed;
        self.replay.at(present, |replay| {
            for line in &entry.signatures {
                if replay.countable(signed, std::slice::from_ref(line), now).is_empty() {
                    return Err(Refusal::Signature(crate::text::shown(&line.name).to_string()));
                }
            }
            Ok(replay.countable(signed, lines, now))
        })
    }

    /// What a statement refers to has to be here, or with it, and be what it says.
    fn check_attached(&self, entry: &Entry) -> Result<(), Refusal> {
        let act = &entry.signed.statement.act;
        for (digest, kind) in act.objects() {
            let there = match kind {
                ObjectKind::Sealed => self.store.staged(&digest).map_err(FleetError::from)?.is_some(),
                _ => self.store.object_within(&digest, STATE_BYTES_MAX).is_ok(),
            };
            if !there {
                let path = if kind == ObjectKind::Sealed { staged_path(&digest) } else { object_path(&digest) };
                return Err(Refusal::Missing(path));
            }
        }
        match self.sealed_files_there(act)? && self.objects_there(act) {
            true => Ok(()),
            false => Err(Refusal::OtherSealed),
        }
    }

    /// Writes a proposal into the keyring: what it refers to, signatures, the body last.
    fn keep_proposal(
        &mut self,
        keyring: &Store,
        proposal: &Proposal,
        paths: &[String],
        aside: &Disk,
    ) -> Result<(), Refusal> {
        let disk = keyring.disk();
        let clean = disk.mark(MARK)?;
        for path in paths {
            if let Some(bytes) = aside.read(path, STATE_BYTES_MAX)? {
                disk.create(path, &bytes)?;
            }
        }
        let over = std::mem::replace(&mut self.store, keyring.clone());
        let written = self.write_proposal(proposal);
        self.store = over;
        written?;
        // What somebody else has left undone is still to be looked for.
        if clean {
            disk.unmark(MARK);
        }
        Ok(())
    }

    fn take_request(
        &mut self,
        request: &Request,
        bytes: &[u8],
        aside: &Disk,
        keyring: &Store,
    ) -> Result<Taken, Refusal> {
        if request.log != self.log() {
            return Err(Refusal::OtherLog(crate::text::shown(&request.log).to_string()));
        }
        let digest = Digest::of(bytes);
        let (disk, path) = (keyring.disk(), request_path(&digest));
        let is_granted = self.state().members.values().any(|m| m.request == digest);
        if is_granted || disk.read_part(&path, 0, 0)?.is_some() {
            return Ok(Taken::Known);
        }
        aside.replace(&object_path(&digest), bytes)?;
        if let Err(refusal) = self.check_request(request, digest) {
            return Err(self.second_by_token(bytes).unwrap_or(refusal));
        }
        let (mut count, mut total) = (0, bytes.len() as u64);
        for (name, kind) in disk.list("proposals/requests")? {
            if kind == EntryKind::File {
                count += 1;
                total += disk.reader(&format!("proposals/requests/{name}"))?.map_or(0, |(length, _)| length);
            }
        }
        if count >= REQUESTS_WAITING_MAX {
            return Err(Refusal::TooMany { what: "requests", max: REQUESTS_WAITING_MAX });
        }
        if total > REQUESTS_WAITING_BYTES_MAX as u64 {
            return Err(Refusal::TooMany { what: "bytes of requests", max: REQUESTS_WAITING_BYTES_MAX });
        }
        disk.create(&path, bytes)?;
        Ok(Taken::New)
    }

    /// Whether a request, which is signed by its token, is a second machine's or a copy's.
    fn second_by_token(&self, bytes: &[u8]) -> Option<Refusal> {
        let asked = Asked::parse(bytes).ok().filter(|asked| asked.request.invitation.is_some())?;
        let decision = self.state().admission(&asked, self.now(), Agreed::ByInvitation);
        let is_second = matches!(decision.admission, Admission::TokenReused | Admission::GenerationConflict);
        is_second.then_some(Refusal::Invited(decision.admission, decision.why))
    }

    /// What can be said of a request before anybody has approved it: it asks for names that are free, for one machine or person,
    /// and whoever has the keys in it has signed it. Who may ask at all, the policy leaves to those who approve.
    fn check_request(&mut self, request: &Request, digest: Digest) -> Result<(), Refusal> {
        let bad = |problem: String| Refusal::Request(problem);
        let Some(first) = request.members.first() else { return Err(bad("it names nobody".to_owned())) };
        let owner = first.member.owner();
        for asked in &request.members {
            if asked.member.owner() != owner {
                return Err(bad(format!("{} and {owner} are not one machine's", asked.member)));
            }
            // An invitation may let a machine take its own place again; whether it does is judged with it.
            let invited = request.invitation.is_some();
            if !invited && self.state().members.get(&asked.member).is_some_and(|m| m.is_active()) {
                return Err(bad(format!("{} is a member already", asked.member)));
            }
        }
        // A service's signer is its machine, which may join with the same request.
        let checked = request.member(&owner).unwrap_or(first);
        let now = self.now();
        let result = self.replay.at(now, |replay| replay.check_request(checked, digest, now));
        result.map_err(|void| bad(void.to_string()))
    }
}
