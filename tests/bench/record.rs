//! The record at its full size: a log of a million entries is made once and kept, then appended anew, hashed, audited and
//! proved from, each by a process of its own, beside the raw signature checks and beside git.
//!
//! The log is that of a fleet of ten PoPs with 2 000 secrets that get new values all year, an entry every 20 seconds; each
//! entry has one OpenPGP signature by an operator. Earlier values of secrets are kept by no keyring, so that the made log
//! and a grown one have the same files.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Fleet, Known};
use keys::limits::COMMIT_ENTRIES_MAX;
use keys::log::note::{SignatureLine, SignerKey};
use keys::name::Slot;
use keys::openpgp::{Fingerprint, sign_statement};
use keys::ops;
use keys::state::Replay;
use keys::statement::{Act, Entry, Seal, Signed, Statement, key_hash, principal};
use keys::store::{Growing, Head, LogReader, Store, Target, append, prove, read_checkpoint};
use keys::time::{Span, Time};
use rustix::time::{ClockId, clock_gettime};
use sequoia_openpgp as pgp;
use stage::{NOW, Stage, member};

use pgp::packet::Packet;
use pgp::parse::Parse as _;
use rand::SeedableRng as _;

/// Secrets that get new values in turn.
const SECRETS: u64 = 2_000;
/// Seconds from an entry to the next.
const PACE: u64 = 20;
/// Commits that git verifies.
const COMMITS: usize = 2_000;
/// Proofs that are made.
const PROOFS: u64 = 2_000;

/// Makes the log if it is not there, measures, and prints.
pub fn measure(entries: u64) {
    let directory = PathBuf::from(format!("../../target/record-{entries}"));
    if !directory.join("keyring/log/checkpoint").exists() {
        make(&directory, entries);
    }
    let keyring = directory.join("keyring");
    let (append, hashes) = (once("record-append", &keyring), once("record-hashes", &keyring));
    let tiles = once("record-tiles", &keyring);
    let (raw, audit) = (once("record-raw", &keyring), once("record-audit", &keyring));
    let proofs = once("record-proofs", &keyring);
    println!("{:<44} {:>9} {:>9} {:>9}", format!("a log of {entries} entries"), "cpu", "wall", "memory");
    for (what, took) in [
        ("append all, in commits of 512", &append),
        ("of that: tiles and bundles, in one go", &tiles),
        ("hash all entries to the signed root", &hashes),
        ("raw signature checks, one core", &raw),
        ("verify everything (keys log verify)", &audit),
    ] {
        let seconds = |d: Duration| format!("{:.2} s", d.as_secs_f64());
        println!("{what:<44} {:>9} {:>9} {:>6} MB", seconds(took.cpu), seconds(took.wall), took.peak >> 20);
    }
    println!("{:<44} {:>9.2}", "verify / raw, cpu", audit.cpu.as_secs_f64() / raw.cpu.as_secs_f64());
    println!("{:<44} {:>9.2}", "verify / raw, wall", audit.wall.as_secs_f64() / raw.wall.as_secs_f64());
    println!("{:<44} {:>6} us", "an inclusion proof, from disk", proofs.wall.as_micros() / u128::from(PROOFS));
    let each = audit.wall.as_secs_f64() * 1e6 / entries as f64;
    match git() {
        Some(git) => {
            let git = git.as_secs_f64() * 1e6 / COMMITS as f64;
            println!("{:<44} {git:>6.0} us", format!("git log --show-signature, of {COMMITS}, a commit"));
            println!("{:<44} {:>9.0}", format!("git / keys log verify ({each:.1} us an entry), wall"), git / each);
        }
        None => println!("git or gpg is not installed: skipped"),
    }
}

