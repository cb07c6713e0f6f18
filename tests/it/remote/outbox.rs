//! What an agent hands in at its mirrors, and what mirrors take and give of what machines say.

use super::serving::Served;
use super::{fleet, id};
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["remote::outbox":
    what_a_machine_owes_and_says_goes_out_by_its_agent,
    an_acknowledgement_is_judged_before_it_is_kept,
    two_machines_with_one_members_keys_are_noticed,
    a_clock_that_is_ahead_does_not_silence_a_machine needs [Faketime],
    what_was_said_ahead_of_the_clock_stands_in_nobodys_way needs [Faketime],
];

/// One round of fra1's agent, in a directory of its own.
fn once(sandbox: &Sandbox) -> Ran {
    sandbox.keys(&["--fleet", "its", "--home", "fra1", "agent", "--once", "--run-dir", "run", "--hooks", "hooks.toml"])
}

/// A fleet that is served, and fra1, which has nothing of it but by pulling.
fn apart(sandbox: &Sandbox) -> (TestFleet<'_>, Served) {
    let fleet = fleet(sandbox);
    let served = Served::start(sandbox);
    let url = served.url();
    sandbox.keys(&["--fleet", "its", "--home", "fra1", "pull", "--from", &url, "--remember"]).ok();
    (fleet, served)
}

fn ack(sandbox: &Sandbox, directory: &str) -> Option<Vec<u8>> {
    std::fs::read(sandbox.path(directory).join("keyring/acks/fra1")).ok()
}

fn what_a_machine_owes_and_says_goes_out_by_its_agent(sandbox: &Sandbox) {
    let (fleet, served) = apart(sandbox);
    let entries = || fleet.keys("alice", &["status", "--nodes", "--json"]).json()["log"].as_u64().unwrap();
    let before = entries();
    sandbox.keys(&["--fleet", "its", "--home", "fra1", "rotate", "fra1", "--slot", "sign", "--yes"]).exits(4);
    let waits = || served.text("/v1/waiting");
    assert_eq!(waits(), "");
    let ran = once(sandbox);
    ran.ok();
    assert!(ran.stderr().contains("handed in at http://"), "{}", ran.stderr());
    assert!(waits().contains("/body"), "{}", waits());
    // It is handed in once; the mirror has it, and so has whoever reads there.
    let said = ack(sandbox, "its").expect("it has said something");
    assert_eq!(ack(sandbox, "fleet").as_ref(), Some(&said));
    fleet.keys("alice", &["approve", "--all", "--yes"]);
    fleet.keys("alice", &["sync"]).ok();
    assert!(entries() > before, "the log has what the machine has done");
    // What it owes for that comes next, until it owes nothing.
    let mut rounds = 0;
    while rounds == 0 || !waits().is_empty() {
        rounds += 1;
        assert!(rounds < 6, "{}", waits());
        fleet.keys("alice", &["approve", "--all", "--yes"]);
        fleet.keys("alice", &["sync"]).ok();
        once(sandbox).ok();
    }
    assert_eq!(std::fs::read_dir(sandbox.path("its/keyring/proposals")).map_or(0, Iterator::count), 0);
    // Somebody else who pulls from there sees what it has come to.
    let url = served.url();
    let ran = sandbox.keys(&["--fleet", "third", "--home", "carol", "pull", "--from", &url, "--pin", &id(&fleet)]);
    ran.ok();
    assert!(ran.stderr().contains("machines say more of themselves"), "{}", ran.stderr());
    let third =
        |args: &[&str]| sandbox.keys(&[&["--fleet", "third", "--home", "carol", "--pin", &id(&fleet)], args].concat());
    let nodes = third(&["status", "--nodes", "--json"]).json();
    assert_eq!(nodes["nodes"][0]["node"], "fra1", "{nodes}");
    assert!(nodes["nodes"][0]["ack"]["size"].as_u64() > Some(before), "{nodes}");
    let again = third(&["pull", "--from", &url]);
    again.ok();
    assert!(!again.stderr().contains("machines say"), "{}", again.stderr());
    // With the mirror away a round says so, and what is made meanwhile goes out with the next.
    drop(served);
    sandbox.keys(&["--fleet", "its", "--home", "fra1", "rotate", "fra1", "--slot", "sign", "--yes", "--soon"]);
    once(sandbox).refuses(3, "no mirror could be reached");
}

