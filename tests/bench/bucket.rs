//! A fleet as large as one in an object store may become: a long log, many secrets, a snapshot on record, and a day's work after
//! it. `tests/bench/bucket` publishes it and counts what machines ask for.

use std::path::Path;
use std::process::Command;

use keys::name::Address;
use keys::ops;
use keys::time::Span;
use stage::{NOW, Stage, address};

use crate::record::{append_all, bodies, signed};

/// Seconds from an entry to the next: a million of them lie within the life of every certificate.
const PACE: u64 = 2;
/// Entries after the snapshot.
const DAY: u64 = 64;

/// Makes the fleet in `directory`: `fleet/` and the homes.
pub fn make(directory: &Path, entries: u64, secrets: usize, pops: usize) {
    // So long ago that its newest entry is not of the future.
    let mut stage = Stage::beginning(NOW.minus(Span(entries * PACE)).minus(Span::days(1))).of_pops(pops);
    stage.fill(secrets);
    // Each value takes the place of the one before at its address: there are as many sealed files as secrets.
    let bodies = bodies(&stage, entries - DAY, PACE);
    let last = bodies.last().map_or(stage.now, |body| body.statement.at);
    let (store, origin) = (stage.store.clone(), stage.open().log().to_owned());
    let fleet = stage.open();
    let key = ops::sequencer(&stage.homes["alice"], &fleet).expect("alice's home").expect("the log's key");
    append_all(&store, fleet.head().cloned(), &origin, signed(&stage, &bodies), &key);
    drop((fleet, bodies));
    stage.now = last.plus(Span::hours(1));
    let mut fleet = stage.prepared();
    let (snapshot, draft) = ops::plan_snapshot("to begin with", &fleet).expect("a snapshot");
    stage.place(&mut fleet, vec![draft]);
    fleet.done();
    stage.now = stage.now.plus(Span::hours(1));
    let mut fleet = stage.prepared();
    let changed: Vec<Address> =
        (0..DAY).map(|i| address(&format!("nginx@pop{}/value-0", i % pops as u64 + 1))).collect();
    changed.chunks(16).for_each(|part| stage.seal(&mut fleet, part));
    fleet.done();
    println!("id={} snapshot={} size={}", stage.open().pin().id, snapshot.state, snapshot.size);
    std::fs::create_dir_all(directory).expect("a directory");
    let from = stage.keep();
    let moved = Command::new("cp").arg("-a").arg(from.join(".")).arg(directory).status().expect("cp");
    assert!(moved.success(), "{} is copied", from.display());
    std::fs::remove_dir_all(&from).expect("removed");
}
