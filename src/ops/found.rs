//! Founding a fleet: policy, founders' keys, genesis statement, log.

use std::collections::BTreeMap;

use rand::CryptoRng;

use super::OpsError;
use super::act::signing_key;
use super::join::{Envelope, operator_from_agent};
use crate::digest::Digest;
use crate::disk::Disk;
use crate::enrolment::{Fresh, Setting, sign_request};
use crate::fleet::{Draft, Fleet, FleetError, Placed, Proposal, Sequencer, Signer};
use crate::home::{Home, Pin};
use crate::log::note::SignerKey;
use crate::name::{FleetName, Kind, MemberName, Slot};
use crate::openpgp::{Certificate, CertificateError, Fingerprint, Grant, Profile, amount_for, certify};
use crate::policy::{self, Policy};
use crate::statement::{Act, Enroll, Entry, Facts, Genesis, Request, RequestedMember};
use crate::store::{Store, pending};
use crate::time::Time;
use crate::wireguard::address::random_ula;

/// A founding operator.
#[derive(Debug)]
pub enum Founder {
    /// Keys are made here.
    Here {
        /// The member's name.
        name: MemberName,
        /// The OpenPGP user id: `Alice <alice@ops.example>`.
        user_id: String,
    },
    /// Keys are in a gpg-agent on this machine.
    Agent {
        /// The member's name.
        name: MemberName,
        /// The public certificate.
        certificate: Box<Certificate>,
        /// The agent's socket.
        socket: String,
    },
    /// Keys are elsewhere: the request that was made there.
    Elsewhere(Vec<u8>),
}

/// What is to be founded.
#[derive(Debug)]
pub struct Founding {
    /// The fleet's name.
    pub fleet: FleetName,
    /// Which OpenPGP it speaks.
    pub profile: Profile,
    /// Who founds it; the first has to be here.
    pub founders: Vec<Founder>,
    /// The name of the first authority.
    pub authority: MemberName,
    /// Why; recorded.
    pub reason: String,
}

/// A fleet that has been founded, or waits for its other founders.
#[derive(Debug)]
pub struct Founded {
    /// What identifies it.
    pub pin: Pin,
    /// Where its genesis statement is.
    pub placed: Placed,
    /// The policy's files, by name.
    pub policy: BTreeMap<String, String>,
}

/// Founds a fleet: makes keys in `home`, and the keyring and policy on empty disks.
///
/// Effects in order: keys in the home; attachments; the genesis statement's commit, or its proposal; the policy files;
/// the pin. Run again after a crash it refuses what is not empty, so nothing that was begun is mistaken for done.
///
/// # Errors
/// [`OpsError`].
pub fn found(
    founding: &Founding,
    home: &Home,
    keyring: &Disk,
    policy_disk: &Disk,
    now: Time,
    rng: &mut impl CryptoRng,
) -> Result<Founded, OpsError> {
    super::join::refuse_pinned(home)?;
    let here = founding.founders.iter().filter_map(|f| match f {
        Founder::Here { name, .. } | Founder::Agent { name, .. } => Some(name),
        Founder::Elsewhere(_) => None,
    });
    let here: Vec<&MemberName> = here.chain([&founding.authority]).collect();
    here.iter().try_for_each(|name| super::join::refuse_present(home, name))?;
    let founded = begin(founding, home, keyring, policy_disk, now, rng);
    if founded.is_err() && keyring.walk("").is_ok_and(|files| files.is_empty()) {
        // Nobody has seen these keys; left here they would be in the way of the next attempt.
        here.iter().try_for_each(|name| home.forget(name))?;
    }
    founded
}

