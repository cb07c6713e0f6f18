//! What a statement would do if it had its quorum: folded on a copy, whoever has signed it so far.

use std::collections::BTreeSet;

use super::fold::{Context, Measure, Objects, Replay, ReplayError, Stop};
use super::{Effects, State, Void};
use crate::name::MemberName;
use crate::statement::Signed;
use crate::time::Time;

/// What a statement would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supposed {
    /// What it would change.
    pub effects: Effects,
    /// Changes that would have no effect, by number from 0, with the reason.
    pub void: Vec<(usize, Void)>,
}

impl<O: Objects> Replay<O> {
    /// What `signed` would do if its quorum were met at `now`. Signatures are not looked at, nor whether it has expired or
    /// was made under another policy. `None` before the founding.
    ///
    /// # Errors
    /// As [`Replay::apply`]: if an attachment is missing nothing can be said.
    pub fn suppose(&mut self, signed: &Signed, now: Time) -> Result<Option<Supposed>, ReplayError> {
        self.at(now, |replay| replay.suppose_now(signed, now))
    }

    fn suppose_now(&mut self, signed: &Signed, now: Time) -> Result<Option<Supposed>, ReplayError> {
        let Some(before) = self.state().cloned() else { return Ok(None) };
        let time = before.time.max(now);
        let everybody: BTreeSet<MemberName> =
            before.members.iter().filter(|(_, m)| m.is_active()).map(|(n, _)| n.clone()).collect();
        let (statement, nobody, index) = (&signed.statement, BTreeSet::new(), self.size());
        let context = Context { id: signed.id, index, time, by: &statement.by, signers: &everybody, lapsed: &nobody };
        self.measure = Measure::Waived;
        let outcome = self.act(&statement.act, &context);
        self.measure = Measure::InForce;
        let after = self.state.replace(before);
        let (Some(before), Some(after)) = (self.state(), after) else { return Ok(None) };
        match outcome {
            Ok(outcomes) => Ok(Some(Supposed {
                effects: Effects::between(before, &after, time),
                void: outcomes.into_iter().enumerate().filter_map(|(i, o)| o.map(|v| (i, v))).collect(),
            })),
            Err(Stop::Void(void)) => Ok(Some(Supposed { effects: Effects::default(), void: vec![(0, void)] })),
            Err(Stop::Object(source)) => Err(ReplayError::Object { index, source }),
            Err(Stop::Openpgp(source)) => Err(ReplayError::Openpgp { index, source }),
        }
    }
}

impl State {
    /// The state as it would be under another policy.
    pub fn under(&self, policy: crate::policy::Policy) -> Self {
        let mut after = self.clone();
        after.policy.policy = std::sync::Arc::new(policy);
        after.policy.version = after.policy.version.saturating_add(1);
        after
    }
}
