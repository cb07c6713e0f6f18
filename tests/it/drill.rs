//! Restore drills: what comes of one is logged, also when it fails; and private halves in a backup, of which the log knows.

use std::path::Path;
use std::process::Stdio;

use keys::home::Home;

use crate::backup::{backed_up, shares};
use crate::support::{Ran, Sandbox, TestFleet, private_numbers, tests};

tests!["drill":
    a_good_drill_and_a_failed_one_are_logged needs [Gpg],
    a_drill_of_a_backup_uses_its_shares_up,
    status_says_when_a_drill_is_due needs [Faketime],
    private_halves_go_by_name_alone_and_the_log_knows,
    what_a_killed_drill_leaves_the_next_one_removes,
];

fn newest(fleet: &TestFleet<'_>) -> String {
    fleet.keys("alice", &["log", "show", "-v", "-n", "1"]).ok()
}

fn a_good_drill_and_a_failed_one_are_logged(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let drill = || fleet.keys("alice", &["drill", "restore", "--from-keyring", "--json"]);
    // Without a canary nothing is known about opening.
    drill().exits(3);
    assert!(newest(&fleet).contains("a restore of a copy of the keyring was tried: failed"), "{}", newest(&fleet));
    assert!(fleet.keys("alice", &["status"]).ok().contains("the restore drill of alice failed"));
    fleet.keys("alice", &["drill", "canary", "fra1/anything"]).refuses(2, "a canary is named restore-canary");
    fleet.keys("alice", &["drill", "canary", "fra1/restore-canary"]).ok();
    let size = fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64().unwrap();
    let good = drill();
    good.ok();
    let said = good.json();
    assert_eq!((&said["good"], &said["canary"], &said["opened_by"]), (&true.into(), &1.into(), &"keys and gpg".into()));
    assert_eq!(said["size"], size);
    let shown = newest(&fleet);
    assert!(shown.contains("was tried: good") && shown.contains("the canary's version 1"), "{shown}");
    assert!(!fleet.keys("alice", &["status"]).ok().contains("drill"));
    // Whoever replays the log has the same in the state: what the entry says is what the drill said.
    let entry = fleet.keys("bob", &["log", "show", "-n", "1", "--json"]).json();
    let change = &entry["entries"][0]["statement"]["changes"][0];
    assert_eq!((&change["root"], &change["state"], &change["size"]), (&said["root"], &said["state"], &said["size"]));
    // A canary with another value is no proof of anything; and one who cannot open it knows nothing.
    fleet.seal("fra1/restore-canary", "something else");
    let failed = drill();
    failed.exits(3);
    assert!(failed.json()["problems"][0].as_str().unwrap().contains("not the known one"), "{}", failed.stdout());
    assert!(newest(&fleet).contains("was tried: failed"));
    fleet.keys("alice", &["drill", "restore", "--from-keyring", "--without-canary"]).ok();
    assert!(newest(&fleet).contains("no canary"));
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn a_drill_of_a_backup_uses_its_shares_up(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    fleet.keys("alice", &["drill", "canary", "fra1/restore-canary"]).ok();
    let custodians = ["--custodian", "alice", "--custodian", "bob", "--custodian", "carol"];
    fleet.keys("alice", &[&["backup", "--out", "new.backup", "--need", "2"], &custodians[..]].concat()).ok();
    let good = shares(&fleet, "new.backup", "prepared", &["bob", "carol"]);
    fleet.seal("fra1/token", "the fleet goes on after a backup");
    let drill = |shares: &[String]| {
        let args = ["drill", "restore", "new.backup", "--key", "prepared"];
        fleet.keys("alice", &args.into_iter().chain(shares.iter().map(String::as_str)).collect::<Vec<_>>())
    };
    let before = newest(&fleet);
    drill(&good[..2]).refuses(4, "1 of 2 shares are there");
    assert_eq!(newest(&fleet), before, "what could not be begun is no drill");
    let args = ["--fleet", "fleet", "--home", "alice", "drill", "restore", "new.backup", "--key", "prepared"];
    let mut command = sandbox.command();
    command.args(args).args(&good).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let scratch = format!("keys-drill-{}", child.id());
    let said = Ran { line: args.join(" "), output: child.wait_with_output().unwrap() }.ok();
    assert!(said.contains("restored ") && said.contains("canary's version 1"), "{said}");
    assert!(newest(&fleet).contains("a restore of the backup"), "{}", newest(&fleet));
    drill(&good).refuses(1, "there is no one-time key");
    // Its own: what other drills have there meanwhile is theirs, also of those that were killed.
    assert!(!Path::new("/dev/shm").join(&scratch).exists() && !std::env::temp_dir().join(&scratch).exists());
}

fn status_says_when_a_drill_is_due(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[drills]\nrestore = \"3d\"\n")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let status = || fleet.keys("alice", &["status"]).ok();
    assert!(!status().contains("restore drill"), "{}", status());
    sandbox.set_days_later(4);
    assert!(status().contains("a restore drill is due: there was none yet"), "{}", status());
    fleet.keys("alice", &["drill", "restore", "--from-keyring", "--without-canary"]).ok();
    assert!(!status().contains("restore drill"), "{}", status());
    sandbox.set_days_later(8);
    assert!(status().contains("the last good one was 4d"), "{}", status());
}

