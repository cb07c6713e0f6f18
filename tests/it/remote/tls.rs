//! TLS: what is served with it, whose certificate is believed, files that are of no use, renewal, and gpg over it.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keys::time::Span;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::key_server::known;
use super::{assert_same, files, fleet, id};
use crate::support::{Ran, Running, Sandbox, Tool, bound, tests};

tests!["remote::tls":
    a_pull_over_tls_believes_the_given_ca_alone needs [Openssl],
    files_that_are_of_no_use_are_named_at_the_start needs [Openssl],
    what_is_renewed_is_served_and_who_is_slow_holds_nobody_up needs [Openssl],
    an_end_that_comes_near_is_said_before_it_comes needs [Openssl, Faketime],
    gpg_receives_over_hkps_and_locates_by_wkd needs [Openssl, Gpg, GpgConf, Dirmngr, Sh, Setpriv, Ip, Root, MountNamespace],
];

/// Makes `name.pem` with `name.key`: a CA, or, with the CA that made it and the names that it is for, a server's certificate.
pub(crate) fn certificate(sandbox: &Sandbox, name: &str, made_by: Option<(&str, &str)>) {
    let (kind, names) = made_by.map_or(("ca", "DNS:none"), |(_, names)| ("leaf", names));
    let config = format!(
        "[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n\
         [leaf]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName={names}\n"
    );
    sandbox.write("openssl.cnf", config);
    let subject = format!("/CN=keys test {name}");
    let mut command = Tool::Openssl.command();
    command.current_dir(sandbox.root()).args(["req", "-config", "openssl.cnf", "-x509", "-nodes", "-days", "30"]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &subject, "-extensions", kind]);
    command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
    if let Some((ca, _)) = made_by {
        command.args(["-CA", &format!("{ca}.pem"), "-CAkey", &format!("{ca}.key")]);
    }
    Ran::of(&mut command).ok();
    std::fs::set_permissions(sandbox.path(&format!("{name}.key")), std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A fleet served over TLS; ended when dropped.
struct Secure<'a> {
    sandbox: &'a Sandbox,
    child: Running,
    address: String,
}

impl<'a> Secure<'a> {
    /// With the pair `name.pem` and `name.key`; what it says goes to `name.log`.
    fn start(sandbox: &'a Sandbox, name: &str) -> Self {
        Self::of(sandbox, name, sandbox.bound_command())
    }

    fn of(sandbox: &'a Sandbox, name: &str, mut command: Command) -> Self {
        command.args(["--fleet", "fleet", "serve", "--listen", "127.0.0.1:0", "--log", "json"]);
        command.args(["--tls-cert", &format!("{name}.pem"), "--tls-key", &format!("{name}.key")]);
        let log = std::fs::File::create(sandbox.path(&format!("{name}.log"))).unwrap();
        let mut child = Running::start(command.stdout(Stdio::piped()).stderr(log));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("serving at https://").expect("it serves").to_owned();
        Self { sandbox, child, address }
    }

    /// Asks with one version of TLS; gives the server's certificate and the answer.
    fn ask(&self, path: &str, version: &'static SupportedProtocolVersion) -> (Vec<u8>, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        ask(self.sandbox, &self.address, request.as_bytes(), version)
    }

    fn certificate(&self) -> Vec<u8> {
        let (certificate, answer) = self.ask("/healthz", &rustls::version::TLS13);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        certificate
    }
}

/// Sends a request that is the last one on its connection, by one version of TLS, to a server that `ca.pem` vouches for; gives the
/// server's certificate and the answer.
pub(crate) fn ask(
    sandbox: &Sandbox,
    address: &str,
    request: &[u8],
    version: &'static SupportedProtocolVersion,
) -> (Vec<u8>, String) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(sandbox.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut tls = rustls::StreamOwned::new(connection, stream);
    tls.write_all(request).unwrap();
    let mut answer = String::new();
    // Without the server's word that this was all, this is an error.
    tls.read_to_string(&mut answer).unwrap();
    (tls.conn.peer_certificates().unwrap()[0].to_vec(), answer)
}

