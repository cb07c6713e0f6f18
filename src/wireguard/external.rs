//! Peers without an agent: what the policy says of them, as nodes with one lane.

use std::collections::BTreeSet;

use super::check::Finding;
use super::{Endpoint, Host, Lane, Node, WgPublicKey, address};
use crate::name::MemberName;
use crate::policy::wireguard::{self, OneLane, Selector, WireguardPolicy, place_of_external};

/// A peer that has no agent and is on one lane for good: routes to it never move, and nobody rotates its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// It as a node, whose only key is on its lane.
    pub node: Node,
    /// Its lane.
    pub lane: Lane,
    /// Where the policy speaks of it.
    pub(super) place: String,
    peers: Vec<Selector>,
}

impl External {
    /// Whether it talks to that node.
    pub fn talks_to(&self, node: &Node) -> bool {
        self.peers.iter().any(|selector| selector.matches(&node.site()))
    }

    fn read(policy: &WireguardPolicy, said: &wireguard::External, place: &str) -> Result<Self, String> {
        let lane = match said.lane {
            OneLane::A => Lane::A,
            OneLane::B => Lane::B,
        };
        let on_lane = |value| if lane == Lane::A { [Some(value), None] } else { [None, Some(value)] };
        let key: WgPublicKey = said.public_key.parse().map_err(|e| format!("public_key: {e}"))?;
        let endpoint = said.endpoint.as_ref().map(|endpoint| {
            let host: Host = endpoint.host.parse().map_err(|e| format!("endpoint: {e}"))?;
            let ports = if lane == Lane::A { [Some(endpoint.port), None] } else { [None, Some(endpoint.port)] };
            Ok::<_, String>(Endpoint { host, ports })
        });
        let name: MemberName = said.name.as_str().parse().map_err(|e| format!("name: {e}"))?;
        let addresses =
            address::addresses(policy, said.region.as_str(), said.index).map_err(|e| format!("index: {e}"))?;
        let endpoint = endpoint.transpose()?;
        let node = Node {
            name,
            region: said.region.to_string(),
            roles: BTreeSet::new(),
            index: said.index,
            addresses,
            nat: endpoint.is_none(),
            endpoint,
            keys: on_lane(key),
            preferred: lane,
        };
        Ok(Self { node, lane, place: place.to_owned(), peers: said.peers.clone() })
    }
}

/// The peers without an agent that a policy names, by name, and what keeps others from being ones.
pub(super) fn externals(policy: &WireguardPolicy) -> (Vec<External>, Vec<Finding>) {
    let (mut read, mut found) = (Vec::new(), Vec::new());
    for (said, number) in policy.externals().iter().zip(1..) {
        let place = policy.place(&place_of_external(number));
        match External::read(policy, said, &place) {
            Ok(external) => read.push(external),
            Err(problem) => {
                let hint = "correct it in policy/wireguard.toml";
                let message = format!("the external peer '{}': {problem}", said.name);
                found.push(Finding::error("external-wrong", [], message, hint).at(place));
            }
        }
    }
    read.sort_by(|a, b| a.node.name.cmp(&b.node.name));
    (read, found)
}
