//! Password stores of pass and gopass: a directory of OpenPGP messages, and `.gpg-id`, which says for whom they are.

use std::path::Path;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::read_file;
use super::helper::GPG;
use super::import_cmd::{Found, absolute};
use crate::limits::{IMPORT_VALUES_MAX, SEALED_BYTES_MAX, SECRET_BYTES_MAX};
use crate::ops;

/// How deep the directories of a store may lie in each other.
const DEPTH_MAX: usize = 16;
/// The ending of a secret's file.
const ENDING: &str = ".gpg";

/// Opens every secret of a store, in the order of their names.
pub(super) fn read_store(context: &Context, directory: &Path, first_line: bool) -> Result<Vec<Found>, CliError> {
    let mut names = Vec::new();
    list(directory, "", 0, &mut names)?;
    if names.is_empty() {
        return Err(CliError::new(Exit::NotFound, format!("there is no {ENDING} file below {}", shown(directory))));
    }
    names.sort();
    let home = context.maybe_home()?;
    let mut fleet = context.open()?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let path = directory.join(format!("{name}{ENDING}"));
        let message = read_file(&path, SEALED_BYTES_MAX)?;
        let own = match &home {
            Some(home) => ops::open_foreign(&message, SECRET_BYTES_MAX, home, &mut fleet)?,
            None => None,
        };
        let mut value = match own {
            Some(value) => value,
            None => decrypt_file(&path)?,
        };
        if first_line {
            let end = value.iter().position(|b| *b == b'\n').unwrap_or(value.len());
            value.truncate(end);
        }
        found.push(Found { from: name.clone(), source: name, value });
    }
    Ok(found)
}

/// Decrypts a file with the user's own gpg, whose agent asks for a passphrase where one is needed.
fn decrypt_file(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, CliError> {
    let text = &absolute(path)?;
    GPG.run(&["--batch", "--quiet", "--no-tty", "--decrypt", "--", text], b"", SECRET_BYTES_MAX).map_err(|e| CliError {
        message: format!("{}: no key of this home opens it, and {}", shown(path), e.message),
        ..e
    })
}

/// The secrets below a directory, by their names in the store. What begins with a dot is none; links are not followed.
fn list(directory: &Path, below: &str, depth: usize, names: &mut Vec<String>) -> Result<(), CliError> {
    let failed = |e: std::io::Error| {
        let exit = if e.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Unknown };
        CliError::new(exit, format!("cannot read {}: {e}", shown(directory)))
    };
    if depth > DEPTH_MAX {
        return Err(CliError::failed(format!("{} lies deeper than {DEPTH_MAX} directories", shown(directory))));
    }
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let name = entry.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| CliError::failed(format!("{} has a name that is not UTF-8", shown(&entry.path()))))?;
        let name_below = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            list(&entry.path(), &name_below, depth.saturating_add(1), names)?;
        } else if let Some(name) = name_below.strip_suffix(ENDING) {
            if !kind.is_file() {
                return Err(CliError::failed(format!("{} is no file of its own", shown(&entry.path())))
                    .hint("links are not followed: put what it leads to in its place"));
            }
            if names.len() >= IMPORT_VALUES_MAX {
                return Err(CliError::failed(format!(
                    "{} holds more than {IMPORT_VALUES_MAX} secrets",
                    shown(directory)
                ))
                .hint("import it in parts, by its directories"));
            }
            names.push(name.to_owned());
        }
    }
    Ok(())
}
