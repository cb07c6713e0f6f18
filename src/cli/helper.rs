//! Programs of others that are asked for something: by absolute path, with nothing of the environment but what they need
//! to find their own keys and to ask for a passphrase. What they answer may be secret, and is wiped.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::exit::{CliError, Exit};
use crate::openpgp::Certificate;

/// Where programs are looked for. Nothing is run that somebody has put in front of them on PATH.
const DIRECTORIES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/bin"];
/// What is left of the environment: where gpg has its keys, and where a passphrase can be asked for.
const ENVIRONMENT: [&str; 5] = ["GNUPGHOME", "HOME", "GPG_TTY", "TERM", "DISPLAY"];

/// A program and the package that has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Helper {
    pub name: &'static str,
    pub package: &'static str,
}

/// Reads OpenPGP with the user's own keys.
pub(super) const GPG: Helper = Helper { name: "gpg", package: "gnupg" };
/// Tells where gpg-agent is.
pub(super) const GPGCONF: Helper = Helper { name: "gpgconf", package: "gnupg" };

/// Opens what age encrypts.
pub(super) const AGE: Helper = Helper { name: "age", package: "age" };

/// The certificate that gpg has by this fingerprint, without what others have signed.
pub(super) fn gpg_certificate(fingerprint: &str) -> Result<Certificate, CliError> {
    let export = ["--batch", "--no-tty", "--export", "--export-options", "export-minimal", &format!("0x{fingerprint}")];
    let exported = GPG.ask(&export)?;
    Certificate::parse(&exported).map_err(|e| CliError::failed(format!("what gpg exports for {fingerprint} {e}")))
}

impl Helper {
    /// Runs it for its answer, which must not be empty.
    pub(super) fn ask(self, args: &[&str]) -> Result<Vec<u8>, CliError> {
        let mut answer = self.run(args, b"", 64 << 20)?;
        if answer.is_empty() {
            return Err(CliError::failed(format!("{} gave nothing", self.name)));
        }
        Ok(std::mem::take(&mut *answer))
    }

    /// Runs it with `input`, a few KB at most, on stdin; gives its answer of at most `limit` bytes.
    pub(super) fn run(self, args: &[&str], input: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, CliError> {
        let Self { name, package } = self;
        let path = DIRECTORIES.iter().map(|d| Path::new(d).join(name)).find(|p| p.is_file());
        let path = path.ok_or_else(|| {
            CliError::new(Exit::NotFound, format!("{name} is not installed")).hint(format!("install {package}"))
        })?;
        let cannot = |e: std::io::Error| CliError::new(Exit::Unknown, format!("cannot run {}: {e}", path.display()));
        let mut command = Command::new(&path);
        command.args(args).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for keep in ENVIRONMENT {
            if let Some(value) = std::env::var_os(keep) {
                command.env(keep, value);
            }
        }
        let mut child = command.spawn().map_err(cannot)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // One that talks much while it is not listened to would wait for ever.
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.map(|s| s.take(64 << 10).read_to_end(&mut said));
            said
        });
        if let Some(mut stdin) = stdin {
            // One that has seen enough closes the pipe; its exit code says whether that was right.
            let _ = stdin.write_all(input);
        }
        // One allocation of the full size for all but the largest answers.
        let mut answer = Zeroizing::new(Vec::with_capacity(limit.min(1 << 20)));
        let read = stdout.map_or(Ok(0), |s| s.take(limit as u64 + 1).read_to_end(&mut answer));
        let status = child.wait().map_err(cannot)?;
        read.map_err(cannot)?;
        let said = said.join().unwrap_or_default();
        if answer.len() > limit {
            return Err(CliError::failed(format!("{name} gave more than {limit} bytes")));
        }
        if !status.success() {
            let said = String::from_utf8_lossy(&said).into_owned();
            return Err(CliError::failed(format!("{name} failed: {}", crate::text::shown(said.trim()))));
        }
        Ok(answer)
    }
}
