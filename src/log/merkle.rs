//! The Merkle tree of RFC 6962, section 2.1: hashes, inclusion proofs (2.1.1) and consistency proofs (2.1.2).

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

/// The hash of a leaf: SHA-256 of a zero byte and the entry.
pub fn leaf(entry: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(entry);
    Digest(hash.finalize().into())
}

/// The hash of an inner node: SHA-256 of a one byte and both children.
pub fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left.0);
    hash.update(right.0);
    Digest(hash.finalize().into())
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

/// Where the hashes of complete subtrees come from.
pub trait Hashes {
    /// Why a hash could not be had.
    type Error;
    /// The root of the complete subtree with `1 << height` leaves that begins at leaf `index << height`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn hash(&self, height: u32, index: u64) -> Result<Digest, Self::Error>;
}

/// The complete subtrees, as (height, index), that together are the leaves `from..to`, left to right.
fn cover(from: u64, to: u64) -> Vec<(u32, u64)> {
    let mut parts = Vec::new();
    let mut at = from;
    while at < to {
        let aligned = if at == 0 { 63 } else { at.trailing_zeros() };
        let fits = 63 - (to - at).leading_zeros();
        let height = aligned.min(fits);
        parts.push((height, at >> height));
        at += 1 << height;
    }
    parts
}

/// The root over `peaks`, the complete subtrees of a tree from left to right.
pub fn root_of_peaks(peaks: &[Digest]) -> Digest {
    let mut right_to_left = peaks.iter().rev();
    let Some(last) = right_to_left.next() else { return empty_root() };
    right_to_left.fold(*last, |right, left| node(left, &right))
}

/// A growing tree of which only the peaks are kept: enough to know its root after each leaf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peaks {
    size: u64,
    peaks: Vec<Digest>,
}

impl Peaks {
    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        // As in a binary counter: each trailing one of the size is a peak that the new leaf completes.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        root_of_peaks(&self.peaks)
    }
}

/// The hash of the leaves `from..to`, where the range is one that RFC 6962 forms (or the whole tree).
fn range_hash<H: Hashes>(hashes: &H, from: u64, to: u64) -> Result<Digest, H::Error> {
    let peaks = cover(from, to).into_iter().map(|(h, i)| hashes.hash(h, i)).collect::<Result<Vec<_>, _>>()?;
    Ok(root_of_peaks(&peaks))
}

/// The root of the tree with the first `size` leaves.
///
/// # Errors
/// If a hash cannot be read.
pub fn root<H: Hashes>(hashes: &H, size: u64) -> Result<Digest, H::Error> {
    range_hash(hashes, 0, size)
}

