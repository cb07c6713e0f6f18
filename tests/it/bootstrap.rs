//! `keys bootstrap` and `keys cloud-config`: a machine that joins by what it was born with, whatever interrupts it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use keys::digest::Digest;

use crate::support::{Ran, Sandbox, TestFleet, Tool, files_below, tests};

tests!["bootstrap":
    a_machine_joins_by_its_configuration_and_once_more_changes_nothing,
    what_never_helps_and_what_may_be_tried_again_end_differently,
    killed_at_every_write_it_goes_on_with_the_same_keys needs [Strace],
    what_a_machine_is_born_with_fits_and_is_nobodys_to_read,
    cloud_init_takes_the_user_data needs [CloudInit],
    the_shell_form_joins_with_the_pinned_program_and_no_other needs [Sh],
];

/// A fleet of one operator with an invitation for fra1; gives the token's text.
fn invited<'a>(sandbox: &'a Sandbox) -> (TestFleet<'a>, String) {
    let fleet = TestFleet::of_one(sandbox);
    let ran = fleet.keys("alice", &["invite", "fra1", "--services", "nginx", "--approval", "auto", "--yes"]);
    ran.ok();
    (fleet, ran.stdout().trim_end().to_owned())
}

fn id(fleet: &TestFleet<'_>) -> String {
    fleet.keys("alice", &["status", "--json"]).json()["id"].as_str().unwrap().to_owned()
}

fn size(fleet: &TestFleet<'_>) -> u64 {
    fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64().unwrap()
}

/// Writes a configuration; gives its path.
fn configured(sandbox: &Sandbox, name: &str, id: &str, mirror: &str, seed: &str) -> String {
    let text = format!(
        "fleet = \"cdn.example\"\nid = \"{id}\"\nmirrors = [\"{mirror}\"]\nmember = \"fra1\"\nseed = \"{seed}\"\n"
    );
    let path = sandbox.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Runs `keys bootstrap` as the machine `who`, which has a keyring of its own.
fn boots(sandbox: &Sandbox, who: &str, config: &str) -> Ran {
    let (own, home) = (format!("{who}/fleet"), format!("{who}/home"));
    sandbox.keys(&["--fleet", &own, "--home", &home, "bootstrap", config])
}

fn a_machine_joins_by_its_configuration_and_once_more_changes_nothing(sandbox: &Sandbox) {
    let (fleet, seed) = invited(sandbox);
    let mirror = sandbox.path("fleet").display().to_string();
    let config = configured(sandbox, "etc/bootstrap.toml", &id(&fleet), &mirror, &seed);
    let first = boots(sandbox, "fra1", &config);
    assert_eq!(first.exits(4).trim_end(), "keyed");
    let keys = files_below(&sandbox.path("fra1/home/members"));
    assert_eq!(boots(sandbox, "fra1", &config).exits(4).trim_end(), "keyed");
    assert_eq!(files_below(&sandbox.path("fra1/home/members")), keys, "the same keys, the same request");
    assert!(std::fs::read_to_string(&config).unwrap().contains(&seed), "the seed is needed yet");
    fleet.keys("alice", &["sync"]).ok();
    // It has joined, and nobody knows yet whether it has its keys.
    let early = fleet.keys_with("alice", &["seal", "nginx@fra1/tls.key", "--yes"], b"too early\n");
    early.refuses(1, "nginx@fra1 has joined and has not yet shown that it has its keys");
    assert_eq!(boots(sandbox, "fra1", &config).exits(4).trim_end(), "enrolled");
    assert_eq!(boots(sandbox, "fra1", &config).exits(4).trim_end(), "enrolled");
    assert_eq!(
        files_below(&fleet.keyring("proposals")).len(),
        2,
        "one statement with one signature, however often it runs"
    );
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(boots(sandbox, "fra1", &config).ok().trim_end(), "ready");
    let log = fleet.keys("alice", &["log", "show", "--json"]).stdout();
    assert_eq!(log.matches("\"member.confirm\"").count(), 1, "{log}");
    // The seed is gone, and nothing else.
    let kept = std::fs::read_to_string(&config).unwrap();
    assert!(!kept.contains("seed") && kept.contains("member = \"fra1\""), "{kept}");
    assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
    for file in files_below(&sandbox.path("fra1")) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(seed.len()).any(|w| w == seed.as_bytes()), "the seed is in {}", file.display());
    }
    let (before, there) = (size(&fleet), files_below(&sandbox.path("fra1/home")));
    assert_eq!(boots(sandbox, "fra1", &config).ok().trim_end(), "ready");
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!((size(&fleet), files_below(&sandbox.path("fra1/home"))), (before, there));
    // A secret for the service is opened on the machine, from its own copy of the keyring, with the mirror away.
    fleet.seal("nginx@fra1/tls.key", "the value");
    let own = ["--fleet", "fra1/fleet", "--home", "fra1/home"];
    sandbox.keys(&[&own[..], &["pull"]].concat()).ok();
    std::fs::rename(sandbox.path("fleet"), sandbox.path("away")).unwrap();
    assert_eq!(sandbox.keys(&[&own[..], &["open", "nginx@fra1/tls.key"]].concat()).ok(), "the value");
    assert_eq!(boots(sandbox, "fra1", &config).ok().trim_end(), "ready", "with every mirror away it stays what it is");
}

