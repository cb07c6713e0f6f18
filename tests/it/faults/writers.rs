//! Several writers at once on one keyring: each waits for its turn or says that it could not get it (exit 6); what was
//! acknowledged is there, once, and the log is one line.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use keys::disk::{Access, Disk, RealFiles};
use serde_json::Value;

use super::check::stuck;
use crate::support::{Ran, Running, Sandbox, TestFleet, tests};

tests!["faults::writers":
    two_writers_lose_nothing,
    sixteen_writers_lose_nothing,
    writers_of_all_kinds_at_once_lose_nothing,
    two_who_sign_at_once_make_one_entry,
    a_writer_waits_for_another_one,
    a_writer_that_waited_too_long_says_so,
];

/// The arguments of a command, and what it reads.
type Line = (Vec<String>, String);

/// Runs the program in a thread of its own, as often as there are commands for it; gives what came of each.
fn at_once(fleet: &TestFleet<'_>, writers: Vec<(&'static str, Vec<Line>)>) -> Vec<Vec<Ran>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = writers
            .into_iter()
            .map(|(who, commands)| {
                scope.spawn(move || {
                    let run = |(args, input): &Line| {
                        let args: Vec<&str> = args.iter().map(String::as_str).collect();
                        fleet.keys_with(who, &args, input.as_bytes())
                    };
                    commands.iter().map(run).collect::<Vec<_>>()
                })
            })
            .collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn log_size(fleet: &TestFleet<'_>) -> u64 {
    fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64().unwrap()
}

fn sound(fleet: &TestFleet<'_>) {
    let verified = fleet.keys("alice", &["log", "verify", "--json"]);
    verified.ok();
    assert_eq!(verified.json()["problems"], serde_json::json!([]));
}

/// Whether it succeeded; otherwise somebody was first, and it says so.
fn succeeded(ran: &Ran) -> bool {
    match ran.code() {
        0 => true,
        6 => false,
        _ => panic!("{}: exit {}\n{}", ran.line, ran.code(), ran.stderr()),
    }
}

fn sealers(sandbox: &Sandbox, writers: usize, each: usize) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let before = log_size(&fleet);
    // Every writer has a secret of its own, and all write one that is common.
    let commands = |w: usize| {
        let own = (0..each).map(move |i| (words(&format!("seal fra1/own-{w}")), format!("own {w} {i}")));
        let common = (0..each).map(move |i| (words("seal fra1/common"), format!("common {w} {i}")));
        own.zip(common).flat_map(|(a, b)| [a, b]).collect::<Vec<_>>()
    };
    let ran = at_once(&fleet, (0..writers).map(|w| ("alice", commands(w))).collect());
    let done: Vec<Vec<bool>> = ran.iter().map(|list| list.iter().map(succeeded).collect()).collect();
    let successes = done.iter().flatten().filter(|d| **d).count();
    eprintln!("faults::writers: {writers} writers, {successes} of {} commands succeeded", writers * each * 2);
    // Each waits for so long and no longer, so on a slow machine many give up.
    assert!(successes >= writers / 4, "hardly anybody got a turn");
    sound(&fleet);
    assert_eq!(log_size(&fleet), before + successes as u64, "one entry for each success");
    let listed = fleet.keys("alice", &["ls", "--json"]).json();
    let version = |address: &str| {
        let rows = listed["secrets"].as_array().unwrap();
        rows.iter().find(|r| r["address"] == address).map_or(0, |r| r["version"].as_u64().unwrap())
    };
    let mut common = 0;
    for (w, list) in done.iter().enumerate() {
        let own: Vec<usize> = (0..each).filter(|i| list[2 * i]).collect();
        common += list.iter().skip(1).step_by(2).filter(|d| **d).count() as u64;
        assert_eq!(version(&format!("fra1/own-{w}")), own.len() as u64, "writer {w}");
        if let Some(last) = own.last() {
            let opened = fleet.keys("fra1", &["open", &format!("fra1/own-{w}")]).ok();
            assert_eq!(opened, format!("own {w} {last}"));
        }
    }
    assert_eq!(version("fra1/common"), common);
    let opened = fleet.keys("fra1", &["open", "fra1/common"]).ok();
    assert!(opened.starts_with("common "), "{opened}");
}

fn two_writers_lose_nothing(sandbox: &Sandbox) {
    sealers(sandbox, 2, 5);
}

fn sixteen_writers_lose_nothing(sandbox: &Sandbox) {
    sealers(sandbox, 16, 2);
}

