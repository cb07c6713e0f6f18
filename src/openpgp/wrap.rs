//! Session keys for many readers and many messages, with one key agreement for each reader.
//!
//! A PKESK packet of a Cv25519 key (RFC 6637, section 8; RFC 9580, section 11.5) has an ephemeral point, and the session key under
//! a key that follows from the agreement of the two: `KEK = SHA-256(1 ‖ S ‖ curve, algorithms, "Anonymous Sender", the reader's
//! fingerprint)`, by AES key wrap (RFC 3394). The ephemeral key is made once for all that one command seals. Each reader's KEK is
//! then another, known to her and to us as long as the command runs; and it may wrap any number of keys, which is what key wrap is
//! for. Every message has a session key of its own all the same.
//!
//! Keys of other kinds are wrapped by Sequoia, each time anew.

use std::collections::HashMap;

use aes::{Aes128, Aes192, Aes256};
use aes_kw::{AesKw, KeyInit as _};
use sequoia_openpgp as pgp;

use pgp::crypto::SessionKey;
use pgp::crypto::mem::Protected;
use pgp::crypto::mpi::{Ciphertext, MPI, PublicKey as Numbers};
use pgp::packet::PKESK;
use pgp::packet::pkesk::PKESK3;
use pgp::types::{Curve, HashAlgorithm, PublicKeyAlgorithm, SymmetricAlgorithm};
use pgp::{Fingerprint, KeyHandle};
use x25519_dalek::{PublicKey as Point, StaticSecret};
use zeroize::Zeroizing;

use super::message::PublicKey;
use super::{Doing as _, OpenpgpError};

/// What a session key is padded to, so that its length does not show.
const PADDED: usize = 40;

/// The key that session keys for one reader are wrapped with; wiped when dropped.
enum Kek {
    Aes128(AesKw<Aes128>),
    Aes192(AesKw<Aes192>),
    Aes256(AesKw<Aes256>),
}

impl Kek {
    fn new(cipher: SymmetricAlgorithm, key: &[u8]) -> Option<Self> {
        match cipher {
            SymmetricAlgorithm::AES128 => AesKw::new_from_slice(key).ok().map(Self::Aes128),
            SymmetricAlgorithm::AES192 => AesKw::new_from_slice(key).ok().map(Self::Aes192),
            SymmetricAlgorithm::AES256 => AesKw::new_from_slice(key).ok().map(Self::Aes256),
            _ => None,
        }
    }

    /// Wraps a session key.
    fn wrap(&self, padded: &[u8; PADDED]) -> Option<[u8; PADDED + 8]> {
        let mut wrapped = [0; PADDED + 8];
        let length = match self {
            Self::Aes128(kek) => kek.wrap_key(padded, &mut wrapped),
            Self::Aes192(kek) => kek.wrap_key(padded, &mut wrapped),
            Self::Aes256(kek) => kek.wrap_key(padded, &mut wrapped),
        };
        length.is_ok_and(|wrapped| wrapped.len() == PADDED + 8).then_some(wrapped)
    }
}

/// Key agreements of one command with its readers. Nothing of it outlives it: the ephemeral key and every KEK are wiped.
#[derive(Default)]
pub struct Wraps {
    ephemeral: Option<(StaticSecret, MPI)>,
    agreed: HashMap<Fingerprint, Kek>,
}

impl std::fmt::Debug for Wraps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wraps({} readers' keys)", self.agreed.len())
    }
}

impl Wraps {
    /// The packet that gives `session_key`, for a body encrypted with `algorithm`, to the owner of `reader`.
    ///
    /// # Errors
    /// [`OpenpgpError`].
    pub(super) fn pkesk(
        &mut self,
        reader: &PublicKey,
        session_key: &SessionKey,
        algorithm: SymmetricAlgorithm,
    ) -> Result<PKESK, OpenpgpError> {
        let doing = "seal to a key";
        let Some(parameters) = Parameters::of(reader) else {
            return Ok(PKESK3::for_recipient(algorithm, session_key, reader).doing(doing)?.into());
        };
        let (secret, point) = match &mut self.ephemeral {
            Some(made) => made,
            none => none.insert(ephemeral().doing(doing)?),
        };
        let fingerprint = reader.fingerprint();
        if !self.agreed.contains_key(&fingerprint) {
            let kek = parameters.agree(secret, &fingerprint).doing(doing)?;
            self.agreed.insert(fingerprint.clone(), kek);
        }
        let wrapped = padded(session_key, algorithm).and_then(|text| self.agreed.get(&fingerprint)?.wrap(&text));
        let wrapped = wrapped.ok_or_else(|| pgp::anyhow::anyhow!("the session key is too long")).doing(doing)?;
        let wrapped = Ciphertext::ECDH { e: point.clone(), key: Box::new(wrapped) };
        let handle = KeyHandle::from(reader.keyid());
        let pkesk = PKESK3::new(Some(handle.into()), PublicKeyAlgorithm::ECDH, wrapped).doing(doing)?;
        Ok(pkesk.into())
    }
}

