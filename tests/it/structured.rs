//! Structured files: sealed whole, their shape readable, and nothing shown that is not there.

use crate::import::{fleet, opened};
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["structured":
    the_shape_is_readable_without_a_key_and_the_file_comes_back,
    every_format_is_sealed_and_opened,
    one_value_is_opened_by_its_way,
    the_shape_goes_with_the_value,
    a_shape_that_is_not_the_values_is_refused,
    what_is_no_such_file_is_refused_with_its_line,
    a_thousand_values_are_quick,
];

const FILE: &str = "# the database\ndb:\n  user: 'web'   # said\n  password: hid den\n  # password: hidden before\n  key: |\n    hidden\n    lines\nport: 5432\n";
const SHAPE: &str =
    "# the database\ndb:\n  user: <text> # said\n  password: <text>\n  # <comment>\n  key: <text>\nport: <integer>\n";

fn shapes(fleet: &TestFleet<'_>, who: &str) -> serde_json::Value {
    let ran = fleet.keys(who, &["ls", "--shape", "--json"]);
    ran.ok();
    ran.json()["shapes"].clone()
}

fn the_shape_is_readable_without_a_key_and_the_file_comes_back(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    sandbox.write("app.yaml", FILE);
    let seal = ["seal", "nginx@fra1/app", "--values", "--in", "app.yaml"];
    let dry = fleet.keys("alice", &[&seal[..], &["--dry-run"]].concat());
    let said = dry.exits(9);
    assert!(said.contains("  password: <text>") && !said.contains("hid"), "{said}");
    fleet.keys("alice", &seal).ok();
    // A home without a key, and none at all.
    assert_eq!(shapes(&fleet, "nobody")[0]["shape"], SHAPE);
    assert_eq!(shapes(&fleet, "nobody")[0]["format"], "yaml");
    let shown = fleet.keys("nobody", &["ls", "--shape"]).ok();
    assert!(shown.starts_with("nginx@fra1/app (yaml)\n  # the database\n"), "{shown}");
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/app"), FILE.as_bytes());
    fleet.keys("alice", &["log", "verify"]).ok();
    // The keyring holds no value, wherever it lies.
    for path in crate::support::files_below(&sandbox.path("fleet")) {
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        // Whole words: any three letters stand somewhere in so much base64.
        assert!(!text.contains("hid den") && !text.contains("hidden"), "{}", path.display());
    }
    // Without its object the record is damaged.
    let object = crate::support::files_below(&fleet.keyring("objects"))
        .into_iter()
        .find(|p| std::fs::read(p).unwrap().starts_with(b"keys/shape/1 "))
        .unwrap();
    std::fs::remove_file(object).unwrap();
    let verified = fleet.keys("alice", &["log", "verify"]);
    verified.exits(3);
    assert!((verified.stdout() + &verified.stderr()).contains("(shape)"), "{}", verified.stdout());
}

fn every_format_is_sealed_and_opened(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    for (format, file, shape) in [
        ("json", "{\"a\": [\"hidden\", 1]}", "{\"a\": [\"<text>\", \"<integer>\"]}"),
        ("toml", "[a]\nb = 'hidden' # c\n", "[a]\nb = \"<text>\" # c\n"),
        ("env", "export A=hidden\r\nB='x\ny'\n", "export A=<text>\r\nB=<text>\n"),
        ("ini", "[a]\nb = hidden\n", "[a]\nb = <text>\n"),
    ] {
        let address = format!("nginx@fra1/{format}");
        let values = format!("--values={format}");
        fleet.keys_with("alice", &["seal", &address, &values], file.as_bytes()).ok();
        assert_eq!(opened(&fleet, "fra1", &address), file.as_bytes());
        let all = shapes(&fleet, "nobody");
        let own = all.as_array().unwrap().iter().find(|s| s["address"] == *address).unwrap();
        assert_eq!(own["shape"], shape);
    }
}

fn one_value_is_opened_by_its_way(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.keys_with("alice", &["seal", "nginx@fra1/app.yaml", "--values"], FILE.as_bytes()).ok();
    let one = |way: &str| fleet.keys("fra1", &["open", "nginx@fra1/app.yaml", "--key", way]);
    assert_eq!(one("db.password").ok(), "hid den");
    assert_eq!(one("db.key").ok(), "hidden\nlines\n");
    let missing = one("db.pasword");
    missing.refuses(5, "there is no value at db.pasword; did you mean db.password?");
    assert!(!missing.stderr().contains("hid"), "{}", missing.stderr());
    fleet.seal("nginx@fra1/plain", "x");
    fleet.keys("fra1", &["open", "nginx@fra1/plain", "--key", "a"]).refuses(1, "not sealed as a structured file");
}

