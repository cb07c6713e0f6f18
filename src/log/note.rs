//! C2SP signed-note: a text, a blank line, signature lines. Verifier keys (`vkey`) and the Ed25519 signer for them.
//!
//! ```text
//! cdn.example/keys/1
//! 7
//! Uqzw4QyVNuFTcbpbd2oUhsZPsXWsm+EUa/R8Nd0ytz4=
//!
//! — cdn.example/keys/1 O4k4o1Vz…
//! ```
//! Our entries are notes too; their signature lines carry OpenPGP packets (see `crate::statement`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::limits::SIGNATURES_MAX;
use crate::text;

/// The algorithm byte of Ed25519 in C2SP signed-note.
const ED25519: u8 = 1;

/// Why bytes are not a note, or a key not a verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not a signed note (C2SP signed-note, section Format).
    #[error("is not a signed note: {0}")]
    Format(&'static str),
    /// Not a verifier or signer key (C2SP signed-note, section Verifier keys).
    #[error("is not a note key: {0}")]
    Key(&'static str),
}

/// One signature line, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    /// The key's name.
    pub name: String,
    /// The first four bytes of the key's hash.
    pub key_hash: [u8; 4],
    /// The signature itself.
    pub signature: Vec<u8>,
}

impl SignatureLine {
    /// Writes the line with its line feed.
    pub fn to_text(&self) -> String {
        let payload: Vec<u8> = self.key_hash.iter().chain(&self.signature).copied().collect();
        format!("\u{2014} {} {}\n", self.name, BASE64.encode(payload))
    }

    /// Reads a line without its line feed.
    ///
    /// # Errors
    /// [`NoteError::Format`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let rest = line
            .strip_prefix("\u{2014} ")
            .ok_or(NoteError::Format("a signature line does not begin with '\u{2014} '"))?;
        let (name, payload) = rest.split_once(' ').ok_or(NoteError::Format("a signature line has no signature"))?;
        if !is_key_name(name) {
            return Err(NoteError::Format("a signature line has no key name"));
        }
        let payload = BASE64.decode(payload).map_err(|_| NoteError::Format("a signature is not base64"))?;
        let (key_hash, signature) =
            payload.split_first_chunk::<4>().ok_or(NoteError::Format("a signature is too short"))?;
        Ok(Self { name: name.to_owned(), key_hash: *key_hash, signature: signature.to_vec() })
    }
}

/// A note, its signatures not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The signed text, which ends with a line feed.
    pub text: String,
    /// The signature lines in the order of the file.
    pub signatures: Vec<SignatureLine>,
}

impl Note {
    /// Reads a note: UTF-8 without control characters other than line feeds, 1 to [`SIGNATURES_MAX`] signatures.
    ///
    /// # Errors
    /// [`NoteError::Format`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let all = std::str::from_utf8(bytes).map_err(|_| NoteError::Format("not UTF-8"))?;
        if has_control(bytes) {
            return Err(NoteError::Format("a control character"));
        }
        let blank = bytes.windows(2).rposition(|two| two == b"\n\n");
        let (text, lines) = blank
            .and_then(|at| Some((all.get(..=at)?, all.get(at + 2..)?)))
            .ok_or(NoteError::Format("no blank line before the signatures"))?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Format("it does not end with a line feed"))?;
        let signatures = lines.split('\n').map(SignatureLine::parse).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Format("too many signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Writes the note.
    pub fn to_bytes(&self) -> Vec<u8> {
        let lines: String = self.signatures.iter().map(SignatureLine::to_text).collect();
        format!("{}\n{lines}", self.text).into_bytes()
    }

    /// Whether some line is `key`'s signature of the text.
    pub fn is_signed_by(&self, key: &VerifierKey) -> bool {
        self.signatures.iter().any(|line| {
            line.name == key.name && line.key_hash == key.hash() && key.verify(self.text.as_bytes(), &line.signature)
        })
    }
}

/// Whether there is a control character that is no line feed.
fn has_control(bytes: &[u8]) -> bool {
    // Piece by piece to the end of each, which a processor does several bytes at a time.
    bytes.chunks(256).any(|piece| piece.iter().fold(false, |found, b| found | (*b < b' ' && *b != b'\n')))
}

/// Whether `name` may name a key: not empty, no white space, no plus sign.
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+' || text::is_hidden(c))
}

