//! Rotation and what follows from it: rotate, sync, reseal, revoke.

use serde_json::{Value, json};

use super::args::{Reseal, Revoke, Rotate, Sync};
use super::context::{Context, Planned, Shown, Stepwise, placed_json, placed_text, reason};
use super::describe::{case_text, names_json, short_key};
use super::exit::{CliError, Exit};
use super::output::{Progress, Table, complain};
use crate::fleet::{Fleet, FleetError, Placed};
use crate::home::Home;
use crate::name::MemberName;
use crate::ops::{self, ResealPlan, RevokePlan, RotatePlan, Selection, Stuck};
use crate::state::{Admission, Drift};

/// How many rounds of catching up one command does: keys, then what the keys make possible, then what that leaves idle.
const ROUNDS_MAX: usize = 5;

/// `keys rotate`.
pub(super) fn rotate(context: &Context, args: &Rotate) -> Result<Exit, CliError> {
    if args.members.is_none() && args.slot.is_none() && !args.due && !args.all {
        return Err(CliError::usage("nothing is selected")
            .hint("name members ('fra*'), a slot (--slot openpgp), --due, or --all"));
    }
    let selection = Selection { members: args.members.clone(), slot: args.slot, due: args.due, soon: args.soon };
    let usual = if args.due { "scheduled" } else { "rotated" };
    let why = reason(&args.reason, usual);
    let exit = context.planned(
        &args.change,
        &Planned {
            question: "Rotate these?",
            plan: &|fleet, _| {
                let now = fleet.now();
                Ok(ops::plan_rotate(&selection, fleet.state(), now)?)
            },
            show: &|plan, _| shown_rotation(plan),
            drafts: &|plan, _, _| Ok(plan.drafts(&why)),
            // The machine that owns a slot also makes the next standby, and brings its certificate into line.
            after: &|fleet, home| {
                let caught_up = catch_up(context, fleet, home, &args.change)?;
                complain_of(&caught_up.stuck);
                Ok(())
            },
        },
    )?;
    Ok(exit)
}

fn shown_rotation(plan: &RotatePlan) -> Shown {
    let mut table = Table::new(&["member", "slot", "from", "to", ""]);
    for r in &plan.rotations {
        let from = r.from.as_deref().map_or_else(|| "-".to_owned(), short_key);
        table.row([
            r.member.to_string(),
            r.slot.to_string(),
            from,
            short_key(&r.to),
            case_text(r.scheduled).to_owned(),
        ]);
    }
    let mut lines = if table.is_empty() { Vec::new() } else { table.lines() };
    lines.extend(plan.skipped.iter().map(|s| format!("skipped: {} {}: {}", s.member, s.slot, s.why)));
    if plan.rotations.is_empty() {
        lines.push("nothing to rotate".to_owned());
    }
    Shown { lines, json: serde_json::to_value(plan).unwrap_or(Value::Null), empty: plan.rotations.is_empty() }
}

/// `keys sync`.
pub(super) fn sync(context: &Context, args: &Sync) -> Result<Exit, CliError> {
    if args.change.dry_run {
        return sync_dry(context);
    }
    let CaughtUp { done, placed, issued, stuck, troubles, refused } =
        context.change(|fleet, home| catch_up(context, fleet, home, &args.change))?;
    complain_of(&stuck);
    let refused: Vec<String> = refused.into_iter().map(|(_, text)| text).collect();
    troubles.iter().chain(&refused).for_each(|t| complain(t));
    // A machine without the log's key has done its part when it has handed in what is complete.
    let lacking = placed.iter().any(|p| matches!(p, Placed::Proposed { .. }));
    let exit = match lacking {
        _ if !stuck.is_empty() || !troubles.is_empty() => Exit::No,
        true => Exit::Unauthorised,
        false => Exit::Ok,
    };
    if context.json {
        let placed: Vec<Value> = placed.iter().map(placed_json).collect();
        let stuck: Vec<Value> = stuck.iter().map(stuck_json).collect();
        return context.answer(
            json!({ "done": done, "placed": placed, "ssh_certificates": issued, "stuck": stuck, "troubles": troubles, "refused": refused }),
            exit,
        );
    }
    for line in &done {
        context.out.line(line)?;
    }
    if done.is_empty() && issued == 0 && stuck.is_empty() {
        context.say("nothing to do");
    }
    if issued > 0 {
        context.out.line(&format!("{issued} SSH certificates signed"))?;
    }
    placed
        .iter()
        .filter(|p| context.verbose || !matches!(p, Placed::Logged { .. }))
        .for_each(|p| context.say(&placed_text(p)));
    Ok(exit)
}

