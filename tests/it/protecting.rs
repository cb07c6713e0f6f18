//! What guards private halves at rest: a key that systemd-creds keeps for this installation, or for a TPM (swtpm here).

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keys::statement::Request;

use crate::support::{Ran, Running, Sandbox, TestFleet, Tool, bound, files_below, tests};

tests!["protecting":
    what_the_host_guards_opens_with_the_hosts_key_alone needs [SystemdCreds, Root],
    what_a_tpm_guards_opens_with_that_tpm_alone needs [SystemdCreds, Swtpm],
    an_agent_that_runs_goes_on_with_what_guards_its_home needs [SystemdCreds, Root],
    killed_at_every_write_the_home_opens needs [SystemdCreds, Root, Strace],
    the_policy_wants_no_less_of_whoever_joins needs [SystemdCreds, Root],
    a_guard_that_is_not_there_is_named needs [SystemdCreds],
];

/// A place for the host's key that lies on a disk: systemd-creds takes none in memory.
struct Host(PathBuf);

impl Host {
    fn new(sandbox: &Sandbox, name: &str) -> Self {
        let sandbox = sandbox.root().file_name().unwrap().to_string_lossy().into_owned();
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{sandbox}-{name}.secret")))
    }

    /// Runs the program on this host.
    fn keys(&self, sandbox: &Sandbox, args: &[&str]) -> Ran {
        Ran::of(sandbox.command().env("SYSTEMD_CREDENTIAL_SECRET", &self.0).args(args))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The private halves in a home, as they lie there.
fn private_halves(sandbox: &Sandbox, home: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let is_private = |p: &PathBuf| p.extension().is_some_and(|e| e == "tsk" || e == "key" || e == "kem");
    let files = files_below(&sandbox.path(home).join("members")).into_iter().filter(is_private);
    files.map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
}

fn are_closed(halves: &[(PathBuf, Vec<u8>)]) -> bool {
    !halves.is_empty() && halves.iter().all(|(_, bytes)| bytes.starts_with(b"keys/home/v1\n"))
}

const OPEN: [&str; 6] = ["--fleet", "fleet", "--home", "fra1", "open", "nginx@fra1/tls.key"];

fn with_secret(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "the value");
    fleet
}

fn what_the_host_guards_opens_with_the_hosts_key_alone(sandbox: &Sandbox) {
    let fleet = with_secret(sandbox);
    let (host, other) = (Host::new(sandbox, "host"), Host::new(sandbox, "other"));
    let protect = |args: &[&str]| host.keys(sandbox, &[&["--home", "fra1", "protect"], args].concat());
    assert_eq!(protect(&[]).ok(), "file\n");
    let before = private_halves(sandbox, "fra1");
    let ran = protect(&["--with", "host"]);
    assert_eq!(ran.ok(), "host\n");
    assert!(ran.stderr().contains(&format!("{} files were rewritten", before.len())), "{}", ran.stderr());
    let closed = private_halves(sandbox, "fra1");
    assert!(are_closed(&closed) && closed.len() == before.len());
    assert_eq!(protect(&["--json"]).json(), serde_json::json!({ "protection": "host", "rewritten": 0, "v": 1 }));
    // It goes on as before, and what is made from now on lies closed, too.
    assert_eq!(host.keys(sandbox, &OPEN).ok(), "the value");
    fleet.keys("alice", &["rotate", "fra1", "--soon", "--yes"]).ok();
    host.keys(sandbox, &["--fleet", "fleet", "--home", "fra1", "sync"]).ok();
    fleet.keys("alice", &["sync"]).ok();
    let grown = private_halves(sandbox, "fra1");
    assert!(are_closed(&grown) && grown.len() > closed.len(), "{} {}", grown.len(), closed.len());
    assert_eq!(host.keys(sandbox, &OPEN).ok(), "the value");
    // A copy of the home where the host's key is not: nothing opens, and nothing is made in the place of what is there.
    sandbox.copy("fra1", "copy");
    let elsewhere = ["--fleet", "fleet", "--home", "copy"];
    for args in
        [&["open", "nginx@fra1/tls.key"][..], &["sync"], &["protect", "--with", "file"], &["protect", "--with", "host"]]
    {
        let ran = other.keys(sandbox, &[&elsewhere[..], args].concat());
        assert!(matches!(ran.code(), 1 | 3 | 7), "{args:?}: {}", ran.stderr());
        assert!(ran.stderr().contains("which the host's key keeps, cannot be had"), "{args:?}: {}", ran.stderr());
    }
    assert_eq!(private_halves(sandbox, "copy").len(), grown.len());
    // One file in the place of another, and one that was changed.
    let swapped = host.keys(sandbox, &["--home", "copy", "protect"]);
    swapped.ok();
    let tsk = |member: &str| sandbox.path(&format!("copy/members/{member}/openpgp.tsk"));
    std::fs::copy(tsk("fra1"), tsk("nginx@fra1")).unwrap();
    let ran = host.keys(sandbox, &[&elsewhere[..], &["open", "nginx@fra1/tls.key"]].concat());
    assert!(ran.code() != 0 && ran.stderr().contains("was closed for another place"), "{}", ran.stderr());
    // A backup has what was opened: it is for another machine. And back.
    assert_eq!(protect(&["--with", "file"]).ok(), "file\n");
    let after = private_halves(sandbox, "fra1");
    for (path, bytes) in &before {
        let now = after.iter().find(|(p, _)| p == path).map(|(_, b)| b);
        assert!(path.ends_with("openpgp.tsk") || now == Some(bytes) || now.is_none(), "{}", path.display());
    }
    assert!(after.iter().all(|(_, bytes)| !bytes.starts_with(b"keys/home/v1\n")));
    assert!(!sandbox.path("fra1/home-key.cred").exists() && !sandbox.path("fra1/protection").exists());
    assert_eq!(sandbox.keys(&OPEN).ok(), "the value", "without any host");
}

fn an_agent_that_runs_goes_on_with_what_guards_its_home(sandbox: &Sandbox) {
    let _fleet = with_secret(sandbox);
    let host = Host::new(sandbox, "host");
    let mut agent = sandbox.bound_command();
    agent.args(["--fleet", "fleet", "--home", "fra1", "agent", "--run-dir", "run", "--interval", "1s"]);
    let _agent = Running::start(agent.env("SYSTEMD_CREDENTIAL_SECRET", &host.0).stderr(std::process::Stdio::null()));
    let says = |kind: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        let wanted = format!("\"protection\":\"{kind}\"");
        while !std::fs::read_to_string(sandbox.path("fleet/keyring/acks/fra1")).is_ok_and(|ack| ack.contains(&wanted)) {
            assert!(Instant::now() < deadline, "it never says {kind}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    for kind in ["file", "host", "file"] {
        host.keys(sandbox, &["--home", "fra1", "protect", "--with", kind]).ok();
        says(kind);
    }
}

/// A TPM with the state of that name, at this port or at one that is free, and how systemd-creds names it. It has no manager for
/// its few sessions, which systemd-creds leaves open: it is switched off and on again between commands.
fn tpm(sandbox: &Sandbox, name: &str, at: Option<u16>) -> (Running, String) {
    let state = sandbox.path(name);
    std::fs::create_dir_all(&state).unwrap();
    // Its control channel is at the port above: the library that speaks to it has it so.
    for _ in 0..20 {
        let port = at.unwrap_or_else(crate::nginx::free_port);
        if at.is_none() && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_err() {
            continue;
        }
        let path = Tool::Swtpm.path().unwrap();
        let running =
            Running::start(bound(&path).args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]).args([
                format!("--tpmstate=dir={}", state.display()),
                format!("--server=type=tcp,port={port},bindaddr=127.0.0.1"),
                format!("--ctrl=type=tcp,port={},bindaddr=127.0.0.1", port + 1),
            ]));
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            // Connecting to the server's own port would be taken for a client that goes.
            if std::net::TcpStream::connect(("127.0.0.1", port + 1)).is_ok() {
                return (running, format!("swtpm:host=127.0.0.1,port={port}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("swtpm does not start");
}

fn what_a_tpm_guards_opens_with_that_tpm_alone(sandbox: &Sandbox) {
    let _fleet = with_secret(sandbox);
    let (mut running, device) = tpm(sandbox, "tpm", None);
    let port: u16 = device.rsplit_once('=').unwrap().1.parse().unwrap();
    let mut off_and_on = || {
        // TPM2_Shutdown(CLEAR), TPM 2.0 library part 3, section 9.4: one that only loses its power takes that for an attack.
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x45, 0, 0]).unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0]);
        let _ = running.kill();
        let _ = running.wait();
        running = tpm(sandbox, "tpm", Some(port)).0;
    };
    let protect = ["--home", "fra1", "protect", "--with", "tpm2", "--tpm2-device", &device];
    assert_eq!(sandbox.keys(&protect).ok(), "tpm2\n");
    let closed = private_halves(sandbox, "fra1");
    assert!(are_closed(&closed));
    off_and_on();
    assert_eq!(sandbox.keys(&OPEN).ok(), "the value");
    // The same key under another seal; the files stay as they are.
    off_and_on();
    assert_eq!(sandbox.keys(&[&protect[..], &["--tpm2-pcrs", "7+16"]].concat()).ok(), "tpm2\n");
    assert_eq!(private_halves(sandbox, "fra1"), closed);
    off_and_on();
    assert_eq!(sandbox.keys(&OPEN).ok(), "the value");
    // What systemd has opened for a unit needs no TPM; what it gives for another home is none.
    let creds = Tool::SystemdCreds.path().unwrap();
    let mut decrypt = std::process::Command::new(&creds);
    decrypt.args(["decrypt", "--name=keys-home", &format!("--tpm2-device={device}")]);
    let key = Ran::of(decrypt.arg(sandbox.path("fra1/home-key.cred")).arg("-")).ok();
    let _ = running.kill();
    let _ = running.wait();
    sandbox.write("given/keys-home", &key);
    sandbox.write("wrong/keys-home", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let by_unit =
        |directory: &str| Ran::of(sandbox.command().env("CREDENTIALS_DIRECTORY", sandbox.path(directory)).args(OPEN));
    assert_eq!(by_unit("given").ok(), "the value");
    for ran in [by_unit("wrong"), sandbox.keys(&OPEN)] {
        assert!(ran.code() != 0, "{}", ran.line);
        assert!(ran.stderr().contains("which this machine's TPM keeps, cannot be had"), "{}", ran.stderr());
    }
    // Another machine's TPM at the same place.
    let (other, _) = tpm(sandbox, "other-tpm", Some(port));
    let ran = sandbox.keys(&OPEN);
    assert!(ran.code() != 0 && ran.stderr().contains("cannot be had"), "{}", ran.stderr());
    drop(other);
}

fn killed_at_every_write_the_home_opens(sandbox: &Sandbox) {
    let _fleet = with_secret(sandbox);
    let host = Host::new(sandbox, "host");
    sandbox.copy("fra1", "plain");
    host.keys(sandbox, &["--home", "fra1", "protect", "--with", "host"]).ok();
    sandbox.copy("fra1", "closed");
    let mut kills = 0;
    for (from, to) in [("plain", "host"), ("closed", "file")] {
        for call in ["renameat", "unlinkat", "fsync"] {
            let step = if call == "fsync" { 5 } else { 2 };
            for nth in (1..).step_by(step) {
                std::fs::remove_dir_all(sandbox.path("fra1")).unwrap();
                sandbox.copy(from, "fra1");
                let mut strace = Tool::Strace.command();
                strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
                strace.args(["-e", &format!("inject={call}:signal=KILL:when={nth}")]).arg(env!("CARGO_BIN_EXE_keys"));
                strace.args(["--home", "fra1", "protect", "--with", to]).env("HOME", sandbox.root());
                let ran = Ran::of(strace.env("SYSTEMD_CREDENTIAL_SECRET", &host.0).current_dir(sandbox.root()));
                if !ran.is_killed() {
                    ran.ok();
                    break;
                }
                kills += 1;
                assert_eq!(host.keys(sandbox, &OPEN).ok(), "the value", "{to}, killed at {call} {nth}");
                host.keys(sandbox, &["--home", "fra1", "protect", "--with", to]).ok();
                let halves = private_halves(sandbox, "fra1");
                assert_eq!(are_closed(&halves), to == "host", "{to}, killed at {call} {nth}");
                assert_eq!(host.keys(sandbox, &OPEN).ok(), "the value", "{to}, killed at {call} {nth}, and again");
            }
        }
    }
    eprintln!("protecting: killed {kills} times");
    assert!(kills > 15, "{kills}");
}

fn the_policy_wants_no_less_of_whoever_joins(sandbox: &Sandbox) {
    let fleet = with_secret(sandbox);
    let host = Host::new(sandbox, "host");
    // Asked before the policy wants anything.
    fleet.keys("ams1", &["enroll", "ams1", "--endpoint", "198.51.100.9"]).ok();
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("[proposals]", "[protection]\npop = \"host\"\n\n[proposals]", 1)).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let ran = fleet.keys("alice", &["approve", "--all", "--yes"]);
    assert!(ran.code() != 0 && ran.stderr().contains("guarded by 'file', as its request says"), "{}", ran.stderr());
    // Nobody makes keys in vain.
    let ran = fleet.keys("sin1", &["enroll", "sin1", "--endpoint", "198.51.100.10"]);
    ran.refuses(1, "the policy wants 'host' at least");
    assert!(ran.stderr().contains("keys protect --with host"), "{}", ran.stderr());
    assert!(!sandbox.path("sin1/members").exists());
    // The same keys, guarded now, and another request, since nobody can have joined by the first one.
    host.keys(sandbox, &["--home", "ams1", "protect", "--with", "host"]).ok();
    let request = || std::fs::read(sandbox.path("ams1/members/ams1/request")).unwrap();
    let before = Request::parse(&request()).unwrap().0;
    for file in files_below(&fleet.keyring("proposals/requests")) {
        std::fs::remove_file(file).unwrap();
    }
    let again = ["--fleet", "fleet", "--home", "ams1", "enroll", "ams1", "--endpoint", "198.51.100.9"];
    host.keys(sandbox, &again).ok();
    let after = Request::parse(&request()).unwrap().0;
    assert_eq!(
        (before.members, before.protection.word(), after.protection.word()),
        (after.members.clone(), "file", "host")
    );
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    assert_eq!(fleet.keys("alice", &["status", "--json"]).json()["members"]["pop"], 2);
    fleet.keys("alice", &["log", "verify"]).ok();
    // Who had joined before is told of, once it says how it is guarded.
    for (home, host) in [("fra1", None), ("ams1", Some(&host))] {
        let args = ["--fleet", "fleet", "--home", home, "agent", "--once", "--run-dir", &format!("run-{home}")];
        let ran = host.map_or_else(|| sandbox.keys(&args), |host| host.keys(sandbox, &args));
        ran.ok();
    }
    let nodes = fleet.keys("alice", &["status", "--nodes", "--json"]).json();
    let matters = |name: &str| {
        nodes["nodes"].as_array().unwrap().iter().find(|n| n["node"] == name).unwrap()["matters"].to_string()
    };
    assert!(matters("fra1").contains("guarded by 'file'; the policy wants 'host'"), "{nodes}");
    assert!(!matters("ams1").contains("guarded"), "{nodes}");
    // By invitation it is the machine's own first step: what the policy wants is done before there are keys.
    fleet.keys("alice", &["invite", "lax1", "--approval", "auto", "--out", "lax1.token", "--yes"]).ok();
    let id = fleet.keys("alice", &["status", "--json"]).json()["id"].as_str().unwrap().to_owned();
    let seed = std::fs::read_to_string(sandbox.path("lax1.token")).unwrap();
    let mirror = sandbox.path("fleet").display().to_string();
    let config = |extra: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let text = format!(
            "fleet = \"cdn.example\"\nid = \"{id}\"\nmirrors = [\"{mirror}\"]\nmember = \"lax1\"\n\
             endpoint = \"198.51.100.11\"\n{extra}seed = \"{}\"\n",
            seed.trim()
        );
        let path = sandbox.write("bootstrap.toml", text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let boots = || host.keys(sandbox, &["--fleet", "lax1/fleet", "--home", "lax1/home", "bootstrap", "bootstrap.toml"]);
    config("protection = \"tpm2\"\n");
    let ran = boots();
    ran.refuses(1, "tpm2 cannot guard this home");
    assert!(ran.stderr().contains("the configuration wants 'tpm2'"), "{}", ran.stderr());
    assert!(!sandbox.path("lax1/home/members").exists(), "no key was made");
    config("");
    assert_eq!(boots().exits(4), "keyed\n");
    assert!(are_closed(&private_halves(sandbox, "lax1/home")));
    fleet.keys("alice", &["sync"]).ok();
    boots().exits(4);
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(boots().ok(), "ready\n");
}

fn a_guard_that_is_not_there_is_named(sandbox: &Sandbox) {
    let fleet = with_secret(sandbox);
    let before = private_halves(sandbox, "fra1");
    let dead = ["--tpm2-device", "swtpm:host=127.0.0.1,port=1"];
    fleet
        .keys("fra1", &[&["protect", "--with", "tpm2"], &dead[..]].concat())
        .refuses(1, "tpm2 cannot guard this home: systemd-creds: ");
    fleet.keys("fra1", &[&["protect", "--with", "host"], &dead[..]].concat()).refuses(2, "are for --with tpm2");
    fleet.keys("fra1", &["protect", "--with", "tpm"]).refuses(2, "did you mean 'tpm2'?");
    fleet
        .keys("fra1", &["protect", "--with", "tpm2", "--tpm2-pcrs", "7,24"])
        .refuses(2, "expected numbers from 0 to 23");
    assert_eq!(private_halves(sandbox, "fra1"), before);
    assert_eq!(sandbox.keys(&OPEN).ok(), "the value");
    // The note without its key, and a note that means nothing.
    sandbox.write("fra1/protection", "{\"device\":null,\"key\":\"00\",\"kind\":\"tpm2\",\"v\":1}\n");
    sandbox.keys(&OPEN).refuses(3, "protection in the home is damaged");
}
