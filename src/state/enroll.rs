//! Members come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::admission::is_signed_by;
use super::fold::{Context, Objects, Replay, Stop};
use super::{Admission, Agreed, Asked, Decision, KeyState, Member, PublicKey, SlotKey, SlotKeys, State, Void};
use crate::digest::Digest;
use crate::name::{ActName, Kind, MemberName, Slot};
use crate::openpgp::{Certificate, CertificateError, Fingerprint, material};
use crate::policy::{Case, Role};
use crate::statement::{Approval, Enroll, Facts, RequestedKey, RequestedMember, Retire, RetireReason};
use crate::time::Time;
use crate::wireguard::Lane;
use crate::wireguard::address::lowest_free;

impl Case {
    /// The case of an act that goes by the kind of member.
    pub(crate) fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Operator => Self::Operator,
            Kind::Authority => Self::Authority,
            Kind::Pop => Self::Pop,
            Kind::Service => Self::Service,
        }
    }
}

/// A newcomer, checked, and not yet in the state.
pub(super) struct Newcomer {
    name: MemberName,
    member: Member,
    materials: BTreeSet<Digest>,
    index: Option<(String, u64)>,
    by_invitation: Option<ByInvitation>,
}

/// What an invitation gives to whoever joins by it.
struct ByInvitation {
    /// The PoP that was invited.
    pop: MemberName,
    /// What the invitation remembers of the request.
    used: Digest,
    /// Who has agreed by making the invitation, and still may.
    agreed: BTreeSet<MemberName>,
    /// Whether it has to answer challenges.
    confirm: bool,
}

/// What was asked for, found to be signed by its own.
struct Wanted {
    requested: RequestedMember,
    certificate: Certificate,
    by_invitation: Option<ByInvitation>,
}

impl<O: Objects> Replay<O> {
    pub(super) fn enroll(&mut self, change: &Enroll, context: &Context<'_>) -> Result<(), Stop> {
        let before = self.replace(change, context)?;
        let done = self.enroll_now(change, context);
        if done.is_err() && before.is_some() {
            self.state = before;
        }
        done
    }

    fn enroll_now(&mut self, change: &Enroll, context: &Context<'_>) -> Result<(), Stop> {
        let newcomer = self.newcomer(change, context)?;
        // The member signed its own request, which was verified above: that is its own consent.
        let own = Some((&change.member, true));
        let case = Some(Case::of_kind(change.kind));
        match &newcomer.by_invitation {
            None => self.quorum(ActName::Enroll, case, own, context)?,
            // Whoever made the invitation has agreed to whatever comes with its token.
            Some(invitation) => {
                let signers = invitation.agreed.union(context.signers).cloned().collect();
                self.quorum(ActName::Enroll, case, own, &Context { signers: &signers, ..*context })?;
            }
        }
        self.admit(newcomer)
    }

    /// Takes out the machine in whose place another one was invited, if it joins by this change. Gives the state before.
    fn replace(&mut self, change: &Enroll, context: &Context<'_>) -> Result<Option<State>, Stop> {
        let name = &change.member;
        let state = self.state_ref()?;
        let Some(old) = state.members.get(name).filter(|m| m.is_active()).map(|m| m.fingerprint.to_hex()) else {
            return Ok(None);
        };
        if state.invitations.get(name).is_none_or(|i| i.invited.replaces != Some(old)) {
            return Ok(None);
        }
        let bytes = self.objects().object(&change.request)?;
        let Ok(asked) = Asked::parse(&bytes) else { return Ok(None) };
        let state = self.state_ref()?;
        if state.admission(&asked, context.time, Agreed::Yes).admission != Admission::Ok {
            return Ok(None);
        }
        // Whoever named the machine that is lost has agreed to that, and has to be enough for it.
        let may_agree = |who: &&MemberName| state.may_agree(who, context.time);
        let agreed = state.invitations.get(name).into_iter().flat_map(|i| i.approved.iter().filter(may_agree));
        let signers = agreed.chain(context.signers).cloned().collect();
        let before = state.clone();
        let own = Some((name, false));
        self.quorum(ActName::Retire, Some(Case::Pop), own, &Context { signers: &signers, ..*context })?;
        self.state_mut()?.leave_with_services(name, RetireReason::Lost, context);
        Ok(Some(before))
    }

