//! Serving a fleet's directory, and handing in: every endpoint with every method, every kind of signature, and crowds.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use super::{files, fleet, id};
use crate::support::{Running, Sandbox, TestFleet, Tool, tests};

tests!["remote::serving":
    every_endpoint_says_what_it_is_for,
    what_is_handed_in_is_judged,
    work_goes_out_by_submit_and_comes_back_by_pull,
    whoever_refuses_does_not_keep_another_from_taking,
    sixteen_hand_in_the_same_at_once,
    a_flood_is_slowed_down_and_readers_are_served,
    what_is_asked_and_answered_is_counted,
    prometheus_takes_the_numbers needs [Promtool],
];

/// A server.
pub(super) struct Remote {
    pub address: String,
}

/// A served fleet; ended when dropped.
pub(super) struct Served {
    pub child: Running,
    remote: Remote,
}

impl std::ops::Deref for Served {
    type Target = Remote;

    fn deref(&self) -> &Remote {
        &self.remote
    }
}

/// An answer: status, head, body.
pub(super) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let line = self.head.lines().find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }
}

impl Served {
    pub(super) fn start(sandbox: &Sandbox) -> Self {
        let mut command = sandbox.bound_command();
        command.args(["--fleet", "fleet", "serve", "--listen", "127.0.0.1:0"]);
        let mut child = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit("http://").next().unwrap().to_owned();
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        Self { child, remote: Remote { address } }
    }
}

impl Remote {
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn send(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // Who is refused by the head alone need not send the rest.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    /// What is served there, without white space around it.
    pub(super) fn text(&self, path: &str) -> String {
        self.ask("GET", path, "").text().trim().to_owned()
    }

    pub(super) fn ask(&self, method: &str, path: &str, more: &str) -> Answer {
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}{more}\r\n").as_bytes())
    }

    pub(super) fn post(&self, body: &[u8]) -> Answer {
        let head = format!(
            "POST /v1/submit HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat())
    }
}

fn every_endpoint_says_what_it_is_for(sandbox: &Sandbox) {
    fleet(sandbox);
    sandbox.write("fleet/keyring/.writing", "");
    sandbox.write("fleet/secret.txt", "not public");
    let served = Served::start(sandbox);
    let all = files(sandbox, "fleet/keyring");
    // Everything that is in the keyring and of the log is there, byte by byte, and nothing else is.
    for (path, bytes) in &all {
        let answer = served.ask("GET", &format!("/keyring/{path}"), "");
        match path.as_str() {
            ".writing" => assert_eq!(answer.status, 404),
            _ => assert_eq!((answer.status, &answer.body), (200, bytes), "{path}"),
        }
    }
    let object = all.keys().find(|p| p.starts_with("objects/") && !p.contains("ssh")).unwrap();
    let commit = "/keyring/log/commit/00000000000000000000".to_owned();
    let (object, sealed) = (format!("/keyring/{object}"), "/keyring/sealed/fra1/nginx/tls.key.pgp".to_owned());
    let there = [
        "/keyring/log/checkpoint",
        "/policy/fleet.toml",
        "/v1/waiting",
        "/healthz",
        "/v1/acks",
        &commit,
        &object,
        &sealed,
    ];
    let nowhere = [
        "/",
        "/keyring",
        "/keyring/",
        "/keyring/log",
        "/keyring/log/",
        "/keyring/objects/",
        "/keyring/proposals/",
        "/keyring/../secret.txt",
        "/secret.txt",
        "/keyring/%2e%2e/secret.txt",
        "//etc/passwd",
        "/keyring//log/checkpoint",
        "/keyring/log/checkpoint/",
        "/keyring/log/checkpoint?x",
        "/keyring/.writing",
        "/v1/",
        "/metrics/",
        "keyring/log/checkpoint",
        "/policy/../secret.txt",
    ];
    let (mut checked, methods) = (0, ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]);
    for method in methods {
        for path in there {
            let answer = served.ask(method, path, "");
            let expected = if ["GET", "HEAD"].contains(&method) { 200 } else { 405 };
            assert_eq!(answer.status, expected, "{method} {path}");
            if method == "HEAD" {
                let length = answer.header("content-length").unwrap();
                assert_eq!((answer.body.len(), length), (0, served.ask("GET", path, "").body.len().to_string()));
            }
            if expected == 405 {
                assert_eq!(answer.header("allow").as_deref(), Some("GET, HEAD"), "{method} {path}");
            }
            checked += 1;
        }
        for path in nowhere {
            assert_eq!(served.ask(method, path, "").status, 404, "{method} {path}");
            checked += 1;
        }
        let submit = served.ask(method, "/v1/submit", "").status;
        assert_eq!(submit, if method == "POST" { 400 } else { 405 }, "{method} /v1/submit");
    }
    assert!(checked > 200, "{checked}");

