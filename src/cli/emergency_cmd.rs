//! `keys emergency`: stopping members where the log is out of reach; and what is said of it afterwards.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::args::Change;
use super::context::{Context, Go, shown};
use super::describe::relative;
use super::exit::{CliError, Exit};
use super::fleet_cmd::{describe_proposal, proposal_json};
use super::founding::{read_file, write_file};
use super::status::Item;
use crate::fleet::{Fleet, Proposal, Standing};
use crate::home::Home;
use crate::limits::ENTRY_BYTES_MAX;
use crate::name::MemberName;
use crate::ops::{self, Fate};
use crate::state::State;
use crate::statement::{Act, Entry, StopReason};
use crate::time::rough;

#[derive(Debug, ClapArgs)]
pub(super) struct EmergencyArgs {
    #[command(subcommand)]
    pub verb: EmergencyVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum EmergencyVerb {
    /// Declare members stopped, in a file that others approve: nothing is sent anywhere
    #[command(
        after_help = "The policy's quorum for the act 'emergency' decides. The file is good for 30 days, and public.
Examples:
  keys emergency declare fra1 --why compromised --reason 'seen elsewhere' --out fra1.emergency
  keys emergency declare ams1 ams2 --why lost --reason 'the rack is gone' --out rack.emergency --yes"
    )]
    Declare {
        /// Who is stopped, with their services
        #[arg(required = true, value_name = "MEMBER")]
        members: Vec<MemberName>,
        /// compromised or lost
        #[arg(long, value_name = "WHY")]
        why: StopReason,
        /// Why; recorded in the log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Where to write the file; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        change: Change,
    },
    /// Show what a declared emergency would change, and sign it in its file
    #[command(after_help = "Examples:
  keys emergency approve fra1.emergency --dry-run      only shows it
  keys emergency approve fra1.emergency")]
    Approve {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        change: Change,
    },
    /// Let a declared emergency count on this machine from now on; 'keys sync' hands it in when it can
    #[command(
        after_help = "Signatures and quorum are checked against what this machine knows; it need not reach anybody. Then render and bring
its files to where they are used: 'keys wg render', 'keys ssh render'.
Examples:
  keys emergency apply fra1.emergency"
    )]
    Apply {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        change: Change,
    },
}

/// `keys emergency`.
pub(super) fn emergency(context: &Context, args: &EmergencyArgs) -> Result<Exit, CliError> {
    match &args.verb {
        EmergencyVerb::Declare { members, why, reason, out, change } => {
            declare(context, members, *why, reason, out, change)
        }
        EmergencyVerb::Approve { file, change } => approve(context, file, change),
        EmergencyVerb::Apply { file, change } => apply(context, file, change),
    }
}

fn declare(
    context: &Context,
    members: &[MemberName],
    why: StopReason,
    reason: &str,
    out: &Path,
    change: &Change,
) -> Result<Exit, CliError> {
    let home = context.home()?;
    let mut fleet = context.open()?;
    let stops = ops::plan_emergency(members, why, &fleet)?;
    let mut signers = ops::deciders(&home, &mut fleet, change.signer.as_ref())?;
    let by = signers.first().map(|s| s.member.clone()).ok_or_else(|| CliError::failed("nobody here can sign"))?;
    let now = fleet.now();
    let signed = fleet.drafted(Act::Emergency(stops.clone()), reason.to_owned(), now, by)?;
    let draft = Proposal { signed, signatures: Vec::new() };
    describe_proposal(&draft, &mut fleet)?.iter().for_each(|line| context.say(line));
    if out.exists() {
        return Err(CliError::failed(format!("{} is there already; nothing is overwritten", shown(out))));
    }
    if let Go::No(exit) = context.confirm(change, "Declare it?")? {
        return answer(context, &mut fleet, &draft, "", exit);
    }
    let (proposal, standing) = fleet.declare(stops, reason, &mut signers)?;
    keep(context, &mut fleet, &proposal, &standing, out)
}

fn approve(context: &Context, file: &Path, change: &Change) -> Result<Exit, CliError> {
    let home = context.home()?;
    let mut fleet = context.open()?;
    let proposal = fleet.read_emergency(&read_file(file, ENTRY_BYTES_MAX)?)?;
    describe_proposal(&proposal, &mut fleet)?.iter().for_each(|line| context.say(line));
    if let Go::No(exit) = context.confirm(change, "Sign it?")? {
        return answer(context, &mut fleet, &proposal, "", exit);
    }
    let mut signers = ops::deciders(&home, &mut fleet, change.signer.as_ref())?;
    let (proposal, standing) = fleet.approve_emergency(&proposal, &mut signers)?;
    keep(context, &mut fleet, &proposal, &standing, file)
}

/// Writes an emergency with its signatures into its file.
fn keep(
    context: &Context,
    fleet: &mut Fleet,
    proposal: &Proposal,
    standing: &Standing,
    file: &Path,
) -> Result<Exit, CliError> {
    let entry = Entry { signed: proposal.signed.clone(), signatures: proposal.signatures.clone() };
    write_file(file, &entry.to_bytes().map_err(CliError::failed)?)?;
    let (exit, told) = match standing {
        Standing::Lacks(missing) => {
            (Exit::Unauthorised, format!("{}: still needs {missing}: keys emergency approve", shown(file)))
        }
        Standing::Complete | Standing::Dead(_) => {
            (Exit::Ok, format!("{}: complete; bring it to every machine: keys emergency apply", shown(file)))
        }
    };
    answer(context, fleet, proposal, &told, exit)
}

