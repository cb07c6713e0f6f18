//! YAML 1.2 with the place of each value, by `saphyr-parser`: one document of mappings, lists and values.
//!
//! What makes one text mean another thing elsewhere in the file, or to other readers, is refused with its line: anchors,
//! aliases, merge keys, tags, keys that are no text, one key twice. `yes`, `no`, `on` and `off` are texts, as YAML 1.2 has it.

use std::collections::BTreeSet;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use zeroize::Zeroizing;

use super::leaf::{FormatError, Kind, Leaf, Step, path_text};
use crate::limits::STRUCTURE_DEPTH_MAX;

/// The values of a YAML file, in its order. An empty list or mapping has none.
///
/// # Errors
/// [`FormatError`].
pub(super) fn scan(text: &str) -> Result<Vec<Leaf>, FormatError> {
    if let Some(nul) = text.find('\0') {
        return Err(FormatError::at(text, nul, "a NUL byte"));
    }
    let mut reader =
        Reader { text, places: Places::new(text), open: Vec::new(), leaves: Vec::new(), documents: 0, passed: 0 };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            // What it says may quote the file.
            FormatError {
                line: e.marker().line().max(1),
                problem: "this is no YAML: brackets, quotes or indentation do not fit".to_owned(),
            }
        })?;
        reader.event(event, span)?;
    }
    Ok(reader.leaves)
}

/// A mapping or list that is open.
enum Open {
    Mapping { keys: BTreeSet<String>, key: Option<String> },
    List { next: usize },
}

