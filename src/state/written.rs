//! The state as bytes: what its digest is taken of, what a snapshot holds, and how a replay goes on from there.
//!
//! One line of canonical JSON and a line feed (see `docs/formats/state.md`). The policy is written as its version and the
//! digests of its files, and parsed again from these. A field that comes later is left out while it is empty, so that
//! states which do not need it keep their digest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fold::{Objects, Stop};
use super::policy::read_policy;
use super::shared;
use super::{
    Done, Drills, EmergencyLogged, Held, Invitation, Issued, Locked, Member, MeshIndexes, ObjectError, PolicyInForce,
    Recorded, Secret, State,
};
use crate::digest::Digest;
use crate::json::{self, JsonError};
use crate::name::{Address, FleetName, MemberName};
use crate::openpgp::Fingerprint;
use crate::time::Time;

/// The version of the form.
const VERSION: u64 = 1;

/// Why bytes are not a state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Not canonical JSON, or not the fields of a state.
    #[error("the state {0}")]
    Json(#[from] JsonError),
    /// Written by a program that knows more, or less.
    #[error("the state has the version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// It does not end with its line.
    #[error("the state does not end with a line feed")]
    Torn,
    /// A file of the policy in force could not be had.
    #[error("the state's policy: {0}")]
    Object(#[from] ObjectError),
    /// The policy in force cannot be read.
    #[error("the state's policy cannot be read: {0}")]
    Policy(String),
}

/// What is written.
#[derive(Serialize)]
struct Whole<'a> {
    v: u64,
    #[serde(flatten)]
    state: &'a State,
}

/// What every version has.
#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

/// What is read, before the policy is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    v: u64,
    fleet: FleetName,
    id: Digest,
    log: String,
    size: u64,
    time: Time,
    policy: PolicyParts,
    members: BTreeMap<MemberName, Arc<Member>>,
    #[serde(with = "by_fingerprint")]
    former: BTreeMap<Fingerprint, (MemberName, Digest)>,
    #[serde(deserialize_with = "shared::secrets")]
    secrets: BTreeMap<Address, Arc<Secret>>,
    material: BTreeMap<Digest, MemberName>,
    mesh: MeshIndexes,
    issued: BTreeMap<u64, Issued>,
    revoked_serials: BTreeSet<u64>,
    done: Done,
    signing: BTreeMap<String, Digest>,
    #[serde(default)]
    objected: BTreeMap<Digest, BTreeSet<MemberName>>,
    #[serde(default)]
    locked: BTreeMap<Digest, Locked>,
    #[serde(default)]
    backups: BTreeMap<MemberName, BTreeMap<Digest, Held>>,
    #[serde(default)]
    drills: Drills,
    #[serde(default)]
    snapshot: Option<Recorded>,
    #[serde(default)]
    emergencies: BTreeMap<Digest, EmergencyLogged>,
    #[serde(default)]
    invitations: BTreeMap<MemberName, Invitation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyParts {
    version: u64,
    prev: Digest,
    files: BTreeMap<String, Digest>,
}

impl State {
    /// The state as bytes: the same bytes for the same log, whoever replays it.
    ///
    /// # Panics
    /// If a part of it has no form in JSON, which is a bug in that part.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        bytes
    }

    /// Writes the same bytes behind others.
    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>) {
        json::append_canonical(bytes, &Whole { v: VERSION, state: self });
        bytes.push(b'\n');
    }

    /// The *state hash*: SHA-256 of [`State::to_bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Reads a state. Who may be believed that it is a fleet's state, the caller knows: by its digest.
    ///
    /// # Errors
    /// [`StateError`]; every other spelling of the same state is one.
    pub fn parse(bytes: &[u8], objects: &impl Objects) -> Result<Self, StateError> {
        let state = Self::parse_own(bytes, objects)?;
        // Whatever the types let pass (an unknown field inside, a number or a name spelled otherwise) is not what we write.
        json::is_written(&bytes[..bytes.len() - 1], &Whole { v: VERSION, state: &state })?;
        Ok(state)
    }

    /// Reads a state of which is known that this program has written it, as it is: without comparing it with what would be
    /// written now.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn parse_own(bytes: &[u8], objects: &impl Objects) -> Result<Self, StateError> {
        let line = bytes.strip_suffix(b"\n").ok_or(StateError::Torn)?;
        let parts: Parts = json::read(line).map_err(|e| match json::read::<Versioned>(line) {
            // A later version may have other fields.
            Ok(Versioned { v }) if v != VERSION => StateError::Version(v),
            _ => e.into(),
        })?;
        match parts.v {
            VERSION => parts.with_policy(objects),
            v => Err(StateError::Version(v)),
        }
    }
}

impl Parts {
    fn with_policy(self, objects: &impl Objects) -> Result<State, StateError> {
        let policy = read_policy(&self.policy.files, objects).map_err(|stop| match stop {
            Stop::Object(e) => StateError::Object(e),
            Stop::Void(void) => StateError::Policy(void.to_string()),
            Stop::Openpgp(e) => StateError::Policy(e.to_string()),
        })?;
        let PolicyParts { version, prev, files } = self.policy;
        Ok(State {
            fleet: self.fleet,
            id: self.id,
            log: self.log,
            size: self.size,
            time: self.time,
            policy: PolicyInForce { version, prev, files, policy: Arc::new(policy) },
            members: self.members,
            former: self.former,
            secrets: self.secrets,
            material: self.material,
            mesh: self.mesh,
            issued: self.issued,
            revoked_serials: self.revoked_serials,
            done: self.done,
            signing: self.signing,
            objected: self.objected,
            locked: self.locked,
            backups: self.backups,
            drills: self.drills,
            snapshot: self.snapshot,
            emergencies: self.emergencies,
            invitations: self.invitations,
        })
    }
}

/// Maps by fingerprint, in hexadecimal.
pub(super) mod by_fingerprint {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::openpgp::Fingerprint;

    pub(crate) fn serialize<S: Serializer, T: Serialize>(
        map: &BTreeMap<Fingerprint, T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(fingerprint, value)| (fingerprint.to_hex(), value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Fingerprint, T>, D::Error> {
        let map = BTreeMap::<String, T>::deserialize(deserializer)?;
        let parse = |(hex, value): (String, T)| Ok((Fingerprint::from_hex(&hex)?, value));
        map.into_iter()
            .map(parse)
            .collect::<Result<_, sequoia_openpgp::anyhow::Error>>()
            .map_err(serde::de::Error::custom)
    }
}
