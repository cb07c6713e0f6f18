//! Verifying everything: the log from its first entry, and every file of the keyring against it.

use std::collections::{BTreeMap, BTreeSet};

use super::commits::Commits;
use super::kept::{Going, Kept};
use super::passed::Passed;
use super::snapshot::Comparison;
use super::tree::Tree;
use super::views::{MARK, Referenced};
use super::{Fleet, FleetError, Known, Progress, View};
use crate::digest::Digest;
use crate::disk::{EntryKind, is_temporary};
use crate::limits::{
    BUNDLES_MISSING_MAX, CERT_BYTES_MAX, ENTRY_BYTES_MAX, KEY_FILE_BYTES_MAX, OBJECT_BYTES_MAX, PART_FILE_BYTES_MAX,
    REQUEST_BYTES_MAX, SEALED_BYTES_MAX, STATE_BYTES_MAX,
};
use crate::log::tile::TILE_WIDTH;
use crate::name::{Address, MemberName};
use crate::openpgp::{Certificate, Sealed};
use crate::state::{ObjectError, ReplayError, State, Void, Watch};
use crate::statement::ObjectKind;
use crate::store::{
    CHECKPOINT, HEAD, RESTORED, Store, StoreError, certificate_path, issued_path, issued_serial, object_digest,
    read_checkpoint, read_newest, root_at, staged_digest,
};
use crate::time::Time;

