//! Files for wg(8) and wg-quick(8).

use super::renderer::View;
use crate::name::MemberName;
use crate::wireguard::{Lane, WgPublicKey};

/// Seconds between a translated node's packets: below the shortest life of a translation that is common (30 s).
pub(super) const KEEPALIVE_SECONDS: u16 = 25;

/// A `[Peer]` section without keepalive, which depends on who reads it.
pub(super) fn peer(name: &MemberName, key: WgPublicKey, endpoint: Option<&str>, routes: &[String; 2]) -> String {
    let endpoint = endpoint.map(|endpoint| format!("Endpoint = {endpoint}\n")).unwrap_or_default();
    format!("[Peer]\n# {name}\nPublicKey = {key}\n{endpoint}AllowedIPs = {}\n", routes.join(", "))
}

/// `wg-a.conf` for wg-quick. `Table = off` because the lanes share their AllowedIPs: wg-quick would route every peer
/// through the lane that came up last.
pub(super) fn quick(out: &mut String, view: &View<'_>, lane: Lane) {
    let (addresses, mtu) = (view.node.addresses, view.policy().mesh().mtu);
    view.header(out, Some(lane));
    out.push_str(&format!(
        "# Routes are set by the agent; without it: ip -batch {0}.routes\n\
         [Interface]\n\
         Address = {1}/32, {2}/128\n\
         ListenPort = {3}\n\
         MTU = {mtu}\n\
         Table = off\n",
        view.interface(lane),
        addresses.ipv4,
        addresses.ipv6,
        view.port(lane),
    ));
    if view.has_key(lane) {
        out.push_str(&format!("PostUp = wg set %i private-key {}\n", view.options().key_file()));
    }
    // Answers may come back through the other lane; AllowedIPs already check the source (RFC 3704, section 2.4).
    out.push_str("PostUp = sysctl -qw net.ipv4.conf.%i.rp_filter=2\n");
    push_peers(out, view, lane);
}

/// The peers alone. Only `addconf` may read them: `setconf` and `syncconf` take the private key away that the file
/// does not have.
pub(super) fn addconf(out: &mut String, view: &View<'_>, lane: Lane) {
    view.header(out, Some(lane));
    out.push_str(&format!(
        "# For wg addconf {} FILE; setconf and syncconf would erase the private key.\n",
        view.interface(lane)
    ));
    push_peers(out, view, lane);
}

/// The drop-in for the unit of one lane, other wg-quick interfaces being none of our business. `systemctl reload`
/// runs `wg syncconf` otherwise, which erases the private key.
pub(super) fn drop_in(out: &mut String, view: &View<'_>, lane: Lane) {
    view.header(out, Some(lane));
    out.push_str(&format!(
        "# The unit's own reload would erase the private key: the configuration file has none.\n\
         [Service]\nExecReload=\nExecReload={} wg apply %i\n",
        view.options().program()
    ));
}

fn push_peers(out: &mut String, view: &View<'_>, lane: Lane) {
    view.left_out(out, lane);
    let keepalive = match view.node.keeps_alive() {
        true => format!("PersistentKeepalive = {KEEPALIVE_SECONDS}\n"),
        false => String::new(),
    };
    for (_, peer) in view.peers(lane) {
        out.push('\n');
        out.push_str(&peer.wg);
        out.push_str(&keepalive);
    }
}
