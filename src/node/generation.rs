//! The directories that services read their secrets from.
//!
//! ```text
//! /run/keys/                     0751
//!   nginx/                       0751
//!     gen-7/  tls.pem            the files, with owner and mode
//!     gen-7.json                 what they are (no values), for the agent alone
//!     gen-8/  gen-8.json
//!     current -> gen-8
//!     settled                    8: the service was told of this one
//! ```
//! A generation is written as `.new-8`, which only the agent can enter; owner and mode of every file are right before it is
//! renamed, and it is renamed before `current` is. A crash after each step leaves: a `.new-…`, which the next start removes; a
//! generation that nobody is shown, which is removed, too; a generation that is shown and whose service was not told, which
//! `settled` tells, and which the next start goes on with.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use zeroize::Zeroizing;

use super::accounts::Ids;
use crate::agent::Manifest;
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::limits::MANIFEST_BYTES_MAX;
use crate::name::Label;

/// The link to the generation that is shown.
pub(super) const CURRENT: &str = "current";
const SETTLED: &str = "settled";
/// Everybody may pass through to what is theirs; nobody else lists what there is.
const PASSAGE: Mode = Mode::from_raw_mode(0o751);
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory with all services' directories.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    fd: OwnedFd,
}

/// One service's directory.
#[derive(Debug)]
pub struct ServiceDirectory {
    path: PathBuf,
    fd: OwnedFd,
    disk: Disk,
}

/// What lies in a service's directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The generation that is shown, with what it holds.
    pub current: Option<(u64, Manifest)>,
    /// The one that the service was last told of.
    pub settled: Option<u64>,
    /// All that are there.
    pub generations: Vec<u64>,
}

fn error(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> DiskError {
    DiskError { doing, path: crate::text::shown(&path.display().to_string()).to_string(), source: source.into() }
}

impl RunDirectory {
    /// Creates the directory if it is not there, and opens it. It has to be ours, and nobody else may write to it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn create(path: &Path) -> Result<Self, DiskError> {
        let is_new = RealFiles::open(path, Access::Public).is_err();
        let files = RealFiles::create(path, Access::Public).map_err(|e| error("create", path, e))?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| error("open", path, e))?;
        if is_new {
            rustix::fs::fchmod(&fd, PASSAGE).map_err(|e| error("create", path, e))?;
        }
        let (mode, owner) = files.permissions().map_err(|e| error("look at", path, e))?;
        let user = Ids::own().user;
        if owner != user || (mode & 0o022 != 0 && !is_new) {
            let problem =
                format!("it is user {owner}'s, with mode {mode:04o}; it has to be user {user}'s alone to write");
            return Err(error("use", path, io::Error::new(io::ErrorKind::PermissionDenied, problem)));
        }
        // What somebody calls it must not depend on where he stands.
        let path = path.canonicalize().map_err(|e| error("look at", path, e))?;
        Ok(Self { path, fd })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it lies in memory, and not on a disk.
    pub fn is_in_memory(&self) -> bool {
        /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
        const MAGIC: [u64; 2] = [0x0102_1994, 0x8584_58f6];
        rustix::fs::fstatfs(&self.fd).is_ok_and(|s| u64::try_from(s.f_type).is_ok_and(|t| MAGIC.contains(&t)))
    }

    /// The services that have a directory.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn services(&self) -> Result<Vec<Label>, DiskError> {
        let names = names(&self.fd).map_err(|e| error("list", &self.path, e))?;
        let mut found: Vec<Label> = names.iter().filter_map(|n| n.parse().ok()).collect();
        found.retain(|n| rustix::fs::openat(&self.fd, n.as_str(), DIRECTORY, Mode::empty()).is_ok());
        found.sort();
        Ok(found)
    }

    /// A service's directory, made if it is not there. What an interrupted agent left half done is removed.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn service(&self, name: &Label) -> Result<ServiceDirectory, DiskError> {
        let path = self.path.join(name.as_str());
        match rustix::fs::mkdirat(&self.fd, name.as_str(), PASSAGE) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(error("create", &path, e)),
        }
        let fd = rustix::fs::openat(&self.fd, name.as_str(), DIRECTORY, Mode::empty());
        let fd = fd.map_err(|e| error("open", &path, e))?;
        // Where nothing can be written any more, what lies there is served on.
        let there = rustix::fs::fstat(&fd).map_err(|e| error("open", &path, e))?;
        if Mode::from_raw_mode(there.st_mode & 0o7777) != PASSAGE {
            rustix::fs::fchmod(&fd, PASSAGE).map_err(|e| error("create", &path, e))?;
        }
        let files = RealFiles::open(&path, Access::Private).map_err(|e| error("open", &path, e))?;
        let service = ServiceDirectory { path, fd, disk: Disk::new(files) };
        service.tidy()?;
        Ok(service)
    }

    /// Takes a service's directory away, once nothing is in it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn remove(&self, service: ServiceDirectory) -> Result<(), DiskError> {
        let name = service.path.file_name().unwrap_or_default().to_owned();
        rustix::fs::unlinkat(&self.fd, &name, AtFlags::REMOVEDIR).map_err(|e| error("remove", &service.path, e))
    }
}

