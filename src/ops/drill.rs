//! Trying whether a restore works: restored into an empty directory, replayed, held against the fleet that is running, and a
//! canary opened, a secret whose value everybody knows. What comes of it is logged, also when it failed.

use zeroize::Zeroizing;

use super::backup::Sources;
use super::open::decryptors;
use super::restore::{Place, Restored};
use super::{OpsError, open};
use crate::digest::Digest;
use crate::fleet::{Draft, Fleet, FleetError};
use crate::home::Home;
use crate::name::Address;
use crate::openpgp::{self, SealError};
use crate::state::Replay;
use crate::statement::{Act, Outcome, RestoreDrill};
use crate::store::LogReader;

/// The name of a secret that is a canary: `fra1/restore-canary`.
pub const CANARY: &str = "restore-canary";

/// What a canary's value is in this fleet: known to everybody, so that nothing is lost by opening it.
pub fn canary_value(fleet: &Digest) -> String {
    format!("the restore canary of the fleet {fleet}\n")
}

/// The canary of a fleet: the first live secret of that name.
///
/// # Errors
/// [`OpsError::Impossible`], if there is none.
pub fn canary(fleet: &Fleet) -> Result<Address, OpsError> {
    let found = fleet.state().live_secrets().map(|(address, _)| address).find(|a| a.name() == CANARY);
    found.cloned().ok_or_else(|| {
        OpsError::Impossible(format!("there is no canary, a secret named {CANARY}; 'keys drill canary' seals one"))
    })
}

/// What a drill found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillFindings {
    /// The root of the log that came out.
    pub root: Digest,
    /// Its size.
    pub size: u64,
    /// The hash of the state that replaying it gave.
    pub state: Digest,
    /// The canary's version, if it was opened.
    pub canary: Option<u64>,
    /// What is not as it should be.
    pub problems: Vec<String>,
}

impl DrillFindings {
    /// Those of a restore of which nothing came.
    pub fn nothing(problem: String) -> Self {
        let none = Digest::of(b"");
        Self { root: none, size: 0, state: none, canary: None, problems: vec![problem] }
    }

    /// The entry that tells of it.
    pub fn draft(&self, backup: Option<Digest>, seconds: u64, reason: &str) -> Draft {
        let outcome = if self.problems.is_empty() { Outcome::Good } else { Outcome::Failed };
        let Self { root, size, state, canary, .. } = self.clone();
        Draft::bare(Act::Drill(vec![RestoreDrill { backup, canary, outcome, root, seconds, size, state }]), reason)
    }
}

/// Copies a keyring and its policy into `place`, and opens the copy: what a restore of a mirror is.
///
/// # Errors
/// [`OpsError`].
pub fn copy_keyring(
    place: &Place,
    sources: &Sources<'_>,
    known: &crate::fleet::Known,
    now: crate::time::Time,
) -> Result<Restored, OpsError> {
    let files = place.copy(sources)?;
    let fleet = place.verified(known, now)?;
    Ok(Restored { fleet, files, home: false })
}

/// Holds what was restored against the fleet that is running: the same root at that size, and the same state when each is
/// replayed as far as that.
///
/// # Errors
/// [`OpsError`], if the running fleet cannot be read.
pub fn compare(restored: &Fleet, running: &Fleet) -> Result<DrillFindings, OpsError> {
    let (size, root) = restored.head().map_or((0, Digest::of(b"")), |h| (h.checkpoint.size, h.checkpoint.root));
    let state = restored.state().digest();
    let mut found = DrillFindings { root, size, state, canary: None, problems: Vec::new() };
    match running.root_at(size)? {
        None => found.problems.push(format!("it has {size} entries, more than the fleet has")),
        Some(other) if other != root => found.problems.push("its log has another past than the fleet's".to_owned()),
        Some(_) => {
            let mut replay = Replay::new(running.log().to_owned(), running.store().clone());
            let mut reader = LogReader::new(running.store(), size);
            while let Some((_, entries)) = reader.next_bundle().map_err(FleetError::from)? {
                entries.iter().try_for_each(|e| replay.apply(e).map(drop)).map_err(FleetError::from)?;
            }
            if replay.state().map(crate::state::State::digest) != Some(state) {
                found.problems.push("its state has another hash than the fleet's had".to_owned());
            }
        }
    }
    Ok(found)
}

/// Opens the canary of what was restored, with a key of this home. Gives its version.
///
/// # Errors
/// [`OpsError`], also if its value is not the known one.
pub fn open_canary(address: &Address, home: &Home, restored: &mut Fleet) -> Result<u64, OpsError> {
    let opened = open(address, None, home, restored)?;
    if opened.value.as_slice() == canary_value(&restored.state().id).as_bytes() {
        return Ok(opened.version);
    }
    Err(OpsError::Impossible(format!("{address} opens, and its value is not the known one of a canary")))
}

/// A session key, and the file that it opens.
pub type KeyAndFile = (Zeroizing<String>, Vec<u8>);

/// A secret's file and its session key, as `gpg --override-session-key` takes it: with it another program opens the body while
/// the private key stays where it is. `None` where gpg could not read the body.
///
/// # Errors
/// [`OpsError`].
pub fn session_key(address: &Address, home: &Home, fleet: &mut Fleet) -> Result<Option<KeyAndFile>, OpsError> {
    let live = fleet.state().secrets.get(address).and_then(|s| s.live.clone());
    let live = live.ok_or_else(|| OpsError::NoSecret(address.clone()))?;
    let file = fleet.store().sealed(address, &live.file).map_err(FleetError::from)?;
    let mut own = decryptors(&live, None, home, fleet)?;
    let failed = |source: SealError| OpsError::Seal { address: address.clone(), source };
    Ok(openpgp::session_key(&file, &mut own).map_err(failed)?.map(|key| (key, file)))
}
