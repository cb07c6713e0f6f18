//! From what an interface has to what it is to have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::{PresharedKey, Running};
use crate::name::MemberName;
use crate::wireguard::WgPublicKey;

/// What an interface is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLane {
    /// Its name.
    pub interface: String,
    /// The public half of its private key; none while the node has none for this lane: it stays as it is then.
    pub key: Option<WgPublicKey>,
    /// The UDP port.
    pub port: u16,
    /// Its peers by key.
    pub peers: BTreeMap<WgPublicKey, WantedLink>,
    /// Peers of which it is not known at the moment what they are to have: they are not added, and stay as they are where they
    /// are there.
    pub kept: BTreeSet<WgPublicKey>,
}

/// What an interface is to have of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLink {
    /// Whose key it is.
    pub name: MemberName,
    /// Where it is called.
    pub endpoint: Option<String>,
    /// Its inner addresses, as host routes.
    pub allowed: [String; 2],
    /// The preshared key of the two.
    pub preshared: Option<PresharedKey>,
}

/// What to do, in this order: key, port, additions, changes, removals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Steps {
    /// Set the private key: it is another one, or missing.
    pub key: bool,
    /// Set the port.
    pub port: bool,
    /// Peers to add.
    pub add: Vec<WgPublicKey>,
    /// Peers whose preshared key is another one: removed and added, never changed in place.
    pub again: Vec<WgPublicKey>,
    /// Peers whose AllowedIPs are to be set.
    pub allowed: Vec<WgPublicKey>,
    /// Peers whose endpoint is to be set.
    pub endpoint: Vec<WgPublicKey>,
    /// Peers to remove, once the rest is done.
    pub remove: Vec<WgPublicKey>,
}

impl Steps {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The steps that make `running` what is `wanted`. `before` is what was wanted last time, if it is known: an endpoint is
/// set anew only where the log names another one than then.
pub fn steps(wanted: &WantedLane, running: &Running, before: Option<&WantedLane>) -> Steps {
    let mut steps = Steps {
        key: wanted.key.is_some() && wanted.key != running.key,
        port: wanted.port != running.port,
        remove: running.peers.keys().filter(|key| !wanted.knows(key)).copied().collect(),
        ..Steps::default()
    };
    for (key, link) in &wanted.peers {
        let Some(there) = running.peers.get(key) else {
            steps.add.push(*key);
            continue;
        };
        if there.preshared != link.preshared {
            steps.again.push(*key);
            continue;
        }
        if there.allowed.iter().ne(sorted(&link.allowed)) {
            steps.allowed.push(*key);
        }
        let was = before.and_then(|b| b.peers.get(key)).map(|l| &l.endpoint);
        let is_new = was.is_some_and(|was| *was != link.endpoint);
        if link.endpoint.is_some() && (there.endpoint.is_none() || is_new) && there.endpoint != link.endpoint {
            steps.endpoint.push(*key);
        }
    }
    steps
}

fn sorted(allowed: &[String; 2]) -> impl Iterator<Item = &String> {
    let mut allowed: Vec<&String> = allowed.iter().collect();
    allowed.sort();
    allowed.into_iter()
}

impl WantedLane {
    fn knows(&self, key: &WgPublicKey) -> bool {
        self.peers.contains_key(key) || self.kept.contains(key)
    }

