//! The tar format of a backup (POSIX.1-2017, pax, "ustar Interchange Format"): regular files, sizes and paths, and nothing
//! that could name an owner, a link or a device. Times are 0, so that the same files give the same bytes.
//!
//! `tar` lists and unpacks it. Ours is the only spelling that is read: a header is accepted if writing its path and size
//! anew gives the same 512 bytes.

use std::io::{self, Read, Write};

/// A tar block.
const BLOCK: usize = 512;
/// The largest size that eleven octal digits hold.
const SIZE_MAX: u64 = 0o77_777_777_777;
/// The longest name without, and the longest directory in front of it.
const NAME_BYTES_MAX: usize = 100;
const PREFIX_BYTES_MAX: usize = 155;

/// Why an archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The other side refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A path that the format cannot hold.
    #[error("the path '{0}' does not fit into an archive")]
    Path(String),
    /// A file that the format cannot hold.
    #[error("{0} bytes are more than a file in an archive may have")]
    Size(u64),
    /// It ends too soon.
    #[error("it is cut short")]
    Short,
    /// A header that is not one of ours.
    #[error("it has a header that is never written in a backup, at byte {0}")]
    Header(u64),
    /// Something behind the end, or padding that is not zero.
    #[error("it has bytes where there should be none, at byte {0}")]
    Surplus(u64),
    /// Another number of bytes than was announced.
    #[error("the part has another size than was announced")]
    Announced,
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its path, relative.
    pub path: String,
    /// Its bytes.
    pub size: u64,
}

/// Whether `path` is one that an archive may hold: relative, of names in printable ASCII without `\`, none of them `.`
/// or `..`, and short enough.
pub fn is_path(path: &str) -> bool {
    let good = |name: &str| {
        !matches!(name, "" | "." | "..") && name.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'/')
    };
    path.split('/').all(good) && split(path).is_some()
}

/// The directory that goes into the prefix, and the rest.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME_BYTES_MAX {
        return Some(("", path));
    }
    let at = path.match_indices('/').map(|(at, _)| at).find(|at| path.len() - at - 1 <= NAME_BYTES_MAX)?;
    let (prefix, name) = (path.get(..at)?, path.get(at + 1..)?);
    (prefix.len() <= PREFIX_BYTES_MAX && !name.is_empty()).then_some((prefix, name))
}

/// The header of a regular file.
fn header(path: &str, size: u64) -> Result<[u8; BLOCK], ArchiveError> {
    let bad = || ArchiveError::Path(crate::text::shown(path).to_string());
    let (prefix, name) = split(path).filter(|_| is_path(path)).ok_or_else(bad)?;
    if size > SIZE_MAX {
        return Err(ArchiveError::Size(size));
    }
    let size = format!("{size:011o}\0");
    let fields = |sum: &str| {
        let fields: [(usize, &[u8]); 10] = [
            (0, name.as_bytes()),
            (100, b"0000600\0"),
            (108, b"0000000\0"),
            (116, b"0000000\0"),
            (124, size.as_bytes()),
            (136, b"00000000000\0"),
            (148, sum.as_bytes()),
            (156, b"0"),
            (257, b"ustar\x0000"),
            (345, prefix.as_bytes()),
        ];
        let mut block = [0u8; BLOCK];
        for (at, bytes) in fields {
            if let Some(place) = block.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        block
    };
    // The checksum is computed over the header with eight spaces in its place.
    let sum: u32 = fields("        ").iter().map(|b| u32::from(*b)).sum();
    Ok(fields(&format!("{sum:06o}\0 ")))
}

/// The path and the size that a header names.
fn parse(block: &[u8; BLOCK]) -> Option<Part> {
    let text = |from: usize, to: usize| {
        let field = block.get(from..to)?;
        let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
        std::str::from_utf8(field.get(..end)?).ok()
    };
    let (name, prefix) = (text(0, 100)?, text(345, 500)?);
    let size = u64::from_str_radix(text(124, 136)?, 8).ok()?;
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    header(&path, size).ok().filter(|again| again == block).map(|_| Part { path, size })
}

fn padding(size: u64) -> usize {
    let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if rest == 0 { 0 } else { BLOCK - rest }
}

/// Writes an archive, part by part.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    at: u64,
}

impl<W: Write> Archive<W> {
    /// An archive on `out`.
    pub fn new(out: W) -> Self {
        Self { out, at: 0 }
    }

    /// Writes a part of known content.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn part(&mut self, path: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.begin(path, bytes.len() as u64)?;
        self.out.write_all(bytes)?;
        self.end(bytes.len() as u64)
    }

    /// Begins a part whose content the caller writes to [`Archive::out`], and whose [`Archive::end`] it then calls. Gives
    /// the header's place, for [`rewrite_size`].
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn begin(&mut self, path: &str, size: u64) -> Result<u64, ArchiveError> {
        self.out.write_all(&header(path, size)?)?;
        let place = self.at;
        self.at = self.at.saturating_add(BLOCK as u64);
        Ok(place)
    }

    /// Ends a part of so many bytes.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn end(&mut self, size: u64) -> Result<(), ArchiveError> {
        let padding = padding(size);
        self.out.write_all([0u8; BLOCK].get(..padding).unwrap_or_default())?;
        self.at = self.at.saturating_add(size).saturating_add(padding as u64);
        Ok(())
    }

    /// Where the parts go.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Ends the archive; gives back where it went.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        self.out.write_all(&[0u8; 2 * BLOCK])?;
        Ok(self.out)
    }
}

