//! SSH public keys (RFC 4253, section 6.6; RFC 8709; RFC 5656; OpenSSH's PROTOCOL.u2f).
//!
//! ```text
//! ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… alice@laptop
//! ```
//! The algorithms are those that OpenSSH 8.2 and later know without being asked; a name that an older `sshd` does not
//! know would make it refuse a whole KRL or CA file. CAs and hosts are Ed25519 alone; users may bring the others.
//! Points of the NIST curve are checked for their form only: `sshd` itself refuses one that is not on the curve.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use signature::Verifier as _;

use super::wire::{Line, Malformed, Put as _, Reader};
use crate::digest::Digest;
use crate::limits::{SSH_KEY_ID_BYTES_MAX, SSH_RSA_BITS_MAX, SSH_RSA_BITS_MIN};
use crate::text::shown;

/// Why something is not an SSH key of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// An SSH certificate where a key is expected: as a subject, or as a CA, it would make a chain that nobody checks.
    #[error("an SSH certificate as a key; give the public key it was made for")]
    Certificate,
    /// An algorithm that is not accepted.
    #[error("has the algorithm '{0}'; accepted are ssh-ed25519, ecdsa-sha2-nistp256, their sk- kinds and ssh-rsa")]
    Algorithm(String),
    /// RSA of the wrong size.
    #[error("has {bits} bits of RSA; {SSH_RSA_BITS_MIN} to {SSH_RSA_BITS_MAX} are accepted")]
    RsaBits {
        /// The size of its modulus.
        bits: usize,
    },
    /// Not in the form of a key.
    #[error("is not an SSH key: {0}")]
    Format(&'static str),
    /// A private key file under a passphrase.
    #[error("is a private key under a passphrase; this file has to be without one and 0600, or in an agent")]
    Encrypted,
    /// A private key of another algorithm than Ed25519.
    #[error("is a private key of another algorithm than Ed25519")]
    NotEd25519,
}

impl From<Malformed> for KeyError {
    fn from(malformed: Malformed) -> Self {
        Self::Format(malformed.0)
    }
}

/// The accepted algorithms, in the order in which they stand in a CA file: what every `sshd` knows comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyAlgorithm {
    /// Ed25519.
    Ed25519,
    /// Ed25519 on a FIDO token.
    SkEd25519,
    /// ECDSA on NIST P-256.
    EcdsaP256,
    /// ECDSA on NIST P-256 on a FIDO token.
    SkEcdsaP256,
    /// RSA.
    Rsa,
}

impl KeyAlgorithm {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Ed25519, Self::SkEd25519, Self::EcdsaP256, Self::SkEcdsaP256, Self::Rsa];

    /// The name of a plain key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
            Self::Rsa => "ssh-rsa",
        }
    }

    /// The name of an SSH certificate for such a key.
    pub fn certificate_name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519-cert-v01@openssh.com",
            Self::SkEd25519 => "sk-ssh-ed25519-cert-v01@openssh.com",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::Rsa => "ssh-rsa-cert-v01@openssh.com",
        }
    }
}

/// An SSH public key. Its text form, `ssh-ed25519 AAAA…`, has no comment and one spelling.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshPublicKey {
    algorithm: KeyAlgorithm,
    blob: Vec<u8>,
}

impl SshPublicKey {
    /// Reads a line of a `.pub` file, whose comment is dropped.
    ///
    /// # Errors
    /// [`KeyError`], if it is no key or none that is accepted.
    pub fn parse_line(line: &str) -> Result<Self, KeyError> {
        Self::from_blob(&Line::parse(line)?.blob)
    }

