//! Whoever has one member's keys, or is that member: what they sign reaches as far as the policy lets them, and puts
//! nothing else in anybody's way.

use keys::digest::Digest;
use keys::fleet::{Draft, Fleet, FleetError, Known, Placed, Standing};
use keys::limits::SIGNATURES_MAX;
use keys::log::commit::Commit;
use keys::log::merkle;
use keys::log::note::{Note, SignerKey};
use keys::name::{Kind, Slot};
use keys::openpgp::{Certificate, CertificateError, Grant, Profile, certify, generate};
use keys::ops;
use keys::state::Void;
use keys::statement::{Act, Certify, Entry, Publish, PublishedKey, Reseal, Retire, RetireReason};
use keys::time::{LATEST, Span};
use keys::wireguard::WgPrivateKey;
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::types::SignatureType;
use sequoia_openpgp::{Cert, KeyHandle, KeyID, Packet};

use crate::support::stage::{Stage, member};
use crate::support::written::operator;
use crate::support::{Sandbox, tests};

tests!["hardening::robbed":
    what_is_dated_ahead_waits_until_then,
    a_signature_dated_ahead_does_not_move_the_fleets_time,
    a_proposal_that_would_wait_longer_than_allowed_is_dead,
    what_refers_to_nothing_stands_in_nobodys_way,
    a_reseal_takes_no_other_object_away,
    a_slot_has_one_standby,
    a_new_certificate_does_not_put_off_a_revocation,
    nobody_takes_anothers_certification_away,
    dropping_a_signing_key_hides_nothing_that_it_sealed,
    a_crowd_of_signatures_leaves_room_for_those_that_count,
    the_log_key_of_who_has_left_writes_nothing_more,
    what_a_machine_proposes_about_others_keeps_them_from_nothing,
    an_issued_certificate_is_issued_once,
    a_departure_does_not_happen_twice,
];

fn two(sandbox: &Sandbox) -> Stage {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &["nginx"]);
    stage.settle(&["fra1"]);
    stage
}

/// `who` publishes something of her own.
fn publish(stage: &Stage, who: &str, cert: Option<Digest>, keys: Vec<PublishedKey>) -> Act {
    let found = stage.open().state().members[&member(who)].clone();
    let generation = found.generation + 1;
    Act::Publish(vec![Publish { cert, generation, keys, member: member(who), prev: found.prev }])
}

/// The second PoC of this kind was no attack: fra1's clock was wrong by three weeks.
fn what_is_dated_ahead_waits_until_then(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let now = stage.now;
    stage.now = now.plus(Span::days(20));
    stage.sync("fra1");
    stage.now = now;
    let mut fleet = stage.prepared("alice");
    let ahead = fleet.proposals().unwrap();
    assert!(!ahead.is_empty(), "fra1 had something to renew");
    for proposal in &ahead {
        let standing = fleet.standing(proposal).unwrap();
        assert!(matches!(&standing, Standing::Lacks(_)), "{standing:?}");
    }
    assert!(matches!(stage.seal("alice", "nginx@fra1/tls.key", "value")[..], [Placed::Logged { .. }]));
    assert_eq!(stage.open().state().time, now, "the fleet's time has not moved");
    stage.now = now.plus(Span::days(20));
    assert!(stage.prepared("alice").proposals().unwrap().is_empty(), "now they are taken in");
}

fn a_signature_dated_ahead_does_not_move_the_fleets_time(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let id = Stage::proposed(&stage.act("alice", |fleet, _| Stage::rotation(fleet, "fra1", Slot::Openpgp)));
    let statement = stage.open().proposal(&id).unwrap().unwrap().signed.statement;
    let key = stage.active_key("fra1", Slot::Sign);
    for days in [1, 6, 8, 800] {
        let line = stage.line_by("fra1", &key, &statement, stage.now.plus(Span::days(days)));
        stage.add_line(&id, &line);
    }
    assert_eq!(stage.approve("bob", &id).unwrap(), Placed::HandedIn { id });
    let before = stage.active_key("fra1", Slot::Openpgp);
    stage.sync("alice");
    assert_ne!(stage.active_key("fra1", Slot::Openpgp), before);
    assert_eq!(stage.open().state().time, stage.now);
}

