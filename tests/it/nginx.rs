//! A certificate pair delivered to a real nginx, with the hooks of docs/runbooks/nginx-certificate.md: a pair that does not
//! match is refused and the old one goes on being shown; a good one is shown after the reload.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::agent::policy;
use crate::support::{Ran, Running, Sandbox, TestFleet, Tool, bound, tests};

tests!["nginx":
    a_pair_that_does_not_match_never_reaches_nginx needs [Nginx, Openssl],
];

/// A pair in files of the sandbox, with this common name.
pub(crate) fn pair(sandbox: &Sandbox, name: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let subject = format!("/CN={name}.cdn.example");
    let words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
    let rest = ["-subj", &subject, "-keyout", &key, "-out", &certificate];
    Ran::of(Tool::Openssl.command().args(words).args(rest).current_dir(sandbox.root())).ok();
}

/// The blocks of a language in the runbook, in their order, with this test's places in the place of a machine's.
fn from_runbook(sandbox: &Sandbox, language: &str, port: u16) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks/nginx-certificate.md");
    let text = std::fs::read_to_string(path).unwrap();
    let root = sandbox.root().display().to_string();
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| {
            block
                .replace("/run/keys", &format!("{root}/run"))
                .replace("/etc/keys/", &format!("{root}/"))
                .replace("/etc/nginx/nginx.conf", &format!("{root}/nginx.conf"))
                .replace("127.0.0.1:443", &format!("127.0.0.1:{port}"))
                .replace(
                    "\"/usr/sbin/nginx\", \"-s\"",
                    &format!("\"/usr/sbin/nginx\", \"-c\", \"{root}/nginx.conf\", \"-s\""),
                )
        })
        .collect()
}

/// The common name that is shown at this port.
pub(crate) fn shown(port: u16) -> Option<String> {
    let script = "openssl s_client -connect 127.0.0.1:$0 < /dev/null 2> /dev/null | openssl x509 -noout -subject";
    let ran = Ran::of(bound("/bin/sh").args(["-c", script, &port.to_string()]).env("PATH", "/usr/bin:/bin"));
    ran.stdout().rsplit_once("CN = ").map(|(_, name)| name.trim().to_owned())
}

/// A port that is free now, and in nobody else's range.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The machine's side: hooks, and a configuration of nginx.
pub(crate) fn set_up(sandbox: &Sandbox, port: u16) {
    let toml = from_runbook(sandbox, "toml", port);
    let scripts = from_runbook(sandbox, "sh", port);
    sandbox.write("hooks.toml", &toml[1]);
    for (name, script) in [("nginx-check", &scripts[0]), ("nginx-verify", &scripts[1])] {
        assert!(script.starts_with("#!/bin/sh"), "{script}");
        let path = sandbox.write(name, script);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let root = sandbox.root().display().to_string();
    let server = from_runbook(sandbox, "nginx", port).concat();
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|n| format!("{n}_temp_path {root}/tmp;\n"));
    sandbox.write(
        "nginx.conf",
        format!(
            "pid {root}/nginx.pid;\nerror_log {root}/error.log;\nworker_processes 1;\ndaemon off;\nevents {{}}\n\
             http {{\naccess_log off;\n{}server {{\nlisten 127.0.0.1:{port} ssl;\n{server}\n}}\n}}\n",
            temporary.concat()
        ),
    );
}

fn a_pair_that_does_not_match_never_reaches_nginx(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let port = free_port();
    policy(&fleet, &from_runbook(sandbox, "toml", port)[0]);
    set_up(sandbox, port);
    ["old", "new"].iter().for_each(|name| pair(sandbox, name));
    let seal = |name: &str, from: &str| {
        let value = std::fs::read(sandbox.path(from)).unwrap();
        fleet.keys_with("alice", &["seal", &format!("nginx@fra1/{name}")], &value).ok();
    };
    seal("tls.crt", "old.crt");
    seal("tls.key", "old.key");
    let agent = || fleet.keys("fra1", &["agent", "--once", "--run-dir", "run", "--hooks", "hooks.toml"]);
    agent().ok();
    let configuration = sandbox.path("nginx.conf");
    let nginx = serve(sandbox, port, "old.cdn.example");
    // The new certificate is there, its key is not.
    seal("tls.crt", "new.crt");
    agent().refuses(3, "check hook nginx-check");
    assert_eq!(shown(port).as_deref(), Some("old.cdn.example"));
    // Whoever reloads nginx by hand meanwhile still has the old pair.
    let mut reload = bound(Tool::Nginx.path().unwrap());
    Ran::of(reload.arg("-c").arg(&configuration).args(["-s", "reload"])).ok();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(shown(port).as_deref(), Some("old.cdn.example"));
    seal("tls.key", "new.key");
    agent().ok();
    assert_eq!(shown(port).as_deref(), Some("new.cdn.example"));
    end(nginx);
}

/// nginx, once it shows this name.
pub(crate) fn serve(sandbox: &Sandbox, port: u16, name: &str) -> Running {
    let mut nginx = bound(Tool::Nginx.path().unwrap());
    nginx.arg("-c").arg(sandbox.path("nginx.conf"));
    let nginx = Running::start(nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let deadline = Instant::now() + Duration::from_secs(60);
    while shown(port).as_deref() != Some(name) {
        assert!(
            Instant::now() < deadline,
            "nginx begins: {}",
            std::fs::read_to_string(sandbox.path("error.log")).unwrap()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    nginx
}

/// The master ends by its id, and its workers with it.
pub(crate) fn end(mut nginx: Running) {
    let id = rustix::process::Pid::from_child(&nginx);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    nginx.wait().unwrap();
}
