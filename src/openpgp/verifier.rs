//! Verifying many signatures of few keys, as a log has them: of a key that signs often the multiples are kept (`crate::ed25519`),
//! and every other signature is left to Sequoia. Either way the same ones verify.

use std::collections::BTreeMap;

use super::PublicKey;
use super::sign::{Numbers, StatementSignature, ed25519_key};
use crate::ed25519::{Claim, Known, hold};

/// Signatures of a key after which its multiples are computed, which takes as long as some twenty checks save.
const SIGNATURES_MIN: usize = 48;
/// Keys whose multiples are kept at a time, 370 KB each.
const KEYS_MAX: usize = 32;

/// A signature, the key that is said to have made it, and over what.
#[derive(Clone, Copy)]
pub struct Claimed<'a> {
    /// The signature.
    pub signature: &'a StatementSignature,
    /// The key.
    pub by: &'a PublicKey,
    /// The body.
    pub body: &'a [u8],
}

/// How well a key is known.
enum Met {
    /// So many signatures of it have been seen.
    Times(usize),
    /// Its multiples, and the turn in which they were needed last.
    Well(Known, u64),
    /// It is no point of the curve.
    Never,
}

/// Verifies signatures, and gets to know the keys that make them.
#[derive(Default)]
pub struct Verifier {
    /// By all that there is to a key.
    keys: BTreeMap<[u8; 32], Met>,
    turn: u64,
}

