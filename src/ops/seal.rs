//! Sealing values, and removing a secret.

use std::collections::BTreeSet;

use sequoia_openpgp as pgp;

use super::OpsError;
use super::act::signing_key;
use crate::digest::Digest;
use crate::fleet::{Draft, Fleet, Standing};
use crate::formats::{Format, Shape};
use crate::home::Home;
use crate::limits::{OBJECT_BYTES_MAX, SEALS_MAX};
use crate::name::{Address, Kind, MemberName, Slot};
use crate::openpgp::{Certificate, Envelope, Fingerprint, Sealed, Wraps, seal_with};
use crate::state::{LiveSecret, ReadersError};
use crate::statement::{Act, RecipientSet, Remove, Seal};

/// What sealing a secret will do: all of it but the value, which is read last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealPlan {
    /// Where.
    pub address: Address,
    /// The value's version after it.
    pub version: u64,
    /// Who will be able to read it, with their keys.
    pub recipients: RecipientSet,
    /// Who could read the version before, if there was one.
    pub before: Option<Vec<MemberName>>,
    /// The format of a structured file whose shape is to be readable: that of the version before, unless it is set anew.
    pub shape: Option<Format>,
    generation: u64,
    prev: Option<Digest>,
}

/// Plans to seal a value at `address`: readers by policy, each checked to be trusted now. A reader that is expired,
/// revoked or unvouched is an error that names it, never left out in silence.
///
/// # Errors
/// [`OpsError`].
pub fn plan_seal(address: &Address, fleet: &mut Fleet) -> Result<SealPlan, OpsError> {
    plan_seal_without(address, &BTreeSet::new(), fleet)
}

/// The same, but leaves out readers that the caller names: one that is away must not keep the others from a new value. It
/// gets the value by a reseal when it is back.
///
/// # Errors
/// [`OpsError`]; also if one of them is no reader, or nobody else is.
pub fn plan_seal_without(
    address: &Address,
    without: &BTreeSet<MemberName>,
    fleet: &mut Fleet,
) -> Result<SealPlan, OpsError> {
    let allowed =
        fleet.state().readers(address).map_err(|source| OpsError::Readers { address: address.clone(), source })?;
    if let Some(stranger) = without.iter().find(|m| !allowed.contains(*m)) {
        return Err(OpsError::Impossible(format!(
            "{stranger} is no reader of {address}; there is nothing to leave out"
        )));
    }
    let readers: BTreeSet<MemberName> = allowed.difference(without).cloned().collect();
    if readers.is_empty() {
        return Err(OpsError::Readers { address: address.clone(), source: ReadersError::Nobody });
    }
    if let Some(id) = waiting_change(address, fleet)? {
        return Err(OpsError::Underway { address: address.clone(), id });
    }
    for reader in &readers {
        let bad = |problem| OpsError::Reader { address: address.clone(), reader: reader.clone(), problem };
        fleet.check_vouched(reader).map_err(bad)?;
        if fleet.state().encryption_keys(reader).next().is_none() {
            return Err(bad(crate::state::Void::Slots {
                member: reader.clone(),
                problem: "no key to seal to".to_owned(),
            }));
        }
    }
    let shape = shape_of(address, fleet)?.map(|shape| shape.format);
    let state = fleet.state();
    let before = state.secrets.get(address);
    Ok(SealPlan {
        address: address.clone(),
        version: before.map_or(0, |s| s.version) + 1,
        recipients: state.recipient_set(readers),
        before: before.and_then(|s| s.live.as_ref()).map(|live| live.readers.keys().cloned().collect()),
        shape,
        generation: before.map_or(0, |s| s.generation) + 1,
        prev: before.map(|s| s.prev),
    })
}

/// The shape of a structured file, as the log has it; none of a value that was sealed whole. Needs no key.
///
/// # Errors
/// [`OpsError`].
pub fn shape_of(address: &Address, fleet: &Fleet) -> Result<Option<Shape>, OpsError> {
    let live = fleet.state().live_secret(address);
    live.map_or(Ok(None), |live| shape_in(address, live, fleet))
}

