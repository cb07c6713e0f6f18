//! C2SP tlog-proof: that a log has an entry, in one text that anybody checks offline.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 7
//! gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
//! B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
//!
//! cdn.example/keys/1
//! 9
//! Uqzw4QyVNuFTcbpbd2oUhsZPsXWsm+EUa/R8Nd0ytz4=
//!
//! — cdn.example/keys/1 O4k4o1Vz…
//! ```
//! A second line `extra BASE64` may carry what somebody wants to have beside; nothing vouches for it. Then the entry's
//! index, the audit path (RFC 6962, section 2.1.1) from the leaf's sibling upwards, and the checkpoint as it was published.
//!
//! A proof says that whoever has the log's key put this entry at this place. Whether the entry took effect is decided by
//! the entries before it, which a proof does not show.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::checkpoint::Checkpoint;
use super::merkle;
use super::note::{Note, VerifierKey};
use crate::digest::Digest;
use crate::limits::PROOF_BYTES_MAX;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Hashes of the longest path: a tree has at most 2^63 leaves.
const PATH_MAX: usize = 63;

/// Why a proof shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not a proof in its one spelling.
    #[error("is not a C2SP tlog-proof: {0}")]
    Format(&'static str),
    /// No key that is trusted signed the checkpoint.
    #[error("its checkpoint of {origin} is not signed by any of the given keys")]
    Unsigned {
        /// The log that the checkpoint names.
        origin: String,
    },
    /// The entry is not what the log has there.
    #[error("the log {origin} with {size} entries does not have this entry at index {index}")]
    Absent {
        /// The log.
        origin: String,
        /// Its size.
        size: u64,
        /// The place that the proof claims.
        index: u64,
    },
}

/// A proof, read and not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What somebody put beside; not signed, not hashed.
    pub extra: Option<Vec<u8>>,
    /// The entry's index, from 0.
    pub index: u64,
    /// The audit path, lowest sibling first.
    pub path: Vec<Digest>,
    /// The checkpoint with all its signature lines.
    pub note: Note,
}