/// A new value, a copy and a reseal keep a shape; --whole ends it.
fn the_shape_goes_with_the_value(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.keys_with("alice", &["seal", "nginx@fra1/app", "--values=yaml"], b"a: 1\n").ok();
    fleet.keys_with("alice", &["seal", "nginx@fra1/app"], b"b: x\n").ok();
    assert_eq!(shapes(&fleet, "nobody")[0]["shape"], "b: <text>\n");
    fleet.keys_with("alice", &["seal", "nginx@fra1/app"], b"b: [").refuses(1, "nginx@fra1/app: line");
    fleet.keys("alice", &["cp", "nginx@fra1/app", "nginx@fra1/copy", "--yes"]).ok();
    assert_eq!(shapes(&fleet, "nobody")[1]["shape"], "b: <text>\n");
    fleet.keys("fra1", &["sync"]).ok();
    fleet.keys("alice", &["rotate", "nginx@*", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    assert_eq!(shapes(&fleet, "nobody")[0]["shape"], "b: <text>\n");
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/app"), b"b: x\n");
    fleet.keys_with("alice", &["seal", "nginx@fra1/app", "--whole"], b"b: [").ok();
    assert_eq!(shapes(&fleet, "nobody").as_array().unwrap().len(), 1, "the copy alone");
}

/// An author who shows everybody one file and gives the readers another.
fn a_shape_that_is_not_the_values_is_refused(sandbox: &Sandbox) {
    use keys::digest::Digest;
    use keys::disk::{Access, Disk, RealFiles};
    use keys::fleet::{Fleet, Known};
    use keys::formats::{Format, Shape};
    use keys::home::Home;
    use keys::ops;
    use keys::statement::Act;
    use keys::store::Store;

    let fleet = fleet(sandbox);
    let store = Store::new(Disk::new(RealFiles::open(&sandbox.path("fleet/keyring"), Access::Public).unwrap()));
    let home = Home::open(&sandbox.path("alice")).unwrap();
    let mut opened = Fleet::open(store, &Known::default(), crate::support::now(), &mut |_, _| {}).unwrap();
    let mut plan = ops::plan_seal(&"nginx@fra1/app".parse().unwrap(), &mut opened).unwrap();
    plan.shape = Some(Format::Yaml);
    let mut draft = ops::seal(&plan, b"a: 1\nadmin: true\n", "sealed", None, &home, &mut opened).unwrap();
    let other = Shape::of(Format::Yaml, b"a: 1\n").unwrap().to_bytes();
    let Act::Seal(changes) = &mut draft.act else { panic!("a seal") };
    changes[0].shape = Some(Digest::of(&other));
    *draft.objects.last_mut().unwrap() = other;
    ops::carry_out(&home, &mut opened, vec![draft], None).unwrap();
    assert_eq!(shapes(&fleet, "nobody")[0]["shape"], "a: <integer>\n");
    for who in ["alice", "fra1"] {
        let refused = fleet.keys(who, &["open", "nginx@fra1/app"]);
        refused.refuses(3, "its shape on record is not that of its value");
        assert_eq!(refused.stdout(), "");
    }
}

fn what_is_no_such_file_is_refused_with_its_line(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let seal = |format: &str, file: &str| {
        fleet.keys_with("alice", &["seal", "nginx@fra1/app", &format!("--values{format}")], file.as_bytes())
    };
    seal("=yaml", "a: 1\nb: &x hidden\n").refuses(1, "nginx@fra1/app: line 2: an anchor");
    seal("=json", "{\"a\": 1,\n\"a\": 2}").refuses(1, "line 2: a is there twice");
    seal("=yaml", "# nothing\n").refuses(1, "there is no value in it");
    seal("", "a: 1\n").refuses(2, "no name here tells the file's format");
    seal("=xml", "a: 1\n").refuses(2, "known are yaml, json, env, toml, ini");
    let refused = seal("=toml", "a = hidden\n");
    refused.refuses(1, "line 1: this is no TOML");
    assert!(!refused.stderr().contains("hidden"), "{}", refused.stderr());
    assert!(fleet.keys("alice", &["ls"]).stderr().contains("no secrets"));
}

/// Peers need 0.12 s of processor time for a file of a thousand values. This is not optimised.
fn a_thousand_values_are_quick(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let file: String = (0..1_000).map(|i| format!("key_{i}: {}\n", "value".repeat(20))).collect();
    fleet.keys_with("alice", &["seal", "nginx@fra1/app.yaml", "--values"], file.as_bytes()).ok();
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/app.yaml"), file.as_bytes());
    // The shell's `times`: its own user and system time, then that of what it ran.
    let script = "\"$0\" --fleet fleet --home fra1 open nginx@fra1/app.yaml >/dev/null && times";
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_keys")]).env_clear().current_dir(sandbox.root());
    let times = Ran::of(command.env("HOME", sandbox.root())).ok();
    let seconds: f64 = times.lines().nth(1).unwrap().split(' ').map(seconds).sum();
    eprintln!("opening a file of 1000 values took {seconds:.2} s of processor time");
    assert!(seconds > 0.0 && seconds < 5.0, "{times}");
}

/// `1m2.34s` in seconds.
fn seconds(time: &str) -> f64 {
    let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
    minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
}
