//! A certificate from outside: bounded, single, public, and identified by its bytes.

use std::collections::BTreeSet;

use sequoia_openpgp as pgp;

use pgp::cert::amalgamation::ValidAmalgamation as _;
use pgp::cert::raw::RawCertParser;
use pgp::crypto::mpi::PublicKey as Mpis;
use pgp::packet::key::{KeyParts, KeyRole};
use pgp::parse::Parse as _;
use pgp::serialize::MarshalInto as _;
use pgp::types::{RevocationStatus, SignatureType};
use pgp::{Cert, Fingerprint, KeyHandle};

use super::policy_at;
use crate::digest::Digest;
use crate::limits::{CERT_BYTES_MAX, CERT_SIGNATURES_MAX, CERT_SUBKEYS_MAX, CERT_USERIDS_MAX};
use crate::name::Slot;
use crate::text;
use crate::time::Time;

/// Why bytes are not a certificate we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not an OpenPGP certificate.
    #[error("is not an OpenPGP certificate: {0}")]
    Parse(String),
    /// Several certificates where one belongs.
    #[error("holds {0} certificates; exactly one is expected")]
    Several(usize),
    /// Secret key material where only public belongs.
    #[error("holds secret key material; export the public certificate only")]
    Secret,
    /// Beyond a limit, as in a flooding attack.
    #[error("has {count} {what}; at most {max} are allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Not valid at the time in question.
    #[error("is not valid at {at}: {detail}")]
    Invalid {
        /// The time of judgement.
        at: Time,
        /// Sequoia's reason.
        detail: String,
    },
    /// Another user id than the member's name requires.
    #[error("has the user id '{found}' where '{expected}' is expected")]
    UserId {
        /// What the name requires.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A later version that lost or changed something that must stay.
    #[error("{0}")]
    Lost(&'static str),
}

/// A public certificate within the limits. Equality is that of bytes.
#[derive(Clone)]
pub struct Certificate {
    cert: Cert,
    bytes: Vec<u8>,
    digest: Digest,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({}, {:?})", self.cert.fingerprint(), self.digest)
    }
}

