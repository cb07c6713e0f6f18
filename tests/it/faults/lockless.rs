//! Many writers on one log, with a lock and without, of whom some die in the middle of a call: what was acknowledged is
//! there, once, and every head that was ever shown is the beginning of the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keys::disk::{Access, Bucket, Condition, Disk, EntryKind, Memory, RealFiles, Tag};
use keys::fleet::{Fleet, FleetError, Known, Placed};
use keys::log::checkpoint::Checkpoint;
use keys::log::merkle::{self, Peaks};
use keys::log::note::{Note, SignerKey, VerifierKey};
use keys::ops::{self, OpsError};
use keys::store::{Head, LogReader, Store, StoreError, Target, append, finish, read_checkpoint};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::faulty::Faulty;
use crate::support::stage::{NOW, Stage, member};
use crate::support::{Sandbox, tests};

tests!["faults::lockless":
    sixteen_writers_without_a_lock_lose_nothing,
    sixteen_writers_on_a_disk_lose_nothing,
    a_store_that_breaks_its_word_is_noticed,
    a_slow_writer_changes_nothing,
    parts_of_tiles_that_a_dead_writer_left_are_collected,
    a_change_that_lost_its_place_takes_the_next_one,
    a_change_that_was_overtaken_is_refused,
    writers_of_one_fleet_without_a_lock_lose_nothing,
];

const WRITERS: usize = 16;
const ORIGIN: &str = "cdn.example/keys/1";

/// How an object store may break its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// It writes over what is there when it should create.
    CreatesOver,
    /// It replaces also what has changed meanwhile.
    ReplacesChanged,
}

/// An object store that notes every head it is given.
#[derive(Clone)]
struct Watched {
    memory: Memory,
    flaw: Flaw,
    shown: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Watched {
    fn new(flaw: Flaw) -> Self {
        Self { memory: Memory::default(), flaw, shown: Arc::default() }
    }
}

impl Bucket for Watched {
    fn get(&self, key: &str, limit: usize) -> io::Result<Option<(Vec<u8>, Tag)>> {
        self.memory.get(key, limit)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.memory.list(prefix)
    }

    fn put(&self, key: &str, bytes: &[u8], condition: &Condition) -> io::Result<bool> {
        let condition = match (self.flaw, condition) {
            (Flaw::CreatesOver, Condition::Absent) | (Flaw::ReplacesChanged, Condition::Unchanged(_)) => {
                &Condition::Always
            }
            _ => condition,
        };
        // In the order in which they took effect.
        let mut shown = self.shown.lock().unwrap();
        let put = self.memory.put(key, bytes, condition)?;
        if put && key == "log/checkpoint" {
            shown.push(bytes.to_vec());
        }
        Ok(put)
    }

    fn delete(&self, key: &str) -> io::Result<bool> {
        self.memory.delete(key)
    }

    fn name(&self) -> String {
        "bucket".to_owned()
    }
}

/// A writer's way to the store, which is cut after so many calls: the last one may have happened, or not.
struct Mortal {
    bucket: Watched,
    left: AtomicUsize,
    last_happens: bool,
}

impl Mortal {
    fn call<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        std::thread::yield_now();
        let cut = || io::Error::from(io::ErrorKind::ConnectionAborted);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(1))) {
            Ok(0) => Err(cut()),
            Ok(1) if self.last_happens => work().and(Err(cut())),
            Ok(1) => Err(cut()),
            _ => work(),
        }
    }
}

impl Bucket for Mortal {
    fn get(&self, key: &str, limit: usize) -> io::Result<Option<(Vec<u8>, Tag)>> {
        self.call(|| self.bucket.get(key, limit))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.call(|| self.bucket.list(prefix))
    }

    fn put(&self, key: &str, bytes: &[u8], condition: &Condition) -> io::Result<bool> {
        // Now and then somebody is slow where it matters: what it has read is old by now.
        if key == "log/checkpoint" && self.left.load(Ordering::Relaxed).is_multiple_of(5) {
            std::thread::sleep(Duration::from_millis(12));
        }
        self.call(|| self.bucket.put(key, bytes, condition))
    }

    fn delete(&self, key: &str) -> io::Result<bool> {
        self.call(|| self.bucket.delete(key))
    }

    fn name(&self) -> String {
        self.bucket.name()
    }
}

