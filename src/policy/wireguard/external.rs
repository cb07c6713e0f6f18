//! `[[external]]`: a laptop, a partner's router: a peer without an agent, on one lane.
//!
//! ```toml
//! [[external]]
//! name = "laptop"
//! public_key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
//! region = "default"
//! index = 4000
//! peers = ["role:hub"]
//! ```
//!
//! Its index is taken out of its region's pool: the log gives it to no PoP. What only WireGuard can judge (whether the key is
//! of low order, whether the host is one) is checked with the mesh.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::{Ipam, Selector};
use crate::limits::EXTERNALS_MAX;
use crate::name::Label;
use crate::text;
use crate::words::{serde_by_text, words};

words! {
    /// The lane of a peer that has one alone.
    OneLane, "a lane":
    /// The first.
    A = "a",
    /// The second.
    B = "b",
}

/// A host and a port as they are written: `fra1.example:51820`, `[2001:db8::1]:51820`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// What stands before the port: an address or a name, not yet judged.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(whole: &str) -> Result<Self, String> {
        let bad = || format!("'{}' is no HOST:PORT, with a port from 1 to 65535", text::shown(whole));
        let (host, port) = whole.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = Some(port)
            .filter(|p| p.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|p| p.parse().ok())
            .ok_or_else(bad)?;
        // An IPv6 address without brackets would lose its last part to the port.
        if host.is_empty() || port == 0 || host.contains(':') != host.starts_with('[') {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

serde_by_text!(HostPort);

/// A peer without an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// Its name, which no member has.
    pub name: Label,
    /// Its WireGuard key in base64.
    pub public_key: String,
    /// The region whose pool its index is of.
    pub region: Label,
    /// Its index there.
    pub index: u64,
    /// The lane that it is on.
    #[serde(default = "first_lane")]
    pub lane: OneLane,
    /// Where it is reached; none if it only calls.
    #[serde(default)]
    pub endpoint: Option<HostPort>,
    /// The nodes that it talks to.
    pub peers: Vec<Selector>,
}

fn first_lane() -> OneLane {
    OneLane::A
}

/// How a message names one, counted from 1.
pub(crate) fn place_of_external(number: usize) -> String {
    format!("[[external]] number {number}")
}

/// What is wrong with one of them: its number, the key, the problem.
pub(super) fn problem(externals: &[External], ipam: &Ipam) -> Option<(usize, &'static str, String)> {
    if externals.len() > EXTERNALS_MAX {
        return Some((EXTERNALS_MAX, "name", format!("there are {}; at most {EXTERNALS_MAX} can be", externals.len())));
    }
    let (mut names, mut keys) = (BTreeMap::new(), BTreeMap::new());
    let mut indexes: BTreeMap<(&Label, u64), &Label> = BTreeMap::new();
    for (external, number) in externals.iter().zip(1..) {
        let External { name, public_key, region, index, lane: _, endpoint: _, peers } = external;
        let wrong = |key, problem: String| Some((number, key, problem));
        if names.insert(name, number).is_some() {
            return wrong("name", format!("'{name}' is there twice"));
        }
        let decoded = BASE64.decode(public_key).ok().filter(|bytes| bytes.len() == 32);
        if decoded.is_none_or(|bytes| BASE64.encode(bytes) != *public_key) {
            return wrong(
                "public_key",
                "expected 32 bytes in base64, 44 characters, as `wg pubkey` prints them".to_owned(),
            );
        }
        if let Some(other) = keys.insert(public_key, name) {
            return wrong("public_key", format!("is also that of '{other}': each machine has a key of its own"));
        }
        let Some(pool) = ipam.pools.iter().find(|pool| pool.region == *region) else {
            let known: Vec<_> = ipam.pools.iter().map(|pool| pool.region.as_str()).collect();
            let nearest = text::nearest(region.as_str(), known).map(|near| format!("; did you mean '{near}'?"));
            return wrong("region", format!("'{region}' has no [[ipam.pool]]{}", nearest.unwrap_or_default()));
        };
        if !(1..=pool.index_max()).contains(index) {
            return wrong(
                "index",
                format!("{index} is not from 1 to {}, those of region '{region}'", pool.index_max()),
            );
        }
        if let Some(other) = indexes.insert((region, *index), name) {
            return wrong("index", format!("{index} of region '{region}' is also that of '{other}'"));
        }
        if peers.is_empty() {
            return wrong("peers", "names nobody: whom does it talk to? For example [\"role:hub\"]".to_owned());
        }
        for selector in peers {
            if let Err(problem) = selector.check(ipam) {
                return wrong("peers", problem);
            }
        }
    }
    None
}
