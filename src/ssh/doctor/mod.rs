//! What is wrong with a node's SSH, from its files: most mistakes there are ones of which `sshd -t` says nothing, and which show
//! when nobody can log in any more, or when somebody still can.
//!
//! For: `keys ssh doctor`. Promises: reads nothing but what [`Machine`] gives; each finding names a place, what it does to
//! logins and the way out; nothing is changed. Follows sshd_config(5) and what OpenSSH 9.2 to 10.5 do; [`Wanted`] is what
//! the log says, where there is one to ask. Left to others: the files themselves, the running sshd, the clock.

mod cas;
mod config;
mod finding;
mod host;
mod live;
mod principals;
mod revoked;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use finding::{Code, Finding, Severity, rank};
pub use host::public_part;
pub use live::{Answer, live};
pub use principals::account_in;

use super::krl::Krl;
use super::names::{Login, Principal};
use super::render::CaLine;
use crate::time::Time;
use config::Config;

/// The first line of the drop-in that [`render`](super::render()) writes.
pub(super) const DROP_IN_HEAD: &str = "# Written by keys.";

/// A file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// There is none.
    Absent,
    /// It cannot be read; why, in words.
    Unreadable(String),
    /// It is there.
    There(SeenFile),
}

/// What there is to know of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFile {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
    /// The file itself, or a directory above it, that somebody else than root owns or that others can write to, as `sshd` judges it.
    pub loose: Option<String>,
}

/// The public half of a host's private key, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKey {
    /// There is no such file.
    Absent,
    /// It holds no key whose public half can be told.
    Unreadable,
    /// The blob of its public half, and the permission bits of the file.
    There {
        /// The blob.
        blob: Vec<u8>,
        /// The permission bits.
        mode: u32,
    },
}

/// What is known of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// It cannot be told.
    Unknown,
    /// There is none of that name.
    Missing,
    /// Its password begins with `!`.
    Locked,
    /// It is one like others.
    Open,
}

/// The files of a machine, by absolute path.
pub trait Machine {
    /// One file.
    fn read(&self, path: &str) -> Seen;
    /// The names in a directory, ascending; none, if it is not there.
    fn names(&self, directory: &str) -> Vec<String>;
    /// A host's private key: of it nothing but the public half is handed out.
    fn host_key(&self, path: &str) -> HostKey;
    /// An account.
    fn account(&self, name: &str) -> Account;
}

/// What the log says a node should have.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is revoked of users.
    pub revoked_users: Krl,
    /// What is revoked of hosts.
    pub revoked_hosts: Krl,
    /// The CAs that sign users.
    pub user_cas: BTreeSet<CaLine>,
    /// The CAs that sign hosts.
    pub host_cas: BTreeSet<CaLine>,
    /// What the node is called, if it was said which node it is.
    pub host_names: BTreeSet<String>,
    /// Who is let in to which account, if it was said which node it is.
    pub accounts: Option<BTreeMap<Login, BTreeSet<Principal>>>,
    /// Whether the policy lets in nobody without the proof that the log decided his certificate.
    pub require_proof: bool,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The path of sshd_config.
    pub config: &'a str,
    /// The path of ssh_config.
    pub client_config: &'a str,
    /// The present.
    pub now: Time,
    /// What the log says, if there is one to ask.
    pub wanted: Option<Wanted>,
}

/// What was found, and what is needed to ask the running sshd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The findings, the gravest first.
    pub findings: Vec<Finding>,
    /// The files of the configuration that were read.
    pub files: Vec<String>,
    /// The port that sshd listens on.
    pub port: u16,
    /// What it sets, as `sshd -T` shows it: word in lower case, and values.
    pub values: Vec<(String, String)>,
    /// The blobs of the SSH certificates that the host should show, each with its file.
    pub certificates: Vec<(String, Vec<u8>)>,
}

/// Examines a node's files.
pub fn examine(question: &Question<'_>, machine: &dyn Machine) -> Examined {
    let config = Config::read(question.config, machine);
    let mut findings = Vec::new();
    if config.files.is_empty() {
        findings.push(Finding::new(Code::ConfigMissing, question.config, "there is no such file"));
    }
    let mut doctor = Doctor { question, machine, config: &config, findings: &mut findings };
    doctor.drop_in();
    doctor.others();
    doctor.revoked();
    doctor.cas();
    doctor.principals();
    let certificates = doctor.host();
    doctor.client();
    rank(&mut findings);
    let port = config.first("port").and_then(|s| s.value()?.parse().ok()).unwrap_or(22);
    let value = |word: &str| Some((word.to_owned(), config.first(word)?.values.join(" ")));
    let values = ["trustedusercakeys", "revokedkeys", "authorizedprincipalsfile", "authorizedprincipalscommand"];
    let values = values.into_iter().filter_map(value).collect();
    Examined { values, findings, files: config.files.into_iter().map(|(path, _)| path).collect(), port, certificates }
}

