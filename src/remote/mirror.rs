//! What a mirror is asked: a file by its path below the fleet's directory. Over HTTP, from a directory, or from an object store.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ca::Ca;
use super::serve::Server;
use super::{MirrorError, acks, waiting};
use crate::digest::Digest;
use crate::disk::{Access, Bucket, Condition, Created, Disk, RealFiles, Tag, is_address};
use crate::fleet::Known;
use crate::http::{Body, Response};
use crate::limits::{ACKS_LIST_BYTES_MAX, URL_BYTES_MAX, WAITING_BYTES_MAX};
use crate::statement::{Handed, Submission};
use crate::store::request_path;
use crate::text::shown;
use crate::time::Time;

/// How long a mirror has to answer, and a small file to arrive.
const ANSWER: Duration = Duration::from_secs(15);
/// How slow a larger file may come, bytes a second. Whoever is slower is no mirror.
const BYTES_A_SECOND_MIN: u64 = 64 << 10;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a fleet's files can be had.
pub trait Mirror: Send + Sync {
    /// Its address, for messages.
    fn name(&self) -> String;

    /// Reads a file, by its path below the fleet's directory, of at most `limit` bytes; `None` if it has none. It has `within`
    /// for all of it.
    ///
    /// # Errors
    /// [`MirrorError`].
    fn get(&self, path: &str, limit: usize, within: Duration) -> Result<Option<Vec<u8>>, MirrorError>;

