//! The witness itself, over real HTTP on loopback and by file, for logs of our own and of somebody else's making.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use keys::home::Home;
use keys::log::witness::{AddCheckpoint, Refusal};
use keys::time::Time;
use keys::witness::{Witness, WitnessError};
use rand::SeedableRng as _;

use super::{Cosigner, ForeignLog, answer, converse, cosigned_at, watching};
use crate::remote::tls::{ask, certificate};
use crate::support::{Sandbox, TestFleet, tests};

tests!["witness::protocol":
    a_log_of_other_make_is_cosigned,
    every_wrong_request_has_its_status,
    a_log_that_forks_is_refused,
    what_was_recorded_survives_a_crash_before_the_answer,
    two_requests_at_once_are_one_after_the_other,
    slow_and_greedy_clients_are_let_go,
    a_keyring_is_cosigned_by_file,
    a_keyring_rolled_back_or_forked_is_not_cosigned,
    an_auditor_cosigns_what_it_has_replayed_and_nothing_else,
    a_cosigner_has_a_home_of_its_own,
    what_it_does_not_answer_it_refuses_by_the_head,
    a_witness_speaks_tls_and_takes_a_new_certificate needs [Openssl],
];

/// A witness that watches a log of other make.
fn text_of(checkpoint: &[u8]) -> String {
    let note = String::from_utf8(checkpoint.to_vec()).unwrap();
    note.split("\n\n").next().unwrap().to_owned() + "\n"
}

fn a_log_of_other_make_is_cosigned(sandbox: &Sandbox) {
    let mut log = ForeignLog::new(1);
    log.grow(&["a", "b", "c"]);
    let witness = watching(sandbox, &log);
    let served = witness.serve();
    let monitor = format!("/{}/checkpoint", keys::digest::Digest::of(log.origin.as_bytes()));
    assert_eq!(served.get(&monitor).0, 404, "nothing was cosigned yet");
    let before = crate::support::now();
    for (old, records) in [(0, &[][..]), (3, &["d", "e", "f", "g"]), (7, &[]), (7, &["h"])] {
        log.grow(records);
        let (status, _, line) = served.post(&log.request(old));
        assert_eq!(status, 200, "{line}");
        let at = cosigned_at(&witness.vkey, &text_of(&log.checkpoint("")), &line).expect("a cosignature");
        assert!(at >= before.0 && at <= before.0 + 100, "{at}");
        // What monitors get is a note by the log, and holds the very line.
        let (status, _, note) = served.get(&monitor);
        assert_eq!(status, 200);
        assert!(note.contains(&line) && note.starts_with(&String::from_utf8_lossy(&log.checkpoint("")).into_owned()));
    }
    // A checkpoint with extension lines is signed as it is.
    let body = [b"old 8\n\n".to_vec(), log.checkpoint("an extension\n")].concat();
    let (status, _, line) = served.post(&body);
    assert_eq!(status, 200, "{line}");
    let text = text_of(&log.checkpoint("an extension\n"));
    assert!(text.ends_with("an extension\n") && cosigned_at(&witness.vkey, &text, &line).is_some());
}

