//! The example fleet that lies in the project's `keyring/` and `policy/`, as material for seeds.
#![allow(clippy::disallowed_methods, reason = "a test program reads the project's own files")]

use std::path::{Path, PathBuf};

use keys::log::checkpoint::Checkpoint;
use keys::log::note::Note;
use keys::log::tile::{Level, TILE_WIDTH, TileId, parse_entries};

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the example, by its path below the project's root.
pub fn file(path: &str) -> Vec<u8> {
    std::fs::read(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All files below a directory, in the order of their paths.
pub fn files(directory: &str) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    let mut left = vec![root().join(directory)];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display())) {
            let path = entry.expect("a readable directory").path();
            if path.is_dir() { left.push(path) } else { paths.push(path) }
        }
    }
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
}

/// The example's head.
pub fn checkpoint() -> Checkpoint {
    let note = Note::parse(&file("keyring/log/checkpoint")).expect("a note");
    Checkpoint::parse(&note.text).expect("a checkpoint")
}

/// The example's entries.
pub fn entries() -> Vec<Vec<u8>> {
    let size = checkpoint().size;
    let bundle = |index: u64| {
        let width = (size - index * TILE_WIDTH).min(TILE_WIDTH);
        let id = TileId { level: Level::Entries, index, width };
        parse_entries(&file(&format!("keyring/log/{id}")), width).expect("a bundle")
    };
    (0..size.div_ceil(TILE_WIDTH)).flat_map(bundle).collect()
}
