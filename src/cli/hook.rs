//! Hooks: programs of the operator's own, in the home's `hooks/`, that the policy names. A policy says which; what runs is
//! what whoever owns the home has put there, never a file that came with a keyring.
//!
//! A hook gets what it is to do as its argument (`generate`, `prepare`, `done`, `failed`), the value on stdin, and
//! `KEYS_ADDRESS`, `KEYS_VERSION`, `KEYS_ROLE` and `KEYS_OTHER_ROLE` in its environment.

use std::io::{Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::context::{Context, shown};
use super::exec_cmd::{in_memory, memory_file};
use super::exit::{CliError, Exit};
use crate::limits::SECRET_BYTES_MAX;
use crate::name::Label;
use crate::ops::Renewal;

/// How long a hook may take.
const SECONDS_MAX: u64 = 300;

/// A hook that is there, and fit to be run.
pub(super) struct Hook {
    path: PathBuf,
}

impl Hook {
    /// Finds it in the home. Nobody but its owner and root may be able to change it.
    pub(super) fn find(context: &Context, name: &Label) -> Result<Self, CliError> {
        let directory = context.home_path()?.join("hooks");
        let path = directory.join(name.as_str());
        let is_there = |path: &Path| {
            std::fs::metadata(path).map_err(|e| {
                CliError::new(
                    Exit::NotFound,
                    format!("the policy names the hook {name}: cannot look at {}: {e}", shown(path)),
                )
                .hint("put a program of that name there, which only you can change")
            })
        };
        let owner = rustix::process::geteuid().as_raw();
        for place in [&directory, &path] {
            let meta = is_there(place)?;
            if ![owner, 0].contains(&meta.uid()) || meta.mode() & 0o022 != 0 {
                let problem = format!("the hook {} is not run: others than you could have written it", shown(place));
                return Err(CliError::failed(problem).hint("make it your own, and 'chmod go-w' it"));
            }
        }
        if !is_there(&path)?.is_file() {
            return Err(CliError::failed(format!("the hook {} is no file", shown(&path))));
        }
        // It runs in the home, whatever the home was called from where we are.
        let path = path.canonicalize().map_err(|e| CliError::failed(format!("cannot find {}: {e}", shown(&path))))?;
        Ok(Self { path })
    }

    /// Asks it for a value.
    pub(super) fn generate(&self, renewal: &Renewal) -> Result<Zeroizing<Vec<u8>>, CliError> {
        // Not a pipe: it could be held open for ever.
        let mut out = std::fs::File::from(memory_file("value")?);
        let copy = out.try_clone().map_err(|e| self.wrong("generate", &e))?;
        self.run(renewal, "generate", b"", copy.into())?;
        let size = out.metadata().map_err(|e| self.wrong("generate", &e))?.len();
        if size == 0 || size > SECRET_BYTES_MAX as u64 {
            let problem = format!("it printed {size} bytes; a value has 1 to {SECRET_BYTES_MAX}");
            return Err(self.wrong("generate", &problem));
        }
        let mut value = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1));
        out.rewind().and_then(|()| out.read_to_end(&mut value)).map_err(|e| self.wrong("generate", &e))?;
        Ok(value)
    }

    /// Tells it. Stdout carries our answer; what a hook says is talk.
    pub(super) fn tell(&self, renewal: &Renewal, what: &'static str, value: &[u8]) -> Result<(), CliError> {
        self.run(renewal, what, value, std::io::stderr().into())
    }

    fn run(&self, renewal: &Renewal, what: &'static str, value: &[u8], out: Stdio) -> Result<(), CliError> {
        let plan = &renewal.plan;
        let mut command = Command::new(&self.path);
        command.arg(what).env("KEYS_ADDRESS", plan.address.to_string()).env("KEYS_VERSION", plan.version.to_string());
        for (name, role) in [("KEYS_ROLE", &renewal.role), ("KEYS_OTHER_ROLE", &renewal.other)] {
            match role {
                Some(role) => command.env(name, role),
                None => command.env_remove(name),
            };
        }
        command.stdin(std::fs::File::from(in_memory("value", value)?)).stdout(out);
        let mut child = command.spawn().map_err(|e| self.wrong(what, &e))?;
        let start = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.wrong(what, &format!("it ended with {status}"))),
                Ok(None) if start.elapsed() < Duration::from_secs(SECONDS_MAX) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(self.wrong(what, &format!("it took more than {SECONDS_MAX} s, and was ended")));
                }
                Err(e) => return Err(self.wrong(what, &e)),
            }
        }
    }

    fn wrong(&self, what: &str, problem: &dyn std::fmt::Display) -> CliError {
        CliError::failed(format!("the hook {} {what}: {problem}", shown(&self.path)))
    }
}
