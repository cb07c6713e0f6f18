//! Joining by invitation: who may, who may not, and that what the log says is all there is to it.

mod hundred;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use keys::digest::Digest;
use keys::disk::{Access, Disk, RealFiles};
use keys::enrolment::{sign_request, sign_with_token};
use keys::fleet::{Draft, Placed};
use keys::home::Home;
use keys::name::{Kind, Protection, Slot};
use keys::openpgp::Fingerprint;
use keys::ops::{self, Inviting, Terms, Ticket};
use keys::state::{Admission, Agreed, Asked, Void};
use keys::statement::{
    Act, Approval, Enroll, Facts, Invitations, Invited, Machine, Presented, Request, Retire, RetireReason, Token,
    Uninvite, machine_digest,
};
use keys::time::Span;

use self::hundred::of_a_hundred_machines_with_one_token_one_joins;
use crate::support::stage::{Stage, member};
use crate::support::{Ran, Sandbox, TestFleet, files_below, tests};

tests!["inviting":
    a_machine_joins_by_its_token_and_nobody_is_asked_again,
    a_token_that_nobody_would_see_is_not_made,
    an_invitation_takes_its_quorum,
    with_approval_operators_agree_to_the_machine_that_came,
    every_result_of_an_admission,
    an_invitation_that_cannot_be_meant_is_refused,
    who_left_since_has_agreed_to_nothing,
    a_lost_machine_is_replaced_by_the_one_that_was_invited,
    a_withdrawn_or_superseded_invitation_admits_nobody,
    a_thousand_invitations_are_one_statement,
    of_a_hundred_machines_with_one_token_one_joins,
];

/// Invites with the signatures of everybody; gives the token.
pub(crate) fn invite(stage: &mut Stage, name: &str, inviting: &Inviting, approval: Approval) -> Token {
    let terms = Terms { approval, not_before: stage.now, not_after: stage.now.plus(Span::hours(2)) };
    let wanted = vec![(member(name), inviting.clone())];
    let (list, mut tokens) = ops::plan_invite(&wanted, &terms, &stage.open(), &mut stage.rng).unwrap();
    let placed = stage.carry(|_, _| vec![ops::invite_draft(&list, "invited")]);
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    tokens.remove(0).1
}

pub(crate) fn with_nginx() -> Inviting {
    Inviting { services: ["nginx".parse().unwrap()].into(), ..Inviting::default() }
}

fn home(sandbox: &Sandbox, name: &str) -> Home {
    Home::on(Disk::new(RealFiles::create(&sandbox.path(&format!("home-{name}")), Access::Private).unwrap()))
}

fn ticket(token: &Token) -> Ticket {
    Ticket { token: Token::parse(&token.to_text()).unwrap(), machine: Machine::default(), endpoint: None }
}

/// The request of a machine that was invited, made in a home of its own.
pub(crate) fn asks(stage: &mut Stage, sandbox: &Sandbox, place: &str, name: &str, token: &Token) -> Vec<u8> {
    let mut fleet = stage.open();
    let home = home(sandbox, place);
    let request = ops::ask_by_invitation(&member(name), &ticket(token), &home, &mut fleet, &mut stage.rng).unwrap();
    stage.homes.insert(member(place), home);
    request
}

/// What an authority makes of a request: with its own signature alone, or with those of operators.
fn enrol(stage: &mut Stage, request: &[u8], signers: &[&str]) -> Result<(), Void> {
    let mut fleet = stage.prepared("alice");
    let draft =
        ops::admit(request, "by invitation", &stage.homes[&member("alice")].clone(), &mut fleet, &mut stage.rng)
            .unwrap();
    for object in &draft.objects {
        stage.keyring.disk().create(&keys::store::object_path(&Digest::of(object)), object).unwrap();
    }
    fleet.done();
    let verdict = stage.judge(&mut stage.replay(), draft.act, signers);
    verdict.void.into_iter().next().map_or(Ok(()), |(_, void)| Err(void))
}

fn decided(stage: &Stage, request: &[u8], agreed: Agreed) -> Admission {
    let asked = Asked::parse(request).unwrap();
    stage.open().state().admission(&asked, stage.now, agreed).admission
}

