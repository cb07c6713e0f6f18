//! Whoever can write files in the keyring, and has nobody's keys: what they put among the proposals or in the log's next
//! place is never taken for anybody's word, and keeps nobody from working.

use keys::digest::Digest;
use keys::fleet::{FleetError, Placed, Standing};
use keys::log::commit::Commit;
use keys::log::merkle;
use keys::log::note::{SignatureLine, SignerKey};
use keys::name::Slot;
use keys::ops;
use keys::statement::{Act, Publish};
use keys::store::StoreError;

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, files_below, tests};

tests!["hardening::planted":
    junk_proposals_stand_in_nobodys_way,
    junk_signatures_keep_nobody_from_signing,
    an_unsigned_proposal_does_not_keep_its_subject_from_catching_up,
    only_the_logs_key_makes_a_commit,
    a_planted_commit_stops_only_whoever_would_publish_it,
];

fn two(sandbox: &Sandbox) -> Stage {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    stage.settle(&["fra1"]);
    stage
}

fn junk_proposals_stand_in_nobodys_way(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let smallest = "{\"act\":\"x\",\"x-a\":-9223372036854775808}\n";
    let bodies = ["garbage", "", smallest, "{\"act\":\"key.publish\"}\n", "[]\n", "{\"v\":1e400}\n", "\u{0}"];
    let ids: Vec<Digest> = bodies.iter().map(|body| stage.hand_in(body.as_bytes(), &[])).collect();
    // A body that is not what its name says, and what is no proposal at all.
    stage.keyring.disk().replace(&format!("proposals/{}/body", Digest::of(b"another")), b"not that").unwrap();
    stage.keyring.disk().replace("proposals/no-digest/body", b"garbage").unwrap();
    stage.keyring.disk().replace(&format!("proposals/{}/junk.sig", ids[0]), b"junk").unwrap();
    // Larger than anything that is ever written there; and what is no file.
    let large = vec![b'x'; 70_000];
    let real = Stage::proposed(&stage.act("alice", |fleet, _| Stage::rotation(fleet, "fra1", Slot::Openpgp)));
    for directory in [Digest::of(&large), real] {
        let place = sandbox.path(&format!("keyring/proposals/{directory}"));
        stage.keyring.disk().replace(&format!("proposals/{directory}/{}.sig", Digest::of(&large)), &large).unwrap();
        std::fs::create_dir_all(place.join("directory/in-it")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", place.join("a\\b")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", place.join(format!("{}.sig", Digest::of(b"zero")))).unwrap();
    }
    stage.keyring.disk().replace(&format!("proposals/{}/body", Digest::of(&large)), &large).unwrap();
    std::fs::create_dir_all(sandbox.path(&format!("keyring/proposals/{}/body", Digest::of(b"x")))).unwrap();
    std::fs::create_dir_all(sandbox.path(&format!("keyring/proposals/{}", Digest::of(b"empty")))).unwrap();
    let waiting: Vec<Digest> = stage.open().proposals().unwrap().iter().map(|p| p.signed.id).collect();
    assert_eq!(waiting, [real]);
    assert_eq!(stage.approve("bob", &real).unwrap(), Placed::HandedIn { id: real });
    for who in ["fra1", "alice", "bob", "alice"] {
        // As after a writer that died: tidying comes upon all of it, too.
        stage.keyring.disk().mark(".writing").unwrap();
        stage.sync(who);
    }
    assert!(stage.open().proposals().unwrap().is_empty(), "what was no junk was taken in");
    assert!(matches!(stage.seal("alice", "nginx@fra1/tls.key", "value")[..], [Placed::Logged { .. }]));
    assert_eq!(stage.opens("fra1", "nginx@fra1/tls.key"), "value");
    // Nobody will ever be able to read these; the next writer removes them.
    for id in ids {
        assert_eq!(stage.keyring.disk().read(&format!("proposals/{id}/body"), 99).unwrap(), None, "{id}");
    }
}

