//! How a name from elsewhere becomes the name of a secret.
//!
//! `DB_PASSWORD` becomes `db_password`, `web/Admin Login` becomes `web.admin-login`: capitals become small letters, each
//! `/` a dot, and each run of what no name may hold a hyphen. Nothing is cut off or made up: what does not come out as a
//! name is refused.

/// The longest name of a secret, as addresses have it.
const NAME_BYTES_MAX: usize = 64;

/// Why no name comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// There is no letter or digit in it.
    #[error("has no letter or digit of a-z, 0-9")]
    Empty,
    /// It is too long.
    #[error("has more than {NAME_BYTES_MAX} characters")]
    TooLong,
    /// Part of a path is missing, or goes up.
    #[error("has an empty part, or '.' or '..' as one")]
    Part,
}

/// The name for what is called `source` elsewhere.
///
/// # Errors
/// [`NameProblem`].
pub fn secret_name(source: &str) -> Result<String, NameProblem> {
    let mut name = String::new();
    for part in source.split('/') {
        if matches!(part, "" | "." | "..") {
            return Err(NameProblem::Part);
        }
        if !name.is_empty() && !name.ends_with('.') {
            name.push('.');
        }
        let mut hyphen = false;
        for c in part.chars() {
            match c.to_ascii_lowercase() {
                c @ ('a'..='z' | '0'..='9' | '_') => name.push(c),
                c @ ('.' | '-') if !name.ends_with(c) => name.push(c),
                '.' | '-' => {}
                _ if hyphen => {}
                _ => name.push('-'),
            }
            hyphen = name.ends_with('-');
        }
    }
    // A name begins with a letter or digit, and ends without a dot.
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).trim_end_matches(['.', '-']);
    match name.len() {
        0 => Err(NameProblem::Empty),
        1..=NAME_BYTES_MAX => Ok(name.to_owned()),
        _ => Err(NameProblem::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Address;

    #[test]
    fn names_are_taken_over_by_the_rule() {
        for (source, name) in [
            ("DB_PASSWORD", "db_password"),
            ("web/Admin Login", "web.admin-login"),
            ("tls.key", "tls.key"),
            ("mail/alice@ops.example", "mail.alice-ops.example"),
            ("_private", "private"),
            ("a..b--c", "a.b-c"),
            ("Bücher & co", "b-cher-co"),
            ("x.", "x"),
        ] {
            assert_eq!(secret_name(source).as_deref(), Ok(name), "{source}");
        }
        assert_eq!(secret_name("a//b"), Err(NameProblem::Part));
        assert_eq!(secret_name("../b"), Err(NameProblem::Part));
        assert_eq!(secret_name("日本"), Err(NameProblem::Empty));
        assert_eq!(secret_name(&"x".repeat(65)), Err(NameProblem::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_out_is_a_name(source in ".{0,80}") {
            if let Ok(name) = secret_name(&source) {
                let address = format!("nginx@fra1/{name}").parse::<Address>();
                proptest::prop_assert!(address.is_ok(), "{source:?} gives {name:?}");
                // A name that is one stays as it is.
                proptest::prop_assert_eq!(secret_name(&name), Ok(name));
            }
        }
    }
}
