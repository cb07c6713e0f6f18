//! Messages without a signature inside, for what is authenticated from outside: a backup's shares and its body, whose
//! digests a signed manifest names. Any OpenPGP program reads and writes them.

use std::io::{self, Read, Write};

use sequoia_openpgp as pgp;

use pgp::armor;
use pgp::cert::CertBuilder;
use pgp::crypto::SessionKey;
use pgp::packet::{PKESK, SKESK};
use pgp::parse::Parse as _;
use pgp::parse::stream::{
    DecryptionHelper, Decryptor, DecryptorBuilder, MessageLayer, MessageStructure, VerificationHelper,
};
use pgp::policy::StandardPolicy;
use pgp::serialize::stream::{Encryptor, LiteralWriter, Message, Recipient};
use pgp::types::{Features, KeyFlags, SymmetricAlgorithm};
use pgp::{Cert, KeyHandle};
use zeroize::Zeroizing;

use super::message::{OwnKey, PublicKey, SealError, unwrap};
use super::packets::Sealed;
use super::{Doing as _, OpenpgpError, Profile, policy_at};
use crate::name::Kind;
use crate::time::{Span, Time};

/// Encrypts to these keys. v6 keys get what the profile *modern* has, others what gpg 2.2 reads.
///
/// # Errors
/// [`SealError`].
pub fn encrypt(bytes: &[u8], recipients: &[&PublicKey]) -> Result<Vec<u8>, SealError> {
    if recipients.is_empty() {
        return Err(SealError::NoRecipients);
    }
    let modern = recipients.iter().all(|key| key.version() == 6);
    let features = if modern { Features::empty().set_seipdv2() } else { Features::empty().set_seipdv1() };
    let handle = |key: &PublicKey| if modern { KeyHandle::from(key.fingerprint()) } else { key.keyid().into() };
    let recipients = recipients.iter().map(|key| Recipient::new(features.clone(), handle(key), *key));
    let mut out = Vec::new();
    let encryptor =
        Encryptor::for_recipients(Message::new(&mut out), recipients).symmetric_algo(SymmetricAlgorithm::AES256);
    let encryptor = if modern { encryptor.aead_algo(Profile::Modern.aead()) } else { encryptor };
    let message = encryptor.build().doing("encrypt")?;
    let mut literal = LiteralWriter::new(message).build().doing("write a message")?;
    literal.write_all(bytes).map_err(pgp::anyhow::Error::from).doing("encrypt")?;
    literal.finalize().doing("encrypt")?;
    Ok(out)
}

/// Decrypts a message of at most `limit` bytes inside, which has to be intact and may be anybody's.
///
/// # Errors
/// [`SealError`].
pub fn decrypt(bytes: &[u8], own: &mut [OwnKey<'_>], limit: usize) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let sealed = Sealed::parse(bytes)?;
    let (packet, (algorithm, key)) = unwrap(&sealed, own)?;
    let slim = [packet, sealed.body].concat();
    let bad = |e: String| SealError::Decrypt(crate::text::shown(&e).to_string());
    let policy = policy_at(crate::time::LATEST);
    let reader = DecryptorBuilder::from_bytes(&slim)
        .and_then(|b| b.with_policy(&policy, None, Helper { algorithm, key }))
        .map_err(|e| bad(e.to_string()))?;
    let mut inside = Zeroizing::new(Vec::with_capacity(limit.min(slim.len())));
    reader.take(limit as u64 + 1).read_to_end(&mut inside).map_err(|e| bad(e.to_string()))?;
    if inside.len() > limit { Err(SealError::TooLarge) } else { Ok(inside) }
}

/// A message's session key, as gpg writes and takes it: the algorithm's number, a colon, hexadecimal. `None` for a message
/// of the profile *modern*, where it is not the body's key.
///
/// # Errors
/// [`SealError`].
pub fn session_key(bytes: &[u8], own: &mut [OwnKey<'_>]) -> Result<Option<Zeroizing<String>>, SealError> {
    let (_, (algorithm, key)) = unwrap(&Sealed::parse(bytes)?, own)?;
    Ok(algorithm.map(|algorithm| {
        let hex = Zeroizing::new(crate::text::hex(&key));
        Zeroizing::new(format!("{}:{}", u8::from(algorithm), hex.as_str()))
    }))
}

/// A message as text, to be sent by mail.
///
/// # Errors
/// [`OpenpgpError`].
pub fn armor(message: &[u8]) -> Result<Vec<u8>, OpenpgpError> {
    let mut out = armor::Writer::new(Vec::new(), armor::Kind::Message).map_err(Into::into).doing("write a message")?;
    out.write_all(message).map_err(Into::into).doing("write a message")?;
    out.finalize().map_err(Into::into).doing("write a message")
}

/// Certificates as text, one after the other in one block.
///
/// # Errors
/// [`OpenpgpError`].
pub fn armor_certificates(bytes: &[u8]) -> Result<Vec<u8>, OpenpgpError> {
    let doing = "write a certificate";
    let mut out = armor::Writer::new(Vec::new(), armor::Kind::PublicKey).map_err(Into::into).doing(doing)?;
    out.write_all(bytes).map_err(Into::into).doing(doing)?;
    out.finalize().map_err(Into::into).doing(doing)
}

/// The binary form of a message that may have come as text.
///
/// # Errors
/// [`OpenpgpError`].
pub fn dearmor(bytes: &[u8], limit: usize) -> Result<Vec<u8>, OpenpgpError> {
    if !bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Ok(bytes.to_vec());
    }
    let mode = armor::ReaderMode::Tolerant(Some(armor::Kind::Message));
    let mut out = Vec::new();
    let reader = armor::Reader::from_bytes(bytes, mode);
    reader.take(limit as u64).read_to_end(&mut out).map_err(Into::into).doing("read the message")?;
    Ok(out)
}

/// A certificate that is used once, to receive something, with its secrets.
///
/// # Errors
/// [`OpenpgpError`].
pub fn one_time(profile: Profile, user_id: &str, validity: Span, now: Time) -> Result<Cert, OpenpgpError> {
    let flags = KeyFlags::empty().set_storage_encryption().set_transport_encryption();
    let (cert, _) = CertBuilder::new()
        .set_profile(profile.rfc())
        .doing("choose the OpenPGP version")?
        .set_cipher_suite(profile.cipher_suite(Kind::Operator))
        .set_features(profile.features())
        .doing("choose the features")?
        .set_creation_time(now.minus(Span(60)).to_system())
        .set_validity_period(validity.to_duration())
        .add_userid(user_id)
        .add_subkey(flags, None, None)
        .generate()
        .doing("make a certificate")?;
    Ok(cert)
}

/// An AES-256 key for one message; wiped when dropped.
#[derive(Clone)]
pub struct BodyKey(SessionKey);

impl BodyKey {
    /// A new one.
    ///
    /// # Errors
    /// [`OpenpgpError`], if the system gives no random bytes.
    pub fn generate() -> Result<Self, OpenpgpError> {
        SessionKey::new(32).map(Self).doing("make a key")
    }

    /// One of 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 32).then(|| Self(bytes.into()))
    }

    /// Its 32 bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for BodyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BodyKey(..)")
    }
}

