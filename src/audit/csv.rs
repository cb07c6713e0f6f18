//! Rows for spreadsheets (RFC 4180). A cell that a spreadsheet would take for a formula gets an apostrophe in front.

use super::report::Report;
use crate::time::Time;

/// A table: its header, and its rows.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let head = header.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>();
    let lines =
        std::iter::once(head).chain(rows).map(|row| row.iter().map(|c| cell(c)).collect::<Vec<_>>().join(",") + "\r\n");
    lines.collect::<String>().into_bytes()
}

fn cell(text: &str) -> String {
    let text = crate::text::escape(text);
    let formula = text.starts_with(['=', '+', '-', '@']);
    let text = if formula { format!("'{text}") } else { text.into_owned() };
    if text.contains([',', '"', '\'', ';']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn time(time: Option<Time>) -> String {
    time.map(|t| t.to_string()).unwrap_or_default()
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
}

/// What somebody would write up.
pub(super) fn findings(report: &Report) -> Vec<u8> {
    let row = |f: &super::report::Finding| {
        let entry = f.entry.map(|n| n.to_string()).unwrap_or_default();
        vec![f.severity.to_string(), f.section.to_string(), f.subject.clone(), f.text.clone(), entry]
    };
    table(&["severity", "section", "subject", "text", "entry"], report.findings.iter().map(row))
}

/// Every entry of the period.
pub(super) fn entries(report: &Report) -> Vec<u8> {
    let header = [
        "entry",
        "id",
        "act",
        "about",
        "by",
        "at",
        "logged",
        "delay_seconds",
        "signers",
        "needed",
        "alone",
        "applied",
        "void",
        "reason",
    ];
    let row = |a: &super::report::Approval| {
        vec![
            a.entry.to_string(),
            a.id.to_string(),
            a.act.clone(),
            a.about.join("; "),
            a.by.to_string(),
            a.at.to_string(),
            a.logged.to_string(),
            a.delay.to_string(),
            list(&a.signers),
            a.need.join("; "),
            a.alone.to_string(),
            a.applied.to_string(),
            a.void.to_string(),
            a.reason.clone(),
        ]
    };
    table(&header, report.approvals.iter().map(row))
}

/// Every key there was.
pub(super) fn keys(report: &Report) -> Vec<u8> {
    let header = [
        "member",
        "kind",
        "slot",
        "lane",
        "state",
        "algorithm",
        "strength_bits",
        "published",
        "activated",
        "due",
        "deactivated",
        "compromised",
        "destroyed",
        "key",
    ];
    let row = |k: &super::report::KeyRow| {
        vec![
            k.member.to_string(),
            k.kind.to_string(),
            k.slot.to_string(),
            k.lane.clone().unwrap_or_default(),
            k.state.to_string(),
            k.algorithm.clone().unwrap_or_default(),
            k.strength.map(|s| s.to_string()).unwrap_or_default(),
            k.published.to_string(),
            time(k.activated),
            time(k.due),
            time(k.deactivated),
            time(k.compromised),
            time(k.destroyed),
            k.key.clone(),
        ]
    };
    table(&header, report.keys.iter().map(row))
}

/// Who could decrypt what, and when.
pub(super) fn access(report: &Report) -> Vec<u8> {
    let rows = report.secrets.iter().flat_map(|s| {
        s.ever.iter().map(move |(member, access)| {
            vec![
                s.address.to_string(),
                member.to_string(),
                s.readers.contains(member).to_string(),
                access.since.to_string(),
                time(access.until),
                access.first.to_string(),
                access.last.to_string(),
                s.burned.is_some().to_string(),
            ]
        })
    });
    table(&["address", "member", "now", "since", "until", "first_version", "last_version", "burned"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_text_and_no_formula() {
        assert_eq!(cell("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        assert_eq!(cell("a, b"), "\"a, b\"");
        assert_eq!(cell("two\nlines\r"), "two\\u{a}lines\\u{d}");
        assert_eq!(cell("-1"), "\"'-1\"");
        assert_eq!(cell("plain"), "plain");
    }
}
