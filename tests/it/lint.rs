//! `keys lint`: each finding where it belongs and not elsewhere, without any key; what was found is never shown; and a real
//! git that refuses a commit.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use keys::lint::{self, Code, Finding, Severity};
use keys::name::Address;
use keys::ops;
use keys::policy::SecretsPolicy;
use keys::state::State;
use keys::time::Span;

use crate::support::stage::{Stage, member};
use crate::support::{Ran, Sandbox, TestFleet, Tool, tests};

tests!["lint":
    a_fleet_in_order_passes_without_key_and_home,
    drift_and_burned_and_orphaned_secrets_are_found,
    readers_are_found_before_they_expire_and_after,
    a_long_reach_is_found_and_said_in_numbers,
    rules_that_do_nothing_are_found,
    one_body_at_two_addresses_is_found,
    one_value_at_two_addresses_is_found_by_who_can_open_both,
    sealed_files_are_checked_without_a_key,
    a_policy_that_cannot_be_is_found_with_its_line,
    values_that_were_never_sealed_are_found_and_not_shown,
    what_a_directory_holds_besides_is_borne,
    git_refuses_a_commit_with_a_value_that_was_not_sealed needs [Git],
    this_project_itself_passes,
];

const ADDRESS: &str = "nginx@fra1/tls.key";
/// A token as GitHub makes them, put together here, so that no file of this project has one.
fn token() -> String {
    format!("ghp{}{}", '_', "q8Zr3VtYw1Lk5Nf0Hs7Dx2Jc9Gb4Mp6TaUeQ")
}

/// The findings of an answer: severity, code and place.
fn found(ran: &Ran) -> BTreeSet<(String, String, String)> {
    let json = ran.json();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let rows = json["findings"].as_array().unwrap().iter();
    rows.map(|f| (text(&f["severity"]), text(&f["code"]), text(&f["place"]))).collect()
}

#[track_caller]
fn has(ran: &Ran, severity: &str, code: &str, place: &str) {
    let all = found(ran);
    assert!(all.contains(&(severity.to_owned(), code.to_owned(), place.to_owned())), "{code} at {place}: {all:#?}");
}

#[track_caller]
fn lacks(ran: &Ran, code: &str) {
    let all = found(ran);
    assert!(all.iter().all(|(_, c, _)| c != code), "{code}: {all:#?}");
}

fn codes(findings: &[Finding]) -> BTreeSet<(Severity, Code)> {
    findings.iter().map(|f| (f.severity, f.code)).collect()
}

fn a_fleet_in_order_passes_without_key_and_home(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "nginx");
    fleet.seal(ADDRESS, "a value");
    fleet.seal("nginx@ams1/tls.key", "another");
    fleet.seal("ams1/token", "a third");
    fleet.seal("fra1/token", "a fourth");
    // As in CI: a copy of the fleet, no home, not even a place for one.
    let mut command = sandbox.command();
    let ran = Ran::of(command.env_remove("HOME").args(["--fleet", "fleet", "lint", "--fail-on", "warning", "--json"]));
    ran.ok();
    assert_eq!(ran.json()["counts"], serde_json::json!({ "error": 0, "warning": 0, "note": 1 }));
    // An operator who can read everything is worth a note, and no more.
    has(&ran, "note", "reach", "alice");
    assert_eq!(ran.json()["secrets"], 4);
    let said = fleet.keys("nobody", &["lint"]);
    assert!(said.ok().contains("reach    alice 4 (100 %)"), "{}", said.stdout());
    assert!(said.stderr().contains("0 errors, 0 warnings, 1 note, in 0 files and 4 secrets"), "{}", said.stderr());
    fleet.keys("nobody", &["lint", "--fail-on", "note"]).exits(3);
    assert!(!sandbox.path("nobody").exists());
    sandbox.keys(&["--fleet", "nowhere", "lint"]).refuses(5, "there is no");
}

