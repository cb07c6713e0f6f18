//! The lives of keys, transition by transition: the state has where each key stands, this has when it came there.

use std::collections::BTreeMap;

use super::finding::GRACE;
use super::report::{Cryptoperiod, KeyRow, Period, Timeliness};
use crate::name::{MemberName, Slot};
use crate::policy::FleetPolicy;
use crate::state::{KeyState, Member, State};
use crate::time::{Span, Time};

/// Every key there was, by owner, slot and public half.
#[derive(Debug, Default)]
pub(super) struct Lives(BTreeMap<(MemberName, Slot, String), KeyRow>);

impl Lives {
    /// Takes in where the keys of a member stand after an entry. `policy` is the one that was in force before it: a
    /// cryptoperiod that ends was one of that policy.
    pub(super) fn note(&mut self, name: &MemberName, member: &Member, time: Time, policy: &FleetPolicy) {
        for (&slot, key) in member.slots.iter().flat_map(|(slot, keys)| keys.keys.iter().map(move |k| (slot, k))) {
            let row = self.0.entry((name.clone(), slot, key.key.clone())).or_insert_with(|| KeyRow {
                member: name.clone(),
                kind: member.kind,
                slot,
                key: key.key.clone(),
                algorithm: None,
                strength: None,
                lane: key.lane.map(|l| l.word().to_owned()),
                state: key.state,
                published: key.published,
                activated: None,
                deactivated: None,
                compromised: None,
                destroyed: None,
                due: None,
            });
            row.activated = row.activated.or(key.activated);
            if row.ended().is_none() && !matches!(key.state, KeyState::PreActive | KeyState::Active) {
                row.due = row.activated.map(|at| at.plus(policy.cryptoperiod(slot)));
            }
            let reached = match key.state {
                KeyState::PreActive | KeyState::Active => None,
                KeyState::Deactivated => Some(&mut row.deactivated),
                KeyState::Compromised => Some(&mut row.compromised),
                KeyState::Destroyed => Some(&mut row.destroyed),
            };
            if let Some(when) = reached {
                when.get_or_insert(time);
            }
            row.state = key.state;
        }
    }

    /// All of them at the end of the period: keys that are active are due by the policy in force then.
    pub(super) fn finish(self, policy: &FleetPolicy) -> Vec<KeyRow> {
        let due = |mut row: KeyRow| {
            if row.ended().is_none() {
                row.due = row.activated.map(|at| at.plus(policy.cryptoperiod(row.slot)));
            }
            row
        };
        let mut rows: Vec<KeyRow> = self.0.into_values().map(due).collect();
        // In the order in which they were, or will be, used.
        let order = |k: &KeyRow| (k.activated.is_none(), k.activated, k.published);
        rows.sort_by(|a, b| (&a.member, a.slot, order(a), &a.key).cmp(&(&b.member, b.slot, order(b), &b.key)));
        rows
    }
}

/// The cryptoperiods that ended in the period or run at its end.
pub(super) fn cryptoperiods(keys: &[KeyRow], period: &Period, state: &State) -> Vec<Cryptoperiod> {
    let row = |key: &KeyRow| {
        let (activated, due) = (key.activated?, key.due?);
        let ended = key.ended().filter(|at| *at <= period.to);
        let late = ended.unwrap_or(period.to).since(due).0;
        let left = state.members.get(&key.member).and_then(|m| m.retired).map(|(at, _)| at);
        let replaced = left.is_none_or(|at| Some(at) != ended);
        let timeliness = match (ended, late) {
            (None, 0) => Timeliness::Running,
            (None, late) if Span(late) <= GRACE => Timeliness::Due,
            (None, _) => Timeliness::Overdue,
            (Some(_), 0) if replaced => Timeliness::Early,
            (Some(_), 0) => Timeliness::Ended,
            (Some(_), late) if Span(late) <= GRACE => Timeliness::InTime,
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
