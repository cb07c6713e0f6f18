//! Rotation: promoting standby keys. The plan is a value; what is shown is what is carried out.

use serde::Serialize;

use super::OpsError;
use crate::digest::Digest;
use crate::fleet::Draft;
use crate::limits::CHANGES_MAX;
use crate::name::{Glob, MemberName, Slot};
use crate::state::{SlotKeys, State};
use crate::statement::{Act, Activate, Rekey, RetireReason};
use crate::time::Time;

/// What to rotate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Which members; none means everybody.
    pub members: Option<Glob>,
    /// Which slot; none means every slot.
    pub slot: Option<Slot>,
    /// Only what is due.
    pub due: bool,
    /// Also WireGuard keys that were rotated less than the policy's `min_gap` ago.
    pub soon: bool,
}

/// One promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// Whose.
    pub member: MemberName,
    /// The slot.
    pub slot: Slot,
    /// The key that is active now, if any.
    pub from: Option<String>,
    /// The standby that becomes active.
    pub to: String,
    /// Whether its cryptoperiod is over.
    pub scheduled: bool,
    generation: u64,
    prev: Digest,
}

/// A slot that cannot be rotated now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Whose.
    pub member: MemberName,
    /// The slot.
    pub slot: Slot,
    /// Why.
    pub why: String,
}

/// What a rotation will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RotatePlan {
    /// The promotions, by member and slot.
    pub rotations: Vec<Rotation>,
    /// What was asked for and cannot be done.
    pub skipped: Vec<Skipped>,
}

/// Plans a rotation. The log's own key is not among what rotates so: it changes by an act of its own.
///
/// # Errors
/// [`OpsError::NoMatch`], if the pattern matches no active member.
pub fn plan_rotate(selection: &Selection, state: &State, now: Time) -> Result<RotatePlan, OpsError> {
    let mut plan = RotatePlan { rotations: Vec::new(), skipped: Vec::new() };
    let matches = |name: &MemberName| selection.members.as_ref().is_none_or(|g| g.matches(&name.to_string()));
    let mut matched = false;
    for (name, member) in state.members.iter().filter(|(n, m)| m.is_active() && matches(n)) {
        matched = true;
        for (&slot, keys) in
            member.slots.iter().filter(|(s, _)| **s != Slot::Log && selection.slot.is_none_or(|wanted| wanted == **s))
        {
            let period = state.policy.policy.fleet.cryptoperiod(slot);
            let since = keys.active().and_then(|k| k.activated);
            let due = since.is_none_or(|s| now >= s.plus(period));
            if selection.due && !due {
                continue;
            }
            if slot == Slot::Wireguard
                && !selection.soon
                && let Some(why) = too_soon(keys, state, now)
            {
                plan.skipped.push(Skipped { member: name.clone(), slot, why });
                continue;
            }
            match keys.standbys().next() {
                Some(standby) => plan.rotations.push(Rotation {
                    member: name.clone(),
                    slot,
                    from: keys.active().map(|k| k.key.clone()),
                    to: standby.key.clone(),
                    scheduled: due,
                    generation: keys.generation + 1,
                    prev: keys.prev,
                }),
                None => {
                    let why =
                        format!("it has no standby key; {} makes one when it next runs 'keys sync'", name.owner());
                    plan.skipped.push(Skipped { member: name.clone(), slot, why });
                }
            }
        }
    }
    match (&selection.members, matched) {
        (Some(glob), false) => Err(OpsError::NoMatch(glob.to_string())),
        _ => Ok(plan),
    }
}

/// Why a lane should not be changed again: whoever was away for both changes would know neither key. The first key of a
/// member is nobody's second change.
fn too_soon(keys: &SlotKeys, state: &State, now: Time) -> Option<String> {
    let gap = state.policy.policy.wireguard.rotation().min_gap;
    let since = keys.active().filter(|_| keys.generation > 1)?.activated?;
    (now < since.plus(gap)).then(|| {
        format!(
            "it was rotated less than {gap} ago, the policy's rotation.min_gap: who is away for two rotations does not find \
             back; --soon does it all the same"
        )
    })
}

impl RotatePlan {
    /// The statements that carry it out. Scheduled and unscheduled promotions are apart, since they need different quorums.
    pub fn drafts(&self, reason: &str) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for scheduled in [true, false] {
            let of_kind: Vec<&Rotation> = self.rotations.iter().filter(|r| r.scheduled == scheduled).collect();
            for part in of_kind.chunks(CHANGES_MAX) {
                let changes = part.iter().map(|r| Activate {
                    generation: r.generation,
                    key: r.to.clone(),
                    member: r.member.clone(),
                    prev: r.prev,
                    slot: r.slot,
                });
                drafts.push(Draft::bare(Act::Activate(changes.collect()), reason));
            }
        }
        drafts
    }
}

/// Plans that the standby log key of an authority becomes the log's key: of `member`, or of the only authority.
///
/// # Errors
/// [`OpsError`], if there is no such authority, or several and none is named, or no standby.
pub fn plan_rekey(member: Option<&MemberName>, why: RetireReason, state: &State) -> Result<Rekey, OpsError> {
    let holders: Vec<&MemberName> =
        state.members.iter().filter(|(_, m)| m.is_active() && m.slot(Slot::Log).is_some()).map(|(n, _)| n).collect();
    let name = match (member, holders.as_slice()) {
        (Some(name), all) if all.contains(&name) => name,
        (None, [only]) => only,
        (Some(name), _) => return Err(OpsError::NoMember(name.clone())),
        (None, all) => {
            let names = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(OpsError::Impossible(format!("there are several authorities; name one of {names}")));
        }
    };
    let keys = state.members.get(name).and_then(|m| m.slot(Slot::Log));
    let standby = keys.and_then(|k| Some((k, k.standbys().next()?)));
    let (keys, standby) = standby.ok_or_else(|| {
        OpsError::Impossible(format!("{name} has no standby log key; it makes one when it next runs 'keys sync'"))
    })?;
    Ok(Rekey { generation: keys.generation + 1, key: standby.key.clone(), member: name.clone(), prev: keys.prev, why })
}
