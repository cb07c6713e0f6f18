//! Sealed messages: signed, then encrypted, so that the author is known before anything is used.
//!
//! The inner signature carries the address, the version, the readers and the log in hashed notations: a file that was
//! moved, swapped, re-addressed or rolled back does not open. The outer recipients can be exchanged ([`reseal`]) while
//! the body stays byte for byte.

use std::io::{Read as _, Write as _};

use sequoia_openpgp as pgp;

use pgp::crypto::{Decryptor as KeyDecryptor, SessionKey, Signer as KeySigner};
use pgp::packet::key::{PublicParts, UnspecifiedRole};
use pgp::packet::pkesk::PKESK6;
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::signature::subpacket::NotationDataFlags;
use pgp::packet::{Key, PKESK, Packet, SKESK, Signature};
use pgp::parse::Parse as _;
use pgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationError, VerificationHelper,
};
use pgp::serialize::Serialize as _;
use pgp::serialize::stream::{Encryptor, LiteralWriter, Message, Recipient, Signer};
use pgp::types::{Features, SignatureType, SymmetricAlgorithm};
use pgp::{Cert, Fingerprint, KeyHandle};
use zeroize::Zeroizing;

use super::packets::{PacketError, Sealed};
use super::profile::{HASH, notation_name};
use super::wrap::Wraps;
use super::{Doing as _, OpenpgpError, Profile, policy_at};
use crate::digest::Digest;
use crate::limits::SECRET_BYTES_MAX;
use crate::name::FleetName;
use crate::time::Time;

/// A public key as Sequoia has it.
pub type PublicKey = Key<PublicParts, UnspecifiedRole>;
/// A key's fingerprint, and whatever decrypts with it.
pub type OwnKey<'a> = (Fingerprint, Box<dyn KeyDecryptor + 'a>);

/// What the author signs along with the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The fleet, for the notations' names.
    pub fleet: FleetName,
    /// The log's name.
    pub origin: String,
    /// The secret's address.
    pub address: String,
    /// Its version, from 1.
    pub version: u64,
    /// The digest of the readers it was sealed for.
    pub readers: Digest,
}

impl Envelope {
    fn notations(&self) -> [(String, String); 4] {
        let name = |what| notation_name(what, &self.fleet);
        [
            (name("address"), self.address.clone()),
            (name("version"), self.version.to_string()),
            (name("readers"), self.readers.to_string()),
            (name("log"), self.origin.clone()),
        ]
    }
}

/// Why a secret cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Sequoia refused.
    #[error(transparent)]
    Openpgp(#[from] OpenpgpError),
    /// The file is not a sealed message.
    #[error("the sealed file {0}")]
    Packets(#[from] PacketError),
    /// Nobody to seal to.
    #[error("there is no key to seal to")]
    NoRecipients,
    /// The value is empty, which is what a broken pipe delivers.
    #[error("the value is empty")]
    Empty,
    /// The value is too large to hold in memory.
    #[error("the value has more than {SECRET_BYTES_MAX} bytes")]
    TooLarge,
    /// None of the keys at hand is a recipient.
    #[error("it is sealed to other keys")]
    NotForUs,
    /// The encrypted body was changed, or the key does not fit.
    #[error("it does not decrypt: {0}")]
    Decrypt(String),
    /// The inside is not what we seal: exactly one signature over exactly one literal.
    #[error("its inside is not one signed value")]
    Structure,
    /// The signature is not the expected author's.
    #[error("it was not signed by {expected} but by {found}")]
    Author {
        /// The author the log names.
        expected: String,
        /// Who signed.
        found: String,
    },
    /// The signature is false.
    #[error("its signature does not verify")]
    Signature,
    /// The signature is for something else.
    #[error("it was sealed as '{found}', not as '{expected}' (notation {notation})")]
    Envelope {
        /// Which notation differs.
        notation: String,
        /// What was expected.
        expected: String,
        /// What is there, made safe to show.
        found: String,
    },
}

/// Seals `value` to `recipients` as `envelope`, signed by `author` at `now`.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    value: &[u8],
    envelope: &Envelope,
    recipients: &[&PublicKey],
    author: impl KeySigner + Send + Sync,
    profile: Profile,
    now: Time,
) -> Result<Vec<u8>, SealError> {
    seal_with(&mut Wraps::default(), value, envelope, recipients, author, profile, now)
}

