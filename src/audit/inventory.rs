//! What there is at the end of the period: a reading of the state then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::access::Exposure;
use super::algorithm;
use super::report::{KeyRow, MemberRow, MeshRow, SecretRow, SshRow, Vouch};
use crate::name::{Kind, MemberName, Slot};
use crate::openpgp::Certificate;
use crate::state::{Objects, State};
use crate::wireguard::address::addresses;

/// The certificates of all members, read once.
pub(super) struct Certificates(BTreeMap<MemberName, Arc<Certificate>>);

impl Certificates {
    /// Reads them; one that cannot be had is left out, and its keys have no algorithm in the report.
    pub(super) fn read(state: &State, objects: &impl Objects) -> Self {
        let read = |digest| Certificate::parse(&objects.object(digest).ok()?).ok().map(Arc::new);
        Self(state.members.iter().filter_map(|(n, m)| Some((n.clone(), read(&m.cert)?))).collect())
    }

    /// Fills in what the keys are.
    pub(super) fn describe(&self, keys: &mut [KeyRow]) {
        for row in keys {
            let certificate = self.0.get(&row.member).map(AsRef::as_ref);
            if let Some((algorithm, strength)) = algorithm::of(row.slot, &row.key, certificate) {
                (row.algorithm, row.strength) = (Some(algorithm), strength);
            }
        }
    }

    /// Who vouches for whom, among those who can: operators for anybody, authorities for PoPs, PoPs for their services.
    pub(super) fn vouches(&self, state: &State) -> Vec<Vouch> {
        let active = || state.members.iter().filter(|(_, m)| m.is_active());
        let mut found = Vec::new();
        for (name, member) in active().filter(|(_, m)| m.kind != Kind::Operator) {
            let Some(certificate) = self.0.get(name) else { continue };
            let introducers = active().filter(|(n, m)| {
                *n != name
                    && match m.kind {
                        Kind::Operator => true,
                        Kind::Authority => member.kind == Kind::Pop,
                        Kind::Pop => **n == name.owner(),
                        Kind::Service => false,
                    }
            });
            for (by, introducer) in introducers {
                let since = certificate.certified_since(&introducer.fingerprint);
                found.extend(since.map(|since| Vouch { by: by.clone(), of: name.clone(), since }));
            }
        }
        found.sort();
        found
    }
}

pub(super) fn members(state: &State) -> Vec<MemberRow> {
    let root = &state.policy.policy.fleet.root;
    let row = |(name, m): (&MemberName, &Arc<crate::state::Member>)| MemberRow {
        member: name.clone(),
        kind: m.kind,
        enrolled: m.enrolled,
        left: m.retired,
        root: root.contains(name) && m.is_active(),
        fingerprint: m.fingerprint.to_hex(),
        expires: m.cert_expires,
    };
    let mut rows: Vec<MemberRow> = state.members.iter().map(row).collect();
    rows.sort_by(|a, b| (a.kind, &a.member).cmp(&(b.kind, &b.member)));
    rows
}

pub(super) fn secrets(state: &State, exposure: &Exposure<MemberName>) -> Vec<SecretRow> {
    let row = |(address, secret): (&crate::name::Address, &Arc<crate::state::Secret>)| {
        let live = secret.live.as_ref();
        // Whose owner has left is to be removed, which is said elsewhere; it has no readers to compare with.
        let orphan = live.is_some() && state.readers_by_policy(address).is_err();
        let drift = live.filter(|_| !orphan).and_then(|live| state.drift(address, live));
        let names = |keys: &BTreeMap<MemberName, Vec<String>>| keys.keys().cloned().collect::<BTreeSet<_>>();
        SecretRow {
            address: address.clone(),
            version: secret.version,
            sealed: live.map(|l| (l.sealed, l.author.clone())),
            readers: live.map(|l| names(&l.readers)).unwrap_or_default(),
            exposed: live.map(|l| BTreeSet::clone(&l.exposed)).unwrap_or_default(),
            ever: exposure.of(address),
            orphan,
            burned: live.and_then(|l| l.burned.clone()),
            surplus: drift.as_ref().map(|d| d.surplus.clone()).unwrap_or_default(),
            outdated: drift.map(|d| d.missing.union(&d.outdated).cloned().collect()).unwrap_or_default(),
        }
    };
    state.secrets.iter().map(row).collect()
}

pub(super) fn ssh(state: &State) -> Vec<SshRow> {
    let row = |(serial, issued): (&u64, &crate::state::Issued)| {
        let fields = issued.certificate.fields();
        SshRow {
            serial: *serial,
            member: issued.member.clone(),
            kind: fields.kind.to_string(),
            principals: fields.principals.iter().map(ToString::to_string).collect(),
            from: fields.valid_after,
            until: fields.valid_before,
            revoked: state.revoked_serials.contains(serial),
        }
    };
    state.issued.iter().map(row).collect()
}

pub(super) fn mesh(state: &State) -> Vec<MeshRow> {
    let peers = state.peer_counts();
    let policy = &state.policy.policy.wireguard;
    let row = |(name, (region, index)): (&MemberName, &(String, u64))| {
        let member = state.members.get(name).filter(|m| m.is_active())?;
        let inner = addresses(policy, region, *index).ok();
        Some(MeshRow {
            member: name.clone(),
            region: region.clone(),
            roles: member.facts.roles.clone(),
            peers: peers.get(name).copied().unwrap_or_default(),
            index: *index,
            addresses: inner.map(|a| vec![a.ipv4.to_string(), a.ipv6.to_string()]).unwrap_or_default(),
            endpoint: member.facts.endpoint.as_ref().map(|e| e.host.to_string()),
            lane: member.active(Slot::Wireguard).and_then(|k| k.lane).map(|l| l.word().to_owned()),
            services: state.services(name).map(|(n, _)| n.clone()).collect(),
        })
    };
    state.mesh.used.iter().filter_map(row).collect()
}
