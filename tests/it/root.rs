//! Root: who may change who may change. A new policy needs the old root's quorum and its own, and nobody gets lost on the
//! way.

use keys::name::Kind;
use keys::state::{Objects as _, Replay, Verdict, Void};
use keys::statement::{Act, PolicyUpdate, Retire, RetireReason};
use keys::store::Store;

use crate::support::stage::{Stage, member};
use crate::support::written::operator;
use crate::support::{Sandbox, tests};

tests!["root":
    a_change_of_root_needs_the_old_root_and_the_new_one,
    a_root_that_cannot_act_is_refused,
    a_lost_member_of_root_is_replaced,
];

/// What becomes of a policy with another root, signed by these.
fn judge(stage: &Stage, replay: &mut Replay<Store>, root: &str, majority: u32, signers: &[&str]) -> Verdict {
    let policy = replay.state().unwrap().policy.clone();
    let text = String::from_utf8(stage.keyring.object(&policy.files["fleet.toml"]).unwrap()).unwrap();
    let before = text.lines().find(|l| l.starts_with("root = ")).unwrap().to_owned();
    let text =
        text.replace(&before, &format!("root = [{root}]")).replace("{ root = 2 }", &format!("{{ root = {majority} }}"));
    let (digest, _) = stage.keyring.stage(text.as_bytes()).unwrap();
    let mut files = policy.files.clone();
    files.insert("fleet.toml".into(), digest);
    let act = Act::PolicyUpdate(PolicyUpdate { generation: policy.version + 1, policy: files, prev: policy.prev });
    stage.judge(replay, act, signers)
}

fn missing(verdict: &Verdict) -> Option<String> {
    match &verdict.void[..] {
        [] => None,
        [(0, Void::Quorum { missing, .. })] => Some(missing.clone()),
        other => panic!("{other:?}"),
    }
}

/// Three of the founders are root; dave and erin are operators.
fn five(sandbox: &Sandbox) -> Stage {
    let mut stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    for name in ["dave", "erin"] {
        stage.join_from(sandbox, &format!("home-{name}"), &operator(name));
        stage.sync(name);
    }
    assert_eq!(stage.open().state().members.values().filter(|m| m.kind == Kind::Operator).count(), 5);
    stage
}

fn a_change_of_root_needs_the_old_root_and_the_new_one(sandbox: &Sandbox) {
    let stage = five(sandbox);
    let mut replay = stage.replay();
    let (old, overlap, apart) = (r#""alice", "bob", "carol""#, r#""carol", "dave", "erin""#, r#""dave", "erin""#);
    let new = |missing: &str| Some(format!("under the new policy, {missing}"));
    for (root, majority, signers, expected) in [
        // The old root alone; the new root alone; enough of both; too few of either.
        (overlap, 2, &["alice", "bob"][..], new("2 more of root")),
        (overlap, 2, &["dave", "erin"], Some("2 more of root".to_owned())),
        (overlap, 2, &["alice", "bob", "dave", "erin"], None),
        (overlap, 2, &["alice", "carol", "dave"], None),
        (overlap, 2, &["alice", "carol"], new("1 more of root")),
        (overlap, 2, &["carol", "dave"], Some("1 more of root".to_owned())),
        // Nobody in common: both quorums in full.
        (apart, 2, &["alice", "bob", "dave"], new("1 more of root")),
        (apart, 2, &["alice", "bob", "dave", "erin"], None),
        (apart, 1, &["alice", "bob"], new("1 more of root")),
        (apart, 1, &["alice", "bob", "erin"], None),
        // The same people, more or fewer of them.
        (old, 3, &["alice", "bob"], new("1 more of root")),
        (old, 3, &["alice", "bob", "carol"], None),
        (old, 1, &["alice"], Some("1 more of root".to_owned())),
        (old, 1, &["alice", "bob"], None),
    ] {
        let verdict = judge(&stage, &mut replay, root, majority, signers);
        assert_eq!(missing(&verdict), expected, "root [{root}] {majority}, signed by {signers:?}");
        assert_eq!(verdict.applied, usize::from(expected.is_none()));
    }
}

fn a_root_that_cannot_act_is_refused(sandbox: &Sandbox) {
    let stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    let mut replay = stage.replay();
    let all = ["alice", "bob", "carol"];
    for (root, majority) in [
        (r#""mallory""#, 1),
        (r#""alice", "mallory""#, 1),
        (r#""casc1""#, 1),
        (r#""alice", "bob""#, 3),
        (r#""alice", "alice""#, 2),
        ("", 1),
        (r#""alice""#, 0),
    ] {
        let verdict = judge(&stage, &mut replay, root, majority, &all);
        assert!(matches!(&verdict.void[..], [(0, Void::BadPolicy(_))]), "[{root}] {majority}: {verdict:?}");
    }
    assert_eq!(judge(&stage, &mut replay, r#""alice", "bob""#, 2, &all).applied, 1);
    // Nor can root shrink below its own number by departures.
    let retire = |who: &str| Act::Retire(vec![Retire { cert: None, member: member(who), why: RetireReason::Lost }]);
    let statement = stage.statement(&replay, "alice", retire("carol"));
    let lines = ["alice", "bob"].map(|w| stage.line(&replay, w, &statement)).to_vec();
    assert_eq!(replay.apply(&Stage::entry(&statement, lines)).unwrap().applied, 1);
    let verdict = stage.judge(&mut replay, retire("bob"), &["alice", "bob"]);
    assert!(matches!(&verdict.void[..], [(0, Void::Needed { there: 1, .. })]), "{verdict:?}");
}

/// carol's keys are lost. Two of three take her out and admit dave; a policy that still names her is none.
fn a_lost_member_of_root_is_replaced(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob", "carol"]);
    stage.homes.remove(&member("carol"));
    stage.carry(|fleet, home| {
        vec![keys::ops::plan_revoke(&member("carol"), RetireReason::Lost, home, fleet).unwrap().draft("lost")]
    });
    stage.join_from(sandbox, "home-dave", &operator("dave"));
    stage.sync("dave");
    let mut replay = stage.replay();
    let both = ["alice", "bob"];
    let still = judge(&stage, &mut replay, r#""alice", "bob", "carol""#, 2, &both);
    assert!(matches!(&still.void[..], [(0, Void::BadPolicy(why))] if why.contains("carol")), "{still:?}");
    let next = r#""alice", "bob", "dave""#;
    assert_eq!(judge(&stage, &mut replay, next, 2, &both).applied, 1);
    // What carol's keys sign is worth nothing, to stop it or to make it.
    assert_eq!(judge(&stage, &mut replay, next, 2, &["alice", "dave"]).applied, 0);
    let placed = stage.carry(|fleet, _| {
        Stage::policy(fleet, "fleet.toml", |t| {
            t.replacen(r#"root = ["alice", "bob", "carol"]"#, &format!("root = [{next}]"), 1)
        })
    });
    assert!(matches!(placed[..], [keys::fleet::Placed::Logged { .. }]), "{placed:?}");
    assert!(stage.open().state().policy.policy.fleet.root.contains(&member("dave")));
    stage.is_sound();
}
