//! A stolen CA key and a stock sshd: without the log's word, and the quorum's, it opens nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use keys::ssh::{
    CaSigner, CertificateAuthority as _, CertificateBody, CertificateFields, CertificateKind, Nonce, Principal, Serial,
    SshCertificate, SshPrivateKey, SshPublicKey, Staple, Stapled, issue,
};

use crate::sshd::{Site, Sshd};
use crate::support::{Ran, Sandbox, Tool, tests};
use crate::witness::Cosigner;

tests!["sshd_proof":
    a_stolen_ca_key_opens_nothing needs [Sshd, Ssh, SshKeygen, Root],
    a_proof_waits_for_the_cosigners,
    nothing_that_others_can_write_is_believed needs [Root],
];

const PROOF: (&str, &str) = ("require_proof = false", "require_proof = true");
pub(crate) const NO_PRINCIPAL: &str = "does not contain an authorized principal";

/// A directory that only root can write to, as sshd wants it for a program that it runs, with a link to ours in it.
pub(crate) struct Programs(PathBuf);

/// Tests run beside each other in one process.
static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Programs {
    pub(crate) fn new() -> Self {
        let path =
            PathBuf::from(format!("/run/keys-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&path).unwrap();
        let script = format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_keys"));
        let program = path.join("keys");
        std::fs::write(&program, script).unwrap();
        Ran::of(Command::new("/bin/chmod").arg("0755").arg(&path).arg(&program)).ok();
        Self(path)
    }

    pub(crate) fn program(&self) -> String {
        self.0.join("keys").display().to_string()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A copy of the private half of the CA that signs users, from the authority's home.
fn stolen_ca(site: &Site<'_>) -> PathBuf {
    let trusted = std::fs::read_to_string(site.path("fra1/ssh/user_ca.pub")).unwrap();
    let issued = site.certified("honest", "alice", &["--again"]);
    let shown = Ran::of(Tool::SshKeygen.command().arg("-Lf").arg(format!("{}-cert.pub", issued.display()))).ok();
    let directory = site.path("alice/members/casc1/ssh-user-ca");
    for file in std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().path()) {
        let public = Ran::of(Tool::SshKeygen.command().arg("-yf").arg(&file)).ok();
        let blob = public.split(' ').nth(1).unwrap().trim();
        let listed = Ran::of(Tool::SshKeygen.command().arg("-lf").arg(&file)).ok();
        let fingerprint = listed.split(' ').nth(1).unwrap();
        if trusted.contains(blob) && shown.contains(fingerprint) {
            let copy = site.path("stolen-ca");
            std::fs::copy(&file, &copy).unwrap();
            return copy;
        }
    }
    panic!("the CA's key is not in the home");
}

/// Signs `key` with the stolen CA key, as somebody would who knows the fleet well.
fn forge(site: &Site<'_>, name: &str, ca: &Path, serial: &str) -> PathBuf {
    let key = site.key(name);
    let mut sign = Tool::SshKeygen.command();
    sign.args(["-q", "-I", "user alice", "-n", "deploy:fra1", "-V", "+1h", "-O", "clear", "-O", "permit-pty"]);
    Ran::of(sign.args(["-z", serial, "-s"]).arg(ca).arg(key.with_extension("pub"))).ok();
    key
}

/// A certificate for a key of the thief's own that carries the proof of an honest one, and says the same but for the key.
fn graft(site: &Site<'_>, ca: &Path, honest: &str) -> PathBuf {
    let key = site.key("grafted");
    let honest = certificate(&site.path(&format!("{honest}-cert.pub")));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let ca = CaSigner::from(SshPrivateKey::from_openssh(&std::fs::read_to_string(ca).unwrap()).unwrap());
    let body = CertificateBody::new(CertificateFields {
        kind: CertificateKind::User,
        ca: ca.public().clone(),
        subject: SshPublicKey::parse_line(public.trim_end()).unwrap(),
        key_id: honest.key_id().parse().unwrap(),
        principals: honest.principals().iter().map(|p| Principal::user(p).unwrap()).collect(),
        valid_after: honest.valid_after(),
        valid_before: honest.valid_before().unwrap(),
        critical_options: [].into(),
        extensions: ["permit-pty".to_owned()].into(),
        nonce: Nonce([7; 32]),
    });
    let staple = Staple::of(&honest).expect("it carries a proof");
    let serial = Serial::new(honest.serial()).unwrap();
    let forged = issue(&body.unwrap(), serial, Some(&staple), &ca).unwrap();
    std::fs::write(site.path("grafted-cert.pub"), format!("{}\n", forged.to_line())).unwrap();
    key
}

fn certificate(file: &Path) -> SshCertificate {
    SshCertificate::parse(std::fs::read_to_string(file).unwrap().trim_end()).unwrap()
}

fn a_stolen_ca_key_opens_nothing(sandbox: &Sandbox) {
    let site = Site::under(sandbox, &[PROOF]);
    let programs = Programs::new();
    let render = || site.render_with("fra1", &["--program", &programs.program(), "--user", &site.login]);
    render();
    let drop_in = std::fs::read_to_string(site.path("fra1/ssh/sshd_config.d/10-keys.conf")).unwrap();
    assert!(drop_in.contains("\nAuthorizedPrincipalsFile none\n"), "{drop_in}");
    let sshd = Sshd::start(&site, "fra1");
    let honest = site.certified("id", "alice", &[]);
    site.lets_in(&sshd, &honest);

    let ca = stolen_ca(&site);
    for serial in ["0", "7", "4000"] {
        let forged = forge(&site, &format!("forged-{serial}"), &ca, serial);
        site.turns_away(&sshd, &forged, NO_PRINCIPAL);
    }
    // With the proof of an honest certificate in it, under the same serial, for the thief's own key.
    site.turns_away(&sshd, &graft(&site, &ca, "id"), NO_PRINCIPAL);

    // The same sshd without the demand lets the thief in: it is the proof that keeps her out.
    let config = site.path("fra1/ssh/sshd_config.d/10-keys.conf");
    let without = drop_in.replace(
        "AuthorizedPrincipalsFile none",
        &format!("AuthorizedPrincipalsFile {}/principals/%u", site.path("fra1/ssh").display()),
    );
    let without: String =
        without.lines().filter(|l| !l.starts_with("AuthorizedPrincipalsCommand")).map(|l| format!("{l}\n")).collect();
    drop(sshd);
    std::fs::write(&config, without).unwrap();
    let open = Sshd::start(&site, "fra1");
    site.lets_in(&open, &site.path("forged-7"));
    drop(open);

    // An honest certificate goes on working when the log has grown and the node has newer files, and after a rotation of the
    // keys that signed for it.
    site.fleet.keys("alice", &["rotate", "casc1", "--slot", "ssh-user-ca", "--yes"]).ok();
    site.fleet.keys("alice", &["rotate", "alice", "--slot", "sign", "--yes"]).ok();
    site.fleet.keys("alice", &["rotate", "casc1", "--slot", "sign", "--yes"]).ok();
    site.fleet.settle(&["fra1"]);
    render();
    let sshd = Sshd::start(&site, "fra1");
    site.lets_in(&sshd, &honest);
    site.lets_in(&sshd, &site.certified("after", "alice", &[]));
    let again = forge(&site, "forged-again", &ca, "7");
    site.turns_away(&sshd, &again, NO_PRINCIPAL);
}

fn a_proof_waits_for_the_cosigners(sandbox: &Sandbox) {
    let witness = Cosigner::init(sandbox, "w1", false);
    let site = Site::under(sandbox, &[PROOF]);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str(&format!(
        "\n[[cosigner]]\nvkey = \"{}\"\nkind = \"witness\"\n[publish]\nneed = {{ witness = 1 }}\n",
        witness.vkey
    ));
    std::fs::write(&path, text).unwrap();
    site.fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    witness.watch();
    let cosign = || {
        sandbox.keys(&["--home", "w1", "--fleet", "fleet", "log", "witness", "sign"]).ok();
        site.fleet.keys("alice", &["log", "publish"]).ok()
    };
    cosign();
    let key = site.key("id");
    let public = key.with_extension("pub").display().to_string();
    let ask = ["ssh", "sign", "user", "alice", "--key", &public];
    let asked = site.fleet.keys("alice", &ask);
    assert_eq!(asked.code(), 0, "{}", asked.stderr());
    assert!(asked.stderr().contains("waits for the log's cosigners"), "{}", asked.stderr());
    assert!(!sandbox.path("id-cert.pub").exists());
    cosign();
    site.fleet.keys("alice", &ask).ok();
    let file = sandbox.path("id-cert.pub");
    let staple = Staple::of(&certificate(&file)).expect("it carries a proof");
    let Stapled::Proof(_, proof) = staple.parts().unwrap() else { panic!("a proof") };
    let proof = String::from_utf8(proof.to_vec()).unwrap();
    assert!(proof.contains("\u{2014} w1.example/c1 "), "{proof}");
    site.fleet.keys("alice", &["log", "verify"]).ok();

    // What the node knows judges it; and would not, without the witness's line.
    site.render("fra1");
    let line = std::fs::read_to_string(&file).unwrap();
    let [algorithm, blob, ..] = *line.split_whitespace().collect::<Vec<_>>() else { panic!("{line}") };
    let directory = sandbox.path("fra1/ssh").display().to_string();
    let principals = ["ssh", "principals", "--directory", &directory, "deploy", algorithm, blob];
    assert_eq!(sandbox.keys(&principals).ok(), "deploy:fra1\n");
    let trust = sandbox.path("fra1/ssh/trust.json");
    let text = std::fs::read_to_string(&trust).unwrap();
    std::fs::write(&trust, text.replace(&witness.vkey, &Cosigner::init(sandbox, "w2", false).vkey)).unwrap();
    sandbox.keys(&principals).refuses(3, "lacks 1 witness");
    let elsewhere = ["ssh", "principals", "--directory", &directory, "daemon", algorithm, blob];
    sandbox.keys(&elsewhere).refuses(3, "the account accepts nobody");
    let traversing = ["ssh", "principals", "--directory", &directory, "../trust.json", algorithm, blob];
    sandbox.keys(&traversing).refuses(3, "is not a login name");
}

fn nothing_that_others_can_write_is_believed(sandbox: &Sandbox) {
    let site = Site::under(sandbox, &[PROOF]);
    site.render("fra1");
    site.certified("id", "alice", &[]);
    let line = std::fs::read_to_string(sandbox.path("id-cert.pub")).unwrap();
    let [algorithm, blob, ..] = *line.split_whitespace().collect::<Vec<_>>() else { panic!("{line}") };
    let directory = sandbox.path("fra1/ssh").display().to_string();
    let principals = ["ssh", "principals", "--directory", &directory, "deploy", algorithm, blob];
    sandbox.keys(&principals).ok();
    for file in ["trust.json", "principals/deploy"] {
        let path = sandbox.path("fra1/ssh").join(file);
        Ran::of(Command::new("/bin/chmod").arg("0666").arg(&path)).ok();
        sandbox.keys(&principals).refuses(3, "can be written by others");
        Ran::of(Command::new("/bin/chmod").arg("0644").arg(&path)).ok();
        Ran::of(Command::new("/bin/chown").arg("65534").arg(&path)).ok();
        sandbox.keys(&principals).refuses(3, "belongs to somebody else than root");
        Ran::of(Command::new("/bin/chown").arg("0").arg(&path)).ok();
    }
    sandbox.keys(&principals).ok();
    std::fs::write(sandbox.path("fra1/ssh/trust.json"), "{}").unwrap();
    sandbox.keys(&principals).refuses(3, "render the node's files anew");
    std::fs::remove_file(sandbox.path("fra1/ssh/trust.json")).unwrap();
    assert_ne!(sandbox.keys(&principals).code(), 0);
}
