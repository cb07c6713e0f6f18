//! One HTTP exchange with an object store: bounded in time and size, sent again a bounded number of times.

use std::io::Read;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};

use crate::limits::KEYRING_FILE_BYTES_MAX;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a store has to answer, beside the time that the bytes need.
const ANSWER: Duration = Duration::from_secs(20);
/// How slow bytes may come and go, a second.
const BYTES_A_SECOND_MIN: usize = 64 << 10;
/// How often a request is sent at most.
const TRIES: u32 = 5;
/// What an error may have to say.
const ERROR_BYTES_MAX: u64 = 64 << 10;
/// More than any object of a keyring, and than one page of a listing.
const ANSWER_BYTES_MAX: u64 = KEYRING_FILE_BYTES_MAX as u64 + (1 << 20);
/// How much of a body is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// How many requests were sent.
pub(super) type Count = Arc<AtomicU64>;

/// Gives `object_store` its HTTP client.
#[derive(Debug)]
pub(super) struct Wire {
    count: Count,
}

impl Wire {
    pub(super) fn new(count: Count) -> Self {
        Self { count }
    }
}

impl HttpConnector for Wire {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let may_be_plain = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .https_only(!may_be_plain)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .user_agent(concat!("keys/", env!("CARGO_PKG_VERSION")));
        Ok(HttpClient::new(Service { agent: config.build().into(), count: self.count.clone() }))
    }
}

#[derive(Debug)]
struct Service {
    agent: ureq::Agent,
    count: Count,
}

/// What one try came to.
enum Tried {
    /// An answer; the second says that nothing was done and it may be asked again.
    Answered(ureq::http::Response<ureq::Body>),
    /// Nothing was done.
    Undone(HttpError),
    /// It may have been done.
    Unsure(HttpError),
}

fn error(kind: HttpErrorKind, what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HttpError {
    HttpError::new(kind, std::io::Error::other(what))
}

/// Whether the request is a write that is done only under a condition.
fn has_condition(request: &ureq::http::request::Parts) -> bool {
    let names = ["if-match", "if-none-match", "x-goog-if-generation-match"];
    request.method == ureq::http::Method::PUT && names.iter().any(|name| request.headers.contains_key(*name))
}

impl Service {
    fn send(&self, parts: &ureq::http::request::Parts, body: &[u8]) -> Tried {
        self.count.fetch_add(1, Ordering::Relaxed);
        let patience = ANSWER + Duration::from_secs((body.len() / BYTES_A_SECOND_MIN) as u64);
        let mut request = ureq::http::Request::builder().method(parts.method.clone()).uri(parts.uri.clone());
        for (name, value) in &parts.headers {
            request = request.header(name, value);
        }
        let has_body = parts.method == ureq::http::Method::PUT || parts.method == ureq::http::Method::POST;
        let run = |result: Result<ureq::http::Response<ureq::Body>, ureq::Error>| match result {
            Ok(response) => Tried::Answered(response),
            Err(e) => {
                let is_undone = match &e {
                    ureq::Error::HostNotFound
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::RequireHttpsOnly(_)
                    | ureq::Error::BadUri(_)
                    | ureq::Error::Http(_)
                    | ureq::Error::Tls(_)
                    | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => true,
                    ureq::Error::Io(e) => e.kind() == std::io::ErrorKind::ConnectionRefused,
                    _ => false,
                };
                let failed = error(HttpErrorKind::Unknown, e.to_string());
                if is_undone { Tried::Undone(failed) } else { Tried::Unsure(failed) }
            }
        };
        macro_rules! with {
            ($body:expr) => {
                match request.body($body) {
                    Ok(request) => {
                        let request = self.agent.configure_request(request).timeout_recv_response(Some(patience));
                        let request = request.timeout_send_body(Some(patience)).timeout_recv_body(Some(BODY)).build();
                        run(self.agent.run(request))
                    }
                    Err(e) => Tried::Undone(error(HttpErrorKind::Unknown, e.to_string())),
                }
            };
        }
        if has_body { with!(body) } else { with!(()) }
    }
}

/// How long the largest answer may take.
const BODY: Duration = Duration::from_secs(ANSWER.as_secs() + ANSWER_BYTES_MAX / BYTES_A_SECOND_MIN as u64);

/// An answer that says no more than that something is wrong, read to its end; what else it is.
fn read_whole(response: ureq::http::Response<ureq::Body>) -> Result<ureq::http::Response<Vec<u8>>, HttpError> {
    let (parts, body) = response.into_parts();
    let mut bytes = Vec::new();
    let read = body.into_reader().take(ERROR_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|e| error(HttpErrorKind::Unknown, e))?;
    Ok(ureq::http::Response::from_parts(parts, bytes))
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let has_condition = has_condition(&parts);
        let mut may_be_done = false;
        for number in 1..=TRIES {
            let last = number == TRIES;
            match self.send(&parts, &body) {
                Tried::Undone(e) if last => return Err(e),
                Tried::Undone(_) => {}
                Tried::Unsure(e) if last || has_condition => return Err(e),
                Tried::Unsure(_) => may_be_done = true,
                Tried::Answered(response) if response.status().as_u16() < 400 => {
                    let (parts, body) = response.into_parts();
                    let length = body.content_length();
                    let reader: Box<dyn Read + Send> = Box::new(body.into_reader().take(ANSWER_BYTES_MAX));
                    let body = Answer { reader: Mutex::new(reader), length };
                    return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
                }
                Tried::Answered(response) => {
                    let response = read_whole(response)?;
                    let status = response.status().as_u16();
                    let text = String::from_utf8_lossy(response.body());
                    // S3 had two writers at once, and wants to be asked again.
                    let is_tie = status == 409 && text.contains("ConditionalRequestConflict");
                    let again = match status {
                        429 => true,
                        // Busy, says S3 before it does anything; from others a write may have been done.
                        503 => {
                            may_be_done |= has_condition && !text.contains("<Code>SlowDown</Code>");
                            true
                        }
                        500 | 502 | 504 => !has_condition,
                        _ => is_tie,
                    };
                    if has_condition && may_be_done && matches!(status, 304 | 409 | 412) {
                        return Err(error(
                            HttpErrorKind::Unknown,
                            "cannot tell whether an earlier try was carried out",
                        ));
                    }
                    if last || !again {
                        return Ok(response.map(|bytes| HttpResponseBody::from(Bytes::from(bytes))));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50 << number)).await;
        }
        Err(error(HttpErrorKind::Unknown, "the store does not answer"))
    }
}

/// The body of an answer, read as it is asked for.
struct Answer {
    reader: Mutex<Box<dyn Read + Send>>,
    length: Option<u64>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, HttpError>>> {
        let mut piece = vec![0; PIECE_BYTES];
        let read = self.reader.lock().unwrap_or_else(PoisonError::into_inner).read(&mut piece);
        Poll::Ready(match read {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some(Ok(http_body::Frame::data(Bytes::from(piece))))
            }
            Err(e) => Some(Err(error(HttpErrorKind::Unknown, e))),
        })
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length.map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}