/// One of the parts that run in a process of their own.
pub fn part(name: &str, keyring: &Path) {
    match name {
        "record-append" => append_again(keyring),
        "record-tiles" => tiles(keyring),
        "record-hashes" => hash(keyring),
        "record-raw" => raw(keyring),
        "record-audit" => audit(keyring),
        "record-proofs" => proofs(keyring),
        _ => panic!("there is no {name}"),
    }
}

/// What a part took.
struct Took {
    cpu: Duration,
    wall: Duration,
    /// The most memory that was resident, bytes.
    peak: u64,
}

/// Runs a part of this program, and reads what it prints.
fn once(part: &str, keyring: &Path) -> Took {
    let myself = std::env::current_exe().expect("this program");
    let output = Command::new(myself).arg(part).arg(keyring).stderr(Stdio::inherit()).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut numbers = text.split_whitespace().map(|n| n.parse::<u64>().expect("a number"));
    let mut next = || numbers.next().unwrap_or_else(|| panic!("{part} says {text:?}"));
    Took { cpu: Duration::from_micros(next()), wall: Duration::from_micros(next()), peak: next() * 1024 }
}

/// Does the work, and prints processor time of all threads, wall-clock time, and the peak of memory.
fn timed<T>(work: impl FnOnce() -> T) -> T {
    let cpu = || {
        let now = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
    };
    let (before, began) = (cpu(), Instant::now());
    let result = work();
    let (cpu, wall) = (cpu() - before, began.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a peak");
    println!("{} {} {}", cpu.as_micros(), wall.as_micros(), peak.trim().trim_end_matches(" kB"));
    result
}

fn open(keyring: &Path) -> Store {
    Store::new(Disk::new(RealFiles::open(keyring, Access::Public).expect("a keyring")))
}

fn entries(store: &Store) -> Vec<Vec<u8>> {
    let (_, checkpoint) = read_checkpoint(store).expect("a checkpoint");
    let mut reader = LogReader::new(store, checkpoint.size);
    let mut all = Vec::new();
    while let Some((_, entries)) = reader.next_bundle().expect("a bundle") {
        all.extend(entries);
    }
    all
}

pub(crate) fn append_all(store: &Store, mut head: Option<Head>, origin: &str, entries: Vec<Vec<u8>>, key: &SignerKey) {
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let some = entries.by_ref().take(COMMIT_ENTRIES_MAX).collect();
        head = Some(append(store, head.as_ref(), origin, some, key, Target::Published).expect("appended").head);
    }
}

fn append_again(keyring: &Path) {
    let all = entries(&open(keyring));
    let directory = tempfile::tempdir_in("../../target").expect("a temporary directory");
    let disk = Disk::new(RealFiles::create(&directory.path().join("keyring"), Access::Public).expect("a disk"));
    let store = Store::new(disk);
    let origin = read_checkpoint(&open(keyring)).expect("a checkpoint").1.origin;
    let key = SignerKey::generate(&origin, &mut rand::rngs::StdRng::from_seed([7; 32]));
    timed(|| append_all(&store, None, &origin, all, &key));
}

/// What a log has without commits: bundles and tiles, each durable and read back.
fn tiles(keyring: &Path) {
    let all = entries(&open(keyring));
    let directory = tempfile::tempdir_in("../../target").expect("a temporary directory");
    let store =
        Store::new(Disk::new(RealFiles::create(&directory.path().join("keyring"), Access::Public).expect("a disk")));
    timed(|| {
        let mut growing = Growing::default();
        all.into_iter().for_each(|entry| growing.push(&store, entry).expect("pushed"));
        growing.finish(&store).expect("written");
    });
}

fn hash(keyring: &Path) {
    let store = open(keyring);
    timed(|| {
        let (_, checkpoint) = read_checkpoint(&store).expect("a checkpoint");
        let mut reader = LogReader::new(&store, checkpoint.size);
        while reader.next_bundle().expect("a bundle").is_some() {}
        assert_eq!(reader.edge().root(), checkpoint.root);
    });
}

