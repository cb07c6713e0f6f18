//! A fleet's life, command by command: the points of the vertical slice as a user would try them.

use crate::support::{Sandbox, TestFleet, tests};

tests!["lifecycle":
    a_founding_leaves_a_verified_fleet,
    a_file_that_is_wrong_in_two_ways_is_one_file,
    a_founding_in_a_place_that_is_not_empty_is_refused,
    a_pin_given_on_the_command_line_is_one,
    the_example_fleet_is_sound,
    a_secret_opens_for_its_readers_and_nobody_else,
    a_second_value_before_the_first_is_taken_in_is_refused,
    what_a_rotation_shows_is_what_it_does,
    a_machine_that_was_away_during_two_rotations_still_works,
    what_is_due_comes_with_time needs [Faketime],
    a_log_still_verifies_in_ten_years needs [Faketime],
];

fn a_founding_leaves_a_verified_fleet(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let status = fleet.keys("alice", &["status", "--json"]).json();
    assert_eq!(status["members"]["operator"], 1);
    assert_eq!(status["members"]["authority"], 1);
    assert_eq!(status["log"]["size"], 1);
    assert_eq!(status["id"].as_str().map(str::len), Some(64));
    let verified = fleet.keys("alice", &["log", "verify", "--json"]);
    verified.ok();
    assert_eq!(verified.json()["sound"], true);
    for file in ["fleet.toml", "secrets.toml", "ssh.toml", "wireguard.toml"] {
        let text = std::fs::read_to_string(sandbox.path("fleet/policy").join(file)).unwrap();
        assert!(text.contains("\n# ") || text.starts_with("# "), "{file} has comments");
    }
    fleet.keys("alice", &["policy", "check"]).ok();
    fleet.keys("alice", &["policy", "diff"]).ok();
}

fn a_file_that_is_wrong_in_two_ways_is_one_file(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let tile = fleet.keyring("log/tile/entries/000.p/1");
    let bytes = std::fs::read(&tile).unwrap();
    std::fs::write(&tile, &bytes[..bytes.len() - 5]).unwrap();
    let said = fleet.keys("auditor", &["log", "verify"]).exits(3);
    assert_eq!(said.matches("DAMAGED: log/tile/entries/000.p/1: ").count(), 2, "{said}");
    assert!(said.contains("NOT verified: 1 of "), "{said}");
}

fn a_founding_in_a_place_that_is_not_empty_is_refused(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet
        .keys("mallory", &["init", "cdn.example", "--operator", "Mallory <mallory@ops.example>"])
        .refuses(1, "holds a fleet already");
    assert!(!sandbox.path("mallory").exists(), "no home was made for a founding that was refused");
    fleet.keys("alice", &["log", "verify"]).ok();
}

/// An auditor has no home: `log verify --pin ID` said "not pinned here" all the same.
fn a_pin_given_on_the_command_line_is_one(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let id = fleet.keys("alice", &["status", "--json"]).json()["id"].as_str().unwrap().to_owned();
    let verify = |pin: &[&str]| fleet.keys("nobody", &[pin, &["log", "verify"]].concat());
    assert!(verify(&["--pin", &id]).ok().contains("(as pinned)"));
    assert!(verify(&[]).ok().contains("(not pinned here"));
    verify(&["--pin", &"0".repeat(64)]).exits(3);
}