    /// Reads the bytes that the base64 stands for.
    ///
    /// # Errors
    /// [`KeyError`], if they are no key or none that is accepted.
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(blob);
        let name = reader.text()?;
        if name.ends_with("-cert-v01@openssh.com") {
            return Err(KeyError::Certificate);
        }
        let algorithm = KeyAlgorithm::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| KeyError::Algorithm(shown(name).to_string()))?;
        match algorithm {
            KeyAlgorithm::Ed25519 => ed25519_point(&mut reader)?,
            KeyAlgorithm::SkEd25519 => {
                ed25519_point(&mut reader)?;
                application(&mut reader)?;
            }
            KeyAlgorithm::EcdsaP256 => p256_point(&mut reader)?,
            KeyAlgorithm::SkEcdsaP256 => {
                p256_point(&mut reader)?;
                application(&mut reader)?;
            }
            KeyAlgorithm::Rsa => rsa_numbers(&mut reader)?,
        }
        reader.finish()?;
        Ok(Self { algorithm, blob: blob.to_vec() })
    }

    /// From a raw Ed25519 key.
    ///
    /// # Errors
    /// [`KeyError::Format`], if it is not a point of the curve or of small order.
    pub fn from_ed25519(raw: &[u8; 32]) -> Result<Self, KeyError> {
        let mut blob = Vec::with_capacity(51);
        blob.put_string(KeyAlgorithm::Ed25519.name().as_bytes());
        blob.put_string(raw);
        Self::from_blob(&blob)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The bytes that the base64 stands for.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The key's fields without the leading name, as an SSH certificate holds them.
    pub(super) fn fields(&self) -> &[u8] {
        self.blob.get(4 + self.algorithm.name().len()..).unwrap_or_default()
    }

    /// SHA-256 of the blob, which is what a KRL lists.
    pub fn sha256(&self) -> Digest {
        Digest::of(&self.blob)
    }

    /// The fingerprint as OpenSSH shows it: `SHA256:` and 43 characters of base64.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.blob)
    }

    /// The raw key, if it is a plain Ed25519 key.
    pub fn ed25519(&self) -> Option<[u8; 32]> {
        match self.algorithm {
            KeyAlgorithm::Ed25519 => self.blob.last_chunk().copied(),
            KeyAlgorithm::SkEd25519 | KeyAlgorithm::EcdsaP256 | KeyAlgorithm::SkEcdsaP256 | KeyAlgorithm::Rsa => None,
        }
    }

    /// Whether `signature`, a signature blob of RFC 8709, section 6, is this key's over `message`, by the strict rule
    /// (no malleability, no small order). For ECDSA and tokens it is a signature of RFC 5656, section 3.1.2, or OpenSSH's
    /// PROTOCOL.u2f; for RSA, which is no CA's, the answer is no.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.algorithm {
            KeyAlgorithm::Ed25519 => self.verify_ed25519(message, signature),
            KeyAlgorithm::SkEd25519 | KeyAlgorithm::EcdsaP256 | KeyAlgorithm::SkEcdsaP256 => {
                let key = ssh_key::PublicKey::from_bytes(&self.blob);
                let signature = ssh_key::Signature::try_from(signature);
                key.is_ok_and(|key| signature.is_ok_and(|s| key.key_data().verify(message, &s).is_ok()))
            }
            KeyAlgorithm::Rsa => false,
        }
    }

    fn verify_ed25519(&self, message: &[u8], signature: &[u8]) -> bool {
        let (Some(raw), Some(bytes)) = (self.ed25519(), self.ed25519_signature(signature)) else { return false };
        let Ok(key) = VerifyingKey::from_bytes(&raw) else { return false };
        key.verify_strict(message, &Signature::from_bytes(&bytes)).is_ok()
    }

    /// The numbers in a signature blob, if this is a plain Ed25519 key and the blob one of such a key's; nothing is verified.
    pub(super) fn ed25519_signature(&self, blob: &[u8]) -> Option<[u8; 64]> {
        let mut reader = Reader::new(blob);
        let (name, bytes) = (reader.string().ok()?, reader.string().ok()?);
        let is_whole = name == KeyAlgorithm::Ed25519.name().as_bytes() && reader.is_empty();
        self.ed25519().filter(|_| is_whole).and(bytes.try_into().ok())
    }
}

/// The fingerprint of any key's blob.
pub(super) fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", BASE64.encode(Digest::of(blob).0))
}

