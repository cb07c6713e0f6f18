//! Keys of members: published, vouched for, activated, destroyed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::enroll::check_key;
use super::fold::{Context, Objects, Replay, Stop};
use super::{KeyState, Member, PublicKey, SlotKey, State, Void};
use crate::name::{ActName, MemberName, Slot};
use crate::openpgp::{Certificate, Fingerprint, material};
use crate::policy::Case;
use crate::policy::ssh::CaKey;
use crate::statement::{Activate, Certify, Destroy, Publish, PublishedKey, Rekey};
use crate::time::Time;

impl<O: Objects> Replay<O> {
    pub(super) fn publish(&mut self, change: &Publish, context: &Context<'_>) -> Result<(), Stop> {
        let name = &change.member;
        let member = self.active_member(name)?;
        let (kind, old, generation, prev) = (member.kind, member.cert, member.generation, member.prev);
        self.state_ref()?.fresh(name, (generation, &prev), (change.generation, &change.prev))?;
        self.quorum(ActName::Publish, None, Some((name, false)), context)?;
        let certificate = self.certificate(name, &change.cert.unwrap_or(old))?;
        let bad_certificate = |problem| Void::Certificate { member: name.clone(), problem };
        let mut expires = self.active_member(name)?.cert_expires;
        if change.cert.is_some() {
            expires = self.state_ref()?.check_certificate(name, kind, &certificate, context.time)?;
            let old = self.certificate(name, &old)?;
            certificate.succeeds(&old, &BTreeSet::new()).map_err(bad_certificate)?;
            check_keys_kept(name, self.active_member(name)?, &certificate)?;
        }
        let state = self.state_ref()?;
        let mut fresh = Vec::new();
        for (i, key) in change.keys.iter().enumerate() {
            if change.keys.iter().take(i).any(|k| k.slot == key.slot) {
                let problem = format!("two new {} keys at once; one standby is enough", key.slot);
                return Err(Void::Slots { member: name.clone(), problem }.into());
            }
            if is_widened(name, self.active_member(name)?, key)? {
                continue;
            }
            check_published(name, self.active_member(name)?, key)?;
            self.check_ca_place(name, key)?;
            check_key(name, key.slot, &key.key, &certificate, context.time)?;
            let digest = PublicKey::parse(key.slot, &key.key).ok().and_then(|k| k.material(&certificate));
            fresh.extend(digest.map(|d| (key.slot, d)));
        }
        let mut materials = state.unused(name, &fresh)?;
        // Whatever else is new in the certificate counts as used from now on, too.
        let others = certificate.cert().keys().map(|k| material(k.key())).filter(|d| !state.material.contains_key(d));
        materials.extend(others.collect::<Vec<_>>());
        let state = self.state_mut()?;
        for digest in materials {
            state.material.insert(digest, name.clone());
        }
        for key in change.keys.iter().filter(|k| k.slot == Slot::Sign) {
            state.signing.insert(key.key.clone(), change.cert.unwrap_or(old));
        }
        let member = state.members.get_mut(name).map(Arc::make_mut).ok_or_else(|| Void::NoMember(name.clone()))?;
        for key in &change.keys {
            add_standby(member, key, context.time);
        }
        (member.cert, member.cert_expires) = (change.cert.unwrap_or(old), expires);
        (member.generation, member.prev) = (change.generation, context.id);
        Ok(())
    }

    pub(super) fn certify(&mut self, change: &Certify, context: &Context<'_>) -> Result<(), Stop> {
        let name = &change.member;
        let member = self.active_member(name)?;
        let (kind, old, generation, prev) = (member.kind, member.cert, member.generation, member.prev);
        self.state_ref()?.fresh(name, (generation, &prev), (change.generation, &change.prev))?;
        self.quorum(ActName::Certify, Some(Case::of_kind(kind)), Some((name, false)), context)?;
        let (new, old) = (self.certificate(name, &change.cert)?, self.certificate(name, &old)?);
        let bad_certificate = |problem| Void::Certificate { member: name.clone(), problem };
        let expires = self.state_ref()?.check_certificate(name, kind, &new, context.time)?;
        let signers: BTreeSet<Fingerprint> = context
            .signers
            .iter()
            .filter_map(|s| Some(self.state_ref().ok()?.members.get(s)?.fingerprint.clone()))
            .collect();
        new.succeeds(&old, &signers).map_err(bad_certificate)?;
        check_keys_kept(name, self.active_member(name)?, &new)?;
        let member =
            self.state_mut()?.members.get_mut(name).map(Arc::make_mut).ok_or_else(|| Void::NoMember(name.clone()))?;
        (member.cert, member.cert_expires) = (change.cert, expires);
        (member.generation, member.prev) = (change.generation, context.id);
        Ok(())
    }

