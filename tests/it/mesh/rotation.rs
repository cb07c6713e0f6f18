//! Every key of the mesh is replaced while numbered packets go between all pairs.

use std::time::Duration;

use super::lab::{Flow, Lab, RATE, wait_until};
use crate::support::{Sandbox, Tool, tests};

tests!["mesh":
    every_key_is_replaced_twice_and_no_packet_is_lost needs [Wg, WireguardGo, Ip, Python3, Root],
];

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

/// Five machines. First rotation: one is cut off when it begins. Second: one agent is dead, one machine is told seconds
/// late. Delays of 0, 25 and 100 ms.
fn every_key_is_replaced_twice_and_no_packet_is_lost(sandbox: &Sandbox) {
    const AWAY: usize = 5;
    const LATE: usize = 4;
    const DEAD: usize = 3;
    let minute = Duration::from_secs(60);
    let mut lab = Lab::new(sandbox, 5, &[("drain_quiet = \"60s\"", "drain_quiet = \"3s\"")]);
    lab.give_own_copy(AWAY);
    lab.give_own_copy(LATE);
    lab.up();
    lab.await_routes(minute);
    let streams = lab.stream();
    std::thread::sleep(Duration::from_secs(3));

    lab.network("delay 0.025");
    let cut = streams.number();
    lab.network(&format!("cut {AWAY}"));
    lab.fleet.keys("alice", &["rotate", "--slot", "wireguard", "--yes"]).ok();
    lab.update_copy(LATE);
    std::thread::sleep(Duration::from_secs(12));
    let back = streams.number();
    lab.network(&format!("join {AWAY}"));
    std::thread::sleep(Duration::from_secs(6));
    lab.await_standbys(2 * minute, |lab| [AWAY, LATE].into_iter().for_each(|n| lab.update_copy(n)));

    lab.network("delay 0.1");
    lab.kill_agent(DEAD);
    lab.fleet.keys("alice", &["rotate", "--slot", "wireguard", "--yes"]).ok();
    lab.update_copy(AWAY);
    std::thread::sleep(Duration::from_secs(5));
    lab.update_copy(LATE);
    std::thread::sleep(Duration::from_secs(8));
    lab.start_agent(DEAD);
    lab.await_standbys(2 * minute, |lab| [AWAY, LATE].into_iter().for_each(|n| lab.update_copy(n)));
    lab.network("delay 0");
    std::thread::sleep(Duration::from_secs(3));

    let flows = lab.end(streams);
    // Who is taken out is dropped everywhere in one round of the agents, which is 5 s at rest.
    let keys = ["wg-a", "wg-b"].map(|lane| lab.told(AWAY, Tool::Wg, &["show", lane, "public-key"]).trim().to_owned());
    lab.fleet.keys("alice", &["revoke", "pop5", "--reason", "compromised", "--yes"]).ok();
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