fn what_never_helps_and_what_may_be_tried_again_end_differently(sandbox: &Sandbox) {
    let (fleet, seed) = invited(sandbox);
    let (id, mirror) = (id(&fleet), sandbox.path("fleet").display().to_string());
    let config = |name: &str, id: &str, mirror: &str, seed: &str| configured(sandbox, name, id, mirror, seed);
    let written = |name: &str, text: &str| {
        let path = sandbox.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let untouched = |who: &str| assert!(!sandbox.path(who).join("home/members").exists(), "{who} made keys");
    // Not yet.
    boots(sandbox, "m1", &config("away", &id, "/nowhere/fleet", &seed)).refuses(7, "nothing was pulled");
    let other = format!("kt1.{}", "B".repeat(42) + "A");
    boots(sandbox, "m2", &config("early", &id, &mirror, &other)).refuses(7, "(unknown_invitation)");
    // Never, as it lies there.
    let read_by_others = config("read-by-others", &id, &mirror, &seed);
    std::fs::set_permissions(&read_by_others, std::fs::Permissions::from_mode(0o640)).unwrap();
    boots(sandbox, "m0", &read_by_others).refuses(2, "can be read by others (mode 0640)");
    untouched("m0");
    boots(sandbox, "m3", &config("wrong-id", &"0".repeat(64), &mirror, &seed)).refuses(3, "pinned is 0000");
    boots(sandbox, "m4", &config("no-token", &id, &mirror, "kt1.short")).refuses(2, "line 5: the seed is not a token");
    let text = std::fs::read_to_string(config("unpinned", &id, &mirror, &seed)).unwrap();
    let key = keys::log::note::SignerKey::generate("cdn.example/keys/1", &mut rng()).verifier();
    let pinned = written("other-log", &format!("log = [\"{key}\"]\n{text}"));
    boots(sandbox, "m5", &pinned).refuses(3, "signed by none of the keys that are pinned");
    let bare = sandbox.write("no-seed", text.replace("seed = ", "# ")).display().to_string();
    boots(sandbox, "m6", &bare).refuses(3, "the configuration has no seed");
    for who in ["m1", "m2", "m3", "m4", "m5", "m6"] {
        untouched(who);
    }
    // Its own key is one of those that are pinned; two machines with one seed, of which the second was first.
    let own = fleet
        .keys("alice", &["log", "vkey"])
        .ok()
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    let pinned = written("own-log", &format!("log = [\"{own}\"]\n{text}"));
    boots(sandbox, "real", &pinned).exits(4);
    boots(sandbox, "thief", &config("stolen", &id, &mirror, &seed)).exits(4);
    let thief = Digest::of(&std::fs::read(sandbox.path("thief/home/members/fra1/request")).unwrap()).to_string();
    let waiting = files_below(&fleet.keyring("proposals/requests"));
    assert_eq!(waiting.len(), 2);
    for file in waiting.iter().filter(|f| !f.display().to_string().contains(&thief)) {
        std::fs::rename(file, sandbox.path("held-back")).unwrap();
    }
    fleet.keys("alice", &["sync"]).ok();
    boots(sandbox, "thief", &sandbox.path("stolen").display().to_string()).exits(4);
    let told = boots(sandbox, "real", &pinned);
    told.refuses(3, "(token_reused)");
    assert!(told.stderr().contains("tell the operators AT ONCE"), "{}", told.stderr());
    boots(sandbox, "later", &config("again", &id, &mirror, &seed)).refuses(3, "(token_reused)");
    untouched("later");
}

fn rng() -> rand::rngs::StdRng {
    rand::SeedableRng::from_seed(*b"a public seed, for tests alone!!")
}

/// The files of a machine's home with their digests.
fn fingerprints(home: &Path) -> Vec<(std::path::PathBuf, Digest)> {
    if !home.join("members").exists() {
        return Vec::new();
    }
    // What is half written has a name of its own, and is swept away.
    let is_whole = |f: &std::path::PathBuf| !f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".tmp-"));
    let files = files_below(&home.join("members")).into_iter().filter(is_whole);
    files.map(|f| (f.clone(), Digest::of(&std::fs::read(&f).unwrap()))).collect()
}

