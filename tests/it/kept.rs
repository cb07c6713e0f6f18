//! What a home keeps of a replay: with it everything is as without it, and whatever is the matter with it is no matter.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Fleet, FleetError, Known, View};
use keys::home::Home;
use keys::log::checkpoint::Checkpoint;
use keys::log::note::Note;
use keys::name::Slot;
use keys::ops;
use keys::store::{Store, Target, append, root_at};
use keys::time::Span;

use crate::locks::{lifetime, tick};
use crate::snapshots::rich;
use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, tests};

tests!["kept":
    whoever_goes_on_from_anywhere_arrives_at_the_same,
    every_answer_is_the_same_with_it_and_without,
    it_is_used_and_a_verification_does_not_use_it,
    whatever_is_the_matter_with_it_everything_is_replayed,
    a_machine_still_notices_rollback_and_fork,
    a_machine_that_began_with_a_snapshot_says_so_ever_after,
];

/// A rich fleet in which besides a policy has waited for its time, and another one waits now.
pub(crate) fn richer(sandbox: &Sandbox) -> Stage {
    let mut stage = rich(sandbox);
    let locks = "[time-lock]\npolicy.update = \"1d\"\n\n[proposals]";
    stage.carry(|fleet, _| Stage::policy(fleet, "fleet.toml", |t| t.replacen("[proposals]", locks, 1)));
    stage.carry(|fleet, _| lifetime(fleet, 5));
    stage.later(Span::days(1));
    tick(&mut stage);
    stage.carry(|fleet, _| lifetime(fleet, 6));
    stage.later(Span::days(1));
    stage
}

/// What a home would have kept when the log had `size` entries.
fn kept_at(stage: &Stage, size: u64) -> Vec<u8> {
    let newest = stage.open();
    let sequencer = ops::sequencer(&stage.homes[&member("alice")], &newest).unwrap().unwrap();
    let root = root_at(&stage.keyring, size, newest.head().unwrap().checkpoint.size).unwrap();
    let checkpoint = Checkpoint { origin: newest.log().to_owned(), size, root };
    let text = checkpoint.to_text();
    let note = Note { signatures: vec![sequencer.sign(&text)], text };
    let view = View::At(Box::new((note, checkpoint)));
    let then = Fleet::open_view(stage.keyring.clone(), &Known::default(), stage.now, &mut |_, _| {}, view).unwrap();
    then.keep().unwrap()
}

/// All that a fleet says, in words.
pub(crate) fn said(fleet: &mut Fleet) -> BTreeMap<&'static str, String> {
    let void = fleet.void().iter().map(|v| {
        let why: Vec<_> = v.void.iter().map(|(i, why)| format!("{i}: {why}")).collect();
        format!("{:?}", (v.index, v.id, &v.signers, v.time, v.applied, v.locked, v.unlocked.len(), why))
    });
    let void = void.collect::<Vec<_>>().join("\n");
    let unlocked = fleet.unlocked().iter().map(|(by, u)| {
        let why: Vec<_> = u.void.iter().map(|(i, why)| format!("{i}: {why}")).collect();
        format!("{:?}", (by, u.id, &u.locked, why))
    });
    let unlocked = unlocked.collect::<Vec<_>>().join("\n");
    let published = fleet.published().unwrap();
    let published = format!("{:?}", (&published.note, &published.checkpoint, published.is_signed, published.lacks()));
    let head = fleet.head().unwrap();
    let head = format!("{:?}", (&head.note, &head.checkpoint, &head.edge, &head.bundle));
    BTreeMap::from([
        ("state", String::from_utf8(fleet.state().to_bytes()).unwrap()),
        ("logged", String::from_utf8(fleet.logged_state().to_bytes()).unwrap()),
        ("void", void),
        ("unlocked", unlocked),
        ("published", published),
        ("head", head),
        ("keys", format!("{:?}", fleet.every_log_key())),
        ("trust", format!("{:?}", fleet.trust())),
    ])
}

