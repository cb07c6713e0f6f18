//! `keys invite`: who may join by a token. The token is shown or written once; the log has its public half.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::args::{Change, Reason};
use super::context::{Context, Go, placed_exit, placed_json, placed_text, reason, shown};
use super::describe;
use super::exit::{CliError, Exit};
use super::founding::read_file;
use super::output::{Table, complain};
use crate::fleet::Placed;
use crate::limits::OBJECT_BYTES_MAX;
use crate::name::{Label, MemberName};
use crate::ops::{self, Inviting, Terms};
use crate::state::Invitation;
use crate::statement::{Approval, Facts, Token};
use crate::time::{Span, Time};
use crate::wireguard::{Endpoint, Host};

#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "The token is a seed that signs one request. It is good once, within its window, for that name with these services, and
worthless afterwards. A newer invitation of a name takes the place of the one before.
--from reads a table: a head line, then a line for each machine. Columns: member, services, region, roles, endpoint, dmi, replace.
Examples:
  keys invite fra1 --services nginx,dns --ttl 2h --out fra1.token
  keys invite fra1 --services nginx,dns --approval auto --out fra1.token
  keys invite fra1 --replace --out fra1.token                 the machine that was fra1 is lost
  keys invite --from inventory.csv --ttl 8h --out tokens
  keys invite list
  keys invite revoke fra1 --reason 'the token was in a ticket'"
)]
pub(super) struct Invite {
    #[command(flatten)]
    pub make: InviteMake,
    #[command(subcommand)]
    pub verb: Option<InviteVerb>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct InviteMake {
    /// The PoP that may join
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    pub member: Option<MemberName>,
    /// Services that join with it
    #[arg(long, alias = "service", value_name = "NAMES", value_delimiter = ',', conflicts_with = "from")]
    pub services: Vec<Label>,
    /// Its region, which decides its address pool
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    pub region: Option<Label>,
    /// What it is in the mesh, as the topology's rules name it: hub, transit
    #[arg(long = "role", value_name = "NAME", value_delimiter = ',', conflicts_with = "from")]
    pub roles: Vec<Label>,
    /// Where its WireGuard is reached [default: as the machine says]
    #[arg(long, value_name = "HOST", conflicts_with = "from")]
    pub endpoint: Option<Host>,
    /// Only the machine with this hardware UUID (/sys/class/dmi/id/product_uuid), as it says itself
    #[arg(long, value_name = "UUID", value_parser = ops::hardware_uuid, conflicts_with = "from")]
    pub dmi: Option<String>,
    /// It takes the place of the machine that has the name now, which then counts as lost
    #[arg(long, conflicts_with = "from")]
    pub replace: bool,
    /// A table of machines
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// How long it is good
    #[arg(long, value_name = "SPAN", default_value = "2h", value_parser = span)]
    pub ttl: Span,
    /// From when on it is good [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub not_before: Option<Time>,
    /// auto: whoever has the token joins; operators: the enrolment is approved anew
    #[arg(long, value_name = "HOW", default_value = "operators")]
    pub approval: Approval,
    /// Write the token to this new file, with --from a file for each machine into this new directory [default: stdout]
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, Subcommand)]
pub(super) enum InviteVerb {
    /// Show the invitations on record
    List {
        /// Also those that are used, withdrawn or over
        #[arg(long)]
        all: bool,
    },
    /// Withdraw an invitation by which nobody has joined
    Revoke {
        /// Whose
        #[arg(required = true, value_name = "MEMBER")]
        members: Vec<MemberName>,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        reason: Reason,
    },
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "expected a length of time such as 2h".to_owned())
}

fn time(text: &str) -> Result<Time, String> {
    Time::parse(text).ok_or_else(|| "expected a time such as 2026-11-22T07:00:00Z".to_owned())
}

