//! `keys wg apply`, `keys wg check --live` and `keys wg diff` on running interfaces.

use std::time::Duration;

use super::lab::{Lab, wait_until};
use crate::support::{Ran, Sandbox, Tool, tests};

tests!["mesh":
    an_interface_is_brought_into_line_and_nothing_is_done_twice needs [Wg, WireguardGo, Ip, Python3, Root],
    a_reload_that_erased_the_key_is_put_right needs [Wg, WgQuick, WireguardGo, Ip, Python3, Root],
    what_would_spoil_a_rotation_is_found_before_it needs [Wg, WireguardGo, Ip, Python3, Root],
    what_has_changed_since_files_were_written_is_shown,
    where_there_is_no_interface_or_no_node_the_way_out_is_named needs [Wg, Ip, Root],
];

fn apply(lab: &Lab<'_>, n: usize) -> Vec<String> {
    let ran = Ran::of(&mut lab.keys(n, &["wg", "apply", "--json"]));
    ran.ok();
    ran.json()["steps"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
}

fn an_interface_is_brought_into_line_and_nothing_is_done_twice(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, 3, &[]);
    lab.up_without_agents();
    let planned = Ran::of(&mut lab.keys(1, &["wg", "apply", "--dry-run"])).exits(9);
    let per_lane = ["set the private key", "listen on port", "add the peer pop2", "add the peer pop3"];
    for lane in ["wg-a", "wg-b"] {
        assert!(per_lane.iter().all(|step| planned.contains(&format!("{lane}: {step}"))), "{planned}");
    }
    assert_eq!(lab.told(1, Tool::Wg, &["show", "wg-a", "peers"]), "", "a dry run changed something");
    (1..=3).for_each(|n| drop(apply(&lab, n)));
    assert_eq!(apply(&lab, 1), [""; 0]);

    // What the log does not have goes; a learned endpoint stays.
    let stranger = "L14AdpOdTmqPlr7GDrcXpdVWPe62DNSHpJVWyGOVOVs=";
    let set = |words: &[&str]| lab.told(1, Tool::Wg, &[&["set", "wg-a"], words].concat());
    set(&["peer", stranger, "allowed-ips", "10.88.16.3/32"]);
    let peer = lab.told(1, Tool::Wg, &["show", "wg-a", "endpoints"]);
    let peer = peer.lines().find(|l| l.contains("198.51.100.2:")).unwrap().split_once('\t').unwrap().0.to_owned();
    set(&["peer", &peer, "endpoint", "198.51.100.2:4999"]);
    let steps = apply(&lab, 1);
    assert_eq!(steps, ["wg-a: set the addresses of pop3".to_owned(), format!("wg-a: remove the peer {stranger}")]);
    assert!(lab.told(1, Tool::Wg, &["show", "wg-a", "endpoints"]).contains("198.51.100.2:4999"));
    // A session is kept by all of it: addresses, link and key were touched again and again.
    let address = lab.address(2);
    let ping = |lab: &Lab<'_>| {
        let script =
            "import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.sendto(b'x',(sys.argv[1],9))";
        lab.told(1, Tool::Ip, &["route", "replace", &format!("{address}/32"), "dev", "wg-b"]);
        lab.told(1, Tool::Python3, &["-c", script, &address]);
        let shown = lab.told(1, Tool::Wg, &["show", "wg-b", "latest-handshakes"]);
        shown.lines().any(|l| !l.ends_with("\t0"))
    };
    wait_until("a session", Duration::from_secs(20), || ping(&lab));
    assert_eq!(apply(&lab, 1), [""; 0]);
    // WireGuard may have made another handshake meanwhile; none of them is forgotten.
    let shown = lab.told(1, Tool::Wg, &["show", "wg-b", "latest-handshakes"]);
    assert!(shown.lines().any(|l| !l.ends_with("\t0")), "{shown}");
}

fn a_reload_that_erased_the_key_is_put_right(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, 2, &[]);
    lab.up_without_agents();
    apply(&lab, 1);
    let key = |lab: &Lab<'_>| lab.told(1, Tool::Wg, &["show", "wg-a", "public-key"]);
    let before = key(&lab);
    // What `systemctl reload wg-quick@wg-a` does without our drop-in: a real outage of 127 peers in 2026.
    lab.fleet.keys("pop1", &["wg", "render", "--out", "files", "--node", "pop1"]).ok();
    let stripped = Ran::of(Tool::WgQuick.command().arg("strip").arg(sandbox.path("files/wg-quick/wg-a.conf"))).ok();
    let file = sandbox.write("stripped.conf", stripped);
    lab.told(1, Tool::Wg, &["syncconf", "wg-a", file.to_str().unwrap()]);
    assert_eq!(key(&lab).trim(), "(none)");
    // What the drop-in does instead.
    let ran = Ran::of(&mut lab.keys(1, &["wg", "apply", "wg-a"]));
    assert!(ran.ok().contains("wg-a: set the private key"), "{}", ran.stdout());
    assert_eq!(key(&lab), before);
    let dropped = std::fs::read_to_string(sandbox.path("files/wg-quick/wg-quick@wg-a.service.d/keys.conf")).unwrap();
    assert!(dropped.contains("wg apply %i"), "{dropped}");
}

