//! Who can act from a home: its signers, and the log's key.

use super::OpsError;
use crate::fleet::{Draft, Fleet, Placed, Sequencer, Signer};
use crate::gpg_agent::{Agent, AgentSigner};
use crate::home::{Home, HomeError};
use crate::log::note::SignerKey;
use crate::name::{Kind, MemberName, Slot};
use crate::openpgp::{Certificate, Fingerprint};

/// A signing key of `member`: from its certificate in the home, or behind the gpg-agent that the home names.
pub(super) fn signing_key(
    home: &Home,
    member: &MemberName,
    certificate: &Certificate,
    fingerprint: &Fingerprint,
) -> Result<Option<Box<dyn sequoia_openpgp::crypto::Signer + Send + Sync>>, OpsError> {
    if let Some(pair) = home.key_pair(member, fingerprint)? {
        return Ok(Some(Box::new(pair)));
    }
    let Some(socket) = home.agent(member)? else { return Ok(None) };
    let Some(key) = certificate.key(fingerprint) else { return Ok(None) };
    let problem = |e: crate::gpg_agent::AgentError| OpsError::Impossible(format!("gpg-agent, for {member}: {e}"));
    let agent = Agent::connect(std::path::Path::new(&socket)).map_err(problem)?;
    let signer = AgentSigner::new(agent, key).map_err(problem)?;
    Ok(Some(Box::new(signer)))
}

/// Everybody in `home` who can sign statements of this fleet: operators, then authorities, then PoPs. `only` picks one.
///
/// # Errors
/// [`OpsError`]; also if `only` is not here.
pub fn signers(home: &Home, fleet: &mut Fleet, only: Option<&MemberName>) -> Result<Vec<Signer>, OpsError> {
    home.check_confirmed()?;
    let mut found: Vec<(Kind, Signer)> = Vec::new();
    for member in home.members()? {
        let Some(state) = fleet.state().members.get(&member).filter(|m| m.is_active()) else { continue };
        let (kind, key) = (state.kind, state.active(Slot::Sign).map(|k| k.key.clone()));
        if only.is_some_and(|o| *o != member) {
            continue;
        }
        let Some(fingerprint) = key.and_then(|k| Fingerprint::from_hex(&k).ok()) else { continue };
        let certificate = fleet.certificate(&member)?;
        if let Some(key) = signing_key(home, &member, &certificate, &fingerprint)? {
            found.push((kind, Signer { member, key }));
        }
    }
    if let (Some(only), true) = (only, found.is_empty()) {
        return Err(OpsError::KeyElsewhere { member: only.clone(), slot: Slot::Sign });
    }
    found.sort_by_key(|(kind, signer)| (*kind, signer.member.clone()));
    Ok(found.into_iter().map(|(_, signer)| signer).collect())
}

/// The log's private key, if an authority in this home has it, with the standby that may follow it. Where the active one is
/// lost and the standby is here, that one: it can log the entry by which it takes over, and nothing before.
///
/// # Errors
/// [`OpsError`].
pub fn sequencer(home: &Home, fleet: &Fleet) -> Result<Option<Sequencer>, OpsError> {
    let mut heir = None;
    for member in home.members()? {
        let state = fleet.logged_state().members.get(&member).filter(|m| m.is_active());
        let Some(keys) = state.and_then(|m| m.slot(Slot::Log)) else { continue };
        let active = keys.active().map(|k| log_key(home, &member, &k.key)).transpose()?.flatten();
        let next = keys.standbys().next().map(|k| log_key(home, &member, &k.key)).transpose()?.flatten();
        match (active, next) {
            (Some(key), next) => return Ok(Some(Sequencer::from(key).with_next(next))),
            (None, Some(next)) => heir = heir.or(Some(Sequencer::from(next))),
            (None, None) => {}
        }
    }
    Ok(heir)
}

/// A log key of `member` by its public half, if it is in the home.
fn log_key(home: &Home, member: &MemberName, public: &str) -> Result<Option<SignerKey>, OpsError> {
    match home.key(member, Slot::Log, public) {
        Ok(text) => {
            home.check_confirmed()?;
            let key = SignerKey::from_private_text(&text);
            key.map(Some).map_err(|e| OpsError::Impossible(format!("the log key of {member} {e}")))
        }
        Err(HomeError::NoKey { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Signs and places drafts with whatever this home can do. The caller holds the keyring's lock and has prepared the
/// fleet.
///
/// # Errors
/// [`OpsError`].
pub fn carry_out(
    home: &Home,
    fleet: &mut Fleet,
    drafts: Vec<Draft>,
    only: Option<&MemberName>,
) -> Result<Vec<Placed>, OpsError> {
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let mut signers = signers(home, fleet, only)?;
    if signers.is_empty() {
        return Err(OpsError::NoActor("member of this fleet who can sign statements"));
    }
    let sequencer = sequencer(home, fleet)?;
    Ok(fleet.change(drafts, &mut signers, sequencer.as_ref())?)
}
