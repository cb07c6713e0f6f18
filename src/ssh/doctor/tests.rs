//! Every finding: a good machine has none, and each change of one file brings the one that it should.

use std::collections::BTreeSet;

use super::super::krl::{Krl, KrlScope};
use super::super::names::Principal;
use super::super::render::{CaLine, NodeInput, render};
use super::super::sample as ssh;
use super::super::wire::Put as _;
use super::sample::Disk;
use super::*;
use crate::time::Span;

const CONFIG: &str = "/etc/ssh/sshd_config";
const CLIENT: &str = "/etc/ssh/ssh_config";
const KEY: &str = "/etc/keys/ssh/host.key";
const DROP_IN: &str = "/etc/ssh/sshd_config.d/10-keys.conf";
const CAS: &str = "/etc/keys/ssh/user_ca.pub";
const KRL: &str = "/etc/keys/ssh/revoked.krl";
const DEPLOY: &str = "/etc/keys/ssh/principals/deploy";
const HOSTS_KRL: &str = "/etc/keys/ssh/revoked_hosts.krl";

fn begin() -> Time {
    ssh::host_fields().valid_after
}

fn cas() -> BTreeSet<CaLine> {
    [1, 11].map(|n| CaLine::from(ssh::key(n).public())).into()
}

fn list(size: u64) -> Krl {
    let mut krl = Krl::new(size, begin());
    krl.revoke_serials(KrlScope::Ca(ssh::key(1).public().clone()), ssh::serial(7), ssh::serial(9));
    krl
}

fn wanted() -> Wanted {
    Wanted {
        revoked_users: list(20),
        revoked_hosts: Krl::new(20, begin()),
        user_cas: cas(),
        host_cas: cas(),
        host_names: ["fra1.cdn.example".to_owned()].into(),
        accounts: Some([("deploy".parse().expect("good"), [Principal::user("ops").expect("good")].into())].into()),
        require_proof: false,
    }
}

fn certificate_path() -> String {
    format!("/etc/keys/ssh/{}", NodeInput::host_certificate_file(ssh::key(3).public()))
}

/// A machine with the very files that are rendered, and with Debian's own configuration around them.
fn good() -> Disk {
    let input = NodeInput {
        user_cas: cas(),
        host_cas: cas(),
        accounts: [("deploy".parse().expect("good"), [Principal::user("ops").expect("good")].into())].into(),
        revoked_users: list(20).write(1_000).expect("small"),
        revoked_hosts: Krl::new(20, begin()).write(1_000).expect("small"),
        host_patterns: ["*.cdn.example".parse().expect("good")].into(),
        host_key_path: KEY.parse().expect("good"),
        host_key: ssh::key(3).public().clone(),
        host_certificate: ssh::issued(ssh::host_fields(), 42).to_line(),
        directory: NodeInput::DIRECTORY.parse().expect("good"),
        proof: None,
    };
    let mut disk = Disk::default();
    for file in render(&input).expect("a good node") {
        let path =
            if file.path == NodeInput::DROP_IN { DROP_IN.to_owned() } else { format!("/etc/keys/ssh/{}", file.path) };
        disk.put(&path, &file.bytes);
    }
    disk.put(CONFIG, "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nAuthorizedKeysFile none\n");
    disk.put(CLIENT, format!("Host *\n  RevokedHostKeys {HOSTS_KRL}\n"));
    disk.put(KEY, ssh::key(3).to_openssh(&"a host".parse().expect("good")).as_bytes());
    disk.change(KEY, |file| file.mode = 0o600);
    disk.put("/etc/shadow", "root:*:1::::::\ndeploy:!:1::::::\n");
    disk
}

fn examined(disk: &Disk, now: Time) -> Examined {
    examine(&Question { config: CONFIG, client_config: CLIENT, now, wanted: Some(wanted()) }, disk)
}

fn codes(disk: &Disk) -> Vec<Code> {
    examined(disk, begin().plus(Span::hours(1))).findings.iter().map(|f| f.code).collect()
}

/// The findings after one change of the good machine.
fn after(change: impl FnOnce(&mut Disk)) -> Vec<Code> {
    let mut disk = good();
    change(&mut disk);
    codes(&disk)
}

