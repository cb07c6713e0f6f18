//! What counts, and what does not: quorums, keys and times, judged by replay. The ways in which relatives of this design
//! have counted wrongly (python-tuf, tough, rust-tuf, php-tuf, go-tuf, cosign) are here one by one.

use std::collections::BTreeSet;

use keys::digest::Digest;
use keys::fleet::{Draft, Placed};
use keys::log::note::SignatureLine;
use keys::name::{Kind, Slot};
use keys::ops::{self, Selection};
use keys::ssh::{SshPrivateKey, SshPublicKey};
use keys::state::{KeyState, Objects as _, Replay, Void};
use keys::statement::{Act, Activate, Enroll, PolicyUpdate, Publish, PublishedKey, Remove, Retire, RetireReason};
use keys::store::Store;
use keys::time::{LATEST, Span, Time};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::support::stage::{Stage, id_of, member};
use crate::support::{Sandbox, tests};

tests!["replay":
    a_quorum_of_two_needs_two_people,
    the_same_signature_twice_counts_once,
    two_keys_of_one_member_count_once,
    a_key_that_is_not_active_does_not_count,
    a_signature_for_another_log_or_name_does_not_count,
    a_changed_statement_carries_no_signature,
    one_operator_cannot_join_under_a_second_name,
    an_authority_that_too_few_vouch_for_does_not_count,
    a_service_is_no_word_for_another_pops_service,
    entries_do_not_work_twice,
    an_old_policy_an_old_intent_and_an_expired_one_are_void,
    a_signature_cannot_move_time,
    the_dead_do_not_sign,
    nobody_can_be_left_without_a_quorum,
    a_policy_that_would_lock_everybody_out_is_void,
    what_is_void_has_no_effect,
    the_same_log_gives_the_same_state_in_ten_years,
    a_name_that_comes_back_keeps_its_compromised_keys,
    a_ca_key_is_one_that_the_policy_names_where_it_names_them,
];

fn rotation(replay: &Replay<Store>, who: &str, slot: Slot) -> Act {
    let keys = replay.state().unwrap().members[&member(who)].slot(slot).unwrap();
    let standby = keys.standbys().next().unwrap().key.clone();
    Act::Activate(vec![Activate {
        generation: keys.generation + 1,
        key: standby,
        member: member(who),
        prev: keys.prev,
        slot,
    }])
}

#[track_caller]
fn lacks(verdict: &keys::state::Verdict, missing: &str) {
    let found = verdict
        .void
        .iter()
        .find_map(|(_, v)| if let Void::Quorum { missing, .. } = v { Some(missing.clone()) } else { None });
    assert_eq!((verdict.applied, found.as_deref()), (0, Some(missing)), "{verdict:?}");
}

fn two(sandbox: &Sandbox) -> (Stage, Replay<Store>) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    let replay = stage.replay();
    (stage, replay)
}

fn a_quorum_of_two_needs_two_people(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    let act = rotation(&replay, "fra1", Slot::Openpgp);
    lacks(&stage.judge(&mut replay, act.clone(), &["alice"]), "1 more operator");
    lacks(&stage.judge(&mut replay, act.clone(), &["fra1"]), "2 more operators");
    lacks(&stage.judge(&mut replay, act.clone(), &["alice", "casc1", "fra1"]), "1 more operator");
    assert_eq!(stage.judge(&mut replay, act, &["alice", "bob"]).applied, 1);
}

fn the_same_signature_twice_counts_once(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    let statement = stage.statement(&replay, "alice", rotation(&replay, "fra1", Slot::Openpgp));
    let line = stage.line(&replay, "alice", &statement);
    // The same line; another signature by the same key; the same signature with other unsigned bytes.
    let again = stage.line_by(
        "alice",
        &replay.state().unwrap().members[&member("alice")].active(Slot::Sign).unwrap().key.clone(),
        &statement,
        statement.at.plus(Span(1)),
    );
    let verdict = replay.preview(&Stage::entry(&statement, vec![line.clone(), line, again])).unwrap();
    lacks(&verdict, "1 more operator");
    assert_eq!(verdict.signers, BTreeSet::from([member("alice")]));
}

