//! `keys wg render` over a fleet's life: no private key in any file, addresses that stay, lanes that take turns, and no
//! machine that joins with a key which another one has.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keys::name::{Kind, Slot};
use keys::time::Span;
use rand::SeedableRng as _;
use serde_json::Value;

use crate::support::{Forged, Needles, Ran, Sandbox, TestFleet, Tool, files_below, now, private_numbers, tests};

tests!["wireguard":
    wg_quick_takes_every_file_and_none_holds_a_private_key needs [WgQuick, Wg],
    addresses_stay_while_others_come_and_go,
    a_rotation_turns_to_the_other_lane,
    a_copied_key_cannot_join,
    a_copied_endpoint_cannot_join,
    a_machine_that_left_cannot_return_with_its_keys,
    two_rotations_soon_after_each_other_have_to_be_asked_for needs [Faketime],
    a_pair_has_a_preshared_key_of_its_own_after_both_have_rotated,
    an_exchange_that_is_missing_or_changed_is_noticed,
    a_pop_that_joins_has_preshared_keys_on_its_standby_before_its_lanes_are_up,
];

const POPS: [&str; 3] = ["ams1", "fra1", "sin1"];

fn three_pops(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    POPS.iter().for_each(|pop| fleet.join(pop, ""));
    fleet
}

/// Renders every node into a fresh directory, and reads what each says about itself and its peers.
fn render(fleet: &TestFleet<'_>, name: &str) -> BTreeMap<String, Value> {
    fleet.keys("alice", &["wg", "render", "--out", name]).ok();
    let nodes = std::fs::read_dir(fleet.sandbox.path(name)).unwrap().map(|e| e.unwrap().path());
    let read = nodes.map(|node| {
        let mesh = std::fs::read(node.join("mesh.json")).unwrap();
        (node.file_name().unwrap().to_str().unwrap().to_owned(), serde_json::from_slice(&mesh).unwrap())
    });
    read.collect()
}

/// The public key that a node's own description gives for a lane.
fn key_of(mesh: &BTreeMap<String, Value>, node: &str, lane: &str) -> String {
    let lanes = mesh[node]["lanes"].as_array().unwrap();
    let own = lanes.iter().find(|l| l["lane"] == lane).unwrap_or_else(|| panic!("{node} has no lane {lane}"));
    own["public_key"].as_str().unwrap().to_owned()
}

fn wg_quick_takes_every_file_and_none_holds_a_private_key(sandbox: &Sandbox) {
    let fleet = three_pops(sandbox);
    let mut needles = Needles::default();
    let mut private = BTreeSet::new();
    for round in 0..2 {
        for home in POPS.iter().chain(&["alice"]) {
            for (file, number) in private_numbers(&sandbox.path(home)) {
                needles.add(&file.display().to_string(), &number);
                private.insert(number);
            }
        }
        let mesh = render(&fleet, &format!("wg{round}"));
        assert_eq!(mesh.keys().collect::<Vec<_>>(), POPS.iter().collect::<Vec<_>>());
        for file in files_below(&sandbox.path(&format!("wg{round}"))) {
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.is_empty(), "{}", file.display());
            assert_eq!(needles.found_in(&bytes), None, "{}", file.display());
        }
        for pop in POPS {
            for lane in ["a", "b"] {
                let file = sandbox.path(&format!("wg{round}/{pop}/wg-quick/wg-{lane}.conf"));
                let stripped = Ran::of(Tool::WgQuick.command().arg("strip").arg(&file)).ok();
                let peers: BTreeSet<String> =
                    stripped.lines().filter_map(|l| l.strip_prefix("PublicKey = ")).map(str::to_owned).collect();
                let others = POPS.iter().filter(|other| **other != pop);
                assert_eq!(peers, others.map(|other| key_of(&mesh, other, lane)).collect(), "{}", file.display());
                assert!(!stripped.contains("PrivateKey"), "{stripped}");
                // networkd's files say the same, and name the file that has the private key.
                let directory = sandbox.path(&format!("wg{round}/{pop}/networkd"));
                let files = files_below(&directory)
                    .into_iter()
                    .filter(|f| f.to_str().unwrap().contains(&format!("wg-{lane}.")));
                let networkd: String = files.map(|f| std::fs::read_to_string(f).unwrap()).collect();
                let values = |word: &str| -> BTreeSet<String> {
                    networkd.lines().filter_map(|l| l.strip_prefix(word)).map(str::to_owned).collect()
                };
                assert_eq!(values("PublicKey="), peers, "{networkd}");
                assert_eq!(values("PrivateKeyFile=").len(), 1, "{networkd}");
                assert_eq!(values("PrivateKey="), BTreeSet::new(), "{networkd}");
            }
        }
        if round == 0 {
            fleet.keys("alice", &["rotate", "--soon", "--slot", "wireguard", "--yes"]).ok();
            fleet.settle(&POPS);
        }
    }
    // The measure itself: at home they are found.
    assert!(private.len() > 3 * 8, "{} private numbers", private.len());
    for file in files_below(&sandbox.path("fra1/members/fra1/wireguard")) {
        assert!(needles.found_in(&std::fs::read(&file).unwrap()).is_some(), "{}", file.display());
    }
}

