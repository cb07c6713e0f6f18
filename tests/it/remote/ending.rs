//! How a server ends: by a signal, after it has answered; by a second one, at once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use keys::digest::Digest;
use keys::disk::{Access, Disk, RealFiles};

use super::fleet;
use super::serving::{Served, request};
use crate::support::{Sandbox, tests};

tests!["remote::ending":
    told_to_end_it_first_answers_whoever_has_asked,
    told_twice_it_ends_at_once,
];

fn told_to_end_it_first_answers_whoever_has_asked(sandbox: &Sandbox) {
    let _fleet = fleet(sandbox);
    let request = request(sandbox, "sin1");
    let mut served = Served::start(sandbox);
    // Whoever has asked for nothing is not waited for.
    let _idle = TcpStream::connect(&served.address).unwrap();
    let keyring = Disk::new(RealFiles::open(&sandbox.path("fleet/keyring"), Access::Public).unwrap());
    let lock = keyring.try_lock().unwrap().unwrap();
    let status = std::thread::scope(|scope| {
        let answer = scope.spawn(|| served.post(&request).status);
        std::thread::sleep(Duration::from_millis(1_500));
        let id = rustix::process::Pid::from_child(&served.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        drop(lock);
        answer.join().unwrap()
    });
    assert_eq!(status, 202);
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
    let path = format!("fleet/keyring/proposals/requests/{}.request", Digest::of(&request));
    assert_eq!(std::fs::read(sandbox.path(&path)).unwrap(), request);
    // With nobody there it ends at once, by SIGINT too.
    let mut served = Served::start(sandbox);
    let id = rustix::process::Pid::from_child(&served.child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let begun = Instant::now();
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

fn told_twice_it_ends_at_once(sandbox: &Sandbox) {
    let _fleet = fleet(sandbox);
    let keyring = Disk::new(RealFiles::open(&sandbox.path("fleet/keyring"), Access::Public).unwrap());
    let mut served = Served::start(sandbox);
    let lock = keyring.try_lock().unwrap().unwrap();
    let other = request(sandbox, "nyc1");
    std::thread::scope(|scope| {
        let (address, other) = (served.address.clone(), &other);
        scope.spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let head = format!("POST /v1/submit HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", other.len());
            stream.write_all(&[head.as_bytes(), other].concat()).unwrap();
            // The end of the connection, without an answer.
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
        });
        std::thread::sleep(Duration::from_millis(1_500));
        let id = rustix::process::Pid::from_child(&served.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert!(served.child.try_wait().unwrap().is_none(), "somebody waits for an answer");
        let begun = Instant::now();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert_eq!(served.child.wait().unwrap().code(), Some(1));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    });
    drop(lock);
}