fn a_machine_joins_by_its_token_and_nobody_is_asked_again(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    let token = sandbox.path("fra1.token");
    let path = token.display().to_string();
    let args = ["invite", "fra1", "--services", "nginx,dns", "--approval", "auto", "--out", &path, "--yes"];
    fleet.keys("alice", &args).exits(4);
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = fleet.keys("bob", &["approve"]);
    shown.ok();
    assert!(shown.stdout().contains("pop fra1 with dns, nginx may join from "), "{}", shown.stdout());
    assert!(shown.stdout().contains("whoever has the token joins, and nobody is asked again"), "{}", shown.stdout());
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    let listed = fleet.keys("alice", &["invite", "list", "--json"]).json();
    assert_eq!(listed["invitations"][0]["approved"], serde_json::json!(["alice", "bob"]));

    let joining = ["enroll", "fra1", "--token", &path, "--endpoint", "198.51.100.7"];
    fleet.keys("fra1", &joining).ok();
    let request = std::fs::read(sandbox.path("fra1/members/fra1/request")).unwrap();
    fleet.keys("fra1", &joining).ok();
    assert_eq!(std::fs::read(sandbox.path("fra1/members/fra1/request")).unwrap(), request, "asked again, the same");
    // The authority is in alice's home; bob is not asked.
    let synced = fleet.keys("alice", &["sync", "--json"]);
    synced.ok();
    assert!(synced.stdout().contains("fra1 joins by its invitation"), "{}", synced.stdout());
    let members = fleet.keys("alice", &["status", "--json"]).json()["members"].clone();
    assert_eq!((&members["pop"], &members["service"]), (&1.into(), &2.into()), "{members}");
    assert!(!fleet.keyring("proposals").exists(), "nothing waits");
    assert_eq!(
        fleet.keys("alice", &["invite", "list", "--all", "--json"]).json()["invitations"][0]["standing"],
        "used"
    );
    fleet.keys("alice", &["log", "verify"]).ok();

    // The seed is in the file of the token, and nowhere else.
    let text = std::fs::read_to_string(&token).unwrap();
    let seed = text.trim_end();
    for directory in ["fleet", "alice", "bob", "fra1"] {
        for file in files_below(&sandbox.path(directory)) {
            let bytes = std::fs::read(&file).unwrap();
            let found = bytes.windows(seed.len()).any(|w| w == seed.as_bytes());
            assert!(!found, "the token is in {}", file.display());
        }
    }
    // A second machine with the token is told so, makes no key, and the code says that trying again does not help.
    let late = fleet.keys("thief", &["enroll", "fra1", "--token", &path]);
    late.refuses(3, "(token_reused)");
    assert!(late.stderr().contains("tell the operators AT ONCE"), "{}", late.stderr());
    assert!(!sandbox.path("thief/members").exists());
}

fn a_token_that_nobody_would_see_is_not_made(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let before = fleet.keys("alice", &["log", "show"]).ok();
    let invites = |line: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        let line = format!("\"$KEYS\" --fleet fleet --home alice invite fra1 --approval auto --yes {line}");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("KEYS", env!("CARGO_BIN_EXE_keys"));
        Ran::of(command.args(["-c", &line]).current_dir(sandbox.root()))
    };
    for nowhere in ["> /dev/null", ">&-", "--json > /dev/null"] {
        invites(nowhere).refuses(2, "the token would be lost");
    }
    invites("> /dev/full").refuses(1, "cannot write the answer");
    assert_eq!(fleet.keys("alice", &["log", "show"]).ok(), before, "nothing is logged whose token is lost");
    invites("--json > /dev/full").refuses(1, "the tokens are lost: 'keys invite revoke fra1', and invite anew");
    invites("> shown").ok();
    let token = std::fs::read_to_string(sandbox.path("shown")).unwrap();
    assert!(Token::parse(token.trim_end()).is_ok());
}

