//! The state as bytes: the same from whichever entry a replay goes on, and never two spellings of one.

use std::path::Path;

use keys::disk::{Access, Disk, RealFiles};
use keys::name::Slot;
use keys::ops;
use keys::state::{Replay, State, StateError};
use keys::statement::{Act, Destroy, RetireReason};
use keys::store::{LogReader, Store, Target, append, read_checkpoint};

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, tests};

tests!["snapshots":
    the_example_fleet_goes_on_from_every_state_of_its_past,
    a_rich_fleet_goes_on_from_every_state_of_its_past,
    a_state_has_one_spelling,
    a_state_needs_the_policy_that_it_names,
];

/// A fleet in whose log every part of a state has something: secrets sealed, resealed and removed, keys rotated and
/// destroyed, members that left, were robbed and came again, SSH certificates issued and revoked, another policy, and
/// entries that are void, wholly or in part.
pub(crate) fn rich(sandbox: &Sandbox) -> Stage {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    stage.join(sandbox, "ams1", &[]);
    stage.settle(&["fra1", "ams1", "bob"]);
    for (address, value) in [("nginx@fra1/tls.key", "one"), ("nginx@fra1/tls.key", "two"), ("ams1/token", "three")] {
        stage.seal("alice", address, value);
    }
    stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::Wireguard));
    stage.settle(&["fra1", "ams1", "bob"]);
    stage.carry(|fleet, _| {
        Stage::policy(fleet, "fleet.toml", |text| text.replace("wireguard = \"30d\"", "wireguard = \"31d\""))
    });
    stage.carry(|fleet, _| vec![ops::plan_remove(&"ams1/token".parse().unwrap(), "no longer used", fleet).unwrap()]);
    stage.carry(|fleet, home| {
        vec![ops::plan_revoke(&member("ams1"), RetireReason::Compromised, home, fleet).unwrap().draft("stolen")]
    });
    stage.homes.remove(&member("ams1"));
    std::fs::remove_dir_all(sandbox.path("home-ams1")).unwrap();
    stage.join(sandbox, "ams1", &[]);
    stage.settle(&["fra1", "ams1", "bob"]);
    stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::Sign));
    partly_void(&mut stage);
    stage
}

/// Two entries such as only a log that went wrong has: one that cannot be read, and one of which half is void.
fn partly_void(stage: &mut Stage) {
    let fleet = stage.prepared("alice");
    let sequencer = ops::sequencer(&stage.homes[&member("alice")], &fleet).unwrap().unwrap();
    // The old signing key is deactivated, and can be reported as destroyed; the new one cannot.
    let keys = &fleet.state().members[&member("fra1")].slot(Slot::Sign).unwrap().keys;
    let changes = keys.iter().take(2).map(|k| Destroy { key: k.key.clone(), member: member("fra1"), slot: Slot::Sign });
    let changes = changes.collect();
    let replay = stage.replay();
    let statement = stage.statement(&replay, "fra1", Act::Destroy(changes));
    let line = stage.line(&replay, "fra1", &statement);
    let entries = vec![b"no entry".to_vec(), Stage::entry(&statement, vec![line])];
    append(&stage.keyring, fleet.head(), fleet.log(), entries, &sequencer, Target::Published).unwrap();
    fleet.done();
}

/// Replays from zero, and from each state on the way to the end: verdicts, states and digests are the same.
fn goes_on(log: &str, objects: &Store, entries: &[Vec<u8>]) -> State {
    let mut from_zero = Replay::new(log.to_owned(), objects.clone());
    let mut past = Vec::new();
    let mut verdicts = Vec::new();
    for entry in entries {
        verdicts.push(from_zero.apply(entry).unwrap());
        past.push(from_zero.state().unwrap().clone());
    }
    for (size, then) in (1..).zip(&past) {
        let bytes = then.to_bytes();
        let read = State::parse(&bytes, objects).unwrap();
        assert_eq!(read, *then, "size {size}");
        assert_eq!((read.size, read.digest()), (size, keys::digest::Digest::of(&bytes)));
        let mut replay = Replay::resume(read, objects.clone());
        let size = usize::try_from(size).unwrap();
        for (at, entry) in entries.iter().enumerate().skip(size) {
            assert_eq!(replay.apply(entry).unwrap(), verdicts[at], "entry {at} from size {size}");
        }
        assert_eq!(replay.state(), past.last(), "from size {size}");
        assert_eq!(replay.size(), entries.len() as u64);
    }
    // Each entry changes the state, its size if nothing else.
    let digests: std::collections::BTreeSet<_> = past.iter().map(State::digest).collect();
    assert_eq!(digests.len(), entries.len());
    past.pop().unwrap()
}

