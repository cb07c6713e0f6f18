//! What a generation holds, by name and version, without any value: what the policy and the log want for a service, compared
//! with what lies there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::json;
use crate::limits::{DELIVERY_FILES_MAX, DELIVERY_PARTS_MAX, MANIFEST_BYTES_MAX};
use crate::name::{Address, Label, MemberName};
use crate::policy::{Account, Delivery, FileMode, OnExpiry, check_file_name};
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
    /// The file that lies beside a generation.
    pub fn to_text(&self) -> String {
        format!("{}\n", json::to_canonical(self))
    }

    /// Reads the file beside a generation: what this program writes, and no name that would lead out of a directory.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(format!("it has more than {MANIFEST_BYTES_MAX} bytes"));
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let manifest: Self = json::parse_as(line).map_err(|e| format!("it is no manifest: {e}"))?;
        if manifest.to_text().as_bytes() != bytes {
            return Err("it is not spelled as this program spells it".to_owned());
        }
        if manifest.files.len() > DELIVERY_FILES_MAX {
            return Err(format!("it has {} files; at most {DELIVERY_FILES_MAX} are delivered", manifest.files.len()));
        }
        let mut names = BTreeSet::new();
        for file in &manifest.files {
            check_file_name(&file.name)?;
            if file.parts.is_empty() || file.parts.len() > DELIVERY_PARTS_MAX || !names.insert(&file.name) {
                return Err(format!("{} is there twice, or made of {} secrets", file.name, file.parts.len()));
            }
        }
        Ok(manifest)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let part = Part { address: "nginx@fra1/tls.key".parse().unwrap(), body: Digest::of(b"body"), version: 3 };
        let file = |name: &str, parts: usize| ManifestFile {
            name: name.to_owned(),
            mode: FileMode::default(),
            parts: vec![part.clone(); parts],
        };
        let of = |files: Vec<ManifestFile>| Manifest {
            member: "nginx@fra1".parse().unwrap(),
            owner: "root:www-data".parse().ok(),
            files,
        };
        for good in [of(vec![file("tls.pem", 2), file("tsig", 1)]), Manifest { owner: None, ..of(Vec::new()) }] {
            assert_eq!(Manifest::parse(good.to_text().as_bytes()), Ok(good));
        }
        let text = of(vec![file("tls.pem", 1)]).to_text();
        let many = (0..=DELIVERY_FILES_MAX).map(|i| file(&format!("f{i}"), 1)).collect();
        for (wrong, part) in [
            (text.replace("tls.pem", "../tls.pem"), "no file name"),
            (text.replace("tls.pem", "a\\u001bb"), "no file name"),
            (text.replace(",\"owner\":\"root:www-data\"", ""), "not spelled"),
            (text.trim_end().to_owned(), "not spelled"),
            (text.replace("0400", "0444"), "no manifest"),
            (of(vec![file("a", 1), file("a", 1)]).to_text(), "a is there twice"),
            (of(vec![file("a", 0)]).to_text(), "made of 0 secrets"),
            (of(vec![file("a", DELIVERY_PARTS_MAX + 1)]).to_text(), "made of 9 secrets"),
            (of(many).to_text(), "65 files"),
        ] {
            let problem = Manifest::parse(wrong.as_bytes()).unwrap_err();
            assert!(problem.contains(part), "{problem}: {wrong}");
        }
    }
}
