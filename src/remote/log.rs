//! Bringing the log: the commits after those that are here, one after the other, each signed with a key that the log is known
//! to have by then, so that whoever has no such key cannot make us bring without end. Tiles are not brought: they follow.
//!
//! Whether the entries mean anything is not judged here. The replay does that.

use std::collections::BTreeSet;

use super::MirrorError;
use super::brought::{Brought, Wanted};
use crate::digest::Digest;
use crate::limits::{COMMIT_BYTES_MAX, OBJECT_BYTES_MAX, STATE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::commit::Commit;
use crate::log::merkle;
use crate::log::note::{Note, VerifierKey};
use crate::name::Slot;
use crate::statement::{Act, Entry, ObjectKind, Request};
use crate::store::{Growing, Store, object_path};

/// Where bringing begins.
pub(super) struct From<'a> {
    /// The tree that is here.
    pub growing: Growing,
    /// The keys that may sign what follows.
    pub keys: Vec<VerifierKey>,
    /// The fleet, where nothing is here.
    pub pin: Option<Digest>,
    /// The keyring that is here.
    pub here: &'a Store,
    /// Whether states are wanted, from which somebody else may begin.
    pub states: bool,
}

/// The commits that were brought, each with the key that has signed it: it has to turn out that they were keys of the log.
pub(super) type Signers = Vec<(String, VerifierKey)>;

/// Brings what leads from `from` to `head`.
pub(super) fn bring(brought: &Brought<'_>, from: From<'_>, head: &Checkpoint) -> Result<Signers, MirrorError> {
    if from.growing.edge().size() >= head.size {
        return Ok(Vec::new());
    }
    let laid = Store::new(brought.laid.clone());
    let mut following = Following { brought, from, wanted: BTreeSet::new(), requests: Vec::new(), signers: Vec::new() };
    while following.from.growing.edge().size() < head.size {
        following.commit(&laid, head.size)?;
    }
    if following.from.growing.edge().root() != head.root {
        let size = head.size;
        return Err(MirrorError::Fork { size });
    }
    following.from.growing.finish(&laid).map_err(ours)?;
    following.objects()?;
    Ok(following.signers)
}

/// Writing tiles fails only on our own side.
fn ours(e: crate::store::StoreError) -> MirrorError {
    MirrorError::Unsound(e.into())
}

struct Following<'a> {
    brought: &'a Brought<'a>,
    from: From<'a>,
    /// What the entries refer to, and has not been brought.
    wanted: BTreeSet<(Digest, ObjectKind)>,
    /// Requests that may bring keys of the log.
    requests: Vec<Digest>,
    signers: Signers,
}

impl Following<'_> {
    fn commit(&mut self, laid: &Store, size: u64) -> Result<(), MirrorError> {
        let old_size = self.from.growing.edge().size();
        let path = format!("log/{}", Commit::path(old_size));
        let wrong = |problem: &str| MirrorError::wrong(&path, problem);
        let founding = self.from.pin.filter(|_| old_size == 0);
        // What is laid down has been signed with a key that was known then; which ones are is found out again.
        let read = |bytes: &[u8]| {
            let (commit, note) = Commit::parse(bytes).ok_or_else(|| wrong("it is not a commit"))?;
            if commit.old_size != old_size || commit.new_size() > size {
                return Err(wrong("it is not the commit that its name and the checkpoint say"));
            }
            if let (Some(pin), Some(first)) = (founding, commit.entries.first())
                && Entry::id_of(first) != Some(pin)
            {
                let found = Entry::id_of(first).map_or_else(|| "nobody knows what".to_owned(), |id| id.to_string());
                return Err(MirrorError::Fleet { found, pinned: pin.to_string() });
            }
            Ok((commit, note))
        };
        let found = self.brought.file(&path, COMMIT_BYTES_MAX, read)?;
        let (commit, note) = found.ok_or_else(|| MirrorError::Missing(path.clone()))?;
        if founding.is_some() {
            // The pin vouches for these: nobody else's statement has that id.
            commit.entries.iter().take(1).for_each(|entry| self.note(entry));
        }
        let Some(signer) = self.signer(&note)? else {
            return Err(wrong("no key of the log that is known here has signed it"));
        };
        let mut edge = self.from.growing.edge().clone();
        commit.entries.iter().for_each(|entry| drop(edge.push(merkle::leaf(entry))));
        if edge.root() != commit.new_root {
            return Err(MirrorError::Fork { size });
        }
        for entry in commit.entries {
            self.note(&entry);
            self.from.growing.push(laid, entry).map_err(ours)?;
        }
        self.signers.push((path, signer));
        Ok(())
    }

    /// The known key that has signed this.
    fn signer(&mut self, note: &Note) -> Result<Option<VerifierKey>, MirrorError> {
        let known = |keys: &[VerifierKey]| keys.iter().find(|key| note.is_signed_by(key)).cloned();
        if let Some(key) = known(&self.from.keys) {
            return Ok(Some(key));
        }
        // Somebody who was admitted meanwhile may have brought it.
        self.objects()?;
        for digest in std::mem::take(&mut self.requests) {
            let bytes = match self.brought.laid.read(&object_path(&digest), OBJECT_BYTES_MAX)? {
                Some(bytes) => Some(bytes),
                None => self.from.here.disk().read(&object_path(&digest), OBJECT_BYTES_MAX)?,
            };
            let Some((request, ..)) = bytes.and_then(|bytes| Request::parse(&bytes).ok()) else { continue };
            let keys = request.members.iter().flat_map(|m| &m.keys).filter(|k| k.slot == Slot::Log);
            self.from.keys.extend(keys.filter_map(|k| VerifierKey::parse(&k.key).ok()));
        }
        Ok(known(&self.from.keys))
    }

    /// Takes down what an entry refers to, and the keys of the log that it brings.
    fn note(&mut self, entry: &[u8]) {
        let Ok(Entry { signed, .. }) = Entry::parse(entry) else { return };
        let act = signed.statement.act;
        let objects = act.objects();
        let skipped = |kind: ObjectKind| kind == ObjectKind::Sealed || (kind == ObjectKind::State && !self.from.states);
        self.wanted.extend(objects.iter().filter(|(_, kind)| !skipped(*kind)));
        if let Act::Rekey(change) = &act {
            self.from.keys.extend(VerifierKey::parse(&change.key));
        }
        if let Act::Publish(list) = &act {
            let keys = list.iter().flat_map(|change| &change.keys).filter(|key| key.slot == Slot::Log);
            self.from.keys.extend(keys.filter_map(|key| VerifierKey::parse(&key.key).ok()));
        }
        self.requests
            .extend(objects.iter().filter(|(_, kind)| *kind == ObjectKind::Request).map(|(digest, _)| *digest));
    }

    /// Brings what the entries so far refer to.
    fn objects(&mut self) -> Result<(), MirrorError> {
        let disk = self.from.here.disk();
        let mut wanted = Vec::new();
        let mut optional = BTreeSet::new();
        for (digest, kind) in std::mem::take(&mut self.wanted) {
            let path = object_path(&digest);
            if disk.read_part(&path, 0, 0)?.is_some() {
                continue;
            }
            let limit = if kind == ObjectKind::State { STATE_BYTES_MAX } else { OBJECT_BYTES_MAX };
            if kind == ObjectKind::State {
                optional.insert(path.clone());
            }
            wanted.push(Wanted { at: vec![path.clone()], path, digest, limit });
        }
        let missing = self.brought.all(&wanted)?;
        match missing.into_iter().find(|path| !optional.contains(path)) {
            Some(path) => Err(MirrorError::Missing(path)),
            None => Ok(()),
        }
    }
}
