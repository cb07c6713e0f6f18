//! Two drawings: who vouches for whom, and who speaks to whom. A table says the same in words; a big fleet is drawn in part,
//! and the drawing says so.

use std::collections::{BTreeMap, BTreeSet};

use super::clipped;
use super::markup::{El, Html, el, of_class};
use super::ring::{Belongs, Ring, RingNode};
use crate::audit::report::{MemberRow, Report};
use crate::name::{Kind, MemberName};
use crate::policy::wireguard::{Marks, Site};

/// Sites drawn one by one.
const SITES_MAX: usize = 24;
/// Columns of the trust graph: left edge and width.
const COLUMNS: [(u32, u32); 3] = [(8, 170), (295, 170), (582, 200)];
const BOX: u32 = 40;
const STEP: u32 = 54;

/// The trust graph: operators, authorities, PoPs with their services.
pub(super) fn trust(report: &Report) -> Html {
    let there = |kind: Kind| report.members.iter().filter(|m| m.kind == kind && m.left.is_none()).collect::<Vec<_>>();
    let (operators, authorities, all) = (there(Kind::Operator), there(Kind::Authority), there(Kind::Pop));
    let pops: Vec<&MemberRow> = all.iter().take(SITES_MAX).copied().collect();
    let columns = [&operators, &authorities, &pops];
    let tallest = columns.iter().map(|c| c.len()).max().unwrap_or(0).max(1);
    let height = u32::try_from(tallest).unwrap_or(u32::MAX).saturating_mul(STEP).saturating_add(36);
    let mut places: BTreeMap<&MemberName, (usize, u32)> = BTreeMap::new();
    for (column, rows) in columns.iter().enumerate() {
        let used = u32::try_from(rows.len()).unwrap_or(0).saturating_mul(STEP);
        let top = 30 + (height - 36).saturating_sub(used) / 2;
        for (n, row) in (0u32..).zip(rows.iter()) {
            places.insert(&row.member, (column, top + n * STEP));
        }
    }
    let mut drawn = Html::default();
    for vouch in &report.vouches {
        let (Some(from), Some(to)) = (places.get(&vouch.by), places.get(&vouch.of)) else { continue };
        if from.0 < to.0 {
            let title = el("title").text(format!("{} vouches for {} since {}", vouch.by, vouch.of, vouch.since.day()));
            drawn.add(edge(*from, *to).add(title));
        }
    }
    let services: BTreeMap<MemberName, Vec<String>> = there(Kind::Service).iter().fold(BTreeMap::new(), |mut by, m| {
        let label = m.member.service_label().map(ToString::to_string).unwrap_or_default();
        by.entry(m.member.owner()).or_insert_with(Vec::new).push(label);
        by
    });
    let vouched: BTreeSet<&MemberName> = report.vouches.iter().map(|v| &v.of).collect();
    for (column, rows) in columns.iter().enumerate() {
        for row in rows.iter() {
            let Some((_, y)) = places.get(&row.member) else { continue };
            let below = match row.kind {
                Kind::Operator if row.root => "root".to_owned(),
                Kind::Operator => "operator".to_owned(),
                Kind::Authority => "authority".to_owned(),
                Kind::Pop | Kind::Service => {
                    services.get(&row.member).map(|s| s.join(", ")).unwrap_or_else(|| "no services".to_owned())
                }
            };
            let lonely = row.kind != Kind::Operator && !vouched.contains(&row.member);
            drawn.add(node(column, *y, row, &below, lonely));
        }
    }
    let heads = ["Operators", "vouch for authorities", "who vouch for PoPs"];
    let heads: Html = heads
        .iter()
        .zip(COLUMNS)
        .map(|(text, (x, _))| of_class("text", "head").attr("x", x).attr("y", 14).text(text))
        .collect();
    let label = format!(
        "{} operators, {} authorities and {} PoPs, with lines from who vouches to whom",
        operators.len(),
        authorities.len(),
        pops.len()
    );
    let svg = el("svg").attr("viewBox", format!("0 0 790 {height}")).attr("role", "img").attr("aria-label", label);
    let mut html = Html::from(scroller("The trust graph").add(of_class("div", "graph").add(svg.add(heads).add(drawn))));
    html.add(cut(all.len(), "PoPs"));
    html
}

/// What is not drawn.
fn cut(all: usize, what: &str) -> Html {
    match all.checked_sub(SITES_MAX) {
        Some(more) if more > 0 => of_class("p", "cut")
            .text(format!(
                "The first {SITES_MAX} of {all} {what} are drawn; {more} are left out here and stand in the tables."
            ))
            .into(),
        _ => Html::default(),
    }
}