/// The signatures alone: each packet parsed and verified by sequoia with the right key at hand, one after the other.
fn raw(keyring: &Path) {
    let entries = entries(&open(keyring));
    let genesis = Entry::parse(&entries[0]).expect("an entry");
    // From the founding alone: what sequoia has verified in this process it would not verify again.
    let mut replay = Replay::new(genesis.signed.statement.log, open(keyring));
    replay.apply(&entries[0]).expect("a founding");
    let certificate = replay.current_certificate(&member("alice")).expect("alice's");
    let state = replay.state().expect("a fleet");
    let issuer = &state.members[&member("alice")].active(Slot::Sign).expect("a signing key").key;
    let key = certificate.key(&Fingerprint::from_hex(issuer).expect("a fingerprint")).expect("her key").clone();
    let own = principal(&state.fleet, &member("alice"));
    let work: Vec<(Vec<u8>, Vec<u8>)> = entries[1..]
        .iter()
        .filter_map(|entry| {
            let entry = Entry::parse(entry).expect("an entry");
            let line = entry.signatures.into_iter().find(|line| line.name == own)?;
            Some((line.signature, entry.signed.body))
        })
        .collect();
    drop(entries);
    timed(|| {
        for (packet, body) in &work {
            let Ok(Packet::Signature(signature)) = Packet::from_bytes(packet) else { panic!("a signature") };
            signature.verify_message(&key, body).expect("it verifies");
        }
    });
}

/// All that `keys log verify` does.
fn audit(keyring: &Path) {
    let store = open(keyring);
    let (report, fleet) =
        timed(|| Fleet::verify(&store, &Known::default(), far(), &mut |_, _| {})).expect("something to verify");
    assert!(report.is_sound(), "{:?}", report.problems.first());
    assert!(fleet.expect("a fleet").void().is_empty());
}

/// Proofs of entries all over the log, each made and checked as `keys log prove` does.
fn proofs(keyring: &Path) {
    let store = open(keyring);
    let (note, checkpoint) = read_checkpoint(&store).expect("a checkpoint");
    let index = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % checkpoint.size;
    timed(|| {
        for n in 0..PROOFS {
            prove(&store, &note, &checkpoint, index(n)).expect("a proof");
        }
    });
}

/// After everything in the log.
fn far() -> Time {
    NOW.plus(Span::days(3_000))
}

/// Makes the log and keeps its keyring.
fn make(directory: &Path, count: u64) {
    eprintln!("making a log of {count} entries in {}; once, it is kept", directory.display());
    let stage = Stage::with_pops(10);
    stage.fill(usize::try_from(SECRETS.min(count / 2)).expect("a number"));
    let bodies = bodies(&stage, count, PACE);
    let (store, origin) = (stage.store.clone(), bodies[0].statement.log.clone());
    let signed = signed(&stage, &bodies);
    let fleet = stage.open();
    let key = ops::sequencer(&stage.homes["alice"], &fleet).expect("alice's home").expect("the log's key");
    append_all(&store, fleet.head().cloned(), &origin, signed, &key);
    drop(fleet);
    std::fs::create_dir_all(directory).expect("a directory");
    let kept = stage.keep().join("keyring");
    let copied = Command::new("cp").arg("-r").arg(&kept).arg(directory).status().expect("cp");
    assert!(copied.success(), "{} is copied", kept.display());
}