fn edit(disk: &mut Disk, path: &str, from: &str, to: &str) {
    disk.change(path, |file| {
        let text = String::from_utf8(file.bytes.clone()).expect("text");
        assert!(text.contains(from), "{path} has no '{from}'");
        file.bytes = text.replace(from, to).into_bytes();
    });
}

fn edited(path: &str, from: &str, to: &str) -> Vec<Code> {
    after(|disk| edit(disk, path, from, to))
}

fn put(path: &str, bytes: impl AsRef<[u8]>) -> Vec<Code> {
    after(|disk| disk.put(path, bytes))
}

fn gone(path: &str) -> Vec<Code> {
    after(|disk| drop(disk.0.remove(path)))
}

#[test]
fn what_is_rendered_is_sound() {
    assert_eq!(codes(&good()), []);
    let examined = examined(&good(), begin());
    assert_eq!((examined.files.len(), examined.port, examined.certificates.len()), (2, 22, 1));
    let mut alone = good();
    alone.0.remove("/etc/shadow");
    let question = Question { config: CONFIG, client_config: CLIENT, now: begin(), wanted: None };
    assert_eq!(examine(&question, &alone).findings, [], "without a log and without the right to read passwords");
}

#[test]
fn the_configuration_and_the_drop_in() {
    assert!(gone(CONFIG).contains(&Code::ConfigMissing));
    assert!(edited(CONFIG, "Include", "#").contains(&Code::DropInUnread));
    assert!(edited(CONFIG, "Include", "Match User x\nInclude").contains(&Code::DropInUnread));
    assert!(gone(DROP_IN).contains(&Code::DropInMissing));
    let earlier = |line: &str| edited(CONFIG, "Include", &format!("{line}\nInclude"));
    assert_eq!(earlier("RevokedKeys none"), [Code::KrlUnset, Code::Overridden]);
    assert_eq!(earlier("TrustedUserCAKeys none"), [Code::CaUnset, Code::Overridden]);
    assert_eq!(earlier("LogLevel verbose"), [Code::Overridden], "only the spelling: said all the same");
    assert_eq!(edited(CONFIG, "UsePAM", "RevokedKeys none\nUsePAM"), [], "the first value has won before");
    assert_eq!(
        edited(CONFIG, "UsePAM", "Match User x\nTrustedUserCAKeys none\nMatch all\nUsePAM"),
        [Code::MatchOverrides]
    );
    let text = "Port 2222\nInclude /etc/ssh/sshd_config.d/*.conf\nUsePAM yes";
    let mut other = good();
    other.put(CONFIG, text);
    assert_eq!(examined(&other, begin()).port, 2_222);
}

#[test]
fn the_revocation_list() {
    let krl = list(20).write(1_000).expect("small");
    assert_eq!(edited(DROP_IN, "RevokedKeys", "#"), [Code::KrlUnset]);
    assert_eq!(gone(KRL), [Code::KrlMissing]);
    assert_eq!(put(KRL, b""), [Code::KrlEmpty]);
    assert_eq!(put(KRL, &krl[..krl.len() - 1]), [Code::KrlBroken]);
    assert_eq!(put(KRL, b"garbage"), [Code::KrlBroken]);
    assert_eq!(put(KRL, [&krl[..], &[255, 0, 0, 0, 0]].concat()), [Code::KrlRefused]);
    assert_eq!(put(KRL, Krl::new(19, begin()).write(99).expect("small")), [Code::KrlLacks]);
    let mut more = list(20);
    more.revoke_serials(KrlScope::AnyCa, ssh::serial(1), ssh::serial(99));
    assert_eq!(put(KRL, more.write(1_000).expect("small")), [Code::KrlSurplus]);
    assert_eq!(
        put(KRL, Krl::new(21, begin()).write(99).expect("small")),
        [],
        "newer than the log at hand: nobody can tell"
    );
    assert_eq!(put(KRL, format!("# by hand\n{}\n", ssh::key(9).public())), [], "keys in plain text are a list, too");
    assert_eq!(after(|d| d.change(KRL, |f| f.loose = Some(KRL.to_owned()))), [Code::Mode]);
    let wide: Vec<u8> = {
        let mut bits = Vec::new();
        bits.put_u64(1);
        bits.put_positive(&[255; 2_049]);
        let mut body = Vec::new();
        [&b""[..], b""].iter().for_each(|empty| body.put_string(empty));
        body.push(0x22);
        body.put_string(&bits);
        let mut out = Krl::new(20, begin()).write(99).expect("small");
        out.push(1);
        out.put_string(&body);
        out
    };
    assert_eq!(put(KRL, wide), [Code::KrlRefused], "a bitmap that ssh-keygen writes and sshd refuses");
}

