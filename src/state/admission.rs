//! Admission by invitation: the one function that decides, for the fold, for the authority before it signs, and for the
//! machine before it asks.
//!
//! It looks at the state, the request and a time, and at nothing else. What it says is one of a closed set of words, so
//! that programs can tell what may be tried again from what never helps. The order of the questions is part of it: whoever
//! cannot sign with the token learns nothing about what became of the invitation.

use std::collections::BTreeSet;

use super::{Invitation, State, Void};
use crate::digest::Digest;
use crate::log::note::SignatureLine;
use crate::name::{FleetName, Kind, MemberName, Protection};
use crate::openpgp::{Certificate, StatementSignature};
use crate::statement::{Approval, EntryError, Request, RequestedMember, key_hash, principal};
use crate::time::Time;
use crate::words::words;

words! {
    /// What becomes of a request that answers an invitation.
    Admission, "a result of an admission":
    /// It joins.
    Ok = "ok",
    /// It has joined, by this very request.
    Duplicate = "duplicate",
    /// All is well, and operators have yet to agree.
    PendingApproval = "pending_approval",
    /// There is no such invitation, or it was withdrawn, or a newer one has taken its place.
    UnknownInvitation = "unknown_invitation",
    /// Its window has not begun.
    NotYetValid = "not_yet_valid",
    /// Its window is over.
    Expired = "expired",
    /// Somebody else was invited, or as something else: another name, other services, another region or role.
    WrongMember = "wrong_member",
    /// The token, or the certificate, has not signed this request.
    BadSignature = "bad_signature",
    /// A machine with other keys has joined by this token.
    TokenReused = "token_reused",
    /// A key is, or was, in use.
    KeyReused = "key_reused",
    /// Another machine is at this endpoint.
    AddressReused = "address_reused",
    /// A member has the name.
    NameTaken = "name_taken",
    /// It is not the machine that was invited.
    AttestationFailed = "attestation_failed",
    /// Its private halves lie less guarded than the policy wants.
    Unprotected = "unprotected",
    /// A machine with these very keys has joined by another request: it was copied.
    GenerationConflict = "generation_conflict",
}

impl Admission {
    /// Whether the request will not be granted, now or later.
    pub fn is_refusal(self) -> bool {
        !matches!(self, Self::Ok | Self::Duplicate) && !self.may_change()
    }

    /// Whether asking again can help without anybody doing something: time passes, operators agree.
    pub fn may_change(self) -> bool {
        matches!(self, Self::PendingApproval | Self::NotYetValid)
    }
}

/// A result, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The result.
    pub admission: Admission,
    /// In words, why.
    pub why: String,
}

impl Decision {
    fn new(admission: Admission, why: impl Into<String>) -> Self {
        Self { admission, why: why.into() }
    }
}

/// Whether those who have to agree to an enrolment have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreed {
    /// They have, or their signatures are counted afterwards.
    Yes,
    /// Only those who made the invitation.
    ByInvitation,
}

/// A request as it was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What it says.
    pub request: Request,
    /// The bytes that are signed.
    pub body: Vec<u8>,
    /// The signature lines.
    pub lines: Vec<SignatureLine>,
}

impl Asked {
    /// Reads a request file.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let (request, body, lines) = Request::parse(bytes)?;
        Ok(Self { request, body, lines })
    }

    /// What an invitation remembers of the request by which somebody joined: the digest of what was signed. Of a signature
    /// packet parts can be changed, and it is the same request.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.body)
    }

    /// The PoP that asks, if the request is that of one PoP and its services.
    pub fn pop(&self) -> Option<&RequestedMember> {
        let pop = self.request.members.iter().find(|m| m.kind == Kind::Pop)?;
        let belongs = |m: &RequestedMember| m.kind == Kind::Service && m.member.owner() == pop.member;
        let mut others = self.request.members.iter().filter(|m| m.member != pop.member);
        let names: BTreeSet<&MemberName> = self.request.members.iter().map(|m| &m.member).collect();
        (others.all(belongs) && names.len() == self.request.members.len()).then_some(pop)
    }
}

impl State {
    /// What becomes of a request that answers an invitation, at `at`.
    pub fn admission(&self, asked: &Asked, at: Time, agreed: Agreed) -> Decision {
        self.refusal(asked, at, agreed).err().unwrap_or_else(|| Decision::new(Admission::Ok, "it joins"))
    }

