//! Keygrips: how gpg-agent calls a key.
//!
//! A keygrip is the SHA-1 of the public parameters alone, so the same key has one keygrip as an OpenPGP, SSH or X.509
//! key. It is a name, not a proof: a signature is checked against the public key itself. libgcrypt defines what is
//! hashed (`gcry_pk_get_keygrip`):
//! ```text
//! RSA      the modulus, with a zero byte before it if its first bit is set
//! curves   (1:p32:…)(1:a…:…)(1:b…:…)(1:g65:…)(1:n32:…)(1:q32:…)
//! ```
//! with the curve's prime p, coefficients a and b without their signs, generator g as an uncompressed point, order n,
//! and the public point q in the curve's own 32 bytes.

use std::fmt;

use sequoia_openpgp as openpgp;

use openpgp::crypto::mpi;
use openpgp::packet::Key;
use openpgp::packet::key::{KeyParts, KeyRole};
use openpgp::types::{Curve, HashAlgorithm};

use super::error::AgentError;
use crate::limits::AGENT_RSA_BITS_MAX;
use crate::text;

/// A keygrip, 20 bytes; written as 40 upper-case hexadecimal digits, as GnuPG does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keygrip(pub [u8; 20]);

impl Keygrip {
    /// The keygrip of an OpenPGP key.
    ///
    /// # Errors
    /// [`AgentError::UnsupportedKey`] for keys other than [`AgentSigner`](super::AgentSigner) and
    /// [`AgentDecryptor`](super::AgentDecryptor) take.
    pub fn of<P: KeyParts, R: KeyRole>(key: &Key<P, R>) -> Result<Self, AgentError> {
        Self::of_parameters(&Parameters::of(key)?)
    }

    /// The keygrip of public parameters.
    pub(super) fn of_parameters(parameters: &Parameters) -> Result<Self, AgentError> {
        match parameters {
            Parameters::Ed25519 { point } => ED25519.keygrip(point),
            Parameters::Cv25519 { point } => CV25519.keygrip(point),
            Parameters::Rsa { modulus } => sha1(&[&unsigned(modulus)]),
        }
    }
}

impl fmt::Display for Keygrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::hex(&self.0).to_uppercase())
    }
}

impl fmt::Debug for Keygrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keygrip({self})")
    }
}

/// The public parameters of a key that may be used through an agent; the existence of the value proves that it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parameters {
    /// EdDSA on Ed25519.
    Ed25519 {
        /// RFC 8032's encoding.
        point: [u8; 32],
    },
    /// ECDH on Curve25519.
    Cv25519 {
        /// RFC 7748's encoding.
        point: [u8; 32],
    },
    /// RSA for signing and encryption.
    Rsa {
        /// Without leading zeros.
        modulus: Vec<u8>,
    },
}

impl Parameters {
    /// Modulus bits below which RSA is refused.
    const RSA_BITS_MIN: usize = 3_072;

    /// Reads them from an OpenPGP key.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "a list of what is allowed; what else there is or will be is not"
    )]
    pub(super) fn of<P: KeyParts, R: KeyRole>(key: &Key<P, R>) -> Result<Self, AgentError> {
        if key.version() != 4 {
            return Err(AgentError::UnsupportedKey("it is not of version 4"));
        }
        let on_curve = |q: &mpi::MPI, curve: &Curve| {
            let (point, _) = q.decode_point(curve).map_err(|_| AgentError::UnsupportedKey("its point is malformed"))?;
            point.try_into().map_err(|_| AgentError::UnsupportedKey("its point is malformed"))
        };
        match key.mpis() {
            mpi::PublicKey::EdDSA { curve: curve @ Curve::Ed25519, q } => {
                Ok(Self::Ed25519 { point: on_curve(q, curve)? })
            }
            mpi::PublicKey::ECDH { curve: curve @ Curve::Cv25519, q, .. } => {
                Ok(Self::Cv25519 { point: on_curve(q, curve)? })
            }
            mpi::PublicKey::RSA { n, .. } if !(Self::RSA_BITS_MIN..=AGENT_RSA_BITS_MAX).contains(&n.bits()) => {
                Err(AgentError::UnsupportedKey("its modulus is too short or too long"))
            }
            mpi::PublicKey::RSA { n, .. } => Ok(Self::Rsa { modulus: n.value().to_vec() }),
            _ => Err(AgentError::UnsupportedKey("agents are not asked for this algorithm")),
        }
    }
}

/// An unsigned number as libgcrypt writes it: a zero byte comes first where the first bit would make it negative.
pub(super) fn unsigned(number: &[u8]) -> Vec<u8> {
    let sign = number.first().filter(|&&first| first >= 0x80).map(|_| 0);
    sign.into_iter().chain(number.iter().copied()).collect()
}

/// A curve's parameters, big-endian and as libgcrypt writes them.
struct CurveParameters {
    a: &'static [u8],
    b: &'static [u8],
    generator_x: [u8; 32],
    generator_y: [u8; 32],
}

/// 2^255 - 19, of both curves.
const PRIME: [u8; 32] = *b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
    \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xed";

/// 2^252 + 27742317777372353535851937790883648493, of both curves.
const ORDER: [u8; 32] = *b"\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
    \x14\xde\xf9\xde\xa2\xf7\x9c\xd6\x58\x12\x63\x1a\x5c\xf5\xd3\xed";

