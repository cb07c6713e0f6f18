//! The log's files against each other: entry bundles, hash tiles, commits and the checkpoint say the same thing four
//! times, so one that was changed can be named.

use std::collections::{BTreeMap, BTreeSet};

use super::commits::Commits;
use super::inspect::Report;
use super::passed::Passed;
use super::{FleetError, apart};
use crate::digest::Digest;
use crate::disk::{EntryKind, is_temporary};
use crate::limits::{CHECKPOINT_BYTES_MAX, COMMIT_BYTES_MAX, TILE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::commit::Commit;
use crate::log::merkle;
use crate::log::note::Note;
use crate::log::tile::{Edge, Level, TILE_WIDTH, TileId, parse_entries, parse_hashes, tiles_of, write_hashes};
use crate::store::{Store, StoreError};

/// The leaves of the log, as far as its files agree on them, and the tiles they make.
pub(super) struct Tree {
    size: u64,
    leaves: Vec<Digest>,
    /// Those above the lowest, which are the leaves.
    tiles: BTreeMap<TileId, Vec<Digest>>,
    /// Bundles that have been read, and hash to the lowest tile beside them, which is the tree's.
    right: BTreeSet<u64>,
}

/// What one bundle's entries hash to, and what the hash tile beside it says; none if that file cannot be read.
struct Pair {
    bundle: TileId,
    entries: Option<Vec<Digest>>,
    hashes: Option<Vec<Digest>>,
}

/// What several bundles have come to.
#[derive(Default)]
struct Part {
    leaves: Vec<Digest>,
    /// The pairs that are not what they should be, each with the place of its first leaf. Mostly there are none, and the
    /// leaves lie in memory once.
    odd: Vec<(usize, Pair)>,
    passed: Passed,
}

impl Part {
    fn read(store: &Store, bundles: &[TileId]) -> Result<Self, FleetError> {
        let mut part = Self::default();
        for id in bundles {
            let pair = Pair::read(store, *id, &mut part.passed)?;
            let first = part.leaves.len();
            part.leaves.extend(pair.leaves(Prefer::Entries));
            if pair.entries.is_none() || pair.entries != pair.hashes {
                part.odd.push((first, pair));
            }
        }
        Ok(part)
    }

    fn extend(&mut self, next: Self) {
        let before = self.leaves.len();
        self.leaves.extend(next.leaves);
        self.odd.extend(next.odd.into_iter().map(|(first, pair)| (before + first, pair)));
        self.passed.extend(next.passed);
    }
}

impl Pair {
    fn read(store: &Store, bundle: TileId, passed: &mut Passed) -> Result<Self, FleetError> {
        let hash_tile = TileId { level: Level::Hashes(0), ..bundle };
        // What is no tile at all is as good as none; `check_files` names it.
        let read = |id: TileId| match store.read(&format!("log/{id}"), TILE_BYTES_MAX) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            other => other,
        };
        let entries = read(bundle)?.and_then(|bytes| parse_entries(&bytes, bundle.width));
        let hashes = read(hash_tile)?.and_then(|bytes| parse_hashes(&bytes, bundle.width));
        (bundle.index * TILE_WIDTH..).zip(entries.iter().flatten()).for_each(|(index, entry)| passed.by(index, entry));
        Ok(Self { bundle, entries: entries.map(|list| list.iter().map(|e| merkle::leaf(e)).collect()), hashes })
    }

    fn leaves(&self, prefer: Prefer) -> Vec<Digest> {
        let (first, second) = match prefer {
            Prefer::Entries => (&self.entries, &self.hashes),
            Prefer::Hashes => (&self.hashes, &self.entries),
        };
        let width = usize::try_from(self.bundle.width).unwrap_or_default();
        first.clone().or_else(|| second.clone()).unwrap_or_else(|| vec![merkle::empty_root(); width])
    }
}

#[derive(Clone, Copy)]
enum Prefer {
    Entries,
    Hashes,
}

