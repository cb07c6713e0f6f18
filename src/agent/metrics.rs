//! The agent's numbers in the text format of Prometheus, for node_exporter's textfile collector: they need no network.
//!
//! The names are a closed list, [`Metric`], and so are the labels: `service` is a directory that the policy names, the others
//! are words of the program. Every counter is there from the start, at 0, since the increase of one that appears at 1 is 0.
//! docs/formats/metrics.md has all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::manifest::Wish;
use super::rounds::Act;
use super::switch::Phase;
use crate::name::{Kind, Label, MemberName, Slot};
use crate::policy::Freshness;
use crate::state::{Admission, State};
use crate::statement::Outcome;
use crate::time::Time;
use crate::words::words;

words! {
    /// What is measured; its word is the name that Prometheus has for it.
    Metric, "a metric":
    /// Whether it has said that it serves.
    Ready = "keys_agent_ready",
    /// Where files lie.
    InMemory = "keys_agent_in_memory",
    /// Rounds.
    Rounds = "keys_agent_rounds_total",
    /// Acts that failed.
    Failures = "keys_agent_failures_total",
    /// Acts that failed since what was there was refused.
    Refusals = "keys_agent_refusals_total",
    /// When an act last succeeded.
    Success = "keys_agent_success_timestamp_seconds",
    /// The end of the last round.
    LastRound = "keys_agent_last_round_timestamp_seconds",
    /// The log's size.
    LogEntries = "keys_log_entries",
    /// Its newest time.
    LogNewest = "keys_log_newest_timestamp_seconds",
    /// Whether its head is too old.
    LogStale = "keys_log_stale",
    /// Mirrors that were of no use.
    MirrorFaults = "keys_mirror_faults_total",
    /// Slots without standby.
    StandbysMissing = "keys_standbys_missing",
    /// Rotations.
    RotationDue = "keys_rotation_due_timestamp_seconds",
    /// Certificates.
    CertificateExpires = "keys_certificate_expires_timestamp_seconds",
    /// SSH certificates of hosts.
    SshExpires = "keys_ssh_host_certificate_expires_timestamp_seconds",
    /// Requests that are refused.
    RequestsRefused = "keys_requests_refused",
    /// Machines that run twice.
    MachinesCopied = "keys_machines_copied",
    /// Restore drills.
    DrillDue = "keys_restore_drill_due_timestamp_seconds",
    /// How the last one went.
    DrillFailed = "keys_restore_drill_failed",
    /// Generations.
    Generation = "keys_delivery_generation",
    /// Whether they are current.
    Current = "keys_delivery_current",
    /// Whether they hold what has expired.
    Expired = "keys_delivery_expired",
    /// Flips.
    Flips = "keys_delivery_flips_total",
    /// Deliveries that failed.
    DeliveryFailures = "keys_delivery_failures_total",
    /// Hooks that failed.
    HookFailures = "keys_hook_failures_total",
    /// Credentials that were asked for in vain.
    CredentialsRefused = "keys_credentials_refused_total",
}

impl Metric {
    /// Whether it only grows while the agent runs; else it goes up and down.
    pub fn is_counter(self) -> bool {
        self.word().ends_with("_total")
    }

    /// The names of its labels.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Rounds => &["result"],
            Self::Failures | Self::Refusals | Self::Success => &["act"],
            Self::MirrorFaults => &["kind"],
            Self::RequestsRefused => &["reason"],
            Self::Generation | Self::Current | Self::Expired | Self::Flips | Self::DeliveryFailures => &["service"],
            Self::HookFailures => &["service", "phase"],
            Self::Ready | Self::InMemory | Self::LastRound | Self::LogEntries | Self::LogNewest | Self::LogStale => &[],
            Self::StandbysMissing | Self::RotationDue | Self::CertificateExpires | Self::SshExpires => &[],
            Self::MachinesCopied | Self::DrillDue | Self::DrillFailed | Self::CredentialsRefused => &[],
        }
    }

    /// What it says, for people.
    pub fn help(self) -> &'static str {
        match self {
            Self::Ready => "Whether the agent serves.",
            Self::InMemory => "Whether services' files lie in memory.",
            Self::Rounds => "Rounds that have ended.",
            Self::Failures => "Acts of a round that failed.",
            Self::Refusals => "Those that failed because what was there is damaged, forged, rolled back or forked.",
            Self::Success => "When an act of a round last succeeded, 0 for never.",
            Self::LastRound => "The end of the last round.",
            Self::LogEntries => "Entries of the log that this machine has verified.",
            Self::LogNewest => "The time of the newest of them.",
            Self::LogStale => "Whether the cosigners' word on what is newest is older than the policy allows.",
            Self::MirrorFaults => "Mirrors that brought nothing: out of reach or behind, or with what cannot be right.",
            Self::StandbysMissing => "Slots of this machine's members without a standby key.",
            Self::RotationDue => "When the first of this machine's keys is due to be rotated.",
            Self::CertificateExpires => "When the first of this machine's OpenPGP certificates expires.",
            Self::SshExpires => "When the first of this machine's SSH host certificates expires.",
            Self::RequestsRefused => "Requests by invitation that lie here and are refused, where an authority is.",
            Self::MachinesCopied => "Members that two machines speak for, by what they say of themselves.",
            Self::DrillDue => "When a restore drill is due.",
            Self::DrillFailed => "Whether the newest restore drill failed.",
            Self::Generation => "The generation that is shown, 0 for none.",
            Self::Current => "Whether it is what the log says.",
            Self::Expired => "Whether an expired value is served.",
            Self::Flips => "Times another generation was shown.",
            Self::DeliveryFailures => "Attempts that left what was there.",
            Self::HookFailures => "Hooks that failed.",
            Self::CredentialsRefused => "Credentials that units asked for and did not get.",
        }
    }
}

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
    /// Those of them that met what is damaged, forged, rolled back or forked.
    pub refusals: [u64; 5],
    /// When they last succeeded.
    pub successes: [Time; 5],
    /// The end of the last round.
    pub last_round: Option<Time>,
    /// Mirrors that were away or behind, and those with what cannot be right.
    pub mirror_faults: [u64; 2],
    /// Credentials that were refused.
    pub credentials_refused: u64,
    /// Members that two machines speak for.
    pub machines_copied: usize,
    /// Requests by invitation that are refused, by reason.
    pub requests_refused: BTreeMap<Admission, u64>,
    /// What the fleet says of this machine.
    pub seen: Seen,
    /// By directory.
    pub services: BTreeMap<Label, ServiceNumbers>,
}