fn a_proposal_that_would_wait_longer_than_allowed_is_dead(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let cert = stage.open().state().members[&member("fra1")].cert;
    let mut statement = stage.statement(&stage.replay(), "fra1", publish(&stage, "fra1", Some(cert), Vec::new()));
    for (expires, dead) in [(LATEST, true), (statement.at.plus(Span(7 * 86_400 + 1)), true), (statement.expires, false)]
    {
        statement.expires = expires;
        let id = stage.hand_in_as("fra1", &statement);
        let mut fleet = stage.open();
        let proposal = fleet.proposal(&id).unwrap().unwrap();
        let standing = fleet.standing(&proposal).unwrap();
        assert_eq!(matches!(standing, Standing::Dead(Void::Patient { .. })), dead, "{expires}: {standing:?}");
        let before = stage.entries().len();
        let fleet = stage.prepared("alice");
        fleet.done();
        assert_eq!(stage.entries().len() == before, dead, "{expires}");
        assert!(stage.open().proposals().unwrap().is_empty(), "either way it is gone");
    }
    stage.settle(&["fra1"]);
}

fn what_refers_to_nothing_stands_in_nobodys_way(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let act = publish(&stage, "fra1", Some(Digest::of(b"nobody has this")), Vec::new());
    let statement = stage.statement(&stage.replay(), "fra1", act);
    let id = stage.hand_in_as("fra1", &statement);
    let mut fleet = stage.open();
    let proposal = fleet.proposal(&id).unwrap().unwrap();
    let standing = fleet.standing(&proposal).unwrap();
    assert!(matches!(&standing, Standing::Lacks(why) if why.starts_with("its attachments: ")), "{standing:?}");
    stage.sync("bob");
    assert!(matches!(stage.seal("alice", "nginx@fra1/tls.key", "value")[..], [Placed::Logged { .. }]));
    stage.is_sound();
}

/// fra1 says that its secret's file is what is in truth the fleet's policy. Sealed files are moved to their address.
fn a_reseal_takes_no_other_object_away(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    stage.seal("alice", "fra1/token", "value");
    let state = stage.open().state().clone();
    let victim = state.policy.files["secrets.toml"];
    let address: keys::name::Address = "fra1/token".parse().unwrap();
    let secret = &state.secrets[&address];
    let live = secret.live.clone().unwrap();
    let act = Act::Reseal(vec![Reseal {
        address,
        body: live.body,
        file: victim,
        generation: secret.generation + 1,
        prev: secret.prev,
        recipients: live.recipients,
    }]);
    let statement = stage.statement(&stage.replay(), "fra1", act.clone());
    let id = stage.hand_in_as("fra1", &statement);
    stage.sync("alice");
    let mut fleet = stage.open();
    let proposal = fleet.proposal(&id).unwrap().expect("it is not taken in");
    let standing = fleet.standing(&proposal).unwrap();
    assert!(matches!(&standing, Standing::Lacks(why) if why.starts_with("its sealed file")), "{standing:?}");
    assert_eq!(stage.opens("fra1", "fra1/token"), "value");
    // Also where an authority is in league with fra1 and logs it: fra1 loses what was its own, and nobody else anything.
    let mut fleet = stage.prepared("alice");
    let (alice, fra1) = (stage.homes[&member("alice")].clone(), stage.homes[&member("fra1")].clone());
    let mut signers = ops::signers(&fra1, &mut fleet, None).unwrap();
    let sequencer = ops::sequencer(&alice, &fleet).unwrap();
    let placed = fleet.change(vec![Draft::bare(act, "in league")], &mut signers, sequencer.as_ref()).unwrap();
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    fleet.done();
    assert_eq!(stage.damaged(), ["sealed/fra1/token.pgp"]);
    stage.seal("alice", "nginx@fra1/tls.key", "value");
    assert_eq!(stage.open().state().policy.files["secrets.toml"], victim);
}