    // What has a version is asked for by it; what never changes says so.
    let head = served.ask("GET", "/keyring/log/checkpoint", "");
    let tag = head.header("etag").unwrap();
    assert_eq!(head.header("cache-control").as_deref(), Some("no-cache"));
    let again = served.ask("GET", "/keyring/log/checkpoint", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(served.ask("GET", "/keyring/log/checkpoint", "If-None-Match: \"other\"\r\n").status, 200);
    for path in [&commit, &object] {
        assert!(served.ask("GET", path, "").header("cache-control").unwrap().contains("immutable"), "{path}");
    }
    assert!(served.ask("GET", "/healthz", "").text().starts_with("ok "));
    // What is no HTTP, or too much of it, is answered and closed.
    assert_eq!(served.send(b"\x16\x03\x01\x02\x00\r\n\r\n").status, 400);
    assert_eq!(served.send(b"POST /v1/submit HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n").status, 413);
    assert_eq!(served.send(b"POST /v1/submit HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").status, 411);
    let crowded = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(10_000));
    assert_eq!(served.send(crowded.as_bytes()).status, 413);
}

/// A request by a machine that has pulled the fleet.
pub(super) fn request(sandbox: &Sandbox, member: &str) -> Vec<u8> {
    let out = sandbox.path(&format!("{member}.request")).display().to_string();
    let args = ["enroll", member, "--endpoint", "198.51.100.7", "--out", &out];
    sandbox.keys(&[&["--fleet", "fleet", "--home", member], &args[..]].concat()).ok();
    std::fs::read(out).unwrap()
}