    fn refusal(&self, asked: &Asked, at: Time, agreed: Agreed) -> Result<(), Decision> {
        let refuse = |admission, why: String| Err(Decision::new(admission, why));
        let unknown = |why: &str| Err(Decision::new(Admission::UnknownInvitation, why));
        let Some(presented) = &asked.request.invitation else { return unknown("it names no invitation") };
        if asked.request.log != self.log {
            return unknown("it is for another log");
        }
        let Some(pop) = asked.pop() else {
            return refuse(Admission::WrongMember, "it is not that of one PoP with its services".to_owned());
        };
        let Some(found) = self.invitations.get(&pop.member).filter(|i| i.invited.token == presented.token) else {
            let other = self.invitations.iter().find(|(_, i)| i.invited.token == presented.token);
            return match other {
                Some((name, _)) => {
                    refuse(Admission::WrongMember, format!("the token is for {name}, not for {}", pop.member))
                }
                None => unknown("there is no invitation with this token, or a newer one has taken its place"),
            };
        };
        let certificate = self.check_signed(asked, pop)?;
        if found.withdrawn.is_some() {
            return unknown("the invitation was withdrawn");
        }
        self.check_unused(asked, pop, found, &certificate)?;
        let invited = &found.invited;
        if at < invited.not_before {
            return refuse(Admission::NotYetValid, format!("the invitation is good from {} on", invited.not_before));
        }
        if at > invited.not_after {
            return refuse(Admission::Expired, format!("the invitation was good until {}", invited.not_after));
        }
        check_as_invited(asked, pop, found)?;
        if invited.machine.is_some() && invited.machine != presented.machine.dmi {
            return refuse(
                Admission::AttestationFailed,
                "its hardware has another UUID than the machine that was invited".to_owned(),
            );
        }
        if let Err(void) = self.check_protection(&pop.member, Kind::Pop, asked.request.protection) {
            return refuse(Admission::Unprotected, void.to_string());
        }
        self.check_free(asked, pop, found)?;
        match (agreed, invited.approval) {
            (Agreed::Yes, _) | (Agreed::ByInvitation, Approval::Auto) => Ok(()),
            (Agreed::ByInvitation, Approval::Operators) => {
                refuse(Admission::PendingApproval, "operators have to approve the enrolment".to_owned())
            }
        }
    }

    /// The private halves of whoever asks are guarded as the policy wants it of this kind.
    pub(crate) fn check_protection(&self, member: &MemberName, kind: Kind, has: Protection) -> Result<(), Void> {
        let wanted = self.policy.policy.fleet.protection.of(kind);
        if has >= wanted { Ok(()) } else { Err(Void::Unprotected { member: member.clone(), has, wanted }) }
    }

    /// Both the token and the new certificate have signed. Gives the certificate.
    fn check_signed(&self, asked: &Asked, pop: &RequestedMember) -> Result<Certificate, Decision> {
        let bad = |why: String| Decision::new(Admission::BadSignature, why);
        let name = principal(&self.fleet, &pop.member);
        let token = asked.request.invitation.as_ref().map(|i| i.token);
        if !token.is_some_and(|token| token.has_signed(&name, &asked.body, &asked.lines)) {
            return Err(bad("the invitation's token has not signed it".to_owned()));
        }
        let certificate = Certificate::parse(&pop.cert).map_err(|e| bad(format!("its certificate {e}")))?;
        let key = pop.keys.iter().find(|k| k.slot == crate::name::Slot::Sign && k.active).map(|k| k.key.as_str());
        if is_signed_by(asked.lines.as_slice(), &asked.body, (&self.fleet, &self.log), &pop.member, key, &certificate) {
            Ok(certificate)
        } else {
            Err(bad(format!("it is not signed by {}", pop.member)))
        }
    }