fn a_slot_has_one_standby(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let lane = stage.open().state().members[&member("fra1")].active(Slot::Wireguard).unwrap().lane.unwrap();
    let key = |stage: &mut Stage| {
        let key = WgPrivateKey::generate(&mut stage.rng).public().to_string();
        PublishedKey { exchange: None, key, lane: Some(lane.other()), slot: Slot::Wireguard }
    };
    let refused = |stage: &Stage, keys: Vec<PublishedKey>, why: &str| {
        let verdict = stage.judge(&mut stage.replay(), publish(stage, "fra1", None, keys), &["fra1"]);
        assert!(
            matches!(&verdict.void[..], [(0, Void::Slots { problem, .. })] if problem.contains(why)),
            "{verdict:?}"
        );
    };
    let one = key(&mut stage);
    refused(&stage, vec![one], "a standby wireguard key already");
    stage.carry(|fleet, _| Stage::rotation(fleet, "fra1", Slot::Wireguard));
    let lane = lane.other();
    let key = |stage: &mut Stage| {
        let key = WgPrivateKey::generate(&mut stage.rng).public().to_string();
        PublishedKey { exchange: None, key, lane: Some(lane.other()), slot: Slot::Wireguard }
    };
    let keys = [key(&mut stage), key(&mut stage)];
    refused(&stage, keys.to_vec(), "two new wireguard keys at once");
    let verdict = stage.judge(&mut stage.replay(), publish(&stage, "fra1", None, vec![keys[0].clone()]), &["fra1"]);
    assert_eq!(verdict.applied, 1, "{verdict:?}");
}

/// A certification of `certificate` by a key that nobody knows.
fn with_junk(stage: &Stage, certificate: &Certificate) -> Certificate {
    let fleet = "cdn.example".parse().unwrap();
    let made = generate(Kind::Operator, "N <n@n.example>", &fleet, Profile::Compat, Span::days(9), stage.now).unwrap();
    let mut stranger = made.cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    certify(certificate, &Grant::Service, &mut stranger, Span::days(1), stage.now).unwrap()
}

fn a_new_certificate_does_not_put_off_a_revocation(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    stage.join_from(sandbox, "home-mallory", &operator("mallory"));
    stage.settle(&["bob", "mallory"]);
    let revoke = |fleet: &mut keys::fleet::Fleet, home: &keys::home::Home| {
        let plan = ops::plan_revoke(&member("mallory"), RetireReason::Compromised, home, fleet).unwrap();
        assert!(!plan.certificates.is_empty(), "the revocation brings a version of the certificate that is there now");
        vec![plan.draft("stolen")]
    };
    let id = Stage::proposed(&stage.act("alice", revoke));
    // Whoever has mallory's keys makes another version in the meantime, again and again.
    for _ in 0..2 {
        let junk = with_junk(&stage, &stage.open().certificate(&member("mallory")).unwrap());
        let cert = stage.keyring.stage(junk.bytes()).unwrap().0;
        let statement = stage.statement(&stage.replay(), "mallory", publish(&stage, "mallory", Some(cert), Vec::new()));
        stage.hand_in_as("mallory", &statement);
        stage.prepared("alice").done();
        assert_eq!(stage.open().state().members[&member("mallory")].cert, cert, "she has the say about it");
    }
    stage.approve("bob", &id).unwrap();
    stage.prepared("alice").done();
    let left = stage.open().state().members[&member("mallory")].retired;
    assert!(matches!(left, Some((_, RetireReason::Compromised))), "{left:?}");
    stage.is_sound();
}

