//! Who is whose peer: whether the mesh hangs together, and whether what joins it is there.
//!
//! Everything here is a warning. An error would keep everybody from rendering, and the moment at which a mesh falls apart is
//! the one at which a compromised node has been taken out: nobody may keep it as a peer for that.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::name::MemberName;
use crate::policy::wireguard::{HUB, Marks, Shape, TRANSIT, Topology, place_of_rule};
use crate::wireguard::{Mesh, Node};

/// Nodes of a region that pass from it to others; with one alone, a machine that fails takes the region with it.
const TRANSIT_MIN: usize = 2;
/// Parts, and names of each, that a finding shows before it counts.
const PARTS_SHOWN: usize = 4;
const NAMES_SHOWN: usize = 3;

/// Nodes by all that the topology goes by: those of one class have the same peers. There are few classes, also of many nodes.
pub(crate) struct Classes<'m> {
    topology: &'m Topology,
    classes: Vec<(Marks<'m>, Vec<&'m Node>)>,
}

impl<'m> Classes<'m> {
    pub(crate) fn new(topology: &'m Topology, nodes: impl Iterator<Item = &'m Node>) -> Self {
        let mut classes: BTreeMap<Marks<'m>, Vec<&'m Node>> = BTreeMap::new();
        for node in nodes {
            classes.entry(topology.marks(&node.site())).or_default().push(node);
        }
        Self { topology, classes: classes.into_iter().collect() }
    }

    /// The nodes that have a peer among these nodes.
    pub(crate) fn with_peer(&self) -> Vec<&'m Node> {
        let mut found = Vec::new();
        for (i, (own, nodes)) in self.classes.iter().enumerate() {
            let within = nodes.len() > 1 && self.topology.joined(own, own);
            let mut others = self.classes.iter().enumerate().filter(|(n, _)| *n != i);
            if within || others.any(|(_, (marks, _))| self.topology.joined(own, marks)) {
                found.extend(nodes.iter().copied());
            }
        }
        found
    }

    /// The sets of nodes that have a way to each other over peers, the largest first, each by name.
    pub(crate) fn parts(&self) -> Vec<Vec<&'m MemberName>> {
        let mut parts = Vec::new();
        let mut left: BTreeSet<usize> = (0..self.classes.len()).collect();
        while let Some(first) = left.pop_first() {
            let (mut part, mut next) = (vec![first], vec![first]);
            while let Some(marks) = next.pop().and_then(|i| self.classes.get(i)).map(|(marks, _)| marks) {
                let joins =
                    |i: &usize| self.classes.get(*i).is_some_and(|(other, _)| self.topology.joined(marks, other));
                let reached: BTreeSet<usize> = left.iter().copied().filter(joins).collect();
                left.retain(|i| !reached.contains(i));
                part.extend(&reached);
                next.extend(reached);
            }
            let names =
                |i: &usize| self.classes.get(*i).into_iter().flat_map(|(_, nodes)| nodes).map(|node| &node.name);
            let mut names: Vec<&MemberName> = part.iter().flat_map(names).collect();
            names.sort();
            // Nodes of one class that are nobody's peers are not each other's either.
            let alone = part.len() == 1 && self.classes.get(first).is_some_and(|(m, _)| !self.topology.joined(m, m));
            match alone {
                true => parts.extend(names.into_iter().map(|name| vec![name])),
                false => parts.push(names),
            }
        }
        parts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        parts
    }
}

/// The mesh is one, and has the hubs and transit nodes that its topology goes by.
pub(crate) fn topology(mesh: &Mesh) -> Vec<Finding> {
    let topology = mesh.policy.topology();
    let mut found = Vec::new();
    let parts = Classes::new(topology, mesh.nodes.iter()).parts();
    if parts.len() > 1 {
        let message =
            format!("the mesh falls into {} parts without a way to each other: {}", parts.len(), shown(&parts));
        let hint = "let a [[topology.rule]] of policy/wireguard.toml join them, or enrol the node that does";
        found.push(Finding::warning("graph-split", [], message, hint).at(mesh.policy.place("topology.default")));
    }
    let has = |node: &Node, role: &str| node.roles.iter().any(|own| own.as_str() == role);
    if topology.shape() == Shape::Hub && !mesh.nodes.is_empty() && !mesh.nodes.iter().any(|node| has(node, HUB)) {
        let message = format!("the topology is 'hub', and no node has the role '{HUB}'");
        let hint = "enrol one with `keys enroll NAME --role hub`, or join nodes by a [[topology.rule]]";
        found.push(Finding::warning("hub-none", [], message, hint).at(mesh.policy.place("topology.default")));
    }
    if topology.uses_transit() {
        let mut regions: BTreeMap<&str, Vec<&MemberName>> = BTreeMap::new();
        for node in &mesh.nodes {
            let transit = regions.entry(&node.region).or_default();
            transit.extend(has(node, TRANSIT).then_some(&node.name));
        }
        for (region, transit) in regions.into_iter().filter(|(_, transit)| transit.len() < TRANSIT_MIN) {
            let count = if transit.is_empty() { "no node" } else { "one node only" };
            let message = format!("region '{region}' has {count} with the role '{TRANSIT}'");
            let hint =
                "enrol a second one with `keys enroll NAME --role transit`: a region with one is cut off when it fails";
            found.push(Finding::warning("transit-few", transit, message, hint));
        }
    }
    found.extend(idle(mesh));
    found
}

