//! A gpg home of its own, and what gpg says.

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
}

impl Drop for GpgHome {
    fn drop(&mut self) {
        if let Some(gpgconf) = Tool::GpgConf.path() {
            let mut command = std::process::Command::new(gpgconf);
            let _ = command.env_clear().arg("--homedir").arg(&self.path).args(["--kill", "all"]).status();
        }
    }
}
