//! Nodes, links, flows and the log, driven by events in the order of their time. Everything follows from the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use keys::name::MemberName;
use keys::time::Time;
use keys::wireguard::agent::{Agent, Ends, Moment, Wanted};
use keys::wireguard::{Lane, WgPublicKey};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::faults::Fault;
use super::founding::Shape;
use super::laws::Tally;
use super::wire::{Context, Effects, Load, Message, Peer, SECOND, Us};

/// After a fault a pair has so long to find together again. From then on nothing is forgiven: this is also how long a
/// livelock may last, two goes of the breaker with what leads up to them.
pub(super) const RECOVERY: Us = 60 * SECOND;
/// The same where one end cannot be called: if the other has forgotten its sessions, the first learns of it when it
/// renews them, 120 seconds later at the latest.
const RECOVERY_ONE_SIDED: Us = RECOVERY + 140 * SECOND;

/// A rule that is broken on purpose, to see that a law notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    /// A draining lane's key is replaced after 30 seconds, whoever uses it.
    ByTime,
    /// The driver does not hold packets back.
    NoBreaker,
    /// Both ends open lanes, as if neither could be called.
    BothOpen,
    /// A lane that is draining keeps its keepalive.
    NeverQuiet,
    /// A peer that was removed stays on the interfaces.
    Removed,
    /// The end that drains does not catch up with the log before it replaces a key.
    StaleReplacement,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Prefer { node: usize, lane: Lane, at: u64 },
    Publish { node: usize, lane: Lane, key: u32 },
    Remove { node: usize },
}

impl Entry {
    fn node(self) -> usize {
        match self {
            Self::Prefer { node, .. } | Self::Publish { node, .. } | Self::Remove { node } => node,
        }
    }
}

/// What a node's copy of the log says of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) active: Lane,
    pub(super) since: u64,
    pub(super) keys: [u32; 2],
    pub(super) draining: bool,
    pub(super) removed: bool,
}

impl Seen {
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Prefer { lane, at, .. } => (self.active, self.since, self.draining) = (lane, at, true),
            Entry::Publish { lane, key, .. } => {
                self.keys[lane as usize] = key;
                self.draining = false;
            }
            Entry::Remove { .. } => self.removed = true,
        }
    }
}

#[derive(Debug)]
pub(super) struct Interface {
    pub(super) key: u32,
    pub(super) peers: BTreeMap<usize, Peer>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: MemberName,
    pub(super) nat: bool,
    pub(super) up: bool,
    pub(super) agent: Option<Agent>,
    /// Events of an earlier agent, or of an earlier boot, are void.
    pub(super) epoch: u32,
    /// The next round; other rounds are void.
    pub(super) round_at: Us,
    pub(super) started: Us,
    /// Whether the log is out of reach.
    pub(super) log_cut: u32,
    /// Nobody else reaches it, nor it the log.
    pub(super) sync_every: Us,
    pub(super) log_seen: usize,
    pub(super) view: BTreeMap<usize, Seen>,
    pub(super) wanted: Wanted,
    pub(super) lanes: [Interface; 2],
    pub(super) routes: BTreeMap<usize, Lane>,
    pub(super) held: BTreeMap<usize, bool>,
    /// Where it is: changes when it roams.
    pub(super) address: u32,
    /// Indices in the log of the keys that it published.
    pub(super) published: Vec<usize>,
    pub(super) published_at: Us,
    pub(super) removed: bool,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) delay: Us,
    /// A lane whose port is closed.
    pub(super) blocked: Option<Lane>,
    pub(super) cut: u32,
    /// When a fault last struck or ended.
    pub(super) fault_at: Us,
    /// A fault struck while an agent was dead: nobody promises anything until it lives.
    pub(super) broken: bool,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) every: Us,
    /// On and off; always on without.
    pub(super) bursts: Option<(Us, Us)>,
    pub(super) seq: u32,
    /// Sent when nothing was to be lost, and not yet arrived.
    pub(super) open: VecDeque<(u32, Us)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Flow(u32),
    Packet { to: u32, lane: Lane, from: u32, keys: (u32, u32), from_address: u32, to_address: u32, message: Message },
    Timer { node: u32, lane: Lane, peer: u32 },
    Round { node: u32, epoch: u32 },
    Sync { node: u32 },
    Fault(Fault),
    Check,
}