fn two_keys_of_one_member_count_once(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    let statement = stage.statement(&replay, "alice", rotation(&replay, "fra1", Slot::Openpgp));
    let keys: Vec<String> = replay.state().unwrap().members[&member("alice")]
        .slot(Slot::Sign)
        .unwrap()
        .usable()
        .map(|k| k.key.clone())
        .collect();
    assert_eq!(keys.len(), 2, "an active and a standby signing key");
    let mut lines: Vec<SignatureLine> =
        keys.iter().map(|k| stage.line_by("alice", k, &statement, statement.at)).collect();
    // And under bob's name: the line says bob, the key is alice's.
    let mut forged = lines[0].clone();
    forged.name = "cdn.example/bob".into();
    lines.push(forged);
    lacks(&replay.preview(&Stage::entry(&statement, lines)).unwrap(), "1 more operator");
}

fn a_key_that_is_not_active_does_not_count(sandbox: &Sandbox) {
    let (mut stage, replay) = two(sandbox);
    let keys = replay.state().unwrap().members[&member("bob")].slot(Slot::Sign).unwrap().clone();
    let (old, standby) = (keys.active().unwrap().key.clone(), keys.standbys().next().unwrap().key.clone());
    let statement = stage.statement(&replay, "alice", rotation(&replay, "fra1", Slot::Openpgp));
    let old_line = stage.line_by("bob", &old, &statement, statement.at);
    let with = |stage: &Stage, replay: &mut Replay<Store>, line: SignatureLine| {
        let alice = stage.line(replay, "alice", &statement);
        replay.preview(&Stage::entry(&statement, vec![alice, line])).unwrap()
    };
    let mut before = stage.replay();
    lacks(&with(&stage, &mut before, stage.line_by("bob", &standby, &statement, statement.at)), "1 more operator");
    assert_eq!(with(&stage, &mut before, old_line.clone()).applied, 1);
    // bob's key is rotated; what the old one signed, however it is dated, is no signature any more.
    stage.carry(|fleet, _| {
        let selection =
            Selection { members: Some("bob".parse().unwrap()), slot: Some(Slot::Sign), due: false, soon: true };
        ops::plan_rotate(&selection, fleet.state(), fleet.now()).unwrap().drafts("drill")
    });
    let mut after = stage.replay();
    lacks(&with(&stage, &mut after, old_line), "1 more operator");
    lacks(
        &with(&stage, &mut after, stage.line_by("bob", &old, &statement, Time(statement.at.0 - 200))),
        "1 more operator",
    );
}

fn a_signature_for_another_log_or_name_does_not_count(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    let act = rotation(&replay, "fra1", Slot::Openpgp);
    let statement = stage.statement(&replay, "alice", act);
    let mut elsewhere = statement.clone();
    elsewhere.log = "other.example/keys/1".into();
    let good = stage.line(&replay, "bob", &statement);
    // bob's signature over the same statement for another log, put under this one.
    let foreign = stage.line(&replay, "bob", &elsewhere);
    let alice = stage.line(&replay, "alice", &statement);
    lacks(&replay.preview(&Stage::entry(&statement, vec![alice.clone(), foreign])).unwrap(), "1 more operator");
    for name in ["cdn.example/mallory", "other.example/bob", "bob", "cdn.example/bob/x"] {
        let wrong = SignatureLine { name: name.into(), ..good.clone() };
        lacks(&replay.preview(&Stage::entry(&statement, vec![alice.clone(), wrong])).unwrap(), "1 more operator");
    }
    let wrong = SignatureLine { key_hash: [1, 2, 3, 4], ..good.clone() };
    lacks(&replay.preview(&Stage::entry(&statement, vec![alice.clone(), wrong])).unwrap(), "1 more operator");
    // The statement itself for another log.
    let lines = vec![stage.line(&replay, "alice", &elsewhere), stage.line(&replay, "bob", &elsewhere)];
    let verdict = replay.preview(&Stage::entry(&elsewhere, lines)).unwrap();
    assert!(matches!(verdict.void[..], [(0, Void::OtherLog(_))]), "{verdict:?}");
}

