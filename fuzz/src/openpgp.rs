//! Targets for OpenPGP: certificates, statement signatures, sealed messages from without and from within.

use std::io::Write as _;
use std::sync::OnceLock;

use sequoia_openpgp as pgp;

use keys::digest::Digest;
use keys::name::{FleetName, Slot};
use keys::openpgp::{
    Certificate, Envelope, Fingerprint, Profile, Sealed, StatementSignature, material, open, open_raw,
    seal as seal_value, subkey_states,
};
use keys::time::Time;
use pgp::crypto::{Decryptor, SessionKey};
use pgp::packet::key::{Key4, PublicParts, SecretParts, UnspecifiedRole};
use pgp::packet::pkesk::PKESK3;
use pgp::packet::{Key, PKESK, Packet};
use pgp::serialize::SerializeInto as _;
use pgp::serialize::stream::{Encryptor, Message};
use pgp::types::SymmetricAlgorithm;

type SecretKey = Key<SecretParts, UnspecifiedRole>;

/// A time at which the example's certificates are valid.
const NOW: Time = Time(1_798_761_600);
const ORIGIN: &str = "cdn.example/keys/1";

fn fleet() -> FleetName {
    "cdn.example".parse().expect("a fleet's name")
}

/// The bytes of a private key that is nobody's: it follows from a public string.
fn public_seed(what: &str) -> [u8; 32] {
    Digest::of(format!("a public seed, for fuzzing alone: {what}").as_bytes()).0
}

/// The key that opens the sealed inputs, and the one that signed them.
fn key_pair() -> &'static (SecretKey, SecretKey) {
    static KEYS: OnceLock<(SecretKey, SecretKey)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let created = Time(1_767_225_600).to_system();
        let reader = Key4::import_secret_cv25519(&public_seed("reader"), None, None, created);
        let author = Key4::import_secret_ed25519(&public_seed("author"), created);
        (reader.expect("a key").into(), author.expect("a key").into())
    })
}

fn public(key: &SecretKey) -> Key<PublicParts, UnspecifiedRole> {
    key.clone().parts_into_public()
}

fn envelope() -> Envelope {
    Envelope {
        fleet: fleet(),
        origin: ORIGIN.to_owned(),
        address: "nginx@fra1/tls.key".to_owned(),
        version: 1,
        readers: Digest::of(b"readers"),
    }
}

/// A certificate: everything that is asked of one from outside.
pub fn certificate(data: &[u8]) {
    let Ok(certificate) = Certificate::parse(data) else { return };
    assert_eq!(Certificate::parse(certificate.bytes()).as_ref(), Ok(&certificate));
    let user_id = certificate.user_id();
    let _ = (certificate.check(&user_id, NOW), certificate.alive(NOW), certificate.is_revoked(NOW));
    let _ = (certificate.newest_self_signature(), certificate.certified_since(&certificate.fingerprint()));
    let _ = subkey_states(certificate.cert(), &fleet());
    for key in certificate.cert().keys() {
        let _ = material(key.key());
        for slot in [Slot::Openpgp, Slot::Sign, Slot::Log] {
            let _ = certificate.can_serve(&key.key().fingerprint(), slot, NOW);
            let _ = certificate.flagged_key(slot, NOW);
        }
    }
    assert!(
        certificate.succeeds(&certificate, &std::collections::BTreeSet::new()).is_ok(),
        "it is no successor of itself"
    );
    if let Ok(written) = Certificate::of(certificate.cert()) {
        assert_eq!(written.fingerprint(), certificate.fingerprint());
    }
}

/// A statement's signature. It is compared with a key that never signed one.
pub fn signature(data: &[u8]) {
    if let Ok(signature) = StatementSignature::parse(data, &fleet(), ORIGIN) {
        let _ = (signature.issuer(), signature.created());
        assert!(signature.verify(&public(&key_pair().1), b"nobody signed this\n").is_err());
    }
}

/// A sealed file as it lies on a disk or comes from a request: its packets, and opening it.
pub fn sealed(data: &[u8]) {
    if let Ok(sealed) = Sealed::parse(data) {
        let parts: Vec<u8> = sealed.recipients.iter().flat_map(|(_, p)| *p).chain(sealed.body).copied().collect();
        assert_eq!(parts, data);
    }
    let _ = with_own(|own| open_raw(data, own).map(|value| value.len()));
    let author = public(&key_pair().1);
    if let Ok(opened) = with_own(|own| open(data, &envelope(), own, &author)) {
        assert_eq!(opened.value.as_slice(), b"a value", "a forgery");
    }
}

