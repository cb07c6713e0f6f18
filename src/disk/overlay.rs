//! One disk over another: what is not on the upper one is read from the lower one, which is never written to. So a keyring
//! can be looked at as it would be with files that have not joined it yet.

use std::collections::BTreeMap;

use super::{Backend, Created, Disk, DiskError, EntryKind, Reader};

/// The upper disk over the lower one.
pub(super) struct Overlay {
    pub(super) upper: Disk,
    pub(super) lower: Disk,
}

impl Backend for Overlay {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, DiskError> {
        match self.upper.read(path, limit)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.lower.read(path, limit),
        }
    }

    fn read_part(&self, path: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>, DiskError> {
        match self.upper.read_part(path, offset, length)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.lower.read_part(path, offset, length),
        }
    }

    fn reader(&self, path: &str) -> Result<Option<Reader>, DiskError> {
        match self.upper.reader(path)? {
            Some(reader) => Ok(Some(reader)),
            None => self.lower.reader(path),
        }
    }

    fn list(&self, directory: &str) -> Result<Vec<(String, EntryKind)>, DiskError> {
        let mut all: BTreeMap<String, EntryKind> = self.lower.list(directory)?.into_iter().collect();
        all.extend(self.upper.list(directory)?);
        Ok(all.into_iter().collect())
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created, DiskError> {
        match self.lower.read_part(path, 0, 0)? {
            Some(_) => Ok(Created::Existed),
            None => self.upper.create(path, bytes),
        }
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.upper.replace(path, bytes)
    }

    fn replace_if(&self, path: &str, before: Option<&[u8]>, bytes: &[u8]) -> Result<bool, DiskError> {
        let there = self.read_part(path, 0, before.map_or(0, <[u8]>::len).saturating_add(1))?;
        if there.as_deref() != before {
            return Ok(false);
        }
        self.upper.replace(path, bytes).map(|()| true)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.upper.rename(from, to)
    }

    /// Only what lies on the upper disk can go; what is below shows again.
    fn remove(&self, path: &str) -> Result<bool, DiskError> {
        self.upper.remove(path)
    }

    fn prune(&self, directory: &str) {
        self.upper.prune(directory);
    }

    fn make_directory(&self, directory: &str) -> Result<(), DiskError> {
        self.upper.make_directory(directory)
    }

    fn settle(&self, directory: &str) -> Result<(), DiskError> {
        self.upper.settle(directory)
    }

    fn mark(&self, name: &str) -> Result<bool, DiskError> {
        self.upper.mark(name)
    }

    fn unmark(&self, name: &str) {
        self.upper.unmark(name);
    }

    fn try_lock(&self) -> Result<Option<Box<dyn Send>>, DiskError> {
        self.upper.try_lock()
    }

    fn has_lock(&self) -> bool {
        self.upper.has_lock()
    }

    /// Messages name the place that files are read from in the end.
    fn root(&self) -> String {
        self.lower.root()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    #[test]
    fn the_upper_disk_hides_the_lower_one_and_the_lower_one_is_never_written() {
        let (upper, lower) = (Disk::of_bucket(Memory::default()), Disk::of_bucket(Memory::default()));
        lower.replace("log/checkpoint", b"old").unwrap();
        lower.replace("objects/ab", b"there").unwrap();
        let over = upper.over(&lower);
        let read = |disk: &Disk, path: &str| disk.read(path, 100).unwrap().map(|b| String::from_utf8(b).unwrap());
        assert_eq!(read(&over, "log/checkpoint").as_deref(), Some("old"));
        assert_eq!(over.create("objects/ab", b"mine").unwrap(), Created::Existed);
        assert_eq!(over.create("objects/cd", b"new").unwrap(), Created::New);
        assert!(!over.replace_if("log/checkpoint", Some(b"other"), b"new").unwrap());
        assert!(!over.replace_if("log/checkpoint", Some(b"ol"), b"new").unwrap());
        assert!(over.replace_if("log/checkpoint", Some(b"old"), b"new").unwrap());
        assert_eq!(read(&over, "log/checkpoint").as_deref(), Some("new"));
        assert_eq!(over.read_part("log/checkpoint", 1, 1).unwrap().as_deref(), Some(&b"e"[..]));
        assert_eq!(over.read_part("objects/ab", 1, 2).unwrap().as_deref(), Some(&b"he"[..]));
        let names: Vec<String> = over.list("objects").unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["ab", "cd"]);
        assert_eq!((read(&lower, "log/checkpoint").as_deref(), read(&lower, "objects/cd")), (Some("old"), None));
        assert!(over.remove("log/checkpoint").unwrap());
        assert_eq!(read(&over, "log/checkpoint").as_deref(), Some("old"), "what is below shows again");
    }
}
