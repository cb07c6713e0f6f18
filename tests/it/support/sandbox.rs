//! A directory of its own for every test, and the program run in it with an empty environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Tool;
use super::running::{Running, bound};

/// A test's directory. Its path is short, because sockets lie in it; it is removed when the test passes.
pub(crate) struct Sandbox {
    root: PathBuf,
    umask: Mutex<Option<&'static str>>,
    days_later: AtomicU32,
}

impl Sandbox {
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let root = PathBuf::from(format!("/tmp/k{}-{number}", std::process::id()));
            match std::fs::create_dir(&root) {
                Ok(()) => return Self { root, umask: Mutex::new(None), days_later: AtomicU32::new(0) },
                // Left for inspection by an earlier run whose process had this id.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => panic!("{name}: cannot make {}: {e}", root.display()),
            }
        }
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

    /// Starts the program, whose output nobody reads; it ends with what is given back.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.bound_command().args(args).stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// Makes `to` what `from` is, with all that is below.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let _ = std::fs::remove_dir_all(self.path(to));
        std::fs::create_dir_all(self.path(to).parent().unwrap()).unwrap();
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
        command_of(&self.dated_words(program))
    }

    fn dated_words(&self, program: &Path) -> Vec<OsString> {
        match self.days_later.load(Ordering::Relaxed) {
            0 => vec![program.into()],
            days => at_time(&format!("+{days}d"), program),
        }
    }

    /// The program, with nothing of the environment but what it is given.
    pub(crate) fn command(&self) -> Command {
        self.within(command_of(&self.words()))
    }

    /// The same, for what runs beside a test: see [`bound`].
    pub(crate) fn bound_command(&self) -> Command {
        let words = self.words();
        let mut command = bound(&words[0]);
        command.args(&words[1..]);
        self.within(command)
    }

    /// The program under the umask or the clock that is set.
    fn words(&self) -> Vec<OsString> {
        let program = env!("CARGO_BIN_EXE_keys");
        match *self.umask.lock().unwrap() {
            None => self.dated_words(Path::new(program)),
            Some(umask) => {
                ["/bin/sh", "-c", "umask \"$0\" && exec \"$@\"", umask, program].map(OsString::from).to_vec()
            }
        }
    }

    fn within(&self, mut command: Command) -> Command {
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

    /// Runs the program, whose system calls of the name `call` meet `fault`, as strace words it.
    ///
    /// A run that is killed so ends by that signal: [`Ran::is_killed`].
    pub(crate) fn keys_under_fault(&self, args: &[&str], call: &str, fault: &str) -> Ran {
        let mut command = Tool::Strace.command();
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:{fault}")]).arg(env!("CARGO_BIN_EXE_keys")).args(args);
        Ran::of(&mut self.within(command))
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

/// The words that run a program at another time, as libfaketime writes times.
///
/// Not by its wrapper `faketime`: that stays beside the program, which is then not ended with it, and names what it shares
/// with the program after its own process id, so that it fails when one with that id was killed before it.
pub(crate) fn at_time(time: &str, program: &Path) -> Vec<OsString> {
    let library = Tool::Faketime.path().expect("the test needs it");
    let script = "rm -f /dev/shm/faketime_shm_$$ /dev/shm/sem.faketime_sem_$$; \
                  FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME=$1 LD_PRELOAD=$0; \
                  export FAKETIME_DONT_FAKE_MONOTONIC FAKETIME LD_PRELOAD; shift; exec \"$@\"";
    let words: [&std::ffi::OsStr; 6] =
        ["/bin/sh".as_ref(), "-c".as_ref(), script.as_ref(), library.as_ref(), time.as_ref(), program.as_ref()];
    words.map(OsString::from).to_vec()
}

pub(crate) fn command_of(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
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

    pub(crate) fn is_killed(&self) -> bool {
        std::os::unix::process::ExitStatusExt::signal(&self.output.status) == Some(9)
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
