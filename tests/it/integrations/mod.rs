//! The neighbours: what lies in docs/integrations for other people's programs, run with these programs.

mod accepted;
mod automation;
mod dns;
mod numbers;
mod services;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Ran, Sandbox, Test, Tool};

pub(crate) fn tests() -> Vec<Test> {
    [accepted::tests(), automation::tests(), dns::tests(), numbers::tests(), services::tests()].concat()
}

/// A file of docs/integrations.
fn artefact(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/integrations").join(name)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The blocks of a language in a page, in their order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = read(artefact(page));
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// A file of YAML as JSON, read by Python's package.
fn yaml(path: &Path) -> serde_json::Value {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], encoding='utf-8'))))";
    Ran::of(Command::new(Tool::PyYaml.path().unwrap()).args(["-I", "-c", script]).arg(path)).json()
}

/// A command in the sandbox that finds the program by its name, for the fleet and the home of `who`.
fn with_keys(sandbox: &Sandbox, program: impl AsRef<std::ffi::OsStr>, who: &str) -> Command {
    let keys = Path::new(env!("CARGO_BIN_EXE_keys")).parent().unwrap();
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", keys.display()))
        .env("LC_ALL", "C.UTF-8")
        // Nothing is left beside what lies in the repository.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", sandbox.root())
        .env("KEYS_FLEET", sandbox.path("fleet"))
        .env("KEYS_HOME", sandbox.path(who))
        .current_dir(sandbox.root());
    command
}
