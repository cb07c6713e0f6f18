//! WireGuard as far as it matters to sessions: one peer on one interface, with the timers and the single handshake slot
//! of the Linux implementation (drivers/net/wireguard: noise.c, timers.c, send.c, receive.c), read there.
//!
//! Two ends that send an initiation within one one-way delay each overwrite their own handshake with the other's, and
//! then refuse the response to it; and because a response counts as a handshake sent, both begin again 5 seconds later.

use std::collections::VecDeque;

use rand::RngExt as _;
use rand::rngs::StdRng;

/// Microseconds since the simulation began.
pub(super) type Us = u64;

pub(super) const SECOND: Us = 1_000_000;
const REKEY_TIMEOUT: Us = 5 * SECOND;
const REKEY_JITTER: Us = SECOND / 3;
const REKEY_AFTER: Us = 120 * SECOND;
const REJECT_AFTER: Us = 180 * SECOND;
const KEEPALIVE_TIMEOUT: Us = 10 * SECOND;
const PERSISTENT: Us = 25 * SECOND;
const MAX_ATTEMPTS: u32 = 18;
const MAX_STAGED: usize = 128;

/// A packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) flow: u32,
    pub(super) seq: u32,
}

/// What goes over the wire. Numbers stand for secrets: whoever knows them has taken part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Initiation {
        handshake: u64,
    },
    Response {
        handshake: u64,
        session: u64,
    },
    /// Without a load a keepalive.
    Data {
        session: u64,
        load: Option<Load>,
    },
}

impl Message {
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Initiation { .. } => 148,
            Self::Response { .. } => 92,
            Self::Data { load: None, .. } => 32,
            Self::Data { load: Some(_), .. } => 1_312,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Session {
    id: u64,
    initiator: bool,
    born: Us,
    sends: bool,
}

/// What a peer does: messages that leave, loads that arrive, loads that are lost.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) messages: Vec<Message>,
    pub(super) arrived: Vec<Load>,
    /// Sessions that were confirmed.
    pub(super) handshakes: u32,
}

/// What a peer needs from outside.
pub(super) struct Context<'a> {
    pub(super) now: Us,
    pub(super) rng: &'a mut StdRng,
    pub(super) ids: &'a mut u64,
    pub(super) effects: &'a mut Effects,
}

impl Context<'_> {
    fn id(&mut self) -> u64 {
        *self.ids += 1;
        *self.ids
    }
}

/// A peer on an interface.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its public key, by number.
    pub(super) key: u32,
    /// Where it is reached: the number of its address, which changes when it roams.
    pub(super) endpoint: Option<u32>,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) handshake: Option<Us>,
    /// The initiation that waits for its response; overwritten by any that is received.
    initiated: Option<u64>,
    last_sent_handshake: Option<Us>,
    attempts: u32,
    last_minute: bool,
    previous: Option<Session>,
    current: Option<Session>,
    next: Option<Session>,
    staged: VecDeque<Option<Load>>,
    persistent: bool,
    retransmit_at: Option<Us>,
    keepalive_at: Option<Us>,
    another_keepalive: bool,
    new_handshake_at: Option<Us>,
    persistent_at: Option<Us>,
    /// When the simulation will look at the timers next.
    pub(super) looked_at: Option<Us>,
}

impl Peer {
    pub(super) fn new(key: u32, endpoint: Option<u32>) -> Self {
        Self {
            key,
            endpoint,
            sent: 0,
            received: 0,
            handshake: None,
            initiated: None,
            last_sent_handshake: None,
            attempts: 0,
            last_minute: false,
            previous: None,
            current: None,
            next: None,
            staged: VecDeque::new(),
            persistent: false,
            retransmit_at: None,
            keepalive_at: None,
            another_keepalive: false,
            new_handshake_at: None,
            persistent_at: None,
            looked_at: None,
        }
    }

    /// The next timer.
    pub(super) fn due(&self) -> Option<Us> {
        [self.retransmit_at, self.keepalive_at, self.new_handshake_at, self.persistent_at].into_iter().flatten().min()
    }

    /// A packet from above. False: there is no endpoint and it is dropped.
    pub(super) fn send(&mut self, load: Load, c: &mut Context<'_>) -> bool {
        if self.endpoint.is_none() {
            return false;
        }
        while self.staged.len() >= MAX_STAGED {
            self.staged.pop_front();
        }
        self.staged.push_back(Some(load));
        self.flush(c);
        true
    }

    /// persistent-keepalive 25, or 0. Set anew it sends one at once.
    pub(super) fn set_persistent(&mut self, on: bool, c: &mut Context<'_>) {
        let anew = on && !self.persistent;
        self.persistent = on;
        if !on {
            self.persistent_at = None;
        }
        if anew {
            self.keepalive(c);
        }
    }

    /// The interface has another private key: nothing more is sent under the old one, but still received.
    pub(super) fn own_key_changed(&mut self) {
        self.initiated = None;
        self.last_sent_handshake = None;
        for session in [&mut self.current, &mut self.next].into_iter().flatten() {
            session.sends = false;
        }
    }