/// A new ephemeral key, and its point as a packet has it.
fn ephemeral() -> pgp::Result<(StaticSecret, MPI)> {
    let mut seed = Zeroizing::new([0; 32]);
    pgp::crypto::random(seed.as_mut_slice())?;
    let secret = StaticSecret::from(*seed);
    let point = MPI::new_compressed_point(Point::from(&secret).as_bytes());
    Ok((secret, point))
}

/// What is wrapped: the body's algorithm, the session key, its checksum, and padding as PKCS #5 has it: as many bytes as are
/// missing, each of that number. `None` for what is longer than any session key.
fn padded(session_key: &SessionKey, algorithm: SymmetricAlgorithm) -> Option<Zeroizing<[u8; PADDED]>> {
    let sum = session_key.iter().fold(0_u16, |sum, byte| sum.wrapping_add(u16::from(*byte))).to_be_bytes();
    let missing = PADDED.checked_sub(1 + session_key.len() + sum.len())?;
    let mut text = Zeroizing::new([u8::try_from(missing).ok()?; PADDED]);
    let (first, rest) = text.split_first_mut()?;
    *first = u8::from(algorithm);
    let (key, rest) = rest.split_at_mut_checked(session_key.len())?;
    key.copy_from_slice(session_key);
    rest.first_chunk_mut().map(|two| *two = sum)?;
    Some(text)
}

/// How a reader's key is agreed with: a version 4 key on Curve25519.
struct Parameters {
    point: [u8; 32],
    hash: HashAlgorithm,
    cipher: SymmetricAlgorithm,
}

impl Parameters {
    fn of(reader: &PublicKey) -> Option<Self> {
        match reader.mpis() {
            Numbers::ECDH { curve: Curve::Cv25519, q, hash, sym } if reader.version() == 4 => {
                let (point, _) = q.decode_point(&Curve::Cv25519).ok()?;
                Some(Self { point: point.try_into().ok()?, hash: *hash, cipher: *sym })
            }
            _ => None,
        }
    }

    fn agree(&self, secret: &StaticSecret, reader: &Fingerprint) -> pgp::Result<Kek> {
        let shared = secret.diffie_hellman(&Point::from(self.point));
        if !shared.was_contributory() {
            return Err(pgp::anyhow::anyhow!("the key is a point of small order"));
        }
        let size = self.cipher.key_size()?;
        let mut hash = self.hash.context()?.for_digest();
        if size > hash.digest_size() {
            return Err(pgp::anyhow::anyhow!("the key's hash is shorter than the key of its cipher"));
        }
        hash.update(&[0, 0, 0, 1]);
        hash.update(shared.as_bytes());
        let oid = Curve::Cv25519.oid();
        hash.update(&[u8::try_from(oid.len()).unwrap_or_default()]);
        hash.update(oid);
        hash.update(&[u8::from(PublicKeyAlgorithm::ECDH), 3, 1, u8::from(self.hash), u8::from(self.cipher)]);
        hash.update(b"Anonymous Sender    ");
        hash.update(reader.as_bytes());
        let mut key: Protected = vec![0; size].into();
        hash.digest(&mut key)?;
        Kek::new(self.cipher, &key).ok_or_else(|| pgp::anyhow::anyhow!("the key's cipher wraps no keys"))
    }
}

#[cfg(test)]
mod tests {
    use sequoia_openpgp::crypto::KeyPair;
    use sequoia_openpgp::packet::Key;
    use sequoia_openpgp::packet::key::{Key4, Key6, SecretParts, UnspecifiedRole};

    use super::*;

    type SecretKey = Key<SecretParts, UnspecifiedRole>;

    fn reader() -> SecretKey {
        Key::from(Key4::generate_ecc(false, Curve::Cv25519).unwrap())
    }

    fn public(key: &SecretKey) -> PublicKey {
        key.clone().parts_into_public()
    }

    fn pair(key: &SecretKey) -> KeyPair {
        key.clone().into_keypair().unwrap()
    }

