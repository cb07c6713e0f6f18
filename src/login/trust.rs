//! What a node needs to know to judge the proof in an SSH certificate, in one file.
//!
//! ```json
//! {"cosigners":[{"kind":"witness","vkey":"witness.example/w1+8d66cf3f+BLq…"}],"fleet":"cdn.example",
//!  "log":"cdn.example/keys/1","log_keys":["cdn.example/keys/1+3b892de0+AT…"],
//!  "members":{"alice":{"keys":[{"key":"xjMEa…"}],"kind":"operator","principals":["deploy:fra1"],
//!  "roles":["operator","root"]}},"need":{"witness":1},
//!  "terms":{"operator":{"critical_options":{},"extensions":["permit-pty"],"lifetime":57600,
//!  "quorums":[{"authority":1,"self":1}]}},"v":1}
//! ```
//! On one line in canonical JSON. It follows from the state that a node has seen, and from the PoP it is for; nothing in it
//! is secret.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::break_glass::BreakGlass;
use crate::json::{self, JsonError};
use crate::log::cosign::CosignerKey;
use crate::log::note::VerifierKey;
use crate::name::{ActName, FleetName, Kind, MemberName};
use crate::openpgp::{PublicKey, read_public_key, write_public_key};
use crate::policy::{Case, Cosigner, CosignerKind, Publication, Role};
use crate::ssh::CertificateKind;
use crate::state::State;
use crate::time::{Span, Time};

const VERSION: u64 = 1;

/// Why bytes are no such file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Not canonical JSON with these fields.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// A version that is not read here.
    #[error("has version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// Nobody's word would count.
    #[error("has no log key, so that no proof can hold")]
    NoLogKey,
    /// More cosigners are asked for than are there.
    #[error("asks for {need} cosigners of the kind {kind} and names {there}")]
    Cosigners {
        /// Of which kind.
        kind: CosignerKind,
        /// How many are asked for.
        need: u32,
        /// How many are named.
        there: usize,
    },
    /// Break-glass keys of which one is enough, or which are never enough.
    #[error("asks for {sign} of {keys} break-glass keys")]
    BreakGlass {
        /// How many have to sign.
        sign: usize,
        /// How many there are.
        keys: usize,
    },
    /// A rule that asks for nobody.
    #[error("lets nobody's signature be enough for a certificate of a member of the kind {0}")]
    NoQuorum(Kind),
}

/// All that the judgement depends on, the certificate aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    v: u64,
    /// Whose certificates these are.
    pub fleet: FleetName,
    /// The log's name.
    pub log: String,
    /// The keys that may have signed a head; more than one after `log.rekey`.
    #[serde(with = "vkeys")]
    pub log_keys: Vec<VerifierKey>,
    /// Who may have cosigned a head.
    pub cosigners: Vec<TrustedCosigner>,
    /// How many of which kind have to; nobody, if it is empty.
    pub need: BTreeMap<CosignerKind, u32>,
    /// What the policy gives, by kind of member.
    pub terms: BTreeMap<Kind, UserTerms>,
    /// Whoever may sign for a certificate, or have one.
    pub members: BTreeMap<MemberName, TrustedMember>,
    /// Who lets people in while the log is out of reach.
    #[serde(rename = "break-glass", default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
}

/// Somebody whose cosignature counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedCosigner {
    /// What it says by it.
    pub kind: CosignerKind,
    /// Its key.
    #[serde(with = "cosigner_key")]
    pub vkey: CosignerKey,
}

/// What the policy gives the members of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserTerms {
    /// The longest life, seconds.
    pub lifetime: u64,
    /// The critical options that a certificate has to have, and no others.
    pub critical_options: BTreeMap<String, String>,
    /// The extensions that it may have.
    pub extensions: BTreeSet<String>,
    /// Who has to sign: alternatives, each with how many of whom.
    pub quorums: Vec<BTreeMap<Role, u32>>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedMember {
    /// What it is.
    pub kind: Kind,
    /// What its signature counts as, `self` aside.
    pub roles: BTreeSet<Role>,
    /// The keys that it signs statements with: active, standby, and the last one for as long as what it signed is good.
    pub keys: Vec<TrustedKey>,
    /// What it may log in as at this PoP.
    pub principals: BTreeSet<String>,
}

/// A key that signs statements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// The public key.
    #[serde(with = "public_key")]
    pub key: PublicKey,
    /// Statements from after this time do not count; it was replaced then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

