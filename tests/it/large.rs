//! Values that do not fit into memory: in parts, each verified before a byte of it is given out, and all of them before the first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keys::digest::Digest;
use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Fleet, Known};
use keys::home::Home;
use keys::limits::{PART_BYTES, PARTS_MAX, SECRET_BYTES_MAX};
use keys::name::Address;
use keys::ops;
use keys::statement::{Act, Seal};
use keys::store::Store;

use crate::support::stage::{Stage, member};
use crate::support::{GpgHome, Sandbox, TestFleet, now, tests};

tests!["large":
    a_large_value_lives_as_any_other,
    a_wrong_part_is_named_before_anything_is_given_out,
    whoever_has_not_the_logs_key_hands_it_in_by_file,
    mirrors_bring_the_parts_to_their_readers,
    killed_while_it_is_sealed_the_value_is_the_old_or_the_new_one,
    another_program_opens_it needs [Gpg],
    a_statement_names_parts_in_one_way,
];

const ADDRESS: &str = "fra1/dump";

/// A value of that many bytes, no two lines of it alike.
fn value(bytes: usize, seed: u8) -> String {
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(&format!("{seed:03} {:011}\n", text.len()));
    }
    text.truncate(bytes);
    text
}

/// A little more than may be held in memory: ten parts, the last of which is short.
fn large(seed: u8) -> String {
    value(SECRET_BYTES_MAX + PART_BYTES + 4_321, seed)
}

fn address() -> Address {
    ADDRESS.parse().unwrap()
}

/// Where the parts lie, in no order that says anything.
fn parts(fleet: &TestFleet<'_>) -> Vec<PathBuf> {
    let directory = fleet.keyring(&address().parts_directory());
    let found = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet
}

fn opens(fleet: &TestFleet<'_>, who: &str, value: &str) {
    let opened = fleet.keys(who, &["open", ADDRESS]).ok();
    assert!(opened == value, "{who} got {} bytes, another value than that of {}", opened.len(), value.len());
}

fn nothing_waits(fleet: &TestFleet<'_>) {
    let waiting = std::fs::read_dir(fleet.keyring("objects/sealed")).map_or(0, |found| found.count());
    assert_eq!(waiting, 0, "sealed files that nobody has moved or removed");
}

