//! The arguments of import.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Change, Reason};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Each value becomes a secret of OWNER. Its name is the one it has, in small letters, with '.' for '/' and '-' for what
no name may hold: DB_PASSWORD becomes db_password. Values are never shown, and never written to a disk in the clear. All
of it is done, or nothing. What is there already with the same value is left alone, so the same import can be run again.
Examples:
  keys import env service.env --to nginx@fra1 --dry-run
  keys import pass ~/.password-store/web --to nginx@fra1 --yes
  keys import ansible-vault vault.yml --password-file vault.pw --to fra1 --name vault.yml"
)]
pub(super) struct Import {
    #[command(subcommand)]
    pub verb: ImportVerb,
}

/// Where values go, and what they are called there.
#[derive(Debug, ClapArgs)]
pub(super) struct Into {
    /// Whose secrets they become, for example nginx@fra1, fra1 or nginx@*
    #[arg(long = "to", value_name = "OWNER")]
    pub owner: String,
    /// Put this in front of each name
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prefix: String,
    /// Give what is called FROM another name than the rule would
    #[arg(long, value_name = "FROM=NAME")]
    pub rename: Vec<String>,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportVerb {
    /// A file of variables, one secret each
    Env {
        /// The file, '-' for stdin
        file: PathBuf,
        #[command(flatten)]
        into: Into,
    },
    /// A password store of pass or gopass, one secret a file
    ///
    /// What is sealed to a key of this home is opened with that, everything else with the user's own gpg.
    Pass {
        /// The store, or a directory in it
        directory: PathBuf,
        /// Take the first line of each alone, without its end
        #[arg(long)]
        first_line: bool,
        #[command(flatten)]
        into: Into,
    },
    /// What ansible-vault encrypts, as one secret
    AnsibleVault {
        /// The file
        file: PathBuf,
        /// Where the password is, '-' for stdin
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// What to call it [default: as the file]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        into: Into,
    },
}
