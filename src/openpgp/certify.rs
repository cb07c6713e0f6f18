//! Certifications: one member vouches for another's certificate, within a scope, for a while; and takes it back.

use sequoia_openpgp as pgp;

use pgp::Cert;
use pgp::crypto::Signer;
use pgp::packet::Signature;
use pgp::packet::signature::SignatureBuilder;
use pgp::types::{ReasonForRevocation, SignatureType};

use super::profile::HASH;
use super::{Certificate, Doing as _, OpenpgpError};
use crate::name::{FleetName, Label};
use crate::time::{Span, Time};

/// What a certification lets its subject do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Be an authority: introduce PoPs, which introduce services, all inside the fleet's domain (trust depth 2).
    Authority {
        /// The fleet whose domain bounds the trust.
        fleet: FleetName,
        /// The trust amount, see [`super::amount_for`].
        amount: u8,
    },
    /// Be a PoP: introduce services inside its own zone (trust depth 1, full amount).
    Pop {
        /// The fleet.
        fleet: FleetName,
        /// The PoP's label, which names its zone.
        pop: Label,
    },
    /// Be a service: introduce nobody.
    Service,
}

impl Grant {
    /// Depth, amount and the scope's regular expression over user ids: in the one form that gpg takes for an expression
    /// (`<[^>]+[@.]DOMAIN>$`, as it writes it itself). Any other it escapes, and then no user id matches.
    fn trust(&self) -> Option<(u8, u8, String)> {
        let quoted = |domain: &FleetName| domain.as_str().replace('.', "\\.");
        match self {
            Self::Authority { fleet, amount } => Some((2, *amount, format!("<[^>]+[@.]{}>$", quoted(fleet)))),
            Self::Pop { fleet, pop } => Some((1, 120, format!("<[^>]+[@.]{pop}\\.{}>$", quoted(fleet)))),
            Self::Service => None,
        }
    }
}

/// Certifies `subject`'s only user id by `certifier`'s primary key, valid for `validity` from `now`.
///
/// # Errors
/// [`OpenpgpError`].
pub fn certify(
    subject: &Certificate,
    grant: &Grant,
    certifier: &mut (dyn Signer + Send + Sync),
    validity: Span,
    now: Time,
) -> Result<Certificate, OpenpgpError> {
    let builder = SignatureBuilder::new(SignatureType::GenericCertification)
        .set_signature_validity_period(validity.to_duration())
        .doing("date a certification")?;
    let builder = match grant.trust() {
        None => builder,
        Some((depth, amount, scope)) => builder
            .set_trust_signature(depth, amount)
            .and_then(|b| b.set_regular_expression(scope))
            .doing("bound a certification")?,
    };
    sign_user_id(subject, builder, certifier, now)
}

/// Takes a certification back (RFC 9580, section 5.2.1.12): from `now` on `certifier` does not vouch for `subject`, or from
/// one second after its newest certification: of two signatures of the same second neither is the later one.
///
/// # Errors
/// [`OpenpgpError`].
pub fn withdraw(
    subject: &Certificate,
    certifier: &mut (dyn Signer + Send + Sync),
    now: Time,
) -> Result<Certificate, OpenpgpError> {
    let builder = SignatureBuilder::new(SignatureType::CertificationRevocation)
        .set_reason_for_revocation(ReasonForRevocation::UIDRetired, b"withdrawn")
        .doing("describe a withdrawal")?;
    let last = subject.certified_since(&certifier.public().fingerprint());
    sign_user_id(subject, builder, certifier, last.map_or(now, |last| now.max(last.plus(Span(1)))))
}

fn sign_user_id(
    subject: &Certificate,
    builder: SignatureBuilder,
    certifier: &mut (dyn Signer + Send + Sync),
    now: Time,
) -> Result<Certificate, OpenpgpError> {
    let cert = subject.cert();
    let user_id = cert
        .userids()
        .next()
        .ok_or_else(|| OpenpgpError { doing: "certify", detail: "the certificate has no user id".to_owned() })?;
    let signature = builder
        .set_hash_algo(HASH)
        .set_signature_creation_time(now.to_system())
        .and_then(|b| b.sign_userid_binding(certifier, cert.primary_key().key(), user_id.userid()))
        .doing("sign a certification")?;
    let merged = cert
        .clone()
        .insert_packets(vec![user_id.userid().clone().into(), pgp::Packet::from(signature)])
        .doing("add a certification")?
        .0;
    finish(&merged)
}

/// Puts the owner's own revocation into its certificate.
///
/// # Errors
/// [`OpenpgpError`], also if the signature does not revoke this certificate.
pub fn merge_revocation(subject: &Certificate, revocation: &Signature) -> Result<Certificate, OpenpgpError> {
    let primary = subject.cert().primary_key();
    revocation.verify_primary_key_revocation(primary.key(), primary.key()).doing("check a revocation")?;
    let merged: Cert =
        subject.cert().clone().insert_packets(vec![pgp::Packet::from(revocation.clone())]).doing("add a revocation")?.0;
    finish(&merged)
}

fn finish(cert: &Cert) -> Result<Certificate, OpenpgpError> {
    Certificate::of(cert).map_err(|e| OpenpgpError { doing: "use the certificate", detail: e.to_string() })
}
