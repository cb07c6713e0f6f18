//! Who could decrypt what, and since when; and, when somebody leaves, what has to follow and when it does.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Access, Departure, FollowUp, Measure};
use crate::name::{Address, MemberName};
use crate::state::{Secret, State};
use crate::statement::RetireReason;
use crate::time::Time;

/// By address: who could decrypt some value of it.
#[derive(Debug, Default)]
pub(super) struct Exposure(BTreeMap<Address, BTreeMap<MemberName, Access>>);

impl Exposure {
    /// Takes in the readers of a secret after an entry about it.
    pub(super) fn note(&mut self, address: &Address, secret: Option<&Secret>, time: Time) {
        let Some(secret) = secret else { return };
        let ever = self.0.entry(address.clone()).or_default();
        let readers = secret.live.as_ref().map(|live| &live.readers);
        for (_, access) in ever.iter_mut().filter(|(name, _)| readers.is_none_or(|r| !r.contains_key(*name))) {
            access.until.get_or_insert(time);
        }
        for name in readers.into_iter().flat_map(BTreeMap::keys) {
            let version = secret.version;
            let access =
                ever.entry(name.clone()).or_insert(Access { since: time, until: None, first: version, last: version });
            (access.until, access.last) = (None, version);
        }
    }

    /// Those of one address.
    pub(super) fn of(&self, address: &Address) -> BTreeMap<MemberName, Access> {
        self.0.get(address).cloned().unwrap_or_default()
    }
}

/// Members that left.
#[derive(Debug, Default)]
pub(super) struct Departures {
    rows: Vec<Departure>,
    left: BTreeMap<MemberName, RetireReason>,
}

/// The entry by which somebody leaves.
pub(super) struct Leaving<'a> {
    pub entry: u64,
    pub reported: Time,
    pub logged: Time,
    pub signers: &'a BTreeSet<MemberName>,
}

impl Departures {
    /// Takes in whether `name` is still there after an entry.
    pub(super) fn note(&mut self, name: &MemberName, state: &State, leaving: &Leaving<'_>) {
        let Some(member) = state.members.get(name) else { return };
        let Some((_, why)) = member.retired else {
            self.left.remove(name);
            return;
        };
        if self.left.insert(name.clone(), why) == Some(why) {
            return;
        }
        let follow = |needed| FollowUp { needed, done: None, at: None, entry: None, after: None };
        let secrets = state
            .live_secrets()
            .filter_map(|(address, live)| {
                if why.burns() && live.exposed.contains(name) {
                    Some((address.clone(), follow(Measure::Renewed)))
                } else {
                    live.readers.contains_key(name).then(|| (address.clone(), follow(Measure::Resealed)))
                }
            })
            .collect();
        self.rows.push(Departure {
            entry: leaving.entry,
            member: name.clone(),
            kind: member.kind,
            why,
            reported: leaving.reported,
            logged: leaving.logged,
            delay: leaving.logged.since(leaving.reported).0,
            signers: leaving.signers.clone(),
            secrets,
        });
    }

    /// Takes in a secret after an entry about it: whether that is what had to follow.
    pub(super) fn follow(&mut self, address: &Address, state: &State, version_before: u64, at: Time, entry: u64) {
        let Some(secret) = state.secrets.get(address) else { return };
        for row in &mut self.rows {
            let Some(up) = row.secrets.get_mut(address).filter(|up| up.done.is_none()) else { continue };
            let gone = secret.live.as_ref().is_none_or(|live| !live.readers.contains_key(&row.member));
            let done = match (&secret.live, secret.version > version_before) {
                (None, _) => Measure::Removed,
                (Some(_), true) if gone => Measure::Renewed,
                (Some(_), false) if gone && up.needed == Measure::Resealed => Measure::Resealed,
                (Some(_), _) => continue,
            };
            (up.done, up.at, up.entry) = (Some(done), Some(at), Some(entry));
            up.after = Some(at.since(row.logged).0);
        }
    }

    /// Those that a report on a period that begins at `from` is about: who left in it, and who left before and something
    /// followed only now, or never.
    pub(super) fn finish(self, from: Time) -> Vec<Departure> {
        let open = |d: &Departure| d.secrets.values().any(|up| up.at.is_none_or(|at| at >= from));
        self.rows.into_iter().filter(|d| d.logged >= from || open(d)).collect()
    }
}
