//! What a check found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::name::MemberName;

/// Whether a finding stops the rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is rendered.
    Error,
    /// It is said, and rendered all the same.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// What a finding about nodes comes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// What a node has said when it was enrolled: name, region, roles, endpoint.
    Enrolment,
    /// The keys that it has published.
    Keys,
    /// The machine, of which the log says nothing.
    Machine,
}

/// One thing that is wrong, or may be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Whether it stops the rendering.
    pub severity: Severity,
    /// A word for the kind of finding, the same in every version.
    pub code: &'static str,
    /// The nodes it is about, by name; none if it is about the policy.
    pub nodes: Vec<MemberName>,
    /// The file and line of the policy that it comes of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The entries of the log that say of the nodes what is found, as far as they were looked up.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub entries: BTreeMap<MemberName, u64>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Finding {
    /// An error about `nodes`.
    pub(crate) fn error<'a>(
        code: &'static str,
        nodes: impl IntoIterator<Item = &'a MemberName>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let (message, hint) = (message.into(), hint.into());
        let (nodes, entries) = (sorted(nodes), BTreeMap::new());
        Self { severity: Severity::Error, code, nodes, place: None, entries, message, hint }
    }

    /// A warning about `nodes`.
    pub(crate) fn warning<'a>(
        code: &'static str,
        nodes: impl IntoIterator<Item = &'a MemberName>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, nodes, message, hint) }
    }

    /// The same with the place in the policy's file that it comes of.
    pub(crate) fn at(self, place: String) -> Self {
        Self { place: Some(place), ..self }
    }

    /// What it comes of, as far as it is about nodes.
    pub fn origin(&self) -> Origin {
        match self.code.split_once('-') {
            Some(("key" | "psk", _)) => Origin::Keys,
            Some(("live", _)) => Origin::Machine,
            Some(_) | None => Origin::Enrolment,
        }
    }
}

fn sorted<'a>(nodes: impl IntoIterator<Item = &'a MemberName>) -> Vec<MemberName> {
    let mut nodes: Vec<_> = nodes.into_iter().cloned().collect();
    nodes.sort();
    nodes
}

/// Names shown before the rest is counted.
const NAMES_SHOWN: usize = 5;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.nodes.is_empty() {
            let name = |node: &MemberName| match self.entries.get(node) {
                Some(entry) => format!("{node} (entry {entry})"),
                None => node.to_string(),
            };
            let names: Vec<_> = self.nodes.iter().take(NAMES_SHOWN).map(name).collect();
            let rest = self.nodes.len().saturating_sub(NAMES_SHOWN);
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            write!(f, "{}{more}: ", names.join(", "))?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_counted() {
        let names: Vec<MemberName> = (1..=7).rev().filter_map(|i| format!("pop{i}").parse().ok()).collect();
        let mut finding = Finding::warning("x", &names, "has something", "do something");
        assert_eq!(finding.to_string(), "warning: pop1, pop2, pop3, pop4, pop5 and 2 more: has something");
        finding.entries = names.iter().skip(5).cloned().zip([8, 3]).collect();
        let shown = finding.to_string();
        assert_eq!(shown, "warning: pop1 (entry 3), pop2 (entry 8), pop3, pop4, pop5 and 2 more: has something");
        let wrong = Finding::error("x", [], "is wrong", "");
        assert_eq!(wrong.to_string(), "error: is wrong");
        assert_eq!(wrong.at("policy/x.toml:3".to_owned()).to_string(), "error: policy/x.toml:3: is wrong");
    }
}
