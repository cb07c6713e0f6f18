//! What the agent tells people about its pairs.

use serde::{Deserialize, Serialize};

use crate::name::MemberName;
use crate::wireguard::{Lane, WgPublicKey};

/// One pair, seen from this end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairReport {
    /// The peer.
    pub peer: MemberName,
    /// The lane of the route to it; none if there is no route.
    pub route: Option<Lane>,
    /// The lane that the pair should use.
    pub preferred: Lane,
    /// The lane that an end is draining, unless it is the preferred one.
    pub draining: Option<Lane>,
    /// Whether packets for it are held back to let its handshake through.
    pub held: bool,
    /// Whether nothing was heard from it for so long that every session is over.
    pub away: bool,
    /// Lane a, lane b.
    pub lanes: [LaneReport; 2],
}

/// One lane of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneReport {
    /// The lane.
    pub lane: Lane,
    /// The peer's public key there.
    pub key: Option<WgPublicKey>,
    /// Whether packets get through.
    pub proven: bool,
    /// Whether this end has a keepalive there; none if the agent did not say yet.
    pub keepalive: Option<bool>,
    /// The age of the last handshake in seconds.
    pub handshake_seconds: Option<u64>,
    /// How long ago the peer was heard there, in seconds, as far as the agent has watched.
    pub heard_seconds: Option<u64>,
}
