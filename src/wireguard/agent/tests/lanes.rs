//! The lane of a pair.

use proptest::prelude::*;

use super::super::{Ends, pair_drains, pair_lane};
use super::key;
use crate::time::Time;
use crate::wireguard::Lane;

fn any_ends(i: usize) -> impl Strategy<Value = Ends> {
    (any::<bool>(), 0_u64..4, any::<bool>()).prop_map(move |(b, since, draining)| {
        let active = if b { Lane::B } else { Lane::A };
        Ends { active, since: Time(since), key: key(i, active), draining }
    })
}

/// Ends of `count` nodes in any state of rotation.
fn any_nodes(count: usize) -> impl Strategy<Value = Vec<Ends>> {
    (1..=count).map(any_ends).collect::<Vec<_>>()
}

#[test]
fn draining_goes_before_preference_and_the_last_preference_before_earlier_ones() {
    let ends = |active: Lane, since, draining| Ends { active, since: Time(since), key: key(1, active), draining };
    use Lane::{A, B};
    for (one, two, lane, drains) in [
        (ends(A, 1, false), ends(A, 2, false), A, false),
        (ends(A, 1, false), ends(B, 2, false), B, false),
        (ends(A, 3, false), ends(B, 2, false), A, false),
        (ends(A, 3, false), ends(B, 2, true), B, true),
        (ends(A, 3, true), ends(B, 2, false), A, true),
        (ends(A, 3, true), ends(B, 2, true), A, true),
        (ends(A, 1, true), ends(B, 2, true), B, true),
    ] {
        assert_eq!((pair_lane(&one, &two), pair_drains(&one, &two)), (lane, drains), "{one:?} {two:?}");
    }
}

proptest! {
    #[test]
    fn both_ends_come_to_the_same(nodes in any_nodes(2)) {
        let [a, b] = nodes.as_slice() else { unreachable!("two nodes") };
        prop_assert_eq!(pair_lane(a, b), pair_lane(b, a));
        prop_assert_eq!(pair_drains(a, b), pair_drains(b, a));
        let lane = pair_lane(a, b);
        if a.drains(lane) || b.drains(lane) {
            prop_assert!(a.drains(lane.other()) || b.drains(lane.other()), "only where both are drained");
        }
    }

    /// Nodes that wait for each other: one of them always waits for nobody. It gets done, then another, to the last.
    #[test]
    fn draining_never_goes_in_a_circle(nodes in any_nodes(6)) {
        let mut nodes = nodes;
        while nodes.iter().any(|node| node.draining) {
            let free = |i: usize| {
                let own = &nodes[i];
                own.drained_lane().is_some_and(|lane| {
                    (0..nodes.len()).filter(|j| *j != i).all(|j| pair_lane(own, &nodes[j]) != lane)
                })
            };
            let Some(i) = (0..nodes.len()).find(|i| free(*i)) else {
                return Err(TestCaseError::fail(format!("all wait: {nodes:?}")));
            };
            nodes[i].draining = false;
        }
    }
}
