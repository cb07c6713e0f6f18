//! Looks on while the log is replayed, and keeps what the report needs.

use std::collections::{BTreeMap, BTreeSet};

use super::access::{Departures, Exposure, Leaving};
use super::finding;
use super::inventory::{self, Certificates};
use super::lives::Lives;
use super::mapping::MAPPINGS;
use super::need::{Need, in_words};
use super::report::{
    ActCount, Approval, Cryptoperiod, FORMAT, Gap, KeyRow, LogFacts, Period, PolicyChange, Report, Special, Timeliness,
    VoidRow,
};
use crate::digest::Digest;
use crate::name::{ActName, Address, MemberName};
use crate::openpgp::StatementSignature;
use crate::policy::{Case, Policy};
use crate::state::{Objects, State, Verdict, Void, Watch};
use crate::statement::{Act, Entry};
use crate::text;
use crate::time::{Span, Time};

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
    policy: Option<(u64, BTreeMap<String, Digest>)>,
    lives: Lives,
    exposure: Exposure,
    departures: Departures,
    approvals: Vec<Approval>,
    acts: BTreeMap<String, ActCount>,
    void: Vec<VoidRow>,
    gaps: Vec<Gap>,
    special: Vec<Special>,
    policies: Vec<PolicyChange>,
    grave: BTreeSet<u64>,
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
            grave: BTreeSet::new(),
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
            approvals: self.approvals,
            departures: self.departures.finish(period.from),
            void: self.void,
            gaps: self.gaps,
            emergencies,
            drills,
            policies: self.policies,
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
        for name in touched(taken.entry.as_ref().map(|e| &e.signed.statement.act), state) {
            if let Some(member) = state.members.get(&name) {
                self.lives.note(&name, member, time, &policy.fleet);
                self.departures.note(&name, state, &leaving);
            }
        }
        for (address, version) in &taken.versions {
            self.exposure.note(address, state.secrets.get(address), time);
            self.departures.follow(address, state, *version, time, index);
        }
    }

    fn policy_change(&mut self, entry: &Entry, verdict: &Verdict, state: &State, before: Option<&Policy>) {
        let (version, files) = (state.policy.version, &state.policy.files);
        let old = self.policy.replace((version, files.clone()));
        if old.as_ref().is_some_and(|(v, _)| *v == version) || !self.in_period(verdict.time) {
            return;
        }
        let old = old.map(|(_, files)| files).unwrap_or_default();
        let text = |digest: Option<&Digest>| {
            let bytes = digest.and_then(|d| self.objects.object(d).ok());
            bytes.map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
        };
        let names: BTreeSet<&String> =
            old.keys().chain(files.keys()).filter(|n| old.get(*n) != files.get(*n)).collect();
        let files = names.into_iter().map(|n| (n.clone(), text::line_diff(&text(old.get(n)), &text(files.get(n)))));
        let statement = &entry.signed.statement;
        self.policies.push(PolicyChange {
            entry: verdict.index,
            version,
            by: statement.by.clone(),
            time: verdict.time,
            signers: verdict.signers.clone(),
            reason: statement.reason.clone(),
            files: files.collect(),
            weaker: before.map(|before| weaker(before, &state.policy.policy)).unwrap_or_default(),
        });
    }

    fn record(&mut self, taken: &Taken, verdict: &Verdict) {
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
        let Some(entry) = &taken.entry else { return };
        let (signed, need) = (&entry.signed, &taken.need);
        let statement = &signed.statement;
        let alone = verdict.applied > 0 && verdict.signers.iter().eq([&statement.by]);
        count.alone += usize::from(alone);
        if alone && need.grave {
            self.grave.insert(verdict.index);
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
    fn before(&mut self, state: Option<&State>, entry: &[u8]) {
        if self.closed.is_some() {
            return;
        }
        let entry = Entry::parse(entry).ok();
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
                self.policy_change(entry, verdict, state, taken.policy.as_deref());
            }
        }
        if self.in_period(verdict.time) {
            self.record(&taken, verdict);
        }
    }
}

/// The newest time that taking the entry could make the fleet's: what its statement and its signatures claim.
fn newest(entry: &Entry, state: &State) -> Time {
    let made = |line: &crate::log::note::SignatureLine| {
        StatementSignature::parse(&line.signature, &state.fleet, &state.log).map(|s| s.created()).ok()
    };
    let at = entry.signed.statement.at;
    entry.signatures.iter().filter_map(made).fold(at.max(state.time), Time::max)
}

/// The members whose keys or membership an act can change. For an act that is not of this list: everybody, which is slower
/// and never wrong.
fn touched(act: Option<&Act>, state: &State) -> BTreeSet<MemberName> {
    let with_services = |name: &MemberName| {
        state.members.keys().filter(|n| *n == name || n.owner() == *name).cloned().collect::<Vec<_>>()
    };
    match act {
        Some(Act::Enroll(list)) => list.iter().map(|c| c.member.clone()).collect(),
        Some(Act::Retire(list)) => list.iter().flat_map(|c| with_services(&c.member)).collect(),
        Some(Act::Publish(list)) => list.iter().map(|c| c.member.clone()).collect(),
        Some(Act::Activate(list)) => list.iter().map(|c| c.member.clone()).collect(),
        Some(Act::Destroy(list)) => list.iter().map(|c| c.member.clone()).collect(),
        Some(
            Act::PolicyUpdate(_)
            | Act::Certify(_)
            | Act::Seal(_)
            | Act::Reseal(_)
            | Act::Remove(_)
            | Act::SshIssue(_)
            | Act::SshRevoke(_),
        ) => BTreeSet::new(),
        _ => state.members.keys().cloned().collect(),
    }
}

