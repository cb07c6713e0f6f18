//! How a world begins: what it is like, its nodes, links and flows.

use std::collections::{BTreeMap, VecDeque};

use keys::wireguard::Lane;
use keys::wireguard::agent::Wanted;
use rand::RngExt as _;

use super::faults::Fault;
use super::wire::{SECOND, Us};
use super::world::{Broken, Event, Flow, Interface, Link, Node, Seen, World, pair};

/// What a world is like, apart from its faults.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) nodes: usize,
    /// Chance of a node to begin on lane b.
    pub(super) on_b: f64,
    /// Each node is joined to so many others; none for all.
    pub(super) degree: Option<usize>,
    pub(super) delay_max: Us,
    pub(super) nat: f64,
    pub(super) blocked: f64,
    pub(super) flows: f64,
    /// Between packets, at least.
    pub(super) every: Us,
    /// Chance of each handshake message to be lost.
    pub(super) lossy: f64,
    /// Routes are there before the agent is, on lane a.
    pub(super) static_routes: bool,
    /// Interfaces tell a handshake's age in whole seconds.
    pub(super) whole_seconds: bool,
    pub(super) sync_max: Us,
    pub(super) broken: Broken,
}

impl World {
    /// Nodes, links and flows, and their first events.
    pub(super) fn found(&mut self) {
        let shape = self.shape.clone();
        let mut all = Vec::new();
        for i in 0..shape.nodes {
            let keys = [self.new_key(), self.new_key()];
            let active = if self.rng.random_bool(shape.on_b) { Lane::B } else { Lane::A };
            all.push(Seen { active, since: self.rng.random_range(0..5), keys, draining: false, removed: false });
            let nat = i > 0 && self.rng.random_bool(shape.nat);
            let sync_every = self.rng.random_range(SECOND..=shape.sync_max);
            let interface = |key| Interface { key, peers: BTreeMap::new() };
            self.nodes.push(Node {
                name: format!("n{i}").parse().unwrap(),
                nat,
                up: true,
                agent: None,
                epoch: 0,
                round_at: 0,
                started: 0,
                log_cut: 0,
                sync_every,
                log_seen: 0,
                view: BTreeMap::new(),
                wanted: Wanted::default(),
                lanes: keys.map(interface),
                routes: BTreeMap::new(),
                held: BTreeMap::new(),
                address: 0,
                published: Vec::new(),
                published_at: 0,
                removed: false,
            });
        }
        for a in 0..shape.nodes {
            let others: Vec<usize> = match shape.degree {
                None => (a + 1..shape.nodes).collect(),
                Some(degree) => (0..degree.div_ceil(2)).map(|_| self.rng.random_range(0..shape.nodes)).collect(),
            };
            for b in others {
                if a != b && !(self.nodes[a].nat && self.nodes[b].nat) {
                    self.join(a, b, &all);
                }
            }
        }
        for (node, seen) in all.iter().enumerate() {
            self.nodes[node].view.insert(node, *seen);
            self.boot(node);
            let at = self.rng.random_range(0..5 * SECOND);
            self.at(at, Event::Fault(Fault::StartAgent { node: node as u32 }));
            let at = self.rng.random_range(0..self.nodes[node].sync_every);
            self.at(at, Event::Sync { node: node as u32 });
        }
        self.at(10 * SECOND, Event::Check);
    }

    fn join(&mut self, a: usize, b: usize, all: &[Seen]) {
        let shape = self.shape.clone();
        let delay = self.rng.random_range(0..=shape.delay_max).max(100);
        let blocked =
            self.rng.random_bool(shape.blocked).then(|| if self.rng.random_bool(0.5) { Lane::A } else { Lane::B });
        let link = Link { delay, blocked, cut: 0, fault_at: 0, broken: true };
        if self.links.insert(pair(a, b), link).is_some() {
            return;
        }
        self.nodes[a].view.insert(b, all[b]);
        self.nodes[b].view.insert(a, all[a]);
        for (from, to) in [(a, b), (b, a)] {
            if !self.rng.random_bool(shape.flows) {
                continue;
            }
            let bursts = self
                .rng
                .random_bool(0.4)
                .then(|| (self.rng.random_range(5..60) * SECOND, self.rng.random_range(10..250) * SECOND));
            let every = shape.every * self.rng.random_range(1..8);
            let flow = self.flows.len() as u32;
            self.flows.push(Flow { from, to, every, bursts, seq: 0, open: VecDeque::new() });
            let at = self.rng.random_range(0..every);
            self.at(at, Event::Flow(flow));
        }
    }
}
