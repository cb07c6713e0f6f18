//! New values: made as the policy says, in its order, with hooks; two accounts that take turns, tried with a real
//! PostgreSQL.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Ran, Running, Sandbox, TestFleet, Tool, tests};

tests!["renew":
    what_is_burned_is_renewed,
    what_is_due_is_renewed needs [Faketime],
    values_come_in_the_order_of_the_policy,
    nothing_is_made_without_a_yes,
    a_hook_is_told_before_and_after,
    a_hook_that_fails_stops_its_own_secret_alone,
    a_hook_that_others_could_have_written_is_not_run,
    a_hook_makes_a_value,
    two_accounts_take_turns,
    an_account_in_use_is_not_touched,
    postgresql_never_refuses_a_query needs [Postgres, Psql, Setpriv],
];

const SESSION: &str = "[[secret]]\nmatch = \"*/session-key\"\ngenerate = \"hex:32\"\n";
const APP: &str = "pg@fra1/app";

/// A fleet of fra1 with two services, whose policy has these rules for secrets.
fn fleet<'a>(sandbox: &'a Sandbox, rules: &str) -> TestFleet<'a> {
    let fleet = TestFleet::of_one(sandbox);
    let path = sandbox.path("fleet/policy/secrets.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n{rules}")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet.join("fra1", "nginx,pg");
    fleet
}

fn open(fleet: &TestFleet<'_>, address: &str) -> String {
    fleet.keys("fra1", &["open", address, "-q"]).ok()
}

fn renew(fleet: &TestFleet<'_>, args: &[&str]) -> Ran {
    fleet.keys("alice", &[&["renew"], args].concat())
}

fn topics(fleet: &TestFleet<'_>) -> Vec<String> {
    let status = fleet.keys("alice", &["status", "--json"]).json();
    let topic = |item: &Value| item["topic"].as_str().unwrap().to_owned();
    status["attention"].as_array().unwrap().iter().map(topic).collect()
}

