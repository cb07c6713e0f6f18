//! `keys status`: everything that wants attention, on one screen.

use serde_json::{Value, json};

use super::args::Status;
use super::context::Context;
use super::describe::relative;
use super::exit::{CliError, Exit};
use super::nodes_status::copied_text;
use super::policy_cmd::{changed, draft, in_force};
use crate::fleet::{Fleet, Standing};
use crate::name::{Kind, MemberName};
use crate::policy::Freshness;
use crate::state::State;
use crate::statement::Outcome;
use crate::time::{Span, Time, rough};

/// How long before a certificate expires it is mentioned.
const EXPIRY_NOTICE: Span = Span::days(14);

/// Something that wants attention.
pub(super) struct Item {
    pub topic: &'static str,
    pub text: String,
    pub fix: &'static str,
}

/// `keys status`.
pub(super) fn status(context: &Context, args: &Status) -> Result<Exit, CliError> {
    if args.nodes {
        return super::nodes_status::nodes(context, args);
    }
    let mut fleet = context.open()?;
    let items = items(context, &mut fleet)?;
    let exit = if args.check && !items.is_empty() { Exit::Pending } else { Exit::Ok };
    let state = fleet.state();
    let head = fleet.head().map_or((0, String::new()), |h| (h.checkpoint.size, h.checkpoint.root.short()));
    let count = |kind| state.members.values().filter(|m| m.is_active() && m.kind == kind).count();
    let counts: Vec<(Kind, usize)> = Kind::ALL.iter().map(|k| (*k, count(*k))).collect();
    let next = next_due(state);
    let snapshot = state.snapshot.as_ref().map(|s| &s.snapshot);
    if context.json {
        let attention: Vec<Value> =
            items.iter().map(|i| json!({ "topic": i.topic, "text": i.text, "fix": i.fix })).collect();
        let members: Value =
            counts.iter().map(|(k, n)| (k.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into();
        let value = json!({
            "fleet": state.fleet.to_string(), "id": state.id.to_string(), "log": { "name": state.log, "size": head.0, "newest": state.time.to_string() },
            "policy": { "version": state.policy.version, "profile": state.policy.policy.fleet.profile.word() }, "members": members,
            "published": published_json(&fleet), "began": fleet.began(),
            "snapshot": snapshot.map(|s| json!({ "size": s.size, "root": s.root.to_string(), "state": s.state.to_string() })), "secrets": state.live_secrets().count(), "next_rotation": next.as_ref().map(|(_, at)| at.to_string()), "attention": attention,
        });
        return context.answer(value, exit);
    }
    let out = context.out;
    out.line(&format!("{}  {}", context.bold(state.fleet.as_str()), state.id))?;
    let now = fleet.now();
    out.line(&format!("log      {} entries, head {}, newest {}", head.0, head.1, relative(state.time, now)))?;
    if fleet.began() > 0 {
        out.line(&format!(
            "began    after {} entries, with a snapshot: what comes before was not replayed",
            fleet.began()
        ))?;
    }
    out.line(&published_line(&fleet))?;
    if let Some(snapshot) = snapshot {
        out.line(&format!("snapshot {} entries: {}", snapshot.size, snapshot.state))?;
    }
    out.line(&format!(
        "policy   version {}, profile {}, {} of {} operators vouch",
        state.policy.version,
        state.policy.policy.fleet.profile.word(),
        state.policy.policy.fleet.vouching_operators,
        count(Kind::Operator)
    ))?;
    let plural = |k: &Kind, n: usize| match (k, n) {
        (Kind::Authority, 1) => "1 authority".to_owned(),
        (Kind::Authority, n) => format!("{n} authorities"),
        (Kind::Pop, 1) => "1 PoP".to_owned(),
        (Kind::Pop, n) => format!("{n} PoPs"),
        (k, 1) => format!("1 {k}"),
        (k, n) => format!("{n} {k}s"),
    };
    out.line(&format!("members  {}", counts.iter().map(|(k, n)| plural(k, *n)).collect::<Vec<_>>().join(", ")))?;
    out.line(&format!("secrets  {}", state.live_secrets().count()))?;
    if let Some((member, at)) = next {
        out.line(&format!("next     rotation due {}: {member}", relative(at, now)))?;
    }
    out.line("")?;
    if items.is_empty() {
        out.line("nothing wants attention")?;
    }
    for item in &items {
        let fix = if item.fix.is_empty() { String::new() } else { format!("  -> {}", item.fix) };
        out.line(&format!("{:<10} {}{fix}", item.topic, crate::text::escape(&item.text)))?;
    }
    Ok(exit)
}

/// What is published, and by whose word it is the newest.
fn published_line(fleet: &Fleet) -> String {
    let now = fleet.now();
    let Some(published) = fleet.published() else { return "published nothing yet".to_owned() };
    let size = published.checkpoint.size;
    match (&published.cosigned, published.time()) {
        (None, _) => format!("published {size} entries, by the log's key alone: no cosigners"),
        (Some(cosigned), Some(time)) => {
            let n = cosigned.by.len();
            format!(
                "published {size} entries, by {n} cosigner{} {}",
                if n == 1 { "" } else { "s" },
                relative(time, now)
            )
        }
        (Some(_), None) => {
            format!("published NOT: at {size} entries it lacks {}", published.lacks().unwrap_or_default())
        }
    }
}

fn published_json(fleet: &Fleet) -> Value {
    let published = fleet.published();
    let by: Vec<&str> =
        published.and_then(|p| p.cosigned.as_ref()).into_iter().flat_map(|c| c.by.keys().map(String::as_str)).collect();
    json!({
        "size": published.map(|p| p.checkpoint.size), "waiting": fleet.waiting(), "cosigned_by": by,
        "cosigned": published.and_then(|p| p.time()).map(|t| t.to_string()), "freshness": fleet.freshness().word(),
    })
}

/// What cosigners have to do with.
fn from_publication(fleet: &Fleet, items: &mut Vec<Item>) {
    match fleet.waiting() {
        0 => {}
        n => items.push(Item {
            topic: "waiting",
            text: format!(
                "{n} entries are not published: {} missing",
                fleet.lacking(&[]).unwrap_or_else(|| "nothing".to_owned())
            ),
            fix: "keys log publish",
        }),
    }
    if let Some(published) = fleet.published().filter(|_| fleet.waiting() == 0)
        && let Some(missing) = published.lacks()
    {
        let text = format!("log/checkpoint is there without its cosigners: it lacks {missing}");
        items.push(Item { topic: "cosigners", text, fix: "keys log publish" });
    }
    match fleet.freshness() {
        Freshness::Unwitnessed | Freshness::Fresh(_) => {}
        Freshness::Ageing(age) => items.push(Item {
            topic: "freshness",
            text: format!("no quorum of cosigners has said for {} what is newest", rough(age)),
            fix: "keys log publish",
        }),
        Freshness::Stale(age) => items.push(Item {
            topic: "STALE",
            text: format!(
                "FREEZE? no quorum of cosigners has said for {} what is newest: new entries, revocations among them, may be withheld",
                rough(age)
            ),
            fix: "fetch from another mirror; keys log publish",
        }),
    }
}

/// The rotation that comes next.
fn next_due(state: &State) -> Option<(String, Time)> {
    let soonest = state.rotations().filter(|d| d.slot != crate::name::Slot::Log).min_by_key(|d| d.since)?;
    Some((format!("{} {}", soonest.member, soonest.slot), soonest.since))
}

fn items(context: &Context, fleet: &mut Fleet) -> Result<Vec<Item>, CliError> {
    let mut items = Vec::new();
    let now = fleet.now();
    if let Some(home) = context.maybe_home()? {
        items.extend(super::emergency_cmd::attention(&home, fleet)?);
    }
    for (_, bytes) in crate::ops::waiting_requests(fleet.store())? {
        let who = crate::statement::Request::parse(&bytes)
            .map(|(r, ..)| r.members.iter().map(|m| m.member.to_string()).collect::<Vec<_>>().join(", "));
        items.push(Item {
            topic: "request",
            text: format!("{} wants to join", who.unwrap_or_else(|_| "somebody".to_owned())),
            fix: "keys approve",
        });
    }
    for proposal in fleet.proposals()? {
        let text = match fleet.standing(&proposal)? {
            Standing::Complete => "is complete and waits for somebody with the log's key".to_owned(),
            Standing::Lacks(missing) => format!("still needs {missing}"),
            Standing::Dead(void) => format!("is dead: {void}"),
        };
        let statement = &proposal.signed.statement;
        items.push(Item {
            topic: "proposal",
            text: format!("{} ({} by {}) {text}", proposal.signed.id.short(), statement.act.name(), statement.by),
            fix: "keys approve",
        });
    }
    for (id, wait) in &fleet.state().locked {
        let what = wait.statement().map(|s| format!("{} by {}", s.act.name(), s.by)).unwrap_or_default();
        items.push(Item {
            topic: "locked",
            text: format!("{} ({what}) takes effect {}", id.short(), relative(wait.due, now)),
            fix: "keys approve shows it, keys object stops it",
        });
    }
    for (entry, unlocked) in fleet.unlocked() {
        if let Some((_, why)) = unlocked.void.first() {
            items.push(Item {
                topic: "void",
                text: format!(
                    "{} of entry {} was due and had no effect, or not all of it (with entry {entry}): {why}",
                    unlocked.id.short(),
                    unlocked.locked.index
                ),
                fix: "keys log show",
            });
        }
    }
    if let Some(backup) = fleet.restored()? {
        items.push(Item {
            topic: "restored",
            text: format!("from a backup of {} entries; nothing is changed until that is confirmed", backup.size),
            fix: "keys restore confirm --checkpoint FILE",
        });
    }
    drills(fleet.state(), now, &mut items);
    from_publication(fleet, &mut items);
    for (member, _) in fleet.copied()? {
        items.push(Item {
            topic: "COPIED",
            text: copied_text(&member),
            fix: "keys revoke --reason compromised; then invite it anew",
        });
    }
    from_state(fleet.state(), now, &mut items);
    let untrusted: Vec<(MemberName, String)> =
        fleet.trust().into_iter().filter_map(|(n, r)| r.err().map(|e| (n, e.to_string()))).collect();
    items.extend(untrusted.into_iter().map(|(_, why)| Item {
        topic: "trust",
        text: why,
        fix: "keys sync, where whoever vouches is",
    }));
    if !fleet.void().is_empty() {
        let newest = fleet.void().iter().map(|v| v.index).max().unwrap_or_default();
        items.push(Item {
            topic: "void",
            text: format!("{} entries had no effect, or not all of it; the newest is {newest}", fleet.void().len()),
            fix: "keys log show",
        });
    }
    // A keyring without a policy directory beside it (a mirror, say) has no draft that could differ.
    if let Ok(disk) = context.policy(false) {
        let names = changed(&in_force(fleet)?, &draft(&disk)?);
        if !names.is_empty() {
            items.push(Item {
                topic: "policy",
                text: format!("policy/ differs from what is in force: {}", names.join(", ")),
                fix: "keys policy propose",
            });
        }
    }
    if fleet.state().members.values().filter(|m| m.is_active() && m.kind == Kind::Operator).count() < 2 {
        items.push(Item {
            topic: "people",
            text: "one operator decides alone".to_owned(),
            fix: "keys enroll NAME --operator USERID",
        });
    }
    Ok(items)
}

/// Restore drills that are due or failed, and backups with private halves of members who are here.
fn drills(state: &State, now: Time, items: &mut Vec<Item>) {
    let good = state.drills.good.as_ref().map(|d| relative(d.at, now));
    if state.drill_due().is_some_and(|due| due <= now) {
        let last = good.map_or_else(|| "there was none yet".to_owned(), |ago| format!("the last good one was {ago}"));
        items.push(Item { topic: "drill", text: format!("a restore drill is due: {last}"), fix: "keys drill restore" });
    }
    if let Some(newest) = state.drills.newest.as_ref().filter(|d| d.report.outcome == Outcome::Failed) {
        let text = format!("the restore drill of {} failed, {}", newest.by, relative(newest.at, now));
        items.push(Item { topic: "drill", text, fix: "keys drill restore" });
    }
}

fn from_state(state: &State, now: Time, items: &mut Vec<Item>) {
    for due in state.rotations().filter(|d| d.since <= now && d.slot != crate::name::Slot::Log) {
        items.push(Item {
            topic: "due",
            text: format!("{} {} since {}", due.member, due.slot, due.since.day()),
            fix: "keys rotate --due",
        });
    }
    for (member, slot) in state.missing_standbys() {
        // Operators' keys may lie on a card with one key a purpose.
        if state.members.get(member).is_some_and(|m| m.kind != Kind::Operator) {
            items.push(Item {
                topic: "standby",
                text: format!("{member} {slot} has none"),
                fix: "keys sync, on its machine",
            });
        }
    }
    for (member, _) in state.members.iter().filter(|(_, m)| m.is_active() && !m.may_read()) {
        items.push(Item {
            topic: "unconfirmed",
            text: format!("{member} has not shown that it has its keys; nothing is sealed to it"),
            fix: "keys bootstrap, or keys sync, on its machine; then keys sync where the log's key is",
        });
    }
    for (address, secret) in state.live_secrets() {
        if let Some((at, by)) = &secret.burned {
            items.push(Item {
                topic: "burned",
                text: format!("{address}: {by} could read it until {}", at.day()),
                fix: "keys renew --burned, or keys seal a new value",
            });
        } else if let Some(since) = state.renewal_due(address, secret).filter(|since| *since <= now) {
            items.push(Item {
                topic: "renewal",
                text: format!("{address} is due for a new value since {}", since.day()),
                fix: "keys renew --due, or keys seal a new value",
            });
        }
        if state.readers_by_policy(address).is_err() {
            items.push(Item {
                topic: "orphan",
                text: format!("{address} belongs to nobody who is still here"),
                fix: "keys rm",
            });
        } else if state.drift(address, secret).is_some() {
            items.push(Item {
                topic: "drift",
                text: format!("{address} is sealed to other keys than it should be"),
                fix: "keys reseal",
            });
        }
    }
    for name in crate::ops::uncertified_hosts(state, now) {
        items.push(Item {
            topic: "ssh",
            text: format!("the host key of {name} has no SSH certificate"),
            fix: "keys sync, where the authority is",
        });
    }
    for (name, member) in state.members.iter().filter(|(_, m)| m.is_active()) {
        if let Some(expires) = member.cert_expires.filter(|e| *e <= now.plus(EXPIRY_NOTICE)) {
            items.push(Item {
                topic: "expiry",
                text: format!(
                    "the certificate of {name} {} {}",
                    if expires > now { "expires" } else { "expired" },
                    relative(expires, now)
                ),
                fix: "keys sync, on its machine",
            });
        }
    }
}
