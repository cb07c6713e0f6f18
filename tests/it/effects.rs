//! What somebody is shown before she signs: computed by her own program, whatever the proposer says, and however many
//! signatures there are yet.

use keys::ssh::SshPrivateKey;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::support::{Sandbox, TestFleet, tests};

tests!["effects":
    a_proposal_shows_who_gains_and_who_loses,
    a_departure_shows_what_is_burned_and_what_stops,
    a_policy_shows_whose_word_weighs_more_and_which_secrets_move,
    a_policy_shows_who_comes_in_without_the_log,
    what_cannot_be_computed_is_said,
];

/// The one proposal that waits, as `who` sees it.
fn waiting(fleet: &TestFleet<'_>, who: &str) -> Value {
    let ran = fleet.keys(who, &["approve", "--json"]);
    ran.ok();
    let all = ran.json()["waiting"].clone();
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
    all[0].clone()
}

/// What `approve ID` shows before it asks.
fn shown(fleet: &TestFleet<'_>, who: &str, waiting: &Value) -> String {
    let ran = fleet.keys(who, &["approve", waiting["id"].as_str().unwrap(), "--dry-run"]);
    ran.exits(9);
    ran.stderr()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "should say '{part}':\n{text}");
    }
}

fn a_proposal_shows_who_gains_and_who_loses(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.keys("ams1", &["enroll", "ams1", "--endpoint", "198.51.100.9"]).ok();
    let reason = "nobody joins, nothing changes";
    fleet.keys("alice", &["approve", "--all", "--yes", "--reason", reason]).exits(4);
    let proposal = waiting(&fleet, "bob");
    assert_eq!(proposal["standing"]["state"], "lacks");
    let effects = &proposal["effects"];
    assert_eq!(effects["joins"], json!({ "ams1": "pop" }));
    assert_eq!((&effects["leaves"], &effects["rules"]), (&json!({}), &json!([])));
    assert!(effects["mesh"]["ams1"]["after"].as_str().unwrap().starts_with("10.88.16.2 "), "{effects}");
    assert_eq!(effects["mesh"]["ams1"]["peers"], 1);
    assert_eq!(effects["ssh"]["principals"]["ams1"]["gains"], json!(["ams1.cdn.example"]));
    assert_eq!(effects["ssh"]["principals"]["alice"]["gains"], json!(["deploy:ams1"]));
    assert_eq!(effects["keys"].as_array().unwrap().len(), 8, "four slots, active and standby: {effects}");
    let text = shown(&fleet, "bob", &proposal);
    says(
        &text,
        &[
            "+ ams1 is a member (pop)",
            "+ ams1 is in the mesh at 10.88.16.2",
            "+ bob may have SSH certificates as deploy:ams1",
        ],
    );
    let listed = fleet.keys("bob", &["approve"]).ok();
    says(&listed, &["1 join", "expires in "]);
    // To be shown something changes nothing.
    assert_eq!(waiting(&fleet, "alice"), proposal);
}

fn a_departure_shows_what_is_burned_and_what_stops(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "");
    fleet.seal("nginx@fra1/tls.key", "value");
    let ran = fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--dry-run", "--json"]);
    ran.exits(9);
    // One signature takes a machine out; to see it as a proposal bob's machine, without the log's key, hands it in.
    fleet.keys("bob", &["revoke", "fra1", "--reason", "compromised", "--yes"]).exits(4);
    let proposals = fleet.keys("bob", &["approve", "--json"]).json()["waiting"].clone();
    let retire =
        proposals.as_array().unwrap().iter().find(|p| p["statement"]["act"] == "member.retire").unwrap().clone();
    assert_eq!(retire["standing"]["state"], "complete");
    let effects = &retire["effects"];
    assert_eq!(effects["leaves"], json!({ "fra1": "compromised", "nginx@fra1": "compromised" }));
    assert_eq!(effects["secrets"]["nginx@fra1/tls.key"]["burned"], "nginx@fra1");
    assert_eq!(effects["secrets"]["nginx@fra1/tls.key"]["orphaned"], true);
    assert!(effects["mesh"]["fra1"]["after"].is_null() && effects["mesh"]["fra1"]["before"].is_string());
    let text = shown(&fleet, "alice", &retire);
    says(
        &text,
        &[
            "- fra1 is no member any more (compromised)",
            "! nginx@fra1/tls.key belongs to nobody any more",
            "! nginx@fra1 could read what has to be replaced now: nginx@fra1/tls.key",
            "- fra1 is out of the mesh; 1 other PoPs drop it",
            "keys of fra1 count as compromised",
        ],
    );
}

