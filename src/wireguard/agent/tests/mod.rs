//! The agent's rules, one by one, on interfaces that a test sets by hand.

mod drain;
mod lanes;
mod proof;
mod upkeep;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{Action, Agent, Moment, Sample, Samples, Wanted, WantedPeer};
use crate::name::MemberName;
use crate::wireguard::{Lane, WgPublicKey, samples};

pub(super) fn seconds(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

/// What an interface counts of a peer.
#[derive(Clone, Copy, Default)]
pub(super) struct Line {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// After the agent's start; negative before.
    pub(super) handshake: Option<f64>,
}

/// One agent with peers `pop2`, `pop3`, …; itself it is `pop1`.
pub(super) struct Bed {
    pub(super) agent: Agent,
    pub(super) wanted: Wanted,
    pub(super) lines: BTreeMap<(Lane, WgPublicKey), Line>,
    /// Seconds since the start.
    pub(super) now: f64,
    /// How far the wall clock, by which interfaces tell ages, was set forward.
    pub(super) clock_ahead: f64,
    rng: StdRng,
}

/// The key of `pop{i}` on `lane`.
pub(super) fn key(i: usize, lane: Lane) -> WgPublicKey {
    samples::private(i, lane).public()
}

pub(super) fn name(i: usize) -> MemberName {
    samples::name(i)
}

impl Bed {
    pub(super) fn new(peers: usize) -> Self {
        let keys = |i| Lane::ALL.map(|lane| Some(key(i, lane)));
        let peer = |i| WantedPeer { keys: keys(i), preferred: Lane::A, draining: false, callable: true, calls: true };
        let peers: BTreeMap<_, _> = (2..2 + peers).map(|i| (name(i), peer(i))).collect();
        let lines = (2..2 + peers.len()).flat_map(|i| Lane::ALL.map(|lane| ((lane, key(i, lane)), Line::default())));
        Self {
            agent: Agent::new(),
            lines: lines.collect(),
            wanted: Wanted { keys: keys(1), peers },
            now: 0.0,
            clock_ahead: 0.0,
            rng: StdRng::from_seed([7; 32]),
        }
    }

    /// One peer with which both lanes have just been opened, and a first round.
    pub(super) fn open() -> Self {
        let mut bed = Self::new(1);
        bed.shake(2, Lane::A);
        bed.shake(2, Lane::B);
        bed.round();
        bed
    }

    pub(super) fn peer(&mut self, i: usize) -> &mut WantedPeer {
        self.wanted.peers.get_mut(&name(i)).expect("a peer")
    }

    pub(super) fn line(&mut self, i: usize, lane: Lane) -> &mut Line {
        self.lines.get_mut(&(lane, key(i, lane))).expect("a peer's key")
    }

    /// A handshake with `pop{i}` now, begun here.
    pub(super) fn shake(&mut self, i: usize, lane: Lane) {
        let now = self.now;
        let line = self.line(i, lane);
        line.sent += 148 + 32;
        line.received += 92;
        line.handshake = Some(now);
    }

    pub(super) fn send(&mut self, i: usize, lane: Lane) {
        self.line(i, lane).sent += 1_452;
    }

    pub(super) fn hear(&mut self, i: usize, lane: Lane) {
        self.line(i, lane).received += 1_452;
    }

    /// A round now.
    pub(super) fn round(&mut self) -> Vec<Action> {
        let mut samples = Samples::default();
        for ((lane, key), line) in &self.lines {
            let sample = Sample {
                sent: line.sent,
                received: line.received,
                handshake: line.handshake.map(|at| seconds((self.now + self.clock_ahead - at).max(0.0))),
            };
            match lane {
                Lane::A => samples.lanes[0].insert(*key, sample),
                Lane::B => samples.lanes[1].insert(*key, sample),
            };
        }
        self.agent.round(Moment::at(seconds(self.now)), &self.wanted, &samples, &mut self.rng)
    }

    /// A round `span` seconds later.
    pub(super) fn after(&mut self, span: f64) -> Vec<Action> {
        self.now += span;
        self.round()
    }

    /// Rounds every quarter of a second until `until`, and what each asked for, with its time.
    pub(super) fn until(&mut self, until: f64, mut each: impl FnMut(&mut Self)) -> Vec<(f64, Action)> {
        let mut all = Vec::new();
        while self.now + 0.25 <= until {
            self.now += 0.25;
            each(self);
            all.extend(self.round().into_iter().map(|action| (self.now, action)));
        }
        all
    }

    pub(super) fn lane(&self, i: usize) -> Option<Lane> {
        self.agent.lane_of(&name(i))
    }

    pub(super) fn proven(&self, i: usize) -> [bool; 2] {
        Lane::ALL.map(|lane| self.agent.is_proven(&name(i), lane))
    }
}

pub(super) fn route(i: usize, lane: Lane) -> Action {
    Action::Route { peer: name(i), lane }
}

pub(super) fn warm(i: usize, lane: Lane) -> Action {
    Action::Warm { peer: name(i), lane }
}

pub(super) fn quiet(i: usize, lane: Lane) -> Action {
    Action::Quiet { peer: name(i), lane }
}
