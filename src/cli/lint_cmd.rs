//! `keys lint`: what is wrong with secrets, rules and the files beside them. For CI and commit hooks: without any key.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::git;
use super::lint_files::Looked;
use super::policy_cmd::draft;
use crate::lint::{self, Code, Finding, REACH_SHOWN, Reached, Severity};
use crate::ops;
use crate::policy::Policy;

/// The first lines of the hook, by which ours is known again.
const HOOK: &str = "#!/bin/sh
# Written by 'keys lint --install-hook': refuses a commit with values that were not sealed.
# What only looks like one is let pass by a comment on its line, or the line before: keys-lint: allow
exec keys lint --staged --fail-on warning
";

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Without PATH the fleet's secrets and rules are judged, and all files in its directory looked through; with PATH or
--staged only these files. Exit 3 if something is found that is as grave as --fail-on.
A line that only looks like a secret: 'keys-lint: allow' in a comment on it, or on the line before.
Examples:
  keys lint
  keys lint --fail-on warning --json
  keys lint deploy/ compose.yaml
  keys lint --staged --fail-on warning"
)]
pub(super) struct Lint {
    /// Files and directories to look through
    pub paths: Vec<PathBuf>,
    /// Look through what git has staged, as it is staged
    #[arg(long, conflicts_with = "paths")]
    pub staged: bool,
    /// From what on to exit with 3: error, warning or note
    #[arg(long, default_value = "error", value_name = "SEVERITY")]
    pub fail_on: Severity,
    /// Warn of members that can read more than so many per cent of all secrets
    #[arg(long, default_value_t = 50, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub reach_max: u8,
    /// Open what the keys of this home open, and find equal values; none is shown
    #[arg(long, conflicts_with_all = ["paths", "staged"])]
    pub open: bool,
    /// Install a hook into the git repository here that lints what is staged before each commit
    #[arg(long, conflicts_with_all = ["paths", "staged", "open"])]
    pub install_hook: bool,
}

/// What was looked at.
#[derive(Default)]
struct Seen {
    looked: Looked,
    reach: Vec<Reached>,
    secrets: Option<usize>,
    opened: Option<usize>,
}

/// `keys lint`.
pub(super) fn lint(context: &Context, args: &Lint) -> Result<Exit, CliError> {
    if args.install_hook {
        return install_hook(context);
    }
    let mut seen = Seen::default();
    if args.staged {
        seen.looked.staged()?;
    } else if args.paths.is_empty() {
        fleet(context, args, &mut seen)?;
    } else {
        for path in &args.paths {
            seen.looked.below(path, &[])?;
        }
    }
    let mut findings = std::mem::take(&mut seen.looked.findings);
    lint::rank(&mut findings);
    let exit = if findings.iter().any(|f| f.severity >= args.fail_on) { Exit::No } else { Exit::Ok };
    if context.json {
        return context.answer(answer(&findings, &seen), exit);
    }
    for finding in &findings {
        context.out.line(&line(finding))?;
    }
    if let Some(top) = top(&seen.reach) {
        context.out.line(&top)?;
    }
    context.say(&summary(&findings, &seen));
    Ok(exit)
}

/// The fleet, its policy's draft, and the files beside them.
fn fleet(context: &Context, args: &Lint, seen: &mut Seen) -> Result<(), CliError> {
    let mut fleet = context.open_anywhere()?;
    let found = ops::lint(&mut fleet, usize::from(args.reach_max))?;
    seen.looked.findings.extend(found.findings);
    (seen.reach, seen.secrets) = (found.reach, Some(found.secrets));
    // A mirror has no policy directory beside its keyring.
    if let Ok(disk) = context.policy(false) {
        let files = draft(&disk)?;
        let mut found = lint::policy(&files);
        if let (true, Ok(policy)) = (found.is_empty(), Policy::parse(&files)) {
            let state = fleet.state();
            let unmet = state.check_policy(&policy).err().map(|e| e.to_string());
            let unmet = unmet.or_else(|| ops::check_policy(&policy, state).err().map(|e| e.to_string()));
            found.extend(unmet.map(|text| Finding {
                severity: Severity::Error,
                code: Code::Policy,
                place: "policy/".to_owned(),
                line: None,
                text,
                fix: "keys policy check",
            }));
        }
        seen.looked.findings.extend(found);
    }
    if args.open {
        let (found, opened) = ops::duplicate_values(&context.home()?, &mut fleet)?;
        seen.looked.findings.extend(found);
        seen.opened = Some(opened);
    }
    // The keyring and the policy have been judged by what they are.
    let directory = context.fleet_directory()?;
    let without = ["keyring", "policy"].map(|name| directory.join(name));
    seen.looked.directory(&directory, &without)
}

