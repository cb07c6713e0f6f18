//! The certificate that a server shows, while it serves: what people have to hear of it, once each.

use std::sync::{Mutex, PoisonError};

use super::tls::{Renewal, Standing, Tls};
use super::{TlsError, TlsFiles};
use crate::time::Time;

/// What is said of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsEvent {
    /// One is served, and is good.
    Certificate,
    /// It ends soon, has ended, or is not good yet.
    Expiring,
    /// A new one is served.
    Renewed,
    /// A new one, or its key, is of no use, and the old pair is served.
    NotRenewed,
}

/// A server's TLS, with what was said of it last.
pub(crate) struct Certified {
    pub(super) tls: Tls,
    said: Mutex<Option<Standing>>,
}

impl Certified {
    /// The pair in these files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { tls: Tls::open(files)?, said: Mutex::default() })
    }

    /// When the certificate ends; the epoch if it does not say so in a way that can be read.
    pub(crate) fn ends(&self) -> Time {
        self.tls.validity().map_or(Time(0), |validity| validity.until)
    }

    /// What is to be said of the certificate that is served from now on.
    pub(crate) fn is_new(&self, now: Time) -> (TlsEvent, String) {
        let validity = self.tls.validity();
        let standing = validity.map(|validity| validity.standing(now));
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        let said = validity.map_or_else(|| "when it ends cannot be read".to_owned(), |validity| validity.said(now));
        (event(standing), format!("tls: a certificate is served: {said}"))
    }

    /// What is to be said of it while it is served: that it should be renewed, or has ended.
    pub(crate) fn has_aged(&self, now: Time) -> Option<(TlsEvent, String)> {
        let validity = self.tls.validity()?;
        let standing = Some(validity.standing(now));
        // Another who asks at this moment sees to it.
        let mut said = self.said.try_lock().ok()?;
        if *said == standing {
            return None;
        }
        *said = standing;
        Some((event(standing), format!("tls: the certificate: {}", validity.said(now))))
    }

    /// What is to be said of a look at the files.
    pub(crate) fn renewed(&self, renewal: Renewal, now: Time) -> Vec<(TlsEvent, String)> {
        match renewal {
            Renewal::Renewed => {
                let new = "tls: a new certificate is served from now on".to_owned();
                vec![(TlsEvent::Renewed, new), self.is_new(now)]
            }
            Renewal::Refused(problem) => {
                vec![(TlsEvent::NotRenewed, format!("tls: the old certificate is served on: {problem}"))]
            }
        }
    }
}

fn event(standing: Option<Standing>) -> TlsEvent {
    match standing {
        Some(Standing::Good) => TlsEvent::Certificate,
        Some(Standing::Early | Standing::Ending | Standing::Over) | None => TlsEvent::Expiring,
    }
}
