//! `certs/` and `sealed/`: what the log says they hold, made so. Also tidying up after a writer that died.

use std::collections::{BTreeSet, VecDeque};

use super::{Fleet, FleetError};
use crate::digest::Digest;
use crate::disk::EntryKind;
use crate::limits::{CERT_BYTES_MAX, COMMIT_ENTRIES_MAX, OBJECT_BYTES_MAX, STATE_BYTES_MAX};
use crate::name::{Address, MemberName};
use crate::openpgp::Sealed;
use crate::state::{LiveSecret, Objects as _, Unlocked};
use crate::statement::{Act, Entry, ObjectKind, PublishedKey, Statement};
use crate::store::{StoreError, certificate_path, object_digest, pending, staged_digest, staged_path, sweep};
use crate::wireguard::exchange::Exchange;

/// Left by a writer for as long as it writes.
pub(super) const MARK: &str = ".writing";

/// The newest entries: a writer that was interrupted can only have left the views of their subjects behind. They are
/// parsed when somebody writes; most who open a fleet do not.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The first entry that it could note: those before were not replayed.
    begins: u64,
    entries: VecDeque<(u64, Vec<u8>)>,
    /// What took effect with an entry because its time had come.
    unlocked: VecDeque<(u64, Statement)>,
}

/// What the views of the newest entries are about.
#[derive(Debug, Default)]
struct Subjects {
    members: BTreeSet<MemberName>,
    addresses: BTreeSet<Address>,
    sealed: BTreeSet<Digest>,
}

impl Recent {
    /// Of the entries from `begins` on.
    pub(super) fn after(begins: u64) -> Self {
        Self { begins, ..Self::default() }
    }

    /// Whether it knows of every entry from `from` on that may matter in a log of `size`.
    fn covers(&self, from: u64, size: u64) -> bool {
        self.begins <= from.max(size.saturating_sub(COMMIT_ENTRIES_MAX as u64))
    }

    /// Notes an entry, and forgets those too old to matter.
    pub(super) fn note(&mut self, index: u64, entry: Vec<u8>, unlocked: &[Unlocked]) {
        let oldest = index.saturating_sub(COMMIT_ENTRIES_MAX as u64);
        while self.entries.front().is_some_and(|(i, _)| *i < oldest) {
            self.entries.pop_front();
        }
        while self.unlocked.front().is_some_and(|(i, _)| *i < oldest) {
            self.unlocked.pop_front();
        }
        self.entries.push_back((index, entry));
        self.unlocked.extend(unlocked.iter().filter_map(|u| Some((index, u.locked.statement()?))));
    }

    /// Forgets the entries from `from` on: they have not come into the log there.
    pub(super) fn forget(&mut self, from: u64) {
        self.entries.retain(|(i, _)| *i < from);
        self.unlocked.retain(|(i, _)| *i < from);
    }

    /// What the entries from `oldest` on are about.
    fn subjects(&self, oldest: u64) -> Subjects {
        let mut all = Subjects::default();
        let entries = self.entries.iter().filter(|(i, _)| *i >= oldest);
        let entries = entries.filter_map(|(_, bytes)| Some(Entry::parse(bytes).ok()?.signed.statement));
        let unlocked = self.unlocked.iter().filter(|(i, _)| *i >= oldest).map(|(_, statement)| statement.clone());
        for Statement { act, .. } in entries.chain(unlocked) {
            let (members, addresses) = subjects(&act);
            all.members.extend(members);
            all.addresses.extend(addresses);
            let sealed = act.objects().into_iter().filter(|(_, kind)| *kind == ObjectKind::Sealed);
            all.sealed.extend(sealed.map(|(digest, _)| digest));
        }
        all
    }
}

