//! Files of sops and age, and what is exported, read by those tools themselves.

use std::path::Path;

use crate::import::{fates, fleet, gopass, keys_with_gpg, opened, pass};
use crate::support::{GpgHome, Ran, Sandbox, TestFleet, Tool, tests};

tests!["export":
    what_sops_seals_to_gpg_is_taken_over needs [Gpg, GpgConf, Sops],
    a_sops_file_that_was_changed_is_refused needs [Gpg, GpgConf, Sops],
    what_sops_seals_to_age_is_taken_over needs [Age, Sops],
    a_sops_file_of_ini_is_taken_over needs [Age, Sops],
    a_sops_file_with_key_groups_is_refused_with_the_way_out needs [Age, Gpg, GpgConf, Sops],
    what_age_encrypts_is_taken_over needs [Age],
    sops_opens_what_is_exported_and_it_comes_back needs [Gpg, GpgConf, Sops],
    pass_and_gpg_open_what_is_exported_and_it_comes_back needs [Gpg, GpgConf, Pass],
    gopass_shows_what_is_exported needs [Gpg, GpgConf, Gopass, Git],
    an_export_is_private_warns_and_overwrites_nothing,
];

const PLAIN: &str = "# the database\ndb:\n    user: web # said\n    password: 'hid: den'\n    port: 5432\n    ratio: 0.25\n    \
                     tls: true\n    note_unencrypted: in the clear\n    nothing: null\n    empty: \"\"\nlist:\n    - ü\n    - |\n      two\n      lines\n";

/// A gpg home with a key of its own; gives its fingerprint.
fn gpg_with_key(sandbox: &Sandbox) -> (GpgHome, String) {
    let gpg = GpgHome::new(sandbox, "g");
    gpg.run(&["--passphrase", "", "--quick-generate-key", "Bob <bob@home.example>", "default", "default"]).ok();
    let listed = gpg.run(&["--with-colons", "--list-keys"]).ok();
    let fingerprint =
        listed.lines().find(|l| l.starts_with("fpr:")).and_then(|l| l.split(':').nth(9)).unwrap().to_owned();
    (gpg, fingerprint)
}

fn sops(sandbox: &Sandbox, gpg: Option<&GpgHome>, args: &[&str]) -> Ran {
    let mut command = Tool::Sops.command();
    command.env("HOME", sandbox.root()).env("SOPS_AGE_KEY_FILE", sandbox.path("age.key")).current_dir(sandbox.root());
    if let Some(gpg) = gpg {
        command.env("GNUPGHOME", gpg.path());
    }
    Ran::of(command.args(args))
}

fn what_sops_seals_to_gpg_is_taken_over(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (gpg, fingerprint) = gpg_with_key(sandbox);
    sandbox.write("plain.yaml", PLAIN);
    sandbox.write("plain.json", "{\"a\": {\"b\": \"x\\ny \\ud83d\\ude00\", \"n\": -7}, \"z\": [true, \"q\"]}");
    sandbox.write("plain.env", "# said\nA=one two\nB=x=y\n");
    for file in ["yaml", "json", "env"] {
        let sealed = sops(sandbox, Some(&gpg), &["encrypt", "--pgp", &fingerprint, &format!("plain.{file}")]);
        sandbox.write(&format!("s.{file}"), sealed.ok());
    }
    let import =
        |file: &str, to: &str| keys_with_gpg(sandbox, &gpg, &["import", "sops", file, "--to", to, "--yes", "--json"]);
    let ran = import("s.yaml", "nginx@fra1");
    ran.ok();
    assert!(ran.stderr().contains("left out: 3 values that stand in the clear"), "{}", ran.stderr());
    for (name, value) in [
        ("db.user", "web"),
        ("db.password", "hid: den"),
        ("db.port", "5432"),
        ("db.ratio", "0.25"),
        ("db.tls", "True"),
        ("list.0", "ü"),
        ("list.1", "two\nlines\n"),
    ] {
        assert_eq!(opened(&fleet, "fra1", &format!("nginx@fra1/{name}")), value.as_bytes(), "{name}");
    }
    assert_eq!(fates(&ran).len(), 7);
    import("s.json", "fra1").ok();
    assert_eq!(opened(&fleet, "fra1", "fra1/a.b"), "x\ny \u{1f600}".as_bytes());
    assert_eq!(opened(&fleet, "fra1", "fra1/a.n"), b"-7");
    assert_eq!(opened(&fleet, "fra1", "fra1/z.1"), b"q");
    import("s.env", "fra1").ok();
    assert_eq!(opened(&fleet, "fra1", "fra1/a"), b"one two");
    assert_eq!(opened(&fleet, "fra1", "fra1/b"), b"x=y");
    let elsewhere = GpgHome::new(sandbox, "h");
    let refused = keys_with_gpg(sandbox, &elsewhere, &["import", "sops", "s.yaml", "--to", "fra1", "--yes"]);
    refused.refuses(3, "nothing here opens its data key: gpg failed");
}

