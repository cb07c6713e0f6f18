//! Targets for the log's formats.

use keys::digest::Digest;
use keys::log::checkpoint::Checkpoint;
use keys::log::commit::Commit;
use keys::log::merkle::{verify_consistency, verify_inclusion};
use keys::log::note::{Note, SignerKey, VerifierKey};
use keys::log::proof::Proof;
use keys::log::tile::{TileId, parse_entries, parse_hashes, tiles_of, write_entry, write_hashes};
use rand::SeedableRng as _;

/// A signed note has one spelling.
pub fn note(data: &[u8]) {
    let Ok(note) = Note::parse(data) else { return };
    assert_eq!(note.to_bytes(), data);
    for line in &note.signatures {
        assert!(!line.name.is_empty());
    }
}

/// A verifier key has one spelling; a signer key reads back.
pub fn vkey(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = SignerKey::from_private_text(text) {
        assert_eq!(key.to_private_text().as_str(), text.trim_end());
        let line = key.sign("text\n");
        assert!(key.verifier().verify(b"text\n", &line.signature));
    }
}

/// A checkpoint has one spelling.
pub fn checkpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.to_text(), text);
    }
}

/// A commit has one spelling, and its sizes fit its entries.
pub fn commit(data: &[u8]) {
    if let Some((commit, note)) = Commit::parse(data) {
        let key = SignerKey::generate("cdn.example/keys/1", &mut rand::rngs::StdRng::from_seed([7; 32]));
        let written = commit.to_bytes(&key);
        let (again, own) = Commit::parse(&written).expect("what is written is read");
        let (other, mine) = (note.to_bytes(), own.to_bytes());
        assert!(data.starts_with(&other) && data[other.len()..] == written[mine.len()..]);
        assert_eq!((&again, &own.text), (&commit, &note.text));
        assert!(commit.new_size() > commit.old_size || commit.old_size == u64::MAX);
    }
}

/// Tiles and their names. The first byte is the width, the rest a bundle, hashes, or a path.
pub fn tile(data: &[u8]) {
    let Some((&width, rest)) = data.split_first() else { return };
    let width = u64::from(width);
    if let Some(entries) = parse_entries(rest, width) {
        let mut written = Vec::new();
        entries.iter().for_each(|entry| write_entry(&mut written, entry));
        assert_eq!(written, rest);
    }
    if let Some(hashes) = parse_hashes(rest, width) {
        assert_eq!((hashes.len() as u64, write_hashes(&hashes).as_slice()), (width, rest));
    }
    if let Some(id) = std::str::from_utf8(rest).ok().and_then(TileId::parse) {
        assert_eq!(id.to_string().as_bytes(), rest);
    }
    let size = width << 8 | u64::from(rest.first().copied().unwrap_or_default());
    assert!(tiles_of(size).iter().all(|id| TileId::parse(&id.to_string()) == Some(*id)));
}

