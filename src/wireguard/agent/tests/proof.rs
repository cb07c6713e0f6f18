//! When a lane is proven, and what follows for the route.

use super::super::Action;
use super::{Bed, Line, key, name, route};
use crate::wireguard::Lane;

#[test]
fn the_preferred_lane_if_proven_else_the_other_else_no_change() {
    let mut bed = Bed::new(1);
    bed.round();
    assert_eq!(bed.lane(2), None, "nothing is proven: no route");
    bed.shake(2, Lane::B);
    assert!(bed.after(1.0).contains(&route(2, Lane::B)), "the other lane is better than none");
    bed.shake(2, Lane::A);
    assert!(bed.after(1.0).contains(&route(2, Lane::A)));
    bed.now = 151.5;
    bed.round();
    assert_eq!(bed.proven(2), [false, false]);
    assert_eq!(bed.lane(2), Some(Lane::A), "nothing proven: the route stays");
}

#[test]
fn a_handshake_proves_for_150_seconds() {
    let mut bed = Bed::open();
    bed.after(149.9);
    assert_eq!(bed.proven(2), [true, true]);
    bed.after(0.1);
    assert_eq!(bed.proven(2), [false, false]);
}

#[test]
fn twelve_seconds_of_unanswered_sending_disprove() {
    let mut bed = Bed::open();
    bed.after(5.0);
    bed.send(2, Lane::A);
    bed.after(1.0);
    bed.send(2, Lane::A);
    bed.after(11.75);
    assert_eq!(bed.proven(2), [true, true]);
    assert_eq!(bed.after(0.25).first(), Some(&route(2, Lane::B)));
    assert_eq!(bed.proven(2), [false, true]);
    bed.hear(2, Lane::A);
    assert_eq!(bed.after(0.25), [route(2, Lane::A)], "one word and it is proven again");
}

#[test]
fn keepalives_are_not_waited_for() {
    let mut bed = Bed::open();
    for _ in 0..5 {
        bed.line(2, Lane::A).sent += 64;
        bed.line(2, Lane::B).sent += 32;
        bed.after(25.0);
        assert_eq!(bed.proven(2), [true, true]);
    }
}

#[test]
fn an_answer_within_the_round_is_an_answer() {
    let mut bed = Bed::open();
    for _ in 0..10 {
        bed.send(2, Lane::A);
        bed.hear(2, Lane::A);
        bed.after(5.0);
    }
    bed.after(20.0);
    assert!(bed.agent.is_proven(&name(2), Lane::A));
}

#[test]
fn a_peer_that_talks_on_the_other_lane_is_followed() {
    let mut bed = Bed::open();
    bed.after(10.0);
    bed.shake(2, Lane::B);
    bed.after(1.0);
    bed.send(2, Lane::A);
    bed.after(0.25);
    bed.hear(2, Lane::B);
    bed.after(0.75);
    assert_eq!(bed.lane(2), Some(Lane::A));
    assert!(bed.after(0.25).contains(&route(2, Lane::B)), "after one second");
}

#[test]
fn a_peer_is_not_followed_for_keepalives_nor_to_an_older_handshake() {
    let lane_after = |bed: &mut Bed, heard: u64, newer: Lane| {
        bed.after(10.0);
        bed.shake(2, newer);
        bed.after(1.0);
        for _ in 0..20 {
            bed.send(2, Lane::A);
            bed.line(2, Lane::B).received += heard;
            bed.after(0.5);
        }
        bed.lane(2)
    };
    for upkeep in [32, 64, 148, 92, 148 + 32, 148 + 64, 92 + 96, 148 + 92 + 32] {
        assert_eq!(lane_after(&mut Bed::open(), upkeep, Lane::B), Some(Lane::A), "{upkeep} is no talk");
    }
    for talk in [96, 128, 148 + 128, 1_312] {
        assert_eq!(lane_after(&mut Bed::open(), talk, Lane::B), Some(Lane::B), "{talk} is");
    }
    assert_eq!(lane_after(&mut Bed::open(), 500, Lane::A), Some(Lane::A), "lane a's handshake is newer");
    assert_eq!(lane_after(&mut Bed::open(), 500, Lane::B), Some(Lane::B), "or else it is followed");
}

