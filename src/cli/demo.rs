//! `keys demo`: a whole fleet's life on local disk, by the very commands that people type, each with its real output.
//! It ends with other people's programs reading what was made.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Parser as _;

use super::args::{Args, Demo};
use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use crate::home::Home;

/// The machines of the demo.
const POPS: [(&str, &str); 3] = [("fra1", "198.51.100.1"), ("ams1", "198.51.100.2"), ("sin1", "198.51.100.3")];

/// `keys demo`.
pub(super) fn demo(context: &Context, args: &Demo) -> Result<Exit, CliError> {
    let started = Instant::now();
    let root = match &args.keep {
        Some(path) => {
            if path.read_dir().is_ok_and(|mut d| d.next().is_some()) {
                return Err(CliError::failed(format!("{} is not empty", shown(path)))
                    .hint("--keep wants a new or empty directory"));
            }
            path.clone()
        }
        None => std::env::temp_dir().join(format!("keys-demo-{}", std::process::id())),
    };
    // 0700: the homes of the demo are in it.
    Home::create(&root)?;
    let stage = Stage { context, root: root.clone(), gpg: args.profile == "compat" };
    let result = play(&stage, &args.profile).and_then(|()| stage.strangers());
    if args.keep.is_none() {
        let _ = std::fs::remove_dir_all(&root);
    }
    result?;
    stage.tell(&format!("\nThat was a fleet's life in {:.1} s.", started.elapsed().as_secs_f64()))?;
    if args.keep.is_some() {
        stage
            .tell(&format!("It is yours to play with: keys --fleet {0}/fleet --home {0}/alice status", shown(&root)))?;
    }
    Ok(Exit::Ok)
}

/// Where it plays.
struct Stage<'a> {
    context: &'a Context,
    root: PathBuf,
    gpg: bool,
}

fn play(stage: &Stage<'_>, profile: &str) -> Result<(), CliError> {
    stage.tell("A fleet of three PoPs with two services each, two operators, one authority. Every home below stands for a machine;")?;
    stage.tell("no private key ever leaves the home it was made in.")?;
    stage.found(profile)?;
    stage.join()?;
    stage.secrets()?;
    stage.rotate()?;
    stage.network()?;
    stage.revoke()?;
    stage.chapter("Anybody can check all of it")?;
    stage.run("alice", "status", Exit::Ok)?;
    stage.run("alice", "log show -n 6", Exit::Ok)?;
    stage.run("alice", "log verify", Exit::Ok)
}

