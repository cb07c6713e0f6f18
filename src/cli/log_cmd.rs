//! The record: verify, show, vkey; and copies of the certificates.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{Change, Reason, Ring, RingVerb};
use super::context::{Context, Planned, Shown, reason, shown};
use super::describe;
use super::exit::{CliError, Exit};
use super::founding::write_file;
use super::output::Progress;
use super::proof_cmd;
use super::record_args::{Log, LogVerb};
use crate::digest::Digest;
use crate::fleet::{Draft, Fleet, Going, Report, Severity};
use crate::home::Home;
use crate::log::commit::Commit;
use crate::name::{MemberName, Slot};
use crate::ops;
use crate::state::{KeyState, Objects as _, SlotKey};
use crate::statement::{Act, Entry, RetireReason};
use crate::store::{LogReader, Store};

/// How often a verification keeps how far it has come.
const KEPT_EVERY: Duration = Duration::from_secs(10);

/// `keys log`.
pub(super) fn log(context: &Context, args: &Log) -> Result<Exit, CliError> {
    match &args.verb {
        LogVerb::Verify { from_start } => verify(context, *from_start),
        LogVerb::Show { index, about, last, raw } => show(context, *index, about.as_deref(), *last, raw.as_deref()),
        LogVerb::Vkey { all } => vkey(context, *all),
        LogVerb::Rekey { member, why, change, reason } => rekey(context, member.as_ref(), *why, change, reason),
        LogVerb::Evidence { file, vkeys } => super::evidence_cmd::evidence(context, file, vkeys),
        LogVerb::Publish => super::publish_cmd::publish(context),
        LogVerb::Witness(args) => super::witness_cmd::witness(context, args),
        LogVerb::Snapshot(args) => super::snapshot_cmd::snapshot(context, args),
        LogVerb::Prove(args) => proof_cmd::prove_entry(context, args),
        LogVerb::CheckProof(args) => proof_cmd::check_proof(context, args),
    }
}

fn verify(context: &Context, from_start: bool) -> Result<Exit, CliError> {
    let home = context.maybe_home()?;
    let known = context.known(home.as_ref())?;
    let store = Store::new(context.keyring(false)?);
    let first = format!("log/{}", Commit::path(0));
    if let Some(hash) = known.snapshot
        && matches!(store.disk().read_part(&first, 0, 0), Ok(None))
    {
        let message =
            format!("this keyring was begun with the snapshot {}: what comes before it is not here", hash.short());
        return Err(CliError::new(Exit::Unknown, message)
            .hint("to verify the whole log, 'keys pull' it into another directory, with another --home and --pin ID"));
    }
    let look = |left: Option<Vec<u8>>| {
        let mut progress = Progress::new("verifying", context.quiet);
        let mut last = Instant::now();
        let mut keep = |make: &dyn Fn() -> Option<Vec<u8>>| {
            if last.elapsed() >= KEPT_EVERY {
                // That this fails only means that there is nothing to go on from.
                let _ = home.as_ref().zip(make()).map(|(home, kept)| home.set_verifying(Some(&kept)));
                last = Instant::now();
            }
        };
        // Without a pin nothing says whose log it was.
        let going = known.pin.map(|_| Going { left, keep: &mut keep });
        Fleet::verify_on(&store, &known, context.now(), &mut |done, of| progress.step(done, of), going)
    };
    let (mut report, mut fleet) = look(home.as_ref().filter(|_| !from_start).and_then(Home::verifying))?;
    if !report.problems.is_empty() {
        // Files that somebody is writing look damaged, or left behind, for a moment: what is still so while nobody can
        // write, is.
        match context.lock(store.disk()) {
            Ok(_lock) => (report, fleet) = look(None)?,
            Err(_) if report.is_sound() => {}
            Err(e) => return Err(e),
        }
    }
    let _ = home.as_ref().map(|home| home.set_verifying(None));
    let exit = if report.is_sound() { Exit::Ok } else { Exit::No };
    if context.json {
        let problems: Vec<Value> = report
            .problems
            .iter()
            .map(|p| json!({ "damage": p.severity == Severity::Damage, "path": p.path, "problem": p.problem }))
            .collect();
        let fields = fleet.as_ref().map(|f| (f.state().id.to_string(), void_json(f)));
        let value = json!({ "sound": report.is_sound(), "entries": report.entries, "earlier": report.earlier, "files": report.files, "problems": problems, "id": fields.as_ref().map(|f| &f.0), "void": fields.as_ref().map(|f| &f.1) });
        return context.answer(value, exit);
    }
    for problem in &report.problems {
        let word = if problem.severity == Severity::Damage { "DAMAGED" } else { "note" };
        context.out.line(&format!("{word}: {}: {}", problem.path, problem.problem))?;
    }
    if let Some(fleet) = &fleet {
        for verdict in fleet.void() {
            for (i, void) in &verdict.void {
                context.out.line(&format!("void: entry {}, change {i}: {void}", verdict.index))?;
            }
        }
    }
    summary(context, &report, fleet.as_ref())?;
    Ok(exit)
}