#[test]
fn a_new_key_of_the_peer_has_to_prove_itself() {
    let mut bed = Bed::open();
    bed.lines.insert((Lane::A, key(9, Lane::A)), Line::default());
    bed.peer(2).keys[0] = Some(key(9, Lane::A));
    bed.after(1.0);
    assert_eq!((bed.proven(2), bed.lane(2)), ([false, true], Some(Lane::B)));
}

#[test]
fn under_a_new_key_of_ones_own_old_handshakes_prove_nothing() {
    let mut bed = Bed::open();
    bed.after(60.0);
    bed.wanted.keys[1] = Some(key(9, Lane::B));
    bed.after(1.0);
    assert_eq!(bed.proven(2), [true, false]);
    bed.hear(2, Lane::B);
    bed.after(1.0);
    assert_eq!(bed.proven(2), [true, false], "a session of the old key may still be received");
    bed.shake(2, Lane::B);
    bed.after(1.0);
    assert_eq!(bed.proven(2), [true, true]);
}

#[test]
fn an_interface_made_anew_is_a_fresh_start() {
    let mut bed = Bed::open();
    bed.send(2, Lane::A);
    bed.after(20.0);
    *bed.line(2, Lane::A) = Line::default();
    bed.after(1.0);
    assert_eq!(bed.proven(2), [false, true]);
    bed.now += 1.0;
    bed.shake(2, Lane::A);
    bed.after(1.0);
    assert_eq!(bed.proven(2), [true, true], "what went unanswered before is forgotten");
}

#[test]
fn a_lane_without_both_keys_is_not_used() {
    let mut bed = Bed::open();
    bed.peer(2).keys[0] = None;
    bed.after(1.0);
    assert_eq!(bed.lane(2), Some(Lane::B));
    let mut bed = Bed::open();
    bed.wanted.keys[0] = None;
    bed.after(1.0);
    assert_eq!(bed.lane(2), Some(Lane::B));
}

#[test]
fn setting_the_wall_clock_proves_and_disproves_nothing() {
    for step in [3_600.0, -60.0] {
        let mut bed = Bed::open();
        bed.after(100.0);
        bed.clock_ahead = step;
        bed.after(1.0);
        assert_eq!(bed.proven(2), [true, true], "{step}");
        bed.hear(2, Lane::A);
        bed.after(1.0);
        assert_eq!(bed.proven(2), [true, true], "{step}");
        bed.after(47.5);
        assert!(bed.proven(2)[1], "{step}");
        bed.after(1.0);
        assert!(!bed.proven(2)[1], "{step}");
    }
}

#[test]
fn a_restarted_agent_changes_nothing_that_works() {
    let mut bed = Bed::new(1);
    for lane in Lane::ALL {
        *bed.line(2, lane) = Line { sent: 9_000, received: 9_000, handshake: Some(-140.0) };
    }
    bed.agent.adopt(&name(2), Lane::A);
    let actions = bed.round();
    assert!(actions.iter().all(|action| matches!(action, Action::Warm { .. })), "{actions:?}");
    bed.after(10.5);
    assert_eq!(bed.proven(2), [false, false], "handshakes before the start keep their age");
    assert_eq!(bed.lane(2), Some(Lane::A));
}

#[test]
fn a_peer_that_is_not_wanted_any_more_is_dropped_at_once() {
    let mut bed = Bed::open();
    bed.agent.adopt(&name(5), Lane::B);
    bed.wanted.peers.clear();
    assert_eq!(bed.after(0.25), [Action::Drop { peer: name(2) }, Action::Drop { peer: name(5) }]);
    assert_eq!(bed.lane(2), None);
    assert_eq!(bed.after(0.25), []);
}
