//! What is checked before a configuration is written. `wg`, wg-quick and systemd-networkd take nearly all of these
//! mistakes without a word, and what follows is silence on a tunnel; so the check here is the only one.
//!
//! Each function looks for one family of mistakes and returns what it finds; `super::check` runs them all.

mod addresses;
mod endpoints;
mod external;
mod finding;
mod keys;
mod names;
mod topology;

pub(super) use addresses::{addresses, pools};
pub(super) use endpoints::{endpoints, ports, reach};
pub(super) use external::external;
pub use finding::{Finding, Origin, Severity};
pub(super) use keys::keys;
pub(super) use names::names;
pub(super) use topology::{Classes, topology};