fn every_wrong_request_has_its_status(sandbox: &Sandbox) {
    let mut log = ForeignLog::new(1);
    log.grow(&["a", "b", "c"]);
    let served = watching(sandbox, &log).serve();
    assert_eq!(served.post(&log.request(0)).0, 200);
    log.grow(&["d"]);
    let good = String::from_utf8(log.request(3)).unwrap();

    let (status, head, body) = served.post(&log.request(2));
    assert_eq!((status, body.as_str()), (409, "3\n"));
    assert!(head.contains("Content-Type: text/x.tlog.size\r\n"), "{head}");
    let post = |body: &str| served.post(body.as_bytes()).0;
    assert_eq!(post(&good.replacen("old 3", "old 5", 1)), 400, "larger than the checkpoint");
    assert_eq!(post("nonsense"), 400);
    assert_eq!(post(&good.replacen("old 3\n", "old 3\nQUJD\n", 1)), 400, "no hash");
    assert_eq!(post(&good.replace(log.origin, "another.example/log")), 404);
    assert_eq!(post(&good.replacen("\n4\n", "\n5\n", 1)), 403, "another text than was signed");
    let mut forged = ForeignLog::new(9);
    forged.grow(&["a", "b", "c", "d"]);
    assert_eq!(served.post(&forged.request(3)).0, 403, "a stranger's key");
    let proof = good.lines().nth(1).unwrap();
    assert_eq!(post(&good.replacen(&format!("{proof}\n"), "", 1)), 422, "without its proof");
    assert_eq!(served.get("/add-checkpoint").0, 405);
    assert_eq!(served.get("/../key").0, 404);
    assert_eq!(converse(&served.address, b"PUT /add-checkpoint HTTP/1.1\r\nContent-Length: 0\r\n\r\n").0, 405);
    assert_eq!(post(&good), 200, "and after all of this the right one is taken");
}

/// The log signs two trees; the witness has cosigned one of them.
fn a_log_that_forks_is_refused(sandbox: &Sandbox) {
    let (mut one, mut two) = (ForeignLog::new(1), ForeignLog::new(1));
    one.grow(&["a", "b", "c"]);
    two.grow(&["a", "b", "x"]);
    let served = watching(sandbox, &one).serve();
    assert_eq!(served.post(&one.request(0)).0, 200);
    assert_eq!(served.post(&two.request(3)).0, 422, "the same size, another root");
    two.grow(&["d"]);
    assert_eq!(served.post(&two.request(3)).0, 422, "a larger tree over another past");
    assert_eq!(served.post(&two.request(0)).0, 409, "as if it were new here");
    one.grow(&["d"]);
    assert_eq!(served.post(&one.request(3)).0, 200);
}

fn what_was_recorded_survives_a_crash_before_the_answer(sandbox: &Sandbox) {
    let mut log = ForeignLog::new(1);
    log.grow(&["a", "b", "c"]);
    let witness = watching(sandbox, &log);
    let home = Home::open(&sandbox.path("w1")).unwrap();
    let request = |old| AddCheckpoint::parse(&log.request(old)).unwrap();
    let cosigner = Witness::open(&home).unwrap();
    // The answer never leaves the process, which ends here.
    let at = crate::support::now();
    let lost = cosigner.add(&request(0), at).unwrap();
    drop(cosigner);
    let served = witness.serve();
    assert_eq!(served.post(&log.request(0)).2, "3\n", "the log learns what was recorded");
    let (status, _, line) = served.post(&log.request(3));
    assert_eq!(status, 200);
    assert_ne!(line, "", "{lost:?}");
    // A record that was damaged is no record of nothing.
    drop(served);
    let record = sandbox.path("w1/witness/logs").join(keys::digest::Digest::of(log.origin.as_bytes()).to_string());
    std::fs::write(record.join("checkpoint"), "").unwrap();
    let refused = Witness::open(&home).unwrap().add(&request(0), at);
    assert!(matches!(refused, Err(WitnessError::Damaged { .. })), "{refused:?}");
    assert_eq!(witness.serve().post(&log.request(0)).0, 503);
}

/// Many clients send the two halves of a fork at the same time, in both orders: one half is cosigned, ever.
fn two_requests_at_once_are_one_after_the_other(sandbox: &Sandbox) {
    let (mut one, mut two) = (ForeignLog::new(1), ForeignLog::new(1));
    one.grow(&["a", "b", "c"]);
    two.grow(&["a", "b", "x"]);
    let served = watching(sandbox, &one).serve();
    let bodies = [one.request(0), two.request(0)];
    let statuses: Vec<(usize, u16)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|i| {
                (
                    i % 2,
                    scope.spawn({
                        let (served, bodies) = (&served, &bodies);
                        move || served.post(&bodies[i % 2]).0
                    }),
                )
            })
            .collect();
        clients.into_iter().map(|(which, c)| (which, c.join().unwrap())).collect()
    });
    let taken: Vec<_> = statuses.iter().filter(|(_, s)| *s == 200).collect();
    assert_eq!(taken.len(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|(_, s)| [200, 409].contains(s)), "{statuses:?}");
}