#[test]
fn the_cas_of_users() {
    let lines: Vec<String> = cas().iter().map(|ca| format!("{ca}\n")).collect();
    assert_eq!(edited(DROP_IN, "TrustedUserCAKeys", "#"), [Code::CaUnset]);
    assert_eq!(gone(CAS), [Code::CaMissing]);
    assert_eq!(put(CAS, "# none\n"), [Code::CaMissing, Code::CaLacks, Code::CaLacks]);
    let unknown = "ssh-mldsa44-ed25519@openssh.com AAAAH3NzaC1tbGRzYTQ0LWVkMjU1MTlAb3BlbnNzaC5jb20AAAABAQ==\n";
    assert_eq!(put(CAS, format!("{unknown}{}{}", lines[0], lines[1])), [Code::CaLine]);
    assert_eq!(put(CAS, format!("{}garbage\n{}", lines[0], lines[1])), [Code::CaLine]);
    assert_eq!(put(CAS, format!("{}{}{unknown}", lines[0], lines[1])), [Code::CaLineLast]);
    assert_eq!(put(CAS, &lines[0]), [Code::CaLacks]);
    let stranger = CaLine::from(ssh::key(9).public());
    assert_eq!(put(CAS, format!("{}{}{stranger}\n", lines[0], lines[1])), [Code::CaStranger]);
    assert_eq!(edited(DROP_IN, "CASignatureAlgorithms ssh-ed25519,", "CASignatureAlgorithms "), [Code::CaAlgorithm; 2]);
    assert_eq!(after(|d| d.change(CAS, |f| f.loose = Some("/etc".to_owned()))), [Code::Mode]);
}

