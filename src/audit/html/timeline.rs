//! The lives of keys, drawn: a row a slot, a bar a key. Positions are per cent of the width, so that a row fits a telephone as
//! well as a sheet of paper, and its text keeps its size. Shapes and hatching say what colours say.

use std::collections::BTreeMap;

use super::markup::{El, Html, el, of_class};
use crate::audit::report::{KeyRow, Report};
use crate::name::{Kind, MemberName, Slot};
use crate::state::KeyState;
use crate::time::{Span, Time};

/// Keys of one slot that are drawn; of older ones the row says how many there are.
const KEYS_SHOWN: usize = 12;
/// Sites up to which their rows are open at first.
const OPEN_MAX: usize = 8;
/// Sites that are drawn at all.
const SITES_MAX: usize = 200;
/// Height of a row in pixels, and of the bars in it.
const ROW: u32 = 26;

/// The keys of a machine and of its services, by member and slot.
type Site<'a> = BTreeMap<&'a MemberName, BTreeMap<Slot, Vec<&'a KeyRow>>>;

/// The time that is drawn.
#[derive(Clone, Copy)]
struct Axis {
    from: Time,
    to: Time,
}

impl Axis {
    /// Where a time stands, in per cent with two decimals.
    fn at(&self, time: Time) -> String {
        let (part, whole) = (time.min(self.to).since(self.from).0, self.to.since(self.from).0.max(1));
        let hundredths = part.saturating_mul(10_000) / whole;
        format!("{}.{:02}%", hundredths / 100, hundredths % 100)
    }

    fn width(&self, from: Time, to: Time) -> String {
        let (a, b) = (from.max(self.from).min(self.to), to.max(self.from).min(self.to));
        let hundredths = b.since(a).0.saturating_mul(10_000) / self.to.since(self.from).0.max(1);
        // A bar of no width would not be seen.
        let hundredths = hundredths.max(15);
        format!("{}.{:02}%", hundredths / 100, hundredths % 100)
    }

    /// Times worth a mark: first days of months, days, or hours, as many as are readable.
    fn ticks(&self) -> Vec<(Time, String)> {
        let whole = self.to.since(self.from).0;
        let steps =
            [3_600, 6 * 3_600, 86_400, 7 * 86_400, 14 * 86_400, 30 * 86_400, 91 * 86_400, 182 * 86_400, 365 * 86_400];
        let step = steps.into_iter().find(|s| whole / s <= 6).unwrap_or(5 * 365 * 86_400);
        let first = self.from.0.div_ceil(step) * step;
        let label = |time: Time| {
            let text = time.to_string();
            let (day, clock) = (text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
            if step < 86_400 { clock.to_owned() } else { day.to_owned() }
        };
        (0..).map(|n| Time(first + n * step)).take_while(|t| *t <= self.to).map(|t| (t, label(t))).collect()
    }
}

/// Patterns that every drawing of the page may use.
pub(super) fn patterns() -> Html {
    let stripe = |id: &'static str, class: &'static str, turn: &'static str| {
        let line = el("line").attr("x1", 0).attr("y1", 0).attr("x2", 0).attr("y2", 6).attr("class", class);
        let size = |p: El| p.attr("width", 6).attr("height", 6).attr("patternUnits", "userSpaceOnUse");
        size(el("pattern").attr("id", id)).attr("patternTransform", turn).add(line)
    };
    let cross = el("pattern")
        .attr("id", "p-comp")
        .attr("width", 5)
        .attr("height", 5)
        .attr("patternUnits", "userSpaceOnUse")
        .add(el("path").attr("d", "M0 0L5 5M5 0L0 5").attr("class", "h-comp"));
    let defs = el("defs").add(stripe("p-past", "h-past", "rotate(45)")).add(cross);
    of_class("svg", "defs").attr("width", 0).attr("height", 0).attr("aria-hidden", "true").add(defs).into()
}