fn a_changed_statement_carries_no_signature(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    let statement = stage.statement(&replay, "alice", rotation(&replay, "fra1", Slot::Openpgp));
    let lines = vec![stage.line(&replay, "alice", &statement), stage.line(&replay, "bob", &statement)];
    let entry = String::from_utf8(Stage::entry(&statement, lines.clone())).unwrap();
    // Every byte of the body, changed in turn: never in force, and never a panic.
    let body = statement.to_bytes().unwrap().len();
    for i in 0..body {
        let mut bytes = entry.clone().into_bytes();
        bytes[i] ^= 1;
        let verdict = replay.preview(&bytes).unwrap();
        assert_eq!(verdict.applied, 0, "byte {i}: {}", String::from_utf8_lossy(&bytes[..body]));
    }
    // The same statement spelled in another way is another statement, or none.
    for (from, to) in [
        ("\"act\"", " \"act\""),
        ("\n\n", " \n\n"),
        ("\n\n", "\r\n\n"),
        (",\"by\"", ",\"act\":\"key.activate\",\"by\""),
        ("\"v\":1", "\"v\":1.0"),
    ] {
        assert!(entry.contains(from));
        assert_eq!(replay.preview(entry.replacen(from, to, 1).as_bytes()).unwrap().applied, 0, "{to}");
    }
    // A later field that begins with x- is signed and means nothing; without its signature it is a changed statement.
    assert_eq!(replay.preview(entry.replacen(",\"v\":1}", ",\"v\":1,\"x-note\":1}", 1).as_bytes()).unwrap().applied, 0);
}

fn one_operator_cannot_join_under_a_second_name(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    // alice asks again as alicia, with the very certificate that she has.
    let home = stage.homes[&member("alice")].clone();
    let cert = home.secret_certificate(&member("alice")).unwrap().unwrap();
    home.set_secret_certificate(&member("alicia"), &cert).unwrap();
    let replay = stage.replay();
    let requested = {
        let state = replay.state().unwrap();
        let request = keys::state::Objects::object(&stage.keyring, &state.members[&member("alice")].request).unwrap();
        let (mut request, ..) = keys::statement::Request::parse(&request).unwrap();
        request.members[0].member = member("alicia");
        request
    };
    let key = requested.members[0].keys.iter().find(|k| k.slot == Slot::Sign && k.active).unwrap().key.clone();
    let mut pair =
        home.key_pair(&member("alicia"), &keys::openpgp::Fingerprint::from_hex(&key).unwrap()).unwrap().unwrap();
    let request = keys::enrolment::sign_request(
        &requested,
        &member("alicia"),
        &mut pair,
        &"cdn.example".parse().unwrap(),
        stage.now,
    )
    .unwrap();
    let (digest, _) = stage.keyring.stage(&request).unwrap();
    let cert = replay.state().unwrap().members[&member("alice")].cert;
    let act = Act::Enroll(vec![Enroll {
        cert,
        challenges: None,
        kind: Kind::Operator,
        member: member("alicia"),
        request: digest,
    }]);
    let mut replay = stage.replay();
    let verdict = stage.judge(&mut replay, act, &["alice"]);
    assert!(matches!(&verdict.void[..], [(0, Void::KeyReused { by, .. })] if *by == member("alice")), "{verdict:?}");
    stage.sync("alice");
}

