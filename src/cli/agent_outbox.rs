//! What an agent hands in at its mirrors: what its machine says of itself, and the changes that its members have signed and
//! that wait for others. It is tried once in each round; what was taken is not handed in again by this process.

use std::collections::BTreeSet;
use std::time::Duration;

use super::agent_cmd::Agent;
use super::agent_log::{Event, Level};
use super::exit::CliError;
use super::pull_cmd::remembered;
use crate::digest::Digest;
use crate::name::MemberName;
use crate::ops;
use crate::remote::{SubmitError, submit_within};

/// How long each mirror may take for each.
const PATIENCE: Duration = Duration::from_secs(15);

impl Agent<'_> {
    /// Hands in what waits. A directory is no place for it: whoever has it as a mirror reads and judges for himself.
    pub(super) fn hand_in(&mut self) -> Result<(), CliError> {
        let mut mirrors = remembered(&self.home)?;
        mirrors.addresses.retain(|m| m.contains("://"));
        let Some(fleet) = self.fleet.as_mut().filter(|_| !mirrors.addresses.is_empty()) else { return Ok(()) };
        let mut outgoing: Vec<(String, Vec<u8>)> = Vec::new();
        for (member, bytes) in &self.said {
            outgoing.push((format!("what {member} says of itself"), bytes.clone()));
        }
        let own: BTreeSet<MemberName> = self.home.members()?.into_iter().collect();
        for found in ops::outbox(fleet, Some(&own))? {
            let what = format!("proposal {}", found.id.short());
            outgoing.push((what.clone(), found.bytes.map_err(|e| CliError::failed(format!("{what}: {e}")))?));
        }
        self.handed.retain(|digest| outgoing.iter().any(|(_, bytes)| Digest::of(bytes) == *digest));
        for (what, bytes) in outgoing {
            let digest = Digest::of(&bytes);
            if self.handed.contains(&digest) {
                continue;
            }
            match submit_within(&mirrors, &bytes, 1, PATIENCE) {
                Ok(submitted) => {
                    self.handed.insert(digest);
                    self.log.is_over(Event::HandIn, &what);
                    self.log.say(
                        Level::Info,
                        Event::HandIn,
                        None,
                        &format!("{what}: handed in at {}", submitted.mirror),
                    );
                }
                // Another time it may be taken, when the mirror has caught up; the others are not kept back for it.
                Err(refused @ SubmitError::Refused { .. }) => {
                    self.log.complain_of_one(Event::HandIn, &what, &refused.to_string());
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}