fn slow_and_greedy_clients_are_let_go(sandbox: &Sandbox) {
    let mut log = ForeignLog::new(1);
    log.grow(&["a"]);
    let served = watching(sandbox, &log).serve();
    // Forty clients that say half a word each; the places are few, and everybody else is told so at once.
    let mut idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(&served.address).unwrap()).collect();
    let turned_away = (0..100).find_map(|_| {
        let mut one = TcpStream::connect(&served.address).unwrap();
        one.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answer(&mut one).0));
        told.ok()
    });
    assert_eq!(turned_away, Some(503));
    let start = Instant::now();
    for client in &mut idle {
        // One that was turned away is closed already.
        let _ = client.write_all(b"POST /add-ch");
    }
    while start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(500));
        let body = log.request(0);
        let mut stream = TcpStream::connect(&served.address).unwrap();
        let head = format!("POST /add-checkpoint HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answer(&mut stream).0));
        if matches!(told, Ok(200)) {
            return;
        }
    }
    panic!("those who say nothing keep everybody else out");
}

fn by_file(sandbox: &Sandbox, home: &str) -> crate::support::Ran {
    sandbox.keys(&["--home", home, "--fleet", "fleet", "log", "witness", "sign"])
}

fn a_keyring_is_cosigned_by_file(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let witness = Cosigner::init(sandbox, "w1", false);
    by_file(sandbox, "w1").refuses(5, "does not watch");
    witness.watch();
    let mut sizes = Vec::new();
    for secret in ["fra1/one", "fra1/two", "fra1/three"] {
        fleet.seal(secret, "value");
        let ran = sandbox.keys(&["--home", "w1", "--fleet", "fleet", "--json", "log", "witness", "sign"]);
        ran.ok();
        sizes.push(ran.json()["size"].as_u64().unwrap());
        let file = std::fs::read_to_string(fleet.keyring(ran.json()["file"].as_str().unwrap())).unwrap();
        let text = text_of(file.as_bytes());
        let line = file.lines().last().unwrap();
        assert!(cosigned_at(&witness.vkey, &text, line).is_some(), "{file}");
        assert_eq!(text, text_of(&std::fs::read(fleet.keyring("log/checkpoint")).unwrap()));
    }
    assert!(sizes.is_sorted() && sizes[0] < sizes[2], "{sizes:?}");
}

fn a_keyring_rolled_back_or_forked_is_not_cosigned(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    Cosigner::init(sandbox, "w1", false).watch();
    let instead = |which: &str| sandbox.copy(which, "fleet");
    sandbox.copy("fleet", "old");
    sandbox.copy("alice", "alice-then");
    fleet.seal("fra1/one", "value");
    sandbox.copy("fleet", "new");
    by_file(sandbox, "w1").ok();
    // The same authority goes on from an old copy: another past, once shorter, once as long, once longer.
    instead("old");
    by_file(sandbox, "w1").refuses(3, "ROLLBACK");
    fleet.keys_with("alice-then", &["seal", "fra1/other"], b"value").ok();
    by_file(sandbox, "w1").refuses(3, "FORK");
    fleet.keys_with("alice-then", &["seal", "fra1/more"], b"value").ok();
    by_file(sandbox, "w1").refuses(3, "FORK");
    assert!(!fleet.keyring("log/cosignatures").exists(), "nothing was left");
    instead("new");
    by_file(sandbox, "w1").ok();
}

