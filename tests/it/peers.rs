//! Attacks by whoever can write where sealed files lie, carried out on other programs first: each lets it pass. The same is
//! refused here, by the test that is named beside it. A peer that no longer lets one pass fails the test here, and then this
//! project should say so no more.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Ran, Sandbox, Tool, tests};

tests!["peers":
    sops_opens_a_file_that_a_stranger_made needs [Sops, Age],
    sops_opens_the_file_of_yesterday needs [Sops, Age],
    sops_does_not_notice_that_names_were_swapped needs [Sops, Age],
    sops_serves_a_recipient_that_somebody_put_in needs [Sops, Age],
    sops_lets_who_was_taken_out_read_what_comes_later needs [Sops, Age],
    pass_shows_what_a_stranger_made needs [Pass, Gpg, GpgConf],
    pass_takes_a_signed_list_of_readers_from_elsewhere needs [Pass, Gpg, GpgConf],
    age_opens_what_nobody_signed_and_names_no_reader needs [Age],
];

/// Somebody with an age identity.
struct Person<'a> {
    sandbox: &'a Sandbox,
    name: &'static str,
    recipient: String,
}

impl<'a> Person<'a> {
    fn new(sandbox: &'a Sandbox, name: &'static str) -> Self {
        let keygen = Tool::Age.path().unwrap().with_file_name("age-keygen");
        let file = sandbox.path(&format!("{name}.age"));
        Ran::of(Command::new(keygen).arg("-o").arg(&file)).ok();
        let text = std::fs::read_to_string(file).unwrap();
        let recipient = text.lines().find_map(|l| l.strip_prefix("# public key: ")).unwrap().to_owned();
        Self { sandbox, name, recipient }
    }

    /// Runs sops as this person.
    fn sops(&self, args: &[&str]) -> Ran {
        let mut command = Tool::Sops.command();
        command
            .env("HOME", self.sandbox.root())
            .env("SOPS_AGE_KEY_FILE", self.sandbox.path(&format!("{}.age", self.name)));
        Ran::of(command.current_dir(self.sandbox.root()).args(["--disable-version-check"]).args(args))
    }

