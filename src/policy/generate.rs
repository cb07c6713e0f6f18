//! How a new value is made: `generate = "base64:32"` in policy/secrets.toml, and what stands around the value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::name::Label;

/// What can be guessed in no fewer than this many bits' tries is a secret (NIST SP 800-57, part 1, 5.6.1).
const BITS_MIN: u64 = 112;
/// The largest number that a generator takes.
const COUNT_MAX: u32 = 4096;

/// What makes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Generator {
    /// So many random bytes.
    Random(u32),
    /// So many, in lower-case hexadecimal.
    Hex(u32),
    /// So many, in base64 (RFC 4648, section 4, with padding). `wireguard-psk` is 32.
    Base64(u32),
    /// So many, in base64 for addresses (RFC 4648, section 5, without padding).
    Base64Url(u32),
    /// So many characters of A-Z, a-z and 0-9.
    Alnum(u32),
    /// So many words that can be read out, of 16 bits each (proquints, arXiv:0901.4016), with `-` between.
    Words(u32),
    /// What the program of this name in the home's `hooks/` prints.
    Hook(Label),
}

impl Generator {
    /// How many bits of entropy a value has; nothing is known of a hook's.
    pub fn bits(&self) -> Option<u64> {
        let bits = |n: u32, each: u64| Some(u64::from(n) * each);
        match self {
            Self::Random(n) | Self::Hex(n) | Self::Base64(n) | Self::Base64Url(n) => bits(*n, 8),
            // The binary logarithm of 62 is 5.95.
            Self::Alnum(n) => bits(*n, 595).map(|b| b / 100),
            Self::Words(n) => bits(*n, 16),
            Self::Hook(_) => None,
        }
    }
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(n) => write!(f, "random:{n}"),
            Self::Hex(n) => write!(f, "hex:{n}"),
            Self::Base64(n) => write!(f, "base64:{n}"),
            Self::Base64Url(n) => write!(f, "base64url:{n}"),
            Self::Alnum(n) => write!(f, "alnum:{n}"),
            Self::Words(n) => write!(f, "words:{n}"),
            Self::Hook(name) => write!(f, "hook:{name}"),
        }
    }
}

impl FromStr for Generator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "wireguard-psk" {
            return Ok(Self::Base64(32));
        }
        let known = "random, hex, base64, base64url, alnum or words with ':' and a number, wireguard-psk, hook:NAME";
        let shown = crate::text::shown(text);
        let (kind, count) =
            text.split_once(':').ok_or_else(|| format!("'{shown}' is no generator; there are {known}"))?;
        if kind == "hook" {
            return count.parse().map(Self::Hook).map_err(|e| format!("'{shown}': {e}"));
        }
        let number = count.parse().ok().filter(|n| (1..=COUNT_MAX).contains(n) && !count.starts_with('+'));
        let number = number.ok_or_else(|| format!("'{shown}': a number from 1 to {COUNT_MAX} follows ':'"))?;
        let generator = match kind {
            "random" => Self::Random(number),
            "hex" => Self::Hex(number),
            "base64" => Self::Base64(number),
            "base64url" => Self::Base64Url(number),
            "alnum" => Self::Alnum(number),
            "words" => Self::Words(number),
            _ => return Err(format!("'{shown}' is no generator; there are {known}")),
        };
        match generator.bits() {
            Some(bits) if bits < BITS_MIN => {
                Err(format!("'{shown}' has {bits} bits, which can be guessed; {BITS_MIN} are the least"))
            }
            _ => Ok(generator),
        }
    }
}

impl<'de> Deserialize<'de> for Generator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What stands around a value: text with `{value}` once, and `{role}` where the value belongs to one of two accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(String);

impl Format {
    /// The usual one.
    pub fn usual(has_roles: bool) -> Self {
        Self(if has_roles { "{role}:{value}" } else { "{value}" }.to_owned())
    }

    /// The text before and after the value.
    pub fn around(&self, role: Option<&str>) -> (String, String) {
        let filled = |text: &str| text.replace("{role}", role.unwrap_or_default());
        let (before, after) = self.0.split_once("{value}").unwrap_or_default();
        (filled(before), filled(after))
    }

    /// Whether it names the account.
    pub fn has_role(&self) -> bool {
        self.0.contains("{role}")
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.matches("{value}").count() {
            1 => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("expected a text that holds {value} once")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generators_have_one_spelling() {
        for text in ["random:14", "hex:32", "base64:32", "base64url:16", "alnum:19", "words:7", "hook:pg-role"] {
            assert_eq!(text.parse::<Generator>().unwrap().to_string(), text);
        }
        assert_eq!("wireguard-psk".parse::<Generator>().unwrap(), Generator::Base64(32));
        for (text, part) in [
            ("base64", "is no generator"),
            ("bsae64:32", "is no generator"),
            ("hex:0", "a number from 1"),
            ("hex:+32", "a number from 1"),
            ("hex:5000", "a number from 1"),
            ("hex:13", "has 104 bits"),
            ("alnum:18", "has 107 bits"),
            ("words:6", "has 96 bits"),
            ("hook:../x", "'hook:../x'"),
        ] {
            let e = text.parse::<Generator>().unwrap_err();
            assert!(e.contains(part), "{text}: {e}");
        }
    }
}
