//! KRLs as bytes (OpenSSH's PROTOCOL.krl): written in the shortest way, read strictly.
//!
//! ```text
//! "SSHKRL\n\0"  1  version  generated  flags=0  ""  comment         44 bytes and the comment
//!   1 certificates   CA key (or "", any CA)  ""  then  0x20 list, 0x21 range, 0x22 bitmap, 0x23 key ids
//!   2 keys           blobs
//!   5 SHA-256        32 bytes each, of key blobs
//! ```
//! Neither signatures nor extensions are written or accepted: OpenSSH 9.2 refuses a KRL with either, and a KRL that is
//! refused lets nobody in. A KRL without entries still has its header; a file of zero bytes would be taken for an empty
//! list by `sshd` and by nobody here.

use super::key::SshPublicKey;
use super::krl::{Krl, KrlError, KrlScope, Revoked};
use super::serials::Bitmap;
use super::wire::{Put as _, Reader};
use crate::digest::Digest;
use crate::limits::{KRL_BITMAP_BITS_MAX, KRL_BYTES_MAX, KRL_RANGES_MAX, SSH_KEY_ID_BYTES_MAX};
use crate::time::{LATEST, Time};

const MAGIC: u64 = 0x5353_484b_524c_0a00;
const FORMAT_VERSION: u32 = 1;
const SECTION_CERTIFICATES: u8 = 1;
const SECTION_KEYS: u8 = 2;
const SECTION_SHA256: u8 = 5;
const LIST: u8 = 0x20;
const RANGE: u8 = 0x21;
const BITMAP: u8 = 0x22;
const KEY_IDS: u8 = 0x23;

impl Krl {
    /// Writes the list and reads it back.
    ///
    /// # Errors
    /// [`KrlError::TooLarge`], if it has more than `bytes_max` or [`KRL_BYTES_MAX`] bytes; [`KrlError::NotReadBack`] or
    /// what [`Krl::parse`] says, if it cannot be read.
    pub fn write(&self, bytes_max: usize) -> Result<Vec<u8>, KrlError> {
        let mut out = Vec::new();
        out.put_u64(MAGIC);
        out.put_u32(FORMAT_VERSION);
        out.put_u64(self.version);
        out.put_u64(self.generated.0);
        out.put_u64(0);
        out.put_string(b"");
        out.put_string(self.comment.as_bytes());
        for (scope, revoked) in &self.certificates {
            put_section(&mut out, SECTION_CERTIFICATES, &certificate_section(scope, revoked));
        }
        let keys = self.keys.iter().map(SshPublicKey::blob);
        let digests = self.sha256.iter().map(|digest| digest.0.as_slice());
        for (kind, body) in [(SECTION_KEYS, strings(keys)), (SECTION_SHA256, strings(digests))] {
            if !body.is_empty() {
                put_section(&mut out, kind, &body);
            }
        }
        let max = bytes_max.min(KRL_BYTES_MAX);
        if out.len() > max {
            return Err(KrlError::TooLarge { bytes: out.len(), max });
        }
        if Self::parse(&out)? == *self { Ok(out) } else { Err(KrlError::NotReadBack) }
    }

