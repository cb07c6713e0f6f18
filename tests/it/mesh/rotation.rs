//! Every key of the mesh is replaced while numbered packets go between all pairs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::lab::{Flow, Lab, RATE, wait_until};
use crate::support::{Sandbox, Tool, tests};

tests!["mesh":
    every_key_is_replaced_twice_and_no_packet_is_lost needs [Wg, WireguardGo, Ip, Python3, Root],
    a_lane_whose_interface_is_gone_is_left_and_taken_up_again needs [Wg, WireguardGo, Ip, Python3, Root],
    a_soak_of_fifty_rotations_loses_nothing needs [Long, Wg, WireguardGo, Ip, Python3, Root],
];

const POLICY: [(&str, &str); 2] =
    [("drain_quiet = \"60s\"", "drain_quiet = \"3s\""), ("mode = \"none\"", "mode = \"kem-pair\"")];

/// Prints what became of each pair's packets.
fn print(flows: &[Flow]) {
    for flow in flows {
        let Flow { from, to, sent, missing, twice, gap } = flow;
        eprintln!(
            "mesh: pop{from} to pop{to}: {sent} sent, {} lost, {twice} twice, longest gap {:.0} ms{}",
            flow.lost(),
            gap * 1e3,
            missing.iter().map(|(a, b)| format!(", {a}..{b}")).collect::<String>()
        );
    }
}

/// Five machines, with preshared keys on the standby lane from the beginning. First rotation: one is cut off when it begins, and the lane with preshared keys is taken into
/// use. Second: one agent is dead, one machine is told seconds late. Third: every key and every preshared key that is in use. Delays of 0, 25 and 100 ms.
fn every_key_is_replaced_twice_and_no_packet_is_lost(sandbox: &Sandbox) {
    const AWAY: usize = 5;
    const LATE: usize = 4;
    const DEAD: usize = 3;
    let minute = Duration::from_secs(60);
    let copies = |lab: &Lab<'_>| [AWAY, LATE].into_iter().for_each(|n| lab.update_copy(n));
    let mut lab = Lab::new(sandbox, 5, &POLICY);
    lab.give_own_copy(AWAY);
    lab.give_own_copy(LATE);
    lab.up();
    lab.await_routes(minute);
    // What a machine joined with and uses has none.
    lab.await_preshared(4, minute, copies);
    let streams = lab.stream();
    std::thread::sleep(Duration::from_secs(3));

    lab.network("delay 0.025");
    let cut = streams.number();
    lab.network(&format!("cut {AWAY}"));
    lab.authority(&["rotate", "--soon", "--slot", "wireguard", "--yes"]);
    lab.update_copy(LATE);
    std::thread::sleep(Duration::from_secs(12));
    let back = streams.number();
    lab.network(&format!("join {AWAY}"));
    std::thread::sleep(Duration::from_secs(6));
    lab.await_standbys(2 * minute, copies);
    // The keys of both lanes have been published with an exchange by now.
    lab.await_preshared(8, minute, copies);

    lab.network("delay 0.1");
    lab.kill_agent(DEAD);
    lab.authority(&["rotate", "--soon", "--slot", "wireguard", "--yes"]);
    lab.update_copy(AWAY);
    std::thread::sleep(Duration::from_secs(5));
    lab.update_copy(LATE);
    std::thread::sleep(Duration::from_secs(8));
    lab.start_agent(DEAD);
    lab.await_standbys(2 * minute, copies);

    // Preshared keys that are in use change, too.
    lab.network("delay 0");
    // The agents see the newest keys within a round at rest.
    std::thread::sleep(Duration::from_secs(8));
    lab.await_preshared(8, minute, copies);
    let before: Vec<_> = (1..=5).map(|n| lab.preshared(n)).collect();
    lab.authority(&["rotate", "--soon", "--slot", "wireguard", "--yes"]);
    lab.await_standbys(2 * minute, copies);
    std::thread::sleep(Duration::from_secs(8));
    lab.await_preshared(8, minute, copies);
    let after: Vec<_> = (1..=5).map(|n| lab.preshared(n)).collect();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.difference(after).count(), 4, "one lane's");
    }
    // Each is that of one pair: twenty of them, each at two ends.
    assert_eq!(after.iter().flatten().collect::<BTreeSet<_>>().len(), 20);

    let flows = lab.end(streams);
    // Who is taken out is dropped everywhere in one round of the agents, which is 5 s at rest.
    let keys = ["wg-a", "wg-b"].map(|lane| lab.told(AWAY, Tool::Wg, &["show", lane, "public-key"]).trim().to_owned());
    lab.authority(&["revoke", "pop5", "--reason", "compromised", "--yes"]);
    lab.update_copy(LATE);
    for n in 1..AWAY {
        wait_until(&format!("pop{n} drops pop5"), Duration::from_secs(10), || {
            let shown = ["wg-a", "wg-b"].map(|lane| lab.told(n, Tool::Wg, &["show", lane, "peers"]));
            let routes = lab.told(n, Tool::Ip, &["route", "show", "metric", "50"]);
            !keys.iter().any(|key| shown.concat().contains(key)) && routes.lines().count() == 3
        });
    }
    print(&flows);
    assert_eq!(flows.len(), 20);
    // Six seconds after its return the one that was away is reached again.
    let meanwhile = cut.saturating_sub(RATE)..back + 6 * RATE;
    for flow in &flows {
        let touches = [flow.from, flow.to].contains(&AWAY);
        let excused = |(a, b): &(u64, u64)| touches && meanwhile.contains(a) && *b <= meanwhile.end;
        assert!(flow.missing.iter().all(excused), "pop{} to pop{}: {:?}", flow.from, flow.to, flow.missing);
        assert!(flow.sent > 30 * RATE && !flow.missing.contains(&(0, flow.sent)), "{flow:?}");
    }
    // The measure itself: what was cut off is seen to be lost.
    assert!(flows.iter().filter(|f| f.from == AWAY).all(|f| f.lost() > 8 * RATE), "{flows:?}");
}

