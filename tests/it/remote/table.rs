//! What a server answers, as one table: every path, by every method, with every kind of body. What the table does not list is
//! refused, and leaves nothing behind.

use std::collections::BTreeSet;

use keys::limits::SUBMIT_BYTES_MAX;
use keys::remote::ROUTES;
use keys::statement::{Entry, Submission};

use super::serving::{Remote, Served, request};
use super::{Files, files};
use crate::support::{Sandbox, TestFleet, tests};

tests!["remote::table":
    what_is_not_in_the_table_is_refused_and_leaves_nothing,
    the_document_has_the_table_that_the_server_has,
];

/// What can be read: with what else stands there, it is all that is answered by anything but a refusal.
const READ: [(&str, u16); 14] = [
    ("/keyring/log/checkpoint", 200),
    ("/keyring/log/commit/00000000000000000000", 200),
    ("/keyring/acks/nobody", 404),
    ("/policy/fleet.toml", 200),
    ("/keyring/objects/ssh/00000000000000000999", 404),
    ("/v1/waiting", 200),
    ("/v1/acks", 200),
    ("/healthz", 200),
    ("/metrics", 200),
    ("/pks/lookup?op=get&search=alice@ops.example", 200),
    ("/pks/lookup?op=get", 400),
    ("/pks/lookup?op=stats", 501),
    ("/pks/v2/index/alice@ops.example", 200),
    ("/.well-known/openpgpkey/ops.example/policy", 200),
];
/// Where something may be sent, and what is said to it.
const ADD: (&str, u16) = ("/pks/add", 403);
const SUBMIT: &str = "/v1/submit";
/// What becomes of what is handed in there.
const SUBMITTED: [(&str, u16); 21] = [
    ("nothing", 400),
    ("garbage", 400),
    ("a change", 202),
    ("a change, unsigned", 400),
    ("a change, a stranger's", 403),
    ("a change, of one who has left", 403),
    ("a change, cut short", 400),
    ("a change, and more", 400),
    ("a request", 202),
    ("a request, unsigned", 400),
    ("a request, another log's", 403),
    ("a request, cut short", 400),
    ("an acknowledgement", 202),
    ("an acknowledgement, unsigned", 400),
    ("an acknowledgement, a stranger's", 403),
    ("an acknowledgement, of one who has left", 409),
    ("an acknowledgement, cut short", 400),
    ("a head to cosign", 400),
    ("a policy", 400),
    ("a certificate", 400),
    ("a sealed file", 400),
];
const METHODS: [&str; 11] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"];
/// Where there is nothing, whoever asks.
const NOWHERE: [&str; 17] = [
    "/",
    "*",
    "http://x/healthz",
    "x:443",
    "/v1/submit/",
    "/v1/submit?x",
    "/v1/requests",
    "/v2/submit",
    "/V1/SUBMIT",
    "//v1/submit",
    "/keyring/log/checkpoint?x",
    "/keyring/.writing",
    "/keyring/../alice/pin",
    "/keyring/proposals/requests/x.request",
    "/policy/other.toml",
    "/pks/add/",
    "/add-checkpoint",
];

/// Bodies, each with its name in [`SUBMITTED`].
type Bodies = Vec<(&'static str, Vec<u8>)>;

/// What `who` would hand in: its newest change with what belongs to it, and what it says of itself.
fn handed_in(sandbox: &Sandbox, who: &str) -> (Entry, Vec<u8>, Vec<u8>) {
    let copy = format!("copy-{who}");
    sandbox.copy("fleet", &copy);
    let before = files(sandbox, "fleet/keyring");
    let keys = |args: &[&str]| sandbox.keys(&[&["--fleet", &copy, "--home", who], args].concat());
    keys(&["rotate", who, "--slot", "sign", "--yes"]);
    let made: Files =
        files(sandbox, &format!("{copy}/keyring")).into_iter().filter(|(p, _)| !before.contains_key(p)).collect();
    let body = made.iter().find(|(path, _)| path.ends_with("/body")).expect("its change waits");
    let beside = body.0.strip_suffix("body").unwrap();
    let lines =
        made.iter().filter(|(p, _)| p.starts_with(beside) && p.ends_with(".sig")).map(|(_, line)| line.as_slice());
    let entry = Entry::parse(&[&[body.1.as_slice(), b"\n"], &lines.collect::<Vec<_>>()[..]].concat().concat()).unwrap();
    let objects: Vec<Vec<u8>> =
        made.iter().filter(|(p, _)| p.starts_with("objects/")).map(|(_, o)| o.clone()).collect();
    let change = Submission::of_entry(&entry, &objects).unwrap();
    keys(&["agent", "--once", "--run-dir", &format!("run-{who}")]);
    let ack = std::fs::read(sandbox.path(&format!("{copy}/keyring/acks/{who}"))).unwrap();
    (entry, change, ack)
}

/// A note without its signatures.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
    bytes[..end + 2].to_vec()
}

fn cut(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() / 2].to_vec()
}

