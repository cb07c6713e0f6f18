//! What nodes install for SSH, from the log alone. No private key is in any of it.

use std::collections::BTreeSet;

use super::OpsError;
use super::krl::{krl, krl_bytes};
use crate::fleet::Fleet;
use crate::name::{Kind, MemberName, Slot};
use crate::policy::ssh::Places;
use crate::ssh::doctor::Wanted;
use crate::ssh::{
    CaLine, CertificateKind, ConfigPath, HostPattern, Login, NodeFile, NodeInput, ProofInput, SshPublicKey, render,
};
use crate::state::State;
use crate::time::Time;

/// Where things lie on a node.
#[derive(Debug, Clone)]
pub struct NodePaths {
    /// The files that are rendered.
    pub directory: ConfigPath,
    /// The host's private key; beside the files, unless this says otherwise.
    pub host_key: Option<ConfigPath>,
    /// The program `keys`, where `sshd` is to ask it.
    pub program: ConfigPath,
    /// The account that `sshd` runs it as.
    pub user: Login,
}

/// The SSH files of one PoP, in the order in which they have to be written.
///
/// # Errors
/// [`OpsError`].
pub fn node_files(pop: &MemberName, paths: &NodePaths, fleet: &mut Fleet) -> Result<Vec<NodeFile>, OpsError> {
    let ssh = |e: String| OpsError::Ssh(e);
    let proof = match fleet.state().policy.policy.ssh.require_proof {
        false => None,
        true => Some(ProofInput {
            trust: super::login::trust(pop, fleet)?.to_bytes(),
            program: paths.program.clone(),
            user: paths.user.clone(),
        }),
    };
    let state = fleet.state();
    let member =
        state.active_member(pop).ok().filter(|m| m.kind == Kind::Pop).ok_or_else(|| OpsError::NoMember(pop.clone()))?;
    let host_key = member
        .active(Slot::SshHost)
        .and_then(|k| k.key.parse::<SshPublicKey>().ok())
        .ok_or_else(|| ssh(format!("{pop} has no active host key")))?;
    let places = Places { pop: pop.host_label(), domain: &state.fleet, member: pop };
    let directory = &paths.directory;
    let input = NodeInput {
        user_cas: cas(Slot::SshUserCa, state, fleet.now()),
        host_cas: cas(Slot::SshHostCa, state, fleet.now()),
        accounts: state.policy.policy.ssh.accounts_at(places).map_err(|e| ssh(e.to_string()))?,
        revoked_users: krl_bytes(CertificateKind::User, state)?,
        revoked_hosts: krl_bytes(CertificateKind::Host, state)?,
        host_patterns: host_patterns(state)?,
        host_key_path: match &paths.host_key {
            Some(path) => path.clone(),
            None => format!("{directory}/{}", NodeInput::host_key_file(&host_key))
                .parse()
                .map_err(|e: crate::ssh::WordError| ssh(e.to_string()))?,
        },
        host_certificate: host_certificate(pop, &host_key, fleet)?,
        host_key,
        directory: directory.clone(),
        proof,
    };
    render(&input).map_err(|e| ssh(chain(&e)))
}

/// What the log says that SSH on a node goes by; with the node's own names, if it is said which it is.
///
/// # Errors
/// [`OpsError`].
pub fn wanted_of_ssh(node: Option<&MemberName>, fleet: &Fleet) -> Result<Wanted, OpsError> {
    let (state, now) = (fleet.state(), fleet.now());
    let names = node.map(|pop| state.ssh_terms(pop, CertificateKind::Host).map_err(OpsError::Ssh)).transpose()?;
    let accounts = |pop: &MemberName| {
        let places = Places { pop: pop.host_label(), domain: &state.fleet, member: pop };
        state.policy.policy.ssh.accounts_at(places).map_err(|e| OpsError::Ssh(e.to_string()))
    };
    Ok(Wanted {
        accounts: node.map(accounts).transpose()?,
        require_proof: state.policy.policy.ssh.require_proof,
        revoked_users: krl(CertificateKind::User, state)?,
        revoked_hosts: krl(CertificateKind::Host, state)?,
        user_cas: cas(Slot::SshUserCa, state, now),
        host_cas: cas(Slot::SshHostCa, state, now),
        host_names: names.into_iter().flat_map(|t| t.principals).map(|p| p.to_string()).collect(),
    })
}

/// The CAs that are trusted for a slot.
fn cas(slot: Slot, state: &State, now: Time) -> BTreeSet<CaLine> {
    state.trusted_cas(slot, now).into_iter().filter_map(|key| key.parse::<CaLine>().ok()).collect()
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
