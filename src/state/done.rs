//! Statements that took effect and have not expired: none has effect twice.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::time::Time;

/// Statements by the time at which they expire: after it nobody can log one again, so it need not be remembered. Written
/// as a map from a statement to that time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done(BTreeSet<(Time, Digest)>);

impl Done {
    /// Whether the statement `id`, which expires at `expires`, took effect.
    pub fn has(&self, id: &Digest, expires: Time) -> bool {
        self.0.contains(&(expires, *id))
    }

    /// Whether a statement with this id took effect, whenever it expires; looks at all of them.
    pub fn has_id(&self, id: &Digest) -> bool {
        self.0.iter().any(|(_, done)| done == id)
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers one, and forgets those that have expired before `now`.
    pub(super) fn add(&mut self, id: Digest, expires: Time, now: Time) {
        while self.0.first().is_some_and(|(expires, _)| *expires < now) {
            self.0.pop_first();
        }
        self.0.insert((expires, id));
    }
}

impl Serialize for Done {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(expires, id)| (id, expires)))
    }
}

impl<'de> Deserialize<'de> for Done {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<Digest, Time>::deserialize(deserializer)?;
        Ok(Self(map.into_iter().map(|(id, expires)| (expires, id)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_is_forgotten_and_nothing_else() {
        let ids: Vec<Digest> = (0..4_u8).map(|n| Digest::of(&[n])).collect();
        let mut done = Done::default();
        for (id, expires) in ids.iter().zip([30, 10, 20, 40]) {
            done.add(*id, Time(expires), Time(5));
        }
        assert!(done.has(&ids[1], Time(10)) && !done.has(&ids[1], Time(30)) && done.has_id(&ids[1]));
        done.add(ids[3], Time(40), Time(20));
        let left: Vec<bool> = ids.iter().zip([30, 10, 20, 40]).map(|(id, at)| done.has(id, Time(at))).collect();
        assert_eq!(left, [true, false, true, true], "what expires in this second can still be logged in it");
        let text = serde_json::to_string(&done).unwrap();
        assert_eq!(serde_json::from_str::<Done>(&text).unwrap(), done);
    }
}