    fn keepalive(&mut self, c: &mut Context<'_>) {
        if self.staged.is_empty() {
            self.staged.push_back(None);
        }
        self.flush(c);
    }

    fn flush(&mut self, c: &mut Context<'_>) {
        if self.staged.is_empty() {
            return;
        }
        let usable = self.current.filter(|s| s.sends && c.now - s.born < REJECT_AFTER);
        let Some(session) = usable else {
            if let Some(current) = &mut self.current {
                current.sends = false;
            }
            return self.initiate(false, c);
        };
        let mut data = false;
        for load in std::mem::take(&mut self.staged) {
            data |= load.is_some();
            self.transmit(Message::Data { session: session.id, load }, c);
        }
        if data && self.new_handshake_at.is_none() {
            let jitter = c.rng.random_range(0..REKEY_JITTER);
            self.new_handshake_at = Some(c.now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter);
        }
        if session.initiator && c.now - session.born >= REKEY_AFTER {
            self.initiate(false, c);
        }
    }

    fn transmit(&mut self, message: Message, c: &mut Context<'_>) {
        self.traversed(c.now);
        self.keepalive_at = None;
        if self.endpoint.is_some() {
            self.sent += message.bytes();
            c.effects.messages.push(message);
        }
    }

    fn traversed(&mut self, now: Us) {
        if self.persistent {
            self.persistent_at = Some(now + PERSISTENT);
        }
    }

    fn initiate(&mut self, retry: bool, c: &mut Context<'_>) {
        if !retry {
            self.attempts = 0;
        }
        if self.last_sent_handshake.is_some_and(|at| c.now - at < REKEY_TIMEOUT) {
            return;
        }
        self.last_sent_handshake = Some(c.now);
        let handshake = c.id();
        self.initiated = Some(handshake);
        self.transmit(Message::Initiation { handshake }, c);
        self.retransmit_at = Some(c.now + REKEY_TIMEOUT + c.rng.random_range(0..REKEY_JITTER));
    }

    /// A message that is for this interface's key and from this peer's, from the address `from`.
    pub(super) fn receive(&mut self, message: Message, from: u32, c: &mut Context<'_>) {
        match message {
            Message::Initiation { handshake } => {
                // The one slot: what was initiated here is forgotten.
                self.initiated = None;
                self.endpoint = Some(from);
                self.last_sent_handshake = Some(c.now);
                let session = c.id();
                self.next = Some(Session { id: session, initiator: false, born: c.now, sends: true });
                self.previous = None;
                self.transmit(Message::Response { handshake, session }, c);
            }
            Message::Response { handshake, session } => {
                if self.initiated != Some(handshake) {
                    return;
                }
                self.initiated = None;
                self.endpoint = Some(from);
                self.previous = self.next.take().or(self.current);
                self.current = Some(Session { id: session, initiator: true, born: c.now, sends: true });
                self.completed(c);
                self.keepalive(c);
            }
            Message::Data { session, load } => {
                let known = [self.current, self.next, self.previous].into_iter().flatten().find(|s| s.id == session);
                if known.is_none_or(|s| c.now - s.born >= REJECT_AFTER) {
                    return;
                }
                self.endpoint = Some(from);
                if self.next.is_some_and(|next| next.id == session) {
                    self.previous = self.current;
                    self.current = self.next.take();
                    self.completed(c);
                    self.flush(c);
                }
                let old = |s: Session| s.initiator && s.sends && c.now - s.born >= REJECT_AFTER - 3 * REKEY_TIMEOUT;
                if !self.last_minute && self.current.is_some_and(old) {
                    self.last_minute = true;
                    self.initiate(false, c);
                }
                if let Some(load) = load {
                    c.effects.arrived.push(load);
                    match self.keepalive_at {
                        None => self.keepalive_at = Some(c.now + KEEPALIVE_TIMEOUT),
                        Some(_) => self.another_keepalive = true,
                    }
                }
            }
        }
        self.received += message.bytes();
        self.new_handshake_at = None;
        self.traversed(c.now);
    }

    fn completed(&mut self, c: &mut Context<'_>) {
        self.retransmit_at = None;
        self.attempts = 0;
        self.last_minute = false;
        self.handshake = Some(c.now);
        c.effects.handshakes += 1;
    }

    /// Runs the timers that are due.
    pub(super) fn tick(&mut self, c: &mut Context<'_>) {
        let now = c.now;
        let due = |timer: &mut Option<Us>| timer.take_if(|at| *at <= now).is_some();
        if due(&mut self.retransmit_at) {
            if self.attempts > MAX_ATTEMPTS {
                self.keepalive_at = None;
                self.staged.clear();
            } else {
                self.attempts += 1;
                self.initiate(true, c);
            }
        }
        if due(&mut self.keepalive_at) {
            self.keepalive(c);
            if std::mem::take(&mut self.another_keepalive) {
                self.keepalive_at = Some(now + KEEPALIVE_TIMEOUT);
            }
        }
        if due(&mut self.new_handshake_at) {
            self.initiate(false, c);
        }
        if due(&mut self.persistent_at) && self.persistent {
            self.keepalive(c);
        }
    }
}