fn killed_at_every_write_it_goes_on_with_the_same_keys(sandbox: &Sandbox) {
    let (fleet, seed) = invited(sandbox);
    let mirror = sandbox.path("fleet").display().to_string();
    let config = configured(sandbox, "bootstrap.toml", &id(&fleet), &mirror, &seed);
    let before = size(&fleet);
    // Each file comes into its place by one of these, and is durable by the third.
    let calls = ["renameat", "linkat", "fsync"];
    let killed = |who: &str, call: &str, nth: usize| {
        let (own, home) = (format!("{who}/fleet"), format!("{who}/home"));
        let args = ["--fleet", &own, "--home", &home, "bootstrap", &config];
        sandbox.keys_under_fault(&args, call, &format!("signal=KILL:when={nth}")).is_killed()
    };
    // A machine for each write of the first run.
    let (mut kills, mut with_request) = (0, 0);
    for call in calls {
        // What is renamed is what a machine keeps; of the rest a third, unless there is time.
        let is_long = std::env::var_os("KEYS_TEST_LONG").is_some_and(|value| value == "1");
        let step = if call == "renameat" || is_long { 1 } else { 3 };
        for nth in (1..).step_by(step) {
            let who = format!("{call}{nth}");
            if !killed(&who, call, nth) {
                assert!(nth > 1, "{call}");
                break;
            }
            kills += 1;
            let home = sandbox.path(&who).join("home");
            let there = fingerprints(&home);
            let asked = home.join("members/fra1/request").exists();
            boots(sandbox, &who, &config).exits(4);
            let now = fingerprints(&home);
            if asked {
                with_request += 1;
                // What a request was made of stays; that of the service may have been written since.
                assert!(there.iter().all(|f| now.contains(f)), "killed at {call} {nth}");
            }
            let certificates = now.iter().filter(|(f, _)| f.ends_with("openpgp.tsk")).count();
            assert_eq!(certificates, 2, "killed at {call} {nth}");
            // The next machine is not to bring the requests of all before it.
            let waiting = files_below(&fleet.keyring("proposals/requests"));
            for file in waiting.iter().skip(4) {
                std::fs::remove_file(file).unwrap();
            }
            std::fs::remove_dir_all(sandbox.path(&who)).unwrap();
        }
    }
    eprintln!("bootstrap: killed at each of {kills} writes, {with_request} of them after there was a request");
    assert!(kills > 30 && with_request > 3, "{kills} {with_request}");
    // The last of those machines have asked, and one has joined.
    fleet.keys("alice", &["sync"]).exits(0);
    assert_eq!(fleet.keys("alice", &["status", "--json"]).json()["members"]["pop"], 1);
    let entries = fleet.keys("alice", &["log", "show", "--json"]).stdout();
    assert_eq!(entries.matches("\"member.enroll\"").count(), 1, "{entries}");
    assert!(size(&fleet) > before);
}

/// What is rendered for fra1, with the program of this test as what is fetched.
fn rendered(sandbox: &Sandbox, fleet: &TestFleet<'_>, seed: &str, args: &[&str]) -> Ran {
    sandbox.write("seed.token", format!("{seed}\n"));
    let mirror = sandbox.path("fleet").display().to_string();
    let program = env!("CARGO_BIN_EXE_keys");
    let token = sandbox.path("seed.token").display().to_string();
    let common = ["cloud-config", "fra1", "--token", &token, "--mirror", &mirror, "--program", program];
    fleet.keys("alice", &[&common[..], args].concat())
}

/// The keys at the top of a cloud-config that this program writes.
const TOP_LEVEL: [&str; 2] = ["write_files", "runcmd"];

