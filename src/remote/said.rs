//! What a server says in words, and by which status.

use std::sync::Arc;

use super::routes::Refused;
use crate::digest::Digest;
use crate::fleet::{AckProblem, Refusal};
use crate::http::{Request, Response};

/// What is said to those who would upload a key.
pub(super) const NOT_ADDED: &str = "keys come here by the fleet's log alone: a member publishes its own with 'keys sync', a machine joins with 'keys enroll'";

/// These bytes of this digest, unless the client has them already.
pub(super) fn tagged(bytes: Arc<[u8]>, digest: Digest, kind: &'static str, request: &Request) -> Response {
    let tag = format!("\"{digest}\"");
    let is_known = request.known.as_ref().is_some_and(|known| {
        known.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == tag || one == "*")
    });
    let response = if is_known { Response::of(304, kind, Vec::new()) } else { Response::shared(200, kind, bytes) };
    response.with("ETag", tag)
}

/// What is said to a request that is none of those in the table.
pub(super) fn refused(why: Refused) -> Response {
    match why {
        Refused::Nothing => Response::text(404, "there is nothing here"),
        Refused::Method(route) => {
            let methods = route.methods.join(", ");
            Response::text(405, format!("this is for {methods}")).with("Allow", methods)
        }
        Refused::Body(route) if route.body_bytes_max == 0 => Response::text(413, "nothing is taken here"),
        Refused::Body(route) => Response::text(413, format!("at most {} bytes are taken here", route.body_bytes_max)),
    }
}

/// The answer's status for each reason.
pub(super) fn status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::OtherLog(_) | Refusal::Unsigned(_) | Refusal::Signature(_) => 403,
        Refusal::Ack(AckProblem::Past(_)) | Refusal::Dead(_) => 409,
        Refusal::Ack(_) => 403,
        Refusal::Missing(_) | Refusal::Stray(_) | Refusal::OtherSealed | Refusal::Request(_) | Refusal::Invited(..) => {
            422
        }
        Refusal::TooMany { .. } => 429,
        Refusal::Fleet(_) => 503,
    }
}
