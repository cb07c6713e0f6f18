//! The arguments of commands that use secrets' values: run with them, fill templates, edit, copy, move, compare.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::args::{Change, Reason};
use crate::name::{Address, MemberName};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A value becomes the variable that its secret's name makes: nginx@fra1/db-password is DB_PASSWORD.
Nothing runs unless all of them can be opened. The program takes this one's place: signals and the exit code are its own.
Examples:
  keys exec 'nginx@fra1/*' -- nginx -g 'daemon off;'
  keys exec PGPASSWORD=pg@fra1/db-password -- psql -h db1
  keys exec --files nginx@fra1/tls.key -- sh -c 'openssl pkey -in $TLS_KEY_FILE -noout'
  keys exec --stdin fra1/registry-token -- docker login --password-stdin -u fra1 registry.example"
)]
pub(super) struct Exec {
    /// Which secrets: an address, or a pattern; NAME=ADDRESS says what its variable is called
    #[arg(required = true, value_name = "SECRET")]
    pub secrets: Vec<String>,
    /// Give the values as files in memory, whose paths are in variables that end in _FILE
    #[arg(long, conflicts_with = "stdin")]
    pub files: bool,
    /// Give the one value on stdin
    #[arg(long)]
    pub stdin: bool,
    /// Open them as this member
    #[arg(long = "as", value_name = "MEMBER")]
    pub reader: Option<MemberName>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Placeholders: {{ ADDRESS }}, and {{ ADDRESS | FILTER }} with trim, base64, hex, json or shell. \\{{ stands for {{.
Examples:
  keys template app.toml.in                        to stdout
  keys template app.toml.in --out /run/app/app.toml"
)]
pub(super) struct Template {
    /// The template, '-' for stdin
    pub file: PathBuf,
    /// Write it here, at once, for its owner alone [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Open the secrets as this member
    #[arg(long = "as", value_name = "MEMBER")]
    pub reader: Option<MemberName>,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The value lies in memory while it is edited, in a directory that nobody else can read. An editor that fails, or a value
that is the same afterwards, changes nothing. Should sealing fail, what was written is kept there, and it is said where.
Examples:
  keys edit nginx@fra1/app.toml
  keys edit --new nginx@fra1/app.toml
  EDITOR='code --wait' keys edit nginx@fra1/app.toml"
)]
pub(super) struct Edit {
    /// Which secret
    pub address: Address,
    /// There is none yet: begin with nothing
    #[arg(long)]
    pub new: bool,
    /// The editor [default: VISUAL, else EDITOR, else vi]
    #[arg(long, value_name = "COMMAND")]
    pub editor: Option<String>,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "It is sealed anew, to those who read the new address by the policy. Needs a key here that opens it.
Examples:
  keys cp nginx@fra1/api-token nginx@ams1/api-token
  keys mv nginx@fra1/token nginx@fra1/api-token --reason 'named like the others'"
)]
pub(super) struct Copy {
    /// Which secret
    pub from: Address,
    /// Where to
    pub to: Address,
    /// Replace the value that is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Values are shown. Exit 0 if they are the same, 9 if they differ; with --quiet that is all.
Examples:
  keys diff nginx@fra1/app.toml nginx@ams1/app.toml
  keys diff nginx@fra1/app.toml --in app.toml")]
pub(super) struct Diff {
    /// Which secret
    pub address: Address,
    /// Another secret
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    pub other: Option<Address>,
    /// A file, '-' for stdin
    #[arg(long = "in", value_name = "FILE")]
    pub input: Option<PathBuf>,
}
