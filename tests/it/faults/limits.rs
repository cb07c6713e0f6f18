//! A machine that is short of something: room on its disk, a place to write to, input, a home, a terminal, the right time.
//! Each time a clear message and the right exit code, and what was there is there.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Ran, Sandbox, TestFleet, at_time, command_of, tests};

tests!["faults::limits":
    files_that_may_not_grow_are_named,
    a_process_killed_for_a_file_too_large_loses_nothing,
    a_full_disk_is_named_and_leaves_the_fleet_as_it_was needs [MountNamespace],
    an_answer_that_cannot_be_written_is_a_failure,
    a_closed_pipe_is_a_failure_and_no_bug,
    without_input_nothing_is_sealed,
    without_a_home_directory_it_says_so,
    without_a_terminal_nothing_is_changed,
    a_home_that_others_can_read_is_refused,
    a_clock_far_back_is_noticed needs [Faketime],
    a_clock_far_ahead_is_noticed needs [Faketime],
];

/// A fleet with fra1 and its secret.
fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.seal("fra1/token", "old");
    fleet
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_keys")
}

/// Runs a line of shell in which `$KEYS` is the program for this fleet and alice.
fn shell(sandbox: &Sandbox, line: &str) -> Ran {
    let mut command = Command::new("/bin/sh");
    command
        .env_clear()
        .env("HOME", sandbox.root())
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("KEYS", format!("{} --fleet fleet --home alice", program()))
        .current_dir(sandbox.root())
        .args(["-c", line]);
    Ran::of(&mut command)
}

/// Everything is sound, the secret has one of these values, and a change goes through.
#[track_caller]
fn intact(fleet: &TestFleet<'_>, values: &[&str]) {
    fleet.keys("alice", &["sync"]).ok();
    fleet.keys("alice", &["log", "verify"]).ok();
    let value = fleet.keys("fra1", &["open", "fra1/token"]).ok();
    assert!(values.contains(&value.as_str()), "{value}");
    fleet.seal("fra1/token", "next");
    assert_eq!(fleet.keys("fra1", &["open", "fra1/token"]).ok(), "next");
}

fn log_size(fleet: &TestFleet<'_>) -> u64 {
    fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64().unwrap()
}

/// `ulimit -f` in steps of 512 bytes, from nothing at all up to where the change goes through. Before the commit it fails
/// and nothing has happened; after it, it says that the change is made.
fn files_that_may_not_grow_are_named(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    sandbox.write("value", "new");
    fleet.keys("alice", &["sync"]).ok();
    let (mut refused, mut unfinished, mut done) = (0, 0, false);
    for blocks in [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256] {
        let size = log_size(&fleet);
        let ran = shell(sandbox, &format!("trap '' XFSZ; ulimit -f {blocks}; exec $KEYS seal fra1/token <value"));
        if ran.code() == 0 {
            done = true;
            break;
        }
        ran.refuses(1, "File too large");
        assert!(ran.stderr().contains("cannot write fleet/keyring/"), "{}", ran.stderr());
        fleet.keys("alice", &["log", "verify"]).ok();
        fleet.keys("alice", &["sync"]).ok();
        if ran.stderr().contains("the change is made") {
            unfinished += 1;
            assert_eq!(log_size(&fleet), size + 1, "{blocks} blocks: {}", ran.stderr());
        } else {
            refused += 1;
            assert_eq!(log_size(&fleet), size, "{blocks} blocks: {}", ran.stderr());
        }
    }
    assert!(refused > 0 && unfinished > 0 && done, "{refused} refused, {unfinished} unfinished");
    intact(&fleet, &["new"]);
}

/// The same without the trap: the system kills it with SIGXFSZ in the middle of a write.
fn a_process_killed_for_a_file_too_large_loses_nothing(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    sandbox.write("value", "new");
    let mut killed = 0;
    for blocks in [0, 1, 2, 4, 6, 8, 10, 12] {
        let ran = shell(sandbox, &format!("ulimit -f {blocks}; $KEYS seal fra1/token <value"));
        killed += usize::from(ran.code() == 128 + 25);
        fleet.keys("alice", &["log", "verify"]).ok();
    }
    assert!(killed >= 3, "{killed} were killed");
    intact(&fleet, &["old", "new"]);
}

