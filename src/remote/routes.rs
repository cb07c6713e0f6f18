//! What a server answers, in one table: each endpoint, the methods that it has, how much of a body it takes. What no row has
//! is refused, by the head of the request alone. docs/formats/http.md shows the same table.

use crate::directory::{Asked, asked};
use crate::http::Head;
use crate::limits::{SUBMIT_BYTES_MAX, UPLOAD_BYTES_MAX};
use crate::store::Public;

/// What an endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Gives a file of the fleet's directory.
    File,
    /// Lists what waits.
    Waiting,
    /// Lists what machines say of themselves.
    Acks,
    /// Takes what is handed in.
    Submit,
    /// Says whether the keyring can be read.
    Health,
    /// Shows what is counted.
    Numbers,
    /// Gives certificates.
    KeyServer,
    /// Says that keys do not come this way.
    AddKey,
}

/// A row of the table.
#[derive(Debug)]
pub struct Route {
    /// Its path; with `…` at the end, what its paths begin with.
    pub path: &'static str,
    /// The methods that it has.
    pub methods: &'static [&'static str],
    /// How many bytes a body may have.
    pub body_bytes_max: usize,
    /// Its word among the numbers.
    pub(super) class: &'static str,
    pub(super) endpoint: Endpoint,
}

const READ: &[&str] = &["GET", "HEAD"];
const POST: &[&str] = &["POST"];

/// Every endpoint that there is.
pub const ROUTES: [Route; 11] = [
    route("/keyring/…", READ, 0, "keyring", Endpoint::File),
    route("/policy/…", READ, 0, "policy", Endpoint::File),
    route("/v1/waiting", READ, 0, "lists", Endpoint::Waiting),
    route("/v1/acks", READ, 0, "lists", Endpoint::Acks),
    route("/v1/submit", POST, SUBMIT_BYTES_MAX, "submit", Endpoint::Submit),
    route("/healthz", READ, 0, "own", Endpoint::Health),
    route("/metrics", READ, 0, "own", Endpoint::Numbers),
    route("/pks/lookup", READ, 0, "hkp", Endpoint::KeyServer),
    route("/pks/v2/…", READ, 0, "hkp", Endpoint::KeyServer),
    route("/pks/add", POST, UPLOAD_BYTES_MAX, "hkp", Endpoint::AddKey),
    route("/.well-known/openpgpkey/…", READ, 0, "wkd", Endpoint::KeyServer),
];

const fn route(
    path: &'static str,
    methods: &'static [&'static str],
    body_bytes_max: usize,
    class: &'static str,
    endpoint: Endpoint,
) -> Route {
    Route { path, methods, body_bytes_max, class, endpoint }
}

/// What a request's target names.
#[derive(Debug)]
pub(super) enum Named {
    /// A file.
    File(Public),
    /// A question to a key server.
    Question(Asked),
    /// What there is one of.
    Only,
}

/// Why a request is refused by its head alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is nothing of that name.
    Nothing,
    /// There is, and it does not have this method.
    Method(&'static Route),
    /// It takes no body as large as this one.
    Body(&'static Route),
}

/// The row that a target falls under, whether there is anything of its name or not.
pub(super) fn row(target: &str) -> Option<&'static Route> {
    // Only a key server is asked by what stands after the path.
    let path = target.split('?').next().unwrap_or_default();
    ROUTES.iter().find(|route| match route.path.strip_suffix('…') {
        Some(beginning) => path.starts_with(beginning),
        None => path == route.path && (path.len() == target.len() || route.endpoint == Endpoint::KeyServer),
    })
}

/// What answers a request, and what it names.
pub(super) fn routed(head: &Head<'_>) -> Result<(&'static Route, Named), Refused> {
    let route = row(head.target).ok_or(Refused::Nothing)?;
    let named = match route.endpoint {
        Endpoint::File => head.target.strip_prefix('/').and_then(Public::parse).map(Named::File),
        Endpoint::KeyServer => asked(head.target).map(Named::Question),
        Endpoint::Waiting | Endpoint::Acks | Endpoint::Submit => Some(Named::Only),
        Endpoint::Health | Endpoint::Numbers | Endpoint::AddKey => Some(Named::Only),
    };
    let named = named.ok_or(Refused::Nothing)?;
    if !route.methods.contains(&head.method) {
        return Err(Refused::Method(route));
    }
    if head.body_bytes > route.body_bytes_max {
        return Err(Refused::Body(route));
    }
    Ok((route, named))
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Route {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, target: &str, body_bytes: usize) -> Result<Endpoint, Refused> {
        routed(&Head { method, target, body_bytes }).map(|(route, _)| route.endpoint)
    }

    #[test]
    fn no_row_hides_another_and_what_is_read_takes_no_body() {
        for (place, route) in ROUTES.iter().enumerate() {
            let beginning = route.path.trim_end_matches('…');
            assert!(beginning.starts_with('/') && !beginning.contains('?'), "{beginning}");
            for other in ROUTES.iter().skip(place + 1) {
                assert!(!other.path.starts_with(beginning) && !beginning.starts_with(other.path), "{}", other.path);
            }
            assert_eq!(route.body_bytes_max == 0, route.methods == READ, "{}", route.path);
        }
    }

    #[test]
    fn a_target_is_one_endpoints_or_nobodys() {
        assert_eq!(of("GET", "/keyring/log/checkpoint", 0), Ok(Endpoint::File));
        assert_eq!(of("GET", "/pks/lookup?op=get&search=x", 0), Ok(Endpoint::KeyServer));
        assert_eq!(of("POST", "/v1/submit", SUBMIT_BYTES_MAX), Ok(Endpoint::Submit));
        for target in ["", "/", "*", "/v1/submit?", "/v1/submit/", "v1/submit", "/V1/submit", "/keyring/log/head?x"] {
            for method in ["GET", "POST", "CONNECT"] {
                assert_eq!(of(method, target, 0), Err(Refused::Nothing), "{target}");
            }
        }
        assert!(matches!(of("get", "/healthz", 0), Err(Refused::Method(_))));
        assert!(matches!(of("GET", "/healthz", 1), Err(Refused::Body(_))));
        assert!(matches!(of("POST", "/v1/submit", SUBMIT_BYTES_MAX + 1), Err(Refused::Body(_))));
    }
}