fn begin(
    founding: &Founding,
    home: &Home,
    keyring: &Disk,
    policy_disk: &Disk,
    now: Time,
    rng: &mut impl CryptoRng,
) -> Result<Founded, OpsError> {
    for (disk, path) in [(keyring, ""), (policy_disk, "")] {
        if !disk.list(path).map_err(crate::fleet::FleetError::from)?.is_empty() {
            return Err(OpsError::InTheWay(disk.root()));
        }
    }
    home.settle()?;
    let log = format!("{}/keys/1", founding.fleet);
    let setting = Setting { fleet: &founding.fleet, log: &log, profile: founding.profile, now };
    let mut names: Vec<MemberName> = Vec::new();
    for founder in &founding.founders {
        let name = checked(founder, &setting)?;
        if names.contains(&name) {
            return Err(OpsError::Impossible(format!("{name} is named twice among the founders")));
        }
        names.push(name);
    }
    let mut operators = Vec::new();
    for founder in &founding.founders {
        operators.push(operator(founder, home, &setting)?);
    }
    let texts = policy_texts(founding, &names, rng);
    let parsed = Policy::parse(&texts)?;
    let authority = authority(founding, &parsed, home, &operators, &setting, rng)?;
    let mut objects: Vec<Vec<u8>> = texts.values().map(|t| t.clone().into_bytes()).collect();
    let mut members = Vec::new();
    for member in operators.iter().map(|o| &o.joining).chain([&authority]) {
        members.push(Enroll {
            cert: member.certificate.digest(),
            challenges: None,
            kind: member.kind,
            member: member.name.clone(),
            request: Digest::of(&member.request),
        });
        objects.extend([member.certificate.bytes().to_vec(), member.request.clone()]);
    }
    let files = texts.iter().map(|(name, text)| (name.clone(), Digest::of(text.as_bytes()))).collect();
    let genesis = Genesis { fleet: founding.fleet.clone(), members, policy: files };
    let mut signers = operator_signers(home, &operators)?;
    let mut fleet = Fleet::empty(Store::new(keyring.clone()), log.clone(), now);
    let sequencer = Sequencer::from(log_key(home, &authority)?);
    fleet.prepare(Some(&sequencer))?;
    let draft = Draft::with(Act::Genesis(genesis), &founding.reason, objects);
    let placed = fleet.change(vec![draft], &mut signers, Some(&sequencer));
    if !matches!(placed, Err(FleetError::Unfinished(_))) {
        fleet.done();
    }
    let placed = placed?.into_iter().next().ok_or_else(|| OpsError::Impossible("nothing was placed".to_owned()))?;
    for (name, text) in &texts {
        policy_disk.replace(name, text.as_bytes()).map_err(crate::fleet::FleetError::from)?;
    }
    let id = match &placed {
        Placed::Logged { id, .. } | Placed::HandedIn { id } | Placed::Proposed { id, .. } => *id,
    };
    let pin = Pin { fleet: founding.fleet.clone(), id, log };
    home.set_pin(&pin)?;
    Ok(Founded { pin, placed, policy: texts })
}

/// Signs a founding that waits, and completes it where the log's key is. The caller holds the lock.
///
/// Effects in order: the pin, since whoever signs this founding trusts this fleet; then what an interrupted writer has
/// left is finished, and what is still lacking is done.
///
/// # Errors
/// [`OpsError`].
pub fn approve_founding(
    proposal: &Proposal,
    genesis: &Genesis,
    home: &Home,
    fleet: &mut Fleet,
    signers: &mut [Signer],
    sequencer: Option<&Sequencer>,
) -> Result<Vec<Placed>, OpsError> {
    home.settle()?;
    let id = proposal.signed.id;
    // Another founding may lie in the first place of the log; our signature must not publish it.
    if let Some(key) = sequencer
        && let Some(commit) = pending(fleet.store(), None, &[key.verifier()]).map_err(FleetError::from)?
    {
        let found = commit.entries.first().and_then(|e| Entry::parse(e).ok()).map(|e| e.signed.id);
        if let Some(found) = found.filter(|found| *found != id) {
            return Err(FleetError::Pin { found, pinned: id }.into());
        }
    }
    home.set_pin(&Pin { fleet: genesis.fleet.clone(), id, log: proposal.signed.statement.log.clone() })?;
    fleet.prepare(sequencer)?;
    let placed = match sequencer {
        Some(key) if fleet.is_founded() => fleet.absorb(key)?.placed,
        _ => vec![fleet.approve(proposal, signers, sequencer)?],
    };
    fleet.done();
    Ok(placed)
}

