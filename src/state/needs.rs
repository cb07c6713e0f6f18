//! What a state refers to: whoever goes on from it without the entries before has to have it.

use std::collections::BTreeSet;

use super::State;
use crate::digest::Digest;
use crate::statement::ObjectKind;

impl State {
    /// The objects that a replay from here on, and all questions to the state, may need: the policy's files, every version of
    /// a certificate that signed something, requests, recipient sets, shapes, exchanges, challenges. Not sealed files, which
    /// have addresses, and no other state.
    pub fn objects(&self) -> BTreeSet<Digest> {
        let mut all: BTreeSet<Digest> = self.policy.files.values().copied().collect();
        all.extend(self.former.values().map(|(_, certificate)| *certificate));
        all.extend(self.signing.values().copied());
        for member in self.members.values() {
            all.extend([member.cert, member.request]);
            all.extend(member.unconfirmed);
            let keys = member.slots.values().flat_map(|slot| &slot.keys);
            all.extend(keys.filter_map(|key| key.exchange).map(|digests| digests.object));
        }
        for (_, secret) in self.live_secrets() {
            all.insert(secret.recipients);
            all.extend(secret.shape);
        }
        for locked in self.locked.values() {
            all.extend(locked.policy.values().copied());
            let named = locked.statement().map(|statement| statement.act.objects()).unwrap_or_default();
            let here = |kind: ObjectKind| !matches!(kind, ObjectKind::Sealed | ObjectKind::State);
            all.extend(named.into_iter().filter(|(_, kind)| here(*kind)).map(|(digest, _)| digest));
        }
        all
    }
}
