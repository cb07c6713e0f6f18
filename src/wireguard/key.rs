//! Curve25519 keys as `wg` spells them: 32 bytes in base64, 44 characters.
//!
//! `wg` takes the all-zero key and the points of low order, with which every session key is known to everybody; here
//! they are no keys. Nor is a public key that is not reduced modulo 2^255 - 19: it is a second spelling of another one
//! (RFC 7748, section 5), and a key copied to two machines would pass for two.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::digest::Digest;

/// Bytes of a key.
const BYTES: usize = 32;
/// Characters of a key in base64, with its padding.
const CHARACTERS: usize = 44;

/// Why a text or bytes are not a key. The text itself is never repeated: it may be a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 44 characters, as `wg genkey` and `wg pubkey` print.
    #[error("is not a WireGuard key: it has {length} characters, a key has {CHARACTERS}")]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// Not base64, or base64 with bits set that mean nothing.
    #[error("is not a WireGuard key: not base64 in its one spelling (RFC 4648, section 3.5)")]
    Base64,
    /// All bytes are zero, which to `wg` means that there is no key.
    #[error("is all zero, which stands for no key")]
    Zero,
    /// A point of low order: a session with it has no secret.
    #[error("is a point of low order, with which no secret can be agreed")]
    LowOrder,
    /// At or above 2^255 - 19, thus another spelling of a smaller key.
    #[error("is not reduced modulo 2^255 - 19: another spelling of another key")]
    NotReduced,
}

/// A WireGuard public key, 32 bytes. A value is a checked key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WgPublicKey([u8; BYTES]);

/// 2^255 - 19, little-endian.
const PRIME: [u8; BYTES] = {
    let mut prime = [0xff; BYTES];
    prime[0] = 0xed;
    prime[BYTES - 1] = 0x7f;
    prime
};

/// The reduced u-coordinates of low order other than zero, on the curve and on its twist: 1, the two of order 8, and
/// -1. A test multiplies each by 8.
const LOW_ORDER: [[u8; BYTES]; 4] = [
    {
        let mut one = [0; BYTES];
        one[0] = 1;
        one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    {
        let mut minus_one = PRIME;
        minus_one[0] -= 1;
        minus_one
    },
];

impl WgPublicKey {
    /// The key with these bytes.
    ///
    /// # Errors
    /// [`KeyError::Zero`], [`KeyError::LowOrder`], [`KeyError::NotReduced`].
    pub fn from_bytes(bytes: [u8; BYTES]) -> Result<Self, KeyError> {
        if bytes == [0; BYTES] {
            return Err(KeyError::Zero);
        }
        if bytes.iter().rev().cmp(PRIME.iter().rev()) != Ordering::Less {
            return Err(KeyError::NotReduced);
        }
        if LOW_ORDER.contains(&bytes) {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(bytes))
    }

    /// The key's bytes.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        self.0
    }
}

impl FromStr for WgPublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; BYTES];
        decode(text, &mut bytes)?;
        Self::from_bytes(bytes)
    }
}

impl fmt::Display for WgPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for WgPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WgPublicKey({self})")
    }
}

impl Serialize for WgPublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WgPublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A WireGuard private key. Wiped when dropped; it leaves only as the text of its own file.
pub struct WgPrivateKey(Box<Zeroizing<[u8; BYTES]>>);

impl WgPrivateKey {
    /// Makes a key, clamped as `wg genkey` does.
    pub fn generate(rng: &mut impl rand::CryptoRng) -> Self {
        let mut key = Self(Box::default());
        rng.fill_bytes(key.0.as_mut_slice());
        key.clamp();
        key
    }

    /// The public half.
    ///
    /// # Panics
    /// Never: a clamped scalar times the base point is no point of low order.
    pub fn public(&self) -> WgPublicKey {
        let public = PublicKey::from(&StaticSecret::from(**self.0));
        WgPublicKey::from_bytes(public.to_bytes()).expect("a multiple of the base point has a large order")
    }

    /// What this key and whoever has the private half of `other` agree on about `key`, one of the two public halves: a digest, of
    /// which the key agreed on (RFC 7748, section 6.1) is a part, and which shows nothing of it.
    pub fn answer(&self, other: &WgPublicKey, key: &WgPublicKey) -> Digest {
        let shared = StaticSecret::from(**self.0).diffie_hellman(&PublicKey::from(other.0));
        let pair = if key == other { self.public() } else { *other };
        Digest::of_parts(&[b"keys/answer/wireguard/v1", &key.0, &pair.0, shared.as_bytes()])
    }

    /// The content of the 0600 file that `wg set … private-key FILE` reads: base64 and a line feed.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        // As large as what goes in, so that the text is not moved and left behind while it grows.
        let mut text = Zeroizing::new(String::with_capacity(CHARACTERS + 1));
        BASE64.encode_string(self.0.as_slice(), &mut text);
        text.push('\n');
        text
    }

    /// Reads such a file; the line feed may be missing. A key that was not clamped becomes the same key, clamped.
    ///
    /// # Errors
    /// [`KeyError::Length`], [`KeyError::Base64`], [`KeyError::Zero`].
    pub fn from_file_text(text: &str) -> Result<Self, KeyError> {
        let mut key = Self(Box::default());
        decode(text.strip_suffix('\n').unwrap_or(text), &mut key.0)?;
        if key.0.iter().all(|byte| *byte == 0) {
            return Err(KeyError::Zero);
        }
        key.clamp();
        Ok(key)
    }

    /// RFC 7748, section 5: a multiple of 8, with bit 254 set and bit 255 clear.
    fn clamp(&mut self) {
        let [first, .., last] = &mut **self.0;
        *first &= 0b1111_1000;
        *last = *last & 0b0111_1111 | 0b0100_0000;
    }
}