fn what_is_handed_in_is_judged(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "one");
    fleet.settle(&["bob", "fra1"]);
    let asked = request(sandbox, "ams1");
    // Another letter in the place of one, which stays base64.
    let flipped = |bytes: &[u8], at: usize| {
        let letter = if bytes[at] == b'A' { b'B' } else { b'A' };
        [&bytes[..at], &[letter], &bytes[at + 1..]].concat()
    };
    let stranger = Sandbox::new("judged");
    let foreign = TestFleet::of_one(&stranger);
    let out = stranger.path("x.request").display().to_string();
    foreign.keys("ams1", &["enroll", "ams1", "--endpoint", "198.51.100.7", "--out", &out]).ok();
    // Another fleet of the same name has the same log's name: nothing in a request tells them apart.
    let other_log = String::from_utf8(asked.clone()).unwrap().replace("cdn.example/keys/1", "cdm.example/keys/1");

    // A change that bob makes in a copy, with what belongs to it.
    sandbox.copy("fleet", "copy");
    sandbox.keys_with(&["--fleet", "copy", "--home", "bob", "seal", "nginx@fra1/tls.key"], b"two");
    let copied = files(sandbox, "copy/keyring");
    let body = copied.iter().find(|(path, _)| path.ends_with("/body")).expect("bob's change waits");
    let directory = body.0.strip_suffix("body").unwrap();
    let line = copied.iter().find(|(p, _)| p.starts_with(directory) && p.ends_with(".sig")).unwrap().1;
    let entry = [body.1.as_slice(), b"\n", line].concat();
    let before = files(sandbox, "fleet/keyring");
    let objects: Vec<&Vec<u8>> =
        copied.iter().filter(|(p, _)| p.starts_with("objects/") && !before.contains_key(*p)).map(|(_, b)| b).collect();
    assert!(!objects.is_empty(), "a sealed file");
    let bundle = |entry: &[u8], objects: &[&Vec<u8>]| {
        let mut bytes = b"keys/submit/v1\n".to_vec();
        let mut part = |kind: &str, content: &[u8]| {
            bytes.extend_from_slice(format!("{kind} {}\n", content.len()).as_bytes());
            bytes.extend_from_slice(content);
            bytes.push(b'\n');
        };
        part("entry", entry);
        objects.iter().for_each(|object| part("object", object));
        bytes
    };
    let stray = b"stray".to_vec();
    let with_stray: Vec<&Vec<u8>> = objects.iter().copied().chain([&stray]).collect();
    let text = String::from_utf8(entry.clone()).unwrap();
    let as_alice = text.replace("\u{2014} cdn.example/bob ", "\u{2014} cdn.example/alice ");
    let last = entry.len() - 8;

    let served = Served::start(sandbox);
    let waiting = || served.ask("GET", "/v1/waiting", "").text();
    assert_eq!(waiting().trim(), "");
    let refused: [(&str, Vec<u8>, u16, &str); 11] = [
        ("nothing", Vec::new(), 400, ""),
        ("garbage", b"garbage".to_vec(), 400, ""),
        ("a request of another log", other_log.into_bytes(), 403, "is for the log"),
        ("a request that its member has not signed", flipped(&asked, asked.len() - 8), 422, "not signed by ams1"),
        ("a request with other facts", flipped(&asked, 8), 422, "not signed by ams1"),
        ("a request with an object", [&bundle(&asked, &[&stray])[..]].concat(), 400, ""),
        ("a statement without what belongs to it", entry.clone(), 422, "neither here nor with it"),
        ("a statement with more than belongs to it", bundle(&entry, &with_stray), 422, "does not refer"),
        ("a statement with another signature", bundle(&flipped(&entry, last), &objects), 403, "bob"),
        ("a statement in somebody else's name", bundle(as_alice.as_bytes(), &objects), 403, "alice"),
        (
            "a statement that says something else",
            bundle(&text.replace("\"reason\":\"", "\"reason\":\"x").into_bytes(), &objects),
            403,
            "bob",
        ),
    ];
    for (what, bytes, status, said) in &refused {
        let answer = served.post(bytes);
        // A flip may also make what is no request any more; then that is what is said.
        let as_expected = answer.status == *status && answer.text().contains(said);
        assert!(
            as_expected || (what.contains("facts") && answer.status == 400),
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
        assert!(files(sandbox, "fleet/keyring") == before, "{what}: nothing was written");
    }
    for (what, bytes) in [("a request", asked.clone()), ("a change", bundle(&entry, &objects))] {
        assert_eq!(served.post(&bytes).status, 202, "{what}");
        assert_eq!(served.post(&bytes).status, 200, "{what} again");
    }
    assert_eq!(waiting().lines().count(), 3, "{}", waiting());
    sandbox.keys(&["--fleet", "fleet", "--home", "alice", "log", "verify"]).ok();
    // Once it is in the log it is known, and a request for a name that is taken is refused.
    fleet.keys("alice", &["approve", "--all", "--yes"]);
    fleet.keys("bob", &["approve", "--all", "--yes"]);
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(served.post(&bundle(&entry, &objects)).status, 200);
    assert_eq!(served.post(&asked).status, 200);
    let late = std::fs::read(&out).unwrap();
    let answer = served.post(&late);
    assert!(
        answer.status == 422 && answer.text().contains("is a member already"),
        "{} {}",
        answer.status,
        answer.text()
    );
    stranger.finish(true);
}

