//! Statements that wait for signatures: `proposals/<id>/body` and one file a signature, named by content, so that two
//! people who sign at the same time never write the same file.

use super::{Fleet, FleetError};
use crate::digest::Digest;
use crate::disk::EntryKind;
use crate::limits::{ENTRY_BYTES_MAX, FUTURE_SECONDS_MAX, SIGNATURES_MAX};
use crate::log::note::SignatureLine;
use crate::name::Kind;
use crate::state::{ReplayError, Supposed, Verdict, Void};
use crate::statement::{Entry, ObjectKind, Signed, principal_member};
use crate::store::{StoreError, object_path, staged_path};
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
    /// All proposals, oldest first, each with those of its signature lines that count now. What cannot be read is left
    /// out: whoever can write here can write nonsense, and it must not keep others from working.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn proposals(&mut self) -> Result<Vec<Proposal>, FleetError> {
        let mut all = Vec::new();
        for signed in self.statements()? {
            let lines = self.lines(&signed.id)?;
            let (now, present) = (self.now, self.now());
            let mut signatures = self.replay.at(present, |replay| replay.countable(&signed, &lines, now));
            // Any member may sign anything. Those who decide come first: an entry has room for so many.
            signatures.sort_by_cached_key(|line| self.precedence(line, &signed));
            signatures.truncate(SIGNATURES_MAX);
            all.push(Proposal { signed, signatures });
        }
        all.sort_by_key(|p: &Proposal| (p.signed.statement.at, p.signed.id));
        Ok(all)
    }

    /// Whose signature matters most: the author's, without which there is nothing, then those of whoever may decide.
    fn precedence(&self, line: &SignatureLine, signed: &Signed) -> (bool, Option<Kind>) {
        let state = self.replay.state();
        let name = state.and_then(|s| principal_member(&s.fleet, &line.name));
        let kind = name.as_ref().and_then(|n| state?.members.get(n)).map(|m| m.kind);
        (name.as_ref() != Some(&signed.statement.by), kind)
    }

    /// The proposal with this id; `None` if there is none that can be read.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn proposal(&mut self, id: &Digest) -> Result<Option<Proposal>, FleetError> {
        Ok(self.proposals()?.into_iter().find(|p| p.signed.id == *id))
    }

    /// The ids that directories of proposals have.
    fn proposal_ids(&self) -> Result<Vec<Digest>, FleetError> {
        let found = self.store.disk().list("proposals")?;
        let directories = found.iter().filter(|(_, kind)| *kind == EntryKind::Directory);
        Ok(directories.filter_map(|(name, _)| Digest::parse(name)).collect())
    }

    /// Reads a file of a proposal. What is no file, or far too large, is as good as none; a verification names it.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FleetError> {
        match self.store.read(path, ENTRY_BYTES_MAX) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            other => Ok(other?),
        }
    }

    /// What a body says; `None` if it is not there, is another than its name says, or is no statement.
    pub(super) fn statement(&self, id: &Digest) -> Result<Option<Signed>, FleetError> {
        let body = self.read(&format!("{}/body", directory(id)))?;
        Ok(body.filter(|body| Digest::of(body) == *id).and_then(|body| Signed::parse(&body).ok()))
    }

    /// The proposed statements that can be read.
    pub(super) fn statements(&self) -> Result<Vec<Signed>, FleetError> {
        self.proposal_ids()?.iter().filter_map(|id| self.statement(id).transpose()).collect()
    }

    /// The signature lines beside a body, not yet verified.
    pub(super) fn lines(&self, id: &Digest) -> Result<Vec<SignatureLine>, FleetError> {
        let mut lines = Vec::new();
        for (name, kind) in self.store.disk().list(&directory(id))? {
            let digest = name.strip_suffix(".sig").and_then(Digest::parse).filter(|_| kind == EntryKind::File);
            let Some(digest) = digest else { continue };
            let bytes = self.read(&format!("{}/{name}", directory(id)))?.unwrap_or_default();
            let text = std::str::from_utf8(&bytes).ok().filter(|_| Digest::of(&bytes) == digest);
            lines.extend(text.and_then(|t| t.strip_suffix('\n')).and_then(|t| SignatureLine::parse(t).ok()));
        }
        Ok(lines)
    }

    /// Removes proposals whose body is what its name says, and no statement: nobody will ever be able to read them.
    pub(super) fn drop_unreadable_proposals(&self) -> Result<(), FleetError> {
        for id in self.proposal_ids()? {
            let body = self.read(&format!("{}/body", directory(&id)))?;
            if body.is_some_and(|body| Digest::of(&body) == id && Signed::parse(&body).is_err()) {
                self.remove_proposal(&id)?;
            }
        }
        Ok(())
    }

    /// Removes signatures whose body a writer did not come to write.
    pub(super) fn remove_headless_proposals(&self) -> Result<(), FleetError> {
        for id in self.proposal_ids()? {
            let there = self.store.disk().list(&directory(&id))?;
            if there.iter().all(|(name, _)| name != "body") {
                self.remove_proposal(&id)?;
            }
        }
        Ok(())
    }

    /// The one proposal whose id begins with `prefix`.
    ///
    /// # Errors
    /// [`FleetError::NoProposal`], if there is none or several.
    pub fn find_proposal(&mut self, prefix: &str) -> Result<Proposal, FleetError> {
        let mut found: Vec<Proposal> =
            self.proposals()?.into_iter().filter(|p| p.signed.id.to_string().starts_with(prefix)).collect();
        match (found.pop(), found.is_empty()) {
            (Some(one), true) if prefix.len() >= 4 => Ok(one),
            _ => Err(FleetError::NoProposal(crate::text::shown(prefix).to_string())),
        }
    }

    /// Writes a proposal, or adds signatures to it. The body comes last: what has one is whole.
    pub(super) fn write_proposal(&self, proposal: &Proposal) -> Result<(), FleetError> {
        let disk = self.store.disk();
        let directory = directory(&proposal.signed.id);
        for line in &proposal.signatures {
            let text = line.to_text();
            disk.create(&format!("{directory}/{}.sig", Digest::of(text.as_bytes())), text.as_bytes())?;
        }
        disk.create(&format!("{directory}/body"), &proposal.signed.body)?;
        Ok(())
    }

    /// Removes a proposal that did not come into the log, with the attachments that only it refers to.
    pub(super) fn drop_proposal(&self, id: &Digest) -> Result<(), FleetError> {
        let own = self.statement(id)?.map(|signed| signed.statement.act.objects()).unwrap_or_default();
        self.remove_proposal(id)?;
        if !self.store.disk().has_lock() {
            // Somebody else may be about to name the same bytes.
            return Ok(());
        }
        let Some(referenced) = self.referenced()? else { return Ok(()) };
        for (digest, kind) in own {
            let (path, needed) = match kind {
                ObjectKind::Sealed => (staged_path(&digest), referenced.has_sealed(&digest)),
                _ => (object_path(&digest), referenced.has(&digest)),
            };
            if !needed {
                self.store.disk().remove(&path)?;
                self.store.disk().prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
            }
        }
        Ok(())
    }

    /// Removes a proposal: the body first. Without it what is left is no proposal, and goes when somebody tidies; without
    /// some of its signatures it would wait for them again.
    pub(super) fn remove_proposal(&self, id: &Digest) -> Result<(), FleetError> {
        let disk = self.store.disk();
        let directory = directory(id);
        let mut parts = disk.list(&directory)?;
        parts.sort_by_key(|(name, _)| name != "body");
        for (name, kind) in parts {
            match kind {
                // Nobody of ours made one; what lies in it is not for us to remove.
                EntryKind::Directory => disk.prune(&format!("{directory}/{name}")),
                EntryKind::File => drop(disk.remove(&format!("{directory}/{name}"))?),
                EntryKind::Other => drop(disk.remove(&format!("{directory}/{name}"))),
            }
        }
        disk.prune(&directory);
        Ok(())
    }

    /// What would become of a proposal if it were logged now.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn standing(&mut self, proposal: &Proposal) -> Result<Standing, FleetError> {
        let (id, expires) = (&proposal.signed.id, proposal.signed.statement.expires);
        // Also if nothing that has signed it counts any more: a key that was replaced by it, for one.
        if self.replay.state().is_some_and(|state| state.done.has(id, expires)) {
            return Ok(Standing::Dead(Void::Done));
        }
        let bytes = match proposal.entry().to_bytes() {
            Ok(bytes) if !proposal.signatures.is_empty() => bytes,
            _ if self.now() > expires => return Ok(Standing::Dead(Void::Expired(expires))),
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
            Ok(verdict) => match standing_of(&verdict) {
                // Whoever can write here could hand in a statement about a file that there is not.
                Standing::Complete if !self.sealed_files_there(&proposal.signed.statement.act)? => {
                    Ok(Standing::Lacks("its sealed file, which is not here or is another".to_owned()))
                }
                Standing::Complete if !self.objects_there(&proposal.signed.statement.act) => {
                    Ok(Standing::Lacks("its state or exchange, which is not among the objects".to_owned()))
                }
                other => Ok(other),
            },
            Err(e) => Err(e),
        }
    }

    /// What a statement would do if it had its quorum; `None` before the founding.
    ///
    /// # Errors
    /// [`FleetError::Replay`], if its attachments are not there.
    pub fn suppose(&mut self, signed: &Signed) -> Result<Option<Supposed>, FleetError> {
        let now = self.now();
        Ok(self.replay.suppose(signed, now)?)
    }

    /// A fold's verdict without taking the entry; a founding that lacks signatures is a verdict like any other.
    pub(super) fn preview(&mut self, bytes: &[u8]) -> Result<Verdict, FleetError> {
        match self.replay.preview(bytes) {
            Err(ReplayError::NoFleet(void)) => {
                Ok(Verdict { time: self.now, void: vec![(0, void)], ..Verdict::default() })
            }
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
