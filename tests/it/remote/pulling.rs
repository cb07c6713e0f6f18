//! Pulling from a directory: what arrives is what the mirror has, and only what stands up to a replay arrives.

use std::collections::BTreeMap;

use keys::disk::{Access, Disk, RealFiles};

use super::{assert_same, files, fleet, id};
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["remote::pulling":
    what_arrives_is_what_the_mirror_has,
    a_wrong_mirror_is_named_and_the_next_one_is_asked,
    a_mirror_that_has_another_past_leaves_evidence,
    an_empty_directory_believes_nobody,
    whoever_waits_makes_anew_what_another_took_away,
];

/// Pulls into `copy/` with a home of its own.
fn pull(sandbox: &Sandbox, args: &[&str]) -> Ran {
    sandbox.keys(&[&["--fleet", "copy", "--home", "reader", "pull"], args].concat())
}

fn verified(sandbox: &Sandbox) {
    sandbox.keys(&["--fleet", "copy", "--home", "reader", "log", "verify"]).ok();
}

/// The files that follow from the log: not what lies about, and not what waits.
fn log_files(sandbox: &Sandbox, directory: &str) -> BTreeMap<String, Vec<u8>> {
    let all = files(sandbox, directory).into_iter();
    all.filter(|(path, _)| !path.starts_with("proposals/") && path != ".writing").collect()
}

fn what_arrives_is_what_the_mirror_has(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let id = id(&fleet);
    let first = pull(sandbox, &["--from", "fleet", "--pin", &id, "--json"]);
    first.ok();
    assert_eq!(first.json()["before"], 0);
    assert_same(&log_files(sandbox, "copy/keyring"), &log_files(sandbox, "fleet/keyring"), "what was pulled");
    verified(sandbox);
    assert!(files(sandbox, "copy/.pull").is_empty(), "what was laid down is gone");

    let again = pull(sandbox, &["--from", "fleet"]);
    assert!(again.ok().starts_with("up to date: "), "{}", again.stdout());

    // A secret that is new, one that changes, one that goes; a member who goes; more entries than a tile has.
    fleet.seal("nginx@fra1/tls.key", "two");
    fleet.seal("nginx@fra1/other", "three");
    fleet.join("ams1", "");
    fleet.settle(&["fra1", "ams1"]);
    assert!(!pull(sandbox, &["--from", "fleet"]).ok().starts_with("up to date"));
    assert_same(&log_files(sandbox, "copy/keyring"), &log_files(sandbox, "fleet/keyring"), "what was pulled");
    fleet.keys("alice", &["rm", "nginx@fra1/other", "--yes"]).ok();
    fleet.keys("alice", &["revoke", "ams1", "--reason", "retired", "--yes"]).ok();
    pull(sandbox, &["--from", "fleet"]).ok();
    assert_same(&log_files(sandbox, "copy/keyring"), &log_files(sandbox, "fleet/keyring"), "what was pulled");
    verified(sandbox);
    // The machine opens what was brought.
    sandbox.keys(&["--fleet", "copy", "--home", "fra1", "open", "nginx@fra1/tls.key"]).ok();
}

fn a_wrong_mirror_is_named_and_the_next_one_is_asked(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let id = id(&fleet);
    pull(sandbox, &["--from", "fleet", "--pin", &id]).ok();
    let before = files(sandbox, "copy/keyring");
    fleet.seal("nginx@fra1/tls.key", "two");
    let good = files(sandbox, "fleet/keyring");
    let new: Vec<&String> =
        good.iter().filter(|(path, bytes)| before.get(*path) != Some(bytes)).map(|(p, _)| p).collect();
    assert!(
        new.iter().any(|p| p.starts_with("sealed/")) && new.iter().any(|p| p.starts_with("log/commit/")),
        "{new:?}"
    );
    let mut asked = 0;
    // Tiles and certificates are made here from what is brought; what a mirror says of them does not matter.
    let asks = |path: &str| !path.starts_with("log/tile/") && !path.starts_with("certs/");
    for path in new.iter().filter(|path| asks(path)) {
        let bytes = &good[*path];
        let flipped = |at: usize| [&bytes[..at], &[bytes[at] ^ 1], &bytes[at + 1..]].concat();
        let half = bytes.len() / 2;
        let cuts = [Vec::new(), bytes[..1].to_vec(), bytes[..half].to_vec(), bytes[..bytes.len() - 1].to_vec()];
        let flips = [0, half, bytes.len() - 1].map(flipped);
        let longer = [bytes.as_slice(), b"x"].concat();
        for wrong in cuts.into_iter().chain(flips).chain([longer]).map(Some).chain([None]) {
            sandbox.copy("fleet", "mirror");
            let target = sandbox.path("mirror/keyring").join(path);
            match &wrong {
                Some(wrong) => std::fs::write(&target, wrong).unwrap(),
                None => std::fs::remove_file(&target).unwrap(),
            }
            let ran = pull(sandbox, &["--from", "mirror"]);
            let said = ran.stderr();
            assert!([3, 7].contains(&ran.code()), "{path} {:?}: {said}", wrong.map(|w| w.len()));
            assert!(said.contains("mirror"), "{path}: {said}");
            assert_same(&files(sandbox, "copy/keyring"), &before, &format!("{path}: nothing has changed"));
            asked += 1;
        }
    }
    assert!(asked >= 24, "{asked}");
    verified(sandbox);
    let ran = pull(sandbox, &["--from", "mirror", "--from", "nowhere", "--from", "fleet"]);
    ran.ok();
    assert!(ran.stderr().contains("mirror mirror: ") && ran.stderr().contains("mirror nowhere: "), "{}", ran.stderr());
    assert_same(&log_files(sandbox, "copy/keyring"), &log_files(sandbox, "fleet/keyring"), "what was pulled");
}

