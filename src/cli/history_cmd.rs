//! `keys who --ever` and `keys reach --ever`: what could be read with which key, from when to when, by the log alone.

use serde_json::{Value, json};

use super::context::Context;
use super::describe::short_key;
use super::exit::{CliError, Exit};
use super::output::Table;
use crate::audit::{History, Reading};
use crate::name::{Address, MemberName};
use crate::ops::OpsError;
use crate::state::KeyState;

/// Every version of a secret.
pub(super) fn who(context: &Context, address: &Address) -> Result<Exit, CliError> {
    let mut history = History::of_secret(address.clone());
    let fleet = context.open_watched(&mut history)?;
    if !fleet.state().secrets.contains_key(address) {
        return Err(OpsError::NoSecret(address.clone()).into());
    }
    let readings = history.finish();
    if context.json {
        let ever: Vec<Value> = readings.iter().map(row_json).collect();
        return context.answer(json!({ "address": address.to_string(), "ever": ever }), Exit::Ok);
    }
    table(context, "version", &readings, |r| r.version.to_string())?;
    Ok(Exit::Ok)
}

/// Everything that a member and its services ever could read.
pub(super) fn reach(context: &Context, member: &MemberName) -> Result<Exit, CliError> {
    let mut history = History::of_member(member.clone());
    let fleet = context.open_watched(&mut history)?;
    if !fleet.state().members.contains_key(member) {
        return Err(OpsError::NoMember(member.clone()).into());
    }
    let readings = history.finish();
    if context.json {
        let ever: Vec<Value> = readings.iter().map(row_json).collect();
        return context.answer(json!({ "member": member.to_string(), "ever": ever }), Exit::Ok);
    }
    if readings.is_empty() {
        context.say(&format!("{member} never could read anything"));
        return Ok(Exit::Ok);
    }
    table(context, "address", &readings, |r| format!("{} version {}", r.address, r.version))?;
    Ok(Exit::Ok)
}

fn table(
    context: &Context,
    head: &str,
    readings: &[Reading],
    subject: impl Fn(&Reading) -> String,
) -> Result<(), CliError> {
    let mut table = Table::new(&[head, "reader", "key", "from", "until", "key is"]);
    for r in readings {
        let until = r.until.map_or_else(|| "now".to_owned(), |t| t.to_string());
        let state = match r.key_state {
            Some(KeyState::Compromised) => "COMPROMISED".to_owned(),
            state => state.map(|s| s.to_string()).unwrap_or_default(),
        };
        table.row([subject(r), r.member.to_string(), short_key(&r.key), r.since.to_string(), until, state]);
    }
    table.lines().iter().try_for_each(|line| context.out.line(line))
}

fn row_json(r: &Reading) -> Value {
    json!({
        "address": r.address.to_string(), "version": r.version, "reader": r.member.to_string(), "key": r.key,
        "key_state": r.key_state, "from": r.since.to_string(), "until": r.until.map(|t| t.to_string()),
    })
}
