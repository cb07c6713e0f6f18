//! Nodes on a ring, with lines between those that are peers: a part of the page, and a drawing by itself. What a colour or a
//! dash says stands in words, too: below each name, and in the title of each line.

use super::markup::{El, Html, el, of_class};

/// The frame of a node.
const WIDTH: f64 = 124.0;
const HEIGHT: f64 = 40.0;
/// From the middle of one frame to that of the next, side by side.
const STEP: f64 = 136.0;
/// The style of a drawing by itself, light and dark.
const STYLE: &str = "svg{--paper:#fbfaf7;--raised:#fff;--ink:#1c2227;--quiet:#586169;--past:#8a9299;--accent:#0b5566;\
    background:var(--paper);font-family:system-ui,sans-serif}\
    @media(prefers-color-scheme:dark){svg{--paper:#13171a;--raised:#1a1f23;--ink:#e7e4dd;--quiet:#a2abb1;--past:#78838b;--accent:#7fc8d8}}\
    text{fill:var(--ink);font-size:13px}.strong{font-weight:650}.small{fill:var(--quiet);font-size:11.5px}\
    .node{fill:var(--raised);stroke:var(--past)}.outside{stroke:var(--accent);stroke-dasharray:5 4}\
    .peer{stroke:var(--past);stroke-width:.8;opacity:.6}.to-outside{stroke:var(--accent);stroke-dasharray:5 4}";

/// Whether a node is one of the mesh or a peer without an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belongs {
    /// A node.
    Inside,
    /// A peer without an agent: its frame and its lines are dashed.
    Outside,
}

/// A node of a drawing.
#[derive(Debug, Clone)]
pub struct RingNode {
    /// Its name.
    pub name: String,
    /// What stands below the name.
    pub note: String,
    /// What it is.
    pub belongs: Belongs,
}

/// Nodes in the order in which they stand, and the pairs that are peers, by place.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    /// The nodes, the first on top.
    pub nodes: Vec<RingNode>,
    /// The pairs.
    pub edges: Vec<(usize, usize)>,
}

impl Ring {
    /// The drawing as a file: SVG 1.1 that needs nothing else.
    pub fn to_svg(&self, title: &str) -> String {
        let count = self.nodes.len() as f64;
        let radius = (count * STEP / std::f64::consts::TAU).max(if count > 1.0 { STEP } else { 0.0 });
        let (width, height) = (2.0 * radius + WIDTH + 20.0, 2.0 * radius + HEIGHT + 20.0);
        let svg = el("svg")
            .attr("xmlns", "http://www.w3.org/2000/svg")
            .attr("viewBox", format!("0 0 {width:.0} {height:.0}"))
            .attr("role", "img")
            .attr("aria-label", title)
            .add(el("title").text(title))
            .add(el("style").add(Html::ours(STYLE)))
            .add(self.drawn((width / 2.0, height / 2.0), (radius, radius)));
        format!("{}\n", Html::from(svg).into_string())
    }

    /// The nodes and lines on an ellipse around `centre`.
    pub(super) fn drawn(&self, centre: (f64, f64), radii: (f64, f64)) -> Html {
        let count = self.nodes.len();
        // Two stand side by side; more in a ring, the first on top.
        let first = if count == 2 { std::f64::consts::PI } else { -std::f64::consts::FRAC_PI_2 };
        let place = |n: usize| {
            let turn = std::f64::consts::TAU * (n as f64) / (count.max(1) as f64) + first;
            let radii = if count == 1 { (0.0, 0.0) } else { radii };
            (centre.0 + radii.0 * turn.cos(), centre.1 + radii.1 * turn.sin())
        };
        let lines = self.edges.iter().filter_map(|(a, b)| {
            let (one, other) = (self.nodes.get(*a)?, self.nodes.get(*b)?);
            let ((x1, y1), (x2, y2)) = (place(*a), place(*b));
            let outside = [one, other].iter().any(|node| node.belongs == Belongs::Outside);
            let (class, what) = match outside {
                true => ("peer to-outside", ", which has no agent"),
                false => ("peer", ""),
            };
            let line = of_class("line", class).attr("x1", round(x1)).attr("y1", round(y1));
            let line = line.attr("x2", round(x2)).attr("y2", round(y2));
            Some(line.add(el("title").text(format!("{} and {}{what}", one.name, other.name))))
        });
        let mut drawn: Html = lines.collect();
        for (n, node) in self.nodes.iter().enumerate() {
            drawn.add(frame(node, place(n)));
        }
        drawn
    }
}

fn frame(node: &RingNode, (x, y): (f64, f64)) -> Html {
    let RingNode { name, note, belongs } = node;
    let class = match belongs {
        Belongs::Inside => "node",
        Belongs::Outside => "node outside",
    };
    let frame = of_class("rect", class)
        .attr("x", round(x - WIDTH / 2.0))
        .attr("y", round(y - HEIGHT / 2.0))
        .attr("width", WIDTH)
        .attr("height", HEIGHT)
        .attr("rx", 6);
    let text =
        |dy: f64| -> El { el("text").attr("x", round(x)).attr("y", round(y + dy)).attr("text-anchor", "middle") };
    let mut html = Html::from(frame.add(el("title").text(format!("{name}: {note}"))));
    html.add(text(-3.0).attr("class", "strong").text(super::clipped(name, 16)));
    html.add(text(12.0).attr("class", "small").text(super::clipped(note, 20)));
    html
}

fn round(value: f64) -> String {
    format!("{value:.1}")
}
