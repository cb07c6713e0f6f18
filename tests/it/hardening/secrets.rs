//! Secrets: nobody becomes a reader by a detour, whoever is away keeps nobody from a new value, and whatever the stolen
//! could ever read counts as known.

use keys::fleet::Placed;
use keys::name::Slot;
use keys::ops::{self, OpsError};
use keys::state::Void;
use keys::statement::RetireReason;
use keys::time::Span;

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, tests};

tests!["hardening::secrets":
    removing_and_sealing_anew_makes_nobody_a_reader,
    whoever_is_away_keeps_nobody_from_a_new_value,
    what_a_service_read_before_it_left_is_burned_with_its_machine,
    whoever_left_in_order_may_turn_out_to_be_robbed,
];

/// A fleet in which these PoPs' nginx share a secret.
fn sharing(sandbox: &Sandbox, operators: &[&str], pops: &[&str]) -> Stage {
    let mut stage = Stage::found(sandbox, operators);
    pops.iter().for_each(|pop| stage.join(sandbox, pop, &["nginx"]));
    stage.settle(pops);
    rule(&mut stage, "match = \"nginx@*/ticket\"\nshared = true\n");
    stage.seal("alice", SHARED, "value");
    stage
}

const SHARED: &str = "nginx@*/ticket";

/// Adds a rule to the policy.
fn rule(stage: &mut Stage, text: &str) {
    let more = |old: String| format!("{old}\n[[secret]]\n{text}");
    let placed = stage.carry(|fleet, _| Stage::policy(fleet, "secrets.toml", more));
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
}

fn removing_and_sealing_anew_makes_nobody_a_reader(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &["nginx", "dns"]);
    stage.settle(&["fra1"]);
    rule(&mut stage, "match = \"nginx@fra1/k\"\nreaders = [\"fra1\"]\nwrite_only = true\n");
    let address = "nginx@fra1/k";
    assert!(matches!(stage.seal("alice", address, "first")[..], [Placed::Logged { .. }]));
    let wider = |old: String| old.replace("readers = [\"fra1\"]", "readers = [\"fra1\", \"dns@fra1\"]");
    stage.carry(|fleet, _| Stage::policy(fleet, "secrets.toml", wider));
    let alone = |stage: &mut Stage| {
        let placed = stage.seal("alice", address, "second");
        let [Placed::Proposed { missing, .. }] = &placed[..] else { panic!("alice alone: {placed:?}") };
        assert_eq!(missing, "1 more operator");
    };
    alone(&mut stage);
    let removed = stage
        .act("alice", |fleet, _| vec![ops::plan_remove(&address.parse().unwrap(), "no longer needed", fleet).unwrap()]);
    assert!(matches!(removed[..], [Placed::Logged { .. }]));
    alone(&mut stage);
}

