//! Beginning with a snapshot, where nothing is here and its hash is trusted: the state is brought by that hash, then all that it
//! refers to, then the edge of the tree at its size. What comes before is not brought, however long the log is.
//!
//! The edge is believed no more than anything else: what grows from it has to have the root of the head, and the replay
//! refuses a state that no entry of the published log has on record (`crate::fleet`, snapshot.rs).

use super::MirrorError;
use super::brought::{Brought, Wanted};
use super::mirror::Mirrored;
use crate::digest::Digest;
use crate::disk::Disk;
use crate::fleet::FleetError;
use crate::limits::{OBJECT_BYTES_MAX, STATE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::note::VerifierKey;
use crate::state::{ObjectError, Objects, State};
use crate::store::{Growing, Store, edge_at, object_path};

/// Where a snapshot lets the bringing begin.
pub(super) struct Base {
    /// The tree there.
    pub growing: Growing,
    /// The keys that may sign what follows.
    pub keys: Vec<VerifierKey>,
}

/// Brings the state with this hash and what belongs to it.
pub(super) fn bring(
    brought: &Brought<'_>,
    over: Mirrored,
    hash: Digest,
    head: &Checkpoint,
) -> Result<Base, MirrorError> {
    object(brought, &hash, STATE_BYTES_MAX)?;
    let here = Store::new(brought.laid.clone());
    let bytes = here.object_within(&hash, STATE_BYTES_MAX).map_err(FleetError::from).map_err(MirrorError::Unsound)?;
    let useless = |problem: String| {
        let problem = crate::text::shown(&problem).to_string();
        MirrorError::Unsound(FleetError::Snapshot { state: hash, problem })
    };
    let state = State::parse(&bytes, &Asking(brought)).map_err(|e| useless(e.to_string()))?;
    drop(bytes);
    if state.log != head.origin {
        return Err(useless(format!("it is of the log {}", state.log)));
    }
    if state.size >= head.size {
        return Err(MirrorError::Behind { size: head.size, here: state.size });
    }
    let wanted: Vec<Wanted> = state.objects().iter().map(|digest| wanted(digest, OBJECT_BYTES_MAX)).collect();
    if let Some(path) = brought.all(&wanted)?.pop() {
        return Err(MirrorError::Missing(path));
    }
    let tiles = Store::new(Disk::of_bucket(over));
    let (edge, bundle) = edge_at(&tiles, state.size, head.size).map_err(|e| MirrorError::Unsound(e.into()))?;
    Ok(Base { growing: Growing::after(edge, bundle), keys: state.commit_keys() })
}

fn wanted(digest: &Digest, limit: usize) -> Wanted {
    let path = object_path(digest);
    Wanted { at: vec![path.clone()], path, digest: *digest, limit }
}

fn object(brought: &Brought<'_>, digest: &Digest, limit: usize) -> Result<(), MirrorError> {
    match brought.all(&[wanted(digest, limit)])?.pop() {
        Some(path) => Err(MirrorError::Missing(path)),
        None => Ok(()),
    }
}

/// Objects that are brought as they are asked for.
struct Asking<'a>(&'a Brought<'a>);

impl Objects for Asking<'_> {
    fn object(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError> {
        object(self.0, digest, OBJECT_BYTES_MAX).map_err(|e| ObjectError::Unreadable(*digest, e.to_string()))?;
        Store::new(self.0.laid.clone()).object(digest)
    }
}