    /// Seals a value to these, into the file.
    fn seals(&self, value: &Value, to: &[&Person<'_>], file: &str) {
        self.sandbox.write("plain.json", value.to_string());
        let to = to.iter().map(|p| p.recipient.as_str()).collect::<Vec<_>>().join(",");
        self.sops(&["encrypt", "--age", &to, "--output", file, "plain.json"]).ok();
    }

    /// What this person reads there.
    fn reads(&self, file: &str) -> Option<Value> {
        let ran = self.sops(&["decrypt", file]);
        (ran.code() == 0).then(|| ran.json())
    }
}

fn edit(sandbox: &Sandbox, file: &str, change: impl FnOnce(&mut Value)) {
    let path = sandbox.path(file);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Here: `attacks::a_file_sealed_by_an_outsider_is_refused`.
fn sops_opens_a_file_that_a_stranger_made(sandbox: &Sandbox) {
    let (alice, mallory) = (Person::new(sandbox, "alice"), Person::new(sandbox, "mallory"));
    alice.seals(&json!({ "token": "of alice" }), &[&alice], "secret.json");
    // All that is needed is alice's public key.
    mallory.seals(&json!({ "token": "of mallory" }), &[&alice], "secret.json");
    assert_eq!(alice.reads("secret.json").unwrap()["token"], "of mallory");
}

/// Here: `attacks::an_older_version_is_refused`.
fn sops_opens_the_file_of_yesterday(sandbox: &Sandbox) {
    let alice = Person::new(sandbox, "alice");
    alice.seals(&json!({ "token": "of yesterday" }), &[&alice], "secret.json");
    sandbox.copy("secret.json", "kept.json");
    alice.sops(&["set", "secret.json", "[\"token\"]", "\"of today\""]).ok();
    assert_eq!(alice.reads("secret.json").unwrap()["token"], "of today");
    sandbox.copy("kept.json", "secret.json");
    assert_eq!(alice.reads("secret.json").unwrap()["token"], "of yesterday");
}

/// Here: `attacks::another_secrets_file_is_refused`.
fn sops_does_not_notice_that_names_were_swapped(sandbox: &Sandbox) {
    let alice = Person::new(sandbox, "alice");
    let value = json!({ "token": "t", "fallback_unencrypted": "evil.example", "upstream_unencrypted": "good.example" });
    alice.seals(&value, &[&alice], "secret.json");
    let path = sandbox.path("secret.json");
    let text = std::fs::read_to_string(&path).unwrap();
    // The names alone; the order of what stands there stays.
    let swapped = text
        .replace("upstream_unencrypted", "aside")
        .replace("fallback_unencrypted", "upstream_unencrypted")
        .replace("aside", "fallback_unencrypted");
    assert_ne!(text, swapped);
    std::fs::write(path, swapped).unwrap();
    assert_eq!(alice.reads("secret.json").unwrap()["upstream_unencrypted"], "evil.example");
}

/// Here: `attacks::an_injected_recipient_is_neither_opened_to_nor_carried_on`.
fn sops_serves_a_recipient_that_somebody_put_in(sandbox: &Sandbox) {
    let (alice, mallory) = (Person::new(sandbox, "alice"), Person::new(sandbox, "mallory"));
    alice.seals(&json!({ "token": "of alice" }), &[&alice], "secret.json");
    assert_eq!(mallory.reads("secret.json"), None);
    edit(sandbox, "secret.json", |file| {
        let list = file["sops"]["age"].as_array_mut().unwrap();
        let enc = list[0]["enc"].clone();
        list.push(json!({ "recipient": mallory.recipient, "enc": enc }));
    });
    assert_eq!(alice.reads("secret.json").unwrap()["token"], "of alice", "nothing is noticed");
    alice.sops(&["rotate", "-i", "secret.json"]).ok();
    assert_eq!(mallory.reads("secret.json").unwrap()["token"], "of alice");
}

/// Here: `attacks::who_was_taken_out_reads_no_later_value`.
fn sops_lets_who_was_taken_out_read_what_comes_later(sandbox: &Sandbox) {
    let (alice, bob) = (Person::new(sandbox, "alice"), Person::new(sandbox, "bob"));
    alice.seals(&json!({ "token": "of then" }), &[&alice, &bob], "secret.json");
    sandbox.copy("secret.json", "kept.json");
    sandbox.write(".sops.yaml", format!("creation_rules:\n  - age: {}\n", alice.recipient));
    alice.sops(&["updatekeys", "-y", "secret.json"]).ok();
    alice.sops(&["set", "secret.json", "[\"token\"]", "\"after bob has left\""]).ok();
    assert_eq!(bob.reads("secret.json"), None);
    let kept: Value = serde_json::from_slice(&std::fs::read(sandbox.path("kept.json")).unwrap()).unwrap();
    edit(sandbox, "secret.json", |file| file["sops"]["age"] = kept["sops"]["age"].clone());
    assert_eq!(bob.reads("secret.json").unwrap()["token"], "after bob has left");
}

/// A password store that is signed, as its strongest mode has it.
struct Store<'a> {
    sandbox: &'a Sandbox,
    gnupg: std::path::PathBuf,
    signer: String,
}

impl<'a> Store<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let gnupg = sandbox.path("g");
        std::fs::create_dir(&gnupg).unwrap();
        std::fs::set_permissions(&gnupg, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let mut store = Self { sandbox, gnupg, signer: String::new() };
        for name in ["alice", "mallory"] {
            let uid = format!("{name}@ops.example");
            store.gpg(&["--passphrase", "", "--quick-generate-key", &uid, "future-default", "default", "never"]).ok();
        }
        let listed = store.gpg(&["--with-colons", "--list-keys", "alice@ops.example"]).ok();
        store.signer = listed.lines().find(|l| l.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_owned();
        store
    }

    fn gpg(&self, args: &[&str]) -> Ran {
        let mut command = Tool::Gpg.command();
        command.env("GNUPGHOME", &self.gnupg).current_dir(self.sandbox.root());
        Ran::of(command.args(["--batch", "--yes", "--quiet", "--trust-model", "always"]).args(args))
    }

    fn pass(&self, args: &[&str], input: &str) -> Ran {
        use std::io::Write as _;
        let mut command = Tool::Pass.command();
        command.env("GNUPGHOME", &self.gnupg).env("HOME", self.sandbox.root());
        command.env("PASSWORD_STORE_DIR", self.sandbox.path("store")).env("PASSWORD_STORE_SIGNING_KEY", &self.signer);
        command.env("PASSWORD_STORE_GPG_OPTS", "--trust-model always --batch --yes");
        let piped = std::process::Stdio::piped;
        let mut child = command.args(args).stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran { line: format!("pass {}", args.join(" ")), output: child.wait_with_output().unwrap() }
    }
}

impl Drop for Store<'_> {
    fn drop(&mut self) {
        let mut command = Tool::GpgConf.command();
        let _ = command.arg("--homedir").arg(&self.gnupg).args(["--kill", "gpg-agent"]).output();
    }
}

