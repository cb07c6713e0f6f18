//! Looks on while the log is replayed, and keeps what the report needs.

use std::collections::{BTreeMap, BTreeSet};

use super::access::{Departures, Exposure, Leaving, members};
use super::entry::{about, addresses, changes, is_suspicious, newest, touched, weaker};
use super::finding;
use super::inventory::{self, Certificates};
use super::lives::{Lives, cryptoperiods};
use super::mapping::MAPPINGS;
use super::need::Need;
use super::report::{
    ActCount, Approval, FORMAT, Gap, LogFacts, Period, PolicyChange, PublishedFacts, Report, Special, VoidRow,
};
use crate::digest::Digest;
use crate::name::{Address, MemberName};
use crate::policy::Policy;
use crate::state::{Objects, PolicyInForce, Prepared, State, Verdict, Watch};
use crate::statement::{Act, Entry};
use crate::text;
use crate::time::Time;

/// How many gaps are kept.
const GAPS_KEPT: usize = 5;
/// Acts that the report shows field by field.
const EMERGENCY: &str = "emergency";
const DRILL: &str = "drill.restore";

/// The log's head, for whoever has checked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How many entries.
    pub size: u64,
    /// The root hash.
    pub root: Digest,
    /// The names in its signature lines.
    pub signed_by: Vec<String>,
    /// What is published, if the policy names cosigners.
    pub published: Option<PublishedFacts>,
    /// The present: what an open end of the period means.
    pub now: Time,
}

/// An entry that is being taken.
struct Taken {
    entry: Option<Entry>,
    need: Need,
    /// The version of each secret that it is about.
    versions: BTreeMap<Address, u64>,
    /// The state before it, where the period may end there.
    before: Option<Box<State>>,
    policy: Option<std::sync::Arc<Policy>>,
}

/// What is kept of the log. See the module.
pub struct Collector<O> {
    objects: O,
    from: Option<Time>,
    to: Option<Time>,
    taken: Option<Taken>,
    /// The state at the end of the period, once an entry came after it.
    closed: Option<Box<State>>,
    began: Option<Time>,
    last: Option<(Time, u64)>,
    until: u64,
    policy: Option<PolicyInForce>,
    lives: Lives,
    exposure: Exposure<MemberName>,
    departures: Departures,
    approvals: Vec<Approval>,
    acts: BTreeMap<String, ActCount>,
    void: Vec<VoidRow>,
    gaps: Vec<Gap>,
    special: Vec<Special>,
    policies: Vec<PolicyChange>,
    policy_files: BTreeMap<u64, BTreeMap<String, Digest>>,
    grave: BTreeMap<u64, usize>,
}

impl<O: Objects> Collector<O> {
    /// For the period from `from`, or the founding, to `to`, or the present.
    pub fn new(objects: O, from: Option<Time>, to: Option<Time>) -> Self {
        Self {
            objects,
            from,
            to,
            taken: None,
            closed: None,
            began: None,
            last: None,
            until: 0,
            policy: None,
            lives: Lives::default(),
            exposure: Exposure::default(),
            departures: Departures::default(),
            approvals: Vec::new(),
            acts: BTreeMap::new(),
            void: Vec::new(),
            gaps: Vec::new(),
            special: Vec::new(),
            policies: Vec::new(),
            policy_files: BTreeMap::new(),
            grave: BTreeMap::new(),
        }
    }

    /// The report, once all entries were seen. `state` is the one after the last; `None` if the period ends before the
    /// founding.
    pub fn finish(mut self, head: &Head, state: &State) -> Option<Report> {
        let newest = state.time;
        let state = self.closed.take().unwrap_or_else(|| Box::new(state.clone()));
        let began = self.began?;
        let period = Period { from: self.from.unwrap_or(began), to: self.to.unwrap_or(head.now.max(newest)) };
        if let Some((last, entry)) = self.last {
            self.gap(last, period.to, entry);
        }
        let fleet = &state.policy.policy.fleet;
        let mut keys = std::mem::take(&mut self.lives).finish(fleet);
        let certificates = Certificates::read(&state, &self.objects);
        certificates.describe(&mut keys);
        let (emergencies, drills) =
            std::mem::take(&mut self.special).into_iter().partition(|special| special.act == EMERGENCY);
        let mut report = Report {
            format: FORMAT,
            fleet: state.fleet.clone(),
            id: state.id,
            log: LogFacts {
                name: state.log.clone(),
                size: head.size,
                root: head.root,
                newest,
                until: self.until,
                entries: self.acts.values().map(|c| c.entries).sum(),
                signed_by: head.signed_by.clone(),
                published: head.published.clone().filter(|_| self.to.is_none()),
            },
            period,
            findings: Vec::new(),
            thresholds: finding::thresholds(),
            acts: self.acts,
            members: inventory::members(&state),
            cryptoperiods: cryptoperiods(&keys, &period, &state),
            keys,
            secrets: inventory::secrets(&state, &self.exposure),
            ssh: inventory::ssh(&state),
            vouches: certificates.vouches(&state),
            mesh: inventory::mesh(&state),
            topology: state.policy.policy.wireguard.topology().clone(),
            approvals: self.approvals,
            departures: self.departures.finish(period.from),
            void: self.void,
            gaps: self.gaps,
            emergencies,
            drills,
            policies: self.policies,
            policy_files: self.policy_files,
            mapping: MAPPINGS.to_vec(),
            checked: finding::checked(head.size),
            not_checked: finding::not_checked(),
        };
        report.findings = finding::findings(&report, &state, &self.grave);
        Some(report)
    }

