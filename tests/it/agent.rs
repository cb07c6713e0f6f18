//! The agent of a machine: what it delivers, what it asks, what it does when something is wrong, and how it starts and ends.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Ran, Running, Sandbox, TestFleet, Tool, bound, tests};

tests!["agent":
    files_follow_the_log_and_a_bad_one_stops_nobody_else,
    what_a_service_does_not_take_is_taken_back,
    a_hook_is_the_machines_own_and_has_its_time,
    who_has_left_has_nothing_any_more,
    an_expired_value_is_served_or_stopped needs [Faketime],
    it_starts_without_any_network needs [Ip, Root],
    it_tells_systemd_and_ends_when_it_is_told,
    a_crash_before_the_service_was_told_is_made_good,
    what_a_machine_acknowledges_is_read_by_others needs [Faketime],
    numbers_are_there_from_the_start,
    a_mirror_brings_what_is_new_and_its_absence_nothing_worse,
];

/// A fleet with the PoP fra1, whose nginx and dns get files; `more` goes into nginx's delivery.
pub(crate) fn fleet<'a>(sandbox: &'a Sandbox, more: &str) -> TestFleet<'a> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx,dns");
    policy(
        &fleet,
        &format!(
            "[[delivery]]\nto = \"nginx@*\"\n{more}\n[[delivery.file]]\nname = \"tls.pem\"\nsecrets = [\"tls.crt\", \"tls.key\"]\n\
             [[delivery]]\nto = \"dns@*\"\n[[delivery.file]]\nname = \"tsig\"\nsecrets = [\"tsig\"]\nmode = \"0600\"\n"
        ),
    );
    fleet.seal("nginx@fra1/tls.crt", "certificate 1");
    fleet.seal("nginx@fra1/tls.key", "key 1\n");
    fleet.seal("dns@fra1/tsig", "tsig 1");
    fleet.keys("fra1", &["sync"]).ok();
    fleet.keys("alice", &["sync"]).ok();
    fleet
}

/// Puts a text at the end of policy/secrets.toml, and has it logged.
pub(crate) fn policy(fleet: &TestFleet<'_>, text: &str) {
    let path = fleet.sandbox.path("fleet/policy/secrets.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{before}\n{text}")).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
}

/// One round of fra1's agent.
fn once(fleet: &TestFleet<'_>) -> Ran {
    fleet.keys("fra1", &["agent", "--once", "--run-dir", "run", "--hooks", "hooks.toml"])
}

fn served(fleet: &TestFleet<'_>, file: &str) -> Option<String> {
    std::fs::read_to_string(fleet.sandbox.path("run").join(file)).ok()
}