struct Reader<'a> {
    text: &'a str,
    places: Places<'a>,
    open: Vec<Open>,
    leaves: Vec<Leaf>,
    documents: usize,
    /// Where the last thing ended, in bytes.
    passed: usize,
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), FormatError> {
        let refuse = |problem: &str| Err(FormatError { line: span.start.line().max(1), problem: problem.to_owned() });
        match event {
            Event::DocumentStart(_) => {
                self.documents = self.documents.saturating_add(1);
                if self.documents > 1 {
                    refuse("a second document begins; put each into a file of its own")
                } else {
                    Ok(())
                }
            }
            Event::Alias(_) => refuse("an alias: what it stands for has to be written out"),
            Event::MappingStart(anchor, tag) | Event::SequenceStart(anchor, tag) if anchor != 0 || tag.is_some() => {
                refuse("an anchor or a tag, which is not read here")
            }
            Event::Scalar(_, _, anchor, tag) if anchor != 0 || tag.is_some() => {
                refuse("an anchor or a tag, which is not read here")
            }
            Event::MappingStart(..) => self.begin(Open::Mapping { keys: BTreeSet::new(), key: None }, span),
            Event::SequenceStart(..) => self.begin(Open::List { next: 0 }, span),
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
                self.next();
                Ok(())
            }
            Event::Scalar(value, style, ..) => self.scalar(&value, style, span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn error(span: Span, problem: impl Into<String>) -> FormatError {
        FormatError { line: span.start.line().max(1), problem: problem.into() }
    }

    fn path(&self) -> Vec<Step> {
        let step = |open: &Open| match open {
            Open::Mapping { key, .. } => key.clone().map(Step::Key),
            Open::List { next } => Some(Step::Index(*next)),
        };
        self.open.iter().filter_map(step).collect()
    }

    fn begin(&mut self, what: Open, span: Span) -> Result<(), FormatError> {
        if let Some(Open::Mapping { key: None, .. }) = self.open.last() {
            return Err(Self::error(span, "a key that is a list or mapping"));
        }
        if self.open.len() >= STRUCTURE_DEPTH_MAX {
            return Err(Self::error(span, format!("values lie deeper than {STRUCTURE_DEPTH_MAX} levels")));
        }
        self.open.push(what);
        Ok(())
    }

    /// A value is over: the next key or place.
    fn next(&mut self) {
        match self.open.last_mut() {
            Some(Open::Mapping { key, .. }) => *key = None,
            Some(Open::List { next }) => *next = next.saturating_add(1),
            None => {}
        }
    }

    fn scalar(&mut self, value: &str, style: ScalarStyle, span: Span) -> Result<(), FormatError> {
        let plain = style == ScalarStyle::Plain;
        if let Some(Open::Mapping { keys, key: key @ None }) = self.open.last_mut() {
            if plain && value == "<<" {
                return Err(Self::error(span, "a merge key: what it stands for has to be written out"));
            }
            if plain && matches!(kind(value), Kind::Null) {
                return Err(Self::error(span, "a key without a name"));
            }
            self.passed = self.places.range(&span).end;
            *key = Some(value.to_owned());
            if !keys.insert(value.to_owned()) {
                let name = path_text(&self.path());
                return Err(Self::error(span, format!("{name} is there twice")));
            }
            return Ok(());
        }
        let kind = if plain { kind(value) } else { Kind::Text };
        let place = self.places.range(&span);
        let start = match style {
            ScalarStyle::Literal | ScalarStyle::Folded => self.header(place.start),
            _ => place.start,
        };
        // The end of a block lies before the next thing; what is between does not belong to it.
        let end = match style {
            ScalarStyle::SingleQuoted => self.closing(start, b'\''),
            ScalarStyle::DoubleQuoted => self.closing(start, b'"'),
            _ => place.end,
        };
        let there = self.text.get(start..end).unwrap_or_default();
        let span = start..start.saturating_add(there.trim_end().len());
        self.passed = end;
        self.leaves.push(Leaf { path: self.path(), kind, span, value: Zeroizing::new(value.to_owned()) });
        self.next();
        Ok(())
    }

    /// Behind the quote that closes the one at `start`: the parser's end lies behind a comment that follows.
    fn closing(&self, start: usize, quote: u8) -> usize {
        let inside = self.text.as_bytes().get(start.saturating_add(1)..).unwrap_or_default();
        let mut bytes = inside.iter().enumerate().peekable();
        while let Some((i, byte)) = bytes.next() {
            match *byte {
                b'\\' if quote == b'"' => {
                    bytes.next();
                }
                b if b == quote && quote == b'\'' && bytes.peek().is_some_and(|(_, next)| **next == quote) => {
                    bytes.next();
                }
                b if b == quote => return start.saturating_add(i).saturating_add(2),
                _ => {}
            }
        }
        self.text.len()
    }

    /// Where the `|` or `>` stands whose block begins at `start`: after the last thing, and not in a comment.
    fn header(&self, start: usize) -> usize {
        let between = self.text.get(self.passed..start).unwrap_or_default();
        let mut at = self.passed;
        for line in between.split_inclusive('\n') {
            let comment = line
                .match_indices('#')
                .find(|(i, _)| *i == 0 || line.get(..*i).is_some_and(|before| before.ends_with([' ', '\t'])));
            let code = line.get(..comment.map_or(line.len(), |(i, _)| i)).unwrap_or_default();
            if let Some(mark) = code.find(['|', '>']) {
                return at.saturating_add(mark);
            }
            at = at.saturating_add(line.len());
        }
        start
    }
}

/// What a value without quotes is, by the core schema of YAML 1.2, section 10.3.2.
fn kind(value: &str) -> Kind {
    match value {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Kind::Boolean,
        ".nan" | ".NaN" | ".NAN" => return Kind::Float,
        _ => {}
    }
    let unsigned = value.strip_prefix(['-', '+']).unwrap_or(value);
    let digits = |text: &str, allowed: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(allowed);
    let based = |prefix: &str, allowed: fn(&u8) -> bool| value.strip_prefix(prefix).is_some_and(|d| digits(d, allowed));
    if digits(unsigned, u8::is_ascii_digit)
        || based("0x", u8::is_ascii_hexdigit)
        || based("0o", |b| (b'0'..=b'7').contains(b))
    {
        return Kind::Integer;
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Kind::Float;
    }
    let number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().any(|b| b.is_ascii_digit())
        && unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && unsigned.parse::<f64>().is_ok();
    if number { Kind::Float } else { Kind::Text }
}

/// Bytes of characters: the parser counts characters.
struct Places<'a> {
    text: &'a str,
    /// Where every 256th character begins.
    marks: Vec<usize>,
}

