//! Quorums: who has to sign what. There is no implicit allow: an act without a rule is nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::PolicyError;
use crate::name::{ActName, MemberName};
use crate::words::words;

words! {
    /// Whose signatures a rule counts.
    Role, "a role":
    /// The member that changes, or the PoP of a service.
    Own = "self",
    /// Operators.
    Operator = "operator",
    /// Authorities for which enough operators vouch.
    Authority = "authority",
    /// The members that the policy names as root.
    Root = "root",
}

words! {
    /// When a rule applies, where an act has cases.
    Case, "a case":
    /// A key's activation when its cryptoperiod is over.
    Scheduled = "scheduled",
    /// A key's activation before that.
    Unscheduled = "unscheduled",
    /// A secret's first version.
    New = "new",
    /// The same readers as before, or fewer.
    Same = "same",
    /// A reader more than before.
    Wider = "wider",
    /// The member is an operator.
    Operator = "operator",
    /// The member is an authority.
    Authority = "authority",
    /// The member is a PoP.
    Pop = "pop",
    /// The member is a service.
    Service = "service",
}

impl Case {
    /// The cases that `act` has.
    pub fn of(act: ActName) -> &'static [Self] {
        match act {
            ActName::Activate => &[Self::Scheduled, Self::Unscheduled],
            ActName::Seal => &[Self::New, Self::Same, Self::Wider],
            ActName::Reseal => &[Self::Same, Self::Wider],
            ActName::Enroll | ActName::Retire | ActName::Certify | ActName::SshIssue => {
                &[Self::Operator, Self::Authority, Self::Pop, Self::Service]
            }
            ActName::Genesis
            | ActName::PolicyUpdate
            | ActName::Confirm
            | ActName::Publish
            | ActName::Destroy
            | ActName::Remove
            | ActName::SshRevoke
            | ActName::Object
            | ActName::Backup
            | ActName::Drill
            | ActName::Snapshot
            | ActName::Rekey
            | ActName::Emergency
            | ActName::Invite
            | ActName::Uninvite => &[],
        }
    }
}

/// One rule. Several rules for one act and case are alternatives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The act.
    pub act: ActName,
    /// The case; without one the rule holds for every case.
    pub when: Option<Case>,
    /// How many of whom; all must hold.
    pub need: BTreeMap<Role, u32>,
}

/// Who may object where a policy does not say: without a rule an act is nobody's, but for this one and [`CONFIRM`]. A policy from before there
/// were objections, or one that forgets them, must not leave everybody unable to stop something.
static OBJECT: LazyLock<[Rule; 2]> = LazyLock::new(|| {
    [Role::Operator, Role::Authority].map(|role| Rule { act: ActName::Object, when: None, need: [(role, 1)].into() })
});

/// The same of answering challenges: it concerns nobody but the member, and shows by itself what it has to.
static CONFIRM: LazyLock<[Rule; 1]> =
    LazyLock::new(|| [Rule { act: ActName::Confirm, when: None, need: [(Role::Own, 1)].into() }]);

/// The rules of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quorums(Vec<Rule>);

/// Which distinct members signed, by role. A member counts once, whatever keys, subkeys or user ids it signed with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signers(pub BTreeMap<Role, BTreeSet<MemberName>>);

