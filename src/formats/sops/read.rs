//! Reading a sops file.

use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::cipher::{Encrypted, KEY_BYTES, additional};
use crate::formats::{Format, FormatError, Kind, Leaf, Step, path_text};

/// What the MAC begins with where it covers encrypted values alone; fixed by the format.
const ENCRYPTED_ONLY: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Why a sops file does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SopsError {
    /// The file itself is broken.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It has no metadata.
    #[error("it has no sops metadata: it was not sealed by sops")]
    NotSops,
    /// Its metadata lack something.
    #[error("its sops metadata have no '{0}'")]
    Lacks(&'static str),
    /// Its data key is shared out among several keys.
    #[error("its data key is shared among key groups, which is not read here")]
    Groups,
    /// What was taken for the data key is none.
    #[error("what opened is not its data key")]
    Key,
    /// A value is broken, was put elsewhere, or belongs to another data key.
    #[error("{path}: the value was changed or moved, or is of another file")]
    Value {
        /// Which.
        path: String,
    },
    /// A value in the clear is written in a way that the MAC does not tell.
    #[error("{path} is a {kind} in the clear, which cannot be checked as it is written")]
    Clear {
        /// Which.
        path: String,
        /// What it is.
        kind: Kind,
    },
    /// The MAC does not fit.
    #[error("its MAC does not fit: values were added, removed, changed or put in another order")]
    Mac,
    /// A name that cannot stand in such a file.
    #[error("'{0}' cannot be the name of a value: sops keeps its metadata there")]
    Name(String),
}

/// A data key, encrypted for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stanza {
    /// An armored OpenPGP message.
    Pgp(String),
    /// An armored age file.
    Age(String),
}

/// A sops file, not opened yet.
#[derive(Debug)]
pub struct Sops {
    format: Format,
    values: Vec<Leaf>,
    stanzas: Vec<Stanza>,
    mac: String,
    modified: String,
    encrypted_only: bool,
}

impl Sops {
    /// Reads a file.
    ///
    /// # Errors
    /// [`SopsError`].
    pub fn parse(format: Format, text: &str) -> Result<Self, SopsError> {
        let (metadata, values): (Vec<Leaf>, Vec<Leaf>) = format.scan(text)?.into_iter().partition(|leaf| {
            // In variables the metadata lie flat.
            matches!(leaf.path.first(), Some(Step::Key(key)) if key == "sops" || (format == Format::Env && key.starts_with("sops_")))
        });
        if metadata.is_empty() {
            return Err(SopsError::NotSops);
        }
        let metadata: Vec<(String, String)> = metadata.iter().map(|leaf| flat(leaf, format)).collect();
        let find = |name: &'static str| {
            metadata.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).ok_or(SopsError::Lacks(name))
        };
        // A threshold alone says nothing: with one group the data key is not shared out.
        if metadata.iter().any(|(name, _)| name.starts_with("key_groups")) {
            return Err(SopsError::Groups);
        }
        let stanza = |(name, value): &(String, String)| match name.as_str() {
            n if n.starts_with("pgp[") && n.ends_with("].enc") => Some(Stanza::Pgp(value.clone())),
            n if n.starts_with("age[") && n.ends_with("].enc") => Some(Stanza::Age(value.clone())),
            _ => None,
        };
        Ok(Self {
            stanzas: metadata.iter().filter_map(stanza).collect(),
            mac: find("mac")?,
            modified: find("lastmodified")?,
            encrypted_only: find("mac_only_encrypted").is_ok_and(|v| v == "true"),
            values,
            format,
        })
    }

    /// The data key's encryptions that can be opened here.
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// How many values stand in the clear, and are not given by [`Sops::open`].
    pub fn clear_count(&self) -> usize {
        self.values.iter().filter(|leaf| !Encrypted::is_meant(&leaf.value)).count()
    }

    /// Decrypts every encrypted value, and checks the MAC before anything is given out.
    ///
    /// # Errors
    /// [`SopsError`].
    pub fn open(&self, data_key: &[u8]) -> Result<Vec<Leaf>, SopsError> {
        if data_key.len() != KEY_BYTES {
            return Err(SopsError::Key);
        }
        let mut hash = Sha512::new();
        if self.encrypted_only {
            hash.update(ENCRYPTED_ONLY);
        }
        let mut opened = Vec::new();
        for leaf in &self.values {
            if !Encrypted::is_meant(&leaf.value) {
                if !self.encrypted_only {
                    hash.update(clear(leaf, self.format)?.as_bytes());
                }
                continue;
            }
            let wrong = || SopsError::Value { path: path_text(&leaf.path) };
            let encrypted = Encrypted::parse(&leaf.value).ok_or_else(wrong)?;
            let kind = kind(encrypted.kind).ok_or_else(wrong)?;
            let value = encrypted.open(data_key, self.additional(&leaf.path).as_bytes()).ok_or_else(wrong)?;
            hash.update(value.as_slice());
            let value = Zeroizing::new(std::str::from_utf8(&value).map_err(|_| wrong())?.to_owned());
            opened.push(Leaf { path: leaf.path.clone(), kind, span: leaf.span.clone(), value });
        }
        let said = Encrypted::parse(&self.mac).and_then(|mac| mac.open(data_key, self.modified.as_bytes()));
        let said = said.ok_or(SopsError::Mac)?;
        let found = crate::text::hex(&hash.finalize());
        if said.eq_ignore_ascii_case(found.as_bytes()) { Ok(opened) } else { Err(SopsError::Mac) }
    }

    /// What is authenticated beside a value. What stands before the first section of an INI file is of a section to sops.
    fn additional(&self, path: &[Step]) -> String {
        let section = if self.format == Format::Ini && path.len() == 1 { "DEFAULT:" } else { "" };
        format!("{section}{}", additional(path))
    }
}

