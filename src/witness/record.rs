//! A cosigner's key and record. Effects of one cosignature, in order, and what a crash after each leaves:
//!
//! 1. the checks — nothing.
//! 2. `checkpoint` is replaced, durably, with the cosignature in it — the log is told that it is behind, asks again from
//!    this size, and gets a cosignature.
//! 3. the answer.
//!
//! All of it under the home's lock: of two requests at one time the second sees what the first has recorded.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::WitnessError;
use crate::digest::Digest;
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::fleet::{Fleet, Known, Severity};
use crate::home::Home;
use crate::json;
use crate::limits::{CHECKPOINT_BYTES_MAX, EVIDENCE_FILES_MAX, FUTURE_SECONDS_MAX, KEY_FILE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::cosign::{CosignerKey, CosignerSecret};
use crate::log::evidence::{Case, Evidence};
use crate::log::note::{Note, SignatureLine, VerifierKey, is_key_name};
use crate::log::witness::{AddCheckpoint, Refusal};
use crate::policy::CosignerKind;
use crate::store::{SignedHead, Store, read_newest};
use crate::time::{Span, Time};

/// How long a request waits for another one that is being looked at.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The fleet that an auditor replays before it cosigns its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditedFleet {
    /// The directory of its keyring.
    pub keyring: String,
    /// Its id, which has to be that of what is replayed.
    pub id: Digest,
}

/// A log that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// For auditors, what is replayed.
    pub fleet: Option<AuditedFleet>,
    /// The vkeys of the log, any of which may sign.
    pub keys: Vec<String>,
    /// The log's name.
    pub origin: String,
}

impl Watched {
    /// The keys, read.
    ///
    /// # Errors
    /// [`WitnessError::Key`].
    pub fn verifiers(&self) -> Result<Vec<VerifierKey>, WitnessError> {
        Ok(self.keys.iter().map(|k| VerifierKey::parse(k)).collect::<Result<Vec<_>, _>>()?)
    }
}

/// A cosigner: its key and what it has cosigned.
#[derive(Debug)]
pub struct Witness {
    disk: Disk,
    kind: CosignerKind,
    secret: CosignerSecret,
}

fn directory(origin: &str) -> String {
    format!("witness/logs/{}", Digest::of(origin.as_bytes()))
}

impl Witness {
    /// Makes a cosigner's key in a home of its own.
    ///
    /// # Errors
    /// [`WitnessError`]; nothing that is there is overwritten.
    pub fn init(
        home: &Home,
        name: &str,
        kind: CosignerKind,
        rng: &mut impl rand::CryptoRng,
    ) -> Result<Self, WitnessError> {
        if !is_key_name(name) {
            return Err(WitnessError::Name(crate::text::shown(name).to_string()));
        }
        if home.pin()?.is_some() || !home.members()?.is_empty() {
            return Err(WitnessError::MembersHome);
        }
        match Self::open(home) {
            Ok(there) => return Err(WitnessError::Taken(there.key().name().to_owned())),
            Err(WitnessError::NoKey) => {}
            Err(e) => return Err(e),
        }
        let secret = CosignerSecret::generate(name, rng);
        // The key is what makes it a cosigner, and is written last.
        home.disk().replace("witness/role", format!("{kind}\n").as_bytes())?;
        let text = Zeroizing::new(format!("{}\n", *secret.to_private_text()));
        home.disk().replace("witness/key", text.as_bytes())?;
        Ok(Self { disk: home.disk().clone(), kind, secret })
    }

    /// The cosigner of a home.
    ///
    /// # Errors
    /// [`WitnessError::NoKey`], if there is none.
    pub fn open(home: &Home) -> Result<Self, WitnessError> {
        let disk = home.disk().clone();
        let damaged = |path: &str, problem: String| WitnessError::Damaged { path: path.to_owned(), problem };
        let bytes = Zeroizing::new(disk.read("witness/key", KEY_FILE_BYTES_MAX)?.ok_or(WitnessError::NoKey)?);
        let text = std::str::from_utf8(&bytes).map_err(|e| damaged("witness/key", e.to_string()))?;
        let secret = CosignerSecret::from_private_text(text).map_err(|e| damaged("witness/key", format!("it {e}")))?;
        let role = disk.read("witness/role", KEY_FILE_BYTES_MAX)?.unwrap_or_default();
        let kind = String::from_utf8_lossy(&role).trim_end().parse().map_err(|e| damaged("witness/role", e))?;
        Ok(Self { disk, kind, secret })
    }

    /// Its verifier key.
    pub fn key(&self) -> CosignerKey {
        self.secret.verifier()
    }

    /// What it says by its signature.
    pub fn kind(&self) -> CosignerKind {
        self.kind
    }

    /// Watches a log; what was cosigned of it before stays.
    ///
    /// # Errors
    /// [`WitnessError`]; for an auditor without a fleet to read, too.
    pub fn watch(&self, log: &Watched) -> Result<(), WitnessError> {
        log.verifiers()?;
        if self.kind == CosignerKind::Auditor && log.fleet.is_none() {
            return Err(WitnessError::Unread(log.origin.clone()));
        }
        let path = format!("{}/log", directory(&log.origin));
        Ok(self.disk.replace(&path, format!("{}\n", json::to_canonical(log)).as_bytes())?)
    }

