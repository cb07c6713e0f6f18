//! Revocation lists: what the log says is revoked, lists against it, and taking back single SSH certificates.

use std::collections::{BTreeMap, BTreeSet};

use super::OpsError;
use crate::fleet::Draft;
use crate::limits::CHANGES_MAX;
use crate::name::{MemberName, Slot};
use crate::ssh::{CertificateKind, Krl, KrlEntry, KrlScope, Serial, SshPublicKey};
use crate::state::{KeyState, State};
use crate::statement::{Act, RevokeIssued};
use crate::time::Time;

/// The revocation list that the log implies, for users' or for hosts' certificates: the same on every node. Its version is
/// the log's size, so it grows with every list that differs.
///
/// # Errors
/// [`OpsError`], if a key of the state is none.
pub fn krl(kind: CertificateKind, state: &State) -> Result<Krl, OpsError> {
    let mut list = Krl::new(state.size, state.time);
    let ca_slot = match kind {
        CertificateKind::User => Slot::SshUserCa,
        CertificateKind::Host => Slot::SshHostCa,
    };
    // By CA, since a serial means something only together with who signed it.
    let mut by_ca: BTreeMap<SshPublicKey, BTreeSet<u64>> = BTreeMap::new();
    for serial in &state.revoked_serials {
        if let Some(issued) = state.issued.get(serial).filter(|i| i.certificate.fields().kind == kind) {
            by_ca.entry(issued.certificate.fields().ca.clone()).or_default().insert(*serial);
        }
    }
    for (ca, serials) in by_ca {
        for serial in serials.into_iter().filter_map(Serial::new) {
            list.revoke_serials(KrlScope::Ca(ca.clone()), serial, serial);
        }
    }
    let slots = match kind {
        CertificateKind::User => &[ca_slot][..],
        CertificateKind::Host => &[ca_slot, Slot::SshHost],
    };
    for member in state.members.values() {
        let keys = slots.iter().filter_map(|slot| member.slots.get(slot)).flat_map(|s| &s.keys);
        for key in keys.filter(|k| k.state == KeyState::Compromised) {
            list.revoke_key(key.key.parse().map_err(|e: crate::ssh::KeyError| OpsError::Ssh(e.to_string()))?);
        }
    }
    Ok(list)
}

/// The same as a file: read back, and not larger than the policy allows.
///
/// # Errors
/// [`OpsError::Krl`].
pub fn krl_bytes(kind: CertificateKind, state: &State) -> Result<Vec<u8>, OpsError> {
    Ok(krl(kind, state)?.write(state.policy.policy.ssh.krl_bytes_max)?)
}

/// How old a list is, beside the log at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KrlAge {
    /// Made from a shorter log.
    Older,
    /// Made from this log.
    Same,
    /// Made from a longer log: this copy of the log is behind, or the list is not of this fleet.
    Newer,
}

/// A list beside what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KrlCheck {
    /// How old it is.
    pub age: KrlAge,
    /// What it would have to revoke and does not: these are let in.
    pub lacks: Vec<KrlEntry>,
    /// What it revokes though the log does not: these are kept out.
    pub surplus: Vec<KrlEntry>,
}

/// Compares a list with the one that the log implies.
///
/// # Errors
/// As for [`krl`].
pub fn check_krl(list: &Krl, kind: CertificateKind, state: &State) -> Result<KrlCheck, OpsError> {
    let wanted = krl(kind, state)?;
    let age = match list.version().cmp(&wanted.version()) {
        std::cmp::Ordering::Less => KrlAge::Older,
        std::cmp::Ordering::Equal => KrlAge::Same,
        std::cmp::Ordering::Greater => KrlAge::Newer,
    };
    Ok(KrlCheck { age, lacks: wanted.beyond(list), surplus: list.beyond(&wanted) })
}

/// The SSH certificates of the log that an entry means, in words.
pub fn certificates_of(entry: &KrlEntry, state: &State) -> Vec<String> {
    match entry {
        KrlEntry::Serials { ca, first, last } => state
            .issued
            .range(*first..=*last)
            .filter(|(_, issued)| {
                let signer = issued.certificate.fields().ca.fingerprint();
                ca.as_ref().is_none_or(|ca| *ca == signer)
            })
            .map(|(serial, _)| told(*serial, state))
            .collect(),
        KrlEntry::KeyId { .. } | KrlEntry::Key(_) => Vec::new(),
    }
}

fn told(serial: u64, state: &State) -> String {
    let Some(issued) = state.issued.get(&serial) else { return format!("serial {serial}") };
    let fields = issued.certificate.fields();
    format!("serial {serial}: {} certificate '{}', good until {}", fields.kind, fields.key_id, fields.valid_before)
}

/// SSH certificates to take back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SerialsPlan {
    /// Each with what it is, in words.
    pub serials: BTreeMap<u64, String>,
    /// Those of them that nobody lets in any more, since their time is over.
    pub expired: BTreeSet<u64>,
    /// PoPs that are left without an SSH certificate for their active host key.
    pub bare: BTreeSet<MemberName>,
}

impl SerialsPlan {
    /// The statements that carry it out.
    pub fn drafts(&self, reason: &str) -> Vec<Draft> {
        let serials: Vec<u64> = self.serials.keys().copied().collect();
        let change = |part: &[u64]| RevokeIssued { serials: part.iter().copied().collect() };
        let parts = serials.chunks(SERIALS_EACH).map(change).collect::<Vec<_>>();
        parts.chunks(CHANGES_MAX).map(|part| Draft::bare(Act::SshRevoke(part.to_vec()), reason)).collect()
    }
}

/// Serials in one change: 128 changes of these fit into one body.
const SERIALS_EACH: usize = 16;

/// Plans to take back SSH certificates: by serial, and all those for any of these keys whose time is not over.
///
/// # Errors
/// [`OpsError::NoSerial`].
pub fn plan_revoke_serials(
    serials: &BTreeSet<u64>,
    keys: &BTreeSet<SshPublicKey>,
    state: &State,
    now: Time,
) -> Result<SerialsPlan, OpsError> {
    if let Some(stranger) = serials.iter().find(|serial| !state.issued.contains_key(serial)) {
        return Err(OpsError::NoSerial(*stranger));
    }
    let meant = state.issued.iter().filter(|(serial, issued)| {
        let fields = issued.certificate.fields();
        serials.contains(serial) || (keys.contains(&fields.subject) && fields.valid_before > now)
    });
    let wanted: BTreeSet<u64> =
        meant.map(|(serial, _)| *serial).filter(|serial| !state.revoked_serials.contains(serial)).collect();
    let expired = |serial: &u64| state.issued.get(serial).is_some_and(|i| i.certificate.fields().valid_before <= now);
    let mut without = state.revoked_serials.clone();
    without.extend(&wanted);
    let before: BTreeSet<MemberName> = super::uncertified_hosts(state, now).into_iter().collect();
    let after = super::ssh::uncertified_without(&without, state, now);
    Ok(SerialsPlan {
        expired: wanted.iter().copied().filter(expired).collect(),
        serials: wanted.iter().map(|serial| (*serial, told(*serial, state))).collect(),
        bare: after.into_iter().filter(|name| !before.contains(name)).collect(),
    })
}
