//! Changes that are shown before they are made: how they are asked for, and how what became of them is said.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use serde_json::Value;

use super::Context;
use crate::cli::args::Change;
use crate::cli::exit::{CliError, Exit};
use crate::fleet::{Draft, Fleet, Placed, View};
use crate::home::Home;

/// What a plan looks like to people and programs.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Shown {
    /// The plan, line by line.
    pub lines: Vec<String>,
    /// The plan as JSON.
    pub json: Value,
    /// Whether there is nothing to do.
    pub empty: bool,
}

/// Turns a plan into what is to be signed.
type Drafts<'a, P> = &'a dyn Fn(&P, &mut Fleet, &Home) -> Result<Vec<Draft>, CliError>;

/// A change that is shown before it is made: how to plan it, to show the plan, and to carry it out.
pub(in crate::cli) struct Planned<'a, P> {
    pub question: &'a str,
    pub plan: &'a dyn Fn(&mut Fleet, &Home) -> Result<P, CliError>,
    pub show: &'a dyn Fn(&P, &Fleet) -> Shown,
    pub drafts: Drafts<'a, P>,
    /// What is done once all of it is logged.
    pub after: &'a dyn Fn(&mut Fleet, &Home) -> Result<(), CliError>,
}

/// The same for a change that carries itself out, in parts.
pub(in crate::cli) struct Stepwise<'a, P> {
    pub question: &'a str,
    pub plan: &'a dyn Fn(&mut Fleet, &Home) -> Result<P, CliError>,
    pub show: &'a dyn Fn(&P, &Fleet) -> Shown,
    pub carry_out: Carry<'a, P>,
}

/// Carries a plan out, and says where it ended up.
type Carry<'a, P> = &'a dyn Fn(&P, &mut Fleet, &Home) -> Result<Vec<Placed>, CliError>;

impl Context {
    /// Whether to go on: asks on a terminal; `--yes` answers; nobody to ask means no.
    pub(in crate::cli) fn confirm(&self, change: &Change, question: &str) -> Result<Go, CliError> {
        if change.dry_run {
            return Ok(Go::No(Exit::Pending));
        }
        if change.yes {
            return Ok(Go::Yes);
        }
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(CliError::new(Exit::Pending, "nothing was changed: there is no terminal to ask on")
                .hint("pass --yes to go on without a question"));
        }
        let _ = write!(std::io::stderr(), "{question} [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|e| CliError::failed(format!("cannot read the answer: {e}")))?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            Ok(Go::Yes)
        } else {
            self.say("nothing was changed");
            Ok(Go::No(Exit::Pending))
        }
    }

    /// Plans, shows, asks, carries out.
    pub(in crate::cli) fn planned<P>(&self, change: &Change, planned: &Planned<'_, P>) -> Result<Exit, CliError> {
        let carry_out = |plan: &P, fleet: &mut Fleet, home: &Home| {
            let drafts = (planned.drafts)(plan, fleet, home)?;
            let placed = self.place(fleet, home, drafts, change)?;
            if placed_exit(&placed) == Exit::Ok {
                (planned.after)(fleet, home)?;
            }
            Ok(placed)
        };
        let Planned { question, plan, show, .. } = *planned;
        self.stepwise(change, &Stepwise { question, plan, show, carry_out: &carry_out })
    }

    /// Plans, shows, asks, carries out. The question is asked without the lock; if the plan is another one by the time
    /// the lock is there, nothing is done.
    pub(in crate::cli) fn stepwise<P>(&self, change: &Change, planned: &Stepwise<'_, P>) -> Result<Exit, CliError> {
        let mut agreed = None;
        if change.dry_run || !change.yes {
            let home = self.home()?;
            let mut fleet = self.open_with(Some(&home), View::Newest)?;
            let plan = (planned.plan)(&mut fleet, &home)?;
            let shown = (planned.show)(&plan, &fleet);
            self.show(&shown)?;
            if shown.empty {
                return self.finish_plan(&shown, &[], Exit::Ok);
            }
            match self.confirm(change, planned.question)? {
                Go::Yes => agreed = Some(shown.lines),
                Go::No(exit) => return self.finish_plan(&shown, &[], exit),
            }
        }
        let (shown, placed) = self.change(|fleet, home| {
            let plan = (planned.plan)(fleet, home)?;
            let shown = (planned.show)(&plan, fleet);
            match &agreed {
                Some(lines) if *lines != shown.lines => {
                    return Err(CliError::new(Exit::Moved, "the plan is another one by now; nothing was changed")
                        .hint("look at it again"));
                }
                Some(_) => {}
                None => self.show(&shown)?,
            }
            if shown.empty {
                return Ok((shown, Vec::new()));
            }
            let placed = (planned.carry_out)(&plan, fleet, home)?;
            Ok((shown, placed))
        })?;
        let exit = placed_exit(&placed);
        self.finish_plan(&shown, &placed, exit)
    }

    fn show(&self, shown: &Shown) -> Result<(), CliError> {
        if !self.json {
            for line in &shown.lines {
                self.out.line(line)?;
            }
        }
        Ok(())
    }

    fn finish_plan(&self, shown: &Shown, placed: &[Placed], exit: Exit) -> Result<Exit, CliError> {
        if self.json {
            let placed: Vec<Value> = placed.iter().map(placed_json).collect();
            return self.answer(serde_json::json!({ "plan": shown.json, "placed": placed }), exit);
        }
        for placed in placed {
            self.say(&placed_text(placed));
        }
        Ok(exit)
    }
}

/// The answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Go {
    Yes,
    No(Exit),
}

/// Where a change ended up, in words.
pub(in crate::cli) fn placed_text(placed: &Placed) -> String {
    match placed {
        Placed::Logged { id, verdict } => {
            let void = if verdict.void.is_empty() {
                String::new()
            } else {
                format!(", {} of its changes void", verdict.void.len())
            };
            let locked = verdict.locked.map(|due| format!(", takes effect at {due} unless somebody objects"));
            format!("entry {} ({}){void}{}", verdict.index, id.short(), locked.unwrap_or_default())
        }
        Placed::HandedIn { id } => {
            format!("handed in {} (complete; in force when whoever has the log's key takes it in)", id.short())
        }
        Placed::Proposed { id, missing } => format!("proposal {} (still needs {missing})", id.short()),
    }
}

/// Where a change ended up, as JSON.
pub(in crate::cli) fn placed_json(placed: &Placed) -> Value {
    match placed {
        Placed::Logged { id, verdict } => {
            let void: Vec<Value> =
                verdict.void.iter().map(|(i, v)| serde_json::json!({ "change": i, "why": v.to_string() })).collect();
            serde_json::json!({ "id": id.to_string(), "state": "logged", "index": verdict.index, "void": void, "locked": verdict.locked.map(|t| t.to_string()) })
        }
        Placed::HandedIn { id } => serde_json::json!({ "id": id.to_string(), "state": "handed-in" }),
        Placed::Proposed { id, missing } => {
            serde_json::json!({ "id": id.to_string(), "state": "proposed", "missing": missing })
        }
    }
}

/// The exit code for where changes ended up.
pub(in crate::cli) fn placed_exit(placed: &[Placed]) -> Exit {
    if placed.iter().all(|p| matches!(p, Placed::Logged { .. })) { Exit::Ok } else { Exit::Unauthorised }
}
