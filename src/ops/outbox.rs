//! What waits here and is to be handed in elsewhere: statements with their signatures and all that they refer to.

use std::collections::BTreeSet;

use super::OpsError;
use crate::digest::Digest;
use crate::fleet::Fleet;
use crate::limits::{PART_BYTES, SUBMIT_BYTES_MAX};
use crate::name::MemberName;
use crate::statement::{Act, Entry, ObjectKind, Submission, SubmissionError};
use crate::store::Store;

/// Something to be handed in.
#[derive(Debug)]
pub struct Outgoing {
    /// The statement.
    pub id: Digest,
    /// What is handed in (`crate::statement::Submission`), or why it is more than can be.
    pub bytes: Result<Vec<u8>, SubmissionError>,
}

/// The proposals that wait here; with `by`, those that one of these members has signed.
///
/// # Errors
/// [`OpsError`].
pub fn outbox(fleet: &mut Fleet, by: Option<&BTreeSet<MemberName>>) -> Result<Vec<Outgoing>, OpsError> {
    let mut found = Vec::new();
    for proposal in fleet.proposals()? {
        let names = |name: &MemberName| crate::statement::principal(&fleet.state().fleet, name);
        let is_own =
            |by: &BTreeSet<MemberName>| by.iter().any(|m| proposal.signatures.iter().any(|s| s.name == names(m)));
        if !by.is_none_or(is_own) {
            continue;
        }
        let entry = Entry { signed: proposal.signed, signatures: proposal.signatures };
        let id = entry.signed.id;
        // Each of these is larger than what can be handed in: it need not be read for that.
        let large = if let Act::Seal(list) = &entry.signed.statement.act {
            list.iter().map(|change| change.parts.len()).sum::<usize>()
        } else {
            0
        };
        let bytes = match large {
            0 => Submission::of_entry(&entry, &attached(fleet.store(), &entry)),
            parts => Err(SubmissionError::TooLarge(parts * PART_BYTES)),
        };
        found.push(Outgoing { id, bytes });
    }
    Ok(found)
}

/// What a statement refers to, as far as it is here. What the other side has already it leaves alone.
fn attached(store: &Store, entry: &Entry) -> Vec<Vec<u8>> {
    let objects = entry.signed.statement.act.objects().into_iter();
    let read = objects.filter_map(|(digest, kind)| match kind {
        ObjectKind::Sealed => store.staged(&digest).ok().flatten(),
        _ => store.object_within(&digest, SUBMIT_BYTES_MAX).ok(),
    });
    read.collect()
}
