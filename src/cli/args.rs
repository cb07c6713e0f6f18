//! The arguments. Daily verbs first; the rest noun, then verb. The same flag means the same everywhere.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::agent_args::AgentArgs;
use super::backup_args::{Backup, Drill, Restore};
use super::bootstrap_cmd::Bootstrap;
use super::cloud_cmd::CloudConfig;
use super::dns_cmd::Dns;
use super::emergency_cmd::EmergencyArgs;
use super::git_cmd::Git;
use super::import_args::{Export, Import};
use super::invite_cmd::Invite;
use super::lint_cmd::Lint;
use super::node_args::Ssh;
use super::protect_cmd::Protect;
use super::pull_cmd::PullArgs;
use super::record_args::{Audit, Log};
use super::serve_cmd::{Serve, Submit};
use super::static_cmd::PublishArgs;
use super::store_cmd::StoreArgs;
use super::value_args::{Copy, Diff, Edit, Exec, Template};
use super::wg_args::Wg;
use crate::name::{Address, FleetName, Glob, Label, MemberName, Slot};
use crate::statement::RetireReason;
use crate::time::Span;
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
    /// The fleet's directory, which holds policy/ and keyring/, or its place in an object store, like s3://BUCKET/PREFIX
    /// [default: KEYS_FLEET, else the nearest directory upwards]
    #[arg(long, global = true, value_name = "DIR")]
    pub fleet: Option<PathBuf>,
    /// Where this machine's private halves lie [default: KEYS_HOME, else ~/.keys]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// The fleet's id, which must match [default: what the home has pinned]
    #[arg(long, global = true, value_name = "ID")]
    pub pin: Option<String>,
    /// Replay from this snapshot on, not from the first entry: its state's hash, from somebody who is trusted
    #[arg(long, global = true, value_name = "HASH")]
    pub snapshot: Option<String>,
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
    /// Let a machine join by a token that is good once
    Invite(Invite),
    /// Join by what this machine was given at its birth; run again until it ends with 0
    Bootstrap(Bootstrap),
    /// Say what guards this machine's private halves at rest, or have something else guard them: a TPM, systemd-creds
    Protect(Protect),
    /// Write what a machine is born with, so that it joins by itself: user-data, NoCloud, Ignition, sh
    CloudConfig(CloudConfig),
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
    /// Run a program with secrets in its environment, as files in memory, or on its stdin
    Exec(Exec),
    /// Put secrets into a template
    Template(Template),
    /// Edit a secret
    Edit(Edit),
    /// Show how a secret differs from another one, or from a file
    Diff(Diff),
    /// Copy a secret to another address
    Cp(Copy),
    /// Move a secret to another address
    Mv(Copy),
    /// Take over what other tools seal, each value at an address of its own
    Import(Import),
    /// Write secrets in the form of other tools, sealed to OpenPGP keys
    Export(Export),
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
    /// Bring the keyring up to date from a mirror, checked before any of it counts
    Pull(PullArgs),
    /// Hand in at a mirror what waits here: proposals, signatures, requests
    Submit(Submit),
    /// Serve the fleet's directory over HTTP, and take what is handed in
    Serve(Serve),
    /// Write as plain files what is served, for nginx and the like: a mirror, and a key server for gpg and sq
    Publish(PublishArgs),
    /// Bring secrets' recipients up to date, leaving their bodies as they are
    Reseal(Reseal),
    /// Make new values for secrets, as the policy says: those that are due, or burned
    Renew(Renew),
    /// Take a member out everywhere, and list what is burned
    Revoke(Revoke),
    /// Find what is wrong with secrets, rules and files beside them, without any key: for CI and commit hooks
    Lint(Lint),
    /// A keyring in a git repository: what git shows of it, and how two branches come together
    Git(Git),
    /// Stop members at once, also where the log is out of reach: by a file that a quorum signs
    Emergency(EmergencyArgs),
    /// The WireGuard mesh: configurations, and this machine's own interfaces
    Wg(Wg),
    /// SSH certificates and configurations
    Ssh(Ssh),
    /// Keep this machine as the log has it: secrets as files of its services, keys, certificates; runs on
    Agent(AgentArgs),
    /// A keyring in an object store
    Store(StoreArgs),
    /// The record
    Log(Log),
    /// Report on a period for auditors: what happened, who approved it, what was late, who could read what
    Audit(Audit),
    /// Copies of the certificates for gpg and sq
    Ring(Ring),
    /// What DNS can say of hosts and members
    Dns(Dns),
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
  keys enroll fra1 --token fra1.token              as it was invited to, see 'keys invite'
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
    /// What it is in the mesh, as the topology's rules name it: hub, transit
    #[arg(long = "role", value_name = "NAME", value_delimiter = ',')]
    pub roles: Vec<Label>,
    /// It is an operator, with this user id
    #[arg(long, value_name = "USERID", conflicts_with_all = ["services", "endpoint", "region", "roles", "authority"])]
    pub operator: Option<String>,
    /// It is an authority
    #[arg(long, conflicts_with_all = ["services", "endpoint", "region", "roles"])]
    pub authority: bool,
    /// The fleet is not founded yet: make an operator's request for its founding
    #[arg(long, value_name = "DOMAIN", requires = "operator")]
    pub founding: Option<FleetName>,
    /// The profile of a fleet that is not founded yet
    #[arg(long, default_value = "compat", value_name = "PROFILE", value_parser = ["compat", "modern"])]
    pub profile: String,
    /// Join by an invitation: the file with its token, '-' for stdin. Services, region and roles are those of the invitation
    #[arg(long, value_name = "FILE", conflicts_with_all = ["services", "region", "roles", "operator", "authority", "founding"])]
    pub token: Option<PathBuf>,
    /// Write the request to this file, '-' for stdout [default: into the fleet's keyring]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  keys status
  keys status --nodes --check
  keys status --nodes --entry 120 --json")]
