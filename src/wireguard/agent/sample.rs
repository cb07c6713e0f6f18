//! What the interfaces count, and what follows from it about one peer on one lane.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wireguard::{Lane, WgPublicKey};

/// A handshake older than this proves nothing: WireGuard renews it after 120 seconds and gives up after 180.
pub const PROVEN: Duration = Duration::from_secs(150);
/// What was sent and not answered for so long will not be: whoever receives data answers within 10 seconds.
pub const MUTE: Duration = Duration::from_secs(12);
/// The same while the peer talks on the other lane.
pub const FOLLOW: Duration = Duration::from_secs(1);
/// After so long without a word every session with a peer is over.
pub const AWAY: Duration = Duration::from_secs(180);
/// How exactly a handshake's age is known: some interfaces tell it in whole seconds.
const GRAIN: Duration = Duration::from_secs(2);

/// Bytes of an empty packet: a keepalive, which nobody answers.
const KEEPALIVE: u64 = 32;
/// Bytes of a handshake's first message.
const INITIATION: u64 = 148;
/// Bytes of its second.
const RESPONSE: u64 = 92;

/// Whether so many bytes in one round are nothing but keepalives and a handshake, which a lane has for its own sake. A
/// packet with something in it has at least 64 bytes, so that two keepalives are as large as the smallest of them.
fn is_upkeep(bytes: u64) -> bool {
    let keepalives = |rest: u64, most: u64| rest.is_multiple_of(KEEPALIVE) && rest <= most * KEEPALIVE;
    let handshakes = [INITIATION, RESPONSE, INITIATION + RESPONSE];
    keepalives(bytes, 2)
        || handshakes.iter().any(|handshake| bytes.checked_sub(*handshake).is_some_and(|rest| keepalives(rest, 3)))
}

/// A point on this machine's own monotonic clock; never compared with another machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// Room for what was before the agent's start: ages of handshakes that it finds.
    const BEFORE: Duration = Duration::from_secs(86_400);

    /// The moment `since_start` after the agent's start.
    pub fn at(since_start: Duration) -> Self {
        Self(Self::BEFORE.saturating_add(since_start))
    }

    /// The moment `span` later.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// The moment `span` earlier, at most a day before the agent's start.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }

    /// How long after `earlier` this is; nothing if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What an interface says of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Bytes sent to it, handshakes and keepalives among them.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
    /// The age of the last handshake; none if there was none.
    pub handshake: Option<Duration>,
}

/// What both interfaces say, by lane and by the peer's public key there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Samples {
    /// Lane a, lane b.
    pub lanes: [BTreeMap<WgPublicKey, Sample>; 2],
}

impl Samples {
    /// What lane `lane` says.
    pub fn lane(&self, lane: Lane) -> &BTreeMap<WgPublicKey, Sample> {
        lane.of(&self.lanes)
    }
}

/// What the samples of one peer on one lane came to so far.
#[derive(Debug, Clone)]
pub(super) struct Track {
    last: Sample,
    /// Since when it has been watched, without a break in its counters.
    pub(super) since: Moment,
    /// The last handshake.
    pub(super) handshake: Option<Moment>,
    /// When anything was last heard.
    pub(super) heard: Option<Moment>,
    /// When it last said something: more than keepalives and handshakes.
    pub(super) talked: Option<Moment>,
    /// Since when the beginnings of handshakes are heard and nothing else.
    begun: Option<Moment>,
    /// Since when something is sent and nothing heard.
    unanswered: Option<Moment>,
    /// Handshakes before this are of a key that this node has no more.
    void_before: Option<Moment>,
}

impl Track {
    pub(super) fn new(now: Moment, sample: Sample) -> Self {
        Self {
            last: sample,
            since: now,
            handshake: sample.handshake.map(|age| now.minus(age)),
            heard: None,
            talked: None,
            begun: None,
            unanswered: None,
            void_before: None,
        }
    }

    /// Takes in the next sample.
    pub(super) fn observe(&mut self, now: Moment, sample: Sample) {
        let (Some(sent), Some(received)) =
            (sample.sent.checked_sub(self.last.sent), sample.received.checked_sub(self.last.received))
        else {
            // The interface, or the peer on it, was made anew.
            *self = Self { void_before: self.void_before, ..Self::new(now, sample) };
            return self.forget_void();
        };
        self.last = sample;
        match sample.handshake.map(|age| now.minus(age)) {
            None => self.handshake = None,
            // A handshake is heard; one that is not is a clock that was set, and so is one that goes back.
            Some(at) if received > 0 || self.handshake.is_none() => self.handshake = self.handshake.max(Some(at)),
            Some(_) => {}
        }
        self.forget_void();
        if received > 0 {
            self.heard = Some(now);
            self.unanswered = None;
            if !is_upkeep(received) {
                self.talked = Some(now);
            }
            let begins = received.is_multiple_of(INITIATION);
            self.begun = if begins { self.begun.or(Some(now)) } else { None };
        } else if sent > 0 && sent != KEEPALIVE && sent != 2 * KEEPALIVE {
            self.unanswered = self.unanswered.or(Some(now));
        }
    }

    /// This node has another key on the lane: sessions under the old one are no more.
    pub(super) fn own_key_changed(&mut self, now: Moment) {
        self.void_before = Some(now.minus(GRAIN));
        self.unanswered = None;
        self.forget_void();
    }

    fn forget_void(&mut self) {
        if self.handshake < self.void_before {
            self.handshake = None;
        }
    }

    /// The age of the last handshake.
    pub(super) fn age(&self, now: Moment) -> Option<Duration> {
        self.handshake.map(|at| now.since(at))
    }

    /// Whether packets get through, as far as this end can tell.
    pub(super) fn is_proven(&self, now: Moment, other: Option<&Self>) -> bool {
        let young = self.age(now).is_some_and(|age| age < PROVEN);
        let mute = self.unanswered.is_some_and(|since| now.since(since) >= MUTE);
        let left = self.unanswered.zip(other).is_some_and(|(since, other)| {
            now.since(since) >= FOLLOW && other.talked >= Some(since) && other.handshake > self.handshake
        });
        young && !mute && !left
    }

    /// Whether the peer is there and has been beginning handshakes of which nothing comes.
    pub(super) fn collides(&self, now: Moment) -> bool {
        let lately = self.heard.is_some_and(|at| now.since(at) < MUTE);
        lately && self.begun.is_some_and(|since| now.since(since) >= MUTE)
    }
}
