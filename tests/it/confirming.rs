//! Whoever joins by invitation shows that it has its keys before anything is sealed to it.

use keys::digest::Digest;
use keys::fleet::{Draft, Placed};
use keys::name::Slot;
use keys::openpgp::{Certificate, Envelope, Fingerprint, Profile};
use keys::ops::{self, Inviting};
use keys::state::{ReadersError, State, Void};
use keys::statement::{Act, Approval, Challenge, Challenges, Confirm, Enroll, answer, preamble};

use crate::inviting::{asks, invite, with_nginx};
use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, tests};

tests!["confirming":
    nothing_is_sealed_to_a_machine_before_it_has_answered,
    challenges_are_to_every_key_that_is_sealed_to_and_the_invitation_wants_them,
    what_is_no_challenge_is_not_opened_for_anybody,
];

/// Who reads what nginx on fra1 owns.
fn readers(state: &State) -> Result<bool, ReadersError> {
    let readers = state.readers(&"nginx@fra1/tls.key".parse().unwrap())?;
    Ok(readers.contains(&member("nginx@fra1")))
}

/// A fleet with a request of fra1, and the statement by which it joins, with its objects laid down.
fn asked(sandbox: &Sandbox, inviting: &Inviting) -> (Stage, Vec<Enroll>, Challenges) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    let token = invite(&mut stage, "fra1", inviting, Approval::Auto);
    let request = asks(&mut stage, sandbox, "fra1", "fra1", &token);
    let mut fleet = stage.prepared("alice");
    let home = stage.homes[&member("alice")].clone();
    let draft = ops::admit(&request, "by invitation", &home, &mut fleet, &mut stage.rng).unwrap();
    fleet.done();
    lay(&stage, &draft);
    let Act::Enroll(changes) = draft.act else { panic!("no enrolment") };
    let digest = changes[0].challenges.unwrap();
    let list = draft.objects.iter().find(|o| Digest::of(o) == digest).unwrap();
    let list = Challenges::parse(list).unwrap();
    (stage, changes, list)
}

fn lay(stage: &Stage, draft: &Draft) {
    for object in &draft.objects {
        stage.keyring.disk().create(&keys::store::object_path(&Digest::of(object)), object).unwrap();
    }
}

/// What the machine answers.
fn answered(stage: &mut Stage) -> Vec<Confirm> {
    let (mut fleet, home) = (stage.open(), stage.homes[&member("fra1")].clone());
    let plan = ops::plan_sync(&home, &mut fleet, &mut stage.rng).unwrap();
    assert_eq!(plan.troubles, Vec::<String>::new());
    let found = plan.drafts.into_iter().find_map(|draft| match draft.act {
        Act::Confirm(changes) => Some(changes),
        _ => None,
    });
    found.expect("it answers")
}

