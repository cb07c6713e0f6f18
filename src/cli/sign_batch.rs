//! `keys ssh sign-batch`: certificates for many people's keys, by one list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::args::Change;
use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::{read_file, write_file};
use super::render_cmd::{beside, public_key, sign};
use crate::limits::BATCH_BYTES_MAX;
use crate::name::MemberName;
use crate::ops::{self, IssuePlan};
use crate::ssh::SshPublicKey;

/// A line of the list.
struct Wanted {
    member: MemberName,
    file: PathBuf,
    key: SshPublicKey,
}

/// Reads the list: `MEMBER FILE` a line, files relative to the list; empty lines and those with `#` in front say nothing. All
/// of it is read before anything is decided.
fn read(list: &Path) -> Result<Vec<Wanted>, CliError> {
    let text = String::from_utf8(read_file(list, BATCH_BYTES_MAX)?)
        .map_err(|_| CliError::failed(format!("{} is not a text", shown(list))))?;
    let directory = list.parent().unwrap_or(Path::new(""));
    let mut wanted: Vec<Wanted> = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
        let place = format!("{}, line {}", shown(list), i + 1);
        let (member, file) = line
            .trim()
            .split_once(char::is_whitespace)
            .ok_or_else(|| CliError::failed(format!("{place}: a line is a member and the file of a public key")))?;
        let member = member.parse().map_err(|e| CliError::failed(format!("{place}: {e}")))?;
        let file = directory.join(file.trim());
        let key = public_key(&file).map_err(|e| CliError { message: format!("{place}: {}", e.message), ..e })?;
        if wanted.iter().any(|w| w.key == key) {
            return Err(CliError::failed(format!("{place}: the key stands in the list twice")));
        }
        wanted.push(Wanted { member, file, key });
    }
    if wanted.is_empty() {
        return Err(CliError::failed(format!("{} names nobody; a line is a member and a file", shown(list))));
    }
    Ok(wanted)
}

/// `keys ssh sign-batch`.
pub(super) fn batch(context: &Context, list: &Path, again: bool, change: &Change, why: &str) -> Result<Exit, CliError> {
    let wanted = read(list)?;
    let plan = |fleet: &mut crate::fleet::Fleet| {
        let mut all = IssuePlan::default();
        let mut rng = context.rng()?;
        for one in &wanted {
            let plan = ops::plan_user(&one.member, &one.key, &BTreeSet::new(), None, again, fleet, &mut rng)?;
            all.issues.extend(plan.issues);
            all.good.extend(plan.good);
        }
        Ok(all)
    };
    let (exit, signed) = sign(context, change, why, &plan)?;
    let mut written = 0;
    for one in &wanted {
        if let Some((_, certificate)) = signed.iter().rev().find(|(_, c)| c.subject_blob() == one.key.blob()) {
            write_file(&beside(&one.file), format!("{}\n", certificate.to_line()).as_bytes())?;
            written += 1;
        }
    }
    if !change.dry_run {
        context.say(&format!("{written} of {} certificates written beside their keys", wanted.len()));
    }
    Ok(exit)
}