/// Puts a hook into alice's home.
fn hook(sandbox: &Sandbox, name: &str, script: &str) -> PathBuf {
    let path = sandbox.write(&format!("alice/hooks/{name}"), format!("#!/bin/sh\nset -eu\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

fn what_is_burned_is_renewed(sandbox: &Sandbox) {
    let fleet = fleet(
        sandbox,
        &format!("[[secret]]\nmatch = \"*/shared\"\nshared = true\ngenerate = \"base64:32\"\n{SESSION}"),
    );
    fleet.join("ams1", "nginx");
    for (address, value) in [("*/shared", "one"), ("nginx@fra1/session-key", "two"), ("nginx@ams1/typed", "by hand")] {
        fleet.seal(address, value);
    }
    renew(&fleet, &["--burned", "--yes"]).ok();
    assert_eq!(open(&fleet, "*/shared"), "one", "nothing is burned");
    fleet.keys("alice", &["revoke", "ams1", "--reason", "compromised", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    assert!(topics(&fleet).contains(&"burned".to_owned()));
    // Resealed is not renewed.
    assert_eq!(open(&fleet, "*/shared"), "one");
    let ran = renew(&fleet, &["--burned", "--yes", "--json"]);
    ran.exits(3);
    let said = ran.json();
    assert_eq!(said["renewed"], json!(["*/shared"]), "{said}");
    assert_eq!(said["plan"]["steps"][0][0]["why"], "burned by ams1");
    let stuck = said["plan"]["by_hand"].as_array().unwrap().len() + said["plan"]["stuck"].as_array().unwrap().len();
    assert_eq!(stuck, 1, "{said}");
    let value = open(&fleet, "*/shared");
    assert!(value.len() == 44 && value.ends_with('='), "{value}");
    assert_eq!(open(&fleet, "nginx@fra1/session-key"), "two");
    fleet.keys("alice", &["rm", "nginx@ams1/typed", "--yes"]).ok();
    assert!(!topics(&fleet).contains(&"burned".to_owned()));
    renew(&fleet, &["--burned"]).ok();
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn what_is_due_is_renewed(sandbox: &Sandbox) {
    let rules = format!("{SESSION}rotate = \"90d\"\n[[secret]]\nmatch = \"*/typed\"\nrotate = \"30d\"\n");
    let fleet = fleet(sandbox, &rules);
    fleet.seal("nginx@fra1/session-key", "first");
    fleet.seal("nginx@fra1/typed", "by hand");
    renew(&fleet, &["--due", "--yes"]).ok();
    assert_eq!(open(&fleet, "nginx@fra1/session-key"), "first");
    sandbox.set_days_later(40);
    fleet.settle(&["fra1"]);
    assert!(topics(&fleet).contains(&"renewal".to_owned()));
    let ran = renew(&fleet, &["--due", "--yes"]);
    assert!(ran.exits(3).contains("by hand: nginx@fra1/typed (due since"), "{}", ran.stdout());
    assert_eq!(open(&fleet, "nginx@fra1/session-key"), "first");
    fleet.seal("nginx@fra1/typed", "by hand again");
    sandbox.set_days_later(91);
    fleet.settle(&["fra1"]);
    fleet.seal("nginx@fra1/typed", "and again");
    renew(&fleet, &["--due", "--yes"]).ok();
    assert_eq!(open(&fleet, "nginx@fra1/session-key").len(), 64);
    renew(&fleet, &["--due", "--yes"]).ok();
    let said = fleet.keys("alice", &["ls", "nginx@fra1/session-key", "--json"]).json();
    assert_eq!(said["secrets"][0]["version"], 2, "once");
}

fn values_come_in_the_order_of_the_policy(sandbox: &Sandbox) {
    let rule = |name: &str, after: &str| {
        format!("[[secret]]\nmatch = \"*/{name}\"\ngenerate = \"hex:32\"\nafter = [{after}]\n")
    };
    let rules = [rule("a", "\"*/b\""), rule("b", "\"*/c\""), rule("c", "")].concat();
    let fleet = fleet(sandbox, &rules);
    for name in ["a", "b", "c"] {
        fleet.seal(&format!("nginx@fra1/{name}"), "old");
        fleet.seal(&format!("pg@fra1/{name}"), "old");
    }
    let ran = renew(&fleet, &["*/*", "--dry-run", "--json"]);
    ran.exits(9);
    let steps: Vec<Vec<String>> = ran.json()["plan"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            step.as_array().unwrap().iter().map(|r| r["seal"]["address"].as_str().unwrap().to_owned()).collect()
        })
        .collect();
    let both = |name: &str| vec![format!("nginx@fra1/{name}"), format!("pg@fra1/{name}")];
    assert_eq!(steps, [both("c"), both("b"), both("a")]);
    let size =
        |fleet: &TestFleet<'_>| fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64().unwrap();
    let before = size(&fleet);
    renew(&fleet, &["*/*", "--yes"]).ok();
    assert_eq!(size(&fleet), before + 3, "a statement for each step");
    // In a circle nothing comes first.
    let path = sandbox.path("fleet/policy/secrets.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("after = []", "after = [\"*/a\"]");
    std::fs::write(&path, text).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    renew(&fleet, &["*/*", "--yes"]).refuses(1, "wait for each other");
    renew(&fleet, &["pg@fra1/b", "--yes"]).ok();
}

fn nothing_is_made_without_a_yes(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, SESSION);
    fleet.seal("nginx@fra1/session-key", "first");
    renew(&fleet, &[]).refuses(2, "nothing is selected");
    renew(&fleet, &["nginx@fra1/*"]).refuses(9, "nothing was changed");
    renew(&fleet, &["nginx@fra1/*", "--dry-run"]).exits(9);
    assert_eq!(open(&fleet, "nginx@fra1/session-key"), "first");
    let said = renew(&fleet, &["dns@*/*", "--yes"]);
    said.ok();
    assert!(said.stderr().contains("nothing to renew"), "{}", said.stderr());
    // Who cannot read what is there can make it new: writing is not reading.
    let path = sandbox.path("fleet/policy/secrets.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}write_only = true\n")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    renew(&fleet, &["nginx@fra1/*", "--yes"]).ok();
    fleet.keys("alice", &["open", "nginx@fra1/session-key"]).exits(3);
    assert_eq!(open(&fleet, "nginx@fra1/session-key").len(), 64);
}

const TOLD: &str = "[[secret]]\nmatch = \"*/told\"\ngenerate = \"alnum:32\"\nhook = \"tell\"\n";

fn a_hook_is_told_before_and_after(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, TOLD);
    fleet.seal("nginx@fra1/told", "old");
    renew(&fleet, &["*/told", "--yes"]).refuses(5, "the policy names the hook tell");
    assert_eq!(open(&fleet, "nginx@fra1/told"), "old");
    let log = sandbox.path("told").display().to_string();
    hook(
        sandbox,
        "tell",
        &format!("echo \"$1 $KEYS_ADDRESS $KEYS_VERSION ${{KEYS_ROLE-none}} $(cat)\" >> {log}; echo talk"),
    );
    let ran = renew(&fleet, &["*/told", "--yes"]);
    assert!(!ran.ok().contains("talk") && ran.stderr().contains("talk"), "stdout is our answer alone");
    let value = open(&fleet, "nginx@fra1/told");
    let line = |what: &str| format!("{what} nginx@fra1/told 2 none {value}\n");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), line("prepare") + &line("done"));
}

fn a_hook_that_fails_stops_its_own_secret_alone(sandbox: &Sandbox) {
    let fleet = fleet(
        sandbox,
        &format!("{TOLD}{SESSION}[[secret]]\nmatch = \"*/later\"\ngenerate = \"hex:32\"\nafter = [\"*/told\"]\n"),
    );
    for address in ["nginx@fra1/told", "pg@fra1/told", "pg@fra1/session-key", "pg@fra1/later"] {
        fleet.seal(address, "old");
    }
    let log = sandbox.path("told").display().to_string();
    hook(sandbox, "tell", &format!("echo $1 $KEYS_ADDRESS >> {log}; test $1$KEYS_ADDRESS != preparenginx@fra1/told"));
    let ran = renew(&fleet, &["*/*", "--yes"]);
    ran.exits(3);
    assert!(ran.stderr().contains("nginx@fra1/told: the hook "), "{}", ran.stderr());
    assert!(ran.stderr().contains("what waits for these was not renewed"), "{}", ran.stderr());
    assert_eq!(open(&fleet, "nginx@fra1/told"), "old");
    assert_eq!(open(&fleet, "pg@fra1/later"), "old");
    assert_eq!(open(&fleet, "pg@fra1/told").len(), 32);
    assert_eq!(open(&fleet, "pg@fra1/session-key").len(), 64);
    assert_eq!(
        std::fs::read_to_string(&log).unwrap(),
        "prepare nginx@fra1/told\nprepare pg@fra1/told\ndone pg@fra1/told\n"
    );
    // Told, and then not sealed: it is told of that, too.
    let program = env!("CARGO_BIN_EXE_keys");
    let root = sandbox.root().display().to_string();
    let seal = format!("echo theirs | {program} --fleet {root}/fleet --home {root}/alice seal nginx@fra1/told");
    hook(sandbox, "tell", &format!("echo $1 >> {log}.2; if [ $1 = prepare ]; then {seal}; fi"));
    let ran = renew(&fleet, &["nginx@fra1/told", "--yes"]);
    ran.exits(3);
    assert!(ran.stderr().contains("has changed in the meantime"), "{}", ran.stderr());
    assert_eq!(std::fs::read_to_string(format!("{log}.2")).unwrap(), "prepare\nfailed\n");
    assert_eq!(open(&fleet, "nginx@fra1/told"), "theirs\n");
}

fn a_hook_that_others_could_have_written_is_not_run(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, TOLD);
    fleet.seal("nginx@fra1/told", "old");
    let path = hook(sandbox, "tell", &format!("echo ran > {}", sandbox.path("ran").display()));
    let chmod =
        |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    chmod(&path, 0o772);
    renew(&fleet, &["*/told", "--yes"]).refuses(1, "others than you could have written it");
    chmod(&path, 0o700);
    chmod(path.parent().unwrap(), 0o777);
    renew(&fleet, &["*/told", "--yes"]).refuses(1, "others than you could have written it");
    chmod(path.parent().unwrap(), 0o700);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    renew(&fleet, &["*/told", "--yes"]).refuses(1, "is no file");
    assert!(!sandbox.path("ran").exists());
    assert_eq!(open(&fleet, "nginx@fra1/told"), "old");
}

fn a_hook_makes_a_value(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "[[secret]]\nmatch = \"*/made\"\ngenerate = \"hook:make\"\nformat = \"<{value}>\"\n");
    fleet.seal("nginx@fra1/made", "old");
    hook(sandbox, "make", "test $1 = generate; printf %s \"made for $KEYS_ADDRESS\"");
    renew(&fleet, &["*/made", "--yes"]).ok();
    assert_eq!(open(&fleet, "nginx@fra1/made"), "<made for nginx@fra1/made>");
    hook(sandbox, "make", "true");
    let ran = renew(&fleet, &["*/made", "--yes"]);
    ran.exits(3);
    assert!(ran.stderr().contains("it printed 0 bytes"), "{}", ran.stderr());
    assert_eq!(open(&fleet, "nginx@fra1/made"), "<made for nginx@fra1/made>");
}