/// The four-byte hash that a signature line carries for a key.
pub fn key_hash(name: &str, algorithm: &[u8], key: &[u8]) -> [u8; 4] {
    let whole = Digest::of(&[name.as_bytes(), b"\n", algorithm, key].concat());
    let [a, b, c, d, ..] = whole.0;
    [a, b, c, d]
}

/// An Ed25519 verifier key, text form `name+hash+base64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    algorithm: u8,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The raw public key.
    pub fn raw(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The four-byte hash that signature lines carry.
    pub fn hash(&self) -> [u8; 4] {
        key_hash(&self.name, &[self.algorithm], self.key.as_bytes())
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`NoteError::Key`], also for a key of small order, with which any signature would verify.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        Self::parse_for(text, ED25519)
    }

    /// Reads the text form of an Ed25519 key whose signatures are of the kind `algorithm`.
    pub(super) fn parse_for(text: &str, algorithm: u8) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("expected name+hash+key"));
        };
        if !is_key_name(name) {
            return Err(NoteError::Key("the name is empty or has white space"));
        }
        let key = BASE64.decode(key).map_err(|_| NoteError::Key("the key is not base64"))?;
        let Some((_, raw)) = key.split_first().filter(|(kind, _)| **kind == algorithm) else {
            return Err(NoteError::Key(wrong_kind(algorithm)));
        };
        let raw: [u8; 32] = raw.try_into().map_err(|_| NoteError::Key("the key does not have 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&raw).map_err(|_| NoteError::Key("not a point of the curve"))?;
        if key.is_weak() {
            return Err(NoteError::Key("a key of small order"));
        }
        let parsed = Self { name: name.to_owned(), algorithm, key };
        if text::unhex(hash).as_deref() != Some(parsed.hash().as_slice()) {
            return Err(NoteError::Key("the hash does not belong to the key"));
        }
        Ok(parsed)
    }

    /// The Ed25519 key of these bytes, under a name; `None` if they are no key, or one of small order.
    pub(crate) fn of_raw(name: &str, raw: &[u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(raw).ok().filter(|key| is_key_name(name) && !key.is_weak())?;
        Some(Self { name: name.to_owned(), algorithm: ED25519, key })
    }

    /// Whether `signature` is this key's over `message`, by the strict rule (no malleability, no small order).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|s| self.key.verify_strict(message, &s).is_ok())
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key: Vec<u8> = std::iter::once(self.algorithm).chain(self.raw()).collect();
        write!(f, "{}+{}+{}", self.name, text::hex(&self.hash()), BASE64.encode(key))
    }
}

/// What is said of a key for signatures of another kind than `algorithm`.
fn wrong_kind(algorithm: u8) -> &'static str {
    if algorithm == ED25519 { "not an Ed25519 key" } else { "not a key for Ed25519 cosignatures" }
}

/// An Ed25519 note signer: a log's private key. Wiped when dropped.
pub struct SignerKey {
    name: String,
    algorithm: u8,
    key: SigningKey,
}

impl SignerKey {
    /// Makes a key.
    ///
    /// # Panics
    /// If `name` cannot name a key; names are built from checked names.
    pub fn generate(name: &str, rng: &mut impl rand::CryptoRng) -> Self {
        Self::generate_for(name, ED25519, rng)
    }

    /// Makes a key whose signatures are of the kind `algorithm`.
    pub(super) fn generate_for(name: &str, algorithm: u8, rng: &mut impl rand::CryptoRng) -> Self {
        assert!(is_key_name(name), "'{name}' cannot name a key");
        Self { name: name.to_owned(), algorithm, key: SigningKey::generate(rng) }
    }

    /// The key of a seed (RFC 8032), under a name that can name a key.
    pub(crate) fn of_seed(name: &str, seed: &[u8; 32]) -> Self {
        Self { name: name.to_owned(), algorithm: ED25519, key: SigningKey::from_bytes(seed) }
    }

