//! Benchmarks of what people wait for. `tests/bench/compare` sets the same things beside the raw limits.

mod agent;

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use keys::fleet::{Fleet, Known};
use keys::name::{MemberName, Slot};
use keys::ops::{self, Selection};
use keys::ssh::{Krl, KrlScope, Serial};
use keys::state::Replay;
use keys::time::Time;
use keys::wireguard::render::{RenderOptions, Renderer};
use stage::{NOW, Stage, address, member};

/// PoPs of the fleet that is rotated.
const FLEET: usize = 50;
/// Entries of the log that is replayed.
const ENTRIES: u64 = 500;

fn secrets(c: &mut Criterion) {
    let stage = Stage::with_pops(1);
    let place = address("nginx@pop1/tls.key");
    let mut fleet = stage.prepared();
    stage.seal(&mut fleet, std::slice::from_ref(&place));
    c.bench_function("seal", |b| {
        b.iter(|| {
            let plan = ops::plan_seal(&place, &mut fleet).expect("a plan");
            ops::seal(&plan, &[7; 100], "measured", None, &stage.homes["alice"], &mut fleet).expect("sealed")
        })
    });
    c.bench_function("open", |b| b.iter(|| ops::open(&place, None, &stage.homes["pop1"], &mut fleet).expect("opened")));
    fleet.done();
}

fn rotation(c: &mut Criterion) {
    let stage = Stage::with_pops(FLEET);
    let fleet = stage.prepared();
    let plan = |members: &str, slot| {
        let selection = Selection { members: members.parse().ok(), slot, due: false, soon: true };
        ops::plan_rotate(&selection, fleet.state(), fleet.now()).expect("a plan")
    };
    let entries = stage.entries();
    let fold = || {
        let mut replay = Replay::new(fleet.log().to_owned(), stage.store.clone());
        entries.iter().for_each(|entry| assert!(replay.apply(entry).expect("sound").is_whole()));
        replay
    };
    c.bench_function("rotate: plan one key", |b| b.iter(|| black_box(plan("nginx@pop1", Some(Slot::Openpgp)))));
    c.bench_function("rotate: plan a fleet of 50 PoPs", |b| b.iter(|| black_box(plan("*pop*", None))));
    let mut group = c.benchmark_group("rotate");
    group.sample_size(10);
    // The log grows with each round, so each begins from the same keyring: what is measured is signing and judging.
    for (name, plan) in
        [("one key", plan("nginx@pop1", Some(Slot::Openpgp))), ("a fleet of 50 PoPs", plan("*pop*", None))]
    {
        let drafts = plan.drafts("measured");
        let alice = &stage.homes["alice"];
        group.bench_function(name, |b| {
            b.iter_batched(
                &fold,
                |mut replay| {
                    for draft in &drafts {
                        let entry = stage::sign(alice, &fleet, draft);
                        assert!(replay.apply(&entry).expect("sound").is_whole());
                    }
                },
                BatchSize::PerIteration,
            )
        });
    }
    group.finish();
    fleet.done();
}

fn verification(c: &mut Criterion) {
    let mut stage = Stage::with_pops(10);
    stage.grow(ENTRIES);
    let mut group = c.benchmark_group("log");
    group.sample_size(10);
    // Sequoia remembers what it verified in this process: this is the cost without the first verification of signatures.
    group.bench_function("open a log of 500 entries again", |b| b.iter(|| stage.open().state().size));
    group.bench_function("verify a keyring of 500 entries again", |b| {
        b.iter(|| {
            let (report, _) = Fleet::verify(&stage.store, &Known::default(), stage.now, &mut |_, _| {}).expect("read");
            assert!(report.is_sound());
        })
    });
    group.finish();
    let mut fleet = stage.open();
    c.bench_function("web of trust: is a service vouched for", |b| {
        b.iter(|| fleet.check_vouched(&member("nginx@pop1")).expect("vouched for"))
    });
}

fn files(c: &mut Criterion) {
    let ca = keys::ssh::SshPublicKey::from_ed25519(&[
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
        0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ])
    .expect("the public key of RFC 8032, section 7.1, test 1");
    let serial = |n| Serial::new(n).expect("not zero");
    for (name, step) in [("dense", 1), ("every second", 2)] {
        let mut krl = Krl::new(1, Time(NOW.0));
        (1..=100_000_u64)
            .step_by(step)
            .for_each(|n| krl.revoke_serials(KrlScope::Ca(ca.clone()), serial(n), serial(n)));
        c.bench_function(&format!("KRL of 100 000 serials, {name}"), |b| {
            b.iter(|| krl.write(usize::MAX).expect("written"))
        });
    }
    let mesh = stage::mesh(100);
    c.bench_function("wg: render one of 100 PoPs", |b| {
        let renderer = Renderer::new(&mesh, RenderOptions::default());
        b.iter(|| renderer.node(&member("pop7")).expect("rendered"))
    });
    let mut group = c.benchmark_group("wg");
    group.sample_size(10);
    group.bench_function("render all of 100 PoPs", |b| {
        let renderer = Renderer::new(&mesh, RenderOptions::default());
        b.iter(|| {
            let mut bytes = 0;
            let put = |_: &MemberName, _: &str, file: &[u8]| {
                bytes += file.len();
                Ok::<(), Infallible>(())
            };
            let Ok(()) = renderer.all(put);
            bytes
        })
    });
    group.finish();
}

criterion_group!(benches, secrets, rotation, verification, files, agent::rounds);
criterion_main!(benches);
