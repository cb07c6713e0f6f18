//! What machines say of themselves, at a mirror: listed with digests, so that only what is new is brought. Each is judged here
//! like one that its machine hands in, and an older one never takes the place of a newer.

use std::path::Path;
use std::time::Duration;

use super::ca::Mirrors;
use super::mirror::Mirror;
use super::pull::locked;
use super::{Fault, MirrorError, PullError};
use crate::digest::Digest;
use crate::disk::{Access, Disk, DiskError, EntryKind, RealFiles};
use crate::fleet::{Fleet, Known, Refusal, Taken};
use crate::limits::{ACK_BYTES_MAX, ACKS_LISTED_MAX};
use crate::store::{Public, Store};
use crate::time::Time;

/// How long a mirror has for each.
const PATIENCE: Duration = Duration::from_secs(30);

/// The acknowledgements below `prefix`: a member and the digest of what it says, one a line.
pub(super) fn list(disk: &Disk, prefix: &str) -> Result<String, DiskError> {
    let mut list = String::new();
    for (name, kind) in disk.list(&format!("{prefix}acks"))?.into_iter().take(ACKS_LISTED_MAX) {
        let path = format!("acks/{name}");
        if kind != EntryKind::File || Public::parse(&format!("keyring/{path}")).is_none() {
            continue;
        }
        // One that is larger than any is nobody's.
        if let Ok(Some(bytes)) = disk.read(&format!("{prefix}{path}"), ACK_BYTES_MAX) {
            list.push_str(&format!("{name} {}\n", Digest::of(&bytes)));
        }
    }
    Ok(list)
}

/// What was brought of what machines say.
#[derive(Debug, Default)]
pub struct BroughtAcks {
    /// How many are new here.
    pub new: usize,
    /// What was wrong with mirrors, or with what they have.
    pub faults: Vec<Fault>,
}

/// Brings what machines say of themselves from the first of these addresses that lists it. The keyring is up to date.
///
/// # Errors
/// [`PullError`], for what is wrong here.
pub fn bring_acks(from: &Mirrors, directory: &Path, known: &Known, now: Time) -> Result<BroughtAcks, PullError> {
    let path = directory.join("keyring");
    let shown = || crate::text::shown(&path.display().to_string()).to_string();
    let files = RealFiles::open(&path, Access::Public);
    let keyring = files.map(Disk::new).map_err(|source| DiskError { doing: "open", path: shown(), source })?;
    let mut brought = BroughtAcks::default();
    for address in &from.addresses {
        let found = from.open(address).and_then(|mirror| newer(mirror.as_ref(), &keyring));
        match found {
            Ok(None) => {}
            Ok(Some(files)) => {
                take(address, &files, &keyring, (known, now), &mut brought)?;
                break;
            }
            Err(error) => brought.faults.push(fault(address, error)),
        }
    }
    Ok(brought)
}

/// Files by their paths.
type Files = Vec<(String, Vec<u8>)>;

fn fault(address: &str, error: MirrorError) -> Fault {
    Fault { mirror: crate::text::shown(address).to_string(), error, evidence: None }
}

/// What the mirror has and is not here, with the paths; none if it lists nothing.
fn newer(mirror: &dyn Mirror, keyring: &Disk) -> Result<Option<Files>, MirrorError> {
    let Some(list) = mirror.acks(PATIENCE)? else { return Ok(None) };
    let mut found = Vec::new();
    for (name, digest) in list.lines().take(ACKS_LISTED_MAX).filter_map(|line| line.split_once(' ')) {
        let (Some(Public::Ack(member)), Some(digest)) =
            (Public::parse(&format!("keyring/acks/{name}")), Digest::parse(digest))
        else {
            continue;
        };
        let path = Public::Ack(member).path();
        let below = path.trim_start_matches("keyring/");
        let here = keyring.read(below, ACK_BYTES_MAX).ok().flatten();
        if here.is_some_and(|bytes| Digest::of(&bytes) == digest) {
            continue;
        }
        // It may have been replaced since it was listed; whatever it is now is judged.
        found.extend(mirror.get(&path, ACK_BYTES_MAX, PATIENCE)?.map(|bytes| (path, bytes)));
    }
    Ok(Some(found))
}

fn take(
    address: &str,
    files: &[(String, Vec<u8>)],
    keyring: &Disk,
    (known, now): (&Known, Time),
    brought: &mut BroughtAcks,
) -> Result<(), PullError> {
    if files.is_empty() {
        return Ok(());
    }
    let _lock = locked(keyring)?;
    let store = Store::new(keyring.clone());
    let mut fleet = Fleet::open(store.clone(), known, now, &mut |_, _| {})?;
    for (path, bytes) in files {
        match fleet.take_ack(bytes, &store) {
            Ok(Taken::New) => brought.new += 1,
            Ok(Taken::Known) => {}
            Err(Refusal::Fleet(e)) => return Err(e.into()),
            Err(refusal) => brought.faults.push(fault(address, MirrorError::wrong(path, refusal))),
        }
    }
    Ok(())
}
