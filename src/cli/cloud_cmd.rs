//! `keys cloud-config`: what a machine is born with, so that it joins by itself.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::{read_file, read_token};
use super::invite_cmd::write_private;
use super::pull_cmd::read_ca;
use crate::digest::Digest;
use crate::enrolment::{CloudFormat, Parts};
use crate::log::note::VerifierKey;
use crate::name::{MemberName, Slot};
use crate::wireguard::Host;

/// The program is read whole to tell its checksum.
const PROGRAM_BYTES_MAX: usize = 512 << 20;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The seed of the invitation is in what is written; whoever reads it before the machine has joined can join in its place.
Afterwards it is worthless, so that what the provider and cloud-init keep of it does no harm.
Examples:
  keys cloud-config fra1 --token t --mirror https://k.example --program /k --checksum-of k
  keys cloud-config fra1 --token t --mirror /fleet --program /k --checksum-of k --format sh"
)]
pub(super) struct CloudConfig {
    /// The PoP
    pub member: MemberName,
    /// The file with the invitation's token, '-' for stdin
    #[arg(long, value_name = "FILE")]
    pub token: PathBuf,
    /// Where the machine brings the keyring from and hands its request in
    #[arg(long = "mirror", value_name = "ADDRESS", required = true)]
    pub mirrors: Vec<String>,
    /// The only CAs that vouch for the names of https:// mirrors (PEM) [default: the public ones]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Where it fetches the program from: an address, or a path on the machine
    #[arg(long = "program", value_name = "ADDRESS", required = true)]
    pub programs: Vec<String>,
    /// The program's SHA-256
    #[arg(long, value_name = "HEX", required_unless_present = "checksum_of", conflicts_with = "checksum_of")]
    pub sha256: Option<String>,
    /// The program itself, to tell its SHA-256
    #[arg(long, value_name = "FILE")]
    pub checksum_of: Option<PathBuf>,
    /// Where its WireGuard is reached, if the invitation does not say
    #[arg(long, value_name = "HOST")]
    pub endpoint: Option<Host>,
    /// Have the machine begin with the newest snapshot on record, and not with the first entry
    #[arg(long)]
    pub from_snapshot: bool,
    /// user-data, nocloud, ignition or sh
    #[arg(long, value_name = "FORMAT", default_value = "user-data")]
    pub format: CloudFormat,
    /// Write it to this new file, with nocloud to this new directory [default: stdout]
    #[arg(long, value_name = "PATH", required_if_eq("format", "nocloud"))]
    pub out: Option<PathBuf>,
}

/// `keys cloud-config`.
pub(super) fn cloud_config(context: &Context, args: &CloudConfig) -> Result<Exit, CliError> {
    let fleet = context.open()?;
    let state = fleet.state();
    let token = read_token(&args.token)?;
    let invitation = state.invitations.iter().find(|(_, i)| i.invited.token == token.key());
    match invitation {
        Some((name, _)) if *name != args.member => {
            return Err(CliError::usage(format!("the token is for {name}, not for {}", args.member)));
        }
        Some((_, found)) if !found.is_open(fleet.now()) => {
            return Err(CliError::new(
                Exit::No,
                format!("the invitation of {} is used, withdrawn or over", args.member),
            )
            .hint("make another one: 'keys invite'"));
        }
        Some(_) => {}
        None => context.say("the log has no invitation with this token yet: the machine waits until it has"),
    }
    let sha256 = match (&args.sha256, &args.checksum_of) {
        (Some(hex), _) => {
            Digest::parse(hex).ok_or_else(|| CliError::usage("--sha256 expects 64 lower-case hexadecimal digits"))?
        }
        (None, Some(path)) => Digest::of(&read_file(path, PROGRAM_BYTES_MAX)?),
        (None, None) => return Err(CliError::usage("no checksum is given")),
    };
    let snapshot = match &state.snapshot {
        _ if !args.from_snapshot => None,
        Some(recorded) => Some(recorded.snapshot.state),
        None => {
            return Err(CliError::new(Exit::No, "no snapshot is on record").hint("'keys log snapshot' makes one"));
        }
    };
    let log = state.authority_keys(Slot::Log).into_iter();
    let parts = Parts {
        fleet: &state.fleet,
        id: state.id,
        log: log.filter_map(|(_, key)| VerifierKey::parse(&key.key).ok()).collect(),
        mirrors: args.mirrors.clone(),
        ca: read_ca(args.ca.as_deref(), &args.mirrors)?.map(|ca| ca.to_pem()),
        member: &args.member,
        endpoint: args.endpoint.clone(),
        snapshot,
        token: &token,
        programs: args.programs.clone(),
        sha256,
    };
    let files = parts.render(args.format).map_err(CliError::usage)?;
    let Some(out) = &args.out else {
        for (_, text) in &files {
            context.out.bytes(text.as_bytes())?;
        }
        return Ok(Exit::Ok);
    };
    write(out, &files)?;
    context.say(&format!("written to {}; bring it to the machine's provider, and nowhere else", shown(out)));
    Ok(Exit::Ok)
}

fn write(out: &Path, files: &crate::enrolment::Files) -> Result<(), CliError> {
    if let [(_, text)] = files.as_slice() {
        return write_private(out, text.as_bytes()).map(drop);
    }
    super::invite_cmd::make_directory(out)?;
    files.iter().try_for_each(|(name, text)| write_private(&out.join(name), text.as_bytes()).map(drop))
}
