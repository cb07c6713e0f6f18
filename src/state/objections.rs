//! Objections: what keeps a statement from ever taking effect.
//!
//! One objection is enough, and there is no way to take it back: stopping is cheap, and whoever still wants the change
//! proposes it anew. Two things nobody can stop by this: a statement that takes the objectors themselves out, or a thief
//! would keep a stolen key in office, and another objection.

use std::collections::BTreeSet;

use super::fold::{Context, Objects, Replay, Stop};
use super::{State, Void};
use crate::digest::Digest;
use crate::name::{ActName, MemberName};
use crate::statement::{Act, Objection, Signed};

impl<O: Objects> Replay<O> {
    pub(super) fn object(&mut self, change: &Objection, context: &Context<'_>) -> Result<(), Stop> {
        let state = self.state_ref()?;
        let known = state.objected.get(&change.statement);
        let waits = state.locked.contains_key(&change.statement);
        if (!waits && state.done.has_id(&change.statement)) || known.is_some_and(|k| context.signers.is_subset(k)) {
            return Err(Void::Done.into());
        }
        self.quorum(ActName::Object, None, None, context)?;
        let state = self.state_mut()?;
        state.locked.remove(&change.statement);
        let objectors = state.objected.entry(change.statement).or_default();
        objectors.extend(context.signers.iter().cloned());
        Ok(())
    }
}

impl State {
    /// Whether nothing can come of this statement any more because it has taken effect or somebody objected to it.
    pub fn is_settled(&self, signed: &Signed) -> bool {
        self.done.has(&signed.id, signed.statement.expires) || self.objected.contains_key(&signed.id)
    }

    /// The objection that keeps the statement `id` from taking effect, if there is one that counts.
    pub(super) fn objection(&self, id: &Digest, act: &Act) -> Option<Void> {
        let leaving: BTreeSet<MemberName> = match act {
            Act::Object(_) => return None,
            Act::Retire(list) => list.iter().map(|c| c.member.clone()).collect(),
            Act::Emergency(list) => list.iter().map(|c| c.member.clone()).collect(),
            _ => BTreeSet::new(),
        };
        let objectors: Vec<String> = self.objected.get(id)?.difference(&leaving).map(ToString::to_string).collect();
        (!objectors.is_empty()).then(|| Void::Objected(objectors.join(", ")))
    }
}
