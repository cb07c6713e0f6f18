//! What people see of the mesh: drawings, and the configuration of a peer without an agent.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Sandbox, TestFleet, files_below, tests};

tests!["wg_people":
    a_drawing_has_each_node_and_each_pair_once,
    a_laptop_gets_its_configuration_and_nobody_keeps_its_key,
    who_wants_some_kinds_of_file_gets_no_others,
    findings_about_nodes_name_the_entries_they_come_of,
];

/// The private key of the laptop, which is no secret, as `wg genkey` prints it, and its public half.
fn laptop() -> (String, String) {
    use rand::SeedableRng as _;
    let mut rng = rand::rngs::StdRng::from_seed([9; 32]);
    let key = keys::wireguard::WgPrivateKey::generate(&mut rng);
    (key.to_file_text().trim_end().to_owned(), key.public().to_string())
}

/// Three PoPs, of which fra1 and ams1 are the laptop's peers.
fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    for pop in ["ams1", "fra1", "sin1"] {
        fleet.join(pop, "");
    }
    let file = sandbox.path("fleet/policy/wireguard.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (_, public) = laptop();
    let external = format!(
        "\n[[external]]\nname = \"laptop\"\npublic_key = \"{public}\"\nregion = \"default\"\nindex = 4000\n\
         peers = [\"member:fra1\", \"member:ams1\"]\n"
    );
    std::fs::write(&file, text + &external).unwrap();
    let said = fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let line = format!("laptop with the key {public}, for member:fra1, member:ams1");
    assert!(said.lines().any(|l| l.contains("+ ") && l.contains(&line)), "{said}");
    fleet
}

const PAIRS: [[&str; 2]; 5] =
    [["ams1", "fra1"], ["ams1", "laptop"], ["ams1", "sin1"], ["fra1", "laptop"], ["fra1", "sin1"]];

fn a_drawing_has_each_node_and_each_pair_once(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let svg = fleet.keys("alice", &["wg", "graph"]).ok();
    fleet.keys("alice", &["wg", "graph", "--out", "mesh.svg"]).ok();
    assert_eq!(std::fs::read_to_string(sandbox.path("mesh.svg")).unwrap(), svg);
    let document = roxmltree::Document::parse(&svg).unwrap();
    let root = document.root_element();
    assert!(root.has_tag_name(("http://www.w3.org/2000/svg", "svg")));
    let titles = |tag: &'static str| -> Vec<String> {
        let elements = document.descendants().filter(move |node| node.tag_name().name() == tag);
        let titles = elements.map(|node| node.children().find(|child| child.tag_name().name() == "title").unwrap());
        titles.map(|title| title.text().unwrap().to_owned()).collect()
    };
    assert_eq!(titles("rect"), ["ams1: default", "fra1: default", "sin1: default", "laptop: no agent, lane a"]);
    // Which lines are of a peer without an agent is said in words.
    let pair = |[a, b]: [&str; 2]| match b {
        "laptop" => format!("{a} and {b}, which has no agent"),
        _ => format!("{a} and {b}"),
    };
    let lines = titles("line");
    assert_eq!(lines.len(), PAIRS.len());
    assert_eq!(lines.into_iter().collect::<BTreeSet<_>>(), PAIRS.map(pair).into());
    // Frames do not lie on each other, and all are within the picture.
    let number = |node: &roxmltree::Node<'_, '_>, name| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let rects: Vec<_> = document.descendants().filter(|node| node.tag_name().name() == "rect").collect();
    let view: Vec<f64> = root.attribute("viewBox").unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
    for (i, one) in rects.iter().enumerate() {
        let (x, y) = (number(one, "x"), number(one, "y"));
        assert!(x >= 0.0 && y >= 0.0 && x + 124.0 <= view[2] && y + 40.0 <= view[3], "{x} {y} in {view:?}");
        for other in &rects[i + 1..] {
            let apart = (x - number(other, "x")).abs() >= 124.0 || (y - number(other, "y")).abs() >= 40.0;
            assert!(apart, "{svg}");
        }
    }
    // It asks nobody for anything, and is readable in the dark.
    assert!(svg.contains("prefers-color-scheme:dark"));
    for word in ["href", "url(", "<script", "@import"] {
        assert!(!svg.contains(word), "{word}");
    }

    let dot = fleet.keys("alice", &["wg", "graph", "--dot"]).ok();
    let edges: BTreeSet<Vec<String>> = dot
        .lines()
        .filter_map(|line| line.split_once(" -- "))
        .map(|(a, b)| [a, b].map(|side| side.split('"').nth(1).unwrap().to_owned()).to_vec())
        .collect();
    let due = PAIRS.map(|pair| pair.map(str::to_owned).to_vec());
    assert_eq!(edges, due.into(), "{dot}");
    assert_eq!(dot.matches('{').count(), dot.matches('}').count(), "{dot}");
    assert_eq!(dot.matches('"').count() % 2, 0, "{dot}");
}

