//! What many secrets have alike, their readers, is kept once: those of a hundred thousand secrets would otherwise be three
//! quarters of what a state takes in memory. It is noticed where a state is read, and where the fold makes a secret.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};

use super::{Names, Readers, Secret};
use crate::digest::Digest;
use crate::name::Address;

/// Recipient sets that are remembered; beyond that it begins anew, and what is shared stays so.
const SETS_MAX: usize = 1 << 16;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Shared {
    readers: HashMap<Digest, Readers>,
    names: HashSet<Names>,
}

impl Shared {
    /// Has the secret share what another one had before.
    pub(super) fn share(&mut self, secret: &mut Secret) {
        if self.readers.len().max(self.names.len()) >= SETS_MAX {
            *self = Self::default();
        }
        self.share_names(&mut secret.meant_for);
        let Some(live) = &mut secret.live else { return };
        self.share_names(&mut live.exposed);
        // One recipient set has one digest; whatever else a state may say is left as it is.
        let known = self.readers.entry(live.recipients).or_insert_with(|| Arc::clone(&live.readers));
        if known == &live.readers {
            live.readers = Arc::clone(known);
        }
    }

    fn share_names(&mut self, names: &mut Names) {
        match self.names.get(names) {
            Some(known) => *names = Arc::clone(known),
            None => {
                self.names.insert(Arc::clone(names));
            }
        }
    }
}

/// Reads the secrets of a state.
pub(super) fn secrets<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Address, Arc<Secret>>, D::Error> {
    struct Secrets;

    impl<'de> Visitor<'de> for Secrets {
        type Value = BTreeMap<Address, Arc<Secret>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("secrets by address")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut all, mut shared) = (BTreeMap::new(), Shared::default());
            while let Some((address, mut secret)) = map.next_entry::<Address, Secret>()? {
                shared.share(&mut secret);
                all.insert(address, Arc::new(secret));
            }
            Ok(all)
        }
    }

    from.deserialize_map(Secrets)
}
