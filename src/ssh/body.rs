//! What an SSH certificate says, apart from its serial: checked once, then signed as it stands.
//!
//! ```json
//! {"ca":"ssh-ed25519 AAAA…","critical_options":{},"extensions":["permit-pty"],"key_id":"alice","kind":"user",
//!  "nonce":"5f1c…","principals":["deploy:fra1"],"subject":"ssh-ed25519 AAAA…","valid_after":"2026-11-21T06:55:00Z",
//!  "valid_before":"2026-11-21T23:00:00Z"}
//! ```
//! The body is part of a statement, which the log takes in before anything is signed. The log's answer gives the serial;
//! the bytes that the CA signs follow from body and serial alone, so anyone with the log can say what they must be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::key::{KeyAlgorithm, SshPublicKey};
use super::names::{KeyId, Principal};
use crate::cidr::AnyCidr;
use crate::limits::{SSH_LIFETIME_DAYS_MAX, SSH_OPTION_BYTES_MAX, SSH_PRINCIPALS_MAX};
use crate::text;
use crate::time::{LATEST, Span, Time};

/// The critical option that fixes the command.
pub const FORCE_COMMAND: &str = "force-command";
/// The critical option that names the networks a login may come from.
pub const SOURCE_ADDRESS: &str = "source-address";
/// The critical option that demands a PIN or a fingerprint at the FIDO token.
pub const VERIFY_REQUIRED: &str = "verify-required";
/// The extensions that a user's SSH certificate may have. Not among them is `no-touch-required`, which weakens a token.
pub const EXTENSIONS: [&str; 5] =
    ["permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];

/// Why a body cannot be that of an SSH certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// A CA of an algorithm that takes more than it gives: its signature would have to be asked for in a form of its own.
    #[error("the CA's key is {0}; a CA here is ssh-ed25519 or ecdsa-sha2-nistp256, on a token or not")]
    CaAlgorithm(&'static str),
    /// A host key that is not Ed25519.
    #[error("the host's key is {0}; a host here has ssh-ed25519")]
    HostAlgorithm(&'static str),
    /// The CA certifies itself.
    #[error("subject and CA are one key")]
    SelfSigned,
    /// A principal of the other kind.
    #[error("'{principal}' is not a principal of a {kind}")]
    Principal {
        /// The principal.
        principal: Principal,
        /// The certificate's kind.
        kind: CertificateKind,
    },
    /// No principal, which OpenSSH before 10.3 can take for all of them, or too many.
    #[error("has {count} principals; 1 to {SSH_PRINCIPALS_MAX} are needed")]
    PrincipalCount {
        /// How many.
        count: usize,
    },
    /// It ends before it begins, or later than can be written.
    #[error("is valid from {after} to {before}, which is no span of time before 2106")]
    Validity {
        /// Its beginning.
        after: Time,
        /// Its end.
        before: Time,
    },
    /// It would live too long.
    #[error("would live {}; at most {SSH_LIFETIME_DAYS_MAX} days are allowed", crate::time::rough(*lifetime))]
    Lifetime {
        /// How long.
        lifetime: Span,
    },
    /// Options or extensions in a host's certificate, which knows none.
    #[error("a host's SSH certificate has neither critical options nor extensions")]
    HostOptions,
    /// A critical option that is not known: `sshd` would refuse the login, other software might not.
    #[error("has the critical option '{0}'; known are force-command, source-address and verify-required")]
    Option(String),
    /// A critical option with an impossible value.
    #[error("the critical option {option} {problem}")]
    OptionValue {
        /// Its name.
        option: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// An extension that is not known.
    #[error("has the extension '{0}'; known are {known}", known = EXTENSIONS.join(", "))]
    Extension(String),
}

/// Whom it identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateKind {
    /// A user: type 1 on the wire.
    User,
    /// A host: type 2 on the wire.
    Host,
}

impl fmt::Display for CertificateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::User => "user",
            Self::Host => "host",
        })
    }
}

/// A serial: the index of the log entry that ordered the certificate, plus 1. Never 0, which OpenSSH cannot revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(NonZeroU64);

impl Serial {
    /// The serial of what the log entry of `index` orders.
    pub fn of_entry(index: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(index))
    }

    /// `serial`, unless it is 0.
    pub fn new(serial: u64) -> Option<Self> {
        NonZeroU64::new(serial).map(Self)
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 32 random bytes that keep the bytes to be signed unpredictable; written in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub [u8; 32]);

impl Nonce {
    /// Draws one.
    pub fn random(rng: &mut impl rand::CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text::hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = text::unhex(&String::deserialize(deserializer)?).and_then(|b| b.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("expected 64 lower-case hexadecimal digits"))
    }
}