/// In the name of whoever is still to sign, of who has signed, of strangers; more of them than an entry holds.
fn junk_signatures_keep_nobody_from_signing(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let id = Stage::proposed(&stage.act("alice", |fleet, _| Stage::rotation(fleet, "fra1", Slot::Openpgp)));
    let mut other = stage.open().proposal(&id).unwrap().unwrap().signed.statement;
    other.reason = "another".to_owned();
    let elsewhere = stage.line(&stage.replay(), "bob", &other);
    stage.add_line(&id, &elsewhere);
    for i in 0..8_u8 {
        for name in ["bob", "alice", "casc1", "mallory", "bob/x"] {
            let line = SignatureLine { name: format!("cdn.example/{name}"), key_hash: [i; 4], signature: vec![i; 9] };
            stage.add_line(&id, &line);
        }
        let hash = elsewhere.key_hash;
        let name = "cdn.example/bob".to_owned();
        stage.add_line(&id, &SignatureLine { name, key_hash: hash, signature: vec![i; 9] });
    }
    let mut fleet = stage.open();
    let proposal = fleet.proposal(&id).unwrap().unwrap();
    let mut names: Vec<&str> = proposal.signatures.iter().map(|l| l.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cdn.example/alice", "cdn.example/casc1"], "those who have signed, in one home");
    assert_eq!(fleet.standing(&proposal).unwrap(), Standing::Lacks("1 more operator".to_owned()));
    let standby = fleet.state().members[&member("fra1")].slot(Slot::Openpgp).unwrap().standbys().next().unwrap();
    let standby = standby.key.clone();
    assert_eq!(stage.approve("bob", &id).unwrap(), Placed::HandedIn { id });
    stage.sync("alice");
    assert_eq!(stage.active_key("fra1", Slot::Openpgp), standby);
    let entries = stage.entries();
    let entry = entries.iter().rev().map(|e| keys::statement::Entry::parse(e).unwrap()).find(|e| e.signed.id == id);
    assert_eq!(entry.unwrap().signatures.len(), 3, "what was logged has no junk in it");
}

fn an_unsigned_proposal_does_not_keep_its_subject_from_catching_up(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::SshHost));
    assert!(!stage.has_standbys("fra1"));
    let found = stage.open().state().members[&member("fra1")].clone();
    let publish = Publish {
        cert: None,
        generation: found.generation + 1,
        keys: Vec::new(),
        member: member("fra1"),
        prev: found.prev,
    };
    let statement = stage.statement(&stage.replay(), "fra1", Act::Publish(vec![publish]));
    let body = statement.to_bytes().unwrap();
    let forged = SignatureLine { name: "cdn.example/fra1".into(), key_hash: [1; 4], signature: vec![1; 9] };
    stage.hand_in(&body, &[forged]);
    stage.sync("fra1");
    stage.sync("alice");
    assert!(stage.has_standbys("fra1"));
}

fn only_the_logs_key_makes_a_commit(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let head = stage.open().head().unwrap().clone();
    let path = format!("log/{}", Commit::path(head.checkpoint.size));
    let (mut edge, entry) = (head.edge.clone(), stage.entries().pop().unwrap());
    edge.push(merkle::leaf(&entry));
    let commit = Commit { old_size: head.checkpoint.size, new_root: edge.root(), entries: vec![entry] };
    let stranger = SignerKey::generate("cdn.example/keys/1", &mut stage.rng);
    let by_stranger = commit.to_bytes(&stranger);
    let end = by_stranger.windows(2).rposition(|w| w == b"\n\n").unwrap();
    let unsigned = by_stranger[..=end].to_vec();
    let published = || stage.keyring.disk().read("log/checkpoint", 9_999).unwrap();
    let before = published();
    for (planted, why) in [
        (b"garbage".to_vec(), "it is not a commit"),
        (unsigned, "it is not a commit"),
        (by_stranger, "is not signed by"),
    ] {
        stage.keyring.disk().replace(&path, &planted).unwrap();
        let mut fleet = stage.open();
        let sequencer = ops::sequencer(&stage.homes[&member("alice")], &fleet).unwrap().unwrap();
        let refused = fleet.prepare(Some(&sequencer)).unwrap_err();
        let FleetError::Store(StoreError::Damaged { path: named, problem }) = &refused else { panic!("{refused}") };
        assert!(*named == path && problem.contains(why), "{refused}");
        assert_eq!(published(), before, "nothing was published");
        assert!(stage.damaged().iter().all(|p| *p == path) && !stage.damaged().is_empty());
    }
    stage.keyring.disk().remove(&path).unwrap();
    stage.sync("alice");
    stage.is_sound();
}

fn a_planted_commit_stops_only_whoever_would_publish_it(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/k", "value");
    fleet.keys("alice", &["rotate", "fra1", "--slot", "ssh-host", "--yes"]).ok();
    let size = fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64().unwrap();
    let planted = fleet.keyring("log").join(Commit::path(size));
    std::fs::write(&planted, "garbage").unwrap();
    // A writer was interrupted, too, so the next one would tidy up.
    std::fs::write(fleet.keyring(".writing"), "").unwrap();
    let objects = files_below(&fleet.keyring("objects"));
    let synced = fleet.keys("fra1", &["sync"]);
    synced.ok();
    assert!(synced.stdout().contains("fra1: new ssh-host standby"), "{}", synced.stdout());
    assert!(objects.iter().all(|path| path.exists()), "nothing is removed while the log cannot be read whole");
    assert_eq!(fleet.keys("fra1", &["open", "nginx@fra1/k"]).ok(), "value");
    fleet.keys("alice", &["sync"]).refuses(3, &format!("log/{} is damaged", Commit::path(size)));
    fleet.keys("auditor", &["log", "verify"]).exits(3);
    std::fs::remove_file(planted).unwrap();
    fleet.keys("alice", &["sync"]).ok();
    fleet.keys("auditor", &["log", "verify"]).ok();
}