fn the_example_fleet_goes_on_from_every_state_of_its_past(_: &Sandbox) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("keyring");
    let store = Store::new(Disk::new(RealFiles::open(&path, Access::Public).unwrap()));
    let (_, checkpoint) = read_checkpoint(&store).unwrap();
    let mut reader = LogReader::new(&store, checkpoint.size);
    let mut entries = Vec::new();
    while let Some((_, more)) = reader.next_bundle().unwrap() {
        entries.extend(more);
    }
    goes_on(&checkpoint.origin, &store, &entries);
}

fn a_rich_fleet_goes_on_from_every_state_of_its_past(sandbox: &Sandbox) {
    let stage = rich(sandbox);
    let last = goes_on("cdn.example/keys/1", &stage.keyring, &stage.entries());
    // What is empty here would not be tested.
    assert!(last.members.len() > 4 && last.policy.version == 2 && !last.former.is_empty());
    assert!(last.secrets.values().any(|s| s.live.is_none()) && last.live_secrets().next().is_some());
    assert!(!last.mesh.quarantined.is_empty() && !last.issued.is_empty() && !last.revoked_serials.is_empty());
    assert!(!last.done.is_empty() && !last.signing.is_empty() && !last.material.is_empty());
    assert!(last.members.values().any(|m| m.slots.values().any(|s| s.keys.iter().any(|k| k.ended.is_some()))));
    let fleet = stage.open();
    let partly: Vec<_> = fleet.void().iter().map(|v| (v.applied, v.void.len())).collect();
    assert_eq!(partly, [(0, 1), (1, 1)], "{:?}", fleet.void());
}

fn a_state_has_one_spelling(sandbox: &Sandbox) {
    let stage = rich(sandbox);
    let bytes = stage.open().state().to_bytes();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert_eq!(State::parse(&bytes, &stage.keyring).unwrap(), *stage.open().state());
    for (from, to) in [
        ("{\"done\":", "{ \"done\":"),
        (",\"v\":1}", ",\"v\":1,\"w\":1}"),
        (",\"v\":1}\n", ",\"v\":1}"),
        (",\"v\":1}\n", ",\"v\":1}\n\n"),
        // Fields that nothing would read, a set in another order or with something twice, an absent field that is spelled out.
        ("\"enrolled\":", "\"enroled\":0,\"enrolled\":"),
        ("\"generation\":1,", "\"generation\":1,\"generatiom\":1,"),
        ("\"meant_for\":[\"alice\",\"bob\"", "\"meant_for\":[\"bob\",\"alice\""),
        ("\"meant_for\":[\"alice\",\"bob\"", "\"meant_for\":[\"alice\",\"alice\",\"bob\""),
        ("\"cert_expires\":\"20", "\"cert_expires\":\"+20"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let changed = text.replacen(from, to, 1);
        assert!(State::parse(changed.as_bytes(), &stage.keyring).is_err(), "{to}");
    }
    let later = text.replacen(",\"v\":1}", ",\"v\":2}", 1);
    let refused = State::parse(later.as_bytes(), &stage.keyring).unwrap_err();
    assert!(matches!(refused, StateError::Version(2)), "{refused}");
    // Cut short or changed anywhere: never a panic, and what is read is what was written.
    for i in (0..bytes.len()).step_by(331) {
        assert!(State::parse(&bytes[..i], &stage.keyring).is_err(), "{i} bytes");
        let mut changed = bytes.clone();
        changed[i] ^= 1;
        if let Ok(read) = State::parse(&changed, &stage.keyring) {
            assert_eq!(read.to_bytes(), changed, "byte {i}");
        }
    }
}

fn a_state_needs_the_policy_that_it_names(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice"]);
    let state = stage.open().state().clone();
    let named = state.policy.files["ssh.toml"];
    let other = state.policy.files["fleet.toml"];
    let text = String::from_utf8(state.to_bytes()).unwrap();
    let refused = |text: &str| State::parse(text.as_bytes(), &stage.keyring).unwrap_err();
    assert!(matches!(refused(&text.replace(&named.to_string(), &other.to_string())), StateError::Policy(_)));
    stage.keyring.disk().remove(&keys::store::object_path(&named)).unwrap();
    assert!(matches!(refused(&text), StateError::Object(_)));
}