/// Here: `attacks::a_file_sealed_by_an_outsider_is_refused`.
fn pass_shows_what_a_stranger_made(sandbox: &Sandbox) {
    let store = Store::new(sandbox);
    store.pass(&["init", "alice@ops.example"], "").ok();
    store.pass(&["insert", "-m", "-f", "db"], "of alice\n").ok();
    assert_eq!(store.pass(&["show", "db"], "").ok(), "of alice\n");
    // To alice's public key, by whoever has it, signed by nobody.
    let forged = sandbox.write("forged", "of mallory\n");
    let out = sandbox.path("store/db.gpg");
    store.gpg(&["-r", "alice@ops.example", "-o", out.to_str().unwrap(), "-e", forged.to_str().unwrap()]).ok();
    assert_eq!(store.pass(&["show", "db"], "").ok(), "of mallory\n");
}

/// Here: `attacks::a_quorum_lowered_in_a_file_counts_for_nothing`, and that who reads is a signed act about an address.
fn pass_takes_a_signed_list_of_readers_from_elsewhere(sandbox: &Sandbox) {
    let store = Store::new(sandbox);
    store.pass(&["init", "alice@ops.example"], "").ok();
    store.pass(&["init", "-p", "shared", "alice@ops.example", "mallory@ops.example"], "").ok();
    let recipients = || {
        let listed =
            store.gpg(&["--list-only", "--list-packets", sandbox.path("store/prod/db.gpg").to_str().unwrap()]).ok();
        listed.matches(":pubkey enc packet:").count()
    };
    store.pass(&["insert", "-m", "-f", "prod/db"], "first\n").ok();
    assert_eq!(recipients(), 1);
    // Signed by alice, for another directory.
    for name in [".gpg-id", ".gpg-id.sig"] {
        sandbox.copy(&format!("store/shared/{name}"), &format!("store/prod/{name}"));
    }
    store.pass(&["insert", "-m", "-f", "prod/db"], "second\n").ok();
    assert_eq!(recipients(), 2, "mallory reads it");
}

/// Here: `sealed_files::what_was_not_signed_is_no_value`, and `keys who`, which needs no key.
fn age_opens_what_nobody_signed_and_names_no_reader(sandbox: &Sandbox) {
    let (alice, mallory) = (Person::new(sandbox, "alice"), Person::new(sandbox, "mallory"));
    sandbox.write("plain", "of mallory\n");
    let age = |args: &[&str]| Ran::of(Tool::Age.command().current_dir(sandbox.root()).args(args));
    age(&["-r", &alice.recipient, "-o", "sealed", "plain"]).ok();
    assert_eq!(age(&["-d", "-i", "alice.age", "sealed"]).ok(), "of mallory\n");
    let text = String::from_utf8_lossy(&std::fs::read(sandbox.path("sealed")).unwrap()).into_owned();
    assert!(text.contains("-> X25519 ") && !text.contains(&alice.recipient) && !text.contains(&mallory.recipient));
}
