//! policy/secrets.toml: who reads which secret.

use serde::Deserialize;

use super::delivery::Delivery;
use super::generate::{Format, Generator};
use super::{PolicyError, toml};
use crate::name::{Address, Glob, Label, MemberName};
use crate::time::Span;

/// The file's name.
pub const FILE: &str = "secrets.toml";

/// policy/secrets.toml, checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsPolicy {
    /// Who can read every secret that is not `write_only`.
    pub recovery: Recovery,
    /// Rules; the first that matches an address holds.
    #[serde(default, rename = "secret")]
    pub rules: Vec<SecretRule>,
    /// What is put on the machines' disks for their services; the first that matches a member holds.
    #[serde(default, rename = "delivery")]
    pub deliveries: Vec<Delivery>,
}

/// Readers for the day the owner's keys are lost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// Operators, by name or pattern.
    pub operators: Vec<Glob>,
}

/// A rule for the addresses that match.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRule {
    /// Which addresses.
    #[serde(rename = "match")]
    pub pattern: Glob,
    /// Further readers, by name or pattern.
    #[serde(default)]
    pub readers: Vec<Glob>,
    /// Whether PoPs may share it. Without this an address with `*`, or a reader elsewhere, is refused.
    #[serde(default)]
    pub shared: bool,
    /// Whether even the recovery operators cannot read it.
    #[serde(default)]
    pub write_only: bool,
    /// How a new value is made. Without this only people make one.
    pub generate: Option<Generator>,
    /// What stands around a value that is made.
    pub format: Option<Format>,
    /// After how long a new value is due.
    pub rotate: Option<Span>,
    /// The program in the home's `hooks/` that is told of a new value, before it is sealed and after.
    pub hook: Option<Label>,
    /// Two accounts that take turns: a new value is that of the one whose turn it is, and the other one's goes on being good.
    #[serde(default)]
    pub roles: Vec<String>,
    /// For how long the other account may still be in use, so that no further value is made.
    pub settle: Option<Span>,
    /// Secrets that get their new values before these do.
    #[serde(default)]
    pub after: Vec<Glob>,
}

impl SecretRule {
    /// Whose value version `version` is, where two accounts take turns.
    pub fn role(&self, version: u64) -> Option<&str> {
        self.roles.get(usize::from(version.is_multiple_of(2))).map(String::as_str)
    }

    /// For how long after a new value there is no other, where two accounts take turns.
    pub fn settles(&self) -> Span {
        self.settle.unwrap_or(SETTLE)
    }

    /// What is wrong with it, if anything is.
    fn problem(&self) -> Option<String> {
        let is_address_pattern = |glob: &Glob| glob.as_str().contains('/');
        if let Some(glob) = std::iter::once(&self.pattern).chain(&self.after).find(|g| !is_address_pattern(g)) {
            let problem = "has no '/': addresses are OWNER/NAME, for example \"nginx@*/api-token\"";
            let key = if *glob == self.pattern { "match" } else { "after" };
            return Some(format!("{key} = \"{glob}\" {problem}"));
        }
        let roles = &self.roles;
        let two = matches!(roles.as_slice(), [a, b] if a != b);
        let is_name = |name: &String| {
            (1..=63).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if let Some(bad) = roles.iter().find(|r| !is_name(r)) {
            return Some(format!(
                "the role '{}' is not 1 to 63 of A-Z, a-z, 0-9, '-' and '_'",
                crate::text::shown(bad)
            ));
        }
        let names_role = self.format.as_ref().is_some_and(Format::has_role);
        let problem = match self.generate {
            None if self.hook.is_some() || self.format.is_some() || !roles.is_empty() => {
                "hook, format and roles need generate: they are about values that are made"
            }
            _ if !roles.is_empty() && !two => "roles are two accounts that take turns, with different names",
            _ if two && self.hook.is_none() => "roles need a hook, which gives the account its new value",
            _ if two && self.format.is_some() && !names_role => {
                "format has no {role}: whoever reads the value has to know whose it is"
            }
            _ if !two && names_role => "format has {role}, and there are no roles",
            _ if !two && self.settle.is_some() => "settle is about roles, and there are none",
            _ => return None,
        };
        Some(problem.to_owned())
    }
}

/// The usual time for readers to take a new value.
const SETTLE: Span = Span::hours(1);

impl SecretsPolicy {
    /// Reads the file.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let path = format!("policy/{FILE}");
        let policy: Self = toml(&path, text)?;
        for (i, rule) in policy.rules.iter().enumerate() {
            if let Some(problem) = rule.problem() {
                let place = format!("[[secret]] number {}", i + 1);
                return Err(PolicyError::Meaning { file: path, place, problem }.in_text(text));
            }
        }
        for (i, delivery) in policy.deliveries.iter().enumerate() {
            if let Some(problem) = delivery.problem() {
                let place = format!("[[delivery]] number {}", i + 1);
                return Err(PolicyError::Meaning { file: path, place, problem }.in_text(text));
            }
        }
        Ok(policy)
    }

