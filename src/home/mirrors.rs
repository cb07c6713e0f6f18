//! The addresses from which this machine brings its keyring up to date: `mirrors` in the home, one a line, the first first.

use super::{Home, HomeError};
use crate::limits::{KEY_FILE_BYTES_MAX, MIRRORS_MAX, URL_BYTES_MAX};

impl Home {
    /// The mirrors that are remembered, in the order in which they are asked.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn mirrors(&self) -> Result<Vec<String>, HomeError> {
        let Some(bytes) = self.disk.read("mirrors", KEY_FILE_BYTES_MAX)? else { return Ok(Vec::new()) };
        let text = String::from_utf8(bytes).map_err(|e| Self::damaged("mirrors", e))?;
        let mirrors: Vec<String> = text.lines().map(str::to_owned).collect();
        match mirrors.iter().find(|m| m.is_empty() || m.len() > URL_BYTES_MAX) {
            Some(_) => Err(Self::damaged("mirrors", "a line of it is no address")),
            None if mirrors.len() > MIRRORS_MAX => Err(Self::damaged("mirrors", "it has too many lines")),
            None => Ok(mirrors),
        }
    }

    /// Remembers mirrors, in the place of those before.
    ///
    /// # Errors
    /// [`HomeError`], also for what cannot stand on a line of its own.
    pub fn set_mirrors(&self, mirrors: &[String]) -> Result<(), HomeError> {
        let is_line = |m: &String| !m.is_empty() && m.len() <= URL_BYTES_MAX && !m.contains(|c: char| c.is_control());
        if mirrors.len() > MIRRORS_MAX || !mirrors.iter().all(is_line) {
            let problem = format!("it takes up to {MIRRORS_MAX} addresses of up to {URL_BYTES_MAX} bytes, one a line");
            return Err(Self::damaged("mirrors", problem));
        }
        let text: String = mirrors.iter().map(|mirror| format!("{mirror}\n")).collect();
        if self.disk.read("mirrors", KEY_FILE_BYTES_MAX)?.as_deref() != Some(text.as_bytes()) {
            self.disk.replace("mirrors", text.as_bytes())?;
        }
        Ok(())
    }
}