fn a_secret_opens_for_its_readers_and_nobody_else(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx,dns");
    fleet.join("ams1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "the value");
    let open = |who: &str, extra: &[&str]| fleet.keys(who, &[&["open", "nginx@fra1/tls.key"], extra].concat());
    assert_eq!(open("fra1", &[]).ok(), "the value");
    assert_eq!(open("fra1", &["--as", "nginx@fra1"]).ok(), "the value");
    for operator in ["alice", "bob"] {
        assert_eq!(open(operator, &[]).ok(), "the value", "{operator} has recovery rights");
    }
    open("ams1", &[]).refuses(3, "it is sealed to other keys");
    open("fra1", &["--as", "dns@fra1"]).refuses(3, "it is sealed to other keys");
    open("nobody", &[]).refuses(5, "there is no home");
    let who = fleet.keys("alice", &["who", "nginx@fra1/tls.key", "--json"]).json();
    let readers: Vec<&String> = who["readers"].as_object().unwrap().keys().collect();
    assert_eq!(readers, ["alice", "bob", "nginx@fra1"], "{who}");
}

/// Bob's machine does not have the log's key, so what he hands in waits.
fn a_second_value_before_the_first_is_taken_in_is_refused(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.keys_with("bob", &["seal", "nginx@fra1/k"], b"first").exits(4);
    fleet.keys_with("bob", &["seal", "nginx@fra1/k"], b"second").refuses(6, "nothing was sealed; run it again when");
    let taken = fleet.keys("alice", &["sync"]);
    taken.ok();
    assert!(taken.stderr().contains("taken in: "), "{}", taken.stderr());
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/k"]).ok(), "first");
    fleet.keys_with("bob", &["seal", "nginx@fra1/k"], b"second").exits(4);
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/k"]).ok(), "second");
}

fn what_a_rotation_shows_is_what_it_does(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx,dns");
    fleet.join("ams1", "nginx");
    let plan = |args: &[&str], code| {
        let ran = fleet.keys("alice", &[&["rotate", "--json"], args].concat());
        ran.exits(code);
        ran.json()["plan"].clone()
    };
    let members = |plan: &serde_json::Value| -> Vec<String> {
        let rotations = plan["rotations"].as_array().unwrap();
        rotations.iter().map(|r| format!("{} {}", r["member"].as_str().unwrap(), r["slot"].as_str().unwrap())).collect()
    };
    assert_eq!(members(&plan(&["nginx@*", "--dry-run"], 9)), ["nginx@ams1 openpgp", "nginx@fra1 openpgp"]);
    let wireguard = members(&plan(&["--all", "--slot", "wireguard", "--dry-run"], 9));
    assert_eq!(wireguard, ["ams1 wireguard", "fra1 wireguard"]);
    assert!(members(&plan(&["--due", "--dry-run"], 0)).is_empty(), "nothing is due in a young fleet");
    let shown = plan(&["fra1", "--dry-run"], 9);
    assert_eq!(
        members(&shown),
        ["fra1 openpgp", "fra1 sign", "fra1 wireguard", "fra1 ssh-host"].map(String::from).to_vec()
    );
    let done = plan(&["fra1", "--yes"], 0);
    assert_eq!(shown, done, "the same value is shown and applied");
    // At once, without fra1 having run anything: what was standby is active now, and there is no standby.
    let again = plan(&["fra1", "--dry-run"], 0);
    assert_eq!(again["skipped"].as_array().map(Vec::len), Some(4), "{again}");
    fleet.keys("alice", &["rotate", "nobody", "--yes"]).refuses(5, "no active member matches 'nobody'");
}

fn a_machine_that_was_away_during_two_rotations_still_works(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "fra1's");
    fleet.seal("nginx@ams1/tls.key", "ams1's");
    let open = |pop: &str| fleet.keys(pop, &["open", &format!("nginx@{pop}/tls.key")]).ok();
    // fra1 runs nothing from here on; the others rotate everything, twice, its own keys included.
    for _ in 0..2 {
        fleet.keys("alice", &["rotate", "--all", "--soon", "--yes"]).ok();
        fleet.settle(&["ams1"]);
        assert_eq!((open("fra1").as_str(), open("ams1").as_str()), ("fra1's", "ams1's"));
    }
    fleet.seal("nginx@fra1/tls.key", "a new value");
    assert_eq!(open("fra1"), "a new value");
    let mesh = sandbox.path("wg").display().to_string();
    fleet.keys("fra1", &["wg", "render", "--node", "fra1", "--out", &mesh]).ok();
    // Back again it catches up, and is as the others are.
    fleet.settle(&["fra1", "ams1"]);
    let status = fleet.keys("alice", &["status"]).ok();
    assert!(!status.contains("standby") && !status.contains("drift"), "{status}");
    assert_eq!(open("fra1"), "a new value");
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn what_is_due_comes_with_time(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.keys("alice", &["rotate", "--due", "--yes"]).ok();
    sandbox.set_days_later(31);
    let due = fleet.keys("alice", &["rotate", "--due", "--dry-run", "--json"]);
    due.exits(9);
    let rotations = due.json()["plan"]["rotations"].as_array().unwrap().clone();
    assert!(rotations.iter().any(|r| r["member"] == "fra1" && r["slot"] == "wireguard"), "{rotations:?}");
    assert!(rotations.iter().all(|r| r["scheduled"] == true), "{rotations:?}");
    fleet.keys("alice", &["rotate", "--due", "--yes"]).ok();
    fleet.keys("fra1", &["sync"]).ok();
    fleet.keys("alice", &["rotate", "--due", "--dry-run"]).exits(0);
}

/// What happened is judged by the time at which it happened: certificates have expired since, and everybody is overdue.
fn a_log_still_verifies_in_ten_years(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "a value");
    fleet.keys("alice", &["rotate", "fra1", "--yes"]).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    fleet.keys("alice", &["revoke", "nginx@fra1", "--reason", "retired", "--yes"]).ok();
    let verify = || {
        let ran = fleet.keys("auditor", &["log", "verify", "--json"]);
        ran.ok();
        ran.json()
    };
    let today = verify();
    sandbox.set_days_later(3653);
    let later = verify();
    assert_eq!(today, later, "the same log says the same in ten years");
    assert_eq!(later["sound"], true);
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/tls.key"]).ok(), "a value");
}

/// The fleet that lies in the project's own `policy/` and `keyring/`.
fn the_example_fleet_is_sound(sandbox: &Sandbox) {
    let root = env!("CARGO_MANIFEST_DIR");
    let verified = sandbox.keys(&["--fleet", root, "--home", "nobody", "log", "verify", "--json"]);
    verified.ok();
    let report = verified.json();
    assert_eq!((report["sound"].as_bool(), report["void"].as_array().map(Vec::len)), (Some(true), Some(0)), "{report}");
    assert!(report["entries"].as_u64() > Some(30), "{report}");
    let status = sandbox.keys(&["--fleet", root, "--home", "nobody", "status", "--json"]);
    status.ok();
    assert_eq!((&status.json()["members"]["operator"], &status.json()["fleet"]), (&2.into(), &"cdn.example".into()));
}
