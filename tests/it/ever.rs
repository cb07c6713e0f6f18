//! Who could read what, ever: by the log alone, key by key and version by version, and the same as the audit says.

use serde_json::Value;

use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["ever":
    every_version_is_told_with_every_key_that_could_read_it,
    a_member_that_came_back_under_its_name_is_told_with_its_old_keys,
];

const ADDRESS: &str = "nginx@fra1/tls.key";

/// The rows, each as version, reader, the state of its key and whether it can read it still.
fn rows(ran: &Ran) -> Vec<(u64, String, String, bool)> {
    ran.ok();
    let json = ran.json();
    let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let row =
        |r: &Value| (r["version"].as_u64().unwrap(), text(&r["reader"]), text(&r["key_state"]), r["until"].is_null());
    json["ever"].as_array().unwrap().iter().map(row).collect()
}

fn count(rows: &[(u64, String, String, bool)], version: u64, reader: &str, state: &str, now: bool) -> usize {
    rows.iter().filter(|r| **r == (version, reader.to_owned(), state.to_owned(), now)).count()
}

fn every_version_is_told_with_every_key_that_could_read_it(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "nginx");
    fleet.seal(ADDRESS, "the first");
    fleet.seal("nginx@ams1/tls.key", "not asked for");
    // Nobody's keys are needed for the answer.
    let ask = |args: &[&str]| fleet.keys("nobody", &[args, &["--json"]].concat());
    let who = || rows(&ask(&["who", ADDRESS, "--ever"]));
    let first = who();
    assert_eq!(first.len(), 4, "{first:?}");
    assert_eq!(count(&first, 1, "nginx@fra1", "active", true), 1);
    assert_eq!(count(&first, 1, "nginx@fra1", "pre-active", true), 1);

    // A rotation, and a reseal to the next standby: the old key could read the first version, and no other.
    let old = fleet.active_and_standby("nginx@fra1", "openpgp").0;
    fleet.keys("alice", &["rotate", "nginx@fra1", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    fleet.seal(ADDRESS, "the second");
    let second = who();
    let json = ask(&["who", ADDRESS, "--ever"]).json();
    let of_old: Vec<&Value> = json["ever"].as_array().unwrap().iter().filter(|r| r["key"] == old).collect();
    assert!(of_old.len() == 1 && of_old[0]["version"] == 1 && of_old[0]["until"].is_string(), "{of_old:?}");
    assert!(of_old[0]["from"].as_str() <= of_old[0]["until"].as_str());
    assert_eq!(second.iter().filter(|r| r.0 == 2 && r.3).count(), 4, "{second:?}");
    assert!(second.iter().all(|r| (r.0 == 2) == r.3), "what was replaced is read by nobody now: {second:?}");

    // A theft is known at once of every key that was on the machine, in every version.
    fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
    let stolen = who();
    let of_thief: Vec<_> = stolen.iter().filter(|r| r.1 == "nginx@fra1" && r.2 != "destroyed").collect();
    assert!(of_thief.len() > 3 && of_thief.iter().all(|r| r.2 == "compromised"), "{stolen:?}");
    let said = fleet.keys("nobody", &["who", ADDRESS, "--ever"]).ok();
    assert!(said.contains("COMPROMISED") && said.lines().next().unwrap().contains("UNTIL"), "{said}");

    // The same from the other side, the PoP with its services; and nobody else's.
    let reach = ask(&["reach", "fra1", "--ever"]).json();
    let reach = reach["ever"].as_array().unwrap();
    let mine: Vec<_> = json["ever"].as_array().unwrap().iter().filter(|r| r["reader"] == "nginx@fra1").collect();
    assert_eq!(reach.len(), mine.len());
    assert!(reach.iter().all(|r| r["address"] == ADDRESS && r["reader"] == "nginx@fra1"));

    // The audit, which tells members and not keys, says the same.
    let audit = fleet.keys("nobody", &["audit", "--json"]).json();
    let secret = audit["secrets"].as_array().unwrap().iter().find(|s| s["address"] == ADDRESS).unwrap();
    let access = &secret["ever"]["nginx@fra1"];
    assert_eq!((&access["first"], &access["last"]), (&1.into(), &2.into()), "{secret}");
    let since = json["ever"].as_array().unwrap().iter().filter(|r| r["reader"] == "nginx@fra1").map(|r| &r["from"]);
    assert_eq!(since.min_by_key(|t| t.as_str()).unwrap(), &access["since"]);

    // Removed, it is still told; what never was is not.
    fleet.keys("alice", &["rm", ADDRESS, "--yes"]).ok();
    assert!(who().iter().all(|r| !r.3) && who().len() >= stolen.len());
    fleet.keys("nobody", &["who", "fra1/none", "--ever"]).refuses(5, "there is no secret fra1/none");
    fleet.keys("nobody", &["reach", "sin1", "--ever"]).refuses(5, "sin1 is not a member");
    assert!(fleet.keys("nobody", &["reach", "casc1", "--ever"]).stderr().contains("never could read anything"));
}

fn a_member_that_came_back_under_its_name_is_told_with_its_old_keys(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.seal("fra1/token", "the first");
    let old = fleet.active_and_standby("fra1", "openpgp").0;
    fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
    std::fs::rename(sandbox.path("fra1"), sandbox.path("stolen")).unwrap();
    fleet.join("fra1", "");
    fleet.seal("fra1/token", "the second");
    let json = fleet.keys("nobody", &["reach", "fra1", "--ever", "--json"]).json();
    let rows = json["ever"].as_array().unwrap();
    let of_old: Vec<_> = rows.iter().filter(|r| r["key"] == old).collect();
    assert!(of_old.len() == 1 && of_old[0]["version"] == 1 && of_old[0]["key_state"] == "compromised", "{rows:?}");
    let new: Vec<_> = rows.iter().filter(|r| r["version"] == 2).map(|r| r["key_state"].as_str().unwrap()).collect();
    assert!(new.len() == 2 && new.contains(&"active") && new.contains(&"pre-active"), "{rows:?}");
}
