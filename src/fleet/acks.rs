//! Acknowledgements in the keyring, `acks/<member>`: signed by machines, read against the log. The log has nothing of them.

use std::collections::BTreeMap;

use super::inspect::Report;
use super::signing::Signer;
use super::submitted::{Refusal, Taken};
use super::{Fleet, FleetError};
use crate::agent::Ack;
use crate::disk::{EntryKind, is_temporary};
use crate::limits::ACK_BYTES_MAX;
use crate::log::note::{Note, SignatureLine};
use crate::name::{MemberName, Slot};
use crate::openpgp::{StatementSignature, sign_statement};
use crate::state::KeyState;
use crate::statement::{key_hash, principal};
use crate::store::{Store, StoreError, root_at};
use crate::time::Span;

/// The directory in the keyring.
pub(super) const DIRECTORY: &str = "acks/";

/// How far the clock of a machine may be ahead of that of whoever takes its acknowledgement: whatever it says later has to be
/// newer.
const AHEAD_MAX: Span = Span(600);

/// Where a member's acknowledgement lies.
pub fn ack_path(member: &MemberName) -> String {
    format!("{DIRECTORY}{member}")
}

/// Where the last one lies that came from another machine than the one after it: two have the member's keys.
fn other_path(member: &MemberName) -> String {
    format!("{DIRECTORY}{member}{OTHER}")
}

/// What the name of such a file ends with.
const OTHER: char = '~';

/// Why an acknowledgement counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckProblem {
    /// Not one, or another member's.
    #[error("{0}")]
    Unreadable(String),
    /// Its member is none any more, or its key is not used any more: it is old.
    #[error("{0}")]
    Past(String),
    /// Its member has seen another log than this one.
    #[error("FORK? {member} has verified a log of {size} entries with another root than this one's")]
    Fork {
        /// Who.
        member: MemberName,
        /// At which size.
        size: u64,
    },
}

impl Fleet {
    /// The name for which acknowledgements are signed: never that of the log itself.
    fn ack_origin(&self) -> String {
        format!("{} ack", self.log)
    }

