//! Key revocation lists: what is revoked, and whether a given SSH certificate is. `krl_format` has their bytes.
//!
//! That a list is genuine and fresh is the log's to say, not the list's own.

use std::collections::{BTreeMap, BTreeSet};

use sequoia_openpgp::types::HashAlgorithm;

use super::body::Serial;
use super::certificate::SshCertificate;
use super::key::SshPublicKey;
use super::names::KeyId;
use super::serials::SerialSet;
use super::wire::Malformed;
use crate::digest::Digest;
use crate::time::{LATEST, Time};

/// The oldest OpenSSH whose `sshd` has to read what is written here.
pub(super) const OLDEST_OPENSSH: &str = "9.2";

/// Why a KRL is refused or not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KrlError {
    /// No KRL: cut short, garbage, or no bytes at all.
    #[error("is broken: {0}")]
    Format(&'static str),
    /// A KRL, but one that some supported `sshd` refuses, and with it every login.
    #[error("is a KRL that OpenSSH {OLDEST_OPENSSH} refuses: {0}")]
    Refused(&'static str),
    /// A section of a kind that some supported `sshd` refuses: a signature, an extension, or something new.
    #[error("is a KRL that OpenSSH {OLDEST_OPENSSH} refuses: it has a section of type {0}")]
    Section(u8),
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

impl KrlScope {
    /// How the format has it: the CA's blob, or nothing for any.
    pub(super) fn blob(&self) -> &[u8] {
        match self {
            Self::Ca(ca) => ca.blob(),
            Self::AnyCa => b"",
        }
    }
}

/// What is revoked of one CA.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Revoked {
    pub(super) serials: SerialSet,
    /// Not [`KeyId`]s: others may have written what we never would.
    pub(super) key_ids: BTreeSet<Vec<u8>>,
}

/// A key revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Krl {
    pub(super) version: u64,
    pub(super) generated: Time,
    pub(super) comment: String,
    /// By the CA's blob; an empty one stands for any CA.
    pub(super) certificates: BTreeMap<Vec<u8>, Revoked>,
    pub(super) keys: BTreeSet<Vec<u8>>,
    /// Read from others' lists and kept; never put in here.
    pub(super) sha1: BTreeSet<[u8; 20]>,
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
            sha1: BTreeSet::new(),
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
        self.certificates.is_empty() && self.keys.is_empty() && self.sha1.is_empty() && self.sha256.is_empty()
    }

    /// Revokes the SSH certificates with the serials from `first` to `last`; nothing, if `last` is smaller.
    pub fn revoke_serials(&mut self, scope: KrlScope, first: Serial, last: Serial) {
        if first <= last {
            self.scope(&scope).serials.insert(first.number(), last.number());
        }
    }

    /// Revokes the SSH certificates with exactly this key id.
    pub fn revoke_key_id(&mut self, scope: KrlScope, key_id: KeyId) {
        self.scope(&scope).key_ids.insert(key_id.as_str().as_bytes().to_vec());
    }

    /// Revokes a key: plain, as the subject of any SSH certificate, and as a CA.
    pub fn revoke_key(&mut self, key: SshPublicKey) {
        self.keys.insert(key.blob().to_vec());
    }

    /// Revokes the key whose blob has this SHA-256, in the same three roles.
    pub fn revoke_sha256(&mut self, digest: Digest) {
        self.sha256.insert(digest);
    }

    /// Whether OpenSSH with this list would refuse `certificate`.
    pub fn is_revoked(&self, certificate: &SshCertificate) -> bool {
        let here = |scope: &[u8]| {
            self.certificates.get(scope).is_some_and(|revoked| {
                revoked.serials.contains(certificate.serial())
                    || revoked.key_ids.contains(certificate.key_id().as_bytes())
            })
        };
        here(b"")
            || here(certificate.ca_blob())
            || self.is_blob_revoked(certificate.subject_blob())
            || self.is_blob_revoked(certificate.ca_blob())
    }

    /// Whether OpenSSH with this list would refuse `key` itself.
    pub fn is_key_revoked(&self, key: &SshPublicKey) -> bool {
        self.is_blob_revoked(key.blob())
    }

    pub(super) fn is_blob_revoked(&self, blob: &[u8]) -> bool {
        self.keys.contains(blob)
            || self.sha256.contains(&Digest::of(blob))
            || (!self.sha1.is_empty() && sha1(blob).is_some_and(|hash| self.sha1.contains(&hash)))
    }

    fn scope(&mut self, scope: &KrlScope) -> &mut Revoked {
        self.certificates.entry(scope.blob().to_vec()).or_default()
    }
}

/// SHA-1 (FIPS 180-4), for what others have put into their lists.
pub(super) fn sha1(blob: &[u8]) -> Option<[u8; 20]> {
    let mut hash = HashAlgorithm::SHA1.context().ok()?.for_digest();
    hash.update(blob);
    hash.into_digest().ok()?.try_into().ok()
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