fn nothing_is_sealed_to_a_machine_before_it_has_answered(sandbox: &Sandbox) {
    let (mut stage, changes, list) = asked(sandbox, &with_nginx());
    // Two OpenPGP keys of each, and two lanes.
    assert_eq!(list.challenges.len(), 6);
    let enroll = Draft::bare(Act::Enroll(changes), "by invitation");
    let placed = stage.act("alice", |_, _| vec![enroll]);
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    let before = stage.open();
    assert!(before.state().members[&member("nginx@fra1")].is_active());
    assert_eq!(readers(before.state()), Err(ReadersError::Unconfirmed(member("nginx@fra1"))));
    drop(before);

    let right = answered(&mut stage);
    assert_eq!(right.iter().map(|c| c.member.clone()).collect::<Vec<_>>(), [member("fra1"), member("nginx@fra1")]);
    let judged = |stage: &Stage, changes: Vec<Confirm>, by: &str| {
        stage.judge(&mut stage.replay(), Act::Confirm(changes), &[by]).void.into_iter().map(|(_, v)| v).next()
    };
    let is_wrong = |void: Option<Void>| matches!(void, Some(Void::Answers { .. }));
    // Each answer counts, in its place, and there are neither more nor fewer of them.
    for i in 0..right[0].answers.len() {
        let mut wrong = right[0].clone();
        wrong.answers[i] = list.of(&member("fra1")).nth(i).unwrap().answer;
        assert!(is_wrong(judged(&stage, vec![wrong], "fra1")), "answer {i}");
    }
    let changed = |change: &dyn Fn(&mut Vec<Digest>)| {
        let mut wrong = right[0].clone();
        change(&mut wrong.answers);
        vec![wrong]
    };
    assert!(is_wrong(judged(&stage, changed(&|a| a.swap(0, 1)), "fra1")));
    assert!(is_wrong(judged(&stage, changed(&|a| a.truncate(1)), "fra1")));
    assert!(is_wrong(judged(&stage, changed(&|a| a.push(a[0])), "fra1")));
    assert!(is_wrong(judged(&stage, changed(&Vec::clear), "fra1")));
    let others = vec![Confirm { answers: right[0].answers.clone(), member: member("nginx@fra1") }];
    assert!(is_wrong(judged(&stage, others, "fra1")));
    // Nobody answers for the machine, whatever they know.
    for by in ["alice", "casc1"] {
        assert!(matches!(judged(&stage, right.clone(), by), Some(Void::Quorum { .. })), "{by}");
    }
    assert_eq!(judged(&stage, right.clone(), "fra1"), None);
    // It counts for whoever it is about, and once.
    let act = |changes: &[Confirm]| Draft::bare(Act::Confirm(changes.to_vec()), "joined");
    stage.carry(|_, _| vec![act(&right[..1])]);
    assert_eq!(readers(stage.open().state()), Err(ReadersError::Unconfirmed(member("nginx@fra1"))));
    assert!(is_wrong(judged(&stage, right[..1].to_vec(), "fra1")), "a second time");
    stage.carry(|_, _| vec![act(&right[1..])]);
    assert_eq!(readers(stage.open().state()), Ok(true));
    // A replay from a state that was written comes to the same.
    let state = stage.open().state().clone();
    assert!(!String::from_utf8(state.to_bytes()).unwrap().contains("unconfirmed"));
}

fn challenges_are_to_every_key_that_is_sealed_to_and_the_invitation_wants_them(sandbox: &Sandbox) {
    let (stage, changes, list) = asked(sandbox, &Inviting::default());
    let judged = |list: Option<Vec<Challenge>>| {
        let challenges = list.map(|list| {
            let bytes = Challenges::new(list).to_bytes();
            let digest = Digest::of(&bytes);
            stage.keyring.disk().create(&keys::store::object_path(&digest), &bytes).unwrap();
            digest
        });
        let changes = changes.iter().map(|c| Enroll { challenges, ..c.clone() }).collect();
        let void = stage.judge(&mut stage.replay(), Act::Enroll(changes), &["casc1"]).void;
        void.into_iter().next().map(|(_, void)| void.to_string())
    };
    assert_eq!(judged(Some(list.challenges.clone())), None);
    let none = judged(None).unwrap();
    assert!(none.contains("its invitation wants it to answer challenges, and it is given none"), "{none}");
    let mut wrong: Vec<Vec<Challenge>> = Vec::new();
    for i in 0..list.challenges.len() {
        let mut fewer = list.challenges.clone();
        fewer.remove(i);
        wrong.push(fewer);
        for change in [
            &(|c: &mut Challenge| c.member = member("ams1")) as &dyn Fn(&mut Challenge),
            &|c| c.slot = Slot::Sign,
            &|c| c.key.push('0'),
        ] {
            let mut other = list.challenges.clone();
            change(&mut other[i]);
            wrong.push(other);
        }
    }
    let more = Challenge { slot: Slot::SshHost, ..list.challenges[0].clone() };
    wrong.push(list.challenges.iter().cloned().chain([more]).collect());
    for list in wrong {
        let void = judged(Some(list)).unwrap();
        assert!(void.contains("its challenges are not to each of its keys"), "{void}");
    }
}

