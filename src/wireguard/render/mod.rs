//! The files of one node, none of which holds a secret ([`ExternalConfig`], for a peer without an agent, can be given its key):
//!
//! ```text
//! wg-quick/wg-a.conf                               for /etc/wireguard, one a lane
//! wg-quick/wg-quick@wg-a.service.d/keys.conf       for /etc/systemd/system: a reload that keeps the key
//! networkd/60-wg-a.netdev, 60-wg-a.network         for /etc/systemd/network, instead of wg-quick
//! networkd/sysctl.d/60-keys-wg.conf                for /etc/sysctl.d, with networkd
//! wg/wg-a.addconf                                  the peers alone, for `wg addconf`
//! wg/wg-a.routes                                   the routes alone, for `ip -batch`
//! hosts, firewall.nft, mesh.json
//! ```
//! The same mesh gives the same bytes, whatever the order of its nodes: the files can be reviewed as differences. A
//! [`Renderer`] writes each peer once and copies it into every node's files, one file after the other in the same memory, so
//! all files of a full mesh cost hardly more than their bytes, and of these no more than one is there at a time. Whoever
//! needs some kinds of file only ([`FileKind`]) pays for no others.
//!
//! The lanes of two nodes meet by letter. Where either side has no key on a lane, the peer is left out of that lane's
//! files, and a comment says so. All peers' routes prefer the node's own preferred lane (metric 100 before 200): what
//! depends on a peer's state is the agent's, which puts its routes before these.

mod external;
mod file;
mod graph;
mod networkd;
mod options;
mod renderer;
mod tables;
mod wg;

pub use external::ExternalConfig;
pub use file::FileKind;
pub use graph::{Graph, GraphNode};
pub use options::{RenderError, RenderOptions};
pub use renderer::{File, Renderer, render_one};

#[cfg(test)]
mod tests;
