//! A mesh of agents, simulated: WireGuard's sessions, links with delays, copies of the log that come late, rotations, and
//! faults of every kind, against laws that are checked at every step. A run follows from its seed alone.
//!
//! `KEYS_TEST_SEED=7 cargo test --test it -- mesh_sim::small` repeats one run; on failure the seed is printed with
//! the last that happened between the two nodes. `KEYS_TEST_LONG=1` runs thousands of seeds and large meshes.

mod driver;
mod faults;
mod founding;
mod laws;
mod wire;
mod world;

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::faults::Weather;
use self::founding::Shape;
use self::laws::Tally;
use self::wire::{SECOND, Us};
use self::world::{Broken, World};
use crate::support::{Sandbox, tests};

tests!["mesh_sim":
    small_meshes_lose_nothing_and_come_to_rest,
    livelocks_end,
    a_thousand_nodes_rotate_their_keys,
    what_breaks_a_rule_is_noticed,
];

/// How long faults last in a run, and how long the mesh then has to come to rest.
const STORM: Us = 900 * SECOND;
const REST: Us = 1_500 * SECOND;
/// How long it stays there: every handshake is renewed at least once.
const STAY: Us = 200 * SECOND;
/// How often it is asked whether the mesh is at rest.
const STEP: Us = 20 * SECOND;

/// What a seed comes to, before any event.
fn shape(seed: u64, broken: Broken) -> Shape {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x6d65_7368);
    Shape {
        nodes: rng.random_range(2..5),
        on_b: 0.2,
        degree: None,
        delay_max: [1_000, 40_000, 150_000][rng.random_range(0..3)],
        nat: if rng.random_bool(0.3) { 0.4 } else { 0.0 },
        blocked: if rng.random_bool(0.15) { 0.3 } else { 0.0 },
        flows: rng.random_range(0.2..1.0),
        every: [2 * SECOND, SECOND, 300_000, 300_000][rng.random_range(0..4)],
        lossy: if rng.random_bool(0.2) { 0.05 } else { 0.0 },
        static_routes: rng.random_bool(0.5),
        whole_seconds: rng.random_bool(0.5),
        sync_max: [2, 30, 120][rng.random_range(0..3)] * SECOND,
        broken,
    }
}

/// A small mesh in a storm, then at rest.
fn small(seed: u64, broken: Broken, watched: Option<(usize, usize)>) -> World {
    let mut world = World::new(seed, shape(seed, broken));
    world.watched = watched;
    let faults = world.rng.random_range(0..8);
    let weather = Weather {
        from: 60 * SECOND,
        until: STORM,
        faults,
        power_cuts: usize::from(world.rng.random_bool(0.3)),
        rotations: 3 * world.nodes.len(),
        removals: usize::from(world.rng.random_bool(0.15)),
        gap: 400 * SECOND,
    };
    run(&mut world, weather, STAY);
    world
}

/// Two nodes that both send all the time, far apart, whose power fails again and again: where livelocks come from. One
/// lane may be closed, so that there is no other to go to.
fn power_cuts(seed: u64, broken: Broken, watched: Option<(usize, usize)>) -> World {
    let shape = Shape {
        nodes: 2,
        delay_max: 150_000,
        nat: 0.0,
        blocked: 0.7,
        flows: 1.0,
        every: 30_000,
        lossy: 0.0,
        static_routes: true,
        ..shape(seed, broken)
    };
    let mut world = World::new(seed, shape);
    world.watched = watched;
    let weather =
        Weather { from: 60 * SECOND, until: STORM, faults: 0, power_cuts: 4, rotations: 0, removals: 0, gap: 0 };
    run(&mut world, weather, STAY);
    world
}

/// The storm that `weather` is, and then as long as it takes to come to rest. There it stays for a while.
fn run(world: &mut World, weather: Weather, stay: Us) {
    world.forecast(weather);
    world.run(weather.until);
    world.clear_up();
    for until in (weather.until..weather.until + REST).step_by(STEP as usize) {
        world.run(until);
        if world.tally.broken.is_some() || world.unrest().is_none() {
            break;
        }
    }
    world.tally.slowest_rest = world.now.saturating_sub(weather.until) / SECOND;
    world.run(world.now + stay);
    world.judge_end();
}

