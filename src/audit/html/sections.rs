//! The sections of the page, in the order of the contents; those on what there is.

use std::collections::{BTreeMap, BTreeSet};

use super::markup::{El, Html, el, of_class};
use super::tables::{Cell, Table};
use super::{circle, graphs, records, short, square, tag, tick, timeline};
use crate::audit::report::{Cryptoperiod, Finding, KeyRow, Report, Section, Timeliness};
use crate::name::{Kind, MemberName};
use crate::policy::wireguard::Shape;
use crate::state::KeyState;
use crate::time::{Span, Time, rough};

/// Rows of a table that a page has; a browser does not get slow with them, and the file stays small.
pub(super) const ROWS_MAX: usize = 1_000;
/// Columns of the matrix.
const MATRIX_MAX: usize = 24;

/// The sections: where, and what they are called.
pub(super) const CONTENTS: &[(&str, &str)] = &[
    ("findings", "Findings"),
    ("figures", "At a glance"),
    ("keys", "Lives of keys"),
    ("rotations", "Rotations"),
    ("access", "Who can decrypt what"),
    ("departures", "Departures"),
    ("approvals", "Approvals"),
    ("trust", "Trust"),
    ("mesh", "Mesh"),
    ("inventory", "Inventory"),
    ("policies", "Policy"),
    ("void", "Void entries"),
    ("silence", "Silence"),
    ("special", "Emergencies and drills"),
    ("ssh", "SSH certificates"),
    ("appendix", "Appendix"),
];

/// All of them.
pub(super) fn all(report: &Report) -> Html {
    let content = |id: &str| match id {
        "findings" => findings(report),
        "figures" => figures(report),
        "keys" => lead(
            "Every key from the day its public half was published. Bars below the middle are standbys, bars above it what is past.",
            timeline::timeline(report),
        ),
        "rotations" => rotations(report),
        "access" => access(report),
        "departures" => records::departures(report),
        "approvals" => records::approvals(report),
        "trust" => trust(report),
        "mesh" => mesh(report),
        "inventory" => inventory(report),
        "policies" => records::policies(report),
        "void" => records::void(report),
        "silence" => records::silence(report),
        "special" => records::special(report),
        "ssh" => records::ssh(report),
        _ => appendix(report),
    };
    let section = |(id, title): &(&'static str, &'static str)| {
        let heading = el("h2").attr("id", format!("{id}-title")).text(title);
        el("section").attr("id", id).attr("aria-labelledby", format!("{id}-title")).add(heading).add(content(id))
    };
    CONTENTS.iter().map(section).collect()
}

pub(super) fn lead(text: &str, rest: impl Into<Html>) -> Html {
    let mut html = Html::from(of_class("p", "lead").text(text));
    html.add(rest);
    html
}

pub(super) fn names<'a>(list: impl IntoIterator<Item = &'a MemberName>) -> String {
    list.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn day(time: Option<Time>) -> Cell {
    Cell::Short(time.map(Time::day).unwrap_or_default())
}

/// To the second, over two lines at most.
pub(super) fn moment(time: Time) -> Cell {
    Cell::Short(time.to_string().replace('T', " ").replace('Z', ""))
}

pub(super) fn entry_link(report: &Report, entry: u64) -> Html {
    // Only what is in the table can be led to.
    let first = report.approvals.len().saturating_sub(ROWS_MAX);
    let shown = report.approvals.get(first..).unwrap_or_default().iter().any(|a| a.entry == entry);
    let text = format!("entry {entry}");
    if shown { el("a").attr("href", format!("#e{entry}")).text(text).into() } else { Html::text(text) }
}

fn place(section: Section) -> &'static str {
    match section {
        Section::Inventory => "inventory",
        Section::Cryptoperiods => "rotations",
        Section::Approvals => "approvals",
        Section::Departures => "departures",
        Section::Access => "access",
        Section::Void => "void",
        Section::Gaps => "silence",
        Section::Emergencies | Section::Drills => "special",
        Section::Policies => "policies",
        Section::Ssh => "ssh",
        Section::Trust => "trust",
        Section::Mesh => "mesh",
    }
}

