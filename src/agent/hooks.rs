//! The machine's own file of hooks, /etc/keys/hooks.toml: what the names in a policy's deliveries mean here.
//!
//! ```toml
//! [nginx-check]
//! run = ["/etc/keys/nginx-check"]
//! timeout = "10s"
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::limits::{HOOK_ARGUMENTS_MAX, HOOK_SECONDS_MAX, HOOKS_MAX};
use crate::name::Label;
use crate::policy::{PolicyError, toml};
use crate::time::Span;

/// How long a hook may take if nothing is said.
const TIMEOUT: Span = Span(30);

/// A hook: a program with arguments, no shell between.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookRule {
    /// The program by its absolute path, and its arguments.
    pub run: Vec<String>,
    /// How long it may take before it is ended, and has failed.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn timeout() -> Span {
    TIMEOUT
}

/// The hooks of a machine, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks(BTreeMap<Label, HookRule>);

impl Hooks {
    /// Reads the file, called `path` in messages.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(path: &str, text: &str) -> Result<Self, PolicyError> {
        let hooks: BTreeMap<Label, HookRule> = toml(path, text)?;
        let wrong =
            |place: String, problem: String| Err(PolicyError::Meaning { file: path.to_owned(), place, problem });
        if hooks.len() > HOOKS_MAX {
            return wrong("the file".to_owned(), format!("has {} hooks; at most {HOOKS_MAX} are read", hooks.len()));
        }
        for (name, hook) in &hooks {
            let place = || format!("[{name}]");
            let program = hook.run.first().map(String::as_str).unwrap_or_default();
            if !program.starts_with('/') {
                let problem = "run begins with no absolute path: nothing is looked for on PATH".to_owned();
                return wrong(place(), problem);
            }
            if hook.run.len() > HOOK_ARGUMENTS_MAX || hook.run.iter().any(|a| a.contains('\0') || a.len() > 4_096) {
                let problem =
                    format!("run has more than {HOOK_ARGUMENTS_MAX} arguments, or one of more than 4096 bytes");
                return wrong(place(), problem);
            }
            if hook.timeout.0 == 0 || hook.timeout.0 > HOOK_SECONDS_MAX {
                return wrong(place(), format!("timeout is not between 1s and {HOOK_SECONDS_MAX}s"));
            }
        }
        Ok(Self(hooks))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Label, &HookRule)> {
        self.0.iter()
    }

    /// The hook of that name.
    pub fn find(&self, name: &Label) -> Option<&HookRule> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_a_program_by_its_path() {
        let read = |text: &str| Hooks::parse("hooks.toml", text).map_err(|e| e.to_string());
        let hooks = read("[a]\nrun = [\"/bin/true\", \"x\"]\n[b]\nrun = [\"/bin/x\"]\ntimeout = \"5m\"\n").unwrap();
        assert_eq!(hooks.find(&"a".parse().unwrap()).map(|h| h.timeout), Some(TIMEOUT));
        assert_eq!(hooks.find(&"b".parse().unwrap()).map(|h| h.timeout), Some(Span(300)));
        assert_eq!(hooks.find(&"c".parse().unwrap()), None);
        for (text, part) in [
            ("[a]\nrun = [\"true\"]", "no absolute path"),
            ("[a]\nrun = []", "no absolute path"),
            ("[a]\nrun = \"/bin/true\"", "invalid type"),
            ("[a]\nrun = [\"/bin/true\"]\ntimeout = \"0s\"", "timeout is not"),
            ("[a]\nrun = [\"/bin/true\"]\ntimeout = \"1d\"", "timeout is not"),
            ("[a]\nrun = [\"/bin/true\"]\nshell = true", "unknown field"),
            ("[A]\nrun = [\"/bin/true\"]", "A"),
            ("[a]\nrun = [\"/bin/true\", \"a\\u0000b\"]", "arguments"),
        ] {
            let e = read(text).unwrap_err();
            assert!(e.contains(part), "{text}: {e}");
        }
    }
}