impl Tree {
    /// Reads bundles and lowest tiles. Where the two differ, the one that leads to the checkpoint's root is right.
    /// `head` is the file that the checkpoint is from. Gives also what the entries say that is wanted before they are
    /// replayed.
    pub(super) fn read(
        store: &Store,
        head: &str,
        checkpoint: &Checkpoint,
        report: &mut Report,
    ) -> Result<(Self, Passed), FleetError> {
        let bundles: Vec<TileId> =
            tiles_of(checkpoint.size).into_iter().filter(|t| t.level == Level::Entries).collect();
        let mut whole = Part::default();
        for part in apart::each(&bundles, |_, bundles| Part::read(store, bundles)) {
            whole.extend(part?);
        }
        let Part { leaves, odd, passed } = whole;
        let (by_entries, root) = Self::of(checkpoint.size, leaves);
        let entries_right = root == checkpoint.root;
        let by_hashes = || {
            let mut by_hashes = by_entries.leaves.clone();
            for (first, pair) in &odd {
                let right = by_hashes.iter_mut().skip(*first).zip(pair.leaves(Prefer::Hashes));
                right.for_each(|(leaf, hash)| *leaf = hash);
            }
            let (tree, root) = Self::of(checkpoint.size, by_hashes);
            (root == checkpoint.root).then_some(tree)
        };
        let by_hashes = if odd.is_empty() || entries_right { None } else { by_hashes() };
        for (_, pair) in &odd {
            let unreadable = pair.entries.is_none();
            // With neither leading to the root, both files of a pair that differs are suspect.
            if unreadable || !entries_right {
                report.damage(
                    &format!("log/{}", pair.bundle),
                    if unreadable {
                        "it is missing or cut short"
                    } else {
                        "its entries are not those that were logged"
                    },
                );
            }
        }
        if !entries_right && by_hashes.is_none() && odd.iter().all(|(_, p)| p.entries == p.hashes) {
            report.damage(head, "its root is not that of the entries");
        }
        let is_right = entries_right || by_hashes.is_some();
        let mut tree = by_hashes.unwrap_or(by_entries);
        if is_right {
            let odd: BTreeSet<u64> = odd.iter().map(|(_, pair)| pair.bundle.index).collect();
            tree.right = bundles.iter().map(|id| id.index).filter(|index| !odd.contains(index)).collect();
        }
        Ok((tree, passed))
    }

    fn of(size: u64, leaves: Vec<Digest>) -> (Self, Digest) {
        let mut edge = Edge::default();
        let mut tiles: BTreeMap<TileId, Vec<Digest>> = BTreeMap::new();
        let is_above = |id: &TileId| id.level != Level::Hashes(0);
        for leaf in &leaves {
            tiles.extend(edge.push(*leaf).into_iter().filter(|(id, _)| is_above(id)));
        }
        tiles.extend(edge.partial().filter(|(id, _)| is_above(id)).map(|(id, hashes)| (id, hashes.to_vec())));
        (Self { size, leaves, tiles, right: BTreeSet::new() }, edge.root())
    }

    /// The tree as the commits beyond the checkpoint make it, as far as they are right, if there is one: a writer may have
    /// written some of its tiles already, or a pull those of several commits.
    fn ahead(&self, store: &Store) -> Result<Option<Self>, FleetError> {
        let mut found: Option<Self> = None;
        loop {
            let tree = found.as_ref().unwrap_or(self);
            let bytes = match store.read(&format!("log/{}", Commit::path(tree.size)), COMMIT_BYTES_MAX) {
                Err(StoreError::Damaged { .. }) => None,
                other => other?,
            };
            let commit = bytes.and_then(|b| Commit::parse(&b)).map(|(c, _)| c);
            let Some(commit) = commit.filter(|c| c.old_size == tree.size) else { return Ok(found) };
            let leaves = tree.leaves.iter().copied().chain(commit.entries.iter().map(|e| merkle::leaf(e))).collect();
            let (next, root) = Self::of(commit.new_size(), leaves);
            if root != commit.new_root {
                return Ok(found);
            }
            found = Some(next);
        }
    }

