//! Opening a secret.

use sequoia_openpgp as pgp;

use pgp::crypto::Decryptor;
use zeroize::Zeroizing;

use super::OpsError;
use super::seal::shape_in;
use crate::fleet::Fleet;
use crate::formats::{Format, Shape};
use crate::gpg_agent::{Agent, AgentDecryptor};
use crate::home::Home;
use crate::name::{Address, Glob, MemberName};
use crate::openpgp::{Envelope, Fingerprint, SealError, Sealed};
use crate::state::{LiveSecret, State};
use crate::time::Time;

/// A secret, opened.
pub struct Opened {
    /// The value; wiped when dropped.
    pub value: Zeroizing<Vec<u8>>,
    /// Its version.
    pub version: u64,
    /// Who sealed it.
    pub author: MemberName,
    /// When.
    pub sealed: Time,
    /// Whose compromise burned it, if it is burned.
    pub burned: Option<MemberName>,
    /// Its format, if it is a structured file whose shape is readable.
    pub format: Option<Format>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened(version {}, ..)", self.version)
    }
}

/// The secrets that `pattern` means: the one with that address, else all whose addresses it matches.
///
/// # Errors
/// [`OpsError::NoSecret`] and [`OpsError::NoSecrets`], if there is none.
pub fn select(pattern: &str, state: &State) -> Result<Vec<Address>, OpsError> {
    // The address of a shared secret looks like a pattern.
    if let Ok(address) = pattern.parse::<Address>()
        && (state.live_secrets().any(|(a, _)| *a == address) || !address.is_shared())
    {
        return state.live_secret(&address).map(|_| vec![address.clone()]).ok_or(OpsError::NoSecret(address));
    }
    let glob: Glob = pattern.parse()?;
    let found: Vec<Address> =
        state.live_secrets().map(|(a, _)| a).filter(|a| glob.matches(&a.to_string())).cloned().collect();
    if found.is_empty() { Err(OpsError::NoSecrets(pattern.to_owned())) } else { Ok(found) }
}

/// Opens the secret at `address` with whatever key of this home is a recipient (`only` picks the member). The file has to
/// be the one that the log has, signed inside by the author that the log names, for this address and version.
///
/// # Errors
/// [`OpsError`]; [`SealError::NotForUs`] if no key here is a recipient.
pub fn open(address: &Address, only: Option<&MemberName>, home: &Home, fleet: &mut Fleet) -> Result<Opened, OpsError> {
    let state = fleet.state();
    let live = state.live_secret(address).cloned().ok_or_else(|| OpsError::NoSecret(address.clone()))?;
    let version = state.secrets.get(address).map_or(0, |s| s.version);
    let file = fleet.store().sealed(address, &live.file).map_err(crate::fleet::FleetError::from)?;
    open_checked(address, version, &live, &file, only, home, fleet)
}

