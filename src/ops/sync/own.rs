//! A member's own keys and certificate: the standby keys that it lacks, and what brings its certificate into line with the log.

use std::collections::BTreeSet;

use rand::CryptoRng;

use super::SyncPlan;
use crate::enrolment::private_key;
use crate::fleet::{Draft, Fleet};
use crate::home::Home;
use crate::limits::FUTURE_SECONDS_MAX;
use crate::log::note::SignerKey;
use crate::name::{Kind, MemberName, Slot};
use crate::openpgp::{self, Certificate, Fingerprint, Use};
use crate::ops::OpsError;
use crate::ops::join::OPERATOR_VALIDITY;
use crate::policy::ssh::CaKey;
use crate::ssh::SshPrivateKey;
use crate::state::{KeyState, Member, SlotKeys};
use crate::statement::{Act, Publish, PublishedKey};
use crate::time::{Span, Time};
use crate::wireguard::{Lane, WgPrivateKey};

/// How many destroyed signing subkeys a certificate goes on showing.
const PAST_SIGNING_KEYS: usize = 4;

/// Whether a new standby may be published now. A lane's key goes when the next one is published: not before the agent that
/// watches the lane has seen it drained. Where none has ever watched, no lane is in use.
pub(super) fn may_replace(member: &MemberName, slot: Slot, keys: &SlotKeys, home: &Home) -> Result<bool, OpsError> {
    if slot != Slot::Wireguard {
        return Ok(true);
    }
    let Some(drained) = home.drained(member)? else { return Ok(true) };
    // Of the past keys on a lane the last is the one that is there; those before it are destroyed.
    Ok(keys.keys.iter().all(|k| k.state != KeyState::Deactivated || k.key == drained))
}

/// The public half of a new standby key, if the slot lacks one; its private half is in the home then.
pub(super) fn missing_standby(
    member: &MemberName,
    slot: Slot,
    home: &Home,
    fleet: &Fleet,
    rng: &mut impl CryptoRng,
) -> Result<Option<PublishedKey>, OpsError> {
    let keys = fleet.state().members.get(member).and_then(|m| m.slot(slot));
    let Some(keys) = keys.filter(|k| k.standbys().next().is_none()) else { return Ok(None) };
    if !may_replace(member, slot, keys, home)? {
        return Ok(None);
    }
    let lane = match slot {
        Slot::Wireguard => Some(keys.active().and_then(|k| k.lane).map_or(Lane::A, Lane::other)),
        Slot::Openpgp | Slot::Sign | Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa | Slot::Log => None,
    };
    let key = match unpublished(member, slot, keys, home)? {
        Some(public) => public,
        None if let Some(CaKey::Agent(fingerprints)) = fleet.state().policy.policy.ssh.ca_key(slot) => {
            match from_agent(fingerprints, keys, home) {
                Some(public) => public,
                None => return Ok(None),
            }
        }
        None => {
            let Some(made) = private_key(slot, lane, member, fleet.log(), rng) else { return Ok(None) };
            home.set_key(member, &made)?;
            made.public
        }
    };
    Ok(Some(PublishedKey { exchange: None, key, lane, slot }))
}

/// The first of the keys that the policy names which the agent has, and which the log does not know yet.
pub(super) fn from_agent(fingerprints: &[String], keys: &SlotKeys, home: &Home) -> Option<String> {
    let there = home.ssh_agent()?.keys().ok()?;
    let found = fingerprints.iter().filter_map(|f| there.iter().find(|k| k.fingerprint() == *f));
    found.map(ToString::to_string).find(|key| keys.find(key).is_none())
}

