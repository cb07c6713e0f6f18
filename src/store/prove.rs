//! Proofs from the log's files: the checkpoint, one bundle and a handful of hash tiles are read, nothing is replayed.
//!
//! Tiles are not signed. So what they give is checked against the checkpoint's root before it is handed out: a proof that
//! leaves here holds. Who signed the checkpoint the caller judges.

use std::cell::RefCell;
use std::collections::BTreeMap;

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
    let path = merkle::inclusion(&TileHashes::new(size, |id| tiles.hashes(id)), index, size)?;
    if !merkle::verify_inclusion(&merkle::leaf(&entry), index, size, &path, &checkpoint.root) {
        let problem =
            "its hashes do not lead to the root of log/checkpoint; 'keys log verify' names the file".to_owned();
        return Err(StoreError::Damaged { path: "log/tile".to_owned(), problem });
    }
    Ok((Proof { extra: None, index, path, note: note.clone() }, entry))
}
