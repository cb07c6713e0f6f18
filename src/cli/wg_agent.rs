//! `keys wg agent`: watches this machine's two lanes, keeps them as the log has them, moves each peer's traffic to the lane
//! that is preferred once that is proven, and has the key of a lane that carries nothing replaced.
//!
//! What it decides is `wireguard::agent`'s, which knows no clock and no program; what is here feeds that and does what it
//! says. Whatever fails leaves everything as it is: no keyring, no change; no proven lane, no change. Ended at any moment,
//! it leaves routes and interfaces that go on working.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use super::args::Change;
use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::complain;
use super::rotate_cmd::catch_up;
use super::wg_cmd::{Due, carry_out, node_of, this_node, told, wall_seconds};
use super::wg_device::{Device, Reroute, Way, reroute, routes};
use crate::digest::Digest;
use crate::home::Home;
use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::name::MemberName;
use crate::ops;
use crate::time::Span;
use crate::wireguard::agent::{Action, Agent, Ends, Moment, Sample, Samples, Step, Wanted, next_step};
use crate::wireguard::device::{Running, Steps, WantedLane, steps};
use crate::wireguard::{Addresses, External, Lane, Node, WgPublicKey};

/// How long after a failed attempt to publish a key the next one is made.
const PUBLISH_AGAIN: Duration = Duration::from_secs(10);
/// How often the log is read without a sign that it has changed: time locks and expiries take effect without one.
const READ_AGAIN: Duration = Duration::from_secs(60);

const PRESHARED: &str = "preshared keys";
const GONE: &str = "an interface is gone";

/// How soon a step that had to wait is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How soon a preshared key that could not be computed is tried again: a file may be on its way.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// What the log says, as far as the agent goes by it.
struct Plan {
    node: Node,
    mtu: u16,
    drain_quiet: Span,
    ends: Option<Ends>,
    wanted: Wanted,
    lanes: [WantedLane; 2],
    addresses: BTreeMap<MemberName, Addresses>,
    /// Whether a wider exchange has to be published.
    owes: bool,
    /// Peers without an agent, whose routes stay on one lane.
    fixed: BTreeMap<MemberName, Fixed>,
}

/// A peer without an agent.
struct Fixed {
    addresses: Addresses,
    lane: Lane,
    key: Option<WgPublicKey>,
}

/// The agent at work.
struct Watcher<'c> {
    context: &'c Context,
    name: MemberName,
    home: Home,
    agent: Agent,
    rng: StdRng,
    start: Instant,
    plan: Option<Plan>,
    /// What the log looked like when it was last read, and when.
    read: Option<(Digest, Instant)>,
    /// Peers that have routes of ours.
    routed: BTreeMap<MemberName, Addresses>,
    /// What was last complained of, so that it is said once.
    said: BTreeMap<&'static str, String>,
    published: Option<Instant>,
    /// The lanes whose interface is not there.
    gone: [bool; 2],
}

/// `keys wg agent`.
pub(super) fn agent(context: &Context, node: Option<&MemberName>, rounds: Option<u64>) -> Result<Exit, CliError> {
    let home = context.home()?;
    let fleet = context.open_published()?;
    let name = this_node(node, &home, fleet.state())?;
    drop(fleet);
    // From now on no lane's key is replaced here that was not seen drained.
    if home.drained(&name)?.is_none() {
        home.set_drained(&name, None)?;
    }
    let (agent, rng, start) = (Agent::new(), context.rng()?, Instant::now());
    let mut watcher = Watcher {
        context,
        name,
        home,
        agent,
        rng,
        start,
        plan: None,
        read: None,
        routed: BTreeMap::new(),
        said: BTreeMap::new(),
        published: None,
        gone: [false; 2],
    };
    let mut left = rounds;
    while left != Some(0) {
        let began = Instant::now();
        watcher.round();
        left = left.map(|n| n - 1);
        if left != Some(0) {
            std::thread::sleep(watcher.agent.pause().saturating_sub(began.elapsed()));
        }
    }
    Ok(Exit::Ok)
}

/// A part of a round.
type Part<'c> = fn(&mut Watcher<'c>) -> Result<(), CliError>;

