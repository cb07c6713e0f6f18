//! The record by which a writer wins the next place in the log.
//!
//! `log/commit/<20 digits>` is made by create-if-absent, so exactly one writer wins each number and history is a line
//! without a lock. It is written *before* the checkpoint; tiles and checkpoint follow from it, and whoever comes next can
//! finish them (see `crate::store`). It is a note signed with the log's key: what somebody else puts in its place is
//! never published.
//!
//! ```text
//! keys/commit/v1
//! 6
//! 7
//! Uqzw4QyVNuFTcbpbd2oUhsZPsXWsm+EUa/R8Nd0ytz4=
//! eyJhY3QiOiJzZWNyZXQuc2VhbCIs…
//!
//! — cdn.example/keys/1 O4k4o1Vz…
//! ```
//! Old size, new size, new root, then one entry a line in base64. No checkpoint has such a first line, so neither can pass
//! for the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::Digest;
use crate::limits::{COMMIT_ENTRIES_MAX, ENTRY_BYTES_MAX};
use crate::log::note::{Note, SignerKey};

const HEADER: &str = "keys/commit/v1";

/// The entries that were given the places `old_size` onward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The size of the tree before.
    pub old_size: u64,
    /// The root of the tree after.
    pub new_root: Digest,
    /// The entries, 1 to [`COMMIT_ENTRIES_MAX`].
    pub entries: Vec<Vec<u8>>,
}

impl Commit {
    /// The size of the tree after.
    pub fn new_size(&self) -> u64 {
        self.old_size.saturating_add(self.entries.len() as u64)
    }

    /// The path below `log/` of commit number `number`.
    pub fn path(number: u64) -> String {
        format!("commit/{number:020}")
    }

    /// The number that `path` (below `log/`) names.
    pub fn number(path: &str) -> Option<u64> {
        path.strip_prefix("commit/")?.parse().ok().filter(|&n| Self::path(n) == path)
    }

    /// Writes the file, signed with the log's key.
    pub fn to_bytes(&self, key: &SignerKey) -> Vec<u8> {
        let text = self.to_text();
        Note { signatures: vec![key.sign(&text)], text }.to_bytes()
    }

    fn head(&self) -> String {
        format!("{HEADER}\n{}\n{}\n{}\n", self.old_size, self.new_size(), BASE64.encode(self.new_root.0))
    }

    fn to_text(&self) -> String {
        let mut text = self.head();
        text.reserve(self.entries.iter().map(|entry| entry.len().div_ceil(3) * 4 + 1).sum());
        for entry in &self.entries {
            BASE64.encode_string(entry, &mut text);
            text.push('\n');
        }
        text
    }

    /// Reads the file; `None` for any other spelling. Whether the note's one signature is the log's the caller judges.
    pub fn parse(bytes: &[u8]) -> Option<(Self, Note)> {
        let note = Note::parse(bytes).ok().filter(|n| n.signatures.len() == 1 && n.to_bytes() == bytes)?;
        let mut lines = note.text.strip_suffix('\n')?.split('\n');
        let (HEADER, old_size, _new_size, root) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?) else {
            return None;
        };
        let entries = lines
            .map(|line| BASE64.decode(line).ok().filter(|e| e.len() <= ENTRY_BYTES_MAX))
            .collect::<Option<Vec<_>>>()?;
        let commit = Self {
            old_size: old_size.parse().ok()?,
            new_root: Digest(BASE64.decode(root).ok()?.try_into().ok()?),
            entries,
        };
        // An entry has one spelling in base64: the decoder takes no other padding, and no bits that are left over.
        let right = (1..=COMMIT_ENTRIES_MAX).contains(&commit.entries.len()) && note.text.starts_with(&commit.head());
        right.then_some((commit, note))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_commit_has_one_spelling() {
        let mut rng = StdRng::seed_from_u64(1);
        let key = SignerKey::generate("cdn.example/keys/1", &mut rng);
        let commit =
            Commit { old_size: 6, new_root: Digest::of(b"x"), entries: vec![b"one".to_vec(), b"two".to_vec()] };
        let bytes = commit.to_bytes(&key);
        let (parsed, note) = Commit::parse(&bytes).unwrap();
        assert_eq!(parsed, commit);
        assert!(note.is_signed_by(&key.verifier()));
        for i in 0..bytes.len() {
            for wrong in 0..=255 {
                let changed = [&bytes[..i], &[wrong], &bytes[i + 1..]].concat();
                let read = Commit::parse(&changed);
                // What can be read, another commit or another signature, is spelled as it would be written.
                assert!(read.is_none_or(|(other, note)| other.to_text() == note.text), "byte {i} {wrong}");
            }
            assert_eq!(Commit::parse(&bytes[..i]), None, "{i} bytes");
        }
        let spelled = |from: &str, to: &str| {
            let text = std::str::from_utf8(&bytes).unwrap();
            assert!(text.contains(from));
            Commit::parse(text.replacen(from, to, 1).as_bytes())
        };
        // "one" is b25l, "two" is dHdv; two bytes have a padding, with two bits in front of it that are not used.
        assert!(spelled("dHdv\n", "dHc=\n").is_some_and(|(other, _)| other.entries[1] == b"tw"));
        for strange in ["dHd=\n", "dHc\n", "dHc==\n", "dH dv\n", "dHdv=\n", "dHdv\n\n", "dHdv \n", "dHd-\n"] {
            assert_eq!(spelled("dHdv\n", strange), None, "{strange:?}");
        }
        for (from, to) in
            [("\n6\n", "\n06\n"), ("\n6\n", "\n+6\n"), ("\n8\n", "\n9\n"), ("\n8\n", "\n08\n"), ("\n6\n", "\n 6\n")]
        {
            assert_eq!(spelled(from, to), None, "{from:?} {to:?}");
        }
        let stranger = SignerKey::generate("cdn.example/keys/1", &mut rng);
        let (_, note) = Commit::parse(&commit.to_bytes(&stranger)).unwrap();
        assert!(!note.is_signed_by(&key.verifier()));
        assert_eq!(Commit::number("commit/00000000000000000042"), Some(42));
        assert_eq!(Commit::number("commit/42"), None);
    }
}