    pub(super) fn activate(&mut self, change: &Activate, context: &Context<'_>) -> Result<(), Stop> {
        let (name, slot) = (&change.member, change.slot);
        if slot == Slot::Log {
            // Whoever holds the log's key can show two people two logs; it changes by an act of its own, under root's quorum.
            return Err(Void::Slots {
                member: name.clone(),
                problem: "a log key, which key.activate does not change".to_owned(),
            }
            .into());
        }
        let keys = self.active_member(name)?.slot(slot).ok_or_else(|| no_key(name, slot))?;
        let (generation, prev) = (keys.generation, keys.prev);
        let found = keys.find(&change.key).map(|k| k.state);
        let active_since = keys.active().and_then(|k| k.activated);
        self.state_ref()?.fresh(
            format_args!("{name} {slot}"),
            (generation, &prev),
            (change.generation, &change.prev),
        )?;
        if found != Some(KeyState::PreActive) {
            let found = found.map_or_else(|| "unknown".to_owned(), |s| s.to_string());
            return Err(Void::Transition { member: name.clone(), slot, found, needed: KeyState::PreActive }.into());
        }
        let period = self.state_ref()?.policy.policy.fleet.cryptoperiod(slot);
        let due = active_since.is_none_or(|since| context.time >= since.plus(period));
        let case = if due { Case::Scheduled } else { Case::Unscheduled };
        self.quorum(ActName::Activate, Some(case), Some((name, false)), context)?;
        let state = self.state_mut()?;
        let member = state.members.get_mut(name).map(Arc::make_mut).ok_or_else(|| Void::NoMember(name.clone()))?;
        let keys = member.slots.get_mut(&slot).ok_or_else(|| no_key(name, slot))?;
        for key in keys.keys.iter_mut().filter(|k| k.state == KeyState::Active) {
            (key.state, key.ended) = (KeyState::Deactivated, Some(context.time));
        }
        if let Some(key) = keys.find_mut(&change.key) {
            (key.state, key.activated) = (KeyState::Active, Some(context.time));
        }
        (keys.generation, keys.prev) = (change.generation, context.id);
        Ok(())
    }

    /// The log's key changes: root's business, whenever it is due.
    pub(super) fn rekey(&mut self, change: &Rekey, context: &Context<'_>) -> Result<(), Stop> {
        let (name, slot) = (&change.member, Slot::Log);
        let keys = self.active_member(name)?.slot(slot).ok_or_else(|| no_key(name, slot))?;
        let (generation, prev) = (keys.generation, keys.prev);
        let found = keys.find(&change.key).map(|k| k.state);
        self.state_ref()?.fresh(
            format_args!("{name} {slot}"),
            (generation, &prev),
            (change.generation, &change.prev),
        )?;
        if found != Some(KeyState::PreActive) {
            let found = found.map_or_else(|| "unknown".to_owned(), |s| s.to_string());
            return Err(Void::Transition { member: name.clone(), slot, found, needed: KeyState::PreActive }.into());
        }
        self.quorum(ActName::Rekey, None, None, context)?;
        let ended = if change.why.burns() { KeyState::Compromised } else { KeyState::Deactivated };
        let member =
            self.state_mut()?.members.get_mut(name).map(Arc::make_mut).ok_or_else(|| Void::NoMember(name.clone()))?;
        let keys = member.slots.get_mut(&slot).ok_or_else(|| no_key(name, slot))?;
        for key in keys.keys.iter_mut().filter(|k| k.state == KeyState::Active) {
            (key.state, key.ended) = (ended, Some(context.time));
        }
        if let Some(key) = keys.find_mut(&change.key) {
            (key.state, key.activated) = (KeyState::Active, Some(context.time));
        }
        (keys.generation, keys.prev) = (change.generation, context.id);
        Ok(())
    }

    pub(super) fn destroy(&mut self, change: &Destroy, context: &Context<'_>) -> Result<(), Stop> {
        let (name, slot) = (&change.member, change.slot);
        let found = self.active_member(name)?.slot(slot).and_then(|k| k.find(&change.key)).map(|k| k.state);
        if found != Some(KeyState::Deactivated) {
            let found = found.map_or_else(|| "unknown".to_owned(), |s| s.to_string());
            return Err(Void::Transition { member: name.clone(), slot, found, needed: KeyState::Deactivated }.into());
        }
        self.quorum(ActName::Destroy, None, Some((name, false)), context)?;
        let member = self.state_mut()?.members.get_mut(name).map(Arc::make_mut);
        if let Some(key) = member.and_then(|m| m.slots.get_mut(&slot)).and_then(|k| k.find_mut(&change.key)) {
            (key.state, key.ended) = (KeyState::Destroyed, Some(context.time));
        }
        Ok(())
    }

    pub(super) fn active_member(&self, name: &MemberName) -> Result<&Member, Stop> {
        Ok(self.state_ref()?.active_member(name)?)
    }
}