/// The keyring of a fleet, copied into a bucket.
fn copied(stage: &Stage, bucket: &impl Bucket) {
    for (path, kind) in stage.keyring.disk().walk("").unwrap() {
        assert_eq!(kind, EntryKind::File, "{path}");
        // Where there is no lock there are no views.
        if !path.starts_with("certs/") && !path.starts_with("sealed/") {
            let bytes = stage.keyring.disk().read(&path, usize::MAX).unwrap().unwrap();
            bucket.put(&path, &bytes, &Condition::Always).unwrap();
        }
    }
}

/// The log's key, from its text: keys are not copied.
fn log_key(stage: &Stage) -> keys::fleet::Sequencer {
    ops::sequencer(&stage.homes[&member("alice")], &stage.open()).unwrap().unwrap()
}

/// What one writer knows of its entries: acknowledged, or cut off in the middle.
#[derive(Debug, Default)]
struct Written {
    acknowledged: Vec<Vec<u8>>,
    unknown: Vec<Vec<u8>>,
    races: usize,
    wrong: Vec<String>,
}

/// The newest head, from one that was read before.
fn newest(store: &Store, known: Option<Head>) -> Result<Head, StoreError> {
    let (note, checkpoint) = read_checkpoint(store)?;
    let (edge, bundle) = known.map(|h| (h.edge, h.bundle)).unwrap_or_default();
    let mut reader = LogReader::after(store, edge, bundle, checkpoint.size);
    while reader.next_bundle()?.is_some() {}
    reader.finish(note, checkpoint)
}

/// One try: reads the head, finishes what others left, appends.
fn try_append(store: &Store, head: &mut Option<Head>, entry: &[u8], key: &SignerKey) -> Result<(), StoreError> {
    let keys: [VerifierKey; 1] = [key.verifier()];
    *head = Some(newest(store, head.take())?);
    while let Some(done) = finish(store, head.as_ref(), ORIGIN, key, &keys, Target::Published)? {
        *head = Some(done.head);
    }
    let done = append(store, head.as_ref(), ORIGIN, vec![entry.to_vec()], key, Target::Published)?;
    *head = Some(done.head);
    Ok(())
}

/// Whether the writer was cut off: an error that the test made.
fn is_cut(e: &StoreError) -> bool {
    let StoreError::Disk(e) = e else { return false };
    matches!(e.source.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::StorageFull)
}

/// A writer that appends `each` entries; `open` gives it a way to the store that may be cut.
fn writer(number: usize, each: usize, key: &SignerKey, open: &dyn Fn(&mut StdRng) -> Disk) -> Written {
    let mut rng = StdRng::seed_from_u64(number as u64);
    let (mut written, mut head) = (Written::default(), None);
    for i in 0..each {
        let entry = format!("writer {number}, entry {i}").into_bytes();
        loop {
            let store = Store::new(open(&mut rng));
            let Some(_lock) = store.disk().try_lock().unwrap() else {
                std::thread::yield_now();
                continue;
            };
            let before = head.clone();
            match try_append(&store, &mut head, &entry, key) {
                Ok(()) => break written.acknowledged.push(entry),
                Err(StoreError::Raced) => written.races += 1,
                // As a process that died: what it knew is gone, and whether it was done nobody told it.
                Err(e) if is_cut(&e) => {
                    head = before;
                    break written.unknown.push(entry);
                }
                Err(e) => {
                    head = before;
                    break written.wrong.push(e.to_string());
                }
            }
        }
    }
    written
}

/// Runs the writers at once.
fn at_once(each: usize, key: &SignerKey, open: &(dyn Fn(&mut StdRng) -> Disk + Sync)) -> Vec<Written> {
    std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..WRITERS).map(|number| scope.spawn(move || writer(number, each, key, &|rng| open(rng)))).collect();
        running.into_iter().map(|writer| writer.join().unwrap()).collect()
    })
}

