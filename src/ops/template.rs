//! Templates: text with placeholders for secrets' values, `{{ nginx@fra1/db-password }}`.
//!
//! ```text
//! {{ ADDRESS }}            the value as it is
//! {{ ADDRESS | trim }}     without white space around it
//! {{ ADDRESS | base64 }}   also: hex, json (a JSON string), shell (one word of a shell)
//! \{{                      the two braces themselves
//! ```
//! A value is put in once, as it is: what looks like a placeholder in it is none.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::name::Address;
use crate::words::words;

words! {
    /// What is done to a value before it is put in.
    Filter, "a filter":
    /// In base64, with padding (RFC 4648).
    Base64 = "base64",
    /// In lower-case hexadecimal.
    Hex = "hex",
    /// As a JSON string with its quotes; the value has to be UTF-8.
    Json = "json",
    /// As one word of a POSIX shell; the value has to be text without NUL.
    Shell = "shell",
    /// Without white space around it; the value has to be UTF-8.
    Trim = "trim",
}

/// Why a template cannot be read, or a value cannot be put in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TemplateError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong; never a value.
    pub problem: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Secret { address: Address, filters: Vec<Filter>, line: usize },
}

impl Part {
    fn address(&self) -> Option<&Address> {
        match self {
            Self::Secret { address, .. } => Some(address),
            Self::Text(_) => None,
        }
    }
}

/// A template, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads a template. Outside of placeholders it may be any bytes.
    ///
    /// # Errors
    /// [`TemplateError`]: a placeholder that does not end on its line, or holds no address or filter.
    pub fn parse(bytes: &[u8]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut text = Vec::new();
        for (i, row) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            let mut rest = row;
            while let Some(at) = rest.windows(2).position(|two| two == b"{{") {
                let (before, from) = rest.split_at(at);
                let inside = from.get(2..).unwrap_or_default();
                if let Some(before) = before.strip_suffix(b"\\") {
                    text.extend_from_slice(before);
                    text.extend_from_slice(b"{{");
                    rest = inside;
                    continue;
                }
                text.extend_from_slice(before);
                let wrong = |problem: String| TemplateError { line: i + 1, problem };
                let end = inside.windows(2).position(|two| two == b"}}").ok_or_else(|| {
                    wrong("a placeholder does not end on its line; \\{{ stands for the braces themselves".to_owned())
                })?;
                let (placeholder, after) = inside.split_at(end);
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(placeholder_of(placeholder, i + 1).map_err(wrong)?);
                rest = after.get(2..).unwrap_or_default();
            }
            text.extend_from_slice(rest);
        }
        parts.push(Part::Text(text));
        Ok(Self(parts))
    }

    /// The secrets that it wants.
    pub fn addresses(&self) -> BTreeSet<&Address> {
        self.0.iter().filter_map(Part::address).collect()
    }

    /// Puts the values in.
    ///
    /// # Errors
    /// [`TemplateError`], if a value is not what a filter takes, or `value` has none.
    pub fn fill<'v>(&self, value: impl Fn(&Address) -> Option<&'v [u8]>) -> Result<Zeroizing<Vec<u8>>, TemplateError> {
        let mut filled = Zeroizing::new(Vec::new());
        for part in &self.0 {
            match part {
                Part::Text(text) => append(&mut filled, text),
                Part::Secret { address, filters, line } => {
                    let wrong = |problem: String| TemplateError { line: *line, problem };
                    let found = value(address).ok_or_else(|| wrong(format!("there is no value of {address}")))?;
                    let mut text = Zeroizing::new(found.to_vec());
                    for filter in filters {
                        text = filtered(*filter, &text).ok_or_else(|| {
                            wrong(format!("the value of {address} is not text, which '{filter}' takes"))
                        })?;
                    }
                    append(&mut filled, &text);
                }
            }
        }
        Ok(filled)
    }
}

