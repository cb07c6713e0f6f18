//! What a user names, by mistake or in haste: devices and links where a file is written, FIFOs where one is read, addresses
//! that are none, and a new directory for which nothing comes.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::agent;
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["named":
    what_is_no_file_is_not_replaced_by_one,
    a_seed_is_forgotten_where_it_lies_and_stdin_stays_what_it_is,
    a_fifo_in_the_place_of_the_hooks_holds_nobody_up,
    numbers_are_everybodys_to_read_whatever_the_umask,
    a_pull_that_brings_nothing_leaves_nothing,
    an_address_that_is_none_is_not_remembered,
];

fn id(fleet: &TestFleet<'_>) -> String {
    fleet.keys("alice", &["status", "--json"]).json()["id"].as_str().unwrap().to_owned()
}

fn fifo(sandbox: &Sandbox, name: &str) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        sandbox.path(name),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
}

/// As it happened to /dev/full: renamed over, it is a file, for everybody on the machine.
fn what_is_no_file_is_not_replaced_by_one(sandbox: &Sandbox) {
    let fleet = agent::fleet(sandbox, "");
    fifo(sandbox, "pipe");
    sandbox.write("elsewhere", "what is there\n");
    std::os::unix::fs::symlink("elsewhere", sandbox.path("link")).unwrap();
    sandbox.write("template", "{{ nginx@fra1/tls.crt }}");
    for place in ["pipe", "link"] {
        let refused = format!("{place} is there and is no regular file; it is not replaced");
        fleet.keys("alice", &["wg", "graph", "--out", place]).refuses(1, &refused);
        fleet.keys("fra1", &["template", "template", "--out", place]).refuses(1, &refused);
        let once = ["agent", "--once", "--run-dir", "run", "--metrics", place];
        let ran = fleet.keys("fra1", &once);
        ran.ok();
        assert!(ran.stderr().contains(&format!("the numbers: {refused}")), "{}", ran.stderr());
    }
    assert!(std::fs::symlink_metadata(sandbox.path("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(std::fs::read_link(sandbox.path("link")).unwrap().to_str(), Some("elsewhere"));
    assert_eq!(std::fs::read_to_string(sandbox.path("elsewhere")).unwrap(), "what is there\n");
    // A file is replaced, as ever.
    fleet.keys("alice", &["wg", "graph", "--out", "elsewhere"]).ok();
    assert_ne!(std::fs::read_to_string(sandbox.path("elsewhere")).unwrap(), "what is there\n");
}

fn a_seed_is_forgotten_where_it_lies_and_stdin_stays_what_it_is(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let invite = ["invite", "fra1", "--services", "nginx", "--approval", "auto", "--yes"];
    let seed = fleet.keys("alice", &invite).ok();
    let text = format!(
        "fleet = \"cdn.example\"\nid = \"{}\"\nmirrors = [\"{}\"]\nmember = \"fra1\"\nseed = \"{}\"\n",
        id(&fleet),
        sandbox.path("fleet").display(),
        seed.trim_end()
    );
    let config = sandbox.write("config", &text);
    std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // As /dev/stdin is one, and to a pipe.
    std::os::unix::fs::symlink("/proc/self/fd/0", sandbox.path("input")).unwrap();
    std::os::unix::fs::symlink("config", sandbox.path("link")).unwrap();
    let boots = |config: &str| {
        let mut command = Command::new("/bin/sh");
        let line = "cat config | \"$KEYS\" --fleet m/fleet --home m/home bootstrap \"$0\"";
        command.env_clear().env("PATH", "/usr/bin:/bin").env("KEYS", env!("CARGO_BIN_EXE_keys"));
        Ran::of(command.args(["-c", line, config]).current_dir(sandbox.root()))
    };
    assert_eq!(boots("input").exits(4).trim_end(), "keyed");
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(boots("input").exits(4).trim_end(), "enrolled");
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(boots("input").ok().trim_end(), "ready");
    assert_eq!(std::fs::read_link(sandbox.path("input")).unwrap().to_str(), Some("/proc/self/fd/0"));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), text);
    assert_eq!(boots("link").ok().trim_end(), "ready");
    assert_eq!(std::fs::read_link(sandbox.path("link")).unwrap().to_str(), Some("config"));
    assert!(!std::fs::read_to_string(&config).unwrap().contains("seed"));
}

/// It was waited for with SIGTERM put off: nothing but SIGKILL ended the agent.
fn a_fifo_in_the_place_of_the_hooks_holds_nobody_up(sandbox: &Sandbox) {
    let _fleet = agent::fleet(sandbox, "check = \"look\"");
    fifo(sandbox, "hooks.toml");
    let start = Instant::now();
    let mut agent = crate::support::Running::start(
        sandbox
            .bound_command()
            .args([
                "--fleet",
                "fleet",
                "--home",
                "fra1",
                "agent",
                "--once",
                "--run-dir",
                "run",
                "--hooks",
                "hooks.toml",
            ])
            .stderr(std::fs::File::create(sandbox.path("said")).unwrap()),
    );
    let ended = loop {
        if let Some(status) = agent.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it hangs");
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = std::fs::read_to_string(sandbox.path("said")).unwrap();
    assert_eq!(ended.code(), Some(3), "{said}");
    assert!(said.contains("cannot read hooks.toml: not a regular file"), "{said}");
    // Who needs no hook is served.
    assert!(sandbox.path("run/dns/current/tsig").exists() && !sandbox.path("run/nginx/current").exists());
}

/// The agent's unit has `UMask=0077`, and node_exporter is another user.
fn numbers_are_everybodys_to_read_whatever_the_umask(sandbox: &Sandbox) {
    let _fleet = agent::fleet(sandbox, "");
    let line = "umask 0077; exec \"$KEYS\" --fleet fleet --home fra1 agent --once --run-dir run --metrics keys.prom";
    let mut command = Command::new("/bin/sh");
    command.env_clear().env("PATH", "/usr/bin:/bin").env("KEYS", env!("CARGO_BIN_EXE_keys"));
    Ran::of(command.args(["-c", line]).current_dir(sandbox.root())).ok();
    let mode = |path: &str| std::fs::metadata(sandbox.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("keys.prom"), 0o644);
    assert_eq!(std::fs::metadata(sandbox.path("keys.prom")).unwrap().nlink(), 1);
}

fn a_pull_that_brings_nothing_leaves_nothing(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let id = id(&fleet);
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    std::fs::create_dir(sandbox.path("there")).unwrap();
    let pull = |directory: &str, from: &str, id: &str| {
        sandbox.keys(&["--fleet", directory, "--home", "new", "--pin", id, "pull", "--from", from])
    };
    pull("a/b/fleet", "http://127.0.0.1:1", &id).refuses(7, "nothing was pulled");
    pull("a/b/fleet", "empty", &id).refuses(3, "it has no keyring/log/checkpoint");
    pull("a/b/fleet", "fleet", &"0".repeat(64)).refuses(3, "pinned is 0000");
    sandbox
        .keys(&["--fleet", "a/b/fleet", "--home", "new", "pull", "--from", "fleet"])
        .refuses(5, "no fleet is pinned");
    assert!(!sandbox.path("a").exists());
    // What was there before stays, empty as it is.
    pull("there", "empty", &id).refuses(3, "it has no keyring/log/checkpoint");
    assert_eq!(std::fs::read_dir(sandbox.path("there")).unwrap().count(), 0);
    pull("a/b/fleet", "fleet", &id).ok();
    pull("a/b/fleet", "empty", &id).refuses(3, "it has no keyring/log/checkpoint");
    sandbox.keys(&["--fleet", "a/b/fleet", "--home", "new", "--pin", &id, "log", "verify"]).ok();
}

fn an_address_that_is_none_is_not_remembered(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let id = id(&fleet);
    let pull = |from: &str| {
        let words = ["--fleet", "new", "--home", "home", "--pin", &id, "pull", "--remember", "--from", from];
        sandbox.keys(&words)
    };
    pull("fleet").ok();
    for (from, problem) in [
        ("ftp://keys.example", "it begins with neither https:// nor http://"),
        ("https://me:secret@keys.example", "somebody's name and password beside it"),
        ("https://keys.example/\u{1b}[31m", "it has characters that a plain address has not"),
    ] {
        let ran = pull(from);
        ran.refuses(2, problem);
        assert!(!ran.stderr().contains('\u{1b}') && !ran.stderr().contains("secret"), "{}", ran.stderr());
        assert_eq!(std::fs::read_to_string(sandbox.path("home/mirrors")).unwrap(), "fleet\n");
    }
    // One that is only away may come back.
    pull("http://127.0.0.1:1").exits(7);
    assert_eq!(std::fs::read_to_string(sandbox.path("home/mirrors")).unwrap(), "http://127.0.0.1:1\n");
}
