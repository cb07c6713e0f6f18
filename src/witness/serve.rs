//! C2SP tlog-witness over HTTP: `POST /add-checkpoint`, and `GET /<digest of the log's name>/checkpoint` for monitors.

use std::net::TcpListener;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Witness, WitnessError};
use crate::digest::Digest;
use crate::http::{self, Answers, Bounds, Certified, Head, Pace, Renewal, Request, Response, TlsEvent, TlsFiles};
use crate::limits::{WITNESS_CONNECTIONS_MAX, WITNESS_REQUEST_BYTES_MAX};
use crate::log::witness::{AddCheckpoint, Refusal};
use crate::time::Time;

/// Answers until something can be read from `until`; there is nothing to be saved at its end, since everything is durable
/// before it is told. With `tls` it speaks TLS with this pair of files, which are looked at again while it serves. `clock` says
/// what time it is, `log` is told what was refused, and why, and what there is to say of the certificate.
///
/// # Errors
/// [`WitnessError::Net`], [`WitnessError::Tls`].
pub fn serve(
    listener: &TcpListener,
    until: BorrowedFd<'_>,
    witness: Witness,
    tls: Option<TlsFiles>,
    clock: impl Fn() -> Time + Send + Sync + 'static,
    log: impl Fn(&str) + Send + Sync + 'static,
) -> Result<(), WitnessError> {
    let tls = tls.map(Certified::open).transpose()?;
    let server = Server { witness, tls, clock: Box::new(clock), log: Box::new(log) };
    if let Some(certified) = &server.tls {
        server.say(certified.is_new((server.clock)()));
    }
    let bounds = Bounds {
        connections: WITNESS_CONNECTIONS_MAX,
        body_bytes: WITNESS_REQUEST_BYTES_MAX,
        bodies_bytes: WITNESS_CONNECTIONS_MAX * WITNESS_REQUEST_BYTES_MAX,
        pace: Pace::USUAL,
        name: "witness",
    };
    http::serve(listener, until, bounds, Arc::new(server))
        .map_err(|source| WitnessError::Net { doing: "accept connections".to_owned(), source })
}

/// A cosigner that is asked.
struct Server {
    witness: Witness,
    tls: Option<Certified>,
    clock: Box<dyn Fn() -> Time + Send + Sync>,
    log: Box<dyn Fn(&str) + Send + Sync>,
}

/// Where heads are handed in. It alone takes a body.
const ADD: &str = "/add-checkpoint";

impl Server {
    fn say(&self, (event, said): (TlsEvent, String)) {
        match event {
            // Whoever runs it hears of what wants attention.
            TlsEvent::Certificate | TlsEvent::Renewed => {}
            TlsEvent::Expiring | TlsEvent::NotRenewed => (self.log)(&said),
        }
    }
}

impl Answers for Server {
    fn answer(&self, request: &Request) -> Response {
        let now = (self.clock)();
        self.tls.as_ref().and_then(|certified| certified.has_aged(now)).into_iter().for_each(|said| self.say(said));
        if let Some(refusal) = self.refusal(&request.head()) {
            return refusal;
        }
        match request.method.as_str() {
            "POST" => add(&self.witness, &request.body, now, &self.log),
            _ => last(&self.witness, &request.path, &self.log),
        }
    }

    fn refusal(&self, head: &Head<'_>) -> Option<Response> {
        match (head.method, head.target) {
            ("POST", ADD) => None,
            (_, ADD) => Some(Response::text(405, "POST it").with("Allow", "POST")),
            ("GET" | "HEAD", _) if head.body_bytes > 0 => Some(Response::text(413, "nothing is taken here")),
            ("GET" | "HEAD", _) => None,
            _ => Some(Response::text(404, "there is nothing here")),
        }
    }

    fn tls(&self) -> Option<&Certified> {
        self.tls.as_ref()
    }

    fn renewed(&self, renewal: Renewal) {
        let said = self.tls.iter().flat_map(|certified| certified.renewed(renewal.clone(), (self.clock)()));
        said.for_each(|said| self.say(said));
    }
}

/// The newest head that was cosigned of a log, for monitors.
fn last(witness: &Witness, path: &str, log: &dyn Fn(&str)) -> Response {
    let digest = path.strip_prefix('/').and_then(|p| p.strip_suffix("/checkpoint")).and_then(Digest::parse);
    match digest.map(|d| witness.last_by_digest(&d)) {
        Some(Ok(Some((note, _)))) => Response::text(200, String::from_utf8_lossy(&note.to_bytes())),
        Some(Err(e)) => failed(&e, log),
        Some(Ok(None)) | None => Response::text(404, "there is no such checkpoint here"),
    }
}

fn add(witness: &Witness, body: &[u8], now: Time, log: &dyn Fn(&str)) -> Response {
    let result = AddCheckpoint::parse(body).map_err(WitnessError::from).and_then(|request| witness.add(&request, now));
    match result {
        Ok(line) => Response::text(200, line.to_text()),
        Err(WitnessError::Refused(Refusal::Conflict(size))) => {
            Response::of(409, "text/x.tlog.size", format!("{size}\n").into_bytes())
        }
        Err(WitnessError::Refused(refusal)) => {
            let status = match refusal {
                Refusal::Malformed(_) => 400,
                Refusal::Unknown => 404,
                Refusal::Unsigned => 403,
                Refusal::Conflict(_) => 409,
                Refusal::Inconsistent(_) => 422,
            };
            if status == 422 {
                log(&format!("FORK? {refusal}"));
            }
            Response::text(status, refusal)
        }
        Err(e) => failed(&e, log),
    }
}

/// What is wrong on our side is for our own people.
fn failed(error: &WitnessError, log: &dyn Fn(&str)) -> Response {
    log(&error.to_string());
    Response::text(503, "this cosigner cannot cosign now; its own log says why")
}