fn ed25519_point(reader: &mut Reader<'_>) -> Result<(), KeyError> {
    let raw: &[u8; 32] =
        reader.string()?.try_into().map_err(|_| KeyError::Format("an Ed25519 key does not have 32 bytes"))?;
    let key = VerifyingKey::from_bytes(raw).map_err(|_| KeyError::Format("not a point of the curve"))?;
    // With a key of small order, one signature verifies for many messages.
    if key.is_weak() { Err(KeyError::Format("a key of small order")) } else { Ok(()) }
}

fn p256_point(reader: &mut Reader<'_>) -> Result<(), KeyError> {
    let (curve, point) = (reader.string()?, reader.string()?);
    // SEC 1, section 2.3.3: 4 and two coordinates; OpenSSH refuses compressed points too.
    if curve == b"nistp256" && point.len() == 65 && point.first() == Some(&4) {
        return Ok(());
    }
    Err(KeyError::Format("not an uncompressed point of nistp256"))
}

fn application(reader: &mut Reader<'_>) -> Result<(), KeyError> {
    let text = reader.string()?;
    if (1..=SSH_KEY_ID_BYTES_MAX).contains(&text.len()) && text.iter().all(|b| matches!(b, 0x21..=0x7e)) {
        return Ok(());
    }
    Err(KeyError::Format("the FIDO application is empty, too long or not printable"))
}

fn rsa_numbers(reader: &mut Reader<'_>) -> Result<(), KeyError> {
    let (e, n) = (reader.positive()?, reader.positive()?);
    let leading = n.first().map_or(0, |b| b.leading_zeros() as usize);
    let bits = n.len().saturating_mul(8).saturating_sub(leading);
    if !(SSH_RSA_BITS_MIN..=SSH_RSA_BITS_MAX).contains(&bits) {
        return Err(KeyError::RsaBits { bits });
    }
    let odd = |number: &[u8]| number.last().is_some_and(|b| b % 2 == 1);
    if !odd(e) || !odd(n) || e == [1] || e.len() > 8 {
        return Err(KeyError::Format("the RSA exponent or modulus cannot be right"));
    }
    Ok(())
}

impl FromStr for SshPublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = Self::parse_line(text)?;
        // One spelling: what carries a comment or a line feed is a line of a file, not a key's text.
        if key.to_string() == text { Ok(key) } else { Err(KeyError::Format("a comment or a line feed after the key")) }
    }
}

impl fmt::Display for SshPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Line::write(self.algorithm.name(), &self.blob))
    }
}

impl fmt::Debug for SshPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshPublicKey({} {})", self.algorithm.name(), self.fingerprint())
    }
}