/// The largest power of two below `n`, for `n` of at least 2: where RFC 6962 splits a tree.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The audit path for leaf `index` in the tree with `size` leaves, lowest sibling first.
///
/// # Errors
/// If a hash cannot be read.
///
/// # Panics
/// If `index` is not below `size`.
pub fn inclusion<H: Hashes>(hashes: &H, index: u64, size: u64) -> Result<Vec<Digest>, H::Error> {
    assert!(index < size, "leaf {index} is not in a tree of {size}");
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(range_hash(hashes, middle, to)?);
            to = middle;
        } else {
            path.push(range_hash(hashes, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` shows that the leaf hash `leaf` is number `index` of the tree with `size` leaves and root `root`
/// (RFC 9162, section 2.1.3.2).
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, path: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// The proof that the tree with `old` leaves is a prefix of the one with `new`.
///
/// # Errors
/// If a hash cannot be read.
///
/// # Panics
/// If `old` is larger than `new`.
pub fn consistency<H: Hashes>(hashes: &H, old: u64, new: u64) -> Result<Vec<Digest>, H::Error> {
    assert!(old <= new, "a tree of {new} is not larger than one of {old}");
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    let (mut from, mut to, mut whole) = (0, new, true);
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(range_hash(hashes, middle, to)?);
            to = middle;
        } else {
            proof.push(range_hash(hashes, from, middle)?);
            from = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(range_hash(hashes, from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that the tree of `old_size` leaves with `old_root` is a prefix of that of `new_size` with
/// `new_root` (RFC 9162, section 2.1.4.2).
pub fn verify_consistency(
    old_size: u64,
    old_root: &Digest,
    new_size: u64,
    new_root: &Digest,
    proof: &[Digest],
) -> bool {
    if old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    if old_size == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let mut proof = proof.iter();
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let start = if old_size.is_power_of_two() { Some(old_root) } else { proof.next() };
    let Some(start) = start else { return false };
    let (mut old, mut new) = (*start, *start);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node(sibling, &old);
            new = node(sibling, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node(&new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old == *old_root && new == *new_root
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// All leaves in memory; subtree hashes by definition.
    struct Leaves(Vec<Digest>);

    impl Hashes for Leaves {
        type Error = Infallible;
        fn hash(&self, height: u32, index: u64) -> Result<Digest, Infallible> {
            if height == 0 {
                return Ok(self.0[usize::try_from(index).expect("small")]);
            }
            let (Ok(left), Ok(right)) = (self.hash(height - 1, index * 2), self.hash(height - 1, index * 2 + 1));
            Ok(node(&left, &right))
        }
    }

    /// MTH of RFC 6962, section 2.1, word for word.
    fn mth(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let k = usize::try_from(split(many.len() as u64)).expect("small");
                node(&mth(&many[..k]), &mth(&many[k..]))
            }
        }
    }

    fn leaves(n: u64) -> Leaves {
        Leaves((0..n).map(|i| leaf(&i.to_be_bytes())).collect())
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        for n in 0..70 {
            let tree = leaves(n);
            let Ok(got) = root(&tree, n);
            assert_eq!(got, mth(&tree.0), "size {n}");
            let mut peaks = Peaks::default();
            tree.0.iter().for_each(|l| peaks.push(*l));
            assert_eq!((peaks.size(), peaks.root()), (n, got));
        }
    }

    #[test]
    fn every_inclusion_proof_holds_and_every_change_breaks_it() {
        for n in 1..40 {
            let tree = leaves(n);
            let Ok(top) = root(&tree, n);
            for i in 0..n {
                let Ok(path) = inclusion(&tree, i, n);
                let own = leaf(&i.to_be_bytes());
                assert!(verify_inclusion(&own, i, n, &path, &top), "{i} of {n}");
                assert!(!verify_inclusion(&leaf(b"other"), i, n, &path, &top));
                assert!(!verify_inclusion(&own, i, n, &path, &empty_root()));
                for other in (0..n).filter(|&o| o != i) {
                    assert!(!verify_inclusion(&own, other, n, &path, &top), "{i} shown as {other} of {n}");
                }
                for k in 0..path.len() {
                    let mut wrong = path.clone();
                    wrong[k].0[0] ^= 1;
                    assert!(!verify_inclusion(&own, i, n, &wrong, &top));
                }
                let longer: Vec<_> = path.iter().copied().chain([own]).collect();
                assert!(!verify_inclusion(&own, i, n, &longer, &top));
                assert!(path.is_empty() || !verify_inclusion(&own, i, n, &path[1..], &top));
            }
        }
    }

    #[test]
    fn every_consistency_proof_holds_and_every_change_breaks_it() {
        for n in 0..40 {
            let tree = leaves(n);
            let Ok(new) = root(&tree, n);
            for m in 0..=n {
                let Ok(old) = root(&tree, m);
                let Ok(proof) = consistency(&tree, m, n);
                assert!(verify_consistency(m, &old, n, &new, &proof), "{m} to {n}");
                if m > 0 && m < n {
                    assert!(!verify_consistency(m, &leaf(b"x"), n, &new, &proof));
                    assert!(!verify_consistency(m, &old, n, &leaf(b"x"), &proof));
                    assert!(!verify_consistency(m - 1, &old, n, &new, &proof) || m == 1);
                    for k in 0..proof.len() {
                        let mut wrong = proof.clone();
                        wrong[k].0[9] ^= 4;
                        assert!(!verify_consistency(m, &old, n, &new, &wrong));
                    }
                }
            }
        }
    }
}
