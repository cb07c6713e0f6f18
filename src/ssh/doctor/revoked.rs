//! The revocation lists: that of users, which sshd reads at each login, and that of hosts, which ssh reads.

use super::super::krl::{Krl, KrlError};
use super::config::Config;
use super::{Code, Doctor, Seen};

impl Doctor<'_> {
    /// RevokedKeys.
    pub(super) fn revoked(&mut self) {
        let config = self.config;
        let Some((setting, path)) = config.first("revokedkeys").and_then(|s| Some((s, s.value()?))) else {
            if !config.files.is_empty() {
                self.found(Code::KrlUnset, self.question.config, "RevokedKeys is not set");
            }
            return;
        };
        match self.machine.read(path) {
            Seen::Absent => {
                let text = format!("is not there, though {}:{} names it", setting.file, setting.line);
                self.found(Code::KrlMissing, path, text);
            }
            Seen::Unreadable(why) => self.found(Code::KrlMissing, path, why),
            Seen::There(file) => {
                self.loose(path, &file);
                match Krl::parse(&file.bytes) {
                    Err(_) if file.bytes.is_empty() => self.found(Code::KrlEmpty, path, "has no bytes"),
                    // A list of keys in plain text is good, too.
                    Err(KrlError::Format(_)) if is_key_list(&file.bytes) => {}
                    Err(e @ (KrlError::Refused(_) | KrlError::Section(_))) => self.found(Code::KrlRefused, path, e),
                    Err(e) => self.found(Code::KrlBroken, path, e),
                    Ok(list) => {
                        if let Some(wanted) = self.question.wanted.as_ref().map(|w| w.revoked_users.clone()) {
                            self.against(path, &list, &wanted, Code::KrlLacks);
                        }
                    }
                }
            }
        }
    }

    fn against(&mut self, path: &str, list: &Krl, wanted: &Krl, lacks: Code) {
        let told = |n: usize, first: Option<String>| {
            let more = if n > 1 { format!(", and {} more", n - 1) } else { String::new() };
            format!("{}{more}", first.unwrap_or_default())
        };
        let age = format!("version {}; the log has {} entries", list.version(), wanted.version());
        let missing = wanted.beyond(list);
        if !missing.is_empty() && list.version() <= wanted.version() {
            let what = told(missing.len(), missing.first().map(ToString::to_string));
            self.found(lacks, path, format!("lacks {what} ({age})"));
        }
        let surplus = list.beyond(wanted);
        if !surplus.is_empty() && list.version() <= wanted.version() {
            let what = told(surplus.len(), surplus.first().map(ToString::to_string));
            self.found(Code::KrlSurplus, path, format!("revokes {what}, which the log does not ({age})"));
        }
    }

    /// RevokedHostKeys of this machine's own ssh.
    pub(super) fn client(&mut self) {
        let place = self.question.client_config;
        let config = Config::read(place, self.machine);
        let Some((setting, path)) = config.first("revokedhostkeys").and_then(|s| Some((s, s.value()?))) else {
            self.found(Code::ClientUnset, place, "RevokedHostKeys is not set");
            return;
        };
        match self.machine.read(path) {
            Seen::Absent => {
                let text = format!("is not there, though {}:{} names it", setting.file, setting.line);
                self.found(Code::ClientKrl, path, text);
            }
            Seen::Unreadable(why) => self.found(Code::ClientKrl, path, why),
            Seen::There(file) => match Krl::parse(&file.bytes) {
                Err(_) if file.bytes.is_empty() => self.found(Code::ClientKrlEmpty, path, "has no bytes"),
                Err(KrlError::Format(_)) if is_key_list(&file.bytes) => {}
                Err(e) => self.found(Code::ClientKrl, path, e),
                Ok(list) => {
                    if let Some(wanted) = self.question.wanted.as_ref().map(|w| w.revoked_hosts.clone()) {
                        self.against(path, &list, &wanted, Code::ClientKrlLacks);
                    }
                }
            },
        }
    }
}

/// Whether a file is what RevokedKeys takes, too: public keys, one a line.
fn is_key_list(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut rows = text.lines().map(str::trim).filter(|row| !row.is_empty() && !row.starts_with('#')).peekable();
    rows.peek().is_some() && rows.all(|row| super::cas::Line::read(row).is_good())
}
