//! Signatures on statements: OpenPGP binary-document signatures over the body's bytes, with the log's name in a hashed
//! notation so that none can be replayed into another fleet's log.

use sequoia_openpgp as pgp;

use pgp::Fingerprint;
use pgp::crypto::hash::Hash as _;
use pgp::crypto::{Signer, mpi};
use pgp::packet::key::{KeyParts, KeyRole};
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::signature::subpacket::{NotationDataFlags, SubpacketTag, SubpacketValue};
use pgp::packet::{Key, Packet, Signature};
use pgp::parse::{PacketParser, PacketParserResult, Parse as _};
use pgp::serialize::SerializeInto as _;
use pgp::types::{Curve, HashAlgorithm, SignatureType};

use super::profile::{HASH, notation_name};
use super::{Doing as _, OpenpgpError};
use crate::name::FleetName;
use crate::time::Time;

/// Why bytes are not a statement's signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not exactly one OpenPGP signature packet.
    #[error("is not one OpenPGP signature packet")]
    Packet,
    /// Of another type than binary document.
    #[error("is not a binary-document signature")]
    Type,
    /// Made with a hash that no longer counts.
    #[error("uses the hash {0}, which does not count")]
    Hash(String),
    /// Without issuer fingerprint or creation time in the signed part.
    #[error("has no {0} in its signed part")]
    Unbound(&'static str),
    /// Made for another log, or for none.
    #[error("was not made for the log {0}")]
    Log(String),
    /// The mathematics says no.
    #[error("does not verify")]
    Wrong,
}

/// Signs `body` for the log `origin`; gives the signature packet.
///
/// # Errors
/// [`OpenpgpError`].
pub fn sign_statement(
    signer: &mut (dyn Signer + Send + Sync),
    fleet: &FleetName,
    origin: &str,
    body: &[u8],
    now: Time,
) -> Result<Vec<u8>, OpenpgpError> {
    let signature = SignatureBuilder::new(SignatureType::Binary)
        .set_hash_algo(HASH)
        .set_signature_creation_time(now.to_system())
        .and_then(|b| b.set_issuer_fingerprint(signer.public().fingerprint()))
        .and_then(|b| {
            b.set_notation(notation_name("log", fleet), origin, NotationDataFlags::empty().set_human_readable(), false)
        })
        .and_then(|b| b.sign_message(signer, body))
        .doing("sign a statement")?;
    Packet::from(signature).to_vec().doing("write a signature")
}

/// Whether both are one key, in all that a fingerprint stands for; the fingerprint alone would not do, a v4 one is a SHA-1.
pub fn same_key<P: KeyParts, R: KeyRole>(one: &Key<P, R>, other: &Key<P, R>) -> bool {
    let around = |key: &Key<P, R>| (key.version(), key.pk_algo(), key.creation_time());
    around(one) == around(other) && one.mpis() == other.mpis()
}

/// A key of Ed25519 as it is; `None` for one of another kind.
pub(super) fn ed25519_key<P: KeyParts, R: KeyRole>(key: &Key<P, R>) -> Option<[u8; 32]> {
    match key.mpis() {
        mpi::PublicKey::Ed25519 { a } => Some(*a),
        mpi::PublicKey::EdDSA { curve: Curve::Ed25519, q } => q.decode_point(&Curve::Ed25519).ok()?.0.try_into().ok(),
        _ => None,
    }
}

/// A signature as Ed25519 sees it: *R* and *s*, and what was signed.
pub(super) struct Numbers {
    pub signature: [u8; 64],
    pub digest: Vec<u8>,
}

/// A statement's signature, parsed and bound to a log, not yet verified.
#[derive(Debug, Clone)]
pub struct StatementSignature {
    signature: Signature,
    issuer: Fingerprint,
    created: Time,
}

