//! Resealing: other recipients around the same encrypted body. Needs one key that opens it now; the body is not opened.
//!
//! Many at once are done in parts of one statement each: what is logged stays, whatever happens to the rest, and the next plan
//! no longer has it. The wrapping of session keys, which is nearly all of the work, is spread over the processor's cores.

use std::collections::{BTreeMap, BTreeSet};

use sequoia_openpgp::crypto::{Decryptor, KeyPair};

use super::OpsError;
use super::open::{OwnKey, decryptors};
use super::seal::{RecipientKey, recipient_keys};
use crate::digest::Digest;
use crate::fleet::{Draft, Fleet, FleetError};
use crate::home::Home;
use crate::limits::CHANGES_MAX;
use crate::name::{Address, Glob, MemberName};
use crate::openpgp::{Fingerprint, SealError, Sealed, Wraps};
use crate::state::{Drift, LiveSecret};
use crate::statement::{Act, RecipientSet, Reseal};
use crate::store::StoreError;

/// Secrets whose recipients are not those of policy and log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResealPlan {
    /// Those that a key of this home opens.
    pub drifted: Vec<Drift>,
    /// Those that none does.
    pub elsewhere: Vec<Drift>,
    /// Those that a key of this home opens, and that stay as they are nevertheless, each for its own reason: one of them
    /// does not keep the others from being resealed.
    pub stuck: Vec<Stuck>,
}

/// A secret that cannot be resealed at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// How its recipients differ from those of policy and log.
    pub drift: Drift,
    /// Why.
    pub why: String,
}

/// Finds what has drifted among the secrets that match.
///
/// # Errors
/// [`OpsError`].
pub fn plan_reseal(pattern: Option<&Glob>, home: &Home, fleet: &mut Fleet) -> Result<ResealPlan, OpsError> {
    let mut plan = ResealPlan { drifted: Vec::new(), elsewhere: Vec::new(), stuck: Vec::new() };
    let state = fleet.state();
    let matches = |a: &Address| pattern.is_none_or(|p| p.matches(&a.to_string()));
    let drifts: Vec<(Drift, LiveSecret)> = state
        .live_secrets()
        .filter(|(a, _)| matches(a))
        .filter_map(|(a, s)| state.drift(a, s).map(|d| (d, s.clone())))
        .collect();
    let mut ground = Ground::new(home)?;
    for (drift, secret) in drifts {
        // A secret whose owner has left has nobody to be sealed to but those who could read it to replace it.
        let Ok(readers) = fleet.state().readers(&drift.address) else { continue };
        if !ground.opens(&secret, fleet)? {
            plan.elsewhere.push(drift);
        } else if let Some(why) = ground.obstacle(&drift.address, &secret, readers, fleet)? {
            plan.stuck.push(Stuck { drift, why });
        } else {
            plan.drifted.push(drift);
        }
    }
    Ok(plan)
}

/// What a secret can be resealed to now.
struct Target {
    set: RecipientSet,
    /// Readers that should be there and are left out, because nobody vouches for them.
    left_out: Vec<String>,
}

/// What is the same for many secrets, found out once: the keys of this home, and who is vouched for.
struct Ground<'a> {
    home: &'a Home,
    here: Vec<MemberName>,
    /// By member and key; none where the key is behind an agent, or not here.
    pairs: BTreeMap<(MemberName, String), Option<KeyPair>>,
    /// Why nothing new may be sealed to a reader, if so.
    unvouched: BTreeMap<MemberName, Option<String>>,
}

impl<'a> Ground<'a> {
    fn new(home: &'a Home) -> Result<Self, OpsError> {
        Ok(Self { home, here: home.members()?, pairs: BTreeMap::new(), unvouched: BTreeMap::new() })
    }

