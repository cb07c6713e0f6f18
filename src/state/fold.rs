//! Taking entries, one by one: signatures, time, quorum, and then each change by its own rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use super::ahead::{Facts, Prepared};
use super::shared::Shared;
use super::signers::Endorsed;
use super::{AppliedHere, PolicyInForce, State, Unlocked, Void};
use crate::digest::Digest;
use crate::name::{ActName, Kind, MemberName};
use crate::openpgp::{Certificate, OpenpgpError};
use crate::policy::Policy;
use crate::statement::{Act, Entry, Genesis, Signed};
use crate::time::Time;

/// Where attachments come from, by digest. Implementations check the digest.
pub trait Objects {
    /// The bytes with this digest.
    ///
    /// # Errors
    /// [`ObjectError`].
    fn object(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError>;
}

/// Why an attachment could not be had. Not a verdict about the log: it means that nothing can be said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// It is not there.
    #[error("the object {0} is missing")]
    Missing(Digest),
    /// It is there, and changed.
    #[error("the object {0} is not what its name says: it was changed")]
    Changed(Digest),
    /// It could not be read.
    #[error("the object {0} cannot be read: {1}")]
    Unreadable(Digest, String),
}

/// Why the fold cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// An attachment could not be had.
    #[error("entry {index}: {source}")]
    Object {
        /// The entry's index.
        index: u64,
        /// What is the matter.
        source: ObjectError,
    },
    /// The OpenPGP library failed.
    #[error("entry {index}: {source}")]
    Openpgp {
        /// The entry's index.
        index: u64,
        /// What is the matter.
        source: OpenpgpError,
    },
    /// The first entry does not found a fleet.
    #[error("the first entry does not found a fleet: {0}")]
    NoFleet(Void),
}

/// What stops a change: it is void, or nothing can be said.
pub(super) enum Stop {
    Void(Void),
    Object(ObjectError),
    Openpgp(OpenpgpError),
}

impl From<Void> for Stop {
    fn from(void: Void) -> Self {
        Self::Void(void)
    }
}

impl From<ObjectError> for Stop {
    fn from(e: ObjectError) -> Self {
        Self::Object(e)
    }
}

impl From<OpenpgpError> for Stop {
    fn from(e: OpenpgpError) -> Self {
        Self::Openpgp(e)
    }
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Its place in the log.
    pub index: u64,
    /// The statement's id; none if it cannot be read.
    pub id: Option<Digest>,
    /// Who signed, as far as it counted.
    pub signers: BTreeSet<MemberName>,
    /// The fleet's time after it.
    pub time: Time,
    /// Changes that took effect.
    pub applied: usize,
    /// When it takes effect, if it waits for that.
    pub locked: Option<Time>,
    /// Locked statements whose time had come with this entry.
    pub unlocked: Vec<Unlocked>,
    /// Changes that did not, by number from 0, with the reason. An entry that is void as a whole has one with number 0.
    pub void: Vec<(usize, Void)>,
}

impl Verdict {
    /// Whether all of it took effect.
    pub fn is_whole(&self) -> bool {
        self.void.is_empty()
    }
}

/// Looks on while a log is replayed, entry by entry.
pub trait Watch {
    /// An entry is about to be taken. There is no state before the first.
    fn before(&mut self, state: Option<&State>, entry: &Prepared);
    /// It was taken, and this became of it.
    fn after(&mut self, verdict: &Verdict, state: &State);
}

/// The context of one change.
pub(super) struct Context<'a> {
    pub id: Digest,
    pub index: u64,
    pub time: Time,
    pub by: &'a MemberName,
    pub signers: &'a BTreeSet<MemberName>,
    pub lapsed: &'a BTreeSet<MemberName>,
}

/// The fold: state, and certificates parsed once.
pub struct Replay<O> {
    objects: O,
    log: String,
    pub(super) state: Option<State>,
    size: u64,
    certificates: BTreeMap<Digest, Arc<Certificate>>,
    /// Certificates met since somebody last asked.
    met: Vec<Arc<Certificate>>,
    /// What is known beforehand about the signatures of the present entry.
    pub(super) facts: Facts,
    /// What the changes that are being judged are held to.
    pub(super) measure: Measure,
    /// What was applied on this machine before the log has it.
    pub(super) applied: Vec<AppliedHere>,
    /// What the web of trust has answered.
    pub(super) endorsed: Endorsed,
    /// What became of locked statements while the present entry is judged.
    pub(super) unlocked: Vec<Unlocked>,
    /// What secrets have alike.
    pub(super) shared: Shared,
}

