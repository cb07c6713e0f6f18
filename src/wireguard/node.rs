//! What the mesh knows about one node, and where it is reached.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Addresses, Lane, WgPublicKey};
use crate::name::{Label, MemberName};
use crate::policy::wireguard::{Site, WireguardPolicy};
use crate::text;

/// One node of the mesh, as the log states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The member.
    pub name: MemberName,
    /// The region whose pool its index is of.
    pub region: String,
    /// What it is for the topology.
    pub roles: BTreeSet<Label>,
    /// Its index in the pool.
    pub index: u64,
    /// Its inner addresses: those of region and index.
    pub addresses: Addresses,
    /// Where others reach it; none for a node that can only call others.
    pub endpoint: Option<Endpoint>,
    /// Its public keys by lane; none where it has not made one yet.
    pub keys: [Option<WgPublicKey>; 2],
    /// The lane it sends on.
    pub preferred: Lane,
    /// Whether it is behind a translator, and must keep the way open by calling.
    pub nat: bool,
}

impl Node {
    /// What the topology goes by.
    pub fn site(&self) -> Site<'_> {
        Site { name: &self.name, region: &self.region, roles: &self.roles }
    }

    /// Its public key on `lane`.
    pub fn key(&self, lane: Lane) -> Option<WgPublicKey> {
        *lane.of(&self.keys)
    }

    /// The UDP port it listens on, which is also the one that others call.
    pub fn port(&self, policy: &WireguardPolicy, lane: Lane) -> u16 {
        let own = self.endpoint.as_ref().and_then(|endpoint| *lane.of(&endpoint.ports));
        own.unwrap_or_else(|| lane.port(policy))
    }

    /// Whether it has to send now and then so that others' packets reach it.
    pub fn keeps_alive(&self) -> bool {
        self.nat || self.endpoint.is_none()
    }
}

/// Where a node is reached from outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The host, without a port.
    pub host: Host,
    /// Ports by lane, where the node does not use the policy's. The node listens on this port and others call it, so a
    /// translator in between has to forward a port to the same port.
    #[serde(default)]
    pub ports: [Option<u16>; 2],
}

impl From<Host> for Endpoint {
    fn from(host: Host) -> Self {
        Self { host, ports: [None, None] }
    }
}

/// Why a text names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// A port, where the lanes say which.
    #[error("'{text}' has a port; give the host alone, each lane has its own port")]
    Port {
        /// The text, made safe to show.
        text: String,
    },
    /// A zone (`%eth0`), which means something on one machine only.
    #[error("'{text}' has a zone, which has no meaning on another machine")]
    Zone {
        /// The text, made safe to show.
        text: String,
    },
    /// An IPv4 address in IPv6 form: two spellings of one endpoint.
    #[error("'{text}' is an IPv4 address in IPv6 form; write it as IPv4")]
    Mapped {
        /// The text, made safe to show.
        text: String,
    },
    /// Neither an address nor a name.
    #[error("'{text}' is neither an IP address nor a DNS name in lower case")]
    Name {
        /// The text, made safe to show.
        text: String,
    },
}

/// A host: an address, or a name to be resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A literal address; never IPv4 in IPv6 form when it was read from text.
    Address(IpAddr),
    /// A DNS name.
    Name(DnsName),
}

/// A DNS name in lower case whose last label is not a number, which would be half an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

impl DnsName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Option<Self> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let number = text.rsplit('.').next()?.bytes().all(|b| b.is_ascii_digit());
        (text.len() <= 253 && text.split('.').all(label) && !number).then(|| Self(text.to_owned()))
    }
}

impl Host {
    /// `198.51.100.1:51820`, `[2001:db8::1]:51820`, `fra1.example:51820`, as `wg` reads them.
    pub fn with_port(&self, port: u16) -> String {
        match self {
            Self::Address(IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
            Self::Address(IpAddr::V4(_)) | Self::Name(_) => format!("{self}:{port}"),
        }
    }
}

impl FromStr for Host {
    type Err = EndpointError;

    /// Reads an address or a name; an IPv6 address may stand in brackets.
    fn from_str(whole: &str) -> Result<Self, EndpointError> {
        let shown = || text::Shown { text: whole, max: 80 }.to_string();
        let bracketed = whole.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let address = match bracketed {
            Some((inside, "")) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            Some((_, after)) if after.starts_with(':') => return Err(EndpointError::Port { text: shown() }),
            Some(_) | None => whole.parse::<IpAddr>().ok(),
        };
        match address {
            Some(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => Err(EndpointError::Mapped { text: shown() }),
            Some(address) => Ok(Self::Address(address)),
            None if whole.contains('%') => Err(EndpointError::Zone { text: shown() }),
            None => match whole.split_once(':') {
                Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
                    Err(EndpointError::Port { text: shown() })
                }
                Some(_) => Err(EndpointError::Name { text: shown() }),
                None => DnsName::read(whole).map(Self::Name).ok_or_else(|| EndpointError::Name { text: shown() }),
            },
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name.as_str()),
        }
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_written_as_wg_reads_them() {
        for (text, with_port) in [
            ("198.51.100.1", "198.51.100.1:7"),
            ("2001:db8::1", "[2001:db8::1]:7"),
            ("[2001:db8:0::1]", "[2001:db8::1]:7"),
            ("fra1.cdn.example", "fra1.cdn.example:7"),
            ("fra1", "fra1:7"),
            ("1x.2y", "1x.2y:7"),
        ] {
            let host: Host = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(host.with_port(7), with_port);
            assert_eq!(host.to_string().parse(), Ok(host));
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_the_reason() {
        let long = format!("{}.example", "a".repeat(64));
        for (text, part) in [
            ("198.51.100.1:51820", "has a port"),
            ("[2001:db8::1]:51820", "has a port"),
            ("fra1.example:51820", "has a port"),
            ("fe80::1%eth0", "has a zone"),
            ("[fe80::1%eth0]", "has a zone"),
            ("::ffff:192.0.2.1", "write it as IPv4"),
            ("999.1.1.1", "neither"),
            ("1.2.3", "neither"),
            ("010.1.1.1", "neither"),
            ("x y", "neither"),
            ("Fra1.example", "neither"),
            ("fra1..example", "neither"),
            ("fra1.", "neither"),
            ("-a.example", "neither"),
            ("a_b.example", "neither"),
            ("fra1\nPostUp = x", "neither"),
            ("2001:db8::g", "neither"),
            ("[2001:db8::1", "neither"),
            ("[198.51.100.1]", "neither"),
            ("", "neither"),
            (&long, "neither"),
        ] {
            let message = text.parse::<Host>().map_err(|e| e.to_string()).expect_err(text);
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }
}
