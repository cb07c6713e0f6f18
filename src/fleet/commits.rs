//! The commits against the tree: every place of the log belongs to one commit, whose entries are those of the log and lead
//! to the root it names, and which the log's key of its time has signed.
//!
//! Each is read once, before it is known which keys the log had. So a signature is first compared with the keys that it may
//! well be of (`Passed`), and once the log has been replayed those are compared with the keys there were. A
//! commit of none of them is read again.

use std::collections::{BTreeMap, BTreeSet};

use super::inspect::Report;
use super::{FleetError, apart};
use crate::digest::Digest;
use crate::disk::{EntryKind, is_temporary};
use crate::limits::COMMIT_BYTES_MAX;
use crate::log::commit::Commit;
use crate::log::merkle::{self, Peaks};
use crate::log::note::VerifierKey;
use crate::store::Store;

/// A commit whose entries need no longer be held.
struct Claim {
    /// Whether its entries are those of the log.
    same: bool,
    /// The tree that it claims to lead to.
    size: u64,
    root: Digest,
    /// Which of the likely keys has signed it.
    signer: Option<usize>,
}

/// The commits of a log.
#[derive(Default)]
pub(super) struct Commits {
    claims: BTreeMap<u64, Claim>,
    /// The numbers of all files, also of those that are damaged.
    there: BTreeSet<u64>,
    likely: Vec<VerifierKey>,
}

/// The number of a commit's path.
fn number(path: &str) -> Option<u64> {
    Commit::number(path.strip_prefix("log/")?)
}

fn path(number: u64) -> String {
    format!("log/{}", Commit::path(number))
}

impl Commits {
    /// Reads all commits of the log with these leaves. `likely` are keys that may have signed them.
    pub(super) fn read(
        store: &Store,
        files: &[(String, EntryKind)],
        leaves: &[Digest],
        likely: Vec<VerifierKey>,
        report: &mut Report,
    ) -> Result<Self, FleetError> {
        let regular = files.iter().filter(|(path, kind)| *kind != EntryKind::Other && !is_temporary(path));
        let there: Vec<u64> = regular.filter_map(|(path, _)| number(path)).collect();
        let parts = apart::each(&there, |_, numbers| {
            let mut report = Report::default();
            let mut claims = Vec::new();
            for &number in numbers {
                let path = path(number);
                let Some(bytes) = report.read(store, &path, COMMIT_BYTES_MAX)? else { continue };
                match Commit::parse(&bytes).filter(|(commit, _)| commit.old_size == number) {
                    Some((commit, note)) => {
                        let signer = likely.iter().position(|key| note.is_signed_by(key));
                        claims.push((number, Claim { signer, ..Claim::of(&commit, leaves) }));
                    }
                    None => report.damage(&path, "it is not the commit that its name says"),
                }
            }
            Ok::<_, FleetError>((claims, report))
        });
        let mut claims = BTreeMap::new();
        for part in parts {
            let (of_part, said) = part?;
            claims.extend(of_part);
            report.problems.extend(said.problems);
        }
        Ok(Self { claims, there: there.into_iter().collect(), likely })
    }

    /// Compares them with each other and with the tree.
    pub(super) fn check(&self, leaves: &[Digest], report: &mut Report) {
        let size = leaves.len() as u64;
        let mut peaks = Peaks::default();
        let mut leaves = leaves.iter();
        let mut begun = BTreeSet::new();
        while peaks.size() < size {
            let at = peaks.size();
            begun.insert(at);
            // Go on with the next one there is; what lies between belongs to the one that is missing or damaged.
            let next = match self.claims.get(&at) {
                Some(claim) => claim.size.min(size),
                None => self.there.range(at + 1..).next().copied().unwrap_or(size).min(size),
            };
            leaves.by_ref().take(usize::try_from(next - at).unwrap_or(usize::MAX)).for_each(|l| peaks.push(*l));
            match self.claims.get(&at) {
                Some(claim) if !claim.same || claim.size != peaks.size() || claim.root != peaks.root() => {
                    report.damage(&path(at), "its entries are not those of the log");
                }
                Some(_) => {}
                None if self.there.contains(&at) => {}
                None => report.damage(&path(at), "it is missing"),
            }
        }
        for (number, _) in self.claims.range(..size).filter(|(at, _)| !begun.contains(*at)) {
            report.damage(&path(*number), "no commit of this log begins there");
        }
        for (number, _) in self.claims.range(size..) {
            report.note(&path(*number), "a commit that is not yet published; the next change finishes it");
        }
    }

    /// Every commit was signed with one of `keys`, which are those that the log has had.
    pub(super) fn check_signatures(
        &self,
        store: &Store,
        files: &[(String, EntryKind)],
        keys: &[VerifierKey],
        report: &mut Report,
    ) -> Result<(), FleetError> {
        let signer = |number| self.likely.get(self.claims.get(&number)?.signer?);
        for (path, number) in files.iter().filter_map(|(path, _)| Some((path, number(path)?))) {
            if signer(number).is_some_and(|key| keys.contains(key)) {
                continue;
            }
            let bytes = store.disk().read(path, COMMIT_BYTES_MAX)?.unwrap_or_default();
            let signed = Commit::parse(&bytes).is_some_and(|(_, note)| keys.iter().any(|key| note.is_signed_by(key)));
            if !signed {
                report.damage(path, "it is not signed by the log's key");
            }
        }
        Ok(())
    }
}

impl Claim {
    /// What remains to be checked of a commit, once its entries have been looked at.
    fn of(commit: &Commit, leaves: &[Digest]) -> Self {
        let first = usize::try_from(commit.old_size).unwrap_or(usize::MAX);
        let own = commit.entries.iter().map(|e| merkle::leaf(e));
        // What lies beyond the tree is of no interest here.
        let same = leaves.get(first..).unwrap_or_default().iter().zip(own).all(|(leaf, own)| *leaf == own);
        Self { same, size: commit.new_size(), root: commit.new_root, signer: None }
    }
}
