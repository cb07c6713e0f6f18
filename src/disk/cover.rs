//! A disk some of whose files lie on another one closed: what is written is closed first, what is read is opened. Whoever
//! uses it notices nothing. Files that were there before and are not closed yet are read as they are.

use std::io;
use std::sync::Arc;

use super::files::part;
use super::{Backend, Created, Disk, DiskError, EntryKind, Reader, context};

/// How many bytes longer a closed file may be than what is in it.
const OVERHEAD_MAX: usize = 64;

/// What closes files and opens them.
pub trait Cover: Send + Sync {
    /// Whether the file at `path` lies closed.
    fn covers(&self, path: &str) -> bool;

    /// Closes what is to lie at `path`.
    ///
    /// # Errors
    /// It cannot be closed.
    fn close(&self, path: &str, bytes: &[u8]) -> io::Result<Vec<u8>>;

    /// Opens what lies at `path`; what is not closed is given back as it is.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&self, path: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>>;
}

/// A disk with its cover.
pub(super) struct Covered {
    pub(super) inner: Disk,
    pub(super) cover: Arc<dyn Cover>,
}

impl Covered {
    /// What is to lie at `path`, closed if it has to be.
    fn closed(&self, path: &str, bytes: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        let closed = self.cover.covers(path).then(|| self.cover.close(path, bytes)).transpose();
        context(&self.inner.root(), "close", path, closed)
    }
}

impl Backend for Covered {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, DiskError> {
        if !self.cover.covers(path) {
            return self.inner.read(path, limit);
        }
        let Some(bytes) = self.inner.read(path, limit.saturating_add(OVERHEAD_MAX))? else { return Ok(None) };
        let opened = self.cover.open(path, bytes).and_then(|opened| match opened.len() > limit {
            true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes"))),
            false => Ok(opened),
        });
        context(&self.inner.root(), "open", path, opened).map(Some)
    }

    fn read_part(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, DiskError> {
        if !self.cover.covers(path) {
            return self.inner.read_part(path, offset, length);
        }
        Ok(self.read(path, usize::MAX)?.map(|bytes| part(&bytes, offset, length)))
    }

    fn reader(&self, path: &str) -> Result<Option<Reader>, DiskError> {
        if !self.cover.covers(path) {
            return self.inner.reader(path);
        }
        let opened = self.read(path, usize::MAX)?;
        Ok(opened.map(|bytes| (bytes.len() as u64, Box::new(io::Cursor::new(bytes)) as Box<_>)))
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, DiskError> {
        self.inner.list(directory)
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created, DiskError> {
        let closed = self.closed(path, bytes)?;
        self.inner.create(path, closed.as_deref().unwrap_or(bytes))
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let closed = self.closed(path, bytes)?;
        self.inner.replace(path, closed.as_deref().unwrap_or(bytes))
    }

    fn replace_if(&self, path: &str, before: Option<&[u8]>, bytes: &[u8]) -> Result<bool, DiskError> {
        if !self.cover.covers(path) {
            return self.inner.replace_if(path, before, bytes);
        }
        // No two closed files are the same: what is compared is what is in them, and what is replaced is what was read.
        let there = self.inner.read(path, usize::MAX)?;
        let opened = there.clone().map(|bytes| self.cover.open(path, bytes)).transpose();
        if context(&self.inner.root(), "open", path, opened)?.as_deref() != before {
            return Ok(false);
        }
        let closed = self.closed(path, bytes)?;
        self.inner.replace_if(path, there.as_deref(), closed.as_deref().unwrap_or(bytes))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        if !self.cover.covers(from) && !self.cover.covers(to) {
            return self.inner.rename(from, to);
        }
        // A closed file is closed for its place.
        let Some(bytes) = self.read(from, usize::MAX)? else {
            return context(&self.inner.root(), "rename", from, Err(io::ErrorKind::NotFound.into()));
        };
        self.replace(to, &bytes)?;
        self.remove(from).map(drop)
    }

    fn remove(&self, path: &str) -> Result<bool, DiskError> {
        self.inner.remove(path)
    }

    fn prune(&self, directory: &str) {
        self.inner.prune(directory);
    }

    fn make_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.inner.make_directory(directory)
    }

    fn settle(&self, directory: &str) -> Result<(), DiskError> {
        self.inner.settle(directory)
    }

    fn mark(&self, name: &str) -> Result<bool, DiskError> {
        self.inner.mark(name)
    }

    fn unmark(&self, name: &str) {
        self.inner.unmark(name);
    }

    fn try_lock(&self) -> Result<Option<Box<dyn Send>>, DiskError> {
        self.inner.try_lock()
    }

    fn has_lock(&self) -> bool {
        self.inner.has_lock()
    }

    fn root(&self) -> String {
        self.inner.root()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    /// Closes what lies below `in/` by turning its bits over.
    struct Turned;

    impl Cover for Turned {
        fn covers(&self, path: &str) -> bool {
            path.starts_with("in/")
        }

        fn close(&self, path: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
            Ok([b"!", path.as_bytes(), b"!", &bytes.iter().map(|b| !b).collect::<Vec<_>>()].concat())
        }

        fn open(&self, path: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
            if bytes.first() != Some(&b'!') {
                return Ok(bytes);
            }
            let closed = bytes.strip_prefix([b"!", path.as_bytes(), b"!"].concat().as_slice());
            let opened = closed.map(|rest| rest.iter().map(|b| !b).collect());
            opened.ok_or_else(|| io::Error::other("it was closed for another place"))
        }
    }

    #[test]
    fn what_is_covered_lies_closed_and_is_read_open() {
        let bare = Disk::of_bucket(Memory::default());
        bare.replace("in/old", b"plain").unwrap();
        let disk = bare.covered(Arc::new(Turned));
        let there =
            |disk: &Disk, path: &str| disk.read(path, 100).unwrap().map(|b| String::from_utf8_lossy(&b).into_owned());
        assert_eq!(there(&disk, "in/old").as_deref(), Some("plain"), "what was there before");
        assert_eq!(disk.create("in/key", b"secret").unwrap(), Created::New);
        assert_eq!(disk.create("in/key", b"other").unwrap(), Created::Existed);
        disk.replace("out/key", b"public").unwrap();
        assert_eq!(
            (there(&disk, "in/key").as_deref(), there(&disk, "out/key").as_deref()),
            (Some("secret"), Some("public"))
        );
        assert!(!there(&bare, "in/key").unwrap().contains("secret"));
        assert_eq!(there(&bare, "out/key").as_deref(), Some("public"));
        assert_eq!(disk.read_part("in/key", 2, 3).unwrap().as_deref(), Some(&b"cre"[..]));
        assert_eq!(disk.reader("in/key").unwrap().map(|(length, _)| length), Some(6));
        assert!(
            disk.read("in/key", 5).is_err() && disk.read("in/key", 6).is_ok(),
            "the limit is that of what is in it"
        );
        assert!(!disk.replace_if("in/key", Some(b"other"), b"new").unwrap());
        assert!(disk.replace_if("in/key", Some(b"secret"), b"new").unwrap());
        disk.rename("in/key", "in/name").unwrap();
        assert_eq!((there(&disk, "in/key"), there(&disk, "in/name").as_deref()), (None, Some("new")));
        bare.rename("in/name", "in/swapped").unwrap();
        assert!(disk.read("in/swapped", 100).is_err(), "one file is not taken for another");
    }
}
