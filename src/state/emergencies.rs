//! Emergencies: members that are stopped at once, wherever the statement comes, and logged later.
//!
//! An `emergency` is judged like every other entry, with two differences. It may have been signed under another version of
//! the policy: whoever is cut off does not know the newest, and stopping gives nobody anything. And it may wait for longer
//! than a proposal. A machine that the log does not reach judges it by the state that it has, and from then on puts it on
//! top of that state ([`Replay::set_applied`]), until the log has it. What is on top is seen by whoever asks for the state
//! of the present; it is no part of the state that entries are judged by, which is the log's alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::State;
use super::fold::{Context, Measure, Objects, Replay, Stop as Stopped};
use crate::digest::Digest;
use crate::limits::EMERGENCY_LIFETIME_DAYS_MAX;
use crate::name::{ActName, Kind, MemberName};
use crate::openpgp::StatementSignature;
use crate::statement::{Act, Entry, Signed, Statement, Stop, principal_member};
use crate::time::{Span, Time};

/// An emergency that is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmergencyLogged {
    /// When it was declared.
    pub declared: Time,
    /// The index of its entry.
    pub index: u64,
    /// When it came into the log.
    pub logged: Time,
}

impl EmergencyLogged {
    /// How long it took to come into the log.
    pub fn lag(&self) -> Span {
        self.logged.since(self.declared)
    }
}

/// An emergency that counts on one machine before the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedHere {
    /// The statement, which was judged when it was applied.
    pub signed: Signed,
    /// Since when.
    pub since: Time,
}

impl<O: Objects> Replay<O> {
    pub(super) fn stop(&mut self, change: &Stop, context: &Context<'_>) -> Result<(), Stopped> {
        let why = change.why.into();
        self.state_ref()?.leaving(&change.member, why)?;
        self.quorum(ActName::Emergency, None, None, context)?;
        self.state_mut()?.leave_with_services(&change.member, why, context);
        Ok(())
    }

    /// Puts emergencies on top of the state of the present. Those that the log has, or that somebody objected to in it, are
    /// passed over.
    pub fn set_applied(&mut self, applied: Vec<AppliedHere>) {
        self.applied = applied;
    }

    /// Those that count beyond what the log says.
    pub fn applied_here(&self) -> Vec<AppliedHere> {
        let Some(state) = self.state() else { return Vec::new() };
        let counts = |a: &&AppliedHere| {
            let Statement { act, log, .. } = &a.signed.statement;
            *log == state.log
                && !state.emergencies.contains_key(&a.signed.id)
                && state.objection(&a.signed.id, act).is_none()
        };
        self.applied.iter().filter(counts).cloned().collect()
    }

    /// Lets take effect here what was applied here. What of it has happened otherwise is passed over.
    pub(super) fn put_on_top(&mut self, applied: &[AppliedHere]) {
        let index = self.size();
        for AppliedHere { signed, since } in applied {
            let Act::Emergency(stops) = &signed.statement.act else { continue };
            let nobody = BTreeSet::new();
            let by = &signed.statement.by;
            let context = Context { id: signed.id, index, time: *since, by, signers: &nobody, lapsed: &nobody };
            let measure = std::mem::replace(&mut self.measure, Measure::Waived);
            for stop in stops {
                let _ = self.stop(stop, &context);
            }
            self.measure = measure;
        }
    }
}

impl State {
    /// How long a statement with this act may wait between its date and the log.
    pub fn may_wait(&self, act: &Act) -> Span {
        match act {
            Act::Emergency(_) => Span::days(EMERGENCY_LIFETIME_DAYS_MAX),
            _ => self.policy.policy.fleet.proposal_lifetime,
        }
    }

    /// When machines have applied an emergency, by the dates of their signatures beside it: those of members who decide
    /// nothing. They are claims, within what an entry's signatures may claim.
    pub fn applied_by(&self, entry: &Entry) -> BTreeMap<MemberName, Time> {
        let lines = entry.signatures.iter().filter_map(|line| {
            let name = principal_member(&self.fleet, &line.name)?;
            let decides = self.members.get(&name)?.kind == Kind::Operator;
            let made = StatementSignature::parse(&line.signature, &self.fleet, &self.log).ok()?.created();
            (!decides).then_some((name, made))
        });
        lines.collect()
    }

    /// Notes that an emergency is in the log.
    pub(super) fn note_emergency(&mut self, id: &Digest, statement: &Statement, index: u64, logged: Time) {
        if matches!(statement.act, Act::Emergency(_)) {
            self.emergencies.insert(*id, EmergencyLogged { declared: statement.at, index, logged });
        }
    }
}
