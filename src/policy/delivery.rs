//! Deliveries: which secrets become which files for a service, and what is asked before it sees them, and after.
//!
//! ```toml
//! [[delivery]]
//! to = "nginx@*"
//! owner = "root:www-data"
//! check = "nginx-check"
//! reload = "nginx-reload"
//! [[delivery.file]]
//! name = "tls.pem"
//! secrets = ["tls.crt", "tls.key"]
//! mode = "0440"
//! ```
//! A hook is named here and defined on the machine, by whoever owns that: a policy runs no program of its own choice
//! (docs/decisions/0095-hooks-of-deliveries-are-the-machines-own.md).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::limits::{DELIVERY_FILES_MAX, DELIVERY_PARTS_MAX};
use crate::name::{Address, Glob, Label, MemberName};
use crate::time::Span;
use crate::words::{serde_by_text, words};

/// What members that match get on their machines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// To whom: PoPs and services, by name or pattern.
    pub to: Glob,
    /// The directory below the agent's own [default: the service's name, or the PoP's].
    pub directory: Option<Label>,
    /// Whose the files are [default: whoever runs the agent].
    pub owner: Option<Account>,
    /// What looks at a generation before anybody else can see it.
    pub check: Option<Label>,
    /// What makes the service read a new generation.
    pub reload: Option<Label>,
    /// What finds out whether the service really uses it.
    pub verify: Option<Label>,
    /// The systemd unit that gets the files as credentials, by a socket, without a file of its own.
    pub unit: Option<Unit>,
    /// The files.
    #[serde(default, rename = "file")]
    pub files: Vec<FileRule>,
}

/// One file of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// Its name.
    pub name: String,
    /// What is in it: secrets, one after the other.
    pub secrets: Vec<Source>,
    /// Who may read it.
    #[serde(default)]
    pub mode: FileMode,
    /// How long after it was sealed a value has expired [default: never].
    pub expires: Option<Span>,
    /// What happens then.
    #[serde(default)]
    pub on_expiry: OnExpiry,
}

words! {
    /// What happens with an expired value.
    OnExpiry, "what happens on expiry":
    /// It goes on being served, and is complained of.
    Serve = "serve",
    /// Its file is taken away.
    Stop = "stop",
}

#[expect(clippy::derivable_impls, reason = "the words' macro has no place for an attribute on a variant")]
impl Default for OnExpiry {
    fn default() -> Self {
        Self::Serve
    }
}

/// The permission bits of a delivered file: the owner reads, perhaps writes; the group may read; nobody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileMode(u32);

impl FileMode {
    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether the group may read it.
    pub fn is_for_group(self) -> bool {
        self.0 & 0o040 != 0
    }
}

impl Default for FileMode {
    fn default() -> Self {
        Self(0o400)
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for FileMode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "0400" => Ok(Self(0o400)),
            "0440" => Ok(Self(0o440)),
            "0600" => Ok(Self(0o600)),
            "0640" => Ok(Self(0o640)),
            _ => Err(format!("'{}' is none of 0400, 0440, 0600, 0640: only owner and group read secrets", shown(text))),
        }
    }
}

fn shown(text: &str) -> String {
    crate::text::Shown { text, max: 80 }.to_string()
}

/// A user of the machine and, after a colon, a group [default: the user's own].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// The user's name or number.
    pub user: String,
    /// The group's.
    pub group: Option<String>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => f.write_str(&self.user),
        }
    }
}

impl FromStr for Account {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let is_name = |name: &str| {
            (1..=32).contains(&name.len())
                && !name.starts_with('-')
                && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        };
        if is_name(user) && group.is_none_or(is_name) {
            return Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) });
        }
        Err(format!("'{}' is no USER or USER:GROUP of a-z, 0-9, '_' and '-'", shown(text)))
    }
}

/// A secret that goes into a file: the service's own by its name, another by its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `tls.key`: the member's own of that name.
    Own(String),
    /// `nginx@*/api-token`.
    At(Address),
}

impl Source {
    /// Its address, for `member`.
    pub fn address(&self, member: &MemberName) -> Option<Address> {
        match self {
            Self::Own(name) => format!("{member}/{name}").parse().ok(),
            Self::At(address) => Some(address.clone()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(name) => f.write_str(name),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

impl FromStr for Source {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return text.parse().map(Self::At).map_err(|e: crate::name::NameError| e.to_string());
        }
        // What is a name of one member's is one of any other's.
        format!("x/{text}").parse::<Address>().map_err(|e| e.to_string())?;
        Ok(Self::Own(text.to_owned()))
    }
}

/// A systemd service's name: `nginx.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit(String);

impl Unit {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Unit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix(".service").unwrap_or_default();
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'@' | b'.');
        if (1..=200).contains(&name.len()) && name.bytes().all(is_letter) && !name.starts_with(['.', '-']) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("'{}' is no systemd service, such as nginx.service", shown(text)))
    }
}

serde_by_text!(FileMode, Account, Source, Unit);

