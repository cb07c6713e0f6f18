//! `keys protect`: what guards a home's private halves at rest.

use std::path::Path;

use clap::Args as ClapArgs;
use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use crate::home::{Guarding, Home};
use crate::name::Protection;

#[derive(Debug, ClapArgs)]
#[command(after_help = "file: files that only their owner reads, and nothing else.
host: they lie closed under a key that systemd-creds keeps for this installation (systemd 250 or later, root, no home in memory).
tpm2: they lie closed under a key that this machine's TPM keeps. A new firmware keeps it from nothing, unless --tpm2-pcrs binds it.
A copy of the home alone opens nowhere. What is guarded cannot be brought back without its machine: a machine that is lost is invited
anew. Backups hold what was opened. Without --with it says what guards them now.
Examples:
  keys protect
  keys protect --with tpm2")]
pub(super) struct Protect {
    /// By what: file, host, tpm2
    #[arg(long, value_name = "KIND")]
    pub with: Option<Protection>,
    /// The TPM, as systemd-creds names it, where it is not the machine's own
    #[arg(long, value_name = "DEVICE", requires = "with")]
    pub tpm2_device: Option<String>,
    /// Registers that have to be as they are now, like 7: with another firmware or boot loader the home stays closed
    #[arg(long, value_name = "LIST", requires = "with", value_parser = registers)]
    pub tpm2_pcrs: Option<String>,
}

fn registers(text: &str) -> Result<String, String> {
    let is_one = |part: &str| part.parse::<u8>().is_ok_and(|n| n < 24);
    if text.split('+').all(is_one) {
        Ok(text.to_owned())
    } else {
        Err("expected numbers from 0 to 23, like 7 or 0+7".to_owned())
    }
}

/// `keys protect`.
pub(super) fn protect(context: &Context, args: &Protect) -> Result<Exit, CliError> {
    let Some(kind) = args.with else {
        let home = context.home()?;
        return answer(context, home.protection(), 0);
    };
    if kind != Protection::Tpm2 && (args.tpm2_device.is_some() || args.tpm2_pcrs.is_some()) {
        return Err(CliError::usage(format!("--tpm2-device and --tpm2-pcrs are for --with tpm2, not for '{kind}'")));
    }
    let (home, _lock) = context.create_home()?;
    home.settle()?;
    let wanted = Guarding { kind, device: args.tpm2_device.clone(), registers: args.tpm2_pcrs.clone() };
    let (home, changed) = home.guarded(&wanted)?;
    answer(context, home.protection(), changed)
}

fn answer(context: &Context, kind: Protection, changed: usize) -> Result<Exit, CliError> {
    if context.json {
        return context.answer(json!({ "protection": kind, "rewritten": changed }), Exit::Ok);
    }
    context.out.line(kind.word())?;
    if changed > 0 {
        context.say(&format!(
            "{changed} files were rewritten; what they were before may still be on the disk's free blocks"
        ));
    }
    Ok(Exit::Ok)
}

/// What this machine has to guard a home with, the best first.
fn at_hand() -> impl Iterator<Item = Protection> {
    let is_root = rustix::process::geteuid().is_root();
    let tpm = is_root && Path::new("/dev/tpmrm0").exists();
    // A container has no key of its own that would be worth anything.
    let host = is_root && Path::new("/run/systemd/system").is_dir();
    [(tpm, Protection::Tpm2), (host, Protection::Host)].into_iter().filter(|(has, _)| *has).map(|(_, kind)| kind)
}

/// Guards a home before keys are made in it: by what was asked for, or else by the best that the machine has; at least as the
/// policy wants it. A home that has keys already is left as it is, unless that is too little.
///
/// # Errors
/// The machine has not got what is wanted, or it does not work.
pub(super) fn guard(
    context: &Context,
    home: Home,
    asked: Option<Protection>,
    policy: Protection,
) -> Result<Home, CliError> {
    let least = asked.unwrap_or(Protection::File).max(policy);
    let has = home.protection();
    let is_settled = has > Protection::File || asked == Some(Protection::File) || home.has_private_halves()?;
    if has >= least && is_settled {
        return Ok(home);
    }
    let mut kinds: Vec<Protection> = match asked {
        Some(_) => vec![least],
        None => at_hand().filter(|kind| *kind >= least).collect(),
    };
    if kinds.is_empty() && least > Protection::File {
        kinds.push(least);
    }
    let mut trouble = None;
    for kind in kinds {
        match home.clone().guarded(&Guarding { kind, device: None, registers: None }) {
            Ok((home, _)) => {
                context.say(&format!("private halves are guarded by '{kind}'"));
                return Ok(home);
            }
            Err(e) if least == Protection::File => context.say(&format!("going on without: {e}")),
            Err(e) => trouble = Some(e),
        }
    }
    match trouble {
        None => Ok(home),
        Some(e) => {
            let who = if policy >= least { "the policy" } else { "the configuration" };
            let error = CliError::from(e);
            Err(CliError { message: format!("{}; {who} wants '{least}'", error.message), ..error })
        }
    }
}
