//! What a server counts, in the text format of Prometheus. No label comes from what somebody sends: each is one of a few words
//! of the program, and every counter is there from the start, at 0. docs/formats/metrics.md has all of them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::routes::row;
use crate::http::Traffic;
use crate::state::Admission;
use crate::time::Time;
use crate::words::words;

words! {
    /// What a server counts; its word is the name that Prometheus has for it.
    ServerMetric, "a server's metric":
    /// Requests.
    Requests = "keys_serve_requests_total",
    /// Bytes of answers.
    Bytes = "keys_serve_response_bytes_total",
    /// What was handed in.
    Submissions = "keys_serve_submissions_total",
    /// Requests by a token that was used.
    RequestsRefused = "keys_serve_requests_refused_total",
    /// Connections without a place.
    TurnedAway = "keys_serve_turned_away_total",
    /// Requests that were none.
    Malformed = "keys_serve_malformed_total",
    /// Connections.
    Connections = "keys_serve_connections",
    /// The log's size.
    LogEntries = "keys_serve_log_entries",
    /// Its newest time.
    LogNewest = "keys_serve_log_newest_timestamp_seconds",
    /// Certificates.
    Certificates = "keys_serve_certificates",
    /// When the certificate of its TLS ends.
    TlsExpires = "keys_serve_tls_expires_timestamp_seconds",
}

impl ServerMetric {
    /// Whether it only grows while the server runs; else it goes up and down.
    pub fn is_counter(self) -> bool {
        self.word().ends_with("_total")
    }

    /// The names of its labels.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Requests => &["endpoint", "method", "status"],
            Self::Bytes => &["endpoint"],
            Self::Submissions => &["result"],
            Self::RequestsRefused => &["reason"],
            Self::TurnedAway | Self::Malformed | Self::Connections => &[],
            Self::LogEntries | Self::LogNewest | Self::Certificates | Self::TlsExpires => &[],
        }
    }

    /// What it says, for people.
    pub fn help(self) -> &'static str {
        match self {
            Self::Requests => "Requests that were answered.",
            Self::Bytes => "Bytes of bodies that were answered with.",
            Self::Submissions => "What was handed in, by what became of it.",
            Self::RequestsRefused => "Requests signed by a token by which somebody had joined.",
            Self::TurnedAway => "Connections for which there was no place.",
            Self::Malformed => "Requests that were none, too large or too slow.",
            Self::Connections => "Connections that are being served.",
            Self::LogEntries => "Entries of the log that the pages follow.",
            Self::LogNewest => "The time of the newest of them.",
            Self::Certificates => "Certificates that the key server gives out.",
            Self::TlsExpires => "When the certificate that is served ends.",
        }
    }
}

/// What is asked for.
const ENDPOINTS: [&str; 8] = ["keyring", "policy", "lists", "hkp", "wkd", "submit", "own", "other"];
/// How.
const METHODS: [&str; 3] = ["read", "post", "other"];
/// What is answered.
const STATUSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
/// What became of what was handed in, by the status of its answer; the last one is everything else.
const RESULTS: [(u16, &str); 8] = [
    (202, "new"),
    (200, "known"),
    (400, "unreadable"),
    (403, "not_entitled"),
    (409, "past"),
    (422, "not_grantable"),
    (429, "too_much"),
    (503, "trouble"),
];

/// Why a request by a token was refused.
const REFUSED: [Admission; 2] = [Admission::TokenReused, Admission::GenerationConflict];

/// The numbers of one server.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    requests: [[[AtomicU64; STATUSES.len()]; METHODS.len()]; ENDPOINTS.len()],
    bytes: [AtomicU64; ENDPOINTS.len()],
    submissions: [AtomicU64; RESULTS.len()],
    refused: [AtomicU64; REFUSED.len()],
    pub(super) traffic: Traffic,
    /// The log's size and newest time, and the certificates that are given out, as of the pages.
    pub(super) entries: AtomicU64,
    pub(super) newest: AtomicU64,
    pub(super) certificates: AtomicU64,
    pub(super) tls_expires: Until,
}

/// A time for which there may be nothing to wait.
#[derive(Debug)]
pub(super) struct Until(AtomicU64);

impl Default for Until {
    fn default() -> Self {
        Self(AtomicU64::new(NEVER))
    }
}

/// It does not come.
const NEVER: u64 = u64::MAX;

impl Until {
    /// It is this one now.
    pub(super) fn set(&self, time: Time) {
        self.0.store(time.0, Ordering::Relaxed);
    }
}

impl Numbers {
    /// Counts an answer to this target and method.
    pub(super) fn count(&self, target: &str, method: &str, status: u16, bytes: u64) {
        let method = match method {
            "GET" | "HEAD" => 0,
            "POST" => 1,
            _ => 2,
        };
        let endpoint = endpoint(target);
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        let cell = self.requests.get(endpoint).and_then(|m| m.get(method)).and_then(|s| s.get(class));
        cell.into_iter().for_each(one_more);
        if let Some(sent) = self.bytes.get(endpoint) {
            sent.fetch_add(bytes, Ordering::Relaxed);
        }
        if ENDPOINTS.get(endpoint) == Some(&"submit") && method == 1 {
            // Too much at once, and too much of it.
            let status = if status == 413 { 429 } else { status };
            let result = RESULTS.iter().position(|(s, _)| *s == status).unwrap_or(RESULTS.len() - 1);
            self.submissions.get(result).into_iter().for_each(one_more);
        }
    }