fn an_authority_that_too_few_vouch_for_does_not_count(sandbox: &Sandbox) {
    // Two operators have to vouch; here only alice has, since bob has not yet caught up after the founding.
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &[]);
    let entries = stage.entries();
    let certify = entries.iter().position(|e| String::from_utf8_lossy(e).contains("\"act\":\"key.certify\"")).unwrap();
    let enrol = entries.iter().find(|e| String::from_utf8_lossy(e).contains("\"act\":\"member.enroll\"")).unwrap();
    let mut replay = Replay::new("cdn.example/keys/1".into(), stage.keyring.clone());
    for entry in &entries[..certify] {
        replay.apply(entry).unwrap();
    }
    let verdict = replay.preview(enrol).unwrap();
    assert_eq!(verdict.applied, 0);
    assert!(matches!(verdict.void[0].1, Void::Unvouched { found: 1, needed: 2, .. }), "{verdict:?}");
    replay.apply(&entries[certify]).unwrap();
    assert_eq!(replay.preview(enrol).unwrap().applied, 1);
}

fn a_service_is_no_word_for_another_pops_service(sandbox: &Sandbox) {
    let (mut stage, _) = two(sandbox);
    stage.join(sandbox, "ams1", &["nginx"]);
    let mut replay = stage.replay();
    // ams1 reports fra1's key destroyed, publishes for fra1's service, vouches for it: its word counts for its own alone.
    let state = replay.state().unwrap().clone();
    let nginx = &state.members[&member("nginx@fra1")];
    let publish = keys::statement::Publish {
        cert: None,
        generation: nginx.generation + 1,
        keys: vec![],
        member: member("nginx@fra1"),
        prev: nginx.prev,
    };
    lacks(&stage.judge(&mut replay, Act::Publish(vec![publish]), &["ams1"]), "the member itself");
    let certify = keys::statement::Certify {
        cert: nginx.cert,
        generation: nginx.generation + 1,
        member: member("nginx@fra1"),
        prev: nginx.prev,
    };
    lacks(&stage.judge(&mut replay, Act::Certify(vec![certify]), &["ams1"]), "the member itself");
    let retire = Retire { cert: None, member: member("nginx@fra1"), why: RetireReason::Retired };
    assert_eq!(stage.judge(&mut replay, Act::Retire(vec![retire.clone()]), &["ams1"]).applied, 0);
    assert_eq!(stage.judge(&mut replay, Act::Retire(vec![retire]), &["fra1"]).applied, 1);
}

fn entries_do_not_work_twice(sandbox: &Sandbox) {
    let (mut stage, _) = two(sandbox);
    let placed = stage.carry(|fleet, home| {
        let plan = ops::plan_seal(&"nginx@fra1/tls.key".parse().unwrap(), fleet).unwrap();
        vec![ops::seal(&plan, b"value", "sealed", None, home, fleet).unwrap()]
    });
    assert!(matches!(placed[..], [Placed::Logged { .. }]));
    let mut replay = stage.replay();
    for entry in stage.entries() {
        let verdict = replay.preview(&entry).unwrap();
        assert_eq!(verdict.applied, 0, "{}", String::from_utf8_lossy(&entry));
    }
}

fn an_old_policy_an_old_intent_and_an_expired_one_are_void(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    let act = rotation(&replay, "fra1", Slot::Openpgp);
    let judge = |replay: &mut Replay<Store>, change: &dyn Fn(&mut keys::statement::Statement)| {
        let mut statement = stage.statement(replay, "alice", act.clone());
        change(&mut statement);
        let lines = vec![stage.line(replay, "alice", &statement), stage.line(replay, "bob", &statement)];
        let verdict = replay.preview(&Stage::entry(&statement, lines)).unwrap();
        assert_eq!(verdict.id, statement.id().ok(), "void or not, it has its name");
        verdict
    };
    assert_eq!(judge(&mut replay, &|_| {}).applied, 1);
    for policy in [0, 2, u64::from(u32::MAX)] {
        let verdict = judge(&mut replay, &|s| s.policy = policy);
        assert!(matches!(verdict.void[..], [(0, Void::Policy { .. })]), "{verdict:?}");
    }
    let now = replay.state().unwrap().time;
    let verdict = judge(&mut replay, &|s| (s.at, s.expires) = (now.minus(Span::days(9)), now.minus(Span::days(2))));
    assert!(matches!(verdict.void[..], [(0, Void::Expired(_))]), "{verdict:?}");
    for (generation, prev) in [(3, 0), (1, 0), (2, 1), (u64::MAX >> 12, 0)] {
        let verdict = judge(&mut replay, &|s| {
            let Act::Activate(list) = &mut s.act else { return };
            list[0].generation = generation;
            list[0].prev.0[0] ^= prev;
        });
        assert!(matches!(verdict.void[..], [(0, Void::Stale { .. })]), "{verdict:?}");
    }
}