    /// Everything about an enrolment but its quorum.
    pub(super) fn newcomer(&mut self, change: &Enroll, context: &Context<'_>) -> Result<Newcomer, Stop> {
        let (name, kind) = (&change.member, change.kind);
        let Wanted { requested, certificate: uncertified, by_invitation } = self.requested(change, context.time)?;
        self.state_ref()?.check_name(name, kind)?;
        let certificate = self.certificate(name, &change.cert)?;
        let bad_certificate = |problem| Void::Certificate { member: name.clone(), problem };
        let cert_expires = self.state_ref()?.check_certificate(name, kind, &certificate, context.time)?;
        certificate.succeeds(&uncertified, &BTreeSet::new()).map_err(bad_certificate)?;
        let unconfirmed = self.challenged(change, &requested, by_invitation.as_ref().is_some_and(|i| i.confirm))?;
        let slots = self.state_ref()?.with_history(name, slots(name, &requested, &certificate, context)?);
        let materials = self.state_ref()?.new_materials(name, &requested.keys, &certificate)?;
        if matches!(kind, Kind::Pop | Kind::Service) {
            let needed = self.state_ref()?.policy.policy.fleet.vouching_operators;
            let found = self.endorsers_of(name, kind, &certificate, context.time)?;
            if found < needed {
                return Err(Void::Unvouched { member: name.clone(), found, needed }.into());
            }
        }
        let member = Member {
            kind,
            enrolled: context.time,
            retired: None,
            left_by: None,
            fingerprint: certificate.fingerprint(),
            cert: change.cert,
            cert_expires,
            generation: 1,
            prev: context.id,
            request: change.request,
            facts: requested.facts,
            slots,
            unconfirmed,
        };
        let index = if kind == Kind::Pop {
            Some(self.state_ref()?.free_index(name, &member.facts, context.time)?)
        } else {
            None
        };
        Ok(Newcomer { name: name.clone(), member, materials, index, by_invitation })
    }

    pub(super) fn admit(&mut self, newcomer: Newcomer) -> Result<(), Stop> {
        let Newcomer { name, member, materials, index, by_invitation } = newcomer;
        let state = self.state_mut()?;
        if let Some(ByInvitation { pop, used, .. }) = by_invitation
            && let Some(invitation) = state.invitations.get_mut(&pop)
        {
            invitation.used = Some(used);
        }
        for digest in materials {
            state.material.insert(digest, name.clone());
        }
        if let Some(index) = index {
            state.mesh.used.insert(name.clone(), index);
        }
        let (keys, cert) = (member.slot(Slot::Sign), member.cert);
        let signing = keys.into_iter().flat_map(|s| s.usable()).map(|k| (k.key.clone(), cert));
        state.signing.extend(signing.collect::<Vec<_>>());
        if let Some(before) = state.members.insert(name.clone(), Arc::new(member)) {
            state.former.insert(before.fingerprint.clone(), (name, before.cert));
        }
        Ok(())
    }

    /// Whether the request in this object asks at `at` for `asked`, signed as it has to be, by the invitation that it names, if any.
    ///
    /// # Errors
    /// [`Void`], saying why not.
    pub fn check_request(&mut self, asked: &RequestedMember, request: Digest, at: Time) -> Result<(), Void> {
        let change =
            Enroll { cert: request, challenges: None, kind: asked.kind, member: asked.member.clone(), request };
        let named = self.state_ref().and_then(|state| Ok(state.check_name(&asked.member, asked.kind)?));
        named.and_then(|()| self.requested(&change, at).map(drop)).map_err(|stop| {
            let problem = |problem: String| Void::Request { member: asked.member.clone(), problem };
            match stop {
                Stop::Void(void) => void,
                Stop::Object(e) => problem(e.to_string()),
                Stop::Openpgp(e) => problem(e.to_string()),
            }
        })
    }

