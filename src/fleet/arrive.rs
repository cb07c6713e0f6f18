//! Letting what was brought from elsewhere join a keyring, once it has been verified there where it was laid down.
//! Effects in order, and what a crash after each leaves:
//!
//! 1. objects and sealed files — nothing refers to them; the next writer removes them, the next pull brings them again.
//! 2. commits, then tiles — the checkpoint still shows the old tree.
//! 3. `log/head`, then `log/checkpoint` — the new log is there; views are behind, which the writer's mark says, and
//!    whoever writes or pulls next makes right.
//! 4. the views, and the partial tiles that were outgrown — all is as it should be.

use std::collections::BTreeSet;

use super::views::MARK;
use super::{Fleet, FleetError};
use crate::digest::Digest;
use crate::disk::{Created, Disk};
use crate::limits::{
    CHECKPOINT_BYTES_MAX, COMMIT_BYTES_MAX, KEY_FILE_BYTES_MAX, PART_FILE_BYTES_MAX, SEALED_BYTES_MAX, STATE_BYTES_MAX,
    TILE_BYTES_MAX,
};
use crate::log::commit::Commit;
use crate::log::note::Note;
use crate::log::tile::TileId;
use crate::name::{Address, MemberName};
use crate::ssh::{Serial, SshCertificate};
use crate::state::{LiveSecret, State};
use crate::store::{CHECKPOINT, HEAD, Store, collect, issued_path, issued_serial, object_digest, staged_digest};

/// A sealed file, or a part of a large value, that the log has at an address, and who can read it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedHere {
    /// Its path in the keyring.
    pub path: String,
    /// The file.
    pub file: Digest,
    /// How large such a file may be, bytes.
    pub limit: usize,
    /// The readers.
    pub readers: Vec<MemberName>,
}

impl Fleet {
    /// The sealed files that this log has at its newest head, and at the published one while that is another.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn sealed_files(&self) -> Result<Vec<SealedHere>, FleetError> {
        let of = |state: &State| -> Vec<SealedHere> {
            let here = |path: String, file: Digest, limit: usize, secret: &LiveSecret| SealedHere {
                path,
                file,
                limit,
                readers: secret.readers.keys().cloned().collect(),
            };
            let of_one = |(address, secret): (&Address, &LiveSecret)| {
                let parts = secret.parts.iter();
                let parts = parts.map(|part| here(address.part_path(part), *part, PART_FILE_BYTES_MAX, secret));
                let own = here(address.path(), secret.file, SEALED_BYTES_MAX, secret);
                std::iter::once(own).chain(parts).collect::<Vec<_>>()
            };
            state.live_secrets().flat_map(of_one).collect()
        };
        let mut all = of(self.logged_state());
        if let Some(then) = self.then()? {
            all.extend(of(then.logged_state()));
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// The SSH certificates that are in force now, and are not among the objects: whose, and the path.
    pub fn issued_missing(&self) -> Vec<(MemberName, String)> {
        let (state, now) = (self.logged_state(), self.now());
        let wanted = state.issued.iter().filter(|(serial, issued)| {
            !state.revoked_serials.contains(*serial) && issued.certificate.fields().valid_before > now
        });
        let wanted = wanted.map(|(serial, issued)| (issued.member.clone(), issued_path(*serial)));
        wanted.filter(|(_, path)| !matches!(self.store.disk().read_part(path, 0, 0), Ok(Some(_)))).collect()
    }

    /// Whether these bytes are the SSH certificate with that serial, as its entry has decided it.
    pub fn is_issued(&self, serial: u64, bytes: &[u8]) -> bool {
        let text = std::str::from_utf8(bytes).ok().and_then(|t| t.strip_suffix('\n'));
        let certificate = text.and_then(|t| SshCertificate::parse(t).ok());
        match (certificate, self.logged_state().issued.get(&serial), Serial::new(serial)) {
            (Some(certificate), Some(issued), Some(serial)) => {
                certificate.verify_issued(&issued.certificate, serial).is_ok()
                    && format!("{}\n", certificate.to_line()).as_bytes() == bytes
            }
            _ => false,
        }
    }

    /// Whether a head has lines that are neither the log's nor a cosigner's whom the policy names; whose they claim to be.
    pub fn strange_signature(&self, note: &Note) -> Option<String> {
        self.signers().strange(note).map(|line| crate::text::shown(&line.name).to_string())
    }

    /// Whether a writer or a pull was interrupted in `keyring`, so that its views may be behind.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn was_interrupted(keyring: &Store) -> Result<bool, FleetError> {
        Ok(keyring.disk().read_part(MARK, 0, 0)?.is_some())
    }

