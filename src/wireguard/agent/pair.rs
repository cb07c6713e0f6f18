//! One peer: its route, its two lanes, and what is to be done about them in a round.

use std::time::Duration;

use rand::{Rng, RngExt as _};

use super::WantedPeer;
use super::sample::{AWAY, Moment, Track};
use crate::name::MemberName;
use crate::wireguard::{Lane, WgPublicKey};

/// How often opening a lane is tried again: WireGuard does not begin two handshakes within 5 seconds.
pub const RETRY: Duration = Duration::from_secs(5);
/// At most so much is added to [`RETRY`], so that two ends do not keep step.
pub const RETRY_JITTER: Duration = Duration::from_secs(1);
/// After so long the passive end opens a lane itself: the other may have no agent.
pub const TAKE_OVER: Duration = Duration::from_secs(2);
/// The age at which the opening end has a handshake renewed. Whoever began it does so from 120 seconds on.
pub const REFRESH: Duration = Duration::from_secs(125);
/// How much later the passive end does: if it had begun the last one, the opening end's packet renews nothing.
pub const REFRESH_LATER: Duration = Duration::from_secs(10);
/// A session younger than this is not renewed by sending, so sending often is of no use.
const SESSION: Duration = Duration::from_secs(120);
/// How often a keepalive is sent into such a session that does not answer. Each winds up the other end's own timer of
/// 25 seconds, so it is rarer than that.
const RETRY_IN_SESSION: Duration = Duration::from_secs(30);
/// A lane that was left to itself has to be heard, at most so long before it is used again.
const RECENT: Duration = Duration::from_secs(30);
/// After so long without a proven lane the passive end holds its packets back: both may have begun at once, over and over.
pub const BREAKER_AFTER: Duration = Duration::from_secs(12);
/// For at most so long: one more handshake of the other end's.
pub const BREAKER_FOR: Duration = Duration::from_secs(6);
/// And at most so often.
pub const BREAKER_EVERY: Duration = Duration::from_secs(30);

/// What the driver does next. Each can be done again without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send what is for the peer through this lane: its host routes, both families.
    Route {
        /// The peer.
        peer: MemberName,
        /// The lane.
        lane: Lane,
    },
    /// Open or prove the lane: persistent keepalive 0, then 25.
    Warm {
        /// The peer.
        peer: MemberName,
        /// The lane.
        lane: Lane,
    },
    /// No keepalive there any more: the lane is draining.
    Quiet {
        /// The peer.
        peer: MemberName,
        /// The lane.
        lane: Lane,
    },
    /// Drop what is for the peer until told otherwise, and make its entry on the lane of its route anew, so that no
    /// handshake of this end's is tried again there by itself. A driver that stops, or starts, lifts it.
    Hold {
        /// The peer.
        peer: MemberName,
    },
    /// Send it again, through the lane of its route.
    Release {
        /// The peer.
        peer: MemberName,
    },
    /// The peer is not wanted any more: no route, no entry on either lane.
    Drop {
        /// The peer.
        peer: MemberName,
    },
}

/// What is known of a pair in a round.
pub(super) struct View<'a> {
    pub(super) now: Moment,
    pub(super) own: &'a [Option<WgPublicKey>; 2],
    pub(super) name: &'a MemberName,
    pub(super) peer: &'a WantedPeer,
    pub(super) tracks: [Option<&'a Track>; 2],
}

impl View<'_> {
    fn track(&self, lane: Lane) -> Option<&Track> {
        *lane.of(&self.tracks)
    }

    /// The two keys of a lane, if it has both.
    fn keys(&self, lane: Lane) -> Option<(WgPublicKey, WgPublicKey)> {
        lane.of(self.own).zip(*lane.of(&self.peer.keys))
    }

    /// Whether the lane is one that an end drains and the pair should not use.
    fn drains(&self, lane: Lane) -> bool {
        self.peer.draining && lane != self.peer.preferred
    }

    fn opens(&self, lane: Lane) -> bool {
        lane.of(self.own).is_some_and(|own| self.peer.opens(own, lane))
    }

    fn heard(&self) -> Option<Moment> {
        self.tracks.iter().flatten().filter_map(|track| track.heard).max()
    }
}

