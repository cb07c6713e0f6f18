//! A fleet's life, command by command: the points of the vertical slice as a user would try them.

use crate::support::{Sandbox, TestFleet, tests};

tests!["lifecycle":
    a_founding_leaves_a_verified_fleet,
    a_founding_in_a_place_that_is_not_empty_is_refused,
    a_pin_given_on_the_command_line_is_one,
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
