//! What is published, and what waits: readers go by the one, writers go on from the other.

use std::process::Stdio;

use keys::home::Home;
use keys::log::note::Note;
use keys::witness::Witness;

use super::{Cosigner, Served};
use crate::support::{Running, Sandbox, TestFleet, Tool, bound, tests};

tests!["witness::publication":
    what_lacks_its_cosigners_is_not_gone_by,
    one_witness_twice_counts_once,
    a_fleet_without_cosigners_is_as_before,
    cosigners_by_http_and_by_file_make_a_quorum,
    a_witness_of_other_make_is_asked needs [Python3, Openssl],
    an_older_head_is_published_when_its_cosigners_come_late,
    a_stolen_log_key_sheds_no_cosigners,
    the_log_itself_is_no_cosigner,
    an_unchanged_head_is_cosigned_again_after_an_hour needs [Faketime],
    a_crash_while_publishing_is_finished_by_the_next_writer,
    cosigners_follow_the_log_to_its_new_key,
];

/// A fleet with one PoP and a published secret, and then a policy with these cosigners.
fn fleet_with<'a>(
    sandbox: &'a Sandbox,
    cosigners: &[(&Cosigner<'_>, &str, Option<&str>)],
    need: &str,
) -> TestFleet<'a> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("fra1/one", "first");
    fleet.settle(&["fra1"]);
    want(&fleet, cosigners, need);
    fleet
}