fn private_halves_go_by_name_alone_and_the_log_knows(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let make = |who: &str, out: &str, more: &[&str]| {
        let args = ["backup", "--out", out, "--need", "2", "--custodian", "alice", "--custodian", "bob"];
        fleet.keys(who, &[&args[..], more].concat())
    };
    let absent = |out: &str| assert!(!sandbox.path(out).exists(), "{out}");
    // Nobody was asked; not of this home; of a machine.
    make("alice", "a.backup", &["--private-halves", "alice"]).refuses(9, "no terminal to ask on");
    make("alice", "a.backup", &["--private-halves", "bob", "--yes"]).refuses(5, "bob is not in this home");
    let of_machine = ["--private-halves", "fra1", "--yes"];
    make("fra1", "a.backup", &of_machine).refuses(1, "made anew, not restored");
    absent("a.backup");
    // Her own, and the authority's.
    let both = ["--private-halves", "alice", "--private-halves", "casc1", "--yes"];
    make("alice", "a.backup", &both).ok();
    let log = fleet.keys("bob", &["log", "show", "-v", "-n", "1"]).ok();
    for name in ["alice", "casc1"] {
        assert!(log.contains(&format!("holds the private halves of {name}; 2 of alice, bob open it")), "{log}");
    }
    // Bob has not the log's key: it waits, and nothing is written before the log knows.
    let waits = make("bob", "b.backup", &["--private-halves", "bob", "--yes"]);
    waits.exits(4);
    absent("b.backup");
    let said = waits.stderr();
    let id = said.trim().rsplit(' ').next().unwrap().to_owned();
    let again = ["--private-halves", "bob", "--logged", &id];
    make("bob", "b.backup", &again).refuses(1, "the log does not know the backup");
    fleet.keys("alice", &["sync"]).ok();
    let other = ["--private-halves", "bob", "--logged", &id, "--custodian", "carol"];
    make("bob", "b.backup", &other).refuses(1, "the log does not know the backup");
    make("bob", "b.backup", &again).ok();
    // What comes out is a home that works, and signs nothing before it is confirmed.
    let good = shares(&fleet, "a.backup", "restored", &["alice", "bob"]);
    let pin = fleet.keys("alice", &["status", "--json"]).json()["id"].as_str().unwrap().to_owned();
    let args = ["--fleet", "nowhere", "--home", "nobody", "restore", "a.backup", "--out", "restored", "--pin", &pin];
    sandbox.keys(&args.into_iter().chain(good.iter().map(String::as_str)).collect::<Vec<_>>()).ok();
    let numbers = |home: &str| {
        let mut found: Vec<Vec<u8>> = private_numbers(&sandbox.path(home)).into_iter().map(|(_, n)| n).collect();
        found.sort();
        found
    };
    assert_eq!(numbers("restored/home"), numbers("alice"));
    let names: Vec<String> = Home::open(&sandbox.path("restored/home"))
        .unwrap()
        .members()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["alice", "casc1"]);
    // Beside the fleet as it is now, whose keyring has no mark.
    let with = |args: &[&str]| sandbox.keys(&[&["--fleet", "fleet", "--home", "restored/home"], args].concat());
    assert_eq!(with(&["open", "fra1/token"]).ok(), "the-value-of-the-token-of-fra1");
    with(&["rm", "fra1/token", "--yes"]).refuses(8, "this home was restored from a backup");
    with(&["restore", "confirm", "--checkpoint", "fleet/keyring/log/checkpoint"]).ok();
    with(&["rm", "fra1/token", "--yes"]).ok();
    // Not a byte of them is in the backup in the clear.
    let bytes = std::fs::read(sandbox.path("a.backup")).unwrap();
    let mut needles = crate::support::Needles::default();
    numbers("alice").iter().for_each(|n| needles.add("alice", n));
    assert_eq!(needles.found_in(&bytes), None);
}

fn what_a_killed_drill_leaves_the_next_one_removes(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let halves = ["--private-halves", "alice", "--private-halves", "casc1", "--yes"];
    let make = ["backup", "--out", "a.backup", "--need", "2", "--custodian", "alice", "--custodian", "bob"];
    fleet.keys("alice", &[&make[..], &halves].concat()).ok();
    let good = shares(&fleet, "a.backup", "prepared", &["alice", "bob"]);
    let args = ["--fleet", "fleet", "--home", "alice", "drill", "restore", "a.backup", "--key", "prepared"];
    let args: Vec<&str> = args.into_iter().chain(good.iter().map(String::as_str)).collect();
    let memory = Path::new("/dev/shm");
    let left = |id: u32| memory.join(format!("keys-drill-{id}"));
    let mut clear = None;
    for _ in 0..20 {
        let mut child = sandbox.start(&args);
        let (id, start) = (child.id(), std::time::Instant::now());
        // Killed as soon as a private half lies there in the clear.
        let home = left(id).join("restored/.restoring/home/members");
        while child.try_wait().unwrap().is_none() && !home.exists() && start.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        let _ = child.kill();
        child.wait().unwrap();
        if home.exists() {
            clear = Some(left(id));
            break;
        }
    }
    let clear = clear.expect("none was killed in time");
    // Whoever lives holds a lock; and what has another name is none of our business.
    let alive = left(std::process::id());
    // Locked before it has the name by which other drills, which run beside this one, take it for a dead one's.
    let unnamed = memory.join(format!("keys-drill-{}-unnamed", std::process::id()));
    std::fs::create_dir(&unnamed).unwrap();
    let lock = std::fs::File::open(&unnamed).unwrap();
    lock.lock().unwrap();
    std::fs::rename(&unnamed, &alive).unwrap();
    let other = memory.join(format!("keys-drill-{}-other", std::process::id()));
    std::fs::create_dir(&other).unwrap();
    fleet.keys("alice", &["drill", "restore", "--from-keyring", "--without-canary"]).ok();
    let found = (clear.exists(), alive.exists(), other.exists());
    let _ = std::fs::remove_dir(&alive);
    let _ = std::fs::remove_dir(&other);
    assert_eq!(found, (false, true, true), "the dead one's, a living one's, another's");
}