fn a_signature_cannot_move_time(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    let act = rotation(&replay, "fra1", Slot::Openpgp);
    let statement = stage.statement(&replay, "alice", act.clone());
    let alice = stage.line(&replay, "alice", &statement);
    let key = replay.state().unwrap().members[&member("bob")].active(Slot::Sign).unwrap().key.clone();
    for at in [statement.expires.plus(Span(1)), LATEST, statement.at.minus(Span::days(1)), Time(0)] {
        let line = stage.line_by("bob", &key, &statement, at);
        let verdict = replay.preview(&Stage::entry(&statement, vec![alice.clone(), line])).unwrap();
        lacks(&verdict, "1 more operator");
    }
    // A statement from the far future is dated so by its own signers. Replay says what it claims; whoever opens such a
    // log refuses it by the clock, and the program does not append it.
    let mut future = statement;
    (future.at, future.expires) = (LATEST.minus(Span::days(1)), LATEST);
    let lines = vec![stage.line(&replay, "alice", &future), stage.line(&replay, "bob", &future)];
    let verdict = replay.preview(&Stage::entry(&future, lines)).unwrap();
    assert_eq!(verdict.applied, 0, "by then the certificates that signed it have expired: {verdict:?}");
}

fn the_dead_do_not_sign(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    stage.join(sandbox, "fra1", &[]);
    let before = stage.replay();
    let statement = stage.statement(&before, "bob", rotation(&before, "fra1", Slot::Openpgp));
    let lines = vec![stage.line(&before, "bob", &statement), stage.line(&before, "carol", &statement)];
    stage.carry(|_, _| {
        let retire = Retire { cert: None, member: member("carol"), why: RetireReason::Compromised };
        vec![Draft::bare(Act::Retire(vec![retire]), "stolen laptop")]
    });
    let mut after = stage.replay();
    lacks(&after.preview(&Stage::entry(&statement, lines)).unwrap(), "1 more operator");
    // And a retired member is nobody's reader, signer or subject.
    let retire = Retire { cert: None, member: member("carol"), why: RetireReason::Retired };
    let verdict = stage.judge(&mut after, Act::Retire(vec![retire]), &["alice", "bob"]);
    assert!(matches!(verdict.void[..], [(0, Void::NoMember(_))]), "{verdict:?}");
}

fn nobody_can_be_left_without_a_quorum(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    for (who, why) in [("bob", RetireReason::Retired), ("alice", RetireReason::Compromised)] {
        let retire = Retire { cert: None, member: member(who), why };
        let verdict = stage.judge(&mut replay, Act::Retire(vec![retire]), &["alice", "bob"]);
        assert!(matches!(verdict.void[..], [(0, Void::Needed { .. })]), "{verdict:?}");
    }
    let retire = Retire { cert: None, member: member("casc1"), why: RetireReason::Retired };
    let verdict = stage.judge(&mut replay, Act::Retire(vec![retire]), &["alice", "bob"]);
    assert!(matches!(verdict.void[..], [(0, Void::Last(_))]), "{verdict:?}");
}