    /// Reads a list.
    ///
    /// # Errors
    /// [`KrlError`], if some supported `sshd` would refuse it, or it holds what is never written here.
    pub fn parse(bytes: &[u8]) -> Result<Self, KrlError> {
        if bytes.len() > KRL_BYTES_MAX {
            return Err(KrlError::TooLarge { bytes: bytes.len(), max: KRL_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        let mut krl = Self::parse_header(&mut reader)?;
        while !reader.is_empty() {
            let kind = reader.u8()?;
            let mut body = Reader::new(reader.string()?);
            match kind {
                SECTION_CERTIFICATES => krl.parse_certificates(body)?,
                SECTION_KEYS => {
                    while !body.is_empty() {
                        krl.keys.insert(SshPublicKey::from_blob(body.string()?)?);
                    }
                }
                SECTION_SHA256 => {
                    while !body.is_empty() {
                        let digest = body.string()?.try_into();
                        krl.sha256.insert(Digest(digest.map_err(|_| KrlError::Format("a SHA-256 of another length"))?));
                    }
                }
                other => return Err(KrlError::Section(other)),
            }
        }
        Ok(krl)
    }

    fn parse_header(reader: &mut Reader<'_>) -> Result<Self, KrlError> {
        if reader.u64()? != MAGIC {
            return Err(KrlError::Format("it does not begin as one"));
        }
        if reader.u32()? != FORMAT_VERSION {
            return Err(KrlError::Format("another version of the format"));
        }
        let (version, generated) = (reader.u64()?, Time(reader.u64()?));
        let (flags, reserved, comment) = (reader.u64()?, reader.string()?, reader.text()?);
        let printable = comment.len() <= SSH_KEY_ID_BYTES_MAX && comment.bytes().all(|b| matches!(b, b' '..=b'~'));
        if generated > LATEST || flags != 0 || !reserved.is_empty() || !printable {
            return Err(KrlError::Format("a field of its header has a value that is never written"));
        }
        Ok(Self { comment: comment.to_owned(), ..Self::new(version, generated) })
    }

    fn parse_certificates(&mut self, mut body: Reader<'_>) -> Result<(), KrlError> {
        let scope = match body.string()? {
            b"" => KrlScope::AnyCa,
            blob => KrlScope::Ca(SshPublicKey::from_blob(blob)?),
        };
        if !body.string()?.is_empty() {
            return Err(KrlError::Format("a reserved field is not empty"));
        }
        if body.is_empty() {
            return Err(KrlError::Format("a section without entries"));
        }
        let others: usize = self.certificates.values().map(|r| r.serials.run_count()).sum();
        let revoked = self.certificates.entry(scope).or_default();
        let before = revoked.serials.run_count();
        while !body.is_empty() {
            let kind = body.u8()?;
            revoked.parse_subsection(kind, Reader::new(body.string()?))?;
            if others + revoked.serials.run_count() > KRL_RANGES_MAX + before {
                return Err(KrlError::Format("it revokes more runs of serials than anyone can mean"));
            }
        }
        Ok(())
    }
}

impl Revoked {
    fn parse_subsection(&mut self, kind: u8, mut body: Reader<'_>) -> Result<(), KrlError> {
        if body.is_empty() {
            return Err(KrlError::Format("a section without entries"));
        }
        match kind {
            LIST => {
                while !body.is_empty() {
                    let serial = body.u64()?;
                    self.insert(serial, serial)?;
                }
            }
            RANGE => {
                let (first, last) = (body.u64()?, body.u64()?);
                self.insert(first, last)?;
            }
            BITMAP => {
                let (offset, bits) = (body.u64()?, body.positive()?.to_vec());
                if bits.len() as u64 * 8 > KRL_BITMAP_BITS_MAX {
                    return Err(KrlError::Format("a bitmap wider than OpenSSH reads"));
                }
                let serials = Bitmap { offset, bits }.serials();
                for serial in serials.ok_or(KrlError::Format("a bitmap reaches beyond 64 bits"))? {
                    self.insert(serial, serial)?;
                }
            }
            KEY_IDS => {
                while !body.is_empty() {
                    self.key_ids.insert(body.text()?.parse()?);
                }
            }
            other => return Err(KrlError::Section(other)),
        }
        Ok(body.finish()?)
    }

    fn insert(&mut self, first: u64, last: u64) -> Result<(), KrlError> {
        if first == 0 || last < first {
            return Err(KrlError::Format("a range that OpenSSH refuses: serial 0, or its end before its beginning"));
        }
        self.serials.insert(first, last);
        Ok(())
    }
}

fn certificate_section(scope: &KrlScope, revoked: &Revoked) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string(match scope {
        KrlScope::Ca(ca) => ca.blob(),
        KrlScope::AnyCa => b"",
    });
    body.put_string(b"");
    let serials = revoked.serials.sections();
    let list: Vec<u8> = serials.list.iter().flat_map(|serial| serial.to_be_bytes()).collect();
    if !list.is_empty() {
        put_section(&mut body, LIST, &list);
    }
    for (first, last) in serials.ranges {
        put_section(&mut body, RANGE, &[first.to_be_bytes(), last.to_be_bytes()].concat());
    }
    for bitmap in serials.bitmaps {
        let mut section = Vec::new();
        section.put_u64(bitmap.offset);
        section.put_positive(&bitmap.bits);
        put_section(&mut body, BITMAP, &section);
    }
    if !revoked.key_ids.is_empty() {
        put_section(&mut body, KEY_IDS, &strings(revoked.key_ids.iter().map(|id| id.as_str().as_bytes())));
    }
    body
}

fn put_section(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    out.put_string(body);
}

fn strings<'a>(items: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    items.fold(Vec::new(), |mut out, item| {
        out.put_string(item);
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    const ANY: KrlScope = KrlScope::AnyCa;

    fn ca(n: u64) -> KrlScope {
        KrlScope::Ca(sample::key(n).public().clone())
    }

    fn with_serials(runs: &[(u64, u64)]) -> Krl {
        let mut krl = Krl::new(7, Time(1_795_244_400));
        runs.iter().for_each(|&(a, b)| krl.revoke_serials(ca(1), sample::serial(a), sample::serial(b)));
        krl
    }

    fn full() -> Krl {
        let mut krl = with_serials(&[(1, 1), (3, 3), (1_000, 2_000), (1 << 40, 1 << 40)]);
        (10..100).for_each(|n| krl.revoke_serials(ANY, sample::serial(n * 3), sample::serial(n * 3)));
        krl.revoke_key_id(ca(1), "alice".parse().expect("printable"));
        krl.revoke_key(sample::key(4).public().clone());
        krl.revoke_sha256(sample::key(5).public().sha256());
        krl
    }

    #[test]
    fn a_list_without_entries_is_its_header() {
        let krl = Krl::new(1, Time(5));
        let bytes = krl.write(65_536).expect("small");
        assert_eq!((bytes.len(), Krl::parse(&bytes)), (44, Ok(krl)));
        assert!(Krl::parse(b"").is_err(), "zero bytes are no list");
    }

    #[test]
    fn dense_serials_cost_nothing() {
        let bytes = with_serials(&[(1, 100_000)]).write(200).expect("at most 200 bytes");
        assert_eq!(bytes.len(), 129, "44 of header, 64 of section and CA, 21 of range");
        let scattered: Vec<_> = (1..=10_000_u64).map(|n| (n << 40, n << 40)).collect();
        assert!(matches!(with_serials(&scattered).write(65_536), Err(KrlError::TooLarge { max: 65_536, .. })));
    }

    #[test]
    fn wide_gaps_never_make_a_wide_bitmap() {
        // 400 serials, every 50th: `ssh-keygen -k` 9.2 and 10.5 write one bitmap of 20 000 bits, and with it as
        // RevokedKeys no login works, not even of those who are not revoked. `parse` refuses such a bitmap.
        for step in [2, 49, 50, 51, 1_000] {
            let runs: Vec<_> = (1..=400).map(|n| (n * step, n * step)).collect();
            let krl = with_serials(&runs);
            assert_eq!(krl.write(65_536).and_then(|bytes| Krl::parse(&bytes)), Ok(krl));
        }
        let bitmap = |bytes: usize| {
            let (mut body, mut bits) = (Vec::new(), Vec::new());
            bits.put_u64(1);
            bits.put_positive(&vec![255; bytes]);
            strings([&b""[..], b""].into_iter()).iter().for_each(|b| body.push(*b));
            put_section(&mut body, BITMAP, &bits);
            let mut out = Krl::new(1, Time(5)).write(100).expect("small");
            put_section(&mut out, SECTION_CERTIFICATES, &body);
            Krl::parse(&out)
        };
        assert!(bitmap(2_048).is_ok());
        assert!(bitmap(2_049).is_err());
    }

    #[test]
    fn what_sshd_may_refuse_is_refused() {
        let empty = Krl::new(1, Time(5)).write(100).expect("small");
        let with = |kind: u8, body: &[u8]| {
            let mut out = empty.clone();
            put_section(&mut out, kind, body);
            Krl::parse(&out)
        };
        let any_ca = strings([&b""[..], b""].into_iter());
        let subsection = |kind: u8, body: &[u8]| {
            let mut section = any_ca.clone();
            put_section(&mut section, kind, body);
            with(SECTION_CERTIFICATES, &section)
        };
        let numbers = |list: &[u64]| list.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>();
        for kind in [0, 3, 4, 6, 255] {
            assert_eq!(with(kind, b""), Err(KrlError::Section(kind)));
        }
        assert_eq!(subsection(0x39, b"x"), Err(KrlError::Section(0x39)));
        assert!(subsection(LIST, &numbers(&[1, 9])).is_ok());
        assert!(subsection(LIST, &numbers(&[1, 0])).is_err(), "serial 0");
        assert!(subsection(RANGE, &numbers(&[0, 3])).is_err(), "serial 0");
        assert!(subsection(RANGE, &numbers(&[3, 2])).is_err());
        assert!(subsection(RANGE, &numbers(&[1, 2, 3])).is_err());
        assert!(subsection(LIST, b"").is_err());
        assert!(subsection(BITMAP, &[&numbers(&[0])[..], &[0, 0, 0, 1, 1]].concat()).is_err(), "serial 0");
        assert!(subsection(BITMAP, &[&numbers(&[u64::MAX])[..], &[0, 0, 0, 1, 2]].concat()).is_err(), "past the end");
        assert!(subsection(KEY_IDS, &[0, 0, 0, 1, 7]).is_err());
        assert!(with(SECTION_CERTIFICATES, &any_ca).is_err());
        assert!(with(SECTION_KEYS, &[0, 0, 0, 0]).is_err());
        assert!(with(SECTION_SHA256, &[0, 0, 0, 1, 1]).is_err());
        let bytes = full().write(65_536).expect("small");
        for end in 0..bytes.len() {
            let whole = Krl::parse(&bytes[..end]);
            assert!(whole.as_ref() != Ok(&full()), "cut at {end}");
        }
        assert!(Krl::parse(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn every_changed_byte_changes_the_list_or_breaks_it() {
        let bytes = full().write(65_536).expect("small");
        for i in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[i] ^= 1;
            assert_ne!(Krl::parse(&wrong).as_ref(), Ok(&full()), "byte {i}");
        }
    }

    fn any_krl() -> impl Strategy<Value = Krl> {
        let scope = || (0..3_u64).prop_map(|n| if n == 0 { ANY } else { ca(n) });
        let run = prop_oneof![(1..3_000_u64, 0..20_u64), (1..u64::MAX / 2, 0..90_000_u64)];
        let serials = prop::collection::vec((scope(), run), 0..200);
        let key_ids = prop::collection::vec((scope(), "[ -~]{1,40}"), 0..5);
        let keys = prop::collection::vec(10..20_u64, 0..3);
        let digests = prop::collection::vec(any::<[u8; 32]>(), 0..5);
        (any::<u64>(), serials, key_ids, keys, digests).prop_map(|(version, serials, key_ids, keys, digests)| {
            let mut krl = Krl::new(version, Time(version % 4_000_000_000));
            for (scope, (first, more)) in serials {
                krl.revoke_serials(scope, sample::serial(first), sample::serial(first + more));
            }
            key_ids.into_iter().for_each(|(scope, id)| krl.revoke_key_id(scope, id.parse().expect("printable")));
            keys.into_iter().for_each(|n| krl.revoke_key(sample::key(n).public().clone()));
            digests.into_iter().for_each(|digest| krl.revoke_sha256(Digest(digest)));
            krl
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lists_read_what_they_write(krl in any_krl()) {
            let bytes = krl.write(KRL_BYTES_MAX).expect("small");
            prop_assert_eq!(Krl::parse(&bytes), Ok(krl));
        }

        #[test]
        fn junk_does_not_break_the_reader(junk in prop::collection::vec(any::<u8>(), 0..300), at in 0..200_usize) {
            let _ = Krl::parse(&junk);
            let mut bytes = full().write(65_536).expect("small");
            let end = (at + junk.len()).min(bytes.len());
            if at < end {
                bytes.splice(at..end, junk);
            }
            let _ = Krl::parse(&bytes);
        }
    }
}
