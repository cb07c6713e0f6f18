//! Challenges: an authority gives them to whoever joins by invitation, and the machine answers them.

use rand::CryptoRng;

use super::OpsError;
use super::act::signing_key;
use super::admit::certifiers;
use super::open::decryptor;
use crate::digest::Digest;
use crate::fleet::{Draft, Fleet, FleetError};
use crate::home::Home;
use crate::limits::OBJECT_BYTES_MAX;
use crate::name::{Kind, MemberName, Slot};
use crate::openpgp::{Certificate, Envelope, Fingerprint, open_raw, seal};
use crate::statement::{Act, Challenge, Challenges, Confirm, RequestedMember, answer, preamble};
use crate::wireguard::{WgPrivateKey, WgPublicKey};

/// Challenges to each key of these newcomers that others agree on secrets with, by an authority of this home.
pub(super) fn challenge(
    members: &[RequestedMember],
    home: &Home,
    fleet: &mut Fleet,
    rng: &mut impl CryptoRng,
) -> Result<Challenges, OpsError> {
    let authority = certifiers(home, fleet, Kind::Authority)?.into_iter().next();
    let authority = authority.ok_or(OpsError::NoActor("authority to give a newcomer its challenges"))?;
    let mut list = Vec::new();
    for newcomer in members {
        let certificate = Certificate::parse(&newcomer.cert)
            .map_err(|problem| OpsError::Certificate { member: newcomer.member.clone(), problem })?;
        for key in &newcomer.keys {
            let (member, slot, key) = (newcomer.member.clone(), key.slot, key.key.clone());
            // A key that is none, or is not in its certificate, is refused by the fold, which says why.
            let bad = |why: String| OpsError::Request(format!("the {slot} key '{}' of {member} {why}", shown(&key)));
            let (right, sealed) = match slot {
                Slot::Openpgp => {
                    let mut random = [0; 32];
                    rng.fill_bytes(&mut random);
                    let text = preamble(fleet.log(), &member, &key) + &crate::text::hex(&random) + "\n";
                    let fingerprint = Fingerprint::from_hex(&key).ok();
                    let Some(public) = fingerprint.and_then(|f| certificate.key(&f)) else { continue };
                    let envelope = Envelope {
                        fleet: fleet.state().fleet.clone(),
                        origin: fleet.log().to_owned(),
                        address: format!("{member}#challenge"),
                        version: 1,
                        readers: Digest::of(key.as_bytes()),
                    };
                    let own = fleet.certificate(&authority)?;
                    let by = fleet.state().members.get(&authority).and_then(|m| m.active(Slot::Sign));
                    let by = by.and_then(|k| Fingerprint::from_hex(&k.key).ok());
                    let signer = by.map(|by| signing_key(home, &authority, &own, &by)).transpose()?.flatten();
                    let signer = signer.ok_or(OpsError::NoActor("authority to give a newcomer its challenges"))?;
                    let (profile, now) = (fleet.state().policy.policy.fleet.profile, fleet.now());
                    let sealed = seal(text.as_bytes(), &envelope, &[public], signer, profile, now);
                    (answer(text.as_bytes()), sealed.map_err(|e| bad(format!("cannot be sealed to: {e}")))?)
                }
                Slot::Wireguard => {
                    let Ok(public) = key.parse::<WgPublicKey>() else { continue };
                    let pair = WgPrivateKey::generate(rng);
                    (pair.answer(&public, &public), pair.public().to_bytes().to_vec())
                }
                Slot::Sign | Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa | Slot::Log => continue,
            };
            list.push(Challenge { answer: Digest::of(&right.0), key, member, sealed, slot });
        }
    }
    Ok(Challenges::new(list))
}

fn shown(text: &str) -> String {
    crate::text::shown(text).to_string()
}

/// The statement by which the members of one machine answer what they are asked; none if nothing is asked of them.
///
/// # Errors
/// [`OpsError`], also if a private half is not here.
pub(super) fn confirm(members: &[MemberName], home: &Home, fleet: &mut Fleet) -> Result<Option<Draft>, OpsError> {
    let mut changes = Vec::new();
    for member in members {
        let asked = fleet.state().members.get(member).filter(|m| m.is_active()).and_then(|m| m.unconfirmed);
        let Some(digest) = asked else { continue };
        let bytes = fleet.store().object_within(&digest, OBJECT_BYTES_MAX).map_err(FleetError::from)?;
        let bad =
            |problem: String| OpsError::Impossible(format!("the challenges of {member} cannot be answered: {problem}"));
        let list = Challenges::parse(&bytes).map_err(|e| bad(e.to_string()))?;
        let mut answers = Vec::new();
        for challenge in list.of(member) {
            let found = answer_to(challenge, home, fleet)?;
            answers.push(found.map_err(|why| bad(format!("{} key '{}': {why}", challenge.slot, challenge.key)))?);
        }
        changes.push(Confirm { answers, member: member.clone() });
    }
    let told = changes.iter().map(|c| format!("{}: shows that it has its keys", c.member)).collect();
    let draft = |changes| Draft { told, ..Draft::bare(Act::Confirm(changes), "joined") };
    Ok((!changes.is_empty()).then_some(changes).map(draft))
}

/// The answer to one challenge. It is given to nothing but what a challenge is: whoever could have other messages opened would
/// read secrets.
fn answer_to(challenge: &Challenge, home: &Home, fleet: &mut Fleet) -> Result<Result<Digest, String>, OpsError> {
    let Challenge { key, member, sealed, slot, .. } = challenge;
    let missing = || Ok(Err("its private half is not here".to_owned()));
    match slot {
        Slot::Openpgp => {
            let Ok(fingerprint) = Fingerprint::from_hex(key) else { return missing() };
            let Some(own) = decryptor(home, member, &fingerprint, fleet)? else { return missing() };
            let text = match open_raw(sealed, &mut [(fingerprint, own)]) {
                Ok(text) => text,
                Err(e) => return Ok(Err(e.to_string())),
            };
            let random = text.strip_prefix(preamble(fleet.log(), member, key).as_bytes());
            let is_one = random.is_some_and(|random| random.len() == 65 && random.ends_with(b"\n"));
            Ok(if is_one { Ok(answer(&text)) } else { Err("what is sealed to it is no challenge".to_owned()) })
        }
        Slot::Wireguard => {
            let Ok(text) = home.key(member, *slot, key) else { return missing() };
            let Ok(own) = WgPrivateKey::from_file_text(&text) else { return missing() };
            let pair = <[u8; 32]>::try_from(sealed.as_slice()).ok().and_then(|b| WgPublicKey::from_bytes(b).ok());
            let Some(pair) = pair else { return Ok(Err("its challenge is no public key".to_owned())) };
            Ok(Ok(own.answer(&pair, &own.public())))
        }
        Slot::Sign | Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa | Slot::Log => {
            Ok(Err("no key of this slot is asked".to_owned()))
        }
    }
}
