//! What guards the private halves at rest: files that only their owner reads, or beside that a key of the machine's own,
//! under which they lie closed and which `systemd-creds` keeps for its TPM or for the host alone.
//!
//! ```text
//! home-key.cred   32 random bytes, sealed by `systemd-creds encrypt --name=keys-home`
//! protection      {"device":null,"key":"5d0c…","kind":"tpm2","v":1}
//! a closed file   keys/home/v1 LF, 12 random bytes, AES-256-GCM (SP 800-38D) over it with its path as additional data
//! ```
//! The key is asked for when the first closed file is read or written: of systemd, where it has given it to the unit as the
//! credential `keys-home`, else of `systemd-creds`. A copy of the home alone opens nowhere.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::{AeadInOut, Nonce, Tag};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::sealer::{Keepers, Sealer};
use super::{Home, HomeError};
use crate::digest::Digest;
use crate::disk::{Cover, Disk, EntryKind, is_temporary};
use crate::json;
use crate::limits::KEY_FILE_BYTES_MAX;
use crate::name::Protection;

/// What is kept about it.
const NOTE: &str = "protection";
/// The key, sealed.
pub const HOME_KEY: &str = "home-key.cred";
/// A closed file begins so.
const MAGIC: &[u8] = b"keys/home/v1\n";
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

type HomeKey = Zeroizing<[u8; 32]>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// The TPM, as `systemd-creds --tpm2-device` names it; the machine's own where there is none.
    device: Option<String>,
    /// A digest by which the key is recognised.
    key: Digest,
    kind: Protection,
    v: u64,
}

/// How private halves are to be guarded.
#[derive(Debug, Clone)]
pub struct Guarding {
    /// By what.
    pub kind: Protection,
    /// The TPM, where it is not the machine's own.
    pub device: Option<String>,
    /// The TPM's registers that have to be as they are now for the key to be had, like `7`; none for any boot of this machine.
    pub registers: Option<String>,
}

/// A home's key, and what has it.
pub(super) struct Guard {
    note: Note,
    bare: Disk,
    keepers: Keepers,
    key: Mutex<Option<HomeKey>>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({})", self.note.kind)
    }
}

fn digest(key: &HomeKey) -> Digest {
    Digest::of_parts(&[b"keys/home-key/v1", key.as_slice()])
}

/// Whether the file at `path` in a home has a private half in it.
fn is_private(path: &str) -> bool {
    let is_key = [".tsk", ".key", ".kem"].iter().any(|end| path.ends_with(end));
    (path.starts_with("members/") && is_key) || path == "witness/key"
}

impl Guard {
    /// The guard of the home on this disk; none if its files are all there is.
    pub(super) fn of(bare: &Disk) -> Result<Option<Self>, HomeError> {
        let Some(bytes) = bare.read(NOTE, KEY_FILE_BYTES_MAX)? else { return Ok(None) };
        let note: Note = json::parse_as(bytes.trim_ascii_end()).map_err(|e| Home::damaged(NOTE, e))?;
        if note.v != 1 || note.kind == Protection::File {
            return Err(Home::damaged(NOTE, format!("version {}, {}", note.v, note.kind)));
        }
        Ok(Some(Self { note, bare: bare.clone(), keepers: Keepers::default(), key: Mutex::new(None) }))
    }

    /// The same, with the key from these.
    pub(super) fn kept_by(&self, keepers: &Keepers) -> Self {
        let (note, bare, keepers) = (self.note.clone(), self.bare.clone(), keepers.clone());
        Self { note, bare, keepers, key: Mutex::new(None) }
    }

    pub(super) fn kind(&self) -> Protection {
        self.note.kind
    }

    fn key(&self) -> io::Result<HomeKey> {
        let mut kept = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &*kept {
            return Ok(key.clone());
        }
        let key = self.ask().map_err(|problem| {
            io::Error::other(format!(
                "the home's key, which {} keeps, cannot be had: {problem}",
                match self.note.kind {
                    Protection::Tpm2 => "this machine's TPM",
                    Protection::Host | Protection::File => "the host's key",
                }
            ))
        })?;
        Ok(kept.insert(key).clone())
    }

    fn ask(&self) -> Result<HomeKey, String> {
        let is_ours = |key: &HomeKey| digest(key) == self.note.key;
        if let Some(key) = self.keepers.given().filter(is_ours) {
            return Ok(key);
        }
        let sealed = self.bare.read(HOME_KEY, KEY_FILE_BYTES_MAX).map_err(|e| e.to_string())?;
        let sealed = sealed.ok_or_else(|| format!("{HOME_KEY} is not in the home"))?;
        let key = Sealer { keepers: &self.keepers, device: self.note.device.as_deref() }.open(&sealed)?;
        if is_ours(&key) { Ok(key) } else { Err(format!("{HOME_KEY} is that of another home")) }
    }
}

