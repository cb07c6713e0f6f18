//! Challenges: what a newcomer has to answer before anything is sealed to it. That a key is bound in a certificate, or listed in
//! a request, does not show that the machine has its private half; that it can open what was sealed to the key does.
//!
//! ```text
//! {"challenges":[{"answer":"5e1c…","key":"B1A9…","member":"fra1","sealed":"hF4D…","slot":"openpgp"},…],"v":1}     (one line)
//! ```
//! An object that a `member.enroll` statement names. `answer` is the SHA-256 of the answer, so everybody who replays the log can
//! judge one. For an OpenPGP key `sealed` is a message to that key alone, whose text begins as [`preamble`] says; the answer is a
//! digest of the text, so what is published shows nothing of whatever else was sealed to the key. For a WireGuard key it is the
//! public half of a pair made for this, with which both sides agree on the answer (X25519, RFC 7748).

use serde::{Deserialize, Serialize};

use super::request::bytes;
use crate::digest::Digest;
use crate::json::{self, JsonError};
use crate::limits::{CHALLENGES_MAX, OBJECT_BYTES_MAX};
use crate::name::{MemberName, Slot};

/// A list of challenges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenges {
    /// In the order of members, slots and keys, one for each key.
    pub challenges: Vec<Challenge>,
    v: u64,
}

/// The challenge to one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// SHA-256 of the answer.
    pub answer: Digest,
    /// The key, in the form its slot has.
    pub key: String,
    /// Whose.
    pub member: MemberName,
    /// What only the key's private half gets the answer from.
    #[serde(with = "bytes")]
    pub sealed: Vec<u8>,
    /// The key's slot.
    pub slot: Slot,
}

impl Challenge {
    fn place(&self) -> (&MemberName, Slot, &str) {
        (&self.member, self.slot, &self.key)
    }

    /// Whether this is the answer.
    pub fn is_answered_by(&self, answer: &Digest) -> bool {
        Digest::of(&answer.0) == self.answer
    }
}

impl Challenges {
    /// A list, put in order.
    pub fn new(mut challenges: Vec<Challenge>) -> Self {
        challenges.sort_by(|a, b| a.place().cmp(&b.place()));
        Self { challenges, v: 1 }
    }

    /// Those to `member`'s keys, in order.
    pub fn of<'a>(&'a self, member: &'a MemberName) -> impl Iterator<Item = &'a Challenge> {
        self.challenges.iter().filter(move |c| c.member == *member)
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
        let bad = |message: String| Err(JsonError::Fields(serde::de::Error::custom(message)));
        if bytes.len() > OBJECT_BYTES_MAX {
            return bad(format!("{} bytes; at most {OBJECT_BYTES_MAX} are allowed", bytes.len()));
        }
        let list: Self = json::parse_as(bytes)?;
        if list.v != 1 {
            return bad(format!("version {}", list.v));
        }
        let all = &list.challenges;
        if all.is_empty() || all.len() > CHALLENGES_MAX {
            return bad(format!("{} challenges; 1 to {CHALLENGES_MAX} are allowed", all.len()));
        }
        if !all.is_sorted_by(|a, b| a.place() < b.place()) {
            return bad("challenges are written in the order of members, slots and keys, one for each key".to_owned());
        }
        if list.to_bytes() != bytes {
            return bad("it is not spelled as this program spells it".to_owned());
        }
        Ok(list)
    }
}

/// How the text of a challenge to an OpenPGP key begins; 64 random hexadecimal digits and a line feed follow. Whoever opens
/// something else as a challenge has been given something that is none.
pub fn preamble(log: &str, member: &MemberName, key: &str) -> String {
    format!("keys/challenge/v1\n{log}\n{member} {key}\n")
}

/// The answer to a challenge with this text.
pub fn answer(text: &[u8]) -> Digest {
    Digest::of_parts(&[b"keys/answer/v1", text])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(member: &str, slot: Slot, key: &str) -> Challenge {
        let (key, sealed) = (key.to_owned(), b"sealed".to_vec());
        Challenge { answer: Digest::of(&answer(b"text").0), key, member: member.parse().unwrap(), sealed, slot }
    }

    #[test]
    fn a_list_has_one_spelling() {
        let list = Challenges::new(vec![
            challenge("nginx@fra1", Slot::Openpgp, "C"),
            challenge("fra1", Slot::Wireguard, "B"),
            challenge("fra1", Slot::Openpgp, "A"),
        ]);
        let bytes = list.to_bytes();
        assert_eq!(Challenges::parse(&bytes).unwrap(), list);
        assert_eq!(list.of(&"fra1".parse().unwrap()).count(), 2);
        let text = String::from_utf8(bytes).unwrap();
        let mut turned = list.clone();
        turned.challenges.swap(0, 1);
        let mut twice = list.clone();
        twice.challenges.insert(0, list.challenges[0].clone());
        for (wrong, part) in [
            (text.replace("\"v\":1", "\"v\":2"), "version 2"),
            (text.replace("\"v\":1", "\"v\":1,\"w\":1"), "unknown field"),
            (String::from_utf8(turned.to_bytes()).unwrap(), "in the order"),
            (String::from_utf8(twice.to_bytes()).unwrap(), "in the order"),
            ("{\"challenges\":[],\"v\":1}".to_owned(), "0 challenges"),
        ] {
            let e = Challenges::parse(wrong.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(part), "{wrong}: {e}");
        }
    }

    #[test]
    fn an_answer_is_known_by_its_digest_alone() {
        let one = challenge("fra1", Slot::Openpgp, "A");
        assert!(one.is_answered_by(&answer(b"text")));
        assert!(!one.is_answered_by(&answer(b"texT")));
        assert!(!one.is_answered_by(&one.answer));
    }
}