fn drift_and_burned_and_orphaned_secrets_are_found(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "nginx");
    let path = sandbox.path("fleet/policy/secrets.toml");
    let first = std::fs::read_to_string(&path).unwrap();
    let rule = "\n[[secret]]\nmatch = \"nginx@*/api-token\"\nshared = true\n";
    std::fs::write(&path, format!("{first}{rule}")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.seal("nginx@*/api-token", "a value");
    fleet.seal("nginx@ams1/tls.key", "another");
    fleet.seal("ams1/token", "a third");
    let before = fleet.keys("nobody", &["lint", "--json"]);
    before.ok();
    has(&before, "note", "shared", "nginx@*/api-token");
    ["drift", "burned", "orphan"].iter().for_each(|code| lacks(&before, code));
    // A rotation makes the present keys others: a warning. Resealed, it is gone.
    fleet.keys("ams1", &["sync"]).ok();
    fleet.keys("alice", &["rotate", "ams1", "--slot", "openpgp", "--yes"]).ok();
    fleet.keys("ams1", &["sync"]).ok();
    let drifted = |ran: &Ran| found(ran).into_iter().filter(|f| f.1 == "drift").collect::<Vec<_>>();
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(drifted(&fleet.keys("nobody", &["lint", "--json"])), []);
    // Whom the policy takes the value from can read it still: an error.
    std::fs::write(&path, format!("{first}{rule}write_only = true\n")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let wider = fleet.keys("nobody", &["lint", "--json"]);
    wider.exits(3);
    has(&wider, "error", "drift", "nginx@*/api-token");
    assert!(wider.stdout().contains("readable by alice whom policy and log do not give it"), "{}", wider.stdout());
    fleet.keys("alice", &["reseal", "--yes"]).ok();
    lacks(&fleet.keys("nobody", &["lint", "--json"]), "drift");
    // A thief burns what the machine could read, and leaves behind what was its own.
    fleet.keys("alice", &["revoke", "ams1", "--reason", "compromised", "--yes"]).ok();
    let after = fleet.keys("nobody", &["lint", "--json"]);
    after.exits(3);
    for address in ["nginx@*/api-token", "nginx@ams1/tls.key", "ams1/token"] {
        has(&after, "error", "burned", address);
    }
    has(&after, "warning", "orphan", "ams1/token");
    fleet.seal("nginx@*/api-token", "a new value");
    for address in ["nginx@ams1/tls.key", "ams1/token"] {
        fleet.keys("alice", &["rm", address, "--yes"]).ok();
    }
    let put_right = fleet.keys("nobody", &["lint", "--json"]);
    put_right.ok();
    ["drift", "burned", "orphan"].iter().for_each(|code| lacks(&put_right, code));
}

/// A fleet of fra1 and ams1 with nginx each, and a secret at each of these addresses.
fn staged(sandbox: &Sandbox, addresses: &[&str]) -> Stage {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    stage.join(sandbox, "ams1", &["nginx"]);
    for address in addresses {
        let address: Address = address.parse().unwrap();
        stage.carry(|fleet, home| {
            let plan = ops::plan_seal(&address, fleet).unwrap();
            vec![ops::seal(&plan, b"a value", "sealed", None, home, fleet).unwrap()]
        });
    }
    stage
}

fn readers_are_found_before_they_expire_and_after(sandbox: &Sandbox) {
    let mut stage = staged(sandbox, &[ADDRESS]);
    let began = stage.now;
    let mut at = |days: u64| {
        stage.now = began.plus(Span::days(days));
        let found = ops::lint(&mut stage.open(), 100).unwrap().findings;
        let about = |f: &Finding| f.place == "nginx@fra1";
        found.into_iter().filter(about).map(|f| (f.severity, f.code)).collect::<BTreeSet<_>>()
    };
    assert_eq!(at(1), [].into());
    // A service is vouched for for 30 days, and its certificate lives for 365.
    assert_eq!(at(40), [(Severity::Error, Code::ReaderUnvouched)].into());
    assert!(at(355).contains(&(Severity::Warning, Code::ReaderExpires)));
    assert!(at(366).contains(&(Severity::Error, Code::ReaderExpired)));
    // ams1 reads nothing, so it is nobody's trouble here.
    stage.now = began.plus(Span::days(366));
    assert!(ops::lint(&mut stage.open(), 100).unwrap().findings.iter().all(|f| !f.place.contains("ams1")));
}

/// The state with another policy/secrets.toml in force.
fn under(state: &State, rules: &str) -> State {
    let mut policy = (*state.policy.policy).clone();
    policy.secrets = SecretsPolicy::parse(&format!("[recovery]\noperators = []\n{rules}")).unwrap();
    let mut state = state.clone();
    state.policy.policy = std::sync::Arc::new(policy);
    state
}

fn a_long_reach_is_found_and_said_in_numbers(sandbox: &Sandbox) {
    let stage = staged(sandbox, &[ADDRESS, "fra1/a", "fra1/b", "nginx@ams1/tls.key"]);
    let fleet = stage.open();
    let state = fleet.state();
    let rows = lint::reach(state);
    let told: Vec<_> = rows.iter().map(|r| (r.member.to_string(), r.count, r.percent)).collect();
    let expected = [("alice", 4, 100), ("fra1", 3, 75), ("ams1", 1, 25), ("nginx@ams1", 1, 25), ("nginx@fra1", 1, 25)];
    assert_eq!(told, expected.map(|(m, n, p)| (m.to_owned(), n, p)), "a PoP has what its services have");
    let findings = |state: &State, max| {
        let found = lint::reach_findings(state, &lint::reach(state), max).into_iter();
        found.map(|f| (f.severity, f.code, f.place)).collect::<Vec<_>>()
    };
    let (note, warning) = (Severity::Note, Severity::Warning);
    assert_eq!(findings(state, 75), [(note, Code::Reach, "alice".to_owned())]);
    let over = [(note, Code::Reach, "alice".to_owned()), (warning, Code::Reach, "fra1".to_owned())];
    assert_eq!(findings(state, 74), over);
    assert_eq!(findings(state, 100), []);
    // An operator who is no recovery reader by the policy has no business there.
    assert_eq!(findings(&under(state, ""), 75), [(warning, Code::Reach, "alice".to_owned())]);
    // A reader on another PoP.
    let mut elsewhere = state.clone();
    let live = Arc::make_mut(elsewhere.secrets.get_mut(&ADDRESS.parse().unwrap()).unwrap()).live.as_mut().unwrap();
    std::sync::Arc::make_mut(&mut live.readers).insert(member("nginx@ams1"), vec!["KEY".to_owned()]);
    let found: Vec<_> = findings(&elsewhere, 100);
    let expected = ["ams1", "nginx@ams1"].map(|m| (warning, Code::ReachElsewhere, m.to_owned()));
    assert_eq!(found, expected);
}

fn rules_that_do_nothing_are_found(sandbox: &Sandbox) {
    let stage = staged(sandbox, &[ADDRESS, "fra1/a"]);
    let fleet = stage.open();
    let told = |rules: &[(&str, &str)]| {
        let text = rules.iter().map(|(m, more)| format!("[[secret]]\nmatch = \"{m}\"\n{more}\n")).collect::<String>();
        let found = lint::rules(&under(fleet.state(), &text));
        found.iter().map(|f| (f.code, f.place.rsplit("number ").next().unwrap().to_owned())).collect::<Vec<_>>()
    };
    let one = |code: Code, place: &str| vec![(code, place.to_owned())];
    assert_eq!(told(&[("nginx@fra1/*", ""), ("fra1/*", "")]), []);
    assert_eq!(told(&[("nginx@fra1/*", ""), ("dns@*/x", "")]), one(Code::RuleEmpty, "2 (dns@*/x)"));
    // One that matches something, all of which an earlier one decides.
    assert_eq!(told(&[("*/tls.key", ""), ("nginx@fra1/*", "")]), one(Code::RuleEmpty, "2 (nginx@fra1/*)"));
    assert_eq!(told(&[("nginx@*/*", ""), ("nginx@*/tls.key", "")]), one(Code::RuleShadowed, "2 (nginx@*/tls.key)"));
    assert_eq!(told(&[("nginx@*/tls.key", ""), ("nginx@*/*", "")]), one(Code::RuleEmpty, "2 (nginx@*/*)"));
    assert_eq!(told(&[("dns@*/x", "shared = true")]), one(Code::RuleUnused, "1 (dns@*/x)"));
    assert_eq!(told(&[("nginx@fra1/*", "shared = true")]), one(Code::RuleUnused, "1 (nginx@fra1/*)"));
    assert_eq!(told(&[("nginx@fra1/*", "shared = true\nreaders = [\"ams1\"]")]), []);
}

fn one_body_at_two_addresses_is_found(sandbox: &Sandbox) {
    let stage = staged(sandbox, &[ADDRESS, "fra1/a"]);
    let fleet = stage.open();
    assert_eq!(lint::duplicates(fleet.state()), []);
    let mut state = fleet.state().clone();
    let body = state.secrets[&ADDRESS.parse::<Address>().unwrap()].live.as_ref().unwrap().body;
    let secret = Arc::make_mut(state.secrets.get_mut(&"fra1/a".parse().unwrap()).unwrap());
    secret.live.as_mut().unwrap().body = body;
    let found = lint::duplicates(&state);
    assert_eq!(codes(&found), [(Severity::Error, Code::DuplicateBody)].into());
    assert!(found.len() == 1 && found[0].text.contains("fra1/a") != (found[0].place == "fra1/a"), "{found:?}");
}

fn one_value_at_two_addresses_is_found_by_who_can_open_both(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal(ADDRESS, "one value for all");
    fleet.seal("fra1/a", "another");
    let look = |who: &str| fleet.keys(who, &["lint", "--open", "--json"]);
    lacks(&look("alice"), "duplicate-value");
    fleet.seal("fra1/b", "one value for all");
    let seen = look("alice");
    seen.ok();
    has(&seen, "warning", "duplicate-value", ADDRESS);
    assert_eq!(seen.json()["opened"], 3);
    assert!(!(seen.stdout() + &seen.stderr()).contains("one value for all"));
    // Without --open nothing is opened, and somebody without keys opens nothing.
    lacks(&fleet.keys("alice", &["lint", "--json"]), "duplicate-value");
    sandbox.keys(&["--fleet", "fleet", "--home", "nobody", "lint", "--open"]).exits(5);
}

fn sealed_files_are_checked_without_a_key(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal(ADDRESS, "a value");
    fleet.seal("fra1/a", "another");
    let path = fleet.keyring("sealed/fra1/nginx/tls.key.pgp");
    let good = std::fs::read(&path).unwrap();
    let look = || fleet.keys("nobody", &["lint", "--json"]);
    look().ok();
    std::fs::write(&path, "password: not sealed at all\n").unwrap();
    let foreign = look();
    foreign.exits(3);
    has(&foreign, "error", "sealed-damaged", ADDRESS);
    has(&foreign, "error", "sealed-foreign", "sealed/fra1/nginx/tls.key.pgp");
    // An OpenPGP message, and another one than the log has.
    std::fs::copy(fleet.keyring("sealed/fra1/a.pgp"), &path).unwrap();
    let other = look();
    has(&other, "error", "sealed-damaged", ADDRESS);
    lacks(&other, "sealed-foreign");
    std::fs::remove_file(&path).unwrap();
    has(&look(), "error", "sealed-damaged", ADDRESS);
    std::fs::write(&path, &good).unwrap();
    look().ok();
    std::fs::write(fleet.keyring("sealed/fra1/unknown.pgp"), &good).unwrap();
    let unknown = look();
    has(&unknown, "error", "sealed-foreign", "sealed/fra1/unknown.pgp");
    lacks(&unknown, "sealed-damaged");
}

fn a_policy_that_cannot_be_is_found_with_its_line(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let path = sandbox.path("fleet/policy/secrets.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let lines = good.lines().count();
    std::fs::write(&path, format!("{good}[[secret]]\nmatch = \"a/b\"\nshraed = true\n")).unwrap();
    let ran = fleet.keys("nobody", &["lint", "--json"]);
    ran.exits(3);
    has(&ran, "error", "policy", "policy/secrets.toml");
    assert_eq!(ran.json()["findings"][0]["line"], lines + 3);
    // The same by its path alone, as a hook sees it.
    let ran = fleet.keys("nobody", &["lint", "fleet/policy"]);
    assert!(ran.exits(3).contains(&format!("fleet/policy/secrets.toml:{}: unknown field `shraed`", lines + 3)));
    std::fs::write(&path, &good).unwrap();
    fleet.keys("nobody", &["lint"]).ok();
    // Well formed, and nobody could ever keep it.
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[[quorum]]\nact = \"secret.remove\"\nneed = {{ operator = 7 }}\n")).unwrap();
    let ran = fleet.keys("nobody", &["lint", "--json"]);
    ran.exits(3);
    has(&ran, "error", "policy", "policy/");
}

