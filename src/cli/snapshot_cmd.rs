//! `keys log snapshot`: put on record what the log comes to, so that a new machine may start from there.

use clap::Args as ClapArgs;
use serde_json::json;

use super::args::{Change, Reason};
use super::context::{Context, Go, placed_exit, placed_json, placed_text, reason};
use super::exit::{CliError, Exit};
use crate::ops;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Whoever signs it, also with 'keys approve', computes the state by replaying the log, and signs no other.
A new machine is given the hash together with the fleet's id, over a channel that is trusted: 'keys enroll' takes both, as
--pin ID and --snapshot HASH. It then replays only what comes after; docs/formats/state.md says what it trusts.

Examples:
  keys log snapshot
  keys log snapshot --dry-run"
)]
pub(super) struct SnapshotArgs {
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

pub(super) fn snapshot(context: &Context, args: &SnapshotArgs) -> Result<Exit, CliError> {
    let why = reason(&args.reason, "a snapshot to start from");
    let (planned, _) = ops::plan_snapshot(&why, &context.open()?)?;
    context.say(&format!("a snapshot of {} entries, root {}", planned.size, planned.root.short()));
    if let Go::No(exit) = context.confirm(&args.change, "Sign it?")? {
        return Ok(exit);
    }
    let (snapshot, placed) = context.change(|fleet, home| {
        // It may have become longer meanwhile, by what was waiting.
        let (snapshot, draft) = ops::plan_snapshot(&why, fleet)?;
        Ok((snapshot, context.place(fleet, home, vec![draft], &args.change)?))
    })?;
    let exit = placed_exit(&placed);
    if context.json {
        let rows: Vec<_> = placed.iter().map(placed_json).collect();
        let value = json!({ "size": snapshot.size, "root": snapshot.root.to_string(), "state": snapshot.state.to_string(), "placed": rows });
        return context.answer(value, exit);
    }
    context.out.line(&format!("snapshot of {} entries: {}", snapshot.size, snapshot.state))?;
    placed.iter().for_each(|p| context.say(&placed_text(p)));
    Ok(exit)
}
