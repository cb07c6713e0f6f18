//! The agent's numbers in the text format of Prometheus, for node_exporter's textfile collector: they need no network.
//!
//! The labels are a closed set: `service` is a directory that the policy names, the others are words of the program. Every
//! counter is there from the start, at 0, since the increase of one that appears at 1 is 0.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::manifest::Wish;
use super::rounds::Act;
use super::switch::Phase;
use crate::name::Label;
use crate::time::Time;

/// What is counted of one service.
#[derive(Debug, Clone, Default)]
pub struct ServiceNumbers {
    /// The generation that is shown.
    pub generation: Option<u64>,
    /// Whether that is what the log says.
    pub current: bool,
    /// Whether a value has expired that is served on.
    pub expired: bool,
    /// Times that another generation was shown.
    pub flips: u64,
    /// Attempts that left what was there.
    pub failures: u64,
    /// Hooks that failed: check, reload, verify.
    pub hooks: [u64; 3],
}

/// What an agent has counted since its start.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// Whether it has said that it serves.
    pub ready: bool,
    /// Whether the files lie in memory.
    pub in_memory: bool,
    /// Rounds in which all was well, and others.
    pub rounds: [u64; 2],
    /// Acts that failed, in the order of [`Numbers::ACTS`].
    pub failures: [u64; 5],
    /// Entries of the log that are verified and gone by.
    pub entries: u64,
    /// The newest of them.
    pub newest: Time,
    /// The end of the last round.
    pub last_round: Option<Time>,
    /// By directory.
    pub services: BTreeMap<Label, ServiceNumbers>,
}

impl Numbers {
    /// The acts whose failures are counted.
    pub const ACTS: [(Act, &'static str); 5] = [
        (Act::Pull, "pull"),
        (Act::Sync, "sync"),
        (Act::Open, "open"),
        (Act::Deliver, "deliver"),
        (Act::Acknowledge, "acknowledge"),
    ];

    /// Counts an act that failed.
    pub fn failed(&mut self, act: Act) {
        for (count, _) in self.failures.iter_mut().zip(Self::ACTS).filter(|(_, (a, _))| *a == act) {
            *count = count.saturating_add(1);
        }
    }

    /// Has a service counted from 0 on.
    pub fn expect(&mut self, wish: &Wish) {
        self.services.entry(wish.directory.clone()).or_default();
    }

    /// The text, whole.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, help: &str, rows: Vec<(String, String)>| {
            // Writing to a String does not fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let plain = |value: u64| vec![(String::new(), value.to_string())];
        let labelled = |label: &str, word: &str, value: u64| (format!("{{{label}=\"{word}\"}}"), value.to_string());
        let by_service = |value: &dyn Fn(&ServiceNumbers) -> u64| {
            self.services.iter().map(|(s, n)| labelled("service", s.as_str(), value(n))).collect::<Vec<_>>()
        };
        family("keys_agent_ready", "gauge", "Whether the agent serves.", plain(u64::from(self.ready)));
        family(
            "keys_agent_in_memory",
            "gauge",
            "Whether services' files lie in memory.",
            plain(u64::from(self.in_memory)),
        );
        let rounds = ["good", "bad"].iter().zip(self.rounds).map(|(word, n)| labelled("result", word, n)).collect();
        family("keys_agent_rounds_total", "counter", "Rounds that have ended.", rounds);
        let failures = Self::ACTS.iter().zip(self.failures).map(|((_, word), n)| labelled("act", word, n)).collect();
        family("keys_agent_failures_total", "counter", "Acts of a round that failed.", failures);
        family("keys_log_entries", "gauge", "Entries of the log that this machine has verified.", plain(self.entries));
        family("keys_log_newest_timestamp_seconds", "gauge", "The time of the newest of them.", plain(self.newest.0));
        let last = self.last_round.map_or(0, |t| t.0);
        family("keys_agent_last_round_timestamp_seconds", "gauge", "The end of the last round.", plain(last));
        let generation = by_service(&|n| n.generation.unwrap_or_default());
        family("keys_delivery_generation", "gauge", "The generation that is shown, 0 for none.", generation);
        let current = by_service(&|n| u64::from(n.current));
        family("keys_delivery_current", "gauge", "Whether it is what the log says.", current);
        let expired = by_service(&|n| u64::from(n.expired));
        family("keys_delivery_expired", "gauge", "Whether an expired value is served.", expired);
        family("keys_delivery_flips_total", "counter", "Times another generation was shown.", by_service(&|n| n.flips));
        let failures = by_service(&|n| n.failures);
        family("keys_delivery_failures_total", "counter", "Attempts that left what was there.", failures);
        let phases = [Phase::Check, Phase::Reload, Phase::Verify];
        let hooks = self.services.iter().flat_map(|(service, numbers)| {
            let row = move |(phase, n): (Phase, u64)| {
                (format!("{{service=\"{service}\",phase=\"{}\"}}", phase.word()), n.to_string())
            };
            phases.into_iter().zip(numbers.hooks).map(row)
        });
        family("keys_hook_failures_total", "counter", "Hooks that failed.", hooks.collect());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_there_at_zero_and_the_text_is_well_formed() {
        let mut numbers = Numbers::default();
        numbers.services.entry("nginx".parse().unwrap()).or_default();
        let text = numbers.to_text();
        for line in [
            "keys_agent_rounds_total{result=\"bad\"} 0",
            "keys_agent_failures_total{act=\"pull\"} 0",
            "keys_agent_failures_total{act=\"acknowledge\"} 0",
            "keys_delivery_flips_total{service=\"nginx\"} 0",
            "keys_hook_failures_total{service=\"nginx\",phase=\"verify\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        numbers.failed(Act::Sync);
        numbers.failed(Act::Rest);
        assert!(numbers.to_text().contains("keys_agent_failures_total{act=\"sync\"} 1\n"));
        // Each family is declared once, right before its rows, and a counter's name ends in _total.
        let mut family = "";
        let mut seen = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(seen.insert(name), "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                family = name;
            } else if !line.starts_with('#') {
                assert_eq!(line.split(['{', ' ']).next(), Some(family), "{line}");
            }
        }
    }
}
