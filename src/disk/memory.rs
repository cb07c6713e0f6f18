//! An object store in memory: for tests, and for whoever keeps a keyring for as long as a process lives.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Bucket, Condition, Tag};

/// What lies in it: each object with the number of the write that made it.
#[derive(Debug, Default)]
struct Content {
    objects: HashMap<String, (u64, Arc<[u8]>)>,
    writes: u64,
}

/// An object store in memory. Its clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    content: Arc<Mutex<Content>>,
}

impl Memory {
    fn with<T>(&self, work: impl FnOnce(&mut Content) -> T) -> T {
        // Nothing below can panic half-way through a change.
        work(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Bucket for Memory {
    fn get(&self, key: &str, limit: usize) -> io::Result<Option<(Vec<u8>, Tag)>> {
        let found = self.with(|content| content.objects.get(key).cloned());
        let Some((version, bytes)) = found else { return Ok(None) };
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
        }
        Ok(Some((bytes.to_vec(), Tag(version.to_string()))))
    }

    /// In the order of the hash table, which is another each time.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        Ok(self.with(|content| content.objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect()))
    }

    fn put(&self, key: &str, bytes: &[u8], condition: &Condition) -> io::Result<bool> {
        Ok(self.with(|content| {
            let there = content.objects.get(key).map(|(version, _)| version.to_string());
            let holds = match condition {
                Condition::Always => true,
                Condition::Absent => there.is_none(),
                Condition::Unchanged(tag) => there.as_ref() == Some(&tag.0),
            };
            if holds {
                content.writes += 1;
                content.objects.insert(key.to_owned(), (content.writes, Arc::from(bytes)));
            }
            holds
        }))
    }

    fn delete(&self, key: &str) -> io::Result<bool> {
        Ok(self.with(|content| content.objects.remove(key).is_some()))
    }

    fn name(&self) -> String {
        "memory".to_owned()
    }
}
