//! Questions to the state: who reads what, what is due, what has drifted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{KeyState, LiveSecret, Member, SlotKeys, State};
use crate::log::note::VerifierKey;
use crate::name::{Address, Glob, Kind, MemberName, Scope, Slot};
use crate::time::{Span, Time};

/// Why an address has no readers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadersError {
    /// Its owner is no member.
    #[error("{0} is not a member, or has left")]
    NoOwner(MemberName),
    /// Its owner has no keys to seal to.
    #[error("{0} is an {1}; secrets belong to PoPs and services")]
    Kind(MemberName, Kind),
    /// It is shared, and the policy does not say so.
    #[error("it would be shared between PoPs, which policy/secrets.toml does not declare for it (shared = true)")]
    NotShared,
    /// A rule gives a reader elsewhere, and the policy does not call it shared.
    #[error("policy/secrets.toml gives {0}, on another PoP, as a reader without declaring it shared (shared = true)")]
    ReaderElsewhere(MemberName),
    /// Its owner has not shown that it has its keys.
    #[error("{0} has joined and has not yet shown that it has its keys: its next 'keys bootstrap' or 'keys sync' does")]
    Unconfirmed(MemberName),
    /// Nobody is left.
    #[error("nobody would be able to read it")]
    Nobody,
}

/// A slot whose rotation is due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Whose.
    pub member: MemberName,
    /// The slot.
    pub slot: Slot,
    /// Since when; in the future for one that is not yet due.
    pub since: Time,
}

/// A secret whose recipients are not those of policy and log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Which.
    pub address: Address,
    /// Readers that it lacks.
    pub missing: BTreeSet<MemberName>,
    /// Readers that it should not have.
    pub surplus: BTreeSet<MemberName>,
    /// Readers whose keys have changed.
    pub outdated: BTreeSet<MemberName>,
}

impl State {
    /// To whom the secret at `address` may be sealed: whoever may read it, and has shown that it has its keys.
    ///
    /// # Errors
    /// [`ReadersError`].
    pub fn readers(&self, address: &Address) -> Result<BTreeSet<MemberName>, ReadersError> {
        let mut readers = self.readers_by_policy(address)?;
        let is_waited_for = |name: &MemberName| self.members.get(name).is_some_and(|m| !m.may_read());
        if let Scope::Member(owner) = address.scope()
            && is_waited_for(owner)
        {
            return Err(ReadersError::Unconfirmed(owner.clone()));
        }
        readers.retain(|name| !is_waited_for(name));
        if readers.is_empty() { Err(ReadersError::Nobody) } else { Ok(readers) }
    }

    /// Who may read the secret at `address`, by policy and membership.
    ///
    /// # Errors
    /// [`ReadersError`].
    pub fn readers_by_policy(&self, address: &Address) -> Result<BTreeSet<MemberName>, ReadersError> {
        let rule = self.policy.policy.secrets.rule(address);
        if address.is_shared() && !rule.is_some_and(|r| r.shared) {
            return Err(ReadersError::NotShared);
        }
        let active = || self.members.iter().filter(|(_, m)| m.is_active());
        let pops = || active().filter(|(_, m)| m.kind == Kind::Pop).map(|(n, _)| n.clone());
        let mut readers: BTreeSet<MemberName> = match address.scope() {
            Scope::Member(owner) => {
                let member = self.active_member(owner).map_err(|_| ReadersError::NoOwner(owner.clone()))?;
                if !matches!(member.kind, Kind::Pop | Kind::Service) {
                    return Err(ReadersError::Kind(owner.clone(), member.kind));
                }
                [owner.clone()].into()
            }
            Scope::SharedService(service) => {
                active().filter(|(n, _)| n.service_label() == Some(service)).map(|(n, _)| n.clone()).collect()
            }
            Scope::Shared => pops().collect(),
        };
        if let Some(rule) = rule {
            for (name, _) in
                active().filter(|(n, m)| matches!(m.kind, Kind::Pop | Kind::Service) && matches_any(&rule.readers, n))
            {
                if !rule.shared && readers.iter().all(|r| r.owner() != name.owner()) {
                    return Err(ReadersError::ReaderElsewhere(name.clone()));
                }
                readers.insert(name.clone());
            }
        }
        if !rule.is_some_and(|r| r.write_only) {
            readers.extend(self.recovery_operators());
        }
        if readers.is_empty() { Err(ReadersError::Nobody) } else { Ok(readers) }
    }