impl Stage<'_> {
    fn found(&self, profile: &str) -> Result<(), CliError> {
        self.chapter("Two founders; the second makes her keys on her own machine and hands over a request")?;
        let request = self.path("bob.request");
        self.run_args(
            "bob",
            &[
                "enroll",
                "bob",
                "--operator",
                "Bob <bob@ops.example>",
                "--founding",
                "cdn.example",
                "--profile",
                profile,
                "--out",
                &request,
            ],
            Exit::Ok,
        )?;
        self.run_args(
            "alice",
            &[
                "init",
                "cdn.example",
                "--operator",
                "Alice <alice@ops.example>",
                "--operator",
                &request,
                "--profile",
                profile,
            ],
            Exit::Unauthorised,
        )?;
        self.run("bob", "approve --all --yes", Exit::Unauthorised)?;
        self.run("alice", "approve --all --yes", Exit::Ok)?;
        self.tell("Founded. Both operators have to vouch for the authority before it can admit anybody:")?;
        self.run("bob", "sync", Exit::Ok)?;
        self.run("alice", "sync", Exit::Ok)
    }

    fn join(&self) -> Result<(), CliError> {
        self.chapter("Three PoPs make their own keys, active and standby, and ask to join")?;
        for (pop, address) in POPS {
            self.run(pop, &format!("enroll {pop} --service nginx,dns --endpoint {address}"), Exit::Ok)?;
        }
        self.tell("One operator is not enough; two are:")?;
        self.run("alice", "approve --all --yes", Exit::Unauthorised)?;
        self.run("bob", "approve --all --yes", Exit::Unauthorised)?;
        self.run("alice", "sync", Exit::Ok)
    }

    fn secrets(&self) -> Result<(), CliError> {
        self.chapter("Secrets are sealed to exactly who needs them")?;
        self.write("key.pem", "-----BEGIN DEMO KEY-----\nonly nginx at fra1 reads this\n-----END DEMO KEY-----\n")?;
        self.write("token", "registry-token-of-ams1\n")?;
        let (key, token) = (self.path("key.pem"), self.path("token"));
        self.run_args("alice", &["seal", "nginx@fra1/tls.key", "--in", &key], Exit::Ok)?;
        self.run_args("alice", &["seal", "ams1/registry-token", "--in", &token], Exit::Ok)?;
        self.run_args("alice", &["seal", "dns@sin1/tsig", "--in", &token], Exit::Ok)?;
        self.run("fra1", "open nginx@fra1/tls.key", Exit::Ok)?;
        self.refused("ams1", "open nginx@fra1/tls.key", Exit::No)?;
        self.tell("Sharing between PoPs has to be declared in the policy, which both have to sign:")?;
        self.refused("alice", &format!("seal nginx@*/api-token --in {token}"), Exit::Failed)?;
        let path = self.root.join("fleet/policy/secrets.toml");
        let text = std::fs::read_to_string(&path).map_err(CliError::failed)?;
        std::fs::write(&path, text + "\n[[secret]]\nmatch = \"nginx@*/api-token\"\nshared = true\n")
            .map_err(CliError::failed)?;
        self.run("alice", "policy propose --yes", Exit::Unauthorised)?;
        self.run("bob", "approve --all --yes", Exit::Unauthorised)?;
        self.run("alice", "approve", Exit::Ok)?;
        self.run("alice", "sync", Exit::Ok)?;
        self.run_args("alice", &["seal", "nginx@*/api-token", "--in", &token], Exit::Ok)?;
        self.run("alice", "ls", Exit::Ok)
    }

    fn rotate(&self) -> Result<(), CliError> {
        self.chapter("Every key of the fleet is rotated, out of turn, so two operators sign. ams1 is away")?;
        self.run("alice", "rotate --all --yes --reason drill", Exit::Unauthorised)?;
        self.run("bob", "approve --all --yes", Exit::Unauthorised)?;
        self.run("alice", "sync", Exit::Ok)?;
        self.tell(
            "The standbys are in force. Whoever is there makes the next ones; secrets stay readable throughout:",
        )?;
        self.run("fra1", "open nginx@fra1/tls.key", Exit::Ok)?;
        for home in ["bob", "fra1", "sin1"] {
            self.run(home, "sync", Exit::Ok)?;
        }
        self.run("alice", "sync", Exit::Ok)?;
        self.tell(
            "A second time, for the others. Then ams1 comes back, having missed both, with the keys it always had:",
        )?;
        self.run("alice", "rotate fra1 --yes", Exit::Unauthorised)?;
        self.run("bob", "approve --all --yes", Exit::Unauthorised)?;
        self.run("alice", "sync", Exit::Ok)?;
        self.run("fra1", "sync", Exit::Ok)?;
        self.run("ams1", "open ams1/registry-token", Exit::Ok)?;
        self.run("ams1", "sync", Exit::Ok)?;
        self.run("alice", "sync", Exit::Ok)
    }

    fn network(&self) -> Result<(), CliError> {
        self.chapter(
            "WireGuard and SSH: configurations without private keys, certificates that the log decided first",
        )?;
        let (wg, ssh, key) = (self.path("wg"), self.path("ssh"), self.path("id_demo.pub"));
        self.run_args("alice", &["wg", "render", "--out", &wg], Exit::Ok)?;
        self.run("alice", "ssh sign host", Exit::Ok)?;
        self.run_args("alice", &["ssh", "render", "--node", "fra1", "--out", &ssh], Exit::Ok)?;
        let person = crate::ssh::SshPrivateKey::generate(&mut self.context.rng()?);
        self.write("id_demo.pub", &format!("{} demo\n", person.public()))?;
        self.run_args("alice", &["ssh", "sign", "user", "alice", "--key", &key], Exit::Ok)?;
        self.run_args("alice", &["ssh", "inspect", &self.path("id_demo-cert.pub")], Exit::Ok)
    }

    fn revoke(&self) -> Result<(), CliError> {
        self.chapter("sin1 is stolen")?;
        self.run("alice", "reach sin1", Exit::Ok)?;
        self.run("alice", "revoke sin1 --reason compromised --yes", Exit::Ok)?;
        self.tell("Nothing can be sealed to it any more; what it could read is listed until it is replaced:")?;
        let token = self.path("token");
        self.refused("alice", &format!("seal dns@sin1/tsig --in {token}"), Exit::Failed)?;
        self.run_args("alice", &["seal", "nginx@*/api-token", "--in", &token], Exit::Ok)?;
        self.run("alice", "who nginx@*/api-token", Exit::Ok)
    }

    /// Other people's programs read what was made, as far as they are installed.
    fn strangers(&self) -> Result<(), CliError> {
        self.chapter("Strangers' tools agree")?;
        self.gpg()?;
        match program("ssh-keygen") {
            Some(path) => {
                let shown = output(Command::new(path).arg("-L").arg("-f").arg(self.root.join("id_demo-cert.pub")))?;
                self.expect(
                    "ssh-keygen -L shows the user certificate",
                    shown.contains("Signing CA: ED25519") && shown.contains("deploy:fra1"),
                )?;
                let krl = self.root.join("ssh/revoked_hosts.krl");
                let listed =
                    output(Command::new(program("ssh-keygen").unwrap_or_default()).args(["-Q", "-l", "-f"]).arg(krl))?;
                self.expect("ssh-keygen -Q reads the KRL", listed.contains("KRL version"))?;
            }
            None => self.tell("skipped: ssh-keygen is not installed")?,
        }
        match program("wg-quick") {
            Some(path) => {
                let stripped = output(
                    Command::new(path)
                        .arg("strip")
                        .arg(self.root.join("wg/fra1/wg-quick/wg-a.conf"))
                        .env("PATH", "/usr/bin:/bin:/usr/sbin"),
                )?;
                self.expect(
                    "wg-quick strip takes the configuration",
                    stripped.contains("[Peer]") && !stripped.contains("PrivateKey"),
                )?;
            }
            None => self.tell("skipped: wg-quick is not installed")?,
        }
        Ok(())
    }

    /// gpg checks an entry of the log, authenticates a service, and opens a secret with the service's own key.
    fn gpg(&self) -> Result<(), CliError> {
        let Some(path) = program("gpg").filter(|_| self.gpg) else {
            return self.tell("skipped: gpg is not installed, or cannot read this profile");
        };
        // A private home for gpg, short enough for its socket.
        let gnupg = self.root.join("g");
        Home::create(&gnupg)?;
        let gpg = |args: &[&str]| {
            let mut command = Command::new(&path);
            command.arg("--homedir").arg(&gnupg).args(["--batch", "--no-tty", "--quiet"]).args(args);
            command
        };
        let (ring, raw) = (self.path("ring"), self.path("raw"));
        self.run_args("alice", &["ring", "export", "--gpg", "--out", &ring], Exit::Ok)?;
        self.run_args("alice", &["log", "show", "0", "--raw", &raw], Exit::Ok)?;
        output(&mut gpg(&["--import-options", "import-local-sigs", "--import", &format!("{ring}/ring.pgp")]))?;
        output(&mut gpg(&["--import-ownertrust", &format!("{ring}/ownertrust.txt")]))?;
        let verified =
            gpg(&["--verify", &format!("{raw}/0-bob.sig"), &format!("{raw}/0.body")]).stderr(Stdio::null()).status();
        self.expect(
            "gpg --verify accepts bob's signature on the genesis statement",
            verified.is_ok_and(|s| s.success()),
        )?;
        let listed = output(&mut gpg(&["--with-colons", "--list-keys", "nginx@fra1.cdn.example"]))?;
        self.expect("gpg takes nginx@fra1 for authenticated", listed.lines().any(|l| l.starts_with("uid:f:")))?;
        let service = self.root.join("fra1/members/nginx@fra1/openpgp.tsk");
        output(gpg(&["--import"]).arg(service))?;
        let sealed = self.root.join("fleet/keyring/sealed/fra1/nginx/tls.key.pgp");
        let opened = output(gpg(&["--decrypt"]).arg(sealed))?;
        self.expect(
            "gpg --decrypt opens the secret with the service's own key",
            opened.contains("only nginx at fra1 reads this"),
        )?;
        if let Some(conf) = program("gpgconf") {
            let _ = Command::new(conf).arg("--homedir").arg(&gnupg).args(["--kill", "gpg-agent"]).status();
        }
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), CliError> {
        std::fs::write(self.root.join(name), text).map_err(CliError::failed)
    }

    fn tell(&self, text: &str) -> Result<(), CliError> {
        self.context.out.line(text)
    }

    fn chapter(&self, title: &str) -> Result<(), CliError> {
        self.tell(&format!("\n{}", self.context.bold(&format!("== {title}"))))
    }

    fn expect(&self, what: &str, holds: bool) -> Result<(), CliError> {
        if holds {
            self.tell(&format!("ok: {what}"))
        } else {
            Err(CliError::new(Exit::Bug, format!("it does not hold that {what}")))
        }
    }

    fn run(&self, home: &str, line: &str, expected: Exit) -> Result<(), CliError> {
        self.run_args(home, &line.split(' ').collect::<Vec<_>>(), expected)
    }

    /// A command that has to be refused: its message is part of the story.
    fn refused(&self, home: &str, line: &str, expected: Exit) -> Result<(), CliError> {
        match self.command(home, &line.split(' ').collect::<Vec<_>>()) {
            Err(e) if e.exit == expected => {
                e.print(self.context.quiet);
                Ok(())
            }
            Err(e) => Err(e),
            Ok(exit) => Err(CliError::new(
                Exit::Bug,
                format!("'{line}' ended with {} and should have been refused", exit.code()),
            )),
        }
    }

    fn run_args(&self, home: &str, line: &[&str], expected: Exit) -> Result<(), CliError> {
        let exit = self.command(home, line)?;
        if exit == expected {
            Ok(())
        } else {
            Err(CliError::new(
                Exit::Bug,
                format!("'{}' ended with {}, not {}", line.join(" "), exit.code(), expected.code()),
            ))
        }
    }

    /// Runs one command line as it would be typed, for this home.
    fn command(&self, home: &str, line: &[&str]) -> Result<Exit, CliError> {
        let root = self.root.display().to_string();
        let words: Vec<String> = line
            .iter()
            .map(|w| w.replace(&format!("{root}/"), ""))
            .map(|w| if w.contains([' ', '*', '<']) { format!("'{w}'") } else { w })
            .collect();
        self.tell(&format!("{home}$ keys {}", words.join(" ")))?;
        let args =
            Args::try_parse_from(std::iter::once("keys").chain(line.iter().copied())).map_err(CliError::usage)?;
        let context = self.context.elsewhere(&self.root.join("fleet"), &self.root.join(home));
        super::dispatch(&context, &args.command)
    }
}

/// A program by absolute path, where Debian has it.
fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.is_file())
}

/// What a program prints, or why it failed.
fn output(command: &mut Command) -> Result<String, CliError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|e| CliError::failed(format!("cannot run {name}: {e}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(CliError::failed(format!(
        "{name} failed: {}",
        crate::text::shown(String::from_utf8_lossy(&output.stderr).trim())
    )))
}