fn a_mirror_that_has_another_past_leaves_evidence(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let id = id(&fleet);
    let vkey = fleet.keys("alice", &["log", "vkey"]).ok().trim().to_owned();
    sandbox.copy("fleet", "twin");
    sandbox.copy("alice", "twin-alice");
    fleet.seal("nginx@fra1/tls.key", "here");
    let other = |value: &str| {
        let args = ["--fleet", "twin", "--home", "twin-alice", "seal", "nginx@fra1/tls.key"];
        sandbox.keys_with(&args, value.as_bytes()).ok();
    };
    other("there");
    // Whose home it is remembers what shows it.
    let pull = |from: &str| sandbox.keys(&["--fleet", "copy", "--home", "fra1", "pull", "--from", from, "--pin", &id]);
    pull("fleet").ok();
    let evidence = || std::fs::read_dir(sandbox.path("fra1/evidence")).map_or(0, Iterator::count);
    for _ in 0..2 {
        let ran = pull("twin");
        ran.exits(3);
        assert!(ran.stderr().contains("FORK"), "{}", ran.stderr());
        let count = evidence();
        assert!(count >= 1, "{}", ran.stderr());
        for file in std::fs::read_dir(sandbox.path("fra1/evidence")).unwrap() {
            let file = file.unwrap().path().display().to_string();
            sandbox.keys(&["log", "evidence", &file, "--vkey", &vkey]).ok();
        }
        // The next time it is a longer one.
        other("still there");
    }
    sandbox.keys(&["--fleet", "copy", "--home", "fra1", "log", "verify"]).ok();

    // One that is behind is no fork, and shows nothing but that.
    let before = evidence();
    sandbox.copy("fleet", "old");
    fleet.seal("nginx@fra1/tls.key", "newer");
    pull("fleet").ok();
    let ran = pull("old");
    ran.exits(7);
    assert!(ran.stderr().contains("it is behind"), "{}", ran.stderr());
    assert_eq!(evidence(), before);

    // A machine that has lost its keyring still knows what it has seen.
    std::fs::remove_dir_all(sandbox.path("copy")).unwrap();
    let ran = pull("old");
    ran.exits(3);
    assert!(ran.stderr().contains("ROLLBACK"), "{}", ran.stderr());
    pull("fleet").ok();
}

fn an_empty_directory_believes_nobody(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let id = id(&fleet);
    let ran = pull(sandbox, &["--from", "fleet"]);
    ran.exits(5);
    assert!(ran.stderr().contains("no fleet is pinned"), "{}", ran.stderr());
    let stranger = Sandbox::new("stranger");
    TestFleet::of_one(&stranger);
    let theirs = stranger.path("fleet").display().to_string();
    let ran = pull(sandbox, &["--from", &theirs, "--pin", &id]);
    ran.exits(3);
    assert!(ran.stderr().contains("it shows the fleet"), "{}", ran.stderr());
    // Also where there is a keyring.
    pull(sandbox, &["--from", "fleet", "--pin", &id]).ok();
    let before = files(sandbox, "copy/keyring");
    pull(sandbox, &["--from", &theirs]).exits(3);
    assert_same(&files(sandbox, "copy/keyring"), &before, "the keyring");
    pull(sandbox, &[]).exits(2);
    stranger.finish(true);
}

fn whoever_waits_makes_anew_what_another_took_away(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let id = id(&fleet);
    // Another has begun to pull into the same new directory.
    for name in ["keyring", ".pull"] {
        std::fs::create_dir_all(sandbox.path("copy").join(name)).unwrap();
    }
    let other = Disk::new(RealFiles::open(&sandbox.path("copy/.pull"), Access::Public).unwrap());
    let lock = other.try_lock().unwrap().unwrap();
    let ran = std::thread::scope(|scope| {
        let waits = scope.spawn(|| pull(sandbox, &["--from", "fleet", "--pin", &id]));
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        assert!(!waits.is_finished(), "it waits for the other");
        std::fs::remove_dir(sandbox.path("copy/keyring")).unwrap();
        std::fs::remove_dir(sandbox.path("copy/.pull")).unwrap();
        std::fs::remove_dir(sandbox.path("copy")).unwrap();
        drop(lock);
        waits.join().unwrap()
    });
    ran.ok();
    verified(sandbox);
}