/// The same, of a secret as it is or was.
pub(super) fn shape_in(address: &Address, live: &LiveSecret, fleet: &Fleet) -> Result<Option<Shape>, OpsError> {
    let Some(digest) = live.shape else { return Ok(None) };
    let bytes = fleet.store().object_within(&digest, OBJECT_BYTES_MAX).map_err(crate::fleet::FleetError::from)?;
    let failed = |source| OpsError::Shape { address: address.clone(), source };
    Shape::parse(&bytes).map(Some).map_err(failed)
}

/// A change of this secret that is complete, and waits for whoever has the log's key: another one made now would be lost,
/// or would make that one be.
fn waiting_change(address: &Address, fleet: &mut Fleet) -> Result<Option<Digest>, OpsError> {
    let about = |act: &Act| match act {
        Act::Seal(list) => list.iter().any(|c| c.address == *address),
        Act::Reseal(list) => list.iter().any(|c| c.address == *address),
        Act::Remove(list) => list.iter().any(|c| c.address == *address),
        _ => false,
    };
    for proposal in fleet.proposals()?.into_iter().filter(|p| about(&p.signed.statement.act)) {
        if fleet.standing(&proposal)? == Standing::Complete {
            return Ok(Some(proposal.signed.id));
        }
    }
    Ok(None)
}