impl State {
    /// The member of that name, if it has not left.
    ///
    /// # Errors
    /// [`Void::NoMember`].
    pub fn active_member(&self, name: &MemberName) -> Result<&Member, Void> {
        self.members
            .get(name)
            .map(AsRef::as_ref)
            .filter(|m: &&Member| m.is_active())
            .ok_or_else(|| Void::NoMember(name.clone()))
    }
}

fn no_key(name: &MemberName, slot: Slot) -> Void {
    Void::Slots { member: name.clone(), problem: format!("no slot {slot}") }
}

/// A certificate's new version must not lose a subkey that is active or standby.
fn check_keys_kept(name: &MemberName, member: &Member, certificate: &Certificate) -> Result<(), Void> {
    for (&slot, keys) in member.slots.iter().filter(|(slot, _)| slot.is_openpgp()) {
        for key in keys.usable() {
            let there = PublicKey::parse(slot, &key.key).ok().is_some_and(|k| k.material(certificate).is_some());
            if !there {
                return Err(Void::Key {
                    member: name.clone(),
                    slot,
                    key: key.key.clone(),
                    problem: "is missing from the certificate's new version".to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Whether this is a lane's standby that is there already, with its first exchange or one that reaches more peers. It carries
/// nothing yet, so the preshared keys that follow are changed on a lane that is not in use.
fn is_widened(name: &MemberName, member: &Member, key: &PublishedKey) -> Result<bool, Void> {
    let there = member.slot(key.slot).and_then(|keys| keys.find(&key.key));
    let Some(there) = there.filter(|k| key.slot == Slot::Wireguard && k.state == KeyState::PreActive) else {
        return Ok(false);
    };
    if there.lane == key.lane && key.exchange.is_some() && there.exchange != key.exchange {
        return Ok(true);
    }
    Err(Void::Slots { member: name.clone(), problem: "its standby already, with nothing new".to_owned() })
}

impl<O: Objects> Replay<O> {
    /// Where the policy says that a CA's keys lie in an agent, and which, no other key becomes one.
    fn check_ca_place(&self, name: &MemberName, key: &PublishedKey) -> Result<(), Void> {
        let Some(state) = self.state() else { return Ok(()) };
        let Some(CaKey::Agent(fingerprints)) = state.policy.policy.ssh.ca_key(key.slot) else { return Ok(()) };
        match PublicKey::parse(key.slot, &key.key) {
            Ok(PublicKey::Ssh(public)) if fingerprints.contains(&public.fingerprint()) => Ok(()),
            _ => Err(Void::Slots {
                member: name.clone(),
                problem: format!("a {} key that policy/ssh.toml does not name", key.slot),
            }),
        }
    }
}

fn check_published(name: &MemberName, member: &Member, key: &PublishedKey) -> Result<(), Void> {
    let slots = |problem: String| Err(Void::Slots { member: name.clone(), problem });
    let Some(keys) = member.slot(key.slot) else { return slots(format!("no slot {}", key.slot)) };
    if keys.standbys().next().is_some() {
        return slots(format!("a standby {} key already", key.slot));
    }
    if key.exchange.is_some() && key.slot != Slot::Wireguard {
        return slots("a preshared-key exchange where there are no lanes".to_owned());
    }
    match (key.slot, key.lane) {
        (Slot::Wireguard, None) => slots("a WireGuard key without a lane".to_owned()),
        (Slot::Wireguard, Some(lane)) if keys.active().is_some_and(|k| k.lane == Some(lane)) => {
            slots(format!("its active key on lane {lane}; the new one belongs on the other"))
        }
        (Slot::Wireguard, Some(_)) => Ok(()),
        (Slot::Openpgp | Slot::Sign | Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa | Slot::Log, Some(_)) => {
            slots("a lane where there are none".to_owned())
        }
        (Slot::Openpgp | Slot::Sign | Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa | Slot::Log, None) => Ok(()),
    }
}

/// Adds a standby. On a WireGuard lane it replaces the key that was there, which its owner no longer has.
fn add_standby(member: &mut Member, key: &PublishedKey, now: Time) {
    let Some(keys) = member.slots.get_mut(&key.slot) else { return };
    if let Some(there) = keys.find_mut(&key.key) {
        there.exchange = key.exchange;
        return;
    }
    if key.lane.is_some() {
        for old in keys.keys.iter_mut().filter(|k| k.lane == key.lane && k.state == KeyState::Deactivated) {
            (old.state, old.ended) = (KeyState::Destroyed, Some(now));
        }
    }
    keys.keys.push(SlotKey {
        key: key.key.clone(),
        state: KeyState::PreActive,
        lane: key.lane,
        exchange: key.exchange,
        published: now,
        activated: None,
        ended: None,
    });
}