/// What a sync would do, told from the log alone: making keys to show them would be a change.
fn sync_dry(context: &Context) -> Result<Exit, CliError> {
    let home = context.home()?;
    let mut fleet = context.open()?;
    let mut missing = ops::sync_todo(&home, &mut fleet, &mut context.rng()?)?;
    let waiting = home.emergencies()?.into_iter().filter(|held| held.handed.is_none());
    missing.extend(waiting.map(|held| format!("emergency {}: hand it in", held.entry.signed.id.short())));
    if context.json {
        return context.answer(json!({ "todo": missing }), if missing.is_empty() { Exit::Ok } else { Exit::Pending });
    }
    missing.iter().try_for_each(|line| context.out.line(line))?;
    Ok(if missing.is_empty() { Exit::Ok } else { Exit::Pending })
}

/// What catching up came to.
pub(super) struct CaughtUp {
    /// What was done.
    pub done: Vec<String>,
    /// Where it ended up.
    pub placed: Vec<Placed>,
    /// How many SSH certificates were signed.
    pub issued: usize,
    /// What could not be resealed.
    pub stuck: Vec<Stuck>,
    /// What else could not be done.
    pub troubles: Vec<String>,
    /// Requests by invitation that were refused.
    pub refused: Vec<(Admission, String)>,
}

impl CaughtUp {
    /// The first thing that could not be done.
    pub(super) fn trouble(&self) -> Option<String> {
        self.stuck.first().map(stuck_text).or_else(|| self.troubles.first().cloned())
    }
}

/// Catches up until there is nothing more to do here, or what there is waits for somebody else.
pub(super) fn catch_up(
    context: &Context,
    fleet: &mut Fleet,
    home: &Home,
    change: &super::args::Change,
) -> Result<CaughtUp, CliError> {
    let (mut done, mut placed, mut stuck, mut troubles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut refused = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let plan = ops::plan_sync(home, fleet, &mut context.rng()?)?;
        (stuck, troubles, refused) = (plan.stuck, plan.troubles, plan.refused);
        if plan.drafts.is_empty() {
            break;
        }
        // Each draft is its owner's own affair: a home with several members signs each as whoever may.
        let before = placed.len();
        placed.extend(place_each(fleet, home, plan.drafts, change, &mut done, &mut troubles)?);
        if placed.len() == before {
            break;
        }
    }
    ops::destroy_private(home, fleet)?;
    let issued = ops::issue_pending(home, fleet)?.len();
    Ok(CaughtUp { done, placed, issued, stuck, troubles, refused })
}

fn complain_of(stuck: &[Stuck]) {
    stuck.iter().for_each(|s| complain(&stuck_text(s)));
}

fn stuck_text(stuck: &Stuck) -> String {
    format!("not resealed: {}: {}", stuck.drift.address, stuck.why)
}

fn stuck_json(stuck: &Stuck) -> Value {
    json!({ "address": stuck.drift.address.to_string(), "why": stuck.why })
}

/// Places drafts one by one, each signed first by the member it is about.
fn place_each(
    fleet: &mut Fleet,
    home: &Home,
    drafts: Vec<crate::fleet::Draft>,
    change: &super::args::Change,
    done: &mut Vec<String>,
    troubles: &mut Vec<String>,
) -> Result<Vec<Placed>, CliError> {
    let mut placed = Vec::new();
    for draft in drafts {
        let mut signers = ops::signers(home, fleet, change.signer.as_ref())?;
        let owners = owners(&draft.act);
        signers.sort_by_key(|s| (draft.author.as_ref() != Some(&s.member), !owners.contains(&s.member)));
        let sequencer = ops::sequencer(home, fleet)?;
        let told = draft.told.clone();
        // One that is refused keeps the others from nothing.
        match fleet.change(vec![draft], &mut signers, sequencer.as_ref()) {
            Err(e @ FleetError::Refused(_)) => troubles.push(e.to_string()),
            other => {
                placed.extend(other?);
                done.extend(told);
            }
        }
    }
    Ok(placed)
}

/// The members that answer for what an act is about.
fn owners(act: &crate::statement::Act) -> Vec<MemberName> {
    use crate::statement::Act;
    match act {
        Act::Publish(list) => list.iter().map(|c| c.member.owner()).collect(),
        Act::Confirm(list) => list.iter().map(|c| c.member.owner()).collect(),
        Act::Certify(list) => list.iter().map(|c| c.member.owner()).collect(),
        Act::Destroy(list) => list.iter().map(|c| c.member.owner()).collect(),
        Act::Reseal(list) => list
            .iter()
            .filter_map(|c| if let crate::name::Scope::Member(m) = c.address.scope() { Some(m.owner()) } else { None })
            .collect(),
        _ => Vec::new(),
    }
}

/// `keys reseal`.
pub(super) fn reseal(context: &Context, args: &Reseal) -> Result<Exit, CliError> {
    let why = reason(&args.reason, "recipients brought up to date");
    let is_stuck = std::cell::Cell::new(false);
    let exit = context.stepwise(
        &args.change,
        &Stepwise {
            question: "Reseal these?",
            plan: &|fleet, home| {
                let plan = ops::plan_reseal(args.pattern.as_ref(), home, fleet)?;
                is_stuck.set(!plan.stuck.is_empty());
                Ok(plan)
            },
            show: &|plan, _| shown_reseal(plan),
            carry_out: &|plan, fleet, home| reseal_parts(context, plan, &why, fleet, home, &args.change),
        },
    )?;
    Ok(if exit == Exit::Ok && is_stuck.get() { Exit::No } else { exit })
}