/// The attacks that sops itself does not see are out of reach, since only what is encrypted is taken; the others it sees,
/// and so do we.
fn a_sops_file_that_was_changed_is_refused(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (gpg, fingerprint) = gpg_with_key(sandbox);
    sandbox.write("plain.yaml", PLAIN);
    let sealed = sops(sandbox, Some(&gpg), &["encrypt", "--pgp", &fingerprint, "plain.yaml"]).ok();
    let refused = |changed: String, part: &str| {
        assert_ne!(changed, sealed);
        sandbox.write("s.yaml", changed);
        keys_with_gpg(sandbox, &gpg, &["import", "sops", "s.yaml", "--to", "fra1", "--yes"]).refuses(3, part);
    };
    let line = |name: &str| sealed.lines().find(|l| l.trim_start().starts_with(name)).unwrap().to_owned();
    let value = |name: &str| line(name).split_once(": ").unwrap().1.to_owned();
    let swapped = sealed
        .replace(&value("user:"), "X")
        .replace(&value("password:"), &value("user:"))
        .replace("user: X", &format!("user: {}", value("password:")));
    refused(swapped, "db.user: the value was changed or moved");
    refused(sealed.replace(&format!("{}\n", line("port:")), ""), "its MAC does not fit");
    refused(sealed.replace("in the clear", "in the cleaR"), "its MAC does not fit");
    refused(sealed.replace("    - ENC", "    - added\n    - ENC"), "its MAC does not fit");
    let data = value("port:");
    let flipped = if data.contains("data:A") {
        data.replacen("data:A", "data:B", 1)
    } else {
        data.replacen("data:", "data:A", 1)
    };
    refused(sealed.replace(&data, &flipped), "db.port: the value was changed or moved");
    let modified = value("lastmodified:");
    refused(sealed.replace(&modified, "\"2020-01-01T00:00:00Z\""), "its MAC does not fit");
    sandbox.write("s.yaml", PLAIN);
    keys_with_gpg(sandbox, &gpg, &["import", "sops", "s.yaml", "--to", "fra1", "--yes"])
        .refuses(1, "not sealed by sops");
    assert!(fleet.keys("alice", &["ls"]).stderr().contains("no secrets"), "nothing was taken");
}

fn age_key(sandbox: &Sandbox) -> String {
    let made = Ran::of(std::process::Command::new("/usr/bin/age-keygen").arg("-o").arg(sandbox.path("age.key")));
    made.ok();
    made.stderr().trim().rsplit(' ').next().unwrap().to_owned()
}

fn what_sops_seals_to_age_is_taken_over(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let recipient = age_key(sandbox);
    sandbox.write("plain.yaml", "token: hidden\n");
    sandbox.write("s.yaml", sops(sandbox, None, &["encrypt", "--age", &recipient, "plain.yaml"]).ok());
    let import = ["import", "sops", "s.yaml", "--to", "fra1", "--yes"];
    fleet.keys("alice", &import).refuses(3, "--identity names the file of an identity");
    fleet.keys("alice", &[&import[..], &["--identity", "age.key"]].concat()).ok();
    assert_eq!(opened(&fleet, "fra1", "fra1/token"), b"hidden");
}

