//! Sections on what happened: approvals, departures, policies, what was void, silence, emergencies, SSH certificates.

use super::markup::{Html, el, of_class};
use super::sections::{ROWS_MAX, entry_link, lead, moment, names};
use super::square;
use super::tables::{Cell, Table};
use crate::audit::report::{Departure, Measure, Report, Special};
use crate::time::{Span, rough};

pub(super) fn departures(report: &Report) -> Html {
    let mut table = Table::new(
        "t-departures",
        "Who left, and what followed for what they could read",
        &["Member", "Why", "Reported", "In the log after", "Decided by", "What followed"],
    );
    for row in &report.departures {
        let cells = [
            Cell::Text(row.why.to_string()),
            moment(row.reported),
            Cell::Short(rough(Span(row.delay))),
            Cell::Text(names(&row.signers)),
            Cell::Html(followed(report, row)),
        ];
        table.row(None, Html::text(&row.member), cells);
    }
    lead(
        "From the moment it is in the log nobody who replays it trusts the member. What it could read has to be replaced if its keys are in wrong hands, and resealed otherwise.",
        table.finish(),
    )
}

fn followed(report: &Report, row: &Departure) -> Html {
    if row.secrets.is_empty() {
        return Html::text("it could read nothing");
    }
    let mut html = Html::default();
    for (address, up) in &row.secrets {
        let line = of_class("div", "follow").text(address).text(": ");
        html.add(match (up.done, up.after) {
            (Some(done), Some(after)) => line
                .text(format!("{done} after {}, ", rough(Span(after))))
                .add(up.entry.map(|e| entry_link(report, e)).unwrap_or_default()),
            _ if up.needed == Measure::Renewed => line.add(of_class("span", "bad").add(square()).text(" not replaced")),
            _ => line.text("not yet resealed"),
        });
    }
    html
}

pub(super) fn approvals(report: &Report) -> Html {
    let mut table = Table::new(
        "t-approvals",
        "Every entry of the period, the newest first",
        &["Entry", "Act", "About", "Proposed", "Signed by", "Needed", "Delay"],
    );
    table.leave_out(report.approvals.len().saturating_sub(ROWS_MAX));
    for row in report.approvals.iter().rev().take(ROWS_MAX) {
        let mut about = el("span").text(crate::text::Shown { text: &row.about.join(", "), max: 160 });
        if !row.reason.is_empty() {
            about = about.add(of_class("span", "why").add(el("q").text(&row.reason)));
        }
        let proposed = el("span")
            .text(row.at.to_string().replace('T', " ").replace('Z', ""))
            .add(of_class("span", "why").text(format!("by {}", row.by)));
        let mut signed = el("span").text(names(&row.signers));
        if row.alone {
            signed = signed.add(of_class("span", "why").text("its author alone"));
        }
        let mut act = el("span").text(&row.act);
        if row.void > 0 {
            let word = if row.applied == 0 { "void" } else { "partly void" };
            act = act.add(of_class("span", "why").text(word));
        }
        if let Some(at) = row.effect {
            act = act.add(of_class("span", "why").text(format!("waits until {at}")));
        }
        let cells = [
            Cell::Html(act.into()),
            Cell::Html(about.into()),
            Cell::Html(proposed.into()),
            Cell::Html(signed.into()),
            Cell::Text(row.need.join("; ")),
            Cell::Short(if row.delay > 0 { rough(Span(row.delay)) } else { String::new() }),
        ];
        table.row(Some(format!("e{}", row.entry)), Html::text(row.entry), cells);
    }
    lead(
        "Who proposed and who signed each change, and what the policy in force needed. Members count, not keys. The delay is from the proposal to the last signature.",
        table.finish(),
    )
}

pub(super) fn policies(report: &Report) -> Html {
    if report.policies.is_empty() {
        return of_class("p", "none").text("The policy did not change.").into();
    }
    let mut html = lead(
        "What may happen stands in these files. They are in force once a quorum has signed them.",
        Html::default(),
    );
    for change in report.policies.iter().rev() {
        html.add(el("h3").text(format!("Version {}, {}", change.version, change.time.day())));
        let text = el("p").text(format!("Proposed by {}, signed by {} (", change.by, names(&change.signers)));
        html.add(text.add(entry_link(report, change.entry)).text("). ").add(el("q").text(&change.reason)));
        for weaker in &change.weaker {
            html.add(
                el("p")
                    .add(of_class("span", "bad").add(square()))
                    .text(format!(" Fewer signatures are enough. {weaker}")),
            );
        }
        for (file, lines) in &change.files {
            let whole = lines.iter().all(|l| l.starts_with('+'));
            let line = |line: &String| match line.split_at_checked(1) {
                Some(("-", _)) => el("del").text(line),
                _ => el("ins").text(line),
            };
            let diff = of_class("pre", "diff").add(lines.iter().map(line).collect::<Html>());
            let title = if whole {
                format!("policy/{file}: new, {} lines", lines.len())
            } else {
                format!("policy/{file}: {} lines differ", lines.len())
            };
            let details = of_class("details", if whole { "group whole" } else { "group" });
            let details = details.add(el("summary").text(title)).add(diff);
            html.add(if whole { details } else { details.flag("open") });
        }
    }
    html
}