/// Two accounts that take turns. Their readers take a new value within a second.
fn turns(hook: &str) -> String {
    format!(
        "[[secret]]\nmatch = \"pg@*/app\"\ngenerate = \"alnum:32\"\nhook = \"{hook}\"\nroles = [\"app_a\", \"app_b\"]\nsettle = \"1s\"\n"
    )
}

fn two_accounts_take_turns(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, &turns("tell"));
    let log = sandbox.path("told").display().to_string();
    hook(sandbox, "tell", &format!("echo $1 $KEYS_ROLE $KEYS_OTHER_ROLE >> {log}"));
    fleet.seal(APP, "app_a:by hand, once");
    std::thread::sleep(Duration::from_millis(2100));
    renew(&fleet, &[APP, "--yes"]).ok();
    assert!(open(&fleet, APP).starts_with("app_b:"));
    // The other account may be in use still.
    let ran = renew(&fleet, &[APP, "--yes"]);
    assert!(ran.code() == 0 || ran.stdout().contains("not now: pg@fra1/app"), "{}", ran.stdout());
    let again = u64::from(ran.code() == 0);
    std::thread::sleep(Duration::from_millis(2100));
    renew(&fleet, &[APP, "--yes"]).ok();
    let told = std::fs::read_to_string(&log).unwrap();
    let turn = |i: u64| {
        if i.is_multiple_of(2) {
            "prepare app_b app_a\ndone app_b app_a\n"
        } else {
            "prepare app_a app_b\ndone app_a app_b\n"
        }
    };
    assert_eq!(told, (0..2 + again).map(turn).collect::<String>());
}

