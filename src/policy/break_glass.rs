//! `[ca.break-glass]` of `policy/ssh.toml`: keys that let people in while the log is out of reach.
//!
//! The keys are made and kept off line, on tokens or in safes, and nodes trust them from the day the policy names them. One of
//! them alone opens nothing: so many of them have to have signed as the policy says, at least two.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::ssh::{PrincipalTemplate, Wrong, extensions, templates, wrong};
use crate::ssh::{CertificateKind, KeyAlgorithm, SshPublicKey};
use crate::text::shown;
use crate::time::Span;

/// The most keys.
const KEYS_MAX: usize = 16;
/// The longest life of a certificate.
const LIFETIME_MAX: Span = Span::days(1);

/// What break-glass keys may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlass {
    /// The public keys as OpenSSH writes them, without comments.
    pub keys: BTreeSet<String>,
    /// How many of them have to sign, at least 2.
    pub sign: usize,
    /// What a certificate may name.
    pub principals: Vec<PrincipalTemplate>,
    /// How long it lives at most.
    pub lifetime: Span,
    /// What its sessions may do.
    pub extensions: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBreakGlass {
    keys: Vec<String>,
    #[serde(default = "two")]
    sign: usize,
    principals: Vec<String>,
    lifetime: Span,
    #[serde(default)]
    extensions: Vec<String>,
}

fn two() -> usize {
    2
}

impl RawBreakGlass {
    pub(super) fn check(self, require_proof: bool) -> Result<BreakGlass, Wrong> {
        let place = |key: &str| format!("[ca.break-glass] {key}");
        if !require_proof {
            let problem = "needs [log] require_proof = true: without it sshd takes any one of these keys at its word";
            return wrong("[ca.break-glass]", problem);
        }
        let mut keys = BTreeSet::new();
        for text in &self.keys {
            let key = SshPublicKey::parse_line(text.trim()).or_else(|e| {
                wrong(place("keys"), format!("'{}' is no public key as 'ssh-keygen -y' writes it: {e}", shown(text)))
            })?;
            if key.algorithm() == KeyAlgorithm::Rsa {
                return wrong(place("keys"), "names an RSA key; Ed25519, ECDSA P-256 and the sk- kinds can be CAs");
            }
            if !keys.insert(key.to_string()) {
                return wrong(place("keys"), format!("names {} twice", key.fingerprint()));
            }
        }
        if !(2..=KEYS_MAX).contains(&keys.len()) {
            return wrong(place("keys"), format!("names {}; it takes 2 to {KEYS_MAX}", keys.len()));
        }
        if !(2..=keys.len()).contains(&self.sign) {
            let problem = format!("has to be at least 2, so that one key opens nothing, and at most {}", keys.len());
            return wrong(place("sign"), problem);
        }
        if self.lifetime == Span(0) || self.lifetime > LIFETIME_MAX {
            return wrong(place("lifetime"), format!("has to be longer than nothing and at most {LIFETIME_MAX}"));
        }
        let principals = templates(&place("principals"), CertificateKind::User, &self.principals)?;
        let extensions = extensions(&place("extensions"), self.extensions)?;
        Ok(BreakGlass { keys, sign: self.sign, principals, lifetime: self.lifetime, extensions })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ssh::{SshPolicy, TEMPLATE};
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILTSOncMhcGPMI0pyK92xP1z53KBmZVU3g78N/cidI/o";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB7Dee07XPoLwzaJdaSc6ms37bpW3hQGtAUnHYb8gBkx";

    fn read(table: &str, proof: bool) -> Result<SshPolicy, String> {
        let text = TEMPLATE.replace("require_proof = false", &format!("require_proof = {proof}"));
        SshPolicy::parse(&format!("{text}\n[ca.break-glass]\n{table}")).map_err(|e| e.to_string())
    }

    fn table(keys: &[&str], rest: &str) -> String {
        let keys: Vec<String> = keys.iter().map(|k| format!("\"{k}\"")).collect();
        format!("keys = [{}]\n{rest}", keys.join(", "))
    }

    const REST: &str = "principals = [\"root:{pop}\"]\nlifetime = \"4h\"\nextensions = [\"permit-pty\"]\n";

    #[test]
    fn keys_are_read_without_their_comments() {
        let read = read(&table(&[&format!("{A} safe in Frankfurt"), B], REST), true).unwrap().break_glass.unwrap();
        assert_eq!(read.keys, [A.to_owned(), B.to_owned()].into());
        assert_eq!((read.sign, read.lifetime, read.principals.len()), (2, Span::hours(4), 1));
        assert_eq!(SshPolicy::parse(TEMPLATE).unwrap().break_glass, None);
    }

    #[test]
    fn what_would_let_one_key_open_something_is_refused() {
        let two = &[A, B][..];
        for (keys, rest, proof, expected) in [
            (two, REST.to_owned(), false, "needs [log] require_proof = true"),
            (two, format!("sign = 1\n{REST}"), true, "has to be at least 2"),
            (two, format!("sign = 3\n{REST}"), true, "at most 2"),
            (&[A][..], REST.to_owned(), true, "names 1; it takes 2 to 16"),
            (&[A, A][..], REST.to_owned(), true, "twice"),
            (&[A, "ssh-ed25519 AAAA"][..], REST.to_owned(), true, "is no public key"),
            (two, REST.replace("4h", "25h"), true, "lifetime: has to be longer than nothing and at most 1d"),
            (two, REST.replace("4h", "0s"), true, "lifetime"),
            (two, REST.replace("root:{pop}", "*"), true, "does not give a principal"),
            (two, REST.replace("permit-pty", "permit-ptty"), true, "did you mean 'permit-pty'?"),
        ] {
            let message = read(&table(keys, &rest), proof).expect_err(expected);
            assert!(message.contains("ca.break-glass") && message.contains(expected), "{expected}: {message}");
        }
    }
}
