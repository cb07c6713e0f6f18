//! The heads that a mirror shows, and what is said of what leads to them.

use super::brought::Brought;
use super::{MirrorError, log};
use crate::fleet::{Fleet, FleetError};
use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::log::checkpoint::Checkpoint;
use crate::log::note::Note;
use crate::store::{CHECKPOINT, HEAD, SignedHead};

/// The heads that a mirror shows.
pub(super) struct Heads {
    pub newest: SignedHead,
    pub published: Option<SignedHead>,
    /// As they were sent, with their names.
    pub bytes: Vec<(&'static str, Vec<u8>)>,
}

impl Heads {
    /// Asks for them.
    pub(super) fn ask(brought: &Brought<'_>) -> Result<Self, MirrorError> {
        let mut bytes = Vec::new();
        let mut read = |path: &'static str| {
            let Some(found) = brought.ask(path, CHECKPOINT_BYTES_MAX)? else { return Ok(None) };
            let note = Note::parse(&found).map_err(|e| MirrorError::wrong(path, format!("it {e}")))?;
            let checkpoint = Checkpoint::parse(&note.text);
            let checkpoint = checkpoint.ok_or_else(|| MirrorError::wrong(path, "its text is not a checkpoint"))?;
            bytes.push((path, found));
            Ok::<_, MirrorError>(Some((note, checkpoint)))
        };
        // What waits is read first: who publishes it meanwhile removes it after the other is there.
        let (waiting, published) = (read(HEAD)?, read(CHECKPOINT)?);
        let newest = match (waiting, &published) {
            (Some(head), Some(old)) if head.1.size > old.1.size => head,
            (_, Some(published)) => published.clone(),
            (Some(head), None) => head,
            (None, None) => return Err(MirrorError::Missing(format!("keyring/{CHECKPOINT}"))),
        };
        Ok(Self { newest, published, bytes })
    }
}

/// What the replay of what was brought says.
pub(super) fn unsound(e: FleetError) -> MirrorError {
    match e {
        FleetError::Pin { found, pinned } => {
            MirrorError::Fleet { found: found.to_string(), pinned: pinned.to_string() }
        }
        e => MirrorError::Unsound(e),
    }
}

/// What opening a fleet does not look at, and a verification of the keyring would name.
pub(super) fn check(fleet: &Fleet, signers: &log::Signers) -> Result<(), MirrorError> {
    let keys = fleet.every_log_key();
    if let Some((path, _)) = signers.iter().find(|(_, signer)| !keys.contains(signer)) {
        return Err(MirrorError::wrong(path, "it is not signed by the log's key"));
    }
    if let Some(published) = fleet.published() {
        if !published.is_signed {
            return Err(MirrorError::Unsound(FleetError::Unsigned));
        }
        if let Some(missing) = published.lacks() {
            let size = published.checkpoint.size;
            return Err(MirrorError::Unsound(FleetError::Unpublished { missing, size }));
        }
    }
    let notes =
        fleet.head().map(|h| (HEAD, &h.note)).into_iter().chain(fleet.published().map(|p| (CHECKPOINT, &p.note)));
    for (path, note) in notes {
        if let Some(name) = fleet.strange_signature(note) {
            return Err(MirrorError::wrong(path, format!("its line of {name} is nobody's whom the policy names")));
        }
    }
    Ok(())
}