    /// The list of what waits there, paths below the keyring, one a line; `None` if it keeps none.
    ///
    /// # Errors
    /// [`MirrorError`].
    fn waiting(&self, within: Duration) -> Result<Option<String>, MirrorError> {
        let list = self.get("v1/waiting", WAITING_BYTES_MAX, within)?;
        Ok(list.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// The list of what machines say of themselves: a member and a digest, one a line; `None` if it keeps none.
    ///
    /// # Errors
    /// [`MirrorError`].
    fn acks(&self, within: Duration) -> Result<Option<String>, MirrorError> {
        let list = self.get("v1/acks", ACKS_LIST_BYTES_MAX, within)?;
        Ok(list.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// Hands something in; gives status and answer.
    ///
    /// # Errors
    /// [`MirrorError`].
    fn post(&self, path: &str, body: &[u8], within: Duration) -> Result<(u16, Vec<u8>), MirrorError>;
}

/// The mirror at this address: `https://…`, `http://…`, a prefix in an object store, or a fleet's directory.
///
/// # Errors
/// [`MirrorError::Address`], [`MirrorError::Unreachable`] for a directory that cannot be opened.
pub fn open(address: &str) -> Result<Arc<dyn Mirror>, MirrorError> {
    open_by(address, None, &Counters::default())
}

/// Counters of the requests that object stores were sent, one a store that was opened.
pub type Counters = Arc<Mutex<Vec<Arc<AtomicU64>>>>;

/// A fleet's keyring in an object store, for reading.
#[cfg(feature = "store-object")]
fn bucket(address: &str, counters: &Counters) -> Result<Arc<dyn Mirror>, MirrorError> {
    let store =
        crate::disk::Cloud::open(address).map_err(|e| MirrorError::Address(shown(&e.to_string()).to_string()))?;
    counters.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(store.requests());
    Ok(Arc::new(DirectoryMirror { disk: Disk::of_bucket(store), path: None }))
}

#[cfg(not(feature = "store-object"))]
fn bucket(_: &str, _: &Counters) -> Result<Arc<dyn Mirror>, MirrorError> {
    Err(MirrorError::Address("this keys was built without object stores".to_owned()))
}

/// The same, whose name nobody but these CAs may vouch for.
pub(super) fn open_by(address: &str, ca: Option<&Ca>, counters: &Counters) -> Result<Arc<dyn Mirror>, MirrorError> {
    match address.split_once("://") {
        Some(("http" | "https", _)) => Ok(Arc::new(HttpMirror::new(address, ca)?)),
        Some(_) if is_address(address) => bucket(address, counters),
        Some(_) => Err(MirrorError::Address("it begins with neither https:// nor http://".to_owned())),
        None => Ok(Arc::new(DirectoryMirror::open(Path::new(address))?)),
    }
}

/// A mirror over HTTP.
#[derive(Debug)]
pub struct HttpMirror {
    base: String,
    agent: ureq::Agent,
}

impl HttpMirror {
    /// The mirror at this URL, below which the fleet's directory lies. Without a CA the public ones are trusted.
    ///
    /// # Errors
    /// [`MirrorError::Address`].
    pub fn new(url: &str, ca: Option<&Ca>) -> Result<Self, MirrorError> {
        let bad = |problem: &str| Err(MirrorError::Address(problem.to_owned()));
        if url.len() > URL_BYTES_MAX {
            return bad("it is too long");
        }
        if url.bytes().any(|b| !b.is_ascii_graphic()) || url.contains(['?', '#']) {
            return bad("it has characters that a plain address has not");
        }
        let host = url.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
        if host.is_empty() || host.contains('@') {
            return bad("it names no host, or somebody's name and password beside it");
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .max_idle_connections_per_host(8)
            .user_agent(concat!("keys/", env!("CARGO_PKG_VERSION")));
        let config = match ca {
            Some(ca) => config.tls_config(ca.config()),
            None => config,
        };
        Ok(Self { base: url.trim_end_matches('/').to_owned(), agent: config.build().into() })
    }
}

fn unreachable(error: &impl std::fmt::Display) -> MirrorError {
    MirrorError::Unreachable(shown(&error.to_string()).to_string())
}

/// How long a file of `limit` bytes may take.
fn patience(limit: usize, within: Duration) -> Duration {
    within.min(ANSWER + Duration::from_secs(limit as u64 / BYTES_A_SECOND_MIN)).max(Duration::from_millis(1))
}

/// Reads an answer's body, and one byte more than there may be.
fn body(response: ureq::http::Response<ureq::Body>, limit: usize) -> Result<Option<Vec<u8>>, MirrorError> {
    let mut bytes = Vec::new();
    let reader = response.into_body().into_reader().take((limit as u64).saturating_add(1));
    { reader }.read_to_end(&mut bytes).map_err(|e| unreachable(&e))?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

impl Mirror for HttpMirror {
    fn name(&self) -> String {
        self.base.clone()
    }

    fn get(&self, path: &str, limit: usize, within: Duration) -> Result<Option<Vec<u8>>, MirrorError> {
        let url = format!("{}/{path}", self.base);
        let request = self.agent.get(url).config().timeout_global(Some(patience(limit, within))).build();
        let response = request.call().map_err(|e| unreachable(&e))?;
        match response.status().as_u16() {
            200 => {
                let too_large = || MirrorError::TooLarge { path: path.to_owned(), limit };
                body(response, limit)?.map(Some).ok_or_else(too_large)
            }
            404 | 410 => {
                // Read to its end, so that the connection serves again.
                let _ = body(response, 4096);
                Ok(None)
            }
            status => Err(MirrorError::Refused { status, path: path.to_owned() }),
        }
    }

    fn post(&self, path: &str, bytes: &[u8], within: Duration) -> Result<(u16, Vec<u8>), MirrorError> {
        let url = format!("{}/{path}", self.base);
        let request = self.agent.post(url).config().timeout_global(Some(patience(bytes.len(), within))).build();
        let response =
            request.header("Content-Type", "application/octet-stream").send(bytes).map_err(|e| unreachable(&e))?;
        let status = response.status().as_u16();
        Ok((status, body(response, 16 << 10)?.unwrap_or_default()))
    }
}

/// A fleet's directory: a stick, a checkout, a share; or the same below a prefix in an object store.
#[derive(Debug)]
pub struct DirectoryMirror {
    disk: Disk,
    /// None in an object store.
    path: Option<PathBuf>,
}

impl DirectoryMirror {
    /// The fleet in this directory.
    ///
    /// # Errors
    /// [`MirrorError::Unreachable`].
    pub fn open(path: &Path) -> Result<Self, MirrorError> {
        let files = RealFiles::open(path, Access::Public).map_err(|e| unreachable(&e))?;
        Ok(Self { disk: Disk::new(files), path: Some(path.to_owned()) })
    }
}

impl Mirror for DirectoryMirror {
    fn name(&self) -> String {
        shown(&self.disk.root()).to_string()
    }

    fn get(&self, path: &str, limit: usize, _within: Duration) -> Result<Option<Vec<u8>>, MirrorError> {
        self.disk.read(path, limit).map_err(|e| match e.source.kind() {
            io::ErrorKind::FileTooLarge => MirrorError::TooLarge { path: path.to_owned(), limit },
            io::ErrorKind::InvalidInput => MirrorError::wrong(path, &e.source),
            _ => unreachable(&e),
        })
    }

    fn waiting(&self, _within: Duration) -> Result<Option<String>, MirrorError> {
        waiting::list(&self.disk, "keyring/").map(Some).map_err(|e| unreachable(&e))
    }

    fn acks(&self, _within: Duration) -> Result<Option<String>, MirrorError> {
        acks::list(&self.disk, "keyring/").map(Some).map_err(|e| unreachable(&e))
    }

    /// Takes what `keys serve` would, by the same judgement. A request is laid among those that wait without looking at it: whoever
    /// takes members in does.
    #[allow(
        clippy::disallowed_methods,
        reason = "as `keys serve`, which is told the time by its command, it judges by the clock"
    )]
    fn post(&self, _path: &str, body: &[u8], _within: Duration) -> Result<(u16, Vec<u8>), MirrorError> {
        if let Ok(Submission { handed: Handed::Request(..), .. }) = Submission::parse(body) {
            let path = format!("keyring/{}", request_path(&Digest::of(body)));
            return match self.disk.create(&path, body).map_err(|e| unreachable(&e))? {
                Created::New => Ok((202, Vec::new())),
                Created::Existed => Ok((200, Vec::new())),
            };
        }
        // Whoever may write in a store says so there, by 'keys' on the store itself.
        let Some(path) = &self.path else { return Ok((405, Vec::new())) };
        let clock = || Time::from_system(std::time::SystemTime::now());
        let server = Server::open(path, Known::default(), clock, |_, _| {}).map_err(|e| unreachable(&e))?;
        let Response { status, body, .. } = server.take(body);
        match body {
            Body::Bytes(said) => Ok((status, said)),
            Body::Shared(_) | Body::File(_) => Ok((status, Vec::new())),
        }
    }
}

/// A mirror's keyring as something that can be read like any other.
pub(super) struct Mirrored {
    mirror: Arc<dyn Mirror>,
    until: Instant,
}

impl Mirrored {
    /// The mirror has so long for all that is read.
    #[allow(
        clippy::disallowed_methods,
        reason = "how long a mirror may take is measured by the clock that only runs forward"
    )]
    pub(super) fn new(mirror: Arc<dyn Mirror>, within: Duration) -> Self {
        Self { mirror, until: Instant::now() + within }
    }
}

impl Bucket for Mirrored {
    #[allow(
        clippy::disallowed_methods,
        reason = "how long a mirror may take is measured by the clock that only runs forward"
    )]
    fn get(&self, key: &str, limit: usize) -> io::Result<Option<(Vec<u8>, Tag)>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let found = self.mirror.get(&format!("keyring/{key}"), limit, left);
        Ok(found.map_err(io::Error::other)?.map(|bytes| (bytes, Tag(String::new()))))
    }

    fn list(&self, _prefix: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn put(&self, _key: &str, _bytes: &[u8], _condition: &Condition) -> io::Result<bool> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn delete(&self, _key: &str) -> io::Result<bool> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn name(&self) -> String {
        self.mirror.name()
    }
}