fn title_of(section: Section) -> &'static str {
    let id = place(section);
    CONTENTS.iter().find(|(found, _)| *found == id).map_or("", |(_, title)| title)
}

fn findings(report: &Report) -> Html {
    if report.findings.is_empty() {
        return of_class("p", "none").add(tick()).text(" Nothing to write up.").into();
    }
    let item = |finding: &Finding| {
        let mut place_line = of_class("span", "where")
            .add(el("a").attr("href", format!("#{}", place(finding.section))).text(title_of(finding.section)));
        if let Some(entry) = finding.entry {
            place_line = place_line.text(", ").add(entry_link(report, entry));
        }
        let text = el("div").add(el("b").text(&finding.subject)).text(&finding.text).add(el("br")).add(place_line);
        el("li").add(tag(finding.severity)).add(text)
    };
    let shown: Html = report.findings.iter().take(ROWS_MAX).map(item).collect();
    let mut html = lead(
        "What somebody would write up: rules of the policy and thresholds of this report that were not kept, then what is worth knowing.",
        of_class("ul", "findings").add(shown),
    );
    if report.findings.len() > ROWS_MAX {
        html.add(of_class("p", "cut").text(format!(
            "{} more are left out here; the JSON of this report has them.",
            report.findings.len() - ROWS_MAX
        )));
    }
    html
}

fn figures(report: &Report) -> Html {
    let figure = |name: &'static str, value: usize, note: String| {
        let label = el("dt").text(name).add(el("small").text(note));
        Html::from(el("div").add(label).add(el("dd").text(value)))
    };
    let state = |s: KeyState| report.keys.iter().filter(|k| k.state == s).count();
    let timely = |t: Timeliness| report.cryptoperiods.iter().filter(|c| c.timeliness == t).count();
    let done = || report.approvals.iter().filter(|a| a.applied > 0);
    let kinds = Kind::ALL.iter().map(|k| (report.count(*k), k)).filter(|(n, _)| *n > 0);
    let members = kinds.map(|(n, k)| format!("{n} {k}")).collect::<Vec<_>>().join(", ");
    let live: Vec<_> = report.secrets.iter().filter(|s| s.sealed.is_some()).collect();
    let late = timely(Timeliness::Late) + timely(Timeliness::Overdue);
    let replaced = timely(Timeliness::InTime) + timely(Timeliness::Early) + timely(Timeliness::Late);
    let items: Html = [
        figure("members", report.members.iter().filter(|m| m.left.is_none()).count(), members),
        figure("active keys", state(KeyState::Active), format!("{} standby", state(KeyState::PreActive))),
        figure("rotations", replaced, format!("{late} late or overdue")),
        figure("secrets", live.len(), format!("{} burned", live.iter().filter(|s| s.burned.is_some()).count())),
        figure("changes", done().count(), format!("{} signed by one person", done().filter(|a| a.alone).count())),
        figure("departures", report.departures.len(), format!("{} void entries", report.void.len())),
    ]
    .into_iter()
    .collect();
    of_class("dl", "figures").attr("data-figures", "").add(items).into()
}

fn rotations(report: &Report) -> Html {
    let mut table = Table::new(
        "t-rotations",
        "Cryptoperiods that ended in the period, or run at its end; what is late comes first",
        &["Slot", "How", "Due", "Active since", "Ended", "After due", "Key"],
    );
    let rank = |c: &&Cryptoperiod| {
        let order = [Timeliness::Overdue, Timeliness::Late, Timeliness::Due, Timeliness::Running];
        order.iter().position(|t| *t == c.timeliness).unwrap_or(order.len())
    };
    let mut rows: Vec<&Cryptoperiod> = report.cryptoperiods.iter().collect();
    rows.sort_by_key(|c| (rank(c), c.due));
    table.leave_out(rows.len().saturating_sub(ROWS_MAX));
    for row in rows.into_iter().take(ROWS_MAX) {
        let bad = matches!(row.timeliness, Timeliness::Overdue | Timeliness::Late);
        let how = if bad {
            of_class("span", "tag bad").add(square()).text(row.timeliness)
        } else {
            el("span").text(row.timeliness)
        };
        let late = if row.late > 0 { rough(Span(row.late)) } else { String::new() };
        let cells = [
            Cell::Html(how.into()),
            day(Some(row.due)),
            day(Some(row.activated)),
            day(row.ended),
            Cell::Short(late),
            key(&row.key),
        ];
        table.row(None, Html::text(format!("{} {}", row.member, row.slot)), cells);
    }
    let grace = rough(crate::audit::GRACE);
    lead(
        &format!("A scheduled rotation cannot come before it is due; up to {grace} after that it is in time."),
        table.finish(),
    )
}