    /// What is delivered to `member`, if anything is.
    pub fn delivery(&self, member: &MemberName) -> Option<&Delivery> {
        let text = member.to_string();
        self.deliveries.iter().find(|delivery| delivery.to.matches(&text))
    }

    /// The rule for `address`, if there is one.
    pub fn rule(&self, address: &Address) -> Option<&SecretRule> {
        let text = address.to_string();
        self.rules.iter().find(|rule| rule.pattern.matches(&text))
    }
}

/// The first policy/secrets.toml of a fleet.
pub const TEMPLATE: &str = r#"# Who reads which secret. A secret is sealed to its owner (the service or PoP in its address), active and standby key,
# and to the recovery operators; everything else is said here. The first rule that matches an address holds.

[recovery]
# Operators, by name or pattern, who can read every secret that is not `write_only`. An empty list: nobody but the owner.
operators = ["*"]

# Sharing between PoPs has to be declared, because a stolen PoP then reads what others use:
#
# [[secret]]
# match = "nginx@*/api-token"
# shared = true
#
# A secret that operators write and cannot read back:
#
# [[secret]]
# match = "*/db-password"
# write_only = true
#
# Another reader on the same PoP:
#
# [[secret]]
# match = "nginx@fra1/tls.key"
# readers = ["haproxy@fra1"]
#
# A value that 'keys renew' makes, every 90 days and when somebody knew it who should not:
#
# [[secret]]
# match = "*/session-key"
# generate = "base64:32"
# rotate = "90d"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_holds() {
        let text = format!(
            "{TEMPLATE}\n[[secret]]\nmatch = \"nginx@*/api-token\"\nshared = true\n[[secret]]\nmatch = \"nginx@*/*\"\nwrite_only = true\n"
        );
        let policy = SecretsPolicy::parse(&text).unwrap();
        let rule = |a: &str| policy.rule(&a.parse().unwrap()).map(|r| (r.shared, r.write_only));
        assert_eq!(rule("nginx@*/api-token"), Some((true, false)));
        assert_eq!(rule("nginx@fra1/tls.key"), Some((false, true)));
        assert_eq!(rule("dns@fra1/tsig"), None);
    }

    #[test]
    fn two_accounts_take_turns() {
        let rule = |keys: &str| {
            let text = format!("[recovery]\noperators = []\n[[secret]]\nmatch = \"pg@*/app\"\n{keys}\n");
            SecretsPolicy::parse(&text).map(|p| p.rules[0].clone()).map_err(|e| e.to_string())
        };
        let good = rule("generate = \"alnum:32\"\nhook = \"pg-role\"\nroles = [\"app-a\", \"app-b\"]").unwrap();
        let turns: Vec<&str> = (1..5).map(|version| good.role(version).unwrap()).collect();
        assert_eq!(turns, ["app-a", "app-b", "app-a", "app-b"]);
        for (keys, part) in [
            ("hook = \"x\"", "need generate"),
            ("generate = \"hex:32\"\nroles = [\"a\", \"a\"]", "two accounts"),
            ("generate = \"hex:32\"\nroles = [\"a\", \"b\"]", "need a hook"),
            ("generate = \"hex:32\"\nhook = \"x\"\nroles = [\"a\", \"b;\"]", "the role 'b;'"),
            ("generate = \"hex:32\"\nhook = \"x\"\nroles = [\"a\", \"b\"]\nformat = \"{value}\"", "no {role}"),
            ("generate = \"hex:32\"\nformat = \"{role}{value}\"", "there are no roles"),
            ("generate = \"hex:32\"\nformat = \"x\"", "holds {value} once"),
            ("generate = \"hex:32\"\nsettle = \"1h\"", "there are none"),
            ("generate = \"hex:2\"", "can be guessed"),
            ("after = [\"pg\"]", "after = \"pg\" has no '/'"),
        ] {
            let e = rule(keys).unwrap_err();
            assert!(e.contains(part), "{keys}: {e}");
        }
    }

    #[test]
    fn the_template_is_a_policy_and_mistakes_are_shown() {
        assert_eq!(SecretsPolicy::parse(TEMPLATE).unwrap().rules, []);
        assert!(
            SecretsPolicy::parse("[recovery]\noperators = []\n[[secret]]\nmatch = \"nginx\"\n")
                .unwrap_err()
                .to_string()
                .contains("OWNER/NAME")
        );
        assert!(
            SecretsPolicy::parse("[recovery]\noperators = []\n[[secret]]\nmatch = \"a/b\"\nshraed = true\n")
                .unwrap_err()
                .to_string()
                .contains("unknown field `shraed`")
        );
    }
}
