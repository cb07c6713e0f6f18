//! Files for systemd-networkd: systemd.netdev(5), systemd.network(5). networkd drops a value that it does not
//! understand and brings the device up without it, so nothing but checked values goes in here.

use super::renderer::View;
use super::wg::KEEPALIVE_SECONDS;
use crate::name::MemberName;
use crate::wireguard::{Lane, WgPublicKey};

/// A `[WireGuardPeer]` section without keepalive.
pub(super) fn peer(name: &MemberName, key: WgPublicKey, endpoint: Option<&str>, routes: &[String; 2]) -> String {
    let endpoint = endpoint.map(|endpoint| format!("Endpoint={endpoint}\n")).unwrap_or_default();
    format!("[WireGuardPeer]\n# {name}\nPublicKey={key}\n{endpoint}AllowedIPs={}\n", routes.join(","))
}

/// `60-wg-a.netdev`.
pub(super) fn netdev(out: &mut String, view: &View<'_>, lane: Lane) {
    view.header(out, Some(lane));
    out.push_str(&format!(
        "[NetDev]\nName={}\nKind=wireguard\nMTUBytes={}\n\n[WireGuard]\n",
        view.interface(lane),
        view.policy().mesh().mtu
    ));
    if view.has_key(lane) {
        out.push_str(&format!("PrivateKeyFile={}\n", view.key_file(lane)));
    }
    // The lanes share their AllowedIPs, so the routes are those of the .network file.
    out.push_str(&format!("ListenPort={}\nRouteTable=off\n", view.port(lane)));
    view.left_out(out, lane);
    let keepalive = match view.node.keeps_alive() {
        true => format!("PersistentKeepalive={KEEPALIVE_SECONDS}\n"),
        false => String::new(),
    };
    for (_, peer) in view.peers(lane) {
        out.push('\n');
        out.push_str(&peer.netdev);
        out.push_str(&keepalive);
    }
}

/// `60-wg-a.network`.
pub(super) fn network(out: &mut String, view: &View<'_>, lane: Lane) {
    let (interface, addresses, metric) = (view.interface(lane), view.node.addresses, view.metric(lane));
    view.header(out, Some(lane));
    out.push_str(&format!(
        "[Match]\nName={interface}\n\n\
         [Link]\nRequiredForOnline=no\n\n\
         [Network]\nAddress={}/32\nAddress={}/128\nIPv6AcceptRA=no\nLinkLocalAddressing=no\nConfigureWithoutCarrier=yes\n",
        addresses.ipv4, addresses.ipv6,
    ));
    let sources = [addresses.ipv4.to_string(), addresses.ipv6.to_string()];
    let rests = sources.map(|source| format!("\nMetric={metric}\nPreferredSource={source}\n"));
    for (other, _) in view.peers(lane) {
        for (route, rest) in other.routes.iter().zip(&rests) {
            out.push_str("\n[Route]\nDestination=");
            out.push_str(route);
            out.push_str(rest);
        }
    }
}

/// Loose reverse path filtering on both lanes: wg-quick's file has it as a command, networkd knows it from version 255.
pub(super) fn sysctl(out: &mut String, view: &View<'_>) {
    let lines = Lane::ALL.map(|lane| format!("net.ipv4.conf.{}.rp_filter = 2\n", view.interface(lane)));
    view.header(out, None);
    out.push_str(&lines.concat());
}
