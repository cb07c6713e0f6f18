//! How far a machine has come that joins by an invitation: told from its home and the log, never from a note of its own.
//! So whatever interrupts it, the next run goes on where it was.

use super::OpsError;
use super::join::saved_request;
use crate::digest::Digest;
use crate::fleet::Fleet;
use crate::home::Home;
use crate::log::note::VerifierKey;
use crate::name::MemberName;
use crate::words::words;

words! {
    /// How far a machine has come.
    Stage, "a stage of joining":
    /// It has no keys.
    New = "new",
    /// It has keys and a request, which the log does not have.
    Keyed = "keyed",
    /// The log has it, and not yet its answers to the challenges that it was given.
    Enrolled = "enrolled",
    /// The log has all that it has to have.
    Confirmed = "confirmed",
    /// It has done what it owes, too.
    Ready = "ready",
}

/// How far the machine of this home has come as `member`.
///
/// # Errors
/// [`OpsError`].
pub fn stage(member: &MemberName, home: &Home, fleet: &Fleet) -> Result<Stage, OpsError> {
    let found = fleet.state().members.get(member).map(AsRef::as_ref);
    let own = home.secret_certificate(member)?.map(|cert| cert.fingerprint());
    if found.is_some_and(|m| m.is_active() && Some(&m.fingerprint) == own.as_ref()) {
        let mut all = found.into_iter().chain(fleet.state().services(member).map(|(_, service)| service));
        return Ok(if all.all(|m| m.may_read()) { Stage::Confirmed } else { Stage::Enrolled });
    }
    // A request of an earlier life was granted once, and is none that waits.
    let waits = saved_request(home, member)?.is_some_and(|r| found.is_none_or(|m| m.request != Digest::of(&r)));
    Ok(if waits && own.is_some() { Stage::Keyed } else { Stage::New })
}

/// Whether one of `keys` has signed the head that the fleet was opened at: the second pin, beside the fleet's id, where a
/// machine meets the log for the first time. No keys are no such pin.
pub fn is_signed_by(keys: &[VerifierKey], fleet: &Fleet) -> bool {
    let Some(head) = fleet.published().filter(|_| !keys.is_empty()) else { return keys.is_empty() };
    keys.iter().any(|key| head.note.is_signed_by(key))
}
