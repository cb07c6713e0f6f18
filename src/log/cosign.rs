//! C2SP tlog-cosignature, Ed25519 (algorithm byte 4): a cosigner says that at a time a checkpoint was the newest and
//! largest consistent one that it knew of the log.
//!
//! ```text
//! cosignature/v1
//! time 1795244400
//! cdn.example/keys/1
//! 300
//! urZg8LfJo6GnufhEDmidharB29pnexsx4oUacnvNa6Y=
//! ```
//! This is what is signed. The signature line of the note carries the time in 8 bytes, big-endian, and the 64 bytes of
//! the signature.

use crate::log::note::{Note, NoteError, SignatureLine, SignerKey, VerifierKey};
use crate::time::{LATEST, Time};

/// The algorithm byte of timestamped Ed25519 cosignatures in C2SP signed-note.
const COSIGNATURE: u8 = 4;

fn message(text: &str, at: Time) -> String {
    format!("cosignature/v1\ntime {}\n{text}", at.0)
}

/// A cosigner's verifier key, text form `name+hash+base64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignerKey(VerifierKey);

impl CosignerKey {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`NoteError::Key`], also for a key that signs otherwise than with timestamped Ed25519 cosignatures.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        VerifierKey::parse_for(text, COSIGNATURE).map(Self)
    }

    /// The cosigner's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The raw public key: what tells two cosigners apart, whatever they are called.
    pub fn raw(&self) -> [u8; 32] {
        self.0.raw()
    }

    /// When this key cosigned `text` by this line; `None` if it did not.
    pub fn time(&self, text: &str, line: &SignatureLine) -> Option<Time> {
        if line.name != self.0.name() || line.key_hash != self.0.hash() {
            return None;
        }
        let (time, signature) = line.signature.split_first_chunk::<8>()?;
        let at = Time(u64::from_be_bytes(*time));
        let signed = at.0 > 0 && at <= LATEST && self.0.verify(message(text, at).as_bytes(), signature);
        signed.then_some(at)
    }

    /// This key's newest cosignature in a note, and its time. However many lines there are, a key counts once.
    pub fn newest<'n>(&self, note: &'n Note) -> Option<(Time, &'n SignatureLine)> {
        let found = note.signatures.iter().filter_map(|line| Some((self.time(&note.text, line)?, line)));
        found.max_by_key(|(time, _)| *time)
    }
}

impl std::fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A cosigner's private key. Wiped when dropped.
#[derive(Debug)]
pub struct CosignerSecret(SignerKey);

impl CosignerSecret {
    /// Makes a key.
    ///
    /// # Panics
    /// If `name` cannot name a key, see [`is_key_name`](crate::log::note::is_key_name).
    pub fn generate(name: &str, rng: &mut impl rand::CryptoRng) -> Self {
        Self(SignerKey::generate_for(name, COSIGNATURE, rng))
    }

    /// The public half.
    pub fn verifier(&self) -> CosignerKey {
        CosignerKey(self.0.verifier())
    }

    /// Cosigns a checkpoint's text. A time of 0 would say nothing, and is not verified.
    pub fn cosign(&self, text: &str, at: Time) -> SignatureLine {
        let signature = self.0.raw_signature(&message(text, at));
        self.0.line([at.0.to_be_bytes().as_slice(), &signature].concat())
    }

    /// The text form for the key's own 0600 file: `PRIVATE+KEY+name+hash+base64`.
    pub fn to_private_text(&self) -> zeroize::Zeroizing<String> {
        self.0.to_private_text()
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn from_private_text(text: &str) -> Result<Self, NoteError> {
        SignerKey::from_private_text_for(text, COSIGNATURE).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn secret() -> CosignerSecret {
        CosignerSecret::generate("witness.example/w1", &mut StdRng::from_seed(*b"a public seed, for tests alone!!"))
    }

    const TEXT: &str = "cdn.example/keys/1\n7\nurZg8LfJo6GnufhEDmidharB29pnexsx4oUacnvNa6Y=\n";

    #[test]
    fn a_cosignature_verifies_and_every_changed_byte_breaks_it() {
        let key = secret().verifier();
        let at = Time(1_795_244_400);
        let line = secret().cosign(TEXT, at);
        assert_eq!(key.time(TEXT, &line), Some(at));
        assert_eq!(line.signature.len(), 72);
        for i in 0..line.signature.len() {
            for bit in 0..8 {
                let mut wrong = line.clone();
                wrong.signature[i] ^= 1 << bit;
                assert_eq!(key.time(TEXT, &wrong), None, "byte {i}, bit {bit}");
            }
        }
        assert_eq!(key.time(&TEXT.replace("\n7\n", "\n8\n"), &line), None);
        assert_eq!(key.time(TEXT, &SignatureLine { name: "witness.example/w2".into(), ..line.clone() }), None);
        assert_eq!(key.time(TEXT, &SignatureLine { key_hash: [0; 4], ..line.clone() }), None);
        assert_eq!(key.time(TEXT, &SignatureLine { signature: line.signature[..71].to_vec(), ..line }), None);
        assert_eq!(key.time(TEXT, &secret().cosign(TEXT, Time(0))), None, "no time says nothing");
    }

    #[test]
    fn the_example_of_the_specification_has_its_key_hash() {
        // C2SP tlog-cosignature: SHA-256(name, line feed, 4, key), first four bytes; and the message, line by line.
        let key = secret().verifier();
        let hash = crate::log::note::key_hash(key.name(), &[4], &key.raw());
        let line = secret().cosign(TEXT, Time(1_679_315_147));
        assert_eq!(line.key_hash, hash);
        let vkey = ed25519_dalek::VerifyingKey::from_bytes(&key.raw()).unwrap();
        let signed = format!("cosignature/v1\ntime 1679315147\n{TEXT}");
        let signature = ed25519_dalek::Signature::from_slice(&line.signature[8..]).unwrap();
        assert!(vkey.verify_strict(signed.as_bytes(), &signature).is_ok());
        assert_eq!(line.signature[..8], 1_679_315_147u64.to_be_bytes());
    }

    #[test]
    fn the_newest_of_several_lines_counts() {
        let key = secret().verifier();
        let lines = [5, 9, 7].map(|t| secret().cosign(TEXT, Time(t)));
        let note = Note { text: TEXT.into(), signatures: lines.to_vec() };
        assert_eq!(key.newest(&note), Some((Time(9), &lines[1])));
    }

    #[test]
    fn a_logs_key_is_no_cosigners_and_none_the_other() {
        let cosigner = secret().verifier().to_string();
        assert_eq!(CosignerKey::parse(&cosigner), Ok(secret().verifier()));
        assert_eq!(VerifierKey::parse(&cosigner), Err(NoteError::Key("not an Ed25519 key")));
        let log = SignerKey::generate("cdn.example/keys/1", &mut StdRng::from_seed([7; 32]));
        let wrong = CosignerKey::parse(&log.verifier().to_string());
        assert_eq!(wrong, Err(NoteError::Key("not a key for Ed25519 cosignatures")));
        assert!(CosignerSecret::from_private_text(&log.to_private_text()).is_err());
        let again = CosignerSecret::from_private_text(&secret().to_private_text()).map(|s| s.verifier());
        assert_eq!(again, Ok(secret().verifier()));
        assert!(!format!("{:?}", secret()).contains(&*secret().to_private_text()));
    }
}