fn void_json(fleet: &Fleet) -> Value {
    let rows = fleet
        .void()
        .iter()
        .flat_map(|v| v.void.iter().map(|(i, why)| json!({ "entry": v.index, "change": i, "why": why.to_string() })));
    Value::Array(rows.collect())
}

fn summary(context: &Context, report: &Report, fleet: Option<&Fleet>) -> Result<(), CliError> {
    match fleet {
        Some(fleet) if report.is_sound() => {
            let state = fleet.state();
            let pinned = context.known(context.maybe_home()?.as_ref())?.pin.is_some();
            let pin = if pinned { "as pinned" } else { "not pinned here; compare it with --pin ID" };
            context.out.line(&format!(
                "verified: {} entries, {} files, fleet {} ({pin})",
                report.entries, report.files, state.fleet
            ))?;
            if report.earlier > 0 {
                let earlier = report.earlier;
                context.out.line(&format!(
                    "{earlier} of the entries were replayed by a verification that was interrupted (--from-start: all now)"
                ))?;
            }
            context.out.line(&format!("id: {}", state.id))
        }
        _ => {
            // A file can be wrong in more ways than one.
            let damaged = report.problems.iter().filter(|p| p.severity == Severity::Damage);
            let count = damaged.map(|p| &p.path).collect::<std::collections::BTreeSet<_>>().len();
            context
                .out
                .line(&format!("NOT verified: {count} of {} files are damaged, missing or strange", report.files))
        }
    }
}

fn show(
    context: &Context,
    index: Option<u64>,
    about: Option<&str>,
    last: Option<u64>,
    raw: Option<&Path>,
) -> Result<Exit, CliError> {
    let fleet = context.open()?;
    let size = fleet.head().map_or(0, |h| h.checkpoint.size);
    if let Some(index) = index.filter(|i| *i >= size) {
        return Err(CliError::new(
            Exit::NotFound,
            format!("the log has {size} entries, numbered from 0; there is no entry {index}"),
        ));
    }
    let from = index.unwrap_or_else(|| last.map_or(0, |n| size.saturating_sub(n)));
    let to = index.map_or(size, |i| i + 1);
    let mut rows = Vec::new();
    let mut reader = LogReader::new(fleet.store(), size);
    while let Some((first, entries)) = reader.next_bundle()? {
        rows.extend(entries.into_iter().zip(first..).filter(|(_, i)| (from..to).contains(i)));
    }
    if let (Some(directory), Some((bytes, index))) = (raw, rows.first()) {
        return write_raw(context, directory, *index, bytes, &fleet);
    }
    let mut json_rows = Vec::new();
    for (bytes, index) in &rows {
        let entry = Entry::parse(bytes);
        let lines = match &entry {
            Ok(entry) => entry_lines(entry, *index, &fleet),
            Err(e) => vec![format!("{index:>6}  unreadable: {e}")],
        };
        if about.is_some_and(|a| !lines.iter().any(|l| l.contains(a))) {
            continue;
        }
        match (context.json, &entry) {
            (true, Ok(entry)) => json_rows.push(entry_json(entry, *index, &fleet)),
            (true, Err(e)) => json_rows.push(json!({ "index": index, "unreadable": e.to_string() })),
            (false, _) => {
                // One entry in full; a list with a line each unless more is wanted.
                let all = context.verbose || rows.len() == 1;
                lines.iter().take(if all { usize::MAX } else { 1 }).try_for_each(|l| context.out.line(l))?;
            }
        }
    }
    if context.json { context.answer(json!({ "size": size, "entries": json_rows }), Exit::Ok) } else { Ok(Exit::Ok) }
}