    /// The sections of `keys` as `wg addconf` reads them. There may be preshared keys in it.
    pub fn sections(&self, keys: &[WgPublicKey]) -> Zeroizing<String> {
        // As large as it can get, so that no secret is left behind where it grew.
        let mut text = Zeroizing::new(String::with_capacity(keys.len().saturating_mul(512)));
        for (key, link) in keys.iter().filter_map(|key| Some((key, self.peers.get(key)?))) {
            let _ = writeln!(text, "[Peer]\nPublicKey = {key}\nAllowedIPs = {}", link.allowed.join(", "));
            if let Some(endpoint) = &link.endpoint {
                let _ = writeln!(text, "Endpoint = {endpoint}");
            }
            if let Some(preshared) = &link.preshared {
                let secret = preshared.to_text();
                let _ = writeln!(text, "PresharedKey = {}", secret.as_str());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::RunningPeer;
    use super::*;
    use crate::wireguard::Lane;
    use crate::wireguard::samples::{name, private};

    fn link(i: usize) -> (WgPublicKey, WantedLink) {
        let allowed = [format!("10.88.16.{i}/32"), format!("fd12:3456:789a:10::{i}/128")];
        let endpoint = Some(format!("198.51.100.{i}:51820"));
        (private(i, Lane::A).public(), WantedLink { name: name(i), endpoint, allowed, preshared: None })
    }

    fn wanted(peers: impl IntoIterator<Item = usize>) -> WantedLane {
        let key = Some(private(1, Lane::A).public());
        let peers = peers.into_iter().map(link).collect();
        WantedLane { interface: "wg-a".to_owned(), key, port: 51_820, peers, kept: BTreeSet::new() }
    }

    fn has(wanted: &WantedLane) -> Running {
        let peer = |link: &WantedLink| RunningPeer {
            preshared: link.preshared.clone(),
            endpoint: link.endpoint.clone(),
            allowed: link.allowed.iter().cloned().collect(),
            ..RunningPeer::default()
        };
        let peers = wanted.peers.iter().map(|(key, link)| (*key, peer(link))).collect();
        Running { key: wanted.key, port: wanted.port, peers }
    }

    fn secret(byte: u8) -> Option<PresharedKey> {
        PresharedKey::new(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let wanted = wanted(2..=9);
        assert!(steps(&wanted, &has(&wanted), None).is_empty());
        assert!(steps(&wanted, &has(&wanted), Some(&wanted)).is_empty());
    }

    #[test]
    fn a_new_interface_gets_everything() {
        let wanted = wanted([2, 3]);
        let all: Vec<_> = wanted.peers.keys().copied().collect();
        let expected = Steps { key: true, port: true, add: all, ..Steps::default() };
        assert_eq!(steps(&wanted, &Running::default(), None), expected);
    }

    #[test]
    fn a_key_is_never_cleared() {
        let keyless = WantedLane { key: None, ..wanted([2]) };
        assert!(!steps(&keyless, &has(&wanted([2])), None).key);
    }

    #[test]
    fn peers_come_and_go() {
        let steps = steps(&wanted([2, 4]), &has(&wanted([2, 3])), None);
        assert_eq!((steps.add, steps.remove), (vec![link(4).0], vec![link(3).0]));
    }

    #[test]
    fn a_peer_that_is_not_understood_stays_as_it_is() {
        let mut unsure = wanted([2]);
        unsure.kept = [link(3).0, link(4).0].into();
        let found = steps(&unsure, &has(&wanted([2, 3, 5])), None);
        assert_eq!(found, Steps { remove: vec![link(5).0], ..Steps::default() });
    }

    #[test]
    fn a_preshared_key_is_not_changed_in_place() {
        let (before, mut after) = (wanted([2, 3]), wanted([2, 3]));
        after.peers.get_mut(&link(3).0).expect("a peer").preshared = secret(3);
        let found = steps(&after, &has(&before), None);
        assert_eq!(found, Steps { again: vec![link(3).0], ..Steps::default() });
        // Nor taken away in place.
        assert_eq!(steps(&before, &has(&after), None).again, [link(3).0]);
    }

    #[test]
    fn a_learned_endpoint_stays_until_the_log_names_another() {
        let (before, mut after) = (wanted([2]), wanted([2]));
        let mut running = has(&before);
        running.peers.get_mut(&link(2).0).expect("a peer").endpoint = Some("203.0.113.9:4000".to_owned());
        assert!(steps(&before, &running, None).is_empty());
        assert!(steps(&before, &running, Some(&before)).is_empty());
        after.peers.get_mut(&link(2).0).expect("a peer").endpoint = Some("198.51.100.77:51820".to_owned());
        assert_eq!(steps(&after, &running, Some(&before)).endpoint, [link(2).0]);
        running.peers.get_mut(&link(2).0).expect("a peer").endpoint = None;
        assert_eq!(steps(&before, &running, None).endpoint, [link(2).0]);
    }

    #[test]
    fn allowed_addresses_are_those_of_the_log_in_any_order() {
        let wanted = wanted([2]);
        let mut running = has(&wanted);
        running.peers.get_mut(&link(2).0).expect("a peer").allowed.insert("10.0.0.0/8".to_owned());
        assert_eq!(steps(&wanted, &running, None).allowed, [link(2).0]);
    }

    #[test]
    fn sections_hold_what_addconf_reads() {
        let mut wanted = wanted([2, 3]);
        wanted.peers.get_mut(&link(3).0).expect("a peer").preshared = secret(3);
        let text = wanted.sections(&[link(3).0]);
        assert_eq!(text.lines().count(), 5, "{}", text.as_str());
        assert!(text.contains("PresharedKey = AwMD") && text.contains("AllowedIPs = 10.88.16.3/32, fd12"));
        assert!(!text.contains("PrivateKey") && !text.contains("[Interface]"));
    }
}