/// Three nodes that rotate from and to different lanes at once, with copies of the log that are late: where two nodes
/// could come to have no lane in common.
fn late(seed: u64, broken: Broken, watched: Option<(usize, usize)>) -> World {
    let shape = Shape {
        nodes: 3,
        on_b: 0.5,
        nat: 0.0,
        blocked: 0.0,
        flows: 0.5,
        every: 5 * SECOND,
        sync_max: 200 * SECOND,
        ..shape(seed, broken)
    };
    let mut world = World::new(seed, shape);
    world.watched = watched;
    let weather = Weather {
        from: 60 * SECOND,
        until: 1_500 * SECOND,
        faults: 6,
        power_cuts: 0,
        rotations: 30,
        removals: 0,
        gap: 400 * SECOND,
    };
    run(&mut world, weather, STAY);
    world
}

/// A thousand nodes of which each talks to a few, all of whose keys are rotated while things fail here and there.
fn large(seed: u64, broken: Broken, watched: Option<(usize, usize)>) -> World {
    let shape = Shape {
        nodes: 1_000,
        on_b: 0.02,
        degree: Some(4),
        nat: 0.1,
        blocked: 0.0,
        flows: 0.3,
        every: 3 * SECOND,
        sync_max: 30 * SECOND,
        ..shape(seed, broken)
    };
    let mut world = World::new(seed, shape);
    world.watched = watched;
    let weather = Weather {
        from: 20 * SECOND,
        until: 80 * SECOND,
        faults: 50,
        power_cuts: 5,
        rotations: 700,
        removals: 3,
        gap: 1_000 * SECOND,
    };
    run(&mut world, weather, 0);
    world
}

/// A kind of mesh, by its seed.
type Kind = fn(u64, Broken, Option<(usize, usize)>) -> World;

/// Runs a mesh again and tells the law that it breaks, and what happened between the two nodes before.
fn story(kind: Kind, seed: u64, broken: Broken) -> Option<String> {
    let (law, a, b) = kind(seed, broken, None).tally.broken?;
    let trace: Vec<_> = kind(seed, broken, Some(world::pair(a, b))).trace.into();
    Some(format!("KEYS_TEST_SEED={seed}: {law}\n{}", trace.join("\n")))
}

/// Runs a mesh of each seed, of the one in the environment if there is one. The first that breaks a law is told.
fn all_of(kind: Kind, seeds: u64) -> Tally {
    let one = std::env::var("KEYS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let (start, mut all) = (Instant::now(), Tally::default());
    for seed in one.map_or(0..seeds, |seed| seed..seed + 1) {
        let tally = kind(seed, Broken::Nothing, None).tally;
        if let Some((law, ..)) = &tally.broken {
            panic!("{}", story(kind, seed, Broken::Nothing).unwrap_or_else(|| law.clone()));
        }
        all.add(&tally);
    }
    eprintln!("mesh_sim: {seeds} seeds in {:.1} s: {all:?}", start.elapsed().as_secs_f64());
    assert!(one.is_some() || all.promised > all.sent / 2, "hardly anything was promised: {all:?}");
    all
}

/// How many seeds: so many, or with `KEYS_TEST_LONG` the other number.
fn count(short: u64, long: u64) -> u64 {
    if std::env::var_os("KEYS_TEST_LONG").is_some() { long } else { short }
}

fn small_meshes_lose_nothing_and_come_to_rest(_: &Sandbox) {
    let seeds = count(120, 5_000);
    let all = all_of(small, seeds);
    all_of(late, count(10, 500));
    assert!(all.rotations > seeds && all.rotations * 10 > all.begun * 9, "{all:?}");
}

fn livelocks_end(_: &Sandbox) {
    let all = all_of(power_cuts, count(20, 1_000));
    assert!(all.holds > 0, "the breaker was never needed: {all:?}");
}

fn a_thousand_nodes_rotate_their_keys(_: &Sandbox) {
    let all = all_of(large, count(1, 10));
    assert!(all.rotations > 300, "{all:?}");
}

/// The laws can be broken: each of these is noticed within some seeds. The first that does is the first tried, as long as
/// the draws are what they are.
fn what_breaks_a_rule_is_noticed(_: &Sandbox) {
    for (kind, broken, first, law) in [
        (small as Kind, Broken::ByTime, 5, "is replaced while it is used"),
        (small, Broken::NeverQuiet, 1, "did not come to its end"),
        (small, Broken::Removed, 6, "removed, and still there"),
        (late, Broken::StaleReplacement, 22, "no lane is left on which both accept"),
        (power_cuts, Broken::NoBreaker, 23, "no lane is proven"),
        (power_cuts, Broken::BothOpen, 27, "no lane is proven"),
    ] {
        let mut found = (first..first + 100).filter_map(|seed| kind(seed, broken, None).tally.broken);
        let noticed = found.any(|(what, ..)| what.contains(law));
        assert!(noticed, "{broken:?} is not noticed");
    }
}
