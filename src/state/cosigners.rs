//! Who may be named as a cosigner.

use super::{State, Void};
use crate::log::note::VerifierKey;
use crate::name::Slot;
use crate::policy::Policy;

impl State {
    /// Refuses a policy under which the log would cosign itself.
    pub(super) fn check_cosigners(&self, policy: &Policy) -> Result<(), Void> {
        let slots = self.members.values().filter_map(|m| m.slot(Slot::Log)).flat_map(|s| &s.keys);
        let log_keys: Vec<VerifierKey> = slots.filter_map(|k| VerifierKey::parse(&k.key).ok()).collect();
        let cosigners = policy.fleet.publication.iter().flat_map(|p| &p.cosigners);
        match cosigners.zip(1..).find(|(c, _)| log_keys.iter().any(|key| key.raw() == c.key.raw())) {
            None => Ok(()),
            Some((cosigner, number)) => Err(Void::BadPolicy(format!(
                "policy/fleet.toml: [[cosigner]] number {number}: {} has the log's own key; a cosigner is somebody else",
                crate::text::shown(cosigner.key.name())
            ))),
        }
    }
}
