//! Homes hold the only private keys there are: nothing overwrites them, whatever is asked twice, at once, or in the wrong
//! place; and a machine or person who comes back does not lose, or take along, what was before.

use std::path::PathBuf;
use std::process::Stdio;

use keys::fleet::Placed;
use keys::name::Kind;
use keys::ops::{self, Joining, OpsError};
use keys::statement::{Facts, RetireReason};
use keys::time::Span;

use crate::support::stage::{Stage, member};
use crate::support::written::operator;
use crate::support::{Forged, Sandbox, TestFleet, files_below, now, tests};

tests!["hardening::homes":
    a_home_of_one_fleet_asks_to_found_no_other,
    a_founding_overwrites_no_keys,
    a_founding_that_was_refused_is_in_nobodys_way,
    a_second_request_keeps_the_keys_of_the_first,
    two_requests_at_once_are_one,
    a_machine_that_comes_back_is_a_new_one,
    what_somebody_sealed_opens_when_another_has_the_name,
];

/// The files of a home that hold keys, with their bytes.
fn kept(sandbox: &Sandbox, home: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = files_below(&sandbox.path(home)).into_iter().filter(|p| !p.ends_with("seen"));
    paths.map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
}

fn a_home_of_one_fleet_asks_to_found_no_other(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let before = kept(sandbox, "alice");
    assert!(before.len() > 5, "{before:?}");
    for name in ["alice", "casc1", "carol"] {
        let user_id = "Alice <alice@ops.example>";
        let args = ["enroll", name, "--operator", user_id, "--founding", "other.example", "--out", "r"];
        fleet.keys("alice", &args).refuses(1, "this home belongs to the fleet cdn.example");
        assert!(kept(sandbox, "alice") == before, "{name}");
    }
    let init = ["--fleet", "other", "--home", "alice", "init", "other.example", "--operator"];
    sandbox.keys(&[&init[..], &["Alice <alice@ops.example>"]].concat()).refuses(1, "belongs to the fleet cdn.example");
    assert!(kept(sandbox, "alice") == before);
    fleet.keys("alice", &["sync"]).ok();
}

fn a_founding_overwrites_no_keys(sandbox: &Sandbox) {
    let fleet = TestFleet { sandbox };
    let ask = |domain: &str| {
        let user_id = "Alice <alice@ops.example>";
        fleet.keys("alice", &["enroll", "alice", "--operator", user_id, "--founding", domain, "--out", domain])
    };
    ask("one.example").ok();
    let before = kept(sandbox, "alice");
    fleet
        .keys("alice", &["init", "two.example", "--operator", "Alice <alice@ops.example>"])
        .refuses(1, "this home has keys of alice already");
    ask("two.example").refuses(1, "this home has keys of alice already, for one.example/keys/1");
    assert!(kept(sandbox, "alice") == before);
    assert_eq!(files_below(&sandbox.path("fleet")), Vec::<PathBuf>::new());
    // Asked again for the same fleet it is the same request.
    let first = std::fs::read(sandbox.path("one.example")).unwrap();
    ask("one.example").ok();
    assert_eq!(std::fs::read(sandbox.path("one.example")).unwrap(), first);
    assert!(kept(sandbox, "alice") == before);
}

/// Refused late: by the rules of the log, when alice's keys had been made already.
fn a_founding_that_was_refused_is_in_nobodys_way(sandbox: &Sandbox) {
    let bob = Forged::new("cdn.example", "bob", Kind::Operator, now(), Span::days(30));
    let standby = bob.fresh.keys.iter().find(|k| k.slot == keys::name::Slot::Sign && !k.active).unwrap();
    let standby = keys::openpgp::Fingerprint::from_hex(&standby.key).unwrap();
    let wrong = sandbox.write("wrong.request", bob.signed_by(&standby)).display().to_string();
    let good = sandbox.write("good.request", bob.signed()).display().to_string();
    let fleet = TestFleet { sandbox };
    let init = ["init", "cdn.example", "--operator", "Alice <alice@ops.example>", "--operator"];
    fleet.keys("alice", &[&init[..], &[&wrong]].concat()).refuses(1, "it is not signed by bob");
    assert_eq!(files_below(&sandbox.path("alice")), Vec::<PathBuf>::new());
    fleet.keys("alice", &[&init[..], &[&good]].concat()).exits(4);
}

