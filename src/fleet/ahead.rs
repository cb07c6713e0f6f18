//! Looking ahead while a log is replayed: other threads read the coming entries and verify their signatures, with the
//! certificates that the fold has met so far. The fold itself stays one after the other, on the caller's thread.
//!
//! A short log is replayed without threads; so is any log on a machine with one core. A thread that is gone is no error:
//! its entries are then read and verified by the fold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use crate::openpgp::Certificate;
use crate::state::{Prepared, Preparer};
use crate::store::StoreError;

/// Entries that a thread takes at a time.
const CHUNK: usize = 32;
/// Chunks under way for each thread: one that it works on, one that waits.
const CHUNKS_EACH: usize = 2;
/// A log of fewer entries is not worth a thread.
const ENTRIES_MIN: u64 = 64;
/// More threads than this the fold could not keep busy: it does a quarter of the work itself.
const THREADS_MAX: usize = 4;

type Entries = Vec<Vec<u8>>;

struct Job {
    certificates: Vec<Arc<Certificate>>,
    entries: Arc<Entries>,
}

struct Worker {
    jobs: Sender<Job>,
    done: Receiver<Vec<Prepared>>,
    untold: Vec<Arc<Certificate>>,
}

/// Entries that are under way, and the number of the thread that has them.
type Chunk = (Option<usize>, Arc<Entries>);

/// Entries on their way to the fold, in their order.
pub(super) struct Ahead {
    workers: Vec<Worker>,
    turn: usize,
    /// Chunks of the newest bundle that nobody has yet.
    read: VecDeque<Entries>,
    under_way: VecDeque<Chunk>,
}

impl Ahead {
    /// Starts the threads for the log `origin` of `size` entries.
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, origin: &str, size: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if cores < 2 || size < ENTRIES_MIN { 0 } else { cores.min(THREADS_MAX) };
        let workers = (0..count).filter_map(|_| Preparer::new(origin)).filter_map(|preparer| {
            let ((jobs, orders), (results, done)) = (channel(), channel());
            let work = move || work(preparer, &orders, &results);
            // Without a thread more the fold does it alone.
            std::thread::Builder::new().spawn_scoped(scope, work).ok()?;
            Some(Worker { jobs, done, untold: Vec::new() })
        });
        Self { workers: workers.collect(), turn: 0, read: VecDeque::new(), under_way: VecDeque::new() }
    }

    /// The next entries for the fold; `None` at the end. `known` are the certificates that it has met since the last time;
    /// before it has met any, nothing is sent ahead.
    pub(super) fn next(
        &mut self,
        known: &[Arc<Certificate>],
        read: &mut dyn FnMut() -> Result<Option<Entries>, StoreError>,
    ) -> Result<Option<Vec<Prepared>>, StoreError> {
        for worker in &mut self.workers {
            worker.untold.extend(known.iter().cloned());
        }
        let useful = self.workers.first().is_some_and(|w| !w.untold.is_empty()) || self.turn > 0;
        let depth = if useful { self.workers.len() * CHUNKS_EACH } else { 1 };
        while self.under_way.len() < depth {
            if self.read.is_empty() {
                let Some(mut bundle) = read()? else { break };
                while bundle.len() > CHUNK {
                    let rest = bundle.split_off(CHUNK);
                    self.read.push_back(std::mem::replace(&mut bundle, rest));
                }
                self.read.push_back(bundle);
            }
            let Some(entries) = self.read.pop_front().map(Arc::new) else { break };
            let worker = if useful { self.send(&entries) } else { None };
            self.under_way.push_back((worker, entries));
        }
        let Some((worker, entries)) = self.under_way.pop_front() else { return Ok(None) };
        let prepared = worker.and_then(|w| self.workers.get(w)).and_then(|w| w.done.recv().ok());
        Ok(Some(prepared.unwrap_or_else(|| entries.iter().cloned().map(Prepared::plain).collect())))
    }

    fn send(&mut self, entries: &Arc<Entries>) -> Option<usize> {
        let number = self.turn % self.workers.len().max(1);
        let worker = self.workers.get_mut(number)?;
        self.turn += 1;
        let job = Job { certificates: std::mem::take(&mut worker.untold), entries: Arc::clone(entries) };
        worker.jobs.send(job).ok().map(|()| number)
    }
}

/// What a thread does until nobody sends any more.
fn work(mut preparer: Preparer, orders: &Receiver<Job>, results: &Sender<Vec<Prepared>>) {
    while let Ok(job) = orders.recv() {
        job.certificates.iter().for_each(|certificate| preparer.learn(certificate));
        if results.send(preparer.prepare(&job.entries)).is_err() {
            return;
        }
    }
}
