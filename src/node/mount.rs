//! A file system in memory for the services' files, which is never written to swap where the kernel has that (tmpfs(5),
//! `noswap`, Linux 6.4).

use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

/// How large it may become.
const SIZE: &str = "64m";

/// What lies there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounted {
    /// A file system in memory that is not swapped.
    NoSwap,
    /// One in memory that may be swapped: the kernel does not have the other.
    Swappable,
    /// There was one already.
    Before,
}

/// Mounts it on a directory, unless something in memory is mounted right there already.
///
/// # Errors
/// Those of the system.
pub fn mount_in_memory(directory: &Path) -> io::Result<Mounted> {
    use rustix::fs::{stat, statfs};
    /// `TMPFS_MAGIC` of linux/magic.h.
    const MAGIC: u64 = 0x0102_1994;
    let above = directory.parent().unwrap_or(Path::new("/"));
    let is_its_own = stat(directory)?.st_dev != stat(above)?.st_dev;
    if is_its_own && u64::try_from(statfs(directory)?.f_type).is_ok_and(|t| t == MAGIC) {
        return Ok(Mounted::Before);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let with = |options: String| {
        // What is to be shown of it can hold no NUL.
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        mount("keys", directory, "tmpfs", flags, Some(options.as_c_str())).map_err(io::Error::from)
    };
    match with(format!("mode=0751,size={SIZE},noswap")) {
        Ok(()) => Ok(Mounted::NoSwap),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            with(format!("mode=0751,size={SIZE}")).map(|()| Mounted::Swappable)
        }
        Err(e) => Err(e),
    }
}
