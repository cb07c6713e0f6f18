//! Ed25519 (RFC 8032, section 5.1.7) with a key that has signed much: multiples of the key are computed once, and a check is
//! then some 70 additions of points instead of 250 doublings and the additions between them.
//!
//! The equation is that of `ed25519-dalek`'s `verify`, by which Sequoia goes: *s* below the group's order, no cofactor, and
//! *sB − kA* compared with *R* as it is spelled. So exactly the same is accepted, alone or together with others: nothing
//! random is mixed in, and all that several checks share is an inversion. Everything that goes in here is public, so the time
//! that it takes is nobody's secret.

use std::sync::LazyLock;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity as _;
use sha2::{Digest as _, Sha512};

/// Bits of a number that are looked up at a time. With more the tables outgrow a processor's caches.
const WINDOW: usize = 7;
/// Multiples that are kept for a window: digits are -63 to 64.
const MULTIPLES: usize = 1 << (WINDOW - 1);
/// Windows of a number below the group's order, which has 253 bits, and a carry.
const WINDOWS: usize = 254_usize.div_ceil(WINDOW);

/// The multiples of the base point.
static BASE: LazyLock<Multiples> = LazyLock::new(|| Multiples::of(ED25519_BASEPOINT_POINT));

/// A signature that is to be checked: *R* and *s*, and what was signed.
pub(crate) struct Claim<'a> {
    pub key: &'a Known,
    pub signature: [u8; 64],
    pub message: &'a [u8],
}

impl Claim<'_> {
    /// What the base point and the key are multiplied by, *s* and *k*; `None` if *s* is not below the order.
    fn factors(&self) -> Option<(Scalar, Scalar)> {
        let (r, s) = self.signature.split_first_chunk::<32>()?;
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s.try_into().ok()?))?;
        let hash = Sha512::new().chain_update(r).chain_update(self.key.spelled).chain_update(self.message);
        Some((s, Scalar::from_bytes_mod_order_wide(&hash.finalize().into())))
    }
}

/// Whether a signature's *R* is spelled as a point of small order, which only whoever has the key can bring about, and
/// which the strict rule of `ed25519-dalek`'s `verify_strict` refuses. Other spellings of such points do not hold anyway.
pub(crate) fn is_small(signature: &[u8; 64]) -> bool {
    static SMALL: LazyLock<[[u8; 32]; 8]> = LazyLock::new(|| EIGHT_TORSION.map(|point| point.compress().to_bytes()));
    SMALL.iter().any(|small| signature.starts_with(small))
}

