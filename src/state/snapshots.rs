//! Snapshots: a quorum says what replaying the log comes to, for those who start from there instead.
//!
//! The fold judges who says it, not whether it is true: a replay that began at a later state could not tell, and every
//! replay has to come to the same. That it is true is checked by each signer before she signs, and by every
//! verification from the first entry (`crate::fleet`, snapshot.rs).

use serde::{Deserialize, Serialize};

use super::Void;
use super::fold::{Context, Objects, Replay, Stop};
use crate::name::ActName;
use crate::statement::Snapshot;
use crate::time::Time;

/// A snapshot that is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// When it was logged.
    pub at: Time,
    /// The index of its entry.
    pub index: u64,
    /// What it says.
    pub snapshot: Snapshot,
}

impl<O: Objects> Replay<O> {
    pub(super) fn snapshot(&mut self, change: &Snapshot, context: &Context<'_>) -> Result<(), Stop> {
        let bad = |problem: String| Void::Snapshot { size: change.size, problem };
        if change.size == 0 || change.size > context.index {
            return Err(bad(format!("{} entries come before it", context.index)).into());
        }
        if let Some(newest) = self.state_ref()?.snapshot.as_ref().filter(|s| s.snapshot.size >= change.size) {
            return Err(bad(format!("there is one of {} already", newest.snapshot.size)).into());
        }
        self.quorum(ActName::Snapshot, None, None, context)?;
        let recorded = Recorded { at: context.time, index: context.index, snapshot: change.clone() };
        self.state_mut()?.snapshot = Some(recorded);
        Ok(())
    }
}
