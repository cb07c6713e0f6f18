//! The pages of a key server for a fleet ([`Tree`]), worked out anew when the published log has moved.
#![allow(
    clippy::disallowed_methods,
    reason = "how often the log is looked at is measured by the clock that only runs forward"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::directory::{Certifiers, Served, Standing, Tree};
use crate::fleet::{Fleet, FleetError};
use crate::name::Kind;
use crate::store::{Store, StoreError, read_checkpoint};

/// How often the published head is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long it is left alone after trouble.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// A tree that took a second to make is not made anew for this many.
const PAUSES: u32 = 4;

/// What was made of certificates before, so that only those that have changed are looked at again.
#[derive(Debug, Default)]
pub struct Shelf {
    certifiers: Certifiers,
    served: BTreeMap<(Digest, bool), Option<Arc<Served>>>,
}

impl Shelf {
    /// The pages of this fleet: of its members, and of those that have left with a revocation in their certificates. What
    /// operators and authorities say of others' certificates is in them, what anybody else says is not.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn tree(&mut self, fleet: &mut Fleet) -> Result<Tree, FleetError> {
        let at = fleet.state().time;
        let certify = |kind: Kind| matches!(kind, Kind::Operator | Kind::Authority);
        let members = fleet.state().members.iter();
        let certifiers: Certifiers =
            members.filter(|(_, m)| m.is_active() && certify(m.kind)).map(|(_, m)| m.fingerprint.clone()).collect();
        let mut before = std::mem::take(&mut self.served);
        if certifiers != self.certifiers {
            before.clear();
            self.certifiers = certifiers;
        }
        let all: Vec<_> = fleet.state().members.iter().map(|(name, m)| (name.clone(), m.is_active(), m.cert)).collect();
        let mut served = Vec::new();
        for (name, is_active, digest) in all {
            let known = match before.remove(&(digest, is_active)) {
                Some(known) => known,
                None => {
                    let certificate = fleet.certificate(&name)?;
                    let standing = match is_active {
                        true => Some(Standing::Member),
                        // Nothing in it says that it is no longer to be used.
                        false => certificate.is_revoked(at).then_some(Standing::Revoked),
                    };
                    standing.and_then(|s| Served::of(&certificate, s, &self.certifiers, at)).map(Arc::new)
                }
            };
            served.extend(known.clone());
            self.served.insert((digest, is_active), known);
        }
        Ok(Tree::of(&served))
    }

    /// How many certificates are in the tree that was made last.
    pub fn len(&self) -> usize {
        self.served.values().flatten().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The tree that is served.
pub(super) struct Current {
    seen: Mutex<Seen>,
    shelf: Mutex<Shelf>,
}

struct Seen {
    looked: Instant,
    pause: Duration,
    size: Option<u64>,
    tree: Arc<Tree>,
}

impl Current {
    /// An empty one, made at the first look.
    pub(super) fn new() -> Self {
        let seen = Seen { looked: Instant::now(), pause: Duration::ZERO, size: None, tree: Arc::default() };
        Self { seen: Mutex::new(seen), shelf: Mutex::default() }
    }

    /// The tree as of the published head, or a moment ago, and what went wrong while it was made anew; then it is the old
    /// one. One caller makes it, others are served the old one meanwhile.
    pub(super) fn tree(
        &self,
        keyring: &Store,
        make: impl FnOnce(&mut Shelf) -> Result<Tree, FleetError>,
    ) -> (Arc<Tree>, Option<FleetError>) {
        let (tree, size) = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.looked.elapsed() < seen.pause {
                return (Arc::clone(&seen.tree), None);
            }
            (seen.looked, seen.pause) = (Instant::now(), LOOK_AGAIN);
            (Arc::clone(&seen.tree), seen.size)
        };
        let published = match read_checkpoint(keyring) {
            Ok((_, checkpoint)) => checkpoint.size,
            Err(StoreError::NoKeyring(_)) => return (tree, None),
            Err(e) => return (tree, Some(e.into())),
        };
        if size == Some(published) {
            return (tree, None);
        }
        let Ok(mut shelf) = self.shelf.try_lock().or_else(|e| match e {
            std::sync::TryLockError::Poisoned(poisoned) => Ok(poisoned.into_inner()),
            std::sync::TryLockError::WouldBlock => Err(()),
        }) else {
            return (tree, None);
        };
        let begun = Instant::now();
        let made = make(&mut shelf).map(Arc::new);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.looked = Instant::now();
        match made {
            Ok(made) => {
                (seen.size, seen.tree) = (Some(published), Arc::clone(&made));
                seen.pause = LOOK_AGAIN.max(begun.elapsed().saturating_mul(PAUSES));
                (made, None)
            }
            Err(e) => {
                seen.pause = TRY_AGAIN;
                (tree, Some(e))
            }
        }
    }
}
