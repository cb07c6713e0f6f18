//! What people and machines do with a fleet: found, join, seal, open, rotate, catch up, revoke, issue.
//!
//! Each module takes an opened [`Fleet`](crate::fleet::Fleet) and the [`Home`](crate::home::Home) of whoever acts, and
//! either gives an answer or a plan that can be shown, compared and carried out; the terminal, the clock and the
//! environment are the caller's. Entropy is an argument, OpenPGP's own aside.
//!
//! A fleet of one operator, from its founding to a rotation that is planned:
//!
//! ```
//! use keys::disk::{Access, Disk, RealFiles};
//! use keys::fleet::{Fleet, Known, Placed};
//! use keys::home::Home;
//! use keys::name::Kind;
//! use keys::openpgp::Profile;
//! use keys::ops::{self, Founder, Founding, Joining, Selection};
//! use keys::statement::Facts;
//! use keys::store::Store;
//! use keys::time::Time;
//! use rand::SeedableRng as _;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::tempdir()?;
//! # let directory = place.path();
//! // Time and entropy are the caller's. A real caller seeds from the system: `StdRng::try_from_rng(&mut SysRng)`.
//! let now = Time::parse("2026-11-21T07:00:00Z").ok_or("no time")?;
//! let mut rng = rand::rngs::StdRng::from_seed(*b"a public seed, for examples only");
//! let keyring = Disk::new(RealFiles::create(&directory.join("keyring"), Access::Public)?);
//! let policy = Disk::new(RealFiles::create(&directory.join("policy"), Access::Public)?);
//! let alice = Home::create(&directory.join("alice"))?;
//! let founding = Founding {
//!     fleet: "cdn.example".parse()?,
//!     profile: Profile::Compat,
//!     founders: vec![Founder::Here { name: "alice".parse()?, user_id: "Alice <alice@ops.example>".into() }],
//!     authority: "casc1".parse()?,
//!     reason: "the fleet is founded".into(),
//! };
//! ops::found(&founding, &alice, &keyring, &policy, now, &mut rng)?;
//!
//! // A machine makes its keys and asks; the operator's home, which holds the authority too, admits it.
//! let store = Store::new(keyring);
//! let open = || Fleet::open(store.clone(), &Known::default(), now, &mut |_, _| {});
//! let fra1 = Home::create(&directory.join("fra1"))?;
//! let joining = Joining {
//!     member: "fra1".parse()?,
//!     kind: Kind::Pop,
//!     services: vec!["nginx".parse()?],
//!     facts: Facts::default(),
//!     user_id: None,
//! };
//! let request = ops::ask(&joining, &fra1, &mut open()?, &mut rng)?;
//! let mut fleet = open()?;
//! let admission = ops::admit(&request, "a new site", &alice, &mut fleet, &mut rng)?;
//! let placed = ops::carry_out(&alice, &mut fleet, vec![admission], None)?;
//! assert!(matches!(placed[..], [Placed::Logged { .. }]));
//!
//! // Seal as the operator, open as the service.
//! let address = "nginx@fra1/tls.key".parse()?;
//! let plan = ops::plan_seal(&address, &mut fleet)?;
//! let sealed = ops::seal(&plan, b"the value", "first", None, &alice, &mut fleet)?;
//! ops::carry_out(&alice, &mut fleet, vec![sealed], None)?;
//! let opened = ops::open(&address, None, &fra1, &mut open()?)?;
//! assert_eq!(opened.value.as_slice(), b"the value");
//!
//! // Plan a rotation: a value that can be shown, and is what is carried out.
//! let selection = Selection { members: Some("nginx@*".parse()?), slot: None, due: false, soon: false };
//! let plan = ops::plan_rotate(&selection, fleet.state(), fleet.now())?;
//! assert_eq!(plan.rotations.len(), 1);
//! assert!(!plan.rotations[0].scheduled, "its cryptoperiod is not over");
//! # Ok(()) }
//! ```

mod act;
mod admit;
mod backup;
mod bootstrap;
mod break_glass;
mod confirm;
mod dns;
mod drill;
mod emergency;
mod export;
mod found;
mod import;
mod invite;
mod join;
mod krl;
mod large;
mod lint;
mod login;
mod mesh;
mod open;
mod outbox;
mod psk;
mod render;
mod renew;
mod reseal;
mod restore;
mod revoke;
mod ring;
mod rotate;
mod seal;
mod snapshot;
mod ssh;
mod sync;
mod template;
mod whence;

