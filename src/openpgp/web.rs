//! The web of trust: whose key is this? Decided by Sequoia's engine over certificates in memory.
//!
//! Trust amounts alone are no k of n: one operator who introduces two fake authorities at 60 each reaches 120. So there
//! is one trust network per operator, and what counts is how many *operators* reach the target. The engine ignores the
//! target's own state, so revocation and expiry are for [`Certificate::alive`].

use sequoia_openpgp::Fingerprint;
use sequoia_openpgp::packet::UserID;
use sequoia_wot::store::CertStore;
use sequoia_wot::{NetworkBuilder, Root, Roots};

use super::{Certificate, Doing as _, OpenpgpError, policy_at};
use crate::time::Time;

/// What one operator's certification of an authority weighs, where `needed` operators must vouch. With one operator
/// the chain is complete (120), and gpg agrees; with more, no tool that adds amounts up takes one operator's for full.
pub fn amount_for(needed: usize) -> u8 {
    if needed <= 1 { 120 } else { ENOUGH }
}

/// The amount that one operator's network has to reach.
const ENOUGH: u8 = 60;

/// A set of certificates and the operators who are its roots.
#[derive(Debug, Clone)]
pub struct Web<'a> {
    /// The operators: one root each.
    pub roots: &'a [Fingerprint],
    /// Every certificate that may be part of a path, the target included.
    pub certificates: &'a [&'a Certificate],
}

impl Web<'_> {
    /// How many operators vouch, directly or through introducers, that `target` belongs to `user_id` at `at`.
    ///
    /// # Errors
    /// [`OpenpgpError`], if the certificates cannot be indexed.
    pub fn endorsers(&self, user_id: &str, target: &Fingerprint, at: Time) -> Result<usize, OpenpgpError> {
        let policy = policy_at(at);
        let certs = self.certificates.iter().map(|c| c.cert());
        let store = CertStore::from_cert_refs(certs, &policy, at.to_system()).doing("index certificates")?;
        let user_id = UserID::from(user_id);
        let enough = usize::from(ENOUGH);
        let mut roots = self.roots.to_vec();
        roots.sort();
        roots.dedup();
        Ok(roots
            .into_iter()
            .filter(|root| {
                let network = NetworkBuilder::rooted(&store, Roots::new([Root::new(root.clone(), 120)])).build();
                network.authenticate(&user_id, target.clone(), enough).amount() >= enough
            })
            .count())
    }
}
