//! What stands between an agent and its interfaces: rounds, the actions they ask for, and a node's own rotation.

use std::time::Duration;

use keys::time::{Span, Time};
use keys::wireguard::Lane;
use keys::wireguard::agent::{
    Action, Agent, Sample, Samples, Step, Wanted, WantedPeer, next_step, pair_drains, pair_lane,
};

use super::wire::{Peer, SECOND, Us};
use super::world::{Broken, Event, World};

/// Less than a policy's: the simulation's day is short.
const DRAIN_QUIET: Span = Span(60);

impl World {
    /// A machine that comes up: interfaces with the keys and peers of its copy of the log.
    pub(super) fn boot(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        n.up = true;
        n.lanes.iter_mut().for_each(|lane| lane.peers.clear());
        n.routes.clear();
        n.held.clear();
        if self.shape.static_routes {
            n.routes = n.view.iter().filter(|(i, s)| **i != node && !s.removed).map(|(i, _)| (*i, Lane::A)).collect();
        }
        self.apply_view(node);
    }

    /// A new agent, which finds the routes that are there.
    pub(super) fn start_agent(&mut self, node: usize) {
        let mut agent = Agent::new();
        for (peer, lane) in &self.nodes[node].routes {
            agent.adopt(&self.nodes[*peer].name, *lane);
        }
        let n = &mut self.nodes[node];
        n.held.clear();
        n.agent = Some(agent);
        n.started = self.now;
        n.epoch += 1;
        self.apply_view(node);
        self.round(node);
    }

    /// Brings the interfaces to what the node's copy of the log says.
    pub(super) fn apply_view(&mut self, node: usize) {
        let n = &self.nodes[node];
        let own = n.view[&node];
        let mut wanted = Wanted { keys: own.keys.map(|key| Some(self.public(key))), ..Wanted::default() };
        let mut entries = Vec::new();
        for (other, seen) in n.view.iter().filter(|(i, _)| **i != node) {
            if seen.removed {
                continue;
            }
            let (mine, theirs) = (self.ends(&own), self.ends(seen));
            let open = self.shape.broken == Broken::BothOpen;
            let peer = WantedPeer {
                keys: seen.keys.map(|key| Some(self.public(key))),
                preferred: pair_lane(&mine, &theirs),
                draining: pair_drains(&mine, &theirs) && self.shape.broken != Broken::NeverQuiet,
                callable: !self.nodes[*other].nat || open,
                calls: !n.nat && !open,
            };
            wanted.peers.insert(self.nodes[*other].name.clone(), peer);
            entries.push((*other, seen.keys, (!self.nodes[*other].nat).then_some(0)));
        }
        let n = &mut self.nodes[node];
        n.wanted = wanted;
        for lane in Lane::ALL {
            let interface = &mut n.lanes[lane as usize];
            if interface.key != own.keys[lane as usize] {
                interface.key = own.keys[lane as usize];
                interface.peers.values_mut().for_each(Peer::own_key_changed);
            }
            if self.shape.broken != Broken::Removed {
                interface.peers.retain(|i, _| entries.iter().any(|(other, ..)| other == i));
            }
            for (other, keys, endpoint) in &entries {
                let key = keys[lane as usize];
                if interface.peers.get(other).is_none_or(|peer| peer.key != key) {
                    interface.peers.insert(*other, Peer::new(key, *endpoint));
                }
            }
        }
        if self.shape.broken != Broken::Removed {
            n.routes.retain(|i, _| entries.iter().any(|(other, ..)| other == i));
        }
    }

    fn samples(&self, node: usize) -> Samples {
        let mut samples = Samples::default();
        for (lane, interface) in samples.lanes.iter_mut().zip(&self.nodes[node].lanes) {
            for peer in interface.peers.values() {
                let age = |at: Us| match self.shape.whole_seconds {
                    true => Duration::from_secs((self.now / SECOND).saturating_sub(at / SECOND)),
                    false => Duration::from_micros(self.now - at),
                };
                let sample = Sample { sent: peer.sent, received: peer.received, handshake: peer.handshake.map(age) };
                lane.insert(self.public(peer.key), sample);
            }
        }
        samples
    }

