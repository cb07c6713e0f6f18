//! Sets of serials, and the shortest way to write them into a KRL.
//!
//! Revoked serials come dense (a whole fleet's certificates) or scattered (a stolen laptop here and there). PROTOCOL.krl
//! offers a list (8 bytes a serial), a range (21 bytes a run with its header) and a bitmap (a bit for each serial from
//! the first to the last). No `sshd` reads a bitmap wider than 16 384 bits, though `ssh-keygen -k` writes such; a KRL
//! with one locks everybody out.

use std::collections::BTreeMap;

use crate::limits::KRL_BITMAP_BITS_MAX;

/// Bytes of a serial in a list.
const LIST_COST: u64 = 8;
/// Bytes of a range: type, length, two serials.
const RANGE_COST: u64 = 21;
/// Bytes of a bitmap before its bits: type, length, offset, length.
const BITMAP_COST: u64 = 17;

/// A set of serials as runs: first serial to last, neither overlapping nor touching.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SerialSet(BTreeMap<u64, u64>);

/// The same set in the terms of PROTOCOL.krl.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Sections {
    pub(super) list: Vec<u64>,
    pub(super) ranges: Vec<(u64, u64)>,
    pub(super) bitmaps: Vec<Bitmap>,
}

/// Bit n stands for the serial `offset` + n; the bytes are those of a big-endian number without leading zeros.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bitmap {
    pub(super) offset: u64,
    pub(super) bits: Vec<u8>,
}

impl SerialSet {
    /// Adds the serials `first` to `last`; nothing, if `last` is smaller.
    pub(super) fn insert(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        // Whatever overlaps or touches is taken out and becomes part of the one new run.
        while let Some((&start, &end)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.0.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.0.insert(first, last);
    }

    /// Whether `serial` is in the set.
    pub(super) fn contains(&self, serial: u64) -> bool {
        self.0.range(..=serial).next_back().is_some_and(|(_, &last)| serial <= last)
    }

    /// How many runs it has.
    pub(super) fn run_count(&self) -> usize {
        self.0.len()
    }

    /// The runs, ascending.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(&first, &last)| (first, last))
    }

    /// What is in this set and not in `other`.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut left = BTreeMap::new();
        for (first, last) in self.runs() {
            let mut next = Some(first);
            // The last run that begins before this one may reach into it.
            let before = other.0.range(..first).next_back().into_iter();
            for (&start, &end) in before.chain(other.0.range(first..=last)) {
                let Some(from) = next.filter(|from| end >= *from) else { continue };
                if start > from {
                    left.insert(from, start - 1);
                }
                next = end.checked_add(1).filter(|next| *next <= last);
            }
            left.extend(next.map(|from| (from, last)));
        }
        Self(left)
    }

    /// Chooses list, range or bitmap for each run. A bitmap takes in the next run as long as the bits in between and
    /// of the run cost less than the run would cost alone; at the end it must pay for its own header.
    pub(super) fn sections(&self) -> Sections {
        let mut sections = Sections::default();
        let mut group: Vec<(u64, u64)> = Vec::new();
        for (first, last) in self.runs() {
            let room = 8 * cost_alone(first, last);
            let (start, end) = match (group.first(), group.last()) {
                (Some(&(start, _)), Some(&(_, end))) => (start, end),
                _ => (first, first),
            };
            if last - start >= KRL_BITMAP_BITS_MAX || last - end > room {
                sections.take(&group);
                group.clear();
            }
            if group.is_empty() && last - first > room {
                sections.take(&[(first, last)]);
            } else {
                group.push((first, last));
            }
        }
        sections.take(&group);
        sections
    }
}

/// Bytes that a run costs in a list or as a range.
fn cost_alone(first: u64, last: u64) -> u64 {
    match last - first {
        0 => LIST_COST,
        1 => 2 * LIST_COST,
        _ => RANGE_COST,
    }
}

impl Sections {
    /// Writes the runs of `group` in the shorter way: as one bitmap, or each alone.
    fn take(&mut self, group: &[(u64, u64)]) {
        let (Some(&(start, _)), Some(&(_, end))) = (group.first(), group.last()) else { return };
        let alone: u64 = group.iter().map(|&(first, last)| cost_alone(first, last)).sum();
        let bits = (end - start).saturating_add(1);
        if bits <= KRL_BITMAP_BITS_MAX && BITMAP_COST + bits / 8 + 1 < alone {
            self.bitmaps.push(Bitmap::of(group, start, bits));
            return;
        }
        for &(first, last) in group {
            match last - first {
                0 => self.list.push(first),
                1 => self.list.extend([first, last]),
                _ => self.ranges.push((first, last)),
            }
        }
    }
}

impl Bitmap {
    fn of(runs: &[(u64, u64)], offset: u64, bit_count: u64) -> Self {
        let byte_count = bit_count.div_ceil(8) as usize;
        let mut bits = vec![0_u8; byte_count];
        for n in runs.iter().flat_map(|&(first, last)| first - offset..=last - offset) {
            // The number is big-endian: bit 0 is in the last byte.
            if let Some(byte) = bits.get_mut(byte_count - 1 - (n / 8) as usize) {
                *byte |= 1 << (n % 8);
            }
        }
        Self { offset, bits }
    }

    /// The serials it stands for, ascending; `None` if one is beyond 64 bits.
    pub(super) fn serials(&self) -> Option<Vec<u64>> {
        let bytes = self.bits.iter().rev().zip((0_u64..).step_by(8));
        bytes
            .flat_map(|(byte, base)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| base + bit))
            .map(|n| self.offset.checked_add(n))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(runs: &[(u64, u64)]) -> SerialSet {
        let mut set = SerialSet::default();
        runs.iter().for_each(|&(first, last)| set.insert(first, last));
        set
    }

