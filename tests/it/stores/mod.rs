//! Stores that a keyring can lie in: one suite for all of them, the probe, and stores that break their word.

#[cfg(feature = "store-object")]
mod azure;
#[cfg(feature = "store-object")]
mod gcs;
mod git;
#[cfg(feature = "store-object")]
mod s3;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keys::disk::{
    Access, Bucket, Condition, Created, Disk, EntryKind, Memory, Probed, Probing, RealFiles, Tag, is_address, probe,
};

use crate::support::{Sandbox, Test, tests};

mod here {
    use super::*;

    tests!["stores":
        memory_keeps_the_word_of_a_bucket,
        a_directory_and_a_bucket_do_the_same,
        a_store_that_keeps_its_word_passes,
        stores_that_break_their_word_are_found_out,
        a_store_that_does_not_answer_is_not_judged,
        addresses_of_stores_are_told_from_directories,
    ];
}

pub(crate) fn tests() -> Vec<Test> {
    #[cfg(feature = "store-object")]
    return [here::tests(), git::tests(), s3::tests(), azure::tests(), gcs::tests()].concat();
    #[cfg(not(feature = "store-object"))]
    [here::tests(), git::tests()].concat()
}

/// A fleet's life in a store, where `keys` runs the program on it with a home.
#[cfg(feature = "store-object")]
fn a_fleet_lives(sandbox: &Sandbox, keys: &dyn Fn(&str, &[&str]) -> crate::support::Ran) {
    for home in ["alice", "fra1"] {
        assert!(keys(home, &["store", "probe"]).ok().ends_with("held\n"));
    }
    keys("alice", &["init", "cdn.example", "--operator", "Alice <alice@ops.example>"]).ok();
    keys("fra1", &["enroll", "fra1", "--service", "nginx", "--endpoint", "198.51.100.1"]).ok();
    keys("alice", &["approve", "--all", "--yes"]).ok();
    let value = sandbox.write("value", "the value");
    keys("alice", &["seal", "nginx@fra1/tls.key", "--in", value.to_str().unwrap()]).ok();
    keys("alice", &["rotate", "--all", "--yes", "--reason", "staff change"]).ok();
    keys("fra1", &["sync"]).ok();
    assert_eq!(keys("fra1", &["open", "nginx@fra1/tls.key"]).ok(), "the value");
    assert!(keys("nobody", &["log", "verify"]).ok().starts_with("verified: "));
}

