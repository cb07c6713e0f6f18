//! `systemd-creds`, which keeps a home's key for a TPM or for the host.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::name::Protection;

/// The credential's name, which is part of what is sealed.
pub(super) const NAME: &str = "keys-home";
/// Where it is looked for. Nothing is run that somebody has put in front of it on PATH.
const PROGRAMS: [&str; 2] = ["/usr/bin/systemd-creds", "/bin/systemd-creds"];
/// A TPM takes its time; one that hangs must not hang a machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// The longest answer: a pipe holds as much, so that nobody waits for anybody.
const ANSWER_BYTES_MAX: u64 = 60 << 10;
/// A register that nothing is measured into. systemd 252 cannot open what is bound to none; with this one it is bound to the
/// TPM alone, and a new firmware keeps no machine from starting.
const NO_REGISTER: &str = "16";

/// Where systemd keeps what it keeps for this program.
#[derive(Debug, Clone, Default)]
pub struct Keepers {
    /// The unit's own credentials: `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
    /// The host's key, where it is not in its usual place: `$SYSTEMD_CREDENTIAL_SECRET`.
    pub host_key: Option<PathBuf>,
}

impl Keepers {
    /// The home's key as systemd has given it to this unit, if it has.
    pub(super) fn given(&self) -> Option<Zeroizing<[u8; 32]>> {
        #[allow(clippy::disallowed_methods, reason = "systemd's own directory, which is no disk of ours")]
        let text = Zeroizing::new(std::fs::read(self.credentials.as_ref()?.join(NAME)).ok()?);
        decode(&text)
    }
}

fn decode(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim_ascii()).ok()?);
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

/// The program, and the TPM that it is to use.
pub(super) struct Sealer<'a> {
    pub(super) keepers: &'a Keepers,
    pub(super) device: Option<&'a str>,
}

impl Sealer<'_> {
    /// Seals the key.
    pub(super) fn seal(&self, key: &[u8; 32], kind: Protection, registers: Option<&str>) -> Result<Vec<u8>, String> {
        let with = match kind {
            Protection::Tpm2 => "--with-key=tpm2",
            Protection::Host => "--with-key=host",
            Protection::File => return Err("files are not sealed".to_owned()),
        };
        let text = Zeroizing::new(STANDARD.encode(key));
        let mut arguments = vec!["encrypt".to_owned(), with.to_owned()];
        if kind == Protection::Tpm2 {
            arguments.push(format!("--tpm2-pcrs={}", registers.unwrap_or(NO_REGISTER)));
        }
        Ok(std::mem::take(&mut *self.run(arguments, text.as_bytes())?))
    }

    /// Opens what was sealed.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
        let text = self.run(vec!["decrypt".to_owned()], sealed)?;
        decode(&text).ok_or_else(|| "it is no home's key".to_owned())
    }

    #[allow(clippy::disallowed_methods, reason = "a program's time is that of this machine")]
    fn run(&self, mut arguments: Vec<String>, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let program = PROGRAMS.iter().map(Path::new).find(|p| p.is_file());
        let program = program.ok_or_else(|| "systemd-creds is not installed (systemd 250 or later)".to_owned())?;
        arguments.extend(self.device.map(|device| format!("--tpm2-device={device}")));
        arguments.extend([format!("--name={NAME}"), "-".to_owned(), "-".to_owned()]);
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        // Where the host's key lies, if it is not where systemd has it.
        if let Some(place) = &self.keepers.host_key {
            command.env("SYSTEMD_CREDENTIAL_SECRET", place);
        }
        let failed = |e: std::io::Error| format!("systemd-creds: {e}");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // What ends before it has read says why.
            let _ = stdin.write_all(input);
        }
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            if start.elapsed() >= PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("systemd-creds took more than {} s, and was ended", PATIENCE.as_secs()));
            }
            std::thread::sleep(LOOK);
        };
        let mut answer = Zeroizing::new(Vec::with_capacity(8 << 10));
        if let Some(stdout) = child.stdout.take() {
            stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(failed)?;
        }
        if status.success() {
            return Ok(answer);
        }
        let mut said = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            let _ = stderr.take(2_000).read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        let last = said.trim().lines().next_back().unwrap_or("it says nothing");
        Err(format!("systemd-creds: {}", crate::text::Shown { text: last, max: 300 }))
    }
}
