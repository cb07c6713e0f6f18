//! One certificate as it is given to strangers: bounded, with the owner's newest word on each part, and with third parties'
//! only where the fleet names them. Certificates in the log have wider bounds; here clients of all ages read.

use std::collections::{BTreeMap, BTreeSet};

use sequoia_openpgp as pgp;

use pgp::packet::{Signature, UserID};
use pgp::serialize::MarshalInto as _;
use pgp::types::PublicKeyAlgorithm;
use pgp::{Cert, Fingerprint, KeyHandle, KeyID, Packet};

use crate::limits::{SERVED_CERT_BYTES_MAX, SERVED_CERT_SIGNATURES_MAX, SERVED_CERT_USERIDS_MAX};
use crate::openpgp::{Certificate, armor_certificates};
use crate::text::shown;
use crate::time::Time;

/// Whose certifications of others are given out.
pub type Certifiers = BTreeSet<Fingerprint>;

/// How a certificate's owner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A member.
    Member,
    /// It has left, and its certificate says so itself: it is found by who has its fingerprint, and by nobody's address.
    Revoked,
}

/// A certificate as it is given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The primary key's fingerprint.
    pub fingerprint: Fingerprint,
    /// All keys', the primary's first.
    pub keys: Vec<Fingerprint>,
    /// The certificate, binary.
    pub bytes: Vec<u8>,
    /// The same as text, if it is one that clients of HKP v1 can read: version 4, no post-quantum algorithm.
    pub armored: Option<Vec<u8>>,
    /// Its user ids, as they are.
    pub user_ids: Vec<String>,
    /// The addresses in them, in lower case; none once it is revoked.
    pub addresses: BTreeSet<String>,
    /// The primary key's algorithm, size in bits, time of making, and expiry.
    pub algorithm: u8,
    /// See above.
    pub bits: usize,
    /// See above.
    pub created: Time,
    /// See above.
    pub expires: Option<Time>,
    /// Whether it is revoked.
    pub is_revoked: bool,
}

impl Served {
    /// What is given out of `certificate`; `None` if not even the least of it is within the bounds.
    pub fn of(certificate: &Certificate, standing: Standing, certifiers: &Certifiers, at: Time) -> Option<Self> {
        let cert = certificate.cert();
        let is_revoked = standing == Standing::Revoked || certificate.is_revoked(at);
        let none = Certifiers::new();
        let certifiers = if is_revoked { &none } else { certifiers };
        let mut signatures_max = SERVED_CERT_SIGNATURES_MAX;
        let (bytes, keys, user_ids) = loop {
            let (packets, keys, user_ids) = chosen(cert, certifiers, signatures_max);
            let bytes = write(&packets)?;
            if bytes.len() <= SERVED_CERT_BYTES_MAX {
                break (bytes, keys, user_ids);
            }
            // Post-quantum signatures are large: fewer of them fit.
            signatures_max = Some(signatures_max / 2).filter(|n| *n > 0)?;
        };
        let primary = cert.primary_key().key();
        let is_old = primary.version() == 4 && cert.keys().all(|k| k.key().version() == 4 && is_old(k.key().pk_algo()));
        let armored = if is_old { Some(armor_certificates(&bytes).ok()?) } else { None };
        let addresses = match is_revoked {
            true => BTreeSet::new(),
            false => user_ids.iter().filter_map(address).collect(),
        };
        Some(Self {
            fingerprint: cert.fingerprint(),
            keys,
            bytes,
            armored,
            user_ids: user_ids.iter().map(|u| String::from_utf8_lossy(u.value()).into_owned()).collect(),
            addresses,
            algorithm: primary.pk_algo().into(),
            bits: primary.mpis().bits().unwrap_or_default(),
            created: Time::from_system(primary.creation_time()),
            expires: certificate.alive(at).ok().flatten(),
            is_revoked,
        })
    }
}

/// Whether clients that know RFC 4880 and elliptic curves can read keys of this algorithm.
fn is_old(algorithm: PublicKeyAlgorithm) -> bool {
    use PublicKeyAlgorithm as A;
    #[allow(deprecated, reason = "keys that others made")]
    let old = [A::RSAEncryptSign, A::RSAEncrypt, A::RSASign, A::DSA, A::ElGamalEncrypt, A::ECDH, A::ECDSA, A::EdDSA];
    old.contains(&algorithm)
}

/// The address in a user id, in lower case, if it can be a name in a tree of pages.
fn address(user_id: &UserID) -> Option<String> {
    let address = user_id.email().ok().flatten()?.to_ascii_lowercase();
    super::lookup::is_address(&address).then_some(address)
}