    /// What the member asked for, verified to be signed by its own (a service's: its PoP's) active signing key.
    fn requested(&mut self, change: &Enroll, at: Time) -> Result<Wanted, Stop> {
        let name = &change.member;
        let bad = |problem: String| Stop::from(Void::Request { member: name.clone(), problem });
        let asked = Asked::parse(&self.objects().object(&change.request)?).map_err(|e| bad(e.to_string()))?;
        let state = self.state_ref()?;
        if asked.request.log != state.log {
            return Err(bad("it is for another log".to_owned()));
        }
        let requested =
            asked.request.member(name).ok_or_else(|| bad("it does not name the member".to_owned()))?.clone();
        if requested.kind != change.kind {
            return Err(bad(format!("it asks for a {}", requested.kind)));
        }
        let by_invitation = match &asked.request.invitation {
            Some(_) => Some(state.by_invitation(name, &asked, at)?),
            None => {
                state.check_protection(name, requested.kind, asked.request.protection)?;
                None
            }
        };
        let parse = |bytes: &[u8]| Certificate::parse(bytes).map_err(|e| bad(format!("its certificate {e}")));
        let own = parse(&requested.cert)?;
        let owner = name.owner();
        // A service's PoP is a member by now, also if it joins with the same statement; what a request says about its
        // keys does not count.
        let (signing_key, certificate) = if name.is_service() {
            let member = state.active_member(&owner)?;
            let (key, digest) = (member.active(Slot::Sign).map(|k| k.key.clone()), member.cert);
            (key, self.certificate(&owner, &digest)?)
        } else {
            let key = requested.keys.iter().find(|k| k.slot == Slot::Sign && k.active).map(|k| k.key.clone());
            (key, Arc::new(own.clone()))
        };
        let state = self.state_ref()?;
        let home = (&state.fleet, state.log.as_str());
        match is_signed_by(&asked.lines, &asked.body, home, &owner, signing_key.as_deref(), &certificate) {
            true => Ok(Wanted { requested, certificate: own, by_invitation }),
            false => Err(bad(format!("it is not signed by {owner}"))),
        }
    }

    pub(super) fn retire(&mut self, change: &Retire, context: &Context<'_>) -> Result<(), Stop> {
        let (name, why) = (&change.member, change.why);
        let (kind, fingerprint) = self.state_ref()?.leaving(name, why)?;
        self.quorum(ActName::Retire, Some(Case::of_kind(kind)), Some((name, false)), context)?;
        // Certifications that came in meanwhile may be missing from it: of one that leaves only the leaving counts, and a
        // stolen key must not be able to put it off.
        if let Some(digest) = change.cert
            && self.certificate(name, &digest)?.fingerprint() != fingerprint
        {
            let problem = CertificateError::Lost("another primary key than before");
            return Err(Void::Certificate { member: name.clone(), problem }.into());
        }
        let state = self.state_mut()?;
        state.leave_with_services(name, why, context);
        if let (Some(digest), Some(member)) = (change.cert, state.members.get_mut(name).map(Arc::make_mut)) {
            member.cert = digest;
        }
        Ok(())
    }
}

/// A requested member's keys by slot: exactly one active in each, a standby in each but an operator's, whose keys may
/// lie on a card with one key a purpose.
fn slots(
    name: &MemberName,
    requested: &RequestedMember,
    certificate: &Certificate,
    context: &Context<'_>,
) -> Result<BTreeMap<Slot, SlotKeys>, Void> {
    let expected = Slot::of(requested.kind);
    let wrong = |problem: String| Void::Slots { member: name.clone(), problem };
    if let Some(key) = requested.keys.iter().find(|k| !expected.contains(&k.slot)) {
        return Err(wrong(format!("a {} key, which a {} does not have", key.slot, requested.kind)));
    }
    let mut slots = BTreeMap::new();
    for &slot in expected {
        let of_slot: Vec<&RequestedKey> = requested.keys.iter().filter(|k| k.slot == slot).collect();
        let active = of_slot.iter().filter(|k| k.active).count();
        let standby = of_slot.len() - active;
        if active != 1 || standby > 1 || (standby == 0 && requested.kind != Kind::Operator) {
            return Err(wrong(format!("{active} active and {standby} standby {slot} keys; one of each is needed")));
        }
        check_lanes(slot, &of_slot).map_err(|problem| wrong(problem.to_owned()))?;
        let keys = of_slot
            .iter()
            .map(|key| {
                check_key(name, slot, &key.key, certificate, context.time)?;
                Ok(SlotKey {
                    key: key.key.clone(),
                    state: if key.active { KeyState::Active } else { KeyState::PreActive },
                    lane: key.lane,
                    exchange: None,
                    published: context.time,
                    activated: key.active.then_some(context.time),
                    ended: None,
                })
            })
            .collect::<Result<Vec<_>, Void>>()?;
        slots.insert(slot, SlotKeys { keys, generation: 1, prev: context.id });
    }
    Ok(slots)
}

