//! policy/secrets.toml: who reads which secret.

use serde::Deserialize;

use super::{PolicyError, toml};
use crate::name::{Address, Glob};

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
}

impl SecretsPolicy {
    /// Reads the file.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let path = format!("policy/{FILE}");
        let policy: Self = toml(&path, text)?;
        for (i, rule) in policy.rules.iter().enumerate() {
            if !rule.pattern.as_str().contains('/') {
                return Err(PolicyError::Meaning {
                    file: path,
                    place: format!("[[secret]] number {}", i + 1),
                    problem: format!(
                        "match = \"{}\" has no '/': addresses are OWNER/NAME, for example \"nginx@*/api-token\"",
                        rule.pattern
                    ),
                });
            }
        }
        Ok(policy)
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
