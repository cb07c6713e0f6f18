//! A round of the agent of a node with 1 000 peers: what both interfaces say is read and taken in, and decided upon. What is
//! not in it are the two runs of `wg` that say it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use keys::wireguard::agent::{Action, Agent, Moment, Sample, Samples, Wanted, WantedPeer};
use keys::wireguard::device::Running;
use keys::wireguard::{CheckedMesh, Lane};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Peers of the node.
const PEERS: usize = 1_000;
/// The pause between rounds at rest.
const PAUSE: Duration = Duration::from_secs(5);

/// What the log says: every pair on `preferred`.
fn wanted(mesh: &CheckedMesh, preferred: Lane, draining: bool) -> Wanted {
    let own = &mesh.nodes()[0];
    let peer = |node: &keys::wireguard::Node| {
        let peer = WantedPeer { keys: node.keys, preferred, draining, callable: true, calls: true };
        (node.name.clone(), peer)
    };
    Wanted { keys: own.keys, peers: mesh.peers_of(&own.name).map(peer).collect() }
}

/// What `wg show INTERFACE dump` prints in the `n`th round: 64 bytes more each time, each way, with a young handshake.
fn dump(mesh: &CheckedMesh, lane: Lane, n: u64) -> String {
    let own = &mesh.nodes()[0];
    let mut text = format!("(none)\t{}\t51820\toff\n", own.key(lane).expect("a key"));
    for peer in mesh.peers_of(&own.name) {
        let (key, addresses) = (peer.key(lane).expect("a key"), peer.addresses);
        let (v4, v6, bytes) = (addresses.ipv4, addresses.ipv6, 1_000 + n * 96);
        let _ = writeln!(text, "{key}\t(none)\t198.51.100.7:51820\t{v4}/32,{v6}/128\t10\t{bytes}\t{bytes}\t25");
    }
    text
}

/// What the command does with it.
fn round(agent: &mut Agent, n: u64, wanted: &Wanted, dumps: &[String; 2], rng: &mut StdRng) -> Vec<Action> {
    let lanes = dumps.each_ref().map(|dump| {
        let running = Running::parse(dump, 0).expect("a dump");
        let sample = |p: &keys::wireguard::device::RunningPeer| Sample {
            sent: p.sent,
            received: p.received,
            handshake: p.handshake,
        };
        running.peers.iter().map(|(key, peer)| (*key, sample(peer))).collect::<BTreeMap<_, _>>()
    });
    let now = Moment::at(PAUSE * u32::try_from(n).expect("a few"));
    let actions = agent.round(now, wanted, &Samples { lanes }, rng);
    std::hint::black_box(agent.drain(Lane::B, now));
    actions
}

/// Measures rounds at rest, and those in which every pair is to use the other lane.
pub fn rounds(c: &mut Criterion) {
    let mesh = stage::mesh(PEERS + 1);
    let mut rng = StdRng::from_seed([7; 32]);
    let mut agent = Agent::new();
    let at_rest = wanted(&mesh, Lane::A, false);
    for n in 0..4 {
        round(&mut agent, n, &at_rest, &Lane::ALL.map(|lane| dump(&mesh, lane, n)), &mut rng);
    }
    // Each measured round is the next after the same ones.
    let dumps = Lane::ALL.map(|lane| dump(&mesh, lane, 4));
    assert_eq!(round(&mut agent.clone(), 4, &at_rest, &dumps, &mut rng), []);
    let moving = wanted(&mesh, Lane::B, true);
    let moved = round(&mut agent.clone(), 4, &moving, &dumps, &mut rng);
    assert_eq!(moved.iter().filter(|action| matches!(action, Action::Route { lane: Lane::B, .. })).count(), PEERS);
    for (name, wanted) in [("at rest", &at_rest), ("all pairs move", &moving)] {
        c.bench_function(&format!("wg: an agent's round, 1 000 peers, {name}"), |b| {
            b.iter_batched(
                || agent.clone(),
                |mut agent| {
                    let actions = round(&mut agent, 4, wanted, &dumps, &mut rng);
                    (agent, actions)
                },
                BatchSize::LargeInput,
            )
        });
    }
}
