//! A fleet's directory over HTTP: its files to whoever asks, read-only, and one place to hand something in. What is not named
//! here is refused.
//!
//! ```text
//! /keyring/…  /policy/…        the files of `crate::store::Public`, as any file server would give them
//! /v1/waiting                  the paths of what waits: proposals, requests, cosignatures, one a line
//! /v1/acks                     what machines say of themselves: a member and a digest, one a line
//! /pks/lookup  /pks/v2/…       certificates for gpg, sq and others (`crate::directory`), as of the published log
//! /.well-known/openpgpkey/…    the same as a Web Key Directory
//! /healthz  /metrics           whether the keyring can be read, and its size; what is counted, for Prometheus
//! /v1/submit                   takes a statement with signatures, or a request (`crate::statement::Submission`), or what a
//!                              machine says of itself (`crate::agent::Ack`)
//! ```
//! The table with methods and bodies is [`super::routes`].
#![allow(
    clippy::disallowed_methods,
    reason = "a client's pace is measured by the clock that only runs forward; a lock that somebody else has is waited for"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::directory::{Current, Shelf};
use super::metrics::Numbers;
use super::routes::{Endpoint, Named, Refused, routed};
use super::said::{NOT_ADDED, refused, status, tagged};
use super::{acks, waiting};
use crate::agent::Ack;
use crate::digest::Digest;
use crate::directory::{Asked, Tree};
use crate::disk::{Access, Disk, DiskError, Memory, RealFiles};
use crate::fleet::{Fleet, FleetError, Known, Refusal, Taken, View};
use crate::http::{
    self, Answers, Body, Bounds, Certified, Head, Pace, Renewal, Request, Response, TlsError, TlsEvent, TlsFiles,
    Traffic,
};
use crate::limits::{
    MIRROR_CONNECTIONS_MAX, SUBMIT_BYTES_MAX, SUBMIT_BYTES_TOTAL_MAX, SUBMITS_AT_ONCE_MAX, SUBMITTERS_MAX,
};
use crate::statement::Submission;
use crate::store::{Public, Store, read_newest};
use crate::time::Time;

/// Files up to this size are read at once, and those that may change have an entity tag.
const TAGGED_BYTES_MAX: u64 = 1 << 20;
/// How old the list of what machines say may be.
const LIST_AGAIN: Duration = Duration::from_secs(2);
/// How long the keyring's lock is waited for.
const LOCK_TRIES: usize = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The keyring.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The network.
    #[error("cannot accept connections: {0}")]
    Net(std::io::Error),
    /// The certificate, or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What a server says something about; a closed set, so that programs can look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServeEvent {
    /// Something new was handed in.
    Taken,
    /// It cannot answer, for a reason of its own.
    Trouble,
    /// The key server's pages are older than the log.
    Pages,
    /// The certificate that is served, and when it ends.
    Certificate,
    /// It ends soon, has ended, or is not good yet.
    Expiring,
    /// A new certificate is served.
    Renewed,
    /// A new certificate or key is of no use, and the old pair is served.
    NotRenewed,
    /// Somebody asked to join by what somebody has joined by.
    Refused,
    /// The kernel does not keep it from other files.
    Unconfined,
}

impl From<TlsEvent> for ServeEvent {
    fn from(event: TlsEvent) -> Self {
        match event {
            TlsEvent::Certificate => Self::Certificate,
            TlsEvent::Expiring => Self::Expiring,
            TlsEvent::Renewed => Self::Renewed,
            TlsEvent::NotRenewed => Self::NotRenewed,
        }
    }
}

/// Who is told what a server has to say.
type Told = Box<dyn Fn(ServeEvent, &str) + Send + Sync>;

/// A served fleet.
pub struct Server {
    keyring: Disk,
    policy: Option<Disk>,
    /// Opened when something is handed in, over the keyring and what is with it.
    fleet: Mutex<Option<Fleet>>,
    aside: Disk,
    known: Known,
    paces: Mutex<BTreeMap<IpAddr, (Instant, u32)>>,
    listed: Mutex<Option<(Instant, String)>>,
    pages: Current,
    numbers: Numbers,
    clock: Box<dyn Fn() -> Time + Send + Sync>,
    tls: Option<Certified>,
    log: Told,
}