impl<'c> Watcher<'c> {
    /// One round. What fails is said, and tried again in the next.
    fn round(&mut self) {
        let parts: [(&'static str, Part<'c>); 3] =
            [("reading the log", Self::read_log), ("the lanes", Self::watch), ("replacing a key", Self::rotate)];
        for (what, part) in parts {
            match part(self) {
                Ok(()) => drop(self.said.remove(what)),
                Err(error) => self.complain(what, &error.message),
            }
        }
    }

    /// Says something once, until it is over or another thing.
    fn complain(&mut self, what: &'static str, problem: &str) {
        if self.said.insert(what, problem.to_owned()).as_deref() != Some(problem) {
            complain(&format!("{what}: {problem}; everything stays as it is"));
        }
    }

    /// Reads the log if it has changed.
    fn read_log(&mut self) -> Result<(), CliError> {
        let head = self.context.keyring(false)?.read("log/checkpoint", CHECKPOINT_BYTES_MAX)?.unwrap_or_default();
        let applied: Vec<String> = self.home.emergencies()?.iter().map(|h| h.entry.signed.id.to_string()).collect();
        let sign = Digest::of_parts(&[&head, applied.join(" ").as_bytes()]);
        if self.read.is_some_and(|(read, at)| read == sign && at.elapsed() < READ_AGAIN) {
            return Ok(());
        }
        let context = self.context.again();
        let fleet = context.open_published()?;
        let state = fleet.state();
        let mesh = ops::mesh(state)?;
        let preshared = ops::preshared_keys(&self.name, &self.home, &fleet)?;
        match preshared.troubles.as_slice() {
            [] => drop(self.said.remove(PRESHARED)),
            troubles => self.complain(PRESHARED, &troubles.join("; ")),
        }
        let lanes = ops::wanted_lanes(&self.name, &mesh, &preshared)?;
        let plan = Plan {
            node: node_of(&mesh, &self.name)?.clone(),
            mtu: mesh.policy().mesh().mtu,
            drain_quiet: mesh.policy().rotation().drain_quiet,
            ends: ops::ends(&self.name, state),
            wanted: ops::agent_wants(&self.name, &mesh, state)?,
            addresses: mesh.nodes().iter().map(|n| (n.name.clone(), n.addresses)).collect(),
            fixed: ops::fixed_peers(&self.name, &mesh).into_iter().map(Fixed::of).collect(),
            lanes,
            owes: preshared.owes,
        };
        if self.plan.is_none() {
            self.adopt(&plan)?;
        }
        let is_done = self.bring_into_line(&plan)?;
        let is_known = preshared.troubles.is_empty();
        self.route_fixed(&plan)?;
        self.plan = Some(plan);
        // What has to wait is looked at again soon.
        let now = Instant::now();
        let at = match (is_done, is_known) {
            (true, true) => Some(now),
            (false, _) => now.checked_sub(READ_AGAIN.saturating_sub(LOOK_AGAIN)),
            (true, false) => now.checked_sub(READ_AGAIN.saturating_sub(TRY_AGAIN)),
        };
        self.read = at.map(|at| (sign, at));
        Ok(())
    }

    /// Makes the interfaces what the log says; `false` if some of that has to wait.
    fn bring_into_line(&self, plan: &Plan) -> Result<bool, CliError> {
        let before = self.plan.as_ref().map(|p| &p.lanes);
        let (mut due, mut waiting) = (Vec::new(), false);
        for (i, wanted) in plan.lanes.iter().enumerate() {
            // Without a plan there was none to be lost: whoever starts an agent wants both interfaces.
            let device = Device { interface: &wanted.interface };
            let running = match device.running(wall_seconds()) {
                Err(_) if self.plan.is_some() => {
                    waiting = true;
                    continue;
                }
                running => running?,
            };
            let mut steps = steps(wanted, &running, before.and_then(|b| b.get(i)));
            // Another preshared key waits until nothing goes through this lane. With a new key of our own nothing does.
            let lane = if i == 0 { Lane::A } else { Lane::B };
            let in_use = |key: &WgPublicKey| {
                wanted.peers.get(key).is_some_and(|link| self.agent.lane_of(&link.name) == Some(lane))
            };
            let (later, now) = std::mem::take(&mut steps.again).into_iter().partition(|k| !steps.key && in_use(k));
            steps.again = now;
            waiting |= !Vec::<WgPublicKey>::is_empty(&later);
            due.push(Due { wanted: wanted.clone(), steps });
        }
        due.iter().flat_map(told).for_each(|line| self.context.say(&line));
        carry_out(&due, &self.home, &plan.node, plan.mtu)?;
        Ok(!waiting)
    }