impl Trust {
    /// What the policy in force asks for, without members yet; `log_keys` are those that may have signed a head.
    pub fn of(state: &State, log_keys: Vec<VerifierKey>) -> Self {
        let policy = &state.policy.policy;
        let publication = policy.fleet.publication.as_ref();
        let cosigners = publication.into_iter().flat_map(|p| &p.cosigners);
        let terms = Kind::ALL.iter().filter_map(|kind| {
            let rule = policy.ssh.user_rule(kind.word())?;
            let quorums = policy.fleet.quorums.alternatives(ActName::SshIssue, Some(Case::of_kind(*kind)));
            let terms = UserTerms {
                lifetime: rule.lifetime.0,
                critical_options: rule.critical_options(),
                extensions: rule.extensions.clone(),
                quorums: quorums.map(|r| r.need.clone()).collect(),
            };
            // Where nobody may issue, there is nothing to be let in.
            (!terms.quorums.is_empty()).then_some((*kind, terms))
        });
        Self {
            v: VERSION,
            fleet: state.fleet.clone(),
            log: state.log.clone(),
            log_keys,
            cosigners: cosigners.map(|c| TrustedCosigner { kind: c.kind, vkey: c.key.clone() }).collect(),
            need: publication.map(|p| p.need.clone()).unwrap_or_default(),
            terms: terms.collect(),
            members: BTreeMap::new(),
            break_glass: None,
        }
    }

    /// Writes the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{}\n", json::to_canonical(self)).into_bytes()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`TrustError`], also for one by which a certificate would be let in that nobody vouches for.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let value = json::parse(bytes.strip_suffix(b"\n").unwrap_or(bytes))?;
        // Before the fields, which another version may have more of.
        if let Some(other) = value.get("v").and_then(serde_json::Value::as_u64).filter(|v| *v != VERSION) {
            return Err(TrustError::Version(other));
        }
        let trust: Self = serde_json::from_value(value).map_err(JsonError::Fields)?;
        if trust.log_keys.is_empty() {
            return Err(TrustError::NoLogKey);
        }
        for (kind, need) in &trust.need {
            let there = trust.cosigners.iter().filter(|c| c.kind == *kind).count();
            if usize::try_from(*need).unwrap_or(usize::MAX) > there || *need == 0 {
                return Err(TrustError::Cosigners { kind: *kind, need: *need, there });
            }
        }
        if let Some(BreakGlass { sign, keys, .. }) = &trust.break_glass
            && (*sign < 2 || *sign > keys.len())
        {
            return Err(TrustError::BreakGlass { sign: *sign, keys: keys.len() });
        }
        let nobody = |t: &UserTerms| t.quorums.iter().any(|q| q.values().all(|n| *n == 0));
        match trust.terms.iter().find(|(_, terms)| nobody(terms)) {
            Some((kind, _)) => Err(TrustError::NoQuorum(*kind)),
            None => Ok(trust),
        }
    }

    /// Who has to have cosigned a head; none where nobody has to.
    pub(super) fn publication(&self) -> Option<Publication> {
        let cosigners = self.cosigners.iter();
        let cosigners = cosigners.map(|c| Cosigner { key: c.vkey.clone(), kind: c.kind, url: None }).collect();
        // How old a head may be is no question here: a proof does not age.
        let publication = Publication { cosigners, need: self.need.clone(), max_age: Span(u64::MAX) };
        (!self.need.is_empty()).then_some(publication)
    }
}

impl TrustedMember {
    /// What `member` may log in as at the PoP with the label `pop`; nothing, where the policy has no rule for it.
    pub fn principals_at(state: &State, member: &MemberName, pop: &MemberName) -> BTreeSet<String> {
        let Some(kind) = state.members.get(member).map(|m| m.kind) else { return BTreeSet::new() };
        let Some(rule) = state.policy.policy.ssh.user_rule(kind.word()) else { return BTreeSet::new() };
        let places = crate::policy::ssh::Places { pop: pop.host_label(), domain: &state.fleet, member };
        let given = crate::policy::ssh::expand_all(&rule.principals, CertificateKind::User, places);
        given.map(|all| all.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }
}

mod vkeys {
    use super::*;

    pub(super) fn serialize<S: Serializer>(keys: &[VerifierKey], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(keys.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VerifierKey>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| VerifierKey::parse(text).map_err(serde::de::Error::custom)).collect()
    }
}

mod cosigner_key {
    use super::*;

    pub(super) fn serialize<S: Serializer>(key: &CosignerKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(key)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CosignerKey, D::Error> {
        CosignerKey::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

mod public_key {
    use super::*;

    pub(super) fn serialize<S: Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = write_public_key(key).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        let bytes = BASE64.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
        read_public_key(&bytes).map_err(serde::de::Error::custom)
    }
}
