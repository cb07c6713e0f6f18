//! What is handed in where a keyring is served: a statement with signatures, or a request, and what it refers to.
//!
//! ```text
//! keys/submit/v1
//! entry 1234
//! {"act":…            (1234 bytes, a statement with its signature lines as in the log)
//! object 99
//! {"readers":…        (99 bytes)
//! ```
//! A header line, then parts: a kind, the length in bytes, a line feed, the bytes, a line feed. The first is an `entry` or a
//! `request`; `object`s follow, each once, which is what the statement refers to by digest. An entry or a request alone,
//! without anything around it, is one, too.

use super::{Entry, EntryError, Request};
use crate::limits::{SUBMIT_BYTES_MAX, SUBMIT_OBJECTS_MAX};

const HEADER: &[u8] = b"keys/submit/v1\n";

/// Why bytes hand nothing in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmissionError {
    /// Too large.
    #[error("it has {0} bytes; at most {SUBMIT_BYTES_MAX} are taken, larger ones go by file")]
    TooLarge(usize),
    /// Not of the form.
    #[error("it is not of the form: {0}")]
    Form(&'static str),
    /// The statement or request cannot be read.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// What is handed in first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// A statement with signatures: a proposal, or more signatures for one.
    Entry(Box<Entry>),
    /// A request to be enrolled, and its bytes.
    Request(Box<Request>, Vec<u8>),
}

/// What is handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The statement or request.
    pub handed: Handed,
    /// What the statement refers to.
    pub objects: Vec<Vec<u8>>,
}

impl Submission {
    /// Writes a statement with signatures, and what it refers to.
    ///
    /// # Errors
    /// [`SubmissionError`].
    pub fn of_entry(entry: &Entry, objects: &[Vec<u8>]) -> Result<Vec<u8>, SubmissionError> {
        let mut bytes = HEADER.to_vec();
        let mut part = |kind: &str, content: &[u8]| {
            bytes.extend_from_slice(format!("{kind} {}\n", content.len()).as_bytes());
            bytes.extend_from_slice(content);
            bytes.push(b'\n');
        };
        part("entry", &entry.to_bytes()?);
        objects.iter().for_each(|object| part("object", object));
        if objects.len() > SUBMIT_OBJECTS_MAX {
            return Err(SubmissionError::Form("it has too many objects"));
        }
        if bytes.len() > SUBMIT_BYTES_MAX { Err(SubmissionError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// Reads what was handed in.
    ///
    /// # Errors
    /// [`SubmissionError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SubmissionError> {
        if bytes.len() > SUBMIT_BYTES_MAX {
            return Err(SubmissionError::TooLarge(bytes.len()));
        }
        let Some(mut rest) = bytes.strip_prefix(HEADER) else { return Self::bare(bytes) };
        let mut handed = None;
        let mut objects: Vec<Vec<u8>> = Vec::new();
        while !rest.is_empty() {
            let (kind, content, after) = part(rest).ok_or(SubmissionError::Form("a part is cut short or misspelt"))?;
            rest = after;
            match (kind, &handed) {
                ("entry", None) => handed = Some(Handed::Entry(Box::new(Entry::parse(content)?))),
                ("request", None) => handed = Some(request(content)?),
                ("object", Some(_)) if objects.len() >= SUBMIT_OBJECTS_MAX => {
                    return Err(SubmissionError::Form("it has too many objects"));
                }
                ("object", Some(_)) => objects.push(content.to_vec()),
                _ => return Err(SubmissionError::Form("an entry or a request comes first, then objects")),
            }
        }
        let handed = handed.ok_or(SubmissionError::Form("it has no parts"))?;
        Ok(Self { handed, objects })
    }

    /// An entry or a request with nothing around it.
    fn bare(bytes: &[u8]) -> Result<Self, SubmissionError> {
        let handed = match Entry::parse(bytes) {
            Ok(entry) => Handed::Entry(Box::new(entry)),
            // What both have to say of it: whoever handed in a statement wants to hear what is wrong with that.
            Err(error) => request(bytes).or(Err(error))?,
        };
        Ok(Self { handed, objects: Vec::new() })
    }
}

fn request(bytes: &[u8]) -> Result<Handed, EntryError> {
    let (request, ..) = Request::parse(bytes)?;
    Ok(Handed::Request(Box::new(request), bytes.to_vec()))
}

/// The first part: its kind, its content, and what follows.
fn part(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let end = bytes.iter().take(32).position(|b| *b == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    let (kind, digits) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let length: usize = digits.parse().ok().filter(|n: &usize| n.to_string() == digits)?;
    let (content, after) = rest.get(1..)?.split_at_checked(length)?;
    Some((kind, content, after.strip_prefix(b"\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_one_spelling_and_are_whole() {
        assert_eq!(part(b"object 3\nabc\nrest"), Some(("object", &b"abc"[..], &b"rest"[..])));
        assert_eq!(part(b"object 0\n\n"), Some(("object", &b""[..], &b""[..])));
        for wrong in [
            "object 3\nab",
            "object 3\nabc",
            "object 3\nabcd\n",
            "object 03\nabc\n",
            "object +3\nabc\n",
            "object -3\nabc\n",
            "object  3\nabc\n",
            "object 3 \nabc\n",
            "object 3\r\nabc\n",
            "object\nabc\n",
            "3\nabc\n",
            "",
            "object 18446744073709551615\nabc\n",
            "object 99999999999999999999999999\nabc\n",
        ] {
            assert_eq!(part(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_hands_nothing_in_is_refused_with_the_reason() {
        let said = |bytes: &[u8]| Submission::parse(bytes).map_err(|e| e.to_string()).expect_err("refused");
        assert!(said(b"keys/submit/v1\n").contains("no parts"));
        assert!(said(b"keys/submit/v1\nobject 1\nx\n").contains("comes first"));
        assert!(said(b"keys/submit/v1\nthing 1\nx\n").contains("comes first"));
        assert!(said(b"keys/submit/v1\nentry 5\nx\n").contains("cut short"));
        assert!(said(&vec![b'x'; SUBMIT_BYTES_MAX + 1]).contains("go by file"));
        assert!(!said(b"").is_empty() && !said(b"{}").is_empty());
    }
}
