//! The files of a fleet's directory that are handed out: a closed set of forms, each read whole into what it names. What is
//! not one of them does not exist; nothing of what a client writes is joined to a path.

use super::{
    CHECKPOINT, HEAD, issued_path, issued_serial, object_digest, object_path, request_path, staged_digest, staged_path,
};
use crate::digest::Digest;
use crate::log::commit::Commit;
use crate::log::tile::{TILE_WIDTH, TileId};
use crate::name::{Address, MemberName};

/// A file that is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Public {
    /// The published head.
    Checkpoint,
    /// The newest head.
    Head,
    /// A tile, or a bundle of entries.
    Tile(TileId),
    /// A commit, by its number.
    Commit(u64),
    /// What a cosigner has left, by the digest of its vkey.
    Cosignature(Digest),
    /// An object.
    Object(Digest),
    /// An SSH certificate, by its serial.
    Issued(u64),
    /// A sealed file that is not yet at its address.
    Staged(Digest),
    /// A certificate, by its fingerprint in lower-case hexadecimal digits.
    Certificate(String),
    /// A sealed file.
    Sealed(Address),
    /// A part of a large value, beside its sealed file.
    Part(Address, Digest),
    /// A proposal's statement.
    Body(Digest),
    /// A signature of a proposal.
    Signature(Digest, Digest),
    /// A request that waits.
    Request(Digest),
    /// What a machine says of itself.
    Ack(MemberName),
    /// A policy file, as it lies beside the keyring.
    Policy(&'static str),
}

/// The policy files there can be.
const POLICIES: [&str; 4] = ["fleet.toml", "secrets.toml", "ssh.toml", "wireguard.toml"];

impl Public {
    /// Reads a path below the fleet's directory; `None` for any other spelling.
    pub fn parse(path: &str) -> Option<Self> {
        let public = match path.split_once('/')? {
            ("keyring", below) => Self::keyring(below)?,
            ("policy", name) => Self::Policy(POLICIES.into_iter().find(|file| *file == name)?),
            _ => return None,
        };
        (public.path() == path).then_some(public)
    }

    fn keyring(path: &str) -> Option<Self> {
        let digest = |text: &str| Digest::parse(text);
        match path.split_once('/')? {
            _ if path == CHECKPOINT => Some(Self::Checkpoint),
            _ if path == HEAD => Some(Self::Head),
            ("log", below) => match below.split_once('/')? {
                ("tile", _) => TileId::parse(below).map(Self::Tile),
                ("commit", _) => Commit::number(below).map(Self::Commit),
                ("cosignatures", name) => digest(name).map(Self::Cosignature),
                _ => None,
            },
            ("objects", _) => (issued_serial(path).map(Self::Issued))
                .or_else(|| staged_digest(path).map(Self::Staged))
                .or_else(|| object_digest(path).map(Self::Object)),
            ("certs", below) => {
                let digits: String = below.split('/').collect();
                let is_fingerprint = matches!(digits.len(), 40 | 64)
                    && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
                is_fingerprint.then_some(Self::Certificate(digits))
            }
            ("acks", name) => name.parse().ok().map(Self::Ack),
            ("sealed", _) => (Address::from_path(path).map(Self::Sealed))
                .or_else(|| Address::part_from_path(path).map(|(address, part)| Self::Part(address, part))),
            ("proposals", below) => match below.split_once('/')? {
                ("requests", name) => name.strip_suffix(".request").and_then(digest).map(Self::Request),
                (id, "body") => digest(id).map(Self::Body),
                (id, name) => Some(Self::Signature(digest(id)?, digest(name.strip_suffix(".sig")?)?)),
            },
            _ => None,
        }
    }

    /// The path below the fleet's directory; the inverse of [`Public::parse`].
    pub fn path(&self) -> String {
        match self {
            Self::Policy(name) => format!("policy/{name}"),
            other => format!("keyring/{}", other.below()),
        }
    }