/// The packets that are given out, with at most so many signatures: what the owner takes back first, then what binds, the
/// newest subkeys before older ones, and what others say at the end. A part whose binding has no room is left out with it.
fn chosen(cert: &Cert, certifiers: &Certifiers, signatures_max: usize) -> (Vec<Packet>, Vec<Fingerprint>, Vec<UserID>) {
    let mut left = signatures_max;
    let mut take = |signatures: Vec<&Signature>| -> Vec<Packet> {
        let taken = signatures.into_iter().filter(|s| s.exportable().is_ok()).take(left);
        let taken: Vec<Packet> = taken.cloned().map(Packet::from).collect();
        left -= taken.len();
        taken
    };
    let primary = cert.primary_key();
    let own: Vec<&Signature> = newest(primary.self_revocations()).chain(newest(primary.self_signatures())).collect();
    let of_primary = take(own);
    let user_ids: Vec<_> = cert.userids().filter(|u| u.self_signatures().next().is_some()).collect();
    let mut named: Vec<(UserID, Vec<Packet>)> = Vec::new();
    for user_id in user_ids.iter().take(SERVED_CERT_USERIDS_MAX) {
        let own = take(newest(user_id.self_revocations()).chain(newest(user_id.self_signatures())).collect());
        if !own.is_empty() {
            named.push((user_id.userid().clone(), own));
        }
    }
    let mut subkeys: Vec<_> = cert.keys().subkeys().filter(|k| k.self_signatures().next().is_some()).collect();
    subkeys.sort_by_key(|k| (std::cmp::Reverse(k.key().creation_time()), k.key().fingerprint()));
    let mut bound = Vec::new();
    for subkey in &subkeys {
        let own = newest(subkey.self_signatures()).chain(newest(subkey.self_revocations()));
        let own = take(own.collect());
        // Half of what is said of a key may be the half that matters less.
        if own.len() == 1 + usize::from(subkey.self_revocations().next().is_some()) {
            bound.push((subkey.key().clone(), own));
        }
    }
    for (user_id, packets) in &mut named {
        let Some(full) = user_ids.iter().find(|u| u.userid() == user_id) else { continue };
        let others = full.certifications().chain(full.other_revocations());
        packets.extend(take(of_each(others, certifiers)));
    }
    let mut keys = vec![cert.fingerprint()];
    let mut packets = vec![Packet::from(primary.key().clone())];
    packets.extend(of_primary);
    let names = named.iter().map(|(user_id, _)| user_id.clone()).collect();
    packets.extend(named.into_iter().flat_map(|(user_id, own)| std::iter::once(Packet::from(user_id)).chain(own)));
    for (key, own) in bound {
        keys.push(key.fingerprint());
        packets.push(Packet::from(key));
        packets.extend(own);
    }
    (packets, keys, names)
}

/// The newest of some signatures.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> impl Iterator<Item = &'a Signature> {
    signatures.max_by_key(|s| s.signature_creation_time()).into_iter()
}

/// The newest of each of those whom the fleet names.
fn of_each<'a>(signatures: impl Iterator<Item = &'a Signature>, certifiers: &Certifiers) -> Vec<&'a Signature> {
    let mut by: BTreeMap<&Fingerprint, &Signature> = BTreeMap::new();
    let ids: BTreeMap<KeyID, &Fingerprint> = certifiers.iter().map(|f| (KeyID::from(f), f)).collect();
    for signature in signatures {
        let issuers = signature.get_issuers();
        let Some(issuer) = issuers.iter().find_map(|issuer| match issuer {
            KeyHandle::Fingerprint(fingerprint) => certifiers.get(fingerprint),
            KeyHandle::KeyID(id) => ids.get(id).copied(),
        }) else {
            continue;
        };
        let known = by.entry(issuer).or_insert(signature);
        if known.signature_creation_time() < signature.signature_creation_time() {
            *known = signature;
        }
    }
    by.into_values().collect()
}

fn write(packets: &[Packet]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for packet in packets {
        bytes.extend(packet.export_to_vec().ok()?);
    }
    Some(bytes)
}

impl Served {
    /// What a list says of it, for machines (draft-ietf-openpgp-hkp, "Machine Readable Output").
    pub(super) fn lines(&self) -> String {
        let expires = self.expires.map(|t| t.0.to_string()).unwrap_or_default();
        let (created, flags) = (self.created.0, if self.is_revoked { "r" } else { "" });
        let hex = self.fingerprint.to_hex();
        let mut lines = format!("pub:{hex}:{}:{}:{created}:{expires}:{flags}\n", self.algorithm, self.bits);
        for user_id in &self.user_ids {
            lines.push_str(&format!("uid:{}:{created}:{expires}:{flags}\n", encoded(user_id)));
        }
        lines
    }

