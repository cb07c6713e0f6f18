//! What nodes install for SSH, from the log alone. No private key is in any of it.

use std::collections::BTreeSet;

use super::OpsError;
use super::krl::krl_bytes;
use crate::fleet::Fleet;
use crate::name::{Kind, MemberName, Slot};
use crate::policy::ssh::Places;
use crate::ssh::{
    CaLine, CertificateKind, ConfigPath, HostPattern, Login, NodeFile, NodeInput, ProofInput, SshPublicKey, render,
};
use crate::state::State;

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
    let cas = |slot| {
        let trusted = state.trusted_cas(slot, fleet.now());
        trusted.into_iter().filter_map(|key| key.parse::<CaLine>().ok()).collect::<BTreeSet<_>>()
    };
    let directory = &paths.directory;
    let input = NodeInput {
        user_cas: cas(Slot::SshUserCa),
        host_cas: cas(Slot::SshHostCa),
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
