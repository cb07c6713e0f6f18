//! C2SP tlog-tiles: where a tree's hashes and entries lie, and how a tree grows by tiles.

use std::fmt;

use super::merkle;
use crate::digest::Digest;
use crate::limits::ENTRY_BYTES_MAX;

/// Hashes of one full tile.
pub const TILE_WIDTH: u64 = 256;
/// Levels a tree of 2^63 leaves can have.
pub const LEVELS_MAX: u32 = 8;

/// Which tile: a level of the tree, or the entries themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Hashes; level 0 holds leaf hashes, level L the roots of full tiles of level L - 1.
    Hashes(u32),
    /// Entries.
    Entries,
}

impl Level {
    /// How many hashes or entries a tree of `size` leaves has at this level.
    pub fn count_in(self, size: u64) -> u64 {
        match self {
            Self::Hashes(level) => size.checked_shr(8 * level).unwrap_or_default(),
            Self::Entries => size,
        }
    }
}

/// A tile's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// The level.
    pub level: Level,
    /// Its number within the level.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256.
    pub width: u64,
}

impl fmt::Display for TileId {
    /// The path below `log/`: `tile/0/x001/x234/067`, `tile/entries/000.p/5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Hashes(level) => write!(f, "tile/{level}/")?,
            Level::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for (i, group) in groups.iter().enumerate().rev() {
            write!(f, "{}{group:03}{}", if i > 0 { "x" } else { "" }, if i > 0 { "/" } else { "" })?;
        }
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl TileId {
    /// The tile that `path` (below `log/`) names; the inverse of `Display`.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = match level {
            "entries" => Level::Entries,
            n => Level::Hashes(n.parse().ok().filter(|&n| n < LEVELS_MAX)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|w| (1..TILE_WIDTH).contains(w))?),
            None => (rest, TILE_WIDTH),
        };
        let index = number.split('/').try_fold(0u64, |n, group| {
            n.checked_mul(1000)?
                .checked_add(group.strip_prefix('x').unwrap_or(group).parse().ok().filter(|&g: &u64| g < 1000)?)
        })?;
        Some(Self { level, index, width }).filter(|id| id.to_string() == path)
    }

    /// How wide the tile of this level and number is in a tree of `size` leaves; 0 if there is none.
    pub fn width_in(&self, size: u64) -> u64 {
        self.level.count_in(size).saturating_sub(self.index.saturating_mul(TILE_WIDTH)).min(TILE_WIDTH)
    }
}

/// The tiles that a tree of `size` leaves consists of at the levels below the top, with entries; partial ones last.
pub fn tiles_of(size: u64) -> Vec<TileId> {
    let mut tiles = Vec::new();
    for level in 0..LEVELS_MAX {
        let count = size >> (8 * level);
        if count == 0 {
            break;
        }
        let levels: &[Level] = if level == 0 { &[Level::Hashes(0), Level::Entries] } else { &[Level::Hashes(level)] };
        for &level in levels {
            tiles.extend((0..count / TILE_WIDTH).map(|index| TileId { level, index, width: TILE_WIDTH }));
            if !count.is_multiple_of(TILE_WIDTH) {
                tiles.push(TileId { level, index: count / TILE_WIDTH, width: count % TILE_WIDTH });
            }
        }
    }
    tiles
}

/// The partial tiles of a tree of `size` leaves, entries included.
pub fn partial_tiles(size: u64) -> Vec<TileId> {
    let mut tiles = Vec::new();
    for level in 0..LEVELS_MAX {
        let count = size >> (8 * level);
        let width = count % TILE_WIDTH;
        let levels: &[Level] = if level == 0 { &[Level::Hashes(0), Level::Entries] } else { &[Level::Hashes(level)] };
        if width > 0 {
            tiles.extend(levels.iter().map(|&level| TileId { level, index: count / TILE_WIDTH, width }));
        }
    }
    tiles
}

/// Reads a hash tile of `width` hashes.
pub fn parse_hashes(bytes: &[u8], width: u64) -> Option<Vec<Digest>> {
    (bytes.len() as u64 == width.checked_mul(32)?)
        .then(|| bytes.chunks_exact(32).filter_map(|h| h.try_into().ok()).map(Digest).collect())
}