/// A founding operator, ready for the genesis.
struct Operator {
    name: MemberName,
    joining: Prepared,
}

/// A member ready for the genesis: its request, and its certificate as it enters the log.
struct Prepared {
    name: MemberName,
    kind: Kind,
    request: Vec<u8>,
    certificate: Certificate,
    keys: Vec<crate::statement::RequestedKey>,
}

impl std::ops::Deref for Operator {
    type Target = Prepared;
    fn deref(&self) -> &Prepared {
        &self.joining
    }
}

/// A founder's name. Whoever cannot be one is refused here, before anything is made.
fn checked(founder: &Founder, setting: &Setting<'_>) -> Result<MemberName, OpsError> {
    let alive = |member: &MemberName, certificate: &Certificate| {
        certificate.alive(setting.now).map_err(bad_certificate(member)).map(|_| member.clone())
    };
    match founder {
        Founder::Here { name, .. } => Ok(name.clone()),
        Founder::Agent { name, certificate, .. } => {
            alive(name, certificate)?;
            operator_from_agent(name, certificate, setting.now).map(|_| name.clone())
        }
        Founder::Elsewhere(bytes) => {
            let (requested, certificate) = requested(bytes, setting)?;
            alive(&requested.member, &certificate)
        }
    }
}

fn bad_certificate(member: &MemberName) -> impl FnOnce(CertificateError) -> OpsError {
    let member = member.clone();
    move |problem| OpsError::Certificate { member, problem }
}

/// What a founder elsewhere asks for.
fn requested(bytes: &[u8], setting: &Setting<'_>) -> Result<(RequestedMember, Certificate), OpsError> {
    let (request, ..) = Request::parse(bytes).map_err(|e| OpsError::Request(e.to_string()))?;
    let [requested] = request.members.as_slice() else {
        return Err(OpsError::Request("is not one operator's".to_owned()));
    };
    if requested.kind != Kind::Operator || request.log != setting.log {
        return Err(OpsError::Request(format!("is not an operator's of the log {}", setting.log)));
    }
    let certificate = Certificate::parse(&requested.cert).map_err(bad_certificate(&requested.member))?;
    Ok((requested.clone(), certificate))
}

fn operator(founder: &Founder, home: &Home, setting: &Setting<'_>) -> Result<Operator, OpsError> {
    let joining = match founder {
        Founder::Here { name, user_id } => {
            let fresh = super::join::make_operator(name, user_id, home, setting)?;
            let certificate = Certificate::of(&fresh.cert).map_err(bad_certificate(name))?;
            let requested = fresh.requested(&certificate, Facts::default(), Vec::new());
            prepared_with_request(home, requested, &certificate, setting)?
        }
        Founder::Agent { name, certificate, socket } => {
            home.set_agent(name, socket)?;
            let requested = operator_from_agent(name, certificate, setting.now)?;
            prepared_with_request(home, requested, certificate, setting)?
        }
        Founder::Elsewhere(bytes) => {
            let (requested, certificate) = requested(bytes, setting)?;
            Prepared {
                name: requested.member,
                kind: Kind::Operator,
                request: bytes.clone(),
                certificate,
                keys: requested.keys,
            }
        }
    };
    Ok(Operator { name: joining.name.clone(), joining })
}

fn prepared_with_request(
    home: &Home,
    requested: RequestedMember,
    certificate: &Certificate,
    setting: &Setting<'_>,
) -> Result<Prepared, OpsError> {
    let (name, kind, keys) = (requested.member.clone(), requested.kind, requested.keys.clone());
    let signing =
        keys.iter().find(|k| k.slot == Slot::Sign && k.active).and_then(|k| Fingerprint::from_hex(&k.key).ok());
    let signing = signing.ok_or(OpsError::NoActor("signing key for the operator"))?;
    let mut signer = signing_key(home, &name, certificate, &signing)?
        .ok_or(OpsError::KeyElsewhere { member: name.clone(), slot: Slot::Sign })?;
    let request = Request::new(setting.now, setting.log.to_owned(), vec![requested]);
    let request = sign_request(&request, &name, signer.as_mut(), setting.fleet, setting.now)?;
    Ok(Prepared { name, kind, request, certificate: certificate.clone(), keys })
}

