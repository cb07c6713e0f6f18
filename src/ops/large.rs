//! Values that are too large to be held in memory. Such a value is cut into parts of [`PART_BYTES`], each encrypted with a key of
//! its own; what is sealed, and signed by the author, is the list of them:
//!
//! ```text
//! keys/large/v1
//! profile compat
//! size 1073741824
//! part <SHA-256 of the encrypted part> <its AES-256 key>      one for each part, in order
//! ```
//! So every part is known to be the author's before a byte of it is given out, whoever has kept it, with memory for one part;
//! a reseal exchanges the recipients of the list and leaves the parts alone. The digests are in the log as well: everybody can
//! tell whether the parts are there and whole.
//!
//! While a value is read, its parts lie encrypted in a file without a name: nobody else waits, and a crash leaves nothing.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

use zeroize::Zeroizing;

use super::OpsError;
use super::open::open_file;
use super::seal::{SealPlan, seal_list};
use crate::digest::Digest;
use crate::fleet::{Draft, Fleet, FleetError};
use crate::home::Home;
use crate::limits::{LARGE_BYTES_MAX, PART_BYTES, PARTS_MAX};
use crate::name::{Address, MemberName};
use crate::openpgp::{BodyKey, BodyWriter, Profile, SealError, open_body};
use crate::store::Store;
use crate::time::Time;

const FIRST: &str = "keys/large/v1";
/// Parts that are worked on at one time, at most: each takes some 40 MB.
const AT_ONCE: usize = 2;

/// One part: the digest of what is kept, and the key that opens it.
#[derive(Debug, Clone)]
struct Part {
    file: Digest,
    key: BodyKey,
}

/// What is sealed of a large value.
#[derive(Debug, Clone)]
struct List {
    profile: Profile,
    /// Bytes of the value.
    size: u64,
    parts: Vec<Part>,
}

/// How many parts a value of that size has.
fn count(size: u64) -> u64 {
    size.div_ceil(PART_BYTES as u64)
}

impl List {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let head = format!("{FIRST}\nprofile {}\nsize {}\n", self.profile.word(), self.size);
        // One allocation of the full size: a growing buffer would leave copies of keys behind.
        let mut text = Zeroizing::new(Vec::with_capacity(head.len() + self.parts.len() * 160));
        text.extend_from_slice(head.as_bytes());
        for part in &self.parts {
            let key = Zeroizing::new(crate::text::hex(part.key.expose()));
            text.extend_from_slice(format!("part {} ", part.file).as_bytes());
            text.extend_from_slice(key.as_bytes());
            text.push(b'\n');
        }
        text
    }

    /// Reads it; `None` if it is none, or has not as many parts as a value of its size.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != FIRST {
            return None;
        }
        let profile = lines.next()?.strip_prefix("profile ")?;
        let profile = [Profile::Compat, Profile::Modern].into_iter().find(|p| p.word() == profile)?;
        let size = lines.next()?.strip_prefix("size ")?;
        let size: u64 = size.parse().ok().filter(|n: &u64| n.to_string() == size)?;
        let part = |line: &str| {
            let (file, key) = line.strip_prefix("part ")?.split_once(' ')?;
            let key = Zeroizing::new(crate::text::unhex(key)?);
            Some(Part { file: Digest::parse(file)?, key: BodyKey::from_bytes(&key)? })
        };
        let parts: Vec<Part> = lines.map(part).collect::<Option<_>>()?;
        let is_right = size > 0 && parts.len() as u64 == count(size) && parts.len() <= PARTS_MAX;
        is_right.then_some(Self { profile, size, parts })
    }

    /// How many bytes of the value are in the part with this index.
    fn length(&self, index: usize) -> usize {
        let whole = PART_BYTES as u64;
        usize::try_from(self.size.saturating_sub(index as u64 * whole).min(whole)).unwrap_or(PART_BYTES)
    }
}

/// A value that was read to its end, encrypted, in a file that nobody else sees.
#[derive(Debug)]
pub struct Parted<F> {
    list: List,
    /// Bytes of each encrypted part.
    lengths: Vec<usize>,
    spool: F,
}

