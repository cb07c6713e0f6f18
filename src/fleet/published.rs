//! Which head of the log counts as published, and how fresh it is.
//!
//! Where the policy names cosigners, what the log's key has signed lies in `log/head` until enough of them have cosigned
//! it; then it becomes `log/checkpoint`. A head is judged by the policy in force in the state at that head, so whoever has
//! only the log's key cannot shed the cosigners. Effects of publishing, in order, and what a crash after each leaves:
//!
//! 1. `log/checkpoint` is replaced — readers see the new head; views are behind, which the writer's mark says, and the
//!    next writer makes right.
//! 2. the views — all is as it should be.
//! 3. `log/head` is removed, if it is no larger — left behind, it says nothing that the checkpoint does not say.
//! 4. partial tiles of the head before — left behind, they are correct parts of tiles.

use super::{Fleet, FleetError, Known};
use crate::digest::Digest;
use crate::limits::{CHECKPOINT_BYTES_MAX, COMMIT_ENTRIES_MAX, COSIGNERS_MAX, SIGNATURES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::note::{Note, SignatureLine, VerifierKey};
use crate::policy::{Cosigned, Freshness, Publication};
use crate::store::{CHECKPOINT, HEAD, SignedHead, StoreError, collect, read_checkpoint, read_newest};
use crate::time::{Span, Time};

/// How old cosignatures may grow before they are asked for anew.
const HEARTBEAT: Span = Span::hours(1);

/// The head at which a fleet is opened.
#[derive(Debug, Clone, Default)]
pub enum View {
    /// The newest that the log's key has signed: for whoever changes something, or wants to know what waits.
    #[default]
    Newest,
    /// The newest that is published: for whatever a machine goes by.
    Published,
    /// This one.
    At(Box<SignedHead>),
}

/// What is known of `log/checkpoint`, judged by the state at its size.
#[derive(Debug, Clone)]
pub struct Published {
    /// The note.
    pub note: Note,
    /// What it says.
    pub checkpoint: Checkpoint,
    /// Whether the log's key of that time signed it.
    pub is_signed: bool,
    /// What its cosignatures come to; none where the policy names no cosigners.
    pub cosigned: Option<Cosigned>,
    /// The policy it was judged by.
    pub publication: Option<Publication>,
}

impl Published {
    /// What it lacks to count as published, in words.
    pub fn lacks(&self) -> Option<String> {
        let cosigned = self.cosigned.as_ref().filter(|c| !c.missing.is_empty());
        cosigned.map(Cosigned::missing_in_words)
    }

    /// When a quorum of cosigners last called it the newest.
    pub fn time(&self) -> Option<Time> {
        self.cosigned.as_ref().and_then(|c| c.time)
    }
}

/// Both heads of a keyring as a fleet is opened: the one that is replayed to, and what claims to be published.
pub(super) struct Heads {
    pub head: SignedHead,
    pub published: Option<SignedHead>,
}

impl Heads {
    pub(super) fn read(store: &crate::store::Store, view: View) -> Result<Self, FleetError> {
        Ok(match view {
            View::At(head) => Self { published: Some((*head).clone()), head: *head },
            View::Published => {
                let head = read_checkpoint(store)?;
                Self { published: Some(head.clone()), head }
            }
            View::Newest => match read_newest(store)? {
                (HEAD, head) => match read_checkpoint(store) {
                    Ok(published) => Self { head, published: Some(published) },
                    Err(StoreError::NoKeyring(_)) => Self { head, published: None },
                    Err(e) => return Err(e.into()),
                },
                (_, head) => Self { published: Some(head.clone()), head },
            },
        })
    }

    /// What was seen before, and has to lie in the past of what is there; refuses what has become shorter.
    pub(super) fn seen(&self, known: &Known, view: &View) -> Result<Vec<Checkpoint>, FleetError> {
        let read = |bytes: &Option<Vec<u8>>| {
            let note = Note::parse(bytes.as_deref()?).ok()?;
            Checkpoint::parse(&note.text).filter(|c| c.origin == self.head.1.origin)
        };
        let shorter = |seen: &Checkpoint, found: u64| match seen.size > found {
            true => Err(FleetError::Rollback { found, seen: seen.size }),
            false => Ok(()),
        };
        let (seen, seen_head) = (read(&known.seen), read(&known.seen_head));
        if let Some(seen) = &seen {
            shorter(seen, self.published.as_ref().map_or(self.head.1.size, |(_, c)| c.size))?;
        }
        if let (Some(seen), View::Newest) = (&seen_head, view) {
            shorter(seen, self.head.1.size)?;
        }
        // What is newer than the head that is read here says nothing about it.
        let all = seen.into_iter().chain(seen_head);
        Ok(all.filter(|s| s.size <= self.head.1.size).collect())
    }
}

impl Fleet {
    /// What `log/checkpoint` is worth; none if there is none.
    pub fn published(&self) -> Option<&Published> {
        self.published.as_ref()
    }

    /// How many entries wait for cosigners.
    pub fn waiting(&self) -> u64 {
        let published = self.published.as_ref().map_or(0, |p| p.checkpoint.size);
        self.head.as_ref().map_or(0, |h| h.checkpoint.size).saturating_sub(published)
    }

    /// How old what is published is.
    pub fn freshness(&self) -> Freshness {
        let Some(published) = &self.published else { return Freshness::Unwitnessed };
        match (published.time(), &published.publication) {
            (Some(time), Some(publication)) => Freshness::of(time, self.now(), publication.max_age),
            _ => Freshness::Unwitnessed,
        }
    }

    /// Judges what claims to be published, by the state so far, which is the one at its size.
    pub(super) fn judge(&self, (note, checkpoint): &SignedHead) -> Published {
        let publication = self.replay.state().and_then(|s| s.policy.policy.fleet.publication.clone());
        Published {
            note: note.clone(),
            checkpoint: checkpoint.clone(),
            is_signed: self.log_keys().iter().any(|key| note.is_signed_by(key)),
            cosigned: publication.as_ref().map(|p| p.judge(note)),
            publication,
        }
    }

    /// Whether what the log's key signs now waits for cosigners.
    pub(super) fn needs_cosigners(&self) -> bool {
        self.replay.state().is_some_and(|s| s.policy.policy.fleet.publication.is_some())
    }

    /// Notes that the newest head was written as `log/checkpoint`, without cosigners.
    pub(super) fn note_published(&mut self) {
        if let (false, Some(head)) = (self.needs_cosigners(), &self.head) {
            self.published = Some(self.judge(&(head.note.clone(), head.checkpoint.clone())));
        }
    }

    /// The cosigners that should be asked now, with what they are to cosign: the newest head, by those who have not, or
    /// whose word has grown old.
    pub fn to_be_asked(&self) -> Vec<(crate::policy::Cosigner, u64)> {
        let (Some(publication), Some(head)) =
            (self.replay.state().and_then(|s| s.policy.policy.fleet.publication.as_ref()), &self.head)
        else {
            return Vec::new();
        };
        let published = self.published.as_ref();
        let asked = publication.cosigners.iter().filter(|c| c.url.is_some()).filter_map(|cosigner| {
            let last = published.and_then(|p| Some((p.checkpoint.size, cosigner.key.newest(&p.note)?.0)));
            let size = last.map_or(0, |(size, _)| size);
            let is_new = last.is_some_and(|(size, at)| {
                size == head.checkpoint.size && self.now < at.plus(HEARTBEAT) && at < self.now.plus(HEARTBEAT)
            });
            (!is_new).then(|| (cosigner.clone(), size))
        });
        asked.collect()
    }

    /// What the newest head lacks, with these lines and what lies in the keyring; none if nothing.
    pub fn lacking(&self, lines: &[SignatureLine]) -> Option<String> {
        let publication = self.replay.state()?.policy.policy.fleet.publication.as_ref()?;
        let head = self.head.as_ref()?;
        let left = self.left_by_cosigners().ok()?;
        let more = lines_for(&left, &head.note.text).chain(lines).cloned();
        let signatures = head.note.signatures.iter().cloned().chain(more).collect();
        let cosigned = publication.judge(&Note { text: head.note.text.clone(), signatures });
        (!cosigned.missing.is_empty()).then(|| cosigned.missing_in_words())
    }

    /// Publishes what has its quorum, with these lines for the newest head and with those that lie under
    /// `log/cosignatures/`. Gives whether `log/checkpoint` is another one now. The caller holds the lock and has called
    /// [`Fleet::prepare`].
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn publish_cosigned(&mut self, lines: &[SignatureLine]) -> Result<bool, FleetError> {
        if !self.needs_cosigners() {
            return Ok(false);
        }
        let Some(head) = self.head.clone() else { return Ok(false) };
        let left = self.left_by_cosigners()?;
        let newest = self.assemble(&head.note, lines.iter().chain(lines_for(&left, &head.note.text)));
        if let Some(note) = newest {
            return self.promote(&note, &head.checkpoint);
        }
        // Cosigners without a server may have cosigned a head that was the newest when they came by.
        let size = self.published.as_ref().map_or(0, |p| p.checkpoint.size);
        let mut older: Vec<SignedHead> = left.iter().filter(|(_, c)| c.size > size).cloned().collect();
        older.sort_by_key(|(_, c)| std::cmp::Reverse(c.size));
        for (found, checkpoint) in older {
            let Some(note) = self.assemble(&found, lines_for(&left, &found.text)) else { continue };
            // Judged by the state at that head, root included.
            let view = View::At(Box::new((note.clone(), checkpoint.clone())));
            let Ok(mut then) = Self::open_view(self.store.clone(), &Known::default(), self.now, &mut |_, _| {}, view)
            else {
                continue;
            };
            then.published = self.published.clone();
            if then.judge(&(note.clone(), checkpoint.clone())).lacks().is_some() {
                continue;
            }
            let done = then.promote(&note, &checkpoint)?;
            self.published = then.published;
            return Ok(done);
        }
        Ok(false)
    }

    /// Heads that cosigners have left as files; what is none is passed over, and named by a verification.
    fn left_by_cosigners(&self) -> Result<Vec<SignedHead>, FleetError> {
        let mut found = Vec::new();
        for (name, _) in self.store.disk().list("log/cosignatures")? {
            if Digest::parse(&name).is_none() || found.len() >= 4 * COSIGNERS_MAX {
                continue;
            }
            let bytes = match self.store.read(&format!("log/cosignatures/{name}"), CHECKPOINT_BYTES_MAX) {
                Err(StoreError::Damaged { .. }) => None,
                other => other?,
            };
            let note = bytes.and_then(|b| Note::parse(&b).ok());
            found
                .extend(note.and_then(|n| Checkpoint::parse(&n.text).filter(|c| c.origin == self.log).map(|c| (n, c))));
        }
        Ok(found)
    }

    /// The note with the log's line and each cosigner's newest, if they are enough.
    fn assemble<'l>(&'l self, note: &'l Note, lines: impl Iterator<Item = &'l SignatureLine>) -> Option<Note> {
        let publication = self.replay.state()?.policy.policy.fleet.publication.as_ref()?;
        let published = self.published.iter().filter(|p| p.note.text == note.text).flat_map(|p| &p.note.signatures);
        let signatures = note.signatures.iter().chain(published).chain(lines).cloned().collect();
        let all = Note { text: note.text.clone(), signatures };
        let by = |line: &SignatureLine, keys: &[VerifierKey]| {
            let alone = Note { text: all.text.clone(), signatures: vec![line.clone()] };
            keys.iter().any(|key| alone.is_signed_by(key))
        };
        let own = all.signatures.iter().find(|l| by(l, &self.log_keys()))?;
        let cosigned = publication.cosigners.iter().filter_map(|c| c.key.newest(&all)).map(|(_, line)| line);
        // Where the log's key has just changed: the line by which whoever knows only the key of before can follow.
        let before = note.signatures.iter().filter(|l| *l != own && by(l, &self.every_log_key()));
        let mut signatures: Vec<SignatureLine> = std::iter::once(own).chain(cosigned).chain(before).cloned().collect();
        signatures.truncate(SIGNATURES_MAX);
        let whole = Note { text: note.text.clone(), signatures };
        publication.judge(&whole).missing.is_empty().then_some(whole)
    }

    /// Removes `log/head` where the published one is as large.
    pub(super) fn remove_outgrown_head(&self) -> Result<(), FleetError> {
        if let (CHECKPOINT, _) = read_newest(&self.store)? {
            self.store.disk().remove(HEAD)?;
        }
        Ok(())
    }

    /// Makes `note` the published head; `self` is opened at it.
    fn promote(&mut self, note: &Note, checkpoint: &Checkpoint) -> Result<bool, FleetError> {
        if self.published.as_ref().is_some_and(|p| p.note == *note) {
            // Who published it may have died before it was done.
            self.remove_outgrown_head()?;
            return Ok(false);
        }
        let before = self.published.as_ref().map_or(0, |p| p.checkpoint.size);
        self.store.disk().replace(CHECKPOINT, &note.to_bytes())?;
        self.published = Some(self.judge(&(note.clone(), checkpoint.clone())));
        if before < checkpoint.size {
            if checkpoint.size - before > COMMIT_ENTRIES_MAX as u64 {
                self.refresh_all_views()?;
            } else {
                self.refresh_views(before)?;
            }
        }
        self.remove_outgrown_head()?;
        collect(&self.store, before, checkpoint.size);
        Ok(true)
    }
}

/// The lines beside this text.
fn lines_for<'l>(left: &'l [SignedHead], text: &'l str) -> impl Iterator<Item = &'l SignatureLine> {
    left.iter().filter(move |(note, _)| note.text == text).flat_map(|(note, _)| &note.signatures)
}
