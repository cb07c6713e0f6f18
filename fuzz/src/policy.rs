//! Targets for the policy files. A policy that is accepted must also bear being used.

use keys::name::{Address, FleetName, Label, MemberName};
use keys::policy::ssh::Places;
use keys::policy::{FleetPolicy, SecretsPolicy, SshPolicy, WireguardPolicy};
use keys::ssh::CertificateKind;
use keys::wireguard::address::{addresses, lowest_free};
use keys::wireguard::{Host, Lane, Mesh, Node, PastKeys, check};

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// policy/fleet.toml.
pub fn fleet_toml(data: &[u8]) {
    let Some(Err(error)) = text(data).map(FleetPolicy::parse) else { return };
    let _ = error.to_string();
}

/// policy/secrets.toml.
pub fn secrets_toml(data: &[u8]) {
    match text(data).map(SecretsPolicy::parse) {
        Some(Ok(policy)) => {
            for address in ["nginx@fra1/tls.key", "nginx@*/api-token", "*/ntp-key"] {
                let _ = policy.rule(&address.parse::<Address>().expect("an address"));
            }
        }
        Some(Err(error)) => drop(error.to_string()),
        None => {}
    }
}

/// policy/ssh.toml.
pub fn ssh_toml(data: &[u8]) {
    match text(data).map(SshPolicy::parse) {
        Some(Ok(policy)) => {
            let (pop, domain): (Label, FleetName) =
                ("fra1".parse().expect("a label"), "cdn.example".parse().expect("a name"));
            let member: MemberName = "fra1".parse().expect("a name");
            let places = Places { pop: &pop, domain: &domain, member: &member };
            let _ = policy.accounts_at(places);
            if let Some(rule) = policy.host_rule(&member) {
                assert!(rule.renew_after < rule.lifetime, "renewed after its end");
                let _ = keys::policy::ssh::expand_all(&rule.principals, CertificateKind::Host, places);
            }
            policy.users.values().for_each(|rule| drop(rule.critical_options()));
        }
        Some(Err(error)) => drop(error.to_string()),
        None => {}
    }
}

/// policy/wireguard.toml: also the first and last address of every pool, and the checks of a mesh under it.
pub fn wireguard_toml(data: &[u8]) {
    let policy = match text(data).map(WireguardPolicy::parse) {
        Some(Ok(policy)) => policy,
        Some(Err(error)) => return drop(error.to_string()),
        None => return,
    };
    let mut nodes = Vec::new();
    for pool in &policy.ipam().pools {
        let last = pool.index_max();
        assert!(
            addresses(&policy, pool.region.as_str(), last.saturating_add(1)).is_err(),
            "an address beyond the pool"
        );
        assert_eq!(lowest_free(pool, &[1].into(), &[2].into()), (last > 2).then_some(3));
        for index in [1, last] {
            let Ok(inner) = addresses(&policy, pool.region.as_str(), index) else { continue };
            assert!(pool.ipv4.contains(inner.ipv4) && policy.mesh().ula.contains(inner.ipv6));
            nodes.push(Node {
                name: format!("pop{}", nodes.len()).parse().expect("a name"),
                region: pool.region.to_string(),
                roles: Default::default(),
                index,
                addresses: inner,
                endpoint: "198.51.100.1".parse::<Host>().ok().map(Into::into),
                keys: [None, None],
                preferred: Lane::A,
                nat: false,
            });
        }
    }
    check(&Mesh { policy, nodes }, &PastKeys::new()).iter().for_each(|finding| drop(finding.to_string()));
}

/// What to begin with.
pub mod seeds {
    use crate::example;

    /// Of [`super::fleet_toml`]: the head and a few quorums, without the comments that would only slow the mutation.
    pub fn fleet_toml() -> Vec<Vec<u8>> {
        vec![without_comments("policy/fleet.toml")]
    }

    /// Of [`super::secrets_toml`].
    pub fn secrets_toml() -> Vec<Vec<u8>> {
        vec![without_comments("policy/secrets.toml")]
    }

    /// Of [`super::ssh_toml`].
    pub fn ssh_toml() -> Vec<Vec<u8>> {
        vec![without_comments("policy/ssh.toml")]
    }

    /// Of [`super::wireguard_toml`].
    pub fn wireguard_toml() -> Vec<Vec<u8>> {
        vec![without_comments("policy/wireguard.toml")]
    }

    fn without_comments(path: &str) -> Vec<u8> {
        let text = String::from_utf8(example::file(path)).expect("a policy is text");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
    }
}
