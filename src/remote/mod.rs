//! A keyring that is kept elsewhere: bringing a directory's keyring up to date from mirrors, and handing in what was made
//! here.
//!
//! A mirror is a fleet's directory behind an address: files, served by whatever serves files. Nothing that it says is
//! believed: what was brought is laid down beside the keyring, replayed there over the old one with every check that opening
//! a fleet makes, and only then joins it. A mirror that is behind, that shows another past, sends garbage, or does not come
//! to an end, is named and the next one is asked; what is here stays as it was.
//!
//! Nothing needs a listing: commits are numbered by the entries before them, objects are named by entries, sealed files by
//! the state.

mod acks;
mod base;
mod brought;
mod ca;
mod directory;
mod heads;
mod log;
mod metrics;
mod mirror;
mod publish;
mod pull;
mod routes;
mod said;
mod serve;
mod submit;
mod unit;
mod waiting;

use crate::disk::DiskError;
use crate::fleet::FleetError;
use crate::log::evidence::Evidence;
use crate::store::StoreError;

pub use crate::http::{TlsError, TlsFiles};
pub use acks::{BroughtAcks, bring_acks};
pub use ca::{Ca, Mirrors};
pub use directory::Shelf;
pub use metrics::ServerMetric;
pub use mirror::{Counters, DirectoryMirror, HttpMirror, Mirror, open};
pub use publish::{PublishError, PublishedFiles, publish};
pub use pull::{LAID, Pull, Pulled, Waiting, Want, pull, pull_from};
pub use routes::{ROUTES, Route};
pub use serve::{ServeError, ServeEvent, Server};
pub use submit::{SubmitError, Submitted, submit, submit_within};
pub use unit::{SERVE_UNIT, Serving, serve_unit};

/// What is wrong with a mirror.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The address is none.
    #[error("it is no mirror's address: {0}")]
    Address(String),
    /// No answer.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// It does not come to an end.
    #[error("it was given {seconds} s, and was not done")]
    Late {
        /// How long it had.
        seconds: u64,
    },
    /// It answers, but not with the file.
    #[error("it answers {status} for {path}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The file.
        path: String,
    },
    /// A file is larger than any such file is.
    #[error("its {path} has more than {limit} bytes")]
    TooLarge {
        /// The file.
        path: String,
        /// How large it may be.
        limit: usize,
    },
    /// A file that has to be there is not.
    #[error("it has no {0}")]
    Missing(String),
    /// A file is not what it has to be.
    #[error("its {path} is wrong: {problem}")]
    Wrong {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// It shows fewer entries than are known here.
    #[error("it is behind: it shows {size} entries, and {here} are known here")]
    Behind {
        /// What it shows.
        size: u64,
        /// What is known.
        here: u64,
    },
    /// It shows another log than the one whose entries are here.
    #[error("FORK: it shows {size} entries, which have another past than those that are here")]
    Fork {
        /// How many it shows.
        size: u64,
    },
    /// It shows another fleet.
    #[error("it shows the fleet {found}, and pinned is {pinned}")]
    Fleet {
        /// The fleet's id there.
        found: String,
        /// The pinned one.
        pinned: String,
    },
    /// What it has does not stand up to a replay.
    #[error(transparent)]
    Unsound(FleetError),
    /// Our own disk, on which what was brought is laid down.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl MirrorError {
    fn wrong(path: &str, problem: impl ToString) -> Self {
        Self::Wrong { path: path.to_owned(), problem: crate::text::shown(&problem.to_string()).to_string() }
    }
}

/// A mirror from which nothing was had.
#[derive(Debug)]
pub struct Fault {
    /// Its address.
    pub mirror: String,
    /// Why.
    pub error: MirrorError,
    /// What shows to others that the log cannot be right, where it is that.
    pub evidence: Option<Box<Evidence>>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.mirror, self.error)
    }
}

/// Why a keyring was not brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// There is nobody to ask.
    #[error("there is no mirror to pull from")]
    NoMirrors,
    /// An empty directory believes nobody.
    #[error("there is no keyring here, and no fleet is pinned: nothing would tell the right one from another")]
    NoPin,
    /// None of the mirrors had anything that could be used.
    #[error("none of the {} mirrors could be used", .0.len())]
    Nowhere(Vec<Fault>),
    /// Another is pulling.
    #[error("another process is pulling into this directory")]
    Busy,
    /// Somebody has been writing in the keyring for too long.
    #[error("another process has been writing in the keyring for too long")]
    Locked,
    /// The keyring has changed meanwhile.
    #[error("somebody else changed this keyring meanwhile; nothing was brought")]
    Moved,
    /// What is here cannot be read.
    #[error(transparent)]
    Here(#[from] FleetError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<StoreError> for PullError {
    fn from(e: StoreError) -> Self {
        Self::Here(e.into())
    }
}
