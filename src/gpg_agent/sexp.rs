//! S-expressions in canonical form (RFC 9804, section 6.1): how libgcrypt writes keys, signatures and ciphertexts.
//!
//! ```text
//! (7:sig-val(5:eddsa(1:r32:…)(1:s32:…)))
//! ```
//! An atom is its length in decimal, a colon and its bytes; a list is its items in parentheses. Display hints, the other
//! notations of RFC 9804 and anything behind the expression are refused: nothing we read has them.
//!
//! Atoms are borrowed, so that secrets stay in the buffer that wipes them.

use std::fmt;

use crate::limits::{AGENT_ANSWER_BYTES_MAX, SEXP_DEPTH_MAX, SEXP_ITEMS_MAX};

/// Why bytes are not an S-expression in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a canonical S-expression: {0}")]
pub struct SexpError(&'static str);

/// An S-expression.
pub enum Sexp<'a> {
    /// A string of bytes.
    Atom(&'a [u8]),
    /// A list, which may be empty.
    List(Vec<Sexp<'a>>),
}

/// Reads one S-expression that fills `bytes`.
///
/// # Errors
/// [`SexpError`], also above [`AGENT_ANSWER_BYTES_MAX`] bytes, [`SEXP_DEPTH_MAX`] nested lists or [`SEXP_ITEMS_MAX`]
/// atoms and lists.
pub fn parse(bytes: &[u8]) -> Result<Sexp<'_>, SexpError> {
    if bytes.len() > AGENT_ANSWER_BYTES_MAX {
        return Err(SexpError("too long"));
    }
    let mut reader = Reader { rest: bytes, items_left: SEXP_ITEMS_MAX };
    let sexp = reader.item(SEXP_DEPTH_MAX)?;
    if !reader.rest.is_empty() {
        return Err(SexpError("something follows it"));
    }
    Ok(sexp)
}

impl<'a> Sexp<'a> {
    /// A list of an atom and more items, as `(flags eddsa)`.
    pub fn list(tag: &'a str, items: impl IntoIterator<Item = Sexp<'a>>) -> Self {
        Self::List(std::iter::once(Self::Atom(tag.as_bytes())).chain(items).collect())
    }

    /// A list of an atom and a value, as `(r …)`.
    pub fn pair(tag: &'a str, value: &'a [u8]) -> Self {
        Self::list(tag, [Self::Atom(value)])
    }

    /// The value at the end of a path of tags: `["sig-val", "eddsa", "r"]` finds the 32 bytes in the example above.
    ///
    /// `None` if a list on the path is missing or occurs twice, or if the last one is not a tag and one atom.
    pub fn value(&self, path: &[&str]) -> Option<&'a [u8]> {
        let Self::List(items) = self else { return None };
        let (Self::Atom(tag), rest) = items.split_first()? else { return None };
        let (first, path) = path.split_first()?;
        if *tag != first.as_bytes() {
            return None;
        }
        match (path.first(), rest) {
            (None, [Self::Atom(value)]) => Some(value),
            (None, _) => None,
            (Some(next), _) => {
                let mut found = rest.iter().filter(|item| item.has_tag(next));
                let (Some(item), None) = (found.next(), found.next()) else { return None };
                item.value(path)
            }
        }
    }

    /// Whether this is a list that begins with the atom `tag`.
    fn has_tag(&self, tag: &str) -> bool {
        matches!(self, Self::List(items) if matches!(items.first(), Some(Self::Atom(atom)) if *atom == tag.as_bytes()))
    }

    /// Writes the canonical form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Atom(bytes) => {
                out.extend(bytes.len().to_string().bytes());
                out.push(b':');
                out.extend_from_slice(bytes);
            }
            Self::List(items) => {
                out.push(b'(');
                for item in items {
                    item.write(out);
                }
                out.push(b')');
            }
        }
    }
}

/// Shows lengths only: an atom may be a secret.
impl fmt::Debug for Sexp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Atom(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::List(items) => f.debug_list().entries(items).finish(),
        }
    }
}

/// What is left to read, of the bytes and of the allowance.
struct Reader<'a> {
    rest: &'a [u8],
    items_left: usize,
}

