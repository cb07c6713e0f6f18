//! What the mesh's topology asks of members: who is whose peer, by the log alone.

use std::collections::BTreeMap;

use super::State;
use crate::name::MemberName;
use crate::policy::wireguard::{Marks, Site};

impl State {
    /// What the topology goes by, of every PoP in the mesh.
    pub fn sites(&self) -> impl Iterator<Item = Site<'_>> {
        self.mesh.used.keys().filter_map(|name| self.site(name))
    }

    /// The same of one PoP; none if it is not in the mesh.
    pub fn site<'s>(&'s self, name: &MemberName) -> Option<Site<'s>> {
        let (name, (region, _)) = self.mesh.used.get_key_value(name)?;
        Some(Site { name, region, roles: &self.members.get(name)?.facts.roles })
    }

    /// How many peers each PoP has, by name.
    pub fn peer_counts(&self) -> BTreeMap<&MemberName, usize> {
        let topology = self.policy.policy.wireguard.topology();
        let sites: Vec<_> = self.sites().map(|site| (site.name, topology.marks(&site))).collect();
        let mut classes: BTreeMap<Marks<'_>, usize> = BTreeMap::new();
        sites.iter().for_each(|(_, marks)| *classes.entry(*marks).or_default() += 1);
        let peers = |own: &Marks<'_>| {
            let joined = classes.iter().filter(|(other, _)| topology.joined(own, other)).map(|(_, count)| count);
            joined.sum::<usize>() - usize::from(topology.joined(own, own))
        };
        let counts: BTreeMap<_, _> = classes.keys().map(|marks| (*marks, peers(marks))).collect();
        sites.into_iter().filter_map(|(name, marks)| Some((name, *counts.get(&marks)?))).collect()
    }

    /// How many peers one PoP has.
    pub fn peer_count(&self, name: &MemberName) -> usize {
        let topology = &self.policy.policy.wireguard.topology();
        let Some(own) = self.site(name) else { return 0 };
        let marks = topology.marks(&own);
        self.sites().filter(|other| other.name != own.name && topology.joined(&marks, &topology.marks(other))).count()
    }
}

/// How many pairs of PoPs that are in the mesh on both sides become peers, and how many cease to be.
pub(super) fn pairs(before: &State, after: &State) -> (u64, u64) {
    let (old, new) = (before.policy.policy.wireguard.topology(), after.policy.policy.wireguard.topology());
    if old == new {
        return (0, 0);
    }
    let mut classes: BTreeMap<(Marks<'_>, Marks<'_>), u64> = BTreeMap::new();
    for (was, is) in before.sites().filter_map(|was| Some((was, after.site(was.name)?))) {
        *classes.entry((old.marks(&was), new.marks(&is))).or_default() += 1;
    }
    let classes: Vec<_> = classes.into_iter().collect();
    let (mut joined, mut parted) = (0_u64, 0_u64);
    for (i, ((was, is), count)) in classes.iter().enumerate() {
        for ((was_other, is_other), count_other) in classes.iter().skip(i) {
            let same = (was, is) == (was_other, is_other);
            let pairs = if same { count * (count - 1) / 2 } else { count * count_other };
            match (old.joined(was, was_other), new.joined(is, is_other)) {
                (false, true) => joined += pairs,
                (true, false) => parted += pairs,
                (true, true) | (false, false) => {}
            }
        }
    }
    (joined, parted)
}
