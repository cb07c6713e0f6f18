//! Crashing, looking, recovering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keys::ops::OpsError;

use super::super::check::{self, Expected, Found, Violations};
use super::super::disk::{Flaw, Machine};
use super::super::estate::{Command, Estate};
use super::super::is_long;
use super::scenario::{SECRET, Scenario, all};

/// Ways in which each power cut is tried: nothing survives, everything, torn files, and some by coin.
const SEEDS: u64 = 7;
/// Of the disks that differ only in temporary files, every so many is recovered, too.
const SPARES: usize = 48;
/// Every so many recoveries are interrupted themselves, at every so many operations.
const AGAIN: (usize, usize) = (20, 29);

/// Every disk that differs from the others is recovered in these commands, or everywhere if asked for all; of the others'
/// every so many. Neighbours differ by one operation, or by which names survived.
const THOROUGH: [&str; 1] = ["seal"];
const STEP: usize = 3;

/// What a crash must not break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::faults) enum Promise {
    /// The fleet opens as it was before, or as it should be after; every secret opens, no private key is gone.
    OldOrNew,
    /// The verifier does not call damage what an interrupted writer left.
    NoFalseAlarm,
    /// The command succeeds when it is run again.
    Converges,
    /// What is acknowledged then is there after the next power cut, and sound.
    Durable,
    /// Nobody is stuck: nothing waits that nobody can complete, nothing is missing that the command was to make.
    Settles,
    /// Nothing is left on the disks that nobody will remove.
    Tidy,
}

/// What came of it all.
#[derive(Debug, Default)]
pub(in crate::faults) struct Report {
    pub crashes: usize,
    distinct: usize,
    pub recovered: usize,
    kills: usize,
    again: usize,
    took: Duration,
    pub violations: BTreeMap<Promise, Violations>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} power cuts and {} kills, which left {} different disks; {} recovered; {} more crashes in recoveries; {:.0} s",
            self.crashes,
            self.kills,
            self.distinct,
            self.recovered,
            self.again,
            self.took.as_secs_f64()
        )
    }
}

impl Report {
    fn broken(&mut self, promise: Promise, problem: &str, place: &str) {
        self.violations.entry(promise).or_default().add(problem, place);
    }

    pub(in crate::faults) fn merge(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.distinct += other.distinct;
        self.recovered += other.recovered;
        self.kills += other.kills;
        self.again += other.again;
        for (promise, violations) in other.violations {
            self.violations.entry(promise).or_default().merge(violations);
        }
    }
}

/// Every scenario, on two threads.
pub(super) fn everything() -> Report {
    let start = Instant::now();
    let (scenarios, next, total) = (all(), AtomicUsize::new(0), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut report = Report::default();
                    scenario.crash(Flaw::None, usize::MAX, &mut report);
                    scenario.kill(&mut report);
                    total.lock().unwrap().merge(report);
                }
            });
        }
    });
    let mut report = total.into_inner().unwrap();
    report.took = start.elapsed();
    report
}

/// A short run on a disk that lies.
pub(super) fn sabotaged(flaw: Flaw) -> Report {
    let mut report = Report::default();
    // A file that is replaced comes late in a command.
    let limit = if flaw == Flaw::RenameInTwoSteps { usize::MAX } else { 12 };
    for scenario in all().iter().filter(|s| s.name == "seal") {
        scenario.crash(flaw, limit, &mut report);
    }
    report
}

/// A name that is nothing but a writer's mark or temporary file.
pub(in crate::faults) fn passing(name: &str) -> bool {
    name == ".writing" || keys::disk::is_temporary(name)
}

fn everything_counts(_: &str) -> bool {
    false
}

impl Scenario {
    /// Runs the command undisturbed. Gives the machine after each operation, and what is known whatever happens.
    fn undisturbed(&self, flaw: Flaw) -> (Estate, Vec<Machine>, Expected) {
        let estate = (self.base)();
        let acknowledged = published(&estate).len();
        estate.machine.set_flaw(flaw);
        let (result, moments) = estate.machine.recorded(|| estate.run(self.who, &self.command));
        result.unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let entries = published(&estate);
        (estate, moments, Expected { entries, acknowledged, values: [(SECRET, self.values.0.to_vec())].into() })
    }

    fn step(&self) -> usize {
        if is_long() || THOROUGH.contains(&self.name) { 1 } else { STEP }
    }

    /// Cuts the power after each operation, several ways each, and recovers at most `limit` disks.
    fn crash(&self, flaw: Flaw, limit: usize, report: &mut Report) {
        let (estate, moments, expected) = self.undisturbed(flaw);
        let (mut disks, mut substance, mut spare) = (BTreeSet::new(), BTreeSet::new(), 0);
        for (at, moment) in moments.iter().enumerate() {
            for seed in (0..SEEDS).map(|seed| if seed < 4 { seed } else { seed + SEEDS * at as u64 }) {
                let machine = moment.fork(seed);
                report.crashes += 1;
                if !disks.insert(machine.fingerprint(everything_counts)) {
                    continue;
                }
                let new = substance.insert(machine.fingerprint(passing));
                spare += usize::from(!new);
                let due = if new { substance.len().is_multiple_of(self.step()) } else { spare % SPARES == 0 };
                if due && report.recovered < limit {
                    let place = format!("{}, operation {}, seed {seed}", self.name, at + 1);
                    self.judge(&estate.on(machine), &expected, &place, report);
                }
            }
        }
        report.distinct += disks.len();
    }