/// The members and secrets whose views an act may change.
fn subjects(act: &Act) -> (BTreeSet<MemberName>, BTreeSet<Address>) {
    let members = |list: Vec<&MemberName>| (list.into_iter().cloned().collect(), BTreeSet::new());
    let addresses = |list: Vec<&Address>| (BTreeSet::new(), list.into_iter().cloned().collect());
    match act {
        Act::Genesis(genesis) => members(genesis.members.iter().map(|c| &c.member).collect()),
        Act::Enroll(list) => members(list.iter().map(|c| &c.member).collect()),
        Act::Confirm(list) => members(list.iter().map(|c| &c.member).collect()),
        Act::Retire(list) => members(list.iter().map(|c| &c.member).collect()),
        Act::Emergency(list) => members(list.iter().map(|c| &c.member).collect()),
        Act::Publish(list) => members(list.iter().map(|c| &c.member).collect()),
        Act::Certify(list) => members(list.iter().map(|c| &c.member).collect()),
        Act::Seal(list) => addresses(list.iter().map(|c| &c.address).collect()),
        Act::Reseal(list) => addresses(list.iter().map(|c| &c.address).collect()),
        Act::Remove(list) => addresses(list.iter().map(|c| &c.address).collect()),
        Act::PolicyUpdate(_)
        | Act::Activate(_)
        | Act::Destroy(_)
        | Act::SshIssue(_)
        | Act::SshRevoke(_)
        | Act::Object(_)
        | Act::Backup(_)
        | Act::Drill(_)
        | Act::Snapshot(_)
        | Act::Rekey(_)
        | Act::Invite(_)
        | Act::Uninvite(_) => (BTreeSet::new(), BTreeSet::new()),
    }
}

/// The objects that something refers to, by what they are referred to as: one that is named as a sealed file, too, is
/// still the policy that it was.
#[derive(Debug, Clone, Default)]
pub(super) struct Referenced(BTreeSet<(Digest, ObjectKind)>);

impl Referenced {
    /// Whether something refers to this object as anything but a sealed file.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.0.range((*digest, ObjectKind::Policy)..(*digest, ObjectKind::Sealed)).next().is_some()
    }

    /// Whether something refers to this sealed file.
    pub(super) fn has_sealed(&self, digest: &Digest) -> bool {
        self.0.contains(&(*digest, ObjectKind::Sealed))
    }

    /// Whether something refers to this object as a state.
    pub(super) fn has_state(&self, digest: &Digest) -> bool {
        self.0.contains(&(*digest, ObjectKind::State))
    }

    /// Whether something refers to this object as a certificate.
    pub(super) fn has_certificate(&self, digest: &Digest) -> bool {
        self.0.contains(&(*digest, ObjectKind::Certificate))
    }

    /// The objects, without the sealed files.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&Digest, ObjectKind)> {
        self.0.iter().filter(|(_, kind)| *kind != ObjectKind::Sealed).map(|(digest, kind)| (digest, *kind))
    }
}

impl Fleet {
    /// Makes the views of what the newest entries, from number `from` on, are about what the log says. Idempotent; the
    /// caller holds the lock.
    /// They are those of the published head: while a newer one waits for cosigners nothing is done.
    ///
    /// Without a lock there are no views: a writer that is slow would put an older version over a newer one. Sealed files
    /// stay where they wait, and are read there.
    pub(super) fn refresh_views(&self, from: u64) -> Result<(), FleetError> {
        if !self.store.disk().has_lock() || self.waiting() > 0 {
            return Ok(());
        }
        let Subjects { mut members, mut addresses, sealed } = self.recent.subjects(from);
        if !self.recent.covers(from, self.replay.size()) {
            members.extend(self.logged_state().members.keys().cloned());
            addresses.extend(self.logged_state().secrets.keys().cloned());
        }
        members.iter().try_for_each(|member| self.refresh_certificate(member))?;
        addresses.iter().try_for_each(|address| self.refresh_sealed(address))?;
        // A sealed file that was superseded in the very commit that brought it has no address to be moved to.
        let live: BTreeSet<Digest> = self.logged_state().live_secrets().flat_map(|(_, s)| s.files().copied()).collect();
        for digest in sealed.difference(&live) {
            self.store.disk().remove(&staged_path(digest))?;
        }
        Ok(())
    }

