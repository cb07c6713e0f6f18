//! Other people's programs read the record and say the same of it as we do; and each of them refuses it as soon as it is
//! changed.

mod go;
mod oracles;
mod scripts;

use std::path::PathBuf;

use keys::disk::{Access, Disk, RealFiles};
use keys::log::note::{SignerKey, VerifierKey};
use keys::log::proof::Proof;
use keys::store::{Head, Store, Target, append, prove};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::support::{Sandbox, Test};

pub(crate) fn tests() -> Vec<Test> {
    [go::tests(), oracles::tests(), scripts::tests()].concat()
}

const ORIGIN: &str = "cdn.example/keys/1";

/// A log of made-up entries on a disk. What an entry means the tree does not know.
struct MadeUp {
    store: Store,
    key: SignerKey,
    head: Option<Head>,
}

impl MadeUp {
    /// A log of `size` entries, made in commits of several.
    fn new(sandbox: &Sandbox, size: u64) -> Self {
        let disk = Disk::new(RealFiles::create(&sandbox.path("made-up"), Access::Public).unwrap());
        let mut log = Self { store: Store::new(disk), key: signer(0), head: None };
        log.grow(size);
        log
    }

    /// Appends entries until there are `size`.
    fn grow(&mut self, size: u64) {
        while self.size() < size {
            let (from, to) = (self.size(), size.min(self.size() + 200));
            let entries = (from..to).map(Self::entry).collect();
            self.head = Some(
                append(&self.store, self.head.as_ref(), ORIGIN, entries, &self.key, Target::Published).unwrap().head,
            );
        }
    }

    fn size(&self) -> u64 {
        self.head.as_ref().map_or(0, |h| h.checkpoint.size)
    }

    /// Entry `index`; they have all sorts of lengths, and the first one is empty.
    fn entry(index: u64) -> Vec<u8> {
        (0..index % 400).map(|i| u8::try_from((i * 31 + index) % 251).unwrap()).collect()
    }

    fn head(&self) -> &Head {
        self.head.as_ref().unwrap()
    }

    fn vkey(&self) -> VerifierKey {
        self.key.verifier()
    }

    /// The proof of an entry, from the files.
    fn prove(&self, index: u64) -> Proof {
        let (proof, entry) = prove(&self.store, &self.head().note, &self.head().checkpoint, index).unwrap();
        assert_eq!(entry, Self::entry(index));
        proof
    }
}

/// A key of that log's name.
fn signer(seed: u8) -> SignerKey {
    SignerKey::generate(ORIGIN, &mut StdRng::from_seed([seed; 32]))
}

/// A file of this project.
fn own(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
