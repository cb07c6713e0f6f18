//! What the files promise, as seen from outside.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

use super::{FileKind, RenderError, RenderOptions, Renderer, render_one};
use crate::name::MemberName;
use crate::text;
use crate::wireguard::{CheckedMesh, Endpoint, Host, Lane, Mesh, PastKeys, samples};

fn checked(mesh: Mesh) -> CheckedMesh {
    CheckedMesh::new(mesh, &PastKeys::new()).unwrap_or_else(|e| panic!("{e}"))
}

/// The files of `pop{i}`, by path.
fn files(mesh: Mesh, i: usize) -> BTreeMap<String, String> {
    let mesh = checked(mesh);
    let files = Renderer::new(&mesh, RenderOptions::default()).node(&samples::name(i)).expect("a node");
    assert!(files.is_sorted());
    files.into_iter().map(|(path, bytes)| (path, String::from_utf8(bytes).expect("text"))).collect()
}

fn key(i: usize, lane: Lane) -> String {
    samples::private(i, lane).public().to_string()
}

#[test]
fn the_wg_quick_file_is_this() {
    let mut mesh = samples::mesh(3);
    mesh.nodes[2].endpoint = "2001:db8::3".parse::<Host>().ok().map(Endpoint::from);
    let files = files(mesh, 1);
    let expected = format!(
        "# Written by keys for pop1, lane a of mesh mesh; changes here are lost. Holds no secret.\n\
         # Routes are set by the agent; without it: ip -batch wg-a.routes\n\
         [Interface]\n\
         Address = 10.88.16.1/32, fd12:3456:789a:10::1/128\n\
         ListenPort = 51820\n\
         MTU = 1420\n\
         Table = off\n\
         PostUp = wg set %i private-key /run/keys/wg/%i.key\n\
         PostUp = sysctl -qw net.ipv4.conf.%i.rp_filter=2\n\
         \n\
         [Peer]\n\
         # pop2\n\
         PublicKey = {}\n\
         Endpoint = 198.51.100.2:51820\n\
         AllowedIPs = 10.88.16.2/32, fd12:3456:789a:10::2/128\n\
         \n\
         [Peer]\n\
         # pop3\n\
         PublicKey = {}\n\
         Endpoint = [2001:db8::3]:51820\n\
         AllowedIPs = 10.88.16.3/32, fd12:3456:789a:10::3/128\n",
        key(2, Lane::A),
        key(3, Lane::A)
    );
    assert_eq!(files["wg-quick/wg-a.conf"], expected);
    let peers = expected.split_once("\n\n").map(|(_, peers)| peers);
    assert_eq!(files["wg/wg-a.addconf"].split_once("\n\n").map(|(_, peers)| peers), peers);
    let lane_b = &files["wg-quick/wg-b.conf"];
    assert!(lane_b.contains("ListenPort = 51821") && lane_b.contains("Endpoint = 198.51.100.2:51821"), "{lane_b}");
    assert!(lane_b.contains(&key(2, Lane::B)) && !lane_b.contains(&key(2, Lane::A)));
}

#[test]
fn the_networkd_files_are_these() {
    let mut mesh = samples::mesh(2);
    mesh.nodes[0].preferred = Lane::B;
    let files = files(mesh, 1);
    let netdev = format!(
        "# Written by keys for pop1, lane a of mesh mesh; changes here are lost. Holds no secret.\n\
         [NetDev]\n\
         Name=wg-a\n\
         Kind=wireguard\n\
         MTUBytes=1420\n\
         \n\
         [WireGuard]\n\
         PrivateKeyFile=/run/keys/wg/wg-a.key\n\
         ListenPort=51820\n\
         RouteTable=off\n\
         \n\
         [WireGuardPeer]\n\
         # pop2\n\
         PublicKey={}\n\
         Endpoint=198.51.100.2:51820\n\
         AllowedIPs=10.88.16.2/32,fd12:3456:789a:10::2/128\n",
        key(2, Lane::A)
    );
    assert_eq!(files["networkd/60-wg-a.netdev"], netdev);
    let network = "# Written by keys for pop1, lane a of mesh mesh; changes here are lost. Holds no secret.\n\
         [Match]\n\
         Name=wg-a\n\
         \n\
         [Link]\n\
         RequiredForOnline=no\n\
         \n\
         [Network]\n\
         Address=10.88.16.1/32\n\
         Address=fd12:3456:789a:10::1/128\n\
         IPv6AcceptRA=no\n\
         LinkLocalAddressing=no\n\
         ConfigureWithoutCarrier=yes\n\
         \n\
         [Route]\n\
         Destination=10.88.16.2/32\n\
         Metric=200\n\
         PreferredSource=10.88.16.1\n\
         \n\
         [Route]\n\
         Destination=fd12:3456:789a:10::2/128\n\
         Metric=200\n\
         PreferredSource=fd12:3456:789a:10::1\n";
    assert_eq!(files["networkd/60-wg-a.network"], network);
    assert_eq!(
        files["networkd/60-wg-b.network"],
        network.replace("Metric=200", "Metric=100").replace("-a", "-b").replace("lane a", "lane b")
    );
    let sysctl = &files["networkd/sysctl.d/60-keys-wg.conf"];
    assert!(sysctl.ends_with("net.ipv4.conf.wg-a.rp_filter = 2\nnet.ipv4.conf.wg-b.rp_filter = 2\n"), "{sysctl}");
}