fn a_sops_file_of_ini_is_taken_over(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let recipient = age_key(sandbox);
    let import = || {
        fleet.keys("alice", &["import", "sops", "s.ini", "--identity", "age.key", "--to", "fra1", "--yes", "--json"])
    };
    let seal = |plain: &str| {
        sandbox.write("plain.ini", plain);
        let sealed = sops(sandbox, None, &["encrypt", "--age", &recipient, "plain.ini"]).ok();
        sandbox.write("s.ini", &sealed);
        sealed
    };
    // Values before the first section, a comment beside a value, an ending that leaves a value in the clear.
    let sealed = seal(
        "; said\ntop = level\nempty =\n[db]\npassword = hid = den ; what it is\nuser_unencrypted = web\n[x.y]\nk : `a;b`\n",
    );
    let ran = import();
    ran.ok();
    let addresses: Vec<String> = fates(&ran).into_iter().map(|(address, _)| address).collect();
    assert_eq!(addresses, ["fra1/top", "fra1/db.password", "fra1/x.y.k"]);
    assert!(ran.stderr().contains("left out: 2 values that stand in the clear"), "{}", ran.stderr());
    for (name, value) in [("top", "level"), ("db.password", "hid = den"), ("x.y.k", "a;b")] {
        assert_eq!(opened(&fleet, "fra1", &format!("fra1/{name}")), value.as_bytes(), "{name}");
    }
    sandbox.write("s.ini", sealed.replace("= web", "= other"));
    import().refuses(3, "its MAC does not fit");
    sandbox.write("s.ini", sealed.replace("[db]", "[bd]"));
    import().refuses(3, "the value was changed or moved");
    // In the clear, and not as sops reads it.
    seal("[db]\npassword = hidden\nuser_unencrypted = `w;b`\n");
    import().refuses(1, "in the clear, which cannot be checked as it is written");
}

fn a_sops_file_with_key_groups_is_refused_with_the_way_out(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (gpg, fingerprint) = gpg_with_key(sandbox);
    let recipient = age_key(sandbox);
    let rule = |file: &str, threshold: u8, groups: &str| {
        format!("  - path_regex: {file}\n    shamir_threshold: {threshold}\n    key_groups:\n{groups}")
    };
    let two = format!("      - pgp: ['{fingerprint}']\n      - age: ['{recipient}']\n");
    let one = format!("      - pgp: ['{fingerprint}']\n        age: ['{recipient}']\n");
    sandbox.write(".sops.yaml", format!("creation_rules:\n{}{}", rule("two", 2, &two), rule("one", 1, &one)));
    let import =
        |file: &str| keys_with_gpg(sandbox, &gpg, &["import", "sops", file, "--to", "nginx@fra1", "--yes", "--json"]);
    for (ending, plain) in [("yaml", "token: hidden\n"), ("json", "{\"token\": \"hidden\"}"), ("env", "token=hidden\n")]
    {
        for rule in ["two", "one"] {
            let file = format!("{rule}.{ending}");
            sandbox.write(&file, plain);
            sops(sandbox, Some(&gpg), &["encrypt", "--in-place", &file]).ok();
        }
        let refused = import(&format!("two.{ending}"));
        refused.refuses(1, "its data key is shared among key groups, which is not read here");
        refused.refuses(1, "sops decrypt --extract '[\"NAME\"]' FILE | keys seal OWNER/NAME");
        // The way out.
        let value = sops(sandbox, Some(&gpg), &["decrypt", "--extract", "[\"token\"]", &format!("two.{ending}")]).ok();
        fleet.keys_with("alice", &["seal", &format!("fra1/{ending}")], value.as_bytes()).ok();
        assert_eq!(opened(&fleet, "fra1", &format!("fra1/{ending}")), b"hidden");
        // One group with a threshold shares nothing out.
        import(&format!("one.{ending}")).ok();
        assert_eq!(opened(&fleet, "fra1", "nginx@fra1/token"), b"hidden");
        fleet.keys("alice", &["rm", "nginx@fra1/token", "--yes"]).ok();
    }
    // What has no ending that is read here.
    std::fs::remove_file(sandbox.path(".sops.yaml")).unwrap();
    sandbox.write("plain.txt", "whole\n");
    sandbox.write("s.txt", sops(sandbox, None, &["encrypt", "--age", &recipient, "plain.txt"]).ok());
    import("s.txt").refuses(2, "sops decrypt FILE | keys seal OWNER/NAME");
}

