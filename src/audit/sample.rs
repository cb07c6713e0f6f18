//! Entries for closer inspection, chosen so that nobody can pick them and anybody can choose them again.
//!
//! ```text
//! for i = 0, 1, 2, …
//!     x = the first 8 bytes of SHA-256(seed || i as 8 big-endian bytes), as a big-endian number
//!     skip x if x >= (2^64 / N rounded down) * N      (so that every entry is equally likely)
//!     take entry number x mod N of the N entries, unless it was taken before
//! until n are taken, or all
//! ```
//! The seed is the root hash of the log's head, 32 bytes, unless somebody gives another one. Whoever makes the log can try
//! different last entries and so different roots; an auditor who fears that gives a seed of her own.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::digest::Digest;

/// `count` entries out of `entries`, in order.
pub fn sample(seed: &Digest, entries: Range<u64>, count: usize) -> BTreeSet<u64> {
    let size = entries.end.saturating_sub(entries.start);
    let wanted = u64::try_from(count).unwrap_or(u64::MAX).min(size);
    let mut taken = BTreeSet::new();
    if size == 0 {
        return taken;
    }
    let limit = (1_u128 << 64) / u128::from(size) * u128::from(size);
    for i in 0_u64.. {
        if taken.len() as u64 >= wanted {
            break;
        }
        let block = Digest::of(&[seed.0.as_slice(), &i.to_be_bytes()].concat());
        let x = block.0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if u128::from(x) < limit {
            taken.insert(entries.start + x % size);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_as_many_as_there_are() {
        let seed = Digest::of(b"a root");
        assert_eq!(sample(&seed, 0..0, 5), BTreeSet::new());
        assert_eq!(sample(&seed, 7..10, 5), (7..10).collect());
        let forty = sample(&seed, 100..1_100, 40);
        assert!(forty.len() == 40 && forty.iter().all(|i| (100..1_100).contains(i)));
        assert_ne!(forty, sample(&Digest::of(b"another root"), 100..1_100, 40));
        assert!(forty.is_superset(&sample(&seed, 100..1_100, 25)), "more of the same are the same and more");
    }

    #[test]
    fn every_entry_is_as_likely_as_any_other() {
        let mut hits = [0_u32; 10];
        for n in 0..2_000_u32 {
            for i in sample(&Digest::of(&n.to_be_bytes()), 0..10, 1) {
                hits[usize::try_from(i).unwrap()] += 1;
            }
        }
        assert!(hits.iter().all(|n| (140..=260).contains(n)), "{hits:?}");
    }
}
