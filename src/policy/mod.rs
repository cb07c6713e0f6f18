//! What may happen: the TOML files under `policy/`, read into checked values.
//!
//! A policy is in force once its quorum has signed a `policy.update` that names its files by digest; the files under
//! `policy/` in a working copy are a draft until then. Every file refuses unknown keys, with line and caret.

pub mod break_glass;
mod delivery;
pub mod fleet;
mod generate;
mod line;
mod lock;
pub mod publish;
mod quorum;
mod read;
pub mod secrets;
pub mod ssh;
pub mod wireguard;

use std::collections::BTreeMap;

pub use delivery::{Account, Delivery, FileMode, FileRule, OnExpiry, Source, Unit, check_file_name};
pub use fleet::FleetPolicy;
pub use generate::{Format, Generator};
pub use lock::TimeLocks;
pub use publish::{Cosigned, Cosigner, CosignerKind, Freshness, Publication};
pub use quorum::{Case, Quorums, Role, Rule, Signers};
pub use read::{PolicyError, toml};
pub use secrets::{SecretRule, SecretsPolicy};
pub use ssh::SshPolicy;
pub use wireguard::WireguardPolicy;

/// The names of a policy's files.
pub const FILES: [&str; 4] = [fleet::FILE, secrets::FILE, ssh::FILE, wireguard::FILE];

/// A whole policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// fleet.toml.
    pub fleet: FleetPolicy,
    /// secrets.toml.
    pub secrets: SecretsPolicy,
    /// ssh.toml.
    pub ssh: SshPolicy,
    /// wireguard.toml.
    pub wireguard: WireguardPolicy,
}

impl Policy {
    /// Reads the files, by name.
    ///
    /// # Errors
    /// [`PolicyError`], also for a file that is missing or that nobody would read.
    pub fn parse(files: &BTreeMap<String, String>) -> Result<Self, PolicyError> {
        if let Some(stranger) = files.keys().find(|name| !FILES.contains(&name.as_str())) {
            let nearest =
                crate::text::nearest(stranger, FILES).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            return Err(PolicyError::Meaning {
                file: format!("policy/{}", crate::text::shown(stranger)),
                place: "the file itself".to_owned(),
                problem: format!("is none of {}{nearest}", FILES.join(", ")),
            });
        }
        let text = |name: &str| {
            files.get(name).map(String::as_str).ok_or_else(|| PolicyError::Missing { file: format!("policy/{name}") })
        };
        Ok(Self {
            fleet: FleetPolicy::parse(text(fleet::FILE)?)?,
            secrets: SecretsPolicy::parse(text(secrets::FILE)?)?,
            ssh: SshPolicy::parse(text(ssh::FILE)?)?,
            wireguard: WireguardPolicy::parse(text(wireguard::FILE)?)?,
        })
    }
}
