//! Statements in words: what would change, who gains, who loses. Computed here from the log, never taken from whoever
//! proposed it.

use serde_json::{Value, json};

use crate::limits::PART_BYTES;
use crate::name::{Address, Label, MemberName};
use crate::policy::Case;
use crate::state::State;
use crate::statement::{
    Act, Approval, Facts, Invitations, Invited, RecipientSet, Request, RestoreDrill, Signed, Statement,
};
use crate::time::rough;

/// A statement's head line: `member.enroll by alice, 2026-11-21T07:00:00Z: a new site`.
pub(super) fn headline(statement: &Statement) -> String {
    let reason = if statement.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", crate::text::escape(&statement.reason))
    };
    format!("{} by {}, {}{reason}", statement.act.name(), statement.by, statement.at)
}

/// What an act does, a line each.
pub(super) fn act(
    act: &Act,
    state: Option<&State>,
    objects: &dyn Fn(&crate::digest::Digest) -> Option<Vec<u8>>,
) -> Vec<String> {
    match act {
        Act::Genesis(g) => {
            let mut lines = vec![format!("founds the fleet {}", g.fleet)];
            lines.extend(g.members.iter().map(|m| format!("{} {} joins", m.kind, m.member)));
            lines
        }
        Act::PolicyUpdate(p) => {
            let files = p
                .policy
                .iter()
                .filter(|(name, digest)| state.is_none_or(|s| s.policy.files.get(*name) != Some(digest)));
            std::iter::once(format!("sets policy version {}", p.generation))
                .chain(files.map(|(name, _)| format!("{name} changes")))
                .collect()
        }
        Act::Enroll(list) => list
            .iter()
            .map(|c| format!("{} {} joins{}", c.kind, c.member, facts(&c.member, objects(&c.request))))
            .collect(),
        Act::Confirm(list) => list.iter().map(|c| format!("{} shows that it has its keys", c.member)).collect(),
        Act::Retire(list) => {
            list.iter().flat_map(|c| retire(&c.member, &c.why.to_string(), c.why.burns(), state)).collect()
        }
        Act::Publish(list) => {
            let keys =
                |c: &crate::statement::Publish| c.keys.iter().map(|k| k.slot.word()).collect::<Vec<_>>().join(", ");
            list.iter()
                .map(|c| {
                    if c.keys.is_empty() {
                        format!("{}: a new version of its certificate", c.member)
                    } else {
                        format!("{}: new standby keys: {}", c.member, keys(c))
                    }
                })
                .collect()
        }
        Act::Certify(list) => {
            list.iter().map(|c| format!("{}: certifications of its certificate change", c.member)).collect()
        }
        Act::Activate(list) => list
            .iter()
            .map(|c| format!("{} {}: the standby {} becomes active", c.member, c.slot, short_key(&c.key)))
            .collect(),
        Act::Destroy(list) => {
            list.iter().map(|c| format!("{} {}: {} no longer exists", c.member, c.slot, short_key(&c.key))).collect()
        }
        Act::Seal(list) => list
            .iter()
            .flat_map(|c| {
                let size = match c.parts.len() {
                    0 => String::new(),
                    n => format!(", a large value in {n} parts of up to {} MiB", PART_BYTES >> 20),
                };
                readers(&c.address, &format!("gets version {}{size}", c.version), objects(&c.recipients), state)
            })
            .collect(),
        Act::Reseal(list) => list
            .iter()
            .flat_map(|c| readers(&c.address, "is resealed, its body unchanged", objects(&c.recipients), state))
            .collect(),
        Act::Remove(list) => list.iter().map(|c| format!("{} is removed", c.address)).collect(),
        Act::SshIssue(c) => {
            let fields = c.certificate.fields();
            let principals = fields.principals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            vec![format!(
                "{} gets an SSH {} certificate as {principals}, until {}",
                c.member, fields.kind, fields.valid_before
            )]
        }
        Act::SshRevoke(list) => list
            .iter()
            .map(|c| {
                let serials: Vec<String> = c.serials.iter().map(ToString::to_string).collect();
                format!("SSH certificates are revoked: {}", serials.join(", "))
            })
            .collect(),
        Act::Rekey(c) => vec![format!(
            "the log's key of {} is {} from now on; the one before: {}",
            c.member,
            short_key(&c.key),
            c.why
        )],
        Act::Emergency(list) => list.iter().flat_map(|c| retire(&c.member, c.why.word(), true, state)).collect(),
        Act::Invite(c) => invitations(objects(&c.invitations)),
        Act::Uninvite(list) => list.iter().map(|c| format!("the invitation of {} is withdrawn", c.member)).collect(),
        Act::Object(list) => {
            list.iter().map(|c| format!("statement {} can never take effect", c.statement.short())).collect()
        }
        Act::Backup(list) => list
            .iter()
            .map(|c| {
                let names = c.custodians.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let of = format!("{} of {names}", c.need);
                format!("the backup {} holds the private halves of {}; {of} open it", c.backup.short(), c.member)
            })
            .collect(),
        Act::Drill(list) => list.iter().map(drill).collect(),
        Act::Snapshot(c) => {
            vec![format!("the state after {} entries (root {}) is {}", c.size, c.root.short(), c.state)]
        }
    }
}

/// How many invitations of one statement are told one by one.
const INVITED_MAX: usize = 40;

