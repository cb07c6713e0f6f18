//! `keys renew`: new values, in the order that the policy gives, with hooks before and after.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::args::{Change, Renew};
use super::context::{Context, Go, placed_json, placed_text, reason};
use super::exit::{CliError, Exit};
use super::hook::Hook;
use super::output::complain;
use super::secret_cmd::plan_json;
use crate::fleet::{Fleet, Placed};
use crate::home::Home;
use crate::name::{Address, MemberName};
use crate::ops::{self, RenewPlan, Renewal, Renewing, SealPlan, Why};
use crate::policy::Generator;

/// What came of it.
#[derive(Default)]
struct Done {
    placed: Vec<Placed>,
    renewed: Vec<Address>,
    troubles: Vec<String>,
    notes: Vec<String>,
}

/// `keys renew`.
pub(super) fn renew(context: &Context, args: &Renew) -> Result<Exit, CliError> {
    if args.pattern.is_none() && !args.due && !args.burned {
        return Err(CliError::usage("nothing is selected").hint("name secrets ('nginx@*/*'), --due, or --burned"));
    }
    let renewing = Renewing { pattern: args.pattern.clone(), due: args.due, burned: args.burned };
    let plan = ops::plan_renew(&renewing, &mut context.open()?)?;
    show(context, &plan)?;
    if plan.steps.is_empty() {
        return finish(context, &plan, &Done::default(), left(&plan));
    }
    // What is missing is better known before anything is done.
    for renewal in plan.steps.iter().flatten() {
        hooks(context, renewal)?;
    }
    if let Go::No(exit) = context.confirm(&args.change, "Make these new values?")? {
        return finish(context, &plan, &Done::default(), exit);
    }
    let why = reason(&args.reason, usual(args));
    let mut done = Done::default();
    for step in &plan.steps {
        let before = done.troubles.len();
        carry_out(context, step, &why, &args.change, &mut done);
        if done.troubles.len() > before {
            if !std::ptr::eq(step, plan.steps.last().unwrap_or(step)) {
                done.troubles.push("what waits for these was not renewed; run it again when they are".to_owned());
            }
            break;
        }
    }
    let exit = match done.placed.iter().all(|p| matches!(p, Placed::Logged { .. })) {
        _ if !done.troubles.is_empty() => Exit::No,
        false => Exit::Unauthorised,
        true => left(&plan),
    };
    finish(context, &plan, &done, exit)
}

fn usual(args: &Renew) -> &'static str {
    match (args.burned, args.due) {
        (true, false) => "burned",
        (false, true) => "scheduled",
        _ => "renewed",
    }
}

/// What is left for people is a no.
fn left(plan: &RenewPlan) -> Exit {
    if plan.by_hand.is_empty() && plan.stuck.is_empty() { Exit::Ok } else { Exit::No }
}

fn show(context: &Context, plan: &RenewPlan) -> Result<(), CliError> {
    if context.json {
        return Ok(());
    }
    for Renewal { plan, why, generator, role, .. } in plan.steps.iter().flatten() {
        let role = role.as_ref().map(|r| format!(" for {r}")).unwrap_or_default();
        let readers = plan.recipients.readers.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        context
            .out
            .line(&format!("{} version {}{role} ({why}): {generator}, to {readers}", plan.address, plan.version))?;
    }
    for (address, why) in &plan.by_hand {
        context
            .out
            .line(&format!("by hand: {address} ({why}): the policy has no 'generate' for it; 'keys seal {address}'"))?;
    }
    for (address, problem) in &plan.stuck {
        context.out.line(&format!("not now: {address}: {problem}"))?;
    }
    if plan.steps.is_empty() && plan.by_hand.is_empty() && plan.stuck.is_empty() {
        context.say("nothing to renew");
    }
    Ok(())
}

fn plan_value(plan: &RenewPlan) -> Value {
    let step = |step: &Vec<Renewal>| {
        let one = |r: &Renewal| json!({ "seal": plan_json(&r.plan), "why": r.why.to_string(), "generate": r.generator.to_string(), "role": r.role });
        Value::Array(step.iter().map(one).collect())
    };
    let by_hand = |(a, why): &(Address, Why)| json!({ "address": a.to_string(), "why": why.to_string() });
    let stuck = |(a, problem): &(Address, String)| json!({ "address": a.to_string(), "problem": problem });
    json!({
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(), "by_hand": plan.by_hand.iter().map(by_hand).collect::<Vec<_>>(),
        "stuck": plan.stuck.iter().map(stuck).collect::<Vec<_>>(),
    })
}

fn finish(context: &Context, plan: &RenewPlan, done: &Done, exit: Exit) -> Result<Exit, CliError> {
    if context.json {
        let placed: Vec<Value> = done.placed.iter().map(placed_json).collect();
        let renewed: Vec<String> = done.renewed.iter().map(ToString::to_string).collect();
        let value = json!({ "plan": plan_value(plan), "placed": placed, "renewed": renewed, "troubles": done.troubles, "notes": done.notes });
        return context.answer(value, exit);
    }
    done.placed.iter().for_each(|p| context.say(&placed_text(p)));
    done.notes.iter().for_each(|n| context.say(&format!("note: {n}")));
    done.troubles.iter().for_each(|t| complain(t));
    Ok(exit)
}

/// The hooks that a renewal needs, if they are there.
fn hooks(context: &Context, renewal: &Renewal) -> Result<(Option<Hook>, Option<Hook>), CliError> {
    let find = |name| Hook::find(context, name);
    let maker = match &renewal.generator {
        Generator::Hook(name) => Some(find(name)?),
        _ => None,
    };
    Ok((maker, renewal.hook.as_ref().map(find).transpose()?))
}

