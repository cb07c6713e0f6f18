//! Programs that run beside a test, and none that outlives it.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::Tool;

/// How long a daemon that was told to end, or whose directory is gone, may take for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program, made by the very call that starts it: killed when this is dropped, also by a panic.
pub(crate) struct Running(Child);

impl Running {
    /// Starts a command; [`bound`] makes those that end with the tests if these are killed.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command for `program` that the system kills when the thread that starts it ends, however that ends. It keeps its process
/// id. Where `setpriv` is missing it is the plain command.
pub(crate) fn bound(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    let Some(setpriv) = Tool::Setpriv.path() else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// From now on whatever loses its parent below this process becomes its child, so that [`left_over`] finds it.
pub(crate) fn adopt_orphans() {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Kills the processes that the tests have left behind, and names them.
pub(crate) fn left_over() -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    while !children().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let left = children();
    for id in left.keys().filter_map(|id| rustix::process::Pid::from_raw(*id)) {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
    }
    left.into_iter().map(|(id, line)| format!("{id}: {line}")).collect()
}

/// The children of this process that are alive, with what they run and where.
fn children() -> BTreeMap<i32, String> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|p| p.file_name().to_str()?.parse::<i32>().ok());
    ids.filter_map(|id| {
        let place = Path::new("/proc").join(id.to_string());
        let stat = std::fs::read_to_string(place.join("stat")).ok()?;
        // The name stands in brackets and may hold anything; after it come the state and the parent.
        let mut rest = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent) = (rest.next()?, rest.next()?);
        let line = std::fs::read(place.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let directory = std::fs::read_link(place.join("cwd")).unwrap_or_default();
        let alive = !matches!(state, "Z" | "X") && parent == own.to_string();
        alive.then(|| (id, format!("{}in {}", line, directory.display())))
    })
    .collect()
}
