//! A directory of a file system as a [`Backend`]: names change by link and rename, and are durable before anybody is told.
//!
//! ```text
//! create:   write .tmp-…   fsync it   link(2) to the name (fails if it exists)   unlink .tmp-…   fsync the directory
//! replace:  write .tmp-…   fsync it   rename(2) over the name                                    fsync the directory
//! ```
//! A crash at any point leaves the name old or new, and at most a `.tmp-…` beside it, which the next writer removes.
//! A failed fsync is never tried again as if nothing had happened: the page cache may have dropped what it could not
//! write, so the caller hears of it and the name is not touched.
#![allow(clippy::disallowed_methods, reason = "this is the module that the fence points to")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Backend, Created, DiskError, EntryKind, Reader, TEMPORARY, context, parent};

/// The file-system calls, relative to a root that no path leaves: components are names, without `.` and `..`, and no
/// symbolic link is followed.
pub trait Files: Send + Sync {
    /// Reads a whole file of at most `limit` bytes; `None` if there is none.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::FileTooLarge`] beyond the limit.
    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>>;

    /// Reads `length` bytes of a file from `offset` on, or as many as there are; `None` if there is none.
    ///
    /// # Errors
    /// Those of the file system.
    fn read_part(&self, path: &str, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(self.read(path, usize::MAX)?.map(|bytes| part(&bytes, offset, length)))
    }

    /// Opens a file to be read from beginning to end; `None` if there is none.
    ///
    /// # Errors
    /// Those of the file system.
    fn reader(&self, path: &str) -> io::Result<Option<Reader>> {
        Ok(self.read(path, usize::MAX)?.map(|bytes| (bytes.len() as u64, Box::new(io::Cursor::new(bytes)) as Box<_>)))
    }

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

/// A directory.
pub(super) struct Directory {
    files: Arc<dyn Files>,
    counter: AtomicU64,
}

impl Directory {
    pub(super) fn new(files: impl Files + 'static) -> Self {
        Self { files: Arc::new(files), counter: AtomicU64::new(0) }
    }

    fn context<T>(&self, doing: &'static str, path: &str, result: io::Result<T>) -> Result<T, DiskError> {
        context(&self.files.root(), doing, path, result)
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

/// The part of `bytes`, as far as it is there.
pub(super) fn part(bytes: &[u8], offset: u64, length: usize) -> Vec<u8> {
    let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    rest.get(..length).unwrap_or(rest).to_vec()
}

impl Backend for Directory {
    fn read_part(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, DiskError> {
        self.context("read", path, self.files.read_part(path, offset, length))
    }

    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, DiskError> {
        self.context("read", path, self.files.read(path, limit))
    }

    fn reader(&self, path: &str) -> Result<Option<Reader>, DiskError> {
        self.context("read", path, self.files.reader(path))
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, DiskError> {
        self.context("list", directory, self.files.list(directory))
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created, DiskError> {
        let temporary = self.write_temporary(path, bytes)?;
        let linked = self.context("create", path, self.files.link(&temporary, path));
        self.discard(&temporary);
        let created = if linked? { Created::New } else { Created::Existed };
        self.sync_parent(path)?;
        Ok(created)
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let temporary = self.write_temporary(path, bytes)?;
        if let Err(e) = self.context("replace", path, self.files.rename(&temporary, path)) {
            self.discard(&temporary);
            return Err(e);
        }
        self.sync_parent(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.make_parents(to)?;
        self.context("move", from, self.files.rename(from, to))?;
        self.sync_parent(to)?;
        self.sync_parent(from)
    }

    fn remove(&self, path: &str) -> Result<bool, DiskError> {
        let removed = self.context("remove", path, self.files.unlink(path))?;
        if removed {
            self.sync_parent(path)?;
        }
        Ok(removed)
    }

    fn prune(&self, directory: &str) {
        let mut directory = directory;
        while !directory.is_empty() && self.files.remove_directory(directory).unwrap_or(false) {
            directory = parent(directory);
        }
    }

    fn make_directory(&self, directory: &str) -> Result<(), DiskError> {
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

    fn settle(&self, directory: &str) -> Result<(), DiskError> {
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

    fn mark(&self, name: &str) -> Result<bool, DiskError> {
        match self.files.write_new(name, b"") {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            result => {
                self.context("write", name, result)?;
                self.sync_parent(name)?;
                Ok(true)
            }
        }
    }

    fn unmark(&self, name: &str) {
        self.discard(name);
    }

    fn try_lock(&self) -> Result<Option<Box<dyn Send>>, DiskError> {
        self.context("lock", "", self.files.try_lock())
    }

    /// Read, compared, renamed: nothing comes in between for whoever holds the lock.
    fn replace_if(&self, path: &str, before: Option<&[u8]>, bytes: &[u8]) -> Result<bool, DiskError> {
        let Some(before) = before else { return Ok(self.create(path, bytes)? == Created::New) };
        match self.files.read(path, before.len()) {
            Ok(Some(there)) if there == before => {}
            Ok(_) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => return Ok(false),
            Err(e) => return self.context("read", path, Err(e)),
        }
        self.replace(path, bytes).map(|()| true)
    }

    fn has_lock(&self) -> bool {
        true
    }

    fn root(&self) -> String {
        self.files.root()
    }
}
