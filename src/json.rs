//! Canonical JSON: RFC 8785 (JCS) over objects with ASCII keys and whole numbers, the only JSON we sign.
//!
//! One value has one spelling. A text is accepted only if writing the parsed value gives the same bytes, which refuses
//! duplicate keys, white space, other escapes, other orders and other spellings of a number in one stroke. Keys are
//! ASCII, so the byte order of `serde_json`'s map is the UTF-16 order that RFC 8785, section 3.2.3 asks for.

mod write;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::limits::{JSON_DEPTH_MAX, JSON_INTEGER_MAX};

/// Why bytes are not canonical JSON of the expected shape.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON at all.
    #[error("is not JSON")]
    Syntax(#[source] serde_json::Error),
    /// JSON, but not in its one canonical spelling (RFC 8785).
    #[error("is not canonical JSON: the same value is written differently (RFC 8785)")]
    NotCanonical,
    /// A number that is not whole or too large to be exact.
    #[error("has the number {0}; only whole numbers up to 2^53 - 1 are allowed")]
    Number(String),
    /// A key with a character outside printable ASCII.
    #[error("has a key outside printable ASCII")]
    Key,
    /// Nested too deeply.
    #[error("is nested deeper than {JSON_DEPTH_MAX} levels")]
    Depth,
    /// Canonical JSON, but not the expected fields.
    #[error("does not have the expected fields: {0}")]
    Fields(serde_json::Error),
}

/// Writes the canonical form.
pub fn canonical(value: &Value) -> String {
    value.to_string()
}

/// Writes anything serialisable in canonical form.
///
/// # Panics
/// If the type does not serialise to JSON with text keys, which is a bug in the type.
pub fn to_canonical(value: &impl Serialize) -> String {
    let written = write::ordered(value).expect("our types have text keys and finite numbers");
    String::from_utf8(written.text).expect("JSON is text")
}

/// The same, at the end of a text.
///
/// # Panics
/// As [`to_canonical`].
pub fn append_canonical(text: &mut Vec<u8>, value: &impl Serialize) {
    let written = write::ordered_after(std::mem::take(text), value);
    *text = written.expect("our types have text keys and finite numbers").text;
}

/// Reads canonical JSON.
///
/// # Errors
/// [`JsonError`], if the text is not JSON, not canonical, or beyond the limits.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let value: Value = serde_json::from_slice(bytes).map_err(JsonError::Syntax)?;
    check(&value, 0)?;
    if canonical(&value).as_bytes() != bytes {
        return Err(JsonError::NotCanonical);
    }
    Ok(value)
}

/// Reads canonical JSON into a type.
///
/// # Errors
/// [`JsonError`], also if a field is missing, unknown or of another type.
pub fn parse_as<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    serde_json::from_value(parse(bytes)?).map_err(JsonError::Fields)
}

/// Reads JSON into a type, without a tree of it in between and in whatever spelling. What has to be canonical, [`is_written`] says
/// afterwards, at less cost than [`parse_as`] where the text is large.
///
/// # Errors
/// [`JsonError`], also if a field is missing, unknown or of another type.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    serde_json::from_slice(bytes).map_err(|e| if e.is_data() { JsonError::Fields(e) } else { JsonError::Syntax(e) })
}

/// Whether these bytes are what is written of a value that was read of them. A field that may be left out and says nothing
/// makes them other bytes, too.
///
/// # Errors
/// [`JsonError`], if they are not.
pub fn is_written(bytes: &[u8], value: &impl Serialize) -> Result<(), JsonError> {
    let written = write::ordered(value).map_err(JsonError::Fields)?;
    match written.inexact {
        Some(number) => Err(JsonError::Number(number)),
        None if written.text != bytes => Err(JsonError::NotCanonical),
        None => Ok(()),
    }
}

fn check(value: &Value, depth: usize) -> Result<(), JsonError> {
    if depth > JSON_DEPTH_MAX {
        return Err(JsonError::Depth);
    }
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(n) => match n.as_i64() {
            Some(n) if (-JSON_INTEGER_MAX..=JSON_INTEGER_MAX).contains(&n) => Ok(()),
            Some(_) | None => Err(JsonError::Number(n.to_string())),
        },
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1)),
        Value::Object(fields) => {
            fields.iter().try_for_each(|(key, field)| match key.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
                true => check(field, depth + 1),
                false => Err(JsonError::Key),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_texts_are_accepted() {
        for text in [r#"{}"#, r#"{"a":1,"b":[true,null,"x\n\u0001ü"]}"#, r#"[-9007199254740991]"#, r#""😀""#] {
            assert_eq!(parse(text.as_bytes()).map(|v| canonical(&v)).ok().as_deref(), Some(text));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a": 1}"#,
            "{}\n",
            r#""\u00e9""#,
            r#""\/""#,
            r#"[1.0]"#,
            r#"[1e2]"#,
            r#"[-0]"#,
            r#"[9007199254740992]"#,
            r#"[1.5]"#,
            r#"{"ü":1}"#,
            "",
            "nul",
            r#""\u001F""#,
            "\u{feff}{}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert!(matches!(parse(deep.as_bytes()), Err(JsonError::Depth)));
    }
}
