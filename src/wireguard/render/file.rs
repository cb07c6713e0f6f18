//! Which files a node has, where each lies, and who it is for.

use super::renderer::View;
use super::{networkd, tables, wg};
use crate::policy::wireguard::WireguardPolicy;
use crate::wireguard::Lane;
use crate::words::words;

words! {
    /// Who a node's files are for: `--for` on the command line.
    FileKind, "a kind of file":
    /// wg-quick(8): a configuration and a drop-in a lane.
    WgQuick = "wg-quick",
    /// systemd-networkd: `.netdev` and `.network` a lane, and the sysctls.
    Networkd = "networkd",
    /// wg(8) and ip(8): peers and routes a lane.
    Wg = "wg",
    /// nft(8): the ports.
    Firewall = "firewall",
    /// hosts(5): the inner addresses.
    Hosts = "hosts",
    /// Programs: the description.
    Json = "json",
}

impl FileKind {
    /// The kind of the file at `path`, as it is in the directory of one node; `None` if it is no node's file.
    pub fn of_path(path: &str) -> Option<Self> {
        match path.split_once('/').map_or(path, |(directory, _)| directory) {
            "wg-quick" => Some(Self::WgQuick),
            "networkd" => Some(Self::Networkd),
            "wg" => Some(Self::Wg),
            "firewall.nft" => Some(Self::Firewall),
            "hosts" => Some(Self::Hosts),
            "mesh.json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// One file of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeFile {
    Firewall,
    Hosts,
    Json,
    Sysctl,
    Netdev(Lane),
    Network(Lane),
    Addconf(Lane),
    Routes(Lane),
    Quick(Lane),
    DropIn(Lane),
}

impl NodeFile {
    /// All files that every node has.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let of_lane = |lane| {
            [
                Self::Netdev(lane),
                Self::Network(lane),
                Self::Addconf(lane),
                Self::Routes(lane),
                Self::Quick(lane),
                Self::DropIn(lane),
            ]
        };
        [Self::Firewall, Self::Hosts, Self::Json, Self::Sysctl]
            .into_iter()
            .chain(Lane::ALL.into_iter().flat_map(of_lane))
    }

    pub(super) fn kind(self) -> FileKind {
        match self {
            Self::Firewall => FileKind::Firewall,
            Self::Hosts => FileKind::Hosts,
            Self::Json => FileKind::Json,
            Self::Sysctl | Self::Netdev(_) | Self::Network(_) => FileKind::Networkd,
            Self::Addconf(_) | Self::Routes(_) => FileKind::Wg,
            Self::Quick(_) | Self::DropIn(_) => FileKind::WgQuick,
        }
    }

    /// Its path in the directory of a node.
    pub(super) fn path(self, policy: &WireguardPolicy) -> String {
        let interface = |lane: Lane| lane.interface(policy);
        match self {
            Self::Firewall => "firewall.nft".to_owned(),
            Self::Hosts => "hosts".to_owned(),
            Self::Json => "mesh.json".to_owned(),
            Self::Sysctl => "networkd/sysctl.d/60-keys-wg.conf".to_owned(),
            Self::Netdev(lane) => format!("networkd/60-{}.netdev", interface(lane)),
            Self::Network(lane) => format!("networkd/60-{}.network", interface(lane)),
            Self::Addconf(lane) => format!("wg/{}.addconf", interface(lane)),
            Self::Routes(lane) => format!("wg/{}.routes", interface(lane)),
            Self::Quick(lane) => format!("wg-quick/{}.conf", interface(lane)),
            Self::DropIn(lane) => format!("wg-quick/wg-quick@{}.service.d/keys.conf", interface(lane)),
        }
    }

    /// Writes it behind what `out` holds.
    pub(super) fn write(self, out: &mut String, view: &View<'_>) {
        match self {
            Self::Firewall => tables::firewall(out, view),
            Self::Hosts => tables::hosts(out, view),
            Self::Json => tables::json(out, view),
            Self::Sysctl => networkd::sysctl(out, view),
            Self::Netdev(lane) => networkd::netdev(out, view, lane),
            Self::Network(lane) => networkd::network(out, view, lane),
            Self::Addconf(lane) => wg::addconf(out, view, lane),
            Self::Routes(lane) => tables::routes(out, view, lane),
            Self::Quick(lane) => wg::quick(out, view, lane),
            Self::DropIn(lane) => wg::drop_in(out, view, lane),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::samples;

    #[test]
    fn a_path_tells_the_kind_of_the_file() {
        let policy = samples::mesh(1).policy;
        let mut kinds = std::collections::BTreeSet::new();
        for file in NodeFile::all() {
            assert_eq!(FileKind::of_path(&file.path(&policy)), Some(file.kind()), "{file:?}");
            kinds.insert(file.kind());
        }
        assert_eq!(kinds.len(), FileKind::ALL.len());
        for other in ["fra1/hosts", "mesh.json~", "", "wg-quick.bak/wg-a.conf"] {
            assert_eq!(FileKind::of_path(other), None, "{other}");
        }
    }
}
