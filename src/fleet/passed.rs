//! What entries say that is wanted before they are replayed, taken down while they pass by.

use std::collections::BTreeMap;

use super::snapshot::brings;
use crate::log::note::VerifierKey;
use crate::name::Slot;
use crate::state::Replay;
use crate::statement::{Act, Entry, Snapshot};
use crate::store::Store;

/// What the entry of a new log key begins with: its fields are in order, and this is the first.
const REKEY: &[u8] = b"{\"act\":\"log.rekey\",";

/// What has been taken down. Nothing of it has been judged.
#[derive(Default)]
pub(super) struct Passed {
    /// The snapshots, by the number of the entry.
    pub snapshots: BTreeMap<u64, Snapshot>,
    founding: Option<Vec<u8>>,
    rekeyed: Vec<VerifierKey>,
}

impl Passed {
    /// An entry passes by.
    pub(super) fn by(&mut self, index: u64, entry: &[u8]) {
        if index == 0 {
            self.founding = Some(entry.to_vec());
        }
        self.snapshots.extend(brings(entry).map(|snapshot| (index, snapshot)));
        if entry.starts_with(REKEY)
            && let Ok(Entry { signed, .. }) = Entry::parse(entry)
            && let Act::Rekey(change) = signed.statement.act
        {
            self.rekeyed.extend(VerifierKey::parse(&change.key));
        }
    }

    /// Joins what was taken down of later entries.
    pub(super) fn extend(&mut self, later: Self) {
        self.snapshots.extend(later.snapshots);
        self.founding = self.founding.take().or(later.founding);
        self.rekeyed.extend(later.rekeyed);
    }

    /// The keys that the log has probably had: those of the founding, and those that say of themselves that they came later.
    /// Whether they really were the log's, only the replay says.
    pub(super) fn log_keys(&self, store: &Store) -> Vec<VerifierKey> {
        let founded = self.founding.as_ref().and_then(|bytes| {
            let log = Entry::parse(bytes).ok()?.signed.statement.log;
            let mut replay = Replay::new(log, store.clone());
            replay.apply(bytes).ok()?;
            replay.into_state()
        });
        let members = founded.iter().flat_map(|state| state.members.values());
        let keys = members.filter_map(|member| member.slot(Slot::Log)).flat_map(|slot| &slot.keys);
        keys.filter_map(|key| VerifierKey::parse(&key.key).ok()).chain(self.rekeyed.iter().cloned()).collect()
    }
}
