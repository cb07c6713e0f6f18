//! As much of an HTTP/1.1 server (RFC 9112) as a witness and a mirror need: requests with a length, within bounds of size,
//! time and number; connections that stay open; answers that are files, sent piece by piece. `httparse` reads the heads, and
//! rustls speaks TLS where that is wanted ([`tls`]). Everything else is answered with an error, and closed.
#![allow(
    clippy::disallowed_methods,
    reason = "deadlines of connections are measured by the clock that only runs forward"
)]

mod certified;
mod parse;
mod places;
mod tls;
mod wire;

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use self::parse::{Parsed, parse};
use self::places::{Counted, Held, Slot};
use self::wire::Wire;
use crate::disk::Reader;

pub(crate) use self::certified::{Certified, TlsEvent};
pub(crate) use self::tls::{Renewal, certificates};
pub use self::tls::{TlsError, TlsFiles};

/// How long those may take that are being answered when the end is wanted.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How long it may take to tell a client that there is no place for it.
const TURNING_AWAY: Duration = Duration::from_millis(100);
/// How long one may go on sending that has been refused before it was done.
const LEAVING: Duration = Duration::from_secs(2);
/// How much of a file is in memory while it is sent.
const PIECE_BYTES: usize = 64 << 10;

/// How slow a client may be: it has so long for anything, and a second more for so many bytes. That bounds all of a request,
/// with the handshake before it, and all of an answer, however steadily they trickle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub allowance: Duration,
    pub bytes_a_second_min: u64,
}

impl Pace {
    /// For clients anywhere.
    pub(crate) const USUAL: Self = Self { allowance: Duration::from_secs(10), bytes_a_second_min: 32 << 10 };

    /// How long so many bytes may take, all of them.
    fn whole(self, bytes: u64) -> Duration {
        self.allowance + Duration::from_secs_f64(bytes as f64 / self.bytes_a_second_min as f64)
    }
}

/// What a server bears.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections that are served at one time; beyond it clients are told to come back.
    pub connections: usize,
    /// A request's body, bytes.
    pub body_bytes: usize,
    /// All bodies that are held at one time, bytes.
    pub bodies_bytes: usize,
    /// How slow its clients may be.
    pub pace: Pace,
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
    /// Requests that were none, too large or too slow; handshakes that failed.
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

    /// What is said at once to a request with a body that is refused whatever the body may be; none of it is read then.
    fn refusal(&self, _head: &Head<'_>) -> Option<Response> {
        None
    }

    /// What it speaks TLS with, if it does.
    fn tls(&self) -> Option<&Certified> {
        None
    }

    /// Is told what came of looking at the files of [`Answers::tls`].
    fn renewed(&self, _renewal: Renewal) {}
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

impl Request {
    pub(crate) fn head(&self) -> Head<'_> {
        Head { method: &self.method, target: &self.path, body_bytes: self.body.len() }
    }
}

/// What is known of a request before its body has come.
pub(crate) struct Head<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub body_bytes: usize,
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
    let open = places::Open::default();
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
        let (stream, peer) = match listener.accept() {
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
        // What is written is whole: nothing is gained by waiting for more of it.
        let _ = stream.set_nodelay(true);
        let Some(slot) = Slot::take(&open, peer, bounds.connections) else {
            answer.traffic().into_iter().for_each(|t| one_more(&t.turned_away));
            // With TLS it would take a handshake to say so.
            if answer.tls().is_none() {
                let _ = turn_away(stream);
            }
            continue;
        };
        let (answer, bodies, answering) = (Arc::clone(&answer), Arc::clone(&bodies), Arc::clone(&answering));
        let spawned = std::thread::Builder::new().name(bounds.name.to_owned()).spawn(move || {
            let _slot = slot;
            let _counted = Counted::new(answer.traffic());
            let _ = converse(stream, peer, bounds, (&bodies, &answering), answer.as_ref());
        });
        // Without a thread the slot is given back as the closure is dropped, and the client sees a closed connection.
        drop(spawned);
    }
}

/// Tells a client, in a moment, that there is no place for it.
fn turn_away(stream: TcpStream) -> io::Result<()> {
    let mut wire = Wire::new(stream, None, TURNING_AWAY)?;
    let busy = Response::text(503, "too many connections; try again").with("Retry-After", 1);
    write(&mut wire, busy, Connection::Close, Content::Whole)
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
    /// The same, for a request that is well formed.
    Refused(Response),
    /// The client has gone, between two requests.
    Gone,
}

