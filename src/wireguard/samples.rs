//! Meshes for tests, made from public strings.

use std::collections::BTreeSet;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{Host, Lane, Mesh, Node, WgPrivateKey, address};
use crate::digest::Digest;
use crate::name::MemberName;
use crate::policy::wireguard::{TEMPLATE, WireguardPolicy};

/// `pop1`, `pop2`, …
pub(crate) fn name(i: usize) -> MemberName {
    format!("pop{i}").parse().expect("a name")
}

/// The private key of `pop{i}` on `lane`.
pub(crate) fn private(i: usize, lane: Lane) -> WgPrivateKey {
    let seed = Digest::of(format!("a public seed, for tests alone: {i} {lane}").as_bytes()).0;
    WgPrivateKey::generate(&mut StdRng::from_seed(seed))
}

/// The node `pop{i}`: index i, endpoint 198.51.100.i or, from 255 on, an IPv6 one.
pub(crate) fn node(policy: &WireguardPolicy, i: usize) -> Node {
    let host = match u8::try_from(i) {
        Ok(last @ ..=254) => format!("198.51.100.{last}"),
        Ok(_) | Err(_) => format!("2001:db8::{i:x}"),
    };
    let index = i as u64;
    Node {
        name: name(i),
        region: "default".to_owned(),
        roles: BTreeSet::new(),
        index,
        addresses: address::addresses(policy, "default", index).expect("an index of the pool"),
        endpoint: Some(host.parse::<Host>().expect("a host").into()),
        keys: Lane::ALL.map(|lane| Some(private(i, lane).public())),
        preferred: Lane::A,
        nat: false,
    }
}

/// `pop1` to `pop{count}` under the template.
pub(crate) fn mesh(count: usize) -> Mesh {
    mesh_in_pool("10.88.16.0/20", count)
}

/// The same with another pool.
pub(crate) fn mesh_in_pool(pool: &str, count: usize) -> Mesh {
    let policy = WireguardPolicy::parse(&TEMPLATE.replace("10.88.16.0/20", pool)).expect("a policy");
    let nodes = (1..=count).map(|i| node(&policy, i)).collect();
    Mesh { policy, nodes }
}

/// The template with a laptop of index 200, whose key is `pop200`'s on lane a.
pub(crate) fn external_text(rest: &str) -> String {
    let key = private(200, Lane::A).public();
    format!(
        "{TEMPLATE}\n[[external]]\nname = \"laptop\"\npublic_key = \"{key}\"\nregion = \"default\"\nindex = 200\n{rest}"
    )
}

/// `pop1` to `pop{count}`, and that laptop.
pub(crate) fn with_external(count: usize, rest: &str) -> Mesh {
    let policy = WireguardPolicy::parse(&external_text(rest)).unwrap_or_else(|e| panic!("{e}"));
    Mesh { policy, ..mesh(count) }
}