    /// Counts a request that came too late with its token.
    pub(super) fn refused(&self, admission: Admission) {
        let place = REFUSED.iter().position(|known| *known == admission);
        place.and_then(|place| self.refused.get(place)).into_iter().for_each(one_more);
    }

    /// The text, whole.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        for metric in ServerMetric::ALL {
            let kind = if metric.is_counter() { "counter" } else { "gauge" };
            // Writing to a String does not fail.
            let _ = writeln!(out, "# HELP {metric} {}\n# TYPE {metric} {kind}", metric.help());
            for (words, value) in self.rows(*metric) {
                let pairs = metric.labels().iter().zip(&words).map(|(label, word)| format!("{label}=\"{word}\""));
                let labels = pairs.collect::<Vec<_>>().join(",");
                let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
                let value = if value == NEVER { "+Inf".to_owned() } else { value.to_string() };
                let _ = writeln!(out, "{metric}{labels} {value}");
            }
        }
        out
    }

    /// What is written of a metric: the words of its labels, and the value.
    fn rows(&self, metric: ServerMetric) -> Vec<(Vec<&'static str>, u64)> {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let one = |value: &AtomicU64| vec![(Vec::new(), read(value))];
        match metric {
            ServerMetric::Requests => {
                let mut rows = Vec::new();
                for (endpoint, methods) in ENDPOINTS.into_iter().zip(&self.requests) {
                    for (method, statuses) in METHODS.into_iter().zip(methods) {
                        let cells = STATUSES.into_iter().zip(statuses);
                        rows.extend(cells.map(|(status, n)| (vec![endpoint, method, status], read(n))));
                    }
                }
                rows
            }
            ServerMetric::Bytes => ENDPOINTS.into_iter().zip(&self.bytes).map(|(e, n)| (vec![e], read(n))).collect(),
            ServerMetric::Submissions => {
                RESULTS.into_iter().zip(&self.submissions).map(|((_, word), n)| (vec![word], read(n))).collect()
            }
            ServerMetric::RequestsRefused => {
                REFUSED.into_iter().zip(&self.refused).map(|(reason, n)| (vec![reason.word()], read(n))).collect()
            }
            ServerMetric::TurnedAway => one(&self.traffic.turned_away),
            ServerMetric::Malformed => one(&self.traffic.malformed),
            ServerMetric::Connections => one(&self.traffic.open),
            ServerMetric::LogEntries => one(&self.entries),
            ServerMetric::LogNewest => one(&self.newest),
            ServerMetric::Certificates => one(&self.certificates),
            ServerMetric::TlsExpires => one(&self.tls_expires.0),
        }
    }
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The place of a target's class in the list of them.
fn endpoint(target: &str) -> usize {
    let word = row(target).map_or("other", |route| route.class);
    ENDPOINTS.iter().position(|known| *known == word).unwrap_or(ENDPOINTS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::super::routes::ROUTES;
    use super::*;

    #[test]
    fn everything_is_there_from_the_start_and_nothing_from_outside_ever() {
        let numbers = Numbers::default();
        let before = numbers.to_text();
        let lines = |text: &str| text.lines().map(|l| l.rsplit_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>();
        let begins = |l: &str| l.ends_with(" 0") || l == "keys_serve_tls_expires_timestamp_seconds +Inf";
        assert!(before.lines().filter(|l| !l.starts_with('#')).all(begins), "{before}");
        numbers.count("/keyring/log/head", "GET", 200, 12);
        numbers.count("/v1/submit", "POST", 429, 3);
        numbers.count("/v1/submit", "POST", 418, 3);
        numbers.count("/\"}\n evil 1", "BREW\"", 999, 1);
        let after = numbers.to_text();
        let kept = |text: &str| lines(text).into_iter().filter(|l| !l.starts_with("# HELP")).collect::<Vec<_>>();
        assert_eq!(kept(&before), kept(&after));
        for line in [
            "keys_serve_requests_total{endpoint=\"keyring\",method=\"read\",status=\"2xx\"} 1",
            "keys_serve_response_bytes_total{endpoint=\"keyring\"} 12",
            "keys_serve_submissions_total{result=\"too_much\"} 1",
            "keys_serve_submissions_total{result=\"trouble\"} 1",
            "keys_serve_requests_total{endpoint=\"other\",method=\"other\",status=\"5xx\"} 1",
        ] {
            assert!(after.lines().any(|l| l == line), "{line}\n{after}");
        }
        assert!(ROUTES.iter().all(|route| ENDPOINTS.contains(&route.class)));
    }
}
