//! `keys publish`: a fleet's public side as plain files, for whatever serves files.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use crate::remote::{PublishError, Shelf, publish};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "What 'keys serve' gives out, as of the published log: the files of the fleet's directory that are public, and the pages of a
key server for gpg and sq. Only what has changed is written, and only files that were written here before are removed. Run it
again after each change. docs/runbooks/key-server.md has what nginx needs.
Examples:
  keys publish --static /srv/keys"
)]
pub(super) struct PublishArgs {
    /// The directory that is served
    #[arg(long = "static", value_name = "DIR")]
    pub directory: PathBuf,
}

/// `keys publish`.
pub(super) fn publish_command(context: &Context, args: &PublishArgs) -> Result<Exit, CliError> {
    let from = context.fleet_directory()?;
    let same = |e: &PathBuf| e.canonicalize().ok();
    if same(&from).is_some() && same(&from) == same(&args.directory) {
        return Err(PublishError::Same.into());
    }
    let mut fleet = context.open_published()?;
    let tree = Shelf::default().tree(&mut fleet)?;
    let done = publish(&from, &tree, &args.directory)?;
    if context.json {
        let value = json!({ "files": done.files, "written": done.written, "removed": done.removed });
        return context.answer(value, Exit::Ok);
    }
    let place = crate::text::shown(&args.directory.display().to_string()).to_string();
    context.out.line(&format!("{place}: {} files, {} written, {} removed", done.files, done.written, done.removed))?;
    Ok(Exit::Ok)
}

impl From<PublishError> for CliError {
    fn from(e: PublishError) -> Self {
        match e {
            PublishError::Disk(e) => e.into(),
            PublishError::Foreign(_) => Self::failed(&e).hint("choose an empty directory, or move the file away"),
            PublishError::Same => Self::usage(&e),
            PublishError::Busy | PublishError::Unsteady => Self::new(Exit::Moved, &e).hint("run it again"),
        }
    }
}