impl Server {
    /// The fleet in this directory. `clock` says what time it is; `log` is told of what was handed in, and of trouble.
    ///
    /// # Errors
    /// [`ServeError`], also if there is no keyring that can be opened.
    pub fn open(
        directory: &Path,
        known: Known,
        clock: impl Fn() -> Time + Send + Sync + 'static,
        log: impl Fn(ServeEvent, &str) + Send + Sync + 'static,
    ) -> Result<Self, ServeError> {
        let disk = |name: &str| {
            let path = directory.join(name);
            let shown = || crate::text::shown(&path.display().to_string()).to_string();
            let files = RealFiles::open(&path, Access::Public);
            files.map(Disk::new).map_err(|source| DiskError { doing: "open", path: shown(), source })
        };
        let (keyring, policy) = (disk("keyring")?, disk("policy").ok());
        let server = Self {
            keyring,
            policy,
            fleet: Mutex::new(None),
            aside: Disk::of_bucket(Memory::default()),
            known,
            paces: Mutex::new(BTreeMap::new()),
            listed: Mutex::new(None),
            pages: Current::new(),
            numbers: Numbers::default(),
            clock: Box::new(clock),
            tls: None,
            log: Box::new(log),
        };
        *server.fleet.lock().unwrap_or_else(PoisonError::into_inner) = Some(server.opened()?);
        Ok(server)
    }

    /// The same over TLS. The files are looked at again while it serves. A certificate that has ended is served, and that is
    /// said: some clients do not look, and those that do ask elsewhere either way.
    ///
    /// # Errors
    /// [`ServeError::Tls`].
    pub fn over_tls(self, files: TlsFiles) -> Result<Self, ServeError> {
        let certified = Certified::open(files)?;
        self.numbers.tls_expires.set(certified.ends());
        let (event, said) = certified.is_new((self.clock)());
        (self.log)(event.into(), &said);
        Ok(Self { tls: Some(certified), ..self })
    }

    /// Answers until something can be read from `until`. There is nothing to be saved at its end, since what is taken is
    /// durable before it is told.
    ///
    /// # Errors
    /// [`ServeError::Net`].
    pub fn serve(self, listener: &TcpListener, until: BorrowedFd<'_>) -> Result<(), ServeError> {
        let bounds = Bounds {
            connections: MIRROR_CONNECTIONS_MAX,
            body_bytes: SUBMIT_BYTES_MAX,
            bodies_bytes: SUBMIT_BYTES_TOTAL_MAX,
            pace: Pace::USUAL,
            name: "mirror",
        };
        // Whoever asks first need not wait for it.
        self.tree();
        http::serve(listener, until, bounds, Arc::new(self)).map_err(ServeError::Net)
    }

    fn opened(&self) -> Result<Fleet, FleetError> {
        let over = Store::new(self.aside.over(&self.keyring));
        Fleet::open(over, &self.known, (self.clock)(), &mut |_, _| {})
    }

    fn answered(&self, request: &Request) -> Response {
        let (route, named) = match routed(&request.head()) {
            Ok(routed) => routed,
            Err(why) => return refused(why),
        };
        match (named, route.endpoint) {
            (Named::File(public), _) => self.file(&public, request),
            (Named::Question(asked), _) => self.page(&asked, request).with("Access-Control-Allow-Origin", "*"),
            (Named::Only, Endpoint::Submit) => self.submit(request),
            (Named::Only, Endpoint::AddKey) => Response::text(403, NOT_ADDED),
            (Named::Only, Endpoint::Health) => self.health(),
            (Named::Only, Endpoint::Acks) => self.acks(),
            (Named::Only, Endpoint::Waiting) => match waiting::list(&self.keyring, "") {
                Ok(list) => Response::text(200, list).with("Cache-Control", "no-cache"),
                Err(e) => self.trouble(&e),
            },
            (Named::Only, Endpoint::Numbers) => {
                Response::of(200, METRICS, self.numbers.to_text().into_bytes()).with("Cache-Control", "no-store")
            }
            // What has no name of its own is not asked for without one.
            (Named::Only, Endpoint::File | Endpoint::KeyServer) => refused(Refused::Nothing),
        }
    }

    /// A key server's answer.
    fn page(&self, asked: &Asked, request: &Request) -> Response {
        let found = match asked {
            Asked::Page(path) => self.tree().page(path).cloned(),
            Asked::Search(text) => self.tree().search(text),
            Asked::Unknown => return Response::text(501, "this key server does not do that"),
            Asked::Wrong(problem) => return Response::text(400, problem),
        };
        let Some(page) = found else { return Response::text(404, "no member has such a key") };
        let digest = page.digest();
        tagged(page.bytes, digest, page.kind.content_type(), request).with("Cache-Control", "no-cache")
    }

