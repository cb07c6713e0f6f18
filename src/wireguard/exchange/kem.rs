//! ML-KEM-768 keys.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ml_kem::kem::{Decapsulate as _, KeyExport as _};
use ml_kem::ml_kem_768::{DecapsulationKey, EncapsulationKey};
use zeroize::Zeroizing;

use super::format::CIPHERTEXT_BYTES;
use super::hkdf;
use crate::wireguard::WgPublicKey;

/// Bytes of an encapsulation key.
pub(super) const PUBLIC_BYTES: usize = 1_184;
/// Bytes of a seed, which is what is kept of a private key (FIPS 203, section 7.1: d and z).
const SEED_BYTES: usize = 64;

/// Why bytes or a text are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an ML-KEM-768 key")]
pub struct KemError;

/// An encapsulation key that was checked (FIPS 203, section 7.2).
#[derive(Clone, PartialEq, Eq)]
pub struct KemPublic {
    bytes: Box<[u8; PUBLIC_BYTES]>,
    key: EncapsulationKey,
}

impl KemPublic {
    /// The key with these bytes.
    ///
    /// # Errors
    /// [`KemError`], if they are not as many as a key has, or not reduced.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KemError> {
        let bytes: Box<[u8; PUBLIC_BYTES]> = Box::new(bytes.try_into().map_err(|_| KemError)?);
        let key = EncapsulationKey::new(&(*bytes).into()).map_err(|_| KemError)?;
        Ok(Self { bytes, key })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_BYTES] {
        &self.bytes
    }
}

impl fmt::Debug for KemPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KemPublic({}…)", BASE64.encode(self.bytes.get(..9).unwrap_or_default()))
    }
}

/// A decapsulation key. Wiped when dropped; it leaves only as the text of its own file.
pub struct KemPrivate {
    seed: Box<Zeroizing<[u8; SEED_BYTES]>>,
    key: Box<DecapsulationKey>,
}

impl KemPrivate {
    /// Makes a key.
    pub fn generate(rng: &mut impl rand::CryptoRng) -> Self {
        let mut seed = Box::new(Zeroizing::new([0; SEED_BYTES]));
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(seed)
    }

    fn from_seed(seed: Box<Zeroizing<[u8; SEED_BYTES]>>) -> Self {
        let copy = Zeroizing::new(ml_kem::Seed::from(**seed));
        let key = Box::new(DecapsulationKey::from_seed(*copy));
        Self { seed, key }
    }

    /// Its encapsulation key.
    ///
    /// # Panics
    /// Never: what the library has made is a key.
    pub fn public(&self) -> KemPublic {
        KemPublic::from_bytes(&self.key.encapsulation_key().to_bytes()).expect("a key that was just made")
    }

    /// The content of its 0600 file: the seed in base64, and a line feed.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(SEED_BYTES.div_ceil(3) * 4 + 1));
        BASE64.encode_string(self.seed.as_slice(), &mut text);
        text.push('\n');
        text
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// [`KemError`].
    pub fn from_file_text(text: &str) -> Result<Self, KemError> {
        let mut longer = Zeroizing::new([0; SEED_BYTES + 2]);
        let length = BASE64.decode_slice(text.trim_end(), longer.as_mut_slice()).map_err(|_| KemError)?;
        let mut seed = Box::new(Zeroizing::new([0; SEED_BYTES]));
        seed.copy_from_slice(longer.get(..length).filter(|s| s.len() == SEED_BYTES).ok_or(KemError)?);
        Ok(Self::from_seed(seed))
    }

    /// The ciphertext for a peer and the secret in it. What is random in it is derived from this key's seed and who it is
    /// for, so that the secret can be computed again; no two peers and no two lanes' keys get the same.
    pub fn encapsulate(
        &self,
        to: &KemPublic,
        own: &WgPublicKey,
        theirs: &WgPublicKey,
    ) -> ([u8; CIPHERTEXT_BYTES], Zeroizing<[u8; 32]>) {
        let info = [b"encapsulate".as_slice(), &own.to_bytes(), &theirs.to_bytes(), to.as_bytes()].concat();
        let message = hkdf(b"keys/wg-psk/v1", self.seed.as_slice(), &info);
        let message = Zeroizing::new(ml_kem::B32::from(*message));
        let (ciphertext, secret) = to.key.encapsulate_deterministic(&message);
        (ciphertext.into(), Zeroizing::new(secret.into()))
    }

    /// The secret in a ciphertext; `None` if it is not as long as one. One that was made for another key gives another
    /// secret, as FIPS 203 has it.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let ciphertext: [u8; CIPHERTEXT_BYTES] = ciphertext.try_into().ok()?;
        Some(Zeroizing::new(self.key.decapsulate(&ciphertext.into()).into()))
    }
}

impl fmt::Debug for KemPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KemPrivate(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::Lane;
    use crate::wireguard::samples::private;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    fn a_key_reads_what_it_writes_and_opens_what_is_made_for_it() {
        let mut rng = StdRng::from_seed([1; 32]);
        let (a, b) = (KemPrivate::generate(&mut rng), KemPrivate::generate(&mut rng));
        let again = KemPrivate::from_file_text(&a.to_file_text()).expect("a key");
        assert_eq!(again.public(), a.public());
        assert_ne!(a.public(), b.public());
        let (own, theirs) = (private(1, Lane::A).public(), private(2, Lane::A).public());
        let (ciphertext, secret) = a.encapsulate(&b.public(), &own, &theirs);
        assert_eq!(b.decapsulate(&ciphertext), Some(secret.clone()));
        assert_eq!(again.encapsulate(&b.public(), &own, &theirs).1, secret);
        // Neither another key nor a changed ciphertext gives it.
        assert_ne!(a.decapsulate(&ciphertext), Some(secret.clone()));
        let mut changed = ciphertext;
        changed[7] ^= 1;
        assert_ne!(b.decapsulate(&changed), Some(secret.clone()));
        assert!(b.decapsulate(&ciphertext[1..]).is_none());
        // Another lane's key, another peer: another secret.
        assert_ne!(a.encapsulate(&b.public(), &theirs, &own).1, secret);
        assert_eq!(format!("{a:?}"), "KemPrivate(..)");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let public = KemPrivate::generate(&mut StdRng::from_seed([2; 32])).public();
        assert!(KemPublic::from_bytes(public.as_bytes()).is_ok());
        assert!(KemPublic::from_bytes(&public.as_bytes()[1..]).is_err());
        // Coefficients that are not below 3329.
        assert!(KemPublic::from_bytes(&[0xff; PUBLIC_BYTES]).is_err());
        for text in ["", "AAAA", &BASE64.encode([1; 63]), &BASE64.encode([1; 65])] {
            assert!(KemPrivate::from_file_text(text).is_err(), "{text}");
        }
    }
}
