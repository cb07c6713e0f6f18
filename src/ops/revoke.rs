//! Revoking a member: certificate, recipient sets, mesh and KRL in one plan.

use std::collections::BTreeSet;

use sequoia_openpgp as pgp;

use pgp::parse::Parse as _;

use super::OpsError;
use super::act::signing_key;
use super::admit::certifiers;
use super::open::decryptor;
use crate::fleet::{Draft, Fleet};
use crate::home::Home;
use crate::name::{Address, Kind, MemberName, Slot};
use crate::openpgp::{Certificate, Sealed, merge_revocation, open_raw, withdraw};
use crate::state::Member;
use crate::statement::{Act, Request, Retire, RetireReason};

/// What a revocation will do.
#[derive(Debug, Clone)]
pub struct RevokePlan {
    /// Who leaves: the member and, for a PoP, its services.
    pub leaving: Vec<MemberName>,
    /// Why.
    pub why: RetireReason,
    /// Whose certificates get an OpenPGP revocation, so that gpg and sq see it, too.
    pub certificates: Vec<(MemberName, Certificate)>,
    /// Secrets whose value has to count as known to others.
    pub burned: BTreeSet<Address>,
    /// Secrets that lose a reader and should be resealed or renewed.
    pub losing: BTreeSet<Address>,
    /// The mesh address that is given back: region and index.
    pub address: Option<(String, u64)>,
    /// Serials of the SSH certificates that are revoked.
    pub serials: BTreeSet<u64>,
    /// How many keys end.
    pub keys: usize,
}

/// Plans to take `member` out everywhere. Where this home can open the revocation that was sealed to the recovery readers
/// at the enrolment, the certificate is revoked as such; an authority here withdraws its certification in any case.
///
/// # Errors
/// [`OpsError`].
pub fn plan_revoke(
    member: &MemberName,
    why: RetireReason,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<RevokePlan, OpsError> {
    let state = fleet.state();
    // Whoever left in order, and is found to have been robbed, leaves once more: the keys count as stolen from then on.
    let leaves = |m: &Member| m.retired.is_none_or(|(_, before)| why.burns() && !before.burns());
    if !state.members.get(member).is_some_and(|m| leaves(m)) {
        return Err(OpsError::NoMember(member.clone()));
    }
    let own = state.members.iter().filter(|(n, m)| n.is_service() && n.owner() == *member && *n != member && leaves(m));
    let leaving: Vec<MemberName> = std::iter::once(member.clone()).chain(own.map(|(n, _)| n.clone())).collect();
    let mut losing: BTreeSet<Address> = BTreeSet::new();
    let mut exposed: BTreeSet<Address> = BTreeSet::new();
    let mut keys = 0;
    for name in &leaving {
        let (now, ever) = state.reach(name);
        losing.extend(now.into_iter().cloned());
        exposed.extend(ever.into_iter().cloned());
        keys += state.members.get(name).map_or(0, |m| m.slots.values().map(|s| s.usable().count()).sum());
    }
    let serials = state
        .issued
        .iter()
        .filter(|(s, i)| leaving.contains(&i.member) && !state.revoked_serials.contains(*s))
        .map(|(s, _)| *s)
        .collect();
    let address = state.mesh.used.get(member).cloned();
    let mut certificates = Vec::new();
    for name in &leaving {
        certificates.extend(revoked(name, why, home, fleet)?.map(|c| (name.clone(), c)));
    }
    let burned = if why.burns() { exposed } else { BTreeSet::new() };
    Ok(RevokePlan { leaving, why, certificates, burned, losing, address, serials, keys })
}

impl RevokePlan {
    /// The statement that carries it out.
    pub fn draft(&self, reason: &str) -> Draft {
        let new = |name: &MemberName| self.certificates.iter().find(|(n, _)| n == name).map(|(_, c)| c);
        // Services first: leaving with their PoP they would leave without a revocation of their own.
        let changes = self.leaving.iter().rev().map(|n| Retire {
            cert: new(n).map(Certificate::digest),
            member: n.clone(),
            why: self.why,
        });
        let objects = self.certificates.iter().map(|(_, c)| c.bytes().to_vec()).collect();
        Draft::with(Act::Retire(changes.collect()), reason, objects)
    }
}

/// The member's certificate, revoked as far as this home can.
fn revoked(
    name: &MemberName,
    why: RetireReason,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Option<Certificate>, OpsError> {
    let certificate = fleet.certificate(name)?;
    let mut changed: Option<Certificate> = None;
    // A hard revocation takes back even what was signed before; that is right for a stolen key, not for one that retires.
    if why.burns()
        && let Some(revocation) = sealed_revocation(name, home, fleet)?
    {
        changed = Some(merge_revocation(&certificate, &revocation)?);
    }
    if fleet.state().members.get(name).is_some_and(|m| m.kind == Kind::Pop) {
        for authority in certifiers(home, fleet, Kind::Authority)? {
            let public = fleet.certificate(&authority)?;
            if let Some(mut signer) = signing_key(home, &authority, &public, &public.fingerprint())? {
                let base = changed.as_ref().unwrap_or(&certificate);
                changed = Some(withdraw(base, signer.as_mut(), fleet.now())?);
            }
        }
    }
    Ok(changed)
}

/// The revocation that the member sealed to the recovery readers when it was enrolled, if a key of this home opens it.
fn sealed_revocation(
    name: &MemberName,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Option<pgp::packet::Signature>, OpsError> {
    use crate::state::Objects as _;
    let Some(request) = fleet.state().members.get(name).map(|m| m.request) else { return Ok(None) };
    let bytes = fleet.store().object(&request).map_err(crate::fleet::FleetError::from)?;
    let (request, ..) = Request::parse(&bytes).map_err(|e| OpsError::Request(e.to_string()))?;
    let Some(sealed) = request.member(name).map(|m| m.revocation.clone()).filter(|r| !r.is_empty()) else {
        return Ok(None);
    };
    let Ok(parts) = Sealed::parse(&sealed) else { return Ok(None) };
    let mut own = Vec::new();
    for member in home.members()? {
        // Any key the reader ever had: it was sealed long ago, perhaps to one that has been replaced since.
        let keys: Vec<String> = fleet
            .state()
            .members
            .get(&member)
            .and_then(|m| m.slot(Slot::Openpgp))
            .map(|s| s.keys.iter().map(|k| k.key.clone()).collect())
            .unwrap_or_default();
        for fingerprint in keys.iter().filter_map(|k| crate::openpgp::Fingerprint::from_hex(k).ok()) {
            let wanted = parts.recipients.iter().any(|(handle, _)| handle.aliases(pgp::KeyHandle::from(&fingerprint)));
            if wanted && let Some(key) = decryptor(home, &member, &fingerprint, fleet)? {
                own.push((fingerprint, key));
            }
        }
    }
    let Ok(packet) = open_raw(&sealed, &mut own) else { return Ok(None) };
    match pgp::Packet::from_bytes(packet.as_slice()) {
        Ok(pgp::Packet::Signature(signature)) => Ok(Some(signature)),
        _ => Ok(None),
    }
}
