//! `keys wg check`: the mesh as the log has it, and with `--live` what this machine has of it. All that would spoil a
//! rotation is to be found before the first one.

use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::wg_cmd::{Due, due, node_of, this_node, told, wall_seconds};
use super::wg_device::{Device, rp_filter};
use crate::name::MemberName;
use crate::ops::{self, Preshared};
use crate::wireguard::device::Running;
use crate::wireguard::{CheckedMesh, Finding, Node, Severity};

/// A handshake older than this is no proof that a lane works: WireGuard makes a new one every 120 s of traffic.
const PROVEN_SECONDS: u64 = 150;

pub(super) fn check(context: &Context, live: bool, node: Option<&MemberName>) -> Result<Exit, CliError> {
    let fleet = if live { context.open_published()? } else { context.open()? };
    let (nodes, mut findings) = ops::mesh_findings(fleet.state())?;
    let bare = ops::without_exchange(fleet.state());
    if !bare.is_empty() {
        let message = "a lane's key is from before preshared keys were wanted: none with anybody on that lane";
        let hint = "rotate them, once for each such lane: 'keys rotate NAME --slot wireguard'";
        findings.push(Finding::warning("psk-none", &bare, message, hint));
    }
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    // What interfaces are to have follows from a mesh without errors.
    if live && findings.iter().any(is_error) {
        context.say("the interfaces of this machine are not looked at: the mesh has errors");
    } else if live {
        let home = context.home()?;
        let name = this_node(node, &home, fleet.state())?;
        let mesh = ops::mesh(fleet.state())?;
        let preshared = ops::preshared_keys(&name, &home, &fleet)?;
        let node = node_of(&mesh, &name)?;
        for trouble in &preshared.troubles {
            findings.push(error("live-preshared", node, trouble.clone(), "see 'keys log verify' and the node's home"));
        }
        findings.extend(check_live(&mesh, node, &preshared)?);
    }
    ops::name_entries(&mut findings, &fleet)?;
    findings.sort();
    let wrong = findings.iter().filter(|finding| is_error(finding)).count();
    let exit = if wrong > 0 { Exit::No } else { Exit::Ok };
    if context.json {
        let (errors, warnings): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| is_error(finding));
        return context.answer(json!({ "nodes": nodes, "errors": errors, "warnings": warnings }), exit);
    }
    for finding in &findings {
        context.out.line(&finding.to_string())?;
        context.out.line(&format!("  {}", finding.hint))?;
    }
    let errors = match wrong {
        0 => "no errors".to_owned(),
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    };
    context.out.line(&format!("{nodes} nodes, {errors}, {} warnings", findings.len() - wrong))?;
    Ok(exit)
}

/// What is wrong with this machine's interfaces.
fn check_live(mesh: &CheckedMesh, node: &Node, preshared: &Preshared) -> Result<Vec<Finding>, CliError> {
    let mut found = Vec::new();
    let lanes = ops::wanted_lanes(&node.name, mesh, preshared)?;
    for lane in due(lanes, None, None)? {
        let name = lane.wanted.interface.clone();
        let device = Device { interface: &name };
        let running = device.running(wall_seconds())?;
        found.extend(drift(node, &lane));
        let (mtu, up) = device.link()?;
        let due_mtu = mesh.policy().mesh().mtu;
        if !up {
            found.push(error("live-down", node, format!("{name} is down"), "run 'keys wg apply'"));
        }
        if mtu != u64::from(due_mtu) {
            let message = format!("{name} has an MTU of {mtu}; the policy says {due_mtu}");
            found.push(error("live-mtu", node, message, "run 'keys wg apply'"));
        }
        let addresses = device.addresses()?;
        for due in [format!("{}/32", node.addresses.ipv4), format!("{}/128", node.addresses.ipv6)] {
            if !addresses.contains(&due) {
                let message = format!("{name} lacks the address {due}: what arrives there is dropped");
                found.push(error(
                    "live-address",
                    node,
                    message,
                    "run 'keys wg apply'; both lanes carry both addresses",
                ));
            }
        }
        if rp_filter(&name)? == 1 {
            let message = format!("{name} drops answers that come back through the other lane (rp_filter is strict)");
            let hint = format!("set net.ipv4.conf.{name}.rp_filter = 2; 'keys wg apply' does");
            found.push(error("live-rp-filter", node, message, &hint));
        }
        found.extend(unproven(mesh, node, &lane, &running));
    }
    Ok(found)
}

fn error(code: &'static str, node: &Node, message: String, hint: &str) -> Finding {
    Finding::error(code, [&node.name], message, hint)
}

fn drift(node: &Node, lane: &Due) -> Option<Finding> {
    let steps = told(lane);
    if steps.is_empty() {
        return None;
    }
    let shown: Vec<&str> = steps.iter().take(3).map(String::as_str).collect();
    let more = steps.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!("is not as the log has it; to be done: {}{more}", shown.join("; "));
    Some(error("live-drift", node, message, "run 'keys wg apply', or have the agent run"))
}

/// Peers with whom this lane has no young session: a rotation onto it would leave them on the other one.
fn unproven(mesh: &CheckedMesh, node: &Node, lane: &Due, running: &Running) -> Option<Finding> {
    let silent: Vec<&MemberName> = lane
        .wanted
        .peers
        .iter()
        .filter(|(key, link)| {
            let callable = link.endpoint.is_some() || node.endpoint.is_some();
            let age = running.peers.get(key).and_then(|peer| peer.handshake);
            callable && age.is_none_or(|age| age.as_secs() > PROVEN_SECONDS)
        })
        .map(|(_, link)| &link.name)
        .filter(|name| mesh.node(name).is_some())
        .collect();
    if silent.is_empty() {
        return None;
    }
    let message = format!(
        "{}: no session in the last {PROVEN_SECONDS} s with {} of {} peers",
        lane.wanted.interface,
        silent.len(),
        lane.wanted.peers.len()
    );
    let hint = "is the lane's UDP port open in both directions? A rotation would leave these peers on the other lane";
    Some(Finding::warning("live-unproven", silent, message, hint))
}
