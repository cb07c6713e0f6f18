//! The bytes of an exchange.

use std::collections::BTreeMap;

use super::kem::PUBLIC_BYTES;
use super::{KemPrivate, KemPublic};
use crate::digest::Digest;
use crate::limits::MESH_NODES_MAX;
use crate::wireguard::WgPublicKey;

const MAGIC: &[u8; 8] = b"keys-ex1";
/// Bytes of a ciphertext.
pub const CIPHERTEXT_BYTES: usize = 1_088;
/// Bytes of a head before its list: enough to know how long that is.
pub const FIXED_BYTES: usize = MAGIC.len() + 32 + PUBLIC_BYTES + 4;
/// Bytes of the list for each peer.
const LISTED_BYTES: usize = 64;

/// Why bytes are no exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a preshared-key exchange: {0}")]
pub struct FormatError(&'static str);

/// The head of an exchange: everything but the ciphertexts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    key: WgPublicKey,
    kem: KemPublic,
    to: BTreeMap<WgPublicKey, Digest>,
}

impl Head {
    /// How long the head is that begins with these [`FIXED_BYTES`].
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn length(fixed: &[u8]) -> Result<usize, FormatError> {
        if !fixed.starts_with(MAGIC) {
            return Err(FormatError("it does not begin as one"));
        }
        let count = fixed.get(FIXED_BYTES - 4..FIXED_BYTES).and_then(|b| Some(u32::from_be_bytes(b.try_into().ok()?)));
        let count = count.ok_or(FormatError("it ends too early"))? as usize;
        if count > MESH_NODES_MAX {
            return Err(FormatError("it names more peers than a mesh has"));
        }
        Ok(FIXED_BYTES + count * LISTED_BYTES)
    }

    /// Reads a head.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let length = Self::length(bytes)?;
        let (fixed, list) = bytes.split_at_checked(FIXED_BYTES).ok_or(FormatError("it ends too early"))?;
        if bytes.len() != length {
            return Err(FormatError("it is not as long as it says"));
        }
        let key = fixed.get(MAGIC.len()..MAGIC.len() + 32).and_then(wireguard).ok_or(FormatError("its own key"))?;
        let kem = fixed.get(MAGIC.len() + 32..FIXED_BYTES - 4).ok_or(FormatError("it ends too early"))?;
        let kem = KemPublic::from_bytes(kem).map_err(|_| FormatError("its encapsulation key"))?;
        let mut to = BTreeMap::new();
        for item in list.chunks_exact(LISTED_BYTES) {
            let (peer, digest) = item.split_at(32);
            let peer = wireguard(peer).ok_or(FormatError("a peer's key"))?;
            if to.last_key_value().is_some_and(|(last, _)| *last >= peer) || peer == key {
                return Err(FormatError("its peers are not in order"));
            }
            to.insert(peer, Digest(digest.try_into().map_err(|_| FormatError("it ends too early"))?));
        }
        Ok(Self { key, kem, to })
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.to.len()).unwrap_or(u32::MAX);
        let mut bytes = [MAGIC.as_slice(), &self.key.to_bytes(), self.kem.as_bytes(), &count.to_be_bytes()].concat();
        for (peer, digest) in &self.to {
            bytes.extend_from_slice(&peer.to_bytes());
            bytes.extend_from_slice(&digest.0);
        }
        bytes
    }

    /// The public key of the lane that it was published with.
    pub fn key(&self) -> WgPublicKey {
        self.key
    }

    /// The encapsulation key.
    pub fn kem(&self) -> &KemPublic {
        &self.kem
    }

    /// The digest of the ciphertext for the peer with this key, if it has one.
    pub fn sealed_to(&self, peer: &WgPublicKey) -> Option<Digest> {
        self.to.get(peer).copied()
    }

    /// Where in the exchange that ciphertext begins.
    pub fn offset(&self, peer: &WgPublicKey) -> Option<u64> {
        let position = self.to.contains_key(peer).then(|| self.to.range(..peer).count())?;
        Some((FIXED_BYTES + self.to.len() * LISTED_BYTES + position * CIPHERTEXT_BYTES) as u64)
    }
}

fn wireguard(bytes: &[u8]) -> Option<WgPublicKey> {
    WgPublicKey::from_bytes(bytes.try_into().ok()?).ok()
}

/// An exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    head: Head,
    ciphertexts: BTreeMap<WgPublicKey, Vec<u8>>,
}

impl Exchange {
    /// Makes the exchange of the lane key `key` for the peers with these keys.
    pub fn new(key: WgPublicKey, kem: &KemPrivate, peers: &[(WgPublicKey, KemPublic)]) -> Self {
        let seal = |(peer, public): &(WgPublicKey, KemPublic)| (*peer, kem.encapsulate(public, &key, peer).0.to_vec());
        let ciphertexts: BTreeMap<_, _> = peers.iter().filter(|(peer, _)| *peer != key).map(seal).collect();
        let to = ciphertexts.iter().map(|(peer, ciphertext)| (*peer, Digest::of(ciphertext))).collect();
        Self { head: Head { key, kem: kem.public(), to }, ciphertexts }
    }

