//! The arguments of backup, restore and drill.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Change, Reason};
use crate::name::{Address, MemberName};

#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "What is in it is encrypted with a key that is on no disk: each custodian gets a share of it, and any K of them open
the backup together. Fewer learn nothing. Private halves stay where they are, unless they are asked for by name: those of
an operator or authority in this home. The log then says so, before the backup is written.
Examples:
  keys backup --out fleet.backup --custodian alice --custodian bob --custodian carol --need 2
  keys backup --out alice.backup --custodian bob --custodian carol --need 2 --private-halves alice --yes
  keys backup show fleet.backup
  keys backup open-share fleet.backup --as alice --to restore.pgp --yes"
)]
pub(super) struct Backup {
    #[command(flatten)]
    pub make: BackupMake,
    #[command(subcommand)]
    pub verb: Option<BackupVerb>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct BackupMake {
    /// Where to write it; it must not exist
    #[arg(long, value_name = "FILE", required = true)]
    pub out: Option<PathBuf>,
    /// Who gets a share: an operator's name, or the file of an OpenPGP certificate
    #[arg(long = "custodian", value_name = "WHO", required = true)]
    pub custodians: Vec<String>,
    /// How many of them open it together
    #[arg(long, value_name = "K", required = true)]
    pub need: Option<usize>,
    /// Put the private halves of this member of this home into it
    #[arg(long = "private-halves", value_name = "MEMBER")]
    pub private_halves: Vec<MemberName>,
    /// The log knows already of this backup, by its id, with these private halves and custodians
    #[arg(long, value_name = "ID", requires = "private_halves")]
    pub logged: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Sign the manifest as this member
    #[arg(long = "as", value_name = "MEMBER")]
    pub signer: Option<MemberName>,
}

#[derive(Debug, Subcommand)]
pub(super) enum BackupVerb {
    /// Check a backup without opening it, and show what it is
    Show {
        /// The backup
        file: PathBuf,
    },
    /// Open a custodian's share and seal it to whoever restores
    OpenShare {
        /// The backup
        file: PathBuf,
        /// The custodian, whose key is in this home
        #[arg(long = "as", value_name = "MEMBER")]
        custodian: MemberName,
        /// The certificate that 'keys restore prepare' made on the machine that restores
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Do not ask: the certificate's fingerprint has been compared with whoever restores
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "First 'prepare' makes a one-time key where it is restored; custodians seal their shares to it, each on her own machine.
What is restored changes nothing and signs nothing before 'confirm' has seen that the fleet has not gone on without it.
Examples:
  keys restore prepare fleet.backup --out restored
  keys restore fleet.backup --out restored --share alice.share --share bob.share
  keys restore confirm --checkpoint mirror/keyring/log/checkpoint"
)]
pub(super) struct Restore {
    #[command(flatten)]
    pub run: RestoreRun,
    #[command(subcommand)]
    pub verb: Option<RestoreVerb>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RestoreRun {
    /// The backup
    #[arg(required = true)]
    pub file: Option<PathBuf>,
    /// The directory that 'keys restore prepare' made
    #[arg(long, value_name = "DIR", required = true)]
    pub out: Option<PathBuf>,
    /// A custodian's share, as 'keys backup open-share' wrote it
    #[arg(long = "share", value_name = "FILE", required = true)]
    pub shares: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum RestoreVerb {
    /// Make the one-time key that custodians seal their shares to
    Prepare {
        /// The backup
        file: PathBuf,
        /// The directory to restore into; empty, or not there yet
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Show that what was restored is not behind the fleet, so that it may sign again
    Confirm {
        /// A checkpoint that another machine or a mirror has: its keyring/log/checkpoint
        #[arg(long, value_name = "FILE")]
        checkpoint: PathBuf,
        /// Nothing has happened since the backup, and colleagues say so
        #[arg(long)]
        unchanged: bool,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct Drill {
    #[command(subcommand)]
    pub verb: DrillVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum DrillVerb {
    /// Try whether a restore works, and log what came of it (exit 3 if it does not)
    Restore(DrillRestore),
    /// Seal a canary: a secret of a known value, which drills open
    Canary {
        /// Where: OWNER/restore-canary
        address: Address,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        reason: Reason,
    },
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "It is restored to a directory in memory, replayed, and held against the fleet that is running: the same root and
the same state. Then the canary is opened with a key of this home, by gpg as well where it is installed.
Examples:
  keys drill canary fra1/restore-canary
  keys drill restore --from-keyring
  keys drill restore fleet.backup --key prepared --share alice.share --share bob.share"
)]
pub(super) struct DrillRestore {
    /// The backup
    #[arg(required_unless_present = "from_keyring", conflicts_with = "from_keyring")]
    pub file: Option<PathBuf>,
    /// Copy the keyring itself, as from a mirror
    #[arg(long)]
    pub from_keyring: bool,
    /// The directory that 'keys restore prepare' made; its one-time key is removed afterwards
    #[arg(long, value_name = "DIR", requires = "file")]
    pub key: Option<PathBuf>,
    /// A custodian's share, as 'keys backup open-share' wrote it
    #[arg(long = "share", value_name = "FILE", requires = "file")]
    pub shares: Vec<PathBuf>,
    /// The canary [default: the first secret named restore-canary]
    #[arg(long, value_name = "ADDRESS")]
    pub canary: Option<Address>,
    /// Open no canary; the log shows that
    #[arg(long, conflicts_with = "canary")]
    pub without_canary: bool,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}
