//! Making certificates and subkeys, on the machine that will use them.

use sequoia_openpgp as pgp;

use pgp::cert::{CertBuilder, CipherSuite};
use pgp::packet::key::{Key4, Key6, PublicParts, SecretParts, SubordinateRole};
use pgp::packet::{Key, Signature};
use pgp::types::{Curve, KeyFlags};
use pgp::{Cert, Fingerprint};

use super::bind::{Use, rebind};
use super::{Doing as _, OpenpgpError, Profile};
use crate::name::{FleetName, Kind, Slot};
use crate::time::{Span, Time};

/// How far before the present the first self-signatures are dated. A binding made in the same second as the one it
/// replaces does not win; this leaves room for a rotation right after birth.
const BACKDATE: Span = Span(60);

/// A fresh member: the certificate with its secrets, and which subkey stands where.
pub struct Made {
    /// The certificate with all secret key material, for the home that made it.
    pub cert: Cert,
    /// A hard revocation of the whole certificate, to be sealed to the recovery readers.
    pub revocation: Signature,
    /// Slot, fingerprint and whether it is the active key, in the order active, standby for each slot.
    pub subkeys: Vec<(Slot, Fingerprint, Use)>,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Made({}, ..)", self.cert.fingerprint())
    }
}

/// Makes the certificate of a member: a certify-only primary key, and for each OpenPGP slot of its kind an active and a
/// standby subkey. The standby is bound with *empty* key flags, so that `gpg` and `sq` encrypt to the active one only,
/// while both decrypt what was sealed to the standby.
///
/// # Errors
/// [`OpenpgpError`].
pub fn generate(
    kind: Kind,
    user_id: &str,
    fleet: &FleetName,
    profile: Profile,
    validity: Span,
    now: Time,
) -> Result<Made, OpenpgpError> {
    let born = now.minus(BACKDATE);
    let (cert, revocation) = CertBuilder::new()
        .set_profile(profile.rfc())
        .doing("choose the OpenPGP version")?
        .set_cipher_suite(profile.cipher_suite(kind))
        .set_features(profile.features())
        .doing("choose the features")?
        .set_creation_time(born.to_system())
        .set_validity_period(validity.to_duration())
        .add_userid(user_id)
        .generate()
        .doing("make a certificate")?;
    let mut subkeys = Vec::new();
    let mut wanted = Vec::new();
    let mut cert = cert;
    for &slot in Slot::of(kind).iter().filter(|s| s.is_openpgp()) {
        for usage in [Use::active(slot), Use::Standby] {
            let key = subkey(kind, slot, profile, born)?;
            subkeys.push((slot, key.fingerprint(), usage));
            wanted.push((key.fingerprint(), usage));
            cert = insert(cert, key)?;
        }
    }
    let cert = rebind(cert, &wanted, fleet, born)?;
    Ok(Made { cert, revocation, subkeys })
}

/// Makes one more subkey for `slot` and puts it, unbound, into `cert`, which holds the primary key's secret. Whoever
/// calls this binds it next with [`rebind`].
///
/// # Errors
/// [`OpenpgpError`].
pub fn add_subkey(
    cert: Cert,
    kind: Kind,
    slot: Slot,
    profile: Profile,
    now: Time,
) -> Result<(Cert, Fingerprint), OpenpgpError> {
    let key = subkey(kind, slot, profile, now)?;
    let fingerprint = key.fingerprint();
    Ok((insert(cert, key)?, fingerprint))
}

fn insert(cert: Cert, key: Key<SecretParts, SubordinateRole>) -> Result<Cert, OpenpgpError> {
    Ok(cert.insert_packets(vec![pgp::Packet::from(key)]).doing("add a subkey")?.0)
}

fn subkey(
    kind: Kind,
    slot: Slot,
    profile: Profile,
    born: Time,
) -> Result<Key<SecretParts, SubordinateRole>, OpenpgpError> {
    let for_signing = slot == Slot::Sign;
    let mut key: Key<SecretParts, SubordinateRole> = match (profile, profile.cipher_suite(kind)) {
        (Profile::Compat, _) => {
            Key4::generate_ecc(for_signing, if for_signing { Curve::Ed25519 } else { Curve::Cv25519 })
                .doing("make a key")?
                .into()
        }
        (Profile::Modern, CipherSuite::MLDSA65_Ed25519) if for_signing => {
            Key6::generate_mldsa65_ed25519().doing("make a key")?.into()
        }
        (Profile::Modern, _) if for_signing => Key6::generate_ed25519().doing("make a key")?.into(),
        (Profile::Modern, _) => Key6::generate_mlkem768_x25519().doing("make a key")?.into(),
    };
    key.set_creation_time(born.to_system()).doing("date a key")?;
    Ok(key)
}

/// The flags a subkey has while it is active.
pub(super) fn flags(usage: Use) -> KeyFlags {
    match usage {
        Use::Encrypt => KeyFlags::empty().set_storage_encryption().set_transport_encryption(),
        Use::Sign | Use::Verify => KeyFlags::empty().set_signing(),
        Use::Standby | Use::Retiring => KeyFlags::empty(),
    }
}

/// The public half of a subkey, for binding.
pub(super) fn public(key: &Key<SecretParts, SubordinateRole>) -> Key<PublicParts, SubordinateRole> {
    key.clone().take_secret().0
}
