//! `keys wg`: the mesh's configurations, and this machine's own interfaces.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use similar::TextDiff;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::output::complain;
use super::render_cmd::Tree;
use super::wg_agent::agent;
use super::wg_args::{Wg, WgFiles, WgVerb};
use super::wg_check::check;
use super::wg_device::{Device, node_here};
use super::wg_graph::graph;
use super::wg_qr::qr;
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::home::Home;
use crate::limits::MESH_FILE_BYTES_MAX;
use crate::name::{Kind, MemberName, Slot};
use crate::ops;
use crate::state::State;
use crate::wireguard::device::{Steps, WantedLane, steps};
use crate::wireguard::render::{FileKind, RenderOptions};
use crate::wireguard::{CheckedMesh, Node, WgPrivateKey, WgPublicKey};

/// `keys wg`.
pub(super) fn wg(context: &Context, args: &Wg) -> Result<Exit, CliError> {
    match &args.verb {
        WgVerb::Render { out, node, files } => render(context, out, node.as_ref(), files),
        WgVerb::Check { live, node } => check(context, *live, node.as_ref()),
        WgVerb::Diff { directory, node, files } => diff(context, directory, node.as_ref(), files),
        WgVerb::Apply { interface, node, dry_run } => apply(context, interface.as_deref(), node.as_ref(), *dry_run),
        WgVerb::Graph { dot, out } => graph(context, *dot, out.as_deref()),
        WgVerb::Qr { name, private_key, text } => qr(context, name, private_key.is_some(), *text),
        WgVerb::Agent { node, rounds } => agent(context, node.as_ref(), *rounds),
    }
}

fn options(files: &WgFiles) -> Result<RenderOptions, CliError> {
    let options = RenderOptions::default();
    let options = if files.kinds.is_empty() { options } else { options.only(files.kinds.iter().copied()) };
    match &files.key_file {
        Some(path) => options.with_key_file(path).map_err(CliError::usage),
        None => Ok(options),
    }
}

/// Writes the files of one node, or of all. Nothing is written of a mesh that has errors.
fn render(context: &Context, out: &Path, node: Option<&MemberName>, files: &WgFiles) -> Result<Exit, CliError> {
    let options = options(files)?;
    // What a machine goes by has its cosigners.
    let fleet = context.open_published()?;
    let mesh = ops::mesh(fleet.state())?;
    if let Some(name) = node {
        node_of(&mesh, name)?;
    }
    let mut tree = Tree::create(out)?;
    ops::wireguard_files(node, options, &mesh, |path, bytes| tree.put(path, bytes))?;
    tree.tell(context)
}

/// Compares what would be written now with what was.
fn diff(context: &Context, directory: &Path, node: Option<&MemberName>, files: &WgFiles) -> Result<Exit, CliError> {
    let fleet = context.open_published()?;
    let failed = |source| DiskError { doing: "open", path: shown(directory), source };
    let disk = Disk::new(RealFiles::open(directory, Access::Public).map_err(failed)?);
    let mut changed = Vec::new();
    let mut known = BTreeSet::new();
    ops::wireguard_files::<CliError>(node, options(files)?, &ops::mesh(fleet.state())?, |path, now| {
        let before = disk.read(path, MESH_FILE_BYTES_MAX)?;
        known.insert(path.to_owned());
        if before.as_deref() == Some(now) {
            return Ok(());
        }
        let (old, new) = (String::from_utf8_lossy(before.as_deref().unwrap_or_default()), String::from_utf8_lossy(now));
        if !context.json {
            let text = TextDiff::from_lines(old.as_ref(), new.as_ref());
            let text = text.unified_diff().header(&format!("a/{path}"), &format!("b/{path}")).to_string();
            text.lines().try_for_each(|line| context.out.line(&crate::text::shown(line).to_string()))?;
        }
        changed.push((path.to_owned(), if before.is_none() { "new" } else { "changed" }));
        Ok(())
    })?;
    // Files of others are nobody's loss; those of a node that is gone are.
    let asked = |path: &str| {
        let own = if node.is_some() { path } else { path.split_once('/').map_or("", |(_, own)| own) };
        files.kinds.is_empty() || FileKind::of_path(own).is_some_and(|kind| files.kinds.contains(&kind))
    };
    let there = disk.walk("")?.into_iter().map(|(path, _)| path);
    changed.extend(there.filter(|path| !known.contains(path) && asked(path)).map(|path| (path, "gone")));
    if context.json {
        let files: Vec<Value> = changed.iter().map(|(path, what)| json!({ "path": path, "what": what })).collect();
        return context.answer(json!({ "files": files }), if changed.is_empty() { Exit::Ok } else { Exit::Pending });
    }
    for (path, what) in changed.iter().filter(|(_, what)| *what != "changed") {
        context.out.line(&format!("{what}: {}", crate::text::shown(path)))?;
    }
    Ok(if changed.is_empty() { Exit::Ok } else { Exit::Pending })
}