/// Encrypts what is written with a key that both sides have, while it is written. [`BodyWriter::finish`] ends it.
pub struct BodyWriter<'a>(Message<'a>);

impl<'a> BodyWriter<'a> {
    /// A message under the AES-256 key `key`, written to `out`.
    ///
    /// # Errors
    /// [`OpenpgpError`].
    pub fn new(key: &[u8], profile: Profile, out: impl Write + Send + Sync + 'a) -> Result<Self, OpenpgpError> {
        let message = Encryptor::with_session_key(Message::new(out), SymmetricAlgorithm::AES256, key.into());
        let mut encryptor = message.doing("encrypt")?;
        if profile == Profile::Modern {
            encryptor = encryptor.aead_algo(profile.aead());
        }
        let message = encryptor.build().doing("encrypt")?;
        Ok(Self(LiteralWriter::new(message).build().doing("encrypt")?))
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`OpenpgpError`].
    pub fn finish(self) -> Result<(), OpenpgpError> {
        self.0.finalize().doing("encrypt")
    }
}

impl Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl std::fmt::Debug for BodyWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BodyWriter(..)")
    }
}

/// Decrypts such a message while it is read. What it gives is known to be whole only once it has given its end.
///
/// # Errors
/// [`SealError`].
pub fn body_reader<'a>(
    key: &[u8],
    profile: Profile,
    policy: &'a StandardPolicy<'a>,
    from: impl Read + Send + Sync + 'a,
) -> Result<impl Read + 'a, SealError> {
    let algorithm = (profile == Profile::Compat).then_some(SymmetricAlgorithm::AES256);
    let helper = Helper { algorithm, key: key.into() };
    let reader: Decryptor<'a, Helper> = DecryptorBuilder::from_reader(from)
        .and_then(|b| b.with_policy(policy, None, helper))
        .map_err(|e| SealError::Decrypt(crate::text::shown(&e.to_string()).to_string()))?;
    Ok(reader)
}

/// Decrypts such a message of at most `limit` bytes inside; it is known to be whole then.
///
/// # Errors
/// [`SealError`].
pub fn open_body(bytes: &[u8], key: &BodyKey, profile: Profile, limit: usize) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let algorithm = (profile == Profile::Compat).then_some(SymmetricAlgorithm::AES256);
    let policy = policy_at(crate::time::LATEST);
    let bad = |e: String| SealError::Decrypt(crate::text::shown(&e).to_string());
    let reader = DecryptorBuilder::from_bytes(bytes)
        .and_then(|b| b.with_policy(&policy, None, Helper { algorithm, key: key.0.clone() }))
        .map_err(|e| bad(e.to_string()))?;
    // One allocation of the full size: a growing buffer would leave copies behind.
    let mut inside = Zeroizing::new(Vec::with_capacity(limit + 1));
    reader.take(limit as u64 + 1).read_to_end(&mut inside).map_err(|e| bad(e.to_string()))?;
    if inside.len() > limit { Err(SealError::TooLarge) } else { Ok(inside) }
}

/// Gives Sequoia's reader the session key.
struct Helper {
    algorithm: Option<SymmetricAlgorithm>,
    key: SessionKey,
}

impl VerificationHelper for Helper {
    fn get_certs(&mut self, _: &[KeyHandle]) -> pgp::Result<Vec<Cert>> {
        Ok(Vec::new())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> pgp::Result<()> {
        match structure.into_iter().next() {
            Some(MessageLayer::Encryption { .. }) => Ok(()),
            _ => Err(pgp::anyhow::anyhow!("it is not encrypted")),
        }
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
        if decrypt(self.algorithm, &self.key) { Ok(None) } else { Err(pgp::anyhow::anyhow!("the key does not fit")) }
    }
}
