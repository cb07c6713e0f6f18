//! Who reads a secret is for policy and log to say: a seal for anybody else is void whoever signs it, and sharing between
//! PoPs has to be declared.

use std::collections::BTreeMap;
use std::sync::Arc;

use keys::digest::Digest;
use keys::name::MemberName;
use keys::ops;
use keys::state::State;
use keys::statement::{Act, RecipientSet};

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, tests};

tests!["recipients":
    a_seal_for_others_than_policy_and_log_name_is_void,
    sharing_between_pops_has_to_be_declared,
    secrets_with_the_same_readers_have_them_once_in_memory,
];

fn a_seal_for_others_than_policy_and_log_name_is_void(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    stage.join(sandbox, "ams1", &["nginx"]);
    let mut fleet = stage.prepared("alice");
    let plan = ops::plan_seal(&"nginx@fra1/tls.key".parse().unwrap(), &mut fleet).unwrap();
    let home = stage.homes[&member("alice")].clone();
    let draft = ops::seal(&plan, b"value", "sealed", None, &home, &mut fleet).unwrap();
    for object in &draft.objects {
        stage.keyring.stage(object).unwrap();
    }
    let Act::Seal(seals) = &draft.act else { panic!("{:?}", draft.act) };
    let mut replay = stage.replay();
    // What becomes of the very seal, signed by everybody, with another recipient set.
    let mut judge = |readers: BTreeMap<MemberName, Vec<String>>| {
        let set = RecipientSet::new(readers).to_bytes();
        stage.keyring.stage(&set).unwrap();
        let mut seals = seals.clone();
        seals[0].recipients = Digest::of(&set);
        let verdict = stage.judge(&mut replay, Act::Seal(seals), &["alice", "bob", "fra1", "casc1"]);
        (verdict.applied, verdict.void.first().map(|(_, why)| why.to_string()).unwrap_or_default())
    };
    let good = plan.recipients.readers.clone();
    assert_eq!(judge(good.clone()), (1, String::new()));

    let keys_of = |name: &str| fleet.state().encryption_keys(&member(name)).map(str::to_owned).collect::<Vec<_>>();
    for (stranger, why) in [
        ("nginx@ams1", "nginx@ams1 may not read it by the policy in force"),
        ("ams1", "ams1 may not read it by the policy in force"),
        ("fra1", "fra1 may not read it by the policy in force"),
    ] {
        let mut readers = good.clone();
        readers.insert(member(stranger), keys_of(stranger));
        let (applied, found) = judge(readers);
        assert!(applied == 0 && found.contains(why), "{stranger}: {found}");
    }
    let own = keys_of("nginx@fra1");
    let not_the_keys = "its recipient keys of nginx@fra1 are not the active and standby key that the log has";
    for keys in [keys_of("nginx@ams1"), own[..1].to_vec(), own[1..].to_vec(), [own, keys_of("ams1")].concat(), vec![]] {
        let mut readers = good.clone();
        readers.insert(member("nginx@fra1"), keys);
        let (applied, found) = judge(readers);
        assert!(applied == 0 && found.contains(not_the_keys), "{found}");
    }
}

fn sharing_between_pops_has_to_be_declared(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "nginx");
    let shared = "nginx@*/api-token";
    fleet
        .keys_with("alice", &["seal", shared], b"value")
        .refuses(1, "which policy/secrets.toml does not declare for it");
    let path = sandbox.path("fleet/policy/secrets.toml");
    let first = std::fs::read_to_string(&path).unwrap();
    let propose = |rule: &str| {
        std::fs::write(&path, format!("{first}\n[[secret]]\n{rule}\n")).unwrap();
        fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    };
    // A reader elsewhere is sharing, too.
    propose("match = \"nginx@fra1/*\"\nreaders = [\"nginx@ams1\"]");
    fleet
        .keys_with("alice", &["seal", "nginx@fra1/tls.key"], b"value")
        .refuses(1, "gives nginx@ams1, on another PoP, as a reader without declaring it shared");
    propose(&format!("match = \"{shared}\"\nshared = true"));
    fleet.seal(shared, "value");
    assert_eq!(fleet.keys("ams1", &["open", shared]).ok(), "value");
}

fn secrets_with_the_same_readers_have_them_once_in_memory(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    for address in ["nginx@fra1/a", "nginx@fra1/b", "fra1/c"] {
        stage.seal("alice", address, "the value");
    }
    let replay = stage.replay();
    let folded = replay.state().unwrap();
    let bytes = folded.to_bytes();
    let read = State::parse(&bytes, &stage.keyring).unwrap();
    assert!(read == *folded && read.to_bytes() == bytes);
    for state in [folded, &read] {
        let secret = |address: &str| &state.secrets[&address.parse().unwrap()];
        let live = |address: &str| secret(address).live.as_ref().unwrap();
        let (a, b, c) = (live("nginx@fra1/a"), live("nginx@fra1/b"), live("fra1/c"));
        assert!(Arc::ptr_eq(&a.readers, &b.readers) && Arc::ptr_eq(&a.exposed, &b.exposed));
        assert!(Arc::ptr_eq(&a.exposed, &secret("nginx@fra1/a").meant_for));
        assert!(a.readers != c.readers && a.exposed != c.exposed);
    }
    // What one of them becomes is nothing to the others.
    let mut changed = read.clone();
    let secret = Arc::make_mut(changed.secrets.get_mut(&"nginx@fra1/a".parse().unwrap()).unwrap());
    Arc::make_mut(&mut secret.live.as_mut().unwrap().readers).clear();
    assert_eq!(read.to_bytes(), bytes);
    assert_eq!(changed.secrets[&"nginx@fra1/b".parse().unwrap()], read.secrets[&"nginx@fra1/b".parse().unwrap()]);
}