fn an_invitation_takes_its_quorum(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    let path = sandbox.path("fra1.token").display().to_string();
    fleet.keys("alice", &["invite", "fra1", "--approval", "auto", "--out", &path, "--yes"]).exits(4);
    fleet.keys("fra1", &["enroll", "fra1", "--token", &path]).refuses(3, "(unknown_invitation)");
    fleet.keys("alice", &["sync"]).exits(0);
    assert_eq!(fleet.keys("alice", &["invite", "list", "--json"]).json()["invitations"], serde_json::json!([]));
    // Nothing is overwritten, and a refused invitation leaves no token behind.
    fleet.keys("alice", &["invite", "fra2", "--out", &path, "--yes"]).refuses(1, "cannot write");
    let other = sandbox.path("other.token");
    let ran = fleet.keys("alice", &["invite", "casc1", "--out", other.to_str().unwrap(), "--yes"]);
    ran.refuses(1, "the name is, or was, that of an authority");
    assert!(!other.exists());
}

fn with_approval_operators_agree_to_the_machine_that_came(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    let token = invite(&mut stage, "fra1", &with_nginx(), Approval::Operators);
    let request = asks(&mut stage, sandbox, "fra1", "fra1", &token);
    assert_eq!(decided(&stage, &request, Agreed::ByInvitation), Admission::PendingApproval);
    for few in [&["casc1"][..], &["casc1", "alice"]] {
        let refused = enrol(&mut stage, &request, few);
        assert!(matches!(refused, Err(Void::Quorum { .. })), "{few:?}: {refused:?}");
    }
    assert_eq!(enrol(&mut stage, &request, &["casc1", "alice", "bob"]), Ok(()));
    // By invitation alone it takes the authority, and not less.
    let token = invite(&mut stage, "sin1", &with_nginx(), Approval::Auto);
    let request = asks(&mut stage, sandbox, "sin1", "sin1", &token);
    assert_eq!(decided(&stage, &request, Agreed::ByInvitation), Admission::Ok);
    assert!(matches!(enrol(&mut stage, &request, &["alice", "bob"]), Err(Void::Quorum { .. })), "no authority");
    assert_eq!(enrol(&mut stage, &request, &["casc1"]), Ok(()));
}

/// Signs a changed request again: as its machine would, and with this token.
pub(crate) fn signed_again(home: &Home, request: Request, name: &str, token: &Token) -> Vec<u8> {
    let own = request.member(&member(name)).unwrap();
    let key = own.keys.iter().find(|k| k.slot == Slot::Sign && k.active).unwrap();
    let mut pair = home.key_pair(&member(name), &Fingerprint::from_hex(&key.key).unwrap()).unwrap().unwrap();
    let fleet = "cdn.example".parse().unwrap();
    let bytes = sign_request(&request, &member(name), &mut pair, &fleet, request.at).unwrap();
    sign_with_token(&bytes, token, &member(name), &fleet).unwrap()
}