#[test]
fn who_may_log_in() {
    assert_eq!(edited(DROP_IN, "AuthorizedPrincipalsFile", "#"), [Code::PrincipalsUnset]);
    let command = "AuthorizedPrincipalsCommand /usr/bin/p\nAuthorizedPrincipalsCommandUser nobody";
    let with_command = |change: &dyn Fn(&mut Disk)| {
        after(|disk| {
            edit(disk, DROP_IN, "AuthorizedPrincipalsCommand none", command);
            edit(
                disk,
                DROP_IN,
                "AuthorizedPrincipalsFile /etc/keys/ssh/principals/%u",
                "AuthorizedPrincipalsFile none",
            );
            disk.put("/usr/bin/p", "#!/bin/sh");
            disk.change("/usr/bin/p", |f| f.mode = 0o755);
            change(disk);
        })
    };
    assert_eq!(with_command(&|_| ()), []);
    assert_eq!(with_command(&|d| drop(d.0.remove("/usr/bin/p"))), [Code::PrincipalsCommand]);
    assert_eq!(with_command(&|d| d.change("/usr/bin/p", |f| f.mode = 0o644)), [Code::PrincipalsCommand]);
    assert_eq!(with_command(&|d| d.change("/usr/bin/p", |f| f.loose = Some("/usr".into()))), [Code::PrincipalsCommand]);
    assert_eq!(
        with_command(&|d| edit(d, DROP_IN, "CommandUser nobody", "CommandUser none")),
        [Code::PrincipalsCommand]
    );
    let both = |d: &mut Disk| edit(d, DROP_IN, "PrincipalsFile none", "PrincipalsFile /etc/keys/ssh/principals/%u");
    assert_eq!(with_command(&both), [Code::PrincipalsBoth]);
    let own = |change: &dyn Fn(&mut Disk)| {
        let line = "Command /usr/bin/p ssh principals --directory /etc/keys/ssh %u %t %k";
        with_command(&|d| {
            edit(d, DROP_IN, "Command /usr/bin/p", line);
            d.put("/etc/keys/ssh/trust.json", "{}");
            change(d);
        })
    };
    assert_eq!(own(&|_| ()), []);
    assert_eq!(own(&|d| drop(d.0.remove("/etc/keys/ssh/trust.json"))), [Code::PrincipalsMissing]);
    assert_eq!(own(&|d| drop(d.0.remove(DEPLOY))), [Code::PrincipalsMissing]);
    assert_eq!(gone(DEPLOY), [Code::PrincipalsMissing]);
    assert_eq!(put(DEPLOY, "# nobody\n"), [Code::PrincipalsEmpty]);
    assert_eq!(put(DEPLOY, "ops\nroot\n"), [Code::PrincipalsStranger]);
    assert_eq!(put(DEPLOY, "root\n"), [Code::PrincipalsStranger; 2]);
    let left = |d: &mut Disk| {
        d.put("/etc/keys/ssh/principals/old", "ops\n");
        d.put("/etc/shadow", "deploy:*:1\nold:*:1\n");
    };
    assert_eq!(after(left), [Code::PrincipalsStranger], "an account that the policy has no more");
    let renamed = |d: &mut Disk| {
        left(d);
        drop(d.0.remove(DEPLOY));
    };
    assert_eq!(after(renamed), [Code::PrincipalsMissing, Code::PrincipalsStranger]);
    assert_eq!(put("/etc/keys/ssh/principals/.tmp-7-0-0", ""), [], "what a writer that died has left");
    let loose = |d: &mut Disk| d.change(DEPLOY, |f| f.loose = Some("/etc/keys".into()));
    assert_eq!(after(loose), [Code::ModeRefused]);
    let lenient = |d: &mut Disk| {
        loose(d);
        edit(d, CONFIG, "UsePAM", "StrictModes no\nUsePAM");
    };
    assert_eq!(after(lenient), [Code::Mode]);
    assert_eq!(edited(CONFIG, "UsePAM yes", "UsePAM no"), [Code::AccountLocked]);
    assert_eq!(put("/etc/shadow", "root:*:1::::::\n"), [Code::AccountMissing]);
}

#[test]
fn other_ways_in() {
    assert_eq!(edited(CONFIG, "AuthorizedKeysFile none", ""), [Code::AuthorizedKeys]);
    let lenient = |password: &str, keyboard: &str| {
        after(|d| {
            edit(d, DROP_IN, "AuthenticationMethods publickey\n", "");
            edit(d, DROP_IN, "PasswordAuthentication no", password);
            edit(d, DROP_IN, "KbdInteractiveAuthentication no", keyboard);
        })
    };
    assert_eq!(lenient("PasswordAuthentication yes", "KbdInteractiveAuthentication no"), [Code::Password]);
    assert_eq!(lenient("PasswordAuthentication no", "KbdInteractiveAuthentication yes"), [Code::Password]);
    assert_eq!(lenient("PasswordAuthentication no", "KbdInteractiveAuthentication no"), []);
    assert_eq!(
        edited(DROP_IN, "PasswordAuthentication no", "PasswordAuthentication yes"),
        [],
        "a key is wanted all the same"
    );
    assert_eq!(edited(CONFIG, "UsePAM", "PubkeyAuthentication no\nUsePAM"), [Code::PublicKeyOff]);
    assert_eq!(edited(DROP_IN, "Methods publickey", "Methods publickey,password"), [Code::PublicKeyOff]);
}

