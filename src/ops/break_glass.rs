//! Break-glass certificates: ordered and signed without the log, by as many of the policy's keys as it asks for.

use std::collections::{BTreeMap, BTreeSet};

use rand::CryptoRng;

use super::OpsError;
use super::ssh::BACKDATE;
use crate::cidr::AnyCidr;
use crate::fleet::Fleet;
use crate::login::{BreakGlass, BreakGlassOrder};
use crate::name::{Kind, Label, MemberName};
use crate::policy::ssh::{Places, expand_all};
use crate::ssh::{
    CaSigner, CertificateAuthority, CertificateBody, CertificateFields, CertificateKind, Nonce, Principal,
    SOURCE_ADDRESS, SshCertificate, SshPrivateKey, SshPublicKey, Staple, issue,
};
use crate::ssh_agent::{AgentCa, SshAgent};
use crate::state::State;
use crate::statement::Issue;
use crate::text::shown;
use crate::time::{Span, Time};

/// What somebody wants to be let in with.
#[derive(Debug, Clone)]
pub struct BreakGlassWish {
    /// Who.
    pub member: MemberName,
    /// With which key.
    pub key: SshPublicKey,
    /// The fingerprint of the break-glass key that will sign the certificate; the first one, if none is said.
    pub ca: Option<String>,
    /// As what; everything that the policy gives, if empty.
    pub principals: BTreeSet<String>,
    /// For how long; as long as the policy gives, if none is said.
    pub lifetime: Option<Span>,
    /// From where; anywhere, if empty.
    pub source_addresses: BTreeSet<AnyCidr>,
}

/// Writes an order for a break-glass certificate, and says what the policy asks.
///
/// # Errors
/// [`OpsError::Ssh`], if the policy names no such keys, or does not give that much.
pub fn order_break_glass(
    wish: &BreakGlassWish,
    fleet: &Fleet,
    now: Time,
    rng: &mut impl CryptoRng,
) -> Result<(BreakGlassOrder, BreakGlass), OpsError> {
    let state = fleet.state();
    let glass = everywhere(state)?;
    check_member(&wish.member, state)?;
    let key = |text: &String| text.parse::<SshPublicKey>().ok();
    let named = |key: &SshPublicKey| wish.ca.as_ref().is_none_or(|wanted| key.fingerprint() == *wanted);
    let Some(ca) = glass.keys.iter().filter_map(key).find(named) else {
        return Err(OpsError::Ssh(format!(
            "{} is none of the break-glass keys",
            shown(wish.ca.as_deref().unwrap_or_default())
        )));
    };
    if let Some(stranger) = wish.principals.iter().find(|p| !glass.principals.contains(*p)) {
        let known = glass.principals.iter().cloned().collect::<Vec<_>>().join(", ");
        let stranger = shown(stranger);
        return Err(OpsError::Ssh(format!("break-glass keys do not let in as '{stranger}'; they do as {known}")));
    }
    let principals = if wish.principals.is_empty() { &glass.principals } else { &wish.principals };
    let principals: Result<BTreeSet<Principal>, _> = principals.iter().map(|p| Principal::user(p)).collect();
    let from: Vec<String> = wish.source_addresses.iter().map(AnyCidr::to_string).collect();
    let critical_options =
        if from.is_empty() { BTreeMap::new() } else { [(SOURCE_ADDRESS.to_owned(), from.join(","))].into() };
    let lifetime = wish.lifetime.unwrap_or(Span(glass.lifetime)).min(Span(glass.lifetime));
    if lifetime.0 == 0 {
        return Err(OpsError::Ssh("a certificate that is good for no time lets nobody in".to_owned()));
    }
    let fields = CertificateFields {
        kind: CertificateKind::User,
        ca,
        subject: wish.key.clone(),
        key_id: format!("break-glass {}", wish.member).parse().map_err(|e: crate::ssh::WordError| failed(&e))?,
        principals: principals.map_err(|e| failed(&e))?,
        valid_after: now.minus(BACKDATE),
        valid_before: now.plus(lifetime),
        critical_options,
        extensions: glass.extensions.clone(),
        nonce: Nonce::random(rng),
    };
    let certificate = CertificateBody::new(fields).map_err(|e| failed(&e))?;
    let issue = Issue { certificate, member: wish.member.clone() };
    Ok((BreakGlassOrder::new(state.fleet.clone(), issue, rng), glass))
}

