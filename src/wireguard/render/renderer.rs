//! Puts the files together: each peer's text is written once and copied into every node's files.

use super::file::NodeFile;
use super::tables::{self, LaneText};
use super::{RenderError, RenderOptions, networkd, wg};
use crate::name::MemberName;
use crate::policy::wireguard::WireguardPolicy;
use crate::wireguard::{CheckedMesh, External, Lane, Node};

/// A relative path and the bytes that belong there.
pub type File = (String, Vec<u8>);

/// Renders the nodes of a checked mesh.
#[derive(Debug)]
pub struct Renderer<'m> {
    mesh: &'m CheckedMesh,
    options: RenderOptions,
    /// The files that are wanted of each node, with their paths and in the order of these.
    files: Vec<(String, NodeFile)>,
    /// What each node looks like to the others, in the order of the mesh; none of those that nobody asks for.
    texts: Vec<Option<NodeText>>,
    /// The lines of the hosts file, the same for all.
    hosts: String,
    /// The same of the peers without an agent.
    externals: Vec<NodeText>,
}

/// What one node looks like in the files of others.
#[derive(Debug)]
pub(super) struct NodeText {
    /// By lane; none where it has no key.
    pub(super) lanes: [Option<PeerText>; 2],
    /// Its inner addresses as host routes: `10.88.16.1/32`, `fd12:3456:789a:10::1/128`.
    pub(super) routes: [String; 2],
    /// Its line in the JSON description.
    pub(super) json: String,
    /// Its name.
    name: String,
}

/// A peer on one lane, each form ending with a line feed.
#[derive(Debug)]
pub(super) struct PeerText {
    /// As wg(8) reads it.
    pub(super) wg: String,
    /// As systemd.netdev(5) has it.
    pub(super) netdev: String,
}

impl<'m> Renderer<'m> {
    /// Writes every node once.
    pub fn new(mesh: &'m CheckedMesh, options: RenderOptions) -> Self {
        Self::with(mesh, options, (0..mesh.nodes().len()).collect())
    }

    /// Writes the nodes at these places.
    fn with(mesh: &'m CheckedMesh, options: RenderOptions, places: Vec<usize>) -> Self {
        let mut texts: Vec<Option<NodeText>> = mesh.nodes().iter().map(|_| None).collect();
        for place in places {
            if let (Some(text), Some(node)) = (texts.get_mut(place), mesh.nodes().get(place)) {
                *text = Some(NodeText::new(mesh.policy(), node));
            }
        }
        let external = |external: &External| NodeText::external(mesh.policy(), external);
        let everybody = mesh.nodes().iter().chain(mesh.externals().iter().map(|external| &external.node));
        let hosts = everybody.map(tables::hosts_lines).collect();
        let externals = mesh.externals().iter().map(external).collect();
        let wanted = NodeFile::all().filter(|file| options.wants(file.kind()));
        let mut files: Vec<_> = wanted.map(|file| (file.path(mesh.policy()), file)).collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        Self { mesh, options, files, texts, hosts, externals }
    }

    /// All files of one node, in the order of their paths.
    ///
    /// # Errors
    /// [`RenderError::Node`] if the mesh has no such node.
    pub fn node(&self, name: &MemberName) -> Result<Vec<File>, RenderError> {
        let missing = || RenderError::Node { name: name.to_string() };
        let view = self.mesh.position(name).and_then(|position| self.view(position)).ok_or_else(missing)?;
        let file = |(path, file): &(String, NodeFile)| {
            let mut text = String::new();
            file.write(&mut text, &view);
            (path.clone(), text.into_bytes())
        };
        Ok(self.files.iter().map(file).collect())
    }

    /// Gives `put` all files of all nodes: the node's name, the path in its directory, and the bytes. They come by node and
    /// path, and no more than one is in memory.
    ///
    /// # Errors
    /// The first of `put`, after which no more come.
    pub fn all<E>(&self, mut put: impl FnMut(&MemberName, &str, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut text = String::new();
        for view in (0..self.mesh.nodes().len()).filter_map(|position| self.view(position)) {
            for (path, file) in &self.files {
                text.clear();
                file.write(&mut text, &view);
                put(&view.node.name, path, text.as_bytes())?;
            }
        }
        Ok(())
    }

    /// The mesh as the node at `position` sees it.
    fn view(&self, position: usize) -> Option<View<'_>> {
        let node = self.mesh.nodes().get(position)?;
        let peers = self.mesh.peer_positions(Some(position)).filter_map(|i| self.texts.get(i)?.as_ref()).collect();
        let known = self.mesh.externals().iter().zip(&self.externals).filter(|(external, _)| external.talks_to(node));
        let externals = known.map(|(_, text)| text).collect();
        Some(View { renderer: self, node, peers, externals })
    }
}

