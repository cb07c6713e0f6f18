//! INI with the place of each value.
//!
//! ```text
//! ; the database
//! [db]
//! password = it is; all of it # the value
//! ```
//! There is no standard. What is read here: sections, `name = value` or `name: value` with white space around left out,
//! and comments that are lines of their own. A value is what stands there, quotes included. A line that continues another
//! one is refused.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::leaf::{FormatError, Kind, Leaf, Step, path_text};

/// The values of an INI file, in its order. Those before the first section have no section in their way.
///
/// # Errors
/// [`FormatError`].
pub(super) fn scan(text: &str) -> Result<Vec<Leaf>, FormatError> {
    let mut section: Option<String> = None;
    let mut leaves: Vec<Leaf> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut at: usize = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at = at.saturating_add(line.len());
        let error = |problem: String| FormatError::at(text, start, problem);
        let content = line.trim_end_matches(['\n', '\r']);
        let content = if start == 0 { content.trim_start_matches('\u{feff}') } else { content };
        if content.contains('\0') {
            return Err(error("a NUL byte".to_owned()));
        }
        if content.trim().is_empty() || content.trim_start().starts_with([';', '#']) {
            continue;
        }
        if content.starts_with([' ', '\t']) {
            return Err(error(
                "a line that continues another one, or is indented; readers do not agree about it".to_owned(),
            ));
        }
        if let Some(rest) = content.strip_prefix('[') {
            let name = rest.trim_end().strip_suffix(']').filter(|n| !n.contains([']', '[']));
            let name = name.ok_or_else(|| error("a section is [NAME], alone in its line".to_owned()))?;
            section = Some(name.trim().to_owned());
            continue;
        }
        let (name, value) =
            content.split_once(['=', ':']).ok_or_else(|| error("NAME = VALUE is expected".to_owned()))?;
        if name.trim().is_empty() {
            return Err(error("a value without a name".to_owned()));
        }
        let path: Vec<Step> = section.clone().into_iter().chain([name.trim().to_owned()]).map(Step::Key).collect();
        if let Some(before) = seen.insert(path_text(&path), start) {
            let before = FormatError::at(text, before, "").line;
            return Err(error(format!("{} stands in line {before} already", path_text(&path))));
        }
        let trimmed = value.trim();
        let end = start.saturating_add(line.trim_end_matches(['\n', '\r']).trim_end().len());
        let span = end.saturating_sub(trimmed.len())..end;
        leaves.push(Leaf { path, kind: Kind::Text, span, value: Zeroizing::new(trimmed.to_owned()) });
    }
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::checks;

    #[test]
    fn values_are_found_with_their_places() {
        let text = "\u{feff}top = 1\r\n; a comment\n[db]\nuser: 'w'  \n# more\npass word = a = b # c\nempty =\n[ other ]\nuser=ü";
        let expected = [
            ("top", "1", "1"),
            ("db.user", "'w'", "'w'"),
            ("db.\"pass word\"", "a = b # c", "a = b # c"),
            ("db.empty", "", ""),
            ("other.user", "ü", "ü"),
        ];
        checks::finds(scan, text, &expected.map(|(path, v, t)| (path, Kind::Text, v, t)));
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_without_the_value() {
        let cases = [
            ("[a]\nx=1\n[a]\nx=hidden", 4, "a.x stands in line 2 already"),
            ("x=1\n hidden", 2, "continues another"),
            ("[a\nx=hidden", 1, "a section is"),
            ("\nhidden", 2, "NAME = VALUE"),
            ("= hidden", 1, "without a name"),
            ("x=\0hidden", 1, "NUL"),
        ];
        checks::names_mistakes(scan, &cases);
    }
}