fn answer(context: &Context, fleet: &mut Fleet, proposal: &Proposal, told: &str, exit: Exit) -> Result<Exit, CliError> {
    if context.json {
        return context.answer(json!({ "emergency": proposal_json(proposal, fleet)? }), exit);
    }
    if !told.is_empty() {
        context.out.line(told)?;
    }
    Ok(exit)
}

fn apply(context: &Context, file: &Path, change: &Change) -> Result<Exit, CliError> {
    let home = context.home()?;
    // What a machine goes by is what it judges by.
    let mut fleet = context.open_published()?;
    let proposal = fleet.read_emergency(&read_file(file, ENTRY_BYTES_MAX)?)?;
    let id = proposal.signed.id.short();
    describe_proposal(&proposal, &mut fleet)?.iter().for_each(|line| context.say(line));
    if let Go::No(exit) = context.confirm(change, "Let it count on this machine?")? {
        return answer(context, &mut fleet, &proposal, "", exit);
    }
    let _lock = context.lock(home.disk())?;
    let told = match ops::apply_emergency(&proposal, &home, &mut fleet)? {
        Some(held) => format!("{id} counts on this machine since {}; 'keys sync' hands it in", held.applied),
        None => format!("{id} counts on this machine already"),
    };
    answer(context, &mut fleet, &proposal, &told, Exit::Ok)
}

impl Context {
    /// Hands in what was applied here, for every change that is made; and says what became of it.
    pub(super) fn hand_in(&self, home: &Home, fleet: &mut Fleet) -> Result<(), CliError> {
        for (id, fate) in ops::hand_in_emergencies(home, fleet)? {
            let id = id.short();
            match fate {
                Fate::Logged { index, lag } => {
                    self.say(&format!(
                        "emergency {id} is entry {index} of the log, {} after its declaration",
                        rough(lag)
                    ));
                }
                Fate::HandedIn(true) => self.say(&format!("emergency {id}, applied here, is handed in")),
                Fate::HandedIn(false) => {}
                Fate::Settled(why) => self.say(&format!("emergency {id} no longer counts here by itself: {why}")),
                Fate::Stuck(why) => self.say(&format!(
                    "EMERGENCY {id} counts here and cannot come into the log as it is: {why}; declare it anew"
                )),
            }
        }
        Ok(())
    }
}

/// What `keys status` says of emergencies that count here and are not in the log.
pub(super) fn attention(home: &Home, fleet: &Fleet) -> Result<Vec<Item>, CliError> {
    let now = fleet.now();
    let waiting: Vec<_> = fleet.applied().into_iter().map(|a| a.signed.id).collect();
    let held = home.emergencies()?.into_iter().filter(|h| waiting.contains(&h.entry.signed.id));
    let item = |held: crate::home::HeldEmergency| {
        let statement = &held.entry.signed.statement;
        let who = match &statement.act {
            Act::Emergency(stops) => {
                stops.iter().map(|s| format!("{} {}", s.member, s.why)).collect::<Vec<_>>().join(", ")
            }
            _ => String::new(),
        };
        let what = format!("{} ({who}) was applied here {}", held.entry.signed.id.short(), relative(held.applied, now));
        match held.handed {
            _ if statement.expires < now => Item {
                topic: "EMERGENCY",
                text: format!("LATE: {what}, expired {} and is not in the log", relative(statement.expires, now)),
                fix: "keys emergency declare, anew",
            },
            None => Item {
                topic: "EMERGENCY",
                text: format!("{what} and is not handed in yet"),
                fix: "keys sync, as soon as the keyring is in reach",
            },
            Some(handed) if held.is_late(now) => Item {
                topic: "EMERGENCY",
                text: format!(
                    "LATE: {what}, handed in {}, and is not in the log: whoever has the log's key withholds it, or cannot take it",
                    relative(handed, now)
                ),
                fix: "keys sync, where the log's key is; ask who runs it",
            },
            Some(handed) => Item {
                topic: "EMERGENCY",
                text: format!("{what}, handed in {}, and waits for the log", relative(handed, now)),
                fix: "keys sync, where the log's key is",
            },
        }
    };
    Ok(held.map(item).collect())
}

/// How an emergency came into the log, for `keys log show`.
pub(super) fn lag_lines(entry: &Entry, index: u64, state: &State) -> Vec<String> {
    let Some(logged) = state.emergencies.get(&entry.signed.id).filter(|l| l.index == index) else { return Vec::new() };
    let applied: Vec<String> =
        state.applied_by(entry).into_iter().map(|(name, at)| format!("applied on {name} {at}")).collect();
    let applied = if applied.is_empty() { String::new() } else { format!("; {}", applied.join(", ")) };
    vec![format!("declared {}{applied}; logged {}, {} later", logged.declared, logged.logged, rough(logged.lag()))]
}

/// The same for programs.
pub(super) fn lag_json(entry: &Entry, index: u64, state: &State) -> Option<Value> {
    let logged = state.emergencies.get(&entry.signed.id).filter(|l| l.index == index)?;
    let applied: serde_json::Map<String, Value> =
        state.applied_by(entry).into_iter().map(|(name, at)| (name.to_string(), json!(at.to_string()))).collect();
    Some(json!({
        "declared": logged.declared.to_string(), "applied": applied, "logged": logged.logged.to_string(), "lag": logged.lag().0,
    }))
}
