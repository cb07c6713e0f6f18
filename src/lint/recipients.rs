//! Who reads each secret, beside who should.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Code, Finding, Severity};
use crate::digest::Digest;
use crate::name::{Address, Kind, MemberName};
use crate::state::{LiveSecret, ReadersError, State};
use crate::time::{Span, Time};

/// How long before a reader's certificate expires it is mentioned.
const EXPIRY_NOTICE: Span = Span::days(14);

/// Drift, burned and orphaned secrets, secrets on several PoPs, and readers whose certificate expires.
pub fn recipients(state: &State, now: Time) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut readers = BTreeSet::new();
    for (address, live) in state.live_secrets() {
        readers.extend(live.readers.keys());
        if let Some((at, by)) = &live.burned {
            let text = format!("{by} could read this value and was compromised or lost on {}", at.day());
            found.push(Finding::new(Severity::Error, Code::Burned, address, text, "keys seal a new value"));
        }
        match state.readers_by_policy(address) {
            Err(e @ ReadersError::NoOwner(_)) => {
                found.push(Finding::new(Severity::Warning, Code::Orphan, address, e.to_string(), "keys rm"));
            }
            // Nobody may read it any more: whoever still can is one too many.
            Err(e) => {
                found.push(Finding::new(
                    Severity::Error,
                    Code::Drift,
                    address,
                    e.to_string(),
                    "keys rm, or policy/secrets.toml",
                ));
            }
            Ok(_) => found.extend(drift(state, address)),
        }
        found.extend(shared(state, address, live));
    }
    found.extend(readers.into_iter().filter_map(|reader| expiry(state, reader, now)));
    found
}

fn names(set: &BTreeSet<MemberName>) -> String {
    set.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn drift(state: &State, address: &Address) -> Option<Finding> {
    let live = state.secrets.get(address)?.live.as_ref()?;
    let drift = state.drift(address, live)?;
    let parts = [
        ("readable by", "whom policy and log do not give it", &drift.surplus),
        ("lacks", "", &drift.missing),
        ("not sealed to the present keys of", "", &drift.outdated),
    ];
    let told = parts.iter().filter(|(.., set)| !set.is_empty());
    let text = told.map(|(what, tail, set)| format!("{what} {} {tail}", names(set)).trim_end().to_owned());
    let severity = if drift.surplus.is_empty() { Severity::Warning } else { Severity::Error };
    Some(Finding::new(severity, Code::Drift, address, text.collect::<Vec<_>>().join("; "), "keys reseal"))
}

/// One value on several PoPs: whoever takes one of them has what the others use.
fn shared(state: &State, address: &Address, live: &LiveSecret) -> Option<Finding> {
    let places: BTreeSet<MemberName> =
        live.readers.keys().filter(|r| is_on_a_pop(state, r)).map(MemberName::owner).collect();
    if places.len() < 2 {
        return None;
    }
    let list = names(&places);
    let text = format!("one value on {} PoPs: {}", places.len(), crate::text::Shown { text: &list, max: 120 });
    Some(Finding::new(Severity::Note, Code::Shared, address, text, "a secret for each, where the other side allows it"))
}

/// Whether a member is a PoP or a service on one.
pub(super) fn is_on_a_pop(state: &State, member: &MemberName) -> bool {
    state.members.get(member).is_some_and(|m| matches!(m.kind, Kind::Pop | Kind::Service))
}

fn expiry(state: &State, reader: &MemberName, now: Time) -> Option<Finding> {
    let member = state.members.get(reader).filter(|m| m.is_active())?;
    let expires = member.cert_expires.filter(|e| *e <= now.plus(EXPIRY_NOTICE))?;
    let day = expires.day();
    let fix = "keys sync, on its machine";
    Some(if expires <= now {
        let text = format!("it reads secrets, and its certificate expired on {day}: nothing new can be sealed to it");
        Finding::new(Severity::Error, Code::ReaderExpired, reader, text, fix)
    } else {
        let text = format!("it reads secrets, and its certificate expires on {day}");
        Finding::new(Severity::Warning, Code::ReaderExpires, reader, text, fix)
    })
}

/// Addresses that have one encrypted body, as the log has it: at most one of them opens, for the address is signed inside.
pub fn duplicates(state: &State) -> Vec<Finding> {
    let mut bodies: BTreeMap<Digest, Vec<&Address>> = BTreeMap::new();
    for (address, live) in state.live_secrets() {
        bodies.entry(live.body).or_default().push(address);
    }
    let mut found = Vec::new();
    for addresses in bodies.into_values() {
        if let [first, others @ ..] = addresses.as_slice() {
            found.extend(others.iter().map(|other| {
                let text =
                    format!("its encrypted body is that of {first}: it was copied, not sealed, and does not open");
                Finding::new(Severity::Error, Code::DuplicateBody, other, text, "keys seal a value of its own")
            }));
        }
    }
    found
}