/// What the shapes mean.
fn legend() -> Html {
    let item = |draw: Html, text: &'static str| {
        let svg = el("svg").attr("width", 34).attr("height", 20).attr("aria-hidden", "true").add(draw);
        el("li").add(svg).text(text)
    };
    let bar = |class: &'static str, y: u32, height: u32| {
        Html::from(
            el("rect")
                .attr("class", class)
                .attr("x", 1)
                .attr("y", y)
                .attr("width", 32)
                .attr("height", height)
                .attr("rx", 2),
        )
    };
    let items = [
        item(bar("k-standby", 13, 5), "standby (pre-active)"),
        item(bar("k-active", 5, 10), "active"),
        item(bar("k-past", 2, 5), "deactivated, still opens what is old"),
        item(bar("k-comp", 5, 10), "compromised"),
        item(cross("50%", 10).into(), "destroyed"),
        item(due("50%").into(), "rotation due"),
    ];
    of_class("ul", "legend").add(items.into_iter().collect::<Html>()).into()
}

fn cross(x: &str, y: u32) -> El {
    // A nested drawing, because a per cent and pixels do not add up in one path.
    let path =
        el("path").attr("d", format!("M-4 {}L4 {}M4 {}L-4 {}", y - 4, y + 4, y - 4, y + 4)).attr("class", "k-gone");
    el("svg").attr("x", x).attr("y", 0).attr("class", "mark").add(path)
}

fn due(x: &str) -> El {
    let path = el("path").attr("d", "M0 6L0 22M-4 0L4 0L0 6Z").attr("class", "k-due");
    el("svg").attr("x", x).attr("y", 0).attr("class", "mark").add(path)
}

/// The section's content.
pub(super) fn timeline(report: &Report) -> Html {
    let Some(first) = report.keys.iter().map(|k| k.published).min() else { return Html::default() };
    let axis = Axis { from: first, to: report.period.to.max(first.plus(Span(1))) };
    let mut groups: BTreeMap<(Kind, MemberName), Site<'_>> = BTreeMap::new();
    let kinds: BTreeMap<&MemberName, Kind> = report.members.iter().map(|m| (&m.member, m.kind)).collect();
    for key in &report.keys {
        let owner = key.member.owner();
        // Services stand with their machine.
        let kind = if key.kind == Kind::Service { Kind::Pop } else { kinds.get(&owner).copied().unwrap_or(key.kind) };
        groups.entry((kind, owner)).or_default().entry(&key.member).or_default().entry(key.slot).or_default().push(key);
    }
    let many = groups.len() > OPEN_MAX;
    let mut html = legend();
    html.add(zoom());
    for (n, ((kind, name), members)) in groups.iter().enumerate().take(SITES_MAX) {
        let keys = members.values().flat_map(BTreeMap::values).map(Vec::len).sum::<usize>();
        let summary = el("summary")
            .add(el("b").text(name))
            .add(of_class("span", "kind").text(kind))
            .add(of_class("span", "quiet").text(format!("{keys} keys")));
        let rows: Html = members
            .iter()
            .flat_map(|(m, slots)| slots.iter().map(move |(slot, keys)| row(&axis, m, *slot, keys)))
            .collect();
        let body = of_class("div", "tl").add(scale(&axis)).add(rows);
        let details = of_class("details", "group").add(summary).add(body);
        html.add(if many && n >= OPEN_MAX { details } else { details.flag("open") });
    }
    if let Some(more) = groups.len().checked_sub(SITES_MAX).filter(|more| *more > 0) {
        let text = format!("The keys of {more} more members are left out here; the JSON of this report has them.");
        html.add(of_class("p", "cut").text(text));
    }
    html
}

/// Buttons that only a script can serve; it shows them.
fn zoom() -> Html {
    let button = |days: u32, text: &'static str| {
        let pressed = if days == 0 { "true" } else { "false" };
        el("button").attr("type", "button").attr("data-days", days).attr("aria-pressed", pressed).text(text)
    };
    let buttons =
        [button(0, "Whole life"), button(365, "Last year"), button(90, "Last 90 days"), button(14, "Last 14 days")];
    of_class("div", "zoom")
        .attr("role", "group")
        .attr("aria-label", "Time shown")
        .flag("hidden")
        .add(buttons.into_iter().collect::<Html>())
        .into()
}

