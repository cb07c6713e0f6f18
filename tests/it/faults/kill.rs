//! The real program on a real disk, killed with SIGKILL at random moments, over and over on one fleet: whatever the moment,
//! the fleet opens, the log has only grown, the secret is the old or the new one, and every private key is where it was.
//!
//! A kill lands at any moment of a command's run; what the command was doing is left to the next one, which is chosen by
//! chance as well. The seed is printed; `KEYS_TEST_SEED` repeats a run as far as the machine's timing does.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Fleet, Known};
use keys::home::Home;
use keys::ops;
use keys::store::Store;
use keys::time::Time;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::check::{self, entries};
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["faults::kill":
    kills_at_any_moment_lose_nothing,
];

/// Commands that have to die of SIGKILL.
fn kills() -> usize {
    if super::is_long() { 300 } else { 100 }
}

/// Kills on one copy of the fleet; then everything is verified, and another copy is taken.
const ROUND: usize = 25;
/// Machines that have asked to join; each is admitted once.
const REQUESTS: usize = 10;
const SECRET: &str = "fra1/token";

/// One of the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Seal,
    Rotate,
    Approve,
    SyncOfAlice,
    SyncOfFra1,
}

const KINDS: [Kind; 5] = [Kind::Seal, Kind::Rotate, Kind::Approve, Kind::SyncOfAlice, Kind::SyncOfFra1];

/// A copy of the fleet, and what is known of it.
struct Round<'a> {
    sandbox: &'a Sandbox,
    root: String,
    entries: Vec<Vec<u8>>,
    /// The values that the secret may have; the last one is the newest that was tried.
    values: Vec<String>,
    number: usize,
}

/// What happened.
#[derive(Debug, Default)]
struct Tally {
    killed: usize,
    finished: usize,
    /// Kills that left a writer's mark: they hit while it was writing.
    writing: usize,
    /// Kills after which the change was there, and was not.
    new: usize,
    old: usize,
}

