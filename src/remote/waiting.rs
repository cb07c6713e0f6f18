//! What waits at a mirror: proposals with their signatures and what they refer to, and requests. It is brought so that people can
//! look at it and sign; nothing of it counts before it is in the log. And what waited here and has come to its end is taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::mirror::Mirror;
use super::pull::{Pull, locked};
use super::{MirrorError, PullError};
use crate::digest::Digest;
use crate::disk::{Disk, DiskError, EntryKind};
use crate::fleet::Fleet;
use crate::limits::{CHECKPOINT_BYTES_MAX, ENTRY_BYTES_MAX, REQUEST_BYTES_MAX, SUBMIT_BYTES_MAX, WAITING_FILES_MAX};
use crate::state::Void;
use crate::statement::{Act, ObjectKind, Signed};
use crate::store::{Public, Store, object_path, staged_path};

/// How long a mirror has for all of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What waits in the keyring below `prefix`: paths below the keyring, one a line.
pub(super) fn list(disk: &Disk, prefix: &str) -> Result<String, DiskError> {
    let mut list = String::new();
    let mut count = 0;
    let mut add = |path: &str| {
        if count < WAITING_FILES_MAX && Public::parse(&format!("keyring/{path}")).is_some() {
            count += 1;
            list.push_str(path);
            list.push('\n');
        }
    };
    for directory in ["log/cosignatures", "proposals/requests"] {
        let found = disk.list(&format!("{prefix}{directory}"))?;
        found.iter().for_each(|(name, _)| add(&format!("{directory}/{name}")));
    }
    for (id, kind) in disk.list(&format!("{prefix}proposals"))? {
        if kind == EntryKind::Directory && Digest::parse(&id).is_some() {
            let files = disk.list(&format!("{prefix}proposals/{id}"))?;
            // What has no body yet is not whole yet.
            if files.iter().any(|(name, _)| name == "body") {
                files.iter().for_each(|(name, _)| add(&format!("proposals/{id}/{name}")));
            }
        }
    }
    Ok(list)
}

/// Files in the order in which they are written.
type Files = Vec<(String, Vec<u8>)>;

/// Brings what waits at the mirror and not here; gives how many files that were. A mirror that has no list has nothing to say.
pub(super) fn bring(mirror: &dyn Mirror, pull: &Pull<'_>) -> Result<usize, BringError> {
    let Some(list) = mirror.waiting(PATIENCE)? else { return Ok(0) };
    let is_here = |path: &str| pull.keyring.read_part(path, 0, 0).map(|found| found.is_some());
    let mut proposals: BTreeMap<Digest, Vec<Public>> = BTreeMap::new();
    let mut files = Files::new();
    for public in list.lines().take(WAITING_FILES_MAX).filter_map(|l| Public::parse(&format!("keyring/{l}"))) {
        if is_here(&public.below())? {
            continue;
        }
        match &public {
            Public::Request(digest) => {
                if let Some(bytes) = named(mirror, &public.below(), digest, REQUEST_BYTES_MAX)? {
                    files.push((public.below(), bytes));
                }
            }
            Public::Body(id) | Public::Signature(id, _) => proposals.entry(*id).or_default().push(public),
            _ => {}
        }
    }
    for (id, parts) in proposals {
        files.extend(proposal(mirror, pull.keyring, &id, &parts)?);
    }
    if files.is_empty() {
        return Ok(0);
    }
    let _lock = locked(pull.keyring)?;
    Fleet::add_waiting(&Store::new(pull.keyring.clone()), &files).map_err(PullError::from)?;
    Ok(files.len())
}

/// The new files of a proposal, what it refers to first, the body last.
fn proposal(mirror: &dyn Mirror, keyring: &Disk, id: &Digest, parts: &[Public]) -> Result<Files, BringError> {
    let mut files = Files::new();
    let mut bodies = Files::new();
    let mut left = SUBMIT_BYTES_MAX;
    for part in parts {
        let path = part.below();
        match part {
            Public::Body(_) => {
                let Some(body) = named(mirror, &path, id, ENTRY_BYTES_MAX)? else { return Ok(Files::new()) };
                // What cannot be read nobody here could sign.
                let Ok(signed) = Signed::parse(&body) else { return Ok(Files::new()) };
                // What is too large to be handed in comes here as a file, or not at all.
                if let Act::Seal(list) = &signed.statement.act
                    && list.iter().any(|change| !change.parts.is_empty())
                {
                    return Ok(Files::new());
                }
                let objects: BTreeSet<(Digest, ObjectKind)> = signed.statement.act.objects().into_iter().collect();
                for (digest, kind) in objects {
                    let path = if kind == ObjectKind::Sealed { staged_path(&digest) } else { object_path(&digest) };
                    if keyring.read_part(&path, 0, 0)?.is_none()
                        && let Some(bytes) = named(mirror, &path, &digest, left)?
                    {
                        left -= bytes.len();
                        files.push((path, bytes));
                    }
                }
                bodies.push((path, body));
            }
            Public::Signature(_, digest) => {
                if let Some(bytes) = named(mirror, &path, digest, CHECKPOINT_BYTES_MAX)? {
                    files.push((path, bytes));
                }
            }
            _ => {}
        }
    }
    files.extend(bodies);
    Ok(files)
}

/// A file that its digest names; none if it has gone meanwhile.
fn named(mirror: &dyn Mirror, path: &str, digest: &Digest, limit: usize) -> Result<Option<Vec<u8>>, MirrorError> {
    match mirror.get(&format!("keyring/{path}"), limit, PATIENCE)? {
        Some(bytes) if Digest::of(&bytes) != *digest => Err(MirrorError::wrong(path, "it is not what its name says")),
        found => Ok(found),
    }
}

/// Takes away what waited here and has come to its end; gives what will never be in the log, and why.
pub(super) fn settle(pull: &Pull<'_>) -> Result<Vec<(Digest, Void)>, PullError> {
    if pull.keyring.list("proposals")?.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = locked(pull.keyring)?;
    let mut fleet = Fleet::open(Store::new(pull.keyring.clone()), pull.known, pull.now, &mut |_, _| {})?;
    Ok(fleet.forget_settled()?)
}

/// Whether it is the mirror that failed, or we.
pub(super) enum BringError {
    There(MirrorError),
    Here(PullError),
}

impl From<MirrorError> for BringError {
    fn from(e: MirrorError) -> Self {
        Self::There(e)
    }
}

impl From<PullError> for BringError {
    fn from(e: PullError) -> Self {
        Self::Here(e)
    }
}

impl From<DiskError> for BringError {
    fn from(e: DiskError) -> Self {
        Self::Here(e.into())
    }
}
