//! Issuing SSH certificates: first the statement, then the signature.
//!
//! The log decides what is signed; [`issue_pending`] then signs whatever the log has decided and nobody has signed yet,
//! so an issuance that was interrupted between the two is finished by whoever runs next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::CryptoRng;

use super::OpsError;
use super::login::{Stapling, staple};
use crate::disk::Created;
use crate::fleet::{Draft, Fleet};
use crate::home::{Home, HomeError};
use crate::limits::KEY_FILE_BYTES_MAX;
use crate::name::{Glob, Kind, MemberName, Slot};
use crate::ssh::{
    CaSigner, CertificateAuthority, CertificateBody, CertificateError, CertificateFields, CertificateKind, Issuer,
    KeyId, Nonce, Order, Principal, Serial, SshCertificate, SshPrivateKey, SshPublicKey,
};
use crate::ssh_agent::AgentCa;
use crate::state::{Issued, KeyState, Member, State};
use crate::statement::{Act, Issue};
use crate::store::issued_path;
use crate::time::{Span, Time};

/// How far before the present a certificate begins, for hosts whose clock is behind.
pub(super) const BACKDATE: Span = Span(300);

/// SSH certificates to be decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IssuePlan {
    /// One statement each.
    pub issues: Vec<Issue>,
    /// For people's keys: the serials of certificates that are good for a while yet, so that none is needed.
    pub good: BTreeSet<u64>,
}

impl IssuePlan {
    /// The statements.
    pub fn drafts(&self, reason: &str) -> Vec<Draft> {
        self.issues.iter().map(|issue| Draft::bare(Act::SshIssue(issue.clone()), reason)).collect()
    }
}

/// Plans certificates for the host keys, active and standby, of every PoP that matches: those that have none, or one
/// past its renewal; all of them if `again`.
///
/// # Errors
/// [`OpsError`].
pub fn plan_host(
    pattern: Option<&Glob>,
    again: bool,
    fleet: &Fleet,
    rng: &mut impl CryptoRng,
) -> Result<IssuePlan, OpsError> {
    let (state, now) = (fleet.state(), fleet.now());
    let mut plan = IssuePlan::default();
    let matches = |n: &MemberName| pattern.is_none_or(|p| p.matches(&n.to_string()));
    let pops: Vec<(&MemberName, &Arc<Member>)> =
        state.members.iter().filter(|(n, m)| m.is_active() && m.kind == Kind::Pop && matches(n)).collect();
    if let (Some(pattern), true) = (pattern, pops.is_empty()) {
        return Err(OpsError::NoMatch(pattern.to_string()));
    }
    for (name, member) in pops {
        // Asked for a certain PoP we say that the policy gives it none; among all of them it is just not meant.
        if pattern.is_none() && state.policy.policy.ssh.host_rule(name).is_none() {
            continue;
        }
        let terms = state.ssh_terms(name, CertificateKind::Host).map_err(OpsError::Ssh)?;
        let ca = active_ca(state, Slot::SshHostCa)?;
        let renew_after = state.policy.policy.ssh.host_rule(name).map_or(Span(0), |r| r.renew_after(name));
        for key in member.slot(Slot::SshHost).into_iter().flat_map(crate::state::SlotKeys::usable) {
            let subject = parse_key(&key.key)?;
            let current = current_host_certificate(state, &state.revoked_serials, name, &subject, &ca, now);
            if !again && current.is_some_and(|after| now.since(after) < renew_after) {
                continue;
            }
            let key_id = key_id(&format!("host {name}"))?;
            let fields = CertificateFields {
                kind: CertificateKind::Host,
                ca: ca.clone(),
                subject,
                key_id,
                principals: terms.principals.clone(),
                valid_after: now.minus(BACKDATE),
                valid_before: now.plus(terms.lifetime),
                critical_options: terms.critical_options.clone(),
                extensions: BTreeSet::new(),
                nonce: Nonce::random(rng),
            };
            plan.issues.push(Issue {
                certificate: CertificateBody::new(fields).map_err(|e| OpsError::Ssh(e.to_string()))?,
                member: name.clone(),
            });
        }
    }
    Ok(plan)
}