impl Proof {
    /// Writes the text.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            text.push_str(&format!("extra {}\n", BASE64.encode(extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.path {
            text.push_str(&BASE64.encode(hash.0));
            text.push('\n');
        }
        text.push('\n');
        [text.into_bytes(), self.note.to_bytes()].concat()
    }

    /// Reads a proof in its one spelling.
    ///
    /// # Errors
    /// [`ProofError::Format`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        use ProofError::Format;
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(Format("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Format("not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(Format("no blank line before the checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(Format("its first line is not 'c2sp.org/tlog-proof@v1'"));
        }
        let mut line = lines.next().unwrap_or_default();
        let extra = match line.strip_prefix("extra ") {
            None => None,
            Some(extra) => {
                line = lines.next().unwrap_or_default();
                Some(BASE64.decode(extra).map_err(|_| Format("its extra line is not base64"))?)
            }
        };
        let index = line.strip_prefix("index ").and_then(|n| n.parse().ok()).ok_or(Format("it has no index line"))?;
        let hash = |line| BASE64.decode(line).ok().and_then(|h| h.try_into().ok()).map(Digest);
        let path: Option<Vec<Digest>> = lines.map(hash).collect();
        let path = path.filter(|p| p.len() <= PATH_MAX).ok_or(Format("its path is not one SHA-256 value a line"))?;
        let note = Note::parse(note.as_bytes()).map_err(|_| Format("its checkpoint is not a signed note"))?;
        let proof = Self { extra, index, path, note };
        if proof.to_bytes() == bytes { Ok(proof) } else { Err(Format("it is written otherwise than C2SP writes it")) }
    }

    /// Checks that a log whose checkpoint one of `keys` signed has exactly the bytes `entry` at the index; gives the
    /// checkpoint. A key is good for the log that bears its name, and for no other.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, entry: &[u8], keys: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
        let checkpoint =
            Checkpoint::parse(&self.note.text).ok_or(ProofError::Format("its note is not a checkpoint"))?;
        let Checkpoint { origin, size, root } = &checkpoint;
        if !keys.iter().any(|key| key.name() == origin && self.note.is_signed_by(key)) {
            return Err(ProofError::Unsigned { origin: crate::text::shown(origin).to_string() });
        }
        if !merkle::verify_inclusion(&merkle::leaf(entry), self.index, *size, &self.path, root) {
            let origin = crate::text::shown(origin).to_string();
            return Err(ProofError::Absent { origin, size: *size, index: self.index });
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::log::merkle::{leaf, node};
    use crate::log::note::SignerKey;

    const ENTRIES: [&[u8]; 3] = [b"one", b"two", b"three"];

    fn key(seed: u64, name: &str) -> SignerKey {
        SignerKey::generate(name, &mut StdRng::seed_from_u64(seed))
    }

    /// The proof of the second entry of three.
    fn proof(signer: &SignerKey) -> Proof {
        let [a, b, c] = ENTRIES.map(leaf);
        let root = node(&node(&a, &b), &c);
        let text = Checkpoint { origin: "cdn.example/keys/1".into(), size: 3, root }.to_text();
        let note = Note { signatures: vec![signer.sign(&text)], text };
        Proof { extra: None, index: 1, path: vec![a, c], note }
    }

    #[test]
    fn a_proof_holds_for_its_entry_and_its_key_alone() {
        let (log, other) = (key(1, "cdn.example/keys/1"), key(2, "cdn.example/keys/1"));
        let proof = proof(&log);
        let size = |keys: &[VerifierKey], entry| proof.verify(entry, keys).map(|c| c.size);
        assert_eq!(size(&[other.verifier(), log.verifier()], ENTRIES[1]), Ok(3));
        assert!(matches!(size(&[log.verifier()], ENTRIES[0]), Err(ProofError::Absent { index: 1, .. })));
        assert!(matches!(size(&[other.verifier()], ENTRIES[1]), Err(ProofError::Unsigned { .. })));
        assert!(matches!(size(&[], ENTRIES[1]), Err(ProofError::Unsigned { .. })));
        // The same key under another name vouches for another log.
        let renamed = Proof { note: self::proof(&key(1, "ops.example/keys/1")).note, ..proof.clone() };
        let found = renamed.verify(ENTRIES[1], &[key(1, "ops.example/keys/1").verifier()]);
        assert!(matches!(found, Err(ProofError::Unsigned { .. })), "{found:?}");
    }

    #[test]
    fn a_proof_has_one_spelling_and_every_changed_bit_breaks_it() {
        let log = key(1, "cdn.example/keys/1");
        let bytes = proof(&log).to_bytes();
        assert_eq!(Proof::parse(&bytes), Ok(proof(&log)));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << bit;
                let holds = Proof::parse(&wrong).is_ok_and(|p| p.verify(ENTRIES[1], &[log.verifier()]).is_ok());
                assert!(!holds, "byte {at}, bit {bit}");
            }
            assert!(Proof::parse(&bytes[..at]).is_err(), "{at} bytes");
        }
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [("index 1", "index 01"), ("index 1", "index +1"), ("\n", "\r\n"), ("index 1\n", "")] {
            assert!(Proof::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from:?} as {to:?}");
        }
        assert!(Proof::parse((text + "\n").as_bytes()).is_err());
    }

    #[test]
    fn what_is_extra_vouches_for_nothing_and_an_empty_path_is_a_path() {
        let log = key(1, "cdn.example/keys/1");
        let with = Proof { extra: Some(b"beside".to_vec()), ..proof(&log) };
        let read = Proof::parse(&with.to_bytes()).unwrap();
        assert_eq!(read, with);
        assert!(read.verify(ENTRIES[1], &[log.verifier()]).is_ok());
        let text = Checkpoint { origin: "cdn.example/keys/1".into(), size: 1, root: leaf(b"one") }.to_text();
        let note = Note { signatures: vec![log.sign(&text)], text };
        let only = Proof { extra: None, index: 0, path: Vec::new(), note };
        assert_eq!(Proof::parse(&only.to_bytes()), Ok(only.clone()));
        assert!(only.verify(b"one", &[log.verifier()]).is_ok());
        let long = Proof { path: vec![leaf(b"x"); PATH_MAX + 1], ..only };
        assert!(Proof::parse(&long.to_bytes()).is_err());
    }
}