fn values_that_were_never_sealed_are_found_and_not_shown(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let token = token();
    sandbox.write("fleet/deploy/app.env", format!("A=1\nTOKEN={token}\n"));
    sandbox.write("elsewhere/app.env", format!("{token}\n"));
    let ran = fleet.keys("nobody", &["lint"]);
    let said = ran.exits(3) + &ran.stderr();
    assert!(said.contains("error    plain-token      fleet/deploy/app.env:2: it looks like a GitHub token"), "{said}");
    assert!(!said.contains("elsewhere"), "{said}");
    let json = fleet.keys("nobody", &["lint", "--json"]);
    assert!(
        !(said + &json.stdout() + &json.stderr()).contains(token.get(8..20).unwrap()),
        "the value itself is nowhere"
    );
    // Paths alone need no fleet.
    let ran = sandbox.keys(&["lint", "elsewhere", "fleet/policy"]);
    assert!(ran.exits(3).contains("elsewhere/app.env:1"), "{}", ran.stdout());
    sandbox.keys(&["lint", "fleet/policy"]).ok();
    sandbox.keys(&["lint", "no-such-file"]).refuses(5, "cannot read no-such-file");
    sandbox.write("fleet/deploy/app.env", format!("A=1\n# keys-lint: allow\nTOKEN={token}\n"));
    fleet.keys("nobody", &["lint"]).ok();
    fleet.keys("nobody", &["lint", "--fail-on", "grave"]).refuses(2, "known are note, warning, error");
}

