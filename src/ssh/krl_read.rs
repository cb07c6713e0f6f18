//! Reading KRLs (OpenSSH's PROTOCOL.krl): ours and others', by the rules of the oldest supported `sshd`.
//!
//! What `ssh-keygen -k` writes is read in full: serials, key ids, keys and hashes of any algorithm. Two kinds of refusal are
//! kept apart, because the way out differs: a file that is broken ([`KrlError::Format`]), and a good list that some supported
//! `sshd` refuses all the same ([`KrlError::Refused`], [`KrlError::Section`]). Either lets nobody in.

use super::key::{KeyError, SshPublicKey};
use super::krl::{Krl, KrlError, Revoked};
use super::krl_format::{
    BITMAP, FORMAT_VERSION, KEY_IDS, LIST, MAGIC, RANGE, SECTION_CERTIFICATES, SECTION_KEYS, SECTION_SHA1,
    SECTION_SHA256,
};
use super::serials::Bitmap;
use super::wire::Reader;
use crate::digest::Digest;
use crate::limits::{KRL_BITMAP_BITS_MAX, KRL_BYTES_MAX, KRL_RANGES_MAX, SSH_KEY_ID_BYTES_MAX};
use crate::time::{LATEST, Time};

impl Krl {
    /// Reads a list.
    ///
    /// # Errors
    /// [`KrlError`], if it is none, or one that some supported `sshd` refuses.
    pub fn parse(bytes: &[u8]) -> Result<Self, KrlError> {
        if bytes.is_empty() {
            return Err(KrlError::Format("the file is empty, which sshd takes for a list that revokes nothing"));
        }
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
                        krl.keys.insert(key_blob(body.string()?)?.to_vec());
                    }
                }
                SECTION_SHA1 => {
                    while !body.is_empty() {
                        let hash = body.string()?.try_into();
                        krl.sha1.insert(hash.map_err(|_| KrlError::Format("a SHA-1 of another length"))?);
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
            return Err(KrlError::Format("it does not begin as a KRL"));
        }
        if reader.u32()? != FORMAT_VERSION {
            return Err(KrlError::Refused("it is of another version of the format"));
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
        let scope = body.string()?;
        if !scope.is_empty() {
            check_key(scope)?;
        }
        if !body.string()?.is_empty() {
            return Err(KrlError::Format("a reserved field is not empty"));
        }
        if body.is_empty() {
            return Err(KrlError::Format("a section without entries"));
        }
        let others: usize = self.certificates.values().map(|r| r.serials.run_count()).sum();
        let revoked = self.certificates.entry(scope.to_vec()).or_default();
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
                    return Err(KrlError::Refused("a bitmap of more than 16384 bits; ssh-keygen -k writes such"));
                }
                let serials = Bitmap { offset, bits }.serials();
                for serial in serials.ok_or(KrlError::Format("a bitmap reaches beyond 64 bits"))? {
                    self.insert(serial, serial)?;
                }
            }
            KEY_IDS => {
                while !body.is_empty() {
                    let key_id = body.string()?;
                    if key_id.contains(&0) {
                        return Err(KrlError::Refused("a key id with a zero byte"));
                    }
                    self.key_ids.insert(key_id.to_vec());
                }
            }
            other => return Err(KrlError::Section(other)),
        }
        Ok(body.finish()?)
    }

    fn insert(&mut self, first: u64, last: u64) -> Result<(), KrlError> {
        if first == 0 || last < first {
            return Err(KrlError::Refused("serial 0, or a range that ends before it begins"));
        }
        self.serials.insert(first, last);
        Ok(())
    }
}

/// The blob of a key of any algorithm: `sshd` compares it, and asks nothing about it.
fn key_blob(blob: &[u8]) -> Result<&[u8], KrlError> {
    let mut reader = Reader::new(blob);
    if reader.string()?.is_empty() || reader.is_empty() {
        return Err(KrlError::Format("a key in it is none"));
    }
    Ok(blob)
}

/// A key that every supported `sshd` reads: the CA of a section, say, without which it refuses the whole list.
pub(super) fn check_key(blob: &[u8]) -> Result<(), KrlError> {
    const RSA_BITS_MIN: usize = 1_024;
    let mut reader = Reader::new(blob);
    let name = reader.string()?;
    let point = match name {
        b"ecdsa-sha2-nistp384" => Some((&b"nistp384"[..], 97)),
        b"ecdsa-sha2-nistp521" => Some((&b"nistp521"[..], 133)),
        _ => None,
    };
    if let Some((curve, length)) = point {
        let (named, point) = (reader.string()?, reader.string()?);
        let good = named == curve && point.len() == length && point.first() == Some(&4) && reader.is_empty();
        return if good { Ok(()) } else { Err(KrlError::Refused("the CA of a section is not a key")) };
    }
    match SshPublicKey::from_blob(blob) {
        Ok(_) => Ok(()),
        Err(KeyError::RsaBits { bits }) if bits >= RSA_BITS_MIN => Ok(()),
        Err(KeyError::Algorithm(_)) => {
            Err(KrlError::Refused("a section for a CA of an algorithm that not every sshd knows"))
        }
        Err(_) => Err(KrlError::Refused("the CA of a section is not a key")),
    }
}
