//! The WireGuard mesh as the log has it: the files, and what each interface of a node is to have. The files hold no
//! private key; an interface's preshared keys are in memory alone.

use super::{OpsError, Preshared};
use crate::name::{Kind, MemberName, Slot};
use crate::policy::Policy;
use crate::policy::wireguard::place_of_external;
use crate::state::{KeyState, Member, State};
use crate::statement::Facts;
use crate::time::Time;
use crate::wireguard::address::addresses;
use crate::wireguard::agent::{Ends, Wanted, WantedPeer, pair_drains, pair_lane};
use crate::wireguard::device::{WantedLane, WantedLink};
use crate::wireguard::render::{RenderOptions, Renderer, render_one};
use crate::wireguard::{CheckedMesh, External, Finding, Lane, Mesh, Node, PastKeys, WgPublicKey, check};

/// The mesh as the log has it, checked.
///
/// # Errors
/// [`OpsError::Mesh`], with everything that is wrong.
pub fn mesh(state: &State) -> Result<CheckedMesh, OpsError> {
    mesh_with(state, None)
}

/// Checks that a PoP that asks to join can have its place in the mesh: an address of the mesh, or one that another PoP is
/// reached at already, would spoil the configurations of all. Its name and keys are the log's business.
///
/// # Errors
/// [`OpsError::Mesh`].
pub(super) fn check_newcomer(name: &MemberName, facts: &Facts, state: &State, now: Time) -> Result<(), OpsError> {
    if state.active_member(name).is_ok() {
        return Ok(());
    }
    // Without a free address the log will not have it, and where the mesh has faults already they are not its own.
    let (Ok((region, index)), Ok(_)) = (state.free_index(name, facts, now), mesh(state)) else { return Ok(()) };
    let policy = &state.policy.policy.wireguard;
    let newcomer = Node {
        name: name.clone(),
        addresses: addresses(policy, &region, index).map_err(|e| OpsError::Mesh(e.to_string()))?,
        region,
        roles: facts.roles.clone(),
        index,
        endpoint: facts.endpoint.clone(),
        keys: [None, None],
        preferred: Lane::A,
        nat: facts.endpoint.is_none(),
    };
    mesh_with(state, Some(newcomer)).map(|_| ())
}

fn mesh_with(state: &State, newcomer: Option<Node>) -> Result<CheckedMesh, OpsError> {
    let mesh = unchecked(state, newcomer)?;
    CheckedMesh::new(mesh, &past_keys(state)).map_err(|e| OpsError::Mesh(e.to_string()))
}

/// How many nodes the mesh has, and everything that is found in it, errors first.
///
/// # Errors
/// [`OpsError::Mesh`], if it cannot even be checked.
pub fn mesh_findings(state: &State) -> Result<(usize, Vec<Finding>), OpsError> {
    let mesh = unchecked(state, None)?;
    Ok((mesh.nodes.len(), check(&mesh, &past_keys(state))))
}

fn unchecked(state: &State, newcomer: Option<Node>) -> Result<Mesh, OpsError> {
    let policy = &state.policy.policy.wireguard;
    let fault = |e: String| OpsError::Mesh(e);
    let mut nodes = Vec::from_iter(newcomer);
    for (name, member) in state.members.iter().filter(|(_, m)| m.is_active() && m.kind == Kind::Pop) {
        let Some((region, index)) = state.mesh.used.get(name) else { continue };
        let keys = member.slot(Slot::Wireguard).map(|s| s.keys.as_slice()).unwrap_or_default();
        // The newest key of a lane that still exists: after a promotion the old lane drains with the key it has.
        let on = |lane: Lane| {
            keys.iter()
                .rev()
                .find(|k| k.lane == Some(lane) && !matches!(k.state, KeyState::Destroyed | KeyState::Compromised))
        };
        let parsed = |lane| on(lane).and_then(|k| k.key.parse::<WgPublicKey>().ok());
        nodes.push(Node {
            name: name.clone(),
            region: region.clone(),
            roles: member.facts.roles.clone(),
            index: *index,
            addresses: addresses(policy, region, *index).map_err(|e| fault(e.to_string()))?,
            endpoint: member.facts.endpoint.clone(),
            keys: Lane::ALL.map(parsed),
            preferred: member.active(Slot::Wireguard).and_then(|k| k.lane).unwrap_or(Lane::A),
            nat: member.facts.endpoint.is_none(),
        });
    }
    Ok(Mesh { policy: policy.clone(), nodes })
}

