//! Which key could decrypt which version of which secret, and from when to when: by the log alone, while it is replayed.
//!
//! A span begins with the entry that seals or reseals to a key and ends with the one after which the sealed file is for it no
//! more. Whoever kept a file reads it for as long as there is the key, whatever the span says; and who once opened a value knows
//! it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::access::Exposure;
use super::entry::{addresses, touched};
use crate::name::{Address, MemberName, Slot};
use crate::state::{KeyState, Prepared, Secret, State, Verdict, Watch};
use crate::statement::Act;
use crate::time::Time;

/// One key's access to one version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Reading {
    /// Which secret.
    pub address: Address,
    /// Which version of its value.
    pub version: u64,
    /// Whose key.
    pub member: MemberName,
    /// From when on.
    pub since: Time,
    /// Until when; none if the sealed file is for this key still.
    pub until: Option<Time>,
    /// The key, by fingerprint.
    pub key: String,
    /// Where the key stands at the end of the log; none if the log never said.
    pub key_state: Option<KeyState>,
}

/// A key of a member, and a version that was sealed to it.
type Reader = (u64, MemberName, String);

/// Looks on while a log is replayed, and keeps the readings that are asked for.
#[derive(Debug, Default)]
pub struct History {
    address: Option<Address>,
    member: Option<MemberName>,
    exposure: Exposure<Reader>,
    keys: BTreeMap<String, KeyState>,
    act: Option<Act>,
}

impl History {
    /// Of one secret.
    pub fn of_secret(address: Address) -> Self {
        Self { address: Some(address), ..Self::default() }
    }

    /// Of one member and, if it is a PoP, of its services.
    pub fn of_member(member: MemberName) -> Self {
        Self { member: Some(member), ..Self::default() }
    }

    /// What there was, by address, version and reader.
    pub fn finish(self) -> Vec<Reading> {
        let mut readings: Vec<Reading> = self
            .exposure
            .all()
            .flat_map(|(address, (version, member, key), spans)| {
                spans.iter().map(|span| Reading {
                    address: address.clone(),
                    version: *version,
                    member: member.clone(),
                    since: span.since,
                    until: span.until,
                    key: key.clone(),
                    key_state: self.keys.get(key).copied(),
                })
            })
            .collect();
        readings.sort();
        readings
    }

    fn is_asked_for(&self, member: &MemberName) -> bool {
        self.member.as_ref().is_none_or(|m| m == member || (member.is_service() && member.owner() == *m))
    }

    fn readers(&self, secret: &Secret) -> BTreeSet<Reader> {
        let live =
            secret.live.iter().flat_map(|live| live.readers.iter()).filter(|(member, _)| self.is_asked_for(member));
        live.flat_map(|(member, keys)| keys.iter().map(|key| (secret.version, member.clone(), key.clone()))).collect()
    }

    /// Where the keys of these members stand now: a name that is given again takes what its bearer had out of the state.
    fn note_keys(&mut self, act: Option<&Act>, state: &State) {
        for name in touched(act, state) {
            let slot = state.members.get(&name).and_then(|m| m.slot(Slot::Openpgp));
            self.keys.extend(slot.into_iter().flat_map(|s| &s.keys).map(|k| (k.key.clone(), k.state)));
        }
    }
}

impl Watch for History {
    fn before(&mut self, _: Option<&State>, entry: &Prepared) {
        self.act = entry.entry().map(|e| e.signed.statement.act.clone());
    }

    fn after(&mut self, verdict: &Verdict, state: &State) {
        let Some(act) = self.act.take().filter(|_| verdict.applied > 0 || !verdict.unlocked.is_empty()) else { return };
        for address in addresses(&act).into_iter().filter(|a| self.address.as_ref().is_none_or(|only| only == a)) {
            if let Some(secret) = state.secrets.get(&address) {
                let readers = self.readers(secret);
                self.exposure.note(&address, secret.version, &readers, verdict.time);
            }
        }
        self.note_keys(Some(&act), state);
        for unlocked in &verdict.unlocked {
            let late = unlocked.locked.statement().map(|s| s.act);
            self.note_keys(late.as_ref(), state);
        }
    }
}
