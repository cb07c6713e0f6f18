//! `keys ssh doctor`.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use super::context::Context;
use super::doctor_files::{Rooted, ask, effective};
use super::exit::{CliError, Exit};
use super::node_args::Doctor;
use crate::ops;
use crate::ssh::doctor::{Code, Examined, Finding, Question, Severity, Wanted, examine, live, rank};

pub(super) fn doctor(context: &Context, args: &Doctor) -> Result<Exit, CliError> {
    let wanted = wanted(context, args)?;
    let compared = wanted.is_some();
    if !args.root.is_dir() {
        return Err(CliError::new(
            Exit::NotFound,
            format!("there is no directory {}", super::context::shown(&args.root)),
        ));
    }
    let is_image = args.root != std::path::Path::new("/");
    let owner = if is_image { std::fs::metadata(&args.root).map_or(0, |m| m.uid()) } else { 0 };
    let machine = Rooted { root: args.root.clone(), owner };
    let question = Question { config: &args.config, client_config: &args.client_config, now: context.now(), wanted };
    let mut examined = examine(&question, &machine);
    if args.live {
        let mut found = second_opinion(&args.config, &examined);
        let port = args.port.unwrap_or(examined.port);
        let answer = ask(&args.address, port);
        found.extend(live(&format!("{}:{port}", args.address), &answer, &examined, context.now()));
        examined.findings.extend(found);
        rank(&mut examined.findings);
    }
    let exit = if examined.findings.iter().any(|f| f.code.severity() >= args.fail_on) { Exit::No } else { Exit::Ok };
    if context.json {
        return context.answer(answer(&examined, compared), exit);
    }
    for finding in &examined.findings {
        context.out.line(&line(finding))?;
        context.out.line(&format!("         {}", finding.code.effect()))?;
        context.out.line(&format!("         -> {}", finding.code.fix()))?;
    }
    context.say(&summary(&examined, compared));
    Ok(exit)
}

/// What the log says, if there is a keyring to ask.
fn wanted(context: &Context, args: &Doctor) -> Result<Option<Wanted>, CliError> {
    if !context.has_keyring()? {
        return match &args.node {
            Some(node) => Err(CliError::new(Exit::NotFound, format!("there is no keyring here that knows {node}"))
                .hint("--fleet names the fleet's directory")),
            None => Ok(None),
        };
    }
    Ok(Some(ops::wanted_of_ssh(args.node.as_ref(), &context.open_published()?)?))
}

/// What sshd itself makes of the files, beside what we do.
fn second_opinion(config: &str, examined: &Examined) -> Vec<Finding> {
    let theirs = match effective(config) {
        Ok(theirs) => theirs,
        Err(why) => return vec![Finding::new(Code::LiveConfig, config, why)],
    };
    let other = examined.values.iter().filter_map(|(word, value)| {
        let (_, said) = theirs.iter().find(|(w, _)| w == word)?;
        (said != value)
            .then(|| Finding::new(Code::Overridden, config, format!("sshd -T has {word} {said}, not {value}")))
    });
    other.collect()
}

fn line(finding: &Finding) -> String {
    let place = match finding.line {
        Some(line) => format!("{}:{line}", finding.place),
        None => finding.place.clone(),
    };
    format!("{:<8} {:<25} {}: {}", finding.code.severity(), finding.code, crate::text::escape(&place), finding.text)
}

fn count(examined: &Examined, severity: Severity) -> usize {
    examined.findings.iter().filter(|f| f.code.severity() == severity).count()
}

fn summary(examined: &Examined, compared: bool) -> String {
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let found = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
        .map(|(severity, what)| plural(count(examined, severity), what));
    let log = if compared { "" } else { "; there is no keyring here, so nothing was compared with the log" };
    format!("{}, in {} of configuration{log}", found.join(", "), plural(examined.files.len(), "file"))
}

fn answer(examined: &Examined, compared: bool) -> Value {
    let row = |f: &Finding| {
        json!({
            "severity": f.code.severity(), "code": f.code, "place": f.place, "line": f.line, "text": f.text,
            "effect": f.code.effect(), "fix": f.code.fix(),
        })
    };
    json!({
        "findings": examined.findings.iter().map(row).collect::<Vec<_>>(), "files": examined.files, "compared": compared,
        "counts": { "error": count(examined, Severity::Error), "warning": count(examined, Severity::Warning), "note": count(examined, Severity::Note) },
    })
}