/// A hook that notes what it is asked and what it sees, and fails where a file `fail-PHASE` says so.
pub(crate) fn hooks(sandbox: &Sandbox) {
    let script = format!(
        "#!/bin/sh\ncd {root}\necho \"$KEYS_PHASE $KEYS_GENERATION $(/usr/bin/head -n 1 $KEYS_DIRECTORY/tls.pem)\" >> asked\n\
         if [ -e fail-$KEYS_PHASE ]; then echo \"no $KEYS_PHASE\" >&2; exit 3; fi\n",
        root = sandbox.root().display()
    );
    let path = sandbox.write("hook", script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let hook = |name: &str| format!("[{name}]\nrun = [\"{}\"]\ntimeout = \"20s\"\n", path.display());
    sandbox.write("hooks.toml", format!("{}{}{}", hook("look"), hook("tell"), hook("try")));
}

/// What the hook was asked since this was last called.
fn asked(sandbox: &Sandbox) -> Vec<String> {
    let path = sandbox.path("asked");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(&path);
    text.lines().map(str::to_owned).collect()
}

pub(crate) const HOOKS: &str = "check = \"look\"\nreload = \"tell\"\nverify = \"try\"";

fn files_follow_the_log_and_a_bad_one_stops_nobody_else(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "");
    once(&fleet).ok();
    assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 1\nkey 1\n"));
    assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 1"));
    let mode = |file: &str| std::fs::metadata(sandbox.path("run").join(file)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("nginx/current/tls.pem"), mode("dns/current/tsig")), (0o400, 0o600));
    // Nothing new, nothing done; new keys of the reader are no new value.
    let link = |service: &str| std::fs::read_link(sandbox.path("run").join(service).join("current")).unwrap();
    once(&fleet).ok();
    fleet.keys("alice", &["rotate", "nginx@fra1", "--slot", "openpgp", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    once(&fleet).ok();
    assert_eq!((link("nginx"), link("dns")), ("gen-1".into(), "gen-1".into()));
    // nginx's next key is not what the log says: nginx keeps its pair, dns goes on.
    fleet.seal("nginx@fra1/tls.crt", "certificate 2");
    fleet.seal("nginx@fra1/tls.key", "key 2\n");
    fleet.seal("dns@fra1/tsig", "tsig 2");
    let file = fleet.keyring("sealed/fra1/nginx/tls.key.pgp");
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() - 9]).unwrap();
    let ran = once(&fleet);
    ran.refuses(3, "nginx: delivery: tls.pem: ");
    assert!(ran.stderr().contains("generation 1 is served"), "{}", ran.stderr());
    assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 1\nkey 1\n"));
    assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 2"));
    std::fs::write(&file, &good).unwrap();
    once(&fleet).ok();
    assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 2\nkey 2\n"));
    // After the machine's start nothing is there, and one bad secret still stops nobody else; numbers go on.
    std::fs::remove_dir_all(sandbox.path("run")).unwrap();
    std::fs::write(&file, b"x").unwrap();
    once(&fleet).refuses(3, "nothing is served yet");
    assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 2"));
    assert_eq!(link("dns"), std::path::PathBuf::from("gen-3"));
    std::fs::write(&file, &good).unwrap();
    once(&fleet).ok();
    assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 2\nkey 2\n"));
}

fn what_a_service_does_not_take_is_taken_back(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, HOOKS);
    hooks(sandbox);
    once(&fleet).ok();
    assert_eq!(asked(sandbox), ["check 1 certificate 1"], "nobody is told of the first");
    fleet.seal("nginx@fra1/tls.crt", "certificate 2");
    for (phase, seen) in [
        ("check", &["check 2 certificate 2"][..]),
        ("reload", &["check 3 certificate 2", "reload 3 certificate 2", "reload 1 certificate 1"]),
        (
            "verify",
            &["check 4 certificate 2", "reload 4 certificate 2", "verify 4 certificate 2", "reload 1 certificate 1"],
        ),
    ] {
        sandbox.write(&format!("fail-{phase}"), "");
        let ran = once(&fleet);
        ran.refuses(3, &format!("no {phase}"));
        assert!(ran.stderr().contains("generation 1 is served"), "{}", ran.stderr());
        assert_eq!(asked(sandbox), seen);
        assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 1\nkey 1\n"));
        assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 1"));
        std::fs::remove_file(sandbox.path(&format!("fail-{phase}"))).unwrap();
    }
    once(&fleet).ok();
    assert_eq!(asked(sandbox), ["check 5 certificate 2", "reload 5 certificate 2", "verify 5 certificate 2"]);
    assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 2\nkey 1\n"));
    let mut there: Vec<String> = std::fs::read_dir(sandbox.path("run/nginx"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_str().unwrap().to_owned())
        .collect();
    there.sort();
    assert_eq!(there, ["current", "gen-1", "gen-1.json", "gen-5", "gen-5.json", "settled"]);
}

