//! Writing a sops file: names with their values, all of them encrypted.

use rand::CryptoRng;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::cipher::{KEY_BYTES, NONCE_BYTES, additional, seal};
use super::read::SopsError;
use crate::formats::{Format, Step};
use crate::time::Time;

/// The version of sops that wrote files like these when this was tried.
const VERSION: &str = "3.11.0";

/// A data key, encrypted for one OpenPGP key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SopsStanza {
    /// The fingerprint of the certificate.
    pub fingerprint: String,
    /// The armored message.
    pub message: String,
}

/// Writes a file with these names and values, in this order: JSON, or YAML if `format` says so. Every value is
/// encrypted, whatever its name ends with.
///
/// # Errors
/// [`SopsError::Name`].
pub fn write_sops(
    values: &[(&str, &str)],
    format: Format,
    data_key: &[u8; KEY_BYTES],
    stanzas: &[SopsStanza],
    now: Time,
    rng: &mut impl CryptoRng,
) -> Result<String, SopsError> {
    let mut nonce = || {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        nonce
    };
    let mut hash = Sha512::new();
    let mut sealed: Vec<(&str, String)> = Vec::with_capacity(values.len());
    for (name, value) in values {
        if *name == "sops" {
            return Err(SopsError::Name((*name).to_owned()));
        }
        hash.update(value.as_bytes());
        let path = additional(&[Step::Key((*name).to_owned())]);
        sealed.push((name, seal(value.as_bytes(), data_key, &nonce(), path.as_bytes()).ok_or(SopsError::Key)?));
    }
    let modified = now.to_string();
    let mac = Zeroizing::new(crate::text::hex(&hash.finalize()).to_uppercase());
    let mac = seal(mac.as_bytes(), data_key, &nonce(), modified.as_bytes()).ok_or(SopsError::Key)?;
    let stanza = |s: &SopsStanza| json!({ "created_at": modified, "enc": s.message, "fp": s.fingerprint });
    let pgp: Vec<Value> = stanzas.iter().map(stanza).collect();
    // Everything matches: a name that ends with `_unencrypted` is encrypted, too.
    let metadata =
        json!({ "pgp": pgp, "lastmodified": modified, "mac": mac, "encrypted_regex": "^", "version": VERSION });
    sealed.push(("sops", String::new()));
    let text = |value: &str| Value::from(value).to_string();
    let lines = sealed.iter().map(|(name, value)| match (*name, format) {
        // JSON in a YAML file is YAML.
        ("sops", _) => format!("{}: {metadata}", text(name)),
        (_, Format::Yaml) => format!("{}: {value}", text(name)),
        _ => format!("{}: {}", text(name), text(value)),
    });
    let lines: Vec<String> = lines.collect();
    Ok(match format {
        Format::Yaml => format!("{}\n", lines.join("\n")),
        _ => format!("{{\n\t{}\n}}\n", lines.join(",\n\t")),
    })
}