fn what_a_machine_is_born_with_fits_and_is_nobodys_to_read(sandbox: &Sandbox) {
    let (fleet, seed) = invited(sandbox);
    let own = ["--checksum-of", env!("CARGO_BIN_EXE_keys")];
    let text = rendered(sandbox, &fleet, &seed, &own).ok();
    assert!(text.len() < 4096, "{} bytes", text.len());
    eprintln!("bootstrap: the user-data has {} bytes", text.len());
    let keys: Vec<&str> =
        text.lines().filter(|l| !l.starts_with([' ', '#', '-'])).filter_map(|l| l.strip_suffix(':')).collect();
    assert_eq!(keys, TOP_LEVEL);
    assert_eq!(text.split("runcmd:\n").nth(1).unwrap().lines().count(), 1, "one line, which ends as the whole does");
    // Bound to the invitation: who it is for, and whether it is good yet.
    for format in ["nocloud", "ignition", "sh"] {
        let out = sandbox.path(format);
        let args = [&own[..], &["--format", format, "--out", out.to_str().unwrap()]].concat();
        rendered(sandbox, &fleet, &seed, &args).ok();
        let files = if out.is_dir() { files_below(&out) } else { vec![out.clone()] };
        for file in &files {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
        rendered(sandbox, &fleet, &seed, &args).refuses(1, "nothing was made");
        match format {
            "nocloud" => assert_eq!(files.len(), 2),
            "ignition" => {
                let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
                assert_eq!(json["ignition"]["version"], "3.4.0");
                assert_eq!(
                    (&json["storage"]["files"][0]["mode"], &json["storage"]["files"][1]["mode"]),
                    (&384.into(), &493.into())
                );
                assert_eq!(json["systemd"]["units"][0]["enabled"], true);
            }
            _ => {}
        }
    }
    rendered(sandbox, &fleet, &seed, &["--sha256", "abc"]).refuses(2, "64 lower-case hexadecimal digits");
    rendered(sandbox, &fleet, &seed, &[&own[..], &["--mirror", "https://x'y"]].concat())
        .refuses(2, "cannot stand in a script");
    fleet.keys("alice", &["invite", "revoke", "fra1", "--yes"]).ok();
    rendered(sandbox, &fleet, &seed, &own).refuses(3, "used, withdrawn or over");
}

fn cloud_init_takes_the_user_data(sandbox: &Sandbox) {
    let (fleet, seed) = invited(sandbox);
    let text = rendered(sandbox, &fleet, &seed, &["--checksum-of", env!("CARGO_BIN_EXE_keys")]).ok();
    let schema = |name: &str, text: &str| {
        let file = sandbox.write(name, text);
        let mut command = Tool::CloudInit.command();
        Ran::of(command.args(["schema", "--config-file"]).arg(file).current_dir(sandbox.root()))
    };
    schema("good.yaml", &text).ok();
    // The measure itself: a number where a text has to be is seen.
    assert_ne!(schema("bad.yaml", &text.replace("permissions: '0600'", "permissions: 600")).code(), 0);
}

fn the_shell_form_joins_with_the_pinned_program_and_no_other(sandbox: &Sandbox) {
    let (fleet, seed) = invited(sandbox);
    let wrong = Digest::of(b"another program").to_string();
    let run = |args: &[&str]| {
        let text = rendered(sandbox, &fleet, &seed, &[args, &["--format", "sh"]].concat()).ok();
        // The places of a machine are below the sandbox, and there is no systemd.
        let mut text = text;
        for place in ["/etc/keys", "/usr/local", "/var/lib/keys", "/etc/systemd", "/run/systemd"] {
            text = text.replace(place, &format!("{}/machine{place}", sandbox.root().display()));
        }
        let file = sandbox.write("join.sh", text);
        let mut command = Tool::Sh.command();
        command.arg(file).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(sandbox.root());
        Ran::of(&mut command)
    };
    let program = sandbox.path("machine/usr/local/bin/keys");
    run(&["--sha256", &wrong]).refuses(7, "no program with the pinned checksum");
    assert!(!program.exists() && !sandbox.path("machine/var/lib/keys").exists(), "nothing else is run");
    let own = ["--checksum-of", env!("CARGO_BIN_EXE_keys")];
    assert_eq!(run(&own).exits(4).trim_end(), "keyed");
    let config = sandbox.path("machine/etc/keys/bootstrap.toml");
    assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
    fleet.keys("alice", &["sync"]).ok();
    let script = |stage: i32| {
        let mut again = Tool::Sh.command();
        again.arg(sandbox.path("machine/usr/local/sbin/keys-bootstrap")).env_clear().env("PATH", "/usr/bin:/bin");
        Ran::of(again.current_dir(sandbox.root())).exits(stage).trim_end().to_owned()
    };
    assert_eq!(script(4), "enrolled");
    fleet.keys("alice", &["sync"]).ok();
    // Somebody has put another program in the place of the one that was pinned.
    std::fs::write(&program, "#!/bin/sh\necho owned\n").unwrap();
    assert_eq!(script(0), "ready");
    assert!(!std::fs::read_to_string(config).unwrap().contains("seed"));
}