fn with_own<T>(use_key: impl FnOnce(&mut [(Fingerprint, Box<dyn Decryptor>)]) -> T) -> T {
    let pair = key_pair().0.clone().into_keypair().expect("not encrypted");
    let fingerprint = pair.public().fingerprint();
    let pair: Box<dyn Decryptor> = Box::new(pair);
    use_key(&mut [(fingerprint, pair)])
}

/// What somebody sealed who knows only our public key: any bytes, correctly encrypted.
pub fn inside(data: &[u8]) {
    let bytes = encrypt(data);
    let author = public(&key_pair().1);
    if let Ok(opened) = with_own(|own| open(&bytes, &envelope(), own, &author)) {
        assert_eq!(opened.value.as_slice(), b"a value", "a forgery");
    }
    let _ = with_own(|own| open_raw(&bytes, own).map(|value| value.len()));
}

/// Encrypts packets as they are; the session key is public, and so is its one wrapping.
fn encrypt(packets: &[u8]) -> Vec<u8> {
    static RECIPIENT: OnceLock<Vec<u8>> = OnceLock::new();
    let session_key = SessionKey::from(public_seed("session").as_slice());
    let mut out = RECIPIENT
        .get_or_init(|| {
            let pkesk = PKESK3::for_recipient(SymmetricAlgorithm::AES256, &session_key, &public(&key_pair().0));
            Packet::from(PKESK::from(pkesk.expect("an encryption key"))).to_vec().expect("a packet")
        })
        .clone();
    let mut message = Encryptor::with_session_key(Message::new(&mut out), SymmetricAlgorithm::AES256, session_key)
        .and_then(Encryptor::build)
        .expect("an encryptor");
    message.write_all(packets).expect("a write into memory");
    message.finalize().expect("an end");
    out
}

/// What to begin with.
pub mod seeds {
    use pgp::serialize::stream::{LiteralWriter, Signer};

    use super::*;
    use crate::example;

    /// Of [`super::certificate`].
    pub fn certificate() -> Vec<Vec<u8>> {
        let mut all = example::files("keyring/certs");
        all.sort_by_key(Vec::len);
        let last = all.pop();
        all.into_iter().take(3).chain(last).collect()
    }

    /// Of [`super::signature`].
    pub fn signature() -> Vec<Vec<u8>> {
        let entries = example::entries();
        let notes = entries.iter().filter_map(|entry| keys::log::note::Note::parse(entry).ok());
        notes.flat_map(|note| note.signatures).map(|line| line.signature).step_by(20).collect()
    }

    /// Of [`super::sealed`]: one that opens, and two of the example's that do not.
    pub fn sealed() -> Vec<Vec<u8>> {
        let author = key_pair().1.clone().into_keypair().expect("not encrypted");
        let reader = public(&key_pair().0);
        let value = seal_value(b"a value", &envelope(), &[&reader], author, Profile::Compat, NOW).expect("sealed");
        let mut seeds: Vec<_> = example::files("keyring/sealed").into_iter().take(2).collect();
        seeds.push(value);
        seeds
    }

    /// Of [`super::inside`]: a signed value that is not for the envelope, an unsigned literal, and a marker packet.
    pub fn inside() -> Vec<Vec<u8>> {
        let author = key_pair().1.clone().into_keypair().expect("not encrypted");
        let mut signed = Vec::new();
        let message =
            Signer::new(Message::new(&mut signed), author).and_then(|s| s.creation_time(NOW.to_system()).build());
        let mut literal = LiteralWriter::new(message.expect("a signer")).build().expect("a writer");
        literal.write_all(b"another value").expect("a write into memory");
        literal.finalize().expect("an end");
        let mut bare = Vec::new();
        let mut literal = LiteralWriter::new(Message::new(&mut bare)).build().expect("a writer");
        literal.write_all(b"another value").expect("a write into memory");
        literal.finalize().expect("an end");
        vec![signed, bare, vec![0xca, 3, b'P', b'G', b'P']]
    }
}
