//! What goes wrong: links and machines that fail, agents that die, logs out of reach, nodes that are removed; and
//! rotations, which are no fault but come at the same times.

use keys::wireguard::Lane;
use rand::RngExt as _;

use super::wire::{SECOND, Us};
use super::world::{Entry, Event, World, pair};

#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The other lane becomes the preferred one. A polite authority asks the node first whether its peers are ready.
    Rotate {
        node: u32,
        polite: bool,
    },
    /// The link between two nodes.
    Cut {
        a: u32,
        b: u32,
    },
    Heal {
        a: u32,
        b: u32,
    },
    /// All links of a node, and its way to the log.
    Isolate {
        node: u32,
    },
    Rejoin {
        node: u32,
    },
    /// The log alone.
    CutLog {
        node: u32,
    },
    HealLog {
        node: u32,
    },
    Crash {
        node: u32,
    },
    Boot {
        node: u32,
    },
    StopAgent {
        node: u32,
    },
    StartAgent {
        node: u32,
    },
    Roam {
        node: u32,
    },
    Remove {
        node: u32,
    },
}

/// How much goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// From when on, and until when.
    pub(super) from: Us,
    pub(super) until: Us,
    pub(super) faults: usize,
    /// Of a pair: both come back at the same time, give or take what a packet takes.
    pub(super) power_cuts: usize,
    pub(super) rotations: usize,
    pub(super) removals: usize,
    /// Between two rotations of a node.
    pub(super) gap: Us,
}

impl World {
    /// Draws the faults of a run. All that can be healed is healed by `weather.until`.
    pub(super) fn forecast(&mut self, weather: Weather) {
        let nodes = self.nodes.len();
        let (from, until) = (weather.from, weather.until);
        let pairs: Vec<(usize, usize)> = self.links.keys().copied().collect();
        assert!(!pairs.is_empty(), "a mesh");
        for _ in 0..weather.rotations {
            let node = self.rng.random_range(0..nodes) as u32;
            let (at, polite) = (self.rng.random_range(from..until), self.rng.random_bool(0.5));
            self.at(at, Event::Fault(Fault::Rotate { node, polite }));
        }
        for _ in 0..weather.faults {
            let at = self.rng.random_range(from..until);
            let end = (at + self.rng.random_range(SECOND / 2..300 * SECOND)).min(until);
            let node = self.rng.random_range(0..nodes) as u32;
            let (a, b) = pairs[self.rng.random_range(0..pairs.len())];
            let (a, b) = (a as u32, b as u32);
            let (begin, stop) = match self.rng.random_range(0..7) {
                0 | 1 => (Fault::Cut { a, b }, Fault::Heal { a, b }),
                2 => (Fault::Isolate { node }, Fault::Rejoin { node }),
                3 => (Fault::CutLog { node }, Fault::HealLog { node }),
                4 => (Fault::Crash { node }, Fault::Boot { node }),
                5 => (Fault::StopAgent { node }, Fault::StartAgent { node }),
                _ => (Fault::Roam { node }, Fault::Roam { node }),
            };
            self.at(at, Event::Fault(begin));
            self.at(end, Event::Fault(stop));
        }
        for _ in 0..weather.power_cuts {
            let (a, b) = pairs[self.rng.random_range(0..pairs.len())];
            let at = self.rng.random_range(from..until);
            let end = (at + self.rng.random_range(SECOND..200 * SECOND)).min(until);
            for node in [a as u32, b as u32] {
                let skew = self.rng.random_range(0..200_000);
                self.at(at, Event::Fault(Fault::Crash { node }));
                self.at((end - skew).max(at), Event::Fault(Fault::Boot { node }));
            }
        }
        for _ in 0..weather.removals {
            let (node, at) = (self.rng.random_range(0..nodes) as u32, self.rng.random_range(from..until));
            self.at(at, Event::Fault(Fault::Remove { node }));
        }
        self.gap = weather.gap;
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        if let Fault::Isolate { node }
        | Fault::Rejoin { node }
        | Fault::CutLog { node }
        | Fault::HealLog { node }
        | Fault::Crash { node }
        | Fault::Boot { node }
        | Fault::StopAgent { node }
        | Fault::StartAgent { node }
        | Fault::Roam { node }
        | Fault::Remove { node } = fault
        {
            self.note(node as usize, node as usize, || format!("{fault:?}"));
        }
        match fault {
            Fault::Rotate { node, polite } => self.rotate(node as usize, polite),
            Fault::Cut { a, b } => self.cut(a as usize, b as usize, 1),
            Fault::Heal { a, b } => self.cut(a as usize, b as usize, -1),
            Fault::Isolate { node } | Fault::Rejoin { node } => {
                let node = node as usize;
                let by = if matches!(fault, Fault::Isolate { .. }) { 1 } else { -1 };
                for other in self.neighbours(node) {
                    self.cut(node, other, by);
                }
                let n = &mut self.nodes[node];
                n.log_cut = n.log_cut.saturating_add_signed(by);
            }
            Fault::CutLog { node } => self.nodes[node as usize].log_cut += 1,
            Fault::HealLog { node } => {
                let n = &mut self.nodes[node as usize];
                n.log_cut = n.log_cut.saturating_sub(1);
            }
            Fault::Crash { node } => {
                let n = &mut self.nodes[node as usize];
                n.up = false;
                n.agent = None;
                n.epoch += 1;
                self.troubled(node as usize);
            }
            Fault::Boot { node } => {
                let node = node as usize;
                if !self.nodes[node].up {
                    self.boot(node);
                    let at = self.now + self.rng.random_range(0..10 * SECOND);
                    self.at(at, Event::Fault(Fault::StartAgent { node: node as u32 }));
                    self.troubled(node);
                }
            }
            Fault::StopAgent { node } => {
                let n = &mut self.nodes[node as usize];
                n.agent = None;
                n.epoch += 1;
                // A driver that stops lifts what it holds back.
                n.held.clear();
            }
            Fault::StartAgent { node } => {
                let node = node as usize;
                if self.nodes[node].up && self.nodes[node].agent.is_none() {
                    self.start_agent(node);
                    self.revived(node);
                }
            }
            Fault::Roam { node } => {
                let node = node as usize;
                if self.nodes[node].nat {
                    self.nodes[node].address += 1;
                    self.troubled(node);
                }
            }
            Fault::Remove { node } => {
                let node = node as usize;
                if !self.nodes[node].removed {
                    self.nodes[node].removed = true;
                    self.log.push(Entry::Remove { node });
                }
            }
        }
        self.tally.faults += 1;
    }

