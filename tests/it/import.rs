//! Importing what other tools seal, made by those tools themselves.

use std::path::Path;

use crate::support::{GpgHome, Ran, Sandbox, TestFleet, Tool, tests};

tests!["import":
    variables_are_taken_over_in_one_statement_and_once,
    an_import_is_all_or_nothing,
    names_are_mapped_by_the_rule_or_refused_with_the_way_out,
    what_no_key_here_opens_is_replaced_and_said,
    a_password_store_is_opened_by_gpg needs [Gpg, GpgConf, Pass],
    a_password_store_for_a_key_of_this_home_needs_no_gpg_key needs [Gpg, GpgConf, Pass],
    what_gopass_keeps_is_taken_over needs [Gpg, GpgConf, Gopass, Git],
    a_password_in_an_old_head_of_gopass_is_the_password needs [Gpg, GpgConf],
    what_ansible_vault_has_made_is_taken_over needs [AnsibleVault],
];

pub(crate) fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet
}

pub(crate) fn opened(fleet: &TestFleet<'_>, who: &str, address: &str) -> Vec<u8> {
    let ran = fleet.keys(who, &["open", address]);
    ran.ok();
    ran.output.stdout
}

/// The address and fate of each value in a plan.
pub(crate) fn fates(ran: &Ran) -> Vec<(String, String)> {
    let field = |v: &serde_json::Value, name: &str| v[name].as_str().unwrap().to_owned();
    let values = ran.json()["plan"]["values"].as_array().unwrap().clone();
    values.iter().map(|v| (field(v, "address"), field(v, "fate"))).collect()
}

fn variables_are_taken_over_in_one_statement_and_once(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    sandbox.write("s.env", "# said\nDB_PASSWORD='hid den'\nexport DB_CA=\"a\\nb\\n\" # c\nEMPTY=\n");
    let import = ["import", "env", "s.env", "--to", "nginx@fra1", "--json"];
    let dry = fleet.keys("alice", &[&import[..], &["--dry-run"]].concat());
    dry.exits(9);
    let new = |name: &str| (format!("nginx@fra1/{name}"), "new".to_owned());
    assert_eq!(fates(&dry), [new("db_password"), new("db_ca")]);
    assert!(dry.stderr().contains("EMPTY is empty"), "{}", dry.stderr());
    assert!(!(dry.stdout() + &dry.stderr()).contains("hid den"), "values are not shown");
    assert!(fleet.keys("alice", &["ls"]).stderr().contains("no secrets"), "a dry run does nothing");

    let done = fleet.keys("alice", &[&import[..], &["--yes"]].concat());
    done.ok();
    assert_eq!(done.json()["placed"].as_array().unwrap().len(), 1, "one statement for both");
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/db_password"), b"hid den");
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/db_ca"), b"a\nb\n");

    // Once more, and with another value in one place.
    let again = fleet.keys("alice", &[&import[..], &["--yes"]].concat());
    again.ok();
    assert!(fates(&again).iter().all(|(_, fate)| fate == "same"), "{}", again.stdout());
    sandbox.write("s.env", "DB_PASSWORD=another\nDB_CA=\"a\\nb\\n\"\n");
    let changed = fleet.keys("alice", &[&import[..], &["--yes"]].concat());
    changed.ok();
    let words: Vec<String> = fates(&changed).into_iter().map(|(_, fate)| fate).collect();
    assert_eq!(words, ["changes", "same"]);
    assert_eq!(changed.json()["plan"]["values"][0]["version"], 2);
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/db_password"), b"another");
    fleet.keys("alice", &["log", "verify"]).ok();
}

