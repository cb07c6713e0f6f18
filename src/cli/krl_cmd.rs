//! Revocation of SSH certificates: `keys ssh krl build`, `check`, `diff`, and `keys ssh revoke`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::Change;
use super::context::{Context, Planned, Shown, shown};
use super::exit::{CliError, Exit};
use super::founding::{read_file, write_file};
use super::node_args::KrlVerb;
use crate::limits::{KEY_FILE_BYTES_MAX, KRL_BYTES_MAX};
use crate::ops::{self, KrlAge, KrlCheck, SerialsPlan};
use crate::ssh::{CertificateKind, Krl, KrlEntry, SshCertificate, SshPublicKey};
use crate::state::State;

/// `keys ssh krl`.
pub(super) fn krl(context: &Context, verb: &KrlVerb) -> Result<Exit, CliError> {
    match verb {
        KrlVerb::Build { hosts, out } => build(context, kind(*hosts), out),
        KrlVerb::Check { file, hosts } => check(context, kind(*hosts), file),
        KrlVerb::Diff { before, after } => diff(context, before, after),
    }
}

fn kind(hosts: bool) -> CertificateKind {
    if hosts { CertificateKind::Host } else { CertificateKind::User }
}

fn build(context: &Context, kind: CertificateKind, out: &Path) -> Result<Exit, CliError> {
    let fleet = context.open_published()?;
    let bytes = ops::krl_bytes(kind, fleet.state())?;
    write_file(out, &bytes)?;
    // What lies on the disk is what counts: sshd takes an empty file for an empty list.
    if read_file(out, KRL_BYTES_MAX)? != bytes {
        return Err(CliError::failed(format!("{} does not read back as it was written", shown(out)))
            .hint("do not use it; is the disk failing, or does somebody else write there?"));
    }
    let (list, entries) = (Krl::parse(&bytes)?, ops::krl(kind, fleet.state())?.entries().len());
    if context.json {
        let value = json!({ "file": shown(out), "version": list.version(), "entries": entries, "bytes": bytes.len() });
        return context.answer(value, Exit::Ok);
    }
    context.say(&format!("{}: {}", shown(out), told(&list, bytes.len())));
    Ok(Exit::Ok)
}

fn told(list: &Krl, bytes: usize) -> String {
    let entries = list.entries().len();
    let entries = if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
    format!("version {}, made {}, {entries}, {bytes} bytes", list.version(), list.generated())
}

/// A list from a file.
fn read(path: &Path) -> Result<(Krl, usize), CliError> {
    let bytes = read_file(path, KRL_BYTES_MAX).map_err(|e| match e.exit {
        Exit::NotFound => e.hint("where sshd_config names it, sshd refuses every login by key until it is there"),
        _ => e,
    })?;
    let list = Krl::parse(&bytes).map_err(|e| {
        let mut error = CliError::from(e);
        error.message = format!("{} {}", shown(path), error.message);
        error
    })?;
    Ok((list, bytes.len()))
}

fn check(context: &Context, kind: CertificateKind, file: &Path) -> Result<Exit, CliError> {
    let (list, bytes) = read(file)?;
    if !context.has_keyring()? {
        if context.json {
            let value = json!({ "version": list.version(), "generated": list.generated().to_string(), "bytes": bytes, "compared": false });
            return context.answer(value, Exit::Ok);
        }
        context.out.line(&told(&list, bytes))?;
        context.say("there is no keyring here: only the file itself was checked; --fleet names one");
        return Ok(Exit::Ok);
    }
    let fleet = context.open_published()?;
    let state = fleet.state();
    let found = ops::check_krl(&list, kind, state)?;
    let exit = if found.lacks.is_empty() && found.surplus.is_empty() { Exit::Ok } else { Exit::No };
    if context.json {
        let value = json!({
            "version": list.version(), "generated": list.generated().to_string(), "bytes": bytes, "compared": true,
            "age": age(found.age), "log_size": state.size, "lacks": rows(&found.lacks, state), "surplus": rows(&found.surplus, state),
        });
        return context.answer(value, exit);
    }
    context.out.line(&told(&list, bytes))?;
    for (what, entries) in [("lets in, against the log", &found.lacks), ("keeps out, against the log", &found.surplus)]
    {
        for entry in entries {
            context.out.line(&format!("{what}: {entry}"))?;
            for certificate in ops::certificates_of(entry, state) {
                context.out.line(&format!("  {certificate}"))?;
            }
        }
    }
    context.say(&verdict(&found, state, kind));
    Ok(exit)
}

fn age(age: KrlAge) -> &'static str {
    match age {
        KrlAge::Older => "older",
        KrlAge::Same => "same",
        KrlAge::Newer => "newer",
    }
}

