//! `keys git`: a keyring that lies in a git repository. What git shows of sealed files and of the log, and what it does where
//! two branches have both changed the keyring.
//!
//! A log is never merged. Where one branch's log goes on where the other's ends, its files are the newer ones; where both go
//! on differently, that is a fork, which no tool puts right.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::{read_file, write_file};
use super::git;
use super::git_show;
use crate::digest::Digest;
use crate::disk::{Disk, Memory};
use crate::limits::{COMMIT_BYTES_MAX, TILE_BYTES_MAX};
use crate::log::merkle::verify_consistency;
use crate::store::{Store, consistency_proof, read_newest};

#[derive(Debug, ClapArgs)]
pub(super) struct Git {
    #[command(subcommand)]
    pub verb: GitVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum GitVerb {
    /// Teach git about the keyring: what to show of sealed files and of the log, and how two branches come together
    #[command(
        after_help = "Writes .gitattributes beside the keyring, to be committed, and the repository's own configuration, which is not: run it in
each clone. With --values 'git diff' shows opened values on a terminal, where a key is here.
Examples:
  keys git install
  keys git install --values"
    )]
    Install {
        /// Show opened values where a key of this home opens them
        #[arg(long)]
        values: bool,
    },
    /// What git shows of a file (called by git)
    #[command(hide = true)]
    Textconv {
        what: What,
        file: PathBuf,
        #[arg(long)]
        values: bool,
    },
    /// Brings two versions of a file of the keyring together (called by git)
    #[command(hide = true)]
    Merge { ours: PathBuf, theirs: PathBuf, path: String },
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    Sealed,
    Log,
}

/// `keys git`.
pub(super) fn git(context: &Context, args: &Git) -> Result<Exit, CliError> {
    match &args.verb {
        GitVerb::Install { values } => install(context, *values),
        GitVerb::Textconv { what: What::Sealed, file, values } => git_show::sealed(context, file, *values),
        GitVerb::Textconv { what: What::Log, file, .. } => git_show::log(context, file),
        GitVerb::Merge { ours, theirs, path } => merge(context, ours, theirs, path),
    }
}

/// What stands in .gitattributes.
const ATTRIBUTES: [&str; 3] =
    ["keyring/** -text merge=keys-keyring", "keyring/sealed/** diff=keys-sealed", "keyring/log/** diff=keys-log"];

fn install(context: &Context, values: bool) -> Result<Exit, CliError> {
    let fleet = context.fleet_directory()?;
    context.keyring(false)?;
    let absolute = |path: &Path| {
        path.canonicalize().map_err(|e| CliError::new(Exit::Unknown, format!("cannot look at {}: {e}", shown(path))))
    };
    let fleet = absolute(&fleet)?;
    let top = absolute(&git::ask_path_in(&fleet, &["rev-parse", "--show-toplevel"])?)?;
    let below = fleet.strip_prefix(&top).unwrap_or(Path::new("")).display().to_string();
    // Git runs these by a shell, in the work tree's root.
    let keys = match below.as_str() {
        "" => "keys --fleet .".to_owned(),
        below => format!("keys --fleet '{}'", below.replace('\'', "'\\''")),
    };
    let path = fleet.join(".gitattributes");
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(CliError::new(Exit::Unknown, format!("cannot read {}: {e}", shown(&path)))),
    };
    let mut after = before.clone();
    for line in ATTRIBUTES.iter().filter(|line| !before.lines().any(|l| l == **line)) {
        if !after.is_empty() && !after.ends_with('\n') {
            after.push('\n');
        }
        after.push_str(line);
        after.push('\n');
    }
    if after != before {
        write_file(&path, after.as_bytes())?;
        context.out.line(&format!("written to {}; commit it", shown(&path)))?;
    }
    let shows = if values { " --values" } else { "" };
    let settings = [
        ("diff.keys-sealed.textconv", format!("{keys} git textconv{shows} sealed")),
        // What was opened is not to be kept in the repository.
        ("diff.keys-sealed.cachetextconv", "false".to_owned()),
        ("diff.keys-log.textconv", format!("{keys} git textconv log")),
        ("merge.keys-keyring.name", "the longer of two logs, if it goes on where the other ends".to_owned()),
        ("merge.keys-keyring.driver", format!("{keys} git merge %A %B %P")),
        // A tile that has grown is another file of nearly the same bytes, and no file that was renamed.
        ("merge.renames", "false".to_owned()),
        // Some versions of git look for renames nevertheless, as far as this goes.
        ("merge.renameLimit", "1".to_owned()),
        // They then take a sealed file that came to its place for a directory that was renamed, and move others after it.
        ("merge.directoryRenames", "false".to_owned()),
    ];
    for (name, value) in &settings {
        git::ask_in(&fleet, &["config", "--local", name, value])?;
    }
    context.out.line(&format!("git is told in {}: {} settings", shown(&top.join(".git/config")), settings.len()))?;
    Ok(Exit::Ok)
}

