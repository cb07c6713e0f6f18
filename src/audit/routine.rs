//! What has to be done again and again, and was late or failed: restore drills, and cosigners who call the head the newest.

use super::finding::{Findings, GRACE};
use super::report::{Report, Section, Special};
use crate::state::State;
use crate::time::{Span, rough};

fn is_good(drill: &Special) -> bool {
    drill.changes.iter().all(|change| change.get("outcome").and_then(|o| o.as_str()) == Some("good"))
}

/// Restore drills that failed, came late, or are due.
pub(super) fn drills(report: &Report, state: &State, found: &mut Findings) {
    for (i, row) in report.drills.iter().enumerate().filter(|(_, row)| !is_good(row)) {
        let good = report.drills.iter().skip(i).find(|later| is_good(later));
        match good {
            Some(good) => {
                let text = format!(
                    "the one of {} failed; one {} later was good",
                    row.by,
                    rough(good.logged.since(row.logged))
                );
                found.remark(Section::Drills, "restore", text, Some(row.entry));
            }
            None => {
                let text = format!("the one of {} failed, and none has been good since", row.by);
                found.exception(Section::Drills, "restore", text, Some(row.entry));
            }
        }
    }
    let (Some(every), Some(due)) = (state.policy.policy.fleet.restore_drills, state.drill_due()) else { return };
    let good: Vec<&Special> = report.drills.iter().filter(|row| is_good(row)).collect();
    for (last, next) in good.iter().zip(good.iter().skip(1)) {
        let late = next.logged.since(last.logged.plus(every));
        if late > GRACE {
            let text = format!("one was due on {} and came {} later", last.logged.plus(every).day(), rough(late));
            found.exception(Section::Drills, "restore", text, Some(next.entry));
        }
    }
    let late = report.period.to.since(due);
    let text = format!("one is due since {}, {} ago", due.day(), rough(late));
    if late > GRACE {
        found.exception(Section::Drills, "restore", text, None);
    } else if report.period.to > due {
        found.remark(Section::Drills, "restore", text, None);
    }
}

/// A head that is not published as the policy wants it, or has not been called the newest for too long.
pub(super) fn publication(report: &Report, found: &mut Findings) {
    let Some(published) = &report.log.published else { return };
    let (section, subject) = (Section::Gaps, "publication");
    if !published.missing.is_empty() {
        let text = format!("the published head has not the cosigners that the policy wants: {}", published.missing);
        found.exception(section, subject, text, None);
    }
    if let Some(at) = published.cosigned {
        let age = report.period.to.since(at);
        if age > Span(published.max_age) {
            let text = format!(
                "the head of {} entries was last called the newest {} ago, by {}; the policy allows {}",
                published.size,
                rough(age),
                published.by.keys().cloned().collect::<Vec<_>>().join(", "),
                rough(Span(published.max_age))
            );
            found.exception(section, subject, text, None);
        }
    }
    if published.waiting > 0 {
        let text = format!("{} entries wait for cosigners", published.waiting);
        found.remark(section, subject, text, None);
    }
    for name in &published.absent {
        let text = "a cosigner of the policy, and has not signed the published head".to_owned();
        found.remark(section, crate::text::shown(name), text, None);
    }
}
