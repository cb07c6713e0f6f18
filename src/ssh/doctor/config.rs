//! sshd_config and ssh_config as OpenSSH reads them (sshd_config(5)): words in any case, the first value wins, `Include` is
//! read where it stands, and what stands in a `Match` block holds for some logins only.

use super::Machine;
use super::Seen;
use crate::limits::{SSH_CONFIG_FILES_MAX, SSH_INCLUDE_DEPTH_MAX};

/// A line that sets something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The file it is in.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// The word, in lower case.
    pub word: String,
    /// Its values.
    pub values: Vec<String>,
    /// Whether it holds for some logins only.
    pub is_conditional: bool,
}

impl Setting {
    /// The first value; nothing, if it says `none`.
    pub(super) fn value(&self) -> Option<&str> {
        self.values.first().map(String::as_str).filter(|v| !v.eq_ignore_ascii_case("none"))
    }
}

/// A configuration, with all that it includes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Config {
    /// The settings in the order in which they are read.
    pub settings: Vec<Setting>,
    /// The files that were read, with their texts.
    pub files: Vec<(String, String)>,
}

impl Config {
    /// Reads a file and all that it includes. A file that is not there has no settings.
    pub(super) fn read(path: &str, machine: &dyn Machine) -> Self {
        let mut config = Self::default();
        config.take(path, false, 0, machine);
        config
    }

    /// The setting that counts for every login.
    pub(super) fn first(&self, word: &str) -> Option<&Setting> {
        self.settings.iter().find(|s| !s.is_conditional && s.word == word)
    }

    /// The settings of a word that may be given several times.
    pub(super) fn all<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a Setting> {
        self.settings.iter().filter(move |s| s.word == word && s.value().is_some())
    }

    /// Whether a yes-or-no word is on.
    pub(super) fn is_on(&self, word: &str, default: bool) -> bool {
        self.first(word).map_or(default, |s| s.values.first().is_some_and(|v| v.eq_ignore_ascii_case("yes")))
    }

    fn take(&mut self, path: &str, conditional: bool, depth: usize, machine: &dyn Machine) {
        if depth > SSH_INCLUDE_DEPTH_MAX || self.files.len() >= SSH_CONFIG_FILES_MAX {
            return;
        }
        let Seen::There(file) = machine.read(path) else { return };
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        self.files.push((path.to_owned(), text.clone()));
        let mut conditional = conditional;
        for (line, row) in (1..).zip(text.lines()) {
            let Some((word, values)) = split(row) else { continue };
            match word.as_str() {
                // 'Match all' ends the blocks before it; ssh_config's Host is the same in its own words.
                "match" => conditional = !values.first().is_some_and(|v| v.eq_ignore_ascii_case("all")),
                "host" => conditional = !values.iter().any(|v| v == "*"),
                "include" => {
                    for pattern in &values {
                        for found in included(pattern, path, machine) {
                            self.take(&found, conditional, depth + 1, machine);
                        }
                    }
                }
                _ => self.settings.push(Setting {
                    file: path.to_owned(),
                    line,
                    word,
                    values,
                    is_conditional: conditional,
                }),
            }
        }
    }
}

/// The word of a line, and its values.
fn split(row: &str) -> Option<(String, Vec<String>)> {
    let row = row.trim();
    let end = row.find(|c: char| c.is_whitespace() || c == '=' || c == '"').unwrap_or(row.len());
    let (word, rest) = row.split_at_checked(end)?;
    if word.is_empty() || word.starts_with('#') {
        return None;
    }
    let rest = rest.trim_start();
    let mut rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let mut values = Vec::new();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (value, left) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        values.push(value.to_owned());
        rest = left.trim_start();
    }
    Some((word.to_ascii_lowercase(), values))
}

