//! S3, by moto on loopback: the suite, the probe, and a fleet's life in a bucket.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::support::{Ran, Running, Sandbox, Tool, bound, tests};

tests!["stores::s3":
    a_fleet_lives_in_a_bucket needs [Moto],
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

    fn keys(&self, sandbox: &Sandbox, home: &str, args: &[&str]) -> Ran {
        let mut command = sandbox.command();
        command.env("AWS_ACCESS_KEY_ID", "testing").env("AWS_SECRET_ACCESS_KEY", "testing");
        command.env("AWS_ALLOW_HTTP", "true").env("AWS_ENDPOINT_URL", &self.endpoint);
        command.env("KEYS_FLEET", "s3://fleets/cdn").args(["--home", home]).args(args);
        Ran::of(&mut command)
    }
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