/// The fields of a body, not yet checked together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFields {
    /// Whom it identifies.
    pub kind: CertificateKind,
    /// Who signs.
    pub ca: SshPublicKey,
    /// Whose key it is for.
    pub subject: SshPublicKey,
    /// What `sshd` logs.
    pub key_id: KeyId,
    /// Whom it speaks for.
    pub principals: BTreeSet<Principal>,
    /// Its first second.
    pub valid_after: Time,
    /// The first second at which it is no longer valid.
    pub valid_before: Time,
    /// Name and value of what `sshd` has to obey; users only.
    pub critical_options: BTreeMap<String, String>,
    /// What the session may do, from [`EXTENSIONS`]; users only.
    pub extensions: BTreeSet<String>,
    /// Random bytes.
    pub nonce: Nonce,
}

/// A checked body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CertificateFields", into = "CertificateFields")]
pub struct CertificateBody(CertificateFields);

impl CertificateBody {
    /// Checks `fields` together.
    ///
    /// # Errors
    /// [`BodyError`], for the first thing that is wrong.
    pub fn new(fields: CertificateFields) -> Result<Self, BodyError> {
        check_keys(&fields)?;
        check_principals(&fields)?;
        check_validity(fields.valid_after, fields.valid_before)?;
        match fields.kind {
            CertificateKind::Host if !fields.critical_options.is_empty() || !fields.extensions.is_empty() => {
                return Err(BodyError::HostOptions);
            }
            CertificateKind::Host | CertificateKind::User => {}
        }
        fields.critical_options.iter().try_for_each(|(name, value)| check_option(name, value))?;
        match fields.extensions.iter().find(|e| !EXTENSIONS.contains(&e.as_str())) {
            Some(unknown) => Err(BodyError::Extension(text::shown(unknown).to_string())),
            None => Ok(Self(fields)),
        }
    }

    /// What it says.
    pub fn fields(&self) -> &CertificateFields {
        &self.0
    }
}

impl TryFrom<CertificateFields> for CertificateBody {
    type Error = BodyError;
    fn try_from(fields: CertificateFields) -> Result<Self, BodyError> {
        Self::new(fields)
    }
}

impl From<CertificateBody> for CertificateFields {
    fn from(body: CertificateBody) -> Self {
        body.0
    }
}

fn check_keys(fields: &CertificateFields) -> Result<(), BodyError> {
    if fields.ca.algorithm() == KeyAlgorithm::Rsa {
        return Err(BodyError::CaAlgorithm(fields.ca.algorithm().name()));
    }
    if fields.ca == fields.subject {
        return Err(BodyError::SelfSigned);
    }
    match fields.kind {
        CertificateKind::Host if fields.subject.algorithm() != KeyAlgorithm::Ed25519 => {
            Err(BodyError::HostAlgorithm(fields.subject.algorithm().name()))
        }
        CertificateKind::Host | CertificateKind::User => Ok(()),
    }
}

fn check_principals(fields: &CertificateFields) -> Result<(), BodyError> {
    let count = fields.principals.len();
    if !(1..=SSH_PRINCIPALS_MAX).contains(&count) {
        return Err(BodyError::PrincipalCount { count });
    }
    let rule = match fields.kind {
        CertificateKind::User => Principal::user,
        CertificateKind::Host => Principal::host,
    };
    match fields.principals.iter().find(|p| rule(p.as_str()).is_err()) {
        Some(principal) => Err(BodyError::Principal { principal: principal.clone(), kind: fields.kind }),
        None => Ok(()),
    }
}

fn check_validity(after: Time, before: Time) -> Result<(), BodyError> {
    if after >= before || before > LATEST {
        return Err(BodyError::Validity { after, before });
    }
    let lifetime = before.since(after);
    if lifetime > Span::days(SSH_LIFETIME_DAYS_MAX) { Err(BodyError::Lifetime { lifetime }) } else { Ok(()) }
}

