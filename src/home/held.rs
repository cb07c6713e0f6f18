//! Emergencies that were applied on this machine and that the log does not have yet: `emergencies/<id>` in the home.
//!
//! ```text
//! {"applied":"2026-11-22T07:00:00Z","entry":"{\"act\":\"emergency\",…","handed":"2026-11-23T09:00:00Z"}
//! ```
//! One line of canonical JSON: since when it counts here, the entry that is handed in, and when that was first done. A file
//! that is damaged is an error for whoever asks what counts here, never a reason to go on without it.

use serde::{Deserialize, Serialize};

use super::{Home, HomeError};
use crate::digest::Digest;
use crate::json;
use crate::limits::{EMERGENCIES_HELD_MAX, EMERGENCY_LATE_HOURS, KEY_FILE_BYTES_MAX};
use crate::statement::Entry;
use crate::time::{Span, Time};

/// Where they lie.
const DIRECTORY: &str = "emergencies";

/// An emergency that counts on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldEmergency {
    /// Since when.
    pub applied: Time,
    /// The statement with its signatures, as it is handed in.
    pub entry: Entry,
    /// When it was first handed in.
    pub handed: Option<Time>,
}

/// The same, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    applied: Time,
    entry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handed: Option<Time>,
}

impl HeldEmergency {
    /// Whether it has waited too long for its place in the log since it was handed in.
    pub fn is_late(&self, now: Time) -> bool {
        self.handed.is_some_and(|handed| handed.plus(Span::hours(EMERGENCY_LATE_HOURS)) < now)
    }

    fn parse(bytes: &[u8], id: &Digest) -> Result<Self, String> {
        let line: Line = json::parse_as(bytes.trim_ascii_end()).map_err(|e| e.to_string())?;
        let entry = Entry::parse(line.entry.as_bytes()).map_err(|e| e.to_string())?;
        if entry.signed.id != *id {
            return Err(format!("it holds the statement {}", entry.signed.id.short()));
        }
        Ok(Self { applied: line.applied, entry, handed: line.handed })
    }
}

impl Home {
    /// The emergencies that count here, in the order in which they were applied.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn emergencies(&self) -> Result<Vec<HeldEmergency>, HomeError> {
        let mut all = Vec::new();
        for (name, _) in self.disk.list(DIRECTORY)? {
            let Some(id) = Digest::parse(&name) else { continue };
            let path = format!("{DIRECTORY}/{id}");
            let Some(bytes) = self.disk.read(&path, KEY_FILE_BYTES_MAX)? else { continue };
            let held = HeldEmergency::parse(&bytes, &id).map_err(|problem| {
                Self::damaged(&path, format!("{problem}; remove it, and apply the emergency's file again"))
            })?;
            all.push(held);
        }
        all.sort_by_key(|held| (held.applied, held.entry.signed.id));
        Ok(all)
    }

    /// Keeps an emergency, or what is known of it by now. From here on it counts on this machine.
    ///
    /// # Errors
    /// [`HomeError`], also if there are too many.
    pub fn hold_emergency(&self, held: &HeldEmergency) -> Result<(), HomeError> {
        let path = format!("{DIRECTORY}/{}", held.entry.signed.id);
        let there = self.emergencies()?;
        if there.len() >= EMERGENCIES_HELD_MAX && there.iter().all(|h| h.entry.signed.id != held.entry.signed.id) {
            return Err(Self::damaged(
                DIRECTORY,
                format!("{} wait for the log already; 'keys sync' hands them in", there.len()),
            ));
        }
        let bytes = held.entry.to_bytes().map_err(|e| Self::damaged(&path, e))?;
        let entry = String::from_utf8(bytes).map_err(|e| Self::damaged(&path, e))?;
        let line = Line { applied: held.applied, entry, handed: held.handed };
        Ok(self.disk.replace(&path, format!("{}\n", json::to_canonical(&line)).as_bytes())?)
    }

    /// Forgets an emergency: the log says what it said.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn forget_emergency(&self, id: &Digest) -> Result<(), HomeError> {
        self.disk.remove(&format!("{DIRECTORY}/{id}"))?;
        self.disk.prune(DIRECTORY);
        Ok(())
    }
}
