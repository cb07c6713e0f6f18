//! What must hold at every step, whatever goes wrong.

use keys::wireguard::Lane;

use super::wire::{SECOND, Us};
use super::world::{Entry, RECOVERY, Seen, World, pair};

/// A packet that was sent in calm has so long to arrive.
const PATIENCE: Us = 30 * SECOND;

/// What happened in a run.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    /// The law that was broken, with the two nodes.
    pub(super) broken: Option<(String, usize, usize)>,
    pub(super) events: u64,
    pub(super) rounds: u64,
    pub(super) faults: u64,
    pub(super) sent: u64,
    /// Sent when nothing excused a loss.
    pub(super) promised: u64,
    pub(super) arrived: u64,
    pub(super) handshakes: u64,
    pub(super) routes: u64,
    pub(super) holds: u64,
    pub(super) drops: u64,
    /// Rotations that were begun, and keys that were replaced.
    pub(super) begun: u64,
    pub(super) rotations: u64,
    /// In seconds.
    pub(super) slowest_drain: u64,
    /// From the end of the storm.
    pub(super) slowest_rest: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.events, other.events),
            (&mut self.rounds, other.rounds),
            (&mut self.faults, other.faults),
            (&mut self.sent, other.sent),
            (&mut self.promised, other.promised),
            (&mut self.arrived, other.arrived),
            (&mut self.handshakes, other.handshakes),
            (&mut self.routes, other.routes),
            (&mut self.holds, other.holds),
            (&mut self.drops, other.drops),
            (&mut self.begun, other.begun),
            (&mut self.rotations, other.rotations),
        ];
        sums.into_iter().for_each(|(sum, more)| *sum += more);
        self.slowest_rest = self.slowest_rest.max(other.slowest_rest);
        self.slowest_drain = self.slowest_drain.max(other.slowest_drain);
    }
}

impl World {
    fn broken(&mut self, a: usize, b: usize, law: impl Into<String>) {
        if self.tally.broken.is_none() {
            let at = self.now as f64 / 1e6;
            self.tally.broken = Some((format!("at {at:.3} s, n{a} and n{b}: {}", law.into()), a, b));
        }
    }

    /// What the whole log says of a node.
    pub(super) fn truth(&self, node: usize) -> Seen {
        let mut seen = self.nodes[node].view[&node];
        for entry in self.log.iter().skip(self.nodes[node].log_seen) {
            if let Entry::Prefer { node: who, lane, at } = entry
                && *who == node
            {
                (seen.active, seen.since, seen.draining) = (*lane, *at, true);
            }
        }
        seen
    }

    /// Law: a pair that is not cut loses no packet, not by a rotation and not by a livelock.
    pub(super) fn judge_losses(&mut self) {
        for i in 0..self.flows.len() {
            let (from, to) = (self.flows[i].from, self.flows[i].to);
            while let Some((seq, at)) = self.flows[i].open.front().copied()
                && self.now - at > PATIENCE
            {
                self.flows[i].open.pop_front();
                let link = &self.links[&pair(from, to)];
                let excused = link.broken || link.fault_at > at || self.nodes[from].removed || self.nodes[to].removed;
                if !excused {
                    let at = at as f64 / 1e6;
                    self.broken(from, to, format!("packet {seq} of {at:.3} s is lost, and nothing excuses it"));
                }
            }
        }
    }

    /// Law: in calm every agent has a proven lane to every peer, and its route is on one. Law: a peer that was removed is
    /// dropped in the first round after that was read.
    pub(super) fn judge_round(&mut self, node: usize) {
        for other in self.neighbours(node) {
            let n = &self.nodes[node];
            let agent = n.agent.as_ref().expect("its round");
            let name = &self.nodes[other].name;
            if n.view[&other].removed {
                let known = n.lanes.iter().any(|lane| lane.peers.contains_key(&other));
                if known || agent.lane_of(name).is_some() || n.routes.contains_key(&other) {
                    return self.broken(node, other, "removed, and still there");
                }
            } else if self.calm(node, other) && self.settled(node) && self.settled(other) {
                // Where handshakes are lost on the way, three in a row leave a lane unproven that works.
                let lossy = self.shape.lossy > 0.0;
                if !lossy && !Lane::ALL.into_iter().any(|lane| agent.is_proven(name, lane)) {
                    return self.broken(node, other, "no lane is proven, and nothing excuses it");
                }
                if n.routes.get(&other).is_none_or(|lane| agent.lane_of(name) != Some(*lane)) {
                    return self.broken(node, other, "the agent takes the route for another");
                }
            }
        }
    }