/// All files of one node, as [`Renderer::node`] gives them. What is written for it is its peers and nobody else, so time and
/// memory grow with these alone, the hosts file aside.
///
/// # Errors
/// [`RenderError::Node`] if the mesh has no such node.
pub fn render_one(mesh: &CheckedMesh, options: RenderOptions, name: &MemberName) -> Result<Vec<File>, RenderError> {
    let peers = mesh.peer_positions(mesh.position(name)).collect();
    Renderer::with(mesh, options, peers).node(name)
}

impl NodeText {
    fn new(policy: &WireguardPolicy, node: &Node) -> Self {
        let routes = [format!("{}/32", node.addresses.ipv4), format!("{}/128", node.addresses.ipv6)];
        let endpoint = |lane| node.endpoint.as_ref().map(|endpoint| endpoint.host.with_port(node.port(policy, lane)));
        let lanes = Lane::ALL.map(|lane| {
            let (key, endpoint) = (node.key(lane)?, endpoint(lane));
            Some(PeerText {
                wg: wg::peer(&node.name, key, endpoint.as_deref(), &routes),
                netdev: networkd::peer(&node.name, key, endpoint.as_deref(), &routes),
            })
        });
        let described = Lane::ALL.map(|lane| LaneText { lane, public_key: node.key(lane), endpoint: endpoint(lane) });
        Self { lanes, routes, json: tables::peer_json(node, &described), name: node.name.to_string() }
    }

    fn external(policy: &WireguardPolicy, external: &External) -> Self {
        let text = Self::new(policy, &external.node);
        let endpoint = external.node.endpoint.as_ref();
        let endpoint = endpoint.map(|e| e.host.with_port(external.node.port(policy, external.lane)));
        let described = [LaneText { lane: external.lane, public_key: external.node.key(external.lane), endpoint }];
        Self { json: tables::external_json(&external.node, &described), ..text }
    }
}

/// One node's view of the mesh.
#[derive(Debug)]
pub(super) struct View<'r> {
    renderer: &'r Renderer<'r>,
    pub(super) node: &'r Node,
    /// Its peers, by name.
    peers: Vec<&'r NodeText>,
    /// Those of them that have no agent, by name.
    externals: Vec<&'r NodeText>,
}

impl<'r> View<'r> {
    pub(super) fn policy(&self) -> &'r WireguardPolicy {
        self.renderer.mesh.policy()
    }

    /// The `keys` program.
    pub(super) fn options(&self) -> &'r RenderOptions {
        &self.renderer.options
    }

    /// The lines of all nodes, this one included, and of all that have no agent, in the hosts file.
    pub(super) fn hosts(&self) -> &'r str {
        &self.renderer.hosts
    }

    pub(super) fn interface(&self, lane: Lane) -> &'r str {
        lane.interface(self.policy())
    }

    pub(super) fn port(&self, lane: Lane) -> u16 {
        self.node.port(self.policy(), lane)
    }

    /// Whether this node has a key on `lane`; without one the lane has no peers.
    pub(super) fn has_key(&self, lane: Lane) -> bool {
        self.node.key(lane).is_some()
    }

    /// The private key file of `lane`.
    pub(super) fn key_file(&self, lane: Lane) -> String {
        self.options().key_file().replace("%i", self.interface(lane))
    }

    /// The metric of routes through `lane`: the lower goes first.
    pub(super) fn metric(&self, lane: Lane) -> u32 {
        if lane == self.node.preferred { 100 } else { 200 }
    }

    /// The node's peers, by name, and then those that have no agent.
    pub(super) fn others(&self) -> impl Iterator<Item = &'r NodeText> + use<'r, '_> {
        self.peers.iter().chain(&self.externals).copied()
    }

    /// Those of them that are there on `lane`: both sides have a key.
    pub(super) fn peers(&self, lane: Lane) -> impl Iterator<Item = (&'r NodeText, &'r PeerText)> + use<'r, '_> {
        let any = self.has_key(lane);
        self.others().filter_map(move |other| Some((other, lane.of(&other.lanes).as_ref()?))).filter(move |_| any)
    }

    /// The comment at the head of a file.
    pub(super) fn header(&self, out: &mut String, lane: Option<Lane>) {
        let lane = lane.map(|lane| format!(", lane {lane}")).unwrap_or_default();
        let (node, mesh) = (&self.node.name, &self.policy().mesh().id);
        let line =
            format!("# Written by keys for {node}{lane} of mesh {mesh}; changes here are lost. Holds no secret.\n");
        out.push_str(&line);
    }

    /// Comments about the peers that `lane` does not have.
    pub(super) fn left_out(&self, out: &mut String, lane: Lane) {
        if !self.has_key(lane) {
            return out.push_str(&format!("# This node has no key on lane {lane} yet: its peers are left out.\n"));
        }
        for other in self.peers.iter().filter(|other| lane.of(&other.lanes).is_none()) {
            out.push_str(&format!("# {} has no key on lane {lane} yet: left out.\n", other.name));
        }
    }
}
