//! How far a theft would reach: what each member can read, as part of all secrets.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Code, Finding, Severity};
use super::recipients::is_on_a_pop;
use crate::name::{Address, Kind, MemberName, Scope};
use crate::state::State;

/// How many members are told by name; the rest is counted.
pub const REACH_SHOWN: usize = 10;

/// What one member can read. A PoP's reach is that of its services, too: they are on its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Who.
    pub member: MemberName,
    /// What it is.
    pub kind: Kind,
    /// How many secrets it can read.
    pub count: usize,
    /// What part of all secrets that is, in per cent, rounded up.
    pub percent: usize,
    /// Those of other PoPs that are not shared by their address.
    pub elsewhere: BTreeSet<Address>,
}

/// Everybody who can read something, the furthest reach first.
pub fn reach(state: &State) -> Vec<Reached> {
    let mut addresses: BTreeMap<MemberName, BTreeSet<&Address>> = BTreeMap::new();
    let mut all = 0_usize;
    for (address, live) in state.live_secrets() {
        all += 1;
        for reader in live.readers.keys() {
            addresses.entry(reader.clone()).or_default().insert(address);
            if reader.is_service() {
                addresses.entry(reader.owner()).or_default().insert(address);
            }
        }
    }
    let mut rows: Vec<Reached> = addresses
        .into_iter()
        .filter_map(|(member, readable)| {
            let kind = state.members.get(&member)?.kind;
            let elsewhere = match is_on_a_pop(state, &member) {
                true => readable.iter().filter(|a| is_elsewhere(a, &member)).map(|a| (*a).clone()).collect(),
                false => BTreeSet::new(),
            };
            let percent = (readable.len() * 100).div_ceil(all.max(1));
            Some(Reached { member, kind, count: readable.len(), percent, elsewhere })
        })
        .collect();
    rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.member.cmp(&b.member)));
    rows
}

fn is_elsewhere(address: &Address, member: &MemberName) -> bool {
    matches!(address.scope(), Scope::Member(owner) if owner.owner() != member.owner())
}

/// Members that can read more than `percent_max` of all secrets, and PoPs and services that can read what belongs to another
/// PoP. Recovery operators are meant to read everything, so theirs are notes.
pub fn reach_findings(state: &State, rows: &[Reached], percent_max: usize) -> Vec<Finding> {
    let recovery = state.recovery_operators();
    let pops = state.members.values().filter(|m| m.is_active() && m.kind == Kind::Pop).count();
    let mut found = Vec::new();
    for row in rows {
        if !row.elsewhere.is_empty() {
            let list = row.elsewhere.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let text =
                format!("it can read what belongs to other PoPs: {}", crate::text::Shown { text: &list, max: 120 });
            let fix = "readers in policy/secrets.toml";
            found.push(Finding::new(Severity::Warning, Code::ReachElsewhere, &row.member, text, fix));
        }
        // Of a single PoP's secrets all are its own.
        if row.percent <= percent_max || (row.kind != Kind::Operator && pops < 2) {
            continue;
        }
        let text = format!("whoever takes it can read {} secrets, {} % of all", row.count, row.percent);
        let (severity, fix) = match recovery.contains(&row.member) {
            true => (Severity::Note, "write_only, or fewer [recovery] operators, in policy/secrets.toml"),
            false => (Severity::Warning, "fewer shared secrets, in policy/secrets.toml"),
        };
        found.push(Finding::new(severity, Code::Reach, &row.member, text, fix));
    }
    found
}
