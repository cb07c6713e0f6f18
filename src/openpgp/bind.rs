//! Subkey states in the certificate: new binding signatures say which subkey is active, standby or retiring.
//!
//! The log is what counts; the certificate follows it, so that `gpg` and `sq` choose the same key as we do. The owner
//! makes the bindings when it next runs.

use sequoia_openpgp as pgp;

use pgp::crypto::KeyPair;
use pgp::packet::key::{PublicParts, SecretParts, SubordinateRole, UnspecifiedRole};
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::signature::subpacket::NotationDataFlags;
use pgp::packet::{Key, Signature};
use pgp::types::SignatureType;
use pgp::{Cert, Fingerprint, Packet};

use super::make::{flags, public};
use super::profile::{HASH, notation_name, policy_at};
use super::{Doing as _, OpenpgpError};
use crate::name::{FleetName, Slot};
use crate::time::{Span, Time};

/// What a subkey is for, at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// The active encryption subkey.
    Encrypt,
    /// The active signing subkey.
    Sign,
    /// Distributed beforehand, not yet used (SP 800-57: pre-active).
    Standby,
    /// Sealed to until now (SP 800-57: deactivated); still opens what was sealed to it.
    Retiring,
    /// Signed with until now. It keeps its flag, or gpg would no longer accept what it signed.
    Verify,
}

impl Use {
    /// What the active key of `slot` is for.
    pub fn active(slot: Slot) -> Self {
        if slot == Slot::Sign { Self::Sign } else { Self::Encrypt }
    }

    /// What a key of `slot` is for that was active until now.
    pub fn past(slot: Slot) -> Self {
        if slot == Slot::Sign { Self::Verify } else { Self::Retiring }
    }

    /// The value of the `state@<fleet>` notation.
    pub fn word(self) -> &'static str {
        match self {
            Self::Encrypt | Self::Sign => "active",
            Self::Standby => "standby",
            Self::Retiring | Self::Verify => "retiring",
        }
    }
}

/// Binds subkeys anew, each for its use, and drops the bindings that this supersedes, but not those for signing. `cert`
/// holds the primary key's secret, and that of every subkey that becomes a signing key. Subkeys not named in `wanted` keep
/// what they have.
///
/// The new bindings are dated `now`, or one second after the newest binding there is: of two bindings made in the same
/// second neither wins.
///
/// # Errors
/// [`OpenpgpError`]; also if a secret is missing.
pub fn rebind(cert: Cert, wanted: &[(Fingerprint, Use)], fleet: &FleetName, now: Time) -> Result<Cert, OpenpgpError> {
    let newest = cert
        .keys()
        .subkeys()
        .flat_map(|k| k.self_signatures())
        .filter_map(|s| s.signature_creation_time())
        .map(Time::from_system)
        .max()
        .map_or(now, |newest| now.max(newest.plus(Span(1))));
    let mut primary = primary_signer(&cert)?;
    let mut fresh = Vec::new();
    for (fingerprint, usage) in wanted {
        let key = subkey(&cert, fingerprint)?;
        fresh.push((fingerprint.clone(), binding(&cert, &mut primary, key, *usage, fleet, newest)?));
    }
    without_superseded(cert, fresh)
}

/// `cert` with its secrets, without the signatures that are dated after `latest`: a clock that was wrong made them, and
/// nothing that is made today would count beside them.
///
/// # Errors
/// [`OpenpgpError`].
pub fn without_later(cert: Cert, latest: Time) -> Result<Cert, OpenpgpError> {
    let later = |s: &Signature| s.signature_creation_time().is_some_and(|t| Time::from_system(t) > latest);
    let packets = cert.into_tsk().into_packets().filter(|p| !matches!(p, Packet::Signature(s) if later(s)));
    Cert::from_packets(packets).doing("rebuild a certificate")
}

/// Lets `cert`, which holds the primary key's secret, live for `validity` from `now` on.
///
/// # Errors
/// [`OpenpgpError`]; also if a secret is missing.
pub fn extend(cert: Cert, validity: Span, now: Time) -> Result<Cert, OpenpgpError> {
    // Dated after what is there, for the newest counts.
    let newest = |signatures: &mut dyn Iterator<Item = &Signature>| {
        signatures.filter_map(|s| s.signature_creation_time()).map(Time::from_system).max()
    };
    let of_key = newest(&mut cert.primary_key().self_signatures());
    let of_names = newest(&mut cert.userids().flat_map(|u| u.self_signatures()));
    let at = of_key.max(of_names).map_or(now, |newest| now.max(newest.plus(Span(1))));
    let mut primary = primary_signer(&cert)?;
    let born = Time::from_system(cert.primary_key().key().creation_time());
    let period = at.plus(validity).since(born).to_duration();
    let mut fresh = Vec::new();
    {
        let policy = policy_at(at);
        let valid = cert.with_policy(&policy, at.to_system()).doing("read the certificate")?;
        let template = |old: &Signature| {
            SignatureBuilder::from(old.clone())
                .set_hash_algo(HASH)
                .set_signature_creation_time(at.to_system())
                .and_then(|b| b.set_key_validity_period(period))
                .doing("describe a self-signature")
        };
        if let Ok(direct) = valid.direct_key_signature() {
            fresh.push(template(direct)?.sign_direct_key(&mut primary, None).doing("sign the primary key's binding")?);
        }
        for name in valid.userids() {
            let builder = template(name.binding_signature())?;
            let signed = builder.sign_userid_binding(&mut primary, None, name.userid());
            fresh.push(signed.doing("sign a user id's binding")?);
        }
    }
    Ok(cert.insert_packets(fresh).doing("put in the new self-signatures")?.0)
}

