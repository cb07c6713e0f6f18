//! Text that came from others, made safe to show; hexadecimal; and the distance between words, for hints.
//!
//! A user id, a reason, a file name from a synced directory may hold an escape sequence that redraws the terminal, a
//! line feed that forges a status line, or a bidirectional mark that turns a name round (CVE-2022-34903 and its kin).
//! Everything of that sort goes through [`escape`] before it is shown, and [`is_hidden`] is what parsers refuse.

use std::borrow::Cow;
use std::fmt;

/// Whether `c` can hide, move or forge text on a terminal: controls, bidirectional marks, zero-width characters,
/// variation selectors and tags.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Shows hidden characters as `\u{…}`; everything else stays as it is.
///
/// ```
/// assert_eq!(keys::text::escape("fra1\u{1b}[2J"), "fra1\\u{1b}[2J");
/// assert_eq!(keys::text::escape("Zoë"), "Zoë");
/// ```
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::new(), |mut out, c| {
        if is_hidden(c) {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        } else {
            out.push(c);
        }
        out
    }))
}

/// Displays a text through [`escape`], at most `max` characters of it.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The text as it came.
    pub text: &'a str,
    /// Characters shown before an ellipsis.
    pub max: usize,
}

/// Displays `text` escaped, up to 200 characters.
pub fn shown(text: &str) -> Shown<'_> {
    Shown { text, max: 200 }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.char_indices().nth(self.max) {
            None => f.write_str(&escape(self.text)),
            Some((end, _)) => write!(f, "{}…", escape(self.text.get(..end).unwrap_or_default())),
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// Reads lower-case hexadecimal; `None` for anything else, upper case included, so that a value has one spelling.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let nibble = |b: u8| if b.is_ascii_digit() { b - b'0' } else { b - b'a' + 10 };
    Some(text.as_bytes().chunks_exact(2).map(|pair| pair.iter().fold(0, |n, &b| n << 4 | nibble(b))).collect())
}

/// The word of `words` nearest to `wrong`, if one is near enough to be what was meant.
pub fn nearest<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    words
        .into_iter()
        .map(|word| (distance(wrong, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.chars().count() / 4)
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein's distance, on characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (cb, &above) in b.iter().zip(row.iter().skip(1)) {
            left = (above + 1).min(left + 1).min(diagonal + usize::from(ca != *cb));
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// The changed lines of a text, as few as there can be (E. Myers, 1986): what goes with `-` in front, what comes with `+`. As they
/// are: whoever shows them escapes them.
///
/// Texts of many thousand lines are not compared line by line: all of the old one goes, all of the new one comes.
pub fn line_diff(old: &str, new: &str) -> Vec<String> {
    const CELLS_MAX: usize = 16 << 20;
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(&new).take_while(same).count();
    let tail = old.iter().skip(head).rev().zip(new.iter().skip(head).rev()).take_while(same).count();
    let (Some(old), Some(new)) = (old.get(head..old.len() - tail), new.get(head..new.len() - tail)) else {
        return Vec::new();
    };
    let marked = |sign: char, lines: Option<&[&str]>| {
        lines.unwrap_or_default().iter().map(|l| format!("{sign}{l}")).collect::<Vec<_>>()
    };
    if (old.len() + 1).saturating_mul(new.len() + 1) > CELLS_MAX {
        return [marked('-', Some(old)), marked('+', Some(new))].concat();
    }
    let changes = similar::capture_diff_slices(similar::Algorithm::Myers, old, new);
    let changed = changes.iter().filter(|op| op.tag() != similar::DiffTag::Equal);
    changed
        .flat_map(|op| [marked('-', old.get(op.old_range())), marked('+', new.get(op.new_range()))].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_goes_and_what_comes() {
        assert_eq!(line_diff("a\nb\nc", "a\nx\nc\nd"), ["-b", "+x", "+d"]);
        assert_eq!(line_diff("", "a"), ["+a"]);
        assert_eq!(line_diff("a", ""), ["-a"]);
        assert_eq!(line_diff("a\na\nb", "a\nb"), ["-a"]);
        assert!(line_diff("a\nb", "a\nb").is_empty());
        let many = |sign: &str, word: &str| (0..5_000).map(|n| format!("{sign}{word}{n}")).collect::<Vec<_>>();
        let (old, new) = (many("", "a").join("\n"), many("", "b").join("\n"));
        assert_eq!(line_diff(&old, &new), [many("-", "a"), many("+", "b")].concat());
    }

    #[test]
    fn hidden_characters_are_shown_and_others_left() {
        assert_eq!(escape("a\u{202e}b\nc\u{7}"), "a\\u{202e}b\\u{a}c\\u{7}");
        assert_eq!(escape("grüße, 東京"), "grüße, 東京");
        assert_eq!(Shown { text: "abcdef", max: 3 }.to_string(), "abc…");
    }

    #[test]
    fn hex_has_one_spelling() {
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
        assert_eq!(unhex("00abff"), Some(vec![0, 0xab, 0xff]));
        assert_eq!(unhex("00ABFF"), None);
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
    }

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("wiregaurd", ["openpgp", "wireguard", "ssh-host"]), Some("wireguard"));
        assert_eq!(nearest("fra", ["ams1", "sin1"]), None);
    }
}
