//! Proofs from the log's files: the checkpoint, one bundle and a handful of hash tiles are read, nothing is replayed.
//!
//! Tiles are not signed. So what they give is checked against the checkpoint's root before it is handed out: a proof that
//! leaves here holds. Who signed the checkpoint the caller judges.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use super::read::{read_bundle, read_hashes};
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::log::checkpoint::Checkpoint;
use crate::log::merkle;
use crate::log::note::Note;
use crate::log::proof::Proof;
use crate::log::tile::{Level, TILE_WIDTH, TileHashes, TileId};

/// The hash tiles of a log, each read once.
struct Tiles<'a> {
    store: &'a Store,
    known: RefCell<BTreeMap<TileId, Vec<Digest>>>,
}

impl Tiles<'_> {
    fn hashes(&self, id: TileId) -> Result<Vec<Digest>, StoreError> {
        if let Some(known) = self.known.borrow().get(&id) {
            return Ok(known.clone());
        }
        let hashes = read_hashes(self.store, id)?;
        self.known.borrow_mut().insert(id, hashes.clone());
        Ok(hashes)
    }

    /// The proof of the entry `index`, which has been seen to be in the log.
    fn prove(&self, (note, checkpoint): (&Note, &Checkpoint), index: u64, entry: &[u8]) -> Result<Proof, StoreError> {
        let path = merkle::inclusion(&TileHashes::new(checkpoint.size, |id| self.hashes(id)), index, checkpoint.size)?;
        if merkle::verify_inclusion(&merkle::leaf(entry), index, checkpoint.size, &path, &checkpoint.root) {
            return Ok(Proof { extra: None, index, path, note: note.clone() });
        }
        let problem =
            "its hashes do not lead to the root of log/checkpoint; 'keys log verify' names the file".to_owned();
        Err(StoreError::Damaged { path: "log/tile".to_owned(), problem })
    }
}

/// The bytes of entry `index` of the log that has this checkpoint, and the proof that it has it.
///
/// # Errors
/// [`StoreError`]; [`StoreError::NoEntry`] if the log is not that long.
pub fn prove(store: &Store, note: &Note, checkpoint: &Checkpoint, index: u64) -> Result<(Proof, Vec<u8>), StoreError> {
    let size = checkpoint.size;
    if index >= size {
        return Err(StoreError::NoEntry { index, size });
    }
    let first = index - index % TILE_WIDTH;
    let width = (size - first).min(TILE_WIDTH);
    let mut bundle = read_bundle(store, TileId { level: Level::Entries, index: first / TILE_WIDTH, width })?;
    let entry = bundle.swap_remove(usize::try_from(index - first).unwrap_or_default());
    let tiles = Tiles { store, known: RefCell::default() };
    Ok((tiles.prove((note, checkpoint), index, &entry)?, entry))
}

/// The proofs of the entries `range` of the log that has this checkpoint, all of whose entries are given. Each tile is read
/// once.
///
/// # Errors
/// [`StoreError`]; [`StoreError::NoEntry`] if the log is not that long.
pub fn prove_all(
    store: &Store,
    head: (&Note, &Checkpoint),
    entries: &[Vec<u8>],
    range: Range<u64>,
) -> Result<Vec<Proof>, StoreError> {
    let tiles = Tiles { store, known: RefCell::default() };
    let size = head.1.size;
    let entry = |index: u64| {
        let entry = usize::try_from(index).ok().and_then(|i| entries.get(i)).filter(|_| index < size);
        entry.ok_or(StoreError::NoEntry { index, size })
    };
    range.map(|index| tiles.prove(head, index, entry(index)?)).collect()
}
