//! What must not be read stays where it is: after a whole life no private key and no sealed value is in any file outside
//! the home it belongs to, and nobody but its owner can open a home.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keys::ssh::SshPrivateKey;
use rand::SeedableRng as _;

use crate::support::{Needles, Sandbox, TestFleet, files_below, private_numbers, tests};

tests!["secrecy":
    no_private_key_and_no_value_leaves_its_home,
    homes_are_private_under_a_lax_umask,
    homes_are_private_under_a_strict_umask,
    a_home_that_others_can_read_is_refused,
];

const HOMES: [&str; 4] = ["alice", "bob", "fra1", "ams1"];

/// The values that are sealed; nothing else may look like them.
const VALUES: [(&str, &str); 3] = [
    ("nginx@fra1/tls.key", "the-first-value-of-nginx-at-fra1-tls-key-0001"),
    ("nginx@fra1/tls.key", "the-second-value-of-nginx-at-fra1-tls-key-002"),
    ("ams1/registry-token", "a-registry-token-for-ams1-and-nobody-else-003"),
];

/// The private numbers seen so far, and in whose home.
#[derive(Default)]
struct Seen(BTreeMap<Vec<u8>, String>);

impl Seen {
    /// Notes what is in the homes now. No number is ever in two.
    fn note(&mut self, sandbox: &Sandbox) {
        for home in HOMES.iter().filter(|h| sandbox.path(h).exists()) {
            for (file, number) in private_numbers(&sandbox.path(home)) {
                let first = self.0.entry(number).or_insert_with(|| (*home).to_owned());
                assert_eq!(first, home, "{}", file.display());
            }
        }
    }

    /// All of them, and the sealed values.
    fn needles(&self) -> Needles {
        let mut needles = Needles::default();
        self.0.iter().for_each(|(number, home)| needles.add(home, number));
        VALUES.iter().for_each(|(address, value)| needles.add(address, value.as_bytes()));
        needles
    }
}

/// The files of the sandbox that hold what is another's, or no home's at all, and how many files outside were read.
fn strays(sandbox: &Sandbox, needles: &Needles) -> (Vec<PathBuf>, usize) {
    let (mut strays, mut outside) = (Vec::new(), 0);
    for file in files_below(sandbox.root()) {
        let place = file.strip_prefix(sandbox.root()).unwrap().components().next().unwrap();
        let home = HOMES.into_iter().find(|home| place.as_os_str() == *home);
        outside += usize::from(home.is_none());
        if needles.found_in(&std::fs::read(&file).unwrap()).is_some_and(|found| Some(found) != home) {
            strays.push(file);
        }
    }
    (strays, outside)
}

fn no_private_key_and_no_value_leaves_its_home(sandbox: &Sandbox) {
    let mut seen = Seen::default();
    live(sandbox, &mut seen);
    assert!(seen.0.len() > 60, "{} private numbers over this life", seen.0.len());
    let needles = seen.needles();
    let (found, outside) = strays(sandbox, &needles);
    assert_eq!(found, Vec::<PathBuf>::new());
    assert!(outside > 100, "{outside} files were read");
    finds_what_is_planted(sandbox, &needles);
}

/// The measure itself: at home the keys are found, and so is whatever of them, or of a value, is put elsewhere.
fn finds_what_is_planted(sandbox: &Sandbox, needles: &Needles) {
    for home in HOMES {
        let found = |file: &PathBuf| needles.found_in(&std::fs::read(file).unwrap()) == Some(home);
        let with_keys = files_below(&sandbox.path(home)).iter().filter(|f| found(f)).count();
        assert!(with_keys > 0, "{home}'s own keys are found at home");
    }
    let mut planted = Vec::new();
    let key_files = files_below(&sandbox.path("fra1/members"));
    for (i, file) in key_files.iter().filter(|f| f.extension().is_some_and(|e| e == "tsk" || e == "key")).enumerate() {
        planted.push(sandbox.write(&format!("fleet/keyring/objects/planted-{i:02}"), std::fs::read(file).unwrap()));
    }
    assert!(planted.len() >= 6, "{planted:?}");
    // In somebody else's home, in the middle of another file, in hexadecimal, in base64 with other bytes before it.
    let number = private_numbers(&sandbox.path("fra1")).remove(0).1;
    let hex: String = number.iter().map(|b| format!("{b:02x}")).collect();
    planted.push(sandbox.write("ams1/members/copy", [b"one byte and ", &number[..], b" more"].concat()));
    planted.push(sandbox.write("said-hex", format!("log: {hex}\n")));
    planted.push(sandbox.write("said-base64", STANDARD.encode([b"a", &number[..]].concat())));
    planted.push(sandbox.write("said-value", format!("value={}", VALUES[1].1)));
    planted.sort();
    let (mut found, _) = strays(sandbox, needles);
    found.sort();
    assert_eq!(found, planted);
}

