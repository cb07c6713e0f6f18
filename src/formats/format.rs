//! Which format a structured file has.

use super::leaf::{FormatError, Leaf};
use super::{env, ini, json, toml, yaml};
use crate::words::words;

words! {
    /// A format of structured files.
    Format, "a format":
    /// YAML 1.2, one document.
    Yaml = "yaml",
    /// JSON, RFC 8259.
    Json = "json",
    /// Variables, as `.env` files have them.
    Env = "env",
    /// TOML 1.1.
    Toml = "toml",
    /// INI: sections of names and values.
    Ini = "ini",
}

impl Format {
    /// The format that a file's name tells.
    pub fn of_name(name: &str) -> Option<Self> {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase())?;
        match ending.as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "env" => Some(Self::Env),
            "toml" => Some(Self::Toml),
            "ini" | "cfg" => Some(Self::Ini),
            _ => None,
        }
    }

    /// The values of a file of this format, in its order.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn scan(self, text: &str) -> Result<Vec<Leaf>, FormatError> {
        match self {
            Self::Yaml => yaml::scan(text),
            Self::Json => json::scan(text),
            Self::Env => env::scan(text),
            Self::Toml => toml::scan(text),
            Self::Ini => ini::scan(text),
        }
    }
}
