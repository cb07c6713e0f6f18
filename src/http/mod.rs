//! As much of an HTTP/1.1 server (RFC 9112) as a witness and a mirror need: requests with a length, within bounds of size,
//! time and number; connections that stay open; answers that are files, sent piece by piece. `httparse` reads the heads.
//! Everything else is answered with an error, and closed.
#![allow(
    clippy::disallowed_methods,
    reason = "deadlines of connections are measured by the clock that only runs forward"
)]

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::disk::Reader;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};

/// How long the head of a request and a small body may take to arrive, or a part of an answer to be taken.
const DEADLINE: Duration = Duration::from_secs(10);
/// By how much that may be exceeded.
const A_MOMENT: Duration = Duration::from_millis(100);
/// How slow a larger body may come, and an answer be taken, bytes a second.
const BYTES_A_SECOND_MIN: usize = 32 << 10;
/// How long those may take that are being answered when the end is wanted.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How much of a file is in memory while it is sent.
const PIECE_BYTES: usize = 64 << 10;

/// What a server bears.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections that are served at one time; beyond it clients are told to come back.
    pub connections: usize,
    /// A request's body, bytes.
    pub body_bytes: usize,
    /// All bodies that are held at one time, bytes.
    pub bodies_bytes: usize,
    /// What its threads are called.
    pub name: &'static str,
}

/// What a server counts of its connections.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Those that are served now.
    pub open: AtomicU64,
    /// Those for which there was no place.
    pub turned_away: AtomicU64,
    /// Requests that were none, too large or too slow.
    pub malformed: AtomicU64,
}

/// Who answers.
pub(crate) trait Answers: Send + Sync {
    /// The answer to a request.
    fn answer(&self, request: &Request) -> Response;

    /// Where connections are counted, if anybody asks.
    fn traffic(&self) -> Option<&Traffic> {
        None
    }
}

impl<F: Fn(&Request) -> Response + Send + Sync> Answers for F {
    fn answer(&self, request: &Request) -> Response {
        self(request)
    }
}

/// A request.
pub(crate) struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
    /// `If-None-Match`: what the client has already.
    pub known: Option<String>,
    /// Who asks, as far as the network says.
    pub peer: Option<IpAddr>,
}

/// An answer's body.
pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// Bytes that are sent to many.
    Shared(Arc<[u8]>),
    /// A file, sent piece by piece. That it is cut short is noticed by the client.
    File(Reader),
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Shared(bytes) => bytes.len() as u64,
            Self::File((length, _)) => *length,
        }
    }
}

/// An answer.
pub(crate) struct Response {
    pub status: u16,
    pub content_type: &'static str,
    /// More header lines: names and values of our own.
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

impl Response {
    /// An answer in words.
    pub(crate) fn text(status: u16, body: impl ToString) -> Self {
        let mut body = body.to_string();
        if !body.ends_with('\n') {
            body.push('\n');
        }
        Self::of(status, "text/plain; charset=utf-8", body.into_bytes())
    }

    /// An answer of these bytes.
    pub(crate) fn of(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: Body::Bytes(body) }
    }

    /// An answer of bytes that others get, too.
    pub(crate) fn shared(status: u16, content_type: &'static str, body: Arc<[u8]>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: Body::Shared(body) }
    }

    /// The same with one more header line.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            202 => "Accepted",
            304 => "Not Modified",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            409 => "Conflict",
            411 => "Length Required",
            413 => "Content Too Large",
            422 => "Unprocessable Content",
            429 => "Too Many Requests",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            _ => "Error",
        }
    }
}

