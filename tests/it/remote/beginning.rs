//! What a new machine brings: with a snapshot nothing that comes before it, and of sealed files its own alone.

use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Fleet, FleetError, Known};
use keys::ops;
use keys::remote::{self, Mirrors, Want};
use keys::store::{Store, StoreError};

use super::{files, id};
use crate::support::stage::Stage;
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["remote::beginning":
    with_a_snapshot_nothing_is_brought_that_comes_before_it,
    past_the_end_of_tiles_it_is_the_same,
    a_mirror_that_cannot_say_what_the_snapshot_is_is_passed_over,
    of_sealed_files_a_machine_brings_its_own,
    a_machine_is_born_with_a_snapshot,
];

/// A fleet of two PoPs with a snapshot on record and entries after it; gives its hash, and of how many entries it is.
fn fleet(sandbox: &Sandbox) -> (TestFleet<'_>, String, u64) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "");
    for value in ["one", "two", "three"] {
        fleet.seal("nginx@fra1/tls.key", value);
    }
    fleet.keys_with("alice", &["seal", "ams1/token"], b"of ams1").ok();
    fleet.settle(&["fra1", "ams1"]);
    let made = fleet.keys("alice", &["log", "snapshot", "--yes", "--json"]).json();
    let (hash, size) = (made["state"].as_str().unwrap().to_owned(), made["size"].as_u64().unwrap());
    fleet.seal("nginx@fra1/tls.key", "four");
    (fleet, hash, size)
}

fn keys(sandbox: &Sandbox, home: &str, args: &[&str]) -> Ran {
    sandbox.keys(&[&["--fleet", "copy", "--home", home], args].concat())
}

fn with_a_snapshot_nothing_is_brought_that_comes_before_it(sandbox: &Sandbox) {
    let (fleet, hash, size) = fleet(sandbox);
    let id = id(&fleet);
    let first = keys(sandbox, "reader", &["pull", "--from", "fleet", "--remember", "--pin", &id, "--snapshot", &hash]);
    first.ok();
    let (copy, whole) = (files(sandbox, "copy/keyring"), files(sandbox, "fleet/keyring"));
    // What is there is what the mirror has; of commits only those that come after.
    let differs = |path: &&String| whole.get(*path) != copy.get(*path) && !path.starts_with("proposals/");
    assert_eq!(copy.keys().filter(differs).collect::<Vec<_>>(), Vec::<&String>::new());
    let commits = |all: &super::Files| -> Vec<u64> {
        all.keys().filter_map(|path| path.strip_prefix("log/commit/")?.parse().ok()).collect()
    };
    let expected: Vec<u64> = commits(&whole).into_iter().filter(|at| *at >= size).collect();
    assert!(expected.len() >= 2 && expected.len() * 4 < commits(&whole).len(), "{expected:?}");
    assert_eq!(commits(&copy), expected);
    assert!(copy.len() + 8 < whole.len(), "{} of {} files", copy.len(), whole.len());
    let status = keys(sandbox, "reader", &["status", "--json"]).json();
    assert_eq!(status["began"].as_u64(), Some(size));
    // It goes on from there without being told again, past the end of a tile, and with a member that is new.
    fleet.seal("nginx@fra1/tls.key", "five");
    fleet.join("sin1", "web");
    fleet.settle(&["sin1"]);
    fleet.keys("alice", &["rotate", "--all", "--yes", "--reason", "staff change"]).ok();
    keys(sandbox, "reader", &["pull"]).ok();
    fleet.settle(&["fra1", "ams1", "sin1"]);
    assert!(!keys(sandbox, "reader", &["pull"]).ok().starts_with("up to date"));
    let state = |args: &[&str]| sandbox.keys(&[args, &["status", "--json"]].concat()).json();
    let (here, there) =
        (state(&["--fleet", "copy", "--home", "reader"]), state(&["--fleet", "fleet", "--home", "alice"]));
    assert_eq!((&here["log"]["size"], &here["secrets"]), (&there["log"]["size"], &there["secrets"]));
    // A machine opens what is there, from the copy, by what it begins with itself.
    let own = ["--fleet", "copy", "--home", "fra1"];
    let opened = sandbox.keys(&[&own[..], &["open", "nginx@fra1/tls.key", "--snapshot", &hash]].concat());
    assert_eq!(opened.ok(), "five");
    // What is not here is not called damage, and not called sound.
    let verified = keys(sandbox, "reader", &["log", "verify"]);
    verified.refuses(7, "this keyring was begun with the snapshot");
    // Interrupted, it is made whole as ever: nothing that the state refers to is taken for left over.
    let before = files(sandbox, "copy/keyring");
    std::fs::write(sandbox.path("copy/keyring/.writing"), b"").unwrap();
    keys(sandbox, "reader", &["pull"]).ok();
    assert_eq!(files(sandbox, "copy/keyring"), before);
    // Whoever is behind what is here, and before what began here, is behind.
    sandbox.keys(&["--fleet", "old", "--home", "other", "pull", "--from", "fleet", "--pin", &id]).ok();
    assert!(keys(sandbox, "reader", &["pull", "--from", "old"]).ok().starts_with("up to date"));
}

