//! Peers without an agent: whether they are what the policy says, and whether somebody talks to them.
//!
//! That their keys, addresses, names and endpoints are nobody else's is for the checks of nodes to see.

use super::Finding;
use crate::wireguard::Mesh;
use crate::wireguard::external::externals;

/// Each can be a peer, has one, and one of the two can call.
pub(crate) fn external(mesh: &Mesh) -> Vec<Finding> {
    let (externals, mut found) = externals(&mesh.policy);
    for external in externals {
        let own = &external.node.name;
        let peers: Vec<_> = mesh.nodes.iter().filter(|node| external.talks_to(node)).collect();
        if peers.is_empty() && !mesh.nodes.is_empty() {
            let message = format!("the external peer '{own}' talks to nobody: its selectors mean no node");
            let hint = "correct its peers, or enrol the node that they are for";
            found.push(Finding::warning("external-alone", [], message, hint).at(external.place.clone()));
        }
        let silent = peers.iter().filter(|node| node.endpoint.is_none() && external.node.endpoint.is_none());
        let silent: Vec<_> = silent.map(|node| &node.name).collect();
        if !silent.is_empty() {
            let message =
                format!("neither they nor the external peer '{own}' can call the other: all are without endpoint");
            let hint = "give it peers that have an endpoint";
            found.push(Finding::warning("external-unreachable", silent, message, hint).at(external.place.clone()));
        }
        let deaf =
            peers.iter().filter(|node| node.key(external.lane).is_none() && node.keys.iter().any(Option::is_some));
        let deaf: Vec<_> = deaf.map(|node| &node.name).collect();
        if !deaf.is_empty() {
            let message = format!("no key on lane {}, the only one of the external peer '{own}'", external.lane);
            let hint = "run `keys rotate` on the machine, which makes the standby key";
            found.push(Finding::warning("external-lane", deaf, message, hint).at(external.place.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::wireguard::WireguardPolicy;
    use crate::wireguard::{Lane, PastKeys, check, samples};

    /// Three nodes and a laptop that talks to pop1 and pop2.
    fn mesh(rest: &str) -> Mesh {
        samples::with_external(3, &format!("peers = [\"member:pop1\", \"member:pop2\"]\n{rest}"))
    }

    fn new_codes(mesh: &Mesh) -> Vec<&'static str> {
        let usual: Vec<_> = check(&samples::mesh(3), &PastKeys::new()).into_iter().map(|f| f.code).collect();
        check(mesh, &PastKeys::new()).into_iter().map(|f| f.code).filter(|code| !usual.contains(code)).collect()
    }

    #[test]
    fn a_sound_one_is_found_nothing_about() {
        assert_eq!(new_codes(&mesh("")), [""; 0]);
        assert_eq!(new_codes(&mesh("lane = \"b\"\nendpoint = \"8.8.8.8:700\"\n")), [""; 0]);
    }

    #[test]
    fn the_checks_of_nodes_hold_for_it() {
        // Its address, key, name and endpoint are its own.
        let mut taken = mesh("");
        let own = taken.nodes[2].keys;
        taken.nodes[2] = crate::wireguard::Node { keys: own, ..samples::node(&taken.policy, 200) };
        assert_eq!(new_codes(&taken), ["address-shared"]);
        let mut copied = mesh("");
        copied.nodes[2].keys[1] = Some(samples::private(200, Lane::A).public());
        assert_eq!(new_codes(&copied), ["key-shared"]);
        let past = PastKeys::from([(samples::private(200, Lane::A).public(), samples::name(2))]);
        assert!(check(&mesh(""), &past).iter().any(|f| f.code == "key-past"));
        let mut named = mesh("");
        named.nodes[2].name = "laptop".parse().expect("a name");
        assert_eq!(new_codes(&named), ["name-shared"]);
        for (endpoint, code) in [
            ("10.88.16.9:700", "endpoint-inside"),
            ("127.0.0.1:700", "endpoint-unreachable"),
            ("fra1.example:700", "endpoint-name"),
            ("198.51.100.2:51821", "endpoint-shared"),
            ("-x:700", "external-wrong"),
        ] {
            assert_eq!(new_codes(&mesh(&format!("endpoint = \"{endpoint}\"\n"))), [code], "{endpoint}");
        }
        // On one lane it has one port.
        assert_eq!(new_codes(&mesh("endpoint = \"198.51.100.2:700\"\n")), [""; 0]);
    }

    #[test]
    fn a_key_that_is_no_point_is_refused_where_it_stands() {
        let zero = samples::with_external(3, "peers = [\"region:*\"]\n");
        let text = samples::external_text("peers = [\"region:*\"]\n");
        let key = samples::private(200, Lane::A).public().to_string();
        let changed = text.replace(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let found = external(&Mesh { policy: WireguardPolicy::parse(&changed).expect("32 bytes"), ..zero });
        assert_eq!(found.iter().map(|f| f.code).collect::<Vec<_>>(), ["external-wrong"]);
        let line = text.lines().position(|line| line == "[[external]]").expect("a table") + 1;
        assert!(
            found[0]
                .to_string()
                .starts_with(&format!("error: policy/wireguard.toml:{line}: the external peer 'laptop': public_key: ")),
            "{}",
            found[0]
        );
    }

    #[test]
    fn somebody_talks_to_it_and_one_of_the_two_calls() {
        let mut hidden = mesh("");
        (hidden.nodes[1].endpoint, hidden.nodes[1].nat) = (None, true);
        assert_eq!(new_codes(&hidden), ["external-unreachable"]);
        assert_eq!(external(&hidden)[0].nodes, [samples::name(2)]);
        let mut called = mesh("endpoint = \"8.8.8.8:700\"\n");
        (called.nodes[1].endpoint, called.nodes[1].nat) = (None, true);
        assert_eq!(external(&called), []);
        let mut alone = mesh("");
        alone.nodes.drain(..2);
        assert_eq!(external(&alone).iter().map(|f| f.code).collect::<Vec<_>>(), ["external-alone"]);
        let mut deaf = mesh("lane = \"b\"\n");
        deaf.nodes[0].keys[1] = None;
        assert_eq!(
            external(&deaf).iter().map(|f| (f.code, f.nodes.clone())).collect::<Vec<_>>(),
            [("external-lane", vec![samples::name(1)])]
        );
    }
}