impl Verifier {
    /// Which of these signatures verify.
    pub fn verify(&mut self, all: &[Claimed<'_>]) -> Vec<bool> {
        let keys: Vec<Option<[u8; 32]>> = all.iter().map(|made| ed25519_key(made.by)).collect();
        keys.iter().flatten().for_each(|key| self.meet(key));
        let numbers: Vec<Option<(&Known, Numbers)>> = all
            .iter()
            .zip(&keys)
            .map(|(made, key)| match self.keys.get(key.as_ref()?)? {
                Met::Well(known, _) => Some((known, made.signature.numbers(made.by, made.body)?)),
                Met::Times(_) | Met::Never => None,
            })
            .collect();
        let claims = numbers.iter().flatten().map(|(key, numbers)| Claim {
            key,
            signature: numbers.signature,
            message: &numbers.digest,
        });
        let mut held = hold(&claims.collect::<Vec<_>>()).into_iter();
        let by_sequoia = |made: &Claimed<'_>| made.signature.verify(made.by, made.body).is_ok();
        let pairs = all.iter().zip(&numbers);
        pairs
            .map(|(made, numbers)| numbers.as_ref().and_then(|_| held.next()).unwrap_or_else(|| by_sequoia(made)))
            .collect()
    }

    /// Notes that there is a signature of this key, and gets to know it if it makes many.
    fn meet(&mut self, key: &[u8; 32]) {
        self.turn += 1;
        match self.keys.entry(*key).or_insert(Met::Times(0)) {
            Met::Well(_, last) => *last = self.turn,
            Met::Never => {}
            Met::Times(times) if *times < SIGNATURES_MIN => *times += 1,
            Met::Times(_) => {
                self.make_room();
                let met = Known::of(key).map_or(Met::Never, |known| Met::Well(known, self.turn));
                self.keys.insert(*key, met);
            }
        }
    }

    /// Forgets the multiples that have not been needed for longest, if there are as many as are kept.
    fn make_room(&mut self) {
        let well = self.keys.iter_mut().filter_map(|(_, met)| match met {
            Met::Well(_, last) => Some((*last, met)),
            Met::Times(_) | Met::Never => None,
        });
        let mut well: Vec<(u64, &mut Met)> = well.collect();
        if well.len() >= KEYS_MAX
            && let Some((_, met)) = well.iter_mut().min_by_key(|(last, _)| *last)
        {
            **met = Met::Times(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use sequoia_openpgp as pgp;

    use pgp::packet::key::{Key4, Key6, SecretParts, UnspecifiedRole};
    use pgp::types::Curve;

    use super::*;
    use crate::name::FleetName;
    use crate::openpgp::sign_statement;
    use crate::time::{Span, Time};

    const LOG: &str = "cdn.example/keys/1";
    type Secret = pgp::packet::Key<SecretParts, UnspecifiedRole>;

    fn now() -> Time {
        Time::parse("2026-11-21T07:00:00Z").unwrap()
    }

    fn fleet() -> FleetName {
        "cdn.example".parse().unwrap()
    }

    fn sign(key: &Secret, body: &[u8], at: Time) -> Vec<u8> {
        sign_statement(&mut key.clone().into_keypair().unwrap(), &fleet(), LOG, body, at).unwrap()
    }

    fn secret_of(kind: &str) -> Secret {
        let created = now().minus(Span::days(1)).to_system();
        let mut key: Secret = match kind {
            "v4" => Key4::generate_ecc(true, Curve::Ed25519).unwrap().into(),
            "v6" => Key6::generate_ed25519().unwrap().into(),
            _ => Key4::generate_ecc(true, Curve::NistP256).unwrap().into(),
        };
        key.set_creation_time(created).unwrap();
        key
    }

    fn is_well_known(verifier: &Verifier, key: &PublicKey) -> bool {
        ed25519_key(key).is_some_and(|key| matches!(verifier.keys.get(&key), Some(Met::Well(..))))
    }

    /// Lets it see so many signatures of a key, and says whether all verified.
    fn show(verifier: &mut Verifier, secret: &Secret, times: usize) -> bool {
        let packet = sign(secret, b"shown\n", now());
        let signature = StatementSignature::parse(&packet, &fleet(), LOG).unwrap();
        let by = secret.clone().take_secret().0;
        (0..times).all(|_| verifier.verify(&[Claimed { signature: &signature, by: &by, body: b"shown\n" }]) == [true])
    }

    #[test]
    fn who_signs_often_is_verified_as_by_sequoia() {
        let stranger = secret_of("v4").take_secret().0;
        for (kind, well) in [("v4", true), ("v6", true), ("nistp256", false)] {
            let secret = secret_of(kind);
            let by: PublicKey = secret.clone().take_secret().0;
            let mut verifier = Verifier::default();
            assert!(show(&mut verifier, &secret, SIGNATURES_MIN));
            assert!(!is_well_known(&verifier, &by), "{kind}");
            assert!(show(&mut verifier, &secret, 1));
            assert_eq!(is_well_known(&verifier, &by), well, "{kind}");
            let packet = sign(&secret, b"body\n", now());
            let mut verdicts = [0; 2];
            let mut judge = |packet: &[u8], by: &PublicKey, body: &[u8]| {
                let signature = StatementSignature::parse(packet, &fleet(), LOG).ok()?;
                let held = verifier.verify(&[Claimed { signature: &signature, by, body }])[0];
                assert_eq!(held, signature.verify(by, body).is_ok(), "{kind}: {packet:02x?}");
                verdicts[usize::from(held)] += 1;
                Some(held)
            };
            assert_eq!(judge(&packet, &by, b"body\n"), Some(true));
            assert_eq!(judge(&packet, &by, b"another\n"), Some(false));
            assert_eq!(judge(&packet, &stranger, b"body\n"), Some(false));
            for at in 0..packet.len() {
                let mut wrong = packet.clone();
                wrong[at] ^= 1;
                judge(&wrong, &by, b"body\n");
            }
            assert!(verdicts[0] > 50, "{verdicts:?}");
        }
    }

    #[test]
    fn a_signature_that_is_older_than_its_key_does_not_verify_however_well_that_is_known() {
        for kind in ["v4", "v6"] {
            let secret = secret_of(kind);
            let mut verifier = Verifier::default();
            assert!(show(&mut verifier, &secret, SIGNATURES_MIN + 1));
            let by = secret.clone().take_secret().0;
            for (days, verifies) in [(0, true), (3, false)] {
                let packet = sign(&secret, b"body\n", now().minus(Span::days(days)));
                let signature = StatementSignature::parse(&packet, &fleet(), LOG).unwrap();
                let held = verifier.verify(&[Claimed { signature: &signature, by: &by, body: b"body\n" }]);
                assert_eq!(held, [verifies], "{kind}, {days} days");
                assert_eq!(signature.numbers(&by, b"body\n").is_some(), verifies);
            }
        }
    }

    #[test]
    fn only_so_many_keys_are_well_known_and_the_one_not_needed_for_longest_is_forgotten() {
        let mut verifier = Verifier::default();
        let secrets: Vec<Secret> = (0..=KEYS_MAX).map(|_| secret_of("v4")).collect();
        let well = |verifier: &Verifier| verifier.keys.values().filter(|met| matches!(met, Met::Well(..))).count();
        let (last, others) = secrets.split_last().unwrap();
        assert!(others.iter().all(|secret| show(&mut verifier, secret, SIGNATURES_MIN + 1)));
        assert_eq!(well(&verifier), KEYS_MAX);
        let public = |secret: &Secret| secret.clone().take_secret().0;
        assert!(show(&mut verifier, &others[0], 1), "so that the next one is the oldest");
        assert!(show(&mut verifier, last, SIGNATURES_MIN + 1));
        assert_eq!(well(&verifier), KEYS_MAX);
        assert!(is_well_known(&verifier, &public(last)) && is_well_known(&verifier, &public(&others[0])));
        assert!(!is_well_known(&verifier, &public(&others[1])));
        assert!(show(&mut verifier, &others[1], 1), "and is verified all the same");
    }
}
