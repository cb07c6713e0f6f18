//! Joining: a machine, or a person, makes its keys where they will be used and asks to be admitted.

use std::collections::BTreeSet;

use rand::CryptoRng;

use super::OpsError;
use super::act::signing_key;
use crate::digest::Digest;
use crate::enrolment::{Fresh, Setting, sign_request, sign_with_token};
use crate::fleet::Fleet;
use crate::home::{Home, HomeError};
use crate::name::{FleetName, Kind, Label, MemberName, Slot};
use crate::openpgp::{self, Certificate, Fingerprint, Grant, Profile, certify, seal};
use crate::state::{Admission, Agreed, Asked, Decision, Void};
use crate::statement::{Facts, Machine, Presented, Request, RequestedKey, RequestedMember, Token};
use crate::time::{Span, Time};
use crate::wireguard::Endpoint;

/// The lifetime of an operator's certificate that is made before there is a policy to say so.
pub(super) const OPERATOR_VALIDITY: Span = Span::days(1095);

/// Who wants to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// The machine or person; for services alone: their PoP, which is a member already.
    pub member: MemberName,
    /// What it is.
    pub kind: Kind,
    /// Services on it.
    pub services: Vec<Label>,
    /// What the network has to know about it.
    pub facts: Facts,
    /// The OpenPGP user id, for an operator.
    pub user_id: Option<String>,
}

/// Makes keys in `home` and the request that asks for admission.
///
/// Effects in order: private halves in the home, then the request beside them. Run again it gives the same request; if it
/// was interrupted before there was one, it begins anew, since nobody has seen those keys.
///
/// # Errors
/// [`OpsError`].
pub fn ask(joining: &Joining, home: &Home, fleet: &mut Fleet, rng: &mut impl CryptoRng) -> Result<Vec<u8>, OpsError> {
    ask_with(joining, None, home, fleet, rng)
}

/// What a machine has been given to join with, and what it says of itself.
#[derive(Debug)]
pub struct Ticket {
    /// The invitation's token.
    pub token: Token,
    /// What the machine is told apart by.
    pub machine: Machine,
    /// Where it is reached, if the invitation does not say.
    pub endpoint: Option<Endpoint>,
}

