//! What may happen: the TOML files under `policy/`, read into checked values.

mod read;

pub use read::{PolicyError, toml};
