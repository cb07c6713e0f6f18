//! The arguments. Daily verbs first; the rest noun, then verb. The same flag means the same everywhere.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::backup_args::{Backup, Drill, Restore};
use super::witness_cmd::WitnessArgs;
use crate::name::{Address, FleetName, Glob, Label, MemberName, Slot};
use crate::statement::RetireReason;
use crate::time::{Span, Time};
use crate::wireguard::Host;

/// Secrets and key lifecycle manager.
///
/// Every machine makes its own private keys, which never leave it; the public halves live in a signed keyring; secrets are
/// sealed to exactly the machines that need them; every change is a signed statement in an append-only log.
#[derive(Debug, Parser)]
#[command(
    name = "keys",
    version,
    max_term_width = 110,
    after_help = "Try it: 'keys demo' runs a whole fleet's life in a temporary directory."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Global {
    /// The fleet's directory, which holds policy/ and keyring/ [default: KEYS_FLEET, else the nearest one upwards]
    #[arg(long, global = true, value_name = "DIR")]
    pub fleet: Option<PathBuf>,
    /// Where this machine's private halves lie [default: KEYS_HOME, else ~/.keys]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// The fleet's id, which must match [default: what the home has pinned]
    #[arg(long, global = true, value_name = "ID")]
    pub pin: Option<String>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// Flags of every command that changes something.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(super) struct Change {
    /// Show what would be done, and do nothing (exit 9 if there is something)
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Sign as this member only
    #[arg(long = "as", value_name = "MEMBER")]
    pub signer: Option<MemberName>,
}

/// Why something is done.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(super) struct Reason {
    /// Why; recorded in the log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Found a fleet: policy, founders' keys, genesis statement, log
    Init(Init),
    /// Show everything that wants attention on one screen
    Status(Status),
    /// Make keys on this machine and ask to be admitted
    Enroll(Enroll),
    /// Show what waits for signatures, or sign it
    Approve(Approve),
    /// Take a waiting proposal of one's own back
    Withdraw(Withdraw),
    /// Object to a proposal: it can never take effect any more, whoever signs it
    Object(Object),
    /// Seal a value, from stdin or a file
    Seal(Seal),
    /// Open a secret to stdout
    Open(Open),
    /// List secrets, and who can read them
    Ls(Ls),
    /// Remove a secret
    Rm(Rm),
    /// Show who can read a secret, now and ever
    Who(Who),
    /// Show what a member can read, now and ever
    Reach(Reach),
    /// Promote standby keys
    Rotate(Rotate),
    /// Catch up: make missing standby keys, renew, reseal; what a machine runs from time to time
    Sync(Sync),
    /// Bring secrets' recipients up to date, leaving their bodies as they are
    Reseal(Reseal),
    /// Take a member out everywhere, and list what is burned
    Revoke(Revoke),
    /// WireGuard configurations
    Wg(Wg),
    /// SSH certificates and configurations
    Ssh(Ssh),
    /// The record
    Log(Log),
    /// Report on a period for auditors: what happened, who approved it, what was late, who could read what
    Audit(Audit),
    /// Copies of the certificates for gpg and sq
    Ring(Ring),
    /// The policy
    Policy(Policy),
    /// Keyring and policy in one file, which a quorum of custodians opens together
    Backup(Backup),
    /// Restore a backup into an empty directory
    Restore(Restore),
    /// Try whether what has to work in an emergency does
    Drill(Drill),
    /// Run a whole fleet's life in a temporary directory
    Demo(Demo),
    /// Explain an exit code
    Explain(Explain),
    /// Write shell completions
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  keys init cdn.example --operator 'Alice <alice@ops.example>'
  keys init cdn.example --operator 'Alice <alice@ops.example>' --operator bob.request
  keys init cdn.example --operator gpg:4F1C…      a certificate whose secrets gpg-agent has")]