impl Cover for Guard {
    fn covers(&self, path: &str) -> bool {
        is_private(path)
    }

    fn close(&self, path: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let key = self.key()?;
        let mut nonce = [0; NONCE_BYTES];
        SysRng.try_fill_bytes(&mut nonce).map_err(io::Error::other)?;
        let mut closed = Vec::with_capacity(MAGIC.len() + NONCE_BYTES + bytes.len() + TAG_BYTES);
        closed.extend_from_slice(MAGIC);
        closed.extend_from_slice(&nonce);
        let mut body = Zeroizing::new(bytes.to_vec());
        let cipher = Aes256Gcm::new((&*key).into());
        let sealed = cipher.encrypt_inout_detached(&nonce.into(), path.as_bytes(), body.as_mut_slice().into());
        let tag = sealed.map_err(|_| io::Error::other("it is too long to be closed"))?;
        closed.extend_from_slice(&body);
        closed.extend_from_slice(&tag);
        Ok(closed)
    }

    fn open(&self, path: &str, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else { return Ok(bytes) };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged, or was closed for another place");
        let (nonce, rest) = rest.split_at_checked(NONCE_BYTES).ok_or_else(damaged)?;
        let nonce = Nonce::<Aes256Gcm>::try_from(nonce).map_err(|_| damaged())?;
        let length = rest.len().checked_sub(TAG_BYTES).ok_or_else(damaged)?;
        let tag = rest.get(length..).and_then(|tag| Tag::<Aes256Gcm>::try_from(tag).ok()).ok_or_else(damaged)?;
        let key = self.key()?;
        bytes.drain(..MAGIC.len().saturating_add(NONCE_BYTES));
        bytes.truncate(length);
        let opened = Aes256Gcm::new((&*key).into()).decrypt_inout_detached(
            &nonce,
            path.as_bytes(),
            bytes.as_mut_slice().into(),
            &tag,
        );
        opened.map(|()| bytes).map_err(|_| damaged())
    }
}

impl Home {
    /// The same, whose key systemd has in these places.
    pub fn kept_by(self, keepers: Keepers) -> Self {
        let guard = self.guard.map(|guard| Arc::new(guard.kept_by(&keepers)));
        let disk = guard.clone().map_or_else(|| self.bare.clone(), |guard| self.bare.covered(guard));
        Self { disk, guard, keepers, ..self }
    }

    /// What guards the private halves here.
    pub fn protection(&self) -> Protection {
        self.guard.as_ref().map_or(Protection::File, |guard| guard.kind())
    }