/// Seals a secret so often that the log grows to `size` entries.
fn grow(stage: &mut Stage, size: u64) {
    let first = stage.open().state().size;
    for from in (first..size).step_by(128) {
        stage.carry(|fleet, home| {
            let seal = |i: u64| {
                let plan = ops::plan_seal(&format!("fra1/value-{i}").parse().unwrap(), fleet).unwrap();
                ops::seal(&plan, b"the value", "measured", None, home, fleet).unwrap()
            };
            (0..(size - from).min(128)).map(seal).collect()
        });
    }
}

fn past_the_end_of_tiles_it_is_the_same(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &[]);
    grow(&mut stage, 270);
    stage.carry(|fleet, _| vec![ops::plan_snapshot("to begin with", fleet).unwrap().1]);
    grow(&mut stage, 300);
    let snapshot = stage.open().state().snapshot.clone().unwrap().snapshot;
    assert!((270..300).contains(&snapshot.size), "{}", snapshot.size);
    let pin = Some(stage.open().pin().id);
    let known = Known { pin, snapshot: Some(snapshot.state), ..Known::default() };
    let from = Mirrors {
        addresses: vec![stage.keyring.disk().root().trim_end_matches("/keyring").to_owned()],
        ..Mirrors::default()
    };
    let directory = sandbox.path("copy");
    let pull = |stage: &Stage| {
        remote::pull(&from, &directory, &known, stage.now, Want::All).unwrap();
        let disk = Disk::new(RealFiles::open(&directory.join("keyring"), Access::Public).unwrap());
        let open = |known: &Known| Fleet::open(Store::new(disk.clone()), known, stage.now, &mut |_, _| {});
        let fleet = open(&known).unwrap();
        assert_eq!((fleet.began(), fleet.state()), (snapshot.size, stage.open().state()));
        // Nothing from before is there: without the snapshot it is told what is missing.
        let missing = open(&Known { pin, ..Known::default() }).err().unwrap();
        assert!(
            matches!(&missing, FleetError::Store(StoreError::Missing(path)) if path == "log/tile/entries/000"),
            "{missing}"
        );
    };
    pull(&stage);
    // And after a mirror has gone on by more than a tile: for whoever was here, and for whoever comes anew.
    grow(&mut stage, 530);
    pull(&stage);
    std::fs::remove_dir_all(&directory).unwrap();
    pull(&stage);
}