    /// Sets the routes of peers without an agent, and takes away those of peers that are none any more.
    fn route_fixed(&self, plan: &Plan) -> Result<(), CliError> {
        let there = plan.fixed.values().map(|fixed| Reroute { peer: fixed.addresses, way: Way::Lane(fixed.lane) });
        let before = self.plan.iter().flat_map(|before| &before.fixed);
        let taken = |peer: &Addresses| {
            plan.fixed.values().any(|fixed| fixed.addresses == *peer)
                || plan.addresses.values().any(|other| other == peer)
        };
        let gone = before.map(|(_, fixed)| fixed.addresses).filter(|peer| !taken(peer));
        let gone = gone.map(|peer| Reroute { peer, way: Way::Gone });
        let changes: Vec<Reroute> = there.chain(gone).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let interfaces = plan.lanes.each_ref().map(|l| l.interface.as_str());
        reroute(changes.iter(), interfaces, &plan.node.addresses)
    }

    /// Finds the routes that an agent before this one has left.
    fn adopt(&mut self, plan: &Plan) -> Result<(), CliError> {
        let interfaces = plan.lanes.each_ref().map(|l| l.interface.clone());
        for (destination, interface) in routes()? {
            let peer = plan.addresses.iter().find(|(_, a)| destination == a.ipv4.to_string());
            let lane = Lane::ALL.into_iter().find(|lane| *lane.of(&interfaces) == interface);
            if let (Some((peer, addresses)), Some(lane)) = (peer, lane) {
                self.agent.adopt(peer, lane);
                self.routed.insert(peer.clone(), *addresses);
            }
        }
        Ok(())
    }

    fn now(&self) -> Moment {
        Moment::at(self.start.elapsed())
    }