const STRIDE: usize = 256;

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let marks = text.char_indices().step_by(STRIDE).map(|(byte, _)| byte).collect();
        Self { text, marks }
    }

    fn byte(&self, index: usize) -> usize {
        let Some(mark) = self.marks.get(index / STRIDE).copied() else { return self.text.len() };
        let rest = self.text.get(mark..).unwrap_or_default();
        rest.char_indices().nth(index % STRIDE).map_or(self.text.len(), |(byte, _)| mark.saturating_add(byte))
    }

    fn range(&self, span: &Span) -> std::ops::Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::checks;

    #[test]
    fn values_are_found_with_their_places() {
        let text = "# ü\ndb: # said\n  user: wéb\n  port: 5432 # too\n  on: yes\n  'a b': \"x\\ty\"\n  key: |\n    one\n    two\n\n  # more\n  \
                    last: 'it''s'   # 'so'\nlist:\n- 1.5\n- [a, {b: ~}]\nempty:\nnone: {}\nfolded: >-\n  a\n  b\nmulti: one\n  two\nend: true\n";
        let expected = [
            ("db.user", Kind::Text, "wéb", "wéb"),
            ("db.port", Kind::Integer, "5432", "5432"),
            ("db.on", Kind::Text, "yes", "yes"),
            ("db.\"a b\"", Kind::Text, "x\ty", "\"x\\ty\""),
            ("db.key", Kind::Text, "one\ntwo\n", "|\n    one\n    two"),
            ("db.last", Kind::Text, "it's", "'it''s'"),
            ("list[0]", Kind::Float, "1.5", "1.5"),
            ("list[1][0]", Kind::Text, "a", "a"),
            ("list[1][1].b", Kind::Null, "~", "~"),
            ("empty", Kind::Null, "", ""),
            ("folded", Kind::Text, "a b", ">-\n  a\n  b"),
            ("multi", Kind::Text, "one two", "one\n  two"),
            ("end", Kind::Boolean, "true", "true"),
        ];
        checks::finds(scan, text, &expected);
    }

    #[test]
    fn blocks_are_found_with_their_headers() {
        let text = "- # a | b\n  - |2- # why\n      x\n  - >\n    y\n- |\n- end\n- a: |+\n    z\n\n# over\n";
        let leaves = scan(text).unwrap();
        let all: Vec<(&str, &str)> =
            leaves.iter().map(|l| (l.value.as_str(), text.get(l.span.clone()).unwrap())).collect();
        let expected =
            [("  x", "|2- # why\n      x"), ("y\n", ">\n    y"), ("", "|"), ("end", "end"), ("z\n\n", "|+\n    z")];
        assert_eq!(all, expected);
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_without_the_value() {
        let deep = "[".repeat(STRUCTURE_DEPTH_MAX + 1);
        let cases = [
            ("a: 1\nb: &x hidden\n", 2, "an anchor or a tag"),
            ("a: !vault hidden\n", 1, "an anchor or a tag"),
            ("a: &x {b: 1}\n", 1, "an anchor or a tag"),
            ("a: 1\nb:\n  <<: {c: 1}\n", 3, "a merge key"),
            ("a: 1\n---\na: 2\n", 2, "a second document"),
            ("a: 1\nb: 2\na: hidden\n", 3, "a is there twice"),
            ("a:\n  - b: 1\n    'b': 2\n", 3, "a[0].b is there twice"),
            ("? [a]\n: 1\n", 1, "a key that is a list"),
            ("~: 1\n", 1, "a key without a name"),
            ("a: \"hidden\nb: 1\n", 1, "no YAML"),
            ("a: [1, 2\nb: hidden\n", 2, "no YAML"),
            ("a: \0\n", 1, "NUL"),
            (deep.as_str(), 1, "deeper than"),
        ];
        // Its parser may notice some of them only at the next line.
        checks::names_mistakes_from(scan, &cases, |found, line| found >= line);
        assert!(scan("a: *x\n").is_err(), "an alias of nothing");
        assert!(scan(&format!("a: {}\n", "x".repeat(1 << 20))).is_ok(), "a line of a megabyte");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c:#|>{}\\[\\],'\"&*!~\\- \nü]{0,40}") {
            for leaf in scan(&text).unwrap_or_default() {
                proptest::prop_assert!(text.get(leaf.span.clone()).is_some());
            }
        }
    }
}
