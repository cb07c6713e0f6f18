//! A directory of its own for every test, and the program run in it with an empty environment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Tool;

/// A test's directory. Its path is short, because sockets lie in it; it is removed when the test passes.
pub(crate) struct Sandbox {
    root: PathBuf,
    umask: Mutex<Option<&'static str>>,
    days_later: AtomicU32,
}

impl Sandbox {
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let root = PathBuf::from(format!("/tmp/k{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&root).unwrap_or_else(|e| panic!("{name}: cannot make {}: {e}", root.display()));
        Self { root, umask: Mutex::new(None), days_later: AtomicU32::new(0) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Starts the program, whose output nobody reads; whoever starts it ends it.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Makes `to` what `from` is, with all that is below.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let _ = std::fs::remove_dir_all(self.path(to));
        Ran::of(Command::new("/bin/cp").args(["-a", from, to]).current_dir(self.root())).ok();
    }

    #[expect(clippy::print_stderr, reason = "whoever runs the tests wants to know where to look")]
    pub(crate) fn finish(&self, passed: bool) {
        if passed {
            let _ = std::fs::remove_dir_all(&self.root);
        } else {
            eprintln!("left for inspection: {}", self.root.display());
        }
    }

    /// From now on the program runs under this umask instead of the caller's.
    pub(crate) fn set_umask(&self, umask: &'static str) {
        *self.umask.lock().unwrap() = Some(umask);
    }

    /// From now on the program, and what [`Sandbox::dated`] makes, run so many days after the present.
    pub(crate) fn set_days_later(&self, days: u32) {
        self.days_later.store(days, Ordering::Relaxed);
    }

    /// A command for a program under the clock that is set.
    pub(crate) fn dated(&self, program: &Path) -> Command {
        match self.days_later.load(Ordering::Relaxed) {
            0 => Command::new(program),
            days => {
                let mut faketime = Command::new(Tool::Faketime.path().expect("the test needs it"));
                faketime.args(["-f", &format!("+{days}d")]).arg(program);
                faketime
            }
        }
    }

    /// The program, with nothing of the environment but what it is given.
    pub(crate) fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_keys");
        let mut command = match *self.umask.lock().unwrap() {
            None => self.dated(Path::new(program)),
            Some(umask) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", "umask \"$0\" && exec \"$@\"", umask, program]);
                shell
            }
        };
        command
            .env_clear()
            .env("HOME", &self.root)
            .env("PATH", "/usr/bin:/bin")
            .current_dir(&self.root)
            .stdin(Stdio::null());
        command
    }

    /// Runs the program.
    pub(crate) fn keys(&self, args: &[&str]) -> Ran {
        self.keys_with(args, b"")
    }

    /// Runs the program with something on stdin.
    pub(crate) fn keys_with(&self, args: &[&str], input: &[u8]) -> Ran {
        use std::io::Write as _;
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses before it reads closes the pipe; that is its right.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        Ran { line: args.join(" "), output }
    }
}

/// A program that has run.
pub(crate) struct Ran {
    pub line: String,
    pub output: Output,
}

impl Ran {
    /// Runs any command.
    pub(crate) fn of(command: &mut Command) -> Self {
        let line = format!("{command:?}");
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{line}: {e}"));
        Self { line, output }
    }

    pub(crate) fn code(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Checks the exit code; gives stdout.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> String {
        assert_eq!(self.code(), code, "{}\n--- stdout\n{}--- stderr\n{}", self.line, self.stdout(), self.stderr());
        self.stdout()
    }

    /// Checks that it succeeded; gives stdout.
    #[track_caller]
    pub(crate) fn ok(&self) -> String {
        self.exits(0)
    }

    /// Checks the exit code and that stderr says `part`.
    #[track_caller]
    pub(crate) fn refuses(&self, code: i32, part: &str) {
        self.exits(code);
        assert!(self.stderr().contains(part), "{}\nshould say '{part}'\n--- stderr\n{}", self.line, self.stderr());
        assert!(!self.stderr().contains("this is a bug"), "{}", self.stderr());
    }

    /// stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.output.stdout).unwrap_or_else(|e| panic!("{}: {e}\n{}", self.line, self.stdout()))
    }
}
