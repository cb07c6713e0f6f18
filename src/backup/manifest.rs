//! The manifest: what a backup's parts are, in canonical JSON, signed by whoever made it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::archive::is_path;
use crate::digest::Digest;
use crate::json::{self, JsonError};
use crate::limits::{BACKUP_FILES_MAX, CHECKPOINT_BYTES_MAX, CUSTODIANS_MAX};
use crate::name::{FleetName, MemberName};
use crate::openpgp::Profile;
use crate::time::Time;

/// The format's version.
const VERSION: u64 = 1;

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not canonical JSON with the fields of a manifest.
    #[error("the manifest {0}")]
    Json(#[from] JsonError),
    /// Not one line.
    #[error("the manifest is not one line")]
    Line,
    /// A version that is not read here.
    #[error("the manifest has version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// It contradicts itself.
    #[error("the manifest makes no sense: {0}")]
    Sense(&'static str),
    /// `SHA256SUMS` is not a list of files.
    #[error("SHA256SUMS is damaged, line {0}")]
    Sums(usize),
}

/// A custodian, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custody {
    /// SHA-256 of `share-NAME.pgp`.
    pub file: Digest,
    /// The fingerprints of the keys it is sealed to.
    pub keys: Vec<String>,
    /// A member's name, or a certificate's fingerprint.
    pub name: String,
    /// SHA-256 of the share itself, so that a wrong one can be named.
    pub share: Digest,
}

/// The encrypted part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of `body.pgp`.
    pub file: Digest,
}

/// What is inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// The bytes of all files together.
    pub bytes: u64,
    /// SHA-256 of `SHA256SUMS`.
    pub digest: Digest,
    /// How many files it lists.
    pub files: u64,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The backup's id, random.
    pub backup: Digest,
    /// The encrypted part.
    pub body: Body,
    /// Who made it.
    pub by: MemberName,
    /// The log's published head: the note's text.
    pub checkpoint: String,
    /// Who holds shares.
    pub custodians: Vec<Custody>,
    /// The fleet's name.
    pub fleet: FleetName,
    /// Whose private halves are inside.
    pub holds: BTreeSet<MemberName>,
    /// The fleet's id.
    pub id: Digest,
    /// The fingerprint of the key that signed it.
    pub key: String,
    /// When it was made.
    pub made: Time,
    /// How many custodians are needed.
    pub need: usize,
    /// Which OpenPGP the body is of.
    pub profile: Profile,
    /// What is inside.
    pub sums: Sums,
    /// The format's version.
    pub v: u64,
}

impl Manifest {
    /// The version that is written.
    pub const VERSION: u64 = VERSION;

    /// The bytes that are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{}\n", json::to_canonical(self)).into_bytes()
    }

    /// Reads what [`Manifest::to_bytes`] writes, and nothing else.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = json::parse_as(bytes.strip_suffix(b"\n").ok_or(ManifestError::Line)?)?;
        if manifest.v != VERSION {
            return Err(ManifestError::Version(manifest.v));
        }
        let names: BTreeSet<&str> = manifest.custodians.iter().map(|c| c.name.as_str()).collect();
        let all = manifest.custodians.len();
        let sense = if names.len() != all || all > CUSTODIANS_MAX {
            "a custodian is named twice, or there are too many"
        } else if manifest.need < 2 || manifest.need > all {
            "it needs a number of custodians that there cannot be"
        } else if !manifest.custodians.iter().all(|c| is_path(&c.part()) && !c.name.contains('/')) {
            "a custodian has a name that is none"
        } else if manifest.sums.files > BACKUP_FILES_MAX as u64 || manifest.checkpoint.len() > CHECKPOINT_BYTES_MAX {
            "it is larger than a backup may be"
        } else if manifest.to_bytes() != bytes {
            "it spells its fields in another way than this program does"
        } else {
            return Ok(manifest);
        };
        Err(ManifestError::Sense(sense))
    }

    /// The names of the archive's parts, in order.
    pub fn parts(&self) -> Vec<String> {
        let shares = self.custodians.iter().map(Custody::part);
        shares.chain(["body.pgp", "manifest.json", "manifest.sig"].map(str::to_owned)).collect()
    }

    /// The custodian of this name.
    pub fn custodian(&self, name: &str) -> Option<&Custody> {
        self.custodians.iter().find(|c| c.name == name)
    }
}