/// Those without a hook together, the others each by itself: one that fails does not stop its neighbours.
fn carry_out(context: &Context, step: &[Renewal], why: &str, change: &Change, done: &mut Done) {
    let (told, plain): (Vec<&Renewal>, Vec<&Renewal>) = step.iter().partition(|r| r.hook.is_some());
    if !plain.is_empty() {
        match together(context, &plain, why, change) {
            Ok(placed) => note(&plain, placed, done),
            Err(e) => done.troubles.push(trouble(&plain, &e)),
        }
    }
    for renewal in told {
        match with_hook(context, renewal, why, change) {
            Ok((placed, trouble)) => {
                note(&[renewal], placed, done);
                done.troubles.extend(trouble);
            }
            Err(e) => done.troubles.push(trouble(&[renewal], &e)),
        }
    }
}

fn trouble(renewals: &[&Renewal], e: &CliError) -> String {
    let names: Vec<String> = renewals.iter().take(3).map(|r| r.plan.address.to_string()).collect();
    let more = if renewals.len() > names.len() {
        format!(" and {} more", renewals.len() - names.len())
    } else {
        String::new()
    };
    let hints: String = e.hints.iter().map(|h| format!("; {h}")).collect();
    format!("{}{more}: {}{hints}", names.join(", "), e.message)
}

fn note(renewals: &[&Renewal], placed: Vec<Placed>, done: &mut Done) {
    done.placed.extend(placed);
    for renewal in renewals {
        let address = &renewal.plan.address;
        done.renewed.push(address.clone());
        if let (Why::Burned(by), Some(other)) = (&renewal.why, &renewal.other) {
            done.notes.push(format!(
                "{by} may know the password of {other}, which stays good: when all readers of {address} have the new value, 'keys renew {address}' once more"
            ));
        }
    }
}

fn value(context: &Context, renewal: &Renewal) -> Result<Zeroizing<Vec<u8>>, CliError> {
    if let (Some(hook), _) = hooks(context, renewal)? {
        return hook.generate(renewal);
    }
    let made = ops::generate(&renewal.generator, &mut context.rng()?);
    made.ok_or_else(|| CliError::failed(format!("{} makes no value", renewal.generator)))
}

fn together(context: &Context, renewals: &[&Renewal], why: &str, change: &Change) -> Result<Vec<Placed>, CliError> {
    let mut values = Vec::new();
    for renewal in renewals {
        values.push((renewal.plan.clone(), renewal.sealed(&value(context, renewal)?)));
    }
    place(context, &values, why, change)
}

fn with_hook(
    context: &Context,
    renewal: &Renewal,
    why: &str,
    change: &Change,
) -> Result<(Vec<Placed>, Option<String>), CliError> {
    let (_, Some(hook)) = hooks(context, renewal)? else { return Ok((Vec::new(), None)) };
    check_role(context, renewal)?;
    let value = value(context, renewal)?;
    hook.tell(renewal, "prepare", &value)?;
    match place(context, &[(renewal.plan.clone(), renewal.sealed(&value))], why, change) {
        // What is only proposed is not in force, and may never be.
        Ok(placed) if !placed.iter().all(|p| matches!(p, Placed::Logged { .. })) => Ok((placed, None)),
        Ok(placed) => {
            let trouble = hook.tell(renewal, "done", &value).err();
            let told = trouble.map(|e| format!("{}: the new value is sealed, but {}", renewal.plan.address, e.message));
            Ok((placed, told))
        }
        Err(e) => match hook.tell(renewal, "failed", &value) {
            Ok(()) => Err(e),
            Err(hook) => Err(e.hint(hook.message)),
        },
    }
}

/// Where the present value can be opened here it says whose it is: that account is not touched.
fn check_role(context: &Context, renewal: &Renewal) -> Result<(), CliError> {
    let (Some(role), Some(other)) = (&renewal.role, &renewal.other) else { return Ok(()) };
    let address = &renewal.plan.address;
    let home = context.home()?;
    let Ok(opened) = super::secret_cmd::opened(context, |fleet| Ok(ops::open(address, None, &home, fleet)?)) else {
        return Ok(());
    };
    let holds = |name: &str| opened.value.windows(name.len()).any(|part| part == name.as_bytes());
    if holds(role) && !holds(other) {
        return Err(CliError::failed(format!(
            "the present value is that of {role}, whose password would be changed under its readers"
        ))
        .hint(format!("it was sealed by hand; seal a value for {other} by hand, too, and the turns are right again")));
    }
    Ok(())
}

/// Seals as planned, if nobody was there first.
fn place(
    context: &Context,
    values: &[(SealPlan, Zeroizing<Vec<u8>>)],
    why: &str,
    change: &Change,
) -> Result<Vec<Placed>, CliError> {
    let signer: Option<&MemberName> = change.signer.as_ref();
    context.change(|fleet: &mut Fleet, home: &Home| {
        for (plan, _) in values {
            if ops::plan_seal(&plan.address, fleet)? != *plan {
                return Err(CliError::new(Exit::Moved, format!("{} has changed in the meantime", plan.address))
                    .hint("nothing of it was sealed; run it again"));
            }
        }
        let values: Vec<(&SealPlan, &[u8])> = values.iter().map(|(plan, value)| (plan, value.as_slice())).collect();
        let drafts = ops::seal_all(&values, why, signer, home, fleet)?;
        context.place(fleet, home, drafts, change)
    })
}
