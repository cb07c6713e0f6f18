//! What the tests of every format ask of its reader.

use super::{FormatError, Kind, Leaf, path_text};

type Scan = fn(&str) -> Result<Vec<Leaf>, FormatError>;

/// Checks which values are found: the way to each, what it is, the value, and what stands in the file for it.
#[track_caller]
pub(super) fn finds(scan: Scan, text: &str, expected: &[(&str, Kind, &str, &str)]) {
    let leaves = scan(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    let found: Vec<(String, Kind, &str, &str)> = leaves
        .iter()
        .map(|l| (path_text(&l.path), l.kind, l.value.as_str(), text.get(l.span.clone()).unwrap()))
        .collect();
    let expected: Vec<_> = expected.iter().map(|(path, k, v, t)| ((*path).to_owned(), *k, *v, *t)).collect();
    assert_eq!(found, expected);
}

/// Checks that each text is refused, with the line and with these words, and that no error shows what is hidden in it.
#[track_caller]
pub(super) fn names_mistakes(scan: Scan, cases: &[(&str, usize, &str)]) {
    names_mistakes_from(scan, cases, |found, line| found == line);
}

/// The same, of a reader that may notice a mistake only later: `fits` says whether the line that it names does.
#[track_caller]
pub(super) fn names_mistakes_from(scan: Scan, cases: &[(&str, usize, &str)], fits: fn(usize, usize) -> bool) {
    for (text, line, part) in cases {
        let error = scan(text).map(|leaves| leaves.len()).expect_err(text);
        assert!(error.problem.contains(part) && fits(error.line, *line), "{text:?}: not '{part}' in {line}: {error}");
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}