    /// Kills the process after each operation: the page cache stays, and what follows builds on it.
    fn kill(&self, report: &mut Report) {
        let (estate, moments, expected) = self.undisturbed(Flaw::None);
        let mut seen = BTreeSet::new();
        for (at, moment) in moments.iter().enumerate() {
            report.kills += 1;
            let new = seen.insert((moment.fingerprint(passing), moment.fork(0).fingerprint(passing)));
            if new && seen.len().is_multiple_of(self.step()) {
                let place = format!("{}, killed after operation {}", self.name, at + 1);
                self.judge(&estate.on(moment.killed()), &expected, &place, report);
            }
        }
        report.distinct += seen.len();
    }

    pub(in crate::faults) fn judge(&self, estate: &Estate, expected: &Expected, place: &str, report: &mut Report) {
        report.recovered += 1;
        let found = match expected.check(estate) {
            Ok(found) => found,
            Err(problem) => return report.broken(Promise::OldOrNew, &problem, place),
        };
        if !found.damage.is_empty() {
            report.broken(Promise::NoFalseAlarm, &found.damage.join("; "), place);
        }
        // What a process that was killed has published is there for all to see, and a power cut may still take it: the
        // commit stays, and whoever comes next publishes the same again.
        let durable = published(&estate.on(estate.machine.fork(0))).len();
        let (result, moments) = estate.machine.recorded(|| self.again(estate));
        if let Err(problem) = result {
            return report.broken(Promise::Converges, &problem, place);
        }
        self.look(estate, &found, place, report);
        if report.recovered.is_multiple_of(AGAIN.0) {
            for (at, moment) in moments.iter().enumerate().step_by(AGAIN.1) {
                let cut = estate.on(moment.fork(at as u64));
                report.again += 1;
                let place = format!("{place}, and operation {} of the recovery", at + 1);
                let after = Expected { entries: Vec::new(), acknowledged: durable, ..expected.clone() };
                match after.check(&cut) {
                    Err(problem) => report.broken(Promise::OldOrNew, &problem, &place),
                    Ok(found) => match self.again(&cut) {
                        Err(problem) => report.broken(Promise::Converges, &problem, &place),
                        Ok(()) => self.look(&cut, &found, &place, report),
                    },
                }
            }
        }
    }

    /// Runs the command again, as somebody does who does not know how far it came.
    fn again(&self, estate: &Estate) -> Result<(), String> {
        match estate.run(self.who, &self.command) {
            Ok(_) => Ok(()),
            // A founding that was begun is refused. What is no fleet is cleared away by hand, and begun again.
            Err(OpsError::InTheWay(_) | OpsError::Present(_)) if matches!(self.command, Command::Init { .. }) => {
                if estate.open_unknown().is_ok() {
                    return estate.run(self.who, &Command::Sync).map(|_| ()).map_err(|e| format!("founded: {e}"));
                }
                estate.machine.clear("keyring");
                estate.machine.clear("policy");
                estate.run(self.who, &self.command).map(|_| ()).map_err(|e| format!("begun again: {e}"))
            }
            // Who has left cannot be revoked again; what a revocation does besides is a command of its own.
            Err(OpsError::NoMember(_)) if matches!(self.command, Command::Revoke(_)) => {
                estate.run(self.who, &Command::Reseal).map(|_| ()).map_err(|e| format!("revoked: {e}"))
            }
            Err(e) => Err(e.to_string()),
        }
    }

    /// The command has succeeded: looks at what would be there after a power cut, and at what is left to do.
    fn look(&self, estate: &Estate, found: &Found, place: &str, report: &mut Report) {
        let entries = published(estate);
        if !entries.starts_with(&found.entries) {
            report.broken(Promise::OldOrNew, "the log has another past than before the recovery", place);
        }
        let acknowledged =
            Expected { acknowledged: entries.len(), entries, values: [(SECRET, vec![self.values.1])].into() };
        let mut after = match acknowledged.check(&estate.on(estate.machine.fork(0))) {
            Ok(found) => found,
            Err(problem) => return report.broken(Promise::Durable, &problem, place),
        };
        if !after.damage.is_empty() {
            report.broken(Promise::Durable, &after.damage.join("; "), place);
        }
        for (who, command) in self.settle {
            if let Err(e) = estate.run(who, command) {
                return report.broken(Promise::Settles, &format!("{who} {command:?}: {e}"), place);
            }
        }
        if !self.settle.is_empty() {
            let settled = Expected { entries: Vec::new(), ..acknowledged };
            after = match settled.check(estate) {
                Ok(found) => found,
                Err(problem) => return report.broken(Promise::Settles, &problem, place),
            };
        }
        // An SSH certificate that the log has decided and nobody has signed is no leftover: the next sync signs it.
        let owed = |note: &&String| !note.starts_with(".writing") && !note.contains("the next 'keys sync'");
        for problem in after.damage.iter().chain(after.notes.iter().filter(owed)) {
            report.broken(Promise::Tidy, problem, place);
        }
        let Some(mut fleet) = after.fleet.take() else {
            return report.broken(Promise::Settles, "there is no fleet", place);
        };
        if let Err(problem) = (self.reached)(&mut fleet, estate) {
            report.broken(Promise::Settles, &problem, place);
        }
        // Not in `policy`: it belongs to people, who see what lies there; no command but the founding writes to it.
        for path in check::leftovers(estate, &["keyring", "alice", "bob", "fra1"]) {
            report.broken(Promise::Tidy, &format!("{path}: left for ever"), place);
        }
    }
}

fn published(estate: &Estate) -> Vec<Vec<u8>> {
    check::entries(&estate.store()).unwrap_or_default()
}
