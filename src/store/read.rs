//! Reading the log: the checkpoint, then the entries it commits to, hashed on the way.

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::limits::{CHECKPOINT_BYTES_MAX, TILE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::merkle;
use crate::log::note::Note;
use crate::log::tile::{Edge, Level, TILE_WIDTH, TileHashes, TileId, parse_entries, parse_hashes};

/// The log's head: what was published, and the tree's edge to which it belongs.
#[derive(Debug, Clone)]
pub struct Head {
    /// The published note, its signature not judged here.
    pub note: Note,
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The tree's edge, whose root is the checkpoint's.
    pub edge: Edge,
    /// The entries of the bundle that is not full.
    pub bundle: Vec<Vec<u8>>,
}

/// Where the published head lies.
pub const CHECKPOINT: &str = "log/checkpoint";
/// Where the newest head lies while it waits for cosigners; absent while the published one is the newest.
pub const HEAD: &str = "log/head";

/// A signed head and what it says.
pub type SignedHead = (Note, Checkpoint);

/// Reads the published head, `log/checkpoint`.
///
/// # Errors
/// [`StoreError`]; [`StoreError::NoKeyring`] if there is none.
pub fn read_checkpoint(store: &Store) -> Result<SignedHead, StoreError> {
    read_head(store, CHECKPOINT)?.ok_or_else(|| StoreError::NoKeyring(store.disk().root()))
}

/// Reads the newest head, published or not, and says where it lies.
///
/// # Errors
/// [`StoreError`]; [`StoreError::NoKeyring`] if there is none.
pub fn read_newest(store: &Store) -> Result<(&'static str, SignedHead), StoreError> {
    // What waits is read first: a writer that publishes it meanwhile removes it after the other is there.
    let waiting = read_head(store, HEAD)?;
    let published = read_head(store, CHECKPOINT)?;
    match (waiting, published) {
        (Some(head), Some(old)) if head.1.size > old.1.size => Ok((HEAD, head)),
        (_, Some(published)) => Ok((CHECKPOINT, published)),
        (Some(head), None) => Ok((HEAD, head)),
        (None, None) => Err(StoreError::NoKeyring(store.disk().root())),
    }
}

/// Reads a head; `None` if it is not there.
fn read_head(store: &Store, path: &str) -> Result<Option<SignedHead>, StoreError> {
    let Some(bytes) = store.read(path, CHECKPOINT_BYTES_MAX)? else { return Ok(None) };
    let damaged = |problem: String| StoreError::Damaged { path: path.to_owned(), problem };
    let note = Note::parse(&bytes).map_err(|e| damaged(format!("it {e}")))?;
    let checkpoint = Checkpoint::parse(&note.text).ok_or_else(|| damaged("its text is not a checkpoint".to_owned()))?;
    Ok(Some((note, checkpoint)))
}

/// The hashes of a tile. A partial tile that a writer has meanwhile outgrown is cut from its successor.
///
/// # Errors
/// [`StoreError`].
pub fn read_hashes(store: &Store, id: TileId) -> Result<Vec<Digest>, StoreError> {
    hashes_in(store, id, id.width)
}

/// The same, in a log whose tile is `now` wide.
fn hashes_in(store: &Store, id: TileId, now: u64) -> Result<Vec<Digest>, StoreError> {
    let mut hashes = wide(store, id, now, "it is not a tile of that many hashes", parse_hashes)?;
    hashes.truncate(usize::try_from(id.width).unwrap_or(usize::MAX));
    Ok(hashes)
}

/// A tile, or the first that is there of those that it has grown to. Where each look is a request, as in an object store, it
/// matters in which order: as it was, as it should be now, full; then as it is listed; then every width that there could be.
fn wide<T>(
    store: &Store,
    id: TileId,
    now: u64,
    problem: &str,
    parse: impl Fn(&[u8], u64) -> Option<T>,
) -> Result<T, StoreError> {
    let read = |width: u64| {
        let path = format!("log/{}", TileId { width, ..id });
        let Some(bytes) = store.read(&path, TILE_BYTES_MAX)? else { return Ok(None) };
        parse(&bytes, width).map(Some).ok_or(StoreError::Damaged { path, problem: problem.to_owned() })
    };
    let mut tried: Vec<u64> = Vec::new();
    let usual = [id.width, now.max(id.width), TILE_WIDTH];
    let listed = || {
        let partial = format!("log/{}", TileId { width: 1, ..id });
        let names = store.disk().list(partial.trim_end_matches("/1")).unwrap_or_default();
        let mut widths: Vec<u64> = names.iter().filter_map(|(name, _)| name.parse().ok()).collect();
        widths.sort_unstable();
        widths
    };
    let all: [&dyn Fn() -> Vec<u64>; 3] = [&|| usual.to_vec(), &listed, &|| (id.width..=TILE_WIDTH).collect()];
    for widths in all {
        for width in widths().into_iter().filter(|w| (id.width..=TILE_WIDTH).contains(w)) {
            if !tried.contains(&width) {
                tried.push(width);
                if let Some(found) = read(width)? {
                    return Ok(found);
                }
            }
        }
    }
    Err(StoreError::Missing(format!("log/{id}")))
}

/// The proof, from the tiles, that the log of `new` entries has grown from that of `old`. Nothing is believed of the tiles:
/// whoever gets the proof checks it against both roots.
///
/// # Errors
/// [`StoreError`].
///
/// # Panics
/// If `old` is larger than `new`.
pub fn consistency_proof(store: &Store, old: u64, new: u64) -> Result<Vec<Digest>, StoreError> {
    merkle::consistency(&TileHashes::new(new, |id| read_hashes(store, id)), old, new)
}

/// The root, from the tiles of a log of `size` entries, that its first `part` have.
///
/// # Errors
/// [`StoreError`].
pub fn root_at(store: &Store, part: u64, size: u64) -> Result<Digest, StoreError> {
    merkle::root(&TileHashes::new(size, |id| read_hashes(store, id)), part)
}

/// The edge, from the tiles of a log that now has `grown` entries, of the tree of the first `size` entries, and the entries of
/// its bundle that is not full. The caller compares what grows from it with a signed root before believing it.
///
/// # Errors
/// [`StoreError`], also if that bundle does not hash to the tile beside it.
pub fn edge_at(store: &Store, size: u64, grown: u64) -> Result<(Edge, Vec<Vec<u8>>), StoreError> {
    let edge = Edge::load(size, |id| hashes_in(store, id, id.width_in(grown)))?;
    let width = size % TILE_WIDTH;
    if width == 0 {
        return Ok((edge, Vec::new()));
    }
    let id = TileId { level: Level::Entries, index: size / TILE_WIDTH, width };
    let bundle = bundle_in(store, id, id.width_in(grown))?;
    let hashes = edge.partial().find(|(id, _)| id.level == Level::Hashes(0)).map(|(_, hashes)| hashes);
    if hashes.is_none_or(|hashes| !hashes.iter().copied().eq(bundle.iter().map(|entry| merkle::leaf(entry)))) {
        let problem = "its entries do not hash to the tile beside it; 'keys log verify' says which is right".to_owned();
        return Err(StoreError::Damaged { path: format!("log/{id}"), problem });
    }
    Ok((edge, bundle))
}

/// A bundle: the index of its first entry, and its entries.
pub type Bundle = (u64, Vec<Vec<u8>>);

/// Reads the entries of a log of known size, bundle by bundle, and grows the tree beside.
pub struct LogReader<'a> {
    store: &'a Store,
    size: u64,
    edge: Edge,
    bundle: Vec<Vec<u8>>,
}

