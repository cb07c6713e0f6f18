//! Catching up: what a member's own machine does when it next runs. It makes the standby keys that are missing, brings
//! its certificate into line with the log, renews what it vouches for, and reseals its own secrets to its new keys.
//!
//! Effects in order: private halves in the home, then the statements. Interrupted in between, the next run finds the
//! private half that nobody knows yet and uses it.

mod own;

use std::collections::{BTreeMap, BTreeSet};

use rand::CryptoRng;

use super::OpsError;
use super::act::signing_key;
use super::admit::{Invited, admit, certifiers, invited};
use super::confirm::confirm;
use super::psk::{make_exchange, standby_exchange};
use super::reseal::{Stuck, plan_reseal};
use super::ssh::plan_host;
use crate::fleet::{Draft, Fleet, FleetError, Standing};
use crate::home::Home;
use crate::limits::CHANGES_MAX;
use crate::name::{Address, Kind, MemberName, Scope, Slot};
use crate::openpgp::{self, Fingerprint, Grant, certify};
use crate::state::{Admission, Drift, KeyState, SlotKey};
use crate::statement::{Act, Certify, Destroy, PublishedKey, principal};
use crate::time::Span;

use self::own::{bindings, is_ageing, may_replace, missing_standby, publish};

/// How long a replaced host key stays in its home. A running `sshd` reads the files that it was started with again for each
/// connection: without its key it refuses everybody until it is reloaded.
const HOST_KEY_STAYS: Span = Span::days(1);

/// So many machines offer to reseal a secret that is not theirs alone, which takes an operator's signature; the others leave
/// it at that. Not one alone: it could keep all others from it.
const OFFERS_ENOUGH: usize = 3;

/// What catching up has prepared.
#[derive(Debug, Default)]
pub struct SyncPlan {
    /// Statements to sign.
    pub drafts: Vec<Draft>,
    /// Secrets that it would reseal, and cannot.
    pub stuck: Vec<Stuck>,
    /// What else failed, and kept nothing else from being done.
    pub troubles: Vec<String>,
    /// Requests by invitation that were refused, and why: somebody may have to look, nothing here has failed.
    pub refused: Vec<(Admission, String)>,
    /// Members and secrets with a statement on the way.
    busy: Busy,
}

/// Subjects that a statement which waits, or is being made, will change: another one would make it stale.
#[derive(Debug, Default)]
struct Busy {
    members: BTreeSet<MemberName>,
    addresses: BTreeSet<Address>,
    keys: BTreeSet<String>,
    answered: BTreeSet<MemberName>,
}

impl Busy {
    /// Notes what a statement will change; of somebody with a say about her own affairs alone (`only`), no more than those.
    fn note(&mut self, act: &Act, only: Option<&MemberName>) {
        let member = |m: &MemberName| only.is_none_or(|o| m.owner() == *o);
        let address = |a: &Address| match a.scope() {
            Scope::Member(m) => member(m),
            Scope::SharedService(_) | Scope::Shared => only.is_none(),
        };
        match act {
            Act::SshIssue(issue) if only.is_none() => {
                self.keys.insert(issue.certificate.fields().subject.to_string());
            }
            Act::Publish(list) => self.members.extend(list.iter().map(|c| c.member.clone()).filter(member)),
            Act::Certify(list) => self.members.extend(list.iter().map(|c| c.member.clone()).filter(member)),
            Act::Reseal(list) => self.addresses.extend(list.iter().map(|c| c.address.clone()).filter(address)),
            Act::Seal(list) => self.addresses.extend(list.iter().map(|c| c.address.clone()).filter(address)),
            Act::Destroy(list) => {
                self.keys.extend(list.iter().filter(|c| member(&c.member)).map(|c| c.key.clone()));
            }
            Act::Enroll(list) => self.members.extend(list.iter().map(|c| c.member.clone()).filter(member)),
            Act::Confirm(list) => self.answered.extend(list.iter().map(|c| c.member.clone()).filter(member)),
            Act::Genesis(_)
            | Act::PolicyUpdate(_)
            | Act::Retire(_)
            | Act::Activate(_)
            | Act::Remove(_)
            | Act::SshIssue(_)
            | Act::SshRevoke(_)
            | Act::Object(_)
            | Act::Backup(_)
            | Act::Drill(_)
            | Act::Snapshot(_)
            | Act::Rekey(_)
            | Act::Emergency(_)
            | Act::Invite(_)
            | Act::Uninvite(_) => {}
        }
    }
}

