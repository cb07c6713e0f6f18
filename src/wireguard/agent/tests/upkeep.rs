//! Opening lanes, keeping them open, letting them fall silent; the breaker; the pace of rounds.

use std::time::Duration;

use super::super::{Action, BREAKER_EVERY, BREAKER_FOR};
use super::{Bed, Line, key, name, quiet, route, warm};
use crate::wireguard::Lane;

/// The one of `pop2` to `pop9` whose key on both lanes is larger, or smaller, than that of `pop1`.
fn peer_with(larger: bool) -> usize {
    let fits = |i: &usize| Lane::ALL.into_iter().all(|lane| (key(*i, lane) > key(1, lane)) == larger);
    (2..20).find(fits).expect("one of many")
}

/// A bed with one peer, `pop{i}`.
fn bed_with(i: usize) -> Bed {
    let mut bed = Bed::new(i - 1);
    bed.wanted.peers.retain(|peer, _| *peer == name(i));
    bed.lines.retain(|(lane, k), _| *k == key(i, *lane));
    bed
}

fn times(all: &[(f64, Action)], what: &Action) -> Vec<f64> {
    all.iter().filter(|(_, action)| action == what).map(|(at, _)| *at).collect()
}

#[test]
fn the_smaller_key_opens_at_once_and_the_other_end_two_seconds_later() {
    let (opens, waits) = (peer_with(true), peer_with(false));
    let mut bed = bed_with(opens);
    assert_eq!(bed.round(), [warm(opens, Lane::A), warm(opens, Lane::B)]);
    let mut bed = bed_with(waits);
    assert_eq!(bed.round(), []);
    let all = bed.until(3.0, |_| {});
    assert_eq!(all, [(2.0, warm(waits, Lane::A)), (2.0, warm(waits, Lane::B))]);
}

#[test]
fn opening_is_tried_again_after_five_to_six_seconds_without_keeping_step() {
    let mut bed = Bed::new(1);
    bed.round();
    let all = bed.until(300.0, |_| {});
    let tries = times(&all, &warm(2, Lane::A));
    let gaps: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (5.0..=6.25).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap > 5.5) && gaps.iter().any(|gap| *gap <= 5.5), "{gaps:?}");
}

#[test]
fn who_can_call_opens_whatever_the_keys_order() {
    for i in [peer_with(true), peer_with(false)] {
        let mut bed = bed_with(i);
        (bed.peer(i).callable, bed.peer(i).calls) = (true, false);
        assert_eq!(bed.round(), [warm(i, Lane::A), warm(i, Lane::B)]);
        let mut bed = bed_with(i);
        (bed.peer(i).callable, bed.peer(i).calls) = (false, true);
        bed.round();
        assert_eq!(bed.until(60.0, |_| {}), [], "nobody takes over from the end that can call");
    }
}

#[test]
fn a_handshake_is_renewed_before_it_is_too_old_to_prove() {
    for (i, at) in [(peer_with(true), 125.0), (peer_with(false), 135.0)] {
        let mut bed = bed_with(i);
        bed.shake(i, Lane::A);
        bed.shake(i, Lane::B);
        assert_eq!(bed.round(), [route(i, Lane::A), warm(i, Lane::A), warm(i, Lane::B)], "keepalives are set once");
        let all = bed.until(at + 0.5, |_| {});
        assert_eq!(all, [(at, warm(i, Lane::A)), (at, warm(i, Lane::B))]);
    }
}

#[test]
fn a_new_key_is_opened_without_waiting_for_the_old_ones_turn() {
    let mut bed = Bed::new(1);
    bed.shake(2, Lane::B);
    bed.until(2.5, |_| {});
    bed.lines.insert((Lane::A, key(9, Lane::A)), Line::default());
    bed.peer(2).keys[0] = Some(key(9, Lane::A));
    let all = bed.until(5.0, |_| {});
    assert_eq!(times(&all, &warm(2, Lane::A)).len(), 1, "{all:?}");
}

#[test]
fn a_live_session_that_does_not_answer_is_not_hammered() {
    let mut bed = Bed::open();
    bed.until(60.0, |bed| bed.send(2, Lane::A));
    let all = bed.until(110.0, |bed| bed.send(2, Lane::A));
    assert!(!bed.agent.is_proven(&name(2), Lane::A));
    assert!(times(&all, &warm(2, Lane::A)).len() <= 2, "{all:?}");
}

