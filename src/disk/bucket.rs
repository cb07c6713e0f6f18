//! An object store as a [`Backend`]: whole objects under keys. What a directory does by link and rename, conditional
//! writes do here (`If-None-Match: *` and `If-Match` of HTTP, RFC 9110, section 13.1, which the stores of the large clouds
//! have). There are no directories, and there is no lock.

use std::collections::BTreeMap;
use std::io;

use super::files::part;
use super::{Backend, Created, DiskError, EntryKind, Reader, context};

/// What names one version of an object: its entity tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub String);

/// Under which condition an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// Only if there is none.
    Absent,
    /// Only if it is this version.
    Unchanged(Tag),
}

/// An object store. Each call happens whole or not at all, and what it did is durable and seen by everybody once it has
/// returned. A call that fails may have happened.
pub trait Bucket: Send + Sync {
    /// Reads an object of at most `limit` bytes, and which version it is; `None` if there is none.
    ///
    /// # Errors
    /// Those of the store; [`io::ErrorKind::FileTooLarge`] beyond the limit.
    fn get(&self, key: &str, limit: usize) -> io::Result<Option<(Vec<u8>, Tag)>>;

    /// Reads `length` bytes of an object from `offset` on, or as many as there are; `None` if there is none.
    ///
    /// # Errors
    /// Those of the store.
    fn get_part(&self, key: &str, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get(key, usize::MAX)?.map(|(bytes, _)| part(&bytes, offset, length)))
    }

    /// Every key that begins with `prefix`, in any order.
    ///
    /// # Errors
    /// Those of the store.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>>;

    /// What lies in one directory, that is below a prefix up to the next slash, in any order.
    ///
    /// # Errors
    /// Those of the store.
    fn directory(&self, directory: &str) -> io::Result<Vec<(String, EntryKind)>> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let keys = self.list(&prefix)?;
        let below = keys.iter().filter_map(|key| key.strip_prefix(&prefix));
        let names: BTreeMap<String, EntryKind> = below
            .map(|rest| match rest.split_once('/') {
                Some((name, _)) => (name.to_owned(), EntryKind::Directory),
                None => (rest.to_owned(), EntryKind::File),
            })
            .collect();
        Ok(names.into_iter().collect())
    }

    /// Writes an object; `false`, and nothing done, if the condition does not hold.
    ///
    /// # Errors
    /// Those of the store.
    fn put(&self, key: &str, bytes: &[u8], condition: &Condition) -> io::Result<bool>;

    /// Removes an object; `false` if there was none.
    ///
    /// # Errors
    /// Those of the store.
    fn delete(&self, key: &str) -> io::Result<bool>;

    /// Its name, for messages.
    fn name(&self) -> String;
}

/// A bucket.
pub(super) struct Objects<B> {
    bucket: B,
}

impl<B: Bucket> Objects<B> {
    pub(super) fn new(bucket: B) -> Self {
        Self { bucket }
    }

    fn context<T>(&self, doing: &'static str, path: &str, result: io::Result<T>) -> Result<T, DiskError> {
        context(&self.bucket.name(), doing, path, result)
    }
}

impl<B: Bucket> Backend for Objects<B> {
    fn read_part(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, DiskError> {
        self.context("read", path, self.bucket.get_part(path, offset, length))
    }

    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.context("read", path, self.bucket.get(path, limit))?.map(|(bytes, _)| bytes))
    }

    fn reader(&self, path: &str) -> Result<Option<Reader>, DiskError> {
        let found = self.read(path, usize::MAX)?;
        Ok(found.map(|bytes| (bytes.len() as u64, Box::new(io::Cursor::new(bytes)) as Box<_>)))
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, DiskError> {
        let names = self.context("list", directory, self.bucket.directory(directory))?;
        Ok(names.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created, DiskError> {
        let created = self.context("create", path, self.bucket.put(path, bytes, &Condition::Absent))?;
        Ok(if created { Created::New } else { Created::Existed })
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.context("replace", path, self.bucket.put(path, bytes, &Condition::Always)).map(drop)
    }

    fn replace_if(&self, path: &str, before: Option<&[u8]>, bytes: &[u8]) -> Result<bool, DiskError> {
        let condition = match before {
            None => Condition::Absent,
            Some(before) => match self.bucket.get(path, before.len()) {
                Ok(Some((there, tag))) if there == before => Condition::Unchanged(tag),
                Ok(_) => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::FileTooLarge => return Ok(false),
                Err(e) => return self.context("read", path, Err(e)),
            },
        };
        self.context("replace", path, self.bucket.put(path, bytes, &condition))
    }

    /// Copied, then removed where it was: in between it is in both places.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let found = self.context("read", from, self.bucket.get(from, usize::MAX))?;
        let Some((bytes, _)) = found else { return self.context("move", from, Err(io::ErrorKind::NotFound.into())) };
        self.replace(to, &bytes)?;
        self.remove(from).map(drop)
    }

    fn remove(&self, path: &str) -> Result<bool, DiskError> {
        self.context("remove", path, self.bucket.delete(path))
    }

    fn prune(&self, _: &str) {}

    fn make_directory(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }

    fn settle(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }

    fn mark(&self, _: &str) -> Result<bool, DiskError> {
        Ok(true)
    }

    fn unmark(&self, _: &str) {}

    fn try_lock(&self) -> Result<Option<Box<dyn Send>>, DiskError> {
        Ok(Some(Box::new(())))
    }

    fn has_lock(&self) -> bool {
        false
    }

    fn root(&self) -> String {
        self.bucket.name()
    }
}