    /// Whether the agent has lived for a while. Without one nobody renews handshakes before they prove nothing.
    fn settled(&self, node: usize) -> bool {
        let n = &self.nodes[node];
        n.agent.is_some() && self.now >= n.started + RECOVERY
    }

    /// Law: nothing of a removed node is taken in by one that knows.
    pub(super) fn judge_arrival(&mut self, from: usize, to: usize) {
        if self.nodes[to].view[&from].removed {
            self.broken(to, from, "a packet of a removed node was taken");
        }
    }

    /// Law: a key in use is never replaced.
    pub(super) fn judge_replacement(&mut self, node: usize, lane: Lane) {
        for other in self.neighbours(node) {
            let (n, o) = (&self.nodes[node], &self.nodes[other]);
            let link = &self.links[&pair(node, other)];
            let there =
                n.up && o.up && !o.removed && link.cut == 0 && self.now >= link.fault_at + self.recovery(node, other);
            let uses = |x: &super::world::Node, y: usize| x.routes.get(&y) == Some(&lane);
            if there && !link.broken && (uses(o, node) || uses(n, other)) {
                return self.broken(node, other, format!("the key of lane {lane} is replaced while it is used"));
            }
        }
    }

    /// Law: two nodes of which neither missed more than one rotation have a lane on which both accept.
    pub(super) fn judge_common_lane(&mut self, node: usize) {
        for other in self.neighbours(node) {
            let (n, o) = (&self.nodes[node], &self.nodes[other]);
            let missed = |x: &super::world::Node, y: &super::world::Node| {
                y.published.iter().rev().take_while(|i| **i >= x.log_seen).count()
            };
            if n.removed || o.removed || missed(n, o) > 1 || missed(o, n) > 1 {
                continue;
            }
            let (mine, theirs) = (n.view[&node].keys, o.view[&other].keys);
            let common = |lane: &Lane| {
                let l = *lane as usize;
                n.view[&other].keys[l] == theirs[l] && o.view[&node].keys[l] == mine[l]
            };
            if !Lane::ALL.iter().any(common) {
                return self.broken(node, other, "no lane is left on which both accept");
            }
        }
    }

    /// Law: when faults have stopped every rotation comes to its end, every pair is on its lane, and both lanes of it are
    /// proven. What is missing of that, and between whom.
    pub(super) fn unrest(&self) -> Option<(usize, usize, String)> {
        let living = |(a, b): &&(usize, usize)| !self.nodes[*a].removed && !self.nodes[*b].removed;
        for (a, b) in self.links.keys().filter(living).copied() {
            if let Some(x) = [a, b].into_iter().find(|x| self.truth(*x).draining) {
                let why = format!("the rotation did not come to its end: {:?}", self.step(x));
                return Some((x, a + b - x, why));
            }
            for (x, y) in [(a, b), (b, a)] {
                let (n, name) = (&self.nodes[x], &self.nodes[y].name);
                let preferred = n.wanted.peers.get(name).map(|peer| peer.preferred);
                let blocked = self.links[&(a, b)].blocked;
                let agent = n.agent.as_ref().expect("all agents live in the end");
                let expected = if blocked == preferred { preferred.map(Lane::other) } else { preferred };
                if agent.lane_of(name) != expected {
                    return Some((x, y, "the pair is not on its lane".to_owned()));
                }
                if let Some(lane) = Lane::ALL.into_iter().find(|l| blocked != Some(*l) && !agent.is_proven(name, *l)) {
                    return Some((x, y, format!("lane {lane} is not proven in the end")));
                }
            }
        }
        None
    }

    pub(super) fn judge_end(&mut self) {
        if let Some((a, b, what)) = self.unrest() {
            self.broken(a, b, what);
        }
    }
}
