//! Inner addresses and the pools they come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Finding;
use crate::name::MemberName;
use crate::policy::wireguard::place_of_pool;
use crate::wireguard::{AddressError, Mesh, address};

/// Every node has the addresses of its region and index, and nobody else has them. Since a peer's AllowedIPs are its
/// two host addresses, this is also what keeps AllowedIPs disjoint: `wg` would give an address that two peers claim to
/// the last one.
pub(crate) fn addresses(mesh: &Mesh) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut holders: BTreeMap<IpAddr, Vec<&MemberName>> = BTreeMap::new();
    let externals = mesh.externals();
    for node in mesh.nodes.iter().chain(externals.iter().map(|external| &external.node)) {
        let (v4, v6) = (node.addresses.ipv4, node.addresses.ipv6);
        holders.entry(v4.into()).or_default().push(&node.name);
        holders.entry(v6.into()).or_default().push(&node.name);
        match address::addresses(&mesh.policy, &node.region, node.index) {
            Ok(due) if due == node.addresses => {}
            Ok(due) => {
                let message =
                    format!("has {v4} and {v6}; its index {} gives {} and {}", node.index, due.ipv4, due.ipv6);
                let hint = "an address follows from region and index, and is not chosen";
                found.push(Finding::error("address-moved", [&node.name], message, hint));
            }
            Err(problem @ AddressError::Region { .. }) => {
                let hint = "add an [[ipam.pool]] for it to policy/wireguard.toml, or correct the node's region";
                found.push(Finding::error("region-unknown", [&node.name], problem.to_string(), hint));
            }
            Err(problem @ AddressError::Index { .. }) => {
                let hint = "give the node a free index of its region's pool";
                found.push(Finding::error("index-outside-pool", [&node.name], problem.to_string(), hint));
            }
        }
    }
    // Two nodes that share an index share both addresses: one finding says it.
    let mut said = BTreeSet::new();
    for (address, names) in holders {
        if names.len() > 1 && said.insert(names.clone()) {
            let message = format!("all have the inner address {address}");
            found.push(Finding::error("address-shared", names, message, "give each node an index of its own"));
        }
    }
    found
}

/// No pool is nearly used up.
pub(crate) fn pools(mesh: &Mesh) -> Vec<Finding> {
    let mut used: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let externals = mesh.externals();
    for node in mesh.nodes.iter().chain(externals.iter().map(|external| &external.node)) {
        used.entry(&node.region).or_default().insert(node.index);
    }
    let mut found = Vec::new();
    for (pool, number) in mesh.policy.ipam().pools.iter().zip(1..) {
        let (used, all) = (used.get(pool.region.as_str()).map_or(0, BTreeSet::len), pool.index_max());
        // 90 % in whole numbers.
        if (used as u64).saturating_mul(10) > all.saturating_mul(9) {
            let message = format!("the pool of region '{}' has given out {used} of {all} addresses", pool.region);
            let hint = "add a region with a pool of its own for new nodes; a pool that is in use cannot move";
            let place = mesh.policy.place(&place_of_pool(number));
            found.push(Finding::warning("pool-nearly-full", [], message, hint).at(place));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::samples;

    fn codes(mesh: &Mesh) -> Vec<&'static str> {
        addresses(mesh).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn addresses_are_those_of_the_index_and_of_one_node() {
        let mut mesh = samples::mesh(3);
        assert_eq!(codes(&mesh), [""; 0]);
        mesh.nodes[1].addresses.ipv4 = "10.88.16.77".parse().expect("an address");
        assert_eq!(codes(&mesh), ["address-moved"]);
        mesh.nodes[1].addresses = mesh.nodes[0].addresses;
        assert_eq!(codes(&mesh), ["address-moved", "address-shared"]);
        mesh.nodes[1].index = mesh.nodes[0].index;
        assert_eq!(codes(&mesh), ["address-shared"]);
        assert_eq!(addresses(&mesh)[0].nodes, [samples::name(1), samples::name(2)]);
    }

    #[test]
    fn an_ipv6_address_alone_can_be_shared() {
        let mut mesh = samples::mesh(3);
        mesh.nodes[1].addresses.ipv6 = mesh.nodes[0].addresses.ipv6;
        assert_eq!(codes(&mesh), ["address-moved", "address-shared"]);
    }

    #[test]
    fn region_and_index_are_those_of_a_pool() {
        let mut mesh = samples::mesh(2);
        mesh.nodes[1].region = "eu".into();
        assert_eq!(codes(&mesh), ["region-unknown"]);
        let mut mesh = samples::mesh(2);
        for index in [0, 4_095, 1 << 40] {
            mesh.nodes[1].index = index;
            assert_eq!(codes(&mesh), ["index-outside-pool"]);
        }
    }

    #[test]
    fn a_pool_warns_above_nine_tenths() {
        // A /28 has 14 usable addresses: 12 are 86 %, 13 are 93 %.
        for (count, expected) in [(12, 0), (13, 1), (14, 1)] {
            let mesh = samples::mesh_in_pool("10.88.16.0/28", count);
            let found = pools(&mesh);
            assert_eq!(found.len(), expected, "{count}");
            assert!(
                found.iter().all(|f| f.code == "pool-nearly-full" && f.message.contains(&format!("{count} of 14")))
            );
        }
    }
}
