//! Secrets: seal, open, list, remove, who, reach.

use std::io::{IsTerminal as _, Read};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::FileType;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::args::{Ls, Open, Reach, Rm, Seal, Who};
use super::context::{Context, Planned, Shown, placed_exit, placed_json, placed_text, reason, shown};
use super::describe::{self, names_json};
use super::exit::{CliError, Exit};
use super::history_cmd;
use super::large_cmd::{self, Input, Output};
use super::output::Table;
use super::shape_cmd;
use crate::fleet::Fleet;
use crate::formats::Shape;
use crate::limits::SECRET_BYTES_MAX;
use crate::name::{Address, MemberName};
use crate::ops::{self, OpsError};
use crate::state::State;

/// How often opening begins anew because somebody is writing.
const OPEN_ROUNDS_MAX: usize = 20;

/// `keys seal`.
pub(super) fn seal(context: &Context, args: &Seal) -> Result<Exit, CliError> {
    let without = args.without.iter().cloned().collect();
    let format = shape_cmd::format_of(args)?;
    let planned = |fleet: &mut Fleet| -> Result<ops::SealPlan, CliError> {
        let mut plan = ops::plan_seal_without(&args.address, &without, fleet)?;
        plan.shape = format.or(plan.shape.filter(|_| !args.whole));
        Ok(plan)
    };
    if args.change.dry_run {
        let plan = planned(&mut context.open()?)?;
        show_plan(context, &plan)?;
        if let Some(format) = plan.shape {
            let failed = |source| OpsError::Shape { address: args.address.clone(), source };
            shape_cmd::show(context, &Shape::of(format, &value_of(args.input.as_deref())?).map_err(failed)?)?;
        }
        return if context.json { context.answer(plan_json(&plan), Exit::Pending) } else { Ok(Exit::Pending) };
    }
    // The value before the lock: it may come slowly, and nobody should wait for it.
    let mut value = large_cmd::read(context, args.input.as_deref())?;
    let (plan, placed) = context.change(|fleet, home| {
        let plan = planned(fleet)?;
        let usual = if plan.version == 1 { "sealed" } else { "new value" };
        let (why, signer) = (reason(&args.reason, usual), args.change.signer.as_ref());
        let draft = match &mut value {
            Input::Whole(value) => ops::seal(&plan, value, &why, signer, home, fleet)?,
            Input::Large(value) => ops::seal_large(&plan, value, &why, signer, home, fleet)?,
        };
        let placed = context.place(fleet, home, vec![draft], &args.change)?;
        Ok((plan, placed))
    })?;
    let exit = placed_exit(&placed);
    if context.json {
        let placed: Vec<Value> = placed.iter().map(placed_json).collect();
        return context.answer(json!({ "plan": plan_json(&plan), "placed": placed }), exit);
    }
    show_plan(context, &plan)?;
    placed.iter().for_each(|p| context.say(&placed_text(p)));
    Ok(exit)
}

pub(super) fn plan_json(plan: &ops::SealPlan) -> Value {
    json!({ "address": plan.address.to_string(), "version": plan.version, "readers": names_json(plan.recipients.readers.keys()) })
}

pub(super) fn show_plan(context: &Context, plan: &ops::SealPlan) -> Result<(), CliError> {
    if context.json {
        return Ok(());
    }
    context.out.line(&plan_text(plan))
}

/// A plan to seal in words.
pub(super) fn plan_text(plan: &ops::SealPlan) -> String {
    let names = plan.recipients.readers.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{} version {} to {names} ({} keys)", plan.address, plan.version, plan.recipients.keys().count())
}

/// The value: from a file or stdin, wiped when dropped. On a terminal it would be shown as it is typed.
pub(super) fn value_of(input: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let (mut from, size) = source(input)?;
    let value = first_of(&mut from, size)?;
    if value.len() > SECRET_BYTES_MAX {
        let problem = format!("the value has more than {} MiB, too many to be held in memory", SECRET_BYTES_MAX >> 20);
        return Err(CliError::failed(problem).hint("'keys seal', 'open', 'cp' and 'mv' take larger ones"));
    }
    Ok(value)
}

/// What a value is read from, and how many bytes there are; 0 where nobody can tell.
pub(super) fn source(input: Option<&Path>) -> Result<(Box<dyn Read>, u64), CliError> {
    match input {
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|e| CliError::new(Exit::NotFound, format!("cannot read {}: {e}", shown(path))))?;
            let size = size_of(&file);
            Ok((Box::new(file), size))
        }
        None if std::io::stdin().is_terminal() => {
            Err(CliError::usage("the value is read from stdin, which is a terminal")
                .hint("pipe it in, or give a file with --in"))
        }
        None => Ok((Box::new(std::io::stdin().lock()), size_of(std::io::stdin()))),
    }
}

