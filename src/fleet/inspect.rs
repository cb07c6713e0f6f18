//! Verifying everything: the log from its first entry, and every file of the keyring against it.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Tree;
use super::views::{MARK, Referenced};
use super::{Fleet, FleetError, Known, Progress};
use crate::digest::Digest;
use crate::disk::{EntryKind, is_temporary};
use crate::limits::{
    CERT_BYTES_MAX, COMMIT_BYTES_MAX, ENTRY_BYTES_MAX, KEY_FILE_BYTES_MAX, OBJECT_BYTES_MAX, SEALED_BYTES_MAX,
};
use crate::log::commit::Commit;
use crate::log::tile::TILE_WIDTH;
use crate::name::{Address, MemberName};
use crate::openpgp::Sealed;
use crate::ssh::{Serial, SshCertificate};
use crate::state::{ObjectError, ReplayError, Void};
use crate::store::{
    Store, certificate_path, issued_path, issued_serial, object_digest, read_checkpoint, staged_digest,
};
use crate::time::Time;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The keyring is not what the log says.
    Damage,
    /// Harmless: what an interrupted writer left, or what is waiting.
    Note,
}

/// A file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// The file, relative to the keyring, made safe to show.
    pub path: String,
    /// What is the matter.
    pub problem: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Entries replayed.
    pub entries: u64,
    /// Files looked at.
    pub files: usize,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|p| p.severity == Severity::Note)
    }

    pub(super) fn damage(&mut self, path: &str, problem: impl ToString) {
        self.push(Severity::Damage, path, problem);
    }

    pub(super) fn note(&mut self, path: &str, problem: impl ToString) {
        self.push(Severity::Note, path, problem);
    }

    fn push(&mut self, severity: Severity, path: &str, problem: impl ToString) {
        self.problems.push(Problem {
            severity,
            path: crate::text::shown(path).to_string(),
            problem: problem.to_string(),
        });
    }
}

const UNREFERENCED: &str = "nothing refers to it; left by a writer that was interrupted, the next change removes it";

impl Fleet {
    /// Verifies a keyring: the tree file by file, then the log by replay, then every other file against what the log
    /// says. Files are named; nothing stops at the first that is wrong. The fleet is given if it could be opened.
    ///
    /// # Errors
    /// [`FleetError`], if nothing can be said at all: no keyring, or a disk that does not answer.
    pub fn verify(
        store: &Store,
        known: &Known,
        now: Time,
        progress: Progress<'_>,
    ) -> Result<(Report, Option<Self>), FleetError> {
        let mut report = Report::default();
        let files = store.disk().walk("")?;
        report.files = files.len();
        let size = match read_checkpoint(store) {
            // Before any work in proportion to a size that nobody has vouched for yet.
            Ok((_, checkpoint)) if !is_plausible(checkpoint.size, files.len()) => {
                report
                    .damage("log/checkpoint", format!("it shows {} entries; the files say otherwise", checkpoint.size));
                0
            }
            Ok((_, checkpoint)) => {
                Tree::read(store, &checkpoint, &mut report)?.check_files(store, &files, &mut report)?;
                checkpoint.size
            }
            Err(e @ crate::store::StoreError::Damaged { .. }) => {
                report.damage("log/checkpoint", e);
                0
            }
            Err(e) => return Err(e.into()),
        };
        let mut fleet = None;
        if report.is_sound() {
            match Self::open(store.clone(), known, now, progress) {
                Ok(opened) => {
                    report.entries = size;
                    opened.check_files(&files, &mut report)?;
                    fleet = Some(opened);
                }
                Err(FleetError::Unsigned) => report.damage("log/checkpoint", FleetError::Unsigned),
                Err(FleetError::Store(crate::store::StoreError::Damaged { path, problem })) => {
                    report.damage(&path, problem)
                }
                Err(FleetError::Store(crate::store::StoreError::Missing(path))) => {
                    report.damage(&path, "it is missing")
                }
                Err(FleetError::Replay(ReplayError::NoFleet(void @ Void::OtherLog(_)))) => {
                    report.damage("log/checkpoint", format!("it names another log than the first entry: {void}"));
                }
                Err(FleetError::Replay(e)) => report.damage(&object_of(&e), e),
                Err(e) => return Err(e),
            }
        }
        report.problems.sort();
        report.problems.dedup();
        Ok((report, fleet))
    }