    /// Nobody has joined by the invitation.
    fn check_unused(
        &self,
        asked: &Asked,
        pop: &RequestedMember,
        found: &Invitation,
        own: &Certificate,
    ) -> Result<(), Decision> {
        let Some(used) = found.used else { return Ok(()) };
        if used == asked.digest() {
            return Err(Decision::new(Admission::Duplicate, format!("{} has joined by this request", pop.member)));
        }
        let there = self.members.get(&pop.member).map(|m| &m.fingerprint);
        let (admission, why) = if there == Some(&own.fingerprint()) {
            (Admission::GenerationConflict, "a machine with the same keys has joined by another request: one is a copy")
        } else {
            (Admission::TokenReused, "another machine has joined by this token")
        };
        Err(Decision::new(admission, format!("{why} (as {}); 'keys revoke' stops it", pop.member)))
    }

    /// Names, keys and endpoint are nobody else's.
    fn check_free(&self, asked: &Asked, pop: &RequestedMember, found: &Invitation) -> Result<(), Decision> {
        let refuse = |admission, why: String| Err(Decision::new(admission, why));
        let there = self.members.get(&pop.member).filter(|m| m.is_active());
        let replaced = there.is_some_and(|m| found.invited.replaces == Some(m.fingerprint.to_hex()));
        if there.is_some() && !replaced {
            return refuse(Admission::NameTaken, format!("{} is a member already", pop.member));
        }
        let mut own = BTreeSet::new();
        for requested in &asked.request.members {
            let name = &requested.member;
            if name != &pop.member && !replaced && self.members.get(name).is_some_and(|m| m.is_active()) {
                return refuse(Admission::NameTaken, format!("{name} is a member already"));
            }
            let certificate = match Certificate::parse(&requested.cert) {
                Ok(certificate) => certificate,
                Err(e) => return refuse(Admission::BadSignature, format!("the certificate of {name} {e}")),
            };
            let materials = match self.new_materials(name, &requested.keys, &certificate) {
                Ok(materials) => materials,
                Err(void) => return refuse(Admission::KeyReused, void.to_string()),
            };
            if let Some(twice) = materials.intersection(&own).next() {
                return refuse(
                    Admission::KeyReused,
                    format!("{name} has a key of another member (material {})", twice.short()),
                );
            }
            own.extend(materials);
        }
        let Some(endpoint) = &pop.facts.endpoint else { return Ok(()) };
        let others = self.members.iter().filter(|(n, m)| m.is_active() && **n != pop.member);
        match others.filter(|(_, m)| m.facts.endpoint.as_ref() == Some(endpoint)).map(|(n, _)| n).next() {
            Some(other) => refuse(Admission::AddressReused, format!("{other} is at {} already", endpoint.host)),
            None => Ok(()),
        }
    }
}

/// The request asks for what was invited: no service more or less, in the same region, with the same roles.
fn check_as_invited(asked: &Asked, pop: &RequestedMember, found: &Invitation) -> Result<(), Decision> {
    let refuse = |what: &str| {
        Err(Decision::new(
            Admission::WrongMember,
            format!("{} was invited with other {what} than it asks for", pop.member),
        ))
    };
    let (invited, facts) = (&found.invited, &pop.facts);
    let services = asked.request.members.iter().filter_map(|m| m.member.service_label());
    if services.collect::<BTreeSet<_>>() != invited.services.iter().collect::<BTreeSet<_>>() {
        return refuse("services");
    }
    if facts.region != invited.facts.region || facts.roles != invited.facts.roles {
        return refuse("facts: region or roles");
    }
    if invited.facts.endpoint.is_some() && facts.endpoint != invited.facts.endpoint {
        return refuse("facts: the endpoint");
    }
    Ok(())
}

/// Whether one of `lines` is a signature of `owner` over `body`, by the signing key `key` of `certificate`.
pub(super) fn is_signed_by(
    lines: &[SignatureLine],
    body: &[u8],
    (fleet, log): (&FleetName, &str),
    owner: &MemberName,
    key: Option<&str>,
    certificate: &Certificate,
) -> bool {
    let principal = principal(fleet, owner);
    lines.iter().filter(|line| line.name == principal).any(|line| {
        let Ok(signature) = StatementSignature::parse(&line.signature, fleet, log) else {
            return false;
        };
        let issuer = signature.issuer();
        Some(issuer.to_hex().as_str()) == key
            && line.key_hash == key_hash(&principal, issuer)
            && certificate.key(issuer).is_some_and(|key| signature.verify(key, body).is_ok())
    })
}
