//! The log's heads, line by line: every signature in them is the log's or that of a cosigner whom the policy names, and
//! what cosigners have left is about this log's own past.

use std::collections::BTreeSet;

use super::inspect::Report;
use super::{Fleet, FleetError};
use crate::digest::Digest;
use crate::disk::EntryKind;
use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::log::checkpoint::Checkpoint;
use crate::log::cosign::CosignerKey;
use crate::log::note::{Note, SignatureLine, VerifierKey};
use crate::log::tile::tiles_of;
use crate::store::{CHECKPOINT, HEAD, SignedHead, StoreError, root_at};

/// Whose lines a head may have.
pub(super) struct Signers {
    log: Vec<VerifierKey>,
    cosigners: Vec<CosignerKey>,
}

impl Signers {
    fn is_logs(&self, note: &Note, line: &SignatureLine) -> bool {
        let alone = Note { text: note.text.clone(), signatures: vec![line.clone()] };
        self.log.iter().any(|key| alone.is_signed_by(key))
    }

    /// The first line that is nobody's.
    pub(super) fn strange<'n>(&self, note: &'n Note) -> Option<&'n SignatureLine> {
        let is_cosigners = |line: &SignatureLine| self.cosigners.iter().any(|key| key.time(&note.text, line).is_some());
        note.signatures.iter().find(|line| !self.is_logs(note, line) && !is_cosigners(line))
    }
}

fn nobodys(line: &SignatureLine) -> String {
    let name = crate::text::shown(&line.name);
    format!("its line of {name} is no signature by the log's key or by a cosigner that the policy names")
}

impl Fleet {
    /// Whose lines the heads of this log may have.
    pub(super) fn signers(&self) -> Signers {
        let now = self.logged_state().policy.policy.fleet.publication.as_ref();
        let then = self.published().and_then(|p| p.publication.as_ref());
        let cosigners = now.into_iter().chain(then).flat_map(|p| &p.cosigners).map(|c| c.key.clone()).collect();
        Signers { log: self.every_log_key(), cosigners }
    }

    /// Checks `log/checkpoint`, `log/head` and everything under `log/cosignatures/`. The tiles have been checked before.
    pub(super) fn check_heads(&self, files: &[(String, EntryKind)], report: &mut Report) -> Result<(), FleetError> {
        let signers = self.signers();
        for (path, _) in files {
            let left_by = path.strip_prefix("log/cosignatures/").and_then(Digest::parse);
            if left_by.is_none() && ![CHECKPOINT, HEAD].contains(&path.as_str()) {
                continue;
            }
            let Some(bytes) = report.read(&self.store, path, CHECKPOINT_BYTES_MAX)? else { continue };
            let note = Note::parse(&bytes).ok();
            let Some(head) = note.and_then(|n| Checkpoint::parse(&n.text).map(|c| (n, c))) else {
                report.damage(path, "it is not a signed checkpoint");
                continue;
            };
            if let Some(problem) = self.out_of_place(&head, &signers)? {
                report.damage(path, problem);
            } else if let Some(name) = left_by {
                check_cosignature(path, &name, &head.0, &signers, report);
            } else if let Some(line) = signers.strange(&head.0) {
                report.damage(path, nobodys(line));
            }
        }
        self.check_published_tiles(files, report);
        Ok(())
    }

    /// Whoever reads the published head without our code asks for the tiles of just its size.
    fn check_published_tiles(&self, files: &[(String, EntryKind)], report: &mut Report) {
        let size = self.published().filter(|_| self.waiting() > 0).map_or(0, |p| p.checkpoint.size);
        let there: BTreeSet<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        for path in tiles_of(size).into_iter().map(|id| format!("log/{id}")) {
            if !there.contains(path.as_str()) {
                report.note(&path, "it is missing; a wider one serves, until what waits is published");
            }
        }
    }

    /// What is wrong with a head as such; none if the log's key has signed it and it lies in the past of this log.
    fn out_of_place(&self, (note, checkpoint): &SignedHead, signers: &Signers) -> Result<Option<String>, FleetError> {
        let size = self.head().map_or(0, |h| h.checkpoint.size);
        if !note.signatures.iter().any(|line| signers.is_logs(note, line)) {
            return Ok(Some("the log's key has not signed it".to_owned()));
        }
        if checkpoint.size > size {
            return Ok(Some(format!(
                "it is the head of {} entries, and the log has {size}: log/head is missing, or the keyring is an older one",
                checkpoint.size
            )));
        }
        match root_at(&self.store, checkpoint.size, size) {
            Ok(root) if root == checkpoint.root => Ok(None),
            Ok(_) => Ok(Some(format!("FORK: the log's key has signed {} other entries with it", checkpoint.size))),
            Err(StoreError::Damaged { path, problem }) => Ok(Some(format!("{path}: {problem}"))),
            Err(e) => Err(e.into()),
        }
    }
}

/// Checks what the cosigner whose vkey has the digest `name` has left.
fn check_cosignature(path: &str, name: &Digest, note: &Note, signers: &Signers, report: &mut Report) {
    let Some(key) = signers.cosigners.iter().find(|key| Digest::of(key.to_string().as_bytes()) == *name) else {
        report.note(path, "the policy names no such cosigner, so it counts for nothing; it may be removed");
        return;
    };
    let shown = crate::text::shown(key.name());
    if key.newest(note).is_none() {
        report.damage(path, format!("it has no good cosignature of {shown}"));
    } else if let Some(line) = signers.strange(note) {
        report.damage(path, nobodys(line));
    }
}
