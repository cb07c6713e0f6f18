//! A disk that fills up: from the call that is named on nothing can be changed any more, as if the writer had died there.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keys::disk::{Access, EntryKind, Files, RealFiles};

/// Real files, of which only so many calls change anything.
pub(crate) struct Faulty {
    files: RealFiles,
    left: Arc<AtomicUsize>,
}

impl Faulty {
    /// The directory, and how many calls that change something will succeed.
    pub(crate) fn new(directory: &Path, left: &Arc<AtomicUsize>) -> Self {
        Self { files: RealFiles::open(directory, Access::Public).unwrap(), left: Arc::clone(left) }
    }

    fn spend(&self) -> io::Result<()> {
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        spent.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

impl Files for Faulty {
    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        self.files.read(path, limit)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<(String, EntryKind)>> {
        self.files.list(directory)
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.spend()?;
        self.files.write_new(path, bytes)
    }

    fn sync_file(&self, path: &str) -> io::Result<()> {
        self.files.sync_file(path)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.files.sync_directory(directory)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<bool> {
        self.spend()?;
        self.files.link(from, to)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.spend()?;
        self.files.rename(from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<bool> {
        self.spend()?;
        self.files.unlink(path)
    }

    fn make_directory(&self, directory: &str) -> io::Result<bool> {
        self.spend()?;
        self.files.make_directory(directory)
    }

    fn remove_directory(&self, directory: &str) -> io::Result<bool> {
        self.spend()?;
        self.files.remove_directory(directory)
    }

    fn try_lock(&self) -> io::Result<Option<Box<dyn Send>>> {
        self.files.try_lock()
    }

    fn root(&self) -> String {
        self.files.root()
    }
}