fn entry_lines(entry: &Entry, index: u64, fleet: &Fleet) -> Vec<String> {
    let statement = &entry.signed.statement;
    let void = fleet.void().iter().find(|v| v.index == index);
    let mark = void.map(|v| if v.applied == 0 { " [void]" } else { " [partly void]" }).unwrap_or_default();
    let mut lines = vec![format!("{index:>6}  {}  {}{mark}", entry.signed.id.short(), describe::headline(statement))];
    let objects = |digest: &Digest| fleet.store().object(digest).ok();
    lines.extend(describe::act(&statement.act, None, &objects).into_iter().map(|l| format!("        {l}")));
    let signers =
        entry.signatures.iter().map(|s| s.name.rsplit('/').next().unwrap_or(&s.name)).collect::<Vec<_>>().join(", ");
    lines.push(format!("        signed by {}, under policy {}", crate::text::escape(&signers), statement.policy));
    let lag = super::emergency_cmd::lag_lines(entry, index, fleet.logged_state());
    lines.extend(lag.into_iter().map(|l| format!("        {l}")));
    if let Some(wait) = fleet.state().locked.get(&entry.signed.id).filter(|w| w.index == index) {
        lines.push(format!(
            "        takes effect {}, unless somebody objects",
            describe::relative(wait.due, fleet.now())
        ));
    }
    for (by, unlocked) in fleet.unlocked().iter().filter(|(_, u)| u.locked.index == index) {
        lines.push(match unlocked.void.first() {
            None => format!("        took effect with entry {by}, due {}", unlocked.locked.due),
            Some((_, why)) => format!("        was due {} and void by then (entry {by}): {why}", unlocked.locked.due),
        });
    }
    lines.extend(
        void.into_iter().flat_map(|v| v.void.iter().map(|(i, why)| format!("        void: change {i}: {why}"))),
    );
    lines
}

fn entry_json(entry: &Entry, index: u64, fleet: &Fleet) -> Value {
    let void = fleet.void().iter().find(|v| v.index == index);
    let void: Vec<Value> = void
        .into_iter()
        .flat_map(|v| v.void.iter().map(|(i, why)| json!({ "change": i, "why": why.to_string() })))
        .collect();
    let signers: Vec<&str> = entry.signatures.iter().map(|s| s.name.as_str()).collect();
    let emergency = super::emergency_cmd::lag_json(entry, index, fleet.logged_state());
    json!({ "index": index, "id": entry.signed.id.to_string(), "statement": describe::statement_json(&entry.signed), "signatures": signers, "void": void, "emergency": emergency })
}

