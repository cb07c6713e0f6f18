//! Statements that wait for signatures: `proposals/<id>/body` and one file a signature, named by content, so that two
//! people who sign at the same time never write the same file.

use std::collections::BTreeSet;

use super::{Fleet, FleetError};
use crate::digest::Digest;
use crate::disk::EntryKind;
use crate::limits::{ENTRY_BYTES_MAX, FUTURE_SECONDS_MAX};
use crate::log::note::SignatureLine;
use crate::state::{ReplayError, Verdict, Void};
use crate::statement::{Entry, Signed};
use crate::store::{StoreError, object_path};
use crate::time::Span;

/// A statement with the signatures it has so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The statement.
    pub signed: Signed,
    /// Its signature lines.
    pub signatures: Vec<SignatureLine>,
}

/// Where a proposal stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has all signatures and waits for somebody with the log's key.
    Complete,
    /// It lacks signatures: which.
    Lacks(String),
    /// It would have no effect any more: why.
    Dead(Void),
}

impl Proposal {
    fn entry(&self) -> Entry {
        Entry { signed: self.signed.clone(), signatures: self.signatures.clone() }
    }
}

fn directory(id: &Digest) -> String {
    format!("proposals/{id}")
}

impl Fleet {
    /// All proposals, oldest first.
    ///
    /// # Errors
    /// [`FleetError`], also for a file that was changed.
    pub fn proposals(&self) -> Result<Vec<Proposal>, FleetError> {
        let mut all = Vec::new();
        for (name, kind) in self.store.disk().list("proposals")? {
            if let (EntryKind::Directory, Some(id)) = (kind, Digest::parse(&name)) {
                all.extend(self.proposal(&id)?);
            }
        }
        all.sort_by_key(|p: &Proposal| (p.signed.statement.at, p.signed.id));
        Ok(all)
    }

