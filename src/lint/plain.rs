//! Values that were never sealed, by their look: private keys, tokens of well-known services, and what looks random under a
//! name such as password.
//!
//! Heuristics, not proof, in either direction. What was found is never kept: a finding has a line and a kind. A line that is
//! meant to be there says so with [`ALLOW`], on itself or on the line before.

use super::finding::{Code, Severity};
use super::token::{TOKENS, named_value};
use crate::limits::LINT_LINE_BYTES_MAX;

/// What marks a line that only looks like a secret.
pub const ALLOW: &str = "keys-lint: allow";

/// How many of a file's first bytes decide whether it is text.
const HEAD: usize = 8_000;

/// Something that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// The line, from 1.
    pub line: usize,
    /// How grave.
    pub severity: Severity,
    /// What kind of finding.
    pub code: Code,
    /// What it looks like.
    pub kind: &'static str,
}

/// Whether these bytes are no text.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes.get(..HEAD).unwrap_or(bytes).contains(&0)
}

/// Looks through a text.
pub fn plain(bytes: &[u8]) -> Vec<Plain> {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut is_allowed = false;
    for (i, line) in lines.iter().enumerate() {
        let was_allowed = std::mem::replace(&mut is_allowed, line.contains(ALLOW));
        if was_allowed || is_allowed {
            continue;
        }
        let rest = lines.get(i + 1..).unwrap_or_default();
        if let Some((severity, code, kind)) = look(line, rest) {
            found.push(Plain { line: i + 1, severity, code, kind });
        }
    }
    found
}

/// The gravest thing that a line looks like.
fn look(line: &str, rest: &[&str]) -> Option<(Severity, Code, &'static str)> {
    // Nobody writes such a line; what a program wrote is looked at as far as that goes.
    let line = cut(line);
    if let Some((severity, kind)) = key_block(line, rest) {
        return Some((severity, Code::PlainKey, kind));
    }
    if let Some(kind) = one_line_key(line) {
        return Some((Severity::Error, Code::PlainKey, kind));
    }
    if let Some(kind) = TOKENS.iter().find_map(|token| token.is_in(line)) {
        return Some((Severity::Error, Code::PlainToken, kind));
    }
    named_value(line).map(|kind| (Severity::Warning, Code::PlainValue, kind))
}

fn cut(line: &str) -> &str {
    let end = (0..=LINT_LINE_BYTES_MAX.min(line.len())).rev().find(|i| line.is_char_boundary(*i)).unwrap_or_default();
    line.get(..end).unwrap_or_default()
}

/// A block of a private key: its first line, and something of its body, so that a text about such blocks is none.
fn key_block(line: &str, rest: &[&str]) -> Option<(Severity, &'static str)> {
    let begin = line.find("-----BEGIN ")?;
    let label = line.get(begin + "-----BEGIN ".len()..)?;
    let (label, after) = label.split_once("-----")?;
    let kind = match label {
        "OPENSSH PRIVATE KEY" => "an OpenSSH private key",
        "PGP PRIVATE KEY BLOCK" => "an OpenPGP private key",
        "ENCRYPTED PRIVATE KEY" => "a private key under a passphrase",
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "DSA PRIVATE KEY" => "a private key (PEM)",
        _ => return None,
    };
    // In a program's text the lines may be joined by \n.
    let same_line = after.trim_start_matches("\\n");
    let body = std::iter::once(same_line).chain(rest.iter().take(6).copied()).map(cut).any(is_body);
    let severity = if label == "ENCRYPTED PRIVATE KEY" { Severity::Warning } else { Severity::Error };
    body.then_some((severity, kind))
}

/// A line of a block's base64, in quotes or not.
fn is_body(line: &str) -> bool {
    let line = line.trim().trim_start_matches(['"', '\'', '|', '#', '/', ' ']);
    let run = line.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')).count();
    run >= 32
}

/// A private key that has one line: WireGuard's, age's, a signed note's.
fn one_line_key(line: &str) -> Option<&'static str> {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    let wireguard = match name.trim().trim_start_matches('#').trim() {
        "PrivateKey" => Some("a WireGuard private key"),
        "PresharedKey" => Some("a WireGuard preshared key"),
        _ => None,
    };
    let value = value.trim().trim_matches(['"', '\'']);
    if let Some(kind) = wireguard.filter(|_| is_base64_of_32(value)) {
        return Some(kind);
    }
    let after = |mark: &str| line.find(mark).and_then(|at| line.get(at + mark.len()..));
    if after("AGE-SECRET-KEY-1").is_some_and(|rest| rest.bytes().take_while(u8::is_ascii_alphanumeric).count() >= 50) {
        return Some("an age identity");
    }
    let note = after("PRIVATE+KEY+").map(|rest| rest.split('+').collect::<Vec<_>>());
    if let Some([_, hash, key, ..]) = note.as_deref()
        && hash.len() == 8
        && key.len() >= 40
    {
        return Some("a private key for signed notes");
    }
    None
}

fn is_base64_of_32(value: &str) -> bool {
    let value: String = value.chars().take_while(|c| !c.is_whitespace()).collect();
    value.len() == 44
        && value.ends_with('=')
        && value.bytes().take(43).all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
        && super::token::has_variety(&value)
}
