//! The traps of sshd's configuration, with a real sshd: `sshd -t` says nothing of them, they bite, and `keys ssh doctor` names them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::sshd::{Site, Sshd};
use crate::support::{Ran, Sandbox, Tool, tests};

tests!["ssh_doctor":
    an_empty_list_lets_in_who_was_revoked needs [Sshd, Ssh, SshKeygen],
    a_missing_or_broken_list_locks_everybody_out needs [Sshd, Ssh, SshKeygen],
    a_list_from_before_lets_in_who_was_revoked_since needs [Sshd, Ssh, SshKeygen],
    an_unknown_line_before_the_ca_refuses_its_certificates needs [Sshd, Ssh, SshKeygen],
    a_missing_file_of_principals_closes_an_account needs [Sshd, Ssh, SshKeygen],
    a_file_beside_the_command_lets_in_whom_it_refuses needs [Sshd, Ssh, SshKeygen],
    a_host_certificate_that_does_not_fit_is_ignored needs [Sshd, Ssh, SshKeygen],
    an_algorithm_that_may_not_sign_refuses_the_ca needs [Sshd, Ssh, SshKeygen],
    an_earlier_line_switches_revocation_off needs [Sshd, Ssh, SshKeygen],
    a_new_host_key_waits_for_the_reload needs [Sshd, Ssh, SshKeygen],
    a_configuration_that_sshd_refuses_is_told needs [Sshd, SshKeygen],
    an_image_is_examined_below_its_root needs [SshKeygen],
];