/// Rules whose one end means no node: of a role that nobody has, or of somebody who has left.
fn idle(mesh: &Mesh) -> Vec<Finding> {
    let mut found = Vec::new();
    let rules = mesh.policy.topology().rules().iter().zip(1..);
    for (selector, number) in rules.flat_map(|(ends, number)| ends.iter().map(move |selector| (selector, number))) {
        if !mesh.nodes.is_empty() && !mesh.nodes.iter().any(|node| selector.matches(&node.site())) {
            let message = format!("'{selector}' in a [[topology.rule]] means no node");
            let hint = "correct the rule, or enrol the node that it is for";
            found.push(Finding::warning("rule-idle", [], message, hint).at(mesh.policy.place(&place_of_rule(number))));
        }
    }
    found
}

fn shown(parts: &[Vec<&MemberName>]) -> String {
    let more = |all: usize, shown: usize| match all.saturating_sub(shown) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    let part = |part: &Vec<&MemberName>| {
        let names: Vec<_> = part.iter().take(NAMES_SHOWN).map(ToString::to_string).collect();
        format!("{}{}", names.join(", "), more(part.len(), NAMES_SHOWN))
    };
    let list: Vec<_> = parts.iter().take(PARTS_SHOWN).map(part).collect();
    format!("{}{}", list.join("; "), more(parts.len(), PARTS_SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::wireguard::{TEMPLATE, WireguardPolicy};
    use crate::wireguard::samples;
    use proptest::prelude::*;

    /// A mesh in regions `default` and `us`: each node is given by region and roles.
    fn mesh(shape: &str, rules: &[[&str; 2]], nodes: &[(&str, &[&str])]) -> Mesh {
        let pool = "[[ipam.pool]]\nregion = \"us\"\nipv4 = \"10.88.32.0/20\"\nsubnet6 = 17\n";
        let rules = rules.iter().map(|[a, b]| format!("[[topology.rule]]\nbetween = [\"{a}\", \"{b}\"]\n"));
        let text = TEMPLATE.replace("default = \"full\"", &format!("default = \"{shape}\""));
        let policy =
            WireguardPolicy::parse(&(text + pool + &rules.collect::<String>())).unwrap_or_else(|e| panic!("{e}"));
        let mut mesh = Mesh { policy, ..samples::mesh(nodes.len()) };
        for (node, (region, roles)) in mesh.nodes.iter_mut().zip(nodes) {
            node.region = (*region).to_owned();
            node.roles = roles.iter().map(|role| role.parse().expect("a label")).collect();
        }
        mesh
    }

    fn codes(mesh: &Mesh) -> Vec<&'static str> {
        topology(mesh).iter().map(|finding| finding.code).collect()
    }

    const D: &str = "default";

    #[test]
    fn a_mesh_in_parts_says_which() {
        let nodes: [(&str, &[&str]); 6] = [(D, &[]), (D, &[]), (D, &[]), (D, &[]), ("us", &[]), ("us", &[])];
        assert_eq!(codes(&mesh("full", &[], &nodes)), [""; 0]);
        let line = TEMPLATE.lines().position(|line| line.starts_with("default = ")).expect("a default") + 1;
        let found = topology(&mesh("groups", &[], &nodes));
        let message = format!(
            "warning: policy/wireguard.toml:{line}: the mesh falls into 2 parts without a way to each other: pop1, pop2, pop3 and 1 more; pop5, pop6"
        );
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [message]);
        assert_eq!(codes(&mesh("groups", &[["member:pop1", "member:pop6"]], &nodes)), [""; 0]);
        assert_eq!(codes(&mesh("groups", &[["member:pop1", "member:pop2"]], &nodes)), ["graph-split"]);
        assert_eq!(codes(&mesh("groups", &[], &nodes[..4])), [""; 0]);
    }

    #[test]
    fn a_hub_topology_has_a_hub() {
        let alone: [(&str, &[&str]); 3] = [(D, &[]), (D, &[]), (D, &[])];
        assert_eq!(codes(&mesh("hub", &[], &alone)), ["graph-split", "hub-none"]);
        assert!(topology(&mesh("hub", &[], &alone))[0].message.ends_with("pop1; pop2; pop3"));
        assert_eq!(codes(&mesh("hub", &[], &[(D, &[]), (D, &["hub"]), ("us", &[])])), [""; 0]);
        assert_eq!(codes(&mesh("hub", &[["region:*", "region:*"]], &alone)), ["hub-none"]);
        assert_eq!(codes(&mesh("hub", &[], &[])), [""; 0]);
    }

    #[test]
    fn a_region_has_two_transit_nodes() {
        let rule = ["region:*", "role:transit"];
        let transit: &[&str] = &["transit"];
        let nodes = [(D, transit), (D, transit), ("us", transit), ("us", &[][..])];
        let found = topology(&mesh("groups", &[rule], &nodes));
        assert_eq!(found.iter().map(|f| f.code).collect::<Vec<_>>(), ["transit-few"]);
        assert_eq!(found[0].to_string(), "warning: pop3: region 'us' has one node only with the role 'transit'");
        let none = [(D, transit), (D, transit), ("us", &[][..])];
        assert!(topology(&mesh("groups", &[rule], &none))[0].message.contains("'us' has no node with"));
        // Where no rule speaks of transit, nobody needs it.
        assert_eq!(codes(&mesh("groups", &[["region:default", "region:us"]], &nodes)), [""; 0]);
    }

    #[test]
    fn a_rule_that_means_nobody_is_named() {
        let nodes: [(&str, &[&str]); 2] = [(D, &[]), (D, &[])];
        let found = topology(&mesh("groups", &[["member:gone1", "region:*"]], &nodes));
        assert_eq!(found.iter().map(|f| f.code).collect::<Vec<_>>(), ["rule-idle"]);
        assert!(found[0].message.contains("'member:gone1'"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Parts by classes are what walking from peer to peer gives.
        #[test]
        fn parts_are_what_a_walk_over_peers_reaches(
            shape in proptest::sample::select(vec!["full", "hub", "groups"]),
            nodes in proptest::collection::vec((proptest::sample::select(vec![D, "us"]), proptest::sample::subsequence(vec!["hub", "transit"], 0..=2)), 0..8),
            rules in proptest::sample::subsequence(vec![["region:us", "role:transit"], ["member:pop1", "member:pop4"], ["role:hub", "role:transit"]], 0..=3),
        ) {
            let nodes: Vec<(&str, &[&str])> = nodes.iter().map(|(region, roles)| (*region, roles.as_slice())).collect();
            let rules = if shape == "full" { Vec::new() } else { rules };
            let mesh = mesh(shape, &rules, &nodes);
            let topology = mesh.policy.topology();
            let mut walked: Vec<Vec<&MemberName>> = Vec::new();
            let mut left: Vec<&Node> = mesh.nodes.iter().collect();
            while let Some(first) = left.pop() {
                let mut part = vec![first];
                let mut at = 0;
                while let Some(node) = part.get(at).copied() {
                    let (peers, rest) = left.into_iter().partition(|other| topology.joins(&node.site(), &other.site()));
                    left = rest;
                    part.extend::<Vec<_>>(peers);
                    at += 1;
                }
                let mut names: Vec<_> = part.into_iter().map(|node| &node.name).collect();
                names.sort();
                walked.push(names);
            }
            walked.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            let classes = Classes::new(topology, mesh.nodes.iter());
            prop_assert_eq!(classes.parts(), walked);
            let mut with_peer: Vec<_> = classes.with_peer().into_iter().map(|node| &node.name).collect();
            with_peer.sort();
            let joined = |node: &&Node| mesh.nodes.iter().any(|other| topology.joins(&node.site(), &other.site()));
            let mut due: Vec<_> = mesh.nodes.iter().filter(joined).map(|node| &node.name).collect();
            due.sort();
            prop_assert_eq!(with_peer, due);
        }
    }
}