/// Answers requests until something can be read from `until`; what is being answered then is answered first. Each connection
/// has a thread, up to a number; beyond it clients are told to come back. Nobody gets more than half of the places.
///
/// # Errors
/// If no connection can be accepted any more.
pub(crate) fn serve(
    listener: &TcpListener,
    until: BorrowedFd<'_>,
    bounds: Bounds,
    answer: Arc<dyn Answers>,
) -> io::Result<()> {
    let open = Arc::new(Mutex::new(BTreeMap::new()));
    let bodies = Arc::new(AtomicUsize::new(0));
    let answering = Arc::new(AtomicUsize::new(0));
    // A client that goes away before it is accepted must not keep the end from being noticed.
    listener.set_nonblocking(true)?;
    loop {
        if is_over(listener, until)? {
            let begun = Instant::now();
            while answering.load(Ordering::SeqCst) > 0 && begun.elapsed() < LAST_ANSWERS {
                std::thread::sleep(Duration::from_millis(10));
            }
            return Ok(());
        }
        let (mut stream, peer) = match listener.accept() {
            Ok((stream, peer)) => (stream, peer.ip()),
            // One client that went away, or too many files open for the moment.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                continue;
            }
            Err(e) if matches!(e.raw_os_error(), Some(23 | 24)) => {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            Err(e) => return Err(e),
        };
        let _ = stream.set_write_timeout(Some(DEADLINE));
        // What is written is whole: nothing is gained by waiting for more of it.
        let _ = stream.set_nodelay(true);
        let Some(slot) = Slot::take(&open, peer, bounds.connections) else {
            answer.traffic().into_iter().for_each(|t| one_more(&t.turned_away));
            let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
            let busy = Response::text(503, "too many connections; try again").with("Retry-After", 1);
            let _ = write(&mut stream, busy, Connection::Close, Content::Whole);
            continue;
        };
        let (answer, bodies, answering) = (Arc::clone(&answer), Arc::clone(&bodies), Arc::clone(&answering));
        let spawned = std::thread::Builder::new().name(bounds.name.to_owned()).spawn(move || {
            let _slot = slot;
            let _counted = Counted::new(answer.traffic());
            let _ = converse(&mut stream, peer, bounds, (&bodies, &answering), answer.as_ref());
        });
        // Without a thread the slot is given back as the closure is dropped, and the client sees a closed connection.
        drop(spawned);
    }
}

