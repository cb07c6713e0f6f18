//! Bringing a keyring up to date. In order: heads; commits, and what their entries refer to; a replay of all of it over the
//! keyring that is here; sealed files; and then, under the keyring's lock, what was laid down joins it (`crate::fleet`,
//! arrive.rs). A crash before that leaves the keyring as it was, and what was laid down for the next pull to go on with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::base;
use super::brought::{Brought, Wanted};
use super::ca::Mirrors;
use super::heads::{Heads, check, unsound};
use super::log::{self, From};
use super::mirror::{Mirror, Mirrored};
use super::waiting::{self, BringError};
use super::{Fault, MirrorError, PullError};
use crate::digest::Digest;
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::fleet::{Fleet, FleetError, Known, fork};
use crate::limits::KEY_FILE_BYTES_MAX;
use crate::log::checkpoint::Checkpoint;
use crate::log::evidence::Evidence;
use crate::name::MemberName;
use crate::state::Void;
use crate::store::{
    CHECKPOINT, Growing, HEAD, SignedHead, Store, StoreError, issued_serial, read_newest, root_at, staged_path,
};
use crate::time::Time;

/// Where what was brought is laid down, beside the keyring.
pub const LAID: &str = ".pull";
/// How long one mirror may take for all of it.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often one mirror is asked anew, because its log has gone on meanwhile.
const TRIES: usize = 3;
/// How long a lock is waited for: the keyring's, and that of whoever pulls into the same directory.
const LOCK_TRIES: usize = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Which sealed files are brought. The log, and all that its replay needs, always is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Want {
    /// All of them: for a mirror, an authority, an operator.
    #[default]
    All,
    /// Those that one of these can read: for a machine.
    ReadBy(BTreeSet<MemberName>),
}

impl Want {
    fn wants<'m>(&self, mut readers: impl Iterator<Item = &'m MemberName>) -> bool {
        match self {
            Self::All => true,
            Self::ReadBy(members) => readers.any(|reader| members.contains(reader)),
        }
    }
}

/// What is to be brought, and where.
#[derive(Debug)]
pub struct Pull<'a> {
    /// The keyring.
    pub keyring: &'a Disk,
    /// Where what was brought is laid down: a directory of its own, on no other's way.
    pub laid: &'a Disk,
    /// What is known before the keyring is read. The pin is what tells the right fleet where nothing is here.
    pub known: &'a Known,
    /// The clock.
    pub now: Time,
    /// Which sealed files.
    pub want: Want,
    /// How long one mirror may take for all of it.
    pub patience: Duration,
}

/// What came of the proposals and requests that wait.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Files that wait at the mirror, and now here.
    pub files: usize,
    /// Proposals that waited here, and will never be in the log: they are gone.
    pub dropped: Vec<(Digest, Void)>,
}

/// What came of it.
#[derive(Debug)]
pub struct Pulled {
    /// The mirror; none if what is here was as new as any.
    pub from: Option<String>,
    /// How many entries were here.
    pub before: u64,
    /// How many are.
    pub after: u64,
    /// Files that were sent.
    pub files: usize,
    /// Bytes that were sent.
    pub bytes: u64,
    /// What waits, apart from the log.
    pub waiting: Waiting,
    /// What was wrong with mirrors.
    pub faults: Vec<Fault>,
}

