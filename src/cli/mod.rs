//! The command line: arguments in, library calls, text out. Everything that touches terminal, environment, clock or other
//! programs is here, and nothing else is.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the shell: it reads the clock, the environment and the arguments"
)]

mod agent_args;
mod agent_cmd;
mod agent_deliver;
mod agent_log;
mod agent_outbox;
mod agent_units;
mod args;
mod audit_cmd;
mod audit_text;
mod backup_args;
mod backup_cmd;
mod bootstrap_cmd;
mod break_glass_cmd;
mod cloud_cmd;
mod confine;
mod context;
mod demo;
mod describe;
mod dns_cmd;
mod doctor_cmd;
mod doctor_files;
mod drill_cmd;
mod edit_cmd;
mod effects;
mod emergency_cmd;
mod evidence_cmd;
mod exec_cmd;
mod exit;
mod export_cmd;
mod fleet_cmd;
mod founding;
mod git;
mod git_cmd;
mod git_show;
mod harden;
mod helper;
mod history_cmd;
mod hook;
mod import_args;
mod import_cmd;
mod invite_cmd;
mod krl_cmd;
mod large_cmd;
mod lint_cmd;
mod lint_files;
mod log_cmd;
mod login_cmd;
mod node_args;
mod nodes_status;
mod object_cmd;
mod output;
mod pass_cmd;
mod policy_cmd;
mod proof_cmd;
mod protect_cmd;
mod publish_cmd;
mod pull_cmd;
mod record_args;
mod render_cmd;
mod renew_cmd;
mod restore_cmd;
mod rotate_cmd;
mod scratch;
mod secret_cmd;
mod serve_cmd;
mod shape_cmd;
mod sign_batch;
mod signals;
mod snapshot_cmd;
mod sops_cmd;
mod static_cmd;
mod status;
mod store_cmd;
mod value_args;
mod value_cmd;
mod wg_agent;
mod wg_args;
mod wg_check;
mod wg_cmd;
mod wg_device;
mod wg_graph;
mod wg_qr;
mod witness_cmd;

use clap::{CommandFactory as _, Parser as _};

pub use exit::Exit;

use args::{Args, Command};
use context::Context;
use exit::CliError;

/// Runs the command with the process's arguments; gives the exit code.
pub fn main() -> u8 {
    harden::harden();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(mut e) => {
            show_safely(&mut e);
            // Help and version are answers, and clap prints them to stdout.
            let code = if e.use_stderr() { Exit::Usage } else { Exit::Ok };
            return if e.print().is_ok() { code.code() } else { Exit::Failed.code() };
        }
    };
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
        output::complain(&format!("keys: this is a bug{place}: {}", panic_text(info.payload())));
        output::complain(
            "hint: nothing that was acknowledged is lost; run 'keys log verify', then report what you did",
        );
    }));
    let result = std::panic::catch_unwind(|| run(&args));
    match result {
        Ok(Ok(exit)) => exit.code(),
        Ok(Err(error)) => {
            error.print(args.global.quiet);
            error.exit.code()
        }
        Err(_) => Exit::Bug.code(),
    }
}

/// What was typed is shown escaped in the messages of the argument parser, too, and not at any length.
fn show_safely(error: &mut clap::Error) {
    use clap::error::{ContextKind, ContextValue};
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand] {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let shown = crate::text::Shown { text, max: 80 }.to_string();
            if shown != *text {
                error.insert(kind, ContextValue::String(shown));
                // They repeat it as it came.
                if error.get(ContextKind::Suggested).is_some() {
                    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(Vec::new()));
                }
            }
        }
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text =
        payload.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| payload.downcast_ref::<String>().cloned());
    crate::text::shown(&text.unwrap_or_default()).to_string()
}

fn run(args: &Args) -> Result<Exit, CliError> {
    let context = Context::new(&args.global)?;
    let done = dispatch(&context, &args.command);
    context.tell_requests();
    done
}

fn dispatch(context: &Context, command: &Command) -> Result<Exit, CliError> {
    match command {
        Command::Init(a) => founding::init(context, a),
        Command::Enroll(a) => founding::enroll(context, a),
        Command::CloudConfig(a) => cloud_cmd::cloud_config(context, a),
        Command::Protect(a) => protect_cmd::protect(context, a),
        Command::Bootstrap(a) => bootstrap_cmd::bootstrap(context, a),
        Command::Invite(a) => invite_cmd::invite(context, a),
        Command::Status(a) => status::status(context, a),
        Command::Approve(a) => fleet_cmd::approve(context, a),
        Command::Withdraw(a) => object_cmd::withdraw(context, a),
        Command::Object(a) => object_cmd::object(context, a),
        Command::Seal(a) => secret_cmd::seal(context, a),
        Command::Open(a) => secret_cmd::open(context, a),
        Command::Exec(a) => exec_cmd::exec(context, a),
        Command::Template(a) => exec_cmd::template(context, a),
        Command::Edit(a) => edit_cmd::edit(context, a),
        Command::Diff(a) => value_cmd::diff(context, a),
        Command::Cp(a) => value_cmd::copy(context, a),
        Command::Mv(a) => value_cmd::rename(context, a),
        Command::Ls(a) => secret_cmd::ls(context, a),
        Command::Export(a) => export_cmd::export(context, a),
        Command::Import(a) => import_cmd::import(context, a),
        Command::Rm(a) => secret_cmd::rm(context, a),
        Command::Who(a) => secret_cmd::who(context, a),
        Command::Reach(a) => secret_cmd::reach(context, a),
        Command::Rotate(a) => rotate_cmd::rotate(context, a),
        Command::Pull(a) => pull_cmd::pull_command(context, a),
        Command::Submit(a) => serve_cmd::submit_command(context, a),
        Command::Serve(a) => serve_cmd::serve(context, a),
        Command::Publish(a) => static_cmd::publish_command(context, a),
        Command::Sync(a) => rotate_cmd::sync(context, a),
        Command::Reseal(a) => rotate_cmd::reseal(context, a),
        Command::Renew(a) => renew_cmd::renew(context, a),
        Command::Revoke(a) => rotate_cmd::revoke(context, a),
        Command::Lint(a) => lint_cmd::lint(context, a),
        Command::Store(a) => store_cmd::store(context, a),
        Command::Git(a) => git_cmd::git(context, a),
        Command::Emergency(a) => emergency_cmd::emergency(context, a),
        Command::Wg(a) => wg_cmd::wg(context, a),
        Command::Ssh(a) => render_cmd::ssh(context, a),
        Command::Agent(a) => agent_cmd::agent(context, a),
        Command::Log(a) => log_cmd::log(context, a),
        Command::Audit(a) => audit_cmd::audit(context, a),
        Command::Ring(a) => log_cmd::ring(context, a),
        Command::Dns(a) => dns_cmd::dns(context, a),
        Command::Policy(a) => policy_cmd::policy(context, a),
        Command::Backup(a) => backup_cmd::backup(context, a),
        Command::Restore(a) => restore_cmd::restore(context, a),
        Command::Drill(a) => drill_cmd::drill(context, a),
        Command::Demo(a) => demo::demo(context, a),
        Command::Explain(a) => exit::explain(context, a),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "keys", &mut script);
            context.out.bytes(&script)?;
            Ok(Exit::Ok)
        }
    }
}
