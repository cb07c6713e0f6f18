//! The words inside SSH certificates and the files around them. A value of these types is a checked word.
//!
//! A principal without a check is how peers were broken: none at all opens every account (CVE-2024-7594), a comma makes
//! two of one (CVE-2026-35414), and older clients take a wildcard at its word. None of them can be spelled here.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::limits::SSH_KEY_ID_BYTES_MAX;
use crate::text::Shown;

/// Why a text is not the word it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("'{text}' is not {expected}")]
pub struct WordError {
    /// The text, made safe to show.
    pub text: String,
    /// What was expected, with its rule.
    pub expected: &'static str,
}

fn word(text: &str, expected: &'static str, ok: bool) -> Result<String, WordError> {
    if ok {
        return Ok(text.to_owned());
    }
    Err(WordError { text: Shown { text, max: 80 }.to_string(), expected })
}

/// Whether `text` is a DNS name in lower case (RFC 1123) that no program takes for an address.
fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits alone is half an IPv4 address (RFC 3696, section 2).
    let last_is_number = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !last_is_number
}

/// Whether `text` is an IP address in its one canonical spelling.
fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|address| address.to_string() == text)
}

/// Whom an SSH certificate speaks for: a user principal (`deploy:fra1`) or a host (`fra1.cdn.example`, `2001:db8::1`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(String);

impl Principal {
    /// A user's principal: `^[a-z_][a-z0-9_.:-]{0,63}$`.
    ///
    /// # Errors
    /// [`WordError`].
    pub fn user(text: &str) -> Result<Self, WordError> {
        const EXPECTED: &str = "a user's principal: a-z or '_', then at most 63 of a-z, 0-9, '_', '.', ':' and '-', for example 'deploy:fra1'";
        let rest = text.strip_prefix(|c: char| c.is_ascii_lowercase() || c == '_');
        let ok = rest.is_some_and(|rest| {
            rest.len() <= 63 && rest.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b':' | b'-'))
        });
        word(text, EXPECTED, ok).map(Self)
    }

    /// A host's principal: a DNS name in lower case or an IP address in its canonical spelling.
    ///
    /// # Errors
    /// [`WordError`].
    pub fn host(text: &str) -> Result<Self, WordError> {
        const EXPECTED: &str = "a host's principal: a DNS name in lower case without wildcards, for example 'fra1.cdn.example', or an address";
        word(text, EXPECTED, is_dns_name(text) || is_address(text)).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Principal {
    type Err = WordError;
    /// Either kind; which one fits is the certificate's to check.
    fn from_str(text: &str) -> Result<Self, WordError> {
        Self::host(text).or_else(|_| Self::user(text))
    }
}

/// A key id, which `sshd` writes to its log at each login: 1 to 256 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let ok = (1..=SSH_KEY_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~'));
        word(text, "a key id: 1 to 256 printable ASCII characters", ok).map(Self)
    }
}

/// A login name; also the name of the file with the account's principals, so it cannot lead elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Login(String);

impl Login {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Login {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let rest = text.strip_prefix(|c: char| c.is_ascii_lowercase() || c == '_');
        let ok = rest.is_some_and(|rest| {
            rest.len() <= 31 && rest.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        });
        word(text, "a login name: a-z or '_', then at most 31 of a-z, 0-9, '_' and '-'", ok).map(Self)
    }
}

/// Which hosts a CA speaks for in `known_hosts`: DNS names and addresses, `*.` allowed in front, separated by commas.
///
/// The bare `*` is no such pattern: it would let a fleet's CA speak for every host that its operators ever connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern(String);

impl HostPattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostPattern {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let ok = text.len() <= 1_000
            && text.split(',').all(|p| is_address(p) || is_dns_name(p.strip_prefix("*.").unwrap_or(p)));
        word(text, "a host pattern: DNS names or '*.' and a DNS name, with commas between", ok).map(Self)
    }
}

/// A path that goes into a configuration file as it stands: absolute, of `A-Z a-z 0-9 . _ - /`, without `..`. Neither
/// quotes nor `%` can occur, so `sshd` reads the very path that was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigPath(String);

impl ConfigPath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConfigPath {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let ok = text.len() <= 1_000 && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part));
        word(text, "an absolute path of letters, digits, '.', '_' and '-'", ok).map(Self)
    }
}

macro_rules! display_text {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
display_text!(Principal, KeyId, Login, HostPattern, ConfigPath);

crate::words::serde_by_text!(Principal, KeyId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_principals_are_accepted() {
        for text in ["deploy:fra1", "_svc", "a", "role.ops-1", &"a".repeat(64)] {
            assert_eq!(Principal::user(text).map(|p| p.to_string()).as_deref(), Ok(text));
        }
        let long = format!("{}.{}.example", "a".repeat(63), "b".repeat(63));
        for text in ["fra1", "fra1.cdn.example", "1a.example", "10.0.0.1", "2001:db8::1", "::1", &long] {
            assert_eq!(Principal::host(text).map(|p| p.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn bad_principals_are_refused() {
        let control = ["a\0", "a\n", "\u{7}a", "a\u{1b}[2J", "a\u{7f}", "a\u{202e}b", "a\u{200b}"];
        let both =
            ["", " ", "a b", "a,b", "a,", ",", "*", "a*", "*.cdn.example", "Deploy", "a/b", "a@b", "ä", "a?", "!a"];
        for text in both.iter().chain(&control) {
            assert!(Principal::user(text).is_err(), "{text:?}");
            assert!(Principal::host(text).is_err(), "{text:?}");
            assert!(text.parse::<Principal>().is_err(), "{text:?}");
        }
        for text in ["1a", "-a", ".a", ":a", &"a".repeat(65)] {
            assert!(Principal::user(text).is_err(), "{text:?}");
        }
        for text in [
            "a_b",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a.",
            "10.0.0.256",
            "10.0.0.01",
            "10.0.0",
            "2001:DB8::1",
            "2001:db8:0::1",
            "[::1]",
            "::1%eth0",
            "1",
            &"a".repeat(64),
            &["a"; 128].join("."),
        ] {
            assert!(Principal::host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_goes_into_files_cannot_lead_elsewhere() {
        for text in ["", "..", "a/b", ".a", "A", "a.b", "%u", "a\n", "-a", &"a".repeat(33)] {
            assert!(text.parse::<Login>().is_err(), "{text:?}");
        }
        for text in ["", "etc", "/", "//a", "/a/../b", "/a b", "/a%u", "/a\n", "/a/", "/\"a\"", "/a/./b"] {
            assert!(text.parse::<ConfigPath>().is_err(), "{text:?}");
        }
        for text in ["", "*", "*.", "a,", "a b", "*.*.example", "a*.example", "!a", "|1|x", "a,*", "*.1"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
        }
        assert!("root".parse::<Login>().is_ok() && "/etc/keys/ssh".parse::<ConfigPath>().is_ok());
        assert!("*.fra1.cdn.example,fra1.cdn.example,2001:db8::1".parse::<HostPattern>().is_ok());
        for text in ["", "a\n", "ä", &"a".repeat(257)] {
            assert!(text.parse::<KeyId>().is_err(), "{text:?}");
        }
        assert!("alice@ops host fra1 \"x\"".parse::<KeyId>().is_ok());
    }
}
