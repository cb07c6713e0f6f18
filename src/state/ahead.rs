//! What is found out about entries before their turn, so that the fold need not: how they read, and which of their
//! signatures verify.
//!
//! The fold decides alone. A *fact* says how one signature packet reads and which public key made it over which body, and
//! holds for these alone: the fold compares packet, body and key with what it has before it, in full (a shortened key of a
//! cache has let a signature vouch for what it was never made over, RUSTSEC-2026-0109). Where the fold finds no fact it
//! reads and verifies by itself, so what is missing here costs time and changes nothing; and whether a key counts, for
//! whom and when, no fact says.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::digest::Digest;
use crate::name::FleetName;
use crate::openpgp::{Certificate, Claimed, Fingerprint, PublicKey, StatementSignature, Verifier, same_key};
use crate::statement::{Entry, EntryError, Signed};

/// What is known of one signature line.
#[derive(Debug, Clone)]
struct Fact {
    packet: Vec<u8>,
    signature: Arc<StatementSignature>,
    /// The body that it was verified over, by its digest in full, and the key that made it.
    made: Option<(Digest, Arc<PublicKey>)>,
}

/// What is known of the signature lines of one entry, read for one log.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    log: Arc<str>,
    facts: Vec<Fact>,
}

impl Facts {
    /// How this packet reads as a signature for the log `log`, where that is known.
    pub(super) fn parsed(&self, log: &str, packet: &[u8]) -> Option<Arc<StatementSignature>> {
        let found = self.facts.iter().find(|fact| fact.packet == packet)?;
        (*self.log == *log).then(|| Arc::clone(&found.signature))
    }

    /// Whether it is known that this key made this signature packet over the body of `signed`, for the log `log`.
    pub(super) fn hold(&self, log: &str, key: &PublicKey, signed: &Signed, packet: &[u8]) -> bool {
        let made = |fact: &Fact| fact.made.as_ref().is_some_and(|(id, by)| *id == signed.id && same_key(by, key));
        *self.log == *log && self.facts.iter().any(|fact| fact.packet == packet && made(fact))
    }
}

/// An entry's bytes, and what was found out about them.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(super) bytes: Vec<u8>,
    pub(super) entry: Result<Entry, Arc<EntryError>>,
    pub(super) facts: Facts,
}

impl Prepared {
    /// An entry of which nothing is known but how it reads.
    pub fn plain(bytes: Vec<u8>) -> Self {
        Self { entry: Entry::parse(&bytes).map_err(Arc::new), bytes, facts: Facts::default() }
    }

    /// The entry as it lies in the log.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the entry as it lies in the log away; what it says stays.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The entry as it reads; none if it cannot be read.
    pub fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref().ok()
    }
}

/// Prepares entries of one log with the certificates that it has been told of.
pub struct Preparer {
    fleet: FleetName,
    log: Arc<str>,
    keys: BTreeMap<Fingerprint, Arc<PublicKey>>,
    verifier: Verifier,
}

impl Preparer {
    /// One for the log `log`; `None` if that is no fleet's log.
    pub fn new(log: &str) -> Option<Self> {
        let fleet = log.strip_suffix("/keys/1")?.parse().ok()?;
        Some(Self { fleet, log: log.into(), keys: BTreeMap::new(), verifier: Verifier::default() })
    }

    /// Tells it of a certificate; a later version takes an earlier one's place.
    pub fn learn(&mut self, certificate: &Arc<Certificate>) {
        for key in certificate.cert().keys() {
            self.keys.insert(key.key().fingerprint(), Arc::new(key.key().clone()));
        }
    }

    /// Reads entries and verifies the signatures whose keys are known.
    pub fn prepare(&mut self, entries: &[Vec<u8>]) -> Vec<Prepared> {
        let mut all: Vec<Prepared> = entries.iter().cloned().map(Prepared::plain).collect();
        let lines = all.iter().map(|prepared| match &prepared.entry {
            Ok(entry) => entry.signatures.iter().map(|line| (&entry.signed, line.signature.as_slice())).collect(),
            Err(_) => Vec::new(),
        });
        let facts = self.find_out(&lines.collect::<Vec<_>>());
        for (prepared, facts) in all.iter_mut().zip(facts) {
            prepared.facts = Facts { log: Arc::clone(&self.log), facts };
        }
        all
    }