fn what_would_spoil_a_rotation_is_found_before_it(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, 2, &[]);
    lab.up_without_agents();
    (1..=2).for_each(|n| drop(apply(&lab, n)));
    let check = |lab: &Lab<'_>, code: i32| {
        let ran = Ran::of(&mut lab.keys(1, &["wg", "check", "--live", "--json"]));
        ran.exits(code);
        let found = ran.json();
        let codes = |kind: &str| -> Vec<String> {
            let list = found[kind].as_array().unwrap_or_else(|| panic!("{found}"));
            list.iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect()
        };
        (codes("errors"), codes("warnings"))
    };
    let (errors, warnings) = check(&lab, 0);
    assert_eq!(errors, [""; 0]);
    // Nobody has talked yet: both lanes are unproven.
    assert_eq!(warnings.iter().filter(|c| *c == "live-unproven").count(), 2, "{warnings:?}");
    let address = lab.address(1);
    let filter = |value: &str| {
        // The larger of the two counts.
        let directory = "/proc/sys/net/ipv4/conf";
        let script = format!("echo 0 > {directory}/all/rp_filter; echo {value} > {directory}/wg-b/rp_filter");
        lab.told(1, Tool::Sh, &["-c", &script]);
    };
    filter("1");
    assert_eq!(check(&lab, 3).0, ["live-rp-filter"]);
    filter("2");
    lab.told(1, Tool::Ip, &["addr", "del", &format!("{address}/32"), "dev", "wg-b"]);
    assert_eq!(check(&lab, 3).0, ["live-address"]);
    lab.told(1, Tool::Ip, &["link", "set", "wg-a", "mtu", "1380"]);
    lab.told(1, Tool::Ip, &["link", "set", "wg-b", "down"]);
    lab.told(1, Tool::Wg, &["set", "wg-b", "listen-port", "50000"]);
    let mut errors = check(&lab, 3).0;
    errors.sort();
    // A link that is down loses its IPv6 address, too.
    errors.dedup();
    assert_eq!(errors, ["live-address", "live-down", "live-drift", "live-mtu"]);
    apply(&lab, 1);
    assert_eq!(check(&lab, 0).0, [""; 0]);
}

fn what_has_changed_since_files_were_written_is_shown(sandbox: &Sandbox) {
    let fleet = crate::support::TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.join("ams1", "");
    fleet.keys("alice", &["wg", "render", "--out", "files"]).ok();
    assert_eq!(fleet.keys("alice", &["wg", "diff", "files"]).ok(), "");
    fleet.join("sin1", "");
    let said = fleet.keys("alice", &["wg", "diff", "files"]).exits(9);
    assert!(said.contains("+++ b/ams1/wg-quick/wg-a.conf\n") && said.contains("+# sin1\n"), "{said}");
    assert!(said.contains("new: sin1/wg-quick/wg-a.conf\n"), "{said}");
    fleet.keys("alice", &["revoke", "fra1", "--reason", "retired", "--yes"]).ok();
    let found = fleet.keys("alice", &["wg", "diff", "files", "--json"]);
    found.exits(9);
    let files = found.json();
    let gone = files["files"].as_array().unwrap().iter().filter(|f| f["what"] == "gone");
    assert!(gone.map(|f| f["path"].as_str().unwrap()).all(|p| p.starts_with("fra1/")), "{files}");
    fleet.keys("alice", &["wg", "diff", "nowhere"]).exits(7);
}

fn where_there_is_no_interface_or_no_node_the_way_out_is_named(sandbox: &Sandbox) {
    let fleet = crate::support::TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.keys("alice", &["wg", "apply"]).refuses(5, "the home holds no PoP's keys");
    fleet.keys("fra1", &["wg", "apply", "wg-c"]).refuses(2, "'wg-c' is not a lane; there are wg-a and wg-b");
    let ran = fleet.keys("fra1", &["wg", "apply", "--node", "ams1"]);
    ran.refuses(5, "ams1");
    // Nothing here is called so: a name that only this test uses.
    let file = sandbox.path("fleet/policy/wireguard.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"wg-a\", \"wg-b\"", "\"kt-none-a\", \"kt-none-b\"")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let ran = fleet.keys("fra1", &["wg", "apply"]);
    ran.refuses(1, "Unable to access interface");
    assert!(ran.stderr().contains("bring the interface kt-none-a up first"), "{}", ran.stderr());
}
