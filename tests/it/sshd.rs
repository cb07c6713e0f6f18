//! Stock sshd with the rendered files, and stock ssh that comes in: who is let in, who is not, and whom they trust.
//!
//! The drop-in is used as it was rendered; the configuration around it says only what a test needs. sshd listens on
//! 127.0.0.1 and is ended with the test, however it ends.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Ran, Running, Sandbox, TestFleet, Tool, bound, tests};

tests!["sshd":
    a_certificate_logs_in_and_the_host_is_known_by_its_ca needs [Sshd, Ssh, SshKeygen],
    what_the_fleet_did_not_give_is_refused needs [Sshd, Ssh, SshKeygen],
    a_host_that_the_fleet_did_not_name_is_mistrusted needs [Sshd, Ssh, SshKeygen],
    a_revoked_host_is_mistrusted_once_the_client_has_the_list needs [Sshd, Ssh, SshKeygen],
    a_rotation_of_the_host_key_refuses_nobody needs [Sshd, Ssh, SshKeygen],
    a_rotation_of_the_user_ca_refuses_nobody needs [Sshd, Ssh, SshKeygen],
    a_replaced_ca_is_trusted_as_long_as_what_it_signed needs [SshKeygen, Faketime],
    a_rotation_of_the_host_ca_refuses_nobody needs [Sshd, Ssh, SshKeygen],
    a_revoked_member_is_refused_once_the_node_has_the_list needs [Sshd, Ssh, SshKeygen],
];

/// A fleet with fra1 and ams1, whose nodes let operators into the account that runs this test.
pub(crate) struct Site<'a> {
    pub(crate) fleet: TestFleet<'a>,
    pub(crate) login: String,
}

impl<'a> Site<'a> {
    pub(crate) fn new(sandbox: &'a Sandbox) -> Self {
        Self::under(sandbox, &[])
    }

    /// With other words in policy/ssh.toml.
    pub(crate) fn under(sandbox: &'a Sandbox, changes: &[(&str, &str)]) -> Self {
        let fleet = TestFleet::of_one(sandbox);
        fleet.join("fra1", "");
        fleet.join("ams1", "");
        let login = Ran::of(Command::new("/usr/bin/id").arg("-un")).ok().trim_end().to_owned();
        let path = sandbox.path("fleet/policy/ssh.toml");
        let policy = std::fs::read_to_string(&path).unwrap();
        let accounts = format!("[accounts]\n\"{login}\" = [\"deploy:{{pop}}\"]");
        assert_eq!(policy.matches("[accounts]").count(), 1);
        let policy = changes.iter().fold(policy.replace("[accounts]", &accounts), |text, (from, to)| {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text.replace(from, to)
        });
        std::fs::write(&path, policy).unwrap();
        fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
        fleet.keys("alice", &["ssh", "sign", "host"]).ok();
        Self { fleet, login }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.fleet.sandbox.path(name)
    }

    /// Renders a node's files to a directory of its name, where they also lie when sshd reads them.
    pub(crate) fn render(&self, node: &str) {
        self.render_with(node, &[]);
    }

    /// Renders them with these flags.
    pub(crate) fn render_with(&self, node: &str, flags: &[&str]) {
        let directory = self.path(node).join("ssh").display().to_string();
        let host_key = self.host_key(node).display().to_string();
        let to = ["--node", node, "--out", &directory, "--directory", &directory, "--host-key", &host_key];
        self.fleet.keys("alice", &[&["ssh", "render"], &to[..], flags].concat()).ok();
    }