/// Whether the nodes would let in whoever has a certificate by this order, once enough have signed it; what the policy asks.
///
/// # Errors
/// [`OpsError::Ssh`], with the reason.
pub fn check_break_glass(order: &BreakGlassOrder, fleet: &Fleet, now: Time) -> Result<BreakGlass, OpsError> {
    let state = fleet.state();
    let glass = everywhere(state)?;
    if order.fleet != state.fleet {
        return Err(OpsError::Ssh(format!("the order is for the fleet {}", order.fleet)));
    }
    check_member(&order.issue.member, state)?;
    let fields = order.issue.certificate.fields();
    glass.check(fields).map_err(|e| failed(&e))?;
    if fields.valid_before <= now {
        return Err(OpsError::Ssh(format!("the order was good until {}; write a new one", fields.valid_before)));
    }
    Ok(glass)
}

/// Has the order's CA sign the certificate: the key in `private`, if it is given, else one that the agent has.
///
/// # Errors
/// [`OpsError::Ssh`].
pub fn issue_break_glass(
    order: &BreakGlassOrder,
    staple: &Staple,
    private: Option<&[u8]>,
    agent: Option<SshAgent>,
) -> Result<SshCertificate, OpsError> {
    let body = &order.issue.certificate;
    let wanted = &body.fields().ca;
    let ca: Box<dyn CertificateAuthority> = match (private, agent) {
        (Some(text), _) => {
            let text =
                std::str::from_utf8(text).map_err(|_| OpsError::Ssh("the CA key's file is not a text".to_owned()))?;
            let key = SshPrivateKey::from_openssh(text)
                .map_err(|e| OpsError::Ssh(format!("the CA key's file: {e}; ssh-add it, and leave --ca-key away")))?;
            Box::new(CaSigner::from(key))
        }
        (None, Some(agent)) => match AgentCa::find(&agent, wanted).map_err(|e| failed(&e))? {
            Some(found) => Box::new(found),
            None => return Err(OpsError::Ssh(format!("the ssh-agent does not have {}", wanted.fingerprint()))),
        },
        (None, None) => return Err(OpsError::Ssh("there is no ssh-agent; say --ca-key FILE".to_owned())),
    };
    issue(body, order.serial(), Some(staple), &*ca).map_err(|e| failed(&e))
}

/// What the policy says, for all PoPs together.
fn everywhere(state: &State) -> Result<BreakGlass, OpsError> {
    let none = || OpsError::Ssh("policy/ssh.toml names no keys under [ca.break-glass]".to_owned());
    let policy = state.policy.policy.ssh.break_glass.as_ref().ok_or_else(none)?;
    let pops = state.members.iter().filter(|(_, m)| m.is_active() && m.kind == Kind::Pop).map(|(name, _)| name);
    let mut principals = BTreeSet::new();
    for member in pops {
        let label: &Label = member.host_label();
        let places = Places { pop: label, domain: &state.fleet, member };
        let here = expand_all(&policy.principals, CertificateKind::User, places).map_err(|e| failed(&e))?;
        principals.extend(here.iter().map(ToString::to_string));
    }
    Ok(BreakGlass {
        keys: policy.keys.clone(),
        sign: policy.sign,
        lifetime: policy.lifetime.0,
        principals,
        extensions: policy.extensions.clone(),
    })
}

fn check_member(member: &MemberName, state: &State) -> Result<(), OpsError> {
    match state.active_member(member).map(|m| m.kind) {
        Ok(Kind::Operator) => Ok(()),
        _ => Err(OpsError::Ssh(format!("{member} is no operator of this fleet; break-glass keys let in nobody else"))),
    }
}

fn failed(error: &dyn std::fmt::Display) -> OpsError {
    OpsError::Ssh(error.to_string())
}