/// A disk of a few pages, filled to the brim, with a little less room each time.
fn a_full_disk_is_named_and_leaves_the_fleet_as_it_was(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    sandbox.write("value", vec![b'x'; 20_000]);
    // All of it in a mount namespace of its own, which goes with the shell.
    let script =
        "mkdir small && mount -t tmpfs -o size=2m none small && cp -a fleet alice fra1 small/ && cd small || exit 99
        K=\"${KEYS%% *} --fleet fleet --home alice\"; F=\"${KEYS%% *} --fleet fleet --home fra1\"
        full=0
        for left in 0 4 8 12 16 20 24 28 32 36 40 44 48 52 56 60 64 68 72 76 80; do
            rm -f fill; dd if=/dev/zero of=fill bs=1k 2>/dev/null
            truncate -s -${left}k fill
            $K seal fra1/token <../value 2>../err; code=$?
            if [ $code = 0 ]; then rm fill; break; fi
            [ $code = 1 ] || { echo \"exit $code with $left KiB left\"; cat ../err; exit 1; }
            grep -q 'No space left on device' ../err && grep -q 'cannot .* fleet/keyring/' ../err || { cat ../err; exit 1; }
            full=$((full + 1))
            $K log verify >../out || { cat ../out; exit 1; }
            $F open fra1/token >../out || exit 1
            grep -q 'the change is made' ../err || [ \"$(cat ../out)\" = old ] || grep -q xxx ../out || { echo neither; exit 1; }
        done
        rm -f fill; $K sync || exit 1; $K log verify || exit 1
        $F open fra1/token | cmp - ../value || exit 1
        echo full $full";
    let mut command = Command::new("/usr/bin/unshare");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("KEYS", program())
        .current_dir(sandbox.root())
        .args(["-m", "/bin/sh", "-c", script]);
    let said = Ran::of(&mut command).ok();
    let full = said.lines().last().and_then(|l| l.strip_prefix("full ")).and_then(|n| n.parse::<u32>().ok());
    assert!(full.is_some_and(|n| n >= 3), "{said}");
    intact(&fleet, &["old"]);
}

fn an_answer_that_cannot_be_written_is_a_failure(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    for line in ["status", "status --json", "log verify", "log show", "ls", "approve --json", "completions bash"] {
        let ran = shell(sandbox, &format!("$KEYS {line} >/dev/full"));
        ran.refuses(1, "cannot write the answer: No space left on device");
    }
    let opened = shell(sandbox, &format!("{} --fleet fleet --home fra1 open fra1/token >/dev/full", program()));
    opened.refuses(1, "cannot write the answer");
    assert_ne!(shell(sandbox, "$KEYS --help >/dev/full").code(), 0);
    intact(&fleet, &["old"]);
}

fn a_closed_pipe_is_a_failure_and_no_bug(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    // A reader that goes before anything is written, and one that takes a line of much.
    for line in ["status", "log show", "completions bash"] {
        let ran = shell(sandbox, &format!("{{ sleep 0.3; $KEYS {line}; echo $? >code; }} | true; cat code"));
        assert_eq!(ran.ok(), "1\n", "{line}: {}", ran.stderr());
        assert!(ran.stderr().contains("cannot write the answer: Broken pipe"), "{}", ran.stderr());
        assert!(!ran.stderr().contains("this is a bug") && !ran.stderr().contains("panicked"), "{}", ran.stderr());
    }
    let ran = shell(sandbox, "$KEYS completions bash | head -1");
    assert_eq!(ran.ok(), "_keys() {\n");
    // A change whose answer nobody reads has been made all the same.
    let size = log_size(&fleet);
    shell(sandbox, "{ sleep 0.3; echo new | $KEYS seal fra1/token; } | true").ok();
    assert_eq!(log_size(&fleet), size + 1);
    intact(&fleet, &["new\n"]);
}

fn without_input_nothing_is_sealed(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let size = log_size(&fleet);
    for line in ["$KEYS seal fra1/token <&-", "$KEYS seal fra1/token </dev/null", ": | $KEYS seal fra1/token"] {
        shell(sandbox, line).refuses(1, "fra1/token: the value is empty");
    }
    shell(sandbox, "$KEYS seal fra1/token --in none").refuses(5, "cannot read none");
    shell(sandbox, "$KEYS rotate fra1 <&-").refuses(9, "no terminal");
    assert_eq!(log_size(&fleet), size);
    intact(&fleet, &["old"]);
}

fn without_a_home_directory_it_says_so(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let without = |args: &[&str]| {
        let mut command = sandbox.command();
        Ran::of(command.env_clear().args(args))
    };
    without(&["explain", "6"]).ok();
    without(&["--fleet", "fleet", "status"]).refuses(2, "there is no home directory; give one with --home");
    without(&["--fleet", "fleet", "--home", "alice", "status"]).ok();
    let mut given = sandbox.command();
    Ran::of(given.env_clear().env("KEYS_HOME", "alice").args(["--fleet", "fleet", "status"])).ok();
    // An empty one is none.
    let mut empty = sandbox.command();
    Ran::of(empty.env("HOME", "").args(["--fleet", "fleet", "status"])).refuses(2, "there is no home directory");
    intact(&fleet, &["old"]);
}

fn without_a_terminal_nothing_is_changed(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.keys("ams1", &["enroll", "ams1"]).ok();
    let size = log_size(&fleet);
    for args in [
        &["rotate", "fra1"][..],
        &["rotate", "--all"],
        &["revoke", "fra1", "--reason", "lost"],
        &["rm", "fra1/token"],
        &["approve", "--all"],
    ] {
        let ran = fleet.keys_with("alice", args, b"y\n");
        ran.refuses(9, "there is no terminal to ask on");
        assert!(ran.stderr().contains("--yes"), "{}", ran.stderr());
    }
    assert_eq!(log_size(&fleet), size);
    intact(&fleet, &["old"]);
}

fn a_home_that_others_can_read_is_refused(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let home = sandbox.path("alice");
    for mode in [0o755, 0o750, 0o701, 0o770] {
        std::fs::set_permissions(&home, Permissions::from_mode(mode)).unwrap();
        for args in [&["status"][..], &["rotate", "fra1", "--yes"], &["sync"], &["open", "fra1/token"]] {
            let ran = fleet.keys("alice", args);
            ran.refuses(1, &format!("the home alice can be read by others (mode {mode:04o})"));
            assert!(ran.stderr().contains("run: chmod 700 alice"), "{}", ran.stderr());
        }
    }
    std::fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
    intact(&fleet, &["old"]);
}

/// The program at another time.
fn at(sandbox: &Sandbox, time: &str, args: &[&str]) -> Ran {
    let mut command = command_of(&at_time(time, Path::new(program())));
    command.env_clear().env("TZ", "UTC").env("PATH", "/usr/bin:/bin").current_dir(sandbox.root());
    command.args(["--fleet", "fleet", "--home", "alice"]);
    sandbox.write("value", "from another time");
    let input = std::fs::File::open(sandbox.path("value")).unwrap();
    let output = command.args(args).stdin(Stdio::from(input)).output().unwrap();
    Ran { line: format!("{time}: {}", args.join(" ")), output }
}

fn a_clock_far_back_is_noticed(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    for args in [&["seal", "fra1/token"][..], &["rotate", "fra1", "--yes"], &["sync"]] {
        let ran = at(sandbox, "2020-01-01 00:00:00", args);
        ran.refuses(7, "is the clock right?");
        assert!(ran.stderr().contains("it is 2020-01-01T00:00:00Z here"), "{}", ran.stderr());
    }
    // A machine that boots without a clock goes on serving, by the log's time, and says so.
    for args in [&["status"][..], &["open", "fra1/token"]] {
        let ran = at(sandbox, "2020-01-01 00:00:00", args);
        ran.ok();
        assert!(ran.stderr().contains("is the clock right?"), "{}", ran.stderr());
    }
    at(sandbox, "2020-01-01 00:00:00", &["log", "verify"]).ok();
    intact(&fleet, &["old"]);
}

/// A clock that is years ahead finds everything expired, and says of what it speaks; nothing it could sign gets into the
/// log, where it would lock out every clock that is right.
fn a_clock_far_ahead_is_noticed(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let size = log_size(&fleet);
    at(sandbox, "2040-01-01 00:00:00", &["log", "verify"]).ok();
    at(sandbox, "2040-01-01 00:00:00", &["seal", "fra1/token"]).refuses(1, "is not valid at 2040-01-01T00:00:00Z");
    // Her signature does not count by then, so this is a proposal that still needs it.
    at(sandbox, "2040-01-01 00:00:00", &["rotate", "fra1", "--yes"]).exits(4);
    assert_eq!(log_size(&fleet), size);
    intact(&fleet, &["old"]);
}
