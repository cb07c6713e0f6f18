//! What nodes install: WireGuard and SSH files, from the log alone. No private key is in any of them.

use std::collections::{BTreeMap, BTreeSet};

use super::OpsError;
use crate::fleet::Fleet;
use crate::name::{Kind, MemberName, Slot};
use crate::policy::Policy;
use crate::policy::ssh::Places;
use crate::ssh::{
    CaLine, CertificateKind, ConfigPath, HostPattern, Krl, KrlScope, NodeFile, NodeInput, Serial, SshPublicKey, render,
};
use crate::state::{KeyState, Member, State};
use crate::statement::Facts;
use crate::time::Time;
use crate::wireguard::address::addresses;
use crate::wireguard::render::{RenderOptions, Renderer};
use crate::wireguard::{CheckedMesh, Lane, Mesh, Node, PastKeys, WgPublicKey};

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
        index,
        endpoint: facts.endpoint.clone(),
        keys: [None, None],
        preferred: Lane::A,
        nat: facts.endpoint.is_none(),
    };
    mesh_with(state, Some(newcomer)).map(|_| ())
}

fn mesh_with(state: &State, newcomer: Option<Node>) -> Result<CheckedMesh, OpsError> {
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
            index: *index,
            addresses: addresses(policy, region, *index).map_err(|e| fault(e.to_string()))?,
            endpoint: member.facts.endpoint.clone(),
            keys: Lane::ALL.map(parsed),
            preferred: member.active(Slot::Wireguard).and_then(|k| k.lane).unwrap_or(Lane::A),
            nat: member.facts.endpoint.is_none(),
        });
    }
    let past = past_keys(state);
    CheckedMesh::new(Mesh { policy: policy.clone(), nodes }, &past).map_err(|e| fault(e.to_string()))
}