    /// The same, with ciphertexts for further peers.
    #[must_use]
    pub fn widened(mut self, kem: &KemPrivate, peers: &[(WgPublicKey, KemPublic)]) -> Self {
        let more = Self::new(self.head.key, kem, peers);
        self.head.to.extend(more.head.to);
        self.ciphertexts.extend(more.ciphertexts);
        self
    }

    /// Reads an exchange: the head, and each ciphertext as the head has it.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let (head, rest) = bytes.split_at_checked(Head::length(bytes)?).ok_or(FormatError("it ends too early"))?;
        let head = Head::parse(head)?;
        if rest.len() != head.to.len() * CIPHERTEXT_BYTES {
            return Err(FormatError("it is not as long as it says"));
        }
        let mut ciphertexts = BTreeMap::new();
        for ((peer, digest), ciphertext) in head.to.iter().zip(rest.chunks_exact(CIPHERTEXT_BYTES)) {
            if Digest::of(ciphertext) != *digest {
                return Err(FormatError("a ciphertext is not the one it names"));
            }
            ciphertexts.insert(*peer, ciphertext.to_vec());
        }
        Ok(Self { head, ciphertexts })
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.to_bytes();
        self.ciphertexts.values().for_each(|c| bytes.extend_from_slice(c));
        bytes
    }

    /// Its head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The ciphertext for the peer with this key.
    pub fn ciphertext(&self, peer: &WgPublicKey) -> Option<&[u8]> {
        self.ciphertexts.get(peer).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::Lane;
    use crate::wireguard::samples::private;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn exchange(peers: usize) -> Exchange {
        let mut rng = StdRng::from_seed([5; 32]);
        let kem = KemPrivate::generate(&mut rng);
        let peer =
            |i| (private(i, Lane::B).public(), KemPrivate::generate(&mut StdRng::from_seed([i as u8; 32])).public());
        Exchange::new(private(1, Lane::B).public(), &kem, &(2..2 + peers).map(peer).collect::<Vec<_>>())
    }

    #[test]
    fn an_exchange_reads_what_it_writes() {
        for peers in [0, 1, 5] {
            let exchange = exchange(peers);
            let bytes = exchange.to_bytes();
            assert_eq!(Exchange::parse(&bytes).as_ref(), Ok(&exchange));
            let head = &bytes[..Head::length(&bytes).expect("a head")];
            assert_eq!(Head::parse(head).as_ref(), Ok(exchange.head()));
            for peer in exchange.ciphertexts.keys() {
                let at = usize::try_from(exchange.head().offset(peer).expect("a peer")).expect("small");
                assert_eq!(exchange.ciphertext(peer), bytes.get(at..at + CIPHERTEXT_BYTES));
            }
        }
    }

    #[test]
    fn a_wider_one_keeps_what_the_narrower_had() {
        let kem = KemPrivate::generate(&mut StdRng::from_seed([5; 32]));
        let peer =
            |i| (private(i, Lane::B).public(), KemPrivate::generate(&mut StdRng::from_seed([i as u8; 32])).public());
        let key = private(1, Lane::B).public();
        let narrow = Exchange::new(key, &kem, &[peer(2), peer(3)]);
        let wide = narrow.clone().widened(&kem, &[peer(4)]);
        assert_eq!(wide, Exchange::new(key, &kem, &[peer(4), peer(3), peer(2)]));
        assert!(narrow.ciphertexts.iter().all(|(k, c)| wide.ciphertext(k) == Some(c)));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed_or_says_the_same() {
        let bytes = exchange(2).to_bytes();
        for length in [0, 1, 8, FIXED_BYTES - 1, FIXED_BYTES, FIXED_BYTES + 63, bytes.len() - 1] {
            assert!(Exchange::parse(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Exchange::parse(&[bytes.as_slice(), b"x"].concat()).is_err());
        for at in (0..8).chain(FIXED_BYTES - 4..FIXED_BYTES + 128).chain([bytes.len() - 1, bytes.len() - 2_000]) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            // A key with another bit may be a key of somebody else's.
            let read = Exchange::parse(&changed);
            assert!(read.is_err() || read.is_ok_and(|r| r.to_bytes() == changed), "byte {at}");
        }
    }

    #[test]
    fn peers_in_another_order_or_twice_or_oneself_are_refused() {
        let good = exchange(2);
        let head = good.head().to_bytes();
        let (fixed, list) = head.split_at(FIXED_BYTES);
        let (one, two) = list.split_at(LISTED_BYTES);
        let own = [&good.head().key().to_bytes()[..], &[0; 32]].concat();
        assert!(Head::parse(&[fixed, one, two].concat()).is_ok());
        for list in [[two, one], [one, one]] {
            assert!(Head::parse(&[fixed, &list.concat()].concat()).is_err());
        }
        let mut single = fixed.to_vec();
        single[FIXED_BYTES - 1] = 1;
        assert!(Head::parse(&[single.as_slice(), one].concat()).is_ok());
        assert!(Head::parse(&[single.as_slice(), &own].concat()).is_err());
    }
}