fn check_lanes(slot: Slot, keys: &[&RequestedKey]) -> Result<(), &'static str> {
    let lanes: BTreeSet<Lane> = keys.iter().filter_map(|k| k.lane).collect();
    match slot {
        Slot::Wireguard if lanes.len() != keys.len() => Err("WireGuard keys that are not one a lane"),
        Slot::Wireguard => Ok(()),
        Slot::Openpgp | Slot::Sign | Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa | Slot::Log
            if !lanes.is_empty() =>
        {
            Err("a lane where there are none")
        }
        Slot::Openpgp | Slot::Sign | Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa | Slot::Log => Ok(()),
    }
}

/// Checks that a key has the form of its slot and, if it is a subkey, is bound in the certificate and able to do the
/// slot's work.
pub(super) fn check_key(
    name: &MemberName,
    slot: Slot,
    text: &str,
    certificate: &Certificate,
    at: Time,
) -> Result<(), Void> {
    let bad =
        |problem: String| Void::Key { member: name.clone(), slot, key: crate::text::shown(text).to_string(), problem };
    match PublicKey::parse(slot, text).map_err(bad)? {
        PublicKey::Openpgp(fingerprint) => {
            certificate.can_serve(&fingerprint, slot, at).map_err(|problem| bad(problem.to_owned()))
        }
        PublicKey::Wireguard(_) | PublicKey::Ssh(_) | PublicKey::Log(_) => Ok(()),
    }
}

impl State {
    /// Whether what an operator has signed earlier still counts: she is one, and her certificate has not expired.
    fn may_agree(&self, who: &MemberName, at: Time) -> bool {
        let operator = self.members.get(who).filter(|m| m.is_active() && m.kind == Kind::Operator);
        operator.is_some_and(|m| m.cert_expires.is_none_or(|expires| expires > at))
    }

    /// What its invitation gives to a member that asks with one; the PoP joins first, then its services by the same request.
    fn by_invitation(&self, name: &MemberName, asked: &Asked, at: Time) -> Result<ByInvitation, Void> {
        let refuse = |Decision { admission, why }| Void::Admission { member: name.clone(), admission, why };
        let decision = self.admission(asked, at, Agreed::Yes);
        let follows = name.is_service() && decision.admission == Admission::Duplicate;
        if decision.admission != Admission::Ok && !follows {
            return Err(refuse(decision));
        }
        let pop = asked.pop().map(|pop| pop.member.clone()).ok_or_else(|| Void::NoMember(name.clone()))?;
        let found = self.invitations.get(&pop).ok_or_else(|| Void::NoMember(pop.clone()))?;
        if follows && at > found.invited.not_after {
            let why = format!("the invitation was good until {}", found.invited.not_after);
            return Err(refuse(Decision { admission: Admission::Expired, why }));
        }
        let agreed = match found.invited.approval {
            Approval::Auto => found.approved.iter().filter(|who| self.may_agree(who, at)).cloned().collect(),
            Approval::Operators => BTreeSet::new(),
        };
        Ok(ByInvitation { pop, used: asked.digest(), agreed, confirm: found.invited.confirm })
    }

    /// Checks that a certificate is valid, and in its member's name. An operator may bring one that she has had before,
    /// in whatever names; operators are known by the log, not by their user ids.
    pub(super) fn check_certificate(
        &self,
        name: &MemberName,
        kind: Kind,
        certificate: &Certificate,
        at: Time,
    ) -> Result<Option<Time>, Void> {
        let checked = match kind {
            Kind::Operator => certificate.alive(at),
            Kind::Authority | Kind::Pop | Kind::Service => certificate.check(&name.user_id(kind, &self.fleet), at),
        };
        checked.map_err(|problem| Void::Certificate { member: name.clone(), problem })
    }