    /// The keys of this home, as files, that a secret is sealed to.
    fn pairs(&mut self, secret: &LiveSecret) -> Result<Vec<(Fingerprint, KeyPair)>, OpsError> {
        let mut own = Vec::new();
        for (member, keys) in secret.readers.iter().filter(|(m, _)| self.here.contains(m)) {
            for key in keys {
                let Ok(fingerprint) = Fingerprint::from_hex(key) else { continue };
                let place = (member.clone(), key.clone());
                if !self.pairs.contains_key(&place) {
                    let pair = self.home.key_pair(member, &fingerprint)?;
                    self.pairs.insert(place.clone(), pair);
                }
                if let Some(Some(pair)) = self.pairs.get(&place) {
                    own.push((fingerprint, pair.clone()));
                }
            }
        }
        Ok(own)
    }

    /// Whether a key of this home opens it.
    fn opens(&mut self, secret: &LiveSecret, fleet: &mut Fleet) -> Result<bool, OpsError> {
        Ok(!self.pairs(secret)?.is_empty() || !decryptors(secret, None, self.home, fleet)?.is_empty())
    }

    /// The recipients as of now. A reader that nobody vouches for any more keeps what it can read already: the value is no
    /// other. It becomes none anew.
    fn target(&mut self, secret: &LiveSecret, readers: BTreeSet<MemberName>, fleet: &mut Fleet) -> Target {
        let mut wanted = Vec::new();
        let mut left_out = Vec::new();
        for reader in readers {
            let problem = self
                .unvouched
                .entry(reader.clone())
                .or_insert_with(|| fleet.check_vouched(&reader).err().map(|problem| problem.to_string()));
            match problem {
                Some(problem) if !secret.readers.contains_key(&reader) => {
                    left_out.push(format!("it cannot be sealed to {reader}: {problem}"));
                }
                _ => wanted.push(reader),
            }
        }
        Target { set: fleet.state().recipient_set(wanted), left_out }
    }

    /// What keeps a secret from being resealed: its file is not what the log says, or a reader is not to be trusted now and
    /// nothing else is to change.
    fn obstacle(
        &mut self,
        address: &Address,
        secret: &LiveSecret,
        readers: BTreeSet<MemberName>,
        fleet: &mut Fleet,
    ) -> Result<Option<String>, OpsError> {
        match fleet.store().sealed(address, &secret.file) {
            Ok(_) => {}
            Err(e @ (StoreError::Missing(_) | StoreError::Damaged { .. })) => return Ok(Some(e.to_string())),
            Err(e) => return Err(FleetError::from(e).into()),
        }
        let target = self.target(secret, readers, fleet);
        Ok((target.set.readers == *secret.readers).then(|| target.left_out.join("; ")))
    }

    /// All that resealing one secret takes, the work aside.
    fn job(&mut self, address: &Address, fleet: &mut Fleet) -> Result<Job, OpsError> {
        let secret = fleet.state().secrets.get(address).cloned().ok_or_else(|| OpsError::NoSecret(address.clone()))?;
        let live = secret.live.clone().ok_or_else(|| OpsError::NoSecret(address.clone()))?;
        let readers =
            fleet.state().readers(address).map_err(|source| OpsError::Readers { address: address.clone(), source })?;
        let set = self.target(&live, readers, fleet).set;
        let own = self.pairs(&live)?;
        let behind_agent = if own.is_empty() { decryptors(&live, None, self.home, fleet)? } else { Vec::new() };
        Ok(Job {
            recipients: recipient_keys(address, &set, fleet)?,
            old: fleet.store().sealed(address, &live.file).map_err(FleetError::from)?,
            address: address.clone(),
            generation: secret.generation + 1,
            prev: secret.prev,
            set,
            own,
            behind_agent,
        })
    }
}

/// One secret to be resealed.
struct Job {
    address: Address,
    generation: u64,
    prev: Digest,
    set: RecipientSet,
    recipients: Vec<RecipientKey>,
    old: Vec<u8>,
    own: Vec<(Fingerprint, KeyPair)>,
    /// Keys that an agent has; asked one after the other.
    behind_agent: Vec<OwnKey>,
}

/// What a thread needs of a job.
struct Wrapping<'a> {
    recipients: &'a [RecipientKey],
    old: &'a [u8],
    own: &'a [(Fingerprint, KeyPair)],
}

