//! Comparing two states, subject by subject.

use std::collections::{BTreeMap, BTreeSet};

use super::{CertifiedEffect, Effects, InvitedEffect, KeyEffect, MeshEffect, SecretEffect, Sides, SshEffects};
use crate::name::{Address, Kind, MemberName, Slot};
use crate::ssh::CertificateKind;
use crate::state::sites::pairs;
use crate::state::{KeyState, LiveSecret, State};
use crate::statement::RetireReason;
use crate::time::Time;
use crate::wireguard::address::addresses;

impl Effects {
    /// How `after` differs from `before`, both seen at `at`.
    pub fn between(before: &State, after: &State, at: Time) -> Self {
        let mut effects = Self {
            keys: keys(before, after),
            secrets: secrets(before, after),
            mesh: mesh(before, after),
            ssh: ssh(before, after, at),
            ..Self::default()
        };
        for (name, member) in &after.members {
            let old = before.members.get(name);
            let was_here = old.is_some_and(|m| m.is_active());
            match member.retired {
                None if !was_here => drop(effects.joins.insert(name.clone(), member.kind)),
                Some((_, why)) if old.is_some_and(|m| m.retired != member.retired) => {
                    effects.leaves.insert(name.clone(), why);
                }
                _ => {}
            }
            let is_another = old.is_some_and(|m| m.fingerprint != member.fingerprint);
            if was_here && is_another && member.is_active() {
                // Another machine has taken its name.
                effects.leaves.insert(name.clone(), RetireReason::Lost);
                effects.joins.insert(name.clone(), member.kind);
            } else if was_here && old.is_some_and(|m| m.cert != member.cert) {
                effects.certificates.insert(name.clone());
            }
        }
        effects.externals = Sides::between(&externals(before), &externals(after));
        (effects.pairs_joined, effects.pairs_parted) = pairs(before, after);
        let stopped = after.objected.keys().filter(|id| !before.objected.contains_key(id));
        effects.stopped = stopped.map(ToString::to_string).collect();
        (effects.invited, effects.uninvited) = invitations(before, after, at);
        super::rules::compare(before, after, &mut effects);
        effects
    }
}

/// Who can join by an invitation only afterwards, and who no longer.
fn invitations(before: &State, after: &State, at: Time) -> (BTreeMap<MemberName, InvitedEffect>, BTreeSet<MemberName>) {
    let open = |state: &State, name: &MemberName| {
        state.invitations.get(name).filter(|i| i.is_open(at)).map(|i| i.invited.clone())
    };
    let (mut invited, mut uninvited) = (BTreeMap::new(), BTreeSet::new());
    for (name, new) in &after.invitations {
        let (old, now) = (open(before, name), open(after, name));
        if let Some(now) = now.filter(|now| old.as_ref() != Some(now)) {
            invited.insert(name.clone(), InvitedEffect { invited: now, supersedes: old.is_some() });
        } else if old.is_some() && new.withdrawn.is_some() {
            uninvited.insert(name.clone());
        }
    }
    (invited, uninvited)
}

fn keys(before: &State, after: &State) -> Vec<KeyEffect> {
    let all = |state: &State| -> BTreeMap<(MemberName, Slot, String), KeyState> {
        let slots = state.members.iter().flat_map(|(n, m)| m.slots.iter().map(move |(s, k)| (n, *s, k)));
        slots.flat_map(|(n, s, keys)| keys.keys.iter().map(move |k| ((n.clone(), s, k.key.clone()), k.state))).collect()
    };
    let (old, new) = (all(before), all(after));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|k| old.get(*k) != new.get(*k));
    changed
        .map(|k| KeyEffect {
            member: k.0.clone(),
            slot: k.1,
            key: k.2.clone(),
            before: old.get(k).copied(),
            after: new.get(k).copied(),
        })
        .collect()
}

