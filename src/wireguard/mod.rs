//! The WireGuard mesh: keys, lanes, addresses, the checks before anything is written, and the files.
//!
//! Every node has two standing interfaces, *lanes*, each with a key and a UDP port of its own and both with the same
//! inner addresses. A route per peer picks the lane; both always receive. A key is replaced on the lane that carries
//! nothing, so that a rotation loses no packet.
//!
//! Promised here: what is rendered has been checked ([`CheckedMesh`] is the only way in), is the same bytes for the
//! same mesh in any order of nodes, and holds no secret. Left to others: reading and writing files, resolving names,
//! talking to the kernel, and when to rotate. [`agent`] says which lane carries what, and when a lane's key may be
//! replaced.
//!
//! Follows the formats of wg(8), wg-quick(8), systemd.netdev(5), systemd.network(5), ip-route(8), nft(8), and RFC 7748
//! (X25519), RFC 4193 (unique local addresses).

pub mod address;
pub mod agent;
pub mod check;
pub mod device;
pub mod exchange;
mod external;
mod key;
mod lane;
mod mesh;
mod node;
pub mod render;

pub use address::{AddressError, Addresses};
pub use check::{Finding, Origin, Severity};
pub use external::External;
pub use key::{KeyError, WgPrivateKey, WgPublicKey};
pub use lane::Lane;
pub use mesh::{CheckedMesh, Mesh, MeshError, PastKeys, check};
pub use node::{Endpoint, EndpointError, Host, Node};

#[cfg(test)]
mod samples;