impl fmt::Debug for WgPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WgPrivateKey(..)")
    }
}

/// Fills `bytes` from a key's one text form. They may be private: what is in between is wiped.
fn decode(text: &str, bytes: &mut [u8; BYTES]) -> Result<(), KeyError> {
    if text.len() != CHARACTERS {
        return Err(KeyError::Length { length: text.len() });
    }
    // The decoder asks for room for a text without padding.
    let mut room = Zeroizing::new([0; BYTES + 1]);
    let length = BASE64.decode_slice(text, room.as_mut_slice()).map_err(|_| KeyError::Base64)?;
    match room.split_first_chunk::<BYTES>() {
        Some((first, _)) if length == BYTES => bytes.copy_from_slice(first),
        Some(_) | None => return Err(KeyError::Base64),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn key(seed: u8) -> WgPrivateKey {
        WgPrivateKey::generate(&mut StdRng::from_seed([seed; 32]))
    }

    #[test]
    fn the_public_half_is_the_one_that_wg_pubkey_prints() {
        let bytes = crate::digest::Digest::of(b"a public string, for tests alone").0;
        let key = WgPrivateKey::from_file_text(&BASE64.encode(bytes)).expect("32 bytes");
        assert_eq!(key.public().to_string(), "xu0pUV+JT2A4ryIYmO2sijtIyxDLNfs0OgV5+c+4b1Q=");
    }

    #[test]
    fn a_key_file_reads_what_it_writes() {
        let key = key(1);
        let text = key.to_file_text();
        assert_eq!(text.len(), CHARACTERS + 1);
        assert!(text.ends_with("=\n"));
        let again = WgPrivateKey::from_file_text(&text).expect("its own text");
        assert_eq!(again.public(), key.public());
        assert_eq!(again.to_file_text(), text);
        assert!(WgPrivateKey::from_file_text(text.trim_end()).is_ok());
        for wrong in [format!("{}\n", *text), text.replace('\n', "\r\n"), text.replace('=', "A"), String::new()] {
            assert!(WgPrivateKey::from_file_text(&wrong).is_err());
        }
        let zero = format!("{}=\n", "A".repeat(43));
        assert_eq!(WgPrivateKey::from_file_text(&zero).map(drop), Err(KeyError::Zero));
    }

    #[test]
    fn two_agree_on_an_answer_and_nobody_else_does() {
        let (asked, pair, other) = (key(1), key(2), key(3));
        let answer = pair.answer(&asked.public(), &asked.public());
        assert_eq!(asked.answer(&pair.public(), &asked.public()), answer);
        assert_ne!(other.answer(&pair.public(), &asked.public()), answer);
        assert_ne!(asked.answer(&other.public(), &asked.public()), answer);
        assert_ne!(asked.answer(&pair.public(), &pair.public()), answer, "it is about one of the two");
    }

    #[test]
    fn a_key_is_clamped() {
        for seed in 0..64 {
            let key = key(seed);
            assert_eq!(key.0[0] & 7, 0);
            assert_eq!(key.0[31] & 0b1100_0000, 0b0100_0000);
        }
        let unclamped = WgPrivateKey::from_file_text(&BASE64.encode([0xff; 32])).expect("a key");
        let mut clamped = [0xff; 32];
        (clamped[0], clamped[31]) = (0xf8, 0x7f);
        assert_eq!(unclamped.to_file_text().trim_end(), BASE64.encode(clamped));
    }

    #[test]
    fn a_private_key_is_not_printed() {
        assert_eq!(format!("{:?}", key(1)), "WgPrivateKey(..)");
        let error = WgPrivateKey::from_file_text("dGhpcyBpcyBub3QgYSBrZXk=").expect_err("too short");
        assert!(!error.to_string().contains("dGhp"));
    }

    #[test]
    fn the_low_order_points_are_those_that_agree_on_nothing() {
        for point in LOW_ORDER.iter().chain([&[0; 32]]) {
            // A clamped scalar is a multiple of 8, the cofactor: it sends exactly the points of low order to zero.
            assert_eq!(x25519_dalek::x25519([7; 32], *point), [0; 32], "{point:?}");
        }
        assert_ne!(x25519_dalek::x25519([7; 32], key(1).public().to_bytes()), [0; 32]);
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let read = |bytes: [u8; 32]| BASE64.encode(bytes).parse::<WgPublicKey>();
        assert_eq!(read([0; 32]), Err(KeyError::Zero));
        for point in LOW_ORDER {
            assert_eq!(read(point), Err(KeyError::LowOrder));
        }
        let good = key(1).public();
        let mut high = good.to_bytes();
        high[31] |= 0x80;
        for spelling in [high, PRIME, [0xff; 32]] {
            assert_eq!(read(spelling), Err(KeyError::NotReduced));
        }
        let text = good.to_string();
        assert_eq!(text.parse(), Ok(good));
        let unused_bits = text.replace("=", "").char_indices().fold(String::new(), |mut out, (i, c)| {
            out.push(if i == 42 { char::from(c as u8 + 1) } else { c });
            out
        });
        for wrong in [
            format!("{unused_bits}="),
            text.replace('=', ""),
            format!(" {text}"),
            text.replace('=', "\n"),
            String::new(),
        ] {
            assert!(wrong.parse::<WgPublicKey>().is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_public_key_has_one_spelling(bytes: [u8; 32]) {
            let text = BASE64.encode(bytes);
            if let Ok(key) = text.parse::<WgPublicKey>() {
                prop_assert_eq!(key.to_string(), text);
                prop_assert_eq!(serde_json::to_string(&key).ok(), Some(format!("\"{key}\"")));
            }
        }
    }
}