/// Grows into a new allocation and wipes the old one, which a growing vector would leave behind.
fn append(to: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    let wanted = to.len() + bytes.len();
    if wanted > to.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(wanted.max(2 * to.capacity())));
        larger.extend_from_slice(to);
        *to = larger;
    }
    to.extend_from_slice(bytes);
}

fn placeholder_of(text: &[u8], line: usize) -> Result<Part, String> {
    let text = std::str::from_utf8(text).map_err(|_| "a placeholder is not UTF-8".to_owned())?;
    let mut words = text.split('|').map(str::trim);
    let address = words.next().unwrap_or_default();
    let address = address.parse().map_err(|e| format!("'{}' is no address: {e}", crate::text::shown(address)))?;
    Ok(Part::Secret { address, filters: words.map(str::parse).collect::<Result<_, _>>()?, line })
}

fn filtered(filter: Filter, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = || std::str::from_utf8(value).ok();
    Some(Zeroizing::new(match filter {
        Filter::Base64 => BASE64.encode(value).into_bytes(),
        Filter::Hex => crate::text::hex(value).into_bytes(),
        Filter::Json => serde_json::to_vec(text()?).ok()?,
        Filter::Shell => format!("'{}'", text().filter(|t| !t.contains('\0'))?.replace('\'', r"'\''")).into_bytes(),
        Filter::Trim => text()?.trim().as_bytes().to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, value: &[u8]) -> Result<String, TemplateError> {
        let filled = Template::parse(template.as_bytes())?.fill(|_| Some(value))?;
        Ok(String::from_utf8(filled.to_vec()).unwrap())
    }

    #[test]
    fn values_are_put_in_once_and_as_they_are() {
        assert_eq!(fill("a={{fra1/a}};b={{ fra1/b }}\n", b"x y\n").unwrap(), "a=x y\n;b=x y\n\n");
        assert_eq!(fill("{{fra1/a}}", b"{{fra1/b}}").unwrap(), "{{fra1/b}}");
        assert_eq!(fill("no \\{{ none }} {", b"").unwrap(), "no {{ none }} {");
        assert_eq!(fill("", b"x").unwrap(), "");
        let bytes = b"\xff{{fra1/a}}\xfe";
        assert_eq!(Template::parse(bytes).unwrap().fill(|_| Some(b"1")).unwrap().as_slice(), b"\xff1\xfe");
        let template = Template::parse(b"{{fra1/a}} {{nginx@*/b | trim}} {{fra1/a | hex}}").unwrap();
        let wanted: Vec<String> = template.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(wanted, ["fra1/a", "nginx@*/b"]);
    }

    #[test]
    fn filters() {
        let filled = |filter: &str, value: &[u8]| fill(&format!("{{{{ fra1/a | {filter} }}}}"), value);
        assert_eq!(filled("base64", b"\xff\xfe").unwrap(), "//4=");
        assert_eq!(filled("hex", b"\xff\xfe").unwrap(), "fffe");
        assert_eq!(filled("json", b"a\"\n").unwrap(), r#""a\"\n""#);
        assert_eq!(filled("shell", b"it's").unwrap(), r"'it'\''s'");
        assert_eq!(filled("trim | json", b" a \n").unwrap(), r#""a""#);
        for filter in ["json", "shell", "trim"] {
            let e = filled(filter, b"\xff").unwrap_err();
            assert!(e.problem.contains("is not text") && e.line == 1, "{e}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let problem = |text: &str| Template::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(problem("a\nb {{ fra1/a\n}}").starts_with("line 2: a placeholder does not end on its line"));
        assert!(problem("{{ }}").starts_with("line 1: '' is no address"));
        assert!(problem("{{ fra1/a | bsae64 }}").contains("base64"));
        let template = Template::parse(b"\n{{fra1/a}}").unwrap();
        assert_eq!(template.fill(|_| None).unwrap_err().to_string(), "line 2: there is no value of fra1/a");
    }
}