fn work_goes_out_by_submit_and_comes_back_by_pull(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.settle(&["bob", "fra1"]);
    let (id, served) = (id(&fleet), Served::start(sandbox));
    let url = served.url();
    // Bob has a directory and a home; a new machine has nothing but the address and the id.
    let bob = |args: &[&str]| sandbox.keys(&[&["--fleet", "bobs", "--home", "bob"], args].concat());
    let ams1 = |args: &[&str]| sandbox.keys(&[&["--fleet", "its", "--home", "ams1"], args].concat());
    bob(&["pull", "--from", &url, "--remember"]).ok();
    ams1(&["pull", "--from", &url, "--pin", &id, "--remember"]).ok();
    ams1(&["enroll", "ams1", "--endpoint", "198.51.100.7"]).ok();
    assert!(ams1(&["submit"]).ok().contains("handed in at"), "a request");
    assert!(ams1(&["submit"]).ok().contains("known already"));
    // Alice, where the log's key is, sees it at once; it needs bob, who gets it by a pull.
    fleet.keys("alice", &["approve", "--all", "--yes"]).exits(4);
    bob(&["pull"]).ok();
    bob(&["approve", "--all", "--yes"]).exits(4);
    assert!(bob(&["submit"]).ok().contains("proposal"));
    fleet.keys("alice", &["sync"]).ok();
    for pull in [&bob as &dyn Fn(&[&str]) -> crate::support::Ran, &ams1] {
        pull(&["pull"]).ok();
        pull(&["log", "verify"]).ok();
        pull(&["reach", "ams1"]).ok();
        assert_eq!(pull(&["submit"]).ok().trim(), "", "nothing waits any more");
    }
    // With the mirror away everything goes on but the pull.
    drop(served);
    let ran = ams1(&["pull"]);
    ran.exits(7);
    assert!(ran.stderr().contains("everything goes on"), "{}", ran.stderr());
    ams1(&["status"]).ok();
    ams1(&["log", "verify"]).ok();
    ams1(&["sync"]).ok();
    // What is made meanwhile waits here.
    let args = ["--fleet", "bobs", "--home", "bob", "seal", "nginx@fra1/tls.key"];
    sandbox.keys_with(&args, b"two").exits(4);
    bob(&["submit"]).exits(7);
    let served = Served::start(sandbox);
    assert!(bob(&["submit", "--to", &served.url()]).ok().contains("handed in at"));
}

fn whoever_refuses_does_not_keep_another_from_taking(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    sandbox.copy("fleet", "its");
    // Here somebody else is ams1 already.
    fleet.join("ams1", "nginx");
    let served = Served::start(sandbox);
    let its = |home: &str, args: &[&str]| sandbox.keys(&[&["--fleet", "its", "--home", home], args].concat());
    its("another", &["enroll", "ams1", "--endpoint", "198.51.100.9"]).ok();
    let (url, mirror) = (served.url(), sandbox.path("mirror").display().to_string());
    its("another", &["submit", "--to", &url]).refuses(3, "is a member already");
    // A directory takes whatever is a request, at the place where it waits; who takes members in looks at it.
    its("another", &["submit", "--to", &mirror]).refuses(7, &mirror);
    std::fs::create_dir_all(sandbox.path("mirror/keyring")).unwrap();
    let said = its("another", &["submit", "--to", &url, "--to", &mirror]).ok();
    assert!(said.contains("handed in at") && said.contains("/mirror"), "{said}");
    assert!(its("another", &["submit", "--to", &url, "--to", &mirror]).ok().contains("known already at"));
    let waits = |directory: &str| files(sandbox, directory).into_iter().collect::<Vec<_>>();
    assert_eq!(
        waits("mirror/keyring"),
        waits("its/keyring/proposals/requests")
            .into_iter()
            .map(|(path, bytes)| (format!("proposals/requests/{path}"), bytes))
            .collect::<Vec<_>>()
    );
    // Nothing else is handed in there.
    let path =
        std::fs::read_dir(sandbox.path("its/keyring/proposals/requests")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(path, "no request at all").unwrap();
    assert_ne!(its("another", &["submit", "--to", &mirror]).code(), 0);
    assert_eq!(files(sandbox, "mirror").len(), 1);
}

fn sixteen_hand_in_the_same_at_once(sandbox: &Sandbox) {
    fleet(sandbox);
    let requests: Vec<Vec<u8>> = ["ams1", "sin1", "lhr1"].map(|member| request(sandbox, member)).to_vec();
    let served = Served::start(sandbox);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let hand_in = || requests.iter().map(|request| served.post(request).status).collect::<Vec<_>>();
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(hand_in)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.len(), 48);
    assert!(statuses.iter().all(|s| [200, 202].contains(s)), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|s| **s == 202).count(), 3, "each is new once");
    assert_eq!(served.ask("GET", "/v1/waiting", "").text().lines().count(), 3);
}