fn every_result_of_an_admission(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "ams1", &["dns"]);
    let endpoint: keys::wireguard::Host = "198.51.100.7".parse().unwrap();
    let fleet_id = stage.open().state().id;
    let dmi = machine_digest(&fleet_id, "dmi", "4c4c4544-0042");
    let token =
        invite(&mut stage, "fra1", &Inviting { dmi: Some("4C4C4544-0042".into()), ..with_nginx() }, Approval::Auto);
    let machine = home(sandbox, "fra1");
    let own = Ticket {
        machine: Machine { dmi: Some(dmi), id: None },
        endpoint: Some(endpoint.clone().into()),
        ..ticket(&token)
    };
    let good = ops::ask_by_invitation(&member("fra1"), &own, &machine, &mut stage.open(), &mut stage.rng).unwrap();
    stage.homes.insert(member("fra1"), machine.clone());
    let asked = Asked::parse(&good).unwrap().request;
    let presented = asked.invitation.clone().unwrap();
    let again = |request: Request| signed_again(&machine, request, "fra1", &token);
    let mut seen = BTreeSet::new();
    // The authority, the machine and the fold all say the same; the fold is asked with every signature there is.
    let mut case = |stage: &mut Stage, request: &[u8], expected: Admission| {
        assert_eq!(decided(stage, request, Agreed::Yes), expected);
        let judged = enrol(stage, request, &["casc1", "alice"]);
        match (&judged, expected) {
            (Ok(()), Admission::Ok) => {}
            (Err(Void::Admission { admission, .. }), _) if *admission == expected => {}
            _ => panic!("{expected}: {judged:?}"),
        }
        seen.insert(expected);
    };
    case(&mut stage, &good, Admission::Ok);
    let other = Token::generate(&mut stage.rng);
    let with = |invitation: Option<Presented>| {
        let mut changed = asked.clone();
        changed.invitation = invitation;
        changed
    };
    let foreign = with(Some(Presented { token: other.key(), ..presented.clone() }));
    case(&mut stage, &signed_again(&machine, foreign, "fra1", &other), Admission::UnknownInvitation);
    // Signed by another token than it names, and with a body that was changed.
    case(&mut stage, &signed_again(&machine, asked.clone(), "fra1", &other), Admission::BadSignature);
    let text = String::from_utf8(good.clone()).unwrap();
    case(&mut stage, text.replace("198.51.100.7", "198.51.100.8").as_bytes(), Admission::BadSignature);
    let cut: String = text.lines().take(3).map(|l| format!("{l}\n")).collect();
    case(&mut stage, cut.as_bytes(), Admission::BadSignature);
    // Other services, another region, another machine.
    let mut fewer = asked.clone();
    fewer.members.truncate(1);
    case(&mut stage, &again(fewer), Admission::WrongMember);
    let mut elsewhere = asked.clone();
    elsewhere.members[0].facts.roles = ["hub".parse().unwrap()].into();
    case(&mut stage, &again(elsewhere), Admission::WrongMember);
    let image =
        with(Some(Presented { machine: Machine { dmi: Some(Digest::of(b"another")), id: None }, ..presented.clone() }));
    case(&mut stage, &again(image), Admission::AttestationFailed);
    let silent = with(Some(Presented { machine: Machine::default(), ..presented.clone() }));
    case(&mut stage, &again(silent), Admission::AttestationFailed);
    // A key of somebody else.
    let state = stage.open().state().clone();
    let mut copied = asked.clone();
    let host = copied.members[0].keys.iter_mut().find(|k| k.slot == Slot::SshHost && k.active).unwrap();
    host.key = state.members[&member("ams1")].active(Slot::SshHost).unwrap().key.clone();
    case(&mut stage, &again(copied), Admission::KeyReused);
    // The same key for a PoP and its service.
    let mut shared = asked.clone();
    shared.members[1].cert = shared.members[0].cert.clone();
    case(&mut stage, &again(shared), Admission::KeyReused);

    let now = stage.now;
    let later = invite(&mut stage, "sin1", &Inviting::default(), Approval::Auto);
    let sin1 = asks(&mut stage, sandbox, "sin1", "sin1", &later);
    // An endpoint that another machine has.
    let mut there = Asked::parse(&sin1).unwrap().request;
    there.members[0].facts.endpoint = Some(endpoint.into());
    stage.admit(&good);
    let sin1_home = stage.homes[&member("sin1")].clone();
    let there = signed_again(&sin1_home, there, "sin1", &later);
    assert_eq!(decided(&stage, &there, Agreed::Yes), Admission::AddressReused);
    // The authority does not even certify it: the mesh would have a fault. The fold says it, too.
    let own = Asked::parse(&there).unwrap().request.members[0].cert.clone();
    for object in [&there, &own] {
        stage.keyring.disk().create(&keys::store::object_path(&Digest::of(object)), object).unwrap();
    }
    let (cert, request) = (Digest::of(&own), Digest::of(&there));
    let enroll = Enroll { cert, challenges: None, kind: Kind::Pop, member: member("sin1"), request };
    let void = stage.judge(&mut stage.replay(), Act::Enroll(vec![enroll]), &["casc1", "alice"]).void;
    assert!(matches!(void[..], [(0, Void::Admission { admission: Admission::AddressReused, .. })]), "{void:?}");
    // The name was given to somebody who was not invited.
    let named = asks(&mut stage, sandbox, "sin1-too", "sin1", &later);
    let mut fleet = stage.open();
    let joining = ops::Joining {
        member: member("sin1"),
        kind: Kind::Pop,
        services: Vec::new(),
        facts: Facts::default(),
        user_id: None,
    };
    let uninvited = ops::ask(&joining, &home(sandbox, "other-sin1"), &mut fleet, &mut stage.rng).unwrap();
    drop(fleet);
    let before = stage.entries().len();
    case(&mut stage, &named, Admission::Ok);
    stage.admit(&uninvited);
    assert_eq!(stage.entries().len(), before + 1);
    assert_eq!(decided(&stage, &named, Agreed::Yes), Admission::NameTaken);
    // What became of the first one.
    assert_eq!(decided(&stage, &good, Agreed::Yes), Admission::Duplicate);
    let mut second = asked.clone();
    second.at = second.at.plus(Span(1));
    case(&mut stage, &again(second), Admission::GenerationConflict);
    let mut other_keys = Asked::parse(&named).unwrap().request;
    other_keys.invitation = Some(presented.clone());
    assert_eq!(decided(&stage, &again_as(&stage, other_keys, &token), Agreed::Yes), Admission::WrongMember);
    stage.now = now.plus(Span::hours(3));
    let late = invite_between(&mut stage, "lax1", 0, 1);
    let lax1 = asks(&mut stage, sandbox, "lax1", "lax1", &late);
    stage.now = stage.now.plus(Span::hours(1)).plus(Span(1));
    case(&mut stage, &lax1, Admission::Expired);
    let early = invite_between(&mut stage, "nyc1", 1, 2);
    let nyc1 = asks(&mut stage, sandbox, "nyc1", "nyc1", &early);
    case(&mut stage, &nyc1, Admission::NotYetValid);
    stage.now = stage.now.plus(Span::hours(1));
    case(&mut stage, &nyc1, Admission::Ok);
    // The policy wants more of machines than it did when this one asked.
    stage.carry(|fleet, _| {
        Stage::policy(fleet, "fleet.toml", |t| {
            t.replacen("[proposals]", "[protection]\npop = \"host\"\n[proposals]", 1)
        })
    });
    case(&mut stage, &nyc1, Admission::Unprotected);
    let guarded = Asked::parse(&nyc1).unwrap().request.guarded_by(Protection::Host);
    let guarded = signed_again(&stage.homes[&member("nyc1")].clone(), guarded, "nyc1", &early);
    case(&mut stage, &guarded, Admission::Ok);
    // Those of which the fold says more shortly what is the matter, and two that have tests of their own.
    seen.extend([
        Admission::NameTaken,
        Admission::AddressReused,
        Admission::Duplicate,
        Admission::TokenReused,
        Admission::PendingApproval,
    ]);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), Admission::ALL);
}