#[test]
fn a_draining_lane_falls_silent_once_the_other_carries_and_is_proven() {
    let mut bed = Bed::new(1);
    bed.shake(2, Lane::A);
    bed.round();
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::B, true);
    let all = bed.until(20.0, |_| {});
    assert!(all.iter().all(|(_, action)| *action != quiet(2, Lane::A)), "lane b is not proven: {all:?}");
    bed.now += 0.25;
    bed.shake(2, Lane::B);
    assert_eq!(bed.round(), [route(2, Lane::B), quiet(2, Lane::A)]);
    let all = bed.until(100.0, |_| {});
    assert!(all.iter().all(|(_, action)| *action == warm(2, Lane::B)), "silent it stays: {all:?}");
}

#[test]
fn a_draining_lane_is_taken_again_if_the_other_fails() {
    let mut bed = Bed::open();
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::B, true);
    assert_eq!(bed.after(1.0), [route(2, Lane::B), quiet(2, Lane::A)]);
    let all = bed.until(20.0, |bed| bed.send(2, Lane::B));
    assert_eq!(times(&all, &route(2, Lane::A)).len(), 1);
    assert_eq!(times(&all, &warm(2, Lane::A)).len(), 1, "and has a keepalive while it is used: {all:?}");
}

#[test]
fn a_lane_that_was_silent_has_to_be_heard_before_it_is_used_again() {
    let mut bed = Bed::open();
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::B, true);
    bed.after(1.0);
    bed.after(40.0);
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::A, true);
    bed.round();
    assert_eq!((bed.lane(2), bed.proven(2)), (Some(Lane::B), [false, true]), "the peer may have forgotten it");
    bed.until(45.0, |_| {});
    bed.line(2, Lane::A).received += 32;
    let actions = bed.after(0.25);
    assert_eq!(actions, [route(2, Lane::A), warm(2, Lane::A), quiet(2, Lane::B)], "and it wants to hear, too");
    // What was heard a moment ago is good enough.
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::B, true);
    bed.after(1.0);
    bed.hear(2, Lane::B);
    bed.after(1.0);
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::A, true);
    bed.after(1.0);
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::B, true);
    assert!(bed.after(1.0).contains(&route(2, Lane::B)));
}

#[test]
fn a_silent_lane_is_renewed_as_long_as_the_peer_speaks_there() {
    let renewed = |speaks: bool| {
        let i = peer_with(true);
        let mut bed = bed_with(i);
        bed.shake(i, Lane::A);
        bed.shake(i, Lane::B);
        bed.round();
        (bed.peer(i).preferred, bed.peer(i).draining) = (Lane::B, true);
        let all = bed.until(126.0, |bed| {
            if bed.now == 100.0 {
                bed.shake(i, Lane::B);
                bed.line(i, Lane::A).received += if speaks { 32 } else { 0 };
            }
        });
        (times(&all, &warm(i, Lane::A)), times(&all, &quiet(i, Lane::A)))
    };
    assert_eq!(renewed(false), (vec![], vec![0.25]));
    assert_eq!(renewed(true), (vec![125.0], vec![0.25, 125.25]), "one keepalive, and silent again");
}

#[test]
fn a_young_session_is_renewed_in_time_whatever_was_sent_into_it() {
    let i = peer_with(true);
    let mut bed = bed_with(i);
    bed.shake(i, Lane::A);
    bed.shake(i, Lane::B);
    bed.now = 118.0;
    assert!(bed.round().contains(&warm(i, Lane::A)), "the keepalive is set");
    let all = bed.until(126.0, |_| {});
    assert_eq!(times(&all, &warm(i, Lane::A)), [125.0]);
}

#[test]
fn with_nothing_proven_both_lanes_are_opened_the_draining_one_too() {
    let mut bed = Bed::open();
    (bed.peer(2).preferred, bed.peer(2).draining) = (Lane::B, true);
    bed.after(1.0);
    bed.now = 200.0;
    let all = bed.until(210.0, |_| {});
    for lane in Lane::ALL {
        assert!(!times(&all, &warm(2, lane)).is_empty(), "{lane}: {all:?}");
    }
}

/// Both ends begin a handshake at once, every 5 seconds, and none is finished.
fn collide(bed: &mut Bed, i: usize) {
    if ((bed.now * 4.0) as u64).is_multiple_of(20) {
        let line = bed.line(i, Lane::A);
        line.sent += 148 + 92;
        line.received += 148;
    }
}

