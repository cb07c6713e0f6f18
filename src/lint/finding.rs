//! A finding: what, where, how grave, and the way out.

use std::fmt;

use crate::words::words;

words! {
    /// How grave a finding is.
    Severity, "a severity":
    /// Worth knowing.
    Note = "note",
    /// Will become an error, or makes one worse.
    Warning = "warning",
    /// Somebody can read what he should not, or cannot read what he should.
    Error = "error",
}

words! {
    /// What was found. The words are stable: scripts go by them.
    Code, "a finding":
    /// A secret is readable by somebody who should not, or lacks a reader or a reader's present key.
    Drift = "drift",
    /// A reader's certificate has expired.
    ReaderExpired = "reader-expired",
    /// A reader's certificate expires soon.
    ReaderExpires = "reader-expires",
    /// Too few operators vouch for a reader.
    ReaderUnvouched = "reader-unvouched",
    /// A value was readable by somebody who was compromised or lost, and has not been replaced.
    Burned = "burned",
    /// A secret's owner has left.
    Orphan = "orphan",
    /// A member can read a large part of all secrets.
    Reach = "reach",
    /// A PoP or service can read another PoP's own secret.
    ReachElsewhere = "reach-elsewhere",
    /// One value on several PoPs.
    Shared = "shared",
    /// A rule allows sharing that nobody makes use of.
    RuleUnused = "rule-unused",
    /// A rule matches no secret.
    RuleEmpty = "rule-empty",
    /// An earlier rule matches everything that a rule matches.
    RuleShadowed = "rule-shadowed",
    /// Two addresses have the same encrypted body.
    DuplicateBody = "duplicate-body",
    /// Two addresses have the same value.
    DuplicateValue = "duplicate-value",
    /// A sealed file is missing, or not the one that the log has.
    SealedDamaged = "sealed-damaged",
    /// A file in the place of a sealed one is no OpenPGP message.
    SealedForeign = "sealed-foreign",
    /// A policy file that cannot be read, or can never be kept.
    Policy = "policy",
    /// A private key that is not sealed.
    PlainKey = "plain-key",
    /// A token of a well-known service that is not sealed.
    PlainToken = "plain-token",
    /// A value that looks random, under a name such as password.
    PlainValue = "plain-value",
    /// A file that was too large to be looked at.
    Unread = "unread",
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How grave.
    pub severity: Severity,
    /// What kind.
    pub code: Code,
    /// Where: an address, a member, a rule, a path.
    pub place: String,
    /// The line, from 1, where it is in a file.
    pub line: Option<usize>,
    /// What, in words.
    pub text: String,
    /// The way out.
    pub fix: &'static str,
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        code: Code,
        place: impl fmt::Display,
        text: String,
        fix: &'static str,
    ) -> Self {
        Self { severity, code, place: place.to_string(), line: None, text, fix }
    }
}

/// Puts findings in order: the gravest first, then by kind and place.
pub fn rank(findings: &mut [Finding]) {
    let key = |f: &Finding| (std::cmp::Reverse(f.severity), f.code, f.place.clone(), f.line);
    findings.sort_by_cached_key(key);
}