/// Opens a file that was the secret's once: `live` is the secret as it was then.
///
/// # Errors
/// [`OpsError`].
pub fn open_version(
    address: &Address,
    version: u64,
    live: &LiveSecret,
    file: &[u8],
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Opened, OpsError> {
    open_checked(address, version, live, file, None, home, fleet)
}

fn open_checked(
    address: &Address,
    version: u64,
    live: &LiveSecret,
    file: &[u8],
    only: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Opened, OpsError> {
    match live.parts.len() {
        0 => open_file(address, version, live, file, only, home, fleet),
        parts => Err(OpsError::Large { address: address.clone(), parts }),
    }
}

/// Opens a sealed file: the value, or of a large one the list of its parts.
pub(super) fn open_file(
    address: &Address,
    version: u64,
    live: &LiveSecret,
    file: &[u8],
    only: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Opened, OpsError> {
    let state = fleet.state();
    let envelope = Envelope {
        fleet: state.fleet.clone(),
        origin: state.log.clone(),
        address: address.to_string(),
        version,
        readers: live.readers_signed,
    };
    let mut own = decryptors(live, only, home, fleet)?;
    let failed = |source| OpsError::Seal { address: address.clone(), source };
    if own.is_empty() {
        return Err(failed(SealError::NotForUs));
    }
    let author_key = Fingerprint::from_hex(&live.author_key).map_err(|_| failed(SealError::Signature))?;
    let unknown = || failed(SealError::Signature);
    let certificate = fleet.signing_certificate(&live.author_key)?.ok_or_else(unknown)?;
    let key = certificate.key(&author_key).ok_or_else(unknown)?;
    let opened = crate::openpgp::open(file, &envelope, &mut own, key).map_err(failed)?;
    // What everybody reads of it is what its author saw.
    let shape = shape_in(address, live, fleet)?;
    if let Some(shape) = &shape {
        let differs = || OpsError::Misshapen { address: address.clone() };
        if Shape::of(shape.format, &opened.value).map_err(|_| differs())? != *shape {
            return Err(differs());
        }
    }
    Ok(Opened {
        value: opened.value,
        version,
        author: live.author.clone(),
        sealed: opened.signed,
        burned: live.burned.as_ref().map(|(_, by)| by.clone()),
        format: shape.map(|shape| shape.format),
    })
}

/// Opens a message that somebody else made for a key of this home: one that need not be signed inside. `None` if it is for
/// other keys, or its recipients are not named.
///
/// # Errors
/// [`OpsError`].
pub fn open_foreign(
    message: &[u8],
    limit: usize,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Option<Zeroizing<Vec<u8>>>, OpsError> {
    let Ok(sealed) = Sealed::parse(message) else { return Ok(None) };
    for member in home.members()? {
        let keys = fleet.state().encryption_keys(&member).filter_map(|k| Fingerprint::from_hex(k).ok());
        let is_meant = |f: &Fingerprint| sealed.recipients.iter().any(|(h, _)| h.aliases(pgp::KeyHandle::from(f)));
        for fingerprint in keys.filter(is_meant).collect::<Vec<_>>() {
            let Some(key) = decryptor(home, &member, &fingerprint, fleet)? else { continue };
            let opened = crate::openpgp::decrypt(message, &mut [(fingerprint, key)], limit);
            return opened.map(Some).map_err(|e| OpsError::Impossible(e.to_string()));
        }
    }
    Ok(None)
}

/// A key of this home and what decrypts with it.
pub(super) type OwnKey = (Fingerprint, Box<dyn Decryptor>);

/// The keys of this home that a secret is sealed to.
pub(super) fn decryptors(
    live: &LiveSecret,
    only: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Vec<OwnKey>, OpsError> {
    let mut own: Vec<OwnKey> = Vec::new();
    let here = home.members()?;
    for (member, keys) in live.readers.iter().filter(|(m, _)| here.contains(m) && only.is_none_or(|o| o == *m)) {
        for fingerprint in keys.iter().filter_map(|k| Fingerprint::from_hex(k).ok()) {
            if let Some(key) = decryptor(home, member, &fingerprint, fleet)? {
                own.push((fingerprint, key));
            }
        }
    }
    Ok(own)
}

/// What decrypts with one key of a member: its secret in the home, or the gpg-agent that the home names.
pub(super) fn decryptor(
    home: &Home,
    member: &MemberName,
    fingerprint: &Fingerprint,
    fleet: &mut Fleet,
) -> Result<Option<Box<dyn Decryptor>>, OpsError> {
    if let Some(pair) = home.key_pair(member, fingerprint)? {
        return Ok(Some(Box::new(pair)));
    }
    let Some(socket) = home.agent(member)? else { return Ok(None) };
    let certificate = fleet.certificate(member)?;
    let Some(key) = certificate.key(fingerprint) else { return Ok(None) };
    let problem = |e: crate::gpg_agent::AgentError| OpsError::Impossible(format!("gpg-agent, for {member}: {e}"));
    let agent = Agent::connect(std::path::Path::new(&socket)).map_err(problem)?;
    Ok(Some(Box::new(AgentDecryptor::new(agent, key).map_err(problem)?)))
}
