//! SSH private keys (Ed25519) and whoever signs SSH certificates with them.
//!
//! The file form is that of OpenSSH's PROTOCOL.key without a passphrase, because `sshd` reads its host key unattended;
//! the file is 0600 and the shell's business.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use ssh_key::private::{Ed25519Keypair, KeypairData, PrivateKey};
use zeroize::Zeroizing;

use super::key::{KeyAlgorithm, KeyError, SshPublicKey};
use super::names::KeyId;
use super::wire::Put as _;
use crate::limits::KEY_FILE_BYTES_MAX;

/// An SSH private key: a host's, or a CA's. Wiped when dropped.
pub struct SshPrivateKey {
    // Boxed, so that moving the value does not leave copies behind.
    key: Box<SigningKey>,
    public: SshPublicKey,
}

impl SshPrivateKey {
    /// Makes a key.
    pub fn generate(rng: &mut impl rand::CryptoRng) -> Self {
        Self::of(Box::new(SigningKey::generate(rng)))
    }

    fn of(key: Box<SigningKey>) -> Self {
        let public = SshPublicKey::from_ed25519(&key.verifying_key().to_bytes());
        // RFC 8032 clamps the scalar, so no seed leads to a point of small order.
        Self { public: public.expect("a public key made from a seed is sound"), key }
    }

    /// The public half.
    pub fn public(&self) -> &SshPublicKey {
        &self.public
    }

    /// The text for the key's own 0600 file, with a comment that `ssh-keygen -l` shows.
    pub fn to_openssh(&self, comment: &KeyId) -> Zeroizing<String> {
        let pair = KeypairData::Ed25519(Ed25519Keypair::from(&*self.key));
        PrivateKey::new(pair, comment.as_str())
            .and_then(|key| key.to_openssh(ssh_key::LineEnding::LF))
            .expect("an Ed25519 key without a passphrase always has a text")
    }

    /// Reads the text of a file, whose comment is dropped.
    ///
    /// # Errors
    /// [`KeyError`], if it is no private key, under a passphrase, or not Ed25519.
    pub fn from_openssh(text: &str) -> Result<Self, KeyError> {
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(KeyError::Format("the file is too large"));
        }
        let read = PrivateKey::from_openssh(text).map_err(|_| KeyError::Format("not an OpenSSH private key file"))?;
        if read.is_encrypted() {
            return Err(KeyError::Encrypted);
        }
        let pair = read.key_data().ed25519().ok_or(KeyError::NotEd25519)?;
        let key = SigningKey::try_from(pair).map_err(|_| KeyError::Format("its two halves do not belong together"))?;
        Ok(Self::of(Box::new(key)))
    }
}

impl fmt::Debug for SshPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshPrivateKey(..)")
    }
}

/// Why a CA gave no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// Its key is out of reach: no agent, no token.
    #[error("the CA's key is out of reach: {0}")]
    Unavailable(String),
    /// Somebody or something said no: a confirmation was denied, a touch did not come.
    #[error("the CA refused to sign: {0}")]
    Refused(String),
}

/// Whoever can sign as a CA: a key in memory, or an agent. It is not believed: the issuer verifies what it returns.
pub trait CertificateAuthority {
    /// The CA's public key.
    fn public(&self) -> &SshPublicKey;

    /// Signs the to-be-signed bytes of an SSH certificate; returns a signature blob (RFC 4253, section 6.6).
    ///
    /// # Errors
    /// [`SignError`].
    fn sign(&self, to_be_signed: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// A CA whose key is in memory. The public half is kept beside it; deriving it again would double the cost of signing.
#[derive(Debug)]
pub struct CaSigner(SshPrivateKey);

impl From<SshPrivateKey> for CaSigner {
    fn from(key: SshPrivateKey) -> Self {
        Self(key)
    }
}

impl CertificateAuthority for CaSigner {
    fn public(&self) -> &SshPublicKey {
        &self.0.public
    }

    fn sign(&self, to_be_signed: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut blob = Vec::with_capacity(83);
        blob.put_string(KeyAlgorithm::Ed25519.name().as_bytes());
        blob.put_string(&self.0.key.sign(to_be_signed).to_bytes());
        Ok(blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> SshPrivateKey {
        use rand::SeedableRng as _;
        SshPrivateKey::generate(&mut rand::rngs::StdRng::seed_from_u64(n))
    }

    fn comment() -> KeyId {
        "fra1 host key".parse().expect("printable")
    }

    #[test]
    fn private_keys_read_what_they_write() {
        let text = key(1).to_openssh(&comment());
        assert!(text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
        assert!(text.ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
        let again = SshPrivateKey::from_openssh(&text).expect("our own text");
        assert_eq!(again.public(), key(1).public());
        assert_eq!(*again.to_openssh(&comment()), *text, "one key and comment, one text");
        assert_eq!(format!("{again:?} {:?}", CaSigner::from(key(1))), "SshPrivateKey(..) CaSigner(SshPrivateKey(..))");
        for wrong in ["", "ssh-ed25519 AAAA", &text[..text.len() / 2], &text.replace("OPENSSH", "RSA")] {
            assert!(SshPrivateKey::from_openssh(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_signature_is_the_cas_over_this_message_alone() {
        let ca = CaSigner::from(key(2));
        let signature = ca.sign(b"message").expect("a key in memory signs");
        assert!(ca.public().verify(b"message", &signature));
        assert!(!ca.public().verify(b"massage", &signature));
        assert!(!key(3).public().verify(b"message", &signature));
        for i in 0..signature.len() {
            let mut wrong = signature.clone();
            wrong[i] ^= 1;
            assert!(!ca.public().verify(b"message", &wrong), "byte {i}");
        }
        assert!(!ca.public().verify(b"message", &[&signature[..], &[0]].concat()));
    }
}