    /// The proposal with this id; `None` if there is none, or its body is not written yet.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn proposal(&self, id: &Digest) -> Result<Option<Proposal>, FleetError> {
        let disk = self.store.disk();
        let body_path = format!("{}/body", directory(id));
        let damaged = |path: &str, problem: String| StoreError::Damaged { path: path.to_owned(), problem };
        let Some(body) = self.store.read(&body_path, ENTRY_BYTES_MAX)? else { return Ok(None) };
        if Digest::of(&body) != *id {
            return Err(damaged(&body_path, "it is not what its name says".to_owned()).into());
        }
        let signed = Signed::parse(&body).map_err(|e| damaged(&body_path, e.to_string()))?;
        let mut signatures = Vec::new();
        for (name, kind) in disk.list(&directory(id))? {
            let path = format!("{}/{name}", directory(id));
            let Some(digest) = name.strip_suffix(".sig").and_then(Digest::parse).filter(|_| kind == EntryKind::File)
            else {
                continue;
            };
            let Some(bytes) = self.store.read(&path, ENTRY_BYTES_MAX)? else { continue };
            let line = std::str::from_utf8(&bytes)
                .ok()
                .and_then(|t| t.strip_suffix('\n'))
                .and_then(|t| SignatureLine::parse(t).ok());
            match line.filter(|_| Digest::of(&bytes) == digest) {
                Some(line) => signatures.push(line),
                None => return Err(damaged(&path, "it is not what its name says".to_owned()).into()),
            }
        }
        Ok(Some(Proposal { signed, signatures }))
    }

    /// The one proposal whose id begins with `prefix`.
    ///
    /// # Errors
    /// [`FleetError::NoProposal`], if there is none or several.
    pub fn find_proposal(&self, prefix: &str) -> Result<Proposal, FleetError> {
        let mut found: Vec<Proposal> =
            self.proposals()?.into_iter().filter(|p| p.signed.id.to_string().starts_with(prefix)).collect();
        match (found.pop(), found.is_empty()) {
            (Some(one), true) if prefix.len() >= 4 => Ok(one),
            _ => Err(FleetError::NoProposal(crate::text::shown(prefix).to_string())),
        }
    }

    /// Writes a proposal, or adds signatures to it: the body first, so that a signature never stands alone.
    pub(super) fn write_proposal(&self, proposal: &Proposal) -> Result<(), FleetError> {
        let disk = self.store.disk();
        let directory = directory(&proposal.signed.id);
        disk.create(&format!("{directory}/body"), &proposal.signed.body)?;
        for line in &proposal.signatures {
            let text = line.to_text();
            disk.create(&format!("{directory}/{}.sig", Digest::of(text.as_bytes())), text.as_bytes())?;
        }
        Ok(())
    }

    /// Removes a proposal that did not come into the log, with the attachments that only it refers to.
    pub(super) fn drop_proposal(&self, id: &Digest) -> Result<(), FleetError> {
        let own = self.proposal(id)?.map(|p| p.signed.statement.act.objects()).unwrap_or_default();
        self.remove_proposal(id)?;
        let referenced = self.referenced()?;
        for (digest, _) in own.iter().filter(|(d, _)| !referenced.contains_key(d)) {
            self.store.disk().remove(&object_path(digest))?;
        }
        Ok(())
    }

    /// Removes a proposal: the body first. Without it what is left is no proposal, and goes when somebody tidies; without
    /// some of its signatures it would wait for them again.
    pub(super) fn remove_proposal(&self, id: &Digest) -> Result<(), FleetError> {
        let disk = self.store.disk();
        let directory = directory(id);
        disk.remove(&format!("{directory}/body"))?;
        for (name, _) in disk.list(&directory)?.iter().filter(|(n, _)| n != "body") {
            disk.remove(&format!("{directory}/{name}"))?;
        }
        disk.prune(&directory);
        Ok(())
    }

    /// What would become of a proposal if it were logged now.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn standing(&mut self, proposal: &Proposal) -> Result<Standing, FleetError> {
        let bytes = match proposal.entry().to_bytes() {
            Ok(bytes) if !proposal.signatures.is_empty() => bytes,
            _ => return Ok(Standing::Lacks("its author's signature".to_owned())),
        };
        match self.preview(&bytes) {
            // Whoever can write here can write nonsense; it must not keep others from working.
            Err(FleetError::Replay(ReplayError::Object { source, .. })) => {
                Ok(Standing::Lacks(format!("its attachments: {source}")))
            }
            Ok(verdict) if verdict.time > self.now.plus(Span(FUTURE_SECONDS_MAX)) => {
                Ok(Standing::Lacks(format!("a clock that agrees: it is dated {}", verdict.time)))
            }
            Ok(verdict) => Ok(standing_of(&verdict)),
            Err(e) => Err(e),
        }
    }

    /// A fold's verdict without taking the entry; a founding that lacks signatures is a verdict like any other.
    pub(super) fn preview(&mut self, bytes: &[u8]) -> Result<Verdict, FleetError> {
        match self.replay.preview(bytes) {
            Err(ReplayError::NoFleet(void)) => Ok(Verdict {
                index: 0,
                id: None,
                signers: BTreeSet::new(),
                time: self.now,
                applied: 0,
                void: vec![(0, void)],
            }),
            other => Ok(other?),
        }
    }
}

/// Where a statement with this verdict stands.
pub(super) fn standing_of(verdict: &Verdict) -> Standing {
    let lacking = verdict.void.iter().find_map(|(_, void)| match void {
        Void::Quorum { missing, .. } => Some(missing.clone()),
        Void::Author(member) => Some(format!("its author {member}")),
        _ => None,
    });
    match (lacking, verdict.applied, verdict.void.first()) {
        // Also if some of its changes would do: with more signatures all of them will.
        (Some(missing), ..) => Standing::Lacks(missing),
        (None, 0, Some((_, void))) => Standing::Dead(void.clone()),
        (None, ..) => Standing::Complete,
    }
}