/// Writes a hash tile.
pub fn write_hashes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|h| h.0).collect()
}

/// Reads an entry bundle of `width` entries.
pub fn parse_entries(bytes: &[u8], width: u64) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry.to_vec());
        rest = after;
    }
    (rest.is_empty() && entries.len() as u64 == width).then_some(entries)
}

/// Appends an entry to a bundle.
///
/// # Panics
/// If the entry is longer than [`ENTRY_BYTES_MAX`]; statements are checked when they are made.
pub fn write_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    assert!(entry.len() <= ENTRY_BYTES_MAX, "an entry of {} bytes", entry.len());
    let length = u16::try_from(entry.len()).expect("checked on the line above");
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
}

/// The right edge of a tree: its size and, for each level, the hashes of the tile that is not yet full. Enough to
/// append and to know the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Digest>>,
}

impl Edge {
    /// The edge of a tree of `size` leaves. `read` gives the hashes of a tile; the caller compares [`Edge::root`] with
    /// a signed root before believing it.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn load<E>(size: u64, mut read: impl FnMut(TileId) -> Result<Vec<Digest>, E>) -> Result<Self, E> {
        let mut levels = Vec::new();
        for level in 0..LEVELS_MAX {
            let count = size >> (8 * level);
            if count == 0 {
                break;
            }
            let width = count % TILE_WIDTH;
            let id = TileId { level: Level::Hashes(level), index: count / TILE_WIDTH, width };
            levels.push(if width == 0 { Vec::new() } else { read(id)? });
        }
        Ok(Self { size, levels })
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf hash; gives the tiles that became full by it, lowest level first.
    pub fn push(&mut self, leaf: Digest) -> Vec<(TileId, Vec<Digest>)> {
        let mut full = Vec::new();
        let mut carry = leaf;
        self.size += 1;
        for level in 0..LEVELS_MAX {
            let at = usize::try_from(level).unwrap_or(usize::MAX);
            if self.levels.len() <= at {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(at) else { break };
            hashes.push(carry);
            if (hashes.len() as u64) < TILE_WIDTH {
                break;
            }
            let hashes = std::mem::take(hashes);
            carry = subtree(&hashes);
            let index = (self.size >> (8 * (level + 1))) - 1;
            full.push((TileId { level: Level::Hashes(level), index, width: TILE_WIDTH }, hashes));
        }
        full
    }

    /// The partial tiles at the edge.
    pub fn partial(&self) -> impl Iterator<Item = (TileId, &[Digest])> {
        self.levels.iter().zip(0u32..).filter(|(hashes, _)| !hashes.is_empty()).map(|(hashes, level)| {
            let index = (self.size >> (8 * level)) / TILE_WIDTH;
            (TileId { level: Level::Hashes(level), index, width: hashes.len() as u64 }, hashes.as_slice())
        })
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        let mut peaks = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = hashes.as_slice();
            while !rest.is_empty() {
                // The largest power of two that fits: the complete subtrees of a partial tile, left to right.
                let (peak, after) = rest.split_at(1 << rest.len().ilog2());
                peaks.push(subtree(peak));
                rest = after;
            }
        }
        merkle::root_of_peaks(&peaks)
    }
}

/// The root over a power of two of hashes.
fn subtree(hashes: &[Digest]) -> Digest {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.as_chunks::<2>().0.iter().map(|[left, right]| merkle::node(left, right)).collect();
    }
    level.first().copied().unwrap_or_else(merkle::empty_root)
}

/// Subtree hashes read from tiles, for proofs: `read` gives the hashes of a tile.
pub struct TileHashes<F> {
    size: u64,
    read: F,
}

impl<F> TileHashes<F> {
    /// Hashes of the tree of `size` leaves.
    pub fn new(size: u64, read: F) -> Self {
        Self { size, read }
    }
}

