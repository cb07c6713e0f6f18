//! The acts and the changes they consist of.
//!
//! Every change names its subject (a member, a slot, a secret, the policy) and, unless it only stops something, the
//! subject's `gen`eration after it and the id of the statement that changed the subject before (`prev`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{ActName, Address, FleetName, Kind, MemberName, Slot};
use crate::ssh::CertificateBody;
use crate::words::words;

/// An act with its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// See [`ActName::Genesis`].
    Genesis(Genesis),
    /// See [`ActName::PolicyUpdate`].
    PolicyUpdate(PolicyUpdate),
    /// See [`ActName::Enroll`].
    Enroll(Vec<Enroll>),
    /// See [`ActName::Confirm`].
    Confirm(Vec<Confirm>),
    /// See [`ActName::Retire`].
    Retire(Vec<Retire>),
    /// See [`ActName::Publish`].
    Publish(Vec<Publish>),
    /// See [`ActName::Certify`].
    Certify(Vec<Certify>),
    /// See [`ActName::Activate`].
    Activate(Vec<Activate>),
    /// See [`ActName::Destroy`].
    Destroy(Vec<Destroy>),
    /// See [`ActName::Seal`].
    Seal(Vec<Seal>),
    /// See [`ActName::Reseal`].
    Reseal(Vec<Reseal>),
    /// See [`ActName::Remove`].
    Remove(Vec<Remove>),
    /// See [`ActName::SshIssue`]. Always one: the certificate's serial is the entry's place in the log.
    SshIssue(Issue),
    /// See [`ActName::SshRevoke`].
    SshRevoke(Vec<RevokeIssued>),
    /// See [`ActName::Object`].
    Object(Vec<Objection>),
    /// See [`ActName::Backup`].
    Backup(Vec<BackupMade>),
    /// See [`ActName::Drill`].
    Drill(Vec<RestoreDrill>),
    /// See [`ActName::Snapshot`].
    Snapshot(Snapshot),
    /// See [`ActName::Rekey`].
    Rekey(Rekey),
    /// See [`ActName::Emergency`].
    Emergency(Vec<Stop>),
    /// See [`ActName::Invite`]. Always one: the invitations are an object.
    Invite(Invite),
    /// See [`ActName::Uninvite`].
    Uninvite(Vec<Uninvite>),
}

impl Act {
    /// Its name.
    pub fn name(&self) -> ActName {
        match self {
            Self::Genesis(_) => ActName::Genesis,
            Self::PolicyUpdate(_) => ActName::PolicyUpdate,
            Self::Enroll(_) => ActName::Enroll,
            Self::Confirm(_) => ActName::Confirm,
            Self::Retire(_) => ActName::Retire,
            Self::Publish(_) => ActName::Publish,
            Self::Certify(_) => ActName::Certify,
            Self::Activate(_) => ActName::Activate,
            Self::Destroy(_) => ActName::Destroy,
            Self::Seal(_) => ActName::Seal,
            Self::Reseal(_) => ActName::Reseal,
            Self::Remove(_) => ActName::Remove,
            Self::SshIssue(_) => ActName::SshIssue,
            Self::SshRevoke(_) => ActName::SshRevoke,
            Self::Object(_) => ActName::Object,
            Self::Backup(_) => ActName::Backup,
            Self::Drill(_) => ActName::Drill,
            Self::Snapshot(_) => ActName::Snapshot,
            Self::Rekey(_) => ActName::Rekey,
            Self::Emergency(_) => ActName::Emergency,
            Self::Invite(_) => ActName::Invite,
            Self::Uninvite(_) => ActName::Uninvite,
        }
    }