fn a_policy_that_would_lock_everybody_out_is_void(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    let state = replay.state().unwrap().clone();
    let text =
        String::from_utf8(keys::state::Objects::object(&stage.keyring, &state.policy.files["fleet.toml"]).unwrap())
            .unwrap();
    let judge = |replay: &mut Replay<Store>, text: String, signers: &[&str]| {
        let (digest, _) = stage.keyring.stage(text.as_bytes()).unwrap();
        let mut files = state.policy.files.clone();
        files.insert("fleet.toml".into(), digest);
        let act = Act::PolicyUpdate(PolicyUpdate { generation: 2, policy: files, prev: state.policy.prev });
        stage.judge(replay, act, signers)
    };
    let both = ["alice", "bob"];
    assert_eq!(judge(&mut replay, text.replace("lifetime = \"7d\"", "lifetime = \"5d\""), &both).applied, 1);
    lacks(&judge(&mut replay, text.clone(), &["alice"]), "1 more of root");
    for (from, to) in [
        ("operators = 2", "operators = 3"),
        ("need = { operator = 2 }", "need = { operator = 3 }"),
        ("authority = 1", "authority = 2"),
        ("root = [\"alice\", \"bob\"]", "root = [\"alice\", \"mallory\"]"),
        ("domain = \"cdn.example\"", "domain = \"other.example\""),
        ("operator = 1", "operator = 0"),
        ("[fleet]", "[flet]"),
    ] {
        assert!(text.contains(from), "{from}");
        let verdict = judge(&mut replay, text.replacen(from, to, 1), &both);
        assert!(matches!(verdict.void[..], [(0, Void::BadPolicy(_))]), "{to}: {verdict:?}");
    }
    // alice alone cannot make a policy under which alice alone decides; nor can both without bob agreeing to it.
    let alone = text.replace("root = [\"alice\", \"bob\"]", "root = [\"alice\"]").replace("root = 2", "root = 1");
    lacks(&judge(&mut replay, alone.clone(), &["alice"]), "1 more of root");
    assert_eq!(judge(&mut replay, alone, &both).applied, 1);
}

fn what_is_void_has_no_effect(sandbox: &Sandbox) {
    let (stage, mut replay) = two(sandbox);
    let before = replay.state().unwrap().clone();
    let garbage: [&[u8]; 4] = [b"", b"garbage", b"{}\n\n\xe2\x80\x94 a AAAAAAAA\n", &[0xff; 100]];
    for bytes in garbage {
        let verdict = replay.apply(bytes).unwrap();
        assert!(matches!(verdict.void[..], [(0, Void::Unreadable(_))]), "{verdict:?}");
    }
    let act = rotation(&replay, "fra1", Slot::Openpgp);
    let statement = stage.statement(&replay, "alice", act);
    let lines = vec![stage.line(&replay, "alice", &statement)];
    replay.apply(&Stage::entry(&statement, lines)).unwrap();
    let remove = Act::Remove(vec![Remove {
        address: "fra1/x".parse().unwrap(),
        generation: 1,
        prev: id_of(&stage.entries()[0]),
    }]);
    assert_eq!(stage.judge(&mut replay, remove, &["alice", "bob"]).applied, 0);
    let mut after = replay.state().unwrap().clone();
    assert_eq!(after.size, before.size + 5);
    after.size = before.size;
    assert_eq!(after, before);
}