/// More than fit into one statement: all of them are logged by one commit. One that cannot be sealed stops all.
fn an_import_is_all_or_nothing(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let many: String = (0..100).map(|i| format!("V{i}=value {i}\n")).collect();
    sandbox.write("many.env", &many);
    sandbox.write("bad.env", format!("{many}BAD='unfinished\n"));
    let verify = || fleet.keys("alice", &["log", "verify", "--json"]).json()["size"].clone();
    let before = verify();
    let import = |file: &str, to: &str| fleet.keys("alice", &["import", "env", file, "--to", to, "--json", "--yes"]);
    import("bad.env", "nginx@fra1").refuses(1, "bad.env, line 101: the quote of BAD is not closed");
    import("many.env", "nginx@fra2").refuses(1, "nginx@fra2");
    assert_eq!(verify(), before);
    let done = import("many.env", "nginx@fra1");
    done.ok();
    assert_eq!(done.json()["placed"].as_array().unwrap().len(), 2, "80 and 20");
    assert_eq!(fleet.keys("alice", &["ls", "--json"]).json()["secrets"].as_array().unwrap().len(), 100);
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/v99"), b"value 99");
}

fn names_are_mapped_by_the_rule_or_refused_with_the_way_out(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let import = |more: &[&str]| {
        let all = [&["import", "env", "s.env", "--to", "fra1", "--dry-run", "--json"], more].concat();
        fleet.keys("alice", &all)
    };
    sandbox.write("s.env", "A_B=1\na_b=2\n");
    import(&[]).refuses(1, "'A_B' and 'a_b' would both become fra1/a_b");
    let renamed = import(&["--rename", "a_b=other", "--prefix", "x."]);
    renamed.exits(9);
    let addresses: Vec<String> = fates(&renamed).into_iter().map(|(address, _)| address).collect();
    assert_eq!(addresses, ["fra1/x.a_b", "fra1/other"]);
    import(&["--rename", "c=d"]).refuses(2, "nothing is called 'c'");
    sandbox.write("s.env", "___=1\n");
    let refused = import(&[]);
    refused.refuses(1, "no name can be made of '___'");
    refused.refuses(1, "--rename '___=NAME'");
    import(&["--rename", "___=UPPER"]).refuses(1, "UPPER");
}

fn what_no_key_here_opens_is_replaced_and_said(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    std::fs::write(
        sandbox.path("fleet/policy/secrets.toml"),
        "[recovery]\noperators = [\"*\"]\n[[secret]]\nmatch = \"nginx@fra1/*\"\nwrite_only = true\n",
    )
    .unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    sandbox.write("s.env", "A=1\n");
    let import = ["import", "env", "s.env", "--to", "nginx@fra1", "--yes", "--json"];
    fleet.keys("alice", &import).ok();
    let again = fleet.keys("alice", &import);
    again.ok();
    assert_eq!(fates(&again), [("nginx@fra1/a".to_owned(), "unknown".to_owned())]);
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/a"), b"1");
}

pub(crate) fn pass(gpg: &GpgHome, store: &Path, args: &[&str], input: &[u8]) -> Ran {
    use std::io::Write as _;
    let mut command = Tool::Pass.command();
    command.env("GNUPGHOME", gpg.path()).env("PASSWORD_STORE_DIR", store).env("HOME", store).args(args);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Ran { line: format!("pass {}", args.join(" ")), output: child.wait_with_output().unwrap() }
}

/// Runs the program with a gpg home in its environment.
pub(crate) fn keys_with_gpg(sandbox: &Sandbox, gpg: &GpgHome, args: &[&str]) -> Ran {
    let mut command = sandbox.command();
    command.env("GNUPGHOME", gpg.path()).args(["--fleet", "fleet", "--home", "alice"]).args(args);
    Ran::of(&mut command)
}