use crate::backup::{ArchiveError, ContentsError, ShareError};
use crate::digest::Digest;
use crate::fleet::FleetError;
use crate::formats::ShapeError;
use crate::home::HomeError;
use crate::limits::PART_BYTES;
use crate::name::{Address, FleetName, MemberName, NameError, Slot};
use crate::openpgp::{CertificateError, OpenpgpError, SealError};
use crate::policy::PolicyError;
use crate::ssh::KrlError;
use crate::state::{Decision, ReadersError, Void};

pub use act::{carry_out, sequencer, signers};
pub use admit::{admit, grant, is_admitted, waiting_requests};
pub use backup::{
    BackupPlan, Custodian, Sources, adopt_id, backup_draft, check_holds, check_share, open_share, plan_backup,
    verify_backup, write_backup,
};
pub use bootstrap::{Stage, is_signed_by, stage};
pub use break_glass::{BreakGlassWish, check_break_glass, issue_break_glass, order_break_glass};
pub use dns::{DnsData, DnsRecord, DnsRecords, dns_records};
pub use drill::{
    CANARY, DrillFindings, KeyAndFile, canary, canary_value, compare, copy_keyring, open_canary, session_key,
};
pub use emergency::{Fate, apply_emergency, deciders, hand_in_emergencies, plan_emergency};
pub use export::ForeignReader;
pub use found::{Founded, Founder, Founding, approve_founding, found};
pub use import::{Fate as ImportFate, ImportPlan, Incoming, plan_import};
pub use invite::{Inviting, Terms, hardware_uuid, invite_draft, parse_inventory, plan_invite, plan_uninvite};
pub use join::{Joining, Ticket, ask, ask_by_invitation, ask_to_found};
pub use krl::{KrlAge, KrlCheck, SerialsPlan, certificates_of, check_krl, krl, krl_bytes, plan_revoke_serials};
pub use large::{Large, Parted, open_large, seal_large};
pub use lint::{Lint, duplicate_values, lint, sealed_file};
pub use mesh::{agent_wants, check_policy, ends, fixed_peers, mesh, mesh_findings, wanted_lanes, wireguard_files};
pub use open::{Opened, open, open_foreign, open_version, select};
pub use outbox::{Outgoing, outbox};
pub use psk::{Preshared, preshared_keys, without_exchange};
pub use render::{NodePaths, node_files, wanted_of_ssh};
pub use renew::{RenewPlan, Renewal, Renewing, Why, generate, plan_renew};
pub use reseal::{ResealPlan, Stuck, plan_reseal};
pub use restore::{Confirmed, Place, Restored, confirm, forget_request, open_shares, prepare, restore};
pub use revoke::{RevokePlan, plan_revoke};
pub use ring::{Ring, export_ring};
pub use rotate::{RotatePlan, Rotation, Selection, Skipped, plan_rekey, plan_rotate};
pub use seal::{SealPlan, plan_remove, plan_seal, plan_seal_without, seal, seal_all, shape_of};
pub use snapshot::plan_snapshot;
pub use ssh::{IssuePlan, issue_all, issue_pending, issued_certificate, plan_host, plan_user, uncertified_hosts};
pub use sync::{SyncPlan, destroy_private, plan_sync, sync_todo};
pub use template::{Filter, Template, TemplateError};
pub use whence::name_entries;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// The fleet.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// OpenPGP.
    #[error(transparent)]
    Openpgp(#[from] OpenpgpError),
    /// A certificate.
    #[error("the certificate of {member} {problem}")]
    Certificate {
        /// Whose.
        member: MemberName,
        /// What is wrong.
        problem: CertificateError,
    },
    /// A policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A rule says no.
    #[error(transparent)]
    Void(#[from] Void),
    /// A secret cannot be sealed or opened.
    #[error("{address}: {source}")]
    Seal {
        /// Which.
        address: Address,
        /// Why.
        source: SealError,
    },
    /// The value is in parts, which only [`open_large`] opens.
    #[error("{address} is too large to be held in memory: {parts} parts of up to {} MiB", PART_BYTES >> 20)]
    Large {
        /// Which.
        address: Address,
        /// How many parts.
        parts: usize,
    },
    /// A part of a large value is not as it has to be.
    #[error("{address}: part {part} of {of} {problem}")]
    Part {
        /// Which.
        address: Address,
        /// Which part, from 1.
        part: usize,
        /// Of how many.
        of: usize,
        /// What is wrong.
        problem: String,
    },
    /// A large value cannot be read or kept meanwhile.
    #[error("cannot {doing} the value: {source}")]
    Spool {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A structured file has no shape.
    #[error("{address}: {source}")]
    Shape {
        /// Which.
        address: Address,
        /// Why.
        source: ShapeError,
    },
    /// The shape that the log has is not that of the value.
    #[error("{address}: its shape on record is not that of its value")]
    Misshapen {
        /// Which.
        address: Address,
    },
    /// The policy gives the secret no readers, or not these.
    #[error("{address}: {source}")]
    Readers {
        /// Which.
        address: Address,
        /// Why.
        source: ReadersError,
    },
    /// A reader is not to be trusted now.
    #[error("{address} cannot be sealed to {reader}: {problem}")]
    Reader {
        /// Which.
        address: Address,
        /// Who.
        reader: MemberName,
        /// Why.
        problem: Void,
    },
    /// A change of the secret waits to be taken in.
    #[error("{address}: a change of it is complete and waits for whoever has the log's key (proposal {})", id.short())]
    Underway {
        /// Which.
        address: Address,
        /// The waiting statement.
        id: Digest,
    },
    /// There is no such secret.
    #[error("there is no secret {0}")]
    NoSecret(Address),
    /// No secret's address matches.
    #[error("no secret matches '{}'", crate::text::shown(.0))]
    NoSecrets(String),
    /// There is no such member.
    #[error("{0} is not a member of this fleet, or has left")]
    NoMember(MemberName),
    /// Nothing matches.
    #[error("no active member matches '{0}'")]
    NoMatch(String),
    /// This home cannot do it.
    #[error("this home has no {0}")]
    NoActor(&'static str),
    /// Nobody was invited by that name, or the invitation is good no more.
    #[error("{0} has no invitation that could be withdrawn")]
    NoInvitation(MemberName),
    /// A key that is needed is elsewhere.
    #[error("the {slot} key of {member} is not in this home")]
    KeyElsewhere {
        /// Whose.
        member: MemberName,
        /// The slot.
        slot: Slot,
    },
    /// A request that cannot be used.
    #[error("the request {0}")]
    Request(String),
    /// Nothing can come of joining by this invitation.
    #[error("{member} cannot join by this invitation ({}): {}", decision.admission, decision.why)]
    Refused {
        /// Who would join.
        member: MemberName,
        /// The result.
        decision: Decision,
    },
    /// A file or directory is in the way.
    #[error("{0} is not empty; a new fleet needs a place of its own")]
    InTheWay(String),
    /// The home belongs to a fleet already.
    #[error("this home belongs to the fleet {0}")]
    HomeTaken(FleetName),
    /// There are keys that would be overwritten.
    #[error("this home has keys of {member} already, for {fleet}; nothing is overwritten")]
    KeysThere {
        /// Whose.
        member: MemberName,
        /// For which log, as far as that is known.
        fleet: String,
    },
    /// Keys were made and wait for admission with another request.
    #[error("{member} waits for admission already, with a request for {with}")]
    Waiting {
        /// Who.
        member: MemberName,
        /// For whom the request is.
        with: String,
    },
    /// A member of that name is in this home already.
    #[error("{0} is in this home already")]
    Present(MemberName),
    /// SSH.
    #[error("SSH: {0}")]
    Ssh(String),
    /// A revocation list cannot be written.
    #[error(transparent)]
    Krl(#[from] KrlError),
    /// No SSH certificate with this serial was ever issued.
    #[error("no SSH certificate with the serial {0} was ever issued")]
    NoSerial(u64),
    /// The mesh has faults.
    #[error("the mesh has faults:\n{0}")]
    Mesh(String),
    /// A backup cannot be written or read.
    #[error("the backup: {0}")]
    Archive(#[from] ArchiveError),
    /// A backup is not what it has to be.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// A backup that is not to be used.
    #[error("the backup: {0}")]
    Backup(String),
    /// Too few shares, or no quorum of custodians.
    #[error("shares: {0}")]
    Shares(#[from] ShareError),
    /// One share.
    #[error("the share of {custodian}: {problem}")]
    Share {
        /// Whose.
        custodian: String,
        /// What is wrong.
        problem: String,
    },
    /// A checkpoint that shows nothing.
    #[error("the checkpoint: {0}")]
    Checkpoint(String),
    /// The others' log has gone on.
    #[error("the fleet's log has {theirs} entries, and this one {own}: it is behind")]
    Behind {
        /// How many the others have seen.
        theirs: u64,
        /// How many there are here.
        own: u64,
    },
    /// Something else that was asked is impossible.
    #[error("{0}")]
    Impossible(String),
}