    /// Checks every file outside `log/`.
    fn check_files(&self, files: &[(String, EntryKind)], report: &mut Report) -> Result<(), FleetError> {
        let referenced = self.referenced_or_damaged(report)?;
        let state = self.state();
        let current = state.members.iter().map(|(n, m)| (certificate_path(&m.fingerprint), (n, m.cert)));
        let former = state.former.iter().map(|(fingerprint, (n, cert))| (certificate_path(fingerprint), (n, *cert)));
        let certificates: BTreeMap<String, (&MemberName, Digest)> = former.chain(current).collect();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for (path, kind) in files.iter().filter(|(p, _)| !p.starts_with("log/")) {
            seen.insert(path);
            if *kind == EntryKind::Other {
                report.damage(path, "it is neither file nor directory (a symbolic link, socket or device)");
            } else if is_temporary(path) || path == MARK {
                report.note(path, "left by a writer that was interrupted; the next change removes it");
            } else if let Some((member, digest)) = certificates.get(path) {
                let bytes = self.store.disk().read(path, CERT_BYTES_MAX)?.unwrap_or_default();
                if Digest::of(&bytes) != *digest {
                    report.damage(path, format!("it is not the certificate of {member} that the log has"));
                }
            } else if let Some(digest) = object_digest(path) {
                self.check_object(path, &digest, &referenced, report)?;
            } else if let Some(digest) = staged_digest(path) {
                self.check_staged(path, &digest, &referenced, report)?;
            } else if let Some(serial) = issued_serial(path) {
                self.check_issued(path, serial, report)?;
            } else if let Some(address) = Address::from_path(path) {
                self.check_sealed(path, &address, report)?;
            } else if !path.starts_with("proposals/") {
                report.damage(path, "the log knows nothing of it");
            }
        }
        for (path, (member, _)) in certificates.iter().filter(|(p, _)| !seen.contains(p.as_str())) {
            report.damage(path, format!("the certificate of {member} is missing"));
        }
        for (digest, kind) in referenced.objects() {
            let path = crate::store::object_path(digest);
            if !seen.contains(path.as_str()) {
                report.damage(&path, format!("it is missing; the log refers to it ({kind:?})").to_lowercase());
            }
        }
        for (address, secret) in self.state().live_secrets() {
            let (path, staged) = (address.path(), crate::store::staged_path(&secret.file));
            if !seen.contains(path.as_str()) && !seen.contains(staged.as_str()) {
                report.damage(&path, "it is missing");
            }
        }
        for (serial, issued) in &state.issued {
            let of_use = issued.certificate.fields().valid_before > self.now && !state.revoked_serials.contains(serial);
            let path = issued_path(*serial);
            if of_use && !seen.contains(path.as_str()) {
                let problem = "the log has decided this SSH certificate and it is not here; 'keys sync', where the CA's \
                               key is, makes it again";
                report.note(&path, problem);
            }
        }
        self.check_commit_signatures(files, report)?;
        self.check_proposals(files, report)
    }

    /// Every commit was signed with the log's key of its time.
    fn check_commit_signatures(&self, files: &[(String, EntryKind)], report: &mut Report) -> Result<(), FleetError> {
        let keys = self.all_log_keys();
        for (path, _) in
            files.iter().filter(|(p, _)| p.strip_prefix("log/").is_some_and(|p| Commit::number(p).is_some()))
        {
            let bytes = self.store.disk().read(path, COMMIT_BYTES_MAX)?.unwrap_or_default();
            let signed = Commit::parse(&bytes).is_some_and(|(_, note)| keys.iter().any(|key| note.is_signed_by(key)));
            if !signed {
                report.damage(path, "it is not signed by the log's key");
            }
        }
        Ok(())
    }

    fn referenced_or_damaged(&self, report: &mut Report) -> Result<Referenced, FleetError> {
        match self.referenced() {
            Err(FleetError::Store(crate::store::StoreError::Damaged { path, problem })) => {
                report.damage(&path, problem);
                Ok(Referenced::default())
            }
            other => other,
        }
    }

    fn check_object(
        &self,
        path: &str,
        digest: &Digest,
        referenced: &Referenced,
        report: &mut Report,
    ) -> Result<(), FleetError> {
        let bytes = self.store.disk().read(path, OBJECT_BYTES_MAX)?.unwrap_or_default();
        if Digest::of(&bytes) != *digest {
            report.damage(path, "it is not what its name says");
        } else if !referenced.has(digest) {
            report.note(path, UNREFERENCED);
        }
        Ok(())
    }