/// Writes body and signatures so that gpg checks them: `gpg --verify 7-alice.sig 7.body`.
fn write_raw(context: &Context, directory: &Path, index: u64, bytes: &[u8], fleet: &Fleet) -> Result<Exit, CliError> {
    let entry = Entry::parse(bytes).map_err(|e| CliError::new(Exit::No, e))?;
    let body = directory.join(format!("{index}.body"));
    write_file(&body, &entry.signed.body)?;
    let mut signatures = Vec::new();
    for line in &entry.signatures {
        let Some(member) = crate::statement::principal_member(&fleet.state().fleet, &line.name) else { continue };
        let path = directory.join(format!("{index}-{member}.sig"));
        write_file(&path, &line.signature)?;
        signatures.push(shown(&path));
    }
    if context.json {
        return context.answer(json!({ "body": shown(&body), "signatures": signatures }), Exit::Ok);
    }
    context.out.line(&shown(&body))?;
    signatures.iter().try_for_each(|s| context.out.line(s))?;
    Ok(Exit::Ok)
}

fn vkey(context: &Context, all: bool) -> Result<Exit, CliError> {
    let fleet = context.open()?;
    let mut keys: Vec<(&MemberName, &SlotKey)> = fleet.state().authority_keys(Slot::Log);
    if all {
        let holders = fleet.state().members.iter().filter_map(|(n, m)| Some((n, m.slot(Slot::Log)?)));
        keys = holders.flat_map(|(n, s)| s.keys.iter().map(move |k| (n, k))).collect();
    }
    let time = |time: Option<crate::time::Time>| time.map(|t| t.to_string());
    if context.json {
        let rows: Vec<Value> = keys
            .iter()
            .map(|(m, k)| {
                let (from, until) = (time(k.activated), time(k.ended));
                json!({ "member": m.to_string(), "state": k.state.to_string(), "vkey": k.key, "from": from, "until": until })
            })
            .collect();
        return context.answer(json!({ "vkeys": rows }), Exit::Ok);
    }
    for (member, key) in keys.iter().filter(|(_, k)| all || k.state == KeyState::Active) {
        let (from, until) = (time(key.activated).unwrap_or_default(), time(key.ended).unwrap_or_default());
        let more = if all { format!("  {member} {} {from}..{until}", key.state) } else { String::new() };
        context.out.line(&format!("{}{more}", key.key))?;
    }
    Ok(Exit::Ok)
}

fn rekey(
    context: &Context,
    member: Option<&MemberName>,
    why: RetireReason,
    change: &Change,
    given: &Reason,
) -> Result<Exit, CliError> {
    let text = reason(given, "the log's key changes");
    context.planned(
        change,
        &Planned {
            question: "Change the log's key?",
            plan: &|fleet, _| Ok(ops::plan_rekey(member, why, fleet.state())?),
            show: &|plan, _| Shown {
                lines: describe::act(&Act::Rekey(plan.clone()), None, &|_| None),
                json: serde_json::to_value(plan).unwrap_or(Value::Null),
                empty: false,
            },
            drafts: &|plan, _, _| Ok(vec![Draft::bare(Act::Rekey(plan.clone()), &text)]),
            after: &|_, _| Ok(()),
        },
    )
}

/// `keys ring`.
pub(super) fn ring(context: &Context, args: &Ring) -> Result<Exit, CliError> {
    let RingVerb::Export { out, gpg } = &args.verb;
    let mut fleet = context.open_published()?;
    let ring = ops::export_ring(*gpg, &mut fleet)?;
    write_file(&out.join("ring.pgp"), &ring.certificates)?;
    if *gpg {
        write_file(&out.join("ownertrust.txt"), ring.ownertrust.as_bytes())?;
    }
    for (member, why) in &ring.refused {
        context.say(&format!("not authenticated: {member}: {why}"));
    }
    if context.json {
        return context.answer(json!({ "directory": shown(out), "authenticated": describe::names_json(&ring.authenticated), "refused": describe::names_json(ring.refused.iter().map(|(m, _)| m)) }), Exit::Ok);
    }
    context.out.line(&format!(
        "{} certificates, {} authenticated",
        ring.authenticated.len() + ring.refused.len(),
        ring.authenticated.len()
    ))?;
    Ok(Exit::Ok)
}
