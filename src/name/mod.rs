//! Names: of fleets, members, slots and secrets. A value of these types is a checked name.
//!
//! Names become file names, DNS labels, OpenPGP user ids, SSH principals and WireGuard comments, so one narrow alphabet
//! serves all: lower-case ASCII letters, digits and hyphens; secrets also dots and underscores. What is refused here
//! (a path, a control character, a bidirectional mark) need not be feared anywhere else.

mod act;
mod address;
mod glob;
mod member;

pub use act::ActName;
pub use address::{Address, Scope};
pub use glob::Glob;
pub use member::{FleetName, Kind, Label, MemberName, Protection, Slot};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was given.
    #[error("{what} is empty")]
    Empty {
        /// What was being read, for example "a member name".
        what: &'static str,
    },
    /// Longer than a name may be.
    #[error("{what} has {length} characters; at most {max} are allowed")]
    TooLong {
        /// What was being read.
        what: &'static str,
        /// Its length in characters.
        length: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// An upper-case letter, where names are lower case.
    #[error("{what} '{text}' has an upper-case letter; names are lower case: '{lower}'")]
    UpperCase {
        /// What was being read.
        what: &'static str,
        /// The text, made safe to show.
        text: String,
        /// The same in lower case.
        lower: String,
    },
    /// A character that no name may hold.
    #[error("{what} '{text}' has {character} at position {position}; allowed are {allowed}")]
    Character {
        /// What was being read.
        what: &'static str,
        /// The text, made safe to show.
        text: String,
        /// The character, described.
        character: String,
        /// Its position, counted from 1.
        position: usize,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The right characters in a shape that is no name.
    #[error("{what} '{text}' {problem}")]
    Shape {
        /// What was being read.
        what: &'static str,
        /// The text, made safe to show.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The one check behind every name: length, then characters, each with the message that helps.
fn check(
    what: &'static str,
    text: &str,
    max: usize,
    allowed: &'static str,
    ok: fn(char) -> bool,
) -> Result<(), NameError> {
    let shown = || crate::text::Shown { text, max: 80 }.to_string();
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    let length = text.chars().count();
    if length > max {
        return Err(NameError::TooLong { what, length, max });
    }
    let Some((i, c)) = text.chars().enumerate().find(|&(_, c)| !ok(c)) else { return Ok(()) };
    if c.is_ascii_uppercase() && text.chars().all(|c| ok(c.to_ascii_lowercase())) {
        return Err(NameError::UpperCase { what, text: shown(), lower: text.to_ascii_lowercase() });
    }
    let character = match c {
        ' ' => "a space".to_owned(),
        c if c.is_control() => format!("a control character (U+{:04X})", u32::from(c)),
        c if crate::text::is_hidden(c) => format!("an invisible character (U+{:04X})", u32::from(c)),
        c => format!("'{c}'"),
    };
    Err(NameError::Character { what, text: shown(), character, position: i + 1, allowed })
}

crate::words::serde_by_text!(FleetName, Label, MemberName, Address, Glob);