fn line(finding: &Finding) -> String {
    let place = match finding.line {
        Some(line) => format!("{}:{line}", finding.place),
        None => finding.place.clone(),
    };
    format!(
        "{:<8} {:<16} {}: {}  -> {}",
        finding.severity,
        finding.code,
        crate::text::escape(&place),
        crate::text::escape(&finding.text),
        finding.fix
    )
}

/// Who reaches furthest.
fn top(reach: &[Reached]) -> Option<String> {
    if reach.is_empty() {
        return None;
    }
    let shown = reach.iter().take(REACH_SHOWN).map(|r| format!("{} {} ({} %)", r.member, r.count, r.percent));
    let more = match reach.len().saturating_sub(REACH_SHOWN) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    Some(format!("reach    {}{more}", shown.collect::<Vec<_>>().join(", ")))
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|f| f.severity == severity).count()
}

fn summary(findings: &[Finding], seen: &Seen) -> String {
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let found = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
        .map(|(severity, what)| plural(count(findings, severity), what));
    let secrets = seen.secrets.map(|n| format!(" and {}", plural(n, "secret"))).unwrap_or_default();
    let opened = seen.opened.map(|n| format!(", {n} of them opened")).unwrap_or_default();
    format!("{}, in {}{secrets}{opened}", found.join(", "), plural(seen.looked.files, "file"))
}

fn answer(findings: &[Finding], seen: &Seen) -> Value {
    let rows: Vec<Value> = findings
        .iter()
        .map(|f| json!({ "severity": f.severity, "code": f.code, "place": f.place, "line": f.line, "text": f.text, "fix": f.fix }))
        .collect();
    let reach: Vec<Value> = seen
        .reach
        .iter()
        .map(|r| json!({ "member": r.member.to_string(), "count": r.count, "percent": r.percent, "elsewhere": r.elsewhere.len() }))
        .collect();
    json!({
        "findings": rows, "reach": reach, "secrets": seen.secrets, "opened": seen.opened,
        "files": seen.looked.files, "binary": seen.looked.binary,
        "counts": { "error": count(findings, Severity::Error), "warning": count(findings, Severity::Warning), "note": count(findings, Severity::Note) },
    })
}

/// Writes the hook, unless there is another one.
fn install_hook(context: &Context) -> Result<Exit, CliError> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = git::ask_path(&["rev-parse", "--git-path", "hooks"])?.join("pre-commit");
    match std::fs::read(&path) {
        Ok(there) if there == HOOK.as_bytes() => {
            context.say(&format!("{} is there already", shown(&path)));
            return Ok(Exit::Ok);
        }
        Ok(_) => {
            return Err(CliError::failed(format!("{} is another hook; nothing was changed", shown(&path)))
                .hint("call 'keys lint --staged --fail-on warning' from it"));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(CliError::new(Exit::Unknown, format!("cannot read {}: {e}", shown(&path)))),
    }
    super::founding::write_file(&path, HOOK.as_bytes())?;
    let executable = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755));
    executable.map_err(|e| CliError::failed(format!("cannot make {} executable: {e}", shown(&path))))?;
    context.out.line(&format!("hook written to {}", shown(&path)))?;
    Ok(Exit::Ok)
}