#[derive(Debug)]
struct Scheduled(Us, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(super) struct World {
    pub(super) now: Us,
    seq: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pub(super) rng: StdRng,
    ids: u64,
    pub(super) shape: Shape,
    keys: Vec<WgPublicKey>,
    pub(super) nodes: Vec<Node>,
    pub(super) links: BTreeMap<(usize, usize), Link>,
    pub(super) flows: Vec<Flow>,
    pub(super) log: Vec<Entry>,
    pub(super) tally: Tally,
    /// Between two rotations of a node.
    pub(super) gap: Us,
    /// The last lines of what happened to the pair that is watched.
    pub(super) watched: Option<(usize, usize)>,
    pub(super) trace: VecDeque<String>,
}

pub(super) fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    pub(super) fn new(seed: u64, shape: Shape) -> Self {
        let mut world = Self {
            now: 0,
            seq: 0,
            queue: BinaryHeap::new(),
            rng: StdRng::seed_from_u64(seed),
            ids: 0,
            keys: Vec::new(),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            flows: Vec::new(),
            log: Vec::new(),
            tally: Tally::default(),
            gap: 0,
            watched: None,
            trace: VecDeque::new(),
            shape,
        };
        world.found();
        world
    }

    /// A number of a new key, which stands for its private half.
    pub(super) fn new_key(&mut self) -> u32 {
        loop {
            let mut bytes = [0; 32];
            self.rng.fill_bytes(&mut bytes);
            bytes[31] &= 0x3f;
            if let Ok(key) = WgPublicKey::from_bytes(bytes) {
                self.keys.push(key);
                return self.keys.len() as u32 - 1;
            }
        }
    }

    pub(super) fn public(&self, key: u32) -> WgPublicKey {
        self.keys[key as usize]
    }

    pub(super) fn at(&mut self, at: Us, event: Event) {
        self.seq += 1;
        self.queue.push(Reverse(Scheduled(at, self.seq, event)));
    }

    /// Runs until `end`, or until a law is broken.
    pub(super) fn run(&mut self, end: Us) {
        while self.tally.broken.is_none() {
            if self.queue.peek().is_none_or(|next| next.0.0 > end) {
                self.now = end;
                return;
            }
            let Some(Reverse(Scheduled(at, _, event))) = self.queue.pop() else { return };
            self.now = at;
            self.tally.events += 1;
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Flow(flow) => self.flow(flow),
            Event::Packet { to, lane, from, keys, from_address, to_address, message } => {
                self.deliver(to as usize, lane, from as usize, keys, (from_address, to_address), message);
            }
            Event::Timer { node, lane, peer } => self.timer(node as usize, lane, peer as usize),
            Event::Round { node, epoch } => {
                let node = node as usize;
                if self.nodes[node].epoch == epoch && self.nodes[node].round_at == self.now {
                    self.round(node);
                }
            }
            Event::Sync { node } => {
                let node = node as usize;
                let lost = self.rng.random_bool(0.2);
                if !lost {
                    self.sync(node);
                }
                let next = self.now + self.nodes[node].sync_every;
                self.at(next, Event::Sync { node: node as u32 });
            }
            Event::Fault(fault) => self.strike(fault),
            Event::Check => {
                self.judge_losses();
                self.at(self.now + 10 * SECOND, Event::Check);
            }
        }
    }

    pub(super) fn note(&mut self, a: usize, b: usize, line: impl FnOnce() -> String) {
        if self.watched.is_some_and(|watched| watched == pair(a, b) || a == b && [watched.0, watched.1].contains(&a)) {
            if self.trace.len() == 400 {
                self.trace.pop_front();
            }
            self.trace.push_back(format!("{:10.3} n{a} {}", self.now as f64 / 1e6, line()));
        }
    }

    /// Whether nothing excuses a loss between the two.
    pub(super) fn calm(&self, a: usize, b: usize) -> bool {
        let (x, y) = (&self.nodes[a], &self.nodes[b]);
        let behind = |x: &Node, y: &Node| y.published.iter().rev().take_while(|i| **i >= x.log_seen).count();
        let link = &self.links[&pair(a, b)];
        x.up && y.up
            && !(x.removed || y.removed || link.broken)
            && link.cut == 0
            && self.now >= link.fault_at + self.recovery(a, b)
            && behind(x, y) <= 1
            && behind(y, x) <= 1
    }

    pub(super) fn recovery(&self, a: usize, b: usize) -> Us {
        if self.nodes[a].nat || self.nodes[b].nat { RECOVERY_ONE_SIDED } else { RECOVERY }
    }

    fn flow(&mut self, flow: u32) {
        let Flow { from, to, every, bursts, .. } = self.flows[flow as usize];
        let next = match bursts {
            Some((on, off)) if self.now % (on + off) >= on => self.now + (on + off) - self.now % (on + off),
            Some(_) | None => self.now + every,
        };
        self.at(next, Event::Flow(flow));
        let node = &self.nodes[from];
        if !node.up || node.removed || self.nodes[to].removed {
            return;
        }
        let seq = self.flows[flow as usize].seq;
        self.flows[flow as usize].seq += 1;
        self.tally.sent += 1;
        if self.calm(from, to) {
            self.tally.promised += 1;
            let now = self.now;
            self.flows[flow as usize].open.push_back((seq, now));
        }
        let node = &self.nodes[from];
        if node.held.get(&to).copied().unwrap_or(false) {
            return self.note(from, to, || format!("drops {seq} for n{to}: held"));
        }
        let Some(lane) = node.routes.get(&to).copied() else { return };
        self.with_peer(from, lane, to, |peer, c| {
            peer.send(Load { flow, seq }, c);
        });
    }

    /// Does something with a peer, then sends what came of it and looks at its timers.
    pub(super) fn with_peer(
        &mut self,
        node: usize,
        lane: Lane,
        other: usize,
        what: impl FnOnce(&mut Peer, &mut Context<'_>),
    ) {
        let mut effects = Effects::default();
        let interface = &mut self.nodes[node].lanes[lane as usize];
        let own = interface.key;
        let Some(peer) = interface.peers.get_mut(&other) else { return };
        let mut c = Context { now: self.now, rng: &mut self.rng, ids: &mut self.ids, effects: &mut effects };
        what(peer, &mut c);
        let (keys, to_address) = ((own, peer.key), peer.endpoint);
        let due = peer.due().filter(|due| peer.looked_at.is_none_or(|at| *due < at || at < self.now));
        if let Some(due) = due {
            peer.looked_at = Some(due);
            self.at(due, Event::Timer { node: node as u32, lane, peer: other as u32 });
        }
        for load in effects.arrived {
            self.arrived(other, node, load);
        }
        if effects.handshakes > 0 {
            self.tally.handshakes += 1;
            self.note(node, other, || format!("handshake with n{other} on {lane}"));
        }
        for message in effects.messages {
            self.transmit(node, lane, other, keys, to_address, message);
        }
    }

    fn transmit(&mut self, from: usize, lane: Lane, to: usize, keys: (u32, u32), to_address: Option<u32>, m: Message) {
        let Some(to_address) = to_address else { return };
        let link = &self.links[&pair(from, to)];
        if link.cut > 0 || link.blocked == Some(lane) {
            return;
        }
        if !matches!(m, Message::Data { .. }) {
            self.note(from, to, || format!("sends {m:?} to n{to} on {lane}"));
            if self.shape.lossy > 0.0 && self.rng.random_bool(self.shape.lossy) {
                return;
            }
        }
        let at = self.now + self.links[&pair(from, to)].delay;
        let from_address = self.nodes[from].address;
        let (from, to) = (from as u32, to as u32);
        self.at(at, Event::Packet { to, lane, from, keys, from_address, to_address, message: m });
    }

    fn deliver(
        &mut self,
        to: usize,
        lane: Lane,
        from: usize,
        (theirs, ours): (u32, u32),
        addresses: (u32, u32),
        message: Message,
    ) {
        let node = &self.nodes[to];
        if !node.up || node.address != addresses.1 || self.links[&pair(from, to)].cut > 0 {
            return;
        }
        let interface = &node.lanes[lane as usize];
        let addressed = match message {
            Message::Initiation { .. } | Message::Response { .. } => {
                interface.key == ours && interface.peers.get(&from).is_some_and(|peer| peer.key == theirs)
            }
            Message::Data { .. } => true,
        };
        if addressed {
            self.with_peer(to, lane, from, |peer, c| peer.receive(message, addresses.0, c));
        }
    }

    fn timer(&mut self, node: usize, lane: Lane, other: usize) {
        if !self.nodes[node].up {
            return;
        }
        let now = self.now;
        self.with_peer(node, lane, other, |peer, c| {
            if peer.looked_at.is_some_and(|at| at <= now) {
                peer.looked_at = None;
                peer.tick(c);
            }
        });
    }

    fn arrived(&mut self, from: usize, to: usize, load: Load) {
        self.tally.arrived += 1;
        let flow = &mut self.flows[load.flow as usize];
        if let Some(i) = flow.open.iter().position(|(seq, _)| *seq == load.seq) {
            flow.open.remove(i);
        }
        self.judge_arrival(from, to);
    }

    /// The lanes of `node` as its own log has them.
    pub(super) fn ends(&self, seen: &Seen) -> Ends {
        Ends {
            active: seen.active,
            since: Time(seen.since),
            key: self.public(seen.keys[seen.active as usize]),
            draining: seen.draining,
        }
    }

    /// The agent's clock.
    pub(super) fn moment(&self, node: usize) -> Moment {
        Moment::at(Duration::from_micros(self.now - self.nodes[node].started))
    }

    /// Takes in what is new in the log, if it is within reach. True: something of it matters to the node.
    pub(super) fn sync(&mut self, node: usize) -> bool {
        let n = &mut self.nodes[node];
        if !n.up || n.agent.is_none() || n.log_cut > 0 || n.removed || n.log_seen == self.log.len() {
            return false;
        }
        let mut mine = false;
        for entry in &self.log[n.log_seen..] {
            // Its own are there already; and nobody tells a node that it was removed: it goes on.
            if let Some(seen) = n.view.get_mut(&entry.node())
                && !(matches!(entry, Entry::Publish { .. } | Entry::Remove { .. }) && entry.node() == node)
            {
                seen.apply(*entry);
                mine = true;
            }
        }
        n.log_seen = self.log.len();
        if mine {
            self.note(node, node, || "has read the log".to_owned());
            self.apply_view(node);
            self.round(node);
        }
        mine
    }

    /// Logs a new key of `node`, which its own copy knows at once.
    pub(super) fn publish(&mut self, node: usize, lane: Lane, key: u32) {
        let entry = Entry::Publish { node, lane, key };
        let n = &mut self.nodes[node];
        n.published.push(self.log.len());
        n.published_at = self.now;
        n.view.get_mut(&node).unwrap().apply(entry);
        self.log.push(entry);
    }
}