impl<E, F: Fn(TileId) -> Result<Vec<Digest>, E>> merkle::Hashes for TileHashes<F> {
    type Error = E;
    fn hash(&self, height: u32, index: u64) -> Result<Digest, E> {
        let (level, within) = (height / 8, height % 8);
        let first = index << within;
        let tile = first / TILE_WIDTH;
        let width = (self.size >> (8 * level)).saturating_sub(tile * TILE_WIDTH).min(TILE_WIDTH);
        let hashes = (self.read)(TileId { level: Level::Hashes(level), index: tile, width })?;
        let from = usize::try_from(first % TILE_WIDTH).unwrap_or(usize::MAX);
        let part = hashes.get(from..from.saturating_add(1 << within)).unwrap_or_default();
        Ok(subtree(part))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::log::merkle::{consistency, inclusion, leaf, root, verify_consistency, verify_inclusion};

    #[test]
    fn paths_are_those_of_the_specification() {
        let id = |level, index, width| TileId { level, index, width };
        for (tile, path) in [
            (id(Level::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067"),
            (id(Level::Entries, 0, 5), "tile/entries/000.p/5"),
            (id(Level::Hashes(2), 1000, 255), "tile/2/x001/000.p/255"),
        ] {
            assert_eq!(tile.to_string(), path);
            assert_eq!(TileId::parse(path), Some(tile));
        }
        for wrong in [
            "tile/0/1",
            "tile/0/x000/001",
            "tile/0/001.p/256",
            "tile/0/001.p/0",
            "tile/9/000",
            "tile/0/../000",
            "tile/0/000.p/05",
        ] {
            assert_eq!(TileId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_edge_grows_into_the_tree_of_the_definition() {
        // 66 000 leaves fill level 1 and open level 2.
        let store: RefCell<BTreeMap<String, Vec<Digest>>> = RefCell::default();
        let mut edge = Edge::default();
        let mut sizes = Vec::new();
        for i in 0..66_000u64 {
            for (id, hashes) in edge.push(leaf(&i.to_be_bytes())) {
                store.borrow_mut().insert(id.to_string(), hashes);
            }
            if [1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537, 66_000].contains(&(i + 1)) {
                for (id, hashes) in edge.partial() {
                    store.borrow_mut().insert(id.to_string(), hashes.to_vec());
                }
                sizes.push((i + 1, edge.root()));
            }
        }
        let read = |id: TileId| store.borrow().get(&id.to_string()).cloned().ok_or(id);
        for &(size, expected) in &sizes {
            let hashes = TileHashes::new(size, read);
            assert_eq!(root(&hashes, size), Ok(expected), "size {size}");
            assert_eq!(Edge::load(size, read).map(|e| e.root()), Ok(expected));
            let partial: Vec<_> = tiles_of(size).into_iter().filter(|t| t.width < TILE_WIDTH).collect();
            assert_eq!(partial_tiles(size), partial, "size {size}");
            assert!(tiles_of(size).iter().filter(|t| t.level != Level::Entries).all(|t| read(*t).is_ok()));
            for index in [0, size / 2, size - 1] {
                let path = inclusion(&hashes, index, size).unwrap_or_else(|e| panic!("{e}"));
                assert!(verify_inclusion(&leaf(&index.to_be_bytes()), index, size, &path, &expected));
            }
        }
        for (i, &(old, old_root)) in sizes.iter().enumerate() {
            for &(new, new_root) in &sizes[i..] {
                let proof = consistency(&TileHashes::new(new, read), old, new).unwrap_or_else(|e| panic!("{e}"));
                assert!(verify_consistency(old, &old_root, new, &new_root, &proof), "{old} to {new}");
            }
        }
    }

    #[test]
    fn bundles_read_what_they_write() {
        let mut bundle = Vec::new();
        for entry in [b"".as_slice(), b"one", &[7; 65_535]] {
            write_entry(&mut bundle, entry);
        }
        assert_eq!(parse_entries(&bundle, 3).map(|e| e.len()), Some(3));
        assert_eq!(parse_entries(&bundle, 2), None);
        bundle.pop();
        assert_eq!(parse_entries(&bundle, 3), None);
    }
}