/// `certificate`, where the certification by `victim` is replaced by one that only says it was hers.
fn stripped(stage: &Stage, certificate: &Certificate, victim: &Certificate) -> Certificate {
    let fleet = "cdn.example".parse().unwrap();
    let made = generate(Kind::Operator, "N <n@n.example>", &fleet, Profile::Compat, Span::days(9), stage.now).unwrap();
    let mut stranger = made.cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let cert = certificate.cert();
    let fake = SignatureBuilder::new(SignatureType::GenericCertification)
        .set_signature_creation_time(stage.now.to_system())
        .unwrap()
        .set_issuer_fingerprint(victim.fingerprint())
        .unwrap()
        .set_issuer(KeyID::from(&victim.fingerprint()))
        .unwrap()
        .sign_userid_binding(&mut stranger, cert.primary_key().key(), cert.userids().next().unwrap().userid())
        .unwrap();
    let handle = KeyHandle::from(&victim.fingerprint());
    let hers = |p: &Packet| matches!(p, Packet::Signature(s) if s.get_issuers().iter().any(|i| i.aliases(&handle)));
    let mut packets = Vec::new();
    for packet in cert.clone().into_packets().filter(|p| !hers(p)) {
        let is_user_id = matches!(packet, Packet::UserID(_));
        packets.push(packet);
        if is_user_id {
            packets.push(fake.clone().into());
        }
    }
    Certificate::of(&Cert::from_packets(packets.into_iter()).unwrap()).unwrap()
}

fn nobody_takes_anothers_certification_away(sandbox: &Sandbox) {
    let stage = two(sandbox);
    let mut fleet = stage.open();
    let [casc1, bob] = ["casc1", "bob"].map(|n| fleet.certificate(&member(n)).unwrap());
    assert!(casc1.certified_since(&bob.fingerprint()).is_some());
    let found = fleet.state().members[&member("casc1")].clone();
    let judge = |certificate: &Certificate, signers: &[&str]| {
        let cert = stage.keyring.stage(certificate.bytes()).unwrap().0;
        let change = Certify { cert, generation: found.generation + 1, member: member("casc1"), prev: found.prev };
        stage.judge(&mut stage.replay(), Act::Certify(vec![change]), signers)
    };
    let strip = stripped(&stage, &casc1, &bob);
    let verdict = judge(&strip, &["alice"]);
    let lost = |v: &Void| matches!(v, Void::Certificate { problem: CertificateError::Lost(_), .. });
    assert!(matches!(&verdict.void[..], [(0, void)] if lost(void)), "{verdict:?}");
    // The measure: who adds something is heard, and bob himself may replace his own word.
    assert_eq!(judge(&with_junk(&stage, &casc1), &["alice"]).applied, 1);
    assert_eq!(judge(&strip, &["bob"]).applied, 1);
}

fn dropping_a_signing_key_hides_nothing_that_it_sealed(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    stage.seal("alice", "nginx@fra1/tls.key", "value");
    let old = stage.active_key("alice", Slot::Sign);
    stage.carry(|fleet, _| Stage::rotation(fleet, "alice", Slot::Sign));
    stage.settle(&["bob"]);
    let public = stage.open().certificate(&member("alice")).unwrap();
    let without = public.cert().clone().retain_subkeys(|k| k.key().fingerprint().to_hex() != old);
    let without = Certificate::of(&without).unwrap();
    let cert = stage.keyring.stage(without.bytes()).unwrap().0;
    let placed = stage.act("alice", |fleet, _| {
        let found = &fleet.state().members[&member("alice")];
        let generation = found.generation + 1;
        let change = Publish { cert: Some(cert), generation, keys: vec![], member: member("alice"), prev: found.prev };
        vec![Draft::bare(Act::Publish(vec![change]), "her own affair")]
    });
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    let now = stage.open().certificate(&member("alice")).unwrap();
    assert!(now.cert().keys().all(|k| k.key().fingerprint().to_hex() != old), "it is gone");
    for who in ["fra1", "bob", "alice"] {
        if stage.homes[&member(who)].members().unwrap().contains(&member("nginx@fra1")) || who == "alice" {
            assert_eq!(stage.opens(who, "nginx@fra1/tls.key"), "value", "{who}");
        }
    }
    stage.is_sound();
}

