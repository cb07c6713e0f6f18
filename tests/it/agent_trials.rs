//! The agent under faults: killed at any moment, a full disk, and many nodes in an emergency.

use std::path::Path;
use std::process::Command;

use keys::node::read_together;

use crate::agent::{fleet, policy};
use crate::support::{Ran, Sandbox, TestFleet, Tool, tests};

tests!["agent_trials":
    killed_in_mid_round_it_leaves_the_old_or_the_new needs [Strace],
    a_full_disk_leaves_what_is_served needs [MountNamespace],
    a_directory_that_became_read_only_is_served_from needs [MountNamespace],
    nodes_go_through_an_emergency,
];

/// The pair that is served, read as a whole.
fn pair(directory: &Path) -> Option<[String; 2]> {
    let files = read_together(directory, &["tls.crt", "tls.key"], 1 << 20).ok()?;
    files.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect::<Vec<_>>().try_into().ok()
}

#[expect(clippy::print_stderr, reason = "how many moments were tried is worth knowing")]
fn killed_in_mid_round_it_leaves_the_old_or_the_new(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let files = ["tls.crt", "tls.key"].map(|n| format!("[[delivery.file]]\nname = \"{n}\"\nsecrets = [\"{n}\"]\n"));
    policy(&fleet, &format!("[[delivery]]\nto = \"nginx@*\"\n{}", files.concat()));
    // Both values come with one statement, so that the log never has one without the other.
    let seal = |version: usize| {
        let values = sandbox.write("values.env", format!("TLS_CRT={version}\nTLS_KEY={version}\n"));
        let from = values.display().to_string();
        fleet
            .keys(
                "alice",
                &[
                    "import",
                    "env",
                    &from,
                    "--to",
                    "nginx@fra1",
                    "--rename",
                    "TLS_CRT=tls.crt",
                    "--rename",
                    "TLS_KEY=tls.key",
                    "--yes",
                ],
            )
            .ok();
    };
    seal(0);
    let words = ["--fleet", "fleet", "--home", "fra1", "agent", "--once", "--run-dir", "run"];
    sandbox.keys(&words).ok();
    let directory = sandbox.path("run/nginx");
    let both = |version: usize| Some([version.to_string(), version.to_string()]);
    assert_eq!(pair(&directory), both(0));
    seal(1);
    // What a round writes to: the services' directories, the machine's home, and the fleet for what it acknowledges.
    let written = ["run", "fra1", "fleet"];
    for name in written {
        sandbox.copy(name, &format!("before/{name}"));
    }
    let (mut old, mut new) = (0, 0);
    // Whatever comes into its place, goes, or is durable does so by one of these.
    for call in ["mkdirat", "symlinkat", "linkat", "renameat", "unlinkat", "fsync"] {
        for nth in 1.. {
            for name in written {
                sandbox.copy(&format!("before/{name}"), name);
            }
            let is_killed = sandbox.keys_under_fault(&words, call, &format!("signal=KILL:when={nth}")).is_killed();
            let served = pair(&directory).unwrap_or_else(|| panic!("nothing is served, killed at {call} {nth}"));
            if is_killed && Some(&served) == both(0).as_ref() {
                old += 1;
            } else {
                assert_eq!(Some(&served), both(1).as_ref(), "killed at {call} {nth}");
                new += i32::from(is_killed);
            }
            sandbox.keys(&words).ok();
            assert_eq!(pair(&directory), both(1), "after a kill at {call} {nth}");
            let left: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert!(left.iter().all(|n| !n.to_string_lossy().starts_with('.')), "{left:?} after {call} {nth}");
            if !is_killed {
                break;
            }
        }
    }
    eprintln!("agent: killed at {} moments of a round, at {old} of them before the new pair was served", old + new);
    assert!(old > 0 && new > 0, "{old} {new}");
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn a_full_disk_leaves_what_is_served(sandbox: &Sandbox) {
    let _fleet = fleet(sandbox, "");
    // The value that comes next does not fit; then there is room again.
    let script = "set -e\nrun() { \"$0\" --fleet fleet --home fra1 agent --once --run-dir run; }\n\
                  mkdir -m 0751 run\nmount -t tmpfs -o size=96k,mode=0751 none run\nrun\n\
                  head -c 200000 /dev/zero | tr '\\0' x | \"$0\" --fleet fleet --home alice seal nginx@fra1/tls.crt\n\
                  printf 'tsig 2' | \"$0\" --fleet fleet --home alice seal dns@fra1/tsig\n\
                  if run 2> said; then exit 9; fi\ncat said\ncat run/nginx/current/tls.pem run/dns/current/tsig\necho\nls -A run/nginx\n\
                  mount -o remount,size=4m run\nrun\nwc -c < run/nginx/current/tls.pem\numount run\n";
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["-m", "/bin/sh", "-c", script, env!("CARGO_BIN_EXE_keys")]).current_dir(sandbox.root());
    let said = Ran::of(&mut command).ok();
    for part in ["No space left", "generation 1 is served", "certificate 1\nkey 1\ntsig 2\n", "200007\n"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.lines().any(|line| line.starts_with(".new-")), "{said}");
}

