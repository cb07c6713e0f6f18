//! Stopping what waits: `keys object` and `keys withdraw`.

use serde_json::json;

use super::args::{Object, Withdraw};
use super::context::{Context, Go, placed_exit, placed_json, placed_text};
use super::describe;
use super::exit::{CliError, Exit};
use crate::digest::Digest;
use crate::fleet::{Draft, Fleet};
use crate::statement::{Act, Objection};

/// `keys object`.
pub(super) fn object(context: &Context, args: &Object) -> Result<Exit, CliError> {
    let mut fleet = context.open()?;
    let (id, told) = subject(&args.id, &mut fleet)?;
    context.say(&told);
    match context.confirm(&args.change, "Stop it for good?")? {
        Go::Yes => {}
        Go::No(exit) if context.json => {
            return context.answer(json!({ "statement": id.to_string(), "placed": [] }), exit);
        }
        Go::No(exit) => return Ok(exit),
    }
    let draft = Draft::bare(Act::Object(vec![Objection { statement: id }]), &args.reason);
    // What is complete must not be taken in first by the very command that objects to it.
    let placed = context.change_proposals(|fleet, home| context.place(fleet, home, vec![draft], &args.change))?;
    let exit = placed_exit(&placed);
    if context.json {
        let placed: Vec<_> = placed.iter().map(placed_json).collect();
        return context.answer(json!({ "statement": id.to_string(), "placed": placed }), exit);
    }
    placed.iter().try_for_each(|p| context.out.line(&placed_text(p)))?;
    Ok(exit)
}

/// The statement that is meant, and what it is.
fn subject(text: &str, fleet: &mut Fleet) -> Result<(Digest, String), CliError> {
    let locked: Vec<_> = fleet.state().locked.iter().filter(|(id, _)| id.to_string().starts_with(text)).collect();
    if let ([(id, wait)], true) = (locked.as_slice(), text.len() >= 4) {
        let what = wait.statement().map(|s| describe::headline(&s)).unwrap_or_default();
        let due = describe::relative(wait.due, fleet.now());
        return Ok((**id, format!("entry {} ({})  {what}; it takes effect {due}", wait.index, id.short())));
    }
    match (fleet.find_proposal(text), Digest::parse(text)) {
        (Ok(proposal), _) => {
            let told =
                format!("proposal {}  {}", proposal.signed.id.short(), describe::headline(&proposal.signed.statement));
            Ok((proposal.signed.id, told))
        }
        // It may be on its way from somewhere else.
        (Err(_), Some(id)) => Ok((id, format!("statement {id}, which is not among the proposals here"))),
        (Err(e), None) => Err(e.into()),
    }
}

/// `keys withdraw`.
pub(super) fn withdraw(context: &Context, args: &Withdraw) -> Result<Exit, CliError> {
    let mut fleet = context.open()?;
    let proposal = fleet.find_proposal(&args.id)?;
    context.say(&format!(
        "proposal {}  {}",
        proposal.signed.id.short(),
        describe::headline(&proposal.signed.statement)
    ));
    if let Go::No(exit) = context.confirm(&args.change, "Take it back?")? {
        return Ok(exit);
    }
    context.change_proposals(|fleet, home| {
        let author = &proposal.signed.statement.by;
        if !home.members()?.contains(author) {
            return Err(CliError::failed(format!("only its author {author} takes a proposal back"))
                .hint(format!("'keys object {} --reason TEXT' stops it for good", proposal.signed.id.short())));
        }
        Ok(fleet.withdraw(&proposal)?)
    })?;
    context.say(&format!(
        "taken back; whoever kept a copy can hand it in until {}, unless somebody objects: keys object {}",
        proposal.signed.statement.expires, proposal.signed.id
    ));
    Ok(Exit::Ok)
}
