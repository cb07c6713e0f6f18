//! Files that are old or new, never torn, and durable before anybody is told.
//!
//! [`Disk`] is what the rest uses: read, list, create-if-absent, replace, replace-if-unchanged, remove. It stands on one of
//! two things. [`Files`] is the handful of file-system calls that a directory is made of; the real one and the simulated
//! one of the tests run the same code above it. [`Bucket`] is an object store: each call is whole and durable by itself,
//! and there is neither rename nor lock.
//!
//! A directory has a lock ([`Disk::try_lock`]), under which one writer at a time may also tidy up after a dead one. A
//! bucket has none: what must not be lost is won by create-if-absent or replaced only as long as nobody else has replaced
//! it, and nothing is removed that somebody may be about to name ([`Disk::has_lock`]).
#![allow(clippy::disallowed_methods, reason = "this is the module that the fence points to")]

mod bucket;
#[cfg(feature = "store-object")]
mod cloud;
mod cover;
mod files;
mod memory;
mod overlay;
mod probe;
mod real;
mod stream;

use std::io;
use std::sync::Arc;

pub use bucket::{Bucket, Condition, Tag};
#[cfg(feature = "store-object")]
pub use cloud::Cloud;
pub use cover::Cover;
pub use files::Files;
pub use memory::Memory;
pub use probe::{Probed, Probing, probe};
pub use real::{Access, RealFiles};
pub use stream::{NewFile, open_file, unnamed};

/// What a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a symbolic link, a socket, a device. Never followed, never read.
    Other,
}

/// A file operation that failed, with what it was about.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {source}")]
#[non_exhaustive]
pub struct DiskError {
    /// What was being done.
    pub doing: &'static str,
    /// The path, with its root, made safe to show.
    pub path: String,
    /// What the system says.
    pub source: io::Error,
}

impl DiskError {
    /// Whether the disk is full (or a quota is).
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether permission is lacking, or the file system is read-only.
    pub fn is_denied(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    }
}

/// Whether a create-if-absent created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The file is new, and durable.
    New,
    /// It was there before and was not touched.
    Existed,
}

/// What a disk stands on.
trait Backend: Send + Sync {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, DiskError>;
    fn read_part(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, DiskError>;
    fn reader(&self, path: &str) -> Result<Option<Reader>, DiskError>;
    fn list(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, DiskError>;
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created, DiskError>;
    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DiskError>;
    fn replace_if(&self, path: &str, before: Option<&[u8]>, bytes: &[u8]) -> Result<bool, DiskError>;
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    fn remove(&self, path: &str) -> Result<bool, DiskError>;
    fn prune(&self, directory: &str);
    fn make_directory(&self, directory: &str) -> Result<(), DiskError>;
    fn settle(&self, directory: &str) -> Result<(), DiskError>;
    fn mark(&self, name: &str) -> Result<bool, DiskError>;
    fn unmark(&self, name: &str);
    fn try_lock(&self) -> Result<Option<Box<dyn Send>>, DiskError>;
    fn has_lock(&self) -> bool;
    fn root(&self) -> String;
}

/// A directory, or a bucket, with durable operations. Cheap to clone.
#[derive(Clone)]
pub struct Disk {
    backend: Arc<dyn Backend>,
}

/// A file that is read from beginning to end, and how many bytes it has. It stays the one that was opened, whatever takes its
/// place meanwhile.
pub type Reader = (u64, Box<dyn io::Read + Send>);

/// The prefix of temporary files.
const TEMPORARY: &str = ".tmp-";

impl Disk {
    /// A disk over these files.
    pub fn new(files: impl Files + 'static) -> Self {
        Self { backend: Arc::new(files::Directory::new(files)) }
    }

    /// A disk over an object store.
    pub fn of_bucket(bucket: impl Bucket + 'static) -> Self {
        Self { backend: Arc::new(bucket::Objects::new(bucket)) }
    }

    /// This disk over another one: what is not here is read there, and what is written is written here.
    pub fn over(&self, lower: &Self) -> Self {
        Self { backend: Arc::new(overlay::Overlay { upper: self.clone(), lower: lower.clone() }) }
    }

    /// This disk with some of its files closed: they are opened as they are read, and closed before they are written.
    pub fn covered(&self, cover: Arc<dyn Cover>) -> Self {
        Self { backend: Arc::new(cover::Covered { inner: self.clone(), cover }) }
    }

    /// The root, for messages.
    pub fn root(&self) -> String {
        self.backend.root()
    }

    /// Whether there is a lock. Without one others may be writing at any moment: nobody can tell what a dead writer has
    /// left from what a live one is about to use.
    pub fn has_lock(&self) -> bool {
        self.backend.has_lock()
    }

    /// Reads a whole file of at most `limit` bytes; `None` if there is none.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, DiskError> {
        self.backend.read(path, limit)
    }

    /// Reads `length` bytes of a file from `offset` on, or as many as there are; `None` if there is none.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn read_part(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, DiskError> {
        self.backend.read_part(path, offset, length)
    }