/// Statements that give the secrets new values in turn, one every `pace` seconds, until the log has `count` entries.
pub(crate) fn bodies(stage: &Stage, count: u64, pace: u64) -> Vec<Signed> {
    let fleet = stage.open();
    let state = fleet.state();
    let mut secrets: BTreeMap<_, _> = state.secrets.clone();
    let addresses: Vec<_> = secrets.keys().cloned().collect();
    let mut at = stage.now;
    let next = |address| {
        let secret = std::sync::Arc::make_mut(secrets.get_mut(address).expect("sealed"));
        let live = secret.live.as_ref().expect("sealed");
        let change = Seal {
            address: Clone::clone(address),
            author: live.author_key.clone(),
            body: live.body,
            file: live.file,
            generation: secret.generation + 1,
            parts: Vec::new(),
            prev: Some(secret.prev),
            recipients: live.recipients,
            shape: None,
            version: secret.version + 1,
        };
        at = at.plus(Span(pace));
        let statement = Statement {
            act: Act::Seal(vec![change]),
            at,
            by: member("alice"),
            expires: at.plus(Span::days(7)),
            log: fleet.log().to_owned(),
            policy: state.policy.version,
            reason: "renewed".to_owned(),
        };
        let signed = Signed::of(statement).expect("a statement");
        (secret.generation, secret.version, secret.prev) = (secret.generation + 1, secret.version + 1, signed.id);
        signed
    };
    addresses.iter().cycle().take(usize::try_from(count - state.size).expect("a size")).map(next).collect()
}

/// The entries, signed on two threads.
pub(crate) fn signed(stage: &Stage, bodies: &[Signed]) -> Vec<Vec<u8>> {
    let half = bodies.len().div_ceil(2);
    std::thread::scope(|scope| {
        let parts: Vec<_> = bodies.chunks(half).map(|part| scope.spawn(|| sign_all(stage, part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("a thread")).collect()
    })
}

fn sign_all(stage: &Stage, bodies: &[Signed]) -> Vec<Vec<u8>> {
    let fleet = stage.open();
    let (alice, state) = (member("alice"), fleet.state());
    let issuer = &state.members[&alice].active(Slot::Sign).expect("a signing key").key;
    let fingerprint = Fingerprint::from_hex(issuer).expect("a fingerprint");
    let mut pair = stage.homes["alice"].key_pair(&alice, &fingerprint).expect("a home").expect("its key");
    let name = principal(&state.fleet, &alice);
    let entry = |signed: &Signed| {
        let at = signed.statement.at;
        let signature = sign_statement(&mut pair, &state.fleet, &state.log, &signed.body, at).expect("signed");
        let line = SignatureLine { key_hash: key_hash(&name, &fingerprint), name: name.clone(), signature };
        Entry { signed: signed.clone(), signatures: vec![line] }.to_bytes().expect("an entry")
    };
    bodies.iter().map(entry).collect()
}

/// How long git takes to show and verify signed commits, as a bystander's measure; none without git or gpg.
fn git() -> Option<Duration> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (home, tree) = (directory.path().join("gnupg"), directory.path().join("tree"));
    std::fs::create_dir_all(&tree).expect("a directory");
    std::fs::DirBuilder::new().mode(0o700).create(&home).expect("a directory");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&tree).env("GNUPGHOME", &home).env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.output().ok().filter(|output| output.status.success())
    };
    let user = "Alice <alice@ops.example>";
    let unattended = ["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
    let key = ["--quick-gen-key", user, "ed25519", "cert,sign", "never"];
    run("gpg", &[unattended.as_slice(), key.as_slice()].concat())?;
    run("git", &["init", "--quiet"])?;
    for (name, value) in
        [("user.name", "Alice"), ("user.email", "alice@ops.example"), ("user.signingKey", "alice@ops.example")]
    {
        run("git", &["config", name, value])?;
    }
    for n in 0..COMMITS {
        run("git", &["commit", "--quiet", "--allow-empty", "--gpg-sign", "--message", &n.to_string()])?;
    }
    let began = Instant::now();
    let shown = run("git", &["log", "--show-signature", "--format=%G?"])?;
    let took = began.elapsed();
    let good = String::from_utf8_lossy(&shown.stdout).lines().filter(|line| *line == "U" || *line == "G").count();
    assert_eq!(good, COMMITS, "every commit verifies");
    let _ = run("gpgconf", &["--kill", "all"]);
    Some(took)
}