fn whoever_is_away_keeps_nobody_from_a_new_value(sandbox: &Sandbox) {
    let mut stage = sharing(sandbox, &["alice"], &["ams1", "fra1", "sin1"]);
    // Of sin1 nobody has heard for forty days: its own word for nginx@sin1 is too old to count.
    stage.later(Span::days(40));
    stage.settle(&["ams1", "fra1"]);
    let away = member("nginx@sin1");
    assert!(stage.open().check_vouched(&away).is_err());
    let placed = stage.act("alice", |fleet, home| {
        vec![ops::plan_revoke(&member("ams1"), RetireReason::Compromised, home, fleet).unwrap().draft("stolen")]
    });
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    // Resealed without ams1; whoever is away keeps what it could read already.
    let placed = stage.act("alice", |fleet, home| {
        let plan = ops::plan_reseal(None, home, fleet).unwrap();
        assert!(plan.stuck.is_empty(), "{:?}", plan.stuck);
        assert_eq!(plan.drifted.len(), 1);
        plan.drafts("a reader has left", home, fleet).unwrap()
    });
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    let readers = |stage: &Stage| {
        let live = stage.open().state().secrets[&SHARED.parse().unwrap()].live.clone().unwrap();
        live.readers.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(readers(&stage), ["alice", "nginx@fra1", "nginx@sin1"]);
    assert_eq!(stage.opens("sin1", SHARED), "value");
    // A new value is not for her whom nobody vouches for: she is named, and can be left out by name.
    let refused = ops::plan_seal(&SHARED.parse().unwrap(), &mut stage.open()).unwrap_err();
    assert!(matches!(&refused, OpsError::Reader { reader, problem: Void::Unvouched { .. }, .. } if *reader == away));
    stage.act("alice", |fleet, home| {
        let without = [away.clone()].into();
        let plan = ops::plan_seal_without(&SHARED.parse().unwrap(), &without, fleet).unwrap();
        vec![ops::seal(&plan, b"new value", "stolen", None, home, fleet).unwrap()]
    });
    assert_eq!(readers(&stage), ["alice", "nginx@fra1"]);
    assert_eq!(stage.opens("fra1", SHARED), "new value");
    // Back again she gets it by a reseal.
    stage.settle(&["sin1", "fra1"]);
    let placed = stage.act("alice", |fleet, home| {
        ops::plan_reseal(None, home, fleet).unwrap().drafts("back again", home, fleet).unwrap()
    });
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    assert_eq!(stage.opens("sin1", SHARED), "new value");
}

fn revoke(stage: &mut Stage, who: &str, why: RetireReason) -> usize {
    let mut burned = 0;
    stage.carry(|fleet, home| {
        let plan = ops::plan_revoke(&member(who), why, home, fleet).unwrap();
        burned = plan.burned.len();
        vec![plan.draft("revoked")]
    });
    burned
}

fn burned_by(stage: &Stage) -> Option<String> {
    let fleet = stage.open();
    let secret = &fleet.state().secrets[&SHARED.parse().unwrap()];
    secret.live.as_ref().unwrap().burned.as_ref().map(|(_, by)| by.to_string())
}

/// nginx left fra1 in order, its key still lies on fra1's disk, the value is still the same; then fra1 is stolen.
fn what_a_service_read_before_it_left_is_burned_with_its_machine(sandbox: &Sandbox) {
    let mut stage = sharing(sandbox, &["alice"], &["ams1", "fra1"]);
    assert_eq!(revoke(&mut stage, "nginx@fra1", RetireReason::Retired), 0);
    stage.settle(&["fra1", "ams1"]);
    stage.act("alice", |fleet, home| {
        ops::plan_reseal(None, home, fleet).unwrap().drafts("a reader has left", home, fleet).unwrap()
    });
    assert_eq!(burned_by(&stage), None);
    assert_eq!(revoke(&mut stage, "fra1", RetireReason::Compromised), 1, "the plan says so");
    assert_eq!(burned_by(&stage).as_deref(), Some("nginx@fra1"));
    assert_eq!(stage.opens("ams1", SHARED), "value");
    stage.seal("alice", SHARED, "new value");
    assert_eq!(burned_by(&stage), None);
}

fn whoever_left_in_order_may_turn_out_to_be_robbed(sandbox: &Sandbox) {
    let mut stage = sharing(sandbox, &["alice"], &["ams1", "fra1"]);
    let left = stage.open().state().members[&member("ams1")].active(Slot::SshHost).unwrap().key.clone();
    revoke(&mut stage, "ams1", RetireReason::Retired);
    assert_eq!(burned_by(&stage), None);
    let since = stage.open().state().members[&member("ams1")].retired.unwrap().0;
    stage.later(Span::days(3));
    assert_eq!(revoke(&mut stage, "ams1", RetireReason::Compromised), 1);
    assert_eq!(burned_by(&stage).as_deref(), Some("nginx@ams1"));
    let fleet = stage.open();
    let ams1 = &fleet.state().members[&member("ams1")];
    assert_eq!(ams1.retired, Some((since, RetireReason::Compromised)), "gone since then, robbed as is known now");
    let state = ams1.slot(Slot::SshHost).unwrap().find(&left).unwrap().state;
    assert_eq!(state, keys::state::KeyState::Compromised);
    // And the other way round nothing is taken back.
    let again =
        ops::plan_revoke(&member("ams1"), RetireReason::Retired, &stage.homes[&member("alice")], &mut stage.open());
    assert!(matches!(again, Err(OpsError::NoMember(_))));
}
