//! The addresses from which this machine brings its keyring up to date: `mirrors` in the home, one a line, the first first;
//! `mirrors-ca`, the certificates of the only CAs that may vouch for their names, where the public ones are not to;
//! and `mirrors-own`, empty, where only the sealed files are brought that the members of this home can read.

use super::{Home, HomeError};
use crate::limits::{KEY_FILE_BYTES_MAX, MIRRORS_MAX, TLS_FILE_BYTES_MAX, URL_BYTES_MAX};

const CA: &str = "mirrors-ca";
const OWN: &str = "mirrors-own";

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

    /// The CAs that alone vouch for the mirrors' names, as PEM; none: the public ones.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn mirrors_ca(&self) -> Result<Option<Vec<u8>>, HomeError> {
        Ok(self.disk.read(CA, TLS_FILE_BYTES_MAX)?)
    }

    /// Whether this machine brings only those sealed files that its members can read.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn brings_own(&self) -> Result<bool, HomeError> {
        Ok(self.disk.read(OWN, KEY_FILE_BYTES_MAX)?.is_some())
    }

    /// Remembers whether it does.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_brings_own(&self, own: bool) -> Result<(), HomeError> {
        match (own, self.brings_own()?) {
            (true, false) => self.disk.replace(OWN, b"")?,
            (false, true) => drop(self.disk.remove(OWN)?),
            _ => {}
        }
        Ok(())
    }

    /// Remembers mirrors, and the CAs that alone vouch for their names, in the place of those before. Interrupted in between it
    /// leaves CAs that do not vouch for the mirrors, never mirrors that others vouch for.
    ///
    /// # Errors
    /// [`HomeError`], also for what cannot stand on a line of its own.
    pub fn set_mirrors(&self, mirrors: &[String], ca: Option<&str>) -> Result<(), HomeError> {
        let is_line = |m: &String| !m.is_empty() && m.len() <= URL_BYTES_MAX && !m.contains(|c: char| c.is_control());
        if mirrors.len() > MIRRORS_MAX || !mirrors.iter().all(is_line) {
            let problem = format!("it takes up to {MIRRORS_MAX} addresses of up to {URL_BYTES_MAX} bytes, one a line");
            return Err(Self::damaged("mirrors", problem));
        }
        if let Some(ca) = ca
            && self.disk.read(CA, TLS_FILE_BYTES_MAX)?.as_deref() != Some(ca.as_bytes())
        {
            self.disk.replace(CA, ca.as_bytes())?;
        }
        let text: String = mirrors.iter().map(|mirror| format!("{mirror}\n")).collect();
        if self.disk.read("mirrors", KEY_FILE_BYTES_MAX)?.as_deref() != Some(text.as_bytes()) {
            self.disk.replace("mirrors", text.as_bytes())?;
        }
        if ca.is_none() {
            self.disk.remove(CA)?;
        }
        Ok(())
    }
}
