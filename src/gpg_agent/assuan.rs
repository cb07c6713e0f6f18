//! Assuan's lines: reading and writing them.
//!
//! ```text
//! C: PKDECRYPT
//! S: S INQUIRE_MAXLEN 4096          status, of which one kind matters here
//! S: INQUIRE CIPHERTEXT             a question, answered by data and END, or by CAN
//! C: D (7:enc-val(4:ecdh…)))
//! C: END
//! S: D (5:value33:@…%0A…)           data; percent, CR and LF are written as %25, %0D and %0A
//! S: OK                             or: ERR 67108881 No secret key <GPG Agent>
//! ```
//! A line has at most [`AGENT_LINE_BYTES_MAX`] bytes. Data may be a secret and is wiped.

use std::fmt;

use zeroize::Zeroizing;

use super::error::AgentError;
use crate::limits::AGENT_LINE_BYTES_MAX;

/// A line that an agent sends, without its end.
pub enum Line<'a> {
    /// The command is done.
    Ok,
    /// The command failed.
    Err {
        /// libgpg-error's value.
        code: u32,
        /// Its description.
        text: String,
    },
    /// Data, decoded.
    Data(Zeroizing<Vec<u8>>),
    /// A question: its keyword, without what follows it.
    Inquire(&'a [u8]),
    /// A status: everything behind the `S `.
    Status(&'a [u8]),
    /// A comment.
    Comment,
}

impl<'a> Line<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// [`AgentError::Protocol`].
    pub fn parse(line: &'a [u8]) -> Result<Self, AgentError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > AGENT_LINE_BYTES_MAX {
            return Err(AgentError::Protocol("a line is too long"));
        }
        if line.first() == Some(&b'#') {
            return Ok(Self::Comment);
        }
        let (word, rest) = split_at_space(line);
        match word {
            b"OK" => Ok(Self::Ok),
            b"ERR" => {
                let (code, text) = split_at_space(rest);
                let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok());
                let code = code.ok_or(AgentError::Protocol("an error without a number"))?;
                Ok(Self::Err { code, text: String::from_utf8_lossy(text).into_owned() })
            }
            b"D" => {
                percent_decode(rest).map(Self::Data).ok_or(AgentError::Protocol("data with a wrong percent escape"))
            }
            b"INQUIRE" => Ok(Self::Inquire(split_at_space(rest).0)),
            b"S" => Ok(Self::Status(rest)),
            _ => Err(AgentError::Protocol("a line of unknown kind")),
        }
    }
}

/// Shows the kind of line only: data may be a secret.
impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "Ok",
            Self::Err { .. } => "Err(..)",
            Self::Data(_) => "Data(..)",
            Self::Inquire(_) => "Inquire(..)",
            Self::Status(_) => "Status(..)",
            Self::Comment => "Comment",
        })
    }
}

/// The bytes before and behind the first space.
fn split_at_space(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = bytes.splitn(2, |&b| b == b' ');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Undoes percent escapes; `None` for a percent sign without two hexadecimal digits.
fn percent_decode(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let nibble = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    // The capacity is never exceeded, so nothing is left behind by a reallocation.
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        out.push(match byte {
            b'%' => nibble(*rest.next()?)? << 4 | nibble(*rest.next()?)?,
            _ => byte,
        });
    }
    Some(out)
}

/// Writes one byte as `%XX`.
fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    out.extend(format!("%{byte:02X}").bytes());
}

/// Writes `bytes` as lines of data, each within the limit.
pub fn data_lines(bytes: &[u8]) -> Vec<u8> {
    /// Every byte may need three.
    const CHUNK: usize = (AGENT_LINE_BYTES_MAX - 2) / 3;
    let mut out = Vec::new();
    for chunk in bytes.chunks(CHUNK) {
        out.extend(b"D ");
        for &byte in chunk {
            match byte {
                b'%' | b'\r' | b'\n' => push_escaped(byte, &mut out),
                _ => out.push(byte),
            }
        }
        out.push(b'\n');
    }
    out
}

/// Writes text as one word of a command: spaces become plus signs, all but plain characters become percent escapes.
pub fn plus_encode(text: &str) -> String {
    let mut out = Vec::new();
    for &byte in text.as_bytes() {
        match byte {
            b' ' => out.push(b'+'),
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' => out.push(byte),
            _ => push_escaped(byte, &mut out),
        }
    }
    out.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..1_100)) {
            let _ = Line::parse(&line);
        }

        #[test]
        fn any_line_that_begins_well_is_read_or_refused(line in "(OK|ERR|D|S|INQUIRE|#)? ?[ %0-9A-Fa-f\r]{0,40}") {
            let _ = Line::parse(line.as_bytes());
        }

        #[test]
        fn data_survives_its_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut read = Vec::new();
            for line in data_lines(&bytes).split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
                prop_assert!(line.len() <= AGENT_LINE_BYTES_MAX);
                match Line::parse(line) {
                    Ok(Line::Data(part)) => read.extend_from_slice(&part),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert_eq!(read, bytes);
        }
    }

    #[test]
    fn text_becomes_one_word() {
        assert_eq!(plus_encode("sign 7% of\nfra1+ü"), "sign+7%25+of%0Afra1%2B%C3%BC");
    }
}
