//! Pulls that break: the disk that stops taking anything at each change in turn, as if it were full or the process had been
//! killed there; a mirror that goes away after each answer in turn, or never comes to an end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keys::digest::Digest;
use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Fleet, Known};
use keys::remote::{Mirror, MirrorError, Pull, PullError, Pulled, Want, open, pull_from};
use keys::store::Store;
use keys::time::Time;

use super::{assert_same, files, fleet, id};
use crate::support::faulty::Faulty;
use crate::support::{Sandbox, tests};

tests!["remote::broken":
    a_pull_that_dies_at_any_change_leaves_old_or_new,
    a_mirror_that_goes_away_leaves_what_was_there,
    a_mirror_that_does_not_come_to_an_end_is_left,
];

fn now() -> Time {
    Time::from_system(std::time::SystemTime::now())
}

fn pull(
    sandbox: &Sandbox,
    mirror: &str,
    pin: Option<Digest>,
    left: usize,
    patience: Duration,
) -> (Result<Pulled, PullError>, usize) {
    let left = Arc::new(AtomicUsize::new(left));
    let before = left.load(Ordering::Relaxed);
    let disk = |name: &str| {
        let path = sandbox.path("copy").join(name);
        std::fs::create_dir_all(&path).unwrap();
        Disk::new(Faulty::new(&path, &left))
    };
    let (keyring, laid) = (disk("keyring"), disk(".pull"));
    let known = Known { pin, ..Known::default() };
    let mirror = open(mirror).unwrap();
    let pull = Pull { keyring: &keyring, laid: &laid, known: &known, now: now(), want: Want::All, patience };
    let result = pull_from(&[mirror], &pull);
    (result, before - left.load(Ordering::Relaxed))
}

/// How many entries the copy has; it has to be sound, as old or as new.
fn size(sandbox: &Sandbox) -> u64 {
    let keyring = RealFiles::open(&sandbox.path("copy/keyring"), Access::Public).unwrap();
    let store = Store::new(Disk::new(keyring));
    let (report, fleet) = Fleet::verify(&store, &Known::default(), now(), &mut |_, _| {}).unwrap();
    let checkpoint =
        || String::from_utf8_lossy(&std::fs::read(sandbox.path("copy/keyring/log/checkpoint")).unwrap()).into_owned();
    assert!(report.is_sound(), "{:?} {:?}", report.problems, checkpoint());
    fleet.unwrap().head().unwrap().checkpoint.size
}

fn a_pull_that_dies_at_any_change_leaves_old_or_new(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let pin = Digest::parse(&id(&fleet));
    let mirror = sandbox.path("fleet").display().to_string();
    let patience = Duration::from_secs(600);
    pull(sandbox, &mirror, pin, usize::MAX, patience).0.unwrap();
    sandbox.copy("copy", "old");
    let old = size(sandbox);
    fleet.seal("nginx@fra1/tls.key", "two");
    fleet.seal("nginx@fra1/other", "three");
    let (pulled, changes) = pull(sandbox, &mirror, None, usize::MAX, patience);
    let new = pulled.unwrap().after;
    let whole = files(sandbox, "copy/keyring");
    assert!(changes > 40 && new > old, "{changes} {old} {new}");
    let (mut stayed, mut arrived) = (0, 0);
    for left in 0..changes {
        sandbox.copy("old", "copy");
        let (result, _) = pull(sandbox, &mirror, None, left, patience);
        // The last ones only tidy up.
        let failed = result.is_err();
        assert!(failed || left > changes / 2, "{left} of {changes}");
        let is_full = |e: &PullError| format!("{e}").contains("cannot");
        assert!(result.err().is_none_or(|e| is_full(&e)), "{left}");
        match size(sandbox) {
            size if size == old => stayed += 1,
            size if size == new => arrived += 1,
            size => panic!("{size} entries after {left} changes"),
        }
        // The next one goes on with what was laid down, and comes to the same.
        pull(sandbox, &mirror, None, usize::MAX, patience).0.unwrap();
        assert_same(&files(sandbox, "copy/keyring"), &whole, &format!("after {left} changes"));
    }
    eprintln!(
        "remote::broken: {changes} changes; {stayed} times the old keyring stayed, {arrived} times the new one was there"
    );
    assert!(stayed > 20 && arrived > 5, "{stayed} {arrived}");
}

/// What a test's own server does with a connection's requests.
#[derive(Clone, Copy)]
enum Way {
    /// Answers so many, in all, and then closes every connection.
    Answers(usize),
    /// Promises a file and sends a byte of it now and then.
    Drips,
}

