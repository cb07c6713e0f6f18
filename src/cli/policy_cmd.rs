//! The policy: check, show, diff, propose.

use std::collections::BTreeMap;

use serde_json::json;

use super::args::{Policy as PolicyArgs, PolicyVerb};
use super::context::{Context, Planned, Shown, reason};
use super::effects;
use super::exit::{CliError, Exit};
use crate::digest::Digest;
use crate::disk::Disk;
use crate::fleet::{Draft, Fleet, FleetError};
use crate::limits::POLICY_BYTES_MAX;
use crate::policy::{FILES, Policy};
use crate::state::{Effects, Objects as _};
use crate::statement::{Act, PolicyUpdate};
use crate::store::Store;
use crate::text;

/// `keys policy`.
pub(super) fn policy(context: &Context, args: &PolicyArgs) -> Result<Exit, CliError> {
    match &args.verb {
        PolicyVerb::Check => check(context),
        PolicyVerb::Show { file } => show(context, file.as_deref()),
        PolicyVerb::Diff => diff(context),
        PolicyVerb::Propose { change, reason: why } => {
            let draft = draft(&context.policy(false)?)?;
            let parsed = Policy::parse(&draft)?;
            let why = reason(why, "the policy changes");
            context.planned(
                change,
                &Planned {
                    question: "Propose this policy?",
                    plan: &|fleet, _| in_force(fleet),
                    show: &|before, fleet| {
                        let mut lines = diff_lines(before, &draft);
                        let state = fleet.state();
                        let effects = Effects::between(state, &state.under(parsed.clone()), fleet.now());
                        if !lines.is_empty() {
                            lines.push("what that changes:".to_owned());
                            lines.extend(effects::lines(&effects).into_iter().map(|l| format!("  {l}")));
                        }
                        Shown {
                            json: json!({ "files": changed(before, &draft), "effects": effects }),
                            empty: lines.is_empty(),
                            lines: if lines.is_empty() {
                                vec!["policy/ is what is in force".to_owned()]
                            } else {
                                lines
                            },
                        }
                    },
                    drafts: &|_, fleet, _| {
                        fleet.state().check_policy(&parsed)?;
                        crate::ops::check_policy(&parsed, fleet.state())?;
                        Ok(vec![update(&draft, fleet, &why)])
                    },
                    after: &|_, _| Ok(()),
                },
            )
        }
    }
}

/// The files under policy/, by name.
pub(super) fn draft(disk: &Disk) -> Result<BTreeMap<String, String>, CliError> {
    let mut files = BTreeMap::new();
    for (name, _) in disk.list("")?.iter().filter(|(n, _)| n.ends_with(".toml")) {
        if let Some(bytes) = disk.read(name, POLICY_BYTES_MAX)? {
            let text =
                String::from_utf8(bytes).map_err(|e| CliError::failed(format!("policy/{name} is not UTF-8: {e}")))?;
            files.insert(name.clone(), text);
        }
    }
    Ok(files)
}

/// The policy in force, by name.
pub(super) fn in_force(fleet: &Fleet) -> Result<BTreeMap<String, String>, CliError> {
    let mut files = BTreeMap::new();
    for (name, digest) in &fleet.state().policy.files {
        let bytes = fleet.store().object(digest).map_err(FleetError::from)?;
        files.insert(name.clone(), String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(files)
}

/// The names of the files that differ.
pub(super) fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|n| before.get(*n) != after.get(*n)).cloned().collect()
}

/// How the text of a proposed policy differs from the one in force.
pub(super) fn proposed_diff(update: &PolicyUpdate, fleet: &Fleet) -> Result<Vec<String>, CliError> {
    let mut proposed = BTreeMap::new();
    for (name, digest) in &update.policy {
        let bytes = fleet.store().object(digest).map_err(FleetError::from)?;
        proposed.insert(crate::text::shown(name).to_string(), String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(diff_lines(&in_force(fleet)?, &proposed))
}

fn check(context: &Context) -> Result<Exit, CliError> {
    let policy = Policy::parse(&draft(&context.policy(false)?)?)?;
    // Whether its quorums can be met is a question about who is there; before there is a keyring nobody is.
    if context.keyring(false).is_ok_and(|disk| crate::store::read_checkpoint(&Store::new(disk)).is_ok()) {
        context.open()?.state().check_policy(&policy)?;
    }
    if context.json {
        return context.answer(json!({ "domain": policy.fleet.domain.to_string(), "good": true }), Exit::Ok);
    }
    context.out.line(&format!("policy/ is well formed: {}", FILES.join(", ")))?;
    Ok(Exit::Ok)
}

fn show(context: &Context, file: Option<&str>) -> Result<Exit, CliError> {
    let fleet = context.open()?;
    let files = in_force(&fleet)?;
    let wanted: Vec<(&String, &String)> =
        files.iter().filter(|(n, _)| file.is_none_or(|f| f.trim_start_matches("policy/") == n.as_str())).collect();
    if wanted.is_empty() {
        return Err(CliError::new(
            Exit::NotFound,
            format!("the policy has no file of that name; it has {}", FILES.join(", ")),
        ));
    }
    if context.json {
        return context.answer(json!({ "version": fleet.state().policy.version, "files": files }), Exit::Ok);
    }
    for (name, text) in &wanted {
        if wanted.len() > 1 {
            context.out.line(&format!("# --- policy/{name}, version {} ---", fleet.state().policy.version))?;
        }
        context.out.bytes(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn diff(context: &Context) -> Result<Exit, CliError> {
    let fleet = context.open()?;
    let (before, after) = (in_force(&fleet)?, draft(&context.policy(false)?)?);
    let names = changed(&before, &after);
    let exit = if names.is_empty() { Exit::Ok } else { Exit::Pending };
    if context.json {
        return context.answer(json!({ "version": fleet.state().policy.version, "changed": names }), exit);
    }
    diff_lines(&before, &after).iter().try_for_each(|l| context.out.line(l))?;
    Ok(exit)
}

/// A line diff, file by file: what goes with `-`, what comes with `+`.
fn diff_lines(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let mut lines = Vec::new();
    for name in changed(before, after) {
        lines.push(format!("--- policy/{name}"));
        let empty = String::new();
        let (old, new) = (before.get(&name).unwrap_or(&empty), after.get(&name).unwrap_or(&empty));
        lines.extend(text::line_diff(old, new).iter().map(|line| text::escape(line).into_owned()));
    }
    lines
}

fn update(draft: &BTreeMap<String, String>, fleet: &Fleet, why: &str) -> Draft {
    let state = fleet.state();
    let policy = draft.iter().map(|(name, text)| (name.clone(), Digest::of(text.as_bytes()))).collect();
    let change = PolicyUpdate { generation: state.policy.version + 1, policy, prev: state.policy.prev };
    Draft::with(Act::PolicyUpdate(change), why, draft.values().map(|t| t.clone().into_bytes()).collect())
}