    /// Checks every file below `log/`, and that none is missing or strange. What remains of the commits is given back.
    pub(super) fn check_files(
        &self,
        store: &Store,
        files: &[(String, EntryKind)],
        passed: &Passed,
        report: &mut Report,
    ) -> Result<Commits, FleetError> {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let ahead = self.ahead(store)?;
        for (path, kind) in files.iter().filter(|(p, _)| p.starts_with("log/")) {
            seen.insert(path);
            let below = path.strip_prefix("log/").unwrap_or(path);
            if *kind == EntryKind::Other {
                report.damage(path, "it is neither file nor directory (a symbolic link, socket or device)");
            } else if is_temporary(path) {
                report.note(path, "left by a writer that was interrupted; the next change removes it");
            } else if let Some(id) = TileId::parse(below) {
                if self.is_right(id) {
                    continue;
                }
                let Some(bytes) = report.read(store, path, TILE_BYTES_MAX)? else { continue };
                if self.has(id, &bytes) {
                    if id.width < id.width_in(self.size) {
                        report
                            .note(path, "a part of a tile that has grown since; left by a writer that was interrupted");
                    }
                    continue;
                }
                match &ahead {
                    Some(ahead) if ahead.has(id, &bytes) => {
                        report.note(
                            path,
                            "it belongs to a commit that is not yet published; the next change finishes it",
                        );
                    }
                    _ => report.damage(path, "it is not what the log's other files make it"),
                }
            } else if below.strip_prefix("cosignatures/").is_some_and(|name| Digest::parse(name).is_some()) {
                let bytes = report.read(store, path, CHECKPOINT_BYTES_MAX)?.unwrap_or_default();
                if Note::parse(&bytes).ok().and_then(|note| Checkpoint::parse(&note.text)).is_none() {
                    report.damage(path, "it is not a cosigned checkpoint");
                }
            } else if !["checkpoint", "head"].contains(&below) && Commit::number(below).is_none() {
                report.damage(path, "no log has such a file");
            }
        }
        for id in tiles_of(self.size).iter().map(|id| format!("log/{id}")).filter(|path| !seen.contains(path.as_str()))
        {
            report.damage(&id, "it is missing");
        }
        let commits = Commits::read(store, files, &self.leaves, passed.log_keys(store), report)?;
        commits.check(&self.leaves, report);
        Ok(commits)
    }

    /// Whether this is a file that was read when the tree was, and was right.
    fn is_right(&self, id: TileId) -> bool {
        matches!(id.level, Level::Entries | Level::Hashes(0))
            && id.width == id.width_in(self.size)
            && self.right.contains(&id.index)
    }

    /// Whether these bytes are that tile of this tree, or were when it was smaller.
    fn has(&self, id: TileId, bytes: &[u8]) -> bool {
        match id.level {
            Level::Entries => {
                let own = parse_entries(bytes, id.width).unwrap_or_default();
                let own: Vec<Digest> = own.iter().map(|e| merkle::leaf(e)).collect();
                self.begins(id, &own)
            }
            Level::Hashes(0) => self.begins(id, &parse_hashes(bytes, id.width).unwrap_or_default()),
            Level::Hashes(_) => {
                // A smaller partial tile, which a crash left, is a beginning of the one there is now.
                let whole =
                    self.tiles.range(TileId { width: 0, ..id }..=TileId { width: TILE_WIDTH, ..id }).next_back();
                whole.is_some_and(|(_, hashes)| {
                    bytes.len() as u64 == id.width * 32 && write_hashes(hashes).starts_with(bytes)
                })
            }
        }
    }

    /// Whether these are the leaves at this tile's place, as far as they go.
    fn begins(&self, id: TileId, own: &[Digest]) -> bool {
        let first = usize::try_from(id.index.saturating_mul(TILE_WIDTH)).unwrap_or(usize::MAX);
        !own.is_empty() && self.leaves.get(first..).is_some_and(|leaves| leaves.starts_with(own))
    }
}
