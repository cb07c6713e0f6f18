//! The list of invitations, an object that a `member.invite` statement names: who may join, as what, until when.
//!
//! ```text
//! {"invitations":[{"approval":"auto","facts":{"region":"eu"},"member":"fra1","not_after":"2026-11-22T09:00:00Z",
//!  "not_before":"2026-11-22T07:00:00Z","services":["nginx","wg"],"token":"mZ4…="}],"v":1}               (one line)
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::request::Facts;
use super::token::TokenKey;
use crate::digest::Digest;
use crate::json::{self, JsonError};
use crate::limits::{INVITATIONS_MAX, SERVICES_MAX};
use crate::name::{Label, MemberName};
use crate::time::Time;
use crate::words::words;

words! {
    /// Whether who made the invitation has agreed to the machine that comes with it.
    Approval, "an approval":
    /// Whoever has the token joins: those who signed the invitation count as having signed the enrolment.
    Auto = "auto",
    /// The enrolment takes its quorum anew.
    Operators = "operators",
}

/// A list of invitations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitations {
    /// In the order of the names, one for each.
    pub invitations: Vec<Invited>,
    v: u64,
}

/// One invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invited {
    /// Who has to agree once the machine has asked.
    pub approval: Approval,
    /// Whether it has to answer challenges to its keys before anything is sealed to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
    /// What the machine has to say of itself: region and roles exactly; an endpoint only if one is given here.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
    /// The digest of the UUID that the machine has to tell; none for any machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Digest>,
    /// The PoP.
    pub member: MemberName,
    /// The last moment at which it is good.
    pub not_after: Time,
    /// The first one.
    pub not_before: Time,
    /// The primary fingerprint of the machine that has this name now, and is lost when the new one joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The services that join with it: these and no others.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<Label>,
    /// The public half of its token.
    pub token: TokenKey,
}

impl Invitations {
    /// A list, put in order.
    pub fn new(mut invitations: Vec<Invited>) -> Self {
        invitations.sort_by(|a, b| a.member.cmp(&b.member));
        Self { invitations, v: 1 }
    }

    /// The object.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::to_canonical(self).into_bytes()
    }

    /// Reads the object.
    ///
    /// # Errors
    /// [`JsonError`], also for a list that is empty, too long or out of order.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let list: Self = json::parse_as(bytes)?;
        let bad = |message: String| Err(JsonError::Fields(serde::de::Error::custom(message)));
        if list.v != 1 {
            return bad(format!("version {}", list.v));
        }
        let all = &list.invitations;
        if all.is_empty() || all.len() > INVITATIONS_MAX {
            return bad(format!("{} invitations; 1 to {INVITATIONS_MAX} are allowed", all.len()));
        }
        if !all.is_sorted_by(|a, b| a.member < b.member) {
            return bad("invitations are written in the order of the names, one for each".to_owned());
        }
        if let Some(many) = all.iter().find(|i| i.services.len() > SERVICES_MAX) {
            return bad(format!(
                "{} has {} services; at most {SERVICES_MAX} join at once",
                many.member,
                many.services.len()
            ));
        }
        // Left out and empty, in order and out of order: one of them is not how it is written.
        if list.to_bytes() != bytes {
            return bad("it is not spelled as this program spells it".to_owned());
        }
        Ok(list)
    }
}

/// The digest by which a machine is told apart, in one fleet alone: `what` is `dmi` or `id`, `text` what the machine shows.
pub fn machine_digest(fleet: &Digest, what: &str, text: &str) -> Digest {
    let text = text.trim().to_ascii_lowercase();
    Digest::of_parts(&[b"keys/machine/v1", what.as_bytes(), &fleet.0, text.as_bytes()])
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::super::token::Token;
    use super::*;

    fn invited(member: &str, rng: &mut rand::rngs::StdRng) -> Invited {
        Invited {
            approval: Approval::Auto,
            confirm: false,
            facts: Facts::default(),
            machine: None,
            member: member.parse().unwrap(),
            not_after: Time(1_795_251_600),
            not_before: Time(1_795_244_400),
            replaces: None,
            services: ["nginx", "dns"].map(|s| s.parse().unwrap()).into(),
            token: Token::generate(rng).key(),
        }
    }

    #[test]
    fn a_list_has_one_spelling() {
        let mut rng = rand::rngs::StdRng::from_seed(*b"a public seed, for tests alone!!");
        let list = Invitations::new(vec![invited("sin1", &mut rng), invited("fra1", &mut rng)]);
        let bytes = list.to_bytes();
        assert_eq!(Invitations::parse(&bytes).unwrap(), list);
        let text = String::from_utf8(bytes).unwrap();
        let one = json::to_canonical(&list.invitations[0]);
        for (wrong, part) in [
            (text.replace("\"v\":1", "\"v\":2"), "version 2"),
            (text.replace("\"fra1\"", "\"tyo1\""), "in the order of the names"),
            (text.replace("\"fra1\"", "\"sin1\""), "one for each"),
            ("{\"invitations\":[],\"v\":1}".to_owned(), "0 invitations"),
            (text.replace("[\"dns\",\"nginx\"]", "[\"nginx\",\"dns\"]"), "not spelled"),
            (text.replace("\"approval\":\"auto\"", "\"approval\":\"anybody\""), "is not an approval"),
            (text.replace("\"approval\":\"auto\"", "\"approval\":\"auto\",\"confirm\":false"), "not spelled"),
            (text.replace("\"approval\":\"auto\"", "\"approval\":\"auto\",\"attest\":[\"tpm\"]"), "unknown field"),
            (
                format!(
                    "{{\"invitations\":[{}],\"v\":1}}",
                    one.replace("\"services\":[\"dns\",\"nginx\"]", "\"services\":[]")
                ),
                "not spelled",
            ),
        ] {
            let message = Invitations::parse(wrong.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(part), "{message}: {wrong}");
        }
        let many = (0..=INVITATIONS_MAX)
            .map(|i| Invited { member: format!("p{i:04}").parse().unwrap(), ..list.invitations[0].clone() });
        let message = Invitations::parse(&Invitations::new(many.collect()).to_bytes()).unwrap_err().to_string();
        assert!(message.contains("4097 invitations; 1 to 4096"), "{message}");
    }

    #[test]
    fn a_machine_is_told_apart_in_its_fleet_alone() {
        let (fleet, other) = (Digest::of(b"one"), Digest::of(b"another"));
        let uuid = "4C4C4544-0042-3010-8053-B7C04F4E3232";
        let digest = machine_digest(&fleet, "dmi", uuid);
        assert_eq!(digest, machine_digest(&fleet, "dmi", &format!("{}\n", uuid.to_lowercase())));
        assert_ne!(digest, machine_digest(&other, "dmi", uuid));
        assert_ne!(digest, machine_digest(&fleet, "id", uuid));
    }
}
