//! A directory for one run, in memory where that is possible, and gone at its end. What a run that was killed has left, the
//! next one removes: whoever lives holds a lock (`flock`) on its directory, and the system gives a dead one's back.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use super::context::shown;
use super::exit::CliError;

/// Where memory is a file system.
const MEMORY: &str = "/dev/shm";
/// How a file system says that it is one in memory (Linux, magic.h).
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// What the names begin with; the process's id follows.
const PREFIXES: [&str; 2] = ["keys-drill-", "keys-edit-"];
/// What the name of a directory begins with that is left for somebody to look at.
const KEPT: &str = "keys-kept-";

/// The directory. It is removed when this is dropped.
pub(super) struct Scratch {
    pub path: PathBuf,
    /// Whether nothing of it comes to a disk.
    pub memory: bool,
    _lock: OwnedFd,
}

impl Scratch {
    /// In memory, else where temporary files lie.
    pub(super) fn for_drill() -> Result<Self, CliError> {
        let (memory, elsewhere) = (Path::new(MEMORY), std::env::temp_dir());
        sweep(memory);
        sweep(&elsewhere);
        let name = format!("keys-drill-{}", std::process::id());
        match made(&memory.join(&name)) {
            Ok(lock) => Ok(Self { path: memory.join(name), memory: true, _lock: lock }),
            Err(_) => {
                let path = elsewhere.join(name);
                let lock = made(&path).map_err(|e| CliError::failed(format!("cannot make {}: {e}", shown(&path))))?;
                Ok(Self { path, memory: false, _lock: lock })
            }
        }
    }

    /// In memory, or not at all.
    pub(super) fn for_edit() -> Result<Self, CliError> {
        let memory = Path::new(MEMORY);
        sweep(memory);
        let path = memory.join(format!("keys-edit-{}", std::process::id()));
        let is_memory = rustix::fs::statfs(memory).is_ok_and(|s| s.f_type == TMPFS_MAGIC);
        let no = |e: &dyn std::fmt::Display| {
            CliError::failed(format!("cannot make a directory in memory, below {MEMORY}: {e}"))
                .hint("a value is edited nowhere else; 'keys open' and 'keys seal' work with pipes")
        };
        if !is_memory {
            return Err(no(&"it is no tmpfs"));
        }
        let lock = made(&path).map_err(|e| no(&e))?;
        Ok(Self { path, memory: true, _lock: lock })
    }

    /// Leaves the directory to whoever runs this, under another name; gives that.
    pub(super) fn keep(mut self) -> std::io::Result<PathBuf> {
        let kept = (0..1000).map(|n| self.path.with_file_name(format!("{KEPT}{}-{n}", std::process::id())));
        let kept = kept.into_iter().find(|p| !p.exists()).ok_or(std::io::ErrorKind::AlreadyExists)?;
        std::fs::rename(&self.path, &kept)?;
        self.path = PathBuf::new();
        Ok(kept)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes a directory of one's own and locks it.
fn made(path: &Path) -> std::io::Result<OwnedFd> {
    for _ in 0..3 {
        DirBuilder::new().mode(0o700).create(path)?;
        let lock = directory(path)?;
        // Between the two somebody may have taken it for a dead one's.
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && directory(path).is_ok() {
            return Ok(lock);
        }
    }
    Err(std::io::ErrorKind::ResourceBusy.into())
}

fn directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// Removes the directories of runs that are dead. What is not ours, or is in use, is passed over.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|n| PREFIXES.iter().find_map(|p| n.strip_prefix(p)));
        let is_ours = id.is_some_and(|id| id.parse::<u32>().is_ok());
        let Some(lock) = directory(&entry.path()).ok().filter(|_| is_ours) else { continue };
        let own = rustix::fs::fstat(&lock).is_ok_and(|s| s.st_uid == rustix::process::geteuid().as_raw());
        if own && rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
