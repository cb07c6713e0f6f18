//! Getting entries into the log, also where somebody else is first: what others have published or committed is taken in, and
//! what was to be committed is offered to the fold again. An entry holds no place in the log, so it need not be signed again;
//! whether it still has the effect it was signed for, the fold decides.

use super::change::Sequencer;
use super::{Fleet, FleetError, Known, View};
use crate::limits::{COMMIT_ENTRIES_MAX, RACES_MAX};
use crate::log::note::{SignerKey, VerifierKey};
use crate::state::{Prepared, State, Verdict};
use crate::store::{
    Head, LogReader, StoreError, Target, append_signed, complete, pending, read_checkpoint, read_newest,
};

impl Fleet {
    /// Commits entries that the fold has taken since it was at `before`, which is the published head, and makes the views
    /// right. Gives their verdicts where they are in the log.
    pub(super) fn commit(
        &mut self,
        before: Option<State>,
        entries: Vec<(Vec<u8>, Verdict)>,
        sequencer: &Sequencer,
    ) -> Result<Vec<Verdict>, FleetError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.check_clock()?;
        let (mut before, mut logged, mut waiting) = (before, Vec::new(), entries);
        for _ in 0..RACES_MAX {
            let part: Vec<Vec<u8>> = waiting.iter().take(COMMIT_ENTRIES_MAX).map(|(bytes, _)| bytes.clone()).collect();
            let (count, head) = (part.len(), self.head.clone());
            match self.publish(&part, sequencer) {
                Ok(()) => {
                    logged.extend(waiting.drain(..count).map(|(_, verdict)| verdict));
                    if waiting.is_empty() {
                        return Ok(logged);
                    }
                    if let Some(state) = &mut before {
                        // The head is further on; where another race would lead back to.
                        *state = self.state_after(state.clone(), &part)?;
                    }
                }
                Err(FleetError::Store(StoreError::Raced)) if before.is_some() => {
                    self.rewind(before.take());
                    self.catch_up(sequencer)?;
                    before = self.replay.state().cloned();
                    waiting = self.offer_again(waiting, &before, sequencer)?;
                }
                // Our commit is there: it has happened, whatever failed afterwards.
                Err(e) if self.has_committed(&part, head.as_ref(), sequencer) => {
                    return Err(FleetError::Unfinished(Box::new(e)));
                }
                Err(e) => return Err(e),
            }
        }
        Err(StoreError::Raced.into())
    }

    /// Goes back to the state at the published head.
    fn rewind(&mut self, state: Option<State>) {
        self.replay.rewind(state);
        let size = self.replay.size();
        self.recent.forget(size);
        self.unlocked.retain(|(index, _)| *index < size);
        self.look();
    }

    /// The state that entries make of another one.
    fn state_after(&mut self, state: State, entries: &[Vec<u8>]) -> Result<State, FleetError> {
        let now = self.replay.state().cloned();
        self.replay.rewind(Some(state));
        let taken = entries.iter().try_for_each(|entry| self.replay.apply(entry).map(drop));
        let after = self.replay.state().cloned();
        self.replay.rewind(now);
        taken?;
        after.ok_or_else(|| StoreError::Raced.into())
    }

    /// Offers entries to the fold where it is now. They have to come to what they came to before: whoever signed them saw
    /// that, and nothing else.
    fn offer_again(
        &mut self,
        entries: Vec<(Vec<u8>, Verdict)>,
        base: &Option<State>,
        sequencer: &Sequencer,
    ) -> Result<Vec<(Vec<u8>, Verdict)>, FleetError> {
        let mut again = Vec::new();
        for (bytes, then) in entries {
            let writes = self.is_log_key(sequencer);
            let now = self.offer(&bytes)?;
            if !writes || (now.applied, &now.void) != (then.applied, &then.void) {
                self.rewind(base.clone());
                let why =
                    now.void.first().map_or_else(|| "it would have another effect".to_owned(), |(_, v)| v.to_string());
                return Err(FleetError::Moved(why));
            }
            again.push((bytes, now));
        }
        Ok(again)
    }

    /// Where the head goes that this state makes.
    fn target(&self) -> Target {
        if self.needs_cosigners() { Target::Waiting } else { Target::Published }
    }

    fn publish(&mut self, entries: &[Vec<u8>], sequencer: &Sequencer) -> Result<(), FleetError> {
        let log = self.log.clone();
        let (signers, target) = (self.head_signers(sequencer)?, self.target());
        let appended =
            append_signed(&self.store, self.head.as_ref(), &log, entries.to_vec(), sequencer, &signers, target)?;
        self.head = Some(appended.head);
        self.note_published();
        self.refresh_views(appended.first)
    }

    /// The keys that sign the head of what the fold has taken.
    fn head_signers<'a>(&self, sequencer: &'a Sequencer) -> Result<Vec<&'a SignerKey>, FleetError> {
        let signers = sequencer.of_head(&self.log_keys());
        if signers.is_empty() { Err(FleetError::NotTheLogKey) } else { Ok(signers) }
    }

    /// Whether the commit beyond a head is one of these entries.
    fn has_committed(&self, entries: &[Vec<u8>], head: Option<&Head>, sequencer: &Sequencer) -> bool {
        let there = pending(&self.store, head, &[sequencer.verifier()]);
        matches!(there, Ok(Some(commit)) if commit.entries == entries)
    }

    /// Takes in what others have published since, and what they have committed and not published, which it publishes. Gives
    /// the first entry that was published here.
    pub(super) fn catch_up(&mut self, sequencer: &Sequencer) -> Result<Option<u64>, FleetError> {
        let (store, log) = (self.store.clone(), self.log.clone());
        let own = if self.is_founded() { None } else { Some(sequencer.verifier()) };
        let mut first: Option<u64> = None;
        loop {
            if self.is_founded() {
                self.advance()?;
            }
            let keys: Vec<VerifierKey> = self.commit_keys().into_iter().chain(own.clone()).collect();
            let Some(commit) = pending(&store, self.head.as_ref(), &keys)? else { return Ok(first) };
            // Who may sign the new head, and where it goes, follows from the entries that it brings.
            commit.entries.iter().try_for_each(|entry| self.take(Prepared::plain(entry.clone())).map(drop))?;
            self.look();
            let signers = self.head_signers(sequencer)?;
            let appended = complete(&store, self.head.as_ref(), &log, commit, &signers, self.target())?;
            self.head = Some(appended.head);
            self.note_published();
            first = Some(first.map_or(appended.first, |f| f.min(appended.first)));
        }
    }

    /// Takes in what others have published since this was opened.
    fn advance(&mut self) -> Result<(), FleetError> {
        let Some(head) = &self.head else { return Ok(()) };
        let (_, (note, checkpoint)) = read_newest(&self.store)?;
        if checkpoint.size <= head.checkpoint.size {
            return Ok(());
        }
        let (store, seen) = (self.store.clone(), head.checkpoint.size);
        let mut reader = LogReader::after(&store, head.edge.clone(), head.bundle.clone(), checkpoint.size);
        // Judged by the state at its own size, which lies on the way, or before where this fleet stood.
        let published = read_checkpoint(&self.store).ok();
        let mut judged = None;
        while let Some((_, entries)) = reader.next_bundle()? {
            for entry in entries {
                self.take(Prepared::plain(entry))?;
                let there = published.as_ref().filter(|(_, p)| p.size == self.replay.size());
                judged = there.map(|head| self.judge(head)).or(judged);
            }
        }
        self.look();
        // The tree was grown from what was accepted: another root is another past.
        self.head = Some(reader.finish(note, checkpoint).map_err(|_| FleetError::Fork { size: seen })?);
        if let (Some(published), None) = (&published, &judged)
            && self.published.as_ref().is_none_or(|p| p.note != published.0)
        {
            let view = View::At(Box::new(published.clone()));
            judged = Self::open_view(store.clone(), &Known::default(), self.now, &mut |_, _| {}, view)?.published;
        }
        self.published = judged.or_else(|| self.published.take());
        self.check(&Known::default())
    }
}
