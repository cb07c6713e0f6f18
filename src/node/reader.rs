//! Reading several files of one generation.
//!
//! A path through the `current` link is followed anew for each file, so that a certificate may come from one generation and
//! its key from the next. Whoever opens the directory once, and its files below that, reads one generation or is told that it
//! is gone; then the next attempt reads a newer one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use zeroize::Zeroizing;

use super::generation::CURRENT;

/// How often a generation may go away while it is being read: each time another one was put in its place and acknowledged.
const ATTEMPTS: usize = 64;

/// One generation of a service's files, for reading.
#[derive(Debug)]
pub struct Reader {
    directory: OwnedFd,
}

/// Opens the generation that a service's directory (`/run/keys/nginx`) shows now.
///
/// # Errors
/// Those of the file system; [`io::ErrorKind::NotFound`] if nothing is delivered there.
pub fn open_generation(directory: &Path) -> io::Result<Reader> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, directory.join(CURRENT), flags, Mode::empty())?;
    Ok(Reader { directory })
}

impl Reader {
    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::NotFound`] if there is no such file, or the generation was removed.
    pub fn read(&self, name: &str, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        crate::policy::check_file_name(name).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.min(limit).saturating_add(1)));
        File::from(fd).take((limit as u64).saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
        }
        Ok(bytes)
    }
}

/// Reads files of one generation, each of at most `limit` bytes; where that is removed meanwhile, those of a newer one.
///
/// # Errors
/// Those of [`open_generation`] and [`Reader::read`].
pub fn read_together(directory: &Path, names: &[&str], limit: usize) -> io::Result<Vec<Zeroizing<Vec<u8>>>> {
    let mut attempt = 1;
    loop {
        let read = |reader: Reader| names.iter().map(|name| reader.read(name, limit)).collect();
        match open_generation(directory).and_then(read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}