    /// The same for everything, after more entries than are remembered.
    pub(super) fn refresh_all_views(&self) -> Result<(), FleetError> {
        if !self.store.disk().has_lock() || self.waiting() > 0 {
            return Ok(());
        }
        self.state().members.keys().try_for_each(|member| self.refresh_certificate(member))?;
        self.state().secrets.keys().try_for_each(|address| self.refresh_sealed(address))?;
        self.refresh_views(0)
    }

    fn refresh_certificate(&self, member: &MemberName) -> Result<(), FleetError> {
        let Some(found) = self.logged_state().members.get(member) else { return Ok(()) };
        let path = certificate_path(&found.fingerprint);
        let there = self.store.disk().read(&path, CERT_BYTES_MAX)?;
        if there.is_none_or(|bytes| Digest::of(&bytes) != found.cert) {
            self.store.disk().replace(&path, &self.store.object(&found.cert)?)?;
        }
        Ok(())
    }

    /// Brings these sealed files to the addresses where the log has them.
    pub(super) fn place_sealed(&self, files: &BTreeSet<Digest>) -> Result<(), FleetError> {
        let is_meant = |secret: &LiveSecret| secret.files().any(|file| files.contains(file));
        let mut live = self.logged_state().live_secrets().filter(|(_, secret)| is_meant(secret));
        live.try_for_each(|(address, _)| self.refresh_sealed(address))
    }

    fn refresh_sealed(&self, address: &Address) -> Result<(), FleetError> {
        let (disk, path) = (self.store.disk(), address.path());
        let Some(live) = self.logged_state().secrets.get(address).and_then(|s| s.live.as_ref()) else {
            self.refresh_parts(address, &[])?;
            if disk.remove(&path)? {
                disk.prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
            }
            return Ok(());
        };
        if self.store.staged(&live.file)?.is_some() {
            disk.rename(&staged_path(&live.file), &path)?;
            disk.prune("objects/sealed");
        }
        self.refresh_parts(address, &live.parts)
    }

    /// Brings the parts of a large value to where they belong, and removes those of the value before.
    fn refresh_parts(&self, address: &Address, parts: &[Digest]) -> Result<(), FleetError> {
        let (disk, directory) = (self.store.disk(), address.parts_directory());
        for part in parts {
            if self.store.staged(part)?.is_some() {
                disk.rename(&staged_path(part), &address.part_path(part))?;
                disk.prune("objects/sealed");
            }
        }
        for (name, kind) in disk.list(&directory)? {
            let is_outgrown = Digest::parse(&name).is_some_and(|digest| !parts.contains(&digest));
            if kind == EntryKind::File && is_outgrown {
                disk.remove(&format!("{directory}/{name}"))?;
            }
        }
        if parts.is_empty() {
            disk.prune(&directory);
        }
        Ok(())
    }

