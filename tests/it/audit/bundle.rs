//! The bundle in the hands of somebody without `keys`: right as it is, and refused once anything in it is changed; and that
//! nothing is in it that is nobody's business. The sample, chosen again by somebody else's few lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use sequoia_openpgp::packet::Tag;
use sequoia_openpgp::parse::{PacketParser, PacketParserResult, Parse as _};

use crate::support::{Needles, Ran, Sandbox, TestFleet, Tool, files_below, private_numbers, tests};

tests!["audit":
    a_bundle_is_verified_by_strangers_and_refused_once_changed needs [Gpg, GpgConf, Openssl],
    a_bundle_holds_nothing_encrypted_and_nothing_private,
    the_same_log_gives_the_same_bundle,
    a_sample_can_be_chosen_again_by_anybody needs [Python3],
];

/// A fleet of two with a PoP that was rotated and one that was stolen.
fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "");
    fleet.seal("nginx@fra1/tls.key", "only nginx at fra1 reads this, and no auditor");
    fleet.keys("alice", &["rotate", "alice", "--slot", "sign", "--yes"]).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    fleet.keys("alice", &["revoke", "ams1", "--reason", "compromised", "--yes"]).ok();
    fleet
}

/// Writes a bundle as an archive and unpacks it; gives its directory.
fn unpacked(sandbox: &Sandbox, fleet: &TestFleet<'_>) -> PathBuf {
    fleet.keys("nobody", &["audit", "bundle", "--out", "b.tar"]).ok();
    Ran::of(Command::new("tar").args(["-xf", "b.tar"]).current_dir(sandbox.root())).ok();
    sandbox.path("audit")
}

fn script(sandbox: &Sandbox, bundle: &Path, name: &str) -> Ran {
    let mut command = Command::new("/bin/sh");
    command
        .arg(bundle.join(name))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", sandbox.root())
        .env("TMPDIR", sandbox.root());
    Ran::of(command.env("LC_ALL", "C.UTF-8"))
}

/// The first file of the bundle with this end of its name.
fn file(bundle: &Path, end: &str) -> PathBuf {
    let found = files_below(bundle).into_iter().find(|p| p.to_str().unwrap().ends_with(end));
    found.unwrap_or_else(|| panic!("no {end}"))
}

fn a_bundle_is_verified_by_strangers_and_refused_once_changed(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let bundle = unpacked(sandbox, &fleet);
    let size: usize =
        fleet.keys("nobody", &["audit", "--json"]).json()["log"]["size"].as_u64().unwrap().try_into().unwrap();
    let all = ["verify-files.sh", "verify-log.sh", "verify-signatures.sh"];
    let said = all.map(|name| script(sandbox, &bundle, name).ok());
    assert!(said[1].starts_with(&format!("log: {size} entries hash to the root")), "{said:?}");
    let signatures = files_below(&bundle).iter().filter(|p| p.extension().is_some_and(|e| e == "sig")).count();
    assert!(signatures > size && said[2].starts_with(&format!("signatures: all {signatures} are good")), "{said:?}");
    let id = std::fs::read_to_string(bundle.join("fleet-id")).unwrap();
    assert!(std::fs::read_to_string(sandbox.path("alice/pin")).unwrap().contains(id.trim()));

    let changed = |path: &Path, change: &dyn Fn(Vec<u8>) -> Vec<u8>, by: &[&str]| {
        let before = std::fs::read(path).unwrap();
        let after = change(before.clone());
        assert!(after != before, "{} is not changed", path.display());
        std::fs::write(path, after).unwrap();
        for name in by {
            let ran = script(sandbox, &bundle, name);
            assert_ne!(ran.code(), 0, "{name} takes a changed {}: {}", path.display(), ran.stdout());
        }
        std::fs::write(path, before).unwrap();
    };
    let flip = |mut bytes: Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        bytes
    };
    changed(&file(&bundle, "/fleet.toml"), &flip, &["verify-files.sh"]);
    changed(&bundle.join("REPORT.json"), &flip, &["verify-files.sh"]);
    changed(&bundle.join("fleet-id"), &flip, &["verify-files.sh"]);
    changed(&file(&bundle, "000004.entry"), &flip, &["verify-files.sh", "verify-log.sh"]);
    // A body that is not that of the entry: what gpg checks has to be what was hashed.
    changed(&file(&bundle, "000004.body"), &flip, &["verify-files.sh", "verify-log.sh", "verify-signatures.sh"]);
    changed(&file(&bundle, "-1-alice.sig"), &flip, &["verify-files.sh", "verify-signatures.sh"]);
    let other_root = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        let root = text.lines().nth(2).unwrap().to_owned();
        let other = if root.starts_with('A') { "B" } else { "A" };
        text.replacen(&root, &format!("{other}{}", &root[1..]), 1).into_bytes()
    };
    changed(&bundle.join("checkpoint"), &other_root, &["verify-log.sh"]);
    let other_signature = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        let end = text.trim_end().len() - 9;
        let other = if text.as_bytes()[end] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &text[..end], &text[end + 1..]).into_bytes()
    };
    changed(&bundle.join("checkpoint"), &other_signature, &["verify-log.sh"]);
    changed(
        &bundle.join("vkeys"),
        &|_| b"cdn.example/keys/1+00000000+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n".to_vec(),
        &["verify-log.sh"],
    );

    // One entry alone, with its proof and the log's key and nothing else.
    let vkey = fleet.keys("nobody", &["log", "vkey"]).ok().lines().next().unwrap().to_owned();
    let proves = |n: usize, entry: usize| {
        let entries = |name: String| bundle.join("entries").join(name).display().to_string();
        let files = [entries(format!("{n:06}.tlog-proof")), entries(format!("{entry:06}.entry"))];
        let mut command = Command::new("/bin/sh");
        command.arg(bundle.join("check-proof.sh")).args(files).arg(&vkey).env_clear();
        Ran::of(command.env("PATH", "/usr/bin:/bin").env("TMPDIR", sandbox.root())).code()
    };
    for n in [0, 4, size - 1] {
        assert_eq!((proves(n, n), proves(n, (n + 1) % size)), (0, 1), "entry {n}");
    }
    let proofs = files_below(&bundle).iter().filter(|p| p.extension().is_some_and(|e| e == "tlog-proof")).count();
    assert_eq!(proofs, size);

    // A good signature under another's name, a missing entry, one more file.
    let (alice, bob) = (file(&bundle, "-1-alice.sig"), file(&bundle, "-2-bob.sig"));
    let stolen = std::fs::read(&alice).unwrap();
    changed(&bob, &|_| stolen.clone(), &["verify-signatures.sh"]);
    let last = bundle.join(format!("entries/{:06}.entry", size - 1));
    let bytes = std::fs::read(&last).unwrap();
    std::fs::remove_file(&last).unwrap();
    script(sandbox, &bundle, "verify-log.sh").exits(1);
    std::fs::write(&last, &bytes).unwrap();
    let more = bundle.join(format!("entries/{size:06}.entry"));
    std::fs::write(&more, &bytes).unwrap();
    script(sandbox, &bundle, "verify-log.sh").exits(1);
    script(sandbox, &bundle, "verify-files.sh").exits(1);
    std::fs::remove_file(&more).unwrap();
    all.iter().for_each(|name| drop(script(sandbox, &bundle, name).ok()));
}

