//! The agent as a whole: rounds over all peers.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;

use super::pair::{Action, Pair, View};
use super::report::{LaneReport, PairReport};
use super::sample::{Moment, Samples, Track};
use super::{Drain, Wanted, WantedPeer};
use crate::name::MemberName;
use crate::wireguard::{Lane, WgPublicKey};

/// The pause between rounds while something is to be done or waited for.
const IN_TRANSITION: Duration = Duration::from_millis(250);
/// The pause at rest.
pub(super) const AT_REST: Duration = Duration::from_secs(5);

/// The agent's state: what it has seen and decided so far. It forgets nothing that matters when it is started anew with
/// the routes that are there.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    started: Option<Moment>,
    last: Option<Moment>,
    keys: [Option<WgPublicKey>; 2],
    tracks: [BTreeMap<WgPublicKey, Track>; 2],
    wanted: BTreeMap<MemberName, WantedPeer>,
    pairs: BTreeMap<MemberName, Pair>,
    adopted: BTreeMap<MemberName, Lane>,
    in_transition: bool,
}

impl Agent {
    /// An agent that knows nothing yet.
    pub fn new() -> Self {
        Self { in_transition: true, ..Self::default() }
    }

    /// Tells a new agent of a route that is there, so that it changes nothing without need.
    pub fn adopt(&mut self, peer: &MemberName, lane: Lane) {
        self.adopted.insert(peer.clone(), lane);
    }

    /// One round: takes in what the interfaces say and tells what to do, in order.
    ///
    /// Called at [`Agent::pause`] after the last one, and at once when `wanted` has changed; the interfaces have the
    /// peers and keys of `wanted` by then, and the samples are taken after that.
    pub fn round(&mut self, now: Moment, wanted: &Wanted, samples: &Samples, rng: &mut impl Rng) -> Vec<Action> {
        let mut out = Vec::new();
        let started = *self.started.get_or_insert(now);
        self.last = Some(now);
        self.observe(now, wanted, samples);
        for (peer, lane) in std::mem::take(&mut self.adopted) {
            self.pairs.entry(peer).or_insert_with(|| Pair::new(started)).route = Some(lane);
        }
        self.pairs.retain(|name, _| {
            let keep = wanted.peers.contains_key(name);
            if !keep {
                out.push(Action::Drop { peer: name.clone() });
            }
            keep
        });
        for (name, peer) in &wanted.peers {
            let tracks = [Lane::A, Lane::B]
                .map(|lane| lane.of(&peer.keys).as_ref().and_then(|key| lane.of(&self.tracks).get(key)));
            let view = View { now, own: &wanted.keys, name, peer, tracks };
            let pair = self.pairs.entry(name.clone()).or_insert_with(|| Pair::new(now));
            pair.round(&view, rng, &mut out);
        }
        // A node that hears nobody looks closely: it may be the one that was away.
        let alone = !self.pairs.is_empty() && !self.pairs.values().any(Pair::any_proven);
        self.in_transition = alone || self.pairs.values().any(|pair| pair.in_transition(now));
        if self.wanted != wanted.peers {
            self.wanted.clone_from(&wanted.peers);
        }
        out
    }

    fn observe(&mut self, now: Moment, wanted: &Wanted, samples: &Samples) {
        let first = self.started == Some(now);
        for (((tracks, samples), own), before) in
            self.tracks.iter_mut().zip(&samples.lanes).zip(&wanted.keys).zip(&mut self.keys)
        {
            tracks.retain(|key, _| samples.contains_key(key));
            for (key, sample) in samples {
                match tracks.get_mut(key) {
                    Some(track) => track.observe(now, *sample),
                    None => {
                        tracks.insert(*key, Track::new(now, *sample));
                    }
                }
            }
            if before != own {
                *before = *own;
                if !first {
                    tracks.values_mut().for_each(|track| track.own_key_changed(now));
                }
            }
        }
    }

    /// How long until the next round.
    pub fn pause(&self) -> Duration {
        if self.in_transition { IN_TRANSITION } else { AT_REST }
    }

    /// The lane of the route to `peer`; none if there is no route.
    pub fn lane_of(&self, peer: &MemberName) -> Option<Lane> {
        self.pairs.get(peer).and_then(|pair| pair.route)
    }

    /// Whether the lane was proven towards `peer` in the last round.
    pub fn is_proven(&self, peer: &MemberName, lane: Lane) -> bool {
        self.pairs.get(peer).is_some_and(|pair| pair.is_proven(lane))
    }

    /// The peers that are there and could not be moved to `lane`: before a rotation there should be none.
    pub fn unproven(&self, lane: Lane) -> Vec<MemberName> {
        let Some(now) = self.last else { return Vec::new() };
        let missing = self.pairs.iter().filter(|(_, pair)| !pair.is_away(now) && !pair.is_proven(lane));
        missing.map(|(name, _)| name.clone()).collect()
    }

    /// How far `lane` is drained. See the module's head for what counts.
    pub fn drain(&self, lane: Lane, now: Moment) -> Drain {
        let started = self.started.unwrap_or(now);
        let mut carrying = Vec::new();
        let mut quiet_for = now.since(started);
        let heard = |peer: &WantedPeer, lane: Lane| {
            let track = lane.of(&peer.keys).as_ref().and_then(|key| lane.of(&self.tracks).get(key));
            track.map(|track| track.heard.unwrap_or(track.since))
        };
        for (name, pair) in &self.pairs {
            let Some(peer) = self.wanted.get(name) else { continue };
            if pair.is_away(now) {
                continue;
            }
            if pair.route == Some(lane) || peer.preferred == lane || !pair.is_proven(lane.other()) {
                carrying.push(name.clone());
            }
            let there = heard(peer, lane).unwrap_or(pair.since);
            let elsewhere = heard(peer, lane.other()).unwrap_or(pair.since);
            quiet_for = quiet_for.min(elsewhere.since(there));
        }
        // Also whoever is not wanted any more, as long as the interface knows it.
        let any = lane.of(&self.tracks).values().filter_map(|track| track.heard).max();
        quiet_for = quiet_for.min(any.map_or(quiet_for, |at| now.since(at)));
        Drain { carrying, quiet_for }
    }

    /// An account of every pair, by the peer's name.
    pub fn report(&self, now: Moment) -> Vec<PairReport> {
        let of = |name: &MemberName, pair: &Pair, peer: &WantedPeer| PairReport {
            peer: name.clone(),
            route: pair.route,
            preferred: peer.preferred,
            draining: peer.draining.then(|| peer.preferred.other()),
            held: pair.is_held(),
            away: pair.is_away(now),
            lanes: Lane::ALL.map(|lane| {
                let track = lane.of(&peer.keys).as_ref().and_then(|key| lane.of(&self.tracks).get(key));
                LaneReport {
                    lane,
                    key: *lane.of(&peer.keys),
                    proven: pair.is_proven(lane),
                    keepalive: pair.keepalive(lane),
                    handshake_seconds: track.and_then(|track| track.age(now)).map(|age| age.as_secs()),
                    heard_seconds: track.and_then(|track| track.heard).map(|at| now.since(at).as_secs()),
                }
            }),
        };
        let known = self.pairs.iter().filter_map(|(name, pair)| Some((name, pair, self.wanted.get(name)?)));
        known.map(|(name, pair, peer)| of(name, pair, peer)).collect()
    }
}