fn a_large_value_lives_as_any_other(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (first, second) = (large(1), large(2));
    fleet.keys_with("alice", &["seal", ADDRESS], first.as_bytes()).ok();
    assert_eq!(parts(&fleet).len(), 10);
    assert!(parts(&fleet).iter().all(|path| {
        let bytes = std::fs::read(path).unwrap();
        Digest::of(&bytes).to_string() == path.file_name().unwrap().to_str().unwrap()
    }));
    for who in ["alice", "fra1"] {
        opens(&fleet, who, &first);
    }
    nothing_waits(&fleet);
    fleet.keys("alice", &["log", "verify"]).ok();
    fleet.keys("alice", &["lint"]).ok();

    // What would hold it in memory says so, and how it is had.
    for args in [
        &["open", ADDRESS, "--key", "a"][..],
        &["exec", &format!("DUMP={ADDRESS}"), "--", "true"],
        &["diff", ADDRESS, "--in", "nothing"],
        &["export", "pass", "--from", ADDRESS, "--gpg-id", "fra1", "store"],
    ] {
        let ran = fleet.keys("alice", args);
        assert_ne!(ran.code(), 0, "{args:?}");
        assert!(ran.stderr().contains("10 parts of up to 8 MiB"), "{args:?}: {}", ran.stderr());
        assert!(ran.stderr().contains("'keys open fra1/dump' gives it out"), "{args:?}: {}", ran.stderr());
    }
    let structured = ["seal", ADDRESS, "--values=env"];
    fleet.keys_with("alice", &structured, second.as_bytes()).refuses(1, "--whole");
    opens(&fleet, "alice", &first);
    nothing_waits(&fleet);

    // Other readers: the list is sealed to them, and no part is touched.
    let (before, list) = (parts(&fleet), std::fs::read(fleet.keyring(&address().path())).unwrap());
    let policy = sandbox.path("fleet/policy/secrets.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, format!("{text}\n[[secret]]\nmatch = \"fra1/*\"\nwrite_only = true\n")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.keys("alice", &["reseal", "--yes"]).ok();
    assert_eq!(parts(&fleet), before);
    assert_ne!(std::fs::read(fleet.keyring(&address().path())).unwrap(), list);
    opens(&fleet, "fra1", &first);
    fleet.keys("alice", &["open", ADDRESS]).refuses(3, "sealed to other keys");

    // A new value takes the place of the old one, a copy has parts of its own, a small value has none.
    let file = sandbox.write("value", &second);
    fleet.keys("fra1", &["seal", ADDRESS, "--in", file.to_str().unwrap()]).exits(4);
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    assert!(parts(&fleet).len() == 10 && parts(&fleet).iter().all(|part| !before.contains(part)));
    opens(&fleet, "fra1", &second);
    fleet.keys("fra1", &["cp", ADDRESS, "fra1/copy", "--yes"]).exits(4);
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    fleet.keys_with("alice", &["seal", ADDRESS], b"small").ok();
    assert!(parts(&fleet).is_empty());
    opens(&fleet, "fra1", "small");
    assert!(fleet.keys("fra1", &["open", "fra1/copy"]).ok() == second);
    fleet.keys("fra1", &["mv", "fra1/copy", ADDRESS, "--force", "--yes"]).exits(4);
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    opens(&fleet, "fra1", &second);
    fleet.keys("alice", &["rm", ADDRESS, "--yes"]).ok();
    assert!(!fleet.keyring("sealed/fra1").exists(), "nothing is left of it");
    nothing_waits(&fleet);
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn a_wrong_part_is_named_before_anything_is_given_out(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let first = large(1);
    fleet.keys_with("alice", &["seal", ADDRESS], first.as_bytes()).ok();
    sandbox.copy("fleet", "sound");
    let restored = || {
        sandbox.copy("sound", "fleet");
        parts(&fleet)
    };
    type Harm = fn(&[PathBuf]);
    let harms: [(&str, Harm); 5] = [
        ("a bit of one", |parts| {
            let mut bytes = std::fs::read(&parts[7]).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&parts[7], bytes).unwrap();
        }),
        ("one cut short", |parts| {
            let bytes = std::fs::read(&parts[3]).unwrap();
            std::fs::write(&parts[3], &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("one gone", |parts| std::fs::remove_file(&parts[9]).unwrap()),
        ("two in each other's place", |parts| {
            let (a, b) = (std::fs::read(&parts[0]).unwrap(), std::fs::read(&parts[1]).unwrap());
            std::fs::write(&parts[0], b).unwrap();
            std::fs::write(&parts[1], a).unwrap();
        }),
        ("one much larger than a part", |parts| {
            let file = std::fs::OpenOptions::new().write(true).open(&parts[5]).unwrap();
            file.set_len(1 << 40).unwrap();
        }),
    ];
    for (name, harm) in harms {
        harm(&restored());
        let ran = fleet.keys("fra1", &["open", ADDRESS]);
        assert_eq!((ran.code(), ran.stdout().len()), (3, 0), "{name}: {}", ran.stderr());
        assert!(
            ran.stderr().contains("fra1/dump: part ") && ran.stderr().contains(" of 10 "),
            "{name}: {}",
            ran.stderr()
        );
        let verified = fleet.keys("alice", &["log", "verify"]);
        assert_eq!(verified.code(), 3, "{name}");
        let said = format!("{}{}", verified.stdout(), verified.stderr());
        assert!(said.contains("sealed/fra1/dump.parts/"), "{name}: {said}");
        assert!(fleet.keys("alice", &["lint"]).exits(3).contains("dump.parts"), "{name}");
    }
    // What nobody has sealed lies in nobody's way, and is named.
    restored();
    let strange = fleet.keyring(&address().part_path(&Digest::of(b"strange")));
    std::fs::write(&strange, b"strange").unwrap();
    opens(&fleet, "fra1", &first);
    assert!(fleet.keys("alice", &["log", "verify"]).ok().contains("not the newest"));
    // Parts of a value in an address of another one open nothing there: the list is signed for its address.
    std::fs::remove_file(strange).unwrap();
    fleet.keys_with("alice", &["seal", "fra1/other"], large(2).as_bytes()).ok();
    let other: Address = "fra1/other".parse().unwrap();
    std::fs::copy(fleet.keyring(&address().path()), fleet.keyring(&other.path())).unwrap();
    fleet.keys("fra1", &["open", "fra1/other"]).exits(3);
}

fn whoever_has_not_the_logs_key_hands_it_in_by_file(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (first, second) = (large(1), large(2));
    fleet.keys_with("fra1", &["seal", ADDRESS], first.as_bytes()).exits(4);
    let waiting = std::fs::read_dir(fleet.keyring("objects/sealed")).unwrap().count();
    assert_eq!(waiting, 11, "ten parts and their list");
    let shown = fleet.keys("alice", &["approve", "--all", "--dry-run"]);
    assert!(shown.stderr().contains("a large value in 10 parts"), "{}{}", shown.stdout(), shown.stderr());
    // It is more than a server takes: whoever hands in hears so, and it goes on waiting where it is.
    let ran = fleet.keys("fra1", &["submit", "--to", "http://127.0.0.1:9"]);
    assert!(ran.code() != 0 && ran.stderr().contains("larger ones go by file"), "{}{}", ran.stdout(), ran.stderr());
    // With a part that is another one it is not taken in.
    let one = std::fs::read_dir(fleet.keyring("objects/sealed")).unwrap().next().unwrap().unwrap().path();
    let kept = std::fs::read(&one).unwrap();
    std::fs::write(&one, &kept[1..]).unwrap();
    fleet.keys("alice", &["approve", "--all", "--yes"]);
    fleet.keys("alice", &["open", ADDRESS]).exits(5);
    std::fs::write(&one, kept).unwrap();
    fleet.keys("alice", &["sync"]).ok();
    opens(&fleet, "alice", &first);
    nothing_waits(&fleet);
    // One that is withdrawn takes its parts with it.
    fleet.keys_with("fra1", &["seal", ADDRESS], second.as_bytes()).exits(4);
    let id = std::fs::read_dir(fleet.keyring("proposals")).unwrap();
    let id = id.map(|e| e.unwrap().file_name().into_string().unwrap()).find(|name| name.len() == 64).unwrap();
    fleet.keys("fra1", &["withdraw", &id, "--yes"]).ok();
    nothing_waits(&fleet);
    opens(&fleet, "alice", &first);
}

fn mirrors_bring_the_parts_to_their_readers(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.join("ams1", "");
    let first = large(1);
    fleet.keys_with("alice", &["seal", ADDRESS], first.as_bytes()).ok();
    fleet.keys("alice", &["publish", "--static", "static"]).ok();
    let pin = fleet.keys("alice", &["status", "--json"]).json()["id"].as_str().unwrap().to_owned();
    for (who, from, has) in [("fra1", "static", 10), ("ams1", "static", 0), ("fra1", "fleet", 10)] {
        let copy = format!("copy-{who}-{from}");
        let own = ["--fleet", copy.as_str(), "--home", who];
        let pull = ["pull", "--from", from, "--own", "--remember", "--pin", &pin];
        let ran = sandbox.keys(&[&own[..], &pull].concat());
        ran.ok();
        let parts = sandbox.path(&copy).join("keyring").join(address().parts_directory());
        assert_eq!(
            std::fs::read_dir(parts).map_or(0, |found| found.count()),
            has,
            "{who} from {from}: {}",
            ran.stderr()
        );
        sandbox.keys(&[&own[..], &["log", "verify"]].concat()).ok();
        let opened = sandbox.keys(&[&own[..], &["open", ADDRESS]].concat());
        if has > 0 {
            assert!(opened.ok() == first, "{who} from {from}");
        } else {
            assert_ne!(opened.code(), 0);
        }
    }
    // A mirror without one of them is not one to begin with.
    let hole = sandbox.path("static/keyring").join(address().parts_directory());
    let hole = std::fs::read_dir(hole).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&hole).unwrap();
    let ran = sandbox.keys(&["--fleet", "late", "--home", "fra1", "pull", "--from", "static", "--pin", &pin]);
    assert!(ran.code() != 0 && ran.stderr().contains(hole.file_name().unwrap().to_str().unwrap()), "{}", ran.stderr());
    // It goes when the value does.
    fleet.keys_with("alice", &["seal", ADDRESS], b"small").ok();
    fleet.keys("alice", &["publish", "--static", "static"]).ok();
    let own = ["--fleet", "copy-fra1-fleet", "--home", "fra1"];
    sandbox.keys(&[&own[..], &["pull", "--from", "static"]].concat()).ok();
    assert_eq!(sandbox.keys(&[&own[..], &["open", ADDRESS]].concat()).ok(), "small");
    for place in ["static", "copy-fra1-fleet"] {
        let parts = sandbox.path(place).join("keyring").join(address().parts_directory());
        assert_eq!(std::fs::read_dir(parts).map_or(0, |found| found.count()), 0, "{place}");
    }
}

fn killed_while_it_is_sealed_the_value_is_the_old_or_the_new_one(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (first, second) = (large(1), large(2));
    fleet.keys_with("alice", &["seal", ADDRESS], first.as_bytes()).ok();
    let file = sandbox.write("value", &second);
    let staged = || std::fs::read_dir(fleet.keyring("objects/sealed")).map_or(0, |found| found.count());
    // Killed at its first part, at its fifth, at its last: always before the entry is there, or shortly after.
    let mut killed = 0;
    for wanted in [1, 5, 10] {
        let args = ["--fleet", "fleet", "--home", "alice", "seal", ADDRESS, "--in", file.to_str().unwrap()];
        let mut child = sandbox.start(&args);
        while staged() < wanted && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().unwrap();
        killed += usize::from(staged() >= wanted);
        let opened = fleet.keys("fra1", &["open", ADDRESS]).ok();
        assert!(opened == first || opened == second, "{wanted}");
        // The next writer leaves nothing behind of it.
        fleet.keys("alice", &["sync"]).ok();
        nothing_waits(&fleet);
        assert_eq!(parts(&fleet).len(), 10);
        assert!(fleet.keys("fra1", &["open", ADDRESS]).ok() == opened);
        fleet.keys("alice", &["log", "verify"]).ok();
        let home = std::fs::read_dir(sandbox.path("alice")).unwrap();
        let spools = home.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("spool")).count();
        assert_eq!(spools, 0);
    }
    assert!(killed > 0, "it was killed too late each time");
}

fn another_program_opens_it(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let first = large(1);
    fleet.keys_with("alice", &["seal", ADDRESS], first.as_bytes()).ok();
    let gpg = GpgHome::new(sandbox, "gnupg");
    let decrypted = |session: &str, file: &Path| {
        gpg.run(&["--override-session-key", session, "--decrypt", file.to_str().unwrap()]).stdout()
    };
    let disk = Disk::new(RealFiles::open(&fleet.keyring(""), Access::Public).unwrap());
    let mut opened = Fleet::open(Store::new(disk), &Known::default(), now(), &mut |_, _| {}).unwrap();
    let home = Home::open(&sandbox.path("fra1")).unwrap();
    let (session, _) = ops::session_key(&address(), &home, &mut opened).unwrap().unwrap();
    let list = decrypted(&session, &fleet.keyring(&address().path()));
    assert!(list.starts_with("keys/large/v1\nprofile compat\nsize "), "{list}");
    let parts: Vec<(&str, &str)> =
        list.lines().filter_map(|line| line.strip_prefix("part ")?.split_once(' ')).collect();
    assert_eq!(parts.len(), 10);
    let all = parts
        .iter()
        .map(|(file, key)| decrypted(&format!("9:{key}"), &fleet.keyring(&address().parts_directory()).join(file)));
    assert!(all.collect::<String>() == first);
}

fn a_statement_names_parts_in_one_way(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &[]);
    let mut replay = stage.replay();
    let mut fleet = stage.prepared("alice");
    let plan = ops::plan_seal(&address(), &mut fleet).unwrap();
    let home = &stage.homes[&member("alice")];
    let draft = ops::seal(&plan, b"value", "sealed", None, home, &mut fleet).unwrap();
    for object in &draft.objects {
        fleet.store().stage(object).unwrap();
    }
    let Act::Seal(list) = draft.act else { panic!("no seal") };
    let named = |n: usize| -> Vec<Digest> { (0..n).map(|i| Digest::of(&i.to_be_bytes())).collect() };
    let with = |parts: Vec<Digest>, shape: Option<Digest>| Act::Seal(vec![Seal { parts, shape, ..list[0].clone() }]);
    let twice = [named(3), named(1)].concat();
    for (what, act) in [
        ("more parts than a value may have", with(named(PARTS_MAX + 1), None)),
        ("names one of its files twice", with(twice, None)),
        ("names one of its files twice", with(vec![list[0].file], None)),
        ("both a shape and parts", with(named(2), Some(list[0].recipients))),
    ] {
        let verdict = stage.judge(&mut replay, act, &["alice"]);
        assert!(format!("{verdict:?}").contains(what), "{what}: {verdict:?}");
    }
    // As many as there may be fit into an entry.
    let verdict = stage.judge(&mut replay, with(named(PARTS_MAX), None), &["alice"]);
    assert!(verdict.void.is_empty(), "{verdict:?}");
}
