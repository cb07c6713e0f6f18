//! Where in the log a finding about the mesh comes from: the entries that say of a node what is found about it.

use std::collections::{BTreeMap, BTreeSet};

use super::OpsError;
use super::psk::lane_key;
use crate::digest::Digest;
use crate::fleet::{Fleet, FleetError};
use crate::name::{MemberName, Slot};
use crate::state::State;
use crate::statement::{Act, Enroll, Entry};
use crate::store::LogReader;
use crate::wireguard::{Finding, Lane, Origin};

/// How entries begin that say something of a node; the act is the first field of canonical JSON.
const BEGINNINGS: [&[u8]; 3] = [b"{\"act\":\"genesis\",", b"{\"act\":\"member.enroll\",", b"{\"act\":\"key.publish\","];

/// Names the entry in each finding about nodes: the one by which the node was enrolled, or, of a finding about keys, the one that
/// published the last of those it has. Reads the log if there is anything to name.
///
/// # Errors
/// [`OpsError`], if the log cannot be read.
pub fn name_entries(findings: &mut [Finding], fleet: &Fleet) -> Result<(), OpsError> {
    let of = |origin| {
        let about = findings.iter().filter(move |finding| finding.origin() == origin);
        about.flat_map(|finding| finding.nodes.iter().cloned()).collect::<BTreeSet<_>>()
    };
    let mut wanted = Wanted::new(of(Origin::Enrolment), of(Origin::Keys), fleet.state());
    if wanted.is_empty() {
        return Ok(());
    }
    let mut reader = LogReader::new(fleet.store(), fleet.state().size);
    while let Some((first, entries)) = reader.next_bundle().map_err(FleetError::from)? {
        entries.iter().zip(first..).for_each(|(entry, index)| wanted.look(entry, index));
    }
    for finding in findings {
        let found = match finding.origin() {
            Origin::Enrolment => &wanted.enrolled,
            Origin::Keys => &wanted.published,
            Origin::Machine => continue,
        };
        let known = finding.nodes.iter().filter_map(|node| Some((node.clone(), *found.get(node)?)));
        finding.entries = known.collect();
    }
    Ok(())
}

/// What is looked for, and what was found.
struct Wanted {
    /// Whose enrolment, by the request that it was for.
    requests: BTreeMap<Digest, MemberName>,
    /// The keys of lanes, with whose they are.
    keys: BTreeMap<String, MemberName>,
    enrolled: BTreeMap<MemberName, u64>,
    published: BTreeMap<MemberName, u64>,
}

impl Wanted {
    fn new(enrolled: BTreeSet<MemberName>, published: BTreeSet<MemberName>, state: &State) -> Self {
        let request = |name: &MemberName| Some((state.active_member(name).ok()?.request, name.clone()));
        let keys = |name: &MemberName| {
            let on = |lane| Some((lane_key(name, lane, state)?.key, name.clone()));
            Lane::ALL.into_iter().filter_map(on).collect::<Vec<_>>()
        };
        Self {
            // Who has published nothing since has the keys of its enrolment.
            requests: enrolled.union(&published).filter_map(request).collect(),
            keys: published.iter().flat_map(keys).collect(),
            enrolled: BTreeMap::new(),
            published: BTreeMap::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.keys.is_empty()
    }

    fn look(&mut self, bytes: &[u8], index: u64) {
        if !BEGINNINGS.iter().any(|beginning| bytes.starts_with(beginning)) {
            return;
        }
        let Ok(entry) = Entry::parse(bytes) else { return };
        match &entry.signed.statement.act {
            Act::Genesis(genesis) => genesis.members.iter().for_each(|change| self.note(change, index)),
            Act::Enroll(list) => list.iter().for_each(|change| self.note(change, index)),
            Act::Publish(list) => {
                let keys = list.iter().flat_map(|c| &c.keys).filter(|key| key.slot == Slot::Wireguard);
                for name in keys.filter_map(|key| self.keys.get(&key.key)) {
                    self.published.insert(name.clone(), index);
                }
            }
            Act::PolicyUpdate(_)
            | Act::Confirm(_)
            | Act::Retire(_)
            | Act::Activate(_)
            | Act::Certify(_)
            | Act::Destroy(_)
            | Act::Seal(_)
            | Act::Reseal(_)
            | Act::Remove(_)
            | Act::SshIssue(_)
            | Act::SshRevoke(_)
            | Act::Object(_)
            | Act::Backup(_)
            | Act::Drill(_)
            | Act::Snapshot(_)
            | Act::Rekey(_)
            | Act::Emergency(_)
            | Act::Invite(_)
            | Act::Uninvite(_) => {}
        }
    }

    fn note(&mut self, change: &Enroll, index: u64) {
        if let Some(name) = self.requests.get(&change.request) {
            self.enrolled.insert(name.clone(), index);
            self.published.insert(name.clone(), index);
        }
    }
}