/// Prepares whatever the members of this home owe. What one round makes possible the next one does: call it again until
/// it gives nothing.
///
/// # Errors
/// [`OpsError`].
pub fn plan_sync(home: &Home, fleet: &mut Fleet, rng: &mut impl CryptoRng) -> Result<SyncPlan, OpsError> {
    let mut plan = SyncPlan::default();
    let mut offered: BTreeMap<Address, BTreeSet<MemberName>> = BTreeMap::new();
    for proposal in fleet.proposals()? {
        // What its author has not signed, or what will never have an effect, stands in nobody's way.
        let by = &proposal.signed.statement.by;
        let author = principal(&fleet.state().fleet, by);
        let signed = proposal.signatures.iter().any(|line| line.name == author);
        let standing = fleet.standing(&proposal)?;
        if signed && !matches!(standing, Standing::Dead(_)) {
            // Nor does what a machine proposes about others, and nobody else has signed.
            let kind = fleet.state().members.get(by).map(|m| m.kind);
            let has_a_say = matches!(kind, Some(Kind::Operator | Kind::Authority)) || standing == Standing::Complete;
            plan.busy.note(&proposal.signed.statement.act, (!has_a_say).then_some(by));
            if let (false, Act::Reseal(list)) = (has_a_say, &proposal.signed.statement.act) {
                for change in list {
                    offered.entry(change.address.clone()).or_default().insert(by.clone());
                }
            }
        }
    }
    // What machines of others have offered stands in nobody's way who has a say.
    let here = home.members()?;
    let kinds = here.iter().filter_map(|m| fleet.state().members.get(m)).map(|m| m.kind);
    if kinds.into_iter().all(|kind| matches!(kind, Kind::Pop | Kind::Service)) {
        let is_enough = |by: &BTreeSet<MemberName>| by.len() >= OFFERS_ENOUGH || here.iter().any(|m| by.contains(m));
        plan.busy.addresses.extend(offered.into_iter().filter(|(_, by)| is_enough(by)).map(|(address, _)| address));
    }
    answer_challenges(&here, home, fleet, &mut plan)?;
    for member in here {
        let known = fleet.state().members.get(&member).filter(|m| m.is_active()).map(|m| m.kind);
        let Some(kind) = known else { continue };
        // Whose secrets lie in an agent has her own ways to make keys.
        if plan.busy.members.contains(&member) || home.secret_certificate(&member)?.is_none() {
            continue;
        }
        let (mut keys, mut objects) = (Vec::new(), Vec::new());
        for &slot in Slot::of(kind).iter().filter(|s| !s.is_openpgp()) {
            let Some(mut key) = missing_standby(&member, slot, home, fleet, rng)? else {
                let standby = fleet.state().members.get(&member).and_then(|m| m.slot(slot)?.standbys().next().cloned());
                if let Some(standby) = standby.filter(|_| slot == Slot::Wireguard)
                    && let Some((digests, bytes)) = standby_exchange(&member, &standby, home, fleet, rng)?
                {
                    let (lane, key) = (standby.lane, standby.key);
                    keys.push(PublishedKey { exchange: Some(digests), key, lane, slot });
                    objects.push(bytes);
                }
                continue;
            };
            if let Some(lane) = key.lane
                && let Some((digests, bytes)) = make_exchange(&member, lane, &key.key, home, fleet, rng)?
            {
                key.exchange = Some(digests);
                objects.push(bytes);
            }
            keys.push(key);
        }
        publish(&member, kind, (keys, objects), home, fleet, &mut plan)?;
    }
    renew_certifications(home, fleet, &mut plan)?;
    reseal_own(home, fleet, &mut plan)?;
    destroy_unneeded(home, fleet, &mut plan)?;
    certify_hosts(home, fleet, &mut plan, rng)?;
    admit_invited(home, fleet, &mut plan, rng)?;
    Ok(plan)
}

/// Has each machine of this home answer the challenges that it and its services were given when they joined.
fn answer_challenges(here: &[MemberName], home: &Home, fleet: &mut Fleet, plan: &mut SyncPlan) -> Result<(), OpsError> {
    for machine in here.iter().filter(|m| !m.is_service()) {
        let own = here.iter().filter(|m| m.owner() == *machine && !plan.busy.answered.contains(*m));
        match confirm(&own.cloned().collect::<Vec<_>>(), home, fleet) {
            Ok(draft) => plan.drafts.extend(draft),
            Err(e) => plan.troubles.push(e.to_string()),
        }
    }
    Ok(())
}