/// Asks to be admitted by an invitation: as what, the invitation says, which has to be in the log. Otherwise like [`ask`];
/// run again with another token it asks with that, and with the keys that there are.
///
/// # Errors
/// [`OpsError::Refused`], if nothing can come of the request; no key is made then.
pub fn ask_by_invitation(
    member: &MemberName,
    ticket: &Ticket,
    home: &Home,
    fleet: &mut Fleet,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, OpsError> {
    let (state, key) = (fleet.state(), ticket.token.key());
    let refused = |admission, why: &str| OpsError::Refused {
        member: member.clone(),
        decision: Decision { admission, why: why.to_owned() },
    };
    let found = state.invitations.iter().find(|(_, i)| i.invited.token == key);
    let Some((name, found)) = found else {
        let why = "the log has no invitation with this token: it was withdrawn, replaced, or is not logged yet";
        return Err(refused(Admission::UnknownInvitation, why));
    };
    if name != member {
        return Err(refused(Admission::WrongMember, &format!("the token is for {name}")));
    }
    let mut facts = found.invited.facts.clone();
    facts.endpoint = facts.endpoint.or_else(|| ticket.endpoint.clone());
    let services = found.invited.services.iter().cloned().collect();
    let joining = Joining { member: member.clone(), kind: Kind::Pop, services, facts, user_id: None };
    let own = home.secret_certificate(member)?.map(|cert| cert.fingerprint());
    if state.members.get(member).is_some_and(|m| m.is_active() && Some(&m.fingerprint) == own.as_ref()) {
        return Err(OpsError::Present(member.clone()));
    }
    // Keys are made for a request that can be granted.
    let at = fleet.now();
    for (bad, admission, why) in [
        (found.withdrawn.is_some(), Admission::UnknownInvitation, "the invitation was withdrawn"),
        (at > found.invited.not_after, Admission::Expired, "the invitation's window is over"),
        (found.used.is_some(), Admission::TokenReused, "a machine has joined by this token already"),
    ] {
        if bad {
            return Err(refused(admission, why));
        }
    }
    let request = ask_with(&joining, Some(ticket), home, fleet, rng)?;
    let asked = Asked::parse(&request).map_err(|e| OpsError::Request(e.to_string()))?;
    let decision = fleet.state().admission(&asked, fleet.now(), Agreed::ByInvitation);
    match decision.admission {
        Admission::Ok | Admission::PendingApproval | Admission::NotYetValid => Ok(request),
        _ => Err(OpsError::Refused { member: member.clone(), decision }),
    }
}

fn ask_with(
    joining: &Joining,
    ticket: Option<&Ticket>,
    home: &Home,
    fleet: &mut Fleet,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, OpsError> {
    home.settle()?;
    let owner = &joining.member;
    let state = fleet.state();
    let setting = Shared::of(fleet);
    // Where another machine is invited in the place of this member, the member is no obstacle.
    let replaced = ticket.and_then(|_| state.invitations.get(owner)?.invited.replaces.clone());
    let is_there = |m: &crate::state::Member| m.is_active() && replaced != Some(m.fingerprint.to_hex());
    let member_already = state.members.get(owner).is_some_and(|m| is_there(m));
    let services: Vec<MemberName> =
        joining.services.iter().map(|s| MemberName::service(s.clone(), owner.host_label().clone())).collect();
    let is_taken = |s: &&MemberName| state.members.get(*s).is_some_and(|m| m.is_active());
    if let Some(there) = services.iter().find(is_taken).filter(|_| replaced.is_none()) {
        return Err(present(there, home)?);
    }
    if member_already && services.is_empty() {
        return Err(present(owner, home)?);
    }
    let wanted: BTreeSet<&MemberName> = (!member_already).then_some(owner).into_iter().chain(&services).collect();
    fleet.state().check_protection(owner, joining.kind, home.protection())?;
    if let Some(request) = waiting_request(&wanted, home, fleet)? {
        let request = with_ticket(request, owner, ticket, home, fleet)?;
        home.set_pin(&fleet.pin())?;
        return Ok(request);
    }
    let certificates = fleet.state().policy.policy.fleet.certificates;
    let mut requested = Vec::new();
    let readers = recovery_keys(fleet)?;
    let readers: Vec<(&Certificate, &str)> = readers.iter().map(|(c, k)| (c.as_ref(), k.as_str())).collect();
    let envelope = Envelope { fleet: &setting.fleet, log: &setting.log, profile: setting.profile, now: setting.now };
    if !member_already {
        home.forget(owner)?;
        let fresh = match (joining.kind, &joining.user_id) {
            (Kind::Operator, Some(user_id)) => make_operator(owner, user_id, home, &setting.setting())?,
            (kind, _) => {
                let fresh = Fresh::generate(owner, kind, certificates.of(kind), &setting.setting(), rng)?;
                keep(home, &fresh)?;
                fresh
            }
        };
        let own =
            Certificate::of(&fresh.cert).map_err(|problem| OpsError::Certificate { member: owner.clone(), problem })?;
        requested.push(fresh.requested(&own, joining.facts.clone(), envelope.seal_revocation(&fresh, &readers)?));
    }
    let owner_certificate = match requested.first() {
        Some(first) => Certificate::parse(&first.cert)
            .map_err(|problem| OpsError::Certificate { member: owner.clone(), problem })?,
        None => Certificate::clone(fleet.certificate(owner)?.as_ref()),
    };
    let elsewhere = || OpsError::KeyElsewhere { member: owner.clone(), slot: Slot::Sign };
    let validity = fleet.state().policy.policy.fleet.certifications.service;
    for service in &services {
        home.forget(service)?;
        let fresh = Fresh::generate(service, Kind::Service, certificates.service, &setting.setting(), rng)?;
        keep(home, &fresh)?;
        let own = Certificate::of(&fresh.cert)
            .map_err(|problem| OpsError::Certificate { member: service.clone(), problem })?;
        let mut primary =
            signing_key(home, owner, &owner_certificate, &owner_certificate.fingerprint())?.ok_or_else(elsewhere)?;
        let certified = certify(&own, &Grant::Service, primary.as_mut(), validity, setting.now)?;
        requested.push(fresh.requested(&certified, Facts::default(), envelope.seal_revocation(&fresh, &readers)?));
    }
    let signing = match requested.iter().find(|m| m.member == *owner) {
        Some(own) => own.keys.iter().find(|k| k.slot == Slot::Sign && k.active).map(|k| k.key.clone()),
        None => fleet.state().members.get(owner).and_then(|m| m.active(Slot::Sign)).map(|k| k.key.clone()),
    };
    let signing = signing.and_then(|k| Fingerprint::from_hex(&k).ok()).ok_or_else(elsewhere)?;
    let mut signer = signing_key(home, owner, &owner_certificate, &signing)?.ok_or_else(elsewhere)?;
    let request = Request::new(setting.now, setting.log.clone(), requested).guarded_by(home.protection());
    let bytes = signed(request, owner, ticket, signer.as_mut(), &setting)?;
    for name in wanted {
        home.disk().replace(&request_path(name), &bytes).map_err(HomeError::from)?;
    }
    home.set_pin(&fleet.pin())?;
    Ok(bytes)
}

/// Signs a request, by the token as well if there is one.
fn signed(
    request: Request,
    owner: &MemberName,
    ticket: Option<&Ticket>,
    signer: &mut (dyn sequoia_openpgp::crypto::Signer + Send + Sync),
    setting: &Shared,
) -> Result<Vec<u8>, OpsError> {
    let Some(ticket) = ticket else { return Ok(sign_request(&request, owner, signer, &setting.fleet, setting.now)?) };
    let request = request.answering(Presented { machine: ticket.machine.clone(), token: ticket.token.key() });
    let bytes = sign_request(&request, owner, signer, &setting.fleet, setting.now)?;
    sign_with_token(&bytes, &ticket.token, owner, &setting.fleet)
        .map_err(|e| OpsError::Impossible(format!("the request of {owner} {e}")))
}

/// The request that waits, or, if it does not answer the invitation at hand, another one with the same keys that does.
fn with_ticket(
    bytes: Vec<u8>,
    owner: &MemberName,
    ticket: Option<&Ticket>,
    home: &Home,
    fleet: &Fleet,
) -> Result<Vec<u8>, OpsError> {
    let (request, ..) = Request::parse(&bytes).map_err(|e| OpsError::Request(e.to_string()))?;
    let is_other = |t: &Ticket| request.invitation.as_ref().map(|i| i.token) != Some(t.token.key());
    // One that could not be granted, because less guarded the keys than does now: nobody has joined by it.
    let check = |m: &RequestedMember| fleet.state().check_protection(owner, m.kind, request.protection);
    let is_void = request.member(owner).is_some_and(|m| check(m).is_err());
    if !ticket.is_some_and(is_other) && !is_void {
        return Ok(bytes);
    }
    let elsewhere = || OpsError::KeyElsewhere { member: owner.clone(), slot: Slot::Sign };
    let own = request.member(owner).ok_or_else(elsewhere)?;
    let certificate =
        Certificate::parse(&own.cert).map_err(|problem| OpsError::Certificate { member: owner.clone(), problem })?;
    let signing = own.keys.iter().find(|k| k.slot == Slot::Sign && k.active).map(|k| k.key.clone());
    let signing = signing.and_then(|k| Fingerprint::from_hex(&k).ok()).ok_or_else(elsewhere)?;
    let mut signer = signing_key(home, owner, &certificate, &signing)?.ok_or_else(elsewhere)?;
    let setting = Shared::of(fleet);
    let names: Vec<MemberName> = request.members.iter().map(|m| m.member.clone()).collect();
    let request = Request::new(setting.now, setting.log.clone(), request.members).guarded_by(home.protection());
    let bytes = signed(request, owner, ticket, signer.as_mut(), &setting)?;
    for name in &names {
        home.disk().replace(&request_path(name), &bytes).map_err(HomeError::from)?;
    }
    Ok(bytes)
}

/// Why somebody who is a member already cannot join.
fn present(name: &MemberName, home: &Home) -> Result<OpsError, OpsError> {
    let here = home.secret_certificate(name)?.is_some() || home.agent(name)?.is_some();
    Ok(if here { OpsError::Present(name.clone()) } else { Void::NameTaken(name.clone()).into() })
}

/// The request that waits for the admission of exactly these members; `None` if their keys are yet to be made.
///
/// # Errors
/// [`OpsError::Waiting`], if some of them wait with another request: its keys must not be replaced by others.
fn waiting_request(wanted: &BTreeSet<&MemberName>, home: &Home, fleet: &Fleet) -> Result<Option<Vec<u8>>, OpsError> {
    for name in wanted {
        let Some(request) = saved_request(home, name)? else { continue };
        // Of an earlier life: the member was admitted with it, and has left.
        if fleet.state().members.get(*name).is_some_and(|m| m.request == Digest::of(&request)) {
            continue;
        }
        let (parsed, ..) = Request::parse(&request).map_err(|e| OpsError::Request(e.to_string()))?;
        if parsed.log != fleet.log() {
            return Err(OpsError::KeysThere { member: (*name).clone(), fleet: parsed.log });
        }
        let asked: BTreeSet<&MemberName> = parsed.members.iter().map(|m| &m.member).collect();
        if asked != *wanted {
            let with = asked.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(OpsError::Waiting { member: (*name).clone(), with });
        }
        return Ok(Some(request));
    }
    Ok(None)
}

/// Makes an operator's keys and request for a fleet that is yet to be founded.
///
/// # Errors
/// [`OpsError`].
pub fn ask_to_found(
    name: &MemberName,
    user_id: &str,
    fleet: &FleetName,
    profile: Profile,
    home: &Home,
    now: Time,
) -> Result<Vec<u8>, OpsError> {
    let shared = Shared { fleet: fleet.clone(), log: format!("{fleet}/keys/1"), profile, now };
    refuse_pinned(home)?;
    home.settle()?;
    if let Some(request) = saved_request(home, name)? {
        let (parsed, ..) = Request::parse(&request).map_err(|e| OpsError::Request(e.to_string()))?;
        if parsed.log != shared.log {
            return Err(OpsError::KeysThere { member: name.clone(), fleet: parsed.log });
        }
        return Ok(request);
    }
    home.forget(name)?;
    let fresh = make_operator(name, user_id, home, &shared.setting())?;
    let own =
        Certificate::of(&fresh.cert).map_err(|problem| OpsError::Certificate { member: name.clone(), problem })?;
    let signing = fresh.signing_key().ok_or(OpsError::NoActor("signing key"))?;
    let mut signer = signing_key(home, name, &own, &signing)?
        .ok_or(OpsError::KeyElsewhere { member: name.clone(), slot: Slot::Sign })?;
    let request = Request::new(now, shared.log.clone(), vec![fresh.requested(&own, Facts::default(), Vec::new())]);
    let bytes = sign_request(&request, name, signer.as_mut(), fleet, now)?;
    home.disk().replace(&request_path(name), &bytes).map_err(HomeError::from)?;
    Ok(bytes)
}

/// Refuses a home that belongs to a fleet: what is made for another would take the place of its keys.
pub(super) fn refuse_pinned(home: &Home) -> Result<(), OpsError> {
    match home.pin()? {
        Some(pin) => Err(OpsError::HomeTaken(pin.fleet)),
        None => Ok(()),
    }
}

/// Refuses to make keys in the place of some that were asked to be admitted with. Without a request nobody has seen them:
/// an attempt that was interrupted has left them.
pub(super) fn refuse_present(home: &Home, name: &MemberName) -> Result<(), OpsError> {
    let Some(request) = saved_request(home, name)? else { return Ok(()) };
    let log = Request::parse(&request).map(|(parsed, ..)| parsed.log);
    Err(OpsError::KeysThere { member: name.clone(), fleet: log.unwrap_or_else(|_| "nobody knows what".to_owned()) })
}

/// The values that [`Setting`] borrows.
struct Shared {
    fleet: FleetName,
    log: String,
    profile: Profile,
    now: Time,
}

impl Shared {
    fn of(fleet: &Fleet) -> Self {
        let state = fleet.state();
        let profile = state.policy.policy.fleet.profile;
        Self { fleet: state.fleet.clone(), log: state.log.clone(), profile, now: fleet.now() }
    }

    fn setting(&self) -> Setting<'_> {
        Setting { fleet: &self.fleet, log: &self.log, profile: self.profile, now: self.now }
    }
}

fn request_path(member: &MemberName) -> String {
    format!("members/{member}/request")
}

pub(super) fn saved_request(home: &Home, member: &MemberName) -> Result<Option<Vec<u8>>, OpsError> {
    Ok(home.disk().read(&request_path(member), crate::limits::REQUEST_BYTES_MAX).map_err(HomeError::from)?)
}

/// Keeps a fresh member's private halves.
fn keep(home: &Home, fresh: &Fresh) -> Result<(), OpsError> {
    home.set_secret_certificate(&fresh.member, &fresh.cert)?;
    for key in &fresh.private {
        home.set_key(&fresh.member, key)?;
    }
    Ok(())
}

/// Makes an operator's certificate with a user id of her own choice.
pub(super) fn make_operator(
    name: &MemberName,
    user_id: &str,
    home: &Home,
    setting: &Setting<'_>,
) -> Result<Fresh, OpsError> {
    let made =
        openpgp::generate(Kind::Operator, user_id, setting.fleet, setting.profile, OPERATOR_VALIDITY, setting.now)?;
    let keys = made.subkeys.iter().map(|(slot, f, usage)| RequestedKey {
        active: *usage != openpgp::Use::Standby,
        key: f.to_hex(),
        lane: None,
        slot: *slot,
    });
    let fresh = Fresh {
        member: name.clone(),
        kind: Kind::Operator,
        keys: keys.collect(),
        cert: made.cert,
        revocation: made.revocation,
        private: Vec::new(),
    };
    keep(home, &fresh)?;
    Ok(fresh)
}

/// An operator whose keys a gpg-agent has: her certificate's newest signing and encryption keys, without standbys.
pub(super) fn operator_from_agent(
    name: &MemberName,
    certificate: &Certificate,
    now: Time,
) -> Result<RequestedMember, OpsError> {
    let bad = |problem: &str| OpsError::Impossible(format!("the certificate of {name} {problem}"));
    let signing = certificate.flagged_key(Slot::Sign, now).ok_or_else(|| bad("has no key that may sign"))?;
    let encryption = certificate.flagged_key(Slot::Openpgp, now).ok_or_else(|| bad("has no key that may encrypt"))?;
    let key =
        |slot, fingerprint: Fingerprint| RequestedKey { active: true, key: fingerprint.to_hex(), lane: None, slot };
    Ok(RequestedMember {
        cert: certificate.bytes().to_vec(),
        facts: Facts::default(),
        keys: vec![key(Slot::Openpgp, encryption), key(Slot::Sign, signing)],
        kind: Kind::Operator,
        member: name.clone(),
        revocation: Vec::new(),
    })
}

/// The recovery operators' encryption keys.
fn recovery_keys(fleet: &mut Fleet) -> Result<Vec<(std::sync::Arc<Certificate>, String)>, OpsError> {
    let mut keys = Vec::new();
    for operator in fleet.state().recovery_operators() {
        let certificate = fleet.certificate(&operator)?;
        let own: Vec<String> = fleet.state().encryption_keys(&operator).map(str::to_owned).collect();
        keys.extend(own.into_iter().map(|k| (std::sync::Arc::clone(&certificate), k)));
    }
    Ok(keys)
}

/// What a message about a member's own certificate is sealed as.
pub(super) struct Envelope<'a> {
    pub fleet: &'a FleetName,
    pub log: &'a str,
    pub profile: Profile,
    pub now: Time,
}

