//! Why an entry, or a change in it, has no effect.

use crate::digest::Digest;
use crate::name::{ActName, Address, Kind, MemberName, Protection, Slot};
use crate::openpgp::CertificateError;
use crate::policy::{Case, PolicyError};
use crate::state::{Admission, KeyState};
use crate::time::{Span, Time};

/// Why an entry or a change is void.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Void {
    /// The entry cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It is for another log.
    #[error("it is for the log '{0}'")]
    OtherLog(String),
    /// A genesis after the first entry, or another first entry.
    #[error("only the first entry founds a fleet, and it has to")]
    Genesis,
    /// Proposed under another version of the policy.
    #[error("it was proposed under policy {proposed}; in force is {in_force}")]
    Policy {
        /// The version it names.
        proposed: u64,
        /// The version in force.
        in_force: u64,
    },
    /// It took effect before.
    #[error("it is in the log already")]
    Done,
    /// Somebody objected.
    #[error("{0} objected to it, so it can never take effect")]
    Objected(String),
    /// A change beside it is void, and they wait together or not at all.
    #[error("another change of the same statement is void, and a statement with a time lock has effect as a whole")]
    Together,
    /// A backup that there must not be.
    #[error("a backup of the private halves of {member} is refused: {problem}")]
    BackedUp {
        /// Whose.
        member: MemberName,
        /// Why not.
        problem: &'static str,
    },
    /// A drill that restored more than there is.
    #[error("a drill cannot have restored {size} entries of a log that has {there}")]
    Drill {
        /// What it claims.
        size: u64,
        /// How many there are.
        there: u64,
    },
    /// A snapshot that cannot be right, or says nothing new.
    #[error("a snapshot of {size} entries is refused: {problem}")]
    Snapshot {
        /// How many entries it is of.
        size: u64,
        /// Why not.
        problem: String,
    },
    /// It would wait for longer than the policy lets a proposal wait.
    #[error("it would wait until {expires}; the policy lets a proposal wait {allowed}")]
    Patient {
        /// When it expires.
        expires: Time,
        /// How long it may wait.
        allowed: Span,
    },
    /// It came into the log too late.
    #[error("it expired at {0} before it was in the log")]
    Expired(Time),
    /// Its author is none of those who signed it.
    #[error("{0} is named as its author and has not signed it")]
    Author(MemberName),
    /// The signatures do not meet the quorum.
    #[error("{act} lacks signatures: {missing}")]
    Quorum {
        /// The act.
        act: ActName,
        /// What is missing.
        missing: String,
    },
    /// The policy in force lets nobody do it.
    #[error("the policy has no rule that allows {act}{case}: there is no [[quorum]] for it in policy/fleet.toml", case = in_case(.case))]
    NoRule {
        /// The act.
        act: ActName,
        /// The case, where the act has cases and only this one has no rule.
        case: Option<Case>,
    },
    /// No such member, or one that has left.
    #[error("{0} is not a member, or has left")]
    NoMember(MemberName),
    /// The name is taken.
    #[error("{0} is a member already")]
    NameTaken(MemberName),
    /// Its private halves lie less guarded than the policy wants.
    #[error(
        "the private halves of {member} are guarded by '{has}', as its request says; the policy wants '{wanted}' at least"
    )]
    Unprotected {
        /// Who joins.
        member: MemberName,
        /// What guards them.
        has: Protection,
        /// What has to.
        wanted: Protection,
    },
    /// A name that does not fit the kind.
    #[error("{member} cannot be a {kind}: {problem}")]
    KindMismatch {
        /// The name.
        member: MemberName,
        /// The kind.
        kind: Kind,
        /// What does not fit.
        problem: &'static str,
    },
    /// The subject has changed since it was proposed.
    #[error("{subject} has changed meanwhile: it is at generation {found}, this would make {proposed}")]
    Stale {
        /// The member, slot, secret or policy.
        subject: String,
        /// The generation it is at.
        found: u64,
        /// The generation the change would make.
        proposed: u64,
    },
    /// A certificate that is not acceptable.
    #[error("the certificate of {member} {problem}")]
    Certificate {
        /// Whose.
        member: MemberName,
        /// Why.
        problem: CertificateError,
    },
    /// Too few operators vouch for a certificate.
    #[error("{found} of {needed} operators vouch for the certificate of {member}")]
    Unvouched {
        /// Whose.
        member: MemberName,
        /// How many do.
        found: usize,
        /// How many have to.
        needed: usize,
    },
    /// A request that does not belong to the enrolment.
    #[error("the request of {member}: {problem}")]
    Request {
        /// Whose.
        member: MemberName,
        /// What is wrong.
        problem: String,
    },
    /// Answers that show nothing.
    #[error("the answers of {member}: {problem}")]
    Answers {
        /// Whose.
        member: MemberName,
        /// What is wrong.
        problem: &'static str,
    },
    /// An invitation that there must not be, or is not there.
    #[error("the invitation of {member}: {problem}")]
    Invitation {
        /// Who is invited.
        member: MemberName,
        /// What is wrong.
        problem: String,
    },
    /// A request that does not join by its invitation.
    #[error("{member} does not join by its invitation ({admission}): {why}")]
    Admission {
        /// Who asked.
        member: MemberName,
        /// The result.
        admission: Admission,
        /// In words.
        why: String,
    },
    /// A key that is not acceptable.
    #[error("the {slot} key '{key}' of {member} {problem}")]
    Key {
        /// Whose.
        member: MemberName,
        /// The slot.
        slot: Slot,
        /// The key, made safe to show.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A key that somebody uses or used already.
    #[error("the {slot} key of {member} is used by {by} already; a copied image or key cannot join")]
    KeyReused {
        /// Whose.
        member: MemberName,
        /// The slot.
        slot: Slot,
        /// Who used it first.
        by: MemberName,
    },
    /// A transition the state table does not have.
    #[error("the {slot} key of {member} is {found}; {needed} is needed")]
    Transition {
        /// Whose.
        member: MemberName,
        /// The slot.
        slot: Slot,
        /// Its state, if it exists at all.
        found: String,
        /// The state it has to be in.
        needed: KeyState,
    },
    /// Slots without keys, or with too many.
    #[error("{member} has {problem}")]
    Slots {
        /// Who.
        member: MemberName,
        /// What is wrong.
        problem: String,
    },
    /// No address is left, or the region has no pool.
    #[error("{member} gets no mesh address: {problem}")]
    Address {
        /// Who.
        member: MemberName,
        /// Why.
        problem: String,
    },
    /// A secret's change that the policy or the state forbids.
    #[error("the secret {address}: {problem}")]
    Secret {
        /// Which.
        address: Address,
        /// Why.
        problem: String,
    },
    /// An SSH certificate outside the policy.
    #[error("the SSH certificate for {member}: {problem}")]
    Ssh {
        /// For whom.
        member: MemberName,
        /// Why.
        problem: String,
    },
    /// A policy that cannot be read or would lock everybody out.
    #[error("the policy is refused: {0}")]
    BadPolicy(String),
    /// An object that is not what its change says.
    #[error("the object {object:?} is not what it has to be: {problem}")]
    Object {
        /// Which.
        object: Digest,
        /// Why.
        problem: String,
    },
    /// It would leave too few for a rule of the policy.
    #[error(
        "{member} is needed: after it only {there} of {role} would be left, and {act} takes more; change the policy first, or admit somebody"
    )]
    Needed {
        /// Who would leave.
        member: MemberName,
        /// The act that nobody could do any more.
        act: ActName,
        /// The role that would be short.
        role: &'static str,
        /// How many would be left.
        there: usize,
    },
    /// A reason that was kept as it was told, by the same program.
    #[error("{0}")]
    Told(String),
    /// It would leave nobody to act.
    #[error("{0} is the last of its kind")]
    Last(MemberName),
}

fn in_case(case: &Option<Case>) -> String {
    case.map(|c| format!(" ({c})")).unwrap_or_default()
}

impl From<PolicyError> for Void {
    fn from(e: PolicyError) -> Self {
        Self::BadPolicy(e.to_string())
    }
}
