//! The mesh as a graph: nodes by region, the pairs that are peers, and the text that Graphviz draws (dot language).

use crate::name::MemberName;
use crate::wireguard::CheckedMesh;

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode {
    /// Its name.
    pub name: MemberName,
    /// Its region.
    pub region: String,
    /// What it is: its roles, or that it has no agent.
    pub note: String,
    /// Whether it has no agent.
    pub external: bool,
}

/// Nodes by region and name, those without agent last, and the pairs that are peers, by place, the smaller first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<GraphNode>,
    /// The pairs, in order.
    pub edges: Vec<(usize, usize)>,
}

impl Graph {
    /// The graph of a mesh.
    pub fn new(mesh: &CheckedMesh) -> Self {
        let mut order: Vec<_> = mesh.nodes().iter().collect();
        order.sort_by(|a, b| (&a.region, &a.name).cmp(&(&b.region, &b.name)));
        let topology = mesh.policy().topology();
        let marks: Vec<_> = order.iter().map(|node| topology.marks(&node.site())).collect();
        let mut edges = Vec::new();
        for (a, own) in marks.iter().enumerate() {
            let later = marks.iter().enumerate().skip(a + 1);
            edges.extend(later.filter(|(_, other)| topology.joined(own, other)).map(|(b, _)| (a, b)));
        }
        for (n, external) in mesh.externals().iter().enumerate() {
            let talks = order.iter().enumerate().filter(|(_, node)| external.talks_to(node));
            edges.extend(talks.map(|(a, _)| (a, order.len() + n)));
        }
        edges.sort_unstable();
        let inside = order.iter().map(|node| GraphNode {
            name: node.name.clone(),
            region: node.region.clone(),
            note: node.roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            external: false,
        });
        let outside = mesh.externals().iter().map(|external| GraphNode {
            name: external.node.name.clone(),
            region: external.node.region.clone(),
            note: format!("no agent, lane {}", external.lane),
            external: true,
        });
        Self { nodes: inside.chain(outside).collect(), edges }
    }

    /// The text for Graphviz, a cluster a region. Names are labels of a narrow alphabet, so nothing in it needs escaping.
    pub fn to_dot(&self, mesh: &CheckedMesh) -> String {
        let mut out = format!("graph \"{}\" {{\n  layout=circo\n  node [shape=box]\n", mesh.policy().mesh().id);
        let inside = |node: &&GraphNode| !node.external;
        let mut region = None;
        for node in self.nodes.iter().filter(inside) {
            if region != Some(&node.region) {
                if region.is_some() {
                    out.push_str("  }\n");
                }
                out.push_str(&format!("  subgraph \"cluster_{0}\" {{\n    label=\"{0}\"\n", node.region));
                region = Some(&node.region);
            }
            let note = if node.note.is_empty() { String::new() } else { format!("\\n{}", node.note) };
            out.push_str(&format!("    \"{0}\" [label=\"{0}{note}\"]\n", node.name));
        }
        if region.is_some() {
            out.push_str("  }\n");
        }
        for node in self.nodes.iter().filter(|node| node.external) {
            out.push_str(&format!("  \"{0}\" [label=\"{0}\\n{1}\", style=dashed]\n", node.name, node.note));
        }
        for (a, b) in &self.edges {
            let (Some(one), Some(other)) = (self.nodes.get(*a), self.nodes.get(*b)) else { continue };
            let style = if other.external { " [style=dashed]" } else { "" };
            out.push_str(&format!("  \"{}\" -- \"{}\"{style}\n", one.name, other.name));
        }
        out.push_str("}\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::{PastKeys, samples};

    #[test]
    fn the_text_for_graphviz_is_this() {
        let mut mesh = samples::with_external(3, "peers = [\"member:pop2\"]\n");
        mesh.nodes[0].roles = ["hub".parse().expect("a label")].into();
        let mesh = CheckedMesh::new(mesh, &PastKeys::new()).unwrap_or_else(|e| panic!("{e}"));
        let expected = "graph \"mesh\" {\n  layout=circo\n  node [shape=box]\n  subgraph \"cluster_default\" {\n    label=\"default\"\n    \
                        \"pop1\" [label=\"pop1\\nhub\"]\n    \"pop2\" [label=\"pop2\"]\n    \"pop3\" [label=\"pop3\"]\n  }\n  \
                        \"laptop\" [label=\"laptop\\nno agent, lane a\", style=dashed]\n  \"pop1\" -- \"pop2\"\n  \"pop1\" -- \"pop3\"\n  \
                        \"pop2\" -- \"pop3\"\n  \"pop2\" -- \"laptop\" [style=dashed]\n}\n";
        assert_eq!(Graph::new(&mesh).to_dot(&mesh), expected);
    }
}