/// Sixteen machines of one thief sign what is none of their business: an entry holds no more signatures.
fn a_crowd_of_signatures_leaves_room_for_those_that_count(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let crowd: Vec<String> = (0..SIGNATURES_MAX).map(|i| format!("p{i}")).collect();
    crowd.iter().for_each(|pop| stage.join(sandbox, pop, &[]));
    let id = Stage::proposed(&stage.act("alice", |fleet, _| Stage::rotation(fleet, "fra1", Slot::Openpgp)));
    let statement = stage.open().proposal(&id).unwrap().unwrap().signed.statement;
    let replay = stage.replay();
    crowd.iter().for_each(|pop| stage.add_line(&id, &stage.line(&replay, pop, &statement)));
    let mut fleet = stage.open();
    let proposal = fleet.proposal(&id).unwrap().unwrap();
    assert_eq!(proposal.signatures.len(), SIGNATURES_MAX);
    assert_eq!(fleet.standing(&proposal).unwrap(), Standing::Lacks("1 more operator".to_owned()));
    assert_eq!(stage.approve("bob", &id).unwrap(), Placed::HandedIn { id });
    stage.prepared("alice").done();
    assert!(stage.open().proposals().unwrap().is_empty());
    let entry = Entry::parse(stage.entries().last().unwrap()).unwrap();
    assert_eq!((entry.signed.id, entry.signatures.len()), (id, SIGNATURES_MAX));
}

fn the_log_key_of_who_has_left_writes_nothing_more(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &[]);
    let casc2 = ops::Joining { kind: Kind::Authority, user_id: None, ..operator("casc2") };
    stage.join_from(sandbox, "home-casc2", &casc2);
    stage.settle(&[]);
    let key = stage.active_key("casc1", Slot::Log);
    let text = stage.homes[&member("alice")].key(&member("casc1"), Slot::Log, &key).unwrap();
    let stolen = SignerKey::from_private_text(&text).unwrap();
    stage.seal("alice", "fra1/token", "value");
    // In one go: casc1's home publishes that it leaves, and nothing beyond.
    let placed = stage.act("alice", |fleet, _| {
        let retire = Retire { cert: None, member: member("casc1"), why: RetireReason::Compromised };
        let remove = ops::plan_remove(&"fra1/token".parse().unwrap(), "no longer needed", fleet).unwrap();
        vec![Draft::bare(Act::Retire(vec![retire]), "stolen"), remove]
    });
    assert!(matches!(placed[..], [Placed::Logged { .. }, Placed::HandedIn { .. }]), "{placed:?}");
    assert_eq!(stage.newest_act(), "member.retire");
    stage.sync("casc2");
    assert!(stage.open().state().secrets[&"fra1/token".parse().unwrap()].live.is_none(), "casc2 goes on");
    let published = stage.keyring.disk().read("log/checkpoint", 9_999).unwrap().unwrap();
    // Whoever stole casc1's log key signs what is there, or what should come next.
    let head = stage.open().head().unwrap().clone();
    let checkpoint = head.checkpoint.to_text();
    let note = Note { signatures: vec![stolen.sign(&checkpoint)], text: checkpoint };
    stage.keyring.disk().replace("log/checkpoint", &note.to_bytes()).unwrap();
    let opened = Fleet::open(stage.keyring.clone(), &Known::default(), stage.now, &mut |_, _| {});
    assert!(matches!(opened, Err(FleetError::Unsigned)));
    stage.keyring.disk().replace("log/checkpoint", &published).unwrap();
    let (mut edge, entry) = (head.edge.clone(), stage.entries().pop().unwrap());
    edge.push(merkle::leaf(&entry));
    let commit = Commit { old_size: head.checkpoint.size, new_root: edge.root(), entries: vec![entry] };
    let path = format!("log/{}", Commit::path(commit.old_size));
    stage.keyring.disk().replace(&path, &commit.to_bytes(&stolen)).unwrap();
    let mut fleet = stage.open();
    let sequencer = ops::sequencer(&stage.homes[&member("casc2")], &fleet).unwrap().unwrap();
    let refused = fleet.prepare(Some(&sequencer)).unwrap_err();
    assert!(refused.to_string().contains("is not signed by the log's key"), "{refused}");
}

