//! The host's own keys and SSH certificates. sshd ignores a certificate that does not fit, without a word.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::body::CertificateKind;
use super::super::certificate::{CertificateError, SshCertificate};
use super::super::wire::Reader;
use super::config::has_algorithm;
use super::{Code, Doctor, HostKey, Seen};
use crate::time::Time;

/// Host keys that sshd looks for where none is named (sshd_config(5), HostKey).
const DEFAULT_KEYS: [&str; 3] =
    ["/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key"];

/// Warned of when less than this part of its time is left: at half of it, it should have been renewed.
const LEFT_MIN: u64 = 4;

/// The blob of the public half that stands, unencrypted, in front of an OpenSSH private key (PROTOCOL.key).
pub fn public_part(private: &str) -> Option<Vec<u8>> {
    let body = private.trim().strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----")?;
    // The private half follows further back: only what is needed is decoded.
    let text: String = body.chars().filter(|c| !c.is_whitespace()).take_while(|c| *c != '-').take(8_192).collect();
    let whole = text.len() - text.len() % 4;
    let bytes = zeroize::Zeroizing::new(BASE64.decode(text.get(..whole)?).ok()?);
    let mut reader = Reader::new(bytes.strip_prefix(b"openssh-key-v1\0")?);
    for _ in 0..3 {
        reader.string().ok()?;
    }
    reader.u32().ok()?;
    reader.string().ok().map(<[u8]>::to_vec)
}

impl Doctor<'_> {
    /// HostKey, HostCertificate, HostKeyAlgorithms. Gives the certificates that clients should be shown.
    pub(super) fn host(&mut self) -> Vec<(String, Vec<u8>)> {
        let config = self.config;
        if config.files.is_empty() {
            return Vec::new();
        }
        let keys = self.host_keys();
        let files: Vec<&str> = config.all("hostcertificate").filter_map(|s| s.value()).collect();
        if files.is_empty() {
            self.found(Code::HostCertificateUnset, self.question.config, "HostCertificate is not set");
        }
        let algorithms = config.first("hostkeyalgorithms").and_then(|s| s.value());
        if !files.is_empty() && !has_algorithm(algorithms, "ssh-ed25519-cert-v01@openssh.com", true) {
            let text = "HostKeyAlgorithms leaves out ssh-ed25519-cert-v01@openssh.com";
            self.found(Code::HostAlgorithms, self.question.config, text);
        }
        files.into_iter().filter_map(|path| Some((path.to_owned(), self.host_certificate(path, &keys)?))).collect()
    }

    /// The blobs of the host's keys that sshd can load.
    fn host_keys(&mut self) -> Vec<Vec<u8>> {
        let config = self.config;
        let named: Vec<&str> = config.all("hostkey").filter_map(|s| s.value()).collect();
        let mut blobs = Vec::new();
        for path in if named.is_empty() { DEFAULT_KEYS.to_vec() } else { named.clone() } {
            match self.machine.host_key(path) {
                HostKey::There { mode, .. } if mode & 0o077 != 0 => {
                    self.found(Code::HostKeyMode, path, format!("has the mode {mode:04o}"));
                }
                HostKey::There { blob, .. } => blobs.push(blob),
                HostKey::Unreadable => self.found(Code::HostKeyMissing, path, "is no private key"),
                HostKey::Absent if named.is_empty() => {}
                HostKey::Absent => self.found(Code::HostKeyMissing, path, "is not there"),
            }
        }
        if blobs.is_empty() && named.is_empty() {
            self.found(Code::HostKeyMissing, self.question.config, "there is no host key in its usual place");
        }
        blobs
    }

    fn host_certificate(&mut self, path: &str, keys: &[Vec<u8>]) -> Option<Vec<u8>> {
        let file = match self.machine.read(path) {
            Seen::There(file) => file,
            Seen::Absent => {
                self.found(Code::HostCertificateMissing, path, "is not there");
                return None;
            }
            Seen::Unreadable(why) => {
                self.found(Code::HostCertificateMissing, path, why);
                return None;
            }
        };
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        let certificate = match SshCertificate::parse(text.trim_end()) {
            Ok(certificate) => certificate,
            Err(CertificateError::Principals) => {
                self.found(Code::HostCertificateNobody, path, "names no host");
                return None;
            }
            Err(e) => {
                self.found(Code::HostCertificateBroken, path, e);
                return None;
            }
        };
        if certificate.kind() == CertificateKind::User {
            self.found(Code::HostCertificateUser, path, "is a user's");
            return None;
        }
        if !keys.iter().any(|blob| blob == certificate.subject_blob()) {
            self.found(Code::HostCertificateStranger, path, "is for another key than any HostKey here");
            return None;
        }
        self.time(path, &certificate);
        self.names(path, &certificate);
        let blob = text.split_whitespace().nth(1).and_then(|text| BASE64.decode(text).ok());
        blob.filter(|_| certificate.is_current(self.question.now))
    }

    fn time(&mut self, path: &str, certificate: &SshCertificate) {
        let now = self.question.now;
        if certificate.valid_after() > now {
            return self.found(Code::HostCertificateFuture, path, format!("begins {}", certificate.valid_after()));
        }
        let Some(end) = certificate.valid_before() else { return };
        let left = end.since(now).0;
        if end <= now {
            self.found(Code::HostCertificateExpired, path, format!("has expired {end}"));
        } else if left < lifetime(certificate.valid_after(), end) / LEFT_MIN {
            self.found(Code::HostCertificateExpires, path, format!("expires {end}, and should have been renewed"));
        }
    }

    fn names(&mut self, path: &str, certificate: &SshCertificate) {
        for name in certificate.principals().iter().filter(|name| name.contains(['*', '?'])) {
            self.found(Code::HostCertificateWildcard, path, format!("names '{name}'"));
        }
        let Some(wanted) = &self.question.wanted else { return };
        let lacking = wanted.host_names.iter().find(|name| !certificate.principals().contains(name));
        if let Some(name) = lacking.cloned() {
            let there = certificate.principals().join(", ");
            self.found(Code::HostCertificateName, path, format!("is for {there}, and not for {name}"));
        }
        if !wanted.host_cas.iter().any(|ca| ca.blob() == certificate.ca_blob()) {
            let text = format!("is signed by {}, which is no CA of hosts by the log", certificate.ca_fingerprint());
            self.found(Code::HostCertificateCa, path, text);
        } else if wanted.revoked_hosts.is_revoked(certificate) {
            self.found(Code::HostCertificateCa, path, "is revoked");
        }
    }
}

fn lifetime(begin: Time, end: Time) -> u64 {
    end.since(begin).0
}