    /// The log of that name, if it is watched.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn watched(&self, origin: &str) -> Result<Option<Watched>, WitnessError> {
        let path = format!("{}/log", directory(origin));
        let Some(bytes) = self.disk.read(&path, KEY_FILE_BYTES_MAX)? else { return Ok(None) };
        let log: Watched = json::parse_as(bytes.trim_ascii_end())
            .map_err(|e| WitnessError::Damaged { path: path.clone(), problem: e.to_string() })?;
        Ok(Some(log).filter(|log| log.origin == origin))
    }

    /// What was cosigned last of the log of that name.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn last(&self, origin: &str) -> Result<Option<SignedHead>, WitnessError> {
        self.last_in(&directory(origin))
    }

    /// The same, by the digest of the log's name, as monitors ask for it.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn last_by_digest(&self, origin: &Digest) -> Result<Option<SignedHead>, WitnessError> {
        self.last_in(&format!("witness/logs/{origin}"))
    }

    fn last_in(&self, directory: &str) -> Result<Option<SignedHead>, WitnessError> {
        let path = format!("{directory}/checkpoint");
        let Some(bytes) = self.disk.read(&path, CHECKPOINT_BYTES_MAX)? else { return Ok(None) };
        let note = Note::parse(&bytes).ok();
        // A record that says nothing any more is no record of nothing: with it, a fork would be cosigned.
        let whole = note.filter(|n| self.key().newest(n).is_some());
        let head = whole.and_then(|n| Checkpoint::parse_foreign(&n.text).map(|c| (n, c)));
        let problem = || "it is not a checkpoint with a cosignature of this key".to_owned();
        head.map(Some).ok_or_else(|| WitnessError::Damaged { path, problem: problem() })
    }

    /// Checks a request, records it, and cosigns.
    ///
    /// # Errors
    /// [`WitnessError`]; then nothing was recorded.
    pub fn add(&self, request: &AddCheckpoint, now: Time) -> Result<SignatureLine, WitnessError> {
        let origin = request.checkpoint()?.origin;
        let log = self.watched(&origin)?.ok_or(Refusal::Unknown)?;
        let keys = log.verifiers()?;
        let _lock = self.lock()?;
        let last = self.last(&origin)?;
        let checked = request.check(&keys, last.as_ref().map(|(_, c)| c));
        if let (Err(Refusal::Inconsistent(_)), Some(last)) = (&checked, &last) {
            self.keep_fork(last, &request.note, now);
        }
        let new = checked?;
        if let Some((note, _)) = &last
            && let Some((last, _)) = self.key().newest(note)
            && last > now.plus(Span(FUTURE_SECONDS_MAX))
        {
            return Err(WitnessError::Clock { now, last });
        }
        if self.kind == CosignerKind::Auditor {
            audit(log.fleet.as_ref().ok_or_else(|| WitnessError::Unread(origin.clone()))?, &new, now)?;
        }
        let line = self.secret.cosign(&request.note.text, now);
        // Of others' lines only those that were verified are kept.
        let is_logs = |l: &&SignatureLine| {
            keys.iter().any(|k| {
                l.name == k.name() && l.key_hash == k.hash() && k.verify(request.note.text.as_bytes(), &l.signature)
            })
        };
        let own = request.note.signatures.iter().filter(is_logs).take(keys.len());
        let signatures = own.cloned().chain([line.clone()]).collect();
        let note = Note { text: request.note.text.clone(), signatures };
        self.disk.replace(&format!("{}/checkpoint", directory(&origin)), &note.to_bytes())?;
        Ok(line)
    }

    /// Keeps what shows another past of the very size that was cosigned last. For another size there is nothing that a third
    /// person could check: whoever asks gives no proof that holds. The log's signature has been verified.
    fn keep_fork(&self, (seen, last): &SignedHead, shown: &Note, now: Time) {
        let forked = Checkpoint::parse_foreign(&shown.text).is_some_and(|c| c.size == last.size && c.root != last.root);
        if forked {
            let (seen, shown) = (Some(seen.clone()), shown.clone());
            self.keep(&Evidence { case: Case::Fork, noted: now, freeze: None, proof: None, seen, shown });
        }
    }

    /// Keeps evidence in the home, up to a number of files. That this fails changes nothing about the answer.
    pub(super) fn keep(&self, evidence: &Evidence) {
        if self.disk.list("evidence").is_ok_and(|there| there.len() < EVIDENCE_FILES_MAX) {
            let _ = Home::on(self.disk.clone()).keep_evidence(evidence);
        }
    }

    #[allow(clippy::disallowed_methods, reason = "waiting for the lock of one's own home")]
    fn lock(&self) -> Result<Box<dyn Send>, WitnessError> {
        let start = Instant::now();
        loop {
            if let Some(lock) = self.disk.try_lock()? {
                return Ok(lock);
            }
            if start.elapsed() > LOCK_WAIT {
                return Err(WitnessError::Busy);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Replays the whole fleet under its policy, looks at every file, and finds the very head that is to be cosigned.
fn audit(fleet: &AuditedFleet, new: &Checkpoint, now: Time) -> Result<(), WitnessError> {
    let path = std::path::Path::new(&fleet.keyring);
    let shown = || crate::text::shown(&fleet.keyring).to_string();
    let files =
        RealFiles::open(path, Access::Public).map_err(|source| DiskError { doing: "open", path: shown(), source })?;
    let store = Store::new(Disk::new(files));
    let known = Known { pin: Some(fleet.id), ..Known::default() };
    let (report, _) = Fleet::verify(&store, &known, now, &mut |_, _| {})?;
    let damage = report.problems.iter().filter(|p| p.severity == Severity::Damage);
    if let Some(first) = damage.clone().next() {
        let first = format!("{}: {}", first.path, first.problem);
        return Err(WitnessError::Unsound { first, count: damage.count() });
    }
    let (_, (_, found)) = read_newest(&store)?;
    if found != *new {
        return Err(WitnessError::OtherHead { found: found.size, root: found.root });
    }
    Ok(())
}
