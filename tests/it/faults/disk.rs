//! A machine in memory whose power can fail between any two file operations.
//!
//! [`SimFiles`] keeps two truths apart: what processes see, and what is on the platter. A file's content reaches the
//! platter by `sync_file`, a directory's names by `sync_directory`; until then every effect may be there or not after a
//! power cut, each for itself and in any order, and a file that was not synced may be empty, cut short, zeros or whole.
//! Two things are taken from POSIX: a rename happens whole or not at all, and a file that lost its content keeps its name.
//!
//! A [`Machine`] is several such directories (a keyring, some homes) under one power switch and one count of operations.
//! [`Machine::fork`] is the machine after a power cut, [`Machine::killed`] the one after SIGKILL, which loses nothing but
//! the process. A [`Flaw`] makes the disk lie, to show that the checks above it would notice.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use keys::digest::Digest;
use keys::disk::Disk;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// What goes wrong, and when. Operations are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// This one operation fails.
    Once { at: u64, errno: Errno },
    /// This and all later operations fail that the error can meet.
    From { at: u64, errno: Errno },
}

/// The errors that a disk gives, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errno {
    Io = 5,
    NoSpace = 28,
    ReadOnly = 30,
}

impl Errno {
    pub(crate) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(self as i32)
    }

    /// Whether an operation meets this error when the whole disk has it: a full disk is still read, a read-only one, too.
    fn meets(self, operation: Operation) -> bool {
        use Operation::{Link, MakeDirectory, Rename, SyncFile, Write};
        match self {
            Self::Io => true,
            Self::NoSpace => matches!(operation, Write | SyncFile | Link | Rename | MakeDirectory),
            Self::ReadOnly => operation != Operation::Look,
        }
    }
}

/// How a disk may be broken, so that whoever checks what it leaves must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// None.
    None,
    /// `sync_file` says yes and does nothing, and names are durable at once: the name comes before the content.
    NameBeforeContent,
    /// `sync_directory` says yes and does nothing.
    NamesNeverSynced,
    /// A rename takes the old file away in one step and puts the new one there in another.
    RenameInTwoSteps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Look,
    Write,
    SyncFile,
    SyncDirectory,
    Link,
    Rename,
    Unlink,
    MakeDirectory,
    RemoveDirectory,
}

type Names = BTreeMap<String, usize>;

#[derive(Debug, Clone)]
enum Node {
    File { bytes: Arc<[u8]>, hash: Digest, content: Content },
    Directory { now: Names, durable: Names },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// On the platter.
    Durable,
    /// In the page cache.
    Cached,
    /// In the page cache and given up: an fsync failed, and no later one brings it to the platter.
    GivenUp,
}

/// A name that is to mean another node, or none.
#[derive(Debug, Clone)]
struct Part {
    directory: usize,
    name: String,
    node: Option<usize>,
}

/// What is not on the platter yet; the parts of a rename go together, the new name first.
type Effect = Vec<Part>;

#[derive(Debug, Clone, Default)]
struct World {
    nodes: Vec<Arc<Node>>,
    roots: BTreeMap<String, usize>,
    effects: Vec<Effect>,
}

#[derive(Debug)]
struct Inner {
    world: World,
    flaw: Flaw,
    fault: Fault,
    operations: u64,
    writes: BTreeSet<u64>,
    moments: Option<Vec<World>>,
    locks: BTreeSet<usize>,
}

/// Directories under one power switch.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Mutex<Inner>>);