fn a_bundle_holds_nothing_encrypted_and_nothing_private(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let bundle = unpacked(sandbox, &fleet);
    let files = files_below(&bundle);
    assert!(files.len() > 60, "{files:?}");
    let mut needles = Needles::default();
    for home in ["alice", "bob", "fra1", "ams1"] {
        for (path, number) in private_numbers(&sandbox.path(home)) {
            needles.add(&path.display().to_string(), &number);
        }
    }
    needles.add("the secret", b"only nginx at fra1 reads this, and no auditor");
    for sealed in files_below(&fleet.keyring("sealed")) {
        needles.add(&sealed.display().to_string(), &std::fs::read(&sealed).unwrap()[..64]);
    }
    let mut looked = 0;
    for path in &files {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(needles.found_in(&bytes), None, "{}", path.display());
        if path.extension().is_some_and(|e| e == "pgp" || e == "sig") {
            let mut next = PacketParser::from_bytes(&bytes).unwrap();
            while let PacketParserResult::Some(packet) = next {
                let tag = packet.packet.tag();
                assert!(
                    !matches!(tag, Tag::PKESK | Tag::SEIP | Tag::SecretKey | Tag::SecretSubkey),
                    "{}: {tag}",
                    path.display()
                );
                looked += 1;
                next = packet.next().unwrap().1;
            }
        }
    }
    assert!(looked > 100, "{looked} packets");
    // A request holds a revocation that is encrypted; none is in here.
    let text: String = files.iter().map(|p| String::from_utf8_lossy(&std::fs::read(p).unwrap()).into_owned()).collect();
    assert!(!text.contains("\"revocation\"") && !text.contains("BEGIN PGP MESSAGE"));
}

fn the_same_log_gives_the_same_bundle(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let make = |out: &str| {
        fleet.keys("nobody", &["audit", "bundle", "--out", out]).ok();
        std::fs::read(sandbox.path(out)).unwrap()
    };
    let first = make("a.tar");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(first == make("b.tar"), "two archives of one log differ");
    // The directory has the same files.
    fleet.keys("nobody", &["audit", "bundle", "--out", "dir"]).ok();
    Ran::of(Command::new("tar").args(["-xf", "a.tar"]).current_dir(sandbox.root())).ok();
    Ran::of(Command::new("diff").args(["-r", "audit", "dir"]).current_dir(sandbox.root())).ok();
    fleet.keys("nobody", &["audit", "bundle", "--out", "dir"]).refuses(1, "dir is not empty");
    // Another log gives another one.
    fleet.seal("fra1/token", "x");
    assert!(first != make("c.tar"));
}

fn a_sample_can_be_chosen_again_by_anybody(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/formats/audit.md")).unwrap();
    let code = document.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    for args in [&["-n", "5"][..], &["-n", "1000"], &["-n", "3", "--seed", &"5eed".repeat(16)]] {
        let ran = fleet.keys("nobody", &[&["audit", "sample", "--json"], args].concat());
        ran.ok();
        let found = ran.json();
        let count = args[1];
        let call = format!(
            "{code}\nprint(sample('{}', {}, {}, {count}))",
            found["seed"].as_str().unwrap(),
            found["first"],
            found["entries"]
        );
        let theirs: Vec<u64> =
            serde_json::from_str(&Ran::of(Tool::Python3.command().args(["-I", "-c", &call])).ok()).unwrap();
        let ours: Vec<u64> = found["sample"].as_array().unwrap().iter().map(|r| r["entry"].as_u64().unwrap()).collect();
        assert_eq!(ours, theirs, "{args:?}");
        assert!(!ours.is_empty() && ours.len() <= found["entries"].as_u64().unwrap().try_into().unwrap());
    }
    let root = fleet.keys("nobody", &["audit", "--json"]).json()["log"]["root"].as_str().unwrap().to_owned();
    let said = fleet.keys("nobody", &["audit", "sample", "-n", "2"]).ok();
    assert!(said.contains(&root) && said.lines().count() == 5, "{said}");
    fleet.keys("nobody", &["audit", "sample", "--seed", "abc"]).refuses(2, "64 lower-case hexadecimal digits");
}