fn services(of: &str, names: &[&str]) -> Joining {
    Joining {
        member: member(of),
        kind: Kind::Pop,
        services: names.iter().map(|n| n.parse().unwrap()).collect(),
        facts: Facts::default(),
        user_id: None,
    }
}

fn a_second_request_keeps_the_keys_of_the_first(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &[]);
    let home = stage.homes[&member("fra1")].clone();
    let ask = |stage: &mut Stage, names: &[&str]| {
        ops::ask(&services("fra1", names), &home, &mut stage.open(), &mut stage.rng)
    };
    let first = ask(&mut stage, &["redis", "mongo"]).unwrap();
    let before = kept(sandbox, "home-fra1");
    for names in [&["mongo"][..], &["redis"], &["mongo", "dns"]] {
        let refused = ask(&mut stage, names).unwrap_err();
        assert!(matches!(&refused, OpsError::Waiting { with, .. } if with == "mongo@fra1, redis@fra1"), "{refused}");
        assert!(kept(sandbox, "home-fra1") == before);
    }
    assert_eq!(ask(&mut stage, &["mongo", "redis"]).unwrap(), first);
    stage.admit(&first);
    for address in ["mongo@fra1/pw", "redis@fra1/pw"] {
        stage.seal("alice", address, "value");
        assert_eq!(stage.opens("fra1", address), "value");
    }
}

fn two_requests_at_once_are_one(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let enroll = || {
        let mut command = sandbox.command();
        let args = ["--fleet", "fleet", "--home", "fra1", "enroll", "fra1", "--service", "a,b"];
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let ended = [enroll(), enroll(), enroll()].map(|mut child| child.wait().unwrap().code());
    assert_eq!(ended, [Some(0); 3]);
    assert_eq!(files_below(&fleet.keyring("proposals/requests")).len(), 1);
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    for address in ["fra1/x", "a@fra1/x", "b@fra1/x"] {
        fleet.seal(address, address);
        assert_eq!(fleet.keys("fra1", &["open", address]).ok(), address);
    }
}

fn a_machine_that_comes_back_is_a_new_one(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    for (home, again) in [("home-fra1", false), ("home-fra1", true), ("home-new", true)] {
        if again {
            stage.carry(|fleet, home| {
                let plan = ops::plan_revoke(&member("fra1"), RetireReason::Retired, home, fleet);
                vec![plan.unwrap().draft("goes away")]
            });
            stage.is_sound();
        }
        stage.join_from(sandbox, home, &services("fra1", &["nginx"]));
        stage.settle(&["fra1"]);
        stage.is_sound();
        stage.seal("alice", "nginx@fra1/tls.key", "value");
        assert_eq!(stage.opens("fra1", "nginx@fra1/tls.key"), "value");
    }
    assert_eq!(stage.open().state().former.len(), 4, "the certificates of fra1 and nginx@fra1 of two earlier lives");
}

fn what_somebody_sealed_opens_when_another_has_the_name(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    stage.join_from(sandbox, "home-bob", &operator("bob"));
    stage.settle(&["bob", "fra1"]);
    assert!(matches!(stage.seal("bob", "nginx@fra1/tls.key", "of the first bob")[..], [Placed::HandedIn { .. }]));
    stage.settle(&["fra1"]);
    stage.carry(|fleet, home| {
        vec![ops::plan_revoke(&member("bob"), RetireReason::Retired, home, fleet).unwrap().draft("goes away")]
    });
    assert_eq!(stage.opens("fra1", "nginx@fra1/tls.key"), "of the first bob");
    stage.homes.remove(&member("bob"));
    stage.join_from(sandbox, "home-another", &operator("bob"));
    stage.settle(&["bob", "fra1"]);
    let opened =
        ops::open(&"nginx@fra1/tls.key".parse().unwrap(), None, &stage.homes[&member("fra1")], &mut stage.open());
    assert_eq!(opened.unwrap().value.as_slice(), b"of the first bob");
    stage.is_sound();
}