/// One of them, as the program sees it.
#[derive(Clone)]
pub(crate) struct SimFiles {
    machine: Machine,
    root: usize,
    label: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::of(World::default(), Flaw::None)
    }

    fn of(world: World, flaw: Flaw) -> Self {
        let (fault, locks) = (Fault::None, BTreeSet::new());
        Self(Arc::new(Mutex::new(Inner {
            world,
            flaw,
            fault,
            operations: 0,
            writes: BTreeSet::new(),
            moments: None,
            locks,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The directory with this name, made if it is not there; it is itself always durable.
    pub(crate) fn disk(&self, name: &str) -> Disk {
        let mut inner = self.inner();
        let world = &mut inner.world;
        let root = match world.roots.get(name) {
            Some(root) => *root,
            None => {
                let root = world.add(Node::Directory { now: Names::new(), durable: Names::new() });
                world.roots.insert(name.to_owned(), root);
                root
            }
        };
        Disk::new(SimFiles { machine: self.clone(), root, label: name.to_owned() })
    }

    /// Empties a directory, as somebody does who begins again.
    pub(crate) fn clear(&self, name: &str) {
        self.inner().world.roots.remove(name);
    }

    pub(crate) fn set_flaw(&self, flaw: Flaw) {
        self.inner().flaw = flaw;
    }

    /// Sets what goes wrong; the count of operations begins anew.
    pub(crate) fn set_fault(&self, fault: Fault) {
        let mut inner = self.inner();
        (inner.fault, inner.operations) = (fault, 0);
        inner.writes.clear();
    }

    /// How many operations there were since the fault was set.
    pub(crate) fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// Which of them were to change something.
    pub(crate) fn writes(&self) -> BTreeSet<u64> {
        self.inner().writes.clone()
    }

    /// Runs `work` and gives the machine as it was after each of its operations that changed something.
    pub(crate) fn recorded<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<Self>) {
        self.inner().moments = Some(Vec::new());
        let result = work();
        let mut inner = self.inner();
        let moments = inner.moments.take().unwrap_or_default();
        (result, moments.into_iter().map(|world| Self::of(world, inner.flaw)).collect())
    }

    /// The machine after a power cut. `seed` decides what survives: 0 only what is durable, 1 everything, 2 all names with
    /// nothing in unsynced files, 3 all names with torn files, others each effect by a coin.
    pub(crate) fn fork(&self, seed: u64) -> Self {
        let inner = self.inner();
        Self::of(inner.world.survivors(seed), inner.flaw)
    }

    /// The machine after the process was killed: all is as it was, the locks are free.
    pub(crate) fn killed(&self) -> Self {
        let inner = self.inner();
        Self::of(inner.world.clone(), inner.flaw)
    }

    /// A number that is the same for machines with the same files in them, those aside whose names `skip` says.
    pub(crate) fn fingerprint(&self, skip: fn(&str) -> bool) -> u64 {
        let inner = self.inner();
        let mut hasher = DefaultHasher::new();
        for (name, root) in &inner.world.roots {
            hasher.write(name.as_bytes());
            inner.world.hash(*root, skip, &mut hasher);
        }
        hasher.finish()
    }
}

impl World {
    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(Arc::new(node));
        self.nodes.len() - 1
    }

    fn names(&self, directory: usize) -> io::Result<&Names> {
        match &*self.nodes[directory] {
            Node::Directory { now, .. } => Ok(now),
            Node::File { .. } => Err(io::Error::from_raw_os_error(20)),
        }
    }

    fn directory(&self, root: usize, path: &str) -> io::Result<usize> {
        path.split('/')
            .filter(|_| !path.is_empty())
            .try_fold(root, |at, name| self.names(at)?.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into()))
    }

    /// The directory of a path, the last name, and the node it means.
    fn find<'a>(&self, root: usize, path: &'a str) -> io::Result<(usize, &'a str, Option<usize>)> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let directory = self.directory(root, above)?;
        Ok((directory, name, self.names(directory)?.get(name).copied()))
    }

    fn is_directory(&self, node: usize) -> bool {
        matches!(&*self.nodes[node], Node::Directory { .. })
    }

    /// Makes a change visible, and leaves it to a later sync to make it durable.
    fn change(&mut self, parts: Effect) {
        for part in &parts {
            if let Node::Directory { now, .. } = Arc::make_mut(&mut self.nodes[part.directory]) {
                set(now, part);
            }
        }
        self.effects.push(parts);
    }

    /// Brings a directory's names to the platter. Of a rename into it the new name alone, of one out of it both halves:
    /// the name may be in two places then, but never in none.
    fn sync_directory(&mut self, directory: usize) {
        let mut rest = Vec::new();
        for effect in std::mem::take(&mut self.effects) {
            let taken = effect.iter().rposition(|p| p.directory == directory).map_or(0, |last| last + 1);
            let (durable, left) = effect.split_at(taken);
            for part in durable {
                // What came before under this name is past, also if its directory was not synced.
                rest.iter_mut().for_each(|e: &mut Effect| {
                    e.retain(|p| (p.directory, &p.name) != (part.directory, &part.name));
                });
                if let Node::Directory { durable, .. } = Arc::make_mut(&mut self.nodes[part.directory]) {
                    set(durable, part);
                }
            }
            rest.push(left.to_vec());
        }
        rest.retain(|effect| !effect.is_empty());
        self.effects = rest;
    }

    fn survivors(&self, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = self.clone();
        for effect in std::mem::take(&mut world.effects) {
            let kept = match seed {
                0 => false,
                1..=3 => true,
                _ => rng.random_bool(0.5),
            };
            for part in effect.iter().filter(|_| kept) {
                if let Node::Directory { durable, .. } = Arc::make_mut(&mut world.nodes[part.directory]) {
                    set(durable, part);
                }
            }
        }
        for node in &mut world.nodes {
            match Arc::make_mut(node) {
                Node::Directory { now, durable } => now.clone_from(durable),
                Node::File { content: Content::Durable, .. } => {}
                Node::File { bytes, hash, content } => {
                    let whole = *content == Content::Cached;
                    *bytes = match seed {
                        0 | 2 => Arc::from([]),
                        1 if whole => Arc::clone(bytes),
                        1 | 3 => Arc::from(&bytes[..bytes.len() / 2]),
                        _ => remains(bytes, whole, &mut rng),
                    };
                    (*hash, *content) = (Digest::of(bytes), Content::Durable);
                }
            }
        }
        world
    }

    fn hash(&self, node: usize, skip: fn(&str) -> bool, hasher: &mut DefaultHasher) {
        match &*self.nodes[node] {
            Node::File { hash, .. } => hasher.write(&hash.0),
            Node::Directory { now, .. } => {
                for (name, node) in now.iter().filter(|(name, _)| !skip(name)) {
                    hasher.write(name.as_bytes());
                    self.hash(*node, skip, hasher);
                }
                hasher.write(b"/");
            }
        }
    }
}

