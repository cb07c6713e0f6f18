//! Cosigning by file: a fleet's directory on a stick, say, without any server. The log's tiles give the proof, and the
//! cosignature is left in the keyring, where whoever publishes takes it in.

use super::{Witness, WitnessError};
use crate::fleet::fork;
use crate::log::checkpoint::Checkpoint;
use crate::log::evidence::{Case, Evidence};
use crate::log::note::Note;
use crate::log::witness::{AddCheckpoint, Refusal};
use crate::store::{Store, consistency_proof, cosignature_path, read_newest};
use crate::time::Time;

/// A head that was cosigned by file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFleet {
    /// What was cosigned.
    pub checkpoint: Checkpoint,
    /// The file in the keyring.
    pub path: String,
}

impl Witness {
    /// Cosigns the newest head of a keyring and leaves the cosignature there. The caller holds the keyring's lock.
    ///
    /// # Errors
    /// [`WitnessError`]; then the keyring is as it was.
    pub fn sign_keyring(&self, store: &Store, now: Time) -> Result<SignedFleet, WitnessError> {
        let (_, (note, checkpoint)) = read_newest(store)?;
        let last = self.last(&checkpoint.origin)?;
        let old_size = last.as_ref().map_or(0, |(_, l)| l.size);
        if old_size > checkpoint.size {
            let (seen, shown) = (last.map(|(note, _)| note), note);
            self.keep(&Evidence { case: Case::Rollback, noted: now, freeze: None, proof: None, seen, shown });
            return Err(WitnessError::Rollback { found: checkpoint.size, seen: old_size });
        }
        let proof = consistency_proof(store, old_size, checkpoint.size)?;
        let text = note.text.clone();
        let request = AddCheckpoint { old_size, proof, note: note.clone() };
        let line = self.add(&request, now).map_err(|e| match e {
            WitnessError::Refused(Refusal::Inconsistent(_)) => {
                let evidence = last.and_then(|last| fork(store, last, (note.clone(), checkpoint.clone()), now));
                evidence.iter().for_each(|e| self.keep(e));
                WitnessError::Fork { size: old_size }
            }
            WitnessError::Refused(Refusal::Unknown) => WitnessError::NotWatched { found: checkpoint.origin.clone() },
            other => other,
        })?;
        // The log's own lines, and ours: whoever reads it needs nothing else.
        let own = note.signatures.into_iter().filter(|l| l.name == checkpoint.origin);
        let note = Note { text, signatures: own.chain([line]).collect() };
        let path = cosignature_path(&self.key());
        store.disk().replace(&path, &note.to_bytes())?;
        Ok(SignedFleet { checkpoint, path })
    }
}
