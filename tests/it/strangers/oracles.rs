//! Three libraries of others: `ct-merkle` and `tlog_tiles` make the same roots and proofs as we do, `signed_note` reads our
//! notes. Their trees are made from the entries, ours are read from tiles.

use std::collections::BTreeMap;

use ct_merkle::RootHash;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use keys::digest::Digest;
use keys::log::merkle::{self, leaf};
use keys::log::tile::{Edge, TileHashes, TileId};
use keys::store::consistency_proof;
use sha2::Sha256;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{Hash, HashReader};

use super::{MadeUp, ORIGIN};
use crate::support::{Sandbox, tests};

tests!["strangers::oracles":
    roots_and_proofs_are_those_of_two_others,
    proofs_from_files_are_those_of_two_others,
    a_note_is_read_by_somebody_else,
];

/// The hashes that `tlog_tiles` stores, in its order.
#[derive(Default)]
struct Stored(Vec<Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|&i| self.0[usize::try_from(i).unwrap()]).collect())
    }
}

/// The same entries in the hands of both.
#[derive(Default)]
struct Others {
    ct: MemoryBackedTree<Sha256, Vec<u8>>,
    stored: Stored,
    size: u64,
}

impl Others {
    fn push(&mut self, entry: Vec<u8>) {
        let new = tlog_tiles::stored_hashes(self.size, &entry, &self.stored).unwrap();
        self.stored.0.extend(new);
        self.ct.push(entry);
        self.size += 1;
    }

    fn root(&self, size: u64) -> Digest {
        let root = Digest(tlog_tiles::tree_hash(size, &self.stored).unwrap().0);
        if size == self.size {
            assert_eq!(self.ct.root().as_bytes().as_slice(), root.0, "the two others agree");
        }
        root
    }

    /// The audit path, on which the two have to agree.
    fn inclusion(&self, index: u64) -> Vec<Digest> {
        let one = tlog_tiles::prove_record(self.size, index, &self.stored).unwrap();
        let two = self.ct.prove_inclusion(usize::try_from(index).unwrap());
        agreed(&one, two.as_bytes())
    }

    /// The consistency proof from a smaller size.
    fn consistency(&self, old: u64) -> Vec<Digest> {
        let one = tlog_tiles::prove_tree(self.size, old, &self.stored).unwrap();
        let two = self.ct.prove_consistency(usize::try_from(self.size - old).unwrap());
        agreed(&one, two.as_bytes())
    }
}

fn agreed(one: &[Hash], two: &[u8]) -> Vec<Digest> {
    assert_eq!(one.iter().flat_map(|h| h.0).collect::<Vec<u8>>(), two, "the two others agree");
    one.iter().map(|h| Digest(h.0)).collect()
}

/// Small trees whole, larger ones at their edges and at places between.
fn roots_and_proofs_are_those_of_two_others(_: &Sandbox) {
    let (mut others, mut edge, mut tiles) = (Others::default(), Edge::default(), BTreeMap::new());
    let (mut sizes, mut proofs) = (0, 0);
    for size in 1..=2_100u64 {
        let entry = MadeUp::entry(size - 1);
        tiles.extend(edge.push(leaf(&entry)));
        others.push(entry);
        if size > 70 && ![255, 256, 257, 511, 512, 513, 1024, 1025, 2048].contains(&size) && size % 97 != 0 {
            continue;
        }
        let root = others.root(size);
        assert_eq!(edge.root(), root, "the root of {size}");
        let mut now = tiles.clone();
        now.extend(edge.partial().map(|(id, hashes)| (id, hashes.to_vec())));
        let hashes = TileHashes::new(size, |id: TileId| now.get(&id).cloned().ok_or(id));
        let few = [0, 1, size / 3, size / 2, size.saturating_sub(2), size - 1].map(|i| i.min(size - 1));
        let at: Vec<u64> = if size <= 40 { (0..size).collect() } else { few.to_vec() };
        for index in at {
            let theirs = others.inclusion(index);
            assert_eq!(merkle::inclusion(&hashes, index, size).as_ref(), Ok(&theirs), "{index} of {size}");
            assert!(merkle::verify_inclusion(&leaf(&MadeUp::entry(index)), index, size, &theirs, &root));
            theirs_is_a_verifier(&theirs, index, size, &root);
            if index > 0 {
                let ours = merkle::consistency(&hashes, index, size);
                assert_eq!(ours.as_ref(), Ok(&others.consistency(index)), "from {index} to {size}");
            }
            proofs += 1;
        }
        sizes += 1;
    }
    assert!(sizes > 95 && proofs > 1_000, "{sizes} sizes, {proofs} proofs");
}

/// Theirs takes what is right, and refuses it for another tree.
fn theirs_is_a_verifier(path: &[Digest], index: u64, size: u64, root: &Digest) {
    let path: Vec<Hash> = path.iter().map(|d| Hash(d.0)).collect();
    let own = tlog_tiles::record_hash(&MadeUp::entry(index));
    assert!(tlog_tiles::check_record(&path, size, Hash(root.0), index, own).is_ok());
    assert!(tlog_tiles::check_record(&path, size, Hash(leaf(b"x").0), index, own).is_err());
}

fn proofs_from_files_are_those_of_two_others(sandbox: &Sandbox) {
    let (mut log, mut others) = (MadeUp::new(sandbox, 1), Others::default());
    for size in [1, 2, 3, 255, 256, 257, 300, 512, 700] {
        log.grow(size);
        (others.size..size).for_each(|i| others.push(MadeUp::entry(i)));
        let root = log.head().checkpoint.root;
        assert_eq!(root, others.root(size));
        for index in [0, size / 2, size - 1] {
            let proof = log.prove(index);
            assert_eq!(proof.path, others.inclusion(index));
            assert!(proof.verify(&MadeUp::entry(index), &[log.vkey()]).is_ok());
            let root = RootHash::<Sha256>::new(root.0.into(), size);
            let theirs = ct_merkle::InclusionProof::from_bytes(proof.path.iter().flat_map(|d| d.0).collect());
            assert!(root.verify_inclusion(&MadeUp::entry(index), index, &theirs).is_ok());
            assert!(root.verify_inclusion(&b"another".to_vec(), index, &theirs).is_err());
        }
        for old in [1, size / 3, size / 2, size - 1].into_iter().filter(|o| (1..size).contains(o)) {
            let ours = consistency_proof(&log.store, old, size).unwrap();
            assert_eq!(ours, others.consistency(old), "from {old} to {size}");
            assert!(merkle::verify_consistency(old, &others.root(old), size, &root, &ours));
        }
    }
}

fn a_note_is_read_by_somebody_else(sandbox: &Sandbox) {
    let log = MadeUp::new(sandbox, 5);
    let bytes = log.store.disk().read("log/checkpoint", 1 << 16).unwrap().unwrap();
    let vkey = log.vkey().to_string();
    let verifiers = || VerifierList::new(vec![Box::new(StandardVerifier::new(&vkey).unwrap()) as _]);
    let (good, unknown) = Note::from_bytes(&bytes).unwrap().verify(&verifiers()).unwrap();
    assert_eq!((good.len(), unknown.len(), good[0].name()), (1, 0, ORIGIN));
    let theirs = tlog_tiles::Checkpoint::from_bytes(Note::from_bytes(&bytes).unwrap().text()).unwrap();
    assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (ORIGIN, 5, log.head().checkpoint.root.0));
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        let verified = Note::from_bytes(&wrong).is_ok_and(|note| note.verify(&verifiers()).is_ok());
        assert!(!verified, "byte {at}");
    }
}