/// A value of the metadata, by its name: `pgp[0].enc`.
fn flat(leaf: &Leaf, format: Format) -> (String, String) {
    let key = match format {
        Format::Env => leaf.path.first(),
        Format::Ini => leaf.path.get(1),
        _ => return (path_text(leaf.path.get(1..).unwrap_or_default()), leaf.value.to_string()),
    };
    let Some(Step::Key(key)) = key else { return (String::new(), String::new()) };
    // `sops_pgp__list_0__map_enc`, in INI without `sops_`, with its line feeds written as `\n`.
    let mut name = String::new();
    for (i, part) in key.strip_prefix("sops_").unwrap_or(key).split("__").enumerate() {
        match part.strip_prefix("list_") {
            Some(index) => name.push_str(&format!("[{index}]")),
            None if i == 0 => name.push_str(part),
            None => name.push_str(&format!(".{}", part.strip_prefix("map_").unwrap_or(part))),
        }
    }
    (name, leaf.value.replace("\\n", "\n"))
}

fn kind(word: &str) -> Option<Kind> {
    match word {
        "str" | "bytes" | "comment" => Some(Kind::Text),
        "int" => Some(Kind::Integer),
        "float" => Some(Kind::Float),
        "bool" => Some(Kind::Boolean),
        "time" => Some(Kind::Time),
        _ => None,
    }
}

/// What the MAC has of a value in the clear.
fn clear(leaf: &Leaf, format: Format) -> Result<String, SopsError> {
    let text = leaf.value.as_str();
    // Its reader of INI files takes quotes away and comments off.
    let is_other = |text: &str| text.contains(['"', '\'', '`', '\\', ';', '#']);
    let canonical = match leaf.kind {
        Kind::Text if format == Format::Ini && is_other(text) => None,
        Kind::Text => Some(text.to_owned()),
        Kind::Null => Some(String::new()),
        Kind::Boolean => Some(if text.eq_ignore_ascii_case("true") { "True" } else { "False" }.to_owned()),
        Kind::Integer => text.parse::<i64>().ok().map(|n| n.to_string()).filter(|n| n == text),
        Kind::Float => text.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n.to_string()),
        Kind::Time => None,
    };
    canonical.ok_or_else(|| SopsError::Clear { path: path_text(&leaf.path), kind: leaf.kind })
}
