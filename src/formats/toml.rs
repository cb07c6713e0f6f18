//! TOML with the place of each value, by the crate `toml`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::leaf::{FormatError, Kind, Leaf, Step};
use crate::limits::STRUCTURE_DEPTH_MAX;

/// The values of a TOML file, in its order. An empty list or table has none.
///
/// # Errors
/// [`FormatError`].
pub(super) fn scan(text: &str) -> Result<Vec<Leaf>, FormatError> {
    let table = DeTable::parse(text).map_err(|e| {
        // What it says may quote the file.
        let at = e.span().map_or(0, |span| span.start);
        let twice = e.message().starts_with("duplicate key");
        FormatError::at(text, at, if twice { "a key is there twice" } else { "this is no TOML" })
    })?;
    let mut leaves = Vec::new();
    below(text, table.get_ref(), &mut Vec::new(), &mut leaves)?;
    leaves.sort_by_key(|leaf| leaf.span.start);
    Ok(leaves)
}

fn below(text: &str, table: &DeTable<'_>, path: &mut Vec<Step>, leaves: &mut Vec<Leaf>) -> Result<(), FormatError> {
    for (key, value) in table {
        path.push(Step::Key(key.get_ref().to_string()));
        value_at(text, value, path, leaves)?;
        path.pop();
    }
    Ok(())
}

fn value_at(
    text: &str,
    value: &Spanned<DeValue<'_>>,
    path: &mut Vec<Step>,
    leaves: &mut Vec<Leaf>,
) -> Result<(), FormatError> {
    let span = value.span();
    if path.len() > STRUCTURE_DEPTH_MAX {
        return Err(FormatError::at(text, span.start, format!("values lie deeper than {STRUCTURE_DEPTH_MAX} levels")));
    }
    let written = || Zeroizing::new(text.get(span.clone()).unwrap_or_default().to_owned());
    let (kind, value) = match value.get_ref() {
        DeValue::String(value) => (Kind::Text, Zeroizing::new(value.to_string())),
        DeValue::Integer(_) => (Kind::Integer, written()),
        DeValue::Float(_) => (Kind::Float, written()),
        DeValue::Boolean(_) => (Kind::Boolean, written()),
        DeValue::Datetime(_) => (Kind::Time, written()),
        DeValue::Table(table) => return below(text, table, path, leaves),
        DeValue::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                path.push(Step::Index(index));
                value_at(text, value, path, leaves)?;
                path.pop();
            }
            return Ok(());
        }
    };
    leaves.push(Leaf { path: path.clone(), kind, span, value });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::checks;

    #[test]
    fn values_are_found_with_their_places() {
        let text = "# ü\na = 'x' # said\n[b.\"c d\"]\nn = 0x1F\nlist = [1.5, { k = true }]\n[[e]]\nt = 1979-05-27\n[[e]]\nm = \"\"\"\ntwo\nlines\"\"\"\nz = {}\n";
        let expected = [
            ("a", Kind::Text, "x", "'x'"),
            ("b.\"c d\".n", Kind::Integer, "0x1F", "0x1F"),
            ("b.\"c d\".list[0]", Kind::Float, "1.5", "1.5"),
            ("b.\"c d\".list[1].k", Kind::Boolean, "true", "true"),
            ("e[0].t", Kind::Time, "1979-05-27", "1979-05-27"),
            ("e[1].m", Kind::Text, "two\nlines", "\"\"\"\ntwo\nlines\"\"\""),
        ];
        checks::finds(scan, text, &expected);
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_without_the_value() {
        let deep = format!("a = {}", "[".repeat(1_000));
        let cases = [
            ("a = 1\na = 'hidden'", 2, "twice"),
            ("a = 1\n\nb = hidden", 3, "no TOML"),
            ("a = 'hidden", 1, "no TOML"),
            ("a = \"\0hidden\"", 1, "no TOML"),
            (deep.as_str(), 1, "no TOML"),
        ];
        checks::names_mistakes(scan, &cases);
    }
}