fn key(text: &str) -> Cell {
    Cell::Html(of_class("span", "mono").attr("title", text).text(short(text)).into())
}

fn access(report: &Report) -> Html {
    let readers: BTreeSet<&MemberName> =
        report.secrets.iter().flat_map(|s| s.readers.iter().chain(s.ever.keys())).collect();
    let mut html = lead(
        "From the log alone: to whose keys each value was sealed. Nobody's private half was needed to know it.",
        Html::default(),
    );
    if !report.secrets.is_empty() && readers.len() <= MATRIX_MAX && report.secrets.len() <= ROWS_MAX {
        let key = "A tick: can decrypt it. A ring: could, before. A square: could, and is in wrong hands or lost, and the value has not been replaced.";
        html.add(of_class("p", "matrix-key").text(key));
        html.add(matrix(report, &readers));
    } else if readers.len() > MATRIX_MAX {
        html.add(
            of_class("p", "cut")
                .text(format!("{} readers are too many for a matrix; the table names them.", readers.len())),
        );
    }
    let mut table = Table::new(
        "t-access",
        "Readers of each secret at the end of the period, and ever",
        &["Secret", "Version", "Sealed", "Can decrypt it", "Could decrypt a value of it before", "Burned"],
    );
    table.leave_out(report.secrets.len().saturating_sub(ROWS_MAX));
    for row in report.secrets.iter().take(ROWS_MAX) {
        let before: Vec<String> = row
            .ever
            .iter()
            .filter(|(n, _)| !row.readers.contains(*n))
            .map(|(n, a)| {
                format!("{n} (versions {} to {}, until {})", a.first, a.last, a.until.unwrap_or(report.period.to).day())
            })
            .collect();
        let (sealed, by) =
            row.sealed.clone().map_or((None, "removed".to_owned()), |(at, by)| (Some(at), format!("by {by}")));
        let sealed = of_class("span", "nb")
            .text(sealed.map(Time::day).unwrap_or_default())
            .add(of_class("span", "why").text(by));
        let burned = row.burned.as_ref().map(|(at, by)| format!("{by}, {}", at.day())).unwrap_or_default();
        let burned = if burned.is_empty() {
            Html::default()
        } else {
            of_class("span", "bad").add(square()).text(format!(" {burned}")).into()
        };
        let cells = [
            Cell::Number(row.version.to_string()),
            Cell::Html(sealed.into()),
            Cell::Text(clipped(&names(&row.readers))),
            Cell::Text(clipped(&before.join(", "))),
            Cell::Html(burned),
        ];
        table.row(None, Html::text(&row.address), cells);
    }
    html.add(table.finish());
    html
}

/// A list that could have hundreds of names.
fn clipped(text: &str) -> String {
    crate::text::Shown { text, max: 600 }.to_string()
}

