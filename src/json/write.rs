//! Canonical JSON, written as it comes and put in order where it is not: a large value costs its text and no tree beside it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

use crate::limits::JSON_INTEGER_MAX;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// The text.
    pub text: Vec<u8>,
    /// A number in it that is too large to be exact.
    pub inexact: Option<String>,
    /// The objects that are not closed, the outermost first.
    open: Vec<Open>,
}

/// An object that is not closed.
#[derive(Debug, Default)]
struct Open {
    /// Where each field begins, and where its key ends.
    fields: Vec<(usize, usize)>,
    /// Whether a field has come after one that belongs behind it.
    mixed: bool,
}

/// Writes a value, the fields of each object in the order of their keys.
///
/// # Errors
/// What the value says of itself.
pub(super) fn ordered(value: &impl Serialize) -> Result<Ordered, serde_json::Error> {
    ordered_after(Vec::new(), value)
}

/// The same, after a text that is there already.
///
/// # Errors
/// As [`ordered`].
pub(super) fn ordered_after(text: Vec<u8>, value: &impl Serialize) -> Result<Ordered, serde_json::Error> {
    let mut ordered = Ordered { text, ..Ordered::default() };
    value.serialize(&mut Serializer::with_formatter(io::sink(), Ordering(&mut ordered)))?;
    Ok(ordered)
}

impl Ordered {
    /// The key that is written here, with its quotes.
    fn key(&self, (from, to): (usize, usize)) -> &[u8] {
        &self.text[from..to]
    }

    fn key_ends(&mut self) {
        let to = self.text.len();
        let Some(mut object) = self.open.pop() else { return };
        if let Some((last, new)) = object.fields.split_last_mut().map(|(new, before)| (before.last(), new)) {
            new.1 = to;
            object.mixed |= last.is_some_and(|last| order(self.key(*last), self.key(*new)).is_gt());
        }
        self.open.push(object);
    }

    fn object_ends(&mut self) {
        if let Some(object) = self.open.pop().filter(|object| object.mixed) {
            self.sort(object.fields);
        }
        self.text.push(b'}');
    }

    /// Puts the fields of the object that ends here in order.
    fn sort(&mut self, fields: Vec<(usize, usize)>) {
        let begin = fields[0].0;
        // A comma stands between one field and the next.
        let ends = fields[1..].iter().map(|(next, _)| next - 1).chain([self.text.len()]);
        let mut fields: Vec<_> = fields.iter().copied().zip(ends).collect();
        fields.sort_by(|one, other| order(self.key(one.0), self.key(other.0)));
        let parts: Vec<&[u8]> = fields.iter().map(|((from, _), to)| &self.text[*from..*to]).collect();
        let sorted = parts.join(&b',');
        self.text.truncate(begin);
        self.text.extend(sorted);
    }
}

/// The order of two keys, which have their quotes. They are ASCII, where they may stand in what we sign: see the module above.
fn order(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    let plain = |key: &[u8]| !key.contains(&b'\\');
    if plain(one) && plain(other) {
        return one[1..one.len() - 1].cmp(&other[1..other.len() - 1]);
    }
    let read = |key: &[u8]| serde_json::from_slice::<String>(key).unwrap_or_default();
    read(one).cmp(&read(other))
}

/// What serde_json asks how to write things. It writes to what it was given, and to nothing else.
struct Ordering<'a>(&'a mut Ordered);

impl Ordering<'_> {
    fn number(&mut self, n: Option<i64>, text: impl FnOnce() -> String) {
        if n.is_none_or(|n| !(-JSON_INTEGER_MAX..=JSON_INTEGER_MAX).contains(&n)) {
            self.0.inexact = Some(text());
        }
    }
}

/// What does no more than write, as serde_json would.
macro_rules! plain {
    ($($name:ident($($arg:ident: $of:ty),*);)*) => {$(
        fn $name<W: ?Sized + Write>(&mut self, _: &mut W $(, $arg: $of)*) -> io::Result<()> {
            CompactFormatter.$name(&mut self.0.text $(, $arg)*)
        }
    )*};
}

