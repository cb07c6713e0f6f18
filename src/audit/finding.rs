//! What somebody would write up: rules and thresholds that were not kept, worst first, and what is worth knowing beside.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Cryptoperiod, Finding, KeyRow, Measure, Report, Section, Severity, Timeliness};
use super::routine;
use crate::name::{Kind, Slot};
use crate::state::{KeyState, State};
use crate::time::{Span, rough};

/// How long after its cryptoperiod a key may be replaced and still count as replaced in time: a scheduled rotation cannot come
/// before it is due.
pub const GRACE: Span = Span::days(7);
/// How long it may take from the report that a member is compromised or lost to the log.
pub const LEAVE_MAX: Span = Span::hours(24);
/// How long it may take from then on to replace what it could read.
pub const RENEW_MAX: Span = Span::days(7);
/// How long the record may be silent without a remark.
pub const GAP_MAX: Span = Span::days(35);
/// How long before a certificate expires it is remarked.
const EXPIRY_NOTICE: Span = Span::days(14);
/// The least strength of a key that passes without a remark, in bits (SP 800-57 part 1, table 4: through 2030 and beyond).
const STRENGTH_MIN: u16 = 128;

/// The thresholds by name, in seconds.
pub(super) fn thresholds() -> BTreeMap<&'static str, u64> {
    [("gap", GAP_MAX.0), ("leave", LEAVE_MAX.0), ("renew", RENEW_MAX.0), ("rotation-grace", GRACE.0)].into()
}

/// What was checked to make a report on a log of `size` entries.
pub(super) fn checked(size: u64) -> Vec<String> {
    vec![
        format!("all {size} entries were replayed from the first: every signature, quorum, rule and transition"),
        "the entries hash to the root that the head names, and the log's key signed the head".to_owned(),
        "every certificate, policy and recipient set that an entry refers to is the one it names".to_owned(),
    ]
}

/// What was not.
pub(super) fn not_checked() -> Vec<String> {
    [
        "that everybody is shown this log: compare size and root hash with a copy from somebody else",
        "that the times are true: an entry's time is the newest that its statement or a counted signature claims",
        "sealed files and other files that follow from the log: 'keys log verify' checks them",
        "that private keys exist only where they should, and that a key called destroyed is gone: owners say so",
        "who sat behind a signature: the log knows keys and names, not people",
        "proposals that wait, and whatever was done outside the log",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Collects findings.
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, section: Section, subject: impl ToString, text: String, entry: Option<u64>) {
        self.0.push(Finding { severity, section, subject: subject.to_string(), text, entry });
    }

    pub(super) fn exception(&mut self, section: Section, subject: impl ToString, text: String, entry: Option<u64>) {
        self.add(Severity::Exception, section, subject, text, entry);
    }

    pub(super) fn remark(&mut self, section: Section, subject: impl ToString, text: String, entry: Option<u64>) {
        self.add(Severity::Remark, section, subject, text, entry);
    }
}

/// The findings of a report. `grave` are the entries that reach far and that nobody signed but their author,
/// with the number of operators there were.
pub(super) fn findings(report: &Report, state: &State, grave: &BTreeMap<u64, usize>) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    report.cryptoperiods.iter().for_each(|period| cryptoperiod(period, &mut found));
    approvals(report, grave, &mut found);
    departures(report, &mut found);
    emergencies(report, &mut found);
    secrets(report, &mut found);
    void(report, &mut found);
    silence(report, &mut found);
    members(report, state, &mut found);
    keys(report, state, &mut found);
    policies(report, &mut found);
    routine::drills(report, state, &mut found);
    routine::publication(report, &mut found);
    found.0.sort();
    found.0
}

fn cryptoperiod(row: &Cryptoperiod, found: &mut Findings) {
    let (subject, late) = (format!("{} {}", row.member, row.slot), rough(Span(row.late)));
    match row.timeliness {
        Timeliness::Overdue => {
            let text = format!("due since {}, {late} ago, and still active", row.due.day());
            found.exception(Section::Cryptoperiods, subject, text, None);
        }
        Timeliness::Late => {
            let text = format!("was due on {} and ended {late} later", row.due.day());
            found.exception(Section::Cryptoperiods, subject, text, None);
        }
        Timeliness::Due => {
            let text = format!("due since {}, {late} ago", row.due.day());
            found.remark(Section::Cryptoperiods, subject, text, None);
        }
        Timeliness::Running | Timeliness::Early | Timeliness::InTime | Timeliness::Ended => {}
    }
}

fn approvals(report: &Report, grave: &BTreeMap<u64, usize>, found: &mut Findings) {
    let mut single = Vec::new();
    for (row, operators) in report.approvals.iter().filter_map(|a| Some((a, grave.get(&a.entry)?))) {
        // One operator cannot do otherwise.
        if *operators < 2 {
            single.push(row.entry);
            continue;
        }
        let text = format!(
            "{} alone proposed and signed it: {}",
            row.by,
            crate::text::Shown { text: &row.about.join(", "), max: 120 }
        );
        found.exception(Section::Approvals, &row.act, text, Some(row.entry));
    }
    if let Some(first) = single.first() {
        let text = format!("{} changes that reach far were decided by the only operator there was", single.len());
        found.remark(Section::Approvals, "one operator", text, Some(*first));
    }
}