fn an_account_in_use_is_not_touched(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, &turns("tell"));
    hook(sandbox, "tell", &format!("echo $1 >> {}", sandbox.path("told").display()));
    fleet.seal(APP, "app_b:by hand, against the turns");
    std::thread::sleep(Duration::from_millis(2100));
    let ran = renew(&fleet, &[APP, "--yes"]);
    ran.exits(3);
    assert!(ran.stderr().contains("the present value is that of app_b"), "{}", ran.stderr());
    assert!(!sandbox.path("told").exists());
}

/// A PostgreSQL of the test's own, on a socket in its directory; ended when dropped.
struct Postgres {
    server: Running,
    directory: PathBuf,
}

/// Not root, which PostgreSQL does not run as.
fn unprivileged(program: PathBuf) -> Command {
    let mut command = Tool::Setpriv.command();
    // Killed with the tests it ends its own children, too: SIGQUIT is PostgreSQL's immediate shutdown.
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig", "QUIT", "--"]);
    command.arg(program).current_dir("/");
    command
}

impl Postgres {
    fn start(sandbox: &Sandbox) -> Self {
        let directory = sandbox.path("pg");
        std::fs::create_dir(&directory).unwrap();
        Ran::of(Command::new("/bin/chown").arg("nobody:nogroup").arg(&directory)).ok();
        let data = directory.join("data");
        let bin = Tool::Postgres.path().unwrap().parent().unwrap().to_owned();
        let mut init = unprivileged(bin.join("initdb"));
        Ran::of(init.args(["--no-sync", "-U", "postgres", "-A", "trust", "-D"]).arg(&data)).ok();
        std::fs::write(data.join("pg_hba.conf"), "local all postgres trust\nlocal all all scram-sha-256\n").unwrap();
        let mut server = unprivileged(bin.join("postgres"));
        server.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"]).arg(&directory);
        let server = Running::start(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let postgres = Self { server, directory };
        let start = Instant::now();
        while !postgres.says("postgres", "", "SELECT 1") {
            assert!(start.elapsed() < Duration::from_secs(60), "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        postgres
    }

    fn psql(&self, user: &str) -> Command {
        let mut command = Tool::Psql.command();
        command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", "postgres", "-h"]).arg(&self.directory);
        command
    }

    /// Whether a query as this account succeeds.
    fn says(&self, user: &str, password: &str, query: &str) -> bool {
        let mut command = self.psql(user);
        command.env("PGPASSWORD", password).args(["-w", "-c", query]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT is its fast shutdown; it ends its own children.
        let id = self.server.id().to_string();
        let _ = Command::new("/bin/kill").args(["-INT", &id]).status();
        let _ = self.server.wait();
    }
}

/// From the end of one renewal to the next one.
const BETWEEN: Duration = Duration::from_millis(2600);

fn postgresql_never_refuses_a_query(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, &turns("pg-role"));
    let postgres = Postgres::start(sandbox);
    for query in [
        "CREATE ROLE app_a LOGIN",
        "CREATE ROLE app_b LOGIN",
        "CREATE TABLE t (n int)",
        "GRANT ALL ON t TO app_a, app_b",
    ] {
        assert!(postgres.says("postgres", "", query));
    }
    // The hook is the one that the runbook shows.
    let runbook = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks/renew.md")).unwrap();
    let script = runbook.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let script = script.replace("psql ", &format!("psql -U postgres -h {} ", postgres.directory.display()));
    hook(sandbox, "pg-role", &script);
    fleet.seal(APP, "app_a:nothing yet");
    std::thread::sleep(Duration::from_millis(2100));
    renew(&fleet, &[APP, "--yes"]).ok();
    let account = || {
        let value = open(&fleet, APP);
        let (user, password) = value.split_once(':').unwrap();
        (user.to_owned(), password.to_owned())
    };
    let first = account();
    assert!(first.0 == "app_b" && postgres.says(&first.0, &first.1, "INSERT INTO t VALUES (1)"));
    assert!(!postgres.says(&first.0, "wrong", "SELECT 1"), "passwords are asked for");
    let (end, queries, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // One takes the value each time, the other keeps it for as long as it may.
        for keeps in [Duration::ZERO, Duration::from_millis(800)] {
            let (end, queries, failed, account, postgres) = (&end, &queries, &failed, &account, &postgres);
            scope.spawn(move || {
                let mut held = (Instant::now(), account());
                while !end.load(Ordering::Relaxed) {
                    if held.0.elapsed() >= keeps {
                        held = (Instant::now(), account());
                    }
                    let good = postgres.says(&held.1.0, &held.1.1, "INSERT INTO t VALUES (1); SELECT count(*) FROM t");
                    // Its account is touched again two renewals later. Who was kept waiting until then by a busy machine
                    // has held it for longer than it may, and says nothing about the renewals.
                    if held.0.elapsed() >= BETWEEN {
                        continue;
                    }
                    queries.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(!good), Ordering::Relaxed);
                }
            });
        }
        let mut renewals = 0;
        while renewals < 5 || (queries.load(Ordering::Relaxed) <= 20 && renewals < 100) {
            std::thread::sleep(BETWEEN);
            renew(&fleet, &[APP, "--yes"]).ok();
            renewals += 1;
        }
        end.store(true, Ordering::Relaxed);
    });
    let (queries, failed) = (queries.into_inner(), failed.into_inner());
    eprintln!("renew: {queries} queries by two clients while a PostgreSQL account was renewed, {failed} failed");
    assert!(queries > 20 && failed == 0);
    assert!(!postgres.says(&first.0, &first.1, "SELECT 1"), "the first password is good no more");
}