/// Checks that a new policy leaves the mesh whole: addresses that were given out do not move or vanish, and nodes that had a
/// way to each other keep it.
///
/// # Errors
/// [`OpsError::Mesh`], with what it would break.
pub fn check_policy(policy: &Policy, state: &State) -> Result<(), OpsError> {
    check_externals(policy, state)?;
    let mut after = state.clone();
    after.policy.policy = std::sync::Arc::new(policy.clone());
    // A mesh that is broken already must be mendable, step by step.
    let Ok(before) = mesh(state) else { return Ok(()) };
    let after = mesh(&after)?;
    let has = |mesh: &CheckedMesh, code| mesh.warnings().iter().any(|finding| finding.code == code);
    let new = |finding: &&Finding| ["graph-split", "hub-none"].contains(&finding.code) && !has(&before, finding.code);
    match after.warnings().iter().find(new) {
        Some(finding) => Err(OpsError::Mesh(format!("{}; {}", finding.message, finding.hint))),
        None => Ok(()),
    }
}

/// A peer without an agent has no member's name, and no address that others may still know as somebody else's.
fn check_externals(policy: &Policy, state: &State) -> Result<(), OpsError> {
    for (external, number) in policy.wireguard.externals().iter().zip(1..) {
        let fault = |problem: String| {
            let place = policy.wireguard.place(&place_of_external(number));
            Err(OpsError::Mesh(format!("{place}: the external peer '{}' {problem}", external.name)))
        };
        let name = external.name.as_str().parse::<MemberName>();
        if name.is_ok_and(|name| state.active_member(&name).is_ok()) {
            return fault("has the name of a member; give it another one".to_owned());
        }
        let (region, index) = (external.region.as_str(), external.index);
        if let Some((pop, _)) = state.mesh.used.iter().find(|(_, (r, i))| r == region && *i == index) {
            return fault(format!("has the index of {pop}; {index} is taken, another one of region '{region}' is not"));
        }
        let rests = state.mesh.quarantined.get(region).and_then(|resting| resting.get(&index));
        if let Some(until) = rests.filter(|until| **until > state.time) {
            return fault(format!("has an index that rests until {until}, since a PoP that left had it"));
        }
    }
    Ok(())
}

fn past_keys(state: &State) -> PastKeys {
    let gone = |member: &Member, key: &crate::state::SlotKey| {
        !member.is_active() || matches!(key.state, KeyState::Destroyed | KeyState::Compromised)
    };
    let keys = state
        .members
        .iter()
        .flat_map(|(n, m)| m.slot(Slot::Wireguard).into_iter().flat_map(|s| &s.keys).map(move |k| (n, m, k)));
    keys.filter(|(_, m, k)| gone(m, k)).filter_map(|(n, _, k)| Some((k.key.parse().ok()?, n.clone()))).collect()
}