impl StatementSignature {
    /// Reads one signature packet made for the log `origin`. Only what is in the signed part counts.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn parse(bytes: &[u8], fleet: &FleetName, origin: &str) -> Result<Self, SignatureError> {
        let PacketParserResult::Some(parser) = PacketParser::from_bytes(bytes).map_err(|_| SignatureError::Packet)?
        else {
            return Err(SignatureError::Packet);
        };
        let (packet, rest) = parser.next().map_err(|_| SignatureError::Packet)?;
        let (Packet::Signature(signature), PacketParserResult::EOF(_)) = (packet, rest) else {
            return Err(SignatureError::Packet);
        };
        if signature.typ() != SignatureType::Binary {
            return Err(SignatureError::Type);
        }
        match signature.hash_algo() {
            HashAlgorithm::SHA256
            | HashAlgorithm::SHA384
            | HashAlgorithm::SHA512
            | HashAlgorithm::SHA3_256
            | HashAlgorithm::SHA3_512 => {}
            other => return Err(SignatureError::Hash(other.to_string())),
        }
        // Sequoia takes creation time and notations from the signed part alone, the issuer from both: so look there ourselves.
        let issuer = match signature.hashed_area().subpacket(SubpacketTag::IssuerFingerprint).map(|s| s.value()) {
            Some(SubpacketValue::IssuerFingerprint(fingerprint)) => fingerprint.clone(),
            _ => return Err(SignatureError::Unbound("issuer fingerprint")),
        };
        let created = signature
            .signature_creation_time()
            .map(Time::from_system)
            .ok_or(SignatureError::Unbound("creation time"))?;
        let name = notation_name("log", fleet);
        let logs: Vec<&[u8]> = signature.notation(&name).collect();
        if logs != [origin.as_bytes()] {
            return Err(SignatureError::Log(origin.to_owned()));
        }
        Ok(Self { signature, issuer, created })
    }

    /// The fingerprint of the key that claims to have made it.
    pub fn issuer(&self) -> &Fingerprint {
        &self.issuer
    }

    /// When it claims to have been made.
    pub fn created(&self) -> Time {
        self.created
    }

    /// Whether both are one signature: the same signed part and the same numbers.
    #[cfg(test)]
    pub(super) fn signature_is(&self, other: &Self) -> bool {
        self.signature.hashed_area() == other.signature.hashed_area() && self.signature.mpis() == other.signature.mpis()
    }

    /// Checks that `key` made it over `body`.
    ///
    /// # Errors
    /// [`SignatureError::Wrong`].
    pub fn verify<P: KeyParts, R: KeyRole>(&self, key: &Key<P, R>, body: &[u8]) -> Result<(), SignatureError> {
        if key.fingerprint() != self.issuer {
            return Err(SignatureError::Wrong);
        }
        self.signature.verify_message(key, body).map_err(|_| SignatureError::Wrong)
    }

    /// What is left to the arithmetic of Ed25519 for `key` to have made it over `body`; `None` if it is of another kind, or if
    /// anything else stands against it.
    pub(super) fn numbers<P: KeyParts, R: KeyRole>(&self, key: &Key<P, R>, body: &[u8]) -> Option<Numbers> {
        let signature = &self.signature;
        let salt = signature.salt();
        let is_salted = match (signature.version(), key.version()) {
            (4, 4) => salt.is_none(),
            (6, 6) => salt.map(<[u8]>::len) == Some(signature.hash_algo().salt_size().ok()?),
            _ => false,
        };
        if !is_salted || key.fingerprint() != self.issuer || signature.signature_creation_time()? < key.creation_time()
        {
            return None;
        }
        let made = match (key.mpis(), signature.mpis()) {
            (mpi::PublicKey::Ed25519 { .. }, mpi::Signature::Ed25519 { s }) => **s,
            (mpi::PublicKey::EdDSA { curve: Curve::Ed25519, .. }, mpi::Signature::EdDSA { r, s }) => {
                [r.value_padded(32).ok()?, s.value_padded(32).ok()?].concat().try_into().ok()?
            }
            _ => return None,
        };
        let mut hash = signature.hash_algo().context().ok()?.for_signature(signature.version());
        hash.update(salt.unwrap_or_default());
        hash.update(body);
        signature.hash(&mut hash).ok()?;
        Some(Numbers { signature: made, digest: hash.into_digest().ok()? })
    }
}