/// It said that nothing was served yet, and told the others so.
fn a_directory_that_became_read_only_is_served_from(sandbox: &Sandbox) {
    let _fleet = fleet(sandbox, "");
    let script = "set -e\nrun() { \"$0\" --fleet fleet --home fra1 agent --once --run-dir run; }\n\
                  mkdir -m 0751 run\nmount -t tmpfs -o size=1m,mode=0751 none run\nrun\nmount -o remount,ro run\nrun\n\
                  printf 'tsig 2' | \"$0\" --fleet fleet --home alice seal dns@fra1/tsig\n\
                  if run 2> said; then exit 9; fi\ncat said run/dns/current/tsig\n\
                  \"$0\" --fleet fleet --home alice status --nodes\nmount -o remount,rw run\nrun\ncat run/dns/current/tsig\numount run\n";
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["-m", "/bin/sh", "-c", script, env!("CARGO_BIN_EXE_keys")]).current_dir(sandbox.root());
    let said = Ran::of(&mut command).ok();
    for part in [
        "Read-only file system (os error 30); generation 1 is served",
        "tsig 1",
        "dns: incomplete, generation 1 is served",
        "tsig 2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("nothing is served"), "{said}");
}

/// Fifty with KEYS_TEST_LONG=1: each replays what all of them have logged, so the time grows with their square.
fn nodes_go_through_an_emergency(sandbox: &Sandbox) {
    let count = if Tool::Long.path().is_some() { 50 } else { 12 };
    let fleet = TestFleet::of_one(sandbox);
    let names: Vec<String> = (1..=count).map(|n| format!("pop{n}")).collect();
    for name in &names {
        let endpoint = format!("pop-{name}.cdn.example");
        fleet.keys(name, &["enroll", name, "--endpoint", &endpoint]).ok();
    }
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    let shared = "[[secret]]\nmatch = \"*/token\"\nshared = true\n";
    policy(
        &fleet,
        &format!("{shared}[[delivery]]\nto = \"pop*\"\n[[delivery.file]]\nname = \"token\"\nsecrets = [\"*/token\"]\n"),
    );
    fleet.seal("*/token", "for all");
    let round = |name: &str| fleet.keys(name, &["agent", "--once", "--run-dir", &format!("run-{name}")]);
    let served = |name: &str| std::fs::read_to_string(sandbox.path(&format!("run-{name}/{name}/current/token"))).ok();
    for name in &names {
        round(name).ok();
        assert_eq!(served(name).as_deref(), Some("for all"));
    }
    let lost = ["pop7", "pop11"];
    let declare = ["emergency", "declare", lost[0], lost[1], "--why", "compromised", "--reason", "seen elsewhere"];
    fleet.keys("alice", &[&declare[..], &["--out", "two.emergency", "--yes"]].concat()).ok();
    for name in &names {
        fleet.keys(name, &["emergency", "apply", "two.emergency", "--yes"]);
    }
    // Each goes on with what it has, or has nothing any more; nobody else is touched.
    for name in &names {
        round(name);
        let is_lost = lost.contains(&name.as_str());
        assert_eq!(served(name).is_none(), is_lost, "{name}");
    }
    // What both could read waits for alice to agree that it is resealed; not every node asks her that in each round.
    let proposals = std::fs::read_dir(fleet.keyring("proposals")).unwrap().count();
    assert_eq!(proposals, 4, "the emergency, and three nodes' offers");
    fleet.keys("alice", &["sync"]);
    for name in names.iter().filter(|n| !lost.contains(&n.as_str())) {
        round(name).ok();
    }
    let ran = fleet.keys("alice", &["status", "--nodes", "--json"]);
    ran.ok();
    let nodes = ran.json()["nodes"].as_array().unwrap().clone();
    assert_eq!(nodes.len(), count - lost.len());
    assert!(
        nodes.iter().all(|n| n["stale"] == false && n["ack"]["deliveries"][0]["outcome"] == "current"),
        "{nodes:?}"
    );
}
