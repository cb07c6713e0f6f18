//! Resealing a large fleet's secrets after somebody has left: how long it takes to know which, and to seal those, and only
//! those, to the others; and beside it the key wraps alone, which nobody can do without.
//!
//! Twenty PoPs with a service each. Nine of ten secrets are a service's own; the tenth is shared by all twenty, and so has
//! drifted once one of them is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keys::digest::Digest;
use keys::fleet::{Draft, Fleet};
use keys::name::Address;
use keys::ops;
use keys::state::{Drift, State};
use keys::statement::{Act, PolicyUpdate, RetireReason};
use stage::{Stage, address, member};

use crate::{line, processor_time_of_all, raw_wraps_of};

/// PoPs, each with the service nginx.
const POPS: usize = 20;
const RULE: &str = "\n[[secret]]\nmatch = \"nginx@*/shared-*\"\nshared = true\n";

/// Makes a fleet of `count` secrets, takes one PoP out, measures, and prints.
pub fn measure(count: usize) {
    let stage = Stage::with_pops(POPS);
    let mut fleet = stage.prepared();
    share(&stage, &mut fleet);
    let all: Vec<Address> = (0..count)
        .map(|i| match i % 10 {
            0 => address(&format!("nginx@*/shared-{i}")),
            _ => address(&format!("nginx@pop{}/value-{i}", i % POPS + 1)),
        })
        .collect();
    let began = Instant::now();
    stage.seal_many(&mut fleet, &all);
    println!("{count} secrets of {POPS} PoPs sealed in {:.1} s", began.elapsed().as_secs_f64());
    fleet.done();

    let mut fleet = stage.prepared();
    let home = &stage.homes["alice"];
    let leaving = ops::plan_revoke(&member("pop20"), RetireReason::Retired, home, &mut fleet).expect("a plan");
    stage.place(&mut fleet, vec![leaving.draft("retired")]);
    fleet.done();

    let mut fleet = stage.prepared();
    let began = Instant::now();
    let plan = ops::plan_reseal(None, home, &mut fleet).expect("a plan");
    let planned = began.elapsed();
    let wraps = wraps(fleet.state(), &plan.drifted);
    let (began, cpu) = (Instant::now(), processor_time_of_all());
    let mut making = Duration::ZERO;
    for part in 0..plan.parts() {
        let start = Instant::now();
        let draft = plan.draft(part, "a reader has left", home, &mut fleet).expect("a statement");
        making += start.elapsed();
        stage.place(&mut fleet, vec![draft]);
    }
    let (took, cpu) = (began.elapsed(), processor_time_of_all() - cpu);
    fleet.done();
    let left = ops::plan_reseal(None, home, &mut fleet).expect("a plan").drifted.len();
    assert_eq!(left, 0, "all of it is done");
    let drifted = plan.drifted.len();
    println!("{drifted} of {count} have drifted, {wraps} session keys to wrap");
    println!("{:<44} {:>9} ms", "plan", planned.as_millis());
    println!("{:<44} {:>9} ms", "reseal, by the clock", took.as_millis());
    println!("{:<44} {:>9} ms", "  of that the messages, on all cores", making.as_millis());
    println!("{:<44} {:>9} ms", "reseal, processor time", cpu.as_millis());
    line("reseal, processor time / the key wraps alone", cpu, raw_wraps_of(wraps));
}

/// Puts the rule for shared secrets in force.
fn share(stage: &Stage, fleet: &mut Fleet) {
    let state = fleet.state();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, digest) in &state.policy.files {
        files.insert(name.clone(), keys::state::Objects::object(fleet.store(), digest).expect("a policy file"));
    }
    files.get_mut("secrets.toml").expect("it is there").extend(RULE.as_bytes());
    let policy = files.iter().map(|(name, text)| (name.clone(), Digest::of(text))).collect();
    let change = PolicyUpdate { generation: state.policy.version + 1, policy, prev: state.policy.prev };
    let draft = Draft::with(Act::PolicyUpdate(change), "shared", files.into_values().collect());
    stage.place(fleet, vec![draft]);
}

/// How many session keys have to be wrapped for these.
fn wraps(state: &State, drifted: &[Drift]) -> usize {
    let keys = |drift: &Drift| {
        let readers = state.readers(&drift.address).expect("its readers");
        state.recipient_set(readers).keys().count()
    };
    drifted.iter().map(keys).sum()
}