    fn in_period(&self, time: Time) -> bool {
        self.from.is_none_or(|from| time >= from)
    }

    fn gap(&mut self, from: Time, to: Time, after: u64) {
        if to > from && self.in_period(to) {
            let from = self.from.map_or(from, |first| from.max(first));
            self.gaps.push(Gap { from, to, seconds: to.since(from).0, after });
            self.gaps.sort_by(|a, b| (b.seconds, a.after).cmp(&(a.seconds, b.after)));
            self.gaps.truncate(GAPS_KEPT);
        }
    }

    /// Takes in what an entry did to keys, secrets and members.
    fn follow(&mut self, taken: &Taken, verdict: &Verdict, state: &State) {
        let (time, index) = (verdict.time, verdict.index);
        let at = taken.entry.as_ref().map_or(time, |e| e.signed.statement.at);
        let leaving = Leaving { entry: index, reported: at, logged: time, signers: &verdict.signers };
        // A cryptoperiod that ends here was one of the policy before the entry.
        let policy = taken.policy.as_ref().unwrap_or(&state.policy.policy);
        // What waited for its time takes effect with the entry that brings it.
        let unlocked = verdict.unlocked.iter().map(|u| u.locked.statement().map(|s| s.act));
        let late = unlocked.flat_map(|act| touched(act.as_ref(), state));
        let now = touched(taken.entry.as_ref().map(|e| &e.signed.statement.act), state);
        for name in now.into_iter().chain(late) {
            if let Some(member) = state.members.get(&name) {
                self.lives.note(&name, member, time, &policy.fleet);
                self.departures.note(&name, state, &leaving);
            }
        }
        for (address, version) in &taken.versions {
            if let Some(secret) = state.secrets.get(address) {
                self.exposure.note(address, secret.version, &members(secret), time);
            }
            self.departures.follow(address, state, *version, time, index);
        }
    }

    fn policy_change(&mut self, entry: &Entry, verdict: &Verdict, state: &State) {
        if self.policy.as_ref().is_some_and(|p| p.version == state.policy.version) {
            return;
        }
        let old = self.policy.replace(state.policy.clone());
        self.policy_files.insert(state.policy.version, state.policy.files.clone());
        if !self.in_period(verdict.time) {
            return;
        }
        let weaker = old.as_ref().map(|old| weaker(old, state, verdict.time)).unwrap_or_default();
        let (version, files) = (state.policy.version, &state.policy.files);
        let old = old.map(|p| p.files).unwrap_or_default();
        let text = |digest: Option<&Digest>| {
            let bytes = digest.and_then(|d| self.objects.object(d).ok());
            bytes.map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
        };
        let names: BTreeSet<&String> =
            old.keys().chain(files.keys()).filter(|n| old.get(*n) != files.get(*n)).collect();
        let diff = |n: &String| text::line_diff(&text(old.get(n)), &text(files.get(n)));
        let files = names.into_iter().map(|n| (n.clone(), diff(n))).collect();
        // It may have waited for its time, and come with somebody else's entry.
        let waited = verdict.unlocked.iter().find_map(|u| {
            let statement = u.locked.statement().filter(|s| matches!(s.act, Act::PolicyUpdate(_)))?;
            Some((statement, u.locked.index, u.locked.signers.clone()))
        });
        let (statement, entry, signers) =
            waited.unwrap_or_else(|| (entry.signed.statement.clone(), verdict.index, verdict.signers.clone()));
        let (by, reason) = (statement.by, statement.reason);
        self.policies.push(PolicyChange { entry, version, by, time: verdict.time, signers, reason, files, weaker });
    }

