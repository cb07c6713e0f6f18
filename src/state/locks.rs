//! Time locks: changes that reach far wait in the log, where everybody can see them, before they take effect.
//!
//! A locked statement is judged when its entry comes: it has its quorum then, or is void. It is put on a list and takes
//! effect with the first entry that is dated at or after its time, before that entry is judged; an objection that is
//! logged earlier takes it off the list. When its time has come it is judged again, by the policy under which it was
//! logged and the state of now, without the signers who have turned out to be robbed or lost since.
//!
//! What an entry claims about the time counts only if the entry has an effect: if it is void, nothing was unlocked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fold::{Context, Measure, Objects, Replay, Stop};
use super::policy::read_policy;
use super::{State, Void};
use crate::digest::Digest;
use crate::log::note::SignatureLine;
use crate::name::{Kind, MemberName};
use crate::statement::{Act, Signed, Statement};
use crate::time::{Span, Time};

/// A statement that has its quorum and waits for its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// The statement, as it was signed.
    pub body: String,
    /// When it takes effect, unless somebody objects.
    pub due: Time,
    /// The index of its entry.
    pub index: u64,
    /// The fleet's time when it was logged.
    pub logged: Time,
    /// The files of the policy under which it was logged.
    pub policy: BTreeMap<String, Digest>,
    /// Who signed it.
    pub signers: BTreeSet<MemberName>,
}

/// What became of a locked statement when its time had come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlocked {
    /// The statement's id.
    pub id: Digest,
    /// What it was.
    pub locked: Locked,
    /// Why it has no effect, or not all of it: by number of the change.
    pub void: Vec<(usize, Void)>,
}

impl Locked {
    /// The statement.
    pub fn statement(&self) -> Option<Statement> {
        Statement::parse(self.body.as_bytes()).ok()
    }
}

impl<O: Objects> Replay<O> {
    /// How long an act waits by the policy in force; nothing if it takes effect at once.
    pub(super) fn lock(&self, act: &Act) -> Option<Span> {
        let locks = &self.state()?.policy.policy.fleet.time_locks;
        let span = match act {
            Act::PolicyUpdate(_) => locks.policy_update,
            Act::Enroll(list) if list.iter().any(|c| matches!(c.kind, Kind::Operator | Kind::Authority)) => {
                locks.member_enroll
            }
            // A key that is stolen or lost is replaced at once: without it nothing could be logged meanwhile.
            Act::Rekey(change) if !change.why.burns() => locks.log_rekey,
            _ => Span::default(),
        };
        (span > Span::default()).then_some(span)
    }

    /// Judges a statement that will wait: as if it took effect now. If all of it would, it is put on the list.
    pub(super) fn lock_up(
        &mut self,
        signed: &Signed,
        span: Span,
        context: &Context<'_>,
    ) -> Result<Vec<Option<Void>>, Stop> {
        let before = self.state_ref()?.clone();
        let outcomes = self.act(&signed.statement.act, context);
        self.state = Some(before);
        let outcomes = outcomes?;
        if outcomes.iter().all(Option::is_none) {
            let state = self.state_mut()?;
            let locked = Locked {
                body: String::from_utf8_lossy(&signed.body).into_owned(),
                due: context.time.plus(span),
                index: context.index,
                logged: context.time,
                policy: state.policy.files.clone(),
                signers: context.signers.clone(),
            };
            state.locked.insert(context.id, locked);
            return Ok(outcomes);
        }
        // A statement waits as a whole or not at all.
        let whole = |o: Option<Void>| o.or(Some(Void::Together));
        Ok(outcomes.into_iter().map(whole).collect())
    }

    /// Lets take effect what is due by the time that an entry claims. Whoever calls this undoes it if the entry is void.
    pub(super) fn unlock_for(&mut self, signed: &Signed, lines: &[SignatureLine]) -> Result<(), Stop> {
        let statement = &signed.statement;
        let index = self.size();
        self.unlock(self.state_ref()?.time.max(statement.at), index)?;
        loop {
            // With what has just taken effect other signatures may count, and claim a later time.
            let claimed = self.count(signed, lines)?.time;
            if !self.unlock(self.state_ref()?.time.max(claimed), index)? {
                return Ok(());
            }
        }
    }

    /// Lets take effect what is due at `time`, in the order in which it became due.
    fn unlock(&mut self, time: Time, index: u64) -> Result<bool, Stop> {
        let mut any = false;
        loop {
            let state = self.state_ref()?;
            let due = state.locked.iter().filter(|(_, l)| l.due <= time).min_by_key(|(_, l)| (l.due, l.index));
            let Some((id, locked)) = due.map(|(id, l)| (*id, l.clone())) else { return Ok(any) };
            any = true;
            self.state_mut()?.locked.remove(&id);
            let void = match self.carry_out(id, &locked, index) {
                Ok(outcomes) => outcomes.into_iter().enumerate().filter_map(|(i, o)| o.map(|v| (i, v))).collect(),
                Err(Stop::Void(void)) => vec![(0, void)],
                Err(stop) => return Err(stop),
            };
            self.unlocked.push(Unlocked { id, locked, void });
        }
    }

    fn carry_out(&mut self, id: Digest, locked: &Locked, index: u64) -> Result<Vec<Option<Void>>, Stop> {
        let signed = Signed::parse(locked.body.as_bytes()).map_err(|e| Void::Unreadable(e.to_string()))?;
        let policy = read_policy(&locked.policy, self.objects())?;
        let state = self.state_ref()?;
        let signers: BTreeSet<MemberName> =
            locked.signers.iter().filter(|s| state.has_stayed_honest(s, locked.logged)).cloned().collect();
        let nobody = BTreeSet::new();
        let by = &signed.statement.by;
        let context = Context { id, index, time: locked.due, by, signers: &signers, lapsed: &nobody };
        self.measure = Measure::Of(Arc::new(policy));
        let outcomes = self.act(&signed.statement.act, &context);
        self.measure = Measure::InForce;
        outcomes
    }

    /// Runs `work` on the state as it is at `now`: what is locked and due by then has taken effect, as it will have for the
    /// next entry that is made, and so has what was applied on this machine.
    pub fn at<T>(&mut self, now: Time, work: impl FnOnce(&mut Self) -> T) -> T {
        let applied = self.applied_here();
        if !self.is_behind(now) && applied.is_empty() {
            return work(self);
        }
        let (before, index) = (self.state.clone(), self.size());
        if self.unlock(now, index).is_err() {
            // Something that it needs cannot be had: the next entry will say what.
            self.state.clone_from(&before);
        }
        self.put_on_top(&applied);
        let result = work(self);
        self.state = before;
        self.unlocked.clear();
        result
    }

    /// The state as it is at `now`; `None` where that is what the newest entry left.
    pub fn state_at(&mut self, now: Time) -> Option<State> {
        if self.is_behind(now) || !self.applied_here().is_empty() {
            self.at(now, |replay| replay.state.clone())
        } else {
            None
        }
    }

    fn is_behind(&self, now: Time) -> bool {
        self.state().is_some_and(|s| s.locked.values().any(|l| l.due <= now))
    }
}

impl State {
    /// Whether a signature that `name` made before `since` is still worth what it was: it may have left in order, but not
    /// as robbed or lost, nor may somebody else have come under its name.
    fn has_stayed_honest(&self, name: &MemberName, since: Time) -> bool {
        self.members.get(name).is_some_and(|m| m.enrolled <= since && m.retired.is_none_or(|(_, why)| !why.burns()))
    }
}
