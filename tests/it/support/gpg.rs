//! A gpg home of its own, and what gpg says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Ran, Sandbox, Tool};

/// A gpg home in the sandbox. The daemons that gpg starts for it are ended when this is dropped, also by a panic.
pub(crate) struct GpgHome {
    path: PathBuf,
}

impl GpgHome {
    /// `name` should be short: sockets lie in the directory, and a socket's path has at most 107 bytes.
    pub(crate) fn new(sandbox: &Sandbox, name: &str) -> Self {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = sandbox.path(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs gpg; its status lines stand among what it says on stderr.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = Tool::Gpg.command();
        command.env("GNUPGHOME", &self.path).args(["--batch", "--no-tty", "--status-fd", "2"]).args(args);
        Ran::of(&mut command)
    }

    /// Imports a file, non-exportable certifications included; what is there already is merged.
    pub(crate) fn import(&self, file: &Path) {
        self.run(&["--import-options", "import-local-sigs", "--import", text(file)]).ok();
    }

    /// Takes this certificate for a root of the web of trust.
    pub(crate) fn trust_ultimately(&self, fingerprint: &str) {
        let file = self.path.join("roots");
        std::fs::write(&file, format!("{fingerprint}:6:\n")).unwrap();
        self.run(&["--import-ownertrust", text(&file)]).ok();
    }

    /// gpg's validity of every user id: `u` ultimate, `f` full, `m` marginal, `r` revoked, `-`, `q` unknown, …
    pub(crate) fn validities(&self) -> BTreeMap<String, String> {
        self.run(&["--check-trustdb"]).ok();
        let listed = self.run(&["--with-colons", "--list-keys"]).ok();
        let fields = listed.lines().filter(|l| l.starts_with("uid:")).map(|l| l.split(':').collect::<Vec<_>>());
        fields.map(|f| (f[9].to_owned(), f[1].to_owned())).collect()
    }

    /// The fields of gpg's status lines with this keyword.
    pub(crate) fn status(ran: &Ran, keyword: &str) -> Vec<Vec<String>> {
        let said = ran.stderr();
        let lines = said.lines().filter_map(|l| l.strip_prefix("[GNUPG:] "));
        let words = lines.map(|l| l.split(' ').map(str::to_owned).collect::<Vec<_>>());
        words.filter(|w| w[0] == keyword).map(|w| w[1..].to_vec()).collect()
    }
}

impl Drop for GpgHome {
    fn drop(&mut self) {
        if let Some(gpgconf) = Tool::GpgConf.path() {
            let mut command = std::process::Command::new(gpgconf);
            let _ = command.env_clear().arg("--homedir").arg(&self.path).args(["--kill", "all"]).status();
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the sandbox has a plain path")
}