/// Serves a directory in such a way, until the test's process ends; gives the URL and how many were answered.
fn server(root: PathBuf, way: Way) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (root, count) = (root.clone(), Arc::clone(&count));
            std::thread::spawn(move || converse(stream, &root, way, &count));
        }
    });
    (url, answered)
}

fn converse(mut stream: TcpStream, root: &std::path::Path, way: Way, answered: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut line = String::new();
        let mut path = None;
        while reader.read_line(&mut line).is_ok_and(|n| n > 0) && line != "\r\n" {
            path = path.or_else(|| line.strip_prefix("GET /")?.split(' ').next().map(str::to_owned));
            line.clear();
        }
        let Some(path) = path else { return };
        match way {
            Way::Answers(max) if answered.fetch_add(1, Ordering::SeqCst) >= max => return,
            Way::Answers(_) => {
                let found = std::fs::read(root.join(&path)).ok();
                let (status, body) = found.map_or(("404 Not Found", Vec::new()), |bytes| ("200 OK", bytes));
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() {
                    return;
                }
            }
            Way::Drips => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
                while stream.write_all(b"x").is_ok() {
                    answered.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(100));
                }
                return;
            }
        }
    }
}

fn a_mirror_that_goes_away_leaves_what_was_there(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let pin = Digest::parse(&id(&fleet));
    let patience = Duration::from_secs(600);
    let root = sandbox.path("fleet");
    let mirror = root.display().to_string();
    pull(sandbox, &mirror, pin, usize::MAX, patience).0.unwrap();
    sandbox.copy("copy", "old");
    let before = files(sandbox, "copy/keyring");
    fleet.seal("nginx@fra1/tls.key", "two");
    fleet.keys("alice", &["rotate", "nginx@fra1", "--yes"]);
    fleet.settle(&["fra1"]);
    // A plain file server, which knows nothing of keys, is a mirror.
    let (url, answered) = server(root.clone(), Way::Answers(usize::MAX));
    let pulled = pull(sandbox, &url, None, usize::MAX, patience).0.unwrap();
    let all = answered.load(Ordering::SeqCst);
    let whole = files(sandbox, "copy/keyring");
    assert!(pulled.after > pulled.before && all > 8, "{all}");
    sandbox.copy("old", "copy");
    let mut went_on = 0;
    for max in 0..all {
        let (url, _) = server(root.clone(), Way::Answers(max));
        match pull(sandbox, &url, None, usize::MAX, patience).0 {
            Err(PullError::Nowhere(faults)) => {
                let is_away = |f: &keys::remote::Fault| matches!(f.error, MirrorError::Unreachable(_));
                assert!(faults.iter().all(is_away), "{max}: {faults:?}");
                assert_same(&files(sandbox, "copy/keyring"), &before, &format!("{max}"));
            }
            // What was brought by the ones before need not be brought again.
            Ok(pulled) => {
                assert!(pulled.after > pulled.before && max > 3, "{max}");
                went_on += 1;
                sandbox.copy("old", "copy");
            }
            Err(e) => panic!("{max}: {e}"),
        }
    }
    assert!(went_on > 0, "a pull goes on where one before it was left");
    pull(sandbox, &mirror, None, usize::MAX, patience).0.unwrap();
    assert_same(&files(sandbox, "copy/keyring"), &whole, "the keyring");
}

fn a_mirror_that_does_not_come_to_an_end_is_left(sandbox: &Sandbox) {
    let (url, dripped) = server(sandbox.root().to_owned(), Way::Drips);
    let begun = Instant::now();
    let result = pull(sandbox, &url, Some(Digest::of(b"x")), usize::MAX, Duration::from_secs(2)).0;
    let Err(PullError::Nowhere(faults)) = result else { panic!("{result:?}") };
    assert_eq!(faults.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(dripped.load(Ordering::SeqCst) > 5, "it was sending all the time");
    // So is one that listens and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let begun = Instant::now();
    assert!(pull(sandbox, &url, Some(Digest::of(b"x")), usize::MAX, Duration::from_secs(1)).0.is_err());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let mut taken = silent.accept().unwrap().0;
    let mut asked = [0; 4];
    taken.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"GET ");
    // What a mirror may be called is looked at before anybody is asked.
    for address in ["ftp://x", "http://", "http://user:word@x/", "https://x/?y", "http://x y/"] {
        assert!(matches!(open(address).map(|m| Mirror::name(m.as_ref())), Err(MirrorError::Address(_))), "{address}");
    }
}