fn whoever_goes_on_from_anywhere_arrives_at_the_same(sandbox: &Sandbox) {
    let stage = richer(sandbox);
    let mut whole = stage.open();
    let size = whole.head().unwrap().checkpoint.size;
    let expected = said(&mut whole);
    assert!(whole.state() != whole.logged_state(), "a time lock has ended");
    assert_eq!((whole.unlocked().len(), whole.void().len()), (1, 2));
    for at in 1..=size {
        let known = Known { pin: Some(whole.pin().id), kept: Some(kept_at(&stage, at)), ..Known::default() };
        for view in [View::Newest, View::Published] {
            let mut fleet = Fleet::open_view(stage.keyring.clone(), &known, stage.now, &mut |_, _| {}, view).unwrap();
            assert_eq!(fleet.replayed(), size - at, "it went on from there");
            for (part, words) in said(&mut fleet) {
                assert!(words == expected[part], "{part}, from {at}: {words}");
            }
            // What it keeps in its turn is what is kept without it.
            assert!(fleet.keep() == whole.keep());
        }
        // Without a pin nothing says whose it is.
        let fleet = Fleet::open(stage.keyring.clone(), &Known { pin: None, ..known }, stage.now, &mut |_, _| {});
        assert_eq!(fleet.unwrap().replayed(), size);
    }
}

/// A fleet with a log so long that homes keep what it comes to.
pub(crate) fn long(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.join("ams1", "");
    for (address, value) in [("nginx@fra1/tls.key", "one"), ("nginx@fra1/tls.key", "two"), ("ams1/token", "three")] {
        fleet.seal(address, value);
    }
    fleet.settle(&["fra1", "ams1"]);
    lengthen(sandbox, "fleet", "alice", "nothing");
    fleet
}

/// Three hundred entries without effect, as only somebody with the log's key can make them.
fn lengthen(sandbox: &Sandbox, fleet: &str, home: &str, what: &str) {
    let keyring = RealFiles::open(&sandbox.path(fleet).join("keyring"), Access::Public).unwrap();
    let store = Store::new(Disk::new(keyring));
    let now = crate::support::now();
    let opened = Fleet::open(store.clone(), &Known::default(), now, &mut |_, _| {}).unwrap();
    let home = Home::open(&sandbox.path(home)).unwrap();
    let sequencer = ops::sequencer(&home, &opened).unwrap().unwrap();
    let entries = (0..300).map(|i| format!("{what} {i}").into_bytes()).collect();
    append(&store, opened.head(), opened.log(), entries, &sequencer, Target::Published).unwrap();
}

fn kept(sandbox: &Sandbox, who: &str) -> PathBuf {
    sandbox.path(who).join("replayed")
}

fn every_answer_is_the_same_with_it_and_without(sandbox: &Sandbox) {
    let fleet = long(sandbox);
    let questions: [&[&str]; 16] = [
        &["status"],
        &["approve"],
        &["ls"],
        &["who", "nginx@fra1/tls.key"],
        &["reach", "fra1"],
        &["open", "nginx@fra1/tls.key"],
        &["log", "show"],
        &["log", "show", "3"],
        &["log", "vkey"],
        &["log", "prove", "fra1"],
        &["policy", "show"],
        &["rotate", "fra1", "--dry-run"],
        &["revoke", "fra1", "--dry-run"],
        &["reseal", "--dry-run"],
        &["wg", "check"],
        &["log", "verify"],
    ];
    for who in ["alice", "fra1"] {
        for question in questions {
            let args = [question, &["--json"]].concat();
            let _ = std::fs::remove_file(kept(sandbox, who));
            let without = fleet.keys(who, &args);
            fleet.keys(who, &["status"]).ok();
            assert!(kept(sandbox, who).exists());
            let with = fleet.keys(who, &args);
            assert_eq!(with.code(), without.code(), "{who}: {args:?}\n{}{}", with.stderr(), without.stderr());
            assert_eq!(with.stdout(), without.stdout(), "{who}: {args:?}");
        }
    }
    // Also for whoever changes something; what it comes to is sound, and the same for all.
    fleet.seal("ams1/token", "four");
    fleet.keys("ams1", &["sync"]).ok();
    assert_eq!(fleet.keys("ams1", &["open", "ams1/token"]).stdout(), "four");
    fleet.keys("alice", &["rotate", "fra1", "--slot", "wireguard", "--yes"]).ok();
    fleet.settle(&["fra1", "ams1"]);
    fleet.keys("alice", &["log", "verify"]).ok();
    let status = |who: &str| fleet.keys(who, &["status", "--json"]).json();
    let with = status("fra1");
    std::fs::remove_file(kept(sandbox, "fra1")).unwrap();
    assert_eq!(status("fra1"), with);
}

