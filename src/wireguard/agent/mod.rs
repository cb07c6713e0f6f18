//! The agent of a node: which lane carries what is for which peer, and when a key of one's own may be replaced.
//!
//! For each peer it uses the preferred lane if that is *proven*, else the other if proven, else it changes nothing; one
//! end of the two opens lanes that are not proven; a lane's key is replaced only when nothing arrives on it any more.
//!
//! A lane is *proven* towards a peer if its last handshake is younger than [`PROVEN`], and not [`MUTE`] of sending went
//! unanswered, and not [`FOLLOW`] while the peer talks on the other lane, whose handshake is newer.
//!
//! # Who sends what on a lane that carries nothing
//!
//! Every lane has a persistent keepalive, the standby, too, so that it is known to work before it is needed. On an idle
//! lane only one end ever sends it, because each packet winds up the other end's timer; and only the end that began the
//! last handshake renews it after 120 seconds. Where these are two, a lane would be left without a handshake until 165
//! seconds. So each end sends once more at [`REFRESH`], the passive one [`REFRESH_LATER`] after it, and one of the two
//! begins the handshake.
//!
//! The exception is a lane that an end is draining: both ends put its keepalive out as soon as their own route is on the
//! other lane and that one is proven. Then nothing arrives there. It is not taken for proven when it is to be used again
//! before it was heard: the peer may have restarted in the silence and forgotten the session. A peer that has not heard of it keeps its keepalive
//! and is thereby seen, and a peer that is cut off is not mistaken for a silent one: what counts is for how long a peer
//! was silent on the lane *until it was last heard on the other one*. Only a peer that was not heard at all for [`AWAY`]
//! is left out: every session with it is over by then, and it opens the lane that it knows when it is back.
//!
//! # What is promised here
//!
//! No clock, thread, file or message to others: the machine is fed with what the interfaces count. Points in time are
//! this machine's own and are never compared with another's. Where the handshakes' ages jump (the wall clock was set)
//! nothing follows from it. Left to others: the interfaces and their peers, the routes, the log, and when to rotate.
//!
//! Follows the WireGuard protocol and timers (J. Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", 2017,
//! section 6).

mod machine;
mod pair;
mod report;
mod rotation;
mod sample;
mod wanted;

pub use machine::Agent;
pub use pair::{
    Action, BREAKER_AFTER, BREAKER_EVERY, BREAKER_FOR, REFRESH, REFRESH_LATER, RETRY, RETRY_JITTER, TAKE_OVER,
};
pub use report::{LaneReport, PairReport};
pub use rotation::{ALARM_AFTER, Drain, Step, next_step};
pub use sample::{AWAY, FOLLOW, MUTE, Moment, PROVEN, Sample, Samples};
pub use wanted::{Ends, Wanted, WantedPeer, pair_drains, pair_lane};

#[cfg(test)]
mod tests;