/// What an opened fleet says of a machine. Where there is no time there is nothing to wait for.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Entries of the log that are verified and gone by.
    pub entries: u64,
    /// The newest of them.
    pub newest: Time,
    /// Whether its head is too old.
    pub is_stale: bool,
    /// Slots without a standby key.
    pub standbys_missing: usize,
    /// When the first key is due to be rotated.
    pub rotation_due: Option<Time>,
    /// When the first OpenPGP certificate expires.
    pub certificate_expires: Option<Time>,
    /// When the first SSH host certificate expires.
    pub ssh_expires: Option<Time>,
    /// When a restore drill is due.
    pub drill_due: Option<Time>,
    /// Whether the newest one failed.
    pub drill_failed: bool,
}

impl Seen {
    /// Looks at what `state` says of the members that are `here`.
    pub fn of(state: &State, here: &[MemberName], freshness: Freshness) -> Self {
        let own = |name: &MemberName| here.contains(name);
        // Operators' keys may lie on a card with one key a purpose.
        let lacks = |(name, _): &(&MemberName, Slot)| {
            own(name) && state.members.get(*name).is_some_and(|m| m.kind != Kind::Operator)
        };
        let active = || state.members.iter().filter(|(name, m)| m.is_active() && own(name));
        let newest = state.drills.newest.as_ref();
        Self {
            entries: state.size,
            newest: state.time,
            is_stale: matches!(freshness, Freshness::Stale(_)),
            standbys_missing: state.missing_standbys().filter(lacks).count(),
            // The log's key is not rotated by a date.
            rotation_due: state.rotations().filter(|d| own(&d.member) && d.slot != Slot::Log).map(|d| d.since).min(),
            certificate_expires: active().filter_map(|(_, m)| m.cert_expires).min(),
            ssh_expires: active().filter_map(|(name, _)| host_certificate_ends(state, name)).min(),
            drill_due: state.drill_due(),
            drill_failed: newest.is_some_and(|d| d.report.outcome == Outcome::Failed),
        }
    }
}