fn it_is_used_and_a_verification_does_not_use_it(sandbox: &Sandbox) {
    use std::os::unix::fs::PermissionsExt as _;
    let fleet = long(sandbox);
    fleet.keys("fra1", &["status"]).ok();
    let mode = std::fs::metadata(kept(sandbox, "fra1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A change in what was replayed before is no matter for the next command, and one for a verification.
    let bundle = fleet.keyring("log/tile/entries/000");
    let whole = std::fs::read(&bundle).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&bundle, &changed).unwrap();
    fleet.keys("fra1", &["status"]).ok();
    fleet.keys("fra1", &["log", "verify"]).exits(3);
    std::fs::remove_file(kept(sandbox, "fra1")).unwrap();
    fleet.keys("fra1", &["status"]).exits(3);
    assert!(!kept(sandbox, "fra1").exists());
    std::fs::write(&bundle, &whole).unwrap();
    // A home without a pin keeps nothing, nor is one made.
    std::fs::create_dir(sandbox.path("visitor")).unwrap();
    std::fs::set_permissions(sandbox.path("visitor"), std::fs::Permissions::from_mode(0o700)).unwrap();
    fleet.keys("visitor", &["status"]).ok();
    assert!(!kept(sandbox, "visitor").exists());
}

fn whatever_is_the_matter_with_it_everything_is_replayed(sandbox: &Sandbox) {
    let fleet = long(sandbox);
    let answer = fleet.keys("fra1", &["status", "--json"]).ok();
    let path = kept(sandbox, "fra1");
    let whole = std::fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let again = |from: &str, to: &str| {
        // With a digest that is right: what was changed is looked at by itself.
        let (_, rest) = text.split_once('\n').unwrap();
        assert!(rest.contains(from), "{from}");
        let rest = rest.replacen(from, to, 1);
        format!("keys/replayed/v1 {}\n{rest}", keys::digest::Digest::of(rest.as_bytes())).into_bytes()
    };
    let size = text.split_once("\"size\":").unwrap().1.split(',').next().unwrap().to_owned();
    let root = text.split_once("\"root\":\"").unwrap().1.split('"').next().unwrap().to_owned();
    let mut cases = vec![
        ("empty", Vec::new()),
        ("cut short", whole[..whole.len() / 2].to_vec()),
        ("longer", [whole.as_slice(), b"\n"].concat()),
        ("another program's", again("\"program\":\"", "\"program\":\"9")),
        ("another size", again(&format!("\"size\":{size}"), "\"size\":7")),
        ("a size beyond the log", again(&format!("\"size\":{size}"), "\"size\":1000000")),
        ("another root", again(&root, &"00".repeat(32))),
        ("another form", again("{\"began\"", "{ \"began\"")),
        ("another version", text.replacen("v1", "v2", 1).into_bytes()),
        ("another fleet's", {
            let keys = |args: &[&str]| sandbox.keys(&[&["--fleet", "other", "--home", "eve"], args].concat()).ok();
            keys(&["init", "cdn.example", "--operator", "Eve <eve@ops.example>"]);
            lengthen(sandbox, "other", "eve", "something");
            keys(&["status"]);
            std::fs::read(kept(sandbox, "eve")).unwrap()
        }),
    ];
    for at in [0, 20, 90, 200, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        cases.push(("a bit", changed));
    }
    for (what, bytes) in cases {
        assert!(bytes != whole, "{what}");
        std::fs::write(&path, &bytes).unwrap();
        let ran = fleet.keys("fra1", &["status", "--json"]);
        assert_eq!(ran.ok(), answer, "{what}");
        assert!(std::fs::read(&path).unwrap() == whole, "{what}: it is made again");
    }
    // Nor does it matter what else lies in its place.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(fleet.keys("fra1", &["status", "--json"]).ok(), answer);
}

fn a_machine_still_notices_rollback_and_fork(sandbox: &Sandbox) {
    let fleet = long(sandbox);
    sandbox.copy("fleet", "earlier");
    fleet.seal("ams1/token", "newer");
    lengthen(sandbox, "fleet", "alice", "more");
    fleet.keys("fra1", &["status"]).ok();
    let at = |directory: &str, args: &[&str]| sandbox.keys(&[&["--fleet", directory, "--home", "fra1"], args].concat());
    at("earlier", &["status"]).refuses(3, "ROLLBACK");
    // Another branch, longer than what was seen.
    lengthen(sandbox, "earlier", "alice", "another");
    lengthen(sandbox, "earlier", "alice", "branch");
    at("earlier", &["status"]).refuses(3, "FORK");
    // Who has lost what was seen has lost that memory; what was kept does not stand in the way of going on.
    std::fs::remove_file(sandbox.path("fra1/seen")).unwrap();
    at("earlier", &["status"]).ok();
    at("earlier", &["log", "verify"]).ok();
    at("fleet", &["status"]).refuses(3, "ROLLBACK");
    // What was seen is compared also where it lies before what was kept.
    assert!(kept(sandbox, "fra1").exists());
    std::fs::copy(sandbox.path("fleet/keyring/log/checkpoint"), sandbox.path("fra1/seen")).unwrap();
    at("earlier", &["status"]).refuses(3, "FORK");
}

fn a_machine_that_began_with_a_snapshot_says_so_ever_after(sandbox: &Sandbox) {
    let mut stage = rich(sandbox);
    let made = stage.carry(|fleet, _| vec![ops::plan_snapshot("to begin with", fleet).unwrap().1]);
    assert!(matches!(made[..], [keys::fleet::Placed::Logged { .. }]), "{made:?}");
    let snapshot = stage.open().state().snapshot.clone().unwrap().snapshot;
    let pin = Some(stage.open().pin().id);
    let open = |stage: &Stage, snapshot, kept| {
        let known = Known { pin, snapshot, kept, ..Known::default() };
        Fleet::open(stage.keyring.clone(), &known, stage.now, &mut |_, _| {}).unwrap()
    };
    let begun = open(&stage, Some(snapshot.state), None);
    assert_eq!((begun.began(), begun.replayed()), (snapshot.size, 1));
    let kept = begun.keep();
    stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::Wireguard));
    let on = open(&stage, Some(snapshot.state), kept.clone());
    assert_eq!((on.began(), on.replayed()), (snapshot.size, 1));
    // Who is not told to begin there does not go on from what began there.
    let whole = open(&stage, None, kept);
    assert_eq!((whole.began(), whole.replayed()), (0, whole.head().unwrap().checkpoint.size));
    // Nor does a signer take it for a replay of her own.
    let known = Known { pin, kept: whole.keep(), ..Known::default() };
    let mut again = Fleet::open(stage.keyring.clone(), &known, stage.now, &mut |_, _| {}).unwrap();
    assert_eq!(again.replayed(), 0);
    let (_, draft) = ops::plan_snapshot("again", &again).unwrap();
    let home = &stage.homes[&member("alice")];
    let entries = stage.keyring.disk().walk("log/tile/entries").unwrap();
    let path = &entries.last().unwrap().0;
    let bytes = stage.keyring.disk().read(path, 1 << 24).unwrap().unwrap();
    stage.keyring.disk().remove(path).unwrap();
    let refused = ops::carry_out(home, &mut again, vec![draft], None).unwrap_err();
    let ops::OpsError::Fleet(FleetError::Store(_)) = refused else { panic!("{refused}") };
    stage.keyring.disk().replace(path, &bytes).unwrap();
}
