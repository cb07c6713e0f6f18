//! The preshared keys of one node of a large mesh: reading the heads of all others' exchanges and its own part of each from
//! disk, and computing the keys; and beside it the decapsulations and encapsulations alone, which nobody can do without.
//!
//! The node published in the middle: it has encapsulated to one half of the others, and the other half to it.

use std::time::Instant;

use keys::digest::Digest;
use keys::disk::{Access, Disk, RealFiles};
use keys::store::{Store, object_path};
use keys::wireguard::exchange::{CIPHERTEXT_BYTES, Context, Exchange, FIXED_BYTES, Head, KemPrivate, pair};
use keys::wireguard::{Lane, WgPrivateKey};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::processor_time_of_all;

/// Makes the exchanges of `count` nodes, measures one node's part, and prints.
pub fn measure(count: usize) {
    let mut rng = StdRng::from_seed([7; 32]);
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::new(Disk::new(RealFiles::create(directory.path(), Access::Public).expect("a disk")));
    let nodes: Vec<_> =
        (0..count).map(|_| (WgPrivateKey::generate(&mut rng).public(), KemPrivate::generate(&mut rng))).collect();
    let publics: Vec<_> = nodes.iter().map(|(wg, kem)| (*wg, kem.public())).collect();
    let began = Instant::now();
    let objects: Vec<(Digest, Digest)> = nodes
        .iter()
        .enumerate()
        .map(|(i, (wg, kem))| {
            let exchange = Exchange::new(*wg, kem, publics.get(..i).unwrap_or_default());
            let head = Digest::of(&exchange.head().to_bytes());
            (head, store.stage(&exchange.to_bytes()).expect("a disk").0)
        })
        .collect();
    println!("{count} exchanges made and written in {:.1} s", began.elapsed().as_secs_f64());
    let own = count / 2;
    let (cpu, wall) = (processor_time_of_all(), Instant::now());
    let context = Context::new("cdn.example/keys/1", "mesh");
    let mine = head(&store, &objects[own]);
    let mut keys = 0;
    for (i, object) in objects.iter().enumerate().filter(|(i, _)| *i != own) {
        let theirs = head(&store, object);
        let path = object_path(&object.1);
        let read = |at| Ok(store.disk().read_part(&path, at, CIPHERTEXT_BYTES).expect("a disk").expect("a file"));
        let key = pair(&context, Lane::A, (&mine, &nodes[own].1), &theirs, read).expect("sound exchanges");
        assert!(key.is_some(), "{i}");
        keys += 1;
    }
    let (cpu, wall) = (processor_time_of_all() - cpu, wall.elapsed());
    let raw = processor_time_of_all();
    let (wg, kem) = &nodes[own];
    for (i, (other, public)) in publics.iter().enumerate().filter(|(i, _)| *i != own) {
        let (ciphertext, _) = kem.encapsulate(public, wg, other);
        if i > own {
            assert!(kem.decapsulate(&ciphertext).is_some());
        }
    }
    let raw = processor_time_of_all() - raw;
    println!(
        "preshared keys of one node with {keys} peers: {:.3} s of processor time, {:.3} s",
        cpu.as_secs_f64(),
        wall.as_secs_f64()
    );
    println!("as many encapsulations and half as many decapsulations alone: {:.3} s", raw.as_secs_f64());
}

fn head(store: &Store, (head, object): &(Digest, Digest)) -> Head {
    let path = object_path(object);
    let part = |length| store.disk().read_part(&path, 0, length).expect("a disk").expect("a file");
    let bytes = part(Head::length(&part(FIXED_BYTES)).expect("a head"));
    assert_eq!(Digest::of(&bytes), *head);
    Head::parse(&bytes).expect("a head")
}