fn converse(
    stream: TcpStream,
    peer: IpAddr,
    bounds: Bounds,
    (bodies, answering): (&AtomicUsize, &AtomicUsize),
    answer: &dyn Answers,
) -> io::Result<()> {
    let tls = answer.tls().map(|certified| certified.tls.now()).map(|(config, renewal)| {
        renewal.into_iter().for_each(|renewal| answer.renewed(renewal));
        config
    });
    let mut wire = Wire::new(stream, tls, bounds.pace.allowance)?;
    let mut buffer = Vec::new();
    let malformed = || answer.traffic().into_iter().for_each(|t| one_more(&t.malformed));
    loop {
        // Given back once the request is answered.
        let mut held = Held::new(bodies);
        // What is no TLS has had its alert by now.
        let is_no_tls = |e: &io::Error| e.kind() == io::ErrorKind::InvalidData;
        let received = receive(&mut wire, &mut buffer, bounds, (&mut held, answer)).inspect_err(|e| {
            if is_no_tls(e) {
                malformed()
            }
        })?;
        let (response, connection, content, answered) = match received {
            Received::Gone => return wire.end(),
            Received::Wrong(response) => {
                malformed();
                (response, Connection::Close, Content::Whole, None)
            }
            Received::Refused(response) => (response, Connection::Close, Content::Whole, None),
            Received::Request(request, connection) => {
                let request = Request { peer: Some(peer), ..request };
                let content = if request.method == "HEAD" { Content::HeadOnly } else { Content::Whole };
                let mut answered = Held::new(answering);
                answered.hold(1, usize::MAX);
                (answer.answer(&request), connection, content, Some(answered))
            }
        };
        wire.be_done_by(Instant::now() + bounds.pace.whole(response.body.len()));
        write(&mut wire, response, connection, content)?;
        match connection {
            Connection::KeepAlive => {}
            Connection::Close if answered.is_some() => return wire.end(),
            // It may still be sending, and hears nothing of the answer if its bytes meet a closed door.
            Connection::Close => return wire.leave(LEAVING),
        }
    }
}

fn receive(
    wire: &mut Wire,
    buffer: &mut Vec<u8>,
    bounds: Bounds,
    (held, answer): (&mut Held<'_>, &dyn Answers),
) -> io::Result<Received> {
    let begun = Instant::now();
    let mut wanted = 0;
    loop {
        let parsed = match buffer.len() < wanted {
            true => Parsed::Partial(wanted),
            false => parse(buffer, bounds.body_bytes, &|head| answer.refusal(head)),
        };
        match parsed {
            Parsed::Whole(request, connection, used) => {
                buffer.drain(..used);
                return Ok(Received::Request(request, connection));
            }
            Parsed::Wrong(response) => return Ok(Received::Wrong(response)),
            Parsed::Refused(response) => return Ok(Received::Refused(response)),
            Parsed::Partial(length) if length > wanted => {
                if !held.hold(length - wanted, bounds.bodies_bytes) {
                    let busy = Response::text(503, "too much is handed in at this moment; try again");
                    return Ok(Received::Wrong(busy.with("Retry-After", 1)));
                }
                wanted = length;
            }
            Parsed::Partial(_) => {}
        }
        wire.be_done_by(begun + bounds.pace.whole(wanted as u64));
        let mut part = [0; 16 << 10];
        match wire.read(&mut part) {
            Ok(0) => return Ok(Received::Gone),
            Ok(n) => buffer.extend_from_slice(part.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return Ok(late(buffer)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Who sent nothing is let go in silence; who sent half a request is told.
fn late(buffer: &[u8]) -> Received {
    if buffer.is_empty() { Received::Gone } else { Received::Wrong(Response::text(408, "the request took too long")) }
}

/// How much of an answer is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Whole,
    /// To a HEAD: everything but the body.
    HeadOnly,
}

fn write(wire: &mut Wire, response: Response, connection: Connection, content: Content) -> io::Result<()> {
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
        _ if content == Content::HeadOnly || response.status == 304 => wire.write_all(head.as_bytes())?,
        Body::Bytes(bytes) => write_both(wire, head, &bytes)?,
        Body::Shared(bytes) => write_both(wire, head, &bytes)?,
        Body::File((length, mut reader)) => {
            wire.write_all(head.as_bytes())?;
            send(wire, length, reader.as_mut())?;
        }
    }
    wire.flush()
}

/// Writes a head and a body: at once, unless putting them together would take more than writing twice.
fn write_both(wire: &mut Wire, head: String, body: &[u8]) -> io::Result<()> {
    let mut bytes = head.into_bytes();
    if body.len() <= PIECE_BYTES {
        bytes.extend_from_slice(body);
        return wire.write_all(&bytes);
    }
    wire.write_all(&bytes)?;
    wire.write_all(body)
}

/// Sends so many bytes.
fn send(wire: &mut Wire, length: u64, reader: &mut dyn io::Read) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut left = length;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let Some(piece) = buffer.get_mut(..want) else { return Ok(()) };
        let read = reader.read(piece)?;
        if read == 0 {
            // What was promised cannot be kept: closing says so.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        wire.write_all(piece.get(..read).unwrap_or_default())?;
        left -= read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