fn what_age_encrypts_is_taken_over(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let recipient = age_key(sandbox);
    // More than a pipe holds.
    let value: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    sandbox.write("plain", &value);
    let age = Tool::Age.path().unwrap();
    let mut encrypt = std::process::Command::new(age);
    Ran::of(encrypt.args(["-r", &recipient, "-o", "token.age", "plain"]).current_dir(sandbox.root())).ok();
    fleet.keys("alice", &["import", "age", "token.age", "--identity", "age.key", "--to", "fra1", "--yes"]).ok();
    assert_eq!(opened(&fleet, "fra1", "fra1/token"), value);
    sandbox.write("token.age", "no such thing");
    let refused =
        fleet.keys("alice", &["import", "age", "token.age", "--identity", "age.key", "--to", "fra1", "--yes"]);
    refused.refuses(1, "age failed");
}

/// Values that formats get wrong.
const HARD: [(&str, &str); 8] = [
    ("plain", "x"),
    ("lines", "two\nlines\n"),
    ("quotes", "'\"\\ : # {} - |"),
    ("unicode", "ü \u{1f600} \u{202e}x"),
    ("number", "007"),
    ("null", "null"),
    ("tabs", "\t \r\n "),
    ("a_unencrypted", "not in the clear"),
];

fn sealed_values(fleet: &TestFleet<'_>) {
    HARD.iter().for_each(|(name, value)| fleet.seal(&format!("nginx@fra1/{name}"), value));
}

fn sops_opens_what_is_exported_and_it_comes_back(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (gpg, fingerprint) = gpg_with_key(sandbox);
    sealed_values(&fleet);
    let export = ["--from", "nginx@fra1/*", "--gpg-id", &fingerprint, "--gpg-id", "alice"];
    for file in ["s.yaml", "s.json"] {
        keys_with_gpg(sandbox, &gpg, &[&["export", "sops", file], &export[..]].concat()).ok();
        let sealed = std::fs::read_to_string(sandbox.path(file)).unwrap();
        assert!(
            HARD.iter().all(|(_, value)| value.len() < 3 || !sealed.contains(&format!(": \"{value}\""))),
            "{sealed}"
        );
        let plain = sops(sandbox, Some(&gpg), &["decrypt", "--output-type", "json", file]).ok();
        let plain: serde_json::Value = serde_json::from_str(&plain).unwrap();
        assert_eq!(plain.as_object().unwrap().len(), HARD.len());
        HARD.iter().for_each(|(name, value)| assert_eq!(plain[name], *value, "{file}: {name}"));
        // It comes back with alice's key alone, and is the same.
        let back = fleet.keys("alice", &["import", "sops", file, "--to", "nginx@fra1", "--yes", "--json"]);
        back.ok();
        assert_eq!(fates(&back).len(), HARD.len());
        assert!(fates(&back).iter().all(|(_, fate)| fate == "same"), "{}", back.stdout());
        // sops takes it for one of its own: it changes a value in place.
        sops(sandbox, Some(&gpg), &["set", file, "[\"plain\"]", "\"y\""]).ok();
        let changed =
            keys_with_gpg(sandbox, &gpg, &["import", "sops", file, "--to", "nginx@fra1", "--dry-run", "--json"]);
        changed.exits(9);
        let changed: Vec<_> = fates(&changed).into_iter().filter(|(_, fate)| fate != "same").collect();
        assert_eq!(changed, [("nginx@fra1/plain".to_owned(), "changes".to_owned())]);
    }
    fleet.keys_with("alice", &["seal", "nginx@fra1/binary"], b"\xff\x00").ok();
    let refused = fleet.keys("alice", &["export", "sops", "b.yaml", "--from", "nginx@fra1/*", "--gpg-id", "alice"]);
    refused.refuses(1, "nginx@fra1/binary is no text");
    fleet.seal("fra1/other", "x");
    let refused = fleet.keys("alice", &["export", "sops", "b.yaml", "--from", "*", "--gpg-id", "alice"]);
    refused.refuses(1, "have different owners");
    assert!(!sandbox.path("b.yaml").exists(), "nothing was written");
}

