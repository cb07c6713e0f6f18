//! Issuing SSH certificates: the bytes to be signed follow from body, serial and stapled proof, and nothing else goes in.
//!
//! There is no second representation in between: the bytes are written once, signed, and the whole is read back and
//! held against the order before anybody gets it.

use std::collections::BTreeMap;

use super::body::{CertificateBody, CertificateFields, CertificateKind, Serial};
use super::certificate::{CertificateError, SshCertificate};
use super::private::CertificateAuthority;
use super::staple::Staple;
use super::wire::Put as _;

/// The bytes that a CA signs for `body` under `serial`, with the proof that the log has ordered it if one is stapled.
/// Nothing else goes in.
pub fn to_be_signed(body: &CertificateBody, serial: Serial, staple: Option<&Staple>) -> Vec<u8> {
    let fields: &CertificateFields = body.fields();
    let mut out = Vec::with_capacity(512);
    out.put_string(fields.subject.algorithm().certificate_name().as_bytes());
    out.put_string(&fields.nonce.0);
    out.extend(fields.subject.fields());
    out.put_u64(serial.number());
    out.put_u32(match fields.kind {
        CertificateKind::User => 1,
        CertificateKind::Host => 2,
    });
    out.put_string(fields.key_id.as_str().as_bytes());
    let principals = fields.principals.iter().fold(Vec::new(), |mut list, principal| {
        list.put_string(principal.as_str().as_bytes());
        list
    });
    out.put_string(&principals);
    out.put_u64(fields.valid_after.0);
    out.put_u64(fields.valid_before.0);
    let critical = fields.critical_options.iter().map(|(name, value)| (name.as_str(), wrapped(value)));
    out.put_string(&options(critical.collect()));
    let stapled = staple.map(Staple::extension).map(|(name, data)| (name, data.to_vec()));
    let extensions = fields.extensions.iter().map(|name| (name.as_str(), Vec::new()));
    out.put_string(&options(extensions.chain(stapled).collect()));
    out.put_string(b"");
    out.put_string(fields.ca.blob());
    out
}

/// A value as the options that OpenSSH knows have it: nothing, or a string.
fn wrapped(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if !value.is_empty() {
        out.put_string(value.as_bytes());
    }
    out
}

/// Options in the order of their names, which OpenSSH asks for: the name, then a string that holds the data.
fn options(options: BTreeMap<&str, Vec<u8>>) -> Vec<u8> {
    options.into_iter().fold(Vec::new(), |mut out, (name, data)| {
        out.put_string(name.as_bytes());
        out.put_string(&data);
        out
    })
}

/// Has `ca` sign `body` under `serial`. The same three give the same bytes again if the CA's key is Ed25519, so a
/// certificate that was lost on the way is simply issued once more.
///
/// # Errors
/// [`CertificateError`], if the body names another CA, or the CA does not sign or signs wrongly.
pub fn issue(
    body: &CertificateBody,
    serial: Serial,
    staple: Option<&Staple>,
    ca: &(impl CertificateAuthority + ?Sized),
) -> Result<SshCertificate, CertificateError> {
    let expected = &body.fields().ca;
    if ca.public() != expected {
        return Err(CertificateError::WrongCa { expected: expected.fingerprint(), found: ca.public().fingerprint() });
    }
    let mut blob = to_be_signed(body, serial, staple);
    let signature = ca.sign(&blob)?;
    blob.put_string(&signature);
    let certificate = SshCertificate::from_blob(blob)?;
    certificate.verify_issued(body, serial)?;
    Ok(certificate)
}

