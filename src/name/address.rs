//! Addresses of secrets, and where their files lie.

use std::fmt;
use std::str::FromStr;

use super::{Label, MemberName, NameError, check};
use crate::digest::Digest;

/// Whose secret it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One member: `nginx@fra1/…`, `fra1/…`.
    Member(MemberName),
    /// The service of that name on every PoP: `nginx@*/…`.
    SharedService(Label),
    /// Every PoP: `*/…`.
    Shared,
}

/// A secret's address: `nginx@fra1/tls.key`, `fra1/registry-token`, shared `nginx@*/api-token` or `*/ntp-key`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    scope: Scope,
    name: String,
}

impl Address {
    /// Whose it is.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The secret's own name: `tls.key`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is shared between PoPs, which the policy has to declare.
    pub fn is_shared(&self) -> bool {
        match self.scope {
            Scope::Member(_) => false,
            Scope::SharedService(_) | Scope::Shared => true,
        }
    }

    /// The file below `keyring/`: `sealed/fra1/nginx/tls.key.pgp`, `sealed/_shared/nginx/api-token.pgp`. A label holds
    /// neither `.` nor `_`, so no two addresses have one path.
    pub fn path(&self) -> String {
        let name = &self.name;
        match &self.scope {
            Scope::Member(member) => match member.service_label() {
                Some(service) => format!("sealed/{}/{service}/{name}.pgp", member.host_label()),
                None => format!("sealed/{member}/{name}.pgp"),
            },
            Scope::SharedService(service) => format!("sealed/_shared/{service}/{name}.pgp"),
            Scope::Shared => format!("sealed/_shared/{name}.pgp"),
        }
    }

    /// The file of a part of a large value, beside that: `sealed/fra1/db/dump.parts/<64 digits>`. No sealed file lies so deep
    /// without the ending `.pgp`, and no part has it.
    pub fn part_path(&self, part: &Digest) -> String {
        format!("{}/{part}", self.parts_directory())
    }

    /// Where the parts of a large value lie.
    pub fn parts_directory(&self) -> String {
        let path = self.path();
        format!("{}.parts", path.strip_suffix(".pgp").unwrap_or(&path))
    }

    /// The address and the part whose file `path` would be; the inverse of [`Address::part_path`].
    pub fn part_from_path(path: &str) -> Option<(Self, Digest)> {
        let (directory, name) = path.rsplit_once('/')?;
        let address = Self::from_path(&format!("{}.pgp", directory.strip_suffix(".parts")?))?;
        let part = Digest::parse(name)?;
        (address.part_path(&part) == path).then_some((address, part))
    }

    /// The address whose file `path` would be; the inverse of [`Address::path`].
    pub fn from_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("sealed/")?.strip_suffix(".pgp")?;
        let address = match *rest.split('/').collect::<Vec<_>>() {
            ["_shared", name] => format!("*/{name}"),
            ["_shared", service, name] => format!("{service}@*/{name}"),
            [pop, name] => format!("{pop}/{name}"),
            [pop, service, name] => format!("{service}@{pop}/{name}"),
            _ => return None,
        };
        address.parse().ok().filter(|a: &Self| a.path() == path)
    }
}

impl FromStr for Address {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "a secret's address";
        let shape =
            |problem| NameError::Shape { what: WHAT, text: crate::text::Shown { text, max: 80 }.to_string(), problem };
        let Some((owner, name)) = text.split_once('/') else {
            return Err(shape("has no '/': write OWNER/NAME, for example 'nginx@fra1/tls.key'"));
        };
        check(
            "a secret's name",
            name,
            64,
            "a-z, 0-9, '.', '_' and '-'",
            |c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-'),
        )?;
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || name.ends_with('.') || name.contains("..") {
            return Err(shape("has a name that begins with a mark, ends with a dot or holds '..'"));
        }
        let scope = match owner.strip_suffix("@*") {
            Some(service) => Scope::SharedService(service.parse()?),
            None if owner == "*" => Scope::Shared,
            None => Scope::Member(owner.parse()?),
        };
        Ok(Self { scope, name: name.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Member(member) => write!(f, "{member}/{}", self.name),
            Scope::SharedService(service) => write!(f, "{service}@*/{}", self.name),
            Scope::Shared => write!(f, "*/{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paths_are_one_to_one() {
        for (text, path) in [
            ("nginx@fra1/tls.key", "sealed/fra1/nginx/tls.key.pgp"),
            ("fra1/registry-token", "sealed/fra1/registry-token.pgp"),
            ("nginx@*/api-token", "sealed/_shared/nginx/api-token.pgp"),
            ("*/ntp-key", "sealed/_shared/ntp-key.pgp"),
            ("fra1/nginx.pgp", "sealed/fra1/nginx.pgp.pgp"),
        ] {
            let address: Address = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((address.to_string().as_str(), address.path().as_str()), (text, path));
            assert_eq!(Address::from_path(path), Some(address));
        }
        for path in [
            "sealed/fra1/a/b/c.pgp",
            "sealed/../x.pgp",
            "sealed/FRA1/x.pgp",
            "certs/x.pgp",
            "sealed/fra1/.pgp",
            "sealed/fra1/x",
        ] {
            assert_eq!(Address::from_path(path), None, "{path}");
        }
    }

    #[test]
    fn parts_lie_beside_their_file_and_nowhere_else() {
        let part = Digest::of(b"a part");
        for text in ["nginx@fra1/tls.key", "fra1/dump", "nginx@*/x.parts", "*/a.pgp"] {
            let address: Address = text.parse().unwrap();
            let path = address.part_path(&part);
            assert_eq!(Address::part_from_path(&path), Some((address.clone(), part)), "{path}");
            assert_eq!(Address::from_path(&path), None, "{path}");
            assert_eq!(Address::part_from_path(&address.path()), None);
        }
        let address: Address = "fra1/dump".parse().unwrap();
        assert_eq!(address.part_path(&part), format!("sealed/fra1/dump.parts/{part}"));
        for path in [
            format!("sealed/fra1/dump/{part}"),
            format!("sealed/fra1/dump.parts/{}", part.to_string().to_uppercase()),
            format!("sealed/fra1/dump.parts/{part}.pgp"),
            format!("sealed/../dump.parts/{part}"),
            format!("sealed/fra1/.parts/{part}"),
            "sealed/fra1/dump.parts/1".to_owned(),
        ] {
            assert_eq!(Address::part_from_path(&path), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "x",
            "/x",
            "fra1/",
            "fra1/../x",
            "fra1/a/b",
            "fra1/.x",
            "fra1/x.",
            "fra1/X",
            "fra1/x\n",
            "nginx@fra*/x",
            "**/x",
            "fra1/a..b",
            "fra1//x",
            "fra1/\u{202e}x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