fn kills_at_any_moment_lose_nothing(sandbox: &Sandbox) {
    let seed = std::env::var("KEYS_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    eprintln!("faults::kill: KEYS_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    prepare(sandbox);
    let mut times = measure(sandbox);
    let (mut tally, start) = (Tally::default(), Instant::now());
    for round in 1.. {
        let mut fleet = Round::new(sandbox, round);
        let until = tally.killed + ROUND;
        while tally.killed < until {
            assert!(tally.finished < 5 * kills(), "the kills come too late: {tally:?}");
            let which = rng.random_range(0..KINDS.len());
            let killed = fleet.kill(KINDS[which], times[which].mul_f64(rng.random_range(0.0..1.2)), &mut tally);
            // What else the machine does changes: whoever finished first was given too long, and about every fifth is to.
            times[which] = times[which].mul_f64(if killed { 1.02 } else { 0.93 });
        }
        fleet.verify();
        eprintln!("faults::kill: round {round}, {:.0} s: {tally:?}", start.elapsed().as_secs_f64());
        if tally.killed >= kills() {
            break;
        }
    }
    eprintln!(
        "faults::kill: {tally:?} in {:.0} s; in the end a command takes {times:?}",
        start.elapsed().as_secs_f64()
    );
    assert!(tally.writing >= kills() / 20, "hardly a kill hit a writer: {tally:?}");
    assert!(tally.new > 0 && tally.old > 0, "the kills hit on one side only: {tally:?}");
}

/// The fleet that every round begins with.
fn prepare(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.seal(SECRET, "value 0");
    for i in 0..REQUESTS {
        let (name, file) = (format!("x{i}"), format!("x{i}.request"));
        fleet.keys(&name, &["enroll", &name, "--out", &file]).ok();
    }
    let root = sandbox.path("base");
    std::fs::create_dir(&root).unwrap();
    for entry in std::fs::read_dir(sandbox.root()).unwrap().map(|e| e.unwrap().path()).filter(|p| *p != root) {
        std::fs::rename(&entry, root.join(entry.file_name().unwrap())).unwrap();
    }
}

/// How long each command takes when it is left alone: the shortest of three times.
fn measure(sandbox: &Sandbox) -> [Duration; 5] {
    let round = Round::new(sandbox, 0);
    KINDS.map(|kind| {
        let times = (0..3).map(|_| {
            let start = Instant::now();
            let output = round.spawn(kind, "measured").wait_with_output().unwrap();
            assert!(output.status.success(), "{kind:?}: {}", String::from_utf8_lossy(&output.stderr));
            start.elapsed()
        });
        times.min().unwrap()
    })
}

impl<'a> Round<'a> {
    fn new(sandbox: &'a Sandbox, number: usize) -> Self {
        let root = format!("round{number}");
        sandbox.copy("base", &root);
        let mut round = Self { sandbox, root, entries: Vec::new(), values: vec!["value 0".into()], number };
        round.entries = entries(&round.store()).unwrap();
        round
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.sandbox.path(&self.root).join(name)
    }

    fn store(&self) -> Store {
        Store::new(Disk::new(RealFiles::open(&self.path("fleet/keyring"), Access::Public).unwrap()))
    }

    fn home(&self, name: &str) -> Home {
        Home::open(&self.path(name)).unwrap()
    }

    fn keys(&self, who: &str, args: &[&str]) -> std::process::Command {
        let mut command = self.sandbox.command();
        command.current_dir(self.path("")).args(["--fleet", "fleet", "--home", who]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn spawn(&self, kind: Kind, value: &str) -> std::process::Child {
        let request = format!("x{}.request", self.admitted().min(REQUESTS - 1));
        let (who, args) = match kind {
            Kind::Seal => ("alice", vec!["seal", SECRET]),
            Kind::Rotate => ("alice", vec!["rotate", "fra1", "--yes"]),
            Kind::Approve => ("alice", vec!["approve", &request, "--yes"]),
            Kind::SyncOfAlice => ("alice", vec!["sync"]),
            Kind::SyncOfFra1 => ("fra1", vec!["sync"]),
        };
        let mut child = self.keys(who, &args).spawn().unwrap();
        // Whoever is killed first, or does not read, closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(value.as_bytes());
        child
    }

    /// How many of the machines that asked are members.
    fn admitted(&self) -> usize {
        let fleet = self.open();
        let is_member = |i: &usize| fleet.state().members.contains_key(&format!("x{i}").parse().unwrap());
        (0..REQUESTS).filter(is_member).count()
    }

    /// Opens the fleet as alice, who has pinned it and remembers how long it was.
    fn open(&self) -> Fleet {
        let home = self.home("alice");
        let known = Known { pin: home.pin().unwrap().map(|p| p.id), seen: home.seen().unwrap(), ..Known::default() };
        assert!(known.pin.is_some(), "the pin is gone");
        let now = Time::from_system(std::time::SystemTime::now());
        Fleet::open(self.store(), &known, now, &mut |_, _| {}).unwrap_or_else(|e| panic!("{}: {e}", self.root))
    }

    /// Starts a command, kills it after a while if it has not finished, and looks at what is there. Gives whether it was killed.
    fn kill(&mut self, kind: Kind, after: Duration, tally: &mut Tally) -> bool {
        let value = format!("value {} of round {}", self.values.len(), self.number);
        let mut child = self.spawn(kind, &value);
        std::thread::sleep(after);
        // It may have finished: then it is not there any more to be killed.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let place = format!("{} {kind:?} after {after:?}: {}", self.root, String::from_utf8_lossy(&output.stderr));
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{place}");
        if kind == Kind::Seal {
            if !killed {
                self.values.clear();
            }
            self.values.push(value);
        }
        let before = self.entries.len();
        self.look(&place);
        if killed {
            tally.killed += 1;
            tally.writing += usize::from(self.path("fleet/keyring/.writing").exists());
            *(if self.entries.len() > before { &mut tally.new } else { &mut tally.old }) += 1;
        } else {
            tally.finished += 1;
        }
        killed
    }

    /// What has to hold after every kill.
    fn look(&mut self, place: &str) {
        let mut fleet = self.open();
        let now = entries(&self.store()).unwrap();
        assert!(now.starts_with(&self.entries), "{place}\nthe log has {} entries, another past than before", now.len());
        self.entries = now;
        let fra1 = "fra1".parse().unwrap();
        let opened = ops::open(&SECRET.parse().unwrap(), Some(&fra1), &self.home("fra1"), &mut fleet);
        let opened = opened.unwrap_or_else(|e| panic!("{place}\nthe secret does not open: {e}"));
        let found = String::from_utf8(opened.value.to_vec()).unwrap();
        assert!(self.values.contains(&found), "{place}\nthe secret is '{found}', not one of {:?}", self.values);
        // What was seen once stays; a later value may still be one that was begun and is finished by whoever is next.
        let at = self.values.iter().position(|v| *v == found).unwrap();
        self.values.drain(..at);
        check::private_keys(&fleet, |member| self.home(&check::home_of(member)))
            .unwrap_or_else(|e| panic!("{place}\n{e}"));
    }

    /// Everybody catches up; then nothing may be wrong, waiting or left over.
    fn verify(&mut self) {
        for who in ["alice", "fra1", "alice"] {
            self.run(who, &["sync"]).ok();
        }
        self.look(&self.root.clone());
        let verified = self.run("alice", &["log", "verify", "--json"]);
        verified.ok();
        assert_eq!(verified.json()["problems"], serde_json::json!([]), "{}", self.root);
        let waiting = self.run("alice", &["approve", "--json"]).json();
        let stuck = check::stuck(&waiting, &["fra1"]);
        assert!(stuck.is_empty(), "{}: {stuck:?}", self.root);
        for place in ["fleet", "alice", "fra1"] {
            let left: Vec<String> = walk(&self.path(place)).into_iter().filter(|p| p.contains("/.tmp-")).collect();
            assert!(left.is_empty(), "{}: {left:?}", self.root);
        }
        std::fs::remove_dir_all(self.path("")).unwrap();
    }

    fn run(&self, who: &str, args: &[&str]) -> Ran {
        Ran { line: args.join(" "), output: self.keys(who, args).stdin(Stdio::null()).output().unwrap() }
    }
}

fn walk(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p.display().to_string()] }).collect()
}