fn rows(entries: &[KrlEntry], state: &State) -> Vec<Value> {
    let row = |e: &KrlEntry| json!({ "entry": e.to_string(), "certificates": ops::certificates_of(e, state) });
    entries.iter().map(row).collect()
}

fn verdict(found: &KrlCheck, state: &State, kind: CertificateKind) -> String {
    let same = found.lacks.is_empty() && found.surplus.is_empty();
    let hosts = if kind == CertificateKind::Host { " --hosts" } else { "" };
    let build = format!("'keys ssh krl build{hosts} --out FILE' writes it anew");
    match (found.age, same) {
        (KrlAge::Same, true) => "as the log has it".to_owned(),
        (KrlAge::Older, true) => {
            format!("made from a shorter log than this of {} entries; nothing was revoked since", state.size)
        }
        (KrlAge::Newer, true) => {
            format!("made from a longer log than this of {} entries; nothing was revoked between", state.size)
        }
        (KrlAge::Same, false) => format!("not as the log has it, though it says so; {build}"),
        (KrlAge::Older, false) => format!("older than the log, which has {} entries; {build}", state.size),
        (KrlAge::Newer, false) => format!(
            "newer than this copy of the log, which has {} entries: bring that up to date, then check again; or is it another fleet's?",
            state.size
        ),
    }
}

fn diff(context: &Context, before: &Path, after: &Path) -> Result<Exit, CliError> {
    let ((before, _), (after, _)) = (read(before)?, read(after)?);
    let (gone, come) = (before.beyond(&after), after.beyond(&before));
    let exit = if gone.is_empty() && come.is_empty() { Exit::Ok } else { Exit::Pending };
    if context.json {
        let texts = |entries: &[KrlEntry]| entries.iter().map(ToString::to_string).collect::<Vec<_>>();
        let value =
            json!({ "versions": [before.version(), after.version()], "less": texts(&gone), "more": texts(&come) });
        return context.answer(value, exit);
    }
    gone.iter().try_for_each(|entry| context.out.line(&format!("- {entry}")))?;
    come.iter().try_for_each(|entry| context.out.line(&format!("+ {entry}")))?;
    context.say(&format!(
        "version {} to {}: {} less, {} more",
        before.version(),
        after.version(),
        gone.len(),
        come.len()
    ));
    Ok(exit)
}

/// `keys ssh revoke`.
pub(super) fn revoke(
    context: &Context,
    serials: &[u64],
    files: &[PathBuf],
    change: &Change,
    why: &str,
) -> Result<Exit, CliError> {
    let keys = files.iter().map(|file| subject(file)).collect::<Result<BTreeSet<_>, _>>()?;
    let serials: BTreeSet<u64> = serials.iter().copied().collect();
    context.planned(
        change,
        &Planned {
            question: "Take them back?",
            plan: &|fleet, _| Ok(ops::plan_revoke_serials(&serials, &keys, fleet.state(), fleet.now())?),
            show: &|plan, _| shown_plan(plan),
            drafts: &|plan, _, _| Ok(plan.drafts(why)),
            after: &|_, _| {
                context
                    .say("nodes refuse them once they have the new list: 'keys ssh render', or 'keys ssh krl build'");
                Ok(())
            },
        },
    )
}

/// The key that a file is about.
fn subject(file: &Path) -> Result<SshPublicKey, CliError> {
    let none = |e: &dyn std::fmt::Display| CliError::failed(format!("{}: {e}", shown(file)));
    let text = String::from_utf8(read_file(file, KEY_FILE_BYTES_MAX)?)
        .map_err(|_| none(&"is neither a public key nor an SSH certificate"))?;
    let line = text.trim_end();
    match SshCertificate::parse(line) {
        Ok(certificate) => certificate.subject().map_err(|e| none(&e)),
        Err(_) => SshPublicKey::parse_line(line).map_err(|e| none(&e)),
    }
}

fn shown_plan(plan: &SerialsPlan) -> Shown {
    let expired = |serial| if plan.expired.contains(serial) { ": its time is over anyway" } else { "" };
    let mut lines: Vec<String> =
        plan.serials.iter().map(|(serial, what)| format!("{what}{}", expired(serial))).collect();
    lines.extend(plan.bare.iter().map(|pop| {
        format!("{pop} is left without a certificate for its host key; 'keys ssh sign host {pop}' makes a new one")
    }));
    if plan.serials.is_empty() {
        lines.push("nothing to take back: no certificate that is meant is still good, or all are revoked".to_owned());
    }
    let bare: Vec<String> = plan.bare.iter().map(ToString::to_string).collect();
    let json = json!({ "serials": plan.serials.keys().collect::<Vec<_>>(), "expired": plan.expired, "bare": bare });
    Shown { lines, json, empty: plan.serials.is_empty() }
}