/// Seals `value` as planned, signed by the first operator of this home (or `author`); gives the statement to sign.
///
/// # Errors
/// [`OpsError`].
pub fn seal(
    plan: &SealPlan,
    value: &[u8],
    reason: &str,
    author: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Draft, OpsError> {
    let mut drafts = seal_all(&[(plan, value)], reason, author, home, fleet)?;
    drafts.pop().ok_or_else(|| OpsError::Impossible("there is nothing to seal".to_owned()))
}

/// Seals many values as planned, with as few statements as they fit in.
///
/// # Errors
/// [`OpsError`].
pub fn seal_all(
    values: &[(&SealPlan, &[u8])],
    reason: &str,
    author: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Vec<Draft>, OpsError> {
    let (_, fingerprint, mut signer) = author_key(author, home, fleet)?;
    let mut wraps = Wraps::default();
    let mut drafts = Vec::new();
    for part in values.chunks(SEALS_MAX) {
        let mut changes = Vec::with_capacity(part.len());
        let mut objects = Vec::with_capacity(2 * part.len());
        for (plan, value) in part {
            let (change, attached) = sealed(plan, value, (&fingerprint, Borrowed(&mut signer)), &mut wraps, fleet)?;
            changes.push(change);
            objects.extend(attached);
        }
        drafts.push(Draft::with(Act::Seal(changes), reason, objects));
    }
    Ok(drafts)
}

/// Seals the list of the parts of a large value; they are staged already.
pub(super) fn seal_list(
    plan: &SealPlan,
    (list, parts): (&[u8], Vec<Digest>),
    reason: &str,
    author: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Draft, OpsError> {
    let (_, fingerprint, mut signer) = author_key(author, home, fleet)?;
    let (change, objects) = sealed(plan, list, (&fingerprint, Borrowed(&mut signer)), &mut Wraps::default(), fleet)?;
    Ok(Draft::with(Act::Seal(vec![Seal { parts, ..change }]), reason, objects))
}

/// One change, and what it refers to.
fn sealed(
    plan: &SealPlan,
    value: &[u8],
    (author, signer): (&Fingerprint, Borrowed<'_>),
    wraps: &mut Wraps,
    fleet: &mut Fleet,
) -> Result<(Seal, Vec<Vec<u8>>), OpsError> {
    let address = &plan.address;
    let state = fleet.state();
    let envelope = Envelope {
        fleet: state.fleet.clone(),
        origin: state.log.clone(),
        address: address.to_string(),
        version: plan.version,
        readers: plan.recipients.names_digest(),
    };
    let profile = state.policy.policy.fleet.profile;
    let keys = recipient_keys(address, &plan.recipients, fleet)?;
    let keys: Vec<_> = keys.iter().filter_map(|(certificate, f)| certificate.key(f)).collect();
    let failed = |source| OpsError::Seal { address: address.clone(), source };
    let shapeless = |source| OpsError::Shape { address: address.clone(), source };
    let shape = plan.shape.map(|format| Shape::of(format, value)).transpose().map_err(shapeless)?;
    let shape = shape.map(|shape| shape.to_bytes());
    let file = seal_with(wraps, value, &envelope, &keys, signer, profile, fleet.now()).map_err(failed)?;
    let body = Sealed::parse(&file).map_err(|e| failed(e.into()))?.body_digest();
    let set = plan.recipients.to_bytes();
    let change = Seal {
        address: address.clone(),
        author: author.to_hex(),
        body,
        file: Digest::of(&file),
        generation: plan.generation,
        parts: Vec::new(),
        prev: plan.prev,
        recipients: Digest::of(&set),
        shape: shape.as_deref().map(Digest::of),
        version: plan.version,
    };
    Ok((change, [set, file].into_iter().chain(shape).collect()))
}

/// A signer that signs more than once.
struct Borrowed<'a>(&'a mut BoxedSigner);

impl pgp::crypto::Signer for Borrowed<'_> {
    fn public(&self) -> &pgp::packet::Key<pgp::packet::key::PublicParts, pgp::packet::key::UnspecifiedRole> {
        self.0.public()
    }

    fn acceptable_hashes(&self) -> &[pgp::types::HashAlgorithm] {
        self.0.acceptable_hashes()
    }

    fn sign(
        &mut self,
        hash_algo: pgp::types::HashAlgorithm,
        digest: &[u8],
    ) -> pgp::Result<pgp::crypto::mpi::Signature> {
        self.0.sign(hash_algo, digest)
    }
}

/// The statement that removes a secret.
///
/// # Errors
/// [`OpsError::NoSecret`].
pub fn plan_remove(address: &Address, reason: &str, fleet: &Fleet) -> Result<Draft, OpsError> {
    let secret = fleet
        .state()
        .secrets
        .get(address)
        .filter(|s| s.live.is_some())
        .ok_or_else(|| OpsError::NoSecret(address.clone()))?;
    let change = Remove { address: address.clone(), generation: secret.generation + 1, prev: secret.prev };
    Ok(Draft::bare(Act::Remove(vec![change]), reason))
}

type BoxedSigner = Box<dyn pgp::crypto::Signer + Send + Sync>;

/// Who seals: `author`, or the first operator here, or the first PoP.
fn author_key(
    author: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<(MemberName, Fingerprint, BoxedSigner), OpsError> {
    let mut here: Vec<(Kind, MemberName)> = Vec::new();
    for member in home.members()? {
        if let Some(found) =
            fleet.state().members.get(&member).filter(|m| m.is_active() && author.is_none_or(|a| *a == member))
        {
            here.push((found.kind, member));
        }
    }
    here.sort();
    for (_, member) in here {
        let key = fleet
            .state()
            .members
            .get(&member)
            .and_then(|m| m.active(Slot::Sign))
            .and_then(|k| Fingerprint::from_hex(&k.key).ok());
        let Some(fingerprint) = key else { continue };
        let certificate = fleet.certificate(&member)?;
        if let Some(signer) = signing_key(home, &member, &certificate, &fingerprint)? {
            return Ok((member, fingerprint, signer));
        }
    }
    match author {
        Some(member) => Err(OpsError::KeyElsewhere { member: member.clone(), slot: Slot::Sign }),
        None => Err(OpsError::NoActor("member of this fleet who can sign a secret")),
    }
}

/// A certificate and the key in it to seal to.
pub(super) type RecipientKey = (std::sync::Arc<Certificate>, Fingerprint);

/// The keys of a recipient set, each found in its member's certificate by fingerprint.
pub(super) fn recipient_keys(
    address: &Address,
    set: &RecipientSet,
    fleet: &mut Fleet,
) -> Result<Vec<RecipientKey>, OpsError> {
    let mut keys = Vec::new();
    for (reader, fingerprints) in &set.readers {
        let certificate = fleet.certificate(reader)?;
        for text in fingerprints {
            let fingerprint = Fingerprint::from_hex(text).ok().filter(|f| certificate.key(f).is_some());
            let fingerprint = fingerprint.ok_or_else(|| OpsError::Reader {
                address: address.clone(),
                reader: reader.clone(),
                problem: crate::state::Void::Key {
                    member: reader.clone(),
                    slot: Slot::Openpgp,
                    key: text.clone(),
                    problem: "is not in the certificate".to_owned(),
                },
            })?;
            keys.push((std::sync::Arc::clone(&certificate), fingerprint));
        }
    }
    Ok(keys)
}