/// Has an authority of this home admit those who ask with an invitation. Where operators have to agree it proposes that,
/// once.
fn admit_invited(
    home: &Home,
    fleet: &mut Fleet,
    plan: &mut SyncPlan,
    rng: &mut impl CryptoRng,
) -> Result<(), OpsError> {
    let Some(authority) = certifiers(home, fleet, Kind::Authority)?.into_iter().next() else { return Ok(()) };
    for Invited { pop, path, bytes, decision } in invited(fleet)? {
        let name = pop.as_ref().map_or_else(|| "somebody".to_owned(), ToString::to_string);
        if pop.as_ref().is_some_and(|pop| plan.busy.members.contains(pop)) {
            continue;
        }
        match decision.admission {
            Admission::Ok | Admission::PendingApproval => match admit(&bytes, "by invitation", home, fleet, rng) {
                Ok(draft) => {
                    plan.busy.members.extend(pop);
                    let told = vec![format!("{name} joins by its invitation")];
                    plan.drafts.push(Draft { author: Some(authority.clone()), told, ..draft });
                }
                Err(e) => plan.troubles.push(format!("{name} does not join by its invitation: {e}")),
            },
            Admission::NotYetValid => {}
            // Granted: among the waiting ones it would be offered again.
            Admission::Duplicate => {
                fleet.store().disk().remove(&path).map_err(FleetError::from)?;
                fleet.store().disk().prune("proposals/requests");
            }
            admission => {
                let text = format!("refused: a request of {name} ({admission}): {}", decision.why);
                plan.refused.push((admission, text));
            }
        }
    }
    Ok(())
}

/// What catching up would do, told without doing it: making keys to show them would be a change.
///
/// # Errors
/// [`OpsError`].
pub fn sync_todo(home: &Home, fleet: &mut Fleet, rng: &mut impl CryptoRng) -> Result<Vec<String>, OpsError> {
    let here = home.members()?;
    let mut todo: Vec<String> = Vec::new();
    for member in &here {
        let Some(found) = fleet.state().members.get(member).filter(|m| m.is_active()).cloned() else { continue };
        if home.secret_certificate(member)?.is_none() {
            continue;
        }
        let mut lacking = Vec::new();
        for (slot, keys) in found.slots.iter().filter(|(_, keys)| keys.standbys().next().is_none()) {
            if may_replace(member, *slot, keys, home)? {
                lacking.push(slot);
            }
        }
        todo.extend(lacking.into_iter().map(|slot| format!("{member}: a new {slot} standby")));
        let public = fleet.certificate(member)?;
        let states = openpgp::subkey_states(public.cert(), &fleet.state().fleet);
        if bindings(&found).any(|(f, usage)| !states.iter().any(|(s, word)| *s == f && word == usage.word())) {
            todo.push(format!("{member}: bring the certificate into line with the log"));
        }
        if is_ageing(found.kind, found.cert_expires, fleet) {
            todo.push(format!("{member}: renew the certificate"));
        }
    }
    for (certifier, subject, _) in certifications(home, fleet)? {
        if needs_renewal(&certifier, &subject, fleet)? {
            todo.push(format!("{certifier}: vouch for {subject} anew"));
        }
    }
    let mut plan = SyncPlan::default();
    reseal_own(home, fleet, &mut plan)?;
    destroy_unneeded(home, fleet, &mut plan)?;
    certify_hosts(home, fleet, &mut plan, rng)?;
    if !certifiers(home, fleet, Kind::Authority)?.is_empty() {
        let may_join = |i: &Invited| matches!(i.decision.admission, Admission::Ok | Admission::PendingApproval);
        let names = invited(fleet)?.into_iter().filter(may_join).filter_map(|i| i.pop);
        todo.extend(names.map(|pop| format!("{pop}: join by its invitation")));
    }
    todo.extend(plan.drafts.into_iter().flat_map(|d| d.told));
    Ok(todo)
}

