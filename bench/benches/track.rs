//! The flow table: a hit, a miss, and a flow's coming and going, by how full it is.
#![allow(missing_docs, reason = "criterion_group! writes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice_bench::timing;
use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::flow::key::Tuple;
use sluice_dataplane_core::flow::state::{Timeouts, Track};
use sluice_dataplane_core::flow::table::{FlowTable, NewFlow};
use sluice_dataplane_core::hash::HashKey;
use sluice_dataplane_core::names::DomainId;
use sluice_dataplane_core::route::{Attach, RuleRef};
use sluice_dataplane_core::snapshot::{PeerIndex, PortIndex};
use sluice_dataplane_core::tick::Tick;

/// Flows in the table. The largest has 128 MiB of entries: nothing of it is in a cache.
const FLOWS: [u32; 3] = [1, 10_000, 1_000_000];
const NOW: Tick = Tick(1);

fn tuple(n: u32) -> Tuple {
    let [x, y, a, b] = n.to_be_bytes();
    Tuple {
        src: Addr::v4([10, 1, x, y]),
        dst: Addr::v4([10, 2, 0, 1]),
        src_port: u16::from_be_bytes([a, b]),
        dst_port: 443,
        protocol: 17,
    }
}

fn flow(tuple: Tuple) -> NewFlow {
    NewFlow {
        tuple,
        ends: [Attach::Port(PortIndex(1)), Attach::Peer(PeerIndex(0))],
        generations: [1, 0],
        rule: RuleRef::default(),
        domain: DomainId::NONE,
        payer: 0,
        track: Track::Plain {
            answered: false,
            lasting: false,
        },
    }
}

fn filled(count: u32) -> FlowTable {
    // One to spare for the flow that comes and goes.
    let mut table = FlowTable::new(count as usize + 1, HashKey([1, 2]), Timeouts::default());
    for n in 0..count {
        assert!(table.insert(flow(tuple(n)), NOW).is_ok(), "flow {n} fits");
    }
    table
}

fn track(c: &mut Criterion) {
    let mut group = c.benchmark_group("track");
    group.throughput(Throughput::Elements(1));
    for count in FLOWS {
        let mut table = filled(count);
        // A stride that visits all of them in no order a prefetcher knows.
        let mut n = 0u32;
        let mut next = move || {
            n = n.wrapping_add(2_654_435_761);
            n % count
        };
        group.bench_function(BenchmarkId::new("hit", count), |b| {
            b.iter(|| table.find(black_box(tuple(next())), NOW));
        });
        group.bench_function(BenchmarkId::new("miss", count), |b| {
            b.iter(|| table.find(black_box(tuple(u32::MAX - next())), NOW));
        });
        group.bench_function(BenchmarkId::new("insert-remove", count), |b| {
            b.iter(|| {
                if let Ok(slot) = table.insert(flow(black_box(tuple(u32::MAX - next()))), NOW) {
                    table.remove(slot);
                }
            });
        });
    }
    let mut n = 0u32;
    group.bench_function("noop", |b| {
        b.iter(|| {
            n = n.wrapping_add(2_654_435_761);
            black_box(tuple(n))
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(timing::SAMPLES)
        .warm_up_time(timing::WARM_UP)
        .measurement_time(timing::MEASURE);
    targets = track
}
criterion_main!(benches);