fn an_auditor_cosigns_what_it_has_replayed_and_nothing_else(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.seal("fra1/one", "value");
    let auditor = Cosigner::init(sandbox, "a1", true);
    auditor.watch();
    // A file of the keyring that no tile knows of.
    let sealed = fleet.keyring("sealed/fra1/one.pgp");
    let good = std::fs::read(&sealed).unwrap();
    std::fs::write(&sealed, b"changed").unwrap();
    by_file(sandbox, "a1").refuses(3, "sealed/fra1/one.pgp");
    std::fs::write(&sealed, good).unwrap();
    by_file(sandbox, "a1").ok();
    // By HTTP: the head that is sent has to be the one that it reads.
    let served = auditor.serve();
    let head = std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    let size = text_of(&head).lines().nth(1).unwrap().to_owned();
    let body = |head: &[u8]| [format!("old {size}\n\n").as_bytes(), head].concat();
    assert_eq!(served.post(&body(&head)).0, 200);
    std::fs::write(&sealed, b"changed").unwrap();
    assert_eq!(served.post(&body(&head)).0, 503);
    // Another fleet of the same name, in the same place: its log's key was never watched, and its id is not the pinned one.
    drop(served);
    std::fs::remove_dir_all(sandbox.path("fleet")).unwrap();
    fleet.keys("mallory", &["init", "cdn.example", "--operator", "Alice <alice@ops.example>"]).ok();
    assert_ne!(by_file(sandbox, "a1").code(), 0);
    let other = std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    let vkey = fleet.keys("mallory", &["log", "vkey"]).ok();
    let home = Home::open(&sandbox.path("a1")).unwrap();
    let cosigner = Witness::open(&home).unwrap();
    let watched = cosigner.watched("cdn.example/keys/1").unwrap().unwrap();
    // Even with that key trusted, what it replays is another fleet than the pinned one.
    let keys = vec![vkey.lines().next().unwrap().to_owned()];
    let fresh = Home::create(&sandbox.path("a2")).unwrap();
    let mut rng = rand::rngs::StdRng::from_seed([5; 32]);
    let second = Witness::init(&fresh, "a2", keys::policy::CosignerKind::Auditor, &mut rng).unwrap();
    second.watch(&keys::witness::Watched { keys, ..watched }).unwrap();
    let body = [b"old 0\n\n".to_vec(), other].concat();
    let refused = second.add(&AddCheckpoint::parse(&body).unwrap(), Time(crate::support::now().0));
    assert!(matches!(refused, Err(WitnessError::Fleet(_))), "{refused:?}");
    assert!(matches!(
        cosigner.add(&AddCheckpoint::parse(&body).unwrap(), crate::support::now()),
        Err(WitnessError::Refused(Refusal::Unsigned))
    ));
}

fn a_cosigner_has_a_home_of_its_own(sandbox: &Sandbox) {
    TestFleet::of_one(sandbox);
    sandbox.keys(&["--home", "alice", "log", "witness", "init", "--name", "w"]).refuses(1, "has one of its own");
    Cosigner::init(sandbox, "w1", false);
    sandbox.keys(&["--home", "w1", "log", "witness", "init", "--name", "w"]).refuses(1, "w1.example/c1 already");
    sandbox.keys(&["--home", "w2", "log", "witness", "init", "--name", "two words"]).refuses(1, "cannot name");
    sandbox.keys(&["--home", "w2", "log", "witness", "sign"]).refuses(5, "no cosigner's key");
    let key = std::fs::metadata(sandbox.path("w1/witness/key")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    Cosigner::init(sandbox, "a1", true);
    // An auditor without a fleet to read is none.
    let vkey = ForeignLog::new(1).vkey;
    let ran = sandbox.keys(&["--home", "a1", "--fleet", "nowhere", "log", "witness", "add-log", &vkey]);
    assert_ne!(ran.code(), 0);
    // Where there is no home at all, the command is named that makes a cosigner's.
    for verb in [&["add-log", &vkey][..], &["sign"], &["serve", "--listen", "127.0.0.1:0"]] {
        let ran = sandbox.keys(&[&["--home", "w3", "log", "witness"], verb].concat());
        ran.refuses(5, "hint: 'keys log witness init' makes a cosigner's");
    }
    // Who asks for a port that is taken is told so.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    sandbox.keys(&["--home", "w1", "log", "witness", "serve", "--listen", &address]).refuses(1, "cannot listen on");
}

fn what_it_does_not_answer_it_refuses_by_the_head(sandbox: &Sandbox) {
    let mut log = ForeignLog::new(1);
    log.grow(&["a"]);
    let witness = watching(sandbox, &log);
    let served = witness.serve();
    let monitor = format!("/{}/checkpoint", keys::digest::Digest::of(log.origin.as_bytes()));
    let body = log.request(0);
    let send = |method: &str, path: &str, body: &[u8]| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        converse(&served.address, &[head.as_bytes(), body].concat()).0
    };
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        for (what, body) in [("nothing", &[][..]), ("a request", &body)] {
            for path in ["/add-checkpoint", &monitor, "/", "/add-checkpoint/", "/x/checkpoint", "/v1/submit"] {
                let expected = match (method, path) {
                    ("POST", "/add-checkpoint") if body.is_empty() => 400,
                    ("POST", "/add-checkpoint") => continue,
                    (_, "/add-checkpoint") => 405,
                    ("GET" | "HEAD", _) if !body.is_empty() => 413,
                    _ => 404,
                };
                // Of a HEAD there is no body to wait for.
                if method != "HEAD" {
                    assert_eq!(send(method, path, body), expected, "{method} {path}, {what}");
                }
            }
        }
    }
    assert_eq!(served.get(&monitor).0, 404, "nothing was cosigned");
    assert_eq!(send("POST", "/add-checkpoint", &body), 200);
    assert_eq!(served.get(&monitor).0, 200);
}