/// Brings the keyring of the fleet in `directory` up to date from the first of these addresses that has something newer.
/// `known.pin` tells the right fleet where nothing is here yet.
///
/// # Errors
/// As [`pull_from`].
pub fn pull(from: &Mirrors, directory: &Path, known: &Known, now: Time, want: Want) -> Result<Pulled, PullError> {
    let disk = |name: &str| {
        let path = directory.join(name);
        let shown = || crate::text::shown(&path.display().to_string()).to_string();
        let files = RealFiles::create(&path, Access::Public);
        files.map(Disk::new).map_err(|source| DiskError { doing: "open", path: shown(), source })
    };
    let mut mirrors = Vec::new();
    let mut faults = Vec::new();
    for address in &from.addresses {
        match from.open(address) {
            Ok(mirror) => mirrors.push(mirror),
            Err(error) => {
                faults.push(Fault { mirror: crate::text::shown(address).to_string(), error, evidence: None });
            }
        }
    }
    if mirrors.is_empty() {
        return Err(if faults.is_empty() { PullError::NoMirrors } else { PullError::Nowhere(faults) });
    }
    let both = ["keyring", LAID].map(|name| directory.join(name));
    let attempt = || {
        let new: Vec<PathBuf> = both.iter().flat_map(|path| missing(path)).collect();
        let (keyring, laid) = (disk("keyring")?, disk(LAID)?);
        let pull = Pull { keyring: &keyring, laid: &laid, known, now, want: want.clone(), patience: PATIENCE };
        Ok::<_, PullError>((pull_from(&mirrors, &pull), new))
    };
    let (mut pulled, mut new) = attempt()?;
    if pulled.is_err() && !both.iter().all(|path| path.is_dir()) {
        // Somebody whose pull brought nothing took his new directories away while we waited for him.
        (pulled, new) = attempt()?;
    }
    match pulled {
        Ok(pulled) => Ok(Pulled { faults: faults.into_iter().chain(pulled.faults).collect(), ..pulled }),
        Err(e) => {
            // Not if it is somebody else who goes on there.
            if matches!(e, PullError::Nowhere(_) | PullError::NoPin) {
                take_back(&new);
            }
            Err(match e {
                PullError::Nowhere(more) => PullError::Nowhere(faults.into_iter().chain(more).collect()),
                e => e,
            })
        }
    }
}

/// The directories that would have to be made for this one, the deepest first.
fn missing(path: &Path) -> Vec<PathBuf> {
    let is_missing = |p: &&Path| !p.as_os_str().is_empty() && p.symlink_metadata().is_err();
    path.ancestors().take_while(is_missing).map(Path::to_owned).collect()
}

/// Removes directories that were made and have stayed empty.
fn take_back(made: &[PathBuf]) {
    for path in made {
        let _ = std::fs::remove_dir(path);
    }
}

/// The same, from mirrors that are open, between disks.
///
/// # Errors
/// [`PullError`]; the keyring is then as it was, or, if the disk failed while what was brought joined it, as it was or new, and
/// the next pull or change makes the rest right.
pub fn pull_from(mirrors: &[Arc<dyn Mirror>], pull: &Pull<'_>) -> Result<Pulled, PullError> {
    if mirrors.is_empty() {
        return Err(PullError::NoMirrors);
    }
    let Some(_alone) = patiently(pull.laid)? else { return Err(PullError::Busy) };
    let here = Here::read(pull)?;
    let mut faults = Vec::new();
    let mut same = None;
    for mirror in mirrors {
        match here.pull_from(mirror, pull) {
            Ok(Outcome::Brought(pulled)) => {
                let waiting = bring_waiting(mirror.as_ref(), pull, &mut faults)?;
                return Ok(Pulled { faults, waiting, ..*pulled });
            }
            Ok(Outcome::Same) => same = same.or(Some(mirror)),
            Err(Failed::Here(e)) => return Err(e),
            Err(Failed::There(error)) => faults.push(here.fault(mirror, error, pull)),
        }
    }
    match same {
        Some(mirror) => {
            let size = here.size();
            let waiting = bring_waiting(mirror.as_ref(), pull, &mut faults)?;
            Ok(Pulled { from: None, before: size, after: size, files: 0, bytes: 0, waiting, faults })
        }
        None => Err(PullError::Nowhere(faults)),
    }
}

/// Brings what waits at the mirror, after what is in its log.
fn bring_waiting(mirror: &dyn Mirror, pull: &Pull<'_>, faults: &mut Vec<Fault>) -> Result<Waiting, PullError> {
    let count = match waiting::bring(mirror, pull) {
        Ok(count) => count,
        Err(BringError::Here(e)) => return Err(e),
        Err(BringError::There(error)) => {
            faults.push(Fault { mirror: mirror.name(), error, evidence: None });
            0
        }
    };
    Ok(Waiting { files: count, dropped: waiting::settle(pull)? })
}

/// What one mirror came to.
enum Outcome {
    Brought(Box<Pulled>),
    Same,
}

/// Whether it is the mirror that failed, or we.
enum Failed {
    There(Box<Shown>),
    Here(PullError),
}

/// What is wrong with a mirror, and the head by which it is shown.
struct Shown {
    error: MirrorError,
    head: Option<SignedHead>,
}