fn matrix(report: &Report, readers: &BTreeSet<&MemberName>) -> Html {
    let heads: Html = std::iter::once(Html::from(el("td").text("secret")))
        .chain(readers.iter().map(|r| el("th").attr("scope", "col").text(r).into()))
        .collect();
    let cell = |row: &crate::audit::SecretRow, reader: &MemberName| {
        let burnt = row.burned.as_ref().is_some_and(|(_, by)| by == reader);
        let (mark, word) = if burnt && row.exposed.contains(reader) {
            (Html::from(of_class("span", "bad").add(square())), "could, and was compromised or lost")
        } else if row.readers.contains(reader) {
            (Html::from(of_class("span", "good").add(tick())), "can decrypt it")
        } else if row.ever.contains_key(reader) {
            (Html::from(of_class("span", "quiet").add(circle())), "could decrypt an earlier value, or this one")
        } else {
            return Html::from(el("td"));
        };
        el("td").attr("title", format!("{reader}: {word}")).add(mark).add(of_class("span", "skip").text(word)).into()
    };
    let row = |row: &crate::audit::SecretRow| {
        let cells: Html = readers.iter().map(|reader| cell(row, reader)).collect();
        el("tr").add(el("th").attr("scope", "row").text(&row.address)).add(cells)
    };
    let table = of_class("table", "matrix")
        .add(el("thead").add(el("tr").add(heads)))
        .add(el("tbody").add(report.secrets.iter().map(row).collect::<Html>()));
    of_class("div", "wide")
        .attr("tabindex", 0)
        .attr("role", "region")
        .attr("aria-label", "Who can decrypt what")
        .add(table)
        .into()
}

fn trust(report: &Report) -> Html {
    let mut table = Table::new(
        "t-trust",
        "Certifications in the certificates at the end of the period",
        &["Certificate of", "Vouched for by", "Since"],
    );
    let mut by: BTreeMap<&MemberName, Vec<&crate::audit::Vouch>> = BTreeMap::new();
    report.vouches.iter().for_each(|v| by.entry(&v.of).or_default().push(v));
    table.leave_out(by.len().saturating_sub(ROWS_MAX));
    for (of, vouches) in by.into_iter().take(ROWS_MAX) {
        let since = vouches.iter().map(|v| v.since).min();
        table.row(None, Html::text(of), [Cell::Text(names(vouches.iter().map(|v| &v.by))), day(since)]);
    }
    let mut html = lead(
        "A line is a certification: whoever is left of it says whose key the other is. How many operators have to is a matter of policy.",
        graphs::trust(report),
    );
    html.add(folded("Who vouches for whom, as a table", table.finish()));
    html
}

fn folded(title: &'static str, content: Html) -> El {
    of_class("details", "more").add(el("summary").text(title)).add(content)
}

fn mesh(report: &Report) -> Html {
    let mut table = Table::new(
        "t-mesh",
        "Places in the mesh at the end of the period",
        &["PoP", "Region", "Index", "Inner addresses", "Reached at", "Lane", "Peers", "Services"],
    );
    table.leave_out(report.mesh.len().saturating_sub(ROWS_MAX));
    for row in report.mesh.iter().take(ROWS_MAX) {
        let services =
            row.services.iter().filter_map(|s| s.service_label()).map(ToString::to_string).collect::<Vec<_>>();
        let cells = [
            Cell::Text(row.region.clone()),
            Cell::Number(row.index.to_string()),
            Cell::Text(row.addresses.join(", ")),
            Cell::Text(row.endpoint.clone().unwrap_or_else(|| "calls others only".to_owned())),
            Cell::Text(row.lane.clone().unwrap_or_default()),
            Cell::Number(row.peers.to_string()),
            Cell::Text(services.join(", ")),
        ];
        table.row(None, Html::text(&row.member), cells);
    }
    let peers = match (report.topology.shape(), report.topology.rules().len()) {
        (Shape::Full, _) => "Every PoP is every other's peer.".to_owned(),
        (Shape::Hub, 0) => "PoPs with the role hub are everybody's peers, others only theirs.".to_owned(),
        (Shape::Groups, 0) => "The PoPs of a region are each other's peers.".to_owned(),
        (Shape::Hub, rules) => {
            format!("PoPs with the role hub are everybody's peers; {rules} rules of the policy join more.")
        }
        (Shape::Groups, rules) => {
            format!("The PoPs of a region are each other's peers; {rules} rules of the policy join more.")
        }
    };
    let lanes = "Two lanes, so that one can change its keys while the other carries.";
    let mut html = lead(&format!("{peers} {lanes}"), graphs::mesh(report));
    html.add(folded("The mesh as a table", table.finish()));
    html
}

