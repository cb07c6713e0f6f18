//! A disk that fails once: each file operation of each command gives EIO, or ENOSPC where something is written. The
//! command says which file, and whether the change is made; what was there is there; and once the disk is well again the
//! same command succeeds.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::check::{self, Expected, Violations};
use super::crash::{Promise, Report, Scenario, passing, scenarios};
use super::disk::{Errno, Fault};
use super::estate::Estate;
use crate::support::{Sandbox, tests};

tests!["faults::errors":
    a_disk_that_fails_once_loses_nothing_and_is_named,
    a_disk_that_stays_full_or_read_only_loses_nothing,
];

/// Of the operations that only look, every so many fails in turn.
const LOOKS: usize = 25;
/// Of those that write, each in these commands, every third in the others.
const THOROUGH: [&str; 3] = ["seal", "sync of a PoP", "enroll"];
/// Commands that make several changes: some are made when a later one fails, which the command line says.
const SEVERAL: [&str; 4] = ["rotate", "sync of the log's owner", "take a proposal in", "revoke"];

/// Commands that met an error, and what was wrong with how they took it.
#[derive(Default)]
struct Tally {
    faults: usize,
    /// Commands that succeeded nevertheless: what failed was not needed.
    unharmed: usize,
    wrong: Violations,
    after: Report,
}

fn all(faults: fn(&Scenario) -> Vec<Fault>) -> Tally {
    let (scenarios, next, total, start) =
        (scenarios(), AtomicUsize::new(0), Mutex::new(Tally::default()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut tally = Tally::default();
                    let mut seen = BTreeSet::new();
                    for fault in faults(scenario) {
                        one(scenario, fault, &mut seen, &mut tally);
                    }
                    let mut all = total.lock().unwrap();
                    all.faults += tally.faults;
                    all.unharmed += tally.unharmed;
                    all.wrong.merge(tally.wrong);
                    all.after.merge(tally.after);
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    let took = start.elapsed().as_secs_f64();
    eprintln!(
        "faults::errors: {} faults, {} without harm; {took:.0} s; then: {}",
        total.faults, total.unharmed, total.after
    );
    total
}

fn judged(tally: &Tally, least: usize) {
    let after: Vec<String> = tally.after.violations.iter().map(|(p, v)| format!("{p:?}:\n{v}")).collect();
    let fine = tally.wrong.is_empty() && after.is_empty();
    assert!(fine, "of {} faults:\n{}{}", tally.faults, tally.wrong, after.join(""));
    assert!(tally.faults >= least, "only {} faults", tally.faults);
    assert!(tally.faults > 2 * tally.unharmed, "{} of {} faults did no harm", tally.unharmed, tally.faults);
}

/// Runs a command on a disk that fails, and again on the same disk when it is well.
fn one(scenario: &Scenario, fault: Fault, seen: &mut BTreeSet<(u64, bool)>, tally: &mut Tally) {
    let estate = (scenario.base)();
    let before = check::entries(&estate.store()).unwrap_or_default();
    estate.machine.set_fault(fault);
    let result = estate.run(scenario.who, &scenario.command);
    estate.machine.set_fault(Fault::None);
    let place = format!("{}, {fault:?}", scenario.name);
    tally.faults += 1;
    let made = has_happened(&estate, before.len());
    match &result {
        Ok(_) => tally.unharmed += 1,
        Err(e) => {
            let said = e.to_string();
            if !["/keyring", "/policy", "/alice", "/bob", "/fra1"].iter().any(|root| said.contains(root)) {
                tally.wrong.add(&format!("no file is named: {said}"), &place);
            }
            if !said.contains("os error ") {
                tally.wrong.add(&format!("it does not say what the disk says: {said}"), &place);
            }
            let says = said.contains("the change is made");
            let several = SEVERAL.contains(&scenario.name) && made;
            if made != says && !before.is_empty() && !several {
                let word = if made { "and it is made" } else { "and it is not made" };
                tally.wrong.add(&format!("{said}: {word}"), &place);
            }
        }
    }
    // The process has ended, and its locks with it.
    let estate = estate.on(estate.machine.killed());
    if result.is_ok() {
        let acknowledged = check::entries(&estate.store()).unwrap_or_default().len();
        let expected = scenario.expected(acknowledged);
        if let Err(problem) = expected.check(&estate.on(estate.machine.fork(0))) {
            tally.wrong.add(&format!("it succeeded, and a power cut took it: {problem}"), &place);
        }
    }
    if seen.insert((estate.machine.fingerprint(passing), made)) {
        let expected = Expected { acknowledged: before.len(), ..scenario.expected(0) };
        let mut after = Report::default();
        scenario.judge(&estate, &expected, &place, &mut after);
        if result.is_ok() {
            // A command that could not unlink its temporary file goes on, and says that all is done.
            after.violations.remove(&Promise::Tidy);
        }
        tally.after.merge(after);
    }
}

/// Whether the log has grown, or will: its next place is taken.
fn has_happened(estate: &Estate, before: usize) -> bool {
    let disk = estate.machine.disk("keyring");
    let commit = format!("log/{}", keys::log::commit::Commit::path(before as u64));
    matches!(disk.read(&commit, keys::limits::COMMIT_BYTES_MAX), Ok(Some(_)))
}

fn a_disk_that_fails_once_loses_nothing_and_is_named(_: &Sandbox) {
    let faults = |scenario: &Scenario| {
        let mut faults = Vec::new();
        let (writes, looks) = scenario.operations();
        let step = if THOROUGH.contains(&scenario.name) { 1 } else { 3 };
        for (i, at) in writes.into_iter().step_by(step).enumerate() {
            faults.push(Fault::Once { at, errno: if i % 2 == 0 { Errno::NoSpace } else { Errno::Io } });
        }
        faults.extend(looks.into_iter().step_by(LOOKS).map(|at| Fault::Once { at, errno: Errno::Io }));
        faults
    };
    judged(&all(faults), 300);
}

fn a_disk_that_stays_full_or_read_only_loses_nothing(_: &Sandbox) {
    let faults = |scenario: &Scenario| {
        let (writes, _) = scenario.operations();
        let full = writes.iter().step_by(15).map(|at| Fault::From { at: *at, errno: Errno::NoSpace });
        full.chain([Fault::From { at: 1, errno: Errno::ReadOnly }]).collect()
    };
    judged(&all(faults), 60);
}