    /// The operators who can read every secret that is not `write_only`.
    pub fn recovery_operators(&self) -> BTreeSet<MemberName> {
        let patterns = &self.policy.policy.secrets.recovery.operators;
        let operators = self.members.iter().filter(|(_, m)| m.is_active() && m.kind == Kind::Operator);
        operators
            .filter(|(n, m)| matches_any(patterns, n) && m.slot(Slot::Openpgp).is_some_and(|s| s.active().is_some()))
            .map(|(n, _)| n.clone())
            .collect()
    }

    /// Every secret that is not removed.
    pub fn live_secrets(&self) -> impl Iterator<Item = (&Address, &LiveSecret)> {
        self.secrets.iter().filter_map(|(a, s)| s.live.as_ref().map(|live| (a, live)))
    }

    /// The secret at `address`, if there is one.
    pub fn live_secret(&self, address: &Address) -> Option<&LiveSecret> {
        self.secrets.get(address).and_then(|s| s.live.as_ref())
    }

    /// Secrets that `member` can read now, and those whose current value it ever could.
    pub fn reach(&self, member: &MemberName) -> (BTreeSet<&Address>, BTreeSet<&Address>) {
        let now = self.live_secrets().filter(|(_, s)| s.readers.contains_key(member)).map(|(a, _)| a).collect();
        let ever = self.live_secrets().filter(|(_, s)| s.exposed.contains(member)).map(|(a, _)| a).collect();
        (now, ever)
    }

    /// How the recipients of a live secret differ from what policy and log say now; `None` if they do not.
    pub fn drift(&self, address: &Address, secret: &LiveSecret) -> Option<Drift> {
        let wanted = match self.readers(address) {
            // It is known in a moment; until then nobody loses anything by it.
            Err(ReadersError::Unconfirmed(_)) => return None,
            other => other.unwrap_or_default(),
        };
        let has: BTreeSet<MemberName> = secret.readers.keys().cloned().collect();
        let outdated = has
            .intersection(&wanted)
            .filter(|r| !self.encryption_keys(r).eq(secret.readers.get(*r).into_iter().flatten().map(String::as_str)))
            .cloned()
            .collect();
        let drift = Drift {
            address: address.clone(),
            missing: wanted.difference(&has).cloned().collect(),
            surplus: has.difference(&wanted).cloned().collect(),
            outdated,
        };
        (!drift.missing.is_empty() || !drift.surplus.is_empty() || !drift.outdated.is_empty()).then_some(drift)
    }

    /// When a live secret's new value is due by the policy, if the policy says so.
    pub fn renewal_due(&self, address: &Address, secret: &LiveSecret) -> Option<Time> {
        Some(secret.sealed.plus(self.policy.policy.secrets.rule(address)?.rotate?))
    }

    /// Every slot with an active key, and when its rotation is due.
    pub fn rotations(&self) -> impl Iterator<Item = Due> {
        let slots = self
            .members
            .iter()
            .filter(|(_, m)| m.is_active())
            .flat_map(|(n, m)| m.slots.iter().map(move |(s, k)| (n, *s, k)));
        slots.filter_map(|(name, slot, keys)| {
            let since = keys.active()?.activated?.plus(self.policy.policy.fleet.cryptoperiod(slot));
            Some(Due { member: name.clone(), slot, since })
        })
    }

    /// Slots of active members without a standby key.
    pub fn missing_standbys(&self) -> impl Iterator<Item = (&MemberName, Slot)> {
        let lacks = |(slot, keys): (&Slot, &SlotKeys)| keys.standbys().next().is_none().then_some(*slot);
        self.members
            .iter()
            .filter(|(_, m)| m.is_active())
            .flat_map(move |(n, m)| m.slots.iter().filter_map(lacks).map(move |s| (n, s)))
    }