#[test]
fn the_hosts_certificate() {
    let path = certificate_path();
    assert_eq!(edited(DROP_IN, "HostCertificate", "#"), [Code::HostCertificateUnset]);
    assert_eq!(gone(&path), [Code::HostCertificateMissing]);
    assert_eq!(put(&path, "junk"), [Code::HostCertificateBroken]);
    assert_eq!(put(&path, ssh::issued(ssh::user_fields(), 5).to_line()), [Code::HostCertificateUser]);
    let with = |change: &dyn Fn(&mut super::super::body::CertificateFields)| {
        let mut fields = ssh::host_fields();
        change(&mut fields);
        put(&path, ssh::issued(fields, 5).to_line())
    };
    assert_eq!(with(&|f| f.subject = ssh::key(8).public().clone()), [Code::HostCertificateStranger]);
    assert_eq!(
        with(&|f| f.principals = [Principal::host("ams1.cdn.example").expect("good")].into()),
        [Code::HostCertificateName]
    );
    let mut other = wanted();
    other.host_cas = [CaLine::from(ssh::key(9).public())].into();
    let now = begin().plus(Span::hours(1));
    let question = Question { config: CONFIG, client_config: CLIENT, now, wanted: Some(other) };
    assert_eq!(examine(&question, &good()).findings.first().map(|f| f.code), Some(Code::HostCertificateCa));
    let at = |hours: u64| -> Vec<Code> {
        examined(&good(), begin().plus(Span::hours(hours))).findings.iter().map(|f| f.code).collect()
    };
    assert_eq!(
        (at(11), at(13), at(16)),
        (vec![], vec![Code::HostCertificateExpires], vec![Code::HostCertificateExpired])
    );
    let before: Vec<Code> = examined(&good(), begin().minus(Span::hours(1))).findings.iter().map(|f| f.code).collect();
    assert_eq!(before, [Code::HostCertificateFuture]);
    assert_eq!(gone(KEY), [Code::HostCertificateStranger, Code::HostKeyMissing]);
    assert_eq!(put(KEY, "junk"), [Code::HostCertificateStranger, Code::HostKeyMissing]);
    assert_eq!(after(|d| d.change(KEY, |f| f.mode = 0o640)), [Code::HostCertificateStranger, Code::HostKeyMode]);
    assert_eq!(edited(CONFIG, "UsePAM", "HostKeyAlgorithms ssh-ed25519\nUsePAM"), [Code::HostAlgorithms]);
    assert_eq!(edited(CONFIG, "UsePAM", "HostKeyAlgorithms -*cert*\nUsePAM"), [Code::HostAlgorithms]);
}

/// A host's certificate with any principals, which none of ours can have.
fn forged(principals: &[&str]) -> String {
    let mut out = Vec::new();
    let key = ssh::key(3);
    out.put_string(b"ssh-ed25519-cert-v01@openssh.com");
    out.put_string(&[1; 32]);
    out.put_string(&key.public().ed25519().expect("Ed25519"));
    out.put_u64(5);
    out.put_u32(2);
    out.put_string(b"id");
    let mut list = Vec::new();
    principals.iter().for_each(|p| list.put_string(p.as_bytes()));
    out.put_string(&list);
    out.put_u64(0);
    out.put_u64(u64::MAX);
    [&b""[..], b"", b"", ssh::key(1).public().blob(), b"signature"].iter().for_each(|field| out.put_string(field));
    super::super::wire::Line::write("ssh-ed25519-cert-v01@openssh.com", &out)
}

#[test]
fn certificates_for_nobody_and_for_everybody() {
    let path = certificate_path();
    assert_eq!(put(&path, forged(&["fra1.cdn.example"])), []);
    assert_eq!(put(&path, forged(&[])), [Code::HostCertificateNobody]);
    let wild = put(&path, forged(&["*.cdn.example", "fra1.cdn.example"]));
    assert_eq!(wild, [Code::HostCertificateWildcard]);
}

#[test]
fn the_clients_list() {
    assert_eq!(put(CLIENT, "Host x\n RevokedHostKeys /x\n"), [Code::ClientUnset]);
    assert_eq!(gone(CLIENT), [Code::ClientUnset]);
    assert_eq!(gone(HOSTS_KRL), [Code::ClientKrl]);
    assert_eq!(put(HOSTS_KRL, "junk"), [Code::ClientKrl]);
    assert_eq!(put(HOSTS_KRL, ""), [Code::ClientKrlEmpty]);
    let mut wanted = wanted();
    wanted.revoked_hosts.revoke_key(ssh::key(4).public().clone());
    let question = Question { config: CONFIG, client_config: CLIENT, now: begin(), wanted: Some(wanted) };
    assert_eq!(examine(&question, &good()).findings.iter().map(|f| f.code).collect::<Vec<_>>(), [Code::ClientKrlLacks]);
}