impl Envelope<'_> {
    /// Seals a fresh member's revocation to `readers`; empty if there are none. It is there for the day on which the
    /// machine cannot be asked, and useless to whoever steals the machine.
    pub(super) fn seal_revocation(&self, fresh: &Fresh, readers: &[(&Certificate, &str)]) -> Result<Vec<u8>, OpsError> {
        use sequoia_openpgp::serialize::MarshalInto as _;
        let keys: Vec<_> =
            readers.iter().filter_map(|(c, k)| Fingerprint::from_hex(k).ok().and_then(|f| c.key(&f))).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |problem: String| {
            OpsError::Impossible(format!("the revocation of {} cannot be sealed: {problem}", fresh.member))
        };
        let packet =
            sequoia_openpgp::Packet::from(fresh.revocation.clone()).to_vec().map_err(|e| failed(e.to_string()))?;
        let envelope = openpgp::Envelope {
            fleet: self.fleet.clone(),
            origin: self.log.to_owned(),
            address: format!("{}#revocation", fresh.member),
            version: 1,
            readers: crate::digest::Digest::of(b""),
        };
        // A service's primary key only certifies; for this one message it does not matter who signs.
        let signer = fresh.cert.keys().secret().map(|k| k.key().clone()).find(|k| k.pk_algo().for_signing());
        let signer =
            signer.ok_or_else(|| failed("no key".to_owned()))?.into_keypair().map_err(|e| failed(e.to_string()))?;
        seal(&packet, &envelope, &keys, signer, self.profile, self.now).map_err(|e| failed(e.to_string()))
    }
}
