//! `keys drill`: try a restore where nobody sees it, have another program open the canary, and log what came of it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;
use zeroize::Zeroizing;

use super::backup_args::{Drill, DrillRestore, DrillVerb};
use super::backup_cmd::contents;
use super::context::{Context, placed_exit, placed_json, placed_text, reason, shown};
use super::exit::{CliError, Exit};
use super::restore_cmd::messages;
use super::scratch::Scratch;
use crate::digest::Digest;
use crate::disk::open_file;
use crate::fleet::{Fleet, Known};
use crate::home::Home;
use crate::name::Address;
use crate::ops::{self, DrillFindings, OpsError, Place, Restored, Sources};

/// Where a distribution installs gpg. Only there: what is on the path of others is not run.
const GPG: &str = "/usr/bin/gpg";

/// `keys drill`.
pub(super) fn drill(context: &Context, args: &Drill) -> Result<Exit, CliError> {
    match &args.verb {
        DrillVerb::Restore(args) => restore(context, args),
        DrillVerb::Canary { address, change, reason: why } => {
            if address.name() != ops::CANARY {
                return Err(CliError::usage(format!("a canary is named {}: {}", ops::CANARY, example(address))));
            }
            let placed = context.change(|fleet, home| {
                let plan = ops::plan_seal(address, fleet)?;
                let value = ops::canary_value(&fleet.state().id);
                let why = reason(why, "a canary for restore drills");
                let draft = ops::seal(&plan, value.as_bytes(), &why, change.signer.as_ref(), home, fleet)?;
                context.place(fleet, home, vec![draft], change)
            })?;
            placed.iter().for_each(|p| context.say(&placed_text(p)));
            Ok(placed_exit(&placed))
        }
    }
}

fn example(address: &Address) -> String {
    let owner = address.to_string();
    format!("{}/{}", owner.split('/').next().unwrap_or_default(), ops::CANARY)
}

fn restore(context: &Context, args: &DrillRestore) -> Result<Exit, CliError> {
    let start = Instant::now();
    let home = context.home()?;
    let running = context.open()?;
    let known = Known { pin: Some(running.pin().id), ..Known::default() };
    let scratch = Scratch::for_drill()?;
    let mut opener = "keys";
    let (backup, restored) = match &args.file {
        Some(file) => from_backup(context, args, file, &scratch, &known)?,
        None => (None, from_keyring(context, &scratch, &known)),
    };
    let findings = match restored {
        Err(e) => DrillFindings::nothing(e.to_string()),
        Ok(mut restored) => {
            let mut found = ops::compare(&restored.fleet, &running)?;
            if !args.without_canary {
                match canary(args, &home, &mut restored.fleet, &scratch) {
                    Ok((version, by)) => (found.canary, opener) = (Some(version), by),
                    Err(e) => found.problems.push(format!("the canary: {}", e.message)),
                }
            }
            found
        }
    };
    let seconds = start.elapsed().as_secs();
    let why = reason(&args.reason, "restore drill");
    let placed = context
        .change(|fleet, home| context.place(fleet, home, vec![findings.draft(backup, seconds, &why)], &args.change))?;
    let good = findings.problems.is_empty();
    if good && let Some(directory) = &args.key {
        // Whoever had the key and the shares could open the backup again.
        ops::forget_request(&Place::create(directory)?)?;
    }
    let exit = if good { placed_exit(&placed) } else { Exit::No };
    if context.json {
        let placed: Vec<_> = placed.iter().map(placed_json).collect();
        let value = json!({
            "good": good, "problems": findings.problems, "size": findings.size, "root": findings.root.to_string(),
            "state": findings.state.to_string(), "canary": findings.canary, "opened_by": opener, "seconds": seconds, "placed": placed,
        });
        return context.answer(value, exit);
    }
    let out = context.out;
    for problem in &findings.problems {
        out.line(&format!("failed: {}", crate::text::shown(problem)))?;
    }
    if findings.size > 0 {
        out.line(&format!("restored {} entries, state {}, in {seconds} s", findings.size, findings.state.short()))?;
    }
    match findings.canary {
        Some(version) => out.line(&format!("the canary's version {version} was opened by {opener}"))?,
        None => out.line("no canary was opened")?,
    }
    placed.iter().for_each(|p| context.say(&placed_text(p)));
    Ok(exit)
}