fn a_password_store_is_opened_by_gpg(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let gpg = GpgHome::new(sandbox, "g");
    gpg.run(&["--passphrase", "", "--quick-generate-key", "Bob <bob@home.example>", "default", "default"]).ok();
    let store = sandbox.path("store");
    pass(&gpg, &store, &["init", "bob@home.example"], b"").ok();
    pass(&gpg, &store, &["insert", "-m", "web/Admin Login"], "p\u{e4}ss\nuser: admin\n".as_bytes()).ok();
    pass(&gpg, &store, &["insert", "-m", "db"], b"\x00\xff").ok();
    std::fs::create_dir_all(store.join(".git")).unwrap();
    std::fs::write(store.join(".git/x.gpg"), "none of it").unwrap();
    let import = ["import", "pass", "store", "--to", "nginx@fra1", "--yes", "--json"];
    let ran = keys_with_gpg(sandbox, &gpg, &import);
    ran.ok();
    let addresses: Vec<String> = fates(&ran).into_iter().map(|(address, _)| address).collect();
    assert_eq!(addresses, ["nginx@fra1/db", "nginx@fra1/web.admin-login"]);
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/db"), b"\x00\xff");
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/web.admin-login"), "p\u{e4}ss\nuser: admin\n".as_bytes());
    keys_with_gpg(sandbox, &gpg, &[&import[..], &["--first-line"]].concat()).ok();
    assert_eq!(opened(&fleet, "fra1", "nginx@fra1/web.admin-login"), "p\u{e4}ss".as_bytes());
    // Without the key: which file, and that nothing was done.
    let elsewhere = GpgHome::new(sandbox, "h");
    let refused = keys_with_gpg(sandbox, &elsewhere, &import);
    refused.refuses(1, "store/db.gpg: no key of this home opens it, and gpg failed");
    std::os::unix::fs::symlink("db.gpg", store.join("link.gpg")).unwrap();
    keys_with_gpg(sandbox, &gpg, &import).refuses(1, "link.gpg is no file of its own");
}

fn a_password_store_for_a_key_of_this_home_needs_no_gpg_key(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let gpg = GpgHome::new(sandbox, "g");
    let (ring, _) = fleet.export_ring("ring", &["--gpg"]);
    gpg.import(&ring);
    gpg.run(&["--import-ownertrust", sandbox.path("ring/ownertrust.txt").to_str().unwrap()]).ok();
    let store = sandbox.path("store");
    pass(&gpg, &store, &["init", "alice@ops.example"], b"").ok();
    pass(&gpg, &store, &["insert", "-m", "db"], b"a value").ok();
    keys_with_gpg(sandbox, &gpg, &["import", "pass", "store", "--to", "fra1", "--yes"]).ok();
    assert_eq!(opened(&fleet, "fra1", "fra1/db"), b"a value");
}

/// Debian's gopass, which is another program than gopasspw's, with the same store: `.gpg-id`, and a file a secret.
pub(crate) fn gopass(sandbox: &Sandbox, gpg: &GpgHome, store: &Path, args: &[&str]) -> Ran {
    let mut command = Tool::Gopass.command();
    command.env("GNUPGHOME", gpg.path()).env("PASSWORD_STORE_DIR", store).env("HOME", sandbox.root());
    for (name, value) in [("AUTHOR", "bob"), ("COMMITTER", "bob")] {
        command.env(format!("GIT_{name}_NAME"), value).env(format!("GIT_{name}_EMAIL"), "bob@home.example");
    }
    // What it writes into the file that it is given is the value.
    command.env("EDITOR", sandbox.path("editor"));
    Ran::of(command.current_dir(sandbox.root()).args(args))
}

