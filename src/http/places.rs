//! What a server gives to many at one time, and gets back however they end: places for connections, bytes of bodies.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Traffic, one_more};

/// A connection that is counted while it is served.
pub(super) struct Counted<'a>(Option<&'a Traffic>);

impl<'a> Counted<'a> {
    pub(super) fn new(traffic: Option<&'a Traffic>) -> Self {
        traffic.into_iter().for_each(|t| one_more(&t.open));
        Self(traffic)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(traffic) = self.0 {
            traffic.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How many connections each client has.
pub(super) type Open = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

/// One of the connections that are served; gives its place back when it ends, however it ends.
pub(super) struct Slot(Open, IpAddr);

impl Slot {
    pub(super) fn take(open: &Open, peer: IpAddr, all: usize) -> Option<Self> {
        let mut places = open.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, own) = (places.values().sum::<usize>(), places.get(&peer).copied().unwrap_or_default());
        // Whoever is behind one address with many others, a reverse proxy, say, is as good as one client.
        let share = if peer.is_loopback() { all } else { all / 2 };
        if taken >= all || own >= share {
            return None;
        }
        places.insert(peer, own + 1);
        Some(Self(Arc::clone(open), peer))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match places.get_mut(&self.1) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(places.remove(&self.1)),
        }
    }
}

/// How much of what all together may have one of them holds: of bytes of bodies, say.
pub(super) struct Held<'a>(&'a AtomicUsize, usize);

impl<'a> Held<'a> {
    pub(super) fn new(all: &'a AtomicUsize) -> Self {
        Self(all, 0)
    }

    /// Holds `bytes` if there is room.
    pub(super) fn hold(&mut self, bytes: usize, all: usize) -> bool {
        let has_room = self.0.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes) <= all;
        if has_room {
            self.1 += bytes;
        } else {
            self.0.fetch_sub(bytes, Ordering::SeqCst);
        }
        has_room
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}
