//! Emergencies on a machine: who signs one, and what becomes of those that it has applied once it reaches the keyring.

use super::OpsError;
use super::act::signers;
use crate::digest::Digest;
use crate::fleet::{Fleet, Proposal, Signer, Standing};
use crate::home::{HeldEmergency, Home};
use crate::name::{Kind, MemberName};
use crate::state::Void;
use crate::statement::{Act, Stop, StopReason};
use crate::time::Span;

/// What became of an emergency that was applied here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is in the log, at this index, so long after it was declared; the log speaks for itself now.
    Logged {
        /// The entry.
        index: u64,
        /// From its declaration to the log.
        lag: Span,
    },
    /// It is among the proposals and waits for whoever has the log's key; `true` if it was put there just now.
    HandedIn(bool),
    /// It can have no effect any more, and everything it said is so or was stopped: it is forgotten here.
    Settled(Void),
    /// It cannot come into the log as it is, and goes on counting here.
    Stuck(String),
}

/// The operators of this home who can sign an emergency.
///
/// # Errors
/// [`OpsError::NoActor`], if there is none.
pub fn deciders(home: &Home, fleet: &mut Fleet, only: Option<&MemberName>) -> Result<Vec<Signer>, OpsError> {
    let mut found = signers(home, fleet, only)?;
    found.retain(|s| fleet.state().members.get(&s.member).is_some_and(|m| m.kind == Kind::Operator));
    if found.is_empty() { Err(OpsError::NoActor("operator who could sign it")) } else { Ok(found) }
}

/// Plans an emergency that stops these members.
///
/// # Errors
/// [`OpsError::NoMember`].
pub fn plan_emergency(members: &[MemberName], why: StopReason, fleet: &Fleet) -> Result<Vec<Stop>, OpsError> {
    let mut stops: Vec<Stop> = Vec::new();
    for member in members {
        if fleet.state().members.get(member).is_none_or(|m| !m.is_active()) {
            return Err(OpsError::NoMember(member.clone()));
        }
        if stops.iter().all(|s| s.member != *member) {
            stops.push(Stop { member: member.clone(), why });
        }
    }
    Ok(stops)
}

/// Applies an emergency on this machine: judged by what is known here, it counts from now on, as soon as this returns.
/// `None` if it did already.
///
/// # Errors
/// [`OpsError`]; then nothing was applied.
pub fn apply_emergency(proposal: &Proposal, home: &Home, fleet: &mut Fleet) -> Result<Option<HeldEmergency>, OpsError> {
    if home.emergencies()?.iter().any(|held| held.entry.signed.id == proposal.signed.id) {
        return Ok(None);
    }
    // A home that may not sign, or whose agent is away, applies it all the same.
    let mut own = signers(home, fleet, None).unwrap_or_default();
    let bytes = fleet.accept_emergency(proposal, &mut own)?;
    let entry = crate::statement::Entry::parse(&bytes).map_err(crate::fleet::FleetError::from)?;
    let held = HeldEmergency { applied: fleet.now(), entry, handed: None };
    home.hold_emergency(&held)?;
    Ok(Some(held))
}

/// Hands in what was applied here and is not in the log, and forgets what the log has by now. The caller holds the locks and
/// has prepared the fleet.
///
/// # Errors
/// [`OpsError`].
pub fn hand_in_emergencies(home: &Home, fleet: &mut Fleet) -> Result<Vec<(Digest, Fate)>, OpsError> {
    let mut fates = Vec::new();
    for mut held in home.emergencies()? {
        let id = held.entry.signed.id;
        // Machines go by what is published: until that has it, or has stopped it, it goes on counting here.
        let is_published = fleet.waiting() == 0;
        if let Some(logged) = fleet.logged_state().emergencies.get(&id).cloned() {
            if is_published {
                home.forget_emergency(&id)?;
                fates.push((id, Fate::Logged { index: logged.index, lag: logged.lag() }));
            }
            continue;
        }
        let proposal = Proposal { signed: held.entry.signed.clone(), signatures: held.entry.signatures.clone() };
        match fleet.standing(&proposal)? {
            Standing::Dead(void) if matches!(void, Void::Objected(_)) || is_moot(&held, fleet) => {
                if is_published {
                    home.forget_emergency(&id)?;
                    fates.push((id, Fate::Settled(void)));
                }
            }
            Standing::Dead(void) => fates.push((id, Fate::Stuck(void.to_string()))),
            standing => {
                let is_new = fleet.hand_in(&held.entry)?;
                if held.handed.is_none() {
                    held.handed = Some(fleet.now());
                    home.hold_emergency(&held)?;
                }
                fates.push((
                    id,
                    match standing {
                        Standing::Lacks(missing) => Fate::Stuck(format!("it lacks {missing}")),
                        _ => Fate::HandedIn(is_new),
                    },
                ));
            }
        }
    }
    Ok(fates)
}

/// Whether the log says of everybody whom it stops that they are in wrong hands or lost, by whatever entry.
fn is_moot(held: &HeldEmergency, fleet: &Fleet) -> bool {
    let Act::Emergency(stops) = &held.entry.signed.statement.act else { return true };
    let members = &fleet.logged_state().members;
    let is_out = |stop: &Stop| members.get(&stop.member).is_none_or(|m| m.retired.is_some_and(|(_, why)| why.burns()));
    stops.iter().all(is_out)
}
