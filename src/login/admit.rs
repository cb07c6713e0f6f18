//! The judgement over one SSH certificate.

use std::collections::{BTreeMap, BTreeSet};

use super::break_glass;
use super::order::OrderError;
use super::trust::{Trust, TrustedMember, UserTerms};
use crate::digest::Digest;
use crate::limits::FUTURE_SECONDS_MAX;
use crate::log::note::SignatureLine;
use crate::log::proof::{Proof, ProofError};
use crate::name::{ActName, Kind, MemberName};
use crate::openpgp::{StatementSignature, material};
use crate::policy::{Case, Quorums, Role, Rule, Signers};
use crate::ssh::{CertificateError, CertificateKind, Principal, Serial, SshCertificate, Staple, Stapled};
use crate::statement::{Act, Entry, EntryError, Issue, Signed, key_hash, principal, principal_member};
use crate::time::Span;

/// Why a certificate lets nobody in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a user's.
    #[error("it is a host's certificate")]
    Host,
    /// Signed by somebody with the CA's key, and nothing says that the log decided it.
    #[error("it carries no proof that the log of {0} decided it")]
    Unproven(String),
    /// What it carries is no proof.
    #[error("what it carries is no proof: it {0}")]
    Proof(#[from] ProofError),
    /// What it carries is no entry.
    #[error("what it carries is no log entry: {0}")]
    Entry(#[from] EntryError),
    /// The log's key signed the head, and the others did not.
    #[error("the head of the log that it is proved by lacks {0}")]
    Cosigners(String),
    /// The entry decides something else.
    #[error("the entry that it is proved by decides something else")]
    OtherEntry,
    /// Not what the entry decides.
    #[error("it {0}")]
    Certificate(#[from] CertificateError),
    /// Nobody that is known here, or nobody who may have one.
    #[error("{0} is nobody who may log in here")]
    Stranger(MemberName),
    /// More than the policy gives.
    #[error("{0}")]
    Terms(String),
    /// Too few signed the entry.
    #[error("the entry that decides it lacks {0}")]
    Quorum(String),
    /// The policy names no break-glass keys, or not the one that signed it.
    #[error("its CA is none of the break-glass keys of this fleet")]
    NoBreakGlass,
    /// What it carries is no break-glass order.
    #[error("what it carries is no break-glass order: it {0}")]
    Order(#[from] OrderError),
    /// Too few of the break-glass keys have signed.
    #[error("only {found} of the break-glass keys have signed it; it takes {needed}")]
    BreakGlass {
        /// How many.
        found: usize,
        /// How many it takes.
        needed: usize,
    },
    /// A good certificate, for elsewhere.
    #[error("nothing that it names is accepted by this account")]
    Elsewhere,
}

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Whose certificate it is.
    pub member: MemberName,
    /// The principals that the account accepts and that the policy gives the member here. `sshd` then looks whether the
    /// certificate has one of them.
    pub principals: BTreeSet<Principal>,
    /// The break-glass keys that signed for it, if the log did not decide it.
    pub broke_glass: BTreeSet<String>,
}

/// Judges a certificate for an account that accepts these principals.
///
/// # Errors
/// [`Refusal`]. Not judged is what `sshd` judges: the validity, the KRL, whether the CA is trusted, source addresses.
pub fn admit(trust: &Trust, accepted: &BTreeSet<Principal>, certificate: &SshCertificate) -> Result<Admitted, Refusal> {
    if certificate.kind() != CertificateKind::User {
        return Err(Refusal::Host);
    }
    let unproven = || Refusal::Unproven(trust.fleet.to_string());
    let staple = Staple::of(certificate).filter(|s| s.is_of(&trust.fleet)).ok_or_else(unproven)?;
    let (entry, proof) = match staple.parts()? {
        Stapled::Proof(entry, proof) => (entry, proof),
        Stapled::BreakGlass(order, signatures) => {
            return break_glass::admit(trust, accepted, certificate, order, &signatures);
        }
    };
    let proof = Proof::parse(proof)?;
    proof.verify(entry, &trust.log_keys)?;
    if let Some(cosigned) = trust.publication().map(|p| p.judge(&proof.note)).filter(|c| !c.missing.is_empty()) {
        return Err(Refusal::Cosigners(cosigned.missing_in_words()));
    }
    let entry = Entry::parse(entry)?;
    let statement = &entry.signed.statement;
    let Act::SshIssue(issue) = &statement.act else { return Err(Refusal::OtherEntry) };
    if statement.log != trust.log {
        return Err(Refusal::OtherEntry);
    }
    certificate.verify_issued(&issue.certificate, Serial::of_entry(proof.index))?;
    let (member, terms) = terms_of(trust, &issue.member)?;
    check_terms(issue, &entry.signed, terms)?;
    let signers = signers(trust, &entry.signed, &entry.signatures);
    check_quorum(terms, member.kind, &roles(trust, &issue.member, &signers))?;
    let principals: BTreeSet<Principal> =
        accepted.iter().filter(|p| member.principals.contains(p.as_str())).cloned().collect();
    if !certificate.principals().iter().any(|own| principals.iter().any(|p| p.as_str() == own)) {
        return Err(Refusal::Elsewhere);
    }
    Ok(Admitted { member: issue.member.clone(), principals, broke_glass: BTreeSet::new() })
}

fn terms_of<'t>(trust: &'t Trust, name: &MemberName) -> Result<(&'t TrustedMember, &'t UserTerms), Refusal> {
    let found = trust.members.get(name).and_then(|member| Some((member, trust.terms.get(&member.kind)?)));
    found.ok_or_else(|| Refusal::Stranger(name.clone()))
}

/// Whether it is no more than the policy gives. That this is the policy which the node has seen last, and not the one under
/// which it was decided, errs to the narrower side as soon as the node has the narrower one.
fn check_terms(issue: &Issue, signed: &Signed, terms: &UserTerms) -> Result<(), Refusal> {
    let fields = issue.certificate.fields();
    let lifetime = Span(terms.lifetime);
    if fields.valid_before.since(signed.statement.at) > lifetime {
        return Err(Refusal::Terms(format!("it lives longer than the {lifetime} that the policy gives")));
    }
    if fields.critical_options != terms.critical_options {
        return Err(Refusal::Terms("its critical options are not those of the policy".to_owned()));
    }
    match fields.extensions.iter().find(|e| !terms.extensions.contains(*e)) {
        Some(stranger) => Err(Refusal::Terms(format!("the policy does not give it the extension '{stranger}'"))),
        None => Ok(()),
    }
}

/// The members whose signatures count. A member counts once, and so does key material.
fn signers(trust: &Trust, signed: &Signed, lines: &[SignatureLine]) -> BTreeSet<MemberName> {
    let mut found: BTreeMap<Digest, MemberName> = BTreeMap::new();
    for line in lines {
        if let Some((member, material)) = signer(trust, signed, line)
            && found.values().all(|m| *m != member)
        {
            found.entry(material).or_insert(member);
        }
    }
    found.into_values().collect()
}

/// Who made a signature line, and of what the key is made; none if it does not count.
fn signer(trust: &Trust, signed: &Signed, line: &SignatureLine) -> Option<(MemberName, Digest)> {
    let name = principal_member(&trust.fleet, &line.name)?;
    let member = trust.members.get(&name)?;
    let signature = StatementSignature::parse(&line.signature, &trust.fleet, &trust.log).ok()?;
    let (statement, made) = (&signed.statement, signature.created());
    if made.plus(Span(FUTURE_SECONDS_MAX)) < statement.at || made > statement.expires {
        return None;
    }
    if line.key_hash != key_hash(&principal(&trust.fleet, &name), signature.issuer()) {
        return None;
    }
    let known = member.keys.iter().find(|k| k.key.fingerprint() == *signature.issuer())?;
    // A certificate that was decided later, or that says so, is not one that the replaced key may speak for. One that says
    // that it was decided earlier has run out by the time at which the key counts no more.
    if known.until.is_some_and(|until| statement.at > until) {
        return None;
    }
    signature.verify(&known.key, &signed.body).ok()?;
    Some((name, material(&known.key)))
}

fn roles(trust: &Trust, own: &MemberName, signers: &BTreeSet<MemberName>) -> Signers {
    let mut roles = Signers::default();
    for name in signers {
        let mut add = |role| {
            roles.0.entry(role).or_default().insert(name.clone());
        };
        if own == name || own.owner() == *name {
            add(Role::Own);
        }
        trust.members.get(name).into_iter().flat_map(|m| &m.roles).for_each(|role| add(*role));
    }
    roles
}

fn check_quorum(terms: &UserTerms, kind: Kind, signers: &Signers) -> Result<(), Refusal> {
    let rule = |need: &BTreeMap<Role, u32>| Rule { act: ActName::SshIssue, when: None, need: need.clone() };
    let quorums = Quorums::new("trust.json", terms.quorums.iter().map(rule).collect());
    let quorums = quorums.map_err(|e| Refusal::Quorum(e.to_string()))?;
    quorums.check(ActName::SshIssue, Some(Case::of_kind(kind)), signers).map_err(Refusal::Quorum)
}