impl Formatter for Ordering<'_> {
    plain! {
        write_null();
        write_bool(value: bool);
        write_i8(value: i8);
        write_i16(value: i16);
        write_i32(value: i32);
        write_u8(value: u8);
        write_u16(value: u16);
        write_u32(value: u32);
        begin_string();
        end_string();
        write_string_fragment(fragment: &str);
        write_char_escape(escape: CharEscape);
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object_value();
        end_object_value();
    }

    fn write_i64<W: ?Sized + Write>(&mut self, _: &mut W, value: i64) -> io::Result<()> {
        self.number(Some(value), || value.to_string());
        CompactFormatter.write_i64(&mut self.0.text, value)
    }

    fn write_u64<W: ?Sized + Write>(&mut self, _: &mut W, value: u64) -> io::Result<()> {
        self.number(i64::try_from(value).ok(), || value.to_string());
        CompactFormatter.write_u64(&mut self.0.text, value)
    }

    fn write_i128<W: ?Sized + Write>(&mut self, _: &mut W, value: i128) -> io::Result<()> {
        self.number(i64::try_from(value).ok(), || value.to_string());
        CompactFormatter.write_i128(&mut self.0.text, value)
    }

    fn write_u128<W: ?Sized + Write>(&mut self, _: &mut W, value: u128) -> io::Result<()> {
        self.number(i64::try_from(value).ok(), || value.to_string());
        CompactFormatter.write_u128(&mut self.0.text, value)
    }

    fn write_f32<W: ?Sized + Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, value.into())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, _: &mut W, value: f64) -> io::Result<()> {
        self.number(None, || value.to_string());
        CompactFormatter.write_f64(&mut self.0.text, value)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.open.push(Open::default());
        self.0.text.push(b'{');
        Ok(())
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, _: &mut W, first: bool) -> io::Result<()> {
        if !first {
            self.0.text.push(b',');
        }
        let at = self.0.text.len();
        if let Some(object) = self.0.open.last_mut() {
            object.fields.push((at, at));
        }
        Ok(())
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.key_ends();
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.object_ends();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    #[derive(Serialize)]
    struct Mixed {
        zone: u64,
        a: Inner,
        again: BTreeMap<u64, i8>,
        #[serde(rename = "\"")]
        quote: (),
        #[serde(rename = "\\")]
        escape: &'static str,
        b: Vec<Inner>,
        maybe: Option<char>,
    }

    #[derive(Serialize)]
    struct Inner {
        c: bool,
        #[serde(rename = "b b")]
        bb: i64,
        b: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        none: Option<u8>,
    }

    fn inner(n: i64) -> Inner {
        Inner { c: n > 0, bb: -n, b: json!({"z": [], "y": {}, "x": {"q": 1}}), none: None }
    }

    #[test]
    fn the_same_is_written_as_by_way_of_a_tree() {
        let mixed = Mixed {
            zone: 9_007_199_254_740_991,
            a: inner(3),
            again: BTreeMap::from([(10, 1), (9, -1), (100, 0)]),
            quote: (),
            escape: "\u{1}\n\"\\/ü😀\u{7f}",
            b: vec![inner(1), inner(-1)],
            maybe: Some('x'),
        };
        let written = ordered(&mixed).expect("it is written");
        let tree = serde_json::to_value(&mixed).expect("a tree").to_string();
        assert_eq!(String::from_utf8(written.text).expect("text"), tree);
        assert_eq!(written.inexact, None);
    }

    #[test]
    fn numbers_that_are_not_exact_are_told() {
        for (value, inexact) in [
            (json!([0, -1, 9_007_199_254_740_991_u64]), None),
            (json!([9_007_199_254_740_992_u64, 1]), Some("9007199254740992")),
            (json!({"a": -9_007_199_254_740_992_i64}), Some("-9007199254740992")),
            (json!(u64::MAX), Some("18446744073709551615")),
            (json!(1.5), Some("1.5")),
        ] {
            assert_eq!(ordered(&value).expect("it is written").inexact.as_deref(), inexact, "{value}");
        }
    }
}