/// Which quorum a change is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Measure {
    /// That of the policy in force.
    InForce,
    /// None: to see what a change would do.
    Waived,
    /// That of the policy under which it was logged: for what waited for its time.
    Of(Arc<Policy>),
}

impl<O: Objects> Replay<O> {
    /// A fold of the log `log` from its beginning.
    pub fn new(log: String, objects: O) -> Self {
        Self {
            objects,
            log,
            state: None,
            size: 0,
            certificates: BTreeMap::new(),
            met: Vec::new(),
            facts: Facts::default(),
            measure: Measure::InForce,
            applied: Vec::new(),
            endorsed: Endorsed::new(),
            unlocked: Vec::new(),
            shared: Shared::default(),
        }
    }

    /// A fold that goes on from a state, as if it had taken all entries before.
    pub fn resume(state: State, objects: O) -> Self {
        let (log, size) = (state.log.clone(), state.size);
        Self {
            objects,
            log,
            state: Some(state),
            size,
            certificates: BTreeMap::new(),
            met: Vec::new(),
            facts: Facts::default(),
            measure: Measure::InForce,
            applied: Vec::new(),
            endorsed: Endorsed::new(),
            unlocked: Vec::new(),
            shared: Shared::default(),
        }
    }

    /// Goes back to a state that it had.
    pub fn rewind(&mut self, state: Option<State>) {
        self.size = state.as_ref().map_or(0, |s| s.size);
        self.state = state;
    }

    /// The state so far; none before the first entry.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// How many entries it has seen.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The attachments.
    pub fn objects(&self) -> &O {
        &self.objects
    }

