//! What `ansible-vault` encrypts, its format 1.1 and 1.2: PBKDF2 with HMAC-SHA-256, AES-256 in counter mode, HMAC-SHA-256.
//!
//! ```text
//! $ANSIBLE_VAULT;1.1;AES256
//! 33363965326261303234626463623732643861373432…   hexadecimal, of three more lines in hexadecimal: salt, HMAC, ciphertext
//! ```

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::{KeyInit as _, Mac as _};
use zeroize::Zeroizing;

use crate::text::unhex;

/// As the format has it.
const ROUNDS: u32 = 10_000;
/// A block of AES, bytes: what the padding fills up to.
const BLOCK: usize = 16;

/// Why a vault does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// It does not begin as a vault does.
    #[error("is no ansible-vault file: its first line is not '$ANSIBLE_VAULT;1.1;AES256' or that of 1.2")]
    Header,
    /// What follows is no hexadecimal of the expected parts.
    #[error("is damaged: what follows the first line is not salt, HMAC and ciphertext in hexadecimal")]
    Damaged,
    /// The HMAC does not fit.
    #[error("does not open: the password is wrong, or the file was changed")]
    Password,
}

/// Opens a vault. White space around the password is no part of it, as `ansible-vault` reads its password files.
///
/// # Errors
/// [`VaultError`].
pub fn open_vault(file: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let text = std::str::from_utf8(file).map_err(|_| VaultError::Header)?;
    let mut lines = text.lines();
    let fields: Vec<&str> = lines.next().unwrap_or_default().trim_end().split(';').collect();
    match fields.as_slice() {
        ["$ANSIBLE_VAULT", "1.1", "AES256"] | ["$ANSIBLE_VAULT", "1.2", "AES256", _] => {}
        _ => return Err(VaultError::Header),
    }
    let hex: String = lines.map(str::trim).collect();
    let inside = unhex(&hex).ok_or(VaultError::Damaged)?;
    let inside = std::str::from_utf8(&inside).map_err(|_| VaultError::Damaged)?;
    let parts: Option<Vec<Vec<u8>>> = inside.split('\n').map(unhex).collect();
    let [salt, tag, cipher] =
        <[Vec<u8>; 3]>::try_from(parts.ok_or(VaultError::Damaged)?).map_err(|_| VaultError::Damaged)?;

    let mut keys = Zeroizing::new([0; 80]);
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.trim_ascii(), &salt, ROUNDS, keys.as_mut_slice());
    let (key, rest) = keys.split_at(32);
    let (mac_key, nonce) = rest.split_at(32);
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(mac_key).map_err(|_| VaultError::Damaged)?;
    mac.update(&cipher);
    mac.verify_slice(&tag).map_err(|_| VaultError::Password)?;
    let mut value = Zeroizing::new(cipher);
    let stream = ctr::Ctr128BE::<aes::Aes256>::new_from_slices(key, nonce);
    stream.map_err(|_| VaultError::Damaged)?.apply_keystream(&mut value);
    let padding = value.last().copied().map(usize::from).filter(|n| (1..=BLOCK).contains(n) && *n <= value.len());
    let padding = padding.ok_or(VaultError::Damaged)?;
    let end = value.len() - padding;
    if value.iter().skip(end).any(|b| usize::from(*b) != padding) {
        return Err(VaultError::Damaged);
    }
    value.truncate(end);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by ansible-vault 2.14 from `db_password: hunter2` and a line feed, with the password `a password`.
    const OLD: &str = "$ANSIBLE_VAULT;1.1;AES256
38383832383036313336636635343733656531663430356266626136376435316230643735643834
3338303932616637326362663134356165336439336163630a616534393938303663663639303736
36366133653663623765356465626238636364393866656134666236616566646138613039643233
3239383437643239630a616433346230353930626534636138343362646439303661396431663734
36633261666336643832623536396561643734646563386365613536633965383466
";
    /// The same with a vault id.
    const NEW: &str = "$ANSIBLE_VAULT;1.2;AES256;prod
31373461313333643936373035336565653935333863363438396536633238333962376232626334
3734383262626232383632343461383139643833353035320a353632383630323133383737363636
61346465663538643865646531376266383935393934333436653038356466376235613031333533
3361613066663934330a333438326465623137393362356665343332303931363236316336386134
62396364346463643138336330363633646364336336303563343164653037613934
";

    #[test]
    fn what_ansible_vault_has_made_opens() {
        for vault in [OLD, NEW, &OLD.replace('\n', "\r\n")] {
            let opened = open_vault(vault.as_bytes(), b"a password\n").unwrap();
            assert_eq!(opened.as_slice(), b"db_password: hunter2\n");
        }
    }

    #[test]
    fn what_is_changed_or_cut_does_not() {
        assert_eq!(open_vault(OLD.as_bytes(), b"another").unwrap_err(), VaultError::Password);
        for header in ["", "$ANSIBLE_VAULT;1.0;AES", "$ANSIBLE_VAULT;1.1;AES256;x"] {
            let vault = OLD.replacen("$ANSIBLE_VAULT;1.1;AES256", header, 1);
            assert_eq!(open_vault(vault.as_bytes(), b"a password").unwrap_err(), VaultError::Header, "{header}");
        }
        // One digit of salt, HMAC and ciphertext each; in hexadecimal of hexadecimal '3x' is a digit.
        let lines: Vec<&str> = OLD.lines().collect();
        for line in [1, 3, 5] {
            let changed = lines[line].replacen("38", "37", 1).replacen("36", "35", 1);
            let vault = OLD.replacen(lines[line], &changed, 1);
            assert_ne!(vault, OLD);
            assert_eq!(open_vault(vault.as_bytes(), b"a password").unwrap_err(), VaultError::Password, "{line}");
        }
        assert_eq!(open_vault(&OLD.as_bytes()[..200], b"a password").unwrap_err(), VaultError::Damaged);
        assert_eq!(open_vault(b"$ANSIBLE_VAULT;1.1;AES256\n0a0a\n", b"x").unwrap_err(), VaultError::Password);
    }
}