    fn unfolded(sections: &Sections) -> SerialSet {
        let mut set = SerialSet::default();
        sections.list.iter().for_each(|&n| set.insert(n, n));
        sections.ranges.iter().for_each(|&(first, last)| set.insert(first, last));
        sections.bitmaps.iter().flat_map(|b| b.serials().expect("within 64 bits")).for_each(|n| set.insert(n, n));
        set
    }

    #[test]
    fn runs_that_touch_become_one() {
        assert_eq!(set(&[(5, 6), (1, 2), (3, 4)]), set(&[(1, 6)]));
        assert_eq!(set(&[(1, 2), (4, 5), (9, 12), (2, 10)]), set(&[(1, 12)]));
        assert_eq!(set(&[(u64::MAX, u64::MAX), (1, u64::MAX)]).run_count(), 1);
        assert_eq!(set(&[(4, 3)]), SerialSet::default());
        let ends = set(&[(1, u64::MAX)]).minus(&set(&[(1, 1), (u64::MAX, u64::MAX)]));
        assert_eq!(ends, set(&[(2, u64::MAX - 1)]));
        assert!(set(&[(3, 5)]).contains(5) && !set(&[(3, 5)]).contains(6) && !set(&[(3, 5)]).contains(2));
    }

    #[test]
    fn each_shape_has_its_section() {
        let shapes = |runs: &[(u64, u64)]| {
            let s = set(runs).sections();
            (s.list.len(), s.ranges.len(), s.bitmaps.len())
        };
        assert_eq!(shapes(&[]), (0, 0, 0));
        assert_eq!(shapes(&[(7, 7), (1_000_000, 1_000_001)]), (3, 0, 0));
        assert_eq!(shapes(&[(1, 100_000)]), (0, 1, 0));
        assert_eq!(shapes(&[(1, u64::MAX)]), (0, 1, 0));
        let every_other: Vec<_> = (1..=50_u64).map(|n| (2 * n, 2 * n)).collect();
        assert_eq!(shapes(&every_other), (0, 0, 1));
        assert_eq!(shapes(&[&every_other[..], &[(200, 9_000), (1 << 40, 1 << 40)]].concat()), (1, 1, 1));
    }

    #[test]
    fn no_bitmap_is_wider_than_openssh_reads() {
        // The shape that makes ssh-keygen 9.2 and 10.5 write a KRL which sshd refuses: every 50th of 20 000.
        for step in [2_u64, 3, 13, 49, 50, 51, 63, 64, 65, 100] {
            for count in [400_u64, 20_000 / step, 16_384 / step, 16_384 / step + 1, 40_000 / step] {
                let runs: Vec<_> = (1..=count).map(|n| (n * step, n * step)).collect();
                let sections = set(&runs).sections();
                assert_eq!(unfolded(&sections), set(&runs));
                for bitmap in &sections.bitmaps {
                    assert!(bitmap.bits.len() as u64 * 8 <= KRL_BITMAP_BITS_MAX, "every {step}th, {count} times");
                }
            }
        }
    }

    fn any_runs() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let gap = prop_oneof![4 => 1..4_u64, 4 => 1..100_u64, 2 => 1..20_000_u64, 1 => 1..u64::MAX / 300];
        let length = prop_oneof![6 => Just(0_u64), 3 => 0..20_u64, 1 => 0..30_000_u64];
        prop::collection::vec((gap, length), 0..250).prop_map(|steps| {
            let mut next = 0_u64;
            let run = |(gap, length): (u64, u64)| {
                let first = next.saturating_add(gap);
                next = first.saturating_add(length);
                (first, next)
            };
            steps.into_iter().map(run).collect()
        })
    }

    proptest! {
        #[test]
        fn sections_stand_for_the_same_serials(runs in any_runs()) {
            let set = set(&runs);
            let sections = set.sections();
            prop_assert_eq!(unfolded(&sections), set);
            for bitmap in &sections.bitmaps {
                prop_assert!(bitmap.bits.len() as u64 * 8 <= KRL_BITMAP_BITS_MAX);
                prop_assert_ne!(bitmap.bits.first(), Some(&0));
            }
        }

        #[test]
        fn what_is_left_is_in_the_one_and_not_in_the_other(
            a in prop::collection::vec((1..200_u64, 0..20_u64), 0..20),
            b in prop::collection::vec((1..200_u64, 0..20_u64), 0..20),
        ) {
            let of = |runs: &[(u64, u64)]| set(&runs.iter().map(|&(first, n)| (first, first + n)).collect::<Vec<_>>());
            let (a, b) = (of(&a), of(&b));
            let left = a.minus(&b);
            prop_assert!((0..300).all(|n| left.contains(n) == (a.contains(n) && !b.contains(n))));
            prop_assert!(left.runs().zip(left.runs().skip(1)).all(|(a, b)| a.1 + 1 < b.0));
        }

        #[test]
        fn sets_hold_what_was_put_in(runs in prop::collection::vec((1..300_u64, 0..30_u64), 0..30)) {
            let set = set(&runs.iter().map(|&(first, length)| (first, first + length)).collect::<Vec<_>>());
            let plain: BTreeSet<u64> = runs.iter().flat_map(|&(first, length)| first..=first + length).collect();
            prop_assert!((0..400).all(|n| set.contains(n) == plain.contains(&n)));
            prop_assert!(set.runs().zip(set.runs().skip(1)).all(|(a, b)| a.1 + 1 < b.0));
        }
    }
}