    /// The storm is over: everything is healed, and the log is near.
    pub(super) fn clear_up(&mut self) {
        self.shape.lossy = 0.0;
        for node in 0..self.nodes.len() {
            self.nodes[node].log_cut = 0;
            self.nodes[node].sync_every = 5 * SECOND;
            self.strike(Fault::Boot { node: node as u32 });
            self.strike(Fault::StartAgent { node: node as u32 });
            self.at(self.now, Event::Sync { node: node as u32 });
        }
        for (a, b) in self.links.keys().copied().collect::<Vec<_>>() {
            self.links.get_mut(&(a, b)).unwrap().cut = 0;
            self.struck(a, b);
        }
    }

    pub(super) fn neighbours(&self, node: usize) -> Vec<usize> {
        self.nodes[node].view.keys().copied().filter(|other| *other != node).collect()
    }

    fn cut(&mut self, a: usize, b: usize, by: i32) {
        let link = self.links.get_mut(&pair(a, b)).unwrap();
        link.cut = link.cut.saturating_add_signed(by);
        self.note(a, b, || format!("link to n{b}: {by:+}"));
        self.struck(a, b);
    }

    fn troubled(&mut self, node: usize) {
        for other in self.neighbours(node) {
            self.struck(node, other);
        }
    }

    fn struck(&mut self, a: usize, b: usize) {
        let dead = self.nodes[a].agent.is_none() || self.nodes[b].agent.is_none();
        let now = self.now;
        let link = self.links.get_mut(&pair(a, b)).unwrap();
        link.fault_at = now;
        link.broken |= dead;
    }

    /// An agent lives again: what was broken while it was dead has to heal from now on.
    fn revived(&mut self, node: usize) {
        for other in self.neighbours(node) {
            let now = self.now;
            if self.nodes[other].agent.is_some() {
                let link = self.links.get_mut(&pair(node, other)).unwrap();
                if std::mem::take(&mut link.broken) {
                    link.fault_at = now;
                }
            }
        }
    }

    fn rotate(&mut self, node: usize, polite: bool) {
        let n = &self.nodes[node];
        // A peer with one port closed can never be moved: a polite authority would not begin.
        let closed = self.neighbours(node).iter().any(|other| self.links[&pair(node, *other)].blocked.is_some());
        let state = self.truth(node);
        if n.removed || closed || state.draining || n.published_at > 0 && self.now < n.published_at + self.gap {
            return;
        }
        let standby: Lane = state.active.other();
        if polite && n.agent.as_ref().is_none_or(|agent| !agent.unproven(standby).is_empty()) {
            return;
        }
        self.tally.begun += 1;
        self.note(node, node, || format!("is to prefer {standby}"));
        self.log.push(Entry::Prefer { node, lane: standby, at: self.now / SECOND });
    }
}