fn a_hook_is_the_machines_own_and_has_its_time(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, HOOKS);
    // A name that this machine does not have is a check that says no.
    once(&fleet).refuses(3, "the policy's hook look (check) is not defined on this machine");
    assert_eq!(served(&fleet, "nginx/current/tls.pem"), None);
    hooks(sandbox);
    let change = |path: &str, mode: u32| {
        std::fs::set_permissions(sandbox.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in ["hooks.toml", "hook"] {
        let before = std::fs::metadata(sandbox.path(path)).unwrap().permissions().mode() & 0o777;
        change(path, before | 0o020);
        once(&fleet).refuses(3, "could have written it");
        change(path, before);
    }
    assert_eq!(asked(sandbox), Vec::<String>::new(), "it was not run");
    // One that does not end is ended, with what it started.
    sandbox.write("slow", "#!/bin/sh\n/bin/sleep 300 & echo $! > child\nwait\n");
    change("slow", 0o755);
    let path = sandbox.path("slow");
    sandbox.write(
        "hooks.toml",
        format!(
            "[look]\nrun = [\"/bin/sh\", \"-c\", \"cd {}; . {}\"]\ntimeout = \"1s\"\n",
            sandbox.root().display(),
            path.display()
        ),
    );
    let start = Instant::now();
    once(&fleet).refuses(3, "took more than 1 s, and was ended");
    assert!(start.elapsed() < Duration::from_secs(60));
    let child = std::fs::read_to_string(sandbox.path("child")).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(" Z "), "{state}");
}

fn who_has_left_has_nothing_any_more(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "");
    once(&fleet).ok();
    // A keyring that is away takes nothing away.
    std::fs::rename(sandbox.path("fleet"), sandbox.path("away")).unwrap();
    once(&fleet).refuses(3, "everything stays as it is");
    assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 1"));
    std::fs::rename(sandbox.path("away"), sandbox.path("fleet")).unwrap();
    fleet.keys("alice", &["revoke", "dns@fra1", "--reason", "retired", "--yes"]).ok();
    once(&fleet).ok();
    assert!(!sandbox.path("run/dns").exists());
    assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 1\nkey 1\n"));
}

fn an_expired_value_is_served_or_stopped(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "");
    let path = sandbox.path("fleet/policy/secrets.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let late = |name: &str, rest: &str| format!("[[delivery.file]]\nname = \"{name}\"\nexpires = \"2d\"\n{rest}\n");
    let text = text.replace("[[delivery.file]]\nname = \"tls.pem\"\n", &late("tls.pem", ""));
    let text = text.replace("[[delivery.file]]\nname = \"tsig\"\n", &late("tsig", "on_expiry = \"stop\""));
    std::fs::write(&path, text).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    once(&fleet).ok();
    assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 1"));
    sandbox.set_days_later(3);
    let ran = once(&fleet);
    ran.ok();
    for part in [
        "nginx: expiry: tls.pem: version 1 of nginx@fra1/tls.crt has expired; it is served on",
        "dns: taken away: tsig",
    ] {
        assert!(ran.stderr().contains(part), "{part}: {}", ran.stderr());
    }
    assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 1\nkey 1\n"));
    assert_eq!(served(&fleet, "dns/current/tsig"), None);
    // A clock that falls behind does not bring it back: the log has seen later times.
    fleet.seal("nginx@fra1/tls.crt", "certificate 2");
    once(&fleet).ok();
    sandbox.set_days_later(0);
    once(&fleet);
    assert_eq!(served(&fleet, "dns/current/tsig"), None);
    assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 2\nkey 1\n"));
}

/// What an agent tells systemd, until `wanted` is among it.
fn told(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut all = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).unwrap_or_else(|e| panic!("waiting for {wanted}: {e}: {all:?}"));
        all.extend(String::from_utf8_lossy(&bytes[..count]).lines().map(str::to_owned));
        if all.iter().any(|line| line.starts_with(wanted)) {
            return all;
        }
    }
}

