//! A snapshot of what the log has come to, for machines that are to start from there.

use super::OpsError;
use crate::fleet::{Draft, Fleet};
use crate::limits::STATE_BYTES_MAX;
use crate::statement::{Act, Snapshot};

/// The snapshot at the newest head, and the change that puts it on record.
///
/// # Errors
/// [`OpsError::Impossible`], if the state is too large to be read again.
pub fn plan_snapshot(reason: &str, fleet: &Fleet) -> Result<(Snapshot, Draft), OpsError> {
    let head = fleet.head().ok_or_else(|| OpsError::Impossible("the log has no entry yet".to_owned()))?;
    let bytes = fleet.logged_state().to_bytes();
    if bytes.len() > STATE_BYTES_MAX {
        let problem = format!(
            "the state has {} bytes; a snapshot has at most {STATE_BYTES_MAX}; what is beyond that needs a fleet of its own",
            bytes.len()
        );
        return Err(OpsError::Impossible(problem));
    }
    let (root, size) = (head.checkpoint.root, head.checkpoint.size);
    let snapshot = Snapshot { root, size, state: crate::digest::Digest::of(&bytes) };
    let draft = Draft::with(Act::Snapshot(snapshot.clone()), reason, vec![bytes]);
    Ok((snapshot, draft))
}