/// How the logs of two branches stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Ours goes on where the other ends, or is the same.
    Ours,
    /// The other goes on where ours ends.
    Theirs,
    /// They part.
    Fork { ours: u64, theirs: u64 },
}

/// One branch's head.
struct Side {
    store: Store,
    size: u64,
    root: Digest,
}

impl Side {
    /// Reads the head and the hashes of the log in a commit. Nothing is believed of them but what the proof between the two
    /// shows; what is merged is checked by whoever opens it.
    fn read(commit: &str, keyring: &str) -> Result<Self, CliError> {
        let disk = Disk::of_bucket(Memory::default());
        let mut blobs = git::Blobs::open()?;
        for (path, blob) in git::tree(commit, &format!("{keyring}log/"))? {
            let Some(path) = path.strip_prefix(keyring) else { continue };
            let is_needed = !path.starts_with("log/commit") && !path.starts_with("log/tile/entries/");
            if let (true, Some(bytes)) = (is_needed, blobs.read(&blob, TILE_BYTES_MAX.max(COMMIT_BYTES_MAX))?) {
                disk.create(path, &bytes)?;
            }
        }
        let store = Store::new(disk);
        let (_, (_, checkpoint)) = read_newest(&store)?;
        Ok(Self { store, size: checkpoint.size, root: checkpoint.root })
    }

    /// Whether this one's log goes on where the other's ends.
    fn extends(&self, other: &Self) -> Result<bool, CliError> {
        if self.size < other.size {
            return Ok(false);
        }
        let proof = consistency_proof(&self.store, other.size, self.size)?;
        Ok(verify_consistency(other.size, &other.root, self.size, &self.root, &proof))
    }
}

fn compare(ours: &str, theirs: &str, keyring: &str) -> Result<Verdict, CliError> {
    let (ours, theirs) = (Side::read(ours, keyring)?, Side::read(theirs, keyring)?);
    Ok(if ours.extends(&theirs)? {
        Verdict::Ours
    } else if theirs.extends(&ours)? {
        Verdict::Theirs
    } else {
        Verdict::Fork { ours: ours.size, theirs: theirs.size }
    })
}

/// The commit that git merges into HEAD: `git merge` names it in the environment of what it runs.
fn merged() -> Option<String> {
    let heads = std::env::vars_os().filter_map(|(name, _)| Some(name.to_str()?.strip_prefix("GITHEAD_")?.to_owned()));
    let mut heads: Vec<String> = heads.filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit())).collect();
    if heads.len() == 1 { heads.pop() } else { None }
}

/// Brings two versions of one file together: the result is left in `ours`.
fn merge(context: &Context, ours: &Path, theirs: &Path, path: &str) -> Result<Exit, CliError> {
    let Some(at) = path.rfind("keyring/").map(|at| at + "keyring/".len()) else {
        return Err(CliError::usage(format!("{} is not in a keyring", crate::text::shown(path))));
    };
    let keyring = path.get(..at).unwrap_or_default();
    let Some(other) = merged() else {
        return Err(CliError::new(Exit::Unknown, format!("{}: it is not clear which branches come together", crate::text::shown(path)))
            .hint("a log is not replayed on top of another: use 'git merge' or 'git pull --no-rebase', not rebase, cherry-pick or stash"));
    };
    match compare("HEAD", &other, keyring)? {
        Verdict::Ours => Ok(Exit::Ok),
        Verdict::Theirs => {
            let bytes = read_file(theirs, COMMIT_BYTES_MAX)?;
            // Git's own file, which it is about to read.
            std::fs::write(ours, bytes).map_err(|e| CliError::failed(format!("cannot write {}: {e}", shown(ours))))?;
            Ok(Exit::Ok)
        }
        Verdict::Fork { ours, theirs } => {
            let _ = context;
            Err(CliError::new(
                Exit::No,
                format!(
                    "FORK: {}: the log of this branch ({ours} entries) and that of the other ({theirs}) part; neither goes on \
                     where the other ends, and nothing was merged",
                    crate::text::shown(path)
                ),
            )
            .hint("go back with 'git merge --abort' and keep both branches: they show that the log's key signed two pasts. Find out which one others \
                   have seen, go on with that, and make the other one's changes again there (docs/runbooks/git.md)"))
        }
    }
}
