//! `keys wg graph`: who is whose peer, as a drawing.

use std::path::Path;

use serde_json::json;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::write_file;
use crate::audit::{Belongs, Ring, RingNode};
use crate::limits::GRAPH_EDGES_MAX;
use crate::ops;
use crate::wireguard::render::{Graph, GraphNode};

pub(super) fn graph(context: &Context, dot: bool, out: Option<&Path>) -> Result<Exit, CliError> {
    let fleet = context.open_published()?;
    let mesh = ops::mesh(fleet.state())?;
    let graph = Graph::new(&mesh);
    let (nodes, pairs) = (graph.nodes.len(), graph.edges.len());
    if pairs > GRAPH_EDGES_MAX {
        return Err(CliError::failed(format!(
            "{pairs} pairs are more than a drawing shows; at most {GRAPH_EDGES_MAX}"
        ))
        .hint("'keys wg render' writes each node's peers to its mesh.json"));
    }
    let text = match dot {
        true => graph.to_dot(&mesh),
        false => {
            let title = format!("The mesh {}: {nodes} nodes, {pairs} pairs of peers", mesh.policy().mesh().id);
            Ring { nodes: graph.nodes.iter().map(drawn).collect(), edges: graph.edges }.to_svg(&title)
        }
    };
    match out {
        Some(path) => {
            write_file(path, text.as_bytes())?;
            if context.json {
                return context.answer(json!({ "file": shown(path), "nodes": nodes, "pairs": pairs }), Exit::Ok);
            }
            context.say(&format!("{nodes} nodes and {pairs} pairs of peers, written to {}", shown(path)));
        }
        None => context.out.bytes(text.as_bytes())?,
    }
    Ok(Exit::Ok)
}

fn drawn(node: &GraphNode) -> RingNode {
    let GraphNode { name, region, note, external } = node;
    let note = if note.is_empty() || *external { note.clone() } else { format!("{region}: {note}") };
    RingNode {
        name: name.to_string(),
        note: if note.is_empty() { region.clone() } else { note },
        belongs: if *external { Belongs::Outside } else { Belongs::Inside },
    }
}
