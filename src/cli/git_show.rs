//! What git shows of a sealed file and of the log's files: for people, from the bytes that git has and the fleet beside them.
//! That something cannot be told is shown, and never an error: git would show nothing at all then.

use std::path::Path;

use sequoia_openpgp::KeyHandle;

use super::context::Context;
use super::describe;
use super::exit::{CliError, Exit};
use super::founding::read_file;
use crate::digest::Digest;
use crate::fleet::Fleet;
use crate::limits::{COMMIT_BYTES_MAX, SEALED_BYTES_MAX};
use crate::log::commit::Commit;
use crate::log::tile::{TILE_WIDTH, parse_entries};
use crate::name::{Address, Slot};
use crate::openpgp::{Fingerprint, Sealed};
use crate::ops;
use crate::state::{LiveSecret, Prepared, State, Verdict, Watch};
use crate::statement::{Act, Entry};

/// A sealed file.
pub(super) fn sealed(context: &Context, file: &Path, values: bool) -> Result<Exit, CliError> {
    let bytes = read_file(file, SEALED_BYTES_MAX)?;
    let sealed = match Sealed::parse(&bytes) {
        Ok(sealed) => sealed,
        Err(why) => {
            context.out.line(&format!("not a sealed file: it {why}"))?;
            return Ok(Exit::Ok);
        }
    };
    if sealed.recipients.is_empty() {
        context.out.line(&format!("part    of a large value ({} bytes)", bytes.len()))?;
        return Ok(Exit::Ok);
    }
    let known = find(context, &Digest::of(&bytes));
    match &known {
        Some((_, found)) => {
            context.out.line(&format!("address {}", found.address))?;
            context.out.line(&format!("version {}", found.version))?;
            context.out.line(&format!("sealed  {} by {}", found.live.sealed, found.live.author))?;
        }
        None => context.out.line("the log knows no such file")?,
    }
    let names: Vec<String> = sealed.recipients.iter().map(|(handle, _)| reader(known.as_ref(), handle)).collect();
    let mut counted: Vec<(&String, usize)> = Vec::new();
    for name in &names {
        match counted.iter_mut().find(|(n, _)| *n == name) {
            Some((_, count)) => *count += 1,
            None => counted.push((name, 1)),
        }
    }
    counted.sort();
    for (name, count) in counted {
        context.out.line(&format!("reader  {name} ({count} keys)"))?;
    }
    context.out.line(&format!("body    {} ({} bytes)", sealed.body_digest(), sealed.body.len()))?;
    if let (true, Some((mut fleet, found))) = (values, known) {
        context.out.line(&value(context, &mut fleet, &found, &bytes))?;
    }
    Ok(Exit::Ok)
}

/// A file as the log has it, now or once.
struct Found {
    address: Address,
    version: u64,
    live: LiveSecret,
}

/// Looks for the file in the state, and if it is an older one, in the whole log.
fn find(context: &Context, file: &Digest) -> Option<(Fleet, Found)> {
    let fleet = context.open_anywhere().ok()?;
    let now = fleet.state().live_secrets().find(|(_, live)| live.file == *file);
    if let Some((address, live)) = now {
        let version = fleet.state().secrets.get(address)?.version;
        let found = Found { address: address.clone(), version, live: live.clone() };
        return Some((fleet, found));
    }
    let mut search = Search { file: *file, address: None, found: None };
    let fleet = context.open_watched(&mut search).ok()?;
    Some((fleet, search.found?))
}

/// Looks on while the log is replayed, for the entry that made a file.
struct Search {
    file: Digest,
    address: Option<Address>,
    found: Option<Found>,
}

impl Watch for Search {
    fn before(&mut self, _: Option<&State>, entry: &Prepared) {
        self.address = match entry.entry().map(|e| &e.signed.statement.act) {
            Some(Act::Seal(list)) => list.iter().find(|c| c.file == self.file).map(|c| c.address.clone()),
            Some(Act::Reseal(list)) => list.iter().find(|c| c.file == self.file).map(|c| c.address.clone()),
            _ => None,
        };
    }

