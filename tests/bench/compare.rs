//! Measures `keys` beside the raw cryptographic limit and beside gpg, in one run and in turns, and prints the ratios.
//!
//! ```text
//! compare [--runs N] [--entries N] [--pops N]
//! compare make N               makes a keyring of N entries, to be kept, and prints where it is
//! compare verify-once KEYRING  replays it once and prints the microseconds of processor time
//! compare reseal [N]           N secrets (10 000), one PoP leaves; see reseal.rs
//! compare secrets [N [M]]      N secrets (1 000) beside gpg, pass, age and sops with M (100) of them; see secrets.rs
//! compare psk [N]              preshared keys of one node of N (1 000); see psk.rs
//! compare ssh [N]              N SSH certificates (10 000) beside ssh-keygen; see ssh.rs
//! compare bucket-make DIR ENTRIES SECRETS POPS   the fleet of tests/bench/bucket; see bucket.rs
//! compare record [N]           a log of N entries (1 000 000): append, hashes, audit, proofs, git; see record.rs
//! ```
//! Every figure is the median of N runs. Ours and the other take turns within a run, so that a machine that slows down
//! slows both. In-process figures are processor time of this thread; gpg's are wall-clock time and contain its start.
//! Sequoia remembers signatures that it has verified in this process, so what is verified twice is made anew first, or
//! verified in a process of its own.
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads its clock and arguments, and runs what it is compared with"
)]

mod bucket;
mod mesh;
mod psk;
mod record;
mod reseal;
mod secrets;
mod ssh;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keys::fleet::{Fleet, Known};
use keys::name::Slot;
use keys::openpgp::{Envelope, Fingerprint, Profile, open, seal};
use keys::ops::{self, Selection};
use keys::statement::Entry;
use keys::time::{Span, Time};
use rustix::time::{ClockId, clock_gettime};
use sequoia_openpgp as pgp;
use stage::{NOW, Stage, address, member};

use pgp::crypto::{KeyPair, SessionKey};
use pgp::packet::key::{Key4, PublicParts, SecretParts, UnspecifiedRole};
use pgp::packet::pkesk::PKESK3;
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::{Key, Packet, Signature};
use pgp::parse::Parse as _;
use pgp::serialize::MarshalInto as _;
use pgp::serialize::stream::{Encryptor, LiteralWriter, Message, Recipient, Signer};
use pgp::types::{Curve, Features, HashAlgorithm, SignatureType, SymmetricAlgorithm};

type PublicKey = Key<PublicParts, UnspecifiedRole>;
type SecretKey = Key<SecretParts, UnspecifiedRole>;

/// The reading keys of an ordinary secret: a service's two and three recovery readers.
const READERS: usize = 5;

