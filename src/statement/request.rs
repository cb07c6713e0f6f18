//! Enrolment requests and recipient sets: the two objects with a form of their own.

use std::collections::{BTreeMap, BTreeSet};

use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entry::EntryError;
use super::token::TokenKey;
use crate::digest::Digest;
use crate::json;
use crate::limits::{READERS_MAX, REQUEST_BYTES_MAX, ROLES_MAX, SERVICES_MAX};
use crate::log::note::{Note, SignatureLine};
use crate::name::{Kind, Label, MemberName, Protection, Slot};
use crate::time::Time;
use crate::wireguard::{Endpoint, Lane};

/// What a machine asks for when it joins: itself, its services, their certificates and keys. Made and signed on the
/// machine; no private half is in it.
///
/// ```text
/// {"at":"…","log":"cdn.example/keys/1","members":[{"cert":"…","facts":{…},"keys":[…],"kind":"pop","member":"fra1","revocation":"…"},…],"v":1}
///
/// — cdn.example/fra1 …
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// When it was made.
    pub at: Time,
    /// The invitation that it answers. Such a request is signed by the invitation's token, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<Presented>,
    /// The log it is for.
    pub log: String,
    /// Who joins.
    pub members: Vec<RequestedMember>,
    /// What guards the private halves where it was made, as it says itself.
    #[serde(default, skip_serializing_if = "Protection::is_file")]
    pub protection: Protection,
    v: u64,
}

/// What a request says of the invitation that it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presented {
    /// The machine that it was made on.
    #[serde(default, skip_serializing_if = "Machine::is_empty")]
    pub machine: Machine,
    /// The public half of the token.
    pub token: TokenKey,
}

/// By what a machine is told apart: digests only (see [`super::machine_digest`]), as it tells them itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Of the UUID that the hardware has, or the virtual machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dmi: Option<Digest>,
    /// Of the id that the installed system has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Digest>,
}

impl Machine {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One member of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestedMember {
    /// Its certificate: certified by nobody yet, a service's by its PoP.
    #[serde(with = "bytes")]
    pub cert: Vec<u8>,
    /// What the network has to know about the machine.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub facts: Facts,
    /// Its keys.
    pub keys: Vec<RequestedKey>,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub member: MemberName,
    /// Its certificate's revocation, sealed to the recovery readers.
    #[serde(with = "bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub revocation: Vec<u8>,
}

/// A key of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestedKey {
    /// Whether it starts as the active key; otherwise as a standby.
    pub active: bool,
    /// The public half, in the form its slot has.
    pub key: String,
    /// The lane, for WireGuard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// The slot.
    pub slot: Slot,
}

/// Facts about a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Where its WireGuard is reached: a literal address or a DNS name, without port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Its region: which address pool it draws from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Label>,
    /// What it is for the mesh's topology, as the policy's selectors name it: `hub`, `transit`. Written in order.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", deserialize_with = "roles")]
    pub roles: BTreeSet<Label>,
}

/// Reads roles as they are written: in order, each once.
fn roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Label>, D::Error> {
    let listed = Vec::<Label>::deserialize(deserializer)?;
    let bad = |problem: String| Err(serde::de::Error::custom(problem));
    if listed.len() > ROLES_MAX {
        return bad(format!("{} roles; a machine has at most {ROLES_MAX}", listed.len()));
    }
    if !listed.is_sorted_by(|a, b| a < b) {
        return bad("roles are written in order, each once".to_owned());
    }
    Ok(listed.into_iter().collect())
}

impl Facts {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Request {
    /// A request for `members`.
    pub fn new(at: Time, log: String, members: Vec<RequestedMember>) -> Self {
        Self { at, invitation: None, log, members, protection: Protection::File, v: 1 }
    }

    /// The same, made where the private halves are guarded by this.
    pub fn guarded_by(self, protection: Protection) -> Self {
        Self { protection, ..self }
    }

    /// The same, in answer to an invitation.
    pub fn answering(self, invitation: Presented) -> Self {
        Self { invitation: Some(invitation), ..self }
    }

    /// The bytes that the member signs.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut line = json::to_canonical(self);
        line.push('\n');
        line.into_bytes()
    }

    /// Reads a request file: the request, the bytes that are signed, and the signature lines, not yet verified.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, Vec<u8>, Vec<SignatureLine>), EntryError> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(EntryError::TooLong(bytes.len()));
        }
        let note = Note::parse(bytes)?;
        let line = note.text.strip_suffix('\n').unwrap_or(&note.text);
        let request: Self = json::parse_as(line.as_bytes()).map_err(super::StatementError::from)?;
        if request.v != 1 {
            return Err(super::StatementError::Version(request.v).into());
        }
        if request.members.is_empty() || request.members.len() > SERVICES_MAX + 1 {
            return Err(super::StatementError::Changes(request.members.len()).into());
        }
        // Older requests are in logs as they are; of one by invitation the signed bytes are what is remembered.
        if request.invitation.is_some() && request.to_bytes() != note.text.as_bytes() {
            return Err(super::StatementError::Spelling.into());
        }
        Ok((request, note.text.into_bytes(), note.signatures))
    }

    /// The member of that name.
    pub fn member(&self, name: &MemberName) -> Option<&RequestedMember> {
        self.members.iter().find(|m| &m.member == name)
    }
}

