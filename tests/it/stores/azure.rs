//! Azure Blob, by Azurite on loopback: the suite, the probe, and a fleet in a container.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use keys::disk::{Cloud, Disk};

use super::{a_fleet_lives, does_as_a_disk_does, keeps_its_word};
use crate::support::{Ran, Running, Sandbox, Tool, bound, tests};

tests!["stores::azure":
    a_container_in_azure_keeps_its_word needs [Azurite, Python3],
    a_fleet_lives_in_a_container needs [Azurite, Python3],
];

/// The account that Azurite has, as its documentation has it.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

struct Server {
    endpoint: String,
    _running: Running,
}

impl Server {
    /// A server with an empty container `fleets`.
    fn start() -> Self {
        let mut command = bound(Tool::Azurite.path().unwrap());
        command.args(["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", "0"]);
        let mut running =
            Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/"));
        let lines = BufReader::new(running.stdout.take().unwrap()).lines();
        let said = lines.map_while(Result::ok).find(|l| l.contains("successfully listens on")).expect("it starts");
        let port = said.rsplit_once(':').unwrap().1.trim().to_owned();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stores/container.py");
        Ran::of(Tool::Python3.command().args([script, &port, "fleets", ACCOUNT, KEY])).ok();
        Self { endpoint: format!("http://127.0.0.1:{port}/{ACCOUNT}"), _running: running }
    }

    fn settings(&self) -> [(&'static str, &str); 4] {
        [
            ("azure_storage_account_name", ACCOUNT),
            ("azure_storage_account_key", KEY),
            ("azure_storage_endpoint", &self.endpoint),
            ("azure_allow_http", "true"),
        ]
    }

    fn bucket(&self, prefix: &str) -> Cloud {
        Cloud::open_with(&format!("az://fleets/{prefix}"), Some(&self.settings())).unwrap()
    }

    fn keys(&self, sandbox: &Sandbox, home: &str, args: &[&str]) -> Ran {
        let mut command = sandbox.command();
        command.envs(self.settings().map(|(name, value)| (name.to_uppercase(), value)));
        Ran::of(command.env("KEYS_FLEET", "az://fleets/cdn").args(["--home", home]).args(args))
    }
}

fn a_container_in_azure_keeps_its_word(_: &Sandbox) {
    let server = Server::start();
    keeps_its_word(&server.bucket("suite"));
    does_as_a_disk_does(&Disk::of_bucket(server.bucket("disk")));
}

fn a_fleet_lives_in_a_container(sandbox: &Sandbox) {
    let server = Server::start();
    a_fleet_lives(sandbox, &|home, args| server.keys(sandbox, home, args));
}