struct Options {
    runs: usize,
    entries: u64,
    pops: usize,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("verify-once") {
        return verify_once(Path::new(&arguments.next().expect("a keyring")));
    }
    if first.as_deref() == Some("mesh") {
        return mesh::measure(arguments.next().as_deref());
    }
    if first.as_deref() == Some("mesh-one") {
        return mesh::one(arguments.next().and_then(|n| n.parse().ok()).expect("a number of nodes"));
    }
    if first.as_deref() == Some("reseal") {
        return reseal::measure(arguments.next().map_or(10_000, |n| n.parse().expect("a number of secrets")));
    }
    if first.as_deref() == Some("psk") {
        return psk::measure(arguments.next().map_or(1_000, |n| n.parse().expect("a number of nodes")));
    }
    if first.as_deref() == Some("ssh") {
        return ssh::measure(arguments.next().map_or(10_000, |n| n.parse().expect("a number of certificates")));
    }
    if first.as_deref() == Some("bucket-make") {
        let directory = arguments.next().expect("a directory");
        let mut number = || arguments.next().expect("a number").parse::<usize>().expect("a number");
        let (entries, secrets, pops) = (number(), number(), number());
        return bucket::make(Path::new(&directory), entries as u64, secrets, pops);
    }
    if first.as_deref() == Some("record") {
        return record::measure(arguments.next().map_or(1_000_000, |n| n.parse().expect("a number of entries")));
    }
    if first.as_deref() == Some("secrets") {
        let mut number = |usual| arguments.next().map_or(usual, |n| n.parse().expect("a number of secrets"));
        return secrets::measure(number(1000), number(100));
    }
    if let Some(part) = first.as_deref().filter(|word| word.starts_with("record-")) {
        return record::part(part, Path::new(&arguments.next().expect("a keyring")));
    }
    if first.as_deref() == Some("make") {
        let mut stage = Stage::with_pops(10);
        stage.grow(arguments.next().and_then(|n| n.parse().ok()).expect("a number of entries"));
        return println!("{}", stage.keep().join("keyring").display());
    }
    let mut options = Options { runs: 5, entries: 500, pops: 50 };
    let mut word = first;
    while let Some(name) = word {
        let value: u64 =
            arguments.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{name} needs a number"));
        match name.as_str() {
            "--runs" => options.runs = value.max(1) as usize,
            "--entries" => options.entries = value,
            "--pops" => options.pops = value as usize,
            _ => panic!("there is --runs, --entries and --pops, not {name}"),
        }
        word = arguments.next();
    }
    println!("{:<44} {:>12} {:>12} {:>8}", "what", "ours", "other", "ratio");
    messages(&options);
    rotation(&options);
    verification(&options);
}

