//! The machine's own interfaces and routes, by wg(8) and ip(8). Secrets go to `wg` on stdin, never in arguments or files.

use zeroize::Zeroizing;

use super::exit::{CliError, Exit};
use super::helper::Helper;
use crate::name::MemberName;
use crate::wireguard::device::{Running, Steps, WantedLane};
use crate::wireguard::{Addresses, Lane, WgPublicKey};

/// Talks to WireGuard interfaces, of the kernel and of userspace alike.
const WG: Helper = Helper { name: "wg", package: "wireguard-tools" };
/// Talks to the kernel about addresses, links and routes.
const IP: Helper = Helper { name: "ip", package: "iproute2" };

/// What an interface of 10 000 peers says of itself, with room.
const DUMP_BYTES_MAX: usize = 8 << 20;
/// What ip(8) says of so many routes.
const ROUTES_BYTES_MAX: usize = 16 << 20;

/// The metric of the agent's routes: before those of wg-quick's and networkd's files, 100 and 200.
const METRIC: u32 = 50;
/// The metric of a route that drops for a while; before the agent's own.
const METRIC_HELD: u32 = 40;

/// An interface that is there.
pub(super) struct Device<'a> {
    pub interface: &'a str,
}

impl Device<'_> {
    /// What it has.
    pub(super) fn running(&self, now: u64) -> Result<Running, CliError> {
        let name = self.interface;
        let dump = WG.run(&["show", name, "dump"], b"", DUMP_BYTES_MAX).map_err(|e| {
            e.hint(format!(
                "bring the interface {name} up first, with wg-quick, systemd-networkd or 'ip link add {name} type wireguard'"
            ))
        })?;
        let text = std::str::from_utf8(&dump).map_err(CliError::failed)?;
        Running::parse(text, now).map_err(CliError::failed)
    }

    /// Takes the steps, with the private key's text where one of them needs it.
    pub(super) fn carry_out(
        &self,
        wanted: &WantedLane,
        steps: &Steps,
        key: Option<&Zeroizing<String>>,
    ) -> Result<(), CliError> {
        let name = self.interface;
        if let Some(key) = key.filter(|_| steps.key) {
            WG.run(&["set", name, "private-key", "/dev/stdin"], key.as_bytes(), 0)?;
        }
        if steps.port {
            self.set(&["listen-port".to_owned(), wanted.port.to_string()])?;
        }
        self.add(wanted, &steps.add)?;
        // A moment without this peer, on a lane that carries nothing of it.
        self.remove(&steps.again)?;
        self.add(wanted, &steps.again)?;
        let links = |keys: &[WgPublicKey]| {
            keys.iter().filter_map(|key| Some((*key, wanted.peers.get(key)?))).collect::<Vec<_>>()
        };
        let mut words = Vec::new();
        for (key, link) in links(&steps.allowed) {
            words.extend(["peer".to_owned(), key.to_string(), "allowed-ips".to_owned(), link.allowed.join(",")]);
        }
        for (key, link) in links(&steps.endpoint) {
            if let Some(endpoint) = &link.endpoint {
                words.extend(["peer".to_owned(), key.to_string(), "endpoint".to_owned(), endpoint.clone()]);
            }
        }
        self.set(&words)?;
        self.remove(&steps.remove)
    }

    fn add(&self, wanted: &WantedLane, keys: &[WgPublicKey]) -> Result<(), CliError> {
        if keys.is_empty() {
            return Ok(());
        }
        WG.run(&["addconf", self.interface, "/dev/stdin"], wanted.sections(keys).as_bytes(), 0).map(drop)
    }

    fn remove(&self, keys: &[WgPublicKey]) -> Result<(), CliError> {
        let words = keys.iter().flat_map(|key| ["peer".to_owned(), key.to_string(), "remove".to_owned()]);
        self.set(&words.collect::<Vec<_>>())
    }

    /// Opens a session with each of these peers by sending something now.
    pub(super) fn warm(&self, keys: &[WgPublicKey]) -> Result<(), CliError> {
        for seconds in ["0", "25"] {
            self.keepalive(keys, seconds)?;
        }
        Ok(())
    }

    /// Sets how often something is sent to these peers when there is nothing to send: `0` is never.
    pub(super) fn keepalive(&self, keys: &[WgPublicKey], seconds: &str) -> Result<(), CliError> {
        let words =
            keys.iter().flat_map(|key| ["peer", &key.to_string(), "persistent-keepalive", seconds].map(str::to_owned));
        self.set(&words.collect::<Vec<_>>())
    }

    /// `wg set` with these words, in parts that fit into a command line.
    fn set(&self, words: &[String]) -> Result<(), CliError> {
        // Twelve words are whole numbers of 2, 3 and 4, so that no part ends within a peer's.
        for part in words.chunks(12 * 64) {
            let line: Vec<&str> = ["set", self.interface].into_iter().chain(part.iter().map(String::as_str)).collect();
            WG.run(&line, b"", 0)?;
        }
        Ok(())
    }

    /// Gives the interface its addresses and brings it up, whatever of that there is already.
    pub(super) fn bring_up(&self, addresses: &Addresses, mtu: u16) -> Result<(), CliError> {
        let name = self.interface;
        let Addresses { ipv4, ipv6 } = addresses;
        let lines = format!(
            "addr replace {ipv4}/32 dev {name}\naddr replace {ipv6}/128 dev {name} nodad\nlink set dev {name} mtu {mtu} up\n"
        );
        ip_batch(&lines)?;
        // Answers may come back through the other lane; AllowedIPs already check the source (RFC 3704, section 2.4).
        let file = rp_filter_file(name);
        if rp_filter(name)? == 1 {
            std::fs::write(&file, "2\n")
                .map_err(|e| CliError::new(Exit::Unknown, format!("cannot write {file}: {e}")))?;
        }
        Ok(())
    }

    /// The addresses it has, as ip(8) prints them, with their lengths.
    pub(super) fn addresses(&self) -> Result<Vec<String>, CliError> {
        let answer = IP.run(&["-json", "addr", "show", "dev", self.interface], b"", 1 << 20)?;
        let links: serde_json::Value = serde_json::from_slice(&answer).map_err(CliError::failed)?;
        let infos = links.pointer("/0/addr_info").and_then(|v| v.as_array()).into_iter().flatten();
        Ok(infos.filter_map(|i| Some(format!("{}/{}", i.get("local")?.as_str()?, i.get("prefixlen")?))).collect())
    }

    /// Its MTU and whether it is up.
    pub(super) fn link(&self) -> Result<(u64, bool), CliError> {
        let answer = IP.run(&["-json", "link", "show", "dev", self.interface], b"", 1 << 20)?;
        let links: serde_json::Value = serde_json::from_slice(&answer).map_err(CliError::failed)?;
        let mtu = links.pointer("/0/mtu").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let flags = links.pointer("/0/flags").and_then(|v| v.as_array()).into_iter().flatten();
        Ok((mtu, flags.filter_map(|f| f.as_str()).any(|f| f == "UP")))
    }
}

