//! What the policy needed for an entry, and what those who signed count for.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::name::{ActName, Address, Kind, MemberName, Scope};
use crate::policy::{Case, Role, Rule};
use crate::state::{Objects, State};
use crate::statement::{Act, Approval, Enroll, Entry, RecipientSet, Request, Reseal, Seal, principal_member};

/// What an entry needed, by the state before it.
#[derive(Debug, Default)]
pub(super) struct Need {
    /// The rules, in words; one where all changes need the same.
    pub rules: Vec<String>,
    /// For what each of those who signed would count.
    pub roles: BTreeMap<MemberName, BTreeSet<Role>>,
    /// Whether it reaches far: policy, people, authorities, PoPs, readers more than before, a rotation out of turn.
    pub grave: bool,
    /// How many operators there were to decide it.
    pub operators: usize,
    /// Those who had agreed beforehand, by an invitation.
    pub agreed: BTreeSet<MemberName>,
}

/// One change, as quorums see it.
struct Subject {
    case: Option<Case>,
    own: Option<MemberName>,
}

impl Need {
    /// That of an entry.
    pub(super) fn of(entry: &Entry, state: &State, objects: &impl Objects) -> Self {
        let act = &entry.signed.statement.act;
        let subjects = subjects(entry, state, objects);
        let quorums = &state.policy.policy.fleet.quorums;
        let mut need = Self { agreed: agreed(act, state, objects), ..Self::default() };
        let signed = entry.signatures.iter().filter_map(|line| principal_member(&state.fleet, &line.name));
        for name in signed.chain(need.agreed.iter().cloned()).collect::<BTreeSet<_>>() {
            let roles = roles(&name, &subjects, state);
            need.roles.insert(name, roles);
        }
        let have = |role: Role| need.roles.values().filter(|r| r.contains(&role)).count();
        let met =
            |rule: &&Rule| rule.need.iter().all(|(role, n)| have(*role) >= usize::try_from(*n).unwrap_or(usize::MAX));
        let mut rules = Vec::new();
        for subject in &subjects {
            let alternatives: Vec<&Rule> = quorums.alternatives(act.name(), subject.case).collect();
            let rule = alternatives.iter().copied().find(met).or(alternatives.first().copied());
            let text = rule.map_or_else(|| "no rule allows it".to_owned(), |rule| in_words(&rule.need));
            if !rules.contains(&text) {
                rules.push(text);
            }
        }
        let operators = state.members.values().filter(|m| m.kind == Kind::Operator && m.is_active());
        need.operators = operators.count();
        need.grave = subjects.iter().any(|s| is_grave(act.name(), s.case));
        need.rules = rules;
        need
    }

    /// How many of whom there are among `signers`.
    pub(super) fn given(&self, signers: &BTreeSet<MemberName>) -> BTreeMap<String, usize> {
        let mut given = BTreeMap::new();
        for role in signers.union(&self.agreed).filter_map(|s| self.roles.get(s)).flatten() {
            *given.entry(role.word().to_owned()).or_default() += 1;
        }
        given
    }
}

/// Who made the invitations by which members join, where that is their agreement.
fn agreed(act: &Act, state: &State, objects: &impl Objects) -> BTreeSet<MemberName> {
    let Act::Enroll(list) = act else { return BTreeSet::new() };
    let invitation = |change: &Enroll| {
        let (request, ..) = Request::parse(&objects.object(&change.request).ok()?).ok()?;
        let found = state.invitations.get(&change.member.owner())?;
        (request.invitation?.token == found.invited.token && found.invited.approval == Approval::Auto).then_some(found)
    };
    let active = |name: &&MemberName| state.members.get(*name).is_some_and(|m| m.is_active());
    list.iter().filter_map(invitation).flat_map(|i| i.approved.iter().filter(active).cloned()).collect()
}

fn is_grave(act: ActName, case: Option<Case>) -> bool {
    match (act, case) {
        (ActName::PolicyUpdate | ActName::Rekey | ActName::Emergency | ActName::Invite, _) => true,
        (ActName::Enroll, Some(case)) => case != Case::Service,
        (ActName::Retire, Some(case)) => matches!(case, Case::Operator | Case::Authority),
        (ActName::Activate, Some(case)) => case == Case::Unscheduled,
        (ActName::Seal | ActName::Reseal, Some(case)) => case == Case::Wider,
        _ => false,
    }
}

