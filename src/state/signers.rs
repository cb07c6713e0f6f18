//! Who has signed, what that counts for, and for whom enough operators vouch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ahead::Facts;
use super::fold::{Context, Measure, Objects, Replay, Stop};
use super::{Member, State, Void};
use crate::digest::Digest;
use crate::limits::FUTURE_SECONDS_MAX;
use crate::log::note::SignatureLine;
use crate::name::{ActName, Kind, MemberName, Slot};
use crate::openpgp::{Certificate, CertificateError, Fingerprint, PublicKey, StatementSignature, Web, material};
use crate::policy::{Case, Policy, Role, Signers};
use crate::statement::{Act, Signed, key_hash, principal, principal_member};
use crate::time::{Span, Time};

/// A signature line that was made by a member with its active signing key.
struct Verified {
    member: MemberName,
    made: Time,
    material: Digest,
    /// When the member's certificate expires.
    expires: Option<Time>,
}

/// What the signatures of an entry came to.
pub(super) struct Counted {
    pub members: BTreeSet<MemberName>,
    /// Those whose certificate has expired. They can still renew it, and nothing else.
    pub lapsed: BTreeSet<MemberName>,
    /// The newest time that a counted signature, or the statement, claims.
    pub time: Time,
}

/// Who can be part of a path, and with which certificate.
pub(super) type Introducer = (MemberName, Kind, Digest);
/// How many operators vouched for a member: at a time, with its certificate, by way of these.
pub(super) type Endorsed = BTreeMap<(Time, MemberName, Digest, Vec<Introducer>), usize>;
/// How many answers are kept: those of one time, asked again and again where many secrets are sealed.
const ENDORSED_MAX: usize = 1024;

impl<O: Objects> Replay<O> {
    /// Verifies the signature lines. A line counts if it names an active member, was made by that member's active signing
    /// key, and verifies; members count once, and so does key material that two members would share.
    pub(super) fn count(&mut self, signed: &Signed, lines: &[SignatureLine]) -> Result<Counted, Stop> {
        let at = signed.statement.at;
        let mut verified: Vec<Verified> = Vec::new();
        for line in lines {
            let found = self.verified(signed, line)?;
            verified
                .extend(found.filter(|f| verified.iter().all(|v| v.member != f.member && v.material != f.material)));
        }
        let time = verified.iter().map(|v| v.made).fold(at, Time::max);
        let now = self.state().map_or(time, |s| s.time.max(time));
        let (lapsed, alive): (Vec<_>, Vec<_>) = verified.into_iter().partition(|v| v.expires.is_some_and(|e| e <= now));
        let names = |list: Vec<Verified>| list.into_iter().map(|v| v.member).collect();
        Ok(Counted { members: names(alive), lapsed: names(lapsed), time })
    }

    /// Verifies one signature line; none if it does not count.
    fn verified(&mut self, signed: &Signed, line: &SignatureLine) -> Result<Option<Verified>, Stop> {
        let Some(((name, member), signature)) = self.state().and_then(|s| s.claimed(line, &self.facts)) else {
            return Ok(None);
        };
        let (statement, made) = (&signed.statement, signature.created());
        // Made after the statement and before it expires: a signature cannot move the fleet's time beyond that.
        if made.plus(Span(FUTURE_SECONDS_MAX)) < statement.at || made > statement.expires {
            return Ok(None);
        }
        let (name, digest, cert_expires) = (name.clone(), member.cert, member.cert_expires);
        let certificate = self.certificate(&name, &digest)?;
        let log = self.state_ref()?.log.as_str();
        let good = |key: &&PublicKey| {
            self.facts.hold(log, key, signed, &line.signature) || signature.verify(key, &signed.body).is_ok()
        };
        let key = certificate.key(signature.issuer()).filter(good);
        Ok(key.map(|key| Verified { member: name, made, material: material(key), expires: cert_expires }))
    }

