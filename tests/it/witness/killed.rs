//! Cosigners and publishers that die at any moment, and pasts that a cosigner is shown.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use keys::log::cosign::CosignerSecret;
use keys::log::evidence::{Case, Evidence};
use keys::log::note::VerifierKey;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{Cosigner, ForeignLog, watching};
use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, files_below, tests};

tests!["witness::killed":
    a_witness_that_is_killed_never_goes_back,
    a_witness_ends_when_it_is_told_to,
    a_publication_that_is_killed_is_finished_by_the_next,
    a_witness_keeps_another_past_of_its_size,
    a_witness_by_file_keeps_a_rollback_and_a_fork,
    who_was_overtaken_judges_what_is_published_by_its_own_policy,
];

/// The size of what a monitor gets; 0 if nothing was cosigned.
fn stored(served: &super::Served, log: &ForeignLog) -> u64 {
    let (status, _, note) = served.get(&format!("/{}/checkpoint", keys::digest::Digest::of(log.origin.as_bytes())));
    if status == 404 { 0 } else { note.lines().nth(1).unwrap().parse().unwrap() }
}

fn temporaries(sandbox: &Sandbox) -> usize {
    files_below(&sandbox.path("w1")).iter().filter(|p| p.to_string_lossy().contains("/.tmp-")).count()
}

