//! Proofs for SSH certificates: stapled to them when they are signed, judged on the nodes by what is rendered here.

use std::collections::BTreeSet;

use super::OpsError;
use crate::fleet::{Fleet, FleetError};
use crate::log::note::VerifierKey;
use crate::login::{BreakGlass, Trust, TrustedKey, TrustedMember};
use crate::name::{Kind, MemberName, Slot};
use crate::openpgp::Fingerprint;
use crate::policy::Role;
use crate::ssh::{CertificateKind, Staple};
use crate::state::{Issued, KeyState, Member, State};
use crate::store::prove;
use crate::time::{Span, Time};

/// What the signing of a certificate has to wait for.
pub(super) enum Stapling {
    /// Nothing: the policy asks for no proof, or here it is.
    Ready(Option<Staple>),
    /// The cosigners: the head that has its entry is not published yet.
    Waits,
}

/// The proof that the log has decided the certificate with this serial, as far as the policy wants one in it.
pub(super) fn staple(serial: u64, issued: &Issued, fleet: &Fleet) -> Result<Stapling, OpsError> {
    let state = fleet.state();
    if !state.policy.policy.ssh.staple_proof || issued.certificate.fields().kind != CertificateKind::User {
        return Ok(Stapling::Ready(None));
    }
    let index = serial.saturating_sub(1);
    let published = fleet.published().filter(|p| p.is_signed && p.lacks().is_none() && p.checkpoint.size > index);
    let Some(published) = published else { return Ok(Stapling::Waits) };
    let (proof, entry) =
        prove(fleet.store(), &published.note, &published.checkpoint, index).map_err(FleetError::from)?;
    let staple = Staple::new(&state.fleet, &entry, &proof.to_bytes());
    let too_long = || OpsError::Ssh(format!("the proof for serial {serial} does not fit a certificate"));
    staple.map(|s| Stapling::Ready(Some(s))).ok_or_else(too_long)
}

/// What the PoP `pop` judges proofs by.
///
/// # Errors
/// [`OpsError`], if a certificate cannot be read.
pub(super) fn trust(pop: &MemberName, fleet: &mut Fleet) -> Result<Trust, OpsError> {
    let (state, now) = (fleet.state(), fleet.now());
    let mut trust = Trust::of(state, log_keys(state));
    trust.break_glass = BreakGlass::at(state, pop);
    let longest = trust.terms.values().map(|t| Span(t.lifetime)).max().unwrap_or_default();
    let may = |kind: Kind| matches!(kind, Kind::Operator | Kind::Authority) || trust.terms.contains_key(&kind);
    let mut found: Vec<(MemberName, TrustedMember, Vec<Signing>)> = Vec::new();
    for (name, member) in state.members.iter().filter(|(_, m)| m.is_active() && may(m.kind)) {
        let mut roles = BTreeSet::new();
        if member.kind == Kind::Operator {
            roles.insert(Role::Operator);
        }
        if member.kind == Kind::Operator && state.policy.policy.fleet.root.contains(name) {
            roles.insert(Role::Root);
        }
        let principals = TrustedMember::principals_at(state, name, pop);
        let known = TrustedMember { kind: member.kind, roles, keys: Vec::new(), principals };
        found.push((name.clone(), known, signing_keys(member, now, longest)));
    }
    for (name, mut member, keys) in found {
        if member.kind == Kind::Authority && fleet.check_vouched(&name).is_ok() {
            member.roles.insert(Role::Authority);
        }
        for Signing { key, until } in keys {
            let certificate = match until {
                None => Some(fleet.certificate(&name)?),
                Some(_) => fleet.signing_certificate(&key)?,
            };
            let fingerprint = Fingerprint::from_hex(&key).ok();
            let public = certificate.as_ref().zip(fingerprint).and_then(|(c, f)| c.key(&f).cloned());
            member.keys.extend(public.map(|key| TrustedKey { key, until }));
        }
        trust.members.insert(name, member);
    }
    Ok(trust)
}

struct Signing {
    key: String,
    until: Option<Time>,
}

/// The keys with which a member signs or will sign statements, and those replaced so lately that a certificate which they
/// signed for can still be good.
fn signing_keys(member: &Member, now: Time, lifetime: Span) -> Vec<Signing> {
    let keys = member.slot(Slot::Sign).into_iter().flat_map(|s| &s.keys);
    let counts = keys.filter_map(|key| match key.state {
        KeyState::Active | KeyState::PreActive => Some(Signing { key: key.key.clone(), until: None }),
        KeyState::Deactivated | KeyState::Destroyed => {
            let until = key.ended.filter(|ended| ended.plus(lifetime) > now)?;
            Some(Signing { key: key.key.clone(), until: Some(until) })
        }
        KeyState::Compromised => None,
    });
    counts.collect()
}

/// The keys that may have signed a head of the log: also those of the past, but none in wrong hands.
fn log_keys(state: &State) -> Vec<VerifierKey> {
    let honest = state.members.values().filter(|m| m.retired.is_none_or(|(_, why)| !why.burns()));
    let keys = honest.filter_map(|m| m.slot(Slot::Log)).flat_map(|s| &s.keys);
    let keys = keys.filter(|k| k.state != KeyState::Compromised && k.state != KeyState::PreActive);
    keys.filter_map(|k| VerifierKey::parse(&k.key).ok()).collect()
}
