//! Admitting: an authority certifies who asks, and the quorum enrols it.

use rand::CryptoRng;

use super::OpsError;
use super::act::{carry_out, signing_key};
use super::confirm::challenge;
use crate::digest::Digest;
use crate::fleet::{Draft, Fleet, FleetError, Placed};
use crate::home::Home;
use crate::limits::REQUEST_BYTES_MAX;
use crate::name::{Kind, MemberName};
use crate::openpgp::{Certificate, Grant, amount_for, certify};
use crate::state::{Agreed, Asked, Decision};
use crate::statement::{Act, Enroll, Request, RequestedMember};
use crate::store::{Store, StoreError, request_path};

/// Turns a request into the statement that admits its members. PoPs are certified by an authority of this home,
/// authorities by its operators; services come certified by their PoP. Who comes by invitation is given challenges to its keys.
///
/// # Errors
/// [`OpsError`].
pub fn admit(
    request: &[u8],
    reason: &str,
    home: &Home,
    fleet: &mut Fleet,
    rng: &mut impl CryptoRng,
) -> Result<Draft, OpsError> {
    let (parsed, ..) = Request::parse(request).map_err(|e| OpsError::Request(e.to_string()))?;
    if parsed.log != fleet.log() {
        return Err(OpsError::Request(format!(
            "is for the log '{}', not for {}",
            crate::text::shown(&parsed.log),
            fleet.log()
        )));
    }
    let mut changes = Vec::new();
    let mut objects = vec![request.to_vec()];
    let challenges = match parsed.invitation {
        Some(_) => Some(challenge(&parsed.members, home, fleet, rng)?.to_bytes()),
        None => None,
    };
    for requested in &parsed.members {
        let certificate = certified(requested, home, fleet)?;
        if requested.kind == Kind::Pop {
            super::mesh::check_newcomer(&requested.member, &requested.facts, fleet.state(), fleet.now())?;
        }
        changes.push(Enroll {
            cert: certificate.digest(),
            challenges: challenges.as_deref().map(Digest::of),
            kind: requested.kind,
            member: requested.member.clone(),
            request: Digest::of(request),
        });
        objects.push(certificate.bytes().to_vec());
    }
    objects.extend(challenges);
    Ok(Draft::with(Act::Enroll(changes), reason, objects))
}

/// Admits whoever asks, if that has not happened yet, and takes the request from those that wait: the statement refers to
/// it as an object, and among the waiting ones it would be offered again. Signs as `only`, or as whoever is here.
///
/// # Errors
/// [`OpsError`]; [`FleetError::Unfinished`], if the admission is in the log and the request could not be taken away.
pub fn grant(
    request: &[u8],
    reason: &str,
    home: &Home,
    fleet: &mut Fleet,
    only: Option<&MemberName>,
    rng: &mut impl CryptoRng,
) -> Result<Vec<Placed>, OpsError> {
    let mut placed = Vec::new();
    if !is_admitted(request, fleet) {
        let draft = admit(request, reason, home, fleet, rng)?;
        placed = carry_out(home, fleet, vec![draft], only)?;
    }
    let made = placed.iter().any(|p| matches!(p, Placed::Logged { .. }));
    let disk = fleet.store().disk();
    disk.remove(&request_path(&Digest::of(request))).map_err(|e| match FleetError::from(e) {
        e if made => FleetError::Unfinished(Box::new(e)),
        e => e,
    })?;
    disk.prune("proposals/requests");
    Ok(placed)
}

/// Whether this request has been granted: a member of the fleet came by it.
pub fn is_admitted(request: &[u8], fleet: &Fleet) -> bool {
    let digest = Digest::of(request);
    fleet.state().members.values().any(|m| m.is_active() && m.request == digest)
}

fn certified(requested: &RequestedMember, home: &Home, fleet: &mut Fleet) -> Result<Certificate, OpsError> {
    let name = &requested.member;
    let own = Certificate::parse(&requested.cert)
        .map_err(|problem| OpsError::Certificate { member: name.clone(), problem })?;
    let policy = std::sync::Arc::clone(&fleet.state().policy.policy);
    let (by, grant) = match requested.kind {
        Kind::Operator | Kind::Service => return Ok(own),
        Kind::Pop => {
            (Kind::Authority, Grant::Pop { fleet: fleet.state().fleet.clone(), pop: name.host_label().clone() })
        }
        Kind::Authority => (
            Kind::Operator,
            Grant::Authority {
                fleet: fleet.state().fleet.clone(),
                amount: amount_for(policy.fleet.vouching_operators),
            },
        ),
    };
    let validity = policy.fleet.certifications.of(requested.kind);
    let mut certificate = own;
    let mut vouched = false;
    for certifier in certifiers(home, fleet, by)? {
        let public = fleet.certificate(&certifier)?;
        if let Some(mut signer) = signing_key(home, &certifier, &public, &public.fingerprint())? {
            certificate = certify(&certificate, &grant, signer.as_mut(), validity, fleet.now())?;
            vouched = true;
        }
    }
    match (vouched, by) {
        (true, _) => Ok(certificate),
        (false, Kind::Authority) => {
            Err(OpsError::NoActor("authority to certify a PoP; run this where one is (casc1, for example)"))
        }
        (false, _) => Err(OpsError::NoActor("operator to certify an authority")),
    }
}

/// The members of `kind` whose private halves are in this home.
pub(super) fn certifiers(home: &Home, fleet: &Fleet, kind: Kind) -> Result<Vec<MemberName>, OpsError> {
    let here = home.members()?;
    Ok(here
        .into_iter()
        .filter(|m| fleet.state().members.get(m).is_some_and(|s| s.is_active() && s.kind == kind))
        .collect())
}

/// The requests that wait in a keyring: path and bytes.
///
/// # Errors
/// [`FleetError`].
pub fn waiting_requests(store: &Store) -> Result<Vec<(String, Vec<u8>)>, FleetError> {
    let mut found = Vec::new();
    for (name, _) in store.disk().list("proposals/requests")?.iter().filter(|(n, _)| n.ends_with(".request")) {
        let path = format!("proposals/requests/{name}");
        match store.read(&path, REQUEST_BYTES_MAX) {
            Ok(bytes) => found.extend(bytes.map(|bytes| (path, bytes))),
            // Too large, or no file: whoever can write here can write nonsense.
            Err(StoreError::Damaged { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(found)
}

/// A request that waits and answers an invitation.
pub(super) struct Invited {
    /// The PoP that asks; none, if it is no PoP's.
    pub pop: Option<MemberName>,
    /// Where it waits.
    pub path: String,
    /// The request file.
    pub bytes: Vec<u8>,
    /// What becomes of it now.
    pub decision: Decision,
}

/// The requests that wait and answer an invitation, each judged as of now.
pub(super) fn invited(fleet: &Fleet) -> Result<Vec<Invited>, OpsError> {
    let mut found = Vec::new();
    for (path, bytes) in waiting_requests(fleet.store())? {
        let Ok(asked) = Asked::parse(&bytes) else { continue };
        if asked.request.invitation.is_none() {
            continue;
        }
        let decision = fleet.state().admission(&asked, fleet.now(), Agreed::ByInvitation);
        found.push(Invited { pop: asked.pop().map(|p| p.member.clone()), path, bytes, decision });
    }
    Ok(found)
}