fn writers_of_all_kinds_at_once_lose_nothing(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    for pop in ["fra1", "ams1", "sin1"] {
        fleet.join(pop, "");
    }
    for pop in ["par1", "lon1"] {
        fleet.keys(pop, &["enroll", pop, "--out", &format!("{pop}.request")]).ok();
    }
    let before = log_size(&fleet);
    let one = |text: &str, input: &str| vec![(words(text), input.to_owned())];
    let writers = vec![
        ("alice", one("seal fra1/token", "a")),
        ("alice", one("rotate ams1 --yes", "")),
        ("alice", one("approve par1.request --yes", "")),
        ("alice", one("approve lon1.request --yes", "")),
        ("alice", one("revoke sin1 --reason retired --yes", "")),
        ("fra1", one("sync", "")),
        ("ams1", one("sync", "")),
        ("alice", one("ssh sign host --yes", "")),
    ];
    let ran = at_once(&fleet, writers);
    let done: Vec<bool> = ran.iter().flatten().map(|r| r.code() == 4 || succeeded(r)).collect();
    sound(&fleet);
    let status = fleet.keys("alice", &["status", "--json"]).json();
    assert!(status["log"]["size"].as_u64().unwrap() >= before + done.iter().filter(|d| **d).count() as u64 - 4);
    if done[0] {
        assert_eq!(fleet.keys("fra1", &["open", "fra1/token"]).ok(), "a");
    }
    for (i, pop) in [(2, "par1"), (3, "lon1")].into_iter().filter(|(i, _)| done[*i]) {
        fleet.keys("alice", &["reach", pop]).ok();
        assert!(ran[i][0].stdout().contains("entry"), "{}", ran[i][0].stdout());
    }
    for who in ["alice", "ams1", "alice"] {
        fleet.keys(who, &["sync"]).ok();
    }
    sound(&fleet);
    let waiting = fleet.keys("alice", &["approve", "--json"]).json();
    assert_eq!(stuck(&waiting, &["fra1", "ams1"]), Vec::<&Value>::new());
}

/// A change that needs both operators, signed by two processes at the same moment.
fn two_who_sign_at_once_make_one_entry(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.keys("alice", &["rotate", "casc1", "--yes"]).exits(4);
    let before = log_size(&fleet);
    let approve = || vec![(words("approve --all --yes"), String::new())];
    let ran = at_once(&fleet, vec![("bob", approve()), ("bob", approve()), ("alice", approve()), ("alice", approve())]);
    for one in ran.iter().flatten() {
        assert!(matches!(one.code(), 0 | 4 | 6), "{}: exit {}\n{}", one.line, one.code(), one.stderr());
    }
    fleet.keys("alice", &["sync"]);
    sound(&fleet);
    let about = |act: &str| {
        let shown = fleet.keys("alice", &["log", "show"]).ok();
        shown.lines().filter(|l| l.contains(act)).count()
    };
    assert!(log_size(&fleet) > before);
    assert_eq!(about("key.activate"), 1, "{}", fleet.keys("alice", &["log", "show"]).stdout());
}

fn held(fleet: &TestFleet<'_>) -> Box<dyn Send> {
    let keyring = RealFiles::open(&fleet.keyring(""), Access::Public).unwrap();
    Disk::new(keyring).try_lock().unwrap().expect("nobody else has the lock")
}

fn a_writer_waits_for_another_one(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let lock = held(&fleet);
    let before = log_size(&fleet);
    let mut command = sandbox.command();
    command.args(["--fleet", "fleet", "--home", "alice", "rotate", "alice", "--yes"]);
    let mut child = Running::start(command.stderr(Stdio::piped()).stdout(Stdio::null()));
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("waiting for another keys command"), "{said}");
    assert!(child.try_wait().unwrap().is_none() && log_size(&fleet) == before, "it waits");
    drop(lock);
    assert!(child.wait().unwrap().success());
    assert!(log_size(&fleet) > before);
    sound(&fleet);
}

fn a_writer_that_waited_too_long_says_so(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let before = log_size(&fleet);
    let _lock = held(&fleet);
    let ran = fleet.keys("alice", &["rotate", "alice", "--yes"]);
    ran.refuses(6, "another keys command has been writing to fleet/keyring for 10 s");
    assert!(ran.stderr().contains("nothing was changed"), "{}", ran.stderr());
    // Questions need no lock.
    assert_eq!(log_size(&fleet), before);
    sound(&fleet);
}
