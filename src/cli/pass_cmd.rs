//! Password stores of pass and gopass: a directory of OpenPGP messages, and `.gpg-id`, which says for whom they are.

use std::path::Path;

use zeroize::Zeroizing;

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
/// The first line of what gopass wrote for a while: fields and an empty line follow it.
const OLD_HEAD: &[u8] = b"GOPASS-SECRET-1.0";
/// The way out for what is not read here.
const BY_GOPASS: &str = "gopass itself gives what it has: gopass show -o NAME | keys seal OWNER/NAME";

/// Opens every secret of a store, in the order of their names.
pub(super) fn read_store(context: &Context, directory: &Path, first_line: bool) -> Result<Vec<Found>, CliError> {
    let mut names = Vec::new();
    list(directory, "", 0, &mut names)?;
    if names.is_empty() {
        let none = CliError::new(Exit::NotFound, format!("there is no {ENDING} file below {}", shown(directory)));
        let is_age = directory.join(".age-recipients").exists();
        return Err(if is_age { none.hint(BY_GOPASS) } else { none });
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
            value = password(&value).ok_or_else(|| {
                CliError::failed(format!("{} is in an old format of gopass, and has no password there", shown(&path)))
                    .hint(BY_GOPASS)
            })?;
        }
        found.push(Found { from: name.clone(), source: name, value });
    }
    Ok(found)
}

/// The password of a secret: its first line. gopass before 1.13 also wrote it as a field of a head.
fn password(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut lines = value.split(|b| *b == b'\n');
    let first = lines.next().unwrap_or_default();
    if first.trim_ascii_end() != OLD_HEAD {
        return Some(Zeroizing::new(first.to_vec()));
    }
    let head = lines.take_while(|line| !line.trim_ascii_end().is_empty());
    let field =
        |line: &&[u8]| line.split_at_checked(9).is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"Password:"));
    let mut found = head.filter(field).filter_map(|line| line.get(9..));
    let password = found.next().map(|v| Zeroizing::new(v.trim_ascii().to_vec()));
    password.filter(|_| found.next().is_none())
}

/// Decrypts a file with the user's own gpg, whose agent asks for a passphrase where one is needed.
fn decrypt_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_or_the_field_of_an_old_head() {
        let said = |text: &str| password(text.as_bytes()).map(|p| String::from_utf8(p.to_vec()).unwrap());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(said("hidden\nPassword: no\n"), some("hidden"));
        assert_eq!(said(""), some(""));
        let head = "GOPASS-SECRET-1.0\nFoo: bar\nPassword: a b: c\nZab: 1\n\nPassword: no\n";
        assert_eq!(said(head), some("a b: c"));
        assert_eq!(said(&head.replace('\n', "\r\n")), some("a b: c"));
        assert_eq!(said("GOPASS-SECRET-1.0\nFoo: bar\n\nPassword: no\n"), None);
        assert_eq!(said("GOPASS-SECRET-1.0\nPassword: a\npassword: b\n"), None);
    }
}
