//! The policy: what a new one has to be before it is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fold::{Context, Measure, ObjectError, Objects, Replay, Stop};
use super::{PolicyInForce, State, Void};
use crate::digest::Digest;
use crate::name::{ActName, Kind, MemberName};
use crate::policy::{Policy, Role};
use crate::statement::PolicyUpdate;

impl<O: Objects> Replay<O> {
    pub(super) fn policy_update(&mut self, change: &PolicyUpdate, context: &Context<'_>) -> Result<(), Stop> {
        let state = self.state.as_ref().ok_or(Void::Genesis)?;
        state.fresh("the policy", (state.policy.version, &state.policy.prev), (change.generation, &change.prev))?;
        self.quorum(ActName::PolicyUpdate, None, None, context)?;
        let policy = read_policy(&change.policy, self.objects())?;
        let state = self.state.as_ref().ok_or(Void::Genesis)?;
        state.check_policy(&policy)?;
        // A new policy also needs the quorum that it sets itself: those who will have the say must agree to have it.
        if self.measure != Measure::Waived {
            let signers = self.signers(None, context, &policy)?;
            policy.fleet.quorums.check(ActName::PolicyUpdate, None, &signers).map_err(|missing| Void::Quorum {
                act: ActName::PolicyUpdate,
                missing: format!("under the new policy, {missing}"),
            })?;
        }
        let state = self.state.as_mut().ok_or(Void::Genesis)?;
        state.policy = PolicyInForce {
            version: change.generation,
            prev: context.id,
            files: change.policy.clone(),
            policy: Arc::new(policy),
        };
        Ok(())
    }
}

/// Reads a policy from its files' digests.
pub(super) fn read_policy(files: &BTreeMap<String, Digest>, objects: &impl Objects) -> Result<Policy, Stop> {
    let texts = files
        .iter()
        .map(|(name, digest)| Ok((name.clone(), String::from_utf8_lossy(&objects.object(digest)?).into_owned())))
        .collect::<Result<BTreeMap<_, _>, ObjectError>>()?;
    Ok(Policy::parse(&texts).map_err(Void::from)?)
}

impl State {
    /// Refuses a policy under which nobody could act: more signatures needed than there are members to give them.
    ///
    /// # Errors
    /// [`Void::BadPolicy`], saying what could not be met.
    pub fn check_policy(&self, policy: &Policy) -> Result<(), Void> {
        if policy.fleet.domain != self.fleet {
            return Err(Void::BadPolicy(format!("it is for the fleet {}", policy.fleet.domain)));
        }
        let active = |kind| self.members.iter().filter(move |(_, m)| m.kind == kind && m.is_active()).map(|(n, _)| n);
        let operators: BTreeSet<&MemberName> = active(Kind::Operator).collect();
        if let Some(stranger) = policy.fleet.root.iter().find(|r| !operators.contains(r)) {
            return Err(Void::BadPolicy(format!("[roles] root names {stranger}, who is no operator of this fleet")));
        }
        if policy.fleet.vouching_operators > operators.len() {
            return Err(Void::BadPolicy(format!(
                "[trust] operators = {} and there are {}",
                policy.fleet.vouching_operators,
                operators.len()
            )));
        }
        if policy.fleet.quorums.alternatives(ActName::PolicyUpdate, None).next().is_none() {
            let problem = "no [[quorum]] has act = \"policy.update\": nobody could ever change the policy again";
            return Err(Void::BadPolicy(problem.to_owned()));
        }
        self.check_cosigners(policy)?;
        let authorities = active(Kind::Authority).count();
        for rule in policy.fleet.quorums.rules() {
            for (role, there) in [(Role::Operator, operators.len()), (Role::Authority, authorities)] {
                if let Some(n) = rule.need.get(&role).filter(|n| usize::try_from(**n).unwrap_or(usize::MAX) > there) {
                    return Err(Void::BadPolicy(format!(
                        "[[quorum]] act = \"{}\" needs {role} = {n} and there are {there}",
                        rule.act
                    )));
                }
            }
        }
        Ok(())
    }
}