/// The fleet in `fleet/`, of which lhr1 has left, and everything that somebody could send.
fn bodies(sandbox: &Sandbox) -> Bodies {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("lhr1", "");
    fleet.seal("nginx@fra1/tls.key", "one");
    fleet.settle(&["fra1", "lhr1"]);
    let (_, gone_change, gone_ack) = handed_in(sandbox, "lhr1");
    fleet.keys("alice", &["revoke", "lhr1", "--reason", "retired", "--yes"]).ok();
    let (entry, change, ack) = handed_in(sandbox, "fra1");
    // Another fleet of the same name has the same log's name.
    let elsewhere = Sandbox::new("table");
    let strangers = TestFleet::of_one(&elsewhere);
    strangers.join("fra1", "");
    strangers.settle(&["fra1"]);
    let (_, strange_change, strange_ack) = handed_in(&elsewhere, "fra1");
    elsewhere.finish(true);
    let asked = request(sandbox, "ams1");
    let bare = Entry { signatures: Vec::new(), ..entry.clone() };
    let bare = bare.to_bytes().unwrap_or_else(|_| unsigned(&entry.to_bytes().unwrap()));
    let file = |path: &str| std::fs::read(sandbox.path(path)).unwrap();
    let checkpoint = file("fleet/keyring/log/checkpoint");
    let ring = files(sandbox, "fleet/keyring/certs").into_values().next().unwrap();
    let other_log = String::from_utf8(asked.clone()).unwrap().replace("cdn.example/keys/1", "cdm.example/keys/1");
    vec![
        ("nothing", Vec::new()),
        ("garbage", b"garbage".to_vec()),
        ("a change, unsigned", bare),
        ("a change, a stranger's", strange_change),
        ("a change, of one who has left", gone_change),
        ("a change, cut short", cut(&change)),
        ("a change, and more", [&change[..], b"\n"].concat()),
        ("a change", change),
        ("a request, unsigned", unsigned(&asked)),
        ("a request, another log's", other_log.into_bytes()),
        ("a request, cut short", cut(&asked)),
        ("a request", asked),
        ("an acknowledgement, unsigned", unsigned(&ack)),
        ("an acknowledgement, a stranger's", strange_ack),
        ("an acknowledgement, of one who has left", gone_ack),
        ("an acknowledgement, cut short", cut(&ack)),
        ("an acknowledgement", ack),
        ("a head to cosign", [b"old 0\n\n", &checkpoint[..]].concat()),
        ("a policy", file("fleet/policy/fleet.toml")),
        ("a certificate", ring),
        ("a sealed file", file("fleet/keyring/sealed/fra1/nginx/tls.key.pgp")),
    ]
}

/// Sends a body, and says how long it is; gives the status.
fn send(served: &Remote, method: &str, path: &str, (length, body): (usize, &[u8])) -> u16 {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    served.send(&[head.as_bytes(), body].concat()).status
}

fn what_is_not_in_the_table_is_refused_and_leaves_nothing(sandbox: &Sandbox) {
    let bodies = bodies(sandbox);
    let names = |list: Vec<&'static str>| list.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(names(bodies.iter().map(|b| b.0).collect()), names(SUBMITTED.map(|s| s.0).to_vec()));
    let before = files(sandbox, "fleet");
    let served = Served::start(sandbox);
    let read = |method: &str| ["GET", "HEAD"].contains(&method);
    // What is allowed, all of it; a body is as good as any other where none is taken.
    let expected = |method: &str, path: &str, length: usize| match READ.iter().find(|(p, _)| *p == path) {
        Some((_, status)) if read(method) && length == 0 => *status,
        Some(_) if read(method) => 413,
        _ if path == ADD.0 && method == "POST" => {
            if length > SUBMIT_BYTES_MAX {
                413
            } else {
                ADD.1
            }
        }
        _ if path == SUBMIT && method == "POST" && length > SUBMIT_BYTES_MAX => 413,
        _ if NOWHERE.contains(&path) => 404,
        _ => 405,
    };
    let mut checked = 0;
    for path in READ.iter().map(|r| r.0).chain([ADD.0, SUBMIT]).chain(NOWHERE) {
        for method in METHODS {
            let told = (SUBMIT_BYTES_MAX + 1, &b"x"[..]);
            assert_eq!(send(&served, method, path, told), expected(method, path, told.0), "{method} {path}, too long");
            for (what, body) in &bodies {
                if path != SUBMIT || method != "POST" {
                    let status = send(&served, method, path, (body.len(), body));
                    assert_eq!(status, expected(method, path, body.len()), "{method} {path}, {what}");
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 7_000, "{checked}");
    assert!(files(sandbox, "fleet") == before, "nothing was written");

    let (mut taken, mut given) = (Vec::new(), before.clone());
    for (what, body) in &bodies {
        let expected = SUBMITTED.iter().find(|(name, _)| name == what).unwrap().1;
        let answer = served.post(body);
        assert_eq!(answer.status, expected, "{what}: {}", answer.text());
        let now = files(sandbox, "fleet");
        if expected == 202 {
            assert!(
                now.iter().filter(|(path, _)| before.contains_key(*path)).eq(&before),
                "{what}: nothing is changed"
            );
            taken.extend(now.keys().filter(|path| !given.contains_key(*path)).cloned());
            given = now;
        } else {
            assert!(now == given, "{what}: nothing was written");
        }
    }
    let places = ["keyring/proposals/", "keyring/objects/", "keyring/acks/fra1"];
    let strange: Vec<&String> = taken.iter().filter(|path| !places.iter().any(|p| path.starts_with(p))).collect();
    assert!(strange.is_empty() && taken.len() >= 4, "{taken:?}");
    sandbox.keys(&["--fleet", "fleet", "--home", "alice", "log", "verify"]).ok();
}

fn the_document_has_the_table_that_the_server_has(_: &Sandbox) {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/formats/http.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().skip_while(|l| !l.starts_with("| endpoint |")).skip(2).take_while(|l| l.starts_with('|'));
    let shown: Vec<Vec<&str>> =
        rows.map(|row| row.trim_matches('|').split('|').take(3).map(str::trim).collect()).collect();
    let size = |bytes: usize| match bytes {
        0 => "none".to_owned(),
        bytes => format!("{} MiB", bytes >> 20),
    };
    let code: Vec<[String; 3]> = ROUTES
        .iter()
        .map(|route| [format!("`{}`", route.path), route.methods.join(", "), size(route.body_bytes_max)])
        .collect();
    assert_eq!(shown, code);
}