impl Certificate {
    /// Reads one binary or armored public certificate. Limits are checked before any signature is.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        let too_many = |what, count, max| CertificateError::TooMany { what, count, max };
        let parse_error = |e: pgp::anyhow::Error| CertificateError::Parse(text::shown(&e.to_string()).to_string());
        if bytes.len() > CERT_BYTES_MAX {
            return Err(too_many("bytes", bytes.len(), CERT_BYTES_MAX));
        }
        let raw = RawCertParser::from_bytes(bytes)
            .and_then(|p| p.take(2).collect::<Result<Vec<_>, _>>())
            .map_err(parse_error)?;
        let [raw] = raw.as_slice() else { return Err(CertificateError::Several(raw.len())) };
        let count = |tag| raw.packets().filter(|p| p.tag() == tag).count();
        let signatures = count(pgp::packet::Tag::Signature);
        if signatures > CERT_SIGNATURES_MAX {
            return Err(too_many("signatures", signatures, CERT_SIGNATURES_MAX));
        }
        let cert = Cert::try_from(raw.clone()).map_err(parse_error)?;
        let (userids, subkeys) = (cert.userids().count(), cert.keys().subkeys().count());
        if userids > CERT_USERIDS_MAX {
            return Err(too_many("user ids", userids, CERT_USERIDS_MAX));
        }
        if subkeys > CERT_SUBKEYS_MAX {
            return Err(too_many("subkeys", subkeys, CERT_SUBKEYS_MAX));
        }
        if cert.is_tsk() {
            return Err(CertificateError::Secret);
        }
        let bytes = raw.as_bytes().to_vec();
        Ok(Self { cert, digest: Digest::of(&bytes), bytes })
    }

    /// The public part of `cert`, serialised. Certifications marked as not exportable are left out.
    ///
    /// # Errors
    /// [`CertificateError`], if it is beyond the limits.
    pub fn of(cert: &Cert) -> Result<Self, CertificateError> {
        let bytes = cert
            .clone()
            .strip_secret_key_material()
            .export_to_vec()
            .map_err(|e| CertificateError::Parse(e.to_string()))?;
        Self::parse(&bytes)
    }

    /// Sequoia's certificate.
    pub fn cert(&self) -> &Cert {
        &self.cert
    }

    /// The serialised certificate, binary.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`Certificate::bytes`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The primary key's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.cert.fingerprint()
    }

    /// The public key with this fingerprint, primary or subkey.
    pub fn key(
        &self,
        fingerprint: &Fingerprint,
    ) -> Option<&pgp::packet::Key<pgp::packet::key::PublicParts, pgp::packet::key::UnspecifiedRole>> {
        self.cert.keys().map(|k| k.key()).find(|k| &k.fingerprint() == fingerprint)
    }

    /// The first user id, made safe to show.
    pub fn user_id(&self) -> String {
        self.cert
            .userids()
            .next()
            .map(|u| text::shown(&String::from_utf8_lossy(u.userid().value())).to_string())
            .unwrap_or_default()
    }

    /// Checks that at `at` the certificate is valid, not revoked by its owner, and has `user_id` as its only user id.
    /// Gives the time at which it expires, if it does.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn check(&self, user_id: &str, at: Time) -> Result<Option<Time>, CertificateError> {
        let found: Vec<String> = self
            .cert
            .userids()
            .map(|u| text::shown(&String::from_utf8_lossy(u.userid().value())).to_string())
            .collect();
        if found != [user_id] {
            return Err(CertificateError::UserId { expected: user_id.to_owned(), found: found.join(", ") });
        }
        self.alive(at)
    }

    /// Checks that at `at` the certificate is valid and not revoked. Gives the time at which it expires, if it does.
    ///
    /// # Errors
    /// [`CertificateError::Invalid`].
    pub fn alive(&self, at: Time) -> Result<Option<Time>, CertificateError> {
        let policy = policy_at(at);
        let invalid = |detail: String| CertificateError::Invalid { at, detail };
        let valid = self
            .cert
            .with_policy(&policy, at.to_system())
            .map_err(|e| invalid(text::shown(&format!("{e:#}")).to_string()))?;
        valid.alive().map_err(|e| invalid(text::shown(&format!("{e:#}")).to_string()))?;
        if let RevocationStatus::Revoked(_) = valid.revocation_status() {
            return Err(invalid("it is revoked".to_owned()));
        }
        Ok(valid.primary_key().key_expiration_time().map(Time::from_system))
    }

    /// Checks that the key `fingerprint` is bound, alive at `at`, and can do the work of `slot`.
    ///
    /// # Errors
    /// In words, why not.
    pub fn can_serve(&self, fingerprint: &Fingerprint, slot: Slot, at: Time) -> Result<(), &'static str> {
        let policy = policy_at(at);
        let valid =
            self.cert.with_policy(&policy, at.to_system()).map_err(|_| "is in a certificate that is not valid")?;
        let key =
            valid.keys().find(|k| &k.key().fingerprint() == fingerprint).ok_or("is not bound in the certificate")?;
        key.alive().map_err(|_| "is not alive")?;
        if let RevocationStatus::Revoked(_) = key.revocation_status() {
            return Err("is revoked");
        }
        let able = match slot {
            Slot::Sign => key.key().pk_algo().for_signing(),
            Slot::Openpgp => key.key().pk_algo().for_encryption(),
            Slot::Wireguard | Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa | Slot::Log => false,
        };
        if able { Ok(()) } else { Err("is of an algorithm that cannot do this") }
    }

    /// The newest key that the certificate itself flags for the work of `slot`, alive and not revoked at `at`: for
    /// certificates that were not made here.
    pub fn flagged_key(&self, slot: Slot, at: Time) -> Option<Fingerprint> {
        let policy = policy_at(at);
        let valid = self.cert.with_policy(&policy, at.to_system()).ok()?;
        let keys = valid.keys().alive().revoked(false).supported();
        let keys = match slot {
            Slot::Sign => keys.for_signing(),
            Slot::Openpgp => keys.for_storage_encryption().for_transport_encryption(),
            Slot::Wireguard | Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa | Slot::Log => return None,
        };
        keys.max_by_key(|k| k.key().creation_time()).map(|k| k.key().fingerprint())
    }

    /// Whether the owner or somebody entitled has revoked the certificate, at any time.
    pub fn is_revoked(&self, at: Time) -> bool {
        matches!(self.cert.revocation_status(&policy_at(at), at.to_system()), RevocationStatus::Revoked(_))
    }

    /// The date of the newest signature that the certificate's owner made in it.
    pub fn newest_self_signature(&self) -> Time {
        let of_keys = self.cert.keys().flat_map(|k| k.self_signatures());
        let of_names = self.cert.userids().flat_map(|u| u.self_signatures());
        of_keys
            .chain(of_names)
            .filter_map(|s| s.signature_creation_time())
            .map(Time::from_system)
            .max()
            .unwrap_or_default()
    }

    /// When `issuer` last vouched for this certificate; none if it does not, or has taken it back since.
    pub fn certified_since(&self, issuer: &Fingerprint) -> Option<Time> {
        let handle = KeyHandle::from(issuer);
        let user_id = self.cert.userids().next()?;
        let by_issuer = |s: &&pgp::packet::Signature| s.get_issuers().iter().any(|i| i.aliases(&handle));
        let newest = user_id
            .certifications()
            .chain(user_id.other_revocations())
            .filter(by_issuer)
            .max_by_key(|s| s.signature_creation_time())?;
        let revokes = newest.typ() == SignatureType::CertificationRevocation;
        newest.signature_creation_time().filter(|_| !revokes).map(Time::from_system)
    }

    /// Checks that `self` is a later version of `earlier`: same primary key, same user ids, no revocation lost, and no
    /// certification but those of `replaced_by`, for whom something newer has to be there. That this is what it says
    /// nobody has verified here, so only those may replace theirs who stand for the new version themselves.
    ///
    /// # Errors
    /// [`CertificateError::Lost`].
    pub fn succeeds(&self, earlier: &Self, replaced_by: &BTreeSet<Fingerprint>) -> Result<(), CertificateError> {
        if self.fingerprint() != earlier.fingerprint() {
            return Err(CertificateError::Lost("another primary key than before"));
        }
        let user_ids = |c: &Self| c.cert.userids().map(|u| u.userid().value().to_vec()).collect::<Vec<_>>();
        if user_ids(self) != user_ids(earlier) {
            return Err(CertificateError::Lost("other user ids than before"));
        }
        let kept = |old: &pgp::packet::Signature| revocations(&self.cert).any(|new| new.normalized_eq(old));
        if !revocations(&earlier.cert).all(kept) {
            return Err(CertificateError::Lost("a revocation that was there before is missing"));
        }
        // Whoever vouched before still does, or has said otherwise herself: nobody can be made to fall silent.
        let vouched = |c: &Self| {
            c.cert.userids().flat_map(|u| u.certifications().chain(u.other_revocations())).cloned().collect::<Vec<_>>()
        };
        let later = vouched(self);
        let answered = |old: &pgp::packet::Signature| {
            let issuers = old.get_issuers();
            let own = replaced_by.iter().any(|f| issuers.iter().any(|i| i.aliases(KeyHandle::from(f))));
            later.iter().any(|new| {
                let same_issuer = new.get_issuers().iter().any(|i| issuers.iter().any(|o| o.aliases(i)));
                let newer = same_issuer && new.signature_creation_time() >= old.signature_creation_time();
                new.normalized_eq(old) || (own && newer)
            })
        };
        if !vouched(earlier).iter().all(answered) {
            return Err(CertificateError::Lost("a certification by somebody else is missing"));
        }
        Ok(())
    }
}