/// The words of the `state@<fleet>` notations in force, by subkey: what `gpg` users see.
pub fn subkey_states(cert: &Cert, fleet: &FleetName) -> Vec<(Fingerprint, String)> {
    let name = notation_name("state", fleet);
    cert.keys()
        .subkeys()
        .filter_map(|k| {
            let newest = k.self_signatures().max_by_key(|s| s.signature_creation_time())?;
            let word = newest.notation(&name).next()?;
            Some((k.key().fingerprint(), String::from_utf8_lossy(word).into_owned()))
        })
        .collect()
}

pub(super) fn primary_signer(cert: &Cert) -> Result<KeyPair, OpenpgpError> {
    cert.primary_key()
        .key()
        .clone()
        .parts_into_secret()
        .and_then(|k| k.into_keypair())
        .doing("use the primary key's secret")
}

fn subkey<'a>(
    cert: &'a Cert,
    fingerprint: &Fingerprint,
) -> Result<&'a Key<PublicParts, SubordinateRole>, OpenpgpError> {
    cert.keys().subkeys().map(|k| k.component()).find(|k| &k.fingerprint() == fingerprint).ok_or_else(|| OpenpgpError {
        doing: "bind a subkey",
        detail: format!("the certificate has no subkey {fingerprint}"),
    })
}

fn binding(
    cert: &Cert,
    primary: &mut KeyPair,
    key: &Key<PublicParts, SubordinateRole>,
    usage: Use,
    fleet: &FleetName,
    at: Time,
) -> Result<Signature, OpenpgpError> {
    let human = NotationDataFlags::empty().set_human_readable();
    let mut builder = SignatureBuilder::new(SignatureType::SubkeyBinding)
        .set_hash_algo(HASH)
        .set_signature_creation_time(at.to_system())
        .and_then(|b| b.set_key_flags(flags(usage)))
        // Not critical: gpg drops a binding with a critical notation it does not know, and the subkey with it.
        .and_then(|b| b.set_notation(notation_name("state", fleet), usage.word(), human, false))
        .doing("describe a binding")?;
    if matches!(usage, Use::Sign | Use::Verify) {
        builder = builder.set_embedded_signature(back_signature(cert, key, at)?).doing("embed a back signature")?;
    }
    key.bind(primary, cert, builder).doing("bind a subkey")
}

/// A signing subkey's own consent to belong to the primary key: made anew, or, if its secret is gone, the one it gave.
fn back_signature(cert: &Cert, key: &Key<PublicParts, SubordinateRole>, at: Time) -> Result<Signature, OpenpgpError> {
    let bundle = cert.keys().subkeys().find(|k| k.key().fingerprint() == key.fingerprint());
    if !key.has_secret()
        && let Some(old) = bundle.iter().flat_map(|k| k.self_signatures()).find_map(|s| s.embedded_signatures().next())
    {
        return Ok(old.clone());
    }
    let secret: Key<SecretParts, UnspecifiedRole> =
        key.clone().role_into_unspecified().parts_into_secret().doing("use a signing subkey's secret")?;
    let mut signer = secret.into_keypair().doing("use a signing subkey's secret")?;
    SignatureBuilder::new(SignatureType::PrimaryKeyBinding)
        .set_hash_algo(HASH)
        .set_signature_creation_time(at.to_system())
        .and_then(|b| b.sign_primary_key_binding(&mut signer, cert.primary_key().key(), key))
        .doing("bind the primary key to a signing subkey")
}

/// Puts `fresh` bindings into `cert` in place of the older bindings of the same subkeys, so that a certificate does not
/// grow with every rotation. Revocations stay, and so do older bindings for signing, of which a subkey has one: sq accepts
/// a signature only if the subkey was bound for signing when it was made.
fn without_superseded(cert: Cert, fresh: Vec<(Fingerprint, Signature)>) -> Result<Cert, OpenpgpError> {
    let mut out: Vec<Packet> = Vec::new();
    let mut rebound: Option<Signature> = None;
    for packet in cert.into_tsk().into_packets() {
        let fingerprint = match &packet {
            Packet::PublicSubkey(k) => Some(k.fingerprint()),
            Packet::SecretSubkey(k) => Some(public(k).fingerprint()),
            Packet::UserID(_) | Packet::UserAttribute(_) => {
                rebound = None;
                None
            }
            Packet::Signature(s)
                if rebound.is_some()
                    && s.typ() == SignatureType::SubkeyBinding
                    && !s.key_flags().is_some_and(|f| f.for_signing()) =>
            {
                continue;
            }
            _ => None,
        };
        out.push(packet);
        if let Some(fingerprint) = fingerprint {
            rebound = fresh.iter().find(|(f, _)| *f == fingerprint).map(|(_, s)| s.clone());
            out.extend(rebound.clone().map(Packet::from));
        }
    }
    Cert::from_packets(out.into_iter()).doing("rebuild a certificate")
}