    fn check_staged(
        &self,
        path: &str,
        digest: &Digest,
        referenced: &Referenced,
        report: &mut Report,
    ) -> Result<(), FleetError> {
        if self.store.staged(digest)?.is_none() {
            report.damage(path, "it is not what its name says");
        } else if !referenced.has_sealed(digest) {
            report.note(path, UNREFERENCED);
        }
        Ok(())
    }

    fn check_issued(&self, path: &str, serial: u64, report: &mut Report) -> Result<(), FleetError> {
        let bytes = self.store.disk().read(path, KEY_FILE_BYTES_MAX)?.unwrap_or_default();
        let certificate = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|t| t.strip_suffix('\n'))
            .and_then(|t| SshCertificate::parse(t).ok());
        let issued = self.state().issued.get(&serial);
        let right = match (certificate, issued, Serial::new(serial)) {
            (Some(certificate), Some(issued), Some(serial)) => {
                certificate.verify_issued(&issued.certificate, serial).is_ok()
                    && format!("{}\n", certificate.to_line()).as_bytes() == bytes
            }
            _ => false,
        };
        if !right {
            report
                .damage(path, format!("it is not the SSH certificate that entry {} decided", serial.saturating_sub(1)));
        }
        Ok(())
    }

    fn check_sealed(&self, path: &str, address: &Address, report: &mut Report) -> Result<(), FleetError> {
        let Some(secret) = self.state().secrets.get(address).and_then(|s| s.live.as_ref()) else {
            report.damage(path, "the log has no secret of this address");
            return Ok(());
        };
        let bytes = self.store.disk().read(path, SEALED_BYTES_MAX)?.unwrap_or_default();
        if Digest::of(&bytes) == secret.file {
            // What the packets say and what the log says must be one; the digest of the file covers both, but a log that
            // was wrong from the start would be noticed here.
            match Sealed::parse(&bytes) {
                Ok(parts)
                    if parts.body_digest() == secret.body
                        && parts.recipients.len() == secret.readers.values().map(Vec::len).sum::<usize>() => {}
                Ok(_) => report.damage(path, "its recipients or its body are not those that its log entry names"),
                Err(e) => report.damage(path, format!("it {e}")),
            }
        } else if self.store.sealed(address, &secret.file).is_ok() {
            report.note(
                path,
                "a writer was interrupted before the newest version was moved here; the next change does it",
            );
        } else {
            report.damage(path, "it is not the version that the log has");
        }
        Ok(())
    }

    fn check_proposals(&self, files: &[(String, EntryKind)], report: &mut Report) -> Result<(), FleetError> {
        for (path, _) in
            files.iter().filter(|(p, k)| p.starts_with("proposals/") && *k == EntryKind::File && !is_temporary(p))
        {
            let parts: Vec<&str> = path.split('/').collect();
            let bytes = self
                .store
                .disk()
                .read(path, crate::limits::REQUEST_BYTES_MAX.max(ENTRY_BYTES_MAX))?
                .unwrap_or_default();
            let right = match parts.as_slice() {
                ["proposals", id, "body"] => *id == Digest::of(&bytes).to_string(),
                ["proposals", id, name] if Digest::parse(id).is_some() => {
                    name.strip_suffix(".sig") == Some(&Digest::of(&bytes).to_string())
                }
                ["proposals", "requests", name] => {
                    name.strip_suffix(".request") == Some(&Digest::of(&bytes).to_string())
                }
                _ => false,
            };
            if !right {
                report.damage(path, "it is not what its name says");
            }
        }
        Ok(())
    }
}

/// Whether a log with so many entries can lie in so many files: there is one for every full bundle, give or take a few that
/// were lost.
fn is_plausible(size: u64, files: usize) -> bool {
    size > 0 && size / TILE_WIDTH <= files as u64 + 16
}

/// The file that a replay error is about.
fn object_of(error: &crate::state::ReplayError) -> String {
    match error {
        ReplayError::Object {
            source: ObjectError::Missing(d) | ObjectError::Changed(d) | ObjectError::Unreadable(d, _),
            ..
        } => crate::store::object_path(d),
        ReplayError::Openpgp { .. } | ReplayError::NoFleet(_) => "log/".to_owned(),
    }
}