/// Addresses by node, as that node and all its peers have them.
fn addresses(mesh: &BTreeMap<String, Value>) -> BTreeMap<String, (String, String)> {
    let pair = |v: &Value| (v["ipv4"].as_str().unwrap().to_owned(), v["ipv6"].as_str().unwrap().to_owned());
    let own: BTreeMap<_, _> = mesh.iter().map(|(name, m)| (name.clone(), pair(&m["node"]))).collect();
    for (name, node) in mesh {
        for peer in node["peers"].as_array().unwrap() {
            assert_eq!(own[peer["name"].as_str().unwrap()], pair(peer), "as {name} has it");
        }
    }
    own
}

fn addresses_stay_while_others_come_and_go(sandbox: &Sandbox) {
    let fleet = three_pops(sandbox);
    let first = addresses(&render(&fleet, "wg1"));
    assert_eq!(first.values().collect::<BTreeSet<_>>().len(), 3);
    // One whose name sorts before all others.
    fleet.join("aaa1", "");
    let mut second = addresses(&render(&fleet, "wg2"));
    let newcomer = second.remove("aaa1").unwrap();
    assert_eq!(second, first);
    fleet.keys("alice", &["revoke", "fra1", "--reason", "retired", "--yes"]).ok();
    let third = addresses(&render(&fleet, "wg3"));
    assert!(!third.contains_key("fra1"));
    assert!(["ams1", "sin1"].iter().all(|pop| third[*pop] == first[*pop]) && third["aaa1"] == newcomer);
    // The address that was given back rests: whoever still has the leaver's routes must not reach somebody else.
    fleet.join("waw1", "");
    let fourth = addresses(&render(&fleet, "wg4"));
    assert!(fourth["waw1"] != first["fra1"] && fourth["waw1"] != newcomer);
}