impl Quorums {
    /// Checks the rules: a count of 0 is no quorum, and a case must be one of its act.
    ///
    /// # Errors
    /// [`PolicyError::Meaning`].
    pub fn new(file: &str, rules: Vec<Rule>) -> Result<Self, PolicyError> {
        for (i, rule) in rules.iter().enumerate() {
            let place = format!("[[quorum]] number {} (act = \"{}\")", i + 1, rule.act);
            let meaning =
                |problem: String| Err(PolicyError::Meaning { file: file.to_owned(), place: place.clone(), problem });
            if rule.act == ActName::Genesis {
                return meaning("the founding is not a matter of policy: every founder signs it".to_owned());
            }
            if let Some(case) = rule.when.filter(|case| !Case::of(rule.act).contains(case)) {
                let known = Case::of(rule.act).iter().map(|c| c.word()).collect::<Vec<_>>().join(", ");
                let known =
                    if known.is_empty() { "it has no cases".to_owned() } else { format!("its cases are {known}") };
                return meaning(format!("when = \"{case}\" is no case of this act; {known}"));
            }
            if rule.need.is_empty() {
                return meaning("need = {} would let nobody's signature be enough; name a role, for example need = { operator = 1 }".to_owned());
            }
            if let Some((role, _)) = rule.need.iter().find(|(_, n)| **n == 0) {
                return meaning(format!("need has {role} = 0; leave the role out instead"));
            }
            if rule.need.get(&Role::Own).is_some_and(|n| *n > 1) {
                return meaning("need has self above 1; a member is one".to_owned());
            }
        }
        Ok(Self(rules))
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// The alternatives for `act` in `case`.
    pub fn alternatives(&self, act: ActName, case: Option<Case>) -> impl Iterator<Item = &Rule> {
        let built_in = match act {
            _ if self.0.iter().any(|r| r.act == act) => &[],
            ActName::Object => OBJECT.as_slice(),
            ActName::Confirm => CONFIRM.as_slice(),
            _ => &[],
        };
        self.0.iter().chain(built_in).filter(move |rule| rule.act == act && (rule.when.is_none() || rule.when == case))
    }

    /// Whether there is a rule for `act`, in any case.
    pub fn knows(&self, act: ActName) -> bool {
        let cases = Case::of(act).iter().copied().map(Some).chain([None]);
        cases.into_iter().any(|case| self.alternatives(act, case).next().is_some())
    }

    /// Whether `signers` meet an alternative for `act` in `case`.
    ///
    /// # Errors
    /// What is missing, in words: the alternative that lacks least.
    pub fn check(&self, act: ActName, case: Option<Case>, signers: &Signers) -> Result<(), String> {
        let lacks = |rule: &Rule| -> BTreeMap<Role, u32> {
            let lack = |(role, n): (&Role, &u32)| {
                let have = signers.0.get(role).map_or(0, BTreeSet::len);
                let lack = n.saturating_sub(u32::try_from(have).unwrap_or(u32::MAX));
                (lack > 0).then_some((*role, lack))
            };
            rule.need.iter().filter_map(lack).collect()
        };
        let least = self.alternatives(act, case).map(lacks).min_by_key(|lack| lack.values().sum::<u32>());
        match least {
            None => Err(format!(
                "the policy has no rule that allows {act}{}",
                case.map(|c| format!(" ({c})")).unwrap_or_default()
            )),
            Some(lack) if lack.is_empty() => Ok(()),
            Some(lack) => Err(in_words(&lack)),
        }
    }
}

/// "2 more operators and 1 authority".
fn in_words(lack: &BTreeMap<Role, u32>) -> String {
    let part = |(role, n): (&Role, &u32)| match (role, *n) {
        (Role::Own, _) => "the member itself".to_owned(),
        (Role::Root, n) => format!("{n} more of root"),
        (Role::Operator, 1) => "1 more operator".to_owned(),
        (Role::Operator, n) => format!("{n} more operators"),
        (Role::Authority, 1) => "1 more authority".to_owned(),
        (Role::Authority, n) => format!("{n} more authorities"),
    };
    lack.iter().map(part).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Quorums, PolicyError> {
        #[derive(Deserialize)]
        struct File {
            quorum: Vec<Rule>,
        }
        let file: File = super::super::toml("policy/fleet.toml", text)?;
        Quorums::new("policy/fleet.toml", file.quorum)
    }

    fn signers(list: &[(Role, &[&str])]) -> Signers {
        Signers(list.iter().map(|(r, names)| (*r, names.iter().map(|n| n.parse().unwrap()).collect())).collect())
    }

    #[test]
    fn all_roles_of_a_rule_must_hold_and_rules_are_alternatives() {
        let quorums = rules(
            "[[quorum]]\nact = \"key.activate\"\nwhen = \"scheduled\"\nneed = { operator = 1 }\n\
             [[quorum]]\nact = \"key.activate\"\nneed = { operator = 2, authority = 1 }\n\
             [[quorum]]\nact = \"key.activate\"\nneed = { root = 3 }\n",
        )
        .unwrap();
        let one = signers(&[(Role::Operator, &["alice"])]);
        assert_eq!(quorums.check(ActName::Activate, Some(Case::Scheduled), &one), Ok(()));
        assert_eq!(
            quorums.check(ActName::Activate, Some(Case::Unscheduled), &one),
            Err("1 more operator and 1 more authority".into())
        );
        let root = signers(&[(Role::Root, &["a", "b", "c"])]);
        assert_eq!(quorums.check(ActName::Activate, Some(Case::Unscheduled), &root), Ok(()));
        let none = quorums.check(ActName::Seal, Some(Case::New), &root);
        assert_eq!(none, Err("the policy has no rule that allows secret.seal (new)".into()));
    }

    #[test]
    fn a_quorum_that_is_none_is_refused() {
        for (text, part) in [
            ("need = { operator = 0 }", "operator = 0"),
            ("need = {}", "nobody's signature"),
            ("need = { operator = -1 }", "invalid value"),
            ("need = { operater = 1 }", "did you mean 'operator'?"),
            ("need = { self = 2 }", "self above 1"),
            ("need = { operator = 1 }\nwhen = \"wider\"", "its cases are scheduled, unscheduled"),
            ("need = { operator = 1 }\nwhom = 1", "unknown field `whom`"),
        ] {
            let message = rules(&format!("[[quorum]]\nact = \"key.activate\"\n{text}\n")).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(rules("[[quorum]]\nact = \"genesis\"\nneed = { root = 1 }").is_err());
    }
}