/// What a server has said, line by line.
fn talk(sandbox: &Sandbox, name: &str) -> Vec<serde_json::Value> {
    let said = std::fs::read_to_string(sandbox.path(&format!("{name}.log"))).unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One field of all lines.
fn of(lines: &[serde_json::Value], field: &str) -> Vec<String> {
    lines.iter().map(|line| line[field].as_str().unwrap().to_owned()).collect()
}

fn der(sandbox: &Sandbox, name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(sandbox.path(&format!("{name}.pem"))).unwrap().to_vec()
}

fn a_pull_over_tls_believes_the_given_ca_alone(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let id = id(&fleet);
    certificate(sandbox, "ca", None);
    certificate(sandbox, "stranger", None);
    certificate(sandbox, "here", Some(("ca", "IP:127.0.0.1")));
    certificate(sandbox, "elsewhere", Some(("ca", "DNS:elsewhere.example")));
    let (served, elsewhere) = (Secure::start(sandbox, "here"), Secure::start(sandbox, "elsewhere"));
    let url = format!("https://{}", served.address);
    let other_name = format!("https://{}", elsewhere.address);
    let reader = |args: &[&str]| sandbox.keys(&[&["--fleet", "copy", "--home", "reader"], args].concat());
    let pull = |args: &[&str]| reader(&[&["pull", "--pin", &id], args].concat());
    pull(&["--from", &url]).refuses(7, "UnknownIssuer");
    pull(&["--from", &url, "--ca", "stranger.pem"]).refuses(7, "UnknownIssuer");
    pull(&["--from", &other_name, "--ca", "ca.pem"]).refuses(7, "not valid for name");
    assert!(!sandbox.path("copy").exists(), "nothing was brought");
    // What can be no CA's is said before anything is asked or remembered.
    sandbox.write(
        "both.pem",
        [std::fs::read(sandbox.path("ca.pem")).unwrap(), std::fs::read(sandbox.path("ca.key")).unwrap()].concat(),
    );
    pull(&["--from", &url, "--ca", "both.pem", "--remember"]).refuses(2, "has a private key in it");
    pull(&["--from", &url, "--ca", "openssl.cnf", "--remember"]).refuses(2, "has no certificate");
    pull(&["--from", "http://127.0.0.1:1", "--ca", "ca.pem", "--remember"]).refuses(2, "--ca is for https://");
    pull(&["--ca", "ca.pem"]).refuses(2, "--from");
    assert!(!sandbox.path("reader/mirrors").exists());

    // A file with words beside the certificates is as good; the certificates alone are remembered.
    sandbox.write("chain.pem", [b"words = \"\\\"\n".to_vec(), std::fs::read(sandbox.path("ca.pem")).unwrap()].concat());
    pull(&["--from", &url, "--ca", "chain.pem", "--remember"]).ok();
    assert_eq!(
        std::fs::read_to_string(sandbox.path("reader/mirrors-ca")).unwrap(),
        std::fs::read_to_string(sandbox.path("ca.pem")).unwrap()
    );
    assert!(reader(&["pull"]).ok().starts_with("up to date"));
    reader(&["log", "verify"]).ok();
    // Read-only, and by way of a certificate, it is the same store.
    assert_same(&files(sandbox, "fleet/keyring"), &files(sandbox, "copy/keyring"), "what was pulled over TLS");
    reader(&["enroll", "ams1", "--endpoint", "198.51.100.7"]).ok();
    assert!(reader(&["submit"]).ok().contains("handed in at https://"));
    assert_eq!(of(&talk(sandbox, "here"), "event"), ["certificate", "taken"]);
    assert_eq!(of(&talk(sandbox, "here"), "level"), ["notice", "info"]);
    reader(&["submit", "--to", &url]).refuses(7, "could be reached");
    assert!(reader(&["submit", "--to", &url, "--ca", "ca.pem"]).ok().contains("known already"));
    // A machine that is born with the CA.
    let token = fleet.keys("alice", &["invite", "sin1", "--approval", "auto", "--yes"]).ok();
    let token = sandbox.write("token", token);
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let born = |more: &[&str]| {
        let args = ["cloud-config", "sin1", "--token", "token", "--mirror", &url, "--program", "/keys"];
        let zeros = "0".repeat(64);
        fleet.keys("alice", &[&args[..], &["--sha256", &zeros], more].concat()).ok()
    };
    let config = |text: &str| {
        let lines = text.lines().skip_while(|l| !l.starts_with("    fleet = ")).take_while(|l| l.starts_with("    "));
        let path = sandbox.write("bootstrap.toml", lines.map(|l| format!("{}\n", &l[4..])).collect::<String>());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let boots = || sandbox.keys(&["--fleet", "its", "--home", "sin1", "bootstrap", "bootstrap.toml"]);
    config(&born(&[]));
    boots().refuses(7, "UnknownIssuer");
    config(&born(&["--ca", "ca.pem"]));
    assert_eq!(boots().exits(4).trim_end(), "keyed");
    assert!(sandbox.path("sin1/mirrors-ca").exists());
    // Other mirrors without a CA of their own are believed by the public ones' word.
    let remembered = reader(&["pull", "--from", "fleet", "--remember"]);
    assert!(remembered.code() == 0 && !sandbox.path("reader/mirrors-ca").exists(), "{}", remembered.stderr());
    drop(served.child);
}

fn files_that_are_of_no_use_are_named_at_the_start(sandbox: &Sandbox) {
    fleet(sandbox);
    certificate(sandbox, "ca", None);
    certificate(sandbox, "one", Some(("ca", "IP:127.0.0.1")));
    certificate(sandbox, "two", Some(("ca", "IP:127.0.0.1")));
    let serve = |chain: &str, key: &str| {
        let mut command = sandbox.command();
        let mut ran = Running::start(
            command
                .args(["--fleet", "fleet", "serve", "--listen", "127.0.0.1:0", "--tls-cert", chain, "--tls-key", key])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let mut said = String::new();
        // It ends by itself; whatever serves says so first.
        BufReader::new(ran.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.is_empty() {
            ran.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        }
        said
    };
    let openssl = |args: &[&str]| Ran::of(Tool::Openssl.command().current_dir(sandbox.root()).args(args)).ok();
    openssl(&["pkey", "-in", "one.key", "-aes256", "-passout", "pass:x", "-out", "locked.key"]);
    std::fs::set_permissions(sandbox.path("locked.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::copy(sandbox.path("one.key"), sandbox.path("open.key")).unwrap();
    std::fs::set_permissions(sandbox.path("open.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    for (chain, key, said) in [
        ("absent.pem", "one.key", &["cannot read absent.pem", "check the path"]),
        ("one.pem", "absent.key", &["cannot read absent.key", "check the path"]),
        ("fleet", "one.key", &["fleet is no file", "fullchain.pem"]),
        ("openssl.cnf", "one.key", &["openssl.cnf has no certificate", "fullchain.pem"]),
        ("one.key", "one.key", &["one.key has no certificate", "fullchain.pem"]),
        ("one.pem", "locked.key", &["locked.key has no private key", "fullchain.pem"]),
        ("one.pem", "open.key", &["open.key has a private key in it, and others can read", "chmod o= open.key"]),
        ("two.pem", "one.key", &["the key in one.key is not that of the first certificate in two.pem", "--tls-cert"]),
    ] {
        let ran = serve(chain, key);
        assert!(said.iter().all(|part| ran.contains(part)), "{chain} {key}: {ran}");
    }
    let alone = ["--fleet", "fleet", "serve", "--listen", "127.0.0.1:0"];
    sandbox.keys(&[&alone[..], &["--tls-cert", "one.pem"]].concat()).refuses(2, "--tls-key");
    sandbox.keys(&[&alone[..], &["--tls-key", "one.key"]].concat()).refuses(2, "--tls-cert");
    // The three forms of a key, and both versions.
    openssl(&["ec", "-in", "one.key", "-out", "sec1.key"]);
    openssl(&[
        "req",
        "-config",
        "openssl.cnf",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=rsa",
        "-extensions",
        "leaf",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-keyout",
        "pkcs8.key",
        "-out",
        "pkcs1.pem",
    ]);
    openssl(&["rsa", "-in", "pkcs8.key", "-traditional", "-out", "pkcs1.key"]);
    std::fs::copy(sandbox.path("one.pem"), sandbox.path("sec1.pem")).unwrap();
    for (name, head) in [("one", "BEGIN PRIVATE"), ("sec1", "BEGIN EC PRIVATE"), ("pkcs1", "BEGIN RSA PRIVATE")] {
        // A group may have the key.
        let key = sandbox.path(&format!("{name}.key"));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(std::fs::read_to_string(key).unwrap().contains(head), "{name}");
        let served = Secure::start(sandbox, name);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let (certificate, answer) = served.ask("/keyring/log/checkpoint", version);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert_eq!(certificate, der(sandbox, name), "{name}");
        }
    }
}

fn what_is_renewed_is_served_and_who_is_slow_holds_nobody_up(sandbox: &Sandbox) {
    fleet(sandbox);
    certificate(sandbox, "ca", None);
    certificate(sandbox, "one", Some(("ca", "IP:127.0.0.1")));
    certificate(sandbox, "two", Some(("ca", "IP:127.0.0.1")));
    let (first, second) = (der(sandbox, "one"), der(sandbox, "two"));
    let mut served = Secure::start(sandbox, "one");
    let connect = |what: &[u8]| {
        let mut stream = TcpStream::connect(&served.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(what).unwrap();
        stream
    };
    // Some say nothing, some only begin: the head of a record, of which the rest never comes.
    let begun = Instant::now();
    let silent: Vec<TcpStream> =
        (0..40).map(|i| connect(if i % 2 == 0 { b"" } else { b"\x16\x03\x01\x02\x00" })).collect();
    assert_eq!(served.certificate(), first);
    // What is no TLS is answered with an alert, and an end.
    let mut plain = connect(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = Vec::new();
    let ended = plain.read_to_end(&mut answer);
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    let (_, numbers) = served.ask("/metrics", &rustls::version::TLS13);
    assert!(numbers.contains("keys_serve_malformed_total 1\n"), "{numbers}");

    // A certificate whose key is not there yet is not served; once it is there, both are.
    let said = || std::fs::read_to_string(sandbox.path("one.log")).unwrap();
    let waited = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}: {}", said());
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let replace = |from: &str, to: &str| {
        std::fs::copy(sandbox.path(from), sandbox.path("new")).unwrap();
        std::fs::rename(sandbox.path("new"), sandbox.path(to)).unwrap();
    };
    replace("two.pem", "one.pem");
    waited("the mismatch is noticed", &|| {
        assert_eq!(served.certificate(), first);
        said().contains("not-renewed")
    });
    assert_eq!(served.certificate(), first, "the old one is served on");
    replace("two.key", "one.key");
    waited("the new one is served", &|| served.certificate() == second);
    let lines = talk(sandbox, "one");
    assert_eq!(of(&lines, "event"), ["certificate", "not-renewed", "renewed", "certificate"]);
    assert_eq!(of(&lines, "level"), ["notice", "error", "notice", "notice"]);
    assert!(of(&lines, "message")[1].contains("the key in one.key is not that of the first certificate in one.pem"));
    for line in &lines {
        let names: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(names, ["at", "event", "level", "member", "message", "service"]);
    }

    // Whoever was silent has been let go: none of them held a place for longer than a request may take.
    for mut stream in silent {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).inspect_err(|e| assert_ne!(e.kind(), ErrorKind::WouldBlock, "{e}"));
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    let id = rustix::process::Pid::from_child(&served.child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

fn an_end_that_comes_near_is_said_before_it_comes(sandbox: &Sandbox) {
    fleet(sandbox);
    certificate(sandbox, "ca", None);
    certificate(sandbox, "one", Some(("ca", "IP:127.0.0.1")));
    let until = crate::support::now().plus(Span::days(30));
    // The clock of the server, for which this file stands; that of its clients goes on as ever.
    let later = |days: u32| drop(sandbox.write("clock", format!("+{days}d\n")));
    let started = || {
        let mut command = sandbox.bound_command();
        command.env("LD_PRELOAD", Tool::Faketime.path().unwrap()).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_TIMESTAMP_FILE", sandbox.path("clock"));
        Secure::of(sandbox, "one", command)
    };
    let expiring = || of(&talk(sandbox, "one"), "event").iter().filter(|event| *event == "expiring").count();
    later(0);
    let served = started();
    let said = &of(&talk(sandbox, "one"), "message")[0];
    let day = until.minus(Span(120)).day();
    assert!(said.contains("is good until ") && (said.contains(&day) || said.contains(&until.day())), "{said}");
    let (_, numbers) = served.ask("/metrics", &rustls::version::TLS13);
    let number = numbers.lines().find_map(|l| l.strip_prefix("keys_serve_tls_expires_timestamp_seconds ")).unwrap();
    let number: u64 = number.parse().unwrap();
    assert!((until.0 - 120..=until.0).contains(&number), "{number} {}", until.0);
    for (days, count, word) in
        [(22, 0, "good until"), (24, 1, "nobody has renewed"), (29, 1, "nobody has renewed"), (31, 2, "has ended at")]
    {
        later(days);
        // It is served on, and what is to be said of it is said once.
        (0..3).for_each(|_| drop(served.certificate()));
        assert_eq!(expiring(), count, "{days} days later: {:?}", talk(sandbox, "one"));
        let last = of(&talk(sandbox, "one"), "message").pop().unwrap();
        assert!(last.contains(word), "{last}");
    }
    drop(served);
    // One that has ended is no reason not to start.
    let served = started();
    served.certificate();
    assert_eq!((expiring(), talk(sandbox, "one").len()), (1, 1));
    assert_eq!(talk(sandbox, "one")[0]["level"], "error");
}

/// In a network of its own, where names lead to this machine and port 443 is free.
fn gpg_receives_over_hkps_and_locates_by_wkd(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let fra1 = known(&fleet, "ring")("fra1");
    certificate(sandbox, "ca", None);
    certificate(sandbox, "stranger", None);
    certificate(sandbox, "one", Some(("ca", "DNS:keys.cdn.example,DNS:openpgpkey.fra1.cdn.example")));
    let script = sandbox.write("hkps.sh", include_str!("hkps.sh"));
    let mut command = bound("/usr/bin/unshare");
    command.args(["-n", "-m", "--"]).arg(Tool::Sh.path().unwrap()).arg(script).current_dir(sandbox.root());
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C.UTF-8");
    command.env("KEYS", sandbox.command().get_program()).env("FINGERPRINT", &fra1);
    let said = Ran::of(&mut command);
    let found: Vec<String> = said.ok().lines().map(str::to_owned).collect();
    let expected = ["hkps stranger 2", "hkps ca 0", "wkd stranger 2", "wkd ca 0"].map(str::to_owned);
    let results: Vec<String> =
        found.iter().filter(|l| l.starts_with("hkps ") || l.starts_with("wkd ")).cloned().collect();
    assert_eq!(results, expected, "{} {}", said.stdout(), said.stderr());
    assert_eq!(found.iter().filter(|l| l.starts_with(&format!("fpr:::::::::{fra1}:"))).count(), 2, "{}", said.stdout());
}