/// Has an authority of this home issue the SSH certificates of hosts that lack one or whose is past its renewal.
fn certify_hosts(
    home: &Home,
    fleet: &mut Fleet,
    plan: &mut SyncPlan,
    rng: &mut impl CryptoRng,
) -> Result<(), OpsError> {
    let Some(authority) = certifiers(home, fleet, Kind::Authority)?.into_iter().next() else { return Ok(()) };
    for issue in plan_host(None, false, fleet, rng)?.issues {
        if plan.busy.keys.insert(issue.certificate.fields().subject.to_string()) {
            let told = vec![format!("{}: SSH certificate for its host key", issue.member)];
            let draft = Draft::bare(Act::SshIssue(issue), "host certificate");
            plan.drafts.push(Draft { author: Some(authority.clone()), told, ..draft });
        }
    }
    Ok(())
}

/// Reseals, to the keys that the log has now, the secrets that a member of this home reads. Which readers there are does
/// not change by it.
fn reseal_own(home: &Home, fleet: &mut Fleet, plan: &mut SyncPlan) -> Result<(), OpsError> {
    let mut reseal = plan_reseal(None, home, fleet)?;
    let ours = |d: &Drift| d.missing.is_empty() && !plan.busy.addresses.contains(&d.address);
    // Members whose keys are about to change would make it drift again at once.
    let at_rest = |d: &Drift| d.outdated.iter().all(|m| !plan.busy.members.contains(m));
    reseal.drifted.retain(|d| ours(d) && at_rest(d));
    reseal.stuck.retain(|s| ours(&s.drift) && at_rest(&s.drift));
    plan.stuck.append(&mut reseal.stuck);
    plan.drafts.extend(reseal.drafts("catching up", home, fleet)?);
    Ok(())
}

/// Declares deactivated keys destroyed that nothing needs any more. The private halves go once the log has it, see
/// [`destroy_private`].
fn destroy_unneeded(home: &Home, fleet: &mut Fleet, plan: &mut SyncPlan) -> Result<(), OpsError> {
    let now = fleet.now();
    for member in home.members()? {
        let Some(found) = fleet.state().members.get(&member).filter(|m| m.is_active()) else { continue };
        let mut changes = Vec::new();
        for (&slot, keys) in &found.slots {
            if keys.active().is_none() || keys.standbys().next().is_none() {
                continue;
            }
            let unneeded = |key: &SlotKey| match slot {
                // An operator's may be what a revocation of years ago was sealed to.
                Slot::Openpgp if found.kind == Kind::Operator => false,
                Slot::Openpgp => fleet
                    .state()
                    .live_secrets()
                    .all(|(_, s)| s.readers.get(&member).is_none_or(|k| !k.contains(&key.key))),
                Slot::SshHost => key.ended.is_none_or(|ended| now.since(ended) >= HOST_KEY_STAYS),
                Slot::Sign | Slot::SshUserCa | Slot::SshHostCa | Slot::Log => true,
                // A lane's key is destroyed by publishing the next one for the lane.
                Slot::Wireguard => false,
            };
            let idle = keys
                .keys
                .iter()
                .filter(|k| k.state == KeyState::Deactivated && unneeded(k) && !plan.busy.keys.contains(&k.key));
            changes.extend(idle.map(|k| Destroy { key: k.key.clone(), member: member.clone(), slot }));
        }
        // A statement each, since each member signs its own.
        for part in changes.chunks(CHANGES_MAX) {
            let told = part.iter().map(|c| format!("{}: old {} key destroyed", c.member, c.slot)).collect();
            plan.drafts.push(Draft { told, ..Draft::bare(Act::Destroy(part.to_vec()), "no longer needed") });
        }
    }
    Ok(())
}

/// Destroys the private halves in this home that the log has as destroyed. Gives how many there were.
///
/// # Errors
/// [`OpsError`].
pub fn destroy_private(home: &Home, fleet: &Fleet) -> Result<usize, OpsError> {
    let mut count = 0;
    for member in home.members()? {
        let Some(found) = fleet.state().members.get(&member) else { continue };
        let gone = found.slots.iter().flat_map(|(slot, keys)| {
            keys.keys.iter().filter(|k| k.state == KeyState::Destroyed).map(move |k| (*slot, &k.key))
        });
        let (openpgp, others): (Vec<_>, Vec<_>) = gone.partition(|(slot, _)| slot.is_openpgp());
        for (slot, key) in others {
            count += usize::from(home.destroy_key(&member, slot, key)?);
        }
        let Some(cert) = home.secret_certificate(&member)? else { continue };
        let dead = |f: &Fingerprint| openpgp.iter().any(|(_, key)| **key == f.to_hex());
        let there = cert.keys().subkeys().filter(|k| dead(&k.key().fingerprint())).count();
        if there > 0 {
            home.set_secret_certificate(&member, &cert.retain_subkeys(|k| !dead(&k.key().fingerprint())))?;
            count += there;
        }
    }
    Ok(count)
}

