//! A fleet's public side as plain files for a file server: the directory's public files, and the pages of a key server.
//!
//! Written in this order: the list of all files that are or were ours (`.published`); what never changes; what follows from the
//! head; the pages; the heads, once the keyring still shows the one that was read at the beginning; then what is no longer there
//! is removed, and the list says what is left. Each file is old or new. A crash anywhere leaves a tree that the next run makes
//! whole: readers see the old head until all that the new one needs is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use super::{acks, waiting};
use crate::directory::Tree;
use crate::disk::{Access, Disk, DiskError, EntryKind, RealFiles};
use crate::limits::{PUBLISHED_LIST_BYTES_MAX, SUBMIT_BYTES_TOTAL_MAX};
use crate::store::Public;
use crate::text::shown;

/// The list of our files in the directory.
const LIST: &str = ".published";
/// How often a keyring that goes on meanwhile is read again.
const ROUNDS: usize = 8;

/// Why nothing, or not all, was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Something else lies where a file of ours belongs.
    #[error("{0} lies there already, and was not written by 'keys publish'")]
    Foreign(String),
    /// The directory is the fleet's own.
    #[error("this is the fleet's own directory; publish into another one")]
    Same,
    /// Somebody else publishes there.
    #[error("somebody else is publishing there")]
    Busy,
    /// The keyring does not stand still.
    #[error("the keyring was changed again and again while it was read")]
    Unsteady,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublishedFiles {
    /// Files that are there now.
    pub files: usize,
    /// Files that were written, new or anew.
    pub written: usize,
    /// Files of ours that were removed.
    pub removed: usize,
}

/// Where a file's bytes come from.
enum Source<'a> {
    Made(&'a [u8]),
    Keyring(Public),
    Policy(Public),
}

/// Publishes the fleet in `directory`, with the pages of `tree`, into `to`, which is made if it is not there.
///
/// # Errors
/// [`PublishError`]; what was written so far stays, and harms nobody.
pub fn publish(directory: &Path, tree: &Tree, to: &Path) -> Result<PublishedFiles, PublishError> {
    let opened = |path: &Path, files: std::io::Result<RealFiles>| {
        let path = || shown(&path.display().to_string()).to_string();
        files.map(Disk::new).map_err(|source| DiskError { doing: "open", path: path(), source })
    };
    let place = |name: &str| directory.join(name);
    let keyring = opened(&place("keyring"), RealFiles::open(&place("keyring"), Access::Public))?;
    let policy = RealFiles::open(&place("policy"), Access::Public).map(Disk::new).ok();
    let target = opened(to, RealFiles::create(to, Access::Everybody))?;
    let _lock = target.try_lock()?.ok_or(PublishError::Busy)?;
    let listed = target.read(LIST, PUBLISHED_LIST_BYTES_MAX)?.unwrap_or_default();
    let mut ours: BTreeSet<String> = String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect();
    let mut done = PublishedFiles::default();
    for _ in 0..ROUNDS {
        let heads = [Public::Head, Public::Checkpoint].map(|head| (head.path(), keyring.read(&head.below(), 1 << 20)));
        let (waits, says) = (waiting::list(&keyring, "")?, acks::list(&keyring, "")?);
        let mut files = sources(&keyring, policy.as_ref(), tree)?;
        files.insert("v1/waiting".to_owned(), Source::Made(waits.as_bytes()));
        files.insert("v1/acks".to_owned(), Source::Made(says.as_bytes()));
        // Whoever was here before us keeps what is theirs.
        for path in files.keys().filter(|path| !ours.contains(*path)) {
            if target.read_part(path, 0, 0)?.is_some() {
                return Err(PublishError::Foreign(path.clone()));
            }
        }
        ours.extend(files.keys().cloned());
        list(&target, &ours)?;
        for (path, source) in in_order(&files) {
            done.written += usize::from(put(&target, path, source, &keyring, policy.as_ref())?);
        }
        let mut is_same = true;
        for (head, (path, read)) in [Public::Head, Public::Checkpoint].iter().zip(heads) {
            let read = read?;
            is_same = is_same && keyring.read(&head.below(), 1 << 20)? == read;
            if let (true, Some(bytes)) = (is_same, &read) {
                done.written += usize::from(replace(&target, &path, bytes)?);
            }
        }
        if is_same {
            let stale: Vec<String> = ours.iter().filter(|path| !files.contains_key(*path)).cloned().collect();
            for path in stale {
                done.removed += usize::from(target.remove(&path)?);
                target.prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
                ours.remove(&path);
            }
            list(&target, &ours)?;
            done.files = files.len();
            return Ok(done);
        }
    }
    Err(PublishError::Unsteady)
}