    /// One round of a node's agent, and what it asks for.
    pub(super) fn round(&mut self, node: usize) {
        let Some(mut agent) = self.nodes[node].agent.take() else { return };
        self.tally.rounds += 1;
        let samples = self.samples(node);
        let moment = self.moment(node);
        let actions = agent.round(moment, &self.nodes[node].wanted, &samples, &mut self.rng);
        let pause = agent.pause();
        self.nodes[node].agent = Some(agent);
        for action in actions {
            self.act(node, action);
        }
        self.judge_round(node);
        self.schedule(node, self.now + pause.as_micros() as Us);
        self.own_lanes(node);
    }

    fn schedule(&mut self, node: usize, at: Us) {
        let epoch = self.nodes[node].epoch;
        self.nodes[node].round_at = at;
        self.at(at, Event::Round { node: node as u32, epoch });
    }

    fn number(&self, node: usize, name: &keys::name::MemberName) -> usize {
        let known = |i: &&usize| self.nodes[**i].name == *name;
        *self.nodes[node].view.keys().find(known).expect("a peer of its own log")
    }

    fn act(&mut self, node: usize, action: Action) {
        let (Action::Route { peer, .. }
        | Action::Warm { peer, .. }
        | Action::Quiet { peer, .. }
        | Action::Hold { peer }
        | Action::Release { peer }
        | Action::Drop { peer }) = &action;
        let other = self.number(node, peer);
        self.note(node, other, || format!("{action:?}"));
        match action {
            Action::Hold { .. } if self.shape.broken == Broken::NoBreaker => {}
            Action::Route { lane, .. } => {
                self.tally.routes += 1;
                self.nodes[node].routes.insert(other, lane);
            }
            Action::Warm { lane, .. } => {
                self.with_peer(node, lane, other, |peer, c| {
                    peer.set_persistent(false, c);
                    peer.set_persistent(true, c);
                });
            }
            Action::Quiet { lane, .. } => self.with_peer(node, lane, other, |peer, c| peer.set_persistent(false, c)),
            Action::Hold { .. } => {
                self.tally.holds += 1;
                let endpoint = (!self.nodes[other].nat).then_some(0);
                let n = &mut self.nodes[node];
                n.held.insert(other, true);
                let lane = n.routes.get(&other).map(|lane| &mut n.lanes[*lane as usize]);
                if let Some(peer) = lane.and_then(|lane| lane.peers.get_mut(&other)) {
                    *peer = Peer::new(peer.key, endpoint);
                }
            }
            Action::Release { .. } => {
                self.nodes[node].held.remove(&other);
            }
            Action::Drop { .. } => {
                self.tally.drops += 1;
                if self.shape.broken != Broken::Removed {
                    self.nodes[node].routes.remove(&other);
                }
            }
        }
    }

    /// What the node should do about its own lanes.
    pub(super) fn step(&self, node: usize) -> Step {
        let own = self.nodes[node].view[&node];
        let agent = self.nodes[node].agent.as_ref().expect("asked of an agent");
        let drain = agent.drain(own.active.other(), self.moment(node));
        next_step(&self.ends(&own), &drain, DRAIN_QUIET, Time(self.now / SECOND))
    }

    /// What the node does about its own lanes.
    fn own_lanes(&mut self, node: usize) {
        let n = &self.nodes[node];
        let own = n.view[&node];
        if n.removed || n.log_cut > 0 || n.agent.is_none() || !own.draining {
            return;
        }
        let (ends, lane) = (self.ends(&own), own.active.other());
        let now = Time(self.now / SECOND);
        let mut step = self.step(node);
        if self.shape.broken == Broken::ByTime && now.since(ends.since) > Span(30) {
            step = Step::Replace(lane);
        }
        let Step::Replace(lane) = step else { return };
        // Whoever writes to the log has read it to its end; if that brings news, the next round decides again.
        if self.shape.broken != Broken::StaleReplacement && self.sync(node) {
            return;
        }
        self.judge_replacement(node, lane);
        let key = self.new_key();
        self.tally.rotations += 1;
        self.tally.slowest_drain = self.tally.slowest_drain.max(now.since(ends.since).0);
        self.note(node, node, || format!("replaces its key on {lane}"));
        self.publish(node, lane, key);
        self.apply_view(node);
        self.judge_common_lane(node);
        self.schedule(node, self.now);
    }
}