    fn record(&mut self, taken: &Taken, verdict: &Verdict, state: &State) {
        let act = taken.entry.as_ref().map(|e| e.signed.statement.act.name().to_string());
        let count = self.acts.entry(act.clone().unwrap_or_else(|| "unreadable".to_owned())).or_default();
        count.entries += 1;
        count.void += usize::from(verdict.applied == 0);
        if !verdict.void.is_empty() {
            self.void.push(VoidRow {
                entry: verdict.index,
                act,
                by: taken.entry.as_ref().map(|e| e.signed.statement.by.clone()),
                time: verdict.time,
                whole: verdict.applied == 0,
                why: verdict.void.iter().map(|(i, v)| (*i, v.to_string())).collect(),
                suspicious: verdict.void.iter().any(|(_, v)| is_suspicious(v)),
            });
        }
        for unlocked in verdict.unlocked.iter().filter(|u| !u.void.is_empty()) {
            let statement = unlocked.locked.statement();
            self.void.push(VoidRow {
                entry: unlocked.locked.index,
                act: statement.as_ref().map(|s| s.act.name().to_string()),
                by: statement.map(|s| s.by),
                time: verdict.time,
                whole: true,
                why: unlocked.void.iter().map(|(i, v)| (*i, v.to_string())).collect(),
                suspicious: unlocked.void.iter().any(|(_, v)| is_suspicious(v)),
            });
        }
        let Some(entry) = &taken.entry else { return };
        let (signed, need) = (&entry.signed, &taken.need);
        let statement = &signed.statement;
        let alone = verdict.applied > 0 && verdict.signers.iter().eq([&statement.by]) && need.agreed.is_empty();
        count.alone += usize::from(alone);
        if alone && need.grave {
            self.grave.insert(verdict.index, need.operators);
        }
        let changes = changes(&signed.body);
        let delay = verdict.time.since(statement.at).0;
        let name = statement.act.name().word();
        if verdict.applied > 0 && [EMERGENCY, DRILL].contains(&name) {
            self.special.push(Special {
                entry: verdict.index,
                act: name.to_owned(),
                by: statement.by.clone(),
                at: statement.at,
                logged: verdict.time,
                lag: delay,
                applied: if name == EMERGENCY { state.applied_by(entry) } else { BTreeMap::new() },
                signers: verdict.signers.clone(),
                reason: statement.reason.clone(),
                changes: changes.clone(),
            });
        }
        self.approvals.push(Approval {
            entry: verdict.index,
            id: signed.id,
            act: name.to_owned(),
            about: changes.iter().map(about).collect(),
            by: statement.by.clone(),
            at: statement.at,
            logged: verdict.time,
            delay,
            effect: verdict.locked,
            signers: verdict.signers.clone(),
            need: need.rules.clone(),
            given: need.given(&verdict.signers),
            alone,
            applied: verdict.applied,
            void: verdict.void.len(),
            reason: statement.reason.clone(),
        });
    }
}

impl<O: Objects> Watch for Collector<O> {
    fn before(&mut self, state: Option<&State>, entry: &Prepared) {
        if self.closed.is_some() {
            return;
        }
        let entry = entry.entry().cloned();
        let Some(state) = state else {
            let need = Need { rules: vec!["every founding operator".to_owned()], ..Need::default() };
            self.taken = Some(Taken { entry, need, versions: BTreeMap::new(), before: None, policy: None });
            return;
        };
        let need = entry.as_ref().map(|e| Need::of(e, state, &self.objects)).unwrap_or_default();
        let of = |address: Address| {
            let version = state.secrets.get(&address).map_or(0, |s| s.version);
            (address, version)
        };
        let versions = entry.as_ref().map(|e| addresses(&e.signed.statement.act)).unwrap_or_default();
        let late = |to: Time| entry.as_ref().is_some_and(|e| newest(e, state) > to);
        let before = self.to.is_some_and(late).then(|| Box::new(state.clone()));
        self.taken = Some(Taken {
            need,
            versions: versions.into_iter().map(of).collect(),
            before,
            policy: Some(state.policy.policy.clone()),
            entry,
        });
    }

    fn after(&mut self, verdict: &Verdict, state: &State) {
        let Some(mut taken) = self.taken.take() else { return };
        if self.to.is_some_and(|to| verdict.time > to) {
            // Without a state before it the fleet was founded later: there is nothing to report.
            self.closed = Some(taken.before.take().unwrap_or_else(|| Box::new(state.clone())));
            return;
        }
        self.began.get_or_insert(verdict.time);
        self.until = verdict.index + 1;
        if let Some((last, index)) = self.last.filter(|(last, _)| verdict.time > *last) {
            self.gap(last, verdict.time, index);
        }
        if self.last.is_none_or(|(last, _)| verdict.time >= last) {
            self.last = Some((verdict.time, verdict.index));
        }
        if verdict.applied > 0 {
            self.follow(&taken, verdict, state);
            if let Some(entry) = &taken.entry {
                self.policy_change(entry, verdict, state);
            }
        }
        if self.in_period(verdict.time) {
            self.record(&taken, verdict, state);
        }
    }
}