    /// The services of a PoP that have not left.
    pub fn services(&self, pop: &MemberName) -> impl Iterator<Item = (&MemberName, &Member)> {
        let own = move |(n, m): &(&MemberName, &Member)| m.is_active() && n.is_service() && n.owner() == *pop;
        self.members.iter().map(|(n, m)| (n, m.as_ref())).filter(own)
    }

    /// The active authorities' keys of a slot that are active or standby.
    pub fn authority_keys(&self, slot: Slot) -> Vec<(&MemberName, &super::SlotKey)> {
        let authorities = self.members.iter().filter(|(_, m)| m.is_active() && m.kind == Kind::Authority);
        authorities
            .flat_map(|(n, m)| m.slot(slot).into_iter().flat_map(SlotKeys::usable).map(move |k| (n, k)))
            .collect()
    }

    /// The keys that may sign what is published now: the log key of every authority, also of one that has left with the
    /// newest entry, for somebody had to publish that. It publishes nothing after it.
    pub fn log_keys(&self) -> Vec<VerifierKey> {
        let newest = |left: u64| left.saturating_add(1) >= self.size;
        let holders = self.members.values().filter(|m| m.left_by.is_none_or(newest));
        let keys = holders.filter_map(|m| m.slot(Slot::Log)?.keys.iter().rev().find(|k| k.activated.is_some()));
        keys.filter_map(|k| VerifierKey::parse(&k.key).ok()).collect()
    }

    /// The keys that may sign a commit after this: those, and the standbys that one of its entries may put in their place.
    pub fn commit_keys(&self) -> Vec<VerifierKey> {
        let standbys = self.authority_keys(Slot::Log).into_iter().filter_map(|(_, k)| VerifierKey::parse(&k.key).ok());
        self.log_keys().into_iter().chain(standbys).collect()
    }

    /// The CA keys of a slot that machines have to trust at `at`: those that are active or standby, and those replaced
    /// since, or of an authority that has retired, as long as a certificate that the log lets them sign is good. Those of
    /// an authority in wrong hands are never among them. Those that sign users' certificates include the policy's
    /// break-glass keys.
    pub fn trusted_cas(&self, slot: Slot, at: Time) -> BTreeSet<&str> {
        let good = self.issued.iter().filter(|(serial, issued)| {
            issued.certificate.fields().valid_before > at && !self.revoked_serials.contains(*serial)
        });
        let in_use: BTreeSet<String> = good.map(|(_, issued)| issued.certificate.fields().ca.to_string()).collect();
        let honest = |m: &&Arc<Member>| m.kind == Kind::Authority && m.retired.is_none_or(|(_, why)| !why.burns());
        let keys = self.members.values().filter(honest).flat_map(|m| m.slot(slot)).flat_map(|s| &s.keys);
        let trusted = keys.filter(|k| match k.state {
            KeyState::PreActive | KeyState::Active => true,
            KeyState::Deactivated | KeyState::Destroyed => in_use.contains(&k.key),
            KeyState::Compromised => false,
        });
        let break_glass = self.policy.policy.ssh.break_glass.iter().filter(|_| slot == Slot::SshUserCa);
        let break_glass = break_glass.flat_map(|b| &b.keys).map(String::as_str);
        trusted.map(|k| k.key.as_str()).chain(break_glass).collect()
    }

    /// Members with a given key state anywhere, for reports: how many keys of each state there are.
    pub fn key_counts(&self) -> BTreeMap<KeyState, usize> {
        let keys = self.members.values().flat_map(|m| m.slots.values()).flat_map(|s| &s.keys);
        keys.fold(BTreeMap::new(), |mut counts, key| {
            *counts.entry(key.state).or_default() += 1;
            counts
        })
    }

    /// How long until `time`, seen from the fleet's own time; nothing if it is past.
    pub fn until(&self, time: Time) -> Span {
        time.since(self.time)
    }
}

fn matches_any(patterns: &[Glob], name: &MemberName) -> bool {
    let text = name.to_string();
    patterns.iter().any(|p| p.matches(&text))
}
