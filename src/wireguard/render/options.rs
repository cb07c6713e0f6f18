//! What the files refer to on the machine, and which of them are wanted.

use std::collections::BTreeSet;

use super::FileKind;
use crate::text;

/// Why something is not rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The path is copied into shell commands and unit files, so it is held to a narrow alphabet.
    #[error("{what} '{path}' {problem}")]
    Path {
        /// Which path.
        what: &'static str,
        /// The path, made safe to show.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The mesh has no such node.
    #[error("the mesh has no node '{name}'")]
    Node {
        /// The name.
        name: String,
    },
}

/// Paths that the files name, and which files are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderOptions {
    key_file: String,
    program: String,
    kinds: BTreeSet<FileKind>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        let (key_file, program) = ("/run/keys/wg/%i.key".to_owned(), "/usr/bin/keys".to_owned());
        Self { key_file, program, kinds: FileKind::ALL.iter().copied().collect() }
    }
}

impl RenderOptions {
    /// The same with another private key file; `%i` stands for the interface.
    ///
    /// # Errors
    /// [`RenderError::Path`] if it is not absolute, has other characters than `A-Z a-z 0-9 . _ - /`, or lacks `%i`:
    /// each lane has a key of its own.
    pub fn with_key_file(self, path: &str) -> Result<Self, RenderError> {
        const WHAT: &str = "the key file";
        check(WHAT, path, &path.replace("%i", ""))?;
        if !path.contains("%i") {
            let problem = "needs '%i' for the interface: each lane has a key of its own";
            return Err(RenderError::Path { what: WHAT, path: path.to_owned(), problem });
        }
        Ok(Self { key_file: path.to_owned(), ..self })
    }

    /// The same with another place for the `keys` program.
    ///
    /// # Errors
    /// [`RenderError::Path`] if it is not absolute or has other characters than `A-Z a-z 0-9 . _ - /`.
    pub fn with_program(self, path: &str) -> Result<Self, RenderError> {
        check("the program", path, path)?;
        Ok(Self { program: path.to_owned(), ..self })
    }

    /// The same with files of these kinds alone.
    pub fn only(self, kinds: impl IntoIterator<Item = FileKind>) -> Self {
        Self { kinds: kinds.into_iter().collect(), ..self }
    }

    /// Whether files of that kind are wanted.
    pub fn wants(&self, kind: FileKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// The private key file, with `%i` for the interface.
    pub fn key_file(&self) -> &str {
        &self.key_file
    }

    /// The `keys` program.
    pub fn program(&self) -> &str {
        &self.program
    }
}

fn check(what: &'static str, path: &str, plain: &str) -> Result<(), RenderError> {
    let wrong = |problem| Err(RenderError::Path { what, path: text::shown(path).to_string(), problem });
    if !path.starts_with('/') || path.ends_with('/') {
        return wrong("is not the absolute path of a file");
    }
    if !plain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/')) {
        return wrong("has a character other than A-Z, a-z, 0-9, '.', '_', '-' and '/'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_a_shell_would_read_otherwise_are_refused() {
        for path in [
            "run/keys/%i.key",
            "/run/keys/",
            "/run/keys/one.key",
            "/run/%i key",
            "/run/%i;reboot",
            "/run/$(x)%i",
            "/run/%i'",
            "/run/%i\nPostUp = x",
            "/run/%n/%i",
            "",
        ] {
            assert!(RenderOptions::default().with_key_file(path).is_err(), "{path:?}");
        }
        for path in ["keys", "/opt/my keys", "/usr/bin/%i", "/"] {
            assert!(RenderOptions::default().with_program(path).is_err(), "{path:?}");
        }
        let options = RenderOptions::default().with_key_file("/etc/k/%i").and_then(|o| o.with_program("/opt/keys"));
        assert_eq!(options.as_ref().map(|o| (o.key_file(), o.program())), Ok(("/etc/k/%i", "/opt/keys")));
    }
}