#[test]
fn the_passive_end_holds_back_after_twelve_seconds_for_six_every_thirty() {
    let i = peer_with(false);
    let mut bed = bed_with(i);
    bed.agent.adopt(&name(i), Lane::A);
    bed.round();
    let all = bed.until(85.0, |bed| collide(bed, i));
    let holds = times(&all, &Action::Hold { peer: name(i) });
    let releases = times(&all, &Action::Release { peer: name(i) });
    // The first beginning is heard after 5 seconds.
    assert_eq!(holds, [17.0, 47.0, 77.0]);
    assert_eq!(releases, [23.0, 53.0, 83.0]);
    assert_eq!(holds[1] - holds[0], BREAKER_EVERY.as_secs_f64());
    assert_eq!(releases[0] - holds[0], BREAKER_FOR.as_secs_f64());
    let warms = all.iter().filter(|(_, action)| matches!(action, Action::Warm { .. }));
    let held = |at: f64| holds.iter().zip(&releases).any(|(from, to)| (*from..*to).contains(&at));
    assert!(warms.clone().count() > 10 && warms.clone().all(|(at, _)| !held(*at)), "nor is a lane opened meanwhile");
}

#[test]
fn a_handshake_ends_the_holding() {
    let i = peer_with(false);
    let mut bed = bed_with(i);
    bed.agent.adopt(&name(i), Lane::A);
    bed.round();
    bed.until(18.0, |bed| collide(bed, i));
    bed.now += 1.0;
    bed.shake(i, Lane::A);
    let actions = bed.round();
    assert_eq!(actions, [Action::Release { peer: name(i) }, warm(i, Lane::A)], "the new entry has no keepalive");
    let all = bed.until(21.5, |_| {});
    assert_eq!(all, [(21.0, warm(i, Lane::B))], "the other end has the first word");
}

#[test]
fn nothing_is_held_back_from_a_peer_that_opens_or_talks_or_is_not_there() {
    let holds = |i: usize, mut each: Box<dyn FnMut(&mut Bed)>| {
        let mut bed = bed_with(i);
        bed.agent.adopt(&name(i), Lane::A);
        bed.round();
        bed.until(100.0, |bed| each(bed)).iter().any(|(_, action)| matches!(action, Action::Hold { .. }))
    };
    let (opens, waits) = (peer_with(true), peer_with(false));
    assert!(holds(waits, Box::new(move |bed| collide(bed, waits))));
    assert!(!holds(opens, Box::new(move |bed| collide(bed, opens))), "one end only, the passive one");
    assert!(!holds(waits, Box::new(move |bed| bed.send(waits, Lane::A))), "nobody is there");
    let talks = move |bed: &mut Bed| {
        collide(bed, waits);
        bed.hear(waits, Lane::A);
    };
    assert!(!holds(waits, Box::new(talks)), "what it says arrives");
    let once = move |bed: &mut Bed| {
        if bed.now == 50.0 {
            bed.line(waits, Lane::A).received += 148;
        }
    };
    assert!(!holds(waits, Box::new(once)), "it has only just come back, and its handshake may still be finished");
}

#[test]
fn rounds_are_close_in_transition_and_rare_at_rest() {
    let (close, rare) = (Duration::from_millis(250), Duration::from_secs(5));
    let mut bed = Bed::new(2);
    assert_eq!(bed.agent.pause(), close);
    for i in [2, 3] {
        bed.shake(i, Lane::A);
        bed.shake(i, Lane::B);
    }
    bed.round();
    assert_eq!(bed.agent.pause(), rare);
    bed.peer(2).preferred = Lane::B;
    *bed.line(2, Lane::B) = Line::default();
    bed.after(1.0);
    assert_eq!(bed.agent.pause(), close);
    // Peer 2's lane b stays shut: after three minutes one peer does not keep the others' pace up.
    bed.until(182.0, |bed| {
        if (bed.now as u64).is_multiple_of(100) {
            [(2, Lane::A), (3, Lane::A), (3, Lane::B)].into_iter().for_each(|(i, lane)| bed.shake(i, lane));
        }
    });
    assert_eq!((bed.lane(2), bed.agent.pause()), (Some(Lane::A), rare));
    bed.until(700.0, |_| {});
    assert_eq!(bed.agent.pause(), close, "a node that hears nobody may be the one that is away");
}