impl<F: Read + Write + Seek> Parted<F> {
    /// Reads a value to its end, part by part, into an empty file; `tell` hears how many bytes that were.
    ///
    /// # Errors
    /// [`OpsError::Spool`]; [`OpsError::Openpgp`].
    pub fn read(
        value: &mut dyn Read,
        profile: Profile,
        mut spool: F,
        tell: &mut dyn FnMut(u64),
    ) -> Result<Self, OpsError> {
        let failed = |doing| move |source| OpsError::Spool { doing, source };
        let mut list = List { profile, size: 0, parts: Vec::new() };
        let mut lengths = Vec::new();
        let mut clear: Vec<(Zeroizing<Vec<u8>>, usize)> =
            (0..at_once()).map(|_| (Zeroizing::new(vec![0; PART_BYTES]), 0)).collect();
        loop {
            let mut filled = 0;
            for (buffer, length) in &mut clear {
                *length = fill(value, buffer).map_err(failed("read"))?;
                filled += usize::from(*length > 0);
            }
            if list.parts.len() + filled > PARTS_MAX {
                let problem = format!("it has more than {} GiB", LARGE_BYTES_MAX >> 30);
                let source = io::Error::new(io::ErrorKind::FileTooLarge, problem);
                return Err(OpsError::Spool { doing: "seal", source });
            }
            let full = clear.get(..filled).unwrap_or_default();
            let kept = each(full, |(buffer, length)| encrypt(buffer.get(..*length).unwrap_or_default(), profile))?;
            for ((part, kept), (_, length)) in kept.into_iter().zip(full) {
                spool.write_all(&kept).map_err(failed("keep"))?;
                list.parts.push(part);
                list.size += *length as u64;
                lengths.push(kept.len());
            }
            if filled < clear.len() {
                break;
            }
            tell(list.size);
        }
        Ok(Self { list, lengths, spool })
    }

    /// Bytes of the value.
    pub fn size(&self) -> u64 {
        self.list.size
    }

    /// Brings the parts to the keyring, where they wait for the entry that names them.
    fn stage(&mut self, store: &Store) -> Result<Vec<Digest>, OpsError> {
        let failed = |source| OpsError::Spool { doing: "read again", source };
        self.spool.seek(SeekFrom::Start(0)).map_err(failed)?;
        let all: Vec<(&Part, usize)> = self.list.parts.iter().zip(self.lengths.iter().copied()).collect();
        for some in all.chunks(at_once()) {
            let mut kept = Vec::with_capacity(some.len());
            for (part, length) in some {
                let mut bytes = vec![0; *length];
                self.spool.read_exact(&mut bytes).map_err(failed)?;
                kept.push((part.file, bytes));
            }
            each(&kept, |(file, bytes)| {
                if Digest::of(bytes) != *file {
                    return Err(failed(io::ErrorKind::InvalidData.into()));
                }
                store.stage_sealed(file, bytes).map(drop).map_err(|e| FleetError::from(e).into())
            })?;
        }
        Ok(self.list.parts.iter().map(|part| part.file).collect())
    }
}

/// Reads until the buffer is full or the end has come; gives how much it was.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        match from.read(free) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Encrypts a part under a key of its own.
fn encrypt(clear: &[u8], profile: Profile) -> Result<(Part, Vec<u8>), OpsError> {
    let key = BodyKey::generate()?;
    let mut kept = Vec::with_capacity(clear.len() + (clear.len() >> 7) + 1_024);
    let mut writer = BodyWriter::new(key.expose(), profile, &mut kept)?;
    writer.write_all(clear).map_err(|source| OpsError::Spool { doing: "encrypt", source })?;
    writer.finish()?;
    Ok((Part { file: Digest::of(&kept), key }, kept))
}

fn decrypt(kept: &[u8], key: &BodyKey, profile: Profile, length: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let clear = open_body(kept, key, profile, length).map_err(|e| e.to_string())?;
    if clear.len() == length { Ok(clear) } else { Err("has not as many bytes as its author wrote".to_owned()) }
}

/// How many parts are worked on at one time; each takes its own memory.
fn at_once() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(AT_ONCE)
}

/// Does the same with each of a few things, at one time; gives what came of it in the same order.
fn each<T: Sync, U: Send, E: Send>(all: &[T], work: impl Fn(&T) -> Result<U, E> + Sync) -> Result<Vec<U>, E> {
    let Some((first, others)) = all.split_first() else { return Ok(Vec::new()) };
    thread::scope(|scope| {
        let work = &work;
        let start = |one| thread::Builder::new().spawn_scoped(scope, move || work(one)).ok();
        let under_way: Vec<_> = others.iter().map(start).collect();
        let mut done = vec![work(first)?];
        for (thread, one) in under_way.into_iter().zip(others) {
            done.push(match thread.map(thread::ScopedJoinHandle::join) {
                Some(result) => result.unwrap_or_else(|panic| resume_unwind(panic))?,
                // Without a thread more it is done here.
                None => work(one)?,
            });
        }
        Ok(done)
    })
}

