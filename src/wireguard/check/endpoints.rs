//! Endpoints, ports, and who can reach whom.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{Classes, Finding};
use crate::cidr::{Special, special};
use crate::name::MemberName;
use crate::wireguard::{External, Host, Lane, Mesh};

/// Linux's default `net.ipv4.ip_local_port_range`: any program's outgoing socket may take one of these.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

/// Each endpoint can be reached, from outside the mesh, and is one node's.
pub(crate) fn endpoints(mesh: &Mesh) -> Vec<Finding> {
    let mut found = shared(mesh);
    let mut aside: BTreeMap<(Special, &str), Vec<&MemberName>> = BTreeMap::new();
    let mut named = Vec::new();
    let externals = mesh.externals();
    for node in mesh.nodes.iter().chain(externals.iter().map(|external| &external.node)) {
        let address = match node.endpoint.as_ref().map(|endpoint| &endpoint.host) {
            Some(Host::Address(address)) => *address,
            Some(Host::Name(_)) => {
                named.push(&node.name);
                continue;
            }
            None => continue,
        };
        if let Some(range) = inner_range(mesh, address) {
            let message = format!("the endpoint {address} lies inside {range}, the mesh's own range");
            let hint =
                "packets for the tunnel would be sent through the tunnel: give the address of the network outside";
            found.push(Finding::error("endpoint-inside", [&node.name], message, hint));
        } else if let Some(kind) = special(address) {
            aside.entry(kind).or_default().push(&node.name);
        }
    }
    for ((kind, word), names) in aside {
        found.push(match kind {
            Special::Unreachable => {
                let message = format!("an endpoint cannot be in a range that is not routed ({word})");
                Finding::error("endpoint-unreachable", names, message, "give an address that other machines can reach")
            }
            Special::Private | Special::Documentation => {
                let message = format!("the endpoint is in a range set aside ({word})");
                let hint = "right if all nodes share that network; else give an address that all can reach";
                Finding::warning("endpoint-private", names, message, hint)
            }
        });
    }
    if !named.is_empty() {
        let message = "the endpoint is a name: `wg` resolves it once, at start, and waits for the resolver";
        found.push(Finding::warning("endpoint-name", named, message, "prefer an address"));
    }
    found
}

/// The mesh's range that `address` is in.
fn inner_range(mesh: &Mesh, address: IpAddr) -> Option<String> {
    let table = mesh.policy.mesh();
    match address {
        IpAddr::V4(v4) => table.ipv4.contains(v4).then(|| table.ipv4.to_string()),
        IpAddr::V6(v6) => table.ula.contains(v6).then(|| table.ula.to_string()),
    }
}

/// A host and port that two lanes or nodes claim reaches one of them at most.
fn shared(mesh: &Mesh) -> Vec<Finding> {
    let mut places: BTreeMap<(&Host, u16), Vec<&MemberName>> = BTreeMap::new();
    for node in &mesh.nodes {
        if let Some(endpoint) = &node.endpoint {
            for lane in Lane::ALL {
                places.entry((&endpoint.host, node.port(&mesh.policy, lane))).or_default().push(&node.name);
            }
        }
    }
    let externals = mesh.externals();
    for External { node, lane, .. } in &externals {
        if let Some(endpoint) = &node.endpoint {
            places.entry((&endpoint.host, node.port(&mesh.policy, *lane))).or_default().push(&node.name);
        }
    }
    let mut found = Vec::new();
    for ((host, port), mut names) in places {
        // That one node's two lanes differ is for `ports` to see.
        names.sort();
        names.dedup();
        if names.len() > 1 {
            let message = format!("all are to be reached at {}", host.with_port(port));
            let hint = "nodes behind one address need ports of their own, forwarded to the same ports";
            found.push(Finding::error("endpoint-shared", names, message, hint));
        }
    }
    found
}