/// What is wrong with a log after these writers; `shown` are the heads in the order in which they were shown.
fn judge(store: &Store, key: &SignerKey, written: &[Written], base: u64, shown: &[Vec<u8>]) -> Result<(), String> {
    if let Some(wrong) = written.iter().flat_map(|w| &w.wrong).next() {
        return Err(wrong.clone());
    }
    let text = |e: StoreError| e.to_string();
    let mut head = newest(store, None).map_err(text)?;
    while let Some(done) =
        finish(store, Some(&head), ORIGIN, key, &[key.verifier()], Target::Published).map_err(text)?
    {
        head = done.head;
    }
    let (report, _) = Fleet::verify(store, &Known::default(), NOW, &mut |_, _| {}).map_err(|e| e.to_string())?;
    if !report.is_sound() {
        return Err(format!("{:?}", report.problems));
    }
    let mut reader = LogReader::new(store, head.checkpoint.size);
    let (mut entries, mut peaks, mut roots) = (Vec::new(), Peaks::default(), BTreeMap::new());
    while let Some((_, more)) = reader.next_bundle().map_err(text)? {
        for entry in more {
            peaks.push(merkle::leaf(&entry));
            roots.insert(peaks.size(), peaks.root());
            entries.push(entry);
        }
    }
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    entries.iter().for_each(|entry| *counts.entry(entry).or_default() += 1);
    let times = |entry: &Vec<u8>| counts.get(entry.as_slice()).copied().unwrap_or_default();
    if let Some(entry) = written.iter().flat_map(|w| &w.acknowledged).find(|e| times(e) != 1) {
        return Err(format!("{} is there {} times", String::from_utf8_lossy(entry), times(entry)));
    }
    let unknown = written.iter().flat_map(|w| &w.unknown);
    let of_the_dead: usize = unknown.clone().map(times).sum();
    if unknown.clone().any(|e| times(e) > 1) {
        return Err("an entry of a dead writer is there twice".to_owned());
    }
    let acknowledged: usize = written.iter().map(|w| w.acknowledged.len()).sum();
    if entries.len() as u64 != base + (acknowledged + of_the_dead) as u64 {
        return Err(format!("{} entries", entries.len()));
    }
    let mut last = 0;
    for bytes in shown {
        let head = Checkpoint::parse(&Note::parse(bytes).unwrap().text).unwrap();
        if head.size < last || roots.get(&head.size) != Some(&head.root) {
            return Err(format!("a head of {} entries was shown after one of {last}, or is of another log", head.size));
        }
        last = head.size;
    }
    Ok(())
}

fn race(stage: &Stage, flaw: Flaw, each: usize) -> (Result<(), String>, Vec<Written>) {
    let bucket = Watched::new(flaw);
    copied(stage, &bucket);
    let (key, base) = (log_key(stage), stage.entries().len() as u64);
    bucket.shown.lock().unwrap().clear();
    let written = at_once(each, &key, &|rng| {
        let left = if rng.random_range(0..5) == 0 { rng.random_range(1..45) } else { usize::MAX };
        Disk::of_bucket(Mortal { bucket: bucket.clone(), left: left.into(), last_happens: rng.random() })
    });
    let shown = bucket.shown.lock().unwrap().clone();
    let store = Store::new(Disk::of_bucket(bucket));
    (judge(&store, &key, &written, base, &shown), written)
}

fn told(what: &str, written: &[Written]) -> (usize, usize) {
    let acknowledged = written.iter().map(|w| w.acknowledged.len()).sum();
    let died = written.iter().map(|w| w.unknown.len()).sum();
    let races: usize = written.iter().map(|w| w.races).sum();
    eprintln!("faults::lockless: {what}: {acknowledged} acknowledged, {died} deaths, {races} lost races");
    (acknowledged, died)
}

fn sixteen_writers_without_a_lock_lose_nothing(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice"]);
    let (judged, written) = race(&stage, Flaw::None, 60);
    let (acknowledged, died) = told("in a bucket", &written);
    judged.unwrap();
    assert!(acknowledged > WRITERS * 30 && died > WRITERS, "{acknowledged} acknowledged, {died} deaths");
    assert!(written.iter().any(|w| w.races > 0), "nobody ever lost a race");
}

fn sixteen_writers_on_a_disk_lose_nothing(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice"]);
    let (key, base, path) = (log_key(&stage), stage.entries().len() as u64, sandbox.path("keyring"));
    let written = at_once(50, &key, &|rng| {
        let left = if rng.random_range(0..5) == 0 { rng.random_range(1..45) } else { usize::MAX };
        Disk::new(Faulty::new(&path, &Arc::new(left.into())))
    });
    let (acknowledged, died) = told("on a disk", &written);
    // What the dead left is tidied by the next change.
    let fleet = stage.prepared("alice");
    fleet.done();
    let store = Store::new(Disk::new(RealFiles::open(&path, Access::Public).unwrap()));
    judge(&store, &key, &written, base, &[]).unwrap();
    assert!(acknowledged > WRITERS * 25 && died > WRITERS, "{acknowledged} acknowledged, {died} deaths");
}

