//! The fleet's state: a deterministic fold of the log under its policy. Nothing else is authoritative.
//!
//! [`Replay::apply`] takes entries one by one. What an entry may do is decided by the state before it and the policy in
//! force there, never by a clock: the same log gives the same state in ten years. An entry, or one change of it, that
//! breaks a rule is *void*: it stays in the log, has no effect, and is reported with its reason.
//!
//! [`State::to_bytes`] writes a state, [`State::digest`] names it, and [`Replay::resume`] goes on from one that was read:
//! what it makes of the entries that follow is what a replay from the first one makes of them.

mod admission;
mod ahead;
mod backups;
mod confirm;
mod cosigners;
mod done;
mod effects;
mod emergencies;
mod enroll;
mod fold;
mod invitations;
mod key;
mod keys;
mod locks;
mod needs;
mod objections;
mod policy;
mod query;
mod secrets;
mod shared;
mod signers;
mod sites;
mod snapshots;
mod ssh;
mod suppose;
mod void;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{Address, FleetName, Kind, MemberName, Slot};
use crate::openpgp::Fingerprint;
use crate::policy::Policy;
use crate::ssh::CertificateBody;
use crate::statement::{Facts, RetireReason};
use crate::time::Time;

pub use admission::{Admission, Agreed, Asked, Decision};
pub use ahead::{Prepared, Preparer};
pub use backups::{Drill, Drills, Held};
pub use done::Done;
pub use effects::{
    AloneEffect, CertifiedEffect, Effects, InvitedEffect, KeyEffect, MeshEffect, RuleEffect, SecretEffect,
    SettingEffect, Sides, SshEffects,
};
pub use emergencies::{AppliedHere, EmergencyLogged};
pub use fold::{ObjectError, Objects, Replay, ReplayError, Verdict, Watch};
pub use invitations::Invitation;
pub use key::{KeyState, PublicKey, SlotKey, SlotKeys};
pub use locks::{Locked, Unlocked};
pub use query::{Drift, Due, ReadersError};
pub use snapshots::Recorded;
pub use ssh::SshTerms;
pub use suppose::Supposed;
pub use void::Void;
pub use written::StateError;

/// The state after some entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// The fleet's name.
    pub fleet: FleetName,
    /// The fleet's id: the id of the genesis statement.
    pub id: Digest,
    /// The log's name.
    pub log: String,
    /// How many entries it has seen.
    pub size: u64,
    /// The newest time that a counted entry claims. Expiry is judged by this, never by a clock.
    pub time: Time,
    /// The policy in force.
    pub policy: PolicyInForce,
    /// Everybody, retired members included.
    pub members: BTreeMap<MemberName, Arc<Member>>,
    /// Certificates of earlier lives of names that were given again: whose, and the last version.
    #[serde(with = "written::by_fingerprint")]
    pub former: BTreeMap<Fingerprint, (MemberName, Digest)>,
    /// Every secret, removed ones included.
    pub secrets: BTreeMap<Address, Arc<Secret>>,
    /// Who first used a key, by what the key is made of; no key is ever used twice.
    pub material: BTreeMap<Digest, MemberName>,
    /// Mesh addresses given out.
    pub mesh: MeshIndexes,
    /// SSH certificates issued, by serial.
    pub issued: BTreeMap<u64, Issued>,
    /// Serials of revoked SSH certificates.
    pub revoked_serials: BTreeSet<u64>,
    /// Statements that took effect and have not expired: none has effect twice.
    pub done: Done,
    /// Every signing subkey there ever was, with the first version of the certificate that has it: what it signed stays
    /// verifiable, whatever becomes of the certificate and of the member's name.
    pub signing: BTreeMap<String, Digest>,
    /// Statements that somebody objected to, and who: they can never take effect any more.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub objected: BTreeMap<Digest, BTreeSet<MemberName>>,
    /// Statements that have their quorum and wait for their time.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub locked: BTreeMap<Digest, Locked>,
    /// Whose private halves lie in backups: the backups by their ids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub backups: BTreeMap<MemberName, BTreeMap<Digest, Held>>,
    /// How the last restore drills went.
    #[serde(skip_serializing_if = "Drills::is_empty")]
    pub drills: Drills,
    /// The newest snapshot on record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Recorded>,
    /// Emergencies that were declared, by their ids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub emergencies: BTreeMap<Digest, EmergencyLogged>,
    /// Who may join, or has joined, by a token: the newest invitation of each name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invitations: BTreeMap<MemberName, Invitation>,
}

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyInForce {
    /// Its version, from 1.
    pub version: u64,
    /// The statement that set it.
    pub prev: Digest,
    /// Its files by name.
    pub files: BTreeMap<String, Digest>,
    /// What they say.
    #[serde(skip)]
    pub policy: Arc<Policy>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// When it joined.
    pub enrolled: Time,
    /// When and why it left.
    pub retired: Option<(Time, RetireReason)>,
    /// The index of the entry by which it left.
    pub left_by: Option<u64>,
    /// Its certificate's primary fingerprint.
    #[serde(with = "fingerprint")]
    pub fingerprint: Fingerprint,
    /// Its certificate's current version.
    pub cert: Digest,
    /// When that version expires.
    pub cert_expires: Option<Time>,
    /// Counts the changes of the certificate and of published keys, from 1.
    pub generation: u64,
    /// The statement that made the last such change.
    pub prev: Digest,
    /// Its enrolment request.
    pub request: Digest,
    /// Facts about the machine.
    pub facts: Facts,
    /// Its keys.
    pub slots: BTreeMap<Slot, SlotKeys>,
    /// The challenges that it has yet to answer, an object. Until then nothing is sealed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<Digest>,
}

