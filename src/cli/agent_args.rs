//! The arguments of `keys agent`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use crate::time::Span;

/// Where services' files lie unless somebody says otherwise.
const RUN_DIRECTORY: &str = "/run/keys";
/// Where the machine's hooks are defined.
const HOOKS: &str = "/etc/keys/hooks.toml";

#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "It serves what lies on this machine's disk before it asks anybody, and goes on serving while every server is away.
What is delivered to whom is said in policy/secrets.toml ([[delivery]]); what a hook runs, in the file --hooks.
Examples:
  keys agent
  keys agent --once --run-dir /run/keys
  keys agent units --out /etc/systemd/system"
)]
pub(super) struct AgentArgs {
    #[command(flatten)]
    pub run: AgentRun,
    #[command(subcommand)]
    pub verb: Option<AgentVerb>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct AgentRun {
    /// One round, without waiting for it, and end; exit 3 if not all is as it should be
    #[arg(long)]
    pub once: bool,
    /// End after so many rounds [default: never]
    #[arg(long, value_name = "N", conflicts_with = "once")]
    pub rounds: Option<u64>,
    /// From one round to the next, give or take a tenth
    #[arg(long, value_name = "SPAN", default_value = "300s", value_parser = interval)]
    pub interval: Span,
    /// Where services find their files
    #[arg(long, value_name = "DIR", default_value = RUN_DIRECTORY)]
    pub run_dir: PathBuf,
    /// What the policy's hooks run on this machine
    #[arg(long, value_name = "FILE", default_value = HOOKS)]
    pub hooks: PathBuf,
    /// Write its numbers to this file, for node_exporter's textfile collector: NAME.prom
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// How it talks [default: journal if systemd listens, else plain]
    #[arg(long, value_enum, value_name = "FORM")]
    pub log: Option<LogForm>,
}

/// How a program that runs for long talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogForm {
    /// Lines for people
    Plain,
    /// The same with the journal's priorities: <3>…
    Journal,
    /// A JSON object a line, with the labels event, level, member and service
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum AgentVerb {
    /// Write systemd's units: the agent's own, and drop-ins for the services of this machine that get credentials
    #[command(after_help = "Examples:
  keys agent units --out /etc/systemd/system
  keys agent units --out units --program /usr/local/bin/keys --run-dir /run/keys")]
    Units {
        /// The directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Where this program lies on the machine
        #[arg(long, value_name = "PATH", default_value = "/usr/local/bin/keys")]
        program: String,
        /// Where services find their files
        #[arg(long, value_name = "DIR", default_value = RUN_DIRECTORY)]
        run_dir: PathBuf,
        /// What the policy's hooks run on this machine
        #[arg(long, value_name = "FILE", default_value = HOOKS)]
        hooks: PathBuf,
        /// Have the agent write its numbers to this file
        #[arg(long, value_name = "FILE")]
        metrics: Option<PathBuf>,
    },
    /// Have the services' files lie in memory: mount a file system there that is never swapped, where the kernel has that
    #[command(after_help = "Needs root. One that is mounted there already is left alone.
Examples:
  keys agent mount --run-dir /run/keys")]
    Mount {
        /// Where services find their files
        #[arg(long, value_name = "DIR", default_value = RUN_DIRECTORY)]
        run_dir: PathBuf,
    },
}

fn interval(text: &str) -> Result<Span, String> {
    let span = Span::parse(text).filter(|s| (1..=86_400).contains(&s.0));
    span.ok_or_else(|| "expected a whole number and s, m, h or d, between 1s and 1d, for example 300s".to_owned())
}
