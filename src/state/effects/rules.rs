//! Comparing what the policy asks: quorums, root, what one person can do alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{AloneEffect, Effects, RuleEffect, SettingEffect, Sides};
use crate::name::{ActName, Kind, MemberName};
use crate::openpgp::Profile;
use crate::policy::break_glass::BreakGlass;
use crate::policy::ssh::PrincipalTemplate;
use crate::policy::{Case, CosignerKind, Publication, Role, Rule, Signers};
use crate::state::State;

/// Adds what differs.
pub(super) fn compare(before: &State, after: &State, effects: &mut Effects) {
    let (old, new) = (&before.policy.policy.fleet, &after.policy.policy.fleet);
    effects.root = Sides::between(&old.root, &new.root);
    for (act, case) in cases() {
        let alternatives = |state: &State| -> Vec<Rule> {
            state.policy.policy.fleet.quorums.alternatives(act, case).cloned().collect()
        };
        let (was, is) = (alternatives(before), alternatives(after));
        let words = |rules: &[Rule]| -> BTreeSet<String> { rules.iter().map(in_words).collect() };
        if words(&was) != words(&is) {
            effects.rules.push(RuleEffect {
                act,
                case,
                before: words(&was).into_iter().collect(),
                after: words(&is).into_iter().collect(),
                weaker: is.iter().any(|new| !was.iter().any(|old| asks_no_less(new, old))),
            });
        }
    }
    let names: BTreeSet<&MemberName> = before.members.keys().chain(after.members.keys()).collect();
    for name in names {
        let (was, is) = (alone(before, name), alone(after, name));
        let sides = AloneEffect {
            gains: is.difference(&was).cloned().collect(),
            loses: was.difference(&is).cloned().collect(),
        };
        if sides != AloneEffect::default() {
            effects.alone.insert(name.clone(), sides);
        }
    }
    let mut setting = |name: &str, before: String, after: String, weaker| {
        if before != after {
            effects.settings.push(SettingEffect { name: name.to_owned(), before, after, weaker });
        }
    };
    let vouching = (old.vouching_operators, new.vouching_operators);
    setting("[trust] operators", vouching.0.to_string(), vouching.1.to_string(), vouching.1 < vouching.0);
    let profiles = (old.profile, new.profile);
    setting(
        "[fleet] profile",
        profiles.0.word().to_owned(),
        profiles.1.word().to_owned(),
        profiles.1 == Profile::Compat,
    );
    for ((act, was), (_, is)) in old.time_locks.by_act().into_iter().zip(new.time_locks.by_act()) {
        setting(&format!("[time-lock] {act}"), was.to_string(), is.to_string(), is < was);
    }
    publication(old.publication.as_ref(), new.publication.as_ref(), effects);
    let mut setting = |name: &str, before: String, after: String, weaker| {
        if before != after {
            effects.settings.push(SettingEffect { name: name.to_owned(), before, after, weaker });
        }
    };
    let waits = (old.proposal_lifetime, new.proposal_lifetime);
    setting("[proposals] lifetime", waits.0.to_string(), waits.1.to_string(), waits.1 > waits.0);
    let (was, is) = (old.restore_drills, new.restore_drills);
    let word = |every: Option<crate::time::Span>| every.map_or_else(|| "never".to_owned(), |e| e.to_string());
    let rarer = was.is_some_and(|was| is.is_none_or(|is| is > was));
    setting("[drills] restore", word(was), word(is), rarer);
    let (was, is) = (&before.policy.policy.ssh, &after.policy.policy.ssh);
    let proofs =
        [("staple_proof", was.staple_proof, is.staple_proof), ("require_proof", was.require_proof, is.require_proof)];
    for (name, was, is) in proofs {
        setting(&format!("[log] {name}"), was.to_string(), is.to_string(), was && !is);
    }
    let (was, is) = (was.break_glass.as_ref(), is.break_glass.as_ref());
    setting("[ca.break-glass]", glass_in_words(was), glass_in_words(is), is.is_some_and(|is| !asks_as_much(is, was)));
}

