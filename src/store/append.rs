//! Appending to the log. Effects in order, and what a crash after each leaves:
//!
//! 1. `log/commit/<old size>` by create-if-absent — before: nothing happened. After: the entries have their places, for
//!    ever; whoever writes next finishes the rest ([`finish`]).
//! 2. entry bundles, then hash tiles, each durable and read back — the checkpoint still shows the old tree.
//! 3. the signature over the *committed* root, and `log/checkpoint` — the entries are published.
//! 4. partial tiles that grew are removed — readers of the old size find the wider ones.
//!
//! Repeating any step does no harm: the bytes are the same.

use super::{Head, Store, StoreError};
use crate::disk::Created;
use crate::limits::{COMMIT_BYTES_MAX, TILE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::commit::Commit;
use crate::log::merkle;
use crate::log::note::{Note, SignerKey, VerifierKey};
use crate::log::tile::{Edge, Level, TILE_WIDTH, TileId, write_entry, write_hashes};

/// What an append came to.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The index of the first new entry.
    pub first: u64,
    /// The new head.
    pub head: Head,
}

/// Appends `entries` to the log with this head. The caller holds the keyring's lock and has finished what others left.
///
/// # Errors
/// [`StoreError::Raced`], if somebody else won the place; then nothing happened. Another error after the commit leaves it
/// to the next writer to finish.
pub fn append(
    store: &Store,
    head: Option<&Head>,
    origin: &str,
    entries: Vec<Vec<u8>>,
    signer: &SignerKey,
) -> Result<Appended, StoreError> {
    let mut edge = head.map(|h| h.edge.clone()).unwrap_or_default();
    let old_size = edge.size();
    for entry in &entries {
        edge.push(merkle::leaf(entry));
    }
    let commit = Commit { old_size, new_root: edge.root(), entries };
    match store.disk().create(&format!("log/{}", Commit::path(old_size)), &commit.to_bytes(signer))? {
        Created::New => publish(store, head, origin, &commit, signer),
        Created::Existed => Err(StoreError::Raced),
    }
}

/// Publishes a commit that a writer left unpublished, if there is one beyond this head. `keys` are those that may have
/// signed it.
///
/// # Errors
/// [`StoreError`]; a commit that does not fit the log is damage.
pub fn finish(
    store: &Store,
    head: Option<&Head>,
    origin: &str,
    signer: &SignerKey,
    keys: &[VerifierKey],
) -> Result<Option<Appended>, StoreError> {
    let Some(commit) = pending(store, head, keys)? else { return Ok(None) };
    publish(store, head, origin, &commit, signer).map(Some)
}

/// The commit beyond `head` that is not yet published, checked against the tree and the keys that may sign one.
///
/// # Errors
/// [`StoreError`]; a commit that does not fit the log is damage.
pub fn pending(store: &Store, head: Option<&Head>, keys: &[VerifierKey]) -> Result<Option<Commit>, StoreError> {
    let mut edge = head.map(|h| h.edge.clone()).unwrap_or_default();
    let path = format!("log/{}", Commit::path(edge.size()));
    let Some(bytes) = store.disk().read(&path, COMMIT_BYTES_MAX)? else { return Ok(None) };
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

fn publish(
    store: &Store,
    head: Option<&Head>,
    origin: &str,
    commit: &Commit,
    signer: &SignerKey,
) -> Result<Appended, StoreError> {
    let mut edge = head.map(|h| h.edge.clone()).unwrap_or_default();
    let mut bundle = head.map(|h| h.bundle.clone()).unwrap_or_default();
    let outgrown: Vec<TileId> = partial_tiles(&edge).collect();
    for entry in &commit.entries {
        let index = edge.size() / TILE_WIDTH;
        bundle.push(entry.clone());
        let full = edge.push(merkle::leaf(entry));
        if edge.size().is_multiple_of(TILE_WIDTH) {
            write_bundle(store, TileId { level: Level::Entries, index, width: TILE_WIDTH }, &bundle)?;
            bundle.clear();
        }
        for (id, hashes) in full {
            write_tile(store, id, &write_hashes(&hashes))?;
        }
    }
    if !bundle.is_empty() {
        write_bundle(
            store,
            TileId { level: Level::Entries, index: edge.size() / TILE_WIDTH, width: bundle.len() as u64 },
            &bundle,
        )?;
    }
    for (id, hashes) in edge.partial() {
        write_tile(store, id, &write_hashes(hashes))?;
    }
    let checkpoint = Checkpoint { origin: origin.to_owned(), size: edge.size(), root: edge.root() };
    let text = checkpoint.to_text();
    let note = Note { signatures: vec![signer.sign(&text)], text };
    store.disk().replace("log/checkpoint", &note.to_bytes())?;
    let current: Vec<TileId> = partial_tiles(&edge).collect();
    for id in outgrown.into_iter().filter(|id| !current.contains(id)) {
        // Left behind, it would only be a correct part of a tile; the next writer need not know.
        let path = format!("log/{id}");
        let _ = store.disk().remove(&path);
        store.disk().prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
    }
    Ok(Appended { first: commit.old_size, head: Head { note, checkpoint, edge, bundle } })
}

/// The partial tiles at an edge, entries included.
fn partial_tiles(edge: &Edge) -> impl Iterator<Item = TileId> {
    let width = edge.size() % TILE_WIDTH;
    let entries = (width > 0).then_some(TileId { level: Level::Entries, index: edge.size() / TILE_WIDTH, width });
    edge.partial().map(|(id, _)| id).chain(entries).collect::<Vec<_>>().into_iter()
}

fn write_bundle(store: &Store, id: TileId, entries: &[Vec<u8>]) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    for entry in entries {
        write_entry(&mut bytes, entry);
    }
    write_tile(store, id, &bytes)
}

/// Writes a tile and reads it back: one flipped bit in a tile that was signed over has killed a public log.
fn write_tile(store: &Store, id: TileId, bytes: &[u8]) -> Result<(), StoreError> {
    let path = format!("log/{id}");
    store.disk().replace(&path, bytes)?;
    match store.disk().read(&path, TILE_BYTES_MAX)? {
        Some(back) if back == bytes => Ok(()),
        _ => Err(StoreError::Damaged { path, problem: "the disk gives back other bytes than were written".to_owned() }),
    }
}
