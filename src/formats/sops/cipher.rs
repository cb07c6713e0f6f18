//! One encrypted value: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:str]`.

use aes_gcm::aead::consts::{U12, U32};
use aes_gcm::aead::{AeadInOut, Nonce, Tag};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::formats::Step;

/// The length of a data key, bytes.
pub(super) const KEY_BYTES: usize = 32;
/// The length of the nonce that sops makes, bytes. It is not the usual one.
pub(super) const NONCE_BYTES: usize = 32;

/// An encrypted value taken apart.
#[derive(Debug)]
pub(super) struct Encrypted<'a> {
    data: Vec<u8>,
    nonce: Vec<u8>,
    tag: Vec<u8>,
    /// What it was: `str`, `int`, `float`, `bool`, `bytes`, `time`, `comment`.
    pub kind: &'a str,
}

impl<'a> Encrypted<'a> {
    /// Whether a text says that it is an encrypted value.
    pub(super) fn is_meant(text: &str) -> bool {
        text.starts_with("ENC[AES256_GCM,") && text.ends_with(']')
    }

    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let inside = text.strip_prefix("ENC[AES256_GCM,data:")?.strip_suffix(']')?;
        let (data, rest) = inside.split_once(",iv:")?;
        let (nonce, rest) = rest.split_once(",tag:")?;
        let (tag, kind) = rest.split_once(",type:")?;
        let bytes = |text: &str| STANDARD.decode(text).ok();
        Some(Self { data: bytes(data)?, nonce: bytes(nonce)?, tag: bytes(tag)?, kind })
    }

    /// Decrypts it. Nothing is given out that is not authentic.
    pub(super) fn open(self, key: &[u8], additional: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut data = Zeroizing::new(self.data);
        match self.nonce.len() {
            NONCE_BYTES => open::<AesGcm<Aes256, U32>>(key, &self.nonce, additional, &mut data, &self.tag)?,
            12 => open::<AesGcm<Aes256, U12>>(key, &self.nonce, additional, &mut data, &self.tag)?,
            _ => return None,
        }
        Some(data)
    }
}

fn open<C: AeadInOut + KeyInit>(
    key: &[u8],
    nonce: &[u8],
    additional: &[u8],
    data: &mut [u8],
    tag: &[u8],
) -> Option<()> {
    let (nonce, tag) = (Nonce::<C>::try_from(nonce).ok()?, Tag::<C>::try_from(tag).ok()?);
    C::new_from_slice(key).ok()?.decrypt_inout_detached(&nonce, additional, data.into(), &tag).ok()
}

/// Encrypts a value of type `str`.
pub(super) fn seal(
    value: &[u8],
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    additional: &[u8],
) -> Option<String> {
    let mut data = Zeroizing::new(value.to_vec());
    let cipher = AesGcm::<Aes256, U32>::new(key.into());
    let tag = cipher.encrypt_inout_detached(nonce.into(), additional, data.as_mut_slice().into()).ok()?;
    let [data, nonce, tag] = [data.as_slice(), nonce.as_slice(), tag.as_slice()].map(|bytes| STANDARD.encode(bytes));
    Some(format!("ENC[AES256_GCM,data:{data},iv:{nonce},tag:{tag},type:str]"))
}

/// What is authenticated beside a value: each key on the way to it, with a colon. Places in lists do not count.
pub(super) fn additional(path: &[Step]) -> String {
    path.iter().filter_map(|s| if let Step::Key(key) = s { Some(format!("{key}:")) } else { None }).collect()
}
