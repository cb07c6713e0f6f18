//! Asking cosigners by C2SP tlog-witness. A cosigner that does not answer, or answers nonsense, costs its deadline and
//! nothing else.

use std::io::Read as _;
use std::time::Duration;

use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::log::note::{Note, SignatureLine};
use crate::log::witness::AddCheckpoint;
use crate::policy::Cosigner;
use crate::store::{Store, StoreError, consistency_proof};

/// Why a cosigner gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No answer.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("it refused ({status}): {said}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// Its answer is no cosignature by its key.
    #[error("it answered, but not with a cosignature by its key")]
    Nonsense,
    /// It says that it has cosigned more entries than the log has.
    #[error("it has cosigned {size} entries, and the log has {here}: was this log restored from an old copy?")]
    Ahead {
        /// What it has cosigned.
        size: u64,
        /// What the log has.
        here: u64,
    },
    /// The log's own tiles.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How cosigners are asked; tests have other ways.
pub trait Cosigners {
    /// Sends a request to a cosigner; gives status and body of the answer.
    ///
    /// # Errors
    /// [`AskError::Unreachable`].
    fn post(&self, url: &str, body: &[u8]) -> Result<(u16, Vec<u8>), AskError>;

    /// Gets a cosigner's line for the head in `note`, which has `size` entries. `known` is the size that it cosigned
    /// last, as far as we know; if it knows better, it is asked once more from there.
    ///
    /// # Errors
    /// [`AskError`].
    fn cosign(
        &self,
        cosigner: &Cosigner,
        url: &str,
        store: &Store,
        head: (&Note, u64),
        known: u64,
    ) -> Result<SignatureLine, AskError> {
        let (note, size) = head;
        let mut old_size = known.min(size);
        for _ in 0..3 {
            let proof = consistency_proof(store, old_size, size)?;
            let request = AddCheckpoint { old_size, proof, note: note.clone() };
            let (status, body) = self.post(&format!("{url}/add-checkpoint"), &request.to_bytes())?;
            let text = String::from_utf8_lossy(&body);
            match status {
                200 => {
                    let lines = text.lines().filter_map(|l| SignatureLine::parse(l).ok());
                    let own = lines.filter(|l| cosigner.key.time(&note.text, l).is_some());
                    return own.max_by_key(|l| cosigner.key.time(&note.text, l)).ok_or(AskError::Nonsense);
                }
                409 => match text.strip_suffix('\n').and_then(|t| t.parse::<u64>().ok()) {
                    Some(there) if there > size => return Err(AskError::Ahead { size: there, here: size }),
                    Some(there) if there != old_size => old_size = there,
                    _ => return Err(AskError::Nonsense),
                },
                status => {
                    let said = crate::text::shown(text.lines().next().unwrap_or_default()).to_string();
                    return Err(AskError::Refused { status, said });
                }
            }
        }
        Err(AskError::Nonsense)
    }
}

/// Over HTTP, with a deadline for each answer.
#[derive(Debug)]
pub struct HttpCosigners {
    agent: ureq::Agent,
}

impl HttpCosigners {
    /// Waits at most so long for each answer.
    pub fn new(deadline: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(deadline))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("keys/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().into() }
    }
}

impl Cosigners for HttpCosigners {
    fn post(&self, url: &str, body: &[u8]) -> Result<(u16, Vec<u8>), AskError> {
        let unreachable =
            |e: &dyn std::fmt::Display| AskError::Unreachable(crate::text::shown(&e.to_string()).to_string());
        let response = self
            .agent
            .post(url)
            .header("Content-Type", "text/plain; charset=utf-8")
            .send(body)
            .map_err(|e| unreachable(&e))?;
        let status = response.status().as_u16();
        let mut answer = Vec::new();
        let reader = response.into_body().into_reader().take(CHECKPOINT_BYTES_MAX as u64);
        { reader }.read_to_end(&mut answer).map_err(|e| unreachable(&e))?;
        Ok((status, answer))
    }
}
