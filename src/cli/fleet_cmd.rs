//! `keys approve`.

use rand::CryptoRng;
use serde_json::{Value, json};

use super::args::Approve;
use super::context::{Context, Go, placed_exit, placed_json, placed_text, reason};
use super::describe;
use super::effects;
use super::exit::{CliError, Exit};
use super::founding::read_file;
use super::output::complain;
use crate::digest::Digest;
use crate::fleet::{Fleet, FleetError, Placed, Proposal, Sequencer, Signer, Standing};
use crate::home::Home;
use crate::limits::REQUEST_BYTES_MAX;
use crate::ops::{self, OpsError};
use crate::state::{Agreed, Asked, Decision, Locked, Objects as _};
use crate::statement::{Act, Request, Signed};
use crate::store::{Store, StoreError};

/// Something that waits: a proposal, or a request that nobody has turned into one.
enum Waiting {
    Proposal(Box<Proposal>),
    Request { id: Digest, bytes: Vec<u8> },
}

impl Waiting {
    fn id(&self) -> Digest {
        match self {
            Self::Proposal(proposal) => proposal.signed.id,
            Self::Request { id, .. } => *id,
        }
    }
}

/// `keys approve`.
pub(super) fn approve(context: &Context, args: &Approve) -> Result<Exit, CliError> {
    if let Some(founding) = founding(context)? {
        return approve_founding(context, args, founding);
    }
    if args.what.is_empty() && !args.all {
        return list(context);
    }
    let mut fleet = context.open()?;
    let wanted = wanted(args, &mut fleet)?;
    if wanted.is_empty() {
        return nothing(context);
    }
    for waiting in &wanted {
        for line in describe_waiting(waiting, &mut fleet, Detail::Full)? {
            context.say(&line);
        }
    }
    let shown = wanted.iter().map(|w| waiting_json(w, &mut fleet)).collect::<Result<Vec<Value>, CliError>>()?;
    if let Go::No(exit) =
        context.confirm(&args.change, if wanted.len() == 1 { "Sign it?" } else { "Sign all of these?" })?
    {
        if context.json {
            return context.answer(json!({ "placed": [], "waiting": shown }), exit);
        }
        return finish(context, &[], exit);
    }
    let mut rng = context.rng()?;
    let (placed, refused) = context.change(|fleet, home| {
        let (mut placed, mut refused) = (Vec::new(), Vec::new());
        for waiting in &wanted {
            match sign(context, args, waiting, fleet, home, &mut rng) {
                Ok(done) => placed.extend(done),
                // Anybody may hand in a request: one that is no good must not keep the others waiting.
                Err(e) if wanted.len() > 1 && is_verdict(&e) => refused.push((waiting.id(), CliError::from(e))),
                Err(e) => return Err(e.into()),
            }
        }
        Ok((placed, refused))
    })?;
    for (id, error) in &refused {
        complain(&format!("{}: {}", id.short(), error.message));
    }
    let exit = refused.first().map_or_else(|| placed_exit(&placed), |(_, error)| error.exit);
    if context.json {
        let refused = refused.iter().map(|(id, e)| json!({ "id": id.to_string(), "why": e.message }));
        let placed = placed.iter().map(placed_json).collect::<Vec<Value>>();
        return context
            .answer(json!({ "placed": placed, "refused": refused.collect::<Vec<Value>>(), "waiting": shown }), exit);
    }
    finish(context, &placed, exit)
}

/// Whether this is an answer about what was to be signed, after which everything else is as it was.
fn is_verdict(error: &OpsError) -> bool {
    match error {
        OpsError::Request(_) | OpsError::Certificate { .. } | OpsError::Void(_) | OpsError::Mesh(_) => true,
        OpsError::Fleet(e) => matches!(e, FleetError::Refused(_)),
        _ => false,
    }
}

fn nothing(context: &Context) -> Result<Exit, CliError> {
    context.say("nothing waits");
    finish(context, &[], Exit::Ok)
}

fn finish(context: &Context, placed: &[Placed], exit: Exit) -> Result<Exit, CliError> {
    if context.json {
        return context.answer(json!({ "placed": placed.iter().map(placed_json).collect::<Vec<Value>>() }), exit);
    }
    for placed in placed {
        context.out.line(&placed_text(placed))?;
    }
    Ok(exit)
}

