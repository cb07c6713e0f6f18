//! Tokens of well-known services by their fixed beginnings, and values under telling names.

use std::collections::BTreeMap;

/// A kind of token: how it begins, how much follows, of what.
pub(super) struct Token {
    begins: &'static str,
    /// How many characters follow at least.
    least: usize,
    /// Which characters these are.
    of: fn(u8) -> bool,
    kind: &'static str,
}

fn alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn upper(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}

fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

const fn token(begins: &'static str, least: usize, of: fn(u8) -> bool, kind: &'static str) -> Token {
    Token { begins, least, of, kind }
}

/// The tokens that are known, by what their services document.
pub(super) const TOKENS: &[Token] = &[
    token("AKIA", 16, upper, "an AWS access key"),
    token("ASIA", 16, upper, "an AWS access key"),
    token("ghp_", 36, alphanumeric, "a GitHub token"),
    token("gho_", 36, alphanumeric, "a GitHub token"),
    token("ghu_", 36, alphanumeric, "a GitHub token"),
    token("ghs_", 36, alphanumeric, "a GitHub token"),
    token("ghr_", 36, alphanumeric, "a GitHub token"),
    token("github_pat_", 50, word, "a GitHub token"),
    token("glpat-", 20, word, "a GitLab token"),
    token("xoxb-", 20, word, "a Slack token"),
    token("xoxp-", 20, word, "a Slack token"),
    token("xoxa-", 20, word, "a Slack token"),
    token("xoxs-", 20, word, "a Slack token"),
    token("xapp-", 20, word, "a Slack token"),
    token("sk_live_", 20, alphanumeric, "a Stripe key"),
    token("rk_live_", 20, alphanumeric, "a Stripe key"),
    token("AIza", 35, word, "a Google API key"),
    token("npm_", 36, alphanumeric, "an npm token"),
    token("pypi-AgE", 50, word, "a PyPI token"),
    token("hvs.", 24, word, "a Vault token"),
];

impl Token {
    /// The kind, if such a token stands in the line.
    pub(super) fn is_in(&self, line: &str) -> Option<&'static str> {
        line.match_indices(self.begins).find_map(|(at, _)| {
            let before = line.get(..at)?.bytes().next_back();
            let rest = line.get(at + self.begins.len()..)?;
            let run: &str = rest.get(..rest.bytes().take_while(|b| (self.of)(*b)).count())?;
            let stands_alone = before.is_none_or(|b| !word(b));
            (stands_alone && run.len() >= self.least && has_variety(run) && !is_placeholder(run)).then_some(self.kind)
        })
    }
}

/// Names whose values are secret.
const NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "access-key",
    "private_key",
    "private-key",
    "credential",
];

/// Last parts of names that only speak of a secret.
const ABOUT: &[&str] = &[
    "file",
    "path",
    "name",
    "id",
    "url",
    "uri",
    "hash",
    "digest",
    "sha256",
    "fingerprint",
    "type",
    "kind",
    "address",
    "policy",
    "hint",
    "expires",
    "count",
    "length",
    "bytes",
    "version",
    "ref",
    "match",
];

/// Whether a line gives something that looks random to a name that says it is secret.
pub(super) fn named_value(line: &str) -> Option<&'static str> {
    let lower = line.to_ascii_lowercase();
    let at = line.find([':', '='])?;
    let name = lower.get(..at)?.trim_end_matches([' ', '\t', '"', '\'', '`', ']']);
    let name: &str = name.rsplit(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))).next()?;
    if !NAMES.iter().any(|n| name.contains(n)) || ABOUT.iter().any(|a| name.rsplit(['_', '-']).next() == Some(a)) {
        return None;
    }
    let value = line.get(at..)?.trim_start_matches([':', '=', '>', ' ', '\t']);
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let value = match quote {
        Some(quote) => value.get(1..)?.split(quote).next()?,
        // Bare: one word and nothing of a program behind it.
        None => value.trim_end_matches([',', ';', ' ', '\t']),
    };
    (is_random(value) && !is_placeholder(value)).then_some("something random under a name that says it is secret")
}

/// What no person chose: at least three kinds of characters in at least eight, or sixteen with much variety.
fn is_random(value: &str) -> bool {
    let outside = |b: u8| {
        !b.is_ascii_graphic()
            || matches!(b, b'(' | b')' | b'<' | b'>' | b'{' | b'}' | b'[' | b']' | b'"' | b'\'' | b'`' | b'$')
    };
    if value.bytes().any(outside) || value.contains("::") || value.contains("//") {
        return false;
    }
    let has = |of: fn(&u8) -> bool| value.bytes().any(|b| of(&b));
    let kinds = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit, u8::is_ascii_punctuation];
    let kinds = kinds.into_iter().filter(|of| has(*of)).count();
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    mixed && ((value.len() >= 8 && kinds >= 3 && entropy(value) >= 2.5) || (value.len() >= 16 && entropy(value) >= 3.2))
}

/// Shannon's entropy of the characters, in bits each.
fn entropy(value: &str) -> f64 {
    let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
    value.bytes().for_each(|b| *counts.entry(b).or_default() += 1);
    let all = f64::from(u32::try_from(value.len()).unwrap_or(u32::MAX));
    counts.values().map(|n| f64::from(*n) / all).map(|p| -p * p.log2()).sum()
}

/// Whether these are not a few characters again and again, as in an example.
pub(super) fn has_variety(value: &str) -> bool {
    entropy(value) >= 2.5
}

fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    ["example", "changeme", "placeholder", "redacted", "xxxx", "your-", "your_", "dummy", "…", "..."].iter().any(|w| lower.contains(w))
        // An address of a secret is what should stand there.
        || value.parse::<crate::name::Address>().is_ok()
}