/// What is found wrong with a node: the codes of errors and warnings. Other people's right to write is left out: the
/// directory of a test lies in one that everybody can write to.
fn doctor(site: &Site<'_>, node: &str, flags: &[&str]) -> BTreeSet<String> {
    let config = site.path(&format!("{node}.sshd_config")).display().to_string();
    let client = site.path("client_config").display().to_string();
    let list = site.path(node).join("ssh/revoked_hosts.krl");
    std::fs::write(&client, format!("RevokedHostKeys {}\n", list.display())).unwrap();
    let own = ["ssh", "doctor", "--config", &config, "--client-config", &client, "--node", node, "--json"];
    let ran = site.fleet.keys("alice", &[&own, flags].concat());
    let findings = ran.json()["findings"].as_array().unwrap().clone();
    let grave: BTreeSet<String> = findings
        .iter()
        .filter(|f| f["severity"] != "note" && f["code"] != "mode")
        .map(|f| f["code"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ran.code(), if findings.iter().any(|f| f["severity"] == "error") { 3 } else { 0 }, "{findings:?}");
    grave
}

/// sshd itself sees nothing wrong, and the doctor finds just this.
#[track_caller]
fn only_the_doctor_says(site: &Site<'_>, codes: &[&str]) {
    let config = site.path("fra1.sshd_config");
    Ran::of(Tool::Sshd.command().arg("-tf").arg(config)).ok();
    assert_eq!(doctor(site, "fra1", &[]), codes.iter().map(|c| (*c).to_owned()).collect());
}

fn file(site: &Site<'_>, name: &str) -> PathBuf {
    site.path("fra1/ssh").join(name)
}

/// The serial of a certificate.
fn serial(site: &Site<'_>, key: &Path) -> String {
    let shown = site.fleet.keys("alice", &["ssh", "inspect", &format!("{}-cert.pub", key.display()), "--json"]);
    shown.json()["serial"].to_string()
}

fn revoke(site: &Site<'_>, key: &Path) {
    site.fleet.keys("alice", &["ssh", "revoke", &serial(site, key), "--yes"]).ok();
}

/// Changes a text.
fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

fn an_empty_list_lets_in_who_was_revoked(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    let lost = site.certified("lost", "alice", &[]);
    revoke(&site, &lost);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    site.turns_away(&sshd, &lost, "revoked");
    only_the_doctor_says(&site, &[]);
    std::fs::write(file(&site, "revoked.krl"), b"").unwrap();
    site.lets_in(&sshd, &lost);
    only_the_doctor_says(&site, &["krl-empty"]);
    let list = file(&site, "revoked.krl").display().to_string();
    site.fleet.keys("alice", &["ssh", "krl", "build", "--out", &list]).ok();
    site.turns_away(&sshd, &lost, "revoked");
    only_the_doctor_says(&site, &[]);
}

fn a_missing_or_broken_list_locks_everybody_out(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let key = site.certified("id", "alice", &[]);
    site.lets_in(&sshd, &key);
    let list = file(&site, "revoked.krl");
    let good = std::fs::read(&list).unwrap();

    std::fs::remove_file(&list).unwrap();
    site.turns_away(&sshd, &key, "");
    only_the_doctor_says(&site, &["krl-missing"]);
    std::fs::write(&list, &good[..good.len() - 1]).unwrap();
    site.turns_away(&sshd, &key, "");
    only_the_doctor_says(&site, &["krl-broken"]);
    std::fs::write(&list, b"garbage").unwrap();
    site.turns_away(&sshd, &key, "");
    only_the_doctor_says(&site, &["krl-broken"]);

    // What ssh-keygen itself makes of every 50th serial is a bitmap that sshd refuses.
    let spec: String = (1..=400).map(|n| format!("serial: {}\n", 100_000 + 50 * n)).collect();
    let spec = sandbox.write("spec", spec);
    let mut make = Tool::SshKeygen.command();
    make.args(["-q", "-k", "-s", "none", "-f"]).arg(&list).arg(&spec);
    Ran::of(&mut make).ok();
    site.turns_away(&sshd, &key, "");
    only_the_doctor_says(&site, &["krl-refused"]);
    // An extension is one that 9.2 refuses; whether a newer one does is for it to say.
    std::fs::write(&list, [&good[..], &[255, 0, 0, 0, 0]].concat()).unwrap();
    only_the_doctor_says(&site, &["krl-refused"]);

    std::fs::write(&list, &good).unwrap();
    site.lets_in(&sshd, &key);
    only_the_doctor_says(&site, &[]);
}

fn a_list_from_before_lets_in_who_was_revoked_since(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let lost = site.certified("lost", "alice", &[]);
    revoke(&site, &lost);
    site.lets_in(&sshd, &lost);
    only_the_doctor_says(&site, &["krl-lacks"]);
    site.render("fra1");
    site.turns_away(&sshd, &lost, "revoked");
    only_the_doctor_says(&site, &[]);
}

fn an_unknown_line_before_the_ca_refuses_its_certificates(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let key = site.certified("id", "alice", &[]);
    let cas = file(&site, "user_ca.pub");
    let good = std::fs::read_to_string(&cas).unwrap();
    let unknown = "ssh-unheard-of@example.com AAAAGnNzaC11bmhlYXJkLW9mQGV4YW1wbGUuY29tAAAAAQE=\n";
    std::fs::write(&cas, format!("{unknown}{good}")).unwrap();
    site.turns_away(&sshd, &key, "");
    only_the_doctor_says(&site, &["ca-line"]);
    std::fs::write(&cas, format!("{good}{unknown}")).unwrap();
    site.lets_in(&sshd, &key);
    only_the_doctor_says(&site, &[]);
    std::fs::remove_file(&cas).unwrap();
    site.turns_away(&sshd, &key, "");
    only_the_doctor_says(&site, &["ca-missing"]);
    // A CA that the fleet does not know: whoever has it logs in.
    let thief = site.key("thief");
    let theirs = std::fs::read_to_string(thief.with_extension("pub")).unwrap();
    std::fs::write(&cas, format!("{good}{theirs}")).unwrap();
    let mut sign = Tool::SshKeygen.command();
    sign.args(["-q", "-I", "x", "-n", "deploy:fra1", "-V", "+1h", "-s"]).arg(&thief);
    let own = site.key("own");
    Ran::of(sign.arg(own.with_extension("pub"))).ok();
    site.lets_in(&sshd, &own);
    only_the_doctor_says(&site, &["ca-stranger"]);
}

fn a_missing_file_of_principals_closes_an_account(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let key = site.certified("id", "alice", &[]);
    site.lets_in(&sshd, &key);
    std::fs::rename(file(&site, "principals"), file(&site, "elsewhere")).unwrap();
    site.turns_away(&sshd, &key, "");
    only_the_doctor_says(&site, &["principals-missing"]);
    std::fs::rename(file(&site, "elsewhere"), file(&site, "principals")).unwrap();
    let own = file(&site, "principals").join(&site.login);
    std::fs::write(own, "# nobody\n").unwrap();
    site.turns_away(&sshd, &key, "");
    only_the_doctor_says(&site, &["principals-empty"]);
}

fn a_file_beside_the_command_lets_in_whom_it_refuses(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let drop_in = file(&site, "sshd_config.d/10-keys.conf");
    // A command that lets in nobody.
    let command = "AuthorizedPrincipalsCommand /bin/true\nAuthorizedPrincipalsCommandUser nobody";
    edit(&drop_in, "AuthorizedPrincipalsCommand none", command);
    let key = site.certified("id", "alice", &[]);
    site.lets_in(&Sshd::start(&site, "fra1"), &key);
    only_the_doctor_says(&site, &["principals-both"]);
    let files = format!("AuthorizedPrincipalsFile {}", file(&site, "principals/%u").display());
    edit(&drop_in, &files, "AuthorizedPrincipalsFile none");
    site.turns_away(&Sshd::start(&site, "fra1"), &key, "");
    only_the_doctor_says(&site, &[]);
}

fn a_host_certificate_that_does_not_fit_is_ignored(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    site.render("ams1");
    let key = site.certified("id", "alice", &[]);
    let own = file(&site, &site.named("fra1/ssh", "HostCertificate"));
    let good = std::fs::read(&own).unwrap();
    let theirs = site.path("ams1/ssh").join(site.named("ams1/ssh", "HostCertificate"));
    let users = PathBuf::from(format!("{}-cert.pub", key.display()));
    for (other, code) in [(&theirs, "host-certificate-stranger"), (&users, "host-certificate-user")] {
        std::fs::copy(other, &own).unwrap();
        site.mistrusts(&Sshd::start(&site, "fra1"), &key);
        only_the_doctor_says(&site, &[code]);
    }
    std::fs::remove_file(&own).unwrap();
    let sshd = Sshd::start(&site, "fra1");
    site.mistrusts(&sshd, &key);
    only_the_doctor_says(&site, &["host-certificate-missing"]);
    std::fs::write(&own, good).unwrap();
    drop(sshd);
    // Started without it; it is in the drop-in again, and whoever runs does not know.
    let drop_in = file(&site, "sshd_config.d/10-keys.conf");
    edit(&drop_in, "HostCertificate", "#HostCertificate");
    let sshd = Sshd::start(&site, "fra1");
    edit(&drop_in, "#HostCertificate", "HostCertificate");
    let live = doctor(&site, "fra1", &["--live", "--port", &sshd.port.to_string()]);
    assert_eq!(live, ["live-no-certificate".to_owned()].into());
    drop(sshd);
    let sshd = Sshd::start(&site, "fra1");
    site.lets_in(&sshd, &key);
    let port = sshd.port.to_string();
    assert_eq!(doctor(&site, "fra1", &["--live", "--port", &port]), BTreeSet::new());
    drop(sshd);
    assert_eq!(doctor(&site, "fra1", &["--live", "--port", &port]), ["live-silent".to_owned()].into());
}

fn an_algorithm_that_may_not_sign_refuses_the_ca(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let key = site.certified("id", "alice", &[]);
    edit(&file(&site, "sshd_config.d/10-keys.conf"), "CASignatureAlgorithms ssh-ed25519,", "CASignatureAlgorithms ");
    site.turns_away(&Sshd::start(&site, "fra1"), &key, "");
    only_the_doctor_says(&site, &["ca-algorithm"]);
}

fn an_earlier_line_switches_revocation_off(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    let lost = site.certified("lost", "alice", &[]);
    revoke(&site, &lost);
    site.render("fra1");
    let drop_in = file(&site, "sshd_config.d/10-keys.conf");
    // Somebody's own file, which the harness includes where the drop-in was, and which includes that in its turn.
    let own = file(&site, "sshd_config.d/20-keys.conf");
    std::fs::rename(&drop_in, &own).unwrap();
    std::fs::write(&drop_in, format!("RevokedKeys none\nInclude {}\n", own.display())).unwrap();
    let sshd = Sshd::start(&site, "fra1");
    site.lets_in(&sshd, &lost);
    only_the_doctor_says(&site, &["krl-unset", "overridden"]);
    drop(sshd);
    std::fs::write(&drop_in, format!("Include {}\nRevokedKeys none\n", own.display())).unwrap();
    site.turns_away(&Sshd::start(&site, "fra1"), &lost, "revoked");
    only_the_doctor_says(&site, &[]);
}

fn a_new_host_key_waits_for_the_reload(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let port = sshd.port.to_string();
    let live = |port: &str| doctor(&site, "fra1", &["--live", "--port", port]);
    assert_eq!(live(&port), BTreeSet::new());
    // A new certificate for the same key sshd 9.2 reads by itself at the next login; another key it does not.
    site.fleet.keys("alice", &["rotate", "fra1", "--slot", "ssh-host", "--yes"]).ok();
    site.render("fra1");
    only_the_doctor_says(&site, &[]);
    assert_eq!(live(&port), ["live-reload".to_owned()].into());
    drop(sshd);
    let sshd = Sshd::start(&site, "fra1");
    assert_eq!(live(&sshd.port.to_string()), BTreeSet::new());
}

fn a_configuration_that_sshd_refuses_is_told(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let config = site.path("fra1.sshd_config");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}NoSuchWord yes\n")).unwrap();
    let port = sshd.port.to_string();
    assert_eq!(doctor(&site, "fra1", &["--live", "--port", &port]), ["live-config".to_owned()].into());
}

