//! What a machine makes when it joins: every private key, on the spot, and the request that carries the public halves.
//!
//! The private halves are given to the caller to put into its home; nothing here writes or sends them.

mod cloud;
mod config;

use sequoia_openpgp as pgp;

use pgp::Cert;
use pgp::packet::Signature;
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::log::note::{Note, NoteError, SignatureLine, SignerKey};
use crate::name::{FleetName, Kind, MemberName, Slot};
use crate::openpgp::{self, Certificate, OpenpgpError, Profile, Use};
use crate::ssh::SshPrivateKey;
use crate::statement::{Facts, Request, RequestedKey, RequestedMember, Token, key_hash, principal};
use crate::time::{Span, Time};
use crate::wireguard::{Lane, WgPrivateKey};

pub use cloud::{CONFIG_PATH, CloudError, CloudFormat, Files, Parts, SCRIPT_PATH, UNIT, USER_DATA_BYTES_MAX};
pub use config::{Config, ConfigError};

/// A private key of a slot other than the OpenPGP ones, in the form of its own 0600 file.
pub struct PrivateKey {
    /// The slot.
    pub slot: Slot,
    /// The public half, as the log names it.
    pub public: String,
    /// The lane, for WireGuard.
    pub lane: Option<Lane>,
    /// The file: `wg`'s base64, OpenSSH's private key format, a note signer key. Wiped when dropped.
    pub file: Zeroizing<String>,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({}, {}, ..)", self.slot, self.public)
    }
}

/// Makes a key for `slot`; `None` for the OpenPGP slots, whose keys are subkeys of the certificate.
pub fn private_key(
    slot: Slot,
    lane: Option<Lane>,
    member: &MemberName,
    log: &str,
    rng: &mut impl CryptoRng,
) -> Option<PrivateKey> {
    let (public, file) = match slot {
        Slot::Openpgp | Slot::Sign => return None,
        Slot::Wireguard => {
            let key = WgPrivateKey::generate(rng);
            (key.public().to_string(), key.to_file_text())
        }
        Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa => {
            let key = SshPrivateKey::generate(rng);
            (key.public().to_string(), key.to_openssh(&ssh_comment(slot, member)))
        }
        Slot::Log => {
            let key = SignerKey::generate(log, rng);
            (key.verifier().to_string(), key.to_private_text())
        }
    };
    Some(PrivateKey { slot, public, lane, file })
}

fn ssh_comment(slot: Slot, member: &MemberName) -> crate::ssh::KeyId {
    // A slot's word and a member's name are printable ASCII, which is all that a comment has to be.
    format!("{slot} {member}").parse().expect("names are printable")
}

/// A member that has just been made.
#[derive(Debug)]
pub struct Fresh {
    /// Its name.
    pub member: MemberName,
    /// What it is.
    pub kind: Kind,
    /// Its certificate with all secrets.
    pub cert: Cert,
    /// The certificate's hard revocation.
    pub revocation: Signature,
    /// Its keys, active and standby for each slot.
    pub keys: Vec<RequestedKey>,
    /// The private halves of those that are no subkeys.
    pub private: Vec<PrivateKey>,
}

/// What all members of a fleet have in common.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// The fleet.
    pub fleet: &'a FleetName,
    /// The log's name.
    pub log: &'a str,
    /// Which OpenPGP it speaks.
    pub profile: Profile,
    /// The present.
    pub now: Time,
}

impl Fresh {
    /// Makes a member with an active and a standby key in each slot of its kind.
    ///
    /// # Errors
    /// [`OpenpgpError`].
    pub fn generate(
        member: &MemberName,
        kind: Kind,
        validity: Span,
        setting: &Setting<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, OpenpgpError> {
        let user_id = member.user_id(kind, setting.fleet);
        let made = openpgp::generate(kind, &user_id, setting.fleet, setting.profile, validity, setting.now)?;
        let mut keys: Vec<RequestedKey> = made
            .subkeys
            .iter()
            .map(|(slot, fingerprint, usage)| RequestedKey {
                active: *usage != Use::Standby,
                key: fingerprint.to_hex(),
                lane: None,
                slot: *slot,
            })
            .collect();
        let mut private = Vec::new();
        for &slot in Slot::of(kind) {
            for active in [true, false] {
                let lane = (slot == Slot::Wireguard).then_some(if active { Lane::A } else { Lane::B });
                if let Some(key) = private_key(slot, lane, member, setting.log, rng) {
                    keys.push(RequestedKey { active, key: key.public.clone(), lane, slot });
                    private.push(key);
                }
            }
        }
        Ok(Self { member: member.clone(), kind, cert: made.cert, revocation: made.revocation, keys, private })
    }

    /// The fingerprint of its active signing key, if its kind signs.
    pub fn signing_key(&self) -> Option<openpgp::Fingerprint> {
        let key = self.keys.iter().find(|k| k.slot == Slot::Sign && k.active)?;
        openpgp::Fingerprint::from_hex(&key.key).ok()
    }

    /// Its part of a request. `certificate` is the public certificate: its own, or, for a service, as certified by its
    /// PoP. `revocation` is sealed already.
    pub fn requested(&self, certificate: &Certificate, facts: Facts, revocation: Vec<u8>) -> RequestedMember {
        RequestedMember {
            cert: certificate.bytes().to_vec(),
            facts,
            keys: self.keys.clone(),
            kind: self.kind,
            member: self.member.clone(),
            revocation,
        }
    }
}

/// Signs a request for its `owner` with the owner's signing key; gives the request file.
///
/// # Errors
/// [`OpenpgpError`].
pub fn sign_request(
    request: &Request,
    owner: &MemberName,
    signer: &mut (dyn pgp::crypto::Signer + Send + Sync),
    fleet: &FleetName,
    now: Time,
) -> Result<Vec<u8>, OpenpgpError> {
    let body = request.to_bytes();
    let signature = openpgp::sign_statement(signer, fleet, &request.log, &body, now)?;
    let name = principal(fleet, owner);
    let line = SignatureLine { key_hash: key_hash(&name, &signer.public().fingerprint()), name, signature };
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok(Note { text, signatures: vec![line] }.to_bytes())
}

/// Has the token of an invitation sign a request file, too, in the name of its `owner`.
///
/// # Errors
/// [`NoteError`], if it is no signed request.
pub fn sign_with_token(
    request: &[u8],
    token: &Token,
    owner: &MemberName,
    fleet: &FleetName,
) -> Result<Vec<u8>, NoteError> {
    let mut note = Note::parse(request)?;
    note.signatures.push(token.sign(&principal(fleet, owner), &note.text));
    Ok(note.to_bytes())
}
