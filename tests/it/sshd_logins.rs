//! Logins without a pause while CAs and host keys change.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::sshd::{Site, Sshd};
use crate::support::{Ran, Sandbox, tests};

tests!["sshd_logins":
    two_hundred_logins_during_a_rotation_of_the_user_ca_and_none_is_refused needs [Sshd, Ssh, SshKeygen],
    a_reload_for_a_new_host_key_closes_the_door_for_a_moment needs [Sshd, Ssh, SshKeygen],
    a_week_without_the_ca_locks_nobody_out_of_the_hosts needs [SshKeygen, Faketime],
];

const LOGINS: usize = 200;

/// Old CA alone, both, new certificates, the old CA's taken back: at each step so many logins with what a person has then.
fn two_hundred_logins_during_a_rotation_of_the_user_ca_and_none_is_refused(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let before = site.certified("before", "alice", &[]);
    let (current, done, ended) = (Mutex::new(before.clone()), AtomicUsize::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let key: PathBuf = current.lock().unwrap().clone();
                        site.lets_in(&sshd, &key);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // So many more logins from here, or a client has failed.
        let more = |n: usize| {
            let until = done.load(Ordering::Relaxed) + n;
            while done.load(Ordering::Relaxed) < until && !clients.iter().any(|c| c.is_finished()) {
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        let steps = || {
            more(LOGINS / 5);
            site.fleet.keys("alice", &["rotate", "casc1", "--slot", "ssh-user-ca", "--yes"]).ok();
            site.fleet.settle(&["fra1"]);
            more(LOGINS / 5);
            // Both CAs are trusted, and before the node has its new files the new one is, too.
            let after = site.certified("after", "alice", &["--again"]);
            *current.lock().unwrap() = after;
            more(LOGINS / 5);
            for _ in 0..4 {
                site.render("fra1");
                more(LOGINS / 20);
            }
            let serial = serial_of(&site, "before");
            site.fleet.keys("alice", &["ssh", "revoke", &serial, "--yes"]).ok();
            site.render("fra1");
            more(LOGINS / 5);
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(steps));
        ended.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    let n = done.load(Ordering::Relaxed);
    eprintln!("sshd: {n} logins during a rotation of the user CA, 0 refused, in {:.0?}", began.elapsed());
    assert!(n >= LOGINS, "{n} logins");
    site.turns_away(&sshd, &before, "revoked");
}

fn serial_of(site: &Site<'_>, name: &str) -> String {
    let path = site.path(&format!("{name}-cert.pub")).display().to_string();
    let shown = site.fleet.keys("alice", &["ssh", "inspect", &path, "--json"]);
    shown.ok();
    shown.json()["serial"].to_string()
}

/// A host's new key needs a reload, during which sshd does not listen. How long, is printed.
fn a_reload_for_a_new_host_key_closes_the_door_for_a_moment(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    let key = site.certified("id", "alice", &[]);
    site.lets_in(&sshd, &key);
    site.fleet.keys("alice", &["rotate", "fra1", "--slot", "ssh-host", "--yes"]).ok();
    site.fleet.settle(&["fra1"]);
    site.render("fra1");
    let address: SocketAddr = format!("127.0.0.1:{}", sshd.port).parse().unwrap();
    let greeted = || {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut banner = [0; 4];
        stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-"
    };
    // It goes on with the old key as long as nobody reloads it.
    assert!(greeted());
    site.lets_in(&sshd, &key);
    let ended = AtomicBool::new(false);
    let (probes, holes) = std::thread::scope(|scope| {
        let probing = scope.spawn(|| {
            let (mut probes, mut holes, mut hole) = (0, Vec::new(), None);
            while !ended.load(Ordering::Relaxed) || hole.is_some() {
                probes += 1;
                match (greeted(), hole) {
                    (true, Some(since)) => {
                        holes.push(Instant::elapsed(&since));
                        hole = None;
                    }
                    (false, None) => hole = Some(Instant::now()),
                    _ => {}
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            (probes, holes)
        });
        for _ in 0..5 {
            let pid = sshd.process.id().to_string();
            Ran::of(std::process::Command::new("/bin/kill").args(["-HUP", &pid])).ok();
            std::thread::sleep(Duration::from_millis(400));
        }
        ended.store(true, Ordering::Relaxed);
        probing.join().unwrap()
    });
    let longest = holes.iter().max().copied().unwrap_or_default();
    eprintln!("sshd: 5 reloads, {probes} probes, {} holes, the longest {longest:.1?}", holes.len());
    assert!(longest < Duration::from_secs(10), "the door stays closed: {holes:?}");
    // It has the new key now, and who knows the CA knows the host.
    site.lets_in(&sshd, &key);
}

/// Hosts' certificates live 30 days and are renewed at half of that: a week without whoever has the CA, at any time, leaves
/// every host with a good one.
fn a_week_without_the_ca_locks_nobody_out_of_the_hosts(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    let days_left = |site: &Site<'_>| {
        site.render("fra1");
        let file = std::fs::read_dir(site.path("fra1/ssh")).unwrap().map(|f| f.unwrap().path());
        let certificate = file
            .filter(|p| p.to_string_lossy().ends_with("-cert.pub"))
            .max_by_key(|p| std::fs::metadata(p).unwrap().modified().unwrap());
        let path = certificate.unwrap().display().to_string();
        let shown = site.fleet.keys("alice", &["ssh", "inspect", &path, "--json"]);
        let until = shown.json()["valid_before"].as_str().unwrap().to_owned();
        keys::time::Time::parse(&until).unwrap()
    };
    let first = days_left(&site);
    // The worst day to go away is the one before the renewal, which is on the twelfth to the eighteenth.
    let mut renewed = None;
    for day in 11..=19 {
        sandbox.set_days_later(day);
        site.fleet.keys("alice", &["sync"]).ok();
        if days_left(&site) > first {
            renewed = Some(day);
            break;
        }
    }
    let renewed = renewed.expect("it is renewed by the nineteenth day");
    assert!((12..=19).contains(&renewed), "on day {renewed}");
    let worst = keys::time::Span::days(30 - u64::from(renewed));
    assert!(worst >= keys::time::Span::days(7), "{worst} are left when it is renewed");
}