fn inventory(report: &Report) -> Html {
    let mut members =
        Table::new("t-members", "Members", &["Member", "Kind", "Joined", "Left", "Certificate", "Expires"]);
    members.leave_out(report.members.len().saturating_sub(ROWS_MAX));
    for row in report.members.iter().take(ROWS_MAX) {
        let left = row.left.map(|(at, why)| format!("{} ({why})", at.day())).unwrap_or_default();
        let kind = if row.root { format!("{}, root", row.kind) } else { row.kind.to_string() };
        let fingerprint = of_class("span", "mono").attr("title", &row.fingerprint).text(short(&row.fingerprint));
        let cells = [
            Cell::Text(kind),
            day(Some(row.enrolled)),
            Cell::Text(left),
            Cell::Html(fingerprint.into()),
            day(row.expires),
        ];
        members.row(None, Html::text(&row.member), cells);
    }
    let mut keys = Table::new(
        "t-keys",
        "Keys that are active or standby at the end of the period",
        &["Key of", "Slot", "State", "Algorithm", "Strength", "Since", "Due", "Key"],
    );
    let live: Vec<&KeyRow> =
        report.keys.iter().filter(|k| matches!(k.state, KeyState::Active | KeyState::PreActive)).collect();
    keys.leave_out(live.len().saturating_sub(ROWS_MAX));
    for row in live.iter().take(ROWS_MAX) {
        let slot = row.lane.as_ref().map_or_else(|| row.slot.to_string(), |lane| format!("{}, lane {lane}", row.slot));
        let strength = row.strength.map(|bits| format!("{bits} bits")).unwrap_or_default();
        let since = row.activated.unwrap_or(row.published);
        let cells = [
            Cell::Text(slot),
            Cell::Short(row.state.to_string()),
            Cell::Text(row.algorithm.clone().unwrap_or_default()),
            Cell::Short(strength),
            day(Some(since)),
            day(row.due),
            key(&row.key),
        ];
        keys.row(None, Html::text(&row.member), cells);
    }
    let past = report.keys.len() - live.len();
    let mut html = lead(
        &format!(
            "As of {}. The {past} keys that are past are drawn above and listed in the JSON of this report.",
            report.period.to
        ),
        el("h3").text("Members"),
    );
    html.add(members.finish());
    html.add(el("h3").text("Keys"));
    html.add(keys.finish());
    html
}

fn appendix(report: &Report) -> Html {
    let list = |items: &[String]| el("ul").add(items.iter().map(|text| el("li").text(text)).collect::<Html>());
    let mut html = Html::from(el("h3").text("What was checked"));
    html.add(list(&report.checked));
    html.add(el("h3").text("What was not checked"));
    html.add(list(&report.not_checked));
    html.add(el("h3").text("Thresholds"));
    let spans: Vec<String> =
        report.thresholds.iter().map(|(name, seconds)| format!("{name}: {}", rough(Span(*seconds)))).collect();
    html.add(list(&spans));
    html.add(el("h3").text("Requirements that this helps to answer"));
    let mut table = Table::new(
        "t-mapping",
        "By number: PCI DSS 4.0.1, trust services criteria (SOC 2), NIST SP 800-57 part 1 revision 5",
        &["Section", "What it shows", "PCI DSS", "SOC 2", "SP 800-57"],
    );
    for row in &report.mapping {
        let name = el("a").attr("href", format!("#{}", place(row.section))).text(row.section);
        let join = |list: &[&str]| Cell::Text(list.join(", "));
        table.row(
            None,
            name,
            [Cell::Text(row.shows.to_owned()), join(row.pci_dss), join(row.soc2), join(row.sp800_57)],
        );
    }
    html.add(table.finish());
    html.add(el("h3").text("How to verify this without keys"));
    let text = "Each entry is a text that its signers signed with OpenPGP; the root hash covers all of them. A bundle has the entries, the signatures, the certificates and three short scripts, which need sha256sum, openssl and gpg.";
    html.add(el("p").text(text));
    let commands = "keys audit bundle --out audit.tar     # once, by whoever has keys\ntar -xf audit.tar\nsh audit/verify-files.sh              # shows the fleet id: compare it\nsh audit/verify-log.sh                # shows whether the root hash above is theirs\nsh audit/verify-signatures.sh";
    html.add(el("pre").text(commands));
    html
}