/// What each part of the examination has at hand.
struct Doctor<'a> {
    question: &'a Question<'a>,
    machine: &'a dyn Machine,
    config: &'a Config,
    findings: &'a mut Vec<Finding>,
}

impl Doctor<'_> {
    fn found(&mut self, code: Code, place: &str, text: impl std::fmt::Display) {
        self.findings.push(Finding::new(code, place, text));
    }

    /// Says that a file can be changed by others, where that lets them in.
    fn loose(&mut self, path: &str, file: &SeenFile) {
        if let Some(loose) = &file.loose {
            self.found(Code::Mode, path, format!("{loose} is not root's alone to change"));
        }
    }

    /// Whether the drop-in is read, and has its way.
    fn drop_in(&mut self) {
        let is_ours = |text: &str| text.starts_with(DROP_IN_HEAD);
        let Some((own, _)) = self.config.files.iter().find(|(_, text)| is_ours(text)) else {
            let directory = self.question.config.rsplit_once('/').map_or("", |(directory, _)| directory);
            let place = format!("{directory}/sshd_config.d/10-keys.conf");
            match self.machine.read(&place) {
                Seen::There(_) if !self.config.files.is_empty() => {
                    self.found(Code::DropInUnread, &place, format!("{} does not include it", self.question.config));
                }
                _ => self.found(Code::DropInMissing, &place, "is not there, nor is any other file that keys wrote"),
            }
            return;
        };
        let settings = &self.config.settings;
        let own_settings = settings.iter().filter(|s| s.file == *own);
        if settings.iter().any(|s| s.file == *own && s.is_conditional) {
            self.findings.push(Finding::new(Code::DropInUnread, own, "it is included inside a Match block"));
        }
        for setting in own_settings.filter(|s| !matches!(s.word.as_str(), "hostkey" | "hostcertificate")) {
            let said = |s: &config::Setting| format!("{} {}", s.word, s.values.join(" "));
            let first = self.config.first(&setting.word);
            if let Some(first) = first.filter(|f| f.file != *own && f.values != setting.values) {
                let text = format!("'{}' comes before '{}' in {own}", said(first), said(setting));
                self.findings.push(Finding::new(Code::Overridden, &first.file, text).at(first.line));
            }
            for block in settings
                .iter()
                .filter(|s| s.is_conditional && s.file != *own && s.word == setting.word && s.values != setting.values)
            {
                let text = format!("'{}' in a Match block, against '{}' in {own}", said(block), said(setting));
                self.findings.push(Finding::new(Code::MatchOverrides, &block.file, text).at(block.line));
            }
        }
    }

    /// The ways in beside certificates.
    fn others(&mut self) {
        let config = self.config;
        let place =
            |word: &str| config.first(word).map_or((self.question.config, None), |s| (s.file.as_str(), Some(s.line)));
        let mut add = |code: Code, word: &str, text: &str| {
            let (file, line) = place(word);
            self.findings.push(Finding { line, ..Finding::new(code, file, text) });
        };
        let methods =
            config.first("authenticationmethods").filter(|s| !s.values.iter().any(|v| v.eq_ignore_ascii_case("any")));
        // Every way that AuthenticationMethods names has to go through a key for a password alone to be worth nothing.
        let by_key = methods.is_some_and(|s| s.values.iter().all(|way| way.split(',').any(|m| m == "publickey")));
        if !by_key && !config.files.is_empty() {
            if config.is_on("passwordauthentication", true) {
                add(Code::Password, "passwordauthentication", "PasswordAuthentication is on");
            }
            if config.is_on("kbdinteractiveauthentication", config.is_on("challengeresponseauthentication", true)) {
                add(Code::Password, "kbdinteractiveauthentication", "KbdInteractiveAuthentication is on");
            }
        }
        if !config.is_on("pubkeyauthentication", true) {
            add(Code::PublicKeyOff, "pubkeyauthentication", "PubkeyAuthentication is off");
        }
        if methods.is_some_and(|s| !s.values.iter().any(|way| way == "publickey")) {
            add(Code::PublicKeyOff, "authenticationmethods", "AuthenticationMethods wants more than a key, or none");
        }
        if config.first("authorizedkeysfile").is_none_or(|s| s.value().is_some()) && !config.files.is_empty() {
            add(Code::AuthorizedKeys, "authorizedkeysfile", "AuthorizedKeysFile is not none");
        }
    }
}