fn glass_in_words(glass: Option<&BreakGlass>) -> String {
    let Some(glass) = glass else { return "none".to_owned() };
    let list = |principals: &[PrincipalTemplate]| -> String {
        principals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let extensions = glass.extensions.iter().cloned().collect::<Vec<_>>().join(", ");
    let (sign, keys, principals) = (glass.sign, glass.keys.len(), list(&glass.principals));
    format!("{sign} of {keys} keys let in as {principals} for {}, with {extensions}", glass.lifetime)
}

/// Whether these break-glass keys let nobody in whom those before would not have let in.
fn asks_as_much(is: &BreakGlass, was: Option<&BreakGlass>) -> bool {
    was.is_some_and(|was| {
        is.sign >= was.sign
            && is.keys.is_subset(&was.keys)
            && is.lifetime <= was.lifetime
            && is.principals.iter().all(|p| was.principals.contains(p))
            && is.extensions.is_subset(&was.extensions)
    })
}

/// Who cosigns the log's head, and how many it takes.
fn publication(old: Option<&Publication>, new: Option<&Publication>, effects: &mut Effects) {
    let keys = |p: Option<&Publication>| -> BTreeSet<String> {
        p.into_iter().flat_map(|p| &p.cosigners).map(|c| format!("{} {}", c.kind, c.key)).collect()
    };
    effects.cosigners = Sides::between(&keys(old), &keys(new));
    for kind in CosignerKind::ALL {
        let need = |p: Option<&Publication>| p.and_then(|p| p.need.get(kind)).copied().unwrap_or_default();
        let (before, after) = (need(old), need(new));
        if before != after {
            let name = format!("[publish] need {kind}");
            let (weaker, before, after) = (after < before, before.to_string(), after.to_string());
            effects.settings.push(SettingEffect { name, before, after, weaker });
        }
    }
}

/// Every act with each of its cases.
fn cases() -> impl Iterator<Item = (ActName, Option<Case>)> {
    ActName::ALL.iter().flat_map(|act| {
        let cases = Case::of(*act);
        let none = cases.is_empty().then_some((*act, None));
        none.into_iter().chain(cases.iter().map(|case| (*act, Some(*case))))
    })
}

/// `operator 2 and authority 1`.
fn in_words(rule: &Rule) -> String {
    rule.need.iter().map(|(role, n)| format!("{role} {n}")).collect::<Vec<_>>().join(" and ")
}

/// Whether whoever meets `new` would have met `old`, too. Members of root are operators.
fn asks_no_less(new: &Rule, old: &Rule) -> bool {
    old.need.iter().all(|(role, n)| {
        let asked = |role| new.need.get(&role).copied().unwrap_or_default();
        let most = if *role == Role::Operator { asked(Role::Operator).max(asked(Role::Root)) } else { asked(*role) };
        most >= *n
    })
}

/// The acts that one signature of `name` is enough for, about whomever it is. What only touches the signer itself is left out.
fn alone(state: &State, name: &MemberName) -> BTreeSet<String> {
    let Ok(member) = state.active_member(name) else { return BTreeSet::new() };
    let policy = &state.policy.policy.fleet;
    let role = match member.kind {
        Kind::Operator => Role::Operator,
        Kind::Authority => Role::Authority,
        Kind::Pop | Kind::Service => return BTreeSet::new(),
    };
    let mut roles: BTreeMap<Role, BTreeSet<MemberName>> = [(role, [name.clone()].into())].into();
    if policy.root.contains(name) && member.kind == Kind::Operator {
        roles.insert(Role::Root, [name.clone()].into());
    }
    let signers = Signers(roles);
    let can = cases().filter(|(act, case)| policy.quorums.check(*act, *case, &signers).is_ok());
    can.map(|(act, case)| case.map_or_else(|| act.to_string(), |case| format!("{act} ({case})"))).collect()
}
