//! The content key and its shares: any k of them give the key, fewer give nothing (Shamir, "How to share a secret", 1979).

use rand::CryptoRng;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::limits::CUSTODIANS_MAX;
use crate::name::FleetName;
use crate::text;

/// AES-256.
const KEY_BYTES: usize = 32;
/// A custodian's name, at most: a member's, or a fingerprint.
const NAME_BYTES_MAX: usize = 90;
/// A share's text is never longer, so that it is never moved as it grows.
const LINE_BYTES: usize = 1024;

/// Why a key cannot be shared, or shares do not give one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// Not a share's text, or of a version that is not read here.
    #[error("it is not a share of a backup")]
    Format,
    /// A number of custodians that is no quorum.
    #[error("{need} of {all} is no custody: at least 2 are needed, and at most all of at most {CUSTODIANS_MAX}")]
    Count {
        /// How many are needed.
        need: usize,
        /// How many there are.
        all: usize,
    },
    /// Fewer shares than are needed.
    #[error("{found} of {need} shares are there; {} more are needed", need.saturating_sub(*found))]
    TooFew {
        /// How many there are.
        found: usize,
        /// How many are needed.
        need: usize,
    },
    /// The mathematics refused.
    #[error("the shares do not fit each other")]
    Unfit,
}

/// What opens a backup's body: an AES-256 key, wiped when dropped.
pub struct ContentKey(Zeroizing<[u8; KEY_BYTES]>);

impl ContentKey {
    /// A fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(bytes)
    }

    /// The key's bytes.
    pub fn expose(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl std::fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentKey(..)")
    }
}

/// One custodian's share. Its text is one line of canonical JSON, `{"backup":…,"custodian":…,"fleet":…,"share":…,"v":1}`, so that any
/// OpenPGP program can hand it on.
pub struct Share {
    /// Which backup it is of.
    pub backup: Digest,
    /// Whose.
    pub custodian: String,
    /// The fleet.
    pub fleet: FleetName,
    /// The point: its abscissa, from 1, and an ordinate for every byte of the key.
    point: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share({}, {}, ..)", self.backup.short(), self.custodian)
    }
}

impl Share {
    /// Its text, with a line feed. Written and read without a copy on the way that is not wiped.
    pub fn to_text(&self) -> Zeroizing<Vec<u8>> {
        let Self { backup, custodian, fleet, point } = self;
        let point = Zeroizing::new(text::hex(point));
        let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES));
        let head = format!(r#"{{"backup":"{backup}","custodian":"{custodian}","fleet":"{fleet}","share":""#);
        [head.as_bytes(), point.as_bytes(), b"\",\"v\":1}\n"].iter().for_each(|part| line.extend_from_slice(part));
        line
    }

    /// Reads a share's text; nothing but what [`Share::to_text`] writes.
    ///
    /// # Errors
    /// [`ShareError::Format`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ShareError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ShareError::Format)?;
        let mut parts = text.split('"').skip(3).step_by(4);
        let mut next = || parts.next().ok_or(ShareError::Format);
        let (backup, custodian, fleet, point) = (next()?, next()?, next()?, next()?);
        let share = Self {
            backup: Digest::parse(backup).ok_or(ShareError::Format)?,
            custodian: custodian.to_owned(),
            fleet: fleet.parse().map_err(|_| ShareError::Format)?,
            point: text::unhex(point).map(Zeroizing::new).ok_or(ShareError::Format)?,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '@');
        let right = share.point.len() == KEY_BYTES + 1
            && share.point.first().is_some_and(|x| *x > 0)
            && (1..=NAME_BYTES_MAX).contains(&custodian.len())
            && custodian.chars().all(plain)
            && share.to_text().as_slice() == bytes;
        if right { Ok(share) } else { Err(ShareError::Format) }
    }

    /// What a manifest knows it by. The ordinates are uniformly random, so the digest tells nothing about them.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_text())
    }
}

/// Shares a key among custodians, so that any `need` of them have it together.
///
/// # Errors
/// [`ShareError::Count`].
pub fn split(
    key: &ContentKey,
    custodians: &[String],
    need: usize,
    (backup, fleet): (Digest, &FleetName),
    rng: &mut impl CryptoRng,
) -> Result<Vec<Share>, ShareError> {
    let count = || ShareError::Count { need, all: custodians.len() };
    if need < 2 || need > custodians.len() || custodians.len() > CUSTODIANS_MAX {
        return Err(count());
    }
    let points = Gf256::split_bytes(need, custodians.len(), key.expose(), rng).map_err(|_| count())?;
    let share = |(point, custodian): (Vec<u8>, &String)| Share {
        backup,
        custodian: custodian.clone(),
        fleet: fleet.clone(),
        point: Zeroizing::new(point),
    };
    Ok(points.into_iter().zip(custodians).map(share).collect())
}

