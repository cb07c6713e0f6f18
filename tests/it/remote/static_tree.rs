//! A fleet's public side as plain files: what is written, and what a real nginx gives of it to gpg, sq and `keys pull`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::key_server::{known, with_gpg, with_sq};
use super::serving::Remote;
use super::{files, fleet, id};
use crate::support::{Running, Sandbox, Tool, bound, tests};

tests!["remote::static_tree":
    only_what_has_changed_is_written_and_only_what_is_ours_removed,
    every_page_is_what_keys_serve_says,
    nginx_is_a_key_server_and_a_mirror needs [Nginx, Gpg, GpgConf, Dirmngr, Sq],
];

const TO: [&str; 3] = ["publish", "--static", "static"];

fn only_what_has_changed_is_written_and_only_what_is_ours_removed(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    sandbox.write("fleet/keyring/.writing", "");
    sandbox.write("fleet/secret.txt", "not public");
    let publish = || fleet.keys("alice", &[&TO[..], &["--json"]].concat());
    let counts = || {
        let said = publish();
        said.ok();
        let count = |name: &str| said.json()[name].as_u64().unwrap();
        (count("files"), count("written"), count("removed"))
    };
    // Somebody's own file stays, and what was left by a run that was cut short is made whole.
    std::fs::create_dir(sandbox.path("static")).unwrap();
    sandbox.write("static/index.html", "mine");
    let (all, written, removed) = counts();
    assert_eq!((all, removed), (written, 0));
    assert_eq!(counts(), (all, 0, 0));
    let there = files(sandbox, "static");
    assert!(there.contains_key("keyring/log/checkpoint") && there.contains_key("policy/fleet.toml"));
    assert!(there.contains_key("pks/get/alice@ops.example") && !there.contains_key("secret.txt"));
    assert!(!there.keys().any(|path| path.contains(".writing")));
    for path in ["keyring/log/checkpoint", "pks/index/alice@ops.example"] {
        std::fs::remove_file(sandbox.path("static").join(path)).unwrap();
    }
    assert_eq!(counts(), (all, 2, 0));
    assert!(files(sandbox, "static") == there);
    // Who has left is no longer found by address, and the file has gone.
    fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
    let (_, written, removed) = counts();
    assert!(written > 0 && removed > 0, "{written} {removed}");
    let later = files(sandbox, "static");
    assert!(there.contains_key("pks/get/pop@fra1.cdn.example") && !later.contains_key("pks/get/pop@fra1.cdn.example"));
    assert_eq!(later["index.html"], b"mine");
    // What is not ours is not written over, and nothing else is written then.
    fleet.join("ams1", "");
    sandbox.write("static/pks/get/pop@ams1.cdn.example", "mine");
    let before = files(sandbox, "static");
    publish().refuses(1, "was not written by");
    assert!(files(sandbox, "static") == before);
    fleet.keys("alice", &["publish", "--static", "fleet"]).refuses(2, "the fleet's own");
}

fn every_page_is_what_keys_serve_says(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.keys("alice", &TO).ok();
    let served = super::serving::Served::start(sandbox);
    let mut compared = 0;
    for (path, bytes) in files(sandbox, "static") {
        let asked = match path.split_once('/') {
            None => continue,
            Some(("pks", below)) if below.starts_with("v2/") => format!("/{path}"),
            Some(("pks", below)) => {
                let (op, search) = below.split_once('/').unwrap();
                format!("/pks/lookup?options=mr&op={op}&search={search}")
            }
            _ => format!("/{path}"),
        };
        let answer = served.ask("GET", &asked, "");
        // A list that is said in words ends with a line's end, also an empty one.
        let is_same = answer.body == bytes || (asked.starts_with("/v1/") && answer.body.trim_ascii() == bytes);
        assert_eq!((answer.status, is_same), (200, true), "{asked}");
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

/// The nginx of the runbook over the static tree; ended by its id.
fn nginx(sandbox: &Sandbox) -> (Running, Remote) {
    let runbook = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks/key-server.md");
    let runbook = std::fs::read_to_string(runbook).unwrap();
    let block = runbook.split("```nginx\n").nth(1).unwrap().split("```").next().unwrap();
    let root = sandbox.root().display().to_string();
    let server = block.replace("/srv/keys", &format!("{root}/static"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|n| format!("{n}_temp_path {root}/tmp;\n"));
    // The worker is another user otherwise, and the sandbox is ours alone.
    let user = if Tool::Root.path().is_some() { "user root;\n" } else { "" };
    let configuration = sandbox.write(
        "nginx.conf",
        format!(
            "{user}pid {root}/nginx.pid;\nerror_log {root}/error.log;\nworker_processes 1;\ndaemon off;\nevents {{}}\n\
             http {{\naccess_log off;\n{}server {{\nlisten 127.0.0.1:{port};\n{server}\n}}\n}}\n",
            temporary.concat()
        ),
    );
    let mut nginx = bound(Tool::Nginx.path().unwrap());
    nginx.arg("-c").arg(configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let nginx = Running::start(&mut nginx);
    let remote = Remote { address: format!("127.0.0.1:{port}") };
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(&remote.address).is_err() {
        let errors = std::fs::read_to_string(sandbox.path("error.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "nginx begins: {errors}");
        std::thread::sleep(Duration::from_millis(100));
    }
    (nginx, remote)
}

fn nginx_is_a_key_server_and_a_mirror(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let (fra1, id) = (known(&fleet, "ring")("fra1"), id(&fleet));
    fleet.keys("alice", &TO).ok();
    sandbox.write("secret", "outside");
    let (mut nginx, remote) = nginx(sandbox);
    for (asked, status) in [
        ("op=get&search=pop@fra1.cdn.example", 200),
        ("op=get&search=pop%40fra1.cdn.example", 200),
        ("op=vindex&search=pop@fra1.cdn.example", 200),
        ("op=get&search=nobody@ops.example", 404),
        ("op=get&search=../../../secret", 404),
        ("op=get&search=..%2f..%2f..%2fsecret", 404),
        ("op=get&search=%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret", 404),
        ("op=get", 404),
        ("op=stats&search=x", 501),
    ] {
        let answer = remote.ask("GET", &format!("/pks/lookup?{asked}"), "");
        assert_eq!(answer.status, status, "{asked}");
        assert!(!answer.text().contains("outside"), "{asked}");
        if status == 200 {
            assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("*"), "{asked}");
        }
    }
    let wkd = "/.well-known/openpgpkey/fra1.cdn.example/hu/jhcz3gp8tqnbdhqxjniwbgokpwmszgpz?l=pop";
    assert_eq!(remote.ask("GET", wkd, "").header("content-type").as_deref(), Some("application/octet-stream"));
    with_sq(sandbox, &remote.address, &fra1);
    let pull = ["--fleet", "its", "--home", "its-home", "pull", "--from", &format!("http://{}", remote.address)];
    sandbox.keys(&[&pull[..], &["--pin", &id]].concat()).ok();
    with_gpg(sandbox, &remote.address, &fra1, || {
        fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
        fleet.keys("alice", &TO).ok();
    });
    sandbox.keys(&pull).ok();
    sandbox.keys(&["--fleet", "its", "--home", "its-home", "log", "verify"]).ok();
    let master = rustix::process::Pid::from_child(&nginx);
    rustix::process::kill_process(master, rustix::process::Signal::TERM).unwrap();
    nginx.wait().unwrap();
}
