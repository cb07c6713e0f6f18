//! `policy/wireguard.toml`: the mesh, its address pools, the two lanes and the rhythm of rotation.
//!
//! [`TEMPLATE`] is the format by example. What can be judged without knowing a node is judged when the file is read:
//! `wg` and systemd-networkd take most wrong values without a word (port 0, an address with host bits, an overlapping
//! prefix), so reading the policy is the only check that these values ever see.

mod external;
mod read;
mod tables;
mod template;
mod topology;

pub(crate) use external::place_of_external;
pub use external::{External, HostPort, OneLane};
pub(crate) use read::{place_of_pool, place_of_rule};
pub use tables::{Ipam, LanesTable, MeshTable, Pool, PskMode, Rotation, WireguardPolicy};
pub use template::{FILE, TEMPLATE, TEMPLATE_ULA};
pub use topology::{HUB, Marks, Selector, Shape, Site, TRANSIT, Topology};
