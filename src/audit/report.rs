//! What an audit found: plain values, in a total order, that serialise to the format of `docs/formats/audit.md`.
//!
//! Times and spans are those of the log; a span is in seconds, so that whoever reads the JSON can calculate with it. There
//! are no values of secrets in it, and no private halves: the log has none.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::mapping::Mapping;
pub use super::rows::{
    Access, Cryptoperiod, KeyRow, MemberRow, MeshRow, PublishedFacts, SecretRow, SshRow, Timeliness, Vouch,
};
use crate::digest::Digest;
use crate::name::{Address, FleetName, Kind, MemberName};
use crate::policy::wireguard::Topology;
use crate::statement::RetireReason;
use crate::time::Time;
use crate::words::words;

/// The version of the format.
pub const FORMAT: u32 = 1;

/// An audit's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Which fleet.
    pub fleet: FleetName,
    /// The fleet's id: the one thing to compare with what is known from elsewhere.
    pub id: Digest,
    /// The log that was read.
    pub log: LogFacts,
    /// The period it is about.
    pub period: Period,
    /// What an auditor would write up, worst first.
    pub findings: Vec<Finding>,
    /// What was taken for too long or too late, in seconds.
    pub thresholds: BTreeMap<&'static str, u64>,
    /// Entries of the period by act.
    pub acts: BTreeMap<String, ActCount>,
    /// Everybody at the end of the period.
    pub members: Vec<MemberRow>,
    /// Every key that there ever was until then.
    pub keys: Vec<KeyRow>,
    /// Cryptoperiods that ended in the period, or run at its end.
    pub cryptoperiods: Vec<Cryptoperiod>,
    /// Every secret at the end of the period, and who could decrypt it.
    pub secrets: Vec<SecretRow>,
    /// SSH certificates that the log had decided by then.
    pub ssh: Vec<SshRow>,
    /// Who vouched for whom at the end of the period.
    pub vouches: Vec<Vouch>,
    /// The mesh at the end of the period.
    pub mesh: Vec<MeshRow>,
    /// Who is whose peer in it.
    pub topology: Topology,
    /// Every entry of the period: who proposed and signed it, and what the policy needed.
    pub approvals: Vec<Approval>,
    /// Members that left in the period, and what followed.
    pub departures: Vec<Departure>,
    /// Entries of the period without effect, or without all of it.
    pub void: Vec<VoidRow>,
    /// The longest times in the period without an entry, longest first.
    pub gaps: Vec<Gap>,
    /// Emergencies in the period.
    pub emergencies: Vec<Special>,
    /// Restore drills in the period.
    pub drills: Vec<Special>,
    /// Policies that came into force in the period.
    pub policies: Vec<PolicyChange>,
    /// Every policy until the end of the period: by version, the digests of its files.
    pub policy_files: BTreeMap<u64, BTreeMap<String, Digest>>,
    /// Which requirements of which standards a section helps to answer.
    pub mapping: Vec<Mapping>,
    /// What was checked.
    pub checked: Vec<String>,
    /// What was not, and cannot be from the log alone.
    pub not_checked: Vec<String>,
}

impl Report {
    /// The findings that are exceptions.
    pub fn exceptions(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| f.severity == Severity::Exception)
    }

    /// The findings that are remarks.
    pub fn remarks(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| f.severity == Severity::Remark)
    }

    /// Members at the end of the period, by kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.members.iter().filter(|m| m.kind == kind && m.left.is_none()).count()
    }
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogFacts {
    /// Its name.
    pub name: String,
    /// How many entries it has.
    pub size: u64,
    /// Its root hash.
    pub root: Digest,
    /// The newest time that an entry claims.
    pub newest: Time,
    /// How many entries it had at the end of the period.
    pub until: u64,
    /// Entries that fall into the period.
    pub entries: usize,
    /// Whose signatures the head carries, as its lines name them.
    pub signed_by: Vec<String>,
    /// What is published, if the policy names cosigners and the period ends now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedFacts>,
}

/// A period; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Period {
    /// Its first second.
    pub from: Time,
    /// Its last second: the time of the inventory.
    pub to: Time,
}

impl Period {
    /// Whether it holds `time`.
    pub fn has(&self, time: Time) -> bool {
        (self.from..=self.to).contains(&time)
    }
}

words! {
    /// How bad a finding is.
    Severity, "a severity":
    /// A rule of the policy, or a threshold of this report, was not kept.
    Exception = "exception",
    /// Worth knowing.
    Remark = "remark",
}

words! {
    /// A part of the report.
    Section, "a section":
    /// Members, keys, secrets.
    Inventory = "inventory",
    /// Cryptoperiods.
    Cryptoperiods = "cryptoperiods",
    /// Who approved what.
    Approvals = "approvals",
    /// Departures and what followed.
    Departures = "departures",
    /// Who could decrypt what.
    Access = "access",
    /// Entries without effect.
    Void = "void",
    /// Gaps in the record.
    Gaps = "gaps",
    /// Emergencies.
    Emergencies = "emergencies",
    /// Restore drills.
    Drills = "drills",
    /// Policies.
    Policies = "policies",
    /// SSH certificates.
    Ssh = "ssh",
    /// Who vouches for whom.
    Trust = "trust",
    /// The mesh.
    Mesh = "mesh",
}