fn sign(
    context: &Context,
    args: &Approve,
    waiting: &Waiting,
    fleet: &mut Fleet,
    home: &Home,
    rng: &mut impl CryptoRng,
) -> Result<Vec<Placed>, OpsError> {
    match waiting {
        Waiting::Proposal(proposal) => {
            let Some(current) = fleet.proposal(&proposal.signed.id)? else {
                return gone(context, args, proposal, fleet);
            };
            let mut signers = ops::signers(home, fleet, args.change.signer.as_ref())?;
            let sequencer = ops::sequencer(home, fleet)?;
            Ok(vec![fleet.approve(&current, &mut signers, sequencer.as_ref())?])
        }
        Waiting::Request { id, bytes } => {
            if ops::is_admitted(bytes, fleet) {
                context.say(&format!("request {} has been granted already", id.short()));
            }
            Ok(ops::grant(bytes, &reason(&args.reason, "admitted"), home, fleet, args.change.signer.as_ref(), rng)?)
        }
    }
}

/// A proposal is gone since it was shown: taken in just now, or dropped, which was said.
fn gone(context: &Context, args: &Approve, proposal: &Proposal, fleet: &mut Fleet) -> Result<Vec<Placed>, OpsError> {
    let id = proposal.signed.id;
    if fleet.logged_state().done.has(&id, proposal.signed.statement.expires) {
        context.say(&format!("{} is in the log already", id.short()));
        return Ok(Vec::new());
    }
    match fleet.standing(proposal)? {
        // Who asked for everything has what there is.
        _ if args.all => Ok(Vec::new()),
        Standing::Dead(void) => Err(FleetError::Refused(void).into()),
        Standing::Complete | Standing::Lacks(_) => Err(FleetError::NoProposal(id.short()).into()),
    }
}

fn requests(fleet: &Fleet) -> Result<Vec<Waiting>, CliError> {
    let found = ops::waiting_requests(fleet.store())?;
    Ok(found.into_iter().map(|(_, bytes)| Waiting::Request { id: Digest::of(&bytes), bytes }).collect())
}

/// What the arguments name.
fn wanted(args: &Approve, fleet: &mut Fleet) -> Result<Vec<Waiting>, CliError> {
    let mut all = requests(fleet)?;
    if args.all {
        all.extend(fleet.proposals()?.into_iter().map(|p| Waiting::Proposal(Box::new(p))));
        return Ok(all);
    }
    let mut found = Vec::new();
    for what in &args.what {
        let is_id = what.len() >= 4 && what.bytes().all(|b| b.is_ascii_hexdigit());
        let by_id = all
            .iter()
            .position(|w| matches!(w, Waiting::Request { id, .. } if is_id && id.to_string().starts_with(what)));
        if let Some(at) = by_id {
            found.push(all.remove(at));
        } else if is_id && !std::path::Path::new(what).exists() {
            found.push(Waiting::Proposal(Box::new(fleet.find_proposal(what)?)));
        } else {
            let bytes = read_file(std::path::Path::new(what), REQUEST_BYTES_MAX)?;
            found.push(Waiting::Request { id: Digest::of(&bytes), bytes });
        }
    }
    Ok(found)
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Short,
    Full,
}

/// A proposal in full: what it says, what it would change, where it stands.
pub(super) fn describe_proposal(proposal: &Proposal, fleet: &mut Fleet) -> Result<Vec<String>, CliError> {
    describe_waiting(&Waiting::Proposal(Box::new(proposal.clone())), fleet, Detail::Full)
}

/// The same for programs.
pub(super) fn proposal_json(proposal: &Proposal, fleet: &mut Fleet) -> Result<Value, CliError> {
    waiting_json(&Waiting::Proposal(Box::new(proposal.clone())), fleet)
}