/// Plans a certificate for a person's key: the principals that the policy gives (`only` picks some), for at most the
/// policy's lifetime. If there is one that is good for a while yet, none is planned unless `again`.
///
/// # Errors
/// [`OpsError`].
pub fn plan_user(
    member: &MemberName,
    key: &SshPublicKey,
    only: &BTreeSet<Principal>,
    lifetime: Option<Span>,
    again: bool,
    fleet: &Fleet,
    rng: &mut impl CryptoRng,
) -> Result<IssuePlan, OpsError> {
    let (state, now) = (fleet.state(), fleet.now());
    let terms = state.ssh_terms(member, CertificateKind::User).map_err(OpsError::Ssh)?;
    if let Some(stranger) = only.iter().find(|p| !terms.principals.contains(*p)) {
        let known = terms.principals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(OpsError::Ssh(format!(
            "policy/ssh.toml does not give {member} the principal '{stranger}'; it gives {known}"
        )));
    }
    let ca = active_ca(state, Slot::SshUserCa)?;
    let principals = if only.is_empty() { terms.principals } else { only.clone() };
    let lifetime = lifetime.unwrap_or(terms.lifetime).min(terms.lifetime);
    // Asked again while the approval is on its way, or just after: what there is will do.
    let good = state.issued.iter().rev().find(|(serial, issued)| {
        let f = issued.certificate.fields();
        let same = f.kind == CertificateKind::User && f.subject == *key && f.ca == ca && f.principals == principals;
        same && issued.member == *member
            && !state.revoked_serials.contains(*serial)
            && f.valid_before.since(now).0 > lifetime.0 / 2
    });
    if let (Some((serial, _)), false) = (good, again) {
        return Ok(IssuePlan { issues: Vec::new(), good: [*serial].into() });
    }
    let fields = CertificateFields {
        kind: CertificateKind::User,
        ca,
        subject: key.clone(),
        key_id: key_id(&format!("user {member}"))?,
        principals,
        valid_after: now.minus(BACKDATE),
        valid_before: now.plus(lifetime),
        critical_options: terms.critical_options,
        extensions: terms.extensions,
        nonce: Nonce::random(rng),
    };
    let certificate = CertificateBody::new(fields).map_err(|e| OpsError::Ssh(e.to_string()))?;
    Ok(IssuePlan { issues: vec![Issue { certificate, member: member.clone() }], good: BTreeSet::new() })
}

/// PoPs whose active host key has no SSH certificate that is good at `now`, though the policy gives it one.
pub fn uncertified_hosts(state: &State, now: Time) -> Vec<MemberName> {
    uncertified_without(&state.revoked_serials, state, now)
}

/// The same, if these serials were the revoked ones.
pub(super) fn uncertified_without(revoked: &BTreeSet<u64>, state: &State, now: Time) -> Vec<MemberName> {
    let pops = state
        .members
        .iter()
        .filter(|(n, m)| m.is_active() && m.kind == Kind::Pop && state.policy.policy.ssh.host_rule(n).is_some());
    let lacks = |name: &MemberName, member: &Member| {
        let active = member.active(Slot::SshHost)?.key.parse::<SshPublicKey>().ok()?;
        let ca = active_ca(state, Slot::SshHostCa).ok()?;
        Some(current_host_certificate(state, revoked, name, &active, &ca, now).is_none())
    };
    pops.filter(|(n, m)| lacks(n, m).unwrap_or(false)).map(|(n, _)| n.clone()).collect()
}

/// When the newest certificate for a host key by the CA that is active now began, if it is still good.
fn current_host_certificate(
    state: &State,
    revoked: &BTreeSet<u64>,
    name: &MemberName,
    subject: &SshPublicKey,
    ca: &SshPublicKey,
    now: Time,
) -> Option<Time> {
    let of_key = state
        .issued
        .iter()
        .filter(|(serial, i)| i.member == *name && !revoked.contains(*serial))
        .map(|(_, i)| i.certificate.fields());
    of_key.filter(|f| f.subject == *subject && f.ca == *ca && f.valid_before > now).map(|f| f.valid_after).max()
}

fn active_ca(state: &State, slot: Slot) -> Result<SshPublicKey, OpsError> {
    let keys = state.authority_keys(slot);
    let active = keys.iter().find(|(_, k)| k.state == KeyState::Active);
    active
        .map(|(_, k)| parse_key(&k.key))
        .unwrap_or_else(|| Err(OpsError::Ssh(format!("the fleet has no active {slot} key"))))
}

fn parse_key(text: &str) -> Result<SshPublicKey, OpsError> {
    text.parse().map_err(|e: crate::ssh::KeyError| OpsError::Ssh(e.to_string()))
}

fn key_id(text: &str) -> Result<KeyId, OpsError> {
    text.parse().map_err(|e: crate::ssh::WordError| OpsError::Ssh(e.to_string()))
}

/// Certificates that are signed and written before the next ones are looked at.
const AT_A_TIME: usize = 1024;