    /// Opens a file to be read from beginning to end; `None` if there is none.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn reader(&self, path: &str) -> Result<Option<Reader>, DiskError> {
        self.backend.reader(path)
    }

    /// Every file below `directory`, with its path from the root, sorted; directories are walked, other things listed
    /// with their kind.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn walk(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, DiskError> {
        let mut found = Vec::new();
        let mut todo = vec![directory.to_owned()];
        while let Some(directory) = todo.pop() {
            for (name, kind) in self.list(&directory)? {
                let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
                match kind {
                    EntryKind::Directory => todo.push(path),
                    EntryKind::File | EntryKind::Other => found.push((path, kind)),
                }
            }
            if found.len() > crate::limits::LISTING_MAX {
                return context(&self.root(), "list", &directory, Err(io::ErrorKind::FileTooLarge.into()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Names and kinds in one directory, sorted.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn list(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, DiskError> {
        self.backend.list(directory)
    }

    /// Creates a file, durably, unless it exists. Of several writers exactly one gets [`Created::New`].
    ///
    /// # Errors
    /// [`DiskError`]; the name is then as it was.
    pub fn create(&self, path: &str, bytes: &[u8]) -> Result<Created, DiskError> {
        self.backend.create(path, bytes)
    }

    /// Replaces a file, or creates it, durably and at once.
    ///
    /// # Errors
    /// [`DiskError`]; the file is then the old one, unless only the last step failed, when it is the new one.
    pub fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.backend.replace(path, bytes)
    }

    /// Replaces a file whose content is `before`, or creates it where there is none and `before` is; `false`, and nothing
    /// done, if it is another by now. In a directory only under the lock: there the two steps are not one.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn replace_if(&self, path: &str, before: Option<&[u8]>, bytes: &[u8]) -> Result<bool, DiskError> {
        self.backend.replace_if(path, before, bytes)
    }

    /// Moves a durable file to another name, replacing what was there.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.backend.rename(from, to)
    }

    /// Removes a file, durably; `false` if there was none.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn remove(&self, path: &str) -> Result<bool, DiskError> {
        self.backend.remove(path)
    }

    /// Removes `directory` and the directories above it as far as they are empty. What is not is left alone.
    pub fn prune(&self, directory: &str) {
        self.backend.prune(directory)
    }

    /// Creates a directory with its parents.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn make_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.backend.make_directory(directory)
    }

    /// Removes what interrupted writers left in `directory`. Only under the lock: another writer's would go, too.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn remove_temporaries(&self, directory: &str) -> Result<usize, DiskError> {
        let mut removed = 0;
        for (path, kind) in self.walk(directory)? {
            if kind == EntryKind::File && is_temporary(&path) {
                removed += usize::from(self.remove(&path)?);
            }
        }
        Ok(removed)
    }

    /// Makes every name in `directory` and below durable: a writer that was killed between naming a file and syncing its
    /// directory has left a name that a power cut may still take away, and that nobody may build on until then. Contents
    /// are durable before they are named.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn settle(&self, directory: &str) -> Result<(), DiskError> {
        self.backend.settle(directory)
    }

    /// Leaves a mark in the root, durably: somebody is writing. `false` if there was one, so that whoever left it did not
    /// finish.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn mark(&self, name: &str) -> Result<bool, DiskError> {
        self.backend.mark(name)
    }

    /// Takes the mark away.
    pub fn unmark(&self, name: &str) {
        self.backend.unmark(name)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn try_lock(&self) -> Result<Option<Box<dyn Send>>, DiskError> {
        self.backend.try_lock()
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({})", self.root())
    }
}

/// Whether this names an object store, rather than a directory.
pub fn is_address(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| ["s3", "az", "gs"].contains(&scheme))
}

/// Whether the path is a temporary file's.
pub fn is_temporary(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with(TEMPORARY))
}

/// An error with what it was about.
fn context<T>(root: &str, doing: &'static str, path: &str, result: io::Result<T>) -> Result<T, DiskError> {
    result.map_err(|source| {
        let separator = if path.is_empty() { "" } else { "/" };
        DiskError { doing, path: crate::text::shown(&format!("{root}{separator}{path}")).to_string(), source }
    })
}

/// The directory of a path; empty for one in the root.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}