#[expect(clippy::print_stderr, reason = "how long a start takes is worth knowing")]
fn it_starts_without_any_network(sandbox: &Sandbox) {
    let _fleet = fleet(sandbox, "");
    let socket = UnixDatagram::bind(sandbox.path("notify")).unwrap();
    // A network namespace with nothing but a loopback that is down; the socket is a file.
    let program = env!("CARGO_BIN_EXE_keys");
    let words = ["--fleet", "fleet", "--home", "fra1", "agent", "--run-dir", "run", "--hooks", "hooks.toml"];
    let start = Instant::now();
    let _agent = Running::start(
        bound("/usr/bin/unshare")
            .args(["--net", "--", program])
            .args(words)
            .env_clear()
            .env("NOTIFY_SOCKET", sandbox.path("notify"))
            .current_dir(sandbox.root())
            .stdin(Stdio::null())
            .stderr(Stdio::null()),
    );
    told(&socket, "READY=1");
    let elapsed = start.elapsed();
    eprintln!("READY after {:.2} s, without a network", elapsed.as_secs_f64());
    assert!(elapsed < Duration::from_secs(30), "{elapsed:?}");
    assert_eq!(std::fs::read_to_string(sandbox.path("run/nginx/current/tls.pem")).unwrap(), "certificate 1\nkey 1\n");
    let named = Ran::of(Tool::Ip.command().args(["netns", "identify", "self"]));
    assert!(named.stdout().trim().is_empty(), "we ourselves are in no namespace");
}

fn it_tells_systemd_and_ends_when_it_is_told(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "");
    let socket = UnixDatagram::bind(sandbox.path("notify")).unwrap();
    let words =
        ["--fleet", "fleet", "--home", "fra1", "agent", "--run-dir", "run", "--interval", "1s", "--log", "json"];
    let log = std::fs::File::create(sandbox.path("log")).unwrap();
    let mut agent = Running::start(
        sandbox
            .bound_command()
            .args(words)
            .env("NOTIFY_SOCKET", sandbox.path("notify"))
            .env("WATCHDOG_USEC", "900000")
            .stderr(log),
    );
    let said = told(&socket, "READY=1");
    assert!(said.iter().any(|l| l == "WATCHDOG=1"), "{said:?}");
    told(&socket, "STATUS=2 of 2 services served");
    // A second one would flip against it.
    once(&fleet).refuses(6, "another agent works on");
    fleet.seal("dns@fra1/tsig", "tsig 2");
    let deadline = Instant::now() + Duration::from_secs(60);
    while served(&fleet, "dns/current/tsig").as_deref() != Some("tsig 2") {
        assert!(Instant::now() < deadline, "a round brings what is new");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Nobody has listened for some rounds, which must not hold it up; now there is room for its last word.
    std::thread::sleep(Duration::from_secs(3));
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 4096]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    let id = rustix::process::Pid::from_child(&agent);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    told(&socket, "STOPPING=1");
    assert_eq!(agent.wait().unwrap().code(), Some(0));
    assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 2"), "what it delivered stays");
    let log = std::fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(log.lines().count() > 2, "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["at", "event", "level", "member", "message", "service"]);
        assert_eq!(line["member"], "fra1");
    }
    assert!(log.contains("\"service\":\"dns\""), "{log}");
}

fn a_crash_before_the_service_was_told_is_made_good(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, HOOKS);
    hooks(sandbox);
    once(&fleet).ok();
    fleet.seal("nginx@fra1/tls.crt", "certificate 2");
    once(&fleet).ok();
    asked(sandbox);
    // As a crash after the flip would leave it: the new one is shown, and only the old one is settled.
    sandbox.write("run/nginx/settled", "1\n");
    once(&fleet).ok();
    assert_eq!(asked(sandbox), ["reload 2 certificate 2", "verify 2 certificate 2"]);
    assert_eq!(std::fs::read_to_string(sandbox.path("run/nginx/settled")).unwrap(), "2\n");
    sandbox.write("run/nginx/settled", "1\n");
    sandbox.write("fail-verify", "");
    once(&fleet).refuses(3, "no verify");
    assert_eq!(
        asked(sandbox),
        [
            "reload 2 certificate 2",
            "verify 2 certificate 2",
            "reload 1 certificate 1",
            "check 3 certificate 2",
            "reload 3 certificate 2",
            "verify 3 certificate 2",
            "reload 1 certificate 1"
        ],
        "and the next attempt comes at once"
    );
    assert_eq!(served(&fleet, "nginx/current/tls.pem").as_deref(), Some("certificate 1\nkey 1\n"));
}

