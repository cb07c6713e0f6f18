//! Damaging a keyring file by file, and what the verifier has to say of each case.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use keys::fleet::{Fleet, Known, Severity};
use keys::store::Store;
use keys::time::Time;

use super::check::Violations;
use super::disk::Machine;

/// A keyring: its files by path.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What the verifier lets pass, or says otherwise, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grace {
    /// It has to be called damage.
    None,
    /// A proposal may be gone: that is how it is withdrawn, and nothing in the log refers to it yet.
    Withdrawn,
    /// An SSH certificate that the log decided and nobody has signed yet, or that is gone, is made (again) by whoever has
    /// the CA's key: its entry determines it. The verifier notes it.
    MadeAgain,
    /// What a cosigner has left may be gone: it leaves it again.
    LeftAgain,
    /// Without `log/head` the log is as before what waits; whatever is left of that is noted, and a cosignature of it is
    /// damage, which says what is missing.
    Behind,
    /// Without `log/checkpoint` there is no keyring to speak of; that is the error, and it names the file.
    NoKeyring,
    /// An attachment whose name is right but to which nothing refers, a temporary file, the writers' mark: a writer that
    /// was interrupted leaves them, the next one removes them, and the verifier notes them.
    Noted,
}

/// Reads the files below a directory.
pub(super) fn read(root: &Path) -> Files {
    let relative = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    crate::support::files_below(root).iter().map(|path| (relative(path), std::fs::read(path).unwrap())).collect()
}

/// The keyring as a disk in memory; every case takes a copy of it.
pub(super) fn machine(files: &Files) -> Machine {
    let machine = Machine::new();
    let disk = machine.disk("keyring");
    for (path, bytes) in files {
        disk.create(path, bytes).unwrap();
    }
    machine.fork(1)
}

/// A damaged file: which, how, its new content (none: it is gone), and what is let pass.
pub(super) struct Case {
    pub path: String,
    pub how: String,
    pub content: Option<Vec<u8>>,
    pub grace: Grace,
}

/// One bit of a file, flipped.
pub(super) fn flipped(path: &str, bytes: &[u8], at: usize, bit: usize) -> Case {
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 1 << bit;
    let how = format!("bit {bit} of byte {at} of {}", bytes.len());
    Case { path: path.to_owned(), how, content: Some(damaged), grace: Grace::None }
}

/// What the verifier has to say of a case; `Err` says how it failed.
pub(super) fn judge(machine: &Machine, case: &Case) -> Result<(), String> {
    let machine = machine.killed();
    let disk = machine.disk("keyring");
    match &case.content {
        Some(bytes) => disk.replace(&case.path, bytes).map_err(|e| e.to_string())?,
        None => assert!(disk.remove(&case.path).unwrap(), "{} was there", case.path),
    }
    let verified = Fleet::verify(&Store::new(disk), &Known::default(), now(), &mut |_, _| {});
    let (report, _) = match (verified, case.grace) {
        (Ok(verified), _) => verified,
        (Err(e), Grace::NoKeyring) if e.to_string().contains(&case.path) => return Ok(()),
        (Err(e), _) => return Err(format!("no report, but: {e}")),
    };
    let named = |severity| report.problems.iter().any(|p| p.severity == severity && p.path == case.path);
    let said = || report.problems.iter().map(|p| format!("{}: {}", p.path, p.problem)).collect::<Vec<_>>().join("; ");
    match case.grace {
        Grace::None if named(Severity::Damage) => Ok(()),
        Grace::None if report.is_sound() => Err("nothing was noticed".to_owned()),
        Grace::None => Err(format!("the file is not named, but: {}", said())),
        Grace::Noted | Grace::MadeAgain if named(Severity::Note) && report.is_sound() => Ok(()),
        Grace::Noted | Grace::MadeAgain => Err(format!("it should be noted: {}", said())),
        Grace::Withdrawn | Grace::LeftAgain if report.is_sound() => Ok(()),
        Grace::Behind if report.problems.iter().any(|p| p.problem.contains(&case.path)) => Ok(()),
        Grace::Behind => Err(format!("nothing names it: {}", said())),
        Grace::Withdrawn | Grace::LeftAgain => Err(format!("it may be gone: {}", said())),
        Grace::NoKeyring => Err("a report about a keyring that is none".to_owned()),
    }
}

/// The clock: the files were made just now.
pub(super) fn now() -> Time {
    Time::from_system(std::time::SystemTime::now())
}

/// Judges all cases, on two threads; at least `least` of them.
pub(super) fn all_hold(files: &Files, cases: &[Case], least: usize) {
    each_holds(files, cases, least, |machine, case| {
        judge(machine, case).map_err(|problem| (format!("{}: {problem}", case.path), case.how.clone()))
    });
}

/// Several files damaged at once, by path; each has to be called damaged.
pub(super) fn all_named(files: &Files, cases: &[Files], least: usize) {
    each_holds(files, cases, least, |machine, case| {
        let machine = machine.killed();
        let disk = machine.disk("keyring");
        let wrong = |e: &dyn std::fmt::Display| (e.to_string(), String::new());
        case.iter().try_for_each(|(path, bytes)| disk.replace(path, bytes)).map_err(|e| wrong(&e))?;
        let verified = Fleet::verify(&Store::new(disk), &Known::default(), now(), &mut |_, _| {});
        let (report, _) = verified.map_err(|e| wrong(&e))?;
        let named = |path: &String| report.problems.iter().any(|p| p.severity == Severity::Damage && p.path == *path);
        match case.keys().find(|path| !named(path)) {
            Some(path) => Err((format!("{path} is not named"), format!("{} files", case.len()))),
            None => Ok(()),
        }
    });
}

type Wrong = (String, String);

fn each_holds<T: Sync>(
    files: &Files,
    cases: &[T],
    least: usize,
    judge: impl Fn(&Machine, &T) -> Result<(), Wrong> + Sync,
) {
    let (machine, next, wrong) = (machine(files), AtomicUsize::new(0), Mutex::new(Violations::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err((problem, how)) = judge(&machine, case) {
                        wrong.lock().unwrap().add(&problem, &how);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    eprintln!("faults: {} files, {} cases, {} wrong", files.len(), cases.len(), wrong.count());
    assert!(wrong.is_empty(), "{} of {} cases:\n{wrong}", wrong.count(), cases.len());
    assert!(cases.len() >= least, "only {} cases", cases.len());
}

/// Where a file is flipped: everywhere if it is small, else near its ends and at places between.
pub(super) fn places(length: usize) -> BTreeSet<usize> {
    if length <= 200 {
        return (0..length).collect();
    }
    (0..10).chain(length - 10..length).chain((0..20).map(|i| i * length / 20)).collect()
}
