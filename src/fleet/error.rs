//! Why a fleet cannot be opened or changed.

use crate::digest::Digest;
use crate::disk::DiskError;
use crate::name::MemberName;
use crate::state::{ObjectError, ReplayError, Void};
use crate::statement::{EntryError, StatementError};
use crate::store::StoreError;
use crate::time::Time;

/// Why a fleet cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The keyring.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// An attachment.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A statement cannot be written.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// An entry cannot be written.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// It is not the fleet that was pinned.
    #[error("this is not the pinned fleet: its id is {found}, pinned is {pinned}")]
    Pin {
        /// The id of the fleet in the keyring.
        found: Digest,
        /// The pinned id.
        pinned: Digest,
    },
    /// The checkpoint is not signed by the log's key.
    #[error("log/checkpoint is not signed by the log's key of this fleet")]
    Unsigned,
    /// The log is shorter than it was.
    #[error("ROLLBACK: the log has {found} entries; this machine has seen {seen}")]
    Rollback {
        /// How many it has.
        found: u64,
        /// How many were seen.
        seen: u64,
    },
    /// The log has another past than it had.
    #[error("FORK: the log's first {size} entries are not those that this machine has seen")]
    Fork {
        /// How many had been seen.
        size: u64,
    },
    /// Two heads in one keyring, both signed by the log's key, have different pasts.
    #[error("FORK: log/checkpoint and log/head are both signed, and differ in their first {size} entries")]
    Split {
        /// How many entries the published one has.
        size: u64,
    },
    /// The policy wants cosigners, and the head has not enough of them.
    #[error("log/checkpoint, at {size} entries, is not published: it lacks {missing}")]
    Unpublished {
        /// Who.
        missing: String,
        /// How many entries it has.
        size: u64,
    },
    /// A snapshot from which nothing can begin.
    #[error("nothing begins with the snapshot {state}: {problem}")]
    Snapshot {
        /// The hash of its state.
        state: Digest,
        /// Why not.
        problem: String,
    },
    /// What the home has kept does not serve; everything is replayed then.
    #[error("what was kept of the last replay does not serve")]
    Useless,
    /// The log claims to be from the future.
    #[error("the log's newest entry says {claimed}, and it is {now} here; is the clock right?")]
    Future {
        /// The newest time in the log.
        claimed: Time,
        /// The clock.
        now: Time,
    },
    /// The clock is behind the time that a quorum of cosigners has stated.
    #[error("a quorum of cosigners has said at {cosigned} what is newest, and it is {now} here; is the clock right?")]
    Behind {
        /// The cosigners' time.
        cosigned: Time,
        /// The clock.
        now: Time,
    },
    /// A statement that would have no effect.
    #[error("the change is refused: {0}")]
    Refused(Void),
    /// Somebody changed something between plan and execution.
    #[error("the fleet has changed since this was planned: {0}")]
    Moved(String),
    /// The keyring came out of a backup, and nobody has shown yet that the fleet's log has not gone on.
    #[error(
        "this keyring was restored from a backup of {size} entries; nothing is changed until the log is shown to be that of the others"
    )]
    Restored {
        /// How many entries the backup had.
        size: u64,
    },
    /// The file is no emergency.
    #[error("it is no emergency that was declared, but {0}")]
    NoEmergency(String),
    /// An emergency that too few have signed, by what this machine knows.
    #[error("the emergency {} lacks {missing}; nothing was applied", id.short())]
    Undecided {
        /// Which.
        id: Digest,
        /// What it lacks.
        missing: String,
    },
    /// No such proposal.
    #[error("there is no proposal {0}")]
    NoProposal(String),
    /// The change has happened, and what follows from it has failed in part.
    #[error("{0}; but the change is made, and the next one finishes what is left of it")]
    Unfinished(Box<FleetError>),
    /// The log's key is not this machine's, or no longer.
    #[error(
        "with this the log's key would be another than those in this home, and nobody here could sign the new head"
    )]
    NotTheLogKey,
    /// Signing failed.
    #[error("cannot sign as {member}: {problem}")]
    Sign {
        /// Who.
        member: MemberName,
        /// Why.
        problem: String,
    },
}

impl From<DiskError> for FleetError {
    fn from(e: DiskError) -> Self {
        Self::Store(e.into())
    }
}
