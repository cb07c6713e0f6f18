//! Object stores that were tried from here, and kept their word: a line for each, its name.

use super::{Home, HomeError};
use crate::limits::KEY_FILE_BYTES_MAX;

/// The file.
const STORES: &str = "stores";

impl Home {
    /// Whether this store was tried from here. A file that cannot be read says that it was not.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn has_probed(&self, store: &str) -> Result<bool, HomeError> {
        Ok(self.probed()?.lines().any(|line| line == store))
    }

    /// Remembers whether a store kept its word.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_probed(&self, store: &str, held: bool) -> Result<(), HomeError> {
        let before = self.probed()?;
        let mut lines: Vec<&str> = before.lines().filter(|line| *line != store).collect();
        if held {
            lines.push(store);
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if text != before {
            self.disk.replace(STORES, text.as_bytes())?;
        }
        Ok(())
    }

    fn probed(&self) -> Result<String, HomeError> {
        let bytes = self.disk.read(STORES, KEY_FILE_BYTES_MAX)?.unwrap_or_default();
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }
}