/// The PoP whose keys are in the home.
pub(super) fn this_node(given: Option<&MemberName>, home: &Home, state: &State) -> Result<MemberName, CliError> {
    let is_pop = |name: &MemberName| state.active_member(name).is_ok_and(|m| m.kind == Kind::Pop);
    let pops: Vec<_> = home.members()?.into_iter().filter(is_pop).collect();
    node_here(given, &pops)
}

/// One lane of this machine: what it is to have and the steps to that.
pub(super) struct Due {
    pub wanted: WantedLane,
    pub steps: Steps,
}

/// What the interfaces of `node` need.
pub(super) fn due(
    lanes: [WantedLane; 2],
    before: Option<&[WantedLane; 2]>,
    only: Option<&str>,
) -> Result<Vec<Due>, CliError> {
    let mut due = Vec::new();
    for (i, wanted) in lanes.into_iter().enumerate().filter(|(_, l)| only.is_none_or(|name| name == l.interface)) {
        let running = Device { interface: &wanted.interface }.running(wall_seconds())?;
        let steps = steps(&wanted, &running, before.and_then(|b| b.get(i)));
        due.push(Due { wanted, steps });
    }
    Ok(due)
}

/// The wall clock, which `wg` dates handshakes by; seconds since 1970.
pub(super) fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The text of a lane's private key, out of the home.
pub(super) fn private_text(
    home: &Home,
    node: &MemberName,
    public: &WgPublicKey,
) -> Result<zeroize::Zeroizing<String>, CliError> {
    let text = home.key(node, Slot::Wireguard, &public.to_string())?;
    match WgPrivateKey::from_file_text(&text) {
        Ok(key) if key.public() == *public => Ok(text),
        _ => Err(CliError::failed(format!("the file of {node}'s WireGuard key {public} holds another key or none"))),
    }
}

/// Takes the steps of each lane.
pub(super) fn carry_out(due: &[Due], home: &Home, node: &Node, mtu: u16) -> Result<(), CliError> {
    for Due { wanted, steps } in due {
        let device = Device { interface: &wanted.interface };
        let key = match wanted.key.filter(|_| steps.key) {
            Some(public) => Some(private_text(home, &node.name, &public)?),
            None => None,
        };
        device.carry_out(wanted, steps, key.as_ref())?;
        device.bring_up(&node.addresses, mtu)?;
    }
    Ok(())
}

/// What a lane's steps are, in words.
pub(super) fn told(Due { wanted, steps }: &Due) -> Vec<String> {
    let who = |key: &WgPublicKey| wanted.peers.get(key).map_or_else(|| key.to_string(), |link| link.name.to_string());
    let each = |what: &'static str, keys: &[WgPublicKey]| keys.iter().map(|k| format!("{what} {}", who(k))).collect();
    let mut lines: Vec<String> = Vec::new();
    if steps.key {
        lines.push("set the private key".to_owned());
    }
    if steps.port {
        lines.push(format!("listen on port {}", wanted.port));
    }
    let parts: [Vec<String>; 5] = [
        each("add the peer", &steps.add),
        each("add anew, for another preshared key, the peer", &steps.again),
        each("set the addresses of", &steps.allowed),
        each("set the endpoint of", &steps.endpoint),
        each("remove the peer", &steps.remove),
    ];
    lines.extend(parts.into_iter().flatten());
    lines.into_iter().map(|line| format!("{}: {line}", wanted.interface)).collect()
}

fn apply(context: &Context, interface: Option<&str>, node: Option<&MemberName>, dry: bool) -> Result<Exit, CliError> {
    let home = context.home()?;
    let fleet = context.open_published()?;
    let name = this_node(node, &home, fleet.state())?;
    let mesh = ops::mesh(fleet.state())?;
    let preshared = ops::preshared_keys(&name, &home, &fleet)?;
    preshared.troubles.iter().for_each(|trouble| complain(trouble));
    let lanes = ops::wanted_lanes(&name, &mesh, &preshared)?;
    if let Some(unknown) = interface.filter(|i| lanes.iter().all(|l| l.interface != *i)) {
        let names = lanes.map(|l| l.interface).join(" and ");
        return Err(CliError::usage(format!("'{}' is not a lane; there are {names}", crate::text::shown(unknown))));
    }
    let due = due(lanes, None, interface)?;
    let lines: Vec<String> = due.iter().flat_map(told).collect();
    if !dry {
        carry_out(&due, &home, node_of(&mesh, &name)?, mesh.policy().mesh().mtu)?;
    }
    let exit = if dry && !lines.is_empty() { Exit::Pending } else { Exit::Ok };
    if context.json {
        return context.answer(json!({ "node": name.to_string(), "steps": lines, "done": !dry }), exit);
    }
    lines.iter().try_for_each(|line| context.out.line(line))?;
    if lines.is_empty() {
        context.say("nothing to do");
    }
    Ok(exit)
}

/// The node of that name.
pub(super) fn node_of<'m>(mesh: &'m CheckedMesh, name: &MemberName) -> Result<&'m Node, CliError> {
    mesh.node(name).ok_or_else(|| CliError::new(Exit::NotFound, format!("{name} is not in the mesh")))
}