fn scroller(label: &'static str) -> El {
    of_class("div", "wide").attr("tabindex", 0).attr("role", "region").attr("aria-label", label)
}

fn edge((from, y1): (usize, u32), (to, y2): (usize, u32)) -> El {
    let start = COLUMNS.get(from).map_or(0, |(x, w)| x + w);
    let end = COLUMNS.get(to).map_or(0, |(x, _)| *x);
    let (y1, y2, bend) = (y1 + BOX / 2, y2 + BOX / 2, (end.saturating_sub(start)) / 2);
    let path = format!("M{start} {y1}C{} {y1} {} {y2} {end} {y2}", start + bend, end.saturating_sub(bend));
    of_class("path", "vouch").attr("d", path)
}

fn node(column: usize, y: u32, row: &MemberRow, below: &str, lonely: bool) -> Html {
    let (x, width) = COLUMNS.get(column).copied().unwrap_or_default();
    let class = match (row.kind, lonely) {
        (_, true) => "node lonely",
        (Kind::Operator, _) => "node person",
        (Kind::Authority, _) => "node authority",
        (Kind::Pop | Kind::Service, _) => "node",
    };
    let round = if row.kind == Kind::Operator { 20 } else { 6 };
    let frame = el("rect")
        .attr("class", class)
        .attr("x", x)
        .attr("y", y)
        .attr("width", width)
        .attr("height", BOX)
        .attr("rx", round);
    let at = |dy: u32| el("text").attr("x", x + 14).attr("y", y + dy);
    let note = if lonely { "nobody vouches for it" } else { below };
    let title = el("title").text(format!("{} {}: {note}", row.kind, row.member));
    let lines = [
        Html::from(frame.add(title)),
        at(17).attr("class", "strong").text(clipped(&row.member.to_string(), 22)).into(),
        at(32).attr("class", "small").text(clipped(note, 30)).into(),
    ];
    lines.into_iter().collect()
}

/// The mesh: who is whose peer. A large one is drawn by region, with a line where any two of two regions are peers.
pub(super) fn mesh(report: &Report) -> Html {
    let mut regions: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &report.mesh {
        *regions.entry(row.region.as_str()).or_default() += 1;
    }
    let by_region = report.mesh.len() > SITES_MAX;
    // Name, note below it.
    let nodes: Vec<(String, String)> = if by_region {
        regions.iter().map(|(region, n)| ((*region).to_owned(), format!("{n} PoPs"))).take(SITES_MAX).collect()
    } else {
        let note = |row: &crate::audit::report::MeshRow| match (&row.lane, &row.endpoint) {
            (Some(lane), Some(_)) => format!("lane {lane}"),
            (Some(lane), None) => format!("lane {lane}, calls only"),
            (None, _) => "no key".to_owned(),
        };
        report.mesh.iter().map(|row| (row.member.to_string(), note(row))).collect()
    };
    if nodes.is_empty() {
        return el("p").text("There is no PoP in the mesh.").into();
    }
    let count = nodes.len();
    let height = if count <= 2 { 60.0 } else { 380.0 };
    // What is drawn as one, by all that the topology goes by.
    let mut marks: Vec<BTreeSet<Marks<'_>>> = vec![BTreeSet::new(); count];
    for (n, row) in report.mesh.iter().enumerate() {
        let site = Site { name: &row.member, region: &row.region, roles: &row.roles };
        let place = if by_region { regions.keys().position(|region| *region == row.region) } else { Some(n) };
        if let Some(drawn) = place.and_then(|place| marks.get_mut(place)) {
            drawn.insert(report.topology.marks(&site));
        }
    }
    let joined = |a: usize, b: usize| {
        let (Some(a), Some(b)) = (marks.get(a), marks.get(b)) else { return false };
        a.iter().any(|a| b.iter().any(|b| report.topology.joined(a, b)))
    };
    let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    let ring = Ring {
        edges: pairs.filter(|(a, b)| joined(*a, *b)).collect(),
        nodes: nodes.into_iter().map(|(name, note)| RingNode { name, note, belongs: Belongs::Inside }).collect(),
    };
    let drawn = ring.drawn((395.0, height / 2.0), (300.0, 140.0));
    let label = format!("{} PoPs, with lines between those that are peers", report.mesh.len());
    let svg = el("svg")
        .attr("viewBox", format!("0 0 790 {height:.0}"))
        .attr("role", "img")
        .attr("aria-label", label)
        .add(drawn);
    let mut html = Html::from(scroller("The mesh").add(of_class("div", "graph").add(svg)));
    if by_region {
        let text = format!(
            "{} PoPs are drawn by region, with a line where any two of two regions are peers; the table names each.",
            report.mesh.len()
        );
        html.add(of_class("p", "cut").text(text));
    }
    html
}