fn addresses(act: &Act) -> Vec<Address> {
    match act {
        Act::Seal(list) => list.iter().map(|c| c.address.clone()).collect(),
        Act::Reseal(list) => list.iter().map(|c| c.address.clone()).collect(),
        Act::Remove(list) => list.iter().map(|c| c.address.clone()).collect(),
        _ => Vec::new(),
    }
}

fn changes(body: &[u8]) -> Vec<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    value.get("changes").and_then(|c| c.as_array()).cloned().unwrap_or_default()
}

/// What a change is about, by the fields that name it.
fn about(change: &serde_json::Value) -> String {
    let field = |name: &str| change.get(name).and_then(|v| v.as_str());
    match (field("member"), field("slot"), field("address"), field("fleet")) {
        (Some(member), Some(slot), ..) => format!("{member} {slot}"),
        (Some(member), ..) => member.to_owned(),
        (None, _, Some(address), _) => address.to_owned(),
        (None, _, None, Some(fleet)) => fleet.to_owned(),
        _ if change.get("policy").is_some() => {
            format!("policy version {}", change.get("gen").and_then(serde_json::Value::as_u64).unwrap_or(1))
        }
        _ => match change.get("serials").and_then(|s| s.as_array()) {
            Some(serials) => {
                let numbers: Vec<String> = serials.iter().map(ToString::to_string).collect();
                format!("serials {}", numbers.join(", "))
            }
            None => "the fleet".to_owned(),
        },
    }
}

/// Whether a void entry shows that somebody tried what they may not. The others crossed something, or came late.
fn is_suspicious(void: &Void) -> bool {
    matches!(
        void,
        Void::Quorum { .. }
            | Void::Author(_)
            | Void::KeyReused { .. }
            | Void::OtherLog(_)
            | Void::Unvouched { .. }
            | Void::Unreadable(_)
            | Void::Request { .. }
            | Void::Genesis
    )
}

/// Acts and cases for which fewer members are enough under `after` than under `before`.
fn weaker(before: &Policy, after: &Policy) -> Vec<String> {
    let mut found = Vec::new();
    for act in ActName::ALL {
        let cases = Case::of(*act);
        let cases: Vec<Option<Case>> =
            if cases.is_empty() { vec![None] } else { cases.iter().map(|c| Some(*c)).collect() };
        for case in cases {
            let least = |policy: &Policy| {
                let rules = policy.fleet.quorums.alternatives(*act, case);
                rules.map(|r| (r.need.values().sum::<u32>(), in_words(&r.need))).min()
            };
            let what = || case.map_or_else(|| act.to_string(), |c| format!("{act} ({c})"));
            match (least(before), least(after)) {
                (None, Some((_, now))) => found.push(format!("{}: nobody could; now {now}", what())),
                (Some((old, was)), Some((new, now))) if new < old => {
                    found.push(format!("{}: {was}; now {now}", what()));
                }
                _ => {}
            }
        }
    }
    if after.fleet.vouching_operators < before.fleet.vouching_operators {
        let (was, now) = (before.fleet.vouching_operators, after.fleet.vouching_operators);
        found.push(format!("operators who vouch for an authority: {was}; now {now}"));
    }
    found
}

/// The cryptoperiods that ended in the period or run at its end.
fn cryptoperiods(keys: &[KeyRow], period: &Period, state: &State) -> Vec<Cryptoperiod> {
    let row = |key: &KeyRow| {
        let (activated, due) = (key.activated?, key.due?);
        let ended = key.ended().filter(|at| *at <= period.to);
        let late = ended.unwrap_or(period.to).since(due).0;
        let left = state.members.get(&key.member).and_then(|m| m.retired).map(|(at, _)| at);
        let replaced = left.is_none_or(|at| Some(at) != ended);
        let timeliness = match (ended, late) {
            (None, 0) => Timeliness::Running,
            (None, late) if Span(late) <= finding::GRACE => Timeliness::Due,
            (None, _) => Timeliness::Overdue,
            (Some(_), 0) if replaced => Timeliness::Early,
            (Some(_), 0) => Timeliness::Ended,
            (Some(_), late) if Span(late) <= finding::GRACE => Timeliness::InTime,
            (Some(_), _) => Timeliness::Late,
        };
        let wanted = ended.is_none_or(|at| period.has(at));
        wanted.then(|| Cryptoperiod {
            member: key.member.clone(),
            slot: key.slot,
            key: key.key.clone(),
            activated,
            due,
            ended,
            timeliness,
            late,
        })
    };
    keys.iter().filter_map(row).collect()
}
