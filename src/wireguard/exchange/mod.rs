//! Preshared keys of pairs by ML-KEM-768 (FIPS 203): whoever records the mesh's traffic today and breaks X25519 one day
//! still lacks them.
//!
//! With the key of a lane a node makes an ML-KEM key, and publishes both together with an *exchange*: its encapsulation
//! key, and a ciphertext for each peer whose key of that lane was published before with an exchange. Of two nodes the one
//! that published last has encapsulated to the other; of two that published at the same time the one with the smaller key
//! does so afterwards, by a wider exchange for the same key, while that is a standby and carries nothing.
//! No secret is stored anywhere: both ends compute it, from the log's objects and the private half that never leaves the
//! node. It belongs to the two public keys and is never changed; the ML-KEM key goes with the lane's key, and then nobody
//! can compute it any more.
//!
//! ```text
//! exchange = head ‖ ciphertexts
//! head     = "keys-ex1" ‖ lane's public key (32) ‖ encapsulation key (1184) ‖ count (4, big endian)
//!            ‖ count × (peer's public key (32) ‖ SHA-256 of its ciphertext (32)), in the order of the keys
//! ciphertexts: count × 1088 bytes, in the same order
//! ```
//! The log names the SHA-256 of the head and that of the whole, so that a peer reads and checks the head and its own
//! ciphertext alone: 65 KB of an exchange of 1.1 MB at 1 000 nodes.
//!
//! ```text
//! preshared = HKDF-SHA256(salt = SHA-256("keys/wg-psk/v1" ‖ context), ikm = secret(low → high) ‖ secret(high → low),
//!     info = lane ‖ low ‖ high ‖ SHA-256(ciphertext low → high) ‖ SHA-256(ciphertext high → low))
//! ```
//! where `low` and `high` are the two public keys in the order of their bytes, `context` is the log's name and the mesh's
//! word, each with its length, the lane is one letter, and what is missing (a secret, a digest) is 32 zero bytes.

mod format;
mod kem;

pub use format::{CIPHERTEXT_BYTES, Exchange, FIXED_BYTES, FormatError, Head};
pub use kem::{KemError, KemPrivate, KemPublic};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::device::PresharedKey;
use super::{Lane, WgPublicKey};
use crate::digest::Digest;

/// What binds a preshared key to one mesh: the log's name and the mesh's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    salt: Digest,
}

impl Context {
    /// The context of a mesh.
    pub fn new(log: &str, mesh: &str) -> Self {
        let length = |text: &str| (text.len() as u64).to_be_bytes();
        let parts = [&length(log)[..], log.as_bytes(), &length(mesh)[..], mesh.as_bytes()].concat();
        Self { salt: Digest::of(&[b"keys/wg-psk/v1", parts.as_slice()].concat()) }
    }
}

/// One direction of a pair: what was encapsulated, and the SHA-256 of the ciphertext.
struct Secret {
    secret: Zeroizing<[u8; 32]>,
    ciphertext: Digest,
}

/// The preshared key of two nodes on a lane, from the end of `own`: with what it has encapsulated to the other (`sent`) and
/// the other to it (`received`); `None` if there is neither.
fn preshared(
    context: &Context,
    lane: Lane,
    own: WgPublicKey,
    theirs: WgPublicKey,
    sent: Option<&Secret>,
    received: Option<&Secret>,
) -> Option<PresharedKey> {
    if sent.is_none() && received.is_none() {
        return None;
    }
    let (low, high, up, down) =
        if own < theirs { (own, theirs, sent, received) } else { (theirs, own, received, sent) };
    let mut material = Zeroizing::new([0; 64]);
    let (first, second) = material.split_at_mut(32);
    if let Some(up) = up {
        first.copy_from_slice(up.secret.as_slice());
    }
    if let Some(down) = down {
        second.copy_from_slice(down.secret.as_slice());
    }
    let hash = |secret: Option<&Secret>| secret.map_or([0; 32], |s| s.ciphertext.0);
    let info = [lane.word().as_bytes(), &low.to_bytes(), &high.to_bytes(), &hash(up), &hash(down)].concat();
    PresharedKey::new(hkdf(&context.salt.0, material.as_slice(), &info))
}

/// The preshared key of two nodes on a lane, from their heads: `read` gives the part of the other's exchange that begins at
/// an offset, [`CIPHERTEXT_BYTES`] long. `None` if neither has encapsulated to the other.
///
/// # Errors
/// What is wrong, for people.
pub fn pair(
    context: &Context,
    lane: Lane,
    (mine, kem): (&Head, &KemPrivate),
    theirs: &Head,
    read: impl FnOnce(u64) -> Result<Vec<u8>, String>,
) -> Result<Option<PresharedKey>, String> {
    let (own, other) = (mine.key(), theirs.key());
    let sent = match mine.sealed_to(&other) {
        None => None,
        Some(digest) => {
            let (ciphertext, secret) = kem.encapsulate(theirs.kem(), &own, &other);
            if Digest::of(&ciphertext) != digest {
                return Err("what was published for it cannot be made again".to_owned());
            }
            Some(Secret { secret, ciphertext: digest })
        }
    };
    let received = match (theirs.sealed_to(&own), theirs.offset(&own)) {
        (Some(digest), Some(offset)) => {
            let ciphertext = Some(read(offset)?).filter(|c| Digest::of(c) == digest);
            let secret = ciphertext.and_then(|c| kem.decapsulate(&c));
            let secret = secret.ok_or("its exchange does not hold what its head says")?;
            Some(Secret { secret, ciphertext: digest })
        }
        _ => None,
    };
    Ok(preshared(context, lane, own, other, sent.as_ref(), received.as_ref()))
}

