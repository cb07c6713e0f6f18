//! The record by which a writer wins the next place in the log.
//!
//! `log/commit/<20 digits>` is made by create-if-absent, so exactly one writer wins each number and history is a line
//! without a lock. It is written *before* the checkpoint; tiles and checkpoint follow from it, and whoever comes next can
//! finish them (see `crate::store`). It begins with a note signed with the log's key: what somebody else puts in its place
//! is never published.
//!
//! ```text
//! keys/commit/v2
//! 6
//! 7
//! Uqzw4QyVNuFTcbpbd2oUhsZPsXWsm+EUa/R8Nd0ytz4=
//! JGVb8x…
//!
//! — cdn.example/keys/1 O4k4o1Vz…
//! eyJhY3QiOiJzZWNyZXQuc2VhbCIs…
//! ```
//! Old size, new size, new root, and the SHA-256 of what follows the note: one entry a line in base64. An Ed25519 signature
//! goes over what it signs twice, so it goes over the digest. No checkpoint has such a first line, so neither can pass for
//! the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::Digest;
use crate::limits::{COMMIT_ENTRIES_MAX, ENTRY_BYTES_MAX};
use crate::log::note::{Note, SignerKey};

const HEADER: &str = "keys/commit/v2";
/// Lines before the entries: five of text, an empty one, one signature.
const NOTE_LINES: usize = 7;

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
        let entries = self.entry_lines();
        let text = self.head(&Digest::of(entries.as_bytes()));
        let mut bytes = Note { signatures: vec![key.sign(&text)], text }.to_bytes();
        bytes.extend_from_slice(entries.as_bytes());
        bytes
    }

    fn head(&self, entries: &Digest) -> String {
        let (root, entries) = (BASE64.encode(self.new_root.0), BASE64.encode(entries.0));
        format!("{HEADER}\n{}\n{}\n{root}\n{entries}\n", self.old_size, self.new_size())
    }

    fn entry_lines(&self) -> String {
        let mut text = String::with_capacity(self.entries.iter().map(|entry| entry.len().div_ceil(3) * 4 + 1).sum());
        for entry in &self.entries {
            BASE64.encode_string(entry, &mut text);
            text.push('\n');
        }
        text
    }

    /// Reads the file; `None` for any other spelling, and for entries of which the note says something else. Whether the
    /// note's one signature is the log's the caller judges.
    pub fn parse(bytes: &[u8]) -> Option<(Self, Note)> {
        let (end, _) = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(NOTE_LINES - 1)?;
        let (note, rest) = bytes.split_at_checked(end + 1)?;
        let note = Note::parse(note).ok().filter(|n| n.signatures.len() == 1 && n.to_bytes() == note)?;
        let mut lines = note.text.split('\n').skip(1);
        let (old_size, _new_size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let digest = Digest::of(rest);
        let entries = rest
            .strip_suffix(b"\n")?
            .split(|b| *b == b'\n')
            // An entry has one spelling in base64: the decoder takes no other padding, and no bits that are left over.
            .map(|line| BASE64.decode(line).ok().filter(|e| e.len() <= ENTRY_BYTES_MAX))
            .collect::<Option<Vec<_>>>()?;
        let commit = Self {
            old_size: old_size.parse().ok()?,
            new_root: Digest(BASE64.decode(root).ok()?.try_into().ok()?),
            entries,
        };
        let right = (1..=COMMIT_ENTRIES_MAX).contains(&commit.entries.len()) && note.text == commit.head(&digest);
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
                let written = |other: &Commit| other.head(&Digest::of(other.entry_lines().as_bytes()));
                assert!(read.is_none_or(|(other, note)| written(&other) == note.text), "byte {i} {wrong}");
            }
            assert_eq!(Commit::parse(&bytes[..i]), None, "{i} bytes");
        }
        let text = String::from_utf8(bytes.clone()).unwrap();
        let spelled = |from: &str, to: &str| {
            assert!(text.contains(from));
            Commit::parse(text.replacen(from, to, 1).as_bytes())
        };
        // Other entries, of which the note says so.
        let entries = text.splitn(NOTE_LINES + 1, '\n').last().unwrap();
        let digest = |entries: &str| BASE64.encode(Digest::of(entries.as_bytes()).0);
        let told = |from: &str, to: &str| {
            let other = entries.replacen(from, to, 1);
            let text = text.replacen(&digest(entries), &digest(&other), 1).replacen(entries, &other, 1);
            Commit::parse(text.as_bytes())
        };
        // "one" is b25l, "two" is dHdv; two bytes have a padding, with two bits in front of it that are not used.
        assert_eq!(spelled("dHdv\n", "dHc=\n"), None);
        assert!(told("dHdv\n", "dHc=\n").is_some_and(|(other, _)| other.entries[1] == b"tw"));
        for strange in ["dHd=\n", "dHc\n", "dHc==\n", "dH dv\n", "dHdv=\n", "dHdv\n\n", "dHdv \n", "dHd-\n", "dHdv\r\n"]
        {
            assert_eq!(told("dHdv\n", strange), None, "{strange:?}");
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