/// Renews certifications that are past half their life: an authority's of PoPs, a PoP's of its services, an operator's of
/// authorities. Also makes those that are missing.
fn renew_certifications(home: &Home, fleet: &mut Fleet, plan: &mut SyncPlan) -> Result<(), OpsError> {
    for (certifier, subject, of) in certifications(home, fleet)? {
        // A member that has a statement on the way is renewed in a later round: both would change its certificate.
        if plan.busy.members.contains(&subject) || !needs_renewal(&certifier, &subject, fleet)? {
            continue;
        }
        match renew(&certifier, &subject, of, home, fleet) {
            Ok(Some(draft)) => {
                let told = vec![format!("{certifier} vouches for {subject} anew")];
                plan.drafts.push(Draft { told, ..draft });
                plan.busy.members.insert(subject);
            }
            Ok(None) => {}
            // A card that is not plugged in, say.
            Err(e) => plan.troubles.push(format!("{certifier} does not vouch for {subject} anew: {e}")),
        }
    }
    Ok(())
}

/// Who of this home vouches for whom, and what the latter is.
fn certifications(home: &Home, fleet: &Fleet) -> Result<Vec<(MemberName, MemberName, Kind)>, OpsError> {
    let mut all = Vec::new();
    for (by, of) in [(Kind::Operator, Kind::Authority), (Kind::Authority, Kind::Pop), (Kind::Pop, Kind::Service)] {
        for certifier in certifiers(home, fleet, by)? {
            let members = fleet.state().members.iter().filter(|(_, m)| m.is_active() && m.kind == of);
            let subjects = members.map(|(n, _)| n).filter(|n| of != Kind::Service || n.owner() == certifier);
            all.extend(subjects.map(|n| (certifier.clone(), n.clone(), of)));
        }
    }
    Ok(all)
}

fn needs_renewal(certifier: &MemberName, subject: &MemberName, fleet: &mut Fleet) -> Result<bool, OpsError> {
    let (public, certificate) = (fleet.certificate(certifier)?, fleet.certificate(subject)?);
    // Nobody vouches for what has expired; its owner has to renew it first.
    if certificate.alive(fleet.now()).is_err() {
        return Ok(false);
    }
    let state = fleet.state();
    let kind = state.members.get(subject).map_or(Kind::Service, |m| m.kind);
    let validity = state.policy.policy.fleet.certifications.of(kind);
    let since = certificate.certified_since(&public.fingerprint());
    Ok(since.is_none_or(|since| fleet.now().since(since).0 >= validity.0 / 2))
}

fn renew(
    certifier: &MemberName,
    subject: &MemberName,
    of: Kind,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Option<Draft>, OpsError> {
    let (public, certificate) = (fleet.certificate(certifier)?, fleet.certificate(subject)?);
    let Some(mut signer) = signing_key(home, certifier, &public, &public.fingerprint())? else { return Ok(None) };
    let (state, now) = (fleet.state(), fleet.now());
    let policy = &state.policy.policy.fleet;
    let grant = match of {
        Kind::Authority => {
            Grant::Authority { fleet: state.fleet.clone(), amount: openpgp::amount_for(policy.vouching_operators) }
        }
        Kind::Pop => Grant::Pop { fleet: state.fleet.clone(), pop: subject.host_label().clone() },
        Kind::Service | Kind::Operator => Grant::Service,
    };
    let new = certify(&certificate, &grant, signer.as_mut(), policy.certifications.of(of), now)?;
    let found = state.members.get(subject).ok_or_else(|| OpsError::NoMember(subject.clone()))?;
    let change =
        Certify { cert: new.digest(), generation: found.generation + 1, member: subject.clone(), prev: found.prev };
    let draft = Draft::with(Act::Certify(vec![change]), "renewed at half its life", vec![new.bytes().to_vec()]);
    // Only who signs may replace her own word by a newer one.
    Ok(Some(Draft { author: Some(certifier.clone()), ..draft }))
}