/// Seals a large value as planned; the caller holds the keyring's lock. What it has staged is tidied away if the change fails.
///
/// # Errors
/// [`OpsError`].
pub fn seal_large<F: Read + Write + Seek>(
    plan: &SealPlan,
    value: &mut Parted<F>,
    reason: &str,
    author: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Draft, OpsError> {
    if plan.shape.is_some() {
        return Err(OpsError::Large { address: plan.address.clone(), parts: value.list.parts.len() });
    }
    let parts = value.stage(fleet.store())?;
    seal_list(plan, (&value.list.to_bytes(), parts), reason, author, home, fleet)
}

/// A large value, its author verified: what there is to read its parts.
#[derive(Debug)]
pub struct Large {
    /// Its version.
    pub version: u64,
    /// Who sealed it.
    pub author: MemberName,
    /// When.
    pub sealed: Time,
    /// Whose compromise burned it, if it is burned.
    pub burned: Option<MemberName>,
    address: Address,
    list: List,
}

/// Opens the list of a large value's parts; `None` for a value that is not in parts, which [`super::open`] opens.
///
/// # Errors
/// As [`super::open`].
pub fn open_large(
    address: &Address,
    only: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Option<Large>, OpsError> {
    let state = fleet.state();
    let live = state.live_secret(address).cloned().ok_or_else(|| OpsError::NoSecret(address.clone()))?;
    if live.parts.is_empty() {
        return Ok(None);
    }
    let version = state.secrets.get(address).map_or(0, |s| s.version);
    let file = fleet.store().sealed(address, &live.file).map_err(FleetError::from)?;
    let opened = open_file(address, version, &live, &file, only, home, fleet)?;
    let wrong = || OpsError::Seal { address: address.clone(), source: SealError::Structure };
    let list = List::parse(&opened.value).ok_or_else(wrong)?;
    if !list.parts.iter().map(|part| &part.file).eq(&live.parts) {
        return Err(wrong());
    }
    let (author, sealed, burned) = (opened.author, opened.sealed, opened.burned);
    Ok(Some(Large { version, author, sealed, burned, address: address.clone(), list }))
}

impl Large {
    /// Bytes of the value.
    pub fn size(&self) -> u64 {
        self.list.size
    }

    /// Checks that every part is there and whole, so that whoever begins to read comes to the end.
    ///
    /// # Errors
    /// [`OpsError::Part`], which names it.
    pub fn check(&self, store: &Store, tell: &mut dyn FnMut(u64)) -> Result<(), OpsError> {
        let all: Vec<usize> = (0..self.list.parts.len()).collect();
        for some in all.chunks(at_once()) {
            each(some, |index| self.kept(*index, store).map(drop))?;
            tell(some.last().map_or(0, |last| (last + 1) * PART_BYTES) as u64);
        }
        Ok(())
    }

    /// Reads the value from its beginning. Each part is verified before a byte of it is given out.
    pub fn reader<'a>(&'a self, store: &'a Store) -> impl Read + 'a {
        LargeReader { large: self, store, next: 0, parts: VecDeque::new(), at: 0 }
    }

    fn bad(&self, index: usize, problem: String) -> OpsError {
        OpsError::Part { address: self.address.clone(), part: index + 1, of: self.list.parts.len(), problem }
    }

    /// A part as it is kept, verified.
    fn kept(&self, index: usize, store: &Store) -> Result<Vec<u8>, OpsError> {
        let part = self.list.parts.get(index).ok_or_else(|| self.bad(index, "is not in the list".to_owned()))?;
        store.part(&self.address, &part.file).map_err(|e| self.bad(index, format!("cannot be read: {e}")))
    }

    fn clear(&self, index: usize, store: &Store) -> Result<Zeroizing<Vec<u8>>, OpsError> {
        let kept = self.kept(index, store)?;
        let part = self.list.parts.get(index).ok_or_else(|| self.bad(index, "is not in the list".to_owned()))?;
        let opened = decrypt(&kept, &part.key, self.list.profile, self.list.length(index));
        opened.map_err(|problem| self.bad(index, problem))
    }
}

struct LargeReader<'a> {
    large: &'a Large,
    store: &'a Store,
    next: usize,
    /// Those that are decrypted and not given out yet.
    parts: VecDeque<Zeroizing<Vec<u8>>>,
    /// How much of the first of them is.
    at: usize,
}

impl Read for LargeReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.parts.is_empty() {
            let end = (self.next + at_once()).min(self.large.list.parts.len());
            let some: Vec<usize> = (self.next..end).collect();
            let parts = each(&some, |index| self.large.clear(*index, self.store)).map_err(io::Error::other)?;
            (self.parts, self.next, self.at) = (parts.into(), end, 0);
        }
        let Some(part) = self.parts.front() else { return Ok(0) };
        let rest = part.get(self.at..).unwrap_or_default();
        let length = rest.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length;
        if self.at == part.len() {
            self.parts.pop_front();
            self.at = 0;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(size: u64) -> List {
        let part = |n: u64| Part { file: Digest::of(&n.to_be_bytes()), key: BodyKey::generate().unwrap() };
        List { profile: Profile::Modern, size, parts: (0..count(size)).map(part).collect() }
    }

    #[test]
    fn a_list_is_read_as_it_is_written_and_not_otherwise() {
        let part = PART_BYTES as u64;
        for (size, lengths) in [(1, vec![1]), (part, vec![PART_BYTES]), (2 * part + 7, vec![PART_BYTES, PART_BYTES, 7])]
        {
            let list = list(size);
            let text = list.to_bytes();
            let read = List::parse(&text).unwrap();
            assert_eq!(*read.to_bytes(), *text);
            assert_eq!((0..read.parts.len()).map(|i| read.length(i)).collect::<Vec<_>>(), lengths);
            for at in 0..text.len() {
                assert!(List::parse(&text[..at]).is_none(), "cut at {at}");
            }
        }
        let text = String::from_utf8(list(part + 1).to_bytes().to_vec()).unwrap();
        for (from, to) in [
            ("v1", "v2"),
            ("profile modern", "profile Modern"),
            ("size 8388609", "size 8388608"),
            ("size 8388609", "size 08388609"),
            ("size 8388609", "size 16777217"),
            ("size 8388609", "size 0"),
            ("part ", "part  "),
            ("\npart", "\n\npart"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            assert!(List::parse(other.as_bytes()).is_none(), "{from} as {to}");
        }
        assert!(List::parse(&list(PARTS_MAX as u64 * part).to_bytes()).is_some());
        assert!(List::parse(&list(PARTS_MAX as u64 * part + 1).to_bytes()).is_none());
    }

    #[test]
    fn a_part_opens_with_its_key_and_length_alone() {
        for profile in [Profile::Compat, Profile::Modern] {
            let clear = vec![7; 300_000];
            let (Part { key, file }, kept) = encrypt(&clear, profile).unwrap();
            assert_eq!(Digest::of(&kept), file);
            assert!(kept.len() < clear.len() + clear.len() / 200 + 200, "{}", kept.len());
            assert_eq!(*decrypt(&kept, &key, profile, clear.len()).unwrap(), clear);
            for length in [clear.len() - 1, clear.len() + 1] {
                assert!(decrypt(&kept, &key, profile, length).is_err());
            }
            assert!(decrypt(&kept, &BodyKey::generate().unwrap(), profile, clear.len()).is_err());
            let mut changed = kept.clone();
            changed[150_000] ^= 1;
            assert!(decrypt(&changed, &key, profile, clear.len()).is_err());
        }
    }

    #[test]
    fn a_value_is_read_to_its_end_whatever_it_comes_in() {
        /// Gives a few bytes at a time, and is interrupted in between.
        struct Slow(u64, bool);
        impl Read for Slow {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let length = out.len().min(65_537).min(usize::try_from(self.0).unwrap());
                out[..length].fill(1);
                self.0 -= length as u64;
                Ok(length)
            }
        }
        let size = PART_BYTES as u64 + 3;
        let mut heard = Vec::new();
        let spool = io::Cursor::new(Vec::new());
        let read = Parted::read(&mut Slow(size, false), Profile::Compat, spool, &mut |n| heard.push(n)).unwrap();
        assert_eq!((read.size(), read.list.parts.len()), (size, 2));
        assert!(heard.is_sorted() && heard.iter().all(|n| *n <= size), "{heard:?}");
        assert!(!read.spool.get_ref().windows(64).any(|w| w == [1; 64]), "it is encrypted where it lies");
    }
}