fn departures(report: &Report, found: &mut Findings) {
    for row in &report.departures {
        if row.why.burns() && Span(row.delay) > LEAVE_MAX && report.period.has(row.logged) {
            let text = format!("called {} {} before that was in the log", row.why, rough(Span(row.delay)));
            found.exception(Section::Departures, &row.member, text, Some(row.entry));
        }
        for (address, up) in row.secrets.iter().filter(|(_, up)| up.needed == Measure::Renewed) {
            match up.after {
                Some(after) if Span(after) > RENEW_MAX => {
                    let text = format!(
                        "{} could read it; it was {} only after {}",
                        row.member,
                        done(up.done),
                        rough(Span(after))
                    );
                    found.exception(Section::Departures, address, text, up.entry);
                }
                Some(_) => {}
                None => {
                    let open = rough(report.period.to.since(row.logged));
                    let text = format!(
                        "{} ({}) could read it, and its value has not been replaced for {open}",
                        row.member, row.why
                    );
                    found.exception(Section::Departures, address, text, Some(row.entry));
                }
            }
        }
    }
}

fn emergencies(report: &Report, found: &mut Findings) {
    for row in report.emergencies.iter().filter(|row| Span(row.lag) > LEAVE_MAX) {
        let text = format!("declared {} before it was in the log", rough(Span(row.lag)));
        found.exception(Section::Emergencies, &row.by, text, Some(row.entry));
    }
}

fn done(measure: Option<Measure>) -> &'static str {
    measure.map_or("open", Measure::word)
}

fn secrets(report: &Report, found: &mut Findings) {
    let names =
        |set: &BTreeSet<crate::name::MemberName>| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for row in report.secrets.iter().filter(|s| s.sealed.is_some()) {
        if !row.surplus.is_empty() {
            let text = format!("still sealed to {}, whom policy and log do not give it", names(&row.surplus));
            found.exception(Section::Access, &row.address, text, None);
        }
        if row.orphan {
            found.remark(Section::Access, &row.address, "it belongs to nobody who is still there".to_owned(), None);
        }
        if !row.outdated.is_empty() {
            let text = format!("not sealed to the present keys of {}", names(&row.outdated));
            found.remark(Section::Access, &row.address, text, None);
        }
    }
}

fn void(report: &Report, found: &mut Findings) {
    for row in &report.void {
        let why = row.why.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; ");
        let subject = row.act.as_deref().unwrap_or("unreadable");
        let text = format!("without effect: {}", crate::text::shown(&why));
        let severity = if row.suspicious { Severity::Exception } else { Severity::Remark };
        found.add(severity, Section::Void, subject, text, Some(row.entry));
    }
}

fn silence(report: &Report, found: &mut Findings) {
    if let Some(gap) = report.gaps.first().filter(|gap| Span(gap.seconds) > GAP_MAX) {
        let text =
            format!("{} without an entry, from {} to {}", rough(Span(gap.seconds)), gap.from.day(), gap.to.day());
        found.remark(Section::Gaps, "silence", text, Some(gap.after));
    }
}

fn members(report: &Report, state: &State, found: &mut Findings) {
    let to = report.period.to;
    for row in report.members.iter().filter(|m| m.left.is_none()) {
        match row.expires {
            Some(at) if at <= to => {
                let text = format!("its certificate expired on {}", at.day());
                found.exception(Section::Inventory, &row.member, text, None);
            }
            Some(at) if at <= to.plus(EXPIRY_NOTICE) => {
                let text = format!("its certificate expires on {}", at.day());
                found.remark(Section::Inventory, &row.member, text, None);
            }
            _ => {}
        }
    }
    if report.count(Kind::Operator) < 2 {
        let text = "one operator decides alone; nobody else can approve, or stop her".to_owned();
        found.remark(Section::Inventory, "operators", text, None);
    }
    let missing: Vec<String> = state
        .missing_standbys()
        .filter(|(name, _)| state.members.get(*name).is_some_and(|m| m.kind != Kind::Operator))
        .map(|(name, slot)| format!("{name} {slot}"))
        .collect();
    if !missing.is_empty() {
        let text = format!("no standby key for {}", crate::text::Shown { text: &missing.join(", "), max: 160 });
        found.remark(Section::Inventory, "standbys", text, None);
    }
}

fn keys(report: &Report, state: &State, found: &mut Findings) {
    let left_over = |key: &&KeyRow| {
        // A signing key's private half may stay: what it signed is checked by its public half. The owner of the others says
        // when they are gone.
        key.state == KeyState::Deactivated
            && matches!(key.slot, Slot::Openpgp | Slot::Wireguard | Slot::SshHost)
            && state.active_member(&key.member).is_ok()
            && key
                .ended()
                .is_some_and(|at| at.plus(state.policy.policy.fleet.cryptoperiod(key.slot)) < report.period.to)
    };
    let old: Vec<String> = report.keys.iter().filter(left_over).map(|k| format!("{} {}", k.member, k.slot)).collect();
    if !old.is_empty() {
        let text = format!(
            "replaced more than a cryptoperiod ago and not declared destroyed: {}",
            crate::text::Shown { text: &old.join(", "), max: 160 }
        );
        found.remark(Section::Cryptoperiods, "old keys", text, None);
    }
    let live = |key: &&KeyRow| matches!(key.state, KeyState::Active | KeyState::PreActive);
    for key in report.keys.iter().filter(live).filter(|k| k.strength.is_some_and(|bits| bits < STRENGTH_MIN)) {
        let text = format!(
            "{}: {} bits of strength",
            key.algorithm.as_deref().unwrap_or_default(),
            key.strength.unwrap_or_default()
        );
        found.remark(Section::Inventory, format!("{} {}", key.member, key.slot), text, None);
    }
}

fn policies(report: &Report, found: &mut Findings) {
    for change in &report.policies {
        if !change.weaker.is_empty() {
            let text = format!(
                "fewer signatures are enough: {}",
                crate::text::Shown { text: &change.weaker.join("; "), max: 200 }
            );
            found.exception(Section::Policies, format!("policy version {}", change.version), text, Some(change.entry));
        }
    }
}
