//! A keyring on a disk: where things lie, reading the log, and appending to it.
//!
//! ```text
//! keyring/
//!   log/checkpoint  log/tile/…  log/commit/…     the log, see `crate::log`
//!   log/head  log/cosignatures/…                 what waits for cosigners, and what they have left
//!   objects/ab/cdef…                             attachments by SHA-256
//!   objects/ssh/00000000000000000042             an SSH certificate by serial: its entry determines it
//!   objects/sealed/<64 digits>                   a sealed file on its way to its address
//!   certs/ab/cdef…                               certificates by fingerprint (openpgp-cert-d), as of the newest entry
//!   sealed/…                                     secrets by address, as of the newest entry; parts of large ones beside them
//!   proposals/<id>/body  proposals/<id>/<sha256>.sig
//! ```
//! `certs/` and `sealed/` are views: what they hold follows from the log and `objects/`, and is made again from there
//! if a writer was interrupted. An attachment is durable before the entry that refers to it is committed; a sealed file
//! is then moved from `objects/sealed/` to its address. It has a directory of its own because it is moved: naming an object of
//! another kind as one's sealed file must not take that object away.

mod append;
mod grow;
mod prove;
mod public;
mod read;

use crate::digest::Digest;
use crate::disk::{Created, Disk, DiskError};
use crate::limits::{OBJECT_BYTES_MAX, PART_FILE_BYTES_MAX, SEALED_BYTES_MAX};
use crate::log::cosign::CosignerKey;
use crate::name::Address;
use crate::openpgp::Fingerprint;
use crate::state::{ObjectError, Objects};

pub use append::{Appended, Target, append, append_signed, collect, complete, finish, pending, sweep};
pub use grow::Growing;
pub use prove::{prove, prove_all};
pub use public::Public;
pub use read::{
    Bundle, CHECKPOINT, HEAD, Head, LogReader, SignedHead, consistency_proof, edge_at, read_checkpoint, read_hashes,
    read_newest, root_at,
};

/// Why a keyring cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is no log here.
    #[error("{0} has no keyring: log/checkpoint is missing")]
    NoKeyring(String),
    /// A file that has to be there is not.
    #[error("{0} is missing")]
    Missing(String),
    /// A file is not what it has to be.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The log is not that long.
    #[error("the log has {size} entries, numbered from 0; there is no entry {index}")]
    NoEntry {
        /// The entry that was asked for.
        index: u64,
        /// How many there are.
        size: u64,
    },
    /// Somebody else's commit came first.
    #[error("somebody else appended to the log first")]
    Raced,
}

/// The path of an object: `objects/ab/cdef…`.
pub fn object_path(digest: &Digest) -> String {
    let hex = digest.to_string();
    let (two, rest) = hex.split_at_checked(2).unwrap_or((&hex, ""));
    format!("objects/{two}/{rest}")
}

/// The digest that an object's path names.
pub fn object_digest(path: &str) -> Option<Digest> {
    let (two, rest) = path.strip_prefix("objects/")?.split_once('/')?;
    Digest::parse(&format!("{two}{rest}")).filter(|d| object_path(d) == path)
}

/// The path of a sealed file that is not yet at its address: `objects/sealed/<64 digits>`.
pub fn staged_path(file: &Digest) -> String {
    format!("objects/sealed/{file}")
}

/// The digest that such a path names.
pub fn staged_digest(path: &str) -> Option<Digest> {
    Digest::parse(path.strip_prefix("objects/sealed/")?)
}

/// The path of an issued SSH certificate: `objects/ssh/<20 digits>`.
pub fn issued_path(serial: u64) -> String {
    format!("objects/ssh/{serial:020}")
}

/// The serial that such a path names.
pub fn issued_serial(path: &str) -> Option<u64> {
    path.strip_prefix("objects/ssh/")?.parse().ok().filter(|&s| issued_path(s) == path)
}

/// The path of a request that waits to be granted: `proposals/requests/<64 digits>.request`.
pub fn request_path(request: &Digest) -> String {
    format!("proposals/requests/{request}.request")
}

