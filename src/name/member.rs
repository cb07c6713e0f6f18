//! Fleet names, labels, member names, kinds of members and slots.

use std::fmt;
use std::str::FromStr;

use super::{NameError, check};
use crate::words::words;

/// A DNS label (RFC 1123) in lower case: 1 to 63 of `a-z 0-9 -`, no hyphen at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(what: &'static str, text: &str) -> Result<Self, NameError> {
        check(what, text, 63, "a-z, 0-9 and '-'", |c| matches!(c, 'a'..='z' | '0'..='9' | '-'))?;
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Shape { what, text: text.to_owned(), problem: "begins or ends with a hyphen" });
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Label {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse("a name", text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fleet's name: a DNS domain of at least two labels, `cdn.example`, at most 120 characters so that user ids and
/// notation names built from it stay within their bounds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetName(String);

impl FleetName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FleetName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "a fleet name";
        check(WHAT, text, 120, "a-z, 0-9, '-' and '.'", |c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'))?;
        let shape = |problem| NameError::Shape { what: WHAT, text: text.to_owned(), problem };
        if !text.contains('.') {
            return Err(shape("is not a domain; give one of at least two labels, for example 'cdn.example'"));
        }
        for label in text.split('.') {
            if label.is_empty() {
                return Err(shape("has an empty label (two dots in a row, or one at an end)"));
            }
            Label::parse(WHAT, label)?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FleetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A member's name: a label (`alice`, `casc1`, `fra1`) or, for a service on a PoP, two (`nginx@fra1`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName {
    service: Option<Label>,
    host: Label,
}

impl MemberName {
    /// The name of `service` on `pop`.
    pub fn service(service: Label, pop: Label) -> Self {
        Self { service: Some(service), host: pop }
    }

    /// Whether this is a service's name.
    pub fn is_service(&self) -> bool {
        self.service.is_some()
    }

    /// The service's label: `nginx` of `nginx@fra1`.
    pub fn service_label(&self) -> Option<&Label> {
        self.service.as_ref()
    }

    /// The label of the machine or person: `fra1` of `fra1` and of `nginx@fra1`.
    pub fn host_label(&self) -> &Label {
        &self.host
    }

    /// The member that answers for this one: the PoP of a service, else the member itself.
    pub fn owner(&self) -> Self {
        Self { service: None, host: self.host.clone() }
    }

    /// The OpenPGP user id: `alice <alice@ops.cdn.example>`, `PoP fra1 <pop@fra1.cdn.example>`,
    /// `nginx@fra1 <nginx@fra1.cdn.example>`, `CasC casc1 <casc1@casc.cdn.example>`.
    pub fn user_id(&self, kind: Kind, fleet: &FleetName) -> String {
        let (text, host) = (self, &self.host);
        match kind {
            Kind::Operator => format!("{text} <{host}@ops.{fleet}>"),
            Kind::Authority => format!("CasC {text} <{host}@casc.{fleet}>"),
            Kind::Pop => format!("PoP {text} <pop@{host}.{fleet}>"),
            Kind::Service => format!("{text} <{text}.{fleet}>"),
        }
    }
}

impl From<Label> for MemberName {
    fn from(host: Label) -> Self {
        Self { service: None, host }
    }
}

impl FromStr for MemberName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "a member name";
        match text.split_once('@') {
            None => Ok(Label::parse(WHAT, text)?.into()),
            Some((service, pop)) => {
                Ok(Self::service(Label::parse("a service name", service)?, Label::parse("a PoP name", pop)?))
            }
        }
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{service}@{}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

words! {
    /// What sort of member it is.
    Kind, "a kind of member":
    /// A person who approves.
    Operator = "operator",
    /// A config-as-code server: certifies, signs the log, holds the SSH CAs.
    Authority = "authority",
    /// A site: makes its own keys, answers for its services.
    Pop = "pop",
    /// A service on a PoP.
    Service = "service",
}

words! {
    /// What guards the private halves of a machine at rest, the weakest first.
    #[derive(Default)]
    Protection, "a kind of protection":
    /// Files that only their owner reads.
    #[default]
    File = "file",
    /// Beside that a key which only this installation of the machine has (`systemd-creds`).
    Host = "host",
    /// Beside that a key which only the machine's TPM has.
    Tpm2 = "tpm2",
}

impl Protection {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn is_file(&self) -> bool {
        *self == Self::File
    }
}

words! {
    /// One purpose of one member's keys.
    Slot, "a slot":
    /// OpenPGP encryption subkeys.
    Openpgp = "openpgp",
    /// OpenPGP subkeys that sign statements.
    Sign = "sign",
    /// WireGuard keys, one a lane.
    Wireguard = "wireguard",
    /// SSH host keys.
    SshHost = "ssh-host",
    /// The CA that signs users' SSH certificates.
    SshUserCa = "ssh-user-ca",
    /// The CA that signs hosts' SSH certificates.
    SshHostCa = "ssh-host-ca",
    /// The key that signs checkpoints.
    Log = "log",
}

impl Slot {
    /// The slots a member of `kind` has.
    pub fn of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Operator => &[Self::Openpgp, Self::Sign],
            Kind::Authority => &[Self::Sign, Self::SshUserCa, Self::SshHostCa, Self::Log],
            Kind::Pop => &[Self::Openpgp, Self::Sign, Self::Wireguard, Self::SshHost],
            Kind::Service => &[Self::Openpgp],
        }
    }

    /// Whether the slot's keys are subkeys of the member's OpenPGP certificate.
    pub fn is_openpgp(self) -> bool {
        match self {
            Self::Openpgp | Self::Sign => true,
            Self::Wireguard | Self::SshHost | Self::SshUserCa | Self::SshHostCa | Self::Log => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_what_they_write() {
        for text in ["alice", "fra1", "nginx@fra1", "a", "0", "x-1"] {
            assert_eq!(text.parse::<MemberName>().map(|n| n.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        for text in [
            "",
            "Fra1",
            "fra/1",
            "..",
            "../fra1",
            "fra1\n",
            "fra\u{202e}1",
            "-a",
            "a-",
            "a@b@c",
            "@fra1",
            "nginx@",
            "fra1.",
            "frä",
            &long,
            "a b",
            "a\0",
        ] {
            assert!(text.parse::<MemberName>().is_err(), "{text:?}");
        }
        for text in ["", "cdn", "cdn..example", ".cdn.example", "cdn.example.", "CDN.example", "cdn.exa mple", "-a.b"] {
            assert!(text.parse::<FleetName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn messages_say_what_to_write_instead() {
        let wrong = "Fra1".parse::<MemberName>().map_err(|e| e.to_string());
        assert_eq!(
            wrong,
            Err("a member name 'Fra1' has an upper-case letter; names are lower case: 'fra1'".to_owned())
        );
        let wrong = "fra\u{202e}1".parse::<MemberName>().map_err(|e| e.to_string());
        assert!(
            wrong
                .is_err_and(|e| e.contains("an invisible character (U+202E) at position 4") && !e.contains('\u{202e}'))
        );
        assert!("wiregaurd".parse::<Slot>().is_err_and(|e| e.ends_with("did you mean 'wireguard'?")));
    }

    #[test]
    fn user_ids_name_the_member_and_its_zone() {
        let (Ok(fleet), Ok(nginx), Ok(fra1)) =
            ("cdn.example".parse(), "nginx@fra1".parse::<MemberName>(), "fra1".parse::<MemberName>())
        else {
            panic!("good names")
        };
        assert_eq!(nginx.user_id(Kind::Service, &fleet), "nginx@fra1 <nginx@fra1.cdn.example>");
        assert_eq!(fra1.user_id(Kind::Pop, &fleet), "PoP fra1 <pop@fra1.cdn.example>");
        assert_eq!(nginx.owner(), fra1);
    }
}