/// The same, as one of many messages of a command: the key agreements with their readers are made once.
///
/// # Errors
/// [`SealError`].
pub fn seal_with(
    wraps: &mut Wraps,
    value: &[u8],
    envelope: &Envelope,
    recipients: &[&PublicKey],
    author: impl KeySigner + Send + Sync,
    profile: Profile,
    now: Time,
) -> Result<Vec<u8>, SealError> {
    if recipients.is_empty() {
        return Err(SealError::NoRecipients);
    }
    if value.is_empty() {
        return Err(SealError::Empty);
    }
    if value.len() > SECRET_BYTES_MAX {
        return Err(SealError::TooLarge);
    }
    let human = NotationDataFlags::empty().set_human_readable();
    let mut template = SignatureBuilder::new(SignatureType::Binary).set_hash_algo(HASH);
    for (name, text) in envelope.notations() {
        template = template.set_notation(name, text, human.clone(), false).doing("describe a secret")?;
    }
    let mut out = Vec::new();
    let encryptor = match profile {
        Profile::Compat => {
            let session_key = SessionKey::new(32).doing("make a key")?;
            for key in recipients {
                write_pkesk(&mut out, wraps.pkesk(key, &session_key, SymmetricAlgorithm::AES256)?)?;
            }
            let message = Message::new(&mut out);
            Encryptor::with_session_key(message, SymmetricAlgorithm::AES256, session_key).doing("encrypt")?
        }
        Profile::Modern => {
            let features = Features::empty().set_seipdv2();
            let handle = |key: &PublicKey| KeyHandle::from(key.fingerprint());
            let recipients = recipients.iter().map(|key| Recipient::new(features.clone(), handle(key), *key));
            let encryptor = Encryptor::for_recipients(Message::new(&mut out), recipients);
            encryptor.symmetric_algo(SymmetricAlgorithm::AES256).aead_algo(profile.aead())
        }
    };
    let message = encryptor.build().doing("encrypt")?;
    let message = Signer::with_template(message, author, template)
        .doing("sign")?
        .creation_time(now.to_system())
        .build()
        .doing("sign")?;
    let mut literal = LiteralWriter::new(message).build().doing("write a secret")?;
    literal.write_all(value).map_err(pgp::anyhow::Error::from).doing("encrypt")?;
    literal.finalize().doing("encrypt")?;
    Ok(out)
}

/// A secret, opened, its author verified.
pub struct Opened {
    /// The value; wiped when dropped.
    pub value: Zeroizing<Vec<u8>>,
    /// When it was signed.
    pub signed: Time,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened(..)")
    }
}

