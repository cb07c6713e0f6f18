//! Reading TOML so that a mistake is shown where it stands: file, line, column and a caret.

use serde::de::DeserializeOwned;

use super::line::Lines;
use crate::limits::POLICY_BYTES_MAX;

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not TOML, or an unknown key, or a value of the wrong type. `detail` has line, column and a caret.
    #[error("{file}: {detail}")]
    Toml {
        /// The file, for example `policy/fleet.toml`.
        file: String,
        /// What the TOML reader says.
        detail: String,
    },
    /// Readable, but it cannot mean what it says.
    #[error("{file}: {place}: {problem}")]
    Meaning {
        /// The file, with the line if the place has one: `policy/wireguard.toml:12`.
        file: String,
        /// Which table or key.
        place: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A file that has to be there is not.
    #[error("{file} is missing")]
    Missing {
        /// The file.
        file: String,
    },
    /// Larger than a policy file may be.
    #[error("{file} has {bytes} bytes; at most {POLICY_BYTES_MAX} are allowed")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        bytes: usize,
    },
}

impl PolicyError {
    /// The same with the line of `text`, the file's content, on which the place stands.
    pub(super) fn in_text(self, text: &str) -> Self {
        match self {
            Self::Meaning { file, place, problem } => {
                let line = Lines::of(text).and_then(|lines| lines.line(&place));
                let file = line.map(|line| format!("{file}:{line}")).unwrap_or(file);
                Self::Meaning { file, place, problem }
            }
            other => other,
        }
    }
}

/// Reads `text`, the content of `file`, into `T`, which should refuse unknown fields.
///
/// # Errors
/// [`PolicyError::Toml`] with line, column and caret; [`PolicyError::TooLarge`].
pub fn toml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, PolicyError> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::TooLarge { file: file.to_owned(), bytes: text.len() });
    }
    toml::from_str(text).map_err(|e| PolicyError::Toml {
        file: file.to_owned(),
        // The reader quotes the offending line; what it quotes is somebody else's text.
        detail: e.to_string().lines().map(crate::text::escape).collect::<Vec<_>>().join("\n").trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code)]
        lifetime: crate::time::Span,
    }

    #[test]
    fn an_unknown_key_is_shown_with_line_and_caret() {
        let wrong =
            toml::<Sample>("policy/x.toml", "lifetime = \"3d\"\nlifetme = \"30d\"\n").map_err(|e| e.to_string());
        let message = wrong.expect_err("an unknown key");
        for part in [
            "policy/x.toml: TOML parse error at line 2, column 1",
            "2 | lifetme = \"30d\"",
            "^^^^^^^",
            "unknown field `lifetme`",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}
