//! Files too large to be held in memory, outside any keyring or home: one that is written from beginning to end and has
//! its name only once it is whole, and one that is read.
//!
//! ```text
//! create:   NAME.partial, 0600, locked     write …     fsync it   link(2) to NAME   unlink NAME.partial   fsync the directory
//! ```
//! A crash leaves NAME as it was, and at most a NAME.partial, which the next writer of that name begins anew.
#![allow(clippy::disallowed_methods, reason = "this is the module that the fence points to")]

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::DiskError;

/// A file that is being written. Dropped before [`NewFile::commit`] it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    directory: OwnedFd,
    path: PathBuf,
    name: String,
    failed: Option<io::Error>,
    committed: bool,
}

fn error(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> DiskError {
    DiskError { doing, path: crate::text::shown(&path.display().to_string()).to_string(), source: source.into() }
}

impl NewFile {
    /// Begins a file that must not exist, readable by its owner alone.
    ///
    /// # Errors
    /// [`DiskError`], also if it exists or somebody else is writing it.
    pub fn create(path: &Path) -> Result<Self, DiskError> {
        let name = path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        let name =
            name.ok_or_else(|| error("create", path, io::Error::new(io::ErrorKind::InvalidInput, "not a name")))?;
        let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, above, flags, Mode::empty()).map_err(|e| error("open", above, e))?;
        if rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(error("create", path, io::ErrorKind::AlreadyExists));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let partial = partial(&name);
        let fd = rustix::fs::openat(&directory, &partial, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| error("create", path, e))?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(error(
                    "create",
                    path,
                    io::Error::new(io::ErrorKind::ResourceBusy, "another is writing it"),
                ));
            }
            other => other.map_err(|e| error("lock", path, e))?,
        }
        let new = Self { file: fd.into(), directory, path: path.to_owned(), name, failed: None, committed: false };
        // What somebody who died has left, and whose it was, does not count.
        rustix::fs::fchmod(&new.file, Mode::from_raw_mode(0o600))
            .and_then(|()| rustix::fs::ftruncate(&new.file, 0))
            .map_err(|e| error("create", path, e))?;
        Ok(new)
    }

    /// Checks that the file system has room for so many bytes.
    ///
    /// # Errors
    /// [`DiskError`], for which [`DiskError::is_full`] holds if it has not.
    pub fn need_room(&self, bytes: u64) -> Result<(), DiskError> {
        let stat = rustix::fs::fstatvfs(&self.file).map_err(|e| error("look at", &self.path, e))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= bytes {
            return Ok(());
        }
        let problem = format!("it needs about {bytes} bytes, and {free} are free");
        Err(error("write", &self.path, io::Error::new(io::ErrorKind::StorageFull, problem)))
    }

    /// What went wrong with writing, if it did: whoever writes through others may have been told something vaguer.
    pub fn failure(&mut self) -> Option<DiskError> {
        self.failed.take().map(|source| error("write", &self.path, source))
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// [`DiskError`]; unless only the last step failed there is then no such file.
    pub fn commit(mut self) -> Result<(), DiskError> {
        let failed = |e: rustix::io::Errno| error("create", &self.path, e);
        rustix::fs::fsync(&self.file).map_err(|e| error("sync", &self.path, e))?;
        let partial = partial(&self.name);
        rustix::fs::linkat(&self.directory, &partial, &self.directory, &self.name, AtFlags::empty()).map_err(failed)?;
        rustix::fs::unlinkat(&self.directory, &partial, AtFlags::empty()).map_err(failed)?;
        self.committed = true;
        rustix::fs::fsync(&self.directory).map_err(|e| error("sync", &self.path, e))
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &result {
            self.failed
                .get_or_insert_with(|| e.raw_os_error().map_or_else(|| e.kind().into(), io::Error::from_raw_os_error));
        }
        result
    }
}

fn partial(name: &str) -> String {
    format!("{name}.partial")
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.committed {
            let _ = rustix::fs::unlinkat(&self.directory, partial(&self.name), AtFlags::empty());
        }
    }
}

/// A file without a name in this directory, for its owner alone: it is gone when it is closed, also by a crash.
///
/// # Errors
/// [`DiskError`].
pub fn unnamed(directory: &Path) -> Result<File, DiskError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let failed = |e| error("create a file in", directory, e);
    match rustix::fs::openat(CWD, directory, flags | OFlags::TMPFILE, mode) {
        Ok(fd) => Ok(fd.into()),
        // Not every file system has them: one that loses its name at once.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let path = directory.join(format!(".tmp-{}-spool", std::process::id()));
            let fd = rustix::fs::openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL, mode).map_err(failed)?;
            rustix::fs::unlinkat(CWD, &path, AtFlags::empty()).map_err(failed)?;
            Ok(fd.into())
        }
        Err(e) => Err(failed(e)),
    }
}

/// Opens a regular file that the user named, for reading.
///
/// # Errors
/// [`DiskError`].
pub fn open_file(path: &Path) -> Result<File, DiskError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| error("read", path, e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| error("read", path, e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(error("read", path, io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    Ok(fd.into())
}