/// The path of a certificate: `certs/ab/cdef…`.
pub fn certificate_path(fingerprint: &Fingerprint) -> String {
    format!("certs/{}", crate::openpgp::directory_path(fingerprint))
}

/// Where a cosigner leaves its cosignature: `log/cosignatures/<64 digits>`, by the digest of its vkey.
pub fn cosignature_path(key: &CosignerKey) -> String {
    format!("log/cosignatures/{}", Digest::of(key.to_string().as_bytes()))
}

/// The mark of a keyring that came out of a backup: the checkpoint's text of the backup. While it is there nothing is changed.
pub const RESTORED: &str = ".restored";

/// A keyring.
#[derive(Debug, Clone)]
pub struct Store {
    disk: Disk,
}

impl Store {
    /// The keyring in this directory.
    pub fn new(disk: Disk) -> Self {
        Self { disk }
    }

    /// The disk it lies on.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Reads a file of at most `limit` bytes; `None` if there is none. What is larger, or no regular file, is no answer
    /// that the disk refuses, but damage: no writer leaves such a file.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
        use std::io::ErrorKind::{FileTooLarge, InvalidInput};
        self.disk.read(path, limit).map_err(|e| {
            let link = e.source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
            if link || matches!(e.source.kind(), FileTooLarge | InvalidInput) {
                StoreError::Damaged { path: path.to_owned(), problem: e.source.to_string() }
            } else {
                e.into()
            }
        })
    }

    /// Writes an attachment, durably; gives its digest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stage(&self, bytes: &[u8]) -> Result<(Digest, Created), StoreError> {
        let digest = Digest::of(bytes);
        Ok((digest, self.disk.create(&object_path(&digest), bytes)?))
    }

    /// Reads a secret's file: from its address or, if a writer has not yet moved it there, from where it waits. The digest
    /// decides, not the place.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sealed(&self, address: &Address, file: &Digest) -> Result<Vec<u8>, StoreError> {
        self.placed(address.path(), file, SEALED_BYTES_MAX)
    }

    /// Reads a part of a large value, from beside its sealed file or from where it waits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn part(&self, address: &Address, part: &Digest) -> Result<Vec<u8>, StoreError> {
        self.placed(address.part_path(part), part, PART_FILE_BYTES_MAX)
    }

    fn placed(&self, path: String, file: &Digest, limit: usize) -> Result<Vec<u8>, StoreError> {
        let is_right = |bytes: &Vec<u8>| Digest::of(bytes) == *file;
        let at_address = match self.read(&path, limit)? {
            Some(bytes) if is_right(&bytes) => return Ok(bytes),
            found => found.is_some(),
        };
        match self.staged(file)? {
            Some(bytes) => Ok(bytes),
            // Between our two looks a writer may have moved it.
            None => match self.read(&path, limit)? {
                Some(bytes) if is_right(&bytes) => Ok(bytes),
                _ if at_address => {
                    Err(StoreError::Damaged { path, problem: "it is not the version that the log has".to_owned() })
                }
                _ => Err(StoreError::Missing(path)),
            },
        }
    }

    /// Writes a sealed file to where it waits to be moved to its address, durably.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn stage_sealed(&self, file: &Digest, bytes: &[u8]) -> Result<Created, StoreError> {
        Ok(self.disk.create(&staged_path(file), bytes)?)
    }
}

impl Store {
    /// The object with this digest, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn object_within(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>, ObjectError> {
        match self.disk.read(&object_path(digest), limit) {
            Ok(Some(bytes)) if Digest::of(&bytes) == *digest => Ok(bytes),
            Ok(Some(_)) => Err(ObjectError::Changed(*digest)),
            Ok(None) => Err(ObjectError::Missing(*digest)),
            Err(e) => Err(ObjectError::Unreadable(*digest, e.to_string())),
        }
    }

    /// The sealed file with this digest that waits to be moved to its address, if it is there and whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn staged(&self, file: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read(&staged_path(file), SEALED_BYTES_MAX)?.filter(|bytes| Digest::of(bytes) == *file))
    }
}

impl Objects for Store {
    fn object(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError> {
        self.object_within(digest, OBJECT_BYTES_MAX)
    }
}