/// Whoever is an authority could otherwise have a machine open what was sealed to it for others' eyes.
fn what_is_no_challenge_is_not_opened_for_anybody(sandbox: &Sandbox) {
    let (mut stage, changes, list) = asked(sandbox, &Inviting::default());
    let request = keys::state::Objects::object(&stage.keyring, &changes[0].request).unwrap();
    let (request, ..) = keys::statement::Request::parse(&request).unwrap();
    let certificate = Certificate::parse(&request.members[0].cert).unwrap();
    let (place, key) = list.challenges.iter().enumerate().find(|(_, c)| c.slot == Slot::Openpgp).unwrap();
    let key = key.key.clone();
    let public = certificate.key(&Fingerprint::from_hex(&key).unwrap()).unwrap();
    let right = preamble("cdn.example/keys/1", &member("fra1"), &key);
    let random = "0".repeat(64);
    let elsewhere = preamble("cdn.example/keys/1", &member("ams1"), &key);
    let texts = [
        (format!("{right}{random}\n"), true),
        ("a value that is nobody's business".to_owned(), false),
        (format!("{right}{random}\nand more\n"), false),
        (format!("{right}{random}"), false),
        (right.clone(), false),
        (format!("{elsewhere}{random}\n"), false),
        (format!(" {right}{random}\n"), false),
    ];
    for (i, (text, is_one)) in texts.into_iter().enumerate() {
        let envelope = Envelope {
            fleet: "cdn.example".parse().unwrap(),
            origin: "cdn.example/keys/1".to_owned(),
            address: "fra1#challenge".to_owned(),
            version: 1,
            readers: Digest::of(b""),
        };
        let alice = &stage.homes[&member("alice")];
        let by = stage.open().state().members[&member("alice")].active(Slot::Sign).unwrap().key.clone();
        let signer = alice.key_pair(&member("alice"), &Fingerprint::from_hex(&by).unwrap()).unwrap().unwrap();
        let sealed =
            keys::openpgp::seal(text.as_bytes(), &envelope, &[public], signer, Profile::Compat, stage.now).unwrap();
        let mut other = list.clone();
        other.challenges[place].sealed = sealed;
        other.challenges[place].answer = Digest::of(&answer(text.as_bytes()).0);
        let bytes = other.to_bytes();
        let changes = changes.iter().map(|c| Enroll { challenges: Some(Digest::of(&bytes)), ..c.clone() }).collect();
        // Judged where nothing stays of it: in a copy of the keyring.
        let copy = sandbox.path(&format!("copy-{i}"));
        std::process::Command::new("/bin/cp").arg("-a").arg(sandbox.path("keyring")).arg(&copy).status().unwrap();
        let disk = keys::disk::RealFiles::open(&copy, keys::disk::Access::Public).unwrap();
        let theirs = keys::store::Store::new(keys::disk::Disk::new(disk));
        let ours = std::mem::replace(&mut stage.keyring, theirs);
        let draft = Draft::with(Act::Enroll(changes), "by invitation", vec![bytes]);
        stage.act("alice", |_, _| vec![draft]);
        let (mut fleet, home) = (stage.open(), stage.homes[&member("fra1")].clone());
        let plan = ops::plan_sync(&home, &mut fleet, &mut stage.rng).unwrap();
        drop(fleet);
        stage.keyring = ours;
        let answers = plan.drafts.iter().any(|draft| matches!(draft.act, Act::Confirm(_)));
        assert_eq!(answers, is_one, "{text:?}: {:?}", plan.troubles);
        let told = plan.troubles.iter().any(|t| t.contains("what is sealed to it is no challenge"));
        assert_eq!(told, !is_one, "{text:?}: {:?}", plan.troubles);
    }
}
