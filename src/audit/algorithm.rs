//! What a key is: its algorithm, and how strong that is by NIST SP 800-57 part 1, table 2 (and, for ML-KEM-768 and ML-DSA-65,
//! FIPS 203 and 204: category 3, as AES-192).

use sequoia_openpgp::crypto::mpi::PublicKey as Mpis;
use sequoia_openpgp::types::{Curve, PublicKeyAlgorithm};

use crate::name::Slot;
use crate::openpgp::{Certificate, Fingerprint};

/// The algorithm and the strength of a key of `slot`; an OpenPGP key's is that of the subkey in `certificate`.
pub(super) fn of(slot: Slot, key: &str, certificate: Option<&Certificate>) -> Option<(String, Option<u16>)> {
    match slot {
        Slot::Openpgp | Slot::Sign => {
            let key = certificate?.key(&Fingerprint::from_hex(key).ok()?)?;
            Some(openpgp(key.pk_algo(), key.mpis()))
        }
        Slot::Wireguard => Some(("X25519".to_owned(), Some(128))),
        Slot::Log => Some(("Ed25519".to_owned(), Some(128))),
        Slot::SshHost | Slot::SshUserCa | Slot::SshHostCa => {
            let name = key.split(' ').next()?.to_owned();
            let strength = match name.as_str() {
                "ssh-ed25519" | "sk-ssh-ed25519@openssh.com" => Some(128),
                "ecdsa-sha2-nistp256" | "sk-ecdsa-sha2-nistp256@openssh.com" => Some(128),
                _ => None,
            };
            Some((name, strength))
        }
    }
}

fn openpgp(algorithm: PublicKeyAlgorithm, mpis: &Mpis) -> (String, Option<u16>) {
    let curve = |curve: &Curve| match curve {
        Curve::Ed25519 | Curve::Cv25519 | Curve::NistP256 | Curve::BrainpoolP256 => Some(128),
        Curve::NistP384 | Curve::BrainpoolP384 => Some(192),
        Curve::NistP521 | Curve::BrainpoolP512 => Some(256),
        _ => None,
    };
    match (algorithm, mpis) {
        (_, Mpis::RSA { n, .. }) => {
            let strength = match n.bits() {
                0..2048 => None,
                2048..3072 => Some(112),
                3072..7680 => Some(128),
                _ => Some(192),
            };
            (format!("RSA {}", n.bits()), strength)
        }
        (_, Mpis::EdDSA { curve: c, .. }) => (format!("EdDSA {c}"), curve(c)),
        (_, Mpis::ECDSA { curve: c, .. }) => (format!("ECDSA {c}"), curve(c)),
        (_, Mpis::ECDH { curve: c, .. }) => (format!("ECDH {c}"), curve(c)),
        (PublicKeyAlgorithm::Ed25519 | PublicKeyAlgorithm::X25519, _) => (algorithm.to_string(), Some(128)),
        (PublicKeyAlgorithm::Ed448 | PublicKeyAlgorithm::X448, _) => (algorithm.to_string(), Some(224)),
        (PublicKeyAlgorithm::MLKEM768_X25519 | PublicKeyAlgorithm::MLDSA65_Ed25519, _) => {
            (algorithm.to_string(), Some(192))
        }
        (PublicKeyAlgorithm::MLKEM1024_X448 | PublicKeyAlgorithm::MLDSA87_Ed448, _) => {
            (algorithm.to_string(), Some(256))
        }
        _ => (algorithm.to_string(), None),
    }
}
