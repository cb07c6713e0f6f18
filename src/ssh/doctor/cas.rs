//! TrustedUserCAKeys. sshd reads it line by line, and at the first line that it cannot read it stops, without a word.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::key::fingerprint;
use super::super::krl_read::check_key;
use super::super::wire::Reader;
use super::config::has_algorithm;
use super::{Code, Doctor, Finding, Seen};

/// What a CA may sign with, unless CASignatureAlgorithms says otherwise: OpenSSH 8.2 to 10.5.
const CA_ALGORITHMS: [&str; 8] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// A line of a file of public keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A key that every sshd reads.
    Key { name: String, blob: Vec<u8> },
    /// One that not every sshd reads; why.
    Bad(String),
}

impl Line {
    /// Reads a line that is neither empty nor a comment.
    pub(super) fn read(row: &str) -> Self {
        let mut words = row.split_whitespace();
        let (Some(name), Some(text)) = (words.next(), words.next()) else {
            return Self::Bad("is no public key".to_owned());
        };
        let Ok(blob) = BASE64.decode(text) else { return Self::Bad("is no public key".to_owned()) };
        let is_named = Reader::new(&blob).string().is_ok_and(|inner| inner == name.as_bytes());
        if name.contains("-cert-v") {
            return Self::Bad("is an SSH certificate, where a public key is expected".to_owned());
        }
        match (is_named, check_key(&blob)) {
            (true, Ok(())) => Self::Key { name: name.to_owned(), blob },
            (true, Err(_)) if name.starts_with("ssh-") || name.contains("sha2-") => Self::Bad(format!(
                "has a key of the algorithm {}, which not every sshd knows",
                crate::text::shown(name)
            )),
            _ => Self::Bad("is no public key".to_owned()),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Key { .. })
    }
}

impl Doctor<'_> {
    /// TrustedUserCAKeys and CASignatureAlgorithms.
    pub(super) fn cas(&mut self) {
        let config = self.config;
        let Some((setting, path)) = config.first("trustedusercakeys").and_then(|s| Some((s, s.value()?))) else {
            if !config.files.is_empty() {
                self.found(Code::CaUnset, self.question.config, "TrustedUserCAKeys is not set");
            }
            return;
        };
        let file = match self.machine.read(path) {
            Seen::There(file) => file,
            Seen::Absent => {
                let text = format!("is not there, though {}:{} names it", setting.file, setting.line);
                return self.found(Code::CaMissing, path, text);
            }
            Seen::Unreadable(why) => return self.found(Code::CaMissing, path, why),
        };
        self.loose(path, &file);
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        let rows = (1..).zip(text.lines().map(str::trim)).filter(|(_, row)| !row.is_empty() && !row.starts_with('#'));
        let lines: Vec<(usize, Line)> = rows.map(|(n, row)| (n, Line::read(row))).collect();
        let last_good = lines.iter().rev().find(|(_, line)| line.is_good()).map_or(0, |(n, _)| *n);
        if last_good == 0 {
            self.found(Code::CaMissing, path, "has no CA's key");
        }
        let algorithms = config.first("casignaturealgorithms").and_then(|s| s.value());
        let mut there = Vec::new();
        for (n, line) in lines {
            match line {
                Line::Bad(why) => {
                    let code = if n < last_good { Code::CaLine } else { Code::CaLineLast };
                    self.findings.push(Finding::new(code, path, why).at(n));
                }
                Line::Key { name, blob } => {
                    if !may_sign(algorithms, &name) {
                        let text =
                            format!("CASignatureAlgorithms leaves out {name}, by which {} signs", fingerprint(&blob));
                        self.findings.push(Finding::new(Code::CaAlgorithm, path, text).at(n));
                    }
                    there.push((n, blob));
                }
            }
        }
        self.against_the_log(path, &there);
    }

    fn against_the_log(&mut self, path: &str, there: &[(usize, Vec<u8>)]) {
        let Some(wanted) = &self.question.wanted else { return };
        for ca in wanted.user_cas.iter().filter(|ca| !there.iter().any(|(_, blob)| blob == ca.blob())) {
            let text = format!("lacks {}, a CA of users", fingerprint(ca.blob()));
            self.findings.push(Finding::new(Code::CaLacks, path, text));
        }
        for (n, blob) in there.iter().filter(|(_, blob)| !wanted.user_cas.iter().any(|ca| ca.blob() == blob)) {
            let text = format!("{} is no CA of users by the log", fingerprint(blob));
            self.findings.push(Finding::new(Code::CaStranger, path, text).at(*n));
        }
    }
}

/// Whether a CA with a key of this algorithm may sign; one of RSA may by either of two.
fn may_sign(list: Option<&str>, name: &str) -> bool {
    let by = |name: &str| has_algorithm(list, name, CA_ALGORITHMS.contains(&name));
    if name == "ssh-rsa" { by("rsa-sha2-512") || by("rsa-sha2-256") } else { by(name) }
}
