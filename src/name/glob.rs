//! Patterns over names: `*` is any run of characters, everything else is itself. `fra*` is `fra1` but not `nginx@fra1`;
//! `*@fra1` is every service there; `*` is everybody.

use std::fmt;
use std::str::FromStr;

use super::{NameError, check};

/// A checked pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(String);

impl Glob {
    /// Whether all of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let parts: Vec<&str> = parts.collect();
        let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
        for part in middle {
            match rest.find(part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// Whether it can match more than one name.
    pub fn is_pattern(&self) -> bool {
        self.0.contains('*')
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Glob {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        check(
            "a pattern",
            text,
            200,
            "a-z, 0-9, '-', '.', '_', '@', '/' and '*'",
            |c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '_' | '@' | '/' | '*'),
        )?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (glob, name, expected) in [
            ("fra*", "fra1", true),
            ("fra*", "nginx@fra1", false),
            ("*", "nginx@fra1", true),
            ("*@fra1", "nginx@fra1", true),
            ("nginx@*/api-*", "nginx@fra1/api-token", true),
            ("fra1", "fra10", false),
            ("*1*2*", "a1b2c", true),
            ("*1*2*", "a2b1c", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
        ] {
            let parsed: Glob = glob.parse().unwrap_or_else(|e| panic!("{glob}: {e}"));
            assert_eq!(parsed.matches(name), expected, "{glob} on {name}");
        }
        assert!("fra[12]".parse::<Glob>().is_err());
    }
}