impl Custody {
    /// The name of its part.
    pub fn part(&self) -> String {
        format!("share-{}.pgp", self.name)
    }
}

/// What the signature over a manifest names in the place of a log, so that it can be taken for no statement's.
pub fn origin(fleet: &FleetName) -> String {
    format!("{fleet}/backup/v1")
}

/// Reads `SHA256SUMS`: digest and path of every file, in the order of paths.
///
/// # Errors
/// [`ManifestError::Sums`].
pub fn check_sums(bytes: &[u8]) -> Result<Vec<(Digest, String)>, ManifestError> {
    let mut found: Vec<(Digest, String)> = Vec::new();
    let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::Sums(0))?;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let bad = ManifestError::Sums(i + 1);
        let parts = line.strip_suffix('\n').and_then(|l| l.split_once("  "));
        let Some((digest, path)) = parts.and_then(|(d, p)| Some((Digest::parse(d)?, p))) else { return Err(bad) };
        let known = ["keyring/", "policy/", "home/"].iter().any(|place| path.starts_with(place));
        if !known || !is_path(path) || found.last().is_some_and(|(_, last)| last.as_str() >= path) {
            return Err(bad);
        }
        found.push((digest, path.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let custody = |name: &str| Custody {
            file: Digest::of(name.as_bytes()),
            keys: vec!["AA".to_owned()],
            name: name.to_owned(),
            share: Digest::of(b"share"),
        };
        Manifest {
            backup: Digest::of(b"id"),
            body: Body { bytes: 5, file: Digest::of(b"body") },
            by: "alice".parse().unwrap(),
            checkpoint: "cdn.example/keys/1\n1\nAAAA\n".to_owned(),
            custodians: ["alice", "bob", "carol"].map(custody).into(),
            fleet: "cdn.example".parse().unwrap(),
            holds: BTreeSet::new(),
            id: Digest::of(b"fleet"),
            key: "AA".to_owned(),
            made: Time(1_795_244_400),
            need: 2,
            profile: Profile::Compat,
            sums: Sums { bytes: 1, digest: Digest::of(b"sums"), files: 1 },
            v: 1,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let written = manifest();
        assert_eq!(Manifest::parse(&written.to_bytes()).unwrap(), written);
        let parts =
            ["share-alice.pgp", "share-bob.pgp", "share-carol.pgp", "body.pgp", "manifest.json", "manifest.sig"];
        assert_eq!(written.parts(), parts);
    }

    #[test]
    fn a_manifest_that_makes_no_sense_is_refused() {
        type Change = fn(&mut Manifest);
        let changes: [(&str, Change); 6] = [
            ("cannot be", |m| m.need = 1),
            ("cannot be", |m| m.need = 4),
            ("twice", |m| m.custodians[1].name = "alice".into()),
            ("is none", |m| m.custodians[1].name = "../bob".into()),
            ("larger", |m| m.sums.files = u64::try_from(BACKUP_FILES_MAX).unwrap() + 1),
            ("reads version 1", |m| m.v = 2),
        ];
        for (part, change) in changes {
            let mut changed = manifest();
            change(&mut changed);
            let error = Manifest::parse(&changed.to_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn sums_are_sorted_and_stay_inside() {
        let digest = Digest::of(b"x");
        let good = format!("{digest}  keyring/a\n{digest}  keyring/b\n{digest}  policy/c\n");
        assert_eq!(check_sums(good.as_bytes()).unwrap().len(), 3);
        for bad in
            ["keyring/b\n{}  keyring/a\n", "keyring/a\n{}  keyring/a\n", "/etc/passwd\n", "keyring/../x\n", "x\n"]
        {
            let text = format!("{digest}  {}", bad.replace("{}", &digest.to_string()));
            assert!(check_sums(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check_sums(good.trim_end().as_bytes()).is_err());
    }
}