/// A fleet's life with everything that writes files.
fn live(sandbox: &Sandbox, seen: &mut Seen) {
    let fleet = TestFleet::of_two(sandbox);
    let changes = |who: &str, args: &[&str]| {
        if fleet.keys(who, args).code() == 4 {
            fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
        }
        fleet.keys("alice", &["sync"]).ok();
    };
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "");
    seen.note(sandbox);
    for (address, value) in VALUES {
        fleet.seal(address, value);
    }
    assert_eq!(fleet.keys("fra1", &["open", VALUES[1].0]).ok(), VALUES[1].1);
    assert_eq!(fleet.keys("fra1", &["open", VALUES[2].0]).exits(3), "");
    for _ in 0..2 {
        changes("alice", &["rotate", "--all", "--soon", "--yes"]);
        seen.note(sandbox);
        fleet.settle(&["fra1", "ams1", "bob"]);
        seen.note(sandbox);
    }
    let person = SshPrivateKey::generate(&mut rand::rngs::StdRng::from_seed([9; 32]));
    let public = sandbox.write("id.pub", format!("{}\n", person.public())).display().to_string();
    for line in ["ssh sign host", "wg render --out wg", "ring export --out ring", "ring export --gpg --out ring-gpg"] {
        fleet.keys("alice", &line.split(' ').collect::<Vec<_>>()).ok();
    }
    fleet.keys("alice", &["ssh", "sign", "user", "alice", "--key", &public]).ok();
    fleet.keys("alice", &["ssh", "render", "--node", "fra1", "--out", "ssh"]).ok();
    fleet.keys("alice", &["log", "show", "0", "--raw", "raw"]).ok();
    changes("alice", &["revoke", "ams1", "--reason", "compromised", "--yes"]);
    for (name, line) in [("status", "status -v"), ("log", "log show"), ("verify", "log verify --json"), ("ls", "ls")] {
        let ran = fleet.keys("alice", &line.split(' ').collect::<Vec<_>>());
        ran.ok();
        sandbox.write(&format!("said-{name}"), ran.stdout() + &ran.stderr());
    }
    seen.note(sandbox);
}

/// Every file 0600, every directory 0700, the home itself included.
fn assert_private(home: &Path) {
    let mode = |path: &Path| path.symlink_metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(home), 0o700, "{}", home.display());
    for entry in std::fs::read_dir(home).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            assert_private(&entry);
        } else {
            assert_eq!(mode(&entry), 0o600, "{}", entry.display());
        }
    }
}

/// A shorter life with everything that writes into homes.
fn lives_privately(sandbox: &Sandbox, umask: &'static str) {
    sandbox.set_umask(umask);
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal(VALUES[0].0, VALUES[0].1);
    fleet.keys("alice", &["rotate", "--all", "--soon", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    fleet.keys("bob", &["enroll", "bob", "--operator", "Bob <bob@ops.example>"]).ok();
    assert_eq!(fleet.keys("fra1", &["open", VALUES[0].0]).ok(), VALUES[0].1);
    for home in ["alice", "bob", "fra1"] {
        assert_private(&sandbox.path(home));
        assert!(!private_numbers(&sandbox.path(home)).is_empty());
    }
}

fn homes_are_private_under_a_lax_umask(sandbox: &Sandbox) {
    lives_privately(sandbox, "000");
    // The measure itself: what is public was made under that umask.
    let mode = std::fs::metadata(sandbox.path("fleet/keyring/log/checkpoint")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644);
}

fn homes_are_private_under_a_strict_umask(sandbox: &Sandbox) {
    lives_privately(sandbox, "077");
    let mode = std::fs::metadata(sandbox.path("fleet/keyring/log/checkpoint")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

fn a_home_that_others_can_read_is_refused(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "a value");
    for mode in [0o750, 0o705, 0o710, 0o701, 0o720, 0o777] {
        std::fs::set_permissions(sandbox.path("fra1"), std::fs::Permissions::from_mode(mode)).unwrap();
        for line in ["open nginx@fra1/tls.key", "sync", "status", "enroll fra1 --service dns"] {
            let ran = fleet.keys("fra1", &line.split(' ').collect::<Vec<_>>());
            ran.refuses(1, "hint: run: chmod 700 fra1");
            assert_eq!(ran.stdout(), "", "{line} at {mode:o}");
        }
    }
    std::fs::set_permissions(sandbox.path("fra1"), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/tls.key"]).ok(), "a value");
    // The command that is to be run is one line for a shell, whatever the home is called.
    let fra1 = sandbox.path("fra1").display().to_string();
    std::fs::rename(&fra1, sandbox.path("fra1 & 'co'")).unwrap();
    std::fs::set_permissions(sandbox.path("fra1 & 'co'"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = fleet.keys("fra1 & 'co'", &["open", "nginx@fra1/tls.key"]);
    ran.refuses(1, "hint: run: ");
    let command = ran.stderr().lines().find_map(|l| l.strip_prefix("hint: run: ").map(str::to_owned)).unwrap();
    let mut shell = std::process::Command::new("/bin/sh");
    crate::support::Ran::of(shell.args(["-c", &command]).current_dir(sandbox.root())).ok();
    assert_eq!(fleet.keys("fra1 & 'co'", &["open", "nginx@fra1/tls.key"]).ok(), "a value");
}