fn rp_filter_file(interface: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter")
}

/// The reverse path filter that counts for an interface: the stricter number of its own and of all's, as Linux's
/// ip-sysctl has it; 2 is loose and goes before 1.
pub(super) fn rp_filter(interface: &str) -> Result<u8, CliError> {
    let read = |name: &str| -> Result<u8, CliError> {
        let file = rp_filter_file(name);
        let text = std::fs::read_to_string(&file)
            .map_err(|e| CliError::new(Exit::Unknown, format!("cannot read {file}: {e}")))?;
        text.trim().parse().map_err(|_| CliError::failed(format!("{file} holds no number")))
    };
    Ok(read("all")?.max(read(interface)?))
}

fn ip_batch(lines: &str) -> Result<(), CliError> {
    if lines.is_empty() {
        return Ok(());
    }
    IP.run(&["-batch", "-"], lines.as_bytes(), 1 << 16).map(drop)
}

/// Where the packets for a peer are to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Through this lane.
    Lane(Lane),
    /// Nowhere for the moment.
    Held,
    /// Where they went before they were held.
    Released,
    /// The peer is none any more.
    Gone,
}

/// A change of a peer's routes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reroute {
    pub peer: Addresses,
    pub way: Way,
}

/// Changes routes, all at once. A route moves from lane to lane without a moment between.
pub(super) fn reroute<'a>(
    changes: impl Iterator<Item = &'a Reroute>,
    interfaces: [&str; 2],
    own: &Addresses,
) -> Result<(), CliError> {
    let mut lines = String::new();
    let mut gone = Vec::new();
    for Reroute { peer, way } in changes {
        let (v4, v6) = (format!("{}/32", peer.ipv4), format!("{}/128", peer.ipv6));
        match way {
            Way::Lane(lane) => {
                let interface = lane.of(&interfaces);
                lines.push_str(&format!("route replace {v4} dev {interface} metric {METRIC} src {}\n", own.ipv4));
                lines.push_str(&format!("route replace {v6} dev {interface} metric {METRIC} src {}\n", own.ipv6));
            }
            Way::Held => {
                lines.push_str(&format!("route replace blackhole {v4} metric {METRIC_HELD}\n"));
                lines.push_str(&format!("route replace blackhole {v6} metric {METRIC_HELD}\n"));
            }
            Way::Released => gone.extend([(v4, METRIC_HELD), (v6, METRIC_HELD)]),
            Way::Gone => {
                gone.extend([(v4.clone(), METRIC), (v6.clone(), METRIC), (v4, METRIC_HELD), (v6, METRIC_HELD)])
            }
        }
    }
    ip_batch(&lines)?;
    for (route, metric) in gone {
        // One that is not there is as gone as can be.
        let _ = IP.run(&["route", "del", &route, "metric", &metric.to_string()], b"", 1 << 16);
    }
    Ok(())
}

/// The agent's routes that are there: the destination's address and the interface.
pub(super) fn routes() -> Result<Vec<(String, String)>, CliError> {
    let answer = IP.run(&["-json", "-4", "route", "show"], b"", ROUTES_BYTES_MAX)?;
    let routes: serde_json::Value = serde_json::from_slice(&answer).map_err(CliError::failed)?;
    let ours = routes.as_array().into_iter().flatten().filter(|r| r.get("metric") == Some(&METRIC.into()));
    Ok(ours.filter_map(|r| Some((r.get("dst")?.as_str()?.to_owned(), r.get("dev")?.as_str()?.to_owned()))).collect())
}

/// The machine's only PoP, or the one that is named.
pub(super) fn node_here(given: Option<&MemberName>, pops: &[MemberName]) -> Result<MemberName, CliError> {
    match (given, pops) {
        (Some(name), _) => Ok(name.clone()),
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(CliError::new(Exit::NotFound, "the home holds no PoP's keys")
            .hint("run this on the node, with its home; or name it with --node")),
        (None, several) => {
            let names = several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(CliError::usage(format!("the home holds several PoPs: {names}")).hint("name one with --node"))
        }
    }
}