fn invitations(list: Option<Vec<u8>>) -> Vec<String> {
    let Some(list) = list.and_then(|bytes| Invitations::parse(&bytes).ok()) else {
        return vec!["a list of invitations that cannot be read".to_owned()];
    };
    let mut lines: Vec<String> = list.invitations.iter().take(INVITED_MAX).map(invited).collect();
    match list.invitations.len().saturating_sub(INVITED_MAX) {
        0 => {}
        more => lines.push(format!("and {more} more")),
    }
    lines
}

/// An invitation on one line: who, where, with what, when, and who is still asked.
pub(super) fn invited(invited: &Invited) -> String {
    let services: Vec<&str> = invited.services.iter().map(Label::as_str).collect();
    let services = if services.is_empty() { String::new() } else { format!(" with {}", services.join(", ")) };
    let replaces = invited.replaces.as_deref().map(|old| format!(" in place of the lost {}", short_key(old)));
    let machine = if invited.machine.is_some() { ", only a machine of one hardware UUID" } else { "" };
    let asked = match invited.approval {
        Approval::Auto => "whoever has the token joins, and nobody is asked again",
        Approval::Operators => "the enrolment is approved anew",
    };
    format!(
        "pop {}{services}{}{} may join from {} until {}{machine}; {asked}",
        invited.member,
        place(&invited.facts),
        replaces.unwrap_or_default(),
        invited.not_before,
        invited.not_after
    )
}

fn drill(report: &RestoreDrill) -> String {
    let from =
        report.backup.map_or_else(|| "a copy of the keyring".to_owned(), |id| format!("the backup {}", id.short()));
    let canary =
        report.canary.map_or_else(|| "no canary".to_owned(), |version| format!("the canary's version {version}"));
    let RestoreDrill { outcome, size, seconds, .. } = report;
    format!("a restore of {from} was tried: {outcome}; {size} entries, {canary}, in {seconds} s")
}

fn facts(member: &MemberName, request: Option<Vec<u8>>) -> String {
    let request = request.and_then(|bytes| Request::parse(&bytes).ok());
    let Some(found) = request.as_ref().and_then(|(r, ..)| r.member(member)) else { return String::new() };
    format!("{}, with {} keys", place(&found.facts), found.keys.len())
}

/// Where a machine says it is, and what it wants to be: roles decide whose peer it becomes.
pub(super) fn place(facts: &Facts) -> String {
    let endpoint = facts.endpoint.as_ref().map(|e| format!(" at {}", e.host)).unwrap_or_default();
    let region = facts.region.as_ref().map(|region| format!(" in region {region}")).unwrap_or_default();
    let roles: Vec<&str> = facts.roles.iter().map(Label::as_str).collect();
    let roles = if roles.is_empty() { String::new() } else { format!(" with the roles {}", roles.join(", ")) };
    format!("{endpoint}{region}{roles}")
}

fn retire(member: &MemberName, why: &str, burns: bool, state: Option<&State>) -> Vec<String> {
    let mut lines = vec![format!("{member} leaves: {why}")];
    if let Some(state) = state {
        let (now, ever) = state.reach(member);
        if !now.is_empty() {
            lines.push(format!("  it can no longer be a reader of {} secrets", now.len()));
        }
        if burns && !ever.is_empty() {
            let burned = ever.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            lines.push(format!("  burned, to be replaced: {burned}"));
        }
    }
    lines
}

/// Who gains and who loses a secret.
fn readers(address: &Address, what: &str, set: Option<Vec<u8>>, state: Option<&State>) -> Vec<String> {
    let mut lines = vec![format!("{address} {what}")];
    let Some(set) = set.and_then(|bytes| RecipientSet::parse(&bytes).ok()) else { return lines };
    let before = state.and_then(|s| s.secrets.get(address)).and_then(|s| s.live.as_ref());
    let names = |list: Vec<&MemberName>| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match before {
        None => lines.push(format!("  readers: {}", names(set.readers.keys().collect()))),
        Some(live) => {
            let gains: Vec<&MemberName> = set.readers.keys().filter(|r| !live.readers.contains_key(*r)).collect();
            let loses: Vec<&MemberName> = live.readers.keys().filter(|r| !set.readers.contains_key(*r)).collect();
            if !gains.is_empty() {
                lines.push(format!("  gains: {}", names(gains)));
            }
            if !loses.is_empty() {
                lines.push(format!("  loses: {}", names(loses)));
            }
        }
    }
    lines
}

/// A key, shortened for people: its last characters.
pub(super) fn short_key(key: &str) -> String {
    let skip = key.chars().count().saturating_sub(16);
    let tail: String = key.chars().skip(skip).collect();
    if skip > 0 { format!("…{tail}") } else { tail }
}

/// A statement as JSON.
pub(super) fn statement_json(signed: &Signed) -> Value {
    serde_json::from_slice(&signed.body).unwrap_or(Value::Null)
}

/// A case, in brackets, where an act has cases.
pub(super) fn case_text(scheduled: bool) -> &'static str {
    if scheduled { Case::Scheduled.word() } else { Case::Unscheduled.word() }
}

/// Members as JSON.
pub(super) fn names_json<'a>(names: impl IntoIterator<Item = &'a MemberName>) -> Value {
    json!(names.into_iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// `in 3d 4h` or `3d 4h ago`.
pub(super) fn relative(time: crate::time::Time, now: crate::time::Time) -> String {
    if time >= now { format!("in {}", rough(time.since(now))) } else { format!("{} ago", rough(now.since(time))) }
}
