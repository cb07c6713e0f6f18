//! Rows of the report on what there is: members, keys, cryptoperiods, secrets, SSH certificates, the web of trust, the mesh.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::name::{Address, Kind, Label, MemberName, Slot};
use crate::state::KeyState;
use crate::statement::RetireReason;
use crate::time::Time;
use crate::words::words;

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberRow {
    /// Its name.
    pub member: MemberName,
    /// What it is.
    pub kind: Kind,
    /// When it joined.
    pub enrolled: Time,
    /// When it left, and why.
    pub left: Option<(Time, RetireReason)>,
    /// Whether the policy counts it as root.
    pub root: bool,
    /// Its certificate's fingerprint.
    pub fingerprint: String,
    /// When its certificate expires.
    pub expires: Option<Time>,
}

/// A key's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    /// Whose.
    pub member: MemberName,
    /// What its owner is.
    pub kind: Kind,
    /// For what.
    pub slot: Slot,
    /// The public half.
    pub key: String,
    /// Its algorithm; none if no certificate at hand has the key any more.
    pub algorithm: Option<String>,
    /// Its strength in bits, as SP 800-57 part 1, table 2, counts it.
    pub strength: Option<u16>,
    /// The WireGuard lane.
    pub lane: Option<String>,
    /// Where it stands at the end of the period.
    pub state: KeyState,
    /// When its public half was published.
    pub published: Time,
    /// When it became active.
    pub activated: Option<Time>,
    /// When it stopped being used for anything new.
    pub deactivated: Option<Time>,
    /// When it was called compromised.
    pub compromised: Option<Time>,
    /// When it was declared destroyed.
    pub destroyed: Option<Time>,
    /// When its cryptoperiod was, or will be, over; for keys that were active.
    pub due: Option<Time>,
}

impl KeyRow {
    /// When it stopped being active, if it did.
    pub fn ended(&self) -> Option<Time> {
        [self.deactivated, self.compromised, self.destroyed].into_iter().flatten().min()
    }
}

words! {
    /// How a cryptoperiod went.
    Timeliness, "a timeliness":
    /// It runs.
    Running = "running",
    /// It is over, and the time of grace is not.
    Due = "due",
    /// It is over, and so is the time of grace; the key is still active.
    Overdue = "overdue",
    /// The key was replaced before it was due.
    Early = "early",
    /// It was replaced when it was due, or within the time of grace.
    InTime = "in time",
    /// It was replaced after that.
    Late = "late",
    /// Its owner left before it was due.
    Ended = "ended",
}

/// A cryptoperiod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cryptoperiod {
    /// Whose.
    pub member: MemberName,
    /// The slot.
    pub slot: Slot,
    /// The key.
    pub key: String,
    /// When it began.
    pub activated: Time,
    /// When it was over.
    pub due: Time,
    /// When the key stopped being active.
    pub ended: Option<Time>,
    /// How it went.
    pub timeliness: Timeliness,
    /// How long after it was due it ended, or lasts.
    pub late: u64,
}

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretRow {
    /// Where.
    pub address: Address,
    /// Its value's version; how many values there were.
    pub version: u64,
    /// When the present value was sealed, and by whom; none once it is removed.
    pub sealed: Option<(Time, MemberName)>,
    /// Who can decrypt the present value.
    pub readers: BTreeSet<MemberName>,
    /// Who ever could decrypt it: present readers, and those it was taken from.
    pub exposed: BTreeSet<MemberName>,
    /// Who could decrypt some value of it, and when.
    pub ever: BTreeMap<MemberName, Access>,
    /// Whether it belongs to nobody who is still there.
    pub orphan: bool,
    /// Whose compromise or loss made the present value known to others, and when.
    pub burned: Option<(Time, MemberName)>,
    /// Readers that policy and log do not give it (any more).
    pub surplus: BTreeSet<MemberName>,
    /// Readers that it lacks, or whose keys have changed.
    pub outdated: BTreeSet<MemberName>,
}

/// When somebody could decrypt something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Since when.
    pub since: Time,
    /// Until when new values were sealed to it; none if they still are.
    pub until: Option<Time>,
    /// The first version it could decrypt.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// An SSH certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshRow {
    /// Its serial.
    pub serial: u64,
    /// For whom.
    pub member: MemberName,
    /// `host` or `user`.
    pub kind: String,
    /// Whom it speaks for.
    pub principals: Vec<String>,
    /// Its first second.
    pub from: Time,
    /// The first second at which it is no longer valid.
    pub until: Time,
    /// Whether it is revoked.
    pub revoked: bool,
}

/// Somebody vouches for somebody's certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Vouch {
    /// Who.
    pub by: MemberName,
    /// For whom.
    pub of: MemberName,
    /// Since when, as the certification says.
    pub since: Time,
}

/// A PoP's place in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MeshRow {
    /// The PoP.
    pub member: MemberName,
    /// Its region.
    pub region: String,
    /// What it is for the topology.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Label>,
    /// How many other PoPs are its peers.
    pub peers: usize,
    /// Its index there.
    pub index: u64,
    /// Its inner addresses.
    pub addresses: Vec<String>,
    /// Where it is reached.
    pub endpoint: Option<String>,
    /// The lane of its active key.
    pub lane: Option<String>,
    /// Its services.
    pub services: Vec<MemberName>,
}

/// The published head of a log whose policy names cosigners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishedFacts {
    /// How many entries it has; 0 if none is published.
    pub size: u64,
    /// How many more wait.
    pub waiting: u64,
    /// Who cosigned it, and when.
    pub by: BTreeMap<String, Time>,
    /// When a quorum of them last called it the newest.
    pub cosigned: Option<Time>,
    /// What of the quorum is missing, in words; empty if nothing.
    pub missing: String,
    /// Cosigners that the policy names and that have not signed it.
    pub absent: BTreeSet<String>,
    /// How old the policy lets it grow, in seconds.
    pub max_age: u64,
}

impl PublishedFacts {
    /// In one line.
    pub fn in_words(&self) -> String {
        let by = if self.by.is_empty() {
            "nobody".to_owned()
        } else {
            self.by.keys().cloned().collect::<Vec<_>>().join(", ")
        };
        let at = self.cosigned.map(|at| format!(", last at {at}")).unwrap_or_default();
        let waiting = if self.waiting > 0 { format!("; {} wait", self.waiting) } else { String::new() };
        format!("{} entries, cosigned by {by}{at}{waiting}", self.size)
    }
}
