//! The extension of an SSH certificate that says why it is one: the proof that the log decided it, or an order that enough
//! holders of break-glass keys have signed.
//!
//! ```text
//! log-proof@cdn.example      string (string entry, string proof)
//! break-glass@cdn.example    string (string order, string (string signature, …))
//! ```
//! The entry is the one of the log that orders the certificate, byte by byte; the proof is a C2SP tlog-proof. An order and its
//! signatures are those of [`crate::login::BreakGlassOrder`]. `sshd` passes over extensions that it does not know, so a certificate
//! with one is good everywhere; whether it holds is judged by [`crate::login`]. The body in the log knows nothing of it: the
//! entry has to be there before it can be proved.

use super::certificate::{CertificateError, SshCertificate};
use super::sshsig::SshSignature;
use super::wire::{Put as _, Reader};
use crate::limits::SSH_STAPLE_BYTES_MAX;
use crate::name::FleetName;

/// What stands before the fleet's name.
const LOG_PROOF: &str = "log-proof@";
const BREAK_GLASS: &str = "break-glass@";

/// Something that a certificate carries beside what was ordered, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    name: String,
    data: Vec<u8>,
}

/// What is in a staple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stapled<'a> {
    /// A log entry, and the proof that the log has it.
    Proof(&'a [u8], &'a [u8]),
    /// A break-glass order, and signatures over it.
    BreakGlass(&'a [u8], Vec<SshSignature>),
}

impl Staple {
    /// Puts an entry and its proof together; nothing if they are too long for a certificate.
    pub fn new(fleet: &FleetName, entry: &[u8], proof: &[u8]) -> Option<Self> {
        Self::of_parts(format!("{LOG_PROOF}{fleet}"), entry, proof)
    }

    /// Puts a break-glass order and the signatures over it together; nothing if they are too long.
    pub fn break_glass(fleet: &FleetName, order: &[u8], signatures: &[SshSignature]) -> Option<Self> {
        let mut list = Vec::new();
        for signature in signatures {
            list.put_string(&signature.to_bytes()?);
        }
        Self::of_parts(format!("{BREAK_GLASS}{fleet}"), order, &list)
    }

    fn of_parts(name: String, first: &[u8], second: &[u8]) -> Option<Self> {
        if first.len().saturating_add(second.len()) > SSH_STAPLE_BYTES_MAX {
            return None;
        }
        let mut parts = Vec::with_capacity(first.len() + second.len() + 8);
        parts.put_string(first);
        parts.put_string(second);
        let mut data = Vec::with_capacity(parts.len() + 4);
        data.put_string(&parts);
        Some(Self { name, data })
    }

    /// The one that a certificate carries, of whatever fleet and kind.
    pub fn of(certificate: &SshCertificate) -> Option<Self> {
        let is_one = |name: &str| name.starts_with(LOG_PROOF) || name.starts_with(BREAK_GLASS);
        let mut all = certificate.extensions().iter().filter(|(name, _)| is_one(name));
        match (all.next(), all.next()) {
            (Some((name, data)), None) => Some(Self { name: name.clone(), data: data.clone() }),
            _ => None,
        }
    }

    /// Whether it is about this fleet.
    pub fn is_of(&self, fleet: &FleetName) -> bool {
        [LOG_PROOF, BREAK_GLASS].iter().any(|prefix| self.name.strip_prefix(prefix) == Some(fleet.as_str()))
    }

    /// What is in it.
    ///
    /// # Errors
    /// [`CertificateError::Format`], if it does not consist of two parts, or the second not of signatures.
    pub fn parts(&self) -> Result<Stapled<'_>, CertificateError> {
        let mut outer = Reader::new(&self.data);
        let mut reader = Reader::new(outer.string()?);
        outer.finish()?;
        let (first, second) = (reader.string()?, reader.string()?);
        reader.finish()?;
        if self.name.starts_with(LOG_PROOF) {
            return Ok(Stapled::Proof(first, second));
        }
        let (mut list, mut signatures) = (Reader::new(second), Vec::new());
        while !list.is_empty() {
            let signature = SshSignature::from_bytes(list.string()?);
            signatures.push(signature.ok_or(CertificateError::Format("what should be a signature is none"))?);
        }
        Ok(Stapled::BreakGlass(first, signatures))
    }

    /// As an extension: its name and data.
    pub(super) fn extension(&self) -> (&str, &[u8]) {
        (&self.name, &self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_certificate_gives_back_what_was_stapled_to_it() {
        let fleet: FleetName = "cdn.example".parse().expect("a name");
        let staple = Staple::new(&fleet, b"entry", b"proof").expect("short");
        assert_eq!(staple.parts(), Ok(Stapled::Proof(b"entry", b"proof")));
        let certificate = sample::stapled(sample::user_fields(), 42, Some(&staple));
        assert_eq!(Staple::of(&certificate).as_ref(), Some(&staple));
        assert!(staple.is_of(&fleet) && !staple.is_of(&"ops.example".parse().expect("a name")));
        assert_eq!(Staple::of(&sample::issued(sample::user_fields(), 42)), None);
        // What was ordered is what is in it, the staple aside.
        let body = sample::body(sample::user_fields());
        assert_eq!(certificate.verify_issued(&body, sample::serial(42)), Ok(()));
        let oracle = ssh_key::Certificate::from_openssh(&certificate.to_line()).expect("ssh-key reads it");
        assert!(oracle.verify_signature().is_ok());
        assert_eq!(oracle.extensions().keys().collect::<Vec<_>>(), ["log-proof@cdn.example", "permit-pty"]);
        assert_eq!(Staple::new(&fleet, &[0; SSH_STAPLE_BYTES_MAX], b"proof"), None);
    }

    #[test]
    fn what_is_not_two_strings_is_refused() {
        for data in
            [&b""[..], b"\0\0\0\x01a", b"\0\0\0\0\0\0\0\0\0", b"\0\0\0\x09\0\0\0\0", b"\0\0\0\x08\0\0\0\0\0\0\0\0\0"]
        {
            let staple = Staple { name: "log-proof@cdn.example".into(), data: data.to_vec() };
            assert!(matches!(staple.parts(), Err(CertificateError::Format(_))), "{data:?}");
        }
    }
}
