//! The arguments of the record: `keys log` and `keys audit`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Change, Reason};
use super::witness_cmd::WitnessArgs;
use crate::name::MemberName;
use crate::statement::RetireReason;
use crate::time::Time;

#[derive(Debug, ClapArgs)]
pub(super) struct Log {
    #[command(subcommand)]
    pub verb: LogVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum LogVerb {
    /// Replay everything from the first entry, and check every file of the keyring against it
    #[command(
        after_help = "On a pinned home a verification that is interrupted goes on where it was: the log's files are all looked at
again, and entries that were replayed are not replayed a second time. How many that were is said at the end.

Examples:
  keys log verify
  keys log verify --from-start"
    )]
    Verify {
        /// Replay everything, whatever an interrupted verification has replayed
        #[arg(long)]
        from_start: bool,
    },
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
    Vkey {
        /// Also those of the past and the standbys, each with its state and since when until when
        #[arg(long)]
        all: bool,
    },
    /// Put an authority's standby log key in the place of its active one
    #[command(after_help = "Heads that were signed before stay good; from this entry on only the new key counts.
Examples:
  keys log rekey
  keys log rekey casc1 --why compromised --reason 'the backup disk was stolen'")]
    Rekey {
        /// The authority [default: the only one]
        member: Option<MemberName>,
        /// What became of the key before: retired, compromised, lost
        #[arg(long, value_name = "WHY", default_value = "retired")]
        why: RetireReason,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        reason: Reason,
    },
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
    /// Put on record what the log comes to, so that a new machine may start from there
    Snapshot(super::snapshot_cmd::SnapshotArgs),
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