fn pass_and_gpg_open_what_is_exported_and_it_comes_back(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (gpg, fingerprint) = gpg_with_key(sandbox);
    sealed_values(&fleet);
    fleet.keys_with("alice", &["seal", "nginx@fra1/binary"], b"\xff\x00\n").ok();
    let export = ["export", "pass", "store", "--from", "nginx@fra1/*", "--gpg-id", &fingerprint, "--gpg-id", "alice"];
    keys_with_gpg(sandbox, &gpg, &export).ok();
    let store = sandbox.path("store");
    for (name, value) in HARD {
        let shown = pass(&gpg, &store, &["show", &format!("fra1/nginx/{name}")], b"");
        shown.ok();
        assert_eq!(shown.output.stdout, value.as_bytes(), "{name}");
    }
    let binary = gpg.run(&["--decrypt", store.join("fra1/nginx/binary.gpg").to_str().unwrap()]);
    binary.ok();
    assert_eq!(binary.output.stdout, b"\xff\x00\n");
    let import = ["import", "pass", "store/fra1/nginx", "--to", "nginx@fra1", "--yes", "--json"];
    let back = fleet.keys("alice", &import);
    back.ok();
    assert_eq!(fates(&back).len(), HARD.len() + 1);
    assert!(fates(&back).iter().all(|(_, fate)| fate == "same"), "{}", back.stdout());
    // pass goes on with it: both of .gpg-id are named by fingerprints.
    let listed = std::fs::read_to_string(store.join(".gpg-id")).unwrap();
    assert!(listed.starts_with(&format!("{fingerprint}\n")) && listed.lines().count() == 2, "{listed}");
}

fn gopass_shows_what_is_exported(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (gpg, fingerprint) = gpg_with_key(sandbox);
    sealed_values(&fleet);
    let export = ["export", "pass", "store", "--from", "nginx@fra1/*", "--gpg-id", &fingerprint];
    keys_with_gpg(sandbox, &gpg, &export).ok();
    let store = sandbox.path("store");
    let gopass = |args: &[&str]| gopass(sandbox, &gpg, &store, args);
    for (name, value) in HARD {
        // It shows a value without the white space around it, and a line feed.
        assert_eq!(gopass(&["show", &format!("fra1/nginx/{name}")]).ok().trim(), value.trim(), "{name}");
    }
    // It goes on with it.
    Ran::of(Tool::Git.command().args(["init", "--quiet"]).arg(&store)).ok();
    crate::import::editor(sandbox, "more\n");
    gopass(&["insert", "-m", "fra1/nginx/more"]).ok();
    let import = ["import", "pass", "store/fra1/nginx", "--to", "nginx@fra1", "--yes", "--json"];
    let back = keys_with_gpg(sandbox, &gpg, &import);
    back.ok();
    let new: Vec<_> = fates(&back).into_iter().filter(|(_, fate)| fate != "same").collect();
    assert_eq!(new, [("nginx@fra1/more".to_owned(), "new".to_owned())]);
}

fn an_export_is_private_warns_and_overwrites_nothing(sandbox: &Sandbox) {
    use std::os::unix::fs::PermissionsExt as _;
    let fleet = fleet(sandbox);
    fleet.seal("nginx@fra1/a", "hidden");
    sandbox.set_umask("000");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let export = |what: &str, to: &str| {
        fleet.keys("alice", &["export", what, to, "--from", "nginx@fra1/a", "--gpg-id", "alice"])
    };
    for (what, to) in [("pass", "store"), ("sops", "s.yaml")] {
        let ran = export(what, to);
        ran.ok();
        assert!(ran.stderr().contains("the log knows nothing of this copy"), "{}", ran.stderr());
        assert_ne!(export(what, to).code(), 0, "{to} is there");
    }
    assert_eq!(mode(&sandbox.path("store/fra1/nginx/a.gpg")), 0o600);
    assert_eq!(mode(&sandbox.path("store/fra1")), 0o700);
    assert_eq!(mode(&sandbox.path("s.yaml")), 0o600);
    let export = |who: &str, to: &str| fleet.keys("fra1", &["export", "pass", "other", "--from", to, "--gpg-id", who]);
    export("ABCDEF01", "nginx@fra1/a").refuses(2, "full fingerprint");
    export("nobody", "nginx@fra1/a").refuses(5, "nobody is not a member");
    export("fra1", "nginx@fra1/b").refuses(5, "nginx@fra1/b");
    assert!(!sandbox.path("other").exists());
}