/// The header of a part that turned out to have so many bytes, to be written over the one that was there.
///
/// # Errors
/// [`ArchiveError`].
pub fn rewrite_size(path: &str, size: u64) -> Result<[u8; 512], ArchiveError> {
    header(path, size)
}

/// Reads an archive, part by part, without ever seeking.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    from: R,
    at: u64,
    /// What is left of the part that was announced last, and its padding.
    left: u64,
    padding: usize,
}

impl<R: Read> ArchiveReader<R> {
    /// The archive that `from` gives.
    pub fn new(from: R) -> Self {
        Self { from, at: 0, left: 0, padding: 0 }
    }

    /// The next part; `None` at the end, which is that of the bytes as well. What was not read of the part before has to
    /// have been read: see [`ArchiveReader::content`].
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn next_part(&mut self) -> Result<Option<Part>, ArchiveError> {
        if self.left > 0 {
            return Err(ArchiveError::Announced);
        }
        let mut zeros = [0u8; BLOCK];
        let zeros = zeros.get_mut(..self.padding).ok_or(ArchiveError::Announced)?;
        fill(&mut self.from, zeros)?;
        if zeros.iter().any(|b| *b != 0) {
            return Err(ArchiveError::Surplus(self.at));
        }
        self.at = self.at.saturating_add(self.padding as u64);
        self.padding = 0;
        let mut block = [0u8; BLOCK];
        fill(&mut self.from, &mut block)?;
        if block == [0u8; BLOCK] {
            fill(&mut self.from, &mut block)?;
            let mut more = [0u8; 1];
            if block != [0u8; BLOCK] || self.from.read(&mut more)? > 0 {
                return Err(ArchiveError::Surplus(self.at));
            }
            return Ok(None);
        }
        let part = parse(&block).ok_or(ArchiveError::Header(self.at))?;
        self.at = self.at.saturating_add(BLOCK as u64);
        (self.left, self.padding) = (part.size, padding(part.size));
        Ok(Some(part))
    }

    /// At which byte of the archive the reader is.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The content of the part that was announced last.
    pub fn content(&mut self) -> impl Read {
        Content(self)
    }

    /// The whole content of the part that was announced last, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn bytes(&mut self, limit: usize) -> Result<Vec<u8>, ArchiveError> {
        let size = usize::try_from(self.left).ok().filter(|s| *s <= limit).ok_or(ArchiveError::Size(self.left))?;
        // What is announced is not believed before it is there.
        let mut bytes = Vec::with_capacity(size.min(1 << 20));
        self.content().read_to_end(&mut bytes)?;
        if bytes.len() == size { Ok(bytes) } else { Err(ArchiveError::Short) }
    }
}

fn fill(from: &mut impl Read, block: &mut [u8]) -> Result<(), ArchiveError> {
    from.read_exact(block).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Short,
        _ => e.into(),
    })
}

struct Content<'a, R>(&'a mut ArchiveReader<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ArchiveReader { from, left, at, .. } = &mut *self.0;
        let most = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let read = from.read(buffer.get_mut(..most).unwrap_or_default())?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut short"));
        }
        *left = left.saturating_sub(read as u64);
        *at = at.saturating_add(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        parts.iter().for_each(|(path, bytes)| archive.part(path, bytes).unwrap());
        archive.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
        let mut reader = ArchiveReader::new(bytes);
        let mut found = Vec::new();
        while let Some(part) = reader.next_part()? {
            found.push((part.path, reader.bytes(1 << 20)?));
        }
        Ok(found)
    }

    #[test]
    fn what_is_written_is_read() {
        let long = format!("keyring/proposals/{}/{}.sig", "a".repeat(64), "b".repeat(64));
        let parts: [(&str, &[u8]); 4] =
            [("a", b""), ("keyring/log/checkpoint", b"one"), (&long, &[7; 512]), ("z", &[9; 513])];
        let read = read(&archive(&parts)).unwrap();
        let expected: Vec<_> = parts.iter().map(|(p, b)| ((*p).to_owned(), b.to_vec())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn no_byte_but_the_content_can_be_another() {
        let whole = archive(&[("keyring/one", b"content")]);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let content = (BLOCK..BLOCK + 7).contains(&at);
            assert_eq!(read(&changed).is_ok(), content, "byte {at}");
            assert!(read(&whole[..at]).is_err(), "{at} bytes");
        }
        assert!(matches!(read(&[whole, vec![0]].concat()), Err(ArchiveError::Surplus(_))));
    }

    #[test]
    fn paths_stay_inside() {
        for bad in ["", "/a", "a/", "../a", "a/../b", "a/./b", "a\\b", "a b", "a\nb", "ä", &"a".repeat(101)] {
            assert!(!is_path(bad), "{bad}");
            assert!(Archive::new(Vec::new()).part(bad, b"").is_err(), "{bad}");
        }
        assert!(is_path("home/members/nginx@fra1/openpgp.tsk"));
        let name = format!("{}/{}", "d".repeat(155), "n".repeat(100));
        assert!(is_path(&name) && !is_path(&format!("d{name}")));
    }
}
