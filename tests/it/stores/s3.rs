//! S3, by moto on loopback: the suite, the probe, and a fleet's life in a bucket.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keys::disk::{Cloud, Disk};
use keys::limits::SECRET_BYTES_MAX;

use super::{does_as_a_disk_does, keeps_its_word};
use crate::support::{Ran, Running, Sandbox, Tool, bound, tests};

tests!["stores::s3":
    a_bucket_in_s3_keeps_its_word needs [Moto],
    a_fleet_lives_in_a_bucket needs [Moto],
    two_authorities_append_at_once_and_one_dies_in_mid_commit needs [Moto],
    stores_with_a_flaw_are_refused needs [Moto],
];

/// A server, and what the program is told of it.
struct Server {
    endpoint: String,
    _running: Running,
}

impl Server {
    fn start(flaw: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stores/server.py");
        let mut command = bound(Tool::Moto.path().unwrap());
        command.args([script, flaw]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running::start(&mut command);
        let mut port = String::new();
        BufReader::new(running.stdout.take().unwrap()).read_line(&mut port).unwrap();
        assert!(!port.trim().is_empty(), "the server did not start");
        Self { endpoint: format!("http://127.0.0.1:{}", port.trim()), _running: running }
    }

    /// The bucket's part below `prefix`, as the library has it.
    fn bucket(&self, prefix: &str) -> Cloud {
        let settings = [
            ("aws_access_key_id", "testing"),
            ("aws_secret_access_key", "testing"),
            ("aws_region", "us-east-1"),
            ("aws_allow_http", "true"),
            ("aws_endpoint_url", self.endpoint.as_str()),
        ];
        Cloud::open_with(&format!("s3://fleets/{prefix}"), Some(&settings)).unwrap()
    }

    fn keys(&self, sandbox: &Sandbox, home: &str, args: &[&str]) -> Ran {
        Ran::of(&mut self.command(sandbox, home, args))
    }

    fn command(&self, sandbox: &Sandbox, home: &str, args: &[&str]) -> Command {
        let mut command = sandbox.command();
        command.env("AWS_ACCESS_KEY_ID", "testing").env("AWS_SECRET_ACCESS_KEY", "testing");
        command.env("AWS_ALLOW_HTTP", "true").env("AWS_ENDPOINT_URL", &self.endpoint);
        command.env("KEYS_FLEET", "s3://fleets/cdn").args(["--home", home]).args(args);
        command
    }
}

fn a_bucket_in_s3_keeps_its_word(_: &Sandbox) {
    let server = Server::start("honest");
    keeps_its_word(&server.bucket("suite"));
    does_as_a_disk_does(&Disk::of_bucket(server.bucket("disk")));
    // What lies beside a prefix is not below it.
    keeps_its_word(&server.bucket("suit"));
    assert!(
        server.bucket("").requests().load(std::sync::atomic::Ordering::Relaxed) == 0,
        "nothing is asked before it is wanted"
    );
}

fn a_fleet_lives_in_a_bucket(sandbox: &Sandbox) {
    let server = Server::start("honest");
    let keys = |home: &str, args: &[&str]| server.keys(sandbox, home, args);
    let init = ["init", "cdn.example", "--operator", "Alice <alice@ops.example>"];
    // Nothing is written to a store that was not tried.
    let refused = keys("alice", &init);
    refused.exits(1);
    assert!(refused.stderr().contains("keys store probe"), "{}", refused.stderr());
    keys("alice", &["status"]).exits(5);
    assert!(keys("alice", &["store", "probe"]).ok().ends_with("held\n"));
    keys("alice", &init).ok();
    // Each home tries it by itself.
    keys("fra1", &["enroll", "fra1", "--service", "nginx", "--endpoint", "198.51.100.1"]).exits(1);
    keys("fra1", &["store", "probe"]).ok();
    keys("fra1", &["enroll", "fra1", "--service", "nginx", "--endpoint", "198.51.100.1"]).ok();
    keys("alice", &["approve", "--all", "--yes"]).ok();
    let value = sandbox.write("value", "the value");
    keys("alice", &["seal", "nginx@fra1/tls.key", "--in", value.to_str().unwrap()]).ok();
    assert_eq!(keys("fra1", &["open", "nginx@fra1/tls.key"]).ok(), "the value");
    keys("alice", &["rotate", "--all", "--yes", "--reason", "staff change"]).ok();
    keys("fra1", &["sync"]).ok();
    assert_eq!(keys("fra1", &["open", "nginx@fra1/tls.key"]).ok(), "the value");
    assert!(keys("nobody", &["log", "verify"]).ok().starts_with("verified: "));
    // A machine brings what it needs into a directory of its own, and goes on without the store.
    let made = keys("alice", &["log", "snapshot", "--yes", "--json"]).json();
    let hash = made["state"].as_str().unwrap();
    keys("alice", &["seal", "nginx@fra1/tls.key", "--in", value.to_str().unwrap()]).ok();
    let pull = |more: &[&str]| keys("fra1", &[&["--fleet", "copy", "--verbose", "pull"], more].concat());
    let brought = pull(&["--from", "s3://fleets/cdn", "--own", "--remember", "--snapshot", hash]);
    assert!(brought.ok().contains("new entries from s3://fleets/cdn"), "{}", brought.stdout());
    let requests = |ran: &Ran| -> u64 {
        let said = ran.stderr();
        let line =
            said.lines().find(|l| l.contains(" requests to the object store")).unwrap_or_else(|| panic!("{said}"));
        line.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
    };
    let again = pull(&[]);
    assert!(again.ok().starts_with("up to date"), "{}", again.stdout());
    assert!(requests(&again) < 12 && requests(&again) < requests(&brought), "{}", again.stderr());
    assert_eq!(keys("fra1", &["--fleet", "copy", "open", "nginx@fra1/tls.key"]).ok(), "the value");
    keys("fra1", &["--fleet", "other", "pull", "--from", "s3://fleets/nowhere"]).exits(3);
    // A value that does not fit into memory comes in parts, one request each; the copy's readers have them too.
    let large: String = (0..SECRET_BYTES_MAX / 16 + 1).map(|n| format!("{n:015}\n")).collect();
    let file = sandbox.write("large", &large);
    keys("alice", &["seal", "fra1/dump", "--in", file.to_str().unwrap()]).ok();
    assert!(keys("fra1", &["open", "fra1/dump"]).ok() == large);
    pull(&[]).ok();
    assert!(keys("fra1", &["--fleet", "copy", "open", "fra1/dump"]).ok() == large);
    // What needs a directory says so.
    let refused = keys("alice", &["serve", "--listen", "127.0.0.1:0"]);
    refused.exits(2);
    assert!(refused.stderr().contains("needs the fleet in a directory"), "{}", refused.stderr());
}

fn stores_with_a_flaw_are_refused(sandbox: &Sandbox) {
    for flaw in ["ignores", "races"] {
        let server = Server::start(flaw);
        let probed = server.keys(sandbox, flaw, &["store", "probe", "--json"]);
        probed.exits(3);
        assert!(probed.json()["double_wins"].as_u64().unwrap() > 0, "{flaw}");
        let init = ["init", "cdn.example", "--operator", "Alice <alice@ops.example>"];
        server.keys(sandbox, flaw, &init).exits(1);
    }
}

/// Seals a secret of this number; gives whether the program said that it is done. Some are killed after a while.
fn seals(server: &Server, sandbox: &Sandbox, home: &str, number: usize, kill_after: Option<Duration>) -> bool {
    let address = format!("fra1/{home}-{number}");
    let value = sandbox.write(&format!("value-{home}-{number}"), &address);
    let mut command = server.command(sandbox, home, &["seal", &address, "--in", value.to_str().unwrap()]);
    let Some(after) = kill_after else { return Ran::of(&mut command).code() == 0 };
    let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let deadline = Instant::now() + after;
    while Instant::now() < deadline {
        if let Some(status) = running.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    running.kill().unwrap();
    running.wait().unwrap().success()
}

/// Two machines with the log's key, each with a home of its own, and no lock between them. One is killed now and then.
fn two_authorities_append_at_once_and_one_dies_in_mid_commit(sandbox: &Sandbox) {
    let server = Server::start("honest");
    let keys = |home: &str, args: &[&str]| server.keys(sandbox, home, args);
    keys("one", &["store", "probe"]).ok();
    keys("one", &["init", "cdn.example", "--operator", "Alice <alice@ops.example>"]).ok();
    keys("fra1", &["store", "probe"]).ok();
    keys("fra1", &["enroll", "fra1", "--endpoint", "198.51.100.1"]).ok();
    keys("one", &["approve", "--all", "--yes"]).ok();
    sandbox.copy("one", "two");
    let start = Instant::now();
    assert!(seals(&server, sandbox, "one", 0, None));
    let usual = start.elapsed();
    let is_long = std::env::var_os("KEYS_TEST_LONG").is_some_and(|value| value == "1");
    let patience = Duration::from_secs(if is_long { 600 } else { 12 });
    let start = Instant::now();
    let round = |home: &'static str, dies: bool| {
        let mut done = BTreeSet::new();
        let (mut tried, mut killed) = (0, 0);
        // On a busy machine it takes longer, until some were killed early.
        while start.elapsed() < patience || tried < 12 {
            tried += 1;
            // At other moments of the command each time.
            let kill = (dies && tried % 2 == 0).then(|| usual.mul_f64(0.2 + f64::from(tried * 7 % 23) / 14.0));
            match seals(&server, sandbox, home, usize::try_from(tried).unwrap(), kill) {
                true => drop(done.insert(format!("fra1/{home}-{tried}"))),
                false => killed += 1,
            }
        }
        (done, tried, killed)
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| round("two", true));
        (round("one", false), other.join().unwrap())
    });
    eprintln!(
        "stores::s3: {} and {} of {} and {} sealed; usually {} ms",
        one.0.len(),
        two.0.len(),
        one.1,
        two.1,
        usual.as_millis()
    );
    assert!(two.2 > 0 && one.0.len() > 2, "nobody died, or nobody got anywhere");
    // Whoever lives is told the truth: what failed for him lost its place too often, and nothing else.
    assert!(one.2 * 5 <= one.1, "{} of {} failed", one.2, one.1);
    assert!(seals(&server, sandbox, "one", 9_999, None), "the other goes on");
    // What whoever was killed has left is noted, and no damage.
    let verified = keys("nobody", &["log", "verify"]).ok();
    assert!(verified.lines().any(|l| l.starts_with("verified: ")), "{verified}");
    let listed = keys("one", &["ls", "--json"]).json();
    let there: BTreeSet<String> =
        listed["secrets"].as_array().unwrap().iter().map(|s| s["address"].as_str().unwrap().to_owned()).collect();
    for address in one.0.iter().chain(&two.0) {
        assert!(there.contains(address), "{address} was acknowledged, and is not there");
    }
    // What was killed is there whole, or not at all.
    for address in there.iter().rev().take(12) {
        assert_eq!(keys("fra1", &["open", address]).ok(), *address);
    }
}
