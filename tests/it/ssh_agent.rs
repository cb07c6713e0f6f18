//! A CA whose key lies in a real ssh-agent, and in one that lies.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use keys::ssh::SshPublicKey;

use crate::support::{Ran, Running, Sandbox, TestFleet, Tool, bound, tests};

tests!["ssh_agent":
    a_ca_in_an_agent_signs_and_rotates needs [SshAgent, SshAdd, SshKeygen],
    what_a_lying_agent_signs_is_written_nowhere needs [SshKeygen],
];

/// An agent with these keys in it; ended when dropped.
pub(crate) struct Agent {
    socket: PathBuf,
    _process: Running,
}

impl Agent {
    pub(crate) fn start(sandbox: &Sandbox, keys: &[PathBuf]) -> Self {
        let socket = sandbox.path("agent");
        let mut command = bound(Tool::SshAgent.path().unwrap());
        command.env_clear().args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Running::start(&mut command);
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "the agent does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        for key in keys {
            Ran::of(Tool::SshAdd.command().env("SSH_AUTH_SOCK", &socket).arg("-q").arg(key)).ok();
        }
        Self { socket, _process: process }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

/// A key as ssh-keygen makes it, and its fingerprint.
fn key(sandbox: &Sandbox, name: &str, algorithm: &str) -> (PathBuf, String) {
    let path = sandbox.path(name);
    Ran::of(Tool::SshKeygen.command().args(["-q", "-t", algorithm, "-N", "", "-C", "", "-f"]).arg(&path)).ok();
    let listed = Ran::of(Tool::SshKeygen.command().arg("-lf").arg(&path)).ok();
    (path, listed.split(' ').nth(1).unwrap().to_owned())
}

/// The authority's operator, who reaches the agent.
fn with(fleet: &TestFleet<'_>, socket: &Path, args: &[&str]) -> Ran {
    let mut command = fleet.sandbox.command();
    command.args(["--fleet", "fleet", "--home", "alice"]).args(args);
    Ran::of(command.env("SSH_AUTH_SOCK", socket))
}

/// A fleet whose policy wants the CA for users in an agent.
fn fleet<'a>(sandbox: &'a Sandbox, fingerprints: &[&str]) -> TestFleet<'a> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let path = sandbox.path("fleet/policy/ssh.toml");
    let policy = std::fs::read_to_string(&path).unwrap();
    let places: Vec<String> = fingerprints.iter().map(|f| format!("\"agent:{f}\"")).collect();
    let keys = format!("[ca.user]\nkey = [{}]", places.join(", "));
    std::fs::write(&path, policy.replace("[ca.user]\nkey = \"file\"", &keys)).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    fleet
}

/// Whom the CA is that signed a certificate, and whether OpenSSH finds it well-formed.
fn signer(sandbox: &Sandbox, certificate: &str) -> String {
    let shown = Ran::of(Tool::SshKeygen.command().arg("-Lf").arg(sandbox.path(certificate))).ok();
    let line = shown.lines().find(|l| l.contains("Signing CA:")).unwrap().to_owned();
    line.split(' ').find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
}

/// Puts the standby in the place of the active key, until the CA is the one with this fingerprint.
fn rotate(fleet: &TestFleet<'_>, socket: &Path) {
    with(fleet, socket, &["sync"]).ok();
    with(fleet, socket, &["rotate", "casc1", "--slot", "ssh-user-ca", "--yes"]).ok();
    with(fleet, socket, &["sync"]).ok();
}

fn a_ca_in_an_agent_signs_and_rotates(sandbox: &Sandbox) {
    let (one, first) = key(sandbox, "ca1", "ed25519");
    let (two, second) = key(sandbox, "ca2", "ecdsa");
    let fleet = fleet(sandbox, &[&first, &second]);
    let agent = Agent::start(sandbox, &[one, two]);
    let (person, _) = key(sandbox, "id", "ed25519");
    let public = person.with_extension("pub").display().to_string();
    let sign = ["ssh", "sign", "user", "alice", "--key", &public, "--again"];
    // The keys from before, in files, are used up first; each rotation takes the next that the policy names.
    rotate(&fleet, &agent.socket);
    rotate(&fleet, &agent.socket);
    with(&fleet, &agent.socket, &sign).ok();
    assert_eq!(signer(sandbox, "id-cert.pub"), first);
    rotate(&fleet, &agent.socket);
    with(&fleet, &agent.socket, &sign).ok();
    assert_eq!(signer(sandbox, "id-cert.pub"), second);
    fleet.keys("alice", &["log", "verify"]).ok();
    let home = sandbox.path("alice/members/casc1/ssh-user-ca");
    let left = std::fs::read_dir(home).map_or(0, Iterator::count);
    assert_eq!(left, 0, "no private half of a CA for users is in the home");

    // Without the agent the log decides, and the next who has it signs.
    std::fs::remove_file(sandbox.path("id-cert.pub")).unwrap();
    let waits = fleet.keys("alice", &sign);
    assert!(waits.stderr().contains("waits for the authority to sign it"), "{}", waits.stderr());
    assert!(!sandbox.path("id-cert.pub").exists());
    let synced = with(&fleet, &agent.socket, &["sync"]);
    assert!(synced.ok().contains("1 SSH certificates signed"), "{}", synced.stdout());
    // The policy names no third key: there is no standby, and nothing else becomes one.
    let (third, _) = key(sandbox, "ca3", "ed25519");
    Ran::of(Tool::SshAdd.command().env("SSH_AUTH_SOCK", &agent.socket).arg("-q").arg(third)).ok();
    with(&fleet, &agent.socket, &["sync"]).ok();
    let status = fleet.keys("alice", &["status"]);
    assert!(status.stdout().contains("casc1") && status.stdout().contains("ssh-user-ca"), "{}", status.stdout());
}

/// An agent that says it has a key, and signs with something else.
fn lie(listener: &UnixListener, public: &SshPublicKey) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request).unwrap();
        let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        let answer = match request[0] {
            11 => [&[12, 0, 0, 0, 1], string(public.blob()).as_slice(), &string(b"")].concat(),
            13 => {
                let signature = [string(b"ssh-ed25519"), string(&[7; 64])].concat();
                [&[14], string(&signature).as_slice()].concat()
            }
            _ => return,
        };
        stream.write_all(&[&(answer.len() as u32).to_be_bytes(), answer.as_slice()].concat()).unwrap();
    }
}

fn what_a_lying_agent_signs_is_written_nowhere(sandbox: &Sandbox) {
    let (ca, fingerprint) = key(sandbox, "ca1", "ed25519");
    let line = std::fs::read_to_string(ca.with_extension("pub")).unwrap();
    let public = SshPublicKey::parse_line(line.trim_end()).unwrap();
    let fleet = fleet(sandbox, &[&fingerprint]);
    let socket = sandbox.path("liar");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || lie(&listener, &public));
    rotate(&fleet, &socket);
    rotate(&fleet, &socket);
    let (person, _) = key(sandbox, "id", "ed25519");
    let path = person.with_extension("pub").display().to_string();
    let asked = with(&fleet, &socket, &["ssh", "sign", "user", "alice", "--key", &path]);
    asked.refuses(1, &format!("the signature is not that of the CA {fingerprint}"));
    assert!(!sandbox.path("id-cert.pub").exists());
    fleet.keys("alice", &["log", "verify"]).ok();
}
