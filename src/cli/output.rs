//! Streams: stdout carries the answer, stderr the talk. A failed write to stdout is a failed command, never a panic and
//! never a success.

use std::io::{IsTerminal as _, Write as _};

use super::exit::{CliError, Exit};

/// Says something on stderr; if that fails there is nobody to tell.
pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The answer's stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out;

impl Out {
    pub(super) fn line(self, text: &str) -> Result<(), CliError> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Whether nothing of what is written there is ever seen. A stdout that was closed is opened as /dev/null by the runtime.
    pub(super) fn is_thrown_away(self) -> bool {
        let is_null = |found: rustix::fs::Stat, null: rustix::fs::Stat| found.st_rdev == null.st_rdev;
        let found = rustix::fs::fstat(std::io::stdout()).ok();
        let is_device = |s: &rustix::fs::Stat| rustix::fs::FileType::from_raw_mode(s.st_mode).is_char_device();
        found
            .filter(is_device)
            .zip(rustix::fs::stat("/dev/null").ok())
            .is_some_and(|(found, null)| is_null(found, null))
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = std::io::stdout();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|e| CliError::new(Exit::Failed, format!("cannot write the answer: {e}")))
    }
}

/// A table: columns as wide as their widest cell, two spaces between, a header in capitals.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|h| h.to_uppercase()).collect()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        // Names and texts came from others.
        self.rows.push(cells.iter().map(|c| crate::text::escape(c).into_owned()).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |i: usize| self.rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// A progress line on a terminal; nothing elsewhere.
pub(super) struct Progress {
    what: &'static str,
    shown: bool,
    last: u64,
}

impl Progress {
    pub(super) fn new(what: &'static str, quiet: bool) -> Self {
        Self { what, shown: !quiet && std::io::stderr().is_terminal(), last: u64::MAX }
    }

    /// Shows how far it is, whenever another hundredth is done.
    pub(super) fn step(&mut self, done: u64, of: u64) {
        let percent = done.saturating_mul(100).checked_div(of).unwrap_or(100);
        if self.shown && percent != self.last {
            self.last = percent;
            let _ = write!(std::io::stderr(), "\r{} {done}/{of} ({percent} %)\u{1b}[K", self.what);
            let _ = std::io::stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.last != u64::MAX {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}
