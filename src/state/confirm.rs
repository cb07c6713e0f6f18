//! Newcomers show that they have their keys: they are given challenges when they join, and answer them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Void;
use super::fold::{Context, Objects, Replay, Stop};
use crate::digest::Digest;
use crate::name::{ActName, Kind, MemberName, Slot};
use crate::statement::{Challenges, Confirm, Enroll, RequestedMember};

/// The slots whose keys others agree on secrets with. Of the others a signature shows enough.
const CHALLENGED: [Slot; 2] = [Slot::Openpgp, Slot::Wireguard];

impl<O: Objects> Replay<O> {
    /// The challenges of a newcomer, if it was given any: one for each key that others agree on secrets with, and no others.
    pub(super) fn challenged(
        &mut self,
        change: &Enroll,
        requested: &RequestedMember,
        is_wanted: bool,
    ) -> Result<Option<Digest>, Stop> {
        let name = &change.member;
        let bad = |problem: &str| Stop::from(Void::Request { member: name.clone(), problem: problem.to_owned() });
        let Some(digest) = change.challenges else {
            return match is_wanted {
                true => Err(bad("its invitation wants it to answer challenges, and it is given none")),
                false => Ok(None),
            };
        };
        if !matches!(change.kind, Kind::Pop | Kind::Service) {
            return Err(bad("it is given challenges, which are for PoPs and services"));
        }
        let list = self.challenges(&digest)?;
        let given: BTreeSet<(Slot, &str)> = list.of(name).map(|c| (c.slot, c.key.as_str())).collect();
        let keys = requested.keys.iter().filter(|k| CHALLENGED.contains(&k.slot));
        let wanted: BTreeSet<(Slot, &str)> = keys.map(|k| (k.slot, k.key.as_str())).collect();
        if given != wanted {
            return Err(bad(
                "its challenges are not to each of its keys that others agree on secrets with, and to no other",
            ));
        }
        Ok(Some(digest))
    }

    fn challenges(&mut self, digest: &Digest) -> Result<Challenges, Stop> {
        let bytes = self.objects().object(digest)?;
        let bad = |problem: String| Stop::from(Void::Object { object: *digest, problem });
        Challenges::parse(&bytes).map_err(|e| bad(e.to_string()))
    }

    pub(super) fn confirm(&mut self, change: &Confirm, context: &Context<'_>) -> Result<(), Stop> {
        let name = &change.member;
        let bad = |problem| Stop::from(Void::Answers { member: name.clone(), problem });
        let digest = self.active_member(name)?.unconfirmed.ok_or_else(|| bad("nothing is asked of it"))?;
        let list = self.challenges(&digest)?;
        let asked: Vec<_> = list.of(name).collect();
        let is_right = asked.iter().zip(&change.answers).all(|(challenge, answer)| challenge.is_answered_by(answer));
        if asked.len() != change.answers.len() || !is_right {
            return Err(bad("they are not the answers to its challenges"));
        }
        self.quorum(ActName::Confirm, None, Some((name, false)), context)?;
        let member: &MemberName = name;
        let found = self
            .state_mut()?
            .members
            .get_mut(member)
            .map(Arc::make_mut)
            .ok_or_else(|| Void::NoMember(member.clone()))?;
        found.unconfirmed = None;
        Ok(())
    }
}
