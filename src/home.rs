//! A home: where the private halves of the members on this machine lie, and what this machine has seen of the fleet.
//!
//! ```text
//! home/                                  0700
//!   pin                                  fleet, id and log: the only thing that has to be pinned
//!   snapshot                             the hash of the state with which replaying begins here, if it was given
//!   replayed                             what replaying the log came to, for the next command to go on from
//!   protection, home-key.cred            what the private halves lie closed under, if their files are not all (`guard`)
//!   seen                                 the newest checkpoint that was accepted here
//!   restored                             it came out of a backup: the checkpoint of then. Nothing is signed while it is there
//!   seen-head                            the newest head that was accepted here while it waited for cosigners
//!   mirrors                              where this machine brings its keyring from, an address a line
//!   mirrors-ca                           the CAs that alone vouch for the mirrors' names, as PEM
//!   mirrors-own                          empty: of sealed files only those are brought that a member of this home can read
//!   emergencies/<64 digits>              an emergency that counts here before the log has it, named by its statement's id
//!   evidence/fork-9c02ab41d5e7           what shows that a log cannot be right
//!   members/fra1/openpgp.tsk             the certificate with its secrets (OpenPGP transferable secret key)
//!   members/fra1/ssh-host/3f2b….key      OpenSSH private key, named by the digest of its public half
//!   members/fra1/wireguard/9a01….key     as `wg set … private-key FILE` reads
//!   members/fra1/wireguard/9a01….kem     the private half of its preshared-key exchange
//!   members/fra1/wireguard/drained       the lane key that carries nothing any more, as the agent found
//!   members/casc1/log/77c2….key          a note signer key, as Go's sumdb/note reads
//!   members/alice/agent                  instead of openpgp.tsk: the socket of the gpg-agent that has the secrets
//! ```
//! Every file is 0600 from birth. Nothing copies a private key out of here but a backup that names its member (`crate::ops`).

mod agent;
mod guard;
mod held;
mod mirrors;
mod sealer;
mod stores;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sequoia_openpgp as pgp;

use pgp::Cert;
use pgp::parse::Parse as _;
use pgp::serialize::MarshalInto as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::enrolment::PrivateKey;
use crate::json;
use crate::limits::{CHECKPOINT_BYTES_MAX, KEY_FILE_BYTES_MAX, REPLAYED_BYTES_MAX};
use crate::log::evidence::Evidence;
use crate::name::{FleetName, MemberName, Protection, Slot};
use crate::openpgp::Fingerprint;
use crate::ssh_agent::SshAgent;
use crate::wireguard::exchange::KemPrivate;

pub use agent::AgentMemory;
pub use guard::{Guarding, HOME_KEY};
pub use held::HeldEmergency;
pub use sealer::Keepers;

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// There is none.
    #[error("there is no home at {0}")]
    Absent(String),
    /// Others can read it.
    #[error("the home {path} can be read by others (mode {mode:04o})")]
    Readable {
        /// Where it is.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the home {path} belongs to user {owner}, not to user {user}")]
    NotOurs {
        /// Where it is.
        path: String,
        /// Its owner's user id.
        owner: u32,
        /// Our user id.
        user: u32,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file in it is not what it has to be.
    #[error("{path} in the home is damaged: {problem}")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// It came out of a backup, and nobody has shown yet that the fleet's log has not gone on.
    #[error("this home was restored from a backup; it signs nothing until the log is shown to be that of the others")]
    Restored,
    /// Its private halves cannot be guarded so.
    #[error("{kind} cannot guard this home: {problem}")]
    Unguarded {
        /// By what.
        kind: Protection,
        /// Why not.
        problem: String,
    },
    /// A private key that is needed is not here.
    #[error("the {slot} key of {member} is not in this home")]
    NoKey {
        /// Whose.
        member: MemberName,
        /// The slot.
        slot: Slot,
    },
}

/// What a machine trusts without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The fleet's name.
    pub fleet: FleetName,
    /// The fleet's id: SHA-256 of the genesis statement.
    pub id: Digest,
    /// The log's name.
    pub log: String,
}

/// The mark of a home that came out of a backup.
pub const RESTORED: &str = "restored";

/// A home.
#[derive(Debug, Clone)]
pub struct Home {
    disk: Disk,
    /// The same, with private halves as they lie there.
    bare: Disk,
    guard: Option<Arc<guard::Guard>>,
    keepers: Keepers,
    /// The socket of the ssh-agent that has CA keys, where there is one.
    ssh_agent: Option<PathBuf>,
}