impl std::convert::From<MirrorError> for Failed {
    fn from(error: MirrorError) -> Self {
        match error {
            MirrorError::Disk(e) => Self::Here(e.into()),
            error => Self::There(Box::new(Shown { error, head: None })),
        }
    }
}

impl<E: Into<PullError>> std::convert::From<E> for Failed {
    fn from(e: E) -> Self {
        Self::Here(e.into())
    }
}

/// The keyring that is here.
struct Here {
    store: Store,
    fleet: Option<Fleet>,
    /// A pull or a writer was interrupted.
    interrupted: bool,
    /// This machine has seen more than is here.
    is_short: bool,
}

impl Here {
    fn read(pull: &Pull<'_>) -> Result<Self, PullError> {
        let store = Store::new(pull.keyring.clone());
        let open = |known: &Known| Fleet::open(store.clone(), known, pull.now, &mut |_, _| {});
        let mut opened = open(pull.known);
        let is_short = matches!(opened, Err(FleetError::Rollback { .. }));
        if is_short {
            // A keyring that has lost something is to get it back; what is brought is compared with what was seen.
            opened = open(&Known { seen: None, seen_head: None, ..pull.known.clone() });
        }
        let fleet = match opened {
            Ok(fleet) => Some(fleet),
            Err(FleetError::Store(StoreError::NoKeyring(_))) if pull.known.pin.is_some() => None,
            Err(FleetError::Store(StoreError::NoKeyring(_))) => return Err(PullError::NoPin),
            Err(e) => return Err(e.into()),
        };
        let interrupted = Fleet::was_interrupted(&store)?;
        Ok(Self { store, fleet, interrupted, is_short })
    }

    fn size(&self) -> u64 {
        self.fleet.as_ref().and_then(Fleet::head).map_or(0, |head| head.checkpoint.size)
    }

    fn published_size(&self) -> u64 {
        self.fleet.as_ref().and_then(Fleet::published).map_or(0, |p| p.checkpoint.size)
    }

    /// Asks one mirror, again if its log has gone on while it was asked.
    fn pull_from(&self, mirror: &Arc<dyn Mirror>, pull: &Pull<'_>) -> Result<Outcome, Failed> {
        let brought = Brought::new(mirror.as_ref(), pull.laid, pull.patience);
        let mut asked = Heads::ask(&brought)?;
        for attempt in 1.. {
            let result = self.bring(&brought, mirror, &asked, pull);
            let Err(Failed::There(shown)) = result else { return result };
            // What an interrupted pull has laid down may have been another log's.
            let had_leftovers = !pull.laid.list("log/commit")?.is_empty();
            clear(pull.laid, "log")?;
            let again = match attempt < TRIES && !matches!(shown.error, MirrorError::Unreachable(_)) {
                true => Heads::ask(&brought).ok(),
                false => None,
            };
            match again.filter(|again| had_leftovers || again.bytes != asked.bytes) {
                Some(again) => asked = again,
                None => {
                    let head = Some(asked.newest.clone());
                    return Err(Failed::There(Box::new(Shown { head, ..*shown })));
                }
            }
        }
        Ok(Outcome::Same)
    }

