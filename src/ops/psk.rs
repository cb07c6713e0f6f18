//! Preshared keys of pairs: making the exchange that goes with a lane's new key, and computing the keys from the log's
//! exchanges and this node's private halves. See `wireguard::exchange`.

use std::collections::{BTreeMap, BTreeSet};

use rand::CryptoRng;

use super::OpsError;
use crate::digest::Digest;
use crate::fleet::Fleet;
use crate::home::Home;
use crate::limits::OBJECT_BYTES_MAX;
use crate::name::{Kind, MemberName, Slot};
use crate::policy::wireguard::PskMode;
use crate::state::{KeyState, SlotKey, State};
use crate::statement::ExchangeDigests;
use crate::store::{Store, object_path};
use crate::wireguard::device::PresharedKey;
use crate::wireguard::exchange::{CIPHERTEXT_BYTES, Context, Exchange, FIXED_BYTES, Head, KemPrivate, owes, pair};
use crate::wireguard::{Lane, WgPublicKey};

/// The preshared keys of a node, by lane and by the peer's public key there.
#[derive(Debug, Clone, Default)]
pub struct Preshared {
    /// The keys.
    pub keys: [BTreeMap<WgPublicKey, PresharedKey>; 2],
    /// Peers that have one with this node which could not be computed: without it no session comes about.
    pub unknown: [BTreeSet<WgPublicKey>; 2],
    /// Why.
    pub troubles: Vec<String>,
    /// Whether this node has to publish a wider exchange with its standby.
    pub owes: bool,
}

/// The key of a lane, as mesh and agent take it: the newest that is not destroyed.
pub(super) fn lane_key(name: &MemberName, lane: Lane, state: &State) -> Option<SlotKey> {
    let member = state.active_member(name).ok().filter(|m| m.kind == Kind::Pop)?;
    let keys = &member.slot(Slot::Wireguard)?.keys;
    let gone = |k: &SlotKey| matches!(k.state, KeyState::Destroyed | KeyState::Compromised);
    keys.iter().rev().find(|k| k.lane == Some(lane) && !gone(k)).cloned()
}

/// Reads the head of an exchange, and checks that it is what the log names.
fn head(store: &Store, digests: &ExchangeDigests, key: &str) -> Result<Head, String> {
    let path = object_path(&digests.object);
    let part = |length| {
        let read = store.disk().read_part(&path, 0, length).map_err(|e| e.to_string())?;
        read.ok_or_else(|| format!("{path} is missing"))
    };
    let length = Head::length(&part(FIXED_BYTES)?).map_err(|e| format!("{path} {e}"))?;
    let bytes = part(length)?;
    if Digest::of(&bytes) != digests.head {
        return Err(format!("{path} does not begin as the log says"));
    }
    let head = Head::parse(&bytes).map_err(|e| format!("{path} {e}"))?;
    if head.key().to_string() != key {
        return Err(format!("{path} is the exchange of another key"));
    }
    Ok(head)
}

/// Makes the exchange that is published with a lane's new key, where the policy wants preshared keys: its digests, and its
/// bytes. The private half is in the home then. A peer whose exchange cannot be read has no preshared key with this one.
pub(super) fn make_exchange(
    member: &MemberName,
    lane: Lane,
    key: &str,
    home: &Home,
    fleet: &Fleet,
    rng: &mut impl CryptoRng,
) -> Result<Option<(ExchangeDigests, Vec<u8>)>, OpsError> {
    let state = fleet.state();
    let (PskMode::KemPair, Ok(public)) = (state.policy.policy.wireguard.psk(), key.parse::<WgPublicKey>()) else {
        return Ok(None);
    };
    let kem = match home.kem_key(member, key)? {
        Some(kem) => kem,
        None => {
            let made = KemPrivate::generate(rng);
            home.set_kem_key(member, key, &made)?;
            made
        }
    };
    let mut peers = Vec::new();
    for name in state.members.keys().filter(|name| *name != member) {
        let Some(theirs) = lane_key(name, lane, state) else { continue };
        let (Some(digests), Ok(wg)) = (theirs.exchange, theirs.key.parse()) else { continue };
        if let Ok(head) = head(fleet.store(), &digests, &theirs.key) {
            peers.push((wg, head.kem().clone()));
        }
    }
    let exchange = Exchange::new(public, &kem, &peers);
    let bytes = exchange.to_bytes();
    let digests = ExchangeDigests { head: Digest::of(&exchange.head().to_bytes()), object: Digest::of(&bytes) };
    Ok(Some((digests, bytes)))
}

/// Makes the exchange that a standby still needs: its first one, if the PoP has only just joined and neither lane has ever been
/// up, or a wider one. `None` if it needs none.
pub(super) fn standby_exchange(
    member: &MemberName,
    standby: &SlotKey,
    home: &Home,
    fleet: &Fleet,
    rng: &mut impl CryptoRng,
) -> Result<Option<(ExchangeDigests, Vec<u8>)>, OpsError> {
    match standby.lane {
        Some(lane) if standby.exchange.is_none() && is_unused(member, home, fleet.state())? => {
            make_exchange(member, lane, &standby.key, home, fleet, rng)
        }
        Some(_) | None => widen_exchange(member, standby, home, fleet),
    }
}