impl Member {
    /// Whether it has not left.
    pub fn is_active(&self) -> bool {
        self.retired.is_none()
    }

    /// Whether secrets may be sealed to it: it has not left, and has shown that it has its keys where it was asked to.
    pub fn may_read(&self) -> bool {
        self.is_active() && self.unconfirmed.is_none()
    }

    /// The keys of `slot`.
    pub fn slot(&self, slot: Slot) -> Option<&SlotKeys> {
        self.slots.get(&slot)
    }

    /// The active key of `slot`.
    pub fn active(&self, slot: Slot) -> Option<&SlotKey> {
        self.slot(slot).and_then(SlotKeys::active)
    }
}

/// Readers and their keys. Many secrets have the same ones, and share them in memory.
pub type Readers = Arc<BTreeMap<MemberName, Vec<String>>>;
/// Names that many secrets have alike, and share in memory.
pub type Names = Arc<BTreeSet<MemberName>>;

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Counts its changes, from 1.
    pub generation: u64,
    /// The statement that made the last change.
    pub prev: Digest,
    /// What it is now; none once it is removed.
    pub live: Option<LiveSecret>,
    /// Its value's version; goes on counting after a removal.
    pub version: u64,
    /// Who was meant to read it last; a removal does not change that.
    pub meant_for: Names,
}

/// A secret that has not been removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSecret {
    /// Who sealed the value.
    pub author: MemberName,
    /// The key that signed inside.
    pub author_key: String,
    /// When the value was sealed.
    pub sealed: Time,
    /// SHA-256 of the encrypted body.
    pub body: Digest,
    /// SHA-256 of the file.
    pub file: Digest,
    /// Digest of the readers' names as the author signed them.
    pub readers_signed: Digest,
    /// The recipient set, an object.
    pub recipients: Digest,
    /// Who can read it now, and by which keys.
    pub readers: Readers,
    /// Who could ever read this value.
    pub exposed: Names,
    /// Whose compromise or loss burned this value, and when.
    pub burned: Option<(Time, MemberName)>,
    /// The shape of a structured file, an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Digest>,
    /// The parts of a large value, in order: sealed files beside the one that says how to open them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Digest>,
}

impl LiveSecret {
    /// All its files: the sealed one, then the parts of a large value.
    pub fn files(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.file).chain(&self.parts)
    }
}

/// Indexes in the mesh's address pools.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MeshIndexes {
    /// Region and index by member.
    pub used: BTreeMap<MemberName, (String, u64)>,
    /// Indexes given back, by region: until when they are not given out again.
    pub quarantined: BTreeMap<String, BTreeMap<u64, Time>>,
}

/// An SSH certificate that the log decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// For whom.
    pub member: MemberName,
    /// All that the CA signs, the serial aside.
    pub certificate: CertificateBody,
}

mod fingerprint {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::openpgp::Fingerprint;

    pub(super) fn serialize<S: Serializer>(fingerprint: &Fingerprint, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&fingerprint.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fingerprint, D::Error> {
        Fingerprint::from_hex(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