/// Signs every certificate that the log has decided, that is still of use, whose CA key is in this home and that nobody
/// has signed yet. Where the policy wants the proof in it, it waits until the head with its entry is published. Gives the serials and the certificates that are there now.
///
/// # Errors
/// [`OpsError`].
pub fn issue_pending(home: &Home, fleet: &Fleet) -> Result<Vec<(u64, SshCertificate)>, OpsError> {
    let (state, disk) = (fleet.state(), fleet.store().disk());
    let now = fleet.now();
    let mut wanted: BTreeMap<(CertificateKind, &SshPublicKey), Vec<(Serial, &Issued)>> = BTreeMap::new();
    for (&number, issued) in &state.issued {
        let fields = issued.certificate.fields();
        let Some(serial) = Serial::new(number) else { continue };
        if state.revoked_serials.contains(&number) || fields.valid_before <= now {
            continue;
        }
        if disk.read(&issued_path(number), KEY_FILE_BYTES_MAX).map_err(crate::fleet::FleetError::from)?.is_none() {
            wanted.entry((fields.kind, &fields.ca)).or_default().push((serial, issued));
        }
    }
    let mut signed = Vec::new();
    for ((kind, key), wanted) in wanted {
        let Some(ca) = ca_signer(kind, key, home, state)? else { continue };
        let issuer = Issuer::new(&*ca.signs, wanted.len());
        for wanted in wanted.chunks(AT_A_TIME) {
            for (serial, certificate) in sign_some(wanted, &issuer, ca.at_once, fleet)? {
                let line = format!("{}\n", certificate.to_line());
                let path = issued_path(serial);
                let _: Created = disk.create(&path, line.as_bytes()).map_err(crate::fleet::FleetError::from)?;
                signed.push((serial, certificate));
            }
        }
    }
    signed.sort_by_key(|(serial, _)| *serial);
    Ok(signed)
}

/// Those of `wanted` that need not wait, signed by `at_once` threads.
fn sign_some(
    wanted: &[(Serial, &Issued)],
    issuer: &Issuer<'_, Signs>,
    at_once: usize,
    fleet: &Fleet,
) -> Result<Vec<(u64, SshCertificate)>, OpsError> {
    let mut ready = Vec::new();
    for (serial, issued) in wanted {
        // Without its proof a certificate would have to be signed twice, and there is one of each serial.
        if let Stapling::Ready(staple) = staple(serial.number(), issued, fleet)? {
            ready.push((*serial, &issued.certificate, staple));
        }
    }
    let orders: Vec<Order<'_>> =
        ready.iter().map(|(serial, body, staple)| Order { body, serial: *serial, staple: staple.as_ref() }).collect();
    let certificates = issue_all(issuer, &orders, at_once);
    let pairs = orders.iter().zip(certificates);
    pairs.map(|(o, made)| Ok((o.serial.number(), made.map_err(|e| OpsError::Ssh(e.to_string()))?))).collect()
}

/// Has an issuer sign `orders` by `at_once` threads, and gives the certificates in their order.
pub fn issue_all<C: CertificateAuthority + Sync + ?Sized>(
    issuer: &Issuer<'_, C>,
    orders: &[Order<'_>],
    at_once: usize,
) -> Vec<Result<SshCertificate, CertificateError>> {
    let each = orders.len().div_ceil(at_once.max(1)).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = orders.chunks(each).map(|part| scope.spawn(|| issuer.issue(part))).collect();
        let join = |part: std::thread::ScopedJoinHandle<'_, _>| part.join().expect("issuing does not panic");
        parts.into_iter().flat_map(join).collect()
    })
}

/// The SSH certificate with this serial, if it is signed yet.
///
/// # Errors
/// [`OpsError`].
pub fn issued_certificate(serial: u64, fleet: &Fleet) -> Result<Option<SshCertificate>, OpsError> {
    let disk = fleet.store().disk();
    let bytes = disk.read(&issued_path(serial), KEY_FILE_BYTES_MAX).map_err(crate::fleet::FleetError::from)?;
    let Some(line) = bytes.and_then(|b| String::from_utf8(b).ok()) else { return Ok(None) };
    SshCertificate::parse(line.trim_end()).map(Some).map_err(|e| OpsError::Ssh(e.to_string()))
}

type Signs = dyn CertificateAuthority + Sync;

/// A CA that can be asked to sign.
struct Ca {
    signs: Box<Signs>,
    /// By how many threads. An agent is asked for one signature at a time: somebody may have to touch a token.
    at_once: usize,
}

/// Who signs for this CA key, if its private half is in this home or in the agent that it knows.
fn ca_signer(kind: CertificateKind, ca: &SshPublicKey, home: &Home, state: &State) -> Result<Option<Ca>, OpsError> {
    let slot = match kind {
        CertificateKind::Host => Slot::SshHostCa,
        CertificateKind::User => Slot::SshUserCa,
    };
    let public = ca.to_string();
    for (name, _) in state.authority_keys(slot).into_iter().filter(|(_, k)| k.key == public) {
        match home.key(name, slot, &public) {
            Ok(text) => {
                let key = SshPrivateKey::from_openssh(&text).map_err(|e| OpsError::Ssh(e.to_string()))?;
                let at_once = std::thread::available_parallelism().map_or(1, usize::from);
                return Ok(Some(Ca { signs: Box::new(CaSigner::from(key)), at_once }));
            }
            // The authority itself has to be here: whose agent happens to have the key is not yet the CA.
            Err(HomeError::NoKey { .. }) if home.members()?.contains(name) => {
                let Some(agent) = home.ssh_agent() else { continue };
                // One that is not there, or has other keys, is as good as none.
                if let Ok(Some(found)) = AgentCa::find(&agent, ca) {
                    return Ok(Some(Ca { signs: Box::new(found), at_once: 1 }));
                }
            }
            Err(HomeError::NoKey { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(None)
}