fn an_image_is_examined_below_its_root(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    let root = site.path("image").display().to_string();
    let run = |flags: &[&str]| site.fleet.keys("alice", &[&["ssh", "doctor", "--root", &root], flags].concat());
    run(&[]).refuses(5, "there is no directory");
    std::fs::create_dir_all(site.path("image/etc/ssh")).unwrap();
    let said = run(&[]).exits(3);
    assert!(said.contains("error    config-missing"), "{said}");
    assert!(said.contains("sshd does not start") && said.contains("-> --config names another one"), "{said}");
    let out = site.path("image/etc/keys/ssh").display().to_string();
    site.fleet.keys("alice", &["ssh", "render", "--node", "fra1", "--out", &out]).ok();
    let copy = |from: &Path, to: &str| {
        let to = site.path("image").join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    };
    copy(&site.path("image/etc/keys/ssh/sshd_config.d/10-keys.conf"), "etc/ssh/sshd_config.d/10-keys.conf");
    let key = site.named("image/etc/keys/ssh", "HostKey ");
    copy(&site.host_key("fra1"), &format!("etc/keys/ssh/{key}"));
    std::fs::write(site.path("image/etc/ssh/sshd_config"), "Include /etc/ssh/sshd_config.d/*.conf\n").unwrap();
    let said = run(&["--node", "fra1"]).ok();
    assert!(!said.contains("error") && !said.contains("warning"), "{said}");
    assert!(said.contains("note     client-unset") && said.contains("note     authorized-keys"), "{said}");
    run(&["--fail-on", "note"]).exits(3);
    // Whoever has no keyring is not left without an answer, and is told what was not looked at.
    let alone = sandbox.keys(&["ssh", "doctor", "--root", &root]);
    alone.ok();
    assert!(alone.stderr().contains("nothing was compared with the log"), "{}", alone.stderr());
    sandbox.keys(&["ssh", "doctor", "--root", &root, "--node", "fra1"]).refuses(5, "no keyring here that knows fra1");
    std::fs::set_permissions(site.path("image/etc/keys"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let said = run(&["--node", "fra1"]).exits(3);
    assert!(said.contains("error    mode ") && said.contains("error    mode-refused"), "{said}");
}
