//! Handing something in at the first mirror that takes it. The same bytes may be handed in any number of times.
#![allow(clippy::disallowed_methods, reason = "between two tries it waits")]

use std::time::Duration;

use super::ca::Mirrors;
use super::{Fault, Mirror, MirrorError};

/// How often all mirrors are tried.
const ROUNDS: u32 = 3;
/// How long each may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of what was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The mirror that has it.
    pub mirror: String,
    /// Whether it was new there.
    pub is_new: bool,
}

/// Why nothing was handed in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// There is nobody to hand in at.
    #[error("there is no mirror to hand it in at")]
    NoMirrors,
    /// A mirror has looked at it, and does not take it; nor does any other.
    #[error("{mirror} does not take it ({status}): {said}")]
    Refused {
        /// The mirror.
        mirror: String,
        /// The HTTP status.
        status: u16,
        /// Its reason.
        said: String,
    },
    /// No mirror has looked at it.
    #[error("no mirror could be reached to hand it in")]
    Nowhere(Vec<Fault>),
}

/// Hands `bytes` in at the first of these addresses that takes it: a statement with its signatures, or a request
/// (`crate::statement::Submission`). Unless one has refused it, who is away or busy is tried again, a few times.
///
/// # Errors
/// [`SubmitError`].
pub fn submit(at: &Mirrors, bytes: &[u8]) -> Result<Submitted, SubmitError> {
    submit_within(at, bytes, ROUNDS, PATIENCE)
}

/// The same, with so many rounds, in which each address has so much time: for whoever comes again anyway.
///
/// # Errors
/// [`SubmitError`].
pub fn submit_within(at: &Mirrors, bytes: &[u8], rounds: u32, patience: Duration) -> Result<Submitted, SubmitError> {
    if at.addresses.is_empty() {
        return Err(SubmitError::NoMirrors);
    }
    let mut faults = Vec::new();
    for round in 0..rounds {
        faults.clear();
        let mut refusal = None;
        for address in &at.addresses {
            match at.open(address).and_then(|mirror| hand_in(mirror.as_ref(), bytes, patience)) {
                Ok(Answer::Has(submitted)) => return Ok(submitted),
                // It may be behind, or malign; another decides for itself.
                Ok(Answer::Refuses(refused)) => refusal = refusal.or(Some(refused)),
                Err(error) => {
                    faults.push(Fault { mirror: crate::text::shown(address).to_string(), error, evidence: None });
                }
            }
        }
        if let Some(refused) = refusal {
            return Err(refused);
        }
        if round + 1 < rounds {
            std::thread::sleep(Duration::from_millis(500 << round));
        }
    }
    Err(SubmitError::Nowhere(faults))
}

enum Answer {
    Has(Submitted),
    Refuses(SubmitError),
}

fn hand_in(mirror: &dyn Mirror, bytes: &[u8], patience: Duration) -> Result<Answer, MirrorError> {
    const PATH: &str = "v1/submit";
    let (status, said) = mirror.post(PATH, bytes, patience)?;
    let said = String::from_utf8_lossy(&said);
    let said = crate::text::shown(said.lines().next().unwrap_or_default()).to_string();
    match status {
        200 | 202 => Ok(Answer::Has(Submitted { mirror: mirror.name(), is_new: status == 202 })),
        // Anything may stand there that serves files and takes nothing in; another one may.
        404 | 405 | 408 | 429 | 500..=599 => Err(MirrorError::Refused { status, path: PATH.to_owned() }),
        _ => Ok(Answer::Refuses(SubmitError::Refused { mirror: mirror.name(), status, said })),
    }
}