    /// What there is to find out about the signature packets of several entries.
    fn find_out(&mut self, entries: &[Vec<(&Signed, &[u8])>]) -> Vec<Vec<Fact>> {
        let read =
            |(signed, packet)| Some((signed, packet, StatementSignature::parse(packet, &self.fleet, &self.log).ok()?));
        let read: Vec<Vec<(&Signed, &[u8], StatementSignature)>> =
            entries.iter().map(|lines| lines.iter().copied().filter_map(read).collect()).collect();
        let keys: Vec<Option<&Arc<PublicKey>>> =
            read.iter().flatten().map(|(_, _, signature)| self.keys.get(signature.issuer())).collect();
        let claims = read
            .iter()
            .flatten()
            .zip(&keys)
            .filter_map(|((signed, _, signature), by)| Some(Claimed { signature, by: (*by)?, body: &signed.body }));
        let mut verified = self.verifier.verify(&claims.collect::<Vec<_>>()).into_iter();
        let mut makers = keys.iter().map(|key| key.filter(|_| verified.next().unwrap_or_default()));
        let mut fact = |(signed, packet, signature): (&Signed, &[u8], StatementSignature)| {
            let made = makers.next().flatten().map(|key| (signed.id, Arc::clone(key)));
            Fact { packet: packet.to_vec(), signature: Arc::new(signature), made }
        };
        read.into_iter().map(|lines| lines.into_iter().map(&mut fact).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use sequoia_openpgp::cert::CertBuilder;

    use super::*;
    use crate::openpgp::sign_statement;
    use crate::time::Time;

    const LOG: &str = "cdn.example/keys/1";

    fn statement(reason: &str) -> Signed {
        let text = format!(
            r#"{{"act":"member.retire","at":"2026-11-21T07:00:00Z","by":"alice","changes":[{{"member":"fra1","why":"lost"}}],"exp":"2026-11-28T07:00:00Z","log":"{LOG}","policy":1,"reason":"{reason}","v":1}}"#
        );
        Signed::parse(format!("{text}\n").as_bytes()).unwrap()
    }

    /// A certificate, its signing key, and a signature of that key over `signed`.
    fn made_by(signed: &Signed) -> (Arc<Certificate>, PublicKey, Vec<u8>) {
        let (cert, _) = CertBuilder::new().add_signing_subkey().generate().unwrap();
        let key = cert.keys().subkeys().secret().next().unwrap().key().clone();
        let mut pair = key.clone().into_keypair().unwrap();
        let now = Time::from_system(cert.primary_key().key().creation_time());
        let packet = sign_statement(&mut pair, &"cdn.example".parse().unwrap(), LOG, &signed.body, now).unwrap();
        (Arc::new(Certificate::of(&cert).unwrap()), key.parts_into_public().role_into_unspecified(), packet)
    }

    fn found_out(preparer: &mut Preparer, signed: &Signed, packet: &[u8]) -> Facts {
        let facts = preparer.find_out(&[vec![(signed, packet)]]).pop().unwrap();
        Facts { log: preparer.log.clone(), facts }
    }

    #[test]
    fn a_fact_is_about_one_key_one_body_and_one_packet() {
        let (body, another_body) = (statement("a body"), statement("another"));
        let (certificate, key, packet) = made_by(&body);
        let (other, another, packet_of_other) = made_by(&body);
        let mut preparer = Preparer::new(LOG).unwrap();
        let nothing = found_out(&mut preparer, &body, &packet);
        assert!(nothing.parsed(LOG, &packet).is_some());
        assert!(!nothing.hold(LOG, &key, &body, &packet), "of a key that nobody has shown nothing is known");
        preparer.learn(&certificate);
        let facts = found_out(&mut preparer, &body, &packet);
        assert!(facts.hold(LOG, &key, &body, &packet));
        assert!(!facts.hold(LOG, &key, &another_body, &packet));
        assert!(!facts.hold(LOG, &key, &body, &packet_of_other));
        assert!(!facts.hold(LOG, &another, &body, &packet));
        assert!(!facts.hold("cdn.example/keys/2", &key, &body, &packet), "read for another log");
        assert!(facts.parsed("cdn.example/keys/2", &packet).is_none());
        for at in 0..packet.len() {
            let mut wrong = packet.clone();
            wrong[at] ^= 1;
            assert!(!facts.hold(LOG, &key, &body, &wrong), "byte {at}");
            assert!(facts.parsed(LOG, &wrong).is_none());
        }
        // What does not verify is known only as it reads.
        assert!(!found_out(&mut preparer, &another_body, &packet).hold(LOG, &key, &another_body, &packet));
        preparer.learn(&other);
        assert!(found_out(&mut preparer, &body, &packet_of_other).hold(LOG, &another, &body, &packet_of_other));
        let mut elsewhere = Preparer { log: "cdn.example/keys/2".into(), ..preparer };
        assert!(found_out(&mut elsewhere, &body, &packet).facts.is_empty(), "made for another log");
    }
}
