//! `keys restore`: prepare, restore, confirm.

use std::path::Path;

use serde_json::json;

use super::backup_args::{Restore, RestoreRun, RestoreVerb};
use super::backup_cmd::contents;
use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::read_file;
use crate::disk::open_file;
use crate::fleet::Known;
use crate::limits::{CHECKPOINT_BYTES_MAX, SHARE_BYTES_MAX};
use crate::ops::{self, Confirmed, Place};

/// `keys restore`.
pub(super) fn restore(context: &Context, args: &Restore) -> Result<Exit, CliError> {
    match &args.verb {
        None => run(context, &args.run),
        Some(RestoreVerb::Prepare { file, out }) => prepare(context, file, out),
        Some(RestoreVerb::Confirm { checkpoint, unchanged }) => confirm(context, checkpoint, *unchanged),
    }
}

fn prepare(context: &Context, file: &Path, out: &Path) -> Result<Exit, CliError> {
    let contents = contents(file)?;
    let certificate = ops::prepare(&Place::create(out)?, &contents.manifest, context.now())?;
    let (path, fingerprint) = (shown(&out.join("restore.pgp")), certificate.fingerprint().to_hex());
    if context.json {
        return context.answer(json!({ "certificate": path, "fingerprint": fingerprint }), Exit::Ok);
    }
    context.out.line(&format!("{path}  {}", certificate.fingerprint().to_spaced_hex()))?;
    let names = contents.manifest.custodians.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    context.say(&format!(
        "Give this file, and by voice its fingerprint, to {} of the custodians ({names}). Each runs, at home:\n  \
         keys backup open-share FILE --as NAME --to restore.pgp > NAME.share",
        contents.manifest.need
    ));
    Ok(Exit::Ok)
}

/// Reads the shares that the user named.
pub(super) fn messages(paths: &[std::path::PathBuf]) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    paths.iter().map(|path| Ok((shown(path), read_file(path, 2 * SHARE_BYTES_MAX)?))).collect()
}

fn run(context: &Context, args: &RestoreRun) -> Result<Exit, CliError> {
    let (Some(path), Some(out)) = (&args.file, &args.out) else {
        return Err(CliError::usage("which backup, and --out where to"));
    };
    let contents = contents(path)?;
    let home = context.maybe_home()?;
    // Only the pin: that this home has seen a longer log than the backup's is no wonder, and noticed when it is used.
    let known = Known { seen: None, ..context.known(home.as_ref())? };
    if known.pin.is_none() {
        return Err(CliError::usage("a backup is not believed when it says which fleet it is of")
            .hint("give the fleet's id with --pin: it stands in the 'pin' of every home, and 'keys status' shows it"));
    }
    let place = Place::create(out)?;
    let shares = ops::open_shares(&place, &messages(&args.shares)?, &contents.manifest)?;
    let mut file = open_file(path)?;
    let restored = ops::restore(&place, (&contents, &mut file), &shares, &known, context.now())?;
    let size = restored.fleet.head().map_or(0, |h| h.checkpoint.size);
    let fleet = shown(&out.join("fleet"));
    if context.json {
        let value = json!({ "fleet": fleet, "files": restored.files, "entries": size, "home": restored.home, "id": restored.fleet.pin().id.to_string() });
        return context.answer(value, Exit::Ok);
    }
    context.out.line(&format!("restored: {size} entries, {} files, to {fleet}", restored.files))?;
    if restored.home {
        context.out.line(&format!("restored: a home, to {}", shown(&out.join("home"))))?;
    }
    context.say("It can be read now. Before it changes or signs anything, 'keys restore confirm' has to see a newer checkpoint.");
    Ok(Exit::Ok)
}

fn confirm(context: &Context, checkpoint: &Path, unchanged: bool) -> Result<Exit, CliError> {
    let note = read_file(checkpoint, CHECKPOINT_BYTES_MAX)?;
    let home = context.maybe_home()?;
    let _home_lock = home.as_ref().map(|h| context.lock(h.disk())).transpose()?;
    let keyring = context.keyring(false)?;
    let _lock = context.lock(&keyring)?;
    let fleet = context.open()?;
    let (text, size) = match ops::confirm(&note, unchanged, home.as_ref(), &fleet)? {
        Confirmed::Nothing => ("there is nothing to confirm: this was not restored, or was confirmed".to_owned(), None),
        Confirmed::Yes(size) => (format!("confirmed: the first {size} entries are those of the others"), Some(size)),
    };
    if context.json {
        return context.answer(json!({ "confirmed": size }), Exit::Ok);
    }
    context.out.line(&text)?;
    Ok(Exit::Ok)
}
