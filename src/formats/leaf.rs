//! A value in a structured file: where it stands, and what it is.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroizing;

use crate::words::words;

words! {
    /// What sort of value it is.
    Kind, "a kind of value":
    /// A text, in quotes or without.
    Text = "text",
    /// A whole number.
    Integer = "integer",
    /// Any other number.
    Float = "float",
    /// True or false.
    Boolean = "boolean",
    /// A date or a time.
    Time = "time",
    /// Nothing.
    Null = "null",
}

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The value under a key.
    Key(String),
    /// The value at a place in a list, from 0.
    Index(usize),
}

/// A value. Its text is wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The way to it from the top.
    pub path: Vec<Step>,
    /// What it is.
    pub kind: Kind,
    /// Where it stands in the file, quotes included, in bytes.
    pub span: Range<usize>,
    /// The value itself, without quotes and escapes.
    pub value: Zeroizing<String>,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leaf({} at {:?}: {}, ..)", path_text(&self.path), self.span, self.kind)
    }
}

/// A way as text: `db.users[0].name`. A key that is not plain stands in quotes as JSON has them, so that no two ways have
/// one text.
pub fn path_text(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Index(index) => out.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'@' | b'/');
                if !key.is_empty() && key.bytes().all(plain) {
                    out.push_str(key);
                } else {
                    out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                }
            }
        }
    }
    out
}

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
#[non_exhaustive]
pub struct FormatError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there. Keys may be in it, values are not.
    pub problem: String,
}

impl FormatError {
    /// An error at a byte of a text.
    pub(super) fn at(text: &str, byte: usize, problem: impl Into<String>) -> Self {
        let before = text.as_bytes().get(..byte).unwrap_or(text.as_bytes());
        let line = before.iter().filter(|b| **b == b'\n').count().saturating_add(1);
        Self { line, problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_have_one_text_each() {
        let key = |k: &str| Step::Key(k.to_owned());
        assert_eq!(path_text(&[key("db"), key("users"), Step::Index(0), key("name")]), "db.users[0].name");
        assert_eq!(path_text(&[key("a.b"), key("")]), "\"a.b\".\"\"");
        assert_ne!(path_text(&[key("a.b")]), path_text(&[key("a"), key("b")]));
        assert_ne!(path_text(&[key("a[0]")]), path_text(&[key("a"), Step::Index(0)]));
    }

    #[test]
    fn a_value_is_not_shown() {
        let leaf = Leaf {
            path: vec![Step::Key("k".to_owned())],
            kind: Kind::Text,
            span: 0..1,
            value: Zeroizing::new("hidden".to_owned()),
        };
        assert!(!format!("{leaf:?}").contains("hidden"));
    }
}
