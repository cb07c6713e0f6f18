//! Who may log in as whom: AuthorizedPrincipalsFile, AuthorizedPrincipalsCommand, and the accounts themselves.

use super::super::render::NodeInput;
use super::{Account, Code, Doctor, Seen};

impl Doctor<'_> {
    /// Who is let in where.
    pub(super) fn principals(&mut self) {
        let config = self.config;
        if config.files.is_empty() {
            return;
        }
        let file = config.first("authorizedprincipalsfile").and_then(|s| Some((s, s.value()?)));
        let command = config.first("authorizedprincipalscommand").and_then(|s| Some((s, s.value()?)));
        if let (Some((setting, file)), Some((_, command))) = (file, command) {
            let text =
                format!("AuthorizedPrincipalsFile {file} and AuthorizedPrincipalsCommand {command} are both set");
            self.findings.push(super::Finding::new(Code::PrincipalsBoth, &setting.file, text).at(setting.line));
        }
        match (file, command) {
            (None, None) => {
                let text = "neither AuthorizedPrincipalsFile nor AuthorizedPrincipalsCommand is set";
                self.found(Code::PrincipalsUnset, self.question.config, text);
            }
            (_, Some((setting, program))) => {
                self.command(program);
                self.own_command(&setting.values, file.is_some());
            }
            (Some(_), None) => {}
        }
        if let Some((_, pattern)) = file {
            self.files(pattern);
        }
        let asks = command.is_some_and(|(s, _)| s.values.get(1..3).is_some_and(|verb| verb == ["ssh", "principals"]));
        if self.question.wanted.as_ref().is_some_and(|w| w.require_proof) && !asks {
            let place = file.map_or(self.question.config, |(setting, _)| setting.file.as_str());
            self.found(Code::ProofUnset, place, "AuthorizedPrincipalsCommand is not 'keys ssh principals'");
        }
    }

    fn command(&mut self, program: &str) {
        match self.machine.read(program) {
            Seen::There(file) if file.loose.is_some() => {
                let loose = file.loose.unwrap_or_default();
                self.found(
                    Code::PrincipalsCommand,
                    program,
                    format!("{loose} is not root's alone to change: sshd does not run it"),
                );
            }
            Seen::There(file) if file.mode & 0o111 == 0 => {
                self.found(Code::PrincipalsCommand, program, "is not executable");
            }
            Seen::There(_) | Seen::Unreadable(_) => {}
            Seen::Absent => self.found(Code::PrincipalsCommand, program, "is not there"),
        }
        if self.config.first("authorizedprincipalscommanduser").is_none_or(|s| s.value().is_none()) {
            self.found(
                Code::PrincipalsCommand,
                program,
                "AuthorizedPrincipalsCommandUser is not set: sshd does not run it",
            );
        }
    }

    /// The files that `keys ssh principals` goes by, where that is the command.
    fn own_command(&mut self, values: &[String], is_file_set: bool) {
        let words: Vec<&str> = values.iter().map(String::as_str).collect();
        let [_, "ssh", "principals", "--directory", directory, ..] = words.as_slice() else { return };
        let path = format!("{directory}/{}", NodeInput::TRUST);
        if self.machine.read(&path) == Seen::Absent {
            self.found(Code::PrincipalsMissing, &path, "is not there: the command lets in nobody");
        }
        if !is_file_set {
            self.files(&format!("{directory}/principals/%u"));
        }
    }

    /// The files of principals, for a path with `%u`, or one for all.
    fn files(&mut self, pattern: &str) {
        let Some((directory, "%u")) = pattern.rsplit_once('/') else {
            if !pattern.contains('%') {
                self.file(pattern);
            }
            return;
        };
        // What a writer that died has left behind is no account.
        let accounts: Vec<_> =
            self.machine.names(directory).into_iter().filter(|name| !name.starts_with('.')).collect();
        if accounts.is_empty() {
            self.found(Code::PrincipalsMissing, directory, "holds no account's file");
        }
        let policy = self.question.wanted.as_ref().and_then(|w| w.accounts.as_ref());
        let lacking: Vec<String> = policy
            .into_iter()
            .flat_map(|accounts| accounts.keys().map(ToString::to_string))
            .filter(|login| !accounts.is_empty() && !accounts.contains(login))
            .collect();
        for login in lacking {
            self.found(Code::PrincipalsMissing, &format!("{directory}/{login}"), "is not there");
        }
        for account in accounts {
            let path = format!("{directory}/{account}");
            self.file(&path);
            self.against_the_policy(&path, &account);
            match self.machine.account(&account) {
                Account::Missing => self.found(Code::AccountMissing, &path, format!("there is no account {account}")),
                Account::Locked if !self.config.is_on("usepam", false) => {
                    let text = format!("the password of {account} begins with '!', and UsePAM is off");
                    self.found(Code::AccountLocked, "/etc/shadow", text);
                }
                Account::Locked | Account::Open | Account::Unknown => {}
            }
        }
    }

    /// Whether an account accepts just whom the policy lets in.
    fn against_the_policy(&mut self, path: &str, account: &str) {
        let Some(accounts) = self.question.wanted.as_ref().and_then(|w| w.accounts.as_ref()) else { return };
        let Some((_, wanted)) = accounts.iter().find(|(login, _)| login.as_str() == account) else {
            return self.found(Code::PrincipalsStranger, path, format!("the policy has no account {account} here"));
        };
        let Seen::There(file) = self.machine.read(path) else { return };
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        let there: Vec<&str> = text.lines().map(str::trim).filter(|row| is_meant(row)).collect();
        let more = there.iter().find(|row| !wanted.iter().any(|p| p.as_str() == **row));
        let less = wanted.iter().find(|p| !there.contains(&p.as_str())).filter(|_| !there.is_empty());
        if let Some(row) = more {
            self.found(Code::PrincipalsStranger, path, format!("accepts '{row}', which the policy does not"));
        }
        if let Some(principal) = less {
            self.found(Code::PrincipalsStranger, path, format!("does not accept '{principal}', which the policy does"));
        }
    }

    fn file(&mut self, path: &str) {
        match self.machine.read(path) {
            Seen::Absent => self.found(Code::PrincipalsMissing, path, "is not there"),
            Seen::Unreadable(why) => self.found(Code::PrincipalsMissing, path, why),
            Seen::There(file) => {
                let text = String::from_utf8_lossy(&file.bytes);
                if !text.lines().map(str::trim).any(is_meant) {
                    self.found(Code::PrincipalsEmpty, path, "names no principal");
                }
                // StrictModes makes sshd refuse it; without, others can put themselves in.
                match &file.loose {
                    Some(loose) if self.config.is_on("strictmodes", true) => {
                        self.found(Code::ModeRefused, path, format!("{loose} is not root's alone to change"));
                    }
                    _ => self.loose(path, &file),
                }
            }
        }
    }
}

/// Whether a line of a file of principals says something.
fn is_meant(row: &str) -> bool {
    !row.is_empty() && !row.starts_with('#')
}

/// What `/etc/shadow` says of an account (shadow(5)): of a password no more than how it begins is looked at.
pub fn account_in(shadow: &str, name: &str) -> Account {
    let row = shadow.lines().find_map(|row| row.split_once(':').filter(|(account, _)| *account == name));
    match row {
        None => Account::Missing,
        Some((_, password)) if password.starts_with('!') => Account::Locked,
        Some(_) => Account::Open,
    }
}
