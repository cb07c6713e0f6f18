//! Who is whose peer: topologies, roles, and a mesh that falls apart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{Sandbox, TestFleet, tests};

tests!["wg_topology":
    a_topology_says_whose_files_name_whom,
    a_policy_may_not_split_a_mesh_that_is_whole,
    a_compromised_hub_goes_although_the_mesh_falls_apart,
];

/// `(PoP, role)`.
const POPS: [(&str, &str); 4] = [("ams1", "hub"), ("fra1", "transit"), ("sin1", "transit"), ("waw1", "")];

fn four_pops(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    for (i, (pop, role)) in POPS.iter().enumerate() {
        let endpoint = format!("198.51.100.{}", i + 1);
        let mut args = vec!["enroll", pop, "--endpoint", &endpoint];
        if !role.is_empty() {
            args.extend(["--role", role]);
        }
        fleet.keys(pop, &args).ok();
    }
    let shown = fleet.keys("alice", &["approve"]).ok();
    assert!(shown.contains("pop fra1 wants to join at 198.51.100.2 with the roles transit, with"), "{shown}");
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    fleet
}

/// Writes the topology into the draft of the policy.
fn draft(fleet: &TestFleet<'_>, topology: &str) {
    let file = fleet.sandbox.path("fleet/policy/wireguard.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once("[topology]").unwrap();
    std::fs::write(&file, format!("{before}[topology]\n{topology}")).unwrap();
}

/// Whom each node's files name as peer; all files of a node are held against its description.
fn peers(fleet: &TestFleet<'_>, directory: &str) -> BTreeMap<String, BTreeSet<String>> {
    fleet.keys("alice", &["wg", "render", "--out", directory]).ok();
    let mut found = BTreeMap::new();
    for node in std::fs::read_dir(fleet.sandbox.path(directory)).unwrap().map(|e| e.unwrap().path()) {
        let read = |path: &str| std::fs::read_to_string(node.join(path)).unwrap();
        let mesh: Value = serde_json::from_str(&read("mesh.json")).unwrap();
        let listed = mesh["peers"].as_array().unwrap();
        let names: BTreeSet<String> = listed.iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect();
        for lane in ["a", "b"] {
            for (file, word) in [
                (format!("wg-quick/wg-{lane}.conf"), "[Peer]"),
                (format!("wg/wg-{lane}.addconf"), "[Peer]"),
                (format!("networkd/60-wg-{lane}.netdev"), "[WireGuardPeer]"),
                (format!("wg/wg-{lane}.routes"), "/32 "),
                (format!("networkd/60-wg-{lane}.network"), "Destination=10."),
            ] {
                let text = read(&file);
                assert_eq!(text.matches(word).count(), names.len(), "{file}: {text}");
                for peer in listed {
                    let (v4, name) = (peer["ipv4"].as_str().unwrap(), peer["name"].as_str().unwrap());
                    assert!(text.contains(&format!("{v4}/32")), "{file} of {} lacks {name}", node.display());
                }
            }
        }
        // Names are for everybody, whoever can be reached.
        let hosts = read("hosts");
        assert!(
            POPS.iter()
                .all(|(pop, _)| !node.parent().unwrap().join(pop).exists() || hosts.contains(&format!(" {pop}\n")))
        );
        found.insert(node.file_name().unwrap().to_str().unwrap().to_owned(), names);
    }
    found
}

/// The same in one line: `ams1 fra1 sin1 | fra1 ams1 | …`, after a check that peers are peers of each other.
fn graph(fleet: &TestFleet<'_>, directory: &str) -> String {
    let peers = peers(fleet, directory);
    for (node, names) in &peers {
        assert!(names.iter().all(|name| peers[name].contains(node)), "{peers:?}");
    }
    let line = |(node, names): (&String, &BTreeSet<String>)| {
        std::iter::once(node).chain(names).cloned().collect::<Vec<_>>().join(" ")
    };
    peers.iter().map(line).collect::<Vec<_>>().join(" | ")
}

fn a_topology_says_whose_files_name_whom(sandbox: &Sandbox) {
    let fleet = four_pops(sandbox);
    assert_eq!(
        graph(&fleet, "full"),
        "ams1 fra1 sin1 waw1 | fra1 ams1 sin1 waw1 | sin1 ams1 fra1 waw1 | waw1 ams1 fra1 sin1"
    );
    draft(&fleet, "default = \"hub\"\n");
    let proposed = fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    assert!(proposed.contains("- 3 pairs of PoPs cease to be peers in the mesh"), "{proposed}");
    assert_eq!(graph(&fleet, "hub"), "ams1 fra1 sin1 waw1 | fra1 ams1 | sin1 ams1 | waw1 ams1");
    draft(&fleet, "default = \"hub\"\n[[topology.rule]]\nbetween = [\"role:transit\", \"role:transit\"]\n");
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    assert_eq!(graph(&fleet, "rule"), "ams1 fra1 sin1 waw1 | fra1 ams1 sin1 | sin1 ams1 fra1 | waw1 ams1");
    // What an auditor is told.
    let audit = fleet.keys("alice", &["audit", "--json"]).json();
    let counts: Vec<_> = audit["mesh"].as_array().unwrap().iter().map(|row| row["peers"].as_u64().unwrap()).collect();
    assert_eq!(counts, [3, 2, 2, 1], "{}", audit["mesh"]);
    assert_eq!(audit["topology"]["rules"][0][0], "role:transit");
    // One node renders for itself what it is given out of all.
    fleet.keys("alice", &["wg", "render", "--node", "fra1", "--out", "one"]).ok();
    for file in crate::support::files_below(&sandbox.path("one")) {
        let same = sandbox.path("rule/fra1").join(file.strip_prefix(sandbox.path("one")).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(same).unwrap(), "{}", file.display());
    }
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn a_policy_may_not_split_a_mesh_that_is_whole(sandbox: &Sandbox) {
    let fleet = four_pops(sandbox);
    // The role that joins everything, misspelt.
    let empty = "default = \"hub\"\n[[topology.rule]]\nbetween = [\"role:transmit\", \"region:*\"]\n";
    fleet.keys("alice", &["revoke", "ams1", "--reason", "retired", "--yes"]).ok();
    draft(&fleet, empty);
    let refused = fleet.keys("alice", &["policy", "propose", "--yes"]);
    refused.refuses(3, "the mesh falls into 3 parts without a way to each other: fra1; sin1; waw1");
    // Joined by a rule, and yet called a hub topology.
    draft(&fleet, &empty.replace("transmit", "transit"));
    fleet.keys("alice", &["policy", "propose", "--yes"]).refuses(3, "no node has the role 'hub'");
    assert_eq!(graph(&fleet, "wg"), "fra1 sin1 waw1 | sin1 fra1 waw1 | waw1 fra1 sin1");
}

fn a_compromised_hub_goes_although_the_mesh_falls_apart(sandbox: &Sandbox) {
    let fleet = four_pops(sandbox);
    draft(&fleet, "default = \"hub\"\n");
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.keys("alice", &["revoke", "ams1", "--reason", "compromised", "--yes"]).ok();
    // Nobody may keep the robbed machine as a peer because the files cannot be written.
    assert_eq!(graph(&fleet, "wg"), "fra1 | sin1 | waw1");
    let checked = fleet.keys("alice", &["wg", "check", "--json"]);
    checked.ok();
    let codes: Vec<_> = checked.json()["warnings"].as_array().unwrap().iter().map(|w| w["code"].clone()).collect();
    assert!(codes.contains(&"graph-split".into()) && codes.contains(&"hub-none".into()), "{codes:?}");
    // A mesh that is in parts already takes any policy, step by step.
    draft(&fleet, "default = \"hub\"\n[[topology.rule]]\nbetween = [\"member:fra1\", \"member:waw1\"]\n");
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    assert_eq!(graph(&fleet, "joined"), "fra1 waw1 | sin1 | waw1 fra1");
}
