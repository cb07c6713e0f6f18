//! What may happen: the TOML files under `policy/`, read into checked values.

pub mod cidr;
mod read;
pub mod wireguard;
pub mod ssh;

pub use read::{PolicyError, toml};