/// Ports can be listened on, and differ between the lanes of a node.
pub(crate) fn ports(mesh: &Mesh) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut ephemeral: BTreeMap<u16, Vec<&MemberName>> = BTreeMap::new();
    for port in mesh.policy.lanes().ports.into_iter().filter(|port| EPHEMERAL.contains(port)) {
        ephemeral.entry(port).or_default();
    }
    for node in &mesh.nodes {
        let [a, b] = Lane::ALL.map(|lane| node.port(&mesh.policy, lane));
        if a == 0 || b == 0 {
            let hint = "leave the port out to use the policy's";
            found.push(Finding::error("port-zero", [&node.name], "a port is from 1 to 65535", hint));
        } else if a == b {
            let message = format!("both lanes listen on port {a}");
            let hint = "each lane is an interface with a port of its own";
            found.push(Finding::error("port-twice", [&node.name], message, hint));
        }
        let own = node.endpoint.iter().flat_map(|endpoint| endpoint.ports).flatten();
        for port in own.filter(|port| EPHEMERAL.contains(port) && !mesh.policy.lanes().ports.contains(port)) {
            ephemeral.entry(port).or_default().push(&node.name);
        }
    }
    for (port, names) in ephemeral {
        let (first, last) = EPHEMERAL.into_inner();
        let message = format!("port {port} is one that Linux gives to outgoing sockets ({first} to {last})");
        let hint = format!("add {port} to net.ipv4.ip_local_reserved_ports on the machines, or choose another port");
        let of_policy = names.is_empty();
        let finding = Finding::warning("port-ephemeral", names, message, hint);
        found.push(if of_policy { finding.at(mesh.policy.place("lanes.ports")) } else { finding });
    }
    found
}