    /// Whether they are guarded otherwise by now than when this home was opened: it has to be opened anew then.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn is_guarded_otherwise(&self) -> Result<bool, HomeError> {
        let now = Guard::of(&self.bare)?;
        Ok(now.map(|guard| guard.note) != self.guard.as_ref().map(|guard| guard.note.clone()))
    }

    /// Whether private halves are here already.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn has_private_halves(&self) -> Result<bool, HomeError> {
        Ok(self.private_files()?.next().is_some())
    }

    fn private_files(&self) -> Result<impl Iterator<Item = String>, HomeError> {
        let files = self.bare.walk("members")?.into_iter().chain(self.bare.walk("witness")?);
        Ok(files.filter(|(p, kind)| *kind == EntryKind::File && is_private(p) && !is_temporary(p)).map(|(p, _)| p))
    }

    /// Guards the private halves by something else, those that are here and those that come. The caller holds the home's
    /// lock. Interrupted at any point the home opens; run again it comes to its end. Gives the home as it is then, and how
    /// many files are guarded otherwise than before.
    ///
    /// # Errors
    /// [`HomeError`]; what guards them then is what did before.
    pub fn guarded(self, wanted: &Guarding) -> Result<(Self, usize), HomeError> {
        let Home { disk, bare, guard, keepers, ssh_agent } = self.clone();
        let mut changed = 0;
        if wanted.kind == Protection::File {
            for path in self.private_files()? {
                let there = bare.read(&path, usize::MAX)?.map(Zeroizing::new);
                if !there.is_some_and(|bytes| bytes.starts_with(MAGIC)) {
                    continue;
                }
                let Some(open) = disk.read(&path, KEY_FILE_BYTES_MAX)?.map(Zeroizing::new) else { continue };
                bare.replace(&path, &open)?;
                changed += 1;
            }
            bare.remove(NOTE)?;
            bare.remove(HOME_KEY)?;
            return Ok((Self { disk: bare.clone(), bare, guard: None, keepers, ssh_agent }, changed));
        }
        let unguarded = |problem: String| HomeError::Unguarded { kind: wanted.kind, problem };
        let key = match &guard {
            Some(guard) => guard.key().map_err(|e| unguarded(e.to_string()))?,
            None => {
                let mut key = HomeKey::default();
                SysRng.try_fill_bytes(key.as_mut_slice()).map_err(|e| unguarded(e.to_string()))?;
                key
            }
        };
        let sealer = Sealer { keepers: &keepers, device: wanted.device.as_deref() };
        let sealed = sealer.seal(&key, wanted.kind, wanted.registers.as_deref()).map_err(unguarded)?;
        // What cannot be had back must not be what everything lies under.
        let again = sealer.open(&sealed).map_err(|e| unguarded(format!("what it sealed it does not open: {e}")))?;
        if again != key {
            return Err(unguarded("what it sealed opens as something else".to_owned()));
        }
        let note = Note { device: wanted.device.clone(), key: digest(&key), kind: wanted.kind, v: 1 };
        bare.replace(HOME_KEY, &sealed)?;
        bare.replace(NOTE, format!("{}\n", json::to_canonical(&note)).as_bytes())?;
        let guard = Guard { note, bare: bare.clone(), keepers: keepers.clone(), key: Mutex::new(Some(key)) };
        let guard = Arc::new(guard);
        let disk = bare.covered(Arc::clone(&guard) as Arc<dyn Cover>);
        let home = Self { disk, bare, guard: Some(guard), keepers, ssh_agent };
        for path in home.private_files()? {
            let Some(there) = home.bare.read(&path, usize::MAX)?.map(Zeroizing::new) else { continue };
            if !there.starts_with(MAGIC) {
                home.disk.replace(&path, &there)?;
                changed += 1;
            }
        }
        Ok((home, changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Memory;

    fn guard(bare: &Disk, key: [u8; 32]) -> Guard {
        let key = Zeroizing::new(key);
        let note = Note { device: None, key: digest(&key), kind: Protection::Host, v: 1 };
        Guard { note, bare: bare.clone(), keepers: Keepers::default(), key: Mutex::new(Some(key)) }
    }

    #[test]
    fn a_closed_file_opens_in_its_place_with_its_key_alone() {
        let bare = Disk::of_bucket(Memory::default());
        let (ours, other) = (guard(&bare, [1; 32]), guard(&bare, [2; 32]));
        let path = "members/fra1/openpgp.tsk";
        let closed = ours.close(path, b"private").unwrap();
        assert!(closed.starts_with(MAGIC) && !closed.windows(7).any(|w| w == b"private"));
        assert_ne!(ours.close(path, b"private").unwrap(), closed, "never the same twice");
        assert_eq!(ours.open(path, closed.clone()).unwrap(), b"private");
        assert!(other.open(path, closed.clone()).is_err());
        assert!(ours.open("members/ams1/openpgp.tsk", closed.clone()).is_err());
        for at in MAGIC.len()..closed.len() {
            let mut flipped = closed.clone();
            flipped[at] ^= 1;
            assert!(ours.open(path, flipped).is_err(), "byte {at}");
            assert!(ours.open(path, closed[..at].to_vec()).is_err(), "cut at {at}");
        }
        assert_eq!(ours.open(path, b"as it was before".to_vec()).unwrap(), b"as it was before");
    }

    #[test]
    fn a_home_that_was_opened_before_knows_that_it_is_guarded_otherwise() {
        let bare = Disk::of_bucket(Memory::default());
        let home = Home::on(bare.clone());
        assert!(!home.is_guarded_otherwise().unwrap());
        bare.replace(NOTE, json::to_canonical(&guard(&bare, [1; 32]).note).as_bytes()).unwrap();
        assert!(home.is_guarded_otherwise().unwrap());
        bare.replace(NOTE, b"{}").unwrap();
        assert!(home.is_guarded_otherwise().is_err());
    }

    #[test]
    fn private_halves_are_covered_and_nothing_else() {
        for path in
            ["members/fra1/openpgp.tsk", "members/fra1/wireguard/9a01.kem", "members/casc1/log/77.key", "witness/key"]
        {
            assert!(is_private(path), "{path}");
        }
        for path in ["pin", "members/fra1/request", "members/alice/agent", "protection", HOME_KEY, "witness/role"] {
            assert!(!is_private(path), "{path}");
        }
    }
}
