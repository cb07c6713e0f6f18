//! Asking git, by absolute path: what is staged, where its hooks are. A hook's environment says which index is meant, so git
//! gets ours.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::exit::{CliError, Exit};

/// A command for git.
pub(super) fn git() -> Result<Command, CliError> {
    let path = ["/usr/local/bin", "/usr/bin", "/bin"].iter().map(|d| Path::new(d).join("git")).find(|p| p.is_file());
    let path = path.ok_or_else(|| CliError::new(Exit::NotFound, "git is not installed").hint("install git"))?;
    Ok(Command::new(path))
}

/// What git answers.
pub(super) fn ask(args: &[&str]) -> Result<Vec<u8>, CliError> {
    ask_in(Path::new("."), args)
}

/// What git answers in a directory.
pub(super) fn ask_in(directory: &Path, args: &[&str]) -> Result<Vec<u8>, CliError> {
    let output = git()?.arg("-C").arg(directory).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|e| CliError::failed(format!("cannot run git: {e}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next_back().unwrap_or_default();
        return Err(CliError::failed(format!("git {}: {}", args.first().unwrap_or(&""), crate::text::shown(said))));
    }
    Ok(output.stdout)
}

/// One line that git answers, as a path.
pub(super) fn ask_path(args: &[&str]) -> Result<PathBuf, CliError> {
    ask_path_in(Path::new("."), args)
}

/// One line that git answers in a directory, as a path.
pub(super) fn ask_path_in(directory: &Path, args: &[&str]) -> Result<PathBuf, CliError> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut answer = ask_in(directory, args)?;
    while answer.last() == Some(&b'\n') {
        answer.pop();
    }
    Ok(PathBuf::from(std::ffi::OsString::from_vec(answer)))
}

/// The files of a commit below a path, from the root of the work tree, each with its blob.
pub(super) fn tree(commit: &str, below: &str) -> Result<Vec<(String, String)>, CliError> {
    let answer = ask(&["ls-tree", "-r", "-z", "--full-tree", commit, "--", below])?;
    let row = |row: &[u8]| {
        let text = String::from_utf8_lossy(row).into_owned();
        let (about, path) = text.split_once('\t')?;
        Some((path.to_owned(), about.split(' ').nth(2)?.to_owned()))
    };
    Ok(answer.split(|b| *b == 0).filter_map(row).collect())
}

/// The files below a directory that git keeps, or would take in if it were told to: not those that it is told to ignore.
/// `None` if git does not keep the directory, or is not installed.
pub(super) fn listed(directory: &Path) -> Option<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut command = git().ok()?;
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output =
        command.arg("-C").arg(directory).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let names = output.stdout.split(|b| *b == 0).filter(|n| !n.is_empty());
    Some(names.map(|n| PathBuf::from(std::ffi::OsString::from_vec(n.to_vec()))).collect())
}

/// A file that the next commit would change: its path from the root of the work tree, and the blob's name.
pub(super) struct Staged {
    pub path: String,
    pub blob: String,
}

/// Files that the next commit would add or change.
pub(super) fn staged() -> Result<Vec<Staged>, CliError> {
    let args = ["diff", "--cached", "--raw", "-z", "--no-renames", "--no-abbrev", "--no-ext-diff", "--diff-filter=AMT"];
    let answer = ask(&args)?;
    let mut fields = answer.split(|b| *b == 0);
    let mut found = Vec::new();
    // ":100644 100644 OLD NEW M", then the path.
    while let (Some(about), Some(path)) = (fields.next(), fields.next()) {
        let about = String::from_utf8_lossy(about).into_owned();
        let words: Vec<&str> = about.split(' ').collect();
        let [_, mode, _, blob, _] = words.as_slice() else {
            return Err(CliError::failed("git diff --raw gave something else than it is known to give"));
        };
        // 120000 is a symbolic link, 160000 another repository.
        if mode.starts_with("100") {
            found.push(Staged { path: String::from_utf8_lossy(path).into_owned(), blob: (*blob).to_owned() });
        }
    }
    Ok(found)
}

/// Reads blobs one after the other from one process.
pub(super) struct Blobs {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Blobs {
    pub(super) fn open() -> Result<Self, CliError> {
        let failed = |e: std::io::Error| CliError::failed(format!("cannot run git: {e}"));
        let mut child = git()?
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(ask), Some(answer)) => Ok(Self { child, ask, answer: BufReader::new(answer) }),
            _ => Err(CliError::failed("cannot talk to git")),
        }
    }

    /// The content of a blob; `None` if it has more than `limit` bytes.
    pub(super) fn read(&mut self, blob: &str, limit: usize) -> Result<Option<Vec<u8>>, CliError> {
        let failed = |e: std::io::Error| CliError::failed(format!("git cat-file: {e}"));
        writeln!(self.ask, "{blob}").and_then(|()| self.ask.flush()).map_err(failed)?;
        let mut header = String::new();
        self.answer.by_ref().take(200).read_line(&mut header).map_err(failed)?;
        let size = header.trim_end().rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        let Some(size) = size else {
            return Err(CliError::failed(format!("git has no such blob: {}", crate::text::shown(header.trim_end()))));
        };
        if size > limit as u64 {
            std::io::copy(&mut self.answer.by_ref().take(size + 1), &mut std::io::sink()).map_err(failed)?;
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.answer.by_ref().take(size).read_to_end(&mut bytes).map_err(failed)?;
        // A line feed follows.
        self.answer.by_ref().take(1).read_to_end(&mut Vec::new()).map_err(failed)?;
        Ok(Some(bytes))
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        // It ends by itself when nobody asks any more; it is ours, so it is not left behind either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
