//! Values from one address to another: `keys cp`, `keys mv`, and how two differ: `keys diff`.

use serde_json::json;
use similar::TextDiff;
use zeroize::Zeroizing;

use super::context::{Context, Planned, Shown, reason};
use super::exit::{CliError, Exit};
use super::large_cmd;
use super::secret_cmd::{opened, plan_json, plan_text, value_of, warn_burned};
use super::value_args::{Copy, Diff};
use crate::fleet::Fleet;
use crate::home::Home;
use crate::ops::{self, OpsError, SealPlan};

/// `keys cp`.
pub(super) fn copy(context: &Context, args: &Copy) -> Result<Exit, CliError> {
    transfer(context, args, false)
}

/// `keys mv`.
pub(super) fn rename(context: &Context, args: &Copy) -> Result<Exit, CliError> {
    transfer(context, args, true)
}

fn transfer(context: &Context, args: &Copy, removes: bool) -> Result<Exit, CliError> {
    let (from, to) = (&args.from, &args.to);
    if from == to {
        return Err(CliError::usage(format!("{from} is where it is")));
    }
    let usual = if removes { format!("moved from {from}") } else { format!("copied from {from}") };
    let why = reason(&args.reason, &usual);
    let plan = |fleet: &mut Fleet, _: &Home| -> Result<SealPlan, CliError> {
        if fleet.state().live_secret(from).is_none() {
            return Err(OpsError::NoSecret(from.clone()).into());
        }
        let mut plan = ops::plan_seal(to, fleet)?;
        plan.shape = plan.shape.or(ops::shape_of(from, fleet)?.map(|shape| shape.format));
        if plan.before.is_some() && !args.force {
            return Err(CliError::failed(format!("{to} is there already")).hint("--force replaces its value"));
        }
        Ok(plan)
    };
    let drafts = |plan: &SealPlan, fleet: &mut Fleet, home: &Home| {
        let signer = args.change.signer.as_ref();
        let draft = if let Some(large) = ops::open_large(from, None, home, fleet)? {
            warn_burned(context, from, large.burned.as_ref());
            let mut value = large_cmd::keep(context, fleet, &mut large.reader(fleet.store()), large.size())?;
            ops::seal_large(plan, &mut value, &why, signer, home, fleet)?
        } else {
            let opened = ops::open(from, None, home, fleet)?;
            warn_burned(context, from, opened.burned.as_ref());
            ops::seal(plan, &opened.value, &why, signer, home, fleet)?
        };
        let mut drafts = vec![draft];
        if removes {
            drafts.push(ops::plan_remove(from, &why, fleet)?);
        }
        Ok(drafts)
    };
    let show = |plan: &SealPlan, fleet: &Fleet| {
        let mut lines = vec![plan_text(plan)];
        if removes {
            lines.push(format!("removes {from}"));
        }
        let readers = fleet.state().live_secret(from).map(|l| &l.readers);
        let new = plan.recipients.readers.keys().filter(|r| readers.is_some_and(|old| !old.contains_key(*r)));
        let new: Vec<String> = new.map(ToString::to_string).collect();
        if !new.is_empty() {
            lines.push(format!("! who can read this value that could not: {}", new.join(", ")));
        }
        let json = json!({ "seal": plan_json(plan), "from": from.to_string(), "removes": removes, "gain": new });
        Shown { lines, json, empty: false }
    };
    let question = if removes { "Move it?" } else { "Copy it?" };
    let after = |_: &mut Fleet, _: &Home| Ok(());
    context.planned(&args.change, &Planned { question, plan: &plan, show: &show, drafts: &drafts, after: &after })
}

/// `keys diff`.
pub(super) fn diff(context: &Context, args: &Diff) -> Result<Exit, CliError> {
    let home = context.home()?;
    let open = |address| {
        let opened = opened(context, |fleet| Ok(ops::open(address, None, &home, fleet)?))?;
        Ok::<Zeroizing<Vec<u8>>, CliError>(opened.value)
    };
    let here = open(&args.address)?;
    let (there, name) = match (&args.other, &args.input) {
        (Some(other), _) => (open(other)?, other.to_string()),
        (None, Some(path)) if path.as_os_str() == "-" => (value_of(None)?, "stdin".to_owned()),
        (None, input) => {
            let name = input.as_deref().map(super::context::shown).unwrap_or_default();
            (value_of(input.as_deref())?, name)
        }
    };
    let same = here == there;
    let exit = if same { Exit::Ok } else { Exit::Pending };
    if context.json {
        return context.answer(json!({ "same": same }), exit);
    }
    if same || context.quiet {
        return Ok(exit);
    }
    let text = |bytes| std::str::from_utf8(bytes).ok().filter(|t| !t.contains('\0'));
    match (text(&here), text(&there)) {
        (Some(a), Some(b)) => {
            let diff = TextDiff::from_lines(a, b);
            let diff = diff.unified_diff().context_radius(3).header(&args.address.to_string(), &name).to_string();
            context.out.bytes(Zeroizing::new(diff).as_bytes())?;
        }
        _ => context.out.line(&format!(
            "{} ({} bytes) and {name} ({} bytes) differ, and are not both text",
            args.address,
            here.len(),
            there.len()
        ))?,
    }
    Ok(exit)
}