    fn parts(pkesk: &PKESK) -> (MPI, Box<[u8]>) {
        match pkesk {
            PKESK::V3(pkesk) => match pkesk.esk() {
                Ciphertext::ECDH { e, key } => (e.clone(), key.clone()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sequoia_opens_what_was_wrapped_and_each_reader_only_her_own() {
        let aes = SymmetricAlgorithm::AES256;
        let readers: Vec<SecretKey> = (0..3).map(|_| reader()).collect();
        let mut wraps = Wraps::default();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let session_key = SessionKey::new(32).unwrap();
            for (i, one) in readers.iter().enumerate() {
                let pkesk = wraps.pkesk(&public(one), &session_key, aes).unwrap();
                assert_eq!(pkesk.decrypt(&mut pair(one), None), Some((Some(aes), session_key.clone())));
                for other in readers.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other) {
                    assert_eq!(pkesk.decrypt(&mut pair(other), None), None);
                }
                seen.push(parts(&pkesk));
            }
        }
        // One point for all of it, and no wrapped key twice.
        assert!(seen.windows(2).all(|two| two[0].0 == two[1].0));
        let wrapped: std::collections::BTreeSet<_> = seen.iter().map(|(_, key)| key.clone()).collect();
        assert_eq!(wrapped.len(), seen.len());
        // Another command has another one.
        let session_key = SessionKey::new(32).unwrap();
        let other = parts(&Wraps::default().pkesk(&public(&readers[0]), &session_key, aes).unwrap());
        assert_ne!(other.0, seen[0].0);
    }

    #[test]
    fn every_reader_has_a_kek_of_her_own_also_two_with_one_point() {
        // The same numbers with another date are another key: its fingerprint goes into the KEK.
        let one = reader();
        let mut twin = one.clone();
        twin.set_creation_time(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
        assert_ne!(one.fingerprint(), twin.fingerprint());
        let mut wraps = Wraps::default();
        let session_key = SessionKey::new(32).unwrap();
        let aes = SymmetricAlgorithm::AES256;
        let (a, b) = (public(&one), public(&twin));
        let (a, b) = (wraps.pkesk(&a, &session_key, aes).unwrap(), wraps.pkesk(&b, &session_key, aes).unwrap());
        assert_ne!(parts(&a).1, parts(&b).1);
        assert_eq!(a.decrypt(&mut pair(&twin), None), None);
    }

    #[test]
    fn a_key_says_by_which_hash_and_cipher_it_is_agreed_with() {
        use HashAlgorithm::{SHA256, SHA384, SHA512};
        use SymmetricAlgorithm::{AES128, AES192, AES256};
        for (hash, cipher) in [(SHA256, AES128), (SHA384, AES192), (SHA512, AES256), (SHA256, AES256)] {
            let key = Key4::import_secret_cv25519(&[7; 32], hash, cipher, std::time::UNIX_EPOCH).unwrap();
            let key: SecretKey = key.into();
            for length in [16, 24, 32] {
                let session_key = SessionKey::new(length).unwrap();
                let algorithm = [AES128, AES192, AES256][length / 8 - 2];
                let pkesk = Wraps::default().pkesk(&public(&key), &session_key, algorithm).unwrap();
                assert_eq!(pkesk.decrypt(&mut pair(&key), None), Some((Some(algorithm), session_key)));
            }
        }
        assert!(
            padded(&SessionKey::new(37).unwrap(), AES256).is_some()
                && padded(&SessionKey::new(38).unwrap(), AES256).is_none()
        );
    }

    #[test]
    fn other_keys_are_wrapped_by_sequoia_and_a_bad_point_by_nobody() {
        let mut wraps = Wraps::default();
        let session_key = SessionKey::new(32).unwrap();
        let aes = SymmetricAlgorithm::AES256;
        let nist: SecretKey = Key4::generate_ecc(false, Curve::NistP256).unwrap().into();
        let modern: SecretKey = Key6::generate_x25519().unwrap().into();
        for key in [nist, modern] {
            let pkesk = wraps.pkesk(&public(&key), &session_key, aes).unwrap();
            assert_eq!(pkesk.decrypt(&mut pair(&key), None).unwrap().1, session_key);
        }
        assert!(wraps.agreed.is_empty() && wraps.ephemeral.is_none());
        for small in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            let numbers = Numbers::ECDH {
                curve: Curve::Cv25519,
                q: MPI::new_compressed_point(&small),
                hash: HashAlgorithm::SHA256,
                sym: SymmetricAlgorithm::AES128,
            };
            let key = Key4::new(std::time::SystemTime::UNIX_EPOCH, PublicKeyAlgorithm::ECDH, numbers).unwrap();
            assert!(wraps.pkesk(&Key::from(key), &session_key, aes).is_err());
        }
    }
}