/// Checks that a new policy leaves the mesh whole: addresses that were given out do not move or vanish.
///
/// # Errors
/// [`OpsError::Mesh`], with what it would break.
pub fn check_policy(policy: &Policy, state: &State) -> Result<(), OpsError> {
    let mut after = state.clone();
    after.policy.policy = std::sync::Arc::new(policy.clone());
    // A mesh that is broken already must be mendable, step by step.
    if mesh(state).is_ok() { mesh(&after).map(|_| ()) } else { Ok(()) }
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

/// The WireGuard files of one PoP, or of every PoP below a directory of its name.
///
/// # Errors
/// [`OpsError`].
pub fn wireguard_files(
    only: Option<&MemberName>,
    options: RenderOptions,
    state: &State,
) -> Result<Vec<(String, Vec<u8>)>, OpsError> {
    let mesh = mesh(state)?;
    let renderer = Renderer::new(&mesh, options);
    let mut files = Vec::new();
    match only {
        Some(name) => files = renderer.node(name).map_err(|e| OpsError::Mesh(e.to_string()))?,
        None => {
            for node in mesh.nodes() {
                let own = renderer.node(&node.name).map_err(|e| OpsError::Mesh(e.to_string()))?;
                files.extend(own.into_iter().map(|(path, bytes)| (format!("{}/{path}", node.name), bytes)));
            }
        }
    }
    Ok(files)
}

/// The SSH files of one PoP, in the order in which they have to be written. The host's private key is taken to lie beside
/// them, unless `host_key_path` says otherwise.
///
/// # Errors
/// [`OpsError`].
pub fn node_files(
    pop: &MemberName,
    host_key_path: Option<&ConfigPath>,
    directory: &ConfigPath,
    fleet: &Fleet,
) -> Result<Vec<NodeFile>, OpsError> {
    let state = fleet.state();
    let ssh = |e: String| OpsError::Ssh(e);
    let member =
        state.active_member(pop).ok().filter(|m| m.kind == Kind::Pop).ok_or_else(|| OpsError::NoMember(pop.clone()))?;
    let host_key = member
        .active(Slot::SshHost)
        .and_then(|k| k.key.parse::<SshPublicKey>().ok())
        .ok_or_else(|| ssh(format!("{pop} has no active host key")))?;
    let places = Places { pop: pop.host_label(), domain: &state.fleet, member: pop };
    let cas = |slot| {
        let trusted = state.trusted_cas(slot, fleet.now());
        trusted.into_iter().filter_map(|key| key.parse::<CaLine>().ok()).collect::<BTreeSet<_>>()
    };
    let input = NodeInput {
        user_cas: cas(Slot::SshUserCa),
        host_cas: cas(Slot::SshHostCa),
        accounts: state.policy.policy.ssh.accounts_at(places).map_err(|e| ssh(e.to_string()))?,
        revoked_users: krl(state, CertificateKind::User)?,
        revoked_hosts: krl(state, CertificateKind::Host)?,
        host_patterns: host_patterns(state)?,
        host_key_path: match host_key_path {
            Some(path) => path.clone(),
            None => format!("{directory}/{}", NodeInput::host_key_file(&host_key))
                .parse()
                .map_err(|e: crate::ssh::WordError| ssh(e.to_string()))?,
        },
        host_certificate: host_certificate(pop, &host_key, fleet)?,
        host_key,
        directory: directory.clone(),
    };
    render(&input).map_err(|e| ssh(chain(&e)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text.push_str(&format!(": {e}"));
        source = e.source();
    }
    text
}

/// Every zone in which the host CAs speak: one pattern a PoP would grow with the fleet, the fleet's domain does not.
fn host_patterns(state: &State) -> Result<BTreeSet<HostPattern>, OpsError> {
    let pattern = format!("*.{0},{0}", state.fleet);
    Ok([pattern.parse().map_err(|e: crate::ssh::WordError| OpsError::Ssh(e.to_string()))?].into())
}

/// The newest certificate for a PoP's active host key that is signed and good.
fn host_certificate(pop: &MemberName, key: &SshPublicKey, fleet: &Fleet) -> Result<String, OpsError> {
    let (state, now) = (fleet.state(), fleet.now());
    let good = state.issued.iter().rev().filter(|(serial, issued)| {
        let fields = issued.certificate.fields();
        issued.member == *pop
            && fields.kind == CertificateKind::Host
            && fields.subject == *key
            && fields.valid_before > now
            && !state.revoked_serials.contains(*serial)
    });
    for (serial, _) in good {
        if let Some(certificate) = super::issued_certificate(*serial, fleet)? {
            return Ok(certificate.to_line());
        }
    }
    Err(OpsError::Ssh(format!(
        "{pop} has no valid certificate for its host key; run 'keys ssh sign host {pop}' where the authority is"
    )))
}

/// The revocation list that the log implies. Its version is the log's size: it grows with every list that differs.
///
/// # Errors
/// [`OpsError`].
fn krl(state: &State, kind: CertificateKind) -> Result<Vec<u8>, OpsError> {
    let ssh = |e: String| OpsError::Ssh(e);
    let mut list = Krl::new(state.size, state.time);
    let slot = match kind {
        CertificateKind::User => Slot::SshUserCa,
        CertificateKind::Host => Slot::SshHostCa,
    };
    // By CA, since a serial means something only together with who signed it.
    let mut by_ca: BTreeMap<SshPublicKey, BTreeSet<u64>> = BTreeMap::new();
    for serial in &state.revoked_serials {
        if let Some(issued) = state.issued.get(serial).filter(|i| i.certificate.fields().kind == kind) {
            by_ca.entry(issued.certificate.fields().ca.clone()).or_default().insert(*serial);
        }
    }
    for (ca, serials) in by_ca {
        for serial in serials.into_iter().filter_map(Serial::new) {
            list.revoke_serials(KrlScope::Ca(ca.clone()), serial, serial);
        }
    }
    for member in state.members.values() {
        for key in
            member.slots.get(&slot).into_iter().flat_map(|s| &s.keys).filter(|k| k.state == KeyState::Compromised)
        {
            list.revoke_key(key.key.parse().map_err(|e: crate::ssh::KeyError| ssh(e.to_string()))?);
        }
        for key in member
            .slots
            .get(&Slot::SshHost)
            .into_iter()
            .flat_map(|s| &s.keys)
            .filter(|k| k.state == KeyState::Compromised && kind == CertificateKind::Host)
        {
            list.revoke_key(key.key.parse().map_err(|e: crate::ssh::KeyError| ssh(e.to_string()))?);
        }
    }
    list.write(state.policy.policy.ssh.krl_bytes_max).map_err(|e| ssh(e.to_string()))
}
