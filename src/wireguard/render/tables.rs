//! The files that are not WireGuard's: hosts, routes, firewall ports, and the description in JSON.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::renderer::View;
use crate::cidr::{Cidr4, Cidr6};
use crate::name::{Label, MemberName};
use crate::wireguard::{Lane, Node, WgPublicKey};

/// A node's lines of the hosts file.
pub(super) fn hosts_lines(node: &Node) -> String {
    let Node { name, addresses, .. } = node;
    format!("{} {name}\n{} {name}\n", addresses.ipv4, addresses.ipv6)
}

/// The inner addresses of all nodes, this one included, and of those without an agent, as hosts(5) has them.
pub(super) fn hosts(out: &mut String, view: &View<'_>) {
    view.header(out, None);
    out.push_str(view.hosts());
}

/// The routes of one lane for `ip -batch FILE`.
pub(super) fn routes(out: &mut String, view: &View<'_>, lane: Lane) {
    let (interface, addresses, metric) = (view.interface(lane), view.node.addresses, view.metric(lane));
    let sources = [addresses.ipv4.to_string(), addresses.ipv6.to_string()];
    let rests = sources.map(|source| format!(" dev {interface} metric {metric} src {source}\n"));
    view.header(out, Some(lane));
    for (other, _) in view.peers(lane) {
        for (route, rest) in other.routes.iter().zip(&rests) {
            out.push_str("route replace ");
            out.push_str(route);
            out.push_str(rest);
        }
    }
}

/// Two sets for nft(8), to be included inside a table.
pub(super) fn firewall(out: &mut String, view: &View<'_>) {
    let ports: BTreeSet<u16> = Lane::ALL.map(|lane| view.port(lane)).into();
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    let interfaces = Lane::ALL.map(|lane| format!("\"{}\"", view.interface(lane)));
    view.header(out, None);
    out.push_str(&format!(
        "# Include this inside a table. Then `udp dport @keys_wg_ports accept` lets the tunnels in, and\n\
         # `iifname @keys_wg_interfaces` is what comes out of them, on either lane.\n\
         set keys_wg_ports {{\n\ttype inet_service\n\telements = {{ {} }}\n}}\n\
         set keys_wg_interfaces {{\n\ttype ifname\n\telements = {{ {} }}\n}}\n",
        ports.join(", "),
        interfaces.join(", "),
    ));
}

/// One lane of a peer.
#[derive(Debug, Serialize)]
pub(super) struct LaneText {
    pub(super) lane: Lane,
    pub(super) public_key: Option<WgPublicKey>,
    pub(super) endpoint: Option<String>,
}

#[derive(Serialize)]
struct NodeJson<'a> {
    name: &'a MemberName,
    region: &'a str,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    roles: &'a BTreeSet<Label>,
    index: u64,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    nat: bool,
    preferred: Lane,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    external: bool,
    #[serde(skip_serializing_if = "<[LaneText]>::is_empty")]
    lanes: &'a [LaneText],
}

impl<'a> NodeJson<'a> {
    fn new(node: &'a Node, lanes: &'a [LaneText]) -> Self {
        let Node { name, region, roles, index, addresses, nat, preferred, endpoint: _, keys: _ } = node;
        let (ipv4, ipv6) = (addresses.ipv4, addresses.ipv6);
        Self {
            name,
            region,
            roles,
            index: *index,
            ipv4,
            ipv6,
            nat: *nat,
            preferred: *preferred,
            external: false,
            lanes,
        }
    }
}

/// A node as others' descriptions have it, without a line feed.
pub(super) fn peer_json(node: &Node, lanes: &[LaneText]) -> String {
    to_json(&NodeJson::new(node, lanes))
}

/// The same of one without an agent.
pub(super) fn external_json(node: &Node, lanes: &[LaneText]) -> String {
    to_json(&NodeJson { external: true, ..NodeJson::new(node, lanes) })
}

#[derive(Serialize)]
struct MeshJson<'a> {
    id: &'a Label,
    ula: Cidr6,
    ipv4: Cidr4,
    mtu: u16,
}

#[derive(Serialize)]
struct OwnLaneJson<'a> {
    lane: Lane,
    interface: &'a str,
    port: u16,
    public_key: Option<WgPublicKey>,
    metric: u32,
}

#[derive(Serialize)]
struct HeadJson<'a> {
    version: u32,
    mesh: MeshJson<'a>,
    node: NodeJson<'a>,
    lanes: [OwnLaneJson<'a>; 2],
}

/// The description: what the other files say, for programs. One line a peer, so that a change of one shows as one line.
pub(super) fn json(out: &mut String, view: &View<'_>) {
    let table = view.policy().mesh();
    let head = HeadJson {
        version: 1,
        mesh: MeshJson { id: &table.id, ula: table.ula, ipv4: table.ipv4, mtu: table.mtu },
        node: NodeJson::new(view.node, &[]),
        lanes: Lane::ALL.map(|lane| OwnLaneJson {
            lane,
            interface: view.interface(lane),
            port: view.port(lane),
            public_key: view.node.key(lane),
            metric: view.metric(lane),
        }),
    };
    out.push_str(&to_json(&head));
    // The head is an object that is not empty: its closing brace makes room for one more field.
    out.pop();
    out.push_str(",\"peers\":[");
    for (i, other) in view.others().enumerate() {
        out.push_str(if i == 0 { "\n" } else { ",\n" });
        out.push_str(&other.json);
    }
    out.push_str("\n]}\n");
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our types have text keys and whole numbers")
}