fn a_mirror_that_cannot_say_what_the_snapshot_is_is_passed_over(sandbox: &Sandbox) {
    let (fleet, hash, size) = fleet(sandbox);
    let id = id(&fleet);
    let pull = |from: &[&str], hash: &str| {
        let from = from.iter().flat_map(|from| ["--from", from]).collect::<Vec<_>>();
        keys(sandbox, "reader", &[&["pull", "--pin", &id, "--snapshot", hash], &from[..]].concat())
    };
    let untouched = || !sandbox.path("copy/keyring").exists() && !sandbox.path("copy/.pull/log/commit").exists();
    let state = format!("objects/{}/{}", &hash[..2], &hash[2..]);
    let tile = format!(
        "log/tile/0/000.p/{}",
        files(sandbox, "fleet/keyring")
            .keys()
            .filter_map(|p| p.strip_prefix("log/tile/0/000.p/")?.parse::<u64>().ok())
            .max()
            .unwrap()
    );
    let mut wrong = Vec::new();
    for (name, path) in [("no-state", &state), ("other-state", &state), ("no-tile", &tile), ("other-tile", &tile)] {
        sandbox.copy("fleet", name);
        let path = sandbox.path(name).join("keyring").join(path);
        match name.starts_with("no") {
            true => std::fs::remove_file(&path).unwrap(),
            false => {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[9] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
        }
        let ran = pull(&[name], &hash);
        assert!(
            [3, 7].contains(&ran.code()) && ran.stderr().contains(&format!("mirror {name}: ")),
            "{name}: {}",
            ran.stderr()
        );
        assert!(untouched(), "{name}");
        // A state that one had is laid down, and is what its hash says, whoever is asked next.
        if name.ends_with("tile") {
            wrong.push(name);
        }
    }
    // One that is behind the snapshot; a hash of nothing; one that no entry has on record.
    for wrong in [hash.replace(['1', '2'], "3"), "0".repeat(64)] {
        let ran = pull(&["fleet"], &wrong);
        assert!([3, 7].contains(&ran.code()), "{}", ran.stderr());
        assert!(untouched());
    }
    let other = fleet.keys("alice", &["log", "snapshot", "--yes", "--json"]).json();
    let newer = other["state"].as_str().unwrap().to_owned();
    assert!(other["size"].as_u64().unwrap() > size);
    sandbox.copy("fleet", "unsaid");
    // A mirror of the time before it was on record has the state's file all the same.
    sandbox.copy("no-state", "early");
    let at = |place: &str| sandbox.path(place).join("keyring/objects").join(&newer[..2]).join(&newer[2..]);
    std::fs::create_dir_all(at("early").parent().unwrap()).unwrap();
    std::fs::copy(at("fleet"), at("early")).unwrap();
    let ran = pull(&["early"], &newer);
    assert!([3, 7].contains(&ran.code()), "{}", ran.stderr());
    assert!(untouched());
    let ran = pull(&[&wrong[..], &["nowhere", "fleet"]].concat(), &hash);
    ran.ok();
    assert!(wrong.iter().all(|name| ran.stderr().contains(&format!("mirror {name}: "))), "{}", ran.stderr());
}

fn of_sealed_files_a_machine_brings_its_own(sandbox: &Sandbox) {
    let (fleet, ..) = fleet(sandbox);
    let id = id(&fleet);
    let sealed = |place: &str| -> Vec<String> {
        let all = files(sandbox, place).into_keys();
        all.filter(|path| path.starts_with("sealed/") || path.starts_with("objects/sealed/")).collect()
    };
    keys(sandbox, "fra1", &["pull", "--from", "fleet", "--own", "--remember", "--pin", &id]).ok();
    assert_eq!(sealed("copy/keyring"), ["sealed/fra1/nginx/tls.key.pgp"]);
    assert_eq!(keys(sandbox, "fra1", &["open", "nginx@fra1/tls.key"]).ok(), "four");
    let verified = keys(sandbox, "fra1", &["log", "verify"]);
    assert!(verified.ok().contains("1 sealed files that nobody on this machine can read"), "{}", verified.stdout());
    // One of its own is missed.
    let own = sandbox.path("copy/keyring/sealed/fra1/nginx/tls.key.pgp");
    let kept = std::fs::read(&own).unwrap();
    std::fs::remove_file(&own).unwrap();
    keys(sandbox, "fra1", &["log", "verify"]).exits(3);
    std::fs::write(&own, kept).unwrap();
    // It is remembered; what is new is brought, and whoever wants all of them says so.
    fleet.keys_with("alice", &["seal", "fra1/another"], b"another").ok();
    fleet.keys_with("alice", &["seal", "ams1/another"], b"another").ok();
    keys(sandbox, "fra1", &["pull"]).ok();
    assert_eq!(sealed("copy/keyring"), ["sealed/fra1/another.pgp", "sealed/fra1/nginx/tls.key.pgp"]);
    keys(sandbox, "fra1", &["pull", "--from", "fleet", "--remember"]).ok();
    assert_eq!(sealed("copy/keyring"), sealed("fleet/keyring"));
    assert_eq!(sealed("copy/keyring").len(), 4);
    let verified = keys(sandbox, "fra1", &["log", "verify"]);
    assert!(!verified.ok().contains("were not brought"), "{}", verified.stdout());
}

fn a_machine_is_born_with_a_snapshot(sandbox: &Sandbox) {
    let (fleet, hash, size) = fleet(sandbox);
    let invite = ["invite", "sin1", "--services", "nginx", "--approval", "auto", "--yes"];
    let token = sandbox.write("token", fleet.keys("alice", &invite).ok().trim_end());
    let mirror = sandbox.path("fleet").display().to_string();
    let sha256 = "0".repeat(64);
    let args = ["cloud-config", "sin1", "--token", token.to_str().unwrap(), "--mirror", &mirror, "--program", "/keys"];
    let rendered =
        |more: &[&str]| fleet.keys("alice", &[&args[..], &["--sha256", &sha256, "--format", "sh"], more].concat());
    assert!(!rendered(&[]).ok().contains("snapshot"));
    let script = rendered(&["--from-snapshot"]).ok().to_owned();
    let config: Vec<&str> =
        script.lines().skip_while(|l| !l.starts_with("fleet = ")).take_while(|l| l.contains(" = ")).collect();
    assert!(config.contains(&format!("snapshot = \"{hash}\"").as_str()), "{script}");
    let path = sandbox.write("etc/bootstrap.toml", format!("{}\n", config.join("\n")));
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let own = ["--fleet", "sin1/fleet", "--home", "sin1/home"];
    let boots = || sandbox.keys(&[&own[..], &["bootstrap", path.to_str().unwrap()]].concat());
    assert_eq!(boots().exits(4).trim_end(), "keyed");
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(boots().exits(4).trim_end(), "enrolled");
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(boots().ok().trim_end(), "ready");
    fleet.keys_with("alice", &["seal", "nginx@sin1/tls.key"], b"the value").ok();
    sandbox.keys(&[&own[..], &["pull"]].concat()).ok();
    assert_eq!(sandbox.keys(&[&own[..], &["open", "nginx@sin1/tls.key"]].concat()).ok(), "the value");
    let status = sandbox.keys(&[&own[..], &["status", "--json"]].concat()).json();
    assert_eq!(status["began"].as_u64(), Some(size));
    let there: Vec<String> = files(sandbox, "sin1/fleet/keyring").into_keys().collect();
    assert!(!there.iter().any(|path| path == "log/commit/00000000000000000000"), "{there:?}");
    assert_eq!(there.iter().filter(|path| path.starts_with("sealed/")).count(), 1, "its own secrets alone: {there:?}");
    assert_eq!(boots().ok().trim_end(), "ready");
}
