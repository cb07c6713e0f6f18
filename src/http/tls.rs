//! TLS 1.2 and 1.3 (RFC 5246, RFC 8446) for the server, by rustls: a chain and a key in PEM files, which are looked at again
//! while it serves. Who renews them writes the files and need not tell anybody.
//!
//! A pair counts whole or not at all: where the new files cannot be read, or do not fit each other, the old pair is served
//! on, and that is said once.
#![allow(
    clippy::disallowed_methods,
    reason = "whoever runs the server names these two files, which lie anywhere; how old the last look is, is measured by \
              the clock that only runs forward"
)]

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use crate::limits::TLS_FILE_BYTES_MAX;
use crate::text::shown;
use crate::time::{Span, Time, rough};

/// How old the last look at the files may be when a client comes.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The files of a server's TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificates as PEM: the server's own first, then those that lead to the CA's.
    pub chain: PathBuf,
    /// The private key of the first of them as PEM: PKCS#8, SEC1 or PKCS#1, not encrypted.
    pub key: PathBuf,
}

/// Why a pair of files is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", shown(&path.display().to_string()))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the private key.
    #[error("{} has a private key in it, and others can read or write it (mode {mode:04o})", shown(&path.display().to_string()))]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file is not what it has to be.
    #[error("{} {problem}", shown(&path.display().to_string()))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The key is another certificate's.
    #[error("the key in {} is not that of the first certificate in {}", shown(&key.display().to_string()), shown(&chain.display().to_string()))]
    Mismatch {
        /// The file with the certificates.
        chain: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
}

/// What a server speaks TLS with.
pub(crate) struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
    looked: Mutex<Looked>,
    again: Duration,
}

/// What is served.
#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    validity: Option<Validity>,
}

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub from: Time,
    pub until: Time,
}

/// What can be said of a certificate's validity at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    /// It is not good yet.
    Early,
    /// It ends so soon that it should have been renewed.
    Ending,
    /// It has ended.
    Over,
}

/// A certificate that ends within this is one that nobody has renewed; or within a third of its time, if that is less.
const ENDING: Span = Span::days(7);

impl Validity {
    /// That of a certificate, if it says so in the way of RFC 5280, section 4.1.2.5.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let validity = certificate.tbs_certificate().validity();
        let time = |time: x509_cert::time::Time| Time(time.to_unix_duration().as_secs());
        Some(Self { from: time(validity.not_before), until: time(validity.not_after) })
    }

    pub(crate) fn standing(self, now: Time) -> Standing {
        let soon = ENDING.min(Span(self.until.since(self.from).0 / 3));
        match now {
            now if now > self.until => Standing::Over,
            now if now < self.from => Standing::Early,
            now if self.until.since(now) < soon => Standing::Ending,
            _ => Standing::Good,
        }
    }

    /// What people have to hear of it.
    pub(crate) fn said(self, now: Time) -> String {
        let Self { from, until } = self;
        match self.standing(now) {
            Standing::Good => format!("it is good until {until}"),
            Standing::Early => format!("it is not good before {from}: clients refuse it; is the clock right?"),
            Standing::Ending => {
                format!("it ends at {until}, in {}, and nobody has renewed it", rough(until.since(now)))
            }
            Standing::Over => format!("it has ended at {until}: clients refuse it"),
        }
    }
}

/// The last look at the files.
struct Looked {
    at: Instant,
    /// What lay there; nothing where it could not be read.
    content: Option<[u8; 32]>,
    complaint: Option<String>,
}

/// What came of looking at the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// A new pair is served.
    Renewed,
    /// What lies there is of no use; the old pair is served.
    Refused(String),
}