    fn after(&mut self, _: &Verdict, state: &State) {
        let Some(address) = self.address.take() else { return };
        let secret = state.secrets.get(&address);
        if let Some((secret, live)) = secret.and_then(|s| Some((s, s.live.clone().filter(|l| l.file == self.file)?))) {
            self.found = Some(Found { address, version: secret.version, live });
        }
    }
}

/// Whose key a recipient's is, by the file's own entry or by the members of today.
fn reader(known: Option<&(Fleet, Found)>, handle: &KeyHandle) -> String {
    let is_it = |key: &str| Fingerprint::from_hex(key).is_ok_and(|f| handle.aliases(KeyHandle::from(f)));
    let name = known.and_then(|(fleet, found)| {
        let then = found.live.readers.iter().find(|(_, keys)| keys.iter().any(|k| is_it(k)));
        then.map(|(member, _)| member).or_else(|| {
            let members = fleet.state().members.iter();
            members
                .filter_map(|(n, m)| Some((n, m.slot(Slot::Openpgp)?)))
                .find(|(_, s)| s.keys.iter().any(|k| is_it(&k.key)))
                .map(|(n, _)| n)
        })
    });
    name.map_or_else(|| format!("unknown key {handle}"), ToString::to_string)
}

/// The value, if a key of this home opens it.
fn value(context: &Context, fleet: &mut Fleet, found: &Found, bytes: &[u8]) -> String {
    let opened = context.home().map_err(|e| e.message).and_then(|home| {
        ops::open_version(&found.address, found.version, &found.live, bytes, &home, fleet).map_err(|e| e.to_string())
    });
    match opened {
        Ok(opened) => match std::str::from_utf8(&opened.value) {
            Ok(text) if text.chars().all(|c| matches!(c, '\n' | '\t') || !crate::text::is_hidden(c)) => {
                format!("value\n{}", text.trim_end_matches('\n'))
            }
            _ => format!("value   {} bytes that are no text", opened.value.len()),
        },
        Err(why) => format!("value   not opened: {}", crate::text::escape(&why)),
    }
}

/// A bundle of entries or a commit; what else lies in the log is shown as what it is.
pub(super) fn log(context: &Context, file: &Path) -> Result<Exit, CliError> {
    let bytes = read_file(file, COMMIT_BYTES_MAX)?;
    let bundle = || (1..=TILE_WIDTH).find_map(|width| parse_entries(&bytes, width));
    let entries = match Commit::parse(&bytes) {
        Some((commit, _)) => {
            context.out.line(&format!("commit after {} entries", commit.old_size))?;
            commit.entries
        }
        None => match (std::str::from_utf8(&bytes), bundle()) {
            (_, Some(entries)) if entries.iter().any(|e| Entry::parse(e).is_ok()) => entries,
            (Ok(text), _) => {
                text.lines().try_for_each(|line| context.out.line(&crate::text::escape(line)))?;
                return Ok(Exit::Ok);
            }
            (Err(_), _) => {
                let hashes = bytes.chunks(32).map(crate::text::hex);
                hashes.into_iter().try_for_each(|hash| context.out.line(&hash))?;
                return Ok(Exit::Ok);
            }
        },
    };
    for entry in entries {
        match Entry::parse(&entry) {
            Ok(entry) => {
                context.out.line(&format!(
                    "{} {}",
                    entry.signed.id.short(),
                    describe::headline(&entry.signed.statement)
                ))?;
                for line in describe::act(&entry.signed.statement.act, None, &|_| None) {
                    context.out.line(&format!("  {}", crate::text::escape(&line)))?;
                }
                let by: Vec<&str> = entry.signatures.iter().map(|s| s.name.as_str()).collect();
                context.out.line(&format!("  signed by {}", crate::text::escape(&by.join(", "))))?;
            }
            Err(why) => {
                context.out.line(&format!("an entry that cannot be read: {}", crate::text::escape(&why.to_string())))?
            }
        }
    }
    Ok(Exit::Ok)
}
