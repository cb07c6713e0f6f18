//! `keys status --nodes`: what the machines say of themselves, held against the log: who has come how far, wave by wave, who
//! has not been heard of, and what is not as it should be there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::args::Status;
use super::context::Context;
use super::describe::relative;
use super::exit::{CliError, Exit};
use super::output::Table;
use crate::agent::{Ack, Outcome, WAVES, waves};
use crate::fleet::{AckProblem, Fleet};
use crate::name::{Kind, MemberName, Slot};

/// What is known of one node.
struct Node {
    member: MemberName,
    wave: usize,
    ack: Option<Ack>,
    /// What is the matter, worst first; nothing if all is well.
    matters: Vec<String>,
    stale: bool,
    standbys: Vec<Slot>,
}

/// `keys status --nodes`.
pub(super) fn nodes(context: &Context, args: &Status) -> Result<Exit, CliError> {
    let mut fleet = context.open()?;
    let size = fleet.published().map_or(0, |p| p.checkpoint.size);
    let entry = args.entry.unwrap_or(size.saturating_sub(1));
    if entry >= size {
        let message = format!("the log has no entry {entry} that is published: it has {size} entries, counted from 0");
        return Err(CliError::new(Exit::NotFound, message));
    }
    let nodes = look(&mut fleet, args)?;
    let has = |node: &&Node| node.ack.as_ref().is_some_and(|a| a.size > entry);
    let by_wave: Vec<(usize, usize)> = (0..WAVES.len())
        .map(|wave| {
            let of = nodes.iter().filter(|n| n.wave == wave);
            (of.clone().filter(has).count(), of.count())
        })
        .collect();
    let is_well = nodes.iter().all(|n| n.matters.is_empty());
    let exit = if args.check && !is_well { Exit::Pending } else { Exit::Ok };
    if context.json {
        let waves: Vec<Value> = WAVES
            .iter()
            .zip(&by_wave)
            .map(|(wave, (have, of))| json!({ "wave": wave, "have": have, "nodes": of }))
            .collect();
        let rows: Vec<Value> = nodes.iter().map(|n| node_json(n, has(&n))).collect();
        return context.answer(json!({ "entry": entry, "log": size, "nodes": rows, "waves": waves }), exit);
    }
    let mut table = Table::new(&["node", "wave", "entries", "behind", "heard", "services", ""]);
    for node in &nodes {
        let now = fleet.now();
        let (entries, behind, heard, services) = match &node.ack {
            None => Default::default(),
            Some(ack) => (
                ack.size.to_string(),
                size.saturating_sub(ack.size).to_string(),
                relative(ack.at, now),
                format!("{}/{}", well(ack), ack.deliveries.len()),
            ),
        };
        let wave = WAVES.get(node.wave).copied().unwrap_or_default().to_owned();
        table.row([node.member.to_string(), wave, entries, behind, heard, services, node.matters.join("; ")]);
    }
    if table.is_empty() {
        context.out.line("there are no PoPs")?;
    }
    table.lines().iter().filter(|_| !nodes.is_empty()).try_for_each(|line| context.out.line(line))?;
    for (wave, (have, of)) in WAVES.iter().zip(&by_wave).filter(|(_, (_, of))| *of > 0) {
        context.out.line(&format!("{:<9} {have} of {of} have entry {entry}", format!("{wave}:")))?;
    }
    Ok(exit)
}

/// Deliveries that are as the log says.
fn well(ack: &Ack) -> usize {
    ack.deliveries.iter().filter(|d| d.outcome == Outcome::Current).count()
}

fn look(fleet: &mut Fleet, args: &Status) -> Result<Vec<Node>, CliError> {
    let (mut acks, copied) = (fleet.acks()?, fleet.copied()?);
    let (state, now) = (fleet.state(), fleet.now());
    let pops: BTreeSet<&MemberName> =
        state.members.iter().filter(|(_, m)| m.is_active() && m.kind == Kind::Pop).map(|(n, _)| n).collect();
    let mut standbys: BTreeMap<MemberName, Vec<Slot>> = BTreeMap::new();
    for (member, slot) in state.missing_standbys() {
        standbys.entry(member.owner()).or_default().push(slot);
    }
    let mut nodes = Vec::new();
    for (member, wave) in waves(pops.iter().copied()) {
        let (mut matters, mut stale) = (Vec::new(), false);
        let ack = match acks.remove(member) {
            None => {
                stale = true;
                matters.push("has never been heard of".to_owned());
                None
            }
            Some(Err(problem @ AckProblem::Fork { .. })) => {
                matters.push(problem.to_string());
                None
            }
            Some(Err(problem)) => {
                stale = true;
                matters.push(format!("its acknowledgement does not count: {problem}"));
                None
            }
            Some(Ok(ack)) => {
                stale |= now.since(ack.at) > args.stale;
                if stale {
                    matters.push(format!("not heard of for more than {}", args.stale));
                }
                let wanted = state.policy.policy.fleet.protection.pop;
                if ack.protection < wanted {
                    matters.push(format!("guarded by '{}'; the policy wants '{wanted}'", ack.protection));
                }
                matters.extend(ack.deliveries.iter().filter(|d| d.outcome != Outcome::Current).map(|d| {
                    let generation = d.generation.map_or_else(|| "nothing".to_owned(), |n| format!("generation {n}"));
                    format!("{}: {}, {generation} is served", d.directory, d.outcome)
                }));
                let late = ack.deliveries.iter().filter(|d| d.expired);
                matters.extend(late.map(|d| format!("{}: an expired value is served", d.directory)));
                Some(ack)
            }
        };
        matters.extend(copied.get(member).map(|_| copied_text(member)));
        let standbys = standbys.remove(member).unwrap_or_default();
        matters.extend(standbys.iter().map(|slot| format!("no {slot} standby")));
        nodes.push(Node { member: member.clone(), wave, ack, matters, stale, standbys });
    }
    nodes.sort_by(|a, b| (a.wave, &a.member).cmp(&(b.wave, &b.member)));
    Ok(nodes)
}

fn node_json(node: &Node, has: bool) -> Value {
    json!({
        "node": node.member.to_string(), "wave": WAVES.get(node.wave), "has_entry": has, "stale": node.stale,
        "missing_standbys": node.standbys.iter().map(ToString::to_string).collect::<Vec<_>>(), "matters": node.matters,
        "ack": node.ack.as_ref().and_then(|a| serde_json::to_value(a).ok()),
    })
}

/// What is told of a member whose keys two machines have.
pub(super) fn copied_text(member: &MemberName) -> String {
    format!("{member} runs on two machines at once: its keys, and what it can read, were copied")
}
