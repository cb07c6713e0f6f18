//! Appending to the log. Effects in order, and what a crash after each leaves:
//!
//! 1. `log/commit/<old size>` by create-if-absent — before: nothing happened. After: the entries have their places, for
//!    ever; whoever writes next finishes the rest ([`complete`]).
//! 2. entry bundles, then hash tiles, each durable and read back — the checkpoint still shows the old tree.
//! 3. the signature over the *committed* root, and `log/checkpoint`, unless it shows a larger tree by now — the entries are
//!    published. Where cosigners are needed it is `log/head` instead, and the entries wait (`crate::fleet`, published.rs).
//! 4. partial tiles that grew are removed — readers of the old size find the wider ones. What a crash here leaves, a later
//!    writer removes ([`sweep`]).
//!
//! Repeating any step does no harm: the bytes are the same. No step needs a lock: the commit is won by create-if-absent,
//! tiles are the same whoever writes them, and the checkpoint is replaced only as long as it is the one that was read. So a
//! writer that is slow, or comes back after others have finished its work, changes nothing.

use super::grow::Growing;
use super::{CHECKPOINT, HEAD, Head, Store, StoreError, read_newest};
use crate::disk::{Created, EntryKind};
use crate::limits::{CHECKPOINT_BYTES_MAX, COMMIT_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::commit::Commit;
use crate::log::merkle;
use crate::log::note::{Note, SignerKey, VerifierKey};
use crate::log::tile::{LEVELS_MAX, Level, TILE_WIDTH, TileId};

/// What an append came to.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The index of the first new entry.
    pub first: u64,
    /// The new entries.
    pub entries: Vec<Vec<u8>>,
    /// The new head.
    pub head: Head,
}

/// Where a new head goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// It is published.
    Published,
    /// It waits for cosigners, while an older head stays published.
    Waiting,
}

/// Appends `entries` to the log with this head: one key signs all of it. The caller holds the keyring's lock, where there is
/// one.
///
/// # Errors
/// As [`append_signed`].
pub fn append(
    store: &Store,
    head: Option<&Head>,
    origin: &str,
    entries: Vec<Vec<u8>>,
    signer: &SignerKey,
    target: Target,
) -> Result<Appended, StoreError> {
    append_signed(store, head, origin, entries, signer, &[signer], target)
}

/// Appends `entries` to the log with this head: `signer` signs the commit, and `heads` the new head. The caller holds the
/// keyring's lock, where there is one.
///
/// # Errors
/// [`StoreError::Raced`], if somebody else won the place; then nothing happened. Another error after the commit leaves it
/// to the next writer to finish.
pub fn append_signed(
    store: &Store,
    head: Option<&Head>,
    origin: &str,
    entries: Vec<Vec<u8>>,
    signer: &SignerKey,
    heads: &[&SignerKey],
    target: Target,
) -> Result<Appended, StoreError> {
    let mut edge = head.map(|h| h.edge.clone()).unwrap_or_default();
    let old_size = edge.size();
    for entry in &entries {
        edge.push(merkle::leaf(entry));
    }
    let commit = Commit { old_size, new_root: edge.root(), entries };
    match store.disk().create(&format!("log/{}", Commit::path(old_size)), &commit.to_bytes(signer))? {
        Created::New => complete(store, head, origin, commit, heads, target),
        Created::Existed => Err(StoreError::Raced),
    }
}

/// Completes a commit that a writer left so, if there is one beyond this head; one key signs the new head. `keys` are those
/// that may have signed the commit.
///
/// # Errors
/// [`StoreError`]; a commit that does not fit the log is damage.
pub fn finish(
    store: &Store,
    head: Option<&Head>,
    origin: &str,
    signer: &SignerKey,
    keys: &[VerifierKey],
    target: Target,
) -> Result<Option<Appended>, StoreError> {
    let Some(commit) = pending(store, head, keys)? else { return Ok(None) };
    complete(store, head, origin, commit, &[signer], target).map(Some)
}

/// The commit beyond `head` that is not yet published, checked against the tree and the keys that may sign one.
///
/// # Errors
/// [`StoreError`]; a commit that does not fit the log is damage.
pub fn pending(store: &Store, head: Option<&Head>, keys: &[VerifierKey]) -> Result<Option<Commit>, StoreError> {
    let mut edge = head.map(|h| h.edge.clone()).unwrap_or_default();
    let path = format!("log/{}", Commit::path(edge.size()));
    let Some(bytes) = store.read(&path, COMMIT_BYTES_MAX)? else { return Ok(None) };
    let damaged = |problem: &str| StoreError::Damaged { path: path.clone(), problem: problem.to_owned() };
    let (commit, note) = Commit::parse(&bytes).ok_or_else(|| damaged("it is not a commit; remove it"))?;
    if !keys.iter().any(|key| note.is_signed_by(key)) {
        return Err(damaged("it is not signed by the log's key; somebody else put it there, remove it"));
    }
    for entry in &commit.entries {
        edge.push(merkle::leaf(entry));
    }
    if commit.old_size != head.map_or(0, |h| h.edge.size()) || edge.root() != commit.new_root {
        return Err(damaged("its entries do not lead to the root it names"));
    }
    Ok(Some(commit))
}