fn what_a_directory_holds_besides_is_borne(sandbox: &Sandbox) {
    let token = token();
    // No text; too large; git's own; a link to what lies elsewhere, to a directory, to itself.
    sandbox.write("all/binary", [b"\x7fELF\0", token.as_bytes()].concat());
    sandbox.write("all/large", format!("{token}\n").repeat(30_000));
    sandbox.write("all/.git/config", &token);
    sandbox.write("elsewhere/file", &token);
    for (target, name) in [("../elsewhere/file", "file"), ("../elsewhere", "directory"), ("loop", "loop")] {
        std::os::unix::fs::symlink(target, sandbox.path("all").join(name)).unwrap();
    }
    std::fs::write(sandbox.path("all/e\u{1b}[2Jscape"), &token).unwrap();
    let ran = sandbox.keys(&["lint", "all", "--json"]);
    ran.exits(3);
    has(&ran, "note", "unread", "all/large");
    let places: Vec<String> = found(&ran).into_iter().filter(|f| f.1 == "plain-token").map(|f| f.2).collect();
    assert!(places.len() == 1 && places[0].starts_with("all/e") && !places[0].contains('\u{1b}'), "{places:?}");
    assert_eq!((&ran.json()["files"], &ran.json()["binary"]), (&2.into(), &1.into()));
}