fn secrets(before: &State, after: &State) -> BTreeMap<Address, SecretEffect> {
    fn live<'a>(state: &'a State, address: &Address) -> Option<&'a LiveSecret> {
        state.secrets.get(address).and_then(|s| s.live.as_ref())
    }
    // Most steps leave most secrets alone: copies of a state share what is the same, so that this is known at once.
    let same_readers = before.members == after.members && before.policy == after.policy;
    let mut found = BTreeMap::new();
    let new = after.secrets.keys().filter(|address| !before.secrets.contains_key(*address));
    for address in before.secrets.keys().chain(new) {
        if same_readers && before.secrets.get(address) == after.secrets.get(address) {
            continue;
        }
        let (old, new) = (live(before, address), live(after, address));
        let readers = |l: &Option<&LiveSecret>| -> BTreeSet<MemberName> {
            l.iter().flat_map(|l| l.readers.keys().cloned()).collect()
        };
        let version = |state: &State| state.secrets.get(address).map(|s| s.version);
        let mut effect = SecretEffect {
            readers: Sides::between(&readers(&old), &readers(&new)),
            version: version(after).filter(|v| version(before) != Some(*v)),
            removed: old.is_some() && new.is_none(),
            burned: new.as_ref().and_then(|l| l.burned.clone()).map(|(_, by)| by),
            ..SecretEffect::default()
        };
        if old.as_ref().is_some_and(|l| l.burned.is_some()) {
            effect.burned = None;
        }
        if old.is_some() && new.is_some() {
            let (had, has) = (before.readers_by_policy(address), after.readers_by_policy(address));
            effect.orphaned = had.is_ok() && has.is_err();
            effect.next_reseal = Sides::between(&had.unwrap_or_default(), &has.unwrap_or_default());
        }
        if effect != SecretEffect::default() {
            found.insert(address.clone(), effect);
        }
    }
    found
}

fn mesh(before: &State, after: &State) -> BTreeMap<MemberName, MeshEffect> {
    let place = |state: &State, name: &MemberName| {
        let (region, index) = state.mesh.used.get(name)?;
        let found = addresses(&state.policy.policy.wireguard, region, *index);
        Some(found.map_or_else(|e| e.to_string(), |a| format!("{} {}", a.ipv4, a.ipv6)))
    };
    let names: BTreeSet<&MemberName> = before.mesh.used.keys().chain(after.mesh.used.keys()).collect();
    let effects = names.into_iter().map(|n| (n, place(before, n), place(after, n)));
    let changed = effects.filter(|(_, before, after)| before != after).map(|(name, old, new)| {
        let peers = before.peer_count(name).max(after.peer_count(name));
        (name.clone(), MeshEffect { before: old, after: new, peers })
    });
    changed.collect()
}

fn externals(state: &State) -> BTreeSet<String> {
    let said = state.policy.policy.wireguard.externals().iter().map(|external| {
        let peers: Vec<String> = external.peers.iter().map(ToString::to_string).collect();
        format!("{} with the key {}, for {}", external.name, external.public_key, peers.join(", "))
    });
    said.collect()
}

fn ssh(before: &State, after: &State, at: Time) -> SshEffects {
    let cas = |state: &State, slot| state.trusted_cas(slot, at).into_iter().map(str::to_owned).collect();
    let both = |slot| Sides::between(&cas(before, slot), &cas(after, slot));
    let accounts = |state: &State| -> BTreeSet<String> {
        let logins = state.policy.policy.ssh.accounts.iter();
        logins.flat_map(|(login, list)| list.iter().map(move |t| format!("{login}: {t}"))).collect()
    };
    let new = after.issued.iter().filter(|(serial, _)| !before.issued.contains_key(serial));
    SshEffects {
        user_ca: both(Slot::SshUserCa),
        host_ca: both(Slot::SshHostCa),
        principals: principals(before, after),
        accounts: Sides::between(&accounts(before), &accounts(after)),
        certified: new
            .map(|(_, issued)| CertifiedEffect {
                member: issued.member.clone(),
                principals: issued.certificate.fields().principals.iter().map(ToString::to_string).collect(),
                until: issued.certificate.fields().valid_before,
            })
            .collect(),
        revoked: after.revoked_serials.difference(&before.revoked_serials).copied().collect(),
    }
}

/// What the policy lets each operator log in as, and each host be called.
fn principals(before: &State, after: &State) -> BTreeMap<MemberName, Sides<String>> {
    let given = |state: &State, name: &MemberName, kind| -> BTreeSet<String> {
        let terms = state.ssh_terms(name, kind);
        terms.map(|t| t.principals.iter().map(ToString::to_string).collect()).unwrap_or_default()
    };
    let mut found = BTreeMap::new();
    for (name, member) in before.members.iter().chain(&after.members) {
        let kind = match member.kind {
            Kind::Operator => CertificateKind::User,
            Kind::Pop => CertificateKind::Host,
            Kind::Authority | Kind::Service => continue,
        };
        let sides = Sides::between(&given(before, name, kind), &given(after, name, kind));
        if !sides.is_empty() {
            found.insert(name.clone(), sides);
        }
    }
    found
}