fn a_witness_speaks_tls_and_takes_a_new_certificate(sandbox: &Sandbox) {
    let mut log = ForeignLog::new(1);
    log.grow(&["a", "b"]);
    let witness = watching(sandbox, &log);
    for (name, by) in [("ca", None), ("one", Some(("ca", "IP:127.0.0.1"))), ("two", Some(("ca", "IP:127.0.0.1")))] {
        certificate(sandbox, name, by);
    }
    let talk = std::fs::File::create(sandbox.path("talk")).unwrap();
    let served = witness.serve_with(&["--tls-cert", "one.pem", "--tls-key", "one.key"], talk);
    let asked = std::cell::Cell::new(0);
    let send = |version| {
        let body = log.request(asked.replace(log.size()));
        let length = body.len();
        let head = format!(
            "POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let (certificate, answer) = ask(sandbox, &served.address, &[head.as_bytes(), &body].concat(), version);
        let line = answer.rsplit("\r\n\r\n").next().unwrap().to_owned();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(cosigned_at(&witness.vkey, &text_of(&log.checkpoint("")), &line).is_some(), "{answer}");
        certificate
    };
    let first = send(&rustls::version::TLS13);
    assert_eq!(send(&rustls::version::TLS12), first);
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.child.id())).unwrap();
    assert!(status.lines().any(|l| l == "Seccomp:\t2"), "{status}");
    // The key first: for a moment the two do not fit each other, which is said, and what is served stays.
    for file in ["key", "pem"] {
        std::fs::copy(sandbox.path(&format!("two.{file}")), sandbox.path("new")).unwrap();
        std::fs::rename(sandbox.path("new"), sandbox.path(&format!("one.{file}"))).unwrap();
        if file == "key" {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !std::fs::read_to_string(sandbox.path("talk")).unwrap().contains("the old certificate is served on") {
                assert!(Instant::now() < deadline);
                assert_eq!(send(&rustls::version::TLS13), first);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while send(&rustls::version::TLS13) == first {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(200));
    }
    let serve = |more: &[&str]| {
        sandbox.keys(&[&["--home", "w1", "log", "witness", "serve", "--listen", "127.0.0.1:0"], more].concat())
    };
    serve(&["--tls-cert", "one.pem"]).refuses(2, "--tls-key");
    serve(&["--tls-cert", "one.pem", "--tls-key", "ca.key"]).refuses(1, "is not that of the first certificate");
}
