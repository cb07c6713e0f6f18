//! A slot's public keys, and the states they pass through (NIST SP 800-57, part 1, section 7).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::log::note::VerifierKey;
use crate::name::Slot;
use crate::openpgp::{Certificate, Fingerprint, material};
use crate::ssh::SshPublicKey;
use crate::statement::ExchangeDigests;
use crate::time::Time;
use crate::wireguard::{Lane, WgPublicKey};
use crate::words::words;

words! {
    /// Where a key stands in its life (NIST SP 800-57).
    KeyState, "a key state":
    /// Pre-active: made, published, not yet used. What we call a standby.
    PreActive = "pre-active",
    /// In use.
    Active = "active",
    /// No longer used for anything new; opens and verifies what is old.
    Deactivated = "deactivated",
    /// In wrong hands, or possibly so.
    Compromised = "compromised",
    /// No longer exists.
    Destroyed = "destroyed",
}

/// A public key in the form of its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// A subkey of the member's certificate, by fingerprint.
    Openpgp(Fingerprint),
    /// A WireGuard key.
    Wireguard(WgPublicKey),
    /// An SSH key.
    Ssh(SshPublicKey),
    /// A log's verifier key.
    Log(VerifierKey),
}

impl PublicKey {
    /// Reads the text form that `slot` has: an upper-case fingerprint, `wg`'s base64, an OpenSSH line without comment,
    /// a C2SP verifier key.
    ///
    /// # Errors
    /// In words, what is wrong.
    pub fn parse(slot: Slot, text: &str) -> Result<Self, String> {
        let key = match slot {
            Slot::Openpgp | Slot::Sign => Self::Openpgp(Fingerprint::from_hex(text).map_err(|e| e.to_string())?),
            Slot::Wireguard => Self::Wireguard(text.parse().map_err(|e: crate::wireguard::KeyError| e.to_string())?),
            Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa => {
                Self::Ssh(text.parse().map_err(|e: crate::ssh::KeyError| e.to_string())?)
            }
            Slot::Log => Self::Log(VerifierKey::parse(text).map_err(|e| e.to_string())?),
        };
        if key.to_string() == text { Ok(key) } else { Err("is not spelled as this program spells it".to_owned()) }
    }

    /// What the key is made of, see [`material`]: equal for equal numbers in whatever format. An OpenPGP key's is that of
    /// the subkey in `certificate`; `None` if it is not in there.
    pub fn material(&self, certificate: &Certificate) -> Option<Digest> {
        match self {
            Self::Openpgp(fingerprint) => certificate.key(fingerprint).map(material),
            Self::Wireguard(key) => Some(Digest::of_parts(&[b"x25519", &key.to_bytes()])),
            Self::Ssh(key) => Some(match key.ed25519() {
                Some(raw) => Digest::of_parts(&[b"ed25519", &raw]),
                None => Digest::of_parts(&[b"ssh", key.to_string().as_bytes()]),
            }),
            Self::Log(key) => Some(Digest::of_parts(&[b"ed25519", &key.raw()])),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Openpgp(fingerprint) => f.write_str(&fingerprint.to_hex()),
            Self::Wireguard(key) => write!(f, "{key}"),
            Self::Ssh(key) => write!(f, "{key}"),
            Self::Log(key) => write!(f, "{key}"),
        }
    }
}

/// A key of a slot, with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotKey {
    /// The public half.
    pub key: String,
    /// Where it stands.
    pub state: KeyState,
    /// The lane, for WireGuard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// The preshared-key exchange that was published with it, for WireGuard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeDigests>,
    /// When its public half was published.
    pub published: Time,
    /// When it became active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated: Option<Time>,
    /// When it was deactivated, compromised or destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
}

/// A slot's keys: at most one active; the rest standby or past. In the order of publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotKeys {
    /// The keys.
    pub keys: Vec<SlotKey>,
    /// Counts the changes of the active key, from 1.
    pub generation: u64,
    /// The statement that made the last such change.
    pub prev: Digest,
}

impl SlotKeys {
    /// The active key.
    pub fn active(&self) -> Option<&SlotKey> {
        self.keys.iter().find(|k| k.state == KeyState::Active)
    }

    /// The standby keys, oldest first.
    pub fn standbys(&self) -> impl Iterator<Item = &SlotKey> {
        self.keys.iter().filter(|k| k.state == KeyState::PreActive)
    }

    /// The keys that something may be sealed to: the active one, then the standbys.
    pub fn usable(&self) -> impl Iterator<Item = &SlotKey> {
        self.active().into_iter().chain(self.standbys())
    }

    /// The key with this text.
    pub fn find(&self, key: &str) -> Option<&SlotKey> {
        self.keys.iter().find(|k| k.key == key)
    }

    pub(super) fn find_mut(&mut self, key: &str) -> Option<&mut SlotKey> {
        self.keys.iter_mut().find(|k| k.key == key)
    }

    /// Ends every key that is active or standby.
    pub(super) fn end_all(&mut self, state: KeyState, at: Time) {
        for key in self
            .keys
            .iter_mut()
            .filter(|k| matches!(k.state, KeyState::Active | KeyState::PreActive | KeyState::Deactivated))
        {
            if key.state != KeyState::Deactivated || state == KeyState::Compromised {
                key.state = state;
                key.ended.get_or_insert(at);
            }
        }
    }
}