/// The status of an answer; none if nobody gives one any more.
fn status(address: &str, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!("POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

/// Killed while somebody posts head after head: what was acknowledged is there afterwards.
fn a_witness_that_is_killed_never_goes_back(sandbox: &Sandbox) {
    let mut log = ForeignLog::new(1);
    log.grow(&["first"]);
    let witness = watching(sandbox, &log);
    let (mut acknowledged, mut during) = (0, 0);
    for round in 0..25u64 {
        let mut served = witness.serve();
        let there = stored(&served, &log);
        assert!(there >= acknowledged, "round {round}: {there} stored, {acknowledged} acknowledged");
        assert_eq!(temporaries(sandbox), 0, "the next one tidies up");
        acknowledged = there;
        let pid = served.child.id().to_string();
        let (answered, awaited) = std::sync::mpsc::channel();
        let killer = std::thread::spawn(move || {
            // None, one or two answers later, and then at any moment of the next request.
            (0..round % 3).for_each(|_| awaited.recv_timeout(Duration::from_secs(60)).unwrap());
            std::thread::sleep(Duration::from_micros(round * 400));
            Command::new("/bin/kill").args(["-KILL", &pid]).status().unwrap();
        });
        loop {
            match status(&served.address, &log.request(acknowledged)) {
                Some(200) => {
                    acknowledged = log.size();
                    log.grow(&["more"]);
                    during += 1;
                    let _ = answered.send(());
                }
                Some(other) => panic!("{other}"),
                None => break,
            }
        }
        killer.join().unwrap();
        assert_eq!(served.child.wait().unwrap().signal(), Some(9));
    }
    assert!(during >= 24 && acknowledged >= 24, "{during} were cosigned meanwhile");
    let served = witness.serve();
    assert!(stored(&served, &log) >= acknowledged && temporaries(sandbox) == 0);
}

fn a_witness_ends_when_it_is_told_to(sandbox: &Sandbox) {
    let mut log = ForeignLog::new(1);
    log.grow(&["a", "b"]);
    let witness = watching(sandbox, &log);
    let mut served = witness.serve();
    assert_eq!(served.post(&log.request(0)).0, 200);
    // Also while somebody has sent half a request.
    let mut slow = TcpStream::connect(&served.address).unwrap();
    slow.write_all(b"POST /add-checkpoint HTTP/1.1\r\n").unwrap();
    let start = Instant::now();
    assert!(Command::new("/bin/kill").args(["-TERM", &served.child.id().to_string()]).status().unwrap().success());
    served.child.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(60), "it waits for the slow one: {:?}", start.elapsed());
    assert_eq!((stored(&witness.serve(), &log), temporaries(sandbox)), (2, 0));
}

fn a_publication_that_is_killed_is_finished_by_the_next(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let table = format!("\n[[cosigner]]\nvkey = \"{}\"\nkind = \"witness\"\n", witness.vkey);
    std::fs::write(&path, [text, table, "[publish]\nneed = { witness = 1 }\n".to_owned()].concat()).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    witness.watch();
    let (mut killed, mut waited) = (0, 0);
    let mut after = Duration::from_millis(2);
    while waited < 2 {
        fleet.seal("fra1/one", &format!("value {killed}"));
        sandbox.keys(&["--home", "w1", "--fleet", "fleet", "log", "witness", "sign"]).ok();
        let mut child = sandbox.start(&["--fleet", "fleet", "--home", "alice", "log", "publish"]);
        std::thread::sleep(after);
        let _ = child.kill();
        let is_killed = child.wait().unwrap().signal() == Some(9);
        killed += usize::from(is_killed);
        waited += usize::from(!is_killed);
        // However slow the machine is today, this comes to the command's end within some dozens of runs.
        after = after.mul_f64(1.15) + Duration::from_millis(1);
        // Whatever it was doing: the log is sound for anybody, and the next one finishes.
        fleet.keys("nobody", &["log", "verify"]).ok();
        fleet.keys("alice", &["log", "publish"]).ok();
        let verified = fleet.keys("nobody", &["log", "verify"]).ok();
        assert!(!verified.contains("note:"), "{verified}");
        assert!(!fleet.keyring("log/head").exists());
        assert!(after < Duration::from_secs(120), "it never comes to an end");
    }
    assert!(killed >= 3, "{killed} were killed");
}

fn kept(sandbox: &Sandbox) -> Vec<Evidence> {
    let directory = sandbox.path("w1/evidence");
    let files = if directory.exists() { files_below(&directory) } else { Vec::new() };
    files.iter().map(|p| Evidence::parse(&std::fs::read(p).unwrap()).unwrap()).collect()
}

fn a_witness_keeps_another_past_of_its_size(sandbox: &Sandbox) {
    let (mut log, mut other) = (ForeignLog::new(1), ForeignLog::new(1));
    log.grow(&["a", "b", "c"]);
    other.grow(&["a", "b", "x"]);
    let witness = watching(sandbox, &log);
    let served = witness.serve();
    assert_eq!(served.post(&log.request(0)).0, 200);
    for _ in 0..2 {
        assert_eq!(served.post(&other.request(3)).0, 422);
    }
    // Not signed by the log's key, it shows nothing and is not kept.
    let mut stranger = ForeignLog::new(2);
    stranger.grow(&["a", "b", "y"]);
    assert_eq!(served.post(&stranger.request(3)).0, 403);
    let found = kept(sandbox);
    assert_eq!(found.iter().map(|e| e.case).collect::<Vec<_>>(), [Case::Fork], "once, however often it is shown");
    let findings = found[0].check(&[VerifierKey::parse(&log.vkey).unwrap()]).unwrap();
    assert_eq!(findings.proven[0], "the log's key has signed two pasts: of 3 entries, and of 3");
}

fn a_witness_by_file_keeps_a_rollback_and_a_fork(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    witness.watch();
    let sign = || sandbox.keys(&["--home", "w1", "--fleet", "fleet", "log", "witness", "sign"]);
    let vkey = fleet.keys("alice", &["log", "vkey"]).ok().lines().next().unwrap().to_owned();
    sandbox.copy("fleet", "old");
    sandbox.copy("alice", "alice-then");
    fleet.seal("fra1/one", "first");
    sign().ok();
    sandbox.copy("old", "fleet");
    sign().refuses(3, "ROLLBACK");
    for value in ["other", "more"] {
        fleet.keys_with("alice-then", &["seal", "fra1/one"], value.as_bytes()).ok();
        sign().refuses(3, "FORK");
    }
    let found = kept(sandbox);
    let mut cases: Vec<Case> = found.iter().map(|e| e.case).collect();
    cases.sort();
    assert_eq!(cases, [Case::Fork, Case::Fork, Case::Rollback]);
    for evidence in &found {
        evidence.check(&[VerifierKey::parse(&vkey).unwrap()]).unwrap();
    }
    assert!(found.iter().any(|e| e.proof.is_some()), "one of the pasts is longer");
}

/// A writer loses its place to a policy that wants more cosigners. What was published under the policy before is published.
fn who_was_overtaken_judges_what_is_published_by_its_own_policy(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    let secret = |n: u8| CosignerSecret::generate(&format!("w{n}"), &mut StdRng::from_seed([n; 32]));
    let table = |n: u8| format!("\n[[cosigner]]\nvkey = \"{}\"\nkind = \"witness\"\n", secret(n).verifier());
    let tables = [table(1), table(2), "[publish]\nneed = { witness = 1 }\n".to_owned()].concat();
    stage.carry(|fleet, _| Stage::policy(fleet, "fleet.toml", |text| text + &tables));
    let mut fleet = stage.prepared("alice");
    let line = secret(1).cosign(&fleet.head().unwrap().note.text, stage.now);
    assert!(fleet.publish_cosigned(&[line]).unwrap());
    fleet.done();
    let mut overtaken = stage.prepared("alice");
    let two = "need = { witness = 2 }";
    stage.carry(|fleet, _| Stage::policy(fleet, "fleet.toml", |text| text.replace("need = { witness = 1 }", two)));
    let home = stage.homes[&member("alice")].clone();
    let drafts = Stage::rotation(&overtaken, "alice", keys::name::Slot::Openpgp);
    let size = overtaken.head().unwrap().checkpoint.size;
    let refused = keys::ops::carry_out(&home, &mut overtaken, drafts, None);
    assert!(refused.is_err() && overtaken.head().unwrap().checkpoint.size == size + 1, "{refused:?}");
    let published = overtaken.published().unwrap();
    assert_eq!((published.checkpoint.size, published.lacks()), (size, None));
    assert_eq!(overtaken.waiting(), 1);
}
