//! Google's store, by fake-gcs-server on loopback behind a front that speaks the XML API: the suite, the probe, a fleet.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use keys::disk::{Cloud, Disk};

use super::{a_fleet_lives, does_as_a_disk_does, keeps_its_word};
use crate::nginx::free_port;
use crate::support::{Ran, Running, Sandbox, Tool, bound, tests};

tests!["stores::gcs":
    a_bucket_of_google_keeps_its_word needs [FakeGcs, Python3],
    a_fleet_lives_in_a_bucket_of_google needs [FakeGcs, Python3],
    a_server_that_ignores_generations_is_refused needs [FakeGcs, Python3],
];

/// An account that signs nothing and asks nobody for a token: without one a cloud's own machine would be asked.
const ACCOUNT: &str = r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#;

struct Server {
    endpoint: String,
    _running: [Running; 2],
}

impl Server {
    /// A server with an empty bucket `fleets`, and the front before it.
    fn start(flaw: &str) -> Self {
        let port = free_port();
        let mut command = bound(Tool::FakeGcs.path().unwrap());
        command.args(["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()]);
        command.args(["-public-host", &format!("127.0.0.1:{port}")]).current_dir("/");
        let behind = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "fake-gcs-server did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stores/gcs.py");
        let mut command = bound(Tool::Python3.path().unwrap());
        command.args([script, &port.to_string(), flaw]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut front = Running::start(command.stdout(Stdio::piped()));
        let mut port = String::new();
        BufReader::new(front.stdout.take().unwrap()).read_line(&mut port).unwrap();
        assert!(!port.trim().is_empty(), "the front did not start");
        Self { endpoint: format!("http://127.0.0.1:{}", port.trim()), _running: [behind, front] }
    }

    fn settings(&self) -> [(&'static str, &str); 3] {
        [("google_base_url", &self.endpoint), ("google_service_account_key", ACCOUNT), ("google_allow_http", "true")]
    }

    fn bucket(&self, prefix: &str) -> Cloud {
        Cloud::open_with(&format!("gs://fleets/{prefix}"), Some(&self.settings())).unwrap()
    }

    fn keys(&self, sandbox: &Sandbox, home: &str, args: &[&str]) -> Ran {
        let mut command = sandbox.command();
        command.envs(self.settings().map(|(name, value)| (name.to_uppercase(), value)));
        Ran::of(command.env("KEYS_FLEET", "gs://fleets/cdn").args(["--home", home]).args(args))
    }
}

fn a_bucket_of_google_keeps_its_word(_: &Sandbox) {
    let server = Server::start("honest");
    keeps_its_word(&server.bucket("suite"));
    does_as_a_disk_does(&Disk::of_bucket(server.bucket("disk")));
}

fn a_fleet_lives_in_a_bucket_of_google(sandbox: &Sandbox) {
    let server = Server::start("honest");
    a_fleet_lives(sandbox, &|home, args| server.keys(sandbox, home, args));
}

fn a_server_that_ignores_generations_is_refused(sandbox: &Sandbox) {
    let server = Server::start("ignores");
    let probed = server.keys(sandbox, "alice", &["store", "probe", "--json"]);
    probed.exits(3);
    assert!(probed.json()["double_wins"].as_u64().unwrap() > 0, "{}", probed.stdout());
    server.keys(sandbox, "alice", &["init", "cdn.example", "--operator", "Alice <alice@ops.example>"]).exits(1);
}
