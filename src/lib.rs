//! Secrets and key lifecycle manager.

pub mod cidr;
#[cfg(feature = "cli")]
pub mod cli;
pub mod digest;
#[cfg(feature = "shell")]
pub mod disk;
pub mod enrolment;
#[cfg(feature = "shell")]
pub mod fleet;
#[cfg(feature = "shell")]
pub mod gpg_agent;
#[cfg(feature = "shell")]
pub mod home;
pub mod json;
pub mod limits;
pub mod log;
pub mod name;
pub mod openpgp;
#[cfg(feature = "shell")]
pub mod ops;
pub mod policy;
pub mod ssh;
pub mod state;
pub mod statement;
#[cfg(feature = "shell")]
pub mod store;
pub mod text;
pub mod time;
pub mod wireguard;
mod words;