/// What every bucket has to do.
fn keeps_its_word(bucket: &dyn Bucket) {
    let get = |key: &str| bucket.get(key, 1 << 20).unwrap();
    assert!(get("a/one").is_none() && !bucket.delete("a/one").unwrap());
    assert!(bucket.get_part("a/one", 0, 4).unwrap().is_none());
    assert!(bucket.put("a/one", b"first", &Condition::Absent).unwrap());
    assert!(!bucket.put("a/one", b"second", &Condition::Absent).unwrap());
    let (bytes, first) = get("a/one").unwrap();
    assert_eq!(bytes, b"first");
    assert_eq!(get("a/one").unwrap().1, first);
    assert!(bucket.put("a/one", b"third", &Condition::Unchanged(first.clone())).unwrap());
    assert!(!bucket.put("a/one", b"fourth", &Condition::Unchanged(first.clone())).unwrap());
    assert!(!bucket.put("a/none", b"fifth", &Condition::Unchanged(first)).unwrap());
    assert_eq!(get("a/one").unwrap().0, b"third");
    assert!(bucket.put("a/one", b"0123456789", &Condition::Always).unwrap());
    // Bounds.
    assert_eq!(bucket.get("a/one", 10).unwrap().unwrap().0, b"0123456789");
    assert_eq!(bucket.get("a/one", 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    for (offset, length, part) in
        [(0, 4, "0123"), (8, 4, "89"), (9, 1, "9"), (10, 4, ""), (99, 4, ""), (3, 0, ""), (0, 10, "0123456789")]
    {
        assert_eq!(bucket.get_part("a/one", offset, length).unwrap().unwrap(), part.as_bytes(), "{offset} {length}");
    }
    // Empty objects, and names as the keyring has them.
    let names = ["a/b/two", "a/b/three", "ab/four", "log/tile/0/x001/x234/067.p/8", "proposals/f0@1/a-b_c.sig"];
    for name in names {
        assert!(bucket.put(name, b"", &Condition::Absent).unwrap());
        assert_eq!(get(name).unwrap().0, b"");
        assert_eq!(bucket.get_part(name, 0, 4).unwrap().unwrap(), b"");
    }
    let list = |prefix: &str| {
        let mut found = bucket.list(prefix).unwrap();
        found.sort();
        found
    };
    assert_eq!(list("a/"), ["a/b/three", "a/b/two", "a/one"]);
    assert_eq!(list("a"), ["a/b/three", "a/b/two", "a/one", "ab/four"]);
    assert_eq!(list("a/b/t"), ["a/b/three", "a/b/two"]);
    assert_eq!(list("none/"), [""; 0]);
    assert_eq!(list("").len(), names.len() + 1);
    let directory = |name: &str| {
        let mut found = bucket.directory(name).unwrap();
        found.sort();
        found
    };
    let (file, below) = (EntryKind::File, EntryKind::Directory);
    assert_eq!(directory("a"), [("b".to_owned(), below), ("one".to_owned(), file)]);
    assert_eq!(directory(""), ["a", "ab", "log", "proposals"].map(|n| (n.to_owned(), below)));
    assert_eq!(directory("none"), []);
    for key in list("") {
        assert!(bucket.delete(&key).unwrap() && !bucket.delete(&key).unwrap());
    }
    assert_eq!(list(""), [""; 0]);
}

fn memory_keeps_the_word_of_a_bucket(_: &Sandbox) {
    keeps_its_word(&Memory::default());
}

/// What the rest uses, above both.
fn does_as_a_disk_does(disk: &Disk) {
    let read = |path: &str| disk.read(path, 1 << 10).unwrap();
    assert_eq!(disk.create("a/one", b"first").unwrap(), Created::New);
    assert_eq!(disk.create("a/one", b"second").unwrap(), Created::Existed);
    assert!(!disk.replace_if("a/one", Some(b"second"), b"third").unwrap());
    assert!(disk.replace_if("a/one", Some(b"first"), b"third").unwrap());
    assert!(!disk.replace_if("a/one", None, b"fourth").unwrap());
    assert!(disk.replace_if("a/two", None, b"").unwrap());
    assert_eq!((read("a/one").unwrap(), read("a/two").unwrap(), read("a/three")), (b"third".to_vec(), vec![], None));
    assert_eq!(disk.read("a/one", 4).unwrap_err().source.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(disk.read_part("a/one", 3, 9).unwrap().unwrap(), b"rd");
    disk.rename("a/one", "b/c/one").unwrap();
    disk.replace("b/two", b"2").unwrap();
    let found: Vec<String> = disk.walk("").unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(found, ["a/two", "b/c/one", "b/two"]);
    assert_eq!(
        disk.list("b").unwrap(),
        [("c", EntryKind::Directory), ("two", EntryKind::File)].map(|(n, k)| (n.to_owned(), k))
    );
    let (length, mut reader) = disk.reader("b/c/one").unwrap().unwrap();
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    assert_eq!((length, bytes.as_slice()), (5, b"third".as_slice()));
    assert!(disk.reader("b/c/none").unwrap().is_none());
    for path in found {
        assert!(disk.remove(&path).unwrap() && !disk.remove(&path).unwrap());
    }
}

fn a_directory_and_a_bucket_do_the_same(sandbox: &Sandbox) {
    does_as_a_disk_does(&Disk::of_bucket(Memory::default()));
    does_as_a_disk_does(&Disk::new(RealFiles::create(&sandbox.path("store"), Access::Public).unwrap()));
}

/// How a store breaks its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// It creates over what is there.
    IgnoresIfNoneMatch,
    /// It replaces what has changed.
    IgnoresIfMatch,
    /// It looks, and writes some time after.
    Races,
    /// It says that it wrote, and did not.
    Forgets,
    /// It does not answer.
    Silent,
}

struct Sabotaged {
    memory: Memory,
    flaw: Flaw,
    writes: Arc<Mutex<usize>>,
}

impl Bucket for Sabotaged {
    fn get(&self, key: &str, limit: usize) -> io::Result<Option<(Vec<u8>, Tag)>> {
        self.memory.get(key, limit)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.memory.list(prefix)
    }

    fn put(&self, key: &str, bytes: &[u8], condition: &Condition) -> io::Result<bool> {
        let number = {
            let mut writes = self.writes.lock().unwrap();
            *writes += 1;
            *writes
        };
        let always = Condition::Always;
        match (self.flaw, condition) {
            (Flaw::Silent, _) if number > 40 => Err(io::ErrorKind::TimedOut.into()),
            (Flaw::IgnoresIfNoneMatch, Condition::Absent) | (Flaw::IgnoresIfMatch, Condition::Unchanged(_)) => {
                self.memory.put(key, bytes, &always)
            }
            (Flaw::Races, Condition::Absent) => {
                if self.memory.get(key, 64)?.is_some() {
                    return Ok(false);
                }
                std::thread::sleep(Duration::from_millis(5));
                self.memory.put(key, bytes, &always)
            }
            (Flaw::Forgets, Condition::Absent) if number.is_multiple_of(50) => Ok(true),
            _ => self.memory.put(key, bytes, condition),
        }
    }

    fn delete(&self, key: &str) -> io::Result<bool> {
        self.memory.delete(key)
    }

    fn name(&self) -> String {
        format!("{:?}", self.flaw)
    }
}

fn tried(flaw: Flaw) -> io::Result<Probed> {
    let bucket = Sabotaged { memory: Memory::default(), flaw, writes: Arc::default() };
    bucket.memory.put("probed/other", b"stays", &Condition::Always).unwrap();
    let probed = probe(&bucket, "probe/1/", Probing::default());
    assert_eq!(bucket.memory.list("").unwrap(), ["probed/other"], "it tidied up");
    probed
}

fn a_store_that_keeps_its_word_passes(_: &Sandbox) {
    let memory = Memory::default();
    let probed = probe(&memory, "probe/1/", Probing::default()).unwrap();
    assert!(probed.held(), "{probed:?}");
    assert_eq!((probed.created, probed.appended, probed.counted), (20, 32, 32));
    assert_eq!(memory.list("").unwrap(), [""; 0]);
}

fn stores_that_break_their_word_are_found_out(_: &Sandbox) {
    let ignores = tried(Flaw::IgnoresIfNoneMatch).unwrap();
    assert!(ignores.double_wins >= 20 * 16, "{ignores:?}");
    let races = tried(Flaw::Races).unwrap();
    assert!(!races.held() && races.double_wins > 0, "{races:?}");
    let replaces = tried(Flaw::IgnoresIfMatch).unwrap();
    assert!(!replaces.held() && replaces.counted_lost > 0 && replaces.double_wins == 0, "{replaces:?}");
    let forgets = tried(Flaw::Forgets).unwrap();
    assert!(!forgets.held(), "{forgets:?}");
}

fn a_store_that_does_not_answer_is_not_judged(_: &Sandbox) {
    assert_eq!(tried(Flaw::Silent).unwrap_err().kind(), io::ErrorKind::TimedOut);
}

fn addresses_of_stores_are_told_from_directories(sandbox: &Sandbox) {
    for address in ["s3://fleets/cdn", "az://fleets", "gs://fleets/a/b"] {
        assert!(is_address(address), "{address}");
    }
    for path in ["fleet", "./s3:/fleets", "/s3://fleets", "http://fleets/cdn", "s3:fleets"] {
        assert!(!is_address(path), "{path}");
    }
    // A directory needs no probe.
    sandbox.keys(&["--fleet", "fleet", "store", "probe"]).exits(2);
}