/// A key in the home that the log does not know: made by a run that was interrupted.
pub(super) fn unpublished(
    member: &MemberName,
    slot: Slot,
    keys: &SlotKeys,
    home: &Home,
) -> Result<Option<String>, OpsError> {
    for file in home.key_files(member, slot)? {
        let public = match slot {
            Slot::Wireguard => WgPrivateKey::from_file_text(&file).ok().map(|k| k.public().to_string()),
            Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa => {
                SshPrivateKey::from_openssh(&file).ok().map(|k| k.public().to_string())
            }
            Slot::Log => SignerKey::from_private_text(&file).ok().map(|k| k.verifier().to_string()),
            Slot::Openpgp | Slot::Sign => None,
        };
        if let Some(public) = public.filter(|p| keys.find(p).is_none()) {
            return Ok(Some(public));
        }
    }
    Ok(None)
}

/// Publishes new keys, with the exchanges that go with them, and a certificate whose bindings are those of the log.
pub(super) fn publish(
    member: &MemberName,
    kind: Kind,
    (mut keys, mut objects): (Vec<PublishedKey>, Vec<Vec<u8>>),
    home: &Home,
    fleet: &mut Fleet,
    plan: &mut SyncPlan,
) -> Result<(), OpsError> {
    let public = fleet.certificate(member)?;
    let (profile, now) = (fleet.state().policy.policy.fleet.profile, fleet.now());
    let secret =
        home.secret_certificate(member)?.ok_or(OpsError::KeyElsewhere { member: member.clone(), slot: Slot::Sign })?;
    // What was made while this machine's clock was ahead is kept, and not built upon before its time.
    let latest = now.plus(Span(FUTURE_SECONDS_MAX));
    let is_born = |born: std::time::SystemTime| Time::from_system(born) <= latest;
    let mut secret = openpgp::without_later(secret, latest)?;
    let found = fleet.state().members.get(member).cloned().ok_or_else(|| OpsError::NoMember(member.clone()))?;
    let mut wanted: Vec<(Fingerprint, Use)> = bindings(&found).collect();
    for &slot in Slot::of(kind).iter().filter(|s| s.is_openpgp()) {
        let Some(slot_keys) = found.slot(slot) else { continue };
        if slot_keys.standbys().next().is_none() {
            let known: Vec<Fingerprint> = secret_subkeys(&public);
            let spare = secret
                .keys()
                .subkeys()
                .map(|k| k.key().clone())
                .filter(|k| is_born(k.creation_time()) && !known.contains(&k.fingerprint()))
                .find(|k| (slot == Slot::Sign) == k.pk_algo().for_signing());
            let fingerprint = match spare {
                Some(key) => key.fingerprint(),
                None => {
                    // Kept unbound for the moment: it is bound together with the rest below, once.
                    let (with_new, fingerprint) = openpgp::add_subkey(secret, kind, slot, profile, now)?;
                    secret = with_new;
                    home.set_secret_certificate(member, &secret)?;
                    fingerprint
                }
            };
            keys.push(PublishedKey { exchange: None, key: fingerprint.to_hex(), lane: None, slot });
            wanted.push((fingerprint, Use::Standby));
        }
    }
    let states = openpgp::subkey_states(public.cert(), &fleet.state().fleet);
    // Only what is not as the log says is bound anew.
    wanted.retain(|(f, usage)| !states.iter().any(|(s, word)| s == f && word == usage.word()));
    let validity = validity(kind, fleet);
    let ageing = is_ageing(kind, found.cert_expires, fleet);
    let in_line = wanted.is_empty() && !ageing;
    if keys.is_empty() && in_line {
        return Ok(());
    }
    let mut cert = None;
    let mut not_before = now;
    if !in_line {
        // The public certificate has others' certifications, the home's has the secrets: both are wanted.
        let whole =
            public.cert().clone().merge_public_and_secret(secret).map_err(|e| OpsError::Impossible(e.to_string()))?;
        // Destroyed keys leave the certificate, or it would grow for ever. The newest signing keys stay a while longer, so
        // that gpg can verify what they signed; we find them in the versions of the certificate that the log has.
        let slot_keys = |slot| {
            let keys = fleet.state().members.get(member).and_then(|m| m.slot(slot)).into_iter().flat_map(|s| &s.keys);
            keys.filter(|k| k.state == KeyState::Destroyed).map(|k| k.key.clone()).collect::<Vec<_>>()
        };
        let signing = slot_keys(Slot::Sign);
        let past = signing.len().saturating_sub(PAST_SIGNING_KEYS);
        let gone: BTreeSet<String> =
            slot_keys(Slot::Openpgp).into_iter().chain(signing.into_iter().take(past)).collect();
        let whole = whole.retain_subkeys(|k| !gone.contains(&k.key().fingerprint().to_hex()));
        let bound = openpgp::rebind(whole, &wanted, &fleet.state().fleet, now)?;
        let rebound = if ageing { openpgp::extend(bound, validity, now)? } else { bound };
        let public = rebound.clone().retain_subkeys(|k| is_born(k.key().creation_time()));
        let new =
            Certificate::of(&public).map_err(|problem| OpsError::Certificate { member: member.clone(), problem })?;
        home.set_secret_certificate(member, &rebound)?;
        // Bindings are dated after those they replace, which may be a second ahead: the statement must not be older.
        not_before = now.max(new.newest_self_signature());
        cert = Some(new.digest());
        objects.push(new.bytes().to_vec());
    }
    let is_known = |key: &PublishedKey| found.slot(key.slot).is_some_and(|keys| keys.find(&key.key).is_some());
    let tell = |key: &PublishedKey| match is_known(key) {
        true => format!("{member}: preshared keys with further peers on its {} standby", key.slot),
        false => format!("{member}: new {} standby", key.slot),
    };
    let mut told: Vec<String> = keys.iter().map(tell).collect();
    if ageing {
        told.push(format!("{member}: certificate renewed for {validity}"));
    } else if cert.is_some() {
        told.push(format!("{member}: certificate brought into line with the log"));
    }
    let change = Publish { cert, generation: found.generation + 1, keys, member: member.clone(), prev: found.prev };
    plan.busy.members.insert(member.clone());
    plan.drafts.push(Draft { not_before, told, ..Draft::with(Act::Publish(vec![change]), "catching up", objects) });
    Ok(())
}

