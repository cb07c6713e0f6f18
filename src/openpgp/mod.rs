//! OpenPGP: certificates, their subkeys' states, certifications, the web of trust, signatures on statements, and sealed
//! messages. RFC 9580 (and RFC 4880 where the *compat* profile keeps to it), by way of Sequoia.
//!
//! Promises: certificates from outside are bounded before they are parsed ([`Certificate`]); keys are chosen by the
//! fingerprint that the log names, never by position or flag; no secret key of RSA, DSA or ElGamal is used in process.
//! Left to others: which certificate belongs to whom and which subkey is active (`crate::state`), where bytes lie
//! (`crate::home`, `crate::store`).

mod bind;
mod certificate;
mod certify;
mod make;
mod message;
mod packets;
mod plain;
mod profile;
mod public;
mod sign;
#[cfg(test)]
mod tests;
mod verifier;
mod web;
mod wrap;

pub use bind::{Use, extend, rebind, subkey_states, without_later};
pub use certificate::{Certificate, CertificateError, directory_path, material};
pub use certify::{Grant, certify, merge_revocation, withdraw};
pub use make::{Made, add_subkey, generate};
pub use message::{
    Envelope, Opened, OwnKey, PublicKey, SealError, open, open_raw, reseal, reseal_with, seal, seal_with,
};
pub use packets::{PacketError, Sealed};
pub use plain::{
    BodyKey, BodyWriter, armor, armor_certificates, body_reader, dearmor, decrypt, encrypt, one_time, open_body,
    session_key,
};
pub use profile::{Profile, Validity, notation_name, policy_at};
pub use public::{read_public_key, write_public_key};
pub use sign::{SignatureError, StatementSignature, same_key, sign_statement};
pub use verifier::{Claimed, Verifier};
pub use web::{Web, amount_for};
pub use wrap::Wraps;

/// A fingerprint; text form: upper-case hexadecimal, 40 digits (v4) or 64 (v6), as `gpg` and `sq` print it.
pub use sequoia_openpgp::Fingerprint;

/// Sequoia refused. The detail is Sequoia's own, made safe to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing}: {detail}")]
#[non_exhaustive]
pub struct OpenpgpError {
    /// What was being done.
    pub doing: &'static str,
    /// What Sequoia says.
    pub detail: String,
}

/// Names what was being done when Sequoia refused.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, OpenpgpError>;
}

impl<T> Doing<T> for sequoia_openpgp::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, OpenpgpError> {
        self.map_err(|e| {
            let chain = e.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
            OpenpgpError { doing, detail: crate::text::shown(&chain).to_string() }
        })
    }
}
