//! The real file system. Every path is walked component by component from the root's descriptor, with `O_NOFOLLOW` at
//! each step, or by the kernel with the same promise (`openat2(2)`): a planted symbolic link, wherever it points, is an
//! error and never followed.
#![allow(clippy::disallowed_methods, reason = "this is the module that the fence points to")]

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{EntryKind, Files, Reader};

/// Who may read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody whom the umask lets: files 0644, directories 0755.
    Public,
    /// Everybody, whatever the umask says: files 0644; directories as with `Public`.
    Everybody,
    /// The owner alone: files 0600, directories 0700, from birth.
    Private,
}

/// Files below a directory.
#[derive(Debug)]
pub struct RealFiles {
    root: OwnedFd,
    path: PathBuf,
    access: Access,
}

impl RealFiles {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path, access: Access) -> io::Result<Self> {
        let root = rustix::fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root, path: path.to_owned(), access })
    }

    /// Creates the directory, with its parents, if it does not exist, and opens it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path, access: Access) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mode = if access == Access::Private { 0o700 } else { 0o755 };
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        Self::open(path, access)
    }

    /// The permission bits and the owner's user id of the root.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn permissions(&self) -> io::Result<(u32, u32)> {
        let stat = rustix::fs::fstat(&self.root)?;
        Ok((stat.st_mode & 0o7777, stat.st_uid))
    }

    fn modes(&self) -> (Mode, Mode) {
        match self.access {
            Access::Public | Access::Everybody => (Mode::from_raw_mode(0o644), Mode::from_raw_mode(0o755)),
            Access::Private => (Mode::from_raw_mode(0o600), Mode::from_raw_mode(0o700)),
        }
    }

    /// The descriptor of a directory, and the last component's name.
    fn split<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        check_name(name)?;
        Ok((self.directory(directory)?, name))
    }

    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        for name in path.split('/').filter(|_| !path.is_empty()) {
            check_name(name)?;
            at = rustix::fs::openat(
                &at,
                name,
                OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
        }
        Ok(at)
    }
}

/// A component of a path: no separator, no `.` or `..`, nothing a name of ours cannot hold.
fn check_name(name: &str) -> io::Result<()> {
    let bad = name.is_empty() || name == "." || name == ".." || name.len() > 255 || name.contains(['/', '\0', '\\']);
    if bad { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file name")) } else { Ok(()) }
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl RealFiles {
    /// Opens a regular file for reading, and gives its length; `None` if there is none.
    fn open_file(&self, path: &str) -> io::Result<Option<(File, u64)>> {
        // NONBLOCK: a FIFO planted under the name must not hang us; it is no regular file and refused below.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        path.split('/').try_for_each(check_name)?;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), within) {
            // Kernels before 5.6, and containers that do not know the call.
            Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN | Errno::INVAL) => {
                let Some((directory, name)) = absent(self.split(path))? else { return Ok(None) };
                rustix::fs::openat(&directory, name, flags, Mode::empty())
            }
            opened => opened,
        };
        let Some(fd) = absent(opened.map_err(io::Error::from))? else { return Ok(None) };
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Some((File::from(fd), u64::try_from(stat.st_size).unwrap_or_default())))
    }
}

impl Files for RealFiles {
    fn read_part(&self, path: &str, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let Some((mut file, _)) = self.open_file(path)? else { return Ok(None) };
        file.seek(io::SeekFrom::Start(offset))?;
        let mut bytes = Vec::with_capacity(length.min(1 << 20));
        file.take(length as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn reader(&self, path: &str) -> io::Result<Option<Reader>> {
        let Some((file, length)) = self.open_file(path)? else { return Ok(None) };
        Ok(Some((length, Box::new(file))))
    }

    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let Some((file, _)) = self.open_file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take((limit as u64).saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<(String, EntryKind)>> {
        let Some(fd) = absent(self.directory(directory))? else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            let name = String::from_utf8_lossy(bytes).into_owned();
            // A name that nothing here can have been given is shown, and not followed.
            if name.as_bytes() != bytes || check_name(&name).is_err() {
                entries.push((name, EntryKind::Other));
                continue;
            }
            let file_type = match entry.file_type() {
                FileType::Unknown => FileType::from_raw_mode(
                    rustix::fs::statat(&fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?.st_mode,
                ),
                known => known,
            };
            let kind = match file_type {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            entries.push((name, kind));
        }
        entries.sort();
        Ok(entries)
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let (directory, name) = self.split(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&directory, name, flags, self.modes().0)?;
        if self.access == Access::Everybody {
            rustix::fs::fchmod(&fd, self.modes().0)?;
        }
        File::from(fd).write_all(bytes)
    }

    fn sync_file(&self, path: &str) -> io::Result<()> {
        let (directory, name) = self.split(path)?;
        let fd =
            rustix::fs::openat(&directory, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::fs::fsync(fd)?)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.directory(directory)?)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<bool> {
        let ((from_directory, from), (to_directory, to)) = (self.split(from)?, self.split(to)?);
        match rustix::fs::linkat(&from_directory, from, &to_directory, to, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let ((from_directory, from), (to_directory, to)) = (self.split(from)?, self.split(to)?);
        Ok(rustix::fs::renameat(&from_directory, from, &to_directory, to)?)
    }

    fn unlink(&self, path: &str) -> io::Result<bool> {
        let Some((directory, name)) = absent(self.split(path))? else { return Ok(false) };
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn make_directory(&self, directory: &str) -> io::Result<bool> {
        let (above, name) = self.split(directory)?;
        match rustix::fs::mkdirat(&above, name, self.modes().1) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn remove_directory(&self, directory: &str) -> io::Result<bool> {
        let Some((above, name)) = absent(self.split(directory))? else { return Ok(false) };
        match rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn try_lock(&self) -> io::Result<Option<Box<dyn Send>>> {
        // A descriptor of its own: flock belongs to the open file description, and the kernel drops it with the process.
        let fd = rustix::fs::openat(
            self.root.as_fd(),
            ".",
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(fd))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn root(&self) -> String {
        self.path.display().to_string()
    }
}
