//! What a server counts, in the text format of Prometheus. No label comes from what somebody sends: each is one of a few words
//! of the program, and every counter is there from the start, at 0.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::Traffic;

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

/// The numbers of one server.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    requests: [[[AtomicU64; STATUSES.len()]; METHODS.len()]; ENDPOINTS.len()],
    bytes: [AtomicU64; ENDPOINTS.len()],
    submissions: [AtomicU64; RESULTS.len()],
    pub(super) traffic: Traffic,
    /// The log's size and newest time, and the certificates that are given out, as of the pages.
    pub(super) entries: AtomicU64,
    pub(super) newest: AtomicU64,
    pub(super) certificates: AtomicU64,
}

impl Numbers {
    /// Counts an answer to this path and method.
    pub(super) fn count(&self, path: &str, method: &str, status: u16, bytes: u64) {
        let method = match method {
            "GET" | "HEAD" => 0,
            "POST" => 1,
            _ => 2,
        };
        let endpoint = endpoint(path);
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        let cell = self.requests.get(endpoint).and_then(|m| m.get(method)).and_then(|s| s.get(class));
        cell.into_iter().for_each(one_more);
        if let Some(sent) = self.bytes.get(endpoint) {
            sent.fetch_add(bytes, Ordering::Relaxed);
        }
        if ENDPOINTS.get(endpoint) == Some(&"submit") && method == 1 {
            let result = RESULTS.iter().position(|(s, _)| *s == status).unwrap_or(RESULTS.len() - 1);
            self.submissions.get(result).into_iter().for_each(one_more);
        }
    }

    /// The text, whole.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let mut rows = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
            // Writing to a String does not fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let mut requests = Vec::new();
        for (endpoint, methods) in ENDPOINTS.iter().zip(&self.requests) {
            for (method, statuses) in METHODS.iter().zip(methods) {
                let labels = |status| format!("{{endpoint=\"{endpoint}\",method=\"{method}\",status=\"{status}\"}}");
                requests.extend(STATUSES.iter().zip(statuses).map(|(status, n)| (labels(status), read(n))));
            }
        }
        rows("keys_serve_requests_total", "counter", "Requests that were answered.", &requests);
        let bytes: Vec<_> =
            ENDPOINTS.iter().zip(&self.bytes).map(|(e, n)| (format!("{{endpoint=\"{e}\"}}"), read(n))).collect();
        rows("keys_serve_response_bytes_total", "counter", "Bytes of bodies that were answered with.", &bytes);
        let results = RESULTS.iter().zip(&self.submissions);
        let results: Vec<_> = results.map(|((_, word), n)| (format!("{{result=\"{word}\"}}"), read(n))).collect();
        rows("keys_serve_submissions_total", "counter", "What was handed in, by what became of it.", &results);
        let one = |value: u64| [(String::new(), value)];
        let traffic = &self.traffic;
        let turned_away = one(traffic.turned_away.load(Ordering::Relaxed));
        rows("keys_serve_turned_away_total", "counter", "Connections for which there was no place.", &turned_away);
        let malformed = one(traffic.malformed.load(Ordering::Relaxed));
        rows("keys_serve_malformed_total", "counter", "Requests that were none, too large or too slow.", &malformed);
        let open = one(traffic.open.load(Ordering::Relaxed));
        rows("keys_serve_connections", "gauge", "Connections that are being served.", &open);
        rows("keys_serve_log_entries", "gauge", "Entries of the log that the pages follow.", &one(read(&self.entries)));
        let newest = one(read(&self.newest));
        rows("keys_serve_log_newest_timestamp_seconds", "gauge", "The time of the newest of them.", &newest);
        let certificates = one(read(&self.certificates));
        rows("keys_serve_certificates", "gauge", "Certificates that the key server gives out.", &certificates);
        out
    }
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The place of a path's class in the list of them.
fn endpoint(path: &str) -> usize {
    let word = match path.trim_start_matches('/') {
        p if p.starts_with("keyring/") => "keyring",
        p if p.starts_with("policy/") => "policy",
        "v1/waiting" | "v1/acks" => "lists",
        "v1/submit" => "submit",
        "healthz" | "metrics" => "own",
        p if p.starts_with("pks/") => "hkp",
        p if p.starts_with(".well-known/openpgpkey/") => "wkd",
        _ => "other",
    };
    ENDPOINTS.iter().position(|known| *known == word).unwrap_or(ENDPOINTS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_there_from_the_start_and_nothing_from_outside_ever() {
        let numbers = Numbers::default();
        let before = numbers.to_text();
        let lines = |text: &str| text.lines().map(|l| l.rsplit_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>();
        assert!(before.lines().filter(|l| !l.starts_with('#')).all(|l| l.ends_with(" 0")), "{before}");
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
    }
}