/// What is said of a certificate that an interrupted writer has not brought to its place.
const INTERRUPTED: &str = "a writer was interrupted before the newest version came here; the next change does it";

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
    /// How many of them an earlier verification has replayed, which was interrupted.
    pub earlier: u64,
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

    /// Reads a file that was listed; `None`, and damage, if it cannot be what it should be.
    pub(super) fn read(&mut self, store: &Store, path: &str, limit: usize) -> Result<Option<Vec<u8>>, FleetError> {
        match store.read(path, limit) {
            Err(StoreError::Damaged { path, problem }) => {
                self.damage(&path, problem);
                Ok(None)
            }
            other => Ok(Some(other?.unwrap_or_default())),
        }
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
        Self::verify_on(store, known, now, progress, None)
    }

    /// The same, going on where an earlier verification came to that was interrupted: the files are all looked at, and the
    /// entries that it has replayed are not replayed again. What it kept is believed as far as the log's root there, and
    /// the pinned fleet, bear it out; otherwise everything is replayed.
    ///
    /// # Errors
    /// As [`Fleet::verify`].
    pub fn verify_on<'a>(
        store: &'a Store,
        known: &Known,
        now: Time,
        progress: Progress<'_>,
        going: Option<Going<'a>>,
    ) -> Result<(Report, Option<Self>), FleetError> {
        let mut report = Report::default();
        let files = store.disk().walk("")?;
        report.files = files.len();
        let (mut newest, mut origin) = (CHECKPOINT, String::new());
        let (mut passed, mut commits) = (Passed::default(), Commits::default());
        let size = match read_newest(store) {
            Ok((path, (_, checkpoint))) if !is_plausible(checkpoint.size, files.len()) => {
                let claim = format!("it claims {} entries, and the keyring has {} files", checkpoint.size, files.len());
                report.damage(path, claim);
                0
            }
            Ok((path, (_, checkpoint))) => {
                newest = path;
                origin.clone_from(&checkpoint.origin);
                let (tree, said) = Tree::read(store, path, &checkpoint, &mut report)?;
                commits = tree.check_files(store, &files, &said, &mut report)?;
                passed = said;
                checkpoint.size
            }
            Err(StoreError::Damaged { path, problem }) => {
                report.damage(&path, problem);
                0
            }
            Err(e) => return Err(e.into()),
        };
        let mut fleet = None;
        if report.is_sound() {
            let (left, keep) = going.map_or((None, None), |going| (going.left, Some(going.keep)));
            let left = left.and_then(|bytes| Kept::left(&bytes, store, known, &origin, size));
            let mut snapshots = Comparison::of(store, passed.snapshots, left.as_ref(), keep)?;
            let watch = Some(&mut snapshots as &mut dyn Watch);
            match Self::replayed_from(store.clone(), known, now, progress, watch, View::Newest, left) {
                Ok(mut opened) => {
                    report.entries = size;
                    // Not what is left of `size`: somebody may have appended since.
                    report.earlier = opened.resumed;
                    opened.check_published(&mut report);
                    opened.check_heads(&files, &mut report)?;
                    // What the views show cannot be told where the published head is not to be believed.
                    if report.is_sound() {
                        let then = opened.then()?;
                        let views = then.as_ref().map_or(opened.logged_state(), Self::logged_state);
                        let objects = std::mem::take(&mut snapshots.objects);
                        opened.check_files(views, &files, objects, known.own.as_ref(), &mut report)?;
                        opened.check_acks(&files, &mut report)?;
                        commits.check_signatures(store, &files, &opened.every_log_key(), &mut report)?;
                    }
                    snapshots.report(store, size, &mut report)?;
                    fleet = Some(opened);
                }
                Err(FleetError::Unsigned) => report.damage(unsigned(store, newest, size), FleetError::Unsigned),
                Err(FleetError::Store(StoreError::Damaged { path, problem })) => report.damage(&path, problem),
                Err(FleetError::Store(StoreError::Missing(path))) => report.damage(&path, "it is missing"),
                Err(FleetError::Replay(e)) => report.damage(&object_of(&e, newest), e),
                Err(e) => return Err(e),
            }
        }
        report.problems.sort();
        report.problems.dedup();
        Ok((report, fleet))
    }

    /// The fleet at the published head, if entries wait for cosigners: views are then of that.
    pub(super) fn then(&self) -> Result<Option<Self>, FleetError> {
        let Some(published) = self.published().filter(|_| self.waiting() > 0) else { return Ok(None) };
        let view = View::At(Box::new((published.note.clone(), published.checkpoint.clone())));
        Self::open_view(self.store.clone(), &Known::default(), self.now, &mut |_, _| {}, view).map(Some)
    }

    /// What calls itself published has to be.
    fn check_published(&self, report: &mut Report) {
        let Some(published) = self.published() else {
            report
                .note(CHECKPOINT, "it is missing: nothing is published yet, or it was removed; see 'keys log publish'");
            return;
        };
        if !published.is_signed {
            report.damage(CHECKPOINT, FleetError::Unsigned);
        } else if let Some(missing) = published.lacks() {
            report.damage(CHECKPOINT, format!("it is not published: the policy in force there wants {missing} more"));
        }
    }

    /// Checks every file outside `log/`. `state` is what the views show, `logged` what the entries refer to.
    fn check_files(
        &self,
        state: &State,
        files: &[(String, EntryKind)],
        logged: BTreeSet<(Digest, ObjectKind)>,
        own: Option<&BTreeSet<MemberName>>,
        report: &mut Report,
    ) -> Result<(), FleetError> {
        let logged = match self.with_pending(logged) {
            Err(FleetError::Store(StoreError::Damaged { path, problem })) => {
                report.damage(&path, problem);
                Referenced::default()
            }
            other => other?,
        };
        let referenced = self.with_proposals(logged.clone())?;
        let current = state.members.iter().map(|(n, m)| (certificate_path(&m.fingerprint), (n, m.cert)));
        let former = state.former.iter().map(|(fingerprint, (n, cert))| (certificate_path(fingerprint), (n, *cert)));
        let certificates: BTreeMap<String, (&MemberName, Digest)> = former.chain(current).collect();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        // While a writer's mark lies here a certificate may be the one before, or not be there yet.
        let interrupted = files.iter().any(|(path, _)| path == MARK);
        let is_earlier = |bytes: &[u8]| referenced.has_certificate(&Digest::of(bytes));
        for (path, kind) in files.iter().filter(|(p, _)| !p.starts_with("log/")) {
            seen.insert(path);
            if *kind == EntryKind::Other {
                report.damage(path, "it is neither file nor directory (a symbolic link, socket or device)");
            } else if is_temporary(path) || path == MARK {
                report.note(path, "left by a writer that was interrupted; the next change removes it");
            } else if path == RESTORED {
                report.note(path, "it was restored from a backup; 'keys restore confirm' takes this away");
            } else if let Some((member, digest)) = certificates.get(path) {
                let Some(bytes) = report.read(&self.store, path, CERT_BYTES_MAX)? else { continue };
                if Digest::of(&bytes) == *digest {
                    continue;
                }
                if interrupted && is_earlier(&bytes) && self.owner_of(&bytes) == Some(member) {
                    report.note(path, INTERRUPTED);
                } else {
                    report.damage(path, format!("it is not the certificate of {member} that the log has"));
                }
            } else if let Some(digest) = object_digest(path) {
                self.check_object(path, &digest, &referenced, report)?;
            } else if let Some(digest) = staged_digest(path) {
                self.check_staged(path, &digest, &referenced, report)?;
            } else if let Some(serial) = issued_serial(path) {
                self.check_issued(path, serial, report)?;
            } else if let Some(address) = Address::from_path(path) {
                self.check_sealed(path, &address, state, report)?;
            } else if let Some((address, part)) = Address::part_from_path(path) {
                self.check_part(path, &address, &part, state, report)?;
            } else if !path.starts_with("proposals/") && !path.starts_with(super::acks::DIRECTORY) {
                report.damage(path, "the log knows nothing of it");
            }
        }
        for (path, (member, _)) in certificates.iter().filter(|(p, _)| !seen.contains(p.as_str())) {
            if !self.store.disk().has_lock() {
                // There are no views.
            } else if interrupted {
                report.note(path, INTERRUPTED);
            } else {
                report.damage(path, format!("the certificate of {member} is missing"));
            }
        }
        for (digest, kind) in referenced.objects() {
            let path = crate::store::object_path(digest);
            if seen.contains(path.as_str()) {
                continue;
            }
            if kind == ObjectKind::State {
                report.note(
                    &path,
                    "it is missing; nobody can start from that snapshot, 'keys log snapshot' makes another",
                );
            } else if logged.has(digest) {
                report.damage(&path, format!("it is missing; the log refers to it ({kind:?})").to_lowercase());
            } else {
                report.note(&path, "it is missing; only a proposal refers to it, which is never taken in without it");
            }
        }
        let mut others = BTreeSet::new();
        for (address, secret) in self.logged_state().live_secrets().chain(state.live_secrets()) {
            for file in secret.files() {
                let path = if *file == secret.file { address.path() } else { address.part_path(file) };
                let staged = crate::store::staged_path(file);
                if seen.contains(path.as_str()) || seen.contains(staged.as_str()) {
                    continue;
                }
                match own {
                    Some(own) if !secret.readers.keys().any(|reader| own.contains(reader)) => {
                        others.insert(address);
                    }
                    _ => report.damage(&path, "it is missing"),
                }
            }
        }
        if !others.is_empty() {
            report.note(
                "sealed/",
                format!("{} sealed files that nobody on this machine can read were not brought", others.len()),
            );
        }
        let now = self.now();
        let wanted = self.logged_state().issued.iter().filter(|(serial, issued)| {
            !self.logged_state().revoked_serials.contains(*serial) && issued.certificate.fields().valid_before > now
        });
        for path in wanted.map(|(serial, _)| issued_path(*serial)).filter(|path| !seen.contains(path.as_str())) {
            report.note(&path, "it is missing; the next 'keys sync' where the SSH CA's key is makes it again");
        }
        self.check_proposals(files, report)
    }

    /// Whose certificate this is, by its primary key.
    fn owner_of(&self, certificate: &[u8]) -> Option<&MemberName> {
        let fingerprint = Certificate::parse(certificate).ok()?.fingerprint();
        let current =
            self.logged_state().members.iter().find(|(_, m)| m.fingerprint == fingerprint).map(|(name, _)| name);
        current.or_else(|| self.logged_state().former.get(&fingerprint).map(|(name, _)| name))
    }

    fn check_object(
        &self,
        path: &str,
        digest: &Digest,
        referenced: &Referenced,
        report: &mut Report,
    ) -> Result<(), FleetError> {
        let limit = if referenced.has_state(digest) { STATE_BYTES_MAX } else { OBJECT_BYTES_MAX };
        let Some(bytes) = report.read(&self.store, path, limit)? else { return Ok(()) };
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
        let Some(bytes) = report.read(&self.store, path, KEY_FILE_BYTES_MAX)? else { return Ok(()) };
        if !self.is_issued(serial, &bytes) {
            report
                .damage(path, format!("it is not the SSH certificate that entry {} decided", serial.saturating_sub(1)));
        }
        Ok(())
    }

    fn check_sealed(
        &self,
        path: &str,
        address: &Address,
        state: &State,
        report: &mut Report,
    ) -> Result<(), FleetError> {
        let Some(secret) = state.secrets.get(address).and_then(|s| s.live.as_ref()) else {
            report.damage(path, "the log has no secret of this address");
            return Ok(());
        };
        let Some(bytes) = report.read(&self.store, path, SEALED_BYTES_MAX)? else { return Ok(()) };
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

    fn check_part(
        &self,
        path: &str,
        address: &Address,
        part: &Digest,
        state: &State,
        report: &mut Report,
    ) -> Result<(), FleetError> {
        let Some(bytes) = report.read(&self.store, path, PART_FILE_BYTES_MAX)? else { return Ok(()) };
        let is_live = |state: &State| state.live_secret(address).is_some_and(|live| live.parts.contains(part));
        if Digest::of(&bytes) != *part {
            report.damage(path, "it is not what its name says");
        } else if !self.logged_state().secrets.contains_key(address) {
            report.damage(path, "the log has no secret of this address");
        } else if !is_live(state) && !is_live(self.logged_state()) {
            report.note(path, "a part of a value that is not the newest; the next change of the secret removes it");
        }
        Ok(())
    }

    fn check_proposals(&self, files: &[(String, EntryKind)], report: &mut Report) -> Result<(), FleetError> {
        for (path, _) in
            files.iter().filter(|(p, k)| p.starts_with("proposals/") && *k == EntryKind::File && !is_temporary(p))
        {
            let parts: Vec<&str> = path.split('/').collect();
            let limit = REQUEST_BYTES_MAX.max(ENTRY_BYTES_MAX);
            let Some(bytes) = report.read(&self.store, path, limit)? else { continue };
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
    size > 0 && size.div_ceil(TILE_WIDTH) <= (files + BUNDLES_MISSING_MAX) as u64
}

/// The head that no log key has signed: the newest, unless the published one is not even in its past.
fn unsigned(store: &Store, newest: &'static str, size: u64) -> &'static str {
    let published = read_checkpoint(store).ok().filter(|(_, c)| newest == HEAD && c.size <= size);
    let in_past = published.is_none_or(|(_, c)| root_at(store, c.size, size).is_ok_and(|root| root == c.root));
    if in_past { newest } else { CHECKPOINT }
}

/// The file that a replay error is about; `newest` is the head that was replayed to.
fn object_of(error: &ReplayError, newest: &str) -> String {
    match error {
        ReplayError::Object {
            source: ObjectError::Missing(d) | ObjectError::Changed(d) | ObjectError::Unreadable(d, _),
            ..
        } => crate::store::object_path(d),
        // The entries hash to the root that the head names, so it is the log's name in it that is wrong.
        ReplayError::NoFleet(Void::OtherLog(_)) => newest.to_owned(),
        ReplayError::Openpgp { .. } | ReplayError::NoFleet(_) => "log/".to_owned(),
    }
}
