//! The certificate that a server shows, while it serves: what people have to hear of it, once each.

use std::sync::{Mutex, PoisonError};

use super::serve::ServeEvent;
use crate::http::{Renewal, Standing, Tls, TlsError, TlsFiles};
use crate::time::Time;

/// A server's TLS, with what was said of it last.
pub(super) struct Certified {
    pub(super) tls: Tls,
    said: Mutex<Option<Standing>>,
}

impl Certified {
    /// # Errors
    /// [`TlsError`].
    pub(super) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { tls: Tls::open(files)?, said: Mutex::default() })
    }

    /// When the certificate ends; the epoch if it does not say so in a way that can be read.
    pub(super) fn ends(&self) -> Time {
        self.tls.validity().map_or(Time(0), |validity| validity.until)
    }

    /// What is to be said of the certificate that is served from now on.
    pub(super) fn is_new(&self, now: Time) -> (ServeEvent, String) {
        let validity = self.tls.validity();
        let standing = validity.map(|validity| validity.standing(now));
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        let said = validity.map_or_else(|| "when it ends cannot be read".to_owned(), |validity| validity.said(now));
        (event(standing), format!("tls: a certificate is served: {said}"))
    }

    /// What is to be said of it while it is served: that it should be renewed, or has ended.
    pub(super) fn has_aged(&self, now: Time) -> Option<(ServeEvent, String)> {
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
    pub(super) fn renewed(&self, renewal: Renewal, now: Time) -> Vec<(ServeEvent, String)> {
        match renewal {
            Renewal::Renewed => {
                let new = "tls: a new certificate is served from now on".to_owned();
                vec![(ServeEvent::Renewed, new), self.is_new(now)]
            }
            Renewal::Refused(problem) => {
                vec![(ServeEvent::NotRenewed, format!("tls: the old certificate is served on: {problem}"))]
            }
        }
    }
}

fn event(standing: Option<Standing>) -> ServeEvent {
    match standing {
        Some(Standing::Good) => ServeEvent::Certificate,
        Some(Standing::Early | Standing::Ending | Standing::Over) | None => ServeEvent::Expiring,
    }
}
