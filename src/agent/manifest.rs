//! What a generation holds, by name and version, without any value: what the policy and the log want for a service, compared
//! with what lies there.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{Address, Label, MemberName};
use crate::policy::{Account, Delivery, FileMode, OnExpiry};
use crate::state::State;
use crate::time::Time;

/// What a generation of a service's directory holds. Two that are equal hold the same values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// For whom.
    pub member: MemberName,
    /// Whose the files are; nobody else's than the agent's own if none is given.
    pub owner: Option<Account>,
    /// The files, in the policy's order.
    pub files: Vec<ManifestFile>,
}

/// A file of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Its name.
    pub name: String,
    /// Who may read it.
    pub mode: FileMode,
    /// What is in it, one after the other.
    pub parts: Vec<Part>,
}

/// One value of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its address.
    pub address: Address,
    /// SHA-256 of the encrypted body, which resealing leaves as it is.
    pub body: Digest,
    /// Its version.
    pub version: u64,
}

/// Something that keeps a file from being delivered, or should be known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The file.
    pub file: String,
    /// What is the matter.
    pub why: String,
}

/// What the policy wants for one member of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Its directory.
    pub directory: Label,
    /// The policy's rule.
    pub rule: Delivery,
    /// What should lie there.
    pub manifest: Manifest,
    /// Files that it lacks, since a secret is not there.
    pub lacks: Vec<Lack>,
    /// Values that have expired and go on being served.
    pub expired: Vec<Lack>,
    /// Files that are taken away, since a value has expired.
    pub stopped: Vec<Lack>,
}

impl Manifest {
    /// The file of that name.
    pub fn file(&self, name: &str) -> Option<&ManifestFile> {
        self.files.iter().find(|f| f.name == name)
    }

    /// Whether every file here is also in `other`, as it is, and some are missing: what stopping leaves.
    pub fn is_part_of(&self, other: &Self) -> bool {
        self.member == other.member
            && self.owner == other.owner
            && self.files.len() < other.files.len()
            && self.files.iter().all(|f| other.files.contains(f))
    }

    /// The bits of the directory: its group gets in if a file is for it.
    pub fn directory_mode(&self) -> u32 {
        if self.files.iter().any(|f| f.mode.is_for_group()) { 0o750 } else { 0o700 }
    }
}

/// What is to be delivered to those of `here` who are members, in order; and whatever stands in the way.
///
/// A directory belongs to one member: a second one that would get it is refused.
pub fn wishes(state: &State, here: &[MemberName], now: Time) -> (Vec<Wish>, Vec<String>) {
    let (mut wishes, mut troubles): (Vec<Wish>, Vec<String>) = Default::default();
    for member in here {
        let is_active = state.members.get(member).is_some_and(|m| m.is_active());
        let Some(rule) = state.policy.policy.secrets.delivery(member).filter(|_| is_active) else { continue };
        let wish = wish(member, rule, state, now);
        if let Some(other) = wishes.iter().find(|w| w.directory == wish.directory) {
            troubles.push(format!(
                "{member} would share the directory {} with {}; give one of them another in policy/secrets.toml",
                wish.directory, other.manifest.member
            ));
            continue;
        }
        wishes.push(wish);
    }
    (wishes, troubles)
}

fn wish(member: &MemberName, rule: &Delivery, state: &State, now: Time) -> Wish {
    let (mut files, mut lacks, mut expired, mut stopped) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    'files: for file in &rule.files {
        let lack = |why: String| Lack { file: file.name.clone(), why };
        let mut parts = Vec::new();
        let mut late = None;
        for source in &file.secrets {
            let found = source.address(member).and_then(|address| {
                let secret = state.secrets.get(&address)?;
                Some((address, secret.version, secret.live.as_ref()?))
            });
            let Some((address, version, live)) = found else {
                lacks.push(lack(format!("there is no secret {source} of {member}")));
                continue 'files;
            };
            if !live.readers.contains_key(member) {
                lacks.push(lack(format!("{address} is not sealed to {member}")));
                continue 'files;
            }
            if file.expires.is_some_and(|span| live.sealed.plus(span) <= now) {
                late.get_or_insert_with(|| format!("version {version} of {address} has expired"));
            }
            parts.push(Part { body: live.body, version, address });
        }
        match (late, file.on_expiry) {
            (Some(why), OnExpiry::Stop) => {
                stopped.push(lack(why));
                continue;
            }
            (Some(why), OnExpiry::Serve) => expired.push(lack(why)),
            (None, _) => {}
        }
        files.push(ManifestFile { name: file.name.clone(), mode: file.mode, parts });
    }
    let manifest = Manifest { member: member.clone(), owner: rule.owner.clone(), files };
    Wish { directory: rule.directory_of(member), rule: rule.clone(), manifest, lacks, expired, stopped }
}
