//! The log's files against each other: entry bundles, hash tiles, commits and the checkpoint say the same thing four
//! times, so one that was changed can be named.

use std::collections::{BTreeMap, BTreeSet};

use super::FleetError;
use super::inspect::Report;
use crate::digest::Digest;
use crate::disk::{EntryKind, is_temporary};
use crate::limits::{CHECKPOINT_BYTES_MAX, COMMIT_BYTES_MAX, TILE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::commit::Commit;
use crate::log::merkle::{self, Peaks};
use crate::log::note::Note;
use crate::log::tile::{Edge, Level, TILE_WIDTH, TileId, parse_entries, parse_hashes, tiles_of, write_hashes};
use crate::store::{Store, StoreError};

/// The leaves of the log, as far as its files agree on them, and the tiles they make.
pub(super) struct Tree {
    size: u64,
    leaves: Vec<Digest>,
    tiles: BTreeMap<TileId, Vec<Digest>>,
}

/// A commit whose entries need no longer be held.
struct Claim<'a> {
    path: &'a str,
    /// Whether its entries are those of the log.
    same: bool,
    /// The tree that it claims to lead to.
    size: u64,
    root: Digest,
}

/// What one bundle's entries hash to, and what the hash tile beside it says; none if that file cannot be read.
struct Pair {
    bundle: TileId,
    entries: Option<Vec<Digest>>,
    hashes: Option<Vec<Digest>>,
}