    /// The public half.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), algorithm: self.algorithm, key: self.key.verifying_key() }
    }

    /// Signs `text`.
    pub fn sign(&self, text: &str) -> SignatureLine {
        self.line(self.raw_signature(text))
    }

    /// The 64 bytes of a signature.
    pub(super) fn raw_signature(&self, text: &str) -> Vec<u8> {
        self.key.sign(text.as_bytes()).to_bytes().to_vec()
    }

    /// This key's line with that payload.
    pub(super) fn line(&self, signature: Vec<u8>) -> SignatureLine {
        SignatureLine { name: self.name.clone(), key_hash: self.verifier().hash(), signature }
    }

    /// The text form that Go's `sumdb/note` reads, for the key's own 0600 file: `PRIVATE+KEY+name+hash+base64`.
    pub fn to_private_text(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.key.to_bytes());
        let tagged = Zeroizing::new(std::iter::once(self.algorithm).chain(*seed).collect::<Vec<u8>>());
        let encoded = Zeroizing::new(BASE64.encode(&*tagged));
        Zeroizing::new(format!("PRIVATE+KEY+{}+{}+{}", self.name, text::hex(&self.verifier().hash()), *encoded))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn from_private_text(text: &str) -> Result<Self, NoteError> {
        Self::from_private_text_for(text, ED25519)
    }

    /// Reads the text form of a key whose signatures are of the kind `algorithm`.
    pub(super) fn from_private_text_for(text: &str, algorithm: u8) -> Result<Self, NoteError> {
        let mut parts = text
            .trim_end()
            .strip_prefix("PRIVATE+KEY+")
            .ok_or(NoteError::Key("not a private note key"))?
            .splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("expected PRIVATE+KEY+name+hash+key"));
        };
        let key = Zeroizing::new(BASE64.decode(key).map_err(|_| NoteError::Key("the key is not base64"))?);
        let Some((_, seed)) = key.split_first().filter(|(kind, _)| **kind == algorithm) else {
            return Err(NoteError::Key(wrong_kind(algorithm)));
        };
        let seed: Zeroizing<[u8; 32]> =
            Zeroizing::new(seed.try_into().map_err(|_| NoteError::Key("the key does not have 32 bytes"))?);
        if !is_key_name(name) {
            return Err(NoteError::Key("the name is empty or has white space"));
        }
        let signer = Self { name: name.to_owned(), algorithm, key: SigningKey::from_bytes(&seed) };
        if text::unhex(hash).as_deref() != Some(signer.verifier().hash().as_slice()) {
            return Err(NoteError::Key("the hash does not belong to the key"));
        }
        Ok(signer)
    }
}

impl std::fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignerKey({}, ..)", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> SignerKey {
        use rand::SeedableRng as _;
        SignerKey::generate(
            "cdn.example/keys/1",
            &mut rand::rngs::StdRng::from_seed(*b"a public seed, for tests alone!!"),
        )
    }

    #[test]
    fn a_signature_verifies_and_every_changed_byte_breaks_it() {
        let signer = signer();
        let text = "cdn.example/keys/1\n7\nroot\n";
        let note = Note { text: text.into(), signatures: vec![signer.sign(text)] };
        let bytes = note.to_bytes();
        assert_eq!(Note::parse(&bytes), Ok(note));
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[i] ^= 1 << bit;
                let accepted = Note::parse(&wrong).is_ok_and(|n| n.is_signed_by(&signer.verifier()));
                assert!(!accepted, "byte {i}, bit {bit}");
            }
        }
    }

    #[test]
    fn keys_read_what_they_write() {
        let signer = signer();
        let vkey = signer.verifier().to_string();
        assert_eq!(VerifierKey::parse(&vkey), Ok(signer.verifier()));
        let again = SignerKey::from_private_text(&signer.to_private_text());
        assert_eq!(again.map(|s| s.verifier()), Ok(signer.verifier()));
        assert!(VerifierKey::parse(&vkey.replace("keys/1", "keys/2")).is_err());
        assert!(VerifierKey::parse("a+00000000+AQ==").is_err());
        assert_eq!(format!("{signer:?}"), "SignerKey(cdn.example/keys/1, ..)");
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        let mut one = vec![ED25519];
        one.extend([1]);
        one.extend([0; 31]);
        let hash = text::hex(&key_hash("x", &[ED25519], &one[1..]));
        assert_eq!(
            VerifierKey::parse(&format!("x+{hash}+{}", BASE64.encode(one))),
            Err(NoteError::Key("a key of small order"))
        );
    }

    #[test]
    fn what_is_no_note_is_refused() {
        for wrong in [
            "",
            "\n",
            "text\n",
            "text\n\n",
            "text\n\n\u{2014} n \n",
            "text\n\n\u{2014} n AAAA",
            "te\rxt\n\n\u{2014} n AAAAAAA=\n",
            "text\n\n- n AAAAAAA=\n",
            "text\n\n\u{2014}  AAAAAAA=\n",
        ] {
            assert!(Note::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(Note::parse("text\n\n\u{2014} n AAAAAAA=\n".as_bytes()).is_ok());
    }
}
