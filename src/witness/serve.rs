//! C2SP tlog-witness over HTTP: `POST /add-checkpoint`, and `GET /<digest of the log's name>/checkpoint` for monitors.

use std::net::TcpListener;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Witness, WitnessError};
use crate::digest::Digest;
use crate::http::{self, Bounds, Pace, Request, Response};
use crate::limits::{WITNESS_CONNECTIONS_MAX, WITNESS_REQUEST_BYTES_MAX};
use crate::log::witness::{AddCheckpoint, Refusal};
use crate::time::Time;

/// Answers until something can be read from `until`; there is nothing to be saved at its end, since everything is durable
/// before it is told. `clock` says what time it is, `log` is told what was refused, and why.
///
/// # Errors
/// [`WitnessError::Net`].
pub fn serve(
    listener: &TcpListener,
    until: BorrowedFd<'_>,
    witness: Witness,
    clock: impl Fn() -> Time + Send + Sync + 'static,
    log: impl Fn(&str) + Send + Sync + 'static,
) -> Result<(), WitnessError> {
    let answer = move |request: &Request| answer(&witness, request, clock(), &log);
    let bounds = Bounds {
        connections: WITNESS_CONNECTIONS_MAX,
        body_bytes: WITNESS_REQUEST_BYTES_MAX,
        bodies_bytes: WITNESS_CONNECTIONS_MAX * WITNESS_REQUEST_BYTES_MAX,
        pace: Pace::USUAL,
        name: "witness",
    };
    http::serve(listener, until, bounds, Arc::new(answer))
        .map_err(|source| WitnessError::Net { doing: "accept connections".to_owned(), source })
}

fn answer(witness: &Witness, request: &Request, now: Time, log: &dyn Fn(&str)) -> Response {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/add-checkpoint") => add(witness, &request.body, now, log),
        ("GET", path) => {
            let digest = path.strip_prefix('/').and_then(|p| p.strip_suffix("/checkpoint")).and_then(Digest::parse);
            match digest.map(|d| witness.last_by_digest(&d)) {
                Some(Ok(Some((note, _)))) => Response::text(200, String::from_utf8_lossy(&note.to_bytes())),
                Some(Err(e)) => failed(&e, log),
                Some(Ok(None)) | None => Response::text(404, "there is no such checkpoint here"),
            }
        }
        (_, "/add-checkpoint") => Response::text(405, "POST it"),
        _ => Response::text(404, "there is nothing here"),
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