impl Serialize for SshPublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SshPublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(fields: &[&[u8]]) -> Vec<u8> {
        fields.iter().fold(Vec::new(), |mut out, field| {
            out.put_string(field);
            out
        })
    }

    fn point(first: u8) -> [u8; 65] {
        let mut point = [7; 65];
        point[0] = first;
        point
    }

    fn rsa(e: &[u8], bytes: usize, first: u8, last: u8) -> Vec<u8> {
        let mut n = vec![0x55; bytes];
        (n[0], n[bytes - 1]) = (first, last);
        let mut out = blob(&[b"ssh-rsa"]);
        out.put_positive(e);
        out.put_positive(&n);
        out
    }

    #[test]
    fn a_token_signs_with_its_application_and_counter() {
        use ed25519_dalek::Signer as _;
        let secret = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let raw = secret.verifying_key().to_bytes();
        let key = SshPublicKey::from_blob(&blob(&[b"sk-ssh-ed25519@openssh.com", &raw, b"ssh:"])).expect("a key");
        // PROTOCOL.u2f: what a token signs is the hash of the application, flags, counter, and the hash of the message.
        let (flags, counter) = (1_u8, 7_u32.to_be_bytes());
        let signature = |message: &[u8]| {
            let (application, message) = (Digest::of(b"ssh:").0, Digest::of(message).0);
            let signed = [application.as_slice(), &[flags], &counter, &message].concat();
            let mut out = blob(&[b"sk-ssh-ed25519@openssh.com", &secret.sign(&signed).to_bytes()]);
            out.push(flags);
            out.extend(counter);
            out
        };
        let good = signature(b"message");
        assert!(key.verify(b"message", &good));
        assert!(!key.verify(b"massage", &good));
        for at in 0..good.len() {
            let mut wrong = good.clone();
            wrong[at] ^= 1;
            assert!(!key.verify(b"message", &wrong), "byte {at}");
        }
        // The same key without a token is another key, and its signature another.
        let plain = SshPublicKey::from_ed25519(&raw).expect("a key");
        assert!(!plain.verify(b"message", &good));
        assert!(!key.verify(b"message", &blob(&[b"ssh-ed25519", &secret.sign(b"message").to_bytes()])));
    }

    #[test]
    fn accepted_keys_read_what_they_write() {
        let ed = ed25519_dalek::SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes();
        for key in [
            blob(&[b"ssh-ed25519", &ed]),
            blob(&[b"sk-ssh-ed25519@openssh.com", &ed, b"ssh:"]),
            blob(&[b"ecdsa-sha2-nistp256", b"nistp256", &point(4)]),
            blob(&[b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", &point(4), b"ssh:ops"]),
            rsa(&[1, 0, 1], 384, 0x80, 1),
            rsa(&[3], 512, 0xff, 0xff),
        ] {
            let parsed = SshPublicKey::from_blob(&key).unwrap_or_else(|e| panic!("{key:?}: {e}"));
            let text = parsed.to_string();
            assert_eq!(text.parse().as_ref(), Ok(&parsed));
            assert_eq!(SshPublicKey::parse_line(&format!("{text} a comment\n")).as_ref(), Ok(&parsed));
            assert!(format!("{text} x").parse::<SshPublicKey>().is_err());
            assert!(format!("{text}\n").parse::<SshPublicKey>().is_err());
            assert_eq!(parsed.fields().len() + 4 + parsed.algorithm().name().len(), key.len());
            assert_eq!(SshPublicKey::from_blob(&[&key[..], &[0]].concat()).ok(), None, "a trailing byte");
            assert_eq!(SshPublicKey::from_blob(&key[..key.len() - 1]).ok(), None, "a missing byte");
        }
    }

    #[test]
    fn other_keys_are_refused() {
        let ed = ed25519_dalek::SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes();
        let mut small = [0; 32];
        small[0] = 1;
        for wrong in [
            blob(&[]),
            blob(&[b"ssh-ed25519"]),
            blob(&[b"ssh-ed25519", &ed[1..]]),
            blob(&[b"ssh-ed25519", &small]),
            blob(&[b"ssh-ed25519", &[2; 32]]),
            blob(&[b"ssh-dss", &ed]),
            blob(&[b"ssh-ed448", &ed]),
            blob(&[b"sk-ssh-ed25519@openssh.com", &ed]),
            blob(&[b"sk-ssh-ed25519@openssh.com", &ed, b""]),
            blob(&[b"sk-ssh-ed25519@openssh.com", &ed, b"ssh:\n"]),
            blob(&[b"ecdsa-sha2-nistp256", b"nistp384", &point(4)]),
            blob(&[b"ecdsa-sha2-nistp256", b"nistp256", &point(2)]),
            rsa(&[4], 384, 0x80, 1),
            rsa(&[1], 384, 0x80, 1),
            rsa(&[1, 0, 1], 384, 0x80, 2),
        ] {
            assert!(SshPublicKey::from_blob(&wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(
            SshPublicKey::from_blob(&rsa(&[1, 0, 1], 384, 0x7f, 1)).err(),
            Some(KeyError::RsaBits { bits: 3_071 })
        );
        assert_eq!(
            SshPublicKey::from_blob(&blob(&[b"ssh-ed25519-cert-v01@openssh.com", &ed])).err(),
            Some(KeyError::Certificate)
        );
    }

    #[test]
    fn older_algorithms_stand_first() {
        assert!(KeyAlgorithm::ALL.is_sorted());
        let ed =
            SshPublicKey::from_ed25519(&ed25519_dalek::SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes());
        let rsa = SshPublicKey::from_blob(&rsa(&[3], 384, 0x80, 1));
        assert!(ed.expect("a key") < rsa.expect("a key"));
    }
}