/// Whether the node with the head `mine` is to encapsulate to the other one, because neither has: two that published at the
/// same time did not know of each other. It is the one with the smaller key.
pub fn owes(mine: &Head, theirs: &Head) -> bool {
    mine.sealed_to(&theirs.key()).is_none() && theirs.sealed_to(&mine.key()).is_none() && mine.key() < theirs.key()
}

/// HKDF with SHA-256 (RFC 5869), one block.
fn hkdf(salt: &[u8], material: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let extracted = Zeroizing::new(hmac(salt, &[material]));
    Zeroizing::new(hmac(extracted.as_slice(), &[info, &[1]]))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::samples::private;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    struct End {
        wg: WgPublicKey,
        kem: KemPrivate,
        exchange: Exchange,
    }

    /// The `i`th node publishes after all of `before`.
    fn publish(i: usize, before: &[&End]) -> End {
        let kem = KemPrivate::generate(&mut StdRng::from_seed([i as u8; 32]));
        let wg = private(i, Lane::A).public();
        let peers: Vec<_> = before.iter().map(|end| (end.wg, end.kem.public())).collect();
        let exchange = Exchange::new(wg, &kem, &peers);
        End { wg, kem, exchange }
    }

    fn between(own: &End, theirs: &End) -> Option<PresharedKey> {
        let context = Context::new("cdn.example/keys/1", "mesh");
        let whole = theirs.exchange.to_bytes();
        let read = |at: u64| {
            let at = usize::try_from(at).expect("small");
            Ok(whole[at..at + CIPHERTEXT_BYTES].to_vec())
        };
        let mine = (own.exchange.head(), &own.kem);
        pair(&context, Lane::A, mine, theirs.exchange.head(), read).expect("both are sound")
    }

    #[test]
    fn both_ends_of_every_pair_compute_the_same_and_no_two_pairs_do() {
        let mut ends: Vec<End> = Vec::new();
        for i in 1..=4 {
            let end = publish(i, &ends.iter().collect::<Vec<_>>());
            ends.push(end);
        }
        let mut all = std::collections::BTreeSet::new();
        for (i, a) in ends.iter().enumerate() {
            for b in &ends[i + 1..] {
                let key = between(a, b).expect("the later one has encapsulated to the earlier");
                assert_eq!(between(b, a), Some(key.clone()));
                assert!(all.insert(key.to_text().to_string()));
            }
        }
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn who_published_before_the_other_was_there_has_no_key_with_it() {
        let (mut a, mut b) = (publish(1, &[]), publish(2, &[]));
        assert!(between(&a, &b).is_none() && between(&b, &a).is_none());
        // One of the two owes it, and then they have one.
        let (a_owes, b_owes) = (owes(a.exchange.head(), b.exchange.head()), owes(b.exchange.head(), a.exchange.head()));
        assert_ne!(a_owes, b_owes);
        if b_owes {
            std::mem::swap(&mut a, &mut b);
        }
        a.exchange = a.exchange.clone().widened(&a.kem, &[(b.wg, b.kem.public())]);
        assert!(between(&a, &b).is_some() && between(&a, &b) == between(&b, &a));
        assert!(!owes(a.exchange.head(), b.exchange.head()) && !owes(b.exchange.head(), a.exchange.head()));
    }

    #[test]
    fn what_is_not_what_the_head_names_gives_no_key() {
        let a = publish(1, &[]);
        let b = publish(2, &[&a]);
        let context = Context::new("log", "mesh");
        let read =
            |bytes: Vec<u8>| pair(&context, Lane::A, (a.exchange.head(), &a.kem), b.exchange.head(), |_| Ok(bytes));
        let good = b.exchange.ciphertext(&a.wg).expect("it has one").to_vec();
        assert!(read(good.clone()).is_ok_and(|key| key.is_some()));
        let mut changed = good;
        changed[0] ^= 1;
        assert!(read(changed).is_err() && read(Vec::new()).is_err());
        // A home with another private half than was published.
        let other = publish(3, &[]);
        let mine = (b.exchange.head(), &other.kem);
        assert!(pair(&context, Lane::A, mine, a.exchange.head(), |_| Ok(Vec::new())).is_err());
    }

    #[test]
    fn a_key_is_bound_to_mesh_lane_keys_and_ciphertexts() {
        let secret = |byte: u8| Secret { secret: Zeroizing::new([byte; 32]), ciphertext: Digest([byte; 32]) };
        let (a, b, c) = (private(1, Lane::A).public(), private(2, Lane::A).public(), private(3, Lane::A).public());
        let (one, two) = (secret(1), secret(2));
        let context = |log: &str, mesh: &str| Context::new(log, mesh);
        let usual = context("log", "mesh");
        let key = |context: &Context, lane, a, b, sent, received| {
            let key = preshared(context, lane, a, b, sent, received).expect("a key");
            assert_eq!(preshared(context, lane, b, a, received, sent), Some(key.clone()), "seen from the other end");
            key.to_text().to_string()
        };
        let all = [
            key(&usual, Lane::A, a, b, Some(&one), Some(&two)),
            key(&usual, Lane::A, a, b, Some(&two), Some(&one)),
            key(&usual, Lane::A, a, b, Some(&one), None),
            key(&usual, Lane::A, a, b, None, Some(&one)),
            key(&usual, Lane::B, a, b, Some(&one), Some(&two)),
            key(&usual, Lane::A, a, c, Some(&one), Some(&two)),
            key(&context("logm", "esh"), Lane::A, a, b, Some(&one), Some(&two)),
            key(&context("log2", "mesh"), Lane::A, a, b, Some(&one), Some(&two)),
        ];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn hkdf_is_that_of_rfc_5869() {
        // Appendix A.1; the first 32 of its 42 bytes.
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(Digest(*hkdf(&salt, &[0x0b; 22], &info)).to_string(), expected);
    }
}