    fn check_name(&self, name: &MemberName, kind: Kind) -> Result<(), Void> {
        let mismatch = |problem| Err(Void::KindMismatch { member: name.clone(), kind, problem });
        match (kind, name.is_service()) {
            (Kind::Service, false) => return mismatch("a service's name is NAME@POP"),
            (Kind::Operator | Kind::Authority | Kind::Pop, true) => {
                return mismatch("only a service's name has an '@'");
            }
            (Kind::Service, true) => {
                let pop = name.owner();
                if !self.members.get(&pop).is_some_and(|m| m.is_active() && m.kind == Kind::Pop) {
                    return Err(Void::NoMember(pop));
                }
            }
            (Kind::Operator | Kind::Authority | Kind::Pop, false) => {}
        }
        match self.members.get(name) {
            Some(there) if there.is_active() => Err(Void::NameTaken(name.clone())),
            Some(there) if there.kind != kind => mismatch("the name was that of another kind of member"),
            _ => Ok(()),
        }
    }

    /// Puts the keys that a name had in an earlier life in front of those it has now: a compromised key stays on record,
    /// and on revocation lists, when its machine comes back with new ones.
    fn with_history(&self, name: &MemberName, mut slots: BTreeMap<Slot, SlotKeys>) -> BTreeMap<Slot, SlotKeys> {
        for (slot, old) in self.members.get(name).into_iter().flat_map(|m| &m.slots) {
            let Some(keys) = slots.get_mut(slot) else { continue };
            let ended = old.keys.iter().cloned().map(|mut key| {
                if key.state != KeyState::Compromised {
                    key.state = KeyState::Destroyed;
                }
                key
            });
            keys.keys = ended.chain(std::mem::take(&mut keys.keys)).collect();
        }
        slots
    }

    /// Refuses a departure after which nobody could change the policy, admit or vouch any more.
    fn check_departure(&self, name: &MemberName, kind: Kind) -> Result<(), Void> {
        if !matches!(kind, Kind::Operator | Kind::Authority) {
            return Ok(());
        }
        let left = |kind| self.members.iter().filter(|(n, m)| *n != name && m.kind == kind && m.is_active()).count();
        if left(kind) == 0 {
            return Err(Void::Last(name.clone()));
        }
        let policy = &self.policy.policy.fleet;
        let root = policy.root.iter().filter(|r| *r != name && self.active_member(r).is_ok()).count();
        for rule in policy.quorums.rules() {
            for (role, there) in
                [(Role::Operator, left(Kind::Operator)), (Role::Authority, left(Kind::Authority)), (Role::Root, root)]
            {
                if rule.need.get(&role).is_some_and(|n| usize::try_from(*n).unwrap_or(usize::MAX) > there) {
                    return Err(Void::Needed { member: name.clone(), act: rule.act, role: role.word(), there });
                }
            }
        }
        Ok(())
    }

    /// What the keys are made of; all of it has to be new to the fleet, now and ever, and used for one thing only.
    pub(super) fn new_materials(
        &self,
        name: &MemberName,
        keys: &[RequestedKey],
        certificate: &Certificate,
    ) -> Result<BTreeSet<Digest>, Void> {
        let mut all: Vec<(Slot, Digest)> = Vec::new();
        for key in keys {
            let parsed = PublicKey::parse(key.slot, &key.key).ok().and_then(|k| k.material(certificate));
            all.extend(parsed.map(|digest| (key.slot, digest)));
        }
        let named: BTreeSet<Digest> = all.iter().map(|(_, d)| *d).collect();
        let in_certificate = certificate.cert().keys().map(|k| material(k.key())).filter(|d| !named.contains(d));
        all.extend(in_certificate.map(|digest| (Slot::Openpgp, digest)));
        self.unused(name, &all)
    }

    /// Checks that none of these was ever used, nor twice here.
    pub(super) fn unused(&self, name: &MemberName, materials: &[(Slot, Digest)]) -> Result<BTreeSet<Digest>, Void> {
        let mut new = BTreeSet::new();
        for (slot, digest) in materials {
            let by = self.material.get(digest).or_else(|| new.contains(digest).then_some(name));
            if let Some(by) = by {
                return Err(Void::KeyReused { member: name.clone(), slot: *slot, by: by.clone() });
            }
            new.insert(*digest);
        }
        Ok(new)
    }