fn again_as(stage: &Stage, request: Request, token: &Token) -> Vec<u8> {
    signed_again(&stage.homes[&member("sin1-too")], request, "sin1", token)
}

/// An invitation that is good from `from` to `until` hours from now.
fn invite_between(stage: &mut Stage, name: &str, from: u64, until: u64) -> Token {
    let at = |hours| stage.now.plus(Span::hours(hours));
    let terms = Terms { approval: Approval::Auto, not_before: at(from), not_after: at(until) };
    let wanted = vec![(member(name), Inviting::default())];
    let (list, mut tokens) = ops::plan_invite(&wanted, &terms, &stage.open(), &mut stage.rng).unwrap();
    stage.carry(|_, _| vec![ops::invite_draft(&list, "invited")]);
    tokens.remove(0).1
}

fn an_invitation_that_cannot_be_meant_is_refused(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "ams1", &[]);
    let now = stage.now;
    let state = stage.open().state().clone();
    let terms = Terms { approval: Approval::Auto, not_before: now, not_after: now.plus(Span::hours(2)) };
    let wanted = vec![(member("fra1"), Inviting::default()), (member("sin1"), Inviting::default())];
    let (good, _) = ops::plan_invite(&wanted, &terms, &stage.open(), &mut stage.rng).unwrap();
    let used = invite(&mut stage, "lax1", &Inviting::default(), Approval::Auto);
    let judge = |list: &Invitations| -> Option<String> {
        let Draft { act, objects, .. } = ops::invite_draft(list, "");
        for object in &objects {
            stage.keyring.disk().create(&keys::store::object_path(&Digest::of(object)), object).unwrap();
        }
        stage.judge(&mut stage.replay(), act, &["alice"]).void.into_iter().next().map(|(_, void)| void.to_string())
    };
    assert_eq!(judge(&good), None);
    let ams1 = state.members[&member("ams1")].fingerprint.to_hex();
    for (what, change) in [
        ("a service joins with its PoP", &(|i: &mut Invited| i.member = member("nginx@fra1")) as &dyn Fn(&mut Invited)),
        ("it ends before it begins", &|i| i.not_before = i.not_after),
        ("it ended at", &|i| (i.not_before, i.not_after) = (now.minus(Span(9)), now.minus(Span(1)))),
        ("30 days are the most", &|i| i.not_after = now.plus(Span::days(31))),
        ("that of an operator", &|i| i.member = member("alice")),
        ("ams1 is a member already", &|i| i.member = member("ams1")),
        ("another machine than the one that has the name", &|i| {
            (i.member, i.replaces) = (member("ams1"), Some("00".repeat(20)));
        }),
        ("none has the name", &|i| i.replaces = Some(ams1.clone())),
        ("has no pool for the region", &|i| i.facts.region = Some("moon".parse().unwrap())),
        ("is used by lax1 already", &|i| i.token = used.key()),
        ("its token is another's, too", &|i| i.token = good.invitations[1].token),
    ] {
        let mut all = good.invitations.clone();
        change(&mut all[0]);
        let refused = judge(&Invitations::new(all)).unwrap_or_else(|| panic!("{what}"));
        assert!(refused.contains(what), "{refused}");
    }
    // A policy from before there were invitations lets nobody make one, and says so before anybody signs.
    let mut stage = stage;
    stage.carry(|fleet, _| {
        Stage::policy(fleet, "fleet.toml", |text| {
            text.replace("[[quorum]]\nact = \"member.invite\"\nneed = { operator = 1 }\n", "")
        })
    });
    let refused = stage.try_act("alice", |_, _| Ok(vec![ops::invite_draft(&good, "")])).unwrap_err().to_string();
    assert!(refused.contains("the policy has no rule that allows member.invite"), "{refused}");
}

