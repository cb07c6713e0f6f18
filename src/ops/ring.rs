//! A copy of the certificates for gpg, with the fleet's verdict flattened into it.
//!
//! gpg does not add trust amounts up and takes one operator for enough, so for more than one needed operator no
//! configuration of it reaches our verdict over the chain itself. Instead a root made for this one export certifies,
//! not exportably, exactly what was authenticated here; its secret is thrown away at once. Import the ring with
//! `--import-options import-local-sigs`, then the ownertrust.

use sequoia_openpgp as pgp;

use pgp::cert::CertBuilder;
use pgp::packet::signature::SignatureBuilder;
use pgp::serialize::Serialize as _;
use pgp::types::SignatureType;

use super::OpsError;
use crate::fleet::Fleet;
use crate::name::MemberName;
use crate::openpgp::OpenpgpError;

/// What to give to gpg.
#[derive(Debug)]
pub struct Ring {
    /// Certificates, the local root's first.
    pub certificates: Vec<u8>,
    /// Lines for `gpg --import-ownertrust`.
    pub ownertrust: String,
    /// Whose binding was certified.
    pub authenticated: Vec<MemberName>,
    /// Whose was not, and why.
    pub refused: Vec<(MemberName, String)>,
}

/// Exports the certificates of all members. With `flatten`, a local root certifies those that enough operators vouch for;
/// without, the ring holds the fleet's own certifications only.
///
/// # Errors
/// [`OpsError`].
pub fn export_ring(flatten: bool, fleet: &mut Fleet) -> Result<Ring, OpsError> {
    let failed = |doing: &'static str| {
        move |e: pgp::anyhow::Error| {
            OpsError::from(OpenpgpError { doing, detail: crate::text::shown(&e.to_string()).to_string() })
        }
    };
    let now = fleet.now();
    let mut ring =
        Ring { certificates: Vec::new(), ownertrust: String::new(), authenticated: Vec::new(), refused: Vec::new() };
    let user_id = format!("local trust root <root@keys.{}>", fleet.state().fleet);
    let (root, _) = CertBuilder::new()
        .set_profile(pgp::Profile::RFC4880)
        .and_then(|b| b.set_creation_time(now.minus(crate::time::Span(60)).to_system()).add_userid(user_id).generate())
        .map_err(failed("make a local root"))?;
    let mut signer = root
        .primary_key()
        .key()
        .clone()
        .parts_into_secret()
        .and_then(|k| k.into_keypair())
        .map_err(failed("use a local root"))?;
    if flatten {
        root.clone()
            .strip_secret_key_material()
            .serialize(&mut ring.certificates)
            .map_err(failed("write a certificate"))?;
        ring.ownertrust = format!("{}:6:\n", root.fingerprint().to_hex());
    }
    let names: Vec<MemberName> = fleet.state().members.keys().cloned().collect();
    for name in names {
        let mut cert = fleet.certificate(&name)?.cert().clone();
        match fleet.check_vouched(&name) {
            Ok(()) => ring.authenticated.push(name),
            Err(void) => {
                ring.refused.push((name, void.to_string()));
                cert.serialize(&mut ring.certificates).map_err(failed("write a certificate"))?;
                continue;
            }
        }
        if flatten {
            let user_ids: Vec<pgp::packet::UserID> = cert.userids().map(|u| u.userid().clone()).collect();
            for user_id in user_ids {
                let signature = SignatureBuilder::new(SignatureType::GenericCertification)
                    .set_hash_algo(pgp::types::HashAlgorithm::SHA512)
                    .set_signature_creation_time(now.to_system())
                    .and_then(|b| b.set_exportable_certification(false))
                    .and_then(|b| b.sign_userid_binding(&mut signer, cert.primary_key().key(), &user_id))
                    .map_err(failed("certify for gpg"))?;
                cert = cert
                    .insert_packets(vec![pgp::Packet::from(user_id), signature.into()])
                    .map_err(failed("certify for gpg"))?
                    .0;
            }
        }
        // Not `export`: that would leave out what is not exportable, which here is the point.
        cert.serialize(&mut ring.certificates).map_err(failed("write a certificate"))?;
    }
    Ok(ring)
}
