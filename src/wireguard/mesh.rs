//! A mesh, and the same once it has been checked.

use std::collections::BTreeMap;

use super::check::{self as checks, Finding, Severity};
use super::external::externals;
use super::{External, Node, WgPublicKey};
use crate::name::MemberName;
use crate::policy::wireguard::{Marks, WireguardPolicy};

/// Every key that some node had in an earlier generation and has no more, with that node.
pub type PastKeys = BTreeMap<WgPublicKey, MemberName>;

/// A policy and the nodes under it, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// What holds for all nodes.
    pub policy: WireguardPolicy,
    /// The nodes, in any order.
    pub nodes: Vec<Node>,
}

/// Why a mesh is not rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// The check found errors.
    #[error("the mesh has {} to put right:{}", errors(findings), lines(findings))]
    Refused {
        /// What was found, errors first, warnings among them.
        findings: Vec<Finding>,
    },
}

fn errors(findings: &[Finding]) -> String {
    match findings.iter().filter(|finding| finding.severity == Severity::Error).count() {
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    }
}

fn lines(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| format!("\n  {finding}")).collect()
}

impl Mesh {
    /// The peers without an agent, those aside that cannot be any.
    pub(super) fn externals(&self) -> Vec<External> {
        externals(&self.policy).0
    }
}

/// Checks a mesh; what is found comes errors first, and in the same order for the same mesh. What is found about a peer without an
/// agent names the place where the policy speaks of it.
pub fn check(mesh: &Mesh, past_keys: &PastKeys) -> Vec<Finding> {
    let mut findings = [
        checks::names(mesh),
        checks::addresses(mesh),
        checks::pools(mesh),
        checks::keys(mesh, past_keys),
        checks::endpoints(mesh),
        checks::ports(mesh),
        checks::reach(mesh),
        checks::topology(mesh),
        checks::external(mesh),
    ]
    .concat();
    for external in mesh.externals() {
        let about = findings.iter_mut().filter(|finding| finding.nodes.contains(&external.node.name));
        about
            .filter(|finding| finding.place.is_none())
            .for_each(|finding| finding.place = Some(external.place.clone()));
    }
    findings.sort();
    findings
}

/// A mesh without errors, its nodes in the order of their names. Only this is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedMesh {
    policy: WireguardPolicy,
    nodes: Vec<Node>,
    externals: Vec<External>,
    warnings: Vec<Finding>,
}

impl CheckedMesh {
    /// Checks `mesh`.
    ///
    /// # Errors
    /// [`MeshError::Refused`] if anything found is an error.
    pub fn new(mesh: Mesh, past_keys: &PastKeys) -> Result<Self, MeshError> {
        let findings = check(&mesh, past_keys);
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(MeshError::Refused { findings });
        }
        let Mesh { policy, mut nodes } = mesh;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let externals = externals(&policy).0;
        Ok(Self { policy, nodes, externals, warnings: findings })
    }

    /// What holds for all nodes.
    pub fn policy(&self) -> &WireguardPolicy {
        &self.policy
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of that name.
    pub fn node(&self, name: &MemberName) -> Option<&Node> {
        self.position(name).and_then(|i| self.nodes.get(i))
    }

    /// The peers of the node of that name, by name: nobody, if there is no such node.
    pub fn peers_of(&self, name: &MemberName) -> impl Iterator<Item = &Node> {
        self.peer_positions(self.position(name)).filter_map(|i| self.nodes.get(i))
    }

    /// The peers without an agent, by name.
    pub fn externals(&self) -> &[External] {
        &self.externals
    }

    /// Those of them that talk to the node of that name, by name.
    pub fn externals_of(&self, name: &MemberName) -> impl Iterator<Item = &External> {
        let node = self.node(name);
        self.externals.iter().filter(move |external| node.is_some_and(|node| external.talks_to(node)))
    }

    /// Where in [`CheckedMesh::nodes`] the peers of the node at `position` stand, in order.
    pub(super) fn peer_positions(&self, position: Option<usize>) -> impl Iterator<Item = usize> + use<'_> {
        let topology = self.policy.topology();
        let own: Option<(usize, Marks<'_>)> =
            position.and_then(|i| Some((i, topology.marks(&self.nodes.get(i)?.site()))));
        let others = self.nodes.iter().enumerate().filter(move |_| own.is_some());
        others.filter_map(move |(i, other)| {
            let joined =
                own.is_some_and(|(own, marks)| own != i && topology.joined(&marks, &topology.marks(&other.site())));
            joined.then_some(i)
        })
    }

    /// What the check found and let pass.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// Where in [`CheckedMesh::nodes`] the node stands.
    pub(super) fn position(&self, name: &MemberName) -> Option<usize> {
        self.nodes.binary_search_by(|node| node.name.cmp(name)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_sound_mesh_passes_in_any_order() {
        let mesh = samples::mesh(4);
        let mut turned = mesh.clone();
        turned.nodes.reverse();
        let checked = CheckedMesh::new(mesh.clone(), &PastKeys::new()).expect("a sound mesh");
        assert_eq!(CheckedMesh::new(turned, &PastKeys::new()).as_ref(), Ok(&checked));
        assert_eq!(checked.node(&samples::name(2)).map(|n| &n.name), Some(&samples::name(2)));
        assert_eq!(checked.node(&samples::name(9)), None);
    }

    #[test]
    fn what_is_found_about_a_peer_without_an_agent_names_its_place_in_the_policy() {
        let place = |rest: &str, code: &str| {
            let findings = check(&samples::with_external(2, rest), &PastKeys::new());
            let about = findings.iter().find(|finding| finding.code == code);
            about.unwrap_or_else(|| panic!("{code}: {findings:?}")).place.clone()
        };
        let peers = "peers = [\"member:pop1\"]\n";
        let place_of = |rest: &str| place(rest, "endpoint-name").expect("a place");
        let first = place_of(&format!("{peers}endpoint = \"laptop.example:7\"\n"));
        assert!(first.starts_with("policy/wireguard.toml:"), "{first}");
        // Findings about nodes alone have none.
        assert_eq!(place(peers, "endpoint-private"), None);
    }

    #[test]
    fn errors_refuse_and_are_named_before_warnings() {
        let mut mesh = samples::mesh(3);
        mesh.nodes[1].keys = mesh.nodes[0].keys;
        let findings = check(&mesh, &PastKeys::new());
        assert!(findings.is_sorted());
        assert_eq!(findings.first().map(|f| f.severity), Some(Severity::Error));
        assert_eq!(findings.last().map(|f| f.severity), Some(Severity::Warning));
        let message = CheckedMesh::new(mesh, &PastKeys::new()).map_err(|e| e.to_string()).expect_err("a shared key");
        assert!(message.starts_with("the mesh has 2 errors to put right:\n  error: pop1, pop2: "), "{message}");
        assert!(!message.contains("warning"), "{message}");
    }
}
