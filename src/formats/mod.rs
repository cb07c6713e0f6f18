//! Other people's formats: structured files of which each value is known by its place, and what other tools seal.
//!
//! Promises: a file is read whole or refused with the line that is wrong; an error never shows a value; values are wiped
//! when they are dropped. Names are taken over by one rule ([`secret_name`]).
//! Left to others: where files lie and who opens the keys in them (`crate::ops`, `crate::cli`), what becomes of the values.

#[cfg(test)]
mod checks;
mod env;
mod format;
mod ini;
mod json;
mod leaf;
mod name;
mod shape;
mod sops;
mod toml;
mod vault;
mod yaml;

pub use format::Format;
pub use leaf::{FormatError, Kind, Leaf, Step, path_text};
pub use name::{NameProblem, secret_name};
pub use shape::{Shape, ShapeError};
pub use sops::{Sops, SopsError, SopsStanza, Stanza, write_sops};
pub use vault::{VaultError, open_vault};
