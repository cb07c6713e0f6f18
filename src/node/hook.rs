//! Hooks: programs of the machine's owner that the agent asks about a service's files.
//!
//! They are defined in a file that nobody but root and whoever runs the agent can change, and so are the programs. They get
//! no secret: the environment holds where the files lie, stdin is empty, and what they print is kept for the message only.

use std::fs::{Metadata, OpenOptions};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, OFlags};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::agent::{HookRule, Hooks, Phase};
use crate::limits::POLICY_BYTES_MAX;
use crate::name::MemberName;

/// How much of what a hook says is shown, bytes.
const SAID_BYTES_MAX: u64 = 2_000;
/// How often a running hook is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Why a hook did not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It, or the file that defines it, is not the machine's owner's alone.
    #[error("{path} is not run: others than root and user {user} could have written it")]
    Writable {
        /// The file.
        path: String,
        /// Who runs the agent.
        user: u32,
    },
    /// It cannot be read or started.
    #[error("cannot {doing} {path}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file of hooks is not understood.
    #[error(transparent)]
    Policy(#[from] crate::policy::PolicyError),
    /// It said no.
    #[error("{path} ended with {status}{said}")]
    No {
        /// The program.
        path: String,
        /// How it ended.
        status: String,
        /// What it said, after a colon.
        said: String,
    },
    /// It took too long.
    #[error("{path} took more than {seconds} s, and was ended{said}")]
    Late {
        /// The program.
        path: String,
        /// How long it had.
        seconds: u64,
        /// What it said, after a colon.
        said: String,
    },
}

fn shown(path: &Path) -> String {
    crate::text::shown(&path.display().to_string()).to_string()
}

fn system(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HookError {
    let path = shown(path);
    move |source| HookError::System { doing, path, source }
}

/// Checks that nobody but root and this user can change a file, or put another in its place.
fn check_owner(path: &Path) -> Result<Metadata, HookError> {
    let user = rustix::process::geteuid().as_raw();
    let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for place in [above, path] {
        let meta = std::fs::metadata(place).map_err(system("look at", place))?;
        // In a directory like /tmp others cannot replace what is not theirs.
        let is_sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
        if ![0, user].contains(&meta.uid()) || (meta.mode() & 0o022 != 0 && !is_sticky) {
            return Err(HookError::Writable { path: shown(place), user });
        }
    }
    std::fs::metadata(path).map_err(system("look at", path))
}

/// Reads the machine's hooks; none if there is no file.
///
/// # Errors
/// [`HookError`].
pub fn read_hooks(path: &Path) -> Result<Hooks, HookError> {
    if !path.try_exists().map_err(system("look at", path))? {
        return Ok(Hooks::default());
    }
    check_owner(path)?;
    let mut text = String::new();
    // Opening a FIFO would wait for whoever writes to it, also past SIGTERM.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(system("read", path))?;
    if !file.metadata().map_err(system("read", path))?.is_file() {
        return Err(system("read", path)(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
    }
    file.take(POLICY_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(system("read", path))?;
    Ok(Hooks::parse(&shown(path), &text)?)
}

/// What a hook is asked about.
#[derive(Debug, Clone)]
pub struct HookCall<'a> {
    /// What for.
    pub phase: Phase,
    /// Whose files they are.
    pub member: &'a MemberName,
    /// Where they lie.
    pub directory: PathBuf,
    /// Their generation.
    pub generation: u64,
}

/// Runs a hook, and waits for it as long as it may take. One that does not end in time is ended with all that it started.
///
/// # Errors
/// [`HookError`].
pub fn run_hook(hook: &HookRule, call: &HookCall<'_>) -> Result<(), HookError> {
    let Some((program, arguments)) = hook.run.split_first() else { return Ok(()) };
    let path = Path::new(program);
    check_owner(path)?;
    // Not a pipe: a daemon that the hook starts could hold it open for ever.
    let out = rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC).map_err(|e| system("run", path)(e.into()))?;
    let mut out = std::fs::File::from(out);
    let (one, other) = (out.try_clone().map_err(system("run", path))?, out.try_clone().map_err(system("run", path))?);
    let mut child = Command::new(path)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("KEYS_PHASE", call.phase.word())
        .env("KEYS_MEMBER", call.member.to_string())
        .env("KEYS_DIRECTORY", &call.directory)
        .env("KEYS_GENERATION", call.generation.to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(one)
        .stderr(other)
        .process_group(0)
        .spawn()
        .map_err(system("run", path))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(system("wait for", path))? {
            break Some(status);
        }
        if start.elapsed() >= hook.timeout.to_duration() {
            // It leads its group and has not been waited for, so the number is its own.
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(LOOK);
    };
    if status.is_some_and(|s| s.success()) {
        return Ok(());
    }
    let mut said = Vec::new();
    let _ = out.rewind().and_then(|()| out.take(SAID_BYTES_MAX).read_to_end(&mut said));
    let said = String::from_utf8_lossy(&said);
    let said = crate::text::Shown { text: said.trim(), max: 500 }.to_string();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let path = shown(path);
    Err(match status {
        Some(status) => HookError::No { path, status: status.to_string(), said },
        None => HookError::Late { path, seconds: hook.timeout.0, said },
    })
}