/// When the last of the certificates for a member's active host key ends.
fn host_certificate_ends(state: &State, member: &MemberName) -> Option<Time> {
    let active = &state.members.get(member)?.active(Slot::SshHost)?.key;
    let own = state.issued.iter().filter(|(serial, i)| i.member == *member && !state.revoked_serials.contains(serial));
    let fields = own.map(|(_, issued)| issued.certificate.fields());
    fields.filter(|f| f.subject.to_string() == *active).map(|f| f.valid_before).max()
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

    /// Counts an act that failed; `refused` is whether that is because what was there cannot be right.
    pub fn failed(&mut self, act: Act, refused: bool) {
        let Some(place) = Self::place(act) else { return };
        let counts = [&mut self.failures, &mut self.refusals];
        for count in counts.into_iter().take(1 + usize::from(refused)).filter_map(|c| c.get_mut(place)) {
            *count = count.saturating_add(1);
        }
    }

    /// Notes that an act succeeded.
    pub fn succeeded(&mut self, act: Act, now: Time) {
        if let Some(time) = Self::place(act).and_then(|place| self.successes.get_mut(place)) {
            *time = now;
        }
    }

    fn place(act: Act) -> Option<usize> {
        Self::ACTS.iter().position(|(a, _)| *a == act)
    }

    /// Has a service counted from 0 on.
    pub fn expect(&mut self, wish: &Wish) {
        self.services.entry(wish.directory.clone()).or_default();
    }

    /// The text, whole.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for metric in Metric::ALL {
            let kind = if metric.is_counter() { "counter" } else { "gauge" };
            // Writing to a String does not fail.
            let _ = writeln!(out, "# HELP {metric} {}\n# TYPE {metric} {kind}", metric.help());
            for (words, value) in self.rows(*metric) {
                let pairs = metric.labels().iter().zip(&words).map(|(label, word)| format!("{label}=\"{word}\""));
                let labels = pairs.collect::<Vec<_>>().join(",");
                let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
                let _ = writeln!(out, "{metric}{labels} {value}");
            }
        }
        out
    }

    /// What is written of a metric: the words of its labels, and the value.
    fn rows(&self, metric: Metric) -> Vec<(Vec<&str>, String)> {
        let plain = |value: u64| vec![(Vec::new(), value.to_string())];
        // What never comes is later than all that does.
        let time = |at: Option<Time>| vec![(Vec::new(), at.map_or_else(|| "+Inf".to_owned(), |t| t.0.to_string()))];
        let acts = |values: [u64; 5]| worded(Self::ACTS.map(|(_, word)| word), values);
        match metric {
            Metric::Ready => plain(u64::from(self.ready)),
            Metric::InMemory => plain(u64::from(self.in_memory)),
            Metric::Rounds => worded(["good", "bad"], self.rounds),
            Metric::Failures => acts(self.failures),
            Metric::Refusals => acts(self.refusals),
            Metric::Success => acts(self.successes.map(|t| t.0)),
            Metric::LastRound => plain(self.last_round.map_or(0, |t| t.0)),
            Metric::LogEntries => plain(self.seen.entries),
            Metric::LogNewest => plain(self.seen.newest.0),
            Metric::LogStale => plain(u64::from(self.seen.is_stale)),
            Metric::MirrorFaults => worded(["away", "wrong"], self.mirror_faults),
            Metric::StandbysMissing => plain(u64::try_from(self.seen.standbys_missing).unwrap_or(u64::MAX)),
            Metric::RotationDue => time(self.seen.rotation_due),
            Metric::CertificateExpires => time(self.seen.certificate_expires),
            Metric::SshExpires => time(self.seen.ssh_expires),
            Metric::RequestsRefused => {
                let refused = Admission::ALL.iter().filter(|a| a.is_refusal());
                let count = |a: &Admission| self.requests_refused.get(a).copied().unwrap_or_default();
                refused.map(|a| (vec![a.word()], count(a).to_string())).collect()
            }
            Metric::MachinesCopied => plain(u64::try_from(self.machines_copied).unwrap_or(u64::MAX)),
            Metric::DrillDue => time(self.seen.drill_due),
            Metric::DrillFailed => plain(u64::from(self.seen.drill_failed)),
            Metric::Generation => self.by_service(|n| n.generation.unwrap_or_default()),
            Metric::Current => self.by_service(|n| u64::from(n.current)),
            Metric::Expired => self.by_service(|n| u64::from(n.expired)),
            Metric::Flips => self.by_service(|n| n.flips),
            Metric::DeliveryFailures => self.by_service(|n| n.failures),
            Metric::HookFailures => {
                let phases = [Phase::Check, Phase::Reload, Phase::Verify];
                let mut rows = Vec::new();
                for (service, numbers) in &self.services {
                    let hooks = phases.into_iter().zip(numbers.hooks);
                    rows.extend(hooks.map(|(phase, n)| (vec![service.as_str(), phase.word()], n.to_string())));
                }
                rows
            }
            Metric::CredentialsRefused => plain(self.credentials_refused),
        }
    }

    fn by_service(&self, value: impl Fn(&ServiceNumbers) -> u64) -> Vec<(Vec<&str>, String)> {
        self.services.iter().map(|(service, n)| (vec![service.as_str()], value(n).to_string())).collect()
    }
}

/// A row for each word.
fn worded<const N: usize>(words: [&str; N], values: [u64; N]) -> Vec<(Vec<&str>, String)> {
    words.into_iter().zip(values).map(|(word, value)| (vec![word], value.to_string())).collect()
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
            "keys_agent_refusals_total{act=\"open\"} 0",
            "keys_mirror_faults_total{kind=\"wrong\"} 0",
            "keys_credentials_refused_total 0",
            "keys_requests_refused{reason=\"generation_conflict\"} 0",
            "keys_machines_copied 0",
            "keys_restore_drill_due_timestamp_seconds +Inf",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        numbers.failed(Act::Sync, false);
        numbers.failed(Act::Open, true);
        numbers.failed(Act::Rest, true);
        numbers.succeeded(Act::Pull, Time(7));
        let after = numbers.to_text();
        for line in [
            "keys_agent_failures_total{act=\"sync\"} 1",
            "keys_agent_refusals_total{act=\"sync\"} 0",
            "keys_agent_failures_total{act=\"open\"} 1",
            "keys_agent_refusals_total{act=\"open\"} 1",
            "keys_agent_success_timestamp_seconds{act=\"pull\"} 7",
            "keys_agent_success_timestamp_seconds{act=\"sync\"} 0",
        ] {
            assert!(after.lines().any(|l| l == line), "{line}\n{after}");
        }
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
