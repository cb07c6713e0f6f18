//! Proofs that the log has an entry: handed out for an index, an id or a member, checked where there is neither fleet nor
//! home, and refused as soon as anything about them is changed.

use keys::log::note::VerifierKey;
use keys::log::proof::Proof;
use keys::statement::{Act, Entry};

use crate::support::{Sandbox, TestFleet, tests};

tests!["proofs":
    a_proof_is_checked_without_fleet_and_home,
    a_proof_of_another_entry_or_by_another_key_is_refused,
    every_changed_byte_of_proof_entry_or_key_is_refused,
    an_entry_is_named_by_index_id_or_member,
    nothing_is_replayed_for_a_checkpoint_that_is_known,
    a_checkpoint_that_nobody_vouches_for_is_no_proof,
    damaged_tiles_give_no_proof,
];

/// A fleet with a PoP and a secret; the log's verifier key.
fn fleet(sandbox: &Sandbox) -> (TestFleet<'_>, String) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "a value");
    fleet.seal("fra1/token", "another");
    let vkey = fleet.keys("alice", &["log", "vkey"]).ok().trim_end().to_owned();
    (fleet, vkey)
}

/// Proof and entry of `what`, in the files `NAME.tlog-proof` and `NAME.entry`.
fn prove(fleet: &TestFleet<'_>, what: &[&str], name: &str) -> (Vec<u8>, Vec<u8>) {
    let (proof, entry) = (format!("{name}.tlog-proof"), format!("{name}.entry"));
    let args = [&["log", "prove"], what, &["--out", &proof, "--entry", &entry]].concat();
    let said = fleet.keys("alice", &args).ok();
    assert_eq!(said, format!("{proof}\n{entry}\n"));
    (std::fs::read(fleet.sandbox.path(&proof)).unwrap(), std::fs::read(fleet.sandbox.path(&entry)).unwrap())
}

/// Asks the program about proof and entry, from a place where there is neither fleet nor home.
fn check(sandbox: &Sandbox, proof: &str, entry: &str, vkey: &str) -> crate::support::Ran {
    sandbox.keys(&[
        "--fleet",
        "nowhere",
        "--home",
        "nobody",
        "log",
        "check-proof",
        proof,
        "--entry",
        entry,
        "--vkey",
        vkey,
    ])
}

fn a_proof_is_checked_without_fleet_and_home(sandbox: &Sandbox) {
    let (fleet, vkey) = fleet(sandbox);
    let (proof, entry) = prove(&fleet, &["2"], "2");
    let read = Proof::parse(&proof).unwrap();
    assert_eq!((read.index, read.extra.is_none()), (2, true));
    assert_eq!(fleet.keys("alice", &["log", "prove", "2"]).ok().as_bytes(), proof, "stdout has the same");
    for path in ["fleet", "alice", "fra1"] {
        std::fs::rename(sandbox.path(path), sandbox.path(&format!("away-{path}"))).unwrap();
    }
    let said = check(sandbox, "2.tlog-proof", "2.entry", &vkey).ok();
    let id = Entry::parse(&entry).unwrap().signed.id;
    assert!(said.starts_with("in the log: entry 2 of 4 in cdn.example/keys/1\n"), "{said}");
    assert!(said.contains(&format!("id: {id}\n")) && said.contains("secret.seal by alice"), "{said}");
    let args = ["log", "check-proof", "2.tlog-proof", "--entry", "2.entry", "--vkey", &vkey, "--json"];
    let json = sandbox.keys(&args).json();
    assert_eq!((&json["in_log"], &json["index"], &json["size"]), (&true.into(), &2.into(), &4.into()));
    assert_eq!(json["id"], id.to_string());
}