impl Home {
    /// Opens a home.
    ///
    /// # Errors
    /// [`HomeError`], also if others can read it.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        let shown = || crate::text::shown(&path.display().to_string()).to_string();
        let files = match RealFiles::open(path, Access::Private) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(HomeError::Absent(shown())),
            other => other.map_err(|source| DiskError { doing: "open", path: shown(), source })?,
        };
        Self::checked(files, shown())
    }

    /// Creates a home, readable by its owner alone, or opens the one that is there.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn create(path: &Path) -> Result<Self, HomeError> {
        let shown = crate::text::shown(&path.display().to_string()).to_string();
        let files = RealFiles::create(path, Access::Private).map_err(|source| DiskError {
            doing: "create",
            path: shown.clone(),
            source,
        })?;
        Self::checked(files, shown)
    }

    fn checked(files: RealFiles, path: String) -> Result<Self, HomeError> {
        let (mode, owner) =
            files.permissions().map_err(|source| DiskError { doing: "look at", path: path.clone(), source })?;
        let user = rustix::process::geteuid().as_raw();
        if owner != user {
            return Err(HomeError::NotOurs { path, owner, user });
        }
        if mode & 0o077 != 0 {
            return Err(HomeError::Readable { path, mode });
        }
        let bare = Disk::new(files);
        let guard = guard::Guard::of(&bare)?.map(Arc::new);
        let disk = guard.clone().map_or_else(|| bare.clone(), |guard| bare.covered(guard));
        Ok(Self { disk, bare, guard, keepers: Keepers::default(), ssh_agent: None })
    }

    /// A home on a disk of the caller's, whose privacy is the caller's care.
    pub fn on(disk: Disk) -> Self {
        Self { bare: disk.clone(), disk, guard: None, keepers: Keepers::default(), ssh_agent: None }
    }

    /// The disk it lies on.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Makes durable what a process that was killed has left here, before anything is built on it: a public half must
    /// never be published whose private half a power cut can take away. Removes its temporary files. The caller holds the
    /// home's lock.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn settle(&self) -> Result<(), HomeError> {
        self.disk.settle("")?;
        self.disk.remove_temporaries("")?;
        Ok(())
    }

    /// The members whose private halves are here, in order.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn members(&self) -> Result<Vec<MemberName>, HomeError> {
        Ok(self.disk.list("members")?.iter().filter_map(|(name, _)| name.parse().ok()).collect())
    }

    fn damaged(path: &str, problem: impl ToString) -> HomeError {
        HomeError::Damaged { path: path.to_owned(), problem: crate::text::shown(&problem.to_string()).to_string() }
    }

    /// What is pinned.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn pin(&self) -> Result<Option<Pin>, HomeError> {
        let Some(bytes) = self.disk.read("pin", KEY_FILE_BYTES_MAX)? else { return Ok(None) };
        json::parse_as(bytes.trim_ascii_end()).map(Some).map_err(|e| Self::damaged("pin", e))
    }

    /// Pins a fleet. A home belongs to one fleet for good.
    ///
    /// # Errors
    /// [`HomeError`], also if another fleet is pinned already.
    pub fn set_pin(&self, pin: &Pin) -> Result<(), HomeError> {
        match self.pin()? {
            Some(there) if there == *pin => Ok(()),
            Some(there) => {
                Err(Self::damaged("pin", format!("it belongs to the fleet {} ({})", there.fleet, there.id.short())))
            }
            None => Ok(self.disk.replace("pin", format!("{}\n", json::to_canonical(pin)).as_bytes())?),
        }
    }

    /// The hash of the state with which replaying begins here, if one was given.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn snapshot(&self) -> Result<Option<Digest>, HomeError> {
        let Some(bytes) = self.disk.read("snapshot", KEY_FILE_BYTES_MAX)? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).ok().and_then(|t| Digest::parse(t.trim_ascii_end()));
        text.map(Some)
            .ok_or_else(|| Self::damaged("snapshot", "it is not 64 hexadecimal digits; remove it to replay all"))
    }

    /// Remembers a state that was given, and with which replaying has begun.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_snapshot(&self, state: &Digest) -> Result<(), HomeError> {
        Ok(self.disk.replace("snapshot", format!("{state}\n").as_bytes())?)
    }

    /// What was kept of the last replay, if it can be read.
    pub fn replayed(&self) -> Option<Vec<u8>> {
        self.disk.read("replayed", REPLAYED_BYTES_MAX).ok().flatten()
    }

    /// Keeps what replaying came to.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_replayed(&self, kept: &[u8]) -> Result<(), HomeError> {
        Ok(self.disk.replace("replayed", kept)?)
    }

    /// What a verification has kept that did not come to its end, if it can be read.
    pub fn verifying(&self) -> Option<Vec<u8>> {
        self.disk.read("verifying", REPLAYED_BYTES_MAX).ok().flatten()
    }

    /// Keeps how far a verification has come; nothing, once it has come to its end.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_verifying(&self, kept: Option<&[u8]>) -> Result<(), HomeError> {
        match kept {
            Some(kept) => self.disk.replace("verifying", kept)?,
            None => drop(self.disk.remove("verifying")?),
        }
        Ok(())
    }

    /// The newest checkpoint that was accepted here, as it was published.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn seen(&self) -> Result<Option<Vec<u8>>, HomeError> {
        Ok(self.disk.read("seen", CHECKPOINT_BYTES_MAX)?)
    }

    /// Remembers a checkpoint.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_seen(&self, note: &[u8]) -> Result<(), HomeError> {
        if self.seen()?.as_deref() != Some(note) {
            self.disk.replace("seen", note)?;
        }
        Ok(())
    }

    /// The checkpoint's text of the backup that this home came out of, until that is confirmed.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn restored(&self) -> Result<Option<Vec<u8>>, HomeError> {
        Ok(self.disk.read(RESTORED, CHECKPOINT_BYTES_MAX)?)
    }

    /// Refuses if this home came out of a backup: for whoever is about to sign.
    ///
    /// # Errors
    /// [`HomeError::Restored`].
    pub fn check_confirmed(&self) -> Result<(), HomeError> {
        if self.restored()?.is_some() { Err(HomeError::Restored) } else { Ok(()) }
    }

    /// Takes that mark away.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_confirmed(&self) -> Result<(), HomeError> {
        self.disk.remove(RESTORED)?;
        Ok(())
    }

    /// The newest head that was accepted here while it waited for cosigners.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn seen_head(&self) -> Result<Option<Vec<u8>>, HomeError> {
        Ok(self.disk.read("seen-head", CHECKPOINT_BYTES_MAX)?)
    }

    /// Remembers a head that waits for cosigners.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_seen_head(&self, note: &[u8]) -> Result<(), HomeError> {
        if self.seen_head()?.as_deref() != Some(note) {
            self.disk.replace("seen-head", note)?;
        }
        Ok(())
    }

    /// Keeps what shows that a log cannot be right; the same case is kept once, as it was first noticed. Gives the path.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn keep_evidence(&self, evidence: &Evidence) -> Result<String, HomeError> {
        let path = format!("evidence/{}-{}", evidence.case, evidence.id().short());
        self.disk.create(&path, evidence.to_text().as_bytes())?;
        Ok(path)
    }

    /// The certificate of `member` with its secrets.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn secret_certificate(&self, member: &MemberName) -> Result<Option<Cert>, HomeError> {
        let path = format!("members/{member}/openpgp.tsk");
        let Some(bytes) = self.disk.read(&path, KEY_FILE_BYTES_MAX)?.map(Zeroizing::new) else { return Ok(None) };
        Cert::from_bytes(bytes.as_slice()).map(Some).map_err(|e| Self::damaged(&path, e))
    }

    /// Keeps the certificate of `member` with its secrets.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_secret_certificate(&self, member: &MemberName, cert: &Cert) -> Result<(), HomeError> {
        let path = format!("members/{member}/openpgp.tsk");
        let bytes = Zeroizing::new(cert.as_tsk().to_vec().map_err(|e| Self::damaged(&path, e))?);
        Ok(self.disk.replace(&path, &bytes)?)
    }

    /// The secret of one key of `member`'s certificate, ready to sign or decrypt.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn key_pair(
        &self,
        member: &MemberName,
        fingerprint: &Fingerprint,
    ) -> Result<Option<pgp::crypto::KeyPair>, HomeError> {
        let Some(cert) = self.secret_certificate(member)? else { return Ok(None) };
        let found = cert.keys().secret().map(|k| k.key().clone()).find(|k| &k.fingerprint() == fingerprint);
        let path = || format!("members/{member}/openpgp.tsk");
        found.map(|key| key.into_keypair().map_err(|e| Self::damaged(&path(), e))).transpose()
    }

    /// The socket of the gpg-agent that has `member`'s secrets, if that is where they are.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn agent(&self, member: &MemberName) -> Result<Option<String>, HomeError> {
        let path = format!("members/{member}/agent");
        let Some(bytes) = self.disk.read(&path, KEY_FILE_BYTES_MAX)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|e| Self::damaged(&path, e))?;
        Ok(Some(text.trim_end().to_owned()))
    }

    /// Remembers that a gpg-agent has `member`'s secrets.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_agent(&self, member: &MemberName, socket: &str) -> Result<(), HomeError> {
        Ok(self.disk.replace(&format!("members/{member}/agent"), format!("{socket}\n").as_bytes())?)
    }

    /// Keeps a private key.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_key(&self, member: &MemberName, key: &PrivateKey) -> Result<(), HomeError> {
        Ok(self.disk.replace(&key_path(member, key.slot, &key.public), key.file.as_bytes())?)
    }

    /// The same, with CA keys behind the ssh-agent at `socket`.
    pub fn with_ssh_agent(self, socket: Option<PathBuf>) -> Self {
        Self { ssh_agent: socket, ..self }
    }

    /// The agent that has CA keys.
    pub fn ssh_agent(&self) -> Option<SshAgent> {
        self.ssh_agent.as_deref().map(SshAgent::at)
    }

    /// A private key's file, by its public half.
    ///
    /// # Errors
    /// [`HomeError::NoKey`], if it is not here.
    pub fn key(&self, member: &MemberName, slot: Slot, public: &str) -> Result<Zeroizing<String>, HomeError> {
        let path = key_path(member, slot, public);
        let bytes = self
            .disk
            .read(&path, KEY_FILE_BYTES_MAX)?
            .ok_or_else(|| HomeError::NoKey { member: member.clone(), slot })?;
        String::from_utf8(bytes).map(Zeroizing::new).map_err(|_| Self::damaged(&path, "it is not text"))
    }

    /// The private half of the preshared-key exchange of a lane key, if it is here.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn kem_key(&self, member: &MemberName, public: &str) -> Result<Option<KemPrivate>, HomeError> {
        let path = kem_path(member, public);
        let Some(bytes) = self.disk.read(&path, KEY_FILE_BYTES_MAX)?.map(Zeroizing::new) else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).map_err(|e| Self::damaged(&path, e))?;
        KemPrivate::from_file_text(text).map(Some).map_err(|e| Self::damaged(&path, format!("it {e}")))
    }

    /// Keeps the private half of an exchange.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_kem_key(&self, member: &MemberName, public: &str, kem: &KemPrivate) -> Result<(), HomeError> {
        Ok(self.disk.replace(&kem_path(member, public), kem.to_file_text().as_bytes())?)
    }

    /// Which of `member`'s lane keys carries nothing any more, as the agent that watches its lanes has found: `None` if no
    /// agent has ever watched them here, an empty text while none is drained.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn drained(&self, member: &MemberName) -> Result<Option<String>, HomeError> {
        let path = drained_path(member);
        let Some(bytes) = self.disk.read(&path, KEY_FILE_BYTES_MAX)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|e| Self::damaged(&path, e))?;
        Ok(Some(text.trim_end().to_owned()))
    }

    /// Keeps that, or that none is drained.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_drained(&self, member: &MemberName, public: Option<&str>) -> Result<(), HomeError> {
        let text = format!("{}\n", public.unwrap_or_default());
        if self.drained(member)?.as_deref() == Some(text.trim_end()) {
            return Ok(());
        }
        Ok(self.disk.replace(&drained_path(member), text.as_bytes())?)
    }

    /// The private key files of a slot that are here.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn key_files(&self, member: &MemberName, slot: Slot) -> Result<Vec<Zeroizing<String>>, HomeError> {
        let directory = format!("members/{member}/{slot}");
        let mut found = Vec::new();
        for (name, _) in self.disk.list(&directory)?.iter().filter(|(n, _)| n.ends_with(".key")) {
            let path = format!("{directory}/{name}");
            if let Some(bytes) = self.disk.read(&path, KEY_FILE_BYTES_MAX)? {
                found.push(
                    String::from_utf8(bytes).map(Zeroizing::new).map_err(|_| Self::damaged(&path, "it is not text"))?,
                );
            }
        }
        Ok(found)
    }

    /// Destroys a private key; `false` if it was not here.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn destroy_key(&self, member: &MemberName, slot: Slot, public: &str) -> Result<bool, HomeError> {
        if slot == Slot::Wireguard {
            self.disk.remove(&kem_path(member, public))?;
        }
        Ok(self.disk.remove(&key_path(member, slot, public))?)
    }

    /// Removes the private halves of a member that was never admitted.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn forget(&self, member: &MemberName) -> Result<(), HomeError> {
        for (path, _) in self.disk.walk(&format!("members/{member}"))? {
            self.disk.remove(&path)?;
            self.disk.prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
        }
        Ok(())
    }
}

fn kem_path(member: &MemberName, public: &str) -> String {
    format!("members/{member}/wireguard/{}.kem", Digest::of(public.as_bytes()).short())
}

fn drained_path(member: &MemberName) -> String {
    format!("members/{member}/wireguard/drained")
}

fn key_path(member: &MemberName, slot: Slot, public: &str) -> String {
    format!("members/{member}/{slot}/{}.key", Digest::of(public.as_bytes()).short())
}