    /// Signs an acknowledgement.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn sign_ack(&self, ack: &Ack, signer: &mut Signer) -> Result<Vec<u8>, FleetError> {
        let (fleet, text) = (&self.state().fleet, ack.to_text());
        let name = principal(fleet, &signer.member);
        let signature = sign_statement(signer.key.as_mut(), fleet, &self.ack_origin(), text.as_bytes(), ack.at)
            .map_err(|e| FleetError::Sign { member: signer.member.clone(), problem: e.detail })?;
        let line = SignatureLine { key_hash: key_hash(&name, &signer.key.public().fingerprint()), name, signature };
        Ok(Note { text, signatures: vec![line] }.to_bytes())
    }

    /// Reads what lies as `member`'s acknowledgement: signed by a key of its own that is not compromised, for this log.
    ///
    /// # Errors
    /// [`AckProblem`]; [`FleetError`] if the disk does not answer.
    pub fn read_ack(&mut self, member: &MemberName, bytes: &[u8]) -> Result<Result<Ack, AckProblem>, FleetError> {
        let unreadable = |problem: &str| Ok(Err(AckProblem::Unreadable(problem.to_owned())));
        let (ack, note) = match Ack::parse(bytes) {
            Ok(read) => read,
            Err(problem) => return unreadable(&problem),
        };
        if ack.member != *member || ack.log != self.log {
            return unreadable("it is another member's, or for another log");
        }
        let name = principal(&self.state().fleet, member);
        let [line] = note.signatures.as_slice() else { return unreadable("it has not one signature") };
        let parsed = StatementSignature::parse(&line.signature, &self.state().fleet, &self.ack_origin());
        let signature = match parsed {
            Ok(signature) if line.name == name && line.key_hash == key_hash(&name, signature.issuer()) => signature,
            Ok(_) => return unreadable("its signature line names another key than made it"),
            Err(e) => return unreadable(&format!("its signature {e}")),
        };
        let hex = signature.issuer().to_hex();
        let Some(found) = self.state().members.get(member) else { return unreadable("the log has no such member") };
        let is_active = found.is_active();
        let key = found.slot(Slot::Sign).and_then(|keys| keys.find(&hex)).map(|k| k.state);
        match key {
            None | Some(KeyState::Compromised) if is_active => {
                return unreadable("it is signed by no key of its member's that counts");
            }
            _ if !is_active => return Ok(Err(AckProblem::Past(format!("{member} has left")))),
            Some(KeyState::Destroyed) => {
                return Ok(Err(AckProblem::Past("it is signed by a key that is destroyed by now".to_owned())));
            }
            _ => {}
        }
        let certificate = self.signing_certificate(&hex)?;
        let verified = certificate
            .as_ref()
            .and_then(|c| c.key(signature.issuer()))
            .is_some_and(|key| signature.verify(key, note.text.as_bytes()).is_ok());
        if !verified {
            return unreadable("its signature does not verify");
        }
        let head = self.head().map_or(0, |h| h.checkpoint.size);
        if ack.size <= head && root_at(&self.store, ack.size, head)? != ack.root {
            return Ok(Err(AckProblem::Fork { member: member.clone(), size: ack.size }));
        }
        Ok(Ok(ack))
    }

    /// Takes an acknowledgement that somebody has handed in or that lies at a mirror, if it is newer than what is here. One
    /// that shows another past of the log is taken as well: it is what people have to see. The caller holds the keyring's lock.
    ///
    /// # Errors
    /// [`Refusal`]; then what was there stays.
    pub fn take_ack(&mut self, bytes: &[u8], keyring: &Store) -> Result<Taken, Refusal> {
        let unreadable = |problem: String| Refusal::Ack(AckProblem::Unreadable(problem));
        let (ack, _) = Ack::parse(bytes).map_err(unreadable)?;
        if ack.log != self.log {
            return Err(Refusal::OtherLog(crate::text::shown(&ack.log).to_string()));
        }
        match self.read_ack(&ack.member, bytes)? {
            Ok(_) | Err(AckProblem::Fork { .. }) => {}
            Err(problem) => return Err(Refusal::Ack(problem)),
        }
        if let Some(problem) = self.is_ahead(&ack) {
            return Err(Refusal::Ack(problem));
        }
        let path = ack_path(&ack.member);
        let here = match keyring.read(&path, ACK_BYTES_MAX) {
            Ok(here) => here,
            // Whatever lies there counts for nothing.
            Err(StoreError::Damaged { .. }) => None,
            Err(e) => return Err(FleetError::from(e).into()),
        };
        if let Some(old) = here.and_then(|old| Ack::parse(&old).ok().map(|(parsed, _)| (parsed, old)))
            && old.0.at >= ack.at
            && self.is_ahead(&old.0).is_none()
            && matches!(self.read_ack(&ack.member, &old.1)?, Ok(_) | Err(AckProblem::Fork { .. }))
        {
            return Ok(Taken::Known);
        }
        self.keep_ack(&ack, bytes, keyring)?;
        Ok(Taken::New)
    }

    /// Puts an acknowledgement in the place of the one before. If that is of another machine that ran at the same time, it is kept
    /// beside it. The caller has judged it.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn keep_ack(&mut self, ack: &Ack, bytes: &[u8], keyring: &Store) -> Result<(), FleetError> {
        let path = ack_path(&ack.member);
        let before = match keyring.read(&path, ACK_BYTES_MAX) {
            Ok(before) => before,
            Err(StoreError::Damaged { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        if let Some(before) = before
            && let Ok(other) = self.read_ack(&ack.member, &before)?
            && other.is_beside(ack)
        {
            keyring.disk().replace(&other_path(&ack.member), &before)?;
        }
        Ok(keyring.disk().replace(&path, bytes)?)
    }

    /// Members whose keys two machines had at one time, as far as it was noticed here: the last word of the one of them. What
    /// counts no more, since the member has other keys by now, is left out.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn copied(&mut self) -> Result<BTreeMap<MemberName, Ack>, FleetError> {
        let mut found = BTreeMap::new();
        for (name, _) in self.store.disk().list(DIRECTORY.trim_end_matches('/')).map_err(StoreError::from)? {
            let Some(member) = name.strip_suffix(OTHER).and_then(|name| name.parse::<MemberName>().ok()) else {
                continue;
            };
            let bytes = match self.store.read(&other_path(&member), ACK_BYTES_MAX) {
                Ok(Some(bytes)) => bytes,
                Ok(None) | Err(StoreError::Damaged { .. }) => continue,
                Err(e) => return Err(e.into()),
            };
            if let Ok(ack) = self.read_ack(&member, &bytes)? {
                found.insert(member, ack);
            }
        }
        Ok(found)
    }

    /// What is wrong with one from the future: nothing newer would ever take its place, and it would never be old.
    fn is_ahead(&self, ack: &Ack) -> Option<AckProblem> {
        let problem = || format!("it is of {}, which is ahead of the clock here", ack.at);
        (ack.at > self.now().plus(AHEAD_MAX)).then(|| AckProblem::Unreadable(problem()))
    }

    /// All acknowledgements, by member.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn acks(&mut self) -> Result<BTreeMap<MemberName, Result<Ack, AckProblem>>, FleetError> {
        let mut found = BTreeMap::new();
        for (name, kind) in self.store.disk().list(DIRECTORY.trim_end_matches('/')).map_err(StoreError::from)? {
            let Ok(member) = name.parse::<MemberName>() else { continue };
            let read = match self.store.read(&ack_path(&member), ACK_BYTES_MAX) {
                _ if kind != EntryKind::File => Err(AckProblem::Unreadable("it is no file".to_owned())),
                Ok(Some(bytes)) => {
                    self.read_ack(&member, &bytes)?.and_then(|ack| self.is_ahead(&ack).map_or(Ok(ack), Err))
                }
                Ok(None) => continue,
                Err(StoreError::Damaged { problem, .. }) => Err(AckProblem::Unreadable(problem)),
                Err(e) => return Err(e.into()),
            };
            found.insert(member, read);
        }
        Ok(found)
    }

    /// Checks every file under `acks/`.
    pub(super) fn check_acks(&mut self, files: &[(String, EntryKind)], report: &mut Report) -> Result<(), FleetError> {
        let there = files.iter().filter(|(p, k)| *k == EntryKind::File && !is_temporary(p));
        for (path, _) in there {
            let Some(name) = path.strip_prefix(DIRECTORY) else { continue };
            let Ok(member) = name.strip_suffix(OTHER).unwrap_or(name).parse::<MemberName>() else {
                report.damage(path, "it is no member's acknowledgement");
                continue;
            };
            let store = self.store.clone();
            let Some(bytes) = report.read(&store, path, ACK_BYTES_MAX)? else { continue };
            match self.read_ack(&member, &bytes)? {
                Ok(_) => {}
                Err(AckProblem::Past(why)) => report.note(path, why),
                Err(problem) => report.damage(path, problem),
            }
        }
        Ok(())
    }
}
