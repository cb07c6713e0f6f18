//! Files that sops seals: opened by whoever has their data key.

use std::path::Path;

use zeroize::Zeroizing;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::helper::{AGE, GPG};
use super::import_cmd::{Found, absolute, read_secret, text};
use crate::formats::{Format, Sops, SopsError, Stanza};
use crate::ops;

/// The message that holds a data key, bytes.
const STANZA_BYTES_MAX: usize = 64 << 10;
/// A data key, bytes, with room to see that it is none.
const DATA_KEY_BYTES_MAX: usize = 1 << 10;

/// Opens a file and gives its encrypted values.
pub(super) fn read(context: &Context, file: &Path, identity: Option<&Path>) -> Result<Vec<Found>, CliError> {
    let bytes = read_secret(file)?;
    let format = Format::of_name(&file.to_string_lossy()).ok_or_else(|| {
        CliError::usage(format!("{}: its name does not tell its format", shown(file))).hint(
            "sops files that are read here end in .yaml, .yml, .json, .env or .ini; \
                 'sops decrypt FILE | keys seal OWNER/NAME' takes any other as one secret",
        )
    })?;
    let refused = |e: SopsError| {
        let exit = match e {
            SopsError::Mac | SopsError::Value { .. } | SopsError::Key => Exit::No,
            _ => Exit::Failed,
        };
        let place = if let SopsError::Format(_) = e { ", " } else { ": " };
        let error = CliError::new(exit, format!("{}{place}{e}", shown(file)));
        match e {
            SopsError::Groups => error.hint(
                "whoever has keys of enough groups can pass the values on: \
                 sops decrypt --extract '[\"NAME\"]' FILE | keys seal OWNER/NAME",
            ),
            _ => error,
        }
    };
    let sops = Sops::parse(format, text(file, &bytes)?).map_err(refused)?;
    let key = data_key(context, &sops, identity)
        .map_err(|e| CliError { message: format!("{}: {}", shown(file), e.message), ..e })?;
    let leaves = sops.open(&key).map_err(refused)?;
    if sops.clear_count() > 0 {
        context.say(&format!("left out: {} values that stand in the clear", sops.clear_count()));
    }
    Ok(leaves.into_iter().map(Found::leaf).collect())
}

/// The data key: with a key of this home, else with age, else with gpg.
fn data_key(context: &Context, sops: &Sops, identity: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let pgp = sops.stanzas().iter().filter_map(|s| if let Stanza::Pgp(text) = s { Some(text) } else { None });
    if let Some(home) = context.maybe_home()? {
        let mut fleet = context.open()?;
        for message in pgp.clone() {
            let Ok(message) = crate::openpgp::dearmor(message.as_bytes(), STANZA_BYTES_MAX) else { continue };
            if let Some(key) = ops::open_foreign(&message, DATA_KEY_BYTES_MAX, &home, &mut fleet)? {
                return Ok(key);
            }
        }
    }
    let mut failed = Vec::new();
    if let Some(identity) = identity {
        let identity = absolute(identity)?;
        for stanza in sops.stanzas() {
            let Stanza::Age(message) = stanza else { continue };
            match AGE.run(&["--decrypt", "--identity", &identity], message.as_bytes(), DATA_KEY_BYTES_MAX) {
                Ok(key) => return Ok(key),
                Err(e) => failed.push(e.message),
            }
        }
    }
    for message in pgp {
        match GPG.run(&["--batch", "--quiet", "--no-tty", "--decrypt"], message.as_bytes(), DATA_KEY_BYTES_MAX) {
            Ok(key) => return Ok(key),
            Err(e) => failed.push(e.message),
        }
    }
    let said = if failed.is_empty() { String::new() } else { format!(": {}", failed.join("; ")) };
    let error = CliError::new(Exit::No, format!("nothing here opens its data key{said}"));
    let has_age = sops.stanzas().iter().any(|s| matches!(s, Stanza::Age(_)));
    Err(match (has_age, identity) {
        (true, None) => error.hint("it is sealed with age, too: --identity names the file of an identity"),
        _ => error.hint("take a machine whose gpg or age has a key for it"),
    })
}