    /// The file in a PoP's home that holds the private half of the host key for which a certificate is rendered.
    pub(crate) fn host_key(&self, node: &str) -> PathBuf {
        let probe = self.path("probe").display().to_string();
        self.fleet.keys("alice", &["ssh", "render", "--node", node, "--out", &probe]).ok();
        let fingerprint = |file: &Path| {
            let shown = Ran::of(Tool::SshKeygen.command().arg("-lf").arg(file)).ok();
            shown.split(' ').find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
        };
        let wanted = fingerprint(&self.path("probe").join(self.named("probe", "HostCertificate")));
        let directory = self.path(node).join("members").join(node).join("ssh-host");
        let mut files = std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().path());
        files.find(|file| fingerprint(file) == wanted).expect("it is in the home that made it")
    }

    /// The name of the file that a rendered drop-in gives for a word.
    pub(crate) fn named(&self, directory: &str, word: &str) -> String {
        let drop_in = std::fs::read_to_string(self.path(directory).join("sshd_config.d/10-keys.conf")).unwrap();
        let path = drop_in.lines().find_map(|line| line.strip_prefix(word)).unwrap();
        Path::new(path.trim()).file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Makes a person's key.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        Ran::of(Tool::SshKeygen.command().args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&path)).ok();
        path
    }

    /// Makes a person's key and has it certified, as she asks and the authority agrees.
    pub(crate) fn certified(&self, name: &str, member: &str, flags: &[&str]) -> PathBuf {
        let path = self.key(name);
        let public = path.with_extension("pub").display().to_string();
        let ask = [&["ssh", "sign", "user", member, "--key", &public], flags].concat();
        if self.fleet.keys(member, &ask).code() == 4 {
            self.fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
            self.fleet.keys("alice", &["sync"]).ok();
            self.fleet.keys(member, &ask).ok();
        }
        assert!(self.path(&format!("{name}-cert.pub")).exists());
        path
    }

    /// Logs in to the host that calls itself `sshd.node`; it is to be known by the files rendered for fra1 alone.
    pub(crate) fn log_in(&self, sshd: &Sshd, key: &Path) -> Ran {
        let certificate = PathBuf::from(format!("{}-cert.pub", key.display()));
        let mut command = Tool::Ssh.command();
        // -n and the timeouts bound it; -F keeps the user's own configuration out.
        command.args(["-n", "-F", "none", "-p", &sshd.port.to_string(), "-i"]).arg(key);
        if certificate.exists() {
            command.arg("-o").arg(format!("CertificateFile={}", certificate.display()));
        }
        let directory = self.path("fra1/ssh").display().to_string();
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "PreferredAuthentications=publickey",
            "ConnectTimeout=120",
            "ServerAliveInterval=30",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "CheckHostIP=no",
            &format!("HostKeyAlias={}.cdn.example", sshd.node),
            "GlobalKnownHostsFile=/dev/null",
            &format!("UserKnownHostsFile={directory}/known_hosts"),
            &format!("RevokedHostKeys={directory}/revoked_hosts.krl"),
        ] {
            command.args(["-o", option]);
        }
        Ran::of(command.arg(format!("{}@127.0.0.1", self.login)).args(["echo", "in"]))
    }

    /// The client does not take the host for the one that it wants.
    #[track_caller]
    pub(crate) fn mistrusts(&self, sshd: &Sshd, key: &Path) {
        let ran = self.log_in(sshd, key);
        assert_eq!((ran.code(), ran.stdout().as_str()), (255, ""), "{}", ran.stderr());
        assert!(ran.stderr().contains("Host key verification failed"), "{}", ran.stderr());
    }

    #[track_caller]
    pub(crate) fn lets_in(&self, sshd: &Sshd, key: &Path) {
        let ran = self.log_in(sshd, key);
        assert_eq!((ran.code(), ran.stdout().as_str()), (0, "in\n"), "{}\n--- sshd\n{}", ran.stderr(), sshd.log());
    }

    /// sshd knows this key or certificate for one that does not count, and says why.
    #[track_caller]
    pub(crate) fn turns_away(&self, sshd: &Sshd, key: &Path, why: &str) {
        let before = sshd.log().len();
        let ran = self.log_in(sshd, key);
        assert_eq!((ran.code(), ran.stdout().as_str()), (255, ""), "{}", sshd.log());
        assert!(ran.stderr().contains("Permission denied (publickey)"), "{}", ran.stderr());
        // sshd writes as the connection ends; its last words may be a moment late.
        let deadline = Instant::now() + PATIENCE;
        while !sshd.log()[before..].contains(why) {
            assert!(Instant::now() < deadline, "'{why}' is not what sshd says:\n{}", &sshd.log()[before..]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How long sshd may take for anything, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running sshd. It is ended when this is dropped, also by a panic.
pub(crate) struct Sshd {
    node: &'static str,
    pub(crate) process: Running,
    pub(crate) port: u16,
    log: PathBuf,
}

impl Sshd {
    /// Starts it with the files of a node.
    pub(crate) fn start(site: &Site<'_>, node: &'static str) -> Self {
        // As root sshd wants this directory for its unprivileged part; a service's unit would make it.
        if Tool::Root.path().is_some() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        // Between our asking for a free port and sshd's taking it somebody else may have it: then another one is tried.
        (0..20).find_map(|_| Self::start_on(site, node, free_port())).expect("sshd finds no port")
    }

    /// Starts it on this port, if that is free.
    fn start_on(site: &Site<'_>, node: &'static str, port: u16) -> Option<Self> {
        let config = format!(
            "Include {}\nListenAddress 127.0.0.1\nPort {port}\nPidFile none\nStrictModes no\nUsePAM no\n\
             AuthorizedKeysFile none\nPermitUserRC no\nLoginGraceTime 120\n",
            site.path(node).join("ssh/sshd_config.d/10-keys.conf").display()
        );
        let config = site.fleet.sandbox.write(&format!("{node}.sshd_config"), config);
        let log = site.path(&format!("{node}.sshd.log"));
        // By absolute path: it runs itself again for each connection.
        let program = Tool::Sshd.path().unwrap();
        Ran::of(Command::new(&program).arg("-tf").arg(&config)).ok();
        let output = std::fs::File::create(&log).unwrap();
        let mut command = bound(&program);
        command.args(["-D", "-e", "-f"]).arg(&config).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        let process = Running::start(command.stdout(output.try_clone().unwrap()).stderr(output));
        let mut sshd = Self { node, process, port, log };
        let deadline = Instant::now() + PATIENCE;
        while !sshd.log().contains(&format!("Server listening on 127.0.0.1 port {port}.")) {
            if sshd.process.try_wait().unwrap().is_some() && sshd.log().contains("Address already in use") {
                return None;
            }
            assert!(Instant::now() < deadline, "sshd does not come up:\n{}", sshd.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(sshd)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn a_certificate_logs_in_and_the_host_is_known_by_its_ca(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let key = site.certified("id", "alice", &[]);
    site.lets_in(&sshd, &key);
    assert!(sshd.log().contains("ID user alice (serial"), "who came in is in the log: {}", sshd.log());
    let known = std::fs::read_to_string(site.path("fra1/ssh/known_hosts")).unwrap();
    assert!(known.lines().all(|line| line.starts_with("@cert-authority *.cdn.example,cdn.example ")), "{known}");
}

fn what_the_fleet_did_not_give_is_refused(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    site.lets_in(&sshd, &site.certified("good", "alice", &[]));

    let elsewhere = site.certified("elsewhere", "alice", &["--principal", "deploy:ams1"]);
    site.turns_away(&sshd, &elsewhere, "Certificate does not contain an authorized principal");

    let plain = site.key("plain");
    site.turns_away(&sshd, &plain, "Failed publickey");

    let own_ca = site.key("own-ca");
    let stranger = site.key("stranger");
    let mut sign = Tool::SshKeygen.command();
    sign.args(["-q", "-I", "stranger", "-n", "deploy:fra1", "-V", "+1h", "-s"]).arg(&own_ca);
    Ran::of(sign.arg(stranger.with_extension("pub"))).ok();
    site.turns_away(&sshd, &stranger, "ID stranger (serial 0) CA ED25519 SHA256:");

    // Another fleet of the same name, with the same operator, and with the same principals in its certificates.
    let other = |home: &str, args: &[&str]| {
        sandbox.keys(&[&["--fleet", "other", "--home", home], args].concat()).ok();
    };
    other("other-alice", &["init", "cdn.example", "--operator", "Alice <alice@ops.example>"]);
    other("other-fra1", &["enroll", "fra1"]);
    other("other-alice", &["approve", "--all", "--yes"]);
    let foreign = site.key("foreign");
    let public = foreign.with_extension("pub").display().to_string();
    other("other-alice", &["ssh", "sign", "user", "alice", "--key", &public, "--principal", "deploy:fra1"]);
    assert!(site.path("foreign-cert.pub").exists());
    site.turns_away(&sshd, &foreign, "ID user alice (serial 3) CA ED25519 SHA256:");

    let expired = site.certified("expired", "alice", &["--lifetime", "1s"]);
    std::thread::sleep(Duration::from_secs(2));
    site.turns_away(&sshd, &expired, "expired");
}

fn a_host_that_the_fleet_did_not_name_is_mistrusted(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    site.render("ams1");
    let key = site.certified("id", "alice", &[]);
    site.lets_in(&Sshd::start(&site, "fra1"), &key);

    // The thief of ams1's key and certificate, who says that this is fra1.
    let mut thief = Sshd::start(&site, "ams1");
    site.lets_in(&thief, &site.certified("id2", "alice", &[]));
    thief.node = "fra1";
    site.mistrusts(&thief, &key);

    // The right key without its certificate; then certified by somebody else.
    let drop_in = site.path("fra1/ssh/sshd_config.d/10-keys.conf");
    let text = std::fs::read_to_string(&drop_in).unwrap();
    std::fs::write(&drop_in, text.replace("HostCertificate", "#HostCertificate")).unwrap();
    site.mistrusts(&Sshd::start(&site, "fra1"), &key);
    let ca = site.key("other-ca");
    let public =
        sandbox.write("host.pub", Ran::of(Tool::SshKeygen.command().arg("-yf").arg(site.host_key("fra1"))).ok());
    let mut sign = Tool::SshKeygen.command();
    sign.args(["-q", "-h", "-I", "fra1", "-n", "fra1.cdn.example", "-V", "+1h", "-s"]).arg(&ca).arg(&public);
    Ran::of(&mut sign).ok();
    let certificate = site.path("fra1/ssh").join(site.named("fra1/ssh", "#HostCertificate"));
    std::fs::copy(site.path("host-cert.pub"), certificate).unwrap();
    std::fs::write(&drop_in, text).unwrap();
    site.mistrusts(&Sshd::start(&site, "fra1"), &key);
}

fn a_revoked_host_is_mistrusted_once_the_client_has_the_list(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    site.render("ams1");
    let key = site.certified("id", "alice", &[]);
    let stolen = Sshd::start(&site, "ams1");
    site.lets_in(&stolen, &key);
    site.fleet.keys("alice", &["revoke", "ams1", "--reason", "compromised", "--yes"]).ok();
    site.render("fra1");
    site.mistrusts(&stolen, &key);
    site.lets_in(&Sshd::start(&site, "fra1"), &key);
}

fn a_rotation_of_the_host_key_refuses_nobody(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let key = site.certified("id", "alice", &[]);
    let before = Sshd::start(&site, "fra1");
    site.lets_in(&before, &key);
    let old = site.host_key("fra1");
    site.fleet.keys("alice", &["rotate", "fra1", "--slot", "ssh-host", "--yes"]).ok();
    // The standby has its certificate since before: no authority is needed for the change.
    site.render("fra1");
    site.lets_in(&before, &key);
    drop(before);
    assert_ne!(site.host_key("fra1"), old);
    site.lets_in(&Sshd::start(&site, "fra1"), &key);
    site.fleet.settle(&["fra1"]);
    site.render("fra1");
    site.lets_in(&Sshd::start(&site, "fra1"), &key);
}

fn a_rotation_of_the_user_ca_refuses_nobody(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let before = site.certified("before", "alice", &[]);
    site.lets_in(&sshd, &before);

    site.fleet.keys("alice", &["rotate", "casc1", "--slot", "ssh-user-ca", "--yes"]).ok();
    site.fleet.settle(&["fra1"]);
    let after = site.certified("after", "alice", &[]);
    site.lets_in(&sshd, &after);
    site.render("fra1");
    site.lets_in(&sshd, &after);
    // Its certificate has hours to live, and nobody has taken it back.
    site.lets_in(&sshd, &before);
}

fn a_replaced_ca_is_trusted_as_long_as_what_it_signed(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    let cas = || {
        site.render("fra1");
        std::fs::read_to_string(site.path("fra1/ssh/user_ca.pub")).unwrap().lines().count()
    };
    assert_eq!(cas(), 2, "active and standby");
    site.certified("id", "alice", &["--lifetime", "8h"]);
    site.fleet.keys("alice", &["rotate", "casc1", "--slot", "ssh-user-ca", "--yes"]).ok();
    site.fleet.settle(&["fra1"]);
    assert_eq!(cas(), 3);
    sandbox.set_days_later(1);
    assert_eq!(cas(), 2, "nothing that it signed is good any more");
}

fn a_rotation_of_the_host_ca_refuses_nobody(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let key = site.certified("id", "alice", &[]);
    let sshd = Sshd::start(&site, "fra1");
    site.lets_in(&sshd, &key);

    site.fleet.keys("alice", &["rotate", "casc1", "--slot", "ssh-host-ca", "--yes"]).ok();
    site.fleet.settle(&["fra1"]);
    // sshd goes on with the certificate it has read, which has weeks to live; clients that have followed still know it.
    site.render("fra1");
    site.lets_in(&sshd, &key);
    site.fleet.keys("alice", &["ssh", "sign", "host"]).ok();
    site.render("fra1");
    site.lets_in(&sshd, &key);
    drop(sshd);
    site.lets_in(&Sshd::start(&site, "fra1"), &key);
}

fn a_revoked_member_is_refused_once_the_node_has_the_list(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.fleet.keys("bob", &["enroll", "bob", "--operator", "Bob <bob@ops.example>"]).ok();
    site.fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let (alice, bob) = (site.certified("alice-id", "alice", &[]), site.certified("bob-id", "bob", &[]));
    site.lets_in(&sshd, &alice);
    site.lets_in(&sshd, &bob);

    site.fleet.keys("alice", &["revoke", "bob", "--reason", "lost", "--yes"]).ok();
    site.render("fra1");
    site.turns_away(&sshd, &bob, "revoked");
    site.lets_in(&sshd, &alice);
    // Nor is he given another one.
    let public = site.key("bob-again").with_extension("pub").display().to_string();
    for who in ["alice", "bob"] {
        site.fleet.keys(who, &["ssh", "sign", "user", "bob", "--key", &public]).refuses(1, "bob");
    }
}
