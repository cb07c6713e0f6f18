//! Resealing: other recipients around the same encrypted body. Needs one key that opens it now; the body is not opened.

use std::collections::BTreeSet;

use super::OpsError;
use super::open::decryptors;
use super::seal::recipient_keys;
use crate::digest::Digest;
use crate::fleet::{Draft, Fleet, FleetError};
use crate::home::Home;
use crate::limits::CHANGES_MAX;
use crate::name::{Address, Glob, MemberName};
use crate::openpgp::Sealed;
use crate::state::{Drift, LiveSecret};
use crate::statement::{Act, RecipientSet, Reseal};
use crate::store::StoreError;

/// Secrets whose recipients are not those of policy and log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResealPlan {
    /// Those that a key of this home opens.
    pub drifted: Vec<Drift>,
    /// Those that none does.
    pub elsewhere: Vec<Drift>,
    /// Those that a key of this home opens, and that stay as they are nevertheless, each for its own reason: one of them
    /// does not keep the others from being resealed.
    pub stuck: Vec<Stuck>,
}

/// A secret that cannot be resealed at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// How its recipients differ from those of policy and log.
    pub drift: Drift,
    /// Why.
    pub why: String,
}

/// Finds what has drifted among the secrets that match.
///
/// # Errors
/// [`OpsError`].
pub fn plan_reseal(pattern: Option<&Glob>, home: &Home, fleet: &mut Fleet) -> Result<ResealPlan, OpsError> {
    let mut plan = ResealPlan { drifted: Vec::new(), elsewhere: Vec::new(), stuck: Vec::new() };
    let state = fleet.state();
    let matches = |a: &Address| pattern.is_none_or(|p| p.matches(&a.to_string()));
    let drifts: Vec<(Drift, _)> = state
        .live_secrets()
        .filter(|(a, _)| matches(a))
        .filter_map(|(a, s)| state.drift(a, s).map(|d| (d, s.clone())))
        .collect();
    for (drift, secret) in drifts {
        // A secret whose owner has left has nobody to be sealed to but those who could read it to replace it.
        let Ok(readers) = fleet.state().readers(&drift.address) else { continue };
        if decryptors(&secret, None, home, fleet)?.is_empty() {
            plan.elsewhere.push(drift);
        } else if let Some(why) = obstacle(&drift.address, &secret, readers, fleet)? {
            plan.stuck.push(Stuck { drift, why });
        } else {
            plan.drifted.push(drift);
        }
    }
    Ok(plan)
}

/// What a secret can be resealed to now.
struct Target {
    set: RecipientSet,
    /// Readers that should be there and are left out, because nobody vouches for them.
    left_out: Vec<String>,
}

/// The recipients as of now. A reader that nobody vouches for any more keeps what it can read already: the value is no
/// other. It becomes none anew.
fn target(secret: &LiveSecret, readers: BTreeSet<MemberName>, fleet: &mut Fleet) -> Target {
    let mut wanted = Vec::new();
    let mut left_out = Vec::new();
    for reader in readers {
        match fleet.check_vouched(&reader) {
            Err(problem) if !secret.readers.contains_key(&reader) => {
                left_out.push(format!("it cannot be sealed to {reader}: {problem}"));
            }
            _ => wanted.push(reader),
        }
    }
    Target { set: fleet.state().recipient_set(wanted), left_out }
}

/// What keeps a secret from being resealed: its file is not what the log says, or a reader is not to be trusted now and
/// nothing else is to change.
fn obstacle(
    address: &Address,
    secret: &LiveSecret,
    readers: BTreeSet<MemberName>,
    fleet: &mut Fleet,
) -> Result<Option<String>, OpsError> {
    match fleet.store().sealed(address, &secret.file) {
        Ok(_) => {}
        Err(e @ (StoreError::Missing(_) | StoreError::Damaged { .. })) => return Ok(Some(e.to_string())),
        Err(e) => return Err(FleetError::from(e).into()),
    }
    let target = target(secret, readers, fleet);
    Ok((target.set.readers == secret.readers).then(|| target.left_out.join("; ")))
}

impl ResealPlan {
    /// The statements that carry it out.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn drafts(&self, reason: &str, home: &Home, fleet: &mut Fleet) -> Result<Vec<Draft>, OpsError> {
        let mut drafts = Vec::new();
        for part in self.drifted.chunks(CHANGES_MAX) {
            let mut changes = Vec::new();
            let mut objects = Vec::new();
            for drift in part {
                let (change, set, file) = resealed(&drift.address, home, fleet)?;
                changes.push(change);
                objects.extend([set, file]);
            }
            let told = part.iter().map(|d| format!("{}: resealed to the keys of today", d.address)).collect();
            drafts.push(Draft { told, ..Draft::with(Act::Reseal(changes), reason, objects) });
        }
        Ok(drafts)
    }
}

fn resealed(address: &Address, home: &Home, fleet: &mut Fleet) -> Result<(Reseal, Vec<u8>, Vec<u8>), OpsError> {
    let secret = fleet.state().secrets.get(address).cloned().ok_or_else(|| OpsError::NoSecret(address.clone()))?;
    let live = secret.live.ok_or_else(|| OpsError::NoSecret(address.clone()))?;
    let readers =
        fleet.state().readers(address).map_err(|source| OpsError::Readers { address: address.clone(), source })?;
    let set = target(&live, readers, fleet).set;
    let keys = recipient_keys(address, &set, fleet)?;
    let keys: Vec<_> = keys.iter().filter_map(|(certificate, f)| certificate.key(f)).collect();
    let mut own = decryptors(&live, None, home, fleet)?;
    let old = fleet.store().sealed(address, &live.file).map_err(FleetError::from)?;
    let failed = |source| OpsError::Seal { address: address.clone(), source };
    let file = crate::openpgp::reseal(&old, &mut own, &keys).map_err(failed)?;
    let body = Sealed::parse(&file).map_err(|e| failed(e.into()))?.body_digest();
    let set = set.to_bytes();
    let change = Reseal {
        address: address.clone(),
        body,
        file: Digest::of(&file),
        generation: secret.generation + 1,
        prev: secret.prev,
        recipients: Digest::of(&set),
    };
    Ok((change, set, file))
}
