//! The data types of SSH (RFC 4251, section 5) that certificates and KRLs are made of, read and written strictly.
//!
//! A reader hands out pieces of the given bytes and copies nothing, so a length that lies costs no memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::limits::SSH_LINE_BYTES_MAX;

/// What is wrong with the bytes. Each module turns it into its own error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes not yet read.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    /// Whether everything was read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the reading; what follows would be bytes that a signature or a comparison does not mean.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("more bytes than its fields have")) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// `byte`.
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    /// `uint32`.
    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// `uint64`.
    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// `string`.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed("it ends early"))?;
        let (head, rest) = self.0.split_at_checked(length).ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    /// A `string` of UTF-8.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.string()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// A `mpint` above zero, without its sign byte.
    pub(super) fn positive(&mut self) -> Result<&'a [u8], Malformed> {
        match self.string()? {
            // A zero byte stands in front of a set top bit, and nowhere else.
            [0, rest @ ..] if rest.first().is_some_and(|b| *b >= 128) => Ok(rest),
            whole @ [1..=127, ..] => Ok(whole),
            _ => Err(Malformed("a number is negative, zero or padded")),
        }
    }
}

/// Writing, the inverse of [`Reader`].
pub(super) trait Put {
    /// `uint32`.
    fn put_u32(&mut self, n: u32);
    /// `uint64`.
    fn put_u64(&mut self, n: u64);
    /// `string`.
    fn put_string(&mut self, bytes: &[u8]);
    /// `mpint` of a number above zero whose first byte is not zero.
    fn put_positive(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u32(&mut self, n: u32) {
        self.extend(n.to_be_bytes());
    }

    fn put_u64(&mut self, n: u64) {
        self.extend(n.to_be_bytes());
    }

    fn put_string(&mut self, bytes: &[u8]) {
        // Every caller's fields are bounded by `crate::limits`, far below 4 GiB.
        self.put_u32(u32::try_from(bytes.len()).expect("fields are bounded"));
        self.extend(bytes);
    }

    fn put_positive(&mut self, bytes: &[u8]) {
        match bytes.first() {
            Some(128..) => self.put_string(&[&[0], bytes].concat()),
            Some(_) | None => self.put_string(bytes),
        }
    }
}

/// `name base64 comment`: the one line that keys and SSH certificates are kept in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The algorithm as the line gives it.
    pub(super) name: &'a str,
    /// The decoded bytes, which begin with the same algorithm.
    pub(super) blob: Vec<u8>,
    /// The rest, which nothing protects.
    pub(super) comment: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line, with or without its line feed. Base64 has one spelling here: padded, no stray bits.
    pub(super) fn parse(line: &'a str) -> Result<Self, Malformed> {
        if line.len() > SSH_LINE_BYTES_MAX {
            return Err(Malformed("the line is too long"));
        }
        let line = line.strip_suffix('\n').unwrap_or(line);
        if line.chars().any(|c| c.is_control()) {
            return Err(Malformed("more than one line, or a control character"));
        }
        let mut parts = line.splitn(3, ' ');
        let (Some(name), Some(encoded)) = (parts.next(), parts.next()) else {
            return Err(Malformed("expected an algorithm and base64"));
        };
        let blob = BASE64.decode(encoded).map_err(|_| Malformed("not base64"))?;
        if Reader::new(&blob).text()? != name {
            return Err(Malformed("the line and the bytes name different algorithms"));
        }
        Ok(Self { name, blob, comment: parts.next().unwrap_or_default() })
    }

    /// Writes the line without comment and line feed.
    pub(super) fn write(name: &str, blob: &[u8]) -> String {
        format!("{name} {}", BASE64.encode(blob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        for bytes in [&[][..], &[0, 0, 0], &[0, 0, 0, 1], &[255, 255, 255, 255, 1]] {
            assert_eq!(Reader::new(bytes).string(), Err(Malformed("it ends early")), "{bytes:?}");
        }
        assert!(Reader::new(&[1]).finish().is_err());
    }

    #[test]
    fn a_number_has_one_spelling() {
        for bytes in [&[1_u8][..], &[0x7f, 0], &[0x80], &[0xff, 0xff]] {
            let mut out = Vec::new();
            out.put_positive(bytes);
            assert_eq!(Reader::new(&out).positive(), Ok(bytes));
        }
        for wrong in [&[][..], &[0], &[0, 1], &[0x80], &[0, 0, 0x80]] {
            let mut out = Vec::new();
            out.put_string(wrong);
            assert!(Reader::new(&out).positive().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_line_has_one_spelling() {
        let mut blob = Vec::new();
        blob.put_string(b"x");
        let line = Line::write("x", &blob);
        assert_eq!(Line::parse(&format!("{line} a b\n")).map(|l| l.comment), Ok("a b"));
        for wrong in [
            "",
            "x",
            "y AAAAAXg=",
            "x AAAAAXg",
            "x AAAAAXh=",
            "x  AAAAAXg=",
            "x AAAAAXg=\n\n",
            "x AAAAAXg= a\rb",
            "x\tAAAAAXg=",
        ] {
            assert!(Line::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