impl Pair {
    fn read(store: &Store, bundle: TileId) -> Result<Self, FleetError> {
        let hash_tile = TileId { level: Level::Hashes(0), ..bundle };
        // What is no tile at all is as good as none; `check_files` names it.
        let read = |id: TileId| match store.read(&format!("log/{id}"), TILE_BYTES_MAX) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            other => other,
        };
        let entries = read(bundle)?.and_then(|bytes| parse_entries(&bytes, bundle.width));
        let hashes = read(hash_tile)?.and_then(|bytes| parse_hashes(&bytes, bundle.width));
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
    /// `head` is the file that the checkpoint is from.
    pub(super) fn read(
        store: &Store,
        head: &str,
        checkpoint: &Checkpoint,
        report: &mut Report,
    ) -> Result<Self, FleetError> {
        let mut leaves = Vec::new();
        // The pairs that are not what they should be, each with the place of its first leaf. Mostly there are none, and
        // the leaves lie in memory once.
        let mut odd: Vec<(usize, Pair)> = Vec::new();
        for id in tiles_of(checkpoint.size).into_iter().filter(|t| t.level == Level::Entries) {
            let pair = Pair::read(store, id)?;
            let first = leaves.len();
            leaves.extend(pair.leaves(Prefer::Entries));
            if pair.entries.is_none() || pair.entries != pair.hashes {
                odd.push((first, pair));
            }
        }
        let root = |leaves: &[Digest]| {
            let mut peaks = Peaks::default();
            leaves.iter().for_each(|l| peaks.push(*l));
            peaks.root()
        };
        let entries_right = root(&leaves) == checkpoint.root;
        let by_hashes = || {
            let mut by_hashes = leaves.clone();
            for (first, pair) in &odd {
                let right = by_hashes.iter_mut().skip(*first).zip(pair.leaves(Prefer::Hashes));
                right.for_each(|(leaf, hash)| *leaf = hash);
            }
            Some(by_hashes).filter(|by_hashes| root(by_hashes) == checkpoint.root)
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
        Ok(Self::of(checkpoint.size, by_hashes.unwrap_or(leaves)).0)
    }

    fn of(size: u64, leaves: Vec<Digest>) -> (Self, Digest) {
        let mut edge = Edge::default();
        let mut tiles: BTreeMap<TileId, Vec<Digest>> = BTreeMap::new();
        for leaf in &leaves {
            tiles.extend(edge.push(*leaf));
        }
        tiles.extend(edge.partial().map(|(id, hashes)| (id, hashes.to_vec())));
        (Self { size, leaves, tiles }, edge.root())
    }

    /// The tree as the commit beyond the checkpoint makes it, if there is a right one: its writer may have written some of
    /// its tiles already.
    fn ahead(&self, store: &Store) -> Result<Option<Self>, FleetError> {
        let bytes = match store.read(&format!("log/{}", Commit::path(self.size)), COMMIT_BYTES_MAX) {
            Err(StoreError::Damaged { .. }) => None,
            other => other?,
        };
        let Some(commit) = bytes.and_then(|b| Commit::parse(&b)).map(|(c, _)| c).filter(|c| c.old_size == self.size)
        else {
            return Ok(None);
        };
        let leaves = self.leaves.iter().copied().chain(commit.entries.iter().map(|e| merkle::leaf(e))).collect();
        let (tree, root) = Self::of(commit.new_size(), leaves);
        Ok((root == commit.new_root).then_some(tree))
    }

    /// Checks every file below `log/`, and that none is missing or strange.
    pub(super) fn check_files(
        &self,
        store: &Store,
        files: &[(String, EntryKind)],
        report: &mut Report,
    ) -> Result<(), FleetError> {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut commits: BTreeMap<u64, Claim<'_>> = BTreeMap::new();
        let mut there = BTreeSet::new();
        let ahead = self.ahead(store)?;
        for (path, kind) in files.iter().filter(|(p, _)| p.starts_with("log/")) {
            seen.insert(path);
            let below = path.strip_prefix("log/").unwrap_or(path);
            if *kind == EntryKind::Other {
                report.damage(path, "it is neither file nor directory (a symbolic link, socket or device)");
            } else if is_temporary(path) {
                report.note(path, "left by a writer that was interrupted; the next change removes it");
            } else if let Some(id) = TileId::parse(below) {
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
            } else if let Some(number) = Commit::number(below) {
                there.insert(number);
                let Some(bytes) = report.read(store, path, COMMIT_BYTES_MAX)? else { continue };
                match Commit::parse(&bytes).filter(|(c, _)| c.old_size == number) {
                    Some((commit, _)) => drop(commits.insert(number, self.claim(path, &commit))),
                    None => report.damage(path, "it is not the commit that its name says"),
                }
            } else if below.strip_prefix("cosignatures/").is_some_and(|name| Digest::parse(name).is_some()) {
                let bytes = report.read(store, path, CHECKPOINT_BYTES_MAX)?.unwrap_or_default();
                if Note::parse(&bytes).ok().and_then(|note| Checkpoint::parse(&note.text)).is_none() {
                    report.damage(path, "it is not a cosigned checkpoint");
                }
            } else if !["checkpoint", "head"].contains(&below) {
                report.damage(path, "no log has such a file");
            }
        }
        for id in tiles_of(self.size).iter().map(|id| format!("log/{id}")).filter(|path| !seen.contains(path.as_str()))
        {
            report.damage(&id, "it is missing");
        }
        self.check_commits(&commits, &there, report);
        Ok(())
    }

    /// Whether these bytes are that tile of this tree, or were when it was smaller.
    fn has(&self, id: TileId, bytes: &[u8]) -> bool {
        match id.level {
            Level::Entries => {
                let first = usize::try_from(id.index.saturating_mul(TILE_WIDTH)).unwrap_or(usize::MAX);
                let own = parse_entries(bytes, id.width).unwrap_or_default();
                let own: Vec<Digest> = own.iter().map(|e| merkle::leaf(e)).collect();
                !own.is_empty() && self.leaves.get(first..).is_some_and(|l| l.starts_with(&own))
            }
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

    /// What remains to be checked of a commit, once its entries have been looked at.
    fn claim<'a>(&self, path: &'a str, commit: &Commit) -> Claim<'a> {
        let first = usize::try_from(commit.old_size).unwrap_or(usize::MAX);
        let own = commit.entries.iter().map(|e| merkle::leaf(e));
        // What lies beyond the tree is of no interest here.
        let same = self.leaves.get(first..).unwrap_or_default().iter().zip(own).all(|(leaf, own)| *leaf == own);
        Claim { path, same, size: commit.new_size(), root: commit.new_root }
    }

    /// Every place of the log belongs to one commit, whose entries are those of the log and lead to the root it names.
    fn check_commits(&self, commits: &BTreeMap<u64, Claim<'_>>, there: &BTreeSet<u64>, report: &mut Report) {
        let mut peaks = Peaks::default();
        let mut leaves = self.leaves.iter();
        let mut begun = BTreeSet::new();
        while peaks.size() < self.size {
            let at = peaks.size();
            begun.insert(at);
            // Go on with the next one there is; what lies between belongs to the one that is missing or damaged.
            let next = match commits.get(&at) {
                Some(claim) => claim.size.min(self.size),
                None => there.range(at + 1..).next().copied().unwrap_or(self.size).min(self.size),
            };
            leaves.by_ref().take(usize::try_from(next - at).unwrap_or(usize::MAX)).for_each(|l| peaks.push(*l));
            match commits.get(&at) {
                Some(claim) if !claim.same || claim.size != peaks.size() || claim.root != peaks.root() => {
                    report.damage(claim.path, "its entries are not those of the log");
                }
                Some(_) => {}
                None if there.contains(&at) => {}
                None => report.damage(&format!("log/{}", Commit::path(at)), "it is missing"),
            }
        }
        for (_, claim) in commits.range(..self.size).filter(|(at, _)| !begun.contains(*at)) {
            report.damage(claim.path, "no commit of this log begins there");
        }
        for (_, claim) in commits.range(self.size..) {
            report.note(claim.path, "a commit that is not yet published; the next change finishes it");
        }
    }
}
