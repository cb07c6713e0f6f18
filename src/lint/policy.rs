//! Drafts of policy files: what the reader says of each, with its line.

use std::collections::BTreeMap;

use super::finding::{Code, Finding, Severity};
use crate::policy::{
    FILES, FleetPolicy, Policy, PolicyError, SecretsPolicy, SshPolicy, WireguardPolicy, fleet, secrets, ssh,
};

const FIX: &str = "docs/formats/policy.md names every key";

/// One file of a policy, by its name without the directory; `None` if that is no policy file's.
pub fn policy_file(name: &str, text: &str) -> Option<Option<Finding>> {
    FILES.contains(&name).then(|| {
        let read = match name {
            fleet::FILE => FleetPolicy::parse(text).map(|_| ()),
            secrets::FILE => SecretsPolicy::parse(text).map(|_| ()),
            ssh::FILE => SshPolicy::parse(text).map(|_| ()),
            _ => WireguardPolicy::parse(text).map(|_| ()),
        };
        read.err().map(|e| finding(&format!("policy/{name}"), &e))
    })
}

/// Each file of a policy by itself, so that a mistake in one hides none in another; then all together.
pub fn policy(files: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut found: Vec<Finding> = files.iter().filter_map(|(name, text)| policy_file(name, text).flatten()).collect();
    if let (true, Err(e)) = (found.is_empty(), Policy::parse(files)) {
        found.push(finding("policy/", &e));
    }
    found
}

fn finding(place: &str, error: &PolicyError) -> Finding {
    let (line, text) = match error {
        PolicyError::Toml { detail, .. } => (line_of(detail), last_line(detail)),
        other => (None, other.to_string()),
    };
    Finding { line, ..Finding::new(Severity::Error, Code::Policy, place, text, FIX) }
}

/// The line that the TOML reader names: "TOML parse error at line 2, column 1".
fn line_of(detail: &str) -> Option<usize> {
    let rest = detail.split_once("at line ")?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn last_line(detail: &str) -> String {
    detail.lines().next_back().unwrap_or_default().to_owned()
}