/// Which of these signatures hold.
pub(crate) fn hold(claims: &[Claim<'_>]) -> Vec<bool> {
    let factors: Vec<Option<(Scalar, Scalar)>> = claims.iter().map(Claim::factors).collect();
    // One table after the other, so that it stays in the processor's cache: what *R* has to be is their sum.
    let mut sums: Vec<EdwardsPoint> =
        factors.iter().flatten().map(|(s, _)| BASE.plus_times(s, EdwardsPoint::identity())).collect();
    let keys = claims.iter().zip(&factors).filter_map(|(claim, factors)| Some((claim.key, factors.as_ref()?.1)));
    sums.iter_mut().zip(keys).for_each(|(sum, (key, k))| *sum = key.negated.plus_times(&k, *sum));
    let mut spelled = EdwardsPoint::compress_batch_alloc(&sums).into_iter();
    let pairs = claims.iter().zip(&factors);
    pairs
        .map(|(claim, factors)| {
            let right = factors.as_ref().and_then(|_| spelled.next());
            right.is_some_and(|right| claim.signature.starts_with(right.as_bytes()))
        })
        .collect()
}

/// A public key whose multiples are known.
pub(crate) struct Known {
    spelled: [u8; 32],
    /// Of the key with its sign changed.
    negated: Multiples,
}

impl Known {
    /// Computes the multiples; `None` if it is no point of the curve.
    pub(crate) fn of(key: &[u8; 32]) -> Option<Self> {
        let point = CompressedEdwardsY(*key).decompress()?;
        Some(Self { spelled: *key, negated: Multiples::of(-point) })
    }
}

/// For each window the point's multiples from 1 to 64, times 128 for every window before it: 370 KB.
struct Multiples(Vec<[EdwardsPoint; MULTIPLES]>);

impl Multiples {
    fn of(point: EdwardsPoint) -> Self {
        let mut first = point;
        let windows = (0..WINDOWS).map(|_| {
            let (mut next, mut last) = (first, first);
            let multiples = std::array::from_fn(|_| {
                last = next;
                next += first;
                last
            });
            first = last + last;
            multiples
        });
        Self(windows.collect())
    }

    /// A sum, and the point times `number`.
    fn plus_times(&self, number: &Scalar, mut sum: EdwardsPoint) -> EdwardsPoint {
        for (digit, multiples) in digits(number).into_iter().zip(&self.0) {
            let multiple = usize::from(digit.unsigned_abs()).checked_sub(1).and_then(|at| multiples.get(at));
            match multiple {
                Some(multiple) if digit > 0 => sum += multiple,
                Some(multiple) => sum -= multiple,
                None => {}
            }
        }
        sum
    }
}

/// A number as digits from -63 to 64, each worth 128 times the one before.
fn digits(number: &Scalar) -> [i8; WINDOWS] {
    let bytes = number.as_bytes();
    let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or_default());
    let mut carry = 0;
    std::array::from_fn(|window| {
        let (at, shift) = (window * WINDOW / 8, window * WINDOW % 8);
        let bits = ((byte(at) | byte(at + 1) << 8) >> shift) % (1 << WINDOW) + carry;
        carry = u16::from(usize::from(bits) > MULTIPLES);
        i8::try_from(i32::from(bits) - (i32::from(carry) << WINDOW)).expect("128 at most, less 128 where it is over 64")
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use rand::rngs::StdRng;
    use rand::{Rng as _, RngExt as _, SeedableRng as _};
    use sequoia_openpgp as pgp;

    use pgp::crypto::mpi;
    use pgp::packet::Key;
    use pgp::packet::key::{Key6, PublicParts, UnspecifiedRole};
    use pgp::types::{HashAlgorithm, PublicKeyAlgorithm};

    use super::*;

    /// Every spelling of the eight points of small order that a decoder may take, the first eight as they should be.
    const SMALL: [&str; 14] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];
    /// The order of the group, little end first.
    const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

    fn hex(text: &str) -> [u8; 32] {
        crate::text::unhex(text).unwrap().try_into().unwrap()
    }

    /// What Sequoia says.
    fn by_sequoia(key: &[u8; 32], signature: &[u8; 64], message: &[u8]) -> bool {
        let created = std::time::UNIX_EPOCH;
        let mpis = mpi::PublicKey::Ed25519 { a: *key };
        let key: Key<PublicParts, UnspecifiedRole> =
            Key6::new(created, PublicKeyAlgorithm::Ed25519, mpis).unwrap().into();
        let signature = mpi::Signature::Ed25519 { s: Box::new(*signature) };
        key.verify(&signature, HashAlgorithm::SHA512, message).is_ok()
    }

    /// What both say, which is one.
    fn both(known: Option<&Known>, key: &[u8; 32], signature: [u8; 64], message: &[u8]) -> bool {
        let ours = known.is_some_and(|key| hold(&[Claim { key, signature, message }])[0]);
        let place = crate::text::hex(&[key, signature.as_slice(), message].concat());
        assert_eq!(ours, by_sequoia(key, &signature, message), "key, signature, message: {place}");
        ours
    }

    fn signature(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
        [r, s].concat().try_into().unwrap()
    }

    /// Adds the group's order to a number, where it does not go beyond 32 bytes.
    fn plus_order(number: [u8; 32]) -> [u8; 32] {
        let mut carry = 0;
        let order = hex(ORDER);
        std::array::from_fn(|at| {
            carry = (carry >> 8) + u16::from(number[at]) + u16::from(order[at]);
            carry.to_le_bytes()[0]
        })
    }

    #[test]
    fn digits_are_the_number() {
        let mut rng = StdRng::seed_from_u64(1);
        let edges =
            [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(64_u8), Scalar::from(65_u8), -Scalar::from(64_u8)];
        let random = (0..500).map(|_| Scalar::from_bytes_mod_order(rng.random()));
        // Nothing but carries, and nothing but digits that are just too small for one.
        let full = [0xff, 0x40, 0x81].map(|byte| Scalar::from_bytes_mod_order([byte; 32]));
        for number in edges.into_iter().chain(full).chain(random) {
            let digits = digits(&number);
            assert!(digits.iter().all(|d| (-63..=64).contains(d)), "{digits:?}");
            let sum = digits.iter().rev().fold(Scalar::ZERO, |sum, digit| {
                let amount = Scalar::from(digit.unsigned_abs());
                sum * Scalar::from(128_u8) + if *digit < 0 { -amount } else { amount }
            });
            assert_eq!(sum, number);
            let point = BASE.plus_times(&number, EdwardsPoint::identity());
            assert_eq!(point, EdwardsPoint::mul_base(&number));
        }
    }

    #[test]
    fn points_of_small_order_and_odd_spellings_are_judged_as_by_sequoia() {
        let order = hex(ORDER);
        let below = (-Scalar::ONE).to_bytes();
        let numbers = [[0; 32], Scalar::ONE.to_bytes(), below, order, plus_order(Scalar::ONE.to_bytes()), [0xff; 32]];
        let mut good = 0;
        for key in SMALL.map(hex) {
            let known = Known::of(&key);
            for r in SMALL.map(hex) {
                for s in numbers {
                    good += (0..4_u8).filter(|m| both(known.as_ref(), &key, signature(r, s), &[*m])).count();
                }
            }
        }
        assert!(good > 30, "with such keys much verifies that nobody signed: {good}");
    }

    #[test]
    fn keys_and_signatures_with_a_part_of_small_order_are_judged_as_by_sequoia() {
        let mut rng = StdRng::seed_from_u64(2);
        let (mut good, mut bad) = (0, 0);
        for of_key in EIGHT_TORSION {
            let secret = Scalar::from_bytes_mod_order(rng.random());
            let key = (EdwardsPoint::mul_base(&secret) + of_key).compress().to_bytes();
            let known = Known::of(&key).unwrap();
            for (of_r, message) in EIGHT_TORSION.iter().flat_map(|t| (0..8_u8).map(move |m| (t, [m]))) {
                let nonce = Scalar::from_bytes_mod_order(rng.random());
                let r = (EdwardsPoint::mul_base(&nonce) + of_r).compress().to_bytes();
                let hash = Sha512::new().chain_update(r).chain_update(key).chain_update(message).finalize();
                let s = nonce + Scalar::from_bytes_mod_order_wide(&hash.into()) * secret;
                match both(Some(&known), &key, signature(r, s.to_bytes()), &message) {
                    true => good += 1,
                    false => bad += 1,
                }
                let same = plus_order(s.to_bytes());
                assert!(!both(Some(&known), &key, signature(r, same), &message), "s has one spelling");
            }
        }
        assert!(good > 30 && bad > 30, "{good} and {bad}");
    }

    #[test]
    fn thousands_of_signatures_and_changed_ones_are_judged_as_by_sequoia() {
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..4 {
            let secret = SigningKey::from_bytes(&rng.random());
            let key = secret.verifying_key().to_bytes();
            let known = Known::of(&key).unwrap();
            let mut claims = Vec::new();
            for length in 0..500 {
                let mut message = vec![0; length % 130];
                rng.fill_bytes(&mut message);
                let right = secret.sign(&message).to_bytes();
                assert!(both(Some(&known), &key, right, &message));
                let mut wrong = right;
                wrong[rng.random_range(0..64)] ^= 1 << rng.random_range(0..8);
                assert!(!both(Some(&known), &key, wrong, &message));
                assert!(!both(Some(&known), &key, right, &[&message[..], b"x"].concat()));
                claims.push((if length % 3 == 0 { wrong } else { right }, message));
            }
            // Together as alone.
            let claims =
                claims.iter().map(|(signature, message)| Claim { key: &known, signature: *signature, message });
            let held = hold(&claims.collect::<Vec<_>>());
            assert!(held.iter().enumerate().all(|(at, held)| *held == (at % 3 != 0)));
            // Another key, or no key at all.
            let right = secret.sign(b"m").to_bytes();
            for _ in 0..40 {
                let mut other = key;
                other[rng.random_range(0..32)] ^= 1 << rng.random_range(0..8);
                assert!(!both(Known::of(&other).as_ref(), &other, right, b"m"));
            }
        }
    }
}