impl Tls {
    /// The pair in these files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let read = Pair::read(&files)?;
        let current = Mutex::new(read.current(&files)?);
        let looked = Looked { at: Instant::now(), content: Some(read.digest()), complaint: None };
        Ok(Self { files, current, looked: Mutex::new(looked), again: LOOK_AGAIN })
    }

    /// What is served now, and what came of looking at the files, if this was the time for it. Who comes while another looks
    /// does not wait for that.
    pub(crate) fn now(&self) -> (Arc<ServerConfig>, Option<Renewal>) {
        let renewal = match self.looked.try_lock() {
            Ok(mut looked) if looked.at.elapsed() >= self.again => self.look(&mut looked),
            _ => None,
        };
        (self.current().config, renewal)
    }

    /// From when until when the certificate that is served now is good, if that can be read.
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.current().validity
    }

    fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self, looked: &mut Looked) -> Option<Renewal> {
        looked.at = Instant::now();
        let read = Pair::read(&self.files);
        let content = read.as_ref().ok().map(Pair::digest);
        if content.is_some() && content == looked.content {
            return None;
        }
        looked.content = content;
        match read.and_then(|pair| pair.current(&self.files)) {
            Ok(current) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
                looked.complaint = None;
                Some(Renewal::Renewed)
            }
            Err(e) => {
                let problem = e.to_string();
                let is_new = looked.complaint.replace(problem.clone()).as_ref() != Some(&problem);
                is_new.then_some(Renewal::Refused(problem))
            }
        }
    }
}

/// What the files hold.
struct Pair {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Pair {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let (key, mode) = read(&files.key)?;
        let key = Zeroizing::new(key);
        // A group may well have it by intention; everybody has it by mistake.
        if mode & 0o007 != 0 {
            return Err(TlsError::Open { path: files.key.clone(), mode });
        }
        Ok(Self { chain: read(&files.chain)?.0, key })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.chain.len().to_be_bytes());
        hash.update(&self.chain);
        hash.update(self.key.as_slice());
        hash.finalize().into()
    }

    fn current(&self, files: &TlsFiles) -> Result<Current, TlsError> {
        let wrong = |path: &Path, problem: String| TlsError::Wrong { path: path.to_owned(), problem };
        let chain = certificates(&self.chain).map_err(|problem| wrong(&files.chain, problem))?;
        let validity = chain.first().and_then(Validity::of);
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            let problem = "has no private key as PEM: PKCS#8, SEC1 or PKCS#1, without a passphrase";
            wrong(&files.key, problem.to_owned())
        })?;
        let provider = Arc::new(ring::default_provider());
        // Looked at alone first, so that it is clear which of the two files is to blame.
        let usable = provider.key_provider.load_private_key(key.clone_key());
        usable.map_err(|e| wrong(&files.key, format!("has a private key that cannot be used: {e}")))?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| wrong(&files.chain, e.to_string()))?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(|e| match e {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { chain: files.chain.clone(), key: files.key.clone() }
            }
            e => wrong(&files.chain, format!("has a certificate that cannot be used: {e}")),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Current { config: Arc::new(config), validity })
    }
}

/// The certificates of a PEM file, one at least.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| "is damaged: its PEM cannot be read".to_owned())?;
    if found.is_empty() {
        return Err("has no certificate as PEM".to_owned());
    }
    Ok(found)
}

/// A file's content, and who may do what with it.
fn read(path: &Path) -> Result<(Vec<u8>, u32), TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    // What is a pipe by mistake is not waited for.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(TlsError::Wrong { path: path.to_owned(), problem: "is no file".to_owned() });
    }
    let mut bytes = Vec::with_capacity(TLS_FILE_BYTES_MAX.min(usize::try_from(metadata.len()).unwrap_or_default() + 1));
    file.take(TLS_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > TLS_FILE_BYTES_MAX {
        let problem = format!("has more than {TLS_FILE_BYTES_MAX} bytes");
        return Err(TlsError::Wrong { path: path.to_owned(), problem });
    }
    Ok((bytes, metadata.permissions().mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_soon_by_its_own_length() {
        let begun = Time(1_000_000_000);
        let standing = |days: u64, at: Span| {
            Validity { from: begun, until: begun.plus(Span::days(days)) }.standing(begun.plus(at))
        };
        assert_eq!(standing(90, Span::days(83)), Standing::Good);
        assert_eq!(standing(90, Span(Span::days(83).0 + 1)), Standing::Ending);
        assert_eq!(standing(90, Span::days(90)), Standing::Ending);
        assert_eq!(standing(90, Span(Span::days(90).0 + 1)), Standing::Over);
        // One of a day is renewed in its last hours.
        assert_eq!(standing(1, Span::hours(16)), Standing::Good);
        assert_eq!(standing(1, Span::hours(17)), Standing::Ending);
        let early = Validity { from: begun, until: begun.plus(Span::days(1)) };
        assert_eq!(early.standing(begun.minus(Span(1))), Standing::Early);
    }
}