impl Wrapping<'_> {
    fn carry_out(&self, wraps: &mut Wraps) -> Result<Vec<u8>, SealError> {
        let boxed = |(f, pair): &(Fingerprint, KeyPair)| (f.clone(), Box::new(pair.clone()) as Box<dyn Decryptor>);
        wrap(wraps, self.old, &mut self.own.iter().map(boxed).collect::<Vec<_>>(), self.recipients)
    }
}

fn wrap(wraps: &mut Wraps, old: &[u8], own: &mut [OwnKey], recipients: &[RecipientKey]) -> Result<Vec<u8>, SealError> {
    let keys: Vec<_> = recipients.iter().filter_map(|(certificate, f)| certificate.key(f)).collect();
    crate::openpgp::reseal_with(wraps, old, own, &keys)
}

/// Wraps the session keys of all jobs anew, on as many threads as there are cores; the files in the jobs' order.
fn wrap_all(jobs: &mut [Job]) -> Vec<Result<Vec<u8>, SealError>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = jobs.len().div_ceil(threads).max(1);
    let (quick, slow): (Vec<usize>, Vec<usize>) =
        (0..jobs.len()).partition(|i| jobs.get(*i).is_some_and(|j| !j.own.is_empty()));
    let mut files: BTreeMap<usize, Result<Vec<u8>, SealError>> = BTreeMap::new();
    let mut wraps = Wraps::default();
    for i in slow {
        if let Some(job) = jobs.get_mut(i) {
            files.insert(i, wrap(&mut wraps, &job.old, &mut job.behind_agent, &job.recipients));
        }
    }
    let wrappings: Vec<(usize, Wrapping<'_>)> = quick
        .into_iter()
        .filter_map(|i| jobs.get(i).map(|j| (i, Wrapping { recipients: &j.recipients, old: &j.old, own: &j.own })))
        .collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = wrappings
            .chunks(share)
            .map(|part| {
                scope.spawn(move || {
                    // Each thread agrees with the readers by itself.
                    let mut wraps = Wraps::default();
                    part.iter().map(|(i, w)| (*i, w.carry_out(&mut wraps))).collect::<Vec<_>>()
                })
            })
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => files.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    files.into_values().collect()
}

impl ResealPlan {
    /// How many statements carry it out.
    pub fn parts(&self) -> usize {
        self.drifted.len().div_ceil(CHANGES_MAX)
    }

    /// The statement of one part, from 0.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn draft(&self, part: usize, reason: &str, home: &Home, fleet: &mut Fleet) -> Result<Draft, OpsError> {
        let part = self.drifted.chunks(CHANGES_MAX).nth(part).unwrap_or_default();
        let mut ground = Ground::new(home)?;
        let mut jobs = part.iter().map(|d| ground.job(&d.address, fleet)).collect::<Result<Vec<_>, _>>()?;
        let files = wrap_all(&mut jobs);
        let (mut changes, mut objects, mut sets) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (job, file) in jobs.into_iter().zip(files) {
            let failed = |source| OpsError::Seal { address: job.address.clone(), source };
            let file = file.map_err(failed)?;
            let body = Sealed::parse(&file).map_err(|e| failed(e.into()))?.body_digest();
            let set = job.set.to_bytes();
            changes.push(Reseal {
                body,
                file: Digest::of(&file),
                generation: job.generation,
                prev: job.prev,
                recipients: Digest::of(&set),
                address: job.address,
            });
            // Many secrets have one set.
            if sets.insert(Digest::of(&set)) {
                objects.push(set);
            }
            objects.push(file);
        }
        let told = part.iter().map(|d| format!("{}: resealed to the keys of today", d.address)).collect();
        Ok(Draft { told, ..Draft::with(Act::Reseal(changes), reason, objects) })
    }

    /// The statements that carry it out, all of them at once.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn drafts(&self, reason: &str, home: &Home, fleet: &mut Fleet) -> Result<Vec<Draft>, OpsError> {
        (0..self.parts()).map(|part| self.draft(part, reason, home, fleet)).collect()
    }
}
