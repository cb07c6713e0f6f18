//! A disk on which somebody writes between two of our looks at it.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keys::disk::{Access, EntryKind, Files, RealFiles};

/// Real files that are changed just before one of the times that they are looked at.
pub(crate) struct Growing {
    files: RealFiles,
    left: Arc<AtomicUsize>,
    grow: Mutex<Box<dyn FnMut() + Send>>,
}

impl Growing {
    /// The directory, how many looks there are before somebody changes something, and the change. Once it is made, what is
    /// left is [`usize::MAX`].
    pub(crate) fn new(directory: &Path, left: &Arc<AtomicUsize>, grow: impl FnMut() + Send + 'static) -> Self {
        let files = RealFiles::open(directory, Access::Public).unwrap();
        Self { files, left: Arc::clone(left), grow: Mutex::new(Box::new(grow)) }
    }

    fn moment(&self) {
        let before = self.left.load(Ordering::Relaxed);
        if before < usize::MAX && self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            (self.grow.lock().unwrap())();
        }
    }
}

impl Files for Growing {
    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        self.moment();
        self.files.read(path, limit)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<(String, EntryKind)>> {
        self.moment();
        self.files.list(directory)
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.files.write_new(path, bytes)
    }

    fn sync_file(&self, path: &str) -> io::Result<()> {
        self.files.sync_file(path)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.files.sync_directory(directory)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<bool> {
        self.files.link(from, to)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<bool> {
        self.files.unlink(path)
    }

    fn make_directory(&self, directory: &str) -> io::Result<bool> {
        self.files.make_directory(directory)
    }

    fn remove_directory(&self, directory: &str) -> io::Result<bool> {
        self.files.remove_directory(directory)
    }

    fn try_lock(&self) -> io::Result<Option<Box<dyn Send>>> {
        self.files.try_lock()
    }

    fn root(&self) -> String {
        self.files.root()
    }
}
