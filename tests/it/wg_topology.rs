//! Who is whose peer: topologies, roles, and a mesh that falls apart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use keys::ops;
use keys::policy::wireguard::TEMPLATE;

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, tests};

tests!["wg_topology":
    a_topology_says_whose_files_name_whom,
    a_policy_may_not_split_a_mesh_that_is_whole,
    a_compromised_hub_goes_although_the_mesh_falls_apart,
    an_external_peer_keeps_its_place,
    interfaces_have_the_peers_of_the_topology,
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

/// A key that nobody has: the public half of a number that is no secret.
fn a_key(seed: u8) -> String {
    use rand::SeedableRng as _;
    let mut rng = rand::rngs::StdRng::from_seed([seed; 32]);
    keys::wireguard::WgPrivateKey::generate(&mut rng).public().to_string()
}

fn external(name: &str, key: &str, index: u64, rest: &str) -> String {
    let head = format!("[[external]]\nname = \"{name}\"\npublic_key = \"{key}\"\n");
    format!("{head}region = \"default\"\nindex = {index}\n{rest}\n")
}

fn an_external_peer_keeps_its_place(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.join("ams1", "");
    let full = |external: &str| draft(&fleet, &format!("default = \"full\"\n{external}"));
    let peers = "peers = [\"member:fra1\"]";
    for (name, index, part) in [
        ("laptop", 1, "the external peer 'laptop' has the index of "),
        ("ams1", 4, "the external peer 'ams1' has the name of a member"),
        ("alice", 4, "the external peer 'alice' has the name of a member"),
    ] {
        full(&external(name, &a_key(1), index, peers));
        let refused = fleet.keys("alice", &["policy", "propose", "--yes"]);
        refused.refuses(3, part);
        assert!(refused.stderr().contains("policy/wireguard.toml:"), "{}", refused.stderr());
    }
    // A key of a PoP is that PoP's.
    fleet.keys("alice", &["wg", "render", "--out", "bare"]).ok();
    let bare: Value = serde_json::from_slice(&std::fs::read(sandbox.path("bare/fra1/mesh.json")).unwrap()).unwrap();
    full(&external("laptop", bare["lanes"][1]["public_key"].as_str().unwrap(), 4, peers));
    fleet
        .keys("alice", &["policy", "propose", "--yes"])
        .refuses(3, "is that of fra1 on lane b and of laptop on lane a");

    full(&external("laptop", &a_key(1), 3, peers));
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.keys("alice", &["wg", "render", "--out", "with"]).ok();
    let conf = |pop: &str, lane: &str| {
        std::fs::read_to_string(sandbox.path(&format!("with/{pop}/wg-quick/wg-{lane}.conf"))).unwrap()
    };
    assert!(conf("fra1", "a").contains(&a_key(1)) && !conf("fra1", "b").contains(&a_key(1)));
    assert!(!conf("ams1", "a").contains(&a_key(1)));
    // Its index is nobody else's: 1 and 2 are taken, and 3 is its own.
    fleet.join("sin1", "");
    fleet.keys("alice", &["wg", "render", "--out", "after"]).ok();
    let mesh: Value = serde_json::from_slice(&std::fs::read(sandbox.path("after/sin1/mesh.json")).unwrap()).unwrap();
    assert_eq!(mesh["node"]["index"], 4);
    fleet.keys("laptop", &["enroll", "laptop", "--endpoint", "203.0.113.9"]).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).refuses(3, "laptop: 2 nodes have this name");
    // What rests after a PoP has left is no external peer's either.
    fleet.keys("alice", &["revoke", "sin1", "--reason", "retired", "--yes"]).ok();
    full(&external("laptop", &a_key(1), 4, peers));
    fleet.keys("alice", &["policy", "propose", "--yes"]).refuses(3, "'laptop' has an index that rests until");
}

fn interfaces_have_the_peers_of_the_topology(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    for pop in ["ams1", "fra1", "sin1"] {
        stage.join(sandbox, pop, &[]);
    }
    let peers = |stage: &Stage, pop: &str| {
        let fleet = stage.open();
        let mesh = ops::mesh(fleet.state()).unwrap();
        let name = member(pop);
        let of_lanes = ops::wanted_lanes(&name, &mesh, &ops::Preshared::default()).unwrap().map(|lane| {
            let mut names: Vec<String> = lane.peers.values().map(|link| link.name.to_string()).collect();
            names.sort();
            names.join(" ")
        });
        let wanted = ops::agent_wants(&name, &mesh, fleet.state()).unwrap();
        let wanted: Vec<String> = wanted.peers.keys().map(ToString::to_string).collect();
        let fixed: Vec<String> =
            ops::fixed_peers(&name, &mesh).iter().map(|e| format!("{} {}", e.node.name, e.lane)).collect();
        (of_lanes, wanted.join(" "), fixed.join(" "))
    };
    let said =
        |lanes: [&str; 2], agent: &str, fixed: &str| (lanes.map(str::to_owned), agent.to_owned(), fixed.to_owned());
    assert_eq!(peers(&stage, "fra1"), said(["ams1 sin1", "ams1 sin1"], "ams1 sin1", ""));
    let rule = "default = \"groups\"\n[[topology.rule]]\nbetween = [\"member:fra1\", \"member:ams1\"]\n";
    let pools = "[[ipam.pool]]\nregion = \"eu\"\nipv4 = \"10.88.32.0/20\"\nsubnet6 = 17\n\n[topology]";
    assert!(TEMPLATE.contains("default = \"full\""));
    let laptop = external("laptop", &a_key(2), 200, "lane = \"b\"\npeers = [\"member:fra1\"]");
    stage.carry(|fleet, _| {
        Stage::policy(fleet, "wireguard.toml", |t| {
            let (head, _) = t.split_once("[topology]").unwrap();
            format!("{head}{pools}\n{rule}{laptop}")
        })
    });
    // One region: its nodes are peers. The laptop is on its lane alone, and no agent decides about it.
    assert_eq!(peers(&stage, "fra1"), said(["ams1 sin1", "ams1 laptop sin1"], "ams1 sin1", "laptop b"));
    assert_eq!(peers(&stage, "ams1"), said(["fra1 sin1", "fra1 sin1"], "fra1 sin1", ""));
    stage.carry(|fleet, _| {
        Stage::policy(fleet, "wireguard.toml", |t| t.replace("default = \"groups\"", "default = \"hub\""))
    });
    assert_eq!(peers(&stage, "fra1"), said(["ams1", "ams1 laptop"], "ams1", "laptop b"));
    assert_eq!(peers(&stage, "sin1"), said(["", ""], "", ""));
    stage.is_sound();
}