    /// The digests of the objects that its changes refer to, each with what it is. These, with policy, certificates
    /// and sealed files, are all that a keyring may hold beside the log.
    pub fn objects(&self) -> Vec<(Digest, ObjectKind)> {
        use ObjectKind as K;
        let enroll = |e: &Enroll| {
            let challenges = e.challenges.map(|d| (d, K::Challenges));
            [(e.request, K::Request), (e.cert, K::Certificate)].into_iter().chain(challenges).collect::<Vec<_>>()
        };
        match self {
            Self::Genesis(g) => {
                let policy = g.policy.values().map(|d| (*d, K::Policy));
                policy.chain(g.members.iter().flat_map(enroll)).collect()
            }
            Self::PolicyUpdate(p) => p.policy.values().map(|d| (*d, K::Policy)).collect(),
            Self::Enroll(list) => list.iter().flat_map(enroll).collect(),
            Self::Retire(list) => list.iter().filter_map(|c| c.cert).map(|d| (d, K::Certificate)).collect(),
            Self::Publish(list) => {
                let exchanges = list.iter().flat_map(|c| &c.keys).filter_map(|k| k.exchange);
                let exchanges = exchanges.map(|e| (e.object, K::Exchange));
                list.iter().filter_map(|c| c.cert).map(|d| (d, K::Certificate)).chain(exchanges).collect()
            }
            Self::Certify(list) => list.iter().map(|c| (c.cert, K::Certificate)).collect(),
            Self::Seal(list) => {
                let shapes = list.iter().filter_map(|c| c.shape).map(|d| (d, K::Shape));
                let parts = list.iter().flat_map(|c| &c.parts).map(|d| (*d, K::Sealed));
                let own = list.iter().flat_map(|c| [(c.recipients, K::Recipients), (c.file, K::Sealed)]);
                own.chain(shapes).chain(parts).collect()
            }
            Self::Reseal(list) => {
                list.iter().flat_map(|c| [(c.recipients, K::Recipients), (c.file, K::Sealed)]).collect()
            }
            Self::Snapshot(c) => vec![(c.state, K::State)],
            Self::Invite(c) => vec![(c.invitations, K::Invitations)],
            Self::Confirm(_)
            | Self::Activate(_)
            | Self::Destroy(_)
            | Self::Remove(_)
            | Self::SshIssue(_)
            | Self::SshRevoke(_)
            | Self::Object(_)
            | Self::Backup(_)
            | Self::Drill(_)
            | Self::Rekey(_)
            | Self::Emergency(_)
            | Self::Uninvite(_) => Vec::new(),
        }
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A policy file.
    Policy,
    /// An enrolment request.
    Request,
    /// A certificate's version.
    Certificate,
    /// A recipient set.
    Recipients,
    /// A state, as its bytes are written. Whoever replays the log can make it again.
    State,
    /// The shape of a structured file.
    Shape,
    /// A preshared-key exchange of a WireGuard lane.
    Exchange,
    /// A list of invitations.
    Invitations,
    /// What a newcomer has to answer.
    Challenges,
    /// A sealed file, always the last of these. Kept at its address, not among the objects, once the log has it; earlier versions are not kept.
    Sealed,
}

/// The founding of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The fleet's name.
    pub fleet: FleetName,
    /// The founding members: operators and at least one authority, which holds the log's key.
    pub members: Vec<Enroll>,
    /// The policy's files by name.
    pub policy: BTreeMap<String, Digest>,
}

/// A new policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyUpdate {
    /// The policy's version after this.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// The policy's files by name.
    pub policy: BTreeMap<String, Digest>,
    /// The statement that set the policy before.
    pub prev: Digest,
}

/// A new member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enroll {
    /// The certificate as certified.
    pub cert: Digest,
    /// What it has to answer before anything is sealed to it, a list of [`super::Challenges`]; nothing where none are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenges: Option<Digest>,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub member: MemberName,
    /// The request it signed on its own machine, with its keys.
    pub request: Digest,
}

/// A newcomer answers its challenges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// The answers, in the order of its challenges.
    pub answers: Vec<Digest>,
    /// Who.
    pub member: MemberName,
}

words! {
    /// Why a member leaves.
    RetireReason, "a reason":
    /// Its keys are, or may be, in wrong hands. What it could read is burned.
    Compromised = "compromised",
    /// It leaves in order.
    Retired = "retired",
    /// The machine is gone, and whether anybody has its keys is not known. What it could read is burned.
    Lost = "lost",
}

impl RetireReason {
    /// Whether what the member could read has to count as known to others.
    pub fn burns(self) -> bool {
        match self {
            Self::Compromised | Self::Lost => true,
            Self::Retired => false,
        }
    }
}

/// A member leaves. It needs no `prev`: stopping must win over whatever happens at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retire {
    /// Its certificate with a revocation, where one was at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<Digest>,
    /// Who.
    pub member: MemberName,
    /// Why.
    pub why: RetireReason,
}

/// A preshared-key exchange, by its digests: a peer reads the head and its own part alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeDigests {
    /// SHA-256 of its head.
    pub head: Digest,
    /// SHA-256 of all of it, which is the object.
    pub object: Digest,
}

/// A new standby key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedKey {
    /// The preshared-key exchange that goes with it, for WireGuard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeDigests>,
    /// The public half, in the form its slot has.
    pub key: String,
    /// The lane, for WireGuard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<crate::wireguard::Lane>,
    /// The slot.
    pub slot: Slot,
}

/// An owner publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The certificate's new version, if it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<Digest>,
    /// The member's generation after this.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// New standby keys.
    pub keys: Vec<PublishedKey>,
    /// Whose.
    pub member: MemberName,
    /// The statement that changed the member before.
    pub prev: Digest,
}

/// Certifications of a certificate change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certify {
    /// The certificate's new version.
    pub cert: Digest,
    /// The member's generation after this.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// Whose certificate.
    pub member: MemberName,
    /// The statement that changed the member before.
    pub prev: Digest,
}

