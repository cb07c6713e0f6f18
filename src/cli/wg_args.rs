//! The arguments of `keys wg`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use crate::name::MemberName;
use crate::wireguard::render::FileKind;

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
        #[command(flatten)]
        files: WgFiles,
    },
    /// Check the mesh as the log has it
    Check {
        /// Check this machine's own interfaces, too
        #[arg(long)]
        live: bool,
        /// The PoP that this machine is [default: the one whose keys are in the home]
        #[arg(long, value_name = "POP", requires = "live")]
        node: Option<MemberName>,
    },
    /// Show what has changed since configurations were written
    Diff {
        /// The directory they were written to
        directory: PathBuf,
        /// One PoP only, as with `render --node`
        #[arg(long, value_name = "POP")]
        node: Option<MemberName>,
        #[command(flatten)]
        files: WgFiles,
    },
    /// Bring this machine's running interfaces into line with the log, without a lost packet
    Apply {
        /// One interface only [default: both]
        interface: Option<String>,
        /// The PoP that this machine is [default: the one whose keys are in the home]
        #[arg(long, value_name = "POP")]
        node: Option<MemberName>,
        /// Show what would be done and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Draw who is whose peer, as SVG or for Graphviz
    Graph {
        /// The text for Graphviz instead of SVG
        #[arg(long)]
        dot: bool,
        /// Write it here [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the configuration of a peer without an agent; with its private key also as a QR code
    Qr {
        /// The peer: the name of an [[external]] of the policy
        name: MemberName,
        /// Read its private key from stdin; it is shown and never kept
        #[arg(long, value_name = "-", value_parser = ["-"])]
        private_key: Option<String>,
        /// The text alone, also where stdout is no terminal
        #[arg(long, requires = "private_key")]
        text: bool,
    },
    /// Keep this machine's interfaces and routes as the log has them, and replace keys that nothing uses any more; runs on
    Agent {
        /// The PoP that this machine is [default: the one whose keys are in the home]
        #[arg(long, value_name = "POP")]
        node: Option<MemberName>,
        /// End after so many rounds [default: never]
        #[arg(long, value_name = "N")]
        rounds: Option<u64>,
    },
}

/// What `render` writes and `diff` compares.
#[derive(Debug, ClapArgs)]
pub(super) struct WgFiles {
    /// Only the files for these: wg-quick, networkd, wg, firewall, hosts, json [default: all]
    #[arg(long = "for", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<FileKind>,
    /// Where the private key lies on the node; %i is the interface
    #[arg(long, value_name = "PATH")]
    pub key_file: Option<String>,
}