/// Who can read a secret: members, and for each the keys it is sealed to, by upper-case fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipientSet {
    /// Keys by reader, active first.
    pub readers: BTreeMap<MemberName, Vec<String>>,
    v: u64,
}

impl RecipientSet {
    /// A set.
    pub fn new(readers: BTreeMap<MemberName, Vec<String>>) -> Self {
        Self { readers, v: 1 }
    }

    /// The object.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::to_canonical(self).into_bytes()
    }

    /// Reads the object.
    ///
    /// # Errors
    /// [`json::JsonError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, json::JsonError> {
        let set: Self = json::parse_as(bytes)?;
        let bad = |message: String| Err(json::JsonError::Fields(serde::de::Error::custom(message)));
        if set.v != 1 {
            return bad(format!("version {}", set.v));
        }
        if set.readers.is_empty() || set.readers.len() > READERS_MAX {
            return bad(format!("{} readers", set.readers.len()));
        }
        Ok(set)
    }

    /// The digest of the readers' names alone: what an author signs, since a reader's keys change.
    pub fn names_digest(&self) -> Digest {
        Self::names_digest_of(&self.readers)
    }

    /// The same, of a set's readers.
    pub fn names_digest_of(readers: &BTreeMap<MemberName, Vec<String>>) -> Digest {
        Digest::of(json::to_canonical(&readers.keys().collect::<Vec<_>>()).as_bytes())
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.readers.values().flatten().map(String::as_str)
    }
}

/// Bytes as standard base64.
pub(super) mod bytes {
    use base64::Engine as _;

    use super::{BASE64, Deserialize, Deserializer, Serializer};

    pub(in crate::statement) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(in crate::statement) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_written_in_order_and_left_out_where_there_are_none() {
        assert_eq!(json::to_canonical(&Facts::default()), "{}");
        let read = |text: &str| json::parse_as::<Facts>(text.as_bytes()).map_err(|e| e.to_string());
        let text = r#"{"roles":["hub","transit"]}"#;
        let facts = read(text).expect("two roles");
        assert_eq!(facts.roles.iter().map(Label::as_str).collect::<Vec<_>>(), ["hub", "transit"]);
        assert_eq!(json::to_canonical(&facts), text);
        let many: Vec<String> = (100..=100 + ROLES_MAX).map(|i| format!("\"r{i}\"")).collect();
        for (text, part) in [
            (r#"{"roles":["transit","hub"]}"#, "in order, each once"),
            (r#"{"roles":["hub","hub"]}"#, "in order, each once"),
            (r#"{"roles":["Hub"]}"#, "upper-case"),
            (&format!("{{\"roles\":[{}]}}", many.join(",")), "17 roles; a machine has at most 16"),
        ] {
            assert!(read(text).is_err_and(|e| e.contains(part)), "{text}");
        }
    }

    #[test]
    fn a_request_by_invitation_has_one_spelling() {
        let key: TokenKey =
            super::super::token::Token::parse("kt1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap().key();
        let asking = RequestedMember {
            cert: b"a certificate".to_vec(),
            facts: Facts::default(),
            keys: Vec::new(),
            kind: Kind::Pop,
            member: "fra1".parse().unwrap(),
            revocation: Vec::new(),
        };
        let plain = Request::new(Time(1_795_244_400), "cdn.example/keys/1".to_owned(), vec![asking]);
        let answer = plain.clone().answering(Presented { machine: Machine::default(), token: key });
        let read = |text: &str| Request::parse(format!("{text}\n\u{2014} cdn.example/fra1 AAAAAAAA\n").as_bytes());
        let text = |request: &Request| String::from_utf8(request.to_bytes()).unwrap();
        assert_eq!(read(&text(&answer)).unwrap().0, answer);
        assert_eq!(read(&text(&plain)).unwrap().0, plain);
        let spelled = |from: &str, to: &str| text(&answer).replace(from, to);
        for wrong in [
            spelled("\"invitation\":{", "\"invitation\":{\"machine\":{},"),
            spelled("\"invitation\":{", "\"invitation\":{\"machine\":{\"dmi\":null},"),
            spelled("\"keys\":[]", "\"facts\":{},\"keys\":[]"),
        ] {
            let refused = read(&wrong).map(drop);
            assert!(
                matches!(refused, Err(EntryError::Statement(crate::statement::StatementError::Spelling))),
                "{wrong}"
            );
        }
    }
}