/// Proofs by others: two numbers, two roots, and the path.
pub fn proof(data: &[u8]) {
    let Some((old, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((new, rest)) = rest.split_first_chunk::<8>() else { return };
    let (old, new) = (u64::from_be_bytes(*old), u64::from_be_bytes(*new));
    let hashes = parse_hashes(&rest[..rest.len() / 32 * 32], rest.len() as u64 / 32).expect("whole hashes");
    let [first, second, path @ ..] = hashes.as_slice() else { return };
    let _ = verify_inclusion(first, old, new, path, second);
    if verify_consistency(old, first, new, second, path) && old == new {
        assert_eq!(first, second, "two trees of one size");
    }
    assert!(!verify_inclusion(first, old, old, path, second), "a leaf beyond its tree");
    let wrong = Digest::of(&[first.0, second.0].concat());
    if verify_inclusion(first, old, new, path, second) {
        assert!(!verify_inclusion(&wrong, old, new, path, second), "two leaves at one place");
    }
}

/// A proof for strangers has one spelling, and holds for no entry but its own. The entry is that of the seeds.
pub fn tlog_proof(data: &[u8]) {
    let Ok(proof) = Proof::parse(data) else { return };
    assert_eq!(proof.to_bytes(), data);
    let key = SignerKey::generate("cdn.example/keys/1", &mut rand::rngs::StdRng::from_seed([7; 32])).verifier();
    assert!(proof.verify(b"another entry", &[]).is_err());
    if let Ok(checkpoint) = proof.verify(seeds::LOGGED, std::slice::from_ref(&key)) {
        assert_eq!((checkpoint.size, proof.index), (3, 1), "the key has signed one checkpoint alone");
        assert!(proof.verify(b"another entry", &[key]).is_err());
    }
}

/// What to begin with.
pub mod seeds {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::example;

    /// The entry that [`tlog_proof`] proves.
    pub const LOGGED: &[u8] = b"the second of three";

    /// Of [`super::tlog_proof`].
    pub fn tlog_proof() -> Vec<Vec<u8>> {
        use keys::log::merkle::{leaf, node};
        let [a, b, c] = [b"one".as_slice(), LOGGED, b"three"].map(leaf);
        let root = node(&node(&a, &b), &c);
        let text = Checkpoint { origin: "cdn.example/keys/1".into(), size: 3, root }.to_text();
        let key = SignerKey::generate("cdn.example/keys/1", &mut StdRng::from_seed([7; 32]));
        let note = Note { signatures: vec![key.sign(&text)], text };
        let proof = Proof { extra: None, index: 1, path: vec![a, c], note };
        let with = Proof { extra: Some(b"beside".to_vec()), ..proof.clone() };
        vec![proof.to_bytes(), with.to_bytes()]
    }

    /// Of [`super::note`].
    pub fn note() -> Vec<Vec<u8>> {
        let mut seeds: Vec<_> = example::entries().into_iter().step_by(9).collect();
        seeds.push(example::file("keyring/log/checkpoint"));
        seeds
    }

    /// Of [`super::vkey`].
    pub fn vkey() -> Vec<Vec<u8>> {
        let key = SignerKey::generate("cdn.example/keys/1", &mut StdRng::from_seed([7; 32]));
        vec![key.verifier().to_string().into_bytes()]
    }

    /// Of [`super::checkpoint`].
    pub fn checkpoint() -> Vec<Vec<u8>> {
        vec![example::checkpoint().to_text().into_bytes()]
    }

    /// Of [`super::commit`].
    pub fn commit() -> Vec<Vec<u8>> {
        let small = Commit { old_size: 6, new_root: Digest::of(b"x"), entries: vec![b"one".to_vec(), b"".to_vec()] };
        let key = SignerKey::generate("cdn.example/keys/1", &mut StdRng::from_seed([7; 32]));
        vec![small.to_bytes(&key), example::files("keyring/log/commit").swap_remove(9)]
    }

    /// Of [`super::tile`].
    pub fn tile() -> Vec<Vec<u8>> {
        let mut bundle = vec![3];
        [b"one".as_slice(), b"", b"three"].iter().for_each(|entry| write_entry(&mut bundle, entry));
        let hashes = [vec![2], write_hashes(&[Digest::of(b"1"), Digest::of(b"2")])].concat();
        let paths = ["tile/0/000", "tile/entries/x001/x234/067.p/5", "tile/7/999"];
        let paths = paths.iter().map(|path| [b"\0".as_slice(), path.as_bytes()].concat());
        [bundle, hashes].into_iter().chain(paths).collect()
    }

    /// Of [`super::proof`].
    pub fn proof() -> Vec<Vec<u8>> {
        use keys::log::merkle::{leaf, node};
        let [a, b, c] = [b"a", b"b", b"c"].map(|entry| leaf(entry));
        let ab = node(&a, &b);
        let numbers = |old: u64, new: u64| [old.to_be_bytes(), new.to_be_bytes()].concat();
        vec![
            [numbers(2, 3), write_hashes(&[c, node(&ab, &c), ab])].concat(),
            [numbers(2, 3), write_hashes(&[ab, node(&ab, &c), c])].concat(),
            [numbers(1, 3), write_hashes(&[a, node(&ab, &c), b, c])].concat(),
        ]
    }
}
