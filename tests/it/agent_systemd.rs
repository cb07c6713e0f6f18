//! The agent and systemd: units that systemd reads, credentials by a socket, files in memory.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::agent::{fleet, policy};
use crate::support::{Ran, Sandbox, Tool, tests};

tests!["agent_systemd":
    units_are_what_systemd_reads needs [SystemdAnalyze],
    systemd_is_given_what_the_policy_gives_the_unit_that_asks,
    files_lie_in_memory needs [MountNamespace],
];

fn units_are_what_systemd_reads(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "unit = \"nginx.service\"");
    let program = env!("CARGO_BIN_EXE_keys");
    let words = ["agent", "units", "--out", "units", "--program", program, "--run-dir", "run"];
    let written = fleet.keys("fra1", &words).ok();
    assert_eq!(written.lines().collect::<Vec<_>>(), ["units/keys-agent.service", "units/nginx.service.d/50-keys.conf"]);
    let drop_in = std::fs::read_to_string(sandbox.path("units/nginx.service.d/50-keys.conf")).unwrap();
    let socket = sandbox.path("run/credentials.sock").display().to_string();
    for line in [
        &format!("LoadCredential=tls.pem:{socket}"),
        // What was refused is empty, and the unit would start with that.
        "ExecStartPre=/usr/bin/test -s ${CREDENTIALS_DIRECTORY}/tls.pem",
        "After=keys-agent.service",
    ] {
        assert!(drop_in.lines().any(|l| l == line), "{line}\n{drop_in}");
    }
    sandbox.write("units/nginx.service", "[Service]\nExecStart=/bin/true\n");
    let verify = |unit: &str| {
        let unit = sandbox.path("units").join(unit);
        Ran::of(Tool::SystemdAnalyze.command().args(["verify", "--man=no", "--recursive-errors=no"]).arg(unit))
    };
    for unit in ["keys-agent.service", "nginx.service"] {
        let ran = verify(unit);
        ran.ok();
        assert_eq!(ran.stderr(), "", "{unit}");
    }
    // It says something where something is wrong.
    let agent = sandbox.path("units/keys-agent.service");
    let good = std::fs::read_to_string(&agent).unwrap();
    std::fs::write(&agent, good.replace("ProtectClock=", "ProtectClocks=")).unwrap();
    assert!(verify("keys-agent.service").stderr().contains("ProtectClocks"));
    std::fs::write(&agent, &good).unwrap();
    let exposure = |threshold: &str| {
        let words = ["security", "--no-pager", "--offline=true", &format!("--threshold={threshold}")];
        Ran::of(Tool::SystemdAnalyze.command().args(words).arg(&agent))
    };
    exposure("45").ok();
    let bare = good.lines().filter(|l| !l.starts_with("Protect") && !l.starts_with("Restrict")).collect::<Vec<_>>();
    std::fs::write(&agent, bare.join("\n")).unwrap();
    assert_ne!(exposure("45").code(), 0);
}

/// Asks as systemd does: from a socket that is bound to an abstract name.
fn ask(socket: &Path, name: &str) -> std::io::Result<String> {
    let fd: OwnedFd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
    let mut stream = UnixStream::from(fd);
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

fn systemd_is_given_what_the_policy_gives_the_unit_that_asks(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "unit = \"nginx.service\"");
    let words = ["--fleet", "fleet", "--home", "fra1", "agent", "--run-dir", "run", "--interval", "1s"];
    let _agent = sandbox.start(&words);
    let socket = sandbox.path("run/credentials.sock");
    let name =
        |rest: &str| format!("{:x}{}/unit/{rest}", std::process::id(), sandbox.root().display()).replace("/tmp/", "");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "it listens");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ask(&socket, &name("nginx.service/tls.pem")).unwrap(), "certificate 1\nkey 1\n");
    for other in [
        "evil.service/tls.pem",
        "dns.service/tsig",
        "nginx.service/tsig",
        "nginx.service/../dns/current/tsig",
        "nginx.service/.new-1",
        "nginx.service",
    ] {
        assert_eq!(ask(&socket, &name(other)).unwrap(), "", "{other}");
    }
    let mut plain = UnixStream::connect(&socket).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut said = String::new();
    plain.read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "one without a name is not systemd");
    // Nobody else reaches it, and a unit that the policy no longer names gets nothing.
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let path = sandbox.path("fleet/policy/secrets.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("unit = \"nginx.service\"", "unit = \"other.service\"");
    std::fs::write(&path, text).unwrap();
    policy(&fleet, "");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut turn = 0;
    while ask(&socket, &name("nginx.service/tls.pem").replace("/unit", &format!("{turn}/unit"))).unwrap() != "" {
        assert!(Instant::now() < deadline, "the next round takes it away");
        turn += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn files_lie_in_memory(sandbox: &Sandbox) {
    let _fleet = fleet(sandbox, "");
    let script = "set -e\n\"$0\" agent mount --run-dir run\n\"$0\" agent mount --run-dir run\nstat -f -c %T run\n\
                  \"$0\" --fleet fleet --home fra1 agent --once --run-dir run 2>&1\ncat run/nginx/current/tls.pem\numount run\n";
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["-m", "/bin/sh", "-c", script, env!("CARGO_BIN_EXE_keys")]).current_dir(sandbox.root());
    let said = Ran::of(&mut command).ok();
    for part in
        ["run: in memory", "run: in memory already", "tmpfs", "services served in memory", "certificate 1\nkey 1\n"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!sandbox.path("run/nginx").exists(), "not a byte of it on the disk below");
}