    fn bring(
        &self,
        brought: &Brought<'_>,
        mirror: &Arc<dyn Mirror>,
        heads: &Heads,
        pull: &Pull<'_>,
    ) -> Result<Outcome, Failed> {
        let (_, head) = &heads.newest;
        if let Some(fleet) = self.fleet.as_ref().filter(|fleet| fleet.log() != head.origin) {
            let problem = format!("it is of the log {}, not of {}", head.origin, fleet.log());
            return Err(MirrorError::wrong(CHECKPOINT, problem).into());
        }
        self.compare(head)?;
        for leftover in [HEAD, CHECKPOINT] {
            pull.laid.remove(leftover)?;
        }
        clear(pull.laid, "log/tile")?;
        let base = match pull.known.snapshot.filter(|_| self.fleet.is_none()) {
            Some(hash) => Some(base::bring(brought, Mirrored::new(Arc::clone(mirror), brought.left()?), hash, head)?),
            None => None,
        };
        let (growing, keys) = match base {
            Some(base) => (base.growing, base.keys),
            None => (self.growing(), self.fleet.as_ref().map(Fleet::commit_keys).unwrap_or_default()),
        };
        let pin = pull.known.pin.filter(|_| self.fleet.is_none());
        let from = From { growing, keys, pin, here: &self.store, states: pull.want == Want::All };
        let signers = log::bring(brought, from, head)?;
        // What an interrupted pull has laid down and this log does not have is another log's.
        for (path, _) in pull.laid.walk("log/commit")? {
            if !signers.iter().any(|(commit, _)| *commit == path) {
                pull.laid.remove(&path)?;
            }
        }
        let has_new_head = self.lay_heads(heads, pull.laid)?;
        let open = || {
            let over = Store::new(pull.laid.over(pull.keyring));
            let fleet = Fleet::open(over, pull.known, pull.now, &mut |_, _| {}).map_err(unsound)?;
            check(&fleet, &signers).map(|()| fleet)
        };
        let opened = if has_new_head || self.is_short { Some(open()?) } else { None };
        let Some(fleet) = opened.as_ref().or(self.fleet.as_ref()) else {
            return Err(MirrorError::Missing(format!("keyring/{CHECKPOINT}")).into());
        };
        self.secrets(brought, fleet, pull)?;
        self.issued(brought, fleet, pull)?;
        if !has_new_head && !self.interrupted && pull.laid.walk("objects")?.is_empty() {
            return Ok(Outcome::Same);
        }
        let (before, after) = (self.size(), head.size);
        let fleet = opened.map_or_else(open, Ok)?;
        self.join(fleet, pull)?;
        let (files, bytes) = brought.sent();
        let from = Some(brought.name());
        Ok(Outcome::Brought(Box::new(Pulled {
            from,
            before,
            after,
            files,
            bytes,
            waiting: Waiting::default(),
            faults: Vec::new(),
        })))
    }

    fn growing(&self) -> Growing {
        let head = self.fleet.as_ref().and_then(Fleet::head);
        head.map(|head| Growing::after(head.edge.clone(), head.bundle.clone())).unwrap_or_default()
    }

    /// What can be said of a head that is no larger than ours.
    fn compare(&self, head: &Checkpoint) -> Result<(), MirrorError> {
        let here = self.size();
        if head.size > here {
            return Ok(());
        }
        // What comes before a snapshot was never here to be compared.
        if head.size < self.fleet.as_ref().map_or(0, Fleet::began) {
            return Err(MirrorError::Behind { size: head.size, here });
        }
        match root_at(&self.store, head.size, here) {
            Ok(root) if root != head.root => Err(MirrorError::Fork { size: head.size }),
            Ok(_) if head.size < here => Err(MirrorError::Behind { size: head.size, here }),
            Ok(_) => Ok(()),
            Err(e) => Err(MirrorError::Unsound(e.into())),
        }
    }

