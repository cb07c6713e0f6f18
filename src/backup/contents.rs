//! A backup file read from beginning to end, every part held against the manifest. Needs no key; the body stays closed.

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::archive::{ArchiveError, ArchiveReader};
use super::manifest::{Manifest, ManifestError};
use crate::digest::Digest;
use crate::limits::{BACKUP_MANIFEST_BYTES_MAX, CUSTODIANS_MAX, SHARE_BYTES_MAX};

/// Why bytes are not a backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentsError {
    /// The archive.
    #[error("the backup is damaged: {0}")]
    Archive(#[from] ArchiveError),
    /// The manifest.
    #[error("the backup is damaged: {0}")]
    Manifest(#[from] ManifestError),
    /// Other parts than a backup has.
    #[error("it is not a backup: it has '{0}' where that does not belong")]
    Part(String),
    /// A part that is not there.
    #[error("the backup is damaged: {0} is missing")]
    Missing(&'static str),
    /// A part that is not what the manifest says.
    #[error("the backup is damaged: {0} is not what the manifest says")]
    Changed(String),
}

/// A backup's parts, the body aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// The manifest. Its signature is whole and has not been verified.
    pub manifest: Manifest,
    /// `manifest.json`.
    pub signed: Vec<u8>,
    /// `manifest.sig`.
    pub signature: Vec<u8>,
    /// The sealed shares by custodian.
    pub shares: BTreeMap<String, Vec<u8>>,
    /// At which byte the body begins.
    pub body_at: u64,
}

impl Contents {
    /// Reads a backup.
    ///
    /// # Errors
    /// [`ContentsError`], naming the part that is wrong.
    pub fn read(from: impl Read) -> Result<Self, ContentsError> {
        let mut reader = ArchiveReader::new(from);
        let mut names = Vec::new();
        let mut shares = BTreeMap::new();
        let (mut body, mut signed, mut signature) = (None, None, None);
        while let Some(part) = reader.next_part()? {
            names.push(part.path.clone());
            match part.path.as_str() {
                "body.pgp" if body.is_none() => {
                    let at = reader.position();
                    body = Some((at, part.size, digest(&mut reader)?));
                }
                "manifest.json" if signed.is_none() => signed = Some(reader.bytes(BACKUP_MANIFEST_BYTES_MAX)?),
                "manifest.sig" if signature.is_none() => signature = Some(reader.bytes(SHARE_BYTES_MAX)?),
                name => match name.strip_prefix("share-").and_then(|n| n.strip_suffix(".pgp")) {
                    Some(custodian) if shares.len() < CUSTODIANS_MAX && !shares.contains_key(custodian) => {
                        let sealed = reader.bytes(SHARE_BYTES_MAX)?;
                        shares.insert(custodian.to_owned(), sealed);
                    }
                    _ => return Err(ContentsError::Part(crate::text::shown(name).to_string())),
                },
            }
        }
        let signed = signed.ok_or(ContentsError::Missing("manifest.json"))?;
        let signature = signature.ok_or(ContentsError::Missing("manifest.sig"))?;
        let (body_at, bytes, file) = body.ok_or(ContentsError::Missing("body.pgp"))?;
        let manifest = Manifest::parse(&signed)?;
        if manifest.parts() != names {
            return Err(ContentsError::Changed("its list of parts".to_owned()));
        }
        for custody in &manifest.custodians {
            if shares.get(&custody.name).map(|sealed| Digest::of(sealed)) != Some(custody.file) {
                return Err(ContentsError::Changed(custody.part()));
            }
        }
        if (manifest.body.bytes, manifest.body.file) != (bytes, file) {
            return Err(ContentsError::Changed("body.pgp".to_owned()));
        }
        Ok(Self { manifest, signed, signature, shares, body_at })
    }
}

/// SHA-256 of the part that was announced last.
fn digest(reader: &mut ArchiveReader<impl Read>) -> Result<Digest, ArchiveError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 64 << 10];
    let mut content = reader.content();
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(Digest(hash.finalize().into())),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}
