//! Files that lint looks through: a directory's, those that were named, or those that git has staged.

use std::path::{Path, PathBuf};

use super::context::shown;
use super::exit::{CliError, Exit};
use super::git;
use crate::limits::{LINT_FILE_BYTES_MAX, LISTING_MAX, POLICY_BYTES_MAX, SEALED_BYTES_MAX};
use crate::lint::{self, Code, Finding, Severity};
use crate::name::Address;
use crate::ops;

/// What was found in files, and how many were looked through.
#[derive(Default)]
pub(super) struct Looked {
    pub findings: Vec<Finding>,
    pub files: usize,
    /// Files that are no text.
    pub binary: usize,
}

/// How many bytes of a file are read: the place says what it should be.
fn limit(path: &str) -> usize {
    if is_sealed(path) { SEALED_BYTES_MAX } else { LINT_FILE_BYTES_MAX.max(POLICY_BYTES_MAX) }
}

/// Whether a sealed file belongs here, or a part of a large value.
fn is_sealed(path: &str) -> bool {
    let below = path.strip_prefix("keyring/").or_else(|| path.rsplit_once("/keyring/").map(|(_, below)| below));
    below
        .filter(|below| below.starts_with("sealed/"))
        .is_some_and(|below| below.ends_with(".pgp") || Address::part_from_path(below).is_some())
}

impl Looked {
    /// Looks at one file; `None` is one that is too large.
    fn look(&mut self, path: &str, bytes: Option<&[u8]>) {
        let place = crate::text::shown(path).to_string();
        let Some(bytes) = bytes else {
            let text = format!("it has more than {} bytes and was not looked through", limit(path));
            let fix = "look at it yourself";
            let finding = Finding { severity: Severity::Note, code: Code::Unread, place, line: None, text, fix };
            return self.findings.push(finding);
        };
        self.files += 1;
        if is_sealed(path) {
            return self.findings.extend(ops::sealed_file(&place, bytes));
        }
        let in_policy = path.strip_prefix("policy/").or_else(|| path.rsplit_once("/policy/").map(|(_, name)| name));
        if let (Some(name), Ok(text)) = (in_policy, std::str::from_utf8(bytes)) {
            self.findings
                .extend(lint::policy_file(name, text).flatten().map(|f| Finding { place: place.clone(), ..f }));
        }
        if lint::is_binary(bytes) {
            self.binary += 1;
            return;
        }
        self.findings.extend(lint::plain(bytes).into_iter().map(|p| Finding {
            severity: p.severity,
            code: p.code,
            place: place.clone(),
            line: Some(p.line),
            text: format!("it looks like {}", p.kind),
            fix: "keys seal it, replace the value, take it out of the history",
        }));
    }

    /// Everything below a directory that is not in `without`; where git keeps it, what git keeps or would take in.
    pub(super) fn directory(&mut self, directory: &Path, without: &[PathBuf]) -> Result<(), CliError> {
        let Some(files) = git::listed(directory) else { return self.below(directory, without) };
        for path in files.into_iter().map(|f| directory.join(f)) {
            // Tracked, and removed since.
            let is_there = path.symlink_metadata().is_ok_and(|kind| kind.is_file());
            if is_there && !without.iter().any(|w| path.starts_with(w)) {
                self.below(&path, &[])?;
            }
        }
        Ok(())
    }

    /// Everything below a path, or the file itself. Neither symbolic links nor git's own files are followed into.
    pub(super) fn below(&mut self, path: &Path, without: &[PathBuf]) -> Result<(), CliError> {
        let failed = |path: &Path, e: &std::io::Error| {
            let exit = if e.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Unknown };
            CliError::new(exit, format!("cannot read {}: {e}", shown(path)))
        };
        let mut todo = vec![path.to_owned()];
        let mut count = 0_usize;
        while let Some(path) = todo.pop() {
            count += 1;
            if count > LISTING_MAX {
                return Err(CliError::failed(format!("there are more than {LISTING_MAX} files"))
                    .hint("name the directories to be looked at"));
            }
            let kind = path.symlink_metadata().map_err(|e| failed(&path, &e))?;
            if kind.is_dir() {
                let entries = std::fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let entries = entries.map_err(|e| failed(&path, &e))?;
                let mut below: Vec<PathBuf> = entries.into_iter().map(|e| e.path()).collect();
                below.retain(|p| !p.ends_with(".git") && !without.contains(p));
                // The last is taken first.
                below.sort_by(|a, b| b.cmp(a));
                todo.extend(below);
            } else if kind.is_file() {
                let name = from_here(&path);
                match read(&path, limit(&name)).map_err(|e| failed(&path, &e))? {
                    Read::Whole(bytes) => self.look(&name, Some(&bytes)),
                    Read::TooLarge => self.look(&name, None),
                    Read::Binary => (self.files, self.binary) = (self.files + 1, self.binary + 1),
                }
            }
        }
        Ok(())
    }

    /// What git has staged, as it is staged.
    pub(super) fn staged(&mut self) -> Result<(), CliError> {
        let staged = git::staged()?;
        if staged.is_empty() {
            return Ok(());
        }
        let mut blobs = git::Blobs::open()?;
        for file in staged {
            let bytes = blobs.read(&file.blob, limit(&file.path))?;
            self.look(&file.path, bytes.as_deref());
        }
        Ok(())
    }
}

/// A path as seen from the current directory, where it is below that.
fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(&here).unwrap_or(path);
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// What reading a file gave.
enum Read {
    Whole(Vec<u8>),
    TooLarge,
    /// Too large, and no text anyway.
    Binary,
}

fn read(path: &Path, limit: usize) -> std::io::Result<Read> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(match bytes.len() <= limit {
        true => Read::Whole(bytes),
        false if lint::is_binary(&bytes) => Read::Binary,
        false => Read::TooLarge,
    })
}