/// Something that an auditor would write up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Where the report says more.
    pub section: Section,
    /// Whom or what it is about.
    pub subject: String,
    /// What it is.
    pub text: String,
    /// The entry that shows it.
    pub entry: Option<u64>,
}

/// How often an act happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ActCount {
    /// Entries.
    pub entries: usize,
    /// Of these, without any effect.
    pub void: usize,
    /// Of those with effect, signed by nobody but whoever proposed them.
    pub alone: usize,
}

/// An entry, as far as it is about who decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Its index.
    pub entry: u64,
    /// The statement's id.
    pub id: Digest,
    /// The act.
    pub act: String,
    /// Members, slots, secrets it is about.
    pub about: Vec<String>,
    /// Who proposed it.
    pub by: MemberName,
    /// When it was proposed.
    pub at: Time,
    /// The fleet's time once it was in the log.
    pub logged: Time,
    /// From the one to the other.
    pub delay: u64,
    /// When it was to take effect, if the policy made it wait: unless somebody objected.
    pub effect: Option<Time>,
    /// Whose signatures counted.
    pub signers: BTreeSet<MemberName>,
    /// What the policy in force needed for it, in words.
    pub need: Vec<String>,
    /// How many of whom signed.
    pub given: BTreeMap<String, usize>,
    /// Whether whoever proposed it is the only one who signed.
    pub alone: bool,
    /// Changes that took effect.
    pub applied: usize,
    /// Changes that did not.
    pub void: usize,
    /// Why, in the proposer's words.
    pub reason: String,
}

/// A member that left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Departure {
    /// The entry.
    pub entry: u64,
    /// Who.
    pub member: MemberName,
    /// What it was.
    pub kind: Kind,
    /// Why.
    pub why: RetireReason,
    /// When it was proposed: the report.
    pub reported: Time,
    /// When it was in the log: from then on nobody who replays trusts the member.
    pub logged: Time,
    /// From the one to the other.
    pub delay: u64,
    /// Who decided it.
    pub signers: BTreeSet<MemberName>,
    /// What had to follow for each secret that it could read, and when it did.
    pub secrets: BTreeMap<Address, FollowUp>,
}

words! {
    /// What has to follow, or what did.
    Measure, "a measure":
    /// A new value.
    Renewed = "renewed",
    /// The same value, no longer to it.
    Resealed = "resealed",
    /// The secret is no longer there.
    Removed = "removed",
}

/// What followed for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FollowUp {
    /// What has to follow: a new value, if the member was compromised or lost.
    pub needed: Measure,
    /// What did.
    pub done: Option<Measure>,
    /// When.
    pub at: Option<Time>,
    /// The entry.
    pub entry: Option<u64>,
    /// How long after the departure was logged.
    pub after: Option<u64>,
}

/// An entry, or changes of it, without effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VoidRow {
    /// The entry.
    pub entry: u64,
    /// The act; none if it cannot be read.
    pub act: Option<String>,
    /// Who proposed it.
    pub by: Option<MemberName>,
    /// The fleet's time.
    pub time: Time,
    /// Whether none of it took effect.
    pub whole: bool,
    /// Change by number from 0, and why.
    pub why: Vec<(usize, String)>,
    /// Whether it shows that somebody tried what they may not, rather than that two things crossed.
    pub suspicious: bool,
}

/// A time without an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Since when.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// How long.
    pub seconds: u64,
    /// The entry before it.
    pub after: u64,
}

/// An entry of an act that the report shows field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Special {
    /// The entry.
    pub entry: u64,
    /// The act.
    pub act: String,
    /// Who proposed it.
    pub by: MemberName,
    /// When it was proposed.
    pub at: Time,
    /// When it was in the log.
    pub logged: Time,
    /// From the one to the other.
    pub lag: u64,
    /// Machines that had applied an emergency before it was in the log, and since when.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub applied: BTreeMap<MemberName, Time>,
    /// Who signed.
    pub signers: BTreeSet<MemberName>,
    /// Why.
    pub reason: String,
    /// The fields of its changes.
    pub changes: Vec<serde_json::Value>,
}

/// A policy that came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyChange {
    /// The entry.
    pub entry: u64,
    /// Its version.
    pub version: u64,
    /// Who proposed it.
    pub by: MemberName,
    /// When it came into force.
    pub time: Time,
    /// Who signed it.
    pub signers: BTreeSet<MemberName>,
    /// Why.
    pub reason: String,
    /// By file: the lines that went (`-`) and came (`+`).
    pub files: BTreeMap<String, Vec<String>>,
    /// Acts that need fewer signatures than before.
    pub weaker: Vec<String>,
}