/// Puts cosigners into the policy.
fn want(fleet: &TestFleet<'_>, cosigners: &[(&Cosigner<'_>, &str, Option<&str>)], need: &str) {
    let path = fleet.sandbox.path("fleet/policy/fleet.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.truncate(text.find("\n[[cosigner]]").unwrap_or(text.len()));
    for (cosigner, kind, url) in cosigners {
        let url = url.map(|u| format!("url = \"{u}\"\n")).unwrap_or_default();
        text.push_str(&format!("\n[[cosigner]]\nvkey = \"{}\"\nkind = \"{kind}\"\n{url}", cosigner.vkey));
    }
    text.push_str(&format!("\n[publish]\nneed = {{ {need} }}\n"));
    std::fs::write(&path, text).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
}

fn sizes(fleet: &TestFleet<'_>) -> (u64, u64) {
    let status = fleet.keys("alice", &["status", "--json"]);
    status.ok();
    let published = &status.json()["published"];
    (published["size"].as_u64().unwrap(), published["waiting"].as_u64().unwrap())
}

fn opened(fleet: &TestFleet<'_>) -> String {
    fleet.keys("fra1", &["open", "fra1/one"]).ok()
}

fn sign(sandbox: &Sandbox, home: &str) {
    sandbox.keys(&["--home", home, "--fleet", "fleet", "log", "witness", "sign"]).ok();
}

fn what_lacks_its_cosigners_is_not_gone_by(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let fleet = fleet_with(sandbox, &[(&witness, "witness", None)], "witness = 1");
    witness.watch();
    let (before, waiting) = sizes(&fleet);
    assert_eq!(waiting, 1, "the new policy itself waits");
    fleet.seal("fra1/one", "second");
    fleet.seal("fra1/two", "new");
    fleet.join("ams1", "");
    assert_eq!(opened(&fleet), "first", "the previous checkpoint stands");
    fleet.keys("fra1", &["open", "fra1/two"]).refuses(5, "no secret");
    let wg = |out: &str| {
        fleet.keys("alice", &["wg", "render", "--out", out]).ok();
        crate::support::files_below(&sandbox.path(out)).iter().any(|p| p.to_string_lossy().contains("/ams1/"))
    };
    assert!(!wg("wg1"), "a PoP that is not published is no peer");
    fleet.keys("alice", &["ring", "export", "--out", "ring1"]).ok();
    // Whoever changes something, and whoever asks, sees what waits.
    let shown = fleet.keys("alice", &["ls"]).ok();
    assert!(shown.contains("fra1/two"), "{shown}");
    let status = fleet.keys("alice", &["status"]).ok();
    assert!(status.contains("entries are not published: 1 witness missing"), "{status}");
    fleet.keys("alice", &["log", "verify"]).ok();
    fleet.keys("alice", &["log", "publish"]).refuses(9, "");
    sign(sandbox, "w1");
    fleet.keys("alice", &["log", "publish"]).ok();
    let (after, waiting) = sizes(&fleet);
    assert!(after > before + 2 && waiting == 0, "{before} {after} {waiting}");
    assert_eq!(opened(&fleet), "second");
    assert_eq!(fleet.keys("fra1", &["open", "fra1/two"]).ok(), "new");
    assert!(wg("wg2"));
    assert!(!fleet.keyring("log/head").exists());
    let verified = fleet.keys("alice", &["log", "verify"]).ok();
    assert!(!verified.contains("note:"), "{verified}");
}

fn one_witness_twice_counts_once(sandbox: &Sandbox) {
    let (one, two) = (Cosigner::init(sandbox, "w1", false), Cosigner::init(sandbox, "w2", false));
    let fleet = fleet_with(sandbox, &[(&one, "witness", None), (&two, "witness", None)], "witness = 2");
    one.watch();
    sign(sandbox, "w1");
    let own = std::fs::read_dir(fleet.keyring("log/cosignatures")).unwrap().next().unwrap().unwrap().path();
    // Its cosignature again, a second later, under the other's name in the directory, and twice in the note.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let first = Note::parse(&std::fs::read(&own).unwrap()).unwrap();
    sign(sandbox, "w1");
    let mut note = Note::parse(&std::fs::read(&own).unwrap()).unwrap();
    assert_ne!(note, first);
    note.signatures.extend(first.signatures);
    std::fs::write(&own, note.to_bytes()).unwrap();
    let other = own.with_file_name(keys::digest::Digest::of(two.vkey.as_bytes()).to_string());
    std::fs::write(&other, note.to_bytes()).unwrap();
    let ran = fleet.keys("alice", &["log", "publish"]);
    assert!(ran.exits(9).contains("1 more, which lack 1 witness"), "{}", ran.stdout());
    std::fs::remove_file(other).unwrap();
    two.watch();
    sign(sandbox, "w2");
    fleet.keys("alice", &["log", "publish"]).ok();
    assert_eq!(sizes(&fleet).1, 0);
}

fn a_fleet_without_cosigners_is_as_before(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    assert_eq!(sizes(&fleet).1, 0);
    assert!(!fleet.keyring("log/head").exists() && !sandbox.path("alice/seen-head").exists());
    let status = fleet.keys("alice", &["status"]).ok();
    assert!(status.contains("by the log's key alone: no cosigners"), "{status}");
    assert_eq!(fleet.keys("alice", &["status", "--json"]).json()["published"]["freshness"], "unwitnessed");
    fleet.keys("alice", &["log", "publish"]).ok();
    // With cosigners that never came, the policy goes back, and with it everything is published.
    let witness = Cosigner::init(sandbox, "w1", false);
    want(&fleet, &[(&witness, "witness", None)], "witness = 1");
    fleet.seal("fra1/one", "value");
    assert_eq!(sizes(&fleet).1, 2);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.split("\n[[cosigner]]").next().unwrap()).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    assert_eq!(sizes(&fleet).1, 0);
    assert_eq!(fleet.keys("fra1", &["open", "fra1/one"]).ok(), "value");
    let verified = fleet.keys("alice", &["log", "verify"]).ok();
    assert!(!verified.contains("note:") && !fleet.keyring("log/head").exists(), "{verified}");
}