pub(super) struct Status {
    /// Exit 9 if anything wants attention
    #[arg(long)]
    pub check: bool,
    /// Show what the machines say of themselves instead, wave by wave
    #[arg(long)]
    pub nodes: bool,
    /// Who has this entry of the log, counted from 0 [default: the newest that is published]
    #[arg(long, value_name = "N", requires = "nodes")]
    pub entry: Option<u64>,
    /// After how long without a word from it a machine is stale
    #[arg(long, value_name = "SPAN", default_value = "3h", value_parser = span, requires = "nodes")]
    pub stale: Span,
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "expected a whole number and s, m, h or d, for example 3h".to_owned())
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
#[command(
    after_help = "The value is never an argument: others can read a process's arguments. It may have up to 4 GiB: one of more than 64 MiB
is kept in parts, and opened part by part.
Examples:
  keys seal nginx@fra1/tls.key < key.pem
  keys seal nginx@fra1/tls.key --in key.pem --reason 'yearly renewal'
  keys seal nginx@fra1/app.yaml --values --in app.yaml
  keys seal nginx@fra1/settings --values=env < service.env"
)]
pub(super) struct Seal {
    /// Where: OWNER/NAME, for example nginx@fra1/tls.key or fra1/registry-token
    pub address: Address,
    /// Read the value from this file [default: stdin]
    #[arg(long = "in", value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// It is a structured file: its keys, their order and comments stay readable to everybody; yaml, json, toml, env or ini
    /// [default: by the ending of the file's or the secret's name, and as the version before]
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "auto", conflicts_with = "whole")]
    pub values: Option<String>,
    /// Seal it whole, with nothing readable, also if the version before was sealed with --values
    #[arg(long)]
    pub whole: bool,
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
    /// One value of a structured file alone, by its way: db.users[0].name
    #[arg(long, value_name = "WAY")]
    pub key: Option<String>,
    /// Open it as this member
    #[arg(long = "as", value_name = "MEMBER")]
    pub reader: Option<MemberName>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Ls {
    /// Which secrets
    pub pattern: Option<Glob>,
    /// Show the keys and comments of structured files, which needs no key
    #[arg(long)]
    pub shape: bool,
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
#[command(after_help = "Examples:
  keys who nginx@fra1/tls.key
  keys who nginx@fra1/tls.key --ever")]
pub(super) struct Who {
    /// Which secret
    pub address: Address,
    /// Every version there ever was: which key could read it from when to when
    #[arg(long)]
    pub ever: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  keys reach fra1
  keys reach fra1 --ever")]
pub(super) struct Reach {
    /// Which member; a PoP's services are included
    pub member: MemberName,
    /// Every version there ever was: by which key it could read it from when to when
    #[arg(long)]
    pub ever: bool,
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
    /// Also WireGuard keys that were rotated less than the policy's rotation.min_gap ago
    #[arg(long)]
    pub soon: bool,
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
#[command(
    after_help = "How a value is made is said in policy/secrets.toml: generate = \"base64:32\". What has no such rule is listed, for people
to replace. Hooks are programs in the home's hooks/ directory; docs/runbooks/renew.md shows one for PostgreSQL.
Examples:
  keys renew --burned
  keys renew --due --yes
  keys renew 'pg@*/app' --reason 'left in a chat'"
)]
pub(super) struct Renew {
    /// Which secrets
    pub pattern: Option<Glob>,
    /// Those whose time by the policy is over
    #[arg(long)]
    pub due: bool,
    /// Those that somebody could read who was compromised or lost
    #[arg(long)]
    pub burned: bool,
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
