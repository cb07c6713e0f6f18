//! This machine as `keys ssh doctor` sees it: files below a root, and the sshd that runs.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::limits::{KEY_FILE_BYTES_MAX, KRL_BYTES_MAX};
use crate::ssh::doctor::{Account, Answer, HostKey, Machine, Seen, SeenFile, account_in, public_part};

/// How long a connection may take, seconds.
const ANSWER_SECONDS: &str = "10";

/// The files below a root.
pub(super) struct Rooted {
    pub root: PathBuf,
    /// Whoever runs this owns what is in an image; on the machine itself only root counts.
    pub owner: u32,
}

impl Rooted {
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The file, or the first directory above it, that others could change, as sshd judges it (`safe_path`).
    fn loose(&self, path: &Path) -> Option<String> {
        let within = path.ancestors().take_while(|p| p.starts_with(&self.root));
        let is_loose = |p: &&Path| {
            std::fs::metadata(p).is_ok_and(|m| (m.uid() != 0 && m.uid() != self.owner) || m.mode() & 0o022 != 0)
        };
        within.into_iter().find(is_loose).map(|p| p.display().to_string())
    }

    /// The bytes of a regular file; a pipe would never end.
    fn bytes(&self, path: &Path, max: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::new());
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("is no file"));
        }
        std::fs::File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Machine for Rooted {
    fn read(&self, path: &str) -> Seen {
        let path = self.path(path);
        match (self.bytes(&path, KRL_BYTES_MAX), std::fs::metadata(&path)) {
            (Ok(bytes), Ok(m)) => {
                Seen::There(SeenFile { bytes: bytes.to_vec(), mode: m.mode() & 0o7777, loose: self.loose(&path) })
            }
            (Err(e), _) | (_, Err(e)) if e.kind() == std::io::ErrorKind::NotFound => Seen::Absent,
            (Err(e), _) | (_, Err(e)) => Seen::Unreadable(format!("cannot be read: {e}")),
        }
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(directory)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    fn host_key(&self, path: &str) -> HostKey {
        let path = self.path(path);
        let (Ok(bytes), Ok(m)) = (self.bytes(&path, KEY_FILE_BYTES_MAX), std::fs::metadata(&path)) else {
            return if path.exists() { HostKey::Unreadable } else { HostKey::Absent };
        };
        match std::str::from_utf8(&bytes).ok().and_then(public_part) {
            Some(blob) => HostKey::There { blob, mode: m.mode() & 0o7777 },
            None => HostKey::Unreadable,
        }
    }

    fn account(&self, name: &str) -> Account {
        let Ok(shadow) = self.bytes(&self.path("/etc/shadow"), KRL_BYTES_MAX) else { return Account::Unknown };
        std::str::from_utf8(&shadow).map_or(Account::Unknown, |text| account_in(text, name))
    }
}

/// A program of OpenSSH's.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(own).map(|d| d.join(name)).find(|p| p.is_file())
}

fn run(name: &str, args: &[&str]) -> Result<std::process::Output, String> {
    let path = program(name).ok_or_else(|| format!("{name} is not installed"))?;
    let output = Command::new(path).args(args).stdin(Stdio::null()).output();
    output.map_err(|e| format!("{name} does not run: {e}"))
}

/// The configuration as sshd itself reads it: words and values.
pub(super) fn effective(config: &str) -> Result<Vec<(String, String)>, String> {
    let output = run("sshd", &["-T", "-f", config])?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().last().unwrap_or("sshd -T says no").to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(|l| l.split_once(' ')).map(|(w, v)| (w.to_owned(), v.to_owned())).collect())
}

/// What sshd at an address shows to whoever connects.
pub(super) fn ask(address: &str, port: u16) -> Answer {
    let port = port.to_string();
    let scan = |flags: &[&str]| {
        let args = [flags, &["-T", ANSWER_SECONDS, "-t", "ed25519", "-p", &port, address]].concat();
        let output = run("ssh-keyscan", &args)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Before the key stand a marker and the host, or, by -c of some versions, neither.
        let key = |line: &str| Some(line.get(line.find("ssh-ed25519")?..)?.to_owned());
        Ok::<_, String>(text.lines().filter(|line| !line.starts_with('#')).find_map(key))
    };
    match (scan(&["-c"]), scan(&[])) {
        (Ok(Some(line)), _) if line.contains("-cert-v") => Answer::Certificate(line),
        (_, Ok(Some(_))) => Answer::Key,
        (Err(why), _) | (_, Err(why)) => Answer::Silent(why),
        (Ok(_), Ok(None)) => Answer::Silent("shows no Ed25519 host key".to_owned()),
    }
}
