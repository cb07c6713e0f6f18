//! As much of an HTTP/1.1 server (RFC 9112) as a witness needs: requests with a length, within bounds of size, time and
//! number; connections that stay open. `httparse` reads the heads. Everything else is answered with an error, and closed.
#![allow(
    clippy::disallowed_methods,
    reason = "deadlines of connections are measured by the clock that only runs forward"
)]

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, WITNESS_CONNECTIONS_MAX, WITNESS_REQUEST_BYTES_MAX};

/// How long a request may take to arrive, or its answer to be taken.
const DEADLINE: Duration = Duration::from_secs(10);

/// A request.
pub(super) struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
}

/// An answer.
pub(super) struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Response {
    /// An answer in words.
    pub(super) fn text(status: u16, body: impl ToString) -> Self {
        let mut body = body.to_string();
        if !body.ends_with('\n') {
            body.push('\n');
        }
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into_bytes() }
    }

    fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            409 => "Conflict",
            411 => "Length Required",
            413 => "Content Too Large",
            422 => "Unprocessable Content",
            503 => "Service Unavailable",
            _ => "Error",
        }
    }
}

/// Answers requests until the process ends. Each connection has a thread, up to a number; beyond it clients are told to
/// come back.
///
/// # Errors
/// If no connection can be accepted any more.
pub(super) fn serve(
    listener: &TcpListener,
    answer: Arc<dyn Fn(&Request) -> Response + Send + Sync>,
) -> io::Result<std::convert::Infallible> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // One client that went away, or too many files open for the moment.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted || e.kind() == io::ErrorKind::Interrupted => {
                continue;
            }
            Err(e) if matches!(e.raw_os_error(), Some(23 | 24)) => {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            Err(e) => return Err(e),
        };
        let _ = stream.set_write_timeout(Some(DEADLINE));
        if open.fetch_add(1, Ordering::SeqCst) >= WITNESS_CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::SeqCst);
            let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
            let _ = write(&mut stream, &Response::text(503, "too many connections; try again"), Connection::Close);
            continue;
        }
        let (answer, slot) = (Arc::clone(&answer), Slot(Arc::clone(&open)));
        let spawned = std::thread::Builder::new().name("witness".to_owned()).spawn(move || {
            let _slot = slot;
            let _ = converse(&mut stream, answer.as_ref());
        });
        // Without a thread the slot is given back as the closure is dropped, and the client sees a closed connection.
        drop(spawned);
    }
}

/// One of the connections that are served; gives its place back when it ends, however it ends.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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

fn converse(stream: &mut TcpStream, answer: &dyn Fn(&Request) -> Response) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        match receive(stream, &mut buffer)? {
            Received::Gone => return Ok(()),
            Received::Wrong(response) => return write(stream, &response, Connection::Close),
            Received::Request(request, connection) => {
                write(stream, &answer(&request), connection)?;
                if connection == Connection::Close {
                    return Ok(());
                }
            }
        }
    }
}

fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Received> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match parse(buffer) {
            Parsed::Whole(request, connection, used) => {
                buffer.drain(..used);
                return Ok(Received::Request(request, connection));
            }
            Parsed::Wrong(response) => return Ok(Received::Wrong(response)),
            Parsed::Partial => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(late(buffer));
        }
        stream.set_read_timeout(Some(left))?;
        let mut part = [0; 4096];
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
    Partial,
}

fn parse(buffer: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(buffer) {
        Ok(httparse::Status::Complete(length)) if length <= HTTP_HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) if buffer.len() <= HTTP_HEAD_BYTES_MAX => return Parsed::Partial,
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
                Some(Ok(n)) if n <= WITNESS_REQUEST_BYTES_MAX => n,
                Some(_) => return Parsed::Wrong(Response::text(413, "the body is too large")),
                None => return Parsed::Wrong(Response::text(400, "Content-Length is no number")),
            }
        }
        _ => return Parsed::Wrong(Response::text(400, "Content-Length is there twice")),
    };
    let Some(body) = buffer.get(length..length.saturating_add(body_length)) else { return Parsed::Partial };
    let closes = named("connection").any(|v| v.eq_ignore_ascii_case(b"close")) || head.version != Some(1);
    let connection = if closes { Connection::Close } else { Connection::KeepAlive };
    let path = head.path.unwrap_or_default().to_owned();
    Parsed::Whole(Request { method, path, body: body.to_vec() }, connection, length + body_length)
}

fn write(stream: &mut TcpStream, response: &Response, connection: Connection) -> io::Result<()> {
    let word = if connection == Connection::Close { "close" } else { "keep-alive" };
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {word}\r\n\r\n",
        response.status,
        response.reason(),
        response.content_type,
        response.body.len()
    );
    stream.write_all(&[head.as_bytes(), &response.body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(bytes: &str) -> Result<(String, Vec<u8>, bool), Option<u16>> {
        match parse(bytes.as_bytes()) {
            Parsed::Whole(r, connection, used) => {
                assert!(used <= bytes.len());
                Ok((format!("{} {}", r.method, r.path), r.body, connection == Connection::KeepAlive))
            }
            Parsed::Wrong(response) => Err(Some(response.status)),
            Parsed::Partial => Err(None),
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
