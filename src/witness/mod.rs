//! Being a witness or an auditor of logs, and asking others to be one: C2SP tlog-witness over HTTP, or by file.
//!
//! A cosigner has a home of its own, apart from any member's:
//!
//! ```text
//! home/                                  0700
//!   witness/role                         witness, or auditor
//!   witness/key                          the cosigner's private key
//!   witness/logs/<64 digits>/log         a log that is watched, by the digest of its name: keys, and for auditors the fleet
//!   witness/logs/<64 digits>/checkpoint  what was cosigned last, durable before anybody is told
//!   evidence/fork-9c02ab41d5e7           what shows that a log has gone back, or has two pasts
//! ```
//! The record decides: a cosigner that has lost it may cosign a fork, and must not go on with its key.

mod ask;
mod record;
mod serve;
mod sign;

use crate::digest::Digest;
use crate::disk::DiskError;
use crate::fleet::FleetError;
use crate::home::HomeError;
use crate::http::TlsError;
use crate::log::note::NoteError;
use crate::log::witness::Refusal;
use crate::store::StoreError;
use crate::time::Time;

pub use ask::{AskError, Cosigners, HttpCosigners};
pub use record::{AuditedFleet, Watched, Witness};
pub use serve::serve;
pub use sign::SignedFleet;

/// Why something was not cosigned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The protocol says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The certificate, or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no cosigner in this home.
    #[error("this home has no cosigner's key")]
    NoKey,
    /// There is one already.
    #[error("this home has the cosigner {0} already")]
    Taken(String),
    /// The home belongs to a fleet's members.
    #[error("this home belongs to a fleet; a cosigner has one of its own")]
    MembersHome,
    /// A name that cannot name a key.
    #[error("'{0}' cannot name a cosigner: a name is not empty and has no spaces and no '+'")]
    Name(String),
    /// A key that is none.
    #[error("the key {0}")]
    Key(#[from] NoteError),
    /// An auditor has to read what it cosigns.
    #[error("an auditor cosigns only what it can read: the log {0} has no fleet's directory")]
    Unread(String),
    /// A witness by file or an auditor finds another log in the directory than the one that is watched.
    #[error("the keyring is of the log {found}, which this home does not watch")]
    NotWatched {
        /// The log in the keyring.
        found: String,
    },
    /// The log is shorter than what was cosigned.
    #[error("ROLLBACK: the log has {found} entries; {seen} were cosigned here")]
    Rollback {
        /// How many it has.
        found: u64,
        /// How many were cosigned.
        seen: u64,
    },
    /// The log has another past than what was cosigned.
    #[error("FORK: the log's first {size} entries are not those that were cosigned here")]
    Fork {
        /// How many were cosigned.
        size: u64,
    },
    /// The keyring is not what its log says.
    #[error("the keyring is not sound: {first}{more}", more = more(*.count))]
    Unsound {
        /// The first thing that is wrong.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// The keyring shows another head than the one to be cosigned.
    #[error("the keyring that this auditor reads has {found} entries with the root {root}, not what is to be cosigned")]
    OtherHead {
        /// Its size.
        found: u64,
        /// Its root.
        root: Digest,
    },
    /// The clock runs behind what was cosigned.
    #[error("the clock says {now}, and something was cosigned here at {last}; is it right?")]
    Clock {
        /// The clock.
        now: Time,
        /// The newest cosignature's time.
        last: Time,
    },
    /// Somebody else is cosigning.
    #[error("another process has been cosigning with this home for too long")]
    Busy,
    /// The record is damaged.
    #[error("{path} in the home is damaged: {problem}; a cosigner without its record must not go on with this key")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The keyring.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The fleet.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The network.
    #[error("cannot {doing}: {source}")]
    Net {
        /// What was being done.
        doing: String,
        /// What the system says.
        source: std::io::Error,
    },
}

fn more(count: usize) -> String {
    match count.saturating_sub(1) {
        0 => String::new(),
        n => format!(", and {n} more"),
    }
}

impl From<DiskError> for WitnessError {
    fn from(e: DiskError) -> Self {
        Self::Home(e.into())
    }
}
