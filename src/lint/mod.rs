//! What is wrong, or will be, with a fleet's secrets and with files beside them: findings, from the state and from bytes alone.
//!
//! Needs no key: who reads what is in the log ([`recipients`], [`reach`], [`rules`]), and a value that was never sealed gives
//! itself away by its look ([`plain`]). A finding names a place and the way out, and never holds what was found there.

mod finding;
mod plain;
mod policy;
mod reach;
mod recipients;
mod rules;
#[cfg(test)]
mod tests;
mod token;

pub use finding::{Code, Finding, Severity, rank};
pub use plain::{ALLOW, Plain, is_binary, plain};
pub use policy::{policy, policy_file};
pub use reach::{REACH_SHOWN, Reached, reach, reach_findings};
pub use recipients::{duplicates, recipients};
pub use rules::rules;
