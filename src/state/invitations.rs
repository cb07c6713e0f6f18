//! Invitations: who may join by a token, as the log has it. Nothing here is secret, and no server keeps anything else.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::fold::{Context, Objects, Replay, Stop};
use super::{State, Void};
use crate::digest::Digest;
use crate::limits::{INVITATION_DAYS_MAX, OBJECT_BYTES_MAX};
use crate::name::{ActName, Kind, MemberName, Slot};
use crate::statement::{Invitations, Invite, Invited, TokenKey, Uninvite};
use crate::time::{Span, Time};

/// An invitation on record. A name has one at a time: a newer one takes the place of the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// The operators who signed it.
    pub approved: BTreeSet<MemberName>,
    /// When it was logged.
    pub at: Time,
    /// The statement that made it.
    pub by: Digest,
    /// What it says.
    pub invited: Invited,
    /// The signed line of the request by which somebody has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Digest>,
    /// When it was withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Time>,
}

impl Invitation {
    /// Whether somebody can still join by it at `at`, or will be able to.
    pub fn is_open(&self, at: Time) -> bool {
        self.used.is_none() && self.withdrawn.is_none() && at <= self.invited.not_after
    }
}

impl<O: Objects> Replay<O> {
    pub(super) fn invite(&mut self, change: &Invite, context: &Context<'_>) -> Result<(), Stop> {
        let digest = change.invitations;
        let bad = |problem: String| Stop::from(Void::Object { object: digest, problem });
        let bytes = self.objects().object(&digest)?;
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(bad(format!("it has {} bytes", bytes.len())));
        }
        let list = Invitations::parse(&bytes).map_err(|e| bad(e.to_string()))?;
        let state = self.state_ref()?;
        let mut tokens = BTreeSet::new();
        for invited in &list.invitations {
            state.check_invited(invited, context.time)?;
            if !tokens.insert(invited.token.material()) {
                return Err(Void::Invitation {
                    member: invited.member.clone(),
                    problem: "its token is another's, too".to_owned(),
                }
                .into());
            }
        }
        self.quorum(ActName::Invite, None, None, context)?;
        let state = self.state_mut()?;
        let is_operator = |who: &&MemberName| state.members.get(*who).is_some_and(|m| m.kind == Kind::Operator);
        let operators: BTreeSet<MemberName> = context.signers.iter().filter(is_operator).cloned().collect();
        for invited in list.invitations {
            let name = invited.member.clone();
            state.material.insert(invited.token.material(), name.clone());
            let (approved, at, by) = (operators.clone(), context.time, context.id);
            let invitation = Invitation { approved, at, by, invited, used: None, withdrawn: None };
            state.invitations.insert(name, invitation);
        }
        Ok(())
    }

    pub(super) fn uninvite(&mut self, change: &Uninvite, context: &Context<'_>) -> Result<(), Stop> {
        let name = &change.member;
        self.state_ref()?.open_invitation(name, &change.token)?;
        self.quorum(ActName::Uninvite, None, None, context)?;
        if let Some(invitation) = self.state_mut()?.invitations.get_mut(name) {
            invitation.withdrawn = Some(context.time);
        }
        Ok(())
    }
}

impl State {
    /// The invitation of `name` by this token, if nobody has joined by it and it was not withdrawn.
    fn open_invitation(&self, name: &MemberName, token: &TokenKey) -> Result<&Invitation, Void> {
        let bad = |problem: &str| Void::Invitation { member: name.clone(), problem: problem.to_owned() };
        let found = self.invitations.get(name).filter(|i| i.invited.token == *token);
        let found = found.ok_or_else(|| bad("there is none by this token, or a newer one has taken its place"))?;
        match (found.used, found.withdrawn) {
            (Some(_), _) => Err(bad("a machine has joined by it: 'keys revoke' takes a member out")),
            (None, Some(_)) => Err(bad("it was withdrawn already")),
            (None, None) => Ok(found),
        }
    }

    fn check_invited(&self, invited: &Invited, now: Time) -> Result<(), Void> {
        let name = &invited.member;
        let bad = |problem: String| Err(Void::Invitation { member: name.clone(), problem });
        if name.is_service() {
            return bad("a service joins with its PoP: name it as one of the PoP's services".to_owned());
        }
        if invited.not_before >= invited.not_after {
            return bad("it ends before it begins".to_owned());
        }
        if invited.not_after <= now {
            return bad(format!("it ended at {}", invited.not_after));
        }
        if invited.not_after > now.plus(Span::days(INVITATION_DAYS_MAX)) {
            return bad(format!(
                "it would be good until {}; {INVITATION_DAYS_MAX} days are the most",
                invited.not_after
            ));
        }
        match self.members.get(name) {
            Some(there) if there.kind != Kind::Pop => {
                return bad(format!("the name is, or was, that of an {}", there.kind));
            }
            Some(there) if there.is_active() => match &invited.replaces {
                Some(old) if *old == there.fingerprint.to_hex() => {}
                Some(_) => return bad("it replaces another machine than the one that has the name".to_owned()),
                None => return Err(Void::NameTaken(name.clone())),
            },
            _ if invited.replaces.is_some() => {
                return bad("it replaces a machine, and none has the name".to_owned());
            }
            _ => {
                self.free_index(name, &invited.facts, now)?;
            }
        }
        match self.material.get(&invited.token.material()) {
            Some(by) => Err(Void::KeyReused { member: name.clone(), slot: Slot::Sign, by: by.clone() }),
            None => Ok(()),
        }
    }
}
