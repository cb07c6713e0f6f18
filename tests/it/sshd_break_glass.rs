//! Getting in while the log is out of reach: two of three break-glass keys, a stock ssh-keygen and a stock sshd.

use std::path::{Path, PathBuf};

use crate::ssh_agent::Agent;
use crate::sshd::{Site, Sshd};
use crate::sshd_proof::{NO_PRINCIPAL, Programs};
use crate::support::{Ran, Sandbox, Tool, tests};

tests!["sshd_break_glass":
    two_keys_out_of_safes_open_what_one_does_not needs [Sshd, Ssh, SshKeygen, SshAgent, SshAdd, Root],
];

/// Makes a key pair, and gives the public half.
fn safe(sandbox: &Sandbox, name: &str) -> String {
    let mut make = Tool::SshKeygen.command();
    Ran::of(make.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(sandbox.path(name))).ok();
    std::fs::read_to_string(sandbox.path(name).with_extension("pub")).unwrap().trim_end().to_owned()
}

/// Signs an order as whoever holds `key` would, without this program.
fn countersign(sandbox: &Sandbox, key: &str, order: &Path) -> PathBuf {
    let mut sign = Tool::SshKeygen.command();
    sign.args(["-q", "-Y", "sign", "-n", "break-glass@keys", "-f"]).arg(sandbox.path(key)).arg(order);
    Ran::of(&mut sign).ok();
    let kept = sandbox.path(&format!("{key}.sig"));
    std::fs::rename(format!("{}.sig", order.display()), &kept).unwrap();
    kept
}

fn two_keys_out_of_safes_open_what_one_does_not(sandbox: &Sandbox) {
    let keys = ["safe-a", "safe-b", "safe-c"].map(|name| format!("\"{}\"", safe(sandbox, name)));
    let table = format!(
        "require_proof = true\n\n[ca.break-glass]\nkeys = [{}]\nsign = 2\nprincipals = [\"deploy:{{pop}}\"]\nlifetime = \"2h\"\n\
         extensions = [\"permit-pty\"]\n",
        keys.join(", ")
    );
    let site = Site::under(sandbox, &[("require_proof = false", &table)]);
    let programs = Programs::new();
    site.render_with("fra1", &["--program", &programs.program(), "--user", &site.login]);
    let trusted = std::fs::read_to_string(site.path("fra1/ssh/user_ca.pub")).unwrap();
    assert_eq!(trusted.lines().filter(|l| l.starts_with("ssh-ed25519 ")).count(), 5, "{trusted}");
    let sshd = Sshd::start(&site, "fra1");

    // The log is gone: what alice has is a copy of the keyring that nobody can add to.
    let copy = sandbox.path("copy");
    Ran::of(std::process::Command::new("/bin/cp").arg("-a").arg(sandbox.path("fleet")).arg(&copy)).ok();
    let key = site.key("id");
    let (public, file) = (key.with_extension("pub").display().to_string(), sandbox.path("order"));
    let order = file.display().to_string();
    let keys = |args: &[&str]| {
        sandbox.keys(&[&["--fleet", "copy", "--home", "alice", "ssh", "break-glass"][..], args].concat())
    };
    let listed = Ran::of(Tool::SshKeygen.command().arg("-lf").arg(sandbox.path("safe-a"))).ok();
    let ca = listed.split(' ').nth(1).unwrap().to_owned();
    let ask = ["order", "alice", "--key", &public, "--out", &order];
    let said = keys(&[&ask[..], &["--ca", &ca]].concat());
    assert!(said.ok().contains(": alice as deploy:"), "{}", said.stderr());
    keys(&[&ask[..], &["--ca", "SHA256:x\u{1b}[31m"]].concat())
        .refuses(1, "x\\u{1b}[31m is none of the break-glass keys");
    keys(&[&ask[..], &["--principal", "\u{1b}[31m"]].concat()).refuses(1, "do not let in as '\\u{1b}[31m'");
    keys(&[&ask[..], &["--principal", "root"]].concat()).refuses(1, "do not let in as 'root'");
    keys(&[&ask[..], &["--lifetime", "0s"]].concat()).refuses(1, "good for no time lets nobody in");
    keys(&["order", "casc1", "--key", &public, "--out", &order]).refuses(1, "no operator");
    keys(&[&ask[..], &["--ca", &ca]].concat()).ok();

    // One key alone, by this program and without it.
    let ca_key = sandbox.path("safe-a").display().to_string();
    keys(&["issue", &order, "--ca-key", &ca_key]).refuses(4, "1 of 2 break-glass keys have signed");
    let mut alone = Tool::SshKeygen.command();
    alone.args(["-q", "-I", "break-glass alice", "-n", "deploy:fra1", "-V", "+1h", "-s"]).arg(&ca_key);
    Ran::of(alone.arg(&public)).ok();
    site.turns_away(&sshd, &key, NO_PRINCIPAL);
    std::fs::remove_file(sandbox.path("id-cert.pub")).unwrap();

    // With the signature of another one, made by a stock ssh-keygen.
    let signature = countersign(sandbox, "safe-b", &file).display().to_string();
    safe(sandbox, "stranger");
    let stranger = countersign(sandbox, "stranger", &file).display().to_string();
    let issue = ["issue", &order, "--ca-key", &ca_key, "--out", "id-cert.pub", "--signature"];
    keys(&[&issue[..], &[&stranger]].concat()).refuses(3, "is none of the break-glass keys");
    let other = sandbox.path("order.other");
    std::fs::write(&other, "something else\n").unwrap();
    let elsewhere = countersign(sandbox, "safe-c", &other).display().to_string();
    keys(&[&issue[..], &[&elsewhere]].concat()).refuses(3, "is no signature over this order");
    keys(&[&issue[..], &[&signature]].concat()).ok();
    site.lets_in(&sshd, &key);
    let shown = Ran::of(Tool::SshKeygen.command().arg("-Lf").arg(sandbox.path("id-cert.pub"))).ok();
    assert!(shown.contains("break-glass@cdn.example"), "{shown}");

    // The CA's key behind an agent, as a token's would be; and an order that the other changes after it was signed.
    let agent = Agent::start(sandbox, &[sandbox.path("safe-a")]);
    std::fs::remove_file(sandbox.path("id-cert.pub")).unwrap();
    let by_agent = ["issue", &order, "--out", "id-cert.pub", "--signature", &signature];
    let mut command = sandbox.command();
    command.args(["--fleet", "copy", "--home", "alice", "ssh", "break-glass"]).args(by_agent);
    Ran::of(command.env("SSH_AUTH_SOCK", agent.socket())).ok();
    site.lets_in(&sshd, &key);
    let text = std::fs::read_to_string(&file).unwrap().replace("deploy:fra1", "deploy:ams1");
    std::fs::write(&file, text).unwrap();
    keys(&[&issue[..], &[&signature]].concat()).refuses(3, "is no signature over this order");
}