/// The test is worth something only if it notices a store that breaks its word.
fn a_store_that_breaks_its_word_is_noticed(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice"]);
    for flaw in [Flaw::CreatesOver, Flaw::ReplacesChanged] {
        let noticed = (1..=10).find_map(|time| race(&stage, flaw, 20).0.err().map(|problem| (time, problem)));
        let (time, problem) = noticed.unwrap_or_else(|| panic!("{flaw:?} went unnoticed"));
        eprintln!("faults::lockless: {flaw:?}: noticed the {time}. time: {problem}");
    }
}

/// A writer that stops between its commit and the checkpoint, and goes on when others are further.
fn a_slow_writer_changes_nothing(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice"]);
    let bucket = Watched::new(Flaw::None);
    copied(&stage, &bucket);
    let (key, store) = (log_key(&stage), Store::new(Disk::of_bucket(bucket.clone())));
    let slow = newest(&store, None).unwrap();
    let mut others = Some(slow.clone());
    for i in 0..300 {
        try_append(&store, &mut others, format!("entry {i}").as_bytes(), &key).unwrap();
    }
    let before = bucket.memory.get("log/checkpoint", usize::MAX).unwrap().unwrap();
    // It publishes what the log has in its place, and finds that it is.
    let again = finish(&store, Some(&slow), ORIGIN, &key, &[key.verifier()], Target::Published).unwrap().unwrap();
    assert_eq!(again.head.checkpoint.size, slow.checkpoint.size + 1);
    assert_eq!(bucket.memory.get("log/checkpoint", usize::MAX).unwrap().unwrap(), before);
    assert!(matches!(
        append(&store, Some(&slow), ORIGIN, vec![b"late".to_vec()], &key, Target::Published),
        Err(StoreError::Raced)
    ));
    let (report, _) = Fleet::verify(&store, &Known::default(), NOW, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems, []);
    // A checkpoint of the same size with another root is nobody's to replace.
    let other = Checkpoint { origin: ORIGIN.to_owned(), size: slow.checkpoint.size + 301, root: merkle::empty_root() };
    let text = other.to_text();
    let note = Note { signatures: vec![key.sign(&text)], text };
    bucket.put("log/checkpoint", &note.to_bytes(), &Condition::Always).unwrap();
    let refused =
        append(&store, others.as_ref(), ORIGIN, vec![b"one more".to_vec()], &key, Target::Published).unwrap_err();
    assert!(refused.to_string().contains("shows another tree"), "{refused}");
}

fn partial(disk: &Disk) -> BTreeSet<String> {
    disk.walk("log/tile").unwrap().into_iter().map(|(path, _)| path).filter(|path| path.contains(".p/")).collect()
}

fn parts_of_tiles_that_a_dead_writer_left_are_collected(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &[]);
    let bucket = Watched::new(Flaw::None);
    copied(&stage, &bucket);
    let (key, store) = (log_key(&stage), Store::new(Disk::of_bucket(bucket)));
    let mut head = None;
    // As if writers had died between their checkpoint and their tidying up.
    let leaf = merkle::leaf(&stage.entries()[0]);
    for disk in [store.disk(), stage.keyring.disk()] {
        disk.create("log/tile/0/000.p/1", &leaf.0).unwrap();
        let (report, _) = Fleet::verify(&Store::new(disk.clone()), &Known::default(), NOW, &mut |_, _| {}).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let noted: Vec<&str> = report.problems.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(noted, ["log/tile/0/000.p/1"]);
        assert_eq!(partial(disk).len(), 3);
    }
    try_append(&store, &mut head, b"two", &key).unwrap();
    assert_eq!(partial(store.disk()).len(), 2, "{:?}", partial(store.disk()));
    // On a disk a writer that died has left its mark.
    stage.keyring.disk().mark(".writing").unwrap();
    stage.prepared("alice").done();
    assert_eq!(partial(stage.keyring.disk()).len(), 2, "{:?}", partial(stage.keyring.disk()));
    // Also where the tile has become full since.
    for i in 0..300 {
        try_append(&store, &mut head, format!("entry {i}").as_bytes(), &key).unwrap();
    }
    let size = head.unwrap().checkpoint.size;
    let wanted = ["0/001", "1/000", "entries/001"].map(|t| (t, if t == "1/000" { 1 } else { size - 256 }));
    assert_eq!(partial(store.disk()), wanted.map(|(tile, width)| format!("log/tile/{tile}.p/{width}")).into());
}