pub(super) fn void(report: &Report) -> Html {
    let mut table = Table::new(
        "t-void",
        "Entries without effect, or without all of it",
        &["Entry", "Act", "By", "Fleet's time", "Why", "Weight"],
    );
    table.leave_out(report.void.len().saturating_sub(ROWS_MAX));
    for row in report.void.iter().take(ROWS_MAX) {
        let why = row.why.iter().map(|(i, why)| format!("change {i}: {why}")).collect::<Vec<_>>().join("; ");
        let weight = if row.suspicious {
            of_class("span", "tag bad").add(square()).text("not allowed")
        } else {
            el("span").text("crossed or late")
        };
        let cells = [
            Cell::Text(row.act.clone().unwrap_or_else(|| "unreadable".to_owned())),
            Cell::Text(row.by.as_ref().map(ToString::to_string).unwrap_or_default()),
            moment(row.time),
            Cell::Text(why),
            Cell::Html(weight.into()),
        ];
        table.row(None, Html::text(row.entry), cells);
    }
    lead(
        "They stay in the log and do nothing. Most crossed another change; some show that somebody tried what they may not.",
        table.finish(),
    )
}

pub(super) fn silence(report: &Report) -> Html {
    let mut table =
        Table::new("t-silence", "The longest times without an entry", &["After entry", "From", "To", "How long"]);
    for gap in &report.gaps {
        table.row(
            None,
            Html::text(gap.after),
            [moment(gap.from), moment(gap.to), Cell::Short(rough(Span(gap.seconds)))],
        );
    }
    lead("A log that says nothing for long may be quiet, or may be one that somebody keeps from you.", table.finish())
}

pub(super) fn special(report: &Report) -> Html {
    let table = |id: &'static str, caption: &'static str, rows: &[Special]| {
        let mut table = Table::new(
            id,
            caption,
            &["Entry", "By", "Proposed", "Applied before", "In the log after", "Signed by", "Reason", "Changes"],
        );
        for row in rows {
            let changes: Html = row.changes.iter().map(|c| of_class("pre", "mono").text(c)).collect();
            let applied = row.applied.iter().map(|(name, at)| format!("{name} {at}")).collect::<Vec<_>>();
            let cells = [
                Cell::Text(row.by.to_string()),
                moment(row.at),
                Cell::Text(applied.join(", ")),
                Cell::Short(rough(Span(row.lag))),
                Cell::Text(names(&row.signers)),
                Cell::Text(row.reason.clone()),
                Cell::Html(changes),
            ];
            table.row(None, Html::text(row.entry), cells);
        }
        table.finish()
    };
    let mut html = Html::from(el("h3").text("Emergencies"));
    html.add(table(
        "t-emergencies",
        "What was done in an emergency, and how long it took to come into the log",
        &report.emergencies,
    ));
    html.add(el("h3").text("Restore drills"));
    html.add(table("t-drills", "Whether restoring was tried, and how it went", &report.drills));
    html
}

pub(super) fn ssh(report: &Report) -> Html {
    let mut table = Table::new(
        "t-ssh",
        "SSH certificates that the log decided, the newest first",
        &["Serial", "For", "Kind", "Principals", "From", "Until", "State"],
    );
    table.leave_out(report.ssh.len().saturating_sub(ROWS_MAX));
    for row in report.ssh.iter().rev().take(ROWS_MAX) {
        let state = match (row.revoked, row.until <= report.period.to) {
            (true, _) => "revoked",
            (false, true) => "expired",
            (false, false) => "good",
        };
        let cells = [
            Cell::Text(row.member.to_string()),
            Cell::Text(row.kind.clone()),
            Cell::Text(row.principals.join(", ")),
            moment(row.from),
            moment(row.until),
            Cell::Text(state.to_owned()),
        ];
        table.row(None, Html::text(row.serial), cells);
    }
    lead(
        "The log decides a certificate before a CA signs it; its serial is the entry's index plus one.",
        table.finish(),
    )
}