fn a_flood_is_slowed_down_and_readers_are_served(sandbox: &Sandbox) {
    fleet(sandbox);
    let before = files(sandbox, "fleet/keyring");
    let served = Served::start(sandbox);
    let statuses: Vec<u16> = (0..200).map(|i| served.post(format!("garbage {i}").as_bytes()).status).collect();
    let refused = statuses.iter().filter(|s| **s == 429).count();
    assert!(refused > 40 && statuses[..100].iter().all(|s| *s == 400), "{statuses:?}");
    // Whoever sends half a request and waits takes a place, and not all of them.
    let idle: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(&served.address).unwrap();
            stream.write_all(b"POST /v1/submit HTTP/1.1\r\nContent-Length: 8000000\r\n\r\nx").unwrap();
            stream
        })
        .collect();
    assert_eq!(served.ask("GET", "/healthz", "").status, 200);
    assert_eq!(served.ask("GET", "/keyring/log/checkpoint", "").status, 200);
    drop(idle);
    assert!(files(sandbox, "fleet/keyring") == before, "nothing was written");
}

fn what_is_asked_and_answered_is_counted(sandbox: &Sandbox) {
    fleet(sandbox);
    let served = Served::start(sandbox);
    let number = |name: &str| -> u64 {
        let text = served.text("/metrics");
        let line = text.lines().find(|l| l.rsplit_once(' ').is_some_and(|(n, _)| n == name));
        line.unwrap_or_else(|| panic!("{name}: {text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let requests = |labels: &str| number(&format!("keys_serve_requests_total{{{labels}}}"));
    let submissions = |result: &str| number(&format!("keys_serve_submissions_total{{result=\"{result}\"}}"));
    let found = "endpoint=\"hkp\",method=\"read\",status=\"2xx\"";
    assert_eq!([requests(found), submissions("unreadable"), number("keys_serve_malformed_total")], [0; 3]);
    let got = served.ask("GET", "/pks/lookup?op=get&search=alice@ops.example", "").body.len();
    served.ask("HEAD", "/pks/lookup?op=get&search=alice@ops.example", "");
    let brewed = served.ask("BREW", "/pks/v2/x\"}", "").body.len();
    served.post(b"garbage");
    assert_eq!(served.send(b"\x16\x03\x01\x02\x00\r\n\r\n").status, 400);
    assert_eq!([requests(found), submissions("unreadable"), number("keys_serve_malformed_total")], [2, 1, 1]);
    assert_eq!(number("keys_serve_response_bytes_total{endpoint=\"hkp\"}") as usize, got + brewed);
    assert_eq!(requests("endpoint=\"hkp\",method=\"other\",status=\"4xx\""), 1);
    // Alice, the authority, the PoP and its service; and whoever asks for the numbers is one who is served.
    assert_eq!([number("keys_serve_certificates"), number("keys_serve_connections")], [4, 1]);
    let health = served.text("/healthz");
    assert_eq!(health, format!("ok {} entries", number("keys_serve_log_entries")));
}

fn prometheus_takes_the_numbers(sandbox: &Sandbox) {
    fleet(sandbox);
    let served = Served::start(sandbox);
    let numbers = sandbox.write("metrics", served.ask("GET", "/metrics", "").body);
    let mut check = Tool::Promtool.command();
    let checked = check.args(["check", "metrics"]).stdin(std::fs::File::open(numbers).unwrap());
    let checked = checked.output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", String::from_utf8_lossy(&checked.stderr));
}
