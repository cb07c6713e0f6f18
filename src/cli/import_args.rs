//! The arguments of import and export.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Change, Reason};
use crate::name::MemberName;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Each value becomes a secret of OWNER. Its name is the one it has, in small letters, with '.' for '/' and '-' for what
no name may hold: DB_PASSWORD becomes db_password. Values are never shown, and never written to a disk in the clear. All
of it is done, or nothing. What is there already with the same value is left alone, so the same import can be run again.
Examples:
  keys import env service.env --to nginx@fra1 --dry-run
  keys import pass ~/.password-store/web --to nginx@fra1 --yes
  keys import sops secrets.yaml --to nginx@fra1 --identity key.txt
  keys import age token.age --identity key.txt --to fra1
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
        /// Take the password of each alone: its first line, without its end
        #[arg(long)]
        first_line: bool,
        #[command(flatten)]
        into: Into,
    },
    /// A file that sops seals, one secret a value
    ///
    /// The data key is opened with a key of this home, with age where --identity names a key for that, or with the user's
    /// own gpg. Values in the clear are left where they are.
    Sops {
        /// The file: .yaml, .yml, .json, .env or .ini
        file: PathBuf,
        /// The file of an age identity
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
        #[command(flatten)]
        into: Into,
    },
    /// A file that age encrypts, as one secret; opened by the program age
    Age {
        /// The file
        file: PathBuf,
        /// The file of the age identity
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
        /// What to call it [default: as the file, without .age]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
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

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "What is exported is out of the log's sight: it stays readable to those keys whatever happens to them here, nobody
can tell that it is the newest, and it has no author. Nothing is written in the clear.
Examples:
  keys export pass store --from 'nginx@fra1/*' --gpg-id alice
  keys export sops secrets.yaml --from 'nginx@fra1/*' --gpg-id alice --gpg-id bob"
)]
pub(super) struct Export {
    #[command(subcommand)]
    pub verb: ExportVerb,
}

/// What is exported, and for whom.
#[derive(Debug, ClapArgs)]
pub(super) struct From {
    /// Which secrets: an address, or a pattern
    #[arg(long, value_name = "SECRETS")]
    pub from: String,
    /// Who will be able to read them: a member, or the full fingerprint of a certificate that the user's gpg has
    #[arg(long = "gpg-id", required = true, value_name = "WHO")]
    pub readers: Vec<String>,
    /// Open them as this member
    #[arg(long = "as", value_name = "MEMBER")]
    pub reader: Option<MemberName>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ExportVerb {
    /// A password store, one file a secret
    Pass {
        /// Where to; it must not exist, or be empty
        directory: PathBuf,
        #[command(flatten)]
        from: From,
    },
    /// A file that sops opens, with the secrets of one owner
    Sops {
        /// Where to, .yaml, .yml or .json; it must not exist
        file: PathBuf,
        #[command(flatten)]
        from: From,
    },
}
