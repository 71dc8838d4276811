//! `Worker::poll` on bursts of 32 frames of one flow. Only the poll is on the clock: how
//! frames get into and out of memory is not what a NIC does.
#![allow(missing_docs, reason = "criterion_group! writes a public function")]
#![allow(
    clippy::expect_used,
    reason = "a bench that can't be set up can't be run"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sluice_bench::bed::{Bed, Side, UPLINK, VF0};
use sluice_bench::frames::udp;
use sluice_bench::timing::{self, FRAME_LENS, per_packet, timed};
use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::port::{BURST_MAX, Port};

const BURST: u64 = BURST_MAX as u64;
/// Ethernet header of the frames whose packets are sealed.
const ETHERNET_LEN: usize = 14;
/// Flows that a worker has room for.
const FLOWS: usize = 65_536;

fn bed(side: Side) -> Bed {
    Bed::new(side, Algorithm::Aes128Gcm16, FLOWS)
}

/// One burst of a frame through a bed.
fn burst(bed: &mut Bed, frame: &[u8]) -> Duration {
    for _ in 0..BURST {
        bed.deliver(VF0, frame);
    }
    let spent = timed(|| bed.poll());
    assert_eq!(bed.discard(), BURST_MAX, "none lost");
    spent
}

/// One burst that node B sealed for A.
fn burst_from(b: &mut Bed, a: &mut Bed, frame: &[u8]) -> Duration {
    for _ in 0..BURST {
        b.deliver(VF0, frame);
    }
    b.poll();
    for sealed in b.collect(UPLINK) {
        a.deliver(UPLINK, &sealed);
    }
    b.discard();
    let spent = timed(|| a.poll());
    assert_eq!(a.collect(VF0).len(), BURST_MAX, "none lost");
    a.discard();
    spent
}

/// One burst from a receive queue to a transmit queue and nothing more.
fn burst_moved(pool: &MemPool, from: &mut MemPort, to: &mut MemPort, frame: &[u8]) -> Duration {
    for _ in 0..BURST {
        from.deliver(pool.frame(frame).expect("short enough"));
    }
    let spent = timed(|| {
        from.rx(&mut |frame| drop(to.tx(frame)));
        to.flush();
    });
    let moved = core::iter::from_fn(|| to.collect()).count();
    assert_eq!(moved, BURST_MAX, "none lost");
    spent
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
            b.iter_custom(|n| per_packet(n, BURST, || burst(&mut a, &local)));
        });
        group.bench_function(BenchmarkId::new("vf-to-uplink-esp", len), |b| {
            b.iter_custom(|n| per_packet(n, BURST, || burst(&mut a, &remote)));
        });
        group.bench_function(BenchmarkId::new("uplink-esp-to-vf", len), |b| {
            b.iter_custom(|n| per_packet(n, BURST, || burst_from(&mut b_node, &mut a, &from_b)));
        });
        let cipher = UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("of the right length");
        let key = LessSafeKey::new(cipher);
        let mut packet = vec![0x5a; len - ETHERNET_LEN];
        group.bench_function(BenchmarkId::new("bare-aes128gcm16", len), |b| {
            b.iter(|| {
                let nonce = Nonce::assume_unique_for_key([1; 12]);
                let body = black_box(packet.as_mut_slice());
                key.seal_in_place_separate_tag(nonce, Aad::from([0; 12]), body)
            });
        });
        let pool = MemPool::new(BURST_MAX * 2);
        let mut ports = [(); 2].map(|()| MemPort::new(&pool, BURST_MAX));
        group.bench_function(BenchmarkId::new("noop", len), |b| {
            let [from, to] = &mut ports;
            b.iter_custom(|n| per_packet(n, BURST, || burst_moved(&pool, from, to, &local)));
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