/// The changes as the fold sees them. Acts without cases, and those that are not of this list, have one subject.
fn subjects(entry: &Entry, state: &State, objects: &impl Objects) -> Vec<Subject> {
    let kind_of = |name: &MemberName| state.members.get(name).map(|m| Case::of_kind(m.kind));
    let member = |name: &MemberName| Subject { case: kind_of(name), own: Some(name.clone()) };
    let plain = |name: &MemberName| Subject { case: None, own: Some(name.clone()) };
    match &entry.signed.statement.act {
        Act::Enroll(list) => {
            list.iter().map(|c| Subject { case: Some(Case::of_kind(c.kind)), own: Some(c.member.owner()) }).collect()
        }
        Act::Retire(list) => list.iter().map(|c| member(&c.member)).collect(),
        Act::Certify(list) => list.iter().map(|c| member(&c.member)).collect(),
        Act::SshIssue(c) => vec![member(&c.member)],
        Act::Publish(list) => list.iter().map(|c| plain(&c.member)).collect(),
        Act::Destroy(list) => list.iter().map(|c| plain(&c.member)).collect(),
        Act::Activate(list) => list
            .iter()
            .map(|c| {
                let active = state.members.get(&c.member).and_then(|m| m.active(c.slot));
                let since = active.and_then(|k| k.activated);
                let over = since.map(|at| at.plus(state.policy.policy.fleet.cryptoperiod(c.slot)));
                // Dated by the statement: its signatures are not much younger.
                let due = over.is_none_or(|over| entry.signed.statement.at.max(state.time) >= over);
                let case = if due { Case::Scheduled } else { Case::Unscheduled };
                Subject { case: Some(case), own: Some(c.member.clone()) }
            })
            .collect(),
        Act::Seal(list) => {
            let case = |c: &Seal| match state.secrets.get(&c.address) {
                None => Case::New,
                Some(before) => case_of(&c.recipients, &before.meant_for, objects),
            };
            list.iter().map(|c| Subject { case: Some(case(c)), own: owner(&c.address) }).collect()
        }
        Act::Reseal(list) => {
            let before = |c: &Reseal| {
                let live = state.secrets.get(&c.address).and_then(|s| s.live.as_ref());
                live.map(|l| l.readers.keys().cloned().collect()).unwrap_or_default()
            };
            let case = |c: &Reseal| case_of(&c.recipients, &before(c), objects);
            list.iter().map(|c| Subject { case: Some(case(c)), own: owner(&c.address) }).collect()
        }
        _ => vec![Subject { case: None, own: None }],
    }
}

/// Whether a recipient set has readers that were none before.
fn case_of(recipients: &Digest, before: &BTreeSet<MemberName>, objects: &impl Objects) -> Case {
    let set = objects.object(recipients).ok().and_then(|bytes| RecipientSet::parse(&bytes).ok());
    match set {
        Some(set) if set.readers.keys().any(|reader| !before.contains(reader)) => Case::Wider,
        // Without its set the entry is void.
        Some(_) | None => Case::Same,
    }
}

/// Whose secret it is, where it is one member's.
fn owner(address: &Address) -> Option<MemberName> {
    match address.scope() {
        Scope::Member(owner) => Some(owner.clone()),
        Scope::SharedService(_) | Scope::Shared => None,
    }
}

fn roles(name: &MemberName, subjects: &[Subject], state: &State) -> BTreeSet<Role> {
    let mut roles = BTreeSet::new();
    let Some(kind) = state.members.get(name).map(|m| m.kind) else { return roles };
    if subjects.iter().filter_map(|s| s.own.as_ref()).any(|own| own == name || own.owner() == *name) {
        roles.insert(Role::Own);
    }
    match kind {
        Kind::Operator => {
            roles.insert(Role::Operator);
            if state.policy.policy.fleet.root.contains(name) {
                roles.insert(Role::Root);
            }
        }
        Kind::Authority => {
            roles.insert(Role::Authority);
        }
        Kind::Pop | Kind::Service => {}
    }
    roles
}

/// `2 operators, 1 authority`.
fn in_words(need: &BTreeMap<Role, u32>) -> String {
    let part = |(role, n): (&Role, &u32)| match (role, *n) {
        (Role::Own, _) => "the member itself".to_owned(),
        (Role::Root, n) => format!("{n} of root"),
        (Role::Operator, 1) => "1 operator".to_owned(),
        (Role::Operator, n) => format!("{n} operators"),
        (Role::Authority, 1) => "1 authority".to_owned(),
        (Role::Authority, n) => format!("{n} authorities"),
    };
    need.iter().map(part).collect::<Vec<_>>().join(", ")
}
