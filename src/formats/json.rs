//! JSON (RFC 8259) with the place of each value. The structure is read here, texts and numbers are `serde_json`'s.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::leaf::{FormatError, Kind, Leaf, Step, path_text};
use crate::limits::STRUCTURE_DEPTH_MAX;

/// The values of a JSON file, in its order. An empty list or object has none.
///
/// # Errors
/// [`FormatError`].
pub(super) fn scan(text: &str) -> Result<Vec<Leaf>, FormatError> {
    let mut reader = Reader { text, at: 0, path: Vec::new(), leaves: Vec::new() };
    reader.blanks();
    reader.value()?;
    reader.blanks();
    match reader.peek() {
        None => Ok(reader.leaves),
        Some(_) => Err(reader.error("something follows the value")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Step>,
    leaves: Vec<Leaf>,
}

impl<'a> Reader<'a> {
    fn error(&self, problem: impl Into<String>) -> FormatError {
        FormatError::at(self.text, self.at, problem)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.step();
        }
    }

    fn value(&mut self) -> Result<(), FormatError> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.list(),
            Some(b'"') => {
                let start = self.at;
                let value = self.quoted()?;
                self.leaf(Kind::Text, start, value);
                Ok(())
            }
            Some(_) => self.word(),
            None => Err(self.error("the file ends where a value is expected")),
        }
    }

    fn leaf(&mut self, kind: Kind, start: usize, value: Zeroizing<String>) {
        self.leaves.push(Leaf { path: self.path.clone(), kind, span: start..self.at, value });
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<(), FormatError> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
            self.step();
        }
        let word = self.text.get(start..self.at).unwrap_or_default();
        let kind = match word {
            "true" | "false" => Kind::Boolean,
            "null" => Kind::Null,
            _ if serde_json::from_str::<serde_json::Number>(word).is_err() => {
                self.at = start;
                return Err(self.error("this is no value: a text stands in double quotes"));
            }
            _ if word.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) => Kind::Float,
            _ => Kind::Integer,
        };
        let value = Zeroizing::new(word.to_owned());
        self.leaf(kind, start, value);
        Ok(())
    }

    /// A text in quotes.
    fn quoted(&mut self) -> Result<Zeroizing<String>, FormatError> {
        let start = self.at;
        self.step();
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.step();
                    self.step();
                }
                Some(_) => self.step(),
                None => {
                    self.at = start;
                    return Err(self.error("a quote is not closed"));
                }
            }
        }
        self.step();
        let token = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str::<String>(token).map(Zeroizing::new).map_err(|_| {
            FormatError::at(self.text, start, "a text with an escape that JSON does not have, or a control character")
        })
    }

    fn enter(&mut self, step: Step) -> Result<(), FormatError> {
        if self.path.len() >= STRUCTURE_DEPTH_MAX {
            return Err(self.error(format!("values lie deeper than {STRUCTURE_DEPTH_MAX} levels")));
        }
        self.path.push(step);
        Ok(())
    }

    /// After a member: whether another follows.
    fn another(&mut self, close: u8) -> Result<bool, FormatError> {
        self.blanks();
        match self.peek() {
            Some(b',') => {
                self.step();
                self.blanks();
                Ok(true)
            }
            Some(b) if b == close => {
                self.step();
                Ok(false)
            }
            _ => Err(self.error(format!("',' or '{}' is expected", char::from(close)))),
        }
    }

    fn list(&mut self) -> Result<(), FormatError> {
        self.step();
        self.blanks();
        if self.peek() == Some(b']') {
            self.step();
            return Ok(());
        }
        let mut index: usize = 0;
        loop {
            self.enter(Step::Index(index))?;
            self.value()?;
            self.path.pop();
            index = index.saturating_add(1);
            if !self.another(b']')? {
                return Ok(());
            }
        }
    }

    fn object(&mut self) -> Result<(), FormatError> {
        self.step();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.step();
            return Ok(());
        }
        let mut keys = BTreeSet::new();
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("a key in double quotes is expected"));
            }
            let start = self.at;
            let key = self.quoted()?.to_string();
            self.enter(Step::Key(key.clone()))?;
            if !keys.insert(key) {
                let name = path_text(&self.path);
                return Err(FormatError::at(self.text, start, format!("{name} is there twice")));
            }
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.error("':' is expected"));
            }
            self.step();
            self.blanks();
            self.value()?;
            self.path.pop();
            if !self.another(b'}')? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::checks;

    #[test]
    fn values_are_found_with_their_places() {
        let text = "{\"a\": {\"b\\u00fc\": [1, -2.5e3, true]},\n \"c\": \"x\\n\\ud83d\\ude00\", \"d\": null, \"e\": {}, \"f\": []}";
        let expected = [
            ("a.\"b\u{fc}\"[0]", Kind::Integer, "1", "1"),
            ("a.\"b\u{fc}\"[1]", Kind::Float, "-2.5e3", "-2.5e3"),
            ("a.\"b\u{fc}\"[2]", Kind::Boolean, "true", "true"),
            ("c", Kind::Text, "x\n\u{1f600}", "\"x\\n\\ud83d\\ude00\""),
            ("d", Kind::Null, "null", "null"),
        ];
        checks::finds(scan, text, &expected);
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_without_the_value() {
        let deep = "[".repeat(STRUCTURE_DEPTH_MAX + 1);
        let cases = [
            ("{\n\"a\": 1,\n\"a\": \"hidden\"}", 3, "a is there twice"),
            ("{\"a\": hidden}", 1, "this is no value"),
            ("{\"a\": \"hidden}", 1, "a quote is not closed"),
            ("{\"a\": \"hidden\\q\"}", 1, "escape"),
            ("{\"a\": 01}", 1, "this is no value"),
            ("[1 2]", 1, "',' or ']'"),
            ("[1]\n]", 2, "something follows"),
            ("{\"a\" 1}", 1, "':' is expected"),
            ("{a: 1}", 1, "a key in double quotes"),
            ("\n", 2, "ends where a value"),
            (deep.as_str(), 1, "deeper than"),
        ];
        checks::names_mistakes(scan, &cases);
    }

    proptest::proptest! {
        /// What serde_json takes, and has no key twice, is taken; what it refuses is refused.
        #[test]
        fn it_agrees_with_serde_json(text in "[\\[\\]{},:\"a1.e\\-truefalsn \\\\]{0,24}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match scan(&text) {
                Ok(_) => proptest::prop_assert!(theirs.is_ok(), "{text:?}: {theirs:?}"),
                Err(e) => proptest::prop_assert!(theirs.is_err() || e.problem.contains("twice"), "{text:?}: {e}"),
            }
        }
    }
}