fn who_left_since_has_agreed_to_nothing(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    // Carol vouches for the authority, too.
    stage.settle(&["bob", "carol"]);
    // Made by alice and bob alone, it will have lost one of the two.
    let terms = Terms { approval: Approval::Auto, not_before: stage.now, not_after: stage.now.plus(Span::hours(2)) };
    let wanted = vec![(member("fra1"), Inviting::default())];
    let (list, mut tokens) = ops::plan_invite(&wanted, &terms, &stage.open(), &mut stage.rng).unwrap();
    let id = Stage::proposed(&stage.act("alice", |_, _| vec![ops::invite_draft(&list, "")]));
    stage.approve("bob", &id).unwrap();
    stage.sync("alice");
    let request = asks(&mut stage, sandbox, "fra1", "fra1", &tokens.remove(0).1);
    assert_eq!(enrol(&mut stage, &request, &["casc1"]), Ok(()));
    let retire = Retire { cert: None, member: member("bob"), why: RetireReason::Compromised };
    stage.carry(|_, _| vec![Draft::bare(Act::Retire(vec![retire]), "robbed")]);
    let refused = enrol(&mut stage, &request, &["casc1"]);
    assert!(matches!(&refused, Err(Void::Quorum { missing, .. }) if missing == "1 more operator"), "{refused:?}");
    assert_eq!(enrol(&mut stage, &request, &["casc1", "carol"]), Ok(()));
}

fn a_lost_machine_is_replaced_by_the_one_that_was_invited(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    stage.join(sandbox, "fra1", &["nginx", "dns"]);
    let before = stage.open().state().clone();
    let token = invite(&mut stage, "fra1", &Inviting { replace: true, ..with_nginx() }, Approval::Auto);
    assert!(stage.open().state().members[&member("fra1")].is_active(), "until the new one comes the old one stays");
    let request = asks(&mut stage, sandbox, "new-fra1", "fra1", &token);
    // One that cannot join takes nobody out.
    let mut thief = Asked::parse(&request).unwrap();
    thief.lines.pop();
    let cut = keys::log::note::Note { text: String::from_utf8(thief.body).unwrap(), signatures: thief.lines };
    let refused = enrol(&mut stage, &cut.to_bytes(), &["casc1"]);
    assert!(matches!(refused, Err(Void::Admission { admission: Admission::BadSignature, .. })), "{refused:?}");
    assert!(matches!(enrol(&mut stage, &request, &["alice"]), Err(Void::Quorum { .. })), "no authority");
    assert!(stage.replay().state().unwrap().members[&member("fra1")].is_active());
    stage.admit(&request);
    let after = stage.open().state().clone();
    let (old, new) = (&before.members[&member("fra1")], &after.members[&member("fra1")]);
    assert!(new.is_active() && new.fingerprint != old.fingerprint);
    assert!(after.former.contains_key(&old.fingerprint), "the old certificate stays on record");
    let burned = new.slots[&Slot::SshHost].keys.iter().filter(|k| k.state == keys::state::KeyState::Compromised);
    assert_eq!(burned.count(), 2, "active and standby of the lost machine");
    assert!(!after.members[&member("dns@fra1")].is_active() && after.members[&member("nginx@fra1")].is_active());
    assert_ne!(after.mesh.used[&member("fra1")], before.mesh.used[&member("fra1")], "its address rests");
    // The old one's request, or another machine, does not come in by it again.
    assert_eq!(decided(&stage, &request, Agreed::Yes), Admission::Duplicate);
}

