//! `Worker::poll` on bursts of 32 frames of one flow. Only the poll is on the clock: how
//! frames get into and out of memory is not what a NIC does.
#![allow(missing_docs, reason = "criterion_group! writes a public function")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice_bench::aead::Bare;
use sluice_bench::bed::{Bed, Side};
use sluice_bench::bursts::{Noop, opened, through};
use sluice_bench::frames::udp;
use sluice_bench::timing::{self, FRAME_LENS, per_packet};
use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::port::BURST_MAX;

const BURST: u64 = BURST_MAX as u64;
/// Flows that a worker has room for.
const FLOWS: usize = 65_536;

fn bed(side: Side) -> Bed {
    Bed::new(side, Algorithm::Aes128Gcm16, FLOWS)
}

fn walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    for len in FRAME_LENS {
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: len as u64,
        });
        let local = udp(Side::A.source(), Side::A.pod(1), 1, len);
        let remote = udp(Side::A.source(), Side::B.pod(0), 1, len);
        let from_b = udp(Side::B.source(), Side::A.pod(0), 1, len);
        let (mut a, mut b_node) = (bed(Side::A), bed(Side::B));
        group.bench_function(BenchmarkId::new("vf-to-vf", len), |b| {
            b.iter_custom(|n| per_packet(n, BURST, || through(&mut a, &local)));
        });
        group.bench_function(BenchmarkId::new("vf-to-uplink-esp", len), |b| {
            b.iter_custom(|n| per_packet(n, BURST, || through(&mut a, &remote)));
        });
        group.bench_function(BenchmarkId::new("uplink-esp-to-vf", len), |b| {
            b.iter_custom(|n| per_packet(n, BURST, || opened(&mut b_node, &mut a, &from_b)));
        });
        let mut bare = Bare::new(len);
        group.bench_function(BenchmarkId::new("bare-aes128gcm16", len), |b| {
            b.iter(|| bare.seal());
        });
        let mut noop = Noop::default();
        group.bench_function(BenchmarkId::new("noop", len), |b| {
            b.iter_custom(|n| per_packet(n, BURST, || noop.moved(&local)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(timing::SAMPLES)
        .warm_up_time(timing::WARM_UP)
        .measurement_time(timing::MEASURE);
    targets = walk
}
criterion_main!(benches);