    /// The lowest free index of the region of a PoP that joins now: where in the mesh it will be.
    ///
    /// # Errors
    /// [`Void::Address`].
    pub fn free_index(&self, name: &MemberName, facts: &Facts, now: Time) -> Result<(String, u64), Void> {
        let policy = &self.policy.policy.wireguard;
        let bad = |problem: String| Void::Address { member: name.clone(), problem };
        let region = match &facts.region {
            Some(region) => region.to_string(),
            None => policy
                .default_region()
                .ok_or_else(|| bad("it names no region, and policy/wireguard.toml has several".to_owned()))?
                .to_owned(),
        };
        let pool = policy
            .pool(&region)
            .ok_or_else(|| bad(format!("policy/wireguard.toml has no pool for the region '{region}'")))?;
        let of_pops = self.mesh.used.values().filter(|(r, _)| *r == region).map(|(_, i)| *i);
        let used: BTreeSet<u64> = of_pops.chain(policy.reserved(&region)).collect();
        let resting = self.mesh.quarantined.get(&region).into_iter().flatten();
        let quarantined: BTreeSet<u64> = resting.filter(|(_, until)| **until > now).map(|(i, _)| *i).collect();
        let index = lowest_free(pool, &used, &quarantined)
            .ok_or_else(|| bad(format!("the pool of the region '{region}' is full")))?;
        Ok((region, index))
    }

    /// The kind and certificate of a member that may leave for this reason.
    pub(super) fn leaving(&self, name: &MemberName, why: RetireReason) -> Result<(Kind, Fingerprint), Void> {
        let member = self.members.get(name).filter(|m| m.may_leave(why)).ok_or_else(|| Void::NoMember(name.clone()))?;
        if member.is_active() {
            self.check_departure(name, member.kind)?;
        }
        Ok((member.kind, member.fingerprint.clone()))
    }

    /// Takes a member out, and what depends on it: a machine takes its services with it, also one that joined while this was
    /// on its way.
    pub(super) fn leave_with_services(&mut self, name: &MemberName, why: RetireReason, context: &Context<'_>) {
        let depends = |n: &MemberName| n != name && n.is_service() && n.owner() == *name;
        let services: Vec<MemberName> =
            self.members.iter().filter(|(n, m)| m.may_leave(why) && depends(n)).map(|(n, _)| n.clone()).collect();
        self.leave(name, why, context);
        for service in services {
            self.leave(&service, why, context);
        }
    }

    /// Takes one member out everywhere.
    fn leave(&mut self, name: &MemberName, why: RetireReason, context: &Context<'_>) {
        let quarantine = self.policy.policy.wireguard.quarantine();
        let Some(member) = self.members.get_mut(name).map(Arc::make_mut) else { return };
        let since = member.retired.map_or(context.time, |(since, _)| since);
        member.retired = Some((since, why));
        member.left_by.get_or_insert(context.index);
        let end = if why.burns() { KeyState::Compromised } else { KeyState::Deactivated };
        for keys in member.slots.values_mut() {
            keys.end_all(end, context.time);
        }
        if let Some((region, index)) = self.mesh.used.remove(name) {
            self.mesh.quarantined.entry(region).or_default().insert(index, context.time.plus(quarantine));
        }
        let serials = self.issued.iter().filter(|(_, issued)| issued.member == *name).map(|(serial, _)| *serial);
        self.revoked_serials.extend(serials.collect::<Vec<_>>());
        if why.burns() {
            let exposed = |s: &&mut Arc<super::Secret>| s.live.as_ref().is_some_and(|live| live.exposed.contains(name));
            for secret in self.secrets.values_mut().filter(exposed).filter_map(|s| Arc::make_mut(s).live.as_mut()) {
                secret.burned.get_or_insert((context.time, name.clone()));
            }
        }
    }
}

impl Member {
    /// Whether it can leave for this reason: whoever left in order may turn out to have been robbed later.
    fn may_leave(&self, why: RetireReason) -> bool {
        self.retired.is_none_or(|(_, before)| why.burns() && !before.burns())
    }
}