/// Writes the tiles and the head of a commit beyond `head`: one's own, or one that a writer has left so, see [`pending`].
/// `heads` sign the new head.
///
/// # Errors
/// [`StoreError`].
pub fn complete(
    store: &Store,
    head: Option<&Head>,
    origin: &str,
    commit: Commit,
    heads: &[&SignerKey],
    target: Target,
) -> Result<Appended, StoreError> {
    let mut growing = head.map(|h| Growing::after(h.edge.clone(), h.bundle.clone())).unwrap_or_default();
    commit.entries.iter().try_for_each(|entry| growing.push(store, entry.clone()))?;
    growing.finish(store)?;
    let (edge, bundle) = growing.into_parts();
    let checkpoint = Checkpoint { origin: origin.to_owned(), size: edge.size(), root: edge.root() };
    let text = checkpoint.to_text();
    let note = Note { signatures: heads.iter().map(|key| key.sign(&text)).collect(), text };
    match target {
        Target::Published => {
            let shown = show(store, CHECKPOINT, &note, &checkpoint)?;
            // One that waited says nothing more.
            if read_newest(store).is_ok_and(|(path, _)| path == CHECKPOINT) {
                let _ = store.disk().remove(HEAD);
            }
            collect(store, commit.old_size, shown);
        }
        // The tiles of the published head stay, until another one is published.
        Target::Waiting => drop(show(store, HEAD, &note, &checkpoint)?),
    }
    Ok(Appended { first: commit.old_size, entries: commit.entries, head: Head { note, checkpoint, edge, bundle } })
}

/// Puts a head in its place, unless there is a larger one; gives the size of the one that is there then.
fn show(store: &Store, path: &str, note: &Note, checkpoint: &Checkpoint) -> Result<u64, StoreError> {
    // Whoever comes between our reading and our writing has made it larger, so this ends.
    loop {
        let there = store.read(path, CHECKPOINT_BYTES_MAX)?;
        let shown = there.as_deref().and_then(|bytes| Checkpoint::parse(&Note::parse(bytes).ok()?.text));
        match shown.filter(|shown| shown.origin == checkpoint.origin) {
            Some(shown) if shown.size > checkpoint.size || shown == *checkpoint => return Ok(shown.size),
            Some(shown) if shown.size == checkpoint.size => {
                let problem = format!("it shows another tree of {} entries than the log's commits make", shown.size);
                return Err(StoreError::Damaged { path: path.to_owned(), problem });
            }
            _ => {}
        }
        if store.disk().replace_if(path, there.as_deref(), &note.to_bytes())? {
            return Ok(checkpoint.size);
        }
    }
}

/// Removes the partial tiles that the tree of `size` leaves has outgrown, where a tree of `from` leaves had its edge and one
/// tile before that: ours, and those of a writer that died before it came to this.
pub fn collect(store: &Store, from: u64, size: u64) {
    for level in [Level::Entries].into_iter().chain((0..LEVELS_MAX).map(Level::Hashes)) {
        let index = |size: u64| level.count_in(size) / TILE_WIDTH;
        for index in index(from).saturating_sub(1)..=index(size) {
            let directory = format!("log/{}.p", TileId { level, index, width: TILE_WIDTH });
            // Left behind, they would only be correct parts of a tile; nobody need know.
            let found = store.disk().list(&directory).unwrap_or_default();
            for path in found.into_iter().map(|(name, _)| format!("{directory}/{name}")) {
                if is_outgrown(&path, size) {
                    let _ = store.disk().remove(&path);
                }
            }
            store.disk().prune(&directory);
        }
    }
}

/// Removes every partial tile that the tree of `size` leaves has outgrown.
///
/// # Errors
/// [`StoreError`].
pub fn sweep(store: &Store, size: u64) -> Result<(), StoreError> {
    for (path, kind) in store.disk().walk("log/tile")? {
        if kind == EntryKind::File && is_outgrown(&path, size) {
            store.disk().remove(&path)?;
            store.disk().prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
        }
    }
    Ok(())
}

/// Whether the path is that of a partial tile of which the tree of `size` leaves has a wider one.
fn is_outgrown(path: &str, size: u64) -> bool {
    path.strip_prefix("log/").and_then(TileId::parse).is_some_and(|id| id.width < id.width_in(size))
}