type FromBackup = (Option<Digest>, Result<Restored, OpsError>);

/// Restores a backup. That it cannot be begun (no such file, no key) is no drill; that nothing comes of it is a failed one.
fn from_backup(
    context: &Context,
    args: &DrillRestore,
    file: &Path,
    scratch: &Scratch,
    known: &Known,
) -> Result<FromBackup, CliError> {
    let directory = args.key.as_deref();
    let directory = directory.ok_or_else(|| CliError::usage("--key names the directory of 'keys restore prepare'"))?;
    let contents = contents(file)?;
    if !contents.manifest.holds.is_empty() && !scratch.memory {
        return Err(CliError::failed(
            "it holds private halves, and there is no file system in memory to restore it to",
        ));
    }
    let place = Place::create(directory)?;
    let shares = ops::open_shares(&place, &messages(&args.shares)?, &contents.manifest)?;
    let mut file = open_file(file)?;
    let place = Place::create(&scratch.path.join("restored"))?;
    let restored = ops::restore(&place, (&contents, &mut file), &shares, known, context.now());
    // Nothing more is asked of the private halves: that they are the ones that went in was checked file by file.
    let _ = std::fs::remove_dir_all(scratch.path.join("restored/home"));
    if let Err(e @ OpsError::Shares(_)) = restored {
        return Err(e.into());
    }
    Ok((Some(contents.manifest.backup), restored))
}

fn from_keyring(context: &Context, scratch: &Scratch, known: &Known) -> Result<Restored, OpsError> {
    let failed = |e: CliError| OpsError::Impossible(e.message);
    let (keyring, policy) = (context.keyring(false).map_err(failed)?, context.policy(false).map_err(failed)?);
    let _lock = context.lock(&keyring).map_err(failed)?;
    let place = Place::create(&scratch.path.join("restored"))?;
    ops::copy_keyring(&place, &Sources { keyring: &keyring, policy: &policy, home: None }, known, context.now())
}

/// Opens the canary of what was restored: by keys, and where gpg is there, and can read the profile, by gpg as well.
fn canary(
    args: &DrillRestore,
    home: &Home,
    restored: &mut Fleet,
    scratch: &Scratch,
) -> Result<(u64, &'static str), CliError> {
    let address = match &args.canary {
        Some(address) => address.clone(),
        None => ops::canary(restored)?,
    };
    let version = ops::open_canary(&address, home, restored)?;
    let key = ops::session_key(&address, home, restored)?;
    let (Some((key, sealed)), true) = (key, Path::new(GPG).is_file()) else { return Ok((version, "keys")) };
    let file = scratch.path.join("canary.pgp");
    std::fs::write(&file, sealed).map_err(|e| CliError::failed(format!("cannot write {}: {e}", shown(&file))))?;
    let value = gpg(&file, &key, scratch)?;
    if value.as_slice() != ops::canary_value(&restored.state().id).as_bytes() {
        return Err(CliError::failed("gpg gives another value than keys"));
    }
    Ok((version, "keys and gpg"))
}

/// What gpg makes of a file with this session key. It has no private key, and writes nothing outside the scratch directory.
fn gpg(file: &Path, key: &str, scratch: &Scratch) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let gpg_home = scratch.path.join("gnupg");
    Home::create(&gpg_home)?;
    let failed = |e: std::io::Error| CliError::new(Exit::Unknown, format!("cannot run {GPG}: {e}"));
    let mut child = Command::new(GPG)
        .env_clear()
        .env("GNUPGHOME", &gpg_home)
        .env("LC_ALL", "C")
        .args(["--batch", "--no-tty", "--quiet", "--no-autostart", "--skip-verify"])
        .args(["--override-session-key-fd", "0", "--decrypt", "--"])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(format!("{key}\n").as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let value = Zeroizing::new(output.stdout);
    if output.status.success() {
        return Ok(value);
    }
    Err(CliError::failed(format!("gpg does not open it: {}", crate::text::shown(said.trim()))))
}