fn a_laptop_gets_its_configuration_and_nobody_keeps_its_key(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (private, _) = laptop();
    let without = fleet.keys("alice", &["wg", "qr", "laptop"]).ok();
    assert!(without.contains("# PrivateKey = put here what `wg genkey` printed on this machine\n"), "{without}");
    assert!(!without.contains("\nPrivateKey") && !without.contains('█'), "{without}");
    assert_eq!(without.matches("[Peer]\n").count(), 2, "{without}");

    // Into a pipe the key goes only where it is asked for.
    let args = ["wg", "qr", "laptop", "--private-key", "-"];
    let refused = fleet.keys_with("alice", &args, format!("{private}\n").as_bytes());
    refused.refuses(2, "stdout is no terminal");
    assert!(!refused.stdout().contains(&private) && !refused.stderr().contains(&private));
    let args = ["wg", "qr", "laptop", "--private-key", "-", "--text"];
    let with = fleet.keys_with("alice", &args, format!("{private}\n").as_bytes()).ok();
    let line = format!("PrivateKey = {private}\n");
    assert_eq!(with.replace(&line, "# PrivateKey = put here what `wg genkey` printed on this machine\n"), without);

    // Another's key, no key, and a name that is not there.
    let other = keys::wireguard::WgPrivateKey::generate(&mut {
        use rand::SeedableRng as _;
        rand::rngs::StdRng::from_seed([8; 32])
    });
    let refused = fleet.keys_with("alice", &args, other.to_file_text().as_bytes());
    refused.refuses(3, "and the policy has another public key for laptop");
    assert!(!refused.stderr().contains(other.to_file_text().trim_end()));
    fleet.keys_with("alice", &args, b"not a key").refuses(3, "stdin is no private key as `wg genkey` prints it");
    fleet.keys("alice", &["wg", "qr", "phone"]).refuses(5, "the policy has no [[external]] 'phone'; there are laptop");
    fleet.keys("alice", &["wg", "qr", "fra1"]).refuses(5, "a PoP has an agent and files of its own");
    // No file has it: not in the home, not in the fleet.
    let files: Vec<_> = ["alice", "fleet"].iter().flat_map(|place| files_below(&sandbox.path(place))).collect();
    assert!(files.len() > 30, "{} files", files.len());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(private.len()).any(|part| part == private.as_bytes()), "{}", file.display());
    }
}

/// The files below a directory, by their paths from there.
fn tree(sandbox: &Sandbox, directory: &str) -> BTreeMap<String, Vec<u8>> {
    let root = sandbox.path(directory);
    let read = |file: std::path::PathBuf| {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        (path, std::fs::read(file).unwrap())
    };
    files_below(&root).into_iter().map(read).collect()
}

