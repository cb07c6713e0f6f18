//! The report on a terminal: 80 columns, what is wrong first, a line or two for every section.

use super::context::Context;
use crate::audit::{Finding, Measure, Report, Severity, Timeliness};
use crate::name::Kind;
use crate::state::KeyState;
use crate::text;
use crate::time::{Span, rough};

/// Findings of one severity that are shown without `--verbose`.
const SHOWN: usize = 12;
/// Columns of a line.
const WIDTH: usize = 80;

/// The report's lines.
pub(super) fn lines(report: &Report, context: &Context) -> Vec<String> {
    let log = &report.log;
    let mut out = vec![
        format!("{}  record sound: {} entries replayed", context.bold(report.fleet.as_str()), log.size),
        format!("id       {}", report.id),
        format!("root     {}", log.root),
        format!("period   {} to {}, {} entries", report.period.from, report.period.to, log.entries),
        String::new(),
    ];
    for (severity, word) in [(Severity::Exception, "exceptions"), (Severity::Remark, "remarks")] {
        let found: Vec<&Finding> = report.findings.iter().filter(|f| f.severity == severity).collect();
        out.push(
            context.bold(&format!(
                "{word}: {}",
                if found.is_empty() { "none".to_owned() } else { found.len().to_string() }
            )),
        );
        let shown = if context.verbose { usize::MAX } else { SHOWN };
        found.iter().take(shown).for_each(|f| out.extend(finding(f)));
        if found.len() > shown {
            out.push(format!("  and {} more; --verbose, --json and --html show all", found.len() - shown));
        }
        out.push(String::new());
    }
    out.extend(sections(report).into_iter().flat_map(|(topic, text)| wrapped(&format!("{topic:<11}"), &text)));
    out.push(String::new());
    out.push("not checked".to_owned());
    out.extend(report.not_checked.iter().flat_map(|text| wrapped("  - ", text)));
    out
}

fn finding(finding: &Finding) -> Vec<String> {
    let entry = finding.entry.map(|n| format!(" (entry {n})")).unwrap_or_default();
    let text = format!("{}: {}{entry}", finding.subject, finding.text);
    wrapped(&format!("  {:<14}", finding.section.word()), &text::escape(&text))
}

/// A text in lines of [`WIDTH`] columns, `head` in front of the first, as much space in front of the others.
fn wrapped(head: &str, text: &str) -> Vec<String> {
    let indent = head.chars().count();
    let mut lines = Vec::new();
    let mut line = head.to_owned();
    let mut used = false;
    for word in text.split(' ') {
        if used && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            used = false;
        }
        if used {
            line.push(' ');
        }
        line.push_str(word);
        used = true;
    }
    lines.push(line);
    lines
}

fn sections(report: &Report) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("inventory", inventory(report)),
        ("rotations", rotations(report)),
        ("approvals", approvals(report)),
        ("departures", departures(report)),
        ("access", access(report)),
        ("void", void(report)),
        ("silence", silence(report)),
        ("policy", policy(report)),
        ("emergency", special(report.emergencies.len(), "emergencies")),
        ("drills", special(report.drills.len(), "restore drills")),
    ];
    rows.extend(report.log.published.as_ref().map(|p| ("published", p.in_words())));
    rows
}

fn inventory(report: &Report) -> String {
    let kinds = Kind::ALL.iter().map(|k| (report.count(*k), k.word())).filter(|(n, _)| *n > 0);
    let members = kinds.map(|(n, word)| format!("{n} {word}")).collect::<Vec<_>>().join(", ");
    let states = KeyState::ALL.iter().map(|s| (report.keys.iter().filter(|k| k.state == *s).count(), s.word()));
    let keys = states.filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect::<Vec<_>>().join(", ");
    let secrets = report.secrets.iter().filter(|s| s.sealed.is_some()).count();
    format!("{members}; keys: {keys}; {secrets} secrets")
}

fn rotations(report: &Report) -> String {
    let count = |t: Timeliness| report.cryptoperiods.iter().filter(|c| c.timeliness == t).count();
    let words = Timeliness::ALL.iter().map(|t| (count(*t), t.word())).filter(|(n, _)| *n > 0);
    let text = words.map(|(n, word)| format!("{n} {word}")).collect::<Vec<_>>().join(", ");
    if text.is_empty() { "no cryptoperiod".to_owned() } else { text }
}

fn approvals(report: &Report) -> String {
    let done: Vec<_> = report.approvals.iter().filter(|a| a.applied > 0).collect();
    let alone = done.iter().filter(|a| a.alone).count();
    let slowest = done.iter().max_by_key(|a| a.delay);
    let slowest =
        slowest.map(|a| format!("; slowest {} (entry {})", rough(Span(a.delay)), a.entry)).unwrap_or_default();
    format!("{} entries, {alone} of them signed by their author alone{slowest}", done.len())
}

fn departures(report: &Report) -> String {
    if report.departures.is_empty() {
        return "nobody left".to_owned();
    }
    let ups = || report.departures.iter().flat_map(|d| d.secrets.values());
    let needed = ups().filter(|up| up.needed == Measure::Renewed).count();
    let open = ups().filter(|up| up.needed == Measure::Renewed && up.done.is_none()).count();
    let names =
        report.departures.iter().map(|d| format!("{} ({})", d.member, d.why)).take(6).collect::<Vec<_>>().join(", ");
    let more = report.departures.len().saturating_sub(6);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{names}{more}; {needed} values to replace, {open} still open")
}

fn access(report: &Report) -> String {
    let live: Vec<_> = report.secrets.iter().filter(|s| s.sealed.is_some()).collect();
    let burned = live.iter().filter(|s| s.burned.is_some()).count();
    let most = live.iter().map(|s| s.readers.len()).max().unwrap_or(0);
    format!("{} secrets, at most {most} readers each; {burned} burned", live.len())
}

fn void(report: &Report) -> String {
    match report.void.len() {
        0 => "every entry had its effect".to_owned(),
        n => format!("{n} entries without effect, or not all of it"),
    }
}

fn silence(report: &Report) -> String {
    let longest = report.gaps.first();
    longest.map_or_else(
        || "no time between entries".to_owned(),
        |gap| format!("longest {} without an entry, after entry {}", rough(Span(gap.seconds)), gap.after),
    )
}

fn policy(report: &Report) -> String {
    let versions: Vec<String> = report.policies.iter().map(|p| p.version.to_string()).collect();
    if versions.is_empty() {
        "unchanged".to_owned()
    } else {
        format!("versions {} came into force", versions.join(", "))
    }
}

fn special(count: usize, what: &str) -> String {
    if count == 0 { format!("no {what} recorded") } else { format!("{count} {what}") }
}