    /// Lets what lies on `laid` join `keyring`. This fleet was opened over both of them, and so has verified it; `from` is how
    /// many entries the keyring has published. The caller holds the keyring's lock, under which it has seen that the
    /// keyring still has the head that this fleet has grown from.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn arrive(mut self, laid: &Disk, keyring: &Store, from: u64) -> Result<(), FleetError> {
        if let Some(backup) = self.restored()? {
            return Err(FleetError::Restored { size: backup.size });
        }
        let disk = keyring.disk();
        let clean = disk.mark(MARK)?;
        if !clean {
            disk.settle("")?;
        }
        let found: Vec<String> = laid.walk("")?.into_iter().map(|(path, _)| path).collect();
        let log = |path: &&String| {
            let below = path.strip_prefix("log/").unwrap_or_default();
            Commit::number(below).is_some() || TileId::parse(below).is_some()
        };
        let copy = |path: &str, limit: usize| -> Result<(), FleetError> {
            match laid.read(path, limit)? {
                Some(bytes) => Ok(disk.replace(path, &bytes)?),
                None => Ok(()),
            }
        };
        for path in found.iter().filter(|path| path.starts_with("objects/")) {
            let serial = issued_serial(path).is_some();
            if !serial && object_digest(path).is_none() && staged_digest(path).is_none() {
                continue;
            }
            let limit = if serial { KEY_FILE_BYTES_MAX } else { STATE_BYTES_MAX };
            let Some(bytes) = laid.read(path, limit)? else { continue };
            if disk.create(path, &bytes)? == Created::Existed && serial {
                disk.replace(path, &bytes)?;
            }
        }
        for path in found.iter().filter(|path| path.starts_with("log/commit/")).filter(log) {
            copy(path, COMMIT_BYTES_MAX)?;
        }
        for path in found.iter().filter(|path| path.starts_with("log/tile/")).filter(log) {
            copy(path, TILE_BYTES_MAX)?;
        }
        copy(HEAD, CHECKPOINT_BYTES_MAX)?;
        copy(CHECKPOINT, CHECKPOINT_BYTES_MAX)?;
        let sealed = found.iter().filter_map(|path| staged_digest(path)).collect();
        self.store = keyring.clone();
        self.settle_views(if clean { Some(from) } else { None }, &sealed)?;
        disk.unmark(MARK);
        Ok(())
    }

    /// Makes the views right from entry `from` on, or all of them, and removes what was outgrown.
    fn settle_views(&self, from: Option<u64>, sealed: &BTreeSet<Digest>) -> Result<(), FleetError> {
        if from.is_none() {
            self.tidy()?;
        }
        let settle = |fleet: &Self| {
            match from {
                Some(from) => fleet.refresh_views(from)?,
                None => fleet.refresh_all_views()?,
            }
            fleet.place_sealed(sealed)
        };
        let newest = self.head.as_ref().map_or(0, |head| head.checkpoint.size);
        let published = self.published.as_ref().map_or(0, |published| published.checkpoint.size);
        let size = match self.then()? {
            Some(then) => settle(&then).map(|()| published)?,
            None => settle(self).map(|()| newest)?,
        };
        self.remove_outgrown_head()?;
        collect(&self.store, from.unwrap_or(size), size);
        Ok(())
    }
}
