//! Files that are old or new, never torn, and on the platter before anybody is told.
//!
//! Two layers. [`Files`] is the handful of file-system calls that everything is made of; the real one and the simulated
//! one of the tests run the same code above it. [`Disk`] is what the rest uses: create-if-absent, replace, remove.
//!
//! ```text
//! create:   write .tmp-…   fsync it   link(2) to the name (fails if it exists)   unlink .tmp-…   fsync the directory
//! replace:  write .tmp-…   fsync it   rename(2) over the name                                    fsync the directory
//! ```
//! A crash at any point leaves the name old or new, and at most a `.tmp-…` beside it, which the next writer removes.
//! A failed fsync is never tried again as if nothing had happened: the page cache may have dropped what it could not
//! write, so the caller hears of it and the name is not touched.
#![allow(clippy::disallowed_methods, reason = "this is the module that the fence points to")]

mod real;
mod stream;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use real::{Access, RealFiles};
pub use stream::{NewFile, open_file};

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

/// The file-system calls, relative to a root that no path leaves: components are names, without `.` and `..`, and no
/// symbolic link is followed.
pub trait Files: Send + Sync {
    /// Reads a whole file of at most `limit` bytes; `None` if there is none.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::FileTooLarge`] beyond the limit.
    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>>;

    /// Names and kinds in a directory, sorted; empty if there is none. `""` is the root.
    ///
    /// # Errors
    /// Those of the file system.
    fn list(&self, directory: &str) -> io::Result<Vec<(String, EntryKind)>>;

    /// Creates a file that must not exist and writes it, without making it durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes a file's content durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync_file(&self, path: &str) -> io::Result<()>;

    /// Makes a directory's names durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;

    /// Gives a file a second name; `false` if that name exists.
    ///
    /// # Errors
    /// Those of the file system.
    fn link(&self, from: &str, to: &str) -> io::Result<bool>;

    /// Renames a file, replacing what was there.
    ///
    /// # Errors
    /// Those of the file system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; `false` if there was none.
    ///
    /// # Errors
    /// Those of the file system.
    fn unlink(&self, path: &str) -> io::Result<bool>;

    /// Creates a directory; `false` if it exists.
    ///
    /// # Errors
    /// Those of the file system.
    fn make_directory(&self, directory: &str) -> io::Result<bool>;

    /// Removes an empty directory; `false` if there is none or it is not empty.
    ///
    /// # Errors
    /// Those of the file system.
    fn remove_directory(&self, directory: &str) -> io::Result<bool>;

    /// Takes the root's lock if it is free; it is given back when the value is dropped, or the process dies.
    ///
    /// # Errors
    /// Those of the file system.
    fn try_lock(&self) -> io::Result<Option<Box<dyn Send>>>;

    /// The root, for messages.
    fn root(&self) -> String;
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

/// A directory with durable operations. Cheap to clone.
#[derive(Clone)]
pub struct Disk {
    files: Arc<dyn Files>,
    counter: Arc<AtomicU64>,
}

/// The prefix of temporary files.
const TEMPORARY: &str = ".tmp-";

impl Disk {
    /// A disk over these files.
    pub fn new(files: impl Files + 'static) -> Self {
        Self { files: Arc::new(files), counter: Arc::new(AtomicU64::new(0)) }
    }

    /// The root, for messages.
    pub fn root(&self) -> String {
        self.files.root()
    }

    fn context<T>(&self, doing: &'static str, path: &str, result: io::Result<T>) -> Result<T, DiskError> {
        result.map_err(|source| {
            let separator = if path.is_empty() { "" } else { "/" };
            DiskError {
                doing,
                path: crate::text::shown(&format!("{}{separator}{path}", self.root())).to_string(),
                source,
            }
        })
    }

    /// Reads a whole file of at most `limit` bytes; `None` if there is none.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, DiskError> {
        self.context("read", path, self.files.read(path, limit))
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
            for (name, kind) in self.context("list", &directory, self.files.list(&directory))? {
                let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
                match kind {
                    EntryKind::Directory => todo.push(path),
                    EntryKind::File | EntryKind::Other => found.push((path, kind)),
                }
            }
            if found.len() > crate::limits::LISTING_MAX {
                return self.context("list", &directory, Err(io::ErrorKind::FileTooLarge.into()));
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
        self.context("list", directory, self.files.list(directory))
    }