/// Opens `bytes` with `own` (a key's fingerprint and whatever decrypts with it; the first that is a recipient serves)
/// and checks that `author` signed it as `envelope`. Nothing is returned before everything is checked.
///
/// # Errors
/// [`SealError`].
pub fn open(
    bytes: &[u8],
    envelope: &Envelope,
    own: &mut [(Fingerprint, Box<dyn KeyDecryptor + '_>)],
    author: &PublicKey,
) -> Result<Opened, SealError> {
    let sealed = Sealed::parse(bytes)?;
    let (value, signature) = decrypt(&sealed, own)?;
    let found = signature.issuer_fingerprints().next().map(ToString::to_string).unwrap_or_else(|| "nobody".to_owned());
    if found != author.fingerprint().to_string() {
        return Err(SealError::Author { expected: author.fingerprint().to_string(), found });
    }
    signature.verify_document(author).map_err(|_| SealError::Signature)?;
    if signature.typ() != SignatureType::Binary {
        return Err(SealError::Structure);
    }
    for (name, expected) in envelope.notations() {
        let texts: Vec<&[u8]> = signature.notation(&name).collect();
        if texts != [expected.as_bytes()] {
            let found = texts
                .iter()
                .map(|t| crate::text::shown(&String::from_utf8_lossy(t)).to_string())
                .collect::<Vec<_>>()
                .join(", ");
            return Err(SealError::Envelope { notation: name, expected, found });
        }
    }
    let signed = signature.signature_creation_time().map(Time::from_system).ok_or(SealError::Structure)?;
    Ok(Opened { value, signed })
}

/// Opens a message that only has to be intact, not authored: what a member sealed about itself at its enrolment.
///
/// # Errors
/// [`SealError`].
pub fn open_raw(
    bytes: &[u8],
    own: &mut [(Fingerprint, Box<dyn KeyDecryptor + '_>)],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    Ok(decrypt(&Sealed::parse(bytes)?, own)?.0)
}

/// Seals the same body to other recipients. Needs one key that opens it now; never decrypts the body.
///
/// # Errors
/// [`SealError`].
pub fn reseal(
    bytes: &[u8],
    own: &mut [(Fingerprint, Box<dyn KeyDecryptor + '_>)],
    recipients: &[&PublicKey],
) -> Result<Vec<u8>, SealError> {
    reseal_with(&mut Wraps::default(), bytes, own, recipients)
}

/// The same, as one of many messages of a command: the key agreements with their readers are made once.
///
/// # Errors
/// [`SealError`].
pub fn reseal_with(
    wraps: &mut Wraps,
    bytes: &[u8],
    own: &mut [(Fingerprint, Box<dyn KeyDecryptor + '_>)],
    recipients: &[&PublicKey],
) -> Result<Vec<u8>, SealError> {
    if recipients.is_empty() {
        return Err(SealError::NoRecipients);
    }
    let sealed = Sealed::parse(bytes)?;
    let (_, (algorithm, session_key)) = unwrap(&sealed, own)?;
    let mut out = Vec::with_capacity(bytes.len());
    for key in recipients {
        let pkesk: PKESK = match algorithm {
            Some(algorithm) => wraps.pkesk(key, &session_key, algorithm)?,
            None => PKESK6::for_recipient(&session_key, key).doing("seal to a key")?.into(),
        };
        write_pkesk(&mut out, pkesk)?;
    }
    out.extend_from_slice(sealed.body);
    Ok(out)
}

fn write_pkesk(out: &mut Vec<u8>, pkesk: PKESK) -> Result<(), OpenpgpError> {
    Packet::from(pkesk).serialize(out).doing("write a recipient")
}

type Unwrapped = (Option<SymmetricAlgorithm>, SessionKey);

/// Finds the PKESK of one of our keys, and the session key in it. Keys are looked up by id, so that a hundred
/// recipients cost no more than one.
pub(super) fn unwrap<'a>(
    sealed: &Sealed<'a>,
    own: &mut [(Fingerprint, Box<dyn KeyDecryptor + '_>)],
) -> Result<(&'a [u8], Unwrapped), SealError> {
    let mut failed = None;
    for (handle, packet) in &sealed.recipients {
        let Some((_, key)) = own.iter_mut().find(|(f, _)| handle.aliases(KeyHandle::from(f))) else { continue };
        let Ok(Packet::PKESK(pkesk)) = Packet::from_bytes(packet) else { return Err(PacketError::Framing.into()) };
        match pkesk.decrypt(key.as_mut(), None) {
            Some(found) => return Ok((packet, found)),
            None => failed = Some(handle.to_string()),
        }
    }
    Err(match failed {
        Some(handle) => SealError::Decrypt(format!("the key {handle} does not open its own copy of the session key")),
        None => SealError::NotForUs,
    })
}

/// Decrypts the body; gives the value and the one signature inside, not yet verified against a key but with its digest.
fn decrypt(
    sealed: &Sealed<'_>,
    own: &mut [(Fingerprint, Box<dyn KeyDecryptor + '_>)],
) -> Result<(Zeroizing<Vec<u8>>, Signature), SealError> {
    let (packet, unwrapped) = unwrap(sealed, own)?;
    let slim = [packet, sealed.body].concat();
    let bad = |e: pgp::anyhow::Error| match e.downcast_ref::<Structure>() {
        Some(Structure) => SealError::Structure,
        None => SealError::Decrypt(crate::text::shown(&e.to_string()).to_string()),
    };
    // The policy judges algorithms only; whose signature it is we verify ourselves, by fingerprint.
    let policy = policy_at(crate::time::LATEST);
    let helper = Helper { unwrapped, signature: None };
    let mut reader =
        DecryptorBuilder::from_bytes(&slim).and_then(|b| b.with_policy(&policy, None, helper)).map_err(bad)?;
    let mut value = Zeroizing::new(Vec::with_capacity(slim.len()));
    let limit = SECRET_BYTES_MAX as u64 + 1;
    (&mut reader).take(limit).read_to_end(&mut value).map_err(|e| bad(pgp::anyhow::Error::from(e)))?;
    if value.len() > SECRET_BYTES_MAX {
        return Err(SealError::TooLarge);
    }
    let signature = reader.into_helper().signature.ok_or(SealError::Structure)?;
    Ok((value, signature))
}

/// Marks the one error of ours that passes through Sequoia's reader.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("not one signed value")]
struct Structure;

/// Gives Sequoia's reader the session key and takes the signature from it.
struct Helper {
    unwrapped: Unwrapped,
    signature: Option<Signature>,
}

impl VerificationHelper for Helper {
    /// No certificates: the reader then hands us the signature with its computed digest instead of judging it.
    fn get_certs(&mut self, _: &[KeyHandle]) -> pgp::Result<Vec<Cert>> {
        Ok(Vec::new())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> pgp::Result<()> {
        let layers: Vec<MessageLayer<'_>> = structure.into_iter().collect();
        let [MessageLayer::Encryption { .. }, MessageLayer::SignatureGroup { results }] = layers.as_slice() else {
            return Err(Structure.into());
        };
        let [Err(VerificationError::MissingKey { sig })] = results.as_slice() else { return Err(Structure.into()) };
        self.signature = Some((*sig).clone());
        Ok(())
    }
}

impl DecryptionHelper for Helper {
    fn decrypt(
        &mut self,
        _: &[PKESK],
        _: &[SKESK],
        _: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
    ) -> pgp::Result<Option<Cert>> {
        let (algorithm, session_key) = &self.unwrapped;
        if decrypt(*algorithm, session_key) { Ok(None) } else { Err(pgp::anyhow::anyhow!("the body was changed")) }
    }
}