/// One line of the table.
fn line(what: &str, ours: Duration, other: Duration) {
    let show = |d: Duration| match d.as_micros() {
        0..10_000 => format!("{} us", d.as_micros()),
        _ => format!("{} ms", d.as_millis()),
    };
    let ratio = ours.as_secs_f64() / other.as_secs_f64();
    println!("{what:<44} {:>12} {:>12} {ratio:>8.2}", show(ours), show(other));
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Of all threads of this process.
fn processor_time_of_all() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// What wrapping so many session keys takes, from a hundred.
fn raw_wraps_of(count: usize) -> Duration {
    let key = reading_key().parts_into_public();
    let session_key = SessionKey::from([7_u8; 32].as_slice());
    let each = timed(100, || PKESK3::for_recipient(SymmetricAlgorithm::AES256, &session_key, &key).expect("a wrap"));
    each * u32::try_from(count).unwrap_or(u32::MAX)
}

/// Processor time of one call, out of `times` calls.
fn timed<T>(times: u32, mut work: impl FnMut() -> T) -> Duration {
    let began = processor_time();
    for _ in 0..times {
        std::hint::black_box(work());
    }
    (processor_time() - began) / times
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// Medians of two things that take turns.
fn in_turns(
    runs: usize,
    mut ours: impl FnMut() -> Duration,
    mut other: impl FnMut() -> Duration,
) -> (Duration, Duration) {
    let pairs: Vec<_> = (0..runs).map(|_| (ours(), other())).collect();
    (median(pairs.iter().map(|p| p.0).collect()), median(pairs.iter().map(|p| p.1).collect()))
}

fn signing_key() -> SecretKey {
    made(Key4::generate_ecc(true, Curve::Ed25519))
}

fn reading_key() -> SecretKey {
    made(Key4::generate_ecc(false, Curve::Cv25519))
}

/// The key, older than anything that is signed here.
fn made(key: pgp::Result<Key4<SecretParts, UnspecifiedRole>>) -> SecretKey {
    let mut key = key.expect("a key");
    key.set_creation_time(Time(NOW.0 - 1).to_system()).expect("a time in range");
    key.into()
}

fn pair(key: &SecretKey) -> KeyPair {
    key.clone().into_keypair().expect("not encrypted")
}

/// Sealing and opening.
fn messages(options: &Options) {
    let author = signing_key();
    let readers: Vec<SecretKey> = (0..READERS).map(|_| reading_key()).collect();
    let public: Vec<PublicKey> = readers.iter().map(|k| k.clone().parts_into_public()).collect();
    let recipients: Vec<&PublicKey> = public.iter().collect();
    let value = [7; 100];
    let envelope = Envelope {
        fleet: "cdn.example".parse().expect("a name"),
        origin: "cdn.example/keys/1".into(),
        address: "nginx@fra1/tls.key".into(),
        version: 1,
        readers: keys::digest::Digest::of(b"readers"),
    };
    let ours = || seal(&value, &envelope, &recipients, pair(&author), Profile::Compat, NOW).expect("sealed");
    let (a, b) = in_turns(options.runs, || timed(200, ours), || timed(200, || raw_seal(&value, &recipients, &author)));
    line("seal to 5 keys / sequoia, sign and encrypt", a, b);
    let (a, b) = in_turns(options.runs, || timed(200, ours), || timed(200, || raw_wraps(&recipients, &author)));
    line("seal to 5 keys / 5 wraps and a signature", a, b);

    let author_key: PublicKey = author.clone().parts_into_public();
    let own = || -> (Fingerprint, Box<dyn pgp::crypto::Decryptor>) {
        (readers[0].fingerprint(), Box::new(pair(&readers[0])))
    };
    let sealed: Vec<Vec<u8>> = (0..200).map(|_| ours()).collect();
    let open_all = || {
        let sealed: Vec<Vec<u8>> = (0..200).map(|_| ours()).collect();
        let mut next = sealed.iter().cycle();
        timed(200, || open(next.next().expect("one"), &envelope, &mut [own()], &author_key).expect("opened"))
    };
    let (a, b) = in_turns(options.runs, open_all, || raw_open(&sealed[0], &readers[0], &author));
    line("open / one unwrap and one verification", a, b);
    with_gpg(options, &author, &readers, &envelope, &value);
}

/// What an application would write that uses sequoia alone: the same bytes, signed, to the same keys.
fn raw_seal(value: &[u8], recipients: &[&PublicKey], author: &SecretKey) -> Vec<u8> {
    let mut out = Vec::new();
    let to = recipients
        .iter()
        .map(|key| Recipient::new(Features::empty().set_seipdv1(), pgp::KeyHandle::from(key.keyid()), *key));
    let message = Encryptor::for_recipients(Message::new(&mut out), to)
        .symmetric_algo(SymmetricAlgorithm::AES256)
        .build()
        .expect("an encryptor");
    let message = Signer::new(message, pair(author)).and_then(Signer::build).expect("a signer");
    let mut literal = LiteralWriter::new(message).build().expect("a writer");
    literal.write_all(value).expect("memory");
    literal.finalize().expect("an end");
    out
}

/// The public-key operations alone.
fn raw_wraps(recipients: &[&PublicKey], author: &SecretKey) -> usize {
    let session_key = SessionKey::from([7_u8; 32].as_slice());
    let wraps = recipients.iter().map(|key| {
        PKESK3::for_recipient(SymmetricAlgorithm::AES256, &session_key, key).expect("a wrap").serialized_len()
    });
    wraps.sum::<usize>() + raw_sign(author, b"a message").serialized_len()
}

fn raw_sign(author: &SecretKey, body: &[u8]) -> Signature {
    SignatureBuilder::new(SignatureType::Binary)
        .set_hash_algo(HashAlgorithm::SHA512)
        .sign_message(&mut pair(author), body)
        .expect("a signature")
}

fn raw_open(sealed: &[u8], reader: &SecretKey, author: &SecretKey) -> Duration {
    let packets = keys::openpgp::Sealed::parse(sealed).expect("a message");
    let Ok(Packet::PKESK(pkesk)) = Packet::from_bytes(packets.recipients[0].1) else { panic!("a PKESK") };
    let mut pair = pair(reader);
    let unwrap = timed(200, || pkesk.decrypt(&mut pair, None).expect("ours"));
    unwrap + raw_verify(author, 200)
}

/// One verification by sequoia of a signature that it has not seen before.
fn raw_verify(author: &SecretKey, count: u32) -> Duration {
    let public: PublicKey = author.clone().parts_into_public();
    let body = [7; 400];
    let signatures: Vec<Vec<u8>> =
        (0..count).map(|_| Packet::from(raw_sign(author, &body)).to_vec().expect("a packet")).collect();
    let mut next = signatures.iter();
    timed(count, || {
        let Ok(Packet::Signature(signature)) = Packet::from_bytes(next.next().expect("one")) else {
            panic!("a signature")
        };
        signature.verify_message(&public, body).expect("it verifies");
    })
}

/// The same through gpg, with the same keys in a home of its own; skipped where there is none.
fn with_gpg(options: &Options, author: &SecretKey, readers: &[SecretKey], envelope: &Envelope, value: &[u8]) {
    if Command::new("gpg").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("gpg is not installed: skipped");
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let gpg = |arguments: &[&str], input: &[u8]| {
        let mut child = Command::new("gpg")
            .args([
                "--batch",
                "--quiet",
                "--no-tty",
                "--trust-model",
                "always",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
            ])
            .args(arguments)
            .env("GNUPGHOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("gpg starts");
        child.stdin.take().expect("a pipe").write_all(input).expect("gpg reads");
        let output = child.wait_with_output().expect("gpg ends");
        assert!(output.status.success(), "gpg {arguments:?}");
        output.stdout
    };
    let mut names = Vec::new();
    for i in 0..READERS {
        let name = format!("reader{i}@cdn.example");
        gpg(&["--quick-gen-key", &name, "ed25519", "cert,sign", "never"], b"");
        let listed = String::from_utf8(gpg(&["--with-colons", "--list-keys", &name], b"")).expect("text");
        let fingerprint = listed
            .lines()
            .find_map(|l| l.strip_prefix("fpr:::::::::"))
            .expect("a key")
            .trim_end_matches(':')
            .to_owned();
        gpg(&["--quick-add-key", &fingerprint, "cv25519", "encr", "never"], b"");
        names.push(fingerprint);
    }
    let mut arguments = vec!["--sign", "--encrypt", "--local-user", &names[0], "--compress-algo", "none"];
    names.iter().for_each(|name| arguments.extend(["--recipient", name]));
    let wall = |work: &mut dyn FnMut()| {
        let began = Instant::now();
        (0..5).for_each(|_| work());
        began.elapsed() / 5
    };
    let public: Vec<PublicKey> = readers.iter().map(|k| k.clone().parts_into_public()).collect();
    let recipients: Vec<&PublicKey> = public.iter().collect();
    let ours = || seal(value, envelope, &recipients, pair(author), Profile::Compat, NOW).expect("sealed");
    let (a, b) = in_turns(options.runs, || timed(50, ours), || wall(&mut || drop(gpg(&arguments, value))));
    line("seal to 5 keys / gpg --sign --encrypt", a, b);
    let message = gpg(&arguments, value);
    let author_key: PublicKey = author.clone().parts_into_public();
    let open_all = || {
        let sealed: Vec<Vec<u8>> = (0..50).map(|_| ours()).collect();
        let mut next = sealed.iter();
        timed(50, || {
            let own: Box<dyn pgp::crypto::Decryptor> = Box::new(pair(&readers[0]));
            let mut own = [(readers[0].fingerprint(), own)];
            open(next.next().expect("one"), envelope, &mut own, &author_key).expect("opened")
        })
    };
    let (a, b) = in_turns(options.runs, open_all, || wall(&mut || assert_eq!(gpg(&["--decrypt"], &message), value)));
    line("open / gpg --decrypt", a, b);
    let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", home.path()).status();
}

/// Rotating a fleet: the promotion, and the owners' next standbys.
fn rotation(options: &Options) {
    let mut stage = Stage::with_pops(options.pops);
    let one = Selection { members: "nginx@pop1".parse().ok(), slot: Some(Slot::Openpgp), due: false, soon: true };
    let all = Selection { members: "*pop*".parse().ok(), slot: None, due: false, soon: true };
    let rotate = |stage: &Stage, selection: &Selection| {
        let mut fleet = stage.prepared();
        let began = processor_time();
        let plan = ops::plan_rotate(selection, fleet.state(), fleet.now()).expect("a plan");
        assert!(plan.skipped.is_empty(), "{:?}", plan.skipped);
        stage.place(&mut fleet, plan.drafts("measured"));
        let took = processor_time() - began;
        fleet.done();
        (took, u32::try_from(plan.rotations.len()).expect("a few"))
    };
    let author = signing_key();
    let limit = |signatures: u32| {
        timed(50, || raw_sign(&author, b"a statement")) * signatures + raw_verify(&author, 50) * signatures
    };
    // Two sign: alice, and the authority in her home. Each signature is made and verified once.
    let mut figures = Vec::new();
    for _ in 0..options.runs.min(3) {
        let (took_one, _) = rotate(&stage, &one);
        stage.catch_up("pop1", processor_time);
        let (took_all, count) = rotate(&stage, &all);
        let standby: Duration = (1..=options.pops).map(|i| stage.catch_up(&format!("pop{i}"), processor_time)).sum();
        let standby = standby / count;
        figures.push((took_one, took_all / count, standby, limit(2), count));
    }
    let pick =
        |f: fn(&(Duration, Duration, Duration, Duration, u32)) -> Duration| median(figures.iter().map(f).collect());
    let generation = timed(50, || (reading_key(), raw_sign(&author, b"a binding"), raw_sign(&author, b"a binding")));
    line("promote one key / 2 signatures made and verified", pick(|f| f.0), pick(|f| f.3));
    println!(
        "{:<44} {:>9} us a key",
        format!("promote {} keys of {} PoPs", figures[0].4, options.pops),
        pick(|f| f.1).as_micros()
    );
    line("next standby, a key / generate and bind", pick(|f| f.2), generation);
}

/// Verifying a log: replay from genesis, each in a process of its own, against the same signatures verified by sequoia.
fn verification(options: &Options) {
    let mut stage = Stage::with_pops(10);
    stage.grow(options.entries);
    let entries = stage.entries();
    let lines: usize = entries.iter().map(|e| Entry::parse(e).expect("an entry").signatures.len()).sum();
    let author = signing_key();
    let keyring = stage.path().join("keyring");
    let myself = std::env::current_exe().expect("this program");
    let ours = || {
        let output = Command::new(&myself).arg("verify-once").arg(&keyring).output().expect("this program runs");
        let text = String::from_utf8(output.stdout).expect("text");
        Duration::from_micros(text.trim().parse().unwrap_or_else(|_| panic!("{text:?}")))
    };
    let (a, b) = in_turns(options.runs, ours, || raw_verify(&author, 500) * u32::try_from(lines).expect("not so many"));
    line(&format!("replay {} entries / their {lines} signatures", entries.len()), a, b);
    println!("{:<44} {:>9.1} us an entry", "", a.as_secs_f64() * 1e6 / entries.len() as f64);
    println!("{:<44} {:>9.0} signatures a second", "", lines as f64 / a.as_secs_f64());
    assert!(stage.open().state().members.contains_key(&member("pop1")));
    assert!(stage.open().state().secrets.contains_key(&address("nginx@pop1/value-0")));
}

/// Replays a keyring and prints the microseconds of processor time it took.
fn verify_once(keyring: &Path) {
    use keys::disk::{Access, Disk, RealFiles};
    let store = keys::store::Store::new(Disk::new(RealFiles::open(keyring, Access::Public).expect("a keyring")));
    let later = NOW.plus(Span::days(3_000));
    let began = processor_time();
    let fleet = Fleet::open(store, &Known::default(), later, &mut |_, _| {}).expect("a sound keyring");
    println!("{}", (processor_time() - began).as_micros());
    assert!(fleet.void().is_empty());
}
