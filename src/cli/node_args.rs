//! The arguments of `keys ssh`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Change, Reason};
use crate::cidr::AnyCidr;
use crate::name::{Glob, MemberName};
use crate::ssh::doctor::Severity;
use crate::time::Span;

#[derive(Debug, ClapArgs)]
pub(super) struct Ssh {
    #[command(subcommand)]
    pub verb: SshVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum SshVerb {
    /// Take SSH certificates back, before their time is over
    #[command(after_help = REVOKE_HELP)]
    Revoke {
        /// Their serials
        #[arg(value_name = "SERIAL", required_unless_present = "keys")]
        serials: Vec<u64>,
        /// Those for the key in this file, a public key or an SSH certificate
        #[arg(long = "key", value_name = "FILE")]
        keys: Vec<PathBuf>,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        reason: Reason,
    },
    /// Revocation lists: write one, check one, compare two
    Krl {
        #[command(subcommand)]
        verb: KrlVerb,
    },
    /// Decide, log and sign SSH certificates
    Sign {
        #[command(subcommand)]
        what: SshSign,
    },
    /// Certificates for many people's keys: a list of members and files of public keys, one a line
    SignBatch {
        /// The list: MEMBER FILE; certificates are written beside the keys
        list: PathBuf,
        /// Also where there is one that is good for a while yet
        #[arg(long)]
        again: bool,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        reason: Reason,
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
        /// Where this program lies on the node, for sshd to ask it for proofs; nobody but root may be able to change it
        #[arg(long, value_name = "PATH", default_value = "/usr/local/bin/keys")]
        program: String,
        /// The account that sshd runs it as
        #[arg(long, value_name = "LOGIN", default_value = "nobody")]
        user: String,
    },
    /// Say which principals an account accepts from an SSH certificate that the log has decided; for sshd
    Principals {
        /// The node's rendered files
        #[arg(long, value_name = "DIR", default_value = crate::ssh::NodeInput::DIRECTORY)]
        directory: PathBuf,
        /// The account: sshd's %u
        login: String,
        /// The certificate's algorithm: %t
        algorithm: String,
        /// The certificate: %k
        certificate: String,
    },
    /// Certificates while the log is out of reach, by the keys that the policy keeps in safes
    BreakGlass {
        #[command(subcommand)]
        verb: BreakGlassVerb,
    },
    /// Find what is wrong with this machine's SSH: what sshd -t is silent about and logins show
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Doctor),
    /// Show an SSH certificate
    Inspect {
        /// The file
        file: PathBuf,
    },
}

const DOCTOR_HELP: &str = "Reads sshd_config with all that it includes, and the files that these name; changes nothing. With a keyring at hand they are
compared with the log. Exit 3 if something is found that is as grave as --fail-on.
Examples:
  keys ssh doctor
  keys ssh doctor --live --node fra1
  keys ssh doctor --root /mnt/image --fail-on warning --json";

#[derive(Debug, ClapArgs)]
pub(super) struct Doctor {
    /// Ask the running sshd, too: its own reading of the files, and the certificate that it shows
    #[arg(long, conflicts_with = "root")]
    pub live: bool,
    /// The PoP that this machine is: its names have to be in the host's certificate
    #[arg(long, value_name = "POP")]
    pub node: Option<MemberName>,
    /// The configuration of sshd
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/sshd_config")]
    pub config: String,
    /// The configuration of ssh
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/ssh_config")]
    pub client_config: String,
    /// All files are below this directory: an image, or a machine that is mounted
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Where the running sshd listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", requires = "live")]
    pub address: String,
    /// Its port [default: the configuration's]
    #[arg(long, value_name = "N", requires = "live")]
    pub port: Option<u16>,
    /// From what on to exit with 3: error, warning or note
    #[arg(long, default_value = "error", value_name = "SEVERITY")]
    pub fail_on: Severity,
}

const REVOKE_HELP: &str =
    "sshd refuses them once the node has the new list: 'keys ssh render', or 'keys ssh krl build'. Sessions that are
open go on. The key itself may be certified again; whoever lost it asks with another one.
Examples:
  keys ssh revoke 17 --reason 'laptop left on a train'
  keys ssh revoke --key id_ed25519-cert.pub --yes";

#[derive(Debug, Subcommand)]
pub(super) enum KrlVerb {
    /// Write the list that the log implies; it is the same for all nodes
    #[command(after_help = "Examples:
  keys ssh krl build --out /etc/keys/ssh/revoked.krl
  keys ssh krl build --hosts --out /etc/keys/ssh/revoked_hosts.krl")]
    Build {
        /// The list of hosts, which clients read, instead of that of users
        #[arg(long)]
        hosts: bool,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Check a list: whether every sshd reads it, and against the log
    #[command(
        after_help = "Exit 3 if the list is broken, some sshd refuses it, or it is not what the log says; 5 if there is none. Without a
keyring only the file itself is checked.
Examples:
  keys ssh krl check /etc/keys/ssh/revoked.krl
  keys ssh krl check --hosts /etc/keys/ssh/revoked_hosts.krl --json"
    )]
    Check {
        /// The file
        file: PathBuf,
        /// It is the list of hosts
        #[arg(long)]
        hosts: bool,
    },
    /// Say what the second list revokes more than the first, and what less
    #[command(after_help = "Exit 9 if they differ.
Examples:
  keys ssh krl diff revoked.krl /etc/keys/ssh/revoked.krl")]
    Diff {
        /// A list
        before: PathBuf,
        /// Another one
        after: PathBuf,
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

#[derive(Debug, Subcommand)]
pub(super) enum BreakGlassVerb {
    /// Write what the holders of break-glass keys have to sign; needs a copy of the keyring, and nothing else
    #[command(after_help = "Examples:
  keys ssh break-glass order alice --key id.pub --out order
  ssh-keygen -Y sign -n break-glass@keys -f safe-b order
  keys ssh break-glass issue order --signature order.sig --ca-key safe-a")]
    Order(BreakGlassOrderArgs),
    /// Sign the certificate with the key that the order names as its CA, once enough others have signed the order
    Issue {
        /// The order
        order: PathBuf,
        /// Signatures over it, by ssh-keygen -Y sign
        #[arg(long = "signature", value_name = "FILE")]
        signatures: Vec<PathBuf>,
        /// The CA's private key, without a passphrase [default: one that the ssh-agent has]
        #[arg(long, value_name = "FILE")]
        ca_key: Option<PathBuf>,
        /// Write the certificate here [default: beside the order, as ORDER-cert.pub]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct BreakGlassOrderArgs {
    /// Who is to be let in
    pub member: MemberName,
    /// The public key's file
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The break-glass key that will sign the certificate, by its fingerprint [default: the first]
    #[arg(long, value_name = "SHA256:…")]
    pub ca: Option<String>,
    /// Some of the principals that the policy gives [default: all]
    #[arg(long = "principal", value_name = "NAME")]
    pub principals: Vec<String>,
    /// Shorter than the policy's lifetime
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub lifetime: Option<Span>,
    /// Networks that the login may come from [default: anywhere]
    #[arg(long = "source-address", value_name = "CIDR")]
    pub source_addresses: Vec<AnyCidr>,
    /// Write the order here
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