fn a_proof_of_another_entry_or_by_another_key_is_refused(sandbox: &Sandbox) {
    let (fleet, vkey) = fleet(sandbox);
    prove(&fleet, &["2"], "2");
    prove(&fleet, &["3"], "3");
    check(sandbox, "3.tlog-proof", "3.entry", &vkey).ok();
    check(sandbox, "3.tlog-proof", "2.entry", &vkey).refuses(3, "does not have this entry at index 3");
    // Somebody else's log of the same name.
    let (ours, key) = (sandbox.path("fleet"), sandbox.path("alice"));
    std::fs::rename(&ours, sandbox.path("first")).unwrap();
    std::fs::rename(&key, sandbox.path("first-home")).unwrap();
    TestFleet::of_one(sandbox);
    let other = fleet.keys("alice", &["log", "vkey"]).ok().trim_end().to_owned();
    check(sandbox, "3.tlog-proof", "3.entry", &other).refuses(3, "is not signed by any of the given keys");
    let both = ["log", "check-proof", "3.tlog-proof", "--entry", "3.entry", "--vkey", &other, "--vkey", &vkey];
    sandbox.keys(&both).ok();
    check(sandbox, "3.tlog-proof", "3.entry", "cdn.example/keys/1").refuses(2, "is not a note key");
    sandbox.write("empty", "");
    check(sandbox, "empty", "3.entry", &vkey).refuses(3, "is not a C2SP tlog-proof");
    check(sandbox, "absent", "3.entry", &vkey).refuses(5, "cannot read absent");
}

fn every_changed_byte_of_proof_entry_or_key_is_refused(sandbox: &Sandbox) {
    let (fleet, vkey) = fleet(sandbox);
    let (proof, entry) = prove(&fleet, &["2"], "2");
    let key = VerifierKey::parse(&vkey).unwrap();
    let holds = |proof: &[u8], entry: &[u8], vkey: &[u8]| {
        let key = std::str::from_utf8(vkey).ok().and_then(|text| VerifierKey::parse(text).ok());
        key.is_some_and(|key| Proof::parse(proof).is_ok_and(|p| p.verify(entry, &[key]).is_ok()))
    };
    assert!(holds(&proof, &entry, vkey.as_bytes()) && vkey == key.to_string());
    let changes = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let flipped = (0..bytes.len()).map(|at| {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << (at % 7);
            changed
        });
        let cut = (0..bytes.len()).map(|at| bytes[..at].to_vec());
        let doubled = (0..bytes.len()).map(|at| [&bytes[..=at], &bytes[at..]].concat());
        flipped.chain(cut).chain(doubled).collect()
    };
    for wrong in changes(&proof) {
        assert!(!holds(&wrong, &entry, vkey.as_bytes()), "{}", String::from_utf8_lossy(&wrong));
    }
    for wrong in changes(&entry) {
        assert!(!holds(&proof, &wrong, vkey.as_bytes()), "{}", String::from_utf8_lossy(&wrong));
    }
    for wrong in changes(vkey.as_bytes()) {
        assert!(!holds(&proof, &entry, &wrong), "{}", String::from_utf8_lossy(&wrong));
    }
}