fn who_wants_some_kinds_of_file_gets_no_others(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let alice = |line: &str| fleet.keys("alice", &line.split(' ').collect::<Vec<_>>());
    alice("wg render --out all").ok();
    let all = tree(sandbox, "all");
    assert_eq!(all.len(), 3 * 16);
    assert!(alice("wg render --for wg-quick,hosts --for json --out some").ok().is_empty());
    let some = tree(sandbox, "some");
    let wanted =
        |path: &&String| path.contains("/wg-quick/") || path.ends_with("/hosts") || path.ends_with("/mesh.json");
    assert_eq!(some.keys().collect::<Vec<_>>(), all.keys().filter(wanted).collect::<Vec<_>>());
    assert!(some.iter().all(|(path, bytes)| all[path] == *bytes));
    // What was not asked for is not missed, and what is of another kind is not taken for a left one.
    alice("wg diff some --for wg-quick,json,hosts").ok();
    let missed = alice("wg diff some");
    assert_eq!(missed.code(), 9);
    assert!(missed.stdout().contains("new: fra1/networkd/60-wg-a.netdev\n"), "{}", missed.stdout());
    alice("wg diff all --for networkd").ok();
    alice("wg render --out one --node fra1 --for firewall").ok();
    assert_eq!(tree(sandbox, "one").keys().collect::<Vec<_>>(), ["firewall.nft"]);
    alice("wg diff one --node fra1 --for firewall").ok();
    // Of a PoP that is gone the files asked for are seen.
    alice("revoke ams1 --reason retired --yes").ok();
    let gone = alice("wg diff all --for firewall");
    assert_eq!((gone.code(), gone.stdout().as_str()), (9, "gone: ams1/firewall.nft\n"));
    alice("wg render --out x --for networks").refuses(2, "did you mean 'networkd'?");
    alice("wg render --out x --node waw1").refuses(5, "waw1 is not in the mesh");
    assert!(!sandbox.path("x").exists());
}

fn findings_about_nodes_name_the_entries_they_come_of(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let file = sandbox.path("fleet/policy/wireguard.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("mode = \"none\"", "mode = \"kem-pair\"")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.keys("alice", &["rotate", "fra1", "--slot", "wireguard", "--soon", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    let log = fleet.keys("alice", &["log", "show", "--json"]).json();
    // The newest entry of that act about that PoP.
    let entry = |act: &str, pop: &str| -> u64 {
        let about = |change: &serde_json::Value| change["member"] == pop;
        let is_it = |row: &&serde_json::Value| {
            row["statement"]["act"] == act && row["statement"]["changes"].as_array().unwrap().iter().any(about)
        };
        let row = log["entries"].as_array().unwrap().iter().rfind(is_it);
        row.unwrap_or_else(|| panic!("{act} {pop}"))["index"].as_u64().unwrap()
    };
    let json = fleet.keys("alice", &["wg", "check", "--json"]).json();
    let finding = |code: &str| {
        let all = json["warnings"].as_array().unwrap();
        all.iter().find(|finding| finding["code"] == code).unwrap_or_else(|| panic!("{code}: {json}"))
    };
    let enrolled = ["ams1", "fra1", "sin1"].map(|pop| entry("member.enroll", pop));
    assert!(enrolled[0] < enrolled[1] && enrolled[1] < enrolled[2], "{enrolled:?}");
    let enrolments = serde_json::json!({ "ams1": enrolled[0], "fra1": enrolled[1], "sin1": enrolled[2] });
    assert_eq!(finding("endpoint-private")["entries"], enrolments);
    // Keys are those of the entry that published them: of ams1 and sin1 the enrolment.
    let keys = serde_json::json!({ "ams1": enrolled[0], "fra1": entry("key.publish", "fra1"), "sin1": enrolled[2] });
    assert_eq!(finding("psk-none")["entries"], keys);
    assert!(finding("port-ephemeral").get("entries").is_none(), "{json}");
    let said = fleet.keys("alice", &["wg", "check"]).ok();
    let names = format!("warning: ams1 (entry {}), fra1 (entry {}), sin1", enrolled[0], enrolled[1]);
    assert!(said.contains(&names), "{said}");
}
