//! Files of variables, as `.env` files have them.
//!
//! ```text
//! # the database
//! DB_USER=web
//! export DB_PASSWORD='it is # not a comment'   # but this is one
//! DB_CA="-----BEGIN CERTIFICATE-----
//! …
//! -----END CERTIFICATE-----\n"
//! ```
//! There is no standard. What is read here is what the common readers agree about, and nothing is expanded: `$` is a
//! dollar sign. Without quotes a value reaches to the end of its line or to white space and `#`; in single quotes
//! everything stands for itself; in double quotes `\n \r \t \" \\ \$` are escapes, and any other is refused.

use std::collections::BTreeMap;
use std::ops::Range;

use zeroize::Zeroizing;

use super::leaf::{FormatError, Kind, Leaf, Step};

/// The values of a file of variables, in its order.
///
/// # Errors
/// [`FormatError`].
pub(super) fn scan(text: &str) -> Result<Vec<Leaf>, FormatError> {
    let mut scanner = Scanner { text, at: 0 };
    let mut leaves: Vec<Leaf> = Vec::new();
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    if let Some(nul) = text.find('\0') {
        return Err(FormatError::at(text, nul, "a NUL byte"));
    }
    while scanner.at < text.len() {
        let start = scanner.at;
        let Some(leaf) = scanner.line()? else { continue };
        let name = super::leaf::path_text(&leaf.path);
        if let Some(before) = lines.insert(name.clone(), start) {
            let before = FormatError::at(text, before, "").line;
            return Err(FormatError::at(text, start, format!("{name} stands in line {before} already")));
        }
        leaves.push(leaf);
    }
    Ok(leaves)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, problem: impl Into<String>) -> FormatError {
        FormatError::at(self.text, self.at, problem)
    }

    fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.text.len());
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.skip(rest.len() - rest.trim_start_matches([' ', '\t']).len());
    }

    /// What stands before the end of the line, without it.
    fn line_rest(&self) -> &'a str {
        let line = self.rest().split('\n').next().unwrap_or_default();
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn skip_line(&mut self) {
        let rest = self.rest();
        self.skip(rest.find('\n').map_or(rest.len(), |n| n.saturating_add(1)));
    }

    /// One line, or more where a value in quotes goes on.
    fn line(&mut self) -> Result<Option<Leaf>, FormatError> {
        if self.at == 0 && self.text.starts_with('\u{feff}') {
            self.skip('\u{feff}'.len_utf8());
        }
        self.skip_blanks();
        if self.line_rest().is_empty() || self.rest().starts_with('#') {
            self.skip_line();
            return Ok(None);
        }
        if let Some(after) = self.line_rest().strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.skip("export".len());
            self.skip_blanks();
        }
        let line = self.line_rest();
        let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')));
        let name = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.error("NAME=VALUE is expected, with a name of letters, digits, '_', '.' and '-'"));
        }
        self.skip(name.len());
        self.skip_blanks();
        if !self.rest().starts_with('=') {
            return Err(self.error(format!("there is no '=' after {name}")));
        }
        self.skip(1);
        self.skip_blanks();
        let (span, value) = self.value(name)?;
        Ok(Some(Leaf { path: vec![Step::Key(name.to_owned())], kind: Kind::Text, span, value }))
    }

    fn value(&mut self, name: &str) -> Result<(Range<usize>, Zeroizing<String>), FormatError> {
        let start = self.at;
        let value = match self.rest().bytes().next() {
            Some(b'\'') => self.single(name)?,
            Some(b'"') => self.double(name)?,
            _ => {
                let line = self.line_rest();
                let comment = line
                    .match_indices('#')
                    .find(|(i, _)| *i == 0 || line.get(..*i).is_some_and(|before| before.ends_with([' ', '\t'])));
                let value = line.get(..comment.map_or(line.len(), |(i, _)| i)).unwrap_or_default().trim_end();
                self.skip(value.len());
                Zeroizing::new(value.to_owned())
            }
        };
        let span = start..self.at;
        self.skip_blanks();
        let after = self.line_rest();
        if !after.is_empty() && !after.starts_with('#') {
            return Err(self.error(format!("something follows the closing quote of {name}")));
        }
        self.skip_line();
        Ok((span, value))
    }

    fn single(&mut self, name: &str) -> Result<Zeroizing<String>, FormatError> {
        let inside = self.rest().get(1..).unwrap_or_default();
        let end = inside.find('\'').ok_or_else(|| self.error(format!("the quote of {name} is not closed")))?;
        let value = Zeroizing::new(inside.get(..end).unwrap_or_default().to_owned());
        self.skip(end.saturating_add(2));
        Ok(value)
    }

    fn double(&mut self, name: &str) -> Result<Zeroizing<String>, FormatError> {
        let inside = self.rest().get(1..).unwrap_or_default();
        // One allocation of the full size: a growing one would leave copies behind.
        let mut value = Zeroizing::new(String::with_capacity(inside.len()));
        let mut chars = inside.char_indices();
        while let Some((i, c)) = chars.next() {
            let c = match c {
                '"' => {
                    self.skip(i.saturating_add(2));
                    return Ok(value);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(c @ ('"' | '\\' | '$')) => c,
                    _ => {
                        self.skip(i.saturating_add(1));
                        return Err(self.error(format!(
                            "an escape in {name} that readers do not agree about; in single quotes '\\' stands for itself"
                        )));
                    }
                },
                c => c,
            };
            value.push(c);
        }
        Err(self.error(format!("the quote of {name} is not closed")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::checks;

    fn read(text: &str) -> Vec<(String, String)> {
        let leaves = scan(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        leaves.iter().map(|l| (super::super::path_text(&l.path), l.value.to_string())).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn values_are_read_with_and_without_quotes() {
        let text = "\u{feff}# a comment\r\n\nA=1\r\n  export B = two words # said\nC='# $x \\n'\nD=\"a\\n\\\"b\\\" \\$\"\n\
                    E=\nF=\"two\nlines\" # too\nG=a#b\nexport_me=x\nH='ü'\nI= #c";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "# $x \\n"),
            ("D", "a\n\"b\" $"),
            ("E", ""),
            ("F", "two\nlines"),
            ("G", "a#b"),
            ("export_me", "x"),
            ("H", "ü"),
            ("I", ""),
        ];
        assert_eq!(read(text), pairs(&expected));
        for leaf in scan(text).unwrap() {
            let there = text.get(leaf.span.clone()).unwrap();
            assert!(there.contains(leaf.value.as_str()) || there.contains('\\'), "{leaf:?}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_without_the_value() {
        let cases = [
            ("A=1\nB", 2, "no '=' after B"),
            ("A=1\n\nA=hidden", 3, "stands in line 1 already"),
            ("A='hidden", 1, "not closed"),
            ("A=\"hidden\n\n", 1, "not closed"),
            ("\nA=\"x\\q hidden\"", 2, "escape in A"),
            ("A='x' hidden", 1, "follows the closing quote"),
            ("1A=hidden", 1, "NAME=VALUE"),
            ("=hidden", 1, "NAME=VALUE"),
            ("A=1\nB=\0", 2, "NUL"),
        ];
        checks::names_mistakes(scan, &cases);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[A-C=#'\"\\\\\n \tü$]{0,40}") {
            for leaf in scan(&text).unwrap_or_default() {
                proptest::prop_assert!(text.get(leaf.span.clone()).is_some());
            }
        }
    }
}