/// What `keys status --nodes` says of fra1.
fn node(fleet: &TestFleet<'_>) -> serde_json::Value {
    let ran = fleet.keys("alice", &["status", "--nodes", "--json"]);
    ran.ok();
    ran.json()["nodes"].as_array().unwrap().iter().find(|n| n["node"] == "fra1").unwrap().clone()
}

fn what_a_machine_acknowledges_is_read_by_others(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "");
    assert_eq!(node(&fleet)["matters"][0], "has never been heard of");
    once(&fleet).ok();
    let found = node(&fleet);
    assert_eq!(found["matters"], serde_json::json!([]), "{found}");
    assert_eq!((&found["stale"], &found["has_entry"]), (&false.into(), &true.into()));
    assert_eq!(found["ack"]["deliveries"][1]["generation"], 1);
    fleet.keys("alice", &["status", "--nodes", "--check"]).ok();
    fleet.keys("alice", &["log", "verify"]).ok();
    let newest = fleet.keys("alice", &["status", "--nodes", "--json"]).json()["log"].as_u64().unwrap();
    fleet.keys("alice", &["status", "--nodes", "--entry", &newest.to_string()]).refuses(5, "has no entry");
    // Who has not got an entry yet shows, and so does a service that is not as it should be.
    fleet.seal("dns@fra1/tsig", "tsig 2");
    let found = node(&fleet);
    assert_eq!(found["has_entry"], false, "{found}");
    let last = (newest - 1).to_string();
    let shown = fleet.keys("alice", &["status", "--nodes", "--entry", &last]).ok();
    assert!(shown.contains(&format!("1 of 1 have entry {last}")), "{shown}");
    let file = fleet.keyring("sealed/fra1/dns/tsig.pgp");
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, b"x").unwrap();
    once(&fleet).exits(3);
    std::fs::write(&file, good).unwrap();
    assert_eq!(node(&fleet)["matters"][0], "dns: incomplete, generation 1 is served");
    fleet.keys("alice", &["status", "--nodes", "--check"]).exits(9);
    once(&fleet).ok();
    // Not a byte of it can be another, nor can it be somebody else's. Of the signature the numbers at its end count.
    let path = fleet.keyring("acks/fra1");
    let bytes = std::fs::read(&path).unwrap();
    let text = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
    for at in (0..text).step_by(text / 30).chain(bytes.len() - 60..bytes.len() - 50) {
        let mut other = bytes.clone();
        other[at] ^= 1;
        std::fs::write(&path, &other).unwrap();
        let found = node(&fleet);
        assert_eq!(found["ack"], serde_json::Value::Null, "byte {at}: {found}");
    }
    fleet.keys("alice", &["log", "verify"]).exits(3);
    std::fs::write(&path, &bytes).unwrap();
    fleet.keys("alice", &["log", "verify"]).ok();
    std::fs::copy(&path, fleet.keyring("acks/casc1")).unwrap();
    let said = fleet.keys("alice", &["log", "verify"]).exits(3);
    assert!(said.contains("acks/casc1") && said.contains("another member's"), "{said}");
    std::fs::remove_file(fleet.keyring("acks/casc1")).unwrap();
    forked(sandbox, &fleet);
    std::fs::write(&path, &bytes).unwrap();
    // And who is silent is stale.
    sandbox.set_days_later(1);
    assert_eq!(node(&fleet)["matters"][0], "not heard of for more than 3h");
    fleet.keys("alice", &["revoke", "fra1", "--reason", "retired", "--yes"]).ok();
    let said = fleet.keys("alice", &["log", "verify"]).ok();
    assert!(said.contains("fra1 has left"), "{said}");
}