/// Every file that there should be, by its path.
fn sources<'a>(
    keyring: &Disk,
    policy: Option<&Disk>,
    tree: &'a Tree,
) -> Result<BTreeMap<String, Source<'a>>, PublishError> {
    let mut files: BTreeMap<String, Source<'a>> = BTreeMap::new();
    let public = |prefix: &str, found: Vec<(String, EntryKind)>| {
        let files = found.into_iter().filter(|(_, kind)| *kind == EntryKind::File);
        let prefix = prefix.to_owned();
        files.filter_map(move |(path, _)| Public::parse(&format!("{prefix}/{path}"))).collect::<Vec<_>>()
    };
    for one in public("keyring", keyring.walk("")?) {
        files.insert(one.path(), Source::Keyring(one));
    }
    if let Some(policy) = policy {
        for one in public("policy", policy.list("")?) {
            files.insert(one.path(), Source::Policy(one));
        }
    }
    files.extend(tree.pages().map(|(path, page)| (path.to_owned(), Source::Made(&page.bytes))));
    Ok(files)
}

/// All but the heads, those first that never change.
fn in_order<'a, 'b>(files: &'a BTreeMap<String, Source<'b>>) -> impl Iterator<Item = (&'a str, &'a Source<'b>)> {
    let of = |wanted: usize| {
        let rank = |source: &Source<'_>| match source {
            Source::Keyring(Public::Head | Public::Checkpoint) => 3,
            Source::Keyring(public) | Source::Policy(public) => usize::from(!public.is_immutable()),
            Source::Made(_) => 2,
        };
        files.iter().filter(move |(_, source)| rank(source) == wanted).map(|(path, source)| (path.as_str(), source))
    };
    of(0).chain(of(1)).chain(of(2))
}

/// Writes a file unless it is there as it should be; gives whether it was written.
fn put(
    target: &Disk,
    path: &str,
    source: &Source<'_>,
    keyring: &Disk,
    policy: Option<&Disk>,
) -> Result<bool, PublishError> {
    let (disk, public) = match (source, policy) {
        (Source::Made(bytes), _) => return replace(target, path, bytes),
        (Source::Policy(public), Some(policy)) => (policy, public),
        (Source::Keyring(public) | Source::Policy(public), _) => (keyring, public),
    };
    let length = |disk: &Disk, path: &str| disk.reader(path).map(|found| found.map(|(length, _)| length));
    let there = length(disk, &public.below())?;
    // What has gone meanwhile is of the next round, or was of the last.
    if there.is_none() || (public.is_immutable() && there == length(target, path)?) {
        return Ok(false);
    }
    match read(disk, &public.below())? {
        Some(bytes) => replace(target, path, &bytes),
        None => Ok(false),
    }
}

fn replace(target: &Disk, path: &str, bytes: &[u8]) -> Result<bool, PublishError> {
    if read(target, path)?.as_deref() == Some(bytes) {
        return Ok(false);
    }
    target.replace(path, bytes)?;
    Ok(true)
}

fn read(disk: &Disk, path: &str) -> Result<Option<Vec<u8>>, DiskError> {
    let Some((_, reader)) = disk.reader(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    match reader.take(SUBMIT_BYTES_TOTAL_MAX as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() <= SUBMIT_BYTES_TOTAL_MAX => Ok(Some(bytes)),
        Ok(_) => {
            Err(DiskError { doing: "read", path: path.to_owned(), source: std::io::ErrorKind::FileTooLarge.into() })
        }
        Err(source) => Err(DiskError { doing: "read", path: path.to_owned(), source }),
    }
}

fn list(target: &Disk, ours: &BTreeSet<String>) -> Result<(), PublishError> {
    let text: String = ours.iter().flat_map(|path| [path.as_str(), "\n"]).collect();
    replace(target, LIST, text.as_bytes()).map(|_| ())
}