    /// The path below the keyring, or below the policy's directory.
    pub fn below(&self) -> String {
        match self {
            Self::Checkpoint => CHECKPOINT.to_owned(),
            Self::Head => HEAD.to_owned(),
            Self::Tile(id) => format!("log/{id}"),
            Self::Commit(number) => format!("log/{}", Commit::path(*number)),
            Self::Cosignature(name) => format!("log/cosignatures/{name}"),
            Self::Object(digest) => object_path(digest),
            Self::Issued(serial) => issued_path(*serial),
            Self::Staged(digest) => staged_path(digest),
            Self::Certificate(digits) => {
                let (two, rest) = digits.split_at_checked(2).unwrap_or((digits, ""));
                format!("certs/{two}/{rest}")
            }
            Self::Sealed(address) => address.path(),
            Self::Part(address, part) => address.part_path(part),
            Self::Body(id) => format!("proposals/{id}/body"),
            Self::Signature(id, name) => format!("proposals/{id}/{name}.sig"),
            Self::Request(digest) => request_path(digest),
            Self::Ack(member) => format!("acks/{member}"),
            Self::Policy(name) => (*name).to_owned(),
        }
    }

    /// Whether what has this name never changes: it is named by what it is, or its place is taken for good.
    pub fn is_immutable(&self) -> bool {
        match self {
            Self::Tile(id) => id.width == TILE_WIDTH,
            Self::Commit(_) | Self::Object(_) | Self::Issued(_) | Self::Staged(_) | Self::Part(..) => true,
            Self::Body(_) | Self::Signature(..) | Self::Request(_) => true,
            Self::Checkpoint
            | Self::Head
            | Self::Cosignature(_)
            | Self::Certificate(_)
            | Self::Sealed(_)
            | Self::Ack(_)
            | Self::Policy(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling_and_leads_nowhere_else() {
        let d = Digest::of(b"x").to_string();
        let (two, rest) = d.split_at(2);
        let right = [
            "keyring/log/checkpoint".to_owned(),
            "keyring/log/head".to_owned(),
            "keyring/log/tile/0/x001/x234/067".to_owned(),
            "keyring/log/tile/entries/000.p/5".to_owned(),
            "keyring/log/commit/00000000000000000042".to_owned(),
            format!("keyring/log/cosignatures/{d}"),
            format!("keyring/objects/{two}/{rest}"),
            "keyring/objects/ssh/00000000000000000042".to_owned(),
            format!("keyring/objects/sealed/{d}"),
            format!("keyring/certs/{two}/{}", &rest[..38]),
            format!("keyring/certs/{two}/{rest}"),
            "keyring/sealed/fra1/nginx/tls.key.pgp".to_owned(),
            "keyring/sealed/_shared/ntp-key.pgp".to_owned(),
            format!("keyring/sealed/fra1/db/dump.parts/{d}"),
            format!("keyring/proposals/{d}/body"),
            format!("keyring/proposals/{d}/{d}.sig"),
            format!("keyring/proposals/requests/{d}.request"),
            "keyring/acks/fra1".to_owned(),
            "policy/fleet.toml".to_owned(),
        ];
        for path in &right {
            let public = Public::parse(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(public.path(), *path);
            for cut in 0..path.len() {
                let shorter = Public::parse(&path[..cut]);
                assert!(shorter.is_none_or(|p| p.path() == path[..cut]), "{path} {cut}");
            }
            for (from, to) in
                [("/", "//"), ("/", "/./"), ("/", "/../"), ("/", "%2f"), ("/", "\\"), ("keyring", "KEYRING")]
            {
                let other = path.replacen(from, to, 1);
                let found = Public::parse(&other).map(|p| p.path()).filter(|_| other != *path);
                assert_eq!(found, None, "{path} {from} {to}");
            }
            for suffix in ["/", "\0", "?", ".", "~", "/.."] {
                assert_eq!(Public::parse(&format!("{path}{suffix}")), None, "{path} {suffix:?}");
            }
        }
        for wrong in [
            "",
            "/",
            ".",
            "..",
            "keyring",
            "keyring/",
            "keyring/.writing",
            "keyring/.restored",
            "keyring/log/",
            "keyring/../home/pin",
            "keyring/log/../../policy/fleet.toml",
            "keyring/log/tile/0/1",
            "keyring/log/commit/42",
            "keyring/sealed/../x.pgp",
            "keyring/proposals/x/body",
            "keyring/acks/../x",
            "keyring/acks/",
            "keyring/acks/.tmp-1-2-3",
            "policy/other.toml",
            "policy/../keyring/log/checkpoint",
            ".pull/log/checkpoint",
            "home/pin",
            "keyring/objects/.tmp-1-2-3",
        ] {
            assert_eq!(Public::parse(wrong), None, "{wrong}");
        }
    }
}
