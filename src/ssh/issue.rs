//! Issuing SSH certificates: the bytes to be signed follow from body, serial and stapled proof, and nothing else goes in.
//!
//! There is no second representation in between: the bytes are written once, signed, and the whole is read back and
//! held against the order before anybody gets it. Whoever issues many has their signatures verified some at a time
//! ([`Issuer`]), with multiples of the CA's key that are computed once; what is accepted is the same.

use std::collections::BTreeMap;

use super::body::{CertificateBody, CertificateFields, CertificateKind, Serial};
use super::certificate::{CertificateError, SshCertificate};
use super::private::CertificateAuthority;
use super::staple::Staple;
use super::wire::Put as _;
use crate::ed25519::{Claim, Known, hold, is_small};

/// Certificates of a CA from which on its multiples are computed, which takes as long as some twenty checks save.
const CERTIFICATES_MIN: usize = 48;
/// Certificates whose signatures are verified together: they share an inversion, and a table at a time stays in the cache.
const TOGETHER: usize = 256;

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
    let certificate = signed(&Order { body, serial, staple }, ca)?;
    certificate.verify_issued(body, serial)?;
    Ok(certificate)
}

/// A certificate to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// What it says.
    pub body: &'a CertificateBody,
    /// Its serial.
    pub serial: Serial,
    /// The proof that the log has ordered it, if one is stapled.
    pub staple: Option<&'a Staple>,
}

/// Signed, and neither read back nor verified.
fn signed(order: &Order<'_>, ca: &(impl CertificateAuthority + ?Sized)) -> Result<SshCertificate, CertificateError> {
    let expected = &order.body.fields().ca;
    if ca.public() != expected {
        return Err(CertificateError::WrongCa { expected: expected.fingerprint(), found: ca.public().fingerprint() });
    }
    let mut blob = to_be_signed(order.body, order.serial, order.staple);
    let signature = ca.sign(&blob)?;
    blob.put_string(&signature);
    SshCertificate::from_blob(blob)
}

/// Issues many certificates of one CA. It can be shared between threads if the CA can.
pub struct Issuer<'a, C: CertificateAuthority + ?Sized> {
    ca: &'a C,
    known: Option<Known>,
}

impl<'a, C: CertificateAuthority + ?Sized> Issuer<'a, C> {
    /// An issuer for about `count` certificates by `ca`.
    pub fn new(ca: &'a C, count: usize) -> Self {
        let key = ca.public().ed25519().filter(|_| count >= CERTIFICATES_MIN);
        Self { ca, known: key.and_then(|key| Known::of(&key)) }
    }