/// The size of a regular file, from where it is read on.
fn size_of(file: impl AsFd) -> u64 {
    let found = rustix::fs::fstat(&file).ok().filter(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    let size = found.and_then(|stat| u64::try_from(stat.st_size).ok()).unwrap_or_default();
    size.saturating_sub(rustix::fs::tell(&file).unwrap_or_default())
}

/// As much of a value as may be held in memory, and a byte more where there is more.
pub(super) fn first_of(from: &mut dyn Read, size: u64) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let limit = SECRET_BYTES_MAX as u64 + 1;
    // One allocation of the full size: a growing buffer would leave copies behind.
    let capacity = usize::try_from(size.min(limit)).unwrap_or_default().max(64 << 10);
    let mut value = Zeroizing::new(Vec::with_capacity(capacity));
    let read = from.take(limit).read_to_end(&mut value);
    read.map_err(|e| CliError::new(Exit::Unknown, format!("cannot read the value: {e}")))?;
    Ok(value)
}

/// `keys open`.
pub(super) fn open(context: &Context, args: &Open) -> Result<Exit, CliError> {
    let home = context.home()?;
    let found = opened(context, |fleet| large_cmd::open(context, args, &home, fleet))?;
    let opened = match found {
        Output::Whole(opened) => opened,
        Output::Large(large, store) => return large_cmd::give_out(context, &args.address, &large, &store),
    };
    warn_burned(context, &args.address, opened.burned.as_ref());
    if context.verbose {
        context.say(&format!(
            "{} version {}, sealed by {} on {}",
            args.address, opened.version, opened.author, opened.sealed
        ));
    }
    if let Some(way) = &args.key {
        return shape_cmd::one(context, &opened, way);
    }
    context.out.bytes(&opened.value)?;
    Ok(Exit::Ok)
}

/// Says so if somebody else may know a value.
pub(super) fn warn_burned(context: &Context, address: &Address, by: Option<&MemberName>) {
    if let Some(by) = by {
        context.say(&format!(
            "warning: {address} is burned: {by} could read this value, and was compromised or lost; replace it"
        ));
    }
}

/// Opens secrets as of now. A writer may replace a file between our reading the log and reading it; then the log has moved
/// on as well, and we look again.
pub(super) fn opened<T>(
    context: &Context,
    mut work: impl FnMut(&mut Fleet) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let mut rounds = 0;
    loop {
        let mut fleet = context.open_published()?;
        match work(&mut fleet) {
            Err(_) if rounds < OPEN_ROUNDS_MAX && fleet.has_moved_on() => rounds += 1,
            other => return other,
        }
    }
}

/// `keys ls`.
pub(super) fn ls(context: &Context, args: &Ls) -> Result<Exit, CliError> {
    if args.shape {
        return shape_cmd::list(context, args);
    }
    let fleet = context.open()?;
    let state = fleet.state();
    let secrets: Vec<_> =
        state.live_secrets().filter(|(a, _)| args.pattern.as_ref().is_none_or(|p| p.matches(&a.to_string()))).collect();
    if context.json {
        let rows: Vec<Value> = secrets
            .iter()
            .map(|(address, live)| {
                json!({
                    "address": address.to_string(), "version": state.secrets.get(*address).map(|s| s.version),
                    "sealed": live.sealed.to_string(), "author": live.author.to_string(), "readers": names_json(live.readers.keys()),
                    "burned": live.burned.as_ref().map(|(_, by)| by.to_string()), "drifted": state.drift(address, live).is_some(),
                })
            })
            .collect();
        return context.answer(json!({ "secrets": rows }), Exit::Ok);
    }
    let mut table = Table::new(&["address", "version", "sealed", "by", "readers", ""]);
    for (address, live) in secrets {
        let version = state.secrets.get(address).map_or(0, |s| s.version);
        let readers = live.readers.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let mark = match (&live.burned, state.drift(address, live)) {
            (Some((_, by)), _) => format!("burned by {by}"),
            (None, Some(_)) => "drifted".to_owned(),
            (None, None) => String::new(),
        };
        table.row([
            address.to_string(),
            version.to_string(),
            live.sealed.day(),
            live.author.to_string(),
            readers,
            mark,
        ]);
    }
    if table.is_empty() {
        context.say("no secrets");
        return Ok(Exit::Ok);
    }
    table.lines().iter().try_for_each(|l| context.out.line(l))?;
    Ok(Exit::Ok)
}

