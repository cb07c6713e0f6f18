//! The token of an invitation: an Ed25519 seed (RFC 8032). It signs one request and is no bearer secret: what leaves the
//! machine is a signature, the log has the public half, and nobody has to keep the seed.
//!
//! ```text
//! kt1.bCmGs9ZbZ4Wz0sNcCOx9aVbfYhX9r1pYV2n8j4m5kQ8
//! ```
//! Its signature is a line of the request's note, in the member's name (C2SP signed-note, Ed25519).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::log::note::{SignatureLine, SignerKey, VerifierKey};
use crate::words::serde_by_text;

/// What a token begins with: its kind and version, so that a scanner finds one that has leaked.
pub const TOKEN_PREFIX: &str = "kt1.";
/// The name under which a key is parsed where no other matters.
const ANY_NAME: &str = "token";

/// Why text is not a token, or not the public half of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not the text of a token. What was given is not shown.
    #[error("is not a token: 'kt1.' and 43 characters of base64url are expected")]
    Token,
    /// Not a public half.
    #[error("is not the public half of a token")]
    Key,
}

/// A token: the seed. Wiped when dropped.
pub struct Token(Box<Zeroizing<[u8; 32]>>);

impl Token {
    /// Makes one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Box::new(Zeroizing::new([0; 32]));
        rng.fill_bytes(seed.as_mut_slice());
        Self(seed)
    }

    /// Reads its text, of which there is one spelling.
    ///
    /// # Errors
    /// [`TokenError::Token`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let encoded = text.strip_prefix(TOKEN_PREFIX).ok_or(TokenError::Token)?;
        let bytes = Zeroizing::new(BASE64_URL.decode(encoded).map_err(|_| TokenError::Token)?);
        let mut seed = Box::new(Zeroizing::new([0; 32]));
        if bytes.len() != seed.len() {
            return Err(TokenError::Token);
        }
        seed.copy_from_slice(&bytes);
        Ok(Self(seed))
    }

    /// Its text, for a file of mode 0600 or whoever carries it to the machine.
    pub fn to_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(BASE64_URL.encode(self.0.as_slice()));
        Zeroizing::new([TOKEN_PREFIX, encoded.as_str()].concat())
    }

    /// The public half.
    pub fn key(&self) -> TokenKey {
        TokenKey(self.signer(ANY_NAME).verifier().raw())
    }

    /// Signs the text of a request in the name of a principal.
    pub fn sign(&self, principal: &str, text: &str) -> SignatureLine {
        self.signer(principal).sign(text)
    }

    fn signer(&self, name: &str) -> SignerKey {
        SignerKey::of_seed(name, &self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The public half of a token, written in base64: what an invitation is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// Whether one of `lines` is its signature over `body` in the name of `principal`.
    pub fn has_signed(&self, principal: &str, body: &[u8], lines: &[SignatureLine]) -> bool {
        let Some(key) = VerifierKey::of_raw(principal, &self.0) else { return false };
        let own = |line: &&SignatureLine| line.name == principal && line.key_hash == key.hash();
        lines.iter().filter(own).any(|line| key.verify(body, &line.signature))
    }

    /// What it is made of, as that of every other Ed25519 key.
    pub fn material(&self) -> Digest {
        Digest::of_parts(&[b"ed25519", &self.0])
    }
}

impl fmt::Display for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE64.encode(self.0))
    }
}

impl FromStr for TokenKey {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let bytes = BASE64.decode(text).map_err(|_| TokenError::Key)?;
        let raw = bytes.try_into().map_err(|_| TokenError::Key)?;
        VerifierKey::of_raw(ANY_NAME, &raw).map(|key| Self(key.raw())).ok_or(TokenError::Key)
    }
}

serde_by_text!(TokenKey);

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn token() -> Token {
        Token::generate(&mut rand::rngs::StdRng::from_seed(*b"a public seed, for tests alone!!"))
    }

    #[test]
    fn a_token_has_one_spelling_and_does_not_show_itself() {
        let token = token();
        let text = token.to_text();
        assert!(text.starts_with("kt1.") && text.len() == 47, "{}", text.len());
        assert_eq!(Token::parse(&text).unwrap().key(), token.key());
        assert_eq!(format!("{token:?}"), "Token(..)");
        for wrong in ["", "kt1.", "kt2.AAAA", &text[4..], &text[..46], &format!("{}=", *text), &format!("{} ", *text)] {
            let message = Token::parse(wrong).unwrap_err().to_string();
            assert!(wrong.len() < 5 || !message.contains(wrong), "{message}");
        }
        let key = token.key().to_string();
        assert_eq!(key.parse(), Ok(token.key()));
        // A point of small order would let any signature verify.
        for wrong in [&BASE64.encode([0; 32]), &key[..43], &text, ""] {
            assert_eq!(wrong.parse::<TokenKey>(), Err(TokenError::Key), "{wrong}");
        }
    }

    #[test]
    fn a_signature_is_over_one_body_in_one_name() {
        let token = token();
        let line = token.sign("cdn.example/fra1", "a request\n");
        let (key, other) = (token.key(), Token::parse(&format!("kt1.{}", BASE64_URL.encode([7; 32]))).unwrap().key());
        let signed = |key: TokenKey, name: &str, body: &[u8], line: &SignatureLine| {
            key.has_signed(name, body, std::slice::from_ref(line))
        };
        assert!(signed(key, "cdn.example/fra1", b"a request\n", &line));
        assert!(!signed(key, "cdn.example/fra2", b"a request\n", &line));
        assert!(!signed(key, "cdn.example/fra1", b"another\n", &line));
        assert!(!signed(other, "cdn.example/fra1", b"a request\n", &line));
        let elsewhere = SignatureLine { name: "cdn.example/fra2".to_owned(), ..line };
        assert!(!signed(key, "cdn.example/fra1", b"a request\n", &elsewhere));
    }
}