/// The use that the log has for each subkey of a member.
pub(super) fn bindings(member: &Member) -> impl Iterator<Item = (Fingerprint, Use)> {
    let openpgp = member.slots.iter().filter(|(slot, _)| slot.is_openpgp());
    let keys = openpgp.flat_map(|(slot, keys)| keys.keys.iter().map(move |k| (*slot, k)));
    keys.filter_map(|(slot, k)| Some((Fingerprint::from_hex(&k.key).ok()?, use_of(slot, k.state)?)))
}

/// How long a certificate of this kind lives.
pub(super) fn validity(kind: Kind, fleet: &Fleet) -> Span {
    match kind {
        Kind::Operator => OPERATOR_VALIDITY,
        Kind::Authority | Kind::Pop | Kind::Service => fleet.state().policy.policy.fleet.certificates.of(kind),
    }
}

/// Whether a certificate is past half its life.
pub(super) fn is_ageing(kind: Kind, expires: Option<Time>, fleet: &Fleet) -> bool {
    expires.is_some_and(|e| e.since(fleet.now()).0 < validity(kind, fleet).0 / 2)
}

pub(super) fn secret_subkeys(public: &Certificate) -> Vec<Fingerprint> {
    public.cert().keys().subkeys().map(|k| k.key().fingerprint()).collect()
}

/// What a key in this state is for; none for one that is gone.
pub(super) fn use_of(slot: Slot, state: KeyState) -> Option<Use> {
    match state {
        KeyState::Active => Some(Use::active(slot)),
        KeyState::PreActive => Some(Use::Standby),
        KeyState::Deactivated => Some(Use::past(slot)),
        KeyState::Compromised | KeyState::Destroyed => None,
    }
}