    /// Whether the sealed files that an act brings are there, and have the body that it names.
    pub(super) fn sealed_files_there(&self, act: &Act) -> Result<bool, FleetError> {
        let files: Vec<(Digest, Digest)> = match act {
            Act::Seal(list) => list.iter().map(|c| (c.file, c.body)).collect(),
            Act::Reseal(list) => list.iter().map(|c| (c.file, c.body)).collect(),
            _ => Vec::new(),
        };
        for (file, body) in files {
            let there = self.store.staged(&file)?;
            if !there.is_some_and(|bytes| Sealed::parse(&bytes).is_ok_and(|s| s.body_digest() == body)) {
                return Ok(false);
            }
        }
        let parts = if let Act::Seal(list) = act { list.iter().flat_map(|c| &c.parts).collect() } else { Vec::new() };
        for part in parts {
            if self.store.staged(part)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether what an act brings and the fold does not look at is there, and whole: a state, preshared-key exchanges.
    pub(super) fn objects_there(&self, act: &Act) -> bool {
        match act {
            Act::Snapshot(snapshot) => self.store.object_within(&snapshot.state, STATE_BYTES_MAX).is_ok(),
            Act::Publish(list) => list.iter().flat_map(|c| &c.keys).all(|key| self.exchange_there(key)),
            _ => true,
        }
    }

    fn exchange_there(&self, key: &PublishedKey) -> bool {
        let Some(digests) = key.exchange else { return true };
        let Ok(bytes) = self.store.object_within(&digests.object, OBJECT_BYTES_MAX) else { return false };
        Exchange::parse(&bytes).is_ok_and(|exchange| {
            let head = exchange.head();
            Digest::of(&head.to_bytes()) == digests.head && head.key().to_string() == key.key
        })
    }

    /// Removes what a writer that died has left: temporary files, halves of proposals, and attachments that neither the
    /// log nor a proposal refers to. The caller holds the lock, so nobody else is writing.
    pub(super) fn tidy(&self) -> Result<(), FleetError> {
        let disk = self.store.disk();
        disk.remove_temporaries("")?;
        self.remove_headless_proposals()?;
        // Whoever reads the published head by its tiles still finds them.
        let kept = if self.waiting() > 0 { self.published.as_ref().map(|p| p.checkpoint.size) } else { None };
        sweep(&self.store, kept.unwrap_or(self.head.as_ref().map_or(0, |h| h.checkpoint.size)))?;
        let Some(referenced) = self.referenced()? else { return Ok(()) };
        for (path, kind) in disk.walk("objects")? {
            let unreferenced = object_digest(&path).is_some_and(|d| !referenced.has(&d))
                || staged_digest(&path).is_some_and(|d| !referenced.has_sealed(&d));
            if kind == EntryKind::File && unreferenced {
                disk.remove(&path)?;
                disk.prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
            }
        }
        Ok(())
    }

    /// Every object that an entry, a commit that is not yet published, or a proposal refers to, and what it is. None if it
    /// cannot be told, because a file of the log is damaged, or its beginning was never brought: then nothing is to be removed.
    pub(super) fn referenced(&self) -> Result<Option<Referenced>, FleetError> {
        match self.logged() {
            Ok(logged) => self.with_proposals(logged).map(Some),
            Err(FleetError::Store(StoreError::Damaged { .. } | StoreError::Missing(_))) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the log refers to, and what proposals refer to.
    pub(super) fn with_proposals(&self, logged: Referenced) -> Result<Referenced, FleetError> {
        let mut all = logged.0;
        for signed in self.statements()? {
            all.extend(signed.statement.act.objects());
        }
        Ok(Referenced(all))
    }

    /// Every object that an entry or a commit that is not yet published refers to, and what it is.
    fn logged(&self) -> Result<Referenced, FleetError> {
        let mut all = BTreeSet::new();
        let size = self.head.as_ref().map_or(0, |h| h.checkpoint.size);
        let mut reader = crate::store::LogReader::new(&self.store, size);
        while let Some((_, entries)) = reader.next_bundle()? {
            for entry in entries.iter().filter_map(|e| Entry::parse(e).ok()) {
                all.extend(entry.signed.statement.act.objects());
            }
        }
        self.with_pending(all)
    }

    /// What the entries refer to, and what a commit that is not yet published does.
    pub(super) fn with_pending(&self, mut all: BTreeSet<(Digest, ObjectKind)>) -> Result<Referenced, FleetError> {
        // A commit that its writer could not publish any more has happened all the same.
        if let Some(commit) = pending(&self.store, self.head.as_ref(), &self.commit_keys())? {
            for entry in commit.entries.iter().filter_map(|e| Entry::parse(e).ok()) {
                all.extend(entry.signed.statement.act.objects());
            }
        }
        Ok(Referenced(all))
    }
}
