//! `keys audit`: the report for auditors, as text, JSON and a page.

use super::args::{Audit, AuditPeriod};
use super::audit_text::lines;
use super::context::Context;
use super::exit::{CliError, Exit};
use crate::audit::{Collector, Head, Report};
use crate::fleet::Fleet;
use crate::store::Store;

/// `keys audit`.
pub(super) fn audit(context: &Context, args: &Audit) -> Result<Exit, CliError> {
    let (report, _) = report(context, args.period)?;
    let exit = if args.check && report.exceptions().next().is_some() { Exit::Pending } else { Exit::Ok };
    if context.json {
        return context.answer(serde_json::to_value(&report).map_err(CliError::failed)?, exit);
    }
    lines(&report, context).iter().try_for_each(|line| context.out.line(line))?;
    Ok(exit)
}

/// Replays the log, and reports on a period of it.
pub(super) fn report(context: &Context, period: AuditPeriod) -> Result<(Report, Fleet), CliError> {
    if let (Some(from), Some(to)) = (period.from, period.to)
        && from > to
    {
        return Err(CliError::usage(format!("--from {from} is after --to {to}")));
    }
    let objects = Store::new(context.keyring(false)?);
    let mut collector = Collector::new(objects, period.from, period.to);
    let fleet = context.open_watched(&mut collector)?;
    let head = head(&fleet)?;
    let report = collector.finish(&head, fleet.state());
    let early = || CliError::new(Exit::NotFound, "the period ends before the fleet was founded");
    Ok((report.ok_or_else(early)?, fleet))
}

fn head(fleet: &Fleet) -> Result<Head, CliError> {
    let head = fleet.head().ok_or_else(|| CliError::failed("the log has no head"))?;
    Ok(Head {
        size: head.checkpoint.size,
        root: head.checkpoint.root,
        signed_by: head.note.signatures.iter().map(|line| line.name.clone()).collect(),
        now: fleet.now(),
    })
}
