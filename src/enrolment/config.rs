//! What a machine is given to join with: a TOML file with the fleet's public pins, and the seed of its invitation.
//!
//! ```toml
//! fleet = "cdn.example"
//! id = "5c1f0c…"                                  # the fleet's id, pinned
//! log = ["cdn.example/keys/1+3fceb384+Ab…="]      # verifier keys of the log, of which one has to have signed its head
//! mirrors = ["https://keys.cdn.example"]
//! member = "fra1"
//! snapshot = "9d2f61…"                            # optional: the hash of a state to begin with, instead of the first entry
//! protection = "tpm2"                            # what is to guard its private halves; else the best that there is
//! ca = """-----BEGIN CERTIFICATE-----…"""         # optional: the only CAs that vouch for the mirrors' names
//! seed = "kt1.bCmGs9Zb…"
//! ```
//! Everything but the seed is public, and the seed is worthless once somebody has joined by it. What is wrong is said with
//! the line's number and without the line.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::limits::{MIRRORS_MAX, URL_BYTES_MAX};
use crate::log::note::VerifierKey;
use crate::name::{FleetName, MemberName, Protection};
use crate::statement::{TOKEN_PREFIX, Token, TokenError};
use crate::wireguard::Host;

/// The line of the seed begins so.
const SEED: &str = "seed";

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not TOML, or not its keys and kinds of values.
    #[error("line {line}: {problem}")]
    Toml {
        /// The line, from 1.
        line: usize,
        /// What is wrong, without the line itself.
        problem: String,
    },
    /// A value that means nothing.
    #[error("{key}: {problem}")]
    Value {
        /// Which.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// A machine's configuration.
#[derive(Debug)]
pub struct Config {
    /// The fleet's name.
    pub fleet: FleetName,
    /// Its id.
    pub id: Digest,
    /// The log's verifier keys, as they were when this was written.
    pub log: Vec<VerifierKey>,
    /// Where the keyring is brought from, and the request handed in: addresses, or directories.
    pub mirrors: Vec<String>,
    /// The CAs that alone vouch for the names of mirrors at `https://`, as PEM; none: the public ones.
    pub ca: Option<String>,
    /// The PoP.
    pub member: MemberName,
    /// Where its WireGuard is reached, if the invitation does not say.
    pub endpoint: Option<Host>,
    /// The hash of a state from which the machine begins; none: with the first entry.
    pub snapshot: Option<Digest>,
    /// What is to guard its private halves; none: the best that the machine has, and what the policy wants.
    pub protection: Option<Protection>,
    /// The token; none once somebody has joined by it.
    pub seed: Option<Token>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    fleet: FleetName,
    id: Digest,
    #[serde(default)]
    log: Vec<String>,
    mirrors: Vec<String>,
    ca: Option<String>,
    member: MemberName,
    endpoint: Option<Host>,
    snapshot: Option<Digest>,
    protection: Option<Protection>,
    #[serde(default, deserialize_with = "seed")]
    seed: Option<Token>,
}

fn seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    Token::parse(&text).map(Some).map_err(serde::de::Error::custom)
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        // Its own errors show the line, which may be that of the seed.
        let file: File = toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count().saturating_add(1);
            let is_seed = text.lines().nth(line.saturating_sub(1)).is_some_and(|l| l.trim_start().starts_with(SEED));
            let problem = match e.message() {
                _ if is_seed => format!("the seed {}", TokenError::Token),
                // Under another key, by mistake: it is a seed all the same.
                message if message.contains(TOKEN_PREFIX) && message != TokenError::Token.to_string() => {
                    "a token stands where none belongs".to_owned()
                }
                message => message.to_owned(),
            };
            ConfigError::Toml { line, problem: crate::text::Shown { text: &problem, max: 300 }.to_string() }
        })?;
        let bad = |key, problem: String| ConfigError::Value { key, problem };
        let log = file.log.iter().map(|key| VerifierKey::parse(key)).collect::<Result<Vec<_>, _>>();
        let is_address = |m: &&String| m.is_empty() || m.len() > URL_BYTES_MAX || m.contains(|c: char| c.is_control());
        if file.mirrors.is_empty() || file.mirrors.len() > MIRRORS_MAX || file.mirrors.iter().find(is_address).is_some()
        {
            return Err(bad(
                "mirrors",
                format!("expected 1 to {MIRRORS_MAX} addresses of up to {URL_BYTES_MAX} bytes"),
            ));
        }
        if file.member.is_service() {
            return Err(bad("member", "a service joins with its PoP; name the PoP".to_owned()));
        }
        Ok(Self {
            fleet: file.fleet,
            id: file.id,
            log: log.map_err(|e| bad("log", format!("a key {e}")))?,
            mirrors: file.mirrors,
            ca: file.ca,
            member: file.member,
            endpoint: file.endpoint,
            snapshot: file.snapshot,
            protection: file.protection,
            seed: file.seed,
        })
    }

    /// Whether both say the same, whatever their seeds are.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { fleet, id, log, mirrors, ca, member, endpoint, snapshot, protection, seed: _ } = self;
        (fleet, id, log, mirrors) == (&other.fleet, &other.id, &other.log, &other.mirrors)
            && (ca, member, endpoint) == (&other.ca, &other.member, &other.endpoint)
            && (snapshot, protection) == (&other.snapshot, &other.protection)
    }

    /// The text without the line of the seed; `None` if it has none, or the seed is written in another way than on a line
    /// of its own, or once more elsewhere.
    pub fn without_seed(text: &str) -> Option<String> {
        let is_seed = |line: &&str| {
            let rest = line.trim_start().strip_prefix(SEED);
            rest.is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        let kept: String = text.split_inclusive('\n').filter(|line| !is_seed(line)).collect();
        let whole = Self::parse(text).ok().filter(|c| c.seed.is_some())?;
        let rest = Self::parse(&kept).ok().filter(|c| c.seed.is_none())?;
        let same = rest.says_the_same(&whole);
        let is_gone = whole.seed.is_some_and(|seed| !kept.contains(seed.to_text().as_str()));
        (same && is_gone).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fleet = \"cdn.example\"\n\
        id = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n\
        mirrors = [\"https://keys.cdn.example\", \"/srv/fleet\"]\n\
        # who it is\n\
        member = \"fra1\"\n\
        seed = \"kt1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\n\
        endpoint = \"198.51.100.7\"\n";

    #[test]
    fn the_seeds_line_goes_and_the_rest_stays() {
        let config = Config::parse(TEXT).unwrap();
        assert_eq!((config.member.to_string().as_str(), config.mirrors.len()), ("fra1", 2));
        assert!(config.seed.is_some() && config.endpoint.is_some());
        let kept = Config::without_seed(TEXT).unwrap();
        assert_eq!(kept.lines().count(), TEXT.lines().count() - 1);
        assert!(!kept.contains("kt1.") && kept.contains("# who it is") && Config::parse(&kept).unwrap().seed.is_none());
        assert_eq!(Config::without_seed(&kept), None);
        // On two lines: better all of it stays than that a part of it is called gone.
        let split = TEXT.replace("seed = \"kt1.", "\"seed\" = \"kt1.");
        assert!(Config::parse(&split).is_ok_and(|c| c.seed.is_some()));
        assert_eq!(Config::without_seed(&split), None);
        // Once more in a comment, or in another value: it would still be there.
        let token = "kt1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for twice in [TEXT.replace("# who it is", &format!("#seed = \"{token}\"")), TEXT.replace("/srv/fleet", token)] {
            assert!(Config::parse(&twice).is_ok_and(|c| c.seed.is_some()));
            assert_eq!(Config::without_seed(&twice), None, "{twice}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_seed() {
        for (from, to, part) in [
            ("fleet = \"cdn", "fleet = \"CDN", "line 1: "),
            ("id = \"e3", "id = \"e", "64 lower-case hexadecimal"),
            ("member = \"fra1\"", "member = \"nginx@fra1\"", "member: a service joins with its PoP"),
            ("member = \"fra1\"", "membr = \"fra1\"", "unknown field `membr`"),
            ("mirrors = [\"https://keys.cdn.example\", \"/srv/fleet\"]", "mirrors = []", "mirrors: expected 1 to"),
            ("seed = \"kt1.AAAA", "seed = \"kt1.AAA", "line 6: the seed is not a token"),
            ("seed = \"kt1.AAAA", "seed = \"\"\"kt1.AAAA", "line 8"),
            ("seed = \"", "seed = [\"", "line "),
            ("\"fra1\"\nseed = ", "", "line 5: a token stands where none belongs"),
            ("# who", "log = [\"cdn.example/keys/1+00000000+AA==\"]\n# who", "log: a key "),
            ("198.51.100.7", "198.51.100.7:51820", "line 7: "),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let message = Config::parse(&TEXT.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.contains(part), "{to}: {message}");
            assert!(!message.contains("kt1.AAA"), "{message}");
        }
    }
}