fn policy_texts(founding: &Founding, operators: &[MemberName], rng: &mut impl CryptoRng) -> BTreeMap<String, String> {
    // Every fleet gets a unique local range of its own (RFC 4193): two that meet one day must not clash.
    let wireguard = policy::wireguard::TEMPLATE.replace(policy::wireguard::TEMPLATE_ULA, &random_ula(rng).to_string());
    [
        (policy::fleet::FILE, policy::fleet::template(&founding.fleet, founding.profile, operators)),
        (policy::secrets::FILE, policy::secrets::TEMPLATE.to_owned()),
        (policy::ssh::FILE, policy::ssh::TEMPLATE.to_owned()),
        (policy::wireguard::FILE, wireguard),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .into()
}

/// Makes the first authority here, certified by every founder who is here.
fn authority(
    founding: &Founding,
    policy: &Policy,
    home: &Home,
    operators: &[Operator],
    setting: &Setting<'_>,
    rng: &mut impl CryptoRng,
) -> Result<Prepared, OpsError> {
    let name = &founding.authority;
    let fresh = Fresh::generate(name, Kind::Authority, policy.fleet.certificates.authority, setting, rng)?;
    home.set_secret_certificate(name, &fresh.cert)?;
    for key in &fresh.private {
        home.set_key(name, key)?;
    }
    let bad_certificate = |problem| OpsError::Certificate { member: name.clone(), problem };
    let own = Certificate::of(&fresh.cert).map_err(bad_certificate)?;
    let grant = Grant::Authority { fleet: founding.fleet.clone(), amount: amount_for(policy.fleet.vouching_operators) };
    let mut certificate = own.clone();
    for operator in operators {
        let primary = operator.certificate.fingerprint();
        if let Some(mut signer) = signing_key(home, &operator.name, &operator.certificate, &primary)? {
            certificate =
                certify(&certificate, &grant, signer.as_mut(), policy.fleet.certifications.authority, setting.now)?;
        }
    }
    let readers: Vec<(&Certificate, &str)> = operators
        .iter()
        .flat_map(|o| o.keys.iter().filter(|k| k.slot == Slot::Openpgp).map(|k| (&o.certificate, k.key.as_str())))
        .collect();
    let revocation = Envelope { fleet: setting.fleet, log: setting.log, profile: setting.profile, now: setting.now }
        .seal_revocation(&fresh, &readers)?;
    let requested = fresh.requested(&own, Facts::default(), revocation);
    let mut prepared = prepared_with_request(home, requested, &own, setting)?;
    prepared.certificate = certificate;
    Ok(prepared)
}

fn operator_signers(home: &Home, operators: &[Operator]) -> Result<Vec<Signer>, OpsError> {
    let mut signers = Vec::new();
    for operator in operators {
        let key = operator
            .keys
            .iter()
            .find(|k| k.slot == Slot::Sign && k.active)
            .and_then(|k| Fingerprint::from_hex(&k.key).ok());
        let Some(fingerprint) = key else { continue };
        if let Some(key) = signing_key(home, &operator.name, &operator.certificate, &fingerprint)? {
            signers.push(Signer { member: operator.name.clone(), key });
        }
    }
    Ok(signers)
}

fn log_key(home: &Home, authority: &Prepared) -> Result<SignerKey, OpsError> {
    let public =
        authority.keys.iter().find(|k| k.slot == Slot::Log && k.active).map(|k| k.key.clone()).unwrap_or_default();
    let text = home.key(&authority.name, Slot::Log, &public)?;
    SignerKey::from_private_text(&text).map_err(|e| OpsError::Impossible(format!("the log key {e}")))
}
