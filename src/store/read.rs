//! Reading the log: the checkpoint, then the entries it commits to, hashed on the way.

use super::{Store, StoreError};
use crate::limits::{CHECKPOINT_BYTES_MAX, TILE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::merkle;
use crate::log::note::Note;
use crate::log::tile::{Edge, Level, TILE_WIDTH, TileId, parse_entries};

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

/// Reads `log/checkpoint`.
///
/// # Errors
/// [`StoreError`]; [`StoreError::NoKeyring`] if there is none.
pub fn read_checkpoint(store: &Store) -> Result<(Note, Checkpoint), StoreError> {
    let path = "log/checkpoint";
    let bytes = store.read(path, CHECKPOINT_BYTES_MAX)?.ok_or_else(|| StoreError::NoKeyring(store.disk().root()))?;
    let damaged = |problem: String| StoreError::Damaged { path: path.to_owned(), problem };
    let note = Note::parse(&bytes).map_err(|e| damaged(format!("it {e}")))?;
    let checkpoint = Checkpoint::parse(&note.text).ok_or_else(|| damaged("its text is not a checkpoint".to_owned()))?;
    Ok((note, checkpoint))
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

    /// The next bundle; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_bundle(&mut self) -> Result<Option<Bundle>, StoreError> {
        let first = self.edge.size();
        if first >= self.size {
            return Ok(None);
        }
        let width = (self.size - first).min(TILE_WIDTH);
        let id = TileId { level: Level::Entries, index: first / TILE_WIDTH, width };
        let entries = self.read(id)?;
        for entry in &entries {
            self.edge.push(merkle::leaf(entry));
        }
        self.bundle = if width < TILE_WIDTH { entries.clone() } else { Vec::new() };
        Ok(Some((first, entries)))
    }

    /// The bundle with this id. A partial bundle that a writer has meanwhile outgrown is cut from its successor.
    fn read(&self, id: TileId) -> Result<Vec<Vec<u8>>, StoreError> {
        let path = format!("log/{id}");
        let damaged = |path: &str| StoreError::Damaged {
            path: path.to_owned(),
            problem: "it is not a bundle of that many entries".to_owned(),
        };
        if let Some(bytes) = self.store.read(&path, TILE_BYTES_MAX)? {
            return parse_entries(&bytes, id.width).ok_or_else(|| damaged(&path));
        }
        for width in (id.width + 1)..=TILE_WIDTH {
            let wider = format!("log/{}", TileId { width, ..id });
            if let Some(bytes) = self.store.read(&wider, TILE_BYTES_MAX)? {
                let mut entries = parse_entries(&bytes, width).ok_or_else(|| damaged(&wider))?;
                entries.truncate(usize::try_from(id.width).unwrap_or(usize::MAX));
                return Ok(entries);
            }
        }
        Err(StoreError::Missing(path))
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