fn set(names: &mut Names, part: &Part) {
    match part.node {
        Some(node) => drop(names.insert(part.name.clone(), node)),
        None => drop(names.remove(&part.name)),
    }
}

/// What may be left of a file that was not synced.
fn remains(bytes: &Arc<[u8]>, whole: bool, rng: &mut StdRng) -> Arc<[u8]> {
    match rng.random_range(0..4) {
        0 => Arc::from([]),
        1 => Arc::from(&bytes[..rng.random_range(0..=bytes.len().saturating_sub(1))]),
        2 => Arc::from(vec![0; bytes.len()]),
        _ if whole => Arc::clone(bytes),
        _ => Arc::from([]),
    }
}

impl Inner {
    /// Counts an operation, and says whether it fails.
    fn begin(&mut self, operation: Operation) -> io::Result<()> {
        self.operations += 1;
        let now = self.operations;
        if operation != Operation::Look {
            self.writes.insert(now);
        }
        match self.fault {
            Fault::Once { at, errno } if now == at && errno.meets(operation) => Err(errno.error()),
            Fault::From { at, errno } if now >= at && errno.meets(operation) => Err(errno.error()),
            _ => Ok(()),
        }
    }

    fn changed(&mut self) {
        if let Some(moments) = &mut self.moments {
            moments.push(self.world.clone());
        }
    }
}