/// git, as alice, in the directory `repository`.
fn git(sandbox: &Sandbox, args: &[&str]) -> Ran {
    let keys = Path::new(env!("CARGO_BIN_EXE_keys")).parent().unwrap();
    let mut command: Command = Tool::Git.command();
    command.current_dir(sandbox.path("repository")).env("HOME", sandbox.root());
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", keys.display()));
    for (name, value) in [("NAME", "alice"), ("EMAIL", "alice@ops.example")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    Ran::of(command.args(args))
}

fn git_refuses_a_commit_with_a_value_that_was_not_sealed(sandbox: &Sandbox) {
    sandbox.write("repository/readme", "nothing\n");
    git(sandbox, &["init", "-q", "-b", "main"]).ok();
    let keys = |args: &[&str]| {
        let mut command = sandbox.command();
        Ran::of(command.current_dir(sandbox.path("repository")).args(args))
    };
    assert!(keys(&["lint", "--install-hook"]).ok().contains("hooks/pre-commit"));
    assert!(keys(&["lint", "--install-hook"]).stderr().contains("is there already"));
    git(sandbox, &["add", "."]).ok();
    git(sandbox, &["commit", "-q", "-m", "first"]).ok();
    let commits = || git(sandbox, &["rev-list", "--count", "HEAD"]).ok().trim().to_owned();
    assert_eq!(commits(), "1");

    sandbox.write("repository/app.env", format!("TOKEN={}\n", token()));
    git(sandbox, &["add", "."]).ok();
    let refused = git(sandbox, &["commit", "-m", "second"]);
    assert!(refused.code() != 0 && commits() == "1");
    let said = refused.stdout() + &refused.stderr();
    assert!(said.contains("plain-token") && said.contains("app.env:1") && !said.contains(&token()), "{said}");
    // What counts is what is staged, not what lies there.
    sandbox.write("repository/app.env", "TOKEN=none\n");
    assert!(git(sandbox, &["commit", "-m", "second"]).code() != 0 && commits() == "1");
    git(sandbox, &["add", "."]).ok();
    git(sandbox, &["commit", "-q", "-m", "second"]).ok();
    sandbox.write("repository/app.env", format!("TOKEN={}\n", token()));
    git(sandbox, &["commit", "-q", "--allow-empty", "-m", "third"]).ok();
    assert_eq!(commits(), "3");
    // With what it takes in by itself, too; and files in the place of sealed ones and of the policy.
    assert!(git(sandbox, &["commit", "-q", "-a", "-m", "fourth"]).code() != 0);
    sandbox.write("repository/app.env", "TOKEN=none\n");
    sandbox.write("repository/keyring/sealed/fra1/a.pgp", "a value\n");
    sandbox.write("repository/policy/ssh.toml", "x = 1\n");
    git(sandbox, &["add", "."]).ok();
    let ran = keys(&["lint", "--staged", "--json"]);
    ran.exits(3);
    has(&ran, "error", "sealed-foreign", "keyring/sealed/fra1/a.pgp");
    has(&ran, "error", "policy", "policy/ssh.toml");
    // In the fleet's own directory: what git is told to ignore is not looked at, what it is not told of is.
    for directory in ["keyring", "policy"] {
        std::fs::remove_dir_all(sandbox.path("repository").join(directory)).unwrap();
    }
    let fleet = |args: &[&str]| keys(&[&["--fleet", ".", "--home", "../alice"], args].concat());
    fleet(&["init", "cdn.example", "--operator", "Alice <alice@ops.example>"]).ok();
    sandbox.write("repository/local.env", format!("TOKEN={}\n", token()));
    assert!(fleet(&["lint"]).exits(3).contains("local.env:1"));
    sandbox.write("repository/.gitignore", "local.env\n");
    fleet(&["lint"]).ok();
    // Somebody else's hook stays.
    let hook = sandbox.write("repository/.git/hooks/pre-commit", "#!/bin/sh\n");
    keys(&["lint", "--install-hook"]).refuses(1, "is another hook; nothing was changed");
    assert_eq!(std::fs::read(hook).unwrap(), b"#!/bin/sh\n");
}

/// What this project keeps is text for people, and full of examples of secrets.
fn this_project_itself_passes(sandbox: &Sandbox) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = ["src", "docs", "tests", "policy", "README.md", "SECURITY.md", ".ci"].map(|p| root.join(p));
    let mut command = sandbox.command();
    Ran::of(command.args(["lint", "--fail-on", "warning"]).args(paths)).ok();
}
