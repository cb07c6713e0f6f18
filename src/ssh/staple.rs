//! The extension of an SSH certificate that carries the proof that the log decided it.
//!
//! ```text
//! log-proof@cdn.example    string (string entry, string proof)
//! ```
//! The entry is the one of the log that orders the certificate, byte by byte; the proof is a C2SP tlog-proof. `sshd` passes
//! over extensions that it does not know, so a certificate with one is good everywhere; whether the proof holds is judged by
//! [`crate::login`]. The body in the log knows nothing of it: the entry has to be there before it can be proved.

use super::certificate::{CertificateError, SshCertificate};
use super::wire::{Put as _, Reader};
use crate::limits::SSH_STAPLE_BYTES_MAX;
use crate::name::FleetName;

/// What stands before the fleet's name.
const PREFIX: &str = "log-proof@";

/// A log entry and the proof that the log has it, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    name: String,
    data: Vec<u8>,
}

impl Staple {
    /// Puts the two together; nothing if they are too long for a certificate.
    pub fn new(fleet: &FleetName, entry: &[u8], proof: &[u8]) -> Option<Self> {
        if entry.len().saturating_add(proof.len()) > SSH_STAPLE_BYTES_MAX {
            return None;
        }
        let mut parts = Vec::with_capacity(entry.len() + proof.len() + 8);
        parts.put_string(entry);
        parts.put_string(proof);
        let mut data = Vec::with_capacity(parts.len() + 4);
        data.put_string(&parts);
        Some(Self { name: format!("{PREFIX}{fleet}"), data })
    }

    /// The one that a certificate carries, of whatever fleet.
    pub fn of(certificate: &SshCertificate) -> Option<Self> {
        let mut all = certificate.extensions().iter().filter(|(name, _)| name.starts_with(PREFIX));
        match (all.next(), all.next()) {
            (Some((name, data)), None) => Some(Self { name: name.clone(), data: data.clone() }),
            _ => None,
        }
    }

    /// Whether it is about the log of this fleet.
    pub fn is_of(&self, fleet: &FleetName) -> bool {
        self.name.strip_prefix(PREFIX) == Some(fleet.as_str())
    }

    /// Entry and proof.
    ///
    /// # Errors
    /// [`CertificateError::Format`], if it does not consist of the two.
    pub fn parts(&self) -> Result<(&[u8], &[u8]), CertificateError> {
        let mut outer = Reader::new(&self.data);
        let mut reader = Reader::new(outer.string()?);
        outer.finish()?;
        let parts = (reader.string()?, reader.string()?);
        reader.finish()?;
        Ok(parts)
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
        assert_eq!(staple.parts(), Ok((&b"entry"[..], &b"proof"[..])));
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