    /// The same for HKP v2.
    pub(super) fn json(&self) -> serde_json::Value {
        let user_ids: Vec<serde_json::Value> =
            self.user_ids.iter().map(|u| serde_json::json!({ "uidString": shown(u).to_string() })).collect();
        let version = if self.fingerprint.as_bytes().len() == 20 { 4 } else { 6 };
        serde_json::json!({
            "version": version,
            "fingerprint": self.fingerprint.to_hex().to_ascii_lowercase(),
            "creation": self.created.to_string(),
            "isRevoked": self.is_revoked,
            "userIDs": user_ids,
        })
    }
}

/// Text within a line of a list: nothing in it can be a separator or an end of line.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use pgp::cert::CertBuilder;
    use pgp::packet::signature::SignatureBuilder;
    use pgp::parse::Parse as _;
    use pgp::types::{KeyFlags, SignatureType};

    use super::*;

    fn cert(user_ids: usize, subkeys: usize) -> Cert {
        let mut builder = CertBuilder::new();
        for number in 0..user_ids {
            builder = builder.add_userid(format!("x{number} <x{number}@cdn.example>"));
        }
        for _ in 0..subkeys {
            builder = builder.add_subkey(KeyFlags::empty().set_storage_encryption(), None, None);
        }
        builder.generate().unwrap().0
    }

    /// `subject` with the word of each of these on its first user id.
    fn vouched(subject: &Cert, by: &[Cert]) -> Cert {
        let user_id = subject.userids().next().unwrap().userid().clone();
        let word = |certifier: &Cert| {
            let key = certifier.primary_key().key().clone().parts_into_secret().unwrap();
            SignatureBuilder::new(SignatureType::GenericCertification)
                .sign_userid_binding(&mut key.into_keypair().unwrap(), subject.primary_key().key(), &user_id)
                .unwrap()
        };
        let packets: Vec<Packet> = by.iter().map(|c| word(c).into()).collect();
        subject.clone().insert_packets(std::iter::once(Packet::from(user_id.clone())).chain(packets)).unwrap().0
    }

    fn served(cert: &Cert, certifiers: &[Cert]) -> (Served, Cert) {
        let certificate = Certificate::of(cert).unwrap();
        let certifiers = certifiers.iter().map(Cert::fingerprint).collect();
        let at = Time::from_system(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000));
        let served = Served::of(&certificate, Standing::Member, &certifiers, at).unwrap();
        assert!(served.bytes.len() <= SERVED_CERT_BYTES_MAX);
        let again = Cert::from_bytes(&served.bytes).unwrap();
        assert!(again.bad_signatures().next().is_none());
        (served, again)
    }

    fn words(cert: &Cert) -> usize {
        cert.userids().map(|u| u.certifications().count()).sum()
    }

    #[test]
    fn strangers_have_no_say_and_known_ones_no_more_than_there_is_room_for() {
        let others: Vec<Cert> = (0..70).map(|_| cert(1, 0)).collect();
        let flooded = vouched(&cert(2, 2), &others);
        let (one, again) = served(&flooded, &others[..3]);
        assert_eq!((words(&again), again.keys().count(), again.userids().count()), (3, 3, 2));
        assert_eq!((one.keys.len(), one.addresses.len(), one.armored.is_some()), (3, 2, true));
        let (_, again) = served(&flooded, &others);
        // The owner's own signatures come first: direct key, two user ids, two subkeys.
        assert_eq!((words(&again), again.keys().count()), (SERVED_CERT_SIGNATURES_MAX - 5, 3));
        // Twice by one counts once.
        let twice = vouched(&vouched(&cert(1, 0), &others[..1]), &others[..1]);
        assert_eq!(words(&served(&twice, &others).1), 1);
    }

    #[test]
    fn a_certificate_of_many_subkeys_is_given_out_with_the_newest() {
        let (one, again) = served(&cert(1, 200), &[]);
        assert_eq!(again.keys().subkeys().count() + 2, SERVED_CERT_SIGNATURES_MAX);
        assert_eq!(one.keys.len(), again.keys().count());
    }

    #[test]
    fn what_is_in_a_line_stays_in_it() {
        assert_eq!(encoded("a:b\n\u{1b}[2K \u{202e}é"), "a%3Ab%0A%1B%5B2K%20%E2%80%AE%C3%A9");
    }
}