fn check_option(name: &str, value: &str) -> Result<(), BodyError> {
    let known = [FORCE_COMMAND, SOURCE_ADDRESS, VERIFY_REQUIRED].into_iter().find(|known| *known == name);
    let option = known.ok_or_else(|| BodyError::Option(text::shown(name).to_string()))?;
    let wrong = |problem: String| Err(BodyError::OptionValue { option, problem });
    if value.len() > SSH_OPTION_BYTES_MAX || !value.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return wrong("has a value that is too long or not printable ASCII".to_owned());
    }
    match option {
        FORCE_COMMAND if value.trim().is_empty() => wrong("has no command".to_owned()),
        SOURCE_ADDRESS => value.split(',').try_for_each(|network| match network.parse::<AnyCidr>() {
            Ok(_) => Ok(()),
            Err(e) => wrong(format!("has a bad entry: {e}")),
        }),
        VERIFY_REQUIRED if !value.is_empty() => wrong("takes no value".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::json;

    fn refused(change: impl FnOnce(&mut CertificateFields)) -> BodyError {
        let mut fields = sample::user_fields();
        change(&mut fields);
        CertificateBody::new(fields).expect_err("a bad body")
    }

    #[test]
    fn bodies_fit_canonical_json() {
        for fields in [sample::user_fields(), sample::host_fields()] {
            let body = CertificateBody::new(fields).expect("a good body");
            let text = json::to_canonical(&body);
            assert_eq!(json::parse_as::<CertificateBody>(text.as_bytes()).ok(), Some(body));
            for wrong in [
                text.replace("\"key_id\"", "\"key_ie\""),
                text.replace("\"nonce\":\"", "\"nonce\":\"0"),
                text.replace("\"kind\":\"", "\"kind\":\"x"),
                text.replacen("ssh-ed25519 ", "ssh-ed25519-cert-v01@openssh.com ", 1),
                text.replace('}', ",\"zone\":1}"),
                text.replace("\"principals\":[", "\"principals\":[\"*\","),
            ] {
                assert_ne!(wrong, text);
                assert!(json::parse_as::<CertificateBody>(wrong.as_bytes()).is_err(), "{wrong}");
            }
        }
    }

    #[test]
    fn principals_are_counted_and_of_the_right_kind() {
        assert_eq!(refused(|f| f.principals.clear()), BodyError::PrincipalCount { count: 0 });
        let many = |n: usize| (0..n).map(|i| Principal::user(&format!("p{i}")).expect("good")).collect();
        assert_eq!(refused(|f| f.principals = many(257)), BodyError::PrincipalCount { count: 257 });
        let mut fields = sample::user_fields();
        fields.principals = many(256);
        assert!(CertificateBody::new(fields).is_ok());
        let address = || Principal::host("10.0.0.1").expect("good");
        assert!(matches!(refused(|f| f.principals = [address()].into()), BodyError::Principal { .. }));
        let mut host = sample::host_fields();
        host.principals.insert(Principal::user("deploy:fra1").expect("good"));
        assert!(matches!(CertificateBody::new(host), Err(BodyError::Principal { .. })));
    }

    #[test]
    fn keys_of_the_wrong_kind_are_refused() {
        let token = sample::token_key();
        assert_eq!(refused(|f| f.ca = sample::rsa_key()), BodyError::CaAlgorithm("ssh-rsa"));
        let by_token = CertificateFields { ca: token.clone(), ..sample::user_fields() };
        assert!(CertificateBody::new(by_token).is_ok(), "a CA may lie on a token");
        assert_eq!(refused(|f| f.ca = f.subject.clone()), BodyError::SelfSigned);
        let mut host = sample::host_fields();
        host.subject = token.clone();
        assert_eq!(CertificateBody::new(host), Err(BodyError::HostAlgorithm("sk-ssh-ed25519@openssh.com")));
        let mut user = sample::user_fields();
        user.subject = token;
        assert!(CertificateBody::new(user).is_ok());
    }

    #[test]
    fn time_has_a_beginning_and_a_near_end() {
        assert!(matches!(refused(|f| f.valid_before = f.valid_after), BodyError::Validity { .. }));
        assert!(matches!(refused(|f| f.valid_before = Time(u64::MAX)), BodyError::Validity { .. }));
        let years = |days| move |f: &mut CertificateFields| f.valid_before = f.valid_after.plus(Span::days(days));
        assert!(matches!(refused(years(3_654)), BodyError::Lifetime { .. }));
        let mut fields = sample::user_fields();
        years(3_653)(&mut fields);
        assert!(CertificateBody::new(fields).is_ok());
    }

    #[test]
    fn options_and_extensions_are_known_ones() {
        let option = |name: &str, value: &str| {
            let mut fields = sample::user_fields();
            fields.critical_options = [(name.to_owned(), value.to_owned())].into();
            CertificateBody::new(fields)
        };
        for (name, value) in [
            (FORCE_COMMAND, "/usr/bin/deploy --pop fra1"),
            (SOURCE_ADDRESS, "2001:db8::/32,10.0.0.0/8"),
            (VERIFY_REQUIRED, ""),
        ] {
            assert!(option(name, value).is_ok(), "{name}");
        }
        for (name, value) in [
            (FORCE_COMMAND, ""),
            (FORCE_COMMAND, "a\nb"),
            (SOURCE_ADDRESS, ""),
            (SOURCE_ADDRESS, "10.0.0.1/8"),
            (SOURCE_ADDRESS, "10.0.0.0/8, ::/0"),
            (VERIFY_REQUIRED, "yes"),
            ("permit-pty", ""),
            ("x@example.com", ""),
            ("", ""),
        ] {
            assert!(option(name, value).is_err(), "{name} {value:?}");
        }
        assert!(option(FORCE_COMMAND, &"x".repeat(SSH_OPTION_BYTES_MAX + 1)).is_err());
        for name in ["no-touch-required", "permit-PTY", "", "log-proof@keys"] {
            assert!(matches!(refused(|f| f.extensions = [name.into()].into()), BodyError::Extension(_)), "{name}");
        }
        let mut host = sample::host_fields();
        host.extensions.insert("permit-pty".into());
        assert_eq!(CertificateBody::new(host), Err(BodyError::HostOptions));
    }

    #[test]
    fn a_serial_is_never_zero() {
        assert_eq!(Serial::new(0), None);
        assert_eq!(Serial::of_entry(0).number(), 1);
        assert_eq!(Serial::of_entry(u64::MAX).number(), u64::MAX);
    }
}