    /// The pages as of the published head. Where making them fails, the old ones are served.
    fn tree(&self) -> Arc<Tree> {
        let keyring = Store::new(self.keyring.clone());
        let (tree, trouble) = self.pages.tree(&keyring, |shelf| self.made(shelf));
        if let Some(e) = trouble {
            (self.log)(ServeEvent::Pages, &format!("trouble: the key server's pages are older than the log: {e}"));
        }
        tree
    }

    fn made(&self, shelf: &mut Shelf) -> Result<Tree, FleetError> {
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        if fleet.as_ref().is_none_or(Fleet::has_moved_on) {
            *fleet = Some(self.opened()?);
        }
        // What waits for cosigners is not for strangers yet.
        let is_published = |f: &&mut Fleet| f.waiting() == 0 && f.published().is_some_and(|p| p.lacks().is_none());
        let (tree, seen) = match fleet.as_mut().filter(is_published) {
            Some(fleet) => (shelf.tree(fleet)?, (fleet.head().map_or(0, |h| h.checkpoint.size), fleet.state().time)),
            None => {
                drop(fleet);
                let (store, now) = (Store::new(self.keyring.clone()), (self.clock)());
                let mut fleet = Fleet::open_view(store, &self.known, now, &mut |_, _| {}, View::Published)?;
                let tree = shelf.tree(&mut fleet)?;
                (tree, (fleet.head().map_or(0, |h| h.checkpoint.size), fleet.state().time))
            }
        };
        self.numbers.entries.store(seen.0, Ordering::Relaxed);
        self.numbers.newest.store(seen.1.0, Ordering::Relaxed);
        self.numbers.certificates.store(shelf.len() as u64, Ordering::Relaxed);
        Ok(tree)
    }

    /// The list of what machines say, which is made at most every few seconds, since it takes reading all of them.
    fn acks(&self) -> Response {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = listed.as_ref().filter(|(at, _)| at.elapsed() < LIST_AGAIN).map(|(_, list)| list.clone());
        let list = match fresh.map_or_else(|| acks::list(&self.keyring, ""), Ok) {
            Ok(list) => list,
            Err(e) => return self.trouble(&e),
        };
        if listed.as_ref().is_none_or(|(at, _)| at.elapsed() >= LIST_AGAIN) {
            *listed = Some((Instant::now(), list.clone()));
        }
        Response::text(200, list).with("Cache-Control", "no-cache")
    }

    /// What is wrong on our side is for our own people.
    fn trouble(&self, error: &dyn std::fmt::Display) -> Response {
        (self.log)(ServeEvent::Trouble, &format!("trouble: {error}"));
        Response::text(503, "this mirror cannot answer now; its own log says why").with("Retry-After", 10)
    }

    fn health(&self) -> Response {
        match read_newest(&Store::new(self.keyring.clone())) {
            Ok((_, (_, checkpoint))) => {
                Response::text(200, format!("ok {} entries", checkpoint.size)).with("Cache-Control", "no-store")
            }
            Err(e) => self.trouble(&e),
        }
    }

    fn file(&self, public: &Public, request: &Request) -> Response {
        let disk = match (public, &self.policy) {
            (Public::Policy(_), None) => return Response::text(404, "there is no such file"),
            (Public::Policy(_), Some(policy)) => policy,
            _ => &self.keyring,
        };
        let (length, mut reader) = match disk.reader(&public.below()) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Response::text(404, "there is no such file"),
            Err(e) => return self.trouble(&e),
        };
        let kind = match public {
            Public::Checkpoint | Public::Head | Public::Commit(_) | Public::Cosignature(_) | Public::Policy(_) => {
                "text/plain; charset=utf-8"
            }
            _ => "application/octet-stream",
        };
        let cache = match public.is_immutable() {
            true => "public, max-age=31536000, immutable",
            false => "no-cache",
        };
        if length > TAGGED_BYTES_MAX {
            let body = Body::File((length, reader));
            return Response { status: 200, content_type: kind, headers: Vec::new(), body }
                .with("Cache-Control", cache);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        if let Err(e) = std::io::Read::read_to_end(&mut std::io::Read::take(&mut reader, length), &mut bytes) {
            return self.trouble(&e);
        }
        let response = match public.is_immutable() {
            // Nobody asks again whether it has changed.
            true => Response::of(200, kind, bytes),
            false => {
                let digest = Digest::of(&bytes);
                tagged(bytes.into(), digest, kind, request)
            }
        };
        response.with("Cache-Control", cache)
    }

    /// Takes what is handed in by somebody who keeps within bounds.
    fn submit(&self, request: &Request) -> Response {
        if !self.keeps_pace(request.peer) {
            return Response::text(429, "too much was handed in from this address; try again later")
                .with("Retry-After", 30);
        }
        self.take(&request.body)
    }

