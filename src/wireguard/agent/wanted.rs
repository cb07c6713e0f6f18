//! What a node's own log says of its lanes and its peers, and the lane that follows for a pair.

use std::collections::BTreeMap;

use crate::name::MemberName;
use crate::time::Time;
use crate::wireguard::{Lane, WgPublicKey};

/// What a node goes by in a round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The node's own public keys by lane.
    pub keys: [Option<WgPublicKey>; 2],
    /// Whom it talks to.
    pub peers: BTreeMap<MemberName, WantedPeer>,
}

/// What a node goes by towards one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPeer {
    /// The peer's public keys by lane; none where the lane cannot be used with it.
    pub keys: [Option<WgPublicKey>; 2],
    /// The lane that this pair should use: [`pair_lane`].
    pub preferred: Lane,
    /// Whether an end is draining the other lane: [`pair_drains`].
    pub draining: bool,
    /// Whether this node knows where to reach the peer, and can open a lane.
    pub callable: bool,
    /// Whether the peer knows where to reach this node.
    pub calls: bool,
}

impl WantedPeer {
    /// Whether it is this node that opens `lane`: the one end that can, and of two that can the one with the smaller key.
    pub(super) fn opens(&self, own: WgPublicKey, lane: Lane) -> bool {
        match (self.callable, self.calls) {
            (true, false) => true,
            (true, true) => lane.of(&self.keys).is_some_and(|theirs| own < theirs),
            (false, _) => false,
        }
    }
}

/// One node's two lanes, as its log has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The lane of its active key.
    pub active: Lane,
    /// Since when, in the log.
    pub since: Time,
    /// The active key.
    pub key: WgPublicKey,
    /// Whether the other lane's key is deactivated and not yet replaced.
    pub draining: bool,
}

impl Ends {
    /// Whether it is draining `lane`.
    pub fn drains(&self, lane: Lane) -> bool {
        self.draining && lane != self.active
    }

    /// The lane it is draining.
    pub fn drained_lane(&self) -> Option<Lane> {
        self.draining.then(|| self.active.other())
    }
}

/// The lane for a pair: the one that neither end drains; if that leaves both or none, the active lane of the end that
/// was activated last. Both ends come to the same, and of ends that wait for each other the last activated never waits.
pub fn pair_lane(a: &Ends, b: &Ends) -> Lane {
    let last = if (a.since, a.key) < (b.since, b.key) { b } else { a };
    match Lane::ALL.map(|lane| a.drains(lane) || b.drains(lane)) {
        [true, false] => Lane::B,
        [false, true] => Lane::A,
        [true, true] | [false, false] => last.active,
    }
}

/// Whether one of the two drains the lane that the pair should not use.
pub fn pair_drains(a: &Ends, b: &Ends) -> bool {
    let lane = pair_lane(a, b).other();
    a.drains(lane) || b.drains(lane)
}
