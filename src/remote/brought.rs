//! Where files from a mirror are laid down until they are known to be right. What an interrupted pull has laid down is looked
//! at again and need not be brought again.
#![allow(
    clippy::disallowed_methods,
    reason = "how long a mirror may take is measured by the clock that only runs forward"
)]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::MirrorError;
use super::mirror::Mirror;
use crate::digest::Digest;
use crate::disk::Disk;

/// Files that are brought at one time.
const AT_ONCE: usize = 4;

/// What is brought from one mirror.
pub(super) struct Brought<'a> {
    mirror: &'a dyn Mirror,
    /// Where it is laid down.
    pub(super) laid: &'a Disk,
    begun: Instant,
    patience: Duration,
    files: AtomicUsize,
    bytes: AtomicU64,
}

/// A file that is wanted, which its digest names.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Where it is laid down, below the keyring.
    pub path: String,
    /// Where the mirror may have it.
    pub at: Vec<String>,
    pub digest: Digest,
    pub limit: usize,
}

impl<'a> Brought<'a> {
    pub(super) fn new(mirror: &'a dyn Mirror, laid: &'a Disk, patience: Duration) -> Self {
        Self { mirror, laid, begun: Instant::now(), patience, files: AtomicUsize::new(0), bytes: AtomicU64::new(0) }
    }

    /// The mirror's address.
    pub(super) fn name(&self) -> String {
        self.mirror.name()
    }

    /// How many files, and bytes, the mirror has sent.
    pub(super) fn sent(&self) -> (usize, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// How long the mirror still has.
    pub(super) fn left(&self) -> Result<Duration, MirrorError> {
        match self.patience.checked_sub(self.begun.elapsed()) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(MirrorError::Late { seconds: self.patience.as_secs() }),
        }
    }

    /// Asks the mirror for a file of the keyring.
    pub(super) fn ask(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, MirrorError> {
        let found = self.mirror.get(&format!("keyring/{path}"), limit, self.left()?)?;
        if let Some(bytes) = &found {
            self.files.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// The file that is laid down at `path`, if it is right; otherwise the mirror's, which is laid down if it is right. What is
    /// right, `check` says.
    pub(super) fn file<T>(
        &self,
        path: &str,
        limit: usize,
        mut check: impl FnMut(&[u8]) -> Result<T, MirrorError>,
    ) -> Result<Option<T>, MirrorError> {
        if let Ok(Some(there)) = self.laid.read(path, limit)
            && let Ok(right) = check(&there)
        {
            return Ok(Some(right));
        }
        let Some(bytes) = self.ask(path, limit)? else { return Ok(None) };
        let right = check(&bytes)?;
        self.laid.replace(path, &bytes)?;
        Ok(Some(right))
    }

    /// Brings files that their digests name; gives the paths of those that the mirror does not have.
    pub(super) fn all(&self, wanted: &[Wanted]) -> Result<Vec<String>, MirrorError> {
        let next = AtomicUsize::new(0);
        let result: Mutex<Result<Vec<String>, MirrorError>> = Mutex::new(Ok(Vec::new()));
        let work = || {
            while let Some(one) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let brought = self.one(one);
                let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
                match (brought, result.as_mut()) {
                    (Ok(true), Ok(_)) => {}
                    (Ok(false), Ok(missing)) => missing.push(one.path.clone()),
                    (Err(e), Ok(_)) => {
                        *result = Err(e);
                        return;
                    }
                    // Another has failed: that is the answer.
                    (_, Err(_)) => return,
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..AT_ONCE.min(wanted.len()) {
                // Without a thread more it is done here.
                let _ = thread::Builder::new().name("pull".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        result.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn one(&self, wanted: &Wanted) -> Result<bool, MirrorError> {
        let is_right = |bytes: &[u8]| Digest::of(bytes) == wanted.digest;
        if let Ok(Some(there)) = self.laid.read(&wanted.path, wanted.limit)
            && is_right(&there)
        {
            return Ok(true);
        }
        let mut wrong = None;
        for path in &wanted.at {
            match self.ask(path, wanted.limit)? {
                Some(bytes) if is_right(&bytes) => {
                    self.laid.replace(&wanted.path, &bytes)?;
                    return Ok(true);
                }
                Some(_) => wrong = Some(path),
                None => {}
            }
        }
        match wrong {
            Some(path) => Err(MirrorError::wrong(path, "its bytes are not those that the log names")),
            None => Ok(false),
        }
    }
}