fn describe_waiting(waiting: &Waiting, fleet: &mut Fleet, detail: Detail) -> Result<Vec<String>, CliError> {
    match waiting {
        Waiting::Request { id, bytes } => {
            let request = match Request::parse(bytes) {
                Ok((request, ..)) => request,
                Err(e) => return Ok(vec![format!("request {}: {e}", id.short())]),
            };
            let mut lines = vec![format!("request {} of {}", id.short(), request.at)];
            if request.invitation.is_some()
                && let Ok(asked) = Asked::parse(bytes)
            {
                let Decision { admission, why } = fleet.state().admission(&asked, fleet.now(), Agreed::ByInvitation);
                lines.push(format!("  by invitation ({admission}): {why}"));
            }
            for member in &request.members {
                let place = describe::place(&member.facts);
                lines.push(format!(
                    "  {} {} wants to join{place}, with {} keys",
                    member.kind,
                    member.member,
                    member.keys.len()
                ));
            }
            Ok(lines)
        }
        Waiting::Proposal(proposal) => {
            let standing = match fleet.standing(proposal)? {
                Standing::Complete => "complete; waits for somebody with the log's key".to_owned(),
                Standing::Lacks(missing) => format!("still needs {missing}"),
                Standing::Dead(void) => format!("dead: {void}"),
            };
            let statement = &proposal.signed.statement;
            let mut lines = vec![format!("proposal {}  {}", proposal.signed.id.short(), describe::headline(statement))];
            let store = fleet.store().clone();
            let objects = |digest: &Digest| store.object(digest).ok();
            let state = fleet.is_founded().then(|| fleet.state());
            lines.extend(describe::act(&statement.act, state, &objects).into_iter().map(|l| format!("  {l}")));
            lines.extend(describe_effects(proposal, fleet, detail)?.into_iter().map(|l| format!("    {l}")));
            let signed: Vec<&str> =
                proposal.signatures.iter().map(|s| s.name.rsplit('/').next().unwrap_or(&s.name)).collect();
            lines.push(format!(
                "  signed by {}; {standing}; expires {}",
                if signed.is_empty() { "nobody".to_owned() } else { signed.join(", ") },
                describe::relative(statement.expires, fleet.now())
            ));
            Ok(lines)
        }
    }
}

/// What a proposal would change, as computed here: shown before anybody signs it.
fn describe_effects(proposal: &Proposal, fleet: &mut Fleet, detail: Detail) -> Result<Vec<String>, CliError> {
    let supposed = match fleet.suppose(&proposal.signed) {
        Ok(Some(supposed)) => supposed,
        Ok(None) => return Ok(Vec::new()),
        Err(FleetError::Replay(e)) => return Ok(vec![format!("what it would change cannot be told: {e}")]),
        Err(e) => return Err(e.into()),
    };
    if detail == Detail::Short {
        return Ok(vec![effects::summary(&supposed.effects)]);
    }
    let mut lines = effects::lines(&supposed.effects);
    lines.extend(supposed.void.iter().map(|(i, void)| format!("change {i} would have no effect: {void}")));
    if let Act::PolicyUpdate(update) = &proposal.signed.statement.act {
        lines.extend(super::policy_cmd::proposed_diff(update, fleet)?);
    }
    Ok(lines)
}

/// `keys approve` without arguments.
fn list(context: &Context) -> Result<Exit, CliError> {
    let mut fleet = context.open()?;
    let mut all = requests(&fleet)?;
    all.extend(fleet.proposals()?.into_iter().map(|p| Waiting::Proposal(Box::new(p))));
    if context.json {
        let rows = all.iter().map(|w| waiting_json(w, &mut fleet)).collect::<Result<Vec<Value>, CliError>>()?;
        let mut locks = Vec::new();
        for (id, wait, signed) in locked(&mut fleet)? {
            let effects = fleet.suppose(&signed)?.map(|s| s.effects);
            locks.push(json!({
                "id": id.to_string(), "index": wait.index, "due": wait.due.to_string(), "statement": describe::statement_json(&signed),
                "effects": effects,
            }));
        }
        return context.answer(json!({ "waiting": rows, "locked": locks }), Exit::Ok);
    }
    let locked = locked(&mut fleet)?;
    if all.is_empty() && locked.is_empty() {
        context.say("nothing waits");
    }
    for waiting in &all {
        for line in describe_waiting(waiting, &mut fleet, Detail::Short)? {
            context.out.line(&line)?;
        }
    }
    for (id, wait, signed) in &locked {
        context.out.line(&format!("locked {}  {}", id.short(), describe::headline(&signed.statement)))?;
        if let Some(supposed) = fleet.suppose(signed)? {
            context.out.line(&format!("    {}", effects::summary(&supposed.effects)))?;
        }
        let due = describe::relative(wait.due, fleet.now());
        context.out.line(&format!("  takes effect {due}, unless somebody objects: keys object {}", id.short()))?;
    }
    Ok(Exit::Ok)
}

/// What is in the log and waits for its time, soonest first.
fn locked(fleet: &mut Fleet) -> Result<Vec<(Digest, Locked, Signed)>, CliError> {
    let mut all: Vec<(Digest, Locked)> = fleet.state().locked.iter().map(|(id, l)| (*id, l.clone())).collect();
    all.sort_by_key(|(_, l)| (l.due, l.index));
    let read = |(id, wait): (Digest, Locked)| {
        let signed = Signed::parse(wait.body.as_bytes()).map_err(|e| CliError::new(Exit::No, e))?;
        Ok((id, wait, signed))
    };
    all.into_iter().map(read).collect()
}