    /// Takes what is handed in. All of the judging is the fleet's ([`Fleet::take_submission`]).
    pub(super) fn take(&self, body: &[u8]) -> Response {
        let submission = match Submission::parse(body) {
            Ok(submission) => Some(submission),
            Err(_) if Ack::parse(body).is_ok() => None,
            Err(e) => return Response::text(400, e),
        };
        // One after the other: each is judged by what the one before has left.
        let mut fleet = self.fleet.lock().unwrap_or_else(|poisoned| {
            // Whoever panicked may have left it between two states.
            let mut fleet = poisoned.into_inner();
            *fleet = None;
            self.fleet.clear_poison();
            fleet
        });
        let Some(_lock) = self.lock() else {
            return Response::text(503, "somebody is writing in the keyring; try again").with("Retry-After", 5);
        };
        if fleet.as_ref().is_none_or(Fleet::has_moved_on) {
            *fleet = match self.opened() {
                Ok(opened) => Some(opened),
                Err(e) => return self.trouble(&e),
            };
        }
        let Some(fleet) = fleet.as_mut() else { return self.trouble(&"no fleet is open") };
        fleet.set_now((self.clock)());
        let keyring = Store::new(self.keyring.clone());
        let taken = match &submission {
            Some(submission) => fleet.take_submission(submission, &self.aside, &keyring),
            None => fleet.take_ack(body, &keyring),
        };
        match taken {
            Ok(Taken::New) => {
                (self.log)(ServeEvent::Taken, &format!("taken: {}", Digest::of(body)));
                *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Response::text(202, "taken")
            }
            Ok(Taken::Known) => Response::text(200, "known already"),
            Err(Refusal::Fleet(e)) => self.trouble(&e),
            Err(refusal) => {
                if let Refusal::Invited(admission, _) = &refusal {
                    self.numbers.refused(*admission);
                    (self.log)(ServeEvent::Refused, &format!("refused: {refusal}"));
                }
                Response::text(status(&refusal), refusal)
            }
        }
    }

    /// Whether this address hands in no more than it may.
    fn keeps_pace(&self, peer: Option<IpAddr>) -> bool {
        let Some(peer) = peer else { return true };
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if paces.len() >= SUBMITTERS_MAX && !paces.contains_key(&peer) {
            // Who has been quiet for a while has a clean slate anyway.
            let quiet = Duration::from_secs(u64::from(SUBMITS_AT_ONCE_MAX));
            paces.retain(|_, (last, _)| last.elapsed() < quiet);
            if paces.len() >= SUBMITTERS_MAX {
                return false;
            }
        }
        let (last, used) = paces.entry(peer).or_insert((Instant::now(), 0));
        let regained = u32::try_from(last.elapsed().as_secs()).unwrap_or(u32::MAX);
        if regained > 0 {
            (*last, *used) = (Instant::now(), used.saturating_sub(regained));
        }
        *used += 1;
        if *used > SUBMITS_AT_ONCE_MAX {
            *used = SUBMITS_AT_ONCE_MAX;
            return false;
        }
        true
    }

    fn count(&self, head: &Head<'_>, response: &Response) {
        // Of a HEAD, and of what the client has, no byte is sent.
        let sent = if head.method == "HEAD" || response.status == 304 { 0 } else { response.body.len() };
        self.numbers.count(head.target, head.method, response.status, sent);
    }

    fn lock(&self) -> Option<Box<dyn Send>> {
        for _ in 0..LOCK_TRIES {
            if let Ok(Some(lock)) = self.keyring.try_lock() {
                return Some(lock);
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        None
    }
}

impl Answers for Server {
    fn answer(&self, request: &Request) -> Response {
        let aged = self.tls.as_ref().and_then(|certified| certified.has_aged((self.clock)()));
        aged.iter().for_each(|(event, said)| (self.log)((*event).into(), said));
        let response = self.answered(request);
        self.count(&request.head(), &response);
        response
    }

    fn refusal(&self, head: &Head<'_>) -> Option<Response> {
        let response = refused(routed(head).err()?);
        self.count(head, &response);
        Some(response)
    }

    fn traffic(&self) -> Option<&Traffic> {
        Some(&self.numbers.traffic)
    }

    fn tls(&self) -> Option<&Certified> {
        self.tls.as_ref()
    }

    fn renewed(&self, renewal: Renewal) {
        let Some(certified) = &self.tls else { return };
        self.numbers.tls_expires.set(certified.ends());
        certified.renewed(renewal, (self.clock)()).iter().for_each(|(event, said)| (self.log)((*event).into(), said));
    }
}

/// The content type of numbers.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