#[test]
fn the_other_files_are_these() {
    let mut mesh = samples::mesh(2);
    if let Some(endpoint) = &mut mesh.nodes[0].endpoint {
        endpoint.ports = [Some(60_001), None];
    }
    let files = files(mesh, 1);
    let body = |path: &str| files[path].lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert_eq!(body("hosts"), "10.88.16.1 pop1\nfd12:3456:789a:10::1 pop1\n10.88.16.2 pop2\nfd12:3456:789a:10::2 pop2");
    assert_eq!(
        body("wg/wg-b.routes"),
        "route replace 10.88.16.2/32 dev wg-b metric 200 src 10.88.16.1\n\
         route replace fd12:3456:789a:10::2/128 dev wg-b metric 200 src fd12:3456:789a:10::1"
    );
    assert!(body("firewall.nft").contains("elements = { 51821, 60001 }"));
    assert!(body("firewall.nft").contains("elements = { \"wg-a\", \"wg-b\" }"));
    assert!(body("wg-quick/wg-a.conf").contains("ListenPort = 60001"));
    assert_eq!(
        body("wg-quick/wg-quick@wg-b.service.d/keys.conf"),
        "[Service]\nExecReload=\nExecReload=/usr/bin/keys wg apply %i"
    );
}

#[test]
fn the_description_is_json_with_a_line_a_peer() {
    let mut mesh = samples::mesh(3);
    (mesh.nodes[2].endpoint, mesh.nodes[2].nat) = (None, true);
    let description = &files(mesh, 1)["mesh.json"];
    assert_eq!(description.lines().count(), 4);
    let value: serde_json::Value = serde_json::from_str(description).expect("JSON");
    assert_eq!(value["version"], 1);
    assert_eq!(value["node"]["name"], "pop1");
    assert_eq!(value["lanes"][1]["interface"], "wg-b");
    assert_eq!(value["lanes"][1]["metric"], 200);
    assert_eq!(value["peers"][0]["lanes"][1]["public_key"], key(2, Lane::B));
    assert_eq!(value["peers"][0]["lanes"][1]["endpoint"], "198.51.100.2:51821");
    assert_eq!(value["peers"][1]["lanes"][0]["endpoint"], serde_json::Value::Null);
    let alone: serde_json::Value = serde_json::from_str(&files(samples::mesh(1), 1)["mesh.json"]).expect("JSON");
    assert_eq!(alone["peers"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_lane_without_a_key_on_either_side_is_left_out_with_a_comment() {
    let mut mesh = samples::mesh(3);
    mesh.nodes[1].keys[1] = None;
    let one = files(mesh.clone(), 1);
    for path in ["wg-quick/wg-b.conf", "wg/wg-b.addconf", "networkd/60-wg-b.netdev"] {
        assert!(one[path].contains("# pop2 has no key on lane b yet: left out.\n"), "{path}");
        assert!(!one[path].contains("10.88.16.2/32") && one[path].contains("10.88.16.3/32"), "{path}");
    }
    assert!(!one["wg/wg-b.routes"].contains("10.88.16.2/32"));
    assert!(one["wg-quick/wg-a.conf"].contains("10.88.16.2/32"));
    let two = files(mesh, 2);
    for path in ["wg-quick/wg-b.conf", "wg/wg-b.addconf", "networkd/60-wg-b.netdev"] {
        assert!(two[path].contains("# This node has no key on lane b yet: its peers are left out.\n"), "{path}");
        assert!(!two[path].contains("PublicKey") && !two[path].contains(".key"), "{path}");
    }
    assert!(!two["networkd/60-wg-b.network"].contains("[Route]"));
}

#[test]
fn a_node_that_only_calls_keeps_the_way_open() {
    let mut mesh = samples::mesh(3);
    (mesh.nodes[0].endpoint, mesh.nodes[0].nat) = (None, true);
    let caller = files(mesh.clone(), 1);
    assert_eq!(caller["wg-quick/wg-a.conf"].matches("PersistentKeepalive = 25\n").count(), 2);
    assert_eq!(caller["networkd/60-wg-a.netdev"].matches("PersistentKeepalive=25\n").count(), 2);
    let called = files(mesh, 2);
    assert_eq!(called["wg-quick/wg-a.conf"].matches("PersistentKeepalive").count(), 0);
    assert_eq!(called["wg-quick/wg-a.conf"].matches("Endpoint").count(), 1);
}

#[test]
fn a_peer_without_an_agent_is_on_its_lane_with_those_it_talks_to() {
    let mesh = samples::with_external(3, "peers = [\"member:pop2\"]\nlane = \"b\"\n");
    let (bare, talker) = (files(samples::mesh(3), 2), files(mesh.clone(), 2));
    for (path, with) in &talker {
        let there = with.contains("10.88.16.200");
        let due = path.contains("wg-b.") && !path.contains("service.d") && !path.contains("sysctl");
        assert_eq!(there, due || path == "hosts" || path == "mesh.json", "{path}");
        assert!(there || *with == bare[path], "{path}");
    }
    let peer = format!(
        "\n[Peer]\n# laptop\nPublicKey = {}\nAllowedIPs = 10.88.16.200/32, fd12:3456:789a:10::c8/128\n",
        key(200, Lane::A)
    );
    assert_eq!(talker["wg-quick/wg-b.conf"], format!("{}{peer}", bare["wg-quick/wg-b.conf"]));
    assert!(talker["wg/wg-b.routes"].contains("route replace 10.88.16.200/32 dev wg-b metric 200 src 10.88.16.2\n"));
    let description: serde_json::Value = serde_json::from_str(&talker["mesh.json"]).expect("JSON");
    let laptop = &description["peers"][2];
    assert_eq!((&laptop["name"], &laptop["external"]), (&"laptop".into(), &true.into()));
    assert_eq!(laptop["lanes"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&laptop["lanes"][0]["lane"], &laptop["lanes"][0]["public_key"]),
        (&"b".into(), &key(200, Lane::A).into())
    );
    // Others know its name alone, and nothing is missed on the lane that it is not on.
    let (bare, other) = (files(samples::mesh(3), 1), files(mesh, 1));
    for (path, text) in &other {
        assert_eq!(text == &bare[path], path != "hosts", "{path}");
    }
    assert!(other["hosts"].ends_with("10.88.16.200 laptop\nfd12:3456:789a:10::c8 laptop\n"));
}

#[test]
fn one_node_alone_renders_what_it_is_given_out_of_all() {
    let topology = "default = \"hub\"\n[[topology.rule]]\nbetween = [\"member:pop3\", \"member:pop4\"]\n";
    let text = samples::external_text("peers = [\"member:pop3\"]\n").replace("default = \"full\"", topology);
    let policy = crate::policy::wireguard::WireguardPolicy::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let mut mesh = Mesh { policy, ..samples::mesh(5) };
    mesh.nodes[0].roles = ["hub".parse().expect("a label")].into();
    let mesh = checked(mesh);
    let renderer = Renderer::new(&mesh, RenderOptions::default());
    for (i, peers) in [(1, 4), (2, 1), (3, 3), (4, 2), (5, 1)] {
        let alone = render_one(&mesh, RenderOptions::default(), &samples::name(i));
        assert_eq!(alone, renderer.node(&samples::name(i)), "pop{i}");
        let files = alone.expect("a node");
        let quick = files.iter().find(|(path, _)| path == "wg-quick/wg-a.conf").expect("lane a");
        assert_eq!(String::from_utf8_lossy(&quick.1).matches("[Peer]").count(), peers, "pop{i}");
    }
    assert!(render_one(&mesh, RenderOptions::default(), &samples::name(9)).is_err());
}

#[test]
fn all_nodes_at_once_have_the_files_of_each() {
    let mut mesh = samples::with_external(3, "peers = [\"member:pop2\"]\n");
    mesh.nodes[2].keys[1] = None;
    let mesh = checked(mesh);
    let renderer = Renderer::new(&mesh, RenderOptions::default());
    let mut all = Vec::new();
    let put = |node: &MemberName, path: &str, bytes: &[u8]| {
        all.push((node.clone(), path.to_owned(), bytes.to_vec()));
        Ok::<(), ()>(())
    };
    assert_eq!(renderer.all(put), Ok(()));
    let mut each = Vec::new();
    for node in mesh.nodes() {
        let files = renderer.node(&node.name).expect("a node");
        each.extend(files.into_iter().map(|(path, bytes)| (node.name.clone(), path, bytes)));
    }
    assert_eq!(all.len(), 3 * 16);
    assert_eq!(all, each);
    // Who takes no more gets no more.
    let mut left = 5;
    let refusing = |_: &MemberName, _: &str, _: &[u8]| {
        left -= 1;
        if left == 0 { Err("full") } else { Ok(()) }
    };
    assert_eq!((renderer.all(refusing), left), (Err("full"), 0));
}

#[test]
fn files_of_some_kinds_are_the_same_as_among_all() {
    let mesh = checked(samples::mesh(3));
    let name = samples::name(2);
    let all = render_one(&mesh, RenderOptions::default(), &name).expect("a node");
    for kinds in
        [&[FileKind::WgQuick][..], &[FileKind::Json, FileKind::Networkd], &[FileKind::Wg, FileKind::Hosts], &[]]
    {
        let options = RenderOptions::default().only(kinds.iter().copied());
        let some = render_one(&mesh, options, &name).expect("a node");
        let due: Vec<_> =
            all.iter().filter(|(path, _)| FileKind::of_path(path).is_some_and(|kind| kinds.contains(&kind))).collect();
        assert_eq!(some.iter().collect::<Vec<_>>(), due, "{kinds:?}");
        assert_eq!(due.is_empty(), kinds.is_empty());
    }
}

#[test]
fn only_nodes_of_the_mesh_have_files() {
    let mesh = checked(samples::mesh(2));
    let missing = Renderer::new(&mesh, RenderOptions::default()).node(&samples::name(3));
    assert_eq!(missing, Err(RenderError::Node { name: "pop3".into() }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_order_of_nodes_does_not_show(order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(), who in 1usize..=6) {
        let mesh = samples::mesh(6);
        let shuffled = Mesh { nodes: order.iter().map(|i| mesh.nodes[*i].clone()).collect(), ..mesh.clone() };
        prop_assert_eq!(files(shuffled, who), files(mesh, who));
    }

    /// A node that joins or leaves changes its own sections in others' files, and nothing else in them.
    #[test]
    fn a_node_that_joins_moves_nobody(count in 2usize..6, leaves in 2usize..6) {
        let all = files(samples::mesh(6), 1);
        let mut fewer = samples::mesh(6);
        fewer.nodes.truncate(count);
        fewer.nodes.retain(|node| node.name != samples::name(leaves));
        for (path, text) in files(fewer, 1) {
            let all: Vec<_> = all[&path].split("\n\n").map(str::trim_end).collect();
            if path.ends_with(".conf") || path.contains("networkd") {
                prop_assert!(text.split("\n\n").all(|section| all.contains(&section.trim_end())), "{}", path);
            }
        }
    }

    #[test]
    fn no_file_holds_a_secret(keys in proptest::collection::vec(any::<[bool; 2]>(), 3), nat: bool) {
        let mut mesh = samples::mesh(3);
        let mut privates = Vec::new();
        for (i, (node, keys)) in mesh.nodes.iter_mut().zip(keys).enumerate() {
            for ((lane, key), there) in Lane::ALL.into_iter().zip(&mut node.keys).zip(keys) {
                privates.push(samples::private(i + 1, lane));
                *key = key.filter(|_| there);
            }
            node.preferred = if node.keys[0].is_some() { Lane::A } else { Lane::B };
            node.nat = nat;
        }
        for who in 1..=3 {
            for (path, text) in files(mesh.clone(), who) {
                let lower = text.to_lowercase();
                for word in ["privatekey=", "privatekey =", "presharedkey", "preshared-key"] {
                    prop_assert!(!lower.contains(word), "{}: {}", path, word);
                }
                for private in &privates {
                    let encoded = private.to_file_text();
                    let bytes = BASE64.decode(encoded.trim_end()).expect("base64");
                    for form in [encoded.trim_end().to_owned(), text::hex(&bytes)] {
                        // The last character of either form may be spelled otherwise; what is before may not be there.
                        prop_assert!(!text.contains(&form[..40]), "{}", path);
                    }
                }
            }
        }
    }
}
