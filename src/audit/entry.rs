//! What an entry is about: whom it touches, which secrets, in which words; and what its being void says.

use std::collections::BTreeSet;

use crate::name::{Address, MemberName};
use crate::openpgp::StatementSignature;
use crate::state::{Effects, PolicyInForce, State, Void};
use crate::statement::{Act, Entry};
use crate::time::Time;

/// The newest time that taking the entry could make the fleet's: what its statement and its signatures claim.
pub(super) fn newest(entry: &Entry, state: &State) -> Time {
    let made = |line: &crate::log::note::SignatureLine| {
        StatementSignature::parse(&line.signature, &state.fleet, &state.log).map(|s| s.created()).ok()
    };
    let at = entry.signed.statement.at;
    entry.signatures.iter().filter_map(made).fold(at.max(state.time), Time::max)
}

/// The members whose keys or membership an act can change. For an act that is not of this list: everybody, which is slower
/// and never wrong.
pub(super) fn touched(act: Option<&Act>, state: &State) -> BTreeSet<MemberName> {
    let with_services = |name: &MemberName| {
        state.members.keys().filter(|n| *n == name || n.owner() == *name).cloned().collect::<Vec<_>>()
    };
    match act {
        // By an invitation another machine may take a name over, and the services of the one before leave.
        Some(Act::Enroll(list)) => {
            list.iter().flat_map(|c| with_services(&c.member).into_iter().chain([c.member.clone()])).collect()
        }
        Some(Act::Retire(list)) => list.iter().flat_map(|c| with_services(&c.member)).collect(),
        Some(Act::Emergency(list)) => list.iter().flat_map(|c| with_services(&c.member)).collect(),
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
            | Act::SshRevoke(_)
            | Act::Invite(_)
            | Act::Uninvite(_),
        ) => BTreeSet::new(),
        _ => state.members.keys().cloned().collect(),
    }
}

pub(super) fn addresses(act: &Act) -> Vec<Address> {
    match act {
        Act::Seal(list) => list.iter().map(|c| c.address.clone()).collect(),
        Act::Reseal(list) => list.iter().map(|c| c.address.clone()).collect(),
        Act::Remove(list) => list.iter().map(|c| c.address.clone()).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn changes(body: &[u8]) -> Vec<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    value.get("changes").and_then(|c| c.as_array()).cloned().unwrap_or_default()
}

/// What a change is about, by the fields that name it.
pub(super) fn about(change: &serde_json::Value) -> String {
    let field = |name: &str| change.get(name).and_then(|v| v.as_str());
    match (field("member"), field("slot"), field("address"), field("fleet")) {
        (Some(member), Some(slot), ..) => format!("{member} {slot}"),
        (Some(member), ..) => member.to_owned(),
        (None, _, Some(address), _) => address.to_owned(),
        (None, _, None, Some(fleet)) => fleet.to_owned(),
        _ if change.get("policy").is_some() => {
            format!("policy version {}", change.get("gen").and_then(serde_json::Value::as_u64).unwrap_or(1))
        }
        _ if field("statement").is_some() => format!("statement {}", field("statement").unwrap_or_default()),
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
pub(super) fn is_suspicious(void: &Void) -> bool {
    matches!(
        void,
        Void::Quorum { .. }
            | Void::NoRule { .. }
            | Void::Author(_)
            | Void::KeyReused { .. }
            | Void::OtherLog(_)
            | Void::Unvouched { .. }
            | Void::Unreadable(_)
            | Void::Request { .. }
            | Void::Genesis
    )
}

/// What is enough under the policy of `after` that was not under `before`, in words.
pub(super) fn weaker(before: &PolicyInForce, after: &State, at: Time) -> Vec<String> {
    let earlier = State { policy: before.clone(), ..after.clone() };
    let effects = Effects::between(&earlier, after, at);
    let rules = effects.rules.iter().filter(|r| r.weaker).map(|r| {
        let what = r.case.map_or_else(|| r.act.to_string(), |c| format!("{} ({c})", r.act));
        let before = if r.before.is_empty() { "nobody".to_owned() } else { r.before.join(", or ") };
        format!("{what}: {}; before: {before}", r.after.join(", or "))
    });
    let settings = effects.settings.iter().filter(|s| s.weaker);
    rules.chain(settings.map(|s| format!("{}: {}; before: {}", s.name, s.after, s.before))).collect()
}
