//! When a lane is drained, and what its owner does then.

use super::super::{Action, Drain, Ends, Moment, Step, next_step};
use super::{Bed, key, name, seconds};
use crate::time::{Span, Time};
use crate::wireguard::Lane;

fn drain(bed: &Bed, lane: Lane) -> Drain {
    bed.agent.drain(lane, Moment::at(seconds(bed.now)))
}

/// Both ends on lane b since second 1, lane a silent.
fn draining() -> Bed {
    let mut bed = Bed::open();
    bed.hear(2, Lane::A);
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::B, true);
    bed.after(1.0);
    bed
}

#[test]
fn a_lane_with_a_route_carries() {
    let bed = Bed::open();
    assert_eq!(drain(&bed, Lane::A).carrying, [name(2)]);
    assert_eq!(drain(&bed, Lane::B).carrying, []);
}

#[test]
fn a_lane_that_the_pair_should_use_carries() {
    let mut bed = draining();
    bed.after(40.0);
    assert_eq!(drain(&bed, Lane::A).carrying, []);
    bed.peer(2).preferred = Lane::A;
    bed.after(1.0);
    assert_eq!(bed.lane(2), Some(Lane::B), "not heard yet");
    assert_eq!(drain(&bed, Lane::A).carrying, [name(2)], "but the peer may be there already");
}

#[test]
fn a_lane_that_would_have_to_be_used_again_carries() {
    let mut bed = draining();
    assert_eq!(drain(&bed, Lane::A).carrying, []);
    bed.until(14.0, |bed| bed.send(2, Lane::B));
    assert_eq!(drain(&bed, Lane::A).carrying, [name(2)]);
}

#[test]
fn a_peer_that_is_neither_there_nor_away_carries() {
    let mut bed = draining();
    bed.after(130.0);
    bed.hear(2, Lane::B);
    bed.after(30.0);
    assert_eq!((bed.lane(2), bed.proven(2)), (Some(Lane::B), [false, false]));
    assert_eq!(drain(&bed, Lane::A).carrying, [name(2)], "it may come back on either lane");
}

#[test]
fn under_a_new_key_a_peer_is_watched_from_then_on() {
    let mut bed = draining();
    bed.after(99.0);
    bed.lines.insert((Lane::A, key(9, Lane::A)), super::Line::default());
    bed.peer(2).keys[0] = Some(key(9, Lane::A));
    bed.after(0.0);
    bed.after(10.0);
    bed.hear(2, Lane::B);
    bed.after(0.0);
    assert_eq!(drain(&bed, Lane::A).quiet_for, seconds(10.0));
}

#[test]
fn quiet_is_counted_until_the_peer_was_last_heard_elsewhere() {
    let mut bed = draining();
    bed.after(30.0);
    assert_eq!(drain(&bed, Lane::A).quiet_for, seconds(0.0), "it may be cut off");
    bed.hear(2, Lane::B);
    bed.after(0.0);
    assert_eq!(drain(&bed, Lane::A).quiet_for, seconds(30.0));
    bed.line(2, Lane::A).received += 32;
    bed.after(40.0);
    bed.hear(2, Lane::B);
    bed.after(5.0);
    assert_eq!(drain(&bed, Lane::A).quiet_for, seconds(5.0), "a keepalive is a sign that it does not know");
}

#[test]
fn who_is_not_wanted_but_still_arrives_counts() {
    let mut bed = draining();
    bed.after(70.0);
    bed.hear(2, Lane::B);
    bed.lines.insert((Lane::A, key(9, Lane::A)), super::Line::default());
    bed.after(0.0);
    assert_eq!(drain(&bed, Lane::A).quiet_for, seconds(70.0));
    bed.lines.get_mut(&(Lane::A, key(9, Lane::A))).expect("inserted").received = 32;
    bed.after(1.0);
    bed.hear(2, Lane::B);
    bed.after(1.0);
    assert_eq!(drain(&bed, Lane::A).quiet_for, seconds(1.0));
    bed.lines.remove(&(Lane::A, key(9, Lane::A)));
    bed.after(0.0);
    assert_eq!(drain(&bed, Lane::A).quiet_for, seconds(72.0), "until it is off the interface");
}