fn a_policy_shows_whose_word_weighs_more_and_which_secrets_move(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx,dns");
    fleet.seal("nginx@fra1/tls.key", "value");
    let (rules, secrets) = (sandbox.path("fleet/policy/fleet.toml"), sandbox.path("fleet/policy/secrets.toml"));
    let text = std::fs::read_to_string(&rules).unwrap();
    let unscheduled = "when = \"unscheduled\"\nneed = { operator = 2 }";
    assert!(text.contains(unscheduled));
    let weaker = text.replacen(unscheduled, "when = \"unscheduled\"\nneed = { operator = 1 }", 1);
    let scheduled = "when = \"scheduled\"\nneed = { operator = 1 }";
    let changed = weaker.replacen(scheduled, "when = \"scheduled\"\nneed = { operator = 2 }", 1);
    assert_ne!(changed, weaker);
    std::fs::write(&rules, changed).unwrap();
    let more = "\n[[secret]]\nmatch = \"nginx@fra1/*\"\nreaders = [\"dns@fra1\"]\nwrite_only = true\n";
    let kept = std::fs::read_to_string(&secrets).unwrap();
    std::fs::write(&secrets, kept + more).unwrap();
    let parts = [
        "! WEAKER: key.activate (unscheduled) takes operator 1 instead of operator 2",
        "~ key.activate (scheduled) takes operator 2 instead of operator 1",
        "+ alice can do alone: key.activate (unscheduled)",
        "- bob can no longer do alone: key.activate (scheduled)",
        "+ dns@fra1 will be able to read, from the next reseal on: nginx@fra1/tls.key",
        "- alice will be no reader any more, from the next reseal on, of nginx@fra1/tls.key",
        "-need = { operator = 2 }",
        "+readers = [\"dns@fra1\"]",
    ];
    // The proposer sees it before she signs, and so does whoever approves.
    let proposed = fleet.keys("alice", &["policy", "propose", "--yes", "--reason", "a comment is corrected"]);
    says(&proposed.exits(4), &parts);
    let proposal = waiting(&fleet, "bob");
    says(&shown(&fleet, "bob", &proposal), &parts);
    says(&fleet.keys("bob", &["approve"]).ok(), &["1 rules get WEAKER", "1 gain secrets, 2 lose secrets"]);
    let weaker: Vec<&Value> =
        proposal["effects"]["rules"].as_array().unwrap().iter().filter(|r| r["weaker"] == true).collect();
    assert_eq!(weaker.len(), 1, "{weaker:?}");
    assert_eq!((&weaker[0]["act"], &weaker[0]["case"]), (&json!("key.activate"), &json!("unscheduled")));
    // What was said is what comes: after it alice is no reader by policy.
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    let who = fleet.keys("alice", &["who", "nginx@fra1/tls.key", "--json"]).json();
    assert_eq!(who["drifted"], true, "{who}");
}

fn a_policy_shows_who_comes_in_without_the_log(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "");
    let path = sandbox.path("fleet/policy/ssh.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let keys: Vec<String> = (1..=3)
        .map(|seed| format!("\"{}\"", SshPrivateKey::generate(&mut StdRng::seed_from_u64(seed)).public()))
        .collect();
    let glass = |count: usize, sign: usize, lifetime: &str| {
        let table = format!(
            "require_proof = true\n\n[ca.break-glass]\nkeys = [{}]\nsign = {sign}\nprincipals = [\"deploy:{{pop}}\"]\n\
             lifetime = \"{lifetime}\"\nextensions = [\"permit-pty\"]\n",
            keys[..count].join(", ")
        );
        std::fs::write(&path, text.replace("require_proof = false", &table)).unwrap();
        let said = fleet.keys("alice", &["policy", "propose", "--yes"]).exits(4);
        let proposal = waiting(&fleet, "bob");
        says(&shown(&fleet, "bob", &proposal), &[said.lines().find(|l| l.contains("[ca.break-glass]")).unwrap()]);
        let (ca, settings) = (&proposal["effects"]["ssh"]["user_ca"], &proposal["effects"]["settings"]);
        let found = (ca["gains"].as_array().map_or(0, Vec::len), ca["loses"].as_array().map_or(0, Vec::len));
        let weaker =
            settings.as_array().unwrap().iter().find(|s| s["name"] == "[ca.break-glass]").unwrap()["weaker"].clone();
        fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
        fleet.keys("alice", &["sync"]).ok();
        (said, found, weaker == true)
    };
    let (said, cas, weaker) = glass(2, 2, "4h");
    let parts =
        ["[log] require_proof", "[log] staple_proof", "2 of 2 keys let in as deploy:{pop} for 4h, with permit-pty"];
    says(&said, &parts);
    assert_eq!((cas, weaker), ((2, 0), true), "{said}");
    assert_eq!((glass(3, 3, "4h").1, glass(3, 3, "2h").2), ((1, 0), false));
    assert_eq!((glass(3, 2, "2h").2, glass(2, 2, "2h").1), (true, (0, 1)));
}

fn what_cannot_be_computed_is_said(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("lifetime = \"7d\"", "lifetime = \"5d\"", 1)).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).exits(4);
    let proposal = waiting(&fleet, "bob");
    let digest = proposal["statement"]["changes"][0]["policy"]["fleet.toml"].as_str().unwrap();
    std::fs::remove_file(fleet.keyring(&format!("objects/{}/{}", &digest[..2], &digest[2..]))).unwrap();
    let text = shown(&fleet, "bob", &proposal);
    says(&text, &["what it would change cannot be told", "is missing"]);
    assert!(waiting(&fleet, "bob")["effects"].is_null());
}