fn the_same_log_gives_the_same_state_in_ten_years(sandbox: &Sandbox) {
    let (mut stage, _) = two(sandbox);
    stage.carry(|fleet, home| {
        let plan = ops::plan_seal(&"nginx@fra1/tls.key".parse().unwrap(), fleet).unwrap();
        vec![ops::seal(&plan, b"value", "sealed", None, home, fleet).unwrap()]
    });
    let now = stage.open().state().clone();
    stage.now = stage.now.plus(Span::days(3653));
    let mut fleet = stage.open();
    assert_eq!(*fleet.state(), now);
    let (report, _) =
        keys::fleet::Fleet::verify(&stage.keyring, &keys::fleet::Known::default(), stage.now, &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
    // What is old verifies; what is new needs certificates of today.
    assert!(fleet.check_vouched(&member("fra1")).is_err());
    let sealed = ops::plan_seal(&"nginx@fra1/tls.key".parse().unwrap(), &mut fleet);
    assert!(
        sealed.is_err_and(|e| e.to_string().contains("cannot be sealed to")),
        "expired readers are refused by name"
    );
    // And the machine goes on reading what it has.
    let home = stage.homes[&member("fra1")].clone();
    let opened = ops::open(&"nginx@fra1/tls.key".parse().unwrap(), None, &home, &mut fleet).unwrap();
    assert_eq!(opened.value.as_slice(), b"value");
}

fn a_name_that_comes_back_keeps_its_compromised_keys(sandbox: &Sandbox) {
    let (mut stage, replay) = two(sandbox);
    let old: Vec<String> = replay.state().unwrap().members[&member("fra1")]
        .slots
        .values()
        .flat_map(|s| s.keys.iter().map(|k| k.key.clone()))
        .collect();
    stage.carry(|fleet, home| {
        vec![ops::plan_revoke(&member("fra1"), RetireReason::Compromised, home, fleet).unwrap().draft("stolen")]
    });
    stage.homes.remove(&member("fra1"));
    std::fs::remove_dir_all(sandbox.path("home-fra1")).unwrap();
    stage.join(sandbox, "fra1", &["nginx"]);
    let fleet = stage.open();
    let member = &fleet.state().members[&member("fra1")];
    assert!(member.is_active());
    for key in old {
        let found = member.slots.values().find_map(|s| s.find(&key)).map(|k| k.state);
        assert_eq!(found, Some(KeyState::Compromised), "{key}");
    }
    assert!(member.slots.values().all(|s| s.active().is_some() && s.standbys().count() == 1));
}

fn a_ca_key_is_one_that_the_policy_names_where_it_names_them(sandbox: &Sandbox) {
    let (mut stage, _) = two(sandbox);
    let [named, other] = [1, 2].map(|seed| SshPrivateKey::generate(&mut StdRng::seed_from_u64(seed)).public().clone());
    stage.carry(|fleet, _| {
        let state = fleet.state();
        let mut policy = state.policy.files.clone();
        let text = String::from_utf8(fleet.store().object(&policy["ssh.toml"]).unwrap()).unwrap();
        let text = text.replacen("key = \"file\"", &format!("key = \"agent:{}\"", named.fingerprint()), 1);
        policy.insert("ssh.toml".to_owned(), Digest::of(text.as_bytes()));
        let change = PolicyUpdate { generation: state.policy.version + 1, policy, prev: state.policy.prev };
        vec![Draft::with(Act::PolicyUpdate(change), "the CA lies on a token", vec![text.into_bytes()])]
    });
    stage.carry(|fleet, _| {
        let selection =
            Selection { members: Some("casc1".parse().unwrap()), slot: Some(Slot::SshUserCa), due: false, soon: true };
        ops::plan_rotate(&selection, fleet.state(), fleet.now()).unwrap().drafts("there is room for a standby")
    });
    let mut replay = stage.replay();
    let casc1 = replay.state().unwrap().members[&member("casc1")].clone();
    let mut publish = |slot, key: &SshPublicKey| {
        let key = PublishedKey { exchange: None, key: key.to_string(), lane: None, slot };
        let change = Publish {
            cert: None,
            generation: casc1.generation + 1,
            keys: vec![key],
            member: member("casc1"),
            prev: casc1.prev,
        };
        stage.judge(&mut replay, Act::Publish(vec![change]), &["casc1"])
    };
    let refused = publish(Slot::SshUserCa, &other);
    assert!(
        matches!(&refused.void[..], [(_, Void::Slots { problem, .. })] if problem.contains("policy/ssh.toml does not name")),
        "{refused:?}"
    );
    assert_eq!(publish(Slot::SshUserCa, &named).applied, 1);
    // The other CA's keys are files, and its standby is there already.
    let there = publish(Slot::SshHostCa, &other);
    assert!(
        matches!(&there.void[..], [(_, Void::Slots { problem, .. })] if problem.contains("a standby ssh-host-ca key already")),
        "{there:?}"
    );
}