    /// Lays down the heads that say more than ours; gives whether there is one.
    fn lay_heads(&self, heads: &Heads, laid: &Disk) -> Result<bool, Failed> {
        let mut any = false;
        for (path, bytes) in &heads.bytes {
            let size =
                heads.published.as_ref().filter(|_| *path == CHECKPOINT).map_or(heads.newest.1.size, |p| p.1.size);
            let ours = if *path == CHECKPOINT { self.published_size() } else { self.size() };
            let is_newer = size > ours || (*path == CHECKPOINT && size == ours && self.is_fresher(heads));
            if is_newer {
                laid.replace(path, bytes)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Whether a quorum of cosigners has called the same head the newest at a later time than we know of.
    fn is_fresher(&self, heads: &Heads) -> bool {
        let (Some(ours), Some((note, _))) = (self.fleet.as_ref().and_then(Fleet::published), &heads.published) else {
            return false;
        };
        let time = ours.publication.as_ref().and_then(|p| Some(p.judge(note)).filter(|c| c.missing.is_empty())?.time);
        ours.note.text == note.text && time > ours.time()
    }

    /// Brings the sealed files that are wanted and not here.
    fn secrets(&self, brought: &Brought<'_>, fleet: &Fleet, pull: &Pull<'_>) -> Result<(), Failed> {
        let had: BTreeSet<_> = match &self.fleet {
            Some(here) => here.sealed_files()?.into_iter().map(|s| (s.path, s.file)).collect(),
            None => BTreeSet::new(),
        };
        let mut wanted = Vec::new();
        for sealed in fleet.sealed_files().map_err(unsound)? {
            if !pull.want.wants(sealed.readers.iter()) {
                continue;
            }
            let (path, staged) = (sealed.path, staged_path(&sealed.file));
            let is_there = |path: &str| Ok::<_, Failed>(pull.keyring.read_part(path, 0, 0)?.is_some());
            let old = (path, sealed.file);
            if is_there(&staged)? || (had.contains(&old) && is_there(&old.0)?) {
                continue;
            }
            let at = vec![old.0, staged.clone()];
            wanted.push(Wanted { path: staged, at, digest: sealed.file, limit: sealed.limit });
        }
        match brought.all(&wanted)?.pop() {
            Some(path) => Err(MirrorError::Missing(path).into()),
            None => Ok(()),
        }
    }

    /// Brings SSH certificates. One that the mirror does not have can be made again from its entry.
    fn issued(&self, brought: &Brought<'_>, fleet: &Fleet, pull: &Pull<'_>) -> Result<(), Failed> {
        for (member, path) in fleet.issued_missing() {
            if !pull.want.wants(std::iter::once(&member)) {
                continue;
            }
            let Some(serial) = issued_serial(&path) else { continue };
            brought.file(&path, KEY_FILE_BYTES_MAX, |bytes| match fleet.is_issued(serial, bytes) {
                true => Ok(()),
                false => Err(MirrorError::wrong(&path, "it is not the SSH certificate that its entry decided")),
            })?;
        }
        Ok(())
    }

    /// Lets what was laid down join the keyring.
    fn join(&self, fleet: Fleet, pull: &Pull<'_>) -> Result<(), PullError> {
        let _lock = locked(pull.keyring)?;
        let now = match read_newest(&self.store) {
            Ok((_, (_, checkpoint))) => checkpoint.size,
            Err(StoreError::NoKeyring(_)) => 0,
            Err(e) => return Err(e.into()),
        };
        if now != self.size() {
            return Err(PullError::Moved);
        }
        fleet.arrive(pull.laid, &self.store, self.published_size())?;
        clear(pull.laid, "")?;
        Ok(())
    }

    /// Names what is wrong with a mirror, with what shows it to others.
    fn fault(&self, mirror: &Arc<dyn Mirror>, shown: Box<Shown>, pull: &Pull<'_>) -> Fault {
        let Shown { error, head } = *shown;
        let evidence = head.and_then(|head| self.evidence(mirror, &error, head, pull));
        Fault { mirror: mirror.name(), error, evidence: evidence.map(Box::new) }
    }

    fn evidence(
        &self,
        mirror: &Arc<dyn Mirror>,
        error: &MirrorError,
        shown: SignedHead,
        pull: &Pull<'_>,
    ) -> Option<Evidence> {
        let over = Store::new(Disk::of_bucket(Mirrored::new(Arc::clone(mirror), Duration::from_secs(60))));
        match error {
            MirrorError::Unsound(e) => e.evidence(&over, pull.known, pull.now),
            MirrorError::Fork { .. } => {
                let fleet = self.fleet.as_ref()?;
                // Anybody can write down another head; it shows something only if the log's key has signed it.
                fleet.every_log_key().iter().find(|key| shown.0.is_signed_by(key))?;
                let head = fleet.head()?;
                let ours = (head.note.clone(), head.checkpoint.clone());
                match shown.1.size > ours.1.size {
                    true => fork(&over, ours, shown, pull.now),
                    false => fork(&self.store, shown, ours, pull.now),
                }
            }
            _ => None,
        }
    }
}

/// Takes the keyring's lock, waiting a while for whoever has it.
pub(super) fn locked(keyring: &Disk) -> Result<Box<dyn Send>, PullError> {
    patiently(keyring)?.ok_or(PullError::Locked)
}

/// Waits a while for a disk's lock; none if somebody has it all the time.
#[allow(clippy::disallowed_methods, reason = "a lock that somebody else has is waited for")]
fn patiently(disk: &Disk) -> Result<Option<Box<dyn Send>>, DiskError> {
    for _ in 0..LOCK_TRIES {
        if let Some(lock) = disk.try_lock()? {
            return Ok(Some(lock));
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Ok(None)
}

/// Removes what is laid down below `directory`.
fn clear(laid: &Disk, directory: &str) -> Result<(), DiskError> {
    for (path, _) in laid.walk(directory)? {
        laid.remove(&path)?;
        laid.prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
    }
    Ok(())
}