/// `keys rm`.
pub(super) fn rm(context: &Context, args: &Rm) -> Result<Exit, CliError> {
    let why = reason(&args.reason, "removed");
    context.planned(
        &args.change,
        &Planned {
            question: "Remove it?",
            plan: &|fleet, _| Ok(ops::plan_remove(&args.address, &why, fleet)?),
            show: &|_, fleet| {
                let live = fleet.state().live_secret(&args.address);
                let readers = live
                    .map(|l| l.readers.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                    .unwrap_or_default();
                Shown {
                    lines: vec![format!("removes {}, which {readers} can read", args.address)],
                    json: json!({ "remove": args.address.to_string() }),
                    empty: false,
                }
            },
            drafts: &|draft, _, _| Ok(vec![draft.clone()]),
            after: &|_, _| Ok(()),
        },
    )
}

/// `keys who`.
pub(super) fn who(context: &Context, args: &Who) -> Result<Exit, CliError> {
    if args.ever {
        return history_cmd::who(context, &args.address);
    }
    let fleet = context.open()?;
    let state = fleet.state();
    let live = state.live_secret(&args.address).ok_or_else(|| crate::ops::OpsError::NoSecret(args.address.clone()))?;
    let past: Vec<&MemberName> = live.exposed.iter().filter(|m| !live.readers.contains_key(*m)).collect();
    let drift = state.drift(&args.address, live);
    if context.json {
        let keys: Value =
            live.readers.iter().map(|(m, k)| (m.to_string(), json!(k))).collect::<serde_json::Map<_, _>>().into();
        let value = json!({ "address": args.address.to_string(), "readers": keys, "could": names_json(past), "burned": live.burned.as_ref().map(|(_, by)| by.to_string()), "drifted": drift.is_some() });
        return context.answer(value, Exit::Ok);
    }
    let mut table = Table::new(&["reader", "key", "key is"]);
    for (member, keys) in live.readers.iter() {
        for key in keys {
            let state_of = state
                .members
                .get(member)
                .and_then(|m| m.slot(crate::name::Slot::Openpgp))
                .and_then(|s| s.find(key))
                .map(|k| k.state.to_string());
            table.row([member.to_string(), describe::short_key(key), state_of.unwrap_or_default()]);
        }
    }
    table.lines().iter().try_for_each(|l| context.out.line(l))?;
    if !past.is_empty() {
        let names = past.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        context.out.line(&format!("could read this value before: {names}"))?;
    }
    if let Some((at, by)) = &live.burned {
        context.out.line(&format!("burned: {by} was compromised or lost on {}", at.day()))?;
    }
    if let Some(drift) = drift {
        for (what, members) in [
            ("lacks", drift.missing),
            ("should no longer be readable by", drift.surplus),
            ("has old keys of", drift.outdated),
        ] {
            if !members.is_empty() {
                let names = members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                context.out.line(&format!("drifted: {what} {names}; 'keys reseal' brings it up to date"))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// `keys reach`.
pub(super) fn reach(context: &Context, args: &Reach) -> Result<Exit, CliError> {
    if args.ever {
        return history_cmd::reach(context, &args.member);
    }
    let fleet = context.open()?;
    let state = fleet.state();
    if !state.members.contains_key(&args.member) {
        return Err(crate::ops::OpsError::NoMember(args.member.clone()).into());
    }
    let rows = reach_rows(state, &args.member);
    if context.json {
        let list: Vec<Value> = rows
            .iter()
            .map(|(address, by, now)| json!({ "address": address, "by": by.to_string(), "now": now }))
            .collect();
        return context.answer(json!({ "member": args.member.to_string(), "reach": list }), Exit::Ok);
    }
    if rows.is_empty() {
        context.say(&format!("{} can read nothing, and never could read what is current", args.member));
    }
    let mut table = Table::new(&["address", "as", "since"]);
    for (address, by, now) in rows {
        table.row([
            address,
            by.to_string(),
            if now { "now".to_owned() } else { "before; the value has not changed since".to_owned() },
        ]);
    }
    if !table.is_empty() {
        table.lines().iter().try_for_each(|l| context.out.line(l))?;
    }
    Ok(Exit::Ok)
}

/// What a member and its services can read: address, as whom, and whether still.
fn reach_rows(state: &State, member: &MemberName) -> Vec<(String, MemberName, bool)> {
    let family = state.members.keys().filter(|n| *n == member || (n.is_service() && n.owner() == *member));
    let mut rows: Vec<(String, MemberName, bool)> = family
        .flat_map(|name| {
            let (now, ever) = state.reach(name);
            ever.into_iter().map(|a| (a.to_string(), name.clone(), now.contains(a))).collect::<Vec<_>>()
        })
        .collect();
    rows.sort();
    rows
}
