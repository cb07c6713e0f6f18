//! How two states differ, for whoever has to agree to the step between them: who gains and who loses, which secrets and
//! which machines, which rules get weaker. Computed from the states alone; nothing a proposer says is in it.

mod between;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::KeyState;
use crate::name::{ActName, Address, Kind, MemberName, Slot};
use crate::policy::Case;
use crate::statement::{Invited, RetireReason};

/// What differs between two states.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Effects {
    /// Who joins.
    pub joins: BTreeMap<MemberName, Kind>,
    /// Who leaves, and why.
    pub leaves: BTreeMap<MemberName, RetireReason>,
    /// Keys that come, go or change their state.
    pub keys: Vec<KeyEffect>,
    /// Whose certificate gets another version.
    pub certificates: BTreeSet<MemberName>,
    /// Secrets whose readers, value or existence change.
    pub secrets: BTreeMap<Address, SecretEffect>,
    /// Who gets, loses or moves to another address in the mesh.
    pub mesh: BTreeMap<MemberName, MeshEffect>,
    /// Peers of the mesh without an agent, with their keys and whom they talk to.
    pub externals: Sides<String>,
    /// Pairs of PoPs that are in the mesh and become peers by another topology.
    pub pairs_joined: u64,
    /// Those that cease to be.
    pub pairs_parted: u64,
    /// SSH.
    pub ssh: SshEffects,
    /// Who comes into root, and who drops out of it.
    pub root: Sides<MemberName>,
    /// Quorum rules that change.
    pub rules: Vec<RuleEffect>,
    /// What a single person or authority can do alone, and what no longer.
    pub alone: BTreeMap<MemberName, AloneEffect>,
    /// Single values of the policy that decide how much is asked.
    pub settings: Vec<SettingEffect>,
    /// Keys that are asked to cosign the log's head, with what they say by that.
    pub cosigners: Sides<String>,
    /// Statements that can never take effect any more.
    pub stopped: BTreeSet<String>,
    /// Who may join by a token only afterwards, and as what: the invitation and the members that come by it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invited: BTreeMap<MemberName, InvitedEffect>,
    /// Whose invitation is good no more, though nobody has joined by it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub uninvited: BTreeSet<MemberName>,
}

/// An invitation that is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvitedEffect {
    /// What it says.
    pub invited: Invited,
    /// Whether an older one of the same name, by which nobody has joined, is good no more.
    pub supersedes: bool,
}

/// What comes and what goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sides<T: Ord> {
    /// What is there only afterwards.
    pub gains: BTreeSet<T>,
    /// What was there only before.
    pub loses: BTreeSet<T>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyEffect {
    /// Whose.
    pub member: MemberName,
    /// The slot.
    pub slot: Slot,
    /// The public half.
    pub key: String,
    /// Its state before; none if it was unknown.
    pub before: Option<KeyState>,
    /// Its state after.
    pub after: Option<KeyState>,
}

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SecretEffect {
    /// To whom the file is sealed, and to whom no longer.
    pub readers: Sides<MemberName>,
    /// Who becomes, or is no longer, a reader by policy and membership: what the next reseal does.
    pub next_reseal: Sides<MemberName>,
    /// The version of a value that is new.
    pub version: Option<u64>,
    /// Whether it is removed.
    pub removed: bool,
    /// Whose leaving makes its value one that has to be replaced.
    pub burned: Option<MemberName>,
    /// Whether nobody may read it any more.
    pub orphaned: bool,
}

/// A PoP's address in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MeshEffect {
    /// Its addresses before.
    pub before: Option<String>,
    /// Its addresses after.
    pub after: Option<String>,
    /// How many other PoPs have it as peer, before or after.
    pub peers: usize,
}

/// What changes about SSH.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SshEffects {
    /// CA keys that nodes trust for users.
    pub user_ca: Sides<String>,
    /// CA keys that clients trust for hosts.
    pub host_ca: Sides<String>,
    /// Principals that the policy gives to a member.
    pub principals: BTreeMap<MemberName, Sides<String>>,
    /// `LOGIN: TEMPLATE`: which principals a login name accepts.
    pub accounts: Sides<String>,
    /// SSH certificates that are decided.
    pub certified: Vec<CertifiedEffect>,
    /// Serials that are revoked.
    pub revoked: BTreeSet<u64>,
}

/// An SSH certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertifiedEffect {
    /// For whom.
    pub member: MemberName,
    /// As what.
    pub principals: BTreeSet<String>,
    /// Until when.
    pub until: crate::time::Time,
}

/// A quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleEffect {
    /// The act.
    pub act: ActName,
    /// The case, where the act has some.
    pub case: Option<Case>,
    /// The alternatives before, in words.
    pub before: Vec<String>,
    /// The alternatives after.
    pub after: Vec<String>,
    /// Whether something is enough afterwards that was not before.
    pub weaker: bool,
}

/// What one signature is enough for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AloneEffect {
    /// Acts (with their case) that it can do alone only afterwards.
    pub gains: BTreeSet<String>,
    /// Acts that it could do alone only before.
    pub loses: BTreeSet<String>,
}

/// A value of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingEffect {
    /// Table and key.
    pub name: String,
    /// The value before.
    pub before: String,
    /// The value after.
    pub after: String,
    /// Whether less is asked afterwards.
    pub weaker: bool,
}

impl<T: Ord> Default for Sides<T> {
    fn default() -> Self {
        Self { gains: BTreeSet::new(), loses: BTreeSet::new() }
    }
}

impl<T: Ord + Clone> Sides<T> {
    /// What two sets do not share.
    pub fn between(before: &BTreeSet<T>, after: &BTreeSet<T>) -> Self {
        Self { gains: after.difference(before).cloned().collect(), loses: before.difference(after).cloned().collect() }
    }

    /// Whether both were the same.
    pub fn is_empty(&self) -> bool {
        self.gains.is_empty() && self.loses.is_empty()
    }
}

impl Effects {
    /// Whether nothing differs that anybody would have to know.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many rules and settings ask for less afterwards.
    pub fn weaker_count(&self) -> usize {
        self.rules.iter().filter(|r| r.weaker).count() + self.settings.iter().filter(|s| s.weaker).count()
    }

    /// Everybody who can read something more, now or after the next reseal, with what that is.
    pub fn readers_gained(&self) -> BTreeMap<&MemberName, BTreeSet<&Address>> {
        self.by_reader(|s| [&s.readers.gains, &s.next_reseal.gains])
    }

    /// Everybody who can read something less, now or after the next reseal.
    pub fn readers_lost(&self) -> BTreeMap<&MemberName, BTreeSet<&Address>> {
        self.by_reader(|s| [&s.readers.loses, &s.next_reseal.loses])
    }

    fn by_reader<'a>(
        &'a self,
        sides: impl Fn(&'a SecretEffect) -> [&'a BTreeSet<MemberName>; 2],
    ) -> BTreeMap<&'a MemberName, BTreeSet<&'a Address>> {
        let mut all: BTreeMap<&MemberName, BTreeSet<&Address>> = BTreeMap::new();
        for (address, secret) in &self.secrets {
            for reader in sides(secret).into_iter().flatten() {
                all.entry(reader).or_default().insert(address);
            }
        }
        all
    }
}