/// One lane of a pair.
#[derive(Debug, Clone)]
struct Side {
    /// The keys it was last seen with.
    keys: Option<(WgPublicKey, WgPublicKey)>,
    proven: bool,
    /// Since when it is not.
    unproven: Moment,
    /// What was last asked for; none if nothing was.
    keepalive: Option<bool>,
    /// A lane that was silent is to be used again: what was heard before this proves nothing.
    recalled: Option<Moment>,
    /// Not before this is it warmed again.
    again: Option<Moment>,
}

impl Side {
    fn new(now: Moment) -> Self {
        Self { keys: None, proven: false, unproven: now, keepalive: None, recalled: None, again: None }
    }
}

/// What the agent remembers of a peer.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// When it was first wanted.
    pub(super) since: Moment,
    pub(super) route: Option<Lane>,
    sides: [Side; 2],
    /// Since when no lane is proven.
    dark: Option<Moment>,
    /// Since when its packets are held back, if they are.
    held: Option<Moment>,
    /// When they were last begun to be.
    held_last: Option<Moment>,
    /// Since when something is to be done or waited for.
    unsettled: Option<Moment>,
    /// When it was last heard on any lane, also under keys that it has no more.
    pub(super) heard: Option<Moment>,
}

impl Pair {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            since: now,
            route: None,
            sides: [Side::new(now), Side::new(now)],
            dark: None,
            held: None,
            held_last: None,
            unsettled: None,
            heard: None,
        }
    }

    pub(super) fn is_proven(&self, lane: Lane) -> bool {
        lane.of(&self.sides).proven
    }

    pub(super) fn any_proven(&self) -> bool {
        self.sides.iter().any(|side| side.proven)
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether the lane has a keepalive, as far as the agent knows.
    pub(super) fn keepalive(&self, lane: Lane) -> Option<bool> {
        lane.of(&self.sides).keepalive
    }

    /// Whether every session with it is over.
    pub(super) fn is_away(&self, now: Moment) -> bool {
        !self.any_proven() && now.since(self.heard.unwrap_or(self.since)) >= AWAY
    }

    /// Whether rounds should follow each other closely for its sake.
    pub(super) fn in_transition(&self, now: Moment) -> bool {
        self.held.is_some() || self.unsettled.is_some_and(|since| now.since(since) < AWAY)
    }

    /// One round. What is to be done goes to `out`, in the order in which to do it.
    pub(super) fn round(&mut self, view: &View<'_>, rng: &mut impl Rng, out: &mut Vec<Action>) {
        self.look(view);
        self.hold_or_release(view, out);
        self.choose(view, out);
        for lane in Lane::ALL {
            self.keep(view, lane, rng, out);
        }
        self.settle(view);
    }

    fn side(&mut self, lane: Lane) -> &mut Side {
        let [a, b] = &mut self.sides;
        match lane {
            Lane::A => a,
            Lane::B => b,
        }
    }

    /// What is proven now.
    fn look(&mut self, view: &View<'_>) {
        let now = view.now;
        self.heard = self.heard.max(view.heard());
        for lane in Lane::ALL {
            let keys = view.keys(lane);
            let track = view.track(lane).filter(|_| keys.is_some());
            let proven = track.is_some_and(|track| track.is_proven(now, view.track(lane.other())));
            let side = self.side(lane);
            if side.keys != keys {
                *side = Side { keys, ..Side::new(now) };
            }
            // The peer may have forgotten the session while nobody spoke.
            if side.keepalive == Some(false) && !view.drains(lane) {
                (side.keepalive, side.recalled, side.again) = (None, Some(now.minus(RECENT)), None);
            }
            if let Some(since) = side.recalled
                && track.is_some_and(|track| track.heard > Some(since))
            {
                // The peer wants to hear something, too.
                (side.keepalive, side.recalled, side.again) = (None, None, None);
            }
            let proven = proven && side.recalled.is_none();
            if side.proven && !proven {
                side.unproven = now;
                side.again = None;
            }
            side.proven = proven;
        }
        self.dark = if self.any_proven() { None } else { self.dark.or(Some(now)) };
    }

    /// The preferred lane if it is proven, else the other if it is, else no change.
    fn choose(&mut self, view: &View<'_>, out: &mut Vec<Action>) {
        let preferred = view.peer.preferred;
        let lane = [preferred, preferred.other()].into_iter().find(|lane| self.is_proven(*lane));
        if let Some(lane) = lane
            && self.route != Some(lane)
        {
            self.route = Some(lane);
            out.push(Action::Route { peer: view.name.clone(), lane });
        }
    }

    /// Keeps a lane open, opens it, or lets it fall silent.
    fn keep(&mut self, view: &View<'_>, lane: Lane, rng: &mut impl Rng, out: &mut Vec<Action>) {
        let (now, peer) = (view.now, view.peer);
        if view.keys(lane).is_none() || self.held.is_some() {
            return;
        }
        let opens = view.opens(lane);
        let refresh = if opens { REFRESH } else { REFRESH + REFRESH_LATER };
        let track = view.track(lane);
        let age = track.and_then(|track| track.age(now));
        let stale = age.is_some_and(|age| age >= refresh);
        let silent = view.drains(lane) && self.route == Some(peer.preferred) && self.is_proven(peer.preferred);
        let side = self.side(lane);
        let awakened = !silent && side.keepalive == Some(false);
        let rested = awakened || side.again.is_none_or(|again| now >= again);
        if silent {
            let heard = track.and_then(|track| track.heard).is_some_and(|at| now.since(at) < RECENT);
            if side.keepalive != Some(false) {
                side.keepalive = Some(false);
                out.push(Action::Quiet { peer: view.name.clone(), lane });
            } else if heard && stale && rested {
                // The peer still uses it, and it may be for this end to renew the handshake: one keepalive.
                (side.keepalive, side.again) = (Some(true), Some(now.plus(RETRY)));
                out.push(Action::Warm { peer: view.name.clone(), lane });
            }
            return;
        }
        let due = if side.proven {
            side.keepalive != Some(true) || stale
        } else {
            opens || peer.callable && now.since(side.unproven) >= TAKE_OVER
        };
        if due && rested {
            let pace = match age {
                Some(age) if age < SESSION => RETRY_IN_SESSION.min(REFRESH - age),
                Some(_) | None => RETRY + RETRY_JITTER.mul_f64(rng.random()),
            };
            side.again = Some(now.plus(pace));
            side.keepalive = Some(true);
            out.push(Action::Warm { peer: view.name.clone(), lane });
        }
    }

    /// Two ends that begin handshakes at once, again and again, never finish one. The passive end stops for a while.
    fn hold_or_release(&mut self, view: &View<'_>, out: &mut Vec<Action>) {
        let now = view.now;
        if let Some(since) = self.held {
            if self.any_proven() || now.since(since) >= BREAKER_FOR {
                self.held = None;
                // The other end has the first word once more.
                self.sides.iter_mut().for_each(|side| side.unproven = now);
                out.push(Action::Release { peer: view.name.clone() });
            }
            return;
        }
        let Some(lane) = self.route else { return };
        let dark = self.dark.is_some_and(|since| now.since(since) >= BREAKER_AFTER);
        let rested = self.held_last.is_none_or(|last| now.since(last) >= BREAKER_EVERY);
        let passive = view.peer.calls && !view.opens(lane);
        if dark && rested && passive && view.track(lane).is_some_and(|track| track.collides(now)) {
            self.held = Some(now);
            self.held_last = Some(now);
            // The new entry has no keepalive.
            let side = self.side(lane);
            (side.keepalive, side.again) = (None, None);
            out.push(Action::Hold { peer: view.name.clone() });
        }
    }

    fn settle(&mut self, view: &View<'_>) {
        let preferred = view.peer.preferred;
        let aside = Lane::ALL.into_iter().filter(|lane| self.route != Some(*lane)).any(|lane| {
            let talked = view.track(lane).and_then(|track| track.talked);
            talked.is_some_and(|at| view.now.since(at) < super::machine::AT_REST)
        });
        let opening = Lane::ALL.into_iter().any(|lane| {
            let side = lane.of(&self.sides);
            side.keys.is_some() && !side.proven && side.keepalive != Some(false)
        });
        let settled = self.route == Some(preferred) && !aside && !opening;
        self.unsettled = if settled { None } else { self.unsettled.or(Some(view.now)) };
    }
}
