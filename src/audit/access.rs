//! Who could decrypt what, and since when; and, when somebody leaves, what has to follow and when it does.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Access, Departure, FollowUp, Measure};
use crate::name::{Address, MemberName};
use crate::state::{Secret, State};
use crate::statement::RetireReason;
use crate::time::Time;

/// By address: who could decrypt some value of it, and when. Whoever is told apart is `R`: a member, or each key of each
/// version.
#[derive(Debug)]
pub(super) struct Exposure<R>(BTreeMap<Address, BTreeMap<R, Vec<Access>>>);

impl<R> Default for Exposure<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Ord + Clone> Exposure<R> {
    /// Takes in the readers of a secret after an entry about it: `readers` of its `version`, nobody if it was removed.
    pub(super) fn note(&mut self, address: &Address, version: u64, readers: &BTreeSet<R>, time: Time) {
        let ever = self.0.entry(address.clone()).or_default();
        for (_, spans) in ever.iter_mut().filter(|(name, _)| !readers.contains(*name)) {
            if let Some(access) = spans.last_mut() {
                access.until.get_or_insert(time);
            }
        }
        for name in readers {
            let spans = ever.entry(name.clone()).or_default();
            match spans.last_mut().filter(|access| access.until.is_none()) {
                Some(access) => access.last = version,
                None => spans.push(Access { since: time, until: None, first: version, last: version }),
            }
        }
    }

    /// Those of every address, each with its spans in order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Address, &R, &[Access])> {
        self.0
            .iter()
            .flat_map(|(address, ever)| ever.iter().map(move |(name, spans)| (address, name, spans.as_slice())))
    }

    /// Those of one address, from their first access to their last.
    pub(super) fn of(&self, address: &Address) -> BTreeMap<R, Access> {
        let ever = self.0.get(address).into_iter().flatten();
        ever.filter_map(|(name, spans)| {
            let (first, last) = (spans.first()?, spans.last()?);
            Some((name.clone(), Access { since: first.since, first: first.first, ..*last }))
        })
        .collect()
    }
}

/// The members who can read a secret now.
pub(super) fn members(secret: &Secret) -> BTreeSet<MemberName> {
    secret.live.iter().flat_map(|live| live.readers.keys().cloned()).collect()
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