impl<'a> LogReader<'a> {
    /// A reader of the first `size` entries.
    pub fn new(store: &'a Store, size: u64) -> Self {
        Self { store, size, edge: Edge::default(), bundle: Vec::new() }
    }

    /// A reader that goes on where a head ends; what it then reads is joined to what that head stands for.
    pub fn after(store: &'a Store, edge: Edge, bundle: Vec<Vec<u8>>, size: u64) -> Self {
        Self { store, size, edge, bundle }
    }

    /// The next bundle; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_bundle(&mut self) -> Result<Option<Bundle>, StoreError> {
        let first = self.edge.size();
        if first >= self.size {
            return Ok(None);
        }
        let index = first / TILE_WIDTH;
        let width = (self.size - index * TILE_WIDTH).min(TILE_WIDTH);
        let id = TileId { level: Level::Entries, index, width };
        let mut entries = read_bundle(self.store, id)?;
        // What is known of it is not taken from it again: if it is another by now, the root will not be the checkpoint's.
        let new = entries.split_off(self.bundle.len().min(entries.len()));
        if width == TILE_WIDTH {
            self.bundle.clear();
        } else {
            self.bundle.extend(new.iter().cloned());
        }
        for entry in &new {
            self.edge.push(merkle::leaf(entry));
        }
        Ok(Some((first, new)))
    }

    /// The tree's edge over what was read.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// The head, once all was read.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], if the entries do not hash to the checkpoint's root.
    pub fn finish(self, note: Note, checkpoint: Checkpoint) -> Result<Head, StoreError> {
        if self.edge.size() != checkpoint.size || self.edge.root() != checkpoint.root {
            return Err(StoreError::Damaged {
                path: "log/".to_owned(),
                problem: "its entries do not hash to the root of log/checkpoint; 'keys log verify' names the file"
                    .to_owned(),
            });
        }
        Ok(Head { note, checkpoint, edge: self.edge, bundle: self.bundle })
    }
}

/// The bundle with this id. A partial bundle that a writer has meanwhile outgrown is cut from its successor.
pub(super) fn read_bundle(store: &Store, id: TileId) -> Result<Vec<Vec<u8>>, StoreError> {
    bundle_in(store, id, id.width)
}

/// The same, in a log whose bundle has `now` entries.
fn bundle_in(store: &Store, id: TileId, now: u64) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut entries = wide(store, id, now, "it is not a bundle of that many entries", parse_entries)?;
    entries.truncate(usize::try_from(id.width).unwrap_or(usize::MAX));
    Ok(entries)
}