    /// Looks at the lanes and does what the state machine says.
    fn watch(&mut self) -> Result<(), CliError> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let found = plan.lanes.each_ref().map(|l| Device { interface: &l.interface }.running(wall_seconds()));
        // On a lane whose interface is gone nothing is heard, so that its peers move to the other one.
        let is_gone = found.each_ref().map(Result::is_err);
        // A peer that cannot move to the other lane is not waited for.
        let samples = found.each_ref().map(|lane| lane.as_ref().map(|l| sample(l, &plan.fixed)).unwrap_or_default());
        let samples = Samples { lanes: samples };
        if is_gone != self.gone {
            self.gone = is_gone;
            // Once it is back it needs everything anew.
            self.read = None;
        }
        let problems: Vec<String> = found.into_iter().filter_map(Result::err).map(|e| e.message).collect();
        if problems.is_empty() {
            self.said.remove(GONE);
        } else {
            self.complain(GONE, &problems.join("; "));
        }
        let Some(plan) = &self.plan else { return Ok(()) };
        let now = self.now();
        let actions = self.agent.round(now, &plan.wanted, &samples, &mut self.rng);
        self.act(&actions)
    }

    fn act(&mut self, actions: &[Action]) -> Result<(), CliError> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let key_of = |peer: &MemberName, lane: Lane| plan.wanted.peers.get(peer).and_then(|p| *lane.of(&p.keys));
        let (mut warm, mut quiet): ([Vec<WgPublicKey>; 2], [Vec<WgPublicKey>; 2]) = Default::default();
        let mut anew: [Vec<WgPublicKey>; 2] = Default::default();
        let mut ways = Vec::new();
        for action in actions {
            if self.context.verbose {
                self.context.say(&format!("{:.3} s: {action:?}", self.start.elapsed().as_secs_f64()));
            }
            match action {
                Action::Warm { peer, lane } => of_lane(&mut warm, *lane).extend(key_of(peer, *lane)),
                Action::Quiet { peer, lane } => of_lane(&mut quiet, *lane).extend(key_of(peer, *lane)),
                Action::Route { peer, lane } => ways.push((peer, Way::Lane(*lane))),
                Action::Hold { peer } => {
                    ways.push((peer, Way::Held));
                    if let Some(lane) = self.agent.lane_of(peer) {
                        of_lane(&mut anew, lane).extend(key_of(peer, lane));
                    }
                }
                Action::Release { peer } => ways.push((peer, Way::Released)),
                Action::Drop { peer } => ways.push((peer, Way::Gone)),
            }
        }
        for lane in Lane::ALL.into_iter().filter(|lane| !lane.of(&self.gone)) {
            let device = Device { interface: &lane.of(&plan.lanes).interface };
            device.warm(lane.of::<Vec<_>>(&warm))?;
            device.keepalive(lane.of::<Vec<_>>(&quiet), "0")?;
        }
        // A peer that is none any more is not among the plan's.
        let addresses = |peer: &MemberName| plan.addresses.get(peer).or_else(|| self.routed.get(peer)).copied();
        let changes: Vec<(&MemberName, Reroute)> =
            ways.into_iter().filter_map(|(peer, way)| Some((peer, Reroute { peer: addresses(peer)?, way }))).collect();
        let interfaces = plan.lanes.each_ref().map(|l| l.interface.as_str());
        reroute(changes.iter().map(|(_, change)| change), interfaces, &plan.node.addresses)?;
        for (wanted, again) in plan.lanes.iter().zip(anew).filter(|(_, again)| !again.is_empty()) {
            let steps = Steps { again, ..Steps::default() };
            Device { interface: &wanted.interface }.carry_out(wanted, &steps, None)?;
        }
        for (name, Reroute { peer, way }) in changes {
            match way {
                Way::Gone => drop(self.routed.remove(name)),
                Way::Lane(_) | Way::Held | Way::Released => drop(self.routed.insert(name.clone(), peer)),
            }
        }
        Ok(())
    }

    /// Replaces the key of a lane that carries nothing.
    fn rotate(&mut self) -> Result<(), CliError> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let Some(own) = plan.ends else { return Ok(()) };
        let context = self.context.again();
        if plan.owes {
            return self.publish(&context, None);
        }
        let step = match own.drained_lane() {
            None => Step::Nothing,
            Some(lane) => next_step(&own, &self.agent.drain(lane, self.now()), plan.drain_quiet, context.now()),
        };
        let lane = match step {
            Step::Nothing => return Ok(()),
            Step::Wait(why) => {
                if self.context.verbose {
                    self.complain("a lane is draining", &why);
                }
                return Ok(());
            }
            Step::Alarm { lane, undrained, reason } => {
                self.complain("a lane does not drain", &format!("lane {lane}, for {undrained}: {reason}"));
                return Ok(());
            }
            Step::Replace(lane) => lane,
        };
        let Some(old) = plan.node.key(lane) else { return Ok(()) };
        self.publish(&context, Some(&old.to_string()))
    }

    /// Publishes what this machine owes: a wider exchange, or a new key for the lane whose key is `drained`.
    fn publish(&mut self, context: &Context, drained: Option<&str>) -> Result<(), CliError> {
        let Some(plan) = &self.plan else { return Ok(()) };
        if self.published.is_some_and(|at| at.elapsed() < PUBLISH_AGAIN) {
            return Ok(());
        }
        self.published = Some(Instant::now());
        let change = Change { yes: true, ..Change::default() };
        context.change(|fleet, home| {
            if let Some(old) = drained {
                let state = fleet.state();
                // Of two nodes that replaced the keys of different lanes without knowing of each other, no lane would be left.
                if ops::agent_wants(&self.name, &ops::mesh(state)?, state)? != plan.wanted {
                    return Ok(());
                }
                home.set_drained(&self.name, Some(old))?;
            }
            catch_up(context, fleet, home, &change).map(drop)
        })?;
        Ok(())
    }
}

fn of_lane<T>(pair: &mut [T; 2], lane: Lane) -> &mut T {
    let [a, b] = pair;
    match lane {
        Lane::A => a,
        Lane::B => b,
    }
}

impl Fixed {
    fn of(external: &External) -> (MemberName, Self) {
        let External { node, lane, .. } = external;
        (node.name.clone(), Self { addresses: node.addresses, lane: *lane, key: node.key(*lane) })
    }
}

fn sample(running: &Running, fixed: &BTreeMap<MemberName, Fixed>) -> BTreeMap<WgPublicKey, Sample> {
    let is_fixed = |key: &WgPublicKey| fixed.values().any(|fixed| fixed.key == Some(*key));
    let peer = |(key, p): (&WgPublicKey, &crate::wireguard::device::RunningPeer)| {
        (*key, Sample { sent: p.sent, received: p.received, handshake: p.handshake })
    };
    running.peers.iter().filter(|(key, _)| !is_fixed(key)).map(peer).collect()
}