/// Waits for a client, or for the end; gives whether it is the end.
fn is_over(listener: &TcpListener, until: BorrowedFd<'_>) -> io::Result<bool> {
    let mut waited = [PollFd::new(listener, PollFlags::IN), PollFd::new(&until, PollFlags::IN)];
    match poll(&mut waited, None) {
        Ok(_) => Ok(waited.last().is_some_and(|end| !end.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A connection that is counted while it is served.
struct Counted<'a>(Option<&'a Traffic>);

impl<'a> Counted<'a> {
    fn new(traffic: Option<&'a Traffic>) -> Self {
        traffic.into_iter().for_each(|t| one_more(&t.open));
        Self(traffic)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(traffic) = self.0 {
            traffic.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How many connections each client has.
type Open = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

/// One of the connections that are served; gives its place back when it ends, however it ends.
struct Slot(Open, IpAddr);

impl Slot {
    fn take(open: &Open, peer: IpAddr, all: usize) -> Option<Self> {
        let mut places = open.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, own) = (places.values().sum::<usize>(), places.get(&peer).copied().unwrap_or_default());
        // Whoever is behind one address with many others, a reverse proxy, say, is as good as one client.
        let share = if peer.is_loopback() { all } else { all / 2 };
        if taken >= all || own >= share {
            return None;
        }
        places.insert(peer, own + 1);
        Some(Self(Arc::clone(open), peer))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match places.get_mut(&self.1) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(places.remove(&self.1)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    KeepAlive,
    Close,
}

/// What came of waiting for a request.
enum Received {
    Request(Request, Connection),
    /// To be told, and then closed.
    Wrong(Response),
    /// The client has gone, between two requests.
    Gone,
}

fn converse(
    stream: &mut TcpStream,
    peer: IpAddr,
    bounds: Bounds,
    (bodies, answering): (&AtomicUsize, &AtomicUsize),
    answer: &dyn Answers,
) -> io::Result<()> {
    let (mut buffer, mut patience) = (Vec::new(), Duration::ZERO);
    loop {
        // Given back once the request is answered.
        let mut held = Held(bodies, 0);
        match receive(stream, &mut buffer, &mut patience, bounds, &mut held)? {
            Received::Gone => return Ok(()),
            Received::Wrong(response) => {
                answer.traffic().into_iter().for_each(|t| one_more(&t.malformed));
                return write(stream, response, Connection::Close, Content::Whole);
            }
            Received::Request(request, connection) => {
                let request = Request { peer: Some(peer), ..request };
                let content = if request.method == "HEAD" { Content::HeadOnly } else { Content::Whole };
                let mut answered = Held(answering, 0);
                answered.hold(1, usize::MAX);
                write(stream, answer.answer(&request), connection, content)?;
                if connection == Connection::Close {
                    return Ok(());
                }
            }
        }
    }
}

/// How much of what all together may have one of them holds: of bytes of bodies, say.
struct Held<'a>(&'a AtomicUsize, usize);

impl Held<'_> {
    /// Holds `bytes` if there is room.
    fn hold(&mut self, bytes: usize, all: usize) -> bool {
        let has_room = self.0.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes) <= all;
        if has_room {
            self.1 += bytes;
        } else {
            self.0.fetch_sub(bytes, Ordering::SeqCst);
        }
        has_room
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

/// `patience` is how long a read from the stream waits at present.
fn receive(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    patience: &mut Duration,
    bounds: Bounds,
    held: &mut Held<'_>,
) -> io::Result<Received> {
    let begun = Instant::now();
    let mut wanted = 0;
    loop {
        let parsed = if buffer.len() < wanted { Parsed::Partial(wanted) } else { parse(buffer, bounds.body_bytes) };
        match parsed {
            Parsed::Whole(request, connection, used) => {
                buffer.drain(..used);
                return Ok(Received::Request(request, connection));
            }
            Parsed::Wrong(response) => return Ok(Received::Wrong(response)),
            Parsed::Partial(length) if length > wanted => {
                if !held.hold(length - wanted, bounds.bodies_bytes) {
                    let busy = Response::text(503, "too much is handed in at this moment; try again");
                    return Ok(Received::Wrong(busy.with("Retry-After", 1)));
                }
                wanted = length;
            }
            Parsed::Partial(_) => {}
        }
        let allowed = DEADLINE + Duration::from_secs((wanted / BYTES_A_SECOND_MIN) as u64);
        let left = allowed.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(late(buffer));
        }
        // Telling the kernel costs as much as reading: a moment more or less is left as it is.
        if left.abs_diff(*patience) > A_MOMENT {
            stream.set_read_timeout(Some(left))?;
            *patience = left;
        }
        let mut part = [0; 16 << 10];
        match stream.read(&mut part) {
            Ok(0) => return Ok(Received::Gone),
            Ok(n) => buffer.extend_from_slice(part.get(..n).unwrap_or_default()),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(late(buffer));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Who sent nothing is let go in silence; who sent half a request is told.
fn late(buffer: &[u8]) -> Received {
    if buffer.is_empty() { Received::Gone } else { Received::Wrong(Response::text(408, "the request took too long")) }
}

enum Parsed {
    Whole(Request, Connection, usize),
    Wrong(Response),
    /// There is more to come; how many bytes it will have been, once that is known.
    Partial(usize),
}

fn parse(buffer: &[u8], body_bytes_max: usize) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(buffer) {
        Ok(httparse::Status::Complete(length)) if length <= HTTP_HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) if buffer.len() <= HTTP_HEAD_BYTES_MAX => return Parsed::Partial(0),
        Ok(_) => return Parsed::Wrong(Response::text(413, "the head of the request is too large")),
        Err(_) => return Parsed::Wrong(Response::text(400, "this is not HTTP/1.1")),
    };
    let named =
        |name: &'static str| head.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    let method = head.method.unwrap_or_default().to_owned();
    if named("transfer-encoding").next().is_some() {
        return Parsed::Wrong(Response::text(411, "send the body with a Content-Length"));
    }
    let lengths: Vec<&[u8]> = named("content-length").collect();
    let body_length = match lengths.as_slice() {
        [] if method == "POST" => return Parsed::Wrong(Response::text(411, "send the body with a Content-Length")),
        [] => 0,
        [one] => {
            match std::str::from_utf8(one).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit())).map(str::parse) {
                Some(Ok(n)) if n <= body_bytes_max => n,
                Some(_) => return Parsed::Wrong(Response::text(413, "the body is too large")),
                None => return Parsed::Wrong(Response::text(400, "Content-Length is no number")),
            }
        }
        _ => return Parsed::Wrong(Response::text(400, "Content-Length is there twice")),
    };
    let whole = length.saturating_add(body_length);
    let Some(body) = buffer.get(length..whole) else { return Parsed::Partial(whole) };
    let closes = named("connection").any(|v| v.eq_ignore_ascii_case(b"close")) || head.version != Some(1);
    let connection = if closes { Connection::Close } else { Connection::KeepAlive };
    let path = head.path.unwrap_or_default().to_owned();
    let known = named("if-none-match").next().and_then(|v| std::str::from_utf8(v).ok()).map(str::to_owned);
    Parsed::Whole(Request { method, path, body: body.to_vec(), known, peer: None }, connection, whole)
}

/// How much of an answer is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Whole,
    /// To a HEAD: everything but the body.
    HeadOnly,
}

fn write(stream: &mut TcpStream, response: Response, connection: Connection, content: Content) -> io::Result<()> {
    let word = if connection == Connection::Close { "close" } else { "keep-alive" };
    let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, response.reason());
    // Who has it already is not told again what it is.
    if response.status != 304 {
        let length = response.body.len();
        head.push_str(&format!("Content-Type: {}\r\nContent-Length: {length}\r\n", response.content_type));
    }
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Connection: {word}\r\n\r\n"));
    match response.body {
        _ if content == Content::HeadOnly || response.status == 304 => stream.write_all(head.as_bytes()),
        Body::Bytes(bytes) => write_both(stream, head, &bytes),
        Body::Shared(bytes) => write_both(stream, head, &bytes),
        Body::File((length, mut reader)) => {
            stream.write_all(head.as_bytes())?;
            send(stream, length, reader.as_mut())
        }
    }
}

/// Writes a head and a body: at once, unless putting them together would take more than writing twice.
fn write_both(stream: &mut TcpStream, head: String, body: &[u8]) -> io::Result<()> {
    let mut bytes = head.into_bytes();
    if body.len() <= PIECE_BYTES {
        bytes.extend_from_slice(body);
        return stream.write_all(&bytes);
    }
    stream.write_all(&bytes)?;
    stream.write_all(body)
}

/// Sends so many bytes, to a client that takes them fast enough.
fn send(stream: &mut TcpStream, length: u64, reader: &mut dyn io::Read) -> io::Result<()> {
    let allowed = DEADLINE + Duration::from_secs(length / BYTES_A_SECOND_MIN as u64);
    let begun = Instant::now();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut left = length;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let Some(piece) = buffer.get_mut(..want) else { return Ok(()) };
        let read = reader.read(piece)?;
        if read == 0 || begun.elapsed() > allowed {
            // What was promised cannot be kept: closing says so.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream.write_all(piece.get(..read).unwrap_or_default())?;
        left -= read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(bytes: &str) -> Result<(String, Vec<u8>, bool), Option<u16>> {
        match parse(bytes.as_bytes(), 1000) {
            Parsed::Whole(r, connection, used) => {
                assert!(used <= bytes.len());
                Ok((format!("{} {}", r.method, r.path), r.body, connection == Connection::KeepAlive))
            }
            Parsed::Wrong(response) => Err(Some(response.status)),
            Parsed::Partial(_) => Err(None),
        }
    }

    #[test]
    fn a_request_is_read_whole_or_not_at_all() {
        let post = "POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        let whole = Ok(("POST /add-checkpoint".to_owned(), b"abc".to_vec(), true));
        assert_eq!(outcome(post), whole);
        for cut in 0..post.len() {
            assert_eq!(outcome(&post[..cut]), Err(None), "{cut} bytes");
        }
        assert_eq!(outcome(&(post.to_owned() + "GET /")), whole, "the next one waits");
        let closing = "GET /x HTTP/1.1\r\nConnection: Close\r\n\r\n";
        assert_eq!(outcome(closing), Ok(("GET /x".to_owned(), Vec::new(), false)));
        assert_eq!(outcome("GET /x HTTP/1.0\r\n\r\n").map(|r| r.2), Ok(false));
    }

    #[test]
    fn what_is_too_much_or_ambiguous_is_refused() {
        let with = |header: &str| outcome(&format!("POST / HTTP/1.1\r\n{header}\r\n\r\n"));
        assert_eq!(with("X: y"), Err(Some(411)));
        assert_eq!(with("Transfer-Encoding: chunked"), Err(Some(411)));
        assert_eq!(with("Content-Length: 3\r\nTransfer-Encoding: chunked"), Err(Some(411)));
        assert_eq!(with("Content-Length: 3\r\nContent-Length: 4"), Err(Some(400)));
        assert_eq!(with("Content-Length: -1"), Err(Some(400)));
        assert_eq!(with("Content-Length: +1"), Err(Some(400)));
        assert_eq!(with("Content-Length: 99999999"), Err(Some(413)));
        assert_eq!(with("Content-Length: 99999999999999999999999"), Err(Some(413)));
        assert_eq!(outcome("\u{16}\u{3}\u{1}"), Err(Some(400)), "TLS");
        assert_eq!(outcome(&format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(HTTP_HEAD_BYTES_MAX))), Err(Some(413)));
        assert_eq!(outcome(&format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65))), Err(Some(400)));
    }
}