    /// Has the CA sign each of `orders`, in their order; as [`issue`] does, of which every rule holds.
    pub fn issue(&self, orders: &[Order<'_>]) -> Vec<Result<SshCertificate, CertificateError>> {
        let Some(known) = &self.known else {
            return orders.iter().map(|order| issue(order.body, order.serial, order.staple, self.ca)).collect();
        };
        orders.chunks(TOGETHER).flat_map(|orders| self.issue_together(orders, known)).collect()
    }

    fn issue_together(&self, orders: &[Order<'_>], known: &Known) -> Vec<Result<SshCertificate, CertificateError>> {
        let made: Vec<_> = orders
            .iter()
            .map(|order| signed(order, self.ca).and_then(|made| made.says(order.body, order.serial).map(|()| made)))
            .collect();
        let public = self.ca.public();
        // The CA named in it is the one whose key is known: its blob is among the bytes that were ordered.
        let claims: Vec<_> = made
            .iter()
            .map(|made| {
                let made = made.as_ref().ok()?;
                let signature = public.ed25519_signature(&made.signature).filter(|s| !is_small(s))?;
                Some(Claim { key: known, signature, message: made.signed_bytes() })
            })
            .collect();
        let is_claimed: Vec<bool> = claims.iter().map(Option::is_some).collect();
        let mut held = hold(&claims.into_iter().flatten().collect::<Vec<_>>()).into_iter();
        let verdicts: Vec<bool> = is_claimed.into_iter().map(|is| is && held.next() == Some(true)).collect();
        let bad = || CertificateError::Signature(public.fingerprint());
        made.into_iter()
            .zip(verdicts)
            .map(|(made, good)| made.and_then(|m| good.then_some(m).ok_or_else(bad)))
            .collect()
    }
}

impl SshCertificate {
    /// Checks that this is exactly what `body` and `serial` order, signed by the body's CA. A stapled proof may be in it;
    /// what that is worth is another question ([`crate::login`]).
    ///
    /// # Errors
    /// [`CertificateError::NotAsOrdered`], [`CertificateError::Signature`].
    pub fn verify_issued(&self, body: &CertificateBody, serial: Serial) -> Result<(), CertificateError> {
        self.says(body, serial)?;
        if !self.is_signed_by(&body.fields().ca) {
            return Err(CertificateError::Signature(body.fields().ca.fingerprint()));
        }
        Ok(())
    }

    /// Checks that this says exactly what `body` and `serial` order, whoever has signed it.
    fn says(&self, body: &CertificateBody, serial: Serial) -> Result<(), CertificateError> {
        let ordered = to_be_signed(body, serial, Staple::of(self).as_ref());
        if self.signed_bytes() == ordered { Ok(()) } else { Err(CertificateError::NotAsOrdered) }
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

    #[test]
    fn issuing_many_is_issuing_each() {
        /// Signs wrongly for some, in as many ways as there are.
        struct Moody(CaSigner, std::cell::Cell<usize>);
        impl CertificateAuthority for Moody {
            fn public(&self) -> &SshPublicKey {
                self.0.public()
            }
            fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
                let n = self.1.replace(self.1.get() + 1);
                let mut good = self.0.sign(bytes)?;
                match n % 9 {
                    1 => good[40] ^= 1,
                    2 => good.push(0),
                    3 => drop(good.pop()),
                    4 => return self.0.sign(b"something else"),
                    5 => return Err(SignError::Refused("no".to_owned())),
                    6 => good[4] ^= 1,
                    // R as the neutral element, and as s what belongs to it is not known: refused either way.
                    7 => good[19..51].copy_from_slice(&[&[1][..], &[0; 31]].concat()),
                    _ => {}
                }
                Ok(good)
            }
        }
        let stranger = CertificateFields { ca: sample::key(5).public().clone(), ..sample::user_fields() };
        let fields = [sample::user_fields(), sample::host_fields(), stranger];
        let bodies: Vec<_> = fields.into_iter().map(sample::body).collect();
        for count in [0, 1, 47, 48, 63, 64, 65, 300] {
            let order =
                |n: usize| Order { body: &bodies[n / 4 % 3], serial: sample::serial(n as u64 + 1), staple: None };
            let orders: Vec<_> = (0..count).map(order).collect();
            let each = Moody(sample::ca(), 0.into());
            let each: Vec<_> = orders.iter().map(|o| issue(o.body, o.serial, o.staple, &each)).collect();
            let together = Moody(sample::ca(), 0.into());
            let together = Issuer::new(&together, count).issue(&orders);
            assert_eq!(together, each, "{count}");
            if count == 300 {
                assert!(together.iter().filter(|made| made.is_ok()).count() > 30);
                let bad = |e: &CertificateError| matches!(e, CertificateError::Signature(_));
                assert!(together.iter().filter(|made| made.as_ref().is_err_and(bad)).count() > 30);
            }
        }
    }

    #[test]
    fn a_signature_that_holds_for_any_message_is_refused() {
        use curve25519_dalek::edwards::EdwardsPoint;
        use curve25519_dalek::scalar::Scalar;
        use sha2::{Digest as _, Sha512};

        /// Knows its key, and gives out signatures whose nonce is nothing: with them whoever sees one has the key.
        struct Careless(SshPublicKey, Scalar);
        impl CertificateAuthority for Careless {
            fn public(&self) -> &SshPublicKey {
                &self.0
            }
            fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
                let r = [&[1][..], &[0; 31]].concat();
                let key = self.0.ed25519().expect("Ed25519");
                let hash = Sha512::new().chain_update(&r).chain_update(key).chain_update(bytes).finalize();
                let s = Scalar::from_bytes_mod_order_wide(&hash.into()) * self.1;
                let mut blob = Vec::new();
                blob.put_string(b"ssh-ed25519");
                blob.put_string(&[&r[..], s.as_bytes()].concat());
                Ok(blob)
            }
        }
        let secret = Scalar::from(123_456_789_u64);
        let public = SshPublicKey::from_ed25519(&EdwardsPoint::mul_base(&secret).compress().to_bytes()).expect("a key");
        let body = sample::body(CertificateFields { ca: public.clone(), ..sample::user_fields() });
        let ca = Careless(public, secret);
        let order = Order { body: &body, serial: sample::serial(1), staple: None };
        for count in [1, 100] {
            for made in Issuer::new(&ca, count).issue(&vec![order; count]) {
                assert!(matches!(made, Err(CertificateError::Signature(_))), "{count}");
            }
        }
    }
}