    /// The parts, for a caller that goes on with them.
    pub fn into_state(self) -> Option<State> {
        self.state
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`ReplayError`], if nothing can be said about it. What breaks a rule is no error but a [`Void`] in the verdict;
    /// only a first entry that founds no fleet is both.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<Verdict, ReplayError> {
        self.apply_read(Entry::parse(bytes))
    }

    /// Takes the next entry, of which something is known beforehand. What becomes of it is the same.
    ///
    /// # Errors
    /// As [`Replay::apply`].
    pub fn apply_prepared(&mut self, prepared: Prepared) -> Result<Verdict, ReplayError> {
        self.facts = prepared.facts;
        let verdict = self.apply_read(prepared.entry);
        self.facts = Facts::default();
        verdict
    }

    /// The certificates that it has met since this was asked last: for a [`Preparer`](super::Preparer).
    pub fn certificates_met(&mut self) -> Vec<Arc<Certificate>> {
        std::mem::take(&mut self.met)
    }

    fn apply_read(&mut self, read: Result<Entry, impl Display>) -> Result<Verdict, ReplayError> {
        let index = self.size;
        let id = read.as_ref().ok().map(|entry| entry.signed.id);
        let outcome =
            read.map_err(|e| Stop::Void(Void::Unreadable(e.to_string()))).and_then(|entry| self.entry(index, &entry));
        self.size += 1;
        if let Some(state) = &mut self.state {
            state.size = self.size;
        }
        match outcome {
            Ok(verdict) => Ok(verdict),
            Err(Stop::Object(source)) => Err(ReplayError::Object { index, source }),
            Err(Stop::Openpgp(source)) => Err(ReplayError::Openpgp { index, source }),
            Err(Stop::Void(void)) if index == 0 => Err(ReplayError::NoFleet(void)),
            Err(Stop::Void(void)) => {
                let time = self.state.as_ref().map_or(Time::default(), |s| s.time);
                Ok(Verdict { index, id, time, void: vec![(0, void)], ..Verdict::default() })
            }
        }
    }

    /// Takes an entry only if some of it has an effect: for a writer, which does not log what is void. An entry without
    /// effect leaves the fold as it was.
    ///
    /// # Errors
    /// As [`Replay::apply`].
    pub fn offer(&mut self, bytes: &[u8]) -> Result<Verdict, ReplayError> {
        let size = self.size;
        let verdict = self.apply(bytes);
        if !verdict.as_ref().is_ok_and(|v| v.applied > 0) {
            self.size = size;
            if let Some(state) = &mut self.state {
                state.size = size;
            }
        }
        verdict
    }

    /// What would become of an entry, without taking it.
    ///
    /// # Errors
    /// As [`Replay::apply`].
    pub fn preview(&mut self, bytes: &[u8]) -> Result<Verdict, ReplayError> {
        let (state, size) = (self.state.clone(), self.size);
        let verdict = self.apply(bytes);
        (self.state, self.size) = (state, size);
        verdict
    }

    /// Judges an entry. If it has no effect, neither has the time that it claims.
    fn entry(&mut self, index: u64, entry: &Entry) -> Result<Verdict, Stop> {
        let waiting = self.state.as_ref().filter(|s| !s.locked.is_empty()).cloned();
        self.unlocked.clear();
        let mut judged = match &waiting {
            Some(_) => self.unlock_for(&entry.signed, &entry.signatures).and_then(|()| self.judge(index, entry)),
            None => self.judge(index, entry),
        };
        let unlocked = std::mem::take(&mut self.unlocked);
        match &mut judged {
            Ok(verdict) if verdict.applied > 0 => verdict.unlocked = unlocked,
            _ if !unlocked.is_empty() => self.state = waiting,
            _ => {}
        }
        judged
    }

    fn judge(&mut self, index: u64, entry: &Entry) -> Result<Verdict, Stop> {
        let Signed { statement, id, .. } = &entry.signed;
        if statement.log != self.log {
            return Err(Void::OtherLog(crate::text::shown(&statement.log).to_string()).into());
        }
        if let Act::Genesis(genesis) = &statement.act {
            if self.state.is_some() || index > 0 {
                return Err(Void::Genesis.into());
            }
            return self.genesis(entry, genesis);
        }
        let Some(state) = &self.state else { return Err(Void::Genesis.into()) };
        // Whoever declares an emergency may be cut off from the newest policy.
        let needs_policy = !matches!(statement.act, Act::Emergency(_));
        if needs_policy && statement.policy != state.policy.version {
            return Err(Void::Policy { proposed: statement.policy, in_force: state.policy.version }.into());
        }
        if let Some(void) = state.objection(id, &statement.act) {
            return Err(void.into());
        }
        if state.done.has(id, statement.expires) {
            return Err(Void::Done.into());
        }
        let allowed = state.may_wait(&statement.act);
        if statement.expires > statement.at.plus(allowed) {
            return Err(Void::Patient { expires: statement.expires, allowed }.into());
        }
        let mut counted = self.count(&entry.signed, &entry.signatures)?;
        let state = self.state.as_ref().ok_or(Void::Genesis)?;
        let time = state.time.max(counted.time);
        if statement.expires < time {
            return Err(Void::Expired(statement.expires).into());
        }
        if !matches!(statement.act, Act::Publish(_)) {
            counted.lapsed.clear();
        }
        if !counted.members.contains(&statement.by) && !counted.lapsed.contains(&statement.by) {
            return Err(Void::Author(statement.by.clone()).into());
        }
        let context =
            Context { id: *id, index, time, by: &statement.by, signers: &counted.members, lapsed: &counted.lapsed };
        let span = self.lock(&statement.act);
        let outcomes = match span {
            Some(span) => self.lock_up(&entry.signed, span, &context)?,
            None => self.act(&statement.act, &context)?,
        };
        let locked = span.map(|span| time.plus(span)).filter(|_| outcomes.iter().all(Option::is_none));
        let applied = outcomes.iter().filter(|o| o.is_none()).count();
        let void: Vec<(usize, Void)> =
            outcomes.into_iter().enumerate().filter_map(|(i, o)| o.map(|v| (i, v))).collect();
        if applied > 0
            && let Some(state) = &mut self.state
        {
            state.time = time;
            state.done.add(*id, statement.expires, time);
            state.note_emergency(id, statement, index, time);
        }
        let time = self.state.as_ref().map_or(time, |s| s.time);
        let signers = counted.members.into_iter().chain(counted.lapsed).collect();
        Ok(Verdict { index, id: Some(*id), signers, time, applied, locked, void, ..Verdict::default() })
    }

    /// Does the changes in order; `None` for one that took effect.
    pub(super) fn act(&mut self, act: &Act, context: &Context<'_>) -> Result<Vec<Option<Void>>, Stop> {
        fn each<T>(list: &[T], mut change: impl FnMut(&T) -> Result<(), Stop>) -> Result<Vec<Option<Void>>, Stop> {
            list.iter()
                .map(|item| match change(item) {
                    Ok(()) => Ok(None),
                    Err(Stop::Void(void)) => Ok(Some(void)),
                    Err(stop) => Err(stop),
                })
                .collect()
        }
        match act {
            Act::Genesis(_) => Ok(vec![Some(Void::Genesis)]),
            Act::PolicyUpdate(c) => each(std::slice::from_ref(c), |c| self.policy_update(c, context)),
            Act::Enroll(list) => each(list, |c| self.enroll(c, context)),
            Act::Confirm(list) => each(list, |c| self.confirm(c, context)),
            Act::Retire(list) => each(list, |c| self.retire(c, context)),
            Act::Publish(list) => each(list, |c| self.publish(c, context)),
            Act::Certify(list) => each(list, |c| self.certify(c, context)),
            Act::Activate(list) => each(list, |c| self.activate(c, context)),
            Act::Destroy(list) => each(list, |c| self.destroy(c, context)),
            Act::Seal(list) => each(list, |c| self.seal(c, context)),
            Act::Reseal(list) => each(list, |c| self.reseal(c, context)),
            Act::Remove(list) => each(list, |c| self.remove(c, context)),
            Act::SshIssue(c) => each(std::slice::from_ref(c), |c| self.ssh_issue(c, context)),
            Act::SshRevoke(list) => each(list, |c| self.ssh_revoke(c, context)),
            Act::Object(list) => each(list, |c| self.object(c, context)),
            Act::Backup(list) => each(list, |c| self.backup_made(c, context)),
            Act::Drill(list) => each(list, |c| self.restore_drill(c, context)),
            Act::Snapshot(c) => each(std::slice::from_ref(c), |c| self.snapshot(c, context)),
            Act::Rekey(c) => each(std::slice::from_ref(c), |c| self.rekey(c, context)),
            Act::Emergency(list) => each(list, |c| self.stop(c, context)),
            Act::Invite(c) => each(std::slice::from_ref(c), |c| self.invite(c, context)),
            Act::Uninvite(list) => each(list, |c| self.uninvite(c, context)),
        }
    }

    fn genesis(&mut self, entry: &Entry, genesis: &Genesis) -> Result<Verdict, Stop> {
        let Signed { statement, id, .. } = &entry.signed;
        if statement.policy != 0 || statement.log != format!("{}/keys/1", genesis.fleet) {
            return Err(Void::Genesis.into());
        }
        let policy = super::policy::read_policy(&genesis.policy, &self.objects)?;
        if policy.fleet.domain != genesis.fleet {
            return Err(Void::BadPolicy(format!("it is for the fleet {}", policy.fleet.domain)).into());
        }
        self.state = Some(State {
            fleet: genesis.fleet.clone(),
            id: *id,
            log: statement.log.clone(),
            size: 0,
            time: statement.at,
            policy: PolicyInForce { version: 1, prev: *id, files: genesis.policy.clone(), policy: Arc::new(policy) },
            members: BTreeMap::new(),
            former: BTreeMap::new(),
            secrets: BTreeMap::new(),
            material: BTreeMap::new(),
            mesh: super::MeshIndexes::default(),
            issued: BTreeMap::new(),
            revoked_serials: BTreeSet::new(),
            done: super::Done::default(),
            signing: BTreeMap::new(),
            objected: BTreeMap::new(),
            locked: BTreeMap::new(),
            backups: BTreeMap::new(),
            drills: super::Drills::default(),
            snapshot: None,
            emergencies: BTreeMap::new(),
            invitations: BTreeMap::new(),
        });
        let founded = self.found(entry, genesis, *id);
        if founded.is_err() {
            self.state = None;
        }
        founded
    }

    /// Admits the founders, then checks that every founding operator has signed.
    fn found(&mut self, entry: &Entry, genesis: &Genesis, id: Digest) -> Result<Verdict, Stop> {
        let statement = &entry.signed.statement;
        let nobody = BTreeSet::new();
        let context =
            Context { id, index: 0, time: statement.at, by: &statement.by, signers: &nobody, lapsed: &nobody };
        for founder in &genesis.members {
            if !matches!(founder.kind, Kind::Operator | Kind::Authority) {
                return Err(Void::KindMismatch {
                    member: founder.member.clone(),
                    kind: founder.kind,
                    problem: "only operators and authorities found a fleet",
                }
                .into());
            }
            let newcomer = self.newcomer(founder, &context)?;
            self.admit(newcomer)?;
        }
        let counted = self.count(&entry.signed, &entry.signatures)?;
        let of_kind = |kind| genesis.members.iter().filter(move |m| m.kind == kind).map(|m| &m.member);
        if let Some(absent) = of_kind(Kind::Operator).find(|m| !counted.members.contains(m)) {
            return Err(Void::Quorum { act: ActName::Genesis, missing: format!("the founder {absent}") }.into());
        }
        if of_kind(Kind::Operator).next().is_none() || of_kind(Kind::Authority).next().is_none() {
            return Err(Void::BadPolicy("a fleet needs an operator and an authority".to_owned()).into());
        }
        let state = self.state.as_mut().ok_or(Void::Genesis)?;
        state.time = counted.time;
        let policy = Arc::clone(&state.policy.policy);
        state.check_policy(&policy)?;
        let (signers, time) = (counted.members, state.time);
        Ok(Verdict { id: Some(id), signers, time, applied: 1, ..Verdict::default() })
    }

    /// A version of a certificate, for what it signed.
    ///
    /// # Errors
    /// In words, why it cannot be had.
    pub fn signing_certificate(&mut self, key: &str) -> Result<Option<Arc<Certificate>>, ObjectError> {
        let Some(digest) = self.state.as_ref().and_then(|s| s.signing.get(key)).copied() else { return Ok(None) };
        if let Some(found) = self.certificates.get(&digest) {
            return Ok(Some(Arc::clone(found)));
        }
        let bytes = self.objects.object(&digest)?;
        let parsed = Certificate::parse(&bytes).map_err(|e| ObjectError::Unreadable(digest, e.to_string()))?;
        Ok(Some(Arc::new(parsed)))
    }

    /// The certificate with this digest, parsed once.
    pub(super) fn certificate(&mut self, member: &MemberName, digest: &Digest) -> Result<Arc<Certificate>, Stop> {
        if let Some(found) = self.certificates.get(digest) {
            return Ok(Arc::clone(found));
        }
        let bytes = self.objects.object(digest)?;
        let parsed =
            Certificate::parse(&bytes).map_err(|problem| Void::Certificate { member: member.clone(), problem })?;
        let parsed = Arc::new(parsed);
        self.certificates.insert(*digest, Arc::clone(&parsed));
        self.met.push(Arc::clone(&parsed));
        Ok(parsed)
    }

    /// The current certificate of `member`, for callers outside the fold.
    ///
    /// # Errors
    /// In words, why it cannot be had.
    pub fn current_certificate(&mut self, member: &MemberName) -> Result<Arc<Certificate>, ObjectError> {
        let digest = self.state.as_ref().and_then(|s| s.members.get(member)).map(|m| m.cert);
        let digest = digest.ok_or_else(|| ObjectError::Missing(Digest::of(member.to_string().as_bytes())))?;
        self.certificate(member, &digest).map_err(|stop| match stop {
            Stop::Object(e) => e,
            Stop::Void(v) => ObjectError::Unreadable(digest, v.to_string()),
            Stop::Openpgp(e) => ObjectError::Unreadable(digest, e.to_string()),
        })
    }

    pub(super) fn state_mut(&mut self) -> Result<&mut State, Stop> {
        self.state.as_mut().ok_or_else(|| Void::Genesis.into())
    }

    pub(super) fn state_ref(&self) -> Result<&State, Stop> {
        self.state.as_ref().ok_or_else(|| Void::Genesis.into())
    }
}

impl State {
    /// Checks a change's generation and predecessor.
    pub(super) fn fresh(
        &self,
        subject: impl Display,
        found: (u64, &Digest),
        proposed: (u64, &Digest),
    ) -> Result<(), Void> {
        if found.0.checked_add(1) == Some(proposed.0) && found.1 == proposed.1 {
            return Ok(());
        }
        Err(Void::Stale { subject: subject.to_string(), found: found.0, proposed: proposed.0 })
    }
}