/// RFC 8032, section 5.1: a = -1, d = -121665/121666; libgcrypt keeps -d as b and drops the signs here.
const ED25519: CurveParameters = CurveParameters {
    a: b"\x01",
    b: b"\x2d\xfc\x93\x11\xd4\x90\x01\x8c\x73\x38\xbf\x86\x88\x86\x17\x67\
        \xff\x8f\xf5\xb2\xbe\xbe\x27\x54\x8a\x14\xb2\x35\xec\xa6\x87\x4a",
    generator_x: *b"\x21\x69\x36\xd3\xcd\x6e\x53\xfe\xc0\xa4\xe2\x31\xfd\xd6\xdc\x5c\
        \x69\x2c\xc7\x60\x95\x25\xa7\xb2\xc9\x56\x2d\x60\x8f\x25\xd5\x1a",
    generator_y: *b"\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\
        \x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x58",
};

/// RFC 7748, section 4.1; instead of A = 486662 libgcrypt keeps (A - 2) / 4.
const CV25519: CurveParameters = CurveParameters {
    a: b"\x01\xdb\x41",
    b: b"\x01",
    generator_x: *b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09",
    generator_y: *b"\x20\xae\x19\xa1\xb8\xa0\x86\xb4\xe0\x1e\xdd\x2c\x77\x48\xd1\x4c\
        \x92\x3d\x4d\x7e\x6d\x7c\x61\xb2\x29\xe9\xc5\xa2\x7e\xce\xd3\xd9",
};

impl CurveParameters {
    fn keygrip(&self, point: &[u8; 32]) -> Result<Keygrip, AgentError> {
        let generator = [[4].as_slice(), &self.generator_x, &self.generator_y].concat();
        let named: [(char, &[u8]); 6] =
            [('p', &PRIME), ('a', self.a), ('b', self.b), ('g', &generator), ('n', &ORDER), ('q', point)];
        let parts: Vec<Vec<u8>> = named
            .iter()
            .map(|(name, value)| [format!("(1:{name}{}:", value.len()).as_bytes(), value, b")"].concat())
            .collect();
        sha1(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

/// SHA-1 of the parts in a row. Here it only makes a name.
fn sha1(parts: &[&[u8]]) -> Result<Keygrip, AgentError> {
    let missing = |_| AgentError::UnsupportedKey("the OpenPGP library is built without SHA-1, which keygrips need");
    let mut hash = HashAlgorithm::SHA1.context().map_err(missing)?.for_digest();
    for part in parts {
        hash.update(part);
    }
    let mut keygrip = Keygrip([0; 20]);
    hash.digest(&mut keygrip.0).map_err(missing)?;
    Ok(keygrip)
}

#[cfg(test)]
mod tests {
    use openpgp::Packet;
    use openpgp::packet::key::{Key4, PublicParts, UnspecifiedRole};
    use openpgp::parse::Parse as _;

    use super::*;

    /// Throw-away public keys made by GnuPG 2.2.40, in hexadecimal packets, with the keygrips that it showed.
    const VECTORS: [(&str, &str); 2] = [
        (
            "9833046b01c1f416092b06010401da470f01010740c108b2ca7e3d610d4d99963a7df49f48f6f508804cd3e54532cf29e594922601",
            "B38C6E0B6C44AD8B98C6AF997304FFD2FEBEE5A5",
        ),
        (
            "b838046b01c1f4120a2b060104019755010501010740705319a9c79d83e87a1c199e4b6dd49ab6124aead012c2edb0360297190ef5\
             6303010807",
            "F09826FD648C108A74C247060B03597371E7BE60",
        ),
    ];

    fn keygrip(packet: &str) -> Result<Keygrip, AgentError> {
        let packet = Packet::from_bytes(&text::unhex(packet).unwrap()).unwrap();
        match (&packet, packet.tag()) {
            (Packet::PublicKey(key), _) => Keygrip::of(key),
            (Packet::PublicSubkey(key), _) => Keygrip::of(key),
            (_, tag) => panic!("{tag:?}"),
        }
    }

    fn rsa(modulus: &[u8]) -> Key<PublicParts, UnspecifiedRole> {
        Key4::import_public_rsa(&[1, 0, 1], modulus, std::time::UNIX_EPOCH).unwrap().into()
    }

    #[test]
    fn keygrips_are_those_of_gnupg() {
        for (packet, expected) in VECTORS {
            assert_eq!(keygrip(packet).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn an_rsa_keygrip_hashes_the_signed_form() {
        let modulus = [0xc5; 384];
        let expected = sha1(&[&[0], &modulus]).unwrap();
        assert_eq!(Keygrip::of(&rsa(&modulus)).unwrap(), expected);
    }

    #[test]
    fn other_keys_are_refused() {
        let mut short = vec![0xff; 384];
        short[0] = 0x7f;
        assert!(matches!(Keygrip::of(&rsa(&short)), Err(AgentError::UnsupportedKey(_))));
        assert!(matches!(Keygrip::of(&rsa(&[0xff; 2_049])), Err(AgentError::UnsupportedKey(_))));
        let v6 = openpgp::packet::key::Key6::import_public_ed25519(&[9; 32], std::time::UNIX_EPOCH).unwrap();
        let v6: Key<PublicParts, UnspecifiedRole> = v6.into();
        assert!(matches!(Keygrip::of(&v6), Err(AgentError::UnsupportedKey(_))));
    }
}
