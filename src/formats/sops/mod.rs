//! Files that sops seals: YAML, JSON, variables and INI, of which each value is encrypted in its place, with metadata beside.
//!
//! ```text
//! db:
//!     password: ENC[AES256_GCM,data:p673w7o=,iv:…,tag:…,type:str]
//! sops:
//!     pgp:
//!         - enc: |-
//!             -----BEGIN PGP MESSAGE-----     the data key, for one OpenPGP key
//!     lastmodified: "2026-11-22T07:00:00Z"
//!     mac: ENC[AES256_GCM,…,type:str]
//! ```
//! A value is AES-256-GCM with the keys on the way to it as additional data; the MAC is SHA-512 over all values in their
//! order, encrypted as a value with `lastmodified` as additional data. Neither covers the keys of values in the clear, nor
//! says who wrote the file: that is what such a file lacks, and an import cannot add.

mod cipher;
mod read;
mod write;

pub use read::{Sops, SopsError, Stanza};
pub use write::{SopsStanza, write_sops};