#[test]
fn a_peer_is_left_out_after_three_minutes_without_a_word() {
    let mut bed = Bed::open();
    bed.hear(2, Lane::A);
    bed.after(1.0);
    bed.after(179.75);
    assert_eq!(drain(&bed, Lane::A).carrying, [name(2)]);
    bed.after(0.25);
    assert_eq!(drain(&bed, Lane::A).carrying, []);
    assert!(drain(&bed, Lane::A).quiet_for >= seconds(180.0));
    assert_eq!(bed.agent.unproven(Lane::B), [], "nor does it stop a rotation");
    bed.hear(2, Lane::A);
    bed.after(1.0);
    assert_eq!(drain(&bed, Lane::A).carrying, [name(2)]);
    assert_eq!(bed.agent.unproven(Lane::B), [name(2)]);
}

#[test]
fn a_restarted_agent_counts_anew() {
    let mut bed = Bed::new(1);
    for lane in Lane::ALL {
        *bed.line(2, lane) = super::Line { sent: 9_000, received: 9_000, handshake: Some(-100.0) };
    }
    bed.agent.adopt(&name(2), Lane::B);
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::B, true);
    bed.round();
    bed.after(59.0);
    bed.shake(2, Lane::B);
    bed.after(0.0);
    assert_eq!(drain(&bed, Lane::A).quiet_for, seconds(59.0));
}

fn ends(active: Lane, since: u64, i: usize, draining: bool) -> Ends {
    Ends { active, since: Time(since), key: key(i, active), draining }
}

#[test]
fn a_lane_is_replaced_when_drained_and_never_by_time_alone() {
    let quiet = Span(60);
    let at = |seconds| Time(1_000_000 + seconds);
    let own = ends(Lane::B, 1_000_000, 1, true);
    let drain = |peers: usize, quiet| Drain { carrying: (2..2 + peers).map(name).collect(), quiet_for: seconds(quiet) };
    assert_eq!(next_step(&Ends { draining: false, ..own }, &drain(0, 99.0), quiet, at(0)), Step::Nothing);
    assert_eq!(next_step(&own, &drain(0, 60.0), quiet, at(0)), Step::Replace(Lane::A));
    assert_eq!(
        next_step(&own, &drain(0, 59.9), quiet, at(9)),
        Step::Wait("lane a has been quiet for 59s of 1m".to_owned())
    );
    assert_eq!(
        next_step(&own, &drain(7, 99.0), quiet, at(9)),
        Step::Wait("lane a still carries packets for pop2, pop3, pop4, pop5, pop6 and 2 more".to_owned())
    );
    for (day, drain) in [(1, drain(1, 1e9)), (1_000, drain(1, 1e9)), (1_000, drain(0, 59.0))] {
        let step = next_step(&own, &drain, quiet, at(day * 86_400));
        let Step::Alarm { lane: Lane::A, undrained, .. } = step else { panic!("{step:?}") };
        assert_eq!(undrained, Span::days(day));
    }
}

#[test]
fn what_a_draining_node_asks_for_and_what_the_driver_reads_agree() {
    let mut bed = draining();
    bed.after(70.0);
    bed.hear(2, Lane::B);
    let actions = bed.after(0.0);
    assert!(!actions.iter().any(|a| matches!(a, Action::Route { lane: Lane::A, .. })));
    let own = ends(Lane::B, 0, 1, true);
    assert_eq!(next_step(&own, &drain(&bed, Lane::A), Span(60), Time(100)), Step::Replace(Lane::A));
    let report = bed.agent.report(Moment::at(seconds(bed.now)));
    assert_eq!(report.len(), 1);
    assert_eq!((report[0].route, report[0].draining), (Some(Lane::B), Some(Lane::A)));
    assert_eq!(report[0].lanes.each_ref().map(|lane| lane.keepalive), [Some(false), Some(true)]);
    let text = serde_json::to_string(&report).expect("JSON");
    assert!(text.contains(r#""route":"b","preferred":"b","draining":"a","held":false,"away":false"#), "{text}");
}