    /// Those of `lines` that would count as signatures of `signed` now, one a member: what others have put beside them
    /// stands in nobody's way. Before the founding: lines in the founders' names.
    pub fn countable(&mut self, signed: &Signed, lines: &[SignatureLine], now: Time) -> Vec<SignatureLine> {
        let statement = &signed.statement;
        let mut names = BTreeSet::new();
        let latest = now.plus(Span(FUTURE_SECONDS_MAX));
        let good = |line: &&SignatureLine| {
            let name = match (self.state(), &statement.act) {
                (None, Act::Genesis(genesis)) => principal_member(&genesis.fleet, &line.name)
                    .filter(|name| genesis.members.iter().any(|m| m.member == *name)),
                (None, _) => None,
                (Some(_), _) => {
                    self.verified(signed, line).ok().flatten().filter(|v| v.made <= latest).map(|v| v.member)
                }
            };
            name.is_some_and(|name| names.insert(name))
        };
        lines.iter().filter(good).cloned().collect()
    }

    /// Checks the quorum for one change. `own` is the member that changes, and whether it has consented already, by a
    /// request of its own.
    pub(super) fn quorum(
        &mut self,
        act: ActName,
        case: Option<Case>,
        own: Option<(&MemberName, bool)>,
        context: &Context<'_>,
    ) -> Result<(), Stop> {
        let policy = match &self.measure {
            Measure::Waived => return Ok(()),
            Measure::Of(policy) => Arc::clone(policy),
            Measure::InForce => Arc::clone(&self.state_ref()?.policy.policy),
        };
        if policy.fleet.quorums.alternatives(act, case).next().is_none() {
            return Err(Void::NoRule { act, case }.into());
        }
        let signers = self.signers(own, context, &policy)?;
        policy.fleet.quorums.check(act, case, &signers).map_err(|missing| Void::Quorum { act, missing }.into())
    }

    /// The signers by role. An authority counts only while enough operators vouch for it.
    pub(super) fn signers(
        &mut self,
        own: Option<(&MemberName, bool)>,
        context: &Context<'_>,
        policy: &Policy,
    ) -> Result<Signers, Stop> {
        let mut roles = Signers::default();
        let mut add = |role, name: &MemberName| {
            roles.0.entry(role).or_default().insert(name.clone());
        };
        if let Some((member, true)) = own {
            add(Role::Own, &member.owner());
        }
        // A member whose certificate has expired has a say about nothing but that.
        if let Some(name) = own.map(|(m, _)| m).filter(|m| context.lapsed.contains(m)) {
            add(Role::Own, name);
        }
        for name in context.signers {
            let Some(kind) = self.state().and_then(|s| s.members.get(name)).map(|m| m.kind) else { continue };
            if own.is_some_and(|(m, _)| m == name || m.owner() == *name) {
                add(Role::Own, name);
            }
            if policy.fleet.root.contains(name) && kind == Kind::Operator {
                add(Role::Root, name);
            }
            match kind {
                Kind::Operator => add(Role::Operator, name),
                Kind::Authority if self.endorsers(name, context.time)? >= policy.fleet.vouching_operators => {
                    add(Role::Authority, name)
                }
                Kind::Authority | Kind::Pop | Kind::Service => {}
            }
        }
        Ok(roles)
    }

    /// How many operators vouch for the certificate of `member`, which is in the state, at `at`.
    ///
    /// # Errors
    /// If a certificate cannot be had.
    pub(super) fn endorsers(&mut self, member: &MemberName, at: Time) -> Result<usize, Stop> {
        let digest = self.state().and_then(|s| s.members.get(member)).map(|m| (m.kind, m.cert));
        let (kind, digest) = digest.ok_or_else(|| Void::NoMember(member.clone()))?;
        let asked = (at, member.clone(), digest, self.introducers(member)?);
        if let Some(found) = self.endorsed.get(&asked) {
            return Ok(*found);
        }
        let certificate = self.certificate(member, &digest)?;
        let found = self.endorsers_of(member, kind, &certificate, at)?;
        if self.endorsed.len() >= ENDORSED_MAX {
            self.endorsed.clear();
        }
        self.endorsed.insert(asked, found);
        Ok(found)
    }

