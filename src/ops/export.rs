//! Whom an export is sealed to.

use super::OpsError;
use crate::fleet::Fleet;
use crate::name::{MemberName, Slot};
use crate::openpgp::{Certificate, Fingerprint, PublicKey};
use crate::time::Time;

/// Somebody who reads an export, by a certificate of OpenPGP.
#[derive(Debug, Clone)]
pub struct ForeignReader {
    /// The certificate's fingerprint.
    pub fingerprint: String,
    /// The keys in it to seal to.
    pub keys: Vec<PublicKey>,
}

impl ForeignReader {
    /// A member of the fleet, by the certificate that the log has: active and standby key.
    ///
    /// # Errors
    /// [`OpsError`], if there is none, or nobody vouches for it now.
    pub fn member(name: &MemberName, fleet: &mut Fleet) -> Result<Self, OpsError> {
        if !fleet.state().members.get(name).is_some_and(|m| m.is_active()) {
            return Err(OpsError::NoMember(name.clone()));
        }
        fleet.check_vouched(name)?;
        let wanted: Vec<Fingerprint> =
            fleet.state().encryption_keys(name).filter_map(|k| Fingerprint::from_hex(k).ok()).collect();
        let certificate = fleet.certificate(name)?;
        let keys: Vec<PublicKey> = wanted.iter().filter_map(|f| certificate.key(f).cloned()).collect();
        if keys.is_empty() || keys.len() != wanted.len() {
            return Err(OpsError::Impossible(format!("{name} has no encryption key to seal to")));
        }
        Ok(Self { fingerprint: certificate.fingerprint().to_hex(), keys })
    }

    /// Somebody else, by a certificate that the caller vouches for.
    ///
    /// # Errors
    /// [`OpsError`], if it is expired, revoked, or cannot be encrypted to.
    pub fn certificate(certificate: &Certificate, now: Time) -> Result<Self, OpsError> {
        let name = certificate.fingerprint().to_hex();
        certificate.alive(now).map_err(|e| OpsError::Impossible(format!("the certificate {name} {e}")))?;
        let key = certificate.flagged_key(Slot::Openpgp, now).and_then(|f| certificate.key(&f).cloned());
        let none = || OpsError::Impossible(format!("the certificate {name} has no key that can be encrypted to"));
        Ok(Self { keys: vec![key.ok_or_else(none)?], fingerprint: name })
    }
}
