//! What the log knows of backups: whose private halves lie in one, and how the last restore drills went.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::fold::{Context, Objects, Replay, Stop};
use super::{State, Void};
use crate::limits::CUSTODIANS_MAX;
use crate::name::{ActName, Kind, MemberName};
use crate::statement::{BackupMade, Outcome, RestoreDrill};
use crate::time::Time;

/// A backup with private halves of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// When it was logged.
    pub at: Time,
    /// Who holds shares.
    pub custodians: BTreeSet<String>,
    /// How many of them open it.
    pub need: u64,
}

/// The restore drills that count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drills {
    /// The newest that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Drill>,
    /// The newest of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Drill>,
}

/// A restore drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// When it was logged.
    pub at: Time,
    /// Who tried.
    pub by: MemberName,
    /// What came of it.
    pub report: RestoreDrill,
}

impl Drills {
    /// Whether there was none yet.
    pub fn is_empty(&self) -> bool {
        self.newest.is_none()
    }
}

impl<O: Objects> Replay<O> {
    pub(super) fn backup_made(&mut self, change: &BackupMade, context: &Context<'_>) -> Result<(), Stop> {
        let name = &change.member;
        let bad = |problem| Void::BackedUp { member: name.clone(), problem };
        let kind = self.active_member(name)?.kind;
        if !matches!(kind, Kind::Operator | Kind::Authority) {
            return Err(bad("the keys of machines are made anew, not restored").into());
        }
        check_custody(&change.custodians, change.need).map_err(bad)?;
        self.quorum(ActName::Backup, None, Some((name, false)), context)?;
        let backups = self.state_mut()?.backups.entry(name.clone()).or_default();
        let custodians = change.custodians.clone();
        backups.insert(change.backup, Held { at: context.time, custodians, need: change.need });
        Ok(())
    }

    pub(super) fn restore_drill(&mut self, change: &RestoreDrill, context: &Context<'_>) -> Result<(), Stop> {
        if change.size > context.index {
            return Err(Void::Drill { size: change.size, there: context.index }.into());
        }
        self.quorum(ActName::Drill, None, None, context)?;
        let drill = Drill { at: context.time, by: context.by.clone(), report: change.clone() };
        let drills = &mut self.state_mut()?.drills;
        if change.outcome == Outcome::Good {
            drills.good = Some(drill.clone());
        }
        drills.newest = Some(drill);
        Ok(())
    }
}

fn check_custody(custodians: &BTreeSet<String>, need: u64) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '@');
    let is_name = |name: &String| (1..=90).contains(&name.len()) && name.chars().all(plain);
    if custodians.len() > CUSTODIANS_MAX || !custodians.iter().all(is_name) {
        return Err("its custodians are too many, or have names that are none");
    }
    if need < 2 || need > custodians.len() as u64 {
        return Err("it needs a number of custodians that there cannot be");
    }
    Ok(())
}

impl State {
    /// Since when a restore drill is due, if the policy wants any: so long after the last good one, or after the first
    /// member joined.
    pub fn drill_due(&self) -> Option<Time> {
        let every = self.policy.policy.fleet.restore_drills?;
        let founded = self.members.values().map(|m| m.enrolled).min().unwrap_or(self.time);
        Some(self.drills.good.as_ref().map_or(founded, |d| d.at).plus(every))
    }
}
