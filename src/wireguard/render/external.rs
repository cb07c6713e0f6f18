//! The configuration of a peer without an agent, for wg-quick(8) and for the WireGuard apps of phones and laptops.

use zeroize::Zeroizing;

use super::wg::KEEPALIVE_SECONDS;
use crate::wireguard::{CheckedMesh, External, WgPrivateKey};

/// A configuration with the place for a private key, which it does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalConfig {
    before: String,
    /// What says for whom it is, and each peer's name.
    after: String,
    /// How many peers it has.
    pub peers: usize,
}

/// The line that stands for the private key.
const PLACEHOLDER: &str = "# PrivateKey = put here what `wg genkey` printed on this machine\n";

impl ExternalConfig {
    /// The configuration of `external`. Routes are wg-quick's own here: there is one lane.
    pub fn new(mesh: &CheckedMesh, external: &External) -> Self {
        let (policy, own) = (mesh.policy(), &external.node);
        let before = format!("# {} in mesh {}, lane {}\n[Interface]\n", own.name, policy.mesh().id, external.lane);
        let addresses = own.addresses;
        let mut after =
            format!("Address = {}/32, {}/128\nMTU = {}\n", addresses.ipv4, addresses.ipv6, policy.mesh().mtu);
        let keepalive = match &own.endpoint {
            Some(_) => {
                after.push_str(&format!("ListenPort = {}\n", own.port(policy, external.lane)));
                String::new()
            }
            None => format!("PersistentKeepalive = {KEEPALIVE_SECONDS}\n"),
        };
        let mut peers = 0;
        for node in mesh.nodes().iter().filter(|node| external.talks_to(node)) {
            let Some(key) = node.key(external.lane) else {
                after.push_str(&format!("\n# {} has no key on lane {} yet: left out.\n", node.name, external.lane));
                continue;
            };
            peers += 1;
            after.push_str(&format!("\n[Peer]\n# {}\nPublicKey = {key}\n", node.name));
            if let Some(endpoint) = &node.endpoint {
                let endpoint = endpoint.host.with_port(node.port(policy, external.lane));
                after.push_str(&format!("Endpoint = {endpoint}\n"));
            }
            after.push_str(&format!("AllowedIPs = {}/32, {}/128\n", node.addresses.ipv4, node.addresses.ipv6));
            after.push_str(&keepalive);
        }
        Self { before, after, peers }
    }

    /// The text with a line that says what is missing.
    pub fn without_key(&self) -> String {
        format!("{}{PLACEHOLDER}{}", self.before, self.after)
    }

    /// The text with the private key.
    pub fn with_key(&self, key: &WgPrivateKey) -> Zeroizing<String> {
        let key = key.to_file_text();
        let parts = [self.before.as_str(), "PrivateKey = ", key.trim_end(), "\n", self.after.as_str()];
        // As large as it gets, so that no secret is left behind where it grew.
        let mut text = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
        parts.iter().for_each(|part| text.push_str(part));
        text
    }

    /// The same in few bytes, for a code that has room for few: without comments, empty lines and blanks.
    pub fn compact(&self, key: &WgPrivateKey) -> Zeroizing<String> {
        let whole = self.with_key(key);
        let mut text = Zeroizing::new(String::with_capacity(whole.len()));
        for line in whole.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            line.split(' ').for_each(|part| text.push_str(part));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::{Lane, PastKeys, samples};

    fn config(count: usize, rest: &str) -> ExternalConfig {
        let mesh =
            CheckedMesh::new(samples::with_external(count, rest), &PastKeys::new()).unwrap_or_else(|e| panic!("{e}"));
        ExternalConfig::new(&mesh, &mesh.externals()[0])
    }

    #[test]
    fn the_configuration_is_this() {
        let config = config(2, "peers = [\"member:pop2\"]\n");
        let key = samples::private(200, Lane::A);
        let expected = format!(
            "# laptop in mesh mesh, lane a\n\
             [Interface]\n\
             PrivateKey = {}\n\
             Address = 10.88.16.200/32, fd12:3456:789a:10::c8/128\n\
             MTU = 1420\n\
             \n\
             [Peer]\n\
             # pop2\n\
             PublicKey = {}\n\
             Endpoint = 198.51.100.2:51820\n\
             AllowedIPs = 10.88.16.2/32, fd12:3456:789a:10::2/128\n\
             PersistentKeepalive = 25\n",
            key.to_file_text().trim_end(),
            samples::private(2, Lane::A).public()
        );
        assert_eq!(*config.with_key(&key), expected);
        let without = expected.replace(&format!("PrivateKey = {}\n", key.to_file_text().trim_end()), PLACEHOLDER);
        assert_eq!(config.without_key(), without);
        let compact = config.compact(&key);
        assert!(
            compact.contains("\nAddress=10.88.16.200/32,fd12:3456:789a:10::c8/128\n") && !compact.contains(['#', ' '])
        );
        assert_eq!(compact.lines().count(), 9, "{}", compact.as_str());
    }

    #[test]
    fn one_that_is_called_listens_and_keeps_quiet() {
        let config = config(3, "lane = \"b\"\nendpoint = \"8.8.8.8:700\"\npeers = [\"region:*\"]\n");
        let text = config.without_key();
        assert!(text.contains("ListenPort = 700\n") && !text.contains("PersistentKeepalive"), "{text}");
        assert_eq!((config.peers, text.matches(":51821\n").count()), (3, 3), "{text}");
        assert!(text.contains(&samples::private(1, Lane::B).public().to_string()));
    }

    #[test]
    fn a_node_without_a_key_there_is_left_out_aloud() {
        let mut mesh = samples::with_external(2, "peers = [\"region:*\"]\n");
        mesh.nodes[0].keys[0] = None;
        mesh.nodes[0].preferred = Lane::B;
        let mesh = CheckedMesh::new(mesh, &PastKeys::new()).unwrap_or_else(|e| panic!("{e}"));
        let config = ExternalConfig::new(&mesh, &mesh.externals()[0]);
        assert!(config.without_key().contains("# pop1 has no key on lane a yet: left out.\n"));
        assert_eq!(config.peers, 1);
    }
}
