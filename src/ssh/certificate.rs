//! SSH certificates (OpenSSH's PROTOCOL.certkeys), ours and others'.
//!
//! ```text
//! ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAI…
//! ```
//! On the wire: name, nonce, the subject's key fields, serial, type, key id, principals, valid after, valid before,
//! critical options, extensions, reserved, CA key, signature. The signature covers all before it. What others issue is
//! read too, "forever" included, but not a certificate that names nobody.

use std::collections::BTreeMap;

use super::body::CertificateKind;
use super::key::{KeyError, SshPublicKey, fingerprint};
use super::private::SignError;
use super::wire::{Line, Malformed, Put as _, Reader};
use crate::limits::SSH_PRINCIPALS_MAX;
use crate::text::shown;
use crate::time::Time;

const CERTIFICATE_SUFFIX: &str = "-cert-v01@openssh.com";

/// Why an SSH certificate is not issued, not readable, or not the expected one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not an SSH certificate in OpenSSH's format.
    #[error("is not an SSH certificate: {0}")]
    Format(&'static str),
    /// For a key of an algorithm that is not known.
    #[error("has the algorithm '{0}', which is not known")]
    Algorithm(String),
    /// Names no principal, which OpenSSH before 10.3 can take for all of them (CVE-2024-7594).
    #[error("names no principals, or more than {SSH_PRINCIPALS_MAX}, or an empty one")]
    Principals,
    /// The CA at hand is not the one the body names.
    #[error("the CA is {found}, the statement wants {expected}")]
    WrongCa {
        /// The fingerprint of the body's CA.
        expected: String,
        /// The fingerprint of the CA at hand.
        found: String,
    },
    /// The CA gave no signature.
    #[error("the CA did not sign")]
    Sign(#[from] SignError),
    /// The signature is not the CA's over these bytes.
    #[error("the signature is not that of the CA {0}")]
    Signature(String),
    /// A good certificate perhaps, but not the one that was ordered.
    #[error("is not the SSH certificate that the log's statement orders")]
    NotAsOrdered,
}

impl From<Malformed> for CertificateError {
    fn from(malformed: Malformed) -> Self {
        Self::Format(malformed.0)
    }
}

/// An SSH certificate: its bytes, and what they say. That they are signed by the right CA is yet to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshCertificate {
    pub(super) blob: Vec<u8>,
    signed_length: usize,
    name: String,
    kind: CertificateKind,
    serial: u64,
    key_id: String,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    critical_options: BTreeMap<String, Vec<u8>>,
    extensions: BTreeMap<String, Vec<u8>>,
    subject: Vec<u8>,
    ca: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl SshCertificate {
    /// Reads a line of a `-cert.pub` file, whose comment is dropped.
    ///
    /// # Errors
    /// [`CertificateError`], if it is no SSH certificate, or one without principals.
    pub fn parse(line: &str) -> Result<Self, CertificateError> {
        Self::from_blob(Line::parse(line)?.blob)
    }

    /// Reads the bytes that the base64 stands for.
    ///
    /// # Errors
    /// [`CertificateError`], if they are no SSH certificate, or one without principals.
    pub fn from_blob(blob: Vec<u8>) -> Result<Self, CertificateError> {
        let mut reader = Reader::new(&blob);
        let name = reader.text()?.to_owned();
        let (plain_name, field_count) = plain(&name)?;
        reader.string()?;
        let before_key = reader.left();
        for _ in 0..field_count {
            reader.string()?;
        }
        let mut subject = Vec::new();
        subject.put_string(plain_name.as_bytes());
        subject.extend(blob.get(blob.len() - before_key..blob.len() - reader.left()).unwrap_or_default());
        let serial = reader.u64()?;
        let kind = match reader.u32()? {
            1 => CertificateKind::User,
            2 => CertificateKind::Host,
            _ => return Err(CertificateError::Format("neither a user's nor a host's")),
        };
        let key_id = reader.text()?.to_owned();
        let principals = read_principals(reader.string()?)?;
        let (valid_after, valid_before) = (reader.u64()?, reader.u64()?);
        let critical_options = read_options(reader.string()?)?;
        let extensions = read_options(reader.string()?)?;
        reader.string()?; // Reserved; OpenSSH ignores what it holds.
        let ca = reader.string()?.to_vec();
        if Reader::new(&ca).text()?.ends_with(CERTIFICATE_SUFFIX) {
            return Err(CertificateError::Format("the CA's key is itself an SSH certificate"));
        }
        let signed_length = blob.len() - reader.left();
        let signature = reader.string()?.to_vec();
        reader.finish()?;
        Ok(Self {
            signed_length,
            name,
            kind,
            serial,
            key_id,
            principals,
            valid_after,
            valid_before,
            critical_options,
            extensions,
            subject,
            ca,
            signature,
            blob,
        })
    }

    /// The line of a `-cert.pub` file, without comment and line feed.
    pub fn to_line(&self) -> String {
        Line::write(&self.name, &self.blob)
    }

    /// Whom it identifies.
    pub fn kind(&self) -> CertificateKind {
        self.kind
    }

    /// Its serial; 0 in certificates that others issued without one.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// What `sshd` logs. Somebody else's text: escape it before it is shown.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Whom it speaks for; at least one. Somebody else's texts.
    pub fn principals(&self) -> &[String] {
        &self.principals
    }

    /// Its first second.
    pub fn valid_after(&self) -> Time {
        Time(self.valid_after)
    }

    /// The first second at which it is no longer valid; `None` is `ssh-keygen`'s "forever".
    pub fn valid_before(&self) -> Option<Time> {
        (self.valid_before != u64::MAX).then_some(Time(self.valid_before))
    }

    /// Whether `now` is within its time.
    pub fn is_current(&self, now: Time) -> bool {
        self.valid_after <= now.0 && now.0 < self.valid_before
    }

    /// The critical options with their data: empty, or a string of RFC 4251 in the options that are known.
    pub fn critical_options(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.critical_options
    }

    /// The extensions with their data.
    pub fn extensions(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.extensions
    }

    /// The blob of the key it was made for.
    pub fn subject_blob(&self) -> &[u8] {
        &self.subject
    }

    /// The key it was made for.
    ///
    /// # Errors
    /// [`KeyError`], if it is of a kind that is not accepted here.
    pub fn subject(&self) -> Result<SshPublicKey, KeyError> {
        SshPublicKey::from_blob(&self.subject)
    }

    /// The blob of the CA's key.
    pub fn ca_blob(&self) -> &[u8] {
        &self.ca
    }

    /// The CA's fingerprint, as OpenSSH shows it.
    pub fn ca_fingerprint(&self) -> String {
        fingerprint(&self.ca)
    }

    /// Whether `ca` made it: it names that CA and the signature is right. An RSA CA is none of ours.
    pub fn is_signed_by(&self, ca: &SshPublicKey) -> bool {
        self.ca == ca.blob() && ca.verify(self.signed_bytes(), &self.signature)
    }

    /// What the signature covers.
    pub(super) fn signed_bytes(&self) -> &[u8] {
        self.blob.get(..self.signed_length).unwrap_or_default()
    }
}

/// The name of the plain key behind a certificate's, and how many fields such a key has.
fn plain(name: &str) -> Result<(String, usize), CertificateError> {
    let unknown = || CertificateError::Algorithm(shown(name).to_string());
    let base = name.strip_suffix(CERTIFICATE_SUFFIX).ok_or_else(unknown)?;
    match base {
        "ssh-ed25519" => Ok((base.to_owned(), 1)),
        "ssh-rsa" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => Ok((base.to_owned(), 2)),
        "sk-ssh-ed25519" => Ok((format!("{base}@openssh.com"), 2)),
        "sk-ecdsa-sha2-nistp256" => Ok((format!("{base}@openssh.com"), 3)),
        _ => Err(unknown()),
    }
}

fn read_principals(bytes: &[u8]) -> Result<Vec<String>, CertificateError> {
    let mut reader = Reader::new(bytes);
    let mut principals = Vec::new();
    while !reader.is_empty() {
        principals.push(reader.text()?.to_owned());
        if principals.len() > SSH_PRINCIPALS_MAX {
            return Err(CertificateError::Principals);
        }
    }
    if principals.is_empty() || principals.iter().any(String::is_empty) {
        return Err(CertificateError::Principals);
    }
    Ok(principals)
}

fn read_options(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
    let mut reader = Reader::new(bytes);
    let mut options = BTreeMap::new();
    while !reader.is_empty() {
        let (name, data) = (reader.text()?, reader.string()?);
        // Each name once, in order: two programs that disagree on which of two counts would both be right.
        if options.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= name) {
            return Err(CertificateError::Format("its options are not in order, or one is there twice"));
        }
        options.insert(name.to_owned(), data.to_vec());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    /// A certificate by the field, to forge what `issue` cannot make. `ca` is only named.
    fn forged(principals: &[&str], options: &[(&str, &[u8])], ca: &[u8]) -> Vec<u8> {
        let strings = |out: &mut Vec<u8>, texts: &[&[u8]]| texts.iter().for_each(|t| out.put_string(t));
        let mut out = Vec::new();
        strings(&mut out, &[b"ssh-ed25519-cert-v01@openssh.com", &[1; 32], &[2; 32]]);
        out.put_u64(0);
        out.put_u32(1);
        out.put_string(b"id");
        let (mut list, mut critical) = (Vec::new(), Vec::new());
        principals.iter().for_each(|p| list.put_string(p.as_bytes()));
        options.iter().for_each(|(name, data)| strings(&mut critical, &[name.as_bytes(), data]));
        out.put_string(&list);
        out.put_u64(0);
        out.put_u64(u64::MAX);
        strings(&mut out, &[&critical, b"", b"", ca, b"signature"]);
        out
    }

    #[test]
    fn dangerous_certificates_do_not_parse() {
        let ca = sample::key(1).public().blob().to_vec();
        let foreign = SshCertificate::from_blob(forged(&["Root"], &[("a", b""), ("b", b"x")], &ca)).expect("foreign");
        assert_eq!((foreign.valid_before(), foreign.serial()), (None, 0));
        assert!(foreign.is_current(Time(5)) && !foreign.is_signed_by(sample::key(1).public()));
        let many: Vec<String> = (0..257).map(|i| format!("p{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for principals in [&[][..], &[""], &["a", ""], &many] {
            assert_eq!(SshCertificate::from_blob(forged(principals, &[], &ca)), Err(CertificateError::Principals));
        }
        assert!(SshCertificate::from_blob(forged(&many[..256], &[], &ca)).is_ok());
        let twice: &[(&str, &[u8])] = &[("a", b""), ("a", b"")];
        let unordered: &[(&str, &[u8])] = &[("b", b""), ("a", b"")];
        for options in [twice, unordered] {
            assert!(SshCertificate::from_blob(forged(&["a"], options, &ca)).is_err());
        }
        let certificate = sample::issued(sample::user_fields(), 1);
        assert!(SshCertificate::from_blob(forged(&["a"], &[], &certificate.blob)).is_err(), "a certificate as CA");
        assert_eq!(certificate.to_line().parse::<SshPublicKey>(), Err(KeyError::Certificate));
        assert!(matches!(
            SshCertificate::parse(&sample::key(1).public().to_string()),
            Err(CertificateError::Algorithm(_))
        ));
    }
}