/// The interface of the lane that carries everything dies: what is for the peer goes through the other lane, at both ends,
/// and once it is there again it has its key and peers.
fn a_lane_whose_interface_is_gone_is_left_and_taken_up_again(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, 2, &[]);
    lab.up();
    lab.await_routes(Duration::from_secs(60));
    let lane_of = |lab: &Lab<'_>, n: usize| {
        let routes = lab.told(n, Tool::Ip, &["route", "show", "metric", "50"]);
        ["wg-a", "wg-b"].into_iter().find(|lane| routes.contains(lane))
    };
    // Which lane carries is decided by which is heard first: on a busy machine it may be either.
    let (number, lane, other) = match lane_of(&lab, 1) {
        Some("wg-b") => (1, "wg-b", "wg-a"),
        _ => (0, "wg-a", "wg-b"),
    };
    let streams = lab.stream();
    std::thread::sleep(Duration::from_secs(2));
    lab.machine(1).end_device(number);
    for n in [1, 2] {
        wait_until(&format!("pop{n} uses {other}"), Duration::from_secs(40), || lane_of(&lab, n) == Some(other));
    }
    let moved = streams.number() + RATE;
    std::thread::sleep(Duration::from_secs(5));
    lab.start_device(1, lane);
    wait_until("the lane has its key and peers", Duration::from_secs(40), || {
        lab.told(1, Tool::Wg, &["show", lane]).matches("latest handshake").count() == 1
    });
    let flows = lab.end(streams);
    print(&flows);
    assert!(flows.iter().all(|flow| flow.missing.iter().all(|(_, b)| *b < moved)), "{flows:?}");
}

/// Fifty rotations of three machines, with another delay each time.
fn a_soak_of_fifty_rotations_loses_nothing(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, 3, &POLICY);
    lab.up();
    lab.await_routes(Duration::from_secs(60));
    let streams = lab.stream();
    for n in 0..50 {
        lab.network(&format!("delay {}", [0.0, 0.025, 0.1][n % 3]));
        lab.authority(&["rotate", "--soon", "--slot", "wireguard", "--yes"]);
        lab.await_standbys(Duration::from_secs(180), |_| ());
        eprintln!("mesh: rotation {} of 50", n + 1);
    }
    let flows = lab.end(streams);
    print(&flows);
    assert!(flows.iter().all(|flow| flow.sent > 200 * RATE && flow.lost() == 0), "{flows:?}");
}