/// A standby key becomes active; the active one is deactivated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// The slot's generation after this.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// The standby key.
    pub key: String,
    /// Whose.
    pub member: MemberName,
    /// The statement that changed the slot's active key before.
    pub prev: Digest,
    /// The slot.
    pub slot: Slot,
}

/// A deactivated key no longer exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destroy {
    /// The key.
    pub key: String,
    /// Whose.
    pub member: MemberName,
    /// The slot.
    pub slot: Slot,
}

/// A secret's (new) value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Where.
    pub address: Address,
    /// The fingerprint of the key that signed inside; an active signing key of the statement's author.
    pub author: String,
    /// SHA-256 of the encrypted body.
    pub body: Digest,
    /// SHA-256 of the whole file.
    pub file: Digest,
    /// The secret's generation after this.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// SHA-256 of the parts that a large value was cut into, in order; none for a value that is in the file itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Digest>,
    /// The statement that changed the secret before; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Digest>,
    /// The recipient set, an object.
    pub recipients: Digest,
    /// The shape of a structured file, an object; none for a value that is sealed whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Digest>,
    /// The value's version, from 1.
    pub version: u64,
}

/// A secret's other recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reseal {
    /// Where.
    pub address: Address,
    /// SHA-256 of the encrypted body: that of the seal.
    pub body: Digest,
    /// SHA-256 of the whole file.
    pub file: Digest,
    /// The secret's generation after this.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// The statement that changed the secret before.
    pub prev: Digest,
    /// The recipient set, an object.
    pub recipients: Digest,
}

/// A secret is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Where.
    pub address: Address,
    /// The secret's generation after this.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// The statement that changed the secret before.
    pub prev: Digest,
}

/// An SSH certificate, decided here before it is signed. Its serial is the entry's index + 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issue {
    /// All that the CA signs, the serial aside.
    pub certificate: CertificateBody,
    /// For whom.
    pub member: MemberName,
}

/// SSH certificates are revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeIssued {
    /// Their serials.
    pub serials: BTreeSet<u64>,
}

/// A statement that must not take effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objection {
    /// The statement's id.
    pub statement: Digest,
}

/// A backup has private halves of a member in it. Logged before the backup is written, so that there is none that the log
/// does not know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupMade {
    /// The backup's id.
    pub backup: Digest,
    /// Who holds shares: members by name, others by the fingerprints of their certificates.
    pub custodians: BTreeSet<String>,
    /// Whose private halves.
    pub member: MemberName,
    /// How many custodians open it together.
    pub need: u64,
}

words! {
    /// How a drill ended.
    Outcome, "an outcome":
    /// Everything was restored, and the canary opened.
    Good = "good",
    /// Something was not as it should be.
    Failed = "failed",
}

/// A restore that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreDrill {
    /// The backup's id; none if the keyring itself was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Digest>,
    /// The version of the canary that was opened, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// The root of the log that came out; of nothing, where none did.
    pub root: Digest,
    /// How long it took.
    pub seconds: u64,
    /// How many entries that log has.
    pub size: u64,
    /// The hash of the state that replaying it gave.
    pub state: Digest,
}

/// What replaying the log comes to, at a size: for those who start from there instead of replaying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The root of the tree of so many entries.
    pub root: Digest,
    /// How many entries.
    pub size: u64,
    /// The hash of the state after them, which is an object's digest.
    pub state: Digest,
}

/// An authority's standby log key becomes the one that signs heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rekey {
    /// The slot's generation after this.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// The standby key, a C2SP verifier key.
    pub key: String,
    /// The authority.
    pub member: MemberName,
    /// The statement that changed the slot before.
    pub prev: Digest,
    /// What became of the key before.
    pub why: RetireReason,
}

words! {
    /// Why a member is stopped.
    StopReason, "a reason to stop a member":
    /// Its keys are in wrong hands, or may be.
    Compromised = "compromised",
    /// Its keys are gone, and nobody knows where to.
    Lost = "lost",
}

impl From<StopReason> for RetireReason {
    fn from(why: StopReason) -> Self {
        match why {
            StopReason::Compromised => Self::Compromised,
            StopReason::Lost => Self::Lost,
        }
    }
}

/// A member is out at once, with its services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Who.
    pub member: MemberName,
    /// Why.
    pub why: StopReason,
}

/// Machines may join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// The list of invitations, an object ([`super::Invitations`]): a thousand do not fit into an entry.
    pub invitations: Digest,
}

/// An invitation is withdrawn. Like every change that only stops something, it names no predecessor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uninvite {
    /// Who was invited.
    pub member: MemberName,
    /// By which token.
    pub token: super::TokenKey,
}