/// Every revocation in `cert`, of whatever component, by whomever.
fn revocations(cert: &Cert) -> impl Iterator<Item = &pgp::packet::Signature> {
    let of_primary = cert.primary_key().self_revocations().chain(cert.primary_key().other_revocations());
    let of_subkeys = cert.keys().subkeys().flat_map(|k| k.self_revocations().chain(k.other_revocations()));
    let of_userids = cert.userids().flat_map(|u| u.self_revocations().chain(u.other_revocations()));
    of_primary.chain(of_subkeys).chain(of_userids)
}

/// `ab/cdef…` of a fingerprint, as openpgp-cert-d lays certificates out.
pub fn directory_path(fingerprint: &Fingerprint) -> String {
    let hex = fingerprint.to_hex().to_ascii_lowercase();
    let (two, rest) = hex.split_at_checked(2).unwrap_or((&hex, ""));
    format!("{two}/{rest}")
}

/// What a public key is made of, independent of the certificate around it: two keys with the same numbers are one key,
/// whatever their creation times, formats and names say. Ed25519 and X25519 points give the same value in every format.
pub fn material<P: KeyParts, R: KeyRole>(key: &pgp::packet::Key<P, R>) -> Digest {
    match key.mpis() {
        Mpis::EdDSA { q, .. } => Digest::of_parts(&[b"ed25519", q.value().strip_prefix(&[0x40]).unwrap_or(q.value())]),
        Mpis::Ed25519 { a } => Digest::of_parts(&[b"ed25519", a]),
        Mpis::ECDH { q, .. } => Digest::of_parts(&[b"x25519", q.value().strip_prefix(&[0x40]).unwrap_or(q.value())]),
        Mpis::X25519 { u } => Digest::of_parts(&[b"x25519", u]),
        other => Digest::of_parts(&[b"openpgp", &other.to_vec().unwrap_or_default()]),
    }
}