pub(super) struct Init {
    /// The fleet's name: a DNS domain
    pub domain: FleetName,
    /// A founder: 'Name <name@host>' to make keys here, a request file made elsewhere, or gpg:FINGERPRINT
    #[arg(long = "operator", required = true, value_name = "WHO")]
    pub operators: Vec<String>,
    /// The name of the first authority, whose keys are made here
    #[arg(long, default_value = "casc1", value_name = "NAME")]
    pub authority: MemberName,
    /// compat opens in gpg 2.2; modern is OpenPGP v6 with post-quantum encryption
    #[arg(long, default_value = "compat", value_name = "PROFILE", value_parser = ["compat", "modern"])]
    pub profile: String,
    /// The socket of the gpg-agent [default: what gpgconf says]
    #[arg(long, value_name = "PATH")]
    pub agent_socket: Option<PathBuf>,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  keys enroll fra1 --service nginx --service dns --endpoint 198.51.100.1
  keys enroll fra1 --service redis                 one more service on a PoP that is a member
  keys enroll bob --operator 'Bob <bob@ops.example>'
  keys enroll bob --operator 'Bob <bob@ops.example>' --founding cdn.example --out bob.request")]
pub(super) struct Enroll {
    /// Who joins
    pub member: MemberName,
    /// A service on it
    #[arg(long = "service", value_name = "NAME", value_delimiter = ',')]
    pub services: Vec<Label>,
    /// Where its WireGuard is reached: an address or a DNS name, without port
    #[arg(long, value_name = "HOST")]
    pub endpoint: Option<Host>,
    /// Its region, which decides its address pool
    #[arg(long, value_name = "NAME")]
    pub region: Option<Label>,
    /// It is an operator, with this user id
    #[arg(long, value_name = "USERID", conflicts_with_all = ["services", "endpoint", "region", "authority"])]
    pub operator: Option<String>,
    /// It is an authority
    #[arg(long, conflicts_with_all = ["services", "endpoint", "region"])]
    pub authority: bool,
    /// The fleet is not founded yet: make an operator's request for its founding
    #[arg(long, value_name = "DOMAIN", requires = "operator")]
    pub founding: Option<FleetName>,
    /// The profile of a fleet that is not founded yet
    #[arg(long, default_value = "compat", value_name = "PROFILE", value_parser = ["compat", "modern"])]
    pub profile: String,
    /// Write the request to this file, '-' for stdout [default: into the fleet's keyring]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Status {
    /// Exit 9 if anything wants attention
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Without arguments everything that waits is shown; with ids or request files these are signed.
Examples:
  keys approve
  keys approve 3fa9c1
  keys approve fra1.request
  keys approve --all --yes")]
pub(super) struct Approve {
    /// Proposals or requests by id (its first digits will do), or request files
    pub what: Vec<String>,
    /// Everything that waits
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Stopping is cheap: one objection is enough, and nobody can take it back. Who still wants the change proposes it anew.
Examples:
  keys object 3fa9c1 --reason 'bob did not propose this'"
)]
pub(super) struct Object {
    /// The proposal, by id (its first digits will do), or any statement by all digits of its id
    pub id: String,
    /// Why; recorded in the log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "This only removes the file: whoever has kept a copy of what was signed can hand it in again until it expires.
'keys object' stops a statement for good, also somebody else's."
)]
pub(super) struct Withdraw {
    /// The proposal, by id
    pub id: String,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "The value is never an argument: others can read a process's arguments.
Examples:
  keys seal nginx@fra1/tls.key < key.pem
  keys seal nginx@fra1/tls.key --in key.pem --reason 'yearly renewal'")]
pub(super) struct Seal {
    /// Where: OWNER/NAME, for example nginx@fra1/tls.key or fra1/registry-token
    pub address: Address,
    /// Read the value from this file [default: stdin]
    #[arg(long = "in", value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Leave this reader out for now: it is away and nobody vouches for it; 'keys reseal' gives it the value later
    #[arg(long, value_name = "MEMBER")]
    pub without: Vec<MemberName>,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Open {
    /// Which secret
    pub address: Address,
    /// Open it as this member
    #[arg(long = "as", value_name = "MEMBER")]
    pub reader: Option<MemberName>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Ls {
    /// Which secrets
    pub pattern: Option<Glob>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Rm {
    /// Which secret
    pub address: Address,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Who {
    /// Which secret
    pub address: Address,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Reach {
    /// Which member; a PoP's services are included
    pub member: MemberName,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A standby key becomes active at once, also for a machine that is away: it has the private half, and its
peers know the public one. The next standby is made by its owner, when it next runs 'keys sync'.
Examples:
  keys rotate --due
  keys rotate 'fra*' --slot wireguard
  keys rotate --all --yes --reason 'staff change'"
)]
pub(super) struct Rotate {
    /// Which members
    pub members: Option<Glob>,
    /// Which slot
    #[arg(long, value_name = "SLOT")]
    pub slot: Option<Slot>,
    /// What is due
    #[arg(long, conflicts_with = "all")]
    pub due: bool,
    /// Everything
    #[arg(long, conflicts_with = "members")]
    pub all: bool,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Sync {
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Reseal {
    /// Which secrets
    pub pattern: Option<Glob>,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  keys revoke fra1 --reason compromised
  keys revoke nginx@fra1 --reason retired --note 'moved to another site'")]
pub(super) struct Revoke {
    /// Who leaves; a PoP takes its services with it
    pub member: MemberName,
    /// Why: compromised, retired, lost
    #[arg(long, value_name = "WHY")]
    pub reason: RetireReason,
    /// What happened; recorded in the log
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Wg {
    #[command(subcommand)]
    pub verb: WgVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum WgVerb {
    /// Write every PoP's configurations; no private key is in them
    Render {
        /// The directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// One PoP only
        #[arg(long, value_name = "POP")]
        node: Option<MemberName>,
        /// Where the private key will lie on the node; %i is the interface
        #[arg(long, value_name = "PATH")]
        key_file: Option<String>,
    },
    /// Check the mesh as the log has it
    Check,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Ssh {
    #[command(subcommand)]
    pub verb: SshVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum SshVerb {
    /// Decide, log and sign SSH certificates
    Sign {
        #[command(subcommand)]
        what: SshSign,
    },
    /// Write a PoP's SSH files, in the order in which they are safe
    Render {
        /// The PoP
        #[arg(long, value_name = "POP")]
        node: MemberName,
        /// The directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Where the files will lie on the node
        #[arg(long, value_name = "DIR", default_value = crate::ssh::NodeInput::DIRECTORY)]
        directory: String,
        /// Where the host's private key lies on the node [default: host-ID.key beside the files]
        #[arg(long, value_name = "PATH")]
        host_key: Option<String>,
    },
    /// Show an SSH certificate
    Inspect {
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SshSign {
    /// Certificates for the host keys of PoPs, active and standby, where they are missing or half over
    Host {
        /// Which PoPs
        pops: Option<Glob>,
        /// Also those that are still good
        #[arg(long)]
        again: bool,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        reason: Reason,
    },
    /// A certificate for a person's key
    User {
        /// Whose
        member: MemberName,
        /// The public key's file
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Some of the principals that the policy gives [default: all]
        #[arg(long = "principal", value_name = "NAME")]
        principals: Vec<String>,
        /// Shorter than the policy's lifetime
        #[arg(long, value_name = "SPAN", value_parser = span)]
        lifetime: Option<Span>,
        /// Also if there is one that is good for a while yet
        #[arg(long)]
        again: bool,
        /// Write the certificate here [default: beside the key, as KEY-cert.pub]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        reason: Reason,
    },
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "expected a whole number and s, m, h or d, for example 8h".to_owned())
}

#[derive(Debug, ClapArgs)]
pub(super) struct Log {
    #[command(subcommand)]
    pub verb: LogVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum LogVerb {
    /// Replay everything from the first entry, and check every file of the keyring against it
    Verify,
    /// Show entries
    #[command(after_help = "Examples:
  keys log show
  keys log show 7
  keys log show --about fra1
  keys log show 7 --raw DIR        writes body and signatures, for: gpg --verify DIR/7-alice.sig DIR/7.body")]
    Show {
        /// One entry, by its index
        index: Option<u64>,
        /// Entries about this member or secret
        #[arg(long, value_name = "WHAT")]
        about: Option<String>,
        /// The newest N
        #[arg(short = 'n', long, value_name = "N")]
        last: Option<u64>,
        /// Write the entry's body and signatures into this directory, for gpg
        #[arg(long, value_name = "DIR", requires = "index")]
        raw: Option<PathBuf>,
    },
    /// Print the log's verifier keys (C2SP vkeys), one a line
    Vkey,
    /// Check a file of evidence that somebody's machine has kept: what it proves, and what it does not
    #[command(after_help = "Neither a keyring nor a home is needed.
Examples:
  keys log evidence fork-9c02ab41d5e7 --vkey cdn.example/keys/1+3b89380a+ASmT…")]
    Evidence {
        /// The file
        file: PathBuf,
        /// The log's verifier key, as 'keys log vkey' prints it
        #[arg(long = "vkey", required = true, value_name = "VKEY")]
        vkeys: Vec<String>,
    },
    /// Ask the policy's cosigners, and publish what has its quorum (exit 9 if entries still wait)
    Publish,
    /// Cosign logs: as a witness that they only grow, or as an auditor that replays them
    Witness(WitnessArgs),
    /// Prove that the log has an entry, to somebody who has only the log's verifier key (C2SP tlog-proof)
    Prove(super::proof_cmd::Prove),
    /// Check such a proof, offline
    CheckProof(super::proof_cmd::CheckProof),
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The log is replayed and verified from its first entry; the report says what that does not show. Times are the log's.
Examples:
  keys audit
  keys audit --from 2026-01-01 --to 2026-12-31
  keys audit --html report.html
  keys audit --check --quiet                    exit 9 if there are exceptions
  keys audit bundle --out audit.tar             for somebody without keys
  keys audit sample -n 40",
    args_conflicts_with_subcommands = true
)]
pub(super) struct Audit {
    #[command(subcommand)]
    pub verb: Option<AuditVerb>,
    #[command(flatten)]
    pub period: AuditPeriod,
    /// Write the report as one self-contained page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit 9 if there are exceptions
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditVerb {
    /// Write all that somebody needs who checks the record without keys: entries, signatures, certificates, policies, report
    #[command(
        after_help = "The end of the period is that of the log if none is given, so that the same log gives the same bytes. Nothing that is
encrypted is in the bundle; its VERIFY.md says how to check it with sha256sum, openssl and gpg.
Examples:
  keys audit bundle --out audit.tar
  keys audit bundle --out audit-2026 --from 2026-01-01 --to 2026-12-31"
    )]
    Bundle {
        /// A tar archive, if the name ends with .tar; else a new directory
        #[arg(long, value_name = "PATH")]
        out: PathBuf,
        #[command(flatten)]
        period: AuditPeriod,
    },
    /// Choose entries for closer inspection, so that nobody can pick them and anybody can choose them again
    #[command(
        after_help = "The seed is the root hash of the log's head; docs/formats/audit.md says how the entries follow from it.
Examples:
  keys audit sample -n 40
  keys audit sample -n 25 --from 2026-01-01 --to 2026-12-31"
    )]
    Sample {
        /// How many
        #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 40)]
        count: usize,
        /// Another seed than the root hash: 64 hexadecimal digits
        #[arg(long, value_name = "HEX")]
        seed: Option<String>,
        #[command(flatten)]
        period: AuditPeriod,
    },
}

/// A period.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub(super) struct AuditPeriod {
    /// Its beginning: a day, or a time like 2026-11-21T07:00:00Z [default: the founding]
    #[arg(long, value_name = "TIME", value_parser = first_second)]
    pub from: Option<Time>,
    /// Its end, which is also the time of the inventory: a day, or a time [default: now]
    #[arg(long, value_name = "TIME", value_parser = last_second)]
    pub to: Option<Time>,
}

fn first_second(text: &str) -> Result<Time, String> {
    moment(text, "00:00:00")
}

fn last_second(text: &str) -> Result<Time, String> {
    moment(text, "23:59:59")
}

/// A time, or a time of a day.
fn moment(text: &str, clock: &str) -> Result<Time, String> {
    let of_day = || Time::parse(&format!("{text}T{clock}Z"));
    Time::parse(text)
        .or_else(of_day)
        .ok_or_else(|| "expected a day like 2026-11-21, or a time like 2026-11-21T07:00:00Z".to_owned())
}

#[derive(Debug, ClapArgs)]
pub(super) struct Ring {
    #[command(subcommand)]
    pub verb: RingVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum RingVerb {
    /// Write ring.pgp, and for gpg ownertrust.txt
    #[command(
        after_help = "With --gpg a root made for this one export certifies exactly what keys authenticates; its secret is thrown
away. Import with: gpg --import-options import-local-sigs --import DIR/ring.pgp && gpg --import-ownertrust DIR/ownertrust.txt"
    )]
    Export {
        /// The directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Flatten the verdict for gpg, which does not count operators
        #[arg(long)]
        gpg: bool,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct Policy {
    #[command(subcommand)]
    pub verb: PolicyVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum PolicyVerb {
    /// Read the files under policy/, with line and caret for what is wrong
    Check,
    /// Show the policy in force
    Show {
        /// One file
        file: Option<String>,
    },
    /// Show how policy/ differs from what is in force (exit 9 if it does)
    Diff,
    /// Propose what stands under policy/
    Propose {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        reason: Reason,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct Demo {
    /// Leave the fleet in this directory, to play with
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// compat opens in gpg 2.2; modern is OpenPGP v6 with post-quantum encryption
    #[arg(long, default_value = "compat", value_name = "PROFILE", value_parser = ["compat", "modern"])]
    pub profile: String,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Explain {
    /// The exit code; all of them without one
    pub code: Option<u8>,
}