/// `keys invite`.
pub(super) fn invite(context: &Context, args: &Invite) -> Result<Exit, CliError> {
    match &args.verb {
        None => make(context, &args.make),
        Some(InviteVerb::List { all }) => list(context, *all),
        Some(InviteVerb::Revoke { members, change, reason: why }) => {
            let why = reason(why, "withdrawn");
            let draft = ops::plan_uninvite(members, &why, &context.open()?)?;
            describe::act(&draft.act, None, &|_| None).iter().for_each(|line| context.say(line));
            if let Go::No(exit) = context.confirm(change, "Withdraw?")? {
                return Ok(exit);
            }
            let placed = context.change(|fleet, home| {
                let draft = ops::plan_uninvite(members, &why, fleet)?;
                context.place(fleet, home, vec![draft], change)
            })?;
            finish(context, &placed, &[])
        }
    }
}

fn make(context: &Context, args: &InviteMake) -> Result<Exit, CliError> {
    let wanted = wanted(args)?;
    if args.out.is_none() && !args.change.dry_run && context.out.is_thrown_away() {
        return Err(CliError::usage("stdout is closed, or is /dev/null: the token would be lost, which is shown once")
            .hint("name a file for it with --out"));
    }
    let fleet = context.open()?;
    let not_before = args.not_before.unwrap_or(fleet.now());
    let terms = Terms { approval: args.approval, not_before, not_after: not_before.plus(args.ttl) };
    let (invitations, tokens) = ops::plan_invite(&wanted, &terms, &fleet, &mut context.rng()?)?;
    let draft = ops::invite_draft(&invitations, &reason(&args.reason, "invited"));
    let object = invitations.to_bytes();
    describe::act(&draft.act, None, &|_| Some(object.clone())).iter().for_each(|line| context.say(line));
    drop(fleet);
    if let Go::No(exit) = context.confirm(&args.change, "Invite?")? {
        return Ok(exit);
    }
    // First the tokens: an invitation whose token nobody has would be in the way.
    let written = match &args.out {
        Some(out) if args.from.is_some() => write_all(out, &tokens)?,
        Some(out) => tokens.iter().map(|(_, token)| write_token(out, token)).collect::<Result<_, _>>()?,
        None => {
            say_tokens(context, &tokens)?;
            Vec::new()
        }
    };
    let placed = context.change(|fleet, home| context.place(fleet, home, vec![draft], &args.change));
    let placed = placed.inspect_err(|_| {
        if args.out.is_none() && !context.json {
            complain("nothing was logged: what was shown is good for nothing");
        }
        for path in &written {
            let _ = std::fs::remove_file(path);
        }
        if let Some(directory) = args.out.as_ref().filter(|_| args.from.is_some()) {
            let _ = std::fs::remove_dir(directory);
        }
    })?;
    if let Some(out) = &args.out {
        context.say(&format!(
            "{} written to {}; bring it to the machine, and nowhere else",
            tokens_text(&tokens),
            shown(out)
        ));
        return finish(context, &placed, &[]);
    }
    finish(context, &placed, &tokens)
}

fn tokens_text(tokens: &[(MemberName, Token)]) -> String {
    if tokens.len() == 1 { "the token is".to_owned() } else { format!("{} tokens are", tokens.len()) }
}

fn wanted(args: &InviteMake) -> Result<Vec<(MemberName, Inviting)>, CliError> {
    if let Some(from) = &args.from {
        let bytes = read_file(from, OBJECT_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| CliError::usage(format!("{} is not UTF-8", shown(from))))?;
        return ops::parse_inventory(&text).map_err(|e| CliError::usage(format!("{}: {e}", shown(from))));
    }
    let member = args.member.clone().ok_or_else(|| CliError::usage("nobody is named"))?;
    let facts = Facts {
        endpoint: args.endpoint.clone().map(Endpoint::from),
        region: args.region.clone(),
        roles: args.roles.iter().cloned().collect(),
    };
    let (services, dmi) = (args.services.iter().cloned().collect(), args.dmi.clone());
    Ok(vec![(member, Inviting { services, facts, dmi, replace: args.replace })])
}

/// Writes a new file that only its owner can read, from its birth on.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<PathBuf, CliError> {
    let failed = |e: std::io::Error| {
        CliError::failed(format!("cannot write {}: {e}", shown(path)))
            .hint("nothing was made; name a file that is not there yet")
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| {
        let _ = std::fs::remove_file(path);
        failed(e)
    })?;
    Ok(path.to_owned())
}