    /// Creates a file, durably, unless it exists. Of several writers exactly one gets [`Created::New`].
    ///
    /// # Errors
    /// [`DiskError`]; the name is then as it was.
    pub fn create(&self, path: &str, bytes: &[u8]) -> Result<Created, DiskError> {
        let temporary = self.write_temporary(path, bytes)?;
        let linked = self.context("create", path, self.files.link(&temporary, path));
        self.discard(&temporary);
        let created = if linked? { Created::New } else { Created::Existed };
        self.sync_parent(path)?;
        Ok(created)
    }

    /// Replaces a file, or creates it, durably and at once.
    ///
    /// # Errors
    /// [`DiskError`]; the file is then the old one, unless only the last step failed, when it is the new one.
    pub fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let temporary = self.write_temporary(path, bytes)?;
        if let Err(e) = self.context("replace", path, self.files.rename(&temporary, path)) {
            self.discard(&temporary);
            return Err(e);
        }
        self.sync_parent(path)
    }

    /// Moves a durable file to another name, replacing what was there.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.make_parents(to)?;
        self.context("move", from, self.files.rename(from, to))?;
        self.sync_parent(to)?;
        self.sync_parent(from)
    }

    /// Removes a file, durably; `false` if there was none.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn remove(&self, path: &str) -> Result<bool, DiskError> {
        let removed = self.context("remove", path, self.files.unlink(path))?;
        if removed {
            self.sync_parent(path)?;
        }
        Ok(removed)
    }

    /// Removes `directory` and the directories above it as far as they are empty. What is not is left alone.
    pub fn prune(&self, directory: &str) {
        let mut directory = directory;
        while !directory.is_empty() && self.files.remove_directory(directory).unwrap_or(false) {
            directory = parent(directory);
        }
    }

    /// Creates a directory with its parents.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn make_directory(&self, directory: &str) -> Result<(), DiskError> {
        let mut made = String::new();
        for name in directory.split('/').filter(|n| !n.is_empty()) {
            let above = made.clone();
            if !made.is_empty() {
                made.push('/');
            }
            made.push_str(name);
            if self.context("create", &made, self.files.make_directory(&made))? {
                self.context("sync", &above, self.files.sync_directory(&above))?;
            }
        }
        Ok(())
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
        let mut todo = vec![directory.to_owned()];
        while let Some(directory) = todo.pop() {
            self.context("sync", &directory, self.files.sync_directory(&directory))?;
            for (name, kind) in self.context("list", &directory, self.files.list(&directory))? {
                if kind == EntryKind::Directory {
                    todo.push(if directory.is_empty() { name } else { format!("{directory}/{name}") });
                }
            }
        }
        Ok(())
    }

    /// Leaves a mark in the root, durably: somebody is writing. `false` if there was one, so that whoever left it did not
    /// finish.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn mark(&self, name: &str) -> Result<bool, DiskError> {
        match self.files.write_new(name, b"") {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            result => {
                self.context("write", name, result)?;
                self.sync_parent(name)?;
                Ok(true)
            }
        }
    }

    /// Takes the mark away.
    pub fn unmark(&self, name: &str) {
        self.discard(name);
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn try_lock(&self) -> Result<Option<Box<dyn Send>>, DiskError> {
        self.context("lock", "", self.files.try_lock())
    }

    fn write_temporary(&self, path: &str, bytes: &[u8]) -> Result<String, DiskError> {
        self.make_parents(path)?;
        let directory = parent(path);
        let separator = if directory.is_empty() { "" } else { "/" };
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        // The process id keeps two processes apart, the counter two threads, the suffix this process and a dead one.
        let unique = std::process::id();
        let mut attempt = 0u32;
        let temporary = loop {
            let temporary = format!("{directory}{separator}{TEMPORARY}{unique}-{number}-{attempt}");
            match self.files.write_new(&temporary, bytes) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
                Err(e) => {
                    if e.kind() != io::ErrorKind::AlreadyExists {
                        self.discard(&temporary);
                    }
                    return self.context("write", path, Err(e));
                }
                Ok(()) => break temporary,
            }
        };
        if let Err(e) = self.files.sync_file(&temporary) {
            self.discard(&temporary);
            return self.context("write", path, Err(e));
        }
        Ok(temporary)
    }

    /// Removes a temporary file; if that fails, too, the next writer does.
    fn discard(&self, temporary: &str) {
        let _ = self.files.unlink(temporary);
    }

    fn make_parents(&self, path: &str) -> Result<(), DiskError> {
        self.make_directory(parent(path))
    }

    fn sync_parent(&self, path: &str) -> Result<(), DiskError> {
        let directory = parent(path);
        self.context("sync", directory, self.files.sync_directory(directory))
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({})", self.root())
    }
}

/// Whether the path is a temporary file's.
pub fn is_temporary(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with(TEMPORARY))
}

/// The directory of a path; empty for one in the root.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}