fn a_rotation_turns_to_the_other_lane(sandbox: &Sandbox) {
    let fleet = three_pops(sandbox);
    let lanes = |mesh: &BTreeMap<String, Value>| (key_of(mesh, "fra1", "a"), key_of(mesh, "fra1", "b"));
    let preferred = |mesh: &BTreeMap<String, Value>| mesh["fra1"]["node"]["preferred"].as_str().unwrap().to_owned();
    let routes = |name: &str, lane: &str| {
        std::fs::read_to_string(sandbox.path(&format!("{name}/fra1/wg/wg-{lane}.routes"))).unwrap()
    };
    let zero = render(&fleet, "wg0");
    assert_eq!(preferred(&zero), "a");
    assert!(routes("wg0", "a").contains("metric 100") && routes("wg0", "b").contains("metric 200"));

    fleet.keys("alice", &["rotate", "fra1", "--slot", "wireguard", "--yes"]).ok();
    let one = render(&fleet, "wg1");
    assert_eq!((preferred(&one).as_str(), lanes(&one)), ("b", lanes(&zero)), "no key changes, only the preference");
    assert!(routes("wg1", "a").contains("metric 200") && routes("wg1", "b").contains("metric 100"));

    // The owner replaces the lane that nobody prefers any more, and that one only.
    fleet.settle(&["fra1"]);
    let two = render(&fleet, "wg2");
    assert_eq!(preferred(&two), "b");
    assert!(lanes(&two).0 != lanes(&zero).0 && lanes(&two).1 == lanes(&zero).1);
    for peer in ["ams1", "sin1"] {
        let listed = two[peer]["peers"].as_array().unwrap().iter().find(|p| p["name"] == "fra1").unwrap().to_string();
        assert!(
            listed.contains(&lanes(&two).0) && listed.contains(&lanes(&two).1) && !listed.contains(&lanes(&zero).0)
        );
        assert_eq!(key_of(&two, peer, "a"), key_of(&zero, peer, "a"));
    }
    // Its home has the private halves of the two lanes, and no third.
    assert_eq!(files_below(&sandbox.path("fra1/members/fra1/wireguard")).len(), 2);

    fleet.keys("alice", &["rotate", "fra1", "--soon", "--slot", "wireguard", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    let three = render(&fleet, "wg3");
    assert_eq!(preferred(&three), "a");
    assert!(lanes(&three).0 == lanes(&two).0 && lanes(&three).1 != lanes(&two).1);
}

/// A request of `fra2`, made on a machine that has the WireGuard key of another one, as after a copied image.
fn with_copied_key(key: &str) -> Vec<u8> {
    let sound = Forged::new("cdn.example", "fra2", Kind::Pop, now(), Span::days(30));
    sound.with_key(Slot::Wireguard, key).signed()
}

fn a_copied_key_cannot_join(sandbox: &Sandbox) {
    let fleet = three_pops(sandbox);
    let mesh = render(&fleet, "wg");
    let (on_a, on_b) = (key_of(&mesh, "fra1", "a"), key_of(&mesh, "fra1", "b"));
    fleet.keys("alice", &["rotate", "fra1", "--slot", "wireguard", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    let now = key_of(&render(&fleet, "wg2"), "fra1", "a");
    let before = fleet.keys("alice", &["status", "--json"]).ok();
    // In use, standing by, or gone for good: a key belongs to whoever had it first.
    for key in [&on_b, &now, &on_a] {
        let request = sandbox.write("copied.request", with_copied_key(key)).display().to_string();
        fleet.keys("alice", &["approve", &request, "--yes"]).refuses(1, "is used by fra1 already");
    }
    assert_eq!(fleet.keys("alice", &["status", "--json"]).ok(), before);
    // The measure itself: with a key of its own it would have been admitted.
    let own = keys::wireguard::WgPrivateKey::generate(&mut rand::rngs::StdRng::from_seed([7; 32])).public().to_string();
    let request = sandbox.write("own.request", with_copied_key(&own)).display().to_string();
    fleet.keys("alice", &["approve", &request, "--yes"]).ok();
}

fn a_copied_endpoint_cannot_join(sandbox: &Sandbox) {
    let fleet = three_pops(sandbox);
    let before = render(&fleet, "wg");
    let endpoint = before["ams1"]["peers"].as_array().unwrap().iter().find(|p| p["name"] == "fra1").unwrap();
    let endpoint = endpoint["lanes"][0]["endpoint"].as_str().unwrap().rsplit_once(':').unwrap().0;
    let inside = before["fra1"]["node"]["ipv4"].as_str().unwrap();
    for (name, endpoint, why) in [("copied", endpoint, "all are to be reached at"), ("inside", inside, inside)] {
        let request = sandbox.path(&format!("{name}.request")).display().to_string();
        fleet.keys(name, &["enroll", "fra2", "--endpoint", endpoint, "--out", &request]).ok();
        fleet.keys("alice", &["approve", &request, "--yes"]).refuses(3, why);
    }
    assert_eq!(render(&fleet, "wg2"), before);
    // The same machine with an endpoint of its own.
    fleet.keys("own", &["enroll", "fra2", "--endpoint", "203.0.113.7"]).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    assert!(render(&fleet, "wg3").contains_key("fra2"));
}

fn a_machine_that_left_cannot_return_with_its_keys(sandbox: &Sandbox) {
    let fleet = three_pops(sandbox);
    // An image of fra1, started a second time.
    sandbox.copy("fra1", "image");
    fleet.keys("image", &["enroll", "fra1"]).refuses(1, "fra1 is in this home already");
    fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
    // What it asked for then, with the keys that are in wrong hands now.
    let request = sandbox.path("image/members/fra1/request").display().to_string();
    let refused = fleet.keys("alice", &["approve", &request, "--yes"]);
    refused.refuses(1, "is used by fra1 already; a copied image or key cannot join");
    assert!(!render(&fleet, "wg").contains_key("fra1"));
    // Asked again, the same machine makes all its keys anew, and so may return.
    let old: Vec<_> = files_below(&sandbox.path("image/members/fra1"));
    let request = sandbox.path("image.request").display().to_string();
    fleet.keys("image", &["enroll", "fra1", "--endpoint", "198.51.100.1", "--out", &request]).ok();
    for path in old.iter().filter(|p| p.extension().is_some_and(|e| e == "key")) {
        assert!(!path.exists(), "{} is left", path.display());
    }
    fleet.keys("alice", &["approve", &request, "--yes"]).ok();
    assert!(render(&fleet, "wg2").contains_key("fra1"));
}

fn two_rotations_soon_after_each_other_have_to_be_asked_for(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    // The key that it joined with is nobody's second one.
    fleet.keys("alice", &["rotate", "fra1", "--slot", "wireguard", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    let said = fleet.keys("alice", &["rotate", "fra1", "--slot", "wireguard", "--yes"]).ok();
    assert!(said.contains("rotated less than 1d ago") && said.contains("--soon"), "{said}");
    let key = |fleet: &TestFleet<'_>| render(fleet, "wg")["fra1"]["node"]["preferred"].clone();
    assert_eq!(key(&fleet), "b");
    fleet.keys("alice", &["rotate", "fra1", "--slot", "wireguard", "--soon", "--yes"]).ok();
    assert_eq!(key(&fleet), "a");
    fleet.settle(&["fra1"]);
    // A day later nobody has to ask.
    sandbox.set_days_later(2);
    fleet.keys("alice", &["rotate", "fra1", "--slot", "wireguard", "--yes"]).ok();
    assert_eq!(key(&fleet), "b");
}

/// Makes the policy want preshared keys, and rotates everything twice, so that both lanes' keys are from after that.
fn with_preshared_keys(fleet: &TestFleet<'_>) {
    let file = fleet.sandbox.path("fleet/policy/wireguard.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("mode = \"none\"", "mode = \"kem-pair\"")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let said = fleet.keys("alice", &["wg", "check"]).ok();
    assert!(said.contains("from before preshared keys were wanted"), "{said}");
    for _ in 0..2 {
        fleet.keys("alice", &["rotate", "--soon", "--slot", "wireguard", "--yes"]).ok();
        fleet.settle(&POPS);
    }
    assert!(!fleet.keys("alice", &["wg", "check"]).ok().contains("preshared"));
}

/// A PoP's home and the fleet as it sees it.
fn opened(fleet: &TestFleet<'_>, pop: &str) -> (keys::home::Home, keys::fleet::Fleet) {
    let home = keys::home::Home::open(&fleet.sandbox.path(pop)).unwrap();
    let files = keys::disk::RealFiles::open(&fleet.keyring(""), keys::disk::Access::Public).unwrap();
    let store = keys::store::Store::new(keys::disk::Disk::new(files));
    let opened = keys::fleet::Fleet::open(store, &keys::fleet::Known::default(), now(), &mut |_, _| {}).unwrap();
    (home, opened)
}

/// A PoP's preshared keys by lane and the peer's key.
fn preshared(fleet: &TestFleet<'_>, pop: &str) -> (BTreeMap<(usize, String), String>, Vec<String>) {
    let (home, opened) = opened(fleet, pop);
    let found = keys::ops::preshared_keys(&pop.parse().unwrap(), &home, &opened).unwrap();
    let by_lane = found.keys.iter().enumerate();
    let all = by_lane.flat_map(|(lane, keys)| {
        keys.iter().map(move |(key, secret)| ((lane, key.to_string()), secret.to_text().to_string()))
    });
    (all.collect(), found.troubles)
}

fn a_pair_has_a_preshared_key_of_its_own_after_both_have_rotated(sandbox: &Sandbox) {
    let fleet = three_pops(sandbox);
    with_preshared_keys(&fleet);
    let mesh = render(&fleet, "wg");
    let found = POPS.map(|pop| preshared(&fleet, pop));
    for (pop, (keys, troubles)) in POPS.iter().zip(&found) {
        assert_eq!((keys.len(), troubles.as_slice()), (4, [].as_slice()), "{pop}");
    }
    for (i, a) in POPS.iter().enumerate() {
        for (j, b) in POPS.iter().enumerate().filter(|(j, _)| *j != i) {
            for (lane, letter) in ["a", "b"].iter().enumerate() {
                let seen_by_a = &found[i].0[&(lane, key_of(&mesh, b, letter))];
                let seen_by_b = &found[j].0[&(lane, key_of(&mesh, a, letter))];
                assert_eq!(seen_by_a, seen_by_b, "{a} and {b} on lane {letter}");
            }
        }
    }
    let all: BTreeSet<&String> = found.iter().flat_map(|(keys, _)| keys.values()).collect();
    assert_eq!(all.len(), 6, "three pairs on two lanes");
    // None of them is in the keyring, in what is rendered, or in a home.
    let mut needles = Needles::default();
    all.iter().for_each(|key| needles.add("a preshared key", &STANDARD.decode(key).unwrap()));
    for directory in ["fleet", "wg", "alice", "ams1", "fra1", "sin1"] {
        for file in files_below(&sandbox.path(directory)) {
            assert_eq!(needles.found_in(&std::fs::read(&file).unwrap()), None, "{}", file.display());
        }
    }
    // The private halves go with the lanes' keys.
    let kept = files_below(&sandbox.path("fra1/members/fra1/wireguard"));
    let count = |end: &str| kept.iter().filter(|f| f.to_str().unwrap().ends_with(end)).count();
    assert_eq!((count(".key"), count(".kem")), (2, 2), "{kept:?}");
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn an_exchange_that_is_missing_or_changed_is_noticed(sandbox: &Sandbox) {
    let fleet = three_pops(sandbox);
    with_preshared_keys(&fleet);
    let is_exchange = |file: &std::path::PathBuf| std::fs::read(file).unwrap().starts_with(b"keys-ex1");
    let exchanges: Vec<_> = files_below(&fleet.keyring("objects")).into_iter().filter(is_exchange).collect();
    // Those that a wider one has taken the place of stay: the log names them.
    assert!(exchanges.len() >= 6, "{exchanges:?}");
    let mut in_use = 0;
    for file in &exchanges {
        let bytes = std::fs::read(file).unwrap();
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(file, &changed).unwrap();
        fleet.keys("alice", &["log", "verify"]).refuses(3, "");
        let is_noticed = || POPS.iter().any(|pop| !preshared(&fleet, pop).1.is_empty());
        let changed = is_noticed();
        std::fs::remove_file(file).unwrap();
        fleet.keys("alice", &["log", "verify"]).refuses(3, "");
        assert_eq!(is_noticed(), changed, "{}", file.display());
        in_use += usize::from(changed);
        std::fs::write(file, &bytes).unwrap();
    }
    assert_eq!(in_use, 6, "one for each lane of each");
    fleet.keys("alice", &["log", "verify"]).ok();
    assert!(POPS.iter().all(|pop| preshared(&fleet, pop).1.is_empty()));
    // A peer whose exchange is not there is not added; where it is in use it is not taken away.
    std::fs::write(exchange_of(&fleet, "fra1", "a"), "").unwrap();
    let (home, opened) = opened(&fleet, "ams1");
    let (name, mesh) = ("ams1".parse().unwrap(), keys::ops::mesh(opened.state()).unwrap());
    let preshared = keys::ops::preshared_keys(&name, &home, &opened).unwrap();
    let [a, b] = keys::ops::wanted_lanes(&name, &mesh, &preshared).unwrap();
    let fra1 = mesh.node(&"fra1".parse().unwrap()).unwrap().keys[0].unwrap();
    assert_eq!((a.kept, a.peers.contains_key(&fra1), a.peers.len()), ([fra1].into(), false, 1));
    assert_eq!((b.kept.len(), b.peers.len()), (0, 2));
}

/// The object with the exchange of a PoP's lane.
fn exchange_of(fleet: &TestFleet<'_>, pop: &str, lane: &str) -> std::path::PathBuf {
    let state = opened(fleet, pop).1;
    let key = state.state().active_member(&pop.parse().unwrap()).unwrap();
    let keys = &key.slot(Slot::Wireguard).unwrap().keys;
    let newest = keys.iter().rev().find(|key| key.lane.unwrap().word() == lane).unwrap();
    fleet.keyring(&keys::store::object_path(&newest.exchange.unwrap().object))
}

fn a_pop_that_joins_has_preshared_keys_on_its_standby_before_its_lanes_are_up(sandbox: &Sandbox) {
    let fleet = three_pops(sandbox);
    with_preshared_keys(&fleet);
    fleet.join("waw1", "");
    assert_eq!(preshared(&fleet, "waw1"), (BTreeMap::new(), Vec::new()));
    let said = fleet.keys("waw1", &["sync"]).ok();
    assert!(said.contains("waw1: preshared keys with further peers on its wireguard standby"), "{said}");
    fleet.settle(&["waw1"]);
    // On lane b with each of the others, who compute the same; the lane that it uses has the key it joined with.
    let mesh = render(&fleet, "wg");
    let (keys, troubles) = preshared(&fleet, "waw1");
    assert_eq!((keys.len(), troubles), (3, Vec::new()));
    for pop in POPS {
        let theirs = preshared(&fleet, pop).0;
        assert_eq!(theirs[&(1, key_of(&mesh, "waw1", "b"))], keys[&(1, key_of(&mesh, pop, "b"))], "{pop}");
        assert!(!theirs.contains_key(&(0, key_of(&mesh, "waw1", "a"))), "{pop}");
    }
    // Where an agent has run there may be sessions, whose preshared keys do not change under them.
    fleet.join("lis1", "");
    let home = keys::home::Home::open(&sandbox.path("lis1")).unwrap();
    home.set_drained(&"lis1".parse().unwrap(), None).unwrap();
    fleet.settle(&["lis1"]);
    assert_eq!(preshared(&fleet, "lis1"), (BTreeMap::new(), Vec::new()));
    fleet.keys("alice", &["log", "verify"]).ok();
}