/// The files that an Include means, in the order in which they are read.
fn included(pattern: &str, from: &str, machine: &dyn Machine) -> Vec<String> {
    let directory = from.rsplit_once('/').map_or("", |(directory, _)| directory);
    let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { format!("{directory}/{pattern}") };
    let Some((directory, name)) = pattern.rsplit_once('/') else { return Vec::new() };
    if !name.contains(['*', '?']) {
        return vec![pattern];
    }
    let names = machine.names(directory);
    names.iter().filter(|n| !n.starts_with('.') && fits(name, n)).map(|n| format!("{directory}/{n}")).collect()
}

/// Whether a name fits a pattern of `*` and `?`.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = pattern.get(1..).unwrap_or_default();
            name.char_indices()
                .map(|(i, _)| i)
                .chain([name.len()])
                .any(|i| fits(rest, name.get(i..).unwrap_or_default()))
        }
        (Some(p), Some(n)) if p == '?' || p == n => {
            let after = |text: &str, c: char| text.get(c.len_utf8()..).unwrap_or_default().to_owned();
            fits(&after(pattern, p), &after(name, n))
        }
        _ => false,
    }
}

/// Whether a list of algorithms, with OpenSSH's `+`, `-` and `^` before it, has `name`, which the default has or has not.
pub(super) fn has_algorithm(list: Option<&str>, name: &str, is_default: bool) -> bool {
    let among = |list: &str| list.split(',').any(|pattern| fits(pattern, name));
    match list.and_then(|l| l.split_at_checked(1)) {
        None => is_default,
        Some(("+" | "^", rest)) => is_default || among(rest),
        Some(("-", rest)) => is_default && !among(rest),
        Some(_) => list.is_some_and(among),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Disk;
    use super::*;

    fn read(files: &[(&str, &str)]) -> Config {
        let mut disk = Disk::default();
        files.iter().for_each(|(path, text)| disk.put(path, text.as_bytes()));
        Config::read("/etc/ssh/sshd_config", &disk)
    }

    #[test]
    fn the_first_value_wins_and_includes_stand_where_they_stand() {
        let drop_ins =
            [("/etc/ssh/sshd_config.d/20.conf", "Port 20\nUsePAM no\n"), ("/etc/ssh/sshd_config.d/10.conf", "port=10")];
        let of = |main: &str| read(&[("/etc/ssh/sshd_config", main), drop_ins[0], drop_ins[1]]);
        let value = |config: &Config, word: &str| config.first(word).and_then(|s| s.value().map(str::to_owned));
        let first = of("Include /etc/ssh/sshd_config.d/*.conf\nPort 1\nUsePAM yes");
        assert_eq!((value(&first, "port").as_deref(), first.is_on("usepam", true)), (Some("10"), false));
        assert_eq!(first.files.len(), 3);
        let last = of("  PORT \"1\"  # why\nInclude sshd_config.d/*.conf");
        assert_eq!(value(&last, "port").as_deref(), Some("1"));
        let one = of("Include /etc/ssh/sshd_config.d/2?.conf");
        assert_eq!(value(&one, "port").as_deref(), Some("20"));
        let conditional = of("Match User x\nInclude sshd_config.d/10.conf\nMatch all\nPort 5");
        assert_eq!(value(&conditional, "port").as_deref(), Some("5"));
        assert_eq!(value(&of("#Port 7\n\n  \nRevokedKeys none"), "revokedkeys"), None);
    }

    #[test]
    fn a_file_that_includes_itself_comes_to_an_end() {
        let config = read(&[("/etc/ssh/sshd_config", "Include sshd_config\nInclude sshd_config\nPort 1")]);
        assert!(config.files.len() <= SSH_CONFIG_FILES_MAX);
    }

    #[test]
    fn lists_of_algorithms_are_read_as_openssh_reads_them() {
        for (list, default, expected) in [
            (None, true, true),
            (None, false, false),
            (Some("a,b"), false, true),
            (Some("c,d"), true, false),
            (Some("+b"), false, true),
            (Some("+c"), true, true),
            (Some("-b*"), true, false),
            (Some("-c"), true, true),
            (Some("^b"), false, true),
        ] {
            assert_eq!(has_algorithm(list, "b", default), expected, "{list:?}");
        }
    }
}