/// The names in a directory, sorted.
fn names(fd: &OwnedFd) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(fd)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn directory_name(generation: u64) -> String {
    format!("gen-{generation}")
}

fn manifest_name(generation: u64) -> String {
    format!("gen-{generation}.json")
}

fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("gen-")?;
    digits.parse().ok().filter(|n: &u64| n.to_string() == digits)
}

impl ServiceDirectory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a generation lies.
    pub fn path_of(&self, generation: u64) -> PathBuf {
        self.path.join(directory_name(generation))
    }

    fn error(&self, doing: &'static str, name: &str, source: impl Into<io::Error>) -> DiskError {
        error(doing, &self.path.join(name), source)
    }

    /// What is there.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn look(&self) -> Result<Found, DiskError> {
        let names = names(&self.fd).map_err(|e| self.error("list", "", e))?;
        let mut generations: Vec<u64> = names.iter().filter_map(|n| generation_of(n)).collect();
        generations.sort_unstable();
        let shown = match rustix::fs::readlinkat(&self.fd, CURRENT, Vec::new()) {
            Ok(target) => target.to_str().ok().and_then(generation_of).filter(|n| generations.contains(n)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => None,
            Err(e) => return Err(self.error("read", CURRENT, e)),
        };
        let current = match shown {
            None => None,
            // One that cannot be read counts as none: the next generation takes its place.
            Some(n) => self.manifest(n)?.map(|manifest| (n, manifest)),
        };
        let settled = self.disk.read(SETTLED, 64)?;
        let settled = settled.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim_end().parse().ok());
        Ok(Found { current, settled, generations })
    }

    fn manifest(&self, generation: u64) -> Result<Option<Manifest>, DiskError> {
        let bytes = self.disk.read(&manifest_name(generation), MANIFEST_BYTES_MAX)?;
        Ok(bytes.and_then(|b| Manifest::parse(&b).ok()))
    }

    /// Writes a generation, which nobody is shown yet. `values` are those of the manifest's files, in its order.
    ///
    /// # Errors
    /// [`DiskError`]; the next look finds nothing of it, or a generation that is not shown.
    pub fn stage(
        &self,
        generation: u64,
        manifest: &Manifest,
        values: &[Zeroizing<Vec<u8>>],
        ids: Ids,
    ) -> Result<(), DiskError> {
        let hidden = format!(".new-{generation}");
        self.discard(generation)?;
        rustix::fs::mkdirat(&self.fd, &hidden, Mode::from_raw_mode(0o700))
            .map_err(|e| self.error("create", &hidden, e))?;
        let directory = rustix::fs::openat(&self.fd, &hidden, DIRECTORY, Mode::empty());
        let directory = directory.map_err(|e| self.error("open", &hidden, e))?;
        for (file, value) in manifest.files.iter().zip(values) {
            write(&directory, &file.name, value, file.mode.bits(), ids)
                .map_err(|e| self.error("write", &format!("{hidden}/{}", file.name), e))?;
        }
        give(&directory, manifest.directory_mode(), ids).map_err(|e| self.error("write", &hidden, e))?;
        rustix::fs::fsync(&directory).map_err(|e| self.error("sync", &hidden, e))?;
        self.disk.replace(&manifest_name(generation), manifest.to_text().as_bytes())?;
        self.rename(&hidden, &directory_name(generation))
    }

    /// Shows a generation: from now on `current` is it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn show(&self, generation: u64) -> Result<(), DiskError> {
        let hidden = format!(".{CURRENT}-{generation}");
        match rustix::fs::symlinkat(directory_name(generation), &self.fd, &hidden) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(self.error("create", &hidden, e)),
        }
        self.rename(&hidden, CURRENT)
    }

    /// Notes that the service was told of a generation, and removes all but that and the one before it, which somebody may
    /// still be reading.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn settle(&self, generation: u64, before: Option<u64>) -> Result<(), DiskError> {
        self.disk.replace(SETTLED, format!("{generation}\n").as_bytes())?;
        for old in self.look()?.generations {
            if old != generation && Some(old) != before {
                self.discard(old)?;
            }
        }
        Ok(())
    }

    /// Removes a generation, also one that was not written to its end: where memory is short, it has to go at once.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn discard(&self, generation: u64) -> Result<(), DiskError> {
        self.remove_tree(&format!(".new-{generation}"))?;
        self.remove_tree(&directory_name(generation))?;
        self.disk.remove(&manifest_name(generation))?;
        Ok(())
    }

    /// Removes everything: the link first, so that nobody is shown a part.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn withdraw(&self) -> Result<(), DiskError> {
        match rustix::fs::unlinkat(&self.fd, CURRENT, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(self.error("remove", CURRENT, e)),
        }
        for generation in self.look()?.generations {
            self.discard(generation)?;
        }
        self.disk.remove(SETTLED)?;
        Ok(())
    }

    /// Removes what an interrupted agent has left.
    fn tidy(&self) -> Result<(), DiskError> {
        let names = names(&self.fd).map_err(|e| self.error("list", "", e))?;
        for name in names.iter().filter(|n| n.starts_with(".new-")) {
            self.remove_tree(name)?;
        }
        for name in names.iter().filter(|n| n.starts_with(".current-")) {
            let _ = rustix::fs::unlinkat(&self.fd, name.as_str(), AtFlags::empty());
        }
        let there: Vec<u64> = names.iter().filter_map(|n| generation_of(n)).collect();
        let manifests = names.iter().filter_map(|n| generation_of(n.strip_suffix(".json")?));
        for orphan in manifests.filter(|n| !there.contains(n)) {
            self.disk.remove(&manifest_name(orphan))?;
        }
        self.disk.remove_temporaries("")?;
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to).map_err(|e| self.error("rename", to, e))?;
        rustix::fs::fsync(&self.fd).map_err(|e| self.error("sync", "", e))
    }

    /// Removes a directory of files, if it is there. Values in memory are gone with their last reader; nothing is written
    /// over first, since whoever has a file open would read that.
    fn remove_tree(&self, name: &str) -> Result<(), DiskError> {
        let failed = |e: rustix::io::Errno| self.error("remove", name, e);
        let directory = match rustix::fs::openat(&self.fd, name, DIRECTORY, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            other => other.map_err(failed)?,
        };
        for file in names(&directory).map_err(|e| self.error("list", name, e))? {
            rustix::fs::unlinkat(&directory, file.as_str(), AtFlags::empty()).map_err(failed)?;
        }
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).map_err(failed)
    }
}

/// Writes a file that only we can read, and then gives it to its owner.
fn write(directory: &OwnedFd, name: &str, value: &[u8], mode: u32, ids: Ids) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(value)?;
    give(&file, mode, ids)?;
    Ok(rustix::fs::fsync(&file)?)
}

/// Owner first, then the bits: in between it is nobody's who should not have it.
fn give(file: impl std::os::fd::AsFd, mode: u32, ids: Ids) -> io::Result<()> {
    if ids != Ids::own() {
        rustix::fs::fchown(&file, Some(ids.uid()), Some(ids.gid()))?;
    }
    Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?)
}
