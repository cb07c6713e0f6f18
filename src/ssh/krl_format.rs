//! KRLs as bytes (OpenSSH's PROTOCOL.krl), written in the shortest way. `krl_read` reads them.
//!
//! ```text
//! "SSHKRL\n\0"  1  version  generated  flags=0  ""  comment         44 bytes and the comment
//!   1 certificates   CA key (or "", any CA)  ""  then  0x20 list, 0x21 range, 0x22 bitmap, 0x23 key ids
//!   2 keys           blobs
//!   3 SHA-1          20 bytes each, of key blobs; only where somebody else's list had some
//!   5 SHA-256        32 bytes each, of key blobs, ascending
//! ```
//! Neither signatures nor extensions are written: OpenSSH 9.2 refuses a KRL with either, and a KRL that is
//! refused lets nobody in. A KRL without entries still has its header; a file of zero bytes would be taken for an empty
//! list by `sshd` and by nobody here.

use super::krl::{Krl, KrlError, Revoked};
use super::wire::Put as _;
use crate::limits::KRL_BYTES_MAX;

pub(super) const MAGIC: u64 = 0x5353_484b_524c_0a00;
pub(super) const FORMAT_VERSION: u32 = 1;
pub(super) const SECTION_CERTIFICATES: u8 = 1;
pub(super) const SECTION_KEYS: u8 = 2;
pub(super) const SECTION_SHA1: u8 = 3;
pub(super) const SECTION_SHA256: u8 = 5;
pub(super) const LIST: u8 = 0x20;
pub(super) const RANGE: u8 = 0x21;
pub(super) const BITMAP: u8 = 0x22;
pub(super) const KEY_IDS: u8 = 0x23;

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
        let keys = strings(self.keys.iter().map(Vec::as_slice));
        let sha1 = strings(self.sha1.iter().map(|hash| hash.as_slice()));
        let sha256 = strings(self.sha256.iter().map(|digest| digest.0.as_slice()));
        for (kind, body) in [(SECTION_KEYS, keys), (SECTION_SHA1, sha1), (SECTION_SHA256, sha256)] {
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
}

fn certificate_section(scope: &[u8], revoked: &Revoked) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string(scope);
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
        put_section(&mut body, KEY_IDS, &strings(revoked.key_ids.iter().map(Vec::as_slice)));
    }
    body
}

pub(super) fn put_section(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    out.put_string(body);
}

pub(super) fn strings<'a>(items: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    items.fold(Vec::new(), |mut out, item| {
        out.put_string(item);
        out
    })
}
