//! One interface: what it is to have, what it has, and the steps from one to the other.
//!
//! The steps are for a device that carries traffic: what is new is added before what is old is removed, nothing that is
//! right already is touched, and the private key is only ever replaced by another one. A peer whose key or preshared key
//! changed is a new peer, since sessions belong to a pair of keys; an endpoint that the device has learned by itself is
//! left alone until the log names another one than before.
//!
//! Reads what `wg show INTERFACE dump` prints (wg(8)) and writes what `wg addconf` and `wg set` read.

mod dump;
mod plan;
mod secret;

pub use dump::{DumpError, Running, RunningPeer};
pub use plan::{Steps, WantedLane, WantedLink, steps};
pub use secret::PresharedKey;
