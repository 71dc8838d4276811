//! Tuple to verdict: `judge` over a whole snapshot, and one `PolicyTable` alone.
#![allow(missing_docs, reason = "criterion_group! writes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice_bench::bed::{allow_all, snapshot_with};
use sluice_bench::{Side, timing};
use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::flow::key::Tuple;
use sluice_dataplane_core::judge::judge;
use sluice_dataplane_core::snapshot::{IdentityId, PeerIndex, Place};
use sluice_dataplane_core::table::policy::{Action, Direction, Row, Tier, Transport};
use sluice_dataplane_core::table::prefix::Owner;

/// Rows of a pod's policy, and pods of the cluster beside them.
const SIZES: [(u16, u16); 3] = [(0, 0), (100, 1_000), (10_000, 30_000)];

/// Rows about others, spread over port lengths as port ranges are.
fn rows(count: u16) -> Vec<Row> {
    (0..count)
        .map(|n| {
            let port_len = [16, 16, 16, 12, 8][usize::from(n % 5)];
            let port = n.wrapping_mul(37) & u16::MAX << (16 - port_len);
            Row {
                direction: [Direction::Ingress, Direction::Egress][usize::from(n % 2)],
                tier: Tier::Namespace,
                peer: Some(IdentityId(1_000 + u32::from(n))),
                transport: Some(Transport::Tcp),
                port_base: port,
                port_len: u8::try_from(port_len).unwrap_or(16),
                action: [Action::Allow, Action::Deny][usize::from(n % 3 != 0)],
                rule: u32::from(n),
            }
        })
        .collect()
}

fn pods(count: u16) -> Vec<(Addr, u8, Owner)> {
    (0..count)
        .map(|n| {
            let [hi, lo] = n.to_be_bytes();
            let identity = IdentityId(1_000 + u32::from(n));
            let owner = Owner::new(identity, Place::RemotePod(PeerIndex(0)));
            (Addr::v4([10, 200, hi, lo]), 32, owner)
        })
        .collect()
}

fn tuple(dst: Addr) -> Tuple {
    Tuple {
        src: Side::A.pod(0),
        dst,
        src_port: 40_000,
        dst_port: 443,
        protocol: 6,
    }
}

fn classify(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify");
    group.throughput(Throughput::Elements(1));
    for (row_count, pod_count) in SIZES {
        let snapshot = snapshot_with(Side::A, &rows(row_count), &pods(pod_count));
        let size = format!("{row_count}-rows-{pod_count}-pods");
        for (name, dst) in [("one-end", Side::B.pod(0)), ("both-ends", Side::A.pod(1))] {
            let tuple = tuple(dst);
            assert!(judge(&snapshot, &tuple).is_ok());
            group.bench_function(BenchmarkId::new(name, &size), |b| {
                b.iter(|| judge(black_box(&snapshot), black_box(&tuple)));
            });
        }
        let table = allow_all(&rows(row_count));
        group.bench_function(BenchmarkId::new("table", &size), |b| {
            b.iter(|| {
                let (peer, tcp) = (IdentityId(1_000), Some(Transport::Tcp));
                black_box(&table).judge(Direction::Egress, black_box(peer), tcp, 443)
            });
        });
    }
    let tuple = tuple(Side::B.pod(0));
    group.bench_function("noop", |b| b.iter(|| *black_box(&tuple)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(timing::SAMPLES)
        .warm_up_time(timing::WARM_UP)
        .measurement_time(timing::MEASURE);
    targets = classify
}
criterion_main!(benches);