/// What the editor is going to write.
pub(crate) fn editor(sandbox: &Sandbox, value: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    sandbox.write("edited", value);
    let script = format!("#!/bin/sh\ncat '{}' > \"$1\"\n", sandbox.path("edited").display());
    let path = sandbox.write("editor", script);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

fn what_gopass_keeps_is_taken_over(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let gpg = GpgHome::new(sandbox, "g");
    gpg.run(&["--passphrase", "", "--quick-generate-key", "Bob <bob@home.example>", "default", "default"]).ok();
    let store = sandbox.path("store");
    gopass(sandbox, &gpg, &store, &["init", "bob@home.example"]).ok();
    std::fs::create_dir(store.join("web")).unwrap();
    for (name, value) in [("db", "one\n"), ("web/Admin Login", "p\u{e4}ss\nuser: admin\n")] {
        editor(sandbox, value);
        gopass(sandbox, &gpg, &store, &["insert", "-m", name]).ok();
        assert_eq!(gopass(sandbox, &gpg, &store, &["show", name]).ok().trim_end(), value.trim_end());
    }
    assert!(store.join(".git").is_dir(), "it keeps its store in git");
    let ran =
        keys_with_gpg(sandbox, &gpg, &["import", "pass", "store", "--to", "fra1", "--first-line", "--yes", "--json"]);
    ran.ok();
    let addresses: Vec<String> = fates(&ran).into_iter().map(|(address, _)| address).collect();
    assert_eq!(addresses, ["fra1/db", "fra1/web.admin-login"]);
    assert_eq!(opened(&fleet, "fra1", "fra1/db"), b"one");
    assert_eq!(opened(&fleet, "fra1", "fra1/web.admin-login"), "p\u{e4}ss".as_bytes());
}

/// What gopasspw's program wrote before its version 1.13 in place of a first line.
fn a_password_in_an_old_head_of_gopass_is_the_password(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let gpg = GpgHome::new(sandbox, "g");
    gpg.run(&["--passphrase", "", "--quick-generate-key", "Bob <bob@home.example>", "default", "default"]).ok();
    std::fs::create_dir(sandbox.path("store")).unwrap();
    let put = |text: &str| {
        let plain = sandbox.write("plain", text);
        let out = sandbox.path("store/db.gpg");
        let _ = std::fs::remove_file(&out);
        let args = ["-r", "bob@home.example", "-o", out.to_str().unwrap(), "-e", plain.to_str().unwrap()];
        gpg.run(&args).ok();
    };
    let import = || keys_with_gpg(sandbox, &gpg, &["import", "pass", "store", "--to", "fra1", "--first-line", "--yes"]);
    put("GOPASS-SECRET-1.0\nPassword: hidden\nUser: admin\n\nmore\n");
    import().ok();
    assert_eq!(opened(&fleet, "fra1", "fra1/db"), b"hidden");
    put("GOPASS-SECRET-1.0\nUser: admin\n\nPassword: no\n");
    import().refuses(1, "db.gpg is in an old format of gopass, and has no password there");
    import().refuses(1, "gopass show -o NAME | keys seal OWNER/NAME");
    // A store of gopass for age.
    std::fs::remove_file(sandbox.path("store/db.gpg")).unwrap();
    sandbox.write("store/.age-recipients", "");
    import().refuses(5, "gopass show -o NAME | keys seal OWNER/NAME");
}

fn what_ansible_vault_has_made_is_taken_over(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let plain = "db_password: hidden\n";
    sandbox.write("plain.yml", plain);
    sandbox.write("pw", "the password\n");
    sandbox.write("wrong", "another\n");
    let mut command = Tool::AnsibleVault.command();
    command.env("HOME", sandbox.root()).current_dir(sandbox.root());
    command.args(["encrypt", "--vault-password-file", "pw", "--output", "secrets.yml.vault", "plain.yml"]);
    Ran::of(&mut command).ok();
    let import = |password: &str| {
        let password = sandbox.path(password).display().to_string();
        fleet.keys(
            "alice",
            &["import", "ansible-vault", "secrets.yml.vault", "--password-file", &password, "--to", "fra1", "--yes"],
        )
    };
    import("wrong").refuses(3, "the password is wrong, or the file was changed");
    let done = import("pw").ok();
    assert!(done.contains("fra1/secrets.yml: new") && !done.contains("hidden"), "{done}");
    assert_eq!(opened(&fleet, "fra1", "fra1/secrets.yml"), plain.as_bytes());
}