fn waiting_json(waiting: &Waiting, fleet: &mut Fleet) -> Result<Value, CliError> {
    Ok(match waiting {
        Waiting::Request { id, bytes } => {
            let members = Request::parse(bytes)
                .map(|(r, ..)| r.members.iter().map(|m| m.member.to_string()).collect::<Vec<_>>())
                .unwrap_or_default();
            json!({ "id": id.to_string(), "type": "request", "members": members })
        }
        Waiting::Proposal(proposal) => {
            let standing = match fleet.standing(proposal)? {
                Standing::Complete => json!({ "state": "complete" }),
                Standing::Lacks(missing) => json!({ "state": "lacks", "missing": missing }),
                Standing::Dead(void) => json!({ "state": "dead", "why": void.to_string() }),
            };
            let supposed = match fleet.suppose(&proposal.signed) {
                Ok(supposed) => supposed,
                Err(FleetError::Replay(_)) => None,
                Err(e) => return Err(e.into()),
            };
            json!({
                "id": proposal.signed.id.to_string(), "type": "proposal", "statement": describe::statement_json(&proposal.signed),
                "standing": standing, "effects": supposed.map(|s| s.effects),
            })
        }
    })
}

/// The founding that waits in a keyring whose log has no entry yet.
fn founding(context: &Context) -> Result<Option<(Fleet, Proposal)>, CliError> {
    let store = Store::new(context.keyring(false)?);
    match crate::store::read_checkpoint(&store) {
        Err(StoreError::NoKeyring(_)) => {}
        _ => return Ok(None),
    }
    let mut fleet = Fleet::empty(store.clone(), String::new(), context.now());
    let genesis = fleet.proposals()?.into_iter().find(|p| matches!(p.signed.statement.act, Act::Genesis(_)));
    Ok(genesis.map(|g| (Fleet::empty(store, g.signed.statement.log.clone(), context.now()), g)))
}

/// Signs the founding of a fleet as one of its founders.
fn approve_founding(
    context: &Context,
    args: &Approve,
    (mut fleet, proposal): (Fleet, Proposal),
) -> Result<Exit, CliError> {
    let home = context.home()?;
    let Act::Genesis(genesis) = &proposal.signed.statement.act else { return nothing(context) };
    for line in describe_waiting(&Waiting::Proposal(Box::new(proposal.clone())), &mut fleet, Detail::Full)? {
        context.say(&line);
    }
    context.say(&format!("  the fleet's id will be {}", proposal.signed.id));
    if let Go::No(exit) = context.confirm(&args.change, "Sign the founding?")? {
        return Ok(exit);
    }
    context.require_probed()?;
    let _home_lock = context.lock(home.disk())?;
    let _lock = context.lock(fleet.store().disk())?;
    let mut signers: Vec<Signer> = Vec::new();
    let mut sequencer = None;
    for founder in &genesis.members {
        let request = fleet.store().object(&founder.request).map_err(FleetError::from)?;
        let (request, ..) = Request::parse(&request).map_err(CliError::failed)?;
        let Some(requested) = request.member(&founder.member) else { continue };
        let key = |slot| {
            requested.keys.iter().find(|k| k.slot == slot && k.active).map(|k| k.key.clone()).unwrap_or_default()
        };
        if founder.kind == crate::name::Kind::Authority
            && let Ok(text) = home.key(&founder.member, crate::name::Slot::Log, &key(crate::name::Slot::Log))
        {
            sequencer = crate::log::note::SignerKey::from_private_text(&text).ok().map(Sequencer::from);
        }
        let fingerprint =
            crate::openpgp::Fingerprint::from_hex(&key(crate::name::Slot::Sign)).map_err(CliError::failed)?;
        if founder.kind == crate::name::Kind::Operator
            && let Some(pair) = home.key_pair(&founder.member, &fingerprint)?
        {
            signers.push(Signer { member: founder.member.clone(), key: Box::new(pair) });
        }
    }
    if signers.is_empty() && sequencer.is_none() {
        return Err(CliError::new(Exit::NotFound, "no founder's keys are in this home")
            .hint("give the home of a founder with --home"));
    }
    let placed = ops::approve_founding(&proposal, genesis, &home, &mut fleet, &mut signers, sequencer.as_ref())?;
    let exit = placed_exit(&placed);
    finish(context, &placed, exit)
}