    /// Whoever can be part of a path to `member`: operators, authorities, and the PoP of a service. Nobody who has left.
    fn introducers(&self, member: &MemberName) -> Result<Vec<Introducer>, Stop> {
        let may = |(name, m): &(&MemberName, &Arc<Member>)| {
            m.is_active()
                && *name != member
                && (matches!(m.kind, Kind::Operator | Kind::Authority) || **name == member.owner())
        };
        let members = self.state_ref()?.members.iter();
        Ok(members.filter(may).map(|(name, m)| (name.clone(), m.kind, m.cert)).collect())
    }

    /// How many operators vouch that `certificate` is that of `member`, at `at`.
    pub(super) fn endorsers_of(
        &mut self,
        member: &MemberName,
        kind: Kind,
        certificate: &Arc<Certificate>,
        at: Time,
    ) -> Result<usize, Stop> {
        let state = self.state_ref()?;
        let user_id = member.user_id(kind, &state.fleet);
        let introducers = self.introducers(member)?;
        let mut held = vec![Arc::clone(certificate)];
        let mut roots: Vec<Fingerprint> = Vec::new();
        for (name, kind, digest) in introducers {
            let introducer = self.certificate(&name, &digest)?;
            // The engine lets an introducer vouch on after its expiry and does not look at the target at all.
            if introducer.alive(at).is_err() {
                continue;
            }
            if kind == Kind::Operator {
                roots.push(introducer.fingerprint());
            }
            held.push(introducer);
        }
        if certificate.alive(at).is_err() {
            return Ok(0);
        }
        let certificates: Vec<&Certificate> = held.iter().map(AsRef::as_ref).collect();
        Ok(Web { roots: &roots, certificates: &certificates }.endorsers(&user_id, &certificate.fingerprint(), at)?)
    }

    /// Whether enough operators vouch for the certificate of `member` at `at`: the check before anything is sealed to
    /// it or issued for it.
    ///
    /// # Errors
    /// In words, why not.
    pub fn check_vouched(&mut self, member: &MemberName, at: Time) -> Result<(), Void> {
        let needed = self.state().map_or(usize::MAX, |s| s.policy.policy.fleet.vouching_operators);
        let kind = self.state().and_then(|s| s.members.get(member)).filter(|m| m.is_active()).map(|m| m.kind);
        match kind {
            None => Err(Void::NoMember(member.clone())),
            // Operators are the roots; the log admitted them.
            Some(Kind::Operator) => self.alive(member, at),
            Some(Kind::Authority | Kind::Pop | Kind::Service) => match self.endorsers(member, at) {
                Ok(found) if found >= needed => self.alive(member, at),
                Ok(found) => Err(Void::Unvouched { member: member.clone(), found, needed }),
                Err(Stop::Void(void)) => Err(void),
                Err(Stop::Object(e)) => Err(Void::Unreadable(e.to_string())),
                Err(Stop::Openpgp(e)) => Err(Void::Unreadable(e.to_string())),
            },
        }
    }

    fn alive(&mut self, member: &MemberName, at: Time) -> Result<(), Void> {
        let certificate = self.current_certificate(member).map_err(|e| Void::Unreadable(e.to_string()))?;
        certificate
            .alive(at)
            .map(|_| ())
            .map_err(|problem: CertificateError| Void::Certificate { member: member.clone(), problem })
    }
}

impl State {
    /// The member and the parsed signature that a line claims, if the member is active and the key is its active one.
    fn claimed(
        &self,
        line: &SignatureLine,
        facts: &Facts,
    ) -> Option<((&MemberName, &Member), Arc<StatementSignature>)> {
        let name = principal_member(&self.fleet, &line.name)?;
        let (name, member) = self.members.get_key_value(&name).filter(|(_, m)| m.is_active())?;
        let signature = match facts.parsed(&self.log, &line.signature) {
            Some(parsed) => parsed,
            None => Arc::new(StatementSignature::parse(&line.signature, &self.fleet, &self.log).ok()?),
        };
        let right_key = member.active(Slot::Sign)?.key == signature.issuer().to_hex();
        let right_hash = line.key_hash == key_hash(&principal(&self.fleet, name), signature.issuer());
        (right_key && right_hash).then_some(((name, member), signature))
    }
}