/// The key that `need` of these shares give. A share that is there twice counts once. Whether the shares are right is for
/// the caller to know, by [`Share::digest`]: wrong ones give a wrong key.
///
/// # Errors
/// [`ShareError`].
pub fn combine(shares: &[Share], need: usize) -> Result<ContentKey, ShareError> {
    let mut distinct: Vec<&Share> = Vec::new();
    for share in shares {
        if !distinct.iter().any(|d| d.point == share.point) {
            distinct.push(share);
        }
    }
    if distinct.len() < need {
        return Err(ShareError::TooFew { found: distinct.len(), need });
    }
    let points: Vec<Vec<u8>> = distinct.iter().take(need).map(|s| s.point.to_vec()).collect();
    let points = Zeroizing::new(points);
    let bytes = Zeroizing::new(Gf256::combine_bytes(points.as_slice()).map_err(|_| ShareError::Unfit)?);
    let mut key = Zeroizing::new([0u8; KEY_BYTES]);
    if bytes.len() != KEY_BYTES {
        return Err(ShareError::Unfit);
    }
    key.copy_from_slice(&bytes);
    Ok(ContentKey(key))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn rng(seed: u8) -> StdRng {
        StdRng::from_seed([seed; 32])
    }

    fn shared(need: usize, all: usize, seed: u8) -> (ContentKey, Vec<Share>) {
        let mut rng = rng(seed);
        let key = ContentKey::generate(&mut rng);
        let names: Vec<String> = (0..all).map(|i| format!("custodian{i}")).collect();
        let fleet = "cdn.example".parse().unwrap();
        let shares = split(&key, &names, need, (Digest::of(b"backup"), &fleet), &mut rng).unwrap();
        (key, shares)
    }

    fn copy(share: &Share) -> Share {
        Share::parse(&share.to_text()).unwrap()
    }

    #[test]
    fn every_k_of_them_have_the_key_and_fewer_are_refused() {
        let (key, shares) = shared(3, 5, 1);
        for bits in 0..32u32 {
            let chosen: Vec<Share> = (0..5).filter(|i| bits >> i & 1 == 1).map(|i| copy(&shares[i])).collect();
            match combine(&chosen, 3) {
                Ok(found) => assert!(chosen.len() >= 3 && found.expose() == key.expose(), "{bits:05b}"),
                Err(e) => assert!(chosen.len() < 3, "{bits:05b}: {e}"),
            }
        }
        let twice = [copy(&shares[0]), copy(&shares[0]), copy(&shares[1])];
        assert!(matches!(combine(&twice, 3), Err(ShareError::TooFew { found: 2, need: 3 })));
    }

    /// The flaw that two implementations had: coefficients that were never 0, or always odd, let one share exclude values
    /// of the key. Over many sharings of one key, one share has to take every value equally often.
    #[test]
    fn one_share_alone_says_nothing() {
        let key = ContentKey(Zeroizing::new([0x5a; KEY_BYTES]));
        let names: Vec<String> = (0..2).map(|i| format!("custodian{i}")).collect();
        let fleet = "cdn.example".parse().unwrap();
        let mut rng = rng(2);
        let mut seen = [0u32; 256];
        const ROUNDS: u32 = 800;
        for _ in 0..ROUNDS {
            let shares = split(&key, &names, 2, (Digest::of(b"b"), &fleet), &mut rng).unwrap();
            shares[0].point[1..].iter().for_each(|y| seen[usize::from(*y)] += 1);
        }
        // Chi squared with 255 degrees of freedom: beyond 340 once in some ten thousand seeds; this seed is fixed.
        let expected = f64::from(ROUNDS) * KEY_BYTES as f64 / 256.0;
        let chi: f64 = seen.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
        assert!(chi < 340.0, "{chi}: {seen:?}");
        assert!(seen.iter().all(|n| *n > 0), "the value itself, and every other one, occurs: {seen:?}");
    }

    #[test]
    fn a_share_has_one_spelling() {
        let (_, shares) = shared(2, 2, 3);
        let text = shares[0].to_text();
        for at in 0..text.len() {
            let mut changed = text.to_vec();
            changed[at] ^= 1;
            if let Ok(other) = Share::parse(&changed) {
                assert_ne!(other.digest(), shares[0].digest(), "byte {at}");
                assert_eq!(other.to_text().as_slice(), changed, "byte {at}");
            }
        }
        assert!(Share::parse(&text[..text.len() - 1]).is_err());
        assert!(!format!("{:?}", shares[0]).contains(&text::hex(&shares[0].point[1..4])));
    }

    #[test]
    fn no_custody_is_refused() {
        let key = ContentKey::generate(&mut rng(4));
        let fleet = "cdn.example".parse().unwrap();
        for (need, all) in [(0, 3), (1, 3), (4, 3), (2, 1), (2, CUSTODIANS_MAX + 1)] {
            let names: Vec<String> = (0..all).map(|i| i.to_string()).collect();
            let refused = split(&key, &names, need, (Digest::of(b"b"), &fleet), &mut rng(5));
            assert!(matches!(refused, Err(ShareError::Count { .. })), "{need} of {all}");
        }
    }
}
