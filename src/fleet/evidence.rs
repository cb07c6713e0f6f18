//! Evidence of a log that cannot be right, gathered where it is noticed.

use super::{Fleet, FleetError, Known};
use crate::log::checkpoint::Checkpoint;
use crate::log::evidence::{Case, Evidence};
use crate::log::note::Note;
use crate::policy::Freshness;
use crate::store::{SignedHead, Store, consistency_proof, read_checkpoint, read_newest, root_at};
use crate::time::Time;

impl FleetError {
    /// What shows this error to others; none if it is not about the log's past, or what shows it cannot be read.
    pub fn evidence(&self, store: &Store, known: &Known, now: Time) -> Option<Evidence> {
        let read = |bytes: &Option<Vec<u8>>| {
            let note = Note::parse(bytes.as_deref()?).ok()?;
            Checkpoint::parse(&note.text).map(|c| (note, c))
        };
        let remembered =
            |size: u64| [&known.seen, &known.seen_head].into_iter().filter_map(read).find(|(_, c)| c.size == size);
        let there =
            || [read_newest(store).ok().map(|(_, head)| head), read_checkpoint(store).ok()].into_iter().flatten();
        match self {
            Self::Rollback { found, seen } => {
                let (shown, _) = there().find(|(_, c)| c.size == *found)?;
                let (seen, _) = remembered(*seen)?;
                Some(Evidence { case: Case::Rollback, noted: now, freeze: None, proof: None, seen: Some(seen), shown })
            }
            Self::Fork { size } => fork(store, remembered(*size)?, there().find(|(_, c)| c.size >= *size)?, now),
            Self::Split { .. } => fork(store, read_checkpoint(store).ok()?, read_newest(store).ok()?.1, now),
            _ => None,
        }
    }
}

/// What shows that two heads, the larger of which the keyring has, are of two pasts; none if its tiles cannot be read.
pub(crate) fn fork(store: &Store, seen: SignedHead, shown: SignedHead, now: Time) -> Option<Evidence> {
    let (small, large) = (seen.1.size, shown.1.size);
    let proof = match small == large {
        true => None,
        false => Some((root_at(store, small, large).ok()?, consistency_proof(store, small, large).ok()?)),
    };
    Some(Evidence { case: Case::Fork, noted: now, freeze: None, proof, seen: Some(seen.0), shown: shown.0 })
}

impl Fleet {
    /// What shows that nothing newer has been had for longer than the policy allows; none if that is not so.
    pub fn freeze(&self) -> Option<Evidence> {
        let published = self.published().filter(|_| matches!(self.freshness(), Freshness::Stale(_)))?;
        let publication = published.publication.as_ref()?;
        let signed = publication.cosigners.iter().filter(|c| c.key.newest(&published.note).is_some());
        let cosigners = signed.map(|c| c.key.clone()).collect();
        let freeze = Some((publication.max_age, cosigners));
        Some(Evidence {
            case: Case::Freeze,
            noted: self.now(),
            freeze,
            proof: None,
            seen: None,
            shown: published.note.clone(),
        })
    }
}