/// Whether a delivered file, or a credential, may have this name.
///
/// # Errors
/// What is wrong with it.
pub fn check_file_name(name: &str) -> Result<(), String> {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(is_letter) && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(format!(
        "'{}' is no file name of 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-' that begins with neither mark",
        shown(name)
    ))
}

impl Delivery {
    /// The directory for `member`: the one that is given, else its own name.
    pub fn directory_of(&self, member: &MemberName) -> Label {
        let own = member.service_label().unwrap_or(member.host_label());
        self.directory.as_ref().unwrap_or(own).clone()
    }

    /// What is wrong with it, if anything is.
    pub(super) fn problem(&self) -> Option<String> {
        if self.files.is_empty() || self.files.len() > DELIVERY_FILES_MAX {
            return Some(format!("it has {} files; a delivery has 1 to {DELIVERY_FILES_MAX}", self.files.len()));
        }
        let mut names = BTreeSet::new();
        for file in &self.files {
            if let Err(problem) = check_file_name(&file.name) {
                return Some(problem);
            }
            if !names.insert(&file.name) {
                return Some(format!("two files are called {}", file.name));
            }
            if file.secrets.is_empty() || file.secrets.len() > DELIVERY_PARTS_MAX {
                return Some(format!(
                    "{} is made of {} secrets; a file is made of 1 to {DELIVERY_PARTS_MAX}",
                    file.name,
                    file.secrets.len()
                ));
            }
            if file.on_expiry == OnExpiry::Stop && file.expires.is_none() {
                return Some(format!("{} has on_expiry = \"stop\", and no expires", file.name));
            }
        }
        match &self.owner {
            Some(Account { group: None, .. }) | None if self.files.iter().any(|f| f.mode.is_for_group()) => {
                Some("a file is for a group, and owner names none: owner = \"USER:GROUP\"".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::SecretsPolicy;

    fn delivery(keys: &str, file: &str) -> Result<super::Delivery, String> {
        let text = format!("[recovery]\noperators = []\n[[delivery]]\n{keys}\n[[delivery.file]]\n{file}\n");
        SecretsPolicy::parse(&text).map(|p| p.deliveries[0].clone()).map_err(|e| e.to_string())
    }

    const FILE: &str = "name = \"tls.pem\"\nsecrets = [\"tls.crt\", \"nginx@*/chain\"]";

    #[test]
    fn sources_are_own_names_or_addresses() {
        let found = delivery("to = \"nginx@*\"", FILE).unwrap();
        let member = "nginx@fra1".parse().unwrap();
        let addresses: Vec<String> =
            found.files[0].secrets.iter().filter_map(|s| Some(s.address(&member)?.to_string())).collect();
        assert_eq!(addresses, ["nginx@fra1/tls.crt", "nginx@*/chain"]);
        assert_eq!(found.directory_of(&member).as_str(), "nginx");
        assert_eq!(found.directory_of(&"fra1".parse().unwrap()).as_str(), "fra1");
        assert_eq!(found.files[0].mode.to_string(), "0400");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (keys, file, part) in [
            ("to = \"nginx@*\"", "name = \"../x\"\nsecrets = [\"a\"]", "no file name"),
            ("to = \"nginx@*\"", "name = \".x\"\nsecrets = [\"a\"]", "no file name"),
            ("to = \"nginx@*\"", "name = \"x\"\nsecrets = []", "made of 0 secrets"),
            ("to = \"nginx@*\"", "name = \"x\"\nsecrets = [\"A\"]", "A"),
            ("to = \"nginx@*\"", "name = \"x\"\nsecrets = [\"a\"]\nmode = \"0644\"", "only owner and group"),
            ("to = \"nginx@*\"", "name = \"x\"\nsecrets = [\"a\"]\nmode = \"0440\"", "owner names none"),
            ("to = \"nginx@*\"", "name = \"x\"\nsecrets = [\"a\"]\non_expiry = \"stop\"", "no expires"),
            ("to = \"nginx@*\"", "name = \"x\"\nsecrets = [\"a\"]\non_expiry = \"stp\"", "did you mean 'stop'"),
            ("to = \"nginx@*\"\nowner = \"a b\"", "name = \"x\"\nsecrets = [\"a\"]", "no USER"),
            ("to = \"nginx@*\"\nunit = \"nginx\"", "name = \"x\"\nsecrets = [\"a\"]", "no systemd service"),
            ("to = \"nginx@*\"\ncheck = \"/bin/sh\"", "name = \"x\"\nsecrets = [\"a\"]", "/bin/sh"),
            (
                "to = \"nginx@*\"",
                "name = \"x\"\nsecrets = [\"a\"]\n[[delivery.file]]\nname = \"x\"\nsecrets = [\"b\"]",
                "two files are called x",
            ),
        ] {
            let e = delivery(keys, file).unwrap_err();
            assert!(e.contains(part), "{keys} {file}: {e}");
        }
        let text = "[recovery]\noperators = []\n[[delivery]]\nto = \"nginx@*\"\n";
        assert!(SecretsPolicy::parse(text).unwrap_err().to_string().contains("it has 0 files"));
    }
}
