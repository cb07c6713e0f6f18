//! The arguments of `keys ssh`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Change, Reason};
use crate::name::{Glob, MemberName};
use crate::time::Span;

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
