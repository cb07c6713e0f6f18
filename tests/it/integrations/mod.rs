//! The neighbours: what lies in docs/integrations for other people's programs, run with these programs.

mod dns;
mod numbers;

use std::path::{Path, PathBuf};

use crate::support::Test;

pub(crate) fn tests() -> Vec<Test> {
    [dns::tests(), numbers::tests()].concat()
}

/// A file of docs/integrations.
fn artefact(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/integrations").join(name)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