fn an_entry_is_named_by_index_id_or_member(sandbox: &Sandbox) {
    let (fleet, vkey) = fleet(sandbox);
    let (by_index, entry) = prove(&fleet, &["3"], "index");
    let id = Entry::parse(&entry).unwrap().signed.id.to_string();
    for digits in [&id[..8], &id] {
        assert_eq!(prove(&fleet, &[digits], "id").0, by_index);
    }
    // Who joined with which certificate; afterwards, which entry put the standby into force.
    let act = |entry: &[u8]| Entry::parse(entry).unwrap().signed.statement.act;
    assert!(matches!(act(&prove(&fleet, &["fra1"], "joined").1), Act::Enroll(_)));
    fleet.keys("alice", &["rotate", "fra1", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    let (proof, entry) = prove(&fleet, &["fra1", "--slot", "wireguard"], "rotated");
    assert!(matches!(act(&entry), Act::Activate(_)), "{}", String::from_utf8_lossy(&entry));
    check(sandbox, "rotated.tlog-proof", "rotated.entry", &vkey).ok();
    let json = fleet.keys("alice", &["log", "prove", "fra1", "--slot", "wireguard", "--json"]).json();
    assert_eq!(json["proof"].as_str().map(str::as_bytes), Some(proof.as_slice()));
    assert_eq!(json["entry"].as_str().map(str::as_bytes), Some(entry.as_slice()));
    assert!(matches!(act(&prove(&fleet, &["fra1"], "published").1), Act::Publish(_) | Act::Certify(_)));

    let prove = |what: &[&str]| fleet.keys("alice", &[&["log", "prove"], what].concat());
    prove(&["99"]).refuses(5, "there is no entry 99");
    prove(&["ams1"]).refuses(5, "there is no entry and no member ams1");
    prove(&["0123456789ab"]).refuses(5, "there is no entry and no member 0123456789ab");
    prove(&["fra1", "--slot", "log"]).refuses(5, "has no keys in the slot log");
}

/// The objects are away, so nobody can replay; what needs no replay still answers, and says why it may.
fn nothing_is_replayed_for_a_checkpoint_that_is_known(sandbox: &Sandbox) {
    let (fleet, vkey) = fleet(sandbox);
    let id = Entry::parse(&prove(&fleet, &["1"], "1").1).unwrap().signed.id.to_string();
    std::fs::rename(fleet.keyring("objects"), sandbox.path("objects")).unwrap();
    let basis = |who: &str, args: &[&str]| {
        let ran = fleet.keys(who, &[&["log", "prove"], args, &["--json"]].concat());
        ran.ok();
        ran.json()["basis"].as_str().unwrap().to_owned()
    };
    assert_eq!(basis("alice", &["1"]), "seen");
    assert_eq!(basis("alice", &[&id]), "seen");
    assert_eq!(basis("nobody", &["1", "--vkey", &vkey]), "vkey");
    fleet.keys("nobody", &["log", "prove", "1"]).refuses(3, "is missing");
    fleet.keys("alice", &["log", "prove", "fra1"]).refuses(3, "is missing");
    std::fs::rename(sandbox.path("objects"), fleet.keyring("objects")).unwrap();
    assert_eq!(basis("nobody", &["1"]), "replayed");
}

fn a_checkpoint_that_nobody_vouches_for_is_no_proof(sandbox: &Sandbox) {
    let (fleet, vkey) = fleet(sandbox);
    prove(&fleet, &["1"], "1");
    let path = fleet.keyring("log/checkpoint");
    let right = std::fs::read_to_string(&path).unwrap();
    // A signature by the right name and the right key hash that is none.
    let at = right.rfind("keys/1 ").unwrap() + 40;
    let letter = if right.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = [&right[..at], letter, &right[at + 1..]].concat();
    std::fs::write(&path, &forged).unwrap();
    fleet.keys("alice", &["log", "prove", "1"]).refuses(3, "not signed by the log's key");
    fleet.keys("nobody", &["log", "prove", "1", "--vkey", &vkey]).refuses(3, "not signed by");
    std::fs::write(&path, right).unwrap();
    fleet.keys("nobody", &["log", "prove", "1", "--vkey", &vkey]).ok();
}

fn damaged_tiles_give_no_proof(sandbox: &Sandbox) {
    let (fleet, _) = fleet(sandbox);
    prove(&fleet, &["1"], "1");
    let (tile, bundle) = (fleet.keyring("log/tile/0/000.p/4"), fleet.keyring("log/tile/entries/000.p/4"));
    for (file, at) in [(&tile, 5), (&tile, 100), (&bundle, 3_000)] {
        let right = std::fs::read(file).unwrap();
        let mut wrong = right.clone();
        wrong[at] ^= 1;
        std::fs::write(file, &wrong).unwrap();
        // Whatever is wrong lies on the way of some entry; none gets a proof that does not hold.
        let refused = (0..4).filter(|index| {
            let ran = fleet.keys("alice", &["log", "prove", &index.to_string()]);
            if ran.code() != 0 {
                ran.refuses(3, "damaged");
                return true;
            }
            let proof = Proof::parse(&ran.output.stdout).unwrap();
            assert_eq!(proof.index, *index);
            false
        });
        assert!(refused.count() > 0, "{} at {at}", file.display());
        std::fs::write(file, &right).unwrap();
    }
    std::fs::remove_file(&tile).unwrap();
    fleet.keys("alice", &["log", "prove", "1"]).refuses(3, "log/tile/0/000.p/4 is missing");
}