impl<'a> Reader<'a> {
    /// Reads an atom or a list with at most `depth` lists in one another. The recursion is bounded by `depth`.
    fn item(&mut self, depth: usize) -> Result<Sexp<'a>, SexpError> {
        self.items_left = self.items_left.checked_sub(1).ok_or(SexpError("too many items"))?;
        if !self.skip(b'(') {
            return self.atom().map(Sexp::Atom);
        }
        let depth = depth.checked_sub(1).ok_or(SexpError("too deep"))?;
        let mut items = Vec::new();
        while !self.skip(b')') {
            items.push(self.item(depth)?);
        }
        Ok(Sexp::List(items))
    }

    fn skip(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn atom(&mut self) -> Result<&'a [u8], SexpError> {
        let digit_count = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at_checked(digit_count).unwrap_or_default();
        let rest = match rest.split_first() {
            Some((b':', rest)) if !digits.is_empty() => rest,
            Some(_) => return Err(SexpError("neither a list nor an atom")),
            None => return Err(SexpError("it ends too early")),
        };
        if digits.len() > 1 && digits.first() == Some(&b'0') {
            return Err(SexpError("a length begins with zero"));
        }
        let length = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse::<usize>().ok())
            .ok_or(SexpError("a length out of range"))?;
        let (atom, rest) = rest.split_at_checked(length).ok_or(SexpError("it ends too early"))?;
        self.rest = rest;
        Ok(atom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An S-expression that owns its atoms, for the generator.
    #[derive(Debug, Clone)]
    enum Tree {
        Atom(Vec<u8>),
        List(Vec<Tree>),
    }

    impl Tree {
        fn as_sexp(&self) -> Sexp<'_> {
            match self {
                Self::Atom(bytes) => Sexp::Atom(bytes),
                Self::List(items) => Sexp::List(items.iter().map(Self::as_sexp).collect()),
            }
        }
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let atom = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Tree::Atom);
        atom.prop_recursive(4, 20, 4, |inner| proptest::collection::vec(inner, 0..4).prop_map(Tree::List))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tree in trees()) {
            let bytes = tree.as_sexp().to_bytes();
            prop_assert_eq!(parse(&bytes).unwrap().to_bytes(), bytes);
        }

        #[test]
        fn any_bytes_are_read_or_refused_and_there_is_one_spelling(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(sexp) = parse(&bytes) {
                prop_assert_eq!(sexp.to_bytes(), bytes);
            }
        }

        #[test]
        fn any_text_of_its_alphabet_is_read_or_refused(text in "[()0-9:a]{0,120}") {
            if let Ok(sexp) = parse(text.as_bytes()) {
                prop_assert_eq!(sexp.to_bytes(), text.into_bytes());
            }
        }

        #[test]
        fn a_damaged_expression_does_no_harm(tree in trees(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = tree.as_sexp().to_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = parse(&bytes);
            let _ = parse(&bytes[..at]);
        }
    }

    #[test]
    fn values_are_found_by_their_path() {
        let bytes = b"(7:sig-val(5:eddsa(1:r2:ab)(1:s3:c)d))(4:hash6:sha256))";
        let sexp = parse(bytes).unwrap();
        assert_eq!(sexp.value(&["sig-val", "eddsa", "r"]), Some(b"ab".as_slice()));
        assert_eq!(sexp.value(&["sig-val", "eddsa", "s"]), Some(b"c)d".as_slice()));
        for missing in [&["sig-val", "rsa", "s"][..], &["sig-val", "eddsa"], &["eddsa", "r"], &["sig-val"], &[]] {
            assert_eq!(sexp.value(missing), None, "{missing:?}");
        }
        let twice = parse(b"(7:sig-val(1:r1:a)(1:r1:b))").unwrap();
        assert_eq!(twice.value(&["sig-val", "r"]), None, "which of the two is meant cannot be known");
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        for wrong in [
            "",
            "(",
            ")",
            "()x",
            "()()",
            "a",
            "1",
            "1:",
            ":",
            "01:a",
            "00:",
            "-1:a",
            "+1:a",
            "2:a",
            "(1:a",
            "[1:b]1:a",
            "\"a\"",
            "#61#",
            "( 1:a)",
            "1:a\0",
            "99999999999999999999999:a",
            "18446744073709551615:a",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(parse(b"()").is_ok());
        assert!(parse(b"0:").is_ok());
    }

    #[test]
    fn limits_hold() {
        let nested = |depth| [vec![b'('; depth], vec![b')'; depth]].concat();
        assert!(parse(&nested(SEXP_DEPTH_MAX)).is_ok());
        assert_eq!(parse(&nested(SEXP_DEPTH_MAX + 1)).unwrap_err(), SexpError("too deep"));
        assert_eq!(parse(&[b'('; AGENT_ANSWER_BYTES_MAX]).unwrap_err(), SexpError("too deep"));
        let wide = |count| format!("({})", "0:".repeat(count));
        assert!(parse(wide(SEXP_ITEMS_MAX - 1).as_bytes()).is_ok());
        assert_eq!(parse(wide(SEXP_ITEMS_MAX).as_bytes()).unwrap_err(), SexpError("too many items"));
        assert_eq!(parse(&[b'0'; AGENT_ANSWER_BYTES_MAX + 1]).unwrap_err(), SexpError("too long"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let sexp = Sexp::list("value", [Sexp::Atom(b"secret")]);
        assert_eq!(format!("{sexp:?}"), "[5 bytes, 6 bytes]");
    }
}
