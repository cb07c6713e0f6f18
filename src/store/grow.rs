//! A tree that grows on a disk, entry by entry: full tiles are written as they fill, partial ones at the end.

use super::{Store, StoreError};
use crate::limits::TILE_BYTES_MAX;
use crate::log::merkle;
use crate::log::tile::{Edge, Level, TILE_WIDTH, TileId, write_entry, write_hashes};

/// A tree's edge, and the entries of the bundle that is not full.
#[derive(Debug, Clone, Default)]
pub struct Growing {
    edge: Edge,
    bundle: Vec<Vec<u8>>,
}

impl Growing {
    /// Goes on where a head ends.
    pub fn after(edge: Edge, bundle: Vec<Vec<u8>>) -> Self {
        Self { edge, bundle }
    }

    /// The edge so far.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Appends an entry; writes the tiles that become full by it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn push(&mut self, store: &Store, entry: Vec<u8>) -> Result<(), StoreError> {
        let index = self.edge.size() / TILE_WIDTH;
        let full = self.edge.push(merkle::leaf(&entry));
        self.bundle.push(entry);
        if self.edge.size().is_multiple_of(TILE_WIDTH) {
            write_bundle(store, TileId { level: Level::Entries, index, width: TILE_WIDTH }, &self.bundle)?;
            self.bundle.clear();
        }
        full.into_iter().try_for_each(|(id, hashes)| write_tile(store, id, &write_hashes(&hashes)))
    }

    /// Writes the tiles that are not full.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn finish(&self, store: &Store) -> Result<(), StoreError> {
        if !self.bundle.is_empty() {
            let (index, width) = (self.edge.size() / TILE_WIDTH, self.bundle.len() as u64);
            write_bundle(store, TileId { level: Level::Entries, index, width }, &self.bundle)?;
        }
        self.edge.partial().try_for_each(|(id, hashes)| write_tile(store, id, &write_hashes(hashes)))
    }

    /// The edge, and the entries of the bundle that is not full.
    pub fn into_parts(self) -> (Edge, Vec<Vec<u8>>) {
        (self.edge, self.bundle)
    }
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
        // Without a lock, somebody who is further on may have removed it already: it has a wider one.
        None if id.width < TILE_WIDTH && !store.disk().has_lock() => Ok(()),
        _ => Err(StoreError::Damaged { path, problem: "the disk gives back other bytes than were written".to_owned() }),
    }
}
