//! What the agent of this machine remembers, in the home's file `agent`.
//!
//! ```text
//! {"floor":"2026-11-22T07:00:00Z","generations":{"nginx":8}}
//! ```
//! The clock's floor is the newest time that was verified here: a machine that starts with a clock of years ago goes by that.
//! Numbers of generations only grow, though the services' directories are gone with each start of the machine. Losing the
//! file loses that and nothing else, so one that cannot be read is begun anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Home, HomeError};
use crate::json;
use crate::limits::KEY_FILE_BYTES_MAX;
use crate::name::Label;
use crate::time::Time;

const FILE: &str = "agent";

/// What the agent remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentMemory {
    /// The newest time that was verified.
    pub floor: Time,
    /// The newest generation of each directory.
    pub generations: BTreeMap<Label, u64>,
}

impl Home {
    /// What the agent remembers.
    ///
    /// # Errors
    /// [`HomeError`], if the disk does not answer.
    pub fn agent_memory(&self) -> Result<AgentMemory, HomeError> {
        let bytes = self.disk().read(FILE, KEY_FILE_BYTES_MAX)?;
        Ok(bytes.and_then(|b| json::parse_as(b.trim_ascii_end()).ok()).unwrap_or_default())
    }

    /// Keeps it.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_agent_memory(&self, memory: &AgentMemory) -> Result<(), HomeError> {
        if self.agent_memory()? == *memory {
            return Ok(());
        }
        Ok(self.disk().replace(FILE, format!("{}\n", json::to_canonical(memory)).as_bytes())?)
    }
}
