//! Power cuts and kills at every file operation of every command that changes something.
//!
//! A command runs once, undisturbed, while the machine keeps its state after each operation. What a crash there may leave
//! follows from that state; each such disk is checked, the command is run again on it as a person would, and what then was
//! acknowledged has to survive the next power cut. Disks that differ in nothing but temporary files are recovered once,
//! and counted as often as they came up. All of it runs once; each test looks for one promise that was broken.

mod run;
mod scenario;

use std::sync::OnceLock;

use super::disk::Flaw;
use super::is_long;
use crate::support::{Sandbox, tests};

use run::everything;

pub(super) use run::{Promise, Report, passing};
pub(super) use scenario::{Scenario, all as scenarios};

tests!["faults::crash":
    a_crash_leaves_the_old_fleet_or_the_new_one,
    a_crash_is_not_mistaken_for_damage,
    running_a_command_again_finishes_it,
    what_was_acknowledged_survives_the_next_power_cut,
    nothing_waits_for_ever_after_a_crash,
    nothing_is_left_behind_by_a_crash,
    a_disk_that_lies_is_noticed,
];

fn report() -> &'static Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(|| {
        let report = everything();
        eprintln!("faults::crash: {report}");
        report
    })
}

#[track_caller]
fn holds(promise: Promise) {
    let report = report();
    assert!(report.crashes >= 8_000, "only {} crashes", report.crashes);
    assert!(report.recovered >= if is_long() { 900 } else { 300 }, "only {} recovered", report.recovered);
    if let Some(violations) = report.violations.get(&promise) {
        panic!("{} of these crashes broke it:\n{violations}", violations.count());
    }
}

fn a_crash_leaves_the_old_fleet_or_the_new_one(_: &Sandbox) {
    holds(Promise::OldOrNew);
}

fn a_crash_is_not_mistaken_for_damage(_: &Sandbox) {
    holds(Promise::NoFalseAlarm);
}

fn running_a_command_again_finishes_it(_: &Sandbox) {
    holds(Promise::Converges);
}

fn what_was_acknowledged_survives_the_next_power_cut(_: &Sandbox) {
    holds(Promise::Durable);
}

fn nothing_waits_for_ever_after_a_crash(_: &Sandbox) {
    holds(Promise::Settles);
}

fn nothing_is_left_behind_by_a_crash(_: &Sandbox) {
    holds(Promise::Tidy);
}

/// The harness is worth something only if it catches a disk that breaks its word.
fn a_disk_that_lies_is_noticed(_: &Sandbox) {
    for flaw in [Flaw::NameBeforeContent, Flaw::NamesNeverSynced, Flaw::RenameInTwoSteps] {
        let report = run::sabotaged(flaw);
        let caught: usize = [Promise::OldOrNew, Promise::Durable]
            .iter()
            .filter_map(|promise| report.violations.get(promise))
            .map(super::check::Violations::count)
            .sum();
        eprintln!("faults::crash: {flaw:?}: {} crashes, caught {caught} times", report.crashes);
        assert!(caught > 0, "{flaw:?} went unnoticed in {} crashes", report.crashes);
    }
}