/// A machine that has verified another log than ours says so by its root.
fn forked(sandbox: &Sandbox, fleet: &TestFleet<'_>) {
    use keys::disk::{Access, Disk, RealFiles};
    let path = fleet.keyring("acks/fra1");
    let disk = Disk::new(RealFiles::open(&sandbox.path("fleet/keyring"), Access::Public).unwrap());
    let known = keys::fleet::Known::default();
    let store = keys::store::Store::new(disk);
    let mut opened = keys::fleet::Fleet::open(store, &known, crate::support::now(), &mut |_, _| {}).unwrap();
    let (ack, _) = keys::agent::Ack::parse(&std::fs::read(&path).unwrap()).unwrap();
    let ack = keys::agent::Ack { root: keys::digest::Digest::of(b"another"), ..ack };
    let home = keys::home::Home::open(&sandbox.path("fra1")).unwrap();
    let mut signers = keys::ops::signers(&home, &mut opened, Some(&ack.member)).unwrap();
    std::fs::write(&path, opened.sign_ack(&ack, &mut signers[0]).unwrap()).unwrap();
    assert!(node(fleet)["matters"][0].as_str().unwrap().starts_with("FORK?"), "{}", node(fleet));
    fleet.keys("alice", &["log", "verify"]).exits(3);
}

fn numbers_are_there_from_the_start(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, HOOKS);
    hooks(sandbox);
    let measured = |code: i32| {
        let words = ["agent", "--once", "--run-dir", "run", "--hooks", "hooks.toml", "--metrics", "keys.prom"];
        fleet.keys("fra1", &words).exits(code);
        std::fs::read_to_string(sandbox.path("keys.prom")).unwrap()
    };
    let text = measured(0);
    for line in [
        "keys_agent_ready 1",
        "keys_agent_rounds_total{result=\"good\"} 1",
        "keys_agent_rounds_total{result=\"bad\"} 0",
        "keys_delivery_current{service=\"nginx\"} 1",
        "keys_delivery_flips_total{service=\"dns\"} 1",
        "keys_hook_failures_total{service=\"nginx\",phase=\"verify\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    fleet.seal("nginx@fra1/tls.crt", "certificate 2");
    sandbox.write("fail-verify", "");
    let text = measured(3);
    for line in [
        "keys_agent_rounds_total{result=\"bad\"} 1",
        "keys_delivery_current{service=\"nginx\"} 0",
        "keys_hook_failures_total{service=\"nginx\",phase=\"verify\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

fn a_mirror_brings_what_is_new_and_its_absence_nothing_worse(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "");
    sandbox.copy("fleet", "copy");
    let mirror = sandbox.path("fleet").display().to_string();
    let away = |words: &[&str]| sandbox.keys(&[&["--fleet", "copy", "--home", "fra1"], words].concat());
    away(&["pull", "--from", &mirror, "--remember"]).ok();
    let once = || away(&["agent", "--once", "--run-dir", "run", "--hooks", "hooks.toml"]);
    once().ok();
    fleet.seal("dns@fra1/tsig", "tsig 2");
    once().ok();
    assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 2"));
    std::fs::rename(sandbox.path("fleet"), sandbox.path("gone")).unwrap();
    once().refuses(3, "fetching: nothing was pulled");
    assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 2"));
    std::fs::remove_dir_all(sandbox.path("run")).unwrap();
    once().exits(3);
    assert_eq!(served(&fleet, "dns/current/tsig").as_deref(), Some("tsig 2"), "started with every server away");
}