/// Of any two peers, one can call the other.
pub(crate) fn reach(mesh: &Mesh) -> Vec<Finding> {
    let mut found = Vec::new();
    let silent: Vec<_> = mesh.nodes.iter().filter(|node| node.endpoint.is_none()).collect();
    let unsaid: Vec<_> = silent.iter().filter(|node| !node.nat).map(|node| &node.name).collect();
    if !unsaid.is_empty() {
        let message = "no endpoint: others can answer, but not call";
        let hint = "give an endpoint, or say nat = true if there is none to give";
        found.push(Finding::warning("endpoint-none", unsaid, message, hint));
    }
    let with_peer = Classes::new(mesh.policy.topology(), silent.into_iter()).with_peer();
    if !with_peer.is_empty() {
        let message = "have no endpoint: those of them that are peers cannot reach each other";
        let hint = "give all but one of them an endpoint (a forwarded port will do), or let the topology join them to \
                    others only; there is no relaying";
        found.push(Finding::warning("pair-unreachable", with_peer.iter().map(|node| &node.name), message, hint));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::{Endpoint, Severity, samples};

    fn found(change: impl FnOnce(&mut Mesh)) -> Vec<Finding> {
        let mut mesh = samples::mesh(3);
        change(&mut mesh);
        [endpoints(&mesh), ports(&mesh), reach(&mesh)].concat()
    }

    /// Codes other than those every sample has: its endpoints are documentation addresses, its ports the usual ones.
    fn codes(change: impl FnOnce(&mut Mesh)) -> Vec<&'static str> {
        let usual = |f: &Finding| f.nodes.len() == 3 && f.code == "endpoint-private" || f.nodes.is_empty();
        found(change).iter().filter(|f| !usual(f)).map(|f| f.code).collect()
    }

    fn at(host: &str) -> Option<Endpoint> {
        Some(host.parse::<Host>().unwrap_or_else(|e| panic!("{e}")).into())
    }

    #[test]
    fn usual_ports_and_example_addresses_are_warned_about_once() {
        let found = found(|_| {});
        let codes: Vec<_> = found.iter().map(|f| (f.severity, f.code, f.nodes.len())).collect();
        assert_eq!(
            codes,
            [
                (Severity::Warning, "endpoint-private", 3),
                (Severity::Warning, "port-ephemeral", 0),
                (Severity::Warning, "port-ephemeral", 0)
            ]
        );
        assert!(found[1].hint.contains("add 51820 to net.ipv4.ip_local_reserved_ports"));
    }

    #[test]
    fn an_endpoint_is_outside_the_mesh_and_reachable() {
        for (host, expected) in [
            ("10.88.0.1", vec!["endpoint-inside"]),
            ("10.88.16.3", vec!["endpoint-inside"]),
            ("fd12:3456:789a:99::1", vec!["endpoint-inside"]),
            ("127.0.0.1", vec!["endpoint-unreachable"]),
            ("0.0.0.0", vec!["endpoint-unreachable"]),
            ("224.0.0.1", vec!["endpoint-unreachable"]),
            ("255.255.255.255", vec!["endpoint-unreachable"]),
            ("169.254.1.1", vec!["endpoint-unreachable"]),
            ("fe80::1", vec!["endpoint-unreachable"]),
            ("ff02::1", vec!["endpoint-unreachable"]),
            ("::", vec!["endpoint-unreachable"]),
            ("10.9.0.1", vec!["endpoint-private"]),
            ("fd99::1", vec!["endpoint-private"]),
            ("100.64.0.1", vec!["endpoint-private"]),
            ("8.8.8.8", vec![]),
            ("2a00::1", vec![]),
            ("fra1.cdn.example", vec!["endpoint-name"]),
        ] {
            let found = found(|mesh| mesh.nodes[1].endpoint = at(host));
            let about: Vec<_> = found.iter().filter(|f| f.nodes == [samples::name(2)]).map(|f| f.code).collect();
            assert_eq!(about, expected, "{host}");
        }
    }

    #[test]
    fn a_host_and_port_reach_one_node() {
        let share = |mesh: &mut Mesh, ports| {
            mesh.nodes[1].endpoint = mesh.nodes[0].endpoint.clone().map(|endpoint| Endpoint { ports, ..endpoint });
        };
        assert_eq!(codes(|mesh| share(mesh, [None, None])), ["endpoint-shared", "endpoint-shared"]);
        assert_eq!(codes(|mesh| share(mesh, [Some(700), None])), ["endpoint-shared"]);
        assert_eq!(codes(|mesh| share(mesh, [Some(700), Some(701)])), [""; 0]);
        // One node's lane a at the port of another's lane b.
        assert_eq!(codes(|mesh| share(mesh, [Some(51_821), Some(701)])), ["endpoint-shared"]);
    }

    #[test]
    fn ports_of_a_node_can_be_used() {
        let set = |mesh: &mut Mesh, ports| {
            if let Some(endpoint) = &mut mesh.nodes[0].endpoint {
                endpoint.ports = ports;
            }
        };
        assert_eq!(codes(|mesh| set(mesh, [Some(0), None])), ["port-zero"]);
        assert_eq!(codes(|mesh| set(mesh, [Some(51_821), None])), ["port-twice"]);
        assert_eq!(codes(|mesh| set(mesh, [Some(40_000), None])), ["port-ephemeral"]);
        assert_eq!(codes(|mesh| set(mesh, [Some(51_821), Some(51_820)])), [""; 0]);
        assert_eq!(codes(|mesh| set(mesh, [Some(700), Some(61_000)])), [""; 0]);
    }

    #[test]
    fn nodes_without_endpoint_are_said_to_be_so() {
        let hide = |nodes: &[(usize, bool)]| {
            codes(|mesh| {
                for &(i, nat) in nodes {
                    (mesh.nodes[i].endpoint, mesh.nodes[i].nat) = (None, nat);
                }
            })
            .into_iter()
            .filter(|code| *code != "endpoint-private")
            .collect::<Vec<_>>()
        };
        assert_eq!(hide(&[(0, true)]), [""; 0]);
        assert_eq!(hide(&[(0, false)]), ["endpoint-none"]);
        assert_eq!(hide(&[(0, true), (1, true)]), ["pair-unreachable"]);
        assert_eq!(hide(&[(0, true), (1, false)]), ["endpoint-none", "pair-unreachable"]);
    }
}
