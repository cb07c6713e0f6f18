//! Making statements, and putting this machine's signatures beside them. Nobody is asked for a signature that cannot help: an
//! act without a rule, a statement that is dead or complete, and one that she has signed already cost none.

use sequoia_openpgp as pgp;

use super::proposals::{Proposal, standing_of};
use super::{Fleet, FleetError, Standing};
use crate::limits::SIGNATURES_MAX;
use crate::log::note::SignatureLine;
use crate::name::MemberName;
use crate::openpgp::sign_statement;
use crate::state::{Verdict, Void};
use crate::statement::{Act, Entry, Signed, Statement, key_hash, principal};
use crate::time::{Span, Time};

/// How long a founding may wait for the founders, before there is a policy that says so.
const FOUNDING_LIFETIME: Span = Span::days(7);

/// Somebody on this machine who can sign statements.
pub struct Signer {
    /// Who.
    pub member: MemberName,
    /// The active signing key: a software key, or one behind an agent.
    pub key: Box<dyn pgp::crypto::Signer + Send + Sync>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({}, ..)", self.member)
    }
}

impl Fleet {
    /// Signs a statement, by one signer after another until its quorum is met or nobody is left.
    pub(super) fn sign(
        &mut self,
        act: Act,
        reason: String,
        not_before: Time,
        signers: &mut [Signer],
    ) -> Result<(Entry, Verdict), FleetError> {
        let by = signers.first().map(|s| s.member.clone());
        let by =
            by.ok_or_else(|| FleetError::Refused(Void::Unreadable("this home has nobody who could sign".to_owned())))?;
        let now = self.now().max(not_before);
        let mut entry = Entry { signed: self.drafted(act, reason, now, by)?, signatures: Vec::new() };
        let now = entry.signed.statement.at;
        let mut verdict = None;
        for signer in signers {
            entry.signatures.push(self.signature(&entry.signed.body, signer, now)?);
            let found = self.preview(&entry.to_bytes()?)?;
            let lacks = matches!(standing_of(&found), Standing::Lacks(_));
            verdict = Some(found);
            if !lacks {
                break;
            }
        }
        verdict.map(|v| (entry, v)).ok_or_else(|| FleetError::Refused(Void::Unreadable("nobody signed".to_owned())))
    }

    /// A statement as `by` would sign it, dated `now` or as soon after it as it is a statement of its own.
    ///
    /// # Errors
    /// [`FleetError::Refused`], if nobody may do it.
    pub fn drafted(&self, act: Act, reason: String, now: Time, by: MemberName) -> Result<Signed, FleetError> {
        self.check_rule(&act)?;
        self.check_past(&act)?;
        let (policy, lifetime) = match self.is_founded().then(|| self.state()) {
            Some(state) => (state.policy.version, state.may_wait(&act)),
            None => (0, FOUNDING_LIFETIME),
        };
        let log = self.log.clone();
        let mut statement = Statement { act, at: now, by, expires: now.plus(lifetime), log, policy, reason };
        let mut signed = Signed::of(statement.clone())?;
        // What was done or objected to in this very second would be the same statement: this one is another.
        while self.replay.state().is_some_and(|s| s.is_settled(&signed)) {
            (statement.at, statement.expires) = (statement.at.plus(Span(1)), statement.expires.plus(Span(1)));
            signed = Signed::of(statement.clone())?;
        }
        Ok(signed)
    }

    /// Refuses an act that nobody may do, before anybody is asked to sign it.
    fn check_rule(&self, act: &Act) -> Result<(), FleetError> {
        let name = act.name();
        let knows = !self.is_founded() || self.state().policy.policy.fleet.quorums.knows(name);
        if knows { Ok(()) } else { Err(FleetError::Refused(Void::NoRule { act: name, case: None })) }
    }

    pub(super) fn signature(&self, body: &[u8], signer: &mut Signer, now: Time) -> Result<SignatureLine, FleetError> {
        let fleet = self.fleet_name(body)?;
        let name = principal(&fleet, &signer.member);
        let signature = sign_statement(signer.key.as_mut(), &fleet, &self.log, body, now)
            .map_err(|e| FleetError::Sign { member: signer.member.clone(), problem: e.detail })?;
        Ok(SignatureLine { key_hash: key_hash(&name, &signer.key.public().fingerprint()), name, signature })
    }

    /// The fleet's name: from the state, or, before the founding, from the statement that founds it.
    fn fleet_name(&self, body: &[u8]) -> Result<crate::name::FleetName, FleetError> {
        if let Some(state) = self.replay.state() {
            return Ok(state.fleet.clone());
        }
        match Signed::parse(body)?.statement.act {
            Act::Genesis(genesis) => Ok(genesis.fleet),
            _ => Err(FleetError::Refused(Void::Genesis)),
        }
    }

    /// A proposal with the signatures of one signer after another, as long as it lacks any, and where it stands then.
    pub(super) fn countersign(
        &mut self,
        proposal: &Proposal,
        signers: &mut [Signer],
    ) -> Result<(Proposal, Standing), FleetError> {
        let mut signed = proposal.clone();
        let mut standing = self.standing(&signed)?;
        if !signers.is_empty() && matches!(standing, Standing::Lacks(_)) {
            self.check_past(&signed.signed.statement.act)?;
        }
        for signer in signers {
            if let Standing::Dead(void) = standing {
                return Err(FleetError::Refused(void));
            }
            if standing == Standing::Complete {
                break;
            }
            let name = principal(&self.fleet_name(&signed.signed.body)?, &signer.member);
            if signed.signatures.iter().any(|l| l.name == name) {
                continue;
            }
            let line = self.signature(&signed.signed.body, signer, self.now())?;
            // In front: if there is no room for all, those that matter least give way.
            signed.signatures.insert(0, line);
            signed.signatures.truncate(SIGNATURES_MAX);
            standing = self.standing(&signed)?;
        }
        Ok((signed, standing))
    }
}
