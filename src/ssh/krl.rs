//! Key revocation lists: what is revoked, and whether a given SSH certificate is. `krl_format` has their bytes.
//!
//! That a list is genuine and fresh is the log's to say, not the list's own.

use std::collections::{BTreeMap, BTreeSet};

use super::body::Serial;
use super::certificate::SshCertificate;
use super::key::{KeyError, SshPublicKey};
use super::names::{KeyId, WordError};
use super::serials::SerialSet;
use super::wire::Malformed;
use crate::digest::Digest;
use crate::time::{LATEST, Time};

/// Why a KRL is refused or not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KrlError {
    /// Not a KRL that every supported `sshd` reads.
    #[error("is not a usable KRL: {0}")]
    Format(&'static str),
    /// A section that is not written here: signatures, extensions, SHA-1, or something new.
    #[error("is not a usable KRL: it has a section of type {0}")]
    Section(u8),
    /// A key in it is none.
    #[error("is not a usable KRL: a key in it is not usable")]
    Key(#[from] KeyError),
    /// A key id in it is none.
    #[error("is not a usable KRL: a key id in it is not usable")]
    KeyId(#[from] WordError),
    /// Larger than allowed; `sshd` reads all of it at each login.
    #[error("the KRL has {bytes} bytes; at most {max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// What was written does not read back as what was meant. A bug, caught before it locks anybody out.
    #[error("the KRL does not read back as it was written")]
    NotReadBack,
}

impl From<Malformed> for KrlError {
    fn from(malformed: Malformed) -> Self {
        Self::Format(malformed.0)
    }
}

/// Whose SSH certificates are meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KrlScope {
    /// Those of one CA.
    Ca(SshPublicKey),
    /// Those of any CA.
    AnyCa,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Revoked {
    pub(super) serials: SerialSet,
    pub(super) key_ids: BTreeSet<KeyId>,
}

/// A key revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Krl {
    pub(super) version: u64,
    pub(super) generated: Time,
    pub(super) comment: String,
    pub(super) certificates: BTreeMap<KrlScope, Revoked>,
    pub(super) keys: BTreeSet<SshPublicKey>,
    pub(super) sha256: BTreeSet<Digest>,
}

impl Krl {
    /// A list without entries. `version` grows with each one that is published.
    pub fn new(version: u64, generated: Time) -> Self {
        Self {
            version,
            generated: generated.min(LATEST),
            comment: String::new(),
            certificates: BTreeMap::new(),
            keys: BTreeSet::new(),
            sha256: BTreeSet::new(),
        }
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it was made.
    pub fn generated(&self) -> Time {
        self.generated
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.keys.is_empty() && self.sha256.is_empty()
    }

    /// Revokes the SSH certificates with the serials from `first` to `last`; nothing, if `last` is smaller.
    pub fn revoke_serials(&mut self, scope: KrlScope, first: Serial, last: Serial) {
        if first <= last {
            self.certificates.entry(scope).or_default().serials.insert(first.number(), last.number());
        }
    }

    /// Revokes the SSH certificates with exactly this key id.
    pub fn revoke_key_id(&mut self, scope: KrlScope, key_id: KeyId) {
        self.certificates.entry(scope).or_default().key_ids.insert(key_id);
    }

    /// Revokes a key: plain, as the subject of any SSH certificate, and as a CA.
    pub fn revoke_key(&mut self, key: SshPublicKey) {
        self.keys.insert(key);
    }

    /// Revokes the key whose blob has this SHA-256, in the same three roles.
    pub fn revoke_sha256(&mut self, digest: Digest) {
        self.sha256.insert(digest);
    }

    /// Whether OpenSSH with this list would refuse `certificate`.
    pub fn is_revoked(&self, certificate: &SshCertificate) -> bool {
        // Somebody else's key id may be one that no list of ours can hold.
        let key_id: Option<KeyId> = certificate.key_id().parse().ok();
        let here = |scope: &KrlScope| {
            self.certificates.get(scope).is_some_and(|revoked| {
                revoked.serials.contains(certificate.serial())
                    || key_id.as_ref().is_some_and(|id| revoked.key_ids.contains(id))
            })
        };
        here(&KrlScope::AnyCa)
            || SshPublicKey::from_blob(certificate.ca_blob()).is_ok_and(|ca| here(&KrlScope::Ca(ca)))
            || self.is_blob_revoked(certificate.subject_blob())
            || self.is_blob_revoked(certificate.ca_blob())
    }

    /// Whether OpenSSH with this list would refuse `key` itself.
    pub fn is_key_revoked(&self, key: &SshPublicKey) -> bool {
        self.is_blob_revoked(key.blob())
    }

    fn is_blob_revoked(&self, blob: &[u8]) -> bool {
        self.sha256.contains(&Digest::of(blob))
            || SshPublicKey::from_blob(blob).is_ok_and(|key| self.keys.contains(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    const ANY: KrlScope = KrlScope::AnyCa;

    fn ca(n: u64) -> KrlScope {
        KrlScope::Ca(sample::key(n).public().clone())
    }

    #[test]
    fn a_certificate_is_revoked_in_every_way() {
        let certificate = sample::issued(sample::user_fields(), 42);
        let key_id = || "alice".parse::<KeyId>().expect("printable");
        let asked = |change: &dyn Fn(&mut Krl)| {
            let mut krl = Krl::new(1, Time(5));
            change(&mut krl);
            let read = krl.write(65_536).and_then(|bytes| Krl::parse(&bytes)).expect("a small KRL");
            read.is_revoked(&certificate)
        };
        let yes: [&dyn Fn(&mut Krl); 8] = [
            &|k| k.revoke_serials(ca(1), sample::serial(42), sample::serial(42)),
            &|k| k.revoke_serials(ANY, sample::serial(1), sample::serial(42)),
            &|k| k.revoke_key_id(ca(1), key_id()),
            &|k| k.revoke_key_id(ANY, key_id()),
            &|k| k.revoke_key(sample::key(2).public().clone()),
            &|k| k.revoke_sha256(sample::key(2).public().sha256()),
            &|k| k.revoke_key(sample::key(1).public().clone()),
            &|k| k.revoke_sha256(sample::key(1).public().sha256()),
        ];
        let no: [&dyn Fn(&mut Krl); 6] = [
            &|_| (),
            &|k| k.revoke_serials(ca(9), sample::serial(1), sample::serial(99)),
            &|k| k.revoke_serials(ca(1), sample::serial(43), sample::serial(u64::MAX)),
            &|k| k.revoke_serials(ca(1), sample::serial(43), sample::serial(42)),
            &|k| k.revoke_key_id(ca(9), key_id()),
            &|k| k.revoke_key_id(ca(1), "alic".parse().expect("printable")),
        ];
        yes.iter().enumerate().for_each(|(i, change)| assert!(asked(change), "yes {i}"));
        no.iter().enumerate().for_each(|(i, change)| assert!(!asked(change), "no {i}"));
    }
}
