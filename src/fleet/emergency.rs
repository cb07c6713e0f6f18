//! Emergencies by file: declared and signed where nobody reaches the log, applied by machines that do not reach it either, and
//! handed in by the first that does.
//!
//! The file is an entry that nobody has logged yet (`crate::statement`): what is signed is the same statement, wherever it
//! goes. A machine believes nothing about it but what its own log and keys say.

use super::proposals::{Proposal, standing_of};
use super::{Fleet, FleetError, Signer, Standing};
use crate::limits::{FUTURE_SECONDS_MAX, SIGNATURES_MAX};
use crate::log::note::SignatureLine;
use crate::name::Kind;
use crate::state::{AppliedHere, Void};
use crate::statement::{Act, Entry, Stop};
use crate::time::{Span, Time};

impl Fleet {
    /// Declares an emergency, signed by one signer after another until its quorum is met or nobody is left. It is nowhere but
    /// in what this gives.
    ///
    /// # Errors
    /// [`FleetError`], also if it would have no effect.
    pub fn declare(
        &mut self,
        stops: Vec<Stop>,
        reason: &str,
        signers: &mut [Signer],
    ) -> Result<(Proposal, Standing), FleetError> {
        self.check_clock()?;
        let (entry, verdict) = self.sign(Act::Emergency(stops), reason.to_owned(), Time::default(), signers)?;
        match standing_of(&verdict) {
            Standing::Dead(void) => Err(FleetError::Refused(void)),
            standing => Ok((Proposal { signed: entry.signed, signatures: entry.signatures }, standing)),
        }
    }

    /// Reads the file of an emergency, with those of its signatures that count now.
    ///
    /// # Errors
    /// [`FleetError::NoEmergency`], and for one of another fleet [`FleetError::Refused`].
    pub fn read_emergency(&mut self, bytes: &[u8]) -> Result<Proposal, FleetError> {
        let entry = Entry::parse(bytes).map_err(|e| FleetError::NoEmergency(format!("something else: {e}")))?;
        let statement = &entry.signed.statement;
        if !matches!(statement.act, Act::Emergency(_)) {
            return Err(FleetError::NoEmergency(format!("a statement with the act {}", statement.act.name())));
        }
        if statement.log != self.log {
            return Err(FleetError::Refused(Void::OtherLog(crate::text::shown(&statement.log).to_string())));
        }
        let (now, present) = (self.now, self.now());
        let signatures = self.replay.at(present, |replay| replay.countable(&entry.signed, &entry.signatures, now));
        Ok(Proposal { signed: entry.signed, signatures })
    }

    /// Where an emergency stands by what this machine knows: log, time locks, what was applied here, and the clock.
    ///
    /// # Errors
    /// [`FleetError`], if nothing can be said.
    pub fn emergency_standing(&mut self, proposal: &Proposal) -> Result<Standing, FleetError> {
        let now = self.now();
        if proposal.signed.statement.expires < now {
            return Ok(Standing::Dead(Void::Expired(proposal.signed.statement.expires)));
        }
        if proposal.signatures.is_empty() {
            return Ok(Standing::Lacks("its author's signature".to_owned()));
        }
        let bytes = Entry { signed: proposal.signed.clone(), signatures: proposal.signatures.clone() }.to_bytes()?;
        let verdict = self.replay.at(now, |replay| replay.preview(&bytes))?;
        if verdict.time > now.plus(Span(FUTURE_SECONDS_MAX)) {
            return Ok(Standing::Lacks(format!(
                "a clock that agrees: it is dated {}, and it is {now} here",
                verdict.time
            )));
        }
        Ok(standing_of(&verdict))
    }

    /// Adds signatures of this machine's signers to an emergency.
    ///
    /// # Errors
    /// [`FleetError`], also if it can have no effect any more.
    pub fn approve_emergency(
        &mut self,
        proposal: &Proposal,
        signers: &mut [Signer],
    ) -> Result<(Proposal, Standing), FleetError> {
        self.check_clock()?;
        if let Standing::Dead(void) = self.emergency_standing(proposal)? {
            return Err(FleetError::Refused(void));
        }
        self.countersign(proposal, signers)
    }

    /// Judges an emergency that is to be applied here, and gives the bytes to keep. Members of this machine who decide
    /// nothing (`signers` who are no operators) put their signatures beside it: their dates say since when it counts here.
    ///
    /// # Errors
    /// [`FleetError::Undecided`] below its quorum; [`FleetError::Refused`], if it can have no effect: it is expired, in the log
    /// already, or somebody has objected.
    pub fn accept_emergency(&mut self, proposal: &Proposal, signers: &mut [Signer]) -> Result<Vec<u8>, FleetError> {
        match self.emergency_standing(proposal)? {
            Standing::Complete => {}
            Standing::Dead(void) => return Err(FleetError::Refused(void)),
            Standing::Lacks(missing) => return Err(FleetError::Undecided { id: proposal.signed.id, missing }),
        }
        let mut signatures: Vec<SignatureLine> = proposal.signatures.clone();
        for signer in signers {
            let kind = self.state().members.get(&signer.member).map(|m| m.kind);
            if matches!(kind, Some(Kind::Pop | Kind::Authority)) && signatures.len() < SIGNATURES_MAX {
                // Without it the emergency counts just the same.
                signatures.extend(self.signature(&proposal.signed.body, signer, self.now()));
            }
        }
        Ok(Entry { signed: proposal.signed.clone(), signatures }.to_bytes()?)
    }

    /// The emergencies that count on this machine and that the log, as it was read, does not have.
    pub fn applied(&self) -> Vec<AppliedHere> {
        self.replay.applied_here()
    }

    /// Puts an emergency among the proposals; `false` if it is there already.
    ///
    /// # Errors
    /// [`FleetError`].
    pub fn hand_in(&mut self, entry: &Entry) -> Result<bool, FleetError> {
        let is_there = self.proposal(&entry.signed.id)?.is_some();
        self.write_proposal(&Proposal { signed: entry.signed.clone(), signatures: entry.signatures.clone() })?;
        Ok(!is_there)
    }
}
