//! The tables of the file as values, and the policy made of them.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{External, FILE, Topology};
use crate::cidr::{AnyCidr, Cidr4, Cidr6};
use crate::name::Label;
use crate::time::Span;

/// A checked policy: reading it is the only way to have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardPolicy {
    pub(super) mesh: MeshTable,
    pub(super) lanes: LanesTable,
    pub(super) rotation: Rotation,
    pub(super) psk: PskMode,
    pub(super) ipam: Ipam,
    pub(super) topology: Topology,
    pub(super) externals: Vec<External>,
    pub(super) lines: BTreeMap<String, usize>,
}

/// `[mesh]`: what holds for every node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshTable {
    /// A word for the mesh.
    pub id: Label,
    /// The unique local range, 48 bits long, that every inner IPv6 address is in.
    pub ula: Cidr6,
    /// The range that every pool is in.
    pub ipv4: Cidr4,
    /// Largest inner packet, bytes; the same on every interface of every node.
    pub mtu: u16,
    /// Ranges that no pool may touch.
    #[serde(default)]
    pub forbid: Vec<AnyCidr>,
}

/// `[lanes]`: the two interfaces of every node, lane a first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanesTable {
    /// Interface names.
    #[serde(deserialize_with = "pair")]
    pub names: [String; 2],
    /// UDP ports.
    #[serde(deserialize_with = "pair")]
    pub ports: [u16; 2],
}

/// Reads exactly two. The TOML reader stops after the second and would drop a third without a word.
fn pair<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<[T; 2], D::Error> {
    let values = Vec::<T>::deserialize(deserializer)?;
    let count = values.len();
    values.try_into().map_err(|_| D::Error::custom(format!("there are two lanes, and this has {count}")))
}

/// `[rotation]`: the rhythm of key replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Between two scheduled rotations of one node, give or take `jitter`.
    pub interval: Span,
    /// By how much a rotation may come sooner or later.
    pub jitter: Span,
    /// The least time between two rotations of one node, scheduled or not.
    pub min_gap: Span,
    /// How long a node may be away and come back with the keys it knows.
    pub max_offline: Span,
    /// How long nothing may have arrived on a lane before its key is replaced.
    pub drain_quiet: Span,
}

/// `[psk] mode`: how pairs of nodes come to a preshared key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PskMode {
    /// There are none.
    None,
    /// By ML-KEM-768, each pair its own: `wireguard::exchange`.
    KemPair,
}

/// `[ipam]`: where addresses come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipam {
    /// How long a retired index is not given out again.
    pub quarantine: Span,
    /// The pools, one a region.
    #[serde(rename = "pool", default)]
    pub pools: Vec<Pool>,
}

/// `[[ipam.pool]]`: the addresses of one region.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The region whose nodes it serves.
    pub region: Label,
    /// Inner IPv4 addresses; the first and the last are never given out.
    pub ipv4: Cidr4,
    /// Bits 48 to 63 of the region's inner IPv6 addresses.
    pub subnet6: u16,
}

impl WireguardPolicy {
    /// What holds for every node.
    pub fn mesh(&self) -> &MeshTable {
        &self.mesh
    }

    /// The two interfaces of every node.
    pub fn lanes(&self) -> &LanesTable {
        &self.lanes
    }

    /// The rhythm of key replacement.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// How pairs of nodes come to a preshared key.
    pub fn psk(&self) -> PskMode {
        self.psk
    }

    /// Where addresses come from.
    pub fn ipam(&self) -> &Ipam {
        &self.ipam
    }

    /// Who is whose peer.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Peers without an agent, in the order of the file.
    pub fn externals(&self) -> &[External] {
        &self.externals
    }

    /// The indexes of `region` that peers without an agent have.
    pub fn reserved(&self, region: &str) -> impl Iterator<Item = u64> {
        let region = region.to_owned();
        self.externals.iter().filter(move |external| external.region.as_str() == region).map(|external| external.index)
    }

    /// The file and line where something stands, to be shown: `policy/wireguard.toml:12`.
    pub(crate) fn place(&self, place: &str) -> String {
        let line = self.lines.get(place).map(|line| format!(":{line}")).unwrap_or_default();
        format!("policy/{FILE}{line}")
    }

    /// How long a retired index is not given out again.
    pub fn quarantine(&self) -> Span {
        self.ipam.quarantine
    }

    /// The region of a node that names none: the only one there is.
    pub fn default_region(&self) -> Option<&str> {
        match self.ipam.pools.as_slice() {
            [only] => Some(only.region.as_str()),
            _ => None,
        }
    }

    /// The pool of `region`.
    pub fn pool(&self, region: &str) -> Option<&Pool> {
        self.ipam.pools.iter().find(|pool| pool.region.as_str() == region)
    }
}

impl Pool {
    /// The highest index: the last address but one, since the last is the broadcast address.
    pub fn index_max(&self) -> u64 {
        let addresses = 1_u64 << (32 - u32::from(self.ipv4.length().min(32)));
        addresses.saturating_sub(2)
    }

    /// The region's 64-bit subnet of `ula`.
    pub fn ipv6(&self, ula: &Cidr6) -> Cidr6 {
        let base = ula.base().to_bits() | u128::from(self.subnet6) << 64;
        // A /48 has no bit below bit 80 set, so the subnet is one of its own.
        Cidr6::new(base.into(), 64).unwrap_or(*ula)
    }
}
