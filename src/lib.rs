//! Secrets and key lifecycle manager.

pub mod digest;
#[cfg(feature = "shell")]
pub mod gpg_agent;
pub mod json;
pub mod limits;
pub mod log;
pub mod name;
pub mod openpgp;
pub mod policy;
pub mod ssh;
pub mod text;
pub mod time;
pub mod wireguard;