fn scale(axis: &Axis) -> Html {
    let tick = |(time, label): (Time, String)| {
        let x = axis.at(time);
        let line = el("line").attr("x1", &x).attr("x2", &x).attr("y1", 14).attr("y2", 20).attr("class", "tick");
        [Html::from(line), el("text").attr("x", x).attr("y", 11).text(label).into()].into_iter().collect::<Html>()
    };
    let svg = of_class("svg", "scale").attr("width", "100%").attr("height", 20).attr("aria-hidden", "true");
    let svg = svg.attr("data-from", axis.from.0).attr("data-to", axis.to.0);
    of_class("div", "row scale-row")
        .add(of_class("div", "name"))
        .add(svg.add(axis.ticks().into_iter().map(tick).collect::<Html>()))
        .into()
}

fn row(axis: &Axis, member: &MemberName, slot: Slot, keys: &[&KeyRow]) -> Html {
    let shown = keys.get(keys.len().saturating_sub(KEYS_SHOWN)..).unwrap_or_default();
    let hidden = keys.len() - shown.len();
    let active = keys.iter().find(|k| k.state == KeyState::Active);
    let standing = match (active, keys.last()) {
        (Some(key), _) => {
            let due = key.due.map(|d| format!(", due {}", d.day())).unwrap_or_default();
            format!("since {}{due}", key.activated.unwrap_or(key.published).day())
        }
        (None, Some(key)) => format!("none active, newest {}", key.state),
        (None, None) => String::new(),
    };
    let more = if hidden > 0 { format!("; {hidden} earlier not drawn") } else { String::new() };
    let label = of_class("div", "name")
        .add(of_class("span", "member").text(member))
        .add(of_class("span", "slot").text(slot))
        .add(of_class("span", "quiet").text(format!("{standing}{more}")));
    let bars: Html = shown.iter().flat_map(|key| bars(axis, key)).collect();
    let svg = el("svg")
        .attr("width", "100%")
        .attr("height", ROW)
        .attr("role", "img")
        .attr("aria-label", format!("{slot} of {member}: {} keys, {standing}", keys.len()))
        .add(bars);
    of_class("div", "row").add(label).add(svg).into()
}

/// A key's bars: standby below, active in the middle, past above.
fn bars(axis: &Axis, key: &KeyRow) -> Vec<Html> {
    let end = key.destroyed.unwrap_or(axis.to).min(axis.to);
    let name = super::short(&key.key);
    let mut found = Vec::new();
    let mut bar = |class: &'static str, (y, height): (u32, u32), from: Time, to: Time, word: &str| {
        let until = if to >= axis.to { "now".to_owned() } else { to.day() };
        let title = el("title").text(format!("{name} {word}, {} to {until}", from.day()));
        let rect =
            el("rect").attr("class", class).attr("x", axis.at(from)).attr("y", y).attr("width", axis.width(from, to));
        found.push(Html::from(rect.attr("height", height).add(title)));
    };
    let stopped = [key.ended(), Some(end)].into_iter().flatten().min().unwrap_or(end);
    let began = key.activated.unwrap_or(stopped);
    if began > key.published {
        bar("k-standby", (18, 5), key.published, began.min(stopped), "standby");
    }
    if let Some(from) = key.activated {
        bar("k-active", (8, 10), from, stopped, "active");
    }
    if let Some(from) = key.deactivated {
        bar("k-past", (1, 5), from, key.compromised.unwrap_or(end).min(end), "deactivated");
    }
    if let Some(from) = key.compromised {
        bar("k-comp", (8, 10), from, end, "compromised");
    }
    if let Some(at) = key.destroyed {
        let title = el("title").text(format!("{name} destroyed, {}", at.day()));
        found.push(cross(&axis.at(at), 6).add(title).into());
    }
    if let Some(at) =
        key.due.filter(|at| (axis.from..=axis.to).contains(at) && key.ended().is_none_or(|end| end >= *at))
    {
        let title = el("title").text(format!("{name} due, {}", at.day()));
        found.push(due(&axis.at(at)).add(title).into());
    }
    found
}