fn cosigners_by_http_and_by_file_make_a_quorum(sandbox: &Sandbox) {
    let (witness, auditor) = (Cosigner::init(sandbox, "w1", false), Cosigner::init(sandbox, "a1", true));
    let served = witness.serve();
    let url = format!("http://{}", served.address);
    let cosigners = [(&witness, "witness", Some(url.as_str())), (&auditor, "auditor", None)];
    let fleet = fleet_with(sandbox, &cosigners, "witness = 1, auditor = 1");
    witness.watch();
    auditor.watch();
    fleet.seal("fra1/one", "second");
    assert_eq!(opened(&fleet), "first");
    sign(sandbox, "a1");
    let ran = fleet.keys("alice", &["log", "publish", "--json"]);
    ran.ok();
    assert_eq!(ran.json()["cosigned_by"].as_array().unwrap().len(), 2, "{}", ran.stdout());
    assert_eq!(opened(&fleet), "second");
    // From now on the witness is asked at the end of each change.
    want(&fleet, &cosigners[..1], "witness = 1");
    assert_eq!(sizes(&fleet).1, 0);
    fleet.seal("fra1/one", "third");
    assert_eq!(opened(&fleet), "third");
    // One that does not answer costs its deadline, and the change is made.
    drop(served);
    let ran = fleet.keys_with("alice", &["seal", "fra1/one"], b"fourth");
    ran.ok();
    assert!(ran.stderr().contains("cosigner w1.example/c1: no answer"), "{}", ran.stderr());
    assert_eq!(opened(&fleet), "third");
}

/// A witness written from the specification alone, in another language, with openssl's signatures.
struct Foreign {
    vkey: String,
    address: String,
    _running: Running,
}

fn foreign(sandbox: &Sandbox, log_key: &str) -> Foreign {
    use std::io::BufRead as _;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/witness/foreign.py");
    let mut command = bound(Tool::Python3.path().unwrap());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").current_dir(sandbox.root());
    command.args([script, sandbox.root().to_str().unwrap(), log_key]);
    let mut running = Running::start(command.stdout(Stdio::piped()));
    let mut lines = std::io::BufReader::new(running.stdout.take().unwrap()).lines();
    let (vkey, address) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());
    Foreign { vkey, address, _running: running }
}

fn a_witness_of_other_make_is_asked(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let log_key = fleet.keys("alice", &["log", "vkey"]).ok().lines().next().unwrap().to_owned();
    let other = foreign(sandbox, &log_key);
    let cosigner = Cosigner { sandbox, home: "none", vkey: other.vkey.clone() };
    want(&fleet, &[(&cosigner, "witness", Some(&other.address))], "witness = 1");
    for value in ["one", "two", "three"] {
        fleet.seal("fra1/one", value);
        assert_eq!(sizes(&fleet).1, 0, "it checked our proof, and we its cosignature");
        assert_eq!(opened(&fleet), value);
    }
    let asked = std::fs::read_to_string(sandbox.path("asked")).unwrap();
    assert!(asked.lines().filter(|l| *l == "200").count() >= 4, "{asked}");
    assert!(asked.lines().filter(|l| *l == "422" || *l == "400").count() == 0, "{asked}");
}

fn an_older_head_is_published_when_its_cosigners_come_late(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let fleet = fleet_with(sandbox, &[(&witness, "witness", None)], "witness = 1");
    witness.watch();
    fleet.seal("fra1/one", "second");
    sign(sandbox, "w1");
    fleet.seal("fra1/one", "third");
    // What it has cosigned is not the newest any more, and is published all the same.
    let ran = fleet.keys("alice", &["log", "publish"]);
    ran.exits(9);
    assert_eq!(sizes(&fleet).1, 1);
    assert_eq!(opened(&fleet), "second");
    fleet.keys("alice", &["log", "verify"]).ok();
    sign(sandbox, "w1");
    fleet.keys("alice", &["log", "publish"]).ok();
    assert_eq!(opened(&fleet), "third");
    let verified = fleet.keys("alice", &["log", "verify"]).ok();
    assert!(!verified.contains("note:"), "{verified}");
}