/// Whether no packet can have passed on either lane: they have the keys of the enrolment, and no agent has ever run here.
/// Afterwards a preshared key would be changed under a session.
fn is_unused(member: &MemberName, home: &Home, state: &State) -> Result<bool, OpsError> {
    let found = state.active_member(member).ok();
    let keys = found.and_then(|m| Some((m.enrolled, &m.slot(Slot::Wireguard)?.keys)));
    let new = keys.is_some_and(|(enrolled, keys)| keys.iter().all(|key| key.published == enrolled));
    Ok(new && home.drained(member)?.is_none())
}

/// Makes a wider exchange for a standby, where there are peers that published at the same time and it is this end that has
/// to encapsulate. `None` if there are none.
fn widen_exchange(
    member: &MemberName,
    own: &SlotKey,
    home: &Home,
    fleet: &Fleet,
) -> Result<Option<(ExchangeDigests, Vec<u8>)>, OpsError> {
    let (Some(lane), Some(digests)) = (own.lane, own.exchange) else { return Ok(None) };
    let Ok(mine) = head(fleet.store(), &digests, &own.key) else { return Ok(None) };
    let mut peers = Vec::new();
    for name in fleet.state().members.keys().filter(|name| *name != member) {
        let Some(theirs) = lane_key(name, lane, fleet.state()) else { continue };
        let Some(exchange) = theirs.exchange else { continue };
        if let Ok(other) = head(fleet.store(), &exchange, &theirs.key)
            && owes(&mine, &other)
        {
            peers.push((other.key(), other.kem().clone()));
        }
    }
    let Some(kem) = home.kem_key(member, &own.key)?.filter(|kem| !peers.is_empty() && kem.public() == *mine.kem())
    else {
        return Ok(None);
    };
    let Ok(old) = fleet.store().object_within(&digests.object, OBJECT_BYTES_MAX) else { return Ok(None) };
    let Ok(old) = Exchange::parse(&old) else { return Ok(None) };
    let wider = old.widened(&kem, &peers);
    let bytes = wider.to_bytes();
    let digests = ExchangeDigests { head: Digest::of(&wider.head().to_bytes()), object: Digest::of(&bytes) };
    Ok(Some((digests, bytes)))
}

/// Computes the preshared keys of a node on both lanes.
///
/// # Errors
/// [`OpsError`], if the home cannot be read.
pub fn preshared_keys(node: &MemberName, home: &Home, fleet: &Fleet) -> Result<Preshared, OpsError> {
    let mut found = Preshared::default();
    for lane in Lane::ALL {
        let Some(own) = lane_key(node, lane, fleet.state()) else { continue };
        let Some(digests) = own.exchange else { continue };
        let ours = match (head(fleet.store(), &digests, &own.key), home.kem_key(node, &own.key)?) {
            (Ok(head), Some(kem)) if *head.kem() == kem.public() => Ok((head, kem)),
            (Err(problem), _) => Err(problem),
            (Ok(_), _) => Err(format!("the private half of the exchange of lane {lane} is not in this home")),
        };
        let ours = ours.map_err(|problem| found.troubles.push(problem)).ok();
        let is_standby = own.state == KeyState::PreActive;
        on_lane(node, lane, is_standby, ours.as_ref(), fleet, &mut found);
    }
    Ok(found)
}

fn on_lane(
    node: &MemberName,
    lane: Lane,
    is_standby: bool,
    ours: Option<&(Head, KemPrivate)>,
    fleet: &Fleet,
    found: &mut Preshared,
) {
    let state = fleet.state();
    let context = Context::new(fleet.log(), state.policy.policy.wireguard.mesh().id.as_str());
    for name in state.members.keys().filter(|name| *name != node) {
        let Some(theirs) = lane_key(name, lane, state) else { continue };
        let (Some(digests), Ok(key)) = (theirs.exchange, theirs.key.parse::<WgPublicKey>()) else { continue };
        let read = |offset| {
            let part = fleet.store().disk().read_part(&object_path(&digests.object), offset, CIPHERTEXT_BYTES);
            part.map_err(|e| e.to_string()).map(Option::unwrap_or_default)
        };
        let secret = ours.ok_or_else(String::new).and_then(|(mine, kem)| {
            let other = head(fleet.store(), &digests, &theirs.key)?;
            found.owes |= is_standby && owes(mine, &other);
            pair(&context, lane, (mine, kem), &other, read)
        });
        match secret {
            Ok(secret) => {
                let [a, b] = &mut found.keys;
                let keys = if lane == Lane::A { a } else { b };
                keys.extend(secret.map(|secret| (key, secret)));
            }
            Err(problem) => {
                if !problem.is_empty() {
                    found.troubles.push(format!("no preshared key with {name} on lane {lane}: {problem}"));
                }
                let [a, b] = &mut found.unknown;
                if lane == Lane::A { a } else { b }.insert(key);
            }
        }
    }
}

/// PoPs with a lane key that has no exchange, though the policy wants preshared keys.
pub fn without_exchange(state: &State) -> Vec<MemberName> {
    if state.policy.policy.wireguard.psk() != PskMode::KemPair {
        return Vec::new();
    }
    let lacks =
        |name: &MemberName| Lane::ALL.iter().any(|l| lane_key(name, *l, state).is_some_and(|k| k.exchange.is_none()));
    state.members.keys().filter(|name| lacks(name)).cloned().collect()
}