impl SshCertificate {
    /// Checks that this is exactly what `body` and `serial` order, signed by the body's CA. A stapled proof may be in it;
    /// what that is worth is another question ([`crate::login`]).
    ///
    /// # Errors
    /// [`CertificateError::NotAsOrdered`], [`CertificateError::Signature`].
    pub fn verify_issued(&self, body: &CertificateBody, serial: Serial) -> Result<(), CertificateError> {
        if self.signed_bytes() != to_be_signed(body, serial, Staple::of(self).as_ref()) {
            return Err(CertificateError::NotAsOrdered);
        }
        if !self.is_signed_by(&body.fields().ca) {
            return Err(CertificateError::Signature(body.fields().ca.fingerprint()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::SshPublicKey;
    use super::super::private::{CaSigner, SignError};
    use super::super::sample;
    use super::*;
    use crate::time::Time;

    #[test]
    fn certificates_say_what_was_ordered() {
        for fields in [sample::user_fields(), sample::host_fields()] {
            let certificate = sample::issued(fields.clone(), 42);
            let line = certificate.to_line();
            assert_eq!(SshCertificate::parse(&format!("{line} comment\n")).as_ref(), Ok(&certificate));
            assert_eq!(sample::issued(fields.clone(), 42), certificate, "the same order, the same bytes");
            assert_eq!((certificate.kind(), certificate.serial()), (fields.kind, 42));
            assert_eq!(certificate.subject().as_ref(), Ok(&fields.subject));
            assert_eq!(certificate.ca_fingerprint(), fields.ca.fingerprint());
            assert!(certificate.principals().iter().eq(fields.principals.iter().map(|p| p.as_str())));
            assert!(certificate.is_current(fields.valid_after) && !certificate.is_current(fields.valid_before));
            assert_eq!(certificate.valid_before(), Some(fields.valid_before));
            let oracle = ssh_key::Certificate::from_openssh(&line).expect("ssh-key reads it");
            assert!(oracle.verify_signature().is_ok());
            assert_eq!((oracle.serial(), oracle.key_id()), (42, fields.key_id.as_str()));
            assert_eq!(oracle.critical_options().0, fields.critical_options);
            assert!(oracle.extensions().keys().eq(fields.extensions.iter()));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let body = sample::body(sample::user_fields());
        let good = sample::issued(sample::user_fields(), 42);
        assert_eq!(good.verify_issued(&body, sample::serial(42)), Ok(()));
        for i in 0..good.blob.len() {
            for bit in [0, 3, 7] {
                let mut wrong = good.blob.clone();
                wrong[i] ^= 1 << bit;
                let accepted =
                    SshCertificate::from_blob(wrong).is_ok_and(|c| c.verify_issued(&body, sample::serial(42)).is_ok());
                assert!(!accepted, "byte {i}, bit {bit}");
            }
        }
        for end in 0..good.blob.len() {
            assert!(SshCertificate::from_blob(good.blob[..end].to_vec()).is_err(), "cut at {end}");
        }
        assert!(SshCertificate::from_blob([&good.blob[..], &[0]].concat()).is_err());
    }

    #[test]
    fn every_changed_field_is_noticed() {
        let good = sample::issued(sample::user_fields(), 42);
        let changes: [fn(&mut CertificateFields); 9] = [
            |f| f.kind = CertificateKind::Host,
            |f| f.ca = sample::key(5).public().clone(),
            |f| f.subject = sample::key(5).public().clone(),
            |f| f.key_id = "bob".parse().expect("printable"),
            |f| drop(f.principals.pop_first()),
            |f| f.valid_after = Time(f.valid_after.0 + 1),
            |f| f.valid_before = Time(f.valid_before.0 + 1),
            |f| drop(f.critical_options.pop_first()),
            |f| f.nonce.0[31] ^= 1,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut fields = sample::user_fields();
            change(&mut fields);
            if let Ok(body) = CertificateBody::new(fields) {
                assert_eq!(good.verify_issued(&body, sample::serial(42)), Err(CertificateError::NotAsOrdered), "{i}");
            }
        }
        let body = sample::body(sample::user_fields());
        assert_eq!(good.verify_issued(&body, sample::serial(43)), Err(CertificateError::NotAsOrdered));
    }

    #[test]
    fn a_lying_ca_is_caught() {
        struct Liar(SshPublicKey, Vec<u8>);
        impl CertificateAuthority for Liar {
            fn public(&self) -> &SshPublicKey {
                &self.0
            }
            fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
                Ok(self.1.clone())
            }
        }
        let body = sample::body(sample::user_fields());
        let other = sample::issued(sample::user_fields(), 41).signature;
        for signature in [other, Vec::new(), vec![0; 83]] {
            let liar = Liar(body.fields().ca.clone(), signature);
            assert!(matches!(issue(&body, sample::serial(42), None, &liar), Err(CertificateError::Signature(_))));
        }
        let stranger = CaSigner::from(sample::key(9));
        assert!(matches!(issue(&body, sample::serial(42), None, &stranger), Err(CertificateError::WrongCa { .. })));
    }
}