/// Reseals part by part: what is logged stays, so that whoever is interrupted goes on where it was.
fn reseal_parts(
    context: &Context,
    plan: &ResealPlan,
    why: &str,
    fleet: &mut Fleet,
    home: &Home,
    change: &super::args::Change,
) -> Result<Vec<Placed>, CliError> {
    let mut progress = Progress::new("resealing", context.quiet);
    let (parts, all) = (plan.parts() as u64, plan.drifted.len() as u64);
    let mut placed = Vec::new();
    for part in 0..plan.parts() {
        progress.step(all * part as u64 / parts.max(1), all);
        let draft = plan.draft(part, why, home, fleet)?;
        placed.extend(context.place(fleet, home, vec![draft], change)?);
    }
    Ok(placed)
}

fn shown_reseal(plan: &ResealPlan) -> Shown {
    let mut table = Table::new(&["address", "gains", "loses", "new keys of"]);
    let names = |set: &std::collections::BTreeSet<MemberName>| {
        set.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    for d in &plan.drifted {
        table.row([d.address.to_string(), names(&d.missing), names(&d.surplus), names(&d.outdated)]);
    }
    let mut lines = if table.is_empty() { Vec::new() } else { table.lines() };
    lines.extend(
        plan.elsewhere
            .iter()
            .map(|d| format!("elsewhere: {} has drifted, and no key of this home opens it", d.address)),
    );
    lines.extend(plan.stuck.iter().map(stuck_text));
    if plan.drifted.is_empty() && plan.stuck.is_empty() {
        lines.push("nothing to reseal here".to_owned());
    }
    let row = |d: &Drift| json!({ "address": d.address.to_string(), "gains": names_json(&d.missing), "loses": names_json(&d.surplus), "outdated": names_json(&d.outdated) });
    let json = json!({ "reseal": plan.drifted.iter().map(row).collect::<Vec<_>>(), "elsewhere": plan.elsewhere.iter().map(row).collect::<Vec<_>>(), "stuck": plan.stuck.iter().map(stuck_json).collect::<Vec<_>>() });
    Shown { lines, json, empty: plan.drifted.is_empty() }
}

/// `keys revoke`.
pub(super) fn revoke(context: &Context, args: &Revoke) -> Result<Exit, CliError> {
    let note = args.note.clone().unwrap_or_else(|| args.reason.to_string());
    context.planned(
        &args.change,
        &Planned {
            question: "Take it out everywhere?",
            plan: &|fleet, home| Ok(ops::plan_revoke(&args.member, args.reason, home, fleet)?),
            show: &|plan, _| shown_revocation(plan),
            drafts: &|plan, _, _| Ok(vec![plan.draft(&note)]),
            // Whoever revokes and can read what was shared takes the leaver's keys out at once.
            after: &|fleet, home| {
                let reseal = ops::plan_reseal(None, home, fleet)?;
                complain_of(&reseal.stuck);
                reseal_parts(context, &reseal, "a reader has left", fleet, home, &args.change).map(|_| ())
            },
        },
    )
}

fn shown_revocation(plan: &RevokePlan) -> Shown {
    let mut lines = Vec::new();
    let names = |list: &[MemberName]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    lines.push(format!("leaves ({}): {}", plan.why, names(&plan.leaving)));
    lines.push(format!("keys that end: {}", plan.keys));
    match plan.certificates.is_empty() {
        true => lines.push("certificates: no key here can revoke them for gpg; the log's word stands".to_owned()),
        false => lines.push(format!(
            "certificates revoked for gpg and sq, too: {}",
            names(&plan.certificates.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>())
        )),
    }
    if let Some((region, index)) = &plan.address {
        lines.push(format!("mesh: address {index} of region {region} is given back, and rests in quarantine"));
    }
    if !plan.serials.is_empty() {
        lines.push(format!(
            "SSH certificates revoked (KRL): {}",
            plan.serials.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ));
    }
    let addresses = |set: &std::collections::BTreeSet<crate::name::Address>| {
        set.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    if !plan.losing.is_empty() {
        lines.push(format!("secrets that lose a reader: {}", addresses(&plan.losing).join(", ")));
    }
    if !plan.burned.is_empty() {
        lines.push("burned secrets, whose values have to be replaced:".to_owned());
        lines.extend(addresses(&plan.burned).into_iter().map(|a| format!("  {a}")));
    }
    let json = json!({
        "leaving": names_json(&plan.leaving), "why": plan.why.to_string(), "keys": plan.keys, "certificates": names_json(plan.certificates.iter().map(|(n, _)| n)),
        "serials": plan.serials, "losing": addresses(&plan.losing), "burned": addresses(&plan.burned),
    });
    Shown { lines, json, empty: false }
}