fn a_stolen_log_key_sheds_no_cosigners(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let fleet = fleet_with(sandbox, &[(&witness, "witness", None)], "witness = 1");
    witness.watch();
    fleet.seal("fra1/one", "second");
    let good = std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    // The head that the log's key has signed is passed off as published.
    std::fs::rename(fleet.keyring("log/head"), fleet.keyring("log/checkpoint")).unwrap();
    fleet.keys("fra1", &["open", "fra1/one"]).refuses(3, "it lacks 1 witness");
    fleet.keys("alice", &["wg", "render", "--out", "wg"]).refuses(3, "is not published");
    assert!(fleet.keys("alice", &["log", "verify"]).exits(3).contains("the policy in force there wants 1 witness"));
    let status = fleet.keys("alice", &["status"]).ok();
    assert!(status.contains("published NOT"), "{status}");
    std::fs::rename(fleet.keyring("log/checkpoint"), fleet.keyring("log/head")).unwrap();
    std::fs::write(fleet.keyring("log/checkpoint"), good).unwrap();
    assert_eq!(opened(&fleet), "first");
}

fn the_log_itself_is_no_cosigner(sandbox: &Sandbox) {
    use base64::Engine as _;
    let fleet = TestFleet::of_one(sandbox);
    let vkey = fleet.keys("alice", &["log", "vkey"]).ok().lines().next().unwrap().to_owned();
    let base64 = base64::engine::general_purpose::STANDARD;
    let raw = base64.decode(vkey.splitn(3, '+').nth(2).unwrap()).unwrap();
    let key = [&[4], &raw[1..]].concat();
    let hash = <sha2::Sha256 as sha2::Digest>::digest([b"w\n".as_slice(), &key].concat());
    let hash: String = hash[..4].iter().map(|b| format!("{b:02x}")).collect();
    let posing = format!("w+{hash}+{}", base64.encode(key));
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let tables =
        format!("\n[[cosigner]]\nvkey = \"{posing}\"\nkind = \"witness\"\n[publish]\nneed = {{ witness = 1 }}\n");
    std::fs::write(&path, text + &tables).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).refuses(1, "[[cosigner]] number 1: w has the log's own key");
}

fn an_unchanged_head_is_cosigned_again_after_an_hour(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let served: Served = witness.serve();
    let url = format!("http://{}", served.address);
    let fleet = fleet_with(sandbox, &[(&witness, "witness", Some(&url))], "witness = 1");
    witness.watch();
    fleet.keys("alice", &["log", "publish"]).ok();
    let note = || std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    let first = note();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(fleet.keys("alice", &["log", "publish"]).ok().contains("as before"));
    assert_eq!(note(), first, "within the hour nobody is asked");
    drop(served);
    // Two days later the same size, with a new time.
    sandbox.set_days_later(2);
    let status = fleet.keys("alice", &["status", "--json"]);
    assert_eq!(status.json()["published"]["freshness"], "ageing", "{}", status.stdout());
    let served = witness.serve();
    want_url(&fleet, &url, &format!("http://{}", served.address));
    assert!(fleet.keys("alice", &["sync"]).code() == 0);
    assert_ne!(note(), first);
    let status = fleet.keys("alice", &["status", "--json"]);
    assert_eq!(status.json()["published"]["freshness"], "fresh", "{}", status.stdout());
    sandbox.set_days_later(12);
    let status = fleet.keys("alice", &["status"]).ok();
    assert!(status.contains("FREEZE?"), "{status}");
    // A clock behind the cosigners' time is noticed, and changes nothing.
    sandbox.set_days_later(0);
    fleet.keys_with("alice", &["seal", "fra1/one"], b"x").refuses(7, "is the clock right?");
    assert_eq!(fleet.keys("fra1", &["open", "fra1/one"]).ok(), "first", "reading goes on");
}