/// It lacks their signatures, and waits for them for a week; in which they would not renew what they have.
fn what_a_machine_proposes_about_others_keeps_them_from_nothing(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    stage.join(sandbox, "ams1", &["nginx"]);
    stage.settle(&["ams1"]);
    stage.seal("alice", "ams1/token", "value");
    for slot in [Slot::Openpgp, Slot::SshHost] {
        stage.carry(|fleet, _| Stage::rotation(fleet, "ams1", slot));
    }
    stage.carry(|fleet, _| Stage::rotation(fleet, "casc1", Slot::SshUserCa));
    let state = stage.open().state().clone();
    let secret = &state.secrets[&"ams1/token".parse().unwrap()];
    let live = secret.live.clone().unwrap();
    let reseal = Act::Reseal(vec![Reseal {
        address: "ams1/token".parse().unwrap(),
        body: live.body,
        file: live.file,
        generation: secret.generation + 1,
        prev: secret.prev,
        recipients: live.recipients,
    }]);
    let others = ["ams1", "nginx@ams1", "casc1", "alice", "bob"];
    let acts = others.map(|name| publish(&stage, name, None, Vec::new())).into_iter().chain([reseal]);
    for act in acts {
        let statement = stage.statement(&stage.replay(), "fra1", act);
        stage.hand_in_as("fra1", &statement);
    }
    for who in ["ams1", "alice", "ams1", "alice"] {
        stage.sync(who);
    }
    assert!(stage.has_standbys("ams1") && stage.has_standbys("casc1"));
    let drift = stage.open().state().live_secrets().filter(|(a, s)| stage.open().state().drift(a, s).is_some()).count();
    assert_eq!(drift, 0, "ams1 has resealed its own secret");
}

/// The thief has no key at all: what was logged once lies in the log for everybody to copy.
fn put_back(stage: &mut Stage, which: &str) {
    let entries = stage.entries();
    let logged = entries.iter().filter_map(|e| keys::statement::Entry::parse(e).ok());
    let found: Vec<_> = logged.filter(|e| e.signed.statement.act.name().to_string() == which).collect();
    assert!(!found.is_empty());
    for entry in found {
        let id = stage.hand_in(&entry.signed.body, &entry.signatures);
        let mut fleet = stage.open();
        let proposal = fleet.proposal(&id).unwrap().unwrap();
        assert_eq!(fleet.standing(&proposal).unwrap(), Standing::Dead(Void::Done));
        let verdict = stage.replay().preview(&entry.to_bytes().unwrap()).unwrap();
        assert!(matches!(verdict.void[..], [(0, Void::Done)]), "{verdict:?}");
    }
    stage.prepared("alice").done();
    assert_eq!(stage.entries(), entries);
    assert!(stage.open().proposals().unwrap().is_empty());
}

fn an_issued_certificate_is_issued_once(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    let issued = stage.open().state().issued.len();
    assert!(issued > 0);
    put_back(&mut stage, "ssh.issue");
    assert_eq!(stage.open().state().issued.len(), issued);
}

fn a_departure_does_not_happen_twice(sandbox: &Sandbox) {
    let mut stage = two(sandbox);
    stage.carry(|_, _| {
        let retire = Retire { cert: None, member: member("nginx@fra1"), why: RetireReason::Retired };
        vec![Draft::bare(Act::Retire(vec![retire]), "moves away")]
    });
    let joining = ops::Joining {
        member: member("fra1"),
        kind: Kind::Pop,
        services: vec!["nginx".parse().unwrap()],
        facts: keys::statement::Facts::default(),
        user_id: None,
    };
    stage.join_from(sandbox, "home-fra1", &joining);
    assert!(stage.open().state().members[&member("nginx@fra1")].is_active(), "it is back");
    put_back(&mut stage, "member.retire");
    assert!(stage.open().state().members[&member("nginx@fra1")].is_active());
}