#[test]
fn what_the_running_sshd_shows() {
    let now = begin().plus(Span::hours(1));
    let examined = examined(&good(), now);
    let said = |answer: Answer, now: Time| -> Vec<Code> {
        live("a:22", &answer, &examined, now).iter().map(|f| f.code).collect()
    };
    let shown = |n: u64| Answer::Certificate(ssh::issued(ssh::host_fields(), n).to_line());
    assert_eq!(said(shown(42), now), []);
    assert_eq!(said(shown(41), now), [Code::LiveReload]);
    assert_eq!(said(shown(42), now.plus(Span::days(2))), [Code::LiveExpired]);
    assert_eq!(said(Answer::Key, now), [Code::LiveNoCertificate]);
    assert_eq!(said(Answer::Silent("why".into()), now), [Code::LiveSilent]);
    assert_eq!(said(Answer::Certificate("junk".into()), now), [Code::LiveNoCertificate]);
}

#[test]
fn every_finding_has_its_words_and_is_found_by_some_test() {
    let own = include_str!("tests.rs");
    let source = concat!(include_str!("mod.rs"), include_str!("revoked.rs"), include_str!("cas.rs"));
    let source =
        format!("{source}{}{}{}", include_str!("host.rs"), include_str!("principals.rs"), include_str!("live.rs"));
    for code in Code::ALL {
        assert!(!code.effect().is_empty() && !code.fix().is_empty(), "{code}");
        let name = format!("Code::{code:?}");
        let named = |text: &str| {
            text.match_indices(&name).any(|(i, _)| !text[i + name.len()..].starts_with(char::is_alphanumeric))
        };
        // sshd's own reading is asked by the shell.
        assert!(named(own) && named(&source) || *code == Code::LiveConfig, "{name}");
    }
}

#[test]
fn the_public_half_is_told_without_the_private_one() {
    let private = ssh::key(3).to_openssh(&"a host".parse().expect("good"));
    assert_eq!(
        public_part(std::str::from_utf8(private.as_bytes()).expect("text")).as_deref(),
        Some(ssh::key(3).public().blob())
    );
    for junk in ["", "-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "x"] {
        assert_eq!(public_part(junk), None, "{junk}");
    }
    assert_eq!(account_in("a:!:1\nb:*:1\nc::", "a"), Account::Locked);
    assert_eq!((account_in("a:!", "b"), account_in("b:*:1", "b")), (Account::Missing, Account::Open));
}

/// The policy wants proofs: the drop-in from before lets in without, the one from now asks the command.
#[test]
fn a_node_that_asks_for_no_proof_is_found_out() {
    let asked = |disk: &Disk| {
        let wanted = Some(Wanted { require_proof: true, ..wanted() });
        let question = Question { config: CONFIG, client_config: CLIENT, now: begin().plus(Span::hours(1)), wanted };
        examine(&question, disk).findings.iter().map(|f| f.code).collect::<Vec<_>>()
    };
    let mut disk = good();
    assert_eq!(asked(&disk), [Code::ProofUnset]);
    let file = "AuthorizedPrincipalsFile /etc/keys/ssh/principals/%u\nAuthorizedPrincipalsCommand none";
    let command = "AuthorizedPrincipalsFile none\nAuthorizedPrincipalsCommand /usr/local/bin/keys ssh principals \
                   --directory /etc/keys/ssh %u %t %k\nAuthorizedPrincipalsCommandUser nobody";
    edit(&mut disk, DROP_IN, file, command);
    disk.put("/usr/local/bin/keys", "the program");
    disk.change("/usr/local/bin/keys", |file| file.mode = 0o755);
    assert_eq!(asked(&disk), [Code::PrincipalsMissing], "trust.json is not there");
    disk.put("/etc/keys/ssh/trust.json", "{}");
    assert_eq!(asked(&disk), []);
    edit(&mut disk, DROP_IN, "keys ssh principals", "keys-of-others ssh keys");
    assert!(asked(&disk).contains(&Code::ProofUnset));
}
