//! A preshared key: 32 bytes that two nodes share, wiped when dropped.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

/// A preshared key, 32 bytes, never all zero, which to `wg` means that there is none.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey(Box<Zeroizing<[u8; 32]>>);

impl PresharedKey {
    /// The key with these bytes; `None` if all are zero.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Option<Self> {
        bytes.iter().any(|b| *b != 0).then(|| Self(Box::new(bytes)))
    }

    /// Reads base64 as `wg` writes it; `None` if it is none, or all zero.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        let mut longer = Zeroizing::new([0; 33]);
        let length = BASE64.decode_slice(text, longer.as_mut_slice()).ok()?;
        if length != 32 {
            return None;
        }
        bytes.copy_from_slice(longer.get(..32)?);
        Self::new(bytes)
    }

    /// As `wg` reads it: 44 characters.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(44));
        BASE64.encode_string(self.0.as_slice(), &mut text);
        text
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_what_it_writes_and_is_not_shown() {
        let key = PresharedKey::new(Zeroizing::new([7; 32])).expect("a key");
        assert_eq!(PresharedKey::parse(&key.to_text()).as_ref(), Some(&key));
        assert_eq!(format!("{key:?}"), "PresharedKey(..)");
        assert!(PresharedKey::new(Zeroizing::new([0; 32])).is_none());
        for text in ["", "(none)", "AAAA", &BASE64.encode([0; 32]), &BASE64.encode([1; 33]), &BASE64.encode([1; 31])] {
            assert!(PresharedKey::parse(text).is_none(), "{text}");
        }
    }
}