fn a_withdrawn_or_superseded_invitation_admits_nobody(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    let first = invite(&mut stage, "fra1", &with_nginx(), Approval::Auto);
    let request = asks(&mut stage, sandbox, "fra1", "fra1", &first);
    let second = invite(&mut stage, "fra1", &with_nginx(), Approval::Auto);
    assert_eq!(decided(&stage, &request, Agreed::Yes), Admission::UnknownInvitation);
    // The machine asks again, with the keys that it has.
    let again = asks(&mut stage, sandbox, "fra1", "fra1", &second);
    let keys_of = |bytes: &[u8]| Asked::parse(bytes).unwrap().request.members;
    assert!(again != request && keys_of(&again) == keys_of(&request));
    assert_eq!(decided(&stage, &again, Agreed::Yes), Admission::Ok);
    // Stopping takes one operator, and only the one that is meant.
    let uninvite = |token: &Token| Act::Uninvite(vec![Uninvite { member: member("fra1"), token: token.key() }]);
    let void = stage.judge(&mut stage.replay(), uninvite(&first), &["alice"]).void;
    assert!(void[0].1.to_string().contains("a newer one has taken its place"), "{void:?}");
    assert!(matches!(
        stage.judge(&mut stage.replay(), uninvite(&second), &["casc1"]).void[..],
        [(0, Void::Quorum { .. })]
    ));
    stage.act("bob", |_, _| vec![Draft::bare(uninvite(&second), "leaked")]);
    stage.sync("alice");
    assert_eq!(decided(&stage, &again, Agreed::Yes), Admission::UnknownInvitation);
    assert!(matches!(enrol(&mut stage, &again, &["casc1", "alice", "bob"]), Err(Void::Admission { .. })));
}

fn a_thousand_invitations_are_one_statement(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let rows: String = (0..1000).map(|i| format!("p{i:04},nginx dns,198.51.{}.{}\n", i / 250, i % 250 + 1)).collect();
    let table = sandbox.write("inventory.csv", format!("member,services,endpoint\n{rows}")).display().to_string();
    let out = sandbox.path("tokens");
    let before = fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64();
    let args =
        ["invite", "--from", &table, "--ttl", "8h", "--approval", "auto", "--out", out.to_str().unwrap(), "--yes"];
    let begin = std::time::Instant::now();
    let ran = fleet.keys("alice", &args);
    ran.ok();
    eprintln!("inviting: 1000 invitations as one statement in {:?}", begin.elapsed());
    assert!(ran.stderr().contains("and 960 more"), "what is shown is bounded: {}", ran.stderr());
    assert_eq!(files_below(&out).len(), 1000);
    let after = fleet.keys("alice", &["status", "--json"]).json()["log"]["size"].as_u64();
    assert_eq!(before.zip(after).map(|(b, a)| a - b), Some(1));
    assert_eq!(
        fleet.keys("alice", &["invite", "list", "--json"]).json()["invitations"].as_array().map(Vec::len),
        Some(1000)
    );
    let token = out.join("p0999.token").display().to_string();
    fleet.keys("p0999", &["enroll", "p0999", "--token", &token]).ok();
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(fleet.keys("alice", &["status", "--json"]).json()["members"]["service"], 2);
    fleet.keys("alice", &["log", "verify"]).ok();
}