fn sealed(fleet: &mut Fleet, stage: &Stage, address: &str, value: &str) -> Result<Vec<Placed>, OpsError> {
    let home = &stage.homes[&member("alice")];
    let plan = ops::plan_seal(&address.parse().unwrap(), fleet)?;
    let draft = ops::seal(&plan, value.as_bytes(), "sealed", None, home, fleet)?;
    ops::carry_out(home, fleet, vec![draft], None)
}

fn in_a_bucket(sandbox: &Sandbox) -> (Stage, Watched) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &[]);
    let bucket = Watched::new(Flaw::None);
    copied(&stage, &bucket);
    stage.keyring = Store::new(Disk::of_bucket(bucket.clone()));
    (stage, bucket)
}

#[track_caller]
fn index_of(placed: &[Placed]) -> u64 {
    let [Placed::Logged { verdict, .. }] = placed else { panic!("not logged: {placed:?}") };
    assert!(verdict.is_whole(), "{verdict:?}");
    verdict.index
}

fn a_change_that_lost_its_place_takes_the_next_one(sandbox: &Sandbox) {
    let (stage, _) = in_a_bucket(sandbox);
    let (mut first, mut second) = (stage.prepared("alice"), stage.prepared("alice"));
    let size = first.head().unwrap().checkpoint.size;
    assert_eq!(index_of(&sealed(&mut first, &stage, "fra1/a", "one").unwrap()), size);
    assert_eq!(index_of(&sealed(&mut first, &stage, "fra1/b", "two").unwrap()), size + 1);
    // It was opened before either, and has the value that was sealed meanwhile afterwards.
    assert_eq!(index_of(&sealed(&mut second, &stage, "fra1/c", "three").unwrap()), size + 2);
    assert_eq!(second.state(), stage.open().state());
    assert_eq!(second.head().unwrap().checkpoint.size, size + 3);
    for (address, value) in [("fra1/a", "one"), ("fra1/b", "two"), ("fra1/c", "three")] {
        assert_eq!(stage.opens("fra1", address), value);
    }
    stage.is_sound();
}

fn a_change_that_was_overtaken_is_refused(sandbox: &Sandbox) {
    let (stage, _) = in_a_bucket(sandbox);
    let (mut first, mut second) = (stage.prepared("alice"), stage.prepared("alice"));
    sealed(&mut first, &stage, "fra1/a", "one").unwrap();
    let refused = sealed(&mut second, &stage, "fra1/a", "another one").unwrap_err();
    let OpsError::Fleet(FleetError::Moved(why)) = &refused else { panic!("{refused}") };
    assert!(why.contains("fra1/a has changed meanwhile"), "{why}");
    // It stands where the log is, and can do it again.
    assert_eq!(second.state(), first.state());
    sealed(&mut second, &stage, "fra1/a", "another one").unwrap();
    assert_eq!(stage.opens("fra1", "fra1/a"), "another one");
    stage.is_sound();
}

fn writers_of_one_fleet_without_a_lock_lose_nothing(sandbox: &Sandbox) {
    let (stage, bucket) = in_a_bucket(sandbox);
    let base = stage.entries().len();
    bucket.shown.lock().unwrap().clear();
    let (writers, each) = (6, 4);
    let work = |number: usize| {
        let mut done = (0, 0);
        for i in 0..each {
            let mut fleet = stage.prepared("alice");
            index_of(&sealed(&mut fleet, &stage, &format!("fra1/own-{number}"), &format!("{number} {i}")).unwrap());
            done.0 += 1;
            match sealed(&mut fleet, &stage, "fra1/common", &format!("{number} {i}")) {
                Ok(placed) => done.1 += u64::from(index_of(&placed) > 0),
                Err(OpsError::Fleet(FleetError::Moved(_))) => {}
                Err(e) => panic!("{e}"),
            }
        }
        done
    };
    let done: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..writers).map(|number| scope.spawn(move || work(number))).collect();
        running.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let (own, common): (u64, u64) = done.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    eprintln!("faults::lockless: {own} own values, {common} common ones of {}", writers * each);
    assert_eq!((own, stage.entries().len() as u64), ((writers * each) as u64, base as u64 + own + common));
    stage.is_sound();
    let fleet = stage.open();
    assert!(fleet.void().is_empty(), "{:?}", fleet.void());
    assert_eq!(fleet.state().secrets[&"fra1/common".parse().unwrap()].version, common);
    for number in 0..writers {
        assert_eq!(stage.opens("fra1", &format!("fra1/own-{number}")), format!("{number} {}", each - 1));
    }
}