/// The witness has moved to another port.
fn want_url(fleet: &TestFleet<'_>, old: &str, new: &str) {
    let path = fleet.sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(old, new)).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
}

/// Stopped right after `log/checkpoint` was replaced: the views are behind, and the writer's mark lies there.
fn a_crash_while_publishing_is_finished_by_the_next_writer(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let fleet = fleet_with(sandbox, &[(&witness, "witness", None)], "witness = 1");
    witness.watch();
    fleet.seal("fra1/one", "second");
    sign(sandbox, "w1");
    let cosigned = std::fs::read_dir(fleet.keyring("log/cosignatures")).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(cosigned, fleet.keyring("log/checkpoint")).unwrap();
    std::fs::write(fleet.keyring(".writing"), "").unwrap();
    assert_eq!(opened(&fleet), "second", "the file waits among the objects");
    fleet.keys("alice", &["log", "verify"]).ok();
    fleet.seal("fra1/two", "more");
    fleet.keys("alice", &["log", "verify"]).ok();
    assert_eq!(opened(&fleet), "second");
    sign(sandbox, "w1");
    fleet.keys("alice", &["log", "publish"]).ok();
    let verified = fleet.keys("alice", &["log", "verify"]).ok();
    assert!(!verified.contains("note:"), "{verified}");
    let home = Home::open(&sandbox.path("w1")).unwrap();
    assert!(Witness::open(&home).unwrap().last("cdn.example/keys/1").unwrap().is_some());
}

/// A witness that knows the log's old key alone cosigns the head at which it changes, and nothing after it before it has been
/// told of the new one.
fn cosigners_follow_the_log_to_its_new_key(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let served = witness.serve();
    let url = format!("http://{}", served.address);
    let fleet = fleet_with(sandbox, &[(&witness, "witness", Some(&url))], "witness = 1");
    let vkey = || fleet.keys("alice", &["log", "vkey"]).ok().trim().to_owned();
    let old = vkey();
    let tell = |keys: &[&str]| {
        sandbox.keys(&[&["--home", "w1", "log", "witness", "add-log"], keys].concat()).ok();
    };
    tell(&[&old]);
    fleet.keys("alice", &["log", "publish"]).ok();
    fleet.keys("alice", &["log", "rekey", "--yes"]).ok();
    let new = vkey();
    assert_ne!(old, new);
    assert_eq!(sizes(&fleet).1, 0, "it is cosigned");
    let signed_by = |path: &str| {
        let note = Note::parse(&std::fs::read(fleet.keyring(path)).unwrap()).unwrap();
        [&old, &new].map(|k| note.is_signed_by(&keys::log::note::VerifierKey::parse(k).unwrap()))
    };
    assert_eq!(signed_by("log/checkpoint"), [true, true], "what is published leads from the one to the other");
    assert_eq!(opened(&fleet), "first");
    let ran = fleet.keys_with("alice", &["seal", "fra1/one"], b"second");
    ran.ok();
    assert!(ran.stderr().contains("403"), "{}", ran.stderr());
    assert_eq!((sizes(&fleet).1, signed_by("log/head")), (1, [false, true]));
    assert_eq!(opened(&fleet), "first");
    tell(&[&new]);
    fleet.keys("alice", &["log", "publish"]).ok();
    assert_eq!((sizes(&fleet).1, signed_by("log/checkpoint")), (0, [false, true]));
    assert_eq!(opened(&fleet), "second");
    // Told beforehand, as the runbook has it, nothing waits.
    fleet.settle(&["fra1"]);
    witness.watch();
    fleet.keys("alice", &["log", "rekey", "--why", "compromised", "--yes"]).ok();
    fleet.seal("fra1/one", "third");
    assert_eq!((sizes(&fleet).1, opened(&fleet).as_str()), (0, "third"));
    let verified = fleet.keys("alice", &["log", "verify"]).ok();
    assert!(!verified.contains("note:"), "{verified}");
}
