//! Names of nodes. A member name cannot be a path or hold a control character; what is left is who may be a node.

use std::collections::BTreeMap;

use super::Finding;
use crate::limits::MESH_NODES_MAX;
use crate::name::MemberName;
use crate::wireguard::Mesh;

/// One node a name, machines only, and not more than the mesh may have.
pub(crate) fn names(mesh: &Mesh) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut counts: BTreeMap<&MemberName, usize> = BTreeMap::new();
    let externals = mesh.externals();
    for node in mesh.nodes.iter().chain(externals.iter().map(|external| &external.node)) {
        *counts.entry(&node.name).or_default() += 1;
    }
    for (name, count) in counts {
        if count > 1 {
            let message = format!("{count} nodes have this name");
            found.push(Finding::error("name-shared", [name], message, "give each machine a name of its own"));
        }
        if name.is_service() {
            let hint = format!("the node is its machine, '{}'", name.owner());
            found.push(Finding::error("name-service", [name], "a service is no node of the mesh", hint));
        }
        if name.host_label().as_str() == "localhost" {
            let message = "the hosts file would send every machine's 'localhost' to this node";
            found.push(Finding::error("name-localhost", [name], message, "give the machine another name"));
        }
    }
    if mesh.nodes.len() > MESH_NODES_MAX {
        let message = format!("there are {} nodes; a mesh has at most {MESH_NODES_MAX}", mesh.nodes.len());
        found.push(Finding::error("nodes-too-many", [], message, "split the fleet into several meshes"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::samples;

    fn codes(mesh: &Mesh) -> Vec<&'static str> {
        names(mesh).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn each_name_is_one_machine() {
        let mut mesh = samples::mesh(3);
        assert_eq!(codes(&mesh), [""; 0]);
        mesh.nodes[1].name = samples::name(1);
        assert_eq!(codes(&mesh), ["name-shared"]);
        mesh.nodes[1].name = "nginx@fra1".parse().expect("a name");
        assert_eq!(codes(&mesh), ["name-service"]);
        mesh.nodes[1].name = "localhost".parse().expect("a name");
        assert_eq!(codes(&mesh), ["name-localhost"]);
    }

    #[test]
    fn a_mesh_has_an_end() {
        let mut mesh = samples::mesh(1);
        let node = mesh.nodes[0].clone();
        mesh.nodes = vec![node; MESH_NODES_MAX + 1];
        assert!(codes(&mesh).contains(&"nodes-too-many"));
    }
}