fn an_acknowledgement_is_judged_before_it_is_kept(sandbox: &Sandbox) {
    let (fleet, served) = apart(sandbox);
    once(sandbox).ok();
    let first = ack(sandbox, "fleet").unwrap();
    assert_eq!(served.post(&first).status, 200);
    let lines = || served.text("/v1/acks");
    let digest = keys::digest::Digest::of(&first).to_string();
    assert_eq!(lines(), format!("fra1 {digest}"));
    // Not a byte of it can be another.
    let text = first.windows(2).position(|two| two == b"\n\n").unwrap();
    for at in (0..text).step_by(text / 20).chain(first.len() - 60..first.len() - 52) {
        let mut other = first.clone();
        other[at] ^= 1;
        let status = served.post(&other).status;
        assert!([400, 403].contains(&status), "byte {at}: {status}");
        assert_eq!(ack(sandbox, "fleet").as_ref(), Some(&first));
    }
    let renamed = String::from_utf8(first.clone()).unwrap().replace("fra1", "casc1");
    assert_eq!(served.post(renamed.as_bytes()).status, 403);
    // An older one does not take the place of a newer, also when it comes by a mirror that is behind.
    fleet.seal("nginx@fra1/tls.key", "two");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    once(sandbox).ok();
    let second = ack(sandbox, "fleet").unwrap();
    assert_ne!(first, second);
    assert_eq!(served.post(&first).status, 200, "known already");
    assert_eq!(ack(sandbox, "fleet").as_ref(), Some(&second));
    sandbox.copy("fleet", "behind");
    sandbox.write("behind/keyring/acks/fra1", &first);
    sandbox.write("behind/keyring/acks/casc1", b"nobody has said this");
    let behind = sandbox.path("behind").display().to_string();
    let ran = fleet.keys("alice", &["pull", "--from", &behind]);
    ran.ok();
    assert!(ran.stderr().contains("its keyring/acks/casc1 is wrong"), "{}", ran.stderr());
    assert_eq!(ack(sandbox, "fleet").as_ref(), Some(&second));
    assert!(!sandbox.path("fleet/keyring/acks/casc1").exists());
    // Whoever has left says nothing any more.
    std::fs::remove_file(sandbox.path("fleet/keyring/acks/fra1")).unwrap();
    fleet.keys("alice", &["revoke", "fra1", "--reason", "retired", "--yes"]).ok();
    let answer = served.post(&second);
    assert_eq!(answer.status, 409, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(ack(sandbox, "fleet"), None);
    fleet.keys("alice", &["log", "verify"]).ok();
}

/// Both have the member's keys, and say so to one mirror.
fn two_machines_with_one_members_keys_are_noticed(sandbox: &Sandbox) {
    use keys::agent::{Ack, Boot};
    use keys::digest::Digest;
    use keys::time::Time;
    let (fleet, served) = apart(sandbox);
    once(sandbox).ok();
    let (said, _) = Ack::parse(&ack(sandbox, "its").unwrap()).unwrap();
    assert!(said.boot.is_some(), "this machine knows since when it runs");
    std::fs::remove_file(sandbox.path("fleet/keyring/acks/fra1")).unwrap();
    let now = said.at;
    // Seconds before, when it was started, and after, when it speaks.
    let says = |machine: &[u8], since: u64, at: u64| {
        let disk = keys::disk::RealFiles::open(&sandbox.path("its/keyring"), keys::disk::Access::Public).unwrap();
        let store = keys::store::Store::new(keys::disk::Disk::new(disk));
        let known = keys::fleet::Known::default();
        let mut opened = keys::fleet::Fleet::open(store, &known, now, &mut |_, _| {}).unwrap();
        let boot = Some(Boot { id: Digest::of(machine), since: Time(now.0 - since) });
        let ack = Ack { at: Time(now.0 + at), boot, ..said.clone() };
        let home = keys::home::Home::open(&sandbox.path("fra1")).unwrap();
        let mut signers = keys::ops::signers(&home, &mut opened, Some(&ack.member)).unwrap();
        let bytes = opened.sign_ack(&ack, &mut signers[0]).unwrap();
        assert_eq!(served.post(&bytes).status, 202);
    };
    let told = || {
        let nodes = fleet.keys("alice", &["status", "--nodes", "--json"]).json();
        let items = fleet.keys("alice", &["status"]).stdout();
        let of_nodes = nodes["nodes"][0]["matters"].to_string().contains("runs on two machines at once");
        assert_eq!(items.contains("COPIED"), of_nodes, "{items}");
        of_nodes
    };
    // One that was started again is still one.
    says(b"one", 20_000, 0);
    says(b"two", 800, 1);
    assert!(!told());
    // Then the first one speaks again.
    says(b"one", 20_000, 200);
    assert!(told());
    // Whichever speaks last; and both files are what they have to be.
    says(b"one", 20_000, 201);
    assert!(told());
    fleet.keys("alice", &["log", "verify"]).ok();
    let other = sandbox.path("fleet/keyring/acks/fra1~");
    let mut bytes = std::fs::read(&other).unwrap();
    assert_eq!(Ack::parse(&bytes).unwrap().0.boot.unwrap().id, Digest::of(b"two"));
    bytes[20] ^= 1;
    std::fs::write(&other, &bytes).unwrap();
    assert!(!told(), "what nobody has signed is no alarm");
    fleet.keys("alice", &["log", "verify"]).exits(3);
    bytes[20] ^= 1;
    std::fs::write(&other, &bytes).unwrap();
    assert!(told());
    // With the keys the alarm goes.
    fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
    assert!(!fleet.keys("alice", &["status"]).stdout().contains("COPIED"));
}

fn a_clock_that_is_ahead_does_not_silence_a_machine(sandbox: &Sandbox) {
    let (_fleet, served) = apart(sandbox);
    sandbox.set_days_later(2);
    let ran = once(sandbox);
    ran.exits(0);
    assert!(ran.stderr().contains("ahead of the clock"), "{}", ran.stderr());
    assert_eq!(ack(sandbox, "fleet"), None);
    drop(served);
}

/// It was shown as heard of "in 28530d", never stale, and no other could take its place.
fn what_was_said_ahead_of_the_clock_stands_in_nobodys_way(sandbox: &Sandbox) {
    let (fleet, served) = apart(sandbox);
    once(sandbox).ok();
    let right = ack(sandbox, "its").unwrap();
    sandbox.set_days_later(2);
    once(sandbox).ok();
    let ahead = ack(sandbox, "its").unwrap();
    assert_ne!(right, ahead);
    sandbox.set_days_later(0);
    sandbox.write("fleet/keyring/acks/fra1", &ahead);
    let node = || fleet.keys("alice", &["status", "--nodes", "--json"]).json()["nodes"][0].clone();
    let found = node();
    assert!(found["matters"][0].as_str().unwrap().contains("ahead of the clock here"), "{found}");
    assert_eq!(found["stale"], true);
    assert_eq!(served.post(&right).status, 202);
    assert_eq!(ack(sandbox, "fleet").as_ref(), Some(&right));
    assert_eq!(node()["matters"], serde_json::json!([]));
}
