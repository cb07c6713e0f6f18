//! The report as a page: one file that asks nobody for anything. Its policy forbids every request and every style and script
//! but its own; what came from others is text in it (see [`markup`]). It can be read without the script, on a telephone, in the
//! dark and on paper. A big fleet is shown in part, and wherever something is left out the page says so.

mod graphs;
mod markup;
mod records;
mod ring;
mod sections;
mod tables;
mod timeline;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::report::{Report, Severity};
use crate::digest::Digest;
use crate::text;
use markup::{El, Html, el, of_class};

pub use ring::{Belongs, Ring, RingNode};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The page.
pub fn page(report: &Report) -> String {
    let body = el("body")
        .add(of_class("a", "skip").attr("href", "#findings").text("To the findings"))
        .add(timeline::patterns())
        .add(
            of_class("div", "shell")
                .add(cover(report))
                .add(contents())
                .add(el("main").add(sections::all(report)))
                .add(footer(report)),
        )
        .add(el("script").add(Html::ours(SCRIPT)));
    let html = el("html").attr("lang", "en").add(head(report)).add(body);
    format!("<!doctype html>\n{}\n", Html::from(html).into_string())
}

/// At most so many characters of it.
fn clipped(text: &str, max: usize) -> String {
    text::Shown { text, max }.to_string()
}

fn head(report: &Report) -> El {
    let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(Digest::of(text.as_bytes()).0));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    el("head")
        .add(el("meta").attr("charset", "utf-8"))
        .add(el("meta").attr("http-equiv", "Content-Security-Policy").attr("content", policy))
        .add(el("meta").attr("name", "viewport").attr("content", "width=device-width, initial-scale=1"))
        .add(el("meta").attr("name", "referrer").attr("content", "no-referrer"))
        .add(el("meta").attr("name", "color-scheme").attr("content", "light dark"))
        .add(el("title").text(format!(
            "Audit of {}, {} to {}",
            report.fleet,
            report.period.from.day(),
            report.period.to.day()
        )))
        .add(el("style").add(Html::ours(STYLE)))
}

fn cover(report: &Report) -> El {
    let (exceptions, remarks) = (report.exceptions().count(), report.remarks().count());
    let verdict =
        |class: &'static str, mark: Html, text: String| Html::from(el("li").attr("class", class).add(mark).text(text));
    let first = if exceptions == 0 { "good" } else { "bad" };
    let shape = if exceptions == 0 { tick() } else { square() };
    let verdicts: Html = [
        verdict("good", tick(), "Record sound".to_owned()),
        verdict(first, shape, counted(exceptions, "exception")),
        verdict("quiet", circle(), counted(remarks, "remark")),
    ]
    .into_iter()
    .collect();
    let fact = |name: &'static str, value: El| {
        [Html::from(el("dt").text(name)), el("dd").add(value).into()].into_iter().collect::<Html>()
    };
    let mono = |text: String| of_class("span", "mono").text(text);
    let plain = |text: String| el("span").text(text);
    let log = &report.log;
    let entries = format!("{} in the period; {} in the log, all replayed and verified", log.entries, log.size);
    let facts: Html = [
        fact("Fleet id", mono(report.id.to_string())),
        fact("Log", mono(log.name.clone())),
        fact("Entries", plain(entries)),
        fact("Root hash", mono(log.root.to_string())),
        fact("Head signed by", plain(log.signed_by.join(", "))),
        log.published.as_ref().map(|p| fact("Published", plain(p.in_words()))).unwrap_or_default(),
        fact("Newest entry", plain(log.newest.to_string())),
    ]
    .into_iter()
    .collect();
    of_class("header", "cover")
        .add(of_class("p", "eyebrow").text("Audit report"))
        .add(el("h1").text(&report.fleet))
        .add(of_class("p", "period").text(format!("{} to {}", report.period.from, report.period.to)))
        .add(of_class("ul", "verdicts").attr("aria-label", "Result").add(verdicts))
        .add(of_class("dl", "facts").add(facts))
}

fn contents() -> El {
    let items: Html = sections::CONTENTS
        .iter()
        .map(|(id, title)| el("li").add(el("a").attr("href", format!("#{id}")).text(title)))
        .collect();
    of_class("nav", "contents").attr("aria-label", "Contents").add(el("ul").add(items))
}

fn footer(report: &Report) -> El {
    let text = format!(
        "Made by keys {} from {} entries of the log {}. Times are those of the log, in UTC.",
        env!("CARGO_PKG_VERSION"),
        report.log.size,
        report.log.name
    );
    el("footer").text(text)
}

/// `no exceptions`, `1 exception`, `7 exceptions`.
fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("No {what}s"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// A key, shortened for people: its last characters.
fn short(key: &str) -> String {
    let skip = key.chars().count().saturating_sub(12);
    let tail: String = key.chars().skip(skip).collect();
    if skip > 0 { format!("…{tail}") } else { tail }
}

fn mark(path: El) -> Html {
    el("svg")
        .attr("width", 16)
        .attr("height", 16)
        .attr("viewBox", "0 0 16 16")
        .attr("aria-hidden", "true")
        .add(path)
        .into()
}

fn tick() -> Html {
    mark(
        el("path")
            .attr("d", "M3 8.5L6.5 12L13 4.5")
            .attr("fill", "none")
            .attr("stroke", "currentColor")
            .attr("stroke-width", "2"),
    )
}

fn square() -> Html {
    mark(el("rect").attr("x", 3).attr("y", 3).attr("width", 10).attr("height", 10).attr("fill", "currentColor"))
}

fn circle() -> Html {
    mark(
        el("circle")
            .attr("cx", 8)
            .attr("cy", 8)
            .attr("r", 4.5)
            .attr("fill", "none")
            .attr("stroke", "currentColor")
            .attr("stroke-width", "2"),
    )
}

/// The mark and the word of a severity: shape and word say what its colour says.
fn tag(severity: Severity) -> El {
    match severity {
        Severity::Exception => of_class("span", "tag bad").add(square()).text("Exception"),
        Severity::Remark => of_class("span", "tag warn").add(circle()).text("Remark"),
    }
}