/// Gives `put` the WireGuard files of one PoP, or of every PoP below a directory of its name, one after the other.
///
/// # Errors
/// [`OpsError`], if there is no such PoP; the first of `put`, after which no more come.
pub fn wireguard_files<E: From<OpsError>>(
    only: Option<&MemberName>,
    options: RenderOptions,
    mesh: &CheckedMesh,
    mut put: impl FnMut(&str, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    match only {
        Some(name) => {
            let files = render_one(mesh, options, name).map_err(|e| OpsError::Mesh(e.to_string()))?;
            files.iter().try_for_each(|(path, bytes)| put(path, bytes))
        }
        None => Renderer::new(mesh, options).all(|node, path, bytes| put(&format!("{node}/{path}"), bytes)),
    }
}

/// What the two interfaces of a node are to have. A peer whose preshared key is not known at the moment is not added, and stays as
/// it is where it is there: it may be in use.
///
/// # Errors
/// [`OpsError::NoMember`], if the node is not in the mesh.
pub fn wanted_lanes(name: &MemberName, mesh: &CheckedMesh, preshared: &Preshared) -> Result<[WantedLane; 2], OpsError> {
    let node = mesh.node(name).ok_or_else(|| OpsError::NoMember(name.clone()))?;
    let policy = mesh.policy();
    Ok(Lane::ALL.map(|lane| {
        let unknown = lane.of(&preshared.unknown);
        let link = |peer: &Node| {
            let endpoint = peer.endpoint.as_ref().map(|e| e.host.with_port(peer.port(policy, lane)));
            let allowed = [format!("{}/32", peer.addresses.ipv4), format!("{}/128", peer.addresses.ipv6)];
            let key = peer.key(lane).filter(|key| !unknown.contains(key))?;
            let preshared = lane.of(&preshared.keys).get(&key).cloned();
            Some((key, WantedLink { name: peer.name.clone(), endpoint, allowed, preshared }))
        };
        // Without a key of its own an interface has no use for peers.
        let key = node.key(lane);
        let externals = mesh.externals_of(name).map(|external| &external.node);
        let peers = mesh.peers_of(name).chain(externals).filter(|_| key.is_some()).filter_map(link).collect();
        let kept = mesh.peers_of(name).filter_map(|peer| peer.key(lane)).filter(|key| unknown.contains(key)).collect();
        WantedLane { interface: lane.interface(policy).to_owned(), key, port: node.port(policy, lane), peers, kept }
    }))
}

/// The peers of a node that have no agent: they are on one lane for good, so no state machine decides on their routes, and the
/// lane does not wait for them when its key is replaced.
pub fn fixed_peers<'m>(name: &MemberName, mesh: &'m CheckedMesh) -> Vec<&'m External> {
    let has_key = |external: &&External| mesh.node(name).is_some_and(|node| node.key(external.lane).is_some());
    mesh.externals_of(name).filter(has_key).collect()
}

/// What a node's two lanes are in the log: which is active since when, and whether the other one is draining. `None` while
/// the node has no active WireGuard key.
pub fn ends(name: &MemberName, state: &State) -> Option<Ends> {
    let keys = state.active_member(name).ok()?.slot(Slot::Wireguard)?;
    let active = keys.active()?;
    let (lane, since) = (active.lane?, active.activated?);
    let draining = keys.keys.iter().any(|k| k.lane == Some(lane.other()) && k.state == KeyState::Deactivated);
    Some(Ends { active: lane, since, key: active.key.parse().ok()?, draining })
}

/// What the agent of a node goes by.
///
/// # Errors
/// [`OpsError::NoMember`], if the node is not in the mesh.
pub fn agent_wants(name: &MemberName, mesh: &CheckedMesh, state: &State) -> Result<Wanted, OpsError> {
    let node = mesh.node(name).ok_or_else(|| OpsError::NoMember(name.clone()))?;
    let own = ends(name, state);
    let peer = |peer: &Node| {
        let (own, theirs) = (own?, ends(&peer.name, state)?);
        let wanted = WantedPeer {
            keys: Lane::ALL.map(|lane| peer.key(lane).filter(|_| node.key(lane).is_some())),
            preferred: pair_lane(&own, &theirs),
            draining: pair_drains(&own, &theirs),
            callable: peer.endpoint.is_some(),
            calls: node.endpoint.is_some(),
        };
        Some((peer.name.clone(), wanted))
    };
    let peers = mesh.peers_of(name).filter_map(peer).collect();
    Ok(Wanted { keys: node.keys, peers })
}