/// Makes a new directory that only its owner can enter.
pub(super) fn make_directory(directory: &Path) -> Result<(), CliError> {
    std::fs::DirBuilder::new().mode(0o700).create(directory).map_err(|e| {
        CliError::failed(format!("cannot make {}: {e}", shown(directory)))
            .hint("nothing was made; name a directory that is not there yet")
    })
}

fn write_token(path: &Path, token: &Token) -> Result<PathBuf, CliError> {
    write_private(path, Zeroizing::new([token.to_text().as_str(), "\n"].concat()).as_bytes())
}

fn write_all(directory: &Path, tokens: &[(MemberName, Token)]) -> Result<Vec<PathBuf>, CliError> {
    make_directory(directory)?;
    let mut written = Vec::new();
    for (member, token) in tokens {
        match write_token(&directory.join(format!("{member}.token")), token) {
            Ok(path) => written.push(path),
            Err(e) => {
                let _ = std::fs::remove_dir_all(directory);
                return Err(e);
            }
        }
    }
    Ok(written)
}

fn finish(context: &Context, placed: &[Placed], tokens: &[(MemberName, Token)]) -> Result<Exit, CliError> {
    let exit = placed_exit(placed);
    if context.json {
        let tokens: serde_json::Map<String, Value> =
            tokens.iter().map(|(member, token)| (member.to_string(), json!(*token.to_text()))).collect();
        let rows: Vec<Value> = placed.iter().map(placed_json).collect();
        let names = tokens.keys().cloned().collect::<Vec<_>>().join(" ");
        return context.answer(json!({ "placed": rows, "tokens": tokens }), exit).map_err(|e| match names.as_str() {
            "" => e,
            _ => e.hint(format!("the tokens are lost: 'keys invite revoke {names}', and invite anew")),
        });
    }
    placed.iter().for_each(|p| context.say(&placed_text(p)));
    if !tokens.is_empty() {
        complain("this is shown once: bring it to the machine, and nowhere else");
    }
    Ok(exit)
}

/// Writes the tokens to stdout, for people: before anything is logged, since what cannot be written would be lost.
fn say_tokens(context: &Context, tokens: &[(MemberName, Token)]) -> Result<(), CliError> {
    for (member, token) in tokens.iter().filter(|_| !context.json) {
        match tokens.len() {
            1 => context.out.line(&token.to_text())?,
            _ => context.out.line(&format!("{member} {}", *token.to_text()))?,
        }
    }
    Ok(())
}

/// What became of an invitation, in a word.
fn standing(invitation: &Invitation, now: Time) -> &'static str {
    match (invitation.used, invitation.withdrawn) {
        (Some(_), _) => "used",
        (None, Some(_)) => "withdrawn",
        (None, None) if now > invitation.invited.not_after => "over",
        (None, None) if now < invitation.invited.not_before => "early",
        (None, None) => "open",
    }
}

fn list(context: &Context, all: bool) -> Result<Exit, CliError> {
    let fleet = context.open()?;
    let now = fleet.now();
    let chosen = fleet.state().invitations.iter().filter(|(_, i)| all || i.is_open(now));
    if context.json {
        let rows: Vec<Value> = chosen
            .map(|(_, i)| json!({ "invited": i.invited, "approved": i.approved, "standing": standing(i, now) }))
            .collect();
        return context.answer(json!({ "invitations": rows }), Exit::Ok);
    }
    let mut table = Table::new(&["member", "standing", "until", "services", "approval", "invited by"]);
    let mut count: usize = 0;
    for (member, i) in chosen {
        count = count.saturating_add(1);
        let join = |names: Vec<String>| names.join(", ");
        table.row([
            member.to_string(),
            standing(i, now).to_owned(),
            i.invited.not_after.to_string(),
            join(i.invited.services.iter().map(ToString::to_string).collect()),
            i.invited.approval.to_string(),
            join(i.approved.iter().map(ToString::to_string).collect()),
        ]);
    }
    if count == 0 {
        context.say("nobody is invited");
        return Ok(Exit::Ok);
    }
    table.lines().iter().try_for_each(|line| context.out.line(line))?;
    Ok(Exit::Ok)
}
