//! The two profiles of a fleet, and the one OpenPGP policy everything is judged by.

use sequoia_openpgp::cert::CipherSuite;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::{AEADAlgorithm, Features, HashAlgorithm};

use crate::name::{FleetName, Kind};
use crate::time::{Span, Time};

/// The hash of every signature we make: the strongest that all readers have.
pub(super) const HASH: HashAlgorithm = HashAlgorithm::SHA512;

/// Which OpenPGP a fleet speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// v4 keys (Ed25519, Cv25519), SEIPDv1: everything opens in gpg 2.2 and later.
    #[default]
    Compat,
    /// v6 keys, ML-KEM-768+X25519 encryption, SEIPDv2 with OCB; ML-DSA-65+Ed25519 for operators and authorities.
    Modern,
}

impl Profile {
    pub(super) fn rfc(self) -> sequoia_openpgp::Profile {
        match self {
            Self::Compat => sequoia_openpgp::Profile::RFC4880,
            Self::Modern => sequoia_openpgp::Profile::RFC9580,
        }
    }

    /// The features our certificates announce. Sequoia's default announces SEIPDv2, which gpg 2.2 cannot read.
    pub(super) fn features(self) -> Features {
        match self {
            Self::Compat => Features::empty().set_seipdv1(),
            Self::Modern => Features::empty().set_seipdv1().set_seipdv2(),
        }
    }

    pub(super) fn cipher_suite(self, kind: Kind) -> CipherSuite {
        match (self, kind) {
            (Self::Compat, _) | (Self::Modern, Kind::Pop | Kind::Service) => CipherSuite::Cv25519,
            (Self::Modern, Kind::Operator | Kind::Authority) => CipherSuite::MLDSA65_Ed25519,
        }
    }

    pub(super) fn aead(self) -> AEADAlgorithm {
        AEADAlgorithm::OCB
    }

    /// The word in the policy.
    pub fn word(self) -> &'static str {
        match self {
            Self::Compat => "compat",
            Self::Modern => "modern",
        }
    }
}

/// How long certificates and certifications live, by kind of member. Expiry alarms; it does not stop a PoP serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// An operator's.
    pub operator: Span,
    /// An authority's.
    pub authority: Span,
    /// A PoP's.
    pub pop: Span,
    /// A service's.
    pub service: Span,
}

impl Validity {
    /// That of `kind`.
    pub fn of(&self, kind: Kind) -> Span {
        match kind {
            Kind::Operator => self.operator,
            Kind::Authority => self.authority,
            Kind::Pop => self.pop,
            Kind::Service => self.service,
        }
    }
}

/// Sequoia's standard policy as it stands at `time`: SHA-1 and MD5 do not count. The same time always gives the same
/// verdict, so that an old entry is judged as it was then.
pub fn policy_at(time: Time) -> StandardPolicy<'static> {
    StandardPolicy::at(time.to_system())
}

/// The name of one of our notations: `state@cdn.example`.
pub fn notation_name(what: &str, fleet: &FleetName) -> String {
    format!("{what}@{fleet}")
}
